//! The four names: points of one configuration.

use super::*;
use crate::layers::Activation;
use crate::scene::Disturbance;
use crate::scene::Recipe;

/// A named configuration to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Deterministic code, dense 784-32-784 (the thesis' first model).
    Autoencoder,
    /// Dense 784-256-2-256-784 with β = 1 (Kingma & Welling 2014; sizes from the thesis).
    Vae,
    /// The same with β = 2 (Higgins et al. 2017; sizes from the thesis).
    BetaVae,
    /// A grid of candidates, K kept, one decoder, one image (after Nash et al. 2017).
    MultiEntity,
}

impl Preset {
    /// In the order of the walk from one to the next.
    pub const ALL: [Self; 4] = [Self::Autoencoder, Self::Vae, Self::BetaVae, Self::MultiEntity];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Autoencoder => "autoencoder",
            Self::Vae => "vae",
            Self::BetaVae => "beta-vae",
            Self::MultiEntity => "multi-entity",
        }
    }

    /// The configuration, on the scenes that the preset is made for.
    pub fn config(self) -> Config {
        match self {
            Self::Autoencoder => single_digit(Latent::Point { dimensions: 32, activation: Activation::Relu }, vec![]),
            Self::Vae => single_digit(Latent::Gaussian { dimensions: 2, beta: 1.0.into() }, vec![256]),
            Self::BetaVae => single_digit(Latent::Gaussian { dimensions: 2, beta: 2.0.into() }, vec![256]),
            Self::MultiEntity => multi_entity(),
        }
    }

    /// The configuration with what other scenes, or disturbed ones, need: no more entities are kept than a recipe has objects, and where it
    /// is for the recipe to say, scenes are without end or not. Of the data's other values it has its own.
    pub fn config_for(self, asked: &DataConfig) -> Config {
        let mut config = self.config();
        if asked.scenes != config.data.scenes {
            config.data = data(&asked.scenes, false);
        }
        if self == Self::MultiEntity {
            let recipe = asked.scenes.parse();
            match recipe {
                Ok(Recipe::Single | Recipe::Sprite) => config.model.entities = 1,
                Ok(Recipe::Air) => for_air(&mut config),
                Ok(Recipe::Survey) => for_survey(&mut config),
                Ok(Recipe::Sprites) => for_sprites(&mut config),
                Ok(Recipe::Tetrominoes) => for_tetrominoes(&mut config),
                Ok(Recipe::Digits) | Err(_) => {}
            }
            // Of pixels that are black or white, a Bernoulli is a probability: those keep it.
            let grey = asked.binarisation == Binarisation::GreyScale;
            let disturbance = asked.options().disturbance;
            if matches!(recipe, Ok(Recipe::Air | Recipe::Digits)) && grey && !disturbance.is_none() {
                for_disturbed(&mut config, disturbance);
            }
        }
        config
    }
}

impl std::str::FromStr for Preset {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let hint = nearest(name, names).map_or(String::new(), |n| format!(" (did you mean {n}?)"));
            format!("there is no preset {name:?}{hint}; the presets are {}", names.join(", "))
        })
    }
}

/// One posterior for one centred digit: a grid of 1×1, of which 1 is kept.
fn single_digit(latent: Latent, hidden: Vec<usize>) -> Config {
    let activation = Activation::Relu;
    Config {
        data: data("single", false),
        model: ModelConfig {
            encoder: EncoderConfig::Dense { hidden: hidden.clone(), activation },
            latent,
            selector: SelectorConfig { rank_by: Rank::Kl, radius: 0.0.into(), overlap: 1.0.into(), warm_start: 0.0 },
            entities: 1,
            decoder: DecoderConfig {
                placement: Placement::Canvas,
                trunk: DecoderTrunk::Dense { hidden, activation },
                coordinates: false,
            },
            compositor: CompositorConfig::Union,
            likelihood: Likelihood::Bernoulli,
        },
        training: TrainingConfig {
            seed: 0,
            start_from: String::new(),
            steps: 11_000, // 20 epochs of 55,000 digits
            batch: 100,
            apart: 0.0.into(),
            objective: Objective::Elbo,
            learning_rate: 1e-3.into(),
            location_charge: 0.0.into(),
            idle_beta: 0.0.into(),
            resynthesis: 0.0.into(),
            silence: silence(),
            clip: 0.0,
            validate_every: 550,
            validation_scenes: 1000,
            evaluation_scenes: 10_000,
            log_every: log_every(),
            keep_last: keep_last(),
            on_nonfinite: OnNonfinite::Stop,
        },
    }
}

