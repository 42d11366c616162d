//! The geometry of a strided convolution, arranged so that it is matrix products over windows that lie in memory as they are.
//!
//! A convolution with a k×k kernel and stride s ties a large image (H, W, C), channels last, to a small one (h, w, c). Three
//! products cover it in both directions:
//!
//! | product | from → to | is |
//! |---|---|---|
//! | [`Window::down`] | large → small | a convolution forward; a transposed convolution's input gradient |
//! | [`Window::up`] | small → large | a transposed convolution forward; a convolution's input gradient |
//! | [`Window::weight_gradient`] | both → kernel | the kernel's gradient, for either |
//!
//! **Down.** The zero-padded large image is cut into s×s *cells*, each one pixel of s·s·C channels. Now the convolution has stride 1
//! and a kernel of t×t cells, t = ⌈k/s⌉ (missing taps are zeros), and the t neighbouring cells of one row are one contiguous run:
//! a window is t runs, and nothing is copied to form it.
//!
//! **Up.** A pixel's place (i, j) within its cell decides which taps reach it: all pixels of one place form a *phase*, a convolution
//! of stride 1 over the zero-bordered small image with a kernel of its own, of t×t or fewer taps. Where C is too small to fill
//! vectors, several phases are computed as one product whose columns are (phase, channel), and where even all phases fill none, those
//! of several cells beside each other: their windows are wider, and what one of the cells does not see is multiplied by zero.

use super::product::{Panels, Windows};
use super::real::Real;
use super::{Extent, LayerError};
use std::ops::Range;

/// Numbers in a vector of the widest instruction set. Another set computes the same, only less evenly spread.
const ONE_VECTOR: usize = 16;

/// How a large image and a small one are tied together by a k×k kernel with stride s.
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
    /// Cells beside each other that are computed together on the way up.
    block: usize,
    /// The windows of cells, one for each pixel of the small image.
    cells: Places,
    phases: Vec<Phase>,
}

/// Where windows lie: see [`Windows`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Places {
    starts: Vec<usize>,
    runs: Vec<usize>,
    length: usize,
}

impl Places {
    fn over<'a, T>(&'a self, data: &'a [T]) -> Windows<'a, T> {
        Windows { data, starts: &self.starts, runs: &self.runs, length: self.length }
    }
}

/// Pixels of the large image that are computed together: a rectangle of places within a block of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    /// Rows and columns of places, counted from the block's corner.
    rows: Range<usize>,
    columns: Range<usize>,
    /// Rows and columns of small pixels that reach a cell of the block; 0 where the kernel is smaller than the stride.
    taps: (usize, usize),
    /// The windows over the bordered small image, one for each block.
    windows: Places,
    /// Where the numbers of each block belong in the large image: one run for each row of places.
    targets: Vec<Target>,
}

/// Columns `column..column + length` of a product belong to the numbers from `pixel` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    column: usize,
    pixel: usize,
    length: usize,
}

/// Where the stored weight keeps the number of (tap, large channel, small channel): strides of the three.
#[derive(Clone, Copy)]
pub(super) struct KernelLayout {
    pub tap: usize,
    pub large: usize,
    pub small: usize,
}

impl Window {
    /// "Same" geometry: the small side is ⌈large/stride⌉; of the padding that this takes, the smaller half comes first.
    pub fn new(large: Extent, channels: usize, kernel: usize, stride: usize) -> Result<Self, LayerError> {
        if kernel == 0 || stride == 0 || channels == 0 || large.len() == 0 {
            return Err(LayerError::Empty { large, channels, kernel, stride });
        }
        let small = Extent { height: large.height.div_ceil(stride), width: large.width.div_ceil(stride), channels };
        let (padding, taps) = (kernel.saturating_sub(stride) / 2, kernel.div_ceil(stride));
        let cells = Places { starts: Vec::new(), runs: Vec::new(), length: 0 };
        let block = (ONE_VECTOR / (stride * stride * large.channels)).clamp(1, small.width);
        let mut window = Self { large, small, kernel, stride, padding, taps, block, cells, phases: Vec::new() };
        window.cells = window.places_of_cells();
        window.phases = window.rectangles().into_iter().map(|(rows, columns)| window.phase(rows, columns)).collect();
        Ok(window)
    }

