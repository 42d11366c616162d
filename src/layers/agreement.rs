//! For tests: a kernel beside its form on candle's operations, over whatever shapes proptest draws.

use super::place::Places;
use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The same cases each time, so that a change alone can fail; other ones are drawn by another seed.
pub fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(2018), ..Config::default() }
}

/// Numbers between −`most` and `most`, in `f64`.
pub fn uniform(shape: &[usize], most: f64, seed: u64) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let numbers = (0..shape.iter().product()).map(|_| rng.random_range(-most..most)).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu)
}

/// That two functions of some inputs agree in `f64` and in `f32`: in their values, and in the gradients of a weighted sum of these with
/// respect to every input, each within a share of the largest.
pub fn agree<const N: usize>(
    inputs: [Tensor; N],
    ours: impl Fn([&Tensor; N]) -> Result<Tensor>,
    theirs: impl Fn([&Tensor; N]) -> Result<Tensor>,
) -> std::result::Result<(), TestCaseError> {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 5e-5)] {
        for (what, apart) in
            distances(&inputs, dtype, &ours, &theirs).map_err(|e| TestCaseError::fail(e.to_string()))?
        {
            prop_assert!(apart < tolerance, "{what} in {dtype:?} is off by {apart}");
        }
    }
    Ok(())
}

/// How far they are apart, as a share.
fn distances<const N: usize>(
    inputs: &[Tensor; N],
    dtype: DType,
    ours: impl Fn([&Tensor; N]) -> Result<Tensor>,
    theirs: impl Fn([&Tensor; N]) -> Result<Tensor>,
) -> Result<Vec<(String, f64)>> {
    let inputs: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(dtype)?)).collect::<Result<_>>()?;
    let at = std::array::from_fn(|i| inputs[i].as_tensor());
    let (ours, theirs) = (ours(at)?, theirs(at)?);
    assert_eq!(ours.shape(), theirs.shape());
    let weights = uniform(ours.dims(), 1.0, 1)?.to_dtype(dtype)?;
    let gradients = |out: &Tensor| (out * &weights)?.sum_all()?.backward();
    let (of_ours, of_theirs) = (gradients(&ours)?, gradients(&theirs)?);
    let mut all = vec![("the value".to_owned(), apart(&ours, &theirs)?)];
    for (i, x) in inputs.iter().enumerate() {
        let [a, b] = [&of_ours, &of_theirs].map(|all| all.get(x).expect("a gradient"));
        all.push((format!("the gradient of input {i}"), apart(a, b)?));
    }
    Ok(all)
}

/// NaN where any number is none, which candle's maximum would pass over.
fn apart(a: &Tensor, b: &Tensor) -> Result<f64> {
    let largest = |x: &Tensor| -> Result<f64> {
        let numbers = x.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let none = numbers.iter().find(|x| x.is_nan());
        Ok(none.copied().unwrap_or_else(|| numbers.iter().fold(0.0, |most, x| x.abs().max(most))))
    };
    Ok(largest(&(a - b)?)? / (1.0 + largest(b)?))
}

/// Images of some entities each: how many, the shape (M, P, Q, C) of all their patches, and where those lie, in part or wholly beside
/// their canvases too, or as whole canvases.
pub fn any_patches() -> impl Strategy<Value = (usize, [usize; 4], Places)> {
    let counts = (1..=3usize, 1..=4usize);
    let patch = (1..=6usize, 1..=6usize, 1..=3usize);
    let unused = (0..=2usize, 0..=2usize);
    let canvas = (1..=9usize, 1..=9usize);
    let corners = vec((-7..=9isize, -7..=9isize), 12);
    let all = (counts, patch, unused, canvas, corners, any::<bool>());
    all.prop_map(|((images, entities), (height, width, channels), unused, canvas, corners, whole)| {
        let (fill, count) = (-16.0, images * entities);
        let places = if whole {
            Places::whole((height, width), fill)
        } else {
            let used = (height.saturating_sub(unused.0).max(1), width.saturating_sub(unused.1).max(1));
            Places::at(&corners[..count], used, canvas, fill, &Device::Cpu).expect("as many corners as patches")
        };
        (entities, [count, height, width, channels], places)
    })
}
