//! Training: a loop on one screen, and what it needs.
//!
//! The loop knows no file, printer or picture: its caller observes it.

mod adam;
pub mod log;
mod schedule;

pub use adam::Adam;
pub use schedule::{Ramp, Schedule, Shape};

use crate::config::{Config, Latent, Objective, TrainingConfig};
use crate::layers::Extent;
use crate::model::{Loss, Model, Selection, Variables, Weights};
use crate::random;
use candle_core::{DType, Device, Tensor};

/// A model in training.
#[derive(Debug)]
pub struct Trainer {
    config: Config,
    /// With the variables, for gradients.
    tracked: Model,
    /// The same weights outside any graph.
    model: Model,
    variables: Variables,
    adam: Adam,
    device: Device,
    step: u64,
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
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Factor of the KL.
    pub beta: f64,
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
    #[error(
        "step {step}: {term} is {value}; a checkpoint that the run has saved is from before it: lower training.learning_rate, or set training.clip"
    )]
    NonFinite {
        /// The step that found it, counted from 1.
        step: u64,
        /// Which part of the loss, or the gradient.
        term: &'static str,
        /// NaN or ±∞.
        value: f64,
    },
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Trains until the configured number of steps is done or the observer says stop.
///
/// `images` gives the batch (B, H, W, C) of a step; `observe` sees every finished step.
pub fn train<E: From<TrainError>>(
    trainer: &mut Trainer,
    mut images: impl FnMut(u64) -> Result<Tensor, E>,
    mut observe: impl FnMut(&Trainer, &StepReport) -> Result<Flow, E>,
) -> Result<(), E> {
    while trainer.step < trainer.config.training.steps {
        let batch = images(trainer.step)?;
        let report = trainer.step(&batch)?;
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
        let tracked = Model::new(&config.model, image, variables.builder(DType::F32, device))?;
        let model = Model::new(&config.model, image, variables.frozen(DType::F32, device))?;
        let adam = Adam::new(&variables)?;
        Ok(Self { config, tracked, model, variables, adam, device: device.clone(), step: 0 })
    }

    /// One optimiser step on images (B, H, W, C).
    pub fn step(&mut self, images: &Tensor) -> Result<StepReport, TrainError> {
        // All of it on one of the threads that compute: from outside, every kernel would have to wake them and wait.
        rayon::scope(|_| self.step_here(images))
    }

    fn step_here(&mut self, images: &Tensor) -> Result<StepReport, TrainError> {
        let (loss, weights) = self.loss(images)?;
        let terms = loss.values()?;
        let step = self.step + 1;
        let finite = |term, value: f64| {
            if value.is_finite() { Ok(()) } else { Err(TrainError::NonFinite { step, term, value }) }
        };
        let [total, reconstruction_nats, kl_nats, idle_nats, charge_nats] = terms;
        // The parts first: their sum would only repeat what one of them says.
        finite("the reconstruction", reconstruction_nats)?;
        finite("the KL", kl_nats)?;
        finite("the idle candidates' KL", idle_nats)?;
        finite("the location charge", charge_nats)?;
        finite("the loss", total)?;
        let gradients = loss.total.backward()?;
        let norm = self.adam.gradient_norm(&gradients)?;
        finite("the gradient's norm", norm)?;
        let clip = self.config.training.clip;
        let scale = if clip > 0.0 && norm > clip { clip / norm } else { 1.0 };
        let learning_rate = self.now(&self.config.training.learning_rate);
        self.adam.step(&gradients, learning_rate, scale)?;
        self.step = step;
        Ok(StepReport {
            step,
            loss: total,
            reconstruction_nats,
            kl_nats,
            idle_nats,
            charge_nats,
            gradient_norm: norm,
            learning_rate,
            beta: weights.beta,
        })
    }

    /// The loss of the step to come.
    fn loss(&self, images: &Tensor) -> Result<(Loss, Weights), TrainError> {
        let (model, selection) = (&self.tracked, self.selection());
        let beta = match &self.config.model.latent {
            Latent::Point { .. } => 0.0,
            Latent::Gaussian { beta, .. } => self.now(beta),
        };
        let TrainingConfig { location_charge, idle_beta, .. } = &self.config.training;
        let weights = Weights { beta, idle_beta: self.now(idle_beta), location_charge: self.now(location_charge) };
        let loss = match self.config.training.objective {
            Objective::Elbo => {
                let noise = self.noise_of(self.step, images.dim(0)?)?;
                weights.loss(&model.forward(images, &selection, Some(&noise))?, images)?
            }
            Objective::Iwae { samples } => {
                let noise = self.noises_of(self.step, images.dim(0)?, samples)?;
                model.iwae_loss(images, &model.encode(images, &selection)?, &noise)?
            }
            Objective::Dreg { samples } => {
                let noise = self.noises_of(self.step, images.dim(0)?, samples)?;
                model.dreg_loss(&self.model, images, &model.encode(images, &selection)?, &noise)?
            }
        };
        Ok((loss, weights))
    }

    /// The reparametrisation noise of a step, (B, K, D): a function of seed and step, so that a resumed run continues it.
    pub fn noise_of(&self, step: u64, batch: usize) -> Result<Tensor, TrainError> {
        Ok(self.noises_of(step, batch, 1)?.squeeze(1)?)
    }

    /// The same for several samples of each image, (B, S, K, D).
    fn noises_of(&self, step: u64, batch: usize, samples: usize) -> Result<Tensor, TrainError> {
        let shape = (batch, samples, self.config.model.entities, self.config.model.latent.dimensions());
        let mut values = vec![0f32; shape.0 * shape.1 * shape.2 * shape.3];
        random::normals(&mut random::stream(self.config.training.seed, "posterior noise", step), &mut values);
        Ok(Tensor::from_vec(values, shape, &self.device)?)
    }

    /// How entities are selected in the step to come.
    pub fn selection(&self) -> Selection {
        Selection {
            rank_by: self.config.model.selector.rank_by,
            entities: self.config.model.entities,
            radius: self.now(&self.config.model.selector.radius).round() as usize,
            seed: self.config.training.seed.wrapping_add(self.step),
        }
    }

    fn now(&self, schedule: &Schedule) -> f64 {
        schedule.value(self.step, self.config.training.steps)
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.step
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

    /// Continues from saved weights and optimiser state after `step` steps.
    pub fn restore(
        &mut self,
        weights: &std::collections::HashMap<String, Tensor>,
        optimiser: &std::collections::HashMap<String, Tensor>,
        step: u64,
    ) -> Result<(), TrainError> {
        self.variables.load(weights)?;
        self.adam.load(optimiser, step)?;
        self.step = step;
        Ok(())
    }
}
