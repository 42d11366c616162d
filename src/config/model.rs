//! What a model consists of. Closed sets are enums that own their parameters, so that a combination that makes no sense
//! (an autoencoder with β, a glimpse without a patch) cannot be written.

use super::validate::MOST_ENTITIES;
use crate::layers::{Activation, Extent};
use crate::train::Schedule;
use serde::{Deserialize, Serialize};

/// Every choice of the model; see the crate's front page for the figure these are the parts of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Image → candidate posteriors.
    pub encoder: EncoderConfig,
    /// What an entity is described by.
    pub latent: Latent,
    /// Which candidates are kept.
    pub selector: SelectorConfig,
    /// K, the entities kept. Also a choice at run time: one set of weights serves every K.
    pub entities: usize,
    /// Latent → component.
    pub decoder: DecoderConfig,
    /// Components → one image.
    pub compositor: CompositorConfig,
    /// p(x|z).
    pub likelihood: Likelihood,
}

/// The encoder's trunk and how many posteriors it ends in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EncoderConfig {
    /// Fully connected layers and one posterior for the whole image.
    Dense {
        /// Widths of the hidden layers.
        #[serde(default)]
        hidden: Vec<usize>,
        /// What follows each.
        #[serde(default = "relu")]
        activation: Activation,
    },
    /// Strided convolutions; the product of the strides (the transposed ones' divided out) is the side of a cell in pixels.
    Convolutional {
        /// From the image downwards.
        #[serde(default = "default_convolutions")]
        layers: Vec<ConvolutionConfig>,
        /// What follows each.
        #[serde(default = "relu")]
        activation: Activation,
        /// One posterior per cell, or one for the whole image.
        #[serde(default)]
        posteriors: Posteriors,
        /// Appends two channels with each pixel's y and x in [−1, 1] to the image, so that a posterior can say where it is.
        #[serde(default)]
        coordinates: bool,
    },
}

/// How many posteriors the encoder's head makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Posteriors {
    /// N = cells of the last feature map.
    #[default]
    PerCell,
    /// N = 1.
    Whole,
}

/// One (transposed) convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvolutionConfig {
    /// Channels out.
    pub channels: usize,
    /// Kernel side.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Transposed: the map grows by the stride instead of shrinking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub up: bool,
}

impl ConvolutionConfig {
    /// A convolution (not transposed).
    pub const fn new(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { channels, kernel, stride, up: false }
    }

    /// A transposed convolution.
    pub const fn up(channels: usize, kernel: usize, stride: usize) -> Self {
        Self { channels, kernel, stride, up: true }
    }
}

/// The latent variable of one entity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Latent {
    /// Deterministic: no noise, no KL. The autoencoder.
    Point {
        /// D.
        #[serde(default = "sixteen")]
        dimensions: usize,
        /// Applied to the code.
        #[serde(default = "identity")]
        activation: Activation,
    },
    /// q(z|x) = N(μ, diag σ²) against the prior N(0, I).
    Gaussian {
        /// D.
        #[serde(default = "sixteen")]
        dimensions: usize,
        /// Factor of the KL in the loss: 1 is the VAE, more the β-VAE.
        #[serde(default = "one")]
        beta: Schedule,
    },
}

impl Latent {
    /// D, the numbers that describe one entity.
    pub fn dimensions(&self) -> usize {
        match self {
            Self::Point { dimensions, .. } | Self::Gaussian { dimensions, .. } => *dimensions,
        }
    }
}

/// Which K of the N candidates are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectorConfig {
    /// What the candidates are ranked by.
    pub rank_by: Rank,
    /// Suppression radius in cells: candidates within it of a kept one (in the larger of the two directions) cannot be kept too.
    /// 0 is plain top-K. Rounded to a whole number where it is scheduled.
    pub radius: Schedule,
    /// How much of what it draws, or of what the other draws if that is less, a candidate may have in common with a better one that is
    /// kept: with more it is taken for another one of the same object, and is kept only if what is drawn to be compared
    /// ([`drawn`](Self::drawn)) has too few others. Its neighbours stay suppressed by it. 1: nobody asks, and nothing is drawn.
    #[serde(default = "any")]
    pub overlap: Schedule,
    /// Part of training, from its beginning, in which brightness ranks the candidates before `rank_by` does; 0 for none.
    #[serde(default)]
    pub warm_start: f64,
}

