//! Does each number of a code stand for one factor of what is seen?
//!
//! Four published answers, for codes of images whose factors are known: [`mutual_information_gap`] (MIG), [`Dci`],
//! [`factor_vae_score`] and the active units ([`ACTIVE`]). [`Probe`] asks all of them about a code or parts of it. The choices that the papers
//! leave open are those of disentanglement_lib (F. Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning
//! of Disentangled Representations", ICML 2019): posterior means as codes, 10,000 examples, 5,000 to test on, 20 bins, boosted
//! trees, 64 images a vote.
//!
//! - T. Q. Chen, X. Li, R. Grosse, D. Duvenaud, "Isolating Sources of Disentanglement in Variational Autoencoders", NeurIPS 2018.
//! - C. Eastwood, C. K. I. Williams, "A Framework for the Quantitative Evaluation of Disentangled Representations", ICLR 2018.
//! - H. Kim, A. Mnih, "Disentangling by Factorising", ICML 2018.
//! - J. H. Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 29(5), 2001.

mod boosting;
mod dci;
mod factor_vae;
mod mig;
mod report;

pub use boosting::{Boosted, boost};
pub use dci::Dci;
pub use factor_vae::{Vote, factor_vae_score, variance};
pub use mig::mutual_information_gap;
pub use report::{DisentanglementReport, Row};

use crate::random;
use rand::Rng;
use std::ops::Range;

/// A number of the code is active if its posterior mean varies more than this over the data: the variance over x of E_q z_u > 10⁻² (Burda et al.
/// 2016, section 5.2).
pub const ACTIVE: f64 = 0.01;

/// How many of a code's numbers are active, given their variances over the data.
pub fn active_units(variances: &[f64]) -> usize {
    variances.iter().filter(|variance| **variance > ACTIVE).count()
}

/// How a code is examined.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Examples for MIG, active units, and to learn factors from; half as many more to try that on.
    pub examples: usize,
    /// Votes of the FactorVAE score; as many again to try them on.
    pub votes: usize,
    /// Images of a vote.
    pub images_of_a_vote: usize,
    /// Names all draws.
    pub seed: u64,
}

impl Probe {
    /// Of 10,000 examples 800 votes, as Kim & Mnih (2018) have; of others in proportion.
    pub fn new(examples: usize, seed: u64) -> Self {
        Self { examples, votes: (examples * 2).div_ceil(25), images_of_a_vote: 64, seed }
    }
}

/// What a code is worth.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Scores {
    /// Numbers in the code.
    pub dimensions: usize,
    /// How many of them are active.
    pub active_units: usize,
    /// See [`mutual_information_gap`].
    pub mig: Option<f64>,
    /// See [`factor_vae_score`].
    pub factor_vae: f64,
    /// See [`Dci`].
    #[serde(flatten)]
    pub dci: Dci,
}

/// Values of all factors of one image, as classes from 0.
pub type Combination = Vec<usize>;

/// What a code says of the images it was asked about.
#[derive(Clone, Debug)]
pub struct Observations {
    /// A column for each number of the code, and for each factor.
    examples: (Vec<Vec<f64>>, Vec<Vec<usize>>),
    tests: (Vec<Vec<f64>>, Vec<Vec<usize>>),
    training_votes: Vec<Vote>,
    other_votes: Vec<Vote>,
}

impl Observations {
    /// Numbers in the code.
    pub fn dimensions(&self) -> usize {
        self.examples.0.len()
    }

    /// What some of the numbers, beside each other, are worth as a code.
    pub fn scores(&self, numbers: Range<usize>) -> Scores {
        let (codes, factors) = (&self.examples.0[numbers.clone()], &self.examples.1);
        let overall: Vec<f64> = codes.iter().map(|column| variance(column)).collect();
        let part = |votes: &[Vote]| -> Vec<Vote> {
            votes.iter().map(|vote| Vote { variances: vote.variances[numbers.clone()].to_vec(), ..*vote }).collect()
        };
        let (training, others) = (part(&self.training_votes), part(&self.other_votes));
        Scores {
            dimensions: codes.len(),
            active_units: active_units(&overall),
            mig: mutual_information_gap(codes, factors),
            factor_vae: factor_vae_score(&training, &others, &overall, factors.len()),
            dci: Dci::of((codes, factors), (&self.tests.0[numbers], &self.tests.1)),
        }
    }
}

impl Probe {
    /// Asks about images that have independent factors with `sizes` classes. `codes_of` gives the codes of images with the
    /// combinations it is asked about.
    pub fn observe<E>(
        &self,
        sizes: &[usize],
        mut codes_of: impl FnMut(&[Combination]) -> Result<Vec<Vec<f64>>, E>,
    ) -> Result<Observations, E> {
        let mut labelled = |purpose: &str, count: usize| {
            let mut rng = random::stream(self.seed, purpose, 0);
            let drawn: Vec<Combination> = (0..count).map(|_| drawn(sizes, &mut rng)).collect();
            let factors = (0..sizes.len()).map(|f| drawn.iter().map(|c| c[f]).collect()).collect();
            Ok((columns(&codes_of(&drawn)?), factors))
        };
        Ok(Observations {
            examples: labelled("disentanglement", self.examples)?,
            tests: labelled("disentanglement test", self.examples / 2)?,
            training_votes: self.votes("disentanglement votes", sizes, &mut codes_of)?,
            other_votes: self.votes("disentanglement test votes", sizes, &mut codes_of)?,
        })
    }

