//! Chosen latents instead of sampled ones: the plane, the line, and one dimension at a time.
//!
//! Latents are (M, D), row after row, ready for [`decoded`].

use crate::model::{Cells, Compositor, Model};
use candle_core::{DType, Device, Result, Tensor};

/// `count` values that cut N(0, 1) into parts of equal probability: Φ⁻¹((i + ½) / count), rising.
pub fn prior_quantiles(count: usize) -> Vec<f64> {
    (0..count).map(|i| normal_quantile((i as f64 + 0.5) / count as f64)).collect()
}

/// Φ⁻¹(p), by halving an interval of ±40 until nothing is left of it; plenty fast for an axis.
fn normal_quantile(p: f64) -> f64 {
    let below = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if below(middle) < p { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// `base` with two dimensions, (across, up), set to every pair of `values`: in reading order from the top left, where the first
/// is lowest and the second highest.
pub fn plane(base: &[f32], (across, up): (usize, usize), values: &[f64]) -> Vec<f32> {
    let pairs = values.iter().rev().flat_map(|y| values.iter().map(move |x| (*x, *y)));
    let point = |(x, y)| {
        let mut z = base.to_vec();
        z[across] = x as f32;
        z[up] = y as f32;
        z
    };
    pairs.flat_map(point).collect()
}

/// `base` with one dimension set to each of `values`.
pub fn axis(base: &[f32], dimension: usize, values: &[f64]) -> Vec<f32> {
    let point = |value: &f64| {
        let mut z = base.to_vec();
        z[dimension] = *value as f32;
        z
    };
    values.iter().flat_map(point).collect()
}

/// `steps` points on the straight line between two latents, both ends included.
pub fn line(from: &[f32], to: &[f32], steps: usize) -> Vec<f32> {
    let share = |step: usize| step as f32 / (steps.max(2) - 1) as f32;
    (0..steps).flat_map(|step| from.iter().zip(to).map(move |(a, b)| a + share(step) * (b - a))).collect()
}

/// E[x|z] of every row of latents (M, K, D), entity k of row m at `cells[m][k]`: M images (H·W·C) in [0, 1]. The compositor is the
/// model's own, or that of one image, over whose ground they then lie.
pub fn decoded(
    model: &Model,
    compositor: &Compositor,
    z: &[f32],
    cells: &[Vec<usize>],
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let k = cells.first().map_or(0, Vec::len);
    let numbers = z.len().checked_div(cells.len()).unwrap_or(0);
    let d = numbers.checked_div(k).unwrap_or(0);
    let mut images = Vec::with_capacity(cells.len());
    let at_once = model.images_at_once(k);
    for (start, cells) in (0..).step_by(at_once).zip(cells.chunks(at_once)) {
        let z = &z[start * numbers..][..cells.len() * numbers];
        let z = Tensor::from_slice(z, (cells.len(), k, d), device)?;
        let logits = compositor.compose(&model.decode(&z, &Cells::new(cells, device)?)?)?;
        let means = model.likelihood().mean(&logits)?.flatten_from(1)?;
        images.extend(means.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2::<f32>()?);
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_standard_normal() {
        // scipy.stats.norm.ppf
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_963_984_540_054), (0.001, -3.090_232_306_167_813)] {
            assert!((normal_quantile(p) - z).abs() < 1e-12, "{p}: {}", normal_quantile(p));
        }
        let values = prior_quantiles(20);
        assert!(values.windows(2).all(|pair| pair[0] < pair[1]));
        assert!((values[0] + values[19]).abs() < 1e-12);
        assert!((values[19] - 1.959_963_984_540_054).abs() < 1e-12);
    }

    #[test]
    fn a_plane_reads_from_the_top_left() {
        let z = plane(&[7.0, 8.0, 9.0], (2, 0), &[-1.0, 1.0]);
        assert_eq!(z, [1.0, 8.0, -1.0, 1.0, 8.0, 1.0, -1.0, 8.0, -1.0, -1.0, 8.0, 1.0]);
    }

    #[test]
    fn a_line_begins_and_ends_where_it_should() {
        assert_eq!(line(&[0.0, 4.0], &[1.0, 0.0], 3), [0.0, 4.0, 0.5, 2.0, 1.0, 0.0]);
        assert_eq!(line(&[3.0], &[5.0], 1), [3.0]);
    }

    #[test]
    fn an_axis_moves_one_dimension_alone() {
        assert_eq!(axis(&[1.0, 2.0], 1, &[-3.0, 3.0]), [1.0, -3.0, 1.0, 3.0]);
    }
}
