//! One run of several: trained to its end, gone on with where it was left, or left alone where it is done.

use super::plan::Plan;
use super::session::{Limits, Place};
use super::start::Start;
use super::train::Resumed;
use super::usage;
use candle_core::Device;
use multi_entity_vae::config::Config;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::run::{Checkpoint, RunFolder, ScenesOf, open_digits};
use multi_entity_vae::scene::{BatchesError, Split};
use std::path::Path;

/// Refuses what cannot be trained, before anything is written.
pub fn check(config: &Config) -> anyhow::Result<()> {
    Start::of(config, image(config)?)?;
    Ok(())
}

/// The images that it is to be trained on; refuses a configuration that does not fit them.
pub fn image(config: &Config) -> anyhow::Result<Extent> {
    let Config { data, training, .. } = config;
    let scenes = ScenesOf::open(data, open_digits(&data.digits)?, Split::Train, training.seed)?;
    config.validate(scenes.image()).map_err(usage)?;
    if data.fresh && !scenes.source.endless() {
        return Err(BatchesError::NotEndless(data.scenes.clone()).into());
    }
    Ok(scenes.image())
}

/// Trains a configuration in a folder, or what is left of its training.
pub fn carry_out(path: &Path, config: &Config, device: &Device, limits: Limits) -> anyhow::Result<RunFolder> {
    let resumed = match RunFolder::open(path) {
        Ok(folder) if is_done(&folder, config)? => return Ok(folder),
        Ok(_) => Some(Resumed::open(path)?),
        Err(_) => None,
    };
    let checkpoint = resumed.as_ref().and_then(|resumed| resumed.checkpoint.as_ref());
    let plan = Plan::open(config.clone(), checkpoint, device.clone())?;
    let place = match resumed {
        Some(resumed) => resumed.place(config)?,
        None => {
            let (folder, lock) = RunFolder::create(path, false, config)?;
            Place { folder, lock, from: None }
        }
    };
    plan.carry_out(place, limits)?;
    Ok(RunFolder::open(path)?)
}

/// Whether a run was trained to its end and evaluated. One of another configuration is an error.
pub fn is_done(folder: &RunFolder, config: &Config) -> anyhow::Result<bool> {
    // Not by their texts: an older one lacks the keys that have come since.
    if Config::from_toml(&folder.path().display().to_string(), &folder.config_text()?)? != *config {
        let path = folder.path().display();
        anyhow::bail!(
            "{path} holds a run with another configuration than the one to be made there; choose another --out"
        );
    }
    let written = folder.last().exists() && folder.scores().exists() && folder.file("curves.svg").exists();
    Ok(written && Checkpoint::load(&folder.last())?.progress.step >= config.training.steps)
}
