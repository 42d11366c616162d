//! The layers' kernels one by one, forward and with gradients: `cargo bench --bench kernels`. The counters are multiply-adds
//! (for stacks), numbers or scenes, so that the last column is a rate to be held beside the machine's own.

use candle_core::{DType, Device, Module, Tensor, Var};
use candle_nn::{VarBuilder, VarMap};
use divan::{Bencher, counter::ItemsCount};
use multi_entity_vae::config::{Config, Preset};
use multi_entity_vae::layers::{
    Activation, Extent, LayerSpec, Places, Rule, Stack, bernoulli_log_prob, compose, gaussian_kl, mix, sigmoid,
};
use multi_entity_vae::model::Variables;
use multi_entity_vae::run::{ScenesOf, open_digits};
use multi_entity_vae::scene::Split;
use multi_entity_vae::train::Adam;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

/// Layers alone, each named as it is spelled in a configuration: input extent, images, layer, multiply-adds of one image.
const LAYERS: [(&str, Extent, usize, LayerSpec, usize); 5] = [
    ("dense 784→256", Extent::vector(784), 100, LayerSpec::Dense(256), 784 * 256),
    ("3×3 s1 48→48 on 16×16", Extent::new(16, 16, 48), 32, convolution(48, 3, 1), 256 * 9 * 48 * 48),
    ("8×8 s4 1→32 on 64×64", Extent::new(64, 64, 1), 32, convolution(32, 8, 4), 256 * 64 * 32),
    ("up 4×4 s2 32→16 on 16×16", Extent::new(16, 16, 32), 64, upconvolution(16, 4, 2), 256 * 16 * 32 * 16),
    ("up 4×4 s2 16→1 on 32×32", Extent::new(32, 32, 16), 64, upconvolution(1, 4, 2), 1024 * 16 * 16),
];

const fn convolution(channels: usize, kernel: usize, stride: usize) -> LayerSpec {
    LayerSpec::Convolution { channels, kernel, stride }
}

const fn upconvolution(channels: usize, kernel: usize, stride: usize) -> LayerSpec {
    LayerSpec::Upconvolution { channels, kernel, stride }
}

const NAMES: [usize; LAYERS.len()] = [0, 1, 2, 3, 4];

fn layer(index: usize) -> (Stack, Tensor, usize) {
    let (_, extent, images, spec, work) = LAYERS[index];
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let stack = Stack::new(extent, &[(spec, Activation::Relu)], vb).expect("a layer");
    let shape = (images, extent.height, extent.width, extent.channels);
    (stack, Tensor::randn(0f32, 1.0, shape, &Device::Cpu).expect("images"), images * work)
}

#[divan::bench(args = NAMES)]
fn forward(bencher: Bencher<'_, '_>, index: usize) {
    let (stack, x, work) = layer(index);
    let stack = stack.at_rest().expect("weights at rest");
    bencher.counter(ItemsCount::new(work)).bench(|| stack.forward(&x));
}

#[divan::bench(args = NAMES)]
fn forward_and_gradients(bencher: Bencher<'_, '_>, index: usize) {
    let (stack, x, work) = layer(index);
    let x = Var::from_tensor(&x).expect("a variable");
    bencher.counter(ItemsCount::new(3 * work)).bench(|| stack.forward(&x)?.sum_all()?.backward());
}

#[divan::bench(args = [Rule::Union, Rule::Sum, Rule::Max])]
fn composition(bencher: Bencher<'_, '_>, rule: Rule) {
    let patches = Tensor::randn(0f32, 3.0, (128, 36, 36, 1), &Device::Cpu).expect("patches");
    let corners: Vec<_> = (0..128).map(|i| (i % 40 - 4, i * 7 % 40 - 4)).collect();
    let places = Places::at(&corners, (36, 36), (64, 64), -16.0, &Device::Cpu).expect("places");
    bencher.counter(ItemsCount::new(128 * 36 * 36usize)).bench(|| compose(&patches, rule, 4, &places));
}

#[divan::bench]
fn mixture(bencher: Bencher<'_, '_>) {
    let patches = Tensor::randn(0f32, 3.0, (160, 28, 28, 4), &Device::Cpu).expect("patches");
    let grounds = Tensor::randn(0f32, 1.0, (32, 1, 1, 3), &Device::Cpu).expect("grounds");
    let corners: Vec<_> = (0..160).map(|i| (i % 40 - 4, i * 7 % 40 - 4)).collect();
    let places = Places::at(&corners, (28, 28), (64, 64), -16.0, &Device::Cpu).expect("places");
    bencher.counter(ItemsCount::new(160 * 28 * 28 * 4usize)).bench(|| mix(&patches, &grounds, 5, &places));
}

#[divan::bench]
fn kl(bencher: Bencher<'_, '_>) {
    let parameters = Tensor::randn(0f32, 1.0, (32, 256, 32), &Device::Cpu).expect("means and log-variances");
    bencher.counter(ItemsCount::new(32 * 256 * 16usize)).bench(|| gaussian_kl(&parameters, 10.0));
}

#[divan::bench]
fn bernoulli(bencher: Bencher<'_, '_>) {
    let logits = Tensor::randn(0f32, 3.0, (32, 64, 64, 1), &Device::Cpu).expect("logits");
    let targets = Tensor::rand(0f32, 1.0, (32, 64, 64, 1), &Device::Cpu).expect("targets");
    bencher.counter(ItemsCount::new(32 * 64 * 64usize)).bench(|| bernoulli_log_prob(&logits, &targets));
}

#[divan::bench]
fn sigmoids(bencher: Bencher<'_, '_>) {
    let logits = Tensor::randn(0f32, 3.0, (32, 64, 64, 1), &Device::Cpu).expect("logits");
    bencher.counter(ItemsCount::new(32 * 64 * 64usize)).bench(|| sigmoid(&logits));
}

/// A step over a million parameters.
#[divan::bench]
fn adam(bencher: Bencher<'_, '_>) {
    let variables = Variables::new(0);
    let weight = variables.builder(DType::F32, &Device::Cpu).get((1024, 1024), "weight").expect("a variable");
    let gradients = weight.sqr().and_then(|squares| squares.sum_all()?.backward()).expect("a gradient");
    let mut adam = Adam::new(&variables).expect("moments");
    bencher.counter(ItemsCount::new(1024 * 1024usize)).bench_local(|| adam.step(&gradients, 1e-3, 1.0));
}

/// A batch made by one thread, which has had none waiting.
#[divan::bench(args = ["air", "digits", "survey", "sprites", "tetrominoes"])]
fn scenes(bencher: Bencher<'_, '_>, recipe: &str) {
    let settings = [format!("data.scenes={recipe}")];
    let config = Config::resolve(Preset::MultiEntity, None, &settings).expect("a recipe");
    let digits = open_digits(&config.data.digits).expect("digits");
    let scenes = ScenesOf::open(&config.data, digits, Split::Train, 0).expect("scenes");
    let mut batches = scenes.batches(&config, 0, 1).expect("batches");
    bencher.counter(ItemsCount::new(config.training.batch)).bench_local(|| batches.next());
}
