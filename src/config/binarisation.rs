//! What becomes of grey pixels.

use serde::{Deserialize, Serialize};

/// What becomes of grey pixels before the model sees them. Nats of different binarisations cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binarisation {
    /// Nothing: pixels in [0, 1].
    GreyScale,
    /// 1 where the pixel is at least one half.
    Threshold,
    /// Drawn anew each time in training, with the pixel as probability. An evaluation draws each image once, from its seed.
    Dynamic,
    /// Drawn once for each image, with the pixel as probability: the same draw in every epoch, run and evaluation, whatever the
    /// seed. It is a draw of our own and not the fixed files of Larochelle & Murray (2011), so figures differ a little from those
    /// reported for these.
    Static,
}

impl Binarisation {
    /// Every kind, for tests.
    pub const ALL: [Self; 4] = [Self::GreyScale, Self::Threshold, Self::Dynamic, Self::Static];

    /// What a report says of its pixels.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::GreyScale => "grey-scale pixels",
            Self::Threshold => "pixels binarised at one half",
            Self::Dynamic => "dynamic binarisation, drawn here from the seed",
            Self::Static => "static binarisation, our own fixed draw",
        }
    }
}
