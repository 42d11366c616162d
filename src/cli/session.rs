//! One sitting of training: what observes the loop. Shows progress, validates, logs, saves, and says when to stop.

use super::progress::{Progress as Bar, Talk};
use super::{evaluate, interrupt};
use candle_core::Device;
use multi_entity_vae::config::{Config, ImportanceSamples, Latent, Objective};
use multi_entity_vae::device;
use multi_entity_vae::evaluate::Report;
use multi_entity_vae::files::FileError;
use multi_entity_vae::model::{Model, Selection};
use multi_entity_vae::picture::curves::{CurvePoint, points_of_metrics};
use multi_entity_vae::run::{Checkpoint, FolderError, Maker, Origin, Progress, RunFolder, RunLock, ScenesOf};
use multi_entity_vae::scene::Throughput;
use multi_entity_vae::train::log::{EventLog, MetricsLog};
use multi_entity_vae::train::{Flow, StepReport, Trainer};
use serde::Serialize;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::time::Instant;

/// The observer of a training.
pub struct Session<'a> {
    pub folder: RunFolder,
    /// Whether a signal ended the training.
    pub interrupted: bool,
    /// Keeps other trainings out of the folder.
    _lock: RunLock,
    /// The step of the last checkpoint, where that is known to be whole.
    saved: Option<u64>,
    /// Whether the validation of the step at hand is still to be made.
    validation_due: bool,
    /// What computed the weights so far.
    makers: Vec<Maker>,
    /// The weights that training began with, where they were of another run.
    origin: Option<Origin>,
    /// Updates left out so far, as far as they were told.
    skipped: u64,
    validation: &'a ScenesOf,
    device: &'a Device,
    metrics: MetricsLog,
    events: EventLog,
    bar: Bar,
    started: Instant,
    seconds_before: f64,
    first_step: u64,
    seconds_allowed: Option<f64>,
    best: Option<(f64, u64)>,
    shown: Shown,
    /// log C(N, K), what the location costs: part of every −ELBO of a model that places its entities.
    location_nats: f64,
    talk: Talk,
}

/// Where a sitting takes place.
pub struct Place {
    pub folder: RunFolder,
    pub lock: RunLock,
    /// The run's last checkpoint, which it continues; nothing for a new run.
    pub from: Option<Progress>,
}

/// What the user allows a sitting.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Seconds of training.
    pub seconds: Option<f64>,
    pub talk: Talk,
    /// Where to look and how to go on is for somebody else to say: the folder will be gone afterwards, or is one of several.
    pub told_elsewhere: bool,
}

/// What the bar says between validations: running means, so that it does not flicker.
#[derive(Default)]
struct Shown {
    loss: f64,
    reconstruction: f64,
    kl: f64,
    /// What is added to the loss beside the ELBO: idle KL, charge and resynthesis.
    regularisers: f64,
    count_accuracy: Option<f64>,
}

/// A line of metrics.jsonl.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Row<'a> {
    Step {
        #[serde(flatten)]
        report: &'a StepReport,
        seconds: f64,
    },
    Validation {
        step: u64,
        seconds: f64,
        #[serde(flatten)]
        report: &'a Report,
    },
}

impl<'a> Session<'a> {
    /// Starts or continues a run's logs. A new run is saved before its first step, so that there is always something to continue.
    pub fn new(
        place: Place,
        trainer: &Trainer,
        origin: Option<Origin>,
        validation: &'a ScenesOf,
        device: &'a Device,
        limits: Limits,
    ) -> anyhow::Result<Self> {
        let Place { folder, lock, from } = place;
        let saved = from.as_ref().map(|before| before.step);
        let (metrics, events) = match &from {
            None => (MetricsLog::create(&folder.metrics())?, EventLog::create(folder.path(), "mevae")?),
            Some(before) => (
                MetricsLog::resume_at(&folder.metrics(), before.metrics_bytes)?,
                EventLog::resume_at(&folder.file(&before.events_file), before.events_bytes)?,
            ),
        };
        let before = from.unwrap_or_default();
        let mut makers = before.makers;
        let here = Maker::here(device);
        if !makers.contains(&here) {
            makers.push(here);
        }
        let mut session = Self {
            bar: Bar::new(trainer.config().training.steps, trainer.steps(), limits.talk),
            folder,
            interrupted: false,
            _lock: lock,
            saved,
            validation_due: before.validation_due,
            makers,
            origin: before.origin.or(origin),
            skipped: before.skipped.0,
            validation,
            device,
            metrics,
            events,
            started: Instant::now(),
            seconds_before: before.seconds,
            first_step: trainer.steps(),
            seconds_allowed: limits.seconds,
            best: before.best,
            shown: Shown::default(),
            location_nats: trainer.model().location_nats(trainer.config().model.entities),
            talk: limits.talk,
        };
        if saved.is_none() {
            session.save(trainer)?;
        }
        Ok(session)
    }

