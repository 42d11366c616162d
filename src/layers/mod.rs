//! Dense, convolution and transposed-convolution layers with hand-written forward and backward passes.
//!
//! candle's own CPU convolutions leave most of the machine unused in training, so this folder holds the kernels that the model
//! spends its time in. From the outside there is one type, [`Stack`]: a sequence of layers that is a candle
//! [`Module`](candle_core::Module) and a *single* node of candle's autograd graph, so that the batch is split over threads once
//! for the whole sequence and no intermediate gradient goes through the graph. Reading order:
//!
//! - `real`: number types and vectorisable elementary functions
//! - `instructions`: which vector instructions the kernels use
//! - `product`: matrix products over sliding windows, on registers
//! - `window`: a strided convolution as such products
//! - `winograd`: a 3×3 convolution with fewer multiplications
//! - `linear`: the three linear maps, each with its forward product and its two gradients
//! - `activation`: what follows a linear map
//! - `stack`: the sequence, from the outside
//! - `pass`: one pass forward and backward through it, in parallel; `parameters`: its weights' and biases' way into the graph
//! - `reference`: the same sequence on candle's own operations; the oracle in tests and the path of other number types
//!
//! - `op`: the seam to candle's tensors; `scratch`: memory that is used again
//! - `gpu`: the same layers and operations on NVIDIA GPUs (feature `cuda`)
//!
//! Beside the stacks, operations of the model that would be slow as a chain of tensor operations: [`gaussian_kl`], [`gaussian_sample`],
//! [`select`], [`gather`], [`place`], [`compose`], [`mix`], [`sigmoid`], [`bernoulli_log_prob`] and [`objective`], each with its plain form in its
//! own file.
//!
//! Images are channels-last, (B, H, W, C), everywhere.
//!
//! # What a step costs, and where it goes
//!
//! The floor of a training step is its multiply-adds at the rate of the processor's units. A layer with a weight of depth d (inputs
//! that meet in one output) and n outputs a position costs 2·d·n FLOPs a position forward, the same again for its weight's gradient
//! and for its input's (which the first layer does not need). For the default model that is 4.8 GFLOP for a batch of 32, most
//! of it in the encoder's 3×3 convolutions; for the benchmark model `mve-64` of `benches/peers` it is 10 GFLOP.
//!
//! What keeps a step near it:
//!
//! - A 3×3 convolution multiplies a quarter of that (`winograd`): for the default model 2 GFLOP are left.
//! - A window is read where it lies; only the image's border and the cells of strided layers are laid out anew (`window`). So is a
//!   weight whose rows are whole vectors, going forward (`product`).
//! - Parameters are never copied together, and in training their gradients go around candle's graph (`parameters`).
//! - Everything that runs over many numbers is inlined into the function compiled for the instruction set: a closure that is not
//!   is compiled for every processor, without wide vectors (`real::vectorise`).
//! - A tile of results stays in registers over the whole inner dimension (`product`).
//! - Groups of images pass through all layers while their numbers are in cache; decoded components are folded into the image right
//!   there and never drawn on canvases of their own (`stack`, `compose`).
//! - A dense weight's gradient is formed row by row over the whole batch, with nothing to sum up afterwards.
//! - Buffers are used again in the next step (`scratch`); a step runs on one of the computing threads from start to end.
//! - A model at rest has its weights arranged once ([`Stack::at_rest`]). Outside training, what is both merged and looked at is drawn once.
//!
//! Where the time goes on one core of an AMD EPYC (AVX-512), percent of a profile's samples of `benches/peers`' three cases:
//!
//! | | default | `mve-64` | dense |
//! |---|---|---|---|
//! | products | 61 | 84 | 69 |
//! | transforms of minimal filtering | 15 | 2 | |
//! | biases, activations, their derivatives and sums | 3 | 5 | 1 |
//! | clearing of memory, fresh pages | 6 | 2 | 5 |
//! | composition, likelihood, KL, selection | 4 | 2 | 6 |
//! | copies into cells, borders and tensors | 2 | 3 | 1 |
//! | weights arranged | 2 | | 2 |
//! | Adam: a square root and a division for every parameter, 7 numbers moved for it | 2 | | 10 |
//! | candle and the rest | 4 | 2 | 6 |
//!
//! Products are within a sixth of their floor (`mve-64`, dense). Single layers, warm, run at 130–215 GFLOP/s on a core of an
//! Intel Xeon with AVX-512; slow among them are those with next to no depth (4×4 over one channel: 90) and the last transposed
//! convolution, to one channel: 32, of which two fifths are multiplications that count.
//!
//! Minimal filtering of 4×4 kernels with stride 2, as 3×3 ones over cells of 2×2 pixels whose four phases are channels (100 multiplications
//! for 256), was built and measured too: single layers of 16 to 64 channels took 0.78 to 0.96 of the time
//! forward and 0.68 to 1.23 of it backward, because the products become shallow and what surrounds them does not; `mve-64`'s step 1.04. It is not in
//! the program.
//!
//! How a step grows with entities, cells, pixels, batch and threads is told in [`guide::speed`](crate::guide::speed).
//!
//! Shapes that are slow: a kernel whose side is no multiple of the stride (missing taps are multiplied as zeros), channel counts that
//! fill no vector (16 numbers with AVX-512, 8 with AVX2), and transposed convolutions to 5–15 channels.
//!
//! The instruction set is chosen when the program first needs it; [`INSTRUCTIONS_VARIABLE`] names an environment variable that holds
//! it back. There is one body for all of them, generic over [`pulp::Simd`]; the one `unsafe` block leaves out a bounds check whose
//! bound is established two lines above it. The property tests that reach it pass under Miri (`.ci/miri`, a quarter of an hour).

