//! What is refused, and in which words.

use super::*;

#[test]
fn what_is_no_run_is_named_and_nothing_is_written() {
    let place = Place::new();
    place.write("file", "not a run");
    fs::create_dir(place.path("empty")).unwrap();
    page(64, 64).save(place.path("page.png")).unwrap();
    for run in ["nowhere", "file", "empty"] {
        for line in [
            format!("evaluate {run} --json scores.json"),
            format!("info {run}"),
            format!("generate {run} --out new.png"),
            format!("decompose {run} page.png --out parts"),
            format!("train --resume {run}"),
        ] {
            place.refuses(&line, 1, &[run, "is no run", "mevae train"]);
        }
    }
}

#[test]
fn damaged_and_foreign_checkpoints_are_told_with_a_way_out() {
    let (_shared, place, run) = beside();
    page(64, 64).save(place.path("page.png")).unwrap();
    let whole = fs::read(Path::new(&run).join("checkpoints/last.safetensors")).unwrap();
    let foreign = {
        let header = br#"{"weight":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat()
    };
    let oversized = [&u64::MAX.to_le_bytes()[..], &[b' '; 100]].concat();
    for (name, bytes) in [
        ("cut", &whole[..whole.len() / 2]),
        ("cut-in-header", &whole[..500]),
        ("empty", &[]),
        ("foreign", &foreign),
        ("oversized", &oversized),
        ("text", b"not a checkpoint at all"),
    ] {
        copy_run(&run, &place, name);
        for file in ["last", "best"] {
            place.write(&format!("{name}/checkpoints/{file}.safetensors"), bytes);
        }
        for (line, file) in [
            (format!("evaluate {name} --json scores.json"), "best"),
            (format!("info {name}"), "best"),
            (format!("generate {name} --out new.png"), "best"),
            (format!("decompose {name} page.png --out parts"), "best"),
            (format!("train --resume {name}"), "last"),
        ] {
            let path = format!("{name}/checkpoints/{file}.safetensors");
            // What is wrong, and what to do: train anew.
            place.refuses(&line, 1, &[&path, "no usable checkpoint", "mevae train"]);
        }
    }
}

#[test]
fn a_checkpoint_of_another_model_or_a_later_format_is_refused() {
    let (_shared, place, run) = beside();
    copy_run(&run, &place, "changed");
    // Of the first format, which had no checksum that would tell of every change before it is read.
    let whole = with_metadata(&fs::read(Path::new(&run).join("checkpoints/best.safetensors")).unwrap(), |metadata| {
        metadata.insert("format".into(), "1".into());
        metadata.remove("checksum").unwrap();
    });
    let size = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&whole[8..8 + size]).unwrap();
    let with = |from: &str, to: &str| {
        assert!(header.contains(from), "{header}");
        let header = header.replacen(from, to, 1);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &whole[8 + size..]].concat()
    };
    for (from, to, phrases) in [
        ("dimensions = 16", "dimensions = 17", ["no usable checkpoint", "mevae train"]),
        ("\"format\":\"1\"", "\"format\":\"9\"", ["format 9", "update mevae"]),
        ("kind = \\\"union\\\"", "kind = \\\"onion\\\"", ["the version of mevae that wrote it", "onion"]),
    ] {
        place.write("changed/checkpoints/best.safetensors", with(from, to));
        place.refuses("evaluate changed", 1, &phrases);
        place.refuses("generate changed --out new.png", 1, &phrases);
    }
}

#[test]
fn a_run_without_a_checkpoint_is_told_with_a_way_out() {
    let (_shared, place, run) = beside();
    copy_run(&run, &place, "bare");
    for file in ["last", "best"] {
        fs::remove_file(place.path(format!("bare/checkpoints/{file}.safetensors"))).unwrap();
    }
    for line in ["evaluate bare", "info bare", "generate bare --out new.png", "train --resume bare"] {
        place.refuses(line, 1, &["bare has no checkpoint yet", "--overwrite"]);
    }
}

#[test]
fn archives_that_cannot_be_read_are_refused_everywhere() {
    let (shared, place, run) = beside();
    let whole = shared.read("scenes.npz");
    place.write("cut.npz", &whole[..whole.len() / 2]);
    place.write("text.npz", "not an archive");
    place.write("empty.npz", "");
    for (file, phrase) in [
        ("cut.npz".to_string(), "numpy.savez"),
        ("text.npz".into(), "numpy.savez"),
        ("empty.npz".into(), "numpy.savez"),
        ("nowhere.npz".into(), "check the path"),
        ("sruvey".into(), "did you mean \"survey\""),
        (data("bad-missing.npz"), "images"),
        (data("bad-float.npz"), "astype(numpy.uint8)"),
        (data("bad-fortran.npz"), "ascontiguousarray"),
    ] {
        place.refuses(&format!("evaluate {run} --scenes {file} --json scores.json"), 1, &[&file, phrase]);
        place.refuses(&format!("decompose {run} --scenes {file} --out parts"), 1, &[&file, phrase]);
        place.refuses_training(&format!("--scenes {file} --out new"), 1, &[&file, phrase]);
    }
}

