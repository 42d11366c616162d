//! Trainings that are killed at random moments and taken up again.

use super::ending::Ending;
use super::{place, resume, start};
use crate::cli::Place;
use multi_entity_vae::random;
use rand::Rng;
use std::fs::{self, File};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

#[test]
fn killed_at_ten_moments_a_run_ends_as_if_nothing_had_happened() {
    kill_again_and_again(10, 1);
}

/// The same at a hundred moments: `cargo test --locked --test tests soak -- --ignored --nocapture`. MEVAE_SOAK_SEED chooses others.
#[test]
#[ignore = "takes a minute"]
fn soak() {
    let seed = std::env::var("MEVAE_SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(2);
    kill_again_and_again(100, seed);
}

/// What a sitting was doing when it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Anything.
    Any,
    /// Starting: before or while the first checkpoint is written.
    Start,
    /// Writing a checkpoint.
    Saving,
    /// Evaluating or drawing after the last step.
    Drawing,
}

fn kill_again_and_again(moments: usize, seed: u64) {
    let place = place();
    let began = Instant::now();
    place.run(start("whole", "")).ok();
    let whole_takes = began.elapsed();
    let ending = Ending::of(&place.path("whole"));

    let mut rng = random::stream(seed, "moments", 0);
    let (mut killed, mut runs) = (Vec::new(), 0);
    let mut saving_caught = 0;
    while killed.len() < moments {
        let folder = format!("run-{runs}");
        runs += 1;
        loop {
            let mut child = sit(&place, &folder);
            if killed.len() < moments {
                let moment =
                    [Moment::Any, Moment::Saving, Moment::Any, Moment::Drawing, Moment::Start][killed.len() % 5];
                let share: f64 = rng.random();
                if let Some(caught) = wait_and_kill(&place, &folder, &mut child, moment, whole_takes.mul_f64(share)) {
                    saving_caught += usize::from(caught && moment == Moment::Saving);
                    killed.push(moment);
                    continue;
                }
            }
            let code = child.wait().unwrap().code();
            assert_eq!(code, Some(0), "{folder}: {}", place.text(format!("{folder}.err")));
            break;
        }
        ending.assert_same(&Ending::of(&place.path(&folder)), &folder);
    }
    println!(
        "{} kills ({saving_caught} with a checkpoint half-written) in {runs} runs of 40 steps: every file the same",
        killed.len()
    );
    assert_eq!(killed.len(), moments);
}

/// Starts the run, or goes on with it.
fn sit(place: &Place, folder: &str) -> Child {
    let there = place.path(folder).join("config.toml").exists();
    let args = if there { resume(folder, "") } else { start(folder, "") };
    let errors = File::create(place.path(format!("{folder}.err"))).unwrap();
    place.command(args).stdout(Stdio::null()).stderr(errors).spawn().unwrap()
}

/// Kills the child at a moment; nothing if it ended before, else whether the moment was met.
fn wait_and_kill(place: &Place, folder: &str, child: &mut Child, moment: Moment, wait: Duration) -> Option<bool> {
    let run = place.path(folder);
    let met = || match moment {
        Moment::Any => true,
        Moment::Start => run.join("config.toml").exists(),
        Moment::Drawing => run.join("evaluation.json").exists(),
        Moment::Saving => fs::read_dir(run.join("checkpoints"))
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    if moment != Moment::Start {
        std::thread::sleep(wait);
    }
    while !met() {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        assert!(Instant::now() < deadline, "{folder}: {moment:?} never came");
        std::thread::yield_now();
    }
    if moment == Moment::Start {
        std::thread::sleep(wait / 10);
    }
    child.kill().unwrap();
    // A run that was faster ends well, which the caller sees.
    if child.wait().unwrap().code().is_some() { None } else { Some(met() || moment != Moment::Saving) }
}
