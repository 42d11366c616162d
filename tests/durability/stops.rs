//! Trainings that are stopped in good order: by signals, by the loss of the terminal, by readers that go away.
#![cfg(unix)]

use super::ending::Ending;
use super::{place, resume, start, words};
use crate::cli::{Place, code_of, signal};
use multi_entity_vae::random;
use rand::Rng;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A training without end, seen to have started.
pub fn endless(place: &Place, folder: &str) -> Child {
    let child = place.command(start(folder, "--steps 100000000")).spawn().unwrap();
    await_steps(place, folder);
    child
}

/// Waits until steps were logged.
pub fn await_steps(place: &Place, folder: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let metrics = place.path(folder).join("metrics.jsonl");
    while std::fs::metadata(&metrics).map_or(0, |file| file.len()) == 0 {
        assert!(Instant::now() < deadline, "no step in {folder}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The signals that ask for an end. Where the tests themselves run under `nohup`, the program inherits that and heeds it.
fn signals() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    match ignored.is_some_and(|set| set & 1 == 1) {
        true => vec!["-INT", "-TERM"],
        false => vec!["-INT", "-TERM", "-HUP"],
    }
}

#[test]
fn stopped_at_random_moments_a_run_ends_as_if_nothing_had_happened() {
    let place = place();
    let began = Instant::now();
    place.run(start("whole", "")).ok();
    let takes = began.elapsed();
    let ending = Ending::of(&place.path("whole"));
    let mut rng = random::stream(3, "moments", 0);
    let signals = signals();
    let (mut stops, mut runs) = (0, 0);
    while stops < 8 {
        let folder = format!("run-{runs}");
        runs += 1;
        let mut args = start(&folder, "");
        loop {
            let mut child = place.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(takes.mul_f64(rng.random()));
            let name = signals[stops % signals.len()];
            let _ = Command::new("kill").args([name, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
            // Not a code but a signal: it had not yet come to listen.
            match code_of(&mut child) {
                Some(0) => break,
                Some(130) | None => stops += 1,
                code => panic!("{folder}: {code:?}"),
            }
            let there = place.path(&folder).join("config.toml").exists();
            args = if there { resume(&folder, "") } else { start(&folder, "") };
        }
        ending.assert_same_but_kept(&Ending::of(&place.path(&folder)), &folder);
    }
}

#[test]
fn every_signal_that_asks_for_an_end_stops_in_good_order() {
    for name in signals() {
        let place = place();
        let mut child = endless(&place, "run");
        signal(&child, name);
        assert_eq!(code_of(&mut child), Some(130), "{name}");
        place.run(resume("run", "--seconds 0")).ok();
    }
}

/// `nohup mevae train` outlives its terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_training_that_is_to_outlive_its_terminal_does() {
    let place = place();
    let train = start("run", "--steps 100000000").join(" ");
    let mut command = Command::new("sh");
    command.current_dir(place.0.path());
    command.args(["-c", &format!("trap '' HUP; exec {} {train}", env!("CARGO_BIN_EXE_mevae"))]);
    let mut child = command.spawn().unwrap();
    await_steps(&place, "run");
    signal(&child, "-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it has ended");
    signal(&child, "-TERM");
    assert_eq!(code_of(&mut child), Some(130));
}

#[test]
fn a_reader_that_goes_away_stops_the_training_in_good_order() {
    let place = place();
    let loud = words("train --config tiny.toml --device cpu --threads 1 --steps 100000000 --out run");
    let mut child = place.command(loud).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // As `mevae train 2>&1 | head -1` does.
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("training "), "{line}");
    assert_eq!(code_of(&mut child), Some(130));
    place.run(resume("run", "--seconds 0")).ok();

    // Standard output is only written to when all is done: then nothing is lost.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let loud = words("train --config tiny.toml --device cpu --threads 1 --out done");
    let child = place.command(loud).stdout(writer).stderr(Stdio::null()).status().unwrap();
    assert_eq!(child.code(), Some(0));
    assert!(place.path("done/curves.svg").exists());
}