fn any() -> Schedule {
    1.0.into()
}

impl SelectorConfig {
    /// Whether what candidates would draw may ever be compared.
    pub fn compares_drawings(&self) -> bool {
        self.overlap != Schedule::Constant(1.0)
    }

    /// How many of the candidates are drawn where drawings are compared, to keep so many entities: twice as many, while a byte can count
    /// them.
    pub fn drawn(entities: usize, candidates: usize) -> usize {
        entities.saturating_mul(2).min(MOST_ENTITIES).min(candidates)
    }
}

/// The score of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rank {
    /// KL(q(z_n|x) ‖ p(z)): the network keeps the most information where the objects are (Nash et al. 2017).
    Kl,
    /// Mean intensity of the cell: a control that knows nothing of the posterior.
    Brightness,
    /// Noise: the control that knows nothing at all.
    Random,
}

impl Rank {
    /// All of them, for tests.
    pub const ALL: [Self; 3] = [Self::Kl, Self::Brightness, Self::Random];
}

/// The decoder that all entities share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// Where its output goes.
    pub placement: Placement,
    /// How it is made.
    pub trunk: DecoderTrunk,
    /// Appends the y and x of the entity's cell in [−1, 1] to z.
    pub coordinates: bool,
}

/// What a component covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Placement {
    /// The whole image: position must live in z (paper-style).
    Canvas,
    /// A square patch centred on the entity's cell: translation comes free.
    Glimpse {
        /// P, the patch's side in pixels.
        #[serde(default = "default_patch")]
        patch: usize,
    },
}

/// The decoder's layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DecoderTrunk {
    /// z → hidden layers → all pixels.
    Dense {
        /// Widths of the hidden layers.
        #[serde(default = "default_hidden")]
        hidden: Vec<usize>,
        /// What follows each.
        #[serde(default = "relu")]
        activation: Activation,
    },
    /// z → hidden layers → a small feature map → transposed convolutions → pixels (cut to size).
    Convolutional {
        /// Widths of the dense layers before the feature map.
        #[serde(default = "default_hidden")]
        hidden: Vec<usize>,
        /// Channels of the small feature map; its side follows from the strides.
        #[serde(default = "default_base")]
        base: usize,
        /// Transposed convolutions upwards.
        #[serde(default)]
        layers: Vec<ConvolutionConfig>,
        /// Kernel of the last transposed convolution, which makes the pixels.
        #[serde(default = "four")]
        kernel: usize,
        /// Its stride.
        #[serde(default = "two")]
        stride: usize,
        /// What follows each layer but the last.
        #[serde(default = "relu")]
        activation: Activation,
    },
}

/// How components become one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CompositorConfig {
    /// Probabilistic union, 1 − Π(1 − p_k): ink is where any entity puts ink.
    Union,
    /// Sum of logits: evidence adds up.
    Sum,
    /// Largest logit.
    Max,
    /// Each pixel's distribution is a mixture of the entities' colours and a background, weighted by a softmax of masks.
    Mixture {
        /// Where the background's colour comes from.
        #[serde(default)]
        background: Background,
        /// How many colours an entity has.
        #[serde(default)]
        colours: Colours,
    },
    /// Feature maps are summed and rendered by a convolution network (paper-style).
    Render {
        /// Feature channels of a component.
        #[serde(default = "sixteen")]
        features: usize,
    },
}

impl CompositorConfig {
    /// One of each kind, for tests.
    pub const ALL: [Self; 8] = [
        Self::Union,
        Self::Sum,
        Self::Max,
        Self::Mixture { background: Background::Learned, colours: Colours::PerPixel },
        Self::Mixture { background: Background::Median, colours: Colours::PerPixel },
        Self::Mixture { background: Background::Median, colours: Colours::Uniform },
        Self::Mixture { background: Background::Lines, colours: Colours::Uniform },
        Self::Render { features: 4 },
    ];

    /// Channels that each component must have for images of `channels` channels.
    pub fn component_channels(&self, channels: usize) -> usize {
        match self {
            Self::Union | Self::Sum | Self::Max => channels,
            Self::Mixture { .. } => channels + 1, // colour and mask
            Self::Render { features } => *features,
        }
    }

