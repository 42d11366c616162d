//! A sequence of layers as one node of the autograd graph.

use super::activation::Activation;
use super::linear::{Linear, Prepared};
use super::real::{Real, vectorise};
use super::{Extent, LayerError};
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Storage, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use rayon::prelude::*;
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
        Ok(Self { input, output: extent, layers: Arc::new(layers) })
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
}

impl candle_core::Module for Stack {
    /// (B, …) → (B, H, W, C) of [`Stack::output`]. On the CPU in `f32` or `f64` through this crate's kernels, elsewhere through
    /// candle's operations.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let batch = x.dim(0)?;
        if x.elem_count() != batch * self.input.len() {
            bail!("a stack of layers over {} was given a tensor of shape {:?}", self.input, x.shape());
        }
        if self.layers.is_empty() {
            return x.reshape((batch, self.output.height, self.output.width, self.output.channels));
        }
        if !x.device().is_cpu() || !matches!(x.dtype(), DType::F32 | DType::F64) {
            return self.reference(x);
        }
        let parameters = self.parameters()?;
        let pass = Pass {
            layers: self.layers.clone(),
            output: self.output,
            keep: parameters.track_op() || x.track_op(),
            tape: Mutex::new(None),
        };
        x.contiguous()?.apply_op2(&parameters, pass)
    }
}

/// One forward pass through a stack, with what its backward pass needs.
struct Pass {
    layers: Arc<Vec<Layer>>,
    output: Extent,
    /// Whether a backward pass can follow.
    keep: bool,
    /// Outputs of all layers but the last, each (B, output of that layer).
    tape: Mutex<Option<Vec<CpuStorage>>>,
}

impl Pass {
    /// How the batch is cut into groups, the units of parallel work. It depends on sizes alone, never on the number of threads:
    /// sums over the batch are formed group by group, so another cut would change their last bits.
    ///
    /// Each group arranges the weights anew and has a gradient of its own to be summed, which only pays where it has many more
    /// activations to compute than there are parameters.
    fn images_per_group(&self, batch: usize) -> usize {
        const GROUPS: std::ops::RangeInclusive<usize> = 4..=16;
        const FEWEST_IMAGES: usize = 4;
        let activations: usize = self.layers.iter().map(|layer| layer.linear.output().len()).sum();
        let parameters: usize = self.layers.iter().map(|layer| layer.linear.weight_len()).sum();
        let groups = (batch * activations / parameters.max(1)).clamp(*GROUPS.start(), *GROUPS.end());
        batch.div_ceil(groups).max(FEWEST_IMAGES)
    }

