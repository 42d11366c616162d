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
//! vectors, several phases are computed as one product whose columns are (phase, channel).

use super::product::{Panels, Windows};
use super::real::Real;
use super::{Extent, LayerError};

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

/// Pixels of the large image that are computed together: one or more places within their cells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Phase {
    /// (row, column) within the cell, of each place.
    inner: Vec<(usize, usize)>,
    /// Rows and columns of small pixels that reach these; 0 where the kernel is smaller than the stride.
    taps: (usize, usize),
    /// The windows over the bordered small image, one for each cell.
    windows: Places,
    /// Where each cell's pixels are in the large image, [`OUTSIDE`] for those that the image does not have.
    pixels: Vec<usize>,
}

const OUTSIDE: usize = usize::MAX;

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
        let mut window = Self { large, small, kernel, stride, padding, taps, cells, phases: Vec::new() };
        window.cells = window.places_of_cells();
        window.phases = window.places_within_a_cell().into_iter().map(|inner| window.phase(inner)).collect();
        Ok(window)
    }

    /// Numbers of one cell.
    fn cell(&self) -> usize {
        self.stride * self.stride * self.large.channels
    }

    /// Cells from one row to the next, and positions of the bordered small image likewise: the last t − 1 of a row serve as the
    /// right border of this row and the left border of the next.
    fn pitch(&self) -> usize {
        self.small.width + self.taps - 1
    }

    /// Numbers of a large image in cells.
    pub fn cells_len(&self) -> usize {
        (self.small.height + self.taps - 1) * self.pitch() * self.cell()
    }

    /// Numbers of a small image with its border.
    pub fn bordered_len(&self) -> usize {
        ((self.small.height + 2 * (self.taps - 1)) * self.pitch() + self.taps - 1) * self.small.channels
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

    /// The places within a cell, by phase: alone, by row or all together, so that a product has a vector's worth of columns.
    fn places_within_a_cell(&self) -> Vec<Vec<(usize, usize)>> {
        const COLUMNS: usize = 32;
        let s = self.stride;
        let all: Vec<_> = (0..s * s).map(|i| (i / s, i % s)).collect();
        let together = match self.large.channels {
            c if c >= COLUMNS => 1,
            c if c * s >= COLUMNS => s,
            _ => s * s,
        };
        all.chunks(together).map(<[_]>::to_vec).collect()
    }

    fn phase(&self, inner: Vec<(usize, usize)>) -> Phase {
        let (s, p, pitch) = (self.stride, self.padding, self.pitch());
        // Taps a with a·s + i < k.
        let taps = |i: usize| self.kernel.saturating_sub(i).div_ceil(s);
        let rows = inner.iter().map(|(i, _)| taps(*i)).max().unwrap_or(0);
        let columns = inner.iter().map(|(_, j)| taps(*j)).max().unwrap_or(0);
        let pixel = |(cell_y, cell_x): (usize, usize), (i, j): (usize, usize)| {
            let (y, x) = ((cell_y * s + i).checked_sub(p)?, (cell_x * s + j).checked_sub(p)?);
            (y < self.large.height && x < self.large.width).then_some((y * self.large.width + x) * self.large.channels)
        };
        let (mut starts, mut pixels) = (Vec::new(), Vec::new());
        for cell in
            (0..self.small.height + self.taps).flat_map(|y| (0..self.small.width + self.taps).map(move |x| (y, x)))
        {
            let places: Vec<_> = inner.iter().map(|&place| pixel(cell, place)).collect();
            if places.iter().any(Option::is_some) {
                // The first small pixel of the window is the last tap's; the border before the image is taps − 1 high and wide.
                let (y, x) = (cell.0 + self.taps - rows, cell.1 + self.taps - columns);
                starts.push((y * pitch + x) * self.small.channels);
                pixels.extend(places.into_iter().map(|place| place.unwrap_or(OUTSIDE)));
            }
        }
        let runs = (0..rows).map(|a| a * pitch * self.small.channels).collect();
        let windows = Places { starts, runs, length: columns * self.small.channels };
        Phase { inner, taps: (rows, columns), windows, pixels }
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
        let first = (self.taps - 1) * (self.pitch() + 1) * self.small.channels;
        let rows = bordered[first..].chunks_mut(self.pitch() * self.small.channels);
        for (to, from) in rows.zip(image.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
    }

    /// The small image of a large one that [`gather`](Self::gather) brought into cells.
    pub fn down<T: Real>(&self, cells: &[T], kernel: &Panels<T>, small: &mut [T]) {
        let channels = self.small.channels;
        self.cells.over(cells).multiply(kernel, |pixel, first, values| {
            copy(&mut small[pixel * channels + first..][..values.len()], values);
        });
    }

    /// The large image of a small one that [`embed`](Self::embed) gave a border.
    pub fn up<T: Real>(&self, bordered: &[T], kernels: &[Panels<T>], large: &mut [T]) {
        let channels = self.large.channels;
        for (phase, kernel) in self.phases.iter().zip(kernels) {
            let places = phase.inner.len();
            if phase.windows.length == 0 || phase.windows.runs.is_empty() {
                for &pixel in phase.pixels.iter().filter(|pixel| **pixel != OUTSIDE) {
                    large[pixel..pixel + channels].fill(T::zero());
                }
                continue;
            }
            let windows = phase.windows.over(bordered);
            if places == 1 {
                windows.multiply(kernel, |cell, first, values| {
                    copy(&mut large[phase.pixels[cell] + first..][..values.len()], values);
                });
                continue;
            }
            windows.multiply(kernel, |cell, mut first, mut values| {
                // Columns are (place, channel): what belongs to one place goes to one pixel.
                while !values.is_empty() {
                    let (place, channel) = (first / channels, first % channels);
                    let (here, others) = values.split_at(values.len().min(channels - channel));
                    let pixel = phase.pixels[cell * places + place];
                    if pixel != OUTSIDE {
                        copy(&mut large[pixel + channel..][..here.len()], here);
                    }
                    (first, values) = (first + here.len(), others);
                }
            });
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
    pub fn down_panels<T: Real>(&self, weight: &[T], layout: KernelLayout) -> Panels<T> {
        Panels::pack(self.cells.runs.len() * self.cells.length, self.small.channels, self.cells.runs.len(), |l| {
            let (tap, channel) = self.number(l);
            let row = tap.map(|tap| &weight[tap * layout.tap + channel * layout.large..]);
            move |c: usize| row.map_or(T::zero(), |row| row[c * layout.small])
        })
    }

    /// Kernels for [`up`](Self::up), one for each phase: a row for each number of a window, a column for each (place, channel).
    pub fn up_panels<T: Real>(&self, weight: &[T], layout: KernelLayout) -> Vec<Panels<T>> {
        let (s, k, small, large) = (self.stride, self.kernel, self.small.channels, self.large.channels);
        let kernel = |phase: &Phase| {
            let (rows, columns) = phase.taps;
            Panels::pack(rows * columns * small, phase.inner.len() * large, rows, |l| {
                // The window begins with the last tap.
                let (a, b) = (rows - 1 - l / small / columns, columns - 1 - l / small % columns);
                let row = |(i, j): &(usize, usize)| {
                    let (ky, kx) = (a * s + i, b * s + j);
                    (ky < k && kx < k).then(|| &weight[(ky * k + kx) * layout.tap + l % small * layout.small..])
                };
                let rows: Vec<_> = phase.inner.iter().map(row).collect();
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

/// Copies a short run: a plain loop, because a call of `memcpy` costs more than a handful of vectors.
#[inline(always)]
pub(super) fn copy<T: Real>(to: &mut [T], from: &[T]) {
    for (t, f) in to.iter_mut().zip(from) {
        *t = *f;
    }
}
