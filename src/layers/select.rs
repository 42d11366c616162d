//! Scores → the cells that are kept: top-K with a suppression radius.

#[cfg(feature = "cuda")]
use super::gpu;
#[cfg(feature = "cuda")]
use super::op::Path;
use candle_core::{DType, Device, Result, Tensor, bail};

/// The K best-scored cells of each image, as [`top_k`] has them: scores (B, N) of a grid of (rows, columns) → (B, K), numbers below N in
/// `f32`. On a GPU they are found there.
pub fn select(scores: &Tensor, entities: usize, radius: usize, grid: (usize, usize)) -> Result<Tensor> {
    let (_, candidates) = scores.dims2()?;
    if grid.0.checked_mul(grid.1) != Some(candidates) || entities > candidates {
        bail!("{entities} cells of a grid of {}×{} were asked for, given {candidates} scores", grid.0, grid.1);
    }
    #[cfg(feature = "cuda")]
    if let Path::Gpu = Path::of(scores) {
        return gpu::select(scores, entities, radius, grid);
    }
    let lists = scores.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?;
    let cells = lists.iter().flat_map(|scores| top_k(scores, entities, radius, grid));
    Tensor::from_iter(cells.map(|cell| cell as f32), scores.device())?.reshape((lists.len(), entities))
}

/// The `k` best-scored cells, none within `radius` of a better one. Where suppression leaves fewer than k, the best of the
/// suppressed ones fill up, so that there always are k. Ties go to the lower index; NaN counts as the lowest score.
pub fn top_k(scores: &[f32], k: usize, radius: usize, (_, columns): (usize, usize)) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    let score = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
    order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
    let mut kept: Vec<usize> = Vec::with_capacity(k);
    let mut suppressed = Vec::new();
    for cell in order {
        if kept.len() == k {
            break;
        }
        // A cell is at distance 0 of itself only, so radius 0 suppresses nothing.
        if kept.iter().any(|&other| distance(cell, other, columns) <= radius) {
            suppressed.push(cell);
        } else {
            kept.push(cell);
        }
    }
    let missing = k.saturating_sub(kept.len());
    kept.extend(suppressed.into_iter().take(missing));
    kept
}

/// How far two cells of a grid are apart, in cells, in the larger of the two directions.
pub(crate) fn distance(a: usize, b: usize, columns: usize) -> usize {
    (a / columns).abs_diff(b / columns).max((a % columns).abs_diff(b % columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_its_own_best_cells() -> Result<()> {
        let scores =
            Tensor::new(&[[0f32, 3.0, 2.0, 1.0, 0.0, 2.5], [5.0, 4.0, 0.0, 1.0, f32::NAN, 0.0]], &Device::Cpu)?;
        let cells = |entities, radius| select(&scores, entities, radius, (2, 3))?.to_vec2::<f32>();
        assert_eq!(cells(2, 0)?, [[1.0, 5.0], [0.0, 1.0]]);
        // Within a cell of a better one is too near; what is left over fills up.
        assert_eq!(cells(2, 1)?, [[1.0, 5.0], [0.0, 2.0]]);
        Ok(())
    }

    #[test]
    fn what_is_no_grid_is_refused() -> Result<()> {
        let scores = Tensor::zeros((1, 6), DType::F32, &Device::Cpu)?;
        for (entities, grid) in [(2, (2, 2)), (2, (0, 3)), (2, (7, 1)), (7, (2, 3))] {
            assert!(select(&scores, entities, 0, grid).is_err());
        }
        Ok(())
    }
}
