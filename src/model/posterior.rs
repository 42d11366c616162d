//! q(z|x): what the encoder says of each candidate, and what is kept of it.

use super::selector::Cells;
use crate::config::Latent;
use crate::layers::{gather, gaussian_kl, gaussian_kl_of_dimensions, gaussian_sample};
use candle_core::{D, DType, Device, Result, Tensor, bail};
use std::sync::OnceLock;

/// Log-variances are kept in [−`LOG_VAR_LIMIT`, `LOG_VAR_LIMIT`]: deviations between 0.7 % and 150 of the prior's, so that no
/// step of the optimiser can overflow the KL.
pub const LOG_VAR_LIMIT: f64 = 10.0;

/// Independent posteriors: (B, N, D) for candidates, (B, K, D) for entities.
#[derive(Clone, Debug)]
pub struct Posterior {
    /// Everything the encoder emits per posterior, (B, N, D) or (B, N, 2D).
    parameters: Tensor,
    latent: Latent,
    /// Its KL, once somebody asked: the selector does, and then the loss.
    kl: OnceLock<Tensor>,
}

impl Posterior {
    pub(super) fn new(parameters: Tensor, latent: &Latent) -> Result<Self> {
        Ok(Self { parameters, latent: latent.clone(), kl: OnceLock::new() })
    }

    /// (B, N): images and posteriors of each.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        let (b, n, _) = self.parameters.dims3()?;
        Ok((b, n))
    }

    /// Whether the latent is deterministic, without noise and KL.
    pub fn is_point(&self) -> bool {
        matches!(self.latent, Latent::Point { .. })
    }

    /// μ, or the code itself of a deterministic latent: (B, N, D).
    pub fn mean(&self) -> Result<Tensor> {
        match &self.latent {
            Latent::Point { activation, .. } => activation.apply(&self.parameters),
            Latent::Gaussian { dimensions, .. } => self.parameters.narrow(D::Minus1, 0, *dimensions),
        }
    }

    /// log σ², (B, N, D); `None` for a deterministic latent.
    pub fn log_var(&self) -> Result<Option<Tensor>> {
        match &self.latent {
            Latent::Point { .. } => Ok(None),
            Latent::Gaussian { dimensions, .. } => {
                let log_var = self.parameters.narrow(D::Minus1, *dimensions, *dimensions)?;
                log_var.clamp(-LOG_VAR_LIMIT, LOG_VAR_LIMIT).map(Some)
            }
        }
    }

    /// What each dimension adds to the KL, ½ (σ² + μ² − log σ² − 1) in nats: (B, N, D); `None` for a deterministic latent.
    pub fn kl_of_dimensions(&self) -> Result<Option<Tensor>> {
        match &self.latent {
            Latent::Gaussian { .. } => gaussian_kl_of_dimensions(&self.parameters, LOG_VAR_LIMIT).map(Some),
            Latent::Point { .. } => Ok(None),
        }
    }

    /// KL(q ‖ N(0, I)) = ½ Σ (σ² + μ² − log σ² − 1) in nats, (B, N) (Kingma & Welling 2014, appendix B).
    /// 0 for a deterministic latent, which has no prior.
    pub fn kl(&self) -> Result<Tensor> {
        if let Some(kl) = self.kl.get() {
            return Ok(kl.clone());
        }
        let kl = match &self.latent {
            Latent::Gaussian { .. } => gaussian_kl(&self.parameters, LOG_VAR_LIMIT)?,
            Latent::Point { .. } => self.mean()?.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?.zeros_like()?,
        };
        Ok(self.kl.get_or_init(|| kl).clone())
    }

    /// z = μ + σ ⊙ ε, (B, N, D): the reparametrised sample for standard normal `noise`, or the mean without noise.
    pub fn sample(&self, noise: Option<&Tensor>) -> Result<Tensor> {
        match (&self.latent, noise) {
            (Latent::Gaussian { .. }, Some(noise)) => gaussian_sample(&self.parameters, noise, LOG_VAR_LIMIT),
            _ => self.mean(),
        }
    }

    /// S samples of each posterior by the same rule: noise and z are (B, S, K, D).
    pub fn samples(&self, noise: &Tensor) -> Result<Tensor> {
        let (mean, log_var) = self.gaussian()?;
        (log_var * 0.5)?.exp()?.broadcast_mul(noise)?.broadcast_add(&mean)
    }

    /// The noise that makes `z` of these posteriors: ε = (z − μ) / σ, (B, S, K, D).
    pub fn noise_of(&self, z: &Tensor) -> Result<Tensor> {
        let (mean, log_var) = self.gaussian()?;
        z.broadcast_sub(&mean)?.broadcast_mul(&(log_var * -0.5)?.exp()?)
    }

    /// log p(z) − log q(z|x) = ½ Σ (ε² + log σ² − z²) in nats, summed over entities: z and its noise (B, S, K, D) → (B, S).
    pub fn log_ratio(&self, z: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let (_, log_var) = self.gaussian()?;
        let terms = (noise.sqr()? - z.sqr()?)?.broadcast_add(&log_var)?;
        terms.flatten_from(2)?.sum(D::Minus1)? * 0.5
    }

    /// μ and log σ², (B, 1, K, D), of a latent that has a density.
    fn gaussian(&self) -> Result<(Tensor, Tensor)> {
        match self.log_var()? {
            Some(log_var) => Ok((self.mean()?.unsqueeze(1)?, log_var.unsqueeze(1)?)),
            None => bail!("a point latent has no density to weigh samples by"),
        }
    }

    /// The posteriors at `cells` (K of each image); the indices carry no gradient.
    pub fn gather(&self, cells: &Cells) -> Result<Self> {
        Self::new(gather(&self.parameters, cells.numbers())?, &self.latent)
    }

    /// What μ is made of: itself, or what the activation of a deterministic latent makes the code of, (B, N, D).
    pub(super) fn mean_parameters(&self) -> Result<Tensor> {
        self.parameters.narrow(D::Minus1, 0, self.latent.dimensions())
    }

    /// The same with other such numbers; what belongs to the variances carries no gradient.
    pub(super) fn with_mean_parameters(&self, means: &Tensor) -> Result<Self> {
        let (from, all) = (self.latent.dimensions(), self.parameters.dim(D::Minus1)?);
        let variances = self.parameters.narrow(D::Minus1, from, all - from)?.detach();
        Self::new(Tensor::cat(&[means, &variances], D::Minus1)?, &self.latent)
    }

    /// The same posteriors outside the graph: what is done with them costs no backward pass.
    pub fn detach(&self) -> Self {
        Self { parameters: self.parameters.detach(), latent: self.latent.clone(), kl: OnceLock::new() }
    }

    /// KL of each posterior on the host, image after image.
    pub fn kl_map(&self) -> Result<Vec<Vec<f32>>> {
        self.kl()?.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2()
    }
}
