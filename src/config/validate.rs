//! What cannot work is refused before anything is built, with a message that names the key.

use super::model::strides;
use super::size::{self, Size};
use super::*;
use crate::layers::Extent;
use crate::scene::OptionError;
use crate::scene::Recipe;
use crate::train::Schedule;

/// Upper bounds that keep a typing error from becoming an allocation of the whole machine.
const MOST_WIDTH: usize = 65_536;
const MOST_LAYERS: usize = 64;
const MOST_TAPS: usize = 64;
const MOST_BATCH: usize = 65_536;
const MOST_KEPT: usize = 1_000;
pub(super) const MOST_ENTITIES: usize = 255;
/// The longest side of an image in pixels, as of a picture that can be drawn.
const MOST_SIDE: usize = 4096;
/// Numbers that the parameters may have (½ GiB in `f32`; training keeps about a dozen times that, a checkpoint three times).
const MOST_PARAMETERS: usize = 1 << 27;
/// Numbers that the forward pass of one step may keep (4 GiB in `f32`; the backward pass takes as much again).
const MOST_NUMBERS: usize = 1 << 30;
/// Numbers that the forward pass of one image may keep (½ GiB in `f32`).
const MOST_OF_AN_IMAGE: usize = 1 << 27;
/// Scenes of one evaluation: hours of it, where a recipe has no end of them.
pub const MOST_SCENES: u64 = 10_000_000;
/// The largest whole number that TOML has, and so a saved configuration.
const MOST_IN_TOML: u64 = i64::MAX as u64;

impl Config {
    /// Checks every value by itself and against the others, for images of the given extent.
    pub fn validate(&self, image: Extent) -> Result<(), ConfigError> {
        let t = &self.training;
        check("training.seed", t.seed <= MOST_IN_TOML, format!("must be at most {MOST_IN_TOML}"))?;
        check("training.batch", (1..=MOST_BATCH).contains(&t.batch), format!("must be between 1 and {MOST_BATCH}"))?;
        for (key, value, most) in [
            ("training.steps", t.steps, MOST_IN_TOML),
            ("training.validate_every", t.validate_every, MOST_IN_TOML),
            ("training.log_every", t.log_every, MOST_IN_TOML),
            ("training.validation_scenes", t.validation_scenes, MOST_SCENES),
            ("training.evaluation_scenes", t.evaluation_scenes, MOST_SCENES),
        ] {
            check(key, value >= 1, "must be at least 1")?;
            check(key, value <= most, format!("must be at most {most}"))?;
        }
        let most = format!("must be between 0 (only the last and the best) and {MOST_KEPT}");
        check("training.keep_last", t.keep_last <= MOST_KEPT, most)?;
        check("training.clip", t.clip.is_finite() && t.clip >= 0.0, "must be 0 (off) or a positive number")?;
        check("training.silence", t.silence.is_finite() && t.silence >= 0.0, "must be 0 or a positive number")?;
        non_negative("training.learning_rate", &t.learning_rate)?;
        non_negative("training.location_charge", &t.location_charge)?;
        non_negative("training.idle_beta", &t.idle_beta)?;
        non_negative("training.resynthesis", &t.resynthesis)?;
        self.check_disturbance()?;
        self.check_apart()?;
        self.model.validate(image)?;
        self.check_resynthesis()?;
        self.check_objective()?;
        self.check_size(image)
    }

    fn check_disturbance(&self) -> Result<(), ConfigError> {
        let Self { data, .. } = self;
        let refused = |e: OptionError| ConfigError::Invalid { key: format!("data.{}", e.option), reason: e.reason };
        data.options().disturbance.check().map_err(refused)?;
        let reason = "disturbs the scenes of a recipe, and data.scenes is a file: set it to 0, or choose a recipe";
        let of_a_recipe = !data.scenes.ends_with(".npz");
        check("data.noise", of_a_recipe || data.noise == 0.0, reason)?;
        check("data.grid_lines", of_a_recipe || data.grid_lines == 0.0, reason)
    }

