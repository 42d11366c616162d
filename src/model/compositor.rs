//! Components → one image. Whatever the rule, what leaves is one logit per pixel and channel, finite for finite components.

use super::decoder::{Components, compose_drawn};
use crate::config::CompositorConfig;
use crate::layers::{Activation, Extent, LayerSpec, Rule, Stack};
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
        /// Logit of the background's colour, (C).
        background: Tensor,
    },
    /// l = network(Σ f_k).
    Render {
        /// From summed features to logits.
        network: Stack,
    },
}

impl Compositor {
    /// Where the logits of fresh components should start, so that an image of K of them is not saturated from the outset: around
    /// 0, but for the sum, which counts from the logit of nothing.
    pub fn initial_logit(config: &CompositorConfig, entities: usize) -> f64 {
        match config {
            CompositorConfig::Sum => NOTHING * (1.0 - 1.0 / entities.max(1) as f64),
            _ => 0.0,
        }
    }

    /// For images of the given extent.
    pub fn new(config: &CompositorConfig, image: Extent, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(match *config {
            CompositorConfig::Union => Self::Union,
            CompositorConfig::Sum => Self::Sum,
            CompositorConfig::Max => Self::Max,
            CompositorConfig::Mixture => {
                let background = vb.get_with_hints(image.channels, "background", Init::Const(-2.0))?;
                Self::Mixture { background }
            }
            CompositorConfig::Render { features } => {
                let layer = |channels| LayerSpec::Convolution { channels, kernel: 3, stride: 1 };
                let layers = [(layer(features), Activation::Relu), (layer(image.channels), Activation::Identity)];
                Self::Render { network: Stack::new(Extent { channels: features, ..image }, &layers, vb)? }
            }
        })
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
            Self::Mixture { .. } | Self::Render { .. } => self.compose_drawn(&components.drawn()?),
        }
    }

    /// Drawn components (B, K, H, W, C') → logits (B, H, W, C).
    pub fn compose_drawn(&self, components: &Tensor) -> Result<Tensor> {
        let by = |rule| compose_drawn(components, rule, self.nothing());
        match self {
            Self::Union => by(Rule::Union),
            Self::Sum => by(Rule::Sum),
            Self::Max => by(Rule::Max),
            Self::Mixture { background } => mix(components, background),
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
                candle_nn::ops::sigmoid(&alone)?.max(D::Minus1)?.reshape((b, k, h, w))
            }
        }
    }

    /// The components with those entities taken out whose `present` (B, K) is 0.
    pub fn keep(&self, components: &Tensor, present: &Tensor) -> Result<Tensor> {
        let (b, k) = present.dims2()?;
        let present = present.to_dtype(components.dtype())?.reshape((b, k, 1, 1, 1))?;
        let nothing = self.nothing();
        (components - nothing)?.broadcast_mul(&present)? + nothing
    }
}

/// log(1 + eˣ) on candle's operations; through `relu`, whose gradient at 0 makes this one's the right ½.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// Logarithm of a sum of exponentials over dimension 1, which stays with length 1.
pub(super) fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    let largest = x.max_keepdim(1)?.detach();
    x.broadcast_sub(&largest)?.exp()?.sum_keepdim(1)?.log()? + largest
}

/// log w of the background (first, mask logit 0) and the K entities: (B, K+1, H, W, 1).
fn log_weights(components: &Tensor) -> Result<Tensor> {
    let masks = components.narrow(D::Minus1, components.dim(D::Minus1)? - 1, 1)?;
    let masks = Tensor::cat(&[masks.narrow(1, 0, 1)?.zeros_like()?, masks], 1)?;
    masks.broadcast_sub(&log_sum_exp(&masks)?)
}

/// log p − log(1 − p) of the mixture, both as log-sum-exps over background and entities.
fn mix(components: &Tensor, background: &Tensor) -> Result<Tensor> {
    let (b, _, h, w, channels) = components.dims5()?;
    let colours = components.narrow(D::Minus1, 0, channels - 1)?;
    let background = background.reshape((1, 1, 1, 1, channels - 1))?.broadcast_as((b, 1, h, w, channels - 1))?;
    let colours = Tensor::cat(&[background.contiguous()?, colours.contiguous()?], 1)?;
    let weights = log_weights(components)?;
    let ink = log_sum_exp(&weights.broadcast_sub(&softplus(&colours.neg()?)?)?)?;
    let no_ink = log_sum_exp(&weights.broadcast_sub(&softplus(&colours)?)?)?;
    (ink - no_ink)?.squeeze(1)
}
