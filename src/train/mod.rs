//! Training: a loop on one screen, and what it needs.
//!
//! The loop knows no file, printer or picture: its caller observes it.

mod adam;
#[cfg(feature = "cuda")]
mod gpu;
pub mod log;
mod resynthesis;
mod schedule;

pub use adam::Adam;
pub use schedule::{Ramp, Schedule, Shape};

use crate::config::{Config, ImportanceSamples, Latent, Objective, OnNonfinite, Rank, TrainingConfig};
use crate::layers::{Deposit, Extent};
use crate::model::{Inference, Loss, Model, Resampling, Selection, Variables, Weights};
use crate::random;
use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor};
use rand::Rng;
use resynthesis::Resynthesis;

/// So many updates left out in a row end the training: nothing is learnt any more.
pub const MOST_SKIPS_IN_A_ROW: u64 = 10;

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    config: Config,
    /// With the variables, for gradients.
    tracked: Model,
    /// The same weights outside any graph.
    model: Model,
    variables: Variables,
    /// Where gradients are collected.
    deposit: Deposit,
    adam: Adam,
    device: Device,
    steps: Steps,
    #[cfg(feature = "cuda")]
    gpu: Option<gpu::OnGpu>,
}

/// What a step does, apart from its images, its noise and Adam's numbers.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    objective: Objective,
    /// S, samples of each image.
    samples: usize,
    selection: Selection,
    weights: Weights,
    /// λ of the resynthesis.
    resynthesis: f64,
}

/// A step that was begun.
enum Begun {
    Done(StepReport),
    /// What it does, and the images that it does it with.
    #[cfg(feature = "cuda")]
    OnGpu(Plan, Tensor),
}

/// How many steps a training has behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// All of them; schedules, scenes and noise follow this number.
    pub done: u64,
    /// Those whose update was left out, because the loss or the gradient was not finite.
    pub skipped: u64,
    /// The latest of these that follow one another up to the last step.
    pub in_a_row: u64,
}

/// What one step did, in nats per image.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// What was minimised.
    pub loss: f64,
    /// −log p(x|z).
    pub reconstruction_nats: f64,
    /// Σ_k KL_k, unweighted.
    pub kl_nats: f64,
    /// The idle candidates' KL, as it entered the loss.
    pub idle_nats: f64,
    /// The location charge.
    pub charge_nats: f64,
    /// What scenes put together anew add, as it entered the loss.
    pub resynthesis_nats: f64,
    /// Norm of the gradient before clipping; NaN where the loss was not finite.
    pub gradient_norm: f64,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Factor of the KL.
    pub beta: f64,
    /// Updates left out so far, because the loss or the gradient was not finite.
    pub skipped: u64,
}

/// Whether training goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next step.
    Continue,
    /// Not: the state is as after a finished step, and can be saved.
    Stop,
}

/// Why training stopped before its end.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A number that is none.
    #[error("step {step}: {term} is {value}: lower training.learning_rate, or set training.clip")]
    NonFinite {
        /// The step that found it, counted from 1.
        step: u64,
        /// Which part of the loss, or which tensor.
        term: String,
        /// NaN or ±∞.
        value: f64,
    },
    /// One such number after the other.
    #[error(
        "step {step}: {term} is {value}, and this is update {MOST_SKIPS_IN_A_ROW} in a row to be left out: lower training.learning_rate, or set training.clip"
    )]
    NothingLearnt {
        /// The step, counted from 1.
        step: u64,
        /// Which part of the loss, or which tensor.
        term: String,
        /// NaN or ±∞.
        value: f64,
    },
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Trains until the configured number of steps is done or the observer says stop.
///
/// `images` gives the batch (B, H, W, C) of a step, and is asked before the step before it is waited for, which a GPU may be busy
/// with; `observe` sees every finished step.
pub fn train<E: From<TrainError>>(
    trainer: &mut Trainer,
    mut images: impl FnMut(u64) -> Result<Tensor, E>,
    mut observe: impl FnMut(&Trainer, &StepReport) -> Result<Flow, E>,
) -> Result<(), E> {
    let all = trainer.config.training.steps;
    let mut next = (trainer.steps.done < all).then(|| images(trainer.steps.done)).transpose()?;
    while let Some(batch) = next {
        let after = trainer.steps.done + 1;
        let begun = trainer.begin(&batch)?;
        // Fetched while a GPU computes.
        next = (after < all).then(|| images(after)).transpose()?;
        let report = trainer.finish(begun)?;
        if observe(trainer, &report)? == Flow::Stop {
            break;
        }
    }
    Ok(())
}

