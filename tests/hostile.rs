//! The program under a user who means harm: paths that lead to no file, files that never end, numbers beyond all reason, runs made
//! to reach out of their folder. Every command must end soon, in little memory, with a message and the exit code of a failure.
#![cfg(target_os = "linux")]

use crate::cli::{Outcome, Place, beside, copy_run, training};
use multi_entity_vae::run::Checkpoint;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs the program for at most two minutes in at most 4 GB of address space; most of it is what its threads reserve.
fn run(place: &Place, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
    let mut command = Command::new("sh");
    let bounded = "ulimit -v 4000000; exec timeout 120 \"$0\" \"$@\"";
    command.args(["-c", bounded, env!("CARGO_BIN_EXE_mevae")]).args(args);
    command.current_dir(place.path("")).env_remove("RUST_BACKTRACE").stdin(Stdio::null());
    Outcome::of(&mut command)
}

fn refused(place: &Place, line: &str, code: i32, phrases: &[&str]) {
    run(place, line.split_whitespace()).fails(code, phrases);
}

/// `mevae train`, tiny, with these flags.
fn training_refused(place: &Place, flags: &str, code: i32, phrases: &[&str]) {
    run(place, training(flags)).fails(code, phrases);
    assert!(!place.path("new").exists(), "{flags} left a run");
}

fn pipe(place: &Place, name: &str) {
    let made = Command::new("mkfifo").arg(place.path(name)).status().unwrap();
    assert!(made.success());
}

/// Links and pipes that lead to no end.
fn traps(place: &Place) {
    pipe(place, "pipe");
    pipe(place, "pipe.npz");
    pipe(place, "pipe.png");
    symlink("loop", place.path("loop")).unwrap();
    symlink("loop.npz", place.path("loop.npz")).unwrap();
    symlink("/dev/zero", place.path("endless")).unwrap();
    symlink("/dev/zero", place.path("endless.npz")).unwrap();
    symlink("/dev/zero", place.path("endless.png")).unwrap();
    fs::create_dir(place.path("folder")).unwrap();
    fs::create_dir(place.path("folder.npz")).unwrap();
}

#[test]
fn what_never_ends_is_not_read() {
    let (_shared, place, run) = beside();
    traps(&place);
    for path in ["pipe", "endless", "folder", "/dev/zero"] {
        training_refused(&place, &format!("--config {path} --out new"), 1, &[path, "no ordinary file"]);
    }
    training_refused(&place, "--config loop --out new", 1, &["loop", "symbolic links"]);
    for path in ["pipe.npz", "endless.npz", "folder.npz"] {
        training_refused(&place, &format!("--scenes {path} --out new"), 1, &[path, "no ordinary file"]);
        refused(&place, &format!("evaluate {run} --scenes {path}"), 1, &[path, "no ordinary file"]);
    }
    training_refused(&place, "--scenes loop.npz --out new", 1, &["loop.npz", "symbolic links"]);
    for path in ["pipe", "endless", "loop", "/dev/zero"] {
        training_refused(&place, &format!("--digits {path} --out new"), 1, &[path, "train-images"]);
    }
    for path in ["pipe.png", "endless.png", "/dev/zero", "loop"] {
        refused(&place, &format!("decompose {run} {path} --out parts"), 1, &[path]);
    }
    for path in ["pipe", "endless", "loop", "/dev/zero"] {
        for verb in ["info", "evaluate", "train --resume", "generate --out new.png"] {
            refused(&place, &format!("{verb} {path}"), 1, &[path, "is no run"]);
        }
    }
}

