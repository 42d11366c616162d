//! The result of an evaluation.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::counting::CountConfusion;
use super::errors::Errors;
use crate::config::Binarisation;

/// Means over the scenes of an evaluation; `None`, in JSON `null`, where no scene defines a value.
///
/// Displays as a table for a terminal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The number of scenes.
    pub scenes: u64,
    /// `−log p(image | latents)`, in nats per image.
    pub reconstruction_nats: Option<f64>,
    /// Divergence of the latents' posterior from their prior, in nats per image.
    pub kl_nats: Option<f64>,
    /// Cost of the entities' locations, in nats per image.
    pub location_nats: Option<f64>,
    /// What was done to grey pixels before the model saw them.
    #[serde(default)]
    pub binarisation: Option<Binarisation>,
    /// The evidence lower bound: minus the sum of the three terms above, in nats per image.
    pub elbo: Option<f64>,
    /// The importance-weighted bound on log p(x), in nats per image; see [`LikelihoodBound`](super::LikelihoodBound).
    #[serde(default)]
    pub log_likelihood_bound_nats: Option<f64>,
    /// Standard error of `log_likelihood_bound_nats` over the images.
    #[serde(default)]
    pub log_likelihood_bound_sem: Option<f64>,
    /// How many samples of the latents each image's bound was made of.
    #[serde(default)]
    pub importance_samples: Option<u64>,
    /// Steps by which means of present entities were [refined](crate::model::Model::refined), where they were.
    #[serde(default)]
    pub refinement_steps: Option<u64>,
    /// Squared error of the reconstruction per pixel and channel, of values in `[0, 1]`.
    pub mse: Option<f64>,
    /// The share of scenes of known count in which as many entities as objects were found.
    pub count_accuracy: Option<f64>,
    /// Standard error of `count_accuracy`.
    pub count_accuracy_sem: Option<f64>,
    /// Squared difference of both counts, mean over the same scenes.
    #[serde(default)]
    pub count_mse: Option<f64>,
    /// The scenes of known count, by true (rows) and predicted (columns) count.
    pub count_confusion: Option<CountConfusion>,
    /// Adjusted Rand index over object pixels, in scenes with at least two visible objects.
    pub ari_foreground: Option<f64>,
    /// Standard error of `ari_foreground`.
    pub ari_foreground_sem: Option<f64>,
    /// Adjusted mutual information over the same pixels of the same scenes.
    pub ami_foreground: Option<f64>,
    /// Adjusted Rand index over the same pixels, which the background may own, too; of mixtures alone, whose background has a mask.
    #[serde(default)]
    pub ari_objects: Option<f64>,
    /// Standard error of `ari_objects`.
    #[serde(default)]
    pub ari_objects_sem: Option<f64>,
    /// The number of scenes that define these scores of object pixels.
    pub scenes_with_objects_2plus: u64,
    /// Adjusted Rand index over all pixels.
    pub ari_all: Option<f64>,
    /// Adjusted mutual information over all pixels.
    #[serde(default)]
    pub ami_all: Option<f64>,
    /// Mean intersection over union of objects and the entities matched to them.
    pub miou: Option<f64>,
    /// Mean F1 score of the pixels of objects and the entities matched to them.
    pub f1: Option<f64>,
    /// The number of entities found.
    pub entities_per_scene: Option<f64>,
    /// How entities were wasted or shared, where the true masks are known.
    #[serde(default)]
    pub errors: Option<ErrorReport>,
    /// Rank correlation, over the cells of a scene, of KL and mean intensity.
    #[serde(default)]
    pub kl_brightness_correlation: Option<f64>,
    /// Standard error of `kl_brightness_correlation`.
    #[serde(default)]
    pub kl_brightness_correlation_sem: Option<f64>,
    /// Area under the ROC curve of the cells' KL for "an object's centre lies in the cell".
    #[serde(default)]
    pub kl_centre_auc: Option<f64>,
    /// Standard error of `kl_centre_auc`.
    #[serde(default)]
    pub kl_centre_auc_sem: Option<f64>,
    /// The same of the cells' mean intensity.
    #[serde(default)]
    pub brightness_centre_auc: Option<f64>,
    /// Standard error of `brightness_centre_auc`.
    #[serde(default)]
    pub brightness_centre_auc_sem: Option<f64>,
}

