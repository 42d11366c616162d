//! Activation functions, applied together with the bias while a layer's output is still in cache.

use super::real::{Real, vectorise};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// What follows a layer's linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// y = x, for a layer whose output is a parameter (a mean, a logit).
    Identity,
    /// y = max(x, 0)
    Relu,
    /// y = 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// y = tanh x
    Tanh,
}

impl Activation {
    /// Every activation, for tests that must cover them all.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Relu, Self::Sigmoid, Self::Tanh];

    /// `y[i, c] = f(y[i, c] + bias[c])`, rows of `bias.len()` channels.
    pub(super) fn add_bias_and_apply<T: Real>(self, y: &mut [T], bias: &[T]) {
        match self {
            Self::Identity => shift(y, bias, |x| x),
            Self::Relu => shift(y, bias, |x| if x < T::zero() { T::zero() } else { x }),
            Self::Sigmoid => shift(y, bias, T::sigmoid),
            Self::Tanh => shift(y, bias, T::tanh),
        }
    }

    /// `d *= f'`, the derivative written in terms of the output `y`, which is what backward passes have at hand: from the gradient
    /// behind the activation to the one before it. ReLU's derivative at 0 is 0.
    pub(super) fn apply_derivative<T: Real>(self, d: &mut [T], y: &[T]) {
        match self {
            Self::Identity => (),
            Self::Relu => scale(d, y, |d, y| if y > T::zero() { d } else { T::zero() }),
            Self::Sigmoid => scale(d, y, |d, y| d * y * (T::one() - y)),
            Self::Tanh => scale(d, y, |d, y| d * (T::one() - y * y)),
        }
    }

    /// The function alone, on candle's own operations.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Identity => Ok(x.clone()),
            Self::Relu => x.relu(),
            Self::Sigmoid => candle_nn::ops::sigmoid(x),
            Self::Tanh => x.tanh(),
        }
    }
}

#[inline(always)]
fn shift<T: Real>(y: &mut [T], bias: &[T], f: impl Fn(T) -> T) {
    vectorise(
        #[inline(always)]
        || match bias {
            // A single channel (an image) would otherwise be a loop of length one per pixel, which cannot be vectorised.
            [b] => y.iter_mut().for_each(|y| *y = f(*y + *b)),
            _ => {
                for row in y.chunks_exact_mut(bias.len()) {
                    for (y, b) in row.iter_mut().zip(bias) {
                        *y = f(*y + *b);
                    }
                }
            }
        },
    );
}

#[inline(always)]
fn scale<T: Real>(d: &mut [T], y: &[T], f: impl Fn(T, T) -> T) {
    vectorise(
        #[inline(always)]
        || {
            for (d, y) in d.iter_mut().zip(y) {
                *d = f(*d, *y);
            }
        },
    );
}
