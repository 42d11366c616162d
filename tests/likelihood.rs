//! Importance weights: the bound on log p(x) against numerical integration, and the objectives made of it.

use crate::gradients;
use candle_core::{DType, Device, Result, Tensor, Var};
use multi_entity_vae::config::{
    Binarisation, CompositorConfig, Config, ConvolutionConfig, DataConfig, DecoderConfig, DecoderTrunk, EncoderConfig,
    ImportanceSamples, Latent, Likelihood, ModelConfig, Objective, Placement, Posteriors, Preset, Rank, SelectorConfig,
};
use multi_entity_vae::evaluate::{EvaluationError, Example, LikelihoodBound};
use multi_entity_vae::layers::{Activation, Extent};
use multi_entity_vae::model::{Cells, Loss, Model, Resampling, Selection, Variables, log_choose};
use multi_entity_vae::random;
use multi_entity_vae::run::ScenesOf;
use multi_entity_vae::scene::{Batches, DigitSet, Split};
use multi_entity_vae::train::{Schedule, Trainer};
use rand::Rng;

const CPU: Device = Device::Cpu;
const SIDE: usize = 4;
const IMAGE: Extent = Extent::new(SIDE, SIDE, 1);

fn normals(name: &str, index: u64, shape: &[usize]) -> Result<Tensor> {
    let mut values = vec![0f32; shape.iter().product()];
    random::normals(&mut random::stream(3, name, index), &mut values);
    Tensor::from_vec(values, shape, &CPU)?.to_dtype(DType::F64)
}

/// A model of one number for each entity, so that p(x) can be integrated.
struct Small {
    config: ModelConfig,
    model: Model,
    fixed: Model,
    variables: Variables,
    selection: Selection,
}

impl Small {
    /// One posterior for the image, or two kept of four that are placed at their cells.
    fn new(entities: usize) -> Result<Self> {
        let activation = Activation::Tanh;
        let (encoder, placement) = match entities {
            1 => (EncoderConfig::Dense { hidden: vec![5], activation }, Placement::Canvas),
            _ => {
                let layers = vec![ConvolutionConfig::new(4, 2, 2)];
                let posteriors = Posteriors::PerCell;
                (
                    EncoderConfig::Convolutional { layers, activation, posteriors, coordinates: false },
                    Placement::Glimpse { patch: 3 },
                )
            }
        };
        let config = ModelConfig {
            encoder,
            latent: Latent::Gaussian { dimensions: 1, beta: 1.0.into() },
            selector: SelectorConfig { rank_by: Rank::Kl, radius: 0.0.into(), overlap: 1.0.into(), warm_start: 0.0 },
            entities,
            decoder: DecoderConfig {
                placement,
                trunk: DecoderTrunk::Dense { hidden: vec![5], activation },
                coordinates: false,
            },
            compositor: CompositorConfig::Union,
            likelihood: Likelihood::Bernoulli,
        };
        config.validate(IMAGE).expect("a model");
        let variables = Variables::new(5);
        let model = Model::new(&config, IMAGE, variables.builder(DType::F64, &CPU))?;
        for (name, var) in variables.all() {
            // Strong enough that posterior and prior differ, and so do the weights.
            let noise = (normals(&name, 0, var.dims())? * 0.4)?;
            var.set(&(var.as_tensor() + noise)?)?;
        }
        let fixed = Model::new(&config, IMAGE, variables.frozen(DType::F64, &CPU))?;
        let selection = Selection { rank_by: Rank::Kl, entities, radius: 0, overlap: 1.0, seed: 0 };
        Ok(Self { config, model, fixed, variables, selection })
    }

    fn bound(&self, images: &Tensor, samples: u64, first: u64) -> Result<Vec<f64>> {
        LikelihoodBound { selection: self.selection, samples, seed: 1 }.of(&self.fixed, images, first)
    }

    /// log p(x|z) of one image on a grid of latents, with z, the cells being those the selector chooses.
    fn on_a_grid(&self, image: &Tensor) -> Result<(Vec<Vec<f64>>, Vec<f64>)> {
        let entities = self.selection.entities;
        let axis: Vec<f64> = (0..=160).map(|i| f64::from(i) * 0.1 - 8.0).collect();
        let grid: Vec<Vec<f64>> = match entities {
            1 => axis.iter().map(|z| vec![*z]).collect(),
            _ => axis.iter().flat_map(|a| axis.iter().map(|b| vec![*a, *b])).collect(),
        };
        let cells = vec![self.fixed.encode(image, &self.selection)?.cells.lists()?[0].clone(); grid.len()];
        let z = Tensor::from_vec(grid.concat(), (grid.len(), entities, 1), &CPU)?;
        let logits = self.fixed.compositor().compose(&self.fixed.decode(&z, &Cells::new(&cells, z.device())?)?)?;
        let images = Tensor::cat(&vec![image.clone(); grid.len()], 0)?;
        Ok((grid, self.fixed.likelihood().log_prob(&logits, &images)?.to_vec1()?))
    }