#[test]
fn scenes_of_another_shape_than_the_runs_are_refused() {
    let (_shared, place, run) = beside();
    for scenes in ["single".to_string(), data("plain.npz"), data("colour.npz")] {
        let phrases = ["64×64×1", &scenes, "choose other --scenes"];
        place.refuses(&format!("evaluate {run} --scenes {scenes} --json scores.json"), 1, &phrases);
        place.refuses(&format!("decompose {run} --scenes {scenes} --out parts"), 1, &phrases);
    }
    place.refuses(&format!("evaluate {run} --split general"), 1, &["general", "survey"]);
}

#[test]
fn unusable_digits_are_refused_before_anything_is_made() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    place.write("file", "");
    for folder in ["nowhere", "empty", "file"] {
        let phrases = [folder, "train-images-idx3-ubyte", "put the four"];
        place.refuses_training(&format!("--digits {folder} --out new"), 1, &phrases);
    }
    // A header that asks for 2 TiB and 200 GiB over a few bytes, more digits than follow, fewer than follow, other tiles.
    for (name, sizes, phrase) in [
        ("huge", [u32::MAX, 28, 28], ""),
        ("large", [300_000_000, 28, 28], ""),
        ("short", [27, 28, 28], "20"),
        ("long", [25, 28, 28], ""),
        ("tiles", [26, u32::MAX, u32::MAX], "28"),
        ("none", [0, 28, 28], ""),
    ] {
        write_digits(&place, name, 26, 3);
        let file = format!("{name}/train-images-idx3-ubyte");
        let mut bytes = place.read(&file);
        sizes.iter().enumerate().for_each(|(i, n)| bytes[4 + 4 * i..8 + 4 * i].copy_from_slice(&n.to_be_bytes()));
        place.write(&file, bytes);
        let started = Instant::now();
        place.refuses_training(&format!("--digits {name} --out new"), 1, &[&file, "no usable digit file", phrase]);
        place.refuses(&format!("scenes --digits {name} --out new.npz"), 1, &[&file]);
        assert!(started.elapsed() < Duration::from_secs(20), "{name}");
    }
}

#[test]
fn downloads_without_the_feature_say_what_works_instead() {
    if cfg!(feature = "hub") {
        return; // It would go to the network.
    }
    let place = Place::new();
    place.refuses_training("--digits mnist --out new", 1, &["hub", "--digits builtin", "--digits DIR"]);
}

#[test]
fn more_entities_than_candidates_and_none_are_wrong_use() {
    let (_shared, place, run) = beside();
    for entities in [0, 257] {
        let phrases = ["between 1 and the 256 candidates", &format!("not {entities}")];
        place.refuses_training(&format!("--entities {entities} --out new"), 2, &phrases);
        place.refuses(&format!("evaluate {run} --entities {entities}"), 2, &phrases);
        place.refuses(&format!("decompose {run} --scenes digits --entities {entities} --out parts"), 2, &phrases);
    }
    place.refuses_training("--preset vae --entities 2", 2, &["model.entities", "1×1 grid"]);
}

#[test]
fn unknown_and_inapplicable_keys_name_the_nearest_that_works() {
    let place = Place::new();
    for (flags, phrases) in [
        ("--set training.batchs=2", ["training.batchs", "did you mean \"training.batch\""]),
        ("--set trainig.batch=2", ["trainig.batch", "did you mean \"training.batch\""]),
        ("--set learning_rate=1", ["\"learning_rate\"", "training.learning_rate"]),
        // Nothing is like it: then say where the keys are listed.
        ("--set xyzzy=1", ["xyzzy", "--print-config"]),
        ("--set training.batch", ["training.batch", "key=value"]),
        ("--preset autoencoder --set model.latent.beta=2", ["model.latent.beta", "does not apply"]),
        ("--preset vae --set model.encoder.layers=[]", ["model.encoder.layers", "does not apply"]),
        ("--set model.compositor.kind=onion", ["onion", "union"]),
        ("--preset vea", ["vea", "multi-entity"]),
        ("--set model.selector.overlap=1.5", ["model.selector.overlap", "between 0 and 1"]),
        (
            "--set model.selector.overlap={from=1,to=1,warmup=0.1} --set model.compositor={kind=\"render\",features=2}",
            ["model.selector.overlap", "render"],
        ),
        ("--set model.selector.overlap=-0.5", ["model.selector.overlap", "negative"]),
        (
            "--set model.selector.overlap=0.5 --set model.compositor={kind=\"render\",features=2}",
            ["model.selector.overlap", "render"],
        ),
    ] {
        place.refuses_training(flags, 2, &phrases);
        place.refuses_training(&format!("{flags} --print-config"), 2, &phrases);
    }
}

