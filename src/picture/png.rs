//! Saving a picture so that nobody ever sees half of it.

use std::path::Path;

use image::{
    ExtendedColorType, ImageEncoder, RgbImage,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};

use super::PictureError;

/// `picture` as the bytes of a PNG file.
///
/// # Errors
/// [`PictureError::Encode`].
pub fn png(picture: &RgbImage) -> Result<Vec<u8>, PictureError> {
    let mut bytes = Vec::new();
    // Sheets are mostly flat colour: the slow setting pays for itself in repositories and pages.
    PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|source| PictureError::Encode { format: "PNG", source })?;
    Ok(bytes)
}

/// Saves `picture` as a PNG at `path`.
///
/// The file is encoded in memory and moved into place whole, so a reader that
/// watches `path` (or a run that is stopped) meets the old picture or the new
/// one, never a torn one.
///
/// # Errors
/// [`PictureError::Encode`] and [`PictureError::Write`].
pub fn save_png(picture: &RgbImage, path: &Path) -> Result<(), PictureError> {
    Ok(crate::files::write_bytes_atomic(path, &png(picture)?)?)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_saved_picture_reads_back_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        std::fs::write(&path, b"older").unwrap();
        let picture = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8 * 50, y as u8 * 100, 7]));

        save_png(&picture, &path).unwrap();

        assert_eq!(image::open(&path).unwrap().into_rgb8(), picture);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_is_a_write_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = save_png(&RgbImage::new(1, 1), &folder.path().join("no/sheet.png"));
        assert!(matches!(error, Err(PictureError::Write { .. })));
    }
}
