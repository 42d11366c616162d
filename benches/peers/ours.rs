//! This crate's side of the comparison with other frameworks; `compare` beside this file talks to it. See README.md there.
//!
//! ```text
//! ours write CASE FOLDER [BATCH]      case.json and case.safetensors: model, images, noise and first weights, for everybody
//! ours work FOLDER --threads T [--device D [--precision P]]      obeys `train N`, `reset`, `infer N`, `decompose N`, `memory`, `peak`, `quit` on standard input
//! ```

use candle_core::{Device, Tensor};
use multi_entity_vae::config::{
    CompositorConfig, Config, ConvolutionConfig, DecoderConfig, DecoderTrunk, EncoderConfig, Latent, Placement,
    Posteriors, Preset, Rank, SelectorConfig,
};
use multi_entity_vae::device::{self, Choice, Precision};
use multi_entity_vae::layers::{Activation, Extent, Instructions};
use multi_entity_vae::run::{ScenesOf, open_digits};
use multi_entity_vae::scene::Split;
use multi_entity_vae::train::{Schedule, Trainer};
use pulp::{Arch, Simd, WithSimd};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::hint::black_box;
use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error>;

/// Steps before the first weights of a case are written. A fresh model's candidates are all alike, and which of them is kept is
/// decided by the last bit; with a suppression radius a little training decides it for good.
const STEPS_BEFORE: u64 = 200;

/// Different batches in a case; a longer training goes through them again.
const BATCHES: u64 = 20;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", case, folder] => write(case, Path::new(folder), None),
        ["write", case, folder, batch] => write(case, Path::new(folder), Some(batch.parse()?)),
        ["work", folder, "--threads", threads] => {
            work(Path::new(folder), threads.parse()?, Choice::Cpu, Precision::Full)
        }
        ["work", folder, "--threads", threads, "--device", device, ref precision @ ..] => {
            let precision = match precision {
                [] | ["--precision", "full"] => Precision::Full,
                ["--precision", "tf32"] => Precision::Tf32,
                ["--precision", "bf16"] => Precision::Bf16,
                _ => return Err(format!("what is {precision:?}?").into()),
            };
            work(Path::new(folder), threads.parse()?, device.parse()?, precision)
        }
        // What `cargo bench` calls: the comparison itself is started by `compare`.
        [] => {
            println!("benches/peers/compare runs the comparison");
            Ok(())
        }
        _ => Err("usage: see the first lines of this file".into()),
    }
}

/// The configuration of a case: the same learning rate and weights of the loss in every step.
fn config(case: &str) -> Result<Config, Error> {
    let mut config = match case {
        "default" => Preset::MultiEntity.config(),
        "dense" => Preset::Vae.config(),
        "mve-64" => mve_64(),
        _ => return Err(format!("there is no case {case:?}; the cases are default, dense, mve-64").into()),
    };
    // Small, so that 20 steps do not blow the rounding errors of different programs up.
    config.training.learning_rate = Schedule::Constant(1e-4);
    Ok(config)
}

/// A convolutional decoder that draws whole images: where nearly all the time goes into convolutions.
fn mve_64() -> Config {
    let activation = Activation::Relu;
    let mut config = Preset::MultiEntity.config();
    config.model.encoder = EncoderConfig::Convolutional {
        layers: [(32, 4, 2), (32, 4, 2), (64, 4, 2), (64, 3, 1)]
            .map(|(c, k, s)| ConvolutionConfig::new(c, k, s))
            .to_vec(),
        activation,
        posteriors: Posteriors::PerCell,
        coordinates: false,
    };
    config.model.latent = Latent::Gaussian { dimensions: 16, beta: 1.0.into() };
    // By KL many neighbouring cells are so nearly alike that the last bit decides, in each program for another one.
    config.model.selector =
        SelectorConfig { rank_by: Rank::Brightness, radius: 0.0.into(), overlap: 1.0.into(), warm_start: 0.0 };
    config.model.decoder = DecoderConfig {
        placement: Placement::Canvas,
        trunk: DecoderTrunk::Convolutional {
            hidden: vec![256],
            base: 64,
            layers: [(32, 4, 2), (32, 4, 2), (16, 4, 2)].map(|(c, k, s)| ConvolutionConfig::up(c, k, s)).to_vec(),
            kernel: 4,
            stride: 2,
            activation,
        },
        coordinates: true,
    };
    config.model.compositor = CompositorConfig::Sum;
    config.training.batch = 64;
    config.training.idle_beta = 0.0.into();
    config.training.location_charge = 0.0.into();
    config.training.clip = 0.0;
    config
}

fn scenes(config: &Config) -> Result<ScenesOf, Error> {
    Ok(ScenesOf::open(&config.data, open_digits(&config.data.digits)?, Split::Train, config.training.seed)?)
}

