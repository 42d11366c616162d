//! A layer of a stack: one node of the graph, of input, weight and bias. With X the layer's input as a matrix, W its weight as it is stored,
//! and columns(·) the windows of an image as rows:
//!
//! | | forward | ∂W | ∂X |
//! |---|---|---|---|
//! | dense | X W | Xᵀ Z | Z Wᵀ |
//! | convolution | columns(X) W | columns(X)ᵀ Z | image(Z Wᵀ) |
//! | transposed convolution | image(X W) | Xᵀ columns(Z) | columns(Z) Wᵀ |
//!
//! Z is the gradient before the activation. image(·) is the transpose of columns(·): what reaches a pixel, added up. Columns are
//! formed anew for the backward pass; to keep them would take k² times the memory of the images.

use super::machine::{Launch, Machine, Operand};
use super::node::{Operation, apply};
use crate::layers::activation::Activation;
use crate::layers::linear::Linear;
use crate::layers::stack::Layer;
use crate::layers::window::Window;
use candle_core::{Result, Shape, Tensor};
use std::sync::Arc;

/// The layers one after the other.
pub fn forward(layers: &Arc<Vec<Layer>>, x: &Tensor) -> Result<Tensor> {
    (0..layers.len()).try_fold(x.clone(), |x, index| {
        let Layer { weight, bias, .. } = &layers[index];
        apply(OneLayer { layers: Arc::clone(layers), index }, &[&x, weight, bias])
    })
}

struct OneLayer {
    layers: Arc<Vec<Layer>>,
    index: usize,
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

    fn geometry(&self) -> [usize; 8] {
        let (large, small) = (self.large, self.small);
        let sides = [large.height, large.width, large.channels, small.height, small.width];
        let [a, b, c, d, e] = sides;
        [a, b, c, d, e, self.kernel, self.stride, self.padding]
    }

    /// Large images → columns.
    fn columns<M: Machine>(&self, images: usize, large: Operand<'_, M>) -> Result<M> {
        // Loads of four numbers at once must lie where such loads may.
        let at_once = if self.large.channels.is_multiple_of(4) && large.offset.is_multiple_of(4) { 4 } else { 1 };
        let sizes = [&self.geometry()[..], &[at_once]].concat();
        Launch::new("columns_of", images * self.windows() * self.column(), &sizes)?.at_once(at_once)?.on(&[large])
    }

    /// Columns → large images, with bias and activation if there are.
    fn image<M: Machine>(
        &self,
        images: usize,
        columns: Operand<'_, M>,
        biased: Option<(Operand<'_, M>, Activation)>,
    ) -> Result<M> {
        let activation = biased.map_or(0, |(_, activation)| activation.code());
        let sizes = [&self.geometry()[..], &[usize::from(biased.is_some()), activation]].concat();
        let launch = Launch::new("image_of", images * self.large.len(), &sizes)?;
        match biased {
            Some((bias, _)) => launch.on(&[columns, bias]),
            None => launch.on(&[columns]),
        }
    }
}

/// Sums of the columns of a matrix: folded again and again, a thread adding up so many numbers at a time.
fn column_sums<M: Machine>(matrix: Operand<'_, M>, columns: usize) -> Result<M> {
    const AT_ONCE: usize = 64;
    let fold = |numbers: Operand<'_, M>| {
        let width = (numbers.len / columns).div_ceil(AT_ONCE) * columns;
        Ok::<_, candle_core::Error>((Launch::new("fold", width, &[numbers.len, width])?.on(&[numbers])?, width))
    };
    let (mut sums, mut len) = fold(matrix)?;
    while len > columns {
        (sums, len) = fold(Operand::whole(&sums, len))?;
    }
    Ok(sums)
}

impl OneLayer {
    fn layer(&self) -> &Layer {
        &self.layers[self.index]
    }
}

impl Operation for OneLayer {
    const NAME: &'static str = "layer";

    fn forward<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<(M, Shape)> {
        let (Layer { linear, activation, .. }, [x, weight, bias]) = (self.layer(), three(inputs)?);
        let (images, output) = (x.len / linear.inputs(), linear.output());
        let biased = |z: M| {
            let sizes = [output.channels, activation.code()];
            let len = images * output.len();
            Launch::new("bias_activation", len, &sizes)?.on(&[Operand::whole(&z, len), bias])
        };
        let y = match linear {
            Linear::Dense { inputs, outputs } => {
                biased(x.matrix(images, *inputs).times(&weight.matrix(*inputs, *outputs))?)?
            }
            Linear::Convolution { window, .. } => {
                let (rows, weight) = (images * window.windows(), weight.matrix(window.column(), output.channels));
                let z = if window.is_identity() {
                    x.matrix(rows, window.column()).times(&weight)?
                } else {
                    let columns = window.columns(images, x)?;
                    Operand::whole(&columns, rows * window.column()).matrix(rows, window.column()).times(&weight)?
                };
                biased(z)?
            }
            Linear::Upconvolution { window } => {
                let (rows, channels) = (images * window.windows(), window.small.channels);
                let columns = x.matrix(rows, channels).times(&weight.matrix(channels, window.column()))?;
                window.image(images, Operand::whole(&columns, rows * window.column()), Some((bias, *activation)))?
            }
        };
        Ok((y, (images, output.height, output.width, output.channels).into()))
    }

    fn backward<M: Machine>(
        &self,
        inputs: &[Operand<'_, M>],
        y: Operand<'_, M>,
        dy: Operand<'_, M>,
        wanted: &[bool],
    ) -> Result<Vec<Option<M>>> {
        let (Layer { linear, activation, .. }, [x, weight, _]) = (self.layer(), three(inputs)?);
        let images = x.len / linear.inputs();
        let want = |input: usize| wanted.get(input).copied().unwrap_or(false);
        let own;
        let dz = match activation {
            Activation::Identity => dy,
            _ => {
                own = Launch::new("activation_gradient", dy.len, &[activation.code()])?.on(&[dy, y])?;
                Operand::whole(&own, dy.len)
            }
        };
        let bias = want(2).then(|| column_sums(dz, linear.output().channels)).transpose()?;
        // The two matrices whose product the forward pass was, and the gradient of that product, as a matrix of `rows`.
        let columns;
        let (rows, inner, outer, left, dz) = match linear {
            Linear::Dense { inputs, outputs } => (images, *inputs, *outputs, x, dz),
            Linear::Convolution { window, .. } => {
                let (rows, inner) = (images * window.windows(), window.column());
                let left = if window.is_identity() || !want(1) {
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
        let of_weight = want(1).then(|| left.matrix(rows, inner).transposed()?.times(&dz())).transpose()?;
        let of_input = || {
            let product = dz().times(&weight.matrix(inner, outer).transposed()?)?;
            match linear {
                Linear::Convolution { window, .. } if !window.is_identity() => {
                    window.image(images, Operand::whole(&product, rows * inner), None)
                }
                _ => Ok(product),
            }
        };
        Ok(vec![want(0).then(of_input).transpose()?, of_weight, bias])
    }
}

fn three<'a, M>(inputs: &[Operand<'a, M>]) -> Result<[Operand<'a, M>; 3]> {
    match inputs {
        [x, weight, bias] => Ok([*x, *weight, *bias]),
        _ => candle_core::bail!("a layer has an input, a weight and a bias"),
    }
}
