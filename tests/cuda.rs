//! The GPU against the CPU: the same losses, gradients and training from the same weights. Where there is no GPU, every test says so and has
//! nothing to check; `.ci/cuda-check` runs them on a machine that has one.

use crate::model::variants;
use candle_core::{DType, Device, Module, Result, Tensor};
use multi_entity_vae::config::{
    Config, DataConfig, ImportanceSamples, Latent, Likelihood, Objective, OnNonfinite, Preset,
};
use multi_entity_vae::device::Choice;
use multi_entity_vae::evaluate::Decomposition;
use multi_entity_vae::layers::{Activation, Extent, LayerSpec, Stack};
use multi_entity_vae::model::{Selection, Variables};
use multi_entity_vae::run::{Checkpoint, LoadedRun, Progress, ScenesOf, open_digits};
use multi_entity_vae::scene::Split;
use multi_entity_vae::train::{Schedule, Steps, Trainer};
use std::collections::HashMap;

/// Largest difference of a tensor, relative to its largest number.
const TOLERANCE: f64 = 1e-4;

/// The first GPU, or nothing and a word on why.
fn gpu() -> Option<Device> {
    match Choice::Cuda(0).open() {
        Ok(opened) => Some(opened.device),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (numbers(a)?, numbers(b)?);
    assert_eq!(a.len(), b.len());
    let largest = b.iter().map(|b| b.abs()).fold(1e-6, f64::max);
    // NaN is no agreement.
    let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).map(|d| if d.is_nan() { f64::INFINITY } else { d });
    Ok(apart.fold(0.0, f64::max) / largest)
}

/// Nothing where two lists of named tensors agree; else the worst of them.
fn worst(a: &[(String, Tensor)], b: &[(String, Tensor)], tolerance: f64) -> Result<Option<String>> {
    let mut worst: Option<(f64, &str)> = None;
    for ((name, a), (_, b)) in a.iter().zip(b) {
        let d = difference(a, b)?;
        if d > worst.map_or(tolerance, |(most, _)| most) {
            worst = Some((d, name));
        }
    }
    Ok(worst.map(|(d, name)| format!("{name} by {d:.1e}")))
}

