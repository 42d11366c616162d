//! Candidates that would draw what a better one draws already.
//!
//! Two cells of one object can both speak for it where the [radius](crate::config::SelectorConfig::radius) lets them: each draws the whole
//! object, a little differently, and together they draw it a little better. Cells alone cannot tell this from two objects that touch; what
//! is drawn at them can. The ink that two drawings share, over that of the smaller one,
//!
//! > overlap(a, b) = Σ min(a, b) / min(Σ a, Σ b)
//!
//! sums over the image's pixels (and channels). In a mixture ink is the mask, and is shared only where both have about the same colour: an
//! object before another of a different colour is no copy of it.

use super::selector::{Cells, Selection};
use crate::layers::distance;
use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

/// Colours that differ by less than this in every channel (white is 1) are about the same.
const SAME_COLOUR: f32 = 0.2;

/// What candidates draw, each alone.
pub(super) struct Drawings {
    /// (M, P, Q, C'), all in [0, 1].
    pub numbers: Vec<f32>,
    /// C'.
    pub channels: usize,
    /// Whether the last channel is a mask and the others are a colour; otherwise all are ink.
    pub masked: bool,
    /// P and Q.
    pub patch: (usize, usize),
    /// Top-left corner of each patch on the canvas, (y, x).
    pub corners: Vec<(isize, isize)>,
    /// Height and width of the image.
    pub canvas: (usize, usize),
}

impl Drawings {
    /// Of these drawings, one for each of the `cells` of some images, best first: K cells of each image that are not within the radius of a better
    /// one of them and have no more in common with it than they may. Where they are too few, the best of the others fill up.
    pub fn distinct(
        &self,
        cells: &Cells,
        selection: &Selection,
        (_, columns): (usize, usize),
        device: &Device,
    ) -> Result<Cells> {
        let (cells, Selection { entities: k, radius, .. }) = (cells.lists()?, *selection);
        let overlap = selection.overlap as f32;
        let kept = cells.par_iter().enumerate().map(|(image, cells)| {
            let drawing = |i: usize| image * cells.len() + i;
            let inks: Vec<f32> = (0..cells.len()).map(|i| self.shared(drawing(i), drawing(i))).collect();
            let same = |i: usize, j: usize| {
                distance(cells[i], cells[j], columns) <= radius
                    || self.shared(drawing(i), drawing(j)) > overlap * inks[i].min(inks[j])
            };
            let (mut kept, mut others) = (Vec::with_capacity(k), Vec::new());
            for i in 0..cells.len() {
                if kept.len() == k {
                    break;
                }
                if kept.iter().any(|&better| same(i, better)) {
                    others.push(i);
                } else {
                    kept.push(i);
                }
            }
            let missing = k.saturating_sub(kept.len());
            kept.extend(others.into_iter().take(missing));
            kept.into_iter().map(|i| cells[i]).collect()
        });
        Cells::new(&kept.collect::<Vec<Vec<usize>>>(), device)
    }

    /// The ink that two drawings share on the canvas; with itself, a drawing's own.
    fn shared(&self, i: usize, j: usize) -> f32 {
        let ((height, width), (rows, columns)) = (self.patch, self.canvas);
        let (a, b) = (self.corners[i], self.corners[j]);
        let both = |a: isize, b: isize, patch: usize, canvas: usize| {
            a.max(b).max(0)..(a.min(b) + patch as isize).min(canvas as isize)
        };
        let mut ink = 0.0;
        for y in both(a.0, b.0, height, rows) {
            for x in both(a.1, b.1, width, columns) {
                ink += self.shared_at(self.pixel(i, a, (y, x)), self.pixel(j, b, (y, x)));
            }
        }
        ink
    }

    fn shared_at(&self, a: &[f32], b: &[f32]) -> f32 {
        if !self.masked {
            return a.iter().zip(b).map(|(a, b)| a.min(*b)).sum();
        }
        let ((mask_a, a), (mask_b, b)) = (a.split_last().unwrap_or((&0.0, &[])), b.split_last().unwrap_or((&0.0, &[])));
        let same = a.iter().zip(b).all(|(a, b)| (a - b).abs() < SAME_COLOUR);
        if same { mask_a.min(*mask_b) } else { 0.0 }
    }

