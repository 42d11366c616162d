//! All runs of a sweep in one table: as Markdown, CSV and JSON, with means over the seeds and the failures.

use super::grid::Cell;
use anyhow::Context;
use multi_entity_vae::config::Config;
use multi_entity_vae::evaluate::Report;
use multi_entity_vae::files::write_bytes_atomic;
use multi_entity_vae::run::{Checkpoint, RunFolder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::path::Path;

/// What became of a run.
#[derive(Clone, Debug)]
pub enum State {
    /// Not yet.
    Missing,
    /// Why there are no scores.
    Failed(String),
    /// Trained and evaluated.
    Done {
        report: Box<Report>,
        /// Of training.
        seconds: f64,
    },
}

impl State {
    /// Of a finished run.
    pub fn of(folder: &RunFolder) -> anyhow::Result<Self> {
        let report = serde_json::from_str(&folder.scores_text()?)
            .with_context(|| format!("{} holds no scores", folder.scores().display()))?;
        Ok(Self::Done { report, seconds: Checkpoint::load(&folder.last())?.progress.seconds })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Failed(_) => "failed",
            Self::Done { .. } => "done",
        }
    }

    /// Every score by its key.
    fn scores(&self) -> Vec<Option<f64>> {
        match self {
            Self::Done { report, seconds } => SCORES.iter().map(|score| (score.of)(report, *seconds)).collect(),
            _ => vec![None; SCORES.len()],
        }
    }
}

/// Words for one line.
impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => out.write_str("missing"),
            Self::Failed(why) => write!(out, "failed: {why}"),
            Self::Done { report, seconds } => {
                let mut part = |name: &str, value: Option<f64>, decimals: usize| match value {
                    Some(value) => write!(out, "{name} {value:.decimals$}, "),
                    None => Ok(()),
                };
                part("−ELBO", report.elbo.map(|elbo| -elbo), 1)?;
                part("count accuracy", report.count_accuracy, 3)?;
                part("foreground ARI", report.ari_foreground, 3)?;
                write!(out, "{seconds:.0} s")
            }
        }
    }
}

/// A column of the tables.
struct Score {
    key: &'static str,
    heading: &'static str,
    decimals: usize,
    of: fn(&Report, f64) -> Option<f64>,
}

const SCORES: [Score; 12] = [
    Score { key: "negative_elbo", heading: "−ELBO", decimals: 1, of: |r, _| r.elbo.map(|elbo| -elbo) },
    Score { key: "reconstruction_nats", heading: "−log p", decimals: 1, of: |r, _| r.reconstruction_nats },
    Score { key: "kl_nats", heading: "KL", decimals: 2, of: |r, _| r.kl_nats },
    Score { key: "count_accuracy", heading: "count accuracy", decimals: 3, of: |r, _| r.count_accuracy },
    Score { key: "ari_foreground", heading: "foreground ARI", decimals: 3, of: |r, _| r.ari_foreground },
    Score { key: "ari_objects", heading: "ARI, objects", decimals: 3, of: |r, _| r.ari_objects },
    Score { key: "miou", heading: "mean IoU", decimals: 3, of: |r, _| r.miou },
    Score { key: "errors_per_scene", heading: "errors a scene", decimals: 3, of: |r, _| errors_per_scene(r) },
    Score { key: "mse", heading: "squared error", decimals: 5, of: |r, _| r.mse },
    Score { key: "kl_centre_auc", heading: "KL, centres", decimals: 3, of: |r, _| r.kl_centre_auc },
    Score {
        key: "kl_brightness_correlation",
        heading: "KL, brightness",
        decimals: 3,
        of: |r, _| r.kl_brightness_correlation,
    },
    Score { key: "seconds", heading: "seconds", decimals: 0, of: |_, seconds| Some(seconds) },
];

fn errors_per_scene(report: &Report) -> Option<f64> {
    report.errors.map(|errors| errors.kinds.total() as f64 / errors.scenes as f64)
}

/// Mean and standard deviation (n − 1) of what there is; the deviation only of two values or more.
fn statistics(values: impl Iterator<Item = Option<f64>>) -> Option<(f64, Option<f64>)> {
    let values: Vec<f64> = values.flatten().collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    (n > 0.0).then_some((mean, (n > 1.0).then_some(deviation)))
}

/// A cell's configuration but for its seed.
fn without_seed(cell: &Cell) -> Config {
    let mut config = cell.config.clone();
    config.training.seed = 0;
    config
}

