//! What was measured of each model, all of which the page may quote.

use super::plan::Planned;
use crate::cli::{common, plot::Subject};
use anyhow::Context;
use candle_core::Device;
use multi_entity_vae::evaluate::Report;
use multi_entity_vae::run::{LoadedRun, RunFolder};
use multi_entity_vae::scene::Split;
use serde::Serialize;

/// A dimension of less mean KL than this, in nats, says nothing.
pub const ACTIVE: f64 = 0.01;

/// One model's figures, on test digits.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub name: String,
    pub title: String,
    /// What trains this model alone.
    pub command: String,
    /// Factor of the KL on the ELBO's scale; null for an autoencoder.
    pub beta: Option<f64>,
    /// The same on the thesis' scale, which takes the mean over latent dimensions: β · D.
    pub beta_of_the_thesis: Option<f64>,
    pub latent_dimensions: usize,
    pub parameters: usize,
    pub steps: u64,
    pub epochs: f64,
    pub seconds_of_training: f64,
    pub test_digits: u64,
    /// −log p(x|z), nats per image.
    pub reconstruction_nats: Option<f64>,
    /// KL(q ‖ N(0, I)), nats per image; null for an autoencoder.
    pub kl_nats: Option<f64>,
    /// The sum of both; null for an autoencoder, which bounds nothing.
    pub negative_elbo_nats: Option<f64>,
    /// Squared error per pixel at the posterior means.
    pub mse: Option<f64>,
    /// Mean KL of each latent dimension, in nats.
    pub kl_nats_of_dimensions: Vec<f64>,
    /// Dimensions of more than 0.01 nats.
    pub active_dimensions: Option<usize>,
    /// Share of the test digits whose nearest other one, by posterior means, is of the same class.
    pub neighbour_of_the_same_class: Option<f64>,
    /// The same if neighbours were drawn at random.
    pub neighbour_by_chance: Option<f64>,
}

impl Measured {
    /// Reads and measures a finished run.
    pub fn of(model: &Planned, folder: &RunFolder, device: &Device) -> anyhow::Result<Self> {
        let report: Report =
            serde_json::from_str(&folder.scores_text()?).with_context(|| format!("{}", folder.scores().display()))?;
        let run = common::load_run(folder.path(), device)?;
        let (batch, d) = (run.config.training.batch, run.config.model.latent.dimensions());
        let (encoded, train_scenes) = with_test_digits(&run, device, |subject| {
            let train = common::scenes_for(&run, None, Split::Train, run.config.training.seed)?;
            Ok((subject.encoded(run.config.training.evaluation_scenes as usize)?, train.source.len()))
        })?;
        let points: Vec<_> = encoded
            .latents
            .entities
            .iter()
            .zip(&encoded.classes)
            .filter_map(|(entity, class)| Some((entity.mean.as_slice(), (*class)?)))
            .collect();
        let kl = encoded.latents.kl_of_dimensions();
        let beta = model.beta();
        Ok(Self {
            name: model.name.clone(),
            title: model.title.clone(),
            command: model.command(),
            beta,
            beta_of_the_thesis: beta.map(|beta| beta * d as f64),
            latent_dimensions: d,
            parameters: run.parameters,
            steps: model.config.training.steps,
            epochs: (model.config.training.steps * batch as u64) as f64 / train_scenes as f64,
            seconds_of_training: run_seconds(folder)?,
            test_digits: report.scenes,
            reconstruction_nats: report.reconstruction_nats,
            kl_nats: beta.and(report.kl_nats),
            negative_elbo_nats: beta.and(report.elbo).map(|elbo| -elbo),
            mse: report.mse,
            active_dimensions: beta.map(|_| kl.iter().filter(|kl| **kl > ACTIVE).count()),
            kl_nats_of_dimensions: kl,
            neighbour_of_the_same_class: neighbour_of_the_same_class(&points),
            neighbour_by_chance: neighbour_by_chance(&points),
        })
    }

    /// A line for the terminal.
    pub fn in_words(&self) -> String {
        let nats = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.2}"));
        let kl =
            self.kl_nats.map_or(String::new(), |kl| format!(" + KL {kl:.2} = −ELBO {}", nats(self.negative_elbo_nats)));
        format!(
            "−log p {}{kl} nats on {} test digits, {:.0} s of training",
            nats(self.reconstruction_nats),
            self.test_digits,
            self.seconds_of_training
        )
    }
}

/// Seconds that the whole training took, over all sittings.
fn run_seconds(folder: &RunFolder) -> anyhow::Result<f64> {
    Ok(multi_entity_vae::run::Checkpoint::load(&folder.last())?.progress.seconds)
}

/// Looks at the test digits with a run.
pub fn with_test_digits<T>(
    run: &LoadedRun,
    device: &Device,
    look: impl FnOnce(&Subject<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let seed = run.config.training.seed;
    let scenes = common::scenes_for(run, None, Split::Test, seed)?;
    let selection = common::selection(run, None, seed)?;
    let density = super::draw::DENSITY;
    look(&Subject { run, scenes: &scenes, seed, selection, device, density })
}

/// Share of points whose nearest other point is of their class; none of fewer than two points.
fn neighbour_of_the_same_class(points: &[(&[f32], u8)]) -> Option<f64> {
    use rayon::prelude::*;
    let distance = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
    let alike = |(index, (point, class)): (usize, &(&[f32], u8))| {
        let others = points.iter().enumerate().filter(|(other, _)| *other != index);
        let nearest = others.min_by(|(_, a), (_, b)| distance(point, a.0).total_cmp(&distance(point, b.0)));
        nearest.is_some_and(|(_, nearest)| nearest.1 == *class)
    };
    let same = points.par_iter().enumerate().filter(|pair| alike(*pair)).count();
    (points.len() > 1).then(|| same as f64 / points.len() as f64)
}

/// The chance that another point is of a point's class.
fn neighbour_by_chance(points: &[(&[f32], u8)]) -> Option<f64> {
    let n = points.len() as f64;
    let mut counts = [0u64; 256];
    points.iter().for_each(|(_, class)| counts[usize::from(*class)] += 1);
    let pairs: f64 = counts.iter().map(|count| *count as f64 * (*count as f64 - 1.0)).sum();
    (points.len() > 1).then(|| pairs / (n * (n - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_counted_by_class() {
        let at = [[0.0], [0.1], [5.0], [5.1], [9.0]];
        let classes = [1, 1, 2, 3, 3];
        let points: Vec<_> = at.iter().map(|x| x.as_slice()).zip(classes).collect();
        // Of the last two the nearest is the 5.1 of class 3, and the 5.0 of class 2.
        assert_eq!(neighbour_of_the_same_class(&points), Some(3.0 / 5.0));
        assert_eq!(neighbour_by_chance(&points), Some(4.0 / 20.0));
        assert_eq!((neighbour_of_the_same_class(&points[..1]), neighbour_by_chance(&[])), (None, None));
    }
}
