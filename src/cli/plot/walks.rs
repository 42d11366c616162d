//! Pictures of chosen latents: the plane, one dimension at a time, the way from one to another.

use super::Subject;
use super::encoded::{chosen, ranked, which};
use crate::cli::pictures::shape;
use image::RgbImage;
use multi_entity_vae::config::{Latent, Placement};
use multi_entity_vae::evaluate::{Decomposition, Example, stack};
use multi_entity_vae::generate::walk;
use multi_entity_vae::model::Compositor;
use multi_entity_vae::picture::Shape;
use multi_entity_vae::picture::interpolation::{self, Path};
use multi_entity_vae::picture::manifold::Manifold;
use multi_entity_vae::picture::traversal::Traversals;
use multi_entity_vae::random;
use multi_entity_vae::run::LoadedRun;
use rand::Rng;

/// Scenes that dimensions are ranked by.
const RANKED_BY: usize = 1000;
/// Steps of an interpolation, both ends included.
const STEPS: usize = 9;
/// Scenes looked through for one in which something is found.
const MOST_TRIED: u64 = 64;
/// A traversal goes this many deviations of the prior to both sides …
const REACH: f64 = 3.0;
/// … in steps of this many.
const STRIDE: f64 = 0.6;

/// A scene taken apart, and its entity of largest KL.
struct Found {
    example: Example,
    /// The latents of all its entities, (K, D), and their cells.
    z: Vec<f32>,
    cells: Vec<usize>,
    /// Which of them is meant.
    k: usize,
    /// Over the ground of its image, where it has one.
    compositor: Compositor,
}

impl Found {
    fn of(subject: &Subject<'_>, example: Example) -> anyhow::Result<Option<Self>> {
        let images = stack(&subject.run.model, std::slice::from_ref(&example), subject.device)?;
        let parts = Decomposition::of(&subject.run.model, &images, &subject.selection)?;
        let z = parts.inference.entities.mean()?.flatten_all()?.to_vec1::<f32>()?;
        let (cells, present) = (parts.cells[0].clone(), &parts.present[0]);
        // Entities come in the order of their KL where they are chosen by it.
        let kl = |k: usize| parts.kl[0][k];
        let there = (0..cells.len()).filter(|k| !subject.has_grid() || present[*k]);
        let k = there.max_by(|a, b| kl(*a).total_cmp(&kl(*b)));
        let compositor = parts.inference.compositor.of_image(0)?;
        Ok(k.map(|k| Self { example, z, cells, k, compositor }))
    }

    /// The first scene from `start` on in which an entity is present.
    fn from(subject: &Subject<'_>, start: u64) -> anyhow::Result<Self> {
        let len = subject.scenes.source.len();
        for further in 0..MOST_TRIED.min(len) {
            if let Some(found) = Self::of(subject, subject.example((start % len + further) % len)?)? {
                return Ok(found);
            }
        }
        anyhow::bail!(
            "the model finds no entity in {} scenes of {}, so there is no latent to start from: train it longer, or choose \
             other --scenes",
            MOST_TRIED.min(len),
            subject.scenes_in_words()
        )
    }

    fn entity(&self, dimensions: usize) -> &[f32] {
        &self.z[self.k * dimensions..][..dimensions]
    }

    fn cell(&self) -> usize {
        self.cells[self.k]
    }
}

/// Whether a manifold needs scenes neither to choose its dimensions nor to begin with.
pub fn needs_no_scenes(run: &LoadedRun, dimensions: Option<(usize, usize)>) -> bool {
    let latent = &run.config.model.latent;
    let gaussian = matches!(latent, Latent::Gaussian { .. });
    gaussian && run.model.grid() == (1, 1) && (dimensions.is_some() || latent.dimensions() == 2)
}