    /// log ∫ p(x|z) p(z) dz, less the location; the trapezium rule is exact here to many digits.
    fn log_likelihood(&self, image: &Tensor) -> Result<f64> {
        let (grid, log_probs) = self.on_a_grid(image)?;
        let prior = |z: &f64| (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt() * 0.1;
        let sum: f64 = grid.iter().zip(log_probs).map(|(z, l)| l.exp() * z.iter().map(prior).product::<f64>()).sum();
        Ok(sum.ln() - self.location())
    }

    fn location(&self) -> f64 {
        if self.fixed.is_placed() { log_choose(4, self.selection.entities) } else { 0.0 }
    }

    /// E_q log p(x|z) − KL − location, the expectation over a grid as well.
    fn elbo(&self, image: &Tensor) -> Result<f64> {
        let entities = self.fixed.encode(image, &self.selection)?.entities;
        let mean = entities.mean()?.flatten_all()?.to_vec1::<f64>()?;
        let log_var = entities.log_var()?.expect("a Gaussian").flatten_all()?.to_vec1::<f64>()?;
        let density = |z: &[f64]| -> f64 {
            let one = |k: usize| {
                let e = (z[k] - mean[k]) / (0.5 * log_var[k]).exp();
                (-0.5 * (e * e + log_var[k])).exp() / (2.0 * std::f64::consts::PI).sqrt() * 0.1
            };
            (0..z.len()).map(one).product()
        };
        let (grid, log_probs) = self.on_a_grid(image)?;
        let expected: f64 = grid.iter().zip(log_probs).map(|(z, l)| density(z) * l).sum();
        Ok(expected - entities.kl()?.sum_all()?.to_scalar::<f64>()? - self.location())
    }
}

fn image(number: usize) -> Result<Tensor> {
    let pixels = (0..SIDE * SIDE).map(|i| f64::from(u8::from((i * 7 + number * 5) % 11 < 4)));
    Tensor::from_iter(pixels, &CPU)?.reshape((1, SIDE, SIDE, 1))
}

fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n * (n - 1.0))).sqrt())
}

#[test]
fn the_bound_comes_to_log_p_of_x() -> Result<()> {
    for entities in [1, 2] {
        let small = Small::new(entities)?;
        for number in 0..3 {
            let image = image(number)?;
            let (exact, elbo) = (small.log_likelihood(&image)?, small.elbo(&image)?);
            let bound = small.bound(&image, 40_000, 0)?[0];
            assert!((bound - exact).abs() < 0.02, "{entities} entities: {bound}, not {exact}");
            assert!(exact - elbo > 0.1, "the ELBO is so good that nothing is shown: {elbo} of {exact}");
        }
    }
    Ok(())
}

#[test]
fn one_sample_is_the_elbo_and_more_are_nearer() -> Result<()> {
    for entities in [1, 2] {
        let small = Small::new(entities)?;
        let image = image(1)?;
        let images = Tensor::cat(&vec![image.clone(); 2_000], 0)?;
        let at = |samples| Ok::<_, candle_core::Error>(mean_and_error(&small.bound(&images, samples, 0)?));
        let (mut previous, error) = at(1)?;
        let elbo = small.elbo(&image)?;
        assert!((previous - elbo).abs() < 5.0 * error, "{entities} entities: {previous} ± {error}, not {elbo}");
        let exact = small.log_likelihood(&image)?;
        for samples in [3, 10, 100] {
            let (bound, error) = at(samples)?;
            assert!(bound > previous + 3.0 * error, "{samples} samples: {bound} after {previous}");
            assert!(bound < exact + 5.0 * error, "{samples} samples: {bound} of {exact}");
            previous = bound;
        }
    }
    Ok(())
}

