//! Whether two runs came to the same end.

use super::{Checkpoint, CheckpointError, RunFolder};
use crate::config::TrainingConfig;
use crate::files::FileError;
use candle_core::Tensor;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One thing that two runs were compared in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aspect {
    /// What was compared.
    pub name: &'static str,
    /// How it compares.
    pub verdict: Verdict,
}

/// How two runs compare in one aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Equal to the last bit: how much was compared.
    Same(String),
    /// The first difference.
    Different(String),
    /// Why it cannot be compared.
    Incomparable(String),
}

impl fmt::Display for Aspect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, detail) = match &self.verdict {
            Verdict::Same(detail) => ("same", detail),
            Verdict::Different(detail) => ("DIFFERENT", detail),
            Verdict::Incomparable(detail) => ("not compared", detail),
        };
        write!(out, "{:<22} {verdict:<13} {detail}", self.name)
    }
}

/// Why two runs cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ComparisonError {
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of either.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that is not what it should be.
    #[error("{file}: {cause}; is it of another program?")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// Compares a finished run with one that was trained from the same configuration: weights and optimiser bit for bit, rows of
/// metrics but for the clock, and scores.
pub fn compare(original: &RunFolder, again: &RunFolder) -> Result<Vec<Aspect>, ComparisonError> {
    let (a, b) = (Checkpoint::load(&original.last())?, Checkpoint::load(&again.last())?);
    let aspect = |name, verdict| Aspect { name, verdict };
    let training = &a.config.training;
    let best_step = a.progress.best.map(|(_, step)| step);
    Ok(vec![
        aspect("weights", tensors(&a.weights, &b.weights).map_err(|e| malformed(&original.last(), e))?),
        aspect("optimiser", tensors(&a.optimiser, &b.optimiser).map_err(|e| malformed(&original.last(), e))?),
        aspect("metrics, steps", rows(original, again, |row| row["kind"] == "step")?),
        aspect(
            "metrics, validations",
            rows(original, again, |row| row["kind"] == "validation" && is_regular(row, training))?,
        ),
        aspect(
            "evaluation",
            match best_step.is_none_or(|step| regular_step(step, training)) {
                true => evaluations(original, again)?,
                false => Verdict::Incomparable(
                    "the best weights are of a validation that was made only because --seconds ended a sitting there"
                        .into(),
                ),
            },
        ),
    ])
}

/// Whether an uninterrupted run validates after this step.
fn regular_step(step: u64, training: &TrainingConfig) -> bool {
    step.is_multiple_of(training.validate_every) || step == training.steps
}

fn is_regular(row: &Value, training: &TrainingConfig) -> bool {
    row["step"].as_u64().is_some_and(|step| regular_step(step, training))
}

fn tensors(a: &HashMap<String, Tensor>, b: &HashMap<String, Tensor>) -> candle_core::Result<Verdict> {
    let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
    names.sort();
    names.dedup();
    let (mut numbers, mut different, mut largest) = (0, Vec::new(), 0f32);
    for name in &names {
        let (Some(a), Some(b)) = (a.get(*name), b.get(*name)) else {
            return Ok(Verdict::Different(format!("only one has {name}")));
        };
        if a.dims() != b.dims() {
            return Ok(Verdict::Different(format!("{name} has shape {:?} and {:?}", a.dims(), b.dims())));
        }
        let (a, b) = (a.flatten_all()?.to_vec1::<f32>()?, b.flatten_all()?.to_vec1::<f32>()?);
        numbers += a.len();
        if a.iter().zip(&b).any(|(a, b)| a.to_bits() != b.to_bits()) {
            different.push(name.as_str());
            largest = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(largest, f32::max);
        }
    }
    Ok(match different.first() {
        None => Verdict::Same(format!("{numbers} numbers in {} tensors", names.len())),
        Some(first) => Verdict::Different(format!(
            "{} of {} tensors, {first} first; by {largest:e} at most",
            different.len(),
            names.len()
        )),
    })
}

/// Rows of metrics one by one, so that logs of any length fit.
fn rows(a: &RunFolder, b: &RunFolder, wanted: impl Fn(&Value) -> bool) -> Result<Verdict, ComparisonError> {
    let wanted = |row: &Result<Value, _>| row.as_ref().map_or(true, &wanted);
    let (mut a, mut b) = (metrics(a)?.filter(wanted), metrics(b)?.filter(wanted));
    let mut count = 0;
    loop {
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok(Verdict::Same(format!("{count} rows"))),
            (Some(a), Some(b)) if a == b => count += 1,
            (Some(a), Some(b)) => {
                return Ok(Verdict::Different(format!("at step {}: {}", a["step"], first_difference(&a, &b))));
            }
            _ => return Ok(Verdict::Different(format!("one has only {count} rows"))),
        }
    }
}

/// The rows without the clock.
fn metrics(run: &RunFolder) -> Result<impl Iterator<Item = Result<Value, ComparisonError>> + use<>, ComparisonError> {
    let path = run.metrics();
    let file = File::open(&path).map_err(FileError::refused("read", &path))?;
    Ok(BufReader::new(file).lines().map(move |line| {
        let line = line.map_err(FileError::refused("read", &path))?;
        let mut row: Value = serde_json::from_str(&line).map_err(|e| malformed(&path, e))?;
        if let Some(row) = row.as_object_mut() {
            row.remove("seconds");
        }
        Ok(row)
    }))
}

fn evaluations(a: &RunFolder, b: &RunFolder) -> Result<Verdict, ComparisonError> {
    let read = |run: &RunFolder| -> Result<Value, ComparisonError> {
        serde_json::from_str(&run.scores_text()?).map_err(|e| malformed(&run.scores(), e))
    };
    if !a.scores().exists() {
        return Ok(Verdict::Incomparable("the run has no evaluation.json; `mevae train --resume` makes it".into()));
    }
    let (a, b) = (read(a)?, read(b)?);
    Ok(match a == b {
        true => Verdict::Same(format!("{} scores", a.as_object().map_or(0, |scores| scores.len()))),
        false => Verdict::Different(first_difference(&a, &b)),
    })
}

/// The first key in which two objects differ, with both values.
fn first_difference(a: &Value, b: &Value) -> String {
    let keys = a.as_object().into_iter().chain(b.as_object()).flat_map(|object| object.keys());
    let different = keys.into_iter().find(|key| a[*key] != b[*key]);
    different.map_or_else(|| "the rows".into(), |key| format!("{key} is {} and {}", a[key], b[key]))
}

fn malformed(file: &Path, cause: impl fmt::Display) -> ComparisonError {
    ComparisonError::Malformed { file: file.display().to_string(), cause: cause.to_string() }
}
