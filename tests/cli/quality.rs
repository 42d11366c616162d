//! What is wrong with a decomposition, at any K, on disturbed scenes and on larger ones.

use super::{Place, beside};
use multi_entity_vae::scene::{DigitSet, SceneSource, Split};
use serde_json::Value;

fn json(place: &Place, line: &str) -> Value {
    serde_json::from_str(&place.mevae(line).ok().out).unwrap()
}

#[test]
fn errors_and_the_kl_map_are_told_and_the_worst_scenes_drawn() {
    let (_shared, place, run) = beside();
    let outcome = place.mevae(&format!("evaluate {run} --count 12 --worst 3 --out worst.png --json scores.json")).ok();
    for row in ["Errors in 12 scenes with masks", "hallucinations", "KL, brightness", "worst.png shows"] {
        assert!(outcome.out.contains(row), "{row}\n{}", outcome.out);
    }
    let scores = place.json("scores.json");
    let errors = &scores["errors"];
    let number = |key: &str| errors[key].as_i64().unwrap();
    assert_eq!(number("scenes"), 12);
    // The kinds explain the difference of the counts; a digit that is covered altogether is not in these scenes.
    let confusion: Vec<Vec<i64>> = serde_json::from_value(scores["count_confusion"].clone()).unwrap();
    let cells = confusion.iter().zip(0..).flat_map(|(row, t)| row.iter().zip(0..).map(move |(n, p)| n * (p - t)));
    let more = number("duplicates") + number("hallucinations") + number("splits");
    assert_eq!(cells.sum::<i64>(), more - number("merges") - number("misses"));
    let correlation = scores["kl_brightness_correlation"].as_f64().unwrap();
    assert!((-1.0..=1.0).contains(&correlation));
    assert!((0.0..=1.0).contains(&scores["kl_centre_auc"].as_f64().unwrap()));
    let (three, one) = (image::open(place.path("worst.png")).unwrap(), place.path("one.png"));
    place.mevae(&format!("evaluate {run} --count 12 --worst 1 --out one.png")).ok();
    assert!(three.height() > image::open(one).unwrap().height());

    place.refuses(&format!("evaluate {run} --worst 3"), 2, &["--out"]);
    place.refuses(&format!("evaluate {run} --out worst2.png"), 2, &["--worst"]);
    place.refuses(&format!("evaluate {run} --worst 1 --out w.png --entities 2..3"), 2, &["one number"]);
    place.refuses(&format!("evaluate {run} --worst 1 --out w.png --scenes {}", super::data("images-only.npz")), 1, &[]);
}

#[test]
fn refined_means_draw_better_and_leave_the_counts() {
    let place = Place::new();
    place.train("--preset vae --out vae").ok();
    let run = "vae";
    let plain = json(&place, &format!("evaluate {run} --count 8 --json -"));
    let refined = json(&place, &format!("evaluate {run} --count 8 --refine 5 --json -"));
    assert_eq!((plain["refinement_steps"].clone(), refined["refinement_steps"].clone()), (Value::Null, 5.into()));
    assert_eq!(plain["count_confusion"], refined["count_confusion"]);
    let error = |scores: &Value| scores["mse"].as_f64().unwrap();
    assert!(error(&refined) < error(&plain), "{} after {}", error(&refined), error(&plain));
    let table = place.mevae(&format!("evaluate {run} --count 8 --refine 5")).ok().out;
    let title = "vae after 3 steps; test scenes of single, seed 0\n";
    let scenes = "8 scenes, grey-scale pixels, means of present entities refined by 5 steps\n";
    assert!(table.starts_with(&format!("{title}{scenes}")), "{table}");
    place.refuses(&format!("evaluate {run} --refine 5 --importance-samples 3"), 2, &["--importance-samples"]);
    place.refuses(&format!("evaluate {run} --refine 0"), 2, &["--refine"]);

    let z = |flags: &str, out: &str| {
        place.mevae(&format!("decompose {run} --scenes single --count 1 --out {out} {flags}")).ok();
        place.json(format!("{out}/entities.json"))
    };
    let (plain, refined) = (z("", "plain"), z("--refine 5", "refined"));
    assert_eq!(plain[0]["cell"], refined[0]["cell"]);
    assert_ne!(plain[0]["z"], refined[0]["z"]);

    // What is not there is not refined: hardly trained, this model finds nothing.
    let (_shared, place, run) = beside();
    let scores = |flags: &str| json(&place, &format!("evaluate {run} --count 8 --json - {flags}"));
    let (plain, refined) = (scores(""), scores("--refine 5"));
    assert_eq!((&plain["entities_per_scene"], &plain["elbo"]), (&0.0.into(), &refined["elbo"]));
}