fn write(case: &str, folder: &Path, batch: Option<usize>) -> Result<(), Error> {
    let mut config = config(case)?;
    config.training.batch = batch.unwrap_or(config.training.batch);
    let (model, training) = (&config.model, &config.training);
    let scenes = scenes(&config)?;
    let image = scenes.image();
    let mut before = config.clone();
    before.training.learning_rate = Schedule::Constant(1e-3);
    // On a GPU if there is one; the weights are written, so that all start from the same.
    let device = Choice::Auto.open()?.device;
    let mut trainer = Trainer::new(before, image, &device)?;
    let mut batches = scenes.batches(&config, 0, 1)?;
    let shape = (training.batch, image.height, image.width, image.channels);
    let mut next = || -> Result<Tensor, Error> {
        Ok(Tensor::from_vec(batches.next().ok_or("the scenes ended")?.images, shape, &device)?)
    };
    for _ in 0..STEPS_BEFORE {
        trainer.step(&next()?)?;
    }
    let mut tensors: HashMap<String, Tensor> = HashMap::new();
    for (name, var) in trainer.variables().all() {
        tensors.insert(format!("weights.{name}"), var.as_tensor().clone());
    }
    let images = (0..BATCHES).map(|_| next()).collect::<Result<Vec<_>, _>>()?;
    let noise = (0..BATCHES).map(|step| trainer.noise_of(step, training.batch)).collect::<Result<Vec<_>, _>>()?;
    tensors.insert("images".into(), Tensor::stack(&images, 0)?);
    tensors.insert("noise".into(), Tensor::stack(&noise, 0)?);
    std::fs::create_dir_all(folder)?;
    candle_core::safetensors::save(&tensors, folder.join("case.safetensors"))?;
    let beta = match &model.latent {
        Latent::Gaussian { beta, .. } => beta.value(0, 1),
        Latent::Point { .. } => 0.0,
    };
    let (grid, cell) = (model.grid(image), model.cell(image));
    let description = json!({
        "name": case, "model": model, "image": [image.height, image.width, image.channels], "batch": training.batch,
        "learning_rate": training.learning_rate.value(0, 1), "beta": beta,
        "idle_beta": training.idle_beta.value(0, 1), "location_charge": training.location_charge.value(0, 1), "clip": training.clip,
        "radius": model.selector.radius.value(0, 1) as usize, "grid": [grid.0, grid.1], "cell": [cell.0, cell.1],
    });
    std::fs::write(folder.join("case.json"), serde_json::to_string_pretty(&description)?)?;
    Ok(())
}

/// A case in training.
struct Worker {
    device: Device,
    config: Config,
    image: Extent,
    images: Vec<Tensor>,
    weights: HashMap<String, Tensor>,
    trainer: Trainer,
}

/// Training from the case's weights, before its first step.
fn fresh(config: &Config, image: Extent, weights: &HashMap<String, Tensor>, device: &Device) -> Result<Trainer, Error> {
    let trainer = Trainer::new(config.clone(), image, device)?;
    trainer.variables().load(weights)?;
    Ok(trainer)
}