#[test]
fn configuration_files_that_cannot_be_used_are_refused() {
    let place = Place::new();
    place.write("syntax.toml", "[training]\nbatch = = 3\n");
    place.write("key.toml", "[training]\nbatchs = 3\n");
    place.write("type.toml", "[training]\nclip = \"x\"\n");
    place.write("binary.toml", [0xff, 0xfe, 0x00]);
    place.refuses_training("--config syntax.toml --out new", 2, &["syntax.toml", "line 2"]);
    place.refuses_training("--config key.toml --out new", 2, &["key.toml", "did you mean \"training.batch\""]);
    place.refuses_training("--config type.toml --out new", 2, &["type.toml", "clip"]);
    place.refuses_training("--config nowhere.toml --out new", 1, &["nowhere.toml", "check the "]);
    place.refuses_training("--config . --out new", 1, &["`.` is no ordinary file", "give the path of one"]);
    assert!(matches!(place.train("--config binary.toml --out new").code, Some(1 | 2)));
    assert!(!place.path("new").exists());
}

#[test]
fn values_that_cannot_work_are_wrong_use() {
    let place = Place::new();
    for (flags, phrases) in [
        ("--steps 0", ["training.steps", "at least 1"]),
        ("--batch 0", ["training.batch", "between 1 and"]),
        ("--batch 100000", ["training.batch", "between 1 and"]),
        ("--batch 65536 --entities 255", ["training.batch", "lower"]),
        ("--entities 256", ["model.entities", "at most 255"]),
        ("--set model.selector.radius=-1 --print-config", ["model.selector.radius", "negative"]),
        ("--batch 99999999999999999999", ["--batch", "too large"]),
        ("--steps=-1", ["--steps", "-1"]),
        ("--steps ten", ["--steps", "ten"]),
        ("--threads 0", ["--threads", "between 1 and"]),
        ("--set training.learning_rate=nan", ["training.learning_rate", "finite"]),
        ("--set training.learning_rate=inf", ["training.learning_rate", "finite"]),
        ("--set training.learning_rate=-1", ["training.learning_rate", "negative"]),
        ("--set training.clip=nan", ["training.clip", "positive"]),
        ("--set training.silence=-1", ["training.silence", "positive"]),
        ("--set training.clip=x", ["in `training.clip`", "expected a number\n"]),
        ("--set training.seed=-1", ["in `training.seed`", "expected a whole number, 0 or more\n"]),
        ("--set model.latent=3", ["in `model.latent`", "expected a table with a `kind`\n"]),
        ("--set model.encoder.layers=[1]", ["in `model.encoder`", "expected a table\n"]),
        ("--set model.selector.rank_by=light", ["unknown value `light`", "`kl`, `brightness`"]),
        ("--set model.latent.dimensions=0", ["model.latent.dimensions", "between 1 and"]),
        ("--set model.latent.dimensions=9999999999", ["model.latent.dimensions", "between 1 and"]),
        ("--device gpu", ["--device", "cuda:N"]),
        ("--device cuda:-1", ["--device", "cuda:N"]),
        ("--seconds=-1", ["--seconds", "negative"]),
        // Written as everyone would.
        ("--seconds -1", ["--seconds", "negative"]),
        ("--seconds nan", ["--seconds", ""]),
        ("--seconds soon", ["--seconds", "soon"]),
        ("--resume run", ["--resume", "cannot be used with"]),
    ] {
        let before = place.contents();
        let mut args = training(flags);
        if flags == "--device gpu" || flags.starts_with("--device") {
            let given = args.iter().position(|arg| *arg == "--device").unwrap();
            args.drain(given..given + 2);
        }
        if flags.starts_with("--resume") {
            args.extend(["--steps", "3"]);
        }
        place.run(args).fails(2, &phrases);
        assert_eq!(before, place.contents(), "{flags}");
    }
}