#[test]
fn a_run_whose_files_never_end_is_not_read() {
    let (_shared, place, run) = beside();
    for trap in ["pipe", "endless", "huge"] {
        copy_run(&run, &place, trap);
        for name in ["last", "best"] {
            let name = format!("{trap}/checkpoints/{name}.safetensors");
            fs::remove_file(place.path(&name)).unwrap();
            match trap {
                "pipe" => pipe(&place, &name),
                "endless" => symlink("/dev/zero", place.path(&name)).unwrap(),
                _ => fs::File::create(place.path(&name)).unwrap().set_len(1 << 40).unwrap(),
            }
        }
        for verb in ["info", "evaluate", "train --resume", "generate --out new.png"] {
            refused(&place, &format!("{verb} {trap}"), 1, &[trap, "safetensors"]);
        }
    }
    copy_run(&run, &place, "scores");
    symlink("/dev/zero", place.path("scores/evaluation.json")).unwrap();
    refused(&place, "info scores", 1, &["evaluation.json", "no ordinary file"]);
    fs::remove_file(place.path("scores/evaluation.json")).unwrap();
    place.write("scores/evaluation.json", "{\"scenes\":1}");
    refused(&place, "info scores", 1, &["evaluation.json", "no scores"]);
}

#[test]
fn configurations_that_are_no_text_or_without_end_are_refused() {
    let place = Place::new();
    let deep = 900_000;
    for (name, text, code, phrase) in [
        ("arrays.toml", format!("a={}", "[".repeat(deep)), 2, "arrays.toml"),
        ("tables.toml", format!("a={}", "{a=".repeat(deep / 3)), 2, "tables.toml"),
        ("dotted.toml", format!("a{}=1", ".a".repeat(deep / 2)), 2, "dotted.toml"),
        ("header.toml", format!("[a{}]", ".a".repeat(deep / 2)), 2, "header.toml"),
        ("many.toml", "[[model.encoder.layers]]\n".repeat(deep / 30), 2, "many.toml"),
        ("long.toml", "#".repeat(2 << 20), 1, "more than 1048576 bytes"),
    ] {
        place.write(name, text);
        training_refused(&place, &format!("--config {name} --out new"), code, &[name, phrase]);
    }
    place.write("bytes.toml", [b'a', b'=', 0xff]);
    training_refused(&place, "--config bytes.toml --out new", 1, &["bytes.toml", "UTF-8"]);
}

#[test]
fn settings_beyond_reason_are_refused_in_few_words() {
    let place = Place::new();
    for setting in [
        format!("a{}=1", ".a".repeat(50_000)),
        format!("training.batch={}", "[".repeat(100_000)),
        format!("{}=1", "x".repeat(100_000)),
        "=".to_owned(),
        String::new(),
        "training.seed=18446744073709551615".to_owned(),
        "training.steps=9223372036854775808".to_owned(),
        "model.encoder.hidden=[65536,65536]".to_owned(),
        "model.decoder.trunk.hidden=[65536,65536]".to_owned(),
        "training.evaluation_scenes=9223372036854775807".to_owned(),
    ] {
        // The tiny flags set keys of their own; the last word is this one's.
        let mut args: Vec<OsString> = training("--preset vae --out new").into_iter().map(Into::into).collect();
        let batch = args.iter().position(|arg| arg == "--batch").unwrap();
        args.drain(batch..batch + 2);
        let steps = args.iter().position(|arg| arg == "--steps").unwrap();
        args.drain(steps..steps + 2);
        args.extend(["--set".into(), setting.clone().into()]);
        let outcome = run(&place, args).fails(2, &[]);
        assert!(!place.path("new").exists(), "{setting}");
        outcome.says_at_most(4000);
    }
}

#[test]
fn numbers_beyond_reason_are_refused() {
    let (_shared, place, run) = beside();
    let most = u64::MAX;
    for flag in ["--seed", "--steps", "--batch", "--entities", "--threads"] {
        for number in ["18446744073709551615", "99999999999999999999", "-1", "1e9", "0x10", "NaN", "½", ""] {
            training_refused(&place, &format!("--preset vae --out new {flag}={number}"), 2, &[]);
        }
    }
    for line in [
        format!("scenes --count {most} --out new.npz"),
        format!("scenes --recipe single --count {most} --out new.npz"),
        format!("evaluate {run} --count {most}"),
        format!("evaluate {run} --entities {most}"),
        format!("generate {run} --count {most} --out new.png"),
        format!("decompose {run} --scenes digits --count {most} --out parts"),
        format!("decompose {run} --scenes digits --entities {most} --out parts"),
    ] {
        refused(&place, &line, 2, &[]);
    }
}

