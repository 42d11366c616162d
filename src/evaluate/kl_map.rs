//! What the KL map of a scene follows: the objects, or just the light.

use super::BACKGROUND;
use super::ranking::{area_under_curve, rank_correlation};
use std::collections::BTreeMap;

/// How the cells of one scene are ordered by their KL and by their brightness; `None` where that has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MapScores {
    /// Spearman's rank correlation of the cells' KL with their mean intensity.
    pub brightness_correlation: Option<f64>,
    /// Area under the ROC curve of the cells' KL for "an object's centre lies in the cell".
    pub centre_auc: Option<f64>,
    /// The same of the cells' mean intensity: what a ranking by brightness would know.
    pub brightness_centre_auc: Option<f64>,
}

impl MapScores {
    /// Of the KL and mean intensity of every cell, and which cells hold an object's centre, if that is known.
    pub fn of(kl: &[f32], brightness: &[f32], centres: Option<&[bool]>) -> Self {
        // A map that is the same everywhere (a deterministic latent's) orders nothing.
        let orders = kl.iter().any(|value| *value != kl[0]);
        let auc = |scores| area_under_curve(scores, centres?);
        Self {
            brightness_correlation: rank_correlation(kl, brightness),
            centre_auc: auc(kl).filter(|_| orders),
            brightness_centre_auc: auc(brightness),
        }
    }
}

/// Which of the cells hold the middle of the box around an object's visible pixels.
///
/// `truth` has rows of `width` pixels; a cell is `cell` pixels high and wide, and `grid` of them, (rows, columns), lie over it.
pub fn centre_cells(truth: &[u8], width: usize, grid: (usize, usize), cell: (usize, usize)) -> Vec<bool> {
    let mut boxes: BTreeMap<u8, [usize; 4]> = BTreeMap::new();
    for (i, &object) in truth.iter().enumerate().filter(|(_, object)| **object != BACKGROUND) {
        let (x, y) = (i % width, i / width);
        let [x0, y0, x1, y1] = boxes.entry(object).or_insert([x, y, x, y]);
        (*x0, *y0, *x1, *y1) = ((*x0).min(x), (*y0).min(y), (*x1).max(x), (*y1).max(y));
    }
    let mut cells = vec![false; grid.0 * grid.1];
    for [x0, y0, x1, y1] in boxes.into_values() {
        // The half-open box ends one pixel further.
        let (x, y) = ((x0 + x1).div_ceil(2), (y0 + y1).div_ceil(2));
        let index = y / cell.0 * grid.1 + x / cell.1;
        if let Some(cell) = cells.get_mut(index) {
            *cell = true;
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_objects_is_told_from_a_map_of_light() {
        // Four cells; the object's centre is in the third, which is dark.
        let (light, centres) = ([0.5, 0.4, 0.1, 0.0], [false, false, true, false]);
        let objects = MapScores::of(&[0.1, 0.2, 9.0, 0.0], &light, Some(&centres));
        assert_eq!((objects.centre_auc, objects.brightness_centre_auc), (Some(1.0), Some(1.0 / 3.0)));
        assert!(objects.brightness_correlation.is_some_and(|r| r < 0.5));
        let of_light = MapScores::of(&[5.0, 4.0, 1.0, 0.0], &light, Some(&centres));
        assert_eq!((of_light.brightness_correlation, of_light.centre_auc), (Some(1.0), Some(1.0 / 3.0)));
    }

    #[test]
    fn what_is_unknown_or_the_same_everywhere_has_no_score() {
        let point = MapScores::of(&[0.0; 2], &[0.1, 0.2], Some(&[true, false]));
        assert_eq!((point.brightness_correlation, point.centre_auc), (None, None));
        let unknown = MapScores::of(&[0.0, 1.0], &[0.1, 0.2], None);
        assert_eq!((unknown.brightness_correlation, unknown.centre_auc), (Some(1.0), None));
        assert_eq!(MapScores::of(&[], &[], None), MapScores::default());
    }

    #[test]
    fn centres_fall_into_cells() {
        let mut truth = [BACKGROUND; 6 * 4];
        // Columns 0 to 4 of rows 1 and 2, hollow: the middle is (2, 2), which nobody owns. Another at the lower right.
        for (x, y) in [(0, 1), (4, 1), (0, 2), (4, 2)] {
            truth[y * 6 + x] = 0;
        }
        truth[3 * 6 + 5] = 1;
        // Cells of 3 rows and 2 columns: a second row of cells juts out.
        assert_eq!(centre_cells(&truth, 6, (2, 3), (3, 2)), [false, true, false, false, false, true]);
        assert_eq!(centre_cells(&[BACKGROUND; 24], 6, (2, 3), (3, 2)), [false; 6]);
    }
}
