//! `mevae info`

use super::common;
use anyhow::Context;
use candle_core::Device;
use multi_entity_vae::device::Choice;
use multi_entity_vae::evaluate::Report;
use multi_entity_vae::run::{Checkpoint, CheckpointError, RunFolder};
use multi_entity_vae::scene::Recipe;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a run; without it the program describes itself
    run: Option<PathBuf>,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let text = match args.run {
        None => about(),
        Some(path) => describe(&path)?,
    };
    common::print_all(text.as_bytes())
}

fn about() -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // `auto` cannot fail.
    let device = Choice::Auto.open().map_or_else(|e| e.to_string(), |opened| common::device_in_words(&opened));
    let feature = |on: bool| if on { "yes" } else { "no" };
    format!(
        "mevae {}\n  CPU threads    {threads}\n  CUDA support   {}\n  device, auto   {device}\n  hub downloads  {}\n  presets        autoencoder, vae, beta-vae, multi-entity\n  recipes        {}\n",
        env!("CARGO_PKG_VERSION"),
        feature(cfg!(feature = "cuda")),
        feature(cfg!(feature = "hub")),
        Recipe::ALL.map(Recipe::name).join(", "),
    )
}

fn describe(path: &Path) -> anyhow::Result<String> {
    let run = common::load_run(path, &Device::Cpu)?;
    let (rows, columns) = run.model.grid();
    let training = &run.config.training;
    // A checkpoint that was named stands for itself; a run is described by its best one and shows all of them.
    let folder = if common::is_checkpoint(path) { None } else { Some(RunFolder::open(path)?) };
    let last = folder.as_ref().and_then(|folder| Checkpoint::load(&folder.last()).ok());
    let progress = last.as_ref().map_or(&run.progress, |last| &last.progress);
    let mut text = format!(
        "{}\n  step           {} of {}, {:.0} s of training\n  parameters     {}\n  images         {} ({}, digits: {})\n  candidates     {} in a {rows}×{columns} grid, {} kept, {} latent dimensions\n",
        path.display(),
        progress.step,
        training.steps,
        progress.seconds,
        run.parameters,
        run.image(),
        run.config.data.scenes,
        run.config.data.digits,
        rows * columns,
        run.config.model.entities,
        run.config.model.latent.dimensions(),
    );
    if let (Some(start), Some(origin)) = (run.config.training.start_from(), &progress.origin) {
        text += &format!("  began with     the weights of {start}, step {}\n", origin.step);
    }
    if let Some((nats, step)) = progress.best {
        let of = if training.objective.importance().is_some() { "−log p(x) bound" } else { "−ELBO" };
        text += &format!("  best           {of} {nats:.2} nats in validation, at step {step}\n");
    }
    if progress.skipped.0 > 0 {
        text += &format!("  left out       {} updates whose loss or gradient was not finite\n", progress.skipped.0);
    }
    for maker in &progress.makers {
        text += &format!("  computed by    {maker}\n");
    }
    let Some(folder) = folder else { return Ok(text + &format!("\nconfiguration\n{}", run.config.to_toml())) };
    text += "\ncheckpoints\n";
    for file in folder.all_checkpoints() {
        text += &format!("  {:<60} {}\n", file.display().to_string(), state(&file));
    }
    let scores = folder.scores();
    if scores.exists() {
        let json = folder.scores_text()?;
        let report: Report = serde_json::from_str(&json).with_context(|| {
            format!("{} holds no scores; `mevae evaluate --json` writes them anew", scores.display())
        })?;
        text += &format!("\nevaluation.json\n{report}\n");
    }
    text += &format!("\nconfig.toml\n{}", run.config.to_toml());
    Ok(text)
}

/// The step of a checkpoint, or what is wrong with it.
fn state(file: &Path) -> String {
    match Checkpoint::load(file) {
        Ok(checkpoint) => format!("step {}", checkpoint.progress.step),
        Err(CheckpointError::Damaged { reason, .. }) => format!("damaged: {reason}"),
        Err(error) => error.to_string(),
    }
}
