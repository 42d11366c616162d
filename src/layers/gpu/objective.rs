//! The loss and its terms, from what images and candidates contribute to it.

use super::machine::{Launch, Machine, Operand};
use super::node::{Operation, apply};
use candle_core::{Result, Shape, Tensor};

/// Log-likelihoods (B), KLs of entities (B, K) and of candidates (B, N) → total, reconstruction, KL, idle KL and location charge, (5), for weights β,
/// β_idle and c. See [`objective`](crate::layers::objective).
pub fn objective(weights: [f64; 3], log_probs: &Tensor, entities: &Tensor, candidates: &Tensor) -> Result<Tensor> {
    apply(Objective { images: log_probs.dim(0)?, weights }, &[log_probs, entities, candidates])
}

struct Objective {
    images: usize,
    weights: [f64; 3],
}

/// Blocks that share the sums; the kernel `objective` has a thread for each of their four.
const BLOCKS: usize = 64;

impl Operation for Objective {
    const NAME: &'static str = "objective";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        let sizes = [inputs[0].len, inputs[1].len, inputs[2].len];
        let sums = Launch::new("objective_sums", 4 * BLOCKS, &sizes)?.in_blocks(BLOCKS)?.on(inputs)?;
        let launch = Launch::new("objective", 5, &[self.images])?.with(&self.weights).in_blocks(1)?;
        Ok((launch.on(&[Operand::whole(&sums, 4 * BLOCKS)])?, 5.into()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        _: Operand<'_, M>,
        gradient: Operand<'_, M>,
        wanted: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let all = [inputs, &[gradient]].concat();
        let of = |input: usize, kernel, size| {
            let launch = Launch::new(kernel, inputs[input].len, &[self.images, size])?.with(&self.weights);
            wanted[input].then(|| launch.on(&all)).transpose()
        };
        const ALL: &str = "objective_gradient_of_all";
        Ok(vec![of(0, ALL, 0)?, of(1, "objective_gradient", 0)?, of(2, ALL, 1)?])
    }
}
