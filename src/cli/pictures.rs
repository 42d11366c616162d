//! The pictures of a run: what it makes of held-out scenes, and how training went.

use super::common;
use super::session::{Session, curves_of};
use candle_core::{DType, Device, Tensor};
use multi_entity_vae::config::Latent;
use multi_entity_vae::evaluate::{Decomposition, Example, stack};
use multi_entity_vae::files::write_bytes_atomic;
use multi_entity_vae::layers::Extent;
use multi_entity_vae::model::{Model, Selection};
use multi_entity_vae::picture::curves::curves;
use multi_entity_vae::picture::decomposition::{DecompositionRow, EntityTile, decomposition};
use multi_entity_vae::picture::reconstruction::{COLUMNS, ImageRow, reconstruction};
use multi_entity_vae::picture::{Density, Shape, save_png};
use multi_entity_vae::run::{LoadedRun, ScenesOf};

/// Rows of the decomposition sheet.
const ROWS: u64 = 6;

/// Draws everything; returns the files and what each shows.
pub fn draw_all(
    session: &Session<'_>,
    run: &LoadedRun,
    scenes: &ScenesOf,
    selection: Selection,
    device: &Device,
) -> anyhow::Result<Vec<(&'static str, &'static str)>> {
    let mut drawn = Vec::new();
    let (rows, columns) = run.model.grid();
    if rows * columns > 1 {
        let examples = scenes.examples(ROWS).collect::<Result<Vec<_>, _>>()?;
        let images = stack(&run.model, &examples, device)?;
        let parts = Decomposition::of(&run.model, &images, &selection)?;
        let sheet = decomposition_sheet(run, &examples, &[], &parts)?;
        save_png(&sheet, &session.folder.file("decomposition.png"))?;
        drawn.push(("decomposition.png", "each scene taken apart into its entities"));
    }
    let examples = scenes.examples(COLUMNS as u64).collect::<Result<Vec<_>, _>>()?;
    let sheet = reconstructions(run, &examples, selection, device, Density::Single)?;
    save_png(&sheet, &session.folder.file("reconstructions.png"))?;
    drawn.push(("reconstructions.png", "inputs above what the model makes of them"));
    let (training, validation) = curves_of(&session.folder, &run.model, &run.config)?;
    let svg = curves(&describe(run), &training, &validation, Density::Single);
    write_bytes_atomic(&session.folder.file("curves.svg"), svg.as_bytes())?;
    drawn.push(("curves.svg", "the loss's parts and the count accuracy over the steps"));
    drawn.push(("evaluation.json", "the table above, for programs"));
    Ok(drawn)
}

/// One line about a run, for titles.
pub fn describe(run: &LoadedRun) -> String {
    describe_keeping(run, run.config.model.entities)
}

/// The same where another number of entities is kept than the run's own.
pub fn describe_keeping(run: &LoadedRun, entities: usize) -> String {
    let model = &run.config.model;
    let (rows, columns) = run.model.grid();
    let scale = "on the ELBO's scale, both terms summed";
    let (name, beta) = match &model.latent {
        Latent::Point { .. } => ("autoencoder", "no KL".to_string()),
        Latent::Gaussian { beta, .. } => {
            let name = if beta.last() == 1.0 { "VAE" } else { "β-VAE" };
            (name, format!("β = {} {scale}", beta.last()))
        }
    };
    let dimensions = model.latent.dimensions();
    match rows * columns {
        1 => format!("{name} with {dimensions} latent dimensions, {beta}"),
        n => format!(
            "multi-entity {name}, {entities} of {n} candidates kept, {dimensions} latent dimensions each, {beta}"
        ),
    }
}

/// Input, KL map, reconstruction, masks and entities of each example, and its name where it has one.
pub fn decomposition_sheet(
    run: &LoadedRun,
    examples: &[Example],
    names: &[String],
    parts: &Decomposition,
) -> anyhow::Result<image::RgbImage> {
    let mut rows = decomposition_rows(&run.model, parts, examples)?;
    for (row, name) in rows.iter_mut().zip(names) {
        row.label = Some(name.clone());
    }
    let kept = parts.present.first().map_or(0, Vec::len);
    sheet_of(&format!("Scenes taken apart · {}", describe_keeping(run, kept)), run, &rows)
}

/// Rows that were made before.
pub fn sheet_of(title: &str, run: &LoadedRun, rows: &[DecompositionRow]) -> anyhow::Result<image::RgbImage> {
    Ok(decomposition(title, shape(run.image()), rows, Density::Single)?)
}

/// The sheet's rows as plain data.
pub fn decomposition_rows(
    model: &Model,
    decomposition: &Decomposition,
    examples: &[Example],
) -> anyhow::Result<Vec<DecompositionRow>> {
    let inference = &decomposition.inference;
    let merged = inference.reconstruction()?.flatten_from(1)?.to_vec2::<f32>()?;
    let alone = decomposition.alone(model)?;
    let (grid_rows, grid_columns) = model.grid();
    let row = |i: usize| DecompositionRow {
        label: None,
        input: examples[i].image.clone(),
        reconstruction: merged[i].clone(),
        kl_map: decomposition.kl_map[i].clone(),
        grid: (grid_rows, grid_columns),
        entities: decomposition.cells[i]
            .iter()
            .enumerate()
            .map(|(k, &cell)| EntityTile {
                image: alone[i][k].clone(),
                kl: decomposition.kl[i][k],
                cell: (cell / grid_columns, cell % grid_columns),
                present: decomposition.present[i][k],
            })
            .collect(),
        masks: decomposition.masks[i].clone(),
    };
    Ok((0..examples.len()).map(row).collect())
}

/// The thesis' figure: a row of inputs above a row of reconstructions.
pub fn reconstructions(
    run: &LoadedRun,
    examples: &[Example],
    selection: Selection,
    device: &Device,
    density: Density,
) -> anyhow::Result<image::RgbImage> {
    let merged = means(run, examples, selection, device)?;
    let rows = [
        ImageRow { label: "input".into(), images: examples.iter().map(|e| e.image.clone()).collect() },
        ImageRow { label: "reconstruction".into(), images: merged },
    ];
    Ok(reconstruction(&format!("Reconstructions · {}", describe(run)), shape(run.image()), &rows, density)?)
}

/// E[x|z] of each example at the posterior means.
pub fn means(
    run: &LoadedRun,
    examples: &[Example],
    selection: Selection,
    device: &Device,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let mut means = Vec::with_capacity(examples.len());
    for some in examples.chunks(common::images_at_once(&run.model, &selection)) {
        let images = stack(&run.model, some, device)?;
        means.extend(host(&run.model.forward(&images, &selection, None)?.reconstruction()?)?);
    }
    Ok(means)
}

/// Images (B, H, W, C) on the host.
pub fn host(images: &Tensor) -> anyhow::Result<Vec<Vec<f32>>> {
    Ok(images.flatten_from(1)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2()?)
}

/// The picture module's word for an extent.
pub fn shape(image: Extent) -> Shape {
    Shape::new(image.height, image.width, image.channels)
}
