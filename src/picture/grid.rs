//! The sheet all pixel pictures are laid out on: rows and columns of equally
//! large tiles with headings, labels, captions, a title and a footnote.

mod layout;

use image::{Rgb, RgbImage};

use super::{
    Density, PictureError, Shape,
    paint::{self, Area},
    palette,
    text::{self, Style, Weight},
    tile::{Mark, Tile},
};
use layout::Layout;

/// The most pixels a sheet may have; at 3 bytes each this is 384 MiB.
pub const MAX_SHEET_PIXELS: u64 = 1 << 27;

/// The edge of a marked cell's frame.
const MARK_EDGE: Rgb<u8> = Rgb([0, 0, 0]);

/// Tiles are scaled up towards this side, in layout pixels: large enough to
/// see strokes, small enough for eight tiles beside each other on a page.
const USUAL_SIDE: u32 = 128;

/// A sheet of tiles, put together step by step and then drawn.
///
/// ```
/// use multi_entity_vae::picture::{Shape, grid::Sheet, tile::Tile};
///
/// # fn main() -> Result<(), multi_entity_vae::picture::PictureError> {
/// let shape = Shape::new(2, 2, 1);
/// let tile = Tile::from_values(&[0.0, 1.0, 1.0, 0.0], shape, "the pattern")?;
/// let picture = Sheet::new(shape)
///     .title("A pattern")
///     .row(None, [tile.captioned("2×2")])
///     .draw()?;
/// assert!(picture.width() > 128);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sheet {
    shape: Shape,
    scale: u32,
    density: Density,
    title: Option<String>,
    headings: Vec<String>,
    group_starts: Vec<usize>,
    rows: Vec<Row>,
    colour_bar: Option<ColourBar>,
    footnote: Option<String>,
}

#[derive(Clone, Debug)]
struct Row {
    label: Option<String>,
    tiles: Vec<Tile>,
}

/// The key of a map: the ramp of [`palette::ramp`] from 0 to a named value,
/// drawn under one column of the sheet.
#[derive(Clone, Debug)]
pub struct ColourBar {
    /// The column, counted from 0.
    pub column: usize,
    /// What the dark end stands for.
    pub low: String,
    /// What the light end stands for.
    pub high: String,
}

impl Sheet {
    /// An empty sheet for tiles of `shape`.
    pub fn new(shape: Shape) -> Self {
        let sheet = Self {
            shape,
            scale: 1,
            density: Density::Single,
            title: None,
            headings: Vec::new(),
            group_starts: Vec::new(),
            rows: Vec::new(),
            colour_bar: None,
            footnote: None,
        };
        sheet.side(USUAL_SIDE)
    }

    /// Scales tiles up by the largest whole number that keeps their longer
    /// side within `side` layout pixels (128 unless set).
    #[must_use]
    pub fn side(self, side: u32) -> Self {
        let longer = self.shape.height.max(self.shape.width).max(1);
        self.scale((side as usize / longer) as u32)
    }

    /// Scales tiles up by exactly this factor; 0 counts as 1.
    #[must_use]
    pub const fn scale(mut self, scale: u32) -> Self {
        self.scale = if scale == 0 { 1 } else { scale };
        self
    }

    /// Sets the pixel density.
    #[must_use]
    pub const fn density(mut self, density: Density) -> Self {
        self.density = density;
        self
    }

