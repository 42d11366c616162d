//! Points of a plane, coloured by class: where a model puts images in two of its latent dimensions.

use super::{
    drawing::{Anchor, Drawing, Frame, LINE, MARGIN, Mark, Words},
    palette,
};

/// Side of the plot: square, because both axes are measured in the same unit.
const SIDE: f64 = 560.0;
/// Room for the legend.
const LEGEND: f64 = 90.0;
/// Room for the vertical axis' labels.
const LABELS: f64 = 60.0;
/// The share of points at each end of each axis that may lie outside, so that a few far ones do not shrink the rest to a dot.
const OUTLIERS: f64 = 0.002;
/// A class of fewer points is named in the legend alone: its name in place would hide them.
const NAMED: usize = 5;
/// Points drawn class by class before the classes start anew: otherwise the last class would cover the others.
const ROUND: usize = 400;

/// What a scatter plot shows.
#[derive(Clone, Debug)]
pub struct Scatter<'a> {
    /// Over everything.
    pub title: &'a str,
    /// Names of the horizontal and the vertical axis.
    pub axes: (&'a str, &'a str),
    /// Where each point lies, and its class if it has one.
    pub points: &'a [((f64, f64), Option<u8>)],
    /// Under everything.
    pub footnote: &'a str,
}

impl Scatter<'_> {
    /// The plot. Points that are not finite are left out; how many lie outside the axes, the note says.
    pub fn drawing(&self) -> Drawing {
        let (mut drawing, top) = Drawing::titled(self.title, MARGIN + LABELS + SIDE + LEGEND + MARGIN);
        let finite = |((x, y), _): &&((f64, f64), Option<u8>)| x.is_finite() && y.is_finite();
        let points: Vec<_> = self.points.iter().filter(finite).copied().collect();
        let (x, y) = (typical(points.iter().map(|p| p.0.0)), typical(points.iter().map(|p| p.0.1)));
        let frame = Frame::square((MARGIN, top), SIDE, x, y);
        let under = frame.draw(&mut drawing, self.axes.0, self.axes.1);
        let inside: Vec<_> = points.iter().copied().filter(|(at, _)| frame.holds(*at)).collect();
        let classes = classes(&inside);
        for round in inside.chunks(ROUND) {
            for class in std::iter::once(None).chain(classes.iter().copied().map(Some)) {
                let points: Vec<_> = round.iter().filter(|p| p.1 == class).map(|p| frame.place(p.0)).collect();
                if !points.is_empty() {
                    drawing.add(Mark::Dots { points, radius: 2.2, colour: colour(class), opacity: 0.75 });
                }
            }
        }
        for &class in &classes {
            let points = inside.iter().filter(|p| p.1 == Some(class)).map(|p| p.0);
            if points.clone().count() < NAMED {
                continue;
            }
            let middle = middle_of(points);
            let (x, y) = frame.place(middle);
            let name = Words::new(class.to_string(), (x, y - LINE / 2.0)).bold().haloed();
            drawing.words(name.anchored(Anchor::Middle));
        }
        legend(&mut drawing, &frame, &classes);
        let outside = self.points.len() - inside.len();
        let left_out = if outside > 0 { format!(" {outside} lie outside the axes.") } else { String::new() };
        let footnote = format!("{} points.{left_out} {}", self.points.len(), self.footnote);
        drawing.finished(&footnote, under)
    }
}

/// The classes that occur, in order.
fn classes(points: &[((f64, f64), Option<u8>)]) -> Vec<u8> {
    let mut classes: Vec<u8> = points.iter().filter_map(|p| p.1).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// Grey where the class is not known.
fn colour(class: Option<u8>) -> image::Rgb<u8> {
    class.map_or(palette::FAINT_INK, |class| palette::class(class.into()))
}

fn legend(drawing: &mut Drawing, frame: &Frame, classes: &[u8]) {
    let (_, top, right, _) = frame.edges();
    let left = right + 18.0;
    if !classes.is_empty() {
        drawing.words(Words::new("class", (left, top)));
    }
    for (line, &class) in (1..).zip(classes) {
        let y = top + f64::from(line) * (LINE + 6.0);
        let points = vec![(left + 6.0, y + LINE / 2.0)];
        drawing.add(Mark::Dots { points, radius: 5.0, colour: colour(Some(class)), opacity: 1.0 });
        drawing.words(Words::new(class.to_string(), (left + 20.0, y)));
    }
}

/// The range of all values but the most extreme; (−1, 1) of none.
fn typical(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let aside = (values.len() as f64 * OUTLIERS) as usize;
    match values.get(aside) {
        Some(&low) => (low, values[values.len() - 1 - aside]),
        None => (-1.0, 1.0),
    }
}

/// The median of each coordinate.
fn middle_of(points: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64) {
    let median = |values: &mut dyn Iterator<Item = f64>| {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    (median(&mut points.clone().map(|p| p.0)), median(&mut points.map(|p| p.1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::Density;

    fn drawn(points: &[((f64, f64), Option<u8>)]) -> String {
        Scatter { title: "a test", axes: ("across", "up"), points, footnote: "a note" }.drawing().svg(Density::Single)
    }

    #[test]
    fn every_point_is_drawn_and_every_class_named_in_place_and_legend() {
        let points: Vec<_> =
            (0..1000).map(|i| ((f64::from(i % 37), f64::from(i % 41)), Some((i % 10) as u8))).collect();
        let svg = drawn(&points);
        // And one disc for each class in the legend.
        assert_eq!(svg.matches("h0").count(), 1000 + 10);
        for class in 0..10 {
            // In place twice, with what the page shows around the letters.
            assert!(svg.matches(&format!(">{class}</text>")).count() >= 3, "{class}");
        }
        assert!(svg.contains("1000 points.") && !svg.contains("outside"));
    }

    #[test]
    fn far_points_are_counted_and_not_drawn() {
        let mut points: Vec<_> = (0..1000).map(|i| ((f64::from(i % 7), f64::from(i % 5)), None)).collect();
        points.extend([((1e6, 0.0), None), ((f64::NAN, 0.0), None)]);
        let svg = drawn(&points);
        assert_eq!(svg.matches("h0").count(), 1000);
        assert!(svg.contains("1002 points. 2 lie outside the axes."));
    }

    #[test]
    fn no_points_still_make_a_page() {
        assert!(drawn(&[]).contains("0 points."));
    }
}
