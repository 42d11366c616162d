//! Matrix products whose left side is made of sliding windows: the two kernels that the model spends its time in.
//!
//! | product | gives |
//! |---|---|
//! | [`Windows::multiply`] | out = A·B: every layer forward, and its input's gradient |
//! | [`Windows::accumulate`] | G += Aᵀ·R: every weight's gradient |
//!
//! A is never copied: each of its rows is a few *runs* of numbers that lie where they lie ([`Windows`]). B is a weight; it is read
//! where it lies if its rows are whole vectors, and otherwise brought into [`Panels`] once per pass. Both kernels keep a tile of M rows × V vectors of the result in registers while they
//! walk along the inner dimension: M·V accumulators hide the latency of the multiply-adds, and each number of A that is
//! loaded is used V times, each vector of B M times.
//!
//! One result is always the sum of the same products in the same order, whatever the tile (and, but for narrow matrices, the width
//! of a vector). Both run on the calling thread alone; parallelism belongs to the caller.

// Tiles are walked by indices that the compiler unrolls; iterators over them leave the sums in memory.
#![allow(clippy::needless_range_loop)]

use super::instructions::{dispatch, lanes, registers};
use super::real::{Real, Simd, WithSimd};
use rayon::prelude::*;
use std::borrow::Cow;

/// Vectors of a tile at most.
const VECTORS: usize = 3;
/// Rows of a tile at most.
const ROWS: usize = 8;

/// How many vectors a tile has at most beside so many registers: 8 rows of 3 sums leave some of 32 for B and A, 6 rows of 2 some of 16. With
/// one more a sum has no register, and every step along the inner dimension waits for memory.
const fn most_vectors(registers: usize) -> usize {
    if registers >= 32 { VECTORS } else { 2 }
}

/// Rows of numbers inside a slice, which may overlap. Row i is the runs `data[starts[i] + runs[0]..][..length]`,
/// `data[starts[i] + runs[1]..][..length]`, … one after the other.
#[derive(Clone, Copy)]
pub(super) struct Windows<'a, T> {
    pub data: &'a [T],
    pub starts: &'a [usize],
    pub runs: &'a [usize],
    pub length: usize,
}

/// A matrix of `depth` × `columns`, arranged for [`Windows::multiply`].
pub(super) struct Panels<'a, T: Real> {
    depth: usize,
    columns: usize,
    form: Form,
    data: Cow<'a, [T]>,
}

/// How a matrix lies in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Row after row: what a matrix of whole vectors needs no arranging for.
    Rows,
    /// Cut into panels of [`most_vectors`] vectors of columns, each stored row after row; what is missing from the last vector is
    /// zero.
    Panels,
    /// Column after column: a matrix of few columns, which would leave most of a vector empty.
    Narrow,
}

/// Columns of a narrow matrix at most.
const NARROW: usize = 4;

/// How many vectors each panel of a matrix with that many columns has: as equal as they can be.
fn panel_widths(columns: usize, lanes: usize, registers: usize) -> impl Iterator<Item = usize> + Clone {
    let vectors = columns.div_ceil(lanes);
    let panels = vectors.div_ceil(most_vectors(registers));
    (0..panels).map(move |j| vectors / panels + usize::from(j < vectors % panels))
}

impl<'a, T: Real> Panels<'a, T> {
    /// Arranges a matrix stored row after row, for windows of `runs` runs.
    pub fn rows(matrix: &'a [T], columns: usize, runs: usize) -> Self {
        if columns.is_multiple_of(lanes::<T>()) {
            let depth = matrix.len() / columns;
            return Self { depth, columns, form: Form::Rows, data: Cow::Borrowed(matrix) };
        }
        Self::pack_rows(matrix, columns, runs)
    }

    fn pack_rows(matrix: &[T], columns: usize, runs: usize) -> Self {
        Self::pack(matrix.len() / columns, columns, runs, |l| {
            let row = &matrix[l * columns..(l + 1) * columns];
            move |c: usize| row[c]
        })
    }