#[test]
fn an_image_has_noise_of_its_own_and_batches_change_nothing() -> Result<()> {
    let small = Small::new(2)?;
    let images = [image(0)?, image(1)?, image(1)?];
    let together = small.bound(&Tensor::cat(&images, 0)?, 150, 7)?;
    for (i, image) in images.iter().enumerate() {
        assert!((small.bound(image, 150, 7 + i as u64)?[0] - together[i]).abs() < 1e-10);
    }
    assert!((together[1] - together[2]).abs() > 1e-6);
    // So many that the samples of each are decoded in parts.
    let images = (0..40).map(image).collect::<Result<Vec<_>>>()?;
    for (i, bound) in small.bound(&Tensor::cat(&images, 0)?, 150, 0)?.into_iter().enumerate() {
        assert!((small.bound(&images[i], 150, i as u64)?[0] - bound).abs() < 1e-10);
    }
    let examples = (0..40).map(|i| {
        Ok::<_, EvaluationError>(Example {
            image: image(i)?.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?,
            ..Example::default()
        })
    });
    // In single precision, as the program does it.
    let single = small.variables.all().into_iter().map(|(n, v)| Ok((n, v.to_dtype(DType::F32)?)));
    let single = candle_nn::VarBuilder::from_tensors(single.collect::<Result<_>>()?, DType::F32, &CPU);
    let config = LikelihoodBound { selection: small.selection, samples: 10, seed: 1 };
    let mut expected = Vec::new();
    for i in 0..40 {
        expected.extend(small.bound(&image(i)?, 10, i as u64)?);
    }
    let (mean, error) = mean_and_error(&expected);
    let model = Model::new(&small.config, IMAGE, single)?.at_rest()?;
    let report = config.report(&model, examples, &CPU).expect("a bound");
    assert_eq!(report.images, 40);
    let near = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 1e-4);
    assert!(near(report.nats, mean) && near(report.sem, error), "{report:?}, not {mean} ± {error}");
    Ok(())
}

/// The gradient of a loss with respect to each variable.
fn gradients_of(small: &Small, loss: &Loss) -> Result<Vec<(String, Vec<f64>)>> {
    let store = loss.total()?.backward()?;
    let one = |(name, var): (String, Var)| {
        let gradient = store.get(&var).unwrap_or_else(|| panic!("{name} received no gradient"));
        Ok((name, gradient.flatten_all()?.to_vec1()?))
    };
    small.variables.all().into_iter().map(one).collect()
}

#[test]
fn iwae_is_differentiated_as_it_stands() -> Result<()> {
    for entities in [1, 2] {
        let small = Small::new(entities)?;
        let images = Tensor::cat(&[image(0)?, image(3)?], 0)?;
        let noise = normals("noise", 0, &[2, 6, entities, 1])?;
        let loss = || {
            let encoding = small.model.encode(&images, &small.selection)?;
            small.model.iwae_loss(&small.fixed, &images, &encoding, &noise, None)?.total()
        };
        for (name, var) in small.variables.all() {
            gradients::check(&name, &var, 8, loss)?;
        }
    }
    Ok(())
}

#[test]
fn iwae_of_one_sample_is_the_elbo_of_that_sample() -> Result<()> {
    let small = Small::new(2)?;
    let images = Tensor::cat(&[image(0)?, image(3)?], 0)?;
    let noise = normals("noise", 1, &[2, 2, 1])?;
    let inference = small.model.forward(&images, &small.selection, Some(&noise))?;
    let log_density = |e: &Tensor| (e.sqr()?.sum_all()? * -0.5)?.to_scalar::<f64>();
    let log_var = inference.entities.log_var()?.expect("a Gaussian");
    let prior = log_density(&inference.z)?;
    let posterior = log_density(&noise)? - 0.5 * log_var.sum_all()?.to_scalar::<f64>()?;
    let log_likelihood = inference.log_prob(&images)?.sum_all()?.to_scalar::<f64>()?;
    let expected = -(log_likelihood + prior - posterior) / 2.0;

    let encoding = small.model.encode(&images, &small.selection)?;
    let noise = noise.unsqueeze(1)?;
    for loss in [
        small.model.iwae_loss(&small.fixed, &images, &encoding, &noise, None)?,
        small.model.dreg_loss(&small.fixed, &images, &encoding, &noise, None)?,
    ] {
        let [total, reconstruction, kl, idle, charge, _] = loss.values()?;
        assert!((total - expected).abs() < 1e-10, "{total}, not {expected}");
        assert!((reconstruction + log_likelihood / 2.0).abs() < 1e-10);
        assert!((kl - inference.entities.kl()?.sum_all()?.to_scalar::<f64>()? / 2.0).abs() < 1e-10);
        assert_eq!((idle, charge), (0.0, 0.0));
    }
    Ok(())
}