#[test]
fn one_checkpoint_is_evaluated_with_several_k() {
    let (_shared, place, run) = beside();
    let all = json(&place, &format!("evaluate {run} --count 8 --entities 2..4,7 --json -"));
    let all = all.as_array().unwrap();
    assert_eq!(all.iter().map(|at| at["entities"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3, 4, 7]);
    let mut alone = json(&place, &format!("evaluate {run} --count 8 --entities 3 --json -"));
    alone["entities"] = 3.into();
    assert_eq!(all[1], alone);
    let table = place.mevae(&format!("evaluate {run} --count 8 --entities 2,12")).ok().out;
    let rows: Vec<_> = table.lines().skip_while(|line| !line.starts_with("     K")).collect();
    assert!(table.contains("test scenes of ") && rows.len() >= 3, "{table}");
    for (wrong, code) in [("4..2", 2), ("x", 2), ("1..9999999", 2), ("0", 2), ("300", 2)] {
        place.refuses(&format!("evaluate {run} --entities {wrong}"), code, &["--entities"]);
    }
}

#[test]
fn scenes_can_be_disturbed_and_a_run_trained_on_them_is_evaluated_on_them() {
    let place = Place::new();
    place.mevae("scenes --recipe air --count 6 --split test --out clean.npz").ok();
    place.mevae("scenes --recipe air --count 6 --split test --noise 0.2 --grid-lines 0.3 --out noisy.npz").ok();
    assert_ne!(place.read("clean.npz"), place.read("noisy.npz"));
    let settings = "--set data.noise=0.2 --set data.grid_lines=0.3";
    place.train(&format!("--scenes air {settings} --out run")).ok();
    let score = |flags: &str| json(&place, &format!("evaluate run --count 6 --json - {flags}"));
    assert_eq!(score(""), score("--scenes noisy.npz"), "the run's own scenes are disturbed");
    assert_eq!(score("--scenes air"), score("--scenes clean.npz"), "scenes that are named are as they are");
    assert_eq!(score("--noise 0 --grid-lines 0"), score("--scenes clean.npz"));
    assert_eq!(score("--scenes air --noise 0.2 --grid-lines 0.3"), score(""));

    place.refuses("evaluate run --scenes noisy.npz --noise 0.1", 1, &["noisy.npz holds scenes as they are"]);
    place.refuses("scenes --noise 2 --out x.npz", 1, &["noise: must be between 0"]);
    place.refuses_training("--scenes air --set data.noise=-1 --out other", 1, &["noise: "]);
    place.refuses_training("--scenes noisy.npz --set data.noise=0.1 --out other", 1, &["noisy.npz"]);
}

#[test]
fn a_checkpoint_reads_scenes_larger_than_those_it_was_trained_on() {
    let (_shared, place, run) = beside();
    let score = |flags: &str| json(&place, &format!("evaluate {run} --scenes digits --count 4 --json - {flags}"));
    let larger = score("--size 96 --objects 8 --entities 8");
    assert_eq!(larger["scenes"], 4);
    // log C(N, K) for a grid that grew with the image.
    let own = score("--entities 8");
    assert!(larger["location_nats"].as_f64() > own["location_nats"].as_f64());
    place.mevae("scenes --split test --count 4 --size 96 --objects 8 --out larger.npz").ok();
    assert_eq!(json(&place, &format!("evaluate {run} --scenes larger.npz --entities 8 --json -")), larger);
    let told = place.mevae(&format!("evaluate {run} --scenes digits --count 1 --size 128 --objects 12")).ok();
    assert!(told.err.contains("up to 12 objects") && told.err.contains("--entities 12"), "{}", told.err);
    place
        .mevae(&format!("decompose {run} --scenes digits --count 2 --size 96 --objects 8 --entities 8 --out parts"))
        .ok();
    let entities = place.json("parts/entities.json");
    assert_eq!(entities.as_array().unwrap().len(), 16);

    place.refuses(&format!("evaluate {run} --scenes digits --size 64 --objects 30"), 1, &["objects: at most 6"]);
    place.refuses(&format!("evaluate {run} --grid-period 5"), 2, &["--grid-period says nothing without --grid-lines"]);
    place.refuses(
        &format!("evaluate {run} --scenes air --size 96"),
        1,
        &["size: is a choice of the recipes digits and single"],
    );
    place.refuses(&format!("decompose {run} photo.png --size 96 --out x"), 2, &["options of --scenes"]);
    // Colour is another thing, and a dense model has but one size.
    place.refuses(&format!("evaluate {run} --scenes sprites"), 1, &["64×64×3", "64×64×1"]);
    place.train("--preset vae --out vae").ok();
    place.refuses("evaluate vae --scenes digits", 1, &["28×28×1", "images of another size"]);
}

#[test]
fn a_scene_is_changed_entity_by_entity() {
    let (_shared, place, run) = beside();
    // Towards the middle, wherever the entities of the barely trained model are.
    place.mevae(&format!("decompose {run} --scenes digits --count 4 --out parts")).ok();
    let records = place.json("parts/entities.json");
    let inwards = |entity: u64| {
        let own = |r: &&Value| r["input"] == "scene-003" && r["entity"] == entity;
        let cell = &records.as_array().unwrap().iter().find(own).unwrap()["cell"];
        let by = |i: usize| if cell[i].as_u64().unwrap() < 8 { 1 } else { -1 };
        format!("{entity}:{},{}", by(0), by(1))
    };
    let edits = format!("--set-latent 1:0=2 --move {} --copy {} --remove 3", inwards(2), inwards(1));
    let told = place.mevae(&format!("edit {run} --scene 3 {edits} --out edited.png")).ok();
    assert!(told.out.contains("edited.png shows"), "{}", told.out);
    place.mevae(&format!("edit {run} --scene 3 --remove 3 --out removed.png")).ok();
    let (edited, removed) =
        (image::open(place.path("edited.png")).unwrap(), image::open(place.path("removed.png")).unwrap());
    assert!(edited.width() > removed.width(), "the copy is an entity more");
    place.mevae(&format!("edit {run} --swap 1:2 --with 5 --scenes digits --size 96 --out swapped.png")).ok();
    assert!(image::open(place.path("swapped.png")).unwrap().height() > removed.height(), "both scenes are drawn");

    let refuses = |flags: &str, code, phrase: &str| {
        place.refuses(&format!("edit {run} {flags} --out x.png"), code, &[phrase]);
    };
    refuses("", 2, "say what to change");
    refuses("--remove 9", 2, "no entity 9 of 4");
    refuses("--remove 0", 2, "counted from 1");
    refuses("--move 1:99,0", 2, "of a grid of 16×16");
    refuses("--set-latent 1:99=0", 2, "no latent dimension 99");
    refuses("--swap 1:1", 2, "--with");
    refuses("--move 1", 2, "K:DOWN,RIGHT");
    place.train("--preset vae --out vae").ok();
    place.mevae("edit vae --set-latent 1:0=3 --out digit.png").ok();
    place.refuses("edit vae --move 1:0,0 --out x.png", 2, &["its place is in z"]);
}

/// Files as the public generators write them, made here with NumPy, converted, and evaluated.
#[test]
fn scenes_of_public_generators_are_converted() {
    let (_shared, place, run) = beside();
    let python = |script: &str| {
        let mut command = std::process::Command::new("python3");
        command.current_dir(place.path("")).arg("-c").arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
        command.output()
    };
    if !python("import numpy").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no python3 with NumPy");
        return;
    }
    let converted = python(CONVERSIONS).unwrap();
    assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
    for (file, counts, masks) in [("pyro.npz", true, false), ("test.npz", true, false), ("layers.npz", true, true)] {
        let told = place.mevae(&format!("evaluate {run} --scenes {file} --json {file}.json")).ok();
        let scores = place.json(format!("{file}.json"));
        assert_eq!(scores["scenes"], 3, "{file}");
        assert_eq!((scores["count_accuracy"].is_f64(), scores["ari_all"].is_f64()), (counts, masks), "{}", told.out);
        let confusion: Vec<Vec<u64>> = serde_json::from_value(scores["count_confusion"].clone()).unwrap();
        let by_count: Vec<u64> = confusion.iter().map(|row| row.iter().sum()).collect();
        assert_eq!(by_count, [1, 1, 1], "{file}: scenes of 0, 1 and 2 objects");
    }
}

