//! The mean KL of every candidate of a grid, as a map.

use image::RgbImage;

use super::{
    Density, PictureError, Shape,
    grid::{ColourBar, Sheet},
    palette,
    tile::Tile,
};

/// Side of the map.
const SIDE: u32 = 420;

/// Draws `kl`, in nats, row first over a grid of (rows, columns), on a ramp from 0 to its largest value, which the key names.
///
/// # Errors
/// [`PictureError::Shape`] and [`PictureError::Length`].
pub fn kl_map(
    title: &str,
    kl: &[f32],
    (rows, columns): (usize, usize),
    footnote: &str,
    density: Density,
) -> Result<RgbImage, PictureError> {
    let grid = Shape::new(rows, columns, 1);
    grid.check_values(kl, "the KL map")?;
    let highest = kl.iter().copied().filter(|value| value.is_finite()).fold(0.0, f32::max);
    let scale = if highest > 0.0 { highest } else { 1.0 };
    let tile = Tile::from_pixels(grid, |cell| palette::ramp(kl[cell] / scale));
    let bar = ColourBar { column: 0, low: "0".into(), high: format!("{highest:.2} nats") };
    let sheet = Sheet::new(grid).side(SIDE).density(density).title(title).row(None, [tile]);
    sheet.colour_bar(bar).footnote(footnote).draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_brightest_cell_is_the_top_of_the_scale() {
        let map = kl_map("t", &[0.0, f32::NAN, 1.0, 4.0], (2, 2), "", Density::Single).unwrap();
        assert!(map.pixels().filter(|pixel| **pixel == palette::ramp(1.0)).count() >= 210 * 210);
        assert!(kl_map("t", &[0.0; 3], (2, 2), "", Density::Single).is_err());
    }
}
