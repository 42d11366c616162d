//! Pictures: what a model sees and does, drawn for people, and pictures from
//! outside read for a model.
//!
//! Everything here takes plain slices and returns an [`image::RgbImage`] (or,
//! for the training curves, SVG text), so no part of it depends on the tensor
//! library.
//!
//! | module             | what it draws or reads                                  |
//! |--------------------|---------------------------------------------------------|
//! | [`decomposition`]  | scenes taken apart: KL map, merged image, masks, entities |
//! | [`reconstruction`] | inputs above the reconstructions of one or more models  |
//! | [`samples`]        | images drawn from the prior                             |
//! | [`curves`]         | training curves, as SVG                                 |
//! | [`input`]          | a picture file, fitted to what a model takes            |
//!
//! [`grid`] is the sheet all pixel pictures are laid out on; [`tile`],
//! [`text`], [`paint`] and [`palette`] are what it is made of.

pub mod curves;
pub mod decomposition;
mod density;
mod error;
pub mod grid;
pub mod input;
pub mod paint;
pub mod palette;
mod png;
pub mod reconstruction;
pub mod samples;
mod shape;
pub mod text;
pub mod tile;

pub use density::Density;
pub use error::PictureError;
pub use png::save_png;
pub use shape::Shape;
