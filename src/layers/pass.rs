//! One pass forward and backward through a stack: the node of candle's graph behind [`Stack`](super::Stack).
//!
//! The batch is cut into groups of images, the units of parallel work. A group goes through all layers while its numbers are in
//! cache. What a gradient of the whole batch needs again lies in one buffer per layer, of which each group has its part.

use super::Extent;
use super::compose::Composition;
use super::linear::Prepared;
use super::op::Kernel;
use super::parameters::{Held, Leave};
use super::product::{Panels, Windows};
use super::real::{Real, vectorise};
use super::scratch::{Buffer, Scratch};
use super::stack::Layer;
use candle_core::{DType, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// One forward pass through a stack, with what its backward pass needs.
pub(super) struct Pass {
    pub layers: Arc<Vec<Layer>>,
    pub at_rest: Option<Arc<AtRest>>,
    pub output: Extent,
    /// What becomes of the outputs; nothing if they are wanted themselves.
    pub composition: Option<Composition>,
    /// Whether a backward pass can follow.
    pub keep: bool,
    /// Where it leaves the parameters' gradients.
    pub leave: Leave,
    /// [`Tape`], of the type that the pass ran in.
    pub tape: Mutex<Option<Box<dyn Any + Send>>>,
}

/// For each layer a buffer of as many numbers as it has outputs for the whole batch, where it needs one.
type Tape<T> = Vec<Option<Scratch<T>>>;

/// What one group of images reads in a backward pass.
struct Group<'a, T> {
    /// The first image's number in the batch.
    first: usize,
    x: &'a [T],
    /// Outputs of all layers.
    outputs: Vec<&'a [T]>,
    /// What left the node, and the gradient with respect to it.
    output: &'a [T],
    gradient: &'a [T],
}

/// What a group of images contributes to the gradients of each layer's weight (but a dense one's), in the products' arrangement, and
/// bias.
type Contribution<T> = Vec<(Vec<T>, Vec<T>)>;

/// Weights that will not change any more, arranged for a forward pass once and for all: `Vec<Prepared<T>>`, of the type that they
/// are of.
pub(super) struct AtRest(Box<dyn Any + Send + Sync>);

impl AtRest {
    pub fn of(layers: &[Layer]) -> Result<Self> {
        fn prepared<T: Real>(layers: &[Layer]) -> Result<AtRest> {
            let held = Held::of(layers);
            let weights = prepare(layers, &held.numbers::<T>()?).into_iter();
            Ok(AtRest(Box::new(
                weights.map(|w| w.into_iter().map(Panels::into_owned).collect()).collect::<Vec<Prepared<'static, T>>>(),
            )))
        }
        match layers.first().map(|layer| layer.weight.dtype()) {
            Some(DType::F64) => prepared::<f64>(layers),
            _ => prepared::<f32>(layers),
        }
    }

    fn weights<T: Real>(&self) -> Option<&Vec<Prepared<'static, T>>> {
        self.0.downcast_ref()
    }
}

impl std::fmt::Debug for AtRest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AtRest")
    }
}

impl Pass {
    /// How the batch is cut into groups. It depends on sizes alone, never on the number of threads: sums over the batch are formed
    /// group by group, so another cut would change their last bits.
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

    /// Numbers that enter with each image.
    fn inputs(&self) -> usize {
        self.layers[0].linear.inputs()
    }

    /// Numbers that leave the node, and the images that have to enter for them.
    fn leaving(&self) -> (usize, usize) {
        match &self.composition {
            Some(composition) => (composition.image_len(), composition.entities),
            None => (self.output.len(), 1),
        }
    }

    /// Layers whose outputs do not leave the node.
    fn inner(&self) -> &[Layer] {
        &self.layers[..self.layers.len() - usize::from(self.composition.is_none())]
    }

