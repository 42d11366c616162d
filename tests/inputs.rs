//! Whatever bytes a reader is given, it answers: the bodies that are fuzzed (`.ci/fuzz`) run here over their committed corpora,
//! every find among them, and over some thousands of damaged copies.

#[path = "fuzz/bodies.rs"]
mod bodies;

use bodies::{TARGETS, Target};
use candle_core::Device;
use flate2::{Compression, write::GzEncoder};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use multi_entity_vae::config::{Config, Preset};
use multi_entity_vae::evaluate::Report;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::random;
use multi_entity_vae::run::{Checkpoint, Progress};
use multi_entity_vae::train::Trainer;
use multi_entity_vae::train::log::EventLog;
use rand::Rng;
use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zip::ZipArchive;

/// Damaged copies that each reader is given.
const DAMAGED: u64 = 2000;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The committed inputs of a target, with their paths.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut folders = vec![tests().join("fuzz/corpus").join(target)];
    if target == "npz" {
        // NumPy's own; so that finds alone need a folder.
        folders.insert(0, tests().join("data"));
        folders.retain(|folder| folder.exists());
    }
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a corpus for each target"));
    let mut paths: Vec<_> = files.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a readable file"))).collect()
}

/// Runs a body; a panic names the input, and keeps it for a look.
fn run((name, body): Target, data: &[u8], origin: &str) {
    let started = Instant::now();
    if catch_unwind(|| body(data)).is_err() {
        let kept = std::env::temp_dir().join(format!("mevae-{name}-find"));
        fs::write(&kept, data).expect("a writable folder for temporary files");
        panic!("{name}: {origin} is not read without panic; it is kept as {}", kept.display());
    }
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(20), "{name}: {origin} took {taken:?}");
}

/// A copy with a few faults: bits, bytes and numbers changed, parts cut out, doubled or exchanged.
fn damaged(data: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut data = data.to_vec();
    for _ in 0..rng.random_range(1..5) {
        let at = rng.random_range(0..=data.len());
        let end = (at + rng.random_range(0..16)).min(data.len());
        match rng.random_range(0..6) {
            0 => data.truncate(at),
            1 => drop(data.drain(at..end)),
            2 => {
                let part = data[at..end].to_vec();
                data.splice(at..at, part);
            }
            3 => data.insert(at, rng.random()),
            4 => data[at..end].fill([0, 0xff, 0x7f, b'9', b' '][rng.random_range(0..5)]),
            _ => data[at..end].iter_mut().for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
        }
    }
    data
}

fn survives(target: Target) {
    let corpus = corpus(target.0);
    assert!(!corpus.is_empty(), "{}", target.0);
    for (path, data) in &corpus {
        run(target, data, &path.display().to_string());
    }
    for number in 0..DAMAGED {
        let mut rng = random::stream(0, target.0, number);
        let (path, data) = &corpus[number as usize % corpus.len()];
        run(target, &damaged(data, &mut rng), &format!("copy {number} of {}", path.display()));
    }
}

macro_rules! each_reader_survives {
    ($($test:ident: $target:literal,)*) => {
        $(#[test]
        fn $test() {
            survives(TARGETS.into_iter().find(|target| target.0 == $target).expect("a target"));
        })*

        #[test]
        fn no_reader_is_left_out() {
            assert_eq!(TARGETS.map(|target| target.0), [$($target),*]);
            let manifest = fs::read_to_string(tests().join("fuzz/Cargo.toml")).expect("a manifest");
            for (name, _) in TARGETS {
                assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
                let target = fs::read_to_string(tests().join(format!("fuzz/targets/{name}.rs"))).expect(name);
                assert!(target.contains(&format!("bodies::{name}(data)")), "{name}");
            }
        }
    };
}

each_reader_survives! {
    idx_files: "idx",
    scene_archives: "npz",
    arrays: "npy",
    checkpoints: "checkpoint",
    configurations: "config",
    settings: "settings",
    pictures: "picture",
    metrics: "metrics",
    event_files: "events",
    scores: "report",
}

// ------------------------------------------------------------------------------------------- corpora

/// Writes the seeds of the corpora anew (finds are left as they are): `UPDATE_CORPORA=1 cargo test corpora`.
#[test]
fn corpora_are_small_and_have_their_seeds() {
    for (target, seeds) in seeds() {
        let folder = tests().join("fuzz/corpus").join(target);
        for (name, data) in seeds {
            let path = folder.join(&name);
            if std::env::var_os("UPDATE_CORPORA").is_some_and(|value| value == "1") {
                fs::create_dir_all(&folder).expect("a writable folder");
                fs::write(&path, data).expect("a writable file");
            }
            assert!(path.is_file(), "{} is missing; run again with UPDATE_CORPORA=1", path.display());
        }
    }
    for (name, _) in TARGETS {
        for (path, data) in corpus(name) {
            assert!(data.len() <= 8192, "{} has {} bytes", path.display(), data.len());
        }
    }
}

