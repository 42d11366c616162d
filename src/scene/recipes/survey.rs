//! `survey`: two to four scaled digits painted over one another, and a general form with more.
//!
//! A 64×64 canvas with 2 to 4 digits, uniformly many, or 5 to 6 in the `general` split, which
//! asks whether a model copes with more objects than it was trained on. Each digit is cut to the
//! box of its ink, scaled by one factor uniform on [1, 1.5) (triangle filter, sizes rounded) and
//! painted white with its ink as opacity, the first digit on top.
//!
//! Positions are uniform, but count only if a quarter or more of the digit's rectangle stays
//! uncovered by the rectangles above it (all of it where digits are to lie apart). A digit
//! has ten tries; then the scene starts again and only the number of digits is kept.

use std::ops::RangeInclusive;

use rand::Rng;

use super::super::digits::{DIGIT_SIDE, Digits};
use super::super::layers::{Layers, WHOLE_TILE, inked};
use super::super::resize::Rect;
use super::super::split::Split;

/// Height and width of the canvas.
pub const CANVAS: usize = 64;

/// Tries to place one digit.
const TRIES: usize = 10;

/// After this many starts a scene takes any positions, as a foreign set whose ink fills its tiles
/// could go on for ever. With MNIST no fixed scene of seed 0 needs more than two.
const MAX_STARTS: usize = 1_000;

/// How many digits scenes of `split` have.
pub const fn counts(split: Split) -> RangeInclusive<u32> {
    match split {
        Split::Train | Split::Validation | Split::Test => 2..=4,
        Split::General => 5..=6,
    }
}

/// Least part of a digit's rectangle that the rectangles above it leave uncovered.
pub const UNCOVERED: f64 = 0.25;

/// Lays out one scene of one of `counts` digits, of which at least the part `uncovered` is.
pub fn lay_out(
    digits: Digits<'_>,
    counts: RangeInclusive<u32>,
    uncovered: f64,
    rng: &mut impl Rng,
    layers: &mut Layers,
) {
    let count = rng.random_range(counts);
    let mut placed = |uncovered| (0..MAX_STARTS).any(|_| start(digits, count, uncovered, rng, layers));
    // What is asked for, then what has to be, then whatever comes.
    if !(placed(uncovered) || uncovered > UNCOVERED && placed(UNCOVERED)) {
        start(digits, count, 0.0, rng, layers);
    }
}

/// Lays out digits from the top down; false if one of them finds no place where at least the part `uncovered` of it is.
fn start(digits: Digits<'_>, count: u32, uncovered: f64, rng: &mut impl Rng, layers: &mut Layers) -> bool {
    layers.clear();
    let mut covered = Coverage::default();
    for _ in 0..count {
        let index = rng.random_range(0..digits.len() as u32) as usize;
        // A blank tile, which MNIST does not have, counts as a whole.
        let crop = inked(digits.image(index), DIGIT_SIDE).unwrap_or(WHOLE_TILE);
        let scale = rng.random_range(1.0..1.5_f32);
        let [width, height] = [crop.width, crop.height].map(|size| (size as f32 * scale).round() as usize);
        let place = (0..TRIES)
            .map(|_| Rect {
                x: rng.random_range(0..=(CANVAS - width) as u32) as usize,
                y: rng.random_range(0..=(CANVAS - height) as u32) as usize,
                width,
                height,
            })
            .find(|&area| covered.leaves(uncovered, area));
        let Some(area) = place else { return false };
        covered.add(area);
        layers.push(digits.label(index), digits.image(index), crop, area);
    }
    true
}

/// The union of rectangles: one bit for each pixel, bit x of row y.
struct Coverage([u64; CANVAS]);

impl Default for Coverage {
    fn default() -> Self {
        const { assert!(CANVAS == u64::BITS as usize) }
        Self([0; CANVAS])
    }
}

impl Coverage {
    fn add(&mut self, area: Rect) {
        let (rows, columns) = Self::part(area);
        self.0[rows].iter_mut().for_each(|row| *row |= columns);
    }

