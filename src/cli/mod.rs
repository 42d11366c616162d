//! The command line: parse → build → run → print, one file a verb.

mod common;
mod completions;
mod compute;
mod decompose;
mod disentanglement;
mod edit;
mod evaluate;
mod generate;
mod info;
mod interrupt;
mod one_run;
mod pictures;
mod plan;
mod plot;
mod probe;
mod progress;
mod reproduce;
mod scene_flags;
mod scenes;
mod session;
mod start;
mod study;
mod sweep;
mod train;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use multi_entity_vae::layers::Instructions;
use std::process::ExitCode;

/// Multi-entity variational autoencoders: train them, grade them, and take scenes apart.
#[derive(Debug, Parser)]
#[command(name = "mevae", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model (with no option: the multi-entity VAE on the built-in scenes) and evaluate it
    Train(train::Args),
    /// Grade a trained run on held-out scenes
    Evaluate(evaluate::Args),
    /// Take pictures or scenes apart into their entities
    Decompose(decompose::Args),
    /// Change the entities of a scene (remove, move, copy, exchange, set a latent) and decode it again
    Edit(edit::Args),
    /// Score how well the latents of trained runs tell the factors of single sprites apart
    Disentanglement(disentanglement::Args),
    /// Draw new scenes or images from a trained run
    Generate(generate::Args),
    /// Read class and place of objects off the latents of trained runs by linear probes
    Probe(probe::Args),
    /// Draw a picture of a trained run
    Plot(plot::Args),
    /// Say what a run is, or (without one) what this program is
    Info(info::Args),
    /// Train a finished run again from its configuration and compare
    Reproduce(reproduce::Args),
    /// Write scenes with their ground truth as a NumPy archive
    Scenes(scenes::Args),
    /// Walk from the autoencoder to the β-VAE: train, measure, draw and tell it on one page
    Study(study::Args),
    /// Train every combination of a grid of configurations and put their scores in one table
    Sweep(sweep::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Wrong use, as opposed to failure: exit code 2 and a pointer to the help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Ended from outside, as by Ctrl-C, in good order.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stopped;

/// Wrong use, with this message.
fn usage(message: impl std::fmt::Display) -> anyhow::Error {
    Usage(message.to_string()).into()
}

pub fn main() -> ExitCode {
    // clap prints its own errors and help, and exits with 2 and 0.
    // A negative number is a value that may be out of range, never a flag.
    let matches = Cli::command().mut_subcommands(|verb| verb.allow_negative_numbers(true)).get_matches();
    let verb = matches.subcommand_name().unwrap_or_default().to_string();
    let command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    if let Err(error) = Instructions::in_use() {
        common::tell(&format!("error: {error}"));
        return ExitCode::from(2);
    }
    let done = match command {
        Command::Train(args) => train::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Decompose(args) => decompose::run(args),
        Command::Disentanglement(args) => disentanglement::run(args),
        Command::Edit(args) => edit::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Info(args) => info::run(args),
        Command::Reproduce(args) => reproduce::run(args),
        Command::Scenes(args) => scenes::run(args),
        Command::Study(args) => study::run(args),
        Command::Sweep(args) => sweep::run(args),
        Command::Completions(args) => completions::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Stopped>() => ExitCode::from(130),
        Err(error) if error.is::<Usage>() => {
            common::tell(&format!("error: {error}\n\nFor more information, try 'mevae {verb} --help'."));
            ExitCode::from(2)
        }
        Err(error) => {
            common::tell(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
