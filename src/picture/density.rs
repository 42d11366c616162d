//! How many device pixels one layout pixel takes.

/// Pixel density of a drawn sheet.
///
/// All layout is written in the pixels of [`Density::Single`]; a double-density
/// sheet has every length doubled, text included, so that it stays sharp on
/// high-resolution screens and in print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Density {
    /// One device pixel per layout pixel.
    #[default]
    Single,
    /// Two device pixels per layout pixel, along each axis.
    Double,
}

impl Density {
    /// Device pixels per layout pixel, along each axis.
    pub const fn factor(self) -> f64 {
        match self {
            Self::Single => 1.0,
            Self::Double => 2.0,
        }
    }

    /// The device pixels that `length` layout pixels take.
    pub const fn px(self, length: u32) -> u32 {
        length.saturating_mul(match self {
            Self::Single => 1,
            Self::Double => 2,
        })
    }
}
