//! Runs that survive: killed, stopped, out of space, damaged, and taken up again to the same end.

mod ending;
mod kills;
#[cfg(target_os = "linux")]
mod places;
mod stops;

use crate::cli::{Outcome, Place, tensors, trained, with_metadata};
use candle_core::{Device, Tensor};
use ending::Ending;
use multi_entity_vae::config::Config;
use multi_entity_vae::run::{Checkpoint, CheckpointError};
use multi_entity_vae::train::Trainer;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A small training that uses everything a resumed one must find again: drawn pixels, moving schedules, a selection, validations, a
/// best that is not the last, and checkpoints that are kept.
const CONFIG: &str = r#"
[data]
scenes = "air"
binarisation = "dynamic"

[model]
entities = 2

[model.encoder]
layers = [{ channels = 6, kernel = 10, stride = 10 }]

[model.latent]
kind = "gaussian"
dimensions = 3
beta = { from = 0.5, to = 1.0 }

[model.selector]
radius = { from = 1.0, to = 0.0 }

[model.decoder]
placement = { kind = "glimpse", patch = 16 }
trunk = { kind = "dense", hidden = [8], activation = "relu" }

[training]
steps = 40
batch = 4
learning_rate = { from = 3e-2, to = 1e-3, shape = "cosine", warmup = 0.1 }
validate_every = 4
validation_scenes = 8
evaluation_scenes = 16
log_every = 3
location_charge = 0.0
idle_beta = { from = 0.01, to = 0.0 }
"#;

/// Keys of `[training]` that came after the first format of checkpoints.
const NEWER: [&str; 6] = ["log_every", "keep_last", "on_nonfinite", "start_from", "apart", "silence"];

/// A folder with that configuration in `config.toml`.
fn place() -> Place {
    let place = Place::new();
    place.write("tiny.toml", CONFIG);
    place
}

/// Starts that training in a folder.
fn start(folder: &str, more: &str) -> Vec<String> {
    words(&format!("train --config tiny.toml --device cpu --quiet --threads 1 --out {folder} {more}"))
}

/// Goes on with it.
fn resume(folder: &str, more: &str) -> Vec<String> {
    words(&format!("train --resume {folder} --device cpu --quiet --threads 1 {more}"))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(String::from).collect()
}

// -------------------------------------------------------------------------------------------- threads

#[test]
fn whole_run_folders_do_not_depend_on_threads() {
    let place = place();
    let ending = |threads: usize| {
        let folder = format!("on-{threads}");
        let args = words(&format!("train --config tiny.toml --device cpu --quiet --threads {threads} --out {folder}"));
        place.run(args).ok();
        Ending::of(&place.path(folder))
    };
    let one = ending(1);
    for threads in [2, 3, 7] {
        one.assert_same(&ending(threads), &format!("{threads} threads"));
    }
}

// ------------------------------------------------------------------------------------------- damage

/// The shared run's last checkpoint.
fn checkpoint() -> Vec<u8> {
    trained().read("run/checkpoints/last.safetensors")
}

fn load(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    fs::write(&path, bytes).unwrap();
    Checkpoint::load(&path)
}

#[test]
fn a_checkpoint_that_is_cut_or_flipped_anywhere_is_noticed_and_named() {
    let place = place();
    place.run(start("run", "")).ok();
    let whole = place.read("run/checkpoints/last.safetensors");
    load(&whole).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let noticed = |bytes: &[u8], what: &str| {
        let error = load(bytes).map(drop).expect_err(what);
        assert!(matches!(error, CheckpointError::Damaged { .. } | CheckpointError::Newer { .. }), "{what}: {error}");
        assert!(error.to_string().contains("last.safetensors"), "{what}: {error}");
    };
    for percent in 0..100 {
        let at = whole.len() * percent / 100;
        noticed(&whole[..at], &format!("cut at {percent} %"));
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            noticed(&flipped, &format!("bit {bit} at {percent} %"));
        }
    }
    // The header is small, and all of it matters.
    for at in 0..header {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        noticed(&flipped, &format!("byte {at} of the header"));
    }
    noticed(&[&whole[..], &[0]].concat(), "a byte too many");
}

