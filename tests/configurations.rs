//! Every configuration that can be written, with numbers from nothing to the absurd, is either refused with the name of a key, or
//! makes a model that trains a step, is saved, and is loaded and used again.

use candle_core::{DType, Device, Tensor};
use multi_entity_vae::config::*;
use multi_entity_vae::evaluate::Decomposition;
use multi_entity_vae::layers::{Activation, Extent};
use multi_entity_vae::model::{Model, Variables};
use multi_entity_vae::random;
use multi_entity_vae::run::{Checkpoint, CheckpointError, LoadedRun, Progress};
use multi_entity_vae::scene::{Recipe, SceneShape};
use multi_entity_vae::train::{Ramp, Schedule, Shape, TrainError, Trainer};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use proptest::{collection::vec, sample::select};
use std::fmt::Debug;

/// One value in so many is absurd.
const COMMON: u32 = 60;

/// Mostly of the usual values, now and then one of the absurd.
fn mostly<T: Clone + Debug + 'static>(
    usual: impl Strategy<Value = T> + 'static,
    absurd: &'static [T],
) -> BoxedStrategy<T> {
    prop_oneof![COMMON => usual, 1 => select(absurd)].boxed()
}

/// A number of things.
fn size() -> BoxedStrategy<usize> {
    mostly(1..4usize, &[0, 63, 64, 65, 4096, 65_536, 65_537, 1 << 32, i64::MAX as usize, usize::MAX])
}

fn count() -> BoxedStrategy<u64> {
    mostly(1..9u64, &[0, 1 << 32, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX])
}

const ABSURD: [f64; 10] =
    [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -0.0, f64::MAX, f64::MIN_POSITIVE, 1e30, 1e-300, 1e-30];

fn number() -> BoxedStrategy<f64> {
    mostly(0.0..2.0f64, &ABSURD)
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let shape = select(vec![Shape::Linear, Shape::Cosine, Shape::Exponential, Shape::Tripling]);
    let ramp = (number(), number(), mostly(0.0..0.5, &ABSURD), mostly(0.5..1.0, &ABSURD), shape, number()).prop_map(
        |(from, to, start, end, shape, warmup)| {
            Schedule::Ramp(Ramp { from, to, start, end, shape, warmup: warmup / 2.0 })
        },
    );
    prop_oneof![number().prop_map(Schedule::from), ramp]
}

fn activation() -> impl Strategy<Value = Activation> {
    select(Activation::ALL.to_vec())
}

fn widths() -> BoxedStrategy<Vec<usize>> {
    prop_oneof![COMMON => vec(size(), 0..3), 1 => Just(vec![1; 64]), 1 => Just(vec![1; 65])].boxed()
}

fn convolutions() -> BoxedStrategy<Vec<ConvolutionConfig>> {
    let layer = (size(), size(), size(), prop::bool::weighted(0.2))
        .prop_map(|(channels, kernel, stride, up)| ConvolutionConfig { channels, kernel, stride, up });
    let deep = |up: bool| vec![ConvolutionConfig { channels: 1, kernel: 1, stride: 64, up }; 64];
    prop_oneof![COMMON => vec(layer, 0..3), 1 => Just(deep(true)), 1 => Just(deep(false))].boxed()
}

fn encoder() -> impl Strategy<Value = EncoderConfig> {
    let posteriors = select(vec![Posteriors::PerCell, Posteriors::Whole]);
    prop_oneof![
        (widths(), activation()).prop_map(|(hidden, activation)| EncoderConfig::Dense { hidden, activation }),
        (convolutions(), activation(), posteriors, any::<bool>()).prop_map(
            |(layers, activation, posteriors, coordinates)| {
                EncoderConfig::Convolutional { layers, activation, posteriors, coordinates }
            }
        ),
    ]
}

fn latent() -> impl Strategy<Value = Latent> {
    prop_oneof![
        (size(), activation()).prop_map(|(dimensions, activation)| Latent::Point { dimensions, activation }),
        (size(), schedule()).prop_map(|(dimensions, beta)| Latent::Gaussian { dimensions, beta }),
    ]
}

