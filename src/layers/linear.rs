//! The three linear maps a layer can be made of: for each the forward product and its two gradients.
//!
//! Each works on a few images at a time on the calling thread; [`stack`](super::stack) decides which images and which thread.
//! Weights keep their natural layout; [`Linear::prepare`] rearranges them once per pass for the products.

use super::matmul::{Matrix, Store, multiply};
use super::real::Real;
use super::window::Window;
use super::{Extent, LayerError};

/// A linear map from one image to another, without bias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Linear {
    /// y = x W, weight (inputs, outputs).
    Dense { inputs: usize, outputs: usize },
    /// Strided convolution, weight (k, k, channels in, channels out).
    Convolution { window: Window },
    /// Strided transposed convolution, weight (channels in, k, k, channels out).
    Upconvolution { window: Window },
}

/// Weights arranged for the products of one pass.
pub(super) struct Prepared<T> {
    forward: Vec<T>,
    /// Empty when no input gradient is wanted.
    backward: Vec<T>,
}

impl Linear {
    pub fn convolution(input: Extent, channels: usize, kernel: usize, stride: usize) -> Result<Self, LayerError> {
        let window = Window::new(input, channels, kernel, stride)?;
        Ok(Self::Convolution { window })
    }

    pub fn upconvolution(input: Extent, channels: usize, kernel: usize, stride: usize) -> Result<Self, LayerError> {
        let large = Extent::new(input.height * stride, input.width * stride, channels);
        let window = Window::new(large, input.channels, kernel, stride)?;
        Ok(Self::Upconvolution { window })
    }

    pub fn output(&self) -> Extent {
        match self {
            Self::Dense { outputs, .. } => Extent::vector(*outputs),
            Self::Convolution { window } => window.small,
            Self::Upconvolution { window } => window.large,
        }
    }

    /// Numbers in one input image.
    pub fn inputs(&self) -> usize {
        match self {
            Self::Dense { inputs, .. } => *inputs,
            Self::Convolution { window } => window.large.len(),
            Self::Upconvolution { window } => window.small.len(),
        }
    }

