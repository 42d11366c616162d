//! Symmetric matrices and their Cholesky factors, both as packed lower triangles.

use super::lanes::{Block, LANES, Lanes, dot};

/// The lower half of a square matrix, row by row: row `i` has `i + 1` entries.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Triangle(Vec<f64>);

/// Where row `row` begins.
fn start(row: usize) -> usize {
    row * (row + 1) / 2
}

impl Triangle {
    pub(super) fn zeros(dimensions: usize) -> Self {
        Self(vec![0.0; start(dimensions)])
    }

    #[cfg(test)]
    pub(super) fn from_entries(entries: Vec<f64>) -> Self {
        Self(entries)
    }

    #[cfg(test)]
    pub(super) fn entries(&self) -> &[f64] {
        &self.0
    }

    fn row(&self, row: usize) -> &[f64] {
        &self.0[start(row)..start(row + 1)]
    }

    /// Adds Σ x xᵀ over the eight points x of `block`.
    pub(super) fn add_outer(&mut self, block: &Block) {
        let block = block.dimensions();
        for (row, lanes) in block.iter().enumerate() {
            for (entry, others) in self.0[start(row)..].iter_mut().zip(&block[..=row]) {
                *entry += dot(lanes, others);
            }
        }
    }

    /// Adds a diagonal matrix, then divides everything by `divisor`.
    pub(super) fn add_diagonal_and_divide(&mut self, diagonal: impl Iterator<Item = f64>, divisor: f64) {
        for (row, value) in diagonal.enumerate() {
            self.0[start(row) + row] += value;
        }
        self.0.iter_mut().for_each(|entry| *entry /= divisor);
    }

    /// The factor L of this matrix A = L Lᵀ, row by row (Cholesky–Banachiewicz).
    ///
    /// `least` is a positive lower bound of the eigenvalues of A. It bounds every squared pivot
    /// Lᵢᵢ² as well, because Lᵢᵢ⁻² is a diagonal entry of the inverse of a leading block of A; a
    /// pivot below it is an error of rounding and is put back. So there is always a factor.
    pub(super) fn factor(mut self, dimensions: usize, least: f64) -> Factor {
        for row in 0..dimensions {
            let (above, rest) = self.0.split_at_mut(start(row));
            let current = &mut rest[..=row];
            for column in 0..row {
                let other = &above[start(column)..=start(column) + column];
                let known: f64 = current[..column].iter().zip(other).map(|(a, b)| a * b).sum();
                current[column] = (current[column] - known) / other[column];
            }
            let known: f64 = current[..row].iter().map(|a| a * a).sum();
            current[row] = (current[row] - known).max(least).sqrt();
        }
        Factor { dimensions, lower: self }
    }
}

/// A lower triangular matrix L with a positive diagonal, which stands for A = L Lᵀ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Factor {
    dimensions: usize,
    lower: Triangle,
}

impl Factor {
    /// The packed lower half of A.
    #[cfg(test)]
    pub(super) fn product(&self) -> Vec<f64> {
        let entry = |i, j| self.lower.row(i).iter().zip(self.lower.row(j)).map(|(a, b)| a * b).sum();
        (0..self.dimensions).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect()
    }

    /// ln |A| = 2 Σᵢ ln Lᵢᵢ.
    pub(super) fn log_determinant(&self) -> f64 {
        (0..self.dimensions).map(|row| 2.0 * libm::log(self.lower.row(row)[row])).sum()
    }

    /// The entries of L x.
    pub(super) fn multiply(&self, x: &[f32]) -> impl Iterator<Item = f64> {
        (0..self.dimensions).map(move |row| self.lower.row(row).iter().zip(x).map(|(l, &x)| l * f64::from(x)).sum())
    }

    /// xᵀ A⁻¹ x = ‖L⁻¹ x‖² for each point x of `block`, which forward substitution overwrites with
    /// L⁻¹ x.
    pub(super) fn squared_norms(&self, block: &mut Block) -> Lanes {
        let mut norms = [0.0; LANES];
        for row in 0..self.dimensions {
            let (known, rest) = block.dimensions_mut().split_at_mut(row);
            let entries = self.lower.row(row);
            let mut left = rest[0];
            for (entry, solved) in entries.iter().zip(known.iter()) {
                for (left, solved) in left.iter_mut().zip(solved) {
                    *left -= entry * solved;
                }
            }
            let inverse = 1.0 / entries[row];
            for (norm, left) in norms.iter_mut().zip(&mut left) {
                *left *= inverse;
                *norm += *left * *left;
            }
            rest[0] = left;
        }
        norms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [[4, 2], [2, 5]] = [[2, 0], [1, 2]] [[2, 1], [0, 2]].
    fn example() -> Factor {
        Triangle(vec![4.0, 2.0, 5.0]).factor(2, 1e-9)
    }

    #[test]
    fn a_known_matrix_has_its_known_factor() {
        assert_eq!(example().lower, Triangle(vec![2.0, 1.0, 2.0]));
        assert!((example().log_determinant() - 16_f64.ln()).abs() < 1e-12);
        assert_eq!(example().multiply(&[3.0, 4.0]).collect::<Vec<_>>(), [6.0, 11.0]);
    }

    #[test]
    fn squared_norms_are_those_under_the_inverse() {
        // A⁻¹ = [[5, −2], [−2, 4]] / 16.
        let mut block = Block::new(2);
        block.load(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let norms = example().squared_norms(&mut block);
        assert_eq!(norms[..4], [5.0 / 16.0, 4.0 / 16.0, 5.0 / 16.0, 0.0]);
    }

    #[test]
    fn outer_products_add_up() {
        let mut block = Block::new(2);
        block.load(&[1.0, 2.0, 3.0, -1.0]);
        let mut sum = Triangle::zeros(2);
        sum.add_outer(&block);
        assert_eq!(sum, Triangle(vec![10.0, -1.0, 5.0]));
        sum.add_diagonal_and_divide([2.0, 1.0].into_iter(), 2.0);
        assert_eq!(sum, Triangle(vec![6.0, -0.5, 3.0]));
    }

    #[test]
    fn a_pivot_lost_to_rounding_is_put_back() {
        let factor = Triangle(vec![1.0, 1.0, 1.0 - 1e-15]).factor(2, 0.25);
        assert_eq!(factor.lower, Triangle(vec![1.0, 1.0, 0.5]));
    }
}
