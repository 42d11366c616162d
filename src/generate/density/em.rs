//! Expectation maximisation.
//!
//! With the prior of `prior.rs`, what a round can never decrease is the penalised log-likelihood
//!
//! ```text
//! Σₙ ln Σₖ wₖ N(xₙ | μₖ, Σₖ) + Σₖ ln p(Σₖ)
//! ```
//!
//! (Dempster, Laird & Rubin 1977, who treat posterior modes as well). The log-likelihood alone may
//! fall a little.

use rayon::prelude::*;

use super::component::Component;
use super::lanes::{Block, LANES};
use super::points::Points;
use super::prior::Prior;

/// At most this many rounds.
const ROUNDS: usize = 50;

/// The rounds end when one gains less than this per point, in nats.
const TOLERANCE: f64 = 1e-4;

/// A component with less than this mass, in points, is dropped. The others hold at least this
/// much, and the heaviest never has less than one point.
const LEAST_MASS: f64 = 0.5;

/// e⁻⁴⁰ is less than half the distance from one to the next larger number. So leaving out what is
/// that much less than the largest term changes no sum, and saves most of the work.
const NEGLIGIBLE: f64 = -40.0;

/// How far each component is responsible for each point.
struct Expectation {
    /// One row per point, one column per component; a row sums to one.
    responsibilities: Vec<f64>,
    /// Σₙ ln p(xₙ).
    log_likelihood: f64,
}

/// The components that fit `points` best, from `responsibilities` to start with.
pub(super) fn climb(points: Points, responsibilities: Vec<f64>, prior: &Prior) -> Vec<Component> {
    let mut components = maximise(points, &responsibilities, prior);
    let mut before = f64::NEG_INFINITY;
    for _ in 0..ROUNDS {
        let expectation = expect(points, &components);
        let reached = expectation.penalised(&components, prior);
        if reached - before < TOLERANCE * points.len() as f64 {
            break;
        }
        let better = maximise(points, &expectation.responsibilities, prior);
        // A dropped component takes its prior along, which makes another objective.
        before = if better.len() == components.len() { reached } else { f64::NEG_INFINITY };
        components = better;
    }
    components
}

impl Expectation {
    /// The penalised log-likelihood of the `components` that this was computed with.
    fn penalised(&self, components: &[Component], prior: &Prior) -> f64 {
        self.log_likelihood + components.iter().map(|one| one.log_prior(prior)).sum::<f64>()
    }
}

/// E step: rₙₖ = wₖ N(xₙ | μₖ, Σₖ) / p(xₙ) (Bishop, equation 9.23).
fn expect(points: Points, components: &[Component]) -> Expectation {
    let (columns, dimensions) = (components.len(), points.dimensions());
    let mut responsibilities = vec![0.0; points.len() * columns];
    let blocks = responsibilities.par_chunks_mut(LANES * columns).zip(points.values().par_chunks(LANES * dimensions));
    let log_densities: Vec<f64> = blocks
        .with_min_len(16)
        .map_init(
            || (Block::new(dimensions), Block::new(dimensions)),
            |(block, work), (rows, values)| {
                block.load(values);
                for (column, component) in components.iter().enumerate() {
                    let joint = component.log_joint(block, work);
                    for (row, joint) in rows.chunks_exact_mut(columns).zip(joint) {
                        row[column] = joint;
                    }
                }
                rows.chunks_exact_mut(columns).map(normalise).sum()
            },
        )
        .collect();
    // Added here and in order, for the same sum on any number of threads.
    Expectation { responsibilities, log_likelihood: log_densities.iter().sum() }
}

/// M step: the most probable components (Bishop, equations 9.24 to 9.26, with the prior).
fn maximise(points: Points, responsibilities: &[f64], prior: &Prior) -> Vec<Component> {
    let columns = responsibilities.len() / points.len();
    let column = |index: usize| responsibilities[index..].iter().step_by(columns).copied();
    let masses = (0..columns).map(|index| (index, column(index).sum::<f64>()));
    let kept: Vec<(usize, f64)> = masses.filter(|&(_, mass)| mass >= LEAST_MASS).collect();
    let total: f64 = kept.iter().map(|(_, mass)| mass).sum();
    let estimate = |&(index, mass): &(usize, f64)| Component::estimate(points, column(index), mass / total, prior);
    kept.par_iter().map(estimate).collect()
}

/// Turns the logarithms `terms` into their parts of the sum Σ exp(term), and returns its logarithm.
pub(super) fn normalise(terms: &mut [f64]) -> f64 {
    let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for term in terms.iter_mut() {
        let below = *term - largest;
        *term = if below < NEGLIGIBLE { 0.0 } else { libm::exp(below) };
    }
    let sum: f64 = terms.iter().sum();
    terms.iter_mut().for_each(|term| *term /= sum);
    largest + libm::log(sum)
}

#[cfg(test)]
mod tests {
    use super::super::clusters::Clusters;
    use super::*;
    use crate::random::{normals, stream};

    #[test]
    fn normalising_gives_parts_and_the_logarithm_of_the_sum() {
        let mut terms = [-1000.0, -1000.0 + 3_f64.ln(), -2000.0];
        let log_sum = normalise(&mut terms);
        assert!((log_sum - (4_f64.ln() - 1000.0)).abs() < 1e-9);
        for (part, expected) in terms.into_iter().zip([0.25, 0.75, 0.0]) {
            assert!((part - expected).abs() < 1e-9, "{part} for {expected}");
        }
    }

    #[test]
    fn no_round_decreases_the_penalised_log_likelihood() {
        for (dimensions, wanted) in [(1, 3), (3, 6), (9, 5)] {
            // Cubes of normals: no mixture fits them exactly, so that the rounds keep moving.
            let mut values = vec![0.0; 203 * dimensions];
            normals(&mut stream(5, "rounds", dimensions as u64), &mut values);
            values.iter_mut().for_each(|x| *x = x.powi(3));
            let points = Points::new(&values, dimensions);
            let clusters = Clusters::new(points, wanted, &mut stream(5, "clusters", 0));
            let prior = Prior::pooled(points, &clusters);
            let mut components = maximise(points, &clusters.responsibilities(), &prior);
            let mut reached = Vec::new();
            for round in 0..60 {
                assert_eq!(components.len(), wanted, "a dropped component would change what is compared");
                let expectation = expect(points, &components);
                let total: f64 = expectation.responsibilities.iter().sum();
                assert!((total - 203.0).abs() < 1e-9, "responsibilities sum to {total}");
                reached.push(expectation.penalised(&components, &prior) / 203.0);
                if let [.., before, now] = reached[..] {
                    assert!(now >= before - 1e-12, "round {round}: {before} to {now}");
                }
                components = maximise(points, &expectation.responsibilities, &prior);
            }
            assert!(reached[59] > reached[0] + 0.01, "no progress: {reached:?}");
        }
    }

    #[test]
    fn a_component_without_points_is_dropped() {
        let values = [0.0, 1.0, 2.0];
        let points = Points::new(&values, 1);
        let prior = Prior::pooled(points, &Clusters::new(points, 1, &mut stream(0, "clusters", 0)));
        let components = maximise(points, &[0.7, 0.0, 0.3, 0.8, 0.0, 0.2, 0.9, 0.0, 0.1], &prior);
        let weights: Vec<f64> = components.iter().map(Component::weight).collect();
        assert_eq!(weights.len(), 2);
        assert!((weights[0] - 0.8).abs() < 1e-12 && (weights[1] - 0.2).abs() < 1e-12, "{weights:?}");
    }
}
