//! `mevae decompose`: pictures or scenes in, entities out.

use super::common;
use super::compute::Compute;
use super::scene_flags::SceneFlags;
use super::{pictures, usage};
use multi_entity_vae::evaluate::{Decomposition, Example, stack};
use multi_entity_vae::picture::input::read_fitted;
use multi_entity_vae::picture::save_png;
use multi_entity_vae::picture::tile::Tile;
use multi_entity_vae::run::LoadedRun;
use multi_entity_vae::scene::Split;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a trained run
    run: PathBuf,
    /// Pictures (PNG, JPEG, GIF, BMP, WebP, TIFF, …); scaled to fit and padded, dark ink on a light page is inverted
    images: Vec<PathBuf>,
    /// Scenes of a recipe or .npz file instead of pictures
    #[arg(long, conflicts_with = "images")]
    scenes: Option<String>,
    #[command(flatten)]
    options: SceneFlags,
    /// How many of --scenes
    #[arg(long, default_value_t = 6, requires = "scenes", value_parser = clap::value_parser!(u64).range(1..=64))]
    count: u64,
    /// Split of --scenes; a file has none [default: test]
    #[arg(long, requires = "scenes", value_parser = common::parse_split)]
    split: Option<Split>,
    /// Seed of --scenes
    #[arg(long, default_value_t = 0, requires = "scenes")]
    seed: u64,
    /// Keep this many entities instead of the run's own K
    #[arg(long)]
    entities: Option<usize>,
    #[command(flatten)]
    refinement: common::Refinement,
    /// Folder for the sheet, the entities and entities.json
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

/// A line of entities.json.
#[derive(Serialize)]
struct EntityRecord {
    input: String,
    entity: usize,
    /// (row, column) of the entity's cell.
    cell: (usize, usize),
    /// x0, y0, x1, y1 of the pixels that it wins, half-open; null if it wins none.
    #[serde(rename = "box")]
    bounds: Option<[usize; 4]>,
    kl_nats: f32,
    present: bool,
    /// The posterior mean.
    z: Vec<f32>,
    /// Its own picture.
    file: String,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if args.images.is_empty() && args.scenes.is_none() {
        return Err(usage("give at least one picture, or --scenes with a recipe or .npz file"));
    }
    if args.scenes.is_none() && !args.options.is_empty() {
        return Err(usage("--size, --objects, --noise, --grid-lines and --grid-period are options of --scenes"));
    }
    let device = args.compute.open()?;
    let run = common::load_run(&args.run, &device)?;
    let (inputs, run) = match &args.scenes {
        None => (pictures_in(&args.images, &run)?, run),
        Some(named) => {
            let (scenes, run) =
                common::scenes_and_model(run, Some(named), &args.options, args.split, args.seed, &device)?;
            common::warn_of_few(args.entities.unwrap_or(run.config.model.entities), &scenes);
            let examples = scenes.examples(args.count).collect::<Result<Vec<_>, _>>()?;
            (examples.into_iter().enumerate().map(|(i, e)| (format!("scene-{i:03}"), e)).collect(), run)
        }
    };
    let selection = common::selection(&run, args.entities, args.seed)?;
    std::fs::create_dir_all(&args.out).map_err(multi_entity_vae::files::FileError::refused("create", &args.out))?;

    let (names, examples): (Vec<String>, Vec<Example>) = inputs.into_iter().unzip();
    let images = stack(&run.model, &examples, &device)?;
    let decomposition = Decomposition::refined(&run.model, &images, &selection, args.refinement.steps())?;
    let sheet = pictures::decomposition_sheet(&run, &examples, &names, &decomposition)?;
    save_png(&sheet, &args.out.join("decomposition.png"))?;
    let records = save_entities(&args.out, &run, &names, &decomposition)?;
    common::write_json(&args.out.join("entities.json"), &records)?;
    for (name, i) in names.iter().zip(0..) {
        let present = decomposition.present[i].iter().filter(|p| **p).count();
        common::say(format!("{name}: {present} of {} entities present", decomposition.present[i].len()))?;
    }
    common::say(format!("{} and entities.json beside it", args.out.join("decomposition.png").display()))?;
    let older = older_pictures(&args.out, &records);
    if older > 0 {
        let folder = args.out.display();
        let which = "entities from before, which entities.json does not name";
        common::tell(&format!("note: {folder} also holds pictures of {older} {which}"));
    }
    Ok(())
}

