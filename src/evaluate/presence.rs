//! Which of the K entities are there: a rule that needs no labels and no threshold.
//!
//! An entity is worth keeping if describing the image with it is shorter than without it. Its code costs KL_k nats, and
//! saying in which of the N cells it is costs log N; what it buys is the likelihood that is lost when it is left out:
//!
//! > entity k is present  ⇔  log p(x | all) − log p(x | all but k) > KL_k + log N  and  KL_k ≥ log N
//!
//! The second condition asks that it say more about itself than it takes to say where it is. Without it the faint haze that an
//! empty latent decodes to would count wherever it happens to soften a stroke that another entity missed. (A deterministic
//! latent has no KL, so there the first condition decides alone.)
//!
//! Two entities that draw the same object would each seem superfluous, so entities are taken out one at a time, the least
//! worthwhile first, until every one that is left pays for itself. All at the posterior means.

use crate::model::{Inference, Model, indicator};
use candle_core::{DType, Device, Result, Tensor};

/// For every image and entity whether it is present, given the inference at the posterior means and its drawn components.
pub fn presence(model: &Model, inference: &Inference, components: &Tensor, images: &Tensor) -> Result<Vec<Vec<bool>>> {
    let (b, k) = inference.entities.dims2()?;
    let (rows, columns) = model.grid();
    let location = ((rows * columns) as f32).ln();
    let costs: Vec<Vec<f32>> = inference.entities.kl_map()?;
    let says_enough = |kl: &f32| inference.entities.is_point() || *kl >= location;
    let mut present: Vec<Vec<bool>> = costs.iter().map(|kls| kls.iter().map(says_enough).collect()).collect();
    let mut settled = vec![false; b];
    while settled.iter().any(|done| !done) {
        let with = log_prob(model, inference, components, images, &present)?;
        let without = (0..k).map(|out| {
            let rest: Vec<_> =
                present.iter().map(|p| p.iter().enumerate().map(|(i, p)| *p && i != out).collect()).collect();
            log_prob(model, inference, components, images, &rest)
        });
        let without: Vec<Vec<f32>> = without.collect::<Result<_>>()?;
        for i in 0..b {
            let gain = |e: usize| with[i] - without[e][i] - costs[i][e] - location;
            let worst = (0..k).filter(|e| present[i][*e]).min_by(|x, y| gain(*x).total_cmp(&gain(*y)));
            match worst {
                Some(e) if gain(e) <= 0.0 => present[i][e] = false,
                _ => settled[i] = true,
            }
        }
    }
    Ok(present)
}

/// log p(x | the present entities) of each image.
fn log_prob(
    model: &Model,
    inference: &Inference,
    components: &Tensor,
    images: &Tensor,
    present: &[Vec<bool>],
) -> Result<Vec<f32>> {
    let kept = inference.compositor.keep(components, &indicator(present, components.device())?)?;
    let logits = inference.compositor.compose_drawn(&kept)?;
    model.likelihood().log_prob(&logits, images)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1()
}
