//! What is wrong with a decomposition, at any K, on disturbed scenes and on larger ones.

use super::{Place, beside};
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
fn one_checkpoint_is_evaluated_with_several_k() {
    let (_shared, place, run) = beside();
    let all = json(&place, &format!("evaluate {run} --count 8 --entities 2..4,7 --json -"));
    let all = all.as_array().unwrap();
    assert_eq!(all.iter().map(|at| at["entities"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3, 4, 7]);
    let mut alone = json(&place, &format!("evaluate {run} --count 8 --entities 3 --json -"));
    alone["entities"] = 3.into();
    assert_eq!(all[1], alone);
    let table = place.mevae(&format!("evaluate {run} --count 8 --entities 2,12")).ok().out;
    assert!(table.starts_with("     K") && table.lines().count() >= 3, "{table}");
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
    place.refuses(&format!("evaluate {run} --scenes air --size 96"), 1, &["size: is a choice of the recipe digits"]);
    place.refuses(&format!("decompose {run} photo.png --size 96 --out x"), 2, &["options of --scenes"]);
    // Colour is another thing, and a dense model has but one size.
    place.refuses(&format!("evaluate {run} --scenes sprites"), 1, &["64×64×3", "64×64×1"]);
    place.train("--preset vae --out vae").ok();
    place.refuses("evaluate vae --scenes digits", 1, &["28×28×1", "images of another size"]);
}

#[test]
fn a_scene_is_changed_entity_by_entity() {
    let (_shared, place, run) = beside();
    let edits = "--set-latent 1:0=2 --move 2:1,-1 --copy 1:-1,0 --remove 3";
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
