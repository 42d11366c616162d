//! Marks → SVG.

use std::fmt::{self, Write};

use image::Rgb;

use super::{Anchor, Drawing, Mark, Words};
use crate::picture::Density;

/// From the top of a line of text to its base.
const BASE: f64 = 12.5;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,'Segoe UI','Noto Sans','DejaVu Sans',Helvetica,Arial,sans-serif;font-size:13px}
.bold{font-weight:600}
.halo{stroke:#fff;stroke-width:4px;stroke-linejoin:round}
path,polyline{fill:none;stroke-linejoin:round;stroke-linecap:round}
";

impl Drawing {
    /// The drawing as an SVG document, on a white page of its own, shown at this density unless its reader scales it.
    pub fn svg(&self, density: Density) -> String {
        let mut svg = String::new();
        self.write(&mut svg, density).expect("writing to a string does not fail");
        svg
    }

    fn write(&self, svg: &mut String, density: Density) -> fmt::Result {
        let (width, height, label) = (self.width, self.height, escaped(&self.label));
        let (shown_width, shown_height) = (width * density.factor(), height * density.factor());
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{shown_width}" height="{shown_height}" role="img" aria-label="{label}">"#
        )?;
        writeln!(svg, "<style>\n{STYLE}</style>")?;
        writeln!(svg, r##"<rect width="{width}" height="{height}" rx="8" fill="#fff"/>"##)?;
        self.marks.iter().try_for_each(|mark| write_mark(svg, mark))?;
        svg.push_str("</svg>\n");
        Ok(())
    }
}

fn write_mark(svg: &mut String, mark: &Mark) -> fmt::Result {
    match mark {
        Mark::Box { corner: (x, y), size: (width, height), colour } => {
            let colour = hex(*colour);
            writeln!(svg, r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" fill="{colour}"/>"#)
        }
        Mark::Line { points, width, colour } => {
            write!(svg, r#"<polyline stroke="{}" stroke-width="{width}" points=""#, hex(*colour))?;
            points.iter().try_for_each(|(x, y)| write!(svg, "{x:.1},{y:.1} "))?;
            svg.push_str("\"/>\n");
            Ok(())
        }
        // A line of no length with round ends is a disc: a tenth of what a circle of its own takes.
        Mark::Dots { points, radius, colour, opacity } => {
            let (colour, width) = (hex(*colour), 2.0 * radius);
            write!(svg, r#"<path stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}" d=""#)?;
            points.iter().try_for_each(|(x, y)| write!(svg, "M{x:.1} {y:.1}h0"))?;
            svg.push_str("\"/>\n");
            Ok(())
        }
        Mark::Words(words) => write_words(svg, words),
    }
}

fn write_words(svg: &mut String, words: &Words) -> fmt::Result {
    let Words { text, at: (x, top), anchor, colour, bold, halo } = words;
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let (fill, y, text) = (hex(*colour), top + BASE, escaped(text));
    let mut line = |class: &[&str]| {
        let class = if class.is_empty() { String::new() } else { format!(r#" class="{}""#, class.join(" ")) };
        writeln!(svg, r#"<text{class} x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{fill}">{text}</text>"#)
    };
    let weight: &[&str] = if *bold { &["bold"] } else { &[] };
    if *halo {
        // Under the letters, as an element of its own: not every viewer knows `paint-order`.
        line(&[weight, &["halo"]].concat())?;
    }
    line(weight)
}

fn hex(Rgb([red, green, blue]): Rgb<u8>) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// `text` as it may stand in XML text and in quoted attributes.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no way to hold control characters.
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::palette;

    #[test]
    fn every_mark_becomes_an_element_and_text_is_escaped() {
        let (mut drawing, top) = Drawing::titled("a < b", 300.0);
        drawing.add(Mark::Line { points: vec![(0.0, 0.0), (9.0, 9.0)], width: 1.0, colour: palette::DATA });
        drawing.add(Mark::Dots { points: vec![(1.0, 2.0); 3], radius: 2.0, colour: palette::DATA, opacity: 0.5 });
        drawing.add(Mark::Box { corner: (1.0, 1.0), size: (2.0, 3.0), colour: palette::ACCENT });
        let drawing = drawing.finished("1 & 2", top);
        let svg = drawing.svg(Density::Single);
        for part in ["a &lt; b</text>", "1 &amp; 2</text>", "points=\"0.0,0.0 9.0,9.0 \"", "fill=\"#d55e00\""] {
            assert!(svg.contains(part), "{part}\n{svg}");
        }
        assert_eq!(svg.matches("h0").count(), 3);
        assert!(drawing.svg(Density::Double).contains("width=\"600\""));
    }
}