mod activation;
#[cfg(test)]
mod agreement;
mod bernoulli;
mod compose;
mod gather;
mod gaussian;
#[cfg(any(test, feature = "cuda"))]
mod gpu;
mod instructions;
mod linear;
mod mix;
mod objective;
mod op;
mod parameters;
mod pass;
mod place;
mod product;
pub mod real;
mod reference;
mod scratch;
mod select;
mod sigmoid;
mod stack;
mod window;
mod winograd;

pub use activation::Activation;
pub use bernoulli::bernoulli_log_prob;
pub use compose::{Rule, compose};
pub use gather::gather;
pub use gaussian::{gaussian_kl, gaussian_kl_of_dimensions, gaussian_sample};
#[cfg(feature = "cuda")]
pub(crate) use gpu::{
    Recording, StepNumbers, adam as adam_on_gpu, bf16 as gpu_in_bf16, copy as copy_to_gpu, prepare as prepare_gpu,
    record, set_bf16 as set_gpu_to_bf16, write as write_on_gpu,
};
pub use instructions::{Instructions, VARIABLE as INSTRUCTIONS_VARIABLE};
pub(crate) use mix::log_sum_exp;
pub use mix::mix;
pub use objective::objective;
pub(crate) use op::{contiguous, contiguous_mut, on_cpu};
pub use parameters::Deposit;
pub use place::{Places, place};
pub(crate) use select::distance;
pub use select::{select, top_k};
pub use sigmoid::sigmoid;
pub use stack::{LayerSpec, Stack};

/// Height, width and channels of one image or feature map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels of each pixel.
    pub channels: usize,
}

impl Extent {
    /// Shorthand constructor.
    pub const fn new(height: usize, width: usize, channels: usize) -> Self {
        Self { height, width, channels }
    }

    /// A flat vector of `n` numbers.
    pub const fn vector(n: usize) -> Self {
        Self::new(1, 1, n)
    }

    /// Numbers in one image.
    #[allow(clippy::len_without_is_empty)] // an extent of nothing is refused when layers are built
    pub const fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.height, self.width, self.channels)
    }
}

/// Why a stack of layers cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A size of zero somewhere.
    #[error(
        "a layer of {channels} channels with kernel {kernel} and stride {stride} over {large} has nothing in it: all must be at least 1"
    )]
    Empty {
        /// The larger image that the layer reads or writes.
        large: Extent,
        /// The layer's channels.
        channels: usize,
        /// Kernel side.
        kernel: usize,
        /// Stride.
        stride: usize,
    },
}

impl From<LayerError> for candle_core::Error {
    fn from(error: LayerError) -> Self {
        candle_core::Error::wrap(error)
    }
}