#[test]
fn every_variant_has_the_cpus_loss_and_gradients() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut wrong = Vec::new();
    for variant in variants() {
        let exact = variant.build()?;
        let on = |dtype, device: &Device| -> Result<_> {
            let built = exact.on(&variant, dtype, device)?;
            let inference = built.forward()?;
            let loss = built.loss(&inference)?;
            let gradients = loss.backward()?;
            let gradient =
                |(name, var): (String, candle_core::Var)| (name, gradients.get(&var).expect("a gradient").clone());
            let mut all: Vec<_> = built.variables.all().into_iter().map(gradient).collect();
            all.push(("the loss".into(), loss));
            Ok((inference.cells.lists()?, all))
        };
        let ((cells, ours), (reference_cells, reference)) = (on(DType::F32, &gpu)?, on(DType::F64, &Device::Cpu)?);
        if cells != reference_cells {
            wrong.push(format!("variant {} keeps other cells", variant.seed));
        } else if let Some(worst) = worst(&ours, &reference, TOLERANCE)? {
            wrong.push(format!("variant {}: {worst}; {:?}", variant.seed, variant.config));
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// A layer's output and all its gradients, on a GPU and exactly; what differs is added to `wrong`.
fn compare_layer(
    gpu: &Device,
    images: usize,
    input: Extent,
    (spec, activation): (LayerSpec, Activation),
    wrong: &mut Vec<String>,
) -> Result<()> {
    let on = |device: &Device, dtype| -> Result<Vec<(String, Tensor)>> {
        let variables = Variables::new(3);
        let stack = Stack::new(input, &[(spec, activation)], variables.builder(dtype, device))?;
        let pixels = (0..images * input.len()).map(|i| (i * 7919 % 2003) as f64 / 1001.0 - 1.0);
        let shape = (images, input.height, input.width, input.channels);
        let x = candle_core::Var::from_tensor(
            &Tensor::from_iter(pixels, &Device::Cpu)?.reshape(shape)?.to_dtype(dtype)?.to_device(device)?,
        )?;
        let y = stack.forward(&x)?;
        let gradients = y.sqr()?.sum_all()?.backward()?;
        let mut all = vec![("output".into(), y), ("input".into(), gradients.get(&x).expect("dx").clone())];
        for (name, var) in variables.all() {
            all.push((name, gradients.get(&var).expect("a gradient").clone()));
        }
        Ok(all)
    };
    if let Some(worst) = worst(&on(gpu, DType::F32)?, &on(&Device::Cpu, DType::F64)?, TOLERANCE)? {
        wrong.push(format!("{spec:?}, {activation:?}, {input}: {worst}"));
    }
    Ok(())
}

#[test]
fn every_layer_has_the_cpus_outputs_and_gradients() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut wrong = Vec::new();
    // So many rows that tiles are large.
    for channels in [12, 48, 64] {
        let spec = LayerSpec::Convolution { channels, kernel: 3, stride: 1 };
        compare_layer(&gpu, 270, Extent::new(16, 16, 8), (spec, Activation::Relu), &mut wrong)?;
    }
    // Odd sides, and channels that do and do not come four at a time.
    for input in [Extent::new(9, 14, 8), Extent::new(7, 6, 3)] {
        for activation in Activation::ALL {
            let mut specs = vec![LayerSpec::Dense(33)];
            for (kernel, stride) in [(1, 1), (3, 1), (4, 2), (5, 3), (2, 3)] {
                for channels in [1, 16] {
                    specs.push(LayerSpec::Convolution { channels, kernel, stride });
                    specs.push(LayerSpec::Upconvolution { channels, kernel, stride });
                }
            }
            for spec in specs {
                compare_layer(&gpu, 37, input, (spec, activation), &mut wrong)?;
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// The multi-entity preset on other scenes: larger cells, mixtures of one colour or of a colour for each pixel, grounds of medians and of
/// lines, candidates compared by what they draw, and scenes put together anew.
fn of_scenes() -> Vec<Config> {
    let recipe = |scenes: &str, noise: f64, grid_lines: f64| {
        let data = DataConfig { scenes: scenes.into(), noise, grid_lines, ..Preset::MultiEntity.config().data };
        Preset::MultiEntity.config_for(&data)
    };
    let plain = ["air", "survey", "sprites", "tetrominoes"].map(|scenes| recipe(scenes, 0.0, 0.0));
    let mut all: Vec<_> = plain.into_iter().chain([recipe("air", 0.2, 0.0), recipe("air", 0.0, 0.3)]).collect();
    for config in &mut all {
        if config.training.resynthesis != Schedule::from(0.0) {
            // From the first step on.
            config.training.resynthesis = 0.5.into();
        }
    }
    all
}

/// A short training: presets, objectives and scenes. Drawn samples are not among them: where a rounding error decides which one is drawn,
/// the gradient is another.
fn trainings() -> Vec<Config> {
    let mut all: Vec<Config> = Preset::ALL.into_iter().map(Preset::config).collect();
    all.extend(of_scenes());
    let three = ImportanceSamples { samples: 3.0.into(), gradient_samples: 0 };
    for objective in [Objective::Iwae(three), Objective::Dreg(three)] {
        let mut config = Preset::Vae.config();
        config.training.objective = objective;
        if let Latent::Gaussian { beta, .. } = &mut config.model.latent {
            *beta = 1.0.into();
        }
        all.push(config);
    }
    for config in &mut all {
        // Small, so that ten steps do not blow rounding errors up.
        config.training.learning_rate = 1e-4.into();
        config.training.batch = 16;
    }
    all
}

/// A trainer on a device, and its first batches.
fn start(config: &Config, device: &Device, batches: usize) -> (Trainer, Vec<Tensor>) {
    let digits = open_digits(&config.data.digits).expect("digits");
    let scenes = ScenesOf::open(&config.data, digits, Split::Train, config.training.seed).expect("scenes");
    let image = scenes.image();
    let training = &config.training;
    let stream = scenes.batches(config, 0, 1).expect("a stream");
    let shape = (training.batch, image.height, image.width, image.channels);
    let tensor = |pixels| Tensor::from_vec(pixels, shape, device).expect("a batch");
    let batches = stream.take(batches).map(|batch| tensor(batch.images)).collect();
    (Trainer::new(config.clone(), image, device).expect("a trainer"), batches)
}

fn weights(trainer: &Trainer) -> Vec<(String, Tensor)> {
    trainer.variables().all().into_iter().map(|(name, var)| (name, var.copy().expect("a copy"))).collect()
}

/// A fresh model's candidates are all alike, and the last bit decides which of them is kept. A little training makes that plain.
fn practised(config: &Config, device: &Device) -> HashMap<String, Tensor> {
    let mut config = config.clone();
    config.training.learning_rate = 1e-3.into();
    let (mut trainer, batches) = start(&config, device, 200);
    for batch in &batches {
        trainer.step(batch).expect("a step");
    }
    weights(&trainer).into_iter().collect()
}

#[test]
fn ten_steps_of_every_preset_lead_to_the_same_weights() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for config in trainings() {
        let what = format!("{:?} on {}, {:?}", config.training.objective, config.data.scenes, config.model.compositor);
        let ((mut ours, batches), (mut reference, same)) = (start(&config, &gpu, 10), start(&config, &Device::Cpu, 10));
        assert_eq!(worst(&weights(&ours), &weights(&reference), 0.0)?, None, "{what}: first weights");
        if config.model.entities > 1 {
            let practised = practised(&config, &gpu);
            for trainer in [&ours, &reference] {
                trainer.variables().load(&practised)?;
            }
        }
        for (a, b) in batches.iter().zip(&same) {
            assert_eq!(difference(a, b)?, 0.0, "{what}: images");
            let (ours, reference) = (ours.step(a).expect("a step"), reference.step(b).expect("a step"));
            for (a, b) in [(ours.loss, reference.loss), (ours.gradient_norm, reference.gradient_norm)] {
                assert!((a - b).abs() <= 1e-3 * b.abs(), "{what}, step {}: {a} and {b}", ours.step);
            }
        }
        let by_itself =
            config.training.objective == Objective::Elbo && config.model.likelihood == Likelihood::Bernoulli;
        assert_eq!(ours.replays(), by_itself, "{what}: only steps that the device takes by itself are replayed");
        // A step of Adam moves every weight by the learning rate, whatever the size of its gradient, so that gradients of nearly
        // nothing may differ in sign.
        let most = 2.0 * 10.0 * 1e-4;
        for ((name, a), (_, b)) in weights(&ours).iter().zip(&weights(&reference)) {
            let (a, b) = (numbers(a)?, numbers(b)?);
            let apart: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).collect();
            assert!(apart.iter().all(|d| *d <= most), "{what}: {name}");
            let mean = apart.iter().sum::<f64>() / apart.len() as f64;
            assert!(mean <= most / 50.0, "{what}: {name} is {mean:e} apart on average");
        }
    }
    Ok(())
}

#[test]
fn a_checkpoint_moves_between_devices_both_ways() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Preset::MultiEntity.config();
    config.training.batch = 8;
    for (from, to) in [(&gpu, &Device::Cpu), (&Device::Cpu, &gpu)] {
        let (mut first, batches) = start(&config, from, 3);
        for batch in &batches[..2] {
            first.step(batch).expect("a step");
        }
        let path = folder.path().join("moved.safetensors");
        Checkpoint::save(&path, &first, &Progress { step: 2, ..Progress::default() }).expect("saved");
        let checkpoint = Checkpoint::load(&path).expect("loaded");
        let (mut second, moved) = start(&config, to, 3);
        second.restore(&checkpoint.weights, &checkpoint.optimiser, Steps::new(2)).expect("restored");
        assert_eq!(worst(&weights(&second), &weights(&first), 0.0)?, None);
        let state = |trainer: &Trainer| -> HashMap<String, Tensor> { trainer.adam().state() };
        let (a, b) = (state(&second), state(&first));
        assert!(a.iter().all(|(name, a)| difference(a, &b[name]).is_ok_and(|d| d == 0.0)));
        let (a, b) = (second.step(&moved[2]).expect("a step"), first.step(&batches[2]).expect("a step"));
        assert!((a.loss - b.loss).abs() <= TOLERANCE * b.loss, "{} and {}", a.loss, b.loss);
        // What the run says of images is the same too.
        let parts = |device: &Device, images: &Tensor| {
            let run = LoadedRun::from_checkpoint(&checkpoint, device).expect("a model");
            Decomposition::of(&run.model, images, &first.selection())
        };
        let (a, b) = (parts(to, &moved[0])?, parts(from, &batches[0])?);
        assert_eq!(a.cells, b.cells);
        assert!(difference(&a.components, &b.components)? < TOLERANCE);
        assert_eq!(a.present, b.present);
        // But for pixels on the very edge.
        let pairs = || a.masks.iter().flatten().zip(b.masks.iter().flatten());
        assert!(1000 * pairs().filter(|(a, b)| a != b).count() <= pairs().count());
    }
    Ok(())
}

/// The means that are fitted to an image, by steps of Adam, which moves a mean by its rate however small its gradient: what is compared is
/// how well the image is described.
#[test]
fn refinement_comes_to_the_same_description() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for config in of_scenes() {
        let practised = practised(&config, &gpu);
        let described = |device: &Device, steps: usize| -> Result<f64> {
            let (trainer, batches) = start(&config, device, 1);
            trainer.variables().load(&practised)?;
            let selection = Selection::trained(&config.model, 0);
            let seen = Decomposition::refined(trainer.model(), &batches[0], &selection, steps)?;
            numbers(&seen.inference.log_prob(&batches[0])?.sum_all()?).map(|sum| sum[0])
        };
        let (ours, reference) = (described(&gpu, 10)?, described(&Device::Cpu, 10)?);
        let what = format!("{}, {:?}", config.data.scenes, config.model.compositor);
        assert!((ours - reference).abs() <= 1e-3 * reference.abs(), "{what}: {ours} and {reference}");
        assert_ne!(ours, described(&gpu, 0)?, "{what}: nothing was refined");
    }
    Ok(())
}

/// One batch that is no number: the step says so, as on the CPU, and what follows is as if it had not been.
#[test]
fn a_step_that_is_not_finite_changes_nothing() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut config = Preset::MultiEntity.config();
    config.training.batch = 8;
    config.training.on_nonfinite = OnNonfinite::Skip;
    config.training.learning_rate = 1e-4.into();
    let ((mut ours, batches), (mut reference, same)) = (start(&config, &gpu, 8), start(&config, &Device::Cpu, 8));
    for (step, (a, b)) in batches.iter().zip(&same).enumerate() {
        let before = weights(&ours);
        let broken = |batch: &Tensor| if step == 5 { batch * f64::NAN } else { Ok(batch.clone()) };
        let (a, b) = (ours.step(&broken(a)?).expect("a step"), reference.step(&broken(b)?).expect("a step"));
        assert_eq!((a.step, a.skipped, a.loss.is_nan()), (b.step, b.skipped, b.loss.is_nan()));
        assert_eq!(worst(&weights(&ours), &before, 0.0)?.is_none(), step == 5);
    }
    assert_eq!(ours.all_steps().skipped, 1);
    Ok(())
}

/// A recorded step is the step: a training that replays, and one that never takes two equal steps in a row.
#[test]
fn replayed_steps_are_the_steps_taken_one_by_one() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let mut config = Preset::MultiEntity.config();
    config.training.batch = 8;
    let (mut replayed, batches) = start(&config, &gpu, 12);
    let (mut single, _) = start(&config, &gpu, 0);
    for batch in &batches {
        let a = replayed.step(batch).expect("a step");
        // Restored, it forgets what it recorded.
        let state =
            |trainer: &Trainer| (weights(trainer).into_iter().collect(), trainer.adam().state(), trainer.all_steps());
        let (parameters, optimiser, steps) = state(&single);
        single.restore(&parameters, &optimiser, steps).expect("restored");
        let b = single.step(batch).expect("a step");
        assert_eq!(a, b);
    }
    assert!(replayed.replays() && !single.replays());
    assert_eq!(worst(&weights(&replayed), &weights(&single), 0.0)?, None);
    Ok(())
}
