//! Every command through the real program, tiny: what it writes and says, and how it refuses.

mod decompose;
mod evaluate;
mod generate;
mod help;
mod info;
mod interrupts;
mod plots;
mod quality;
mod refusals;
mod scenes;
mod sweep;
mod train;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use image::{GrayImage, Luma, Rgb, RgbImage};
use multi_entity_vae::config::Preset;
use multi_entity_vae::scene::{Archive, DigitSet, Recipe, Scene, SceneSource, Split};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

const PRESETS: [&str; 4] = ["autoencoder", "vae", "beta-vae", "multi-entity"];

/// Flags that make a training take a moment; steps and batch are left to each test.
const TINY: [&str; 8] = [
    "--set",
    "training.validate_every=2",
    "--set",
    "training.validation_scenes=8",
    "--set",
    "training.evaluation_scenes=8",
    "--device",
    "cpu",
];

/// An empty folder in which the program runs.
pub struct Place(pub TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    pub fn text(&self, name: impl AsRef<Path>) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn json(&self, name: impl AsRef<Path>) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Path and content of everything below the folder: what a refused command must leave as it was.
    pub fn contents(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, found);
                    found.insert(path, None);
                } else {
                    found.insert(path.clone(), Some(fs::read(&path).unwrap()));
                }
            }
        }
        let mut found = BTreeMap::new();
        walk(self.0.path(), &mut found);
        found
    }

    pub fn command(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mevae"));
        command.current_dir(self.0.path()).args(args).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
        Outcome::of(&mut self.command(args))
    }

    /// A command line without quotes or spaces inside arguments.
    pub fn mevae(&self, line: &str) -> Outcome {
        self.run(line.split_whitespace())
    }

    /// `mevae train`, tiny, with more flags.
    pub fn train(&self, flags: &str) -> Outcome {
        self.run(training(flags))
    }

    /// The command must fail in this way and leave everything as it was.
    pub fn refuses(&self, line: &str, code: i32, phrases: &[&str]) {
        self.refuses_args(line.split_whitespace(), code, phrases);
    }

    /// The same of `mevae train`, tiny.
    pub fn refuses_training(&self, flags: &str, code: i32, phrases: &[&str]) {
        self.refuses_args(training(flags), code, phrases);
    }

    fn refuses_args(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>, code: i32, phrases: &[&str]) {
        let before = self.contents();
        let outcome = self.run(args).fails(code, phrases);
        let after = self.contents();
        let changed: Vec<_> = before
            .keys()
            .chain(after.keys())
            .filter(|path| before.get(*path) != after.get(*path))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        assert!(changed.is_empty(), "{} left or changed {changed:?}", outcome.line);
    }
}

pub fn training(flags: &str) -> Vec<&str> {
    let mut args = vec!["train"];
    args.extend(TINY);
    args.extend(flags.split_whitespace());
    // A flag can be given once only, so what a test says itself is not said again.
    for (flag, value) in [("--steps", "3"), ("--batch", "4"), ("--threads", "1")] {
        let given = |arg: &&str| *arg == flag || arg.starts_with(&format!("{flag}=")) || *arg == "--resume";
        if !args.iter().any(given) {
            args.extend([flag, value]);
        }
    }
    args
}

