//! One tile of a sheet: an image with what is drawn around and on it.

use std::borrow::Cow;

use image::{Rgb, RgbImage};

use super::{PictureError, Shape, palette};

/// How far a dimmed tile is faded towards the page.
const DIMMING: f32 = 0.86;

/// An image on a sheet, with an optional frame, caption and marked cells.
#[derive(Clone, Debug)]
pub struct Tile {
    pub(super) picture: RgbImage,
    pub(super) frame: Option<Rgb<u8>>,
    pub(super) caption: Option<String>,
    pub(super) dimmed: bool,
    pub(super) marks: Vec<Mark>,
}

/// A frame around one cell of a grid laid over a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The cell as (row, column), counted from 0.
    pub cell: (usize, usize),
    /// The grid as (rows, columns).
    pub grid: (usize, usize),
    /// Colour of the frame.
    pub colour: Rgb<u8>,
}

impl Tile {
    /// A tile that shows `values` of the given `shape`: 0 is black, 1 is full
    /// brightness; values outside are clamped, and NaN is black. `what` names
    /// the image in errors.
    ///
    /// # Errors
    /// [`PictureError::Shape`] and [`PictureError::Length`].
    pub fn from_values(values: &[f32], shape: Shape, what: &str) -> Result<Self, PictureError> {
        shape.check_values(values, what)?;
        Ok(Self::from_pixels(shape, |pixel| colour_of(values, shape, pixel)))
    }

    /// A tile whose pixels, counted in reading order, have the given colours.
    ///
    /// The shape must have been checked.
    pub(super) fn from_pixels(shape: Shape, colour: impl Fn(usize) -> Rgb<u8>) -> Self {
        Self::from_picture(RgbImage::from_fn(shape.width as u32, shape.height as u32, |x, y| {
            colour(y as usize * shape.width + x as usize)
        }))
    }

    /// A tile that shows `picture`, stretched to the size of the sheet's tiles.
    pub const fn from_picture(picture: RgbImage) -> Self {
        Self { picture, frame: None, caption: None, dimmed: false, marks: Vec::new() }
    }

    /// Draws a frame of this colour around the tile.
    #[must_use]
    pub const fn framed(mut self, colour: Rgb<u8>) -> Self {
        self.frame = Some(colour);
        self
    }

    /// Writes a line under the tile.
    #[must_use]
    pub fn captioned(mut self, caption: impl Into<String>) -> Self {
        self.caption = Some(caption.into());
        self
    }

    /// Fades the tile, its frame and its caption: there, but not meant.
    #[must_use]
    pub const fn dimmed(mut self) -> Self {
        self.dimmed = true;
        self
    }

    /// Frames one cell of a grid laid over the tile.
    ///
    /// # Errors
    /// [`PictureError::Cell`] if the cell lies outside its grid; `what` names
    /// the cell there.
    pub fn marked(mut self, mark: Mark, what: &str) -> Result<Self, PictureError> {
        let Mark { cell: (row, column), grid: (height, width), .. } = mark;
        if row >= height || column >= width {
            let what = what.to_owned();
            return Err(PictureError::Cell { what, row, column, height, width });
        }
        self.marks.push(mark);
        Ok(self)
    }

    /// `colour` as this tile shows it.
    pub(super) fn shown(&self, colour: Rgb<u8>) -> Rgb<u8> {
        if self.dimmed { palette::mix(colour, palette::PAGE, DIMMING) } else { colour }
    }

    /// The picture itself, one pixel for each value.
    pub fn into_picture(self) -> RgbImage {
        self.picture
    }

    /// The picture as this tile shows it.
    pub(super) fn shown_picture(&self) -> Cow<'_, RgbImage> {
        if !self.dimmed {
            return Cow::Borrowed(&self.picture);
        }
        let mut picture = self.picture.clone();
        picture.pixels_mut().for_each(|pixel| *pixel = self.shown(*pixel));
        Cow::Owned(picture)
    }

    /// The ink of the caption.
    pub(super) const fn caption_ink(&self) -> Rgb<u8> {
        if self.dimmed { palette::FAINT_INK } else { palette::INK }
    }
}

/// The colour of one pixel, counted in reading order, of an image whose length
/// has been checked.
pub(super) fn colour_of(values: &[f32], shape: Shape, pixel: usize) -> Rgb<u8> {
    // The cast saturates and sends NaN to 0.
    let byte = |value: f32| (value * 255.0).round() as u8;
    match shape.channels {
        1 => Rgb([byte(values[pixel]); 3]),
        _ => Rgb([0, 1, 2].map(|channel| byte(values[3 * pixel + channel]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_and_colour_values_become_pixels() {
        let grey = Tile::from_values(&[0.0, 1.0], Shape::new(1, 2, 1), "x").unwrap();
        assert_eq!(grey.picture.as_raw(), &[0, 0, 0, 255, 255, 255]);
        let colour = Tile::from_values(&[0.0, 0.2, 1.0], Shape::new(1, 1, 3), "x").unwrap();
        assert_eq!(colour.picture.as_raw(), &[0, 51, 255]);
    }

    #[test]
    fn values_outside_the_range_are_clamped() {
        let values = [-4.0, 9.0, f32::NAN, f32::INFINITY];
        let tile = Tile::from_values(&values, Shape::new(2, 2, 1), "x").unwrap();
        let first: Vec<u8> = tile.picture.pixels().map(|pixel| pixel[0]).collect();
        assert_eq!(first, [0, 255, 0, 255]);
    }

    #[test]
    fn a_cell_outside_its_grid_is_refused() {
        let tile = Tile::from_picture(RgbImage::new(1, 1));
        let mark = Mark { cell: (0, 4), grid: (4, 4), colour: palette::INK };
        let error = tile.marked(mark, "entity 2 of row 1").unwrap_err();
        assert!(error.to_string().starts_with("entity 2 of row 1 is cell (0, 4) of a 4×4 grid"));
    }
}
