//! How large a model is, told from its configuration alone: before anything is allocated, and without overflow.

use super::*;
use crate::layers::Extent;

/// Numbers in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Of the parameters.
    pub parameters: usize,
    /// The same as the kernels arrange them: with zeros for the taps that a kernel lacks to a multiple of its stride.
    pub arranged: usize,
    /// Of everything that a forward pass of one image keeps.
    pub activations: usize,
}

impl Size {
    fn and(self, other: Self) -> Self {
        Self {
            parameters: self.parameters.saturating_add(other.parameters),
            arranged: self.arranged.saturating_add(other.arranged),
            activations: self.activations.saturating_add(other.activations),
        }
    }

    /// The same parameters for `count` inputs.
    fn times(self, count: usize) -> Self {
        Self { activations: self.activations.saturating_mul(count), ..self }
    }
}

/// All parts together.
pub(super) fn whole(model: &ModelConfig, image: Extent) -> Size {
    let decoder = decoder(model, image);
    // Twice as many drawings are only compared, beside those that are kept.
    let times = if model.selector.compares_drawings() { 3 } else { 1 };
    let decoder = Size { activations: decoder.activations.saturating_mul(times), ..decoder };
    encoder(model, image).and(decoder).and(compositor(model, image))
}

/// From the image to the candidates.
pub(super) fn encoder(model: &ModelConfig, image: Extent) -> Size {
    let numbers = match model.latent {
        Latent::Point { dimensions, .. } => dimensions,
        Latent::Gaussian { dimensions, .. } => dimensions.saturating_mul(2),
    };
    match &model.encoder {
        EncoderConfig::Dense { hidden, .. } => Walk::over(image).dense(hidden).dense(&[numbers]).size,
        EncoderConfig::Convolutional { layers, posteriors, coordinates, .. } => {
            let channels = image.channels + if *coordinates { 2 } else { 0 };
            let trunk = Walk::over(Extent { channels, ..image }).convolutions(layers);
            match posteriors {
                Posteriors::PerCell => trunk.convolutions(&[ConvolutionConfig::new(numbers, 1, 1)]).size,
                Posteriors::Whole => trunk.dense(&[numbers]).size,
            }
        }
    }
}

/// From K latents to their components, drawn over the whole image.
pub(super) fn decoder(model: &ModelConfig, image: Extent) -> Size {
    let component = Extent { channels: model.compositor.component_channels(image.channels), ..image };
    let channels = model.compositor.drawn_channels(image.channels);
    let patch = match model.decoder.placement {
        Placement::Canvas => Extent { channels, ..component },
        Placement::Glimpse { patch } => Extent::new(patch, patch, channels),
    };
    let coordinates = if model.decoder.coordinates { 2 } else { 0 };
    let latent = Extent::vector(model.latent.dimensions().saturating_add(coordinates));
    let stack = match &model.decoder.trunk {
        DecoderTrunk::Dense { hidden, .. } => Walk::over(latent).dense(hidden).dense(&[numbers(patch)]).size,
        DecoderTrunk::Convolutional { hidden, base, layers, kernel, stride, .. } => {
            let strides = layers.iter().map(|layer| layer.stride.max(1)).chain([(*stride).max(1)]);
            let up = strides.fold(1, usize::saturating_mul);
            let small = Extent::new(patch.height.div_ceil(up), patch.width.div_ceil(up), *base);
            let mut walk = Walk::over(latent).dense(hidden).dense(&[numbers(small)]);
            walk.extent = small;
            let up = |layer: &ConvolutionConfig| ConvolutionConfig { up: true, ..*layer };
            let pixels = ConvolutionConfig::up(patch.channels, *kernel, *stride);
            let layers: Vec<_> = layers.iter().map(up).chain([pixels]).collect();
            walk.convolutions(&layers).size
        }
    };
    let colours = match model.compositor.is_uniform() {
        true => Walk::over(latent).dense(&[image.channels]).size,
        false => Size::default(),
    };
    let drawn = Size { activations: numbers(component), ..Size::default() };
    stack.and(colours).and(drawn).times(model.entities)
}

/// From components to the image.
pub(super) fn compositor(model: &ModelConfig, image: Extent) -> Size {
    let features = match model.compositor {
        CompositorConfig::Union | CompositorConfig::Sum | CompositorConfig::Max => return Size::default(),
        CompositorConfig::Mixture { background, .. } => {
            let colour = if background == Background::Learned { image.channels } else { 0 };
            let ground = if background == Background::Lines { numbers(image) } else { 0 };
            return Size { parameters: colour, arranged: colour, activations: numbers(image).saturating_add(ground) };
        }
        CompositorConfig::Render { features } => features,
    };
    let layers = [features, image.channels].map(|channels| ConvolutionConfig::new(channels, 3, 1));
    Walk::over(Extent { channels: features, ..image }).convolutions(&layers).size
}

fn numbers(extent: Extent) -> usize {
    extent.height.saturating_mul(extent.width).saturating_mul(extent.channels)
}

/// A walk through a sequence of layers.
struct Walk {
    extent: Extent,
    size: Size,
}

impl Walk {
    fn over(extent: Extent) -> Self {
        Self { extent, size: Size { activations: numbers(extent), ..Size::default() } }
    }

    fn dense(self, widths: &[usize]) -> Self {
        widths.iter().fold(self, |walk, &width| {
            let weight = numbers(walk.extent).saturating_mul(width);
            walk.to(Extent::vector(width), [weight; 2], width)
        })
    }

    fn convolutions(self, layers: &[ConvolutionConfig]) -> Self {
        layers.iter().fold(self, |walk, layer| {
            let ConvolutionConfig { channels, kernel, stride, up } = *layer;
            let (stride, from) = (stride.max(1), walk.extent);
            let resized = |side: usize| if up { side.saturating_mul(stride) } else { side.div_ceil(stride) };
            let to = Extent::new(resized(from.height), resized(from.width), channels);
            let taps = kernel.div_ceil(stride);
            let weights = [kernel, taps.saturating_mul(stride)]
                .map(|side| side.saturating_mul(side).saturating_mul(from.channels).saturating_mul(channels));
            // The larger image is laid out in cells of stride × stride pixels, with a border as wide as the kernel.
            let (large, small) = if up { (to, from) } else { (from, to) };
            let bordered = |side: usize| side.saturating_add(taps).saturating_mul(stride);
            let cells = Extent::new(bordered(small.height), bordered(small.width), large.channels);
            walk.to(to, weights, numbers(to).saturating_add(numbers(cells)))
        })
    }

    /// A layer with a weight of so many numbers, as it is and as it is arranged, and a bias.
    fn to(self, extent: Extent, weights: [usize; 2], activations: usize) -> Self {
        let [parameters, arranged] = weights.map(|weight| weight.saturating_add(extent.channels));
        let layer = Size { parameters, arranged, activations };
        Self { extent, size: self.size.and(layer) }
    }
}
