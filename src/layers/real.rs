//! The number types that kernels run in, with elementary functions that the compiler can vectorise.
//!
//! `f32` is what training uses; `f64` is there so that gradients can be compared with finite differences to many
//! digits. The `f32` functions are branch-free polynomials: called inside [`vectorise`] a loop over them compiles to
//! AVX2 or AVX-512, while the platform's `expf` would be one call per number.

use super::instructions::dispatch;
use super::scratch::Pool;
use candle_core::{CpuStorage, Result, WithDType, bail};
use pulp::bytemuck;
pub(super) use pulp::{Simd, WithSimd};

/// A floating-point type that the layers' kernels can run in.
pub trait Real: WithDType + Default {
    /// Where buffers of this type wait to be used again.
    fn pool() -> &'static Pool<Self>;
    /// The numbers of a storage of this type, to change.
    fn cpu_slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]>;
    /// eˣ. For `f32` the argument is limited to [−87, 88], so the result is positive and finite; NaN stays NaN.
    fn exp(self) -> Self;
    /// Natural logarithm of a positive, normal number.
    fn ln(self) -> Self;
    /// ln(1 + x) for x in [0, 1], accurate relative to the result (so also near 0).
    fn ln_1p(self) -> Self;
    /// √x.
    fn sqrt(self) -> Self;

    /// As many of these numbers as one instruction treats at once.
    type Vector<S: Simd>: bytemuck::Pod;
    /// Numbers in a vector.
    #[inline(always)]
    fn width<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }
    /// Reads numbers as vectors; those that fill none at the end are left out.
    fn vectors<S: Simd>(numbers: &[Self]) -> &[Self::Vector<S>];
    /// The same, to be written.
    fn vectors_mut<S: Simd>(numbers: &mut [Self]) -> &mut [Self::Vector<S>];
    /// The numbers of some vectors.
    fn numbers<S: Simd>(vectors: &[Self::Vector<S>]) -> &[Self];
    /// A vector of equal numbers.
    fn splat<S: Simd>(simd: S, number: Self) -> Self::Vector<S>;
    /// The sum of a vector's numbers.
    fn sum<S: Simd>(simd: S, vector: Self::Vector<S>) -> Self;
    /// a · b + c, rounded once where the processor can.
    fn mul_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;

    /// The larger of the two; the other one if `self` is NaN, as in `maxps`.
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if self > other { self } else { other }
    }

    /// |x|
    #[inline(always)]
    fn magnitude(self) -> Self {
        if self < Self::zero() { Self::zero() - self } else { self }
    }

    /// Logistic sigmoid 1 / (1 + e⁻ˣ).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::one() / (Self::one() + (Self::zero() - self).exp())
    }

    /// Hyperbolic tangent, through the sigmoid: tanh x = 2 sigmoid(2x) − 1.
    #[inline(always)]
    fn tanh(self) -> Self {
        let two = Self::one() + Self::one();
        two * (two * self).sigmoid() - Self::one()
    }

    /// ln(1 + eˣ) without overflow: max(x, 0) + ln(1 + e^−|x|).
    #[inline(always)]
    fn softplus(self) -> Self {
        let tail = (Self::zero() - self.magnitude()).exp().ln_1p();
        // The comparison is written so that NaN passes through instead of turning into 0.
        let positive = if self <= Self::zero() { Self::zero() } else { self };
        positive + tail
    }
}

impl Real for f64 {
    type Vector<S: Simd> = S::f64s;

    fn pool() -> &'static Pool<Self> {
        static POOL: Pool<f64> = Pool::new();
        &POOL
    }

    #[inline(always)]
    fn vectors<S: Simd>(numbers: &[Self]) -> &[S::f64s] {
        S::as_simd_f64s(numbers).0
    }
    #[inline(always)]
    fn vectors_mut<S: Simd>(numbers: &mut [Self]) -> &mut [S::f64s] {
        S::as_mut_simd_f64s(numbers).0
    }
    #[inline(always)]
    fn numbers<S: Simd>(vectors: &[S::f64s]) -> &[Self] {
        bytemuck::cast_slice(vectors)
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, number: Self) -> S::f64s {
        simd.splat_f64s(number)
    }
    #[inline(always)]
    fn sum<S: Simd>(simd: S, vector: S::f64s) -> Self {
        simd.reduce_sum_f64s(vector)
    }
    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::f64s, b: S::f64s, c: S::f64s) -> S::f64s {
        simd.mul_add_e_f64s(a, b, c)
    }
    fn cpu_slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F64(data) => Ok(data),
            _ => bail!("a kernel for f64 was given another type"),
        }
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        f64::ln_1p(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
}

impl Real for f32 {
    type Vector<S: Simd> = S::f32s;

