//! Weights, optimiser and everything else that a run needs to go on, in one safetensors file.
//!
//! Tensors are named after the module tree: `model.encoder.0.weight`, … and, for the optimiser, `adam.mean.encoder.0.weight`,
//! `adam.square.encoder.0.weight`, …. All randomness of a run is a function of its seed and the step, so the step is the state
//! of every generator. The metadata holds the format's version, the resolved configuration, the image's extent, the progress, what
//! the weights were computed with ([`Maker`]) and a checksum over all of it, which is compared whenever a file is read.

use super::checksum::{ENTRY, checksum};
use super::maker::Maker;
use crate::config::Config;
use crate::files::{FileError, read_whole, write_bytes_atomic};
use crate::layers::Extent;
use crate::train::{Steps, Trainer};
use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Version of the file format. A reader refuses what is newer. Format 1 had no checksum, no makers and no count of steps that were
/// left out; it is still read.
const FORMAT: u32 = 2;
/// No checkpoint of a sane model is larger; the limit keeps a mistaken path from being read into memory.
const MOST_BYTES: u64 = 4 << 30;

/// What the names of event files begin with.
const EVENTS: &str = "events.out.tfevents.";

/// How far training had come, and where its logs stood.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps done without an update, and how many of them in a row at the end.
    #[serde(default)]
    pub skipped: (u64, u64),
    /// Seconds of training so far, over all sittings.
    pub seconds: f64,
    /// The lowest loss in validation so far, and its step: −ELBO, or minus the bound that IWAE and DReG are trained on.
    pub best: Option<(f64, u64)>,
    /// Length of `metrics.jsonl` in bytes.
    pub metrics_bytes: u64,
    /// Length of the event file in bytes.
    pub events_bytes: u64,
    /// Name of the event file.
    pub events_file: String,
    /// Whether this step's validation is still to be made, because the training was stopped first.
    #[serde(default)]
    pub validation_due: bool,
    /// What computed the weights, one entry for each kind of sitting.
    #[serde(default)]
    pub makers: Vec<Maker>,
    /// The weights that training began with, where they were of another run.
    #[serde(default)]
    pub origin: Option<Origin>,
}

/// Which weights of another run a training began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Steps behind them.
    pub step: u64,
    /// The checksum of their checkpoint, which the first format has none of.
    pub checksum: Option<String>,
}

impl Progress {
    /// The steps behind a trainer that continues from here.
    pub fn steps(&self) -> Steps {
        Steps { done: self.step, skipped: self.skipped.0, in_a_row: self.skipped.1 }
    }
}

impl Progress {
    /// Whether the event file is one in the run's folder: it is cut to its length when the run is resumed.
    fn stays_in_its_folder(&self) -> bool {
        let name = &self.events_file;
        name.is_empty() || (name.starts_with(EVENTS) && !name.contains(['/', '\\']))
    }
}

/// A checkpoint in memory.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where it was read from.
    pub path: PathBuf,
    /// The run's resolved configuration.
    pub config: Config,
    /// Extent of the model's images.
    pub image: Extent,
    /// How far training had come.
    pub progress: Progress,
    /// The file's checksum; files of the first format have none.
    pub checksum: Option<String>,
    /// The weights by name.
    pub weights: HashMap<String, Tensor>,
    /// The optimiser's state by name.
    pub optimiser: HashMap<String, Tensor>,
}

/// Why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is a file, but not one of ours, or not a whole one.
    #[error("{} is no usable checkpoint: {reason}; put a whole copy in its place, use another checkpoint of the run (`mevae info` lists them), or train anew with `mevae train`", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Whole, but with a configuration that this version of the program does not have.
    #[error("{} cannot be used, {reason}; use the version of mevae that wrote it, or train anew with `mevae train`", .path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// From a later version of the program.
    #[error("{} has format {found}, this program reads up to format {FORMAT}: update mevae", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Weights that would only spoil what is there.
    #[error("step {step}: the tensor {tensor} holds {value}, so nothing was saved over {}", .path.display())]
    NonFinite {
        /// The file that stays as it is.
        path: PathBuf,
        /// Steps done.
        step: u64,
        /// A tensor of the model or the optimiser.
        tensor: String,
        /// NaN or ±∞.
        value: f64,
    },
}

