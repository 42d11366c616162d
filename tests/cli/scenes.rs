//! Scenes as files.

use super::*;

#[test]
fn scenes_are_written_as_an_archive_that_reads_back() {
    let place = Place::new();
    for (recipe, split) in [
        (Recipe::Digits, Split::Train),
        (Recipe::Air, Split::Test),
        (Recipe::Survey, Split::General),
        (Recipe::Single, Split::Validation),
        (Recipe::Sprite, Split::Test),
        (Recipe::Sprites, Split::Train),
        (Recipe::Tetrominoes, Split::Test),
    ] {
        let file = format!("{recipe}.npz");
        let line = format!("scenes --recipe {recipe} --split {split} --count 5 --seed 9 --out {file}");
        place.mevae(&line).ok().says(&["5 scenes", &recipe.to_string(), &file]);
        let archive = Archive::read(&place.path(&file)).unwrap();
        assert_eq!((archive.len(), archive.shape()), (5, recipe.shape()));
        let source = SceneSource::from_recipe(recipe, DigitSet::builtin(), split, 9).unwrap();
        for index in 0..5 {
            assert_eq!(archive.scene(index as usize).unwrap(), source.scene(index).unwrap(), "{recipe} {index}");
        }
        let names: BTreeSet<String> = zip::ZipArchive::new(fs::File::open(place.path(&file)).unwrap())
            .unwrap()
            .file_names()
            .map(|name| name.unwrap().into_owned())
            .collect();
        let has_factors = matches!(recipe, Recipe::Sprite | Recipe::Sprites | Recipe::Tetrominoes);
        let members =
            ["images", "masks", "counts", "labels", "boxes"].into_iter().chain(has_factors.then_some("factors"));
        assert_eq!(names, members.map(|n| format!("{n}.npy")).collect());
    }
    // The same bytes again; another seed, others.
    let before = place.read("digits.npz");
    place.refuses("scenes --count 5 --out digits.npz", 2, &["digits.npz", "--overwrite"]);
    place.mevae("scenes --split train --count 5 --seed 9 --out digits.npz --overwrite").ok();
    assert_eq!(before, place.read("digits.npz"));
    place.mevae("scenes --split train --count 5 --seed 8 --out digits.npz --overwrite").ok();
    assert_ne!(before, place.read("digits.npz"));
}

#[test]
fn scenes_that_cannot_be_written_are_refused() {
    let place = Place::new();
    place.write("file", "");
    place.refuses("scenes --recipe aire --out q.npz", 2, &["did you mean \"air\""]);
    place.refuses("scenes --split tset --out q.npz", 2, &["validation"]);
    place.refuses("scenes --recipe air --split general --out q.npz", 1, &["survey"]);
    place.refuses("scenes --recipe single --split test --count 10001 --out q.npz", 2, &["10000"]);
    place.refuses("scenes --count 0 --out q.npz", 2, &["--count"]);
    place.refuses("scenes --count 99999999999 --out q.npz", 2, &["too many", "--seed"]);
    place.refuses("scenes --digits nowhere --out q.npz", 1, &["nowhere", "train-images-idx3-ubyte"]);
    place.refuses("scenes --count 3 --out nowhere/q.npz", 1, &["nowhere/q.npz", "check the path"]);
    place.refuses("scenes --count 3 --out file/q.npz", 1, &["file/q.npz"]);
    // It could not be read back: every reader tells an archive from a recipe by its name.
    place.refuses("scenes --count 3 --out q.npy", 2, &[".npz"]);
}
