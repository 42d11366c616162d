//! Text on pixels, in the Noto Sans Mono glyphs that come with the crate.
//!
//! A font that ships inside the binary looks the same on every machine; a
//! monospaced one makes measuring exact without a shaping engine.

use std::borrow::Cow;

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width};

use super::{Density, palette};

/// Weight of the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Captions, labels, notes.
    Regular,
    /// Titles.
    Bold,
}

/// How a piece of text is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Weight of the letters; does not change their width.
    pub weight: Weight,
    /// Colour of the letters.
    pub ink: Rgb<u8>,
    /// Density of the sheet the text is drawn on.
    pub density: Density,
}

/// Height of one line, in device pixels.
pub const fn line_height(density: Density) -> u32 {
    raster_height(density).val() as u32
}

/// Width of `text` on one line, in device pixels.
pub fn width(text: &str, density: Density) -> u32 {
    let letters = spelled(text).chars().count();
    u32::try_from(letters).unwrap_or(u32::MAX).saturating_mul(letter_width(density))
}

/// Width of one letter, in device pixels; the same for all.
pub const fn letter_width(density: Density) -> u32 {
    get_raster_width(FontWeight::Regular, raster_height(density)) as u32
}

/// Draws one line of `text` with its top left corner at (`x`, `y`), clipped at
/// the edges of the canvas.
pub fn draw(canvas: &mut RgbImage, (x, y): (u32, u32), text: &str, style: Style) {
    let advance = letter_width(style.density);
    let mut left = x;
    for letter in spelled(text).chars() {
        if left >= canvas.width() {
            return;
        }
        let raster = glyph(letter, style);
        draw_rows(canvas, (left, y), raster.rows(), style.ink);
        if letter == 'β' {
            draw_stem(canvas, (left, y), &raster, style.ink);
        }
        left = left.saturating_add(advance);
    }
}

/// Breaks `text` between words into lines of at most `letters` letters; a word
/// that is longer than a line is cut.
pub fn wrap(text: &str, letters: usize) -> Vec<String> {
    let letters = letters.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut room = 0;
    for word in text.split_whitespace() {
        let word: Vec<char> = word.chars().collect();
        if !lines.is_empty() && word.len() < room {
            let line = lines.last_mut().expect("checked not to be empty");
            line.push(' ');
            line.extend(&word);
            room -= word.len() + 1;
            continue;
        }
        for piece in word.chunks(letters) {
            lines.push(piece.iter().collect());
            room = letters - piece.len();
        }
    }
    lines
}

/// `text` cut to `letters` letters, the last of which then say that it was cut.
pub fn shortened(text: &str, letters: usize) -> Cow<'_, str> {
    const CUT: &str = "..";
    if text.chars().count() <= letters {
        return Cow::Borrowed(text);
    }
    let kept: String = text.chars().take(letters.saturating_sub(CUT.len())).collect();
    Cow::Owned(kept.trim_end().to_owned() + CUT)
}

const fn raster_height(density: Density) -> RasterHeight {
    match density {
        Density::Single => RasterHeight::Size16,
        Density::Double => RasterHeight::Size32,
    }
}

/// `text` with the letters that the embedded font (Latin-1 only) lacks, and
/// that the pictures use, put in others.
fn spelled(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            // Twins in shape.
            'μ' => spelled.push('µ'),
            '−' | '–' | '—' | '‑' => spelled.push('-'),
            '…' => spelled.push_str("..."),
            '→' => spelled.push_str("->"),
            '≤' => spelled.push_str("<="),
            '≥' => spelled.push_str(">="),
            _ => spelled.push(letter),
        }
    }
    spelled
}

fn glyph(letter: char, style: Style) -> RasterizedChar {
    let weight = match style.weight {
        Weight::Regular => FontWeight::Regular,
        Weight::Bold => FontWeight::Bold,
    };
    let height = raster_height(style.density);
    // Lends β all of its shape but the stem, which `draw_stem` adds.
    let letter = if letter == 'β' { 'ß' } else { letter };
    get_raster(letter, weight, height)
        .or_else(|| get_raster('?', weight, height))
        .expect("the embedded font has a question mark")
}

fn draw_rows(
    canvas: &mut RgbImage,
    (x, y): (u32, u32),
    rows: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ink: Rgb<u8>,
) {
    for (down, row) in (0..).zip(rows) {
        for (right, &coverage) in (0..).zip(row.as_ref()) {
            let at = (x.saturating_add(right), y.saturating_add(down));
            if let Some(pixel) = canvas.get_pixel_mut_checked(at.0, at.1) {
                *pixel = palette::mix(*pixel, ink, f32::from(coverage) / 255.0);
            }
        }
    }
}