#[test]
fn a_damaged_last_checkpoint_is_passed_over_to_the_same_end() {
    let place = place();
    place.run(start("whole", "")).ok();
    let ending = Ending::of(&place.path("whole"));
    for (case, kept) in [("flipped", true), ("cut", true), ("gone", true), ("kept-flipped-too", false)] {
        place.run(start(case, "--seconds 0")).ok();
        // So that checkpoints of several steps are there.
        for _ in 0..9 {
            place.run(resume(case, "--seconds 0")).ok();
        }
        let file = format!("{case}/checkpoints/last.safetensors");
        let last = place.read(&file);
        let middle = last.len() / 2;
        match case {
            "gone" => fs::remove_file(place.path(&file)).unwrap(),
            "cut" => place.write(&file, &last[..middle]),
            _ => flip(&place, &file),
        }
        if !kept {
            fs::read_dir(place.path(format!("{case}/checkpoints"))).unwrap().for_each(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.starts_with("step-") {
                    flip(&place, &format!("{case}/checkpoints/{name}"));
                }
            });
        }
        let outcome = place.run(resume(case, "")).ok().says(&["warning: ", "checkpoint", "the end will be the same"]);
        // The newest: the best, if that is of step 10, or else the one kept before it.
        let step: u64 =
            outcome.err.split("Going back to step ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        assert!(if kept { step >= 9 } else { step <= 10 }, "{case}: {step}");
        // `--seconds` adds validations, so that the best may be another.
        ending.assert_same_weights(&Ending::of(&place.path(case)), case);
    }
}

/// Flips a bit in the middle of a file.
fn flip(place: &Place, file: &str) {
    let mut bytes = place.read(file);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 16;
    // A new file: the old one may have a second name.
    fs::remove_file(place.path(file)).unwrap();
    place.write(file, bytes);
}

