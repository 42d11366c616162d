//! One latent dimension at a time, moved from one end to the other: a sheet, and the frames of a moving picture.

use image::RgbImage;

use super::{Density, PictureError, Shape, grid::Sheet, tile::Tile};

/// Side of the sheet's tiles.
const SIDE: u32 = 84;
/// Side of the moving picture's tiles.
const MOVING_SIDE: u32 = 112;
/// Tiles beside each other in the moving picture.
const MOVING_COLUMNS: usize = 6;

/// What moving each latent dimension does to an image.
#[derive(Clone, Debug)]
pub struct Traversals<'a> {
    /// Over everything.
    pub title: &'a str,
    /// Of every image.
    pub shape: Shape,
    /// The values that each dimension takes.
    pub values: &'a [f64],
    /// Of each dimension its name, and one image for each value, each in 0…1 as (height, width, channels).
    pub dimensions: &'a [(String, Vec<Vec<f32>>)],
    /// Under everything.
    pub footnote: &'a str,
}

impl Traversals<'_> {
    /// A row for each dimension, a column for each value.
    ///
    /// # Errors
    /// A [`PictureError`] that names the image that does not fit.
    pub fn sheet(&self, density: Density) -> Result<RgbImage, PictureError> {
        let mut sheet = Sheet::new(self.shape).side(SIDE).density(density);
        sheet = sheet.title(self.title).headings(self.values.iter().map(|value| signed(*value)));
        for (name, images) in self.dimensions {
            let tiles: Result<Vec<_>, _> = (0..images.len()).map(|at| self.tile(name, images, at)).collect();
            sheet = sheet.row(Some(name), tiles?);
        }
        sheet.footnote(self.footnote).draw()
    }

    /// A picture for each value, in which every dimension is shown at that value.
    ///
    /// # Errors
    /// A [`PictureError`] that names the image that does not fit, or is missing.
    pub fn frames(&self, density: Density) -> Result<Vec<RgbImage>, PictureError> {
        (0..self.values.len()).map(|at| self.frame(at, density)).collect()
    }

    fn frame(&self, at: usize, density: Density) -> Result<RgbImage, PictureError> {
        let mut sheet = Sheet::new(self.shape).side(MOVING_SIDE).density(density);
        // Equally long in every frame, so that nothing jumps.
        sheet = sheet.title(format!("{} · each dimension at {:>5}", self.title, signed(self.values[at])));
        for row in self.dimensions.chunks(MOVING_COLUMNS) {
            let tiles: Result<Vec<_>, PictureError> =
                row.iter().map(|(name, images)| Ok(self.tile(name, images, at)?.captioned(name))).collect();
            sheet = sheet.row(None, tiles?);
        }
        sheet.footnote(self.footnote).draw()
    }

    fn tile(&self, name: &str, images: &[Vec<f32>], at: usize) -> Result<Tile, PictureError> {
        let what = format!("image {} of {name}", at + 1);
        Tile::from_values(images.get(at).map_or(&[][..], |image| image), self.shape, &what)
    }
}

/// A value to one decimal, with its sign.
fn signed(value: f64) -> String {
    if value == 0.0 { "0".into() } else { format!("{value:+.1}").replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(4, 4, 1);

    fn dimensions(count: usize, images: usize) -> Vec<(String, Vec<Vec<f32>>)> {
        (0..count).map(|d| (format!("z{d}"), vec![vec![0.5; 16]; images])).collect()
    }

    #[test]
    fn the_sheet_has_a_row_for_each_dimension_and_the_film_a_frame_for_each_value() {
        let values = [-3.0, 0.0, 3.0];
        let (two, eight) = (dimensions(2, 3), dimensions(8, 3));
        let shown = |dimensions| Traversals { title: "t", shape: SHAPE, values: &values, dimensions, footnote: "" };
        let (short, tall) = (shown(&two).sheet(Density::Single), shown(&eight).sheet(Density::Single));
        assert!(tall.unwrap().height() >= short.unwrap().height() + 6 * 84);
        let frames = shown(&eight).frames(Density::Single).unwrap();
        assert_eq!(frames.len(), 3);
        assert!(frames.iter().all(|frame| frame.dimensions() == frames[0].dimensions()));
        assert_ne!(frames[0], frames[1], "the title names the value");
    }

    #[test]
    fn a_missing_image_is_named() {
        let dimensions = dimensions(2, 2);
        let short =
            Traversals { title: "t", shape: SHAPE, values: &[-1.0, 0.0, 1.0], dimensions: &dimensions, footnote: "" };
        let error = short.frames(Density::Single).unwrap_err().to_string();
        assert!(error.starts_with("image 3 of z0 holds 0"), "{error}");
    }
}