/// Cells beside what became of them.
pub struct Summary<'a> {
    rows: Vec<(&'a Cell, &'a State)>,
}

impl<'a> Summary<'a> {
    pub fn new(cells: &'a [Cell], states: &'a [State]) -> Self {
        Self { rows: cells.iter().zip(states).collect() }
    }

    /// `summary.md`, `.csv` and `.json` in a folder.
    pub fn write(&self, out: &Path) -> anyhow::Result<()> {
        let mut json = serde_json::to_string_pretty(&self.json())?;
        json.push('\n');
        for (name, text) in [("summary.md", self.markdown()), ("summary.csv", self.csv()), ("summary.json", json)] {
            write_bytes_atomic(&out.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// Runs that differ in their seeds alone, in the order of the first of each.
    fn groups(&self) -> Vec<Vec<(&'a Cell, &'a State)>> {
        let mut groups: Vec<Vec<(&Cell, &State)>> = Vec::new();
        for &(cell, state) in &self.rows {
            // Not by their names alone: two grids of a file may call different keys by the same short one.
            let like = |other: &Cell| other.axes == cell.axes && without_seed(other) == without_seed(cell);
            match groups.iter_mut().find(|group| like(group[0].0)) {
                Some(group) => group.push((cell, state)),
                None => groups.push(vec![(cell, state)]),
            }
        }
        groups
    }

    /// The axes that any cell has, each once.
    fn axes(&self) -> Vec<&'a str> {
        let mut axes: Vec<&str> = Vec::new();
        for (axis, _) in self.rows.iter().flat_map(|(cell, _)| &cell.axes) {
            if !axes.contains(&axis.as_str()) {
                axes.push(axis);
            }
        }
        axes
    }

    fn markdown(&self) -> String {
        // Cells that are another's run under another name are no runs of their own.
        let runs = || self.rows.iter().filter(|(cell, _)| cell.name == cell.folder);
        let count = |name| runs().filter(|(_, state)| state.name() == name).count();
        let (done, failed, missing) = (count("done"), count("failed"), count("missing"));
        let mut text = format!(
            "# Sweep\n\n{} runs: {done} done, {failed} failed, {missing} missing. Mean ± standard deviation over the seeds that are done.\n\n",
            runs().count()
        );
        let axes = self.axes();
        let headings = axes.iter().copied().chain(["seeds"]).chain(SCORES.iter().map(|score| score.heading));
        let headings: Vec<&str> = headings.collect();
        let _ = writeln!(text, "| {} |\n|{}", headings.join(" | "), "---|".repeat(headings.len()));
        for group in self.groups() {
            let done = group.iter().filter(|(_, state)| state.name() == "done").count();
            let mut line: Vec<String> =
                axes.iter().map(|axis| value_of(group[0].0, axis).replace('|', "\\|")).collect();
            line.push(if done == group.len() { done.to_string() } else { format!("{done} of {}", group.len()) });
            for (i, Score { decimals, .. }) in SCORES.iter().enumerate() {
                line.push(match statistics(group.iter().map(|(_, state)| state.scores()[i])) {
                    None => "–".into(),
                    Some((mean, None)) => format!("{mean:.decimals$}"),
                    Some((mean, Some(deviation))) => format!("{mean:.decimals$} ± {deviation:.decimals$}"),
                });
            }
            let _ = writeln!(text, "| {} |", line.join(" | "));
        }
        if failed > 0 {
            text += "\n## Failures\n\n";
        }
        for (cell, state) in &self.rows {
            if let State::Failed(why) = state {
                let _ = writeln!(text, "- `{}`: {}", cell.name, why.replace('\n', " "));
            }
        }
        text
    }

    fn csv(&self) -> String {
        let axes = self.axes();
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        let headings = ["run"].into_iter().chain(axes.iter().copied()).chain(["seed", "state"]);
        let headings = headings.chain(SCORES.iter().map(|score| score.key)).map(quoted);
        let mut text = headings.collect::<Vec<_>>().join(",") + "\n";
        for (cell, state) in &self.rows {
            let mut line = vec![quoted(&cell.name)];
            line.extend(axes.iter().map(|axis| quoted(value_of(cell, axis))));
            line.extend([cell.config.training.seed.to_string(), quoted(state.name())]);
            line.extend(state.scores().into_iter().map(|score| score.map_or(String::new(), |v| v.to_string())));
            text += &(line.join(",") + "\n");
        }
        text
    }

    fn json(&self) -> Value {
        let axes = |cell: &Cell| cell.axes.iter().cloned().collect::<BTreeMap<String, String>>();
        let run = |(cell, state): &(&Cell, &State)| {
            let (scores, seconds, error) = match state {
                State::Missing => (Value::Null, None, None),
                State::Failed(why) => (Value::Null, None, Some(why)),
                State::Done { report, seconds } => (json!(report), Some(*seconds), None),
            };
            json!({
                "run": cell.name, "axes": axes(cell), "seed": cell.config.training.seed, "state": state.name(),
                "error": error, "seconds": seconds, "scores": scores,
            })
        };
        let group = |group: &Vec<(&Cell, &State)>| {
            let scores = SCORES.iter().enumerate().map(|(i, score)| {
                let found = statistics(group.iter().map(|(_, state)| state.scores()[i]));
                (score.key, found.map(|(mean, deviation)| json!({ "mean": mean, "sd": deviation })))
            });
            let done = group.iter().filter(|(_, state)| state.name() == "done").count();
            json!({
                "axes": axes(group[0].0), "runs": group.len(), "done": done,
                "scores": scores.collect::<BTreeMap<_, _>>(),
            })
        };
        json!({
            "runs": self.rows.iter().map(run).collect::<Vec<_>>(),
            "groups": self.groups().iter().map(group).collect::<Vec<_>>(),
        })
    }
}

/// What a cell has on an axis; nothing where its grid has no such axis.
fn value_of<'a>(cell: &'a Cell, axis: &str) -> &'a str {
    cell.axes.iter().find(|(name, _)| name == axis).map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::super::grid::cells;
    use super::*;

