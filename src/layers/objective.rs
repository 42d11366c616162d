//! The loss and its terms, from what images and candidates contribute to it. What they mean is told where the model has its objective.

#[cfg(feature = "cuda")]
use super::gpu;
#[cfg(feature = "cuda")]
use super::op::Path;
use candle_core::{Result, Tensor};

/// Log-likelihoods (B), KLs of entities (B, K) and of all candidates (B, N) → total, reconstruction, KL, idle KL and location charge, (5),
/// for weights β, β_idle and c:
///
/// | term | |
/// |---|---|
/// | total | reconstruction + β · KL + idle KL + location charge |
/// | reconstruction | − mean log-likelihood |
/// | KL | mean Σ_k KL_k |
/// | idle KL | β_idle · (mean Σ_n KL_n − KL) |
/// | location charge | c · mean Σ_k (1 − e^(−KL_k / 2)) |
///
/// Where β_idle is 0 the candidates do not count, whatever they are.
pub fn objective(weights: [f64; 3], log_probs: &Tensor, entities: &Tensor, candidates: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Path::Gpu = Path::of(log_probs) {
        return gpu::objective(weights, log_probs, entities, candidates);
    }
    let [beta, idle_beta, charge] = weights;
    let reconstruction = log_probs.mean(0)?.neg()?;
    let kl = entities.sum(1)?.mean(0)?;
    let idle = match idle_beta {
        0.0 => kl.zeros_like()?,
        idle_beta => ((candidates.sum(1)?.mean(0)? - &kl)? * idle_beta)?,
    };
    let charge = (((entities * -0.5)?.exp()?.neg()? + 1.0)?.sum(1)?.mean(0)? * charge)?;
    let total = (((&reconstruction + (&kl * beta)?)? + &idle)? + &charge)?;
    Tensor::stack(&[total, reconstruction, kl, idle, charge], 0)
}
