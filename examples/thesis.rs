//! The thesis' experiment by the library: dense 784-256-2-256-784 for two β, and of each the decoded latent plane and the test
//! digits' posterior means, coloured by class.
//!
//! ```text
//! cargo run --release --example thesis        # draws manifold-beta….png and scatter-beta….png
//! ```
//!
//! Its β = 1 and 2 are ½ and 1 on the ELBO's scale, which is the one used here. `mevae study` does the same, and more, as a
//! command. The trainings are short; `MEVAE_EXAMPLE_STEPS` sets their length.

use candle_core::{Device, Tensor};
use multi_entity_vae::config::{Config, Preset};
use multi_entity_vae::evaluate::Latents;
use multi_entity_vae::generate::walk;
use multi_entity_vae::picture::manifold::Manifold;
use multi_entity_vae::picture::scatter::Scatter;
use multi_entity_vae::picture::{Density, Shape, save_png};
use multi_entity_vae::run::{ScenesOf, open_digits};
use multi_entity_vae::scene::Split;
use multi_entity_vae::train::{Flow, Trainer, train};
use std::path::Path;

type Error = Box<dyn std::error::Error>;

// As in the program: every step of training allocates and frees the same large buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Quantiles of the prior along each axis of the plane.
const VALUES: usize = 20;
/// Test digits in the scatter plot.
const DIGITS: u64 = 2000;

fn main() -> Result<(), Error> {
    let steps: u64 = std::env::var("MEVAE_EXAMPLE_STEPS").map_or(Ok(2000), |steps| steps.parse())?;
    for beta in [0.5, 1.0] {
        let settings = [format!("model.latent.beta={beta}"), format!("training.steps={steps}")];
        let trainer = trained(Config::resolve(Preset::Vae, None, &settings)?)?;
        let model = format!("VAE with 2 latent dimensions, β = {beta} on the ELBO's scale, {steps} steps");
        draw_manifold(&trainer, &model, &format!("manifold-beta{beta}.png"))?;
        draw_scatter(&trainer, &model, &format!("scatter-beta{beta}.png"))?;
        println!("β = {beta}: manifold-beta{beta}.png, scatter-beta{beta}.png");
    }
    Ok(())
}

fn trained(config: Config) -> Result<Trainer, Error> {
    let digits = ScenesOf::open(&config.data, open_digits(&config.data.digits)?, Split::Train, config.training.seed)?;
    let (image, batch) = (digits.image(), config.training.batch);
    let mut batches = digits.batches(&config, 0, 1)?;
    let mut trainer = Trainer::new(config, image, &Device::Cpu)?;
    let next = |_| -> Result<Tensor, Error> {
        let pixels = batches.next().ok_or("the digits ended")?.images;
        Ok(Tensor::from_vec(pixels, (batch, image.height, image.width, image.channels), &Device::Cpu)?)
    };
    train(&mut trainer, next, |_, _| Ok(Flow::Continue))?;
    Ok(trainer)
}

/// What the decoder makes of the plane of latents.
fn draw_manifold(trainer: &Trainer, model: &str, file: &str) -> Result<(), Error> {
    let values = walk::prior_quantiles(VALUES);
    let z = walk::plane(&[0.0, 0.0], (0, 1), &values);
    let images = walk::decoded(
        trainer.model(),
        trainer.model().compositor(),
        &z,
        &vec![vec![0]; VALUES * VALUES],
        &Device::Cpu,
    )?;
    let manifold = Manifold {
        title: &format!("Decoded latent plane · {model}"),
        axes: ("z0 (in deviations of the prior)", "z1 (in deviations of the prior)"),
        values: &values,
        images: &images,
        shape: Shape::new(28, 28, 1),
        footnote: "E[x|z] at quantiles of the prior N(0, 1) along each axis.",
    };
    Ok(save_png(&manifold.draw(Density::Single)?, Path::new(file))?)
}

/// Where the encoder puts test digits.
fn draw_scatter(trainer: &Trainer, model: &str, file: &str) -> Result<(), Error> {
    let data = &trainer.config().data;
    let digits = ScenesOf::open(data, open_digits(&data.digits)?, Split::Test, 0)?;
    let (mut latents, mut points) = (Latents::default(), Vec::new());
    for index in 0..DIGITS {
        let image = Tensor::from_vec(digits.example(index)?.image, (1, 28, 28, 1), &Device::Cpu)?;
        latents.add(trainer.model(), &image, &[], &trainer.selection())?;
        let class = digits.source.scene(index)?.labels.and_then(|labels| labels.first().copied());
        points.extend(latents.entities.drain(..).map(|e| ((f64::from(e.mean[0]), f64::from(e.mean[1])), class)));
    }
    let scatter = Scatter {
        title: &format!("Posterior means of test digits · {model}"),
        axes: ("z0 (in deviations of the prior)", "z1 (in deviations of the prior)"),
        points: &points,
        footnote: "Numbers mark each class' median.",
    };
    Ok(save_png(&scatter.drawing().pixels(Density::Single), Path::new(file))?)
}
