//! `mevae scenes`

use super::scene_flags::SceneFlags;
use super::{common, usage};
use multi_entity_vae::run::open_digits;
use multi_entity_vae::scene::{Archive, Recipe, SceneOptions, SceneSource, Split};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// digits, air, survey, single, sprite, sprites or tetrominoes
    #[arg(long, default_value = "digits")]
    recipe: Recipe,
    #[command(flatten)]
    options: SceneFlags,
    /// Number of scenes
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Seed; scene i depends on recipe, seed, split and i alone
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// train, validation, test or (survey only) general
    #[arg(long, default_value = "train", value_parser = common::parse_split)]
    split: Split,
    /// builtin, mnist, fashion-mnist or a folder of IDX files
    #[arg(long, default_value = "builtin")]
    digits: String,
    /// The .npz file to write
    #[arg(long)]
    out: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    overwrite: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    if args.out.extension().is_none_or(|e| e != "npz") {
        return Err(usage("--out must be a .npz file"));
    }
    if args.out.exists() && !args.overwrite {
        return Err(usage(format!("{} is there already; --overwrite replaces it", args.out.display())));
    }
    let (options, digits) = (args.options.over(SceneOptions::default())?, open_digits(&args.digits)?);
    let source = SceneSource::from_recipe_with(args.recipe, options, digits, args.split, args.seed)?;
    if !source.endless() && args.count > source.len() {
        return Err(usage(format!(
            "{} has {} scenes in this split, fewer than {}",
            args.recipe,
            source.len(),
            args.count
        )));
    }
    let bytes = args.count.saturating_mul(source.shape().values() as u64);
    if bytes > multi_entity_vae::scene::MAX_BYTES / 4 {
        return Err(usage(format!(
            "{} scenes are too many for one file; ask for fewer, or write several with other --seed",
            args.count
        )));
    }
    let scenes = (0..args.count).map(|i| source.scene(i)).collect::<Result<Vec<_>, _>>()?;
    let slots = source.max_objects().unwrap_or_else(|| args.recipe.max_objects(args.split));
    Archive::gather(source.shape(), slots, scenes)?.write(&args.out)?;
    common::say(format!("{} scenes of {} → {}", args.count, args.recipe, args.out.display()))?;
    Ok(())
}
