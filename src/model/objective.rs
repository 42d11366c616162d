//! The loss, in nats per image:
//!
//! > loss = −log p(x|z) + β Σ_kept KL_k (+ β_idle Σ_idle KL_n + c Σ_kept (1 − e^(−KL_k / 2)))
//!
//! All terms are sums, over pixels and over latent dimensions, averaged over the batch alone; β multiplies the KL of the kept
//! candidates and nothing else. The terms in brackets are regularisers for training and never part of a reported ELBO. The first
//! is the KL of the candidates that are *not* kept, which nothing else restrains: where it costs nothing the KL map can have a ridge
//! along an object, on which a second entity finds a place. The second is a smooth charge
//! of c nats for each entity that is in use.

use super::Inference;
use crate::layers::objective;
use candle_core::{DType, Device, Result, Tensor};

/// The loss's weights at one moment of training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weights {
    /// β, factor of the KL.
    pub beta: f64,
    /// β_idle, factor of the KL of the candidates that are not kept.
    pub idle_beta: f64,
    /// c, nats charged for each entity in use.
    pub location_charge: f64,
}

/// The terms of the loss, each a scalar averaged over the batch.
#[derive(Clone, Debug)]
pub struct Loss {
    /// (5), in the order of [`Loss::values`].
    terms: Tensor,
    /// What training adds beside.
    beside: Option<Tensor>,
}

impl Loss {
    pub(super) fn of(terms: [&Tensor; 5]) -> Result<Self> {
        Ok(Self { terms: Tensor::stack(&terms, 0)?, beside: None })
    }

    /// The same and one term more, which reads no image of the batch.
    pub fn beside(self, nats: Tensor) -> Self {
        Self { beside: Some(nats), ..self }
    }

    /// What is minimised.
    pub fn total(&self) -> Result<Tensor> {
        match &self.beside {
            Some(beside) => self.terms.get(0)? + beside,
            None => self.terms.get(0),
        }
    }

    /// −log p(x|z) in nats.
    pub fn reconstruction(&self) -> Result<Tensor> {
        self.terms.get(1)
    }

    /// The terms on the host: total; −log p(x|z); Σ_k KL_k, unweighted; the idle candidates' KL, the location charge and what is beside them
    /// as they entered the loss.
    pub fn values(&self) -> Result<[f64; 6]> {
        let terms = self.terms.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec1::<f64>()?;
        let beside = match &self.beside {
            Some(beside) => beside.to_dtype(DType::F64)?.to_scalar()?,
            None => 0.0,
        };
        Ok([terms[0] + beside, terms[1], terms[2], terms[3], terms[4], beside])
    }

    /// The same where they were computed.
    #[cfg(feature = "cuda")]
    pub(crate) fn terms(&self) -> &Tensor {
        &self.terms
    }
}

impl Weights {
    /// The loss of an inference for the images it was made of.
    pub fn loss(&self, inference: &Inference, images: &Tensor) -> Result<Loss> {
        let log_probs = inference.log_prob(images)?; // (B)
        let kls = inference.entities.kl()?; // (B, K)
        let weights = [self.beta, self.idle_beta, self.location_charge];
        // The KL of every candidate, and its way back, are work; where it does not count any other will do.
        let candidates = if self.idle_beta == 0.0 { kls.clone() } else { inference.candidates.kl()? };
        Ok(Loss { terms: objective(weights, &log_probs, &kls, &candidates)?, beside: None })
    }
}
