//! Scenes changed entity by entity: what changes in the picture, and what does not.

use candle_core::{DType, Device, Tensor};
use multi_entity_vae::config::{Background, Colours, CompositorConfig, Preset, Rank};
use multi_entity_vae::evaluate::Decomposition;
use multi_entity_vae::generate::edit::{Edit, Entities};
use multi_entity_vae::generate::walk;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::model::{Model, Selection, Variables};
use multi_entity_vae::random;

const CPU: Device = Device::Cpu;

/// The default model, untrained, and two scenes of noise taken apart.
fn scenes() -> (Model, [Entities; 2]) {
    let config = Preset::MultiEntity.config().model;
    let extent = Extent::new(64, 64, 1);
    let variables = Variables::new(1);
    let model = Model::new(&config, extent, variables.builder(DType::F32, &CPU)).unwrap();
    let mut pixels = vec![0f32; 2 * 64 * 64];
    random::normals(&mut random::stream(0, "pixels", 0), &mut pixels);
    let images = Tensor::from_vec(pixels, (2, 64, 64, 1), &CPU).unwrap().abs().unwrap();
    let selection = Selection { rank_by: Rank::Kl, entities: 3, radius: 2, overlap: 1.0, seed: 0 };
    let parts = Decomposition::of(&model, &images, &selection).unwrap();
    let mut both = [0, 1].map(|i| Entities::of(&model, &parts, i).unwrap());
    // Untrained, the reconstruction is the decoded means.
    let merged = parts.inference.reconstruction().unwrap().flatten_from(1).unwrap().to_vec2::<f32>().unwrap();
    for (entities, merged) in both.iter_mut().zip(merged) {
        let decoded = entities.decode(&model, &CPU).unwrap();
        assert!(decoded.iter().zip(merged).all(|(a, b)| (a - b).abs() < 1e-5));
        // In the middle, where patches of 36 pixels fit with room to move.
        for k in 0..3 {
            let (row, column) = (entities.all()[k].cell / 16, entities.all()[k].cell % 16);
            entities.apply(Edit::Move(k, [7 + k as isize - row as isize, 7 - column as isize])).unwrap();
            assert_eq!(entities.all()[k].cell, (7 + k) * 16 + 7);
        }
    }
    (model, both)
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
}

#[test]
fn a_scene_keeps_the_background_that_its_image_told() {
    let mut config = Preset::MultiEntity.config().model;
    config.compositor = CompositorConfig::Mixture { background: Background::Median, colours: Colours::PerPixel };
    let model = Model::new(&config, Extent::new(64, 64, 3), Variables::new(1).builder(DType::F32, &CPU)).unwrap();
    let images =
        Tensor::cat(&[0.25f32, 0.75].map(|ground| Tensor::full(ground, (1, 64, 64, 3), &CPU).unwrap()), 0).unwrap();
    let selection = Selection { rank_by: Rank::Kl, entities: 3, radius: 2, overlap: 1.0, seed: 0 };
    let parts = Decomposition::of(&model, &images, &selection).unwrap();
    for (i, ground) in [0.25, 0.75].into_iter().enumerate() {
        let mut scene = Entities::of(&model, &parts, i).unwrap();
        let merged = parts.inference.reconstruction().unwrap().get(i).unwrap().flatten_all().unwrap();
        let merged = merged.to_vec1().unwrap();
        assert!(close(&scene.decode(&model, &CPU).unwrap(), &merged));
        let z = parts.inference.entities.mean().unwrap().get(i).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let over_its_ground = parts.inference.compositor.of_image(i).unwrap();
        let cells = std::slice::from_ref(&parts.cells[i]);
        assert!(close(&walk::decoded(&model, &over_its_ground, &z, cells, &CPU).unwrap()[0], &merged));
        (0..3).for_each(|k| scene.apply(Edit::Remove(k)).unwrap());
        let empty = scene.decode(&model, &CPU).unwrap();
        assert!(empty.iter().all(|p| (p - ground).abs() < 1.0 / 255.0), "{} is not {ground}", empty[0]);
    }
}

#[test]
fn a_moved_entity_is_the_same_picture_elsewhere() {
    let (model, [mut scene, _]) = scenes();
    let before = scene.alone(&model, &CPU).unwrap();
    scene.apply(Edit::Move(1, [-1, 2])).unwrap();
    let after = scene.alone(&model, &CPU).unwrap();
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
    // Cells are 4 pixels: 4 up, 8 to the right.
    for (y, x) in (4..64).flat_map(|y| (0..56).map(move |x| (y, x))) {
        assert_eq!(before[1][y * 64 + x], after[1][(y - 4) * 64 + x + 8], "({y}, {x})");
    }
}

#[test]
fn copying_and_removing_the_original_is_moving() {
    let (model, [scene, _]) = scenes();
    let (mut moved, mut copied) = (scene.clone(), scene);
    moved.apply(Edit::Move(0, [2, 1])).unwrap();
    copied.apply(Edit::Copy(0, [2, 1])).unwrap();
    assert_eq!(copied.all().len(), 4);
    let both = copied.decode(&model, &CPU).unwrap();
    copied.apply(Edit::Remove(0)).unwrap();
    assert!(close(&moved.decode(&model, &CPU).unwrap(), &copied.decode(&model, &CPU).unwrap()));
    assert!(!close(&both, &copied.decode(&model, &CPU).unwrap()));
    // Without any, nothing is left but the ground.
    (1..4).for_each(|k| copied.apply(Edit::Remove(k)).unwrap());
    assert!(copied.decode(&model, &CPU).unwrap().iter().all(|p| *p < 1e-4));
}

#[test]
fn swapped_entities_stand_at_each_others_places_and_back() {
    let (model, [mut one, mut other]) = scenes();
    let (before_one, before_other) = (one.clone(), other.clone());
    one.swap(0, &mut other, 2).unwrap();
    assert_eq!((&one.all()[0].z, one.all()[0].cell), (&before_other.all()[2].z, before_one.all()[0].cell));
    assert!(!close(&one.decode(&model, &CPU).unwrap(), &before_one.decode(&model, &CPU).unwrap()));
    one.swap(0, &mut other, 2).unwrap();
    assert_eq!((one.all(), other.all()), (before_one.all(), before_other.all()));
}

#[test]
fn a_latent_is_set_and_what_is_not_there_is_refused() {
    let (model, [mut scene, mut other]) = scenes();
    let before = scene.alone(&model, &CPU).unwrap();
    scene.apply(Edit::Set { entity: 2, dimension: 5, value: 3.0 }).unwrap();
    assert_eq!(scene.all()[2].z[5], 3.0);
    let after = scene.alone(&model, &CPU).unwrap();
    assert!(before[1] == after[1] && before[2] != after[2]);
    let refused = scene.clone();
    for (edit, words) in [
        (Edit::Remove(3), "no entity 4 of 3"),
        (Edit::Set { entity: 0, dimension: 16, value: 0.0 }, "no latent dimension 16 of 16"),
        (Edit::Move(0, [-8, 0]), "row -1 and column 7"),
        (Edit::Copy(0, [0, isize::MAX]), "would be in"),
    ] {
        let error = scene.apply(edit).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(scene.swap(0, &mut other, 9).is_err());
    assert_eq!(scene.all(), refused.all());
}