    /// Numbers of one cell.
    fn cell(&self) -> usize {
        self.stride * self.stride * self.large.channels
    }

    /// Cells from one row to the next: the last t − 1 of a row serve as the right border of this row and the left border of the next.
    fn pitch(&self) -> usize {
        self.small.width + self.taps - 1
    }

    /// Pixels of the bordered small image from one row to the next, likewise; windows of a block reach further to the right.
    fn bordered_pitch(&self) -> usize {
        self.pitch() + self.block - 1
    }

    /// Numbers of a large image in cells.
    pub fn cells_len(&self) -> usize {
        (self.small.height + self.taps - 1) * self.pitch() * self.cell()
    }

    /// Numbers of a small image with its border.
    pub fn bordered_len(&self) -> usize {
        ((self.small.height + 2 * (self.taps - 1)) * self.bordered_pitch() + self.taps - 1) * self.small.channels
    }

    fn places_of_cells(&self) -> Places {
        let (pitch, cell) = (self.pitch(), self.cell());
        let row = |y| (0..self.small.width).map(move |x| (y * pitch + x) * cell);
        Places {
            starts: (0..self.small.height).flat_map(row).collect(),
            runs: (0..self.taps).map(|a| a * pitch * cell).collect(),
            length: self.taps * cell,
        }
    }

    /// The phases' rows and columns of places: each place of a cell alone, a row of them or all together, so that a product has a few
    /// vectors' worth of columns.
    fn rectangles(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let s = self.stride;
        let (rows, columns) = match self.large.channels {
            c if c >= 2 * ONE_VECTOR => (1, 1),
            c if c * s >= 2 * ONE_VECTOR => (1, s),
            _ => (s, s * self.block),
        };
        let starts = (0..s).step_by(rows).flat_map(|i| (0..s).step_by(columns).map(move |j| (i, j)));
        starts.map(|(i, j)| (i..i + rows, j..j + columns)).collect()
    }

    fn phase(&self, rows: Range<usize>, columns: Range<usize>) -> Phase {
        let (s, p, pitch) = (self.stride, self.padding, self.bordered_pitch());
        // Taps a with a·s + i < k.
        let taps = |i: usize| self.kernel.saturating_sub(i).div_ceil(s);
        let taps = (taps(rows.start), taps(columns.start));
        let block = columns.len().div_ceil(s);
        // The columns of places that the large image shows, of the block that begins with cell x.
        let visible = |x: usize| {
            let first = (x * s + columns.start).max(p);
            first..(x * s + columns.end).min(self.large.width + p).max(first)
        };
        let (mut starts, mut targets) = (Vec::new(), Vec::new());
        for (y, x) in (0..self.small.height + self.taps)
            .flat_map(|y| (0..self.small.width + self.taps).step_by(block).map(move |x| (y, x)))
        {
            let columns_shown = visible(x);
            let target = |(i, row): (usize, usize)| {
                let y = (y * s + row).checked_sub(p).filter(|y| *y < self.large.height)?;
                (!columns_shown.is_empty()).then(|| Target {
                    column: (i * columns.len() + columns_shown.start - x * s - columns.start) * self.large.channels,
                    pixel: (y * self.large.width + columns_shown.start - p) * self.large.channels,
                    length: columns_shown.len() * self.large.channels,
                })
            };
            let here: Vec<_> = rows.clone().enumerate().map(target).collect();
            if here.iter().any(Option::is_some) {
                // The first small pixel of the window is the last tap's; the border before the image is taps − 1 high and wide.
                starts.push(((y + self.taps - taps.0) * pitch + x + self.taps - taps.1) * self.small.channels);
                let nowhere = Target { column: 0, pixel: 0, length: 0 };
                targets.extend(here.into_iter().map(|target| target.unwrap_or(nowhere)));
            }
        }
        let runs = (0..taps.0).map(|a| a * pitch * self.small.channels).collect();
        let length = if taps.1 == 0 { 0 } else { (taps.1 + block - 1) * self.small.channels };
        Phase { rows, columns, taps, windows: Places { starts, runs, length }, targets }
    }