#[test]
fn every_seed_is_as_good_as_another() {
    let (_shared, place, folder) = beside();
    let seed = u64::MAX;
    for line in [
        format!("scenes --count 2 --seed {seed} --out seed.npz"),
        format!("evaluate {folder} --count 2 --seed {seed}"),
        format!("decompose {folder} --scenes digits --count 1 --seed {seed} --out parts"),
    ] {
        run(&place, line.split_whitespace()).ok();
    }
}

#[test]
fn arguments_that_are_no_text_are_told() {
    let (_shared, place, folder) = beside();
    let bytes = || OsString::from_vec(vec![b'x', 0xff, 0xfe]);
    for flag in ["--scenes", "--digits", "--set", "--preset", "--device"] {
        run(&place, [OsString::from("train"), flag.into(), bytes()]).fails(2, &[]);
    }
    run(&place, [bytes()]).fails(2, &[]);
    run(&place, [OsString::from("info"), bytes()]).fails(1, &["is no run"]);
    run(&place, ["train".into(), "--config".into(), bytes()]).fails(1, &["cannot read"]);
    run(&place, ["decompose".into(), folder.into(), bytes(), "--out".into(), "parts".into()]).fails(1, &["no file"]);
    // As a place it is as good as any.
    let mut args: Vec<OsString> = training("--preset vae --quiet --out").into_iter().map(Into::into).collect();
    let out = args.iter().position(|arg| arg == "--out").unwrap();
    args.insert(out + 1, bytes());
    run(&place, args).ok();
}

#[test]
fn pipes_are_not_replaced() {
    let (_shared, place, run) = beside();
    traps(&place);
    refused(&place, &format!("evaluate {run} --count 2 --json pipe"), 1, &["pipe", "no ordinary file"]);
    refused(&place, &format!("plot {run} reconstructions --out pipe.png"), 1, &["pipe.png", "no ordinary file"]);
    refused(&place, "scenes --count 2 --out pipe.npz --overwrite", 1, &["pipe.npz", "no ordinary file"]);
    for name in ["pipe", "pipe.png", "pipe.npz"] {
        assert!(fs::symlink_metadata(place.path(name)).unwrap().file_type().is_fifo(), "{name}");
    }
    for out in ["pipe", "loop", &"x".repeat(300)] {
        training_refused(&place, &format!("--preset vae --out {out}"), 1, &["cannot create"]);
    }
}

#[test]
fn a_run_does_not_reach_out_of_its_folder() {
    let (_shared, place, run) = beside();
    // Logs that are links are not followed: their targets would be cut.
    place.write("victim", "precious");
    copy_run(&run, &place, "linked");
    fs::remove_file(place.path("linked/metrics.jsonl")).unwrap();
    symlink("../victim", place.path("linked/metrics.jsonl")).unwrap();
    refused(&place, "train --resume linked", 1, &["metrics.jsonl"]);
    assert_eq!(place.read("victim"), b"precious");

    // A checkpoint names its event file; the name must be one of a file in the folder. (The seed is of format 1, without a sum.)
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/checkpoint/vae");
    let seed = fs::read(seed).unwrap();
    let name = "events.out.tfevents.1700000000.mevae";
    let at = seed.windows(name.len()).position(|window| window == name.as_bytes()).unwrap();
    assert!(Checkpoint::from_bytes(Path::new("seed"), &seed).is_ok());
    for evil in ["/etc/hostname", "../victim", "config.toml", "events.out.tfevents.1/../../victim", ".."] {
        let mut changed = seed.clone();
        // Spaces in front of a JSON text's end keep the length.
        let padded = format!("{evil}\\\"{:width$}", "", width = name.len() - evil.len());
        let end = at + name.len() + 2;
        changed[at..end].copy_from_slice(padded.as_bytes());
        let refusal = Checkpoint::from_bytes(Path::new("seed"), &changed).unwrap_err().to_string();
        assert!(refusal.contains("event file") && refusal.contains(evil), "{evil}: {refusal}");
    }
}