/// Pictures of entities in a folder that are none of these.
fn older_pictures(folder: &Path, records: &[EntityRecord]) -> usize {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let entity = |name: &str| {
        let number = name.strip_suffix(".png").and_then(|name| name.rsplit_once("-entity-"));
        number.is_some_and(|(_, number)| number.parse::<usize>().is_ok())
    };
    names.filter(|name| entity(name) && !records.iter().any(|record| record.file == *name)).count()
}

/// Pictures by their names, fitted to what the model reads.
fn pictures_in(paths: &[PathBuf], run: &LoadedRun) -> anyhow::Result<Vec<(String, Example)>> {
    let mut inputs: Vec<(String, Example)> = Vec::new();
    for path in paths {
        let fitted = read_fitted(path, pictures::shape(run.image()))?;
        for note in &fitted.notes {
            common::tell(&format!("{}: {note}", path.display()));
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Pictures of the same name from different folders must not overwrite each other's entities.
        let taken = |name: &String| inputs.iter().any(|(other, _)| other == name);
        let others = (2..).map(|n| format!("{stem}~{n}"));
        let name = std::iter::once(stem.clone()).chain(others).find(|name| !taken(name)).unwrap_or_default();
        inputs.push((name, Example { image: fitted.pixels, count: None, masks: None }));
    }
    Ok(inputs)
}

/// Each entity as its own PNG, and what is known of it.
fn save_entities(
    out: &Path,
    run: &LoadedRun,
    names: &[String],
    decomposition: &Decomposition,
) -> anyhow::Result<Vec<EntityRecord>> {
    let alone = decomposition.alone(&run.model)?;
    let means = decomposition.inference.entities.mean()?.to_vec3::<f32>()?;
    let (_, columns) = run.model.grid();
    let shape = pictures::shape(run.image());
    let mut records = Vec::new();
    for (i, name) in names.iter().enumerate() {
        for (k, &cell) in decomposition.cells[i].iter().enumerate() {
            let file = format!("{name}-entity-{}.png", k + 1);
            save_png(&Tile::from_values(&alone[i][k], shape, "entity")?.into_picture(), &out.join(&file))?;
            records.push(EntityRecord {
                input: name.clone(),
                entity: k + 1,
                cell: (cell / columns, cell % columns),
                bounds: bounds(&decomposition.masks[i], k as u8, run.image().width),
                kl_nats: decomposition.kl[i][k],
                present: decomposition.present[i][k],
                z: means[i][k].clone(),
                file,
            });
        }
    }
    Ok(records)
}

/// The smallest box around a mask's pixels of one entity.
fn bounds(mask: &[u8], entity: u8, width: usize) -> Option<[usize; 4]> {
    let pixels = || mask.iter().enumerate().filter(|(_, m)| **m == entity).map(|(i, _)| (i % width, i / width));
    let range = |values: Vec<usize>| Some((*values.iter().min()?, values.iter().max()? + 1));
    let (x0, x1) = range(pixels().map(|p| p.0).collect())?;
    let (y0, y1) = range(pixels().map(|p| p.1).collect())?;
    Some([x0, y0, x1, y1])
}

#[cfg(test)]
mod tests {
    use super::bounds;

    #[test]
    fn the_box_holds_exactly_the_entitys_pixels() {
        let mask = [255, 0, 0, 255, 0, 1, 255, 255, 255];
        assert_eq!(bounds(&mask, 0, 3), Some([1, 0, 3, 2]));
        assert_eq!(bounds(&mask, 1, 3), Some([2, 1, 3, 2]));
        assert_eq!(bounds(&mask, 2, 3), None);
    }
}
