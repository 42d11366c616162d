//! Laying transparent pictures over a page.

use std::fmt;

use image::{DynamicImage, GenericImageView, Rgb, RgbImage, Rgba};

/// The page under a transparent picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    White,
    Black,
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::White => "white",
            Self::Black => "black",
        })
    }
}

/// `picture` without transparency, and the page that shows through it, if any
/// does.
pub(super) fn onto_page(picture: DynamicImage) -> (DynamicImage, Option<Page>) {
    if !picture.color().has_alpha() {
        return (picture, None);
    }
    let shows = picture.pixels().any(|(_, _, pixel)| pixel[3] < 255);
    let page = page_for(&picture);
    let flat = RgbImage::from_fn(picture.width(), picture.height(), |x, y| over(picture.get_pixel(x, y), page));
    (DynamicImage::ImageRgb8(flat), shows.then_some(page))
}

/// White, as picture viewers have it, unless bright ink stands on a mostly
/// transparent border: over white it would be lost.
fn page_for(picture: &DynamicImage) -> Page {
    let (width, height) = picture.dimensions();
    let (mut border, mut clear_border) = (0_u64, 0_u64);
    let (mut ink, mut brightness) = (0.0_f64, 0.0_f64);
    for (x, y, Rgba([red, green, blue, alpha])) in picture.pixels() {
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            border += 1;
            clear_border += u64::from(alpha < 128);
        }
        let mean = (f64::from(red) + f64::from(green) + f64::from(blue)) / (3.0 * 255.0);
        ink += f64::from(alpha);
        brightness += f64::from(alpha) * mean;
    }
    if 2 * clear_border > border && brightness > 0.5 * ink { Page::Black } else { Page::White }
}

fn over(Rgba([red, green, blue, alpha]): Rgba<u8>, page: Page) -> Rgb<u8> {
    let page = if page == Page::White { 255 } else { 0 };
    let alpha = u32::from(alpha);
    Rgb([red, green, blue].map(|ink| ((u32::from(ink) * alpha + page * (255 - alpha) + 127) / 255) as u8))
}

#[cfg(test)]
mod tests {
    use image::RgbaImage;

    use super::*;

    #[test]
    fn opaque_pixels_keep_their_colour_and_need_no_page() {
        let picture = RgbaImage::from_pixel(3, 3, Rgba([1, 120, 254, 255]));
        let (flat, page) = onto_page(DynamicImage::ImageRgba8(picture));
        assert_eq!(page, None);
        assert!(flat.into_rgb8().pixels().all(|pixel| pixel.0 == [1, 120, 254]));
    }

    #[test]
    fn half_transparent_ink_mixes_with_the_page() {
        assert_eq!(over(Rgba([0, 0, 0, 128]), Page::White).0, [127; 3]);
        assert_eq!(over(Rgba([200, 200, 200, 0]), Page::White).0, [255; 3]);
        assert_eq!(over(Rgba([200, 200, 200, 0]), Page::Black).0, [0; 3]);
    }

    #[test]
    fn a_bright_photo_with_clear_corners_stays_on_white() {
        let mut picture = RgbaImage::from_pixel(9, 9, Rgba([240, 240, 240, 255]));
        picture.put_pixel(0, 0, Rgba([0, 0, 0, 0]));
        let (_, page) = onto_page(DynamicImage::ImageRgba8(picture));
        assert_eq!(page, Some(Page::White));
    }
}
