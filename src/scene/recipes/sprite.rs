//! `sprite`: one white square, ellipse or heart on black, 64×64, with all its factors known.
//!
//! After dSprites (Matthey, Higgins, Hassabis & Lerchner 2017): 3 shapes × 6 sizes × 40 angles × 32 × 32 places, all equally likely
//! and independent. Sizes are 0.5, 0.6, …, 1 of the largest (12 pixels for a length of 1, a square of side 18), angles 0°, 9°, …,
//! 351°, centres 16 to 48 pixels in each direction, so that no sprite is cut. Ours differs in its edges, which are smooth (16
//! samples a pixel), and in the proportions of the shapes. As there, a square looks the same after a quarter turn and an
//! ellipse after half a turn.

use rand::Rng;

use super::super::layers::{Factors, Layers};
use super::super::sprites::{Sprite, SpriteShape};

/// Height and width of the canvas.
pub const CANVAS: usize = 64;

/// The factors, in the order of [`SIZES`].
pub const NAMES: [&str; 5] = ["shape", "scale", "orientation", "x", "y"];

/// How many values each factor has.
pub const SIZES: [usize; 5] = [3, 6, 40, 32, 32];

/// Pixels for a length of 1 at full size.
const FULL_SIZE: f64 = 12.0;

/// The first place of a centre, and the distance to the last.
const PLACES: (f64, f64) = (16.0, 32.0);

/// Lays out one sprite.
pub fn lay_out(rng: &mut impl Rng, layers: &mut Layers) {
    lay_out_as(SIZES.map(|size| rng.random_range(0..size as u32) as usize), layers);
}

/// Lays out the sprite of some factors, each below its size.
pub fn lay_out_as(factors: [usize; 5], layers: &mut Layers) {
    let [shape, scale, orientation, x, y] = factors;
    let place = |i: usize| PLACES.0 + PLACES.1 * i as f64 / (SIZES[3] - 1) as f64;
    let (scale, degrees) = (0.5 + 0.1 * scale as f64, 360.0 / SIZES[2] as f64 * orientation as f64);
    let sprite = Sprite {
        shape: SpriteShape::ALL[shape % SpriteShape::ALL.len()],
        size: FULL_SIZE * scale,
        angle: degrees.to_radians(),
        centre: (place(x), place(y)),
    };
    layers.clear();
    let factors = Factors {
        shape: shape as i16,
        scale: (1000.0 * scale).round() as i16,
        orientation: (10.0 * degrees).round() as i16,
        centre: [place(x), place(y)].map(|c| (256.0 * c).round() as i16),
        colour: [255; 3],
    };
    layers.push_sprite(&sprite, CANVAS, factors);
}

#[cfg(test)]
mod tests {
    use super::super::super::{DigitSet, Split};
    use super::super::Recipe;
    use super::*;

    #[test]
    fn every_value_of_every_factor_occurs_and_is_told() {
        let digits = DigitSet::builtin();
        let mut seen = SIZES.map(|size| vec![0u32; size]);
        for index in 0..4_000 {
            let told = Recipe::Sprite.scene(&digits, 0, Split::Train, index).factors.unwrap()[0];
            let place = |c: i16| ((f64::from(c) / 256.0 - 16.0) * 31.0 / 32.0).round() as usize;
            let classes = [
                told.shape as usize,
                (told.scale as usize - 500) / 100,
                told.orientation as usize / 90,
                place(told.centre[0]),
                place(told.centre[1]),
            ];
            classes.into_iter().zip(&mut seen).for_each(|(class, seen)| seen[class] += 1);
            // The factors are all there is to know.
            if index % 100 == 0 {
                let mut layers = Layers::default();
                lay_out_as(classes, &mut layers);
                let again = layers.scene(Recipe::Sprite.blend(), Recipe::Sprite.shape());
                assert_eq!(again, Recipe::Sprite.scene(&digits, 0, Split::Train, index));
            }
        }
        for (size, seen) in SIZES.into_iter().zip(seen) {
            // Six standard deviations of a binomial.
            let (mean, p) = (4_000.0 / size as f64, 1.0 / size as f64);
            let off = 6.0 * (mean * (1.0 - p)).sqrt();
            assert!(seen.iter().all(|n| (f64::from(*n) - mean).abs() < off), "{size}: {seen:?}");
        }
    }

    #[test]
    fn no_sprite_touches_the_border() {
        let mut layers = Layers::default();
        for factors in [[0, 5, 5, 0, 0], [1, 5, 0, 31, 0], [2, 5, 20, 31, 31], [2, 5, 30, 0, 31]] {
            lay_out_as(factors, &mut layers);
            let [x0, y0, x1, y1] = layers.scene(Recipe::Sprite.blend(), Recipe::Sprite.shape()).boxes.unwrap()[0];
            assert!(x0 > 0 && y0 > 0 && x1 < 64 && y1 < 64, "{factors:?}: {x0} {y0} {x1} {y1}");
        }
    }
}
