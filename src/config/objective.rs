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
    Iwae(Importance),
    /// The same bound, its encoder's gradient estimated with less noise (Tucker et al. 2019).
    Dreg(Importance),
}

/// The samples of an importance-weighted bound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// S, samples of z for each image, rounded to a whole number: k in the paper.
    #[serde(default = "fifty")]
    pub samples: Schedule,
    /// M, how many of them the gradient is taken of, drawn in proportion to their weights. 0, and any M that is not smaller than S:
    /// of all of them, each times its weight.
    #[serde(default)]
    pub gradient_samples: usize,
}

impl Default for Importance {
    fn default() -> Self {
        Self { samples: fifty(), gradient_samples: 0 }
    }
}

impl Objective {
    /// What is weighed against each other where not the ELBO is bounded but log p(x) itself.
    pub fn importance(&self) -> Option<&Importance> {
        match self {
            Self::Elbo => None,
            Self::Iwae(importance) | Self::Dreg(importance) => Some(importance),
        }
    }

    /// S at the end of training, for which this bound is held against others.
    pub fn importance_samples(&self) -> Option<u64> {
        self.importance().map(|importance| importance.samples.last().round() as u64)
    }

    /// The most samples of z that an image has in any step.
    pub fn most_samples(&self) -> usize {
        self.importance().map_or(1, |importance| importance.samples.range().1.round() as usize)
    }
}

fn fifty() -> Schedule {
    50.0.into()
}
