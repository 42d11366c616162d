//! Every layer against candle's own operations, finite differences and other numbers of threads.

use crate::gradients;
use candle_core::{DType, Device, Module, Result, Tensor, Var};
use multi_entity_vae::layers::{Activation, Extent, LayerSpec, Stack};
use multi_entity_vae::model::Variables;
use multi_entity_vae::random;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

fn values(shape: &[usize], name: &str) -> Result<Tensor> {
    let mut data = vec![0f32; shape.iter().product()];
    random::normals(&mut random::stream(1, name, 0), &mut data);
    Tensor::from_vec(data, shape, &Device::Cpu)?.to_dtype(DType::F64)
}

/// Layers of every kind, with odd, non-square, single-pixel and larger-stride-than-kernel geometries.
fn cases() -> Vec<(Extent, LayerSpec)> {
    let mut cases = vec![(Extent::vector(7), LayerSpec::Dense(5)), (Extent::new(3, 4, 2), LayerSpec::Dense(1))];
    for (kernel, stride) in
        [(1, 1), (3, 1), (4, 2), (2, 2), (5, 1), (5, 2), (3, 2), (6, 4), (8, 4), (4, 1), (2, 3), (7, 3)]
    {
        for (h, w, c) in [(6, 6, 3), (7, 5, 2), (1, 9, 1), (4, 1, 4), (1, 1, 2)] {
            let extent = Extent::new(h, w, c);
            cases.push((extent, LayerSpec::Convolution { channels: 3, kernel, stride }));
            cases.push((extent, LayerSpec::Upconvolution { channels: 2, kernel, stride }));
        }
    }
    cases
}

fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> Result<bool> {
    assert_eq!(a.shape(), b.shape());
    let worst = (a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    Ok(worst < tolerance)
}

#[test]
fn every_layer_and_activation_agrees_with_candle_in_values_and_gradients() -> Result<()> {
    for (extent, spec) in cases() {
        for activation in Activation::ALL {
            let variables = Variables::new(3);
            let stack = Stack::new(extent, &[(spec, activation)], variables.builder(DType::F64, &Device::Cpu))?;
            for (name, var) in variables.all() {
                var.set(&(values(var.dims(), &name)? * 0.3)?)?;
            }
            let x = Var::from_tensor(&values(&[3, extent.height, extent.width, extent.channels], "x")?)?;
            let (ours, theirs) = (stack.forward(&x)?, stack.reference(&x)?);
            assert!(close(&ours, &theirs, 1e-10)?, "{spec:?} over {extent} with {activation:?}");

            let direction = values(ours.dims(), "direction")?;
            let ours = (ours * &direction)?.sum_all()?.backward()?;
            let theirs = (theirs * &direction)?.sum_all()?.backward()?;
            for (name, var) in variables.all().into_iter().chain([("x".to_string(), x)]) {
                let (a, b) = (ours.get(&var).unwrap(), theirs.get(&var).unwrap());
                assert!(close(a, b, 1e-9)?, "gradient of {name}: {spec:?} over {extent} with {activation:?}");
            }
        }
    }
    Ok(())
}

/// A layer of any kind, the images that it reads and how many of them.
fn any_layer() -> impl Strategy<Value = (Extent, LayerSpec, Activation, usize)> {
    let kind =
        (0..3usize, 1..=40usize, 1..=8usize, 1..=4usize).prop_map(|(kind, channels, kernel, stride)| match kind {
            0 => LayerSpec::Dense(channels),
            1 => LayerSpec::Convolution { channels, kernel, stride },
            _ => LayerSpec::Upconvolution { channels, kernel, stride },
        });
    let extent = (1..=12usize, 1..=12usize, 1..=24usize).prop_map(|(h, w, c)| Extent::new(h, w, c));
    (extent, kind, select(Activation::ALL.to_vec()), 1..=9usize)
}

/// Values and gradients beside those of candle's operations, each within a share of the largest.
fn agrees((extent, spec, activation, batch): (Extent, LayerSpec, Activation, usize), dtype: DType) -> Result<bool> {
    let tolerance = if dtype == DType::F64 { 1e-10 } else { 3e-5 };
    let variables = Variables::new(6);
    let stack = Stack::new(extent, &[(spec, activation)], variables.builder(dtype, &Device::Cpu))?;
    // No bias is 0: candle's ReLU has another derivative there.
    for (name, var) in variables.all() {
        var.set(&(values(var.dims(), &name)? * 0.3)?.to_dtype(dtype)?)?;
    }
    let x = values(&[batch, extent.height, extent.width, extent.channels], "x")?.to_dtype(dtype)?;
    let x = Var::from_tensor(&x)?;
    let (ours, theirs) = (stack.forward(&x)?, stack.reference(&x)?);
    let direction = values(ours.dims(), "direction")?.to_dtype(dtype)?;
    let gradients = |y: &Tensor| (y * &direction)?.sum_all()?.backward();
    let (of_ours, of_theirs) = (gradients(&ours)?, gradients(&theirs)?);
    let mut pairs = vec![(ours, theirs)];
    for var in variables.all().into_iter().map(|(_, var)| var).chain([x]) {
        pairs.push((of_ours.get(&var).unwrap().clone(), of_theirs.get(&var).unwrap().clone()));
    }
    for (a, b) in pairs {
        let largest = b.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !close(&a, &b, tolerance * (1.0 + largest))? {
            return Ok(false);
        }
    }
    Ok(true)
}

proptest! {
    // The same cases each time, so that a change alone can fail; other ones are drawn by another seed.
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2018),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_layer_agrees_with_candle(layer in any_layer()) {
        // A ReLU whose input rounds to either side of 0 has two right gradients in single precision.
        let smooth = layer.2 != Activation::Relu;
        prop_assert!(agrees(layer, DType::F64).map_err(|e| TestCaseError::fail(e.to_string()))?, "in f64");
        prop_assert!(!smooth || agrees(layer, DType::F32).map_err(|e| TestCaseError::fail(e.to_string()))?, "in f32");
    }
}

