//! A stack of layers as one node of the graph, as on the CPU: the gradients between its layers never meet candle's graph, and those of
//! its parameters leave on the way that `layers::parameters` tells.

use super::layer::{Gradients, Placed};
use super::machine::{Launch, Machine, Operand, tensor};
use super::node::{Operation, apply};
use crate::layers::Extent;
use crate::layers::parameters::{self, Leave};
use crate::layers::stack::Layer;
use candle_core::{Result, Shape, Tensor, bail};
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

/// The layers one after the other: (B, …) → (B, H, W, C) of `output`.
pub fn forward(
    layers: &Arc<Vec<Layer>>,
    deposit: Option<&parameters::Deposit>,
    output: Extent,
    x: &Tensor,
) -> Result<Tensor> {
    let (parameters, leave) = parameters::of(layers, deposit)?;
    let keep = parameters.track_op() || x.track_op();
    let shape = (x.dim(0)?, output.height, output.width, output.channels);
    apply(
        Layers { layers: Arc::clone(layers), shape: shape.into(), keep, leave, tape: Mutex::new(None) },
        &[x, &parameters],
    )
}

/// One pass through the layers, with what its way back needs.
struct Layers {
    layers: Arc<Vec<Layer>>,
    shape: Shape,
    /// Whether a backward pass can follow.
    keep: bool,
    leave: Leave,
    /// The inner layers' outputs, `Vec<M>` of the machine that it ran on.
    tape: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Layers {
    fn images(&self) -> usize {
        self.shape.dims()[0]
    }

    /// Does something with every layer at its place, in order.
    fn with_placed<M: Machine, R>(&self, work: impl FnOnce(&[Placed<'_, M>]) -> Result<R>) -> Result<R> {
        let held: Vec<_> =
            self.layers.iter().map(|l| (l, l.weight.storage_and_layout(), l.bias.storage_and_layout())).collect();
        let placed: Vec<_> = held
            .iter()
            .map(|(layer, (weight, weight_layout), (bias, bias_layout))| {
                let (weight, bias) =
                    (Operand::new(M::of(weight)?, weight_layout)?, Operand::new(M::of(bias)?, bias_layout)?);
                Ok(Placed { linear: &layer.linear, activation: layer.activation, weight, bias })
            })
            .collect::<Result<_>>()?;
        work(&placed)
    }
}

impl Operation for Layers {
    const NAME: &'static str = "stack";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        let images = self.images();
        let mut outputs: Vec<M> = Vec::with_capacity(self.layers.len());
        self.with_placed(|placed| {
            for layer in placed {
                let y = match outputs.last() {
                    Some(y) => layer.forward(images, Operand::whole(y, images * layer.linear.inputs()))?,
                    None => layer.forward(images, inputs[0])?,
                };
                if !self.keep {
                    outputs.clear();
                }
                outputs.push(y);
            }
            Ok(())
        })?;
        let Some(output) = outputs.pop() else { bail!("a stack without layers has no outputs") };
        if self.keep {
            *self.tape.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(outputs));
        }
        Ok((output, self.shape.clone()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        output: Operand<'_, M>,
        gradient: Operand<'_, M>,
        wanted: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(inner) = tape.as_ref().and_then(|tape| tape.downcast_ref::<Vec<M>>()) else {
            bail!("backward through a stack of layers whose outputs were not kept")
        };
        let images = self.images();
        let mut gradients = Vec::with_capacity(self.layers.len());
        let mut below: Option<M> = None;
        self.with_placed(|placed| {
            for (i, layer) in placed.iter().enumerate().rev() {
                let len = images * layer.linear.output().len();
                let y = inner.get(i).map_or(output, |y| Operand::whole(y, len));
                let dy = below.as_ref().map_or(gradient, |dy| Operand::whole(dy, len));
                let x = match i.checked_sub(1) {
                    Some(i) => Operand::whole(&inner[i], images * layer.linear.inputs()),
                    None => inputs[0],
                };
                let Gradients { weight, bias, input } = layer.backward(images, x, y, dy, i > 0 || wanted[0])?;
                gradients.push([weight, bias]);
                below = input;
            }
            Ok(())
        })?;
        let parameters = self.layers.iter().zip(gradients.into_iter().rev()).map(|(layer, [weight, bias])| {
            Ok([
                tensor(weight, layer.weight.shape().clone(), &layer.weight)?,
                tensor(bias, layer.bias.shape().clone(), &layer.bias)?,
            ])
        });
        self.leave.leave(&self.layers, parameters.collect::<Result<_>>()?);
        // Any number: it says that the way goes on.
        let on = || Launch::new("column_sums", 1, &[1, 1, 1])?.in_blocks(1)?.on(&[inputs[1]]);
        Ok(vec![below, self.leave.goes_on().then(on).transpose()?])
    }
}
