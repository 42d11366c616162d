//! Disentanglement, completeness and informativeness.

use super::boosting::boost;

/// DCI (Eastwood & Williams 2018), with the boosted trees of disentanglement_lib (Locatello et al. 2019) as estimators: R_ij is
/// how much of what is learnt of factor j is learnt from number i of the code.
///
/// ```text
/// disentanglement = Σ_i ρ_i (1 − H_F(R_i·)),  ρ_i = Σ_j R_ij / ΣΣ R    each number says something of one factor only
/// completeness    = Σ_j ρ_j (1 − H_D(R_·j)),  ρ_j = Σ_i R_ij / ΣΣ R    each factor is told by one number only
/// informativeness = mean share of test examples whose factor is told right
/// ```
///
/// H_n is the entropy of the normalised row or column to the base n.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Dci {
    /// See [`Dci`].
    pub disentanglement: f64,
    /// See [`Dci`].
    pub completeness: f64,
    /// See [`Dci`].
    pub informativeness: f64,
}

impl Dci {
    /// Learns each factor from the codes of some examples and tries it on others. Codes and factors are columns.
    pub fn of(
        (codes, factors): (&[Vec<f64>], &[Vec<usize>]),
        (test_codes, test_factors): (&[Vec<f64>], &[Vec<usize>]),
    ) -> Self {
        let single = |codes: &[Vec<f64>]| -> Vec<Vec<f32>> {
            codes.iter().map(|column| column.iter().map(|value| *value as f32).collect()).collect()
        };
        let (codes, test_codes) = (single(codes), single(test_codes));
        let mut importance = vec![Vec::with_capacity(factors.len()); codes.len()];
        let mut right = 0.0;
        for (factor, truth) in factors.iter().zip(test_factors) {
            let learnt = boost(&codes, factor, &test_codes);
            importance.iter_mut().zip(&learnt.importances).for_each(|(row, i)| row.push(*i));
            let hits = learnt.predictions.iter().zip(truth).filter(|(a, b)| a == b).count();
            right += hits as f64 / truth.len() as f64;
        }
        let columns: Vec<Vec<f64>> =
            (0..factors.len()).map(|j| importance.iter().map(|row| row[j]).collect()).collect();
        Self {
            disentanglement: concentration(&importance),
            completeness: concentration(&columns),
            informativeness: right / factors.len() as f64,
        }
    }
}

/// Σ ρ_i (1 − H(row i)), the entropy to the base of the row's length; rows weigh as much as they hold.
fn concentration(rows: &[Vec<f64>]) -> f64 {
    let total: f64 = rows.iter().flatten().sum();
    let one = |row: &Vec<f64>| {
        let sum: f64 = row.iter().sum();
        let entropy: f64 = row.iter().map(|r| r / sum).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
        // A row of one entry is concentrated, whatever the base.
        let relative = if row.len() > 1 { entropy / (row.len() as f64).ln() } else { 0.0 };
        if sum > 0.0 { sum / total * (1.0 - relative) } else { 0.0 }
    };
    rows.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concentration_is_one_for_permutations_and_none_for_even_spreads() {
        assert_eq!(concentration(&[vec![0.0, 2.0], vec![1.0, 0.0], vec![0.0, 0.0]]), 1.0);
        assert!(concentration(&[vec![0.5, 0.5], vec![3.0, 3.0]]).abs() < 1e-12);
        // Half of all importance in an even row, half in a concentrated one.
        assert!((concentration(&[vec![1.0, 1.0], vec![2.0, 0.0]]) - 0.5).abs() < 1e-12);
        assert_eq!(concentration(&[vec![0.3], vec![0.7]]), 1.0);
    }
}