impl Checkpoint {
    /// Writes a trainer's state, after checking that every number in it is one. The file is the old one until the new one is on
    /// the disk and was read back; no moment shows a part of it.
    pub fn save(path: &Path, trainer: &Trainer, progress: &Progress) -> Result<(), CheckpointError> {
        let json = |value: Result<String, serde_json::Error>| value.map_err(|e| damaged(path, e.to_string()));
        let image = trainer.model().image();
        let mut metadata = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("config".to_string(), trainer.config().to_toml()),
            ("image".to_string(), json(serde_json::to_string(&image))?),
            ("progress".to_string(), json(serde_json::to_string(progress))?),
        ]);
        let weights = trainer.variables().all().into_iter().map(|(n, v)| (format!("model.{n}"), v.as_tensor().clone()));
        let optimiser = trainer.adam().state().into_iter().map(|(n, t)| (format!("adam.{n}"), t));
        let tensors: Vec<(String, Tensor)> = weights.chain(optimiser).collect();
        let data: Vec<_> = tensors.iter().map(|(_, tensor)| tensor.data()).collect();
        let mut views = Vec::with_capacity(tensors.len());
        for ((name, tensor), data) in tensors.iter().zip(&data) {
            let view = TensorView::new(View::dtype(tensor), tensor.dims().to_vec(), data);
            views.push((name.as_str(), view.map_err(|e| damaged(path, e.to_string()))?));
        }
        if let Some((tensor, value)) =
            views.iter().find_map(|(name, view)| Some((name.to_string(), first_non_finite(view)?)))
        {
            return Err(CheckpointError::NonFinite { path: path.into(), step: progress.step, tensor, value });
        }
        metadata.insert(ENTRY.to_string(), checksum(&metadata, &views));
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| damaged(path, e.to_string()))?;
        Ok(write_bytes_atomic(path, &bytes)?)
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        Self::from_bytes(path, &read_whole(path, MOST_BYTES)?)
    }

    /// Checks a file's content; `path` stands for it in errors.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let reason = |e: &dyn std::fmt::Display| damaged(path, e.to_string());
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| reason(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry =
            |key: &str| metadata.get(key).ok_or_else(|| damaged(path, format!("its metadata has no \"{key}\"")));
        let format: u32 = entry("format")?.parse().map_err(|_| damaged(path, "its format is no number".into()))?;
        if format > FORMAT {
            return Err(CheckpointError::Newer { path: path.into(), found: format });
        }
        let contents = SafeTensors::deserialize(bytes).map_err(|e| reason(&e))?;
        if format != 1 {
            let tensors: Vec<_> = contents.iter().collect();
            if *entry(ENTRY)? != checksum(&metadata, &tensors) {
                return Err(damaged(path, "its checksum does not fit, so it has changed since it was written".into()));
            }
        }
        let config = Config::from_toml("its configuration", entry("config")?)
            .map_err(|e| CheckpointError::Configuration { path: path.into(), reason: e.to_string() })?;
        let image: Extent = serde_json::from_str(entry("image")?).map_err(|e| reason(&e))?;
        let progress: Progress = serde_json::from_str(entry("progress")?).map_err(|e| reason(&e))?;
        if !progress.stays_in_its_folder() {
            return Err(damaged(path, format!("it names {:?} as its event file", progress.events_file)));
        }
        let mut weights = HashMap::new();
        let mut optimiser = HashMap::new();
        for (name, tensor) in candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|e| reason(&e))? {
            match (name.strip_prefix("model."), name.strip_prefix("adam.")) {
                (Some(name), _) => weights.insert(name.to_string(), tensor),
                (_, Some(name)) => optimiser.insert(name.to_string(), tensor),
                _ => return Err(damaged(path, format!("tensor \"{name}\" belongs to nothing"))),
            };
        }
        let checksum = metadata.get(ENTRY).cloned();
        Ok(Self { path: path.into(), config, image, progress, checksum, weights, optimiser })
    }

    pub(super) fn damaged(&self, reason: String) -> CheckpointError {
        damaged(&self.path, reason)
    }
}

fn damaged(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Damaged { path: path.into(), reason }
}

/// The first number that is none. Every tensor of a checkpoint is of this type.
fn first_non_finite(view: &TensorView<'_>) -> Option<f64> {
    let numbers = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let mut numbers = numbers.filter(|_| view.dtype() == Dtype::F32);
    numbers.find(|number| !number.is_finite()).map(f64::from)
}
