//! `--threads` and `--device`: what computes.

use super::common::{device_in_words, tell};
use super::usage;
use anyhow::Context;
use candle_core::Device;
use multi_entity_vae::device::{self, Choice, Precision};

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Compute {
    /// CPU threads [default: all]; the result does not depend on it
    #[arg(long)]
    threads: Option<usize>,
    /// auto, cpu or cuda:N
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// On a GPU, matrix products in TF32, 10 bits of mantissa instead of 23: quicker and less exact
    #[arg(long, conflicts_with = "bf16")]
    tf32: bool,
    /// On a GPU, matrix products in bf16, 7 bits of mantissa instead of 23
    #[arg(long)]
    bf16: bool,
}

impl Compute {
    /// Limits the number of threads, before any starts to compute.
    pub fn use_threads(&self) -> anyhow::Result<()> {
        let Some(threads) = self.threads else { return Ok(()) };
        if threads == 0 || threads > 1024 {
            return Err(usage("--threads must be between 1 and 1024"));
        }
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("could not start the threads")
    }

    /// The device. A build that has a choice says what was chosen.
    pub fn open_device(&self, quiet: bool) -> anyhow::Result<Device> {
        let mut opened = match (self.device.open(), self.device) {
            (Err(error), Choice::Cuda(number)) => {
                anyhow::bail!("no CUDA device {number}: {error}; --device cpu works everywhere")
            }
            (opened, _) => opened?,
        };
        let precisions = [(self.tf32, Precision::Tf32, "--tf32"), (self.bf16, Precision::Bf16, "--bf16")];
        if let Some((_, precision, flag)) = precisions.into_iter().find(|(asked, ..)| *asked) {
            device::set_precision(&opened.device, precision).map_err(|error| usage(format!("{flag}: {error}")))?;
            opened.name = device::name(&opened.device);
        }
        if !quiet && cfg!(feature = "cuda") {
            tell(&format!("device: {}", device_in_words(&opened)));
        }
        Ok(opened.device)
    }

    /// Both at once, for what computes from its beginning.
    pub fn open(&self) -> anyhow::Result<Device> {
        self.use_threads()?;
        self.open_device(false)
    }
}
