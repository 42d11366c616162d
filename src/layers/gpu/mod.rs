//! The layers and the operations beside them on an NVIDIA GPU: kernels of our own in CUDA C, and matrix products by cuBLAS.
//!
//! candle's convolutions on CUDA compute a convolution's input gradient, and every transposed convolution, with one naive thread for
//! each output. Here they are matrix products: windows are laid out as the rows of a matrix (`window.cu`), which is what cuBLAS is fast
//! at, or, with stride 1, read where they lie (`convolve.cu`). A stack of layers, and each of the other operations, is one node of candle's
//! graph, with a backward pass of its own; the rest of the model is candle's operations.
//!
//! - `kernel.h`, `*.cu`: the kernels, one file for each family; all have one signature
//! - `machine`: what a device must be able to do: launch a kernel by its name, multiply matrices
//! - `node`: from operations on a machine's buffers to nodes of candle's graph
//! - `stack`, `layer`, `latent`, `compose`, `bernoulli`, `objective`, `adam`: the operations
//! - `write`: changing what lies in a buffer
//! - `record`: work on a device recorded and replayed
//! - `cuda`: the machine, compiled by NVRTC (NVIDIA's run-time compiler) when it is first needed
//! - `twin`: another machine, for tests where there is no GPU: the same kernels compiled as C++ for the CPU
//!
//! Numbers are `f32`, those of cells too; tensors of other types go through candle's operations. Nothing goes through the host.
//!
//! # What a step costs, and where it goes
//!
//! On an H100 a step of the default model takes 0.79 ms with a batch of 64 and 3.7 ms with 512, at a floor of 0.14 and 1.14 ms; page `guide::gpu`
//! has it beside PyTorch's. It is 129 launches, each of which keeps the host of that machine for some 20 µs: hence `record`. Of the device's time
//! with 512 images, 29 % are convolutions without columns (at 38 TFLOP/s of 67), 33 % products of cuBLAS, 15 % columns for the weights'
//! gradients, 12 % activations, biases and their gradients, 4 % the additions to zeros that candle makes of gradients between nodes.
//! With 64 images most kernels take 3 to 20 µs, of which 2 are a launch's own. What would help next: weights' gradients without
//! columns, and in TF32 convolutions on tensor cores.

mod adam;
mod bernoulli;
mod compose;
#[cfg(feature = "cuda")]
mod cuda;
mod latent;
mod layer;
mod machine;
mod node;
mod objective;
#[cfg(feature = "cuda")]
mod record;
mod stack;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
mod write;

pub use adam::{StepNumbers, adam};
pub use bernoulli::bernoulli;
pub use compose::compose;
#[cfg(feature = "cuda")]
pub use cuda::{bf16, prepare, set_bf16};
pub use latent::{gather, kl, sample, select};
pub use objective::objective;
#[cfg(feature = "cuda")]
pub use record::{Recording, record};
pub use stack::forward;
#[cfg(feature = "cuda")]
pub use write::copy;
pub use write::write;

/// The kernels as one program.
#[cfg(any(test, feature = "cuda"))]
const SOURCE: &str = concat!(
    include_str!("kernel.h"),
    include_str!("activation.cu"),
    include_str!("window.cu"),
    include_str!("convolve.cu"),
    include_str!("latent.cu"),
    include_str!("compose.cu"),
    include_str!("bernoulli.cu"),
    include_str!("objective.cu"),
    include_str!("adam.cu"),
);
