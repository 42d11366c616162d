//! The parts of a data set.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which part of a data set a scene belongs to. No digit is shared between training,
/// validation and the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For learning: the train digits without the validation ones.
    Train,
    /// For choosing settings: the last twelfth of the train digits (of MNIST the last 5,000).
    Validation,
    /// For reporting: the test digits.
    Test,
    /// For reporting on more objects than were trained on: the test digits, in a recipe that
    /// offers it.
    General,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 4] = [Self::Train, Self::Validation, Self::Test, Self::General];

    /// The name users write.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::General => "general",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that is no split.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown split {0:?}; choose one of train, validation, test, general")]
pub struct UnknownSplit(String);

impl FromStr for Split {
    type Err = UnknownSplit;

    fn from_str(name: &str) -> Result<Self, UnknownSplit> {
        Self::ALL.into_iter().find(|split| split.name() == name).ok_or_else(|| UnknownSplit(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for split in Split::ALL {
            assert_eq!(split.to_string().parse(), Ok(split));
        }
    }

    #[test]
    fn an_unknown_name_lists_every_split() {
        let message = "valid".parse::<Split>().unwrap_err().to_string();
        for split in Split::ALL {
            assert!(message.contains(split.name()), "{message}");
        }
    }
}
