//! Scenes whose entities were changed: before and after.

use image::RgbImage;

use super::{Density, PictureError, Shape, grid::Sheet, palette, tile::Tile};

/// One scene. All images are of the scenes' shape, in 0…1, as (height, width, channels).
#[derive(Clone, Debug)]
pub struct EditedScene {
    /// What is written to the left of it.
    pub label: String,
    /// The scene.
    pub input: Vec<f32>,
    /// As the model decodes it.
    pub before: Vec<f32>,
    /// As it decodes what was changed.
    pub after: Vec<f32>,
    /// What each entity then draws alone, and whether it is part of the scene.
    pub entities: Vec<(Vec<f32>, bool)>,
}

/// Draws a row for each scene: the input, decoded before and after, and every entity as it is then.
///
/// # Errors
/// A [`PictureError`] that names the image that does not fit.
pub fn editing(title: &str, shape: Shape, scenes: &[EditedScene], density: Density) -> Result<RgbImage, PictureError> {
    let most = scenes.iter().map(|scene| scene.entities.len()).max().unwrap_or(0);
    let headings = ["input", "before", "after"].map(str::to_owned);
    let entities = (1..=most).map(|entity| format!("entity {entity}"));
    let mut sheet = Sheet::new(shape)
        .density(density)
        .title(title)
        .headings(headings.into_iter().chain(entities))
        .group_from(1)
        .group_from(3)
        .footnote("Before and after are decoded from the posterior means. Entities are shown as they are afterwards, each alone.");
    for scene in scenes {
        let named = |part: &str| format!("the {part} of {}", scene.label);
        let mut tiles = vec![
            Tile::from_values(&scene.input, shape, &named("input"))?,
            Tile::from_values(&scene.before, shape, &named("image before"))?,
            Tile::from_values(&scene.after, shape, &named("image after"))?,
        ];
        for (index, (image, drawn)) in scene.entities.iter().enumerate() {
            let tile = Tile::from_values(image, shape, &named("entities"))?.framed(palette::entity(index));
            tiles.push(if *drawn { tile } else { tile.captioned("removed").dimmed() });
        }
        sheet = sheet.row(Some(&scene.label), tiles);
    }
    sheet.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(8, 8, 1);

    fn scene(drawn: bool) -> EditedScene {
        let image = vec![0.5; 64];
        let entities = vec![(image.clone(), true), (image.clone(), drawn)];
        EditedScene { label: "scene 3".into(), input: image.clone(), before: image.clone(), after: image, entities }
    }

    #[test]
    fn every_entity_has_its_tile_and_a_removed_one_is_faint() {
        let picture = editing("t", SHAPE, &[scene(true)], Density::Single).unwrap();
        let frame = |picture: &RgbImage| picture.pixels().filter(|p| **p == palette::entity(1)).count();
        assert!(frame(&picture) > 0);
        let removed = editing("t", SHAPE, &[scene(false)], Density::Single).unwrap();
        assert_eq!(frame(&removed), 0);
        let two = editing("t", SHAPE, &[scene(true), scene(true)], Density::Single).unwrap();
        assert!(two.height() > picture.height() && two.width() == picture.width());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let wrong = EditedScene { after: vec![0.0; 3], ..scene(true) };
        let error = editing("t", SHAPE, &[wrong], Density::Single).unwrap_err().to_string();
        assert!(error.starts_with("the image after of scene 3"), "{error}");
        assert!(matches!(editing("t", SHAPE, &[], Density::Single), Err(PictureError::Empty)));
    }
}