fn encoder_and_decoder(variables: &Variables, dtype: DType) -> Result<Stack> {
    let specs = [
        (LayerSpec::Convolution { channels: 4, kernel: 4, stride: 2 }, Activation::Relu),
        (LayerSpec::Convolution { channels: 5, kernel: 3, stride: 1 }, Activation::Tanh),
        (LayerSpec::Dense(12), Activation::Sigmoid),
        (LayerSpec::Dense(2 * 3 * 4), Activation::Relu),
        (LayerSpec::Reshape(Extent::new(2, 3, 4)), Activation::Identity),
        (LayerSpec::Upconvolution { channels: 3, kernel: 4, stride: 2 }, Activation::Identity),
    ];
    Stack::new(Extent::new(9, 7, 2), &specs, variables.builder(dtype, &Device::Cpu))
}

#[test]
fn gradients_of_a_deep_stack_agree_with_finite_differences() -> Result<()> {
    for batch in [1, 5, 70] {
        let variables = Variables::new(5);
        let stack = encoder_and_decoder(&variables, DType::F64)?;
        let x = Var::from_tensor(&values(&[batch, 9, 7, 2], "x")?)?;
        let direction = values(&[batch, 4, 6, 3], "direction")?;
        let loss = || (stack.forward(&x)? * &direction)?.sum_all();
        for (name, var) in variables.all() {
            gradients::check(&name, &var, 12, loss)?;
        }
        gradients::check("x", &x, 12, loss)?;
    }
    Ok(())
}

#[test]
fn single_precision_agrees_with_double_precision() -> Result<()> {
    let (single, double) = (Variables::new(8), Variables::new(8));
    let x = values(&[6, 9, 7, 2], "x")?;
    let a = encoder_and_decoder(&single, DType::F32)?.forward(&x.to_dtype(DType::F32)?)?;
    let b = encoder_and_decoder(&double, DType::F64)?.forward(&x)?;
    assert!(close(&a.to_dtype(DType::F64)?, &b, 1e-5)?);
    Ok(())
}

