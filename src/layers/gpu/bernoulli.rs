//! The Bernoulli log-likelihood of whole images.

use super::machine::{Launch, Machine, Operand};
use super::node::{Operation, apply};
use candle_core::{Result, Shape, Tensor};

/// log p(x) in nats of each image: logits and targets (B, …) → (B).
pub fn bernoulli(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    apply(Bernoulli { images: logits.dim(0)? }, &[logits, targets])
}

struct Bernoulli {
    images: usize,
}

impl Operation for Bernoulli {
    const NAME: &'static str = "bernoulli";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        let length = inputs[0].len / self.images;
        let launch = Launch::new("bernoulli", self.images, &[length])?.in_blocks(self.images)?;
        Ok((launch.on(inputs)?, self.images.into()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        _: Operand<'_, M>,
        gradient: Operand<'_, M>,
        _: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let (all, length) = (inputs[0].len, inputs[0].len / self.images);
        let launch = Launch::new("bernoulli_gradient", all, &[length])?;
        Ok(vec![Some(launch.on(&[inputs, &[gradient]].concat())?), None])
    }
}
