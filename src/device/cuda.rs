//! Opening a CUDA device. NVIDIA's libraries are asked one after the other, so that the first that is missing is the one that is named.

use super::DeviceError;
use crate::layers::prepare_gpu;
use candle_core::Device;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result};
use candle_core::cuda_backend::{CudaDevice, cudarc::driver::DriverError};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// The device of this number.
pub fn open(number: usize) -> Result<Device, DeviceError> {
    let refused = |e: DriverError| DeviceError::Driver(words(e));
    match guarded(result::init) {
        Err(_) => return Err(DeviceError::NoDriver),
        // CUDA_ERROR_STUB_LIBRARY: what was found is a toolkit's placeholder for the driver.
        Ok(Err(e)) if e.0 as u32 == 34 => return Err(DeviceError::NoDriver),
        // CUDA_ERROR_NO_DEVICE
        Ok(Err(e)) if e.0 as u32 == 100 => return Err(DeviceError::TooFew(0)),
        Ok(started) => started.map_err(refused)?,
    }
    let devices = usize::try_from(CudaContext::device_count().map_err(refused)?).unwrap_or(0);
    if number >= devices {
        return Err(DeviceError::TooFew(devices));
    }
    // A stream of our own, the same for all threads: candle's usual one is another in each thread, with nothing to order them.
    let opened = guarded(move || Device::new_cuda_with_stream(number));
    let device = opened.map_err(DeviceError::Library)?.map_err(|e| DeviceError::Driver(e.to_string()))?;
    if let Device::Cuda(device) = &device {
        let ready = guarded(AssertUnwindSafe(|| prepare_gpu(device))).map_err(DeviceError::Library)?;
        ready.map_err(|e| DeviceError::Kernels(e.to_string()))?;
    }
    Ok(device)
}

/// "NVIDIA H100 80GB HBM3"
pub fn model(device: &CudaDevice) -> String {
    device.cuda_stream().context().name().unwrap_or_else(|_| "unknown".into())
}

fn words(error: DriverError) -> String {
    match (error.error_name(), error.error_string()) {
        (Ok(name), Ok(words)) => format!("{} ({})", words.to_string_lossy(), name.to_string_lossy()),
        _ => format!("{error:?}"),
    }
}

/// What a panic says, as an error. The bindings panic where a library is missing; nothing of that is to reach the terminal. Panics of
/// other threads are reported as ever.
fn guarded<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    thread_local! {
        static SILENT: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = take_hook();
        set_hook(Box::new(move |panic| {
            if !SILENT.get() {
                report(panic);
            }
        }));
    });
    SILENT.set(true);
    let done = catch_unwind(work);
    SILENT.set(false);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
        // The bindings go on with the dozen names that they tried.
        text.split(" - ").next().unwrap_or_default().to_string()
    })
}
