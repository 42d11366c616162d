//! Central finite differences, the oracle of every backward pass.

use candle_core::{Result, Tensor, Var};

/// Checks d`loss`/d`var` at up to `samples` elements against (f(x + h) − f(x − h)) / 2h, in f64.
pub fn check(name: &str, var: &Var, samples: usize, loss: impl Fn() -> Result<Tensor>) -> Result<()> {
    const STEP: f64 = 1e-5;
    let gradients = loss()?.backward()?;
    let Some(gradient) = gradients.get(var.as_tensor()) else { panic!("{name} received no gradient") };
    let gradient = gradient.flatten_all()?.to_vec1::<f64>()?;
    let start = var.as_tensor().copy()?;
    let values = start.flatten_all()?.to_vec1::<f64>()?;
    let every = (values.len() / samples).max(1);
    for i in (0..values.len()).step_by(every) {
        let at = |delta: f64| -> Result<f64> {
            let mut moved = values.clone();
            moved[i] += delta;
            var.set(&Tensor::from_vec(moved, start.shape(), start.device())?)?;
            loss()?.to_scalar::<f64>()
        };
        let numeric = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
        let error = (numeric - gradient[i]).abs() / (1.0 + numeric.abs().max(gradient[i].abs()));
        assert!(error < 1e-6, "{name}[{i}]: backward says {}, differences say {numeric}", gradient[i]);
    }
    var.set(&start)
}
