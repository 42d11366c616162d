//! Latents → components, by one decoder that all entities share.

use super::drawings::{Drawings, numbers};
use super::encoder::centred;
use super::selector::Cells;
use crate::config::{ConvolutionConfig, DecoderTrunk, ModelConfig, Placement};
use crate::layers::{
    Activation, Deposit, Extent, LayerSpec, Places, Rule, Stack, compose, gather, mix, place, sigmoid,
};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

/// The shared decoder and where it puts what it draws.
#[derive(Clone, Debug)]
pub struct Decoder {
    stack: Stack,
    /// z → logits of an entity's colour, where it has but one and the stack draws masks alone.
    colours: Option<Stack>,
    /// (1, N, 2): y and x of each cell's centre in [−1, 1], where the decoder is told them.
    centres: Option<Tensor>,
    glimpse: Option<Glimpse>,
}

/// What a decoder that draws patches has to know of them.
#[derive(Clone, Debug)]
struct Glimpse {
    /// Side of a patch.
    patch: usize,
    /// (1, N, 2): top-left corner, possibly outside the image, of a patch that is centred on each cell.
    corners: Tensor,
}

impl Decoder {
    /// For images of the given extent; `output_bias` is where a fresh decoder's output starts.
    pub fn new(config: &ModelConfig, image: Extent, output_bias: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let (grid, cell) = (config.grid(image), config.cell(image));
        let uniform = config.compositor.is_uniform();
        let component = Extent { channels: config.compositor.drawn_channels(image.channels), ..image };
        let (config, latent) = (&config.decoder, &config.latent);
        let patch = match config.placement {
            Placement::Canvas => component,
            Placement::Glimpse { patch } => Extent::new(patch, patch, component.channels),
        };
        let inputs = latent.dimensions() + if config.coordinates { 2 } else { 0 };
        let cells = |at: &dyn Fn(usize, usize) -> [f32; 2]| {
            let table = (0..grid.0).flat_map(|y| (0..grid.1).flat_map(move |x| at(y, x)));
            Tensor::from_iter(table.collect::<Vec<_>>(), vb.device())?.reshape((1, grid.0 * grid.1, 2))
        };
        let centres = || cells(&|y, x| [centred(y, grid.0), centred(x, grid.1)])?.to_dtype(vb.dtype());
        let glimpse = match config.placement {
            Placement::Canvas => None,
            Placement::Glimpse { patch } => {
                let along = |i: usize, cell: usize| (2 * i * cell + cell) as isize / 2 - patch as isize / 2;
                let corners = cells(&|y, x| [along(y, cell.0) as f32, along(x, cell.1) as f32])?;
                Some(Glimpse { patch, corners })
            }
        };
        let centres = config.coordinates.then(centres).transpose()?;
        let inputs = Extent::vector(inputs);
        let colours = || {
            let colour = (LayerSpec::Dense(image.channels), Activation::Identity);
            Stack::starting_at(output_bias, inputs, &[colour], vb.pp("colours"))
        };
        let colours = uniform.then(colours).transpose()?;
        let stack = Stack::starting_at(output_bias, inputs, &specs(&config.trunk, patch), vb)?;
        Ok(Self { stack, colours, centres, glimpse })
    }

    /// See [`Stack::on_deposit`].
    pub(super) fn on_deposit(&self, deposit: &Deposit) -> Self {
        let colours = self.colours.as_ref().map(|colours| colours.on_deposit(deposit));
        Self { stack: self.stack.on_deposit(deposit), colours, ..self.clone() }
    }

    /// The same with weights that no training changes any more.
    pub(super) fn at_rest(&self) -> Result<Self> {
        let colours = self.colours.as_ref().map(Stack::at_rest).transpose()?;
        Ok(Self { stack: self.stack.at_rest()?, colours, ..self.clone() })
    }

    /// z (B, K, D) at `cells` → components over the whole image (height, width), `nothing` where they do not reach.
    pub fn components(&self, z: &Tensor, cells: &Cells, image: (usize, usize), nothing: f64) -> Result<Components> {
        let z = match &self.centres {
            Some(centres) => Tensor::cat(&[z, &gather(centres, cells.numbers())?], 2)?,
            None => z.clone(),
        };
        let (b, k, inputs) = z.dims3()?;
        let places = match &self.glimpse {
            Some(Glimpse { patch, corners }) => Places {
                corners: Some(gather(corners, cells.numbers())?.reshape((b * k, 2))?),
                patch: (*patch, *patch),
                canvas: image,
                fill: nothing,
            },
            None => Places::whole(image, nothing),
        };
        // Entities are folded into the batch: one decoder, shared weights.
        let (stack, colours) = (self.stack.clone(), self.colours.clone());
        Ok(Components { stack, colours, z: z.reshape((b * k, inputs))?, entities: k, places, patches: None })
    }
}

