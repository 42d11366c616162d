//! What weights were computed with: where it differs, so may their last bits.

use crate::layers::Instructions;
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
    /// The vector instructions, or the kind of accelerator.
    pub instructions: String,
}

impl Maker {
    /// What computes here and now.
    pub fn here(device: &Device) -> Self {
        let instructions = match device {
            Device::Cpu => Instructions::in_use().map_or("unknown", Instructions::name),
            Device::Cuda(_) => "cuda",
            Device::Metal(_) => "metal",
        };
        Self {
            program: concat!("mevae ", env!("CARGO_PKG_VERSION")).into(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            instructions: instructions.into(),
        }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, {}, {}", self.program, self.system, self.instructions)
    }
}