    fn pixel(&self, i: usize, corner: (isize, isize), at: (isize, isize)) -> &[f32] {
        let (y, x) = ((at.0 - corner.0) as usize, (at.1 - corner.1) as usize);
        &self.numbers[((i * self.patch.0 + y) * self.patch.1 + x) * self.channels..][..self.channels]
    }
}

/// Numbers of a tensor on the host.
pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rank;

    /// Drawings of 2×2 pixels on a canvas of 4×4.
    fn drawings(patches: &[&[f32]], corners: &[(isize, isize)], masked: bool) -> Drawings {
        let channels = patches[0].len() / 4;
        Drawings {
            numbers: patches.concat(),
            channels,
            masked,
            patch: (2, 2),
            corners: corners.to_vec(),
            canvas: (4, 4),
        }
    }

    /// Of cells of a grid with nine columns.
    fn distinct(
        drawings: &Drawings,
        cells: &[Vec<usize>],
        entities: usize,
        radius: usize,
        overlap: f64,
    ) -> Vec<Vec<usize>> {
        let selection = Selection { rank_by: Rank::Kl, entities, radius, overlap, seed: 0 };
        let cells = Cells::new(cells, &Device::Cpu).unwrap();
        drawings.distinct(&cells, &selection, (9, 9), &Device::Cpu).unwrap().lists().unwrap()
    }

    #[test]
    fn ink_is_shared_where_two_patches_lie_on_each_other_within_the_image() {
        let all = [1.0, 0.5, 0.25, 1.0];
        let at = |corners: [(isize, isize); 2]| drawings(&[&all, &all], &corners, false).shared(0, 1);
        assert_eq!(at([(1, 1), (1, 1)]), 2.75);
        // The lower right pixel of the first on the upper left one of the second, and the other way round.
        assert_eq!(at([(1, 1), (2, 2)]), 1.0);
        assert_eq!(at([(2, 2), (1, 1)]), 1.0);
        // The lower row of the first on the upper one of the second, of which only the right pixels are in the image.
        assert_eq!(at([(0, -1), (1, -1)]), 0.5);
        assert_eq!(at([(0, 0), (0, 2)]), 0.0);
        assert_eq!(at([(3, 3), (3, 3)]), 1.0);
        assert_eq!(at([(9, 9), (9, 9)]), 0.0);
    }

    #[test]
    fn masks_share_ink_only_where_the_colours_are_alike() {
        let patch = |colour: f32| [[colour, 0.8]; 4].concat();
        let shared = |other: f32| drawings(&[&patch(0.5), &patch(other)], &[(0, 0); 2], true).shared(0, 1);
        assert!((shared(0.6) - 3.2).abs() < 1e-6);
        assert_eq!(shared(0.75), 0.0);
    }

    /// The second is the first again; the third has one of its three pixels in common with it; the fourth is elsewhere.
    #[test]
    fn copies_of_better_drawings_are_left_out_until_there_is_nothing_else() {
        let (whole, third) = ([1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0]);
        let corners = [(0, 0), (0, 0), (0, 1), (2, 2)];
        let drawings = drawings(&[&whole, &whole, &third, &whole], &corners, false);
        let kept = |k, radius, overlap| distinct(&drawings, &[vec![10, 11, 12, 13]], k, radius, overlap).concat();
        assert_eq!(kept(2, 0, 1.0), [10, 11]); // all in common is not more than all
        assert_eq!(kept(2, 0, 0.9), [10, 12]);
        assert_eq!(kept(2, 0, 0.2), [10, 13]);
        assert_eq!(kept(3, 0, 0.2), [10, 13, 11]);
        // Those that the ranking filled up with because they are near a better one.
        assert_eq!(kept(2, 1, 1.0), [10, 12]);
        assert_eq!(kept(2, 2, 0.9), [10, 13]);
        assert_eq!(kept(3, 2, 0.9), [10, 13, 11]);
    }

    #[test]
    fn each_image_has_its_own() {
        let whole: &[f32] = &[1.0; 4];
        let drawings = drawings(&[whole; 6], &[(0, 0), (0, 0), (2, 2), (0, 0), (2, 2), (2, 2)], false);
        let cells = [vec![3, 4, 5], vec![6, 7, 8]];
        assert_eq!(distinct(&drawings, &cells, 1, 0, 0.5), [[3], [6]]);
        assert_eq!(distinct(&drawings, &cells, 2, 0, 0.5), [[3, 5], [6, 7]]);
    }
}
