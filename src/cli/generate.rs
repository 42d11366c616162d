//! `mevae generate`

use super::common;
use super::compute::Compute;
use super::pictures;
use candle_core::Device;
use image::RgbImage;
use multi_entity_vae::evaluate::stack;
use multi_entity_vae::generate::{GenerateError, Generator};
use multi_entity_vae::picture::samples::samples;
use multi_entity_vae::picture::{Density, save_png};
use multi_entity_vae::run::{DataError, LoadedRun};
use multi_entity_vae::scene::Split;
use std::path::PathBuf;

/// Training scenes that a density is fitted to, where the prior is not what the model decodes.
const FITTED_SCENES: u64 = 2000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of a trained run
    run: PathBuf,
    /// Number of images
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=1000))]
    count: u64,
    /// Seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The PNG to write
    #[arg(long)]
    out: PathBuf,
    #[command(flatten)]
    compute: Compute,
}

/// Scenes or the generator.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
}

pub fn run(args: Args) -> anyhow::Result<()> {
    common::must_be_png(&args.out)?;
    let device = args.compute.open()?;
    let run = common::load_run(&args.run, &device)?;
    let (sheet, source) = draw(&run, args.count as usize, args.seed, &device, Density::Single)?;
    save_png(&sheet, &args.out)?;
    common::say(format!("{} images → {}: {source}", args.count, args.out.display()))?;
    Ok(())
}

/// A sheet of new images, and what they were sampled from.
pub fn draw(
    run: &LoadedRun,
    count: usize,
    seed: u64,
    device: &Device,
    density: Density,
) -> anyhow::Result<(RgbImage, String)> {
    let generator = match Generator::prior(&run.model, &run.config.model.latent) {
        Some(prior) => prior,
        None => fitted(run, device)?,
    };
    let images = generator.sample(&run.model, count, seed, device)?;
    let source = generator.describe();
    let title = format!("Samples: {source} · {}", pictures::describe(run));
    let columns = if run.image().width > 40 { 8 } else { 10 };
    let sheet = samples(&title, pictures::shape(run.image()), &pictures::host(&images)?, columns, density)?;
    Ok((sheet, source))
}

/// What is fitted to the run's training scenes.
fn fitted(run: &LoadedRun, device: &Device) -> anyhow::Result<Generator> {
    let selection = common::selection(run, None, run.config.training.seed)?;
    let scenes = common::scenes_for(run, None, Split::Train, run.config.training.seed)?;
    let at_once = common::images_at_once(&run.model, &selection);
    let mut examples = scenes.examples(FITTED_SCENES);
    let batches = std::iter::from_fn(|| {
        let batch: Result<Vec<_>, _> = examples.by_ref().take(at_once).collect();
        match batch {
            Ok(batch) if batch.is_empty() => None,
            batch => Some(
                batch
                    .map_err(Failure::from)
                    .and_then(|b| stack(&run.model, &b, device).map_err(|e| GenerateError::from(e).into())),
            ),
        }
    });
    Ok(Generator::fitted(&run.model, &selection, batches)?)
}