fn decoder() -> impl Strategy<Value = DecoderConfig> {
    let placement = prop_oneof![Just(Placement::Canvas), size().prop_map(|patch| Placement::Glimpse { patch })];
    let trunk = prop_oneof![
        (widths(), activation()).prop_map(|(hidden, activation)| DecoderTrunk::Dense { hidden, activation }),
        (widths(), size(), convolutions(), size(), size(), activation()).prop_map(
            |(hidden, base, layers, kernel, stride, activation)| {
                DecoderTrunk::Convolutional { hidden, base, layers, kernel, stride, activation }
            }
        ),
    ];
    (placement, trunk, any::<bool>()).prop_map(|(placement, trunk, coordinates)| DecoderConfig {
        placement,
        trunk,
        coordinates,
    })
}

fn model() -> impl Strategy<Value = ModelConfig> {
    let overlap = prop_oneof![6 => Just(1.0.into()), 2 => Just(0.5.into()), 1 => schedule()];
    let selector = (select(Rank::ALL.to_vec()), schedule(), overlap, mostly(Just(0.0), &[0.5, 1.0, -0.5, f64::NAN]))
        .prop_map(|(rank_by, radius, overlap, warm_start)| SelectorConfig { rank_by, radius, overlap, warm_start });
    let compositor = prop_oneof![
        select(CompositorConfig::ALL.to_vec()),
        size().prop_map(|features| CompositorConfig::Render { features })
    ];
    let likelihood =
        prop_oneof![Just(Likelihood::Bernoulli), number().prop_map(|deviation| Likelihood::Gaussian { deviation })];
    // One entity is possible beside every encoder.
    let entities = prop_oneof![3 => Just(1), 2 => size()];
    (encoder(), latent(), selector, entities, decoder(), compositor, likelihood).prop_map(
        |(encoder, latent, selector, entities, decoder, compositor, likelihood)| ModelConfig {
            encoder,
            latent,
            selector,
            entities,
            decoder,
            compositor,
            likelihood,
        },
    )
}

fn configuration() -> impl Strategy<Value = Config> {
    let binarisation =
        select(vec![Binarisation::GreyScale, Binarisation::Threshold, Binarisation::Dynamic, Binarisation::Static]);
    let part = || mostly(Just(0.0), &[0.3, 1.0, -0.1, 1.1, f64::NAN]);
    let disturbance = (part(), part(), mostly(Just(7usize), &[0, 1, 2, 1024, 1025]));
    let frame = (mostly(Just(0usize), &[1, 28, 64, usize::MAX]), mostly(Just(0usize), &[1, 6, usize::MAX]));
    let data = ("[ -~]{0,9}", "[ -~é]{0,9}", any::<bool>(), binarisation, frame, disturbance).prop_map(
        |(scenes, digits, fresh, binarisation, (size, objects), (noise, grid_lines, grid_period))| DataConfig {
            scenes,
            digits,
            fresh,
            binarisation,
            size,
            objects,
            noise,
            grid_lines,
            grid_period,
        },
    );
    let resynthesis = prop_oneof![2 => Just(0.0.into()), 1 => schedule()];
    // No recipe of those that are drawn here covers.
    let apart = prop_oneof![COMMON => Just(0.0.into()), 1 => schedule()];
    let schedules = (schedule(), schedule(), schedule(), resynthesis, apart);
    let intervals = (count(), count(), count(), count(), size());
    let on_nonfinite = select(vec![OnNonfinite::Stop, OnNonfinite::Skip]);
    let training = (count(), count(), size(), schedules, (number(), number()), intervals, on_nonfinite).prop_map(
        |(
            seed,
            steps,
            batch,
            (learning_rate, location_charge, idle_beta, resynthesis, apart),
            (clip, silence),
            intervals,
            on_nonfinite,
        )| {
            let (validate_every, validation_scenes, evaluation_scenes, log_every, keep_last) = intervals;
            TrainingConfig {
                seed,
                start_from: String::new(),
                steps,
                batch,
                learning_rate,
                location_charge,
                idle_beta,
                resynthesis,
                apart,
                silence,
                clip,
                validate_every,
                validation_scenes,
                evaluation_scenes,
                log_every,
                keep_last,
                on_nonfinite,
                objective: Objective::Elbo,
            }
        },
    );
    let few = || mostly(1.0..6.0f64, &ABSURD);
    let samples = move || {
        let ramp = (few(), few()).prop_map(|(from, to)| Schedule::linear(from, to, 0.2, 0.7));
        prop_oneof![few().prop_map(Schedule::from), ramp]
    };
    let importance = || {
        (samples(), mostly(0..4usize, &[5, i64::MAX as usize, usize::MAX]))
            .prop_map(|(samples, gradient_samples)| ImportanceSamples { samples, gradient_samples })
    };
    let weighted = prop_oneof![importance().prop_map(Objective::Iwae), importance().prop_map(Objective::Dreg)];
    // Importance weights leave no room for a β and charges: mostly there are none beside them.
    let objective = prop::option::weighted(0.3, (weighted, prop::bool::weighted(0.9)));
    (data, model(), training, objective).prop_map(|(data, mut model, mut training, objective)| {
        if let Some((objective, alone)) = objective {
            training.objective = objective;
            if alone {
                (training.location_charge, training.idle_beta) = (0.0.into(), 0.0.into());
                training.resynthesis = 0.0.into();
                if let Latent::Gaussian { beta, .. } = &mut model.latent {
                    *beta = 1.0.into();
                }
            }
        }
        Config { data, model, training }
    })
}

