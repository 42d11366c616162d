//! Rows at the cells that were chosen.

#[cfg(feature = "cuda")]
use super::gpu;
#[cfg(feature = "cuda")]
use super::op::Path;
use candle_core::{DType, Result, Tensor, bail};

/// Rows (B, N, P), or (1, N, P) that all images share, at cells (B, K), numbers below N in `f32` → (B, K, P). The cells get no gradient,
/// nor do shared rows on a GPU.
pub fn gather(rows: &Tensor, cells: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Path::Gpu = Path::of(rows) {
        return gpu::gather(rows, cells);
    }
    reference(rows, cells)
}

/// The same on candle's operations.
pub(super) fn reference(rows: &Tensor, cells: &Tensor) -> Result<Tensor> {
    let ((of, candidates, numbers), (images, entities)) = (rows.dims3()?, cells.dims2()?);
    if of != images && of != 1 {
        bail!("rows of {of} images were asked for cells of {images}");
    }
    let mut cells = cells.to_dtype(DType::U32)?;
    if of > 1 {
        let firsts = Tensor::arange_step(0u32, (of * candidates) as u32, candidates as u32, cells.device())?;
        cells = cells.broadcast_add(&firsts.reshape((of, 1))?)?;
    }
    let kept = rows.reshape((of * candidates, numbers))?.index_select(&cells.flatten_all()?, 0)?;
    kept.reshape((images, entities, numbers))
}
