//! Training curves, as SVG.
//!
//! The drawing is written out directly: four panels of two lines each need
//! less code than the set-up of a plotting library would, and the text stays
//! text. The picture brings its own white page, so that it reads on dark
//! pages too.

mod panel;
mod series;

use std::fmt::{self, Write};

use super::{escaped, text::shortened};
use panel::Panel;
use series::Point;

/// What is known of a model after some steps of its training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Optimiser steps taken.
    pub step: u64,
    /// Negative evidence lower bound, in nats per image.
    pub negative_elbo: f64,
    /// Reconstruction term, in nats per image.
    pub reconstruction: f64,
    /// KL term, in nats per image.
    pub kl: f64,
    /// Share of scenes whose number of objects is right, in 0…1; `None` for
    /// models that do not count.
    pub count_accuracy: Option<f64>,
}

/// Panels beside each other.
const COLUMNS: usize = 2;
/// Around the whole picture, and between panels.
const MARGIN: f64 = 24.0;
/// Height of the title line.
const HEADER: f64 = 34.0;

/// Letters of the title that fit beside the key.
const LONGEST_TITLE: usize = 64;

/// Okabe–Ito blue and vermillion: the two that differ most in every form of
/// colour vision.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','Noto Sans','DejaVu Sans',Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:17px;font-weight:600}
.name{font-size:14px;font-weight:600}
.unit,.tick,.last{font-size:12px;font-weight:400;fill:#59636e}
.up,.last{text-anchor:end}
.across{text-anchor:middle}
.key{font-size:13px}
.rule{stroke:#e4e8ec;fill:none}
.axis{stroke:#8c959f;fill:none}
.training{stroke:#0072b2;stroke-width:1.2;stroke-opacity:.75;fill:none;stroke-linejoin:round}
.validation{stroke:#d55e00;stroke-width:2.4;fill:none;stroke-linejoin:round;stroke-linecap:round}
.dot{fill:#d55e00;stroke:#fff}
";

/// Draws the curves of one training as an SVG document.
///
/// `training` and `validation` need not share their steps; both are drawn in
/// the order of their steps, and values that are not finite are left out. The
/// panel of the count accuracy is left out where no point has one.
pub fn curves(title: &str, training: &[CurvePoint], validation: &[CurvePoint]) -> String {
    let mut svg = String::new();
    write_document(&mut svg, title, &panels(training, validation)).expect("writing to a string does not fail");
    svg
}

fn panels(training: &[CurvePoint], validation: &[CurvePoint]) -> Vec<Panel> {
    type Value = fn(&CurvePoint) -> Option<f64>;
    let panel = |title, unit, range, value: Value| Panel {
        title,
        unit,
        training: points(training, value),
        validation: points(validation, value),
        range,
    };
    let nats = "nats per image";
    let mut panels = vec![
        panel("−ELBO", nats, None, |point| Some(point.negative_elbo)),
        panel("Reconstruction", nats, None, |point| Some(point.reconstruction)),
        panel("KL", nats, None, |point| Some(point.kl)),
    ];
    let percent: Value = |point| point.count_accuracy.map(|share| 100.0 * share);
    let counted = panel("Count accuracy", "% of scenes", Some((0.0, 100.0)), percent);
    if !(counted.training.is_empty() && counted.validation.is_empty()) {
        panels.push(counted);
    }
    panels
}

/// One quantity's points that can be drawn, by step.
fn points(curve: &[CurvePoint], value: fn(&CurvePoint) -> Option<f64>) -> Vec<Point> {
    let mut points: Vec<Point> = curve
        .iter()
        .filter_map(|point| Some((point.step as f64, value(point)?)))
        .filter(|(_, value)| value.is_finite())
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn write_document(svg: &mut String, title: &str, panels: &[Panel]) -> fmt::Result {
    let span = |count: usize, side: f64| count as f64 * (side + MARGIN) + MARGIN;
    let width = span(COLUMNS, panel::WIDTH);
    let height = span(panels.len().div_ceil(COLUMNS), panel::HEIGHT) + HEADER;
    let (label, title) = (escaped(title), escaped(&shortened(title, LONGEST_TITLE)));
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{label}">"#
    )?;
    writeln!(svg, "<style>\n{STYLE}</style>")?;
    writeln!(svg, r##"<rect width="{width}" height="{height}" rx="8" fill="#fff"/>"##)?;
    writeln!(svg, r#"<text class="title" x="{MARGIN}" y="40">{title}</text>"#)?;
    write_key(svg, width - MARGIN)?;
    for (index, panel) in panels.iter().enumerate() {
        let (row, column) = (index / COLUMNS, index % COLUMNS);
        let x = MARGIN + column as f64 * (panel::WIDTH + MARGIN);
        let y = MARGIN + HEADER + row as f64 * (panel::HEIGHT + MARGIN);
        panel.write(svg, index, (x, y))?;
    }
    svg.push_str("</svg>\n");
    Ok(())
}

/// The key, ending at `right` on the title's line.
fn write_key(svg: &mut String, right: f64) -> fmt::Result {
    let (training, validation) = (right - 206.0, right - 104.0);
    for (class, x) in [("training", training), ("validation", validation)] {
        writeln!(svg, r#"<path class="{class}" d="M{x} 35h26"/>"#)?;
        writeln!(svg, r#"<text class="key" x="{}" y="40">{class}</text>"#, x + 34.0)?;
    }
    writeln!(svg, r#"<circle class="dot" cx="{}" cy="35" r="3"/>"#, validation + 13.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64, value: f64, count_accuracy: Option<f64>) -> CurvePoint {
        CurvePoint { step, negative_elbo: value, reconstruction: value, kl: value, count_accuracy }
    }

    fn line(steps: u64, accuracy: Option<f64>) -> Vec<CurvePoint> {
        (0..steps).map(|step| point(step, 100.0 - step as f64, accuracy)).collect()
    }

    #[test]
    fn every_panel_has_both_lines() {
        let svg = curves("run", &line(50, Some(0.5)), &line(5, Some(0.5)));
        assert_eq!(svg.matches("<polyline class=\"training\"").count(), 4);
        assert_eq!(svg.matches("<polyline class=\"validation\"").count(), 4);
        assert_eq!(svg.matches("<circle").count(), 4 * 5 + 1);
        assert!(svg.contains("Count accuracy"));
    }

    #[test]
    fn models_that_do_not_count_have_no_panel_for_it() {
        let svg = curves("run", &line(50, None), &[]);
        assert!(!svg.contains("Count accuracy"));
        assert_eq!(svg.matches("<polyline").count(), 3);
    }

    #[test]
    fn values_that_are_not_finite_never_reach_the_file() {
        let wild = [f64::NAN, f64::INFINITY, 1e300, -1e300, 1.0];
        let training: Vec<_> = (0..).zip(wild).map(|(s, v)| point(s, v, Some(v))).collect();
        let svg = curves("run", &training, &[point(u64::MAX, f64::NAN, None)]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn steps_out_of_order_are_sorted() {
        let mut shuffled = line(9, None);
        shuffled.reverse();
        assert_eq!(curves("run", &shuffled, &[]), curves("run", &line(9, None), &[]));
    }

    #[test]
    fn a_title_cannot_break_the_document() {
        let svg = curves("<a & \"b\">\u{1}", &[], &[]);
        assert!(svg.contains("&lt;a &amp; &quot;b&quot;&gt; </text>"));
    }

    #[test]
    fn a_long_training_gives_a_small_file() {
        assert!(curves("run", &line(200_000, Some(0.9)), &[]).len() < 64 * 1024);
    }
}