    /// One group of images, which begins with image `first`: outputs of the inner layers go to the parts of `tape` that are there, what
    /// leaves the node to `out`.
    fn forward_group<T: Real>(
        &self,
        first: usize,
        x: &[T],
        weights: &[Prepared<'_, T>],
        parameters: &[(&[T], &[T])],
        tape: Vec<Option<&mut [T]>>,
        out: &mut [T],
    ) {
        let images = x.len() / self.inputs();
        let run = |i: usize, x: &[T], y: &mut [T]| {
            self.layers[i].linear.forward(&weights[i], x, y);
            self.layers[i].activation.add_bias_and_apply(y, parameters[i].1);
        };
        let mut before: Option<Buffer<'_, T>> = None;
        for (i, (layer, part)) in self.inner().iter().zip(tape).enumerate() {
            let mut y = Buffer::of(part, images * layer.linear.output().len());
            run(i, before.as_deref().unwrap_or(x), &mut y);
            before = Some(y);
        }
        let x = before.as_deref().unwrap_or(x);
        let Some(composition) = &self.composition else { return run(self.layers.len() - 1, x, out) };
        let images = x.chunks_exact(composition.components_len()).zip(out.chunks_exact_mut(composition.image_len()));
        for (i, (components, logits)) in images.enumerate() {
            composition.image(first / composition.entities + i, components, logits);
        }
    }

    /// The gradient of a group with respect to the outputs of its last layer.
    fn leaving_gradient<T: Real>(&self, group: &Group<'_, T>, out: &mut [T]) {
        let (Some(composition), Some(outputs)) = (&self.composition, group.outputs.last()) else {
            return out.copy_from_slice(group.gradient);
        };
        let (n, m) = (composition.image_len(), composition.components_len());
        let components = outputs.chunks_exact(m).zip(out.chunks_exact_mut(m));
        let composed = group.output.chunks_exact(n).zip(group.gradient.chunks_exact(n));
        for (i, ((components, out), (logits, gradient))) in components.zip(composed).enumerate() {
            let image = group.first / composition.entities + i;
            composition.image_gradient(image, components, logits, gradient, out);
        }
    }

    /// Backward pass of one group of images. Writes the gradients with respect to the linear part of each layer into `dzs`, and the one
    /// with respect to the input into `dx` if it is wanted.
    fn backward_group<T: Real>(
        &self,
        group: &Group<'_, T>,
        weights: &[Prepared<'_, T>],
        dzs: Vec<Option<&mut [T]>>,
        mut dx: Option<&mut [T]>,
    ) -> Contribution<T> {
        let images = group.x.len() / self.inputs();
        let mut dzs: Vec<_> = dzs.into_iter().zip(self.layers.iter()).collect();
        let mut next = || dzs.pop().map(|(part, layer)| Buffer::of(part, images * layer.linear.output().len()));
        let mut contribution = Vec::with_capacity(self.layers.len());
        let mut dz = next();
        if let Some(dz) = &mut dz {
            self.leaving_gradient(group, dz);
        }
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let (Some(here), mut below) = (&mut dz, next()) else { break };
            layer.activation.apply_derivative(here, group.outputs[i]);
            let mut bias = vec![T::zero(); layer.linear.output().channels];
            add_rows(&mut bias, here);
            let x = i.checked_sub(1).map_or(group.x, |i| group.outputs[i]);
            let dx = below.as_deref_mut().or(dx.as_deref_mut());
            contribution.push((layer.linear.backward(&weights[i], x, here, dx), bias));
            dz = below;
        }
        contribution.reverse();
        contribution
    }

    /// The weights arranged for a backward pass; not the first layer's, unless the input's gradient is wanted.
    fn prepare_transposed<'a, T: Real>(
        &self,
        parameters: &[(&'a [T], &'a [T])],
        want_dx: bool,
    ) -> Vec<Prepared<'a, T>> {
        let transposed = |(i, (layer, (weight, _))): (usize, (&Layer, &(&'a [T], _)))| match i > 0 || want_dx {
            true => layer.linear.prepare_transposed(weight),
            false => Prepared::new(),
        };
        self.layers.iter().zip(parameters).enumerate().map(transposed).collect()
    }

    /// The gradients of each layer's weight and bias: of dense ones from inputs and gradients of the whole batch, of others from what
    /// the groups contributed.
    fn parameter_gradients<T: Real>(
        &self,
        inputs: &[&[T]],
        dzs: &Tape<T>,
        contributions: &[Contribution<T>],
    ) -> Result<Vec<[Tensor; 2]>> {
        let of_layer = |(i, layer): (usize, &Layer)| {
            let mut weight = vec![T::zero(); layer.linear.weight_len()];
            match (layer.linear.dense_sizes(), &dzs[i]) {
                (Some(sizes), Some(dz)) => dense_gradient(sizes, inputs[i], dz, &mut weight),
                _ => {
                    let sum = sum_in_order(contributions.iter().map(|layers| &*layers[i].0));
                    layer.linear.store_gradient(&sum, &mut weight);
                }
            }
            let bias = sum_in_order(contributions.iter().map(|layers| &*layers[i].1));
            let tensor = |data, like: &Tensor| Tensor::from_vec(data, like.shape(), like.device());
            Ok([tensor(weight, &layer.weight)?, tensor(bias, &layer.bias)?])
        };
        self.layers.iter().enumerate().map(of_layer).collect()
    }
}

impl Kernel for Pass {
    const NAME: &'static str = "stack";

