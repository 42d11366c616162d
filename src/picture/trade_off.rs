//! Two quantities that are traded for each other, as a curve of labelled points: rate against distortion.

use super::{
    drawing::{Drawing, Frame, LINE, MARGIN, Mark, Words},
    palette,
};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 380.0;

/// What the curve shows.
#[derive(Clone, Debug)]
pub struct TradeOff<'a> {
    /// Over everything.
    pub title: &'a str,
    /// Names of the horizontal and the vertical axis, with their units.
    pub axes: (&'a str, &'a str),
    /// Points in the order of the line, each with its label.
    pub points: &'a [((f64, f64), String)],
    /// Under everything.
    pub footnote: &'a str,
}

impl TradeOff<'_> {
    /// The plot; points that are not finite are left out.
    pub fn drawing(&self) -> Drawing {
        let (mut drawing, top) = Drawing::titled(self.title, MARGIN + 60.0 + WIDTH + 40.0 + MARGIN);
        let points: Vec<_> = self.points.iter().filter(|((x, y), _)| x.is_finite() && y.is_finite()).collect();
        let range = |value: fn(&(f64, f64)) -> f64| {
            let values = points.iter().map(|p| value(&p.0));
            let low = values.clone().fold(f64::INFINITY, f64::min);
            if low.is_finite() { (low, values.fold(low, f64::max)) } else { (0.0, 1.0) }
        };
        let (x, y) = (range(|p| p.0), range(|p| p.1));
        let frame = Frame::new((MARGIN, top), (WIDTH, HEIGHT), (x.0.min(0.0), x.1), y);
        let under = frame.draw(&mut drawing, self.axes.0, self.axes.1);
        let places: Vec<_> = points.iter().map(|p| frame.place(p.0)).collect();
        drawing.add(Mark::Line { points: places.clone(), width: 2.0, colour: palette::DATA });
        drawing.add(Mark::Dots { points: places.clone(), radius: 5.0, colour: palette::ACCENT, opacity: 1.0 });
        for ((x, y), (_, label)) in places.into_iter().zip(points) {
            drawing.words(Words::new(label.as_str(), (x + 9.0, y - LINE - 1.0)).haloed());
        }
        drawing.finished(self.footnote, under)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Density;

    #[test]
    fn points_are_joined_and_labelled() {
        let points: Vec<_> = (1..=4).map(|i| ((f64::from(i), 9.0 / f64::from(i)), format!("β = {i}"))).collect();
        let plot = TradeOff { title: "t", axes: ("rate", "distortion"), points: &points, footnote: "" };
        let svg = plot.drawing().svg(Density::Single);
        assert_eq!(svg.matches("h0").count(), 4);
        assert!(svg.contains(">β = 3</text>") && svg.contains(">distortion</text>"));
        assert!(!TradeOff { points: &[], ..plot }.drawing().svg(Density::Single).contains("inf"));
    }
}
