//! One Gaussian of a mixture.

use std::f64::consts::TAU;

use super::cholesky::{Factor, Triangle};
use super::lanes::{Block, LANES, Lanes};
use super::points::Points;
use super::prior::Prior;

/// A weighted Gaussian: w N(x | μ, Σ) with Σ = L Lᵀ.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Component {
    weight: f64,
    mean: Vec<f64>,
    /// L.
    factor: Factor,
    /// ln w − D/2 ln 2π − ½ ln |Σ|, the value of [`Self::log_joint`] at the mean.
    log_peak: f64,
}

impl Component {
    pub(super) fn new(weight: f64, mean: Vec<f64>, factor: Factor) -> Self {
        let log_volume = mean.len() as f64 * libm::log(TAU) + factor.log_determinant();
        Self { weight, mean, factor, log_peak: libm::log(weight) - 0.5 * log_volume }
    }

    /// The most probable Gaussian of the points that belong to it as far as `responsibilities` say.
    pub(super) fn estimate(
        points: Points,
        responsibilities: impl Iterator<Item = f64> + Clone,
        weight: f64,
        prior: &Prior,
    ) -> Self {
        let (mean, mass) = points.weighted_mean(responsibilities.clone());
        let mut covariance = scatter(points, responsibilities, &mean);
        covariance.add_diagonal_and_divide(prior.scatter(), mass + prior.strength());
        let factor = covariance.factor(points.dimensions(), prior.least_eigenvalue(mass));
        Self::new(weight, mean, factor)
    }

    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    /// w, μ and the packed lower half of Σ.
    #[cfg(test)]
    pub(super) fn parameters(&self) -> Vec<f64> {
        [vec![self.weight], self.mean.clone(), self.factor.product()].concat()
    }

    /// ln p(Σ) of `prior`.
    pub(super) fn log_prior(&self, prior: &Prior) -> f64 {
        prior.log_density(&self.factor)
    }

    /// ln w N(x | μ, Σ) for each point x of `block`; `work` is a block to compute in.
    pub(super) fn log_joint(&self, block: &Block, work: &mut Block) -> Lanes {
        let dimensions = work.dimensions_mut().iter_mut().zip(block.dimensions());
        for ((difference, x), mean) in dimensions.zip(&self.mean) {
            *difference = x.map(|x| x - mean);
        }
        self.factor.squared_norms(work).map(|norm| self.log_peak - 0.5 * norm)
    }

    /// Writes μ + L ε.
    pub(super) fn place(&self, noise: &[f32], out: &mut [f32]) {
        for ((out, mean), offset) in out.iter_mut().zip(&self.mean).zip(self.factor.multiply(noise)) {
            *out = (mean + offset) as f32;
        }
    }
}

/// Σ r (x − μ)(x − μ)ᵀ.
fn scatter(points: Points, responsibilities: impl Iterator<Item = f64>, mean: &[f64]) -> Triangle {
    let mut sum = Triangle::zeros(points.dimensions());
    let mut block = Block::new(points.dimensions());
    let mut lane = 0;
    // Most responsibilities are zero, so that the others are gathered into full blocks.
    for (point, responsibility) in points.iter().zip(responsibilities).filter(|&(_, r)| r > 0.0) {
        let root = responsibility.sqrt();
        block.set(lane, point.iter().zip(mean).map(|(&x, mean)| root * (f64::from(x) - mean)));
        lane += 1;
        if lane == LANES {
            sum.add_outer(&block);
            lane = 0;
        }
    }
    block.clear_from(lane);
    sum.add_outer(&block);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scatter_is_that_of_the_definition_for_any_number_of_points() {
        for count in 1..=2 * LANES + 1 {
            let values: Vec<f32> = (0..2 * count).map(|i| (i * i % 7) as f32).collect();
            let weights = (0..count).map(|i| (i % 3) as f64);
            let mut expected = [0.0; 3];
            for (point, weight) in values.chunks_exact(2).zip(weights.clone()) {
                let (x, y) = (f64::from(point[0]) - 3.0, f64::from(point[1]) - 2.0);
                for (sum, product) in expected.iter_mut().zip([x * x, x * y, y * y]) {
                    *sum += weight * product;
                }
            }
            let computed = scatter(Points::new(&values, 2), weights, &[3.0, 2.0]);
            for (computed, expected) in computed.entries().iter().zip(expected) {
                assert!((computed - expected).abs() < 1e-9, "{count} points: {computed} for {expected}");
            }
        }
    }
}
