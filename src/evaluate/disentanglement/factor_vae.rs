//! The FactorVAE score, and the variances that it and the active units are made of.

/// What a few examples that share the value of one factor say.
#[derive(Clone, Debug, PartialEq)]
pub struct Vote {
    /// The factor whose value they share.
    pub factor: usize,
    /// Variance of each number of their codes.
    pub variances: Vec<f64>,
}

/// What a number has to vary by to be part of the code.
const LEAST_DEVIATION: f64 = 0.05;

/// The FactorVAE score (Kim & Mnih 2018, section 4). A vote's number is the one whose variance, as a share of its variance over
/// all data (`overall`), is least: the one that stands still with the factor. Each number stands for the factor that it votes for
/// most often in `training`; the score is the share of the other votes that are right by that. Numbers whose deviation over all data
/// is less than 0.05 have no say, as in disentanglement_lib: the posterior has left them at the prior. 0 without votes.
pub fn factor_vae_score(training: &[Vote], others: &[Vote], overall: &[f64], factors: usize) -> f64 {
    let still = |vote: &Vote| {
        let share = |d: &usize| vote.variances[*d] / overall[*d];
        let varying = (0..overall.len()).filter(|d| overall[*d].sqrt() >= LEAST_DEVIATION);
        varying.min_by(|a, b| share(a).total_cmp(&share(b)))
    };
    let mut votes = vec![vec![0u64; factors]; overall.len()];
    for vote in training {
        if let Some(d) = still(vote) {
            votes[d][vote.factor] += 1;
        }
    }
    // The first of equals.
    let stands_for = |d: usize| (0..factors).rev().max_by_key(|f| votes[d][*f]);
    let right = others.iter().filter(|vote| still(vote).and_then(stands_for) == Some(vote.factor)).count();
    if others.is_empty() { 0.0 } else { right as f64 / others.len() as f64 }
}

/// Σ (x − mean)² / (n − 1).
pub fn variance(column: &[f64]) -> f64 {
    let n = column.len() as f64;
    let mean = column.iter().sum::<f64>() / n;
    column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(factor: usize, variances: [f64; 3]) -> Vote {
        Vote { factor, variances: variances.to_vec() }
    }

    #[test]
    fn shares_of_the_overall_variance_decide() {
        // Number 0 varies little anyway, number 2 so little that it is no part of the code.
        let overall = [0.01, 1.0, 0.002];
        let training = [vote(0, [0.001, 0.9, 0.0]), vote(1, [0.01, 0.2, 0.0]), vote(1, [0.009, 0.1, 0.0])];
        let others = [vote(0, [0.002, 1.0, 0.0]), vote(1, [0.012, 0.3, 0.0]), vote(0, [0.01, 0.1, 0.0])];
        let score = factor_vae_score(&training, &others, &overall, 2);
        assert!((score - 2.0 / 3.0).abs() < 1e-12, "{score}");
        assert_eq!(factor_vae_score(&training, &[], &overall, 2), 0.0);
        // Without any number that varies nothing can be right.
        assert_eq!(factor_vae_score(&training, &others, &[0.0; 3], 2), 0.0);
    }

    #[test]
    fn variance_by_hand() {
        assert_eq!(variance(&[1.0, 2.0, 6.0]), 7.0);
    }
}
