//! Agreement between two clusterings of the same pixels, corrected for chance.
//!
//! Both indices are functions of the contingency table alone: they do not depend on how the
//! clusters are numbered, are symmetric in the two clusterings, are 1 for identical clusterings and
//! 0 on average for independent ones. Degenerate tables follow scikit-learn, whose values the golden
//! tests hold these functions to.

use super::log_factorials::LogFactorials;

/// How many labels a `u8` can name.
const LABELS: usize = 256;

/// Logarithm of a probability below which a term of the expected mutual information is dropped.
///
/// A term is at most `ln n` times its probability. Even 256 clusters on 256 × 256 pixels, 2²⁴ terms
/// with `ln n` = 11, then lose less than 2²⁴ · 11 · e⁻⁶⁰ = 2·10⁻¹⁸ nats, far under a rounding error,
/// and are spared most of their logarithms and exponentials.
const NEGLIGIBLE: f64 = -60.0;

/// Counts of how often each pair of labels meets on one pixel: `n_ij` in the papers.
///
/// Collect it from `(truth, predicted)` pairs. Rows and columns are the labels that occur, in order
/// of their value, so that gaps in the numbering cost nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contingency {
    /// Row-major cells.
    cells: Vec<u64>,
    row_sums: Vec<u64>,
    column_sums: Vec<u64>,
    row_labels: Vec<u8>,
    column_labels: Vec<u8>,
    total: u64,
}

impl Contingency {
    /// The labels of the first clustering that occur, ascending; they name the rows.
    #[must_use]
    pub fn row_labels(&self) -> &[u8] {
        &self.row_labels
    }

    /// The labels of the second clustering that occur, ascending; they name the columns.
    #[must_use]
    pub fn column_labels(&self) -> &[u8] {
        &self.column_labels
    }

    /// How many pixels carry each label of the first clustering: `a_i`.
    #[must_use]
    pub fn row_sums(&self) -> &[u64] {
        &self.row_sums
    }

    /// How many pixels carry each label of the second clustering: `b_j`.
    #[must_use]
    pub fn column_sums(&self) -> &[u64] {
        &self.column_sums
    }

    /// The rows of the table, one per row label: `n_i1, n_i2, …`.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        // The width is zero only for a table with no cell, which `chunks_exact` then never splits.
        self.cells.chunks_exact(self.column_sums.len().max(1))
    }

    /// The number of pixels: `n`.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether the two clusterings are the same up to the names of their clusters.
    fn is_bijection(&self) -> bool {
        let occupied = self.cells.iter().filter(|&&count| count > 0).count();
        occupied == self.row_sums.len() && occupied == self.column_sums.len()
    }
}

impl FromIterator<(u8, u8)> for Contingency {
    fn from_iter<I: IntoIterator<Item = (u8, u8)>>(pairs: I) -> Self {
        let mut sparse = vec![0u64; LABELS * LABELS];
        let (mut row_sums, mut column_sums) = ([0u64; LABELS], [0u64; LABELS]);
        let mut total = 0;
        for (row, column) in pairs {
            sparse[usize::from(row) * LABELS + usize::from(column)] += 1;
            row_sums[usize::from(row)] += 1;
            column_sums[usize::from(column)] += 1;
            total += 1;
        }
        let occurring =
            |sums: &[u64; LABELS]| -> Vec<u8> { (0..=u8::MAX).filter(|&label| sums[usize::from(label)] > 0).collect() };
        let (row_labels, column_labels) = (occurring(&row_sums), occurring(&column_sums));
        let mut cells = Vec::with_capacity(row_labels.len() * column_labels.len());
        for &label in &row_labels {
            let row = &sparse[usize::from(label) * LABELS..][..LABELS];
            cells.extend(column_labels.iter().map(|&column| row[usize::from(column)]));
        }
        let of_occurring = |sums: [u64; LABELS]| sums.into_iter().filter(|&sum| sum > 0).collect();
        Self {
            cells,
            row_sums: of_occurring(row_sums),
            column_sums: of_occurring(column_sums),
            row_labels,
            column_labels,
            total,
        }
    }
}

