//! Which device computes: chosen by name, opened without a panic, and named in words.
//!
//! ```
//! use multi_entity_vae::device::Choice;
//!
//! # fn main() -> Result<(), multi_entity_vae::device::DeviceError> {
//! let opened = "auto".parse::<Choice>()?.open()?;
//! println!("{}", opened.name);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "cuda")]
mod cuda;
mod feed;

pub use feed::Feed;

use crate::layers::Instructions;
#[cfg(feature = "cuda")]
use crate::layers::{gpu_in_bf16, set_gpu_to_bf16};
use candle_core::{Device, DeviceLocation};
use std::fmt;
use std::str::FromStr;

/// `auto`, `cpu` or `cuda:N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first CUDA device if this build has CUDA, a driver answers and there is one; else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device of this number, or an error.
    Cuda(usize),
}

/// A device, ready to compute.
#[derive(Clone, Debug)]
pub struct Opened {
    /// For candle.
    pub device: Device,
    /// See [`name`].
    pub name: String,
    /// Why [`Choice::Auto`] came down to the CPU, in a build that could have done otherwise.
    pub fallback: Option<DeviceError>,
}

/// Why there is no such device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No device is called so.
    #[error("there is no device \"{0}\": expected auto, cpu or cuda:N")]
    Unknown(String),
    /// The program knows the CPU alone.
    #[error("this build has no CUDA; build with `--features cuda` (README, section GPU)")]
    NotBuilt,
    /// There is no library of the driver.
    #[error(
        "no NVIDIA driver is installed here, or its library (libcuda.so.1) is not found; `nvidia-smi` says what there is"
    )]
    NoDriver,
    /// The driver is there and says no.
    #[error("the NVIDIA driver refuses: {0}; `nvidia-smi` says more")]
    Driver(String),
    /// The driver knows of fewer devices.
    #[error("{}", match .0 {
        0 => "the driver knows of no device; is CUDA_VISIBLE_DEVICES set to hide it?".to_string(),
        1 => "the only device is cuda:0".to_string(),
        n => format!("there are {n}, cuda:0 to cuda:{}", n - 1),
    })]
    TooFew(usize),
    /// A library beside the driver is missing.
    #[error(
        "{0}; LD_LIBRARY_PATH must name the folder that holds libcublas, libcurand and libnvrtc (README, section GPU)"
    )]
    Library(String),
    /// A number format of GPUs was asked of a CPU.
    #[error("the CPU computes in full precision; choose a GPU by --device cuda:N, or leave it out")]
    FullPrecision,
    /// Kernels that this crate brings do not come to run.
    #[error("the GPU kernels cannot be made ready: {0}; is the driver as new as the CUDA toolkit?")]
    Kernels(String),
}

impl FromStr for Choice {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let choice = match text.split_once(':') {
            None => [Self::Auto, Self::Cpu].into_iter().find(|choice| choice.to_string() == text),
            Some(("cuda", text)) => number(text).map(Self::Cuda),
            Some(_) => None,
        };
        choice.ok_or_else(|| DeviceError::Unknown(text.into()))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => out.write_str("auto"),
            Self::Cpu => out.write_str("cpu"),
            Self::Cuda(number) => write!(out, "cuda:{number}"),
        }
    }
}

impl Choice {
    /// Opens the device. Never panics, whatever is installed or not.
    pub fn open(self) -> Result<Opened, DeviceError> {
        let opened = |device, fallback| Opened { name: name(&device), device, fallback };
        match self {
            Self::Cpu => Ok(opened(Device::Cpu, None)),
            Self::Cuda(number) => Ok(opened(cuda(number)?, None)),
            Self::Auto => Ok(match cuda(0) {
                Ok(device) => opened(device, None),
                // Whoever built without CUDA does not have to be told.
                Err(DeviceError::NotBuilt) => opened(Device::Cpu, None),
                Err(error) => opened(Device::Cpu, Some(error)),
            }),
        }
    }
}

/// A device in words: what it is called here, and what it is: "cuda:0 (NVIDIA H100 80GB HBM3)", "cpu (avx512)".
pub fn name(device: &Device) -> String {
    let kind = match device.location() {
        DeviceLocation::Cpu => Choice::Cpu.to_string(),
        DeviceLocation::Cuda { gpu_id } => Choice::Cuda(gpu_id).to_string(),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    };
    format!("{kind} ({})", model(device))
}