fn image() -> impl Strategy<Value = Extent> {
    let side = || mostly(1..10usize, &[0, 61, 4096, 4097, 1 << 40, usize::MAX]);
    (side(), side(), mostly(1..4usize, &[0, 4, 5, usize::MAX])).prop_map(|(h, w, c)| Extent::new(h, w, c))
}

/// The key at the head of a message is one that the configuration has.
fn names_a_key(config: &Config, message: &str) -> bool {
    let tree = serde_json::to_value(config).expect("numbers and texts");
    let key = message.split(':').next().unwrap_or_default().replace('[', ".").replace(']', "");
    let found = key.split('.').try_fold(&tree, |tree, part| match part.parse::<usize>() {
        Ok(index) => tree.get(index),
        Err(_) => tree.get(part),
    });
    // The last convolution of a decoder is written as two keys of its own.
    let own =
        message.starts_with("model.decoder.trunk.kernel: ") || message.starts_with("model.decoder.trunk.stride: ");
    found.is_some() || own
}

/// Trains a step, saves, loads and takes an image apart. Numbers that overflow must be told.
fn works(config: &Config, image: Extent) -> Result<(), String> {
    let device = Device::Cpu;
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let mut trainer = Trainer::new(config.clone(), image, &device).map_err(|e| said(&e))?;
    assert_eq!(trainer.variables().count(), config.model.parameters(image), "{:?}", config.model);
    let shape = (config.training.batch, image.height, image.width, image.channels);
    let mut pixels = vec![0f32; shape.0 * image.len()];
    random::normals(&mut random::stream(0, "pixels", 0), &mut pixels);
    pixels.iter_mut().for_each(|p| *p = p.abs().min(1.0));
    let images = Tensor::from_vec(pixels, shape, &device).map_err(|e| said(&e))?;
    match trainer.step(&images) {
        Ok(_) => {}
        Err(TrainError::NonFinite { .. }) => return Ok(()),
        Err(e) => return Err(said(&e)),
    }
    let folder = tempfile::tempdir().map_err(|e| said(&e))?;
    let path = folder.path().join("last.safetensors");
    let progress = Progress { step: trainer.steps(), ..Progress::default() };
    match Checkpoint::save(&path, &trainer, &progress) {
        Ok(()) => {}
        // A step of an absurd size: it is told, and nothing is saved.
        Err(CheckpointError::NonFinite { .. }) if !path.exists() => return Ok(()),
        Err(e) => return Err(said(&e)),
    }
    let checkpoint = Checkpoint::load(&path).map_err(|e| said(&e))?;
    assert_eq!(&checkpoint.config, config);
    let run = LoadedRun::from_checkpoint(&checkpoint, &device).map_err(|e: CheckpointError| said(&e))?;
    let first = images.narrow(0, 0, 1).map_err(|e| said(&e))?;
    let parts = Decomposition::of(&run.model, &first, &trainer.selection()).map_err(|e| said(&e))?;
    assert_eq!(parts.present[0].len(), config.model.entities);
    Ok(())
}

