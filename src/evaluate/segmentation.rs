//! How well the entities of one scene divide its pixels as the true objects do.

use super::clustering::{Contingency, adjusted_mutual_information, adjusted_rand_index};
use super::log_factorials::LogFactorials;
use super::matching::{MatchingError, maximum_weight_matching};

/// The mask value of a pixel that shows no object, or no entity.
pub const BACKGROUND: u8 = 255;

/// The masks of one scene, pixel by pixel in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Masks<'a> {
    /// The true object seen at each pixel, or [`BACKGROUND`].
    pub truth: &'a [u8],
    /// The predicted entity seen at each pixel, or [`BACKGROUND`].
    pub predicted: &'a [u8],
    /// The entity that would own each pixel if the background could not: [`BACKGROUND`] only where
    /// the prediction has no entity at all.
    ///
    /// The foreground scores use it, so that they grade how object pixels are divided among the
    /// entities and not how much of an object's outline is called background.
    pub foreground: &'a [u8],
    /// Whether the background has a mask of its own, as in a mixture, so that `predicted` is the strongest of all masks.
    pub background_is_masked: bool,
}

/// Why masks cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentationError {
    /// The masks are not of the same scene.
    #[error(
        "the masks differ in size: {truth} true, {predicted} predicted and {foreground} foreground \
         pixels; pass three masks of one scene"
    )]
    Sizes {
        /// Pixels of the true mask.
        truth: usize,
        /// Pixels of the predicted mask.
        predicted: usize,
        /// Pixels of the foreground assignment.
        foreground: usize,
    },
    /// Objects could not be matched to entities.
    #[error(transparent)]
    Matching(#[from] MatchingError),
}

/// The scores of one scene; `None` where a score has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SegmentationScores {
    /// Adjusted Rand index over the pixels of true objects, if at least two objects are visible.
    ///
    /// Restricted to object pixels as usual (Greff et al. 2019, *IODINE*), and to several objects
    /// because over a single one the index is 1, or 0 as soon as one pixel goes astray.
    pub ari_foreground: Option<f64>,
    /// Adjusted mutual information over the same pixels of the same scenes.
    pub ami_foreground: Option<f64>,
    /// Adjusted Rand index over the same pixels of the same scenes, where the background is one more entity that can own them.
    ///
    /// So `adjusted_rand_index` of Kabra et al. (2019, *Multi-Object Datasets*) has it, the code by which IODINE, Slot Attention and most
    /// others are graded. A rim that the background takes costs something here; an object that nobody draws is a cluster of its own.
    /// Only where the background has a mask.
    pub ari_objects: Option<f64>,
    /// Adjusted Rand index over all pixels, with the background as one more cluster on both sides.
    pub ari_all: Option<f64>,
    /// Adjusted mutual information of the same.
    pub ami_all: Option<f64>,
    /// Mean over the true objects of the intersection over union with the matched entity.
    ///
    /// The matching is one-to-one and of the largest total; an object without an entity counts 0.
    /// Entities without an object do not enter the mean: they show in the count, in `ari_all`, and
    /// in the pixels that they take from the others.
    pub miou: Option<f64>,
    /// As `miou`, for the F1 score of the pixels (the Dice coefficient), with a matching of its own.
    pub f1: Option<f64>,
}

impl SegmentationScores {
    /// Scores one scene. `factorials` is a cache to be kept from scene to scene.
    ///
    /// # Errors
    ///
    /// The masks differ in size.
    pub fn of(masks: Masks, factorials: &mut LogFactorials) -> Result<Self, SegmentationError> {
        let (truth, predicted, foreground) = (masks.truth, masks.predicted, masks.foreground);
        if truth.len() != predicted.len() || truth.len() != foreground.len() {
            return Err(SegmentationError::Sizes {
                truth: truth.len(),
                predicted: predicted.len(),
                foreground: foreground.len(),
            });
        }
        let on_objects = |&(object, _): &(u8, u8)| object != BACKGROUND;
        let objects: Contingency = pairs(truth, foreground).filter(on_objects).collect();
        let all: Contingency = pairs(truth, predicted).collect();

        let several_objects = objects.row_labels().len() >= 2;
        Ok(Self {
            ari_foreground: several_objects.then(|| adjusted_rand_index(&objects)),
            ami_foreground: several_objects.then(|| adjusted_mutual_information(&objects, factorials)),
            ari_objects: (several_objects && masks.background_is_masked)
                .then(|| adjusted_rand_index(&pairs(truth, predicted).filter(on_objects).collect())),
            ari_all: (all.total() > 0).then(|| adjusted_rand_index(&all)),
            ami_all: (all.total() > 0).then(|| adjusted_mutual_information(&all, factorials)),
            miou: mean_matched(&all, intersection_over_union)?,
            f1: mean_matched(&all, f1)?,
        })
    }
}