fn work(folder: &Path, threads: usize, choice: Choice, precision: Precision) -> Result<(), Error> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let description: Value = serde_json::from_slice(&std::fs::read(folder.join("case.json"))?)?;
    let mut config = config(description["name"].as_str().ok_or("case.json has no name")?)?;
    let device = choice.open()?.device;
    device::set_precision(&device, precision)?;
    let tensors = candle_core::safetensors::load(folder.join("case.safetensors"), &device)?;
    let images = &tensors["images"];
    let images = (0..images.dim(0)?).map(|i| images.get(i)).collect::<Result<Vec<_>, _>>()?;
    let (batch, height, width, channels) = images[0].dims4()?;
    config.training.batch = batch;
    let image = Extent::new(height, width, channels);
    let name = |name: &String| name.strip_prefix("weights.").map(str::to_owned);
    let weights = tensors.iter().filter_map(|(n, tensor)| Some((name(n)?, tensor.clone()))).collect();
    let trainer = fresh(&config, image, &weights, &device)?;
    let mut worker = Worker { device: device.clone(), config, image, images, weights, trainer };
    let versions = json!({"multi-entity-vae": env!("CARGO_PKG_VERSION"), "device": device::name(&device)});
    println!("{}", json!({"ready": true, "peer": "ours", "versions": versions, "threads": threads}));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["train", count] => worker.train(count.parse()?)?,
            ["reset"] => worker.reset()?,
            ["infer", count] => worker.infer(count.parse()?)?,
            ["decompose", count] => worker.decompose(count.parse()?)?,
            ["memory"] => json!({"peak_kb": peak_kb()?}),
            ["peak"] => json!({"gflops": peak_gflops()?}),
            ["quit"] => break,
            _ => return Err(format!("{line:?} is no order").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

impl Worker {
    fn train(&mut self, count: usize) -> Result<Value, Error> {
        let (mut ms, mut losses) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let images = &self.images[self.trainer.steps() as usize % self.images.len()];
            let start = Instant::now();
            losses.push(self.trainer.step(images)?.loss);
            ms.push(1e3 * start.elapsed().as_secs_f64());
        }
        Ok(json!({"ms": ms, "losses": losses}))
    }

    fn reset(&mut self) -> Result<Value, Error> {
        self.trainer = fresh(&self.config, self.image, &self.weights, &self.device)?;
        Ok(json!({}))
    }

    /// One image taken apart: entities, their components and strengths, and the merged image, all read.
    fn infer(&self, count: usize) -> Result<Value, Error> {
        let batch = &self.images[0];
        let (model, selection) = (self.trainer.model().at_rest()?, self.trainer.selection());
        let (mut ms, mut ink) = (Vec::new(), [0.0f32; 2]);
        for i in 0..count {
            let image = batch.narrow(0, i % batch.dim(0)?, 1)?;
            let start = Instant::now();
            // On one of the threads that compute, as `Decomposition::of` does it.
            let parts = rayon::scope(|_| -> candle_core::Result<[Vec<f32>; 3]> {
                let inference = model.forward(&image, &selection, None)?;
                let components = inference.components.drawn()?;
                let strengths = model.compositor().strengths(&components)?;
                let read = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
                Ok([read(&components)?, read(&strengths)?, read(&inference.reconstruction()?)?])
            })?;
            ms.push(1e3 * start.elapsed().as_secs_f64());
            ink = [parts[2].iter().sum(), parts[1].iter().sum()];
        }
        // What was made of the last image, for the others to agree with.
        Ok(json!({"ms": ms, "ink": ink}))
    }
}

impl Worker {
    /// Whole batches taken apart: entities, their components and strengths, and the merged images; they stay where they are, and one
    /// number of each is read, for which the device has to have come to their end.
    fn decompose(&self, count: usize) -> Result<Value, Error> {
        let (model, selection) = (self.trainer.model().at_rest()?, self.trainer.selection());
        let mut ms = Vec::new();
        for i in 0..count {
            let images = &self.images[i % self.images.len()];
            let start = Instant::now();
            rayon::scope(|_| -> candle_core::Result<f32> {
                let inference = model.forward(images, &selection, None)?;
                let strengths = model.compositor().strengths(&inference.components.drawn()?)?;
                let last = |x: Tensor| x.flatten_all()?.narrow(0, x.elem_count() - 1, 1);
                (last(inference.reconstruction()?)? + last(strengths)?)?.squeeze(0)?.to_scalar()
            })?;
            ms.push(1e3 * start.elapsed().as_secs_f64());
        }
        Ok(json!({"ms": ms}))
    }
}

/// What one core's units do at most on the instructions in use: two FLOPs for each multiply-add, in GFLOP/s.
fn peak_gflops() -> Result<f64, Error> {
    let arch = arch(Instructions::in_use()?).ok_or("instructions that this processor lacks")?;
    let rate = |_| {
        let start = Instant::now();
        let numbers = arch.dispatch(MultiplyAdds);
        2e-9 * (MultiplyAdds::ROUNDS * MultiplyAdds::CHAINS * numbers) as f64 / start.elapsed().as_secs_f64()
    };
    Ok((0..100).map(rate).fold(0.0, f64::max))
}

#[cfg(target_arch = "x86_64")]
fn arch(instructions: Instructions) -> Option<Arch> {
    match instructions {
        Instructions::Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
        Instructions::Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
        Instructions::Portable => Some(Arch::Scalar),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn arch(_: Instructions) -> Option<Arch> {
    Some(Arch::new())
}

/// Multiply-adds on registers alone, none of which waits for the one before it; gives the numbers that one treats.
struct MultiplyAdds;

impl MultiplyAdds {
    const ROUNDS: usize = 1 << 17;
    /// More than are under way at a time, fewer than there are registers.
    const CHAINS: usize = 12;
}

impl WithSimd for MultiplyAdds {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        let [a, b] = [black_box(0.5), black_box(1.0)].map(|number| simd.splat_f32s(number));
        let mut sums = [simd.splat_f32s(0.0); Self::CHAINS];
        for _ in 0..Self::ROUNDS {
            for sum in &mut sums {
                *sum = simd.mul_add_f32s(*sum, a, b);
            }
        }
        black_box(sums.map(|sum| simd.reduce_sum_f32s(sum)));
        S::F32_LANES
    }
}

/// The most memory that this process ever held.
fn peak_kb() -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
