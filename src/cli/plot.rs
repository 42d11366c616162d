//! `mevae plot`: pictures of a trained run, one kind at a time.

mod encoded;
mod place;
mod subject;
mod walks;

use super::common;
use super::compute::Compute;
use super::{generate, pictures, session, usage};
use image::RgbImage;
use multi_entity_vae::picture::{Density, Drawing, gif, png};
use multi_entity_vae::run::{LoadedRun, RunFolder};
use multi_entity_vae::scene::Split;
use std::path::{Path, PathBuf};
use std::time::Duration;

use encoded::kl;
pub use encoded::{kl_bars, scatter};
pub use subject::Subject;
pub use walks::{interpolation, manifold, traversals};

/// How long a frame of a moving picture is shown.
const FRAME: Duration = Duration::from_millis(120);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a trained run
    run: PathBuf,
    /// What to draw
    #[arg(value_enum)]
    kind: Kind,
    /// The file to write; its ending chooses the format [default: KIND.png or KIND.svg in the run's folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// How many: images (reconstructions 10, samples 40; at most 1000), values along an axis (manifold 20; 64), scenes (scatter the run's
    /// training.evaluation_scenes, kl 1000; 60000), dimensions (traversals all; 32), pairs (interpolation 6; 100)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Recipe (digits, air, survey, single, sprite, sprites, tetrominoes) or .npz file [default: the run's own]
    #[arg(long)]
    scenes: Option<String>,
    /// train, validation, test or general; a file has none [default: test]
    #[arg(long, value_parser = common::parse_split)]
    split: Option<Split>,
    /// Seed of the scenes, and of what is drawn at random [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Two latent dimensions, counted from 0, as in 0,1 [default: the two of largest KL; of a grid, those in which entities differ most]
    #[arg(long, value_name = "A,B", value_parser = parse_dimensions)]
    dimensions: Option<(usize, usize)>,
    /// Pixels a layout pixel takes along each side: 1, or 2 for dense screens and print
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    scale: u8,
    #[command(flatten)]
    compute: Compute,
}

/// The kinds of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Inputs above what the model makes of them
    Reconstructions,
    /// New images
    Samples,
    /// The decoded plane of two latent dimensions
    Manifold,
    /// Posterior means in two latent dimensions, coloured by class
    Scatter,
    /// Each latent dimension from −3 to 3, as a sheet and a GIF
    Traversals,
    /// From one scene's latent to another's
    Interpolation,
    /// The loss's parts over the steps of training
    Curves,
    /// The KL of each latent dimension, or of each candidate of a grid
    Kl,
}

/// An option that some kinds take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knob {
    Count,
    Seed,
    Scenes,
    Split,
    Dimensions,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Reconstructions => "reconstructions",
            Self::Samples => "samples",
            Self::Manifold => "manifold",
            Self::Scatter => "scatter",
            Self::Traversals => "traversals",
            Self::Interpolation => "interpolation",
            Self::Curves => "curves",
            Self::Kl => "kl",
        }
    }

    /// The formats it can be written in, by file name ending; the first is the default.
    fn formats(self) -> &'static [&'static str] {
        match self {
            Self::Curves => &["svg"],
            Self::Scatter => &["svg", "png"],
            // A map of a grid is made of pixels and is written as PNG whatever is said here.
            Self::Kl => &["png", "svg"],
            _ => &["png"],
        }
    }

    /// How many at most, and of what: more are too small to see, or no picture any more.
    fn most(self) -> (u64, &'static str) {
        match self {
            Self::Reconstructions | Self::Samples => (1000, "images"),
            Self::Manifold => (64, "values along an axis of a manifold"),
            Self::Traversals => (32, "dimensions on a sheet of traversals"),
            Self::Interpolation => (100, "pairs"),
            Self::Scatter | Self::Curves | Self::Kl => (60_000, "scenes"),
        }
    }

    fn takes(self, knob: Knob) -> bool {
        match self {
            Self::Curves => false,
            Self::Samples => matches!(knob, Knob::Count | Knob::Seed),
            Self::Manifold | Self::Scatter => true,
            _ => knob != Knob::Dimensions,
        }
    }
}

/// A picture before it has a format.
enum Picture {
    Pixels(RgbImage),
    Drawing(Drawing),
    Svg(String),
    /// A sheet and the frames of a moving picture beside it.
    Moving(RgbImage, Vec<RgbImage>),
}

