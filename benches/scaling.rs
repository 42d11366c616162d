//! How the cost of a training step grows with the work: `cargo bench --bench scaling [-- --quick] [--plots FOLDER]`. Starts from the
//! default model and changes one size at a time; prints Markdown, milliseconds per image (median of the steps) and what that is beside
//! the row before. `--quick` takes one step each: to see that it runs. `--plots` draws a curve of each size as SVG.

use candle_core::{Device, Tensor};
use multi_entity_vae::config::{Config, ConvolutionConfig, EncoderConfig, Posteriors, Preset};
use multi_entity_vae::layers::{Activation, Extent};
use multi_entity_vae::picture::{Density, trade_off::TradeOff};
use multi_entity_vae::train::Trainer;
use std::path::{Path, PathBuf};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let steps = if std::env::args().any(|argument| argument == "--quick") { 1 } else { 15 };
    let plots = std::env::args().skip_while(|argument| argument != "--plots").nth(1).map(PathBuf::from);
    println!("| what grows | size | ms per image | beside the row before |\n|---|---|---|---|");
    let default = || Preset::MultiEntity.config();
    let to = plots.as_deref();
    series(to, "entities", [1, 2, 4, 8, 16], |k| timed(steps, 2, 64, &with(default(), |c| c.model.entities = k)))?;
    series(to, "cells", [4, 8, 16, 32].map(|row| row * row), |cells| {
        timed(steps, 2, 64, &with(default(), |c| grid(c, 64 / cells.isqrt())))
    })?;
    series(to, "pixels", [32, 64, 128, 256].map(|side| side * side), |pixels| {
        timed(steps, 2, pixels.isqrt(), &with(default(), |c| c.training.batch = 8))
    })?;
    series(to, "batch", [1, 8, 32, 128, 512], |b| timed(steps, 2, 64, &with(default(), |c| c.training.batch = b)))?;
    series(to, "threads", [1, 2], |threads| timed(steps, threads, 64, &default()))
}

/// One row for each size, and a plot of them all in `plots`.
fn series<const N: usize>(
    plots: Option<&Path>,
    name: &str,
    sizes: [usize; N],
    measure: impl Fn(usize) -> Result<f64, Error>,
) -> Result<(), Error> {
    let mut before = None;
    let mut points = Vec::new();
    for size in sizes {
        let ms = measure(size)?;
        let ratio = before.map_or(String::new(), |before| format!("{:.2}", ms / before));
        println!("| {name} | {size} | {ms:.3} | {ratio} |");
        points.push(((size as f64, ms), format!("{ms:.2}")));
        before = Some(ms);
    }
    if let Some(folder) = plots {
        std::fs::create_dir_all(folder)?;
        let title = format!("A training step of the default model by its {name}");
        let plot = TradeOff { title: &title, axes: (name, "ms per image"), points: &points, footnote: "" };
        std::fs::write(folder.join(format!("scaling-{name}.svg")), plot.drawing().svg(Density::Single))?;
    }
    Ok(())
}

fn with(mut config: Config, change: impl FnOnce(&mut Config)) -> Config {
    change(&mut config);
    config
}

/// An encoder that ends in cells of `cell`×`cell` pixels, otherwise like the default one.
fn grid(config: &mut Config, cell: usize) {
    let first = ConvolutionConfig::new(32, 2 * cell, cell);
    let rest = [(48, 3, 1); 4].map(|(c, k, s)| ConvolutionConfig::new(c, k, s));
    config.model.encoder = EncoderConfig::Convolutional {
        layers: [vec![first], rest.to_vec(), vec![ConvolutionConfig::new(64, 1, 1)]].concat(),
        activation: Activation::Relu,
        posteriors: Posteriors::PerCell,
        coordinates: false,
    };
    config.model.selector.radius = ((12 / cell) as f64).into();
}

/// Median milliseconds of a training step, for each of its images.
fn timed(steps: usize, threads: usize, side: usize, config: &Config) -> Result<f64, Error> {
    let image = Extent::new(side, side, 1);
    let batch = config.training.batch;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let mut trainer = Trainer::new(config.clone(), image, &Device::Cpu)?;
    let images = Tensor::rand(0f32, 1.0, (batch, side, side, 1), &Device::Cpu)?;
    let mut ms = Vec::new();
    for _ in 0..steps + 1 {
        let start = Instant::now();
        pool.install(|| trainer.step(&images))?;
        ms.push(1e3 * start.elapsed().as_secs_f64() / batch as f64);
    }
    // The first step meets cold caches and empty pools.
    let ms = &mut ms[1..];
    ms.sort_by(f64::total_cmp);
    Ok(ms[ms.len() / 2])
}