    /// Copies a large image into cells whose borders are already zero. Every pixel lies in exactly one cell.
    pub fn gather<T: Real>(&self, image: &[T], cells: &mut [T]) {
        let (s, p, c, cell) = (self.stride, self.padding, self.large.channels, self.cell());
        // The first cell of a row begins before the image and shows only its last pixels, if any; the last one may be cut too.
        let first_pixels = (s - p % s).min(self.large.width);
        let whole = (self.large.width - first_pixels) / s;
        let row_length = self.large.width * c;
        for (y, row) in image.chunks_exact(row_length).enumerate() {
            let (cell_y, inner_y) = ((y + p) / s, (y + p) % s);
            let to = &mut cells[(cell_y * self.pitch() + p / s) * cell + inner_y * s * c..];
            let (first, rest) = row.split_at(first_pixels * c);
            to[p % s * c..][..first.len()].copy_from_slice(first);
            let (middle, last) = rest.split_at(whole * s * c);
            if !rest.is_empty() {
                spread(middle, s * c, &mut to[cell..], cell);
            }
            if !last.is_empty() {
                to[(whole + 1) * cell..][..last.len()].copy_from_slice(last);
            }
        }
    }

    /// Copies a small image between borders that are already zero.
    pub fn embed<T: Real>(&self, image: &[T], bordered: &mut [T]) {
        let row = self.small.width * self.small.channels;
        let first = (self.taps - 1) * (self.bordered_pitch() + 1) * self.small.channels;
        let rows = bordered[first..].chunks_mut(self.bordered_pitch() * self.small.channels);
        for (to, from) in rows.zip(image.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
    }

    /// The small image of a large one that [`gather`](Self::gather) brought into cells.
    pub fn down<T: Real>(&self, cells: &[T], kernel: &Panels<'_, T>, small: &mut [T]) {
        let channels = self.small.channels;
        self.cells.over(cells).multiply(kernel, |pixel, first, values| {
            copy(&mut small[pixel * channels + first..][..values.len()], values);
        });
    }

    /// The large image of a small one that [`embed`](Self::embed) gave a border.
    pub fn up<T: Real>(&self, bordered: &[T], kernels: &[Panels<'_, T>], large: &mut [T]) {
        for (phase, kernel) in self.phases.iter().zip(kernels) {
            if phase.windows.length == 0 || phase.windows.runs.is_empty() {
                for target in &phase.targets {
                    large[target.pixel..][..target.length].fill(T::zero());
                }
                continue;
            }
            let rows = phase.rows.len();
            phase.windows.over(bordered).multiply(
                kernel,
                #[inline(always)]
                |block, first, values| {
                    for target in &phase.targets[block * rows..][..rows] {
                        let from = target.column.max(first);
                        let to = (target.column + target.length).min(first + values.len());
                        if from < to {
                            copy(
                                &mut large[target.pixel + from - target.column..][..to - from],
                                &values[from - first..],
                            );
                        }
                    }
                },
            );
        }
    }

    /// Adds cellsᵀ · small image to `gradient`, the kernel in the order of [`down_panels`](Self::down_panels).
    pub fn weight_gradient<T: Real>(&self, cells: &[T], small: &[T], gradient: &mut [T]) {
        self.cells.over(cells).accumulate(small, self.small.channels, gradient);
    }

    /// Numbers of a kernel in cells.
    pub fn kernel_len(&self) -> usize {
        self.cells.runs.len() * self.cells.length * self.small.channels
    }

    /// The tap and large channel of number `l` of a window of cells; no tap where the kernel ends within a cell.
    fn number(&self, l: usize) -> (Option<usize>, usize) {
        let (s, t, channels) = (self.stride, self.taps, self.large.channels);
        let (cell, inner) = (l / self.cell(), l % self.cell() / channels);
        let (ky, kx) = (cell / t * s + inner / s, cell % t * s + inner % s);
        ((ky < self.kernel && kx < self.kernel).then_some(ky * self.kernel + kx), l % channels)
    }

    /// Kernel for [`down`](Self::down): a row for each number of a window, a column for each small channel.
    pub fn down_panels<'a, T: Real>(&self, weight: &'a [T], layout: KernelLayout) -> Panels<'a, T> {
        Panels::pack(self.cells.runs.len() * self.cells.length, self.small.channels, self.cells.runs.len(), |l| {
            let (tap, channel) = self.number(l);
            let row = tap.map(|tap| &weight[tap * layout.tap + channel * layout.large..]);
            move |c: usize| row.map_or(T::zero(), |row| row[c * layout.small])
        })
    }

