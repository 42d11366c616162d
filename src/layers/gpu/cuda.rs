//! The machine that is an NVIDIA GPU. The kernels are compiled by NVRTC for the process, and loaded by each device that runs one.

use super::SOURCE;
use super::machine::{Launch, Machine, Operand, Sizes};
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaView, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileError, compile_ptx};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{CudaStorage, Error, Result, Storage, bail};
use std::sync::OnceLock;

/// Threads of a block: enough to fill a multiprocessor with few registers each, as in `kernel.h`.
const BLOCK: u32 = 256;

// SAFETY: plain numbers, `repr(C)`, laid out as `struct Sizes` in kernel.h.
unsafe impl DeviceRepr for Sizes {}

/// Compiles and loads the kernels, so that what is missing is known before anything is computed.
pub fn prepare(device: &CudaDevice) -> Result<()> {
    function(device, "fold").map(|_| ())
}

/// The kernels, compiled; it takes no GPU.
fn compiled() -> &'static std::result::Result<String, String> {
    static PTX: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    PTX.get_or_init(|| match compile_ptx(SOURCE) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(CompileError::CompileError { log, .. }) => Err(log.to_string_lossy().into_owned()),
        Err(other) => Err(other.to_string()),
    })
}

/// A kernel by its name.
fn function(device: &CudaDevice, kernel: &str) -> Result<CudaFunction> {
    match compiled() {
        Ok(ptx) => Ok(device.get_or_load_custom_func(kernel, "mevae", ptx)?.into_cuda_function()),
        Err(reason) => bail!("NVRTC does not compile the GPU kernels: {reason}"),
    }
}

fn config(launch: &Launch) -> LaunchConfig {
    let blocks = u32::try_from(launch.sizes.n).unwrap_or(0).div_ceil(BLOCK);
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 }
}

fn view<'a>(operand: &Operand<'a, CudaStorage>) -> Result<CudaView<'a, f32>> {
    let slice = operand.storage.as_cuda_slice::<f32>()?;
    match slice.try_slice(operand.offset..operand.offset + operand.len) {
        Some(view) => Ok(view),
        None => bail!("a kernel was given {} numbers of a buffer of {}", operand.offset + operand.len, slice.len()),
    }
}

impl Machine for CudaStorage {
    fn launch(launch: &Launch, inputs: [Operand<'_, Self>; 4]) -> Result<Self> {
        let device = inputs[0].storage.device();
        let (kernel, stream) = (function(device, launch.kernel)?, device.cuda_stream());
        let [a, b, c, d] = [view(&inputs[0])?, view(&inputs[1])?, view(&inputs[2])?, view(&inputs[3])?];
        // SAFETY: every kernel writes each number of `out`, see `Launch::outputs`.
        let mut out = unsafe { device.alloc::<f32>(launch.outputs)? };
        let mut builder = stream.launch_builder(&kernel);
        builder.arg(&mut out).arg(&a).arg(&b).arg(&c).arg(&d).arg(&launch.sizes);
        // SAFETY: the arguments are those of every kernel (`KERNEL` in kernel.h); what each reads and writes of them follows from the
        // sizes, which its operation derives from the buffers' lengths. The twin runs them with every access checked.
        unsafe { builder.launch(config(launch)) }.w()?;
        Ok(Self::wrap_cuda_slice(out, device.clone()))
    }

    fn launch_in_place(launch: &Launch, changed: [&mut Self; 3], input: Operand<'_, Self>) -> Result<()> {
        let device = input.storage.device();
        let (kernel, stream) = (function(device, launch.kernel)?, device.cuda_stream());
        let input = view(&input)?;
        let [a, b, c] = changed;
        let (a, b, c) = (a.as_cuda_slice_mut::<f32>()?, b.as_cuda_slice_mut::<f32>()?, c.as_cuda_slice_mut::<f32>()?);
        if [a.len(), b.len(), c.len(), input.len()].iter().any(|len| *len < launch.outputs) {
            bail!("{} was given buffers of different lengths", launch.kernel);
        }
        let mut builder = stream.launch_builder(&kernel);
        builder.arg(a).arg(b).arg(c).arg(&input).arg(&input).arg(&launch.sizes);
        // SAFETY: as above; the three buffers that are changed are borrowed for it, and all are long enough.
        unsafe { builder.launch(config(launch)) }.w()?;
        Ok(())
    }

    fn of(storage: &Storage) -> Result<&Self> {
        match storage {
            Storage::Cuda(storage) => Ok(storage),
            _ => Err(Error::Msg("a GPU kernel was given a tensor of another device".into())),
        }
    }

    fn into_storage(self) -> Storage {
        Storage::Cuda(self)
    }
}

#[cfg(test)]
mod tests {
    /// Where NVRTC is installed; where it is not, its bindings panic.
    #[test]
    fn nvrtc_compiles_every_kernel() {
        match std::panic::catch_unwind(super::compiled) {
            Err(_) => crate::layers::gpu::twin::skipped("NVRTC is not installed"),
            Ok(Err(log)) => panic!("{log}"),
            Ok(Ok(ptx)) => {
                let kernels = super::SOURCE.lines().filter_map(|line| line.strip_prefix("KERNEL("));
                let names: Vec<_> = kernels.filter_map(|line| line.split(')').next()).collect();
                assert_eq!(names.len(), 10, "{names:?}");
                for name in names {
                    assert!(ptx.contains(&format!(".entry {name}(")), "{name}");
                }
            }
        }
    }
}
