//! The three linear maps a layer can be made of: for each the forward product and its two gradients.
//!
//! Each works on a few images at a time on the calling thread; [`stack`](super::stack) decides which images and which thread.
//! Weights keep their natural layout; they are brought into [`Panels`] once per pass for the products.

use super::product::{Panels, Windows};
use super::real::Real;
use super::scratch::Scratch;
use super::window::{KernelLayout, Window, copy};
use super::winograd::Winograd;
use super::{Extent, LayerError};

/// A linear map from one image to another, without bias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Linear {
    /// y = x W, weight (inputs, outputs).
    Dense { inputs: usize, outputs: usize },
    /// Strided convolution, weight (k, k, channels in, channels out); 3×3 with stride 1 has a way of its own.
    Convolution { window: Window, winograd: Option<Winograd> },
    /// Strided transposed convolution, weight (channels in, k, k, channels out).
    Upconvolution { window: Window },
}

/// A weight arranged for the products of one pass: several matrices where the products are several.
pub(super) type Prepared<'a, T> = Vec<Panels<'a, T>>;

impl Linear {
    pub fn convolution(input: Extent, channels: usize, kernel: usize, stride: usize) -> Result<Self, LayerError> {
        let window = Window::new(input, channels, kernel, stride)?;
        Ok(Self::Convolution { window, winograd: Winograd::new(input, channels, kernel, stride) })
    }

    pub fn upconvolution(input: Extent, channels: usize, kernel: usize, stride: usize) -> Result<Self, LayerError> {
        let large = Extent::new(input.height * stride, input.width * stride, channels);
        let window = Window::new(large, input.channels, kernel, stride)?;
        Ok(Self::Upconvolution { window })
    }

    pub fn output(&self) -> Extent {
        match self {
            Self::Dense { outputs, .. } => Extent::vector(*outputs),
            Self::Convolution { window, .. } => window.small,
            Self::Upconvolution { window } => window.large,
        }
    }

