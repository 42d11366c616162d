//! Components composed at their places, without a canvas for each; placing a patch is composing it alone.

use super::machine::{Launch, Machine, Operand};
use super::node::{Operation, apply};
use crate::layers::compose::{Composition, Rule};
use candle_core::{DType, Result, Shape, Tensor};

/// Components (B·K, P, Q, C) → logits (B, H, W, C).
pub fn compose(composition: Composition, components: &Tensor) -> Result<Tensor> {
    let corners = match &composition.placed.places.corners {
        Some(corners) => corners.clone(),
        None => Tensor::zeros((composition.placed.count(), 2), DType::F32, components.device())?,
    };
    apply(composition, &[components, &corners])
}

impl Composition {
    fn launch(&self, kernel: &'static str, outputs: usize) -> Result<Launch> {
        // As in compose.cu.
        let rule = match self.rule {
            Rule::Union => 0,
            Rule::Sum => 1,
            Rule::Max => 2,
        };
        let placed = &self.placed;
        let (patch, stored, (h, w, c)) = (placed.places.patch, placed.stored, placed.canvas());
        let sizes = [rule, self.entities, patch.0, patch.1, stored.0, stored.1, h, w, c];
        Ok(Launch::new(kernel, outputs, &sizes)?.with(&[placed.places.fill]))
    }
}

impl Operation for Composition {
    const NAME: &'static str = "compose";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        Ok((self.launch("compose", self.output().elem_count())?.on(inputs)?, self.output()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        logits: Operand<'_, M>,
        gradient: Operand<'_, M>,
        _: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let launch = self.launch("compose_gradient", inputs[0].len)?;
        Ok(vec![Some(launch.on(&[inputs, &[logits, gradient]].concat())?), None])
    }
}