type Seeds = Vec<(String, Vec<u8>)>;

fn seeds() -> Vec<(&'static str, Seeds)> {
    vec![
        ("idx", idx_seeds()),
        ("npy", npy_seeds()),
        ("checkpoint", checkpoint_seeds()),
        ("config", Preset::ALL.map(|p| (p.name().to_owned(), p.config().to_toml().into_bytes())).to_vec()),
        ("settings", settings_seeds()),
        ("picture", picture_seeds()),
        ("metrics", metrics_seeds()),
        ("events", event_seeds()),
        (
            "report",
            vec![("empty".into(), serde_json::to_vec(&Report::default()).unwrap()), ("full".into(), SCORES.into())],
        ),
    ]
}

fn idx_seeds() -> Seeds {
    let file = |sizes: &[u32], body: &[u8]| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(body);
        bytes
    };
    let mut seeds = Vec::new();
    for (name, bytes) in [
        ("labels", file(&[5], &[1, 2, 3, 4, 9])),
        ("images", file(&[2, 28, 28], &[7; 2 * 28 * 28])),
        ("small", file(&[2, 2, 3], &[1; 12])),
    ] {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).unwrap();
        seeds.push((format!("{name}.gz"), encoder.finish().unwrap()));
        seeds.push((name.to_owned(), bytes));
    }
    seeds
}

/// The arrays of the archives that NumPy wrote.
fn npy_seeds() -> Seeds {
    let mut seeds = Vec::new();
    for name in ["plain", "colour", "wide-types", "no-counts", "images-only", "bad-float"] {
        let mut zip = ZipArchive::new(File::open(tests().join(format!("data/{name}.npz"))).unwrap()).unwrap();
        let mut seed = Vec::new();
        for member in ["images", "masks", "counts", "labels", "boxes"] {
            let mut bytes = Vec::new();
            if let Ok(mut file) = zip.by_name(&format!("{member}.npy")) {
                file.read_to_end(&mut bytes).unwrap();
            }
            seed.extend((bytes.len() as u16).to_le_bytes());
            seed.extend(bytes);
        }
        seeds.push((name.to_owned(), seed));
    }
    seeds
}

/// Models of a few parameters, dense and convolutional.
fn checkpoint_seeds() -> Seeds {
    let dense = ["model.encoder.hidden=[2]", "model.decoder.trunk.hidden=[2]", "model.latent.dimensions=1"];
    let convolutional = [
        "model.encoder.layers=[{channels=1,kernel=2,stride=2}]",
        "model.decoder.trunk={kind=\"convolutional\",hidden=[1],base=1,layers=[{channels=1,kernel=2,stride=2}]}",
        "model.decoder.placement.patch=4",
        "model.latent.dimensions=1",
        "model.entities=2",
        "model.compositor.kind=mixture",
    ];
    let folder = tempfile::tempdir().unwrap();
    let seed = |preset: Preset, settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|s| (*s).to_string()).collect();
        let trainer =
            Trainer::new(Config::resolve(preset, None, &settings).unwrap(), Extent::new(4, 5, 1), &Device::Cpu);
        let path = folder.path().join(preset.name());
        let progress = Progress { events_file: "events.out.tfevents.1700000000.mevae".into(), ..Progress::default() };
        Checkpoint::save(&path, &trainer.unwrap(), &progress).unwrap();
        (preset.name().to_owned(), of_format_1(&fs::read(path).unwrap()))
    };
    vec![seed(Preset::Vae, &dense), seed(Preset::MultiEntity, &convolutional)]
}

/// The same checkpoint as of the format that has no checksum: otherwise no damaged copy would get beyond it.
fn of_format_1(checkpoint: &[u8]) -> Vec<u8> {
    let (length, rest) = checkpoint.split_first_chunk().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    header["__metadata__"]["format"] = "1".into();
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
}

fn settings_seeds() -> Seeds {
    [
        ("numbers", "training.batch=32\ntraining.learning_rate=1e-3\ntraining.seed = 7\nmodel.entities=4"),
        ("kinds", "model.compositor.kind=sum\nmodel.latent.kind=point\nmodel.encoder.kind=dense\nmodel.encoder.hidden=[64, 64]"),
        ("schedule", "model.latent.beta={ from = 0.0, to = 1.0, end = 0.2, shape = \"cosine\" }\ntraining.learning_rate.warmup=0.1"),
        ("layers", "model.encoder.layers=[{channels=4,kernel=3,stride=2},{channels=2,kernel=2,stride=2,up=true}]"),
        ("wrong", "training.bach=1\n=\na..b=c\nmodel=3\ndata.scenes=\"air\""),
    ]
    .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
    .to_vec()
}