#[test]
fn dreg_is_the_same_gradient_in_expectation_with_less_noise() -> Result<()> {
    const ROUNDS: usize = 300;
    let small = Small::new(1)?;
    let images = Tensor::cat(&vec![image(2)?; 32], 0)?;
    // Of each encoder parameter: IWAE's gradients, DReG's, and their differences, round by round.
    let mut rounds: Vec<[Vec<f64>; 3]> = Vec::new();
    for round in 0..ROUNDS {
        let noise = normals("rounds", round as u64, &[32, 16, 1, 1])?;
        let encoding = small.model.encode(&images, &small.selection)?;
        let iwae = small.model.iwae_loss(&small.fixed, &images, &encoding, &noise, None)?;
        let dreg = small.model.dreg_loss(&small.fixed, &images, &encoding, &noise, None)?;
        assert!((iwae.values()?[0] - dreg.values()?[0]).abs() < 1e-10);
        let mut i = 0;
        for ((name, a), (_, b)) in gradients_of(&small, &iwae)?.into_iter().zip(gradients_of(&small, &dreg)?) {
            for (a, b) in a.into_iter().zip(b) {
                if name.starts_with("decoder") {
                    assert!((a - b).abs() < 1e-10, "{name}: {a} and {b}");
                    continue;
                }
                if round == 0 {
                    rounds.push(Default::default());
                }
                [a, b, a - b].into_iter().zip(&mut rounds[i]).for_each(|(value, all)| all.push(value));
                i += 1;
            }
        }
    }
    let mut squares = [0.0; 2];
    let mut worst: f64 = 0.0;
    for [iwae, dreg, difference] in &rounds {
        let (mean, error) = mean_and_error(difference);
        if error > 0.0 {
            worst = worst.max(mean.abs() / error);
        }
        for (square, values) in squares.iter_mut().zip([iwae, dreg]) {
            *square += mean_and_error(values).1.powi(2);
        }
        // Both are 0 where the weights meet a pixel without ink.
        assert!(mean.abs() <= 5.0 * error, "a difference of {mean} ± {error}");
    }
    assert!(rounds.len() > 50 && worst > 0.5, "{} parameters, {worst}", rounds.len());
    assert!(squares[1] < 0.5 * squares[0], "variances {squares:?}");
    Ok(())
}

#[test]
fn samples_drawn_by_weight_have_the_gradient_of_all_in_expectation() -> Result<()> {
    const ROUNDS: usize = 400;
    const SAMPLES: usize = 6;
    let small = Small::new(2)?;
    let images = Tensor::cat(&[image(0)?, image(3)?], 0)?;
    let noise = normals("resampled", 0, &[2, SAMPLES, 2, 1])?;
    let encoding = small.model.encode(&images, &small.selection)?;
    let losses = |resampling: Option<&Resampling>| -> Result<[Loss; 2]> {
        Ok([
            small.model.iwae_loss(&small.fixed, &images, &encoding, &noise, resampling)?,
            small.model.dreg_loss(&small.fixed, &images, &encoding, &noise, resampling)?,
        ])
    };
    let all = losses(None)?;
    let mut rng = random::stream(4, "offsets", 0);
    let mut sums: [Vec<Vec<f64>>; 2] = Default::default();
    for _ in 0..ROUNDS {
        let offsets = vec![rng.random(), rng.random()];
        let drawn = losses(Some(&Resampling { samples: 2, offsets }))?;
        for ((loss, whole), rounds) in drawn.iter().zip(&all).zip(&mut sums) {
            // The same value, whatever is drawn.
            loss.values()?
                .iter()
                .zip(whole.values()?)
                .for_each(|(a, b)| assert!((a - b).abs() < 1e-10, "{a}, not {b}"));
            rounds.push(gradients_of(&small, loss)?.into_iter().flat_map(|(_, gradient)| gradient).collect());
        }
    }
    for (rounds, whole) in sums.iter().zip(&all) {
        let whole: Vec<f64> = gradients_of(&small, whole)?.into_iter().flat_map(|(_, gradient)| gradient).collect();
        let mut spread = 0;
        for (i, expected) in whole.iter().enumerate() {
            let (mean, error) = mean_and_error(&rounds.iter().map(|round| round[i]).collect::<Vec<_>>());
            assert!((mean - expected).abs() <= 5.0 * error + 1e-12, "number {i}: {mean} ± {error}, not {expected}");
            spread += usize::from(error > 1e-6);
        }
        // What never differs would show nothing.
        assert!(spread > 20, "{spread} of {} numbers differ from round to round", whole.len());
    }
    Ok(())
}

