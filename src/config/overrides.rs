//! Layers of settings over a preset, with nothing ignored: every key that was written must be read by something.

use super::{Config, ConfigError, DataConfig};
use toml::{Table, Value};

/// Parts of the longest key there is; tables are walked by recursion, so that what is deeper is not made into any.
const MOST_PARTS: usize = 6;
/// Letters of a setting that a message repeats.
const MOST_LETTERS: usize = 100;
/// Letters of a reason, which may repeat a value.
const MOST_OF_A_REASON: usize = 1_000;

/// A configuration as a TOML tree, and what was written over it.
pub(super) struct Layers {
    base: Table,
    /// Where it was written, and what, each over the one before.
    written: Vec<(String, Table)>,
}

impl Layers {
    /// A configuration, then a TOML file's text and its name, then settings.
    pub fn new(base: &Config, file: Option<(&str, &str)>, settings: &[String]) -> Result<Self, ConfigError> {
        let mut layers = Self { base: tree(base), written: Vec::new() };
        if let Some((origin, text)) = file {
            layers.file(origin, text)?;
        }
        settings.iter().try_for_each(|setting| layers.setting(setting))?;
        Ok(layers)
    }

    fn file(&mut self, origin: &str, text: &str) -> Result<(), ConfigError> {
        let malformed = |e: toml::de::Error| ConfigError::Malformed { origin: origin.into(), reason: in_words(&e) };
        self.written.push((origin.into(), text.parse().map_err(malformed)?));
        Ok(())
    }

    /// One `key=value`; a value that is no TOML is a string, so that quotes can be left out.
    fn setting(&mut self, setting: &str) -> Result<(), ConfigError> {
        let origin = shortened(&format!("--set {setting}"), MOST_LETTERS);
        let Some((key, value)) = setting.split_once('=') else {
            return Err(ConfigError::Malformed {
                origin,
                reason: "expected key=value, as in training.batch=32".into(),
            });
        };
        if key.split('.').count() > MOST_PARTS {
            return Err(ConfigError::Malformed {
                origin,
                reason: format!("no key has more than {MOST_PARTS} parts; `mevae train --print-config` lists the keys"),
            });
        }
        if value.trim().parse::<i64>().is_err() && value.trim().parse::<i128>().is_ok() {
            let reason = format!("{} is beyond the whole numbers of TOML, at most {}", value.trim(), i64::MAX);
            return Err(ConfigError::Malformed { origin, reason });
        }
        let value = format!("v = {value}")
            .parse::<Table>()
            .ok()
            .and_then(|mut table| table.remove("v"))
            .unwrap_or_else(|| Value::String(value.trim().into()));
        let nested = key
            .trim()
            .rsplit('.')
            .fold(value, |value, part| Value::Table([(part.to_string(), value)].into_iter().collect()));
        if let Value::Table(table) = nested {
            self.written.push((origin, table));
        }
        Ok(())
    }

    /// The data that is asked for, whether or not the rest fits.
    pub fn data(&self) -> Option<DataConfig> {
        self.tree().remove("data")?.try_into().ok()
    }

    /// Everything over the base. First what each part is: another `kind` forgets the keys of the base's, and whether it was written before
    /// or after its own keys makes no difference.
    fn tree(&self) -> Table {
        let (mut tree, mut kinds) = (self.base.clone(), Table::new());
        for (_, layer) in &self.written {
            put(&mut kinds, kinds_of(layer));
        }
        turn_into(&mut tree, &kinds);
        for (_, layer) in &self.written {
            put(&mut tree, layer.clone());
        }
        put(&mut tree, kinds);
        tree
    }

    /// The configuration, if everything written fits it.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let origin = || {
            let mut origins: Vec<_> = self.written.iter().map(|(origin, _)| origin.as_str()).collect();
            origins.dedup();
            origins.join(", ")
        };
        // Unknown keys first: leaving them to the types would blame the wrong thing.
        self.check(&every_key(), |origin, key, nearest| ConfigError::UnknownKey { origin, key, nearest })?;
        let config: Config = self.tree().try_into().map_err(|e: toml::de::Error| ConfigError::Malformed {
            origin: origin(),
            reason: shortened(&in_words(&e), MOST_OF_A_REASON),
        })?;
        let mut applicable = Vec::new();
        leaves(&tree(&config), "", &mut applicable);
        self.check(&applicable, |origin, key, nearest| ConfigError::Inapplicable { origin, key, nearest })?;
        Ok(config)
    }

    /// Every written key must be one of `known`, or lie inside one (a schedule's table), or hold one (a number that a later layer
    /// made a table).
    fn check(
        &self,
        known: &[String],
        error: impl Fn(String, String, Option<String>) -> ConfigError,
    ) -> Result<(), ConfigError> {
        let keys = self.written.iter().flat_map(|(origin, layer)| {
            let mut keys = Vec::new();
            leaves(layer, "", &mut keys);
            keys.into_iter().map(move |key| (origin, key))
        });
        for (origin, key) in keys {
            let inside = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'));
            let fits = |k: &String| *k == key || inside(&key, k) || inside(k, &key);
            if !known.iter().any(fits) {
                let nearest = nearest(&key, known.iter().map(String::as_str)).map(str::to_string);
                return Err(error(origin.clone(), shortened(&key, MOST_LETTERS), nearest));
            }
        }
        Ok(())
    }
}