    /// Arranges the transpose of a matrix stored row after row, which thus has `depth` numbers in a row, for windows of one run.
    pub fn transposed(matrix: &[T], depth: usize) -> Self {
        let columns = matrix.len() / depth;
        if is_narrow::<T>(depth, columns, 1) {
            return Self { depth, columns, form: Form::Narrow, data: Cow::Owned(matrix.to_vec()) };
        }
        let arrange = |first: usize, width: usize, panel: &mut [T]| {
            let rows: Vec<&[T]> = matrix[first * depth..].chunks_exact(depth).take(width).collect();
            let (fours, rest) = rows.as_chunks::<TILE>();
            // Each to its end: a processor fetches what lies one after the other before it is needed.
            for (i, four) in fours.iter().enumerate() {
                transpose_rows(*four, &mut panel[i * TILE..], width);
            }
            for (c, row) in (fours.len() * TILE..).zip(rest) {
                panel[c..].iter_mut().step_by(width).zip(*row).for_each(|(to, from)| *to = *from);
            }
        };
        Self { depth, columns, form: Form::Panels, data: Cow::Owned(in_panels(depth, columns, arrange)) }
    }

    /// Arranges the matrix whose element (l, c) is `row(l)(c)`, for windows of `runs` runs.
    pub fn pack<R: Fn(usize) -> T>(depth: usize, columns: usize, runs: usize, row: impl Fn(usize) -> R + Sync) -> Self {
        if is_narrow::<T>(depth, columns, runs) {
            let mut data = vec![T::zero(); depth * columns];
            for l in 0..depth {
                let row = row(l);
                for c in 0..columns {
                    data[c * depth + l] = row(c);
                }
            }
            return Self { depth, columns, form: Form::Narrow, data: Cow::Owned(data) };
        }
        let arrange = |first: usize, width: usize, panel: &mut [T]| {
            for (l, to) in panel.chunks_exact_mut(width).enumerate() {
                let row = row(l);
                for (to, c) in to.iter_mut().zip(first..columns) {
                    *to = row(c);
                }
            }
        };
        Self { depth, columns, form: Form::Panels, data: Cow::Owned(in_panels(depth, columns, arrange)) }
    }

    /// The same, outliving what it was made of. What is copied anyway is brought into panels: a processor fetches what lies one after the
    /// other before it is needed, which for a few rows times a large matrix is most of the time.
    pub fn into_owned(self) -> Panels<'static, T> {
        let Self { depth, columns, form, data } = self;
        match form {
            Form::Rows => Panels::pack_rows(&data, columns, 1),
            _ => Panels { depth, columns, form, data: Cow::Owned(data.into_owned()) },
        }
    }
}

/// Rows and columns that are transposed at once: a square of them fits registers.
const TILE: usize = 4;

/// Writes rows as columns of `to`, whose rows have `width` numbers.
fn transpose_rows<T: Real>(rows: [&[T]; TILE], to: &mut [T], width: usize) {
    let rows = rows.map(|row| row.as_chunks::<TILE>());
    let mut to = to.chunks_mut(width);
    for i in 0..rows[0].0.len() {
        let square = rows.map(|(squares, _)| squares[i]);
        for (l, to) in (0..TILE).zip(&mut to) {
            to[..TILE].copy_from_slice(&square.map(|row| row[l]));
        }
    }
    for (l, to) in to.enumerate() {
        to[..TILE].copy_from_slice(&rows.map(|(_, rest)| rest[l]));
    }
}

/// Whether a matrix is stored column after column, given the runs of the windows that it is multiplied with.
fn is_narrow<T: Real>(depth: usize, columns: usize, runs: usize) -> bool {
    columns <= NARROW && columns < lanes::<T>() && (depth / runs.max(1)).is_multiple_of(lanes::<T>())
}

