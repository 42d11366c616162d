//! A sequence of layers, from the outside.

use super::activation::Activation;
use super::compose::{self, Composition, Rule};
#[cfg(feature = "cuda")]
use super::gpu;
use super::linear::Linear;
use super::op::{Path, apply2};
use super::parameters::{self, Deposit};
use super::pass::{AtRest, Pass};
use super::place::{Placed, Places};
use super::{Extent, LayerError};
use candle_core::{Module, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use std::sync::{Arc, Mutex};

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
    deposit: Option<Deposit>,
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
        Ok(Self { input, output: extent, layers: Arc::new(layers), at_rest: None, deposit: None })
    }

    /// Extent of one output.
    pub fn output(&self) -> Extent {
        self.output
    }

    pub(super) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The same layers, whose parameters' gradients do not go through candle's graph: [`Deposit::backward`] collects them. Without a
    /// gradient that candle adds to zeros for each of them, a backward pass is quicker; through candle's own
    /// [`backward`](Tensor::backward) there are none.
    pub fn on_deposit(&self, deposit: &Deposit) -> Self {
        Self { deposit: Some(deposit.clone()), ..self.clone() }
    }

    #[cfg(test)]
    pub(super) fn shared_layers(&self) -> &Arc<Vec<Layer>> {
        &self.layers
    }

    /// [`forward`](Module::forward) and then [`compose`](super::compose) of what it makes, K images of the stack for each image that
    /// comes out, (B, H, W, C). In one go: on the CPU what the stack makes does not leave the cache.
    pub fn forward_composed(&self, x: &Tensor, rule: Rule, entities: usize, places: &Places) -> Result<Tensor> {
        if self.layers.is_empty() || !Path::of(x).is_cpu() {
            return compose::compose(&self.forward(x)?, rule, entities, places);
        }
        let Extent { height, width, channels } = self.output;
        let placed = Placed::new((self.images(x)?, height, width, channels), places)?;
        let composition = Composition::of(placed, rule, entities)?;
        if composition.is_identity() { self.forward(x) } else { self.run(x, Some(composition)) }
    }

    /// The same layers with the weights that they have now, which no training changes any more: nothing but the layers themselves is
    /// left to be computed in each pass.
    pub fn at_rest(&self) -> Result<Self> {
        if self.layers.is_empty() || !self.layers.iter().all(|layer| Path::of(&layer.weight).is_cpu()) {
            return Ok(self.clone());
        }
        let copied = |layer: &Layer| -> Result<Layer> {
            let (weight, bias) = (layer.weight.copy()?.detach(), layer.bias.copy()?.detach());
            Ok(Layer { weight, bias, ..layer.clone() })
        };
        let layers: Vec<_> = self.layers.iter().map(copied).collect::<Result<_>>()?;
        let at_rest = Some(Arc::new(AtRest::of(&layers)?));
        Ok(Self { layers: Arc::new(layers), at_rest, ..self.clone() })
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
        let (parameters, leave) = parameters::of(&self.layers, self.deposit.as_ref())?;
        let keep = parameters.track_op() || x.track_op();
        let (layers, at_rest) = (self.layers.clone(), self.at_rest.clone());
        let pass = Pass { layers, at_rest, output: self.output, composition, keep, leave, tape: Mutex::new(None) };
        apply2(pass, x, &parameters)
    }
}

impl Module for Stack {
    /// (B, …) → (B, H, W, C) of [`Stack::output`]. Through this crate's kernels on the CPU in `f32` or `f64`, and on a GPU in `f32`;
    /// otherwise through candle's operations.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let batch = self.images(x)?;
        if self.layers.is_empty() {
            return x.reshape((batch, self.output.height, self.output.width, self.output.channels));
        }
        match Path::of(x) {
            Path::Cpu => self.run(x, None),
            #[cfg(feature = "cuda")]
            Path::Gpu => gpu::forward(&self.layers, self.deposit.as_ref(), self.output, x),
            Path::Candle => self.reference(x),
        }
    }
}
