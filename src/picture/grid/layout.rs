//! Where everything on a sheet goes.
//!
//! The constants are layout pixels; positions are device pixels. They are
//! worked out in 64 bits and cut to 32 only once the sheet is known to be of a
//! reasonable size.

use super::{MAX_SHEET_PIXELS, Sheet};
use crate::picture::{PictureError, paint::Area, text};

/// Thickness of the frame around a tile.
pub(super) const FRAME: u32 = 3;
/// Between a tile and the words that belong to it.
pub(super) const CAPTION_GAP: u32 = 4;
/// Headings, captions and labels are cut after this many letters.
pub(super) const LONGEST_LINE: usize = 32;

/// Around the whole sheet.
const MARGIN: u32 = 24;
/// Between columns, and between the labels and the first of them.
const GUTTER: u32 = 10;
/// Before the first column of a group, on top of the gutter.
const GROUP_GAP: u32 = 18;
/// Between rows.
const ROW_GAP: u32 = 12;
/// Under the title, and over the footnote.
const WORDS_GAP: u32 = 14;
/// Height of a colour bar.
const BAR: u32 = 10;
/// The fewest letters to a line of title or footnote: a narrow sheet is
/// widened rather than given a title in many short lines.
const NARROWEST_WORDS: usize = 44;

/// Positions of all parts of a sheet.
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) left: u32,
    pub(super) title: Vec<String>,
    pub(super) title_top: u32,
    pub(super) headings_top: u32,
    pub(super) rows: Vec<u32>,
    pub(super) footnote: Vec<String>,
    pub(super) footnote_top: u32,
    columns: Vec<u32>,
    tile: (u32, u32),
    labels_right: u32,
    bar: Area,
}

/// Horizontal positions: left edges of the columns' tiles, the right edge of
/// the labels, and where the last column ends.
struct Across {
    columns: Vec<u64>,
    labels_right: u64,
    end: u64,
}

/// Vertical positions: tops of the sheet's parts, and of each row's tiles.
struct Down {
    title: u64,
    headings: u64,
    rows: Vec<u64>,
    bar: u64,
    footnote: u64,
    end: u64,
}

impl Layout {
    pub(super) fn new(sheet: &Sheet) -> Result<Self, PictureError> {
        let density = sheet.density;
        let across = Across::new(sheet)?;
        let left = density.px(MARGIN);
        let letters = (across.end - u64::from(left)) / u64::from(text::letter_width(density));
        let letters = (letters as usize).max(NARROWEST_WORDS);
        let wrapped = |words: &Option<String>| words.as_ref().map_or_else(Vec::new, |words| text::wrap(words, letters));
        let (title, footnote) = (wrapped(&sheet.title), wrapped(&sheet.footnote));
        let down = Down::new(sheet, title.len(), footnote.len());

        let words = title.iter().chain(&footnote).map(|line| text::width(line, density)).max();
        let words_end = u64::from(left) + u64::from(words.unwrap_or(0));
        let (width, height) = (across.end.max(words_end) + u64::from(left), down.end);
        if width.saturating_mul(height) > MAX_SHEET_PIXELS {
            return Err(PictureError::SheetTooLarge { width, height });
        }

        let short = |lengths: &[u64]| lengths.iter().map(|&length| length as u32).collect();
        let (tile_width, tile_height) = tile_size(sheet);
        let bar_column = sheet.colour_bar.as_ref().map_or(0, |bar| bar.column);
        Ok(Self {
            width: width as u32,
            height: height as u32,
            left,
            title,
            title_top: down.title as u32,
            headings_top: down.headings as u32,
            rows: short(&down.rows),
            footnote,
            footnote_top: down.footnote as u32,
            labels_right: across.labels_right as u32,
            bar: Area {
                x: across.columns[bar_column.min(across.columns.len() - 1)] as u32,
                y: down.bar as u32,
                width: tile_width as u32,
                height: density.px(BAR),
            },
            columns: short(&across.columns),
            tile: (tile_width as u32, tile_height as u32),
        })
    }

    /// How many columns there are.
    pub(super) const fn columns(&self) -> usize {
        self.columns.len()
    }

    /// The box of the tile in this column of the row with this top.
    pub(super) fn tile(&self, column: usize, top: u32) -> Area {
        let (width, height) = self.tile;
        Area { x: self.columns[column], y: top, width, height }
    }

    /// The box of the colour bar.
    pub(super) const fn colour_bar(&self) -> Area {
        self.bar
    }

    /// Where a line of a label begins that is `width` wide.
    pub(super) const fn label_left(&self, width: u32) -> u32 {
        self.labels_right.saturating_sub(width)
    }

    /// Where a label begins that is `height` high, beside the middle of the
    /// row with this top.
    pub(super) const fn label_top(&self, height: u32, top: u32) -> u32 {
        (top + self.tile.1 / 2).saturating_sub(height / 2)
    }
}

