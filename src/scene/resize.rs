//! Antialiased bilinear resizing of small grey images: the triangle filter of the `image` crate
//! and of Pillow's `BILINEAR`, without their allocations.

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Column of the left edge.
    pub x: usize,
    /// Row of the upper edge.
    pub y: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Resizes, keeping its working memory from one image to the next.
#[derive(Debug, Default)]
pub struct Resizer {
    rows: Taps,
    columns: Taps,
    /// One output row before its horizontal pass.
    line: Vec<f32>,
}

impl Resizer {
    /// Appends the part `crop` of `image` (rows of `stride` pixels), resized to `width` ×
    /// `height`, to `out`.
    pub fn append(
        &mut self,
        image: &[u8],
        stride: usize,
        crop: Rect,
        (width, height): (usize, usize),
        out: &mut Vec<u8>,
    ) {
        self.rows.prepare(crop.height, height);
        self.columns.prepare(crop.width, width);
        for (top, weights) in self.rows.iter() {
            self.line.clear();
            self.line.resize(crop.width, 0.0);
            for (row, &weight) in weights.iter().enumerate() {
                let start = (crop.y + top + row) * stride + crop.x;
                for (sum, &pixel) in self.line.iter_mut().zip(&image[start..start + crop.width]) {
                    *sum += weight * f32::from(pixel);
                }
            }
            out.extend(self.columns.iter().map(|(left, weights)| {
                let pixels = &self.line[left..left + weights.len()];
                let sum: f32 = pixels.iter().zip(weights).map(|(pixel, weight)| pixel * weight).sum();
                // Rounds, as the cast cuts off; the weights are a mean, so nothing is clipped.
                (sum + 0.5) as u8
            }));
        }
    }
}

/// What each output position of one axis takes from the input: a run of inputs and their weights.
#[derive(Debug, Default)]
struct Taps {
    sizes: (usize, usize),
    starts: Vec<usize>,
    /// `width` weights for each output, the last ones zero where fewer are needed.
    weights: Vec<f32>,
    width: usize,
}

impl Taps {
    fn iter(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.starts.iter().copied().zip(self.weights.chunks_exact(self.width))
    }

    fn prepare(&mut self, from: usize, to: usize) {
        if self.sizes == (from, to) {
            return;
        }
        self.sizes = (from, to);
        self.starts.clear();
        self.weights.clear();
        let ratio = from as f32 / to as f32;
        // Growing interpolates between two neighbours; shrinking averages over the whole
        // stretch an output pixel stands for.
        let support = ratio.max(1.0);
        // No more inputs than this lie nearer than `support` to a centre.
        self.width = ((2.0 * support).ceil() as usize).min(from);
        for output in 0..to {
            let centre = (output as f32 + 0.5) * ratio - 0.5;
            let start = ((centre - support).floor() as usize + usize::from(centre >= support)).min(from - self.width);
            self.starts.push(start);
            let first = self.weights.len();
            self.weights.extend(
                (start..start + self.width).map(|input| (1.0 - (input as f32 - centre).abs() / support).max(0.0)),
            );
            let weights = &mut self.weights[first..];
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use image::imageops::{self, FilterType};
    use image::{GrayImage, ImageBuffer};
    use rand::{Rng, RngCore};

    use super::*;
    use crate::random;

    #[test]
    fn it_matches_the_image_crate_within_one_level() {
        let mut resizer = Resizer::default();
        let mut rng = random::stream(0, "resize", 0);
        for _ in 0..400 {
            let mut pixels = vec![0; 28 * 28];
            rng.fill_bytes(&mut pixels);
            let mut size = || rng.random_range(1..=28);
            let (width, height) = (size(), size());
            let crop = Rect { x: 28 - width, y: (28 - height) / 2, width, height };
            let target = (size() * 3 / 2, size() + 14);
            let mut resized = Vec::new();
            resizer.append(&pixels, 28, crop, target, &mut resized);

            let whole: GrayImage = ImageBuffer::from_raw(28, 28, pixels).unwrap();
            let [x, y, w, h] = [crop.x, crop.y, width, height].map(|v| v as u32);
            let part = imageops::crop_imm(&whole, x, y, w, h).to_image();
            let expected = imageops::resize(&part, target.0 as u32, target.1 as u32, FilterType::Triangle);
            assert_eq!(resized.len(), expected.as_raw().len());
            for (ours, theirs) in resized.iter().zip(expected.as_raw()) {
                assert!(ours.abs_diff(*theirs) <= 1, "{ours} and {theirs}, {crop:?} to {target:?}");
            }
        }
    }

    #[test]
    fn a_flat_image_stays_flat() {
        let crop = Rect { x: 0, y: 0, width: 28, height: 28 };
        for side in 14..=42 {
            let mut resized = Vec::new();
            Resizer::default().append(&[255; 784], 28, crop, (side, side), &mut resized);
            assert_eq!(resized, vec![255; side * side]);
        }
    }
}
