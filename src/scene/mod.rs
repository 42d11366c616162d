//! Scenes of digits, sprites or pieces: where they come from, how they are made, kept and served.
//!
//! A [`SceneSource`] is one of the [`Recipe`]s, which synthesise scenes (some from a [`DigitSet`]), or
//! an [`Archive`] (NumPy's `.npz`). [`Batches`] turns a source into an endless stream of training
//! batches.

mod archive;
mod batches;
mod digits;
pub mod idx;
mod layers;
mod npy;
mod options;
mod order;
pub mod recipes;
mod resize;
mod source;
mod split;
mod sprites;

pub use archive::{Archive, ArchiveError, ArchiveProblem, MAX_BYTES};
pub use batches::{Batch, Batches, BatchesError, Throughput};
pub use digits::{DIGIT_PIXELS, DIGIT_SIDE, DigitSet, Digits, DigitsError};
pub use idx::IdxError;
pub use layers::{Blend, FACTORS, Factors, INK_THRESHOLD, Layer, Layers};
pub use npy::NpyError;
pub use options::{Disturbance, GRID_PERIOD, OptionError, SceneOptions};
pub use recipes::{MissingSplit, Recipe, UnknownRecipe};
pub use resize::Rect;
pub use source::{SceneSource, SourceError};
pub use split::{Split, UnknownSplit};

/// The mask value of a pixel that belongs to no object, and the label of no object.
pub const BACKGROUND: u8 = 255;

/// A bounding box in pixels: `[x0, y0, x1, y1]`, half-open (`x1` and `y1` lie just outside).
pub type PixelBox = [i16; 4];

/// The box of an object without any ink, and of an empty slot in an archive.
pub const NO_BOX: PixelBox = [-1; 4];

/// Size of a scene's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SceneShape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Values of a pixel: 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
}

impl SceneShape {
    /// Pixels of an image: height × width.
    pub const fn pixels(self) -> usize {
        self.height * self.width
    }

    /// Values of an image: height × width × channels.
    pub const fn values(self) -> usize {
        self.pixels() * self.channels
    }
}

/// One scene. Synthesised scenes know everything about themselves; an archive may lack any part
/// of the truth, which is then `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// `(H, W, C)`, row by row, 0–255.
    pub image: Vec<u8>,
    /// `(H, W)`: index of the object that owns the pixel, [`BACKGROUND`] where none does.
    pub masks: Option<Vec<u8>>,
    /// Number of objects.
    pub count: Option<u8>,
    /// Class of each object.
    pub labels: Option<Vec<u8>>,
    /// Bounding box of each object's ink.
    pub boxes: Option<Vec<PixelBox>>,
    /// What each object was drawn from, where the recipe has such factors.
    pub factors: Option<Vec<Factors>>,
}