impl Across {
    fn new(sheet: &Sheet) -> Result<Self, PictureError> {
        let px = |length| u64::from(sheet.density.px(length));
        let count = sheet.rows.iter().map(|row| row.tiles.len()).max().unwrap_or(0);
        if count == 0 {
            return Err(PictureError::Empty);
        }
        let labels = sheet.rows.iter().filter_map(|row| row.label.as_deref());
        let labels = labels.flat_map(str::lines).map(|line| words_width(sheet, line)).max();
        let labels_right = px(MARGIN) + labels.unwrap_or(0);

        let mut pen = labels_right + labels.map_or(0, |_| px(GUTTER));
        let (tile, _) = tile_size(sheet);
        let mut columns = Vec::with_capacity(count);
        for column in 0..count {
            if column > 0 {
                pen += px(GUTTER);
                pen += if sheet.group_starts.contains(&column) { px(GROUP_GAP) } else { 0 };
            }
            let width = column_words(sheet, column).max(tile + 2 * px(FRAME));
            columns.push(pen + (width - tile) / 2);
            pen += width;
        }
        Ok(Self { columns, labels_right, end: pen })
    }
}

impl Down {
    fn new(sheet: &Sheet, title_lines: usize, footnote_lines: usize) -> Self {
        let px = |length| u64::from(sheet.density.px(length));
        let line = u64::from(text::line_height(sheet.density));
        let (_, tile) = tile_size(sheet);

        let title = px(MARGIN);
        let mut pen = title + title_lines as u64 * line;
        pen += if title_lines > 0 { px(WORDS_GAP) } else { 0 };
        let headings = pen;
        pen += if sheet.headings.is_empty() { 0 } else { line + px(CAPTION_GAP) };
        let mut rows = Vec::with_capacity(sheet.rows.len());
        for (index, row) in sheet.rows.iter().enumerate() {
            pen += if index > 0 { px(ROW_GAP) } else { 0 };
            rows.push(pen + px(FRAME));
            pen += tile + 2 * px(FRAME);
            let captioned = row.tiles.iter().any(|tile| tile.caption.is_some());
            pen += if captioned { px(CAPTION_GAP) + line } else { 0 };
        }
        let bar = pen + px(ROW_GAP);
        if sheet.colour_bar.is_some() {
            pen = bar + px(BAR) + px(CAPTION_GAP) + line;
        }
        let footnote = pen + px(WORDS_GAP);
        if footnote_lines > 0 {
            pen = footnote + footnote_lines as u64 * line;
        }
        Self { title, headings, rows, bar, footnote, end: pen + px(MARGIN) }
    }
}

/// The box of one cell of a grid of (rows, columns) laid over `tile`.
pub(super) fn cell(tile: Area, (row, column): (usize, usize), grid: (usize, usize)) -> Area {
    // Rounded up, as the first pixel that `paint::stretch` takes from a cell.
    let edge = |index: usize, cells: usize, length: u32| {
        (index as u64 * u64::from(length)).div_ceil(cells.max(1) as u64) as u32
    };
    let (left, right) = (edge(column, grid.1, tile.width), edge(column + 1, grid.1, tile.width));
    let (top, bottom) = (edge(row, grid.0, tile.height), edge(row + 1, grid.0, tile.height));
    Area { x: tile.x + left, y: tile.y + top, width: right - left, height: bottom - top }
}

/// Width and height of a tile.
fn tile_size(sheet: &Sheet) -> (u64, u64) {
    let scale = u64::from(sheet.density.px(sheet.scale));
    (sheet.shape.width as u64 * scale, sheet.shape.height as u64 * scale)
}

/// Width of the widest heading, caption or colour key of a column.
fn column_words(sheet: &Sheet, column: usize) -> u64 {
    let captions = sheet.rows.iter().filter_map(|row| row.tiles.get(column)?.caption.as_deref());
    let heading = sheet.headings.get(column).map(String::as_str);
    let widest = captions.chain(heading).map(|words| words_width(sheet, words)).max();
    let key = sheet
        .colour_bar
        .as_ref()
        .filter(|bar| bar.column == column)
        .map(|bar| u64::from(text::width(&format!("{} {}", bar.low, bar.high), sheet.density)));
    widest.max(key).unwrap_or(0)
}

/// Width of a heading, caption or label as it is drawn.
fn words_width(sheet: &Sheet, words: &str) -> u64 {
    u64::from(text::width(&text::shortened(words, LONGEST_LINE), sheet.density))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_tile_the_whole_box() {
        let tile = Area { x: 10, y: 20, width: 7, height: 9 };
        let grid = (3, 3);
        let mut covered = 0;
        for row in 0..3 {
            for column in 0..3 {
                let cell = cell(tile, (row, column), grid);
                covered += cell.width * cell.height;
            }
        }
        assert_eq!(covered, 7 * 9);
        assert_eq!(cell(tile, (0, 0), grid), Area { x: 10, y: 20, width: 3, height: 3 });
    }
}
