//! The weights that a training begins with, where those are of another run.

use super::{common, usage};
use anyhow::Context;
use multi_entity_vae::config::Config;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::run::{Checkpoint, Origin};
use multi_entity_vae::train::Trainer;
use std::path::{Path, PathBuf};

/// A checkpoint to begin with.
pub struct Start {
    run: String,
    checkpoint: Checkpoint,
}

impl Start {
    /// The best checkpoint of a run, or the very one that is named.
    pub fn open(run: &str) -> anyhow::Result<Self> {
        let checkpoint = common::load_checkpoint(Path::new(run), Ok);
        Ok(Self { run: run.into(), checkpoint: checkpoint.with_context(|| format!("cannot start from {run}"))? })
    }

    /// What a configuration asks for, if it fits; nothing where training begins with fresh weights.
    pub fn of(config: &Config, image: Extent) -> anyhow::Result<Option<Self>> {
        let Some(run) = config.training.start_from() else { return Ok(None) };
        let start = Self::open(run)?;
        start.check(config, image)?;
        Ok(Some(start))
    }

    pub fn config(&self) -> &Config {
        &self.checkpoint.config
    }

    /// Gives a fresh model these weights, and says which they are.
    pub fn give(self, trainer: &mut Trainer) -> anyhow::Result<Origin> {
        let Checkpoint { weights, progress, checksum, .. } = self.checkpoint;
        // Numbers of weights agree; should their names or shapes not, the reason is the trainer's.
        trainer.start_from(&weights).with_context(|| format!("cannot start from {}", self.run))?;
        Ok(Origin { step: progress.step, checksum })
    }

    /// Refuses weights of another model, as far as their number tells.
    fn check(&self, config: &Config, image: Extent) -> anyhow::Result<()> {
        let (theirs, ours) = (&self.checkpoint.config.model, &config.model);
        let there = self.checkpoint.weights.values().map(|tensor| tensor.elem_count()).sum::<usize>();
        let needed = ours.parameters(image);
        if there == needed {
            return Ok(());
        }
        let mut reasons = Vec::new();
        if self.checkpoint.image != image {
            reasons.push(format!("its images are {}, these {image}", self.checkpoint.image));
        }
        let parts = [
            ("encoder", theirs.encoder != ours.encoder),
            ("latent", theirs.latent != ours.latent),
            ("decoder", theirs.decoder != ours.decoder),
            ("compositor", theirs.compositor != ours.compositor),
        ];
        let changed = parts.iter().filter(|(_, differs)| *differs);
        reasons.extend(changed.map(|(part, _)| format!("its [model.{part}] is another")));
        Err(usage(format!(
            "the weights of {} ({there}) do not fit this model ({needed}): {}; leave that as it is there, or begin with \
             fresh weights",
            self.run,
            reasons.join(", ")
        )))
    }
}

/// The same path from wherever it is looked at.
pub fn absolute(run: &Path) -> anyhow::Result<String> {
    let absolute = std::path::absolute(run).with_context(|| format!("cannot start from {}", run.display()))?;
    let text = absolute.to_str().map(str::to_owned);
    text.ok_or_else(|| usage(format!("cannot start from {}: the path must be UTF-8", run.display())))
}

/// Lets a configuration name the run to start from so that it is the same from wherever it is looked at.
pub fn make_absolute(config: &mut Config) -> anyhow::Result<()> {
    if let Some(run) = config.training.start_from() {
        config.training.start_from = absolute(Path::new(run))?;
    }
    Ok(())
}

/// Refuses to begin with what would be overwritten.
pub fn check_apart(config: &Config, out: &Path) -> anyhow::Result<()> {
    let real = |path: &Path| -> Option<PathBuf> { path.canonicalize().ok() };
    let (Some(run), Some(out)) = (config.training.start_from().and_then(|run| real(Path::new(run))), real(out)) else {
        return Ok(());
    };
    match run.starts_with(&out) {
        true => Err(usage(format!("the weights to start from lie in {}; choose another --out", out.display()))),
        false => Ok(()),
    }
}