const CONVERSIONS: &str = r#"
import sys
import numpy as np, to_npz

x = np.zeros((3, 64, 64), dtype=np.uint8)
x[1, 5:20, 5:20] = 200
y = np.empty(3, dtype=object)
y[:] = [[], [7], [1, 2]]
np.savez_compressed("multi_mnist_uint8.npz", x=x, y=y)
np.savez_compressed("multi_mnist_2_50_42.npz", x_train=x[:1], y_train=y[:1], x_test=x, y_test=y)

def convert(*args):
    sys.argv = ["to_npz.py", *args]
    to_npz.main()

convert("pyro", "multi_mnist_uint8.npz", "pyro.npz")
convert("observations", "multi_mnist_2_50_42.npz", "test.npz")
with np.load("test.npz") as test:
    assert (test["images"] == x).all() and test["counts"].tolist() == [0, 1, 2]
    assert test["labels"].tolist() == [[255, 255], [7, 255], [1, 2]]

# Two layers and the ground; the object of the second scene is in the second layer, the first layer is empty.
layers = np.zeros((3, 3, 64, 64, 2), dtype=np.uint8)
layers[:, 2, ..., 1] = 255
layers[1, 1, 10:20, 10:20] = 255
layers[2, 0, 5:15, 5:15] = 255
layers[2, 1, 10:20, 10:20] = 255
segment = np.full((3, 64, 64), 2, dtype=np.uint8)
segment[1, 10:20, 10:20] = 1
segment[2, 10:20, 10:20] = 1
segment[2, 5:15, 5:15] = 0
group = {"image": np.where(segment < 2, 255, 0).astype(np.uint8)[..., None], "segment": segment, "layers": layers}
scenes = to_npz.layered(group)
assert scenes["images"].shape == (3, 64, 64) and scenes["counts"].tolist() == [0, 1, 2]
expected = np.where(segment == 2, 255, segment)
expected[1, 10:20, 10:20] = 0
assert (scenes["masks"] == expected).all()
np.savez_compressed("layers.npz", **scenes)
"#;