/// A key of a saved configuration's text that is not the configuration's.
pub(super) fn unread(text: &str, config: &Config) -> Option<String> {
    // Numbers that are too large for a tree are those of no recipe.
    let (written, tree) = (text.parse::<Table>().ok()?, Table::try_from(config).ok()?);
    let (mut keys, mut known) = (Vec::new(), Vec::new());
    leaves(&written, "", &mut keys);
    leaves(&tree, "", &mut known);
    keys.into_iter().find(|key| !known.contains(key)).map(|key| shortened(&key, MOST_LETTERS))
}

/// What the TOML reader has to say, without the names of our types.
pub(super) fn in_words(error: &toml::de::Error) -> String {
    let line = |line: &str| {
        let Some((found, expected)) = line.rsplit_once(", expected ") else { return line.to_string() };
        let expected = match expected {
            "usize" | "u64" => "a whole number, 0 or more",
            "f64" => "a number",
            "a boolean" => "true or false",
            "a sequence" => "a list",
            "a map" => "a table",
            "variant identifier" | "string only" | "string or map" => "a name in quotes",
            kind if kind.starts_with("internally tagged enum ") => "a table with a `kind`",
            table if table.starts_with("struct ") => "a table",
            other => other,
        };
        let words = [
            ("unknown variant", "unknown value"),
            ("invalid type: map", "invalid type: a table"),
            ("invalid type: sequence", "invalid type: a list"),
            ("invalid type: unit variant", "invalid type: no name"),
            ("floating point", "the number"),
        ];
        let found = words.iter().fold(found.to_string(), |found, (theirs, ours)| found.replace(theirs, ours));
        format!("{found}, expected {expected}")
    };
    error.to_string().trim_end().lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The beginning of what may be very long.
fn shortened(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The candidate most like `word`, if any is like it at all.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|c| (strsim::jaro_winkler(word, c), c));
    scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}

fn tree(config: &Config) -> Table {
    Table::try_from(config).unwrap_or_default()
}

/// The `kind`s in a table, where they stand.
fn kinds_of(table: &Table) -> Table {
    let kind = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) => {
            let kinds = kinds_of(inner);
            (!kinds.is_empty()).then(|| (key.clone(), Value::Table(kinds)))
        }
        value => (key == "kind").then(|| (key.clone(), value.clone())),
    };
    table.iter().filter_map(kind).collect()
}

/// Empties every part of another kind.
fn turn_into(tree: &mut Table, kinds: &Table) {
    if kinds.get("kind").is_some_and(|kind| tree.get("kind") != Some(kind)) {
        tree.clear();
    }
    for (key, kinds) in kinds {
        if let (Some(Value::Table(tree)), Value::Table(kinds)) = (tree.get_mut(key), kinds) {
            turn_into(tree, kinds);
        }
    }
}

/// Tables are merged key by key, but a schedule from one value to another is a new one: nothing of an older one's is left in it.
fn put(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over))
                if !(over.contains_key("from") && over.contains_key("to")) =>
            {
                put(base, over);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Dotted keys of everything that is not a table.
fn leaves(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !inner.is_empty() => leaves(inner, &key, keys),
            _ => keys.push(key),
        }
    }
}

/// The keys of every variant that there is.
fn every_key() -> Vec<String> {
    let mut keys = Vec::new();
    for preset in super::Preset::ALL {
        leaves(&tree(&preset.config()), "", &mut keys);
    }
    let variants = [
        ("model.encoder", &["layers", "posteriors", "coordinates", "hidden", "activation"][..]),
        ("model.latent", &["dimensions", "beta", "activation"]),
        ("model.decoder.placement", &["patch"]),
        ("model.decoder.trunk", &["hidden", "base", "layers", "kernel", "stride", "activation"]),
        ("model.compositor", &["features", "background", "colours"]),
        ("model.likelihood", &["deviation"]),
        ("training.objective", &["samples", "gradient_samples"]),
    ];
    for (part, names) in variants {
        keys.extend(names.iter().map(|name| format!("{part}.{name}")));
    }
    keys.sort();
    keys.dedup();
    keys
}
