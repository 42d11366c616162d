//! The shape of an image as plain values.

use super::PictureError;

/// The longest side of a tile, in pixels: far above any model's, and small
/// enough that sizes computed from it cannot overflow.
pub(super) const MAX_SIDE: usize = 4096;

/// Shape of an image whose values lie in memory as (height, width, channels).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
    /// Values per pixel: 1 for grey, 3 for RGB.
    pub channels: usize,
}

impl Shape {
    /// A shape of `height`×`width` pixels with `channels` values each.
    pub const fn new(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels }
    }

    /// Whether images of this shape can be drawn.
    ///
    /// # Errors
    /// [`PictureError::Shape`] for an empty or overlong side, or for a number
    /// of channels other than 1 and 3.
    pub fn check(self) -> Result<(), PictureError> {
        let side = 1..=MAX_SIDE;
        let drawable = side.contains(&self.height) && side.contains(&self.width) && matches!(self.channels, 1 | 3);
        if drawable {
            return Ok(());
        }
        let Self { height, width, channels } = self;
        Err(PictureError::Shape { height, width, channels })
    }

    /// Whether `values` holds exactly one image of this shape; `what` names it
    /// in the error.
    ///
    /// # Errors
    /// Those of [`Shape::check`], and [`PictureError::Length`].
    pub fn check_values(self, values: &[f32], what: &str) -> Result<(), PictureError> {
        self.check()?;
        check_length(values.len(), self.pixels() * self.channels, what)
    }

    /// Pixels of one image.
    pub const fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// Compares a slice's length with the one its shape asks for.
pub(super) fn check_length(actual: usize, expected: usize, what: &str) -> Result<(), PictureError> {
    if actual == expected {
        return Ok(());
    }
    Err(PictureError::Length { what: what.to_owned(), expected, actual })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_no_tile_can_have_are_refused() {
        for shape in [
            Shape::new(0, 8, 1),
            Shape::new(8, MAX_SIDE + 1, 1),
            Shape::new(8, 8, 2),
            Shape::new(usize::MAX, usize::MAX, 3),
        ] {
            assert!(matches!(shape.check(), Err(PictureError::Shape { .. })), "{shape:?}");
        }
        assert!(Shape::new(MAX_SIDE, 1, 3).check().is_ok());
    }

    #[test]
    fn a_wrong_number_of_values_is_named() {
        let error = Shape::new(2, 3, 1).check_values(&[0.0; 5], "the input of row 1").unwrap_err();
        let message = error.to_string();
        assert!(message.contains("the input of row 1 holds 5 values where 6"), "{message}");
    }
}
