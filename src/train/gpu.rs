//! Steps on a GPU. From the batch to the weights nothing is read from the device, so that the host is never waited for; and a step that does
//! what the one before it did is recorded as it is taken and replayed from then on, because the host's launches take longer than most
//! of what they launch.

use super::{Plan, StepReport, TrainError, Trainer};
use crate::layers::{Recording, StepNumbers, record, write_on_gpu};
use candle_core::{DType, Device, Result, Tensor};

/// B, S, K, D
type Shape = (usize, usize, usize, usize);

/// What steps on a GPU have in common.
#[derive(Debug)]
pub(super) struct OnGpu {
    numbers: StepNumbers,
    inputs: Option<Inputs>,
    /// Noise made ahead, of this step and shape, while the device was busy with the step before.
    ahead: Option<(u64, Shape, Vec<f32>)>,
    /// What the last step did.
    last: Option<Plan>,
    recorded: Recorded,
}

/// Where a step's images (B, H, W, C) and noise (B, S, K, D) lie, at the same place for all steps.
#[derive(Debug)]
struct Inputs {
    images: Tensor,
    noise: Tensor,
}

#[derive(Debug)]
enum Recorded {
    NotYet,
    /// It asks the device or uploads something on its way.
    Never,
    Step(Recording),
}

impl OnGpu {
    /// For a device that is one.
    pub fn new(device: &Device) -> Result<Option<Self>> {
        let new = || {
            let numbers = StepNumbers::new(device)?;
            Ok(Self { numbers, inputs: None, ahead: None, last: None, recorded: Recorded::NotYet })
        };
        device.is_cuda().then(new).transpose()
    }

    /// Buffers have been exchanged for others: nothing that was recorded holds.
    pub fn forget(&mut self) {
        (self.inputs, self.last, self.recorded) = (None, None, Recorded::NotYet);
    }

    /// Whether steps are replayed now.
    pub fn replays(&self) -> bool {
        matches!(self.recorded, Recorded::Step(_))
    }

    /// Puts images and noise where steps read them.
    fn inputs(&mut self, images: &Tensor, noise: &[f32], shape: Shape) -> Result<()> {
        let fits = |inputs: &Inputs| {
            inputs.images.shape() == images.shape() && inputs.noise.dims() == <[usize; 4]>::from(shape)
        };
        match &self.inputs {
            Some(inputs) if fits(inputs) => inputs.images.slice_set(&images.contiguous()?, 0, 0)?,
            _ => {
                self.forget();
                let noise = Tensor::zeros(shape, DType::F32, images.device())?;
                self.inputs = Some(Inputs { images: images.copy()?.detach(), noise });
            }
        }
        match &self.inputs {
            Some(inputs) => write_on_gpu(&inputs.noise, noise),
            None => Ok(()),
        }
    }
}

impl Trainer {
    /// Sets a step going.
    pub(super) fn begin_on_gpu(&self, gpu: &mut OnGpu, images: &Tensor) -> std::result::Result<Plan, TrainError> {
        let plan = self.plan();
        let (step, shape) = (self.steps.done, self.noise_shape(images.dim(0)?, plan.samples));
        let noise = match gpu.ahead.take() {
            Some((of, made, noise)) if (of, made) == (step, shape) => noise,
            _ => self.noise_values(step, shape),
        };
        gpu.inputs(images, &noise, shape)?;
        let learning_rate = self.now(&self.config.training.learning_rate);
        self.adam.tell(&gpu.numbers, learning_rate, self.config.training.clip)?;
        let same = gpu.last.as_ref() == Some(&plan);
        if let Some(inputs) = &gpu.inputs {
            let work = || {
                let loss = self.loss(&plan, &inputs.images, &inputs.noise)?;
                let gradients = self.gradients(&loss)?;
                self.adam.step_as_measured(&gradients, loss.terms(), &gpu.numbers)
            };
            match (&gpu.recorded, &self.device) {
                (Recorded::Step(recording), _) if same => recording.replay()?,
                // What it launches has been launched before, so that all is loaded.
                (Recorded::NotYet, Device::Cuda(device)) if same => {
                    work()?;
                    gpu.recorded = record(device, work).map_or(Recorded::Never, Recorded::Step);
                }
                _ => {
                    work()?;
                    if !same {
                        gpu.recorded = Recorded::NotYet;
                    }
                }
            }
        }
        gpu.last = Some(plan.clone());
        gpu.ahead = Some((step + 1, shape, self.noise_values(step + 1, shape)));
        Ok(plan)
    }

    /// Waits for it; nothing if loss or gradient are not finite, and then nothing was changed.
    pub(super) fn finish_on_gpu(&mut self, gpu: &OnGpu, plan: &Plan) -> Result<Option<StepReport>> {
        let measured = gpu.numbers.read()?;
        if !measured.finite {
            return Ok(None);
        }
        self.adam.advance();
        let [loss, reconstruction, kl, idle, charge] = measured.terms;
        let terms = [loss, reconstruction, kl, idle, charge, 0.0];
        Ok(Some(StepReport { gradient_norm: measured.norm, ..self.report(plan, terms) }))
    }
}
