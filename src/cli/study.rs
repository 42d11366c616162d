//! `mevae study`: the walk from the autoencoder to the β-VAE, trained, measured and told on one page.

mod draw;
mod measure;
mod page;
mod plan;
mod story;

use super::common;
use super::compute::Compute;
use super::progress::Talk;
use super::session::Limits;
use super::{Stopped, interrupt, one_run, usage};
use candle_core::Device;
use measure::Measured;
use multi_entity_vae::config::Config;
use multi_entity_vae::files::{FileError, read_text, write_bytes_atomic};
use multi_entity_vae::run::RunFolder;
use plan::{Plan, Planned};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the study; one that was begun with the same options is gone on with
    #[arg(long)]
    out: PathBuf,
    /// Train every model for 100 epochs, as the thesis does, instead of a few
    #[arg(long)]
    full: bool,
    /// Seed of everything
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One key of every model's configuration over the study's own, as in training.steps=100; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    compute: Compute,
    /// Print nothing but errors
    #[arg(long)]
    quiet: bool,
}

/// What a study is, as it is written down in its folder: whoever goes on with it must mean the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Options {
    full: bool,
    seed: u64,
    settings: Vec<String>,
}

/// The file that tells a study's folder from any other.
const MARK: &str = "study.toml";

pub fn run(args: Args) -> anyhow::Result<()> {
    args.compute.use_threads()?;
    let options = Options { full: args.full, seed: args.seed, settings: args.settings.clone() };
    let plan = Plan::new(&options).map_err(usage)?;
    let talk = if args.quiet { Talk::Nothing } else { Talk::Bar };
    let sitting = Sitting {
        device: args.compute.open_device(args.quiet)?,
        limits: Limits { seconds: None, talk, told_elsewhere: true },
        command: command(&args.out, &options),
    };
    for model in plan.models() {
        one_run::check(&model.config).map_err(|e| usage(format!("{}: {e:#}", model.name)))?;
    }
    enter(&args.out, &options)?;
    interrupt::listen()?;
    let tell = |line: String| {
        if !args.quiet {
            common::tell(&line);
        }
    };
    let mut measured = Vec::new();
    let models: Vec<_> = plan.models().collect();
    for (number, model) in (1..).zip(&models) {
        let steps = model.config.training.steps;
        tell(format!("[{number}/{}] {}: {}, {steps} steps", models.len(), model.name, model.title));
        go_on(&sitting)?;
        let folder = carry_out(&args.out, model, &sitting)?;
        let one = Measured::of(model, &folder, &sitting.device)?;
        tell(format!("        {}", one.in_words()));
        measured.push(one);
    }
    let study = story::Study { options: &options, command: command(&args.out, &options), plan: &plan, measured };
    tell("drawing".into());
    draw::all(&study, &args.out, &sitting)?;
    common::write_json(&args.out.join("study.json"), &study.figures())?;
    let page = story::page(&study);
    let write = |name: &str, text: String| write_bytes_atomic(&args.out.join(name), text.as_bytes());
    write("study.md", page.markdown())?;
    write("study.html", page.html(&args.out)?)?;
    match args.quiet {
        true => Ok(()),
        false => common::say(format!(
            "{} tells the story; study.md, study.json and the pictures lie beside it, the runs in {}",
            args.out.join("study.html").display(),
            args.out.join("runs").display()
        )),
    }
}

/// How a study is carried out.
struct Sitting {
    device: Device,
    limits: Limits,
    /// What goes on with it after an interruption.
    command: String,
}

/// Trains a model, or what is left of its training; a run that is done is left as it is.
fn carry_out(out: &Path, model: &Planned, sitting: &Sitting) -> anyhow::Result<RunFolder> {
    let path = out.join("runs").join(&model.name);
    let done = one_run::carry_out(&path, &model.config, &sitting.device, sitting.limits);
    done.map_err(|error| match error.is::<Stopped>() {
        true => stopped(sitting),
        false => error,
    })
}

/// Makes the study's folder, or finds that it is one that can be gone on with.
fn enter(out: &Path, options: &Options) -> anyhow::Result<()> {
    let mark = out.join(MARK);
    let name = out.display();
    if let Ok(text) = read_text(&mark, Config::MOST_BYTES) {
        return match toml::from_str::<Options>(&text) {
            Ok(found) if found == *options => Ok(()),
            Ok(found) => anyhow::bail!(
                "{name} holds a study with other options; go on with it by `{}`, or choose another --out",
                command(out, &found)
            ),
            Err(_) => anyhow::bail!("{} was not written by this program; choose another --out", mark.display()),
        };
    }
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        anyhow::bail!("{name} is not empty and holds no study, so nothing is written there; choose another --out");
    }
    std::fs::create_dir_all(out).map_err(FileError::refused("create", out))?;
    Ok(write_bytes_atomic(&mark, toml::to_string(options)?.as_bytes())?)
}

/// The command that makes, or goes on with, a study.
fn command(out: &Path, options: &Options) -> String {
    let mut line = format!("mevae study --out {}", common::shell_word(&out.display().to_string()));
    if options.full {
        line += " --full";
    }
    line += &format!(" --seed {}", options.seed);
    for setting in &options.settings {
        line += &format!(" --set {}", common::shell_word(setting));
    }
    line
}

/// Stops between two pieces of work if that is wanted.
fn go_on(sitting: &Sitting) -> anyhow::Result<()> {
    if interrupt::requested() { Err(stopped(sitting)) } else { Ok(()) }
}

/// Says how to go on after an interruption.
fn stopped(sitting: &Sitting) -> anyhow::Error {
    common::tell(&format!("stopped and saved; continue with: {}", sitting.command));
    Stopped.into()
}