    /// Objects can be kept apart only where they would cover one another.
    fn check_apart(&self) -> Result<(), ConfigError> {
        let (key, apart) = ("training.apart", &self.training.apart);
        non_negative(key, apart)?;
        check(key, apart.range().1 <= 1.0, "must be at most 1, which is all scenes")?;
        let covers = self.data.scenes.parse().is_ok_and(Recipe::covers);
        let reason = "is a choice of the recipes whose objects cover one another, survey and sprites: set it to 0, or choose one of them";
        check(key, covers || *apart == Schedule::Constant(0.0), reason)
    }

    /// An entity can only be put in another cell where it would be described alike.
    fn check_resynthesis(&self) -> Result<(), ConfigError> {
        let alike = self.model.fits_any_size() && matches!(self.model.latent, Latent::Gaussian { .. });
        let reason = "moves entities from cell to cell, which needs a Gaussian latent, a convolutional encoder with posteriors per cell and a \
                      glimpse decoder, both without coordinates: set it to 0, or these";
        check("training.resynthesis", alike || self.training.resynthesis == Schedule::Constant(0.0), reason)
    }

    /// Importance weights are p(x, z) / q(z|x): there is nothing in them for a β, a charge or a point to act on.
    fn check_objective(&self) -> Result<(), ConfigError> {
        let Some(importance) = self.training.objective.importance() else { return Ok(()) };
        let samples = "training.objective.samples";
        importance.samples.validate(samples).map_err(|reason| ConfigError::Invalid { key: samples.into(), reason })?;
        check(samples, importance.samples.range().0 >= 1.0, "must be at least 1")?;
        let most = importance.most();
        let reason = format!("must be at most {most}, the most samples that there are; 0 takes all");
        check("training.objective.gradient_samples", importance.gradient_samples <= most, reason)?;
        let Latent::Gaussian { beta, .. } = &self.model.latent else {
            let reason = "weighs samples of q(z|x), which a point latent does not have: set it to elbo, or \
                          model.latent.kind to gaussian";
            return check("training.objective.kind", false, reason);
        };
        let reason = "must be 1 for the importance-weighted objectives, which have no KL to multiply";
        check("model.latent.beta", *beta == Schedule::Constant(1.0), reason)?;
        let reason = "must be 0 for the importance-weighted objectives: it is no part of their bound";
        let none = Schedule::Constant(0.0);
        check("training.location_charge", self.training.location_charge == none, reason)?;
        check("training.idle_beta", self.training.idle_beta == none, reason)?;
        check("training.resynthesis", self.training.resynthesis == none, reason)
    }

    fn check_size(&self, image: Extent) -> Result<(), ConfigError> {
        let per_step = self.training.batch.saturating_mul(self.training.objective.most_samples());
        let mut an_image = self.model.activations(image);
        if self.training.resynthesis != Schedule::Constant(0.0) {
            // Scenes put together anew are half as many. Each of their entities is drawn and composed alone, in four steps that are kept,
            // and so are their gradients.
            let canvases = self.model.entities.saturating_mul(image.len()).saturating_mul(4);
            an_image = an_image.saturating_mul(2).saturating_add(canvases);
        }
        let numbers = an_image.saturating_mul(per_step);
        let reason = format!(
            "batch × samples × entities × pixels × layers is too large for one step, {numbers} numbers where {MOST_NUMBERS} are \
             allowed: lower training.batch, training.objective.samples, model.entities, the layers or the image"
        );
        check("training.batch", numbers <= MOST_NUMBERS, reason)
    }
}