/// The decoded plane of two latent dimensions, at `count` quantiles of the prior along each.
pub fn manifold(subject: &Subject<'_>, count: usize, dimensions: Option<(usize, usize)>) -> anyhow::Result<RgbImage> {
    subject.needs_prior("manifolds")?;
    let (a, b) = chosen(subject, dimensions, || Ok(ranked(subject, &subject.encoded(RANKED_BY)?.latents)))?;
    let d = subject.dimensions();
    let (rows, columns) = subject.run.model.grid();
    let cell = rows / 2 * columns + columns / 2;
    let model = &subject.run.model;
    let (base, compositor, others) = match subject.has_grid() {
        false if d == 2 => (vec![0.0; d], model.compositor().clone(), ""),
        false => (vec![0.0; d], model.compositor().clone(), "The other dimensions are 0, the prior's mean. "),
        true => {
            let found = Found::from(subject, 0)?;
            let others = "One entity alone; its other dimensions are those of the strongest entity of a scene. ";
            (found.entity(d).to_vec(), found.compositor, others)
        }
    };
    let values = walk::prior_quantiles(count);
    let z = walk::plane(&base, (a, b), &values);
    let images = walk::decoded(model, &compositor, &z, &vec![vec![cell]; count * count], subject.device)?;
    let (images, shape) = cropped(subject, images, cell);
    let name = |dimension| format!("z{dimension} (in deviations of the prior)");
    let (x, y) = (name(a), name(b));
    let footnote = format!(
        "E[x|z] at {count} quantiles of the prior N(0, 1) along each axis, from {:.1} % to {:.1} %. {others}{}",
        50.0 / count as f64,
        100.0 - 50.0 / count as f64,
        which(subject, dimensions, (a, b)),
    );
    let title = subject.title("Decoded latent plane");
    let manifold =
        Manifold { title: &title, axes: (&x, &y), values: &values, images: &images, shape, footnote: footnote.trim() };
    Ok(manifold.draw(subject.density)?)
}

/// What an entity at `cell` can reach of each image: all of it, or its glimpse.
fn cropped(subject: &Subject<'_>, images: Vec<Vec<f32>>, cell: usize) -> (Vec<Vec<f32>>, Shape) {
    let whole = shape(subject.run.image());
    let model = &subject.run.config.model;
    let Placement::Glimpse { patch } = model.decoder.placement else { return (images, whole) };
    let (_, columns) = subject.run.model.grid();
    let side = model.cell(subject.run.image());
    let from = |index: usize, cell: usize, length: usize| {
        let size = patch.min(length);
        let middle = index * cell + cell / 2;
        (middle.saturating_sub(size / 2).min(length - size), size)
    };
    let (top, height) = from(cell / columns, side.0, whole.height);
    let (left, width) = from(cell % columns, side.1, whole.width);
    let row = whole.width * whole.channels;
    let cut = |image: &Vec<f32>| -> Vec<f32> {
        let rows = image.chunks(row).skip(top).take(height);
        rows.flat_map(|row| row[left * whole.channels..][..width * whole.channels].iter().copied()).collect()
    };
    (images.iter().map(cut).collect(), Shape::new(height, width, whole.channels))
}

