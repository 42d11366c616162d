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
//! ∇ L_S   = E Σ_s ŵ_s ∇ log w_s,   ŵ_s = w_s / Σ w
//! ∇_φ L_S = E Σ_s ŵ_s² (∂ log w_s / ∂z_s) (∂z_s / ∂φ)
//! ```
//!
//! in which log w_s depends on φ through z_s alone; the decoder's gradient Σ_s ŵ_s ∇_θ log w_s is the same in both.
//!
//! Most of many samples weigh next to nothing, and a gradient costs twice what a weight does. Both sums are means over s ~ ŵ, of
//! ∇ log w_s and of ŵ_s times the rest, so that M ≪ S samples drawn in proportion to their weights estimate them without bias
//! (proposed by Burda et al. 2016, section 3, for M = 1), which is [`Resampling`].

use super::{Encoding, Loss, Model};
use crate::layers::log_sum_exp;
use candle_core::{DType, Device, Result, Tensor};

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

    /// log (1/S) Σ_s w_s of each image, (B), outside any graph.
    pub fn bound(&self) -> Result<Tensor> {
        let log_weights = self.log_weights()?.detach();
        let samples = log_weights.dim(1)? as f64;
        log_sum_exp(&log_weights)?.squeeze(1)? - samples.ln()
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
        let compositor = self.compositor().on(images)?.repeated(s)?;
        let images = repeated(images, s)?;
        let logits = compositor.compose(&components)?; // (B·S, H, W, C)
        let log_likelihood = self.likelihood().log_prob(&logits, &images)?.reshape((b, s))?;
        Ok(Weighed { log_likelihood, log_ratio: encoding.entities.log_ratio(z, noise)? })
    }

    /// −L_S with its own gradient, or an estimate of it by [`Resampling`], for standard normal noise (B, S, K, D). `fixed` is the same
    /// model outside any graph, for weights that no gradient asks.
    pub fn iwae_loss(
        &self,
        fixed: &Self,
        images: &Tensor,
        encoding: &Encoding,
        noise: &Tensor,
        resampling: Option<&Resampling>,
    ) -> Result<Loss> {
        let z = encoding.entities.samples(noise)?;
        let Some(resampling) = resampling else {
            let weighed = self.weigh(images, encoding, &z, noise)?;
            let surrogate = (weighed.log_weights()? * weighed.normalised()?)?.sum(1)?;
            return importance_loss(&weighed, &surrogate, encoding);
        };
        let weighed = fixed.weigh(images, &encoding.detach(), &z.detach(), noise)?;
        let drawn = resampling.draw(&weighed.normalised()?)?;
        let (z, noise) = (drawn.of(&z)?, drawn.of(noise)?);
        let surrogate = self.weigh(images, encoding, &z, &noise)?.log_weights()?.mean(1)?;
        importance_loss(&weighed, &surrogate, encoding)
    }

    /// The same with the gradient of DReG.
    pub fn dreg_loss(
        &self,
        fixed: &Self,
        images: &Tensor,
        encoding: &Encoding,
        noise: &Tensor,
        resampling: Option<&Resampling>,
    ) -> Result<Loss> {
        let z = encoding.entities.samples(noise)?;
        let still = encoding.detach();
        let weighed = fixed.weigh(images, &still, &z.detach(), noise)?;
        let weights = weighed.normalised()?; // (B, S)
        let (z, weights, shares) = match resampling {
            None => (z, weights.clone(), weights),
            Some(resampling) => {
                let drawn = resampling.draw(&weights)?;
                let weights = drawn.of(&weights)?;
                (drawn.of(&z)?, weights.clone(), (weights.ones_like()? / resampling.samples as f64)?)
            }
        };
        // z as it is, its gradient times ŵ: with the share of ŵ in the sum below that makes the square.
        let z = (z.detach() + (&z - z.detach())?.broadcast_mul(&weights.unsqueeze(2)?.unsqueeze(3)?)?)?;
        let log_weights = self.weigh(images, &still, &z, &still.entities.noise_of(&z)?)?.log_weights()?;
        importance_loss(&weighed, &(log_weights * shares)?.sum(1)?, encoding)
    }
}

/// Which samples the gradient is taken of: M of each image's S, each as often as its weight has it, give or take one.
#[derive(Clone, Debug)]
pub struct Resampling {
    /// M.
    pub samples: usize,
    /// A number in [0, 1) for each image, which decides about the ones.
    pub offsets: Vec<f64>,
}

