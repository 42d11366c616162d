//! What a run has left, without the clock.

use crate::cli::tensors;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Every file of a run's folder, reduced to what must be the same whenever and in how many sittings it was trained.
pub struct Ending(BTreeMap<String, Content>);

#[derive(PartialEq)]
enum Content {
    Bytes(Vec<u8>),
    /// Lines of JSON.
    Rows(Vec<Value>),
    /// Tensors, and the metadata.
    Checkpoint(BTreeMap<String, (String, Vec<usize>, Vec<u8>)>, BTreeMap<String, String>),
    /// TensorBoard's events.
    Events(Vec<Vec<u8>>),
}

impl Ending {
    pub fn of(run: &Path) -> Self {
        let mut files = BTreeMap::new();
        for folder in [run.to_path_buf(), run.join("checkpoints")] {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap();
                if path.is_file() && name != ".lock" {
                    let name = if name.starts_with("events.") { "events" } else { name };
                    let twice = files.insert(name.to_string(), Content::of(&path));
                    assert!(twice.is_none(), "two files of {name}");
                }
            }
        }
        Self(files)
    }

    #[track_caller]
    pub fn assert_same(&self, other: &Self, what: &str) {
        assert!(self.0.keys().eq(other.0.keys()), "{what}: {:?}\n{:?}", self.0.keys(), other.0.keys());
        for (name, content) in &self.0 {
            content.assert_same(&other.0[name], &format!("{what}: {name}"));
        }
    }

    /// The same but for the checkpoints that are kept, of which other sittings leave others.
    #[track_caller]
    pub fn assert_same_but_kept(&self, other: &Self, what: &str) {
        let without = |ending: &Self| -> Vec<String> {
            ending.0.keys().filter(|name| !name.starts_with("step-")).cloned().collect()
        };
        assert_eq!(without(self), without(other), "{what}");
        for name in without(self) {
            self.0[&name].assert_same(&other.0[&name], &format!("{what}: {name}"));
        }
    }

    /// The same weights, optimiser and rows of steps.
    #[track_caller]
    pub fn assert_same_weights(&self, other: &Self, what: &str) {
        let steps = |ending: &Self| match &ending.0["metrics.jsonl"] {
            Content::Rows(rows) => rows.iter().filter(|row| row["kind"] == "step").cloned().collect::<Vec<_>>(),
            _ => panic!("{what}: no rows"),
        };
        assert_eq!(steps(self), steps(other), "{what}");
        match (&self.0["last.safetensors"], &other.0["last.safetensors"]) {
            (Content::Checkpoint(a, _), Content::Checkpoint(b, _)) => assert!(a == b, "{what}"),
            _ => panic!("{what}: no checkpoints"),
        }
    }
}

impl Content {
    fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        match path.file_name().unwrap().to_str().unwrap() {
            "metrics.jsonl" => Self::Rows(rows(&bytes)),
            name if name.starts_with("events.") => Self::Events(events(&bytes)),
            name if name.ends_with(".safetensors") => Self::Checkpoint(tensors(&bytes), metadata(&bytes)),
            _ => Self::Bytes(bytes),
        }
    }

    #[track_caller]
    fn assert_same(&self, other: &Self, what: &str) {
        match (self, other) {
            // What differs can be told.
            (Self::Rows(a), Self::Rows(b)) => assert_eq!(a, b, "{what}"),
            (Self::Checkpoint(a, about_a), Self::Checkpoint(b, about_b)) => {
                assert_eq!(about_a, about_b, "{what}");
                assert!(a == b, "{what}: the tensors differ");
            }
            (Self::Events(a), Self::Events(b)) => {
                assert_eq!(a.len(), b.len(), "{what}: the number of events");
                assert!(a == b, "{what}");
            }
            (a, b) => assert!(a == b, "{what} differs"),
        }
    }
}

fn rows(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "a row is cut off");
    let mut rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.iter_mut().for_each(|row| assert!(row.as_object_mut().unwrap().remove("seconds").is_some()));
    rows
}

/// Without the seconds, and without what they lengthen.
fn metadata(bytes: &[u8]) -> BTreeMap<String, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut metadata: BTreeMap<_, _> = header.metadata().clone().unwrap().into_iter().collect();
    let mut progress: Value = serde_json::from_str(&metadata["progress"]).unwrap();
    for entry in ["seconds", "metrics_bytes", "events_file"] {
        assert!(progress.as_object_mut().unwrap().remove(entry).is_some());
    }
    metadata.insert("progress".into(), progress.to_string());
    assert!(metadata.remove("checksum").is_some());
    metadata
}

/// The records of a TFRecord file, each without the time that an event starts with.
fn events(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut records) = (bytes, Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let record = &rest[12..12 + length];
        // Field 1 of the event, a double.
        assert_eq!(record[0], 0x09);
        records.push(record[9..].to_vec());
        rest = &rest[16 + length..];
    }
    records
}
