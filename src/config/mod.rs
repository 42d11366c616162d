//! One configuration for every model: what is trained on, what is trained, and how.
//!
//! A configuration is resolved in three layers, *preset < file < flags* ([`Config::resolve`]), checked once
//! ([`Config::validate`]) and saved, resolved, beside every run.

mod binarisation;
mod model;
mod objective;
mod overrides;
mod presets;
#[doc = include_str!("recipes.md")]
pub mod recipes {}
mod size;
mod validate;

pub use binarisation::Binarisation;
pub use model::{
    Background, Colours, CompositorConfig, ConvolutionConfig, DecoderConfig, DecoderTrunk, EncoderConfig, Latent,
    Likelihood, ModelConfig, Placement, Posteriors, Rank, SelectorConfig,
};
pub use objective::{ImportanceSamples, Objective};
pub use overrides::nearest;
pub use presets::Preset;
pub use validate::MOST_SCENES;

use crate::layers::LayerSpec;
use crate::scene::Disturbance;
use crate::scene::GRID_PERIOD;
use crate::scene::SceneOptions;
use crate::train::Schedule;
use serde::{Deserialize, Serialize};

/// Everything that a run depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// What is looked at.
    pub data: DataConfig,
    /// What is trained.
    pub model: ModelConfig,
    /// How.
    pub training: TrainingConfig,
}

/// The scenes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// A recipe's name, or a .npz file.
    pub scenes: String,
    /// Whose digits the recipe draws: `builtin`, `mnist`, `fashion-mnist` or a folder of IDX files.
    pub digits: String,
    /// Scenes without end instead of the recipe's own number of them.
    pub fresh: bool,
    /// What becomes of grey pixels.
    pub binarisation: Binarisation,
    /// Height and width of a recipe's images; 0 for its own size.
    #[serde(default)]
    pub size: usize,
    /// Most objects of a recipe's scene; 0 for its own number.
    #[serde(default)]
    pub objects: usize,
    /// Standard deviation of Gaussian noise on a recipe's images, white being 1 and clipped there; 0 for none.
    #[serde(default)]
    pub noise: f64,
    /// Brightness of a grid of lines under a recipe's images, white being 1; 0 for none.
    #[serde(default)]
    pub grid_lines: f64,
    /// Pixels from one of these lines to the next.
    #[serde(default = "grid_period")]
    pub grid_period: usize,
}

impl DataConfig {
    /// What is chosen beside a recipe's name.
    pub fn options(&self) -> SceneOptions {
        let own = |number: usize| (number > 0).then_some(number);
        let disturbance = Disturbance { noise: self.noise, grid_lines: self.grid_lines, grid_period: self.grid_period };
        SceneOptions { size: own(self.size), objects: own(self.objects), disturbance }
    }
}

/// The optimisation. Schedules depend on the step alone, never on the clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingConfig {
    /// Seeds weights, noise, order and scenes, each through a stream of its own.
    pub seed: u64,
    /// A run, or one of its checkpoint files, whose weights training starts with; nothing: fresh weights.
    #[serde(default)]
    pub start_from: String,
    /// Optimiser steps.
    pub steps: u64,
    /// Images in a batch, B.
    pub batch: usize,
    /// Share of the training scenes whose objects leave one another alone, where by the recipe's own rule they cover one another: easier
    /// ones, with which a training can begin (a curriculum, Bengio et al. 2009). 0 for the recipe's own alone.
    #[serde(default = "nothing")]
    pub apart: Schedule,
    /// What is minimised.
    #[serde(default)]
    pub objective: Objective,
    /// Adam's step size.
    pub learning_rate: Schedule,
    /// Nats charged for each entity in use, a regulariser beside the ELBO; log N is what its location costs.
    pub location_charge: Schedule,
    /// Factor of the KL of the idle candidates, those that are not kept: a regulariser beside the ELBO, after which the KL map peaks
    /// once for each object.
    #[serde(default = "nothing")]
    pub idle_beta: Schedule,
    /// λ, weight of what scenes teach that are put together anew from entities found in others: a regulariser beside the ELBO, for models of
    /// which any cell says the same. 0 leaves it out, and its work.
    #[serde(default = "nothing")]
    pub resynthesis: Schedule,
    /// Factor of the KL of the cells of such a scene in which nothing was put.
    #[serde(default = "silence")]
    pub silence: f64,
    /// Gradients whose norm over all variables is larger are scaled down to this; 0 leaves them alone.
    pub clip: f64,
    /// Steps from one validation to the next.
    pub validate_every: u64,
    /// Scenes in the validation set.
    pub validation_scenes: u64,
    /// Scenes in the evaluation at the end of training.
    pub evaluation_scenes: u64,
    /// Steps from one logged step to the next.
    #[serde(default = "log_every")]
    pub log_every: u64,
    /// Checkpoints kept from before the last one; the last and the best are always there.
    #[serde(default = "keep_last")]
    pub keep_last: usize,
    /// What becomes of a step whose loss or gradient is not finite.
    #[serde(default)]
    pub on_nonfinite: OnNonfinite,
}

