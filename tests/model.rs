//! The model's parts by closed forms and properties, and the whole of it over lists of all variants.

use crate::gradients;
use candle_core::{D, DType, Device, IndexOp, Result, Tensor, Var};
use multi_entity_vae::config::{
    Background, Colours, CompositorConfig, Config, ConvolutionConfig, DecoderConfig, DecoderTrunk, EncoderConfig,
    Latent, Likelihood, ModelConfig, Placement, Posteriors, Preset, Rank, SelectorConfig,
};
use multi_entity_vae::evaluate::{Decomposition, presence};
use multi_entity_vae::layers::{Activation, Extent, top_k};
use multi_entity_vae::model::{
    Cells, Compositor, Encoder, Inference, LOG_VAR_LIMIT, Model, NOTHING, Posterior, Selection, Variables, Weights,
};
use multi_entity_vae::random;
use proptest::prelude::*;
use rand::Rng;

const CPU: Device = Device::Cpu;

fn normals(name: &str, shape: &[usize]) -> Result<Tensor> {
    let mut values = vec![0f32; shape.iter().product()];
    random::normals(&mut random::stream(2, name, 0), &mut values);
    Tensor::from_vec(values, shape, &CPU)?.to_dtype(DType::F64)
}

fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

fn spread(a: &Tensor, b: &Tensor) -> Result<f64> {
    assert_eq!(a.dims(), b.dims());
    Ok(numbers(a)?.iter().zip(numbers(b)?).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max))
}

fn sigmoid(l: f64) -> f64 {
    1.0 / (1.0 + (-l).exp())
}

fn softplus(l: f64) -> f64 {
    l.max(0.0) + (-l.abs()).exp().ln_1p()
}

// ---------------------------------------------------------------------------------------------- all variants

/// One model, what it is run on and how many entities it keeps.
pub struct Variant {
    pub config: ModelConfig,
    image: Extent,
    batch: usize,
    pub seed: u64,
}

fn encoders(activation: Activation) -> Vec<EncoderConfig> {
    let down = vec![ConvolutionConfig::new(4, 4, 2), ConvolutionConfig::new(5, 3, 2)];
    let again = vec![ConvolutionConfig::new(4, 5, 4), ConvolutionConfig::up(3, 2, 2)];
    let grid =
        |layers, posteriors, coordinates| EncoderConfig::Convolutional { layers, activation, posteriors, coordinates };
    vec![
        EncoderConfig::Dense { hidden: vec![6], activation },
        grid(down.clone(), Posteriors::PerCell, false),
        grid(down.clone(), Posteriors::PerCell, true),
        grid(down, Posteriors::Whole, false),
        grid(again, Posteriors::PerCell, true),
    ]
}

fn trunks(activation: Activation) -> Vec<DecoderTrunk> {
    let up = |hidden, layers, kernel, stride| DecoderTrunk::Convolutional {
        hidden,
        base: 2,
        layers,
        kernel,
        stride,
        activation,
    };
    vec![
        DecoderTrunk::Dense { hidden: vec![6], activation },
        up(vec![5], vec![ConvolutionConfig::new(3, 3, 2)], 4, 2),
        up(vec![], vec![], 5, 3),
    ]
}

/// Every encoder with every placement, trunk, compositor and likelihood; each with a draw of everything else.
pub fn variants() -> Vec<Variant> {
    let mut variants = Vec::new();
    for encoder in 0..encoders(Activation::Tanh).len() {
        for placement in [Placement::Canvas, Placement::Glimpse { patch: 5 }] {
            for trunk in 0..trunks(Activation::Tanh).len() {
                for compositor in CompositorConfig::ALL {
                    for likelihood in [Likelihood::Bernoulli, Likelihood::Gaussian { deviation: 0.4 }] {
                        let seed = variants.len() as u64;
                        let draws = !matches!(compositor, CompositorConfig::Render { .. });
                        let mut rng = random::stream(0, "variants", seed);
                        // Smooth everywhere, so that finite differences hold.
                        let activation = [Activation::Tanh, Activation::Sigmoid][rng.random_range(0..2)];
                        let latent = match rng.random_range(0..3) {
                            0 => Latent::Point { dimensions: 3, activation },
                            _ => Latent::Gaussian { dimensions: 3, beta: 1.0.into() },
                        };
                        let sides = [(9, 7), (6, 11), (8, 8)][rng.random_range(0..3)];
                        let image = Extent::new(sides.0, sides.1, [1, 3][rng.random_range(0..2)]);
                        let mut config = ModelConfig {
                            encoder: encoders(activation)[encoder].clone(),
                            selector: SelectorConfig {
                                rank_by: Rank::ALL[rng.random_range(0..Rank::ALL.len())],
                                radius: f64::from(rng.random_range(0..3u8)).into(),
                                overlap: if seed % 5 == 2 && draws { 0.45 } else { 1.0 }.into(),
                                warm_start: 0.0,
                            },
                            entities: 1,
                            decoder: DecoderConfig {
                                placement,
                                trunk: trunks(activation)[trunk].clone(),
                                coordinates: rng.random(),
                            },
                            compositor,
                            likelihood,
                            latent,
                        };
                        let (rows, columns) = config.grid(image);
                        let n = rows * columns;
                        config.entities = rng.random_range(1..=n.min(4));
                        if matches!(config.latent, Latent::Point { .. }) && config.selector.rank_by == Rank::Kl {
                            config.entities = n;
                        }
                        config.validate(image).unwrap_or_else(|e| panic!("variant {seed}: {e}"));
                        let batch = [1, 3][rng.random_range(0..2)];
                        variants.push(Variant { config, image, batch, seed });
                    }
                }
            }
        }
    }
    assert_eq!(variants.len(), 480);
    for rank in Rank::ALL {
        let some = |v: &&Variant| v.config.selector.rank_by == rank && v.config.entities > 1 && v.image.channels > 1;
        assert!(variants.iter().filter(some).count() > 5, "{rank:?} is hardly tried");
    }
    variants
}

pub struct Built {
    model: Model,
    pub variables: Variables,
    images: Tensor,
    noise: Tensor,
    selection: Selection,
}

impl Variant {
    pub fn build(&self) -> Result<Built> {
        let variables = Variables::new(self.seed);
        let model = Model::new(&self.config, self.image, variables.builder(DType::F64, &CPU))?;
        for (name, var) in variables.all() {
            if name.ends_with("bias") {
                var.set(&(normals(&name, var.dims())? * 0.3)?)?;
            }
        }
        if let CompositorConfig::Render { features } = self.config.compositor {
            // Its rectified units are kept clear of their kink, half of them on either side.
            let named = |wanted: &str| variables.all().into_iter().find(|(name, _)| name == wanted).expect(wanted).1;
            let (weight, bias) = (named("compositor.0.weight"), named("compositor.0.bias"));
            weight.set(&(weight.as_tensor() * 0.2)?)?;
            let apart = (0..features).map(|i| if i % 2 == 0 { 4.0 } else { -4.0 });
            bias.set(&Tensor::from_iter(apart, &CPU)?)?;
        }
        if self.config.compositor == CompositorConfig::Sum && self.config.decoder.placement == Placement::Canvas {
            // Evidence is counted from the logit of nothing: K components around 0 would saturate every pixel.
            let all = variables.all();
            let (_, bias) =
                all.iter().rfind(|(name, _)| name.starts_with("decoder") && name.ends_with("bias")).expect("a decoder");
            bias.set(&(bias.as_tensor() + NOTHING * (1.0 - 1.0 / self.config.entities as f64))?)?;
        }
        let Extent { height, width, channels } = self.image;
        let images = normals("images", &[self.batch, height, width, channels])?.affine(0.4, 0.4)?.clamp(0.0, 1.0)?;
        let noise = normals("noise", &[self.batch, self.config.entities, self.config.latent.dimensions()])?;
        let selection = Selection::trained(&self.config, self.seed);
        Ok(Built { model, variables, images, noise, selection })
    }
}

impl Built {
    /// The same model, with the same weights, in another number type or on another device.
    #[cfg(feature = "cuda")]
    pub fn on(&self, variant: &Variant, dtype: DType, device: &Device) -> Result<Self> {
        let moved = |x: &Tensor| x.to_dtype(dtype)?.to_device(device);
        let variables = Variables::new(variant.seed);
        let model = Model::new(&variant.config, variant.image, variables.builder(dtype, device))?;
        variables
            .load(&self.variables.all().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect())?;
        let (images, noise) = (moved(&self.images)?, moved(&self.noise)?);
        Ok(Self { model, variables, images, noise, selection: self.selection })
    }