impl Trainer {
    /// A fresh model for images of the given extent, seeded by the configuration.
    pub fn new(config: Config, image: Extent, device: &Device) -> Result<Self, TrainError> {
        let variables = Variables::new(config.training.seed);
        let deposit = Deposit::default();
        let tracked = Model::new(&config.model, image, variables.builder(DType::F32, device))?.on_deposit(&deposit);
        let model = Model::new(&config.model, image, variables.frozen(DType::F32, device))?;
        let adam = Adam::new(&variables)?;
        Ok(Self {
            config,
            tracked,
            model,
            variables,
            deposit,
            adam,
            device: device.clone(),
            steps: Steps::default(),
            #[cfg(feature = "cuda")]
            gpu: gpu::OnGpu::new(device)?,
        })
    }

    /// One optimiser step on images (B, H, W, C).
    pub fn step(&mut self, images: &Tensor) -> Result<StepReport, TrainError> {
        let begun = self.begin(images)?;
        self.finish(begun)
    }

    /// The part of a step that needs nobody to wait: on a GPU, to set it going; on the CPU, all of it.
    fn begin(&mut self, images: &Tensor) -> Result<Begun, TrainError> {
        // A step that puts scenes together does so on the host.
        #[cfg(feature = "cuda")]
        if self.now(&self.config.training.resynthesis) == 0.0
            && let Some(mut gpu) = self.gpu.take()
        {
            let begun = self.begin_on_gpu(&mut gpu, images).map(|plan| Begun::OnGpu(plan, images.clone()));
            self.gpu = Some(gpu);
            return begun;
        }
        // All of it on one of the threads that compute: from outside, every kernel would have to wake them and wait.
        rayon::scope(|_| self.step_by_parts(images)).map(Begun::Done)
    }

    /// What a step has done.
    fn finish(&mut self, begun: Begun) -> Result<StepReport, TrainError> {
        match begun {
            Begun::Done(report) => Ok(report),
            #[cfg(feature = "cuda")]
            Begun::OnGpu(plan, images) => {
                let Some(mut gpu) = self.gpu.take() else { return self.step_by_parts(&images) };
                let report = self.finish_on_gpu(&gpu, &plan);
                if let Ok(None) = report {
                    gpu.forget();
                }
                self.gpu = Some(gpu);
                match report? {
                    Some(report) => {
                        self.steps = self.steps.after(None, self.config.training.on_nonfinite)?;
                        Ok(report)
                    }
                    // Taken again, part by part, to say what is wrong.
                    None => self.step_by_parts(&images),
                }
            }
        }
    }

    fn step_by_parts(&mut self, images: &Tensor) -> Result<StepReport, TrainError> {
        let plan = self.plan();
        let noise = self.noises_of(self.steps.done, images.dim(0)?, plan.samples)?;
        let loss = self.loss(&plan, images, &noise)?;
        let mut report = self.report(&plan, loss.values()?);
        let trouble = match self.trouble_with_loss(&report, images)? {
            Some(trouble) => Some(trouble),
            None => {
                let gradients = self.gradients(&loss)?;
                report.gradient_norm = self.adam.gradient_norm(&gradients)?;
                let trouble = self.trouble_with_gradient(report.gradient_norm, &gradients)?;
                if trouble.is_none() {
                    let clip = self.config.training.clip;
                    let clipped = clip > 0.0 && report.gradient_norm > clip;
                    let scale = if clipped { clip / report.gradient_norm } else { 1.0 };
                    self.adam.step(&gradients, report.learning_rate, scale)?;
                }
                trouble
            }
        };
        self.steps = self.steps.after(trouble, self.config.training.on_nonfinite)?;
        report.skipped = self.steps.skipped;
        Ok(report)
    }

    /// All there is of a loss's gradients, before anything has read them: several devices would average theirs here.
    fn gradients(&self, loss: &Loss) -> candle_core::Result<GradStore> {
        self.deposit.backward(&loss.total()?)
    }

    /// What the step to come is about to say, given the terms of its loss.
    fn report(
        &self,
        plan: &Plan,
        [loss, reconstruction_nats, kl_nats, idle_nats, charge_nats, resynthesis_nats]: [f64; 6],
    ) -> StepReport {
        StepReport {
            step: self.steps.done + 1,
            loss,
            reconstruction_nats,
            kl_nats,
            idle_nats,
            charge_nats,
            resynthesis_nats,
            gradient_norm: f64::NAN,
            learning_rate: self.now(&self.config.training.learning_rate),
            beta: plan.weights.beta,
            skipped: self.steps.skipped,
        }
    }

