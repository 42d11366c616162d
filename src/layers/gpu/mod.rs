//! The layers and the operations beside them on an NVIDIA GPU: kernels of our own in CUDA C, and matrix products by cuBLAS.
//!
//! candle's convolutions on CUDA compute a convolution's input gradient, and every transposed convolution, with one naive thread for
//! each output. Here they are matrix products: windows are laid out as the rows of a matrix (`window.cu`), which is what cuBLAS is fast
//! at. Every layer, and each of the other operations, is one node of candle's graph, with a backward pass of its own; the rest of the model
//! is candle's operations.
//!
//! - `kernel.h`, `*.cu`: the kernels, one file for each family; all have one signature
//! - `machine`: what a device must be able to do: launch a kernel by its name, multiply matrices
//! - `node`: from operations on a machine's buffers to nodes of candle's graph
//! - `layer`, `compose`, `bernoulli`, `adam`: the operations
//! - `cuda`: the machine, compiled by NVRTC (NVIDIA's run-time compiler) when it is first needed
//! - `twin`: another machine, for tests where there is no GPU: the same kernels compiled as C++ for the CPU
//!
//! Numbers are `f32`; tensors of other types go through candle's operations. Within an operation nothing goes through the host but the
//! places of patches, which come from there.

mod adam;
mod bernoulli;
mod compose;
#[cfg(feature = "cuda")]
mod cuda;
mod layer;
mod machine;
mod node;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

pub use adam::{AdamStep, adam};
pub use bernoulli::bernoulli;
pub use compose::compose;
#[cfg(feature = "cuda")]
pub use cuda::prepare;
pub use layer::forward;

/// The kernels as one program.
#[cfg(any(test, feature = "cuda"))]
const SOURCE: &str = concat!(
    include_str!("kernel.h"),
    include_str!("activation.cu"),
    include_str!("window.cu"),
    include_str!("compose.cu"),
    include_str!("bernoulli.cu"),
    include_str!("adam.cu"),
);
