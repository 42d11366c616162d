//! `mevae train`: what is to be trained, and where; [`Plan`] does it.

use super::common;
use super::compute::Compute;
use super::plan::Plan;
use super::progress::Talk;
use super::session::{Limits, Place};
use super::start::{self, Start};
use super::{interrupt, one_run, usage};
use anyhow::Context;
use multi_entity_vae::config::{Config, OnNonfinite, Preset};
use multi_entity_vae::files::{read_text, write_bytes_atomic};
use multi_entity_vae::run::{Checkpoint, FolderError, Progress, RunFolder, RunLock};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// autoencoder, vae, beta-vae or multi-entity
    #[arg(long, default_value = "multi-entity", value_parser = |s: &str| s.parse::<Preset>().map(|p| p.name()))]
    preset: &'static str,
    /// Start with the weights and the configuration of this run, or checkpoint file, instead of a preset
    #[arg(long, value_name = "RUN", conflicts_with = "preset")]
    from: Option<PathBuf>,
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
    /// Stop at a loss or gradient that is not finite, or skip its update [default: stop]
    #[arg(long, value_name = "stop|skip")]
    on_nonfinite: Option<OnNonfinite>,
    #[command(flatten)]
    compute: Compute,
    /// Folder of the run [default: a new one under runs/]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the run that is in --out
    #[arg(long)]
    overwrite: bool,
    /// Continue this run from its last checkpoint, or from the checkpoint file that is named
    #[arg(long, value_name = "RUN", conflicts_with_all = ["preset", "from", "config", "settings", "scenes", "digits", "entities", "steps", "batch", "seed", "out", "overwrite", "print_config"])]
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
    args.compute.use_threads()?;
    let resumed = args.resume.as_deref().map(Resumed::open).transpose()?;
    let mut config = match &resumed {
        Some(resumed) => resumed.config()?,
        None => resolve(&args)?,
    };
    // The one thing that may change in a run: as long as nothing was left out, it has made no difference.
    config.training.on_nonfinite = args.on_nonfinite.unwrap_or(config.training.on_nonfinite);
    if args.print_config {
        // Nothing is downloaded only to print.
        if config.data.digits == "builtin" {
            one_run::check(&config)?;
        }
        return common::print_all(config.to_toml().as_bytes());
    }
    let device = args.compute.open_device(args.quiet)?;
    let plan = Plan::open(config.clone(), resumed.as_ref().and_then(|r| r.checkpoint.as_ref()), device)?;
    interrupt::listen()?;
    // The folder last: what was refused so far leaves nothing behind.
    let place = match resumed {
        Some(resumed) => resumed.place(&config)?,
        None => new_place(&args, &config)?,
    };
    plan.carry_out(place, Limits { seconds: args.seconds, talk: Talk::unless(args.quiet), told_elsewhere: false })
}

/// A run to continue, in nobody else's hands.
pub struct Resumed {
    folder: RunFolder,
    lock: RunLock,
    /// Nothing where the run was stopped before its first checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

impl Resumed {
    /// Opens a run, or the run of a checkpoint that is named.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let named = common::is_checkpoint(path).then_some(path);
        let root = named.map_or(Some(path.to_path_buf()), common::run_of_checkpoint);
        let folder = RunFolder::open(root.as_deref().unwrap_or(path))?;
        let lock = folder.lock()?;
        folder.clean(&lock)?;
        let checkpoint = match named {
            Some(file) => Some(Checkpoint::load(file).context("cannot resume")?),
            None if folder.is_untouched() => {
                folder.remove_logs(&lock)?;
                None
            }
            None => Some(newest(&folder).context("cannot resume")?),
        };
        Ok(Self { folder, lock, checkpoint })
    }

    fn config(&self) -> anyhow::Result<Config> {
        if let Some(checkpoint) = &self.checkpoint {
            return Ok(checkpoint.config.clone());
        }
        let path = self.folder.config();
        let text = self.folder.config_text()?;
        Ok(Config::from_toml(&path.display().to_string(), &text)?)
    }

    /// Where the run goes on, with this configuration.
    pub fn place(self, config: &Config) -> anyhow::Result<Place> {
        let Self { folder, lock, checkpoint } = self;
        let text = config.to_toml();
        if std::fs::read(folder.config()).is_ok_and(|old| old != text.as_bytes()) {
            write_bytes_atomic(&folder.config(), text.as_bytes())?;
        }
        let Some(Checkpoint { path, mut progress, .. }) = checkpoint else {
            return Ok(Place { folder, lock, from: None });
        };
        let goes_back = path != folder.last();
        if goes_back {
            folder.go_back_to(&path, &lock)?;
        }
        progress.best = best_of(&folder, &lock, &progress, goes_back)?;
        Ok(Place { folder, lock, from: Some(progress) })
    }
}

