//! Trainings that are stopped, and go on.

use super::*;

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
