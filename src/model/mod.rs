//! The model: one forward pass that is the figure.
//!
//! ```text
//! image (B,H,W,C) ─ encoder ─> candidates q(z_n|x) (B,N,D) ─ selector ─> K entities of largest KL ─ sample ─> z (B,K,D)
//!      z ─ shared decoder ─> K components ─ compositor ─> pixel distribution p(x|z) ─ likelihood ─> −log p(x|z) + β Σ_k KL_k
//! ```
//!
//! Alphabet: **B** batch, **C** image channels, **H×W** image, **N** candidates (grid cells), **K** entities kept, **D** latent
//! dimensions, **P** patch side.

mod background;
mod compositor;
mod decoder;
mod drawings;
mod encoder;
pub mod importance;
mod likelihood;
mod objective;
mod posterior;
mod refinement;
mod selector;
mod variables;

pub(crate) use crate::layers::distance;
pub use background::Estimate;
pub use compositor::{Compositor, Ground, NOTHING};
pub use decoder::{Components, Decoder};
pub use encoder::Encoder;
pub use importance::Resampling;
pub use objective::{Loss, Weights};
pub use posterior::{LOG_VAR_LIMIT, Posterior};
pub(crate) use selector::indicator;
pub use selector::{Cells, Selection, log_choose};
pub use variables::Variables;

use crate::config::{Likelihood, ModelConfig, Placement, SelectorConfig};
use crate::layers::{Deposit, Extent};
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

/// Autoencoder, VAE, β-VAE or multi-entity VAE: which one it is, the configuration says.
#[derive(Clone, Debug)]
pub struct Model {
    encoder: Encoder,
    decoder: Decoder,
    compositor: Compositor,
    likelihood: Likelihood,
    image: Extent,
    grid: (usize, usize),
    cell: (usize, usize),
    placed: bool,
}

/// What the upper row of the figure makes of images: candidates, and those of them that are kept.
#[derive(Clone, Debug)]
pub struct Encoding {
    /// q(z_n|x) of every cell, (B, N, D).
    pub candidates: Posterior,
    /// The cells of the kept ones, (B, K), best first.
    pub cells: Cells,
    /// q(z_k|x) of the kept ones, (B, K, D).
    pub entities: Posterior,
}

impl Encoding {
    /// The same outside the graph.
    pub fn detach(&self) -> Self {
        let Self { candidates, cells, entities } = self;
        Self { candidates: candidates.detach(), cells: cells.clone(), entities: entities.detach() }
    }
}

/// Everything that one forward pass makes.
#[derive(Clone, Debug)]
pub struct Inference {
    /// q(z_n|x) of every cell, (B, N, D).
    pub candidates: Posterior,
    /// The cells of the kept ones, (B, K), best first.
    pub cells: Cells,
    /// q(z_k|x) of the kept ones, (B, K, D).
    pub entities: Posterior,
    /// Their latents, (B, K, D).
    pub z: Tensor,
    /// What each decodes to, over the whole image, (B, K, H, W, C').
    pub components: Components,
    /// What composes them: that of these very images.
    pub compositor: Compositor,
    /// The composed image as logits, (B, H, W, C).
    pub logits: Tensor,
    likelihood: Likelihood,
}

impl Model {
    /// Builds the model for images of one extent from (new or loaded) variables.
    pub fn new(config: &ModelConfig, image: Extent, vb: VarBuilder<'_>) -> Result<Self> {
        let grid = config.grid(image);
        let initial = Compositor::initial_logit(config);
        Ok(Self {
            encoder: Encoder::new(config, image, vb.pp("encoder"))?,
            decoder: Decoder::new(config, image, initial, vb.pp("decoder"))?,
            compositor: Compositor::new(&config.compositor, image, vb.pp("compositor"))?,
            likelihood: config.likelihood,
            image,
            grid,
            cell: config.cell(image),
            placed: config.decoder.placement != Placement::Canvas || config.decoder.coordinates,
        })
    }

    /// The model with the weights that it has now, which no training changes any more: quicker to ask, above all about few images.
    pub fn at_rest(&self) -> Result<Self> {
        Ok(Self { encoder: self.encoder.at_rest()?, decoder: self.decoder.at_rest()?, ..self.clone() })
    }

    /// The model in training: its parameters' gradients go round candle's graph, and [`Deposit::backward`] collects them.
    pub fn on_deposit(&self, deposit: &Deposit) -> Self {
        let (encoder, decoder) = (self.encoder.on_deposit(deposit), self.decoder.on_deposit(deposit));
        Self { encoder, decoder, compositor: self.compositor.on_deposit(deposit), ..self.clone() }
    }