/// How a command ended and what it said.
pub struct Outcome {
    pub line: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Outcome {
    pub fn of(command: &mut Command) -> Self {
        let line = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { line, code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}\n{}", self.line, self.out, self.err);
        self
    }

    /// The code, all of the phrases on standard error, nothing on standard output, no panic.
    #[track_caller]
    pub fn fails(self, code: i32, phrases: &[&str]) -> Self {
        let Self { line, out, err, .. } = &self;
        assert_eq!(self.code, Some(code), "{line}\n{out}\n{err}");
        assert!(!err.contains("panicked") && !err.contains("RUST_BACKTRACE"), "{line}\n{err}");
        assert!(err.lines().any(|line| line.starts_with("error: ")), "{line} names no error:\n{err}");
        assert_eq!(out, "", "{line} fails and still writes to standard output");
        for phrase in phrases {
            assert!(err.contains(phrase), "{line} does not say {phrase:?}:\n{err}");
        }
        self
    }

    /// A message that repeats no megabytes of what it was given.
    #[track_caller]
    pub fn says_at_most(self, bytes: usize) {
        assert!(
            self.err.len() <= bytes,
            "{} bytes: {}…",
            self.err.len(),
            &self.err[..self.err.floor_char_boundary(200)]
        );
    }

    #[track_caller]
    pub fn says(self, phrases: &[&str]) -> Self {
        for phrase in phrases {
            let said = self.out.contains(phrase) || self.err.contains(phrase);
            assert!(said, "{} does not say {phrase:?}:\n{}\n{}", self.line, self.out, self.err);
        }
        self
    }
}

/// A trained multi-entity run in the folder `run`, and 40 scenes in `scenes.npz`: made once for all tests that only read them.
pub fn trained() -> Arc<Place> {
    static SHARED: Mutex<Weak<Place>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = shared.upgrade() {
        return place;
    }
    let place = Arc::new(Place::new());
    place.train("--out run --quiet").ok();
    place.mevae("scenes --recipe digits --count 40 --seed 5 --out scenes.npz").ok();
    *shared = Arc::downgrade(&place);
    place
}

/// A folder of its own beside the shared run: `run` is the shared run's path, as a string.
pub fn beside() -> (Arc<Place>, Place, String) {
    let shared = trained();
    let run = shared.path("run").to_str().unwrap().to_owned();
    (shared, Place::new(), run)
}

fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Copies a run, to damage it.
pub fn copy_run(from: &str, place: &Place, name: &str) {
    let checkpoints = Path::new(name).join("checkpoints");
    fs::create_dir_all(place.path(&checkpoints)).unwrap();
    let files =
        ["config.toml", ".lock", "metrics.jsonl", "checkpoints/last.safetensors", "checkpoints/best.safetensors"];
    for file in files {
        fs::copy(Path::new(from).join(file), place.path(name).join(file)).unwrap();
    }
}

/// Every tensor of a checkpoint, weights and optimiser alike: type, shape and bytes.
pub fn tensors(file: &[u8]) -> BTreeMap<String, (String, Vec<usize>, Vec<u8>)> {
    let file = SafeTensors::deserialize(file).unwrap();
    let entry = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        (name.to_string(), (format!("{:?}", view.dtype()), view.shape().to_vec(), view.data().to_vec()))
    };
    file.iter().map(entry).collect()
}

/// A checkpoint with other metadata.
pub fn with_metadata(bytes: &[u8], change: impl FnOnce(&mut HashMap<String, String>)) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    change(&mut metadata);
    safetensors::serialize(SafeTensors::deserialize(bytes).unwrap().tensors(), Some(metadata)).unwrap()
}

#[track_caller]
fn assert_same_tensors(a: &[u8], b: &[u8], what: &str) {
    let (a, b) = (tensors(a), tensors(b));
    assert!(a.keys().any(|n| n.starts_with("model.")) && a.keys().any(|n| n.starts_with("adam.")), "{what}");
    assert!(a.keys().eq(b.keys()), "{what}: {:?}\n{:?}", a.keys(), b.keys());
    for (name, tensor) in &a {
        assert!(*tensor == b[name], "{what}: {name} differs");
    }
}

/// Rows of `metrics.jsonl` of one kind, without the clock.
pub fn rows(metrics: &str, kind: &str) -> Vec<Value> {
    let mut rows: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    rows.retain(|row| row["kind"] == kind);
    rows.iter_mut().for_each(|row| assert!(row.as_object_mut().unwrap().remove("seconds").is_some()));
    rows
}

