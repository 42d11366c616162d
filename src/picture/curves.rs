//! Training curves, as SVG.
//!
//! The drawing is written out directly: four panels of two lines each need
//! less code than the set-up of a plotting library would, and the text stays
//! text. The picture brings its own white page, so that it reads on dark
//! pages too.

mod metrics;
mod panel;
mod series;

use std::fmt::{self, Write};

use super::{Density, escaped, text::wrap};
pub use metrics::points_of_metrics;
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
/// Height of a line of the title.
const TITLE_LINE: f64 = 22.0;
/// Height of the key's line.
const KEY_LINE: f64 = 22.0;

/// Letters of the title on a line.
const TITLE_LETTERS: usize = 96;

/// Okabe–Ito blue and vermillion: the two that differ most in every form of
/// colour vision.
const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','Noto Sans','DejaVu Sans',Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}
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
/// panel of the count accuracy is left out where no point has one, those of
/// the ELBO and the KL where every KL is 0. `density` is
/// that at which the document is shown unless its reader scales it.
pub fn curves(title: &str, training: &[CurvePoint], validation: &[CurvePoint], density: Density) -> String {
    let mut svg = String::new();
    write_document(&mut svg, title, &panels(training, validation), density).expect("writing to a string does not fail");
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
    // An autoencoder has no KL, and so no ELBO.
    let mut points = training.iter().chain(validation).peekable();
    let bounded = points.peek().is_none() || points.any(|point| point.kl != 0.0);
    let percent: Value = |point| point.count_accuracy.map(|share| 100.0 * share);
    let counted = panel("Count accuracy", "% of scenes", Some((0.0, 100.0)), percent);
    let counts = !(counted.training.is_empty() && counted.validation.is_empty());
    let panels = [
        bounded.then(|| panel("−ELBO", nats, None, |point| Some(point.negative_elbo))),
        Some(panel("Reconstruction", nats, None, |point| Some(point.reconstruction))),
        bounded.then(|| panel("KL", nats, None, |point| Some(point.kl))),
        counts.then_some(counted),
    ];
    panels.into_iter().flatten().collect()
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

fn write_document(svg: &mut String, title: &str, panels: &[Panel], density: Density) -> fmt::Result {
    let lines = wrap(title, TITLE_LETTERS);
    let header = lines.len() as f64 * TITLE_LINE + KEY_LINE;
    let span = |count: usize, side: f64| count as f64 * (side + MARGIN) + MARGIN;
    let width = span(COLUMNS, panel::WIDTH);
    let height = span(panels.len().div_ceil(COLUMNS), panel::HEIGHT) + header;
    let (shown_width, shown_height) = (width * density.factor(), height * density.factor());
    let label = escaped(title);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{shown_width}" height="{shown_height}" role="img" aria-label="{label}">"#
    )?;
    writeln!(svg, "<style>\n{STYLE}</style>")?;
    writeln!(svg, r##"<rect width="{width}" height="{height}" rx="8" fill="#fff"/>"##)?;
    let mut base = MARGIN + 16.0;
    for line in lines {
        writeln!(svg, r#"<text class="title" x="{MARGIN}" y="{base}">{}</text>"#, escaped(&line))?;
        base += TITLE_LINE;
    }
    write_key(svg, base)?;
    for (index, panel) in panels.iter().enumerate() {
        let (row, column) = (index / COLUMNS, index % COLUMNS);
        let x = MARGIN + column as f64 * (panel::WIDTH + MARGIN);
        let y = MARGIN + header + row as f64 * (panel::HEIGHT + MARGIN);
        panel.write(svg, index, (x, y))?;
    }
    svg.push_str("</svg>\n");
    Ok(())
}

/// The key, on a line of its own.
fn write_key(svg: &mut String, base: f64) -> fmt::Result {
    let (training, validation, middle) = (MARGIN, MARGIN + 102.0, base - 5.0);
    for (class, x) in [("training", training), ("validation", validation)] {
        writeln!(svg, r#"<path class="{class}" d="M{x} {middle}h26"/>"#)?;
        writeln!(svg, r#"<text class="key" x="{}" y="{base}">{class}</text>"#, x + 34.0)?;
    }
    writeln!(svg, r#"<circle class="dot" cx="{}" cy="{middle}" r="3"/>"#, validation + 13.0)
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

    fn drawn(title: &str, training: &[CurvePoint], validation: &[CurvePoint]) -> String {
        curves(title, training, validation, Density::Single)
    }

    #[test]
    fn a_long_title_is_told_to_its_end_on_lines_of_its_own() {
        let title = "word ".repeat(60);
        let (short, long) = (drawn("word", &[], &[]), drawn(&title, &[], &[]));
        assert_eq!(long.matches("class=\"title\"").count(), 4);
        assert_eq!(long.split("class=\"title\"").skip(1).map(|line| line.matches("word").count()).sum::<usize>(), 60);
        let height =
            |svg: &str| svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse::<f64>().unwrap();
        assert_eq!(height(&long), height(&short) + 3.0 * TITLE_LINE);
    }

    #[test]
    fn at_twice_the_density_it_is_shown_twice_as_large() {
        let [single, double] = [Density::Single, Density::Double].map(|density| curves("run", &[], &[], density));
        assert!(single.contains(r#"width="992" height="656""#), "{single}");
        assert!(double.contains(r#"width="1984" height="1312""#));
        assert_eq!(single.split("viewBox").nth(1).unwrap()[..16], double.split("viewBox").nth(1).unwrap()[..16]);
    }

    #[test]
    fn every_panel_has_both_lines() {
        let svg = drawn("run", &line(50, Some(0.5)), &line(5, Some(0.5)));
        assert_eq!(svg.matches("<polyline class=\"training\"").count(), 4);
        assert_eq!(svg.matches("<polyline class=\"validation\"").count(), 4);
        assert_eq!(svg.matches("<circle").count(), 4 * 5 + 1);
        assert!(svg.contains("Count accuracy"));
    }

    #[test]
    fn models_that_do_not_count_have_no_panel_for_it() {
        let svg = drawn("run", &line(50, None), &[]);
        assert!(!svg.contains("Count accuracy"));
        assert_eq!(svg.matches("<polyline").count(), 3);
    }

    #[test]
    fn models_without_a_kl_have_no_elbo_either() {
        let code: Vec<_> = line(50, None).into_iter().map(|point| CurvePoint { kl: 0.0, ..point }).collect();
        let svg = drawn("run", &code, &code[..5]);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains("Reconstruction") && !svg.contains("ELBO") && !svg.contains("KL"));
    }

    #[test]
    fn values_that_are_not_finite_never_reach_the_file() {
        let wild = [f64::NAN, f64::INFINITY, 1e300, -1e300, 1.0];
        let training: Vec<_> = (0..).zip(wild).map(|(s, v)| point(s, v, Some(v))).collect();
        let svg = drawn("run", &training, &[point(u64::MAX, f64::NAN, None)]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn steps_out_of_order_are_sorted() {
        let mut shuffled = line(9, None);
        shuffled.reverse();
        assert_eq!(drawn("run", &shuffled, &[]), drawn("run", &line(9, None), &[]));
    }

    #[test]
    fn a_title_cannot_break_the_document() {
        let svg = drawn("<a & \"b\">\u{1}", &[], &[]);
        assert!(svg.contains("&lt;a &amp; &quot;b&quot;&gt; </text>"));
    }

    #[test]
    fn a_long_training_gives_a_small_file() {
        assert!(drawn("run", &line(200_000, Some(0.9)), &[]).len() < 64 * 1024);
    }
}
