//! Grids of runs: trained, gone on with, parallel, and told in tables.

use super::Place;
use std::fs;

const GRID: &str = r#"
[set]
"training.steps" = 2
"training.batch" = 2
"training.validate_every" = 2
"training.validation_scenes" = 2
"training.evaluation_scenes" = 4
scenes = "air"

[[grid]]
seed = [0, 1]
[grid.selector]
top-k = { "model.selector.radius" = 0.0 }
warm-start = { "model.selector.warm_start" = 0.5 }

[[grid]]
seed = [0]
[grid.radius]
none = { "model.selector.radius" = 0.0 }
"#;

#[test]
fn a_grid_is_trained_once_and_its_scores_are_in_the_tables() {
    let place = Place::new();
    place.write("grid.toml", GRID);
    let listed = place.mevae("sweep grid.toml --out out --list").ok().out;
    let names =
        ["seed=0,selector=top-k", "seed=0,selector=warm-start", "seed=1,selector=top-k", "seed=1,selector=warm-start"];
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [&names[..], &["radius=none,seed=0 (the same as seed=0,selector=top-k)"]].concat()
    );
    assert!(!place.path("out").exists());

    let told = place.mevae("sweep grid.toml --out out --jobs 2").ok();
    assert!(told.err.contains("[4/4]") && told.out.contains("4 runs: out/summary.md"), "{}{}", told.err, told.out);
    let summary = place.json("out/summary.json");
    let runs = summary["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 5, "the same run under two names is in both");
    for (name, run) in names.iter().zip(runs) {
        let scores = place.json(format!("out/{name}/evaluation.json"));
        assert_eq!((run["run"].as_str().unwrap(), &run["scores"], &run["state"]), (*name, &scores, &"done".into()));
    }
    assert_eq!(runs[4]["scores"], runs[0]["scores"]);
    assert!(!place.path("out/radius=none,seed=0").exists());
    let mean = |key: &str| summary["groups"][0]["scores"][key]["mean"].as_f64().unwrap();
    let elbo = |run: usize| -runs[run]["scores"]["elbo"].as_f64().unwrap();
    assert!((mean("negative_elbo") - (elbo(0) + elbo(2)) / 2.0).abs() < 1e-9 * elbo(0));
    assert!(place.text("out/summary.md").contains("4 runs: 4 done, 0 failed, 0 missing"));
    assert_eq!(place.text("out/summary.csv").lines().count(), 6);
    // Each is a normal run.
    place.mevae(&format!("evaluate out/{} --count 2", names[0])).ok();

    // What is finished is left alone; what is broken is made again, to the same scores.
    let weights = |name: &str| {
        fs::metadata(place.path(format!("out/{name}/checkpoints/last.safetensors"))).unwrap().modified().unwrap()
    };
    let before = weights(names[0]);
    fs::remove_file(place.path(format!("out/{}/evaluation.json", names[1]))).unwrap();
    fs::remove_dir_all(place.path(format!("out/{}", names[3]))).unwrap();
    place.mevae("sweep grid.toml --out out --quiet").ok();
    assert_eq!(weights(names[0]), before);
    for (run, again) in runs.iter().zip(place.json("out/summary.json")["runs"].as_array().unwrap()) {
        assert_eq!(run["scores"], again["scores"]);
    }
}

/// What was finished keeps its place in the tables whatever becomes of the rest, and no run is taken for another configuration's.
#[test]
fn a_grid_may_grow_but_not_change() {
    let place = Place::new();
    place.write("grid.toml", GRID);
    place.mevae("sweep grid.toml --out out --quiet").ok();
    let before = place.contents();
    place.write("changed.toml", GRID.replace("\"training.steps\" = 2", "\"training.steps\" = 3"));
    place.refuses("sweep changed.toml --out out", 1, &["seed=0,selector=top-k", "another configuration", "--out"]);
    fs::remove_file(place.path("changed.toml")).unwrap();
    assert_eq!(place.contents(), before);
    // The new one comes first and diverges.
    let grown = GRID.replace(
        "[[grid]]\nseed = [0, 1]",
        "[[grid]]\nseed = [7]\n\"training.learning_rate\" = [1e38]\n\n[[grid]]\nseed = [0, 1]",
    );
    place.write("grid.toml", grown);
    place.mevae("sweep grid.toml --out out").fails(1, &["1 of 5 runs failed"]);
    assert!(place.text("out/summary.md").contains("5 runs: 4 done, 1 failed, 0 missing"));
    // A configuration written before keys that have come since is the same one.
    let config = place.text("out/seed=0,selector=top-k/config.toml");
    place.write("out/seed=0,selector=top-k/config.toml", config.replace("size = 0\nobjects = 0\n", ""));
    assert_ne!(place.text("out/seed=0,selector=top-k/config.toml"), config);
    place.write("grid.toml", GRID);
    place.mevae("sweep grid.toml --out out --quiet").ok();
}

/// Two keys with the same last part: in each grid alone it is short enough, in one table it is not.
#[test]
fn runs_of_two_models_are_no_mean() {
    let place = Place::new();
    let grid = |seed: u64, key: &str| format!("[[grid]]\npreset = [\"vae\"]\nseed = [{seed}]\n\"{key}\" = [[8]]\n\n");
    let set = GRID.split("[[grid]]").next().unwrap().replace("scenes = \"air\"", "");
    let grids = grid(0, "model.encoder.hidden") + &grid(1, "model.decoder.trunk.hidden");
    place.write("grid.toml", set + &grids);
    place.mevae("sweep grid.toml --out out --quiet").ok();
    let summary = place.json("out/summary.json");
    let groups = summary["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{groups:?}");
}

#[test]
fn failures_are_listed_and_the_others_run_on() {
    let place = Place::new();
    let diverging = GRID.replace("[[grid]]\nseed = [0]", "[[grid]]\nseed = [0]\n\"training.learning_rate\" = [1e38]");
    place.write("grid.toml", &diverging);
    let told = place.mevae("sweep grid.toml --out out").fails(1, &["1 of 5 runs failed", "out/summary.md"]);
    assert!(told.err.contains("failed: "), "{}", told.err);
    let page = place.text("out/summary.md");
    assert!(page.contains("5 runs: 4 done, 1 failed, 0 missing") && page.contains("## Failures"), "{page}");
}

#[test]
fn what_is_no_grid_or_no_sweep_is_refused() {
    let place = Place::new();
    place.write("grid.toml", GRID);
    place.write("wrong.toml", GRID.replace("radius\" = 0.0 }\nwarm", "radios\" = 0.0 }\nwarm"));
    place.write("absurd.toml", GRID.replace("seed = [0, 1]", "seed = [0, 1]\nentities = [100000]"));
    place.write("occupied/thesis.tex", "text");
    place.refuses("sweep wrong.toml --out out", 2, &["wrong.toml", "model.selector.radius"]);
    place.refuses("sweep absurd.toml --out out", 2, &["entities=100000", "model.entities"]);
    place.write("fixed.toml", GRID.replace("scenes = \"air\"", "scenes = \"single\"\n\"data.fresh\" = true"));
    place.refuses("sweep fixed.toml --out out", 2, &["single", "fresh"]);
    place.refuses("sweep grid.toml --out occupied", 1, &["holds no sweep"]);
    place.refuses("sweep nowhere.toml --out out", 1, &["nowhere.toml"]);
    place.refuses("sweep grid.toml --out out --jobs 0", 2, &["--jobs"]);
}
