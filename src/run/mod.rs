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

pub use checkpoint::{Checkpoint, CheckpointError, Progress};
pub use comparison::{Aspect, ComparisonError, Verdict, compare};
pub use data::{DataError, ScenesOf, open_digits};
pub use folder::{FolderError, RunFolder};
pub use lock::RunLock;
pub use maker::Maker;

use crate::config::Config;
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
}

impl LoadedRun {
    /// Loads a checkpoint's model.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: &Device) -> Result<Self, CheckpointError> {
        let Checkpoint { config, image, progress, weights, .. } = checkpoint;
        config.validate(*image).map_err(|e| checkpoint.damaged(e.to_string()))?;
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
        })
    }

    /// Extent of the model's images.
    pub fn image(&self) -> Extent {
        self.model.image()
    }
}
