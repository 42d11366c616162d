//! The plain VAE, written a second time on candle's own operations: the presets must be exactly it.

use candle_core::{DType, Device, Result, Tensor};
use multi_entity_vae::config::{Latent, Preset};
use multi_entity_vae::layers::Extent;
use multi_entity_vae::model::{Model, Selection, Variables, Weights};
use multi_entity_vae::random;
use std::collections::HashMap;

const BATCH: usize = 3;

/// The whole of it. Images (B, 784); `noise` (B, D) for a VAE, nothing for an autoencoder.
fn oracle(w: &HashMap<String, Tensor>, images: &Tensor, noise: Option<&Tensor>, beta: f64) -> Result<Tensor> {
    let dense = |x: &Tensor, name: String| -> Result<Tensor> {
        x.matmul(&w[&format!("{name}.weight")])?.broadcast_add(&w[&format!("{name}.bias")])
    };
    let layers = |part: &str| w.keys().filter(|name| name.starts_with(part) && name.ends_with("bias")).count();
    let network = |x: &Tensor, part: &str| -> Result<Tensor> {
        let mut x = x.clone();
        for i in 0..layers(part) {
            x = if i == 0 { x } else { x.relu()? };
            x = dense(&x, format!("{part}.{i}"))?;
        }
        Ok(x)
    };
    let code = network(images, "encoder")?;
    let (z, kl) = match noise {
        None => (code.relu()?, None),
        Some(noise) => {
            let d = noise.dim(1)?;
            let (mean, log_var) = (code.narrow(1, 0, d)?, code.narrow(1, d, d)?);
            let z = (&mean + log_var.affine(0.5, 0.0)?.exp()?.mul(noise)?)?;
            let kl = (mean.sqr()? + log_var.exp()?)?.sub(&log_var)?.affine(0.5, -0.5)?.sum(1)?;
            (z, Some(kl))
        }
    };
    let logits = network(&z, "decoder")?;
    // −x log σ(l) − (1 − x) log σ(−l) = max(l, 0) − x l + log(1 + e^−|l|)
    let nats = ((logits.relu()? - (images * &logits)?)? + logits.abs()?.neg()?.exp()?.affine(1.0, 1.0)?.log()?)?;
    let mut loss = nats.sum(1)?;
    if let Some(kl) = kl {
        loss = (loss + (kl * beta)?)?;
    }
    loss.mean(0)
}

fn normals(name: &str, shape: &[usize]) -> Result<Tensor> {
    let mut values = vec![0f32; shape.iter().product()];
    random::normals(&mut random::stream(4, name, 0), &mut values);
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(DType::F64)
}

#[test]
fn presets_are_the_plain_models() -> Result<()> {
    let mut losses = Vec::new();
    for (preset, beta) in [(Preset::Autoencoder, 0.0), (Preset::Vae, 1.0), (Preset::BetaVae, 2.0)] {
        let config = preset.config().model;
        let configured = match &config.latent {
            Latent::Point { .. } => 0.0,
            Latent::Gaussian { beta, .. } => beta.last(),
        };
        assert_eq!(configured, beta, "{}", preset.name());
        let variables = Variables::new(11);
        let model = Model::new(&config, Extent::new(28, 28, 1), variables.builder(DType::F64, &Device::Cpu))?;
        for (name, var) in variables.all().iter().filter(|(name, _)| name.ends_with("bias")) {
            var.set(&(normals(name, var.dims())? * 0.1)?)?;
        }
        let dimensions = config.latent.dimensions();
        let images = normals("images", &[BATCH, 784])?.affine(0.4, 0.3)?.clamp(0.0, 1.0)?;
        let noise = normals("noise", &[BATCH, dimensions])?;

        let selection = Selection { rank_by: config.selector.rank_by, entities: 1, radius: 0, overlap: 1.0, seed: 0 };
        let shaped = images.reshape((BATCH, 28, 28, 1))?;
        let inference = model.forward(&shaped, &selection, Some(&noise.reshape((BATCH, 1, dimensions))?))?;
        let ours = Weights { beta, ..Weights::default() }.loss(&inference, &shaped)?;
        let weights = variables.all().into_iter().map(|(name, var)| (name, var.as_tensor().clone())).collect();
        let theirs = oracle(&weights, &images, (preset != Preset::Autoencoder).then_some(&noise), beta)?;

        let (a, b) = (ours.total()?.to_scalar::<f64>()?, theirs.to_scalar::<f64>()?);
        assert!((a - b).abs() < 1e-10 * b, "{}: {a} is not {b}", preset.name());
        let (a, b) = (ours.total()?.backward()?, theirs.backward()?);
        for (name, var) in variables.all() {
            let (a, b) = (a.get(&var).expect("a gradient"), b.get(&var).expect("a gradient"));
            let largest = |x: &Tensor| x.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>();
            let scale = largest(b)?;
            assert!(scale > 0.0 && largest(&(a - b)?)? < 1e-10 * scale, "{}: gradient of {name}", preset.name());
        }
        let [total, reconstruction, kl, idle, charge, _] = ours.values()?;
        assert_eq!((kl > 0.0, idle, charge), (preset != Preset::Autoencoder, 0.0, 0.0));
        assert!((total - reconstruction - beta * kl).abs() < 1e-9);
        losses.push(total);
    }
    // The β-VAE is the VAE but for β, and here sees the same weights and noise.
    assert!(losses[2] > losses[1]);
    Ok(())
}
