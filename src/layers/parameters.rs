//! A stack's parameters and the way of their gradients through candle's graph.
//!
//! A custom operation of candle takes three tensors at most, a stack has any number of weights and biases. So each layer has a node
//! of its own in the graph, which ties its weight and bias to the node of the layer before: a chain, whose last link is what the
//! stack's own operation is given. A link's value means nothing (parameters are read where they lie, and never copied together);
//! it is there for the way back. The stack's backward pass leaves all gradients in [`Links::gradients`], and each link hands on those
//! of its layer.

use super::op::{contiguous, on_cpu};
use super::real::Real;
use super::stack::Layer;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, StorageRef, Tensor, bail};
use std::sync::{Arc, Mutex, PoisonError};

/// Gradients of every layer's weight and bias, from where they are formed to where candle asks for them.
#[derive(Clone, Default)]
pub(super) struct Gradients(Arc<Mutex<Vec<Option<[Tensor; 2]>>>>);

impl Gradients {
    /// Leaves the gradients of all layers.
    pub fn leave(&self, gradients: Vec<[Tensor; 2]>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = gradients.into_iter().map(Some).collect();
    }

    fn take(&self, layer: usize) -> Result<[Tensor; 2]> {
        let mut gradients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match gradients.get_mut(layer).and_then(Option::take) {
            Some(gradients) => Ok(gradients),
            None => bail!("no gradient was left for layer {layer} of a stack"),
        }
    }
}

/// The chain of all layers' parameters: its last link, and where to leave their gradients. Parameters that want none need no chain.
pub(super) fn chain(layers: &[Layer]) -> Result<(Tensor, Gradients)> {
    let gradients = Gradients::default();
    let Some(first) = layers.first() else { bail!("a stack without layers has no parameters") };
    let mut link = Tensor::zeros(1, first.weight.dtype(), first.weight.device())?;
    let wanted = layers.iter().any(|layer| layer.weight.track_op() || layer.bias.track_op());
    for (layer, parameters) in layers.iter().enumerate().filter(|_| wanted) {
        let op = Link { layer, gradients: gradients.clone() };
        link = link.apply_op3(&parameters.weight, &parameters.bias, op)?;
    }
    Ok((link, gradients))
}

/// One layer's link.
struct Link {
    layer: usize,
    gradients: Gradients,
}

impl CustomOp3 for Link {
    fn name(&self) -> &'static str {
        "parameters"
    }

    fn cpu_fwd(
        &self,
        before: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((before.clone(), 1.into()))
    }

    fn bwd(
        &self,
        before: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        link: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dw, db] = self.gradients.take(self.layer)?;
        let wanted = |of: &Tensor, gradient: Tensor| of.track_op().then_some(gradient);
        Ok((wanted(before, link.clone()), wanted(weight, dw), wanted(bias, db)))
    }
}

/// The parameters of all layers, held still while they are read.
pub(super) struct Held<'a>(Vec<[(StorageRef<'a>, &'a Layout); 2]>);

impl<'a> Held<'a> {
    pub fn of(layers: &'a [Layer]) -> Self {
        Self(layers.iter().map(|l| [l.weight.storage_and_layout(), l.bias.storage_and_layout()]).collect())
    }

    /// Weight and bias of each layer.
    pub fn numbers<T: Real>(&self) -> Result<Vec<(&[T], &[T])>> {
        let layers = self.0.iter();
        layers.map(|[(w, wl), (b, bl)]| Ok((contiguous(on_cpu(w)?, wl)?, contiguous(on_cpu(b)?, bl)?))).collect()
    }
}
