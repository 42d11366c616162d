//! Training: the optimiser, repeatability, resuming, and that it learns.

use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};
use candle_nn::{AdamW, Init, Optimizer, ParamsAdamW};
use multi_entity_vae::config::{
    Config, ConvolutionConfig, DecoderConfig, DecoderTrunk, EncoderConfig, Latent, Likelihood, OnNonfinite, Placement,
    Posteriors, Preset, Rank,
};
use multi_entity_vae::layers::{Activation, Extent};
use multi_entity_vae::model::{Model, Variables};
use multi_entity_vae::random;
use multi_entity_vae::scene::{Batches, DigitSet, SceneSource, Split};
use multi_entity_vae::train::{
    Adam, Flow, MOST_SKIPS_IN_A_ROW, Ramp, Schedule, Shape, StepReport, Steps, TrainError, Trainer, train,
};
use std::collections::HashMap;
use std::sync::Arc;

const CPU: Device = Device::Cpu;

/// Two variables in double precision, the second longer than what the optimiser gives to one thread.
fn two_variables() -> Result<Variables> {
    let variables = Variables::new(7);
    let builder = variables.builder(DType::F64, &CPU);
    builder.get_with_hints((3, 2), "a", Init::Randn { mean: 0.0, stdev: 1.0 })?;
    builder.get_with_hints(20_000, "b", Init::Uniform { lo: -1.0, up: 1.0 })?;
    Ok(variables)
}

/// Σ (w − 0.3)⁴ + sin 3w: gradients of both signs and very different sizes.
fn bumpy(vars: &[(String, Var)]) -> Result<Tensor> {
    let terms =
        vars.iter().map(|(_, w)| ((w.as_tensor() - 0.3)?.powf(4.0)? + (w.as_tensor() * 3.0)?.sin()?)?.sum_all());
    terms.collect::<Result<Vec<_>>>()?.into_iter().try_fold(Tensor::zeros((), DType::F64, &CPU)?, |sum, t| sum + t)
}