/// Checks a text against a file, or writes the file where UPDATE_SNAPSHOTS=1.
fn assert_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "tests/snapshots/{name}; if the change is wanted, run again with UPDATE_SNAPSHOTS=1");
}

/// Exactly the keys that the documentation promises (and the two standard errors), each of the right kind.
#[track_caller]
fn assert_report_keys(report: &Value) {
    let promised = [
        "scenes",
        "binarisation",
        "reconstruction_nats",
        "refinement_steps",
        "kl_nats",
        "location_nats",
        "elbo",
        "log_likelihood_bound_nats",
        "importance_samples",
        "mse",
        "count_accuracy",
        "count_confusion",
        "ari_foreground",
        "ami_foreground",
        "ari_objects",
        "scenes_with_objects_2plus",
        "ari_all",
        "ami_all",
        "miou",
        "f1",
        "entities_per_scene",
        "errors",
        "kl_brightness_correlation",
        "kl_centre_auc",
        "brightness_centre_auc",
    ];
    let besides = [
        "count_accuracy_sem",
        "count_mse",
        "ari_foreground_sem",
        "ari_objects_sem",
        "log_likelihood_bound_sem",
        "kl_brightness_correlation_sem",
        "kl_centre_auc_sem",
        "brightness_centre_auc_sem",
    ];
    let keys: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, promised.into_iter().chain(besides).collect());
    for key in promised {
        let value = &report[key];
        let fits = match key {
            "scenes" | "scenes_with_objects_2plus" => value.is_u64(),
            "binarisation" => value.is_string(),
            "importance_samples" => value.is_null() || value.is_u64(),
            "count_confusion" => value.is_null() || value.is_array(),
            "errors" => value.is_null() || value["splits"].is_u64(),
            _ => value.is_null() || value.is_f64(),
        };
        assert!(fits, "{key}: {value}");
    }
    let number = |key: &str| report[key].as_f64().unwrap();
    let sum = number("reconstruction_nats") + number("kl_nats") + number("location_nats");
    assert!((number("elbo") + sum).abs() < 1e-6 * sum, "the ELBO is minus the sum of its parts: {report}");
}

/// Dark ink on a light page, not of the model's size.
fn page(width: u32, height: u32) -> GrayImage {
    let ring = |x: u32, y: u32| {
        let distance = (f64::from(x) - f64::from(width) / 2.0).hypot(f64::from(y) - f64::from(height) / 2.0);
        (8.0..14.0).contains(&distance)
    };
    GrayImage::from_fn(width, height, |x, y| Luma([if ring(x, y) { 20 } else { 240 }]))
}

/// The four files of a digit set with so many digits.
fn write_digits(place: &Place, folder: &str, train: u32, test: u32) {
    for (name, count) in [("train", train), ("t10k", test)] {
        let mut images = Vec::from([0, 0, 8, 3]);
        images.extend([count, 28, 28].iter().flat_map(|n| n.to_be_bytes()));
        images.extend((0..count * 784).map(|i| if i % 28 > 9 && i % 28 < 14 { 255 } else { 0 }));
        place.write(&format!("{folder}/{name}-images-idx3-ubyte"), images);
        let mut labels = Vec::from([0, 0, 8, 1]);
        labels.extend(count.to_be_bytes());
        labels.extend((0..count).map(|i| (i % 10) as u8));
        place.write(&format!("{folder}/{name}-labels-idx1-ubyte"), labels);
    }
}

/// A training that will not end by itself, and the lines that it has not said yet.
#[cfg(unix)]
pub fn endless_training(place: &Place) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut command =
        place.command(training("--preset vae --steps 1000000 --set training.validate_every=1000 --out run"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert!(line.contains("training "), "{line}");
    std::thread::sleep(Duration::from_millis(200));
    (child, err)
}

#[cfg(unix)]
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// The exit code, or a killed child and a panic if it does not end in time.
#[cfg(unix)]
pub fn code_of(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("the program did not end after the signal");
}
