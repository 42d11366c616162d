//! Plots as a list of marks, which become SVG or pixels.
//!
//! A plot is put together once, in layout pixels; [`Drawing::svg`] writes its marks out, [`Drawing::pixels`] paints them. So a
//! scatter plot looks the same as a file for the web and as a picture beside others.

mod frame;
mod pixels;
mod svg;

use image::Rgb;

use super::{Density, palette, text};
pub(super) use frame::Frame;
pub use svg::escaped;

/// A plot.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    width: f64,
    height: f64,
    /// What it shows, for those who cannot see it.
    label: String,
    marks: Vec<Mark>,
}

/// A position in layout pixels, from the top left corner.
pub(super) type Place = (f64, f64);

/// What plots are made of. Later marks lie on top of earlier ones.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mark {
    /// A filled box: top left corner, size.
    Box { corner: Place, size: Place, colour: Rgb<u8> },
    /// A line through points.
    Line { points: Vec<Place>, width: f64, colour: Rgb<u8> },
    /// Discs of one kind.
    Dots { points: Vec<Place>, radius: f64, colour: Rgb<u8>, opacity: f64 },
    /// A line of text.
    Words(Words),
}

/// A line of text, 16 layout pixels high.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words {
    pub(super) text: String,
    /// Top of the line, and the end or middle that `anchor` names.
    pub(super) at: Place,
    pub(super) anchor: Anchor,
    pub(super) colour: Rgb<u8>,
    pub(super) bold: bool,
    /// Whether the page shows around the letters, so that they can be read on top of other marks.
    pub(super) halo: bool,
}

/// Which part of a text lies at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Around every drawing.
pub(super) const MARGIN: f64 = 24.0;
/// Height of a line of text.
pub(super) const LINE: f64 = text::line_height(Density::Single) as f64;

impl Words {
    /// Plain words that start at a place.
    pub(super) fn new(text: impl Into<String>, at: Place) -> Self {
        let (text, anchor, colour) = (text.into(), Anchor::Start, palette::INK);
        Self { text, at, anchor, colour, bold: false, halo: false }
    }

    pub(super) fn faint(self) -> Self {
        Self { colour: palette::FAINT_INK, ..self }
    }

    pub(super) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub(super) fn haloed(self) -> Self {
        Self { halo: true, ..self }
    }

    pub(super) fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }
}

impl Drawing {
    /// A page of this width with a title, and where the room under it begins.
    pub(super) fn titled(title: &str, width: f64) -> (Self, f64) {
        let mut drawing = Self { width, height: 0.0, label: title.into(), marks: Vec::new() };
        let under = drawing.paragraph(title, MARGIN, Words::bold);
        (drawing, under + 12.0)
    }

    /// Words wrapped to the page's width from `top` on; returns where they end.
    pub(super) fn paragraph(&mut self, words: &str, top: f64, style: impl Fn(Words) -> Words) -> f64 {
        let letters = (self.width - 2.0 * MARGIN) / f64::from(text::letter_width(Density::Single));
        let mut top = top;
        for line in text::wrap(words, letters as usize) {
            self.add(Mark::Words(style(Words::new(line, (MARGIN, top)))));
            top += LINE;
        }
        top
    }

    /// Ends the page with a note under everything, which begins at `top`.
    pub(super) fn finished(mut self, footnote: &str, top: f64) -> Self {
        self.height = self.paragraph(footnote, top, Words::faint) + MARGIN;
        self
    }

    pub(super) fn add(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    pub(super) fn words(&mut self, words: Words) {
        self.add(Mark::Words(words));
    }
}
