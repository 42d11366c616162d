//! `--entities`: one K, several, or a range of them, and the table of several.

use multi_entity_vae::evaluate::Report;
use serde::Serialize;
use std::fmt::Write;

/// Values of K, each once, in the order in which they were named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entities(Vec<usize>);

/// No grid that is evaluated so often is looked at.
const MOST: usize = 1000;

impl Entities {
    /// The values; there is at least one.
    pub fn values(&self) -> &[usize] {
        &self.0
    }
}

impl std::str::FromStr for Entities {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected a number, several as in 4,6,8, or a range as in 4..12".to_string();
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        let mut values = Vec::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once("..") {
                None => (number(part)?, number(part)?),
                Some((first, last)) => (number(first)?, number(last)?),
            };
            if first > last || last - first >= MOST || values.len() >= MOST {
                return Err(wrong());
            }
            for value in first..=last {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
        }
        Ok(Self(values))
    }
}

/// The scores with one K.
#[derive(Debug, Serialize)]
pub struct At {
    /// K.
    pub entities: usize,
    #[serde(flatten)]
    pub report: Report,
}

/// The main scores, a line for each K.
pub fn table(all: &[At]) -> String {
    type Score = (&'static str, usize, fn(&Report) -> Option<f64>);
    let scores: [Score; 9] = [
        ("−ELBO", 1, |r| r.elbo.map(|elbo| -elbo)),
        ("count acc.", 3, |r| r.count_accuracy),
        ("FG-ARI", 3, |r| r.ari_foreground),
        ("FG-AMI", 3, |r| r.ami_foreground),
        ("ARI, obj.", 3, |r| r.ari_objects),
        ("ARI, all", 3, |r| r.ari_all),
        ("mean IoU", 3, |r| r.miou),
        ("mean F1", 3, |r| r.f1),
        ("entities", 3, |r| r.entities_per_scene),
    ];
    let mut text = String::from("     K");
    for (name, ..) in scores {
        let _ = write!(text, "{name:>12}");
    }
    for At { entities, report } in all {
        let _ = write!(text, "\n{entities:>6}");
        for (_, decimals, score) in scores {
            let value = score(report).map_or("–".into(), |value| format!("{value:.decimals$}"));
            let _ = write!(text, "{value:>12}");
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lists_and_ranges_are_values_of_k() {
        let values = |text: &str| text.parse::<Entities>().map(|e| e.0);
        assert_eq!(values("6"), Ok(vec![6]));
        assert_eq!(values("8,4"), Ok(vec![8, 4]));
        assert_eq!(values("4..7"), Ok(vec![4, 5, 6, 7]));
        assert_eq!(values("1..3, 2,9"), Ok(vec![1, 2, 3, 9]));
        for wrong in ["", "x", "4..", "7..4", "1,,2", "-1", "0..100000", "4...7"] {
            assert!(values(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_k() {
        let report = Report { elbo: Some(-123.45), miou: Some(0.5), ..Report::default() };
        let text = table(&[At { entities: 4, report: report.clone() }, At { entities: 12, report }]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() == 6 + 9 * 12), "{text}");
        assert!(lines[2].starts_with("    12       123.5           –"), "{text}");
    }
}