#[test]
fn classes_and_places_are_read_off_the_latents_by_linear_probes() {
    let (_shared, place, run) = beside();
    place.train("--preset vae --scenes digits --out whole").ok();
    let table = place.mevae(&format!("probe {run} whole --count 60 --json probes.json")).ok().out;
    assert!(table.contains("class accuracy") && table.contains("whole"), "{table}");
    let rows = place.json("probes.json");
    let whole: Vec<&Value> = rows.as_array().unwrap().iter().filter(|row| row["model"] == "whole").collect();
    assert_eq!(whole.len(), 2, "one z, in all scenes and in those of one object: {rows}");
    for row in whole {
        assert_eq!(
            (&row["code"], row["dimensions"].as_u64(), row["covered"].as_f64()),
            (&"z".into(), Some(2), Some(1.0))
        );
        assert!((0.0..=1.0).contains(&row["class_accuracy"].as_f64().unwrap()));
    }
    let again = place.mevae(&format!("probe {run} whole --count 60 --threads 1 --json -")).ok().out;
    assert_eq!(serde_json::from_str::<Value>(&again).unwrap(), rows);
    // A file has no splits: one half of it is fitted to, the other one read.
    place.mevae("scenes --count 40 --out file.npz").ok();
    let halves = |count| place.mevae(&format!("probe whole --scenes file.npz --count {count} --json -")).ok().out;
    assert_eq!(halves(1000), halves(20));
    let file =
        SceneSource::open(place.path("file.npz").to_str().unwrap(), DigitSet::builtin(), Split::Test, 0).unwrap();
    let objects: usize = (20..40).map(|i| file.scene(i).unwrap().labels.unwrap().len()).sum();
    let rows: Value = serde_json::from_str(&halves(20)).unwrap();
    assert_eq!(rows[0]["objects"].as_u64(), Some(objects as u64));
    place.refuses(&format!("probe {run} --scenes {}", super::data("images-only.npz")), 1, &["images-only.npz"]);
    place.refuses("probe", 2, &["RUNS"]);
}
