//! A training that can start: train → evaluate → draw → say where to look.

use super::common;
use super::progress::Talk;
use super::session::{Limits, Place, Session};
use super::start::Start;
use super::{Stopped, Usage, evaluate, interrupt, pictures, usage};
use anyhow::Context;
use candle_core::{Device, Tensor};
use multi_entity_vae::config::{Config, OnNonfinite};
use multi_entity_vae::device::Feed;
use multi_entity_vae::model::Selection;
use multi_entity_vae::run::{Checkpoint, LoadedRun, Origin, RunFolder, ScenesOf, open_digits};
use multi_entity_vae::scene::{Batches, DigitSet, Recipe, Split};
use multi_entity_vae::train::{TrainError, Trainer, train};
use std::sync::Arc;

/// Everything that a training needs but a folder.
pub struct Plan {
    config: Config,
    device: Device,
    digits: Arc<DigitSet>,
    scenes: ScenesOf,
    validation: ScenesOf,
    trainer: Trainer,
    batches: Batches,
    /// The weights that a fresh training begins with, where they are of another run.
    pub origin: Option<Origin>,
}

impl Plan {
    /// Opens the data and builds the model, at a checkpoint's state if there is one.
    pub fn open(config: Config, checkpoint: Option<&Checkpoint>, device: Device) -> anyhow::Result<Self> {
        let digits = open_digits(&config.data.digits)?;
        let open = |split| ScenesOf::open(&config.data, digits.clone(), split, config.training.seed);
        let (scenes, validation) = (open(Split::Train)?, open(Split::Validation)?);
        config.validate(scenes.image()).map_err(usage)?;
        let mut trainer = Trainer::new(config.clone(), scenes.image(), &device)?;
        let origin = match checkpoint {
            Some(Checkpoint { weights, optimiser, progress, .. }) => {
                trainer.restore(weights, optimiser, progress.steps())?;
                None
            }
            None => Start::of(&config, scenes.image())?.map(|start| start.give(&mut trainer)).transpose()?,
        };
        // A GPU uses up more scenes than one thread makes.
        let workers = if device.is_cpu() { 1 } else { rayon::current_num_threads().div_ceil(2) };
        let batches = scenes.batches(&config, trainer.steps(), workers)?;
        Ok(Self { config, device, digits, scenes, validation, trainer, batches, origin })
    }

    /// Trains, evaluates and draws. Whatever goes wrong on the way is told with how to go on.
    pub fn carry_out(self, place: Place, limits: Limits) -> anyhow::Result<()> {
        let folder = place.folder.clone();
        let policy = self.config.training.on_nonfinite;
        let as_it_is = |error: &anyhow::Error| limits.told_elsewhere || error.is::<Stopped>() || error.is::<Usage>();
        self.try_to_carry_out(place, limits).map_err(|error| match as_it_is(&error) {
            true => error,
            false => anyhow::anyhow!("{error:#}\n{}", way_on(&error, &folder, policy)),
        })
    }

    fn try_to_carry_out(mut self, place: Place, limits: Limits) -> anyhow::Result<()> {
        let Self { config, device, digits, scenes, validation, trainer, batches, origin } = &mut self;
        let mut session = Session::new(place, trainer, origin.take(), validation, device, limits)?;
        session.announce(trainer);
        optimise(trainer, &mut session, batches, scenes, device)?;
        let done = match session.interrupted {
            true => Err(Stopped.into()),
            false => conclude(&session, config, digits, device, limits.talk != Talk::All || limits.told_elsewhere),
        };
        // Stopped from outside, or by the time that was allowed.
        let stopped = match &done {
            Ok(()) => trainer.steps() < config.training.steps,
            Err(error) => error.is::<Stopped>(),
        };
        if !limits.told_elsewhere && stopped {
            let (resume, steps, all) = (resume_command(&session.folder), trainer.steps(), config.training.steps);
            common::tell(&format!("stopped at step {steps} of {all} and saved; continue with: {resume}"));
        }
        done
    }
}

