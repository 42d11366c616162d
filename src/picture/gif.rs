//! Moving pictures.

use std::time::Duration;

use image::{Delay, DynamicImage, Frame, RgbImage, codecs::gif::GifEncoder, codecs::gif::Repeat};

use super::PictureError;

/// How hard the encoder looks for the best colours, 1 (long) to 30 (short). Frames of at most 256 colours, and greys are no more,
/// are kept exactly whatever it is.
const SPEED: i32 = 10;

/// `frames` as the bytes of a GIF that repeats for ever, each shown for `each`. All must be of one size.
///
/// # Errors
/// [`PictureError::Empty`] and [`PictureError::Encode`].
pub fn gif(frames: Vec<RgbImage>, each: Duration) -> Result<Vec<u8>, PictureError> {
    if frames.is_empty() {
        return Err(PictureError::Empty);
    }
    let refused = |source| PictureError::Encode { format: "GIF", source };
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, SPEED);
    encoder.set_repeat(Repeat::Infinite).map_err(refused)?;
    for frame in frames {
        let rgba = DynamicImage::ImageRgb8(frame).into_rgba8();
        let frame = Frame::from_parts(rgba, 0, 0, Delay::from_saturating_duration(each));
        encoder.encode_frame(frame).map_err(refused)?;
    }
    drop(encoder);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use image::{AnimationDecoder, Rgb, codecs::gif::GifDecoder};
    use std::io::Cursor;

    use super::*;

    #[test]
    fn frames_come_back_in_order_and_in_their_colours() {
        let grey = |value: u8| RgbImage::from_pixel(6, 4, Rgb([value; 3]));
        let bytes = gif(vec![grey(0), grey(120), grey(255)], Duration::from_millis(80)).unwrap();
        let frames = GifDecoder::new(Cursor::new(bytes)).unwrap().into_frames().collect_frames().unwrap();
        let seen: Vec<(u8, Duration)> =
            frames.iter().map(|f| (f.buffer().get_pixel(3, 2)[0], Duration::from(f.delay()))).collect();
        let each = Duration::from_millis(80);
        assert_eq!(seen, [(0, each), (120, each), (255, each)]);
    }

    #[test]
    fn no_frames_are_an_error() {
        assert!(matches!(gif(vec![], Duration::ZERO), Err(PictureError::Empty)));
    }
}
