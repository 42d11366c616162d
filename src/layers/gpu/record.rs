//! Work on a device recorded as one CUDA graph: replayed, it costs the host one launch instead of some hundreds, each of which takes
//! longer than most kernels run.

use candle_core::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Result, bail};
use std::sync::{Mutex, PoisonError};

/// Recorded work. It reads and writes the buffers that it was recorded with: whoever replays it keeps them.
pub struct Recording(Mutex<Graph>);

struct Graph(CudaGraph);

// SAFETY: a graph is a pair of handles that any thread may use, but only one at a time; the mutex around it sees to that.
unsafe impl Send for Graph {}

impl std::fmt::Debug for Recording {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Recording")
    }
}

/// Records what `work` asks of a device; nothing of it is computed. An error if it reads what the device computes, or uploads anything:
/// neither can be replayed.
pub fn record(device: &CudaDevice, work: impl FnOnce() -> Result<()>) -> Result<Recording> {
    let stream = device.cuda_stream();
    // candle's way of refusing uploads while it is recorded: it knows of none that could be replayed.
    let _refuse_uploads = device.enable_cuda_graph_htod_cache();
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).w()?;
    let done = work();
    let recorded = stream.end_capture(sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH);
    // An error that ended the recording is told once, here.
    let left = stream.context().check_err();
    done?;
    left.w()?;
    match recorded.w()? {
        Some(graph) => Ok(Recording(Mutex::new(Graph(graph)))),
        None => bail!("nothing was recorded"),
    }
}

impl Recording {
    /// Does the work once more.
    pub fn replay(&self) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.launch().w()
    }
}