impl ModelConfig {
    /// Checks the model for images of the given extent.
    pub fn validate(&self, image: Extent) -> Result<(), ConfigError> {
        let side = 1..=MOST_SIDE;
        check(
            "data.scenes",
            side.contains(&image.height) && side.contains(&image.width) && (1..=4).contains(&image.channels),
            format!("images of {image} cannot be modelled: at most {MOST_SIDE} pixels a side and 4 channels"),
        )?;
        // The layers first: the grid follows from them.
        self.validate_encoder(image)?;
        let (rows, columns) = self.grid(image);
        let n = rows.saturating_mul(columns);
        check(
            "model.entities",
            (1..=n).contains(&self.entities),
            format!("must be between 1 and the {n} candidates of a {rows}×{columns} grid, not {}", self.entities),
        )?;
        let reason = format!("must be at most {MOST_ENTITIES}: masks name the entity of a pixel by one byte");
        check("model.entities", self.entities <= MOST_ENTITIES, reason)?;
        self.validate_latent(n)?;
        let radius = &self.selector.radius;
        non_negative("model.selector.radius", radius)?;
        self.validate_overlap()?;
        let part = (0.0..=1.0).contains(&self.selector.warm_start);
        check("model.selector.warm_start", part, "must be a part of training, between 0 (none) and 1")?;
        self.decoder.validate()?;
        if let CompositorConfig::Render { features } = self.compositor {
            width("model.compositor.features", features)?;
        }
        if let Likelihood::Gaussian { deviation } = self.likelihood {
            check(
                "model.likelihood.deviation",
                deviation.is_finite() && deviation > 1e-4,
                "must be greater than 0.0001",
            )?;
        }
        self.validate_size(image)
    }

    fn validate_encoder(&self, image: Extent) -> Result<(), ConfigError> {
        let (layers, posteriors) = match &self.encoder {
            EncoderConfig::Dense { hidden, .. } => return widths("model.encoder.hidden", hidden),
            EncoderConfig::Convolutional { layers, posteriors, .. } => (layers, posteriors),
        };
        convolutions("model.encoder.layers", layers)?;
        if *posteriors == Posteriors::Whole {
            return Ok(());
        }
        let (down, up) = (strides(layers, false), strides(layers, true));
        check(
            "model.encoder.layers",
            down.is_multiple_of(up),
            format!(
                "strides of {down} down and {up} up leave no whole number of pixels for a cell: make the first a multiple of the second"
            ),
        )?;
        let (rows, columns) = self.cell(image);
        // Half a cell beyond the first corner is where the first candidate looks and draws.
        let inside = rows.max(columns) / 2 < image.height.max(image.width);
        check(
            "model.encoder.layers",
            inside,
            format!("cells of {rows}×{columns} pixels are too large for images of {image}: lower the strides"),
        )
    }

    /// What the parameters and one image's forward pass take must be within bounds.
    fn validate_size(&self, image: Extent) -> Result<(), ConfigError> {
        let encoder = match self.encoder {
            EncoderConfig::Dense { .. } => "model.encoder.hidden",
            EncoderConfig::Convolutional { .. } => "model.encoder.layers",
        };
        let decoder = match self.decoder.trunk {
            DecoderTrunk::Dense { .. } => "model.decoder.trunk.hidden",
            DecoderTrunk::Convolutional { .. } => "model.decoder.trunk.layers",
        };
        let parts = [
            (encoder, size::encoder(self, image)),
            (decoder, size::decoder(self, image)),
            ("model.compositor.features", size::compositor(self, image)),
        ];
        for (key, size) in parts {
            let too_many = |what, found, most| {
                format!(
                    "this part would have {found} {what}, {most} are allowed: lower its sizes, model.latent.dimensions or the image"
                )
            };
            let Size { arranged, activations, .. } = size;
            check(key, arranged <= MOST_PARAMETERS, too_many("parameters", arranged, MOST_PARAMETERS))?;
            check(
                key,
                activations <= MOST_OF_AN_IMAGE,
                too_many("numbers for an image", activations, MOST_OF_AN_IMAGE),
            )?;
        }
        Ok(())
    }

