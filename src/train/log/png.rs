//! The header of a PNG file.

use super::protobuf::Image;

/// The eight bytes that open every PNG file, and the length and type of its first chunk.
const OPENING: &[u8; 16] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";

/// Reads what an image summary states about its image from the PNG itself, so that the two cannot
/// disagree. `None` if it is no PNG.
pub(super) fn describe(png: &[u8]) -> Option<Image<'_>> {
    let (width, header) = png.strip_prefix(OPENING)?.split_first_chunk()?;
    let (height, header) = header.split_first_chunk()?;
    // After the bit depth comes the colour type (PNG specification, chunk IHDR).
    let colorspace = match header.get(1)? {
        0 => 1,
        4 => 2,
        // A palette, type 3, is one of RGB.
        2 | 3 => 3,
        6 => 4,
        _ => return None,
    };
    Some(Image { height: u32::from_be_bytes(*height), width: u32::from_be_bytes(*width), colorspace, encoded: png })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(colour_type: u8) -> Vec<u8> {
        [&OPENING[..], &[0, 0, 1, 2], &[0, 0, 3, 4], &[8, colour_type, 0, 0, 0]].concat()
    }

    #[test]
    fn size_and_channels_are_read_from_the_header() {
        for (colour_type, channels) in [(0, 1), (4, 2), (2, 3), (3, 3), (6, 4)] {
            let png = header(colour_type);
            let image = describe(&png).expect("a valid header");
            assert_eq!((image.width, image.height), (0x102, 0x304));
            assert_eq!(image.colorspace, channels);
            assert_eq!(image.encoded, png);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let png = header(2);
        for length in 0..26 {
            assert!(describe(&png[..length]).is_none(), "{length} bytes");
        }
        assert!(describe(&header(5)).is_none());
        assert!(describe(b"\xff\xd8\xff\xe0 a JPEG is not a PNG, however long").is_none());
    }
}
