//! A sequence of layers as one node of the autograd graph.

use super::activation::Activation;
use super::compose::{self, Composition, Rule};
use super::linear::{Linear, Prepared};
use super::op::{Kernel, apply2, is_ours};
use super::place::Places;
use super::product::Windows;
use super::real::{Real, vectorise};
use super::scratch::Scratch;
use super::{Extent, LayerError};
use candle_core::{DType, Module, Result, Shape, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use rayon::prelude::*;
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// What one layer of a [`Stack`] does; sizes of inputs follow from the layer before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerSpec {
    /// Flattens its input and multiplies it by a matrix with this many columns.
    Dense(usize),
    /// Strided convolution, "same" padding: the output side is ⌈side / stride⌉.
    Convolution {
        /// Channels out.
        channels: usize,
        /// Kernel side.
        kernel: usize,
        /// Stride.
        stride: usize,
    },
    /// Strided transposed convolution: the output side is side · stride.
    Upconvolution {
        /// Channels out.
        channels: usize,
        /// Kernel side.
        kernel: usize,
        /// Stride.
        stride: usize,
    },
    /// Reads the numbers so far as an image of this extent.
    Reshape(Extent),
}

/// One layer: linear map, bias, activation, and the place of its parameters.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub linear: Linear,
    pub activation: Activation,
    pub weight: Tensor,
    pub bias: Tensor,
}

/// A sequence of layers: a candle [`Module`](candle_core::Module) from (B, …) to (B, output extent).
#[derive(Clone, Debug)]
pub struct Stack {
    input: Extent,
    output: Extent,
    layers: Arc<Vec<Layer>>,
    at_rest: Option<Arc<AtRest>>,
}

/// Parameters that will not change any more, arranged for a forward pass once and for all.
struct AtRest {
    parameters: Tensor,
    /// `Vec<Prepared<T>>`, of the parameters' type.
    weights: Box<dyn Any + Send + Sync>,
}

impl std::fmt::Debug for AtRest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtRest")
    }
}

impl Stack {
    /// Builds the layers of `specs`, each followed by its activation. Parameters are named `0.weight`, `0.bias`, `1.weight`, …
    ///
    /// Weights start uniform in ±√(6 / fan-in) before a ReLU (He et al. 2015, eq. 10) and in ±√(3 / fan-in) otherwise
    /// (LeCun et al. 1998): both keep the scale of activations. Biases start at 0.
    pub fn new(input: Extent, specs: &[(LayerSpec, Activation)], vb: VarBuilder<'_>) -> Result<Self> {
        Self::starting_at(0.0, input, specs, vb)
    }

    /// The same, the last layer's bias starting at `output_bias`: where a fresh stack's output should not be around 0.
    pub fn starting_at(
        output_bias: f64,
        input: Extent,
        specs: &[(LayerSpec, Activation)],
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        let last = specs.iter().rposition(|(spec, _)| !matches!(spec, LayerSpec::Reshape(_)));
        let mut layers = Vec::new();
        let mut extent = input;
        for (i, (spec, activation)) in specs.iter().enumerate() {
            let linear = match *spec {
                LayerSpec::Dense(outputs) if outputs > 0 && extent.len() > 0 => {
                    Linear::Dense { inputs: extent.len(), outputs }
                }
                LayerSpec::Dense(outputs) => {
                    return Err(LayerError::Empty { large: extent, channels: outputs, kernel: 1, stride: 1 }.into());
                }
                LayerSpec::Convolution { channels, kernel, stride } => {
                    Linear::convolution(extent, channels, kernel, stride)?
                }
                LayerSpec::Upconvolution { channels, kernel, stride } => {
                    Linear::upconvolution(extent, channels, kernel, stride)?
                }
                LayerSpec::Reshape(to) if to.len() == extent.len() => {
                    extent = to;
                    continue;
                }
                LayerSpec::Reshape(to) => bail!("{extent} numbers cannot be read as an image of {to}"),
            };
            extent = linear.output();
            let vb = vb.pp(layers.len());
            let (shape, fan_in) = linear.weight_shape();
            let gain: f64 = if *activation == Activation::Relu { 6.0 } else { 3.0 };
            let bound = (gain / fan_in as f64).sqrt();
            let bias = if Some(i) == last { output_bias } else { 0.0 };
            layers.push(Layer {
                weight: vb.get_with_hints(shape, "weight", Init::Uniform { lo: -bound, up: bound })?,
                bias: vb.get_with_hints(extent.channels, "bias", Init::Const(bias))?,
                linear,
                activation: *activation,
            });
        }
        Ok(Self { input, output: extent, layers: Arc::new(layers), at_rest: None })
    }