/// A batch that is allowed one by one but needs more memory than machines have is refused, not tried.
#[cfg(target_os = "linux")]
#[test]
fn a_batch_that_no_memory_holds_is_refused_before_it_is_tried() {
    let place = Place::new();
    let args = training("--preset multi-entity --batch 60000 --out new").join(" ");
    // Were it tried, the limit would end it before it ends the machine.
    let mut command = Command::new("sh");
    command.current_dir(place.0.path()).env_remove("RUST_BACKTRACE");
    command.args(["-c", &format!("ulimit -v 8000000; exec {} {args}", env!("CARGO_BIN_EXE_mevae"))]);
    Outcome::of(&mut command).fails(2, &["training.batch", "too large", "lower"]);
    assert!(!place.path("new").exists());
}

#[test]
fn a_device_that_is_not_there_is_a_failure_with_a_way_out() {
    let (_shared, place, run) = beside();
    for line in [
        "train --preset vae --steps 1 --out new".to_string(),
        format!("train --resume {run}"),
        format!("evaluate {run}"),
        format!("generate {run} --out new.png"),
        format!("decompose {run} --scenes digits --out parts"),
        format!("disentanglement {run}"),
        format!("plot {run} manifold"),
        format!("reproduce {run} --quiet"),
        "study --out study --quiet".to_string(),
    ] {
        let why = if cfg!(feature = "cuda") { "nvidia-smi" } else { "build with `--features cuda`" };
        place.refuses(&format!("{line} --device cuda:99"), 1, &["no CUDA device 99: ", why, "--device cpu"]);
    }
    // Nor does the CPU have the formats of a GPU.
    place.refuses("train --steps 1 --out new --device cpu --tf32", 2, &["--tf32: the CPU", "--device cuda:N"]);
    place.refuses("train --steps 1 --out new --device cpu --bf16", 2, &["--bf16: the CPU", "--device cuda:N"]);
    place.refuses("train --steps 1 --out new --tf32 --bf16", 2, &["--tf32", "--bf16"]);
}

#[test]
fn the_device_is_told_and_recorded_and_may_change_between_sittings() {
    let place = Place::new();
    let train =
        "train --preset vae --steps 3 --batch 4 --set training.validation_scenes=8 --set training.evaluation_scenes=8";
    place.mevae(&format!("{train} --seconds 0 --device cpu --out run")).ok().says(&[" CPU thread"]);
    let info = place.mevae("info").ok();
    assert!(
        info.out.contains("device, auto") && info.out.contains(" (") && !info.err.contains("panicked"),
        "{}",
        info.out
    );
    // Where this build or machine has no CUDA, `auto` is the CPU, to the last bit.
    if info.out.contains("device, auto   cpu") {
        let auto = place.mevae(&format!("{train} --seconds 0 --out auto")).ok();
        assert_eq!(auto.err.contains("device: cpu"), cfg!(feature = "cuda"), "{}", auto.err);
        assert!(!auto.err.contains("panicked"), "{}", auto.err);
        let weights = |run| place.read(format!("{run}/checkpoints/last.safetensors"));
        assert_same_tensors(&weights("run"), &weights("auto"), "cpu and auto");
    }
    // Portable instructions stand for another device: they are another maker of the same run.
    let resume = ["train", "--resume", "run", "--device", "cpu"];
    let said = Outcome::of(place.command(resume).env("MEVAE_SIMD", "portable")).ok().err;
    if !place.mevae("info run").ok().out.matches("computed by").count().eq(&1) {
        assert!(said.contains("earlier sittings were computed by") && said.contains("this one by"), "{said}");
        place.mevae("info run").ok().says(&["portable"]);
    }
}

#[test]
fn a_training_that_diverges_names_step_and_term() {
    let place = Place::new();
    let outcome = place.train("--preset vae --set training.learning_rate=1e30 --quiet --out new --steps 9");
    outcome.fails(1, &["step 2: the ", " is NaN", "lower training.learning_rate"]);
}

#[test]
fn a_refused_stream_of_scenes_leaves_no_folder() {
    let place = Place::new();
    let flags = format!("--scenes {} --entities 1 --set data.fresh=true", data("plain.npz"));
    let phrases = ["plain.npz", "without fresh scenes"];
    place.refuses_training(&format!("{flags} --out new"), 1, &phrases);
    place.refuses_training(&flags, 1, &phrases);
}