impl TrainingConfig {
    /// The run to start from, if not with fresh weights.
    pub fn start_from(&self) -> Option<&str> {
        Some(self.start_from.as_str()).filter(|run| !run.is_empty())
    }
}

/// Runs that were saved before there was an idle KL, a resynthesis, or easier scenes, had none.
fn nothing() -> Schedule {
    0.0.into()
}

/// Runs that were saved before silence could be chosen had this.
fn silence() -> f64 {
    2.0
}

/// Configurations that were saved before there were grids had no other.
fn grid_period() -> usize {
    GRID_PERIOD
}

/// Values of every preset, and of configurations that were saved before there was a choice.
fn log_every() -> u64 {
    10
}

fn keep_last() -> usize {
    2
}

/// What becomes of a step whose loss or gradient is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnNonfinite {
    /// Training ends there.
    #[default]
    Stop,
    /// The update is left out and counted.
    Skip,
}

impl std::str::FromStr for OnNonfinite {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stop" => Ok(Self::Stop),
            "skip" => Ok(Self::Skip),
            _ => Err("expected stop or skip".into()),
        }
    }
}

impl From<ConvolutionConfig> for LayerSpec {
    fn from(c: ConvolutionConfig) -> Self {
        let ConvolutionConfig { channels, kernel, stride, up } = c;
        if up {
            Self::Upconvolution { channels, kernel, stride }
        } else {
            Self::Convolution { channels, kernel, stride }
        }
    }
}

/// Why a configuration is refused. Every message names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key that nothing reads.
    #[error("{origin}: there is no key \"{key}\"{}", hint(.nearest))]
    UnknownKey {
        /// Where it was written.
        origin: String,
        /// The key as it was written.
        key: String,
        /// The closest key there is.
        nearest: Option<String>,
    },
    /// A key that exists, but not beside the other choices made.
    #[error("{origin}: the key \"{key}\" does not apply here{}", hint(.nearest))]
    Inapplicable {
        /// Where it was written.
        origin: String,
        /// The key as it was written.
        key: String,
        /// The closest key that applies.
        nearest: Option<String>,
    },
    /// Something that is not TOML, or not of the right type.
    #[error("{origin}: {reason}")]
    Malformed {
        /// Where it was written.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A value that cannot work.
    #[error("{key}: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// Why, and what would.
        reason: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    let keys = || "; `mevae train --print-config` lists the keys".to_string();
    nearest.as_ref().map_or_else(keys, |key| format!("; did you mean \"{key}\"?"))
}

impl Config {
    /// No configuration file is longer, comments and all.
    pub const MOST_BYTES: u64 = 1 << 20;

    /// A preset, then a TOML file's text (with the name to use in messages), then `key=value` settings, each over the one
    /// before. Everything written must be read by something: an unknown or inapplicable key is an error.
    pub fn resolve(preset: Preset, file: Option<(&str, &str)>, settings: &[String]) -> Result<Self, ConfigError> {
        // The scenes that are asked for, and what disturbs them, decide what the preset's other values are.
        let layers = overrides::Layers::new(&preset.config(), file, settings)?;
        match layers.data() {
            Some(data) => overrides::Layers::new(&preset.config_for(&data), file, settings)?.resolve(),
            None => layers.resolve(),
        }
    }

    /// A file's text and settings over this configuration, as over a preset. Other scenes than its own are without options of their
    /// recipe that nobody asked for, and without end where a preset's are.
    pub fn with(&self, file: Option<(&str, &str)>, settings: &[String]) -> Result<Self, ConfigError> {
        let layers = overrides::Layers::new(self, file, settings)?;
        match layers.data() {
            Some(asked) if asked.scenes != self.data.scenes => {
                let DataConfig { digits, binarisation, .. } = self.data.clone();
                let data = Preset::MultiEntity.config_for(&asked).data;
                let training = TrainingConfig { apart: 0.0.into(), ..self.training.clone() };
                let base = Self { data: DataConfig { digits, binarisation, ..data }, training, ..self.clone() };
                overrides::Layers::new(&base, file, settings)?.resolve()
            }
            _ => layers.resolve(),
        }
    }

    /// A saved, complete configuration. What another version wrote may lack keys that came later, which have their defaults, but not
    /// have others.
    pub fn from_toml(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let malformed = |reason| ConfigError::Malformed { origin: origin.into(), reason };
        let config: Self = toml::from_str(text).map_err(|e| malformed(overrides::in_words(&e)))?;
        match overrides::unread(text, &config) {
            Some(key) => Err(malformed(format!("this version of the program has no key \"{key}\""))),
            None => Ok(config),
        }
    }

    /// Whether a file's text has the parts of a saved configuration, of whatever version.
    pub(crate) fn is_saved(text: &str) -> bool {
        let has_parts = |saved: toml::Table| ["data", "model", "training"].iter().all(|part| saved.contains_key(*part));
        text.parse().is_ok_and(has_parts)
    }

    /// The whole configuration as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| format!("# cannot be written as TOML: {e}\n"))
    }
}