    /// What is about to be trained on what.
    pub fn announce(&self, trainer: &Trainer) {
        if self.talk != Talk::All {
            return;
        }
        let config = trainer.config();
        let (rows, columns) = trainer.model().grid();
        let entities = match rows * columns {
            1 => "one latent an image".into(),
            n => format!("{n} candidates, {} kept", config.model.entities),
        };
        let start = match (trainer.steps(), config.training.start_from(), &self.origin) {
            (0, Some(run), Some(origin)) => format!("from the weights of {run}, step {}, ", origin.step),
            (0, ..) => String::new(),
            (step, ..) => format!("from step {step} on, of "),
        };
        let apart = config.training.apart;
        let easier = if apart.range().1 > 0.0 { format!(", share with objects apart {apart}") } else { String::new() };
        self.bar.line(&format!(
            "training {} parameters on {} scenes ({}{easier}): {}, {}; {start}{} steps of {} images on {}, seed {}",
            trainer.variables().count(),
            config.data.scenes,
            trainer.model().image(),
            entities,
            weights_in_words(trainer),
            config.training.steps,
            config.training.batch,
            self.device_in_words(),
            config.training.seed,
        ));
        let here = Maker::here(self.device);
        let others: Vec<String> = self.makers.iter().filter(|maker| **maker != here).map(Maker::to_string).collect();
        if !others.is_empty() {
            self.bar.line(&format!(
                "earlier sittings were computed by {}, this one by {here}: last bits may differ from an unbroken run's",
                others.join("; and by ")
            ));
        }
    }

    /// What computes: "2 CPU threads (avx512)", "cuda:0 (NVIDIA H100 80GB HBM3)".
    fn device_in_words(&self) -> String {
        match self.device {
            Device::Cpu => {
                let threads = rayon::current_num_threads();
                let plural = if threads == 1 { "" } else { "s" };
                format!("{threads} CPU thread{plural} ({})", device::model(self.device))
            }
            other => device::name(other),
        }
    }

    /// Makes the validation that an earlier sitting was stopped before.
    pub fn catch_up(&mut self, trainer: &Trainer) -> anyhow::Result<()> {
        if self.validation_due {
            self.validate(trainer)?;
            self.save(trainer)?;
        }
        self.interrupted = interrupt::requested();
        Ok(())
    }

    /// After every step.
    pub fn observe(&mut self, trainer: &Trainer, report: &StepReport) -> anyhow::Result<Flow> {
        if report.gradient_norm.is_finite() {
            let mix = if report.step == self.first_step + 1 { 1.0 } else { 0.05 };
            let beside = report.idle_nats + report.charge_nats + report.resynthesis_nats;
            let Shown { loss, reconstruction, kl, regularisers, .. } = &mut self.shown;
            let now = [report.loss, report.reconstruction_nats, report.kl_nats, beside];
            for (shown, now) in [loss, reconstruction, kl, regularisers].into_iter().zip(now) {
                *shown += mix * (now - *shown);
            }
        }
        self.bar.step(report.step, || self.message(trainer, report));
        self.tell_skips(report);
        let training = &trainer.config().training;
        if report.step.is_multiple_of(training.log_every) {
            self.metrics.append(&Row::Step { report, seconds: self.seconds() })?;
            self.log_scalars(report)?;
        }
        let last = report.step == training.steps;
        let regular = last || report.step.is_multiple_of(training.validate_every);
        let out_of_time = self.seconds_allowed.is_some_and(|s| self.started.elapsed().as_secs_f64() >= s) && !last;
        self.validation_due = regular || (out_of_time && !interrupt::requested());
        if self.validation_due {
            self.validate(trainer)?;
        }
        // Looked at once more: a validation takes a while.
        self.interrupted = interrupt::requested();
        let stop = self.interrupted || out_of_time;
        if stop || regular {
            self.save(trainer)?;
        }
        Ok(if stop { Flow::Stop } else { Flow::Continue })
    }