    fn pool() -> &'static Pool<Self> {
        static POOL: Pool<f32> = Pool::new();
        &POOL
    }

    #[inline(always)]
    fn vectors<S: Simd>(numbers: &[Self]) -> &[S::f32s] {
        S::as_simd_f32s(numbers).0
    }
    #[inline(always)]
    fn vectors_mut<S: Simd>(numbers: &mut [Self]) -> &mut [S::f32s] {
        S::as_mut_simd_f32s(numbers).0
    }
    #[inline(always)]
    fn numbers<S: Simd>(vectors: &[S::f32s]) -> &[Self] {
        bytemuck::cast_slice(vectors)
    }
    #[inline(always)]
    fn splat<S: Simd>(simd: S, number: Self) -> S::f32s {
        simd.splat_f32s(number)
    }
    #[inline(always)]
    fn sum<S: Simd>(simd: S, vector: S::f32s) -> Self {
        simd.reduce_sum_f32s(vector)
    }
    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, c)
    }
    fn cpu_slice_mut(storage: &mut CpuStorage) -> Result<&mut [Self]> {
        match storage {
            CpuStorage::F32(data) => Ok(data),
            _ => bail!("a kernel for f32 was given another type"),
        }
    }
    #[inline(always)]
    fn exp(self) -> Self {
        // Adding 1.5·2²³ rounds to an integer and leaves that integer in the low bits of the sum's mantissa.
        const ROUND: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let x = self.clamp(-87.0, 88.0);
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = x - n * LN2_HIGH - n * LN2_LOW;
        // e^r for |r| ≤ ln(2)/2, Taylor terms up to r⁷/7!: the remainder is below 1e-8.
        let mut p = 1.0 / 5040.0;
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p * r + c;
        }
        p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        // x = m · 2ᵉ with m in [√½, √2), then ln m = 2 atanh((m − 1)/(m + 1)).
        const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
        let bits = self.to_bits().wrapping_sub(SQRT_HALF_BITS);
        let exponent = (bits as i32 >> 23) as f32;
        let m = f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF_BITS);
        let s = (m - 1.0) / (m + 1.0);
        exponent * std::f32::consts::LN_2 + twice_atanh(s)
    }

    #[inline(always)]
    fn ln_1p(self) -> Self {
        twice_atanh(self / (2.0 + self))
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
}

/// 2 atanh(s) = 2s (1 + s²/3 + s⁴/5 + …) for |s| ≤ ⅓, where nine terms leave an error below 1e-9.
#[inline(always)]
fn twice_atanh(s: f32) -> f32 {
    let q = s * s;
    let mut p = 1.0 / 17.0;
    for odd in [15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * q + 1.0 / odd;
    }
    2.0 * s * p
}

/// Runs a closure compiled for the instruction set in use.
///
/// Everything that should become vector code must be inlined, the closure itself included: `vectorise(#[inline(always)] || …)`. What
/// is not is compiled for every processor.
#[inline(always)]
pub fn vectorise<R>(work: impl FnOnce() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: FnOnce() -> R> WithSimd for Work<F> {
        type Output = R;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> R {
            (self.0)()
        }
    }
    dispatch(Work(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest relative error of an `f32` function against the `f64` one over a dense range.
    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, low: f64, high: f64) -> f64 {
        (0..=100_000)
            .map(|i| (low + (high - low) * i as f64 / 100_000.0) as f32)
            .map(|x| (f64::from(f(x)) / exact(f64::from(x)) - 1.0).abs())
            .filter(|e| !e.is_nan())
            .fold(0.0, f64::max)
    }

    #[test]
    fn single_precision_functions_are_accurate_to_a_few_ulps() {
        assert!(worst(Real::exp, f64::exp, -87.0, 88.0) < 3e-7);
        assert!(worst(Real::ln_1p, f64::ln_1p, 1e-12, 1.0) < 3e-7);
        assert!(worst(Real::ln, f64::ln, 1e-30, 0.9) < 3e-7);
        assert!(worst(Real::ln, f64::ln, 1.1, 1e30) < 3e-7);
        assert!(worst(Real::softplus, |x| (-x.abs()).exp().ln_1p() + x.max(0.0), -80.0, 120.0) < 1e-6);
        assert!(worst(Real::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 120.0) < 1e-6);
    }

    #[test]
    fn extremes_stay_finite_and_nan_stays_nan() {
        for x in [-1e30f32, -120.0, 120.0, 1e30, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(Real::exp(x).is_finite() && Real::exp(x) > 0.0);
            assert!((0.0..=1.0).contains(&Real::sigmoid(x)));
        }
        assert!(Real::exp(f32::NAN).is_nan());
        assert!(Real::softplus(f32::NAN).is_nan());
        assert!(Real::tanh(f32::NAN).is_nan());
        assert_eq!(Real::softplus(120f32), 120.0);
    }
}
