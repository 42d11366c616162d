//! A stack's parameters and the way of their gradients out of its backward pass. There are two.
//!
//! **Links**, through candle's graph. A custom operation of candle takes three tensors at most, a stack has any number of weights and
//! biases. So each layer has a node of its own in the graph, which ties its weight and bias to the node of the layer before: a chain,
//! whose last link is what the stack's own operation is given. A link's value means nothing (parameters are read where they lie, and
//! never copied together); it is there for the way back. The stack's backward pass leaves all gradients in [`Gradients`], and each link
//! hands on those of its layer.
//!
//! **A deposit**, around candle's graph, which adds every gradient to zeros that it makes for it: for a training that knows where to look.
//! Then one parameter stands for all in the graph, so that candle goes back through the stack at all.

use super::op::{contiguous, on_cpu};
use super::real::Real;
use super::stack::Layer;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "cuda")]
use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
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

/// Gradients of parameters that go around candle's graph: see [`Deposit::backward`].
#[derive(Clone, Debug, Default)]
pub struct Deposit(Arc<Mutex<Vec<(Tensor, Tensor)>>>);

impl Deposit {
    /// Goes back from a loss, and collects what the stacks [on this deposit](super::Stack::on_deposit) leave.
    pub fn backward(&self, loss: &Tensor) -> Result<GradStore> {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What a backward pass left that did not come to its end.
        all().clear();
        let mut store = loss.backward()?;
        for (parameter, gradient) in all().drain(..) {
            let gradient = match store.get(&parameter) {
                Some(other) => (other + gradient)?,
                None => gradient,
            };
            store.insert(&parameter, gradient);
        }
        Ok(store)
    }

    fn leave(&self, parameter: &Tensor, gradient: Tensor) {
        if parameter.track_op() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push((parameter.clone(), gradient));
        }
    }
}

/// Where a pass leaves its parameters' gradients.
pub(super) enum Leave {
    Links(Gradients),
    Deposit(Deposit),
}

impl Leave {
    /// Leaves the gradients of every layer's weight and bias.
    pub fn leave(&self, layers: &[Layer], gradients: Vec<[Tensor; 2]>) {
        match self {
            Self::Links(links) => links.leave(gradients),
            Self::Deposit(deposit) => {
                for (layer, [weight, bias]) in layers.iter().zip(gradients) {
                    deposit.leave(&layer.weight, weight);
                    deposit.leave(&layer.bias, bias);
                }
            }
        }
    }

    /// Whether the way back goes on through the tensor that stands for the parameters.
    pub fn goes_on(&self) -> bool {
        matches!(self, Self::Links(_))
    }
}

/// A tensor that stands for all layers' parameters in the graph, and where to leave their gradients.
pub(super) fn of(layers: &[Layer], deposit: Option<&Deposit>) -> Result<(Tensor, Leave)> {
    let Some(first) = layers.first() else { bail!("a stack without layers has no parameters") };
    let mut parameters = layers.iter().flat_map(|layer| [&layer.weight, &layer.bias]);
    let wanted = parameters.find(|parameter| parameter.track_op());
    if let Some(deposit) = deposit {
        return Ok((wanted.unwrap_or(&first.weight).clone(), Leave::Deposit(deposit.clone())));
    }
    // Parameters that want no gradient need no chain.
    let gradients = Gradients::default();
    let mut link = Tensor::zeros(1, first.weight.dtype(), first.weight.device())?;
    for (layer, parameters) in layers.iter().enumerate().filter(|_| wanted.is_some()) {
        let op = Link { layer, gradients: gradients.clone() };
        link = link.apply_op3(&parameters.weight, &parameters.bias, op)?;
    }
    Ok((link, Leave::Links(gradients)))
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

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        before: &CudaStorage,
        layout: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        Ok((before.try_clone(layout)?, 1.into()))
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
