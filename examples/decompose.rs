//! Takes held-out scenes apart with the library and draws the sheet `decomposition.png`.
//!
//! ```text
//! cargo run --release --example decompose -- runs/multi-entity-digits-001   # the model of a run
//! cargo run --release --example decompose                                   # one trained here, for 300 steps: a rough one
//! ```

use candle_core::{Device, Result as TensorResult, Tensor};
use multi_entity_vae::config::{Config, Preset};
use multi_entity_vae::evaluate::{Decomposition, Example};
use multi_entity_vae::model::{Model, Selection};
use multi_entity_vae::picture::decomposition::{DecompositionRow, EntityTile, decomposition};
use multi_entity_vae::picture::{Density, Shape, save_png};
use multi_entity_vae::run::{Checkpoint, LoadedRun, RunFolder, ScenesOf, open_digits};
use multi_entity_vae::scene::Split;
use multi_entity_vae::train::{Flow, Trainer, train};
use std::path::Path;

type Error = Box<dyn std::error::Error>;

// As in the program: every step of training allocates and frees the same large buffers.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Error> {
    let (config, model) = match std::env::args().nth(1) {
        Some(folder) => load(Path::new(&folder))?,
        None => train_briefly(300)?,
    };
    let scenes = ScenesOf::open(&config.data, open_digits(&config.data.digits)?, Split::Test, 0)?;
    let examples = scenes.examples(6).collect::<Result<Vec<_>, _>>()?;
    let image = model.image();
    let pixels = examples.iter().flat_map(|e| e.image.iter().copied()).collect::<Vec<f32>>();
    let images = Tensor::from_vec(pixels, (examples.len(), image.height, image.width, image.channels), &Device::Cpu)?;

    // K, `entities`, may also be chosen anew here.
    let selection = Selection::trained(&config.model, 0);
    let parts = Decomposition::of(&model, &images, &selection)?;

    for (i, example) in examples.iter().enumerate() {
        let found = parts.present[i].iter().filter(|present| **present).count();
        println!("scene {i}: {found} entities, {} objects", example.count.map_or("?".into(), |n| n.to_string()));
        for (k, &cell) in parts.cells[i].iter().enumerate().filter(|(k, _)| parts.present[i][*k]) {
            let (row, column) = (cell / model.grid().1, cell % model.grid().1);
            println!("  entity {} in cell ({row}, {column}), KL {:.1} nats", k + 1, parts.kl[i][k]);
        }
    }
    let shape = Shape::new(image.height, image.width, image.channels);
    let sheet = decomposition("held-out scenes", shape, &rows(&model, &examples, &parts)?, Density::Single)?;
    save_png(&sheet, Path::new("decomposition.png"))?;
    println!("decomposition.png shows them");
    Ok(())
}

/// The best model of a run folder.
fn load(folder: &Path) -> Result<(Config, Model), Error> {
    let checkpoint = Checkpoint::load(&RunFolder::open(folder)?.checkpoint()?)?;
    let run = LoadedRun::from_checkpoint(&checkpoint, &Device::Cpu)?;
    Ok((run.config, run.model))
}

/// The default model after a short training.
fn train_briefly(steps: u64) -> Result<(Config, Model), Error> {
    let config = Config::resolve(Preset::MultiEntity, None, &[format!("training.steps={steps}")])?;
    let scenes = ScenesOf::open(&config.data, open_digits(&config.data.digits)?, Split::Train, config.training.seed)?;
    let (image, batch) = (scenes.image(), config.training.batch);
    config.validate(image)?;
    let mut batches = scenes.batches(&config, 0, 1)?;
    let mut trainer = Trainer::new(config.clone(), image, &Device::Cpu)?;
    let next = |_| -> Result<Tensor, Error> {
        let pixels = batches.next().ok_or("the scenes ended")?.images;
        Ok(Tensor::from_vec(pixels, (batch, image.height, image.width, image.channels), &Device::Cpu)?)
    };
    train(&mut trainer, next, |_, report| {
        if report.step % 50 == 0 {
            println!("step {}: −log p {:.1} + KL {:.1} nats", report.step, report.reconstruction_nats, report.kl_nats);
        }
        Ok(Flow::Continue)
    })?;
    Ok((config, trainer.model().clone()))
}

/// What the sheet shows, as plain numbers.
fn rows(model: &Model, examples: &[Example], parts: &Decomposition) -> TensorResult<Vec<DecompositionRow>> {
    let inference = &parts.inference;
    let merged = inference.reconstruction()?.flatten_from(1)?.to_vec2::<f32>()?;
    let alone = parts.alone(model)?;
    let (grid, columns) = (model.grid(), model.grid().1);
    let row = |i: usize| {
        let entity = |(k, &cell): (usize, &usize)| EntityTile {
            image: alone[i][k].clone(),
            kl: parts.kl[i][k],
            cell: (cell / columns, cell % columns),
            present: parts.present[i][k],
        };
        DecompositionRow {
            label: None,
            input: examples[i].image.clone(),
            reconstruction: merged[i].clone(),
            kl_map: parts.kl_map[i].clone(),
            grid,
            entities: parts.cells[i].iter().enumerate().map(entity).collect(),
            masks: parts.masks[i].clone(),
        }
    };
    Ok((0..examples.len()).map(row).collect())
}
