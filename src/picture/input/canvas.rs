//! A picture's bytes in the channels a model takes, and the frame of
//! background around them.

use image::DynamicImage;

use crate::picture::Shape;

/// Pixels in reading order, `channels` bytes each; never empty.
pub(super) struct Canvas {
    bytes: Vec<u8>,
    width: usize,
    channels: usize,
}

impl Canvas {
    /// `picture` as grey (1 channel) or RGB (3).
    pub(super) fn new(picture: DynamicImage, channels: usize) -> Self {
        let width = picture.width() as usize;
        let bytes = match channels {
            1 => picture.into_luma8().into_raw(),
            _ => picture.into_rgb8().into_raw(),
        };
        Self { bytes, width, channels }
    }

    /// Exchanges dark and light.
    pub(super) fn invert(&mut self) {
        for byte in &mut self.bytes {
            *byte = 255 - *byte;
        }
    }

    /// The median of each channel along the border; unused channels are 0.
    pub(super) fn background(&self) -> [u8; 3] {
        let mut background = [0; 3];
        for (channel, level) in background.iter_mut().enumerate().take(self.channels) {
            let mut border: Vec<u8> = self.border().map(|pixel| pixel[channel]).collect();
            let middle = border.len() / 2;
            *level = *border.select_nth_unstable(middle).1;
        }
        background
    }

    /// The picture in the middle of `shape`, which it must fit, with its
    /// background around it; values in 0…1.
    pub(super) fn padded(&self, shape: Shape) -> Vec<f32> {
        let level = |byte: u8| f32::from(byte) / 255.0;
        let background = self.background().map(level);
        let (top, left) = ((shape.height - self.height()) / 2, (shape.width - self.width) / 2);
        let mut pixels = background[..self.channels].repeat(shape.pixels());
        for (y, row) in self.bytes.chunks(self.width * self.channels).enumerate() {
            let start = ((top + y) * shape.width + left) * self.channels;
            for (pixel, &byte) in pixels[start..].iter_mut().zip(row) {
                *pixel = level(byte);
            }
        }
        pixels
    }

    fn height(&self) -> usize {
        self.bytes.len() / (self.width * self.channels)
    }

    fn border(&self) -> impl Iterator<Item = &[u8]> {
        let (width, height) = (self.width, self.height());
        self.bytes.chunks(self.channels).enumerate().filter_map(move |(index, pixel)| {
            let (x, y) = (index % width, index / width);
            let edge = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
            edge.then_some(pixel)
        })
    }
}

#[cfg(test)]
mod tests {
    use image::GrayImage;

    use super::*;

    fn canvas(width: u32, height: u32, bytes: &[u8]) -> Canvas {
        let picture = GrayImage::from_raw(width, height, bytes.to_vec()).unwrap();
        Canvas::new(DynamicImage::ImageLuma8(picture), 1)
    }

    #[test]
    fn the_background_is_that_of_the_border_alone() {
        assert_eq!(canvas(3, 3, &[9, 9, 9, 9, 200, 9, 9, 9, 77]).background(), [9, 0, 0]);
        assert_eq!(canvas(1, 1, &[42]).background(), [42, 0, 0]);
    }

    #[test]
    fn padding_centres_the_picture() {
        let pixels = canvas(2, 1, &[255, 255]).padded(Shape::new(3, 4, 1));
        assert_eq!(pixels.len(), 12);
        let mut other = canvas(2, 1, &[255, 0]);
        other.invert();
        let pixels = other.padded(Shape::new(3, 4, 1));
        assert_eq!(pixels[4..8], [1.0, 0.0, 1.0, 1.0]);
    }
}