#[test]
fn a_training_draws_its_samples_and_follows_their_schedule() -> Result<()> {
    let pixels = (0..4 * 784).map(|i| (i * i % 7 == 0) as u8 as f32).collect();
    let images = Tensor::from_vec(pixels, (4, 28, 28, 1), &CPU)?;
    let trained = |samples: Schedule, gradient_samples, learning_rate: f64| -> Result<(Vec<f64>, Vec<f32>)> {
        let mut config = Preset::Vae.config();
        (config.training.steps, config.training.learning_rate) = (4, learning_rate.into());
        config.training.objective = Objective::Dreg(ImportanceSamples { samples, gradient_samples });
        let mut trainer = Trainer::new(config, Extent::new(28, 28, 1), &CPU).expect("a trainer");
        let losses = (0..3).map(|_| trainer.step(&images).expect("a step").loss).collect();
        let weights = trainer.variables().all().into_iter().map(|(_, var)| var.flatten_all()?.to_vec1::<f32>());
        Ok((losses, weights.collect::<Result<Vec<_>>>()?.concat()))
    };
    // The same bound of the same samples, another gradient; four of four are all.
    let [all, some, four] =
        [trained(4.0.into(), 0, 1e-3)?, trained(4.0.into(), 2, 1e-3)?, trained(4.0.into(), 4, 1e-3)?];
    assert!((all.0[0] - some.0[0]).abs() < 1e-4 * all.0[0], "{:?} and {:?}", all.0, some.0);
    assert_ne!(all.1, some.1);
    assert_eq!(all.1, four.1);
    // Where nothing is learned: at first as with one sample, later as with four.
    let [rising, one, four] = [Schedule::linear(1.0, 4.0, 0.0, 0.5), 1.0.into(), 4.0.into()];
    let [rising, one, four] = [trained(rising, 0, 0.0)?.0, trained(one, 0, 0.0)?.0, trained(four, 0, 0.0)?.0];
    assert_eq!((rising[0], rising[2]), (one[0], four[2]));
    assert!(one[0] != four[0] && one[2] != four[2]);
    Ok(())
}

#[test]
fn every_objective_learns() -> Result<()> {
    let digits = DigitSet::builtin();
    let pixels: Vec<f32> =
        (0..8).flat_map(|i| digits.of(Split::Train).image(i).map(|p| f32::from(u8::from(p > 127)))).collect();
    let images = Tensor::from_vec(pixels, (8, 28, 28, 1), &CPU)?;
    let all = ImportanceSamples { samples: 4.0.into(), gradient_samples: 0 };
    let some = ImportanceSamples { samples: Schedule::linear(1.0, 7.0, 0.0, 0.002), gradient_samples: 2 };
    for objective in [Objective::Iwae(all), Objective::Dreg(all), Objective::Iwae(some), Objective::Dreg(some)] {
        let mut config = Preset::Vae.config();
        config.training.objective = objective;
        let mut trainer = Trainer::new(config, Extent::new(28, 28, 1), &CPU).expect("a trainer");
        let losses: Vec<f64> = (0..60).map(|_| trainer.step(&images).expect("a step").loss).collect();
        assert!(losses[59] < 0.6 * losses[0], "{objective:?}: from {} to {}", losses[0], losses[59]);
    }
    Ok(())
}

