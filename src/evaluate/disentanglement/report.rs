//! Codes of several models beside each other.

use super::Scores;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One code and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Whose code it is.
    pub model: String,
    /// What of the model is taken as the code.
    pub code: String,
    /// What it is worth.
    #[serde(flatten)]
    pub scores: Scores,
}

/// Codes that were examined in the same way. Displays as a table for a terminal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DisentanglementReport {
    /// Examples that they were examined on.
    pub examples: usize,
    /// Seed of the examples.
    pub seed: u64,
    /// A code each.
    pub codes: Vec<Row>,
}

impl fmt::Display for DisentanglementReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: fn(&Row) -> &str, heading: &str| {
            let lengths = self.codes.iter().map(|row| text(row).chars().count());
            lengths.chain([heading.chars().count()]).max().unwrap_or(0)
        };
        let (model, code) = (width(|row| &row.model, "model"), width(|row| &row.code, "code"));
        writeln!(out, "{} examples, seed {}; all scores from 0 to 1, higher is better\n", self.examples, self.seed)?;
        writeln!(
            out,
            "{:model$}  {:code$}  numbers  active    MIG  FactorVAE  DCI disentangled  complete  informative",
            "model", "code"
        )?;
        for Row { model: name, code: of, scores } in &self.codes {
            let Scores { dimensions, active_units, mig, factor_vae, dci } = scores;
            let mig = mig.map_or("–".into(), |mig| format!("{mig:.3}"));
            writeln!(
                out,
                "{name:model$}  {of:code$}  {dimensions:>7}  {active_units:>6}  {mig:>5}  {factor_vae:>9.3}  {:>16.3}  {:>8.3}  {:>11.3}",
                dci.disentanglement, dci.completeness, dci.informativeness
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dci;
    use super::*;

    #[test]
    fn columns_line_up() {
        let dci = Dci { disentanglement: 0.5, completeness: 0.25, informativeness: 1.0 };
        let scores = Scores { dimensions: 10, active_units: 7, mig: Some(0.125), factor_vae: 0.75, dci };
        let row = |model: &str, code: &str, mig| Row {
            model: model.into(),
            code: code.into(),
            scores: Scores { mig, ..scores },
        };
        let codes = vec![row("runs/β", "z", Some(0.125)), row("runs/entities", "z and cell", None)];
        let text = DisentanglementReport { examples: 100, seed: 3, codes }.to_string();
        let expected = "\
100 examples, seed 3; all scores from 0 to 1, higher is better

model          code        numbers  active    MIG  FactorVAE  DCI disentangled  complete  informative
runs/β         z                10       7  0.125      0.750             0.500     0.250        1.000
runs/entities  z and cell       10       7      –      0.750             0.500     0.250        1.000
";
        assert_eq!(text, expected);
    }
}