fn flat(variables: &Variables) -> Result<Vec<f64>> {
    let parts = variables.all().into_iter().map(|(_, v)| v.flatten_all()?.to_vec1::<f64>());
    Ok(parts.collect::<Result<Vec<_>>>()?.concat())
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn adam_is_the_published_algorithm() -> Result<()> {
    let variables = two_variables()?;
    let mut adam = Adam::new(&variables)?;
    let mut w = flat(&variables)?;
    let (mut m, mut v) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    for t in 1..=7 {
        let (rate, scale) = (0.02 / f64::from(t), if t % 2 == 0 { 0.25 } else { 1.0 });
        adam.step(&bumpy(&variables.all())?.backward()?, rate, scale)?;
        for ((w, m), v) in w.iter_mut().zip(&mut m).zip(&mut v) {
            let gradient = scale * (4.0 * (*w - 0.3).powi(3) + 3.0 * (3.0 * *w).cos());
            *m = 0.9 * *m + 0.1 * gradient;
            *v = 0.999 * *v + 0.001 * gradient * gradient;
            let (mean, square) = (*m / (1.0 - 0.9f64.powi(t)), *v / (1.0 - 0.999f64.powi(t)));
            *w -= rate * mean / (square.sqrt() + 1e-8);
        }
        let error = worst(&flat(&variables)?, &w);
        assert!(error < 1e-12, "step {t}: {error}");
    }
    Ok(())
}

#[test]
fn adam_is_candles_without_weight_decay() -> Result<()> {
    let (ours, theirs) = (two_variables()?, two_variables()?);
    let mut adam = Adam::new(&ours)?;
    let parameters = ParamsAdamW { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 };
    let mut candles = AdamW::new(theirs.all().into_iter().map(|(_, v)| v).collect(), parameters)?;
    let start = flat(&ours)?;
    for _ in 0..10 {
        adam.step(&bumpy(&ours.all())?.backward()?, 0.01, 1.0)?;
        candles.backward_step(&bumpy(&theirs.all())?)?;
    }
    assert!(worst(&flat(&ours)?, &flat(&theirs)?) < 1e-12);
    assert!(worst(&flat(&ours)?, &start) > 0.05);
    Ok(())
}

#[test]
fn a_variable_without_a_gradient_is_an_error() -> Result<()> {
    let variables = two_variables()?;
    let mut adam = Adam::new(&variables)?;
    let gradients = bumpy(&variables.all()[..1])?.backward()?;
    for error in [adam.gradient_norm(&gradients).map(drop), adam.step(&gradients, 0.1, 1.0)] {
        assert!(error.expect_err("b has no gradient").to_string().contains("\"b\""));
    }
    Ok(())
}

/// A multi-entity model on 64×64 scenes, with every schedule moving, that does twenty steps in no time.
fn tiny() -> Config {
    let mut config = Preset::MultiEntity.config();
    let activation = Activation::Relu;
    let ramp =
        |from: f64, to: f64| Schedule::Ramp(Ramp { from, to, start: 0.0, end: 1.0, shape: Shape::Linear, warmup: 0.0 });
    config.model.encoder = EncoderConfig::Convolutional {
        layers: vec![ConvolutionConfig::new(6, 8, 8), ConvolutionConfig::new(8, 3, 1)],
        activation,
        posteriors: Posteriors::PerCell,
        coordinates: true,
    };
    config.model.latent = Latent::Gaussian { dimensions: 5, beta: ramp(0.2, 1.0) };
    config.model.selector.radius = ramp(2.0, 0.0);
    config.model.entities = 3;
    config.model.decoder = DecoderConfig {
        placement: Placement::Glimpse { patch: 20 },
        trunk: DecoderTrunk::Dense { hidden: vec![16], activation },
        coordinates: false,
    };
    config.training.learning_rate = ramp(4e-3, 1e-3);
    config.training.location_charge = ramp(1.0, 0.0);
    config.training.clip = 50.0;
    config.training.steps = 20;
    config.training.batch = 21;
    config
}

fn scenes(recipe: &str) -> Arc<SceneSource> {
    Arc::new(SceneSource::open(recipe, DigitSet::builtin(), Split::Train, 3).expect("a recipe"))
}

/// A trainer and its stream of images, from some step on.
fn batches(trainer: &Trainer, workers: usize) -> impl FnMut(u64) -> std::result::Result<Tensor, TrainError> + use<> {
    let (batch, seed) = (trainer.config().training.batch, trainer.config().training.seed);
    let fresh = trainer.config().data.fresh;
    let recipe = scenes(&trainer.config().data.scenes);
    let shape = recipe.shape();
    let mut stream = Batches::new(recipe, batch, seed, trainer.steps(), fresh, workers, |_| 0.0).expect("a stream");
    move |step| {
        let images = stream.next().expect("a stream has no end");
        assert_eq!(images.step, step);
        Ok(Tensor::from_vec(images.images, (batch, shape.height, shape.width, shape.channels), &CPU)?)
    }
}

fn extent(config: &Config) -> Extent {
    let shape = scenes(&config.data.scenes).shape();
    Extent::new(shape.height, shape.width, shape.channels)
}

/// Trains up to a step and returns what every step reported.
fn train_to(trainer: &mut Trainer, last: u64, workers: usize) -> std::result::Result<Vec<StepReport>, TrainError> {
    let mut reports = Vec::new();
    let images = batches(trainer, workers);
    train(trainer, images, |_, report| {
        reports.push(*report);
        Ok::<_, TrainError>(if report.step == last { Flow::Stop } else { Flow::Continue })
    })?;
    assert_eq!(trainer.steps(), last);
    Ok(reports)
}

fn bits(variables: &Variables) -> Result<Vec<(String, Vec<u32>)>> {
    let one = |(name, v): (String, Var)| {
        let values = v.flatten_all()?.to_vec1::<f32>()?;
        Ok((name, values.into_iter().map(f32::to_bits).collect()))
    };
    variables.all().into_iter().map(one).collect()
}

fn copies(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<HashMap<String, Tensor>> {
    tensors.into_iter().map(|(name, t)| Ok((name, t.copy()?))).collect()
}

#[test]
fn weights_do_not_depend_on_the_number_of_threads() -> std::result::Result<(), TrainError> {
    let run = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut config = tiny();
            config.training.seed = seed;
            let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
            let reports = train_to(&mut trainer, 20, threads)?;
            Ok::<_, TrainError>((bits(trainer.variables())?, reports))
        })
    };
    let one = run(1, 0)?;
    assert_eq!(one.1.len(), 20);
    for threads in [1, 2, 4] {
        assert!(run(threads, 0)? == one, "{threads} threads give other weights");
    }
    assert!(run(1, 1)?.0 != one.0, "another seed gives the same weights");
    Ok(())
}

