//! Matrix products on slices: the one place where the crate hands pointers to `gemm`.

use super::real::Real;

/// A read-only matrix inside a slice. Rows may overlap (a sliding window is a matrix whose row stride is smaller than
/// its width), which is what lets a convolution be a product without copying patches.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows` × `columns`, row after row without gaps.
    pub fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// `rows` × `columns`, the first elements of consecutive rows `row_stride` apart.
    pub fn strided(data: &'a [T], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len(),
            "a {rows}×{columns} matrix with row stride {row_stride} does not fit {} elements",
            data.len()
        );
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// Whether a product replaces its output or is added to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Replace,
    Add,
}

/// `out` (rows of `a` × columns of `b`, without gaps) = or += `a` · `b`.
///
/// Runs on the calling thread alone: parallelism belongs to the caller, who splits the batch so that the result does
/// not depend on how many threads there are.
pub fn multiply<T: Real>(out: &mut [T], a: Matrix<'_, T>, b: Matrix<'_, T>, store: Store) {
    assert_eq!(a.columns, b.rows, "inner dimensions of a matrix product differ");
    let (m, n, k) = (a.rows, b.columns, a.columns);
    assert!(out.len() >= m * n, "a {m}×{n} product does not fit {} elements", out.len());
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if store == Store::Replace {
            out[..m * n].fill(T::zero());
        }
        return;
    }
    // SAFETY: `Matrix` can only be built over a slice that holds all its elements, `out` was checked above, and being
    // a unique borrow it overlaps neither input. `gemm` reads and writes exactly those elements.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            store == Store::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(a: &Matrix<'_, f64>, b: &Matrix<'_, f64>) -> Vec<f64> {
        let at = |x: &Matrix<'_, f64>, i: usize, j: usize| x.data[i * x.row_stride + j * x.column_stride];
        let mut out = vec![0.0; a.rows * b.columns];
        for i in 0..a.rows {
            for j in 0..b.columns {
                out[i * b.columns + j] = (0..a.columns).map(|l| at(a, i, l) * at(b, l, j)).sum();
            }
        }
        out
    }

    #[test]
    fn products_agree_with_three_loops_also_transposed_and_overlapping() {
        let data: Vec<f64> = (0..400).map(|i| ((i * 37 % 101) as f64 - 50.0) / 10.0).collect();
        for (m, n, k) in [(1, 1, 1), (5, 3, 7), (16, 9, 4), (3, 20, 11)] {
            let plain = Matrix::new(&data, m, k);
            let windows = Matrix::strided(&data, m, k, 2);
            let turned = Matrix::new(&data[5..], k, m).t();
            for a in [plain, windows, turned] {
                for b in [Matrix::new(&data[30..], k, n), Matrix::new(&data[50..], n, k).t()] {
                    let expected = naive(&a, &b);
                    let mut out = vec![1.0; m * n];
                    multiply(&mut out, a, b, Store::Add);
                    for (o, e) in out.iter().zip(&expected) {
                        assert!((o - 1.0 - e).abs() < 1e-9);
                    }
                    multiply(&mut out, a, b, Store::Replace);
                    for (o, e) in out.iter().zip(&expected) {
                        assert!((o - e).abs() < 1e-9);
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_matrix_larger_than_its_slice_is_refused() {
        Matrix::new(&[0f32; 5], 2, 3);
    }
}
