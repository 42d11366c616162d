//! The decoded plane: what a decoder makes of a grid of latents, with the latents as axes.

use image::RgbImage;

use super::{
    Density, PictureError, Shape,
    grid::MAX_SHEET_PIXELS,
    paint::{self, Area},
    palette,
    text::{self, Style, Weight},
    tile::Tile,
};

/// Around the page.
const MARGIN: u32 = 24;
/// Between the picture and what is written beside it.
const GAP: u32 = 6;
/// Letters kept free for the labels of the vertical axis.
const LABEL: u32 = 6;
/// The whole mosaic is scaled up towards this side.
const SIDE: usize = 840;
/// The fewest letters to a line of the title.
const NARROWEST: usize = 44;

/// A square mosaic of decoded latents.
#[derive(Clone, Debug)]
pub struct Manifold<'a> {
    /// Over everything.
    pub title: &'a str,
    /// Names of the horizontal and the vertical axis.
    pub axes: (&'a str, &'a str),
    /// The latents along each axis, rising.
    pub values: &'a [f64],
    /// One image for each pair of values, each in 0…1 as (height, width, channels): from the top left, so that the vertical
    /// latent falls from row to row and the horizontal one rises from column to column.
    pub images: &'a [Vec<f32>],
    /// Of every image.
    pub shape: Shape,
    /// Under everything.
    pub footnote: &'a str,
}

impl Manifold<'_> {
    /// Paints the mosaic, its axes and its words.
    ///
    /// # Errors
    /// A [`PictureError`] that names the image that does not fit; no images, or another number than values by values, are
    /// refused too, and so is what would be too large.
    pub fn draw(&self, density: Density) -> Result<RgbImage, PictureError> {
        self.shape.check()?;
        let side = self.values.len();
        super::shape::check_length(self.images.len(), side * side, "the manifold's list of images")?;
        if side == 0 {
            return Err(PictureError::Empty);
        }
        let layout = Layout::new(self, density)?;
        let mut canvas = RgbImage::from_pixel(layout.width, layout.height, palette::PAGE);
        for (index, image) in self.images.iter().enumerate() {
            let (row, column) = (index / side, index % side);
            let what = format!("the image in row {} and column {}", row + 1, column + 1);
            let tile = Tile::from_values(image, self.shape, &what)?.into_picture();
            paint::stretch(&mut canvas, layout.tile(row, column), &tile);
        }
        self.write(&mut canvas, &layout, density);
        Ok(canvas)
    }

    fn write(&self, canvas: &mut RgbImage, layout: &Layout, density: Density) {
        let line = text::line_height(density);
        let style = |ink, weight| Style { weight, ink, density };
        let (ink, faint) = (style(palette::INK, Weight::Regular), style(palette::FAINT_INK, Weight::Regular));
        let left = density.px(MARGIN);
        for (words, top) in layout.title.iter().zip((density.px(MARGIN)..).step_by(line as usize)) {
            text::draw(canvas, (left, top), words, style(palette::INK, Weight::Bold));
        }
        for (words, top) in layout.footnote.iter().zip((layout.footnote_top..).step_by(line as usize)) {
            text::draw(canvas, (left, top), words, faint);
        }
        let Area { x, y, width, height } = layout.mosaic;
        text::draw(canvas, (x, y - line - density.px(GAP)), self.axes.1, ink);
        let under = y + height + density.px(GAP);
        let right = (x + width).saturating_sub(text::width(self.axes.0, density));
        text::draw(canvas, (right, under + line + density.px(2)), self.axes.0, ink);
        for index in labelled(self.values.len()) {
            let label = signed(self.values[index]);
            let across = text::width(&label, density);
            let (tile, last) = (layout.tile(0, index), self.values.len() - 1);
            text::draw(canvas, ((tile.x + tile.width / 2).saturating_sub(across / 2), under), &label, faint);
            // The vertical latent falls from row to row.
            let tile = layout.tile(last - index, 0);
            let beside = x.saturating_sub(across + density.px(GAP));
            text::draw(canvas, (beside, tile.y + tile.height / 2 - line / 2), &label, faint);
        }
    }
}

/// Which of so many values are written out: both ends, and what is evenly between them.
fn labelled(values: usize) -> Vec<usize> {
    let last = values.saturating_sub(1);
    let steps = (1..=6).rev().find(|steps| last.is_multiple_of(*steps)).unwrap_or(1);
    // A prime number of gaps has no even division: then both ends and the nearest to even.
    let steps = if steps < 3 { last.min(5) } else { steps };
    let mut indices: Vec<usize> = (0..=steps).map(|i| i * last / steps.max(1)).collect();
    indices.dedup();
    indices
}

/// A latent to two decimals, with a real minus.
fn signed(value: f64) -> String {
    format!("{:.2}", value + 0.0).replace('-', "−")
}

