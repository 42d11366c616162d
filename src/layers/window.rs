//! The geometry of a strided convolution, arranged so that it is matrix products over sliding windows.
//!
//! A convolution with a k×k kernel and stride s over an image (H, W, C), channels last, is rewritten in three steps:
//!
//! 1. **Cells.** The zero-padded image is cut into s×s cells, each cell one pixel of s·s·C channels. The convolution is now
//!    one of stride 1 with a kernel of t×t cells, t = ⌈k/s⌉ (missing taps are zeros).
//! 2. **Windows.** Cells are stored row after row, so t neighbouring cells of one row are one contiguous run, and the runs of
//!    consecutive positions are a matrix whose rows overlap: nothing is copied to form patches.
//! 3. **Products.** The output is the sum over the t kernel rows of (windows of that row) × (weights of that row).
//!
//! Positions are numbered r = y·pitch + x, the same in the cells and in the output, with pitch = output width + t − 1: the
//! last t − 1 positions of a row and of an image are no outputs. They are skipped when results are read and zero
//! when gradients are written, which makes one layout serve all three products:
//!
//! | product | reads | gives |
//! |---|---|---|
//! | [`Window::down`] | cells | outputs: a convolution forward, a transposed convolution's input gradient |
//! | [`Window::up`] | outputs | cells: a transposed convolution forward, a convolution's input gradient |
//! | [`Window::weight_gradient`] | cells, outputs | the kernel's gradient, for both |

use super::matmul::{Matrix, Store, multiply};
use super::real::Real;
use super::{Extent, LayerError};

/// How a large image (H, W, C) and a small one (oh, ow, `channels`) are tied together by a k×k kernel with stride s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The large side: a convolution's input, a transposed convolution's output.
    pub large: Extent,
    /// The small side: a convolution's output, a transposed convolution's input.
    pub small: Extent,
    /// Kernel side in pixels of the large image.
    pub kernel: usize,
    /// Pixels of the large image from one output to the next.
    pub stride: usize,
    /// Zeros above and to the left of the large image.
    pub padding: usize,
    /// Kernel side in cells, ⌈k/s⌉.
    taps: usize,
}

impl Window {
    /// "Same" geometry: the small side is ⌈large/stride⌉; of the padding that this takes, the smaller half comes first.
    pub fn new(large: Extent, channels: usize, kernel: usize, stride: usize) -> Result<Self, LayerError> {
        if kernel == 0 || stride == 0 || channels == 0 || large.len() == 0 {
            return Err(LayerError::Empty { large, channels, kernel, stride });
        }
        let small = Extent { height: large.height.div_ceil(stride), width: large.width.div_ceil(stride), channels };
        let padding = kernel.saturating_sub(stride) / 2;
        Ok(Self { large, small, kernel, stride, padding, taps: kernel.div_ceil(stride) })
    }

    /// Elements of one cell.
    fn cell(&self) -> usize {
        self.stride * self.stride * self.large.channels
    }

    /// Positions from one row to the next.
    fn pitch(&self) -> usize {
        self.small.width + self.taps - 1
    }

    /// Positions of one image.
    fn positions(&self) -> usize {
        (self.small.height + self.taps - 1) * self.pitch()
    }

    /// Positions by which a window can reach beyond the last (or, going up, before the first) one.
    fn reach(&self) -> usize {
        (self.taps - 1) * (self.pitch() + 1)
    }

    /// Positions up to the last output of the last image: what follows it is border.
    fn span(&self, images: usize) -> usize {
        images * self.positions() - self.reach()
    }

    /// How many images to treat at once: enough rows for an efficient product, few enough to stay in cache.
    pub fn images_at_once(&self) -> usize {
        256_usize.div_ceil(self.positions())
    }

    /// An all-zero buffer for the cells of `images` images.
    pub fn cell_buffer<T: Real>(&self, images: usize) -> Vec<T> {
        vec![T::zero(); (images * self.positions() + self.reach()) * self.cell()]
    }

    /// An all-zero buffer for the outputs of `images` images.
    pub fn output_buffer<T: Real>(&self, images: usize) -> Vec<T> {
        vec![T::zero(); (images * self.positions() + self.reach()) * self.small.channels]
    }