    /// Writes a title at the top, on as many lines as it needs.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Writes headings over the columns, from the left.
    #[must_use]
    pub fn headings<T: Into<String>>(mut self, headings: impl IntoIterator<Item = T>) -> Self {
        self.headings = headings.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a wider gutter before this column, counted from 0.
    #[must_use]
    pub fn group_from(mut self, column: usize) -> Self {
        self.group_starts.push(column);
        self
    }

    /// Adds a row of tiles, with a label of one or more lines to the left of it.
    #[must_use]
    pub fn row(mut self, label: Option<&str>, tiles: impl IntoIterator<Item = Tile>) -> Self {
        self.rows.push(Row { label: label.map(str::to_owned), tiles: tiles.into_iter().collect() });
        self
    }

    /// Draws the key of a map under a column.
    #[must_use]
    pub fn colour_bar(mut self, bar: ColourBar) -> Self {
        self.colour_bar = Some(bar);
        self
    }

    /// Writes a note at the bottom, on as many lines as it needs.
    #[must_use]
    pub fn footnote(mut self, footnote: impl Into<String>) -> Self {
        self.footnote = Some(footnote.into());
        self
    }

    /// Draws the sheet.
    ///
    /// # Errors
    /// [`PictureError::Shape`], [`PictureError::Empty`], and
    /// [`PictureError::SheetTooLarge`] before anything large is allocated.
    pub fn draw(&self) -> Result<RgbImage, PictureError> {
        self.shape.check()?;
        let layout = Layout::new(self)?;
        let mut canvas = RgbImage::from_pixel(layout.width, layout.height, palette::PAGE);
        self.draw_words(&mut canvas, &layout);
        for (row, &top) in self.rows.iter().zip(&layout.rows) {
            for (column, tile) in row.tiles.iter().enumerate() {
                self.draw_tile(&mut canvas, tile, layout.tile(column, top));
            }
        }
        if let Some(bar) = &self.colour_bar {
            self.draw_colour_bar(&mut canvas, bar, layout.colour_bar());
        }
        Ok(canvas)
    }

    fn draw_words(&self, canvas: &mut RgbImage, layout: &Layout) {
        let line = text::line_height(self.density);
        let bold = Style { weight: Weight::Bold, ..self.style(palette::INK) };
        for (words, top) in layout.title.iter().zip((layout.title_top..).step_by(line as usize)) {
            text::draw(canvas, (layout.left, top), words, bold);
        }
        let faint = self.style(palette::FAINT_INK);
        for (words, top) in layout.footnote.iter().zip((layout.footnote_top..).step_by(line as usize)) {
            text::draw(canvas, (layout.left, top), words, faint);
        }
        for (heading, column) in self.headings.iter().zip(0..layout.columns()) {
            let over = layout.tile(column, layout.headings_top);
            self.centred(canvas, over, layout.headings_top, heading, palette::INK);
        }
        for (row, &top) in self.rows.iter().zip(&layout.rows) {
            if let Some(label) = &row.label {
                let lines: Vec<_> = label.lines().map(|words| text::shortened(words, layout::LONGEST_LINE)).collect();
                let first = layout.label_top(lines.len() as u32 * line, top);
                for (words, top) in lines.iter().zip((first..).step_by(line as usize)) {
                    let left = layout.label_left(text::width(words, self.density));
                    text::draw(canvas, (left, top), words, self.style(palette::INK));
                }
            }
        }
    }

    fn draw_tile(&self, canvas: &mut RgbImage, tile: &Tile, area: Area) {
        let (thickness, colour) = match tile.frame {
            Some(colour) => (layout::FRAME, tile.shown(colour)),
            None => (1, palette::HAIRLINE),
        };
        paint::fill(canvas, area.grown(self.density.px(thickness)), colour);
        paint::stretch(canvas, area, &tile.shown_picture());
        for mark in &tile.marks {
            self.draw_mark(canvas, mark, area);
        }
        if let Some(caption) = &tile.caption {
            // Below where the frame ends, or would end: captions of a row share one line.
            let below = self.density.px(layout::FRAME + layout::CAPTION_GAP);
            let top = area.y + area.height + below;
            self.centred(canvas, area, top, caption, tile.caption_ink());
        }
    }

    /// Frames a cell from outside, so that its own colour stays to be seen.
    fn draw_mark(&self, canvas: &mut RgbImage, mark: &Mark, tile: Area) {
        let cell = layout::cell(tile, mark.cell, mark.grid);
        let (line, edge) = (self.density.px(2), self.density.px(1));
        // The dark edge keeps the frame apart from light cells around it.
        paint::frame(canvas, cell, line + edge, tile, MARK_EDGE);
        paint::frame(canvas, cell, line, tile, mark.colour);
    }

    fn draw_colour_bar(&self, canvas: &mut RgbImage, bar: &ColourBar, area: Area) {
        let last = (area.width.max(2) - 1) as f32;
        paint::shade(canvas, area, |x, _| palette::ramp(x as f32 / last));
        let top = area.y + area.height + self.density.px(layout::CAPTION_GAP);
        let faint = self.style(palette::FAINT_INK);
        // The words may be wider than the bar; then they stand out on both sides of it.
        let words = text::width(&format!("{} {}", bar.low, bar.high), self.density);
        let beyond = words.saturating_sub(area.width).div_ceil(2);
        let right = area.x + area.width + beyond;
        text::draw(canvas, (area.x.saturating_sub(beyond), top), &bar.low, faint);
        let high = right.saturating_sub(text::width(&bar.high, self.density));
        text::draw(canvas, (high, top), &bar.high, faint);
    }

    /// Writes a line centred on a tile's column.
    fn centred(&self, canvas: &mut RgbImage, tile: Area, top: u32, words: &str, ink: Rgb<u8>) {
        let words = text::shortened(words, layout::LONGEST_LINE);
        let middle = tile.x + tile.width / 2;
        let left = middle.saturating_sub(text::width(&words, self.density) / 2);
        text::draw(canvas, (left, top), &words, self.style(ink));
    }

    const fn style(&self, ink: Rgb<u8>) -> Style {
        Style { weight: Weight::Regular, ink, density: self.density }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape::new(8, 8, 1);

    fn tile(value: f32) -> Tile {
        Tile::from_values(&[value; 64], SHAPE, "a test tile").unwrap()
    }

    fn count(picture: &RgbImage, colour: Rgb<u8>) -> usize {
        picture.pixels().filter(|&&pixel| pixel == colour).count()
    }

    #[test]
    fn every_tile_is_drawn_at_its_scale() {
        let black = Rgb([0, 0, 0]);
        for (scale, density, side) in [(1, Density::Single, 8), (3, Density::Double, 48)] {
            let sheet = Sheet::new(SHAPE).scale(scale).density(density);
            let sheet = sheet.row(None, [tile(0.0), tile(0.0)]).row(None, [tile(0.0)]);
            assert_eq!(count(&sheet.draw().unwrap(), black), 3 * side * side);
        }
    }

    #[test]
    fn double_density_doubles_the_sheet() {
        let sheet = Sheet::new(SHAPE)
            .title("A title that is long enough to be broken into a few lines on this sheet")
            .headings(["one", "a wide heading"])
            .group_from(1)
            .row(Some("label"), [tile(0.0).captioned("first"), tile(1.0)])
            .row(None, [tile(0.0)])
            .colour_bar(ColourBar { column: 0, low: "0".into(), high: "9 nats".into() })
            .footnote("a note");
        let (single, double) = (sheet.draw(), sheet.density(Density::Double).draw());
        let ((width, height), double) = (single.unwrap().dimensions(), double.unwrap());
        assert_eq!(double.dimensions(), (2 * width, 2 * height));
    }

    #[test]
    fn words_never_touch_the_margin() {
        let long = "a very long line of words that no small tile could ever hold, not even 2 of it";
        let bar = ColourBar { column: 0, low: "0".into(), high: "1000 nats per cell".into() };
        let sheet = Sheet::new(SHAPE).scale(1).title(long).footnote(long).headings([long, long]);
        let sheet = sheet.row(Some(long), [tile(0.0).captioned(long)]).colour_bar(bar);
        let picture = sheet.draw().unwrap();
        let (width, height) = picture.dimensions();
        for (x, y, pixel) in picture.enumerate_pixels() {
            let margin = x < 20 || y < 20 || x + 20 >= width || y + 20 >= height;
            assert!(!margin || *pixel == palette::PAGE, "ink at ({x}, {y})");
        }
    }

    #[test]
    fn frames_and_marks_take_their_colours() {
        let (framed, marked) = (palette::entity(0), palette::entity(1));
        let mark = Mark { cell: (1, 1), grid: (4, 4), colour: marked };
        let tile = tile(0.0).framed(framed).marked(mark, "a cell").unwrap();
        let picture = Sheet::new(SHAPE).scale(8).row(None, [tile]).draw().unwrap();
        assert_eq!(count(&picture, framed), 70 * 70 - 64 * 64);
        assert_eq!(count(&picture, marked), 20 * 20 - 16 * 16);
    }

    #[test]
    fn dimming_fades_towards_the_page() {
        let picture = Sheet::new(SHAPE).row(None, [tile(0.0).dimmed()]).draw().unwrap();
        assert_eq!(count(&picture, Rgb([0, 0, 0])), 0);
    }

    #[test]
    fn sheets_nobody_can_draw_are_refused() {
        let empty = Sheet::new(SHAPE).row(Some("nothing"), []);
        assert!(matches!(empty.draw(), Err(PictureError::Empty)));
        let huge = Sheet::new(SHAPE).scale(u32::MAX).row(None, [tile(0.0)]);
        assert!(matches!(huge.draw(), Err(PictureError::SheetTooLarge { .. })));
        let shapeless = Sheet::new(Shape::new(0, 0, 1)).row(None, [tile(0.0)]);
        assert!(matches!(shapeless.draw(), Err(PictureError::Shape { .. })));
    }

    #[test]
    fn a_colour_bar_beyond_the_last_column_does_no_harm() {
        let bar = ColourBar { column: 99, low: "0".into(), high: "1".into() };
        assert!(Sheet::new(SHAPE).row(None, [tile(0.0)]).colour_bar(bar).draw().is_ok());
    }
}
