//! Inputs above what one or more models make of them.

use image::RgbImage;

use super::{Density, PictureError, Shape, grid::Sheet, tile::Tile};

/// Images beside each other before the rows start anew underneath.
pub const COLUMNS: usize = 10;

/// Ten columns need smaller tiles than the sheet's usual ones to fit a page.
const SIDE: u32 = 96;

/// A labelled row of images: the inputs, or one model's reconstructions.
#[derive(Clone, Debug)]
pub struct ImageRow {
    /// What the images are, e.g. "input" or "vae β=1".
    pub label: String,
    /// The images, each in 0…1 as (height, width, channels).
    pub images: Vec<Vec<f32>>,
}

/// Draws the rows under each other, so that each column holds one input and
/// its reconstructions. More than [`COLUMNS`] images go on in a further block
/// of rows.
///
/// # Errors
/// A [`PictureError`] that names the row and the image that do not fit; rows
/// of different lengths are refused too.
pub fn reconstruction(
    title: &str,
    shape: Shape,
    rows: &[ImageRow],
    density: Density,
) -> Result<RgbImage, PictureError> {
    let images = rows.first().map_or(0, |row| row.images.len());
    for row in rows {
        if row.images.len() != images {
            return Err(PictureError::RowLength {
                label: row.label.clone(),
                expected: images,
                actual: row.images.len(),
            });
        }
    }
    let mut sheet = Sheet::new(shape).title(title).density(density).side(SIDE);
    for start in (0..images).step_by(COLUMNS) {
        for row in rows {
            let block = start..images.min(start + COLUMNS);
            let tiles: Result<Vec<Tile>, _> = block
                .map(|index| {
                    let what = format!("image {} of row \"{}\"", index + 1, row.label);
                    Tile::from_values(&row.images[index], shape, &what)
                })
                .collect();
            sheet = sheet.row(Some(&row.label), tiles?);
        }
    }
    sheet.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(4, 4, 1);

    fn row(label: &str, images: usize) -> ImageRow {
        ImageRow { label: label.to_owned(), images: vec![vec![0.5; 16]; images] }
    }

    fn drawn(rows: &[ImageRow]) -> Result<RgbImage, PictureError> {
        reconstruction("a test", SHAPE, rows, Density::Single)
    }

    #[test]
    fn eleven_images_take_a_second_block_of_rows() {
        let ten = drawn(&[row("input", 10), row("vae β=1", 10)]).unwrap();
        let eleven = drawn(&[row("input", 11), row("vae β=1", 11)]).unwrap();
        assert_eq!(eleven.width(), ten.width());
        assert!(eleven.height() > ten.height() + 2 * 96);
    }

    #[test]
    fn rows_of_different_lengths_are_refused() {
        let error = drawn(&[row("input", 3), row("vae", 2)]).unwrap_err();
        assert!(error.to_string().contains("\"vae\" has 2 images"), "{error}");
    }

    #[test]
    fn a_bad_image_is_named() {
        let mut bad = row("vae", 2);
        bad.images[1].pop();
        let error = drawn(&[row("input", 2), bad]).unwrap_err();
        assert!(error.to_string().starts_with("image 2 of row \"vae\" holds 15"), "{error}");
    }

    #[test]
    fn nothing_to_show_is_an_error() {
        assert!(matches!(drawn(&[]), Err(PictureError::Empty)));
        assert!(matches!(drawn(&[row("input", 0)]), Err(PictureError::Empty)));
    }
}