/// Numbers that a step keeps.
fn numbers(config: &Config, image: Extent) -> usize {
    let images = config.training.batch.saturating_mul(config.training.objective.most_samples());
    config.model.activations(image).saturating_mul(images)
}

proptest! {
    // The same cases each time, so that a change alone can fail; other ones are drawn by another seed.
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2018),
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_configuration_is_refused_by_its_key_or_works((config, image) in (configuration(), image())) {
        match config.validate(image) {
            Err(e) => prop_assert!(names_a_key(&config, &e.to_string()), "{e}"),
            // What is allowed can still be more than a test has time for.
            Ok(()) if config.model.parameters(image) > 1 << 18 => {}
            Ok(()) if numbers(&config, image) > 1 << 21 => {}
            Ok(()) => {
                let saved = Config::from_toml("its own", &config.to_toml());
                prop_assert_eq!(saved.ok(), Some(config.clone()));
                works(&config, image).map_err(TestCaseError::fail)?;
            }
        }
    }
}

/// Found by the above: cells of one and a half pixels, of which the last pixels had none.
#[test]
fn cells_that_are_no_whole_number_of_pixels_are_refused() {
    let strides = |layers: &str| {
        let settings = ["model.selector.rank_by=brightness".to_string(), format!("model.encoder.layers=[{layers}]")];
        let config = Config::resolve(Preset::MultiEntity, None, &settings).unwrap();
        config.validate(Extent::new(12, 12, 1)).map_err(|e| e.to_string())
    };
    let (down, up) = ("{channels=1,kernel=1,stride=3}", "{channels=1,kernel=1,stride=2,up=true}");
    let refusal = strides(&format!("{down},{up}")).unwrap_err();
    assert!(refusal.starts_with("model.encoder.layers: strides of 3 down and 2 up"), "{refusal}");
    assert!(strides(up).is_err());
    assert_eq!(strides(&format!("{{channels=1,kernel=1,stride=4}},{up}")), Ok(()));
}