    /// The figure. Images (B, H, W, C) in [0, 1]; `noise` (B, K, D) standard normal, or none for the posterior means.
    pub fn forward(&self, images: &Tensor, selection: &Selection, noise: Option<&Tensor>) -> Result<Inference> {
        let Encoding { candidates, cells, entities } = self.encode(images, selection)?; // (B, N, D), (B, K, D)
        let z = entities.sample(noise)?; //                                   (B, K, D)
        let components = self.decode(&z, &cells)?.drawn_outside_training()?; // (B, K, H, W, C')
        let compositor = self.compositor.on(images)?;
        let logits = compositor.compose(&components)?; //                     (B, H, W, C)
        Ok(Inference { candidates, cells, entities, z, components, compositor, logits, likelihood: self.likelihood })
    }

    /// The figure's upper row: images (B, H, W, C) → candidates and entities.
    pub fn encode(&self, images: &Tensor, selection: &Selection) -> Result<Encoding> {
        let candidates = self.candidates(images)?; //                         (B, N, D)
        let cells = self.select(&candidates, images, selection)?; //          (B, K) places
        let entities = candidates.gather(&cells)?; //                         (B, K, D)
        Ok(Encoding { candidates, cells, entities })
    }

    /// The cells that are kept: the best ones, or the best of those that would not draw the same.
    fn select(&self, candidates: &Posterior, images: &Tensor, selection: &Selection) -> Result<Cells> {
        let best = |entities| Selection { entities, ..*selection }.best(candidates, images, self.grid, self.cell);
        let (k, n) = (selection.entities, self.grid.0 * self.grid.1);
        // One alone, or all there are, are kept whatever they draw.
        if selection.overlap >= 1.0 || k == 1 || k >= n {
            return best(k);
        }
        let cells = best(SelectorConfig::drawn(k, n))?;
        let z = candidates.gather(&cells)?.mean()?.detach();
        let drawings = self.decode(&z, &cells)?.drawings(self.compositor.is_masked())?;
        drawings.distinct(&cells, selection, self.grid, images.device())
    }

    /// Images (B, H, W, C) → candidates.
    pub fn candidates(&self, images: &Tensor) -> Result<Posterior> {
        self.encoder.candidates(images)
    }

    /// Latents (B, K, D) at cells → components (B, K, H, W, C').
    pub fn decode(&self, z: &Tensor, cells: &Cells) -> Result<Components> {
        self.decoder.components(z, cells, (self.image.height, self.image.width), self.compositor.nothing())
    }

    /// The compositor, for taking entities out or looking at them alone.
    pub fn compositor(&self) -> &Compositor {
        &self.compositor
    }

    /// p(x|z).
    pub fn likelihood(&self) -> &Likelihood {
        &self.likelihood
    }

    /// Rows and columns of candidates; N is their product.
    pub fn grid(&self) -> (usize, usize) {
        self.grid
    }

    /// Pixels that a cell is high and wide.
    pub fn cell(&self) -> (usize, usize) {
        self.cell
    }

    /// Mean intensity of every cell of images (B, H, W, C): B lists of N.
    pub fn brightness(&self, images: &Tensor) -> Result<Vec<Vec<f32>>> {
        selector::brightness(images, self.grid, self.cell)
    }

    /// Whether the decoder is told the cells of the entities, which makes their location part of the model.
    pub fn is_placed(&self) -> bool {
        self.placed
    }

    /// Nats of a code for K entities and an image that are in no KL: log C(N, K) for the cells, if the decoder is told them, and what
    /// the background costs.
    pub fn location_nats(&self, entities: usize) -> f64 {
        let cells = if self.placed { log_choose(self.grid.0 * self.grid.1, entities) } else { 0.0 };
        cells + self.compositor.background_nats(self.image)
    }

    /// Images that are looked at together where there are many, each with so many drawn components. Where these are large the images are
    /// fewer, so that what is in memory at once has a bound.
    pub fn images_at_once(&self, components: usize) -> usize {
        const MOST_IMAGES: usize = 64;
        self.at_once(components, MOST_IMAGES)
    }

    /// The same with another number of images at the most.
    pub(crate) fn at_once(&self, components: usize, most: usize) -> usize {
        const MOST_NUMBERS: usize = 1 << 26;
        (MOST_NUMBERS / self.image.len().saturating_mul(components).max(1)).clamp(1, most)
    }

    /// Extent of the images that the model reads and writes.
    pub fn image(&self) -> Extent {
        self.image
    }
}

impl Inference {
    /// log p(x|z) of each image in nats, (B).
    pub fn log_prob(&self, images: &Tensor) -> Result<Tensor> {
        self.likelihood.log_prob(&self.logits, images)
    }

    /// E[x|z]: the reconstruction, (B, H, W, C) in [0, 1].
    pub fn reconstruction(&self) -> Result<Tensor> {
        self.likelihood.mean(&self.logits)
    }
}