struct Layout {
    width: u32,
    height: u32,
    title: Vec<String>,
    footnote: Vec<String>,
    footnote_top: u32,
    mosaic: Area,
    /// Width and height of a tile.
    tile: (u32, u32),
}

impl Layout {
    fn new(manifold: &Manifold<'_>, density: Density) -> Result<Self, PictureError> {
        let side = manifold.values.len();
        let Shape { height, width, .. } = manifold.shape;
        let scale = density.px((SIDE / (side * height.max(width))).max(1) as u32) as usize;
        let (tall, wide) = ((side * height * scale) as u64, (side * width * scale) as u64);
        if tall.saturating_mul(wide) > MAX_SHEET_PIXELS {
            return Err(PictureError::SheetTooLarge { width: wide, height: tall });
        }
        let (tall, wide, line, px) = (tall as u32, wide as u32, text::line_height(density), |n| density.px(n));
        let left = px(MARGIN) + LABEL * text::letter_width(density) + px(GAP);
        let room = left + wide - px(MARGIN);
        let letters = ((room / text::letter_width(density)) as usize).max(NARROWEST);
        let (title, footnote) = (text::wrap(manifold.title, letters), text::wrap(manifold.footnote, letters));
        let top = px(MARGIN) + title.len() as u32 * line + px(2 * GAP) + line + px(GAP);
        let footnote_top = top + tall + px(GAP) + 2 * line + px(2 + 2 * GAP);
        let words = letters as u32 * text::letter_width(density);
        Ok(Self {
            width: (left + wide).max(px(MARGIN) + words) + px(MARGIN),
            height: footnote_top + footnote.len() as u32 * line + px(MARGIN),
            title,
            footnote,
            footnote_top,
            mosaic: Area { x: left, y: top, width: wide, height: tall },
            tile: ((width * scale) as u32, (height * scale) as u32),
        })
    }

    fn tile(&self, row: usize, column: usize) -> Area {
        let (width, height) = self.tile;
        let (x, y) = (self.mosaic.x + column as u32 * width, self.mosaic.y + row as u32 * height);
        Area { x, y, width, height }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    const SHAPE: Shape = Shape::new(2, 2, 1);

    fn manifold<'a>(values: &'a [f64], images: &'a [Vec<f32>]) -> Manifold<'a> {
        Manifold { title: "a test", axes: ("z0", "z1"), values, images, shape: SHAPE, footnote: "a note" }
    }

    #[test]
    fn the_mosaic_is_in_reading_order_without_seams() {
        let mut images = vec![vec![0.0; 4]; 9];
        images[1] = vec![0.2; 4];
        let picture = manifold(&[-1.0, 0.0, 1.0], &images).draw(Density::Single).unwrap();
        let tile = (SIDE / 6 * 2) as u32;
        let (black, grey) = (Rgb([0; 3]), Rgb([51; 3]));
        let found: Vec<(u32, u32)> =
            picture.enumerate_pixels().filter(|(_, _, p)| **p == grey).map(|(x, y, _)| (x, y)).collect();
        assert!(found.len() as u32 >= tile * tile);
        let pixels = picture.pixels().filter(|p| **p == black).count() as u32;
        assert!(pixels >= 8 * tile * tile);
        // The second image lies right of the first and left of the third, in the top row.
        let first = picture.enumerate_pixels().find(|(_, _, p)| **p == black).map(|(x, y, _)| (x, y)).unwrap();
        assert!(found.contains(&(first.0 + tile, first.1)));
    }

    #[test]
    fn double_density_doubles_the_picture() {
        let images = vec![vec![0.5; 4]; 4];
        let manifold = manifold(&[-1.0, 1.0], &images);
        let (single, double) = (manifold.draw(Density::Single).unwrap(), manifold.draw(Density::Double).unwrap());
        assert_eq!((2 * single.width(), 2 * single.height()), double.dimensions());
    }

    #[test]
    fn labels_hold_both_ends_and_are_few() {
        for values in 1..=64 {
            let indices = labelled(values);
            assert_eq!((indices[0], *indices.last().unwrap()), (0, values - 1));
            assert!(indices.len() <= 7, "{values}: {indices:?}");
        }
        assert_eq!(signed(-1.5), "−1.50");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(matches!(manifold(&[], &[]).draw(Density::Single), Err(PictureError::Empty)));
        let images = vec![vec![0.5; 4]; 3];
        assert!(manifold(&[-1.0, 1.0], &images).draw(Density::Single).unwrap_err().to_string().contains("3 values"));
        let mut images = vec![vec![0.5; 4]; 4];
        images[3].pop();
        let error = manifold(&[-1.0, 1.0], &images).draw(Density::Single).unwrap_err().to_string();
        assert!(error.starts_with("the image in row 2 and column 2 holds 3"), "{error}");
    }
}
