//! What is believed of a covariance before any point is seen.
//!
//! The likelihood of a mixture is unbounded: a component on a single point may become arbitrarily
//! narrow (Bishop, "Pattern Recognition and Machine Learning", 2006, section 9.2.1). Hence every
//! covariance has an inverse Wishart prior, written without its constant as
//!
//! ```text
//! ln p(Σ) = −ν/2 (ln |Σ| + tr(T Σ⁻¹)),   T diagonal,
//! ```
//!
//! under which a component with mass N and scatter S has the most probable covariance
//!
//! ```text
//! Σ = (S + ν T) / (N + ν),
//! ```
//!
//! as if ν more points of covariance T had been seen (Fraley & Raftery, "Bayesian regularization
//! for normal mixture estimation and model-based clustering", Journal of Classification 24, 2007).
//! ν is the number of dimensions: a component of a few points takes most of its covariance from T,
//! one of many hardly anything. T holds the variances within the clusters that the fit starts
//! from. So a single component keeps the variances of the points, and has its correlations reduced
//! by the factor N / (N + ν).

use super::cholesky::Factor;
use super::clusters::Clusters;
use super::lanes::{Block, LANES};
use super::points::Points;

/// No variance of T is below this part of the mean variance of the points, which bounds the
/// condition of every covariance.
const RELATIVE_FLOOR: f64 = 1e-6;

/// No variance of T is below this. It is the floor of points that are all zero, and nothing beside
/// the unit variance of the prior that latents are trained with.
const ABSOLUTE_FLOOR: f64 = 1e-12;

/// An inverse Wishart prior of a covariance, with a diagonal scale.
#[derive(Debug)]
pub(super) struct Prior {
    /// ν: how many points the prior is worth.
    strength: f64,
    /// The diagonal of T.
    variances: Vec<f64>,
}

impl Prior {
    /// The prior whose variances are those of `points` within `clusters`.
    pub(super) fn pooled(points: Points, clusters: &Clusters) -> Self {
        let dimensions = points.dimensions();
        let (mean, _) = points.weighted_mean(std::iter::repeat(1.0));
        let around_mean = mean_squares(points, std::iter::repeat(mean.as_slice()));
        let largest = points.values().iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
        // Equal points far from the origin differ from their mean by an error of rounding.
        let resolution = f64::from(largest) * f64::from(f32::EPSILON);
        let floor = (RELATIVE_FLOOR * around_mean.iter().sum::<f64>() / dimensions as f64)
            .max(resolution * resolution)
            .max(ABSOLUTE_FLOOR);
        let within = mean_squares(points, clusters.centres());
        Self { strength: dimensions as f64, variances: within.into_iter().map(|v| v.max(floor)).collect() }
    }

    /// ν.
    pub(super) fn strength(&self) -> f64 {
        self.strength
    }

    /// The diagonal of ν T, a scatter.
    pub(super) fn scatter(&self) -> impl Iterator<Item = f64> {
        self.variances.iter().map(|variance| self.strength * variance)
    }

    /// The least eigenvalue that a covariance can have which `mass` points share with the prior.
    pub(super) fn least_eigenvalue(&self, mass: f64) -> f64 {
        self.scatter().fold(f64::INFINITY, f64::min) / (mass + self.strength)
    }

    /// ln p(Σ), without its constant, for the covariance that `factor` stands for.
    ///
    /// tr(T Σ⁻¹) is the sum of the squared norms under Σ⁻¹ of the columns of √T.
    pub(super) fn log_density(&self, factor: &Factor) -> f64 {
        let mut trace = 0.0;
        let mut columns = Block::new(self.variances.len());
        for first in (0..self.variances.len()).step_by(LANES) {
            columns.clear_from(0);
            for (lane, dimension) in (first..self.variances.len()).take(LANES).enumerate() {
                columns.dimensions_mut()[dimension][lane] = self.variances[dimension].sqrt();
            }
            trace += factor.squared_norms(&mut columns).iter().sum::<f64>();
        }
        -0.5 * self.strength * (factor.log_determinant() + trace)
    }
}

/// Per dimension, the mean square of the points around their `centres`.
fn mean_squares<'a>(points: Points, centres: impl Iterator<Item = &'a [f64]>) -> Vec<f64> {
    let mut sums = vec![0.0; points.dimensions()];
    for (point, centre) in points.iter().zip(centres) {
        for ((sum, &x), c) in sums.iter_mut().zip(point).zip(centre) {
            *sum += (f64::from(x) - c) * (f64::from(x) - c);
        }
    }
    sums.iter_mut().for_each(|sum| *sum /= points.len() as f64);
    sums
}

#[cfg(test)]
mod tests {
    use super::super::cholesky::Triangle;
    use super::*;
    use crate::random::stream;

    fn pooled(values: &[f32], dimensions: usize) -> Prior {
        let points = Points::new(values, dimensions);
        Prior::pooled(points, &Clusters::new(points, 2, &mut stream(0, "prior", 0)))
    }

    #[test]
    fn variances_are_those_within_the_clusters() {
        let prior = pooled(&[-1.0, 0.0, 1.0, 0.0, 99.0, 0.0, 101.0, 0.0], 2);
        // The mean variance is (1 + 50²) / 2: half of 2501, as the other dimension is constant.
        assert_eq!(prior.variances, [1.0, 1250.5 * RELATIVE_FLOOR]);
        assert_eq!(prior.scatter().collect::<Vec<_>>(), [2.0, 2.0 * 1250.5 * RELATIVE_FLOOR]);
    }

    #[test]
    fn equal_points_have_a_positive_variance() {
        assert_eq!(pooled(&[0.0; 4], 1).variances, [ABSOLUTE_FLOOR]);
        assert!(pooled(&[1e30; 4], 1).variances[0] > 1e45);
    }

    #[test]
    fn the_log_density_is_that_of_the_formula() {
        let dimensions = LANES + 2;
        let prior = Prior { strength: 3.0, variances: vec![2.0; dimensions] };
        let mut covariance = Triangle::zeros(dimensions);
        covariance.add_diagonal_and_divide(std::iter::repeat_n(4.0, dimensions), 1.0);
        let expected = -1.5 * (10.0 * 4_f64.ln() + 10.0 * 2.0 / 4.0);
        let computed = prior.log_density(&covariance.factor(dimensions, 1e-9));
        assert!((computed - expected).abs() < 1e-9, "{computed} for {expected}");
    }
}