/// The best validation that a run goes on with, and its checkpoint as it belongs to it.
fn best_of(
    folder: &RunFolder,
    lock: &RunLock,
    progress: &Progress,
    goes_back: bool,
) -> anyhow::Result<Option<(f64, u64)>> {
    let file = folder.best();
    match (Checkpoint::load(&file), progress.best) {
        // Its step will be taken again. It has been saved before the last one, between which two a run may be killed.
        (Ok(best), recorded) if best.progress.step > progress.step => {
            folder.give_up_best(lock)?;
            if goes_back {
                common::tell(&format!("{} of step {} is given up", file.display(), best.progress.step));
            }
            Ok(recorded)
        }
        (Ok(_), recorded) => Ok(recorded),
        (Err(_), None) => Ok(None),
        (Err(_), Some((nats, step))) if !file.exists() => {
            common::tell(&format!(
                "warning: {} is gone; the last one is used until a validation is better than that of step {step}",
                file.display()
            ));
            Ok(Some((nats, step)))
        }
        (Err(error), Some(_)) => {
            common::tell(&format!("warning: {error}\nThe best is sought anew among the validations to come."));
            Ok(None)
        }
    }
}

/// The last checkpoint; if it is damaged, the newest that is whole, which leads to the same end.
fn newest(folder: &RunFolder) -> anyhow::Result<Checkpoint> {
    let last = match folder.last().exists() {
        true => Checkpoint::load(&folder.last()).map_err(anyhow::Error::from),
        false => Err(FolderError::NoCheckpoint(folder.path().into()).into()),
    };
    last.or_else(|error| {
        let others = folder.all_checkpoints().into_iter().filter(|path| *path != folder.last());
        let whole = others.filter_map(|path| Checkpoint::load(&path).ok()).max_by_key(|c| c.progress.step);
        let Some(whole) = whole else { return Err(error) };
        let (step, path) = (whole.progress.step, whole.path.display());
        common::tell(&format!("warning: {error:#}\nGoing back to step {step}, {path}; the end will be the same."));
        Ok(whole)
    })
}

/// Preset, or the configuration of a run to start from < file < --set < the flags of their own.
fn resolve(args: &Args) -> anyhow::Result<Config> {
    let file = match &args.config {
        None => None,
        Some(path) => Some((path.display().to_string(), read_text(path, Config::MOST_BYTES)?)),
    };
    let mut settings = args.settings.clone();
    let mut flag = |key: &str, value: Option<String>| settings.extend(value.map(|value| format!("{key}={value}")));
    let quoted = |text: &str| toml::Value::String(text.into()).to_string();
    flag("data.scenes", args.scenes.as_deref().map(quoted));
    flag("data.digits", args.digits.as_deref().map(quoted));
    flag("model.entities", args.entities.map(|n| n.to_string()));
    flag("training.steps", args.steps.map(|n| n.to_string()));
    flag("training.batch", args.batch.map(|n| n.to_string()));
    flag("training.seed", args.seed.map(|n| n.to_string()));
    let file = file.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    let mut config = match &args.from {
        None => Config::resolve(args.preset.parse().map_err(usage)?, file, &settings).map_err(usage)?,
        Some(run) => {
            let run = start::absolute(run)?;
            let mut base = Start::open(&run)?.config().clone();
            base.training.start_from = run.clone();
            let config = base.with(file, &settings).map_err(usage)?;
            if config.training.start_from != run {
                return Err(usage("--from and training.start_from name two runs to start from: leave one of them out"));
            }
            config
        }
    };
    start::make_absolute(&mut config)?;
    Ok(config)
}

fn new_place(args: &Args, config: &Config) -> anyhow::Result<Place> {
    let (folder, lock) = match &args.out {
        Some(path) => {
            start::check_apart(config, path)?;
            RunFolder::create(path, args.overwrite, config)?
        }
        None => {
            let scenes = Path::new(&config.data.scenes).file_stem().unwrap_or_default().to_string_lossy();
            let begun = if args.from.is_some() { "tuned" } else { args.preset };
            RunFolder::numbered(&format!("{begun}-{scenes}"), config)?
        }
    };
    Ok(Place { folder, lock, from: None })
}
