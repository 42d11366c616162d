//! p(x|z): how well composed logits explain an image.

use crate::config::Likelihood;
use crate::layers::{bernoulli_log_prob, sigmoid};
use candle_core::{D, Result, Tensor};

impl Likelihood {
    /// log p(x|z) in nats, summed over pixels and channels: logits and images (B, H, W, C) → (B).
    pub fn log_prob(&self, logits: &Tensor, images: &Tensor) -> Result<Tensor> {
        match self {
            Self::Bernoulli => bernoulli_log_prob(logits, images),
            Self::Gaussian { deviation } => {
                let z = ((self.mean(logits)? - images)? / *deviation)?;
                let normaliser = deviation.ln() + 0.5 * (2.0 * std::f64::consts::PI).ln();
                ((z.sqr()? * -0.5)? - normaliser)?.flatten_from(1)?.sum(D::Minus1)
            }
        }
    }

    /// E[x|z], in [0, 1]: what a reconstruction shows.
    pub fn mean(&self, logits: &Tensor) -> Result<Tensor> {
        sigmoid(logits)
    }
}
