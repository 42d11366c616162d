//! Marks → pixels, with soft edges.

use image::{Rgb, RgbImage};

use super::{Anchor, Drawing, Mark, Place, Words};
use crate::picture::{
    Density, palette,
    text::{self, Style, Weight},
};

impl Drawing {
    /// The drawing painted at a density.
    pub fn pixels(&self, density: Density) -> RgbImage {
        let scale = density.factor();
        let side = |length: f64| (length * scale).ceil().max(1.0) as u32;
        let mut canvas = RgbImage::from_pixel(side(self.width), side(self.height), palette::PAGE);
        for mark in &self.marks {
            paint(&mut canvas, mark, density);
        }
        canvas
    }
}

fn paint(canvas: &mut RgbImage, mark: &Mark, density: Density) {
    let scale = density.factor();
    let scaled = |(x, y): Place| (x * scale, y * scale);
    match mark {
        Mark::Box { corner, size, colour } => {
            let ((x, y), (width, height)) = (scaled(*corner), scaled(*size));
            let share = |at: f64, from: f64, length: f64| (from + length).min(at + 0.5) - from.max(at - 0.5);
            cover(canvas, (x, y), (x + width, y + height), *colour, |(px, py)| {
                share(px, x, width).clamp(0.0, 1.0) * share(py, y, height).clamp(0.0, 1.0)
            });
        }
        Mark::Line { points, width, colour } => {
            let half = width * scale / 2.0;
            for pair in points.windows(2) {
                let (from, to) = (scaled(pair[0]), scaled(pair[1]));
                let low = (from.0.min(to.0) - half, from.1.min(to.1) - half);
                let high = (from.0.max(to.0) + half, from.1.max(to.1) + half);
                cover(canvas, low, high, *colour, |at| half + 0.5 - distance(at, from, to));
            }
        }
        Mark::Dots { points, radius, colour, opacity } => {
            let radius = radius * scale;
            for &point in points {
                let (x, y) = scaled(point);
                cover(canvas, (x - radius, y - radius), (x + radius, y + radius), *colour, |at| {
                    opacity * (radius + 0.5 - distance(at, (x, y), (x, y))).clamp(0.0, 1.0)
                });
            }
        }
        Mark::Words(words) => write(canvas, words, density),
    }
}

/// Mixes a colour into the pixels between two corners, by how much of each `coverage` says is covered around its middle.
fn cover(canvas: &mut RgbImage, low: Place, high: Place, colour: Rgb<u8>, coverage: impl Fn(Place) -> f64) {
    // The casts saturate, and send what is left of or above the canvas to 0.
    let range = |low: f64, high: f64, side: u32| ((low - 1.0) as u32)..((high + 2.0) as u32).min(side);
    for y in range(low.1, high.1, canvas.height()) {
        for x in range(low.0, high.0, canvas.width()) {
            let share = coverage((f64::from(x) + 0.5, f64::from(y) + 0.5)).clamp(0.0, 1.0);
            if share > 0.0 {
                let pixel = canvas.get_pixel_mut(x, y);
                *pixel = palette::mix(*pixel, colour, share as f32);
            }
        }
    }
}

/// From a point to the nearest point of a segment.
fn distance((x, y): Place, from: Place, to: Place) -> f64 {
    let (along_x, along_y) = (to.0 - from.0, to.1 - from.1);
    let length = along_x * along_x + along_y * along_y;
    let along = ((x - from.0) * along_x + (y - from.1) * along_y) / if length > 0.0 { length } else { 1.0 };
    let along = along.clamp(0.0, 1.0);
    (x - from.0 - along * along_x).hypot(y - from.1 - along * along_y)
}

fn write(canvas: &mut RgbImage, words: &Words, density: Density) {
    let scale = density.factor();
    let width = f64::from(text::width(&words.text, density));
    let left = words.at.0 * scale
        - match words.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => width / 2.0,
            Anchor::End => width,
        };
    let weight = if words.bold { Weight::Bold } else { Weight::Regular };
    let (left, top) = (left.round() as i64, (words.at.1 * scale).round() as i64);
    let mut draw = |right: i64, down: i64, ink| {
        let at = ((left + right).max(0) as u32, (top + down).max(0) as u32);
        text::draw(canvas, at, &words.text, Style { weight, ink, density });
    };
    if words.halo {
        let reach = i64::from(density.px(2));
        for (right, down) in (-reach..=reach).flat_map(|x| (-reach..=reach).map(move |y| (x, y))) {
            draw(right, down, palette::PAGE);
        }
    }
    draw(0, 0, words.colour);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(picture: &RgbImage, colour: Rgb<u8>) -> usize {
        picture.pixels().filter(|&&pixel| pixel == colour).count()
    }

    fn drawn(mark: Mark, density: Density) -> RgbImage {
        let (mut drawing, top) = Drawing::titled("", 100.0);
        drawing.add(mark);
        drawing.finished("", top).pixels(density)
    }

    #[test]
    fn boxes_on_whole_pixels_have_hard_edges() {
        let mark = Mark::Box { corner: (10.0, 10.0), size: (5.0, 4.0), colour: palette::DATA };
        for (density, pixels) in [(Density::Single, 20), (Density::Double, 80)] {
            let picture = drawn(mark.clone(), density);
            assert_eq!(count(&picture, palette::DATA), pixels);
            let touched = picture.pixels().filter(|pixel| **pixel != palette::PAGE).count();
            assert_eq!(touched, pixels);
        }
    }

    #[test]
    fn a_disc_has_about_its_area_and_a_line_its_width() {
        let points = vec![(30.0, 30.0)];
        let disc = drawn(Mark::Dots { points, radius: 10.0, colour: palette::DATA, opacity: 1.0 }, Density::Single);
        assert!((270..=330).contains(&count(&disc, palette::DATA)), "{}", count(&disc, palette::DATA));
        let line = Mark::Line { points: vec![(10.0, 20.0), (60.0, 20.0)], width: 2.0, colour: palette::DATA };
        let inked = count(&drawn(line, Density::Single), palette::DATA);
        assert!((98..=106).contains(&inked), "{inked}");
    }

    #[test]
    fn marks_beyond_the_page_are_clipped() {
        let points = vec![(-1e9, -1e9), (1e9, 1e9), (f64::NAN, 1.0)];
        drawn(Mark::Dots { points, radius: 3.0, colour: palette::DATA, opacity: 1.0 }, Density::Single);
        drawn(Mark::Words(Words::new("far away", (-500.0, -500.0)).haloed()), Density::Double);
    }
}