fn pairs(first: &[u8], second: &[u8]) -> impl Iterator<Item = (u8, u8)> {
    first.iter().copied().zip(second.iter().copied())
}

/// `|A ∩ B| / |A ∪ B|` of two sets of pixels.
fn intersection_over_union(shared: u64, first: u64, second: u64) -> f64 {
    shared as f64 / (first + second - shared) as f64
}

/// `2 |A ∩ B| / (|A| + |B|)`: the harmonic mean of precision and recall of the pixels.
fn f1(shared: u64, first: u64, second: u64) -> f64 {
    2.0 * shared as f64 / (first + second) as f64
}

/// The mean over the true objects of their overlap with the entity matched to them.
///
/// `overlap` takes the pixels shared by an object and an entity, and the pixels of each.
fn mean_matched(table: &Contingency, overlap: impl Fn(u64, u64, u64) -> f64) -> Result<Option<f64>, MatchingError> {
    let entities: Vec<usize> =
        (0..table.column_labels().len()).filter(|&column| table.column_labels()[column] != BACKGROUND).collect();
    let overlaps: Vec<Vec<f64>> = table
        .rows()
        .zip(table.row_sums())
        .zip(table.row_labels())
        .filter(|&(_, &label)| label != BACKGROUND)
        .map(|((shared, &object_size), _)| {
            entities.iter().map(|&entity| overlap(shared[entity], object_size, table.column_sums()[entity])).collect()
        })
        .collect();
    if overlaps.is_empty() {
        return Ok(None);
    }
    let matched: f64 = maximum_weight_matching(&overlaps)?
        .into_iter()
        .zip(&overlaps)
        .filter_map(|(entity, overlaps)| entity.map(|entity| overlaps[entity]))
        .sum();
    Ok(Some(matched / overlaps.len() as f64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const B: u8 = BACKGROUND;

    fn scores(truth: &[u8], predicted: &[u8], foreground: &[u8]) -> SegmentationScores {
        let masks = Masks { truth, predicted, foreground, background_is_masked: true };
        SegmentationScores::of(masks, &mut LogFactorials::default()).expect("the sizes agree")
    }

    #[test]
    fn a_perfect_prediction_scores_one_everywhere() {
        let truth = [0, 0, 1, 1, B, B];
        let predicted = [7, 7, 3, 3, B, B];
        assert_eq!(
            scores(&truth, &predicted, &[7, 7, 3, 3, 7, 3]),
            SegmentationScores {
                ari_foreground: Some(1.0),
                ami_foreground: Some(1.0),
                ari_objects: Some(1.0),
                ari_all: Some(1.0),
                ami_all: Some(1.0),
                miou: Some(1.0),
                f1: Some(1.0),
            }
        );
    }

    #[test]
    fn seeing_only_background_scores_zero() {
        let truth = [0, 0, 1, 1, B, B];
        assert_eq!(
            scores(&truth, &[B; 6], &[B; 6]),
            SegmentationScores {
                ari_foreground: Some(0.0),
                ami_foreground: Some(0.0),
                ari_objects: Some(0.0),
                ari_all: Some(0.0),
                ami_all: Some(0.0),
                miou: Some(0.0),
                f1: Some(0.0),
            }
        );
    }

    #[test]
    fn an_empty_scene_seen_as_empty_has_only_the_score_of_all_pixels() {
        let only_all = SegmentationScores { ari_all: Some(1.0), ami_all: Some(1.0), ..Default::default() };
        assert_eq!(scores(&[B; 4], &[B; 4], &[B; 4]), only_all);
    }

    #[test]
    fn a_scene_without_pixels_has_no_score() {
        assert_eq!(scores(&[], &[], &[]), SegmentationScores::default());
    }

    #[test]
    fn one_object_has_overlap_but_no_foreground_score() {
        let one = scores(&[0, 0, B, B], &[4, B, B, B], &[4, 4, 4, 4]);
        assert_eq!((one.ari_foreground, one.ami_foreground), (None, None));
        assert_eq!((one.miou, one.f1), (Some(0.5), Some(2.0 / 3.0)));
    }

    #[test]
    fn foreground_scores_read_the_foreground_assignment_of_object_pixels() {
        // The prediction leaves half of each object to the background, and its assignment of the
        // true background is arbitrary: neither may show.
        let divided = scores(&[0, 0, 1, 1, B, B], &[5, B, 6, B, B, B], &[5, 5, 6, 6, 6, 5]);
        assert_eq!(divided.ari_foreground, Some(1.0));
        assert_eq!(divided.ami_foreground, Some(1.0));
        assert!(divided.ari_objects.is_some_and(|ari| ari < 1.0));
        assert!(divided.ari_all.is_some_and(|ari| ari < 1.0));
        assert!(divided.ami_all.is_some_and(|ami| ami < 1.0));
        assert_eq!(divided.miou, Some(0.5));
    }

    #[test]
    fn without_a_mask_for_the_background_there_is_no_object_score() {
        let truth = &[0, 0, 1, 1][..];
        let masks = Masks { truth, predicted: truth, foreground: truth, background_is_masked: false };
        let scores = SegmentationScores::of(masks, &mut LogFactorials::default()).unwrap();
        assert_eq!((scores.ari_objects, scores.ari_foreground), (None, Some(1.0)));
    }

    #[test]
    fn an_object_left_to_the_background_is_a_cluster_of_the_object_score() {
        let missed = scores(&[0, 0, 1, 1, B, B], &[5, 5, B, B, B, B], &[5; 6]);
        assert_eq!((missed.ari_foreground, missed.ari_objects), (Some(0.0), Some(1.0)));
    }

    #[test]
    fn a_missed_object_counts_zero_and_an_invented_entity_does_not_count() {
        let merged = scores(&[0, 0, 1, 1], &[9, 9, B, B], &[9; 4]);
        assert_eq!((merged.miou, merged.f1), (Some(0.5), Some(0.5)));
        let invented = scores(&[0, 0, B, B], &[9, 9, 8, 8], &[9, 9, 8, 8]);
        assert_eq!((invented.miou, invented.f1), (Some(1.0), Some(1.0)));
        assert_eq!(
            (invented.ari_all, invented.ami_all),
            (Some(1.0), Some(1.0)),
            "the background counts as one cluster more"
        );
    }

    #[test]
    fn an_entity_is_matched_to_one_object_only() {
        // One entity over both objects: IoU 1/2 with one of them, nothing for the other.
        let merged = scores(&[0, 0, 1, 1], &[9; 4], &[9; 4]);
        assert_eq!(merged.miou, Some(0.25));
        assert_eq!(merged.f1, Some(1.0 / 3.0));
        assert_eq!(merged.ari_foreground, Some(0.0));
    }

    #[test]
    fn masks_of_different_sizes_are_refused() {
        let masks = Masks { truth: &[0, 0], predicted: &[0], foreground: &[0, 0], background_is_masked: true };
        let refused = SegmentationScores::of(masks, &mut LogFactorials::default());
        assert_eq!(refused, Err(SegmentationError::Sizes { truth: 2, predicted: 1, foreground: 2 }));
    }

    proptest! {
        #[test]
        fn overlaps_lie_between_zero_and_one_and_f1_is_the_larger(
            pixels in prop::collection::vec((0u8..5, 0u8..5), 1..80),
        ) {
            let label = |index: u8| if index == 4 { BACKGROUND } else { index };
            let (truth, predicted): (Vec<u8>, Vec<u8>) =
                pixels.into_iter().map(|(t, p)| (label(t), label(p))).unzip();
            let scores = scores(&truth, &predicted, &predicted);
            prop_assert_eq!(scores.miou.is_some(), truth.iter().any(|&object| object != BACKGROUND));
            if let (Some(miou), Some(f1)) = (scores.miou, scores.f1) {
                prop_assert!(0.0 <= miou && miou <= f1 + 1e-12 && f1 <= 1.0 + 1e-12);
            }
        }
    }
}
