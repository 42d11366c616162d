//! `sprites`: two to five coloured squares, ellipses and hearts over one another on a grey ground, 64×64.
//!
//! After Multi-dSprites, coloured on grey-scale (Burgess et al. 2019, *MONet*; Kabra et al. 2019, *Multi-Object Datasets*): 2 to 5
//! sprites, uniformly many, each of a shape, size, angle, place and colour of its own; the ground of each scene is one grey.
//! Everything but the number is continuous here: the size is 0.5 to 1 of the largest (12 pixels for a length of 1), angles are
//! any, centres lie 8 to 56 pixels in each direction, so that sprites may be cut by the border, colours are uniform on
//! 0–255 in each channel, and the grey too. The first sprite is on top.
//!
//! A scene is drawn again, its number of sprites kept, where less than a quarter of a sprite's own pixels inside the image can be
//! seen (all of them where sprites are to lie apart); of the published set the rule is not known.

use rand::Rng;

use super::super::layers::{Factors, INK_THRESHOLD, Layers};
use super::super::sprites::{Sprite, SpriteShape};

/// Height and width of the canvas.
pub const CANVAS: usize = 64;

/// Fewest and most sprites of a scene.
pub const COUNTS: [u32; 2] = [2, 5];

/// Pixels for a length of 1 at full size.
const FULL_SIZE: f64 = 12.0;

/// Where centres lie.
const PLACES: std::ops::Range<f64> = 8.0..56.0;

/// Least part of a sprite's pixels that the sprites above it leave uncovered.
pub const UNCOVERED: f64 = 0.25;

/// Lays out one scene, of whose sprites at least the part `uncovered` is.
pub fn lay_out(uncovered: f64, rng: &mut impl Rng, layers: &mut Layers) {
    let count = rng.random_range(COUNTS[0]..=COUNTS[1]);
    loop {
        layers.clear();
        layers.set_ground([rng.random(); 3]);
        for _ in 0..count {
            push(rng, layers);
        }
        if all_leave(uncovered, layers) {
            return;
        }
    }
}

fn push(rng: &mut impl Rng, layers: &mut Layers) {
    let shape = rng.random_range(0..SpriteShape::ALL.len() as u32) as usize;
    let (scale, degrees) = (rng.random_range(0.5..1.0), rng.random_range(0.0..360.0f64));
    let centre = [rng.random_range(PLACES), rng.random_range(PLACES)];
    let sprite = Sprite {
        shape: SpriteShape::ALL[shape],
        size: FULL_SIZE * scale,
        angle: degrees.to_radians(),
        centre: (centre[0], centre[1]),
    };
    let factors = Factors {
        shape: shape as i16,
        scale: (1000.0 * scale).round() as i16,
        // Rounded within the circle: 360° is 0°.
        orientation: (10.0 * degrees).round() as i16 % 3600,
        centre: centre.map(|c| (256.0 * c).round() as i16),
        colour: [rng.random(), rng.random(), rng.random()],
    };
    layers.push_sprite(&sprite, CANVAS, factors);
}

/// Whether `part` or more of each sprite's pixels is not covered by the sprites above it.
fn all_leave(part: f64, layers: &Layers) -> bool {
    let mut covered = [false; CANVAS * CANVAS];
    layers.iter().all(|(layer, ink)| {
        let (mut own, mut hidden) = (0u32, 0u32);
        for (i, _) in ink.iter().enumerate().filter(|(_, ink)| **ink >= INK_THRESHOLD) {
            let (x, y) = (layer.area.x + i % layer.area.width, layer.area.y + i / layer.area.width);
            own += 1;
            hidden += u32::from(std::mem::replace(&mut covered[y * CANVAS + x], true));
        }
        f64::from(own - hidden) >= part * f64::from(own)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::{DigitSet, Split};
    use super::super::{Recipe, Rules};
    use super::*;

    #[test]
    fn counts_are_uniform_and_a_quarter_of_everything_is_seen() {
        let digits = DigitSet::builtin();
        let mut seen = [0u32; 6];
        for index in 0..1_000 {
            let scene = Recipe::Sprites.scene(&digits, 0, Split::Train, index);
            let count = usize::from(scene.count.unwrap());
            seen[count] += 1;
            let masks = scene.masks.unwrap();
            let factors = scene.factors.unwrap();
            assert_eq!((factors.len(), scene.labels.unwrap().len()), (count, count));
            for (i, told) in factors.iter().enumerate() {
                let visible = masks.iter().filter(|owner| usize::from(**owner) == i).count() as f64;
                // A sprite's area is at least 1.5 size², of which half may lie outside the image along each of two borders.
                let size = FULL_SIZE * f64::from(told.scale) / 1000.0;
                assert!(visible > 1.5 * size * size / 4.0 / 4.0, "scene {index}, sprite {i}: {visible} pixels");
            }
        }
        // Five standard deviations of a binomial around 250.
        assert!(seen[2..].iter().all(|n| (182..=318).contains(n)), "{seen:?}");
    }

    #[test]
    fn sprites_that_lie_apart_cover_nothing_of_one_another() {
        let digits = DigitSet::builtin();
        let mut layers = Layers::default();
        let hidden = |apart: bool, layers: &mut Layers| {
            let rules = Rules { apart, ..Rules::default() };
            let hidden = (0..50).map(|index| {
                Recipe::Sprites.lay_out_by(rules, &digits, 0, Split::Train, index, layers);
                let ink: usize =
                    layers.iter().map(|(_, ink)| ink.iter().filter(|p| **p >= INK_THRESHOLD).count()).sum();
                let scene = layers.scene(Recipe::Sprites.blend(), Recipe::Sprites.shape());
                ink - scene.masks.unwrap().iter().filter(|p| **p != super::super::super::BACKGROUND).count()
            });
            hidden.sum::<usize>()
        };
        let [own, apart] = [false, true].map(|apart| hidden(apart, &mut layers));
        assert!(own > 0 && apart == 0, "{own}, {apart} pixels are hidden");
    }

    #[test]
    fn the_first_sprite_is_on_top_in_its_own_colour() {
        let digits = DigitSet::builtin();
        for index in 0..50 {
            let scene = Recipe::Sprites.scene(&digits, 1, Split::Test, index);
            let (masks, factors) = (scene.masks.unwrap(), scene.factors.unwrap());
            let told = factors[0];
            // Its centre is inside every shape.
            let [x, y] = told.centre.map(|c| usize::from(c as u16) / 256);
            assert_eq!(masks[y * CANVAS + x], 0, "scene {index}");
            assert_eq!(scene.image[3 * (y * CANVAS + x)..][..3], told.colour, "scene {index}");
            // The ground is one grey.
            let ground = masks.iter().position(|owner| *owner == super::super::super::BACKGROUND).unwrap();
            let corner = &scene.image[3 * ground..][..3];
            assert!(corner[0].abs_diff(corner[1]) < 128 && corner.len() == 3);
        }
    }
}