#[test]
fn a_resumed_run_gives_the_weights_of_an_uninterrupted_one() -> std::result::Result<(), TrainError> {
    let config = tiny();
    let fresh = || Trainer::new(config.clone(), extent(&config), &CPU);
    let mut whole = fresh()?;
    train_to(&mut whole, 20, 1)?;

    let mut first = fresh()?;
    train_to(&mut first, 10, 1)?;
    let weights = copies(first.variables().all().into_iter().map(|(name, v)| (name, v.as_tensor().clone())))?;
    let state = copies(first.adam().state())?;
    assert!(bits(first.variables())? != bits(whole.variables())?);

    let resume = |state: &HashMap<String, Tensor>, step: u64| {
        let mut second = fresh()?;
        second.restore(&weights, state, Steps::new(step))?;
        assert_eq!((second.steps(), bits(second.variables())?), (step, bits(first.variables())?));
        Ok::<_, TrainError>(second)
    };
    let mut second = resume(&state, 10)?;
    train_to(&mut second, 20, 2)?;
    assert!(bits(second.variables())? == bits(whole.variables())?, "a resumed run differs");

    // Both the optimiser's moments and the step count are part of it.
    let zeros = state.iter().map(|(name, t)| Ok((name.clone(), t.zeros_like()?))).collect::<Result<_>>()?;
    let mut without_moments = resume(&zeros, 10)?;
    train_to(&mut without_moments, 20, 1)?;
    assert!(bits(without_moments.variables())? != bits(whole.variables())?);
    let mut at_another_step = resume(&state, 9)?;
    train_to(&mut at_another_step, 19, 1)?;
    assert!(bits(at_another_step.variables())? != bits(whole.variables())?);
    Ok(())
}

#[test]
fn restoring_refuses_what_does_not_fit() -> std::result::Result<(), TrainError> {
    let config = tiny();
    let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
    let weights = copies(trainer.variables().all().into_iter().map(|(name, v)| (name, v.as_tensor().clone())))?;
    let state = copies(trainer.adam().state())?;
    let before = bits(trainer.variables())?;
    let name = "decoder.0.weight";
    let moved: HashMap<_, _> = weights.iter().map(|(n, t)| Ok((n.clone(), (t + 1.0)?))).collect::<Result<_>>()?;

    let mut missing = moved.clone();
    missing.remove(name);
    let mut foreign = moved.clone();
    foreign.insert("decoder.9.weight".into(), moved[name].clone());
    let mut misshapen = moved.clone();
    misshapen.insert(name.into(), moved[name].t()?);
    for (wrong, mention) in [(missing, name), (foreign, "decoder.9.weight"), (misshapen, name)] {
        let error = trainer.restore(&wrong, &state, Steps::new(5)).expect_err("weights that do not fit").to_string();
        assert!(error.contains(mention), "{error}");
        assert!(bits(trainer.variables())? == before);
        assert_eq!(trainer.steps(), 0);
    }
    let mut incomplete = state.clone();
    incomplete.remove(&format!("square.{name}"));
    let error =
        trainer.restore(&weights, &incomplete, Steps::new(5)).expect_err("a state that does not fit").to_string();
    assert!(error.contains(name), "{error}");
    Ok(())
}

#[test]
fn what_is_not_finite_stops_training_by_name() -> std::result::Result<(), TrainError> {
    let config = tiny();
    let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
    let mut good = batches(&trainer, 1);
    for step in 0..3 {
        trainer.step(&good(step)?)?;
    }
    let images = good(3)?;
    let before = bits(trainer.variables())?;
    let mut pixels = images.flatten_all()?.to_vec1::<f32>()?;
    pixels[1234] = f32::NAN;
    let error = trainer.step(&Tensor::from_vec(pixels, images.shape(), &CPU)?).expect_err("an image with a NaN");
    let TrainError::NonFinite { step, term, value } = error else { panic!("{error}") };
    assert_eq!(step, 4);
    assert!(value.is_nan());
    assert_eq!(term, "a pixel of the batch");
    assert!(bits(trainer.variables())? == before, "the weights have changed");
    assert_eq!(trainer.steps(), 3);
    trainer.step(&images)?;

    // A mean whose square overflows spoils the KL alone.
    let (_, bias) = trainer.variables().all().into_iter().find(|(name, _)| name == "encoder.2.bias").expect("a head");
    let mut values = bias.to_vec1::<f32>()?;
    values[0] = 1e25;
    bias.set(&Tensor::from_vec(values, bias.shape(), &CPU)?)?;
    let error = trainer.step(&images).expect_err("a KL that overflows");
    let message = error.to_string();
    let TrainError::NonFinite { step: 5, term, .. } = error else { panic!("{message}") };
    // The sum is never finite when a term is not: naming it would say nothing.
    assert_eq!(term, "the KL");
    assert!(message.contains("step 5") && message.contains("the KL"), "{message}");
    Ok(())
}

