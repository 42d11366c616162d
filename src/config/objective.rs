//! What training minimises.

use crate::train::Schedule;
use serde::{Deserialize, Serialize};

/// The bound whose negative is minimised; the equations are at [`crate::model::importance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Objective {
    /// −log p(x|z) + β KL with one sample of z, the KL in closed form.
    #[default]
    Elbo,
    /// The importance-weighted bound (Burda et al. 2016).
    Iwae(ImportanceSamples),
    /// The same bound, its encoder's gradient estimated with less noise (Tucker et al. 2019).
    Dreg(ImportanceSamples),
}

/// How many samples an importance-weighted bound takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportanceSamples {
    /// S, samples of z for each image, rounded to a whole number: k in the paper.
    #[serde(default = "fifty")]
    pub samples: Schedule,
    /// M, how many of the S the gradient is taken of, drawn in proportion to their weights. 0: of all, each times its weight, as where
    /// S is no larger than M.
    #[serde(default)]
    pub gradient_samples: usize,
}

impl ImportanceSamples {
    /// The largest S of any step.
    pub fn most(&self) -> usize {
        self.samples.range().1.round() as usize
    }
}

impl Objective {
    /// The samples of the importance-weighted bound; none for the ELBO.
    pub fn importance(&self) -> Option<&ImportanceSamples> {
        match self {
            Self::Elbo => None,
            Self::Iwae(samples) | Self::Dreg(samples) => Some(samples),
        }
    }

    /// S at the end of training, which validation and evaluation use throughout, so that their bounds can be compared.
    pub fn importance_samples(&self) -> Option<u64> {
        self.importance().map(|importance| importance.samples.last().round() as u64)
    }

    /// The most samples of z that an image has in any step.
    pub fn most_samples(&self) -> usize {
        self.importance().map_or(1, ImportanceSamples::most)
    }
}

fn fifty() -> Schedule {
    50.0.into()
}
