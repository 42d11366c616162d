//! How often the number of entities found is the number of objects there.

use serde::{Deserialize, Serialize};

/// The largest count that is tallied: the most objects that a mask of `u8` indices can hold beside
/// its background, and a bound on the memory of the table.
pub const MAX_COUNT: usize = 255;

/// A count too large to tally.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scene with {truth} objects of which {predicted} were found cannot be tallied: counts go up \
     to {MAX_COUNT}; check how they were read"
)]
pub struct CountTooLarge {
    /// The true number of objects.
    pub truth: usize,
    /// The predicted number of entities.
    pub predicted: usize,
}

/// Scenes by true count (rows) and predicted count (columns).
///
/// Always a rectangle just large enough for the counts seen. Serialises as its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CountConfusion {
    rows: Vec<Vec<u64>>,
}

impl CountConfusion {
    /// Tallies one scene.
    ///
    /// # Errors
    ///
    /// A count exceeds [`MAX_COUNT`]; nothing is tallied then.
    pub fn add(&mut self, truth: usize, predicted: usize) -> Result<(), CountTooLarge> {
        if truth.max(predicted) > MAX_COUNT {
            return Err(CountTooLarge { truth, predicted });
        }
        let columns = self.columns().max(predicted + 1);
        if self.rows.len() <= truth {
            self.rows.resize_with(truth + 1, Vec::new);
        }
        for row in &mut self.rows {
            row.resize(columns, 0);
        }
        self.rows[truth][predicted] += 1;
        Ok(())
    }

    /// The rows of the table: `rows()[truth][predicted]` scenes.
    #[must_use]
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }

    /// How many predicted counts the table has columns for.
    pub(super) fn columns(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The number of scenes tallied.
    #[must_use]
    pub fn scenes(&self) -> u64 {
        self.cells().map(|(_, _, scenes)| scenes).sum()
    }

    /// The share of scenes with the right count; `None` without scenes.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        self.mean(|truth, predicted| f64::from(u8::from(truth == predicted)))
    }

    /// The standard error of [`accuracy`](Self::accuracy), `√(p (1 − p) / (n − 1))`; `None` with
    /// fewer than two scenes.
    #[must_use]
    pub fn accuracy_standard_error(&self) -> Option<f64> {
        let accuracy = self.accuracy()?;
        let scenes = self.scenes();
        (scenes >= 2).then(|| (accuracy * (1.0 - accuracy) / (scenes - 1) as f64).sqrt())
    }

    /// The mean of the squared difference of the counts; `None` without scenes.
    #[must_use]
    pub fn mean_squared_error(&self) -> Option<f64> {
        self.mean(|truth, predicted| (truth.abs_diff(predicted) as f64).powi(2))
    }

    /// The mean over the scenes of a function of their true and predicted counts.
    fn mean(&self, value: impl Fn(usize, usize) -> f64) -> Option<f64> {
        let sum: f64 = self.cells().map(|(truth, predicted, scenes)| scenes as f64 * value(truth, predicted)).sum();
        let scenes = self.scenes();
        (scenes > 0).then(|| sum / scenes as f64)
    }

    /// Every `(truth, predicted, scenes)`.
    fn cells(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.rows
            .iter()
            .enumerate()
            .flat_map(|(truth, row)| row.iter().enumerate().map(move |(predicted, &scenes)| (truth, predicted, scenes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(scenes: &[(usize, usize)]) -> CountConfusion {
        let mut confusion = CountConfusion::default();
        for &(truth, predicted) in scenes {
            confusion.add(truth, predicted).expect("the counts are small");
        }
        confusion
    }

    #[test]
    fn the_table_grows_with_the_counts_and_stays_rectangular() {
        let confusion = tally(&[(1, 1), (0, 3), (1, 1), (2, 0)]);
        assert_eq!(confusion.rows(), [[0, 0, 0, 1], [0, 2, 0, 0], [1, 0, 0, 0]]);
        assert_eq!(confusion.scenes(), 4);
    }

    #[test]
    fn accuracy_and_error_by_hand() {
        let confusion = tally(&[(1, 1), (0, 3), (1, 1), (2, 0)]);
        assert_eq!(confusion.accuracy(), Some(0.5));
        assert_eq!(confusion.mean_squared_error(), Some((9.0 + 4.0) / 4.0));
        assert_eq!(confusion.accuracy_standard_error(), Some((0.25f64 / 3.0).sqrt()));
    }

    #[test]
    fn perfect_and_wrong_counts() {
        let perfect = tally(&[(0, 0), (3, 3), (2, 2)]);
        assert_eq!(perfect.accuracy(), Some(1.0));
        assert_eq!(perfect.mean_squared_error(), Some(0.0));
        assert_eq!(tally(&[(0, 1), (1, 0)]).accuracy(), Some(0.0));
    }

    #[test]
    fn nothing_is_defined_without_scenes_nor_an_error_for_one() {
        let empty = CountConfusion::default();
        assert_eq!((empty.accuracy(), empty.mean_squared_error()), (None, None));
        assert_eq!(empty.accuracy_standard_error(), None);
        assert_eq!(tally(&[(1, 1)]).accuracy_standard_error(), None);
    }

    #[test]
    fn counts_beyond_the_bound_are_refused_before_anything_grows() {
        let mut confusion = tally(&[(1, 1)]);
        let before = confusion.clone();
        for (truth, predicted) in [(usize::MAX, 0), (0, MAX_COUNT + 1)] {
            assert_eq!(confusion.add(truth, predicted), Err(CountTooLarge { truth, predicted }));
        }
        assert_eq!(confusion, before);
        assert_eq!(confusion.add(MAX_COUNT, MAX_COUNT), Ok(()));
    }

    #[test]
    fn it_serialises_as_its_rows() {
        let confusion = tally(&[(1, 0), (0, 1)]);
        let json = serde_json::to_string(&confusion).expect("a table of integers");
        assert_eq!(json, "[[0,1],[1,0]]");
        assert_eq!(serde_json::from_str::<CountConfusion>(&json).expect("its own"), confusion);
    }
}