/// Sets one number of a variable.
fn spoil(trainer: &Trainer, name: &str, value: f32) -> Result<()> {
    let (_, variable) = trainer.variables().all().into_iter().find(|(n, _)| n == name).expect("a variable");
    let mut values = variable.flatten_all()?.to_vec1::<f32>()?;
    values[0] = value;
    variable.set(&Tensor::from_vec(values, variable.shape(), &CPU)?)
}

#[test]
fn a_gradient_and_a_weight_that_are_not_finite_are_named() -> std::result::Result<(), TrainError> {
    let config = tiny();
    let named = |name: &str, value: f32| {
        let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
        let images = batches(&trainer, 1)(0)?;
        spoil(&trainer, name, value)?;
        let before = bits(trainer.variables())?;
        let error = trainer.step(&images).expect_err("not finite");
        assert!(bits(trainer.variables())? == before, "the weights have changed");
        Ok::<_, TrainError>(error.to_string())
    };
    for value in [f32::NAN, f32::INFINITY] {
        let message = named("decoder.1.weight", value)?;
        assert!(message.starts_with("step 1: the weight decoder.1.weight is "), "{message}");
    }
    // A loss that is still a number, and a gradient that is not: a huge weight behind a unit that is at work.
    let message = named("decoder.1.weight", 1e30)?;
    assert!(message.starts_with("step 1: the "), "{message}");
    Ok(())
}

#[test]
fn updates_of_steps_that_are_not_finite_can_be_left_out() -> std::result::Result<(), TrainError> {
    let mut config = tiny();
    config.training.on_nonfinite = OnNonfinite::Skip;
    let fresh = || Trainer::new(config.clone(), extent(&config), &CPU);
    let bad = Tensor::full(f32::NAN, (21, 64, 64, 1), &CPU)?;
    let run = |trainer: &mut Trainer, steps: std::ops::Range<u64>| {
        let mut good = batches(trainer, 1);
        for step in steps {
            let images = good(step)?;
            let before = bits(trainer.variables())?;
            let spoilt = [3, 4, 8].contains(&step);
            let report = trainer.step(if spoilt { &bad } else { &images })?;
            assert_eq!(bits(trainer.variables())? == before, spoilt, "step {step}");
            assert_eq!((report.step, report.loss.is_finite()), (step + 1, !spoilt));
            assert_eq!(report.skipped, trainer.all_steps().skipped);
        }
        Ok::<_, TrainError>(())
    };
    let mut whole = fresh()?;
    run(&mut whole, 0..12)?;
    assert_eq!(whole.all_steps(), Steps { done: 12, skipped: 3, in_a_row: 0 });

    // Resumed in the middle of two such steps, it ends the same: the optimiser counts updates and not steps.
    let mut first = fresh()?;
    run(&mut first, 0..4)?;
    assert_eq!(first.all_steps(), Steps { done: 4, skipped: 1, in_a_row: 1 });
    let weights = copies(first.variables().all().into_iter().map(|(name, v)| (name, v.as_tensor().clone())))?;
    let state = copies(first.adam().state())?;
    let mut second = fresh()?;
    second.restore(&weights, &state, first.all_steps())?;
    run(&mut second, 4..12)?;
    assert!(bits(second.variables())? == bits(whole.variables())?);
    assert_eq!(second.all_steps(), whole.all_steps());

    // Nothing is learnt where every update is left out: so many in a row, also over a break, are the end.
    let mut lost = fresh()?;
    lost.restore(&weights, &state, first.all_steps())?;
    for _ in 0..MOST_SKIPS_IN_A_ROW - 2 {
        lost.step(&bad)?;
    }
    let error = lost.step(&bad).expect_err("too many").to_string();
    assert!(error.starts_with("step 13: a pixel of the batch is NaN") && error.contains("in a row"), "{error}");

    // A weight that is not finite cannot be mended by leaving out updates.
    spoil(&whole, "decoder.0.weight", f32::NAN)?;
    let error = whole.step(&batches(&fresh()?, 1)(0)?).expect_err("a weight").to_string();
    assert!(error.starts_with("step 13: the weight decoder.0.weight is NaN"), "{error}");
    Ok(())
}