/// A matrix of zeros in panels, each filled by `arrange(first column, width, panel)`.
fn in_panels<T: Real>(depth: usize, columns: usize, arrange: impl Fn(usize, usize, &mut [T]) + Sync) -> Vec<T> {
    /// A rearrangement of numbers: worth a second thread only when there are many.
    const MANY: usize = 1 << 16;
    let lanes = lanes::<T>();
    let mut data = vec![T::zero(); columns.next_multiple_of(lanes) * depth];
    let mut panels = Vec::new();
    let (mut rest, mut first) = (data.as_mut_slice(), 0);
    for vectors in panel_widths(columns, lanes, registers()) {
        let (panel, others) = rest.split_at_mut(vectors * lanes * depth);
        panels.push((first, vectors * lanes, panel));
        (rest, first) = (others, first + vectors * lanes);
    }
    let panels = panels.into_par_iter().with_min_len(MANY.div_ceil(depth.max(1) * VECTORS * lanes));
    panels.for_each(|(first, width, panel)| arrange(first, width, panel));
    data
}

impl<T: Real> Windows<'_, T> {
    /// Rows · `panels`. The result comes in pieces of rows: `store(row, first column, numbers)`, every column of every row once.
    pub fn multiply(&self, panels: &Panels<'_, T>, store: impl FnMut(usize, usize, &[T])) {
        assert_eq!(self.runs.len() * self.length, panels.depth, "inner dimensions of a product differ");
        assert!(
            panels.form != Form::Narrow || self.length.is_multiple_of(lanes::<T>()),
            "a narrow matrix was arranged for other runs"
        );
        let tile = vec![T::zero(); ROWS * VECTORS * lanes::<T>()];
        dispatch(Multiply { windows: self, panels, store, tile });
    }

    /// `gradient` += rowsᵀ · `right`, where `right` has a row of `columns` numbers for each of the windows, and `gradient` one for
    /// each number of a window.
    pub fn accumulate(&self, right: &[T], columns: usize, gradient: &mut [T]) {
        assert_eq!(
            self.starts.len() * columns,
            right.len(),
            "the right side of a product has other rows than its left"
        );
        assert_eq!(
            self.runs.len() * self.length * columns,
            gradient.len(),
            "a product has another size than its output"
        );
        let padded = columns.next_multiple_of(lanes::<T>());
        if padded == columns {
            return dispatch(Accumulate { windows: self, right, columns, padded, gradient });
        }
        let mut right_padded = vec![T::zero(); self.starts.len() * padded];
        for (to, from) in right_padded.chunks_exact_mut(padded).zip(right.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
        dispatch(Accumulate { windows: self, right: &right_padded, columns, padded, gradient });
    }
}

struct Multiply<'a, T: Real, F> {
    windows: &'a Windows<'a, T>,
    panels: &'a Panels<'a, T>,
    store: F,
    /// A tile of the result on its way to `store`.
    tile: Vec<T>,
}

impl<T: Real, F: FnMut(usize, usize, &[T])> WithSimd for Multiply<'_, T, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let lanes = T::width::<S>();
        let Panels { depth, columns, form, .. } = *self.panels;
        if form == Form::Narrow {
            return match columns {
                1 => self.narrow::<S, 1>(simd),
                2 => self.narrow::<S, 2>(simd),
                3 => self.narrow::<S, 3>(simd),
                _ => self.narrow::<S, NARROW>(simd),
            };
        }
        let (data, mut first) = (T::vectors::<S>(&self.panels.data), 0);
        for vectors in panel_widths(columns, lanes, S::REGISTER_COUNT) {
            let panel = match form {
                Form::Rows => Panel { vectors: &data[first..], pitch: columns / lanes, first },
                _ => Panel { vectors: &data[first * depth..], pitch: vectors, first },
            };
            match vectors {
                1 => self.panel::<S, 1>(simd, panel),
                2 => self.panel::<S, 2>(simd, panel),
                _ => self.panel::<S, VECTORS>(simd, panel),
            }
            first += vectors;
        }
    }
}

/// Some columns of a matrix, as many as a tile is wide.
#[derive(Clone, Copy)]
struct Panel<'a, V> {
    vectors: &'a [V],
    /// Vectors from one row to the next.
    pitch: usize,
    /// Vectors before it in a row.
    first: usize,
}

