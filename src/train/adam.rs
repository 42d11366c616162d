//! Adam (Kingma & Ba 2015, algorithm 1), with a state that can be saved.

use crate::layers::real::{Real, vectorise};
#[cfg(feature = "cuda")]
use crate::layers::{StepNumbers, adam_on_gpu};
use crate::layers::{contiguous, contiguous_mut, on_cpu};
use crate::model::Variables;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Result, Storage, Tensor, Var, bail};
use rayon::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;

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
        let (mut sum, mut elsewhere) = (0.0, Vec::new());
        for Moments { name, var, .. } in &self.variables {
            let Some(gradient) = gradients.get(var) else { bail!("variable \"{name}\" received no gradient") };
            let gradient = gradient.contiguous()?;
            let (storage, layout) = gradient.storage_and_layout();
            sum += match &*storage {
                Storage::Cpu(s @ CpuStorage::F32(_)) => sum_of_squares::<f32>(contiguous(s, layout)?),
                Storage::Cpu(s @ CpuStorage::F64(_)) => sum_of_squares::<f64>(contiguous(s, layout)?),
                _ => {
                    elsewhere.push(gradient.sqr()?.sum_all()?);
                    0.0
                }
            };
        }
        if !elsewhere.is_empty() {
            // All of them in one transfer: a device waits for each.
            sum += Tensor::stack(&elsewhere, 0)?.to_dtype(DType::F64)?.to_vec1::<f64>()?.iter().sum::<f64>();
        }
        Ok(sum.sqrt())
    }

    /// One step of size `learning_rate` along the gradients times `scale`.
    pub fn step(&mut self, gradients: &GradStore, learning_rate: f64, scale: f64) -> Result<()> {
        let update = self.update(learning_rate, scale);
        for Moments { name, var, mean, square } in &mut self.variables {
            let Some(gradient) = gradients.get(var) else { bail!("variable \"{name}\" received no gradient") };
            match (var.device(), var.dtype()) {
                (Device::Cpu, DType::F32) => update.fused::<f32>(var, gradient, mean, square)?,
                (Device::Cpu, DType::F64) => update.fused::<f64>(var, gradient, mean, square)?,
                _ => update.reference(var, gradient, mean, square)?,
            }
        }
        self.advance();
        Ok(())
    }

    /// The step to come.
    fn update(&self, learning_rate: f64, scale: f64) -> Update {
        let t = i32::try_from(self.steps + 1).unwrap_or(i32::MAX);
        Update { scale, rate: learning_rate / (1.0 - BETA1.powi(t)), correction: 1.0 / (1.0 - BETA2.powi(t)) }
    }

    /// Counts a step that was taken.
    pub(super) fn advance(&mut self) {
        self.steps += 1;
    }

    /// Tells a GPU what it has to know for the step to come, clipped to a norm (0: not at all).
    #[cfg(feature = "cuda")]
    pub(super) fn tell(&self, numbers: &StepNumbers, learning_rate: f64, clip: f64) -> Result<()> {
        let update = self.update(learning_rate, 1.0);
        numbers.tell([update.rate, update.correction, clip])
    }

    /// That step, without a word to the host: what the device was told, and what it then finds out of gradients and loss.
    #[cfg(feature = "cuda")]
    pub(super) fn step_as_measured(&self, gradients: &GradStore, terms: &Tensor, numbers: &StepNumbers) -> Result<()> {
        let gradient = |Moments { name, var, .. }: &Moments| match gradients.get(var) {
            Some(gradient) => gradient.contiguous(),
            None => bail!("variable \"{name}\" received no gradient"),
        };
        let gradients = self.variables.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        let pairs = self.variables.iter().zip(&gradients);
        let variables: Vec<_> = pairs.map(|(m, gradient)| [m.var.as_tensor(), &m.mean, &m.square, gradient]).collect();
        numbers.measure(&variables, terms)?;
        adam_on_gpu(numbers, [BETA1, BETA2], EPSILON, &variables)
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
    fn fused<T: Real>(&self, var: &Var, gradient: &Tensor, mean: &Tensor, square: &Tensor) -> Result<()> {
        let gradient = gradient.contiguous()?;
        let (storage, layout) = gradient.storage_and_layout();
        let gradient = contiguous::<T>(on_cpu(&storage)?, layout)?;
        change(mean, |mean| {
            change(square, |square| {
                change(var, |parameter| {
                    self.descend::<T>(gradient, mean, square, parameter);
                    Ok(())
                })
            })
        })
    }

    /// For each number: mean = β₁ mean + (1 − β₁) g, square = β₂ square + (1 − β₂) g², with g = scale · gradient; then
    /// parameter −= rate · mean / (√(correction · square) + ε).
    ///
    /// Every number is computed by itself, so the number of threads cannot matter.
    fn descend<T: Real>(&self, gradient: &[T], mean: &mut [T], square: &mut [T], parameter: &mut [T]) {
        let [scale, rate, correction, epsilon] = [self.scale, self.rate, self.correction, EPSILON].map(T::from_f64);
        let [decay1, decay2] = [BETA1, BETA2].map(T::from_f64);
        let [rest1, rest2] = [1.0 - BETA1, 1.0 - BETA2].map(T::from_f64);
        let moments = mean.par_chunks_mut(CHUNK).zip(square.par_chunks_mut(CHUNK));
        let chunks = parameter.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK)).zip(moments);
        chunks.for_each(|((parameter, gradient), (mean, square))| {
            vectorise(
                #[inline(always)]
                || {
                    for ((p, g), (m, s)) in parameter.iter_mut().zip(gradient).zip(mean.iter_mut().zip(square)) {
                        let g = *g * scale;
                        *m = decay1 * *m + rest1 * g;
                        *s = decay2 * *s + rest2 * g * g;
                        *p -= rate * *m / ((correction * *s).sqrt() + epsilon);
                    }
                },
            );
        });
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

/// Numbers that one thread treats in one go.
const CHUNK: usize = 16_384;

/// Σ x², its parts always added in the same order.
fn sum_of_squares<T: Real>(numbers: &[T]) -> f64 {
    /// Sums side by side: for vectors, and to keep the rounding of `f32` out of the result.
    const LANES: usize = 64;
    let of_chunk = |chunk: &[T]| {
        let mut sums = [T::zero(); LANES];
        vectorise(
            #[inline(always)]
            || {
                for numbers in chunk.chunks(LANES) {
                    for (sum, x) in sums.iter_mut().zip(numbers) {
                        *sum += *x * *x;
                    }
                }
            },
        );
        sums.iter().map(|sum| sum.to_f64()).sum::<f64>()
    };
    numbers.par_chunks(CHUNK).map(of_chunk).collect::<Vec<_>>().iter().sum()
}

/// Gives out the numbers of a tensor on the CPU to be changed. candle's operations in place change one tensor each; one within the
/// other they change several together.
fn change<T: Real>(tensor: &Tensor, work: impl FnMut(&mut [T]) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&Change(RefCell::new(work), PhantomData))
}

struct Change<T, F>(RefCell<F>, PhantomData<T>);

impl<T: Real, F: FnMut(&mut [T]) -> Result<()>> InplaceOp1 for Change<T, F> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        (self.0.borrow_mut())(contiguous_mut(storage, layout)?)
    }
}