    fn forward<T: Real>(&self, [x, _]: [&[T]; 2]) -> Result<(Vec<T>, Shape)> {
        let batch = x.len() / self.inputs();
        let (images, (n, per)) = (self.images_per_group(batch), self.leaving());
        let held = Held::of(&self.layers);
        let parameters = held.numbers::<T>()?;
        let fresh;
        let weights = match self.at_rest.as_ref().and_then(|at_rest| at_rest.weights::<T>()) {
            Some(weights) => weights,
            None => {
                fresh = prepare(&self.layers, &parameters);
                &fresh
            }
        };
        let mut output = vec![T::zero(); batch / per * n];
        let mut tape = buffers(self.inner().iter().map(|layer| (layer, self.keep)), batch);
        let inner = by_group(self.inner(), &mut tape, images, batch);
        let groups = x.par_chunks(images * self.inputs()).zip(output.par_chunks_mut(images / per * n));
        groups.zip(inner).enumerate().for_each(|(g, ((x, out), inner))| {
            self.forward_group(g * images, x, weights, &parameters, inner, out);
        });
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
        [x, _]: [&[T]; 2],
        output: &[T],
        gradient: &[T],
        [want_dx, want_parameters]: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tape) = tape.as_ref().and_then(|tape| tape.downcast_ref::<Tape<T>>()) else {
            bail!("backward through a stack of layers whose outputs were not kept")
        };
        let held = Held::of(&self.layers);
        let weights = self.prepare_transposed(&held.numbers::<T>()?, want_dx);
        let (batch, (n, per)) = (x.len() / self.inputs(), self.leaving());
        let images = self.images_per_group(batch);
        let outputs: Vec<&[T]> = tape.iter().flatten().map(|y| &**y).chain([output]).collect();

