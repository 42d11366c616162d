//! The layers of a [`Stack`] on candle's own operations: the oracle in tests, and the path of devices and number types without
//! our kernels.

use super::linear::Linear;
use super::stack::Stack;
use super::window::Window;
use candle_core::{Result, Tensor};

impl Stack {
    /// What [`forward`](candle_core::Module::forward) computes, with candle's operations and candle's gradients.
    pub fn reference(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        let batch = x.dim(0)?;
        for layer in self.layers() {
            let y = match &layer.linear {
                Linear::Dense { inputs, .. } => x.reshape((batch, *inputs))?.matmul(&layer.weight)?,
                Linear::Convolution { window, .. } => convolution(window, &x, &layer.weight)?,
                Linear::Upconvolution { window } => upconvolution(window, &x, &layer.weight)?,
            };
            x = layer.activation.apply(&y.broadcast_add(&layer.bias)?)?;
        }
        let out = self.output();
        x.reshape((batch, out.height, out.width, out.channels))
    }
}

/// (B, H, W, C) → (B, oh, ow, c); candle wants channels first and the same padding on both sides, so the image is padded here.
fn convolution(window: &Window, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let Window { large, small, kernel, stride, .. } = *window;
    let x = x.reshape(((), large.height, large.width, large.channels))?.permute((0, 3, 1, 2))?;
    let x = fit(&x, 2, window.padding, (small.height - 1) * stride + kernel)?;
    let x = fit(&x, 3, window.padding, (small.width - 1) * stride + kernel)?;
    let y = x.contiguous()?.conv2d(&weight.permute((3, 2, 0, 1))?.contiguous()?, 0, stride, 1, 1)?;
    y.permute((0, 2, 3, 1))?.contiguous()
}

/// Pads one dimension with zeros in front, then pads or cuts its end to exactly the pixels that the outputs see: candle's
/// backward pass gets the shape wrong where a remainder is left on one side only.
fn fit(x: &Tensor, dim: usize, before: usize, side: usize) -> Result<Tensor> {
    let after = side.saturating_sub(before + x.dim(dim)?);
    x.pad_with_zeros(dim, before, after)?.narrow(dim, 0, side)
}

/// (B, h, w, c) → (B, h·s, w·s, C): the full transposed convolution, cut to the large image.
fn upconvolution(window: &Window, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let Window { large, small, kernel, stride, .. } = *window;
    let x = x.reshape(((), small.height, small.width, small.channels))?.permute((0, 3, 1, 2))?.contiguous()?;
    let y = x.conv_transpose2d(&weight.permute((0, 3, 1, 2))?.contiguous()?, 0, 0, stride, 1)?;
    // Taps that a kernel smaller than its stride lacks leave the last rows without a value: zeros.
    let missing = stride.saturating_sub(kernel);
    let y = y.pad_with_zeros(2, 0, missing)?.pad_with_zeros(3, 0, missing)?;
    let y = y.narrow(2, window.padding, large.height)?.narrow(3, window.padding, large.width)?;
    y.permute((0, 2, 3, 1))?.contiguous()
}