/// What went wrong in many scenes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    /// Scenes whose true masks are known.
    pub scenes: u64,
    /// Those of them without any error.
    pub without: u64,
    /// The errors of all of them together.
    #[serde(flatten)]
    pub kinds: Errors,
}

impl ErrorReport {
    /// Adds a scene.
    pub fn add(&mut self, errors: Errors) {
        self.scenes += 1;
        self.without += u64::from(errors.total() == 0);
        self.kinds += errors;
    }
}

/// Shown for what no scene defines.
const UNDEFINED: &str = "–";

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let counts = self.count_confusion.as_ref();
        // Not the key: older reports have the counts alone.
        let count_mse = counts.and_then(CountConfusion::mean_squared_error);
        let counted = counts.map_or(0, CountConfusion::scenes);
        let pairs = self.scenes_with_objects_2plus;

        let pixels = self.binarisation.map_or(String::new(), |b| format!(", {}", b.in_words()));
        let refined = self
            .refinement_steps
            .map_or(String::new(), |n| format!(", means of present entities refined by {n} steps"));
        writeln!(out, "{} scenes{pixels}{refined}", self.scenes)?;
        writeln!(out)?;
        row(out, "reconstruction", fixed(self.reconstruction_nats, 2), "nats per image, −log p")?;
        row(out, "KL", fixed(self.kl_nats, 2), "nats per image")?;
        row(out, "location", fixed(self.location_nats, 2), "nats per image")?;
        row(out, "ELBO", fixed(self.elbo, 2), "nats per image, higher is better")?;
        if let Some(samples) = self.importance_samples {
            let bound = with_error(self.log_likelihood_bound_nats, self.log_likelihood_bound_sem, 2);
            row(out, "log p(x) ≥", bound, format_args!("nats per image, {samples} importance samples"))?;
        }
        row(out, "squared error", fixed(self.mse, 6), "per pixel, values in [0, 1]")?;
        writeln!(out)?;
        let accuracy = with_error(self.count_accuracy, self.count_accuracy_sem, 3);
        row(out, "count accuracy", accuracy, format_args!("{counted} scenes of known count"))?;
        row(out, "count error", fixed(count_mse, 3), "objects², mean squared")?;
        row(out, "entities", fixed(self.entities_per_scene, 3), "per scene")?;
        writeln!(out)?;
        let ari = with_error(self.ari_foreground, self.ari_foreground_sem, 3);
        row(out, "ARI, foreground", ari, format_args!("{pairs} scenes with 2 or more objects"))?;
        row(out, "AMI, foreground", fixed(self.ami_foreground, 3), "the same scenes")?;
        if self.ari_objects.is_some() {
            let objects = with_error(self.ari_objects, self.ari_objects_sem, 3);
            row(out, "ARI, objects", objects, "the same; background may own their pixels")?;
        }
        row(out, "ARI, all pixels", fixed(self.ari_all, 3), "background is a cluster")?;
        row(out, "AMI, all pixels", fixed(self.ami_all, 3), "background is a cluster")?;
        row(out, "mean IoU", fixed(self.miou, 3), "objects and matched entities")?;
        row(out, "mean F1", fixed(self.f1, 3), "objects and matched entities")?;
        self.kl_map(out)?;
        self.errors.map_or(Ok(()), |found| errors(out, &found))?;
        counts.map_or(Ok(()), |counts| confusion(out, counts))
    }
}

impl Report {
    /// What the KL map follows, where there is one.
    fn kl_map(&self, out: &mut fmt::Formatter) -> fmt::Result {
        if self.kl_brightness_correlation.is_none() && self.kl_centre_auc.is_none() {
            return Ok(());
        }
        let correlation = with_error(self.kl_brightness_correlation, self.kl_brightness_correlation_sem, 3);
        let kl = with_error(self.kl_centre_auc, self.kl_centre_auc_sem, 3);
        let brightness = with_error(self.brightness_centre_auc, self.brightness_centre_auc_sem, 3);
        writeln!(out)?;
        row(out, "KL, brightness", correlation, "rank correlation over the cells of a scene")?;
        row(out, "KL, centres", kl, "area under the ROC curve: cells with an object's centre")?;
        row(out, "light, centres", brightness, "the same for the brightness of a cell")
    }
}

