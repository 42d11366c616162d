//! `mevae probe`: what linear probes read off the latents of objects.

use super::common;
use super::compute::Compute;
use multi_entity_vae::evaluate::{Described, Latents, ProbeScores, probe, stack};
use multi_entity_vae::model::Selection;
use multi_entity_vae::run::{LoadedRun, ScenesOf};
use multi_entity_vae::scene::{NO_BOX, Scene, Split};
use serde::Serialize;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of trained runs, a row or more of the table each
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Recipe or .npz file with labels, boxes and masks [default: each run's own]
    #[arg(long)]
    scenes: Option<String>,
    /// Scenes of the train split to fit the probes to, and of the test split to read; of a file at most half for each
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: u64,
    /// Seed of the scenes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Also write the scores as JSON (- for standard output instead of the table)
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    compute: Compute,
}

/// What was read off one code.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    /// What of the model is the code.
    code: &'static str,
    /// How many numbers it has.
    dimensions: usize,
    /// Which of the test scenes' objects were read.
    objects_of: &'static str,
    /// Share of these objects that have a code at all.
    covered: f64,
    #[serde(flatten)]
    scores: ProbeScores,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let device = args.compute.open()?;
    let mut rows = Vec::new();
    for path in &args.runs {
        let run = common::load_run(path, &device)?;
        let selection = common::selection(&run, None, args.seed)?;
        let described = |split| {
            let scenes = common::scenes_for(&run, args.scenes.as_deref(), split, args.seed)?;
            Objects::of(&run, &scenes, part(&scenes, split, args.count), selection, &device)
        };
        let (fitted, read) = (described(Split::Train)?, described(Split::Test)?);
        for (code, cells) in [("z", false), ("z and cell", true)] {
            // One cell says nothing.
            if cells && run.model.grid() == (1, 1) {
                continue;
            }
            for (objects_of, single) in [("all scenes", false), ("scenes of one object", true)] {
                let there = fitted.has(single) && read.has(single);
                let (objects, covered) = read.described(cells, single);
                let fitted = fitted.described(cells, single).0;
                let dimensions = fitted.first().map_or(0, |object| object.code.len());
                let Some(scores) = probe(&fitted, &objects) else {
                    let why = if there { "too few objects have a code in" } else { "there are too few objects in" };
                    common::tell(&format!("{}: nothing can be read, {why} {objects_of}", path.display()));
                    continue;
                };
                rows.push(Row { model: path.display().to_string(), code, dimensions, objects_of, covered, scores });
            }
        }
    }
    if let Some(path) = &args.json {
        common::write_json(path, &rows)?;
    }
    match args.json.as_deref() == Some(Path::new("-")) {
        true => Ok(()),
        false => common::print_all(table(&rows).as_bytes()),
    }
}

/// Which scenes are fitted to, or read. A file has no splits: one half of it is fitted to, the other one read.
fn part(scenes: &ScenesOf, split: Split, count: u64) -> Range<u64> {
    let half = scenes.source.len() / 2;
    match (scenes.split(), split) {
        (Some(_), _) => 0..scenes.at_most(count),
        (None, Split::Train) => 0..count.min(half),
        (None, _) => half..scenes.at_most(half.saturating_add(count)),
    }
}

/// The objects of many scenes, with the code of each that has one.
struct Objects {
    /// In each scene.
    counts: Vec<usize>,
    /// Scene, object and its cell's row and column.
    known: Vec<(usize, [f64; 2], Described)>,
}

impl Objects {
    /// Of a grid, an object's code is that of the entity whose pixels are most of all its own; of a single posterior, the same z is the
    /// code of every object in the scene.
    fn of(
        run: &LoadedRun,
        scenes: &ScenesOf,
        which: Range<u64>,
        selection: Selection,
        device: &candle_core::Device,
    ) -> anyhow::Result<Self> {
        let (grid, columns) = (run.model.grid(), run.model.grid().1);
        let mut latents = Latents::default();
        let first = which.start;
        let mut examples = which.map(|index| scenes.example(index));
        let batch = common::images_at_once(&run.model, &selection);
        let mut counts = Vec::new();
        let mut known = Vec::new();
        loop {
            let batch = examples.by_ref().take(batch).collect::<Result<Vec<_>, _>>()?;
            if batch.is_empty() {
                return Ok(Self { counts, known });
            }
            let images = stack(&run.model, &batch, device)?;
            let masks: Vec<_> = batch.into_iter().map(|example| example.masks).collect();
            let before = latents.scenes;
            latents.entities.clear();
            latents.add(&run.model, &images, &masks, &selection)?;
            for scene in before..latents.scenes {
                let Scene { labels: Some(labels), boxes: Some(boxes), masks: Some(_), .. } =
                    scenes.source.scene(first + scene as u64)?
                else {
                    anyhow::bail!("{} lacks labels, boxes or masks, so there is nothing to read", scenes.source.name());
                };
                counts.push(labels.len());
                for (object, (&class, of)) in labels.iter().zip(boxes).enumerate().filter(|(_, (_, of))| *of != NO_BOX)
                {
                    let its = |found: Option<u8>| grid == (1, 1) || found.map(usize::from) == Some(object);
                    let mut entities = latents.entities.iter().filter(|entity| entity.scene == scene);
                    let Some(entity) = entities.find(|entity| its(entity.object)) else { continue };
                    let code = entity.mean.iter().map(|z| f64::from(*z)).collect();
                    let [x0, y0, x1, y1] = of.map(f64::from);
                    let cell = [(entity.cell / columns) as f64, (entity.cell % columns) as f64];
                    let centre = [(y0 + y1) / 2.0, (x0 + x1) / 2.0];
                    known.push((scene, cell, Described { code, class, centre }));
                }
            }
        }
    }

    /// Whether there are objects, in all scenes or in scenes of one object.
    fn has(&self, single: bool) -> bool {
        self.counts.iter().any(|count| if single { *count == 1 } else { *count > 0 })
    }

    /// Those that have a code, with or without the cell, in all scenes or in scenes of one object; and which share of them that is.
    fn described(&self, cells: bool, single: bool) -> (Vec<Described>, f64) {
        let counts = |count: &usize| !single || *count == 1;
        let all: usize = self.counts.iter().filter(|count| counts(count)).sum();
        let known = self.known.iter().filter(|(scene, ..)| counts(&self.counts[*scene]));
        let described = known.map(|(_, cell, object)| {
            let mut object = object.clone();
            object.code.extend(cell.iter().filter(|_| cells));
            object
        });
        let described: Vec<Described> = described.collect();
        let share = described.len() as f64 / all.max(1) as f64;
        (described, share)
    }
}

fn table(rows: &[Row]) -> String {
    let width = |text: fn(&Row) -> &str| rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0);
    let (model, code, of) = (width(|r| &r.model).max(5), width(|r| r.code).max(4), width(|r| r.objects_of).max(10));
    let mut text = format!(
        "{:model$}  {:code$}  numbers  {:of$}  objects  with a code  class accuracy  position R²  error (pixels)\n",
        "model", "code", "objects of"
    );
    for Row { model: name, code: what, dimensions, objects_of, covered, scores } in rows {
        let ProbeScores { objects, class_accuracy, position_r2, position_error } = scores;
        text += &format!(
            "{name:model$}  {what:code$}  {dimensions:>7}  {objects_of:of$}  {objects:>7}  {covered:>11.3}  {class_accuracy:>14.3}  \
             {position_r2:>11.3}  {position_error:>14.2}\n"
        );
    }
    text
}