/// How exactly GPUs multiply matrices. Whatever is no factor of a product is `f32`, sums of products too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Factors have 23 bits of mantissa: 10⁻⁷ off.
    #[default]
    Full,
    /// Factors are rounded to TF32, 10 bits: 3·10⁻⁴ off, and up to several times as quick.
    Tf32,
    /// Factors are rounded to bf16, 7 bits: 2·10⁻³ off.
    Bf16,
}

/// From here on, matrix products of all GPUs have this precision. An error if the device has full precision alone.
pub fn set_precision(device: &Device, precision: Precision) -> Result<(), DeviceError> {
    match (device, precision) {
        #[cfg(feature = "cuda")]
        (Device::Cuda(_), _) => {
            candle_core::cuda::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
            set_gpu_to_bf16(precision == Precision::Bf16);
            Ok(())
        }
        (_, Precision::Full) => Ok(()),
        _ => Err(DeviceError::FullPrecision),
    }
}

/// What a device is, wherever it is plugged in: a processor by the instructions that its kernels use, a GPU by its model.
pub fn model(device: &Device) -> String {
    match device {
        Device::Cpu => Instructions::in_use().map_or("unknown", Instructions::name).into(),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let precision = match (gpu_in_bf16(), candle_core::cuda::gemm_reduced_precision_f32()) {
                (true, _) => ", bf16",
                (false, true) => ", TF32",
                (false, false) => "",
            };
            format!("{}{precision}", cuda::model(device))
        }
        _ => "unknown".into(),
    }
}

#[cfg(feature = "cuda")]
use cuda::open as cuda;

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for choice in [Choice::Auto, Choice::Cpu, Choice::Cuda(0), Choice::Cuda(12)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for text in [
            "",
            "gpu",
            "cuda",
            "cuda:",
            "cuda:x",
            "cuda:-1",
            "cuda:+1",
            "cuda: 1",
            "cpu:0",
            "CPU",
            "cuda:99999999999999999999",
        ] {
            assert_eq!(text.parse::<Choice>(), Err(DeviceError::Unknown(text.into())));
        }
    }

    #[test]
    fn the_cpu_is_always_there_and_says_its_instructions() {
        for choice in [Choice::Cpu, Choice::Auto] {
            let opened = choice.open().unwrap();
            let instructions = Instructions::in_use().unwrap().name();
            if opened.device.is_cpu() {
                assert_eq!(opened.name, format!("cpu ({instructions})"));
                // A build that could have chosen says why it did not.
                assert_eq!(opened.fallback.is_some(), cfg!(feature = "cuda") && choice == Choice::Auto);
            }
        }
    }

    #[test]
    fn the_cpu_rounds_no_factors() {
        assert_eq!(set_precision(&Device::Cpu, Precision::Full), Ok(()));
        for precision in [Precision::Tf32, Precision::Bf16] {
            assert_eq!(set_precision(&Device::Cpu, precision), Err(DeviceError::FullPrecision));
        }
    }

    /// On a machine with fewer than a thousand GPUs: with or without the feature, driver and devices.
    #[test]
    fn a_device_that_is_not_there_is_an_error_that_says_what_to_do() {
        let error = Choice::Cuda(999).open().unwrap_err();
        let says = error.to_string();
        match &error {
            DeviceError::NotBuilt => assert!(!cfg!(feature = "cuda") && says.contains("--features cuda")),
            DeviceError::NoDriver | DeviceError::Driver(_) => {
                assert!(cfg!(feature = "cuda") && says.contains("nvidia-smi"))
            }
            DeviceError::TooFew(devices) => assert!(cfg!(feature = "cuda") && *devices < 999),
            DeviceError::Library(_) => assert!(cfg!(feature = "cuda") && says.contains("LD_LIBRARY_PATH")),
            DeviceError::Unknown(_) | DeviceError::Kernels(_) | DeviceError::FullPrecision => panic!("{says}"),
        }
        assert!(DeviceError::TooFew(0).to_string().contains("CUDA_VISIBLE_DEVICES"));
        assert!(DeviceError::TooFew(1).to_string().contains("only device is cuda:0"));
        assert!(DeviceError::TooFew(4).to_string().contains("cuda:0 to cuda:3"));
    }
}