/// One line of the table: the values line up at their decimal points, the notes behind them.
fn row(out: &mut fmt::Formatter, name: &str, (whole, rest): (String, String), note: impl fmt::Display) -> fmt::Result {
    writeln!(out, "  {name:<16}{whole:>8}{rest:<14}{note}")
}

/// A value to so many decimals, split before the decimal point.
fn fixed(value: Option<f64>, decimals: usize) -> (String, String) {
    let text = value.map_or_else(|| UNDEFINED.into(), |value| format!("{value:.decimals$}"));
    let point = text.find('.').unwrap_or(text.len());
    let (whole, rest) = text.split_at(point);
    (whole.into(), rest.into())
}

/// A score and its standard error, as `0.974 ± 0.004`.
fn with_error(value: Option<f64>, standard_error: Option<f64>, decimals: usize) -> (String, String) {
    let (whole, mut rest) = fixed(value, decimals);
    if let Some(standard_error) = standard_error {
        rest += &format!(" ± {standard_error:.decimals$}");
    }
    (whole, rest)
}

fn errors(out: &mut fmt::Formatter, found: &ErrorReport) -> fmt::Result {
    writeln!(out)?;
    writeln!(out, "Errors in {} scenes with masks, {} of them without any", found.scenes, found.without)?;
    writeln!(out)?;
    for (name, meaning, count) in found.kinds.kinds() {
        row(out, name, (count.to_string(), String::new()), meaning)?;
    }
    Ok(())
}

