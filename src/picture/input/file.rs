//! Decoding a picture file without trusting it.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Seek},
    path::Path,
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, ImageResult, Limits, metadata::Orientation};

use super::{InputError, MAX_FILE_MEMORY, MAX_FILE_SIDE};

/// Reads the picture at `path`, upright.
pub(super) fn read(path: &Path) -> Result<DynamicImage, InputError> {
    let unreadable = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => InputError::Missing { path: path.to_owned() },
        _ => InputError::Unreadable { path: path.to_owned(), source },
    };
    // Asked before opening: only ordinary files are sure to end.
    let kind = std::fs::metadata(path).map_err(unreadable)?;
    if kind.is_dir() {
        return Err(InputError::Folder { path: path.to_owned() });
    }
    if !kind.is_file() {
        return Err(InputError::Unsupported { path: path.to_owned(), source: None });
    }
    decode(path, BufReader::new(File::open(path).map_err(unreadable)?))
}

/// Decodes the content of the picture file that `path` names.
pub(super) fn decode(path: &Path, content: impl BufRead + Seek) -> Result<DynamicImage, InputError> {
    let unreadable = |source| InputError::Unreadable { path: path.to_owned(), source };
    let reader = ImageReader::new(content).with_guessed_format().map_err(unreadable)?;
    // TGA has no signature to be known by; its name is all there is to go by.
    let by_name = image::ImageFormat::from_path(path).ok();
    let Some(format) = reader.format().or(by_name) else {
        return Err(InputError::Unsupported { path: path.to_owned(), source: None });
    };
    let reader = ImageReader::with_format(reader.into_inner(), format);
    decode_within_limits(reader).map_err(|source| {
        let path = path.to_owned();
        match source {
            ImageError::Limits(_) => InputError::TooLarge { path, source },
            ImageError::Unsupported(_) => InputError::Unsupported { path, source: Some(source) },
            _ => InputError::Damaged { path, source },
        }
    })
}

/// Decodes within the limits, and turns the picture upright.
fn decode_within_limits(mut reader: ImageReader<impl BufRead + Seek>) -> ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_FILE_SIDE);
    limits.max_image_height = Some(MAX_FILE_SIDE);
    limits.max_alloc = Some(MAX_FILE_MEMORY);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    // The decoder's limits cover its own buffers; the pixels it fills come out of the same purse.
    limits.check_dimensions(decoder.dimensions().0, decoder.dimensions().1)?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    // A picture whose metadata cannot be read is still a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use image::{GrayImage, ImageFormat, Luma, RgbImage};
    use tempfile::TempDir;

    use super::*;

    fn written(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let picture = RgbImage::from_pixel(9, 6, image::Rgb([10, 200, 30]));
        // The ICO decoder insists on an alpha channel; the others would lose or keep it.
        let picture = match format {
            ImageFormat::Ico => DynamicImage::ImageRgb8(picture).into_rgba8().into(),
            _ => DynamicImage::ImageRgb8(picture),
        };
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_lossless_format_is_read_back() {
        use ImageFormat::{Bmp, Gif, Ico, Png, Pnm, Qoi, Tga, Tiff, WebP};
        for format in [Bmp, Gif, Ico, Png, Pnm, Qoi, Tiff, WebP, Tga] {
            let name = if format == Tga { "drawing.tga" } else { "drawing" };
            let (_folder, path) = written(name, &encoded(format));
            let picture = read(&path).unwrap().into_rgb8();
            assert_eq!(picture.dimensions(), (9, 6), "{format:?}");
            assert_eq!(picture.get_pixel(4, 3).0, [10, 200, 30], "{format:?}");
        }
    }

    #[test]
    fn missing_files_folders_and_text_are_told_apart() {
        let (folder, path) = written("note.txt", b"no picture at all");
        assert!(matches!(read(&path), Err(InputError::Unsupported { .. })));
        assert!(matches!(read(folder.path()), Err(InputError::Folder { .. })));
        let missing = folder.path().join("no.png");
        assert!(matches!(read(&missing), Err(InputError::Missing { .. })));
    }

    #[test]
    fn a_file_cut_off_is_damaged() {
        let bytes = encoded(ImageFormat::Png);
        let (_folder, path) = written("cut.png", &bytes[..bytes.len() / 2]);
        assert!(matches!(read(&path), Err(InputError::Damaged { .. })));
        let (_folder, path) = written("empty.png", b"");
        assert!(matches!(read(&path), Err(InputError::Damaged { .. })));
    }

    #[test]
    fn pictures_that_only_claim_to_be_huge_are_refused() {
        use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Qoi, Tga};
        // A side too long; then two allowed sides whose pixels take too much memory.
        for (width, height) in [(20_000, 1), (1, 20_000), (16_000, 16_000)] {
            for format in [Bmp, Gif, Jpeg, Png, Pnm, Qoi, Tga] {
                let (_folder, path) = written("bomb.tga", &claiming(format, width, height));
                assert!(matches!(read(&path), Err(InputError::TooLarge { .. })), "{format:?} {width}×{height}");
            }
        }
    }

    /// A picture of a few pixels whose header says that they are many more.
    fn claiming(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let mut bytes = encoded(format);
        let mut put = |at: usize, with: &[u8]| bytes[at..at + with.len()].copy_from_slice(with);
        let (short_width, short_height) = (width as u16, height as u16);
        match format {
            ImageFormat::Bmp => put(18, &[width.to_le_bytes(), height.to_le_bytes()].concat()),
            ImageFormat::Gif => put(6, &[short_width.to_le_bytes(), short_height.to_le_bytes()].concat()),
            ImageFormat::Tga => put(12, &[short_width.to_le_bytes(), short_height.to_le_bytes()].concat()),
            ImageFormat::Qoi => put(4, &[width.to_be_bytes(), height.to_be_bytes()].concat()),
            ImageFormat::Jpeg => {
                let frame = encoded(format).windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
                put(frame + 5, &[short_height.to_be_bytes(), short_width.to_be_bytes()].concat());
            }
            ImageFormat::Png => {
                put(16, &[width.to_be_bytes(), height.to_be_bytes()].concat());
                // The chunk's sum, over its type and content.
                let mut sum = flate2::Crc::new();
                sum.update(&bytes[12..29]);
                bytes[29..33].copy_from_slice(&sum.sum().to_be_bytes());
            }
            _ => return format!("P6 {width} {height} 255\n").into_bytes(),
        }
        bytes
    }

    #[test]
    fn a_jpeg_is_turned_upright() {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let picture = GrayImage::from_fn(16, 8, |x, _| Luma([if x < 8 { 255 } else { 0 }]));
        picture.write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        let mut bytes = bytes.into_inner();
        // An EXIF block with the one entry "orientation: 6", turned a quarter to the right.
        let mut exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
        exif.extend(b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0");
        bytes.splice(2..2, exif);
        let (_folder, path) = written("photo.jpg", &bytes);
        let picture = read(&path).unwrap().into_luma8();
        assert_eq!(picture.dimensions(), (8, 16));
        assert!(picture.get_pixel(4, 2)[0] > 200 && picture.get_pixel(4, 13)[0] < 50);
    }
}