    /// What in the loss is not finite: the data first, then the terms; their sum would only repeat what one of them says.
    fn trouble_with_loss(&self, report: &StepReport, images: &Tensor) -> Result<Option<Trouble>, TrainError> {
        let terms = [
            ("the reconstruction", report.reconstruction_nats),
            ("the KL", report.kl_nats),
            ("the idle candidates' KL", report.idle_nats),
            ("the location charge", report.charge_nats),
            ("the resynthesis", report.resynthesis_nats),
            ("the loss", report.loss),
        ];
        let Some((term, value)) = terms.into_iter().find(|(_, value)| !value.is_finite()) else { return Ok(None) };
        if let Some(value) = first_non_finite(images)? {
            return Ok(Some(Trouble { term: "a pixel of the batch".into(), value }));
        }
        for (name, variable) in self.variables.all() {
            if let Some(value) = first_non_finite(variable.as_tensor())? {
                // No later batch can mend this.
                return Err(TrainError::NonFinite { step: report.step, term: format!("the weight {name}"), value });
            }
        }
        Ok(Some(Trouble { term: term.into(), value }))
    }

    /// Which variable's gradient is not finite, or has a norm that is not.
    fn trouble_with_gradient(&self, norm: f64, gradients: &GradStore) -> Result<Option<Trouble>, TrainError> {
        if norm.is_finite() {
            return Ok(None);
        }
        for (name, variable) in self.variables.all() {
            if let Some(value) = gradients.get(&variable).map(first_non_finite).transpose()?.flatten() {
                return Ok(Some(Trouble { term: format!("the gradient of {name}"), value }));
            }
        }
        Ok(Some(Trouble { term: "the gradient's norm".into(), value: norm }))
    }

    /// What the step to come does.
    fn plan(&self) -> Plan {
        let beta = match &self.config.model.latent {
            Latent::Point { .. } => 0.0,
            Latent::Gaussian { beta, .. } => self.now(beta),
        };
        let TrainingConfig { location_charge, idle_beta, objective, .. } = &self.config.training;
        let weights = Weights { beta, idle_beta: self.now(idle_beta), location_charge: self.now(location_charge) };
        let resynthesis = self.now(&self.config.training.resynthesis);
        // A schedule's warm-up begins at 0.
        let samples =
            objective.importance().map_or(1, |importance| self.now(&importance.samples).round().max(1.0) as usize);
        Plan { objective: *objective, samples, selection: self.selection(), weights, resynthesis }
    }

    /// The loss of images (B, H, W, C) for noise (B, S, K, D).
    fn loss(&self, plan: &Plan, images: &Tensor, noise: &Tensor) -> candle_core::Result<Loss> {
        let (model, selection) = (&self.tracked, &plan.selection);
        match plan.objective {
            Objective::Elbo => {
                let inference = model.forward(images, selection, Some(&noise.squeeze(1)?))?;
                let loss = plan.weights.loss(&inference, images)?;
                match self.resynthesis(plan, images, &inference)? {
                    Some(nats) => Ok(loss.beside((nats * plan.resynthesis)?)),
                    None => Ok(loss),
                }
            }
            Objective::Iwae(importance) | Objective::Dreg(importance) => {
                let encoding = model.encode(images, selection)?;
                let resampling = self.resampling(importance, plan.samples, images.dim(0)?);
                let loss = match plan.objective {
                    Objective::Dreg(_) => Model::dreg_loss,
                    _ => Model::iwae_loss,
                };
                loss(model, &self.model, images, &encoding, noise, resampling.as_ref())
            }
        }
    }

    /// Which of its S samples the step to come differentiates, if not all.
    fn resampling(&self, importance: ImportanceSamples, samples: usize, images: usize) -> Option<Resampling> {
        let some = importance.gradient_samples;
        if some == 0 || some >= samples {
            return None;
        }
        let mut rng = random::stream(self.config.training.seed, "importance resampling", self.steps.done);
        Some(Resampling { samples: some, offsets: (0..images).map(|_| rng.random()).collect() })
    }

    /// What scenes put together from what was found in these images teach, if there are to be such.
    fn resynthesis(&self, plan: &Plan, images: &Tensor, inference: &Inference) -> candle_core::Result<Option<Tensor>> {
        if plan.resynthesis == 0.0 {
            return Ok(None);
        }
        let mut rng = random::stream(self.config.training.seed, "resynthesis", self.steps.done);
        let scenes = Resynthesis::of(&self.model, inference, images, plan.selection.radius, &mut rng)?;
        scenes.map(|scenes| scenes.nats(&self.tracked, plan.weights.beta, self.config.training.silence)).transpose()
    }

    /// The reparametrisation noise of a step, (B, K, D): a function of seed and step, so that a resumed run continues it.
    pub fn noise_of(&self, step: u64, batch: usize) -> Result<Tensor, TrainError> {
        Ok(self.noises_of(step, batch, 1)?.squeeze(1)?)
    }