    /// Validates, unless a stop is asked for: then the validation stays due.
    fn validate(&mut self, trainer: &Trainer) -> anyhow::Result<()> {
        let config = trainer.config();
        let seed = config.training.seed;
        let selection = if trainer.steps() == config.training.steps {
            Selection::trained(&config.model, seed)
        } else {
            trainer.selection()
        };
        let (scenes, count) = (self.validation, config.training.validation_scenes);
        let importance_samples = config.training.objective.importance_samples();
        let (model, device) = (trainer.model(), self.device);
        let grading =
            evaluate::Grading { model, scenes, count, selection, refinement: 0, importance_samples, seed, device };
        let report = match grading.report(interrupt::requested, |_, _| ()) {
            Err(evaluate::Failure::Stopped) => return Ok(()),
            report => report?,
        };
        self.validation_due = false;
        let step = trainer.steps();
        self.metrics.append(&Row::Validation { step, seconds: self.seconds(), report: &report })?;
        let scores = [
            ("validation/negative_elbo", report.elbo.map(|e| -e)),
            ("validation/reconstruction_nats", report.reconstruction_nats),
            ("validation/kl_nats", report.kl_nats),
            ("validation/log_likelihood_bound_nats", report.log_likelihood_bound_nats),
            ("validation/count_accuracy", report.count_accuracy),
            ("validation/ari_foreground", report.ari_foreground),
        ];
        for (tag, value) in scores {
            if let Some(value) = value {
                self.events.scalar(tag, step, value as f32)?;
            }
        }
        self.shown.count_accuracy = report.count_accuracy;
        self.bar.line(&self.summary(step, &report));
        // A loss is no match for that of another way to select, which the model is no longer used with.
        let seedless = |selection| Selection { seed: 0, ..selection };
        let alike = |step| seedless(trainer.selection_after(step)) == seedless(selection);
        let best = self.best.filter(|(_, step)| alike(*step));
        let better = |loss: &f64| loss.is_finite() && best.is_none_or(|(best, _)| *loss < best);
        // What is trained for: an importance-weighted bound may rise while the ELBO falls.
        if let Some(loss) = report.log_likelihood_bound_nats.or(report.elbo).map(|bound| -bound).filter(better) {
            self.best = Some((loss, step));
            self.flush()?;
            Checkpoint::save(&self.folder.best(), trainer, &self.progress(trainer))?;
        }
        Ok(())
    }

    fn tell_skips(&mut self, report: &StepReport) {
        if report.skipped > self.skipped {
            self.skipped = report.skipped;
            if self.talk == Talk::All {
                let (step, skipped) = (report.step, report.skipped);
                self.bar.line(&format!("step {step}: loss or gradient not finite, update left out ({skipped} so far)"));
            }
        }
    }

    fn log_scalars(&mut self, report: &StepReport) -> anyhow::Result<()> {
        let scalars = [
            ("train/loss", report.loss),
            ("train/reconstruction_nats", report.reconstruction_nats),
            ("train/kl_nats", report.kl_nats),
            ("train/idle_nats", report.idle_nats),
            ("train/charge_nats", report.charge_nats),
            ("train/resynthesis_nats", report.resynthesis_nats),
            ("train/gradient_norm", report.gradient_norm),
            ("train/learning_rate", report.learning_rate),
            ("train/beta", report.beta),
        ];
        for (tag, value) in scalars {
            self.events.scalar(tag, report.step, value as f32)?;
        }
        Ok(())
    }

    fn save(&mut self, trainer: &Trainer) -> anyhow::Result<()> {
        self.flush()?;
        let (step, keep) = (trainer.steps(), trainer.config().training.keep_last);
        if let Some(previous) = self.saved.filter(|previous| *previous != step && keep > 0) {
            self.folder.keep_last(previous)?;
        }
        Checkpoint::save(&self.folder.last(), trainer, &self.progress(trainer))?;
        self.saved = Some(step);
        Ok(self.folder.prune(keep, step)?)
    }

    /// Brings the logs to the disk: a checkpoint must not record what could be lost.
    fn flush(&mut self) -> anyhow::Result<()> {
        self.metrics.flush()?;
        Ok(self.events.flush()?)
    }

    /// The checkpoint to grade: the best, or the last while nothing was validated.
    pub fn checkpoint(&self) -> Result<PathBuf, FolderError> {
        if self.best.is_some() { self.folder.checkpoint() } else { Ok(self.folder.last()) }
    }

