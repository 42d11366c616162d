//! A grid of configurations: what a file asks for, as cells.
//!
//! ```toml
//! preset = "multi-entity"                       # of every cell
//! [set]                                         # keys of every cell
//! "training.steps" = 2000
//!
//! [[grid]]                                      # every combination of these; several grids are run one after the other
//! seed = [0, 1, 2]
//! "model.latent.beta" = [1.0, 2.0]              # an axis: the values of a key
//! [grid.selector]                               # an axis whose values have names and any number of keys
//! top-k = { "model.selector.radius" = 0.0 }
//! brightness = { "model.selector.rank_by" = "brightness" }
//! ```
//!
//! `seed`, `scenes` and `entities` are short for `training.seed`, `data.scenes` and `model.entities`; `preset` can be an axis too.

use multi_entity_vae::config::{Config, Preset};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// No sweep has more runs.
const MOST_CELLS: usize = 10_000;
/// No name of a folder is longer.
const LONGEST_NAME: usize = 200;

/// One combination.
#[derive(Clone, Debug)]
pub struct Cell {
    /// All that it was chosen by.
    pub name: String,
    /// The folder of its run: its name, or that of the first cell of the same configuration.
    pub folder: String,
    /// Axes and their values but for the seed: what runs of several seeds have in common.
    pub axes: Vec<(String, String)>,
    /// Resolved.
    pub config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    preset: Option<String>,
    #[serde(default)]
    set: Table,
    grid: Vec<Table>,
}

/// One axis: its name, and for each value a label and the keys that it sets.
struct Axis {
    name: String,
    values: Vec<(String, Table)>,
}

/// The cells of a file's text, each once, in its order (axes by their names, the last one fastest).
pub fn cells(origin: &str, text: &str) -> Result<Vec<Cell>, String> {
    let file: File = toml::from_str(text).map_err(|e| format!("{origin}: {e}"))?;
    let mut cells: Vec<Cell> = Vec::new();
    let mut names = BTreeMap::new();
    for (number, grid) in (1..).zip(&file.grid) {
        let axes = grid.iter().map(|(name, values)| Axis::new(name, values)).collect::<Result<Vec<_>, _>>();
        let axes = axes.map_err(|reason| format!("{origin}: grid {number}: {reason}"))?;
        let count = axes.iter().fold(1usize, |count, axis| count.saturating_mul(axis.values.len()));
        if count.saturating_add(cells.len()) > MOST_CELLS {
            return Err(format!("{origin}: more than {MOST_CELLS} runs; make the grid smaller"));
        }
        for index in 0..count {
            let mut cell = file.cell(&axes, index).map_err(|reason| format!("{origin}: {reason}"))?;
            if let Some(same) = cells.iter().find(|other| other.config == cell.config) {
                cell.folder.clone_from(&same.folder);
            }
            match names.insert(cell.name.clone(), cell.config.clone()) {
                None => cells.push(cell),
                Some(other) if other == cell.config => {}
                Some(_) => {
                    return Err(format!(
                        "{origin}: two different runs are called {}; give their values names",
                        cell.name
                    ));
                }
            }
        }
    }
    if cells.is_empty() {
        return Err(format!("{origin}: no run; a [[grid]] names keys and lists of their values"));
    }
    Ok(cells)
}

impl Axis {
    fn new(name: &str, values: &Value) -> Result<Self, String> {
        let values: Vec<(String, Table)> = match values {
            Value::Array(values) => {
                let set =
                    |value: &Value| (label(value), [(key(name).to_string(), value.clone())].into_iter().collect());
                values.iter().map(set).collect()
            }
            Value::Table(named) => {
                let set = |(label, keys): (&String, &Value)| match keys {
                    Value::Table(keys) => Ok((label.clone(), keys.clone())),
                    _ => Err(format!("{name}.{label} must be a table of keys and their values")),
                };
                named.iter().map(set).collect::<Result<_, _>>()?
            }
            _ => return Err(format!("{name} must be a list of values, or a table of named ones")),
        };
        match values.is_empty() {
            true => Err(format!("{name} has no value")),
            false => Ok(Self { name: name.into(), values }),
        }
    }
}

impl File {
    /// The combination of this index, the last axis counting fastest.
    fn cell(&self, axes: &[Axis], index: usize) -> Result<Cell, String> {
        let mut rest = index;
        let mut chosen = Vec::new();
        for axis in axes.iter().rev() {
            chosen.push((axis, &axis.values[rest % axis.values.len()]));
            rest /= axis.values.len();
        }
        chosen.reverse();
        let mut preset = self.preset.clone();
        let mut settings = Vec::new();
        for (name, value) in self.set.iter().chain(chosen.iter().flat_map(|(_, (_, keys))| keys)) {
            match (key(name), value) {
                ("preset", Value::String(name)) => preset = Some(name.clone()),
                (key, value) => settings.push(format!("{key}={value}")),
            }
        }
        let preset = preset.map_or(Ok(Preset::MultiEntity), |name| name.parse())?;
        let config = Config::resolve(preset, None, &settings).map_err(|e| e.to_string())?;
        let mut labels: Vec<(String, String)> =
            chosen.iter().map(|(axis, (label, _))| (short(&axis.name, axes), label.clone())).collect();
        let name = labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect::<Vec<_>>().join(",");
        let name = if name.is_empty() { "run".into() } else { file_name(&name) };
        if name.len() > LONGEST_NAME {
            return Err(format!("{name} is too long for a folder; give its values names"));
        }
        labels.retain(|(axis, _)| axis != "seed");
        Ok(Cell { folder: name.clone(), name, axes: labels, config })
    }
}

