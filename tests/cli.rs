//! Every command through the real program, tiny: what it writes and says, and how it refuses.

mod plots;
mod quality;
mod sweep;

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

// ---------------------------------------------------------------------------------------------- help

#[test]
fn help_is_as_recorded() {
    let place = Place::new();
    assert_snapshot("help.txt", &place.mevae("--help").ok().out);
    assert_snapshot("train-help.txt", &place.mevae("train --help").ok().out);
}

#[test]
fn every_command_has_help_and_no_command_is_wrong_use() {
    let place = Place::new();
    for command in [
        "train",
        "evaluate",
        "decompose",
        "disentanglement",
        "generate",
        "plot",
        "info",
        "reproduce",
        "scenes",
        "study",
        "completions",
    ] {
        let help = place.mevae(&format!("{command} --help")).ok();
        assert!(help.out.contains(&format!("Usage: mevae {command}")), "{}", help.out);
    }
    assert_eq!(place.mevae("").code, Some(2));
    place.refuses("tarin", 2, &["similar subcommand", "train"]);
    place.refuses("train --bacth 4", 2, &["--batch"]);
    place.refuses("train runs/some", 2, &["unexpected argument"]);
    assert!(place.mevae("--version").ok().out.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_commands_and_flags() {
    let place = Place::new();
    let script = place.mevae("completions bash").ok().out;
    for word in ["_mevae()", "complete -F", "decompose", "--print-config"] {
        assert!(script.contains(word), "{word}");
    }
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(place.mevae(&format!("completions {shell}")).ok().out.contains("decompose"), "{shell}");
    }
    place.refuses("completions bsh", 2, &["bash"]);
}

// ---------------------------------------------------------------------------------------------- train

#[test]
fn training_each_preset_fills_a_run_folder_and_says_where_to_look() {
    for preset in PRESETS {
        let place = Place::new();
        let outcome = place.train(&format!("--preset {preset}")).ok();
        let scenes = if preset == "multi-entity" { "digits" } else { "single" };
        let run = format!("runs/{preset}-{scenes}-001");
        let mut files = vec!["config.toml", "metrics.jsonl", "evaluation.json", "reconstructions.png", "curves.svg"];
        files.extend(["checkpoints/last.safetensors", "checkpoints/best.safetensors"]);
        if preset == "multi-entity" {
            files.push("decomposition.png");
        }
        for file in &files {
            assert!(!place.read(format!("{run}/{file}")).is_empty(), "{preset}: {file}");
        }
        let names: Vec<_> = fs::read_dir(place.path(&run)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().any(|n| n.to_string_lossy().starts_with("events.out.tfevents.")), "{names:?}");
        assert!(!names.iter().any(|n| n.to_string_lossy().ends_with(".tmp")), "{names:?}");
        outcome.says(&["Held-out scenes (test split)", "8 scenes", &run, &format!("{run}/reconstructions.png")]);

        let report = place.json(format!("{run}/evaluation.json"));
        assert_report_keys(&report);
        assert_eq!(report["scenes"], 8);
        let steps: Vec<_> = rows(&place.text(format!("{run}/metrics.jsonl")), "validation")
            .iter()
            .map(|row| row["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, [2, 3], "{preset}: validated in between and at the end");
    }
}

#[test]
fn another_training_makes_another_folder() {
    let place = Place::new();
    place.train("--preset vae --quiet").ok();
    let first = place.contents();
    place.train("--preset vae --quiet").ok();
    assert!(place.path("runs/vae-single-002/evaluation.json").exists());
    for (path, content) in first {
        assert!(content.is_none() || fs::read(&path).ok() == content, "{} changed", path.display());
    }
    let weights = |n| place.read(format!("runs/vae-single-00{n}/checkpoints/last.safetensors"));
    assert_same_tensors(&weights(1), &weights(2), "the same seed");
}

#[test]
fn another_seed_makes_other_weights() {
    let place = Place::new();
    place.train("--preset vae --quiet --out a --seed 1").ok();
    place.train("--preset vae --quiet --out b --seed 2").ok();
    let weights = |run| tensors(&place.read(format!("{run}/checkpoints/last.safetensors")));
    assert_ne!(weights("a"), weights("b"));
}

#[test]
fn quiet_training_says_nothing() {
    let place = Place::new();
    let outcome = place.train("--preset vae --quiet").ok();
    assert_eq!((outcome.out, outcome.err), (String::new(), String::new()));
}

#[test]
fn an_occupied_folder_is_refused_and_replaced_only_when_told() {
    let place = Place::new();
    place.train("--preset vae --quiet --out deep/er/run").ok();
    place.write("deep/er/run/stale.txt", "from the earlier run");
    place.refuses_training(
        "--preset vae --out deep/er/run",
        1,
        &["deep/er/run", "already holds a run", "--resume", "--overwrite"],
    );
    place.train("--preset beta-vae --quiet --out deep/er/run --overwrite").ok();
    assert!(!place.path("deep/er/run/stale.txt").exists());
    assert!(place.text("deep/er/run/config.toml").contains("beta = 2.0"));
    // There is nothing to lose in a folder that is empty, or not there.
    fs::create_dir(place.path("empty")).unwrap();
    place.train("--preset vae --quiet --out empty").ok();
    place.train("--preset vae --quiet --out absent --overwrite").ok();
    place.refuses_training("--preset vae --overwrite", 2, &["--out"]);
}

#[test]
fn what_is_no_run_is_never_deleted() {
    let place = Place::new();
    place.write("thesis/chapter-1.tex", "years of work");
    // Half the programs of the world keep their settings in a config.toml.
    place.write("site/config.toml", "title = \"my home page\"\n");
    place.write("site/content/post.md", "years of work");
    place.write("file", "years of work");
    for flags in ["", "--overwrite"] {
        place.refuses_training(&format!("--preset vae --out thesis {flags}"), 1, &["thesis", "choose another --out"]);
        place.refuses_training(&format!("--preset vae --out site {flags}"), 1, &["site", "--out"]);
        place.refuses_training(&format!("--preset vae --out file {flags}"), 1, &["file"]);
    }
}

#[test]
fn the_printed_configuration_reads_back_as_itself() {
    let place = Place::new();
    for preset in PRESETS {
        for flags in ["", "--seed 7 --steps 9 --set training.learning_rate={from=1e-3,to=1e-4}", "--scenes air"] {
            let printed = place.mevae(&format!("train --preset {preset} --print-config {flags}")).ok().out;
            place.write("printed.toml", &printed);
            // Over any preset, as the file is complete.
            for other in PRESETS {
                let again = place.mevae(&format!("train --preset {other} --config printed.toml --print-config"));
                assert_eq!(again.ok().out, printed, "{preset} {flags} over {other}");
            }
        }
    }
    assert!(!place.path("runs").exists());
    let preset = Preset::MultiEntity.config().to_toml();
    assert_eq!(place.mevae("train --print-config").ok().out, preset);
}

#[test]
fn flags_go_over_the_file_and_the_file_over_the_preset() {
    let place = Place::new();
    place.write("mine.toml", "[training]\nbatch = 33\nsteps = 44\n");
    let line = "train --preset vae --config mine.toml --set training.steps=55 --set training.clip=3 --print-config";
    let printed = place.mevae(line).ok().out;
    for key in ["batch = 33\n", "steps = 55\n", "clip = 3.0\n", "seed = 0\n", "scenes = \"single\"\n"] {
        assert!(printed.contains(key), "{key}\n{printed}");
    }
    let printed = place.mevae("train --config mine.toml --batch 5 --entities 2 --seed 6 --print-config").ok().out;
    for key in ["batch = 5\n", "steps = 44\n", "entities = 2\n", "seed = 6\n"] {
        assert!(printed.contains(key), "{key}\n{printed}");
    }
    // The configuration of a run trains the same run.
    place.train("--preset vae --quiet --out a").ok();
    place.mevae("train --config a/config.toml --out b --quiet --threads 1").ok();
    assert_eq!(place.text("a/config.toml"), place.text("b/config.toml"));
    let weights = |run| place.read(format!("{run}/checkpoints/last.safetensors"));
    assert_same_tensors(&weights("a"), &weights("b"), "the same configuration");
}

#[test]
fn a_resumed_training_ends_as_an_uninterrupted_one() {
    for (preset, steps, sittings, more) in [
        ("multi-entity", 10, 5, "--set model.selector.radius={from=3,to=1} --set data.binarisation=dynamic"),
        ("vae", 20, 11, "--set training.learning_rate={from=1e-3,to=1e-4} --set model.latent.beta={from=0,to=1}"),
    ] {
        let place = Place::new();
        let flags = format!("--preset {preset} --steps {steps} --quiet {more}");
        place.train(&format!("{flags} --out whole")).ok();
        // No time at all: each sitting stops, in good order, after one step.
        place.train(&format!("{flags} --out parts --seconds 0")).ok();
        for _ in 1..sittings {
            place.mevae("train --resume parts --seconds 0 --quiet --threads 1").ok();
        }
        let metrics = place.text("parts/metrics.jsonl");
        let validated: Vec<_> = rows(&metrics, "validation").iter().map(|row| row["step"].clone()).collect();
        assert_eq!(validated, (1..=sittings).map(Value::from).collect::<Vec<_>>(), "{preset}");
        // What a crash may leave behind the last checkpoint.
        place
            .write("parts/metrics.jsonl", metrics + "{\"kind\":\"step\",\"step\":999,\"seconds\":1.0}\n{\"kind\":\"st");
        place.mevae("train --resume parts --quiet --threads 2").ok();

        for file in ["last", "best"] {
            // Only the last is bound to be the same: more validations see more candidates for the best.
            assert!(place.path(format!("parts/checkpoints/{file}.safetensors")).exists());
        }
        let weights = |run| place.read(format!("{run}/checkpoints/last.safetensors"));
        assert_same_tensors(&weights("whole"), &weights("parts"), preset);
        let steps_of = |run| rows(&place.text(format!("{run}/metrics.jsonl")), "step");
        assert_eq!(steps_of("whole").len(), steps as usize / 10, "{preset}: a row each ten steps");
        assert_eq!(steps_of("whole"), steps_of("parts"), "{preset}");
        assert_eq!(place.text("whole/config.toml"), place.text("parts/config.toml"));
    }
}

#[test]
fn seconds_only_cap_and_the_steps_done_are_recorded() {
    let place = Place::new();
    place.train("--preset vae --steps 500 --seconds 0 --out run").ok().says(&["weights of step 1"]);
    assert!(place.text("run/config.toml").contains("steps = 500"), "the schedules still follow the steps asked for");
    place.mevae("info run").ok().says(&["1 of 500"]);
    place.train("--preset vae --steps 2 --seconds 1e9 --out short").ok();
    place.mevae("info short").ok().says(&["2 of 2"]);
}

#[test]
fn a_finished_run_resumes_to_the_same_end() {
    let place = Place::new();
    place.train("--preset vae --out run --quiet").ok();
    let before =
        ["checkpoints/last.safetensors", "metrics.jsonl", "evaluation.json"].map(|f| place.read(format!("run/{f}")));
    place.mevae("train --resume run --quiet --threads 1").ok();
    let after =
        ["checkpoints/last.safetensors", "metrics.jsonl", "evaluation.json"].map(|f| place.read(format!("run/{f}")));
    assert!(before == after);
}

#[test]
fn a_training_starts_with_the_weights_of_another_and_what_does_not_fit_is_refused() {
    let (shared, place, run) = beside();
    let model = |file: &[u8]| -> BTreeMap<_, _> {
        tensors(file).into_iter().filter(|(name, _)| name.starts_with("model.")).collect()
    };
    let weights = model(&shared.read("run/checkpoints/best.safetensors"));
    // With a rate of nothing they stay what they were.
    let flags = "--steps 1 --entities 2 --set training.learning_rate=0 --threads 1";
    let line = format!("train --from {run} {flags} --out tuned");
    place.mevae(&line).ok().says(&[&format!("from the weights of {run}"), "weights of step 1"]);
    assert!(!weights.is_empty() && model(&place.read("tuned/checkpoints/last.safetensors")) == weights);
    place.mevae("info tuned").ok().says(&[&format!("the weights of {run}, step 3")]);
    // What lies elsewhere is found from anywhere; without it the run goes on, and does not begin again.
    fs::rename(place.path("tuned"), place.path("moved")).unwrap();
    place.mevae("reproduce moved --quiet --threads 1").ok();
    place.train("--out source --quiet").ok();
    place.mevae("train --from source --steps 2 --seconds 0 --threads 1 --quiet --out orphan").ok();
    assert!(place.text("orphan/config.toml").contains(&format!("start_from = \"{}\"", place.path("source").display())));
    // Nothing is deleted that the training is to begin with.
    let itself = "train --from source --out source --overwrite --threads 1";
    place.refuses(itself, 2, &["the weights to start from lie in", "--out"]);
    fs::remove_dir_all(place.path("source")).unwrap();
    place.mevae("train --resume orphan --threads 1 --quiet").ok();
    place.mevae("reproduce orphan --threads 1").fails(1, &["cannot start from", "source"]);
    place.train("--out source --seed 7 --quiet").ok();
    let other = place.mevae("reproduce orphan --quiet --threads 1");
    assert_eq!(other.code, Some(1));
    assert!(other.err.contains("are not those that the run began with"), "{}", other.err);

    // Everything else is that run's, or what is said over it.
    let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (theirs, ours) = (lines(shared.text("run/config.toml")), lines(place.text("moved/config.toml")));
    let own: BTreeSet<_> = ours.difference(&theirs).map(|line| line.split(" = ").next().unwrap()).collect();
    assert!(own.is_subset(&["entities", "learning_rate", "start_from", "steps"].into()), "{own:?}");

    // A checkpoint's file is as good as the run, and the key as the flag.
    let best = format!("{run}/checkpoints/best.safetensors");
    place.train(&format!("--out keyed --quiet --set training.start_from={best} --set training.learning_rate=0")).ok();
    assert!(model(&place.read("keyed/checkpoints/last.safetensors")) == weights);

    place.refuses(&format!("train --from {run} --preset vae"), 2, &["--preset", "--from"]);
    place.refuses(&format!("train --resume {run} --from {run}"), 2, &["--resume", "--from"]);
    place.refuses("train --from nowhere", 1, &["cannot start from", "nowhere"]);
    place.refuses_training("--set training.start_from=nowhere --out other", 1, &["cannot start from", "nowhere"]);
    let two = format!("train --from {run} --set training.start_from=moved --out other");
    place.refuses(&two, 2, &["two runs to start from"]);
    for (change, reason) in [
        ("--set model.latent.dimensions=3", "its [model.latent] is another"),
        ("--set data.size=96 --set model.decoder.placement={kind=\"canvas\"}", "its images are"),
    ] {
        let line = format!("train --from {run} {change} --out other");
        place.refuses(&line, 2, &["do not fit this model", reason]);
        place.refuses(&format!("{line} --print-config"), 2, &["do not fit this model"]);
    }
    // Other scenes are not asked for what only the run's own have.
    let scenes = format!("train --from {run} --scenes single --entities 1 --print-config");
    place.mevae(&scenes).ok().says(&["fresh = false", "scenes = \"single\"", "entities = 1"]);
}

#[test]
fn weights_do_not_depend_on_the_number_of_threads() {
    let place = Place::new();
    for threads in [1, 2, 4] {
        place.train(&format!("--steps 20 --threads {threads} --quiet --out {threads}")).ok();
    }
    let weights = |threads| place.read(format!("{threads}/checkpoints/last.safetensors"));
    for threads in [2, 4] {
        assert_same_tensors(&weights(1), &weights(threads), &format!("{threads} threads"));
        let of = |threads: i32| place.text(format!("{threads}/evaluation.json"));
        assert_eq!(of(1), of(threads), "{threads} threads");
        let steps = |threads: i32| rows(&place.text(format!("{threads}/metrics.jsonl")), "step");
        assert_eq!(steps(1), steps(threads), "{threads} threads");
    }
}

#[test]
fn training_on_archives_of_any_shape() {
    let place = Place::new();
    for (name, extent) in [("plain.npz", "2×3×1"), ("colour.npz", "2×3×3"), ("images-only.npz", "2×3×1")] {
        let flags = format!("--scenes {} --batch 3 --entities 1 --out {name}", data(name));
        place.train(&flags).ok().says(&[extent]);
        assert_eq!(place.json(format!("{name}/evaluation.json"))["scenes"], 2, "{name} has two scenes");
        place.mevae(&format!("generate {name}/ --count 2 --out {name}.png")).ok();
    }
}

#[test]
fn training_on_a_folder_of_digits() {
    let place = Place::new();
    write_digits(&place, "digits", 26, 3);
    place.train("--preset vae --digits digits --out run --quiet").ok();
    place.mevae("info run").ok().says(&["digits: digits"]);
    place.mevae("evaluate run --count 4").ok().says(&["3 scenes"]);
}

// ------------------------------------------------------------------------------------------ interrupts

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

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_saves_and_says_how_to_resume() {
    for name in ["-INT", "-TERM"] {
        let place = Place::new();
        let (mut child, mut err) = endless_training(&place);
        signal(&child, name);
        assert_eq!(code_of(&mut child), Some(130), "{name}");
        let mut said = String::new();
        err.read_to_string(&mut said).unwrap();
        let saved = said.lines().find(|line| line.contains("saved")).unwrap_or_else(|| panic!("{said}"));
        assert!(!said.contains("error"), "{said}");
        let step: u64 = saved.split("step ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(step >= 1, "{saved}");
        place.mevae("info run").ok().says(&[&format!("{step} of 1000000")]);

        // The command is taken at its word; the cap keeps the test short.
        let resume = saved.split("mevae ").nth(1).unwrap();
        place.mevae(&format!("{resume} --seconds 0 --threads 1")).ok();
        let next = tensors(&place.read("run/checkpoints/last.safetensors"));
        assert!(next.contains_key("model.encoder.0.weight"), "{:?}", next.keys());
        place.refuses("train --resume run --steps 5", 2, &["--resume", "--steps"]);
        let last = SafeTensors::read_metadata(&place.read("run/checkpoints/last.safetensors")).unwrap().1;
        let progress: Value = serde_json::from_str(&last.metadata().as_ref().unwrap()["progress"]).unwrap();
        assert_eq!(progress["step"], step + 1);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_last_evaluation_too() {
    let place = Place::new();
    let flags = "--preset multi-entity --steps 1 --set training.evaluation_scenes=10000000 --out run";
    let mut child = place.command(training(flags)).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !place.path("run/checkpoints/last.safetensors").exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    signal(&child, "-INT");
    assert_eq!(code_of(&mut child), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("mevae train --resume run"), "{said}");
    assert!(!place.path("run/evaluation.json").exists());
}

#[cfg(unix)]
#[test]
fn a_killed_training_leaves_whole_files_only() {
    let place = Place::new();
    let (mut child, _err) = endless_training(&place);
    child.kill().unwrap();
    child.wait().unwrap();
    for (path, content) in place.contents() {
        if path.extension().is_some_and(|e| e == "safetensors") {
            SafeTensors::deserialize(&content.unwrap()).unwrap();
        }
    }
    assert!(multi_entity_vae::config::Config::from_toml("config.toml", &place.text("run/config.toml")).is_ok());
    // Whether or not a first checkpoint was written: resumed, or told what to do instead.
    let outcome = place.mevae("train --resume run --seconds 0 --quiet --threads 1");
    if outcome.code != Some(0) {
        outcome.fails(1, &["no checkpoint yet", "--overwrite"]);
    }
}

// ------------------------------------------------------------------------------------------- evaluate

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
        "ari_foreground_sem",
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

#[test]
fn evaluation_prints_a_table_and_writes_json() {
    let (_shared, place, run) = beside();
    let table = place.mevae(&format!("evaluate {run} --count 12 --json scores.json")).ok().out;
    let title = format!("{run} after ");
    for row in
        [&title, "test scenes of digits, seed 0", "12 scenes", "ELBO", "count accuracy", "ARI, foreground", "mean IoU"]
    {
        assert!(table.contains(row), "{row}\n{table}");
    }
    let report = place.json("scores.json");
    assert_report_keys(&report);
    assert_eq!(report["scenes"], 12);
    let confusion = report["count_confusion"].as_array().unwrap();
    let total: u64 = confusion.iter().flat_map(|row| row.as_array().unwrap()).map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(total, 12);

    // Standard output is JSON and nothing else, the same each time.
    let printed = place.mevae(&format!("evaluate {run} --count 12 --json -")).ok();
    assert_eq!(serde_json::from_str::<Value>(&printed.out).unwrap(), report);
    // By default: the run's own number of scenes, on the test split.
    let printed = place.mevae(&format!("evaluate {run} --json -")).ok();
    assert_eq!(serde_json::from_str::<Value>(&printed.out).unwrap()["scenes"], 8);
}

#[test]
fn the_likelihood_is_bounded_with_as_many_samples_as_are_asked_for_and_the_pixels_are_named() {
    let (_shared, place, run) = beside();
    let score = |flags: &str| -> Value {
        let out = place.mevae(&format!("evaluate {run} --count 8 --json - {flags}")).ok().out;
        serde_json::from_str(&out).unwrap()
    };
    let plain = score("");
    assert_eq!(plain["binarisation"], "grey-scale");
    assert!(plain["importance_samples"].is_null() && plain["log_likelihood_bound_nats"].is_null());
    let bound = |samples: u64| {
        let report = score(&format!("--importance-samples {samples} --threads 1"));
        assert_report_keys(&report);
        assert_eq!((&report["importance_samples"], &report["elbo"]), (&samples.into(), &plain["elbo"]));
        report["log_likelihood_bound_nats"].as_f64().unwrap()
    };
    // The same samples each time; more of them, a better bound.
    assert_eq!(bound(1), bound(1));
    assert!(bound(150) > bound(1));
    place.mevae(&format!("evaluate {run} --count 8 --importance-samples 3")).ok().says(&[
        "8 scenes, grey-scale pixels",
        "log p(x) ≥",
        "3 importance samples",
    ]);
    place.refuses(&format!("evaluate {run} --importance-samples 0"), 2, &["--importance-samples"]);

    place.train("--preset autoencoder --out point --quiet").ok();
    place.refuses("evaluate point --importance-samples 5", 2, &["--importance-samples", "point"]);
    for binarisation in ["static", "dynamic", "threshold"] {
        let out = format!("--preset vae --out {binarisation} --set data.binarisation={binarisation} --quiet");
        place.train(&out).ok();
        assert_eq!(place.json(format!("{binarisation}/evaluation.json"))["binarisation"], binarisation);
        place.mevae(&format!("evaluate {binarisation} --importance-samples 2")).ok().says(&["binaris"]);
    }
}

#[test]
fn the_published_nets_are_configurations() {
    let place = Place::new();
    for (name, sizes) in [("tutorial", "[400]"), ("burda", "[200, 200]")] {
        let file = format!("{}/examples/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let printed = place.mevae(&format!("train --preset vae --config {file} --print-config")).ok().out;
        assert!(printed.contains(&format!("hidden = {sizes}")), "{printed}");
        // A rate of the file's own can be replaced by a number or by a schedule.
        for rate in ["1e-4", "{from=1e-3,to=1e-5}"] {
            place
                .train(&format!(
                    "--preset vae --config {file} --out {name} --overwrite --quiet --set training.learning_rate={rate}"
                ))
                .ok();
        }
    }
    let file = format!("{}/examples/burda.toml", env!("CARGO_MANIFEST_DIR"));
    for kind in ["iwae", "dreg"] {
        let objective = format!("training.objective={{kind=\"{kind}\",samples=3,gradient_samples=2}}");
        place.train(&format!("--preset vae --config {file} --out {kind} --set {objective}")).ok().says(&[
            "of S samples, ",
            "of 2 drawn by weight, nats per image, S = 3",
            "dynamic binarisation",
            "log p(x) ≥",
        ]);
    }
}

#[test]
fn the_best_of_an_importance_weighted_training_is_that_of_the_highest_bound() {
    let place = Place::new();
    let objective = "training.objective={kind=\"iwae\",samples=3}";
    place
        .train(&format!("--preset vae --out run --quiet --steps 12 --set training.validate_every=2 --set {objective}"))
        .ok();
    let rows = fs::read_to_string(place.path("run/metrics.jsonl")).unwrap();
    let rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap());
    let bounds: Vec<(f64, u64)> = rows
        .filter(|row| row["kind"] == "validation")
        .map(|row| {
            assert_eq!(row["importance_samples"], 3);
            // What three samples say more than one, on images that all models know equally little of.
            assert_ne!(row["log_likelihood_bound_nats"], row["elbo"]);
            (row["log_likelihood_bound_nats"].as_f64().unwrap(), row["step"].as_u64().unwrap())
        })
        .collect();
    assert_eq!(bounds.len(), 6);
    let (bound, step) = bounds.into_iter().reduce(|a, b| if b.0 > a.0 { b } else { a }).unwrap();
    let file = fs::read(place.path("run/checkpoints/best.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&file).unwrap();
    let progress: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["progress"]).unwrap();
    assert_eq!(progress["best"], serde_json::json!([-bound, step]));
    place.mevae("info run").ok().says(&[&format!("best           −log p(x) bound {:.2} nats", -bound)]);
}

#[test]
fn latents_of_sprites_are_scored() {
    let place = Place::new();
    place.train("--preset beta-vae --scenes sprite --out whole --quiet").ok();
    place.train("--scenes sprite --out entity --batch 2 --quiet").ok();
    place.train("--preset vae --out digit --quiet").ok();
    let table = place.mevae("disentanglement whole entity --count 100 --seed 3 --json scores.json").ok().out;
    assert!(table.contains("MIG") && table.contains("z and cell"), "{table}");
    let report = place.json("scores.json");
    assert_eq!((&report["examples"], &report["seed"]), (&100.into(), &3.into()));
    let codes = report["codes"].as_array().unwrap();
    let named: Vec<_> = codes.iter().map(|c| (c["model"].as_str().unwrap(), c["code"].as_str().unwrap())).collect();
    assert_eq!(named, [("whole", "z"), ("entity", "z"), ("entity", "z and cell")]);
    assert_eq!([0, 1, 2].map(|i| codes[i]["dimensions"].as_u64().unwrap()), [2, 16, 18]);
    for key in ["mig", "factor_vae", "disentanglement", "completeness", "informativeness"] {
        assert!(codes.iter().all(|c| (0.0..=1.0).contains(&c[key].as_f64().unwrap())), "{key}: {report}");
    }
    let again = place.mevae("disentanglement whole entity --count 100 --seed 3 --threads 1 --json -").ok().out;
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), report);
    place.refuses("disentanglement digit", 1, &["28×28×1", "--scenes sprite"]);
    place.refuses("disentanglement", 2, &["RUNS"]);
}

#[test]
fn evaluation_of_the_run_repeats_what_training_found() {
    let (shared, place, run) = beside();
    let printed = place.mevae(&format!("evaluate {run} --json -")).ok().out;
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap(), shared.json("run/evaluation.json"));
}

#[test]
fn evaluation_takes_other_scenes_splits_seeds_and_entities() {
    let (shared, place, run) = beside();
    let score = |flags: &str| -> Value {
        let out = place.mevae(&format!("evaluate {run} --count 8 --json - {flags}")).ok().out;
        serde_json::from_str(&out).unwrap()
    };
    let plain = score("");
    for flags in ["--split validation", "--seed 3", "--entities 2", "--scenes survey"] {
        let other = score(flags);
        assert_report_keys(&other);
        assert_ne!(other["elbo"], plain["elbo"], "{flags}");
    }
    assert!(score("--entities 2")["entities_per_scene"].as_f64().unwrap() <= 2.0);
    assert!(score("--entities 2")["location_nats"].as_f64() < plain["location_nats"].as_f64());
    // An archive's scenes are the recipe's, byte for byte.
    let archive = shared.path("scenes.npz");
    let archived = score(&format!("--scenes {}", archive.display()));
    assert_eq!(archived["scenes"], 8);
    assert!(archived["count_accuracy"].is_f64());
    place.mevae("scenes --split test --seed 3 --count 8 --out same.npz").ok();
    assert_eq!(score("--seed 3 --scenes same.npz"), score("--seed 3"));
    for (verb, rest) in [("evaluate", ""), ("decompose", "--out x"), ("edit", "--remove 1 --out x.png")] {
        let line = format!("{verb} {run} --scenes same.npz --split train {rest}");
        place.refuses(&line, 2, &["same.npz", "no splits", "leave --split out"]);
    }
}

#[test]
fn scores_that_need_a_truth_that_is_not_there_are_left_out_and_it_says_so() {
    let (_shared, place, run) = beside();
    let scenes = digits_scenes(6);
    let strip = |keep_count: bool| {
        let strip = |scene: Scene| Scene {
            masks: None,
            labels: None,
            boxes: None,
            count: scene.count.filter(|_| keep_count),
            ..scene
        };
        scenes.iter().cloned().map(strip).collect::<Vec<_>>()
    };
    let shape = Recipe::Digits.shape();
    Archive::gather(shape, 4, strip(true)).unwrap().write(&place.path("counts.npz")).unwrap();
    Archive::gather(shape, 4, strip(false)).unwrap().write(&place.path("images.npz")).unwrap();

    let masks = ["ari_foreground", "ami_foreground", "ari_all", "ami_all", "miou", "f1"];
    let counts = ["count_accuracy", "count_confusion"];
    for (file, without) in [("counts.npz", &masks[..]), ("images.npz", &[&masks[..], &counts[..]].concat()[..])] {
        let outcome = place.mevae(&format!("evaluate {run} --scenes {file} --json {file}.json")).ok();
        let report = place.json(format!("{file}.json"));
        assert_report_keys(&report);
        for key in masks.iter().chain(&counts) {
            assert_eq!(report[key].is_null(), without.contains(key), "{file}: {key}");
        }
        assert!(report["elbo"].is_f64() && report["entities_per_scene"].is_f64());
        let outcome = outcome.says(&["no masks"]);
        assert_eq!(outcome.out.contains("no counts"), file == "images.npz", "{}", outcome.out);
    }
    // Standard output is for the JSON then.
    let outcome = place.mevae(&format!("evaluate {run} --scenes images.npz --json -")).ok();
    assert!(outcome.err.contains("no masks"), "{}", outcome.err);
    place.mevae(&format!("decompose {run} --scenes images.npz --count 2 --out parts")).ok();
}

fn digits_scenes(count: u64) -> Vec<Scene> {
    let source = SceneSource::open("digits", DigitSet::builtin(), Split::Test, 0).unwrap();
    (0..count).map(|i| source.scene(i).unwrap()).collect()
}

// ------------------------------------------------------------------------------------------ decompose

/// Dark ink on a light page, not of the model's size.
fn page(width: u32, height: u32) -> GrayImage {
    let ring = |x: u32, y: u32| {
        let distance = (f64::from(x) - f64::from(width) / 2.0).hypot(f64::from(y) - f64::from(height) / 2.0);
        (8.0..14.0).contains(&distance)
    };
    GrayImage::from_fn(width, height, |x, y| Luma([if ring(x, y) { 20 } else { 240 }]))
}

/// Checks a folder that `decompose` wrote, for inputs of these names.
#[track_caller]
fn assert_decomposition(place: &Place, folder: &str, inputs: &[&str], entities: usize, dimensions: usize) -> Value {
    let sheet = image::open(place.path(folder).join("decomposition.png")).unwrap();
    assert!(sheet.width() > 64 * 4 && sheet.height() > 64);
    let records = place.json(format!("{folder}/entities.json"));
    let all = records.as_array().unwrap();
    assert_eq!(all.len(), inputs.len() * entities);
    let mut files = BTreeSet::from(["decomposition.png".to_string(), "entities.json".to_string()]);
    for (i, record) in all.iter().enumerate() {
        let keys: BTreeSet<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = ["input", "entity", "cell", "box", "kl_nats", "present", "z", "file"];
        assert_eq!(keys, BTreeSet::from(expected), "{record}");
        assert_eq!(record["input"], inputs[i / entities]);
        assert_eq!(record["entity"], i % entities + 1);
        let cell: (usize, usize) = serde_json::from_value(record["cell"].clone()).unwrap();
        assert!(cell.0 < 16 && cell.1 < 16, "{record}");
        if let Some([x0, y0, x1, y1]) = serde_json::from_value::<Option<[usize; 4]>>(record["box"].clone()).unwrap() {
            assert!(x0 < x1 && x1 <= 64 && y0 < y1 && y1 <= 64, "{record}");
            assert_eq!(record["present"], true, "only what is present wins pixels: {record}");
        }
        assert!(record["kl_nats"].as_f64().unwrap() >= 0.0 && record["present"].is_boolean(), "{record}");
        let z: Vec<f64> = serde_json::from_value(record["z"].clone()).unwrap();
        assert_eq!(z.len(), dimensions);
        let file = record["file"].as_str().unwrap();
        let picture = image::open(place.path(folder).join(file)).unwrap();
        assert_eq!((picture.width(), picture.height()), (64, 64), "{file}");
        assert!(files.insert(file.to_string()), "{file} is used twice");
    }
    let found: BTreeSet<String> = fs::read_dir(place.path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, files);
    records
}

#[test]
fn a_picture_with_dark_ink_on_a_light_page_is_fitted_inverted_and_taken_apart() {
    let (_shared, place, run) = beside();
    page(100, 60).save(place.path("note.png")).unwrap();
    let outcome = place.mevae(&format!("decompose {run} note.png --out parts/deep")).ok();
    assert_decomposition(&place, "parts/deep", &["note"], 4, 16);
    let outcome = outcome.says(&["note.png: ", "scaled from 100×60", "dark ink on a light page, inverted"]);
    assert!(outcome.out.contains("note: ") && outcome.out.contains("parts/deep/decomposition.png"), "{}", outcome.out);

    // The same picture, already as a model takes it, comes out as the same entities, without a word.
    let mut white = page(64, 64);
    white.save(place.path("page.png")).unwrap();
    white.pixels_mut().for_each(|p| p.0[0] = 255 - p.0[0]);
    white.save(place.path("board.png")).unwrap();
    place.mevae(&format!("decompose {run} page.png --out page")).ok().says(&["inverted"]);
    let silent = place.mevae(&format!("decompose {run} board.png --out board")).ok();
    assert_eq!(silent.err, "");
    let mut records = ["page", "board"].map(|name| assert_decomposition(&place, name, &[name], 4, 16));
    for record in records.iter_mut().flat_map(|r| r.as_array_mut().unwrap()) {
        record.as_object_mut().unwrap().retain(|key, _| key != "input" && key != "file");
    }
    assert_eq!(records[0], records[1]);
}

#[test]
fn pictures_in_other_formats_and_colours_are_read() {
    let (_shared, place, run) = beside();
    let colour =
        RgbImage::from_fn(80, 80, |x, y| if x.abs_diff(y) < 6 { Rgb([10, 30, 90]) } else { Rgb([250, 240, 220]) });
    let mut names = Vec::new();
    for format in ["png", "jpg", "gif", "bmp", "webp", "tiff", "qoi", "ppm"] {
        colour.save(place.path(format!("as-{format}.{format}"))).unwrap();
        names.push(format!("as-{format}.{format}"));
    }
    place.mevae(&format!("decompose {run} {} --out parts", names.join(" "))).ok();
    let stems: Vec<&str> = names.iter().map(|name| name.split('.').next().unwrap()).collect();
    assert_decomposition(&place, "parts", &stems, 4, 16);
}

#[test]
fn pictures_of_one_name_do_not_overwrite_each_other() {
    let (_shared, place, run) = beside();
    for name in ["a/x.png", "b/x.png", "c/x~2.png"] {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        page(64, 64).save(place.path(name)).unwrap();
    }
    for (folder, order) in [("one", "a/x.png b/x.png c/x~2.png"), ("two", "c/x~2.png a/x.png b/x.png")] {
        place.mevae(&format!("decompose {run} {order} --out {folder}")).ok();
        let records = place.json(format!("{folder}/entities.json"));
        let names = |key: &str| -> BTreeSet<String> {
            records.as_array().unwrap().iter().map(|r| r[key].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("input").len(), 3, "{order}: {:?}", names("input"));
        assert_eq!(names("file").len(), 12, "{order}: {:?}", names("file"));
    }
}

#[test]
fn scenes_of_a_recipe_and_of_an_archive_are_taken_apart() {
    let (shared, place, run) = beside();
    place.mevae(&format!("decompose {run} --scenes digits --count 2 --out recipe")).ok();
    assert_decomposition(&place, "recipe", &["scene-000", "scene-001"], 4, 16);
    let archive = shared.path("scenes.npz");
    place.mevae(&format!("decompose {run} --scenes {} --entities 7 --count 3 --out file", archive.display())).ok();
    assert_decomposition(&place, "file", &["scene-000", "scene-001", "scene-002"], 7, 16);
}

// ------------------------------------------------------------------------------------------- generate

/// How many pixels of two sheets of one size clearly differ.
fn clearly_different(a: &RgbImage, b: &RgbImage) -> usize {
    assert_eq!(a.dimensions(), b.dimensions());
    a.pixels().zip(b.pixels()).filter(|(a, b)| a.0.iter().zip(b.0).any(|(x, y)| x.abs_diff(y) > 12)).count()
}

#[test]
fn every_preset_generates_pictures_that_are_not_blank() {
    let shared = trained();
    // Scenes of a file, as the density of the multi-entity VAE is fitted to as many as there are. It must learn a little before
    // it finds entities at all, and nothing is learnt faster than without a price.
    let eager =
        "--steps 100 --set model.latent.beta=0.1 --set training.location_charge=0 --set training.learning_rate=3e-3";
    let archive = format!("{} {eager}", shared.path("scenes.npz").display());
    for (preset, scenes) in [
        ("autoencoder", "single --steps 30"),
        ("vae", "single --steps 30"),
        ("beta-vae", "single --steps 30"),
        ("multi-entity", &archive),
    ] {
        let place = Place::new();
        place.train(&format!("--preset {preset} --scenes {scenes} --out run --quiet")).ok();
        let sheet = |seed: u64, name: &str| {
            place.mevae(&format!("generate run --count 8 --seed {seed} --out {name}")).ok().says(&["8 images", name]);
            image::open(place.path(name)).unwrap().into_rgb8()
        };
        let (first, again, other) = (sheet(1, "1.png"), sheet(1, "again.png"), sheet(2, "2.png"));
        assert_eq!(first, again, "{preset}: the seed decides");
        // Title and frame are the same for all seeds, so what differs was drawn by the model.
        assert!(clearly_different(&first, &other) > 200, "{preset}: {}", clearly_different(&first, &other));
        let left: Vec<_> = fs::read_dir(place.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "{left:?}");
    }
}

#[test]
fn a_model_without_entities_has_nothing_to_generate_and_says_so() {
    let shared = trained();
    let place = Place::new();
    // At ten times the price of an entity's content, content is the first thing to go.
    let flags = "--steps 10 --set model.latent.beta=10 --set training.learning_rate=3e-3 --out run --quiet";
    place.train(&format!("--scenes {} {flags}", shared.path("scenes.npz").display())).ok();
    place.refuses("generate run --out new.png", 1, &["no entity", "train it longer"]);
}

// ----------------------------------------------------------------------------------------------- info

#[test]
fn info_describes_the_program_and_a_run() {
    let (_shared, place, run) = beside();
    place.mevae("info").ok().says(&[
        env!("CARGO_PKG_VERSION"),
        "CUDA",
        "autoencoder, vae, beta-vae, multi-entity",
        "survey",
    ]);
    let before = place.contents();
    place.mevae(&format!("info {run}")).ok().says(&[
        &run,
        "3 of 3",
        "64×64×1",
        "256 in a 16×16 grid",
        "4 kept",
        "ELBO",
        "[model.encoder]",
    ]);
    assert_eq!(before, place.contents());
}

// --------------------------------------------------------------------------------------------- scenes

#[test]
fn scenes_are_written_as_an_archive_that_reads_back() {
    let place = Place::new();
    for (recipe, split) in [
        (Recipe::Digits, Split::Train),
        (Recipe::Air, Split::Test),
        (Recipe::Survey, Split::General),
        (Recipe::Single, Split::Validation),
        (Recipe::Sprite, Split::Test),
        (Recipe::Sprites, Split::Train),
        (Recipe::Tetrominoes, Split::Test),
    ] {
        let file = format!("{recipe}.npz");
        let line = format!("scenes --recipe {recipe} --split {split} --count 5 --seed 9 --out {file}");
        place.mevae(&line).ok().says(&["5 scenes", &recipe.to_string(), &file]);
        let archive = Archive::read(&place.path(&file)).unwrap();
        assert_eq!((archive.len(), archive.shape()), (5, recipe.shape()));
        let source = SceneSource::from_recipe(recipe, DigitSet::builtin(), split, 9).unwrap();
        for index in 0..5 {
            assert_eq!(archive.scene(index as usize).unwrap(), source.scene(index).unwrap(), "{recipe} {index}");
        }
        let names: BTreeSet<String> = zip::ZipArchive::new(fs::File::open(place.path(&file)).unwrap())
            .unwrap()
            .file_names()
            .map(|name| name.unwrap().into_owned())
            .collect();
        let has_factors = matches!(recipe, Recipe::Sprite | Recipe::Sprites | Recipe::Tetrominoes);
        let members =
            ["images", "masks", "counts", "labels", "boxes"].into_iter().chain(has_factors.then_some("factors"));
        assert_eq!(names, members.map(|n| format!("{n}.npy")).collect());
    }
    // The same bytes again; another seed, others.
    let before = place.read("digits.npz");
    place.refuses("scenes --count 5 --out digits.npz", 2, &["digits.npz", "--overwrite"]);
    place.mevae("scenes --split train --count 5 --seed 9 --out digits.npz --overwrite").ok();
    assert_eq!(before, place.read("digits.npz"));
    place.mevae("scenes --split train --count 5 --seed 8 --out digits.npz --overwrite").ok();
    assert_ne!(before, place.read("digits.npz"));
}

#[test]
fn scenes_that_cannot_be_written_are_refused() {
    let place = Place::new();
    place.write("file", "");
    place.refuses("scenes --recipe aire --out q.npz", 2, &["did you mean \"air\""]);
    place.refuses("scenes --split tset --out q.npz", 2, &["validation"]);
    place.refuses("scenes --recipe air --split general --out q.npz", 1, &["survey"]);
    place.refuses("scenes --recipe single --split test --count 10001 --out q.npz", 2, &["10000"]);
    place.refuses("scenes --count 0 --out q.npz", 2, &["--count"]);
    place.refuses("scenes --count 99999999999 --out q.npz", 2, &["too many", "--seed"]);
    place.refuses("scenes --digits nowhere --out q.npz", 1, &["nowhere", "train-images-idx3-ubyte"]);
    place.refuses("scenes --count 3 --out nowhere/q.npz", 1, &["nowhere/q.npz", "check the path"]);
    place.refuses("scenes --count 3 --out file/q.npz", 1, &["file/q.npz"]);
    // It could not be read back: every reader tells an archive from a recipe by its name.
    place.refuses("scenes --count 3 --out q.npy", 2, &[".npz"]);
}

// ------------------------------------------------------------------------------------------ bad inputs

#[test]
fn what_is_no_run_is_named_and_nothing_is_written() {
    let place = Place::new();
    place.write("file", "not a run");
    fs::create_dir(place.path("empty")).unwrap();
    page(64, 64).save(place.path("page.png")).unwrap();
    for run in ["nowhere", "file", "empty"] {
        for line in [
            format!("evaluate {run} --json scores.json"),
            format!("info {run}"),
            format!("generate {run} --out new.png"),
            format!("decompose {run} page.png --out parts"),
            format!("train --resume {run}"),
        ] {
            place.refuses(&line, 1, &[run, "is no run", "mevae train"]);
        }
    }
}

#[test]
fn damaged_and_foreign_checkpoints_are_told_with_a_way_out() {
    let (_shared, place, run) = beside();
    page(64, 64).save(place.path("page.png")).unwrap();
    let whole = fs::read(Path::new(&run).join("checkpoints/last.safetensors")).unwrap();
    let foreign = {
        let header = br#"{"weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat()
    };
    let oversized = [&u64::MAX.to_le_bytes()[..], &[b' '; 100]].concat();
    for (name, bytes) in [
        ("cut", &whole[..whole.len() / 2]),
        ("cut-in-header", &whole[..500]),
        ("empty", &[]),
        ("foreign", &foreign),
        ("oversized", &oversized),
        ("text", b"not a checkpoint at all"),
    ] {
        copy_run(&run, &place, name);
        for file in ["last", "best"] {
            place.write(&format!("{name}/checkpoints/{file}.safetensors"), bytes);
        }
        for (line, file) in [
            (format!("evaluate {name} --json scores.json"), "best"),
            (format!("info {name}"), "best"),
            (format!("generate {name} --out new.png"), "best"),
            (format!("decompose {name} page.png --out parts"), "best"),
            (format!("train --resume {name}"), "last"),
        ] {
            let path = format!("{name}/checkpoints/{file}.safetensors");
            // What is wrong, and what to do: train anew.
            place.refuses(&line, 1, &[&path, "no usable checkpoint", "mevae train"]);
        }
    }
}

#[test]
fn a_checkpoint_of_another_model_or_a_later_format_is_refused() {
    let (_shared, place, run) = beside();
    copy_run(&run, &place, "changed");
    // Of the first format, which had no checksum that would tell of every change before it is read.
    let whole = with_metadata(&fs::read(Path::new(&run).join("checkpoints/best.safetensors")).unwrap(), |metadata| {
        metadata.insert("format".into(), "1".into());
        metadata.remove("checksum").unwrap();
    });
    let size = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&whole[8..8 + size]).unwrap();
    let with = |from: &str, to: &str| {
        assert!(header.contains(from), "{header}");
        let header = header.replacen(from, to, 1);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &whole[8 + size..]].concat()
    };
    for (from, to, phrases) in [
        ("dimensions = 16", "dimensions = 17", ["no usable checkpoint", "mevae train"]),
        ("\"format\":\"1\"", "\"format\":\"9\"", ["format 9", "update mevae"]),
        ("kind = \\\"union\\\"", "kind = \\\"onion\\\"", ["no usable checkpoint", "onion"]),
    ] {
        place.write("changed/checkpoints/best.safetensors", with(from, to));
        place.refuses("evaluate changed", 1, &phrases);
        place.refuses("generate changed --out new.png", 1, &phrases);
    }
}

#[test]
fn a_run_without_a_checkpoint_is_told_with_a_way_out() {
    let (_shared, place, run) = beside();
    copy_run(&run, &place, "bare");
    for file in ["last", "best"] {
        fs::remove_file(place.path(format!("bare/checkpoints/{file}.safetensors"))).unwrap();
    }
    for line in ["evaluate bare", "info bare", "generate bare --out new.png", "train --resume bare"] {
        place.refuses(line, 1, &["bare has no checkpoint yet", "--overwrite"]);
    }
}

#[test]
fn archives_that_cannot_be_read_are_refused_everywhere() {
    let (shared, place, run) = beside();
    let whole = shared.read("scenes.npz");
    place.write("cut.npz", &whole[..whole.len() / 2]);
    place.write("text.npz", "not an archive");
    place.write("empty.npz", "");
    for (file, phrase) in [
        ("cut.npz".to_string(), "numpy.savez"),
        ("text.npz".into(), "numpy.savez"),
        ("empty.npz".into(), "numpy.savez"),
        ("nowhere.npz".into(), "check the path"),
        ("sruvey".into(), "did you mean \"survey\""),
        (data("bad-missing.npz"), "images"),
        (data("bad-float.npz"), "astype(numpy.uint8)"),
        (data("bad-fortran.npz"), "ascontiguousarray"),
    ] {
        place.refuses(&format!("evaluate {run} --scenes {file} --json scores.json"), 1, &[&file, phrase]);
        place.refuses(&format!("decompose {run} --scenes {file} --out parts"), 1, &[&file, phrase]);
        place.refuses_training(&format!("--scenes {file} --out new"), 1, &[&file, phrase]);
    }
}

#[test]
fn scenes_of_another_shape_than_the_runs_are_refused() {
    let (_shared, place, run) = beside();
    for scenes in ["single".to_string(), data("plain.npz"), data("colour.npz")] {
        let phrases = ["64×64×1", &scenes, "choose other --scenes"];
        place.refuses(&format!("evaluate {run} --scenes {scenes} --json scores.json"), 1, &phrases);
        place.refuses(&format!("decompose {run} --scenes {scenes} --out parts"), 1, &phrases);
    }
    place.refuses(&format!("evaluate {run} --split general"), 1, &["general", "survey"]);
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

#[test]
fn unusable_digits_are_refused_before_anything_is_made() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    place.write("file", "");
    for folder in ["nowhere", "empty", "file"] {
        let phrases = [folder, "train-images-idx3-ubyte", "put the four"];
        place.refuses_training(&format!("--digits {folder} --out new"), 1, &phrases);
    }
    // A header that asks for 2 TiB and 200 GiB over a few bytes, more digits than follow, fewer than follow, other tiles.
    for (name, sizes, phrase) in [
        ("huge", [u32::MAX, 28, 28], ""),
        ("large", [300_000_000, 28, 28], ""),
        ("short", [27, 28, 28], "20"),
        ("long", [25, 28, 28], ""),
        ("tiles", [26, u32::MAX, u32::MAX], "28"),
        ("none", [0, 28, 28], ""),
    ] {
        write_digits(&place, name, 26, 3);
        let file = format!("{name}/train-images-idx3-ubyte");
        let mut bytes = place.read(&file);
        sizes.iter().enumerate().for_each(|(i, n)| bytes[4 + 4 * i..8 + 4 * i].copy_from_slice(&n.to_be_bytes()));
        place.write(&file, bytes);
        let started = Instant::now();
        place.refuses_training(&format!("--digits {name} --out new"), 1, &[&file, "no usable digit file", phrase]);
        place.refuses(&format!("scenes --digits {name} --out new.npz"), 1, &[&file]);
        assert!(started.elapsed() < Duration::from_secs(20), "{name}");
    }
}

#[test]
fn downloads_without_the_feature_say_what_works_instead() {
    if cfg!(feature = "hub") {
        return; // It would go to the network.
    }
    let place = Place::new();
    place.refuses_training("--digits mnist --out new", 1, &["hub", "--digits builtin", "--digits DIR"]);
}

#[test]
fn more_entities_than_candidates_and_none_are_wrong_use() {
    let (_shared, place, run) = beside();
    for entities in [0, 257] {
        let phrases = ["between 1 and the 256 candidates", &format!("not {entities}")];
        place.refuses_training(&format!("--entities {entities} --out new"), 2, &phrases);
        place.refuses(&format!("evaluate {run} --entities {entities}"), 2, &phrases);
        place.refuses(&format!("decompose {run} --scenes digits --entities {entities} --out parts"), 2, &phrases);
    }
    place.refuses_training("--preset vae --entities 2", 2, &["model.entities", "1×1 grid"]);
}

#[test]
fn unknown_and_inapplicable_keys_name_the_nearest_that_works() {
    let place = Place::new();
    for (flags, phrases) in [
        ("--set training.batchs=2", ["training.batchs", "did you mean \"training.batch\""]),
        ("--set trainig.batch=2", ["trainig.batch", "did you mean \"training.batch\""]),
        ("--set learning_rate=1", ["\"learning_rate\"", "training.learning_rate"]),
        // Nothing is like it: then say where the keys are listed.
        ("--set xyzzy=1", ["xyzzy", "--print-config"]),
        ("--set training.batch", ["training.batch", "key=value"]),
        ("--preset autoencoder --set model.latent.beta=2", ["model.latent.beta", "does not apply"]),
        ("--preset vae --set model.encoder.layers=[]", ["model.encoder.layers", "does not apply"]),
        ("--set model.compositor.kind=onion", ["onion", "union"]),
        ("--preset vea", ["vea", "multi-entity"]),
        ("--set model.selector.overlap=1.5", ["model.selector.overlap", "between 0 and 1"]),
        (
            "--set model.selector.overlap={from=1,to=1,warmup=0.1} --set model.compositor={kind=\"render\",features=2}",
            ["model.selector.overlap", "render"],
        ),
        ("--set model.selector.overlap=-0.5", ["model.selector.overlap", "negative"]),
        (
            "--set model.selector.overlap=0.5 --set model.compositor={kind=\"render\",features=2}",
            ["model.selector.overlap", "render"],
        ),
    ] {
        place.refuses_training(flags, 2, &phrases);
        place.refuses_training(&format!("{flags} --print-config"), 2, &phrases);
    }
}

#[test]
fn configuration_files_that_cannot_be_used_are_refused() {
    let place = Place::new();
    place.write("syntax.toml", "[training]\nbatch = = 3\n");
    place.write("key.toml", "[training]\nbatchs = 3\n");
    place.write("type.toml", "[training]\nclip = \"x\"\n");
    place.write("binary.toml", [0xff, 0xfe, 0x00]);
    place.refuses_training("--config syntax.toml --out new", 2, &["syntax.toml", "line 2"]);
    place.refuses_training("--config key.toml --out new", 2, &["key.toml", "did you mean \"training.batch\""]);
    place.refuses_training("--config type.toml --out new", 2, &["type.toml", "clip"]);
    place.refuses_training("--config nowhere.toml --out new", 1, &["nowhere.toml", "check the "]);
    place.refuses_training("--config . --out new", 1, &["`.` is no ordinary file", "give the path of one"]);
    assert!(matches!(place.train("--config binary.toml --out new").code, Some(1 | 2)));
    assert!(!place.path("new").exists());
}

#[test]
fn values_that_cannot_work_are_wrong_use() {
    let place = Place::new();
    for (flags, phrases) in [
        ("--steps 0", ["training.steps", "at least 1"]),
        ("--batch 0", ["training.batch", "between 1 and"]),
        ("--batch 100000", ["training.batch", "between 1 and"]),
        ("--batch 65536 --entities 255", ["training.batch", "lower"]),
        ("--entities 256", ["model.entities", "at most 255"]),
        ("--set model.selector.radius=-1 --print-config", ["model.selector.radius", "negative"]),
        ("--batch 99999999999999999999", ["--batch", "too large"]),
        ("--steps=-1", ["--steps", "-1"]),
        ("--steps ten", ["--steps", "ten"]),
        ("--threads 0", ["--threads", "between 1 and"]),
        ("--set training.learning_rate=nan", ["training.learning_rate", "finite"]),
        ("--set training.learning_rate=inf", ["training.learning_rate", "finite"]),
        ("--set training.learning_rate=-1", ["training.learning_rate", "negative"]),
        ("--set training.clip=nan", ["training.clip", "positive"]),
        ("--set training.clip=x", ["in `training.clip`", "expected a number\n"]),
        ("--set training.seed=-1", ["in `training.seed`", "expected a whole number, 0 or more\n"]),
        ("--set model.latent=3", ["in `model.latent`", "expected a table with a `kind`\n"]),
        ("--set model.encoder.layers=[1]", ["in `model.encoder`", "expected a table\n"]),
        ("--set model.selector.rank_by=light", ["unknown value `light`", "`kl`, `brightness`"]),
        ("--set model.latent.dimensions=0", ["model.latent.dimensions", "between 1 and"]),
        ("--set model.latent.dimensions=9999999999", ["model.latent.dimensions", "between 1 and"]),
        ("--device gpu", ["--device", "cuda:N"]),
        ("--device cuda:-1", ["--device", "cuda:N"]),
        ("--seconds=-1", ["--seconds", "negative"]),
        // Written as everyone would.
        ("--seconds -1", ["--seconds", "negative"]),
        ("--seconds nan", ["--seconds", ""]),
        ("--seconds soon", ["--seconds", "soon"]),
        ("--resume run", ["--resume", "cannot be used with"]),
    ] {
        let before = place.contents();
        let mut args = training(flags);
        if flags == "--device gpu" || flags.starts_with("--device") {
            let given = args.iter().position(|arg| *arg == "--device").unwrap();
            args.drain(given..given + 2);
        }
        if flags.starts_with("--resume") {
            args.extend(["--steps", "3"]);
        }
        place.run(args).fails(2, &phrases);
        assert_eq!(before, place.contents(), "{flags}");
    }
}

/// A batch that is allowed one by one but needs more memory than machines have is refused, not tried.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_no_memory_holds_is_refused_before_it_is_tried() {
    let place = Place::new();
    let args = training("--preset multi-entity --batch 60000 --out new").join(" ");
    // Were it tried, the limit would end it before it ends the machine.
    let mut command = Command::new("sh");
    command.current_dir(place.0.path()).env_remove("RUST_BACKTRACE");
    command.args(["-c", &format!("ulimit -v 8000000; exec {} {args}", env!("CARGO_BIN_EXE_mevae"))]);
    Outcome::of(&mut command).fails(2, &["training.batch", "too large", "lower"]);
    assert!(!place.path("new").exists());
}

#[test]
fn a_device_that_is_not_there_is_a_failure_with_a_way_out() {
    let (_shared, place, run) = beside();
    for line in [
        "train --preset vae --steps 1 --out new".to_string(),
        format!("train --resume {run}"),
        format!("evaluate {run}"),
        format!("generate {run} --out new.png"),
        format!("decompose {run} --scenes digits --out parts"),
        format!("disentanglement {run}"),
        format!("plot {run} manifold"),
        format!("reproduce {run} --quiet"),
        "study --out study --quiet".to_string(),
    ] {
        let why = if cfg!(feature = "cuda") { "nvidia-smi" } else { "build with `--features cuda`" };
        place.refuses(&format!("{line} --device cuda:99"), 1, &["no CUDA device 99: ", why, "--device cpu"]);
    }
    // Nor does the CPU have the formats of a GPU.
    place.refuses("train --steps 1 --out new --device cpu --tf32", 2, &["--tf32: the CPU", "--device cuda:N"]);
}

#[test]
fn the_device_is_told_and_recorded_and_may_change_between_sittings() {
    let place = Place::new();
    let train =
        "train --preset vae --steps 3 --batch 4 --set training.validation_scenes=8 --set training.evaluation_scenes=8";
    place.mevae(&format!("{train} --seconds 0 --device cpu --out run")).ok().says(&[" CPU thread"]);
    let info = place.mevae("info").ok();
    assert!(
        info.out.contains("device, auto") && info.out.contains(" (") && !info.err.contains("panicked"),
        "{}",
        info.out
    );
    // Where this build or machine has no CUDA, `auto` is the CPU, to the last bit.
    if info.out.contains("device, auto   cpu") {
        let auto = place.mevae(&format!("{train} --seconds 0 --out auto")).ok();
        assert_eq!(auto.err.contains("device: cpu"), cfg!(feature = "cuda"), "{}", auto.err);
        assert!(!auto.err.contains("panicked"), "{}", auto.err);
        let weights = |run| place.read(format!("{run}/checkpoints/last.safetensors"));
        assert_same_tensors(&weights("run"), &weights("auto"), "cpu and auto");
    }
    // Portable instructions stand for another device: they are another maker of the same run.
    let resume = ["train", "--resume", "run", "--device", "cpu"];
    let said = Outcome::of(place.command(resume).env("MEVAE_SIMD", "portable")).ok().err;
    if !place.mevae("info run").ok().out.matches("computed by").count().eq(&1) {
        assert!(said.contains("earlier sittings were computed by") && said.contains("this one by"), "{said}");
        place.mevae("info run").ok().says(&["portable"]);
    }
}

#[test]
fn a_training_that_diverges_names_step_and_term() {
    let place = Place::new();
    let outcome = place.train("--preset vae --set training.learning_rate=1e30 --quiet --out new --steps 9");
    outcome.fails(1, &["step 2: the ", " is NaN", "lower training.learning_rate"]);
}

#[test]
fn a_refused_stream_of_scenes_leaves_no_folder() {
    let place = Place::new();
    let flags = format!("--scenes {} --entities 1 --set data.fresh=true", data("plain.npz"));
    let phrases = ["plain.npz", "without fresh scenes"];
    place.refuses_training(&format!("{flags} --out new"), 1, &phrases);
    place.refuses_training(&flags, 1, &phrases);
}

#[test]
fn places_that_cannot_be_written_are_failures() {
    let (_shared, place, run) = beside();
    page(64, 64).save(place.path("page.png")).unwrap();
    // Below a file no folder can be, whoever asks.
    place.write("file", "kept");
    place.refuses_training("--preset vae --out file/run", 1, &["cannot create", "file/run"]);
    place.refuses(&format!("decompose {run} page.png --out file/parts"), 1, &["cannot create", "file/parts"]);
    place.refuses(&format!("decompose {run} page.png --out file"), 1, &["cannot create", "file"]);
    place.refuses(&format!("evaluate {run} --json file/scores.json"), 1, &["cannot create `file/scores.json`"]);
    place.refuses(&format!("evaluate {run} --json nowhere/scores.json"), 1, &["cannot create `nowhere/scores.json`"]);
    // The file that was asked for, not one that nobody has heard of.
    place.train("--preset vae --out vae --quiet").ok();
    place.refuses("generate vae --out nowhere/new.png", 1, &["cannot create `nowhere/new.png`", "folder exists"]);
    place.write("runs", "a file");
    place.refuses_training("--preset vae", 1, &["runs"]);
}

#[test]
fn what_is_no_picture_is_refused_and_nothing_is_written() {
    let (_shared, place, run) = beside();
    page(64, 64).save(place.path("page.png")).unwrap();
    let whole = place.read("page.png");
    place.write("cut.png", &whole[..whole.len() / 2]);
    place.write("text.txt", "not a picture");
    place.write("text.png", "not a picture");
    place.write("empty.png", "");
    fs::create_dir(place.path("folder")).unwrap();
    for (name, phrase) in [
        ("cut.png", "damaged or cut off"),
        ("text.txt", "convert it to PNG"),
        ("text.png", "damaged or cut off"),
        ("empty.png", "empty.png"),
        ("folder", "is a folder"),
        ("nowhere.png", "there is no file"),
    ] {
        place.refuses(&format!("decompose {run} {name} --out parts"), 1, &[name, phrase]);
        // A good one before it changes nothing.
        place.refuses(&format!("decompose {run} page.png {name} --out parts"), 1, &[name, phrase]);
    }
    place.refuses(&format!("decompose {run} --out parts"), 2, &["picture", "--scenes"]);
    place.refuses(&format!("decompose {run} page.png --scenes digits --out parts"), 2, &["--scenes"]);
    place.refuses(&format!("decompose {run} page.png"), 2, &["--out"]);
    place.refuses(&format!("generate {run} --out new.jpg"), 2, &[".png", "mevae generate --help"]);
    place.refuses(&format!("edit {run} --remove 1 --out new.jpg"), 2, &[".png"]);
    place.refuses(&format!("evaluate {run} --worst 1 --out new.jpg"), 2, &[".png"]);
    place.refuses(&format!("generate {run} --count -3 --out new.png"), 2, &["-3", "--count"]);
    place.refuses(&format!("generate {run} --count 0 --out new.png"), 2, &["--count"]);
    place.refuses(&format!("evaluate {run} --count 0"), 2, &["--count"]);
    place.refuses(&format!("evaluate {run} --split tset"), 2, &["validation"]);
}

/// A reader that goes away early is no failure.
#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_output_quietly() {
    let place = Place::new();
    for args in [&["info"][..], &["train", "--print-config"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(args);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && err.is_empty(), "{args:?}: {err}");
    }
    std::io::stdout().flush().unwrap();
}

#[test]
fn instruction_sets_agree_and_wrong_ones_are_refused() {
    let place = Place::new();
    let losses = |set: &str| -> Vec<f64> {
        let out = format!("run-{set}");
        // A model that selects nothing: which of two nearly equal candidates is kept, the last bit may decide.
        let mut args = training("--preset vae --steps 20 --batch 4 --set training.validate_every=20");
        args.extend(["--out", &out]);
        Outcome::of(place.command(args).env("MEVAE_SIMD", set)).ok();
        let lines = String::from_utf8(place.read(format!("{out}/metrics.jsonl"))).unwrap();
        let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter(|row| row["kind"] == "step").map(|row| row["loss"].as_f64().unwrap()).collect()
    };
    let portable = losses("portable");
    assert_eq!(portable.len(), 2);
    for set in ["avx2", "avx512"] {
        if Outcome::of(place.command(["info", "nowhere"]).env("MEVAE_SIMD", set)).err.contains("lacks") {
            continue; // not on this processor
        }
        for (a, b) in losses(set).into_iter().zip(&portable) {
            assert!((a / b - 1.0).abs() < 1e-4, "{set}: {a}, portable: {b}");
        }
    }
    let wrong = Outcome::of(place.command(["info", "nowhere"]).env("MEVAE_SIMD", "avx1024"));
    wrong.fails(2, &["MEVAE_SIMD", "avx1024", "avx512, avx2, portable"]);
}
