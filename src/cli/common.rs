//! What several verbs share: loading runs, printing.

use super::scene_flags::SceneFlags;
use super::{interrupt, usage};
use candle_core::Device;
use multi_entity_vae::device::Opened;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::model::{Model, Selection};
use multi_entity_vae::run::{Checkpoint, CheckpointError, LoadedRun, RunFolder, ScenesOf, open_digits};
use multi_entity_vae::scene::{SceneOptions, SourceError, Split};
use std::io::Write;
use std::path::{Path, PathBuf};

/// "cpu (avx512); no CUDA, because …"
pub fn device_in_words(Opened { name, fallback, .. }: &Opened) -> String {
    fallback.as_ref().map_or_else(|| name.clone(), |why| format!("{name}; no CUDA, because {why}"))
}

/// `--out` of a picture: its name says what it is.
pub fn must_be_png(out: &Path) -> anyhow::Result<()> {
    match out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        true => Ok(()),
        false => Err(usage("--out must be a .png file")),
    }
}

/// A path as it must be typed into a shell.
pub fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=,".contains(c);
    if path.chars().all(plain) { path.into() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
#[test]
fn shell_words_are_quoted_only_where_they_must_be() {
    assert_eq!(shell_word("runs/vae-001"), "runs/vae-001");
    assert_eq!(shell_word("my runs/it's"), r"'my runs/it'\''s'");
}

/// Whether a path names a checkpoint's file, which can stand wherever a run can.
pub fn is_checkpoint(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|e| e == "safetensors")
}

/// The folder of the run that a checkpoint's file lies in, if it lies where a run keeps them.
pub fn run_of_checkpoint(file: &Path) -> Option<PathBuf> {
    let folder = match file.parent()? {
        here if here == Path::new("") => PathBuf::from(".."),
        folder => folder.parent()?.to_path_buf(),
    };
    Some(if folder == Path::new("") { PathBuf::from(".") } else { folder })
}

#[cfg(test)]
#[test]
fn a_checkpoint_lies_two_levels_below_its_run() {
    let of = |file: &str| run_of_checkpoint(Path::new(file)).unwrap();
    let files = ["runs/a/checkpoints/best.safetensors", "checkpoints/best.safetensors", "best.safetensors"];
    assert_eq!(files.map(of), ["runs/a", ".", ".."].map(PathBuf::from));
}

/// The model of a run's best checkpoint, or of the very checkpoint that is named.
pub fn load_run(path: &Path, device: &Device) -> anyhow::Result<LoadedRun> {
    load_checkpoint(path, |checkpoint| LoadedRun::from_checkpoint(&checkpoint, device))
}

/// What is made of a run's best checkpoint, or of the very checkpoint that is named.
pub fn load_checkpoint<R>(
    path: &Path,
    make: impl FnOnce(Checkpoint) -> Result<R, CheckpointError>,
) -> anyhow::Result<R> {
    if is_checkpoint(path) {
        return Ok(make(Checkpoint::load(path)?)?);
    }
    let folder = RunFolder::open(path)?;
    let chosen = folder.checkpoint()?;
    Checkpoint::load(&chosen).and_then(make).map_err(|e| {
        let others = folder.all_checkpoints().into_iter().filter(|other| *other != chosen);
        match others.filter_map(|other| Checkpoint::load(&other).ok()).max_by_key(|other| other.progress.step) {
            None => e.into(),
            Some(other) => {
                let (step, file) = (other.progress.step, shell_word(&other.path.display().to_string()));
                anyhow::anyhow!(
                    "{e}\nWhole is the checkpoint of step {step}: name {file} in place of the run to use it"
                )
            }
        }
    })
}

/// How a trained model selects: as at the end of its training, with another K if that is wanted.
pub fn selection(run: &LoadedRun, entities: Option<usize>, seed: u64) -> anyhow::Result<Selection> {
    let mut model = run.config.model.clone();
    model.entities = entities.unwrap_or(model.entities);
    model.validate(run.image()).map_err(|e| match entities {
        Some(_) => usage(format!("--entities: {e}")),
        None => e.into(),
    })?;
    Ok(Selection::trained(&model, seed))
}

/// Images that are taken apart at once.
pub fn images_at_once(model: &Model, selection: &Selection) -> usize {
    // Twice as many are only compared.
    model.images_at_once(if selection.overlap < 1.0 { 3 * selection.entities } else { selection.entities })
}

