//! Diagonal Gaussians: their KL from the standard normal, and samples of them.
//!
//! KL(N(μ, σ²) ‖ N(0, 1)) = Σ_d ½ (σ_d² − 1 − ln σ_d² + μ_d²), D. Kingma and M. Welling, "Auto-Encoding Variational Bayes" (ICLR 2014),
//! appendix B. Its derivatives are μ and ½ (σ² − 1). It is wanted of every candidate, most of which go no further.

#[cfg(feature = "cuda")]
use super::gpu;
use super::op::{Kernel, Path, apply1};
use super::real::{Real, vectorise};
use candle_core::{D, Result, Shape, Tensor};
use rayon::prelude::*;

/// KL in nats of Gaussians given by their means and, behind them, logarithms of their variances: (B, N, 2D) → (B, N).
///
/// Log-variances beyond ± `limit` count as `limit`, and get no gradient.
pub fn gaussian_kl(parameters: &Tensor, limit: f64) -> Result<Tensor> {
    let (batch, candidates, numbers) = parameters.dims3()?;
    match Path::of(parameters) {
        Path::Cpu => apply1(GaussianKl { shape: (batch, candidates), dimensions: numbers / 2, limit }, parameters),
        #[cfg(feature = "cuda")]
        Path::Gpu => gpu::kl(parameters, limit),
        Path::Candle => reference(parameters, limit),
    }
}

/// z = μ + σ ⊙ ε: Gaussians (B, K, 2D) and standard normal noise (B, K, D) → (B, K, D). Log-variances count as for [`gaussian_kl`].
pub fn gaussian_sample(parameters: &Tensor, noise: &Tensor, limit: f64) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Path::Gpu = Path::of(parameters) {
        return gpu::sample(parameters, noise, limit);
    }
    reference_sample(parameters, noise, limit)
}

/// The same on candle's operations.
pub(super) fn reference_sample(parameters: &Tensor, noise: &Tensor, limit: f64) -> Result<Tensor> {
    let dimensions = noise.dim(D::Minus1)?;
    let mean = parameters.narrow(D::Minus1, 0, dimensions)?;
    let log_var = parameters.narrow(D::Minus1, dimensions, dimensions)?.clamp(-limit, limit)?;
    mean + ((log_var * 0.5)?.exp()? * noise)?
}

/// What each dimension adds to it, (B, N, 2D) → (B, N, D), on candle's operations.
pub fn gaussian_kl_of_dimensions(parameters: &Tensor, limit: f64) -> Result<Tensor> {
    let dimensions = parameters.dim(D::Minus1)? / 2;
    let mean = parameters.narrow(D::Minus1, 0, dimensions)?;
    let log_var = parameters.narrow(D::Minus1, dimensions, dimensions)?.clamp(-limit, limit)?;
    // Term by term near 0 each, so that nothing cancels where a posterior is nearly the prior.
    (((log_var.exp()? - 1.0)? - log_var)? + mean.sqr()?)? * 0.5
}

/// The same as [`gaussian_kl`] on candle's operations.
fn reference(parameters: &Tensor, limit: f64) -> Result<Tensor> {
    gaussian_kl_of_dimensions(parameters, limit)?.sum(D::Minus1)
}

struct GaussianKl {
    shape: (usize, usize),
    dimensions: usize,
    limit: f64,
}

/// Candidates of one piece of parallel work.
const PIECE: usize = 256;
/// Sums are formed side by side and then together: for vectors, and to keep the rounding of `f32` out of the result.
const LANES: usize = 16;

impl Kernel for GaussianKl {
    const NAME: &'static str = "gaussian KL";

    fn forward<T: Real>(&self, [parameters, _]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let mut kls = vec![T::zero(); self.shape.0 * self.shape.1];
        let (d, limit) = (self.dimensions, T::from_f64(self.limit));
        let half = T::from_f64(0.5);
        kls.par_chunks_mut(PIECE).zip(parameters.par_chunks(PIECE * 2 * d)).for_each(|(kls, parameters)| {
            vectorise(
                #[inline(always)]
                || {
                    for (kl, gaussian) in kls.iter_mut().zip(parameters.chunks_exact(2 * d)) {
                        let (mean, log_var) = gaussian.split_at(d);
                        let mut sums = [T::zero(); LANES];
                        for (mean, log_var) in mean.chunks(LANES).zip(log_var.chunks(LANES)) {
                            for ((sum, m), l) in sums.iter_mut().zip(mean).zip(log_var) {
                                let l = within(*l, limit);
                                *sum += l.exp() - T::one() - l + *m * *m;
                            }
                        }
                        *kl = half * sums.iter().fold(T::zero(), |sum, s| sum + *s);
                    }
                },
            );
        });
        Ok((kls, self.shape.into()))
    }

