//! `mevae reproduce`: a finished run once more, and whether it comes out the same.

use super::common;
use super::compute::Compute;
use super::interrupt;
use super::plan::Plan;
use super::progress::Talk;
use super::session::{Limits, Place};
use anyhow::Context;
use multi_entity_vae::config::Config;
use multi_entity_vae::run::{Checkpoint, FolderError, Maker, RunFolder, Verdict, compare};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a finished run
    run: PathBuf,
    /// Folder for the run that is compared with it [default: a temporary one]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
    /// Print nothing but the comparison
    #[arg(long)]
    quiet: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    args.compute.use_threads()?;
    let original = RunFolder::open(&args.run)?;
    let last = Checkpoint::load(&original.last())?;
    let (step, steps) = (last.progress.step, last.config.training.steps);
    if step < steps || last.progress.validation_due {
        let resume = common::shell_word(&args.run.display().to_string());
        anyhow::bail!(
            "the run is not finished, it is at step {step} of {steps}; go on with: mevae train --resume {resume}"
        );
    }
    let path = original.config();
    let config = Config::from_toml(&path.display().to_string(), &original.config_text()?)?;
    let device = args.compute.open_device(args.quiet)?;
    let here = Maker::here(&device);
    let mut excuses = Vec::new();
    if last.progress.makers.iter().any(|maker| *maker != here) {
        let makers: Vec<String> = last.progress.makers.iter().map(Maker::to_string).collect();
        excuses.push(format!("the run was computed by {}; here computes {here}", makers.join("; and by ")));
    } else if last.progress.makers.is_empty() {
        excuses.push("the run is of an earlier version, which did not record what computed it".into());
    }
    if config != last.config {
        excuses.push(format!("{} is not the configuration that the run was trained with", path.display()));
    }
    let plan = Plan::open(config.clone(), None, device)?;
    if plan.origin != last.progress.origin {
        excuses.push(format!("the weights of {} are not those that the run began with", config.training.start_from));
    }
    interrupt::listen()?;
    // Kept until the comparison is done.
    let (out, _temporary) = match &args.out {
        Some(out) => (out.clone(), None),
        None => {
            let folder = tempfile::tempdir().context("cannot make a temporary folder; name one with --out")?;
            (folder.path().join("run"), Some(folder))
        }
    };
    let (folder, lock) = RunFolder::create(&out, false, &config).map_err(|e| match e {
        FolderError::Occupied(path) => anyhow::anyhow!("{} already holds a run; choose another --out", path.display()),
        e => e.into(),
    })?;
    let limits = Limits { seconds: None, talk: Talk::unless(args.quiet), told_elsewhere: args.out.is_none() };
    plan.carry_out(Place { folder: folder.clone(), lock, from: None }, limits)?;

    let aspects = compare(&original, &folder)?;
    for aspect in &aspects {
        common::say(aspect.to_string())?;
    }
    if !aspects.iter().any(|aspect| matches!(aspect.verdict, Verdict::Different(_))) {
        return Ok(());
    }
    let why = match excuses.is_empty() {
        true => "program, system, instructions and configuration are the same: data that changed, or a fault".into(),
        false => format!("a possible reason: {}", excuses.join(", and ")),
    };
    Err(anyhow::anyhow!("{} does not come out the same; {why}", args.run.display()))
}
