//! Images drawn from a model's prior.

use image::RgbImage;

use super::{Density, PictureError, Shape, grid::Sheet, tile::Tile};

/// Draws `images`, each in 0…1 as (height, width, channels), in reading order
/// with `columns` to a row.
///
/// # Errors
/// A [`PictureError`] that names the image that does not fit; no images, or no
/// columns, are refused too.
pub fn samples(
    title: &str,
    shape: Shape,
    images: &[Vec<f32>],
    columns: usize,
    density: Density,
) -> Result<RgbImage, PictureError> {
    if columns == 0 {
        return Err(PictureError::Empty);
    }
    let mut sheet = Sheet::new(shape).title(title).density(density);
    for (row, images) in images.chunks(columns).enumerate() {
        let tiles: Result<Vec<Tile>, _> = images
            .iter()
            .enumerate()
            .map(|(column, image)| {
                let what = format!("image {}", row * columns + column + 1);
                Tile::from_values(image, shape, &what)
            })
            .collect();
        sheet = sheet.row(None, tiles?);
    }
    sheet.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(4, 4, 3);

    fn drawn(images: usize, columns: usize) -> Result<RgbImage, PictureError> {
        samples("a test", SHAPE, &vec![vec![0.5; 48]; images], columns, Density::Single)
    }

    #[test]
    fn the_last_row_may_be_short() {
        let (full, short) = (drawn(6, 3).unwrap(), drawn(4, 3).unwrap());
        assert_eq!(full.dimensions(), short.dimensions());
        assert_ne!(full, short);
    }

    #[test]
    fn nothing_to_show_is_an_error() {
        assert!(matches!(drawn(0, 3), Err(PictureError::Empty)));
        assert!(matches!(drawn(3, 0), Err(PictureError::Empty)));
    }
}
