//! The probabilistic union of K Bernoulli variables, on logits.
//!
//! With p = 1 − Π(1 − p_k), the odds of two variables of logits a and b combine as (1 + eᵃ)(1 + eᵇ) − 1 = eᵃ + eᵇ + eᵃ⁺ᵇ, so
//!
//! > logit(a ∪ b) = log(eᵃ + eᵇ + eᵃ⁺ᵇ),
//!
//! a log-sum-exp, finite for every pair of finite logits; K variables are combined one after the other. The derivative is
//! ∂l/∂l_k = σ(l_k) / σ(l), written so that nothing overflows.

use super::real::{Real, vectorise};
use super::stack::{contiguous, on_cpu};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// Union over the second dimension: component logits (B, K, …) → logits (B, …).
pub fn union(logits: &Tensor) -> Result<Tensor> {
    if logits.device().is_cpu() && matches!(logits.dtype(), DType::F32 | DType::F64) {
        logits.contiguous()?.apply_op1(Union)
    } else {
        reference(logits)
    }
}

/// The same on candle's operations.
fn reference(logits: &Tensor) -> Result<Tensor> {
    let mut all = logits.narrow(1, 0, 1)?.squeeze(1)?;
    for k in 1..logits.dim(1)? {
        let one = logits.narrow(1, k, 1)?.squeeze(1)?;
        let both = (&all + &one)?;
        let largest = all.maximum(&one)?.maximum(&both)?.detach();
        let shifted = |x: &Tensor| (x - &largest)?.exp();
        all = (((shifted(&all)? + shifted(&one)?)? + shifted(&both)?)?.log()? + &largest)?;
    }
    Ok(all)
}

struct Union;

/// log(eᵃ + eᵇ + eᵃ⁺ᵇ): with the largest of the three exponents taken out, one term is 1, one e^−|low| and one
/// e^(low − high − low⁺), where low⁺ = max(low, 0).
#[inline(always)]
fn either<T: Real>(a: T, b: T) -> T {
    let high = a.larger(b);
    let low = if a > b { b } else { a };
    // Written so that NaN passes through instead of turning into 0.
    let low_positive = if low <= T::zero() { T::zero() } else { low };
    let terms = T::one() + (T::zero() - low.magnitude()).exp() + (low - high - low_positive).exp();
    high + low_positive + terms.ln()
}

/// The parts of σ(l_k) / σ(l) that depend on the union alone: with s = max(0, −l) it is
/// (e^−s + e^(−l − s)) / (e^−s + e^(−l_k − s)), in which no exponent but the last can be positive, and that one only makes
/// the quotient vanish. Returns (s, e^−s, numerator).
#[inline(always)]
fn shared<T: Real>(union: T) -> (T, T, T) {
    let shift = (T::zero() - union).larger(T::zero());
    let scale = (T::zero() - shift).exp();
    (shift, scale, scale + (T::zero() - union - shift).exp())
}

impl Union {
    fn forward<T: Real>(&self, logits: &[T], k: usize, n: usize) -> Vec<T> {
        let mut union = vec![T::zero(); logits.len() / k];
        union.par_chunks_mut(n).zip(logits.par_chunks(k * n)).for_each(|(union, components)| {
            let (first, rest) = components.split_at(n);
            union.copy_from_slice(first);
            for component in rest.chunks_exact(n) {
                vectorise(|| union.iter_mut().zip(component).for_each(|(u, l)| *u = either(*u, *l)));
            }
        });
        union
    }

    fn backward<T: Real>(&self, logits: &[T], union: &[T], gradient: &[T], k: usize, n: usize) -> Vec<T> {
        let mut out = vec![T::zero(); logits.len()];
        let images = out.par_chunks_mut(k * n).zip(logits.par_chunks(k * n));
        images.zip(union.par_chunks(n).zip(gradient.par_chunks(n))).for_each(
            |((out, components), (union, gradient))| {
                let mut common = vec![(T::zero(), T::zero(), T::zero()); n];
                vectorise(|| {
                    for ((c, u), g) in common.iter_mut().zip(union).zip(gradient) {
                        let (shift, scale, numerator) = shared(*u);
                        *c = (shift, scale, numerator * *g);
                    }
                });
                for (out, component) in out.chunks_exact_mut(n).zip(components.chunks_exact(n)) {
                    vectorise(|| {
                        for ((o, l), (shift, scale, numerator)) in out.iter_mut().zip(component).zip(&common) {
                            *o = *numerator / (*scale + (T::zero() - *l - *shift).exp());
                        }
                    });
                }
            },
        );
        out
    }

