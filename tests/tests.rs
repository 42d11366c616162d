//! One integration-test crate, so that candle is linked once.

mod gradients;
mod layers;
