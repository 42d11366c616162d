//! What a study trains: every model as a preset and settings over it, so that `mevae train` can make each one alone.

use super::Options;
use crate::cli::common::shell_word;
use multi_entity_vae::config::{Config, ConfigError, Latent, Preset};

/// Steps of an epoch: 55,000 digits in batches of 100.
const EPOCH: u64 = 550;
/// Epochs of every model in a full study, as in the thesis.
const FULL: u64 = 100;

/// β of the models with two latent dimensions, on the ELBO's scale. The first two are the thesis' 1 and 2.
const PLANE: [f64; 3] = [0.5, 1.0, 2.0];
/// β of the sweep.
const SWEEP: [f64; 7] = [0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0];
/// Latent dimensions of the sweep.
const SWEEP_DIMENSIONS: usize = 10;

/// The learning rate of everything but the first autoencoders: it reaches in 12 epochs of two latent dimensions 4 nats less in validation
/// than the preset's constant does.
const RATE: &str = r#"training.learning_rate={from=3e-3, to=3e-5, shape="cosine", warmup=0.02}"#;

/// A model to train.
pub struct Planned {
    /// Of its folder and its pictures.
    pub name: String,
    /// For readers.
    pub title: String,
    pub config: Config,
    preset: Preset,
    settings: Vec<String>,
}

/// All models of a study.
pub struct Plan {
    /// The thesis' first model, a deeper one, a convolutional one.
    pub autoencoders: Vec<Planned>,
    /// Two latent dimensions, rising β.
    pub plane: Vec<Planned>,
    /// An autoencoder with the sweep's net, then rising β.
    pub sweep: Vec<Planned>,
}

impl Plan {
    pub fn new(options: &Options) -> Result<Self, ConfigError> {
        let planned = |name: &str, title: String, preset, epochs, own: &[String]| {
            Planned::new(name.into(), title, preset, if options.full { FULL } else { epochs }, own, options)
        };
        let strings = |own: &[&str]| own.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let autoencoder =
            |name: &str, title: &str, own: &[&str]| planned(name, title.into(), Preset::Autoencoder, 5, &strings(own));
        let autoencoders = vec![
            autoencoder("autoencoder", "dense autoencoder 784-32-784", &[])?,
            autoencoder(
                "deep",
                "deeper dense autoencoder 784-256-32-256-784",
                &["model.encoder.hidden=[256]", "model.decoder.trunk.hidden=[256]"],
            )?,
            autoencoder(
                "convolutional",
                "convolutional autoencoder with a linear code of 32",
                &[
                    // Behind fresh convolutions the code's ReLUs die, and all that is left to draw is the mean digit.
                    "model.latent.activation=identity",
                    "model.encoder.kind=convolutional",
                    "model.encoder.posteriors=whole",
                    "model.encoder.layers=[{channels=16, kernel=4, stride=2}, {channels=32, kernel=4, stride=2}]",
                    "model.decoder.trunk.kind=convolutional",
                    "model.decoder.trunk.hidden=[]",
                    "model.decoder.trunk.base=32",
                    "model.decoder.trunk.layers=[{channels=16, kernel=4, stride=2}]",
                ],
            )?,
        ];
        let vae = |name: String, title: String, epochs, own: &[String]| {
            planned(&name, title, Preset::Vae, epochs, &[own, &[RATE.to_string()]].concat())
        };
        let plane = |beta: &f64| {
            let title = format!("784-256-2-256-784, β = {beta}");
            vae(format!("plane-beta{beta}"), title, 12, &[format!("model.latent.beta={beta}")])
        };
        let d = SWEEP_DIMENSIONS;
        let own = ["model.latent.kind=point".to_string(), format!("model.latent.dimensions={d}")];
        let title = format!("784-256-{d}-256-784, autoencoder");
        let mut sweep = vec![vae("sweep-autoencoder".into(), title, 5, &own)?];
        for beta in SWEEP {
            let own = [format!("model.latent.dimensions={d}"), format!("model.latent.beta={beta}")];
            sweep.push(vae(format!("sweep-beta{beta}"), format!("784-256-{d}-256-784, β = {beta}"), 5, &own)?);
        }
        Ok(Self { autoencoders, plane: PLANE.iter().map(plane).collect::<Result<_, _>>()?, sweep })
    }

    /// All of them, in the order of the story.
    pub fn models(&self) -> impl Iterator<Item = &Planned> {
        self.autoencoders.iter().chain(&self.plane).chain(&self.sweep)
    }
}

impl Planned {
    fn new(
        name: String,
        title: String,
        preset: Preset,
        epochs: u64,
        own: &[String],
        options: &Options,
    ) -> Result<Self, ConfigError> {
        let mut settings = own.to_vec();
        settings.push(format!("training.steps={}", epochs * EPOCH));
        settings.push(format!("training.validate_every={}", epochs.div_ceil(5) * EPOCH));
        settings.push(format!("training.seed={}", options.seed));
        settings.extend(options.settings.iter().cloned());
        let config = Config::resolve(preset, None, &settings)?;
        Ok(Self { name, title, config, preset, settings })
    }

    /// What trains this model alone.
    pub fn command(&self) -> String {
        let settings = self.settings.iter().map(|s| format!(" --set {}", shell_word(s)));
        format!("mevae train --preset {}{}", self.preset.name(), settings.collect::<String>())
    }

    /// β at the end of training; none of an autoencoder.
    pub fn beta(&self) -> Option<f64> {
        match &self.config.model.latent {
            Latent::Point { .. } => None,
            Latent::Gaussian { beta, .. } => Some(beta.last()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(full: bool) -> Plan {
        Plan::new(&Options { full, seed: 3, settings: vec![] }).unwrap()
    }

    #[test]
    fn a_full_study_trains_every_model_for_a_hundred_epochs() {
        assert!(plan(true).models().all(|m| m.config.training.steps == 55_000 && m.config.training.seed == 3));
        let quick: u64 = plan(false).models().map(|m| m.config.training.steps).sum();
        assert!(quick < 60_000, "{quick} steps would take more than a few minutes");
    }

    #[test]
    fn names_differ_and_betas_rise() {
        let plan = plan(false);
        let mut names: Vec<_> = plan.models().map(|m| m.name.clone()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), plan.models().count());
        assert_eq!(plan.sweep[0].beta(), None);
        for models in [&plan.plane[..], &plan.sweep[1..]] {
            assert!(models.windows(2).all(|pair| pair[0].beta() < pair[1].beta()));
        }
    }

    #[test]
    fn settings_go_over_every_model() {
        let settings = vec!["training.steps=7".to_string()];
        let plan = Plan::new(&Options { full: true, seed: 0, settings }).unwrap();
        assert!(plan.models().all(|m| m.config.training.steps == 7 && m.command().ends_with("training.steps=7")));
        let settings = vec!["training.stpes=7".to_string()];
        assert!(Plan::new(&Options { full: true, seed: 0, settings }).is_err());
    }
}