/// 12×12 images and a model that does a thousand steps of them in a moment.
fn smallest(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = tiny();
    config.model.encoder = EncoderConfig::Convolutional {
        layers: vec![ConvolutionConfig::new(4, 4, 4)],
        activation: Activation::Relu,
        posteriors: Posteriors::PerCell,
        coordinates: false,
    };
    config.model.latent = Latent::Gaussian { dimensions: 2, beta: 1.0.into() };
    config.model.entities = 2;
    config.model.decoder.placement = Placement::Glimpse { patch: 8 };
    config.training.learning_rate = 1e-3.into();
    config.training.steps = 1000;
    config.training.batch = 3;
    change(&mut config);
    config
}

/// A thousand steps on what `pixel` paints (of step, image and place); the last loss, or why training stopped.
fn thousand_steps(config: &Config, pixel: impl Fn(u64, usize, usize) -> f32) -> std::result::Result<f64, TrainError> {
    let mut trainer = Trainer::new(config.clone(), Extent::new(12, 12, 1), &CPU)?;
    let batch = config.training.batch;
    let mut last = f64::NAN;
    let images = |step| {
        let pixels: Vec<f32> = (0..batch * 144).map(|i| pixel(step, i / 144, i % 144)).collect();
        Ok(Tensor::from_vec(pixels, (batch, 12, 12, 1), &CPU)?)
    };
    train(&mut trainer, images, |_, report| {
        last = report.loss;
        Ok::<_, TrainError>(Flow::Continue)
    })?;
    assert_eq!(trainer.steps(), 1000);
    for (name, variable) in trainer.variables().all() {
        assert!(variable.flatten_all()?.to_vec1::<f32>()?.iter().all(|w| w.is_finite()), "{name}");
    }
    Ok(last)
}

#[test]
fn extremes_train_a_thousand_steps_without_nan_or_say_why_not() {
    // A blob that moves from image to image.
    let blob = |step: u64, image: usize, place: usize| {
        let (x, y) = (place % 12, place / 12);
        let (cx, cy) = ((step as usize * 5 + image * 3) % 12, (step as usize * 7 + image) % 12);
        if x.abs_diff(cx) < 3 && y.abs_diff(cy) < 3 { 1.0 } else { 0.0 }
    };
    let beta = |beta: f64| move |c: &mut Config| c.model.latent = Latent::Gaussian { dimensions: 2, beta: beta.into() };
    type Change = Box<dyn FnOnce(&mut Config)>;
    let settings: Vec<(&str, Change)> = vec![
        ("as it is", Box::new(|_| {})),
        ("β = 0", Box::new(beta(0.0))),
        ("β = 1e-30", Box::new(beta(1e-30))),
        ("β = 1e6", Box::new(beta(1e6))),
        ("K = 1", Box::new(|c| c.model.entities = 1)),
        ("K = N", Box::new(|c| (c.model.entities, c.model.selector.radius) = (9, 0.0.into()))),
        ("batch 1", Box::new(|c| c.training.batch = 1)),
        ("learning rate 0", Box::new(|c| c.training.learning_rate = 0.0.into())),
        ("learning rate 1e-30", Box::new(|c| c.training.learning_rate = 1e-30.into())),
        ("learning rate 0.3", Box::new(|c| c.training.learning_rate = 0.3.into())),
        ("location charge 1e4", Box::new(|c| c.training.location_charge = 1e4.into())),
        ("clip 1e-12", Box::new(|c| c.training.clip = 1e-12)),
        ("patch 1", Box::new(|c| c.model.decoder.placement = Placement::Glimpse { patch: 1 })),
        ("patch 64", Box::new(|c| c.model.decoder.placement = Placement::Glimpse { patch: 64 })),
        ("deviation 0.001", Box::new(|c| c.model.likelihood = Likelihood::Gaussian { deviation: 1e-3 })),
    ];
    for (name, change) in settings {
        let loss = thousand_steps(&smallest(change), blob).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(loss.is_finite(), "{name}");
    }
    for (name, value) in [("empty scenes", 0.0), ("all-white scenes", 1.0), ("grey scenes", 0.5)] {
        let loss = thousand_steps(&smallest(|_| {}), |_, _, _| value).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(loss.is_finite(), "{name}");
    }
    let one = thousand_steps(&smallest(|_| {}), |_, _, place| blob(0, 0, place)).expect("one scene");
    assert!(one.is_finite());
    // What cannot go well ends with step, term and what to do.
    for rate in [1e10, 1e30, 1e38] {
        match thousand_steps(&smallest(|c| c.training.learning_rate = rate.into()), blob) {
            Ok(loss) => assert!(loss.is_finite(), "learning rate {rate:e}"),
            Err(e) => {
                let message = e.to_string();
                let named = message.starts_with("step ") && message.contains("lower training.learning_rate");
                assert!(named, "learning rate {rate:e}: {message}");
            }
        }
    }
}

