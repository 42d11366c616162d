//! The importance-weighted bound on log p(x), for any number of samples, in constant memory.

use super::mean::Mean;
use super::scenes::{EvaluationError, Example, stack};
use crate::model::{Encoding, Model, Selection};
use crate::random;
use candle_core::{DType, Device, Result, Tensor};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Decoded images (images × samples) at a time; fewer of large ones.
const ROWS: usize = 1024;

/// Samples of one image at a time. Part of what the result depends on, as each part of the noise starts on an even number.
const SAMPLES: usize = 64;

/// How log p(x) is bounded (Burda et al. 2016):
///
/// ```text
/// log p(x) ≥ log (1/S) Σ_s p(x|z_s) p(z_s) / q(z_s|x) − log C(N, K),   z_s ~ q(z|x)
/// ```
///
/// in expectation; it grows with S towards log p(x), which it reaches for S → ∞ but for what the selected cells leave out. With one
/// sample it is an estimate of the ELBO. The last term is the location's, as in the ELBO: 0 unless the decoder is told the
/// cells. Needs a Gaussian latent. Each image has noise of its own, named by the seed and its number.
#[derive(Clone, Copy, Debug)]
pub struct LikelihoodBound {
    /// How entities are selected.
    pub selection: Selection,
    /// S.
    pub samples: u64,
    /// Seed of the noise.
    pub seed: u64,
}

/// The bound over some images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundReport {
    /// How many images.
    pub images: u64,
    /// Their mean in nats; `None` without images.
    pub nats: Option<f64>,
    /// Its standard error over the images; `None` below two.
    pub sem: Option<f64>,
}

impl LikelihoodBound {
    /// The mean over many images.
    pub fn report<E: From<EvaluationError>>(
        &self,
        model: &Model,
        scenes: impl IntoIterator<Item = std::result::Result<Example, E>>,
        device: &Device,
    ) -> std::result::Result<BoundReport, E> {
        let mut mean = Mean::default();
        let at_once = (self.rows(model) / SAMPLES).max(1);
        let mut batch = Vec::with_capacity(at_once);
        let add = |mean: &mut Mean, batch: &[Example]| -> std::result::Result<(), EvaluationError> {
            mean.extend(self.of(model, &stack(model, batch, device)?, mean.count())?);
            Ok(())
        };
        for scene in scenes {
            batch.push(scene?);
            if batch.len() == at_once {
                add(&mut mean, &batch)?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            add(&mut mean, &batch)?;
        }
        Ok(BoundReport { images: mean.count(), nats: mean.value(), sem: mean.standard_error() })
    }

    fn rows(&self, model: &Model) -> usize {
        model.at_once(self.selection.entities, ROWS)
    }

    /// The bound of each of a few images (B, H, W, C), whose first has this number.
    pub fn of(&self, model: &Model, images: &Tensor, first: u64) -> Result<Vec<f64>> {
        // On one of the threads that compute, so that the kernels need not wake them one after the other.
        rayon::scope(|_| self.here(model, images, first))
    }

    fn here(&self, model: &Model, images: &Tensor, first: u64) -> Result<Vec<f64>> {
        let encoding = model.encode(images, &self.selection)?;
        let count = images.dim(0)?;
        let mut streams: Vec<ChaCha8Rng> =
            (0..count as u64).map(|i| random::stream(self.seed, "importance noise", first + i)).collect();
        let mut sums = vec![LogMeanExp::default(); count];
        let mut left = self.samples;
        while left > 0 {
            let samples = left.min(SAMPLES as u64) as usize;
            left -= samples as u64;
            for (sum, weights) in
                sums.iter_mut().zip(self.log_weights(model, images, &encoding, &mut streams, samples)?)
            {
                weights.into_iter().for_each(|w| sum.add(w));
            }
        }
        let located = model.location_nats(self.selection.entities);
        Ok(sums.iter().map(|sum| sum.value() - located).collect())
    }

    /// log w of some more samples of each image.
    fn log_weights(
        &self,
        model: &Model,
        images: &Tensor,
        encoding: &Encoding,
        streams: &mut [ChaCha8Rng],
        samples: usize,
    ) -> Result<Vec<Vec<f64>>> {
        let (_, k, d) = encoding.entities.mean()?.dims3()?;
        let mut noise = vec![0f32; streams.len() * samples * k * d];
        let parts = noise.par_chunks_mut(samples * k * d).zip(&mut *streams);
        parts.for_each(|(noise, stream)| random::normals(stream, noise));
        let noise =
            Tensor::from_vec(noise, (images.dim(0)?, samples, k, d), images.device())?.to_dtype(images.dtype())?;
        let z = encoding.entities.samples(&noise)?;
        let mut weights = vec![Vec::with_capacity(samples); streams.len()];
        let at_once = (self.rows(model) / streams.len()).max(1);
        for first in (0..samples).step_by(at_once) {
            let count = at_once.min(samples - first);
            let some = |x: &Tensor| x.narrow(1, first, count)?.contiguous();
            let weighed = model.weigh(images, encoding, &some(&z)?, &some(&noise)?)?;
            let some = weighed.log_weights()?.to_dtype(DType::F64)?.to_device(&Device::Cpu)?.to_vec2()?;
            weights.iter_mut().zip(some).for_each(|(all, some)| all.extend::<Vec<f64>>(some));
        }
        Ok(weights)
    }
}

/// log of the mean of exponentials, term by term: the largest so far is kept apart, so that nothing overflows.
#[derive(Clone, Copy, Debug)]
struct LogMeanExp {
    largest: f64,
    /// Σ exp(w − largest).
    sum: f64,
    count: u64,
}

impl Default for LogMeanExp {
    fn default() -> Self {
        Self { largest: f64::NEG_INFINITY, sum: 0.0, count: 0 }
    }
}

impl LogMeanExp {
    fn add(&mut self, w: f64) {
        self.count += 1;
        if w.is_nan() {
            self.sum = w;
        } else if w > self.largest {
            self.sum = self.sum * (self.largest - w).exp() + 1.0;
            self.largest = w;
        } else if w > f64::NEG_INFINITY {
            self.sum += (w - self.largest).exp();
        }
    }

    fn value(&self) -> f64 {
        self.largest + (self.sum / self.count as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_mean_exp(terms: &[f64]) -> f64 {
        let mut sum = LogMeanExp::default();
        terms.iter().for_each(|w| sum.add(*w));
        sum.value()
    }

    #[test]
    fn it_is_the_logarithm_of_the_mean() {
        let terms: [f64; 5] = [0.3, -1.2, 2.5, 2.5, -40.0];
        let plain = (terms.iter().map(|w| w.exp()).sum::<f64>() / 5.0).ln();
        assert!((log_mean_exp(&terms) - plain).abs() < 1e-14);
    }

    #[test]
    fn far_from_zero_it_neither_overflows_nor_vanishes() {
        assert_eq!(log_mean_exp(&[-2000.0, -2000.0]), -2000.0);
        assert_eq!(log_mean_exp(&[1e6, -1e6, f64::NEG_INFINITY, f64::NEG_INFINITY]), 1e6 - 4f64.ln());
        assert_eq!(log_mean_exp(&[f64::NEG_INFINITY; 3]), f64::NEG_INFINITY);
    }

    #[test]
    fn what_is_not_a_number_does_not_get_lost() {
        for terms in [[f64::NAN, 0.0], [0.0, f64::NAN]] {
            assert!(log_mean_exp(&terms).is_nan());
        }
    }
}
