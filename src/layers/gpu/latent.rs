//! Posteriors: KL, selection, what is kept, samples. Means and then log-variances of D dimensions each, as the encoder emits them.

use super::machine::{Launch, Machine, Operand};
use super::node::{Operation, apply};
use candle_core::{Result, Shape, Tensor, bail};

/// KL in nats: posteriors (B, N, 2D) → (B, N). Log-variances beyond ± `limit` count as `limit`.
pub fn kl(posteriors: &Tensor, limit: f64) -> Result<Tensor> {
    let (images, candidates, numbers) = posteriors.dims3()?;
    apply(Kl { shape: (images, candidates), gaussians: Gaussians { dimensions: numbers / 2, limit } }, &[posteriors])
}

/// μ + σ ε: posteriors (B, K, 2D) and noise (B, K, D) → (B, K, D).
pub fn sample(posteriors: &Tensor, noise: &Tensor, limit: f64) -> Result<Tensor> {
    let gaussians = Gaussians { dimensions: noise.dim(2)?, limit };
    apply(Sample { shape: noise.shape().clone(), gaussians }, &[posteriors, noise])
}

/// The K best-scored cells of each image: scores (B, N) of a grid of (rows, columns) → (B, K), as [`top_k`](crate::layers::top_k).
pub fn select(scores: &Tensor, entities: usize, radius: usize, grid: (usize, usize)) -> Result<Tensor> {
    /// As many as the kernel has places for.
    const MOST: usize = 256;
    if entities > MOST {
        bail!("{entities} entities are too many for a GPU: at most {MOST}");
    }
    apply(Select { images: scores.dim(0)?, entities, radius, grid }, &[&scores.detach()])
}

/// Rows (B, N, P), or (1, N, P) that all images share, at cells (B, K) → (B, K, P).
pub fn gather(rows: &Tensor, cells: &Tensor) -> Result<Tensor> {
    let ((of, candidates, numbers), (images, entities)) = (rows.dims3()?, cells.dims2()?);
    if of != images && (of != 1 || rows.track_op()) {
        bail!("rows of {of} images were asked for cells of {images}");
    }
    apply(Gather { images, shared: of == 1, candidates, entities, numbers }, &[rows, cells])
}

/// What kernels over posteriors are told of them.
struct Gaussians {
    dimensions: usize,
    limit: f64,
}

impl Gaussians {
    fn launch(&self, kernel: &'static str, outputs: usize) -> Result<Launch> {
        Ok(Launch::new(kernel, outputs, &[self.dimensions])?.with(&[self.limit]))
    }
}

struct Kl {
    shape: (usize, usize),
    gaussians: Gaussians,
}

impl Operation for Kl {
    const NAME: &'static str = "gaussian KL";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        Ok((self.gaussians.launch("kl", self.shape.0 * self.shape.1)?.on(inputs)?, self.shape.into()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        _: Operand<'_, M>,
        gradient: Operand<'_, M>,
        _: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let launch = self.gaussians.launch("kl_gradient", inputs[0].len)?;
        Ok(vec![Some(launch.on(&[inputs[0], gradient])?)])
    }
}

struct Sample {
    shape: Shape,
    gaussians: Gaussians,
}

impl Operation for Sample {
    const NAME: &'static str = "sample";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        let launch = self.gaussians.launch("sample", self.shape.elem_count())?;
        Ok((launch.on(inputs)?, self.shape.clone()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        _: Operand<'_, M>,
        gradient: Operand<'_, M>,
        _: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let launch = self.gaussians.launch("sample_gradient", inputs[0].len)?;
        Ok(vec![Some(launch.on(&[inputs, &[gradient]].concat())?), None])
    }
}

struct Select {
    images: usize,
    entities: usize,
    radius: usize,
    grid: (usize, usize),
}

impl Operation for Select {
    const NAME: &'static str = "select";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        let sizes = [self.entities, self.grid.0, self.grid.1, self.radius];
        let launch = Launch::new("best_cells", self.images * self.entities, &sizes)?.in_blocks(self.images)?;
        Ok((launch.on(inputs)?, (self.images, self.entities).into()))
    }

    fn backward<M: Machine>(
        &self,
        _: &[Operand<'_, M>],
        _: Operand<'_, M>,
        _: Operand<'_, M>,
        _: &[bool],
    ) -> Result<Vec<Option<M>>> {
        bail!("which cells are selected has no gradient")
    }
}

struct Gather {
    images: usize,
    shared: bool,
    candidates: usize,
    entities: usize,
    numbers: usize,
}

impl Operation for Gather {
    const NAME: &'static str = "gather";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        let shape = (self.images, self.entities, self.numbers);
        let sizes = [self.numbers, self.entities, self.candidates, usize::from(self.shared)];
        Ok((Launch::new("gather", shape.0 * shape.1 * shape.2, &sizes)?.on(inputs)?, shape.into()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        _: Operand<'_, M>,
        gradient: Operand<'_, M>,
        _: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let sizes = [self.numbers, self.entities, self.candidates];
        let launch = Launch::new("gather_gradient", inputs[0].len, &sizes)?;
        Ok(vec![Some(launch.on(&[inputs, &[gradient]].concat())?), None])
    }
}