#[test]
fn a_damaged_best_checkpoint_is_told_with_another_to_use() {
    let place = place();
    place.run(start("run", "")).ok();
    flip(&place, "run/checkpoints/best.safetensors");
    place.refuses("evaluate run", 1, &["best.safetensors is no usable checkpoint", "checksum", "step 40"]);
    let said = place.mevae("evaluate run").err;
    let other = said.split("name ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert_eq!(other, "run/checkpoints/last.safetensors");
    for line in [
        format!("evaluate {other} --count 4"),
        format!("info {other}"),
        format!("decompose {other} --scenes air --count 1 --out parts"),
    ] {
        place.mevae(&line).ok();
    }
    // A resumed run goes on without it, and ends with the last in its place.
    place.run(resume("run", "")).ok().says(&["best.safetensors", "sought anew"]);
}

#[test]
fn a_run_goes_on_from_any_of_its_checkpoints() {
    let place = place();
    place.run(start("run", "")).ok();
    let ending = Ending::of(&place.path("run"));
    let info = place.mevae("info run").ok();
    info.says(&[
        "40 of 40",
        "step-0000032.safetensors",
        "step 32",
        "step-0000036.safetensors",
        "step 36",
        "computed by",
    ]);
    for from in ["step-0000036", "step-0000032"] {
        place.run(resume(&format!("run/checkpoints/{from}.safetensors"), "")).ok();
        ending.assert_same(&Ending::of(&place.path("run")), from);
    }
}

#[test]
fn a_run_that_went_back_holds_nothing_of_what_it_gave_up_and_can_be_stopped_on_the_way() {
    let place = place();
    place.run(start("run", "--set training.keep_last=9")).ok();
    let ending = Ending::of(&place.path("run"));
    let checkpoint = |name: &str| Checkpoint::load(&place.path(format!("run/checkpoints/{name}.safetensors"))).unwrap();
    // After half of the steps the radius has another value, and what was the best before counts no more.
    assert!(checkpoint("best").progress.step > 20);

    // Stopped before anything was trained: what records the logs' lengths is already the earlier one.
    let events = fs::read_dir(place.path("run")).unwrap().map(|entry| entry.unwrap().path());
    let events = events.into_iter().find(|path| path.to_string_lossy().contains("events.out")).unwrap();
    fs::rename(&events, place.path("aside")).unwrap();
    place.run(resume("run/checkpoints/step-0000020.safetensors", "")).fails(1, &["events.out"]);
    fs::rename(place.path("aside"), &events).unwrap();
    place.run(resume("run", "")).ok();
    ending.assert_same(&Ending::of(&place.path("run")), "stopped while going back");

    // The best of later steps goes with them.
    let outcome = place.run(resume("run/checkpoints/step-0000016.safetensors", "--seconds 0")).ok();
    outcome.says(&["best.safetensors of step ", "is given up"]);
    let last = checkpoint("last").progress;
    assert!(last.step == 17 && last.best.unwrap().1 <= 17);
    let best = place.path("run/checkpoints/best.safetensors");
    assert!(!best.exists() || Checkpoint::load(&best).unwrap().progress.step == last.best.unwrap().1);
    place.mevae("evaluate run --count 4").ok();
    for _ in 17..21 {
        place.run(resume("run", "--seconds 0")).ok();
    }
    assert_eq!((checkpoint("best").progress.step, checkpoint("last").progress.best.unwrap().1), (21, 21));
    fs::remove_file(best).unwrap();
    place.run(resume("run", "")).ok().says(&["best.safetensors is gone", "step 21"]);
    ending.assert_same_weights(&Ending::of(&place.path("run")), "went back");
}

#[test]
fn as_many_checkpoints_are_kept_as_were_asked_for() {
    let place = place();
    for (keep, steps) in [(0, &[][..]), (1, &[36]), (4, &[24, 28, 32, 36])] {
        let folder = format!("keep-{keep}");
        place.run(start(&folder, &format!("--set training.keep_last={keep}"))).ok();
        let mut names: Vec<String> = fs::read_dir(place.path(format!("{folder}/checkpoints")))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut expected = vec!["best.safetensors".to_string(), "last.safetensors".into()];
        expected.extend(steps.iter().map(|step| format!("step-{step:07}.safetensors")));
        assert_eq!(names, expected);
        for step in steps {
            let kept =
                Checkpoint::load(&place.path(format!("{folder}/checkpoints/step-{step:07}.safetensors"))).unwrap();
            assert_eq!(kept.progress.step, *step);
        }
    }
    place.refuses("train --config tiny.toml --set training.keep_last=1001", 2, &["training.keep_last", "1000"]);
    place.refuses("train --config tiny.toml --set training.log_every=0", 2, &["training.log_every", "at least 1"]);
}

#[test]
fn weights_that_are_not_finite_are_never_saved_over_a_good_checkpoint() {
    let place = place();
    place.run(start("run", "")).ok();
    let path = place.path("run/checkpoints/last.safetensors");
    let before = fs::read(&path).unwrap();
    let saved = Checkpoint::load(&path).unwrap();
    for (tensor, in_optimiser) in [("encoder.0.weight", false), ("square.encoder.0.weight", true)] {
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let (mut weights, mut optimiser) = (saved.weights.clone(), saved.optimiser.clone());
            let spoilt = if in_optimiser { &mut optimiser } else { &mut weights };
            let shape = spoilt[tensor].shape().clone();
            spoilt.insert(tensor.into(), Tensor::full(value, shape, &Device::Cpu).unwrap());
            let mut trainer = Trainer::new(saved.config.clone(), saved.image, &Device::Cpu).unwrap();
            trainer.restore(&weights, &optimiser, saved.progress.steps()).unwrap();
            let error = Checkpoint::save(&path, &trainer, &saved.progress).unwrap_err().to_string();
            for phrase in ["step 40", tensor, "nothing was saved over", "last.safetensors"] {
                assert!(error.contains(phrase), "{error}");
            }
            assert!(fs::read(&path).unwrap() == before);
        }
    }
    assert_eq!(fs::read_dir(place.path("run/checkpoints")).unwrap().count(), 4, "a temporary file is left");
}