    fn done(count_accuracy: f64) -> State {
        let report = Report { count_accuracy: Some(count_accuracy), ..Report::default() };
        State::Done { report: Box::new(report), seconds: 60.0 }
    }

    #[test]
    fn means_and_deviations_are_over_the_seeds_and_failures_are_listed() {
        let text = "[[grid]]\nseed = [0, 1, 2]\n\"model.latent.beta\" = [1.0, 2.0]";
        let cells = cells("grid.toml", text).unwrap();
        let failed = State::Failed("the loss is\nNaN".into());
        let states = [done(0.5), done(0.75), done(1.0), done(0.9), failed, State::Missing];
        let summary = Summary::new(&cells, &states);

        let page = summary.markdown();
        assert!(page.contains("6 runs: 4 done, 1 failed, 1 missing"), "{page}");
        let row = |beta: &str| page.lines().find(|line| line.starts_with(&format!("| {beta} |"))).unwrap().to_string();
        assert!(row("1.0").starts_with("| 1.0 | 3 | – | – | – | 0.750 ± 0.250 | – |"), "{page}");
        assert!(row("2.0").starts_with("| 2.0 | 1 of 3 | – | – | – | 0.900 | – |"), "{page}");
        assert!(page.ends_with("## Failures\n\n- `beta=2.0,seed=1`: the loss is NaN\n"), "{page}");

        let csv = summary.csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 7);
        assert!(
            lines[0].starts_with(
                "\"run\",\"beta\",\"seed\",\"state\",\"negative_elbo\",\"reconstruction_nats\",\"kl_nats\",\"count_accuracy\""
            ),
            "{csv}"
        );
        assert!(lines[1].starts_with("\"beta=1.0,seed=0\",\"1.0\",0,\"done\",,,,0.5,"), "{csv}");
        assert!(lines[5].starts_with("\"beta=2.0,seed=1\",\"2.0\",1,\"failed\",,,"), "{csv}");

        let json = summary.json();
        assert_eq!(json["groups"][0]["scores"]["count_accuracy"], json!({ "mean": 0.75, "sd": 0.25 }));
        assert_eq!(json["groups"][1]["scores"]["count_accuracy"], json!({ "mean": 0.9, "sd": null }));
        assert_eq!(json["runs"][4]["error"], "the loss is\nNaN");
        assert_eq!(json["runs"][0]["scores"]["count_accuracy"], 0.5);
    }

    #[test]
    fn grids_of_other_axes_share_a_table() {
        let text = "[[grid]]\nentities = [3]\n[[grid]]\nscenes = [\"air\"]";
        let cells = cells("grid.toml", text).unwrap();
        let page = Summary::new(&cells, &[done(1.0), State::Missing]).markdown();
        assert!(page.contains("| entities | scenes | seeds |"), "{page}");
        assert!(page.contains("| 3 |  | 1 |") && page.contains("|  | air | 0 of 1 |"), "{page}");
    }
}
