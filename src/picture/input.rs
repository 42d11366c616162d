//! Pictures from outside, made into what a model takes.
//!
//! A model was trained on bright ink over a dark background, at one size; a
//! scan, a photo or a drawing is none of that. [`read_fitted`] brings any
//! picture file to the model's size and polarity, and says what it changed.

mod canvas;
mod file;
mod flatten;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, imageops::FilterType};

use super::{PictureError, Shape};
use canvas::Canvas;

/// The longest side a picture file may have, in pixels.
pub const MAX_FILE_SIDE: u32 = 16_384;
/// The most memory a decoded picture may take, in bytes.
pub const MAX_FILE_MEMORY: u64 = 512 << 20;

/// A picture as a model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Values in 0…1, as (height, width, channels).
    pub pixels: Vec<f32>,
    /// Whether dark and light were exchanged.
    pub inverted: bool,
    /// Width and height of the picture in the file, where they had to change.
    pub scaled_from: Option<(u32, u32)>,
    /// What was changed, in words for the user.
    pub notes: Vec<String>,
}

/// A picture file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// There is no such file.
    #[error("there is no file {path}; check the path", path = path.display())]
    Missing {
        /// The path that was asked for.
        path: PathBuf,
    },

    /// The path leads to a folder.
    #[error("{path} is a folder; name a picture in it", path = path.display())]
    Folder {
        /// The path that was asked for.
        path: PathBuf,
    },

    /// The system refused to read the file.
    #[error("could not read {path}; check that you may read it", path = path.display())]
    Unreadable {
        /// The path that was asked for.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// The file is no picture of a known kind.
    #[error(
        "{path} is not a picture this program can read; \
         convert it to PNG, JPEG, GIF, BMP, WebP, TIFF, PNM, TGA, QOI or ICO",
        path = path.display()
    )]
    Unsupported {
        /// The path that was asked for.
        path: PathBuf,
        /// The decoder's reason, where there is one.
        source: Option<image::ImageError>,
    },

    /// The picture would take too much memory.
    #[error(
        "{path} is too large; scale it down to at most {MAX_FILE_SIDE} pixels a side \
         and {mebibytes} MiB of pixels",
        path = path.display(),
        mebibytes = MAX_FILE_MEMORY >> 20
    )]
    TooLarge {
        /// The path that was asked for.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },

    /// The file starts like a picture but cannot be decoded.
    #[error(
        "{path} is damaged or cut off; open it in a picture program and save it again",
        path = path.display()
    )]
    Damaged {
        /// The path that was asked for.
        path: PathBuf,
        /// The decoder's reason.
        source: image::ImageError,
    },

    /// No picture can have the shape that was asked for.
    #[error(transparent)]
    Shape(#[from] PictureError),
}

/// Reads the picture at `path` and fits it to `shape`.
///
/// - The file's kind is told by its content; animations give their first
///   frame, and photos are turned upright as their EXIF data says.
/// - Transparent pictures are laid over a white page, or over a black one
///   where bright ink stands on nothing.
/// - A picture of exactly the right size keeps its pixels. Any other is scaled
///   until it just fits, keeping its proportions, and padded to the full size
///   with its background level, the median of its border. Scaling averages
///   (a triangle filter as wide as the step) rather than sharpens: Lanczos
///   would draw faint rings around ink, which a model takes for more ink.
/// - For grey models, dark ink on a light page (a border median above ½) is
///   inverted. RGB models get colours as they are.
///
/// # Errors
/// An [`InputError`] that says what is wrong with the file, before more than
/// [`MAX_FILE_MEMORY`] is spent on its pixels.
pub fn read_fitted(path: &Path, shape: Shape) -> Result<Fitted, InputError> {
    shape.check()?;
    Ok(fit(file::read(path)?, shape))
}

/// The same for the content of a picture file. `path` stands for it in errors, and its ending tells a TGA.
///
/// # Errors
/// As [`read_fitted`].
pub fn fitted(path: &Path, content: &[u8], shape: Shape) -> Result<Fitted, InputError> {
    shape.check()?;
    Ok(fit(file::decode(path, Cursor::new(content))?, shape))
}

/// Fits a decoded picture to `shape`, which has been checked.
fn fit(picture: DynamicImage, shape: Shape) -> Fitted {
    let mut notes = Vec::new();
    let original = (picture.width(), picture.height());
    let (picture, page) = flatten::onto_page(picture);
    if let Some(page) = page {
        notes.push(format!("transparent parts laid over {page}"));
    }

    let size = fitting_size(original, (shape.width as u32, shape.height as u32));
    let scaled_from = (size != original).then_some(original);
    let picture = match scaled_from {
        Some(_) => coarsened(picture, size).resize_exact(size.0, size.1, FilterType::Triangle),
        None => picture,
    };
    if let Some((width, height)) = scaled_from {
        notes.push(format!("scaled from {width}×{height} to {}×{}", size.0, size.1));
    }

    let mut canvas = Canvas::new(picture, shape.channels);
    let inverted = shape.channels == 1 && canvas.background()[0] > 127;
    if inverted {
        canvas.invert();
        notes.push("dark ink on a light page, inverted".to_owned());
    }
    if (size.1 as usize, size.0 as usize) != (shape.height, shape.width) {
        notes.push(format!("padded to {}×{} with the background", shape.width, shape.height));
    }
    Fitted { pixels: canvas.padded(shape), inverted, scaled_from, notes }
}

