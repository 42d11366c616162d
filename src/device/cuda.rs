//! Opening a CUDA device. NVIDIA's libraries are asked one after the other, so that the first that is missing is the one that is named.

use super::DeviceError;
use crate::layers::{copy_to_gpu, prepare_gpu};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream, PinnedHostSlice, result, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr, cudarc::driver::DriverError};
use candle_core::{DType, Device, Shape, Tensor};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Once};

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
        // SAFETY: events order the uses of a buffer by several streams; there is one here, but for that of `Slots`, which sees to the order
        // itself. They would cost two of them for each buffer, and a step could not be recorded.
        unsafe { device.disable_event_tracking() };
        keep_memory(device).map_err(refused)?;
        let ready = guarded(AssertUnwindSafe(|| prepare_gpu(device))).map_err(DeviceError::Library)?;
        ready.map_err(|e| DeviceError::Kernels(e.to_string()))?;
    }
    Ok(device)
}

/// Lets the driver keep what buffers have left, for the next ones: by default it gives all of it back to the system whenever the device
/// is waited for, and fetches it anew in every step.
fn keep_memory(device: &CudaDevice) -> Result<(), DriverError> {
    let stream = device.cuda_stream();
    let context = stream.context();
    if !context.has_async_alloc() {
        return Ok(());
    }
    let mut all = u64::MAX;
    // SAFETY: the context's own device and its pool; the attribute takes 64 bits, which it reads before the call returns.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, attribute, (&raw mut all).cast())
    }
}

/// Two buffers that are filled in turns by a stream of their own, while another computes.
#[derive(Debug)]
pub struct Slots {
    copies: Arc<CudaStream>,
    slots: [Slot; 2],
    turn: usize,
}

#[derive(Debug)]
struct Slot {
    /// Memory of the host that the device reads by itself.
    host: PinnedHostSlice<f32>,
    tensor: Tensor,
}

impl Slots {
    pub fn new(cuda: &CudaDevice, device: &Device, shape: &Shape) -> Result<Self, candle_core::Error> {
        let computes = cuda.cuda_stream();
        let slot = || {
            // SAFETY: it is written before it is read.
            let host = unsafe { computes.context().alloc_pinned::<f32>(shape.elem_count()) }.w()?;
            Ok::<_, candle_core::Error>(Slot { host, tensor: Tensor::zeros(shape, DType::F32, device)? })
        };
        let slots = [slot()?, slot()?];
        let copies = computes.context().new_stream().w()?;
        // The buffers are there before the other stream touches them.
        computes.synchronize().w()?;
        Ok(Self { copies, slots, turn: 0 })
    }

    /// The stream that computes waits for the copy. What it did with the same buffer before must have come to its end: a step is
    /// waited for before the one after it begins, and the other buffer lies between them.
    pub fn bring(&mut self, values: &[f32]) -> Result<Tensor, candle_core::Error> {
        let Self { copies, slots, turn } = self;
        let Slot { host, tensor } = &mut slots[*turn];
        *turn = 1 - *turn;
        if values.len() != host.len() {
            candle_core::bail!("{} numbers are no batch of {:?}", values.len(), tensor.shape());
        }
        host.as_mut_slice().w()?.copy_from_slice(values);
        copy_to_gpu(tensor, host, copies)?;
        if let Device::Cuda(device) = tensor.device() {
            device.cuda_stream().join(copies).w()?;
        }
        Ok(tensor.clone())
    }
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