    /// The same for several samples of each image, (B, S, K, D).
    fn noises_of(&self, step: u64, batch: usize, samples: usize) -> Result<Tensor, TrainError> {
        let shape = self.noise_shape(batch, samples);
        Ok(Tensor::from_vec(self.noise_values(step, shape), shape, &self.device)?)
    }

    fn noise_shape(&self, batch: usize, samples: usize) -> (usize, usize, usize, usize) {
        (batch, samples, self.config.model.entities, self.config.model.latent.dimensions())
    }

    fn noise_values(&self, step: u64, (b, s, k, d): (usize, usize, usize, usize)) -> Vec<f32> {
        let mut values = vec![0f32; b * s * k * d];
        random::normals(&mut random::stream(self.config.training.seed, "posterior noise", step), &mut values);
        values
    }

    /// How entities are selected in the step to come.
    pub fn selection(&self) -> Selection {
        self.selection_after(self.steps.done)
    }

    /// How entities are selected after so many steps.
    pub fn selection_after(&self, steps: u64) -> Selection {
        let (selector, all) = (&self.config.model.selector, self.config.training.steps);
        let warm = (steps as f64) < selector.warm_start * all as f64;
        Selection {
            rank_by: if warm { Rank::Brightness } else { selector.rank_by },
            entities: self.config.model.entities,
            radius: selector.radius.value(steps, all).round() as usize,
            overlap: selector.overlap.value(steps, all),
            // The others have no use for one, and are the same in every step.
            seed: match selector.rank_by {
                Rank::Random => self.config.training.seed.wrapping_add(steps),
                _ => 0,
            },
        }
    }

    fn now(&self, schedule: &Schedule) -> f64 {
        schedule.value(self.steps.done, self.config.training.steps)
    }

    /// Whether steps are replayed from a recording: on a GPU, from the third of equal steps on, where nothing on their way is read from
    /// the device or uploaded to it.
    pub fn replays(&self) -> bool {
        #[cfg(feature = "cuda")]
        return self.gpu.as_ref().is_some_and(gpu::OnGpu::replays);
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps.done
    }

    /// Steps done, and those of them whose update was left out.
    pub fn all_steps(&self) -> Steps {
        self.steps
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The model outside any graph, always with the current weights: for validation and use.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The weights.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// The optimiser's state.
    pub fn adam(&self) -> &Adam {
        &self.adam
    }

    /// Takes the weights of another training for the fresh ones, which they must agree with in names and shapes. Steps, schedules and
    /// Adam's moments start at zero all the same.
    ///
    /// # Errors
    ///
    /// Says which variable is missing, foreign or of another shape; then nothing is changed.
    pub fn start_from(&mut self, weights: &std::collections::HashMap<String, Tensor>) -> Result<(), TrainError> {
        self.variables.load(weights)?;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &mut self.gpu {
            gpu.forget();
        }
        Ok(())
    }

    /// Continues from saved weights and optimiser state.
    pub fn restore(
        &mut self,
        weights: &std::collections::HashMap<String, Tensor>,
        optimiser: &std::collections::HashMap<String, Tensor>,
        steps: Steps,
    ) -> Result<(), TrainError> {
        self.start_from(weights)?;
        self.adam.load(optimiser, steps.done - steps.skipped)?;
        self.steps = steps;
        Ok(())
    }
}

impl Steps {
    /// So many steps, each with its update.
    pub fn new(done: u64) -> Self {
        Self { done, skipped: 0, in_a_row: 0 }
    }

    /// After one more step, or why training ends there.
    fn after(self, trouble: Option<Trouble>, policy: OnNonfinite) -> Result<Self, TrainError> {
        let step = self.done + 1;
        match (trouble, policy) {
            (None, _) => Ok(Self { done: step, in_a_row: 0, ..self }),
            (Some(Trouble { term, value }), OnNonfinite::Stop) => Err(TrainError::NonFinite { step, term, value }),
            (Some(Trouble { term, value }), OnNonfinite::Skip) if self.in_a_row + 1 >= MOST_SKIPS_IN_A_ROW => {
                Err(TrainError::NothingLearnt { step, term, value })
            }
            (Some(_), OnNonfinite::Skip) => {
                Ok(Self { done: step, skipped: self.skipped + 1, in_a_row: self.in_a_row + 1 })
            }
        }
    }
}

/// Something in a step that is not finite.
struct Trouble {
    term: String,
    value: f64,
}

/// The first number of a tensor that is none.
fn first_non_finite(tensor: &Tensor) -> Result<Option<f64>, TrainError> {
    let values = tensor.flatten_all()?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
    Ok(values.into_iter().find(|value| !value.is_finite()).map(f64::from))
}
