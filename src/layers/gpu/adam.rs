//! A step of Adam on one variable: one pass over parameter, gradient and both moments.

use super::machine::{Launch, Machine, Operand};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};
use std::cell::RefCell;

/// parameter −= rate · mean / (√(correction · square) + ε), after both moments took up scale · gradient.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate with the bias correction of the first moment.
    pub rate: f64,
    /// Bias correction of the second moment.
    pub correction: f64,
    /// Factor of the gradient.
    pub scale: f64,
    /// What the moments keep of themselves, β₁ and β₂.
    pub decay: [f64; 2],
    /// ε
    pub epsilon: f64,
}

/// Changes a parameter and its two moments, all contiguous, by one step.
pub fn adam(step: AdamStep, parameter: &Tensor, mean: &Tensor, square: &Tensor, gradient: &Tensor) -> Result<()> {
    #[cfg(test)]
    if parameter.device().is_cpu() {
        return adam_on::<CpuStorage>(step, parameter, mean, square, gradient);
    }
    #[cfg(feature = "cuda")]
    if parameter.device().is_cuda() {
        return adam_on::<CudaStorage>(step, parameter, mean, square, gradient);
    }
    bail!(
        "Adam has no kernel for {:?}, {step:?}, {:?}",
        parameter.device(),
        (mean.shape(), square.shape(), gradient.shape())
    )
}

fn adam_on<M: Machine>(
    AdamStep { rate, correction, scale, decay: [decay1, decay2], epsilon }: AdamStep,
    parameter: &Tensor,
    mean: &Tensor,
    square: &Tensor,
    gradient: &Tensor,
) -> Result<()>
where
    for<'a> Change<'a, M>: InplaceOp1,
{
    let gradient = gradient.contiguous()?;
    let (storage, layout) = gradient.storage_and_layout();
    let gradient = Operand::new(M::of(&storage)?, layout)?;
    let launch = Launch::new("adam", parameter.elem_count(), &[])?.with(&[
        rate,
        correction,
        scale,
        decay1,
        1.0 - decay1,
        decay2,
        1.0 - decay2,
        epsilon,
    ]);
    change::<M>(mean, &mut |mean| {
        change::<M>(square, &mut |square| {
            change::<M>(parameter, &mut |parameter| M::launch_in_place(&launch, [parameter, mean, square], gradient))
        })
    })
}

/// Gives out the buffer of a tensor to be changed. candle's operations in place change one tensor each; one within the other they
/// change several together.
fn change<'w, M: Machine>(tensor: &Tensor, work: &'w mut Work<'w, M>) -> Result<()>
where
    for<'a> Change<'a, M>: InplaceOp1,
{
    tensor.inplace_op1(&Change(RefCell::new(work)))
}

/// What is done to a buffer.
type Work<'a, M> = dyn FnMut(&mut M) -> Result<()> + 'a;

struct Change<'a, M>(RefCell<&'a mut Work<'a, M>>);

impl<M> Change<'_, M> {
    fn run(&self, storage: &mut M, layout: &Layout) -> Result<()> {
        match layout.contiguous_offsets() {
            Some((0, _)) => (self.0.borrow_mut())(storage),
            _ => bail!("a variable must be one buffer from its beginning"),
        }
    }
}

impl InplaceOp1 for Change<'_, CpuStorage> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.run(storage, layout)
    }
}

#[cfg(feature = "cuda")]
impl InplaceOp1 for Change<'_, CudaStorage> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("a variable on the CPU was given to a GPU kernel")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        self.run(storage, layout)
    }
}