    /// Extent of one output.
    pub fn output(&self) -> Extent {
        self.output
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// All parameters one after the other, in the order of the layers: weight, bias, weight, bias, …
    fn parameters(&self) -> Result<Tensor> {
        let flat = self.layers.iter().flat_map(|l| [l.weight.flatten_all(), l.bias.flatten_all()]);
        Tensor::cat(&flat.collect::<Result<Vec<_>>>()?, 0)
    }

    /// [`forward`](Module::forward) and then [`compose`](super::compose) of what it makes, K images of the stack for each image that
    /// comes out, (B, H, W, C). In one go: on the CPU what the stack makes does not leave the cache.
    pub fn forward_composed(&self, x: &Tensor, rule: Rule, entities: usize, places: &Places) -> Result<Tensor> {
        if self.layers.is_empty() || !is_ours(x) {
            return compose::compose(&self.forward(x)?, rule, entities, places);
        }
        let Extent { height, width, channels } = self.output;
        let composition = Composition::new((self.images(x)?, height, width, channels), rule, entities, places)?;
        if composition.is_identity() { self.forward(x) } else { self.run(x, Some(composition)) }
    }

    /// The same layers with the weights that they have now, which no training changes any more: nothing but the layers themselves is
    /// left to be computed in each pass.
    pub fn at_rest(&self) -> Result<Self> {
        if self.layers.is_empty() || !self.layers.iter().all(|layer| is_ours(&layer.weight)) {
            return Ok(self.clone());
        }
        let parameters = self.parameters()?.detach();
        let weights: Box<dyn Any + Send + Sync> = match parameters.dtype() {
            DType::F64 => Box::new(prepare(&self.layers, &parameters.to_vec1::<f64>()?)),
            _ => Box::new(prepare(&self.layers, &parameters.to_vec1::<f32>()?)),
        };
        Ok(Self { at_rest: Some(Arc::new(AtRest { parameters, weights })), ..self.clone() })
    }

    /// Images in a batch; an error if they are not of this stack's input.
    fn images(&self, x: &Tensor) -> Result<usize> {
        let images = x.dim(0)?;
        if x.elem_count() != images * self.input.len() {
            bail!("a stack of layers over {} was given a tensor of shape {:?}", self.input, x.shape());
        }
        Ok(images)
    }

    fn run(&self, x: &Tensor, composition: Option<Composition>) -> Result<Tensor> {
        let at_rest = self.at_rest.clone();
        let parameters =
            at_rest.as_ref().map_or_else(|| self.parameters(), |at_rest| Ok(at_rest.parameters.clone()))?;
        let (layers, keep) = (self.layers.clone(), parameters.track_op() || x.track_op());
        let pass = Pass { layers, at_rest, output: self.output, composition, keep, tape: Mutex::new(None) };
        apply2(pass, x, &parameters)
    }
}

impl Module for Stack {
    /// (B, …) → (B, H, W, C) of [`Stack::output`]. On the CPU in `f32` or `f64` through this crate's kernels, elsewhere through
    /// candle's operations.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let batch = self.images(x)?;
        if self.layers.is_empty() {
            return x.reshape((batch, self.output.height, self.output.width, self.output.channels));
        }
        if is_ours(x) { self.run(x, None) } else { self.reference(x) }
    }
}

/// One forward pass through a stack, with what its backward pass needs.
struct Pass {
    layers: Arc<Vec<Layer>>,
    at_rest: Option<Arc<AtRest>>,
    output: Extent,
    /// What becomes of the outputs; nothing if they are wanted themselves.
    composition: Option<Composition>,
    /// Whether a backward pass can follow.
    keep: bool,
    /// [`Tape`], of the type that the pass ran in.
    tape: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Outputs of all layers, for each group of images.
type Tape<T> = Vec<Vec<Scratch<T>>>;

/// What a backward pass reads.
struct Backward<'a, T: Real> {
    x: &'a [T],
    flat: &'a [T],
    tape: &'a Tape<T>,
    /// What left the node, and the gradient with respect to it.
    output: &'a [T],
    gradient: &'a [T],
}