/// Adjusted Rand index (Hubert & Arabie 1985, equation 5), at most 1 and, as Chacón & Rastrojo
/// (2022) show, at least −1/2.
///
/// The share of pixel pairs on which two clusterings agree (together in both, or apart in both),
/// rescaled so that its expectation under random clusterings with the same cluster sizes is 0. With
/// the ordered pairs that are together in both (`tp`), apart in both (`tn`) and together in one only
/// (`fp`, `fn`),
///
/// ```text
/// ARI = 2 (tp·tn − fn·fp) / ((tp + fn)(fn + tn) + (tp + fp)(fp + tn))
/// ```
///
/// Clusterings without a single pair of disagreement score 1, the empty ones included.
#[must_use]
pub fn adjusted_rand_index(table: &Contingency) -> f64 {
    // Squares of pixel counts are exact in `u128`; rounding starts with the products of pairs.
    let squares = |counts: &[u64]| -> u128 { counts.iter().map(|&c| u128::from(c).pow(2)).sum() };
    let total = u128::from(table.total);
    let together_in_both = squares(&table.cells);
    let together_in_rows = squares(&table.row_sums);
    let together_in_columns = squares(&table.column_sums);

    let rows_only = together_in_rows - together_in_both;
    let columns_only = together_in_columns - together_in_both;
    if rows_only == 0 && columns_only == 0 {
        return 1.0;
    }
    // Not negative: the pairs together in rows or in columns are part of all the pairs.
    let neither = total * total + together_in_both - together_in_rows - together_in_columns;
    let both = (together_in_both - total) as f64;
    let (rows_only, columns_only) = (rows_only as f64, columns_only as f64);
    let neither = neither as f64;

    2.0 * (both * neither - rows_only * columns_only)
        / ((both + rows_only) * (rows_only + neither) + (both + columns_only) * (columns_only + neither))
}

/// Adjusted mutual information (Vinh, Epps & Bailey 2010), at most 1.
///
/// ```text
/// AMI = (I(U; V) − E[I]) / ((H(U) + H(V)) / 2 − E[I])
/// ```
///
/// with the arithmetic mean of the two entropies, scikit-learn's default, and the expectation under
/// random clusterings with the same cluster sizes. `factorials` is grown to the number of pixels
/// once and is meant to be kept from scene to scene.
///
/// Clusterings equal up to names score 1, the empty ones included; otherwise a clustering with a
/// single cluster tells nothing and scores 0.
#[must_use]
pub fn adjusted_mutual_information(table: &Contingency, factorials: &mut LogFactorials) -> f64 {
    // Deciding these cases exactly also spares the general one a 0/0: only for identical
    // clusterings can the expectation reach the mean entropy.
    if table.is_bijection() {
        return 1.0;
    }
    if table.row_sums.len() == 1 || table.column_sums.len() == 1 {
        return 0.0;
    }
    let expected = expected_mutual_information(table, factorials);
    let mean_entropy = 0.5 * (entropy(&table.row_sums, table.total) + entropy(&table.column_sums, table.total));
    (mutual_information(table) - expected) / (mean_entropy - expected)
}

/// Entropy in nats of the label of a random pixel.
fn entropy(sums: &[u64], total: u64) -> f64 {
    let total = total as f64;
    -sums.iter().map(|&count| count as f64 / total).map(|share| share * share.ln()).sum::<f64>()
}

/// Mutual information in nats between the two labels of a random pixel.
fn mutual_information(table: &Contingency) -> f64 {
    let total = table.total as f64;
    let mut sum = 0.0;
    for (cells, &a) in table.rows().zip(&table.row_sums) {
        for (&count, &b) in cells.iter().zip(&table.column_sums) {
            if count > 0 {
                let count = count as f64;
                sum += count / total * (total * count / (a as f64 * b as f64)).ln();
            }
        }
    }
    sum
}

/// Expectation of the mutual information, in nats, over clusterings with the sizes of `table`.
///
/// The permutation model of Vinh, Epps & Bailey 2010: given its margins, each cell is
/// hypergeometric. The cells of one row count at most its `a_i` pixels, so all rows and columns
/// together cost `O(max(R, C) · n)`.
fn expected_mutual_information(table: &Contingency, factorials: &mut LogFactorials) -> f64 {
    let ln_factorial = factorials.up_to(table.total);
    let mut sum = 0.0;
    for &a in &table.row_sums {
        for &b in &table.column_sums {
            sum += expected_cell(a, b, table.total, ln_factorial);
        }
    }
    sum
}

