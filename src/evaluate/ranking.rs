//! How one score orders things beside another, or beside the truth.

/// Spearman's rank correlation: the correlation of the ranks of `a` and `b`, in which equal values share the mean of their ranks
/// (Spearman 1904). `None` where one of them is the same everywhere, a value is not a number, or they differ in length.
pub fn rank_correlation(a: &[f32], b: &[f32]) -> Option<f64> {
    let (a, b) = (ranks(a)?, ranks(b)?);
    if a.len() != b.len() {
        return None;
    }
    // Ranks of n values have the mean (n + 1) / 2, tied or not.
    let middle = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - middle) * (y - middle)).sum::<f64>();
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (spread > 0.0).then(|| product(&a, &b) / spread)
}

/// Area under the ROC curve: how probable it is that a thing that is meant scores higher than one that is not, equal scores
/// counting one half (Mann & Whitney 1947). `None` where all or none are meant, or a score is not a number.
pub fn area_under_curve(scores: &[f32], meant: &[bool]) -> Option<f64> {
    let ranks = ranks(scores)?;
    let positives = meant.iter().filter(|m| **m).count();
    let negatives = meant.len() - positives;
    if positives == 0 || negatives == 0 || ranks.len() != meant.len() {
        return None;
    }
    let sum: f64 = ranks.iter().zip(meant).filter(|(_, meant)| **meant).map(|(rank, _)| rank).sum();
    let (positives, negatives) = (positives as f64, negatives as f64);
    Some((sum - positives * (positives + 1.0) / 2.0) / (positives * negatives))
}

/// Ranks from 1, the mean of them for equal values; `None` if a value is not a number.
fn ranks(values: &[f32]) -> Option<Vec<f64>> {
    if values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut done = 0;
    // −0 and 0 are equal but sorted, so runs are found by `==`.
    for run in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = done as f64 + (run.len() as f64 + 1.0) / 2.0;
        run.iter().for_each(|&i| ranks[i] = mean);
        done += run.len();
    }
    Some(ranks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn correlations_by_hand() {
        let close = |a: Option<f64>, b: f64| (a.expect("defined") - b).abs() < 1e-12;
        assert!(close(rank_correlation(&[1.0, 2.0, 30.0], &[0.1, 0.2, 0.3]), 1.0));
        assert!(close(rank_correlation(&[1.0, 2.0, 30.0], &[3.0, 2.0, -1.0]), -1.0));
        // Without ties 1 − 6 Σ d² / (n (n² − 1)): d = −1, 1, −1, 1, 0.
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]);
        assert!(close(rank_correlation(&a, &b), 1.0 - 6.0 * 4.0 / (5.0 * 24.0)));
        // Ties share their ranks: 1.5, 1.5, 3 beside 1, 2, 3 → cov 1.5, variances 1.5 and 2.
        assert!(close(rank_correlation(&[0.0, -0.0, 3.0], &[1.0, 2.0, 3.0]), 1.5 / 3f64.sqrt()));
        assert_eq!(rank_correlation(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(rank_correlation(&[1.0, f32::NAN], &[1.0, 2.0]), None);
        assert_eq!(rank_correlation(&[1.0, 2.0], &[1.0, 2.0, 3.0]), None);
    }

    #[test]
    fn areas_by_hand() {
        assert_eq!(area_under_curve(&[0.1, 0.9, 0.5], &[false, true, false]), Some(1.0));
        assert_eq!(area_under_curve(&[0.5, 0.5], &[true, false]), Some(0.5));
        assert_eq!(area_under_curve(&[0.5, 0.1], &[true, true]), None);
        assert_eq!(area_under_curve(&[0.5, 0.1], &[false, false]), None);
        assert_eq!(area_under_curve(&[0.5], &[true, false]), None);
    }

    proptest! {
        /// Both as sums over all pairs, which know nothing of ranks. For the correlation: a value's rank is ½ plus the number of
        /// values below it plus half of those equal to it (itself among them).
        #[test]
        fn ranks_say_what_all_pairs_say(things in prop::collection::vec((-3i8..3, -3i8..3, any::<bool>()), 2..30)) {
            let a: Vec<f32> = things.iter().map(|t| f32::from(t.0)).collect();
            let b: Vec<f32> = things.iter().map(|t| f32::from(t.1)).collect();
            let meant: Vec<bool> = things.iter().map(|t| t.2).collect();
            let above = |x: f32, y: f32| if x > y { 1.0 } else if x == y { 0.5 } else { 0.0 };

            let (mut wins, mut pairs) = (0f64, 0f64);
            for (x, _) in a.iter().zip(&meant).filter(|(_, m)| **m) {
                for (y, _) in a.iter().zip(&meant).filter(|(_, m)| !**m) {
                    wins += above(*x, *y);
                    pairs += 1.0;
                }
            }
            let area = (pairs > 0.0).then(|| wins / pairs);
            prop_assert_eq!(area_under_curve(&a, &meant).map(|v| (v * 1e9).round()), area.map(|v| (v * 1e9).round()));

            let ranked = |values: &[f32]| -> Vec<f64> {
                values.iter().map(|x| 0.5 + values.iter().map(|y| above(*x, *y)).sum::<f64>()).collect()
            };
            let (ra, rb) = (ranked(&a), ranked(&b));
            let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
            let covariance = |x: &[f64], y: &[f64]| {
                let (mx, my) = (mean(x), mean(y));
                x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>()
            };
            match rank_correlation(&a, &b) {
                None => prop_assert!(covariance(&ra, &ra) < 1e-9 || covariance(&rb, &rb) < 1e-9),
                Some(found) => {
                    let expected = covariance(&ra, &rb) / (covariance(&ra, &ra) * covariance(&rb, &rb)).sqrt();
                    prop_assert!((found - expected).abs() < 1e-9, "{found} {expected}");
                }
            }
        }
    }
}
