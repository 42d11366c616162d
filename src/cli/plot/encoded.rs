//! Pictures of what the encoder says: scatter plots and KL.

use super::{Picture, Subject};
use multi_entity_vae::config::{Latent, Rank};
use multi_entity_vae::evaluate::Latents;
use multi_entity_vae::model::Selection;
use multi_entity_vae::picture::Drawing;
use multi_entity_vae::picture::bars::Bars;
use multi_entity_vae::picture::kl_map::kl_map;
use multi_entity_vae::picture::scatter::Scatter;

/// More bars than this nobody reads; the largest are drawn.
const MOST_BARS: usize = 64;

/// The posterior means of the first `count` scenes in two latent dimensions.
pub fn scatter(subject: &Subject<'_>, count: usize, dimensions: Option<(usize, usize)>) -> anyhow::Result<Drawing> {
    let encoded = subject.encoded(count)?;
    let (a, b) = chosen(subject, dimensions, || Ok(ranked(subject, &encoded.latents)))?;
    let at = |mean: &[f32]| (f64::from(mean[a]), f64::from(mean[b]));
    let entities = encoded.latents.entities.iter();
    let points: Vec<_> = entities.zip(&encoded.classes).map(|(entity, class)| (at(&entity.mean), *class)).collect();
    let what = match (&subject.run.config.model.latent, subject.has_grid()) {
        (Latent::Point { .. }, _) => "Codes",
        (_, false) => "Posterior means",
        (_, true) => "Posterior means of the present entities",
    };
    let unit = match subject.run.config.model.latent {
        Latent::Point { .. } => "code (no prior, no unit)",
        Latent::Gaussian { .. } => "posterior mean, in deviations of the prior N(0, 1)",
    };
    let (x, y) = (format!("z{a}: {unit}"), format!("z{b}: {unit}"));
    let classes = if encoded.classes.iter().any(Option::is_some) { "Numbers mark each class' median." } else { "" };
    let footnote = format!(
        "{} scenes of {}. {} {classes}",
        encoded.latents.scenes,
        subject.scenes_in_words(),
        which(subject, dimensions, (a, b)),
    );
    Ok(Scatter { title: &subject.title(what), axes: (&x, &y), points: &points, footnote: &footnote }.drawing())
}

/// The two dimensions to show: those that are asked for, or the first two of `ranked`.
pub fn chosen(
    subject: &Subject<'_>,
    dimensions: Option<(usize, usize)>,
    ranked: impl FnOnce() -> anyhow::Result<Vec<usize>>,
) -> anyhow::Result<(usize, usize)> {
    let d = subject.dimensions();
    match dimensions {
        Some((a, b)) if a.max(b) >= d => {
            anyhow::bail!("this model has {d} latent dimensions, 0 to {}: --dimensions {a},{b} is beyond them", d - 1)
        }
        Some(pair) => Ok(pair),
        None if d == 1 => {
            let instead = match subject.run.config.model.latent {
                Latent::Point { .. } => "interpolation",
                Latent::Gaussian { .. } => "traversals",
            };
            anyhow::bail!("this model has one latent dimension; a plane takes two: plot its {instead}")
        }
        None if d == 2 => Ok((0, 1)),
        None => match ranked()?.as_slice() {
            // Both in their own order, so that the picture does not turn with a small change of the KL.
            [a, b, ..] => Ok((*a.min(b), *a.max(b))),
            _ => anyhow::bail!(
                "no entity is present in these scenes, so no dimension is larger than another; train longer, or name two with --dimensions A,B"
            ),
        },
    }
}

/// The dimensions, those first that a plane shows most of. Each entity of a grid has a dimension or two that tell it from nothing:
/// of large KL, but much the same for all that are present.
pub fn ranked(subject: &Subject<'_>, latents: &Latents) -> Vec<usize> {
    if subject.has_grid() { latents.ranked_by_activity() } else { latents.ranked() }
}

/// How the two dimensions were chosen, for footnotes.
pub fn which(subject: &Subject<'_>, asked: Option<(usize, usize)>, (a, b): (usize, usize)) -> String {
    let d = subject.dimensions();
    let by = match (&subject.run.config.model.latent, subject.has_grid()) {
        (Latent::Point { .. }, _) => "variance",
        (_, false) => "mean KL",
        (_, true) => "variance of the present entities' posterior means",
    };
    match (d, asked) {
        (2, _) => String::new(),
        (_, Some(_)) => format!("z{a} and z{b} of {d} dimensions, as asked for."),
        (_, None) => format!("z{a} and z{b} are the two of largest {by} among {d} dimensions."),
    }
}

/// The KL of each latent dimension of one posterior, or the mean KL of each candidate of a grid.
pub(super) fn kl(subject: &Subject<'_>, count: usize) -> anyhow::Result<Picture> {
    subject.needs_prior("kl pictures")?;
    let latents = subject.encoded(count)?.latents;
    let scenes = scenes_of(subject, &latents);
    if subject.has_grid() {
        let map: Vec<f32> = latents.kl_map.iter().map(|kl| *kl as f32).collect();
        let total: f64 = latents.kl_map.iter().sum();
        let footnote = format!(
            "{scenes} KL of every candidate's posterior from N(0, I), in nats; {total:.2} nats over all of them. In each \
             scene {}.",
            kept_in_words(&subject.selection)
        );
        let title = subject.title("Mean KL of each candidate");
        return Ok(Picture::Pixels(kl_map(&title, &map, subject.run.model.grid(), &footnote, subject.density)?));
    }
    Ok(Picture::Drawing(bars_of(subject, &latents)))
}

/// Which candidates are kept.
fn kept_in_words(selection: &Selection) -> String {
    let Selection { entities, radius, overlap, rank_by, .. } = *selection;
    let best = match rank_by {
        Rank::Kl => "those of largest KL",
        Rank::Brightness => "the brightest",
        Rank::Random => "chosen at random",
    };
    let apart = match radius {
        0 => String::new(),
        radius => format!(", each at least {} cells from the others where there is room", radius + 1),
    };
    let different = if overlap < 1.0 { ", none of them to draw what a better one draws" } else { "" };
    format!("{entities} of them are kept, {best}{apart}{different}")
}

/// The KL of each latent dimension of a model with one posterior.
pub fn kl_bars(subject: &Subject<'_>, count: usize) -> anyhow::Result<Drawing> {
    Ok(bars_of(subject, &subject.encoded(count)?.latents))
}

fn bars_of(subject: &Subject<'_>, latents: &Latents) -> Drawing {
    let scenes = scenes_of(subject, latents);
    let kl = latents.kl_of_dimensions();
    let mut shown = latents.ranked();
    shown.truncate(MOST_BARS);
    shown.sort_unstable();
    let bars: Vec<_> = shown.iter().map(|d| (format!("z{d}"), kl[*d])).collect();
    let left_out = match kl.len() - bars.len() {
        0 => String::new(),
        more => format!(" The {more} smallest of {} dimensions are left out.", kl.len()),
    };
    let footnote = format!(
        "{scenes} {:.2} nats in all: what the posterior tells of an image beyond the prior N(0, I).{left_out}",
        kl.iter().sum::<f64>()
    );
    let bars = Bars {
        title: &subject.title("KL of each latent dimension"),
        values_name: "KL (nats per image)",
        bars_name: "latent dimension",
        bars: &bars,
        footnote: &footnote,
    };
    bars.drawing()
}

fn scenes_of(subject: &Subject<'_>, latents: &Latents) -> String {
    format!("Mean over {} scenes of {}.", latents.scenes, subject.scenes_in_words())
}
