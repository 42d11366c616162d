//! Changing what lies in a tensor's buffer.

use super::machine::Machine;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "cuda")]
use candle_core::cuda_backend::{
    WrapErr,
    cudarc::driver::{CudaStream, PinnedHostSlice},
};
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};
use std::cell::RefCell;
#[cfg(feature = "cuda")]
use std::sync::Arc;

/// Writes numbers to the beginning of a tensor, which keeps its place on the device.
pub fn write(tensor: &Tensor, numbers: &[f32]) -> Result<()> {
    if numbers.len() > tensor.elem_count() {
        bail!("{} numbers do not fit into {:?}", numbers.len(), tensor.shape());
    }
    #[cfg(test)]
    if tensor.device().is_cpu() {
        return change::<CpuStorage>(tensor, &mut |storage| storage.write(numbers));
    }
    #[cfg(feature = "cuda")]
    if tensor.device().is_cuda() {
        return change::<CudaStorage>(tensor, &mut |storage| storage.write(numbers));
    }
    bail!("nothing writes to {:?} on {:?}", tensor.shape(), tensor.device())
}

/// Copies as many numbers as a tensor has to it, on a stream of one's own.
#[cfg(feature = "cuda")]
pub fn copy(tensor: &Tensor, from: &PinnedHostSlice<f32>, stream: &Arc<CudaStream>) -> Result<()> {
    change::<CudaStorage>(tensor, &mut |storage| stream.memcpy_htod(from, storage.as_cuda_slice_mut::<f32>()?).w())
}

/// Gives out the buffer of a tensor to be changed. candle's operations in place change one tensor each; one within the other they
/// change several together.
pub fn change<'w, M: Machine>(tensor: &Tensor, work: &'w mut Work<'w, M>) -> Result<()>
where
    for<'a> Change<'a, M>: InplaceOp1,
{
    tensor.inplace_op1(&Change(RefCell::new(work)))
}

/// What is done to a buffer.
type Work<'a, M> = dyn FnMut(&mut M) -> Result<()> + 'a;

pub struct Change<'a, M>(RefCell<&'a mut Work<'a, M>>);

impl<M> Change<'_, M> {
    fn run(&self, storage: &mut M, layout: &Layout) -> Result<()> {
        match layout.contiguous_offsets() {
            Some((0, _)) => (self.0.borrow_mut())(storage),
            _ => bail!("what is changed must be one buffer from its beginning"),
        }
    }
}

impl InplaceOp1 for Change<'_, CpuStorage> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.run(storage, layout)
    }
}

#[cfg(feature = "cuda")]
impl InplaceOp1 for Change<'_, CudaStorage> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("a tensor on the CPU was given to a GPU kernel")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        self.run(storage, layout)
    }
}
