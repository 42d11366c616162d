//! `mevae plot` and `mevae study`, tiny.

use super::*;
use image::AnimationDecoder;
use image::codecs::gif::GifDecoder;

/// Three runs, made once: `vae` (two latent dimensions), `code` (an autoencoder) and `grid` (2×2 candidates, trained until it
/// finds its digit).
fn runs() -> Arc<Place> {
    static SHARED: Mutex<Weak<Place>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(place) = shared.upgrade() {
        return place;
    }
    let place = Arc::new(Place::new());
    place.train("--preset vae --quiet --out vae").ok();
    place.train("--preset autoencoder --quiet --out code").ok();
    let grid = [
        "model.encoder.layers=[{channels=16,kernel=14,stride=14}]",
        "model.decoder.trunk.hidden=[64]",
        "model.decoder.placement.patch=40",
        "model.latent.dimensions=4",
        "model.selector.radius=0",
        "training.learning_rate=5e-3",
        "training.location_charge=0",
    ];
    let grid = grid.map(|setting| format!("--set {setting}")).join(" ");
    let line = format!("--preset multi-entity --scenes single --quiet --out grid --steps 60 --batch 16 {grid}");
    place.train(&line).ok();
    *shared = Arc::downgrade(&place);
    place
}

/// A run's path, seen from anywhere.
fn run_of(place: &Place, name: &str) -> String {
    place.path(name).to_str().unwrap().to_owned()
}

/// Width and height of a PNG that decodes.
fn size(file: PathBuf) -> (u32, u32) {
    image::open(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).into_rgb8().dimensions()
}

/// Frames of a GIF that decodes.
fn frames(bytes: Vec<u8>) -> Vec<image::Frame> {
    GifDecoder::new(std::io::Cursor::new(bytes)).unwrap().into_frames().collect_frames().unwrap()
}

#[test]
fn every_kind_is_drawn_of_one_posterior_and_of_a_grid() {
    let shared = runs();
    for name in ["vae", "grid"] {
        let (place, run) = (Place::new(), run_of(&shared, name));
        for kind in ["reconstructions", "samples", "manifold", "traversals", "interpolation", "kl"] {
            let count = if kind == "kl" { 8 } else { 4 };
            let line = format!("plot {run} {kind} --count {count} --out {kind}.png");
            place.mevae(&line).ok().says(&[&format!("{kind}.png")]);
            let (width, height) = size(place.path(format!("{kind}.png")));
            assert!(width > 200 && height > 100, "{name} {kind}: {width}×{height}");
        }
        place.mevae(&format!("plot {run} curves --out curves.svg")).ok();
        assert!(place.text("curves.svg").contains("β = 1 on the ELBO"), "{name}");
        place.mevae(&format!("plot {run} scatter --count 30 --out scatter.svg")).ok();
        let scatter = place.text("scatter.svg");
        assert!(scatter.contains("β = 1 on the ELBO") && scatter.contains("class"), "{name}");
        assert!(scatter.matches("h0").count() > 20, "{name}: most of 30 digits are found and drawn");
        // Of eleven values, both ends shown once on the way back.
        assert_eq!(frames(place.read("traversals.gif")).len(), 20);
    }
}

#[test]
fn an_autoencoder_is_drawn_as_far_as_it_goes_and_says_what_else_could_be() {
    let (shared, place) = (runs(), Place::new());
    let run = run_of(&shared, "code");
    for kind in ["reconstructions", "samples", "interpolation"] {
        place.mevae(&format!("plot {run} {kind} --count 2 --out {kind}.png")).ok();
        size(place.path(format!("{kind}.png")));
    }
    place.mevae(&format!("plot {run} scatter --count 20 --out codes.svg")).ok();
    assert!(place.text("codes.svg").contains("variance"));
    for kind in ["manifold", "traversals", "kl"] {
        place.refuses(&format!("plot {run} {kind}"), 1, &["prior", "Gaussian latent", "scatter"]);
    }
}

#[test]
fn scenes_are_looked_through_from_any_seed_on_and_files_have_no_splits() {
    let (shared, place) = (runs(), Place::new());
    let grid = run_of(&shared, "grid");
    place.mevae(&format!("plot {grid} traversals --count 1 --seed {} --out last.png", u64::MAX)).ok();
    place.mevae("scenes --recipe single --count 30 --out digits.npz").ok();
    place.train("--preset vae --scenes digits.npz --quiet --out run").ok();
    place.mevae("plot run scatter --count 30 --out Scatter.SVG").ok();
    let scatter = place.text("Scatter.SVG");
    assert!(scatter.contains("30 scenes of digits.npz.") && !scatter.contains("split"), "{scatter}");
    // The prior is sampled without the scenes.
    std::fs::remove_file(place.path("digits.npz")).unwrap();
    place.mevae("generate run --count 3 --out new.png").ok().says(&["prior"]);
    place.refuses("plot run scatter", 1, &["digits.npz"]);
}

