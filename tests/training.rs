//! Training: the optimiser, repeatability, resuming, and that it learns.

use candle_core::{DType, Device, IndexOp, Result, Tensor, Var};
use candle_nn::{AdamW, Init, Optimizer, ParamsAdamW};
use multi_entity_vae::config::{
    Config, ConvolutionConfig, DecoderConfig, DecoderTrunk, EncoderConfig, Latent, Placement, Posteriors, Preset,
};
use multi_entity_vae::layers::{Activation, Extent};
use multi_entity_vae::model::{Model, Variables};
use multi_entity_vae::random;
use multi_entity_vae::scene::{Batches, DigitSet, SceneSource, Split};
use multi_entity_vae::train::{Adam, Flow, Ramp, Schedule, Shape, StepReport, TrainError, Trainer, train};
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
    let mut stream = Batches::new(recipe, batch, seed, trainer.steps(), fresh, workers).expect("a stream");
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
        second.restore(&weights, state, step)?;
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
        let error = trainer.restore(&wrong, &state, 5).expect_err("weights that do not fit").to_string();
        assert!(error.contains(mention), "{error}");
        assert!(bits(trainer.variables())? == before);
        assert_eq!(trainer.steps(), 0);
    }
    let mut incomplete = state.clone();
    incomplete.remove(&format!("square.{name}"));
    let error = trainer.restore(&weights, &incomplete, 5).expect_err("a state that does not fit").to_string();
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
    // The sum is never finite when a term is not: naming it would say nothing.
    assert_eq!(term, "the reconstruction");
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
    assert_eq!(term, "the KL");
    assert!(message.contains("step 5") && message.contains("the KL"), "{message}");
    Ok(())
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
            let sum = r.reconstruction_nats + r.beta * r.kl_nats + r.idle_nats + r.charge_nats;
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