/// A picture that is far larger than `size` as one that is a few times as large, by the mean of its pixels: a file of a few bytes
/// can stand for 100 million of them, over which the triangle filter would take many seconds.
fn coarsened(picture: DynamicImage, size: (u32, u32)) -> DynamicImage {
    const TIMES: u32 = 4;
    let (width, height) = (size.0 * TIMES, size.1 * TIMES);
    match picture.width() > 2 * width && picture.height() > 2 * height {
        true => picture.thumbnail_exact(width, height),
        false => picture,
    }
}

/// The largest size of `original`'s proportions within `room`, both as
/// (width, height); at least one pixel a side.
fn fitting_size(original: (u32, u32), room: (u32, u32)) -> (u32, u32) {
    let [width, height, across, down] = [original.0, original.1, room.0, room.1].map(|side| u64::from(side.max(1)));
    let rounded = |length: u64, by: u64, over: u64| ((length * by + over / 2) / over).max(1) as u32;
    if width * down > height * across {
        (room.0, rounded(height, across, width))
    } else {
        (rounded(width, down, height), room.1)
    }
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    use super::*;

    const SHAPE: Shape = Shape::new(16, 16, 1);

    /// A `width`×`height` page with a filled box in the middle third.
    fn drawing(width: u32, height: u32, page: u8, ink: u8) -> DynamicImage {
        let middle = |at: u32, side: u32| (side / 3..side - side / 3).contains(&at);
        DynamicImage::ImageLuma8(GrayImage::from_fn(width, height, |x, y| {
            Luma([if middle(x, width) && middle(y, height) { ink } else { page }])
        }))
    }

    #[test]
    fn a_picture_of_the_right_size_keeps_its_pixels() {
        let picture = GrayImage::from_fn(16, 16, |x, y| Luma([(x * y) as u8]));
        let expected: Vec<f32> = picture.pixels().map(|pixel| f32::from(pixel[0]) / 255.0).collect();
        let fitted = fit(DynamicImage::ImageLuma8(picture), SHAPE);
        assert_eq!(fitted, Fitted { pixels: expected, inverted: false, scaled_from: None, notes: vec![] });
    }

    #[test]
    fn dark_ink_on_a_light_page_is_inverted_for_grey_models_only() {
        let grey = fit(drawing(16, 16, 250, 0), SHAPE);
        assert!(grey.inverted);
        assert_eq!((grey.pixels[0], grey.pixels[8 * 16 + 8]), (5.0 / 255.0, 1.0));
        let colour = fit(drawing(16, 16, 250, 0), Shape::new(16, 16, 3));
        assert!(!colour.inverted);
        assert_eq!(colour.pixels[0], 250.0 / 255.0);
    }

    #[test]
    fn other_proportions_are_kept_and_padded_with_the_background() {
        let fitted = fit(drawing(64, 32, 51, 255), SHAPE);
        assert_eq!(fitted.scaled_from, Some((64, 32)));
        let row = |y: usize| &fitted.pixels[y * 16..(y + 1) * 16];
        for y in (0..4).chain(12..16) {
            assert!(row(y).iter().all(|&value| value == 0.2), "row {y}");
        }
        assert!(row(8)[8] > 0.99 && row(8)[0] == 0.2);
        assert_eq!(fitted.notes.len(), 2, "{:?}", fitted.notes);
    }

    #[test]
    fn small_pictures_are_scaled_up() {
        let fitted = fit(drawing(3, 3, 0, 255), SHAPE);
        assert_eq!(fitted.scaled_from, Some((3, 3)));
        assert!(fitted.pixels[8 * 16 + 8] > 0.8 && fitted.pixels[0] == 0.0);
    }

    #[test]
    fn scaling_never_leaves_the_range_of_the_picture() {
        let fitted = fit(drawing(301, 299, 40, 200), SHAPE);
        let (low, high) = (40.0 / 255.0, 200.0 / 255.0);
        assert!(fitted.pixels.iter().all(|value| (low..=high).contains(value)));
    }

    #[test]
    fn a_picture_far_larger_than_wanted_looks_as_a_smaller_one() {
        let (large, small) = (fit(drawing(1600, 1600, 40, 200), SHAPE), fit(drawing(100, 100, 40, 200), SHAPE));
        assert_eq!(large.scaled_from, Some((1600, 1600)));
        let furthest = large.pixels.iter().zip(&small.pixels).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(furthest < 0.05, "{furthest}");
    }

    #[test]
    fn transparent_ink_is_found_on_either_page() {
        for ink in [0, 255] {
            let picture =
                RgbaImage::from_fn(
                    16,
                    16,
                    |x, _| {
                        if x == 8 { Rgba([ink, ink, ink, 255]) } else { Rgba([ink, ink, ink, 0]) }
                    },
                );
            let fitted = fit(DynamicImage::ImageRgba8(picture), SHAPE);
            assert_eq!((fitted.pixels[0], fitted.pixels[8]), (0.0, 1.0), "ink {ink}");
        }
    }

    #[test]
    fn colours_stay_in_their_channels() {
        let picture = RgbImage::from_pixel(2, 2, Rgb([255, 51, 0]));
        let fitted = fit(DynamicImage::ImageRgb8(picture), Shape::new(2, 2, 3));
        assert_eq!(fitted.pixels[..3], [1.0, 0.2, 0.0]);
    }

    #[test]
    fn sizes_fit_and_never_vanish() {
        assert_eq!(fitting_size((640, 480), (64, 64)), (64, 48));
        assert_eq!(fitting_size((480, 640), (64, 64)), (48, 64));
        assert_eq!(fitting_size((16_384, 1), (64, 64)), (64, 1));
        assert_eq!(fitting_size((28, 28), (64, 48)), (48, 48));
    }
}