/// 64×64 scenes of digits, 4-pixel cells, 28-pixel digits in 36-pixel glimpses, kept cells at least 12 pixels apart. Grid, sizes
/// and schedules are ours: the paper publishes none.
fn multi_entity() -> Config {
    let activation = Activation::Relu;
    Config {
        data: data("digits", true),
        model: ModelConfig {
            encoder: EncoderConfig::Convolutional {
                // A cell sees 40×40 pixels: more than a digit, so that of two cells over one digit each knows of the other's half.
                layers: [(32, 8, 4), (48, 3, 1), (48, 3, 1), (48, 3, 1), (48, 3, 1), (64, 1, 1)]
                    .map(|(channels, kernel, stride)| ConvolutionConfig::new(channels, kernel, stride))
                    .to_vec(),
                activation,
                posteriors: Posteriors::PerCell,
                coordinates: false,
            },
            latent: Latent::Gaussian { dimensions: 16, beta: 1.0.into() },
            selector: SelectorConfig { rank_by: Rank::Kl, radius: 2.0.into(), overlap: 1.0.into(), warm_start: 0.0 },
            entities: 4,
            decoder: DecoderConfig {
                placement: Placement::Glimpse { patch: 36 },
                trunk: DecoderTrunk::Dense { hidden: vec![512, 512], activation },
                coordinates: false,
            },
            compositor: CompositorConfig::Union,
            likelihood: Likelihood::Bernoulli,
        },
        training: TrainingConfig {
            seed: 0,
            start_from: String::new(),
            steps: 8_000,
            batch: 32,
            apart: 0.0.into(),
            objective: Objective::Elbo,
            learning_rate: Schedule::cosine(8e-4, 1e-4, 0.02),
            location_charge: 8.0.into(),
            // Nothing or ten times as much make little difference, a hundred times is ruin: guide::decomposition, ablation.
            idle_beta: 0.01.into(),
            resynthesis: 0.0.into(),
            silence: silence(),
            clip: 10.0,
            validate_every: 500,
            validation_scenes: 256,
            evaluation_scenes: 2_000,
            log_every: log_every(),
            keep_last: keep_last(),
            on_nonfinite: OnNonfinite::Stop,
        },
    }
}

/// Digits of three quarters of the size need glimpses of three quarters, lest one draws two digits that are close; and two close digits
/// need close cells, once the KL map has learnt to peak once for each.
fn for_air(config: &mut Config) {
    config.model.entities = 3;
    config.model.decoder.placement = Placement::Glimpse { patch: 28 };
    config.model.selector.radius = Schedule::linear(2.0, 1.0, 0.3, 0.32);
    config.model.latent = growing();
    config.training.steps = 20_000;
    config.training.validate_every = 1_000;
    config.training.validation_scenes = 1_000;
    config.training.evaluation_scenes = 10_000;
}

/// Digits of up to 30 pixels: larger cells, each of which sees 63 pixels, and larger patches. The digits lie upon each other, in nearly half of the
/// scenes closer than 12 pixels, so that cells have to come close too; but not before entities have learnt to draw whole digits. They learn it where
/// digits lie apart, as they do in the first scenes and in half of all, and to tell them from each other where such digits are put upon each other
/// anew. That takes wider layers than the default's. Two digits at least and four at most are trained on; `--entities` finds more.
fn for_survey(config: &mut Config) {
    if let EncoderConfig::Convolutional { layers, .. } = &mut config.model.encoder {
        *layers = [(64, 6, 3), (96, 4, 2), (96, 3, 1), (96, 3, 1), (96, 3, 1), (96, 3, 1), (128, 1, 1)]
            .map(|(channels, kernel, stride)| ConvolutionConfig::new(channels, kernel, stride))
            .to_vec();
    }
    config.data.fresh = true;
    config.model.latent = growing();
    config.model.decoder.placement = Placement::Glimpse { patch: 44 };
    config.model.decoder.trunk = DecoderTrunk::Dense { hidden: vec![1024, 1024], activation: Activation::Relu };
    config.model.selector.radius = Schedule::linear(2.0, 1.0, 0.3, 0.4);
    config.training.apart = Schedule::linear(1.0, 0.5, 0.1, 0.2);
    config.training.resynthesis = Schedule::linear(0.0, 1.0, 0.1, 0.15);
    config.training.silence = 0.05;
    config.training.learning_rate = Schedule::cosine(8e-4, 2e-5, 0.02);
    config.training.steps = 20_000;
    config.training.validate_every = 1_000;
    config.training.evaluation_scenes = 1_000;
}