/// The command that continues a run.
fn resume_command(folder: &RunFolder) -> String {
    format!("mevae train --resume {}", common::shell_word(&folder.path().display().to_string()))
}

/// What is left after an error, and what to do with it.
fn way_on(error: &anyhow::Error, folder: &RunFolder, policy: OnNonfinite) -> String {
    let resume = resume_command(folder);
    match Checkpoint::load(&folder.last()) {
        Err(_) if folder.path().exists() => format!("When that is mended, go on with: {resume}"),
        Err(_) => format!("{} is gone; train anew with `mevae train`", folder.path().display()),
        Ok(last) => {
            let mut text = format!("The run is saved up to step {} in {}. ", last.progress.step, last.path.display());
            text += &match error.downcast_ref::<TrainError>() {
                Some(TrainError::NonFinite { .. }) if policy == OnNonfinite::Stop => {
                    format!("To go on without the updates of such steps: {resume} --on-nonfinite skip")
                }
                Some(_) => "Train anew with other values.".into(),
                None => format!("When that is mended, go on with: {resume}"),
            };
            text
        }
    }
}

fn optimise(
    trainer: &mut Trainer,
    session: &mut Session<'_>,
    batches: &mut Batches,
    scenes: &ScenesOf,
    device: &Device,
) -> anyhow::Result<()> {
    session.catch_up(trainer)?;
    if session.interrupted {
        return Ok(());
    }
    let batch = trainer.config().training.batch;
    let image = scenes.image();
    let mut feed = Feed::new(device, (batch, image.height, image.width, image.channels))?;
    let next_batch = |_step: u64| -> anyhow::Result<Tensor> {
        Ok(feed.bring(scenes.seen(batches.next().context("the scenes ended")?))?)
    };
    let trained = train(trainer, next_batch, |trainer, report| session.observe(trainer, report));
    let finished = session.finish(trainer, batches.throughput());
    trained.and(finished)
}

/// Evaluates the best checkpoint on held-out scenes, draws the pictures and says where they are.
fn conclude(
    session: &Session<'_>,
    config: &Config,
    digits: &Arc<DigitSet>,
    device: &Device,
    quiet: bool,
) -> anyhow::Result<()> {
    let checkpoint = Checkpoint::load(&session.checkpoint()?)?;
    let run = LoadedRun::from_checkpoint(&checkpoint, device)?;
    let scenes = ScenesOf::open(&config.data, digits.clone(), Split::Test, config.training.seed)?;
    let selection = Selection::trained(&config.model, config.training.seed);
    let (count, seed) = (config.training.evaluation_scenes, config.training.seed);
    let importance_samples = config.training.objective.importance_samples();
    let model = &run.model;
    let grading =
        evaluate::Grading { model, scenes: &scenes, count, selection, refinement: 0, importance_samples, seed, device };
    let report = grading.report(interrupt::requested, |_, _| ()).map_err(|e| match e {
        evaluate::Failure::Stopped => anyhow::Error::from(Stopped),
        e => e.into(),
    })?;
    common::write_json(&session.folder.scores(), &report)?;
    let drawn = pictures::draw_all(session, &run, &scenes, selection, device)?;
    if quiet {
        return Ok(());
    }
    // A file of scenes has no splits: it was trained on.
    let recipe = config.data.scenes.parse::<Recipe>().is_ok();
    let scenes = if recipe { "Held-out scenes (test split)" } else { "The scenes of the file, which was trained on" };
    let mut text = format!("\n{scenes}, weights of step {}:\n{report}\n\n", run.progress.step);
    text += &format!("The run is in {}. Look at:\n", session.folder.path().display());
    let drawn = drawn.into_iter().map(|(file, what)| (session.folder.file(file).display().to_string(), what));
    let drawn: Vec<_> = drawn.collect();
    let width = drawn.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0);
    for (path, what) in drawn {
        text += &format!("  {path:width$}  {what}\n");
    }
    common::print_all(text.as_bytes())
}
