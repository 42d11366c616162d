//! Pictures: what a model sees and does, drawn for people, and pictures from
//! outside read for a model.
//!
//! Everything here takes plain slices and returns an [`image::RgbImage`], a
//! [`drawing::Drawing`] or, for the training curves, SVG text, so no part of it
//! depends on the tensor library.
//!
//! | module             | what it draws or reads                                  |
//! |--------------------|---------------------------------------------------------|
//! | [`decomposition`]  | scenes taken apart: KL map, merged image, masks, entities |
//! | [`editing`]        | scenes whose entities were changed, before and after    |
//! | [`reconstruction`] | inputs above the reconstructions of one or more models  |
//! | [`samples`]        | images drawn from the prior                             |
//! | [`manifold`]       | the decoded plane of two latent dimensions              |
//! | [`traversal`]      | one latent dimension at a time, as a sheet and moving   |
//! | [`interpolation`]  | the way from one latent to another                      |
//! | [`kl_map`]         | the mean KL of every candidate of a grid                |
//! | [`scatter`]        | points by class                                         |
//! | [`bars`]           | one value for each latent dimension                     |
//! | [`trade_off`]      | rate against distortion                                 |
//! | [`curves`]         | training curves, as SVG                                 |
//! | [`input`]          | a picture file, fitted to what a model takes            |
//!
//! [`grid`] is the sheet all pixel pictures are laid out on; [`tile`],
//! [`text`], [`paint`] and [`palette`] are what it is made of. [`drawing`] is
//! what plots are made of, be they written as SVG or painted.

mod axis;
pub mod bars;
pub mod curves;
pub mod decomposition;
mod density;
pub mod drawing;
pub mod editing;
mod error;
mod gif;
pub mod grid;
pub mod input;
pub mod interpolation;
pub mod kl_map;
pub mod manifold;
pub mod paint;
pub mod palette;
mod png;
pub mod reconstruction;
pub mod samples;
pub mod scatter;
mod shape;
pub mod text;
pub mod tile;
pub mod trade_off;
pub mod traversal;

pub use density::Density;
pub use drawing::{Drawing, escaped};
pub use error::PictureError;
pub use gif::gif;
pub use png::{png, save_png};
pub use shape::Shape;
