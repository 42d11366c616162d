//! `mevae train`: resolve → open → train → evaluate → draw → say where to look.

use super::common::{self, DeviceChoice, final_selection};
use super::session::Session;
use super::{Stopped, evaluate, interrupt, pictures, usage};
use anyhow::Context;
use candle_core::{Device, Tensor};
use multi_entity_vae::config::{Config, Preset};
use multi_entity_vae::files::{FileError, write_bytes_atomic};
use multi_entity_vae::run::{Checkpoint, FolderError, LoadedRun, RunFolder, ScenesOf, open_digits};
use multi_entity_vae::scene::{Batches, Recipe, Split};
use multi_entity_vae::train::{Trainer, train};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// autoencoder, vae, beta-vae or multi-entity
    #[arg(long, default_value = "multi-entity", value_parser = |s: &str| s.parse::<Preset>().map(|p| p.name()))]
    preset: &'static str,
    /// TOML file over the preset
    #[arg(long)]
    config: Option<PathBuf>,
    /// One key over preset and file, as in training.batch=32; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Recipe (digits, air, survey, single, sprite, sprites, tetrominoes) or .npz file
    #[arg(long)]
    scenes: Option<String>,
    /// builtin, mnist, fashion-mnist or a folder of IDX files
    #[arg(long)]
    digits: Option<String>,
    /// K, the entities kept
    #[arg(long)]
    entities: Option<usize>,
    /// Optimiser steps
    #[arg(long)]
    steps: Option<u64>,
    /// Stop training after this many seconds (schedules still follow the steps)
    #[arg(long, allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// Images in a batch
    #[arg(long)]
    batch: Option<usize>,
    /// Seed of everything
    #[arg(long)]
    seed: Option<u64>,
    /// CPU threads [default: all]; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Folder of the run [default: a new one under runs/]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the run that is in --out
    #[arg(long)]
    overwrite: bool,
    /// Continue this run from its last checkpoint
    #[arg(long, value_name = "RUN", conflicts_with_all = ["preset", "config", "settings", "scenes", "digits", "entities", "steps", "batch", "seed", "out", "overwrite", "print_config"])]
    resume: Option<PathBuf>,
    /// Print the resolved configuration and stop
    #[arg(long)]
    print_config: bool,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if args.seconds.is_some_and(|s| s.is_nan() || s < 0.0) {
        return Err(usage("--seconds must not be negative"));
    }
    if args.overwrite && args.out.is_none() {
        return Err(usage("--overwrite replaces the run in --out: say which one"));
    }
    common::use_threads(args.threads)?;
    let resumed = args.resume.as_deref().map(resume).transpose()?;
    let config = match &resumed {
        Some((_, checkpoint)) => checkpoint.config.clone(),
        None => resolve(&args)?,
    };
    if args.print_config {
        return common::print_all(config.to_toml().as_bytes());
    }
    let device = args.device.open()?;
    let digits = open_digits(&config.data.digits)?;
    let scenes = ScenesOf::open(&config.data, digits.clone(), Split::Train, config.training.seed)?;
    let validation = ScenesOf::open(&config.data, digits.clone(), Split::Validation, config.training.seed)?;
    config.validate(scenes.image()).map_err(usage)?;

    let mut trainer = Trainer::new(config.clone(), scenes.image(), &device)?;
    if let Some((_, checkpoint)) = &resumed {
        trainer.restore(&checkpoint.weights, &checkpoint.optimiser, checkpoint.progress.step)?;
    }
    let (source, training) = (Arc::clone(&scenes.source), &config.training);
    let batches = Batches::new(source, training.batch, training.seed, trainer.steps(), config.data.fresh, 1)?;
    // The folder last: what was refused so far leaves nothing behind.
    let folder = match &resumed {
        Some((folder, _)) => folder.clone(),
        None => new_folder(&args, &config)?,
    };
    interrupt::listen()?;
    let mut session =
        Session::new(folder, &trainer, resumed.map(|(_, c)| c.progress), &validation, args.seconds, args.quiet)?;
    session.announce(&trainer, &device);
    optimise(&mut trainer, &mut session, batches, &scenes, &device)?;
    let done = match session.interrupted {
        true => Err(Stopped.into()),
        false => conclude(&session, &config, digits, &device, args.quiet),
    };
    if done.as_ref().is_err_and(|e| e.is::<Stopped>()) {
        let resume =
            format!("mevae train --resume {}", common::shell_word(&session.folder.path().display().to_string()));
        eprintln!("stopped at step {} and saved; continue with: {resume}", trainer.steps());
    }
    done
}

