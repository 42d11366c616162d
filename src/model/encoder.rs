//! Image → a grid of candidate posteriors.

use super::posterior::Posterior;
use crate::config::{EncoderConfig, Latent, ModelConfig, Posteriors};
use crate::layers::{Activation, Deposit, Extent, LayerSpec, Stack};
use candle_core::{Module, Result, Tensor};
use candle_nn::VarBuilder;

/// Trunk and head: q(z_n|x) for each of the N cells of a grid, or one for the whole image (N = 1).
#[derive(Clone, Debug)]
pub struct Encoder {
    stack: Stack,
    coordinates: bool,
    latent: Latent,
}

impl Encoder {
    /// For images of the given extent.
    pub fn new(config: &ModelConfig, image: Extent, vb: VarBuilder<'_>) -> Result<Self> {
        let numbers = match &config.latent {
            Latent::Point { dimensions, .. } => *dimensions,
            Latent::Gaussian { dimensions, .. } => 2 * dimensions,
        };
        let per_cell = LayerSpec::Convolution { channels: numbers, kernel: 1, stride: 1 };
        let (trunk, activation, head, coordinates) = match &config.encoder {
            EncoderConfig::Dense { hidden, activation } => {
                let trunk: Vec<_> = hidden.iter().map(|width| LayerSpec::Dense(*width)).collect();
                (trunk, *activation, LayerSpec::Dense(numbers), false)
            }
            EncoderConfig::Convolutional { layers, activation, posteriors, coordinates } => {
                let trunk = layers.iter().map(|&c| c.into()).collect();
                let head = match posteriors {
                    Posteriors::PerCell => per_cell,
                    Posteriors::Whole => LayerSpec::Dense(numbers),
                };
                (trunk, *activation, head, *coordinates)
            }
        };
        let mut specs: Vec<_> = trunk.into_iter().map(|layer| (layer, activation)).collect();
        specs.push((head, Activation::Identity));
        let channels = image.channels + if coordinates { 2 } else { 0 };
        let stack = Stack::new(Extent { channels, ..image }, &specs, vb)?;
        Ok(Self { stack, coordinates, latent: config.latent.clone() })
    }

    /// The same with weights that no training changes any more.
    pub(super) fn at_rest(&self) -> Result<Self> {
        Ok(Self { stack: self.stack.at_rest()?, ..self.clone() })
    }

    /// See [`Stack::on_deposit`].
    pub(super) fn on_deposit(&self, deposit: &Deposit) -> Self {
        Self { stack: self.stack.on_deposit(deposit), ..self.clone() }
    }

    /// (B, H, W, C) → the candidates (B, N, D).
    pub fn candidates(&self, images: &Tensor) -> Result<Posterior> {
        let images = if self.coordinates { with_coordinates(images)? } else { images.clone() };
        let map = self.stack.forward(&images)?; // (B, rows, columns, D or 2D)
        let (b, rows, columns, numbers) = map.dims4()?;
        Posterior::new(map.reshape((b, rows * columns, numbers))?, &self.latent)
    }
}

/// Appends each pixel's y and x in [−1, 1] as channels.
fn with_coordinates(images: &Tensor) -> Result<Tensor> {
    let (b, h, w, _) = images.dims4()?;
    let axis = |n: usize| (0..n).map(move |i| centred(i, n));
    let grid: Vec<f32> = axis(h).flat_map(|y| axis(w).flat_map(move |x| [y, x])).collect();
    let grid = Tensor::from_vec(grid, (1, h, w, 2), images.device())?.to_dtype(images.dtype())?;
    Tensor::cat(&[images, &grid.broadcast_as((b, h, w, 2))?.contiguous()?], 3)
}

/// The centre of interval `i` of `n` that divide [−1, 1].
pub(super) fn centred(i: usize, n: usize) -> f32 {
    (2 * i + 1) as f32 / n as f32 - 1.0
}