/// The key that a short name stands for.
fn key(name: &str) -> &str {
    match name {
        "seed" => "training.seed",
        "scenes" => "data.scenes",
        "entities" => "model.entities",
        name => name,
    }
}

/// The last part of a key where no other axis ends so.
fn short(name: &str, axes: &[Axis]) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
    let own = last(name);
    match axes.iter().filter(|axis| last(&axis.name) == own).count() {
        1 => own,
        _ => name.into(),
    }
}

/// A value as it is called.
fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Letters that every file system takes.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "=,._+-".contains(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        cells("grid.toml", text).unwrap().into_iter().map(|cell| cell.name).collect()
    }

    #[test]
    fn every_combination_is_a_cell_and_every_cell_is_there_once() {
        let text = r#"
            set = { "training.steps" = 7 }
            [[grid]]
            seed = [0, 1]
            "model.latent.beta" = [1.0, 2.0]
            [[grid]]
            seed = [1, 2]
            "model.latent.beta" = [2.0]
        "#;
        let expected = ["beta=1.0,seed=0", "beta=1.0,seed=1", "beta=2.0,seed=0", "beta=2.0,seed=1", "beta=2.0,seed=2"];
        assert_eq!(names(text), expected);
        let cells = cells("grid.toml", text).unwrap();
        assert_eq!(cells[3].axes, [("beta".to_string(), "2.0".to_string())]);
        let settings = ["training.steps=7", "model.latent.beta=2.0", "training.seed=1"].map(String::from);
        assert_eq!(cells[3].config, Config::resolve(Preset::MultiEntity, None, &settings).unwrap());
    }

    #[test]
    fn named_values_set_any_number_of_keys() {
        let text = r#"
            preset = "vae"
            [[grid]]
            scenes = ["single"]
            [grid.net]
            "wide one" = { "model.encoder.hidden" = [512], "model.decoder.trunk.hidden" = [512] }
            deterministic = { preset = "autoencoder" }
        "#;
        assert_eq!(names(text), ["net=deterministic,scenes=single", "net=wide-one,scenes=single"]);
        let cells = cells("grid.toml", text).unwrap();
        let wide = ["model.encoder.hidden=[512]", "model.decoder.trunk.hidden=[512]"].map(String::from);
        assert_eq!(cells[1].config, Config::resolve(Preset::Vae, None, &wide).unwrap());
        assert_eq!(cells[0].config, Preset::Autoencoder.config());
    }

    #[test]
    fn what_every_run_has_may_be_written_as_a_configuration_is() {
        let nested = r#"
            [set.training]
            steps = 7
            learning_rate = { from = 1e-3, to = 1e-4 }
            [set.model.encoder]
            layers = [{ channels = 8, kernel = 4, stride = 4 }, { channels = 8, kernel = 3, stride = 1 }]
            [[grid]]
            seed = [3]
        "#;
        let settings = [
            "training.steps=7",
            "training.learning_rate={ from = 1e-3, to = 1e-4 }",
            "model.encoder.layers=[{ channels = 8, kernel = 4, stride = 4 }, { channels = 8, kernel = 3, stride = 1 }]",
            "training.seed=3",
        ];
        let expected = Config::resolve(Preset::MultiEntity, None, &settings.map(String::from)).unwrap();
        assert_eq!(cells("grid.toml", nested).unwrap()[0].config, expected);
    }

    #[test]
    fn the_same_configuration_by_another_name_is_the_same_run() {
        let text = "[[grid]]\n\"model.latent.beta\" = [1.0, 2.0]\n[[grid]]\nentities = [4, 5]";
        let cells = cells("grid.toml", text).unwrap();
        let folders: Vec<_> = cells.iter().map(|cell| (cell.name.as_str(), cell.folder.as_str())).collect();
        let own = |name| (name, name);
        assert_eq!(folders, [own("beta=1.0"), own("beta=2.0"), ("entities=4", "beta=1.0"), own("entities=5")]);
    }

    #[test]
    fn what_cannot_be_a_grid_is_refused() {
        for (text, phrase) in [
            ("", "grid"),
            ("grid = []", "no run"),
            ("gird = 1\n[[grid]]", "gird"),
            ("[[grid]]\nseed = 3", "seed must be a list"),
            ("[[grid]]\nseed = []", "seed has no value"),
            ("[[grid]]\n[grid.x]\na = 1", "x.a must be a table"),
            ("[[grid]]\n\"model.entites\" = [1]", "model.entities"),
            ("[[grid]]\npreset = [\"vea\"]", "vae"),
            ("[[grid]]\n\"training.steps\" = [1]\n[grid.steps]\n1 = { \"training.steps\" = 2 }", ""),
        ] {
            match cells("grid.toml", text) {
                Err(reason) => assert!(reason.contains(phrase), "{reason}"),
                Ok(cells) => assert_eq!((phrase, cells.len()), ("", 1)),
            }
        }
        let twice = "[[grid]]\nseed = [1]\n[[grid]]\nseed = [1]\n[set]\n";
        assert_eq!(names(twice).len(), 1);
        let clash = "[[grid]]\n[grid.a]\nx = { seed = 1 }\n[[grid]]\n[grid.a]\nx = { seed = 2 }";
        assert!(cells("grid.toml", clash).unwrap_err().contains("two different runs are called a=x"));
    }
}
