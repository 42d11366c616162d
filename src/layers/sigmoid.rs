//! The logistic sigmoid, from logits to what is seen.

use super::op::{Kernel, Path, apply1};
use super::real::{Real, vectorise};
use candle_core::{Result, Shape, Tensor};
use rayon::prelude::*;

/// σ(x) = 1 / (1 + e⁻ˣ) of every number.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    match Path::of(x) {
        Path::Cpu => apply1(Sigmoid { shape: x.shape().clone() }, x),
        _ => candle_nn::ops::sigmoid(&x.contiguous()?),
    }
}

struct Sigmoid {
    shape: Shape,
}

/// Numbers that are worth a thread.
const AT_ONCE: usize = 1 << 14;

impl Kernel for Sigmoid {
    const NAME: &'static str = "sigmoid";

    fn forward<T: Real>(&self, [x, _]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let mut y = vec![T::zero(); x.len()];
        y.par_chunks_mut(AT_ONCE).zip(x.par_chunks(AT_ONCE)).for_each(|(y, x)| {
            vectorise(
                #[inline(always)]
                || y.iter_mut().zip(x).for_each(|(y, x)| *y = x.sigmoid()),
            );
        });
        Ok((y, self.shape.clone()))
    }

    /// σ' = σ (1 − σ)
    fn backward<T: Real>(&self, _: [&[T]; 2], y: &[T], gradient: &[T], _: [bool; 2]) -> Result<[Option<Vec<T>>; 2]> {
        let mut dx = gradient.to_vec();
        dx.par_chunks_mut(AT_ONCE).zip(y.par_chunks(AT_ONCE)).for_each(|(dx, y)| {
            vectorise(
                #[inline(always)]
                || dx.iter_mut().zip(y).for_each(|(d, y)| *d = *d * *y * (T::one() - *y)),
            );
        });
        Ok([Some(dx), None])
    }
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
        fn kernel_and_candle_agree(rows in 1..=50usize, columns in 1..=900usize, seed: u64) {
            let x = uniform(&[rows, columns], 12.0, seed).unwrap();
            agree([x], |[x]| sigmoid(x), |[x]| candle_nn::ops::sigmoid(x))?;
        }
    }

    /// More numbers than one thread is given, of a shape that is none of the kernel's business.
    fn logits() -> Result<Var> {
        let numbers = (0..3 * 2 * 4001).map(|i| (i % 2003) as f64 / 50.0 - 20.0);
        Var::from_tensor(&Tensor::from_iter(numbers, &Device::Cpu)?.reshape((3, 2, 4001))?)
    }

    #[test]
    fn values_and_gradients_are_candles() -> Result<()> {
        let x = logits()?;
        let (ours, theirs) = (sigmoid(&x)?, candle_nn::ops::sigmoid(&x)?);
        assert_eq!(ours.shape(), theirs.shape());
        let gradient =
            |y: &Tensor| -> Result<Tensor> { Ok(y.sqr()?.sum_all()?.backward()?.get(&x).expect("a gradient").clone()) };
        for (a, b) in [(gradient(&ours)?, gradient(&theirs)?), (ours, theirs)] {
            assert!((a - b)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
        }
        Ok(())
    }

    #[test]
    fn a_view_is_read_where_it_lies() -> Result<()> {
        let x = logits()?.narrow(2, 7, 100)?.transpose(0, 1)?;
        let apart = (sigmoid(&x)? - candle_nn::ops::sigmoid(&x.contiguous()?)?)?;
        assert!(apart.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
        Ok(())
    }
}