    /// Shape of the weight, and how many inputs feed one output (its fan-in).
    pub fn weight_shape(&self) -> (Vec<usize>, usize) {
        match self {
            Self::Dense { inputs, outputs } => (vec![*inputs, *outputs], *inputs),
            Self::Convolution { window } => {
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

    /// Where weight (tap, large channel, small channel) stands in the stored tensor.
    fn index(&self) -> impl Fn(usize, usize, usize) -> usize + use<> {
        let (upward, taps, large, small) = match self {
            Self::Dense { .. } => (false, 1, 1, 1),
            Self::Convolution { window: w } => (false, w.kernel * w.kernel, w.large.channels, w.small.channels),
            Self::Upconvolution { window: w } => (true, w.kernel * w.kernel, w.large.channels, w.small.channels),
        };
        move |tap, l, s| if upward { (s * taps + tap) * large + l } else { (tap * large + l) * small + s }
    }

    /// Rearranges the weight for a pass; the input gradient's arrangement only when it is asked for.
    pub fn prepare<T: Real>(&self, weight: &[T], with_input_gradient: bool) -> Prepared<T> {
        let index = self.index();
        let read = |tap, l, s| weight[index(tap, l, s)];
        let (down, up): (Vec<T>, Vec<T>) = match self {
            Self::Dense { .. } => return Prepared { forward: weight.to_vec(), backward: Vec::new() },
            Self::Convolution { window } => {
                let up = if with_input_gradient { window.up_kernel(read) } else { Vec::new() };
                (window.down_kernel(read), up)
            }
            Self::Upconvolution { window } => {
                let down = if with_input_gradient { window.down_kernel(read) } else { Vec::new() };
                return Prepared { forward: window.up_kernel(read), backward: down };
            }
        };
        Prepared { forward: down, backward: up }
    }

    /// `y` = linear map of the images in `x`.
    pub fn forward<T: Real>(&self, weight: &Prepared<T>, x: &[T], y: &mut [T]) {
        match self {
            Self::Dense { inputs, outputs } => {
                let rows = x.len() / inputs;
                let weight = Matrix::new(&weight.forward, *inputs, *outputs);
                multiply(y, Matrix::new(x, rows, *inputs), weight, Store::Replace);
            }
            Self::Convolution { window } => pass_down(window, &weight.forward, x, y),
            Self::Upconvolution { window } => pass_up(window, &weight.forward, x, y),
        }
    }

    /// `dx` = gradient with respect to the input, given `dz` with respect to the output.
    pub fn input_gradient<T: Real>(&self, weight: &Prepared<T>, dz: &[T], dx: &mut [T]) {
        match self {
            Self::Dense { inputs, outputs } => {
                let rows = dz.len() / outputs;
                let weight = Matrix::new(&weight.forward, *inputs, *outputs);
                multiply(dx, Matrix::new(dz, rows, *outputs), weight.t(), Store::Replace);
            }
            Self::Convolution { window } => pass_up(window, &weight.backward, dz, dx),
            Self::Upconvolution { window } => pass_down(window, &weight.backward, dz, dx),
        }
    }

    /// Length of the accumulator that [`weight_gradient`](Self::weight_gradient) adds to.
    pub fn gradient_len(&self) -> usize {
        match self {
            Self::Dense { .. } => self.weight_len(),
            Self::Convolution { window } | Self::Upconvolution { window } => window.kernel_len(),
        }
    }

    /// Adds the weight's gradient, in the products' arrangement, to `gradient`.
    pub fn weight_gradient<T: Real>(&self, x: &[T], dz: &[T], gradient: &mut [T]) {
        let (window, large, small) = match self {
            Self::Dense { inputs, outputs } => {
                let rows = x.len() / inputs;
                let dz = Matrix::new(dz, rows, *outputs);
                return multiply(gradient, Matrix::new(x, rows, *inputs).t(), dz, Store::Add);
            }
            Self::Convolution { window } => (window, x, dz),
            Self::Upconvolution { window } => (window, dz, x),
        };
        let step = window.images_at_once();
        let (mut cells, mut outputs) = (window.cell_buffer(step), window.output_buffer(step));
        let tiles = large.chunks(step * window.large.len());
        for (large, small) in tiles.zip(small.chunks(step * window.small.len())) {
            window.gather_cells(large, &mut cells);
            window.embed(small, &mut outputs);
            window.weight_gradient(large.len() / window.large.len(), &cells, &outputs, gradient);
        }
    }

    /// Brings an accumulated gradient into the weight's own layout.
    pub fn store_gradient<T: Real>(&self, gradient: &[T], weight_gradient: &mut [T]) {
        match self {
            Self::Dense { .. } => weight_gradient.copy_from_slice(gradient),
            Self::Convolution { window } | Self::Upconvolution { window } => {
                let index = self.index();
                window.unpack_gradient(gradient, |tap, l, s, value| weight_gradient[index(tap, l, s)] = value);
            }
        }
    }
}

/// Large images to small ones.
fn pass_down<T: Real>(window: &Window, kernel: &[T], large: &[T], small: &mut [T]) {
    let step = window.images_at_once();
    let (mut cells, mut outputs) = (window.cell_buffer(step), window.output_buffer(step));
    let tiles = large.chunks(step * window.large.len());
    for (large, small) in tiles.zip(small.chunks_mut(step * window.small.len())) {
        window.gather_cells(large, &mut cells);
        window.down(large.len() / window.large.len(), &cells, kernel, &mut outputs);
        window.extract(&outputs, small);
    }
}

/// Small images to large ones.
fn pass_up<T: Real>(window: &Window, kernel: &[T], small: &[T], large: &mut [T]) {
    let step = window.images_at_once();
    let (mut cells, mut outputs) = (window.cell_buffer(step), window.output_buffer(step));
    let tiles = small.chunks(step * window.small.len());
    for (small, large) in tiles.zip(large.chunks_mut(step * window.large.len())) {
        window.embed(small, &mut outputs);
        window.up(small.len() / window.small.len(), &outputs, kernel, &mut cells);
        window.scatter_cells(&cells, large);
    }
}