/// One cell's part of [`expected_mutual_information`], with margins `a` and `b` of `n` pixels.
fn expected_cell(a: u64, b: u64, n: u64, ln_factorial: &[f64]) -> f64 {
    let ln_fact = |k: u64| ln_factorial[k as usize];
    // What does not depend on the count k of a term, out of the loop.
    let ln_margins = ln_fact(a) + ln_fact(b) + ln_fact(n - a) + ln_fact(n - b) - ln_fact(n);
    let odds = n as f64 / (a as f64 * b as f64);
    let mut sum = 0.0;
    for k in (a + b).saturating_sub(n).max(1)..=a.min(b) {
        let ln_probability = ln_margins - ln_fact(k) - ln_fact(a - k) - ln_fact(b - k) - ln_fact((n - a) - (b - k));
        if ln_probability > NEGLIGIBLE {
            let count = k as f64;
            sum += count * (odds * count).ln() * ln_probability.exp();
        }
    }
    sum / n as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ari(truth: &[u8], predicted: &[u8]) -> f64 {
        adjusted_rand_index(&table(truth, predicted))
    }

    fn ami(truth: &[u8], predicted: &[u8]) -> f64 {
        adjusted_mutual_information(&table(truth, predicted), &mut LogFactorials::default())
    }

    fn table(truth: &[u8], predicted: &[u8]) -> Contingency {
        truth.iter().copied().zip(predicted.iter().copied()).collect()
    }

    #[test]
    fn the_table_lists_occurring_labels_in_order() {
        let table = table(&[9, 9, 255, 9], &[0, 7, 7, 7]);
        assert_eq!(table.row_labels(), [9, 255]);
        assert_eq!(table.column_labels(), [0, 7]);
        assert_eq!(table.rows().collect::<Vec<_>>(), [[1, 2], [0, 1]]);
        assert_eq!(table.row_sums(), [3, 1]);
        assert_eq!(table.column_sums(), [1, 3]);
        assert_eq!(table.total(), 4);
    }

    #[test]
    fn an_empty_table_has_no_rows_and_perfect_agreement() {
        let empty = table(&[], &[]);
        assert_eq!(empty.rows().count(), 0);
        assert_eq!(ari(&[], &[]), 1.0);
        assert_eq!(ami(&[], &[]), 1.0);
    }

    #[test]
    fn renamed_clusters_agree_perfectly() {
        assert_eq!(ari(&[0, 0, 1, 2], &[5, 5, 9, 0]), 1.0);
        assert_eq!(ami(&[0, 0, 1, 2], &[5, 5, 9, 0]), 1.0);
        assert_eq!(ami(&[0, 1, 2, 3], &[3, 2, 1, 0]), 1.0);
    }

    #[test]
    fn a_single_cluster_against_several_tells_nothing() {
        assert_eq!(ari(&[0, 0, 1, 1], &[4, 4, 4, 4]), 0.0);
        assert_eq!(ami(&[0, 0, 1, 1], &[4, 4, 4, 4]), 0.0);
    }

    #[test]
    fn crossed_clusters_are_worse_than_chance() {
        // The minimum of the index for four pixels, from tp = 0, tn = 4, fp = fn = 4.
        assert_eq!(ari(&[0, 0, 1, 1], &[0, 1, 0, 1]), -0.5);
        assert!(ami(&[0, 0, 1, 1], &[0, 1, 0, 1]) < 0.0);
    }

    #[test]
    fn the_expectation_is_the_mean_over_all_permutations() {
        let fixed = [0, 0, 1, 1];
        let moving = [0, 0, 1, 2];
        let mut sum = 0.0;
        let mut arrangements = 0;
        for order in 0..4usize.pow(4) {
            let picks = [order % 4, order / 4 % 4, order / 16 % 4, order / 64];
            if (0..4).all(|i| picks.contains(&i)) {
                sum += mutual_information(&table(&fixed, &picks.map(|i| moving[i])));
                arrangements += 1;
            }
        }
        let expected = expected_mutual_information(&table(&fixed, &moving), &mut LogFactorials::default());
        assert_eq!(arrangements, 24);
        assert!((expected - sum / 24.0).abs() < 1e-14, "{expected}");
    }

    /// A pair of clusterings of the same few pixels.
    fn clusterings() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        prop::collection::vec((0u8..6, 0u8..6), 0..60).prop_map(|pairs| pairs.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn indices_are_symmetric_and_at_most_one((truth, predicted) in clusterings()) {
            for index in [ari, ami] {
                let value = index(&truth, &predicted);
                prop_assert!((value - index(&predicted, &truth)).abs() < 1e-12);
                prop_assert!(value <= 1.0 + 1e-12, "{value}");
            }
        }

        #[test]
        fn indices_ignore_names_and_pixel_order(
            (truth, predicted) in clusterings(),
            names in Just((0u8..=255).collect::<Vec<_>>()).prop_shuffle(),
            turn in 0usize..60,
        ) {
            let mut other_truth = truth.clone();
            let mut renamed: Vec<u8> = predicted.iter().map(|&l| names[usize::from(l)]).collect();
            if !truth.is_empty() {
                other_truth.rotate_left(turn % truth.len());
                renamed.rotate_left(turn % truth.len());
            }
            for index in [ari, ami] {
                let difference = index(&truth, &predicted) - index(&other_truth, &renamed);
                prop_assert!(difference.abs() < 1e-12, "{difference}");
            }
        }

        #[test]
        fn a_clustering_agrees_with_itself((truth, _) in clusterings()) {
            prop_assert_eq!(ari(&truth, &truth), 1.0);
            prop_assert_eq!(ami(&truth, &truth), 1.0);
        }
    }
}
