//! Scene by scene to a report.

use super::counting::{CountConfusion, CountTooLarge};
use super::errors::Errors;
use super::kl_map::MapScores;
use super::mean::Mean;
use super::report::{ErrorReport, Report};
use super::segmentation::SegmentationScores;

/// What the model made of one scene.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SceneOutcome {
    /// `−log p(image | latents)`, in nats over the whole image.
    pub reconstruction_nats: f64,
    /// Divergence of the latents' posterior from their prior, in nats.
    pub kl_nats: f64,
    /// Cost of saying where the entities are, in nats.
    pub location_nats: f64,
    /// Squared error of the reconstruction, the mean over pixels and channels in `[0, 1]`.
    pub squared_error: f64,
    /// How many objects the scene has, where that is known.
    pub truth_count: Option<usize>,
    /// How many entities the model found.
    pub predicted_count: usize,
    /// The scores of the masks, where the true ones are known.
    pub segmentation: Option<SegmentationScores>,
    /// What went wrong, where the true masks are known.
    pub errors: Option<Errors>,
    /// What the KL map follows.
    pub kl_map: MapScores,
}

/// Averages outcomes in memory that does not grow with their number.
#[derive(Clone, Debug, Default)]
pub struct Accumulator {
    reconstruction: Mean,
    kl: Mean,
    location: Mean,
    squared_error: Mean,
    entities: Mean,
    counts: CountConfusion,
    ari_foreground: Mean,
    ami_foreground: Mean,
    ari_objects: Mean,
    ari_all: Mean,
    ami_all: Mean,
    miou: Mean,
    f1: Mean,
    errors: ErrorReport,
    brightness_correlation: Mean,
    centre_auc: Mean,
    brightness_centre_auc: Mean,
}

impl Accumulator {
    /// Adds one scene.
    ///
    /// # Errors
    ///
    /// A count is too large to tally; the scene is left out then.
    pub fn add(&mut self, scene: SceneOutcome) -> Result<(), CountTooLarge> {
        if let Some(truth) = scene.truth_count {
            self.counts.add(truth, scene.predicted_count)?;
        }
        self.reconstruction.add(scene.reconstruction_nats);
        self.kl.add(scene.kl_nats);
        self.location.add(scene.location_nats);
        self.squared_error.add(scene.squared_error);
        self.entities.add(scene.predicted_count as f64);
        if let Some(scores) = scene.segmentation {
            self.ari_foreground.extend(scores.ari_foreground);
            self.ami_foreground.extend(scores.ami_foreground);
            self.ari_objects.extend(scores.ari_objects);
            self.ari_all.extend(scores.ari_all);
            self.ami_all.extend(scores.ami_all);
            self.miou.extend(scores.miou);
            self.f1.extend(scores.f1);
        }
        if let Some(errors) = scene.errors {
            self.errors.add(errors);
        }
        self.brightness_correlation.extend(scene.kl_map.brightness_correlation);
        self.centre_auc.extend(scene.kl_map.centre_auc);
        self.brightness_centre_auc.extend(scene.kl_map.brightness_centre_auc);
        Ok(())
    }

