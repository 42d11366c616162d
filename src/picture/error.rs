//! What can go wrong when a picture is drawn or saved.

/// A picture could not be drawn or saved.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// A slice does not hold as many values as its shape asks for.
    #[error(
        "{what} holds {actual} values where {expected} are needed; \
         pass it as (height, width, channels) with the shape given beside it"
    )]
    Length {
        /// What the slice is, e.g. "the input of row 2".
        what: String,
        /// Values the shape asks for.
        expected: usize,
        /// Values the slice holds.
        actual: usize,
    },

    /// A shape that no tile can have.
    #[error(
        "cannot draw a tile of {height}×{width} pixels with {channels} channels; \
         use 1 to {max_side} pixels a side, and 1 (grey) or 3 (RGB) channels",
        max_side = super::shape::MAX_SIDE
    )]
    Shape {
        /// Rows of pixels.
        height: usize,
        /// Columns of pixels.
        width: usize,
        /// Values per pixel.
        channels: usize,
    },

    /// A cell that lies outside its grid.
    #[error(
        "{what} is cell ({row}, {column}) of a {height}×{width} grid; \
         cells count from (0, 0), row first"
    )]
    Cell {
        /// What the cell belongs to.
        what: String,
        /// Row of the cell.
        row: usize,
        /// Column of the cell.
        column: usize,
        /// Rows of the grid.
        height: usize,
        /// Columns of the grid.
        width: usize,
    },

    /// A mask names an entity that the row does not have.
    #[error(
        "the masks of row {row} name entity {index}, but the row has {entities}; \
         mark the background with 255"
    )]
    MaskIndex {
        /// Row of the sheet, counted from 1.
        row: usize,
        /// The entity index found.
        index: u8,
        /// Entities the row has.
        entities: usize,
    },

    /// Rows that should show the same scenes differ in length.
    #[error(
        "row \"{label}\" has {actual} images where the first row has {expected}; \
         give every row one image for each input"
    )]
    RowLength {
        /// Label of the row.
        label: String,
        /// Images in the first row.
        expected: usize,
        /// Images in this row.
        actual: usize,
    },

    /// There is nothing to draw.
    #[error("there is nothing to draw; pass at least one row with at least one tile")]
    Empty,

    /// The sheet would be too large to hold in memory comfortably.
    #[error(
        "the sheet would be {width}×{height} pixels, more than the {limit} pixels allowed; \
         draw fewer rows or columns, or use a smaller scale or a single density",
        limit = super::grid::MAX_SHEET_PIXELS
    )]
    SheetTooLarge {
        /// Columns of pixels.
        width: u64,
        /// Rows of pixels.
        height: u64,
    },

    /// The encoder refused the picture.
    #[error("could not encode the picture as {format}")]
    Encode {
        /// PNG or GIF.
        format: &'static str,
        /// The encoder's reason.
        source: image::ImageError,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] crate::files::FileError),
}
