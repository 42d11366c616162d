//! One integration-test crate, so that candle is linked once.

mod architecture;
mod cli;
mod clustering;
mod configurations;
mod disentanglement;
mod durability;
mod editing;
mod gradients;
mod hostile;
mod inputs;
mod layers;
mod likelihood;
mod model;
mod oracle;
mod torch;
mod training;