    fn progress(&self, trainer: &Trainer) -> Progress {
        let steps = trainer.all_steps();
        Progress {
            step: steps.done,
            skipped: (steps.skipped, steps.in_a_row),
            seconds: self.seconds(),
            best: self.best,
            metrics_bytes: self.metrics.len(),
            events_bytes: self.events.len(),
            events_file: self.events.path().file_name().unwrap_or_default().to_string_lossy().into_owned(),
            validation_due: self.validation_due,
            makers: self.makers.clone(),
            origin: self.origin.clone(),
        }
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    fn images_per_second(&self, step: u64, batch: usize) -> f64 {
        (step - self.first_step) as f64 * batch as f64 / self.started.elapsed().as_secs_f64()
    }

    fn message(&self, trainer: &Trainer, report: &StepReport) -> String {
        let Shown { loss, reconstruction, kl, regularisers, count_accuracy } = self.shown;
        let images = self.images_per_second(report.step, trainer.config().training.batch);
        let mut text = format!(
            "{images:.0} img/s · −log p {reconstruction:.1} · KL {kl:.1} · ELBO {:.1} nats",
            -(reconstruction + kl + self.location_nats)
        );
        if trainer.config().training.objective.importance().is_some() {
            text += &format!(" · bound {:.1}", -(loss + self.location_nats));
        }
        if regularisers > 0.0 {
            text += &format!(" · regularisers {regularisers:.1}");
        }
        if let Some(accuracy) = count_accuracy {
            text += &format!(" · count {:.1} %", 100.0 * accuracy);
        }
        text
    }

    fn summary(&self, step: u64, report: &Report) -> String {
        let nats = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.1}"));
        let share = |name: &str, value: Option<f64>| value.map_or(String::new(), |v| format!(" · {name} {v:.3}"));
        format!(
            "step {step:>6} · {:>4.0} s · validation: −log p {} + KL {} nats{}{}{}{}",
            self.seconds(),
            nats(report.reconstruction_nats),
            nats(report.kl_nats),
            if report.location_nats.unwrap_or(0.0) > 0.0 {
                format!(" + location {}", nats(report.location_nats))
            } else {
                String::new()
            },
            match report.importance_samples {
                Some(samples) => format!(" · log p ≥ {} ({samples} samples)", nats(report.log_likelihood_bound_nats)),
                None => String::new(),
            },
            share("count accuracy", report.count_accuracy),
            share("foreground ARI", report.ari_foreground),
        )
    }

    /// After the loop, however it ended.
    pub fn finish(&mut self, trainer: &Trainer, synthesis: Throughput) -> anyhow::Result<()> {
        self.bar.finish();
        self.flush()?;
        if self.talk == Talk::All && trainer.steps() > self.first_step {
            let training = self.images_per_second(trainer.steps(), trainer.config().training.batch);
            let scenes = synthesis.scenes_per_core_second();
            self.bar.line(&format!(
                "{:.0} s · {training:.0} images/s trained · scenes made at {scenes:.0}/s on one core, {:.0}× as fast",
                self.seconds(),
                scenes / training.max(f64::MIN_POSITIVE),
            ));
        }
        Ok(())
    }
}

/// The curves of a whole run, read back from its metrics: (training, validation).
pub fn curves_of(
    folder: &RunFolder,
    model: &Model,
    config: &Config,
) -> anyhow::Result<(Vec<CurvePoint>, Vec<CurvePoint>)> {
    let path = folder.metrics();
    let refused = |e| FileError::refused("read", &path)(e);
    let metrics = BufReader::new(File::open(&path).map_err(refused)?);
    Ok(points_of_metrics(metrics, model.location_nats(config.model.entities)).map_err(refused)?)
}

/// The loss's weights, so that nobody has to guess their scale.
fn weights_in_words(trainer: &Trainer) -> String {
    let config = trainer.config();
    match (&config.model.latent, config.training.objective) {
        (Latent::Point { .. }, _) => "loss = −log p".into(),
        (_, Objective::Iwae(importance)) => importance_in_words(&importance, None),
        (_, Objective::Dreg(importance)) => importance_in_words(&importance, Some("DReG's gradient")),
        (Latent::Gaussian { beta, .. }, Objective::Elbo) => {
            let mut text = format!("loss = −log p + {beta} · KL");
            if config.training.idle_beta.last() > 0.0 {
                text += &format!(" + {} · idle KL", config.training.idle_beta);
            }
            if config.training.location_charge.last() > 0.0 {
                text += &format!(" + {} per entity in use", config.training.location_charge);
            }
            text + ", summed nats per image"
        }
    }
}

/// `name` is the gradient's, where it has one.
fn importance_in_words(importance: &ImportanceSamples, name: Option<&str>) -> String {
    let gradient = match (name, importance.gradient_samples) {
        (None, 0) => String::new(),
        (Some(name), 0) => format!(", {name}"),
        (name, some) => format!(", {} of {some} drawn by weight", name.unwrap_or("gradient")),
    };
    let samples = importance.samples;
    format!("loss = −log mean p(x, z)/q(z|x) of S samples{gradient}, nats per image, S = {samples}")
}