/// What a group of images contributes to the gradients.
struct Contribution<T: Real> {
    /// Of every layer's weight (but a dense one's), in the products' arrangement, and bias.
    parameters: Vec<(Vec<T>, Vec<T>)>,
    /// With respect to the linear part of each dense layer: its weight's gradient is formed over all groups at once.
    dense: Vec<Option<Scratch<T>>>,
}

impl Pass {
    /// How the batch is cut into groups, the units of parallel work. It depends on sizes alone, never on the number of threads:
    /// sums over the batch are formed group by group, so another cut would change their last bits.
    ///
    /// A group walks once through all weights, which only pays where it has many more activations to compute than there are
    /// parameters. Images that are composed into one stay together.
    fn images_per_group(&self, batch: usize) -> usize {
        const GROUPS: std::ops::RangeInclusive<usize> = 4..=16;
        const FEWEST_IMAGES: usize = 4;
        let activations: usize = self.layers.iter().map(|layer| layer.linear.output().len()).sum();
        let parameters: usize = self.layers.iter().map(|layer| layer.linear.weight_len()).sum();
        let groups = (batch * activations / parameters.max(1)).clamp(*GROUPS.start(), *GROUPS.end());
        let together = self.composition.as_ref().map_or(1, |composition| composition.entities);
        batch.div_ceil(groups).max(FEWEST_IMAGES).next_multiple_of(together)
    }

    /// Images that enter the stack, by the numbers of its input.
    fn batch<T>(&self, x: &[T]) -> usize {
        x.len() / self.layers[0].linear.inputs()
    }

    /// Numbers that leave the node for each image that enters.
    fn output_per_image(&self) -> (usize, usize) {
        match &self.composition {
            Some(composition) => (composition.image_len(), composition.entities),
            None => (self.output.len(), 1),
        }
    }

    /// The weights arranged for a backward pass; not the first layer's, unless the input's gradient is wanted.
    fn prepare_transposed<T: Real>(&self, flat: &[T], want_dx: bool) -> Vec<Prepared<T>> {
        let layers = self.layers.iter().zip(split(&self.layers, flat)).enumerate();
        let transposed = |(i, (layer, (weight, _))): (usize, (&Layer, (&[T], _)))| match i > 0 || want_dx {
            true => layer.linear.prepare_transposed(weight),
            false => Prepared::new(),
        };
        layers.map(transposed).collect()
    }

    /// The outputs of all layers for one group of images, which begins with image `first`. Writes what leaves the node.
    fn forward_group<T: Real>(
        &self,
        first: usize,
        x: &[T],
        weights: &[Prepared<T>],
        parameters: &[(&[T], &[T])],
        out: &mut [T],
    ) -> Vec<Scratch<T>> {
        let images = self.batch(x);
        let mut outputs: Vec<Scratch<T>> = Vec::with_capacity(self.layers.len());
        for ((layer, weight), (_, bias)) in self.layers.iter().zip(weights).zip(parameters) {
            let mut y = Scratch::new(images * layer.linear.output().len());
            let x = outputs.last().map_or(x, |y| &**y);
            layer.linear.forward(weight, x, &mut y);
            layer.activation.add_bias_and_apply(&mut y, bias);
            if !self.keep {
                outputs.clear();
            }
            outputs.push(y);
        }
        let Some(last) = outputs.last() else { return outputs };
        match &self.composition {
            None => out.copy_from_slice(last),
            Some(composition) => {
                let images =
                    last.chunks_exact(composition.components_len()).zip(out.chunks_exact_mut(composition.image_len()));
                for (i, (components, logits)) in images.enumerate() {
                    composition.image(first / composition.entities + i, components, logits);
                }
            }
        }
        outputs
    }