#[test]
fn what_has_no_importance_weights_is_refused_by_name() {
    let refused = |preset: Preset, settings: &[&str], key: &str| {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let config = Config::resolve(preset, None, &settings).expect("a configuration");
        let image = if preset == Preset::MultiEntity { Extent::new(64, 64, 1) } else { Extent::new(28, 28, 1) };
        let message = config.validate(image).expect_err(key).to_string();
        assert!(message.starts_with(&format!("{key}: ")), "{message}");
    };
    let iwae = "training.objective.kind=iwae";
    refused(Preset::Autoencoder, &[iwae], "training.objective.kind");
    refused(Preset::BetaVae, &["training.objective.kind=dreg"], "model.latent.beta");
    refused(Preset::Vae, &[iwae, "model.latent.beta={from=0,to=1}"], "model.latent.beta");
    refused(Preset::MultiEntity, &[iwae, "training.idle_beta=0"], "training.location_charge");
    refused(Preset::MultiEntity, &[iwae, "training.location_charge=0", "training.idle_beta=0.1"], "training.idle_beta");
    refused(Preset::Vae, &[iwae, "training.objective.samples=0"], "training.objective.samples");
    refused(Preset::Vae, &[iwae, "training.objective.samples={from=0,to=5}"], "training.objective.samples");
    refused(Preset::Vae, &[iwae, "training.objective.samples=100000"], "training.batch");
    refused(Preset::Vae, &[iwae, "training.objective.samples={from=100000,to=1}"], "training.batch");
    let fine = [iwae, "training.objective.samples=7", "training.objective.gradient_samples=2"].map(String::from);
    let config = Config::resolve(Preset::Vae, None, &fine).expect("a configuration");
    let expected = ImportanceSamples { samples: 7.0.into(), gradient_samples: 2 };
    assert_eq!(config.training.objective, Objective::Iwae(expected));
    config.validate(Extent::new(28, 28, 1)).expect("IWAE on the VAE");
    let unknown = Config::resolve(Preset::Vae, None, &["training.objective.samples=7".to_string()]);
    assert!(unknown.expect_err("the ELBO has no samples").to_string().contains("training.objective.samples"));
    // Runs from before there was a choice.
    let old: String = Preset::Vae.config().to_toml().replace("[training.objective]\nkind = \"elbo\"\n", "");
    assert!(!old.contains("objective"), "{old}");
    assert_eq!(Config::from_toml("old", &old).expect("an old file"), Preset::Vae.config());
}

#[test]
fn binarised_pixels_are_draws_with_the_right_seed() {
    let open = |binarisation, split, seed| {
        let data = DataConfig { binarisation, ..Preset::Vae.config().data };
        ScenesOf::open(&data, DigitSet::builtin(), split, seed).expect("digits")
    };
    let pixels = |binarisation, split, seed| -> Vec<f32> {
        let scenes = open(binarisation, split, seed);
        (0..300).flat_map(|i| scenes.example(i).expect("a digit").image).collect()
    };
    let grey = pixels(Binarisation::GreyScale, Split::Test, 0);
    for binarisation in [Binarisation::Dynamic, Binarisation::Static] {
        let drawn = pixels(binarisation, Split::Test, 0);
        assert!(drawn.iter().all(|p| *p == 0.0 || *p == 1.0));
        assert_eq!(drawn, pixels(binarisation, Split::Test, 0));
        assert_eq!(drawn == pixels(binarisation, Split::Test, 1), binarisation == Binarisation::Static);
        // As often 1 as the pixel says: Σ (draw − p) has the variance Σ p (1 − p).
        let off: f32 = drawn.iter().zip(&grey).map(|(x, p)| x - p).sum();
        let deviation = grey.iter().map(|p| p * (1.0 - p)).sum::<f32>().sqrt();
        assert!(off.abs() < 5.0 * deviation && deviation > 1.0, "{off} ± {deviation}");
    }

    // In training: batches of the same scenes in two epochs, of two seeds.
    let seen = |binarisation, seed| -> Vec<(u64, Vec<f32>)> {
        let scenes = open(binarisation, Split::Validation, seed);
        let batches = Batches::new(scenes.source.clone(), 1_000, seed, 0, false, 1, |_| 0.0).expect("batches");
        let images = batches.take(6).flat_map(|batch| {
            let (indices, pixels) = (batch.scenes.clone(), scenes.seen(batch));
            indices.into_iter().zip(pixels.chunks(784).map(<[f32]>::to_vec).collect::<Vec<_>>())
        });
        let mut images: Vec<_> = images.filter(|(scene, _)| *scene < 50).collect();
        images.sort_by_key(|(scene, _)| *scene);
        images
    };
    let mut fixed = seen(Binarisation::Static, 1);
    assert!(fixed.len() > 50, "no scene came twice");
    fixed.dedup();
    assert_eq!(fixed.len(), 50, "a scene was drawn twice");
    let mut other = seen(Binarisation::Static, 2);
    other.dedup();
    assert_eq!(fixed, other, "another seed gives other pixels");
    let scenes = open(Binarisation::Static, Split::Validation, 9);
    assert!(fixed.iter().all(|(scene, pixels)| scenes.example(*scene).expect("a digit").image == *pixels));
    let mut anew = seen(Binarisation::Dynamic, 1);
    let count = anew.len();
    anew.dedup();
    assert_eq!(anew.len(), count, "a scene was not drawn anew");
}
