//! Image → what lies behind its entities, estimated without training: most of what is seen is ground.

use crate::layers::Extent;
use candle_core::{DType, Device, Result, Tensor};

/// How it is estimated; see [`Background`](crate::config::Background).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimate {
    /// The median of all pixels.
    Median,
    /// Of each pixel the brighter of the medians of its row and of its column.
    Lines,
}

/// Levels of a channel.
const LEVELS: f64 = 256.0;

/// Logits of the backgrounds of images (B, H, W, C), to the nearest of [`LEVELS`]: (B, 1, 1, C), or (B, H, W, C) where each pixel has
/// its own. No gradient.
pub(super) fn of(images: &Tensor, kind: Estimate) -> Result<Tensor> {
    let (b, h, w, c) = images.dims4()?;
    let channels = images.detach().permute((0, 3, 1, 2))?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
    let mut planes = channels.flatten_all()?.to_vec1::<f32>()?;
    let planes = planes.chunks_exact_mut((h * w).max(1));
    let (logits, (h, w)) = match kind {
        Estimate::Median => (planes.map(median).map(logit).collect::<Vec<_>>(), (1, 1)),
        Estimate::Lines => (planes.flat_map(|plane| lines(plane, w)).map(logit).collect(), (h, w)),
    };
    let logits = Tensor::from_iter(logits, images.device())?.reshape((b, c, h, w))?;
    logits.permute((0, 2, 3, 1))?.contiguous()?.to_dtype(images.dtype())
}

/// Nats that it costs to say which background of that kind an image has.
pub(super) fn nats(kind: Estimate, image: Extent) -> f64 {
    let numbers = match kind {
        Estimate::Median => image.channels,
        Estimate::Lines => image.channels * (image.height + image.width),
    };
    numbers as f64 * LEVELS.ln()
}

/// Of each pixel of a plane (H, W) the brighter of the medians of its row and of its column.
fn lines(plane: &[f32], width: usize) -> Vec<f32> {
    let mut line = Vec::new();
    let mut of = |pixels: &mut dyn Iterator<Item = &f32>| {
        line.clear();
        line.extend(pixels);
        median(&mut line)
    };
    let rows: Vec<f32> = plane.chunks_exact(width).map(|row| of(&mut row.iter())).collect();
    let columns: Vec<f32> = (0..width).map(|x| of(&mut plane.iter().skip(x).step_by(width))).collect();
    rows.iter().flat_map(|row| columns.iter().map(|column| row.max(*column))).collect()
}

fn median(pixels: &mut [f32]) -> f32 {
    let middle = pixels.len() / 2;
    *pixels.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// Black and white are a quarter of a level away from what no logit reaches.
fn logit(brightness: f32) -> f32 {
    let level = (f64::from(brightness) * (LEVELS - 1.0)).round().clamp(0.25, LEVELS - 1.25) / (LEVELS - 1.0);
    (level.ln() - (1.0 - level).ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(pixels: &[f32], (h, w): (usize, usize), kind: Estimate) -> Vec<f32> {
        let images = Tensor::new(pixels, &Device::Cpu).unwrap().reshape((pixels.len() / (h * w), h, w, 1)).unwrap();
        let logits = of(&images, kind).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        logits.into_iter().map(|logit| 255.0 / (1.0 + (-logit).exp())).map(f32::round).collect()
    }

    #[test]
    fn the_smallest_images_have_grounds_too() {
        let pixels = [0.2, 0.4, 0.6];
        for kind in [Estimate::Median, Estimate::Lines] {
            assert_eq!(levels(&pixels, (1, 1), kind), [51.0, 102.0, 153.0], "three images of a pixel");
            assert!(levels(&[], (1, 1), kind).is_empty(), "no image");
        }
        // One line: its own median, or what is brighter in a column of one pixel.
        assert_eq!(levels(&pixels, (1, 3), Estimate::Median), [102.0]);
        assert_eq!(levels(&pixels, (1, 3), Estimate::Lines), [102.0, 102.0, 153.0]);
        assert_eq!(levels(&pixels, (3, 1), Estimate::Lines), [102.0, 102.0, 153.0]);
    }
}