fn resume(path: &Path) -> anyhow::Result<(RunFolder, Checkpoint)> {
    let folder = RunFolder::open(path)?;
    if !folder.last().exists() {
        return Err(FolderError::NoCheckpoint(path.into())).context("cannot resume");
    }
    let checkpoint = Checkpoint::load(&folder.last()).context("cannot resume")?;
    Ok((folder, checkpoint))
}

/// Preset < file < --set < the flags of their own.
fn resolve(args: &Args) -> anyhow::Result<Config> {
    let preset: Preset = args.preset.parse().map_err(usage)?;
    let file = match &args.config {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(FileError::refused("read", path))?;
            Some((path.display().to_string(), text))
        }
    };
    let mut settings = args.settings.clone();
    let mut flag = |key: &str, value: Option<String>| settings.extend(value.map(|value| format!("{key}={value}")));
    flag("data.scenes", args.scenes.as_ref().map(|s| toml::Value::String(s.clone()).to_string()));
    flag("data.digits", args.digits.as_ref().map(|s| toml::Value::String(s.clone()).to_string()));
    flag("model.entities", args.entities.map(|n| n.to_string()));
    flag("training.steps", args.steps.map(|n| n.to_string()));
    flag("training.batch", args.batch.map(|n| n.to_string()));
    flag("training.seed", args.seed.map(|n| n.to_string()));
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    Config::resolve(preset, file, &settings).map_err(usage)
}

fn new_folder(args: &Args, config: &Config) -> anyhow::Result<RunFolder> {
    let folder = match &args.out {
        Some(path) => RunFolder::create(path, args.overwrite)?,
        None => {
            let scenes = Path::new(&config.data.scenes).file_stem().unwrap_or_default().to_string_lossy();
            RunFolder::numbered(&format!("{}-{scenes}", args.preset))?
        }
    };
    write_bytes_atomic(&folder.config(), config.to_toml().as_bytes())?;
    Ok(folder)
}

fn optimise(
    trainer: &mut Trainer,
    session: &mut Session<'_>,
    mut batches: Batches,
    scenes: &ScenesOf,
    device: &Device,
) -> anyhow::Result<()> {
    let batch = trainer.config().training.batch;
    let image = scenes.image();
    let next_batch = |_step: u64| -> anyhow::Result<Tensor> {
        let pixels = scenes.seen(batches.next().context("the scenes ended")?);
        Ok(Tensor::from_vec(pixels, (batch, image.height, image.width, image.channels), device)?)
    };
    let result = train(trainer, next_batch, |trainer, report| session.observe(trainer, report, device));
    session.finish(trainer, batches.throughput())?;
    result
}

/// Evaluates the best checkpoint on held-out scenes, draws the pictures and says where they are.
fn conclude(
    session: &Session<'_>,
    config: &Config,
    digits: Arc<multi_entity_vae::scene::DigitSet>,
    device: &Device,
    quiet: bool,
) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::load(&session.folder.checkpoint()?)?;
    let run = LoadedRun::from_checkpoint(&checkpoint, device)?;
    let scenes = ScenesOf::open(&config.data, digits, Split::Test, config.training.seed)?;
    let selection = final_selection(&config.model.selector, config.model.entities, config.training.seed);
    let report = evaluate::report(
        &run.model,
        &scenes,
        config.training.evaluation_scenes,
        selection,
        config.training.seed,
        device,
        interrupt::requested,
    )
    .map_err(|e| match e {
        evaluate::Failure::Stopped => anyhow::Error::from(Stopped),
        e => e.into(),
    })?;
    common::write_json(&session.folder.file("evaluation.json"), &report)?;
    let drawn = pictures::draw_all(session, &run, &scenes, selection, device)?;
    if quiet {
        return Ok(());
    }
    // A file of scenes has no splits: it was trained on.
    let recipe = config.data.scenes.parse::<Recipe>().is_ok();
    let scenes = if recipe { "Held-out scenes (test split)" } else { "The scenes of the file, which was trained on" };
    let mut text = format!("\n{scenes}, weights of step {}:\n{report}\n\n", run.progress.step);
    text += &format!("The run is in {}. Look at:\n", session.folder.path().display());
    for (file, what) in drawn {
        text += &format!("  {:<40} {what}\n", session.folder.file(file).display().to_string());
    }
    common::print_all(text.as_bytes())
}
