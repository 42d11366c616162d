//! Posterior means that are fitted to the very image they describe, where the encoder's one pass was not enough.
//!
//! An encoder that is trained for all images says of a single one less than could be said: the amortisation gap (Cremer et al. 2018,
//! "Inference suboptimality in variational autoencoders"). Gradient steps from its answer on close some of it (as Kim et al. 2018 do,
//! "Semi-amortized variational autoencoders", in training too):
//!
//! > μ ← argmax log p(x|μ) − Σ_k KL(q_k ‖ N(0, I))
//!
//! It is for entities that are there: refined too, a superfluous one would find something to do. Cells and variances stay what the
//! encoder said, so this is still a posterior, and its ELBO still a bound. It need not rise too: a sharper mean would often have a smaller
//! variance.

use super::{Inference, Model};
use candle_core::{Result, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};

/// Adam's step size for the means, in deviations of the prior; it falls to 0.
const RATE: f64 = 0.1;

impl Model {
    /// The inference after `steps` steps of gradient ascent on the means of `which` entities, (B, K) of 1 and 0, all of an image at once.
    /// No image's bound is lower than before. It costs `steps` passes through the decoder and back.
    pub fn refined(&self, inference: &Inference, images: &Tensor, which: &Tensor, steps: usize) -> Result<Inference> {
        let start = inference.entities.mean_parameters()?.detach();
        let which = which.to_dtype(start.dtype())?.unsqueeze(2)?;
        let at = |change: &Tensor| &start + change.broadcast_mul(&which)?;
        let change = Var::zeros(start.shape(), start.dtype(), start.device())?;
        // Of few steps, the moments must not remember the first ones too long.
        let params = ParamsAdamW { lr: RATE, beta1: 0.8, beta2: 0.95, eps: 1e-8, weight_decay: 0.0 };
        let mut adam = AdamW::new(vec![change.clone()], params)?;
        for left in (1..=steps).rev() {
            adam.set_learning_rate(RATE * left as f64 / steps as f64);
            adam.backward_step(&self.bound_at(inference, &at(&change)?, images)?.sum_all()?.neg()?)?;
        }
        let end = at(&change.as_detached_tensor())?;
        let better = self.bound_at(inference, &end, images)?.gt(&self.bound_at(inference, &start, images)?)?;
        let better = better.reshape(((), 1, 1))?.broadcast_as(end.shape())?;
        self.with_means(inference, &better.where_cond(&end, &start)?)
    }

    /// log p(x|μ) − Σ_k KL_k of each image, (B).
    fn bound_at(&self, inference: &Inference, means: &Tensor, images: &Tensor) -> Result<Tensor> {
        let at = self.with_means(inference, means)?;
        at.log_prob(images)? - at.entities.kl()?.sum(1)?
    }

    /// The inference if the encoder had said `means`, (B, K, D).
    fn with_means(&self, inference: &Inference, means: &Tensor) -> Result<Inference> {
        let entities = inference.entities.with_mean_parameters(means)?;
        let z = entities.mean()?;
        let components = self.decode(&z, &inference.cells)?;
        let logits = inference.compositor.compose(&components)?;
        Ok(Inference { entities, z, components, logits, ..inference.clone() })
    }
}