    /// Backward pass of one group of images, which begins with image `first`: writes `dx` if it is wanted.
    fn backward_group<T: Real>(
        &self,
        first: usize,
        group: &Backward<'_, T>,
        outputs: &[Scratch<T>],
        weights: &[Prepared<T>],
        mut dx: Option<&mut [T]>,
    ) -> Contribution<T> {
        let images = self.batch(group.x);
        let mut contribution = Contribution { parameters: Vec::new(), dense: Vec::new() };
        let mut dy = Scratch::new(images * self.output.len());
        match &self.composition {
            None => dy.copy_from_slice(group.gradient),
            Some(composition) => {
                let (n, m) = (composition.image_len(), composition.components_len());
                let components = outputs.last().map_or(&[][..], |y| &**y).chunks_exact(m).zip(dy.chunks_exact_mut(m));
                let composed = group.output.chunks_exact(n).zip(group.gradient.chunks_exact(n));
                for (i, ((components, out), (logits, gradient))) in components.zip(composed).enumerate() {
                    composition.image_gradient(first / composition.entities + i, components, logits, gradient, out);
                }
            }
        }
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (linear, x) = (&layer.linear, if i == 0 { group.x } else { &outputs[i - 1] });
            // From here on `dy` is the gradient with respect to the linear part.
            layer.activation.apply_derivative(&mut dy, &outputs[i]);
            let mut bias = vec![T::zero(); linear.output().channels];
            add_rows(&mut bias, &dy);
            let mut below = Scratch::new(if i == 0 { 0 } else { images * linear.inputs() });
            let dx = if i == 0 { dx.as_deref_mut() } else { Some(&mut *below) };
            contribution.parameters.push((linear.backward(&weights[i], x, &dy, dx), bias));
            std::mem::swap(&mut dy, &mut below);
            contribution.dense.push(linear.dense_sizes().map(|_| below));
        }
        contribution.parameters.reverse();
        contribution.dense.reverse();
        contribution
    }

    /// The gradient of a dense layer's weight, over all groups: `x` and `dz` of each. Tasks own rows of the weight, so nothing has to
    /// be summed afterwards.
    fn dense_gradient<T: Real>(inputs: usize, outputs: usize, groups: &[(&[T], &[T])], gradient: &mut [T]) {
        const NUMBERS: usize = 1 << 14;
        let rows = NUMBERS.div_ceil(outputs).next_multiple_of(8);
        gradient.par_chunks_mut(rows * outputs).enumerate().for_each(|(task, gradient)| {
            for (x, dz) in groups {
                let starts: Vec<usize> = (0..x.len()).step_by(inputs).collect();
                let length = gradient.len() / outputs;
                Windows { data: x, starts: &starts, runs: &[task * rows], length }.accumulate(dz, outputs, gradient);
            }
        });
    }

    /// The flat gradient of all parameters from what the groups contributed.
    fn sum<T: Real>(&self, pass: &Backward<'_, T>, images: usize, contributions: &[Contribution<T>]) -> Vec<T> {
        let mut flat = vec![T::zero(); pass.flat.len()];
        let mut rest = flat.as_mut_slice();
        for (i, layer) in self.layers.iter().enumerate() {
            let linear = &layer.linear;
            let (weight, others) = rest.split_at_mut(linear.weight_len());
            let (bias, others) = others.split_at_mut(linear.output().channels);
            rest = others;
            if let Some((inputs, outputs)) = linear.dense_sizes() {
                let xs: Vec<&[T]> = match i {
                    0 => pass.x.chunks(images * inputs).collect(),
                    _ => pass.tape.iter().map(|outputs| &*outputs[i - 1]).collect(),
                };
                let dzs = contributions.iter().filter_map(|contribution| contribution.dense[i].as_deref());
                let groups: Vec<_> = xs.into_iter().zip(dzs).collect();
                Self::dense_gradient(inputs, outputs, &groups, weight);
            } else {
                let sum = sum_in_order(contributions.iter().map(|c| &*c.parameters[i].0));
                linear.store_gradient(&sum, weight);
            }
            bias.copy_from_slice(&sum_in_order(contributions.iter().map(|c| &*c.parameters[i].1)));
        }
        flat
    }
}

impl Kernel for Pass {
    const NAME: &'static str = "stack";