    /// Visits every run of the large image that lies in one cell: `(offset in the image, offset in the cells, length)`.
    #[inline(always)]
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let (s, p, c) = (self.stride, self.padding, self.large.channels);
        let columns = self.pitch();
        for y in 0..self.large.height {
            let (cell_y, inner_y) = ((y + p) / s, (y + p) % s);
            for cell_x in 0..columns {
                // Pixels of this cell are x = cell_x·s − p … + s, clipped to the image.
                let first = (cell_x * s).saturating_sub(p);
                let last = (cell_x * s + s).saturating_sub(p).min(self.large.width);
                if first >= last {
                    continue;
                }
                let inner_x = first + p - cell_x * s;
                let image = (y * self.large.width + first) * c;
                let cell = (cell_y * columns + cell_x) * self.cell() + (inner_y * s + inner_x) * c;
                visit(image, cell, (last - first) * c);
            }
        }
    }

    /// Copies images (n, H, W, C) into cells whose borders are already zero.
    pub fn gather_cells<T: Real>(&self, images: &[T], cells: &mut [T]) {
        let per_image = self.positions() * self.cell();
        for (image, cells) in images.chunks_exact(self.large.len()).zip(cells.chunks_mut(per_image)) {
            self.runs(|i, c, n| copy(&mut cells[c..c + n], &image[i..i + n]));
        }
    }

    /// Copies cells back into images (n, H, W, C); every pixel lies in exactly one cell.
    pub fn scatter_cells<T: Real>(&self, cells: &[T], images: &mut [T]) {
        let per_image = self.positions() * self.cell();
        for (image, cells) in images.chunks_exact_mut(self.large.len()).zip(cells.chunks(per_image)) {
            self.runs(|i, c, n| copy(&mut image[i..i + n], &cells[c..c + n]));
        }
    }

    /// Visits every row of the small image: `(offset in the image, offset among the positions)`, in elements.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let (row, pitch) = (self.small.width * self.small.channels, self.pitch() * self.small.channels);
        (0..self.small.height).map(move |y| (y * row, y * pitch))
    }

    /// Copies outputs out of position order into small images (n, oh, ow, c).
    pub fn extract<T: Real>(&self, outputs: &[T], images: &mut [T]) {
        let (row, per_image) = (self.small.width * self.small.channels, self.positions() * self.small.channels);
        for (image, outputs) in images.chunks_exact_mut(self.small.len()).zip(outputs.chunks(per_image)) {
            for (i, o) in self.rows() {
                image[i..i + row].copy_from_slice(&outputs[o..o + row]);
            }
        }
    }

    /// Copies small images (n, oh, ow, c) into a zeroed [`output_buffer`](Self::output_buffer), behind its leading reach.
    pub fn embed<T: Real>(&self, images: &[T], outputs: &mut [T]) {
        let (row, per_image) = (self.small.width * self.small.channels, self.positions() * self.small.channels);
        let outputs = &mut outputs[self.reach() * self.small.channels..];
        for (image, outputs) in images.chunks_exact(self.small.len()).zip(outputs.chunks_mut(per_image)) {
            for (i, o) in self.rows() {
                outputs[o..o + row].copy_from_slice(&image[i..i + row]);
            }
        }
    }

    /// `outputs` = cells ⋆ kernel, for every position; `kernel` from [`down_kernel`](Self::down_kernel).
    pub fn down<T: Real>(&self, images: usize, cells: &[T], kernel: &[T], outputs: &mut [T]) {
        let (width, channels) = (self.taps * self.cell(), self.small.channels);
        let rows = self.span(images);
        for (a, store) in kernel_rows(self.taps) {
            let windows = Matrix::strided(&cells[a * self.pitch() * self.cell()..], rows, width, self.cell());
            let weights = Matrix::new(&kernel[a * width * channels..], width, channels);
            multiply(outputs, windows, weights, store);
        }
    }

    /// `cells` = outputs ⋆ᵀ kernel; `outputs` from [`embed`](Self::embed), `kernel` from [`up_kernel`](Self::up_kernel).
    pub fn up<T: Real>(&self, images: usize, outputs: &[T], kernel: &[T], cells: &mut [T]) {
        let (width, cell) = (self.taps * self.small.channels, self.cell());
        let rows = images * self.positions();
        for (a, store) in kernel_rows(self.taps) {
            // Position r is reached from the outputs r − a·pitch − b, b = taps − 1 … 0: one contiguous run.
            let start = (self.taps - 1 - a) * self.pitch() * self.small.channels;
            let windows = Matrix::strided(&outputs[start..], rows, width, self.small.channels);
            multiply(cells, windows, Matrix::new(&kernel[a * width * cell..], width, cell), store);
        }
    }

    /// `gradient` += cellsᵀ · outputs for every tap, in the layout of [`down_kernel`](Self::down_kernel).
    pub fn weight_gradient<T: Real>(&self, images: usize, cells: &[T], outputs: &[T], gradient: &mut [T]) {
        let (width, channels) = (self.taps * self.cell(), self.small.channels);
        let rows = self.span(images);
        let outputs = Matrix::new(&outputs[self.reach() * channels..], rows, channels);
        for a in 0..self.taps {
            let windows = Matrix::strided(&cells[a * self.pitch() * self.cell()..], rows, width, self.cell());
            multiply(&mut gradient[a * width * channels..], windows.t(), outputs, Store::Add);
        }
    }

    /// Elements of a kernel arranged in cells.
    pub fn kernel_len(&self) -> usize {
        self.taps * self.taps * self.cell() * self.small.channels
    }

    /// Offsets of tap (ky, kx): in the stored kernel (k, k, …) and in the one arranged in cells, counted in units of C.
    fn kernel_taps(&self) -> impl Iterator<Item = (usize, usize)> {
        let (k, s, t) = (self.kernel, self.stride, self.taps);
        (0..k * k).map(move |tap| {
            let (ky, kx) = (tap / k, tap % k);
            (tap, ((ky / s * t + kx / s) * s + ky % s) * s + kx % s)
        })
    }

    /// Kernel for [`down`](Self::down): `read(tap, large channel, small channel)` arranged as (t·t cells, s·s·C, c).
    pub fn down_kernel<T: Real>(&self, read: impl Fn(usize, usize, usize) -> T) -> Vec<T> {
        let (large, small) = (self.large.channels, self.small.channels);
        let mut kernel = vec![T::zero(); self.kernel_len()];
        for (tap, cell) in self.kernel_taps() {
            for i in 0..large {
                for o in 0..small {
                    kernel[(cell * large + i) * small + o] = read(tap, i, o);
                }
            }
        }
        kernel
    }

    /// Kernel for [`up`](Self::up): by kernel row, the columns mirrored, (t, t·c, s·s·C).
    pub fn up_kernel<T: Real>(&self, read: impl Fn(usize, usize, usize) -> T) -> Vec<T> {
        let (k, s, t) = (self.kernel, self.stride, self.taps);
        let (large, small) = (self.large.channels, self.small.channels);
        let mut kernel = vec![T::zero(); self.kernel_len()];
        for tap in 0..k * k {
            let (ky, kx) = (tap / k, tap % k);
            let window = ky / s * t + (t - 1 - kx / s);
            let inner = (ky % s * s + kx % s) * large;
            for o in 0..small {
                for i in 0..large {
                    kernel[(window * small + o) * self.cell() + inner + i] = read(tap, i, o);
                }
            }
        }
        kernel
    }

    /// Hands the gradient of a kernel arranged in cells back tap by tap: `write(tap, large channel, small channel, value)`.
    pub fn unpack_gradient<T: Real>(&self, gradient: &[T], mut write: impl FnMut(usize, usize, usize, T)) {
        let (large, small) = (self.large.channels, self.small.channels);
        for (tap, cell) in self.kernel_taps() {
            for i in 0..large {
                for o in 0..small {
                    write(tap, i, o, gradient[(cell * large + i) * small + o]);
                }
            }
        }
    }
}

/// The kernel's rows, the first of which replaces what was there.
fn kernel_rows(taps: usize) -> impl Iterator<Item = (usize, Store)> {
    (0..taps).map(|a| (a, if a == 0 { Store::Replace } else { Store::Add }))
}

/// Copies a short run: a plain loop, because a call of `memcpy` costs more than a handful of numbers.
#[inline(always)]
fn copy<T: Real>(to: &mut [T], from: &[T]) {
    if to.len() >= 32 {
        to.copy_from_slice(from);
    } else {
        for (t, f) in to.iter_mut().zip(from) {
            *t = *f;
        }
    }
}