    /// Numbers in one input image.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Dense { inputs, .. } => *inputs,
            Self::Convolution { window, .. } => window.large.len(),
            Self::Upconvolution { window } => window.small.len(),
        }
    }

    /// Inputs and outputs of a dense layer.
    pub fn dense_sizes(&self) -> Option<(usize, usize)> {
        match self {
            Self::Dense { inputs, outputs } => Some((*inputs, *outputs)),
            _ => None,
        }
    }

    /// Shape of the weight, and how many inputs feed one output (its fan-in).
    pub fn weight_shape(&self) -> (Vec<usize>, usize) {
        match self {
            Self::Dense { inputs, outputs } => (vec![*inputs, *outputs], *inputs),
            Self::Convolution { window, .. } => {
                let (k, i, o) = (window.kernel, window.large.channels, window.small.channels);
                (vec![k, k, i, o], k * k * i)
            }
            Self::Upconvolution { window } => {
                let (k, i, o) = (window.kernel, window.small.channels, window.large.channels);
                // An output pixel sees on average (k/s)² taps.
                (vec![i, k, k, o], (k * k * i / (window.stride * window.stride)).max(1))
            }
        }
    }

    /// Numbers in the weight.
    pub fn weight_len(&self) -> usize {
        self.weight_shape().0.iter().product()
    }

    /// Where the stored weight keeps the number of a tap and two channels.
    fn layout(&self) -> KernelLayout {
        match self {
            Self::Dense { .. } => KernelLayout { tap: 0, large: 0, small: 0 },
            Self::Convolution { window: w, .. } => {
                KernelLayout { tap: w.large.channels * w.small.channels, large: w.small.channels, small: 1 }
            }
            Self::Upconvolution { window: w } => {
                KernelLayout { tap: w.large.channels, large: 1, small: w.kernel * w.kernel * w.large.channels }
            }
        }
    }

    /// The weight arranged for [`forward`](Self::forward).
    pub fn prepare<'a, T: Real>(&self, weight: &'a [T]) -> Prepared<'a, T> {
        match self {
            Self::Dense { outputs, .. } => vec![Panels::rows(weight, *outputs, 1)],
            Self::Convolution { winograd: Some(winograd), .. } => winograd.prepare(weight),
            Self::Convolution { window, .. } => vec![window.down_panels(weight, self.layout())],
            Self::Upconvolution { window } => window.up_panels(weight, self.layout()),
        }
    }

    /// The weight arranged for [`backward`](Self::backward).
    pub fn prepare_transposed<'a, T: Real>(&self, weight: &'a [T]) -> Prepared<'a, T> {
        match self {
            Self::Dense { outputs, .. } => vec![Panels::transposed(weight, *outputs)],
            Self::Convolution { winograd: Some(winograd), .. } => winograd.prepare_transposed(weight),
            Self::Convolution { window, .. } => window.up_panels(weight, self.layout()),
            Self::Upconvolution { window } => vec![window.down_panels(weight, self.layout())],
        }
    }

    /// `y` = linear map of the images in `x`.
    pub fn forward<T: Real>(&self, weight: &Prepared<'_, T>, x: &[T], y: &mut [T]) {
        match self {
            Self::Dense { inputs, outputs } => dense(weight, x, *inputs, y, *outputs),
            Self::Convolution { winograd: Some(winograd), .. } => winograd.forward(weight, x, y),
            Self::Convolution { window, .. } => pass_down(window, weight, x, y),
            Self::Upconvolution { window } => pass_up(window, weight, x, y),
        }
    }

    /// Both gradients, given the one with respect to the output: writes `dx`, if wanted, and returns the weight's in the products'
    /// arrangement. Nothing of a dense layer's weight: that is formed over the whole batch at once.
    pub fn backward<T: Real>(&self, weight: &Prepared<'_, T>, x: &[T], dz: &[T], mut dx: Option<&mut [T]>) -> Vec<T> {
        let window = match self {
            Self::Dense { inputs, outputs } => {
                if let Some(dx) = dx {
                    dense(weight, dz, *outputs, dx, *inputs);
                }
                return Vec::new();
            }
            Self::Convolution { winograd: Some(winograd), .. } => return winograd.backward(weight, x, dz, dx),
            Self::Convolution { window, .. } | Self::Upconvolution { window } => window,
        };
        let mut gradient = vec![T::zero(); window.kernel_len()];
        let mut cells = Scratch::zeros(window.cells_len());
        let (inputs, outputs) = (self.inputs(), self.output().len());
        for (i, (x, dz)) in x.chunks_exact(inputs).zip(dz.chunks_exact(outputs)).enumerate() {
            let dx = dx.as_deref_mut().map(|dx| &mut dx[i * inputs..(i + 1) * inputs]);
            match self {
                Self::Upconvolution { .. } => {
                    window.gather(dz, &mut cells);
                    window.weight_gradient(&cells, x, &mut gradient);
                    if let Some(dx) = dx {
                        window.down(&cells, &weight[0], dx);
                    }
                }
                _ => {
                    window.gather(x, &mut cells);
                    window.weight_gradient(&cells, dz, &mut gradient);
                    if let Some(dx) = dx {
                        pass_up(window, weight, dz, dx);
                    }
                }
            }
        }
        gradient
    }

    /// Brings such a gradient into the weight's own layout.
    pub fn store_gradient<T: Real>(&self, gradient: &[T], weight_gradient: &mut [T]) {
        match self {
            Self::Dense { .. } => (),
            Self::Convolution { winograd: Some(_), .. } => weight_gradient.copy_from_slice(gradient),
            Self::Convolution { window, .. } | Self::Upconvolution { window } => {
                window.unpack_gradient(gradient, weight_gradient, self.layout());
            }
        }
    }
}

/// A dense layer's inputs, a row for each image.
fn dense<T: Real>(weight: &Prepared<'_, T>, x: &[T], inputs: usize, y: &mut [T], outputs: usize) {
    let starts: Vec<usize> = (0..x.len()).step_by(inputs).collect();
    let rows = Windows { data: x, starts: &starts, runs: &[0], length: inputs };
    for panels in weight {
        rows.multiply(panels, |row, first, values| {
            copy(&mut y[row * outputs + first..][..values.len()], values);
        });
    }
}

/// Large images to small ones.
fn pass_down<T: Real>(window: &Window, kernel: &Prepared<'_, T>, large: &[T], small: &mut [T]) {
    let mut cells = Scratch::zeros(window.cells_len());
    for (large, small) in large.chunks_exact(window.large.len()).zip(small.chunks_exact_mut(window.small.len())) {
        window.gather(large, &mut cells);
        window.down(&cells, &kernel[0], small);
    }
}

/// Small images to large ones.
fn pass_up<T: Real>(window: &Window, kernel: &Prepared<'_, T>, small: &[T], large: &mut [T]) {
    let mut bordered = Scratch::zeros(window.bordered_len());
    for (small, large) in small.chunks_exact(window.small.len()).zip(large.chunks_exact_mut(window.large.len())) {
        window.embed(small, &mut bordered);
        window.up(&bordered, kernel, large);
    }
}