#[test]
fn the_frozen_model_follows_the_training() -> std::result::Result<(), TrainError> {
    let config = tiny();
    let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
    let images = batches(&trainer, 1)(0)?;
    let reconstruct = |model: &Model, trainer: &Trainer| -> Result<Vec<f32>> {
        let inference = model.forward(&images, &trainer.selection(), None)?;
        let outputs = [&inference.z, &inference.components.drawn()?, &inference.logits, &inference.entities.kl()?];
        assert!(outputs.iter().all(|t| !t.track_op()), "the frozen model builds a graph");
        inference.reconstruction()?.flatten_all()?.to_vec1()
    };
    let mut previous = Vec::new();
    for _ in 0..3 {
        let now = reconstruct(trainer.model(), &trainer)?;
        let copies = copies(trainer.variables().all().into_iter().map(|(n, v)| (n, v.as_tensor().detach())))?;
        let builder = candle_nn::VarBuilder::from_tensors(copies, DType::F32, &CPU);
        assert!(now == reconstruct(&Model::new(&config.model, extent(&config), builder)?, &trainer)?);
        assert!(now != previous, "the frozen model stands still");
        previous = now;
        trainer.step(&images)?;
    }
    // The other model does build one, or nothing would be learnt.
    let builder = trainer.variables().builder(DType::F32, &CPU);
    let tracked = Model::new(&config.model, extent(&config), builder)?;
    assert!(tracked.forward(&images, &trainer.selection(), None)?.logits.track_op());
    Ok(())
}

#[test]
fn a_warm_start_ranks_by_brightness_for_its_part_of_training() -> std::result::Result<(), TrainError> {
    let mut config = tiny();
    config.training.steps = 4;
    for (warm_start, warm) in [(0.0, 0), (0.5, 2), (0.6, 3), (1.0, 4)] {
        config.model.selector.warm_start = warm_start;
        let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
        let mut ranks = Vec::new();
        for step in 0..4 {
            ranks.push(trainer.selection().rank_by);
            let images = batches(&trainer, 1)(step)?;
            trainer.step(&images)?;
        }
        let expected: Vec<Rank> = (0..4).map(|step| if step < warm { Rank::Brightness } else { Rank::Kl }).collect();
        assert_eq!(ranks, expected, "{warm_start}");
        // At the end it is over, whatever it was.
        assert_eq!(trainer.selection().rank_by, Rank::Kl);
    }
    Ok(())
}

