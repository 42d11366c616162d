//! Pictures and scenes taken apart.

use super::*;

/// Checks a folder that `decompose` wrote, for inputs of these names.
#[track_caller]
fn assert_decomposition(place: &Place, folder: &str, inputs: &[&str], entities: usize, dimensions: usize) -> Value {
    let sheet = image::open(place.path(folder).join("decomposition.png")).unwrap();
    assert!(sheet.width() > 64 * 4 && sheet.height() > 64);
    let records = place.json(format!("{folder}/entities.json"));
    let all = records.as_array().unwrap();
    assert_eq!(all.len(), inputs.len() * entities);
    let mut files = BTreeSet::from(["decomposition.png".to_string(), "entities.json".to_string()]);
    for (i, record) in all.iter().enumerate() {
        let keys: BTreeSet<&str> = record.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = ["input", "entity", "cell", "box", "kl_nats", "present", "z", "file"];
        assert_eq!(keys, BTreeSet::from(expected), "{record}");
        assert_eq!(record["input"], inputs[i / entities]);
        assert_eq!(record["entity"], i % entities + 1);
        let cell: (usize, usize) = serde_json::from_value(record["cell"].clone()).unwrap();
        assert!(cell.0 < 16 && cell.1 < 16, "{record}");
        if let Some([x0, y0, x1, y1]) = serde_json::from_value::<Option<[usize; 4]>>(record["box"].clone()).unwrap() {
            assert!(x0 < x1 && x1 <= 64 && y0 < y1 && y1 <= 64, "{record}");
            assert_eq!(record["present"], true, "only what is present wins pixels: {record}");
        }
        assert!(record["kl_nats"].as_f64().unwrap() >= 0.0 && record["present"].is_boolean(), "{record}");
        let z: Vec<f64> = serde_json::from_value(record["z"].clone()).unwrap();
        assert_eq!(z.len(), dimensions);
        let file = record["file"].as_str().unwrap();
        let picture = image::open(place.path(folder).join(file)).unwrap();
        assert_eq!((picture.width(), picture.height()), (64, 64), "{file}");
        assert!(files.insert(file.to_string()), "{file} is used twice");
    }
    let found: BTreeSet<String> = fs::read_dir(place.path(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, files);
    records
}

#[test]
fn a_picture_with_dark_ink_on_a_light_page_is_fitted_inverted_and_taken_apart() {
    let (_shared, place, run) = beside();
    page(100, 60).save(place.path("note.png")).unwrap();
    let outcome = place.mevae(&format!("decompose {run} note.png --out parts/deep")).ok();
    assert_decomposition(&place, "parts/deep", &["note"], 4, 16);
    let outcome = outcome.says(&["note.png: ", "scaled from 100×60", "dark ink on a light page, inverted"]);
    assert!(outcome.out.contains("note: ") && outcome.out.contains("parts/deep/decomposition.png"), "{}", outcome.out);

    // The same picture, already as a model takes it, comes out as the same entities, without a word.
    let mut white = page(64, 64);
    white.save(place.path("page.png")).unwrap();
    white.pixels_mut().for_each(|p| p.0[0] = 255 - p.0[0]);
    white.save(place.path("board.png")).unwrap();
    place.mevae(&format!("decompose {run} page.png --out page")).ok().says(&["inverted"]);
    let silent = place.mevae(&format!("decompose {run} board.png --out board")).ok();
    assert_eq!(silent.err, "");
    let mut records = ["page", "board"].map(|name| assert_decomposition(&place, name, &[name], 4, 16));
    for record in records.iter_mut().flat_map(|r| r.as_array_mut().unwrap()) {
        record.as_object_mut().unwrap().retain(|key, _| key != "input" && key != "file");
    }
    assert_eq!(records[0], records[1]);
}

#[test]
fn pictures_in_other_formats_and_colours_are_read() {
    let (_shared, place, run) = beside();
    let colour =
        RgbImage::from_fn(80, 80, |x, y| if x.abs_diff(y) < 6 { Rgb([10, 30, 90]) } else { Rgb([250, 240, 220]) });
    let mut names = Vec::new();
    for format in ["png", "jpg", "gif", "bmp", "webp", "tiff", "qoi", "ppm"] {
        colour.save(place.path(format!("as-{format}.{format}"))).unwrap();
        names.push(format!("as-{format}.{format}"));
    }
    place.mevae(&format!("decompose {run} {} --out parts", names.join(" "))).ok();
    let stems: Vec<&str> = names.iter().map(|name| name.split('.').next().unwrap()).collect();
    assert_decomposition(&place, "parts", &stems, 4, 16);
}

#[test]
fn pictures_of_one_name_do_not_overwrite_each_other() {
    let (_shared, place, run) = beside();
    for name in ["a/x.png", "b/x.png", "c/x~2.png"] {
        fs::create_dir_all(place.path(name).parent().unwrap()).unwrap();
        page(64, 64).save(place.path(name)).unwrap();
    }
    for (folder, order) in [("one", "a/x.png b/x.png c/x~2.png"), ("two", "c/x~2.png a/x.png b/x.png")] {
        place.mevae(&format!("decompose {run} {order} --out {folder}")).ok();
        let records = place.json(format!("{folder}/entities.json"));
        let names = |key: &str| -> BTreeSet<String> {
            records.as_array().unwrap().iter().map(|r| r[key].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("input").len(), 3, "{order}: {:?}", names("input"));
        assert_eq!(names("file").len(), 12, "{order}: {:?}", names("file"));
    }
}

#[test]
fn scenes_of_a_recipe_and_of_an_archive_are_taken_apart() {
    let (shared, place, run) = beside();
    place.mevae(&format!("decompose {run} --scenes digits --count 2 --out recipe")).ok();
    assert_decomposition(&place, "recipe", &["scene-000", "scene-001"], 4, 16);
    let archive = shared.path("scenes.npz");
    place.mevae(&format!("decompose {run} --scenes {} --entities 7 --count 3 --out file", archive.display())).ok();
    assert_decomposition(&place, "file", &["scene-000", "scene-001", "scene-002"], 7, 16);
}
