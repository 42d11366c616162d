//! The Bernoulli log-likelihood, on logits.
//!
//! log p(x) = Σ x log σ(l) + (1 − x) log(1 − σ(l)) = Σ x l − softplus(l), which is finite for every finite logit, also where
//! σ(l) rounds to 0 or 1. Its derivative is x − σ(l).

#[cfg(feature = "cuda")]
use super::gpu;
use super::mix::softplus;
use super::op::{Kernel, Path, apply2};
use super::real::{Real, vectorise};
use candle_core::{D, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// log p(x) in nats, summed over everything but the batch: logits and targets (B, …) → (B).
///
/// Targets may be grey, in [0, 1]; they get no gradient.
pub fn bernoulli_log_prob(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if logits.shape() != targets.shape() {
        bail!("logits of shape {:?} cannot be scored against an image of shape {:?}", logits.shape(), targets.shape());
    }
    match Path::of(logits) {
        Path::Cpu => apply2(Bernoulli { images: logits.dim(0)? }, logits, &targets.detach()),
        #[cfg(feature = "cuda")]
        Path::Gpu => gpu::bernoulli(logits, &targets.detach()),
        Path::Candle => reference(logits, targets),
    }
}

/// The same on candle's operations.
fn reference(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    ((logits * targets.detach())? - softplus(logits)?)?.flatten_from(1)?.sum(D::Minus1)
}

struct Bernoulli {
    images: usize,
}

/// Sums are formed side by side and then together: for vectors, and to keep the rounding of `f32` out of the result.
const LANES: usize = 64;

impl Kernel for Bernoulli {
    const NAME: &'static str = "bernoulli";

    fn forward<T: Real>(&self, [logits, targets]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let n = logits.len() / self.images;
        let image = |(l, x): (&[T], &[T])| {
            let mut sums = [T::zero(); LANES];
            vectorise(
                #[inline(always)]
                || {
                    for (l, x) in l.chunks(LANES).zip(x.chunks(LANES)) {
                        for (sum, (l, x)) in sums.iter_mut().zip(l.iter().zip(x)) {
                            *sum += *x * *l - l.softplus();
                        }
                    }
                },
            );
            sums.iter().fold(T::zero(), |sum, s| sum + *s)
        };
        let log_probs = logits.par_chunks(n).zip(targets.par_chunks(n)).map(image).collect();
        Ok((log_probs, self.images.into()))
    }

    fn backward<T: Real>(
        &self,
        [logits, targets]: [&[T]; 2],
        _: &[T],
        gradient: &[T],
        _: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let n = logits.len() / self.images;
        let mut out = vec![T::zero(); logits.len()];
        let images = out.par_chunks_mut(n).zip(logits.par_chunks(n).zip(targets.par_chunks(n)));
        images.zip(gradient).for_each(|((out, (l, x)), g)| {
            vectorise(
                #[inline(always)]
                || {
                    for ((o, l), x) in out.iter_mut().zip(l).zip(x) {
                        *o = *g * (*x - l.sigmoid());
                    }
                },
            );
        });
        Ok([Some(out), None])
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::{agree, cases, uniform};
    use super::*;
    use candle_core::{DType, Device, Var};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(100))]

        #[test]
        fn kernel_and_reference_agree(images in 1..=5usize, numbers in 1..=300usize, seed: u64) {
            let [logits, targets] = [(8.0, seed), (2.0, seed ^ 1)].map(|(d, seed)| uniform(&[images, numbers], d, seed).unwrap());
            let targets = |like: &Tensor| candle_nn::ops::sigmoid(&targets)?.to_dtype(like.dtype());
            agree([logits], |[l]| bernoulli_log_prob(l, &targets(l)?), |[l]| reference(l, &targets(l)?))?;
        }
    }

    fn images(values: &[f64], shape: (usize, usize)) -> Result<Tensor> {
        Tensor::from_iter((0..shape.0 * shape.1).map(|i| values[i % values.len()]), &Device::Cpu)?.reshape(shape)
    }

    #[test]
    fn kernel_reference_and_definition_agree() -> Result<()> {
        let logits = Var::from_tensor(&images(&[-4.0, -0.3, 0.0, 0.7, 5.0], (3, 150))?)?;
        let targets = images(&[0.0, 0.2, 1.0], (3, 150))?;
        let (ours, theirs) = (bernoulli_log_prob(&logits, &targets)?, reference(&logits, &targets)?);
        let (l, x) = (logits.to_vec2::<f64>()?, targets.to_vec2::<f64>()?);
        for (i, (a, b)) in ours.to_vec1::<f64>()?.into_iter().zip(theirs.to_vec1::<f64>()?).enumerate() {
            let p = |l: f64| 1.0 / (1.0 + (-l).exp());
            let exact: f64 = l[i].iter().zip(&x[i]).map(|(l, x)| x * p(*l).ln() + (1.0 - x) * (1.0 - p(*l)).ln()).sum();
            assert!((a - exact).abs() < 1e-9 && (b - exact).abs() < 1e-9);
        }
        let gradients =
            |out: Tensor| -> Result<Vec<Vec<f64>>> { out.sum_all()?.backward()?.get(&logits).unwrap().to_vec2() };
        for (a, b) in gradients(ours)?.concat().into_iter().zip(gradients(theirs)?.concat()) {
            assert!((a - b).abs() < 1e-12);
        }
        Ok(())
    }

    #[test]
    fn extreme_logits_are_finite_and_right() -> Result<()> {
        let logits = Tensor::new(&[[-120f32, 120.0], [120.0, -120.0], [0.0, 0.0]], &Device::Cpu)?;
        let targets = Tensor::new(&[[0f32, 1.0], [0.0, 1.0], [0.5, 0.5]], &Device::Cpu)?;
        let nats = bernoulli_log_prob(&logits, &targets)?.to_vec1::<f32>()?;
        // Exactly −2 ln(1 + e⁻¹²⁰), far below the smallest normal number.
        assert!(nats[0].abs() < 1e-37);
        assert_eq!(nats[1], -240.0);
        assert!((nats[2] + 2.0 * std::f32::consts::LN_2).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn different_shapes_are_refused() -> Result<()> {
        let a = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        assert!(bernoulli_log_prob(&a, &Tensor::zeros((3, 2), DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