#[test]
fn a_training_that_diverges_says_where_it_is_saved_and_leaves_out_updates_when_told() {
    let place = place();
    let diverging = "--set training.learning_rate=1e30 --set model.latent.beta=1";
    let outcome = place.run(start("run", diverging));
    outcome
        .fails(1, &["step 2: the ", "saved up to step 0 in run/checkpoints/last.safetensors", "--on-nonfinite skip"]);
    let outcome = place.run(resume("run", "--on-nonfinite skip"));
    outcome.fails(1, &["step 11: the ", "update 10 in a row", "Train anew"]);
    assert!(place.text("run/config.toml").contains("on_nonfinite = \"skip\""));
    assert!(step_rows(&place.path("run")).iter().all(|row| row["skipped"] == row["step"].as_u64().unwrap() - 1));
    place.run(start("fresh", &format!("{diverging} --on-nonfinite skip"))).fails(1, &["in a row"]);
    place.refuses("train --on-nonfinite go", 2, &["--on-nonfinite", "stop or skip"]);
}

#[test]
fn a_reproduced_run_is_compared_and_a_difference_told() {
    let place = place();
    place.run(start("run", "")).ok();
    place.mevae("reproduce run --quiet").ok().says(&[
        "weights ",
        "optimiser ",
        "13 rows",
        "10 rows",
        "evaluation ",
        "same ",
    ]);
    place.mevae("reproduce run --out again --threads 2 --quiet").ok();
    Ending::of(&place.path("run")).assert_same(&Ending::of(&place.path("again")), "again");
    place.refuses("reproduce run --out again --quiet", 1, &["again already holds a run; choose another --out"]);

    // Interrupted in the meantime, it is the same run.
    place.run(start("parts", "--seconds 0")).ok();
    place.refuses("reproduce parts", 1, &["not finished", "step 1 of 40", "mevae train --resume parts"]);
    place.run(resume("parts", "")).ok();
    let outcome = place.mevae("reproduce parts --quiet").ok();
    assert!(!outcome.out.contains("DIFFERENT"), "{}", outcome.out);

    // Another seed, or other instructions.
    let text = place.text("run/config.toml");
    place.write("run/config.toml", text.replace("seed = 0", "seed = 1"));
    let said = |outcome: Outcome, phrases: &[&str]| {
        assert_eq!(outcome.code, Some(1), "{}", outcome.err);
        outcome.says(phrases);
    };
    let phrases = ["weights ", "DIFFERENT", "does not come out the same", "config.toml is not the configuration"];
    said(place.mevae("reproduce run --quiet"), &phrases);
    place.write("run/config.toml", text);
    if multi_entity_vae::layers::Instructions::in_use().unwrap().name() != "portable" {
        let mut command = place.command(["reproduce", "run", "--quiet"]);
        let outcome = Outcome::of(command.env("MEVAE_SIMD", "portable"));
        said(outcome, &["DIFFERENT", "a possible reason: the run was computed by mevae", "portable"]);
    }
}