    /// Splits flat parameters (or gradients) into (weight, bias) by layer.
    fn split<'a, T>(&self, mut flat: &'a [T]) -> Vec<(&'a [T], &'a [T])> {
        let mut parts = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter() {
            let (weight, rest) = flat.split_at(layer.linear.weight_len());
            let (bias, rest) = rest.split_at(layer.linear.output().channels);
            parts.push((weight, bias));
            flat = rest;
        }
        parts
    }

    fn prepare<T: Real>(&self, flat: &[T], first_input_gradient: bool) -> Vec<Prepared<T>> {
        let parts = self.split(flat);
        let layers = self.layers.iter().zip(parts).enumerate();
        layers.map(|(i, (layer, (w, _)))| layer.linear.prepare(w, i > 0 || first_input_gradient)).collect()
    }

    /// Outputs of every layer for the whole batch.
    fn forward<T: Real>(&self, x: &[T], flat: &[T]) -> Vec<Vec<T>> {
        let inputs = self.layers[0].linear.inputs();
        let batch = x.len() / inputs;
        let (weights, parts) = (self.prepare(flat, false), self.split(flat));
        let sizes: Vec<usize> = self.layers.iter().map(|l| l.linear.output().len()).collect();
        let mut outputs: Vec<Vec<T>> = sizes.iter().map(|n| vec![T::zero(); batch * n]).collect();

        let images = self.images_per_group(batch);
        // Group g owns, of every layer's output, the rows of its own images.
        let mut groups: Vec<(&[T], Vec<&mut [T]>)> = x.chunks(images * inputs).map(|x| (x, Vec::new())).collect();
        for (output, n) in outputs.iter_mut().zip(&sizes) {
            for (group, rows) in groups.iter_mut().zip(output.chunks_mut(images * n)) {
                group.1.push(rows);
            }
        }
        groups.par_iter_mut().for_each(|(x, ys)| {
            let mut x: &[T] = x;
            for (((layer, weight), (_, bias)), y) in self.layers.iter().zip(&weights).zip(&parts).zip(ys) {
                layer.linear.forward(weight, x, y);
                layer.activation.add_bias_and_apply(y, bias);
                x = y;
            }
        });
        outputs
    }

    /// Gradients with respect to the input (if wanted) and to the flat parameters.
    fn backward<T: Real>(&self, args: Backward<'_, T>) -> (Option<Vec<T>>, Vec<T>) {
        let inputs = self.layers[0].linear.inputs();
        let batch = args.x.len() / inputs;
        let images = self.images_per_group(batch);
        let weights = self.prepare(args.flat, args.want_dx);
        let mut dx = vec![T::zero(); if args.want_dx { args.x.len() } else { 0 }];
        let mut dxs: Vec<Option<&mut [T]>> = dx.chunks_mut(images * inputs).map(Some).collect();
        dxs.resize_with(batch.div_ceil(images), || None);

        let partial: Vec<Vec<T>> = dxs
            .par_iter_mut()
            .enumerate()
            .map(|(g, dx)| {
                self.backward_group(&args, &weights, g * images..batch.min((g + 1) * images), dx.as_deref_mut())
            })
            .collect();
        let sum = sum_in_order(partial);
        (args.want_dx.then_some(dx), self.store_gradients(&sum))
    }

    /// Backward pass of the images of one group: writes `dx`, returns the parameters' gradient in the products' arrangement.
    fn backward_group<T: Real>(
        &self,
        args: &Backward<'_, T>,
        weights: &[Prepared<T>],
        images: std::ops::Range<usize>,
        mut dx: Option<&mut [T]>,
    ) -> Vec<T> {
        let rows = |data: &'_ [T], n: usize| -> std::ops::Range<usize> {
            debug_assert!(data.len() >= images.end * n);
            images.start * n..images.end * n
        };
        let lens: Vec<usize> =
            self.layers.iter().map(|l| l.linear.gradient_len() + l.linear.output().channels).collect();
        let mut gradients = vec![T::zero(); lens.iter().sum()];
        let mut end = gradients.len();
        let last = self.output.len();
        let mut dy = args.dy[rows(args.dy, last)].to_vec();
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (n, inputs) = (layer.linear.output().len(), layer.linear.inputs());
            let y = args.outputs[i];
            let mut dz = vec![T::zero(); dy.len()];
            layer.activation.derivative(&mut dz, &dy, &y[rows(y, n)]);

            let x = if i == 0 { args.x } else { args.outputs[i - 1] };
            let gradient = &mut gradients[end - lens[i]..end];
            let (weight, bias) = gradient.split_at_mut(layer.linear.gradient_len());
            layer.linear.weight_gradient(&x[rows(x, inputs)], &dz, weight);
            add_rows(bias, &dz);
            end -= lens[i];

            if i > 0 {
                dy.resize(images.len() * inputs, T::zero());
                layer.linear.input_gradient(&weights[i], &dz, &mut dy);
            } else if let Some(dx) = dx.as_deref_mut() {
                layer.linear.input_gradient(&weights[0], &dz, dx);
            }
        }
        gradients
    }

    /// From the products' arrangement to flat parameters.
    fn store_gradients<T: Real>(&self, mut arranged: &[T]) -> Vec<T> {
        let mut flat = Vec::new();
        for layer in self.layers.iter() {
            let (weight, rest) = arranged.split_at(layer.linear.gradient_len());
            let (bias, rest) = rest.split_at(layer.linear.output().channels);
            let start = flat.len();
            flat.resize(start + layer.linear.weight_len(), T::zero());
            layer.linear.store_gradient(weight, &mut flat[start..]);
            flat.extend_from_slice(bias);
            arranged = rest;
        }
        flat
    }

    fn run<T: Real>(&self, x: (&CpuStorage, &Layout), p: (&CpuStorage, &Layout)) -> Result<(CpuStorage, Shape)> {
        let (x, p) = (contiguous::<T>(x.0, x.1)?, contiguous::<T>(p.0, p.1)?);
        let mut outputs = self.forward(x, p);
        let last = outputs.pop().unwrap_or_default();
        if self.keep {
            let tape = outputs.into_iter().map(T::to_cpu_storage_owned).collect();
            *self.tape.lock().unwrap_or_else(|e| e.into_inner()) = Some(tape);
        }
        let Extent { height, width, channels } = self.output;
        let batch = last.len() / self.output.len();
        Ok((T::to_cpu_storage_owned(last), Shape::from((batch, height, width, channels))))
    }

    fn run_backward<T: Real>(
        &self,
        x: &Tensor,
        p: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Tensor)> {
        let tape = self.tape.lock().unwrap_or_else(|e| e.into_inner());
        let Some(tape) = tape.as_ref() else { bail!("backward through a stack of layers whose outputs were not kept") };
        let dy = dy.contiguous()?;
        let (xs, xl) = x.storage_and_layout();
        let (ps, pl) = p.storage_and_layout();
        let (ys, yl) = y.storage_and_layout();
        let (ds, dl) = dy.storage_and_layout();
        let mut outputs = tape.iter().map(T::cpu_storage_as_slice).collect::<Result<Vec<_>>>()?;
        outputs.push(contiguous(on_cpu(&ys)?, yl)?);
        let (dx, dp) = self.backward(Backward {
            x: contiguous::<T>(on_cpu(&xs)?, xl)?,
            flat: contiguous(on_cpu(&ps)?, pl)?,
            outputs: &outputs,
            dy: contiguous(on_cpu(&ds)?, dl)?,
            want_dx: x.track_op(),
        });
        let dx = dx.map(|dx| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
        Ok((dx, Tensor::from_vec(dp, p.shape(), p.device())?))
    }
}