/// Each of the `count` dimensions that say most, from −3 to 3 deviations of the prior: a sheet, and frames there and back.
pub fn traversals(subject: &Subject<'_>, count: usize) -> anyhow::Result<(RgbImage, Vec<RgbImage>)> {
    subject.needs_prior("traversals")?;
    let latents = subject.encoded(RANKED_BY)?.latents;
    let (d, kl) = (subject.dimensions(), latents.kl_of_dimensions());
    let mut order = latents.ranked();
    if order.is_empty() {
        order = (0..d).collect();
    }
    let shown = &order[..count.min(d)];
    let half = (REACH / STRIDE).round() as i32;
    let values: Vec<f64> = (-half..=half).map(|step| f64::from(step) * STRIDE).collect();
    // Of a grid, one entity of a scene moves and the rest stays as it is; of one posterior, all starts from the prior's mean.
    let model = &subject.run.model;
    let (z, cells, k, compositor, start) = match subject.has_grid() {
        false => {
            (vec![0.0; d], vec![0], 0, model.compositor().clone(), "The other dimensions are 0, the prior's mean.")
        }
        true => {
            let Found { z, cells, k, compositor, .. } = Found::from(subject, subject.seed)?;
            (z, cells, k, compositor, "The strongest entity of a scene is moved; all else stays as it was found.")
        }
    };
    let mut dimensions = Vec::new();
    for &dimension in shown {
        let moved = walk::axis(&z, k * d + dimension, &values);
        let images = walk::decoded(model, &compositor, &moved, &vec![cells.clone(); values.len()], subject.device)?;
        let name = kl.get(dimension).map_or(format!("z{dimension}"), |kl| format!("z{dimension} · {kl:.2} nats"));
        dimensions.push((name, images));
    }
    let left_out = match d - shown.len() {
        0 => String::new(),
        more => format!(" The {more} dimensions of smallest KL are left out."),
    };
    let footnote = format!(
        "Each latent dimension in deviations of the prior N(0, 1), those of largest mean KL (the nats) first. {start}{left_out}"
    );
    let title = subject.title("Traversals");
    let traversals = Traversals {
        title: &title,
        shape: shape(subject.run.image()),
        values: &values,
        dimensions: &dimensions,
        footnote: &footnote,
    };
    let mut frames = traversals.frames(subject.density)?;
    // There and back again, each end once.
    let back: Vec<_> = frames.iter().rev().skip(1).take(frames.len().saturating_sub(2)).cloned().collect();
    frames.extend(back);
    Ok((traversals.sheet(subject.density)?, frames))
}

/// Straight lines between the latents of `count` pairs of scenes; of a grid, between one entity of each.
pub fn interpolation(subject: &Subject<'_>, count: usize) -> anyhow::Result<RgbImage> {
    let len = subject.scenes.source.len();
    let (_, columns) = subject.run.model.grid();
    let d = subject.dimensions();
    let mut paths = Vec::new();
    for pair in 0..count as u64 {
        let mut rng = random::stream(subject.seed, "interpolation", pair);
        let (a, b) = (Found::from(subject, rng.random_range(0..len))?, Found::from(subject, rng.random_range(0..len))?);
        let z = walk::line(a.entity(d), b.entity(d), STEPS);
        let cells: Vec<_> = (0..STEPS).map(|step| vec![between(a.cell(), b.cell(), columns, step)]).collect();
        let steps = walk::decoded(&subject.run.model, &a.compositor, &z, &cells, subject.device)?;
        let place = |found: &Found| (found.cell() / columns, found.cell() % columns);
        let cells = subject.has_grid().then(|| [place(&a), place(&b)]);
        paths.push(Path { ends: [a.example.image, b.example.image], cells, steps });
    }
    let how = match subject.has_grid() {
        false => "From the posterior mean of one image to another's, in a straight line",
        true => {
            "From the framed entity of one scene to that of another: the posterior mean in a straight line, the cell along with \
             it; the entity is drawn alone"
        }
    };
    let ground = match subject.run.model.compositor() {
        Compositor::Mixture { .. } => " over the first scene's ground",
        _ => "",
    };
    let footnote = format!("{how}{ground}. Scenes of {}.", subject.scenes_in_words());
    let title = subject.title("Interpolations");
    let grid = subject.run.model.grid();
    Ok(interpolation::interpolation(&title, shape(subject.run.image()), &paths, grid, &footnote, subject.density)?)
}

/// The cell at a step of the way from one cell to another.
fn between(from: usize, to: usize, columns: usize, step: usize) -> usize {
    let along = |from: usize, to: usize| (from * (STEPS - 1 - step) + to * step + (STEPS - 1) / 2) / (STEPS - 1);
    along(from / columns, to / columns) * columns + along(from % columns, to % columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_between_cells_begins_and_ends_at_them() {
        let columns = 16;
        let (from, to) = (3 * columns + 2, 14 * columns + 9);
        assert_eq!((between(from, to, columns, 0), between(from, to, columns, STEPS - 1)), (from, to));
        let rows: Vec<_> = (0..STEPS).map(|step| between(from, to, columns, step) / columns).collect();
        assert!(rows.is_sorted(), "{rows:?}");
    }
}
