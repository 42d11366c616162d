//! Scores, of whatever scenes and however many entities.

use super::*;

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
fn the_background_may_own_pixels_of_objects_where_it_has_a_mask() {
    let (_shared, place, run) = beside();
    place.train("--scenes tetrominoes --out pieces --quiet").ok();
    for (run, masked) in [(&run[..], false), ("pieces", true)] {
        let table = place.mevae(&format!("evaluate {run} --count 8 --json scores.json")).ok().out;
        assert_eq!(table.contains("ARI, objects"), masked, "{table}");
        let report = place.json("scores.json");
        assert_eq!((report["ari_objects"].is_f64(), report["ari_foreground"].is_f64()), (masked, true));
    }
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
