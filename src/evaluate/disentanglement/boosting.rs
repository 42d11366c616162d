//! Gradient-boosted trees for classification: how much each number of a code says about a factor.
//!
//! The estimator behind DCI in disentanglement_lib (Locatello et al. 2019) is scikit-learn's `GradientBoostingClassifier` with its
//! defaults; this is the same algorithm (Friedman 2001, algorithm 6, with one tree of depth 3 for each class and stage), so that
//! figures can be compared. Only there a few ties are broken at random.

use rayon::prelude::*;

const STAGES: usize = 100;
const DEPTH: usize = 3;
const LEARNING_RATE: f64 = 0.1;

/// Nodes of a tree of [`DEPTH`], heap order: the children of n are 2n + 1 and 2n + 2.
const NODES: usize = (1 << (DEPTH + 1)) - 1;

/// Values nearer to each other than this are not told apart, and nodes purer than that are not split: scikit-learn's limits.
const SAME_VALUE: f32 = 1e-7;
const PURE: f64 = f64::EPSILON;
/// Below it a leaf's denominator counts as 0.
const NO_CURVATURE: f64 = 1e-150;

/// What was learnt: predictions for other examples, and importances.
#[derive(Clone, Debug)]
pub struct Boosted {
    /// Share of each feature in the reduction of the squared error over all splits; they sum to 1, or are 0 without any split.
    pub importances: Vec<f64>,
    /// The most probable class of each test example.
    pub predictions: Vec<usize>,
}

/// Learns `classes` from `features` (columns of equal length) and predicts the examples of `test` (columns too).
pub fn boost(features: &[Vec<f32>], classes: &[usize], test: &[Vec<f32>]) -> Boosted {
    let count = classes.iter().max().map_or(0, |c| c + 1);
    let outputs = if count == 2 { 1 } else { count };
    let examples = test.first().map_or(0, Vec::len);
    let sorted: Vec<Vec<u32>> = features.iter().map(|column| ascending(column)).collect();
    let mut scores: Vec<Vec<f64>> =
        initial(classes, count, outputs).into_iter().map(|s| vec![s; classes.len()]).collect();
    let mut unseen: Vec<Vec<f64>> = scores.iter().map(|s| vec![s.first().copied().unwrap_or(0.0); examples]).collect();
    let mut importances = vec![0.0; features.len()];
    for _ in 0..STAGES {
        // All trees of a stage look at the scores before it.
        let residuals = residuals(&scores, classes);
        let trees: Vec<Tree> = residuals
            .par_iter()
            .enumerate()
            .map(|(output, residuals)| Tree::grow(features, &sorted, residuals, classes, output, outputs))
            .collect();
        for ((tree, scores), unseen) in trees.iter().zip(&mut scores).zip(&mut unseen) {
            tree.add_to(features, scores);
            tree.add_to(test, unseen);
        }
        // In the order of the classes, so that threads change no sum.
        trees.iter().flat_map(|tree| &tree.gains).for_each(|&(feature, gain)| importances[feature] += gain);
    }
    let total: f64 = importances.iter().sum();
    if total > 0.0 {
        importances.iter_mut().for_each(|i| *i /= total);
    }
    let predictions = (0..examples).map(|i| predicted(&unseen, i)).collect();
    Boosted { importances, predictions }
}

/// Log-odds of the classes' shares: of the second of two, or of each.
fn initial(classes: &[usize], count: usize, outputs: usize) -> Vec<f64> {
    let margin = f64::from(f32::EPSILON);
    let share = |class| {
        let share = classes.iter().filter(|c| **c == class).count() as f64 / classes.len() as f64;
        share.clamp(margin, 1.0 - margin)
    };
    match outputs {
        1 => vec![(share(1) / (1.0 - share(1))).ln()],
        _ => (0..count).map(|class| share(class).ln()).collect(),
    }
}

/// y − p of each output and example.
fn residuals(scores: &[Vec<f64>], classes: &[usize]) -> Vec<Vec<f64>> {
    if let [scores] = scores {
        let residual = |(score, class): (&f64, &usize)| *class as f64 - 1.0 / (1.0 + (-score).exp());
        return vec![scores.iter().zip(classes).map(residual).collect()];
    }
    let mut residuals = vec![vec![0.0; classes.len()]; scores.len()];
    for (i, class) in classes.iter().enumerate() {
        let largest = scores.iter().map(|s| s[i]).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s[i] - largest).exp()).sum();
        for (output, (residuals, scores)) in residuals.iter_mut().zip(scores).enumerate() {
            residuals[i] = f64::from(u8::from(output == *class)) - (scores[i] - largest).exp() / sum;
        }
    }
    residuals
}

/// The class of the largest score, the first of equals.
fn predicted(scores: &[Vec<f64>], example: usize) -> usize {
    match scores {
        [scores] => usize::from(scores[example] > 0.0),
        _ => (0..scores.len()).rev().max_by(|a, b| scores[*a][example].total_cmp(&scores[*b][example])).unwrap_or(0),
    }
}

fn ascending(column: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..column.len() as u32).collect();
    order.sort_by(|a, b| column[*a as usize].total_cmp(&column[*b as usize]));
    order
}

/// One regression tree on the residuals of a class.
struct Tree {
    /// (feature, threshold): left where the value is at most the threshold; `None` in leaves.
    splits: [Option<(usize, f64)>; NODES],
    /// What a leaf adds to the score.
    values: [f64; NODES],
    /// (feature, reduction of the squared error for each example) of every split.
    gains: Vec<(usize, f64)>,
}