    fn run<T: Real>(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dims = layout.dims();
        let (k, n) = (dims[1], dims[2..].iter().product());
        let union = self.forward::<T>(contiguous(storage, layout)?, k, n);
        Ok((T::to_cpu_storage_owned(union), Shape::from([&dims[..1], &dims[2..]].concat())))
    }

    fn run_backward<T: Real>(&self, logits: &Tensor, union: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let gradient = gradient.contiguous()?;
        let (ls, ll) = logits.storage_and_layout();
        let (us, ul) = union.storage_and_layout();
        let (gs, gl) = gradient.storage_and_layout();
        let (k, n) = (logits.dim(1)?, logits.dims()[2..].iter().product());
        let out = self.backward::<T>(
            contiguous(on_cpu(&ls)?, ll)?,
            contiguous(on_cpu(&us)?, ul)?,
            contiguous(on_cpu(&gs)?, gl)?,
            k,
            n,
        );
        Tensor::from_vec(out, logits.shape(), logits.device())
    }
}

impl CustomOp1 for Union {
    fn name(&self) -> &'static str {
        "union"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        match storage {
            CpuStorage::F64(_) => self.run::<f64>(storage, layout),
            _ => self.run::<f32>(storage, layout),
        }
    }

    fn bwd(&self, logits: &Tensor, union: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        match logits.dtype() {
            DType::F64 => self.run_backward::<f64>(logits, union, gradient),
            _ => self.run_backward::<f32>(logits, union, gradient),
        }
        .map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn union_is_one_minus_the_product_of_complements() -> Result<()> {
        let logits = [[-3.0, 0.5, 2.0f64], [1.0, -0.25, -7.0], [0.0, 0.0, 4.0]];
        let union = super::union(&Tensor::new(&[logits], &Device::Cpu)?)?.to_vec2::<f64>()?;
        for i in 0..3 {
            let none: f64 = logits.iter().map(|l| 1.0 - 1.0 / (1.0 + (-l[i]).exp())).product();
            assert!((1.0 / (1.0 + (-union[0][i]).exp()) - (1.0 - none)).abs() < 1e-12);
        }
        Ok(())
    }

    #[test]
    fn kernel_and_reference_agree_up_to_extreme_logits() -> Result<()> {
        let values = [-120.0, -30.0, -16.0, -1.0, 0.0, 0.5, 16.0, 30.0, 120.0f32];
        let mut all = Vec::new();
        for k in 0..3 {
            all.extend((0..729).map(|i| values[[i % 9, i / 9 % 9, i / 81][k]]));
        }
        let logits = Var::from_tensor(&Tensor::from_vec(all, (1, 3, 27, 27), &Device::Cpu)?)?;
        let (ours, theirs) = (super::union(&logits)?, reference(&logits)?);
        let spread = |a: &Tensor, b: &Tensor| (a - b)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
        assert!(spread(&ours, &theirs)? < 1e-4);
        let (ours, theirs) = (ours.sum_all()?.backward()?, theirs.sum_all()?.backward()?);
        let (ours, theirs) = (ours.get(&logits).unwrap(), theirs.get(&logits).unwrap());
        assert!(spread(ours, theirs)? < 1e-4);
        assert!(ours.flatten_all()?.to_vec1::<f32>()?.iter().all(|g| (0.0..=1.0 + 1e-5).contains(g)));
        Ok(())
    }

    #[test]
    fn the_union_of_one_is_itself() -> Result<()> {
        let one = Tensor::new(&[[[-5.0f32, 0.0, 7.0]]], &Device::Cpu)?;
        assert_eq!(super::union(&one)?.to_vec2::<f32>()?, [[-5.0, 0.0, 7.0]]);
        Ok(())
    }
}
