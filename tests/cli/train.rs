//! Training: what it writes and says, with every preset and option.

use super::*;

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
