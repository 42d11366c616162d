//! What cannot work is refused before anything is built, with a message that names the key.

use super::*;
use crate::layers::Extent;
use crate::train::Schedule;

/// Upper bounds that keep a typing error from becoming an allocation of the whole machine.
const MOST_WIDTH: usize = 65_536;
const MOST_LAYERS: usize = 64;
const MOST_BATCH: usize = 65_536;
const MOST_KEPT: usize = 1_000;
/// Numbers that the largest tensor of one step may have (1 GiB in `f32`; a step has a dozen such tensors).
const MOST_NUMBERS: usize = 1 << 28;

impl Config {
    /// Checks every value by itself and against the others, for images of the given extent.
    pub fn validate(&self, image: Extent) -> Result<(), ConfigError> {
        let t = &self.training;
        check("training.steps", t.steps >= 1, "must be at least 1")?;
        check("training.batch", (1..=MOST_BATCH).contains(&t.batch), format!("must be between 1 and {MOST_BATCH}"))?;
        check("training.validate_every", t.validate_every >= 1, "must be at least 1")?;
        check("training.validation_scenes", t.validation_scenes >= 1, "must be at least 1")?;
        check("training.evaluation_scenes", t.evaluation_scenes >= 1, "must be at least 1")?;
        check("training.log_every", t.log_every >= 1, "must be at least 1")?;
        let most = format!("must be between 0 (only the last and the best) and {MOST_KEPT}");
        check("training.keep_last", t.keep_last <= MOST_KEPT, most)?;
        check("training.clip", t.clip.is_finite() && t.clip >= 0.0, "must be 0 (off) or a positive number")?;
        non_negative("training.learning_rate", &t.learning_rate)?;
        non_negative("training.location_charge", &t.location_charge)?;
        non_negative("training.idle_beta", &t.idle_beta)?;
        self.model.validate(image)?;
        self.check_objective()?;
        self.check_size(image)
    }

    /// Importance weights are p(x, z) / q(z|x): there is nothing in them for a β, a charge or a point to act on.
    fn check_objective(&self) -> Result<(), ConfigError> {
        let samples = match self.training.objective {
            Objective::Elbo => return Ok(()),
            Objective::Iwae { samples } | Objective::Dreg { samples } => samples,
        };
        check("training.objective.samples", samples >= 1, "must be at least 1")?;
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
        check("training.idle_beta", self.training.idle_beta == none, reason)
    }

    fn check_size(&self, image: Extent) -> Result<(), ConfigError> {
        let channels = match self.model.compositor {
            CompositorConfig::Render { features } => features,
            _ => image.channels + 1,
        };
        let widest = match &self.model.encoder {
            EncoderConfig::Convolutional { layers, .. } => {
                layers.first().map_or(1, |l| l.channels / (l.stride * l.stride).max(1))
            }
            EncoderConfig::Dense { .. } => 1,
        };
        let per_image = (image.height * image.width).saturating_mul((self.model.entities * channels).max(widest));
        let numbers = per_image.saturating_mul(self.training.batch).saturating_mul(self.training.objective.samples());
        let reason = "batch × samples × entities × pixels is too large for one step: lower training.batch, \
                      training.objective.samples, model.entities or the image";
        check("training.batch", numbers <= MOST_NUMBERS, reason)
    }
}

impl ModelConfig {
    /// Checks the model for images of the given extent.
    pub fn validate(&self, image: Extent) -> Result<(), ConfigError> {
        let (rows, columns) = self.grid(image);
        let n = rows * columns;
        check("data.scenes", image.len() > 0 && image.channels <= 4, format!("images of {image} cannot be modelled"))?;
        check(
            "model.entities",
            (1..=n).contains(&self.entities),
            format!("must be between 1 and the {n} candidates of a {rows}×{columns} grid, not {}", self.entities),
        )?;
        self.validate_encoder()?;
        self.validate_latent(n)?;
        let radius = &self.selector.radius;
        non_negative("model.selector.radius", radius)?;
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
        Ok(())
    }

    fn validate_encoder(&self) -> Result<(), ConfigError> {
        match &self.encoder {
            EncoderConfig::Dense { hidden, .. } => widths("model.encoder.hidden", hidden),
            EncoderConfig::Convolutional { layers, .. } => convolutions("model.encoder.layers", layers),
        }
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
                let last = ConvolutionConfig::up(1, *kernel, *stride);
                convolutions("model.decoder.trunk.kernel", &[last])
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
        check(&format!("{key}[{i}].kernel"), (1..=64).contains(&layer.kernel), "must be between 1 and 64")?;
        check(&format!("{key}[{i}].stride"), (1..=64).contains(&layer.stride), "must be between 1 and 64")?;
    }
    Ok(())
}

/// A schedule that is well formed and nowhere below 0.
fn non_negative(key: &str, schedule: &Schedule) -> Result<(), ConfigError> {
    schedule.validate(key).map_err(|reason| ConfigError::Invalid { key: key.into(), reason })?;
    let lowest = match schedule {
        Schedule::Constant(value) => *value,
        Schedule::Ramp(ramp) => ramp.from.min(ramp.to),
    };
    check(key, lowest >= 0.0, "must not be negative")
}
