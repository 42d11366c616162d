//! The Bernoulli log-likelihood, on logits.
//!
//! log p(x) = Σ x log σ(l) + (1 − x) log(1 − σ(l)) = Σ x l − softplus(l), which is finite for every finite logit, also where
//! σ(l) rounds to 0 or 1. Its derivative is x − σ(l).

use super::real::{Real, vectorise};
use super::stack::{contiguous, on_cpu};
use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// log p(x) in nats, summed over everything but the batch: logits and targets (B, …) → (B).
///
/// Targets may be grey, in [0, 1]; they get no gradient.
pub fn bernoulli_log_prob(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if logits.shape() != targets.shape() {
        bail!("logits of shape {:?} cannot be scored against an image of shape {:?}", logits.shape(), targets.shape());
    }
    if logits.device().is_cpu() && matches!(logits.dtype(), DType::F32 | DType::F64) {
        logits.contiguous()?.apply_op2(&targets.detach().contiguous()?, Bernoulli)
    } else {
        reference(logits, targets)
    }
}

/// The same on candle's operations; softplus through `relu`, whose gradient at 0 makes softplus' the right ½.
fn reference(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let softplus = (logits.relu()? + (logits.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    ((logits * targets.detach())? - softplus)?.flatten_from(1)?.sum(D::Minus1)
}

struct Bernoulli;

/// Sums are formed over runs of this length and then together: small enough to keep the rounding of `f32` out of the result.
const RUN: usize = 64;

impl Bernoulli {
    fn forward<T: Real>(&self, logits: &[T], targets: &[T], batch: usize) -> Vec<T> {
        let n = logits.len() / batch;
        let image = |(l, x): (&[T], &[T])| {
            let runs = l.chunks(RUN).zip(x.chunks(RUN)).map(|(l, x)| {
                vectorise(|| {
                    let mut terms = [T::zero(); RUN];
                    for ((t, l), x) in terms.iter_mut().zip(l).zip(x) {
                        *t = *x * *l - l.softplus();
                    }
                    terms.iter().fold(T::zero(), |sum, t| sum + *t)
                })
            });
            runs.fold(T::zero(), |sum, run| sum + run)
        };
        logits.par_chunks(n).zip(targets.par_chunks(n)).map(image).collect()
    }

    fn backward<T: Real>(&self, logits: &[T], targets: &[T], gradient: &[T]) -> Vec<T> {
        let n = logits.len() / gradient.len();
        let mut out = vec![T::zero(); logits.len()];
        let images = out.par_chunks_mut(n).zip(logits.par_chunks(n).zip(targets.par_chunks(n)));
        images.zip(gradient).for_each(|((out, (l, x)), g)| {
            vectorise(|| {
                for ((o, l), x) in out.iter_mut().zip(l).zip(x) {
                    *o = *g * (*x - l.sigmoid());
                }
            });
        });
        out
    }

    fn run<T: Real>(&self, l: (&CpuStorage, &Layout), x: (&CpuStorage, &Layout)) -> Result<(CpuStorage, Shape)> {
        let batch = l.1.dims()[0];
        let log_prob = self.forward::<T>(contiguous(l.0, l.1)?, contiguous(x.0, x.1)?, batch);
        Ok((T::to_cpu_storage_owned(log_prob), batch.into()))
    }

    fn run_backward<T: Real>(&self, logits: &Tensor, targets: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let gradient = gradient.contiguous()?;
        let (ls, ll) = logits.storage_and_layout();
        let (xs, xl) = targets.storage_and_layout();
        let (gs, gl) = gradient.storage_and_layout();
        let (l, x) = (contiguous::<T>(on_cpu(&ls)?, ll)?, contiguous(on_cpu(&xs)?, xl)?);
        let out = self.backward(l, x, contiguous(on_cpu(&gs)?, gl)?);
        Tensor::from_vec(out, logits.shape(), logits.device())
    }
}

impl CustomOp2 for Bernoulli {
    fn name(&self) -> &'static str {
        "bernoulli"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        match s1 {
            CpuStorage::F64(_) => self.run::<f64>((s1, l1), (s2, l2)),
            _ => self.run::<f32>((s1, l1), (s2, l2)),
        }
    }

    fn bwd(&self, l: &Tensor, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = match l.dtype() {
            DType::F64 => self.run_backward::<f64>(l, x, gradient)?,
            _ => self.run_backward::<f32>(l, x, gradient)?,
        };
        Ok((Some(gradient), None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

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
