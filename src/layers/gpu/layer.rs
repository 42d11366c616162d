//! One layer of a stack, forward and backward. With X the layer's input as a matrix, W its weight as it is stored,
//! and columns(·) the windows of an image as rows:
//!
//! | | forward | ∂W | ∂X |
//! |---|---|---|---|
//! | dense | X W | Xᵀ Z | Z Wᵀ |
//! | convolution | columns(X) W | columns(X)ᵀ Z | image(Z Wᵀ) |
//! | transposed convolution | image(X W) | Xᵀ columns(Z) | columns(Z) Wᵀ |
//!
//! Z is the gradient before the activation. image(·) is the transpose of columns(·): what reaches a pixel, added up. Columns are
//! formed anew for the backward pass; to keep them would take k² times the memory of the images. With stride 1 and an odd kernel,
//! where what reaches a pixel is a window of the gradient, columns(Z) do for both gradients, and nothing has to be added up.
//!
//! With stride 1 and channels that come in fours there is a kernel that convolves without columns (`convolve.cu`).

use super::machine::{Launch, Machine, Operand};
use crate::layers::activation::Activation;
use crate::layers::linear::Linear;
use crate::layers::window::Window;
use candle_core::Result;

/// A layer and where its parameters lie.
pub struct Placed<'a, M> {
    pub linear: &'a Linear,
    pub activation: Activation,
    pub weight: Operand<'a, M>,
    pub bias: Operand<'a, M>,
}

/// Gradients of a layer's weight, bias and, if it is wanted, input.
pub struct Gradients<M> {
    pub weight: M,
    pub bias: M,
    pub input: Option<M>,
}

impl Activation {
    /// As in `kernel.h`.
    fn code(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Relu => 1,
            Self::Sigmoid => 2,
            Self::Tanh => 3,
        }
    }
}

impl Window {
    /// Numbers of one window.
    fn column(&self) -> usize {
        self.kernel * self.kernel * self.large.channels
    }

    /// Windows of one image.
    fn windows(&self) -> usize {
        self.small.height * self.small.width
    }

    /// Whether an image is its windows as it lies there.
    fn is_identity(&self) -> bool {
        self.kernel == 1 && self.stride == 1
    }

    /// Whether as many windows reach a pixel as pixels lie in a window, and in the same places.
    fn is_symmetric(&self) -> bool {
        self.stride == 1 && self.kernel % 2 == 1
    }

    fn geometry(&self, channels: usize) -> [usize; 8] {
        let (large, small) = (self.large, self.small);
        [large.height, large.width, channels, small.height, small.width, self.kernel, self.stride, self.padding]
    }

    /// Large images → columns.
    fn columns<M: Machine>(&self, images: usize, large: Operand<'_, M>) -> Result<M> {
        self.columns_of(images, large, self.large.channels)
    }

    /// The same of images with another number of channels.
    fn columns_of<M: Machine>(&self, images: usize, large: Operand<'_, M>, channels: usize) -> Result<M> {
        // Loads of four numbers at once must lie where such loads may.
        let at_once = if channels.is_multiple_of(4) && large.offset.is_multiple_of(4) { 4 } else { 1 };
        let sizes = [&self.geometry(channels)[..], &[at_once]].concat();
        let outputs = images * self.windows() * self.kernel * self.kernel * channels;
        Launch::new("columns_of", outputs, &sizes)?.at_once(at_once)?.on(&[large])
    }

