//! From one image's latent to another's in a straight line.

use image::RgbImage;

use super::{
    Density, PictureError, Shape,
    grid::Sheet,
    palette,
    tile::{Mark, Tile},
};

/// Side of the tiles.
const SIDE: u32 = 84;

/// One way from an input to another.
#[derive(Clone, Debug)]
pub struct Path {
    /// The images that are walked from and to, each in 0…1 as (height, width, channels).
    pub ends: [Vec<f32>; 2],
    /// The cells of what is walked from and to, where the model has a grid of them: (row, column).
    pub cells: Option<[(usize, usize); 2]>,
    /// The decoded latents on the way.
    pub steps: Vec<Vec<f32>>,
}

/// Draws a row for each path: the input walked from, the way, the input walked to. `grid` is the model's, (rows, columns).
///
/// # Errors
/// A [`PictureError`] that names the image that does not fit.
pub fn interpolation(
    title: &str,
    shape: Shape,
    paths: &[Path],
    grid: (usize, usize),
    footnote: &str,
    density: Density,
) -> Result<RgbImage, PictureError> {
    let steps = paths.iter().map(|path| path.steps.len()).max().unwrap_or(0);
    let share = |step: usize| {
        let percent = 100.0 * step as f64 / (steps.max(2) - 1) as f64;
        let decimals = usize::from((percent - percent.round()).abs() > 0.05);
        format!("{percent:.decimals$} %")
    };
    let headings = std::iter::once("from".to_string()).chain((0..steps).map(share)).chain(["to".to_string()]);
    let mut sheet = Sheet::new(shape).side(SIDE).density(density).title(title).headings(headings);
    sheet = sheet.group_from(1).group_from(steps + 1).footnote(footnote);
    for (row, path) in (1..).zip(paths) {
        let end = |index: usize, name: &str| {
            let tile = Tile::from_values(&path.ends[index], shape, &format!("the input {name} row {row}"))?;
            match path.cells {
                None => Ok(tile),
                Some(cells) => {
                    let mark = Mark { cell: cells[index], grid, colour: palette::entity(0) };
                    tile.marked(mark, &format!("the entity {name} row {row}"))
                }
            }
        };
        let mut tiles = vec![end(0, "before")?];
        for (step, image) in (1..).zip(&path.steps) {
            tiles.push(Tile::from_values(image, shape, &format!("step {step} of row {row}"))?);
        }
        tiles.push(end(1, "after")?);
        sheet = sheet.row(None, tiles);
    }
    sheet.draw()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(4, 4, 1);

    fn path(steps: usize, cells: Option<[(usize, usize); 2]>) -> Path {
        Path { ends: [vec![0.0; 16], vec![1.0; 16]], cells, steps: vec![vec![0.5; 16]; steps] }
    }

    fn drawn(path: Path) -> Result<RgbImage, PictureError> {
        interpolation("t", SHAPE, &[path], (2, 2), "", Density::Single)
    }

    #[test]
    fn every_step_has_a_tile_and_cells_are_framed() {
        assert!(drawn(path(9, None)).unwrap().width() > drawn(path(5, None)).unwrap().width() + 4 * 84);
        let marked = drawn(path(5, Some([(0, 0), (1, 1)]))).unwrap();
        assert!(marked.pixels().filter(|pixel| **pixel == palette::entity(0)).count() > 100);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = drawn(path(3, Some([(0, 0), (2, 0)]))).unwrap_err().to_string();
        assert!(error.starts_with("the entity after row 1 is cell (2, 0)"), "{error}");
        assert!(matches!(interpolation("t", SHAPE, &[], (1, 1), "", Density::Single), Err(PictureError::Empty)));
    }
}