#[test]
fn places_that_cannot_be_written_are_failures() {
    let (_shared, place, run) = beside();
    page(64, 64).save(place.path("page.png")).unwrap();
    // Below a file no folder can be, whoever asks.
    place.write("file", "kept");
    place.refuses_training("--preset vae --out file/run", 1, &["cannot create", "file/run"]);
    place.refuses(&format!("decompose {run} page.png --out file/parts"), 1, &["cannot create", "file/parts"]);
    place.refuses(&format!("decompose {run} page.png --out file"), 1, &["cannot create", "file"]);
    place.refuses(&format!("evaluate {run} --json file/scores.json"), 1, &["cannot create `file/scores.json`"]);
    place.refuses(&format!("evaluate {run} --json nowhere/scores.json"), 1, &["cannot create `nowhere/scores.json`"]);
    // The file that was asked for, not one that nobody has heard of.
    place.train("--preset vae --out vae --quiet").ok();
    place.refuses("generate vae --out nowhere/new.png", 1, &["cannot create `nowhere/new.png`", "folder exists"]);
    place.write("runs", "a file");
    place.refuses_training("--preset vae", 1, &["runs"]);
}

#[test]
fn what_is_no_picture_is_refused_and_nothing_is_written() {
    let (_shared, place, run) = beside();
    page(64, 64).save(place.path("page.png")).unwrap();
    let whole = place.read("page.png");
    place.write("cut.png", &whole[..whole.len() / 2]);
    place.write("text.txt", "not a picture");
    place.write("text.png", "not a picture");
    place.write("empty.png", "");
    fs::create_dir(place.path("folder")).unwrap();
    for (name, phrase) in [
        ("cut.png", "damaged or cut off"),
        ("text.txt", "convert it to PNG"),
        ("text.png", "damaged or cut off"),
        ("empty.png", "empty.png"),
        ("folder", "is a folder"),
        ("nowhere.png", "there is no file"),
    ] {
        place.refuses(&format!("decompose {run} {name} --out parts"), 1, &[name, phrase]);
        // A good one before it changes nothing.
        place.refuses(&format!("decompose {run} page.png {name} --out parts"), 1, &[name, phrase]);
    }
    place.refuses(&format!("decompose {run} --out parts"), 2, &["picture", "--scenes"]);
    place.refuses(&format!("decompose {run} page.png --scenes digits --out parts"), 2, &["--scenes"]);
    place.refuses(&format!("decompose {run} page.png"), 2, &["--out"]);
    place.refuses(&format!("generate {run} --out new.jpg"), 2, &[".png", "mevae generate --help"]);
    place.refuses(&format!("edit {run} --remove 1 --out new.jpg"), 2, &[".png"]);
    place.refuses(&format!("evaluate {run} --worst 1 --out new.jpg"), 2, &[".png"]);
    place.refuses(&format!("generate {run} --count -3 --out new.png"), 2, &["-3", "--count"]);
    place.refuses(&format!("generate {run} --count 0 --out new.png"), 2, &["--count"]);
    place.refuses(&format!("evaluate {run} --count 0"), 2, &["--count"]);
    place.refuses(&format!("evaluate {run} --split tset"), 2, &["validation"]);
}

/// A reader that goes away early is no failure.
#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_output_quietly() {
    let place = Place::new();
    for args in [&["info"][..], &["train", "--print-config"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = place.command(args);
        let child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && err.is_empty(), "{args:?}: {err}");
    }
    std::io::stdout().flush().unwrap();
}

#[test]
fn instruction_sets_agree_and_wrong_ones_are_refused() {
    let place = Place::new();
    let losses = |set: &str| -> Vec<f64> {
        let out = format!("run-{set}");
        // A model that selects nothing: which of two nearly equal candidates is kept, the last bit may decide.
        let mut args = training("--preset vae --steps 20 --batch 4 --set training.validate_every=20");
        args.extend(["--out", &out]);
        Outcome::of(place.command(args).env("MEVAE_SIMD", set)).ok();
        let lines = String::from_utf8(place.read(format!("{out}/metrics.jsonl"))).unwrap();
        let rows = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rows.filter(|row| row["kind"] == "step").map(|row| row["loss"].as_f64().unwrap()).collect()
    };
    let portable = losses("portable");
    assert_eq!(portable.len(), 2);
    for set in ["avx2", "avx512"] {
        if Outcome::of(place.command(["info", "nowhere"]).env("MEVAE_SIMD", set)).err.contains("lacks") {
            continue; // not on this processor
        }
        for (a, b) in losses(set).into_iter().zip(&portable) {
            assert!((a / b - 1.0).abs() < 1e-4, "{set}: {a}, portable: {b}");
        }
    }
    let wrong = Outcome::of(place.command(["info", "nowhere"]).env("MEVAE_SIMD", "avx1024"));
    wrong.fails(2, &["MEVAE_SIMD", "avx1024", "avx512, avx2, portable"]);
}
