//! Points of one number of dimensions, one after another.

use std::slice::ChunksExact;

/// At least one point of at least one dimension, all numbers finite.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points<'a> {
    values: &'a [f32],
    dimensions: usize,
}

impl<'a> Points<'a> {
    pub(super) fn new(values: &'a [f32], dimensions: usize) -> Self {
        Self { values, dimensions }
    }

    pub(super) fn values(self) -> &'a [f32] {
        self.values
    }

    pub(super) fn dimensions(self) -> usize {
        self.dimensions
    }

    /// Number of points.
    pub(super) fn len(self) -> usize {
        self.values.len() / self.dimensions
    }

    pub(super) fn get(self, index: usize) -> &'a [f32] {
        &self.values[index * self.dimensions..][..self.dimensions]
    }

    pub(super) fn iter(self) -> ChunksExact<'a, f32> {
        self.values.chunks_exact(self.dimensions)
    }

    /// The mean with one weight for each point, and the sum of the weights. A sum of zero leaves
    /// the mean at the origin.
    pub(super) fn weighted_mean(self, weights: impl Iterator<Item = f64>) -> (Vec<f64>, f64) {
        let mut mean = vec![0.0; self.dimensions];
        let mut total = 0.0;
        for (point, weight) in self.iter().zip(weights).filter(|&(_, weight)| weight > 0.0) {
            total += weight;
            for (sum, &x) in mean.iter_mut().zip(point) {
                *sum += weight * f64::from(x);
            }
        }
        if total > 0.0 {
            mean.iter_mut().for_each(|sum| *sum /= total);
        }
        (mean, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weighted_mean_ignores_points_without_weight() {
        let points = Points::new(&[1.0, 2.0, 5.0, 6.0, 100.0, 100.0], 2);
        assert_eq!(points.weighted_mean([3.0, 1.0, 0.0].into_iter()), (vec![2.0, 3.0], 4.0));
        assert_eq!(points.weighted_mean([0.0; 3].into_iter()), (vec![0.0, 0.0], 0.0));
    }
}