    /// The report on the scenes added.
    #[must_use]
    pub fn finish(self) -> Report {
        let reconstruction_nats = self.reconstruction.value();
        let kl_nats = self.kl.value();
        let location_nats = self.location.value();
        let elbo = reconstruction_nats
            .zip(kl_nats)
            .zip(location_nats)
            .map(|((reconstruction, kl), location)| -(reconstruction + kl + location));
        Report {
            scenes: self.entities.count(),
            reconstruction_nats,
            kl_nats,
            location_nats,
            elbo,
            mse: self.squared_error.value(),
            count_accuracy: self.counts.accuracy(),
            count_accuracy_sem: self.counts.accuracy_standard_error(),
            count_mse: self.counts.mean_squared_error(),
            ari_foreground: self.ari_foreground.value(),
            ari_foreground_sem: self.ari_foreground.standard_error(),
            ami_foreground: self.ami_foreground.value(),
            ari_objects: self.ari_objects.value(),
            ari_objects_sem: self.ari_objects.standard_error(),
            scenes_with_objects_2plus: self.ari_foreground.count(),
            ari_all: self.ari_all.value(),
            ami_all: self.ami_all.value(),
            miou: self.miou.value(),
            f1: self.f1.value(),
            entities_per_scene: self.entities.value(),
            count_confusion: (self.counts.scenes() > 0).then_some(self.counts),
            errors: (self.errors.scenes > 0).then_some(self.errors),
            kl_brightness_correlation: self.brightness_correlation.value(),
            kl_brightness_correlation_sem: self.brightness_correlation.standard_error(),
            kl_centre_auc: self.centre_auc.value(),
            kl_centre_auc_sem: self.centre_auc.standard_error(),
            brightness_centre_auc: self.brightness_centre_auc.value(),
            brightness_centre_auc_sem: self.brightness_centre_auc.standard_error(),
            // What was evaluated, and bounds beyond the ELBO, the caller knows.
            ..Report::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> SceneOutcome {
        SceneOutcome {
            reconstruction_nats: 100.0,
            kl_nats: 10.0,
            location_nats: 1.0,
            squared_error: 0.25,
            truth_count: Some(2),
            predicted_count: 2,
            segmentation: None,
            errors: None,
            kl_map: MapScores::default(),
        }
    }

    fn report(scenes: &[SceneOutcome]) -> Report {
        let mut accumulator = Accumulator::default();
        for &scene in scenes {
            accumulator.add(scene).expect("the counts are small");
        }
        accumulator.finish()
    }

    #[test]
    fn losses_are_averaged_and_the_bound_is_minus_their_sum() {
        let other = SceneOutcome {
            reconstruction_nats: 200.0,
            kl_nats: 30.0,
            location_nats: 2.0,
            squared_error: 0.75,
            truth_count: Some(2),
            predicted_count: 5,
            ..outcome()
        };
        let report = report(&[outcome(), other]);
        assert_eq!(report.scenes, 2);
        assert_eq!(report.reconstruction_nats, Some(150.0));
        assert_eq!(report.kl_nats, Some(20.0));
        assert_eq!(report.location_nats, Some(1.5));
        assert_eq!(report.elbo, Some(-171.5));
        assert_eq!(report.mse, Some(0.5));
        assert_eq!(report.entities_per_scene, Some(3.5));
        assert_eq!((report.count_accuracy, report.count_accuracy_sem), (Some(0.5), Some(0.5)));
        assert_eq!((report.ari_all, report.ami_all), (None, None));
    }

    #[test]
    fn each_score_is_averaged_over_the_scenes_that_have_it() {
        let scored = |ari_foreground, ari_all| SceneOutcome {
            segmentation: Some(SegmentationScores { ari_foreground, ari_all, ..Default::default() }),
            ..outcome()
        };
        let report =
            report(&[scored(Some(0.5), Some(1.0)), scored(None, Some(0.0)), scored(Some(1.0), Some(0.5)), outcome()]);
        assert_eq!(report.scenes, 4);
        assert_eq!(report.scenes_with_objects_2plus, 2);
        assert_eq!(report.ari_foreground, Some(0.75));
        assert_eq!(report.ari_foreground_sem, Some(0.25));
        assert_eq!(report.ari_all, Some(0.5));
        assert_eq!((report.ami_foreground, report.miou, report.f1), (None, None, None));
    }

    #[test]
    fn errors_are_summed_over_the_scenes_whose_masks_are_known() {
        let with = |errors| SceneOutcome { errors: Some(errors), ..outcome() };
        let split = Errors { splits: 1, misses: 2, ..Errors::default() };
        let report = report(&[with(split), with(Errors::default()), with(split), outcome()]);
        let kinds = Errors { splits: 2, misses: 4, ..Errors::default() };
        assert_eq!(report.errors, Some(ErrorReport { scenes: 3, without: 1, kinds }));
    }

    #[test]
    fn the_kl_map_is_averaged_over_scenes() {
        let with = |correlation, auc| SceneOutcome {
            kl_map: MapScores { brightness_correlation: correlation, centre_auc: auc, brightness_centre_auc: None },
            ..outcome()
        };
        let report = report(&[with(Some(0.25), None), with(Some(0.75), Some(0.5)), outcome()]);
        assert_eq!((report.kl_brightness_correlation, report.kl_brightness_correlation_sem), (Some(0.5), Some(0.25)));
        assert_eq!((report.kl_centre_auc, report.kl_centre_auc_sem), (Some(0.5), None));
        assert_eq!(report.brightness_centre_auc, None);
    }

    #[test]
    fn scenes_of_unknown_count_are_not_tallied() {
        let unknown = SceneOutcome { truth_count: None, ..outcome() };
        assert_eq!(report(&[unknown]).count_confusion, None);
        let report = report(&[unknown, outcome()]);
        assert_eq!(report.count_accuracy, Some(1.0));
        assert_eq!(report.count_confusion.map(|counts| counts.scenes()), Some(1));
        assert_eq!(report.scenes, 2);
    }

    #[test]
    fn nothing_is_defined_without_scenes() {
        assert_eq!(report(&[]), Report::default());
    }

    #[test]
    fn a_scene_that_cannot_be_tallied_is_left_out() {
        let mut accumulator = Accumulator::default();
        let absurd = SceneOutcome { truth_count: Some(usize::MAX), ..outcome() };
        assert!(accumulator.add(absurd).is_err());
        assert_eq!(accumulator.finish(), Report::default());
    }
}
