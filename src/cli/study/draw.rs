//! The pictures of a study.

use super::Sitting;
use super::measure::with_test_digits;
use super::plan::Planned;
use super::story::Study;
use crate::cli::plot::{self, Subject};
use crate::cli::{common, generate, pictures};
use image::RgbImage;
use multi_entity_vae::files::write_bytes_atomic;
use multi_entity_vae::picture::reconstruction::{COLUMNS, ImageRow, reconstruction};
use multi_entity_vae::picture::trade_off::TradeOff;
use multi_entity_vae::picture::{Density, Drawing, Shape, save_png};
use std::path::Path;

/// Quantiles of the prior along each axis of a manifold.
const VALUES: usize = 20;
/// Sheets are for dense screens and print; the page shows them at half their width.
pub const DENSITY: Density = Density::Double;
/// Pairs of an interpolation.
const PAIRS: usize = 5;
/// New images.
const SAMPLES: usize = 40;

/// Draws all of them into the study's folder.
pub fn all(study: &Study<'_>, out: &Path, sitting: &Sitting) -> anyhow::Result<()> {
    let easel = Easel { out, sitting };
    for model in &study.plan.autoencoders {
        easel.look(model, |subject| easel.save(&reconstructions(model), &subject.reconstructions(COLUMNS)?))?;
    }
    for model in &study.plan.plane {
        easel.look(model, |subject| {
            easel.save(&manifold(model), &plot::manifold(subject, VALUES, None)?)?;
            let points = plot::scatter(subject, test_digits(subject), None)?;
            easel.save(&scatter(model), &points.pixels(DENSITY))
        })?;
    }
    for model in [study.autoencoder_of_the_sweep(), study.vae_of_the_sweep()].into_iter().flatten() {
        easel.look(model, |subject| easel.save(&interpolation(model), &plot::interpolation(subject, PAIRS)?))?;
    }
    for model in [study.vae_of_the_sweep(), study.most_beta()].into_iter().flatten() {
        easel.look(model, |subject| {
            easel.save_drawing(&kl(model), &plot::kl_bars(subject, test_digits(subject))?)?;
            let run = subject.run;
            let (sheet, _) = generate::draw(run, SAMPLES, run.config.training.seed, subject.device, DENSITY)?;
            easel.save(&samples(model), &sheet)
        })?;
    }
    easel.save(STRIP, &strip(study, &easel)?)?;
    easel.save_drawing(RATE_DISTORTION, &rate_distortion(study))
}

/// Where pictures are made and go.
struct Easel<'a> {
    out: &'a Path,
    sitting: &'a Sitting,
}

impl Easel<'_> {
    /// Looks at the test digits with a model of the study.
    fn look<T>(&self, model: &Planned, look: impl FnOnce(&Subject<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
        super::go_on(self.sitting)?;
        let run = common::load_run(&self.out.join("runs").join(&model.name), &self.sitting.device)?;
        with_test_digits(&run, &self.sitting.device, look)
    }

    fn save(&self, name: &str, picture: &RgbImage) -> anyhow::Result<()> {
        Ok(save_png(picture, &self.out.join(name))?)
    }

    fn save_drawing(&self, name: &str, drawing: &Drawing) -> anyhow::Result<()> {
        Ok(write_bytes_atomic(&self.out.join(name), drawing.svg(Density::Single).as_bytes())?)
    }
}

/// As many test digits as the run is evaluated on.
fn test_digits(subject: &Subject<'_>) -> usize {
    subject.run.config.training.evaluation_scenes as usize
}

/// Test digits above what every model of the sweep makes of them.
fn strip(study: &Study<'_>, easel: &Easel<'_>) -> anyhow::Result<RgbImage> {
    let mut rows: Vec<ImageRow> = Vec::new();
    let mut shape = Shape::new(0, 0, 1);
    for (model, measured) in study.sweep() {
        let (inputs, images, extent) = easel.look(model, |subject| {
            let examples = subject.examples(COLUMNS)?;
            let images = pictures::means(subject.run, &examples, subject.selection, subject.device)?;
            let inputs: Vec<_> = examples.into_iter().map(|example| example.image).collect();
            Ok((inputs, images, subject.run.image()))
        })?;
        if rows.is_empty() {
            shape = pictures::shape(extent);
            rows.push(ImageRow { label: "input".into(), images: inputs });
        }
        let label = match (measured.beta, measured.kl_nats) {
            (Some(beta), Some(kl)) => format!("β = {beta} · KL {kl:.1} nats"),
            _ => "autoencoder".into(),
        };
        rows.push(ImageRow { label, images });
    }
    let title = format!(
        "From sharp to blurred: reconstructions with {} latent dimensions as β rises, on the ELBO's scale, both terms \
         summed",
        study.dimensions_of_the_sweep()
    );
    Ok(reconstruction(&title, shape, &rows, DENSITY)?)
}

/// Reconstructions of the whole sweep.
pub const STRIP: &str = "sweep.png";
/// The sweep as a curve.
pub const RATE_DISTORTION: &str = "rate-distortion.svg";

pub fn reconstructions(model: &Planned) -> String {
    format!("reconstructions-{}.png", model.name)
}

pub fn manifold(model: &Planned) -> String {
    format!("manifold-{}.png", beta(model))
}

pub fn scatter(model: &Planned) -> String {
    format!("scatter-{}.png", beta(model))
}

pub fn interpolation(model: &Planned) -> String {
    format!("interpolation-{}.png", beta(model))
}

pub fn kl(model: &Planned) -> String {
    format!("kl-{}.svg", beta(model))
}

pub fn samples(model: &Planned) -> String {
    format!("samples-{}.png", beta(model))
}

/// A model's β as it stands in file names.
fn beta(model: &Planned) -> String {
    model.beta().map_or("autoencoder".into(), |beta| format!("beta{beta}"))
}

fn rate_distortion(study: &Study<'_>) -> Drawing {
    let point = |measured: &super::Measured| {
        Some(((measured.kl_nats?, measured.reconstruction_nats?), format!("β = {}", measured.beta?)))
    };
    let points: Vec<_> = study.sweep().filter_map(|(_, measured)| point(measured)).collect();
    let d = study.dimensions_of_the_sweep();
    let limit = study.sweep().find(|(_, m)| m.beta.is_none()).and_then(|(_, m)| m.reconstruction_nats);
    let limit = limit.map_or(String::new(), |nats| {
        format!(" An autoencoder with the same net, which pays for no rate, comes to a distortion of {nats:.2} nats.")
    });
    let digits = study.sweep().map(|(_, m)| m.test_digits).next().unwrap_or(0);
    let footnote = format!(
        "{digits} test digits, grey-scale, {d} latent dimensions. β is on the ELBO's scale. Down and to the left is better; −ELBO \
         is the sum of both coordinates.{limit}"
    );
    TradeOff {
        title: "Rate and distortion as β rises",
        axes: ("rate: KL (nats per image)", "distortion: −log p(x|z) (nats per image)"),
        points: &points,
        footnote: &footnote,
    }
    .drawing()
}