/// A number is one key, the table of a schedule several: layers may replace either by the other.
#[test]
fn a_number_in_a_file_and_the_schedule_over_it_replace_one_another() {
    let resolve = |file: &str, settings: &[&str]| {
        let settings: Vec<_> = settings.iter().map(|setting| setting.to_string()).collect();
        Config::resolve(Preset::Vae, Some(("run.toml", file)), &settings).map_err(|e| e.to_string())
    };
    let rate = |file: &str, settings: &[&str]| resolve(file, settings).map(|config| config.training.learning_rate);
    let ramp = Schedule::Ramp(Ramp { from: 2e-3, to: 1e-4, start: 0.0, end: 1.0, shape: Shape::Cosine, warmup: 0.0 });
    let (number, table) = ("learning_rate = 1e-3", r#"learning_rate = { from = 2e-3, to = 1e-4, shape = "cosine" }"#);
    let in_file = |line: &str| format!("[training]\n{line}\n");
    let as_setting = |line: &str| format!("training.{line}");
    assert_eq!(rate(&in_file(number), &[&as_setting(table)]), Ok(ramp));
    assert_eq!(rate(&in_file(table), &[&as_setting(number)]), Ok(1e-3.into()));
    assert_eq!(rate("", &[&as_setting(number), &as_setting(table)]), Ok(ramp));
    // Of a part of a table there must be the rest.
    assert_eq!(rate(&in_file(table), &["training.learning_rate.to=1e-5"]), Ok(ramp_to(ramp, 1e-5)));
    let half = rate(&in_file(number), &["training.learning_rate.to=1e-5"]).unwrap_err();
    assert!(half.contains("training.learning_rate.to=1e-5"), "{half}");
    // Neither form may hide a key that says nothing.
    for (file, setting) in [(number, r#"learning_rate={from=1,to=2,shpae="cosine"}"#), (table, "learning_rat=1")] {
        let refusal = rate(&in_file(file), &[&as_setting(setting)]).unwrap_err();
        assert!(refusal.contains("learning_rat"), "{refusal}");
    }
}

fn resolve(preset: Preset, settings: &[&str]) -> Result<Config, String> {
    let settings: Vec<_> = settings.iter().map(|setting| setting.to_string()).collect();
    Config::resolve(preset, None, &settings).map_err(|e| e.to_string())
}

/// What a part is may be written before or after what belongs to it.
#[test]
fn the_order_of_a_kind_and_its_keys_makes_no_difference() {
    let (kind, dimensions) = ("model.latent.kind=point", "model.latent.dimensions=5");
    let point = resolve(Preset::Vae, &[kind, dimensions]).unwrap();
    assert_eq!(point.model.latent.dimensions(), 5);
    assert_eq!(resolve(Preset::Vae, &[dimensions, kind]).unwrap(), point);
    // Back to what it was, nothing is lost.
    let there_and_back = resolve(Preset::Vae, &[kind, "model.latent.kind=gaussian"]).unwrap();
    assert_eq!(there_and_back, Preset::Vae.config());
    let refusal = resolve(Preset::Vae, &["model.latent.beta=2", kind]).unwrap_err();
    assert!(refusal.contains("model.latent.beta") && refusal.contains("does not apply"), "{refusal}");
    // A schedule has its own defaults, not those of the one it replaces.
    let rate = resolve(Preset::MultiEntity, &["training.learning_rate={from=1e-3,to=1e-5}"]).unwrap();
    let linear = Ramp { from: 1e-3, to: 1e-5, start: 0.0, end: 1.0, shape: Shape::Linear, warmup: 0.0 };
    assert_eq!(rate.training.learning_rate, Schedule::Ramp(linear));
    // Keys that only the recipe's own configuration has.
    for setting in
        ["model.likelihood.deviation=0.2", "model.compositor.background=learned", "model.compositor.colours=per-pixel"]
    {
        resolve(Preset::MultiEntity, &[setting]).unwrap_err();
        resolve(Preset::MultiEntity, &["data.scenes=sprites", setting]).unwrap();
    }
}

/// What lies behind the entities of a configuration, if they cover it.
fn background_of(settings: &[&str]) -> Option<Background> {
    match resolve(Preset::MultiEntity, settings).unwrap().model.compositor {
        CompositorConfig::Mixture { background, .. } => Some(background),
        _ => None,
    }
}

#[test]
fn easier_scenes_are_a_choice_where_objects_cover_one_another() {
    let of = |scenes: &str, apart: &str| {
        let settings = [format!("data.scenes={scenes}"), format!("training.apart={apart}")];
        let config = Config::resolve(Preset::MultiEntity, None, &settings).unwrap();
        let recipe: Recipe = scenes.parse().unwrap();
        let SceneShape { height, width, channels } = recipe.shape();
        config.validate(Extent::new(height, width, channels)).map_err(|e| e.to_string())
    };
    for recipe in Recipe::ALL {
        let (name, easing) = (recipe.name(), of(recipe.name(), "{from=1,to=0.5,end=0.5}"));
        assert_eq!(of(name, "0"), Ok(()));
        match recipe {
            Recipe::Survey | Recipe::Sprites => assert_eq!(easing, Ok(())),
            _ => assert!(easing.unwrap_err().contains("survey and sprites"), "{name}"),
        }
    }
    for wrong in ["1.5", "-0.5", "nan", "{from=2,to=0}"] {
        let refusal = of("survey", wrong).unwrap_err();
        assert!(refusal.starts_with("training.apart: "), "{refusal}");
    }
    // Weights that go on with other scenes do not take the ease of their own along.
    let survey = Config::resolve(Preset::MultiEntity, None, &["data.scenes=survey".into()]).unwrap();
    assert_ne!(survey.training.apart, 0.0.into());
    let digits = survey.with(None, &["data.scenes=digits".into()]).unwrap();
    assert_eq!(digits.training.apart, 0.0.into());
    assert_eq!(survey.with(None, &[]).unwrap(), survey);
}

#[test]
fn disturbed_scenes_have_a_recipe_of_their_own() {
    let (noise, lines) = ("data.noise=0.2", "data.grid_lines=0.3");
    for scenes in ["data.scenes=air", "data.scenes=digits"] {
        assert_eq!(background_of(&[scenes, "data.noise=0", "data.grid_period=5"]), None);
        assert_eq!(background_of(&[noise, scenes]), Some(Background::Median));
        assert_eq!(background_of(&[scenes, "data.noise=1"]), Some(Background::Median), "a whole number");
        assert_eq!(background_of(&[scenes, noise, lines]), Some(Background::Lines));
        assert_eq!(background_of(&[scenes, noise, "data.noise=0.0"]), None, "the last word counts");
        assert_eq!(background_of(&[scenes, noise, "model.compositor.kind=union"]), None);
    }
    let air = resolve(Preset::MultiEntity, &["data.scenes=air", noise]).unwrap();
    let CompositorConfig::Mixture { colours, .. } = air.model.compositor else { panic!("no mixture") };
    assert_eq!((colours, air.model.likelihood), (Colours::Uniform, Likelihood::Gaussian { deviation: 0.2 }));
    assert_eq!(
        (air.training.idle_beta, air.training.location_charge, air.data.fresh),
        (0.2.into(), 12.0.into(), false)
    );
    let radius = Ramp { from: 2.0, to: 1.0, start: 0.45, end: 0.5, shape: Shape::Linear, warmup: 0.0 };
    assert_eq!(air.model.selector.radius, Schedule::Ramp(radius));
    let steps = |settings: &[&str]| resolve(Preset::MultiEntity, settings).unwrap().training.steps;
    assert_eq!((steps(&[noise]), steps(&[lines]), steps(&[lines, noise])), (10_000, 6_000, 10_000));
    let digits = resolve(Preset::MultiEntity, &[lines]).unwrap();
    assert_eq!((digits.model.selector.radius, digits.data.fresh), (2.0.into(), true));
    // What is black or white has a probability, and not a density.
    assert_eq!(background_of(&[noise, "data.binarisation=dynamic"]), None);
    assert_eq!(background_of(&["data.scenes=survey", noise]), None);
    assert_eq!(background_of(&["data.scenes=sprites", lines]), Some(Background::Median));
    assert_eq!(resolve(Preset::Vae, &[noise]).unwrap().model, Preset::Vae.config().model);
}

fn ramp_to(schedule: Schedule, to: f64) -> Schedule {
    match schedule {
        Schedule::Ramp(ramp) => Schedule::Ramp(Ramp { to, ..ramp }),
        Schedule::Constant(_) => schedule,
    }
}

#[test]
fn a_configuration_says_how_many_parameters_its_model_has() {
    let image = Extent::new(29, 27, 3);
    let counted = |model: &ModelConfig| {
        let variables = Variables::new(0);
        Model::new(model, image, variables.builder(DType::F32, &Device::Cpu)).expect("a valid model");
        variables.count()
    };
    for preset in Preset::ALL {
        for compositor in CompositorConfig::ALL {
            let mut model = ModelConfig { compositor, ..preset.config().model };
            assert_eq!(model.parameters(image), counted(&model), "{preset:?} {compositor:?}");
            model.decoder.coordinates = true;
            model.decoder.trunk = DecoderTrunk::Convolutional {
                hidden: vec![7],
                base: 5,
                layers: vec![ConvolutionConfig::up(3, 3, 2)],
                kernel: 5,
                stride: 3,
                activation: Activation::Relu,
            };
            let whole = compositor == CompositorConfig::Max;
            model.encoder = EncoderConfig::Convolutional {
                layers: vec![ConvolutionConfig::new(4, 3, 2), ConvolutionConfig::up(3, 2, 2)],
                activation: Activation::Relu,
                posteriors: if whole { Posteriors::Whole } else { Posteriors::PerCell },
                coordinates: true,
            };
            assert_eq!(model.parameters(image), counted(&model), "{preset:?} {compositor:?}, convolutional");
        }
    }
}