/// Widths on both sides of whole vectors, narrow outputs, and phases of transposed convolutions alone, by row and all together; more
/// pixels than a tile has rows.
#[test]
fn wide_layers_agree_with_candle_in_single_precision() -> Result<()> {
    let convolution = |channels, kernel, stride| LayerSpec::Convolution { channels, kernel, stride };
    let upconvolution = |channels, kernel, stride| LayerSpec::Upconvolution { channels, kernel, stride };
    let cases = [
        (Extent::vector(96), LayerSpec::Dense(81)),
        (Extent::vector(64), LayerSpec::Dense(2)),
        (Extent::vector(33), LayerSpec::Dense(160)),
        (Extent::new(7, 9, 16), convolution(50, 3, 1)),
        (Extent::new(12, 10, 17), convolution(33, 4, 2)),
        (Extent::new(6, 5, 48), convolution(1, 3, 1)),
        (Extent::new(5, 4, 20), upconvolution(40, 4, 2)),
        (Extent::new(5, 4, 33), upconvolution(16, 4, 2)),
        (Extent::new(5, 4, 16), upconvolution(1, 4, 2)),
        (Extent::new(5, 4, 8), upconvolution(3, 6, 3)),
        // Cells beside each other, as many as fill a vector: more and fewer than the image is wide, and a rest.
        (Extent::new(5, 19, 17), upconvolution(1, 4, 2)),
        (Extent::new(3, 2, 17), upconvolution(1, 5, 2)),
        (Extent::new(4, 21, 9), upconvolution(1, 3, 1)),
        (Extent::new(4, 7, 16), upconvolution(2, 3, 2)),
    ];
    for (extent, spec) in cases {
        let variables = Variables::new(4);
        let stack = Stack::new(extent, &[(spec, Activation::Tanh)], variables.builder(DType::F32, &Device::Cpu))?;
        let x = values(&[5, extent.height, extent.width, extent.channels], "x")?.to_dtype(DType::F32)?;
        let x = Var::from_tensor(&x)?;
        let (ours, theirs) = (stack.forward(&x)?, stack.reference(&x)?);
        assert!(close(&ours, &theirs, 1e-5)?, "{spec:?} over {extent}");
        let direction = values(ours.dims(), "direction")?.to_dtype(DType::F32)?;
        let ours = (ours * &direction)?.sum_all()?.backward()?;
        let theirs = (theirs * &direction)?.sum_all()?.backward()?;
        for (name, var) in variables.all().into_iter().chain([("x".to_string(), x)]) {
            let (a, b) = (ours.get(&var).unwrap(), theirs.get(&var).unwrap());
            let scale = 1.0 + b.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>()?;
            assert!(close(a, b, 1e-5 * f64::from(scale))?, "gradient of {name}: {spec:?} over {extent}");
        }
    }
    Ok(())
}

/// Each pass has a chain of its own to the parameters.
#[test]
fn a_stack_that_is_used_twice_adds_its_gradients() -> Result<()> {
    let variables = Variables::new(6);
    let stack = encoder_and_decoder(&variables, DType::F64)?;
    let (x, y) = (values(&[5, 9, 7, 2], "x")?, values(&[3, 9, 7, 2], "y")?);
    let loss = |x: &Tensor| stack.forward(x)?.sqr()?.sum_all();
    let once = [loss(&x)?.backward()?, loss(&y)?.backward()?];
    let both = (loss(&x)? + loss(&y)?)?.backward()?;
    for (name, var) in variables.all() {
        let sum = (once[0].get(&var).unwrap() + once[1].get(&var).unwrap())?;
        assert!(close(both.get(&var).unwrap(), &sum, 1e-10)?, "{name}");
    }
    Ok(())
}

#[test]
fn layers_at_rest_keep_the_weights_that_they_had() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let variables = Variables::new(8);
        let stack = encoder_and_decoder(&variables, dtype)?;
        let x = values(&[6, 9, 7, 2], "x")?.to_dtype(dtype)?;
        let before = stack.forward(&x)?;
        let at_rest = stack.at_rest()?;
        for (_, var) in variables.all() {
            var.set(&(var.as_tensor() * 1.5)?)?;
        }
        assert!(close(&at_rest.forward(&x)?, &before, 1e-30)?, "a change of the weights was followed");
        assert!(!close(&stack.forward(&x)?, &before, 1e-3)?, "nothing was changed");
        assert!(
            at_rest.forward(Var::from_tensor(&x)?.as_tensor())?.track_op(),
            "the input has a gradient all the same"
        );
    }
    Ok(())
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let run = |threads: usize| -> Result<Vec<Vec<f32>>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let variables = Variables::new(2);
            let stack = encoder_and_decoder(&variables, DType::F32)?;
            let x = values(&[37, 9, 7, 2], "x")?.to_dtype(DType::F32)?;
            let gradients = stack.forward(&x)?.sqr()?.sum_all()?.backward()?;
            let all = variables.all();
            all.iter().map(|(_, v)| gradients.get(v).unwrap().flatten_all()?.to_vec1()).collect()
        })
    };
    let one = run(1)?;
    assert_eq!(one, run(2)?);
    assert_eq!(one, run(4)?);
    Ok(())
}

#[test]
fn impossible_sizes_are_refused() -> Result<()> {
    let build = |specs: &[(LayerSpec, Activation)]| {
        Stack::new(Extent::new(4, 4, 1), specs, Variables::new(0).builder(DType::F32, &Device::Cpu))
    };
    let none = LayerSpec::Convolution { channels: 1, kernel: 0, stride: 1 };
    assert!(build(&[(none, Activation::Relu)]).is_err());
    assert!(build(&[(LayerSpec::Dense(0), Activation::Relu)]).is_err());
    assert!(build(&[(LayerSpec::Reshape(Extent::new(3, 3, 1)), Activation::Relu)]).is_err());
    let stack = build(&[(LayerSpec::Dense(3), Activation::Relu)])?;
    assert!(stack.forward(&Tensor::zeros((2, 5), DType::F32, &Device::Cpu)?).is_err());
    Ok(())
}