/// Sums over the examples of a node.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    residual: f64,
    square: f64,
}

impl Sums {
    fn add(&mut self, residual: f64) {
        self.count += 1.0;
        self.residual += residual;
        self.square += residual * residual;
    }

    /// Σ (r − mean)².
    fn squared_error(self) -> f64 {
        self.square - self.residual * self.residual / self.count
    }
}

/// The best split of a node so far.
#[derive(Clone, Copy)]
struct Best {
    proxy: f64,
    feature: usize,
    threshold: f64,
}

impl Tree {
    fn grow(
        features: &[Vec<f32>],
        sorted: &[Vec<u32>],
        residuals: &[f64],
        classes: &[usize],
        output: usize,
        outputs: usize,
    ) -> Self {
        let mut tree = Self { splits: [None; NODES], values: [0.0; NODES], gains: Vec::new() };
        let mut node_of = vec![0u8; residuals.len()];
        for depth in 0..DEPTH {
            let level = (1 << depth) - 1..(1 << (depth + 1)) - 1;
            let before = sums(&node_of, residuals);
            let best = best_splits(features, sorted, residuals, &node_of, &before, level.clone());
            for node in level {
                tree.splits[node] = best[node].map(|best| (best.feature, best.threshold));
            }
            for (i, node) in node_of.iter_mut().enumerate() {
                if let Some((feature, threshold)) = tree.splits[usize::from(*node)] {
                    *node = 2 * *node + if f64::from(features[feature][i]) <= threshold { 1 } else { 2 };
                }
            }
            let after = sums(&node_of, residuals);
            for (node, best) in best.iter().enumerate() {
                if let Some(best) = best {
                    let [left, right] = [2 * node + 1, 2 * node + 2].map(|child| after[child].squared_error());
                    let gain = before[node].squared_error() - left - right;
                    tree.gains.push((best.feature, gain / residuals.len() as f64));
                }
            }
        }
        tree.set_values(&node_of, residuals, classes, output, outputs);
        tree
    }

    /// One Newton step in each leaf: Σ r / Σ p (1 − p), times (K − 1) / K where each of K classes has a tree.
    fn set_values(&mut self, node_of: &[u8], residuals: &[f64], classes: &[usize], output: usize, outputs: usize) {
        let mut curvature = [0.0; NODES];
        for ((node, residual), class) in node_of.iter().zip(residuals).zip(classes) {
            let truth = if outputs == 1 { *class as f64 } else { f64::from(u8::from(*class == output)) };
            let p = truth - residual;
            curvature[usize::from(*node)] += p * (1.0 - p);
        }
        let factor = if outputs == 1 { 1.0 } else { (outputs as f64 - 1.0) / outputs as f64 };
        for (node, sums) in sums(node_of, residuals).iter().enumerate() {
            let step = factor * sums.residual / curvature[node];
            self.values[node] = if curvature[node].abs() < NO_CURVATURE { 0.0 } else { LEARNING_RATE * step };
        }
    }

    /// Adds what the leaves say of each example.
    fn add_to(&self, features: &[Vec<f32>], scores: &mut [f64]) {
        for (i, score) in scores.iter_mut().enumerate() {
            let mut node = 0;
            while let Some((feature, threshold)) = self.splits[node] {
                node = 2 * node + if f64::from(features[feature][i]) <= threshold { 1 } else { 2 };
            }
            *score += self.values[node];
        }
    }
}

fn sums(node_of: &[u8], residuals: &[f64]) -> [Sums; NODES] {
    let mut sums = [Sums::default(); NODES];
    node_of.iter().zip(residuals).for_each(|(node, residual)| sums[usize::from(*node)].add(*residual));
    sums
}

/// The split of each node of a level that reduces the squared error most. All nodes are served by one pass over each sorted column.
fn best_splits(
    features: &[Vec<f32>],
    sorted: &[Vec<u32>],
    residuals: &[f64],
    node_of: &[u8],
    totals: &[Sums; NODES],
    level: std::ops::Range<usize>,
) -> [Option<Best>; NODES] {
    let mut best: [Option<Best>; NODES] = [None; NODES];
    let open: [bool; NODES] = std::array::from_fn(|node| {
        let Sums { count, .. } = totals[node];
        level.contains(&node) && count >= 2.0 && totals[node].squared_error() / count > PURE
    });
    for (feature, (column, order)) in features.iter().zip(sorted).enumerate() {
        // Of each node what lies left so far: the last value, and how many with what sum.
        let mut left = [(f32::NEG_INFINITY, 0.0, 0.0); NODES];
        for &i in order {
            let i = i as usize;
            let node = usize::from(node_of[i]);
            if !open[node] {
                continue;
            }
            let (value, (last, count, sum)) = (column[i], &mut left[node]);
            if *count > 0.0 && value > *last + SAME_VALUE {
                let right = (totals[node].count - *count, totals[node].residual - *sum);
                let difference = right.0 * *sum - *count * right.1;
                let proxy = difference * difference / (*count * right.0);
                if best[node].is_none_or(|best| proxy > best.proxy) {
                    best[node] = Some(Best { proxy, feature, threshold: between(*last, value) });
                }
            }
            *last = value;
            *count += 1.0;
            *sum += residuals[i];
        }
    }
    best
}

/// Half-way from a to b, but less than b.
fn between(a: f32, b: f32) -> f64 {
    let middle = f64::from(a) / 2.0 + f64::from(b) / 2.0;
    if middle < f64::from(b) && middle.is_finite() { middle } else { f64::from(a) }
}
