//! Latents → components, by one decoder that all entities share.

use super::encoder::centred;
use super::selector::Cells;
use crate::config::{ConvolutionConfig, DecoderTrunk, ModelConfig, Placement};
use crate::layers::{Activation, Extent, LayerSpec, Places, Rule, Stack, compose, mix, place};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

/// The shared decoder and where it puts what it draws.
#[derive(Clone, Debug)]
pub struct Decoder {
    stack: Stack,
    placement: Placement,
    coordinates: bool,
    grid: (usize, usize),
    /// Pixels that a cell is high and wide.
    cell: (usize, usize),
}

impl Decoder {
    /// For images of the given extent; `output_bias` is where a fresh decoder's output starts.
    pub fn new(config: &ModelConfig, image: Extent, output_bias: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let (grid, cell) = (config.grid(image), config.cell(image));
        let channels = config.compositor.component_channels(image.channels);
        let component = Extent { channels, ..image };
        let (config, latent) = (&config.decoder, &config.latent);
        let patch = match config.placement {
            Placement::Canvas => component,
            Placement::Glimpse { patch } => Extent::new(patch, patch, component.channels),
        };
        let inputs = latent.dimensions() + if config.coordinates { 2 } else { 0 };
        let stack = Stack::starting_at(output_bias, Extent::vector(inputs), &specs(&config.trunk, patch), vb)?;
        Ok(Self { stack, placement: config.placement, coordinates: config.coordinates, grid, cell })
    }

    /// The same with weights that no training changes any more.
    pub(super) fn at_rest(&self) -> Result<Self> {
        Ok(Self { stack: self.stack.at_rest()?, ..self.clone() })
    }

    /// z (B, K, D) at `cells` → components over the whole image (height, width), `nothing` where they do not reach.
    pub fn components(&self, z: &Tensor, cells: &Cells, image: (usize, usize), nothing: f64) -> Result<Components> {
        let z = if self.coordinates { Tensor::cat(&[z, &self.cell_centres(cells, z)?], 2)? } else { z.clone() };
        let (b, k, inputs) = z.dims3()?;
        let places = match self.placement {
            Placement::Canvas => Places::whole(b * k, image, nothing),
            Placement::Glimpse { patch } => Places {
                corners: cells.iter().flatten().map(|&cell| self.corner(cell, patch)).collect(),
                patch: (patch, patch),
                canvas: image,
                fill: nothing,
            },
        };
        // Entities are folded into the batch: one decoder, shared weights.
        Ok(Components { stack: self.stack.clone(), z: z.reshape((b * k, inputs))?, entities: k, places })
    }

    /// Top-left corner, possibly outside the image, of a patch centred on a cell.
    fn corner(&self, index: usize, patch: usize) -> (isize, isize) {
        let columns = self.grid.1;
        let along = |index: usize, cell: usize| (2 * index * cell + cell) as isize / 2 - patch as isize / 2;
        (along(index / columns, self.cell.0), along(index % columns, self.cell.1))
    }

    /// (B, K, 2): y and x of each entity's cell in [−1, 1].
    fn cell_centres(&self, cells: &Cells, like: &Tensor) -> Result<Tensor> {
        let (rows, columns) = self.grid;
        let centres = cells.iter().flatten().flat_map(|c| [centred(c / columns, rows), centred(c % columns, columns)]);
        let k = cells.first().map_or(0, Vec::len);
        Tensor::from_iter(centres, like.device())?.reshape((cells.len(), k, 2))?.to_dtype(like.dtype())
    }
}

/// What entities decode to: K components for each image. Described by latents and places, and drawn only when they are looked at,
/// because composing them needs no canvas for each.
#[derive(Clone, Debug)]
pub struct Components {
    stack: Stack,
    /// (B·K, D), with the coordinates where the decoder is told them.
    z: Tensor,
    entities: usize,
    places: Places,
}

impl Components {
    /// Every component over the whole image, (B, K, H, W, C').
    pub fn drawn(&self) -> Result<Tensor> {
        let canvases = place(&self.stack.forward(&self.z)?, &self.places)?; // (B·K, H, W, C')
        let (m, h, w, c) = canvases.dims4()?;
        canvases.reshape((m / self.entities, self.entities, h, w, c))
    }

    /// Mixed by their masks over backgrounds: logits (B, H, W, C).
    pub(super) fn mixed(&self, background: Option<&Tensor>) -> Result<Tensor> {
        let patches = self.stack.forward(&self.z)?; // (B·K, P, P, C + 1)
        let (count, _, _, channels) = patches.dims4()?;
        let background = backgrounds(background, count / self.entities, channels - 1, &patches)?;
        mix(&patches, &background, self.entities, &self.places)
    }

    /// Composed by a rule that works pixel by pixel: logits (B, H, W, C).
    pub(super) fn composed(&self, rule: Rule) -> Result<Tensor> {
        self.stack.forward_composed(&self.z, rule, self.entities, &self.places)
    }
}

/// Backgrounds (C) or (B, C), or none for a middle grey, as (B, C).
fn backgrounds(background: Option<&Tensor>, images: usize, colours: usize, like: &Tensor) -> Result<Tensor> {
    match background {
        Some(known) => known.broadcast_as((images, colours)),
        None => Tensor::zeros((images, colours), like.dtype(), like.device()),
    }
}

/// Drawn components (B, K, H, W, C + 1) over backgrounds → logits (B, H, W, C).
pub(super) fn mix_drawn(components: &Tensor, background: Option<&Tensor>, nothing: f64) -> Result<Tensor> {
    let (b, k, h, w, channels) = components.dims5()?;
    let background = backgrounds(background, b, channels - 1, components)?;
    mix(&components.reshape((b * k, h, w, channels))?, &background, k, &Places::whole(b * k, (h, w), nothing))
}

/// Drawn components (B, K, H, W, C) → logits (B, H, W, C).
pub(super) fn compose_drawn(components: &Tensor, rule: Rule, nothing: f64) -> Result<Tensor> {
    let (b, k, h, w, c) = components.dims5()?;
    compose(&components.reshape((b * k, h, w, c))?, rule, k, &Places::whole(b * k, (h, w), nothing))
}

/// The layers that end in a patch of at least the wanted size.
fn specs(trunk: &DecoderTrunk, patch: Extent) -> Vec<(LayerSpec, Activation)> {
    let dense =
        |hidden: &[usize], activation| hidden.iter().map(|&n| (LayerSpec::Dense(n), activation)).collect::<Vec<_>>();
    match trunk {
        DecoderTrunk::Dense { hidden, activation } => {
            let mut specs = dense(hidden, *activation);
            specs.push((LayerSpec::Dense(patch.len()), Activation::Identity));
            specs.push((LayerSpec::Reshape(patch), Activation::Identity));
            specs
        }
        DecoderTrunk::Convolutional { hidden, base, layers, kernel, stride, activation } => {
            let up = layers.iter().map(|layer| layer.stride).product::<usize>().max(1) * (*stride).max(1);
            let small = Extent::new(patch.height.div_ceil(up), patch.width.div_ceil(up), *base);
            let mut specs = dense(hidden, *activation);
            specs.push((LayerSpec::Dense(small.len()), *activation));
            specs.push((LayerSpec::Reshape(small), Activation::Identity));
            specs.extend(layers.iter().map(|&layer| (ConvolutionConfig { up: true, ..layer }.into(), *activation)));
            let pixels = LayerSpec::Upconvolution { channels: patch.channels, kernel: *kernel, stride: *stride };
            specs.push((pixels, Activation::Identity));
            specs
        }
    }
}
