//! Where expectation maximisation starts: k-means from k-means++ centres.

use rand::Rng;
use rayon::prelude::*;

use super::draw_index;
use super::lanes::{LANES, dot};
use super::points::Points;

/// Rounds of k-means. Expectation maximisation has to move the means anyway; these are cheap.
const ROUNDS: usize = 10;

/// Points that share the nearest centre.
#[derive(Debug)]
pub(super) struct Clusters {
    centres: Vec<Vec<f64>>,
    /// Index of the nearest centre of each point.
    assignment: Vec<usize>,
}

impl Clusters {
    /// Divides `points` into at most `wanted` clusters: fewer if fewer points are distinct.
    pub(super) fn new(points: Points, wanted: usize, rng: &mut impl Rng) -> Self {
        let mut centres = seeds(points, wanted, rng);
        let mut assignment = nearest(points, &centres);
        for _ in 0..ROUNDS {
            for (index, centre) in centres.iter_mut().enumerate() {
                let member = assignment.iter().map(|&own| if own == index { 1.0 } else { 0.0 });
                let (mean, members) = points.weighted_mean(member);
                // A centre that lost its points stays where it is; its component is dropped later.
                if members > 0.0 {
                    *centre = mean;
                }
            }
            let moved = nearest(points, &centres);
            if moved == assignment {
                break;
            }
            assignment = moved;
        }
        Self { centres, assignment }
    }

    /// For each point, the centre of its cluster.
    pub(super) fn centres(&self) -> impl Iterator<Item = &[f64]> {
        self.assignment.iter().map(|&index| self.centres[index].as_slice())
    }

    /// For each point, one for its own cluster and zero for the others.
    pub(super) fn responsibilities(&self) -> Vec<f64> {
        let mut all = vec![0.0; self.assignment.len() * self.centres.len()];
        for (row, &index) in all.chunks_exact_mut(self.centres.len()).zip(&self.assignment) {
            row[index] = 1.0;
        }
        all
    }
}

/// k-means++ (Arthur & Vassilvitskii, SODA 2007): each centre is a point drawn with a probability
/// proportional to its squared distance from the nearest of the earlier ones.
fn seeds(points: Points, wanted: usize, rng: &mut impl Rng) -> Vec<Vec<f64>> {
    let mut centres = Vec::with_capacity(wanted);
    let mut distances = vec![1.0; points.len()];
    while centres.len() < wanted {
        // None once every point is a centre.
        let Some(drawn) = draw_index(distances.iter().copied(), rng) else { break };
        let centre: Vec<f64> = points.get(drawn).iter().map(|&x| f64::from(x)).collect();
        for (distance, point) in distances.iter_mut().zip(points.iter()) {
            let new = squared_distance(point, &centre);
            *distance = if centres.is_empty() { new } else { new.min(*distance) };
        }
        centres.push(centre);
    }
    centres
}

/// Index of the nearest centre of each point, the first of equally near ones.
fn nearest(points: Points, centres: &[Vec<f64>]) -> Vec<usize> {
    let nearest_one = |point| {
        let distances = centres.iter().map(|centre| squared_distance(point, centre));
        distances.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(index, _)| index)
    };
    points.values().par_chunks_exact(points.dimensions()).with_min_len(64).map(nearest_one).collect()
}

fn squared_distance(point: &[f32], centre: &[f64]) -> f64 {
    let pieces = point.chunks(LANES).zip(centre.chunks(LANES));
    let squares = pieces.map(|(point, centre)| {
        let mut difference = [0.0; LANES];
        for (difference, (&x, c)) in difference.iter_mut().zip(point.iter().zip(centre)) {
            *difference = f64::from(x) - c;
        }
        dot(&difference, &difference)
    });
    squares.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::stream;

    #[test]
    fn distances_take_every_dimension() {
        let point: Vec<f32> = (0..11_u8).map(f32::from).collect();
        assert_eq!(squared_distance(&point, &[1.0; 11]), 1.0 + (0..10).map(|x| f64::from(x * x)).sum::<f64>());
    }

    #[test]
    fn separate_groups_become_clusters() {
        let values: Vec<f32> = (0..60_u8).map(|i| 100.0 * f32::from(i % 3) + f32::from(i) / 60.0).collect();
        for seed in 0..20 {
            let clusters = Clusters::new(Points::new(&values, 1), 3, &mut stream(seed, "clusters", 0));
            for (index, own) in clusters.assignment.iter().enumerate() {
                assert_eq!(*own, clusters.assignment[index % 3], "seed {seed}, point {index}");
            }
            let mut centres: Vec<f64> = clusters.centres.iter().map(|centre| centre[0]).collect();
            centres.sort_by(f64::total_cmp);
            for (centre, group) in centres.iter().zip([0.475, 100.0 + 29.5 / 60.0, 200.0 + 30.5 / 60.0]) {
                assert!((centre - group).abs() < 1e-4, "seed {seed}, {centre} for {group}");
            }
        }
    }

    #[test]
    fn there_are_no_more_centres_than_distinct_points() {
        let values = [1.0, 2.0, 1.0, 2.0, 2.0, 1.0];
        let clusters = Clusters::new(Points::new(&values, 1), 5, &mut stream(0, "clusters", 0));
        assert_eq!(clusters.centres.len(), 2);
        assert_eq!(clusters.responsibilities().iter().sum::<f64>(), 6.0);
        assert!(clusters.centres().zip(values).all(|(centre, x)| centre == [f64::from(x)]));
    }
}
