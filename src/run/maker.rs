//! What weights were computed with: where it differs, so may their last bits.

use crate::device;
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Program, system and instructions of a sitting. The number of threads is no part of it: it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// Version of this program.
    pub program: String,
    /// Operating system and processor family.
    pub system: String,
    /// The processor's vector instructions, or the GPU's model.
    pub instructions: String,
}

impl Maker {
    /// What computes here and now.
    pub fn here(device: &Device) -> Self {
        Self {
            program: concat!("mevae ", env!("CARGO_PKG_VERSION")).into(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            instructions: device::model(device),
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, {}, {}", self.program, self.system, self.instructions)
    }
}