impl Resampling {
    /// Systematic resampling (Carpenter, Clifford & Fearnhead 1999): M equal steps through the sum of an image's weights (B, S), begun
    /// at its offset.
    fn draw(&self, weights: &Tensor) -> Result<Drawn> {
        let all = weights.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec2::<f64>()?;
        let mut numbers = Vec::with_capacity(all.len() * self.samples);
        for (image, (weights, offset)) in all.iter().zip(&self.offsets).enumerate() {
            // The samples that weigh anything, and where each one's part of the whole ends.
            let weighty = weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0);
            let ends = weighty.scan(0.0, |end, (sample, weight)| {
                *end += weight;
                Some((sample, *end))
            });
            let ends: Vec<(usize, f64)> = ends.collect();
            let whole = ends.last().map_or(0.0, |(_, end)| *end);
            for step in 0..self.samples {
                let reached = (step as f64 + offset) / self.samples as f64 * whole;
                let found = ends.iter().find(|(_, end)| *end > reached).or(ends.last());
                // Where nothing weighs anything, the loss is no number, and no gradient will be taken.
                let sample = found.map_or(0, |(sample, _)| *sample);
                numbers.push((image * weights.len() + sample) as u32);
            }
        }
        let numbers = Tensor::from_vec(numbers, all.len() * self.samples, weights.device())?;
        Ok(Drawn { numbers, shape: (all.len(), self.samples) })
    }
}

/// Samples that were drawn.
struct Drawn {
    /// image · S + sample, (B·M).
    numbers: Tensor,
    /// (B, M)
    shape: (usize, usize),
}

impl Drawn {
    /// Theirs of what all samples have: (B, S, …) → (B, M, …).
    fn of(&self, all: &Tensor) -> Result<Tensor> {
        let mut shape = all.dims().to_vec();
        (shape[0], shape[1]) = self.shape;
        all.flatten(0, 1)?.contiguous()?.index_select(&self.numbers, 0)?.reshape(shape)
    }
}

/// −L_S with the gradient of a surrogate (B) of L_S. The terms that are shown beside it are the ELBO's, which do not add up to it.
fn importance_loss(weighed: &Weighed, surrogate: &Tensor, encoding: &Encoding) -> Result<Loss> {
    let total = (weighed.bound()? + (surrogate - surrogate.detach())?)?.mean(0)?.neg()?;
    let kl = encoding.entities.detach().kl()?.sum(1)?.mean(0)?;
    let nothing = kl.zeros_like()?;
    Loss::of([&total, &weighed.log_likelihood.detach().mean_all()?.neg()?, &kl, &nothing, &nothing])
}

/// What there is of each image, (B, …), `times` over for so many samples of it: (B · times, …).
pub(super) fn repeated(of_images: &Tensor, times: usize) -> Result<Tensor> {
    let mut shape = of_images.dims().to_vec();
    shape.insert(1, times);
    of_images.unsqueeze(1)?.broadcast_as(shape)?.flatten(0, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(weights: &[[f64; 4]], samples: usize, offsets: &[f64]) -> Vec<u32> {
        let weights = Tensor::from_slice(weights.as_flattened(), (weights.len(), 4), &Device::Cpu).expect("weights");
        let resampling = Resampling { samples, offsets: offsets.to_vec() };
        resampling.draw(&weights).and_then(|drawn| drawn.numbers.to_vec1()).expect("numbers")
    }

    #[test]
    fn samples_are_drawn_as_often_as_they_weigh() {
        let weights = [[0.5, 0.0, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0]];
        assert_eq!(drawn(&weights, 4, &[0.0, 0.999]), [0, 0, 2, 3, 6, 6, 6, 6]);
        // A share that is no whole number is met by its neighbours in turn.
        assert_eq!(drawn(&[[0.4, 0.0, 0.0, 0.6]], 1, &[0.39]), [0]);
        assert_eq!(drawn(&[[0.4, 0.0, 0.0, 0.6]], 1, &[0.41]), [3]);
    }

    #[test]
    fn what_weighs_nothing_is_never_drawn() {
        for offset in [0.0, 0.5, 1.0 - f64::EPSILON] {
            // Weights whose sum is not quite 1, as in f32.
            assert_eq!(
                drawn(&[[0.0, 0.3, 0.699_999, 0.0]], 3, &[offset]).iter().filter(|n| [0, 3].contains(*n)).count(),
                0
            );
        }
    }
}
