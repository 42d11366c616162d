//! A growing table of log-factorials.

/// `ln k!` for `k = 0, 1, 2, …`, computed once and extended on demand.
///
/// The running sum carries its rounding error along (Kahan 1965): a plain one drifts by several
/// units in the last place over the 65 536 pixels of a 256 × 256 scene, and that drift would be
/// magnified where the table's values of size 10⁵ are exponentiated.
#[derive(Clone, Debug, Default)]
pub struct LogFactorials {
    values: Vec<f64>,
    /// What rounding has added to the last value.
    excess: f64,
}

impl LogFactorials {
    /// The table with at least the entries `0..=largest`: 8 bytes for each.
    pub fn up_to(&mut self, largest: u64) -> &[f64] {
        let mut sum = self.values.last().copied().unwrap_or_default();
        for k in self.values.len() as u64..=largest {
            // 0! = 1! = 1: the product starts with the factor 1, whose logarithm is exactly 0.
            let term = (k.max(1) as f64).ln() - self.excess;
            let next = sum + term;
            self.excess = (next - sum) - term;
            sum = next;
            self.values.push(sum);
        }
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_factorials_are_exact_to_rounding() {
        let mut factorials = LogFactorials::default();
        let table = factorials.up_to(20);
        let mut factorial = 1u64;
        for k in 1..=20u64 {
            factorial *= k;
            let expected = (factorial as f64).ln();
            assert!((table[k as usize] - expected).abs() <= 1e-14 * expected, "{k}! is off");
        }
        assert_eq!(table[..2], [0.0, 0.0]);
    }

    #[test]
    fn large_factorials_match_stirlings_series() {
        let n = 65_536.0f64;
        // The next term of the series, 1/(1260 n⁵), is below 10⁻²⁷.
        let stirling =
            n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3));
        let table = LogFactorials::default().up_to(65_536).to_vec();
        assert!((table[65_536] - stirling).abs() < 2e-10, "{}", table[65_536] - stirling);
    }

    #[test]
    fn growing_in_steps_gives_the_same_table() {
        let at_once = LogFactorials::default().up_to(1000).to_vec();
        let mut stepwise = LogFactorials::default();
        for largest in [0, 3, 3, 700, 1000, 10] {
            stepwise.up_to(largest);
        }
        assert_eq!(stepwise.values, at_once);
    }
}