    pub fn forward(&self) -> Result<Inference> {
        self.model.forward(&self.images, &self.selection, Some(&self.noise))
    }

    pub fn loss(&self, inference: &Inference) -> Result<Tensor> {
        Weights { beta: 1.5, idle_beta: 0.2, location_charge: 0.7 }.loss(inference, &self.images)?.total()
    }
}

#[test]
fn every_variant_has_the_shapes_it_says() -> Result<()> {
    for variant in variants() {
        let built = variant.build()?;
        let out = built.forward()?;
        let (rows, columns) = variant.config.grid(variant.image);
        let (b, k, d) = (variant.batch, variant.config.entities, variant.config.latent.dimensions());
        let Extent { height, width, channels } = variant.image;
        let what = format!("variant {}: {:?}", variant.seed, variant.config);
        assert_eq!(out.candidates.dims2()?, (b, rows * columns), "{what}");
        assert_eq!(out.entities.dims2()?, (b, k), "{what}");
        for cells in &out.cells.lists()? {
            let different: std::collections::BTreeSet<_> = cells.iter().collect();
            assert!(different.len() == k && cells.iter().all(|c| *c < rows * columns), "{what}: cells {cells:?}");
        }
        let component = variant.config.compositor.component_channels(channels);
        assert_eq!(out.z.dims(), [b, k, d], "{what}");
        let components = out.components.drawn()?;
        assert_eq!(components.dims(), [b, k, height, width, component], "{what}");
        // Composed while they are decoded or each drawn on a canvas first: the same image.
        assert!(spread(&out.logits, &out.compositor.compose_drawn(&components)?)? < 1e-10, "{what}");
        assert_eq!(out.logits.dims(), built.images.dims(), "{what}");
        assert_eq!(out.log_prob(&built.images)?.dims(), [b], "{what}");
        let strengths = built.model.compositor().strengths(&components)?;
        assert_eq!(strengths.dims(), [b, k, height, width], "{what}");
        for x in [&out.reconstruction()?, &strengths] {
            assert!(numbers(x)?.iter().all(|p| (0.0..=1.0).contains(p)), "{what}");
        }
        assert!(numbers(&built.loss(&out)?)?[0].is_finite(), "{what}");
    }
    Ok(())
}

/// At rest weights are arranged otherwise, and what is drawn is drawn once for the merged image and for those who look at it.
#[test]
fn a_model_at_rest_makes_of_images_what_it_made_before() -> Result<()> {
    for variant in variants() {
        let built = variant.build()?;
        let before = built.forward()?;
        let at_rest = built.model.at_rest()?.forward(&built.images, &built.selection, Some(&built.noise))?;
        assert_eq!(at_rest.cells.lists()?, before.cells.lists()?, "variant {}", variant.seed);
        let drawn = (at_rest.components.drawn()?, before.components.drawn()?);
        for (a, b) in [drawn, (at_rest.logits, before.logits)] {
            assert!(spread(&a, &b)? < 1e-9, "variant {}", variant.seed);
        }
    }
    Ok(())
}

#[test]
fn an_image_is_treated_alike_alone_and_in_a_batch() -> Result<()> {
    for variant in variants().iter().filter(|v| v.batch > 1 && v.config.selector.rank_by != Rank::Random) {
        let built = variant.build()?;
        let together = built.forward()?;
        for i in 0..variant.batch {
            let one = |x: &Tensor| x.narrow(0, i, 1);
            let alone = built.model.forward(&one(&built.images)?, &built.selection, Some(&one(&built.noise)?))?;
            assert_eq!(alone.cells.lists()?[0], together.cells.lists()?[i], "variant {}", variant.seed);
            assert!(spread(&alone.logits, &one(&together.logits)?)? < 1e-9, "variant {}", variant.seed);
        }
    }
    Ok(())
}

#[test]
fn samples_are_weighed_on_their_own_images_ground() -> Result<()> {
    let of_ground = |v: &&Variant| {
        let estimated = matches!(v.config.compositor, CompositorConfig::Mixture { background, .. } if background != Background::Learned);
        estimated
            && v.batch > 1
            && matches!(v.config.latent, Latent::Gaussian { .. })
            && v.config.selector.rank_by != Rank::Random
    };
    let mut weighed = 0;
    for variant in variants().iter().filter(of_ground) {
        let built = variant.build()?;
        let encoding = built.model.encode(&built.images, &built.selection)?;
        let noise = Tensor::randn(0f64, 1.0, (variant.batch, 4, variant.config.entities, 3), &CPU)?;
        let z = encoding.entities.samples(&noise)?;
        let together = built.model.weigh(&built.images, &encoding, &z, &noise)?.log_likelihood;
        for i in 0..variant.batch {
            let one = |x: &Tensor| x.narrow(0, i, 1);
            let alone = built.model.encode(&one(&built.images)?, &built.selection)?;
            let alone = built.model.weigh(&one(&built.images)?, &alone, &one(&z)?, &one(&noise)?)?.log_likelihood;
            assert!(spread(&alone, &one(&together)?)? < 1e-9, "variant {}", variant.seed);
            weighed += 1;
        }
    }
    assert!(weighed > 50, "{weighed}");
    Ok(())
}

/// log p(x|z) − ½ Σ z² of each image: what of the bound at the means depends on them.
fn bound_at(built: &Built, inference: &Inference, z: &Tensor) -> Result<Vec<f64>> {
    let logits = inference.compositor.compose(&built.model.decode(z, &inference.cells)?)?;
    let fit = built.model.likelihood().log_prob(&logits, &built.images)?;
    numbers(&(fit - (z.sqr()?.flatten_from(1)?.sum(1)? * 0.5)?)?)
}

#[test]
fn refined_means_say_more_and_leave_the_rest_alone() -> Result<()> {
    let mut better = 0;
    for variant in variants() {
        let built = variant.build()?;
        let before = built.model.forward(&built.images, &built.selection, None)?;
        let all = |images: usize| Tensor::ones((images, variant.config.entities), DType::F64, &CPU);
        let after = built.model.refined(&before, &built.images, &all(variant.batch)?, 8)?;
        let what = format!("variant {}: {:?}", variant.seed, variant.config);
        let bounds = |of: &Inference| match of.entities.is_point() {
            true => numbers(&of.log_prob(&built.images)?),
            false => bound_at(&built, of, &of.z),
        };
        for (before, after) in bounds(&before)?.into_iter().zip(bounds(&after)?) {
            assert!(after >= before, "{what}: {after} after {before}");
            better += usize::from(after > before);
        }
        assert_eq!(after.cells.lists()?, before.cells.lists()?, "{what}");
        let log_var = |of: &Inference| of.entities.log_var()?.map(|x| numbers(&x)).transpose();
        assert_eq!(log_var(&after)?, log_var(&before)?, "{what}");
        assert_eq!(numbers(&after.z)?, numbers(&after.entities.mean()?)?, "{what}");
        for i in 0..variant.batch {
            if built.selection.rank_by == Rank::Random {
                continue;
            }
            let one = |x: &Tensor| x.narrow(0, i, 1);
            let alone = built.model.forward(&one(&built.images)?, &built.selection, None)?;
            let alone = built.model.refined(&alone, &one(&built.images)?, &all(1)?, 8)?;
            assert!(spread(&alone.z, &one(&after.z)?)? < 1e-6, "{what}: image {i} depends on the others");
        }
        let none = built.model.refined(&before, &built.images, &all(variant.batch)?.zeros_like()?, 8)?;
        assert_eq!(numbers(&none.z)?, numbers(&before.z)?, "{what}: nothing was to be refined");
    }
    let images: usize = variants().iter().map(|variant| variant.batch).sum();
    assert!(better > images * 9 / 10, "only {better} of {images} images gained");
    Ok(())
}

#[test]
fn refined_for_long_means_are_a_maximum() -> Result<()> {
    let gaussian = |v: &&Variant| {
        matches!(v.config.latent, Latent::Gaussian { .. })
            && matches!(v.config.decoder.trunk, DecoderTrunk::Dense { .. })
    };
    for variant in variants().iter().filter(gaussian).step_by(7) {
        let built = variant.build()?;
        let before = built.model.forward(&built.images, &built.selection, None)?;
        let all = Tensor::ones((variant.batch, variant.config.entities), DType::F64, &CPU)?;
        let z = built.model.refined(&before, &built.images, &all, 2000)?.z;
        let there: f64 = bound_at(&built, &before, &z)?.iter().sum();
        let values = numbers(&z)?;
        for (i, step) in (0..values.len()).flat_map(|i| [(i, 0.01), (i, -0.01)]) {
            let mut moved = values.clone();
            moved[i] += step;
            let beside: f64 = bound_at(&built, &before, &Tensor::from_vec(moved, z.shape(), &CPU)?)?.iter().sum();
            assert!(beside < there + 1e-6, "variant {}: number {i}, {beside} beside {there}", variant.seed);
        }
    }
    Ok(())
}