    fn forward<T: Real>(&self, [x, flat]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let batch = self.batch(x);
        let images = self.images_per_group(batch);
        let (parameters, (n, per)) = (split(&self.layers, flat), self.output_per_image());
        let fresh;
        let at_rest = self.at_rest.as_ref().and_then(|at_rest| at_rest.weights.downcast_ref::<Vec<Prepared<T>>>());
        let weights = match at_rest {
            Some(weights) => weights,
            None => {
                fresh = prepare(&self.layers, flat);
                &fresh
            }
        };
        let mut output = vec![T::zero(); batch / per * n];
        let groups = x.par_chunks(images * self.layers[0].linear.inputs()).zip(output.par_chunks_mut(images / per * n));
        let tape: Tape<T> = groups
            .enumerate()
            .map(|(g, (x, out))| {
                let outputs = self.forward_group(g * images, x, weights, &parameters, out);
                if self.keep { outputs } else { Vec::new() }
            })
            .collect();
        if self.keep {
            *self.tape.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(tape));
        }
        let Extent { height, width, channels } = self.output;
        let shape =
            self.composition.as_ref().map_or_else(|| (batch, height, width, channels).into(), Composition::output);
        Ok((output, shape))
    }

    fn backward<T: Real>(
        &self,
        [x, flat]: [&[T]; 2],
        output: &[T],
        gradient: &[T],
        [want_dx, _]: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tape) = tape.as_ref().and_then(|tape| tape.downcast_ref::<Tape<T>>()) else {
            bail!("backward through a stack of layers whose outputs were not kept")
        };
        let (inputs, (n, per)) = (self.layers[0].linear.inputs(), self.output_per_image());
        let images = self.images_per_group(self.batch(x));
        let pass = Backward { x, flat, tape, output, gradient };
        let weights = self.prepare_transposed(flat, want_dx);
        let mut dx = vec![T::zero(); if want_dx { x.len() } else { 0 }];
        let mut dxs: Vec<Option<&mut [T]>> = dx.chunks_mut(images * inputs).map(Some).collect();
        dxs.resize_with(tape.len(), || None);
        let of_group = |g: usize, n: usize, all: usize| g * n..((g + 1) * n).min(all);
        let contributions: Vec<Contribution<T>> = dxs
            .into_par_iter()
            .enumerate()
            .map(|(g, dx)| {
                let outside = of_group(g, images / per * n, output.len());
                let group = Backward {
                    x: &x[of_group(g, images * inputs, x.len())],
                    output: &output[outside.clone()],
                    gradient: &gradient[outside],
                    ..pass
                };
                self.backward_group(g * images, &group, &tape[g], &weights, dx)
            })
            .collect();
        Ok([want_dx.then_some(dx), Some(self.sum(&pass, images, &contributions))])
    }
}

/// Splits flat parameters into (weight, bias) by layer.
fn split<'a, T>(layers: &[Layer], mut flat: &'a [T]) -> Vec<(&'a [T], &'a [T])> {
    let mut parts = Vec::with_capacity(layers.len());
    for layer in layers {
        let (weight, rest) = flat.split_at(layer.linear.weight_len());
        let (bias, rest) = rest.split_at(layer.linear.output().channels);
        parts.push((weight, bias));
        flat = rest;
    }
    parts
}

/// The weights arranged for a forward pass.
fn prepare<T: Real>(layers: &[Layer], flat: &[T]) -> Vec<Prepared<T>> {
    layers.iter().zip(split(layers, flat)).map(|(layer, (weight, _))| layer.linear.prepare(weight)).collect()
}

/// Sums equally long vectors, always in the same order.
fn sum_in_order<'a, T: Real>(mut parts: impl Iterator<Item = &'a [T]>) -> Vec<T> {
    let mut sum = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        vectorise(|| sum.iter_mut().zip(part).for_each(|(s, p)| *s += *p));
    }
    sum
}

/// Adds every row of `rows` to `sum`: the gradient of a bias.
fn add_rows<T: Real>(sum: &mut [T], rows: &[T]) {
    vectorise(|| match sum {
        [sum] => {
            for r in rows {
                *sum += *r;
            }
        }
        _ => {
            for row in rows.chunks_exact(sum.len()) {
                for (s, r) in sum.iter_mut().zip(row) {
                    *s += *r;
                }
            }
        }
    });
}