    fn backward<T: Real>(
        &self,
        [parameters, _]: [&[T]; 2],
        _: &[T],
        gradient: &[T],
        _: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let mut out = vec![T::zero(); parameters.len()];
        let (d, limit) = (self.dimensions, T::from_f64(self.limit));
        let half = T::from_f64(0.5);
        let pieces = out.par_chunks_mut(PIECE * 2 * d).zip(parameters.par_chunks(PIECE * 2 * d));
        pieces.zip(gradient.par_chunks(PIECE)).for_each(|((out, parameters), gradient)| {
            vectorise(
                #[inline(always)]
                || {
                    let gaussians = out.chunks_exact_mut(2 * d).zip(parameters.chunks_exact(2 * d));
                    for ((out, gaussian), g) in gaussians.zip(gradient) {
                        let ((dm, dl), (mean, log_var)) = (out.split_at_mut(d), gaussian.split_at(d));
                        for (dm, m) in dm.iter_mut().zip(mean) {
                            *dm = *g * *m;
                        }
                        for (dl, l) in dl.iter_mut().zip(log_var) {
                            let inside = l.magnitude() <= limit;
                            *dl = if inside { *g * half * (l.exp() - T::one()) } else { T::zero() };
                        }
                    }
                },
            );
        });
        Ok([Some(out), None])
    }
}

/// `x`, or the nearer of ±`limit`; NaN stays NaN.
#[inline(always)]
fn within<T: Real>(x: T, limit: T) -> T {
    let x = if x > limit { limit } else { x };
    if x < T::zero() - limit { T::zero() - limit } else { x }
}

#[cfg(test)]
mod tests {
    use super::super::agreement::{agree, cases, uniform};
    use super::*;
    use candle_core::{Device, Var};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(60))]

        #[test]
        fn kernel_and_reference_agree(shape in (1..=3usize, 1..=300usize, 1..=40usize), seed: u64) {
            let (images, candidates, dimensions) = shape;
            // A quarter of the log-variances are beyond the limit.
            let parameters = uniform(&[images, candidates, 2 * dimensions], 4.0, seed).unwrap();
            agree([parameters], |[p]| gaussian_kl(p, 3.0), |[p]| reference(p, 3.0))?;
        }
    }

    #[test]
    fn kernel_reference_and_definition_agree() -> Result<()> {
        for (batch, candidates, dimensions) in [(2, 3, 1), (3, 5, 16), (1, 700, 2), (2, 4, 37)] {
            let count = batch * candidates * 2 * dimensions;
            let mut numbers: Vec<_> = (0..count).map(|i| (i * 7919 % 1009) as f64 / 250.0 - 2.0).collect();
            numbers[dimensions] = 12.0;
            let shape = (batch, candidates, 2 * dimensions);
            let parameters = Tensor::from_vec(numbers, shape, &Device::Cpu)?;
            let parameters = Var::from_tensor(&parameters)?;
            let (ours, theirs) = (gaussian_kl(&parameters, 10.0)?, reference(&parameters, 10.0)?);
            let rows = parameters.reshape(((), 2 * dimensions))?.to_vec2::<f64>()?;
            let values = |x: &Tensor| x.flatten_all()?.to_vec1::<f64>();
            for ((a, b), row) in values(&ours)?.into_iter().zip(values(&theirs)?).zip(rows) {
                let (mean, log_var) = row.split_at(dimensions);
                let term = |(m, l): (&f64, &f64)| (l.min(10.0).exp() - 1.0 - l.min(10.0) + m * m) / 2.0;
                let exact: f64 = mean.iter().zip(log_var).map(term).sum();
                assert!((a - exact).abs() < 1e-9 && (b - exact).abs() < 1e-9, "{a} and {b} for {exact}");
            }
            // Each candidate's KL counts with a factor of its own.
            let factors = Tensor::arange(1f64, (batch * candidates + 1) as f64, &Device::Cpu)?;
            let factors = factors.reshape((batch, candidates))?;
            let gradient = |kl: Tensor| -> Result<Vec<f64>> {
                values((kl * &factors)?.sum_all()?.backward()?.get(&parameters).unwrap())
            };
            let (ours, theirs) = (gradient(ours)?, gradient(theirs)?);
            assert_eq!(ours[dimensions], 0.0, "what is beyond the limit gets no gradient");
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - b).abs() < 1e-9);
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_no_number_stays_none() -> Result<()> {
        let parameters = Tensor::new(&[[[f32::NAN, 0.0], [0.0, f32::NAN], [0.0, 0.0]]], &Device::Cpu)?;
        let kls = gaussian_kl(&parameters, 10.0)?.to_vec2::<f32>()?;
        assert!(kls[0][0].is_nan() && kls[0][1].is_nan() && kls[0][2] == 0.0);
        Ok(())
    }
}