impl<T: Real, F: FnMut(usize, usize, &[T])> Multiply<'_, T, F> {
    /// All rows times the few columns of a narrow matrix: vectors lie along the inner dimension and are summed up at the end.
    #[inline(always)]
    fn narrow<S: Simd, const N: usize>(&mut self, simd: S) {
        let Windows { data, starts, runs, length } = *self.windows;
        let columns = T::vectors::<S>(&self.panels.data);
        let (depth, of_run) = (columns.len() / N, length / T::width::<S>());
        for (row, start) in starts.iter().enumerate() {
            let mut sums = [T::splat(simd, T::zero()); N];
            for (i, run) in runs.iter().enumerate() {
                let a = T::vectors::<S>(&data[start + run..][..length]);
                let mut b: [&[T::Vector<S>]; N] = [&[]; N];
                for n in 0..N {
                    b[n] = &columns[n * depth + i * of_run..][..a.len()];
                }
                for (k, a) in a.iter().enumerate() {
                    for n in 0..N {
                        sums[n] = T::mul_add(simd, *a, b[n][k], sums[n]);
                    }
                }
            }
            let mut totals = [T::zero(); N];
            for n in 0..N {
                totals[n] = T::sum(simd, sums[n]);
            }
            (self.store)(row, 0, &totals);
        }
    }

    /// All rows times one panel, in tiles as high as the registers allow.
    #[inline(always)]
    fn panel<S: Simd, const V: usize>(&mut self, simd: S, panel: Panel<'_, T::Vector<S>>) {
        let rows = self.windows.starts.len();
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                5.. if S::REGISTER_COUNT >= 32 => self.tile::<S, ROWS, V>(simd, panel, row),
                5.. => self.tile::<S, 6, V>(simd, panel, row),
                3.. => self.tile::<S, 4, V>(simd, panel, row),
                _ => self.tile::<S, 1, V>(simd, panel, row),
            };
        }
    }

    /// M rows from `row` on times one panel; returns M. Rows beyond the last are the last again and are not stored.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        panel: Panel<'_, T::Vector<S>>,
        row: usize,
    ) -> usize {
        let Windows { data, starts, runs, length } = *self.windows;
        let starts = &starts[row..];
        let mut starts_here = [0; M];
        for i in 0..M {
            starts_here[i] = starts[i.min(starts.len() - 1)];
        }
        let mut sums = [[T::splat(simd, T::zero()); V]; M];
        let mut rest = panel.vectors;
        for run in runs {
            let mut a: [&[T]; M] = [&[]; M];
            for i in 0..M {
                a[i] = &data[starts_here[i] + run..];
            }
            let (b, after) = rest.split_at((length * panel.pitch).min(rest.len()));
            rest = after;
            // A panel's rows follow each other; in a whole matrix there is more between them.
            if panel.pitch == V {
                add_products(simd, a, length, b.as_chunks().0.iter(), &mut sums);
            } else {
                add_products(simd, a, length, b.chunks(panel.pitch).filter_map(<[_]>::first_chunk), &mut sums);
            }
        }
        // The sums are written to memory that is not theirs and handed out from there: if they had an address themselves, the
        // compiler would keep them in memory all along.
        for (to, sums) in T::vectors_mut::<S>(&mut self.tile).as_chunks_mut::<V>().0.iter_mut().zip(sums) {
            *to = sums;
        }
        let lanes = T::width::<S>();
        let columns = (self.panels.columns - panel.first * lanes).min(V * lanes);
        for (i, numbers) in self.tile.chunks_exact(V * lanes).take(M.min(starts.len())).enumerate() {
            (self.store)(row + i, panel.first * lanes, &numbers[..columns]);
        }
        M
    }
}

/// To the sums of each of M rows of numbers adds the rows of b, each times the number that it meets.
#[inline(always)]
fn add_products<'b, T: Real, S: Simd, const M: usize, const V: usize>(
    simd: S,
    mut rows: [&[T]; M],
    length: usize,
    b: impl Iterator<Item = &'b [T::Vector<S>; V]>,
    sums: &mut [[T::Vector<S>; V]; M],
) {
    for i in 0..M {
        rows[i] = &rows[i][..length];
    }
    for (k, b) in (0..length).zip(b) {
        for i in 0..M {
            // SAFETY: k < length, and each of these slices was cut to that length just above. The compiler does not see it, and
            // M checks for M·V multiply-adds cost a fifth of the speed.
            let a = T::splat(simd, unsafe { *rows[i].get_unchecked(k) });
            for v in 0..V {
                sums[i][v] = T::mul_add(simd, a, b[v], sums[i][v]);
            }
        }
    }
}

