//! `single`: one digit alone, 28×28 or resized to another size. Scene i of a split is digit i of it, whatever the seed.

use super::super::digits::Digits;
use super::super::layers::{Layers, WHOLE_TILE};
use super::super::resize::Rect;

/// Lays out scene `index`, `side` pixels high and wide; indices beyond the last digit count on from the first.
pub fn lay_out(digits: Digits<'_>, side: usize, index: u64, layers: &mut Layers) {
    layers.clear();
    let index = (index % digits.len() as u64) as usize;
    let area = Rect { width: side, height: side, ..WHOLE_TILE };
    layers.push(digits.label(index), digits.image(index), WHOLE_TILE, area);
}

#[cfg(test)]
mod tests {
    use super::super::super::{DigitSet, SceneOptions, SceneSource, Split};
    use super::super::Recipe;
    use image::imageops::{self, FilterType};
    use image::{GrayImage, ImageBuffer};

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

    #[test]
    fn a_scene_of_another_size_is_its_digit_resized() {
        let set = DigitSet::builtin();
        let options = SceneOptions { size: Some(32), ..SceneOptions::default() };
        let source = SceneSource::open_with("single", options, set.clone(), Split::Test, 5).unwrap();
        assert_eq!((source.shape().height, source.shape().width, source.max_objects()), (32, 32, Some(1)));
        let scene = source.scene(7).unwrap();
        let digit: GrayImage = ImageBuffer::from_raw(28, 28, set.of(Split::Test).image(7).to_vec()).unwrap();
        let expected = imageops::resize(&digit, 32, 32, FilterType::Triangle);
        assert!(scene.image.iter().zip(expected.as_raw()).all(|(ours, theirs)| ours.abs_diff(*theirs) <= 1));
        assert_eq!(scene.labels.unwrap(), [set.of(Split::Test).label(7)]);
    }
}
