//! Adam (Kingma & Ba 2015, algorithm 1), with a state that can be saved.

use crate::layers::real::{Real, vectorise};
use crate::layers::{contiguous, contiguous_mut, on_cpu};
use crate::model::Variables;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;
use std::collections::HashMap;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser: for every variable the running means of its gradient and of its square.
#[derive(Debug)]
pub struct Adam {
    variables: Vec<Moments>,
    steps: u64,
}

#[derive(Debug)]
struct Moments {
    name: String,
    var: Var,
    mean: Tensor,
    square: Tensor,
}

impl Adam {
    /// Starts with zero moments.
    pub fn new(variables: &Variables) -> Result<Self> {
        let moments =
            |(name, var): (String, Var)| Ok(Moments { mean: var.zeros_like()?, square: var.zeros_like()?, name, var });
        Ok(Self { variables: variables.all().into_iter().map(moments).collect::<Result<_>>()?, steps: 0 })
    }

    /// The norm of all gradients together. A variable without a gradient is an error: it would silently never learn.
    pub fn gradient_norm(&self, gradients: &GradStore) -> Result<f64> {
        let mut sum = 0.0;
        for Moments { name, var, .. } in &self.variables {
            let Some(gradient) = gradients.get(var) else { bail!("variable \"{name}\" received no gradient") };
            sum += gradient.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        }
        Ok(sum.sqrt())
    }

    /// One step of size `learning_rate` along the gradients times `scale`.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64, scale: f64) -> Result<()> {
        self.steps += 1;
        let t = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let update =
            Update { scale, rate: learning_rate / (1.0 - BETA1.powi(t)), correction: 1.0 / (1.0 - BETA2.powi(t)) };
        for Moments { name, var, mean, square } in &mut self.variables {
            let Some(gradient) = gradients.get(var) else { bail!("variable \"{name}\" received no gradient") };
            if var.device().is_cpu() {
                update.fused(var, gradient, mean, square)?;
            } else {
                update.reference(var, gradient, mean, square)?;
            }
        }
        Ok(())
    }

    /// The state as named tensors, for a checkpoint.
    pub fn state(&self) -> HashMap<String, Tensor> {
        let pair = |m: &Moments| {
            [(format!("mean.{}", m.name), m.mean.clone()), (format!("square.{}", m.name), m.square.clone())]
        };
        self.variables.iter().flat_map(pair).collect()
    }

    /// Continues from a saved state after `steps` steps.
    pub fn load(&mut self, state: &HashMap<String, Tensor>, steps: u64) -> Result<()> {
        let find = |name: String, like: &Tensor| match state.get(&name) {
            Some(t) if t.shape() == like.shape() => t.to_dtype(like.dtype())?.to_device(like.device())?.copy(),
            Some(t) => bail!("optimiser state \"{name}\" has shape {:?}, not {:?}", t.shape(), like.shape()),
            None => bail!("no optimiser state \"{name}\""),
        };
        for m in &mut self.variables {
            m.mean = find(format!("mean.{}", m.name), &m.mean)?;
            m.square = find(format!("square.{}", m.name), &m.square)?;
        }
        self.steps = steps;
        Ok(())
    }
}

/// The numbers of one step.
#[derive(Clone, Copy)]
struct Update {
    scale: f64,
    /// Learning rate with the bias correction of the first moment.
    rate: f64,
    /// Bias correction of the second moment.
    correction: f64,
}

impl Update {
    /// On the CPU: one pass over parameter, gradient and both moments.
    fn fused(&self, var: &Var, gradient: &Tensor, mean: &Tensor, square: &Tensor) -> Result<()> {
        // candle's in-place operations change one tensor at a time: moments and parameter take turns.
        let gradient = gradient.contiguous()?;
        mean.inplace_op2(&gradient, &Blend { scale: self.scale, decay: BETA1, squared: false })?;
        square.inplace_op2(&gradient, &Blend { scale: self.scale, decay: BETA2, squared: true })?;
        var.inplace_op2(mean, &Descend { update: *self, square })
    }

    /// The same on candle's operations.
    fn reference(&self, var: &Var, gradient: &Tensor, mean: &mut Tensor, square: &mut Tensor) -> Result<()> {
        let gradient = (gradient * self.scale)?;
        *mean = ((&*mean * BETA1)? + (&gradient * (1.0 - BETA1))?)?;
        *square = ((&*square * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
        let step = ((&*mean * self.rate)? / ((&*square * self.correction)?.sqrt()? + EPSILON)?)?;
        var.set(&(var.as_tensor() - step)?)
    }
}

/// moment = decay · moment + (1 − decay) · (scale · g)^(1 or 2)
struct Blend {
    scale: f64,
    decay: f64,
    squared: bool,
}

impl Blend {
    fn run<T: Real>(&self, moment: (&mut CpuStorage, &Layout), gradient: (&CpuStorage, &Layout)) -> Result<()> {
        let (decay, rest, scale) = (T::from_f64(self.decay), T::from_f64(1.0 - self.decay), T::from_f64(self.scale));
        let gradient = contiguous::<T>(gradient.0, gradient.1)?;
        in_parallel(contiguous_mut::<T>(moment.0, moment.1)?, gradient, gradient, |moment, gradient, _| {
            for (m, g) in moment.iter_mut().zip(gradient) {
                let g = *g * scale;
                *m = decay * *m + rest * if self.squared { g * g } else { g };
            }
        });
        Ok(())
    }
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "adam-moment"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        match s1 {
            CpuStorage::F64(_) => self.run::<f64>((s1, l1), (s2, l2)),
            _ => self.run::<f32>((s1, l1), (s2, l2)),
        }
    }
}

/// parameter −= rate · mean / (√(correction · square) + ε)
struct Descend<'a> {
    update: Update,
    square: &'a Tensor,
}

impl Descend<'_> {
    fn run<T: Real>(&self, parameter: (&mut CpuStorage, &Layout), mean: (&CpuStorage, &Layout)) -> Result<()> {
        let (storage, layout) = self.square.storage_and_layout();
        let square = contiguous::<T>(on_cpu(&storage)?, layout)?;
        let mean = contiguous::<T>(mean.0, mean.1)?;
        let [rate, correction, epsilon] = [self.update.rate, self.update.correction, EPSILON].map(T::from_f64);
        in_parallel(contiguous_mut::<T>(parameter.0, parameter.1)?, mean, square, |parameter, mean, square| {
            for ((p, m), s) in parameter.iter_mut().zip(mean).zip(square) {
                *p -= rate * *m / ((correction * *s).sqrt() + epsilon);
            }
        });
        Ok(())
    }
}

impl InplaceOp2 for Descend<'_> {
    fn name(&self) -> &'static str {
        "adam-step"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        match s1 {
            CpuStorage::F64(_) => self.run::<f64>((s1, l1), (s2, l2)),
            _ => self.run::<f32>((s1, l1), (s2, l2)),
        }
    }
}

/// Element-wise work on equally long slices; every element is computed by itself, so the number of threads cannot matter.
fn in_parallel<T: Real>(to: &mut [T], a: &[T], b: &[T], work: impl Fn(&mut [T], &[T], &[T]) + Sync) {
    const CHUNK: usize = 16_384;
    let chunks = to.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK));
    chunks.for_each(|((to, a), b)| vectorise(|| work(to, a, b)));
}