#[test]
fn gradients_are_clipped_to_the_configured_norm() -> std::result::Result<(), TrainError> {
    for clip in [0.0, 0.01, 1e6] {
        let mut config = tiny();
        config.training.clip = clip;
        let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
        let images = batches(&trainer, 1)(0)?;
        let norm = trainer.step(&images)?.gradient_norm;
        let mut square = 0.0;
        for (_, mean) in trainer.adam().state().iter().filter(|(name, _)| name.starts_with("mean.")) {
            square += f64::from(mean.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        // After one step the running mean is a tenth of the gradient that the optimiser was given.
        let (used, wanted) = (10.0 * square.sqrt(), if clip == 0.01 { clip } else { norm });
        assert!(norm > 0.1 && (used / wanted - 1.0).abs() < 1e-4, "clip {clip}: {used} of {norm}");
    }
    Ok(())
}

#[test]
fn scenes_put_together_anew_teach_and_a_resumed_training_sees_the_same() -> std::result::Result<(), TrainError> {
    let mut config = Preset::MultiEntity.config();
    (config.training.batch, config.training.resynthesis) = (8, 1.0.into());
    let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
    let images = batches(&trainer, 1)(0)?;
    let saved = |trainer: &Trainer| -> Result<_> {
        let variables = trainer.variables().all().into_iter().map(|(name, v)| (name, v.as_tensor().clone()));
        Ok((copies(variables)?, copies(trainer.adam().state())?, trainer.all_steps()))
    };
    let resumed = |config: &Config, (weights, state, steps): &(_, _, _)| -> std::result::Result<_, TrainError> {
        let mut resumed = Trainer::new(config.clone(), extent(config), &CPU)?;
        resumed.restore(weights, state, *steps)?;
        Ok(resumed)
    };
    let mut asking_less = config.clone();
    asking_less.training.silence = 0.0;
    // Until entities say enough to be cut out, and one has found a place: where none has, silence is all that is asked.
    let (before, report, less) = loop {
        let before = saved(&trainer)?;
        let report = trainer.step(&images)?;
        assert!(report.step < 400, "400 steps are enough to find something");
        if report.resynthesis_nats > 0.0 {
            let less = resumed(&asking_less, &before)?.step(&images)?;
            if less.resynthesis_nats > 0.0 {
                break (before, report, less);
            }
        }
    };
    assert!(less.resynthesis_nats < report.resynthesis_nats, "{less:?}, {report:?}");
    let sum = report.reconstruction_nats + report.kl_nats + report.idle_nats + report.charge_nats;
    assert!((report.loss - sum - report.resynthesis_nats).abs() < 1e-4 * report.loss, "{report:?}");

    let mut again = resumed(&config, &before)?;
    assert_eq!(again.step(&images)?, report);
    for _ in 0..2 {
        assert_eq!(again.step(&images)?, trainer.step(&images)?);
    }
    Ok(())
}

#[test]
fn every_preset_learns_a_fixed_batch() -> std::result::Result<(), TrainError> {
    for preset in Preset::ALL {
        let mut config = preset.config();
        config.training.batch = if preset == Preset::MultiEntity { 4 } else { 16 };
        let mut trainer = Trainer::new(config.clone(), extent(&config), &CPU)?;
        let images = batches(&trainer, 1)(0)?;
        let reports = (0..60).map(|_| trainer.step(&images)).collect::<std::result::Result<Vec<_>, _>>()?;
        let mean = |reports: &[StepReport]| reports.iter().map(|r| r.loss).sum::<f64>() / reports.len() as f64;
        let (first, last) = (mean(&reports[..3]), mean(&reports[57..]));
        assert!(last < 0.6 * first, "{}: from {first} to {last} nats", preset.name());
        for r in &reports {
            let sum = r.reconstruction_nats + r.beta * r.kl_nats + r.idle_nats + r.charge_nats + r.resynthesis_nats;
            assert!((r.loss - sum).abs() < 1e-4 * r.loss, "{}: {r:?}", preset.name());
        }
        assert_eq!(reports.iter().any(|r| r.kl_nats != 0.0), preset != Preset::Autoencoder);
        // What was learnt is in the model that is handed out, also for noise that training has not seen. (Not at the means: so
        // early a decoder has only seen latents as long as noise is.)
        let shape = (config.training.batch, config.model.entities, config.model.latent.dimensions());
        let mut noise = vec![0f32; shape.0 * shape.1 * shape.2];
        random::normals(&mut random::stream(1, "fresh noise", 0), &mut noise);
        let noise = Tensor::from_vec(noise, shape, &CPU)?;
        let inference = trainer.model().forward(&images, &trainer.selection(), Some(&noise))?;
        let nats = -inference.log_prob(&images)?.mean(0)?.to_scalar::<f32>()?;
        assert!(nats.is_finite() && f64::from(nats) < 0.6 * first, "{}: {nats} nats", preset.name());
        assert_eq!(inference.reconstruction()?.i(0)?.dims(), images.i(0)?.dims());
    }
    Ok(())
}