/// What entities decode to: K components for each image. Described by latents and places, and drawn only when they are looked at,
/// because composing them needs no canvas for each.
#[derive(Clone, Debug)]
pub struct Components {
    stack: Stack,
    colours: Option<Stack>,
    /// (B·K, D), with the coordinates where the decoder is told them.
    z: Tensor,
    entities: usize,
    places: Places,
    /// What is drawn, where that is known.
    patches: Option<Tensor>,
}

impl Components {
    /// Every component over the whole image, (B, K, H, W, C').
    pub fn drawn(&self) -> Result<Tensor> {
        let canvases = place(&self.patches()?, &self.places)?; // (B·K, H, W, C')
        let (m, h, w, c) = canvases.dims4()?;
        canvases.reshape((m / self.entities, self.entities, h, w, c))
    }

    /// The same, drawn once for all that looks at them, unless a gradient goes back to their latents: in training what is drawn does not
    /// leave the cache.
    pub(super) fn drawn_outside_training(self) -> Result<Self> {
        let patches = (!self.z.track_op()).then(|| self.patches()).transpose()?;
        Ok(Self { patches, ..self })
    }

    /// What is drawn, not yet placed: (B·K, P, P, C').
    fn patches(&self) -> Result<Tensor> {
        if let Some(patches) = &self.patches {
            return Ok(patches.clone());
        }
        let patches = self.stack.forward(&self.z)?;
        let Some(colours) = &self.colours else { return Ok(patches) };
        let (count, height, width, _) = patches.dims4()?;
        let colours = colours.forward(&self.z)?; // (B·K, 1, 1, C)
        let everywhere = (count, height, width, colours.dim(3)?);
        Tensor::cat(&[&colours.broadcast_as(everywhere)?, &patches], 3)
    }

    /// What each draws alone, where it may be seen.
    pub(super) fn drawings(&self, masked: bool) -> Result<Drawings> {
        let Places { patch, canvas, .. } = self.places;
        let patches = self.patches()?;
        let (count, _, _, channels) = patches.dims4()?;
        let seen = patches.narrow(1, 0, patch.0)?.narrow(2, 0, patch.1)?;
        let corners = match &self.places.corners {
            Some(corners) => numbers(corners)?.chunks_exact(2).map(|at| (at[0] as isize, at[1] as isize)).collect(),
            None => vec![(0, 0); count],
        };
        let numbers = numbers(&sigmoid(&seen)?)?;
        Ok(Drawings { numbers, channels, masked, patch, corners, canvas })
    }

    /// Mixed by their masks over backgrounds: logits (B, H, W, C).
    pub(super) fn mixed(&self, background: Option<&Tensor>) -> Result<Tensor> {
        let patches = self.patches()?; // (B·K, P, P, C + 1)
        let (count, _, _, channels) = patches.dims4()?;
        let background = backgrounds(background, count / self.entities, channels - 1, &patches)?;
        mix(&patches, &background, self.entities, &self.places)
    }

    /// Composed by a rule that works pixel by pixel: logits (B, H, W, C).
    pub(super) fn composed(&self, rule: Rule) -> Result<Tensor> {
        match &self.patches {
            Some(patches) => compose(patches, rule, self.entities, &self.places),
            None => self.stack.forward_composed(&self.z, rule, self.entities, &self.places),
        }
    }
}

/// Backgrounds (1 or B, 1 or H, 1 or W, C), or none for a middle grey, each image with its own.
fn backgrounds(background: Option<&Tensor>, images: usize, colours: usize, like: &Tensor) -> Result<Tensor> {
    match background {
        Some(known) => {
            let (_, h, w, c) = known.dims4()?;
            known.broadcast_as((images, h, w, c))
        }
        None => Tensor::zeros((images, 1, 1, colours), like.dtype(), like.device()),
    }
}

/// Drawn components (B, K, H, W, C + 1) over backgrounds → logits (B, H, W, C).
pub(super) fn mix_drawn(components: &Tensor, background: Option<&Tensor>, nothing: f64) -> Result<Tensor> {
    let (b, k, h, w, channels) = components.dims5()?;
    let background = backgrounds(background, b, channels - 1, components)?;
    mix(&components.reshape((b * k, h, w, channels))?, &background, k, &Places::whole((h, w), nothing))
}

/// Drawn components (B, K, H, W, C) → logits (B, H, W, C).
pub(super) fn compose_drawn(components: &Tensor, rule: Rule, nothing: f64) -> Result<Tensor> {
    let (b, k, h, w, c) = components.dims5()?;
    compose(&components.reshape((b * k, h, w, c))?, rule, k, &Places::whole((h, w), nothing))
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