    fn votes<E>(
        &self,
        purpose: &str,
        sizes: &[usize],
        codes_of: &mut impl FnMut(&[Combination]) -> Result<Vec<Vec<f64>>, E>,
    ) -> Result<Vec<Vote>, E> {
        let vote = |number: u64| {
            let mut rng = random::stream(self.seed, purpose, number);
            let factor = rng.random_range(0..sizes.len() as u32) as usize;
            let shared = rng.random_range(0..sizes[factor] as u32) as usize;
            let mut images: Vec<_> = (0..self.images_of_a_vote).map(|_| drawn(sizes, &mut rng)).collect();
            images.iter_mut().for_each(|image| image[factor] = shared);
            let variances = columns(&codes_of(&images)?).iter().map(|column| variance(column)).collect();
            Ok(Vote { factor, variances })
        };
        (0..self.votes as u64).map(vote).collect()
    }
}

/// A class of each factor, all equally likely.
fn drawn(sizes: &[usize], rng: &mut impl Rng) -> Combination {
    sizes.iter().map(|size| rng.random_range(0..*size as u32) as usize).collect()
}

/// Rows of equal length to columns.
fn columns(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let width = rows.first().map_or(0, Vec::len);
    (0..width).map(|d| rows.iter().map(|row| row[d]).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const SIZES: [usize; 3] = [3, 5, 8];

    fn probe() -> Probe {
        Probe { examples: 1_000, votes: 150, images_of_a_vote: 32, seed: 4 }
    }

    fn scores(code: impl Fn(&[f64; 3]) -> Vec<f64>) -> Scores {
        let centred = |c: &Combination| -> [f64; 3] {
            std::array::from_fn(|f| (c[f] as f64 + 0.5) / SIZES[f] as f64 * 2.0 - 1.0)
        };
        let codes = |all: &[Combination]| Ok::<_, Infallible>(all.iter().map(|c| code(&centred(c))).collect());
        let observed = probe().observe(&SIZES, codes).unwrap_or_else(|never| match never {});
        observed.scores(0..observed.dimensions())
    }

    #[test]
    fn a_perfect_code_has_full_marks() {
        // One number for each factor, in another order, scaled, one bent; and one that is never used.
        let scores = scores(|&[a, b, c]| vec![-2.0 * c, 0.0, a, b * b * b]);
        assert_eq!((scores.dimensions, scores.active_units), (4, 3));
        let Dci { disentanglement, completeness, informativeness } = scores.dci;
        for (name, score) in [
            ("MIG", scores.mig.expect("factors")),
            ("FactorVAE", scores.factor_vae),
            ("disentanglement", disentanglement),
            ("completeness", completeness),
            ("informativeness", informativeness),
        ] {
            // Of so few examples even independent variables seem to say a little of each other.
            assert!(score > 0.99, "{name} {score}");
        }
    }

    #[test]
    fn an_entangled_code_has_low_marks_though_it_tells_everything() {
        // Every number is a mixture of all factors.
        let scores = scores(|&[a, b, c]| vec![a + b + c, a + b - c, a - b + c]);
        assert_eq!(scores.active_units, 3);
        assert!(scores.mig.expect("factors") < 0.15, "{scores:?}");
        assert!(scores.dci.disentanglement < 0.4 && scores.dci.completeness < 0.4, "{scores:?}");
        assert!(scores.factor_vae < 0.75, "{scores:?}");
        assert!(scores.dci.informativeness > 0.6, "{scores:?}");
    }

    #[test]
    fn a_code_that_says_nothing_is_at_chance() {
        let scores = scores(|_| vec![1.0, -1.0]);
        assert_eq!((scores.active_units, scores.mig, scores.factor_vae), (0, Some(0.0), 0.0));
        assert_eq!((scores.dci.disentanglement, scores.dci.completeness), (0.0, 0.0));
        assert!((scores.dci.informativeness - (1.0 / 3.0 + 1.0 / 5.0 + 1.0 / 8.0) / 3.0).abs() < 0.08, "{scores:?}");
    }

    #[test]
    fn a_part_of_a_code_is_examined_like_a_code_of_its_own() {
        let long = |all: &[Combination]| {
            Ok::<_, Infallible>(
                all.iter().map(|c| vec![9.0, c[0] as f64, c[1] as f64 - c[2] as f64, c[2] as f64]).collect(),
            )
        };
        let short = |all: &[Combination]| {
            Ok::<_, Infallible>(all.iter().map(|c| vec![c[0] as f64, c[1] as f64 - c[2] as f64]).collect())
        };
        let small = Probe { examples: 200, votes: 20, ..probe() };
        let [long, short] = [small.observe(&SIZES, long), small.observe(&SIZES, short)]
            .map(|observed| observed.unwrap_or_else(|never| match never {}));
        assert_eq!(long.scores(1..3), short.scores(0..2));
    }

    #[test]
    fn two_numbers_for_one_factor_cost_its_gap_alone() {
        let scores = scores(|&[a, b, c]| vec![a, b, c, c]);
        assert!((scores.mig.expect("factors") - 2.0 / 3.0).abs() < 0.01, "{scores:?}");
        assert!(scores.dci.disentanglement > 0.999 && scores.factor_vae > 0.999, "{scores:?}");
    }
}