    /// Kernels for [`up`](Self::up), one for each phase: a row for each number of a window, a column for each (place, channel).
    pub fn up_panels<'a, T: Real>(&self, weight: &'a [T], layout: KernelLayout) -> Vec<Panels<'a, T>> {
        let (s, k, small, large) = (self.stride, self.kernel, self.small.channels, self.large.channels);
        let kernel = |phase: &Phase| {
            let ((rows, columns), width) = (phase.taps, phase.windows.length / small);
            let places = phase.rows.clone().flat_map(|i| phase.columns.clone().map(move |j| (i, j)));
            Panels::pack(rows * width * small, places.clone().count() * large, rows, |l| {
                // The window begins with the last tap of the block's first cell; to the right of its first tap only further cells see.
                let (a, b) = (rows - 1 - l / small / width, l / small % width);
                let row = |(i, j): (usize, usize)| {
                    let (ky, kx) = (a * s + i, ((columns - 1) * s + j).checked_sub(b * s)?);
                    (ky < k && kx < k).then(|| &weight[(ky * k + kx) * layout.tap + l % small * layout.small..])
                };
                let rows: Vec<_> = places.clone().map(row).collect();
                move |c: usize| {
                    let (place, channel) = if rows.len() == 1 { (0, c) } else { (c / large, c % large) };
                    rows[place].map_or(T::zero(), |row| row[channel * layout.large])
                }
            })
        };
        self.phases.iter().map(kernel).collect()
    }

    /// Brings a kernel's gradient in cells into the stored layout.
    pub fn unpack_gradient<T: Real>(&self, gradient: &[T], weight: &mut [T], layout: KernelLayout) {
        for (l, row) in gradient.chunks_exact(self.small.channels).enumerate() {
            if let (Some(tap), channel) = self.number(l) {
                let weight = &mut weight[tap * layout.tap + channel * layout.large..];
                for (c, value) in row.iter().enumerate() {
                    weight[c * layout.small] = *value;
                }
            }
        }
    }
}

/// Copies runs of `length` numbers, one after the other, to places `step` apart.
fn spread<T: Real>(runs: &[T], length: usize, to: &mut [T], step: usize) {
    /// With a length that the compiler knows, a short copy is a few instructions and no call.
    fn known<T: Real, const LENGTH: usize>(runs: &[T], to: &mut [T], step: usize) {
        for (run, to) in runs.as_chunks::<LENGTH>().0.iter().zip(to.chunks_mut(step)) {
            to[..LENGTH].copy_from_slice(run);
        }
    }
    match length {
        _ if length == step => to[..runs.len()].copy_from_slice(runs),
        1 => known::<T, 1>(runs, to, step),
        2 => known::<T, 2>(runs, to, step),
        3 => known::<T, 3>(runs, to, step),
        4 => known::<T, 4>(runs, to, step),
        8 => known::<T, 8>(runs, to, step),
        16 => known::<T, 16>(runs, to, step),
        _ => {
            for (run, to) in runs.chunks_exact(length).zip(to.chunks_mut(step)) {
                to[..length].copy_from_slice(run);
            }
        }
    }
}

/// Copies a short run, as long as `to`: a plain loop, because a call of `memcpy` costs more than a handful of vectors.
#[inline(always)]
pub(super) fn copy<T: Real>(to: &mut [T], from: &[T]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t = *f;
    }
}
