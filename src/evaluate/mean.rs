//! A mean that is updated value by value.

/// The mean of a stream of values and its standard error, in constant memory.
///
/// Uses Welford's recurrence (Welford 1962), whose sum of squared deviations does not cancel when
/// the values are close to each other and far from zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    count: u64,
    mean: f64,
    /// `Σ (x − mean)²`.
    squared_deviations: f64,
}

impl Mean {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squared_deviations += before * (value - self.mean);
    }

    /// How many values were added.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The mean; `None` without values.
    pub(super) fn value(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// The standard error of the mean, `√(Σ (x − mean)² / ((n − 1) n))`; `None` below two values.
    pub(super) fn standard_error(&self) -> Option<f64> {
        let n = self.count as f64;
        (self.count >= 2).then(|| (self.squared_deviations / ((n - 1.0) * n)).sqrt())
    }
}

impl Extend<f64> for Mean {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        for value in values {
            self.add(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(values: &[f64]) -> Mean {
        let mut mean = Mean::default();
        mean.extend(values.iter().copied());
        mean
    }

    #[test]
    fn mean_and_standard_error_by_hand() {
        let four = mean(&[2.0, 4.0, 4.0, 6.0]);
        assert_eq!((four.count(), four.value()), (4, Some(4.0)));
        assert_eq!(four.standard_error(), Some((8.0f64 / 12.0).sqrt()));
    }

    #[test]
    fn small_deviations_survive_a_large_offset() {
        let far = mean(&[1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0]);
        let error = far.standard_error().expect("three values");
        assert!((error - (1.0f64 / 3.0).sqrt()).abs() < 1e-6, "{error}");
    }

    #[test]
    fn too_few_values_have_no_statistics() {
        assert_eq!((mean(&[]).value(), mean(&[]).standard_error()), (None, None));
        assert_eq!((mean(&[3.0]).value(), mean(&[3.0]).standard_error()), (Some(3.0), None));
    }
}