    /// Numbers that the model has to train, of a valid configuration.
    pub fn parameters(&self, image: Extent) -> usize {
        size::whole(self, image).parameters
    }

    /// Numbers that a forward pass of one image keeps.
    pub fn activations(&self, image: Extent) -> usize {
        size::whole(self, image).activations
    }

    fn validate_overlap(&self) -> Result<(), ConfigError> {
        let (key, overlap) = ("model.selector.overlap", &self.selector.overlap);
        non_negative(key, overlap)?;
        check(key, overlap.range().1 <= 1.0, "must be a part of what is drawn, between 0 and 1 (any part)")?;
        let drawn = !matches!(self.compositor, CompositorConfig::Render { .. }) || !self.selector.compares_drawings();
        check(key, drawn, "must be 1 beside the render compositor, whose components are features and no drawings")
    }

    fn validate_latent(&self, n: usize) -> Result<(), ConfigError> {
        width("model.latent.dimensions", self.latent.dimensions())?;
        match &self.latent {
            Latent::Point { .. } => check(
                "model.latent.kind",
                self.entities == n || self.selector.rank_by != Rank::Kl,
                format!(
                    "a point has no KL to rank candidates by: keep all {n} (model.entities={n}) or set model.selector.rank_by to \
                     brightness or random"
                ),
            ),
            Latent::Gaussian { beta, .. } => non_negative("model.latent.beta", beta),
        }
    }
}

impl DecoderConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        if let Placement::Glimpse { patch } = self.placement {
            check("model.decoder.placement.patch", (1..=1024).contains(&patch), "must be between 1 and 1024 pixels")?;
        }
        match &self.trunk {
            DecoderTrunk::Dense { hidden, .. } => widths("model.decoder.trunk.hidden", hidden),
            DecoderTrunk::Convolutional { hidden, base, layers, kernel, stride, .. } => {
                widths("model.decoder.trunk.hidden", hidden)?;
                width("model.decoder.trunk.base", *base)?;
                convolutions("model.decoder.trunk.layers", layers)?;
                tap("model.decoder.trunk.kernel", *kernel)?;
                tap("model.decoder.trunk.stride", *stride)
            }
        }
    }
}

fn check(key: &str, ok: bool, reason: impl Into<String>) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::Invalid { key: key.into(), reason: reason.into() }) }
}

fn width(key: &str, width: usize) -> Result<(), ConfigError> {
    check(key, (1..=MOST_WIDTH).contains(&width), format!("must be between 1 and {MOST_WIDTH}, not {width}"))
}

fn widths(key: &str, all: &[usize]) -> Result<(), ConfigError> {
    check(key, all.len() <= MOST_LAYERS, format!("at most {MOST_LAYERS} layers"))?;
    all.iter().try_for_each(|w| width(key, *w))
}

fn convolutions(key: &str, layers: &[ConvolutionConfig]) -> Result<(), ConfigError> {
    check(key, layers.len() <= MOST_LAYERS, format!("at most {MOST_LAYERS} layers"))?;
    for (i, layer) in layers.iter().enumerate() {
        width(&format!("{key}[{i}].channels"), layer.channels)?;
        tap(&format!("{key}[{i}].kernel"), layer.kernel)?;
        tap(&format!("{key}[{i}].stride"), layer.stride)?;
    }
    Ok(())
}

/// The side of a kernel, or a stride.
fn tap(key: &str, pixels: usize) -> Result<(), ConfigError> {
    check(key, (1..=MOST_TAPS).contains(&pixels), format!("must be between 1 and {MOST_TAPS}, not {pixels}"))
}

/// A schedule that is well formed and nowhere below 0.
fn non_negative(key: &str, schedule: &Schedule) -> Result<(), ConfigError> {
    schedule.validate(key).map_err(|reason| ConfigError::Invalid { key: key.into(), reason })?;
    check(key, schedule.range().0 >= 0.0, "must not be negative")
}
