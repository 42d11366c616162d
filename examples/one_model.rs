//! One model, four names: autoencoder, VAE, β-VAE and multi-entity VAE trained on the same single digits, by the same lines.
//!
//! ```text
//! cargo run --release --example one_model        # draws one_model.png
//! ```
//!
//! The trainings are short, to show the models side by side and not to rank them. `MEVAE_EXAMPLE_STEPS` sets their length.

use candle_core::{Device, Tensor};
use multi_entity_vae::config::{Config, Latent, Preset};
use multi_entity_vae::evaluate::{Evaluation, EvaluationError, Example, Report};
use multi_entity_vae::layers::Extent;
use multi_entity_vae::picture::reconstruction::{COLUMNS, ImageRow, reconstruction};
use multi_entity_vae::picture::{Density, Shape, save_png};
use multi_entity_vae::run::{ScenesOf, open_digits};
use multi_entity_vae::scene::Split;
use multi_entity_vae::train::{Flow, Trainer, train};
use std::path::Path;

type Error = Box<dyn std::error::Error>;

// As in the program: every step of training allocates and frees the same large buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// For all four.
const SETTINGS: [&str; 2] = ["data.scenes=single", "training.learning_rate=2e-3"];

/// For multi-entity: cells of 7 pixels, 16 of them over one digit, where the preset's 4-pixel cells are made for larger scenes.
const CELLS: &str = "model.encoder.layers=[{channels=64, kernel=14, stride=7}, {channels=96, kernel=3, stride=1}]";

/// Test digits that the table is measured on.
const EVALUATED: u64 = 1000;

fn main() -> Result<(), Error> {
    let steps: u64 = std::env::var("MEVAE_EXAMPLE_STEPS").map_or(Ok(500), |steps| steps.parse())?;
    let mut rows = Vec::new();
    println!("{steps} steps each; nats per image on {EVALUATED} test digits\n");
    println!(
        "{:<14} {:>5} {:>3} {:>3} {:>4} {:>8} {:>6} {:>9} {:>7}",
        "", "N", "K", "D", "β", "−log p", "KL", "location", "−ELBO"
    );
    for preset in Preset::ALL {
        let own = (preset == Preset::MultiEntity).then_some(CELLS);
        let mut settings: Vec<String> = SETTINGS.into_iter().chain(own).map(str::to_string).collect();
        settings.push(format!("training.steps={steps}"));
        let config = Config::resolve(preset, None, &settings)?;
        let trainer = trained(config)?;
        let digits = ScenesOf::open(&trainer.config().data, open_digits("builtin")?, Split::Test, 0)?;
        let examples = digits.examples(EVALUATED).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            let images = examples[..COLUMNS].iter().map(|e| e.image.clone()).collect();
            rows.push(ImageRow { label: "input".into(), images });
        }
        rows.push(ImageRow { label: label(&trainer), images: reconstructions(&trainer, &examples[..COLUMNS])? });
        print_line(preset, &trainer, &report(&trainer, examples)?);
    }
    let picture = reconstruction("One model, four names", Shape::new(28, 28, 1), &rows, Density::Single)?;
    save_png(&picture, Path::new("one_model.png"))?;
    println!("\none_model.png shows their reconstructions");
    Ok(())
}

/// A model trained on single digits. Nothing here depends on which of the four it is.
fn trained(config: Config) -> Result<Trainer, Error> {
    let digits = ScenesOf::open(&config.data, open_digits(&config.data.digits)?, Split::Train, config.training.seed)?;
    let image = digits.image();
    config.validate(image)?;
    let mut batches = digits.batches(&config, 0, 1)?;
    let mut trainer = Trainer::new(config, image, &Device::Cpu)?;
    let next = |_| -> Result<Tensor, Error> { tensor(batches.next().ok_or("the digits ended")?.images, image) };
    train(&mut trainer, next, |_, _| Ok(Flow::Continue))?;
    Ok(trainer)
}

fn report(trainer: &Trainer, examples: Vec<Example>) -> Result<Report, EvaluationError> {
    let evaluation = Evaluation { selection: trainer.selection(), batch: 100, seed: 0, refinement: 0 };
    evaluation.report(trainer.model(), examples.into_iter().map(Ok), &Device::Cpu)
}

/// E[x|z] at the posterior means.
fn reconstructions(trainer: &Trainer, examples: &[Example]) -> Result<Vec<Vec<f32>>, Error> {
    let pixels = examples.iter().flat_map(|e| e.image.iter().copied()).collect();
    let images = tensor(pixels, trainer.model().image())?;
    let inference = trainer.model().forward(&images, &trainer.selection(), None)?;
    Ok(inference.reconstruction()?.flatten_from(1)?.to_vec2()?)
}

/// Pixels as images (B, H, W, C).
fn tensor(pixels: Vec<f32>, image: Extent) -> Result<Tensor, Error> {
    let shape = (pixels.len() / image.len(), image.height, image.width, image.channels);
    Ok(Tensor::from_vec(pixels, shape, &Device::Cpu)?)
}

fn beta(trainer: &Trainer) -> Option<f64> {
    match &trainer.config().model.latent {
        Latent::Point { .. } => None,
        Latent::Gaussian { beta, .. } => Some(beta.last()),
    }
}

/// What a model is called on the picture: the weight of its KL on the scale of the ELBO, in nats.
fn label(trainer: &Trainer) -> String {
    let (rows, columns) = trainer.model().grid();
    match (rows * columns, beta(trainer)) {
        (_, None) => "autoencoder".into(),
        (1, Some(1.0)) => "vae β=1".into(),
        (1, Some(beta)) => format!("β-vae β={beta}"),
        (_, Some(_)) => "multi-entity".into(),
    }
}

fn print_line(preset: Preset, trainer: &Trainer, report: &Report) {
    let model = &trainer.config().model;
    let (rows, columns) = trainer.model().grid();
    let number = |value: Option<f64>, decimals| value.map_or("–".into(), |v| format!("{v:.decimals$}"));
    // An autoencoder has neither a KL nor, therefore, an ELBO.
    let bound = |value: Option<f64>| beta(trainer).and(value);
    println!(
        "{:<14} {:>5} {:>3} {:>3} {:>4} {:>8} {:>6} {:>9} {:>7}",
        preset.name(),
        rows * columns,
        model.entities,
        model.latent.dimensions(),
        number(beta(trainer), 0),
        number(report.reconstruction_nats, 1),
        number(bound(report.kl_nats), 1),
        number(bound(report.location_nats), 1),
        number(bound(report.elbo.map(|elbo| -elbo)), 1),
    );
}
