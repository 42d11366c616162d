//! What is fuzzed: each body hands bytes to one reader, and looks at what it made of them. An error is a fine answer; a panic, a
//! hang or memory out of proportion is not. The fuzz targets and the ordinary tests (`tests/inputs.rs`) run the same bodies.

#![allow(dead_code, reason = "each fuzz target uses one of them")]

use candle_core::Device;
use multi_entity_vae::config::{Config, Preset};
use multi_entity_vae::evaluate::Report;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::picture::curves::{curves, points_of_metrics};
use multi_entity_vae::picture::{Density, Shape, input};
use multi_entity_vae::run::{Checkpoint, LoadedRun};
use multi_entity_vae::scene::{Archive, DIGIT_SIDE, idx};
use multi_entity_vae::train::log::{EventLog, MetricsLog};
use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Seek, Write};
use std::path::Path;
use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A reader's name and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every reader.
pub const TARGETS: [Target; 10] = [
    ("idx", idx),
    ("npz", npz),
    ("npy", npy),
    ("checkpoint", checkpoint),
    ("config", config),
    ("settings", settings),
    ("picture", picture),
    ("metrics", metrics),
    ("events", events),
    ("report", report),
];

/// IDX files, gzipped or not, as images and as labels.
pub fn idx(data: &[u8]) {
    for item_size in [&[DIGIT_SIDE; 2][..], &[2, 3], &[]] {
        if let Ok(items) = idx::read(data, item_size) {
            assert!(items.len().is_multiple_of(item_size.iter().product()) && !items.is_empty());
        }
    }
}

/// Scene archives: the zip file.
pub fn npz(data: &[u8]) {
    look_at(Archive::read_from(Cursor::new(data)).ok());
}

/// Scene archives: the arrays, in a zip file whose sums are right. Two bytes before each give its length.
pub fn npy(data: &[u8]) {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut rest = data;
    for name in ["images", "masks", "counts", "labels", "boxes"] {
        let Some((length, after)) = rest.split_first_chunk() else { break };
        let (member, after) = after.split_at(after.len().min(usize::from(u16::from_le_bytes(*length))));
        rest = after;
        // A member of nothing is one that is not there.
        if !member.is_empty() {
            zip.start_file(format!("{name}.npy"), options).expect("a name of five letters");
            zip.write_all(member).expect("memory takes everything");
        }
    }
    let archive = zip.finish().expect("memory takes everything").into_inner();
    look_at(Archive::read_from(Cursor::new(archive)).ok());
}

fn look_at(archive: Option<Archive>) {
    let Some(archive) = archive else { return };
    for index in 0..archive.len() {
        let scene = archive.scene(index).expect("an archive has the scenes that it counts");
        assert_eq!(scene.image.len(), archive.shape().values());
        let count = scene.count.map(usize::from);
        assert!(count <= archive.max_objects());
        assert!(scene.labels.is_none_or(|labels| count == Some(labels.len())));
        assert!(scene.boxes.is_none_or(|boxes| count == Some(boxes.len())));
        assert!(scene.masks.is_none_or(|masks| masks.len() == archive.shape().pixels()));
    }
    assert!(archive.scene(archive.len()).is_none());
}

/// Checkpoints, and the models that they are made into.
pub fn checkpoint(data: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::from_bytes(Path::new("fuzzed.safetensors"), data) {
        let _ = LoadedRun::from_checkpoint(&checkpoint, &Device::Cpu);
    }
}

/// Configuration files: saved ones, and those that go over a preset.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(config) = Config::from_toml("fuzzed.toml", text) {
        validate(&config);
    }
    if let Ok(config) = Config::resolve(Preset::MultiEntity, Some(("fuzzed.toml", text)), &[]) {
        validate(&config);
    }
}

/// `--set`, a setting a line.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let settings: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(config) = Config::resolve(Preset::MultiEntity, None, &settings) {
        validate(&config);
    }
}

/// A valid configuration can be saved and is read back as itself.
fn validate(config: &Config) {
    for image in [Extent::new(64, 64, 1), Extent::new(5, 31, 3), Extent::new(0, usize::MAX, 1)] {
        if config.validate(image).is_ok() {
            let saved = Config::from_toml("its own", &config.to_toml());
            assert_eq!(saved.ok().as_ref(), Some(config), "{}", config.to_toml());
        }
    }
}

/// Pictures to be taken apart. The first byte chooses whether the name is that of a TGA, which has no signature.
pub fn picture(data: &[u8]) {
    let Some((first, content)) = data.split_first() else { return };
    let name = if first % 2 == 0 { "fuzzed" } else { "fuzzed.tga" };
    for shape in [Shape::new(28, 28, 1), Shape::new(5, 9, 3)] {
        if let Ok(fitted) = input::fitted(Path::new(name), content, shape) {
            assert_eq!(fitted.pixels.len(), shape.pixels() * shape.channels);
            assert!(fitted.pixels.iter().all(|p| (0.0..=1.0).contains(p)));
        }
    }
}

/// Metrics: their log is continued at a length (the first two bytes), and their lines are drawn.
pub fn metrics(data: &[u8]) {
    let Some((length, content)) = data.split_first_chunk() else { return };
    on_disk(content, |path| {
        let length = u64::from(u16::from_le_bytes(*length));
        if let Ok(mut log) = MetricsLog::resume_at(path, length) {
            assert_eq!(log.len(), length);
            log.append(&1).expect("an ordinary file takes a line");
        }
    });
    if let Ok((training, validation)) = points_of_metrics(content, 1.5) {
        let svg = curves("fuzzed", &training, &validation, Density::Single);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}

/// Event files: their log is continued at a length (the first two bytes).
pub fn events(data: &[u8]) {
    let Some((length, content)) = data.split_first_chunk() else { return };
    on_disk(content, |path| {
        let length = u64::from(u16::from_le_bytes(*length));
        if let Ok(mut log) = EventLog::resume_at(path, length) {
            assert!(log.len() >= length);
            log.scalar("fuzzed", 1, 0.5).expect("an ordinary file takes an event");
        }
    });
}

/// Scores of an earlier evaluation, and the table that is made of them.
pub fn report(data: &[u8]) {
    if let Ok(report) = serde_json::from_slice::<Report>(data) {
        assert!(!report.to_string().is_empty());
    }
}

/// The content as a file, which is used again: logs are files and nothing else.
fn on_disk(content: &[u8], with: impl FnOnce(&Path)) {
    thread_local! {
        static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) };
    }
    FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| NamedTempFile::new().expect("a temporary file"));
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(content)
        };
        write(file.as_file_mut()).expect("a temporary file can be written");
        with(file.path());
    });
}
