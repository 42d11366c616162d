//! The operations on the twin against this folder's CPU kernels: values and gradients.

use super::twin;
use super::{AdamStep, adam, bernoulli, compose, forward};
use crate::layers::compose::Composition;
use crate::layers::{Activation, Extent, LayerSpec, Places, Rule, Stack, bernoulli_log_prob};
use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::VarBuilder;

/// Numbers that look like noise, in ±1.
fn numbers(shape: impl Into<candle_core::Shape>, salt: usize) -> Result<Tensor> {
    let shape = shape.into();
    let number = |i: usize| ((i + salt) * 7919 % 2003) as f32 / 1001.0 - 1.0;
    Tensor::from_iter((0..shape.elem_count()).map(number), &Device::Cpu)?.reshape(shape)
}

/// The largest difference, relative to the largest number.
fn difference(a: &Tensor, b: &Tensor) -> Result<f32> {
    assert_eq!(a.shape(), b.shape());
    let largest = |x: &Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
    Ok(largest(&(a - b)?)? / largest(b)?.max(1e-6))
}

/// Two outputs, and the gradients of a weighted sum of each with respect to `variables`.
fn agree(ours: &Tensor, theirs: &Tensor, variables: &[Tensor], what: &str) -> Result<()> {
    const TOLERANCE: f32 = 2e-5;
    assert!(difference(ours, theirs)? < TOLERANCE, "{what}");
    let weights = numbers(ours.shape(), 17)?;
    let gradients = |y: &Tensor| (y * &weights)?.sum_all()?.backward();
    let (ours, theirs) = (gradients(ours)?, gradients(theirs)?);
    for (i, variable) in variables.iter().enumerate() {
        let (a, b) = (ours.get(variable).expect("a gradient"), theirs.get(variable).expect("a gradient"));
        assert!(difference(a, b)? < TOLERANCE, "{what}: gradient {i}, {}", difference(a, b)?);
    }
    Ok(())
}

/// A stack of such layers on both machines.
fn compare(input: Extent, specs: &[(LayerSpec, Activation)], images: usize) -> Result<()> {
    // Variables under any name, all different.
    let named = Named::default();
    let stack = Stack::new(input, specs, VarBuilder::from_backend(Box::new(named.clone()), DType::F32, Device::Cpu))?;
    let x = Var::from_tensor(&numbers((images, input.height, input.width, input.channels), 5)?)?;
    let shape = stack.forward(&x)?.shape().clone();
    let ours = forward(stack.shared_layers(), &x)?.reshape(shape)?;
    let variables: Vec<Tensor> = [x.as_tensor().clone()].into_iter().chain(named.all()).collect();
    agree(&ours, &stack.forward(&x)?, &variables, &format!("{specs:?} over {input}"))?;
    // Data want no gradient, and get none.
    let data = x.detach();
    let ours = forward(stack.shared_layers(), &data)?.reshape(ours.shape())?;
    agree(&ours, &stack.forward(&data)?, &named.all(), &format!("{specs:?} over data of {input}"))
}

/// Variables that start as unequal numbers.
#[derive(Clone, Default)]
struct Named(std::sync::Arc<std::sync::Mutex<Vec<Tensor>>>);

impl Named {
    fn all(&self) -> Vec<Tensor> {
        self.0.lock().unwrap().clone()
    }
}

impl candle_nn::var_builder::SimpleBackend for Named {
    fn get(&self, s: candle_core::Shape, _: &str, _: candle_nn::Init, _: DType, _: &Device) -> Result<Tensor> {
        let mut all = self.0.lock().unwrap();
        let variable = Var::from_tensor(&(numbers(s, 101 * all.len())? * 0.3)?)?.into_inner();
        all.push(variable.clone());
        Ok(variable)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name}")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[test]
fn layers_agree_with_the_cpu() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let input = Extent::new(7, 6, 4);
    for activation in Activation::ALL {
        compare(input, &[(LayerSpec::Dense(5), activation)], 3)?;
        for (kernel, stride) in [(1, 1), (3, 1), (4, 2), (5, 3), (2, 3)] {
            compare(input, &[(LayerSpec::Convolution { channels: 5, kernel, stride }, activation)], 3)?;
            compare(input, &[(LayerSpec::Upconvolution { channels: 4, kernel, stride }, activation)], 3)?;
        }
    }
    // Channels that do not come four at a time, and layers behind each other.
    let specs = [
        (LayerSpec::Convolution { channels: 3, kernel: 4, stride: 2 }, Activation::Relu),
        (LayerSpec::Dense(24), Activation::Tanh),
        (LayerSpec::Reshape(Extent::new(2, 3, 4)), Activation::Identity),
        (LayerSpec::Upconvolution { channels: 1, kernel: 4, stride: 2 }, Activation::Sigmoid),
    ];
    compare(Extent::new(8, 5, 1), &specs, 70)
}

#[test]
fn compositions_agree_with_the_cpu() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let corners = vec![(0, 0), (1, 2), (-2, -1), (3, 4), (-9, 0), (0, 1)];
    let places = Places { corners, patch: (3, 4), canvas: (5, 6), fill: -16.0 };
    for scale in [3.0, 120.0] {
        let components = Var::from_tensor(&(numbers((6, 4, 5, 2), 3)? * scale)?)?;
        for rule in Rule::ALL {
            for (entities, places) in [(3, places.clone()), (1, places.clone()), (2, Places::whole(6, (4, 5), -16.0))] {
                let composition = Composition::new(components.dims4()?, rule, entities, &places)?;
                let ours = compose(composition, &components)?;
                let theirs = crate::layers::compose(&components, rule, entities, &places)?;
                let what = format!("{rule:?} of {entities}, logits up to {scale}");
                agree(&ours, &theirs, &[components.as_tensor().clone()], &what)?;
            }
        }
    }
    Ok(())
}

#[test]
fn likelihoods_agree_with_the_cpu() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    for scale in [4.0, 120.0] {
        let logits = Var::from_tensor(&(numbers((3, 9, 11, 2), 3)? * scale)?)?;
        let targets = numbers((3, 9, 11, 2), 8)?.abs()?;
        let (ours, theirs) = (bernoulli(&logits, &targets)?, bernoulli_log_prob(&logits, &targets)?);
        agree(&ours, &theirs, &[logits.as_tensor().clone()], &format!("logits up to {scale}"))?;
    }
    Ok(())
}

#[test]
fn adam_changes_parameter_and_moments() -> Result<()> {
    if !twin::exists() {
        return Ok(());
    }
    let step = AdamStep { rate: 0.1, correction: 1.5, scale: 0.5, decay: [0.9, 0.999], epsilon: 1e-8 };
    let [p, m, s, g] = [0, 1, 2, 3].map(|salt| numbers(300, salt));
    let (p, m, s, g) = (Var::from_tensor(&p?)?, m?, s?.abs()?, g?);
    let scaled = (&g * step.scale)?;
    let mean = ((&m * 0.9)? + (&scaled * 0.1)?)?;
    let square = ((&s * 0.999)? + (scaled.sqr()? * 0.001)?)?;
    let expected = (p.as_tensor() - ((&mean * step.rate)? / ((&square * step.correction)?.sqrt()? + 1e-8)?)?)?;
    adam(step, &p, &m, &s, &g)?;
    for (ours, theirs) in [(p.as_tensor(), &expected), (&m, &mean), (&s, &square)] {
        assert!(difference(ours, theirs)? < 1e-6, "{}", difference(ours, theirs)?);
    }
    Ok(())
}