    /// The convolution of images with `inputs` channels by a kernel of (taps, inputs, outputs), with bias and activation if there are;
    /// nothing where the kernels for it do not fit.
    fn convolved<M: Machine>(
        &self,
        images: usize,
        large: Operand<'_, M>,
        (weight, inputs, outputs): (Operand<'_, M>, usize, usize),
        biased: Option<(Operand<'_, M>, Activation)>,
    ) -> Result<Option<M>> {
        /// Rows from which on larger tiles still are enough for all of a GPU.
        const MANY_ROWS: usize = 1 << 16;
        let fours = |numbers: usize| numbers.is_multiple_of(4);
        let aligned = fours(inputs) && fours(outputs) && fours(large.offset) && fours(weight.offset);
        if self.stride != 1 || !aligned || M::rounds_products() {
            return Ok(None);
        }
        let rows = images * self.windows();
        let padded = |tile: usize| outputs.next_multiple_of(tile);
        let (kernel, height, width) = match (rows >= MANY_ROWS, padded(48) <= padded(32)) {
            (true, true) => ("convolve_256x48", 256, 48),
            (true, false) => ("convolve_256x32", 256, 32),
            (false, true) => ("convolve_64x48", 64, 48),
            (false, false) => ("convolve_64x32", 64, 32),
        };
        let (sides, activation) = (self.large, biased.map_or(0, |(_, activation)| activation.code()));
        let sizes = [
            rows,
            sides.height,
            sides.width,
            inputs,
            outputs,
            self.kernel,
            self.padding,
            usize::from(biased.is_some()),
            activation,
        ];
        let launch =
            Launch::new(kernel, rows * outputs, &sizes)?.in_blocks(rows.div_ceil(height) * outputs.div_ceil(width))?;
        let bias = biased.map_or(weight, |(bias, _)| bias);
        launch.on(&[large, weight, bias]).map(Some)
    }

    /// Gradients of the weight and the images of a symmetric window, from the images, the weight and the small images' gradient. What
    /// reaches a pixel are the windows around it: the gradient's columns do for both.
    fn symmetric_gradients<M: Machine>(
        &self,
        images: usize,
        [large, weight, dz]: [Operand<'_, M>; 3],
        want_large: bool,
    ) -> Result<(M, Option<M>)> {
        let (inputs, outputs) = (self.large.channels, self.small.channels);
        let (taps, rows) = (self.kernel * self.kernel, images * self.windows());
        let sizes = [taps, inputs, outputs];
        let columns = self.columns_of(images, dz, outputs)?;
        let columns = || Operand::whole(&columns, rows * taps * outputs).matrix(rows, taps * outputs);
        let unflipped = large.matrix(rows, inputs).transposed()?.times(&columns())?;
        let unflipped = Operand::whole(&unflipped, weight.len);
        let of_weight = Launch::new("unflipped", weight.len, &sizes)?.on(&[unflipped])?;
        let of_large = || {
            let flipped = Launch::new("flipped", weight.len, &sizes)?.on(&[weight])?;
            let flipped = Operand::whole(&flipped, weight.len);
            match self.convolved(images, dz, (flipped, outputs, inputs), None)? {
                Some(convolved) => Ok(convolved),
                None => columns().times(&flipped.matrix(taps * outputs, inputs)),
            }
        };
        Ok((of_weight, want_large.then(of_large).transpose()?))
    }

    /// Columns → large images, with bias and activation if there are.
    fn image<M: Machine>(
        &self,
        images: usize,
        columns: Operand<'_, M>,
        biased: Option<(Operand<'_, M>, Activation)>,
    ) -> Result<M> {
        let activation = biased.map_or(0, |(_, activation)| activation.code());
        let sizes = [&self.geometry(self.large.channels)[..], &[usize::from(biased.is_some()), activation]].concat();
        let launch = Launch::new("image_of", images * self.large.len(), &sizes)?;
        match biased {
            Some((bias, _)) => launch.on(&[columns, bias]),
            None => launch.on(&[columns]),
        }
    }
}

/// Sums of the columns of a matrix, in two steps.
fn column_sums<M: Machine>(matrix: Operand<'_, M>, columns: usize) -> Result<M> {
    /// Rows that a block adds up at least, and most partial sums.
    const ROWS: usize = 128;
    const SPLITS: usize = 128;
    let rows = matrix.len / columns;
    let sums = |numbers: Operand<'_, M>, rows: usize, splits: usize| {
        let launch = Launch::new("column_sums", splits * columns, &[rows, columns, splits])?;
        launch.in_blocks(splits * columns.div_ceil(32))?.on(&[numbers])
    };
    match (rows / ROWS).clamp(1, SPLITS) {
        1 => sums(matrix, rows, 1),
        splits => sums(Operand::whole(&sums(matrix, rows, splits)?, splits * columns), splits, 1),
    }
}

impl<M: Machine> Placed<'_, M> {
    /// Images x → outputs.
    pub fn forward(&self, images: usize, x: Operand<'_, M>) -> Result<M> {
        let Self { linear, activation, weight, bias } = self;
        let output = linear.output();
        let biased = |z: M| {
            let sizes = [output.channels, activation.code()];
            let len = images * output.len();
            Launch::new("bias_activation", len, &sizes)?.on(&[Operand::whole(&z, len), *bias])
        };
        match linear {
            Linear::Dense { inputs, outputs } => {
                biased(x.matrix(images, *inputs).times(&weight.matrix(*inputs, *outputs))?)
            }
            Linear::Convolution { window, .. } => {
                let kernel = (*weight, window.large.channels, output.channels);
                if let Some(y) = window.convolved(images, x, kernel, Some((*bias, *activation)))? {
                    return Ok(y);
                }
                let (rows, weight) = (images * window.windows(), weight.matrix(window.column(), output.channels));
                biased(if window.is_identity() {
                    x.matrix(rows, window.column()).times(&weight)?
                } else {
                    let columns = window.columns(images, x)?;
                    Operand::whole(&columns, rows * window.column()).matrix(rows, window.column()).times(&weight)?
                })
            }
            Linear::Upconvolution { window } => {
                let (rows, channels) = (images * window.windows(), window.small.channels);
                let columns = x.matrix(rows, channels).times(&weight.matrix(channels, window.column()))?;
                window.image(images, Operand::whole(&columns, rows * window.column()), Some((*bias, *activation)))
            }
        }
    }

    /// From inputs x, outputs y and the outputs' gradient.
    pub fn backward(
        &self,
        images: usize,
        x: Operand<'_, M>,
        y: Operand<'_, M>,
        dy: Operand<'_, M>,
        want_input: bool,
    ) -> Result<Gradients<M>> {
        let Self { linear, activation, weight, .. } = self;
        let own;
        let dz = match activation {
            Activation::Identity => dy,
            _ => {
                own = Launch::new("activation_gradient", dy.len, &[activation.code()])?.on(&[dy, y])?;
                Operand::whole(&own, dy.len)
            }
        };
        let bias = column_sums(dz, linear.output().channels)?;
        if let Linear::Convolution { window, .. } = linear
            && window.is_symmetric()
            && !window.is_identity()
        {
            let (weight, input) = window.symmetric_gradients(images, [x, *weight, dz], want_input)?;
            return Ok(Gradients { weight, bias, input });
        }
        // The two matrices whose product the forward pass was, and the gradient of that product, as a matrix of `rows`.
        let columns;
        let (rows, inner, outer, left, dz) = match linear {
            Linear::Dense { inputs, outputs } => (images, *inputs, *outputs, x, dz),
            Linear::Convolution { window, .. } => {
                let (rows, inner) = (images * window.windows(), window.column());
                let left = if window.is_identity() {
                    x
                } else {
                    columns = window.columns(images, x)?;
                    Operand::whole(&columns, rows * inner)
                };
                (rows, inner, window.small.channels, left, dz)
            }
            Linear::Upconvolution { window } => {
                let (rows, outer) = (images * window.windows(), window.column());
                columns = window.columns(images, dz)?;
                (rows, window.small.channels, outer, x, Operand::whole(&columns, rows * outer))
            }
        };
        let dz = || dz.matrix(rows, outer);
        let of_input = || {
            let product = dz().times(&weight.matrix(inner, outer).transposed()?)?;
            match linear {
                Linear::Convolution { window, .. } if !window.is_identity() => {
                    window.image(images, Operand::whole(&product, rows * inner), None)
                }
                _ => Ok(product),
            }
        };
        Ok(Gradients {
            weight: left.matrix(rows, inner).transposed()?.times(&dz())?,
            bias,
            input: want_input.then(of_input).transpose()?,
        })
    }
}
