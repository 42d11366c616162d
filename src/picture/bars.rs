//! Bars beside each other: one value for each latent dimension.

use super::{
    drawing::{Anchor, Drawing, Frame, LINE, MARGIN, Mark, Words},
    palette,
};

/// Height of the plot.
const HEIGHT: f64 = 260.0;
/// Room for each bar, wide enough for its value.
const PITCH: f64 = 44.0;
/// Width of a bar.
const BAR: f64 = 28.0;
/// The narrowest plot, for titles.
const NARROWEST: f64 = 480.0;
/// Few bars are not spread farther apart than this.
const WIDEST_PITCH: f64 = 96.0;

/// What a bar chart shows.
#[derive(Clone, Debug)]
pub struct Bars<'a> {
    /// Over everything.
    pub title: &'a str,
    /// What the values are, with their unit.
    pub values_name: &'a str,
    /// What the bars are.
    pub bars_name: &'a str,
    /// Name and value of each bar.
    pub bars: &'a [(String, f64)],
    /// Under everything.
    pub footnote: &'a str,
}

impl Bars<'_> {
    /// The chart, with a bar from 0 to each value. Values that are not finite have none.
    pub fn drawing(&self) -> Drawing {
        let width = (self.bars.len() as f64 * PITCH + 16.0).max(NARROWEST);
        let (mut drawing, top) = Drawing::titled(self.title, MARGIN + 60.0 + width + MARGIN);
        let finite = self.bars.iter().map(|b| b.1).filter(|value| value.is_finite());
        let highest = finite.fold(0.0, f64::max);
        // Room over the highest bar for its value.
        let corner = (MARGIN, top);
        let frame = Frame::new(corner, (width, HEIGHT), (0.0, width), (0.0, highest * 1.05));
        let under = self.draw_axis(&mut drawing, &frame);
        let (left, _, _, bottom) = frame.edges();
        let pitch = ((width - 16.0) / self.bars.len().max(1) as f64).min(WIDEST_PITCH);
        for (index, (name, value)) in self.bars.iter().enumerate() {
            let middle = left + 8.0 + (index as f64 + 0.5) * pitch;
            let label = Words::new(name.as_str(), (middle, bottom + 6.0)).anchored(Anchor::Middle);
            drawing.words(label);
            if value.is_finite() {
                let (_, y) = frame.place((0.0, *value));
                let (corner, size) = ((middle - BAR / 2.0, y), (BAR, bottom - y));
                drawing.add(Mark::Box { corner, size, colour: palette::DATA });
                let label = Words::new(format!("{value:.2}"), (middle, y - LINE - 1.0)).haloed();
                drawing.words(label.anchored(Anchor::Middle));
            }
        }
        drawing.finished(self.footnote, under)
    }

    /// The vertical axis alone: what is across are names.
    fn draw_axis(&self, drawing: &mut Drawing, frame: &Frame) -> f64 {
        frame.draw_up(drawing, self.values_name);
        frame.name_across(drawing, self.bars_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Density;

    #[test]
    fn every_value_has_its_bar_and_its_number() {
        let bars: Vec<_> = (0..40).map(|i| (format!("z{i}"), f64::from(i) / 8.0)).collect();
        let chart = Bars { title: "t", values_name: "KL (nats)", bars_name: "dimension", bars: &bars, footnote: "" };
        let svg = chart.drawing().svg(Density::Single);
        assert_eq!(svg.matches("fill=\"#0072b2\"").count(), 40);
        assert!(svg.contains(">z39</text>") && svg.contains(">4.88</text>") && svg.contains("KL (nats)"));
        // 40 bars are wider than the narrowest chart.
        assert!(chart.drawing().pixels(Density::Single).width() > 1700);
    }

    #[test]
    fn what_is_not_finite_has_no_bar() {
        let bars = [("a".to_string(), f64::NAN), ("b".to_string(), 0.0)];
        let chart = Bars { title: "t", values_name: "v", bars_name: "n", bars: &bars, footnote: "" };
        let svg = chart.drawing().svg(Density::Single);
        assert_eq!(svg.matches("fill=\"#0072b2\"").count(), 1);
        assert!(!svg.contains("NaN"));
    }
}
