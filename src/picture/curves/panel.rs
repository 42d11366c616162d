//! One panel of the training curves: axes, the training line, the validation
//! line with its points.

use std::fmt::{self, Write};

use super::series::{Point, thinned, typical_range};
use crate::picture::axis::Axis;

/// Outer size of a panel.
pub(super) const WIDTH: f64 = 460.0;
pub(super) const HEIGHT: f64 = 270.0;

/// The plot inside the panel.
const LEFT: f64 = 52.0;
const TOP: f64 = 36.0;
const PLOT_WIDTH: f64 = WIDTH - LEFT - 14.0;
const PLOT_HEIGHT: f64 = HEIGHT - TOP - 42.0;

/// More validation points than this would run into a band.
const MOST_DOTS: usize = 60;

/// One quantity over the steps of a training.
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) training: Vec<Point>,
    pub(super) validation: Vec<Point>,
    /// Both ends of the vertical axis, where they do not follow from the values.
    pub(super) range: Option<(f64, f64)>,
}

impl Panel {
    /// Writes the panel as an SVG group with its corner at (`x`, `y`); `id`
    /// must be the panel's own.
    pub(super) fn write(&self, svg: &mut String, id: usize, (x, y): (f64, f64)) -> fmt::Result {
        let (steps, values) = self.axes();
        writeln!(svg, r#"<g transform="translate({x} {y})">"#)?;
        write!(svg, r#"<text class="name" x="{LEFT}" y="20">{}"#, self.title)?;
        writeln!(svg, r#"<tspan class="unit" dx="8">{}</tspan></text>"#, self.unit)?;
        if let Some(&(_, last)) = self.validation.last() {
            let right = LEFT + PLOT_WIDTH;
            let last = significant(last);
            writeln!(svg, r#"<text class="last" x="{right}" y="20">last validation {last}</text>"#)?;
        }
        write_axes(svg, &steps, &values)?;
        writeln!(
            svg,
            r#"<clipPath id="plot{id}"><rect x="{LEFT}" y="{TOP}" width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}"/></clipPath>"#
        )?;
        let place = |&(step, value): &Point| {
            let across = LEFT + steps.share(step) * PLOT_WIDTH;
            let up = TOP + (1.0 - values.share(value)) * PLOT_HEIGHT;
            // Far outside the plot only the direction counts; viewers dislike huge numbers.
            (across, up.clamp(-4.0 * HEIGHT, 4.0 * HEIGHT))
        };
        let training: Vec<_> = thinned(&self.training).iter().map(place).collect();
        let validation: Vec<_> = thinned(&self.validation).iter().map(place).collect();
        writeln!(svg, r#"<g clip-path="url(#plot{id})">"#)?;
        write_line(svg, "training", &training)?;
        write_line(svg, "validation", &validation)?;
        svg.push_str("</g>\n");
        if validation.len() <= MOST_DOTS {
            let inside = |&&(_, y): &&Point| (TOP..=TOP + PLOT_HEIGHT).contains(&y);
            for (x, y) in validation.iter().filter(inside) {
                writeln!(svg, r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="3"/>"#)?;
            }
        }
        svg.push_str("</g>\n");
        Ok(())
    }

    /// The axis of the steps, and that of the values.
    fn axes(&self) -> (Axis, Axis) {
        let steps = self.training.iter().chain(&self.validation).map(|point| point.0);
        let last = steps.fold(0.0, f64::max).max(1.0);
        let ranges = [typical_range(&self.training), typical_range(&self.validation)];
        let joined = ranges.into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let (low, high) = self.range.or(joined).unwrap_or((0.0, 1.0));
        (Axis::covering(0.0, last, 5), Axis::covering(low, high, 6))
    }
}

fn write_axes(svg: &mut String, steps: &Axis, values: &Axis) -> fmt::Result {
    let (right, bottom) = (LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT);
    for &tick in &values.ticks {
        let y = bottom - values.share(tick) * PLOT_HEIGHT;
        writeln!(svg, r#"<path class="rule" d="M{LEFT} {y:.1}H{right}"/>"#)?;
        let label = values.label(tick);
        let (x, y) = (LEFT - 8.0, y + 4.0);
        writeln!(svg, r#"<text class="tick up" x="{x}" y="{y:.1}">{label}</text>"#)?;
    }
    writeln!(svg, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#)?;
    for &tick in &steps.ticks {
        let x = LEFT + steps.share(tick) * PLOT_WIDTH;
        writeln!(svg, r#"<path class="axis" d="M{x:.1} {bottom}v4"/>"#)?;
        let (y, label) = (bottom + 18.0, steps.label(tick));
        writeln!(svg, r#"<text class="tick across" x="{x:.1}" y="{y}">{label}</text>"#)?;
    }
    let (x, y) = (LEFT + PLOT_WIDTH / 2.0, bottom + 34.0);
    writeln!(svg, r#"<text class="tick across" x="{x}" y="{y}">step</text>"#)
}

fn write_line(svg: &mut String, class: &str, points: &[Point]) -> fmt::Result {
    if points.len() < 2 {
        return Ok(());
    }
    write!(svg, r#"<polyline class="{class}" points=""#)?;
    for (x, y) in points {
        write!(svg, "{x:.1},{y:.1} ")?;
    }
    svg.push_str("\"/>\n");
    Ok(())
}

/// A value with the digits one reads it by.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        size if size < 10.0 => 2,
        size if size < 1000.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}").replace('-', "−")
}
