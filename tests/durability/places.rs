//! Places where a run cannot be written, or no longer: full, limited, vanished, read-only.

use super::ending::Ending;
use super::{place, resume, start, stops};
use crate::cli::{Outcome, Place, code_of};
use multi_entity_vae::run::Checkpoint;
use std::fs;
use std::process::{Command, Stdio};

const MEVAE: &str = env!("CARGO_BIN_EXE_mevae");

fn shell(place: &Place, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(place.0.path()).env_remove("RUST_BACKTRACE").args(["-c", script]);
    command
}

/// A shell that may mount; prints why where the machine does not allow it.
fn mounting(place: &Place, script: &str) -> Option<Command> {
    let wrap = |script: &str| {
        let mut command = Command::new("unshare");
        command.current_dir(place.0.path()).env_remove("RUST_BACKTRACE");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command
    };
    fs::create_dir_all(place.path("disk")).unwrap();
    match wrap("mount -t tmpfs -o size=1m none disk").stderr(Stdio::piped()).output() {
        Ok(tried) if tried.status.success() => Some(wrap(script)),
        Ok(tried) => {
            println!("skipped, mounting is refused: {}", String::from_utf8_lossy(&tried.stderr).trim());
            None
        }
        Err(e) => {
            println!("skipped, there is no unshare: {e}");
            None
        }
    }
}

#[test]
fn a_full_disk_stops_with_the_last_checkpoint_whole_and_the_run_goes_on_when_there_is_space() {
    let place = place();
    place.run(start("whole", "")).ok();
    let size = fs::metadata(place.path("whole/checkpoints/last.safetensors")).unwrap().len() / 1024 + 1;
    // Space for the first checkpoints and not for all that come.
    let disk = format!("{}k", 1000);
    let filler = 1000 - 4 * size;
    let (train, go_on) = (start("disk/run", "").join(" "), resume("disk/run", "").join(" "));
    let script = format!(
        "mount -t tmpfs -o size={disk} none disk && head -c {filler}k /dev/zero > disk/filler
        {MEVAE} {train}; echo $? > code; cp -r disk/run stopped
        rm disk/filler; {MEVAE} {go_on} && cp -r disk/run resumed"
    );
    let Some(mut command) = mounting(&place, &script) else { return };
    let outcome = Outcome::of(&mut command).ok();
    outcome.says(&["error: cannot ", "free some space", "mevae train --resume disk/run", "is saved up to step"]);
    assert_eq!(place.text("code").trim(), "1");
    Checkpoint::load(&place.path("stopped/checkpoints/last.safetensors")).unwrap();
    Ending::of(&place.path("whole")).assert_same(&Ending::of(&place.path("resumed")), "after a full disk");
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_the_run_goes_on_without_it() {
    let place = place();
    let more = "--steps 200 --set training.log_every=1 --set training.validate_every=20";
    place.run(start("whole", more)).ok();
    let mut files = fs::read_dir(place.path("whole")).unwrap().flatten();
    let events = files.find(|file| file.file_name().to_string_lossy().starts_with("events.")).unwrap();
    let (log, checkpoint) =
        (events.metadata().unwrap().len(), place.read("whole/checkpoints/last.safetensors").len() as u64);
    // In half-KiB blocks: a checkpoint fits and the log does not.
    let limit = log * 2 / 3 / 512;
    assert!(checkpoint / 512 < limit - 10, "{checkpoint} {log}");
    let train = start("run", more).join(" ");
    let outcome = Outcome::of(&mut shell(&place, &format!("ulimit -f {limit}; exec {MEVAE} {train}")));
    outcome
        .fails(1, &["cannot append to `run/events.", "ulimit -f", "mevae train --resume run", "is saved up to step"]);
    place.run(resume("run", "")).ok();
    Ending::of(&place.path("whole")).assert_same(&Ending::of(&place.path("run")), "after a limit");

    // Not even the first checkpoint: nothing is half-written, and the run can still start.
    let limit = checkpoint / 512 / 2;
    let train = start("small", "").join(" ");
    let outcome = Outcome::of(&mut shell(&place, &format!("ulimit -f {limit}; exec {MEVAE} {train}")));
    outcome.fails(1, &["cannot write `small/checkpoints/last.safetensors`", "go on with: mevae train --resume small"]);
    assert_eq!(fs::read_dir(place.path("small/checkpoints")).unwrap().count(), 0);
    place.run(start("plain", "")).ok();
    place.run(resume("small", "")).ok();
    Ending::of(&place.path("plain")).assert_same(&Ending::of(&place.path("small")), "started anew");
}

#[test]
fn a_folder_that_vanishes_ends_the_training_with_a_message() {
    let place = place();
    let train = start("run", "--steps 100000000");
    let mut child = place.command(train).stderr(Stdio::piped()).spawn().unwrap();
    stops::await_steps(&place, "run");
    fs::rename(place.path("run"), place.path("elsewhere")).unwrap();
    assert_eq!(code_of(&mut child), Some(1));
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    for phrase in ["error: cannot ", "check the path", "run is gone"] {
        assert!(said.contains(phrase), "{said}");
    }
    // A file in it, or at the last moment of a save the folder itself.
    assert!(["`run/checkpoints/", "`run/checkpoints`"].iter().any(|place| said.contains(place)), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    // Where it went it is whole.
    place.run(resume("elsewhere", "--seconds 0")).ok();
}

#[test]
fn a_read_only_run_can_be_used_and_not_trained() {
    let place = place();
    place.run(start("run", "")).ok();
    let uses = [
        "evaluate run --count 4 --json out/scores.json",
        "decompose run --scenes air --count 1 --out out/parts",
        "generate run --count 1 --out out/new.png",
        "info run",
    ];
    let uses: String = uses.map(|line| format!("{MEVAE} {line} || exit 7; ")).concat();
    let script = format!(
        "mkdir out; mount --bind run run && mount -o remount,bind,ro run && {uses} {MEVAE} {}; echo $? > code",
        resume("run", "").join(" ")
    );
    let before = Ending::of(&place.path("run"));
    let Some(mut command) = mounting(&place, &script) else { return };
    let outcome = Outcome::of(&mut command);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    outcome.says(&["cannot lock `run/.lock`", "give yourself the permission"]);
    assert_eq!(place.text("code").trim(), "1");
    before.assert_same(&Ending::of(&place.path("run")), "read-only");
    assert!(place.path("out/scores.json").exists() && place.path("out/parts/entities.json").exists());
}