    /// Whether `part` of `area` or more is not covered.
    fn leaves(&self, part: f64, area: Rect) -> bool {
        let (rows, columns) = Self::part(area);
        let visible: u32 = self.0[rows].iter().map(|row| (columns & !row).count_ones()).sum();
        f64::from(visible) >= part * (area.width * area.height) as f64
    }

    fn part(area: Rect) -> (std::ops::Range<usize>, u64) {
        let columns = (u64::MAX >> (CANVAS - area.width)) << area.x;
        (area.y..area.y + area.height, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{DIGIT_PIXELS, DigitSet};
    use super::super::{Recipe, Rules};
    use super::*;
    use crate::random;

    fn check(split: Split, apart: bool, scenes: u64) {
        let digits = DigitSet::builtin();
        let mut layers = Layers::default();
        for index in 0..scenes {
            Recipe::Survey.lay_out_by(Rules { apart, ..Rules::default() }, &digits, 0, split, index, &mut layers);
            let areas: Vec<Rect> = layers.iter().map(|(layer, _)| layer.area).collect();
            assert!(counts(split).contains(&(areas.len() as u32)), "scene {index}");
            for (above, area) in areas.iter().enumerate() {
                let inside = |r: &Rect, x, y| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
                let pixels = (0..CANVAS * CANVAS).map(|pixel| (pixel % CANVAS, pixel / CANVAS));
                let visible = pixels
                    .filter(|&(x, y)| inside(area, x, y))
                    .filter(|&(x, y)| !areas[..above].iter().any(|other| inside(other, x, y)))
                    .count();
                let part = visible as f64 / (area.width * area.height) as f64;
                assert!(part >= if apart { 1.0 } else { UNCOVERED }, "scene {index}: {areas:?}");
            }
        }
    }

    #[test]
    fn scenes_keep_a_quarter_of_each_rectangle_visible() {
        check(Split::Train, false, 150);
    }

    #[test]
    fn rectangles_that_lie_apart_cover_nothing_of_one_another() {
        check(Split::Train, true, 100);
    }

    #[test]
    fn general_scenes_have_more_digits() {
        check(Split::General, false, 60);
    }

    #[test]
    fn rectangles_touch_the_ink() {
        let digits = DigitSet::builtin();
        for index in 0..50 {
            let mut layers = Layers::default();
            Recipe::Survey.lay_out(&digits, 0, Split::Test, index, &mut layers);
            for (layer, ink) in layers.iter() {
                let box_of_ink = inked(ink, layer.area.width).unwrap();
                // Faint ink on the edge may round to nothing, but not much more than a pixel.
                assert!(box_of_ink.width + 3 >= layer.area.width, "{index}");
                assert!(box_of_ink.height + 3 >= layer.area.height, "{index}");
            }
        }
    }

    #[test]
    fn every_count_occurs() {
        let digits = DigitSet::builtin();
        let mut layers = Layers::default();
        let mut seen = [0; 5];
        for index in 0..600 {
            Recipe::Survey.lay_out(&digits, 0, Split::Validation, index, &mut layers);
            seen[layers.iter().count()] += 1;
        }
        // Five standard deviations of a binomial around 200.
        assert!(seen[2..].iter().all(|n| (142..=258).contains(n)), "{seen:?}");
    }

    #[test]
    fn digits_that_fill_their_tiles_come_to_an_end() {
        let images = [[255; DIGIT_PIXELS]];
        let digits = Digits::new(&images, &[8]);
        let mut layers = Layers::default();
        for index in 0..4 {
            lay_out(digits, 6..=6, UNCOVERED, &mut random::stream(0, "full", index), &mut layers);
            assert_eq!(layers.iter().count(), 6);
            // Four find no place apart, but one by the recipe's own rule.
            lay_out(digits, 4..=4, 1.0, &mut random::stream(0, "full", index), &mut layers);
            let mut covered = Coverage::default();
            for (layer, _) in layers.iter() {
                assert!(covered.leaves(UNCOVERED, layer.area), "scene {index}");
                covered.add(layer.area);
            }
        }
    }
}