    /// Channels of them that the decoder's trunk draws: where an entity is of one colour, its mask alone.
    pub fn drawn_channels(&self, channels: usize) -> usize {
        if self.is_uniform() { 1 } else { self.component_channels(channels) }
    }

    /// Whether an entity is of one colour.
    pub fn is_uniform(&self) -> bool {
        matches!(self, Self::Mixture { colours: Colours::Uniform, .. })
    }
}

/// The colour behind the entities of a mixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// One for all images, a parameter of the model.
    #[default]
    Learned,
    /// Each image's own: the median of its pixels, channel by channel. To say which of 256 levels it is costs log 256 nats a channel.
    Median,
    /// Each pixel's own: the brighter of the medians of its row and of its column, for grounds of stripes or of a grid. What is no ground
    /// must be less than half of a row, and of a column; so must lines that cross it. To say the medians costs (H + W) log 256 nats a channel.
    Lines,
}

/// The colours of an entity in a mixture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colours {
    /// One for each pixel, drawn by the decoder beside the mask.
    #[default]
    PerPixel,
    /// One, its logits linear in the latent; the decoder draws the mask alone. For objects that are of one colour: what an entity covers
    /// is told apart from how it looks from the first step on.
    Uniform,
}

/// p(x|z) given the composed logits l.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Likelihood {
    /// Bernoulli(sigmoid(l)). On grey-scale images this is the usual cross-entropy, a bound on nothing; on binarised ones a
    /// probability.
    Bernoulli,
    /// N(sigmoid(l), σ²) with a fixed deviation.
    Gaussian {
        /// σ, on the scale of pixels in [0, 1].
        #[serde(default = "tenth")]
        deviation: f64,
    },
}

/// Product of the strides of those layers that are transposed, or of those that are not.
pub(super) fn strides(layers: &[ConvolutionConfig], up: bool) -> usize {
    layers.iter().filter(|l| l.up == up).map(|l| l.stride).fold(1, usize::saturating_mul).max(1)
}

fn relu() -> Activation {
    Activation::Relu
}
fn identity() -> Activation {
    Activation::Identity
}
fn one() -> Schedule {
    1.0.into()
}
fn tenth() -> f64 {
    0.1
}
fn two() -> usize {
    2
}
fn four() -> usize {
    4
}
fn sixteen() -> usize {
    16
}
fn default_base() -> usize {
    32
}
fn default_patch() -> usize {
    32
}
fn default_hidden() -> Vec<usize> {
    vec![256]
}
fn default_convolutions() -> Vec<ConvolutionConfig> {
    [(32, 4, 2), (32, 4, 2), (64, 4, 2)]
        .map(|(channels, kernel, stride)| ConvolutionConfig::new(channels, kernel, stride))
        .to_vec()
}

impl ModelConfig {
    /// Cells of the encoder's grid over an image, (rows, columns).
    pub fn grid(&self, image: Extent) -> (usize, usize) {
        match &self.encoder {
            EncoderConfig::Convolutional { layers, posteriors: Posteriors::PerCell, .. } => {
                let resize = |side: usize, layer: &ConvolutionConfig| match layer.up {
                    true => side.saturating_mul(layer.stride),
                    false => side.div_ceil(layer.stride.max(1)),
                };
                let cells = |side: usize| layers.iter().fold(side, resize);
                (cells(image.height), cells(image.width))
            }
            _ => (1, 1),
        }
    }

    /// Whether the same weights make a model of images of any size: where nothing is said of the image as a whole.
    pub fn fits_any_size(&self) -> bool {
        let per_cell = matches!(
            self.encoder,
            EncoderConfig::Convolutional { posteriors: Posteriors::PerCell, coordinates: false, .. }
        );
        per_cell && matches!(self.decoder.placement, Placement::Glimpse { .. }) && !self.decoder.coordinates
    }

    /// Pixels that a cell is high and wide. The last cells reach beyond an image whose size is not a multiple of it.
    pub fn cell(&self, image: Extent) -> (usize, usize) {
        let (rows, columns) = self.grid(image);
        match &self.encoder {
            EncoderConfig::Convolutional { layers, posteriors: Posteriors::PerCell, .. } => {
                let side = (strides(layers, false) / strides(layers, true)).max(1);
                (side, side)
            }
            _ => (image.height.div_ceil(rows), image.width.div_ceil(columns)),
        }
    }
}