        let mut dx = vec![T::zero(); if want_dx { x.len() } else { 0 }];
        let mut dxs: Vec<Option<&mut [T]>> = dx.chunks_mut(images * self.inputs()).map(Some).collect();
        dxs.resize_with(batch.div_ceil(images), || None);
        let mut dzs = buffers(self.layers.iter().map(|layer| (layer, layer.linear.dense_sizes().is_some())), batch);
        let groups = dxs.into_par_iter().zip(by_group(&self.layers, &mut dzs, images, batch)).enumerate();
        let contributions: Vec<Contribution<T>> = groups
            .map(|(g, (dx, dzs))| {
                let leaving = part(g, images / per * n, output.len());
                let outputs = self.layers.iter().zip(&outputs).map(|(layer, y)| {
                    let n = layer.linear.output().len();
                    &y[part(g, images * n, batch * n)]
                });
                let group = Group {
                    first: g * images,
                    x: &x[part(g, images * self.inputs(), x.len())],
                    outputs: outputs.collect(),
                    output: &output[leaving.clone()],
                    gradient: &gradient[leaving],
                };
                self.backward_group(&group, &weights, dzs, dx)
            })
            .collect();
        if want_parameters {
            let xs: Vec<&[T]> = [x].into_iter().chain(outputs).collect();
            self.leave.leave(&self.layers, self.parameter_gradients(&xs, &dzs, &contributions)?);
        }
        let on = want_parameters && self.leave.goes_on();
        Ok([want_dx.then_some(dx), on.then(|| vec![T::zero()])])
    }
}

/// Part `g` of `all` numbers that are cut into parts of `n`.
fn part(g: usize, n: usize, all: usize) -> std::ops::Range<usize> {
    (g * n).min(all)..((g + 1) * n).min(all)
}

/// A buffer for each layer's outputs for a whole batch, where one is wanted.
fn buffers<'a, T: Real>(layers: impl Iterator<Item = (&'a Layer, bool)>, batch: usize) -> Tape<T> {
    layers.map(|(layer, wanted)| wanted.then(|| Scratch::new(batch * layer.linear.output().len()))).collect()
}

/// For each group of images its part of every layer's buffer, if the layer has one.
fn by_group<'a, T: Real>(
    layers: &[Layer],
    buffers: &'a mut Tape<T>,
    images: usize,
    batch: usize,
) -> Vec<Vec<Option<&'a mut [T]>>> {
    let mut groups: Vec<Vec<_>> = (0..batch).step_by(images).map(|_| Vec::with_capacity(layers.len())).collect();
    for (layer, buffer) in layers.iter().zip(buffers) {
        let n = images * layer.linear.output().len();
        let mut parts = buffer.as_deref_mut().map(|buffer| buffer.chunks_mut(n));
        groups.iter_mut().for_each(|group| group.push(parts.as_mut().and_then(Iterator::next)));
    }
    groups
}

/// The weights arranged for a forward pass.
fn prepare<'a, T: Real>(layers: &[Layer], parameters: &[(&'a [T], &'a [T])]) -> Vec<Prepared<'a, T>> {
    layers.iter().zip(parameters).map(|(layer, (weight, _))| layer.linear.prepare(weight)).collect()
}

/// The gradient of a dense layer's weight, from its inputs and the gradient with respect to its linear part, a row for each image.
/// Tasks own rows of the weight, so nothing has to be summed afterwards.
fn dense_gradient<T: Real>((inputs, outputs): (usize, usize), x: &[T], dz: &[T], gradient: &mut [T]) {
    const NUMBERS: usize = 1 << 14;
    let rows = NUMBERS.div_ceil(outputs).next_multiple_of(8);
    let starts: Vec<usize> = (0..x.len()).step_by(inputs).collect();
    gradient.par_chunks_mut(rows * outputs).enumerate().for_each(|(task, gradient)| {
        let length = gradient.len() / outputs;
        Windows { data: x, starts: &starts, runs: &[task * rows], length }.accumulate(dz, outputs, gradient);
    });
}

/// Sums equally long vectors, always in the same order.
fn sum_in_order<'a, T: Real>(mut parts: impl Iterator<Item = &'a [T]>) -> Vec<T> {
    let mut sum = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        vectorise(
            #[inline(always)]
            || {
                for (sum, part) in sum.iter_mut().zip(part) {
                    *sum += *part;
                }
            },
        );
    }
    sum
}

/// Adds every row of `rows` to `sum`: the gradient of a bias.
fn add_rows<T: Real>(sum: &mut [T], rows: &[T]) {
    vectorise(
        #[inline(always)]
        || match sum {
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
        },
    );
}