#[test]
fn every_variable_of_every_variant_receives_a_gradient() -> Result<()> {
    for variant in variants() {
        let built = variant.build()?;
        let gradients = built.loss(&built.forward()?)?.backward()?;
        for (name, var) in built.variables.all() {
            let what = format!("variant {}, {name}: {:?}", variant.seed, variant.config);
            let Some(gradient) = gradients.get(&var) else { panic!("no gradient for {what}") };
            let gradient = numbers(gradient)?;
            assert!(gradient.iter().all(|g| g.is_finite()), "{what}");
            assert!(gradient.iter().any(|g| *g != 0.0), "{what}");
        }
    }
    Ok(())
}

#[test]
fn a_fresh_model_of_every_variant_can_learn() -> Result<()> {
    let mut stuck = Vec::new();
    for variant in variants() {
        let variables = Variables::new(variant.seed);
        let model = Model::new(&variant.config, variant.image, variables.builder(DType::F32, &CPU))?;
        let Built { images, noise, selection, .. } = variant.build()?;
        let images = images.to_dtype(DType::F32)?;
        let inference = model.forward(&images, &selection, Some(&noise.to_dtype(DType::F32)?))?;
        let loss = Weights { beta: 1.0, ..Weights::default() }.loss(&inference, &images)?;
        let gradients = loss.reconstruction()?.backward()?;
        for (name, var) in variables.all() {
            let gradient = gradients.get(&var).map_or(Ok(vec![]), numbers)?;
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            if norm < 1e-6 {
                let (compositor, likelihood) = (variant.config.compositor, variant.config.likelihood);
                stuck.push(format!("variant {}, {name}: {norm} ({compositor:?}, {likelihood:?})", variant.seed));
            }
        }
    }
    assert!(stuck.is_empty(), "{} variables have no gradient to speak of:\n{}", stuck.len(), stuck.join("\n"));
    Ok(())
}

