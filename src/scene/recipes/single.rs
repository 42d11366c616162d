//! `single`: one digit alone, 28×28. Scene i of a split is digit i of it, whatever the seed.

use super::super::digits::Digits;
use super::super::layers::{Layers, WHOLE_TILE};

/// Lays out scene `index`; indices beyond the last digit count on from the first.
pub fn lay_out(digits: Digits<'_>, index: u64, layers: &mut Layers) {
    layers.clear();
    let index = (index % digits.len() as u64) as usize;
    layers.push(digits.label(index), digits.image(index), WHOLE_TILE, WHOLE_TILE);
}

#[cfg(test)]
mod tests {
    use super::super::super::{DigitSet, Split};
    use super::super::Recipe;

    #[test]
    fn a_scene_is_its_digit() {
        let set = DigitSet::builtin();
        for index in [0, 9_999, 10_000] {
            let scene = Recipe::Single.scene(&set, 5, Split::Test, index);
            let digit = index as usize % 10_000;
            assert_eq!(&scene.image, set.of(Split::Test).image(digit));
            assert_eq!(scene.labels.unwrap(), [set.of(Split::Test).label(digit)]);
            assert_eq!(scene.count, Some(1));
        }
    }
}