fn picture_seeds() -> Seeds {
    use ImageFormat::{Bmp, Gif, Ico, Jpeg, Png, Pnm, Qoi, Tga, Tiff, WebP};
    let picture = RgbImage::from_fn(9, 6, |x, y| Rgb([10 * x as u8, 200, 30 * y as u8]));
    let picture = DynamicImage::ImageRgb8(picture);
    let seed = |format: ImageFormat, picture: &DynamicImage, suffix: &str| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        let name = format!("{}{suffix}", format.extensions_str()[0]);
        (name, [&[u8::from(format == Tga)], &bytes.into_inner()[..]].concat())
    };
    let mut seeds: Seeds = [Png, Jpeg, Gif, Bmp, WebP, Tiff, Pnm, Tga, Qoi].map(|f| seed(f, &picture, "")).to_vec();
    seeds.push(seed(Ico, &picture.to_rgba8().into(), ""));
    seeds.push(seed(Png, &picture.to_luma_alpha16().into(), "-grey-alpha-16"));
    seeds.push(seed(Tiff, &picture.to_luma8().into(), "-grey"));
    seeds
}

const METRICS: &str = r#"{"kind":"step","step":10,"loss":7.0,"reconstruction_nats":5.0,"kl_nats":2.0,"seconds":0.5}
{"kind":"validation","step":10,"seconds":0.6,"reconstruction_nats":4.0,"kl_nats":1e0,"count_accuracy":0.5}
{"kind":"validation","step":20,"reconstruction_nats":null}
"#;

const SCORES: &str = r#"{"scenes":8,"reconstruction_nats":300.5,"kl_nats":20.25,"location_nats":9.0,"elbo":-329.75,"mse":0.01,
"count_accuracy":0.75,"count_accuracy_sem":0.1,"count_confusion":[[1,0],[1,6]],"ari_foreground":0.9,"ari_foreground_sem":0.02,
"ami_foreground":0.8,"scenes_with_objects_2plus":3,"ari_all":0.4,"miou":0.7,"f1":0.8,"entities_per_scene":1.5}"#;

fn metrics_seeds() -> Seeds {
    let first_line = METRICS.find('\n').unwrap() + 1;
    [("at-a-line", first_line), ("in-a-line", 7), ("beyond", 60_000), ("from-nothing", 0)]
        .map(|(name, length)| (name.to_owned(), [&(length as u16).to_le_bytes(), METRICS.as_bytes()].concat()))
        .to_vec()
}

fn event_seeds() -> Seeds {
    let folder = tempfile::tempdir().unwrap();
    let mut log = EventLog::create(folder.path(), "seed").unwrap();
    let version = log.len();
    log.scalar("loss", 1, 0.5).unwrap();
    let bytes = fs::read(log.path()).unwrap();
    [("whole", log.len()), ("first", version), ("inside", version + 5), ("beyond", 60_000), ("from-nothing", 0)]
        .map(|(name, length)| (name.to_owned(), [&(length as u16).to_le_bytes(), &bytes[..]].concat()))
        .to_vec()
}

// ---------------------------------------------------------------------------------------- checkpoints

/// A checkpoint of a small model, as it is on the disk.
fn saved(folder: &Path) -> (PathBuf, Vec<u8>) {
    let settings = ["model.encoder.hidden=[40]", "model.decoder.trunk.hidden=[40]"].map(String::from);
    let config = Config::resolve(Preset::Vae, None, &settings).unwrap();
    let trainer = Trainer::new(config, Extent::new(9, 7, 1), &Device::Cpu).unwrap();
    let path = folder.join("last.safetensors");
    Checkpoint::save(&path, &trainer, &Progress::default()).unwrap();
    let whole = fs::read(&path).unwrap();
    (path, whole)
}

#[test]
fn a_checkpoint_that_is_cut_or_longer_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (path, whole) = saved(folder.path());
    assert!(Checkpoint::load(&path).is_ok());
    let cut = (0..100).map(|percent| whole[..whole.len() * percent / 100].to_vec());
    for damaged in cut.chain([[&whole[..], b"\0"].concat(), whole[..whole.len() - 1].to_vec()]) {
        fs::write(&path, &damaged).unwrap();
        let refusal = Checkpoint::load(&path).unwrap_err().to_string();
        assert!(refusal.contains("last.safetensors is no usable checkpoint"), "{refusal}");
    }
}
