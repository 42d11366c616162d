//! Operations on a machine's buffers as nodes of candle's graph.

use super::machine::{Machine, Operand, tensor};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};
use std::sync::{Mutex, PoisonError};

/// A differentiable operation of one to three tensors, made of kernels and products. It knows its shapes itself.
pub trait Operation: Send + Sync {
    /// For candle's error messages.
    const NAME: &'static str;

    /// The output and its shape.
    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)>;

    /// Gradients of the loss with respect to the inputs that want one, given the gradient with respect to the output.
    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        output: Operand<'_, M>,
        gradient: Operand<'_, M>,
        wanted: &[bool],
    ) -> Result<Vec<Option<M>>>;
}

/// Applies an operation to as many tensors as it takes.
pub fn apply(operation: impl Operation + 'static, inputs: &[&Tensor]) -> Result<Tensor> {
    match inputs {
        [x] => x.contiguous()?.apply_op1(Node(operation)),
        [x, y] => x.contiguous()?.apply_op2(&y.contiguous()?, Node(operation)),
        [x, y, z] => x.contiguous()?.apply_op3(&y.contiguous()?, &z.contiguous()?, Node(operation)),
        _ => bail!("a node of the graph has one to three inputs"),
    }
}

struct Node<O>(O);

impl<O: Operation> Node<O> {
    fn forward<M: Machine>(&self, inputs: &[(&M, &Layout)]) -> Result<(M, Shape)> {
        let inputs: Vec<_> = inputs.iter().map(|(s, l)| Operand::new(*s, l)).collect::<Result<_>>()?;
        self.0.forward(&inputs)
    }

    fn backward_on<M: Machine>(&self, inputs: &[&Tensor], output: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let dy = dy.contiguous()?;
        let wanted: Vec<bool> = inputs.iter().map(|x| x.track_op()).collect();
        let gradients = {
            let held: Vec<_> = inputs.iter().copied().chain([output, &dy]).map(Tensor::storage_and_layout).collect();
            let operand = |(storage, layout)| Operand::new(M::of(storage)?, layout);
            let all: Vec<_> = held.iter().map(|(s, l)| operand((&**s, *l))).collect::<Result<_>>()?;
            let (inputs, rest) = all.split_at(inputs.len());
            self.0.backward(inputs, rest[0], rest[1], &wanted)?
        };
        let pairs = gradients.into_iter().zip(inputs);
        pairs.map(|(gradient, x)| gradient.map(|g| tensor(g, x.shape().clone(), x)).transpose()).collect()
    }

    fn backward(&self, inputs: &[&Tensor], output: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        #[cfg(test)]
        if output.device().is_cpu() {
            return self.backward_on::<CpuStorage>(inputs, output, dy);
        }
        #[cfg(feature = "cuda")]
        if output.device().is_cuda() {
            return self.backward_on::<CudaStorage>(inputs, output, dy);
        }
        bail!("{} has no kernel for {:?}", O::NAME, output.device())
    }

    /// On the CPU there are these kernels in tests alone.
    fn forward_on_cpu(&self, inputs: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        #[cfg(test)]
        return self.forward(inputs);
        #[cfg(not(test))]
        bail!("{} of {} tensors is for GPUs", O::NAME, inputs.len())
    }
}

impl<O: Operation> CustomOp1 for Node<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward_on_cpu(&[(s, l)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward(&[(s, l)])
    }

    fn bwd(&self, x: &Tensor, output: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.backward(&[x], output, dy)?.pop().flatten())
    }
}

impl<O: Operation> CustomOp2 for Node<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward_on_cpu(&[(s1, l1), (s2, l2)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2)])
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, output: &Tensor, d: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[x, y], output, d)?.into_iter();
        let mut next = || gradients.next().flatten();
        Ok((next(), next()))
    }
}

impl<O: Operation> CustomOp3 for Node<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward_on_cpu(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2), (s3, l3)])
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        output: &Tensor,
        d: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut gradients = self.backward(&[x, y, z], output, d)?.into_iter();
        let mut next = || gradients.next().flatten();
        Ok((next(), next(), next()))
    }
}

/// A buffer as a tensor on the device of another, without a copy: candle lets operations alone make tensors, so this is one that
/// computes nothing.
pub fn wrap(storage: Storage, shape: Shape, beside: &Tensor) -> Result<Tensor> {
    beside.apply_op1_no_bwd(&Wrap(Mutex::new(Some((storage, shape)))))
}

struct Wrap(Mutex<Option<(Storage, Shape)>>);

impl Wrap {
    fn take(&self) -> Result<(Storage, Shape)> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(wrapped) => Ok(wrapped),
            None => bail!("a buffer can be wrapped once"),
        }
    }
}

impl CustomOp1 for Wrap {
    fn name(&self) -> &'static str {
        "wrap"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("a buffer was wrapped beside a tensor of another device"),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("a buffer was wrapped beside a tensor of another device"),
        }
    }
}
