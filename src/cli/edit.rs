//! `mevae edit`: a scene taken apart, its entities changed, and decoded again.

use super::common;
use super::compute::Compute;
use super::scene_flags::SceneFlags;
use super::{pictures, usage};
use candle_core::Device;
use multi_entity_vae::config::Placement;
use multi_entity_vae::evaluate::{Decomposition, Example, stack};
use multi_entity_vae::generate::edit::{Edit, EditError, Entities};
use multi_entity_vae::model::Selection;
use multi_entity_vae::picture::editing::{EditedScene, editing};
use multi_entity_vae::picture::{Density, save_png};
use multi_entity_vae::run::{LoadedRun, ScenesOf};
use multi_entity_vae::scene::Split;
use std::path::PathBuf;
use std::str::FromStr;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a trained run
    run: PathBuf,
    /// Recipe or .npz file [default: the run's own]
    #[arg(long)]
    scenes: Option<String>,
    #[command(flatten)]
    options: SceneFlags,
    /// train, validation, test or general; a file has none [default: test]
    #[arg(long, value_parser = common::parse_split)]
    split: Option<Split>,
    /// Seed of the scenes
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Which of the scenes, from 0
    #[arg(long, default_value_t = 0)]
    scene: u64,
    /// Keep this many entities instead of the run's own K
    #[arg(long)]
    entities: Option<usize>,
    /// Set dimension D (from 0) of entity K (from 1, as decompose numbers them) to V deviations; can be repeated
    #[arg(long, value_name = "K:D=V", value_parser = parse_set)]
    set_latent: Vec<Edit>,
    /// Exchange entity K with entity J of the scene --with; can be repeated
    #[arg(long, value_name = "K:J", requires = "with", value_parser = parse_swap)]
    swap: Vec<(usize, usize)>,
    /// The other scene of --swap
    #[arg(long, value_name = "SCENE", requires = "swap")]
    with: Option<u64>,
    /// Move entity K by so many cells down and to the right; can be repeated
    #[arg(long = "move", value_name = "K:DOWN,RIGHT", value_parser = |text: &str| parse_shift(text).map(|(k, by)| Edit::Move(k, by)))]
    moves: Vec<Edit>,
    /// Add a copy of entity K so many cells down and to the right; can be repeated
    #[arg(long, value_name = "K:DOWN,RIGHT", value_parser = |text: &str| parse_shift(text).map(|(k, by)| Edit::Copy(k, by)))]
    copy: Vec<Edit>,
    /// Take entity K out; can be repeated
    #[arg(long, value_name = "K", value_parser = |text: &str| parse_entity(text).map(Edit::Remove))]
    remove: Vec<Edit>,
    /// The PNG to write
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let changes = args.set_latent.len() + args.swap.len() + args.moves.len() + args.copy.len() + args.remove.len();
    if changes == 0 {
        return Err(usage("say what to change: --set-latent, --swap, --move, --copy or --remove"));
    }
    common::must_be_png(&args.out)?;
    let device = args.compute.open()?;
    let run = common::load_run(&args.run, &device)?;
    let named = args.scenes.as_deref();
    let (scenes, run) = common::scenes_and_model(run, named, &args.options, args.split, args.seed, &device)?;
    let shifts = !args.moves.is_empty() || !args.copy.is_empty();
    let decoder = &run.config.model.decoder;
    if shifts && decoder.placement == Placement::Canvas && !decoder.coordinates {
        return Err(usage(
            "--move and --copy change an entity's cell, which this run's decoder is not told: its place is in z",
        ));
    }
    let selection = common::selection(&run, args.entities, args.seed)?;
    let mut here = Opened::new(&run, &scenes, args.scene, selection, &device)?;
    let mut there = args.with.map(|other| Opened::new(&run, &scenes, other, selection, &device)).transpose()?;
    args.change(&mut here.entities, there.as_mut().map(|there| &mut there.entities)).map_err(usage)?;

    let drawn = [Some(here), there].into_iter().flatten().map(|opened| opened.drawn(&run, &device));
    let rows = drawn.collect::<anyhow::Result<Vec<_>>>()?;
    let title = format!("{} · {}", args.in_words(), pictures::describe_keeping(&run, selection.entities));
    save_png(&editing(&title, pictures::shape(run.image()), &rows, Density::Single)?, &args.out)?;
    common::say(format!("{} shows it before and after", args.out.display()))
}