fn confusion(out: &mut fmt::Formatter, counts: &CountConfusion) -> fmt::Result {
    let largest = counts.rows().iter().flatten().max().copied().unwrap_or(0);
    let width = largest.to_string().len().max(3) + 1;
    writeln!(out)?;
    writeln!(out, "Scenes by number of objects (rows) and of entities found (columns)")?;
    writeln!(out)?;
    write!(out, "  {:>5}", "")?;
    for predicted in 0..counts.columns() {
        write!(out, "{predicted:>width$}")?;
    }
    writeln!(out)?;
    for (truth, row) in counts.rows().iter().enumerate() {
        write!(out, "  {truth:>5}")?;
        for scenes in row {
            write!(out, "{scenes:>width$}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut counts = CountConfusion::default();
        for (truth, predicted) in [(0, 0), (1, 1), (2, 1), (2, 2)] {
            counts.add(truth, predicted).expect("the counts are small");
        }
        Report {
            scenes: 5,
            binarisation: Some(Binarisation::Static),
            reconstruction_nats: Some(1234.5),
            kl_nats: Some(20.0),
            location_nats: Some(3.25),
            elbo: Some(-1257.75),
            log_likelihood_bound_nats: Some(-1255.5),
            log_likelihood_bound_sem: Some(4.25),
            importance_samples: Some(500),
            refinement_steps: None,
            mse: Some(0.001_25),
            count_accuracy: counts.accuracy(),
            count_accuracy_sem: counts.accuracy_standard_error(),
            count_mse: counts.mean_squared_error(),
            count_confusion: Some(counts),
            ari_foreground: Some(0.9741),
            ari_foreground_sem: Some(0.0042),
            ami_foreground: Some(0.95),
            ari_objects: Some(0.93),
            ari_objects_sem: Some(0.005),
            scenes_with_objects_2plus: 2,
            ari_all: Some(-0.01),
            ami_all: Some(0.02),
            miou: Some(0.8),
            f1: None,
            entities_per_scene: Some(1.0),
            errors: Some(ErrorReport {
                scenes: 4,
                without: 2,
                kinds: Errors { splits: 3, misses: 1, ..Errors::default() },
            }),
            kl_brightness_correlation: Some(0.4125),
            kl_brightness_correlation_sem: Some(0.0051),
            kl_centre_auc: Some(0.99),
            kl_centre_auc_sem: Some(0.001),
            brightness_centre_auc: Some(0.75),
            brightness_centre_auc_sem: None,
        }
    }

    #[test]
    fn the_table_is_aligned_and_names_its_units() {
        let expected = "\
5 scenes, static binarisation, our own fixed draw

  reconstruction      1234.50           nats per image, −log p
  KL                    20.00           nats per image
  location               3.25           nats per image
  ELBO               -1257.75           nats per image, higher is better
  log p(x) ≥         -1255.50 ± 4.25    nats per image, 500 importance samples
  squared error          0.001250       per pixel, values in [0, 1]

  count accuracy         0.750 ± 0.250  4 scenes of known count
  count error            0.250          objects², mean squared
  entities               1.000          per scene

  ARI, foreground        0.974 ± 0.004  2 scenes with 2 or more objects
  AMI, foreground        0.950          the same scenes
  ARI, objects           0.930 ± 0.005  the same; background may own their pixels
  ARI, all pixels       -0.010          background is a cluster
  AMI, all pixels        0.020          background is a cluster
  mean IoU               0.800          objects and matched entities
  mean F1                –              objects and matched entities

  KL, brightness         0.412 ± 0.005  rank correlation over the cells of a scene
  KL, centres            0.990 ± 0.001  area under the ROC curve: cells with an object's centre
  light, centres         0.750          the same for the brightness of a cell

Errors in 4 scenes with masks, 2 of them without any

  duplicates             0              entities on an object that another explains
  splits                 3              further entities that share one object
  merges                 0              further objects that one entity swallowed
  misses                 1              objects without an entity
  hallucinations         0              entities beside every object

Scenes by number of objects (rows) and of entities found (columns)

          0   1   2
      0   1   0   0
      1   0   1   0
      2   0   1   1
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn an_empty_report_shows_no_confusion() {
        let text = Report::default().to_string();
        assert!(text.starts_with("0 scenes\n"), "{text}");
        assert!(text.ends_with("objects and matched entities\n"), "{text}");
    }

    #[test]
    fn the_json_keys_are_fixed() {
        let json = serde_json::to_value(report()).expect("a plain structure");
        let mut keys: Vec<&str> = json.as_object().expect("an object").keys().map(String::as_str).collect();
        let mut expected = [
            "scenes",
            "binarisation",
            "log_likelihood_bound_nats",
            "log_likelihood_bound_sem",
            "importance_samples",
            "reconstruction_nats",
            "refinement_steps",
            "kl_nats",
            "location_nats",
            "elbo",
            "mse",
            "count_accuracy",
            "count_accuracy_sem",
            "count_mse",
            "count_confusion",
            "ari_foreground",
            "ari_foreground_sem",
            "ami_foreground",
            "ari_objects",
            "ari_objects_sem",
            "scenes_with_objects_2plus",
            "ari_all",
            "ami_all",
            "miou",
            "f1",
            "entities_per_scene",
            "errors",
            "kl_brightness_correlation",
            "kl_brightness_correlation_sem",
            "kl_centre_auc",
            "kl_centre_auc_sem",
            "brightness_centre_auc",
            "brightness_centre_auc_sem",
        ];
        // Whether a JSON object keeps the order of its keys depends on the features of serde_json.
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert!(json["f1"].is_null());
        assert_eq!(json["errors"]["splits"], 3);
        assert_eq!(json["binarisation"], "static");
        assert_eq!(json["count_confusion"][2], serde_json::json!([0, 1, 1]));
    }

    #[test]
    fn an_older_report_still_tells_the_count_error() {
        let mut json = serde_json::to_value(report()).expect("a plain structure");
        json.as_object_mut().expect("an object").remove("count_mse");
        let older: Report = serde_json::from_value(json).expect("a report without the key");
        assert_eq!((older.count_mse, older.to_string()), (None, report().to_string()));
    }

    #[test]
    fn it_survives_json() {
        let json = serde_json::to_string(&report()).expect("a plain structure");
        assert_eq!(serde_json::from_str::<Report>(&json).expect("its own"), report());
    }
}
