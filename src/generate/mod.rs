//! New images from a trained model, and an honest name for what was sampled.
//!
//! With one posterior for the whole image, z ~ N(0, I) is what the model was trained to decode. With a grid of candidates it is
//! not: most candidates are empty, so the prior itself decodes to nothing, and blank pictures would be drawn. There (and for a
//! deterministic latent, which has no prior) a density is fitted to the latents of the *present* entities of training scenes,
//! with the empirical distributions of how many there are and where; see [`Generator::describe`]. Chosen latents instead of
//! sampled ones are in [`walk`], scenes changed entity by entity in [`edit`].

mod density;
pub mod edit;
pub mod walk;

pub use density::{DensityError, GaussianMixture};

use crate::config::Latent;
use crate::evaluate::Decomposition;
use crate::model::{Cells, Model, Selection, distance};
use crate::random;
use candle_core::{DType, Device, Result, Tensor};
use rand::Rng;

/// Components of the fitted mixture: about two for each class of digit.
const COMPONENTS: usize = 20;

/// Where new latents come from.
#[derive(Debug)]
pub enum Generator {
    /// The prior of a model with one Gaussian latent.
    Prior {
        /// D.
        dimensions: usize,
    },
    /// A density fitted to what the encoder makes of images.
    Fitted(Box<Fitted>),
}

/// What the encoder found in images: which latents, how many at a time, in which cells.
#[derive(Debug)]
pub struct Fitted {
    density: GaussianMixture,
    /// How often an image had 0, 1, 2, … present entities.
    counts: Vec<u64>,
    /// How often each cell held one.
    cells: Vec<u64>,
    columns: usize,
    radius: usize,
    entities: u64,
}

