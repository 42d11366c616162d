//! What a training run writes down as it goes: metrics for programs, events for TensorBoard.
//!
//! Both logs only ever grow, and both continue at a recorded length: a run that resumes from a
//! checkpoint cuts away what was logged after it, so that no step is logged twice.

mod append;
mod error;
mod events;
mod metrics;
mod png;
mod protobuf;
mod tfrecord;

pub use error::LogError;
pub use events::EventLog;
pub use metrics::MetricsLog;