#[test]
fn checkpoints_of_the_first_format_are_read_and_continued() {
    let place = place();
    place.run(start("whole", "")).ok();
    place.run(start("old", "--seconds 0")).ok();
    for file in ["last", "best"] {
        let file = format!("old/checkpoints/{file}.safetensors");
        let old = with_metadata(&place.read(&file), |metadata| {
            metadata.insert("format".into(), "1".into());
            metadata.remove("checksum").unwrap();
            let mut progress: Value = serde_json::from_str(&metadata["progress"]).unwrap();
            for entry in ["skipped", "validation_due", "makers"] {
                progress.as_object_mut().unwrap().remove(entry).unwrap();
            }
            metadata.insert("progress".into(), progress.to_string());
            let config = &metadata["config"];
            let old = config.lines().filter(|line| !NEWER.iter().any(|key| line.starts_with(key)));
            metadata.insert("config".into(), old.collect::<Vec<_>>().join("\n"));
        });
        fs::remove_file(place.path(&file)).unwrap();
        place.write(&file, old);
    }
    place.mevae("info old").ok().says(&["1 of 40"]);
    place.run(resume("old", "")).ok();
    let weights = |run: &str| tensors(&place.read(format!("{run}/checkpoints/last.safetensors")));
    assert!(weights("whole") == weights("old"));
    // A file of today without its checksum is none of the first format.
    let bare = with_metadata(&checkpoint(), |metadata| drop(metadata.remove("checksum")));
    assert!(load(&bare).unwrap_err().to_string().contains("checksum"));
    let zero = with_metadata(&checkpoint(), |metadata| drop(metadata.insert("format".into(), "0".into())));
    assert!(load(&zero).is_err());
}

#[test]
fn a_configuration_without_the_newer_keys_has_their_defaults() {
    let text = trained().text("run/config.toml");
    let old: Vec<_> = text.lines().filter(|line| !NEWER.iter().any(|key| line.starts_with(key))).collect();
    assert_eq!(old.len() + NEWER.len(), text.lines().count());
    let read = |text: &str| Config::from_toml("config.toml", text).unwrap();
    assert_eq!(read(&old.join("\n")), read(&text));
    // What a key is for that this version does not know, it cannot know.
    for (part, key) in [("training", "training.uncovered"), ("data", "data.uncovered"), ("model", "model.uncovered")] {
        let newer = text.replacen(&format!("[{part}]"), &format!("[{part}]\nuncovered = 0.5"), 1);
        let error = Config::from_toml("config.toml", &newer).unwrap_err().to_string();
        assert!(error.contains(&format!("this version of the program has no key \"{key}\"")), "{error}");
    }
    // It is no damage: another copy of such a checkpoint would not help.
    let foreign = with_metadata(&checkpoint(), |metadata| {
        metadata.insert("format".into(), "1".into());
        metadata.insert("config".into(), text.replacen("[data]", "[data]\nuncovered = 0.5", 1));
    });
    let error = load(&foreign).unwrap_err().to_string();
    assert!(error.contains("data.uncovered") && error.contains("the version of mevae that wrote it"), "{error}");
    assert!(!error.contains("copy"), "{error}");
}

// ------------------------------------------------------------------------------------------ one at a time

#[cfg(unix)]
#[test]
fn a_second_training_in_a_folder_is_refused_and_a_dead_one_leaves_no_lock() {
    let place = place();
    let mut child = stops::endless(&place, "run");
    let refused = |outcome: Outcome| outcome.fails(1, &["run is in use by another training", "--out"]);
    refused(place.run(resume("run", "")));
    refused(place.run(start("run", "--overwrite")));
    place.mevae("info run").ok();
    child.kill().unwrap();
    child.wait().unwrap();
    place.run(resume("run", "--seconds 0")).ok();
}

/// What metrics say of a step.
fn step_rows(folder: &Path) -> Vec<Value> {
    let rows = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    rows.lines().map(|row| serde_json::from_str(row).unwrap()).filter(|row: &Value| row["kind"] == "step").collect()
}

#[test]
fn steps_are_logged_as_often_as_asked() {
    let place = place();
    place.run(start("run", "--set training.log_every=7")).ok();
    let steps: Vec<Value> = step_rows(&place.path("run")).iter().map(|row| row["step"].clone()).collect();
    assert_eq!(json!(steps), json!([7, 14, 21, 28, 35]));
}