pub fn run(args: Args) -> anyhow::Result<()> {
    check(&args)?;
    let device = args.compute.open()?;
    let run = common::load_run(&args.run, &device)?;
    // Of a checkpoint that is named, the run that it belongs to.
    let (folder, checkpoint) = match common::is_checkpoint(&args.run) {
        true => {
            let run = common::run_of_checkpoint(&args.run).filter(|run| run.join("config.toml").is_file());
            let beside = args.run.parent().unwrap_or(Path::new("")).to_path_buf();
            (run.unwrap_or(beside), args.run.file_stem())
        }
        false => (args.run.clone(), None),
    };
    // Pictures of another checkpoint than the run's own do not replace the run's.
    let name = match checkpoint {
        Some(stem) => format!("{}-{}", args.kind.name(), stem.display()),
        None => args.kind.name().to_string(),
    };
    let density = if args.scale == 2 { Density::Double } else { Density::Single };
    let picture = draw(&args, &folder, &run, &device, density)?;
    let format = match (&args.out, &picture) {
        (Some(out), _) => extension(out),
        (None, Picture::Svg(_)) => "svg".into(),
        (None, Picture::Drawing(_)) => args.kind.formats()[0].into(),
        (None, _) => "png".into(),
    };
    let mut files = Vec::new();
    match picture {
        Picture::Pixels(_) | Picture::Moving(..) if format == "svg" => {
            return Err(usage(format!(
                "{} of this model are pixels: give --out a name that ends in .png",
                args.kind.name()
            )));
        }
        Picture::Pixels(picture) => files.push(("png", png(&picture)?)),
        Picture::Svg(svg) => files.push(("svg", svg.into_bytes())),
        Picture::Drawing(drawing) if format == "svg" => files.push(("svg", drawing.svg(density).into_bytes())),
        Picture::Drawing(drawing) => files.push(("png", png(&drawing.pixels(density))?)),
        Picture::Moving(sheet, frames) => files.extend([("png", png(&sheet)?), ("gif", gif(frames, FRAME)?)]),
    }
    for (format, bytes) in files {
        let places = match &args.out {
            Some(out) if extension(out) == format => vec![out.clone()],
            Some(out) => vec![out.with_extension(format)],
            None => place::candidates(&folder, &format!("{name}.{format}")),
        };
        common::say(place::write_first(&places, &bytes)?.display().to_string())?;
    }
    Ok(())
}

/// What cannot be, before anything is loaded.
fn check(args: &Args) -> anyhow::Result<()> {
    let given = [
        (args.count.is_some(), Knob::Count, "--count"),
        (args.seed.is_some(), Knob::Seed, "--seed"),
        (args.scenes.is_some(), Knob::Scenes, "--scenes"),
        (args.split.is_some(), Knob::Split, "--split"),
        (args.dimensions.is_some(), Knob::Dimensions, "--dimensions"),
    ];
    if let Some((.., flag)) = given.into_iter().find(|(given, knob, _)| *given && !args.kind.takes(*knob)) {
        return Err(usage(format!("{flag} says nothing about {}: leave it out", args.kind.name())));
    }
    let (most, of_what) = args.kind.most();
    if args.count.is_some_and(|count| count > most) {
        return Err(usage(format!("--count: at most {most} {of_what}")));
    }
    match &args.out {
        Some(out) if !args.kind.formats().contains(&extension(out).as_str()) => {
            let formats = args.kind.formats().join(" or .");
            Err(usage(format!("{} are written as .{formats}: give --out such a name", args.kind.name())))
        }
        _ => Ok(()),
    }
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

fn draw(
    args: &Args,
    folder: &Path,
    run: &LoadedRun,
    device: &candle_core::Device,
    density: Density,
) -> anyhow::Result<Picture> {
    let seed = args.seed.unwrap_or(0);
    let count = |default: usize| args.count.map_or(default, |count| count as usize);
    match args.kind {
        Kind::Curves => {
            let (training, validation) = session::curves_of(&RunFolder::open(folder)?, &run.model, &run.config)?;
            let title = format!("Training · {}", pictures::describe(run));
            return Ok(Picture::Svg(multi_entity_vae::picture::curves::curves(
                &title,
                &training,
                &validation,
                density,
            )));
        }
        Kind::Samples => {
            let (sheet, _) = generate::draw(run, count(40), seed, device, density)?;
            return Ok(Picture::Pixels(sheet));
        }
        _ => {}
    }
    let asked = args.scenes.is_some() || args.split.is_some() || args.seed.is_some();
    if asked && args.kind == Kind::Manifold && walks::needs_no_scenes(run, args.dimensions) {
        return Err(usage("--scenes, --split and --seed say nothing about this manifold: its plane needs no scenes"));
    }
    let split = common::split_of(run, args.scenes.as_deref(), args.split)?;
    let scenes = common::scenes_for(run, args.scenes.as_deref(), split, seed)?;
    let selection = common::selection(run, None, seed)?;
    let subject = Subject { run, scenes: &scenes, seed, selection, device, density };
    Ok(match args.kind {
        Kind::Reconstructions => Picture::Pixels(subject.reconstructions(count(10))?),
        Kind::Manifold => Picture::Pixels(manifold(&subject, count(20), args.dimensions)?),
        Kind::Scatter => Picture::Drawing(scatter(
            &subject,
            count(args.kind.most().0.min(run.config.training.evaluation_scenes) as usize),
            args.dimensions,
        )?),
        Kind::Interpolation => Picture::Pixels(interpolation(&subject, count(6))?),
        Kind::Traversals => {
            let (sheet, frames) = traversals(&subject, count(32))?;
            Picture::Moving(sheet, frames)
        }
        _ => kl(&subject, count(1000))?,
    })
}

/// `A,B`
fn parse_dimensions(text: &str) -> Result<(usize, usize), String> {
    let numbers: Vec<_> = text.split(',').map(|number| number.trim().parse::<usize>()).collect();
    match numbers.as_slice() {
        [Ok(a), Ok(b)] if a != b => Ok((*a, *b)),
        _ => Err("expected two different numbers, as in 0,1".into()),
    }
}
