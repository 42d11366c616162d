//! stub
use rand::Rng;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct DensityError;
#[derive(Debug)]
pub struct GaussianMixture;
impl GaussianMixture {
    pub fn fit(_p: &[f32], _d: usize, _c: usize, _s: u64) -> Result<Self, DensityError> {
        Ok(Self)
    }
    pub fn sample(&self, _r: &mut impl Rng, _o: &mut [f32]) {}
    pub fn components(&self) -> usize {
        1
    }
    pub fn dimensions(&self) -> usize {
        16
    }
}