struct Accumulate<'a, T> {
    windows: &'a Windows<'a, T>,
    right: &'a [T],
    columns: usize,
    /// Columns of `right` as it is stored: whole vectors.
    padded: usize,
    gradient: &'a mut [T],
}

impl<T: Real> WithSimd for Accumulate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let length = self.windows.length;
        for (i, run) in self.windows.runs.iter().enumerate() {
            let mut l = 0;
            while l < length {
                let at = (run + l, i * length + l);
                l += match length - l {
                    ROWS.. if S::REGISTER_COUNT >= 32 => self.rows::<S, ROWS>(simd, at),
                    // After sixes alone two would be left, which take as long as six: two fours come out even.
                    left @ 6.. if S::REGISTER_COUNT < 32 && left % 6 != 2 => self.rows::<S, 6>(simd, at),
                    4.. => self.rows::<S, 4>(simd, at),
                    _ => self.rows::<S, 1>(simd, at),
                };
            }
        }
    }
}

impl<T: Real> Accumulate<'_, T> {
    /// M rows of the gradient, which belong to the numbers `at.0` from each window's start and are its rows from `at.1` on;
    /// returns M.
    #[inline(always)]
    fn rows<S: Simd, const M: usize>(&mut self, simd: S, at: (usize, usize)) -> usize {
        let mut first = 0;
        for vectors in panel_widths(self.columns, T::width::<S>(), S::REGISTER_COUNT) {
            match vectors {
                1 => self.tile::<S, M, 1>(simd, at, first),
                2 => self.tile::<S, M, 2>(simd, at, first),
                _ => self.tile::<S, M, VECTORS>(simd, at, first),
            }
            first += vectors * T::width::<S>();
        }
        M
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const V: usize>(&mut self, simd: S, at: (usize, usize), first: usize) {
        let lanes = T::width::<S>();
        let right = T::vectors::<S>(self.right).chunks_exact(self.padded / lanes);
        let mut sums = [[T::splat(simd, T::zero()); V]; M];
        // Nothing lies there where there are no rows.
        let data = self.windows.data.get(at.0..).unwrap_or_default();
        for (start, right) in self.windows.starts.iter().zip(right) {
            let a = &data[*start..][..M];
            let b = &right[first / lanes..][..V];
            for i in 0..M {
                let a = T::splat(simd, a[i]);
                for v in 0..V {
                    sums[i][v] = T::mul_add(simd, a, b[v], sums[i][v]);
                }
            }
        }
        let columns = (self.columns - first).min(V * lanes);
        for i in 0..M {
            let row_sums = sums[i];
            let row = &mut self.gradient[(at.1 + i) * self.columns + first..][..columns];
            for (g, s) in row.iter_mut().zip(T::numbers::<S>(&row_sums)) {
                *g += *s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::agreement;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Numbers that no rounding blurs: sums of their products are exact in `f32` too.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 17) as f32 - 8.0).collect()
    }

    /// Rows of every height of tile, columns around every width, overlapping windows of one and of several runs.
    fn cases() -> impl Iterator<Item = (usize, usize, Vec<usize>, usize, usize)> {
        // Miri, which watches every access, is a thousand times slower, and has vectors of one number.
        let rows: &[usize] = if cfg!(miri) { &[1, 4, 11] } else { &[1, 2, 3, 4, 5, 8, 11, 17] };
        let columns: &[usize] =
            if cfg!(miri) { &[1, 5, 8] } else { &[1, 2, 3, 4, 5, 8, 15, 16, 17, 32, 33, 48, 49, 64, 80] };
        let shapes =
            [(vec![0], 1, 1), (vec![0], 7, 3), (vec![0, 20], 5, 5), (vec![3, 11, 40], 9, 2), (vec![0, 33], 32, 16)];
        rows.iter().flat_map(move |m| {
            let shapes = shapes.clone();
            columns.iter().flat_map(move |n| {
                shapes.clone().into_iter().map(move |(runs, length, step)| (*m, *n, runs, length, step))
            })
        })
    }

    #[test]
    fn both_products_agree_with_three_loops() {
        cases().for_each(both_agree);
    }

    proptest! {
        #![proptest_config(agreement::cases(200))]

        #[test]
        #[cfg_attr(miri, ignore = "too slow there; the cases by hand are not")]
        fn both_products_agree_with_three_loops_in_any_shape(
            (m, n) in (1..=40usize, 1..=120usize),
            runs in vec(0..=50usize, 1..=3),
            (length, step) in (1..=40usize, 1..=20usize),
        ) {
            both_agree((m, n, runs, length, step));
        }
    }

    fn both_agree((m, n, runs, length, step): (usize, usize, Vec<usize>, usize, usize)) {
        let depth = runs.len() * length;
        let starts: Vec<usize> = (0..m).map(|i| i * step).collect();
        let data = numbers(m * step + 100, 1);
        let windows = Windows { data: &data, starts: &starts, runs: &runs, length };
        let at = |i: usize, l: usize| data[starts[i] + runs[l / length] + l % length];

        let b = numbers(depth * n, 2);
        let packed = Panels::pack(depth, n, runs.len(), |l| {
            let row = &b[l * n..];
            move |c: usize| row[c]
        });
        let turned: Vec<f32> = (0..n * depth).map(|i| b[i % depth * n + i / depth]).collect();
        // A transpose is arranged for one run.
        let transposed = (runs.len() == 1).then(|| Panels::transposed(&turned, depth));
        let rows = || Panels::rows(&b, n, runs.len());
        for panels in [packed, rows(), rows().into_owned()].into_iter().chain(transposed) {
            let mut out = vec![f32::NAN; m * n];
            windows.multiply(&panels, |row, first, values| {
                out[row * n + first..][..values.len()].copy_from_slice(values);
            });
            for (i, row) in out.chunks_exact(n).enumerate() {
                for (c, value) in row.iter().enumerate() {
                    assert_eq!(*value, (0..depth).map(|l| at(i, l) * b[l * n + c]).sum::<f32>(), "{m}×{n}×{depth}");
                }
            }
        }

        let right = numbers(m * n, 3);
        let mut gradient = vec![1.0; depth * n];
        windows.accumulate(&right, n, &mut gradient);
        for (l, row) in gradient.chunks_exact(n).enumerate() {
            for (c, value) in row.iter().enumerate() {
                let sum: f32 = (0..m).map(|i| at(i, l) * right[i * n + c]).sum();
                assert_eq!(*value, 1.0 + sum, "{m}×{n}×{depth}");
            }
        }
    }

    #[test]
    fn without_rows_nothing_is_added() {
        let windows = Windows { data: &[0f32; 0], starts: &[], runs: &[0, 7], length: 4 };
        let mut gradient = [1.0; 16];
        windows.accumulate(&[], 2, &mut gradient);
        assert_eq!(gradient, [1.0; 16]);
        windows.multiply(&Panels::pack(8, 2, 2, |_| |_| 1.0), |_, _, _| unreachable!());
    }

    #[test]
    #[should_panic(expected = "inner dimensions")]
    fn a_weight_of_another_depth_is_refused() {
        let windows = Windows { data: &[0f32; 8], starts: &[0, 4], runs: &[0], length: 4 };
        windows.multiply(&Panels::pack(3, 2, 1, |_| |_| 0.0), |_, _, _| {});
    }

    #[test]
    #[should_panic]
    fn a_window_beyond_its_data_is_refused() {
        let windows = Windows { data: &[0f32; 8], starts: &[0, 5], runs: &[0], length: 4 };
        windows.multiply(&Panels::pack(4, 2, 1, |_| |_| 0.0), |_, _, _| {});
    }
}
