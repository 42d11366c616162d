//! New images.

use super::*;

/// How many pixels of two sheets of one size clearly differ.
fn clearly_different(a: &RgbImage, b: &RgbImage) -> usize {
    assert_eq!(a.dimensions(), b.dimensions());
    a.pixels().zip(b.pixels()).filter(|(a, b)| a.0.iter().zip(b.0).any(|(x, y)| x.abs_diff(y) > 12)).count()
}

#[test]
fn every_preset_generates_pictures_that_are_not_blank() {
    let shared = trained();
    // Scenes of a file, as the density of the multi-entity VAE is fitted to as many as there are. It must learn a little before
    // it finds entities at all, and nothing is learnt faster than without a price.
    let eager =
        "--steps 100 --set model.latent.beta=0.1 --set training.location_charge=0 --set training.learning_rate=3e-3";
    let archive = format!("{} {eager}", shared.path("scenes.npz").display());
    for (preset, scenes) in [
        ("autoencoder", "single --steps 30"),
        ("vae", "single --steps 30"),
        ("beta-vae", "single --steps 30"),
        ("multi-entity", &archive),
    ] {
        let place = Place::new();
        place.train(&format!("--preset {preset} --scenes {scenes} --out run --quiet")).ok();
        let sheet = |seed: u64, name: &str| {
            place.mevae(&format!("generate run --count 8 --seed {seed} --out {name}")).ok().says(&["8 images", name]);
            image::open(place.path(name)).unwrap().into_rgb8()
        };
        let (first, again, other) = (sheet(1, "1.png"), sheet(1, "again.png"), sheet(2, "2.png"));
        assert_eq!(first, again, "{preset}: the seed decides");
        // Title and frame are the same for all seeds, so what differs was drawn by the model.
        assert!(clearly_different(&first, &other) > 200, "{preset}: {}", clearly_different(&first, &other));
        let left: Vec<_> = fs::read_dir(place.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 4, "{left:?}");
    }
}

#[test]
fn a_model_without_entities_has_nothing_to_generate_and_says_so() {
    let shared = trained();
    let place = Place::new();
    // At ten times the price of an entity's content, content is the first thing to go.
    let flags = "--steps 10 --set model.latent.beta=10 --set training.learning_rate=3e-3 --out run --quiet";
    place.train(&format!("--scenes {} {flags}", shared.path("scenes.npz").display())).ok();
    place.refuses("generate run --out new.png", 1, &["no entity", "train it longer"]);
}
