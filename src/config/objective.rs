//! What training minimises.

use serde::{Deserialize, Serialize};

/// The bound whose negative is minimised; the equations are at [`crate::model::importance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Objective {
    /// −log p(x|z) + β KL with one sample of z, the KL in closed form.
    #[default]
    Elbo,
    /// The importance-weighted bound (Burda et al. 2016).
    Iwae {
        /// Samples of z for each image: k in the paper.
        #[serde(default = "fifty")]
        samples: usize,
    },
    /// The same bound, its encoder's gradient estimated with less noise (Tucker et al. 2019).
    Dreg {
        /// Samples of z for each image.
        #[serde(default = "fifty")]
        samples: usize,
    },
}

impl Objective {
    /// Samples of z for each image.
    pub fn samples(&self) -> usize {
        self.importance_samples().unwrap_or(1)
    }

    /// The same where they are weighed against each other, so that not the ELBO is bounded but log p(x) itself.
    pub fn importance_samples(&self) -> Option<usize> {
        match self {
            Self::Elbo => None,
            Self::Iwae { samples } | Self::Dreg { samples } => Some(*samples),
        }
    }
}

fn fifty() -> usize {
    50
}