#[test]
fn pictures_are_twice_as_large_at_twice_the_density() {
    let (shared, place) = (runs(), Place::new());
    for (name, kind) in ["vae", "grid"].into_iter().flat_map(|name| {
        let kinds = ["reconstructions", "samples", "manifold", "kl", "scatter", "traversals", "interpolation"];
        kinds.map(|kind| (name, kind))
    }) {
        let line = format!("plot {} {kind} --count 4 --out", run_of(&shared, name));
        place.mevae(&format!("{line} once.png")).ok();
        place.mevae(&format!("{line} twice.png --scale 2")).ok();
        let (once, twice) = (size(place.path("once.png")), size(place.path("twice.png")));
        assert_eq!((2 * once.0, 2 * once.1), twice, "{kind} of {name}");
    }
    let side = |file: &str| frames(place.read(file))[0].buffer().dimensions();
    assert_eq!(side("twice.gif"), (2 * side("once.gif").0, 2 * side("once.gif").1));
    let run = run_of(&shared, "vae");
    let width = |flags: &str| {
        place.mevae(&format!("plot {run} curves --out curves.svg {flags}")).ok();
        let svg = place.text("curves.svg");
        svg.split(" width=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse::<f64>().ok()).unwrap()
    };
    assert_eq!(width("--scale 2"), 2.0 * width(""));
    place.mevae(&format!("plot {run} kl --count 4 --out kl.svg --scale 2")).ok();
    assert!(place.text("kl.svg").contains("KL (nats per image)"));
}

#[test]
fn pictures_go_to_the_runs_folder_unless_told_and_are_the_same_each_time() {
    let place = Place::new();
    place.train("--preset vae --quiet --out run").ok();
    for (kind, files) in [
        ("kl", &["kl.png"][..]),
        ("scatter", &["scatter.svg"]),
        ("traversals", &["traversals.png", "traversals.gif"]),
        ("curves", &["curves.svg"]),
    ] {
        let paths: Vec<_> = files.iter().map(|file| format!("run/{file}")).collect();
        let said = place.mevae(&format!("plot run {kind}")).ok().out;
        assert_eq!(said.lines().collect::<Vec<_>>(), paths);
        let first: Vec<_> = paths.iter().map(|path| place.read(path)).collect();
        place.mevae(&format!("plot run {kind}")).ok();
        assert!(paths.iter().map(|path| place.read(path)).eq(first), "{kind}");
    }
}

#[test]
fn other_dimensions_and_seeds_make_other_pictures() {
    let (shared, place) = (runs(), Place::new());
    let run = run_of(&shared, "grid");
    let plot = |flags: &str, file: &str| {
        place.mevae(&format!("plot {run} {flags} --out {file}")).ok();
        place.read(file)
    };
    assert_ne!(
        plot("scatter --count 9 --dimensions 0,1", "a.png"),
        plot("scatter --count 9 --dimensions 1,0", "b.png")
    );
    assert_ne!(
        plot("manifold --count 3 --dimensions 0,1", "a.png"),
        plot("manifold --count 3 --dimensions 2,3", "b.png")
    );
    assert_ne!(plot("interpolation --count 2 --seed 1", "a.png"), plot("interpolation --count 2 --seed 2", "b.png"));
    assert_ne!(
        plot("reconstructions --split train --count 2", "a.png"),
        plot("reconstructions --split test --count 2", "b.png")
    );
}

#[test]
fn what_cannot_be_plotted_is_refused() {
    let (shared, place) = (runs(), Place::new());
    let (vae, grid) = (run_of(&shared, "vae"), run_of(&shared, "grid"));
    place.refuses(&format!("plot {vae} manifolds"), 2, &["similar value", "manifold"]);
    place.refuses(&format!("plot {vae} manifold --dimensions 0,0"), 2, &["two different numbers"]);
    place.refuses(&format!("plot {vae} manifold --dimensions 0,2"), 1, &["2 latent dimensions, 0 to 1"]);
    place.refuses(&format!("plot {vae} manifold --count 65"), 2, &["--count", "64"]);
    place.refuses(&format!("plot {vae} reconstructions --count 1001"), 2, &["--count", "1000 images"]);
    place.refuses(&format!("plot {vae} manifold --seed 3"), 2, &["--seed", "nothing about this manifold"]);
    place.refuses(&format!("plot {vae} kl --scenes a.npz --split test"), 2, &["a.npz", "no splits"]);
    place.refuses(&format!("plot {vae} manifold --out plane.svg"), 2, &[".png"]);
    place.refuses(&format!("plot {grid} kl --out map.svg"), 2, &["ends in .png"]);
    place.refuses(&format!("plot {vae} curves --count 3"), 2, &["--count says nothing about curves"]);
    place.refuses(&format!("plot {vae} samples --split test"), 2, &["--split says nothing about samples"]);
    place.refuses(&format!("plot {vae} traversals --dimensions 0,1"), 2, &["--dimensions"]);
    place.refuses(&format!("plot {vae} scatter --scenes digits"), 1, &["64×64", "28×28"]);
    place.refuses(&format!("plot {vae} kl --scale 3"), 2, &["--scale"]);
    place.refuses("plot nowhere kl", 1, &["nowhere", "mevae train"]);
    // A model that has found nothing yet says so.
    let (_shared, place, untrained) = beside();
    place.refuses(&format!("plot {untrained} interpolation --count 1"), 1, &["finds no entity", "train it longer"]);
}

// ---------------------------------------------------------------------------------------------- study

/// `mevae study`, so short that its models have learnt nothing.
fn study(place: &Place, flags: &str) -> Outcome {
    let mut args = vec!["study", "--threads", "1", "--device", "cpu", "--set", "training.evaluation_scenes=40"];
    args.extend(["--set", "training.validation_scenes=8"]);
    args.extend(flags.split_whitespace());
    place.run(args)
}

#[test]
fn a_study_is_told_with_its_own_figures_and_gone_on_with() {
    let place = Place::new();
    study(&place, "--out study --set training.steps=2").ok().says(&["[1/14]", "[14/14]", "study.html tells the story"]);
    let names = ["reconstructions-autoencoder.png", "reconstructions-deep.png", "reconstructions-convolutional.png"];
    let planes = ["0.5", "1", "2"].map(|beta| [format!("manifold-beta{beta}.png"), format!("scatter-beta{beta}.png")]);
    let names = names.into_iter().map(String::from).chain(planes.into_iter().flatten());
    for name in names.chain(["sweep.png", "samples-beta1.png", "interpolation-beta1.png"].map(String::from)) {
        size(place.path(format!("study/{name}")));
    }
    assert!(place.text("study/rate-distortion.svg").contains(">β = 4</text>"));

    let (page, html, figures) =
        (place.text("study/study.md"), place.text("study/study.html"), place.json("study/study.json"));
    let models = figures["models"].as_array().unwrap();
    assert_eq!(models.len(), 14);
    for model in models {
        let evaluation = place.json(format!("study/runs/{}/evaluation.json", model["name"].as_str().unwrap()));
        assert_eq!(model["reconstruction_nats"], evaluation["reconstruction_nats"]);
        let nats = format!("{:.2}", model["reconstruction_nats"].as_f64().unwrap());
        assert!(page.contains(&nats) && html.contains(&nats), "{nats} of {}", model["name"]);
        let of_thesis = model["beta"].as_f64().map(|beta| beta * model["latent_dimensions"].as_f64().unwrap());
        assert_eq!(model["beta_of_the_thesis"].as_f64(), of_thesis);
    }
    // Every figure lies in the folder and inside the HTML.
    for file in page.lines().filter_map(|line| line.strip_prefix("![")?.split_once("](")?.1.strip_suffix(')')) {
        assert!(place.path("study").join(file).exists(), "{file}");
    }
    assert_eq!(html.matches("<img src=\"data:image/").count(), page.matches("\n![").count());
    assert!(!html.contains("src=\"http") && !html.contains("href="));

    // Again: what is done stays, what is missing is made.
    let weights =
        |name: &str| fs::metadata(place.path(format!("study/runs/{name}/checkpoints/last.safetensors"))).unwrap();
    let before = weights("deep").modified().unwrap();
    fs::remove_file(place.path("study/runs/plane-beta1/evaluation.json")).unwrap();
    fs::remove_dir_all(place.path("study/runs/sweep-beta8")).unwrap();
    study(&place, "--out study --set training.steps=2 --quiet").ok();
    assert_eq!(weights("deep").modified().unwrap(), before, "a finished run is left alone");
    assert_eq!(place.json("study/study.json")["models"].as_array().unwrap().len(), 14);
    let again = place.json("study/study.json");
    let nats = |figures: &Value| {
        figures["models"].as_array().unwrap().iter().map(|m| m["kl_nats"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(nats(&again), nats(&figures), "the same seed");

    let line = "--out study --set training.steps=3";
    study(&place, line).fails(1, &["other options", "training.steps=2", "choose another --out"]);
}

#[test]
fn a_study_writes_into_no_folder_but_its_own() {
    let place = Place::new();
    place.write("thesis/chapter-1.tex", "years of work");
    place.write("odd/study.toml", "title = \"my studies\"\n");
    let before = place.contents();
    study(&place, "--out thesis").fails(1, &["thesis", "holds no study", "choose another --out"]);
    study(&place, "--out odd").fails(1, &["study.toml", "choose another --out"]);
    study(&place, "--out new --set training.stpes=2").fails(2, &["training.stpes", "training.steps"]);
    study(&place, "--out new --set training.steps=0").fails(2, &["training.steps"]);
    assert_eq!(place.contents(), before);
}

#[cfg(unix)]
#[test]
fn an_interrupted_study_is_gone_on_with_by_the_command_that_it_names() {
    let place = Place::new();
    let flags = "study --out study --threads 1 --device cpu --set training.steps=400 --set training.validate_every=400 --set training.validation_scenes=8 --set training.evaluation_scenes=8";
    let mut child =
        place.command(flags.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("[2/14]")));
    signal(&child, "-INT");
    let rest: Vec<_> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    let last = rest.last().unwrap();
    assert!(last.contains("continue with: mevae study --out study") && last.contains("training.steps=400"), "{last}");
    assert!(place.path("study/runs/autoencoder/evaluation.json").exists());
    assert!(!place.path("study/study.html").exists());
}
