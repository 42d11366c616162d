//! A model over many scenes: every loss and score, in constant memory.

use super::accumulator::{Accumulator, SceneOutcome};
use super::errors::Errors;
use super::kl_map::{MapScores, centre_cells};
use super::log_factorials::LogFactorials;
use super::presence::presence;
use super::report::Report;
use super::segmentation::{BACKGROUND, Masks, SegmentationScores};
use super::{CountTooLarge, SegmentationError};
use crate::model::{Inference, Model, Selection, indicator};
use crate::random;
use candle_core::{DType, Device, Tensor};

/// What a scene's image and truth must offer to be evaluated.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// (H, W, C), in [0, 1] after dividing by 255.
    pub image: Vec<f32>,
    /// How many objects there are, if that is known.
    pub count: Option<usize>,
    /// (H, W): which object each pixel shows, 255 for none; if that is known.
    pub masks: Option<Vec<u8>>,
}

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// A count beyond what a report can hold.
    #[error(transparent)]
    Count(#[from] CountTooLarge),
    /// Masks that do not fit the model's images.
    #[error(transparent)]
    Segmentation(#[from] SegmentationError),
    /// From candle.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// What a model makes of a batch of images, at the posterior means.
#[derive(Clone, Debug)]
pub struct Decomposition {
    /// The forward pass.
    pub inference: Inference,
    /// Its components, drawn: (B, K, H, W, C').
    pub components: Tensor,
    /// The cells of the entities: B lists of K.
    pub cells: Vec<Vec<usize>>,
    /// KL of every candidate, as the encoder says: B lists of N.
    pub kl_map: Vec<Vec<f32>>,
    /// KL of every entity: B lists of K.
    pub kl: Vec<Vec<f32>>,
    /// Which entities are there: B lists of K.
    pub present: Vec<Vec<bool>>,
    /// Index of the present entity that is strongest at each pixel, 255 where the background is stronger: B lists of H·W.
    pub masks: Vec<Vec<u8>>,
    /// The same without the background: 255 only where no entity is present at all.
    pub foreground: Vec<Vec<u8>>,
    /// How strongly each present entity draws each pixel, in [0, 1]: B lists of K lists of H·W.
    pub strengths: Vec<Vec<Vec<f32>>>,
}

impl Decomposition {
    /// Takes images (B, H, W, C) apart.
    pub fn of(model: &Model, images: &Tensor, selection: &Selection) -> candle_core::Result<Self> {
        Self::refined(model, images, selection, 0)
    }

    /// The same, and then [refines](Model::refined) the means of the present entities by so many steps. Which entities are present, it does
    /// not change.
    pub fn refined(model: &Model, images: &Tensor, selection: &Selection, steps: usize) -> candle_core::Result<Self> {
        // On one of the threads that compute, so that the kernels need not wake them one after the other.
        rayon::scope(|_| {
            let inference = model.forward(images, selection, None)?;
            let components = inference.components.drawn()?;
            let present = presence(model, &inference, &components, images)?;
            if steps == 0 {
                return Self::from_parts(inference, components, present);
            }
            let there = indicator(&present, images.device())?;
            // A single candidate is all there is of its image, whatever it is worth.
            let which = if model.grid() == (1, 1) { there.ones_like()? } else { there };
            let inference = model.refined(&inference, images, &which, steps)?;
            let components = inference.components.drawn()?;
            Self::from_parts(inference, components, present)
        })
    }

    fn from_parts(inference: Inference, components: Tensor, present: Vec<Vec<bool>>) -> candle_core::Result<Self> {
        // The weights of a mixture add up to one: who is not there is to take nothing from who is.
        let masked = inference.compositor.is_masked();
        let there = match masked {
            true => inference.compositor.keep(&components, &indicator(&present, components.device())?)?,
            false => components.clone(),
        };
        let strengths = inference.compositor.strengths(&there)?; // (B, K, H, W)
        let strengths = strengths.flatten_from(2)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec3::<f32>()?;
        let pairs = strengths.iter().zip(&present).map(|(strengths, present)| strongest(strengths, present, masked));
        let (masks, foreground) = pairs.unzip();
        let (cells, kl_map) = (inference.cells.lists()?, inference.candidates.kl_map()?);
        let kl = inference.entities.kl_map()?;
        Ok(Self { cells, kl_map, kl, inference, components, present, masks, foreground, strengths })
    }

    /// What each entity draws by itself: B lists of K images (H·W·C) in [0, 1].
    pub fn alone(&self, model: &Model) -> candle_core::Result<Vec<Vec<Vec<f32>>>> {
        let images = model.likelihood().mean(&self.inference.compositor.alone(&self.components)?)?.flatten_from(2)?;
        images.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec3()
    }
}

/// For every pixel the strongest present entity: with the background where that is stronger, and without.
///
/// In a mixture (`masked`) the background has the weight that the entities leave; elsewhere it has a pixel where none reaches one half.
fn strongest(strengths: &[Vec<f32>], present: &[bool], masked: bool) -> (Vec<u8>, Vec<u8>) {
    let pixels = strengths.first().map_or(0, Vec::len);
    let best = |i: usize| {
        let there = (0..strengths.len()).filter(|k| present[*k]);
        // Ties go to the lower index: `max_by` keeps the last, so the order is reversed.
        there.rev().max_by(|a, b| strengths[*a][i].total_cmp(&strengths[*b][i]))
    };
    let background = |i: usize| match masked {
        true => 1.0 - strengths.iter().map(|strengths| strengths[i]).sum::<f32>(),
        false => 0.5,
    };
    (0..pixels)
        .map(|i| match best(i) {
            Some(k) if strengths[k][i] >= background(i) => (k as u8, k as u8),
            Some(k) => (BACKGROUND, k as u8),
            None => (BACKGROUND, BACKGROUND),
        })
        .unzip()
}

/// How scenes are evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Evaluation {
    /// How entities are selected.
    pub selection: Selection,
    /// Scenes in a forward pass.
    pub batch: usize,
    /// Seed of the posterior noise in the ELBO: one sample for each scene.
    pub seed: u64,
    /// Steps by which the means of present entities are [refined](Model::refined); 0 takes them as the encoder gives them.
    pub refinement: usize,
}

impl Evaluation {
    /// Runs the model over the scenes and reports losses and scores.
    ///
    /// The ELBO's reconstruction term is a one-sample estimate; counts, masks and `mse` are taken at the posterior means.
    pub fn report<E: From<EvaluationError>>(
        &self,
        model: &Model,
        scenes: impl IntoIterator<Item = Result<Example, E>>,
        device: &Device,
    ) -> Result<Report, E> {
        self.report_each(model, scenes, device, |_, _| ())
    }

    /// The same, which also shows every scene's outcome, with its number from 0, as it goes.
    pub fn report_each<E: From<EvaluationError>>(
        &self,
        model: &Model,
        scenes: impl IntoIterator<Item = Result<Example, E>>,
        device: &Device,
        mut each: impl FnMut(u64, &SceneOutcome),
    ) -> Result<Report, E> {
        let mut number = 0;
        let mut each = |outcome: &SceneOutcome| {
            each(number, outcome);
            number += 1;
        };
        let mut state = State { accumulator: Accumulator::default(), factorials: LogFactorials::default(), batches: 0 };
        let mut batch = Vec::with_capacity(self.batch);
        for scene in scenes {
            batch.push(scene?);
            if batch.len() == self.batch {
                self.add(&mut state, model, &batch, device, &mut each)?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            self.add(&mut state, model, &batch, device, &mut each)?;
        }
        Ok(state.accumulator.finish())
    }

    fn add(
        &self,
        state: &mut State,
        model: &Model,
        batch: &[Example],
        device: &Device,
        each: &mut impl FnMut(&SceneOutcome),
    ) -> Result<(), EvaluationError> {
        let images = stack(model, batch, device)?;
        let decomposition = Decomposition::refined(model, &images, &self.selection, self.refinement)?;
        let inference = &decomposition.inference;
        let reconstruction = self.sampled_log_prob(state, model, inference, &images)?;
        let kl = inference.entities.kl()?.sum(1)?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let error = (inference.reconstruction()? - &images)?.sqr()?.flatten_from(1)?.mean(1)?;
        let error = error.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let brightness = model.brightness(&images)?;
        let located = model.location_nats(self.selection.entities);
        for (i, scene) in batch.iter().enumerate() {
            let score = |truth: &Vec<u8>| {
                let (predicted, foreground) = (&decomposition.masks[i], &decomposition.foreground[i]);
                let background_is_masked = decomposition.inference.compositor.is_masked();
                let masks = Masks { truth, predicted, foreground, background_is_masked };
                SegmentationScores::of(masks, &mut state.factorials)
            };
            let truth = scene.masks.as_deref();
            let centres = truth.map(|truth| centre_cells(truth, model.image().width, model.grid(), model.cell()));
            let outcome = SceneOutcome {
                reconstruction_nats: -f64::from(reconstruction[i]),
                kl_nats: kl[i],
                location_nats: located,
                squared_error: error[i],
                truth_count: scene.count,
                predicted_count: decomposition.present[i].iter().filter(|p| **p).count(),
                segmentation: scene.masks.as_ref().map(score).transpose()?,
                errors: truth.map(|truth| {
                    let Decomposition { foreground, strengths, present, .. } = &decomposition;
                    Errors::of(truth, &foreground[i], &strengths[i], &present[i])
                }),
                kl_map: MapScores::of(&decomposition.kl_map[i], &brightness[i], centres.as_deref()),
            };
            state.accumulator.add(outcome)?;
            each(&outcome);
        }
        Ok(())
    }

    /// log p(x|z) for one sample z of each entity.
    fn sampled_log_prob(
        &self,
        state: &mut State,
        model: &Model,
        inference: &Inference,
        images: &Tensor,
    ) -> candle_core::Result<Vec<f32>> {
        let mut noise = vec![0f32; inference.z.elem_count()];
        random::normals(&mut random::stream(self.seed, "evaluation noise", state.batches), &mut noise);
        state.batches += 1;
        let noise = Tensor::from_vec(noise, inference.z.shape(), images.device())?;
        let components = model.decode(&inference.entities.sample(Some(&noise))?, &inference.cells)?;
        let logits = inference.compositor.compose(&components)?;
        model.likelihood().log_prob(&logits, images)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1()
    }
}

/// What grows with the scenes: sums only.
struct State {
    accumulator: Accumulator,
    factorials: LogFactorials,
    batches: u64,
}

/// The images of some scenes as one tensor (B, H, W, C), as `model` reads them.
pub fn stack(model: &Model, batch: &[Example], device: &Device) -> candle_core::Result<Tensor> {
    let image = model.image();
    let pixels: Vec<f32> = batch.iter().flat_map(|scene| scene.image.iter().copied()).collect();
    Tensor::from_vec(pixels, (batch.len(), image.height, image.width, image.channels), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_owns_what_entities_leave_of_a_mixture_and_elsewhere_what_is_less_than_half() {
        const B: u8 = BACKGROUND;
        let strengths = [vec![0.4, 0.3, 0.9, 0.0], vec![0.3, 0.1, 0.0, 0.0], vec![0.0, 0.0, 0.0, 0.0]];
        let owners = |present: [bool; 3], masked| strongest(&strengths, &present, masked);
        assert_eq!(owners([true; 3], true), (vec![0, B, 0, B], vec![0; 4]));
        assert_eq!(owners([true; 3], false), (vec![B, B, 0, B], vec![0; 4]));
        assert_eq!(owners([false, true, false], false), (vec![B; 4], vec![1; 4]));
        assert_eq!(owners([false; 3], true), (vec![B; 4], vec![B; 4]));
    }
}