impl Args {
    /// Everything that is asked for: latents first, then places, and what is removed last, so that it can be copied before.
    fn change(&self, here: &mut Entities, mut there: Option<&mut Entities>) -> Result<(), EditError> {
        self.set_latent.iter().try_for_each(|edit| here.apply(*edit))?;
        if let Some(there) = there.as_mut() {
            self.swap.iter().try_for_each(|(ours, theirs)| here.swap(*ours, there, *theirs))?;
        }
        [&self.moves, &self.copy, &self.remove].into_iter().flatten().try_for_each(|edit| here.apply(*edit))
    }

    /// What was done, for the title.
    fn in_words(&self) -> String {
        let edits =
            [&self.set_latent, &self.moves, &self.copy, &self.remove].into_iter().flatten().map(|edit| match edit {
                Edit::Remove(entity) => format!("entity {} removed", entity + 1),
                Edit::Move(entity, [down, right]) => format!("entity {} moved by {down}, {right} cells", entity + 1),
                Edit::Copy(entity, [down, right]) => format!("entity {} copied by {down}, {right} cells", entity + 1),
                Edit::Set { entity, dimension, value } => {
                    format!("z{dimension} of entity {} set to {value}", entity + 1)
                }
            });
        let swaps =
            self.swap.iter().map(|(ours, theirs)| format!("entities {} and {} exchanged", ours + 1, theirs + 1));
        edits.chain(swaps).collect::<Vec<_>>().join(", ")
    }
}

/// A scene and its entities.
struct Opened {
    label: String,
    example: Example,
    before: Vec<f32>,
    entities: Entities,
}

impl Opened {
    fn new(
        run: &LoadedRun,
        scenes: &ScenesOf,
        index: u64,
        selection: Selection,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let example = scenes.example(index)?;
        let images = stack(&run.model, std::slice::from_ref(&example), device)?;
        let parts = Decomposition::of(&run.model, &images, &selection)?;
        let entities = Entities::of(&run.model, &parts, 0)?;
        let before = entities.decode(&run.model, device)?;
        Ok(Self { label: format!("scene {index}"), example, before, entities })
    }

    fn drawn(self, run: &LoadedRun, device: &Device) -> anyhow::Result<EditedScene> {
        let Self { label, example, before, entities } = self;
        let after = entities.decode(&run.model, device)?;
        let alone = entities.alone(&run.model, device)?;
        let entities = alone.into_iter().zip(entities.all()).map(|(image, entity)| (image, entity.drawn)).collect();
        Ok(EditedScene { label, input: example.image, before, after, entities })
    }
}

/// An entity as it is numbered for people, from 1.
fn parse_entity(text: &str) -> Result<usize, String> {
    let number: usize = parse(text)?;
    number.checked_sub(1).ok_or_else(|| "entities are counted from 1".into())
}

/// `K:DOWN,RIGHT`
fn parse_shift(text: &str) -> Result<(usize, [isize; 2]), String> {
    let parts = text.split_once(':').and_then(|(entity, by)| Some((entity, by.split_once(',')?)));
    let (entity, (down, right)) = parts.ok_or("expected K:DOWN,RIGHT in cells, as in 1:-2,3")?;
    Ok((parse_entity(entity)?, [parse(down)?, parse(right)?]))
}

/// `K:D=V`
fn parse_set(text: &str) -> Result<Edit, String> {
    let parts = text.split_once(':').and_then(|(entity, set)| Some((entity, set.split_once('=')?)));
    let (entity, (dimension, value)) = parts.ok_or("expected K:D=V, as in 1:0=-2.5")?;
    let value: f32 = parse(value)?;
    match value.is_finite() {
        true => Ok(Edit::Set { entity: parse_entity(entity)?, dimension: parse(dimension)?, value }),
        false => Err(format!("{value} is no value of a latent")),
    }
}

/// `K:J`
fn parse_swap(text: &str) -> Result<(usize, usize), String> {
    let (ours, theirs) = text.split_once(':').ok_or("expected K:J, as in 1:2")?;
    Ok((parse_entity(ours)?, parse_entity(theirs)?))
}

fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|e| format!("{text:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_read_as_they_are_written() {
        assert_eq!(parse_shift("1:-2,3"), Ok((0, [-2, 3])));
        assert_eq!(parse_set("2:7=-0.5"), Ok(Edit::Set { entity: 1, dimension: 7, value: -0.5 }));
        assert_eq!(parse_swap("3:1"), Ok((2, 0)));
        for wrong in ["0:1,1", "1:1", "1", "x:1,1", "1:1,1,1", "1:1.5,0"] {
            assert!(parse_shift(wrong).is_err(), "{wrong}");
        }
        for wrong in ["1:0", "1:0=x", "1:-1=0", "0:1=1", "1:0=inf", "1:0=nan"] {
            assert!(parse_set(wrong).is_err(), "{wrong}");
        }
        assert!(parse_swap("1").is_err() && parse_entity("0").is_err());
    }
}
