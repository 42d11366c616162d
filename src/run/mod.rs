//! A run on disk: its folder, its checkpoints, and how its scenes are opened again.
//!
//! ```text
//! runs/multi-entity-digits-001/
//!   config.toml            everything the run depends on, resolved
//!   metrics.jsonl          one line per report of training, one per validation
//!   events.out.tfevents.*  the same for TensorBoard
//!   checkpoints/last.safetensors, best.safetensors, step-0004500.safetensors, …
//!   evaluation.json        scores on held-out scenes
//!   *.png, curves.svg      pictures
//! ```

mod checkpoint;
mod checksum;
mod comparison;
mod data;
mod folder;
mod lock;
mod maker;

pub use checkpoint::{Checkpoint, CheckpointError, Origin, Progress};
pub use comparison::{Aspect, ComparisonError, Verdict, compare};
pub use data::{DataError, ScenesOf, open_digits};
pub use folder::{FolderError, RunFolder};
pub use lock::RunLock;
pub use maker::Maker;

use crate::config::{Config, ConfigError};
use crate::layers::Extent;
use crate::model::{Model, Variables};
use candle_core::{DType, Device};

/// A trained model, ready for use: weights outside any graph.
#[derive(Debug)]
pub struct LoadedRun {
    /// The run's resolved configuration.
    pub config: Config,
    /// The model with the checkpoint's weights.
    pub model: Model,
    /// How far training had come.
    pub progress: Progress,
    /// Numbers that were trained.
    pub parameters: usize,
    /// The weights.
    variables: Variables,
}

/// Why a model cannot read images of another size.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// Grey is not colour.
    #[error("it has weights for {0} channels alone")]
    Channels(usize),
    /// The model says something of the image as a whole.
    #[error(
        "only a convolutional encoder with a posterior for each cell and a glimpse decoder, both without coordinates, read images of \
         another size"
    )]
    Fixed,
    /// An image that may hold less than what the model was trained on.
    #[error("a model can read images larger than its own, but no smaller ones")]
    Smaller,
    /// The configuration does not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl LoadedRun {
    /// Loads a checkpoint's model.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: &Device) -> Result<Self, CheckpointError> {
        let Checkpoint { config, image, progress, weights, .. } = checkpoint;
        config.validate(*image).map_err(|e| checkpoint.damaged(e.to_string()))?;
        // A model larger than its weights is not built, whatever its configuration says.
        let (needed, found) =
            (config.model.parameters(*image), weights.values().map(|w| w.elem_count()).sum::<usize>());
        if needed != found {
            return Err(checkpoint.damaged(format!("it has {found} weights where its model has {needed}")));
        }
        let variables = Variables::new(0);
        let build = |vb| Model::new(&config.model, *image, vb).map_err(|e| checkpoint.damaged(e.to_string()));
        build(variables.builder(DType::F32, device))?;
        variables.load(weights).map_err(|e| checkpoint.damaged(e.to_string()))?;
        let model = build(variables.frozen(DType::F32, device))?;
        Ok(Self {
            config: config.clone(),
            model: model.at_rest().map_err(|e| checkpoint.damaged(e.to_string()))?,
            progress: progress.clone(),
            parameters: variables.count(),
            variables,
        })
    }

    /// The same weights as a model of images of a larger extent: the grid of candidates grows with the image.
    pub fn at(self, image: Extent, device: &Device) -> Result<Self, SizeError> {
        let own = self.image();
        if image == own {
            return Ok(self);
        }
        let config = &self.config.model;
        if image.channels != own.channels {
            return Err(SizeError::Channels(own.channels));
        }
        if !config.fits_any_size() {
            return Err(SizeError::Fixed);
        }
        if image.height < own.height || image.width < own.width {
            return Err(SizeError::Smaller);
        }
        config.validate(image)?;
        let model = Model::new(config, image, self.variables.frozen(DType::F32, device))?.at_rest()?;
        Ok(Self { model, ..self })
    }

    /// Extent of the model's images.
    pub fn image(&self) -> Extent {
        self.model.image()
    }
}