/// Scenes to look at with a trained run: its own kind, or what `--scenes` names. They must have the model's extent.
pub fn scenes_for(run: &LoadedRun, scenes: Option<&str>, split: Split, seed: u64) -> anyhow::Result<ScenesOf> {
    let scenes = open_scenes(run, scenes, &SceneFlags::default(), split, seed)?;
    if scenes.image() != run.image() {
        return Err(misfit(&scenes, run.image(), &"this command asks for its own size"));
    }
    Ok(scenes)
}

/// The run's own kind of scenes, or what `--scenes` names (which is then as it is, whatever disturbed the run's own), with options;
/// and the run's model for images of their extent.
pub fn scenes_and_model(
    run: LoadedRun,
    scenes: Option<&str>,
    flags: &SceneFlags,
    split: Option<Split>,
    seed: u64,
    device: &Device,
) -> anyhow::Result<(ScenesOf, LoadedRun)> {
    let split = split_of(&run, scenes, split)?;
    let scenes = open_scenes(&run, scenes, flags, split, seed)?;
    let own = run.image();
    let run = run.at(scenes.image(), device).map_err(|e| misfit(&scenes, own, &e))?;
    Ok((scenes, run))
}

/// Scenes that a model cannot read.
fn misfit(scenes: &ScenesOf, own: Extent, reason: &dyn std::fmt::Display) -> anyhow::Error {
    let (name, image) = (scenes.source.name(), scenes.image());
    anyhow::anyhow!("the scenes of {name} are {image}, this run's model reads {own}: {reason}; choose other --scenes")
}

fn open_scenes(
    run: &LoadedRun,
    scenes: Option<&str>,
    flags: &SceneFlags,
    split: Split,
    seed: u64,
) -> anyhow::Result<ScenesOf> {
    if let Some(file) = file_of(run, scenes).filter(|_| !flags.is_empty()) {
        return Err(SourceError::Fixed(file.into()).into());
    }
    let mut data = run.config.data.clone();
    let mut own = data.options();
    if let Some(scenes) = scenes {
        data.scenes = scenes.to_string();
        own = SceneOptions::default();
    }
    Ok(ScenesOf::open_with(&data, flags.over(own)?, open_digits(&data.digits)?, split, seed)?)
}

/// `--split` of scenes to look at: test, where none is named. A file has none.
pub fn split_of(run: &LoadedRun, scenes: Option<&str>, asked: Option<Split>) -> anyhow::Result<Split> {
    match (file_of(run, scenes), asked) {
        (Some(file), Some(_)) => Err(usage(format!("{file} is a file, which has no splits: leave --split out"))),
        (_, asked) => Ok(asked.unwrap_or(Split::Test)),
    }
}

/// The file that the scenes are of, the run's own or those that `--scenes` names, if they are of one.
fn file_of<'a>(run: &'a LoadedRun, scenes: Option<&'a str>) -> Option<&'a str> {
    Some(scenes.unwrap_or(&run.config.data.scenes)).filter(|name| name.ends_with(".npz"))
}

/// Says so where scenes can hold more objects than entities are kept.
pub fn warn_of_few(entities: usize, scenes: &ScenesOf) {
    if let Some(most) = scenes.source.max_objects().filter(|most| *most > entities) {
        tell(&format!(
            "note: these scenes hold up to {most} objects, and {entities} entities are kept; --entities {most} keeps more"
        ));
    }
}

/// `--refine`.
#[derive(Debug, clap::Args)]
pub struct Refinement {
    /// Refine the posterior means of present entities by this many gradient steps, where the encoder's one pass was not enough
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    refine: Option<u64>,
}

impl Refinement {
    /// 0 where none is wanted.
    pub fn steps(&self) -> usize {
        self.refine.unwrap_or(0) as usize
    }
}

/// `--split`.
pub fn parse_split(text: &str) -> Result<Split, String> {
    text.parse().map_err(|e: multi_entity_vae::scene::UnknownSplit| e.to_string())
}

/// Writes JSON to a file, or to standard output for `-`.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    if path == Path::new("-") {
        return print_all(text.as_bytes());
    }
    Ok(multi_entity_vae::files::write_bytes_atomic(path, text.as_bytes())?)
}

/// One line on standard error. Where nobody reads it any more, a training comes to an orderly stop.
pub fn tell(line: &str) {
    if writeln!(std::io::stderr().lock(), "{line}").is_err() {
        interrupt::request();
    }
}

/// One line on standard output.
pub fn say(line: String) -> anyhow::Result<()> {
    print_all((line + "\n").as_bytes())
}

/// Standard output as a whole; a reader that went away early (`| head`) is no failure.
pub fn print_all(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