/// Noise, or a grid of lines behind the digits: they cover a ground, and nothing is said of each pixel's noise. Entities are dearer, and much
/// more of the idle KL keeps them from mending each other; it also takes longer until cells may be close.
fn for_disturbed(config: &mut Config, disturbance: Disturbance) {
    let background = if disturbance.grid_lines > 0.0 { Background::Lines } else { Background::Median };
    // Less strict than the noise is, digits are found late; and without noise, so strict that strokes are worth mending.
    let (deviation, steps) = if disturbance.noise > 0.0 { (0.2, 10_000) } else { (0.3, 6_000) };
    in_colour(config, background, Colours::Uniform, deviation);
    if let Latent::Gaussian { beta, .. } = &mut config.model.latent {
        *beta = 1.0.into();
    }
    if let Schedule::Ramp(ramp) = &mut config.model.selector.radius {
        (ramp.start, ramp.end) = (0.45, 0.5);
    }
    config.training.location_charge = 12.0.into();
    config.training.idle_beta = 0.2.into();
    config.training.steps = steps;
}

/// Colours that cover a ground. A Bernoulli would find two greys nearly alike; a Gaussian's deviation says how strict it is about a shade.
fn in_colour(config: &mut Config, background: Background, colours: Colours, deviation: f64) {
    config.model.compositor = CompositorConfig::Mixture { background, colours };
    config.model.likelihood = Likelihood::Gaussian { deviation };
}

/// Sprites of 25 pixels at most, of which a little that is seen, or a colour a little different from what is behind it, must be worth an
/// entity: hence the small deviation. Two cells of one sprite are told by what they would draw, so that cells may be close from the start,
/// and entities are dearer.
fn for_sprites(config: &mut Config) {
    in_colour(config, Background::Median, Colours::Uniform, 0.1);
    config.data.fresh = true;
    config.model.entities = 5;
    config.model.decoder.placement = Placement::Glimpse { patch: 28 };
    config.model.selector.radius = 1.0.into();
    config.model.selector.overlap = 0.6.into();
    config.training.location_charge = 12.0.into();
    config.training.idle_beta = 0.05.into();
    config.training.steps = 10_000;
}

/// Pieces of 20 pixels at most, often closer than cells may be before the KL map has learnt to peak once for each. What an entity learns to
/// draw of two close pieces, it unlearns where they are put together anew.
fn for_tetrominoes(config: &mut Config) {
    in_colour(config, Background::Median, Colours::PerPixel, 0.3);
    config.data.fresh = true;
    config.model.entities = 3;
    config.model.latent = growing();
    config.model.decoder.placement = Placement::Glimpse { patch: 24 };
    config.model.selector.radius = Schedule::linear(2.0, 1.0, 0.3, 0.4);
    config.training.resynthesis = Schedule::linear(0.0, 1.0, 0.2, 0.3);
    config.training.steps = 10_000;
    config.training.validate_every = 1_000;
}

/// The default's latent with a β that grows: entities learn to draw before what they say costs its full price.
fn growing() -> Latent {
    Latent::Gaussian { dimensions: 16, beta: Schedule::linear(0.4, 1.0, 0.1, 0.8) }
}

fn data(scenes: &str, fresh: bool) -> DataConfig {
    DataConfig {
        scenes: scenes.into(),
        digits: "builtin".into(),
        fresh,
        binarisation: Binarisation::GreyScale,
        size: 0,
        objects: 0,
        noise: 0.0,
        grid_lines: 0.0,
        grid_period: grid_period(),
    }
}
