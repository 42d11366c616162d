//! Several samples for each image, and the bounds that their importance weights give.
//!
//! With S samples z_s ~ q(z|x) and the weights w_s = p(x|z_s) p(z_s) / q(z_s|x),
//!
//! ```text
//! log p(x) ≥ L_S = E log (1/S) Σ_s w_s          (Burda, Grosse & Salakhutdinov 2016)
//! L_1 = ELBO,  L_S grows with S,  L_S → log p(x)
//! ```
//!
//! z is all entities of an image together, so that log p(z) and log q(z|x) are sums over them. As in the ELBO, a placed model owes
//! log C(N, K) nats for its cells, which are constant in the weights and left out here.
//!
//! **IWAE** differentiates L_S as it stands, through z_s = μ + σ ⊙ ε_s. **DReG** (Tucker, Lawson, Gu & Maddison 2019) gives the
//! encoder's parameters φ another unbiased gradient of the same L_S, whose noise does not outgrow it for large S,
//!
//! ```text
//! ∇_φ L_S = E Σ_s ŵ_s² (∂ log w_s / ∂z_s) (∂z_s / ∂φ),   ŵ_s = w_s / Σ w
//! ```
//!
//! in which log w_s depends on φ through z_s alone; the decoder's gradient Σ_s ŵ_s ∇_θ log w_s is the same in both.

use super::{Encoding, Loss, Model};
use crate::layers::log_sum_exp;
use candle_core::{Result, Tensor};

/// What S samples for each of B images say.
#[derive(Clone, Debug)]
pub struct Weighed {
    /// log p(x|z_s) in nats, (B, S).
    pub log_likelihood: Tensor,
    /// log p(z_s) − log q(z_s|x) in nats, (B, S).
    pub log_ratio: Tensor,
}

impl Weighed {
    /// log w_s, (B, S).
    pub fn log_weights(&self) -> Result<Tensor> {
        &self.log_likelihood + &self.log_ratio
    }

    /// log (1/S) Σ_s w_s of each image, (B). Its gradient is Σ_s ŵ_s ∇ log w_s.
    pub fn bound(&self) -> Result<Tensor> {
        let log_weights = self.log_weights()?;
        let samples = log_weights.dim(1)? as f64;
        let bound = (log_sum_exp(&log_weights.detach())?.squeeze(1)? - samples.ln())?;
        let surrogate = (log_weights * self.normalised()?)?.sum(1)?;
        bound + (&surrogate - surrogate.detach())?
    }

    /// ŵ_s = w_s / Σ w, (B, S), outside any graph.
    fn normalised(&self) -> Result<Tensor> {
        /// What is lighter is lost in the sum's rounding anyway. Carried along, its gradients would be numbers too small for a normal
        /// float, on which some processors take a hundred times as long.
        const LIGHTEST: f64 = 1e-12;
        let log_weights = self.log_weights()?.detach();
        let weights = log_weights.broadcast_sub(&log_sum_exp(&log_weights)?)?.exp()?;
        weights.ge(LIGHTEST)?.where_cond(&weights, &weights.zeros_like()?)
    }
}

impl Model {
    /// Weighs latents z (B, S, K, D), which `noise` of the same shape made of the encoding of `images`. The encoder is not asked
    /// again; samples are folded into the decoder's batch.
    pub fn weigh(&self, images: &Tensor, encoding: &Encoding, z: &Tensor, noise: &Tensor) -> Result<Weighed> {
        let (b, s, k, d) = z.dims4()?;
        let components = self.decode(&z.reshape((b * s, k, d))?, &encoding.cells.repeated(s)?)?;
        let images = repeated(images, s)?;
        let logits = self.compositor().on(&images)?.compose(&components)?; // (B·S, H, W, C)
        let log_likelihood = self.likelihood().log_prob(&logits, &images)?.reshape((b, s))?;
        Ok(Weighed { log_likelihood, log_ratio: encoding.entities.log_ratio(z, noise)? })
    }

    /// −L_S and its own gradient, for standard normal noise (B, S, K, D).
    pub fn iwae_loss(&self, images: &Tensor, encoding: &Encoding, noise: &Tensor) -> Result<Loss> {
        let z = encoding.entities.samples(noise)?;
        let weighed = self.weigh(images, encoding, &z, noise)?;
        importance_loss(weighed.bound()?.mean(0)?.neg()?, &weighed, encoding)
    }

    /// −L_S with the gradient of DReG. `fixed` is the same model outside any graph: what the weights ŵ are, no gradient may ask.
    pub fn dreg_loss(&self, fixed: &Self, images: &Tensor, encoding: &Encoding, noise: &Tensor) -> Result<Loss> {
        let z = encoding.entities.samples(noise)?;
        let still = Encoding { entities: encoding.entities.detach(), ..encoding.clone() };
        let weighed = fixed.weigh(images, &still, &z.detach(), noise)?;
        let weights = weighed.normalised()?; // (B, S)
        // z as it is, its gradient times ŵ: with the ŵ of the sum below that makes the square.
        let z = (z.detach() + (&z - z.detach())?.broadcast_mul(&weights.unsqueeze(2)?.unsqueeze(3)?)?)?;
        let log_weights = self.weigh(images, &still, &z, &still.entities.noise_of(&z)?)?.log_weights()?;
        let surrogate = (log_weights * weights)?.sum(1)?.mean(0)?.neg()?;
        // The value of the bound, the gradient of the surrogate.
        let total = (weighed.bound()?.mean(0)?.neg()? + (&surrogate - surrogate.detach())?)?;
        importance_loss(total, &weighed, encoding)
    }
}

/// The terms that are shown beside the bound: the ELBO's, which do not add up to it.
fn importance_loss(total: Tensor, weighed: &Weighed, encoding: &Encoding) -> Result<Loss> {
    let kl = encoding.entities.detach().kl()?.sum(1)?.mean(0)?;
    let nothing = kl.zeros_like()?;
    Loss::of([&total, &weighed.log_likelihood.detach().mean_all()?.neg()?, &kl, &nothing, &nothing])
}

/// Each image (B, H, W, C) `times` over: (B · times, H, W, C).
fn repeated(images: &Tensor, times: usize) -> Result<Tensor> {
    let (b, h, w, c) = images.dims4()?;
    images.unsqueeze(1)?.broadcast_as((b, times, h, w, c))?.reshape((b * times, h, w, c))
}
