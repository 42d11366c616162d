//! A density of latents to sample from: a mixture of Gaussians with full covariances.
//!
//! ```text
//! p(x) = Σₖ wₖ N(x | μₖ, Σₖ),   wₖ > 0,   Σₖ wₖ = 1
//! ```
//!
//! It is fitted to the latents of present entities, whose aggregate is not the prior: samples of
//! N(0, I) would mostly be latents that the decoder has never met. The fit is expectation
//! maximisation (Dempster, Laird & Rubin, "Maximum likelihood from incomplete data via the EM
//! algorithm", JRSS B 39(1), 1977; Bishop, "Pattern Recognition and Machine Learning", 2006,
//! section 9.2) from a k-means++ start, with a prior on the covariances that keeps each of them
//! positive definite whatever the points are: see `prior.rs`.
//!
//! The result depends on nothing but the points and the seed: neither on the number of threads,
//! nor on the platform's mathematics (logarithms and exponentials are those of `libm`).

mod cholesky;
mod clusters;
mod component;
mod em;
mod lanes;
mod points;
mod prior;

use rand::Rng;
use thiserror::Error;

use crate::random;
use clusters::Clusters;
use component::Component;
use lanes::Block;
use points::Points;
use prior::Prior;

/// A component gets at least this many points per dimension on average; fewer components are
/// fitted where the points would not suffice. A covariance of D dimensions has D(D + 1)/2 entries,
/// and 2·D points give four numbers for each of them.
const POINTS_PER_DIMENSION: usize = 2;

/// A mixture of Gaussians with full covariances, fitted to points.
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianMixture {
    dimensions: usize,
    components: Vec<Component>,
}

/// Why no mixture can be fitted.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DensityError {
    #[error("there is no point to fit a density to: pass at least one latent, from more scenes if these hold none")]
    NoPoints,
    #[error("a mixture of 0 components has no density: ask for at least 1")]
    NoComponents,
    #[error(
        "{length} numbers do not divide into points of {dimensions} dimensions: pass whole points, one after another"
    )]
    Ragged { length: usize, dimensions: usize },
    #[error(
        "dimension {dimension} of point {point} is {value}: leave such points out, or look for the step of training \
         that made the parameters of the model diverge"
    )]
    NotFinite { point: usize, dimension: usize, value: f32 },
}

impl GaussianMixture {
    /// Fits at most `components` Gaussians to `points`, which lie one after another.
    ///
    /// Fewer are fitted where there are fewer than `2 · dimensions` points for each, or fewer
    /// distinct points than components, and a component that loses all its points is dropped. One
    /// point, equal points and constant dimensions are no error: they make narrow Gaussians.
    pub fn fit(points: &[f32], dimensions: usize, components: usize, seed: u64) -> Result<Self, DensityError> {
        let points = check(points, dimensions, components)?;
        let affordable = points.len() / (POINTS_PER_DIMENSION * dimensions);
        let mut rng = random::stream(seed, "density", 0);
        let clusters = Clusters::new(points, components.min(affordable).max(1), &mut rng);
        let prior = Prior::pooled(points, &clusters);
        Ok(Self { dimensions, components: em::climb(points, clusters.responsibilities(), &prior) })
    }

    /// Number of Gaussians: at least one, at most as many as were asked for.
    pub fn components(&self) -> usize {
        self.components.len()
    }

    /// Number of dimensions of a point.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Draws one point: a component by its weight, then μ + L ε with Σ = L Lᵀ and ε ~ N(0, I).
    ///
    /// # Panics
    ///
    /// If `out` has not [`Self::dimensions`] numbers.
    pub fn sample(&self, rng: &mut impl Rng, out: &mut [f32]) {
        assert_eq!(out.len(), self.dimensions, "a sample has as many numbers as the mixture has dimensions");
        // A mixture has a component and every weight is positive, so that there is always an index.
        let drawn = draw_index(self.components.iter().map(Component::weight), rng).unwrap_or(0);
        let mut noise = vec![0.0; self.dimensions];
        random::normals(rng, &mut noise);
        self.components[drawn].place(&noise, out);
    }

    /// ln p(`point`), in nats; −∞ for a point that is not finite.
    ///
    /// # Panics
    ///
    /// If `point` has not [`Self::dimensions`] numbers.
    pub fn log_density(&self, point: &[f32]) -> f64 {
        assert_eq!(point.len(), self.dimensions, "a point has as many numbers as the mixture has dimensions");
        if !point.iter().all(|x| x.is_finite()) {
            return f64::NEG_INFINITY;
        }
        let mut block = Block::new(self.dimensions);
        block.load(point);
        let mut work = Block::new(self.dimensions);
        let mut terms: Vec<f64> = self.components.iter().map(|one| one.log_joint(&block, &mut work)[0]).collect();
        em::normalise(&mut terms)
    }
}

/// The points, if they can be fitted.
fn check(values: &[f32], dimensions: usize, components: usize) -> Result<Points<'_>, DensityError> {
    if values.is_empty() {
        return Err(DensityError::NoPoints);
    }
    if components == 0 {
        return Err(DensityError::NoComponents);
    }
    // No positive length is a multiple of 0 dimensions.
    if !values.len().is_multiple_of(dimensions) {
        return Err(DensityError::Ragged { length: values.len(), dimensions });
    }
    if let Some((index, &value)) = values.iter().enumerate().find(|(_, x)| !x.is_finite()) {
        return Err(DensityError::NotFinite { point: index / dimensions, dimension: index % dimensions, value });
    }
    Ok(Points::new(values, dimensions))
}

/// Draws an index with a probability proportional to its weight; none if no weight is positive.
fn draw_index(weights: impl Iterator<Item = f64> + Clone, rng: &mut impl Rng) -> Option<usize> {
    let mut left = rng.random::<f64>() * weights.clone().sum::<f64>();
    let mut drawn = None;
    for (index, weight) in weights.enumerate().filter(|&(_, weight)| weight > 0.0) {
        // Kept when rounding lets the sum end before `left` is used up.
        drawn = Some(index);
        left -= weight;
        if left < 0.0 {
            break;
        }
    }
    drawn
}

#[cfg(test)]
mod tests;
