//! The main picture: scenes, and the objects a multi-entity model takes them
//! apart into.

use image::{Rgb, RgbImage};

use super::{
    Density, PictureError, Shape,
    grid::{ColourBar, Sheet},
    palette,
    shape::check_length,
    tile::{Mark, Tile, colour_of},
};

/// Marks pixels of [`DecompositionRow::masks`] that belong to no entity.
pub const BACKGROUND: u8 = 255;

/// What a scene is dimmed towards under its masks.
const UNLIT: Rgb<u8> = Rgb([0, 0, 0]);

/// Brightness left to a scene under its masks.
const DIMMED_SCENE: f32 = 0.35;

const FOOTNOTE: &str = "Framed cells of the KL map are the kept entities. Masks show which entity \
                        paints a pixel. Absent entities cost more nats than they save.";

/// One scene taken apart.
///
/// All images are of the scenes' shape, in 0…1, as (height, width, channels).
#[derive(Clone, Debug)]
pub struct DecompositionRow {
    /// What is written to the left of the row.
    pub label: Option<String>,
    /// The scene.
    pub input: Vec<f32>,
    /// The scene put together again from its entities.
    pub reconstruction: Vec<f32>,
    /// KL of every candidate, in nats, row first over `grid`.
    pub kl_map: Vec<f32>,
    /// The candidates' grid as (rows, columns).
    pub grid: (usize, usize),
    /// The kept candidates; their order gives them their colours.
    pub entities: Vec<EntityTile>,
    /// For every pixel, row first, the index of the entity that paints it, or
    /// [`BACKGROUND`].
    pub masks: Vec<u8>,
}

/// One kept candidate of a scene.
#[derive(Clone, Debug)]
pub struct EntityTile {
    /// What the candidate paints on its own.
    pub image: Vec<f32>,
    /// Its KL, in nats.
    pub kl: f32,
    /// Its cell of the grid, as (row, column).
    pub cell: (usize, usize),
    /// Whether the presence rule takes it for an object.
    pub present: bool,
}

/// Draws one row for each scene: the input, the KL map, the merged image, the
/// masks and every kept entity.
///
/// `shape` is that of the scenes. All KL maps share one scale, from 0 to the
/// largest value in any of them, which the key under them names.
///
/// # Errors
/// A [`PictureError`] that names the row and the part that does not fit.
pub fn decomposition(
    title: &str,
    shape: Shape,
    rows: &[DecompositionRow],
    density: Density,
) -> Result<RgbImage, PictureError> {
    let most = rows.iter().map(|row| row.entities.len()).max().unwrap_or(0);
    let headings = ["input", "KL map", "reconstruction", "masks"].map(str::to_owned);
    let entities = (1..=most).map(|entity| format!("entity {entity}"));
    let highest = highest_kl(rows);
    let mut sheet = Sheet::new(shape)
        .density(density)
        .title(title)
        .headings(headings.into_iter().chain(entities))
        .group_from(4)
        .footnote(FOOTNOTE)
        .colour_bar(ColourBar { column: 1, low: "0".into(), high: nats(highest) });
    for (number, row) in (1..).zip(rows) {
        sheet = sheet.row(row.label.as_deref(), row.tiles(shape, highest, number)?);
    }
    sheet.draw()
}

impl DecompositionRow {
    /// The row's tiles, from the left; `number` counts rows from 1.
    fn tiles(&self, shape: Shape, highest: f32, number: usize) -> Result<Vec<Tile>, PictureError> {
        let named = |part: &str| format!("the {part} of row {number}");
        let merged = &self.reconstruction;
        let present = self.entities.iter().filter(|entity| entity.present).count();
        let mut tiles = vec![
            Tile::from_values(&self.input, shape, &named("input"))?,
            self.kl_tile(highest, number)?,
            Tile::from_values(merged, shape, &named("reconstruction"))?,
            self.mask_tile(shape, number)?.captioned(format!("{present} present")),
        ];
        for (index, entity) in self.entities.iter().enumerate() {
            let what = named(&format!("image of entity {}", index + 1));
            let tile = Tile::from_values(&entity.image, shape, &what)?;
            let tile = tile.framed(palette::entity(index));
            tiles.push(if entity.present {
                tile.captioned(nats(entity.kl))
            } else {
                tile.captioned(format!("absent · {}", nats(entity.kl))).dimmed()
            });
        }
        Ok(tiles)
    }

    /// The KL map on the shared scale, with the kept cells framed.
    fn kl_tile(&self, highest: f32, number: usize) -> Result<Tile, PictureError> {
        let (height, width) = self.grid;
        let grid = Shape::new(height, width, 1);
        grid.check_values(&self.kl_map, &format!("the KL map of row {number}"))?;
        let tile = Tile::from_pixels(grid, |cell| palette::ramp(self.kl_map[cell] / highest));
        let mut tile = tile.captioned(format!("max {}", nats(highest_of(&self.kl_map))));
        // Present entities last, so that their frames lie on top.
        for shown in [false, true] {
            for (index, entity) in self.entities.iter().enumerate() {
                if entity.present == shown {
                    let colour = if shown { palette::entity(index) } else { palette::FAINT_INK };
                    let mark = Mark { cell: entity.cell, grid: self.grid, colour };
                    tile = tile.marked(mark, &format!("entity {} of row {number}", index + 1))?;
                }
            }
        }
        Ok(tile)
    }

