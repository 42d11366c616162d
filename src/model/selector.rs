//! Candidates → the K that are kept: top-K with a suppression radius.

use super::drawings::numbers;
use super::importance::repeated;
use super::posterior::Posterior;
use crate::config::{ModelConfig, Rank, SelectorConfig};
use crate::layers::select;
use crate::random;
use candle_core::{Device, Result, Tensor};
use rand::Rng;

/// How the K entities are chosen, at one moment of training or in use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// What candidates are ranked by.
    pub rank_by: Rank,
    /// K.
    pub entities: usize,
    /// Suppression radius in cells.
    pub radius: usize,
    /// How much of what it draws a candidate may have in common with a better one that is kept; from 1 on, nobody asks.
    pub overlap: f64,
    /// For [`Rank::Random`] alone.
    pub seed: u64,
}

/// Cells (as n = row · columns + column) of the kept candidates: for each image K different ones, best first.
#[derive(Clone, Debug)]
pub struct Cells(
    /// (B, K), where the model computes: a step on a GPU never has to ask for them. In `f32`, which holds every such number exactly and
    /// is what GPU kernels read.
    Tensor,
);

impl Cells {
    /// K cells for each image.
    pub fn new(cells: &[Vec<usize>], device: &Device) -> Result<Self> {
        let entities = cells.first().map_or(0, Vec::len);
        let numbers = cells.iter().flatten().map(|cell| *cell as f32);
        Ok(Self(Tensor::from_iter(numbers, device)?.reshape((cells.len(), entities))?))
    }

    /// A list for each image.
    pub fn lists(&self) -> Result<Vec<Vec<usize>>> {
        let lists = self.0.to_vec2::<f32>()?.into_iter();
        Ok(lists.map(|cells| cells.into_iter().map(|cell| cell as usize).collect()).collect())
    }

    /// The same cells `times` over, for so many samples of each image.
    pub(super) fn repeated(&self, times: usize) -> Result<Self> {
        repeated(&self.0, times).map(Self)
    }

    /// (B, K)
    pub(super) fn numbers(&self) -> &Tensor {
        &self.0
    }
}

impl Selection {
    /// As at the end of training.
    pub fn trained(config: &ModelConfig, seed: u64) -> Self {
        let SelectorConfig { rank_by, radius, overlap, .. } = &config.selector;
        let radius = radius.last().round() as usize;
        Self { rank_by: *rank_by, entities: config.entities, radius, overlap: overlap.last(), seed }
    }

    /// The K candidates of every image that rank best, whatever they draw.
    /// `grid` is (rows, columns) of candidates, `cell` the pixels that one is high and wide.
    pub(super) fn best(
        &self,
        candidates: &Posterior,
        images: &Tensor,
        grid: (usize, usize),
        cell: (usize, usize),
    ) -> Result<Cells> {
        let (b, n) = candidates.dims2()?;
        let scores = match self.rank_by {
            Rank::Kl => candidates.kl()?,
            Rank::Brightness => Tensor::from_vec(brightness(images, grid, cell)?.concat(), (b, n), images.device())?,
            Rank::Random => {
                // By the image and not by its place in the batch: nobody else's pictures are to make a difference.
                let pixels = numbers(images)?;
                let scores = |image: &[f32]| {
                    let mut rng = random::stream(self.seed, "random selection", fingerprint(image));
                    (0..n).map(move |_| rng.random::<f32>())
                };
                let all = pixels.chunks_exact((pixels.len() / b.max(1)).max(1)).flat_map(scores);
                Tensor::from_iter(all, images.device())?.reshape((b, n))?
            }
        };
        select(&scores, self.entities, self.radius, grid).map(Cells)
    }
}

/// 1 where it is so and 0 where not, for K entities of each image: (B, K).
pub(crate) fn indicator(so: &[Vec<bool>], device: &Device) -> Result<Tensor> {
    let numbers = so.iter().flatten().map(|so| f32::from(u8::from(*so)));
    Tensor::from_iter(numbers, device)?.reshape((so.len(), so.first().map_or(0, Vec::len)))
}

/// log C(n, k) in nats: what it costs to say which k of n cells are meant, all sets being equally likely.
pub fn log_choose(n: usize, k: usize) -> f64 {
    match n.checked_sub(k) {
        Some(rest) => (1..=k).map(|i| ((rest + i) as f64 / i as f64).ln()).sum(),
        None => f64::NEG_INFINITY,
    }
}

/// A number that hardly another image has (FNV-1a).
fn fingerprint(image: &[f32]) -> u64 {
    image.iter().fold(0xcbf2_9ce4_8422_2325, |hash, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01b3))
}

/// Mean intensity of each cell of each image.
pub(super) fn brightness(
    images: &Tensor,
    (rows, columns): (usize, usize),
    (cell_h, cell_w): (usize, usize),
) -> Result<Vec<Vec<f32>>> {
    let (b, h, w, c) = images.dims4()?;
    let pixels = numbers(images)?;
    let mut scores = vec![vec![0.0; rows * columns]; b];
    for (image, scores) in pixels.chunks_exact(h * w * c).zip(&mut scores) {
        for (i, pixel) in image.chunks_exact(c).enumerate() {
            let cell = i / w / cell_h * columns + i % w / cell_w;
            scores[cell] += pixel.iter().sum::<f32>() / (cell_h * cell_w * c) as f32;
        }
    }
    Ok(scores)
}
