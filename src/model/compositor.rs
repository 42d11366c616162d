//! Components → one image. Whatever the rule, what leaves is one logit per pixel and channel, finite for finite components.

use super::background::{self, Estimate};
use super::decoder::{Components, compose_drawn, mix_drawn};
use super::importance::repeated;
use crate::config::{Background, CompositorConfig, ModelConfig, Placement};
use crate::layers::{Activation, Deposit, Extent, LayerSpec, Rule, Stack, log_sum_exp, sigmoid};
use candle_core::{D, Module, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// The logit of "no ink here" that surrounds a glimpse: probability 10⁻⁷, which costs 5·10⁻⁴ nats on an empty 64×64 image and
/// leaves a missed stroke finite.
pub const NOTHING: f64 = -16.0;

/// A compositor with its parameters, if it has any.
#[derive(Clone, Debug)]
pub enum Compositor {
    /// logit of 1 − Π(1 − p_k); see [`Rule`] for this and the next two.
    Union,
    /// l = Σ l_k, counted from the logit of nothing: l = ∅ + Σ (l_k − ∅).
    Sum,
    /// l = max l_k.
    Max,
    /// p = Σ_k w_k σ(c_k), w = softmax over the background and the entities' masks.
    Mixture {
        /// What they lie over.
        background: Ground,
    },
    /// l = network(Σ f_k).
    Render {
        /// From summed features to logits.
        network: Stack,
    },
}

/// The background of a mixture, as logits (1 or B, 1 or H, 1 or W, C).
#[derive(Clone, Debug)]
pub enum Ground {
    /// Known: a parameter of the model, or that of certain images.
    Known(Tensor),
    /// To be estimated from images, once it is known [`on`](Compositor::on) which; a middle grey before.
    Unknown(Estimate),
}

impl Ground {
    fn logits(&self) -> Option<&Tensor> {
        match self {
            Self::Known(logits) => Some(logits),
            Self::Unknown(_) => None,
        }
    }
}

impl Compositor {
    /// Where the logits of fresh components should start, so that an image of K of them is not saturated from the outset: at 0, but for
    /// the sum, which counts from the logit of nothing, and for a union of whole images, each of which starts at 1 − 2^(−1/K), so that
    /// together they are ½.
    pub fn initial_logit(config: &ModelConfig) -> f64 {
        let entities = config.entities.max(1) as f64;
        match config.compositor {
            CompositorConfig::Sum => NOTHING * (1.0 - 1.0 / entities),
            CompositorConfig::Union if config.decoder.placement == Placement::Canvas => {
                (std::f64::consts::LN_2 / entities).exp_m1().ln()
            }
            _ => 0.0,
        }
    }

    /// For images of the given extent.
    pub fn new(config: &CompositorConfig, image: Extent, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(match *config {
            CompositorConfig::Union => Self::Union,
            CompositorConfig::Sum => Self::Sum,
            CompositorConfig::Max => Self::Max,
            CompositorConfig::Mixture { background: Background::Learned, .. } => {
                let background = vb.get_with_hints(image.channels, "background", Init::Const(-2.0))?;
                Self::Mixture { background: Ground::Known(background.reshape((1, 1, 1, image.channels))?) }
            }
            CompositorConfig::Mixture { background: Background::Median, .. } => {
                Self::Mixture { background: Ground::Unknown(Estimate::Median) }
            }
            CompositorConfig::Mixture { background: Background::Lines, .. } => {
                Self::Mixture { background: Ground::Unknown(Estimate::Lines) }
            }
            CompositorConfig::Render { features } => {
                let layer = |channels| LayerSpec::Convolution { channels, kernel: 3, stride: 1 };
                let layers = [(layer(features), Activation::Relu), (layer(image.channels), Activation::Identity)];
                Self::Render { network: Stack::new(Extent { channels: features, ..image }, &layers, vb)? }
            }
        })
    }

    /// See [`Stack::on_deposit`].
    pub(super) fn on_deposit(&self, deposit: &Deposit) -> Self {
        match self {
            Self::Render { network } => Self::Render { network: network.on_deposit(deposit) },
            other => other.clone(),
        }
    }

    /// The compositor of these images (B, H, W, C): with their backgrounds, if it takes them from images.
    pub fn on(&self, images: &Tensor) -> Result<Self> {
        match self {
            Self::Mixture { background: Ground::Unknown(kind) } => {
                Ok(Self::Mixture { background: Ground::Known(background::of(images, *kind)?) })
            }
            other => Ok(other.clone()),
        }
    }

    /// The same `times` over for each image.
    pub(super) fn repeated(&self, times: usize) -> Result<Self> {
        self.with_grounds(|logits| repeated(logits, times))
    }

    /// The compositor of image `index` alone.
    pub fn of_image(&self, index: usize) -> Result<Self> {
        self.with_grounds(|logits| logits.narrow(0, index, 1))
    }

    /// The same with others of the backgrounds (B, …), where each of several images has its own.
    fn with_grounds(&self, others: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        match self {
            Self::Mixture { background: Ground::Known(logits) } if logits.dim(0)? > 1 => {
                Ok(Self::Mixture { background: Ground::Known(others(logits)?) })
            }
            other => Ok(other.clone()),
        }
    }

    /// What is seen where no entity is, in each of so many images: (B, H, W, C) in [0, 1]. None where entities do not cover what is
    /// behind them.
    pub fn ground(&self, images: usize, image: Extent) -> Result<Option<Tensor>> {
        match self {
            Self::Mixture { background: Ground::Known(logits) } => {
                let all = logits.detach().broadcast_as((images, image.height, image.width, image.channels))?;
                sigmoid(&all).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Nats that an image's background costs, on top of entities and their places.
    pub fn background_nats(&self, image: Extent) -> f64 {
        match self {
            Self::Mixture { background: Ground::Unknown(kind) } => background::nats(*kind, image),
            _ => 0.0,
        }
    }

    /// Whether the last channel of a component is a mask for the others.
    pub(crate) fn is_masked(&self) -> bool {
        matches!(self, Self::Mixture { .. })
    }

    /// What a component is where it does not reach: the value that leaves the other components as they are.
    pub fn nothing(&self) -> f64 {
        match self {
            Self::Render { .. } => 0.0,
            _ => NOTHING,
        }
    }

    /// Components → logits (B, H, W, C).
    pub fn compose(&self, components: &Components) -> Result<Tensor> {
        match self {
            Self::Union => components.composed(Rule::Union),
            Self::Sum => components.composed(Rule::Sum),
            Self::Max => components.composed(Rule::Max),
            Self::Mixture { background } => components.mixed(background.logits()),
            Self::Render { .. } => self.compose_drawn(&components.drawn()?),
        }
    }

    /// Drawn components (B, K, H, W, C') → logits (B, H, W, C).
    pub fn compose_drawn(&self, components: &Tensor) -> Result<Tensor> {
        let by = |rule| compose_drawn(components, rule, self.nothing());
        match self {
            Self::Union => by(Rule::Union),
            Self::Sum => by(Rule::Sum),
            Self::Max => by(Rule::Max),
            Self::Mixture { background } => mix_drawn(components, background.logits(), self.nothing()),
            Self::Render { network } => network.forward(&components.sum(1)?.contiguous()?),
        }
    }

    /// How strongly each component claims each pixel, in [0, 1]: (B, K, H, W). The weight in a mixture; otherwise the ink that
    /// the component alone would make, in its strongest channel.
    pub fn strengths(&self, components: &Tensor) -> Result<Tensor> {
        let (b, k, h, w, channels) = components.dims5()?;
        match self {
            Self::Mixture { .. } => {
                let weights = log_weights(components)?.exp()?; // (B, K+1, H, W, 1)
                weights.narrow(1, 1, k)?.reshape((b, k, h, w))
            }
            _ => {
                let alone = self.compose_drawn(&components.reshape((b * k, 1, h, w, channels))?)?; // (B·K, H, W, C)
                let alone = if alone.dim(D::Minus1)? == 1 { alone } else { alone.max(D::Minus1)? };
                sigmoid(&alone)?.reshape((b, k, h, w))
            }
        }
    }

    /// What each component (B, K, H, W, C') draws by itself: logits (B, K, H, W, C).
    pub fn alone(&self, components: &Tensor) -> Result<Tensor> {
        let k = components.dim(1)?;
        let each = (0..k).map(|k| self.compose_drawn(&components.narrow(1, k, 1)?.contiguous()?));
        Tensor::stack(&each.collect::<Result<Vec<_>>>()?, 1)
    }

    /// The components with those entities taken out whose `present` (B, K) is 0.
    pub fn keep(&self, components: &Tensor, present: &Tensor) -> Result<Tensor> {
        let (b, k) = present.dims2()?;
        let present = present.to_dtype(components.dtype())?.reshape((b, k, 1, 1, 1))?;
        let nothing = self.nothing();
        (components - nothing)?.broadcast_mul(&present)? + nothing
    }
}

/// log w of the background (first, mask logit 0) and the K entities: (B, K+1, H, W, 1).
fn log_weights(components: &Tensor) -> Result<Tensor> {
    let masks = components.narrow(D::Minus1, components.dim(D::Minus1)? - 1, 1)?;
    let masks = Tensor::cat(&[masks.narrow(1, 0, 1)?.zeros_like()?, masks], 1)?;
    masks.broadcast_sub(&log_sum_exp(&masks)?)
}
