//! Drawing primitives: filled boxes, frames, stretched images. All of them
//! clip at the edge of the canvas.

use image::{Rgb, RgbImage};

/// A box of device pixels; `x` and `y` are its left and top edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// Left edge.
    pub x: u32,
    /// Top edge.
    pub y: u32,
    /// Columns of pixels.
    pub width: u32,
    /// Rows of pixels.
    pub height: u32,
}

impl Area {
    /// The box `by` pixels larger on every side, cut off at 0.
    pub const fn grown(self, by: u32) -> Self {
        let (x, y) = (self.x.saturating_sub(by), self.y.saturating_sub(by));
        Self { x, y, width: self.right().saturating_add(by) - x, height: self.bottom().saturating_add(by) - y }
    }

    /// The part of this box that lies inside `other`.
    pub fn clipped(self, other: Self) -> Self {
        let (x, y) = (self.x.max(other.x), self.y.max(other.y));
        Self {
            x,
            y,
            width: self.right().min(other.right()).saturating_sub(x),
            height: self.bottom().min(other.bottom()).saturating_sub(y),
        }
    }

    const fn right(self) -> u32 {
        self.x.saturating_add(self.width)
    }

    const fn bottom(self) -> u32 {
        self.y.saturating_add(self.height)
    }

    const fn contains(self, x: u32, y: u32) -> bool {
        x >= self.x && x < self.right() && y >= self.y && y < self.bottom()
    }
}

/// Colours every pixel of `area` by its position inside the area.
pub fn shade(canvas: &mut RgbImage, area: Area, colour: impl Fn(u32, u32) -> Rgb<u8>) {
    let visible = area.clipped(Area { x: 0, y: 0, width: canvas.width(), height: canvas.height() });
    for y in visible.y..visible.bottom() {
        for x in visible.x..visible.right() {
            canvas.put_pixel(x, y, colour(x - area.x, y - area.y));
        }
    }
}

/// Fills `area` with one colour.
pub fn fill(canvas: &mut RgbImage, area: Area, colour: Rgb<u8>) {
    shade(canvas, area, |_, _| colour);
}

/// Draws a frame of `thickness` pixels around the outside of `inner`, cut off
/// at the edges of `within`.
pub fn frame(canvas: &mut RgbImage, inner: Area, thickness: u32, within: Area, colour: Rgb<u8>) {
    let outer = inner.grown(thickness).clipped(within);
    let inner = inner.clipped(within);
    let visible = outer.clipped(Area { x: 0, y: 0, width: canvas.width(), height: canvas.height() });
    for y in visible.y..visible.bottom() {
        for x in visible.x..visible.right() {
            if !inner.contains(x, y) {
                canvas.put_pixel(x, y, colour);
            }
        }
    }
}

/// Draws `picture` stretched over `area`; every pixel keeps its hard edges.
pub fn stretch(canvas: &mut RgbImage, area: Area, picture: &RgbImage) {
    let (columns, rows) = picture.dimensions();
    if columns == 0 || rows == 0 {
        return;
    }
    let source =
        |position: u32, length: u32, pixels: u32| (u64::from(position) * u64::from(pixels) / u64::from(length)) as u32;
    shade(canvas, area, |x, y| *picture.get_pixel(source(x, area.width, columns), source(y, area.height, rows)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: Rgb<u8> = Rgb([255, 0, 0]);
    const BLACK: Rgb<u8> = Rgb([0, 0, 0]);

    fn area(x: u32, y: u32, width: u32, height: u32) -> Area {
        Area { x, y, width, height }
    }

    fn count(canvas: &RgbImage, colour: Rgb<u8>) -> usize {
        canvas.pixels().filter(|&&pixel| pixel == colour).count()
    }

    #[test]
    fn a_frame_lies_around_its_box_and_not_in_it() {
        let mut canvas = RgbImage::new(10, 10);
        frame(&mut canvas, area(3, 3, 4, 2), 2, area(0, 0, 10, 10), RED);
        assert_eq!(count(&canvas, RED), 8 * 6 - 4 * 2);
        assert_eq!(*canvas.get_pixel(3, 3), BLACK);
        assert_eq!(*canvas.get_pixel(2, 3), RED);
    }

    #[test]
    fn a_frame_is_cut_off_where_it_would_leave() {
        let mut canvas = RgbImage::new(10, 10);
        frame(&mut canvas, area(0, 0, 2, 2), 2, area(0, 0, 3, 3), RED);
        assert_eq!(count(&canvas, RED), 3 * 3 - 2 * 2);
    }

    #[test]
    fn filling_beyond_the_canvas_fills_what_is_there() {
        let mut canvas = RgbImage::new(4, 4);
        fill(&mut canvas, area(2, 3, u32::MAX, u32::MAX), RED);
        assert_eq!(count(&canvas, RED), 2);
    }

    #[test]
    fn stretching_repeats_pixels_whole() {
        let picture = RgbImage::from_fn(2, 1, |x, _| if x == 0 { RED } else { Rgb([1, 2, 3]) });
        let mut canvas = RgbImage::new(8, 5);
        stretch(&mut canvas, area(1, 1, 6, 3), &picture);
        assert_eq!(count(&canvas, RED), 9);
        assert_eq!(*canvas.get_pixel(3, 3), RED);
        assert_eq!(*canvas.get_pixel(4, 1), Rgb([1, 2, 3]));
    }
}