#[test]
fn gradients_of_the_whole_model_agree_with_finite_differences() -> Result<()> {
    for variant in variants().iter().step_by(3) {
        let built = variant.build()?;
        let cells = built.forward()?.cells.lists()?;
        for (name, var) in built.variables.all() {
            gradients::check(&format!("variant {}, {name}", variant.seed), &var, 3, || {
                let inference = built.forward()?;
                assert_eq!(inference.cells.lists()?, cells, "a difference must not cross a selection");
                built.loss(&inference)
            })?;
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------- compositors

fn compositor(config: &CompositorConfig, image: Extent, dtype: DType) -> Result<Compositor> {
    Compositor::new(config, image, Variables::new(3).builder(dtype, &CPU))
}

/// All sequences of `n` of the values.
fn sequences(values: &[f64], n: usize) -> Vec<Vec<f64>> {
    let longer =
        |all: Vec<Vec<f64>>| all.iter().flat_map(|s| values.iter().map(|v| [s.as_slice(), &[*v]].concat())).collect();
    (0..n).fold(vec![vec![]], |all, _| longer(all))
}

/// The composed logit of one pixel in double precision; for a mixture, colours and masks alternate.
fn closed_form(config: &CompositorConfig, l: &[f64]) -> f64 {
    let log_sum = |terms: &[f64]| {
        let largest = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + terms.iter().map(|t| (t - largest).exp()).sum::<f64>().ln()
    };
    match config {
        CompositorConfig::Union => {
            let none: f64 = l.iter().copied().map(softplus).sum(); // −log Π (1 − p_k)
            if none > 30.0 { none + (-(-none).exp()).ln_1p() } else { none.exp_m1().ln() }
        }
        CompositorConfig::Sum => l.iter().map(|l| l - NOTHING).sum::<f64>() + NOTHING,
        CompositorConfig::Max => l.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        CompositorConfig::Mixture { background, .. } => {
            let ground = if *background == Background::Learned { -2.0 } else { 0.0 };
            let parts: Vec<_> = std::iter::once((ground, 0.0)).chain(l.chunks(2).map(|p| (p[0], p[1]))).collect();
            let side = |sign: f64| log_sum(&parts.iter().map(|(c, m)| m - softplus(sign * c)).collect::<Vec<_>>());
            side(-1.0) - side(1.0) // the weights' normaliser cancels
        }
        CompositorConfig::Render { .. } => unreachable!("a network has no closed form"),
    }
}

#[test]
fn a_median_background_is_each_images_own() -> Result<()> {
    let config = CompositorConfig::Mixture { background: Background::Median, colours: Colours::PerPixel };
    let extent = Extent::new(3, 5, 3);
    let unbound = compositor(&config, extent, DType::F64)?;
    // Two grounds, among them black and white, and ink on seven of fifteen pixels.
    let grounds = [[0.2, 0.0, 1.0], [0.6, 0.8, 0.5]];
    let pixel = |b: usize, i: usize, c: usize| if i % 2 == 1 { 0.37 } else { grounds[b][c] };
    let pixels = (0..2).flat_map(|b| (0..15).flat_map(move |i| (0..3).map(move |c| pixel(b, i, c))));
    let images = Tensor::from_iter(pixels.collect::<Vec<_>>(), &CPU)?.reshape((2, 3, 5, 3))?;
    let absent = Tensor::full(NOTHING, (2, 2, 3, 5, 4), &CPU)?;
    let drawn = |compositor: &Compositor, absent: &Tensor| -> Result<Vec<Vec<f64>>> {
        let images = candle_nn::ops::sigmoid(&compositor.compose_drawn(absent)?)?;
        images.reshape((absent.dim(0)?, 15, 3))?.mean(1)?.to_vec2()
    };
    let bound = unbound.on(&images)?;
    for (b, ground) in grounds.iter().enumerate() {
        let alone = drawn(&bound.of_image(b)?, &absent.narrow(0, b, 1)?)?;
        for (c, level) in ground.iter().enumerate() {
            let here = drawn(&bound, &absent)?[b][c];
            assert!((here - level).abs() < 1.0 / 255.0 && here > 0.0 && here < 1.0, "{here} is not {level}");
            assert_eq!(alone[0][c], here);
        }
    }
    assert!(drawn(&unbound, &absent)?.concat().iter().all(|p| (p - 0.5).abs() < 1e-6), "no image is known");
    assert_eq!(unbound.background_nats(extent), 3.0 * 256f64.ln());
    let learned = CompositorConfig::Mixture { background: Background::Learned, colours: Colours::PerPixel };
    let learned = compositor(&learned, extent, DType::F64)?;
    assert_eq!(
        (learned.background_nats(extent), drawn(&learned.on(&images)?, &absent)?),
        (0.0, drawn(&learned, &absent)?)
    );
    Ok(())
}

#[test]
fn a_background_of_lines_is_that_of_rows_and_columns() -> Result<()> {
    let config = CompositorConfig::Mixture { background: Background::Lines, colours: Colours::PerPixel };
    let extent = Extent::new(13, 15, 2);
    let unbound = compositor(&config, extent, DType::F64)?;
    // A grid in each of two images and channels, and ink on a fifth of every line.
    let ground = |b: usize, y: usize, x: usize, c: usize| {
        let (row, column) = ([0.2, 0.8][b] * ((y + c) % 4 / 3) as f64, 0.4 * ((x + b) % 4 / 3) as f64);
        if row > column { row } else { column }
    };
    let all =
        || (0..2).flat_map(|b| (0..13).flat_map(move |y| (0..15).flat_map(move |x| (0..2).map(move |c| (b, y, x, c)))));
    let inked = |y: usize, x: usize| (2 * y + x).is_multiple_of(5);
    let pixels = all().map(|(b, y, x, c)| if inked(y, x) { 1.0 } else { ground(b, y, x, c) });
    let images = Tensor::from_iter(pixels.collect::<Vec<_>>(), &CPU)?.reshape((2, 13, 15, 2))?;
    let absent = Tensor::full(NOTHING, (2, 3, 13, 15, 3), &CPU)?;
    let bound = unbound.on(&images)?;
    let drawn = numbers(&candle_nn::ops::sigmoid(&bound.compose_drawn(&absent)?)?)?;
    for ((b, y, x, c), drawn) in all().zip(&drawn) {
        assert!((drawn - ground(b, y, x, c)).abs() < 1.0 / 255.0, "{drawn} at {:?}", (b, y, x, c));
    }
    let seen = bound.ground(2, extent)?.expect("a mixture covers");
    assert!(numbers(&seen)?.iter().zip(&drawn).all(|(seen, drawn)| (seen - drawn).abs() < 1e-6));
    let second = bound.of_image(1)?.compose_drawn(&absent.narrow(0, 1, 1)?)?;
    let of_second = numbers(&bound.compose_drawn(&absent)?)?.split_off(13 * 15 * 2);
    assert_eq!(numbers(&second)?, of_second);
    assert_eq!(unbound.background_nats(extent), 2.0 * 28.0 * 256f64.ln());
    Ok(())
}

#[test]
fn fresh_whole_images_are_no_brighter_together_than_one_alone() -> Result<()> {
    for entities in [1, 4, 24, 256] {
        let mut config = Preset::MultiEntity.config().model;
        (config.decoder.placement, config.entities) = (Placement::Canvas, entities);
        let start = Compositor::initial_logit(&config);
        let components = Tensor::full(start, (1, entities, 1, 1, 1), &CPU)?;
        let together = compositor(&config.compositor, Extent::new(1, 1, 1), DType::F64)?.compose_drawn(&components)?;
        assert!(numbers(&together)?[0].abs() < 1e-12, "{entities}: {together}");
    }
    Ok(())
}

#[test]
fn an_entity_of_uniform_colour_has_one_colour_and_a_mask() -> Result<()> {
    let mut config = Preset::MultiEntity.config().model;
    config.compositor = CompositorConfig::Mixture { background: Background::Median, colours: Colours::Uniform };
    let variables = Variables::new(3);
    let image = Extent::new(64, 64, 3);
    let model = Model::new(&config, image, variables.builder(DType::F32, &CPU))?;
    assert_eq!(variables.count(), config.parameters(image));
    // Two entities in the cells (2, 5) and (8, 8), whose patches of 36 pixels do not cover everything.
    let z = Tensor::randn(0f32, 1.0, (1, 2, 16), &CPU)?;
    let drawn = model.decode(&z, &Cells::new(&[vec![2 * 16 + 5, 8 * 16 + 8]], &CPU)?)?.drawn()?;
    assert_eq!(drawn.dims(), [1, 2, 64, 64, 4]);
    let mut seen = Vec::new();
    for entity in 0..2 {
        let pixels = drawn.get(0)?.get(entity)?.reshape((64 * 64, 4))?.to_vec2::<f32>()?;
        let inside: Vec<_> = pixels.iter().filter(|pixel| pixel[3] != NOTHING as f32).collect();
        assert!(inside.len() > 500 && inside.len() <= 36 * 36, "{} pixels", inside.len());
        assert!(inside.iter().all(|pixel| pixel[..3] == inside[0][..3]));
        assert!(inside.iter().any(|pixel| pixel[3] != inside[0][3]), "the mask has a shape");
        seen.push(inside[0][..3].to_vec());
    }
    assert_ne!(seen[0], seen[1]);
    Ok(())
}

#[test]
fn extreme_components_give_finite_and_right_logits() -> Result<()> {
    for config in CompositorConfig::ALL {
        for dtype in [DType::F32, DType::F64] {
            let channels = config.component_channels(1);
            let k = if channels == 1 { 3 } else { 2 };
            let values: &[f64] = if channels > 2 { &[-120.0, 120.0] } else { &[-120.0, -16.0, -1.0, 0.5, 120.0] };
            let pixels = sequences(values, k * channels);
            let n = pixels.len();
            let data = Tensor::from_iter(pixels.iter().flatten().copied(), &CPU)?.reshape((1, n, 1, k, channels))?;
            let components = data.permute((0, 3, 1, 2, 4))?.contiguous()?.to_dtype(dtype)?; // (1, K, n, 1, channels)
            let components = Var::from_tensor(&components)?;
            let compositor = compositor(&config, Extent::new(n, 1, 1), dtype)?;
            let composed = compositor.compose_drawn(&components)?;
            assert_eq!(composed.dims(), [1, n, 1, 1]);
            for (logit, pixel) in numbers(&composed)?.iter().zip(&pixels) {
                assert!(logit.is_finite(), "{config:?} of {pixel:?}: {logit}");
                if !matches!(config, CompositorConfig::Render { .. }) {
                    let exact = closed_form(&config, pixel);
                    let tolerance = if dtype == DType::F64 { 1e-10 } else { 1e-5 } * (1.0 + exact.abs());
                    let error = (logit - exact).abs();
                    assert!(error < tolerance, "{config:?} of {pixel:?} in {dtype:?}: {logit} is not {exact}");
                }
            }
            let gradients = composed.sum_all()?.backward()?;
            let gradient = numbers(gradients.get(&components).expect("a gradient"))?;
            assert!(gradient.iter().all(|g| g.is_finite()), "gradient of {config:?} in {dtype:?}");
            for strength in numbers(&compositor.strengths(&components)?)? {
                assert!((0.0..=1.0).contains(&strength), "{config:?} in {dtype:?}: strength {strength}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_not_a_number_does_not_disappear() -> Result<()> {
    for config in CompositorConfig::ALL {
        for dtype in [DType::F32, DType::F64] {
            for place in 0..3 {
                let channels = config.component_channels(1);
                let mut values = vec![0.5; 3 * 4 * channels];
                values[place * 4 * channels] = f64::NAN;
                let components = Tensor::from_vec(values, (1, 3, 2, 2, channels), &CPU)?.to_dtype(dtype)?;
                let logits = compositor(&config, Extent::new(2, 2, 1), dtype)?.compose_drawn(&components)?;
                let found = numbers(&logits)?.iter().any(|l| l.is_nan());
                // candle's maximum passes over it; the KL and the other pixels of a broken component do not.
                assert!(found || config == CompositorConfig::Max, "{config:?} in {dtype:?} hides component {place}");
            }
        }
    }
    Ok(())
}

#[test]
fn one_component_is_composed_to_itself() -> Result<()> {
    for config in [CompositorConfig::Union, CompositorConfig::Sum, CompositorConfig::Max] {
        let one = normals("one", &[2, 1, 3, 4, 3])?;
        let compositor = compositor(&config, Extent::new(3, 4, 3), DType::F64)?;
        assert_eq!(spread(&compositor.compose_drawn(&one)?, &one.squeeze(1)?)?, 0.0, "{config:?}");
        let strengths = compositor.strengths(&one)?;
        let ink = candle_nn::ops::sigmoid(&one)?.max(D::Minus1)?;
        assert!(spread(&strengths, &ink)? < 1e-12, "{config:?}");
    }
    Ok(())
}

#[test]
fn the_order_of_components_does_not_matter() -> Result<()> {
    for config in CompositorConfig::ALL {
        let channels = config.component_channels(3);
        let components = normals("components", &[2, 4, 3, 5, channels])?.affine(3.0, 0.0)?;
        let compositor = compositor(&config, Extent::new(3, 5, 3), DType::F64)?;
        let (composed, strengths) = (compositor.compose_drawn(&components)?, compositor.strengths(&components)?);
        for order in [[3u32, 1, 0, 2], [1, 0, 3, 2], [2, 3, 1, 0]] {
            let order = Tensor::new(&order, &CPU)?;
            let moved = components.index_select(&order, 1)?;
            assert!(spread(&compositor.compose_drawn(&moved)?, &composed)? < 1e-10, "{config:?}");
            let moved = compositor.strengths(&moved)?;
            assert!(spread(&moved, &strengths.index_select(&order, 1)?)? < 1e-12, "{config:?}");
        }
    }
    Ok(())
}

#[test]
fn an_absent_entity_is_as_good_as_left_out() -> Result<()> {
    for config in CompositorConfig::ALL {
        let channels = config.component_channels(2);
        let components = normals("components", &[2, 3, 4, 5, channels])?;
        let compositor = compositor(&config, Extent::new(4, 5, 2), DType::F64)?;
        let all = Tensor::ones((2, 3), DType::F32, &CPU)?;
        assert!(spread(&compositor.keep(&components, &all)?, &components)? < 1e-12, "{config:?}");
        // Another one is absent from each image.
        let present = [[1f32, 0.0, 1.0], [1.0, 1.0, 0.0]];
        let kept = compositor.compose_drawn(&compositor.keep(&components, &Tensor::new(&present, &CPU)?)?)?;
        for (image, rest) in [[0u32, 2], [0, 1]].iter().enumerate() {
            let left = components.narrow(0, image, 1)?.index_select(&Tensor::new(rest, &CPU)?, 1)?;
            // The logit of nothing is a probability of 10⁻⁷, not of 0.
            let tolerance = if config == CompositorConfig::Sum { 1e-10 } else { 1e-5 };
            let error = spread(&kept.narrow(0, image, 1)?, &compositor.compose_drawn(&left)?)?;
            assert!(error < tolerance, "{config:?}, image {image}: {error}");
        }
        assert!(spread(&kept, &compositor.compose_drawn(&components)?)? > 0.01, "{config:?}: nothing was taken out");
    }
    Ok(())
}

#[test]
fn an_entity_that_draws_nothing_changes_nothing() -> Result<()> {
    for config in CompositorConfig::ALL {
        let channels = config.component_channels(1);
        let components = normals("components", &[1, 2, 4, 5, channels])?;
        let compositor = compositor(&config, Extent::new(4, 5, 1), DType::F64)?;
        let empty = components.narrow(1, 0, 1)?.affine(0.0, compositor.nothing())?;
        let more = Tensor::cat(&[&components, &empty], 1)?;
        assert!(
            spread(&compositor.compose_drawn(&more)?, &compositor.compose_drawn(&components)?)? < 1e-5,
            "{config:?}"
        );
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------- posteriors

/// The posteriors whose parameters are the given rows (B, numbers): an encoder that copies its one pixel.
fn posterior(latent: Latent, parameters: &Tensor) -> Result<Posterior> {
    let n = parameters.dim(1)?;
    let mut config = Preset::Vae.config().model;
    config.encoder = EncoderConfig::Dense { hidden: vec![], activation: Activation::Identity };
    config.latent = latent;
    let variables = Variables::new(0);
    let encoder = Encoder::new(&config, Extent::new(1, 1, n), variables.builder(parameters.dtype(), &CPU))?;
    for (name, var) in variables.all().iter().filter(|(name, _)| name.ends_with("weight")) {
        assert_eq!(var.dims(), [n, n], "{name}");
        var.set(&Tensor::eye(n, parameters.dtype(), &CPU)?)?;
    }
    encoder.candidates(&parameters.reshape((parameters.dim(0)?, 1, 1, n))?)
}

fn gaussian(dimensions: usize) -> Latent {
    Latent::Gaussian { dimensions, beta: 1.0.into() }
}

#[test]
fn kl_has_its_values_by_hand() -> Result<()> {
    let ln2 = std::f64::consts::LN_2;
    // Means, log-variances, nats.
    let cases = [
        ([0.0, 0.0, 0.0, 0.0], 0.0),
        ([1.0, 0.0, 0.0, 0.0], 0.5),
        ([1.0, -2.0, 0.0, 0.0], 2.5),
        ([0.0, 0.0, 2.0 * ln2, 0.0], 1.5 - ln2),
        ([3.0, 0.0, -2.0 * ln2, 2.0 * ln2], 4.5 + 0.5 * (0.25 + 4.0 - 2.0)),
    ];
    let rows = Tensor::from_iter(cases.iter().flat_map(|(row, _)| *row), &CPU)?.reshape((cases.len(), 4))?;
    let kls = posterior(gaussian(2), &rows)?.kl()?;
    assert_eq!(kls.dims(), [cases.len(), 1]);
    for (kl, (row, exact)) in numbers(&kls)?.iter().zip(cases) {
        assert!((kl - exact).abs() < 1e-12, "{row:?}: {kl} is not {exact}");
    }
    Ok(())
}

#[test]
fn kl_and_samples_agree_with_monte_carlo() -> Result<()> {
    const SAMPLES: usize = 40_000;
    for (case, row) in [[0.0, 0.0, 0.0, 0.0], [1.5, -0.3, -1.0, 0.7], [0.0, 2.0, 1.2, -4.0]].iter().enumerate() {
        let rows = Tensor::new(row, &CPU)?.reshape((1, 4))?.broadcast_as((SAMPLES, 4))?.contiguous()?;
        let q = posterior(gaussian(2), &rows)?;
        let z = q.sample(Some(&normals(&format!("monte carlo {case}"), &[SAMPLES, 1, 2])?))?;
        // log q(z) − log p(z), the constants of the two densities cancel.
        let difference = |z: &[f64]| -> f64 {
            let term = |d: usize| 0.5 * (z[d].powi(2) - row[2 + d] - (z[d] - row[d]).powi(2) / row[2 + d].exp());
            term(0) + term(1)
        };
        let draws: Vec<f64> = numbers(&z)?.chunks(2).map(difference).collect();
        let mean = draws.iter().sum::<f64>() / SAMPLES as f64;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / SAMPLES as f64;
        let error = 5.0 * (variance / SAMPLES as f64).sqrt() + 1e-12;
        let kl = numbers(&q.kl()?)?[0];
        assert!((mean - kl).abs() < error, "{row:?}: {kl} nats, but {mean} ± {error}");
        assert!(case == 0 || kl > 10.0 * error, "too few samples to tell");
    }
    Ok(())
}

#[test]
fn extreme_encoders_stay_finite() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let rows = [[1e4, -1e4, 1e4, -1e4], [-1e4, 1e4, -1e4, 1e4]];
        let rows = Var::from_tensor(&Tensor::new(&rows, &CPU)?.to_dtype(dtype)?)?;
        let q = posterior(gaussian(2), &rows)?;
        let limits = [LOG_VAR_LIMIT, -LOG_VAR_LIMIT, -LOG_VAR_LIMIT, LOG_VAR_LIMIT];
        assert_eq!(numbers(&q.log_var()?.expect("a Gaussian has one"))?, limits);
        let z = q.sample(Some(&normals("noise", &[2, 1, 2])?.to_dtype(dtype)?))?;
        assert!(numbers(&q.kl()?)?.iter().chain(&numbers(&z)?).all(|x| x.is_finite()));
        let loss = (q.kl()?.sum_all()? + z.sqr()?.sum_all()?)?;
        let gradients = loss.backward()?;
        assert!(numbers(gradients.get(&rows).expect("a gradient"))?.iter().all(|g| g.is_finite()));
    }
    // The whole model in single precision, with any compositor.
    for variant in variants().iter().filter(|v| matches!(v.config.latent, Latent::Gaussian { .. })).step_by(2) {
        let variables = Variables::new(variant.seed);
        let model = Model::new(&variant.config, variant.image, variables.builder(DType::F32, &CPU))?;
        let all = variables.all();
        let is_bias = |(name, _): &&(String, Var)| name.starts_with("encoder") && name.ends_with("bias");
        let (_, head) = all.iter().rfind(is_bias).expect("a head");
        let signs = (0..head.elem_count()).map(|i| if i % 3 == 0 { -1e4f32 } else { 1e4 });
        head.set(&Tensor::from_iter(signs, &CPU)?)?;
        let Built { images, noise, selection, .. } = variant.build()?;
        let images = images.to_dtype(DType::F32)?;
        let inference = model.forward(&images, &selection, Some(&noise.to_dtype(DType::F32)?))?;
        let loss = Weights { beta: 1.0, idle_beta: 1.0, location_charge: 1.0 }.loss(&inference, &images)?;
        assert!(loss.values()?.iter().all(|x| x.is_finite()), "variant {}: {:?}", variant.seed, loss.values()?);
        let gradients = loss.total()?.backward()?;
        for (name, var) in &all {
            let gradient = numbers(gradients.get(var).expect("a gradient"))?;
            assert!(gradient.iter().all(|g| g.is_finite()), "variant {}, {name}", variant.seed);
        }
    }
    Ok(())
}

#[test]
fn samples_are_means_and_scaled_noise_and_points_have_neither() -> Result<()> {
    let rows = normals("parameters", &[5, 6])?;
    let noise = normals("noise", &[5, 1, 3])?;
    let q = posterior(gaussian(3), &rows)?;
    let (mean, log_var) = (rows.narrow(1, 0, 3)?.unsqueeze(1)?, rows.narrow(1, 3, 3)?.unsqueeze(1)?);
    assert!(spread(&q.mean()?, &mean)? == 0.0 && spread(&q.sample(None)?, &mean)? == 0.0);
    let expected = (&mean + log_var.exp()?.sqrt()?.mul(&noise)?)?;
    assert!(spread(&q.sample(Some(&noise))?, &expected)? < 1e-12);

    for activation in Activation::ALL {
        let q = posterior(Latent::Point { dimensions: 6, activation }, &rows)?;
        let code = activation.apply(&rows)?.unsqueeze(1)?;
        assert!(q.log_var()?.is_none());
        assert_eq!(numbers(&q.kl()?)?, [0.0; 5]);
        assert!(spread(&q.sample(Some(&normals("other", &[5, 1, 6])?))?, &code)? == 0.0);
    }
    Ok(())
}

#[test]
fn gathering_keeps_the_named_posteriors() -> Result<()> {
    let variant = variants().into_iter().find(|v| v.batch == 3 && v.config.grid(v.image) == (3, 2)).expect("a grid");
    let built = variant.build()?;
    let candidates = built.forward()?.candidates;
    let cells = vec![vec![5, 0], vec![2, 3], vec![4, 1]];
    let kept = candidates.gather(&Cells::new(&cells, &Device::Cpu)?)?;
    for (i, cells) in cells.iter().enumerate() {
        for (k, cell) in cells.iter().enumerate() {
            let (a, b) = (kept.mean()?.i((i, k))?, candidates.mean()?.i((i, *cell))?);
            assert_eq!(numbers(&a)?, numbers(&b)?);
            assert_eq!(kept.kl_map()?[i][k], candidates.kl_map()?[i][*cell]);
        }
    }
    Ok(())
}

// ---------------------------------------------------------------------------------------------- selection

/// Grid, scores with ties and NaNs, k and radius.
fn selections() -> impl Strategy<Value = ((usize, usize), Vec<f32>, usize, usize)> {
    (1usize..7, 1usize..7).prop_flat_map(|(rows, columns)| {
        let n = rows * columns;
        let score = prop_oneof![9 => (-4i8..5).prop_map(f32::from), 1 => Just(f32::NAN)];
        (Just((rows, columns)), proptest::collection::vec(score, n), 1..=n, 0usize..4)
    })
}

proptest! {
    #[test]
    fn top_k_keeps_what_it_promises((grid, scores, k, radius) in selections()) {
        let kept = top_k(&scores, k, radius, grid);
        let n = scores.len();
        let score = |i: usize| if scores[i].is_nan() { f32::MIN } else { scores[i] };
        let better = |a: usize, b: usize| score(a) > score(b) || score(a) == score(b) && a < b;
        let near = |a: usize, b: usize| {
            let columns = grid.1;
            (a / columns).abs_diff(b / columns).max((a % columns).abs_diff(b % columns)) <= radius
        };
        prop_assert_eq!(kept.len(), k);
        prop_assert!(kept.iter().all(|c| *c < n));
        prop_assert!((0..k).all(|i| !kept[..i].contains(&kept[i])), "{:?} has a cell twice", kept);

        // First those that respect the radius, best first; then, if need be, the others, best first.
        let apart = (0..k).take_while(|i| kept[..*i].iter().all(|c| !near(*c, kept[*i]))).count();
        for part in [&kept[..apart], &kept[apart..]] {
            prop_assert!(part.windows(2).all(|pair| better(pair[0], pair[1])), "{:?}", kept);
        }
        let first = (0..n).find(|i| (0..n).all(|j| j == *i || better(*i, j)));
        prop_assert_eq!(Some(kept[0]), first);
        for cell in (0..n).filter(|cell| !kept[..apart].contains(cell)) {
            // A cell that is not among the first part was near a better one of it, or too late.
            let suppressed = kept[..apart].iter().any(|c| better(*c, cell) && near(*c, cell));
            let late = apart == k && kept.iter().all(|c| better(*c, cell));
            prop_assert!(suppressed || late, "{} is missing from {:?}", cell, kept);
        }
        for cell in (0..n).filter(|cell| !kept.contains(cell)) {
            prop_assert!(kept[apart..].iter().all(|c| better(*c, cell)), "{} is better than what fills up", cell);
        }
    }

    #[test]
    fn without_a_radius_top_k_sorts((grid, scores, k, _) in selections()) {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // A stable sort leaves ties in the order of their indices.
        order.sort_by(|a, b| match (scores[*a].is_nan(), scores[*b].is_nan()) {
            (false, false) => scores[*b].partial_cmp(&scores[*a]).expect("numbers"),
            (a, b) => a.cmp(&b),
        });
        prop_assert_eq!(top_k(&scores, k, 0, grid), &order[..k]);
        let mut all = top_k(&scores, scores.len(), 0, grid);
        all.sort();
        prop_assert!(all.into_iter().eq(0..scores.len()));
    }
}

/// A model of 4-pixel cells that draws 3×3 glimpses, for images of any size.
fn cells_of_four(rank_by: Rank) -> ModelConfig {
    let activation = Activation::Tanh;
    let mut config = Preset::MultiEntity.config().model;
    config.encoder = EncoderConfig::Convolutional {
        layers: vec![ConvolutionConfig::new(2, 4, 4)],
        activation,
        posteriors: Posteriors::PerCell,
        coordinates: false,
    };
    config.selector.rank_by = rank_by;
    config.decoder = DecoderConfig {
        placement: Placement::Glimpse { patch: 2 },
        trunk: DecoderTrunk::Dense { hidden: vec![], activation },
        coordinates: false,
    };
    config
}

/// A fresh decoder draws a middle grey all over its patch, so that patches share ink exactly where they lie on each other.
#[test]
fn a_candidate_that_draws_what_a_better_one_draws_is_not_kept() -> Result<()> {
    let images = normals("images", &[16, 16, 16, 1])?.abs()?.clamp(0.0, 1.0)?.to_dtype(DType::F32)?;
    let mut others = 0;
    for patch in [4, 8] {
        let mut config = cells_of_four(Rank::Kl);
        config.decoder.placement = Placement::Glimpse { patch };
        config.entities = 2;
        let model = Model::new(&config, Extent::new(16, 16, 1), Variables::new(1).builder(DType::F32, &CPU))?;
        for overlap in [1.0, 0.1] {
            config.selector = SelectorConfig { radius: 0.0.into(), overlap: overlap.into(), ..config.selector };
            let out = model.forward(&images, &Selection::trained(&config, 0), None)?;
            for (cells, kls) in out.cells.lists()?.iter().zip(&out.candidates.kl_map()?) {
                let drawn = top_k(kls, SelectorConfig::drawn(2, 16), 0, (4, 4));
                let apart = |a: usize, b: usize| (a / 4).abs_diff(b / 4).max((a % 4).abs_diff(b % 4));
                let meets = |cell: &usize| patch == 8 && overlap < 1.0 && apart(*cell, drawn[0]) == 1;
                let second = *drawn[1..].iter().find(|cell| !meets(cell)).unwrap_or(&drawn[1]);
                assert_eq!(*cells, [drawn[0], second], "patches of {patch}, overlap {overlap}");
                others += usize::from(second != drawn[1]);
            }
        }
    }
    assert!(others > 0, "the best two never met");
    Ok(())
}

/// Sizes that are multiples of a cell, and sizes that are not.
const SIZES: [(usize, usize); 4] = [(8, 12), (9, 7), (4, 5), (13, 17)];

#[test]
fn a_glimpse_is_centred_on_its_cell() -> Result<()> {
    for (height, width) in SIZES {
        let (config, image) = (cells_of_four(Rank::Kl), Extent::new(height, width, 1));
        let model = Model::new(&config, image, Variables::new(0).builder(DType::F32, &CPU))?;
        let (rows, columns) = model.grid();
        assert_eq!((rows, columns), (height.div_ceil(4), width.div_ceil(4)));
        for cell in 0..rows * columns {
            let z = Tensor::ones((1, 1, config.latent.dimensions()), DType::F32, &CPU)?;
            let component = model
                .decode(&z, &Cells::new(&[vec![cell]], &Device::Cpu)?)?
                .drawn()?
                .i((0, 0, .., .., 0))?
                .to_vec2::<f32>()?;
            // A cell is the four pixels on a side that its posterior looks at; the last may reach beyond the image.
            let (y, x) = (cell / columns * 4 + 1, cell % columns * 4 + 1);
            for (i, row) in component.iter().enumerate() {
                for (j, logit) in row.iter().enumerate() {
                    let inside = (y..y + 2).contains(&i) && (x..x + 2).contains(&j);
                    let drawn = *logit != NOTHING as f32;
                    assert_eq!(drawn, inside, "pixel ({i}, {j}) of cell {cell} in {height}×{width}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn brightness_ranks_the_cells_that_the_encoder_sees() -> Result<()> {
    for (height, width) in SIZES {
        let (config, image) = (cells_of_four(Rank::Brightness), Extent::new(height, width, 1));
        let model = Model::new(&config, image, Variables::new(0).builder(DType::F32, &CPU))?;
        let selection = Selection { rank_by: Rank::Brightness, entities: 1, radius: 0, overlap: 1.0, seed: 0 };
        let columns = model.grid().1;
        for pixel in 0..height * width {
            let mut pixels = vec![0f32; height * width];
            pixels[pixel] = 1.0;
            let images = Tensor::from_vec(pixels, (1, height, width, 1), &CPU)?;
            let cell = pixel / width / 4 * columns + pixel % width / 4;
            let cells = model.forward(&images, &selection, None)?.cells.lists()?;
            assert_eq!(cells, [[cell]], "pixel {pixel} of {height}×{width}");
        }
    }
    Ok(())
}

#[test]
fn each_rank_uses_its_own_score() -> Result<()> {
    let model = |rank| {
        let config = cells_of_four(rank);
        Model::new(&config, Extent::new(16, 16, 1), Variables::new(1).builder(DType::F32, &CPU))
    };
    let images = normals("images", &[4, 16, 16, 1])?.abs()?.clamp(0.0, 1.0)?.to_dtype(DType::F32)?;
    let cells = |rank_by, seed| -> Result<_> {
        let selection = Selection { rank_by, entities: 3, radius: 1, overlap: 1.0, seed };
        let out = model(rank_by)?.forward(&images, &selection, None)?;
        Ok((out.cells.lists()?, out.candidates.kl_map()?))
    };
    let (by_kl, kls) = cells(Rank::Kl, 0)?;
    for (cells, kls) in by_kl.iter().zip(&kls) {
        assert_eq!(*cells, top_k(kls, 3, 1, (4, 4)));
    }
    let random = cells(Rank::Random, 0)?.0;
    assert_eq!(random, cells(Rank::Random, 0)?.0);
    assert_ne!(random, cells(Rank::Random, 1)?.0);
    assert_ne!(random[0], random[1]);
    // An image has its cells wherever it stands.
    let alone = Selection { rank_by: Rank::Random, entities: 3, radius: 1, overlap: 1.0, seed: 0 };
    let alone = model(Rank::Random)?.forward(&images.narrow(0, 2, 1)?, &alone, None)?;
    assert_eq!(alone.cells.lists()?[0], random[2]);
    let bright = cells(Rank::Brightness, 0)?.0;
    assert_eq!(bright, cells(Rank::Brightness, 1)?.0);
    assert!(by_kl != bright && bright != random && by_kl != random);
    Ok(())
}

// ---------------------------------------------------------------------------------------------- likelihood and presence

#[test]
fn likelihoods_have_their_closed_forms() -> Result<()> {
    let logits = normals("logits", &[3, 4, 5, 2])?.affine(3.0, 0.0)?;
    let images = normals("images", &[3, 4, 5, 2])?.affine(0.3, 0.5)?.clamp(0.0, 1.0)?;
    let pairs: Vec<(f64, f64)> = numbers(&logits)?.into_iter().zip(numbers(&images)?).collect();
    for likelihood in
        [Likelihood::Bernoulli, Likelihood::Gaussian { deviation: 0.1 }, Likelihood::Gaussian { deviation: 2.0 }]
    {
        let density = |(l, x): &(f64, f64)| match likelihood {
            Likelihood::Bernoulli => x * sigmoid(*l).ln() + (1.0 - x) * sigmoid(-l).ln(),
            Likelihood::Gaussian { deviation } => {
                let exponent = -(x - sigmoid(*l)).powi(2) / (2.0 * deviation * deviation);
                ((std::f64::consts::TAU * deviation * deviation).powf(-0.5) * exponent.exp()).ln()
            }
        };
        let nats = numbers(&likelihood.log_prob(&logits, &images)?)?;
        assert_eq!(nats.len(), 3);
        for (nats, pairs) in nats.iter().zip(pairs.chunks(40)) {
            let exact: f64 = pairs.iter().map(density).sum();
            assert!((nats - exact).abs() < 1e-9 * exact.abs(), "{likelihood:?}: {nats} is not {exact}");
        }
        let mean = numbers(&likelihood.mean(&logits)?)?;
        assert!(mean.iter().zip(&pairs).all(|(m, (l, _))| (m - sigmoid(*l)).abs() < 1e-12));
    }
    Ok(())
}

#[test]
fn a_likelihood_is_a_density() -> Result<()> {
    // Over both values of a binary pixel, and over a fine grid of grey ones.
    for logit in [-3.0, 0.4, 2.0] {
        let total = |likelihood: Likelihood, values: Vec<f64>, width: f64| -> Result<f64> {
            let n = values.len();
            let images = Tensor::from_vec(values, (n, 1, 1, 1), &CPU)?;
            let logits = images.affine(0.0, logit)?;
            Ok(numbers(&likelihood.log_prob(&logits, &images)?)?.iter().map(|l| l.exp() * width).sum())
        };
        assert!((total(Likelihood::Bernoulli, vec![0.0, 1.0], 1.0)? - 1.0).abs() < 1e-12);
        let grid = (-4000..6000).map(|i| f64::from(i) / 1000.0).collect();
        assert!((total(Likelihood::Gaussian { deviation: 0.25 }, grid, 1e-3)? - 1.0).abs() < 1e-6);
    }
    Ok(())
}

/// Ink, on a component or in an image of 8×8.
type Drawing = fn(usize, usize) -> bool;

const NONE: Drawing = |_, _| false;
const LEFT: Drawing = |y, x| y < 4 && x < 3;
const RIGHT: Drawing = |y, x| y > 4 && x > 4;
const BOTH: Drawing = |y, x| LEFT(y, x) || RIGHT(y, x);
const DOT: Drawing = |y, x| (y, x) == (2, 6);

/// Presence of components of ink `logit` in one image each, for posteriors of `kl` nats among 4 candidates.
fn present(
    compositor: CompositorConfig,
    latent: &Latent,
    kl: f64,
    logit: f64,
    cases: &[(Drawing, [Drawing; 3])],
) -> Result<Vec<Vec<bool>>> {
    let mut config = cells_of_four(Rank::Brightness);
    (config.compositor, config.latent, config.entities) = (compositor, latent.clone(), 3);
    let variables = Variables::new(0);
    let model = Model::new(&config, Extent::new(8, 8, 1), variables.builder(DType::F32, &CPU))?;
    assert_eq!(model.grid(), (2, 2));
    for (name, var) in variables.all().iter().filter(|(name, _)| name.starts_with("encoder")) {
        // Whatever the image, the first mean is √(2 KL) and all else as in the prior.
        let first = if name == "encoder.1.bias" { (2.0 * kl).sqrt() as f32 } else { 0.0 };
        let values = (0..var.elem_count()).map(|i| if i == 0 { first } else { 0.0 });
        var.set(&Tensor::from_iter(values, &CPU)?.reshape(var.shape())?)?;
    }
    let grid =
        |ink: Drawing, on: f64, off: f64| (0..64).map(move |i| if ink(i / 8, i % 8) { on as f32 } else { off as f32 });
    let images = Tensor::from_iter(cases.iter().flat_map(|(image, _)| grid(*image, 1.0, 0.0)), &CPU)?;
    let images = images.reshape((cases.len(), 8, 8, 1))?;
    let selection = Selection { rank_by: Rank::Brightness, entities: 3, radius: 0, overlap: 1.0, seed: 0 };
    let inference = model.forward(&images, &selection, None)?;
    let drawn = cases.iter().flat_map(|(_, drawn)| drawn.iter().flat_map(|d| grid(*d, logit, NOTHING)));
    let components = Tensor::from_iter(drawn, &CPU)?.reshape((cases.len(), 3, 8, 8, 1))?;
    let kls = inference.entities.kl_map()?.concat();
    assert!(matches!(latent, Latent::Point { .. }) || kls.iter().all(|k| (f64::from(*k) - kl).abs() < 1e-5));
    presence(&model, &inference, &components, &images)
}

#[test]
fn entities_are_present_that_explain_something() -> Result<()> {
    let cases = [
        (BOTH, [LEFT, RIGHT, NONE]),
        (BOTH, [NONE, RIGHT, LEFT]),
        (LEFT, [LEFT, RIGHT, NONE]), // one draws ink that is not there
        (NONE, [NONE, NONE, NONE]),
        (NONE, [LEFT, RIGHT, BOTH]),
        (BOTH, [BOTH, NONE, DOT]),
    ];
    let expected = [
        [true, true, false],
        [false, true, true],
        [true, false, false],
        [false, false, false],
        [false, false, false],
        [true, false, false],
    ];
    for compositor in [CompositorConfig::Union, CompositorConfig::Sum, CompositorConfig::Max] {
        for latent in [gaussian(2), Latent::Point { dimensions: 2, activation: Activation::Identity }] {
            assert_eq!(present(compositor, &latent, 2.0, 6.0, &cases)?, expected, "{compositor:?}, {latent:?}");
        }
    }
    Ok(())
}

#[test]
fn of_entities_that_draw_the_same_exactly_one_is_present() -> Result<()> {
    let cases = [(LEFT, [LEFT, LEFT, NONE]), (BOTH, [LEFT, RIGHT, LEFT]), (RIGHT, [RIGHT, RIGHT, RIGHT])];
    for compositor in [CompositorConfig::Union, CompositorConfig::Sum, CompositorConfig::Max] {
        let found = present(compositor, &gaussian(2), 2.0, 6.0, &cases)?;
        let count = |image: usize, entities: &[usize]| entities.iter().filter(|e| found[image][**e]).count();
        assert_eq!((count(0, &[0, 1]), found[0][2]), (1, false), "{compositor:?}");
        assert_eq!((count(1, &[0, 2]), found[1][1]), (1, true), "{compositor:?}");
        assert_eq!(count(2, &[0, 1, 2]), 1, "{compositor:?}");
    }
    Ok(())
}

#[test]
fn who_is_not_there_takes_no_pixels_from_who_is() -> Result<()> {
    let mut config = cells_of_four(Rank::Brightness);
    config.compositor = CompositorConfig::Mixture { background: Background::Median, colours: Colours::PerPixel };
    (config.latent, config.entities) = (gaussian(2), 3);
    config.decoder.placement = Placement::Canvas;
    let variables = Variables::new(0);
    let model = Model::new(&config, Extent::new(8, 8, 1), variables.builder(DType::F32, &CPU))?;
    // Every entity says the same and draws the same, ink with a mask, whatever the image.
    for (name, var) in variables.all() {
        let value = |i: usize| match name.as_str() {
            "encoder.1.bias" if i == 0 => 2.0,
            "decoder.0.bias" if LEFT(i / 2 / 8, i / 2 % 8) => 6.0,
            "decoder.0.bias" if i % 2 == 1 => NOTHING as f32,
            _ => 0.0,
        };
        var.set(&Tensor::from_iter((0..var.elem_count()).map(value), &CPU)?.reshape(var.shape())?)?;
    }
    let image = Tensor::from_iter((0..64).map(|i| f32::from(u8::from(LEFT(i / 8, i % 8)))), &CPU)?;
    let selection = Selection { rank_by: Rank::Brightness, entities: 3, radius: 0, overlap: 1.0, seed: 0 };
    let parts = Decomposition::of(&model, &image.reshape((1, 8, 8, 1))?, &selection)?;
    let there: Vec<usize> = (0..3).filter(|k| parts.present[0][*k]).collect();
    assert_eq!(there.len(), 1, "{:?}", parts.present);
    for (i, owner) in parts.masks[0].iter().enumerate() {
        assert_eq!(*owner, if LEFT(i / 8, i % 8) { there[0] as u8 } else { 255 }, "pixel {i}");
    }
    Ok(())
}

#[test]
fn an_entity_pays_for_its_code_and_its_place() -> Result<()> {
    // A dot of logit l instead of −16 under one inked pixel gains 16 + l nats; log 4 = 1.386 is what the place costs. (In a
    // union three components of nothing are log 3 above one.)
    let dot = |latent: &Latent, kl: f64, gain: f64| -> Result<bool> {
        let case = [(DOT, [NONE, DOT, NONE])];
        let found = present(CompositorConfig::Max, latent, kl, NOTHING + gain, &case)?;
        assert_eq!(found, present(CompositorConfig::Sum, latent, kl, NOTHING + gain, &case)?);
        assert!(!found[0][0] && !found[0][2]);
        Ok(found[0][1])
    };
    assert!(dot(&gaussian(2), 2.0, 3.5)?);
    assert!(!dot(&gaussian(2), 2.0, 3.3)?);
    assert!(dot(&gaussian(2), 5.0, 6.5)?);
    assert!(!dot(&gaussian(2), 5.0, 6.3)?);
    // Whoever says less than its place costs is not there, whatever it explains.
    assert!(!dot(&gaussian(2), 1.3, 14.0)?);
    assert!(dot(&gaussian(2), 1.5, 14.0)?);
    // A deterministic code has a place and no cost of its own.
    let point = Latent::Point { dimensions: 2, activation: Activation::Identity };
    assert!(dot(&point, 0.0, 1.5)?);
    assert!(!dot(&point, 0.0, 1.3)?);
    Ok(())
}

// ---------------------------------------------------------------------------------------------- objective

#[test]
fn the_loss_is_the_sum_of_its_terms() -> Result<()> {
    for variant in variants().iter().step_by(7) {
        let built = variant.build()?;
        let inference = built.forward()?;
        let (b, k) = inference.entities.dims2()?;
        let kls = numbers(&inference.entities.kl()?)?;
        let every = numbers(&inference.candidates.kl()?)?;
        let nats = numbers(&inference.log_prob(&built.images)?)?;
        let per_image = |values: &[f64]| values.iter().sum::<f64>() / b as f64;
        for (beta, idle_beta, location_charge) in [(1.0, 0.0, 0.0), (0.0, 0.3, 2.0), (4.0, 1.0, 0.5)] {
            let loss = Weights { beta, idle_beta, location_charge }.loss(&inference, &built.images)?;
            let [total, reconstruction, kl, idle, charge, beside] = loss.values()?;
            assert_eq!(beside, 0.0);
            let used: Vec<f64> = kls.iter().map(|kl| location_charge * (1.0 - (-kl / 2.0).exp())).collect();
            let not_kept = idle_beta * (per_image(&every) - per_image(&kls));
            let expected = [-per_image(&nats), per_image(&kls), not_kept, per_image(&used)];
            for (value, expected) in [reconstruction, kl, idle, charge].iter().zip(expected) {
                assert!((value - expected).abs() < 1e-9 * (1.0 + expected.abs()), "variant {}", variant.seed);
            }
            assert!((total - reconstruction - beta * kl - idle - charge).abs() < 1e-9 * (1.0 + total.abs()));
            assert!(charge <= location_charge * k as f64 && kl >= -1e-12 && idle >= -1e-9);
        }
    }
    Ok(())
}

#[test]
fn the_same_weights_see_the_same_in_a_larger_image() -> Result<()> {
    let config = Preset::MultiEntity.config().model;
    assert!(config.fits_any_size());
    let variables = Variables::new(3);
    let at = |side| Model::new(&config, Extent::new(side, side, 1), variables.builder(DType::F32, &CPU));
    let (small, large) = (at(64)?, at(96)?);
    assert_eq!((small.grid(), large.grid()), ((16, 16), (24, 24)));
    assert_eq!(variables.count(), config.parameters(Extent::new(64, 64, 1)));

    // The upper left corner of the large image is the small one.
    let mut pixels = vec![0f32; 96 * 96];
    random::normals(&mut random::stream(0, "pixels", 0), &mut pixels);
    let image = Tensor::from_vec(pixels, (1, 96, 96, 1), &CPU)?.abs()?;
    let corner = image.narrow(1, 0, 64)?.narrow(2, 0, 64)?.contiguous()?;
    let selection = Selection { rank_by: Rank::Kl, entities: 2, radius: 2, overlap: 1.0, seed: 0 };
    let (seen, of_corner) = (large.forward(&image, &selection, None)?, small.forward(&corner, &selection, None)?);
    let (seen, of_corner) = (seen.candidates.kl_map()?, of_corner.candidates.kl_map()?);
    // A cell sees 40 pixels, so that the eleventh is the last that sees no other border.
    for (y, x) in (0..11).flat_map(|y| (0..11).map(move |x| (y, x))) {
        let (a, b) = (seen[0][y * 24 + x], of_corner[0][y * 16 + x]);
        assert!((a - b).abs() < 1e-4 * b.abs().max(1.0), "({y}, {x}): {a} {b}");
    }
    // The same latent in the same cell draws the same patch, whatever the image's size.
    let z = Tensor::ones((1, 1, 16), DType::F32, &CPU)?;
    let drawn =
        |model: &Model, cell| model.decode(&z, &Cells::new(&[vec![cell]], &Device::Cpu)?)?.drawn()?.get(0)?.get(0);
    let (of_large, of_small) = (drawn(&large, 7 * 24 + 6)?, drawn(&small, 7 * 16 + 6)?);
    let part = of_large.narrow(0, 0, 64)?.narrow(1, 0, 64)?;
    assert_eq!(part.flatten_all()?.to_vec1::<f32>()?, of_small.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn what_is_said_of_the_image_as_a_whole_fits_one_size() {
    let fits = |preset: Preset, settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        Config::resolve(preset, None, &settings).expect("keys that exist").model.fits_any_size()
    };
    assert!(!fits(Preset::Vae, &[]));
    for other in [
        "model.encoder.posteriors=whole",
        "model.encoder.coordinates=true",
        "model.decoder.coordinates=true",
        "model.decoder.placement.kind=canvas",
    ] {
        assert!(!fits(Preset::MultiEntity, &[other]), "{other}");
    }
    assert!(fits(Preset::MultiEntity, &["model.compositor.kind=render"]));
}