/// Draws the stem of a letter on below the line: what is inked first in the row of its lower half where that is thinnest.
fn draw_stem(canvas: &mut RgbImage, (x, y): (u32, u32), letter: &RasterizedChar, ink: Rgb<u8>) {
    let rows: Vec<_> = letter.rows().collect();
    let inked = |coverage: &&u8| **coverage > 0;
    let Some(foot) = rows.iter().rposition(|row| row.iter().any(|coverage| *coverage > 0)) else { return };
    let stem_of = |row: &&'static [u8]| {
        let blank = row.iter().take_while(|coverage| !inked(coverage)).count();
        let stem = row[blank..].iter().take_while(inked).count();
        (stem > 0).then(|| &row[..blank + stem])
    };
    let Some(stem) = rows[foot / 2..foot].iter().filter_map(stem_of).min_by_key(|stem| stem.len()) else { return };
    let below = u32::try_from(foot + 1).unwrap_or(u32::MAX);
    // A sixth of the line's height, which is how far p and q reach below it.
    draw_rows(canvas, (x, y.saturating_add(below)), vec![stem; rows.len() / 6], ink);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(density: Density) -> Style {
        Style { weight: Weight::Regular, ink: palette::INK, density }
    }

    fn page(width: u32, height: u32) -> RgbImage {
        RgbImage::from_pixel(width, height, palette::PAGE)
    }

    #[test]
    fn text_stays_inside_its_measure() {
        for density in [Density::Single, Density::Double] {
            let text = "KL 12.3 nats · ×2";
            let (wide, high) = (width(text, density), line_height(density));
            let mut canvas = page(wide + 20, high + 20);
            draw(&mut canvas, (10, 10), text, style(density));
            let inked = canvas.enumerate_pixels().filter(|(_, _, pixel)| **pixel != palette::PAGE);
            let mut any = false;
            for (x, y, _) in inked {
                any = true;
                assert!((10..10 + wide).contains(&x) && (10..10 + high).contains(&y));
            }
            assert!(any);
        }
    }

    #[test]
    fn double_density_doubles_the_measure() {
        assert_eq!(width("entity", Density::Double), 2 * width("entity", Density::Single));
        assert_eq!(line_height(Density::Double), 2 * line_height(Density::Single));
    }

    #[test]
    fn bold_letters_are_as_wide_as_regular_ones() {
        for height in [RasterHeight::Size16, RasterHeight::Size32] {
            assert_eq!(get_raster_width(FontWeight::Bold, height), get_raster_width(FontWeight::Regular, height));
        }
    }

    #[test]
    fn drawing_off_the_canvas_is_clipped() {
        let mut canvas = page(10, 5);
        draw(&mut canvas, (6, 0), "wide text", style(Density::Double));
        draw(&mut canvas, (u32::MAX, u32::MAX), "far away", style(Density::Single));
    }

    #[test]
    fn letters_the_font_lacks_are_spelled_or_marked() {
        let drawn = |text| {
            let mut canvas = page(40, 16);
            draw(&mut canvas, (0, 0), text, style(Density::Single));
            canvas
        };
        assert_eq!(drawn("μ…"), drawn("µ..."));
        assert_eq!(drawn("漢"), drawn("?"));
        assert_eq!(width("0…9", Density::Single), width("0...9", Density::Single));
    }

    #[test]
    fn beta_is_a_sharp_s_with_a_stem_under_the_line() {
        for density in [Density::Single, Density::Double] {
            let rows = |text| {
                let mut canvas = page(40, 40);
                draw(&mut canvas, (0, 0), text, style(density));
                let rows: Vec<Vec<bool>> =
                    canvas.rows().map(|row| row.map(|pixel| *pixel != palette::PAGE).collect()).collect();
                rows
            };
            let (beta, s) = (rows("β"), rows("ß"));
            let foot = s.iter().rposition(|row| row.contains(&true)).unwrap();
            assert_eq!(beta[..=foot], s[..=foot]);
            let stem = beta[foot + 1..].iter().filter(|row| row.contains(&true)).count();
            assert_eq!(stem as u32, line_height(density) / 6);
            assert!(foot + 1 + stem <= line_height(density) as usize);
        }
    }

    #[test]
    fn wrapping_breaks_between_words_and_cuts_long_ones() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("a abcdefgh b", 3), ["a", "abc", "def", "gh", "b"]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
        assert!(wrap("  ", 5).is_empty());
    }

    #[test]
    fn shortening_keeps_what_fits() {
        assert_eq!(shortened("entity", 6), "entity");
        assert_eq!(shortened("entity twelve", 9), "entity..");
    }
}
