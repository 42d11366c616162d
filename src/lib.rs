pub mod layers;
pub mod model;
pub mod random;