/// Why there is nothing to sample from.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model finds no entities, so there are no latents to fit a density to.
    #[error("the model finds no entity in {images} training images, so there is nothing to sample: train it longer")]
    Nothing {
        /// How many were looked at.
        images: u64,
    },
    /// The latents cannot be fitted.
    #[error(transparent)]
    Density(#[from] DensityError),
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl Generator {
    /// The prior, where it is what the model decodes: for one Gaussian latent.
    pub fn prior(model: &Model, latent: &Latent) -> Option<Self> {
        match latent {
            Latent::Gaussian { dimensions, .. } if model.grid() == (1, 1) => {
                Some(Self::Prior { dimensions: *dimensions })
            }
            _ => None,
        }
    }

    /// A density fitted to what the model finds in `images` (batches (B, H, W, C)).
    pub fn fitted<E: From<GenerateError>>(
        model: &Model,
        selection: &Selection,
        images: impl IntoIterator<Item = std::result::Result<Tensor, E>>,
    ) -> std::result::Result<Self, E> {
        let (rows, columns) = model.grid();
        let (counts, cells) = (vec![0; selection.entities + 1], vec![0; rows * columns]);
        let mut found = Found { counts, cells, ..Found::default() };
        for batch in images {
            found.add(model, &batch?, selection).map_err(GenerateError::from)?;
        }
        found.fit(columns, selection).map(|fitted| Self::Fitted(Box::new(fitted))).map_err(E::from)
    }

    /// What is sampled, in words for a picture's title.
    pub fn describe(&self) -> String {
        match self {
            Self::Prior { .. } => "z sampled from the prior N(0, I)".into(),
            Self::Fitted(fitted) => format!(
                "z sampled from a mixture of {} Gaussians fitted to {} present entities; numbers and places as found",
                fitted.density.components(),
                fitted.entities
            ),
        }
    }

    /// `count` new images (count, H, W, C): the means of p(x|z) for sampled z.
    pub fn sample(&self, model: &Model, count: usize, seed: u64, device: &Device) -> Result<Tensor> {
        let plans: Vec<Plan> =
            (0..count).map(|i| self.plan(&mut random::stream(seed, "generated image", i as u64))).collect();
        let k = plans.iter().map(|plan| plan.cells.len()).max().unwrap_or(0).max(1);
        let images = plans.chunks(model.images_at_once(k)).map(|plans| self.images(model, plans, k, device));
        Tensor::cat(&images.collect::<Result<Vec<_>>>()?, 0)
    }

    /// The images of some plans of at most `k` entities.
    fn images(&self, model: &Model, plans: &[Plan], k: usize, device: &Device) -> Result<Tensor> {
        let count = plans.len();
        let d = match self {
            Self::Prior { dimensions } => *dimensions,
            Self::Fitted(fitted) => fitted.density.dimensions(),
        };
        let mut z = vec![0f32; count * k * d];
        let mut present = vec![0f32; count * k];
        let mut cells = vec![vec![0; k]; count];
        for (i, plan) in plans.iter().enumerate() {
            z[i * k * d..][..plan.z.len()].copy_from_slice(&plan.z);
            present[i * k..][..plan.cells.len()].fill(1.0);
            cells[i][..plan.cells.len()].copy_from_slice(&plan.cells);
        }
        let components =
            model.decode(&Tensor::from_vec(z, (count, k, d), device)?, &Cells::new(&cells, device)?)?.drawn()?;
        let present = Tensor::from_vec(present, (count, k), device)?;
        let logits = model.compositor().compose_drawn(&model.compositor().keep(&components, &present)?)?;
        model.likelihood().mean(&logits)
    }

    fn plan(&self, rng: &mut impl Rng) -> Plan {
        match self {
            Self::Prior { dimensions } => {
                let mut z = vec![0f32; *dimensions];
                random::normals(rng, &mut z);
                Plan { z, cells: vec![0] }
            }
            Self::Fitted(fitted) => fitted.plan(rng),
        }
    }
}

/// The entities of one new image.
struct Plan {
    z: Vec<f32>,
    cells: Vec<usize>,
}

impl Fitted {
    fn plan(&self, rng: &mut impl Rng) -> Plan {
        let cells = self.free_cells(draw(&self.counts, rng), rng);
        let d = self.density.dimensions();
        let mut z = vec![0f32; cells.len() * d];
        z.chunks_mut(d).for_each(|z| self.density.sample(rng, z));
        Plan { z, cells }
    }

    /// `count` cells further apart than the selector's radius; fewer where they find no room in a hundred tries each.
    fn free_cells(&self, count: usize, rng: &mut impl Rng) -> Vec<usize> {
        let mut cells: Vec<usize> = Vec::with_capacity(count);
        for _ in 0..count * 100 {
            if cells.len() == count {
                break;
            }
            let cell = draw(&self.cells, rng);
            let near = |&other: &usize| distance(cell, other, self.columns) <= self.radius;
            if !cells.iter().any(near) {
                cells.push(cell);
            }
        }
        cells
    }
}

/// An index with probability proportional to its weight; 0 if all are 0.
fn draw(weights: &[u64], rng: &mut impl Rng) -> usize {
    let total: u64 = weights.iter().sum();
    let mut at = if total > 0 { rng.random_range(0..total) } else { 0 };
    for (i, weight) in weights.iter().enumerate() {
        if at < *weight {
            return i;
        }
        at -= weight;
    }
    0
}

/// What is being collected.
#[derive(Default)]
struct Found {
    /// Of all present entities, D numbers each.
    latents: Vec<f32>,
    counts: Vec<u64>,
    cells: Vec<u64>,
    images: u64,
    entities: u64,
}

impl Found {
    fn add(&mut self, model: &Model, images: &Tensor, selection: &Selection) -> Result<()> {
        let decomposition = Decomposition::of(model, images, selection)?;
        let means =
            decomposition.inference.entities.mean()?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec3::<f32>()?;
        for ((present, cells), means) in decomposition.present.iter().zip(&decomposition.cells).zip(&means) {
            let there = (0..present.len()).filter(|k| present[*k]);
            self.counts[there.clone().count()] += 1;
            for k in there {
                self.latents.extend(&means[k]);
                self.cells[cells[k]] += 1;
                self.entities += 1;
            }
            self.images += 1;
        }
        Ok(())
    }

    fn fit(self, columns: usize, selection: &Selection) -> std::result::Result<Fitted, GenerateError> {
        if self.entities == 0 {
            return Err(GenerateError::Nothing { images: self.images });
        }
        let dimensions = self.latents.len() / self.entities as usize;
        let density = GaussianMixture::fit(&self.latents, dimensions, COMPONENTS, selection.seed)?;
        let Self { counts, cells, entities, .. } = self;
        Ok(Fitted { density, counts, cells, columns, radius: selection.radius, entities })
    }
}
