//! The seam between this folder's kernels, which work on slices, and candle's tensors and autograd graph.

use super::real::Real;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};

/// A differentiable operation of one or two tensors on the CPU, with a hand-written gradient. It knows its shapes itself.
pub(super) trait Kernel: Send + Sync {
    /// For candle's error messages.
    const NAME: &'static str;

    /// The output and its shape.
    fn forward<T: Real>(&self, inputs: [&[T]; 2]) -> Result<(Vec<T>, Shape)>;

    /// Gradients of the loss with respect to the inputs that want one, given the gradient with respect to the output.
    fn backward<T: Real>(
        &self,
        inputs: [&[T]; 2],
        output: &[T],
        gradient: &[T],
        wanted: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]>;
}

/// What computes an operation of this folder, given one of its tensors.
pub(super) enum Path {
    /// The kernels for the CPU.
    Cpu,
    /// Those in [`gpu`](super::gpu).
    #[cfg(feature = "cuda")]
    Gpu,
    /// candle's own operations.
    Candle,
}

impl Path {
    pub fn of(x: &Tensor) -> Self {
        match (x.device(), x.dtype()) {
            (Device::Cpu, DType::F32 | DType::F64) => Self::Cpu,
            #[cfg(feature = "cuda")]
            (Device::Cuda(_), DType::F32) => Self::Gpu,
            _ => Self::Candle,
        }
    }

    pub fn is_cpu(&self) -> bool {
        matches!(self, Self::Cpu)
    }
}

/// Applies a kernel of one input.
pub(super) fn apply1(kernel: impl Kernel + 'static, x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Op(kernel))
}

/// Applies a kernel of two inputs.
pub(super) fn apply2(kernel: impl Kernel + 'static, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&y.contiguous()?, Op(kernel))
}

struct Op<K>(K);

impl<K: Kernel> Op<K> {
    fn run<T: Real>(&self, inputs: [(&CpuStorage, &Layout); 2]) -> Result<(CpuStorage, Shape)> {
        let [(x, xl), (y, yl)] = inputs;
        let (output, shape) = self.0.forward::<T>([contiguous(x, xl)?, contiguous(y, yl)?])?;
        Ok((T::to_cpu_storage_owned(output), shape))
    }

    fn forward(&self, inputs: [(&CpuStorage, &Layout); 2]) -> Result<(CpuStorage, Shape)> {
        match inputs[0].0 {
            CpuStorage::F64(_) => self.run::<f64>(inputs),
            _ => self.run::<f32>(inputs),
        }
    }

    fn run_backward<T: Real>(&self, inputs: [&Tensor; 2], output: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let dy = dy.contiguous()?;
        let [x, y] = inputs;
        let ((xs, xl), (ys, yl)) = (x.storage_and_layout(), y.storage_and_layout());
        let ((os, ol), (ds, dl)) = (output.storage_and_layout(), dy.storage_and_layout());
        let gradients = self.0.backward::<T>(
            [contiguous(on_cpu(&xs)?, xl)?, contiguous(on_cpu(&ys)?, yl)?],
            contiguous(on_cpu(&os)?, ol)?,
            contiguous(on_cpu(&ds)?, dl)?,
            inputs.map(Tensor::track_op),
        )?;
        let [dx, dy] = gradients;
        let tensor = |data, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
        Ok([dx.map(|d| tensor(d, x)).transpose()?, dy.map(|d| tensor(d, y)).transpose()?])
    }

    fn backward(&self, inputs: [&Tensor; 2], output: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 2]> {
        match output.dtype() {
            DType::F64 => self.run_backward::<f64>(inputs, output, dy),
            _ => self.run_backward::<f32>(inputs, output, dy),
        }
    }
}

/// A kernel of one input is given it twice.
impl<K: Kernel> CustomOp1 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(s, l), (s, l)])
    }

    fn bwd(&self, x: &Tensor, output: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [dx, _] = self.backward([x, x], output, dy)?;
        Ok(dx)
    }
}

impl<K: Kernel> CustomOp2 for Op<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward([(s1, l1), (s2, l2)])
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, output: &Tensor, d: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dy] = self.backward([x, y], output, d)?;
        Ok((dx, dy))
    }
}

/// The elements of a contiguous tensor.
pub(crate) fn contiguous<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let data = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// The same, for an operation in place. (candle's own accessor gives shared slices only.)
pub(crate) fn contiguous_mut<'a, T: Real>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [T]> {
    let data = T::cpu_slice_mut(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut data[start..end]),
        None => bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// The CPU's side of a storage.
pub(crate) fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("a CPU kernel was given a tensor of another device"),
    }
}
