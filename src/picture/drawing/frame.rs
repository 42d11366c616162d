//! The rectangle that a plot's data lie in, with its two axes.

use image::Rgb;

use super::{Anchor, Drawing, LINE, Mark, Place, Words};
use crate::picture::{axis::Axis, palette};

/// Room for the labels of the vertical axis.
const LABELS: f64 = 60.0;

/// A plot's rectangle.
pub(in crate::picture) struct Frame {
    corner: Place,
    size: Place,
    x: Axis,
    y: Axis,
}

impl Frame {
    /// A frame for data within two ranges. `corner` is where labels and all begin; the data's rectangle has `size`.
    pub(in crate::picture) fn new(corner: Place, size: Place, x: (f64, f64), y: (f64, f64)) -> Self {
        let (x, y) = (Axis::covering(x.0, x.1, steps_across(size.0)), Axis::covering(y.0, y.1, steps_up(size.1)));
        Self { corner: inner(corner), size, x, y }
    }

    /// A square frame whose axes share one scale, because distances in it mean something.
    pub(in crate::picture) fn square(corner: Place, side: f64, x: (f64, f64), y: (f64, f64)) -> Self {
        let (x, y) = Axis::of_one_scale(x, y, steps_across(side));
        Self { corner: inner(corner), size: (side, side), x, y }
    }

    /// Where a value of each axis lies.
    pub(in crate::picture) fn place(&self, (x, y): (f64, f64)) -> Place {
        let (left, top) = self.corner;
        (left + self.x.share(x) * self.size.0, top + (1.0 - self.y.share(y)) * self.size.1)
    }

    /// Whether values lie on both axes.
    pub(in crate::picture) fn holds(&self, (x, y): (f64, f64)) -> bool {
        (self.x.low..=self.x.high).contains(&x) && (self.y.low..=self.y.high).contains(&y)
    }

    /// The data's rectangle: left, top, right, bottom.
    pub(in crate::picture) fn edges(&self) -> (f64, f64, f64, f64) {
        let ((left, top), (width, height)) = (self.corner, self.size);
        (left, top, left + width, top + height)
    }

    /// Rules, ticks and names of both axes. Returns where the room underneath begins.
    pub(in crate::picture) fn draw(&self, drawing: &mut Drawing, x_name: &str, y_name: &str) -> f64 {
        let (_, top, _, bottom) = self.edges();
        for &tick in &self.x.ticks {
            let (x, _) = self.place((tick, self.y.low));
            drawing.add(rule((x, top), (x, bottom), palette::RULE));
            let label = Words::new(self.x.label(tick), (x, bottom + 6.0));
            drawing.words(label.faint().anchored(Anchor::Middle));
        }
        self.draw_up(drawing, y_name);
        self.name_across(drawing, x_name)
    }

    /// The vertical axis, its name above it, where it can be read without turning the head.
    pub(in crate::picture) fn draw_up(&self, drawing: &mut Drawing, name: &str) {
        let (left, top, right, bottom) = self.edges();
        for &tick in &self.y.ticks {
            let (_, y) = self.place((self.x.low, tick));
            drawing.add(rule((left, y), (right, y), palette::RULE));
            let label = Words::new(self.y.label(tick), (left - 8.0, y - LINE / 2.0));
            drawing.words(label.faint().anchored(Anchor::End));
        }
        drawing.add(rule((left, bottom), (right, bottom), palette::FAINT_INK));
        drawing.add(rule((left, top), (left, bottom), palette::FAINT_INK));
        drawing.words(Words::new(name, (left, top - LINE - 6.0)));
    }

    /// The horizontal axis' name, under what is written at its ticks. Returns where the room underneath begins.
    pub(in crate::picture) fn name_across(&self, drawing: &mut Drawing, name: &str) -> f64 {
        let (_, _, right, bottom) = self.edges();
        drawing.words(Words::new(name, (right, bottom + LINE + 8.0)).anchored(Anchor::End));
        bottom + 2.0 * LINE + 20.0
    }
}

/// Where the data's rectangle begins, if labels and all begin at `corner`.
fn inner(corner: Place) -> Place {
    (corner.0 + LABELS, corner.1 + LINE + 8.0)
}

/// A tick for about every 80 pixels across …
fn steps_across(length: f64) -> u32 {
    (length / 80.0).round() as u32
}

/// … and for every 50 up.
fn steps_up(length: f64) -> u32 {
    (length / 50.0).round() as u32
}

fn rule(from: Place, to: Place, colour: Rgb<u8>) -> Mark {
    Mark::Line { points: vec![from, to], width: 1.0, colour }
}