    /// The scene, dimmed, under the entities' colours.
    fn mask_tile(&self, shape: Shape, number: usize) -> Result<Tile, PictureError> {
        let pixels = shape.pixels();
        check_length(self.masks.len(), pixels, &format!("the masks of row {number}"))?;
        let entities = self.entities.len();
        let named = |&&index: &&u8| index != BACKGROUND && usize::from(index) >= entities;
        if let Some(&index) = self.masks.iter().find(named) {
            return Err(PictureError::MaskIndex { row: number, index, entities });
        }
        Ok(Tile::from_pixels(shape, |pixel| match self.masks[pixel] {
            BACKGROUND => {
                let scene = colour_of(&self.input, shape, pixel);
                palette::mix(UNLIT, scene, DIMMED_SCENE)
            }
            entity => palette::entity(entity.into()),
        }))
    }
}

/// The largest KL of all maps, and the top of their shared scale: above 0, so
/// that it can be divided by.
fn highest_kl(rows: &[DecompositionRow]) -> f32 {
    let highest = rows.iter().map(|row| highest_of(&row.kl_map)).fold(0.0, f32::max);
    if highest > 0.0 { highest } else { 1.0 }
}

/// The largest finite value, or 0.
fn highest_of(values: &[f32]) -> f32 {
    values.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max)
}

/// A KL as it is written under tiles.
fn nats(value: f32) -> String {
    format!("{value:.1} nats")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(8, 8, 1);

    fn entity(present: bool) -> EntityTile {
        EntityTile { image: vec![0.0; 64], kl: 3.0, cell: (1, 2), present }
    }

    /// A scene with one present and one absent entity, the first of which
    /// paints a single pixel.
    fn row() -> DecompositionRow {
        let mut masks = vec![BACKGROUND; 64];
        masks[9] = 0;
        DecompositionRow {
            label: None,
            input: vec![0.0; 64],
            reconstruction: vec![0.0; 64],
            kl_map: vec![0.0; 16],
            grid: (4, 4),
            entities: vec![entity(true), entity(false)],
            masks,
        }
    }

    fn drawn(row: DecompositionRow) -> Result<RgbImage, PictureError> {
        decomposition("a test", SHAPE, &[row], Density::Single)
    }

    fn count(picture: &RgbImage, colour: Rgb<u8>) -> usize {
        picture.pixels().filter(|&&pixel| pixel == colour).count()
    }

    #[test]
    fn a_present_entity_shows_its_colour_in_mask_map_and_frame() {
        let picture = drawn(row()).unwrap();
        let (mask, mark, frame) = (16 * 16, 36 * 36 - 32 * 32, 134 * 134 - 128 * 128);
        assert_eq!(count(&picture, palette::entity(0)), mask + mark + frame);
        assert_eq!(count(&picture, palette::entity(1)), 0, "an absent entity is dimmed");
    }

    #[test]
    fn the_brightest_cell_is_the_top_of_the_scale() {
        let mut bright = row();
        bright.kl_map[0] = 7.0;
        bright.kl_map[15] = f32::NAN;
        let picture = drawn(bright).unwrap();
        assert!(count(&picture, palette::ramp(1.0)) >= 32 * 32);
    }

    #[test]
    fn a_label_stands_to_the_left() {
        let labelled = DecompositionRow { label: Some("scene 3: 1 split".into()), ..row() };
        assert!(drawn(labelled).unwrap().width() > drawn(row()).unwrap().width());
    }

    #[test]
    fn rows_may_have_different_numbers_of_entities() {
        let mut single = row();
        single.entities.truncate(1);
        let both = decomposition("", SHAPE, &[single.clone(), row()], Density::Single).unwrap();
        let alone = decomposition("", SHAPE, &[single], Density::Single).unwrap();
        assert!(both.width() > alone.width());
    }

    #[test]
    fn parts_that_do_not_fit_are_named() {
        type Damage = fn(&mut DecompositionRow);
        let cases: [(Damage, &str); 7] = [
            (|row| row.input.clear(), "the input of row 1 holds 0"),
            (|row| row.reconstruction.push(0.0), "the reconstruction of row 1 holds 65"),
            (|row| row.kl_map.truncate(3), "the KL map of row 1 holds 3"),
            (|row| row.grid = (usize::MAX, 2), "cannot draw a tile"),
            (|row| row.masks.clear(), "the masks of row 1 holds 0"),
            (|row| row.masks[0] = 2, "the masks of row 1 name entity 2"),
            (|row| row.entities[1].cell = (4, 0), "entity 2 of row 1 is cell (4, 0)"),
        ];
        for (damage, message) in cases {
            let mut row = row();
            damage(&mut row);
            let error = drawn(row).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn no_rows_are_an_error() {
        let nothing = decomposition("", SHAPE, &[], Density::Single);
        assert!(matches!(nothing, Err(PictureError::Empty)));
    }
}
