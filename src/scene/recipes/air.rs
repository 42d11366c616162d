//! `air`: up to two scaled digits, added up.
//!
//! A 50×50 canvas with 0 to 2 digits, uniformly many. Each digit's tile is resized (triangle
//! filter) to a square of side ⌊28/s⌋, s normal with mean 1.3 and standard deviation 0.1 (18 to
//! 25 pixels as a rule), and lies anywhere it fits, uniformly. The layers are summed; where that
//! exceeds 255 anywhere, the digits, with scales and positions, are drawn again and their number
//! is kept. After the multi-MNIST data of S. M. A. Eslami et al., "Attend, Infer, Repeat: Fast
//! Scene Understanding with Generative Models", NeurIPS 2016.

use rand::Rng;

use super::super::digits::Digits;
use super::super::layers::{Layer, Layers, WHOLE_TILE};
use super::super::resize::Rect;
use crate::random;

/// Height and width of the canvas.
pub const CANVAS: usize = 50;

/// Most digits of a scene.
pub const MAX_OBJECTS: usize = 2;

const SCALE_MEAN: f32 = 1.3;
const SCALE_DEVIATION: f32 = 0.1;

/// A scale farther from its mean (six standard deviations: twice in a thousand million draws) is
/// drawn again, so that sides stay between 14 and 40 and every tile fits.
const MAX_DEVIATIONS: f32 = 6.0;

/// Lays out one scene.
pub fn lay_out(digits: Digits<'_>, rng: &mut impl Rng, layers: &mut Layers) {
    let count = rng.random_range(0..=MAX_OBJECTS as u32);
    loop {
        layers.clear();
        for _ in 0..count {
            let index = rng.random_range(0..digits.len() as u32) as usize;
            let side = draw_side(rng);
            let mut offset = || rng.random_range(0..=(CANVAS - side) as u32) as usize;
            let area = Rect { x: offset(), y: offset(), width: side, height: side };
            layers.push(digits.label(index), digits.image(index), WHOLE_TILE, area);
        }
        if !exceeds_white(layers) {
            return;
        }
    }
}

fn draw_side(rng: &mut impl Rng) -> usize {
    loop {
        let mut deviations = [0.0];
        random::normals(rng, &mut deviations);
        if deviations[0].abs() <= MAX_DEVIATIONS {
            let scale = SCALE_MEAN + SCALE_DEVIATION * deviations[0];
            return (WHOLE_TILE.width as f32 / scale) as usize;
        }
    }
}

/// Whether the sum of the layers passes 255 somewhere. Comparing pairs is enough for two.
fn exceeds_white(layers: &Layers) -> bool {
    const { assert!(MAX_OBJECTS == 2) }
    let mut pair = layers.iter();
    match (pair.next(), pair.next()) {
        (Some(one), Some(other)) => pair_exceeds_white(one, other),
        _ => false,
    }
}

fn pair_exceeds_white((a, a_ink): (Layer, &[u8]), (b, b_ink): (Layer, &[u8])) -> bool {
    let (a, b) = (a.area, b.area);
    let left = a.x.max(b.x);
    let right = (a.x + a.width).min(b.x + b.width);
    let rows = a.y.max(b.y)..(a.y + a.height).min(b.y + b.height);
    left < right
        && rows.into_iter().any(|y| {
            let a_row = &a_ink[(y - a.y) * a.width..][left - a.x..right - a.x];
            let b_row = &b_ink[(y - b.y) * b.width..][left - b.x..right - b.x];
            a_row.iter().zip(b_row).any(|(a, b)| a.checked_add(*b).is_none())
        })
}

#[cfg(test)]
mod tests {
    use super::super::super::{DigitSet, Split};
    use super::super::Recipe;
    use super::*;

    #[test]
    fn scenes_follow_the_rules() {
        let digits = DigitSet::builtin();
        let mut layers = Layers::default();
        let mut seen = [0; MAX_OBJECTS + 1];
        let mut overlapping = 0;
        for index in 0..1_500 {
            Recipe::Air.lay_out(&digits, 0, Split::Train, index, &mut layers);
            seen[layers.iter().count()] += 1;
            let mut sums = [0u16; CANVAS * CANVAS];
            let mut touched = [0u8; CANVAS * CANVAS];
            for (Layer { area, .. }, ink) in layers.iter() {
                assert!(area.x + area.width <= CANVAS && area.y + area.height <= CANVAS);
                assert_eq!(area.width, area.height);
                for (pixel, &ink) in ink.iter().enumerate() {
                    let place = (area.y + pixel / area.width) * CANVAS + area.x + pixel % area.width;
                    sums[place] += u16::from(ink);
                    touched[place] += u8::from(ink > 0);
                }
            }
            assert!(sums.iter().all(|&sum| sum <= 255), "scene {index}");
            overlapping += usize::from(touched.contains(&2));
        }
        // Five standard deviations of a binomial around 500: redrawing keeps the count.
        assert!(seen.iter().all(|n| (409..=591).contains(n)), "{seen:?}");
        assert!(overlapping > 50, "{overlapping} scenes have touching digits");
    }

    #[test]
    fn sides_follow_the_scale() {
        let mut rng = random::stream(0, "sides", 0);
        let sides: Vec<usize> = (0..4_000).map(|_| draw_side(&mut rng)).collect();
        assert!(sides.iter().all(|side| (14..=40).contains(side)));
        // The floor of 28/s: s in (28/22, 28/21] gives 21, a probability of 0.2380.
        let share = sides.iter().filter(|&&side| side == 21).count() as f64 / 4_000.0;
        assert!((share - 0.238).abs() < 0.034, "{share}");
    }

    #[test]
    fn an_excess_is_seen_in_the_overlap_only() {
        let mut tile = [0; 784];
        tile[27] = 200;
        let exceeds = |x, y| {
            let mut layers = Layers::default();
            layers.push(0, &tile, WHOLE_TILE, WHOLE_TILE);
            layers.push(0, &tile, WHOLE_TILE, Rect { x, y, ..WHOLE_TILE });
            exceeds_white(&layers)
        };
        assert!(exceeds(0, 0));
        assert!(!exceeds(1, 0));
        assert!(!exceeds(0, 1));
    }
}