/// What a backward pass reads.
struct Backward<'a, T> {
    x: &'a [T],
    flat: &'a [T],
    outputs: &'a [&'a [T]],
    dy: &'a [T],
    want_dx: bool,
}

/// Sums equally long vectors, always in the same order.
fn sum_in_order<T: Real>(partial: Vec<Vec<T>>) -> Vec<T> {
    let mut partial = partial.into_iter();
    let mut sum = partial.next().unwrap_or_default();
    let rest: Vec<Vec<T>> = partial.collect();
    const CHUNK: usize = 8192;
    sum.par_chunks_mut(CHUNK).enumerate().for_each(|(i, sum)| {
        for other in &rest {
            let other = &other[i * CHUNK..i * CHUNK + sum.len()];
            vectorise(|| sum.iter_mut().zip(other).for_each(|(s, o)| *s += *o));
        }
    });
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

/// The elements of a contiguous tensor.
pub(crate) fn contiguous<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let data = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// The same, for an operation in place. (candle's own accessor gives shared slices only.)
pub(crate) fn contiguous_mut<'a, T: Real>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [T]> {
    let data = T::cpu_slice_mut(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut data[start..end]),
        None => bail!("a kernel was given a tensor that is not contiguous"),
    }
}

/// The CPU's side of a storage.
pub(crate) fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => bail!("a CPU kernel was given a tensor of another device"),
    }
}

impl CustomOp2 for Pass {
    fn name(&self) -> &'static str {
        "stack"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        match s1 {
            CpuStorage::F64(_) => self.run::<f64>((s1, l1), (s2, l2)),
            _ => self.run::<f32>((s1, l1), (s2, l2)),
        }
    }

    fn bwd(&self, x: &Tensor, p: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dp) = match x.dtype() {
            DType::F64 => self.run_backward::<f64>(x, p, y, dy)?,
            _ => self.run_backward::<f32>(x, p, y, dy)?,
        };
        Ok((dx, Some(dp)))
    }
}
