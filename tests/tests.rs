//! One integration-test crate, so that candle is linked once.

mod clustering;
mod gradients;
mod layers;
