//! Adam: a step is one pass over all parameters, their gradients and both moments, in one launch. What it has to know of all of them
//! together, the gradient's norm, stays on the device.

use super::machine::{Launch, MANY, Machine, Operand, Shares};
use super::write::change;
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{DType, Device, InplaceOp1, Result, Tensor, bail};

/// What a step is told and what is found out on its way, in one small buffer on the device; `adam.cu` names the numbers.
#[derive(Clone, Debug)]
pub struct StepNumbers(Tensor);

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The norm of all gradients together.
    pub norm: f64,
    /// Whether it and the loss are finite; if not, no parameter was changed.
    pub finite: bool,
    /// The terms of the loss.
    pub terms: [f64; 5],
}

/// Numbers in the buffer.
const NUMBERS: usize = 16;

/// Runs work that is generic over the machine on the one that a tensor lies on.
macro_rules! on_machine_of {
    ($tensor:expr, $work:ident($($argument:expr),*)) => {{
        #[cfg(test)]
        if $tensor.device().is_cpu() {
            return $work::<candle_core::CpuStorage>($($argument),*);
        }
        #[cfg(feature = "cuda")]
        if $tensor.device().is_cuda() {
            return $work::<CudaStorage>($($argument),*);
        }
        bail!("a step of {:?} has no kernel for {:?}", $tensor.shape(), $tensor.device())
    }};
}

impl StepNumbers {
    /// Nothing known yet.
    pub fn new(device: &Device) -> Result<Self> {
        Ok(Self(Tensor::zeros(NUMBERS, DType::F32, device)?))
    }

    /// Learning rate with the bias correction of the first moment, bias correction of the second, and the largest norm of the gradient (0:
    /// any), for one step.
    pub fn tell(&self, [rate, correction, clip]: [f64; 3]) -> Result<()> {
        // The factor is not known yet, and the sum of squares is 0 so far.
        super::write(&self.0, &[rate, correction, clip, 0.0, 0.0].map(|number| number as f32))
    }

    /// Measures the gradients of variables and puts the loss's terms, (5), beside that.
    pub fn measure(&self, variables: &[[&Tensor; 4]], terms: &Tensor) -> Result<()> {
        on_machine_of!(self.0, measure(self, variables, terms))
    }

    /// What was found out; waits for the device.
    pub fn read(&self) -> Result<Measured> {
        let numbers: Vec<f64> = self.0.to_vec1::<f32>()?.into_iter().map(f64::from).collect();
        let [_, _, _, scale, _, norm, a, b, c, d, e, ..] = numbers[..] else { bail!("a step has {NUMBERS} numbers") };
        Ok(Measured { norm, finite: scale >= 0.0, terms: [a, b, c, d, e] })
    }
}

fn measure<M: Machine>(step: &StepNumbers, variables: &[[&Tensor; 4]], terms: &Tensor) -> Result<()>
where
    for<'a> super::write::Change<'a, M>: InplaceOp1,
{
    let (storage, layout) = terms.storage_and_layout();
    let terms = Operand::new(M::of(&storage)?, layout)?;
    for variables in variables.chunks(MANY) {
        let blocks = blocks(variables)?;
        let squares = M::launch_many(&Launch::new("squares", blocks, &[])?.in_blocks(blocks)?, variables, terms)?;
        let launch = Launch::new("measure", 1, &[blocks])?.in_blocks(1)?;
        let inputs = [Operand::whole(&squares, blocks), terms];
        change::<M>(&step.0, &mut |step| M::launch_in_place(&launch, vec![step], &inputs))?;
    }
    Ok(())
}

fn blocks(variables: &[[&Tensor; 4]]) -> Result<usize> {
    Ok(Shares::of(&variables.iter().map(|[parameter, ..]| parameter.elem_count()).collect::<Vec<_>>())?.blocks())
}

/// Changes parameters and their two moments by one step; of each variable parameter, mean, square and gradient:
///
/// parameter −= rate · mean / (√(correction · square) + ε), after both moments took up scale · gradient.
///
/// `decay` is what the moments keep of themselves, β₁ and β₂. A step whose numbers are not finite changes nothing.
pub fn adam(step: &StepNumbers, decay: [f64; 2], epsilon: f64, variables: &[[&Tensor; 4]]) -> Result<()> {
    let [decay1, decay2] = decay;
    let launch = Launch::new("adam", 1, &[])?.with(&[decay1, 1.0 - decay1, decay2, 1.0 - decay2, epsilon]);
    on_machine_of!(step.0, adam_on(step, &launch, variables))
}

fn adam_on<M: Machine>(step: &StepNumbers, launch: &Launch, variables: &[[&Tensor; 4]]) -> Result<()> {
    let (storage, layout) = step.0.storage_and_layout();
    let numbers = Operand::new(M::of(&storage)?, layout)?;
    for variables in variables.chunks(MANY) {
        M::launch_many(&launch.clone().in_blocks(blocks(variables)?)?, variables, numbers)?;
    }
    Ok(())
}
