//! What a model is graded by: pure functions of masks, counts and per-scene losses.
//!
//! [`SegmentationScores`] and [`CountConfusion`] grade scenes, [`Accumulator`] averages them as they
//! stream by, and [`Report`] is the result, for machines (JSON) and people (a table).
//!
//! Beside how well a model does, they say how: [`Errors`] counts what goes wrong in a scene by kind, [`MapScores`] whether the KL map
//! follows the objects or just the light, and [`probe()`] what a linear map reads off one entity's latent.

mod accumulator;
mod bound;
mod clustering;
mod counting;
pub mod disentanglement;
mod errors;
mod kl_map;
mod latents;
mod log_factorials;
mod matching;
mod mean;
mod presence;
mod probe;
mod ranking;
mod report;
mod scenes;
mod segmentation;

pub use accumulator::{Accumulator, SceneOutcome};
pub use bound::{BoundReport, LikelihoodBound};
pub use clustering::{Contingency, adjusted_mutual_information, adjusted_rand_index};
pub use counting::{CountConfusion, CountTooLarge, MAX_COUNT};
pub use errors::Errors;
pub use kl_map::{MapScores, centre_cells};
pub use latents::{EncodedEntity, Latents};
pub use log_factorials::LogFactorials;
pub use matching::{MatchingError, maximum_weight_matching};
pub use presence::presence;
pub use probe::{Described, LinearProbe, ProbeScores, probe};
pub use ranking::{area_under_curve, rank_correlation};
pub use report::{ErrorReport, Report};
pub use scenes::{Decomposition, Evaluation, EvaluationError, Example, stack};
pub use segmentation::{BACKGROUND, Masks, SegmentationError, SegmentationScores};
