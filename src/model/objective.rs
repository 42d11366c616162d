//! The loss, in nats per image:
//!
//! > loss = −log p(x|z) + β Σ_k KL_k (+ c Σ_k (1 − e^(−KL_k / 2)))
//!
//! Both terms are sums, over pixels and over latent dimensions, averaged over the batch alone; β multiplies the KL and nothing
//! else. The term in brackets, a smooth charge of c nats per entity that is in use, is a regulariser for training and never
//! part of a reported ELBO.

use super::Inference;
use candle_core::{DType, Device, Result, Tensor};

/// The loss's weights at one moment of training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Factor of the KL.
    pub beta: f64,
    /// c, nats charged for each entity in use.
    pub location_charge: f64,
}

/// The terms of the loss, each a scalar averaged over the batch.
#[derive(Clone, Debug)]
pub struct Loss {
    /// What is minimised.
    pub total: Tensor,
    /// −log p(x|z) in nats.
    pub reconstruction: Tensor,
    /// Σ_k KL_k in nats, unweighted.
    pub kl: Tensor,
    /// The location charge as it entered the loss.
    pub charge: Tensor,
}

impl Loss {
    /// The terms on the host: total, reconstruction, KL, charge.
    pub fn values(&self) -> Result<[f64; 4]> {
        let terms = [&self.total, &self.reconstruction, &self.kl, &self.charge];
        let terms = Tensor::stack(&terms, 0)?.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec1::<f64>()?;
        Ok([terms[0], terms[1], terms[2], terms[3]])
    }
}

impl Weights {
    /// The loss of an inference for the images it was made of.
    pub fn loss(&self, inference: &Inference, images: &Tensor) -> Result<Loss> {
        let reconstruction = inference.log_prob(images)?.mean(0)?.neg()?;
        let kls = inference.entities.kl()?; // (B, K)
        let kl = kls.sum(1)?.mean(0)?;
        let charge = (((kls * -0.5)?.exp()?.neg()? + 1.0)?.sum(1)?.mean(0)? * self.location_charge)?;
        let total = ((&reconstruction + (&kl * self.beta)?)? + &charge)?;
        Ok(Loss { total, reconstruction, kl, charge })
    }
}
