//! What the operations need of a device: buffers, kernels that are launched by their names, and matrix products.

use candle_core::backend::BackendStorage;
use candle_core::{DType, Layout, Result, Shape, Storage, Tensor, bail};

/// A buffer of `f32` on a device that launches kernels.
pub trait Machine: BackendStorage + Send + 'static {
    /// Runs a kernel into a new buffer.
    fn launch(launch: &Launch, inputs: [Operand<'_, Self>; 4]) -> Result<Self>;
    /// Runs a kernel that changes its first buffers, one to three, and reads the others.
    fn launch_in_place(launch: &Launch, changed: Vec<&mut Self>, inputs: &[Operand<'_, Self>]) -> Result<()>;
    /// Runs a kernel over parameters, their means and squares, which it may change, and their gradients, with another buffer to read. All
    /// are contiguous.
    fn launch_many(launch: &Launch, many: &[[&Tensor; 4]], with: Operand<'_, Self>) -> Result<Self>;
    /// Writes numbers to the beginning of the buffer.
    fn write(&mut self, numbers: &[f32]) -> Result<()>;
    /// The product of two matrices, of m×k and k×n.
    fn product(&self, other: &Self, (m, n, k): (usize, usize, usize), [left, right]: [&Layout; 2]) -> Result<Self> {
        self.matmul(other, (1, m, n, k), left, right)
    }
    /// Whether matrix products are quicker than the kernels here because they round their factors.
    fn rounds_products() -> bool;
    /// The buffer of a tensor that lies on such a device.
    fn of(storage: &Storage) -> Result<&Self>;
    /// For a tensor.
    fn into_storage(self) -> Storage;
}

/// Threads of a block: enough to fill a multiprocessor with few registers each; as in `kernel.h`.
pub const BLOCK: usize = 256;

/// The sizes in `struct Many` of `kernel.h`: how the blocks of a kernel are shared out among parameters.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Shares {
    pub count: i32,
    pub first_block: [i32; MANY + 1],
    pub length: [i32; MANY],
}

/// Most parameters of one launch.
pub const MANY: usize = 64;
/// Numbers that a block does.
const CHUNK: usize = 2048;

impl Shares {
    /// For parameters of these lengths, as many as fit.
    pub fn of(lengths: &[usize]) -> Result<Self> {
        let mut shares = Self { count: int(lengths.len())?, first_block: [0; MANY + 1], length: [0; MANY] };
        if lengths.len() > MANY {
            bail!("{} parameters are too many for one launch", lengths.len());
        }
        let mut blocks = 0;
        for (i, length) in lengths.iter().enumerate() {
            blocks += length.div_ceil(CHUNK);
            shares.length[i] = int(*length)?;
            shares.first_block[i + 1] = int(blocks)?;
        }
        Ok(shares)
    }

    /// All blocks.
    pub fn blocks(&self) -> usize {
        self.first_block.iter().max().map_or(0, |blocks| *blocks as usize)
    }
}

/// What a kernel is told beside its buffers: `struct Sizes` in `kernel.h`, with the same layout.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Sizes {
    /// Threads that have something to do.
    pub n: i32,
    pub of: [i32; 15],
    pub number: [f32; 8],
}

/// A kernel to be run once.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kernel: &'static str,
    /// Numbers that it writes.
    pub outputs: usize,
    pub sizes: Sizes,
}

impl Launch {
    /// A thread for each output.
    pub fn new(kernel: &'static str, outputs: usize, of: &[usize]) -> Result<Self> {
        let mut sizes = Sizes { n: int(outputs)?, ..Sizes::default() };
        for (to, from) in sizes.of.iter_mut().zip(of) {
            *to = int(*from)?;
        }
        Ok(Self { kernel, outputs, sizes })
    }

    /// Threads that write so many numbers each.
    pub fn at_once(mut self, numbers: usize) -> Result<Self> {
        self.sizes.n = int(self.outputs / numbers)?;
        Ok(self)
    }

    /// So many blocks whose threads work together.
    pub fn in_blocks(mut self, blocks: usize) -> Result<Self> {
        self.sizes.n = int(blocks * BLOCK)?;
        Ok(self)
    }

    /// With numbers that are no sizes.
    pub fn with(mut self, numbers: &[f64]) -> Self {
        for (to, from) in self.sizes.number.iter_mut().zip(numbers) {
            *to = *from as f32;
        }
        self
    }

    /// Runs it on one to four buffers.
    pub fn on<M: Machine>(&self, inputs: &[Operand<'_, M>]) -> Result<M> {
        let Some(first) = inputs.first() else { bail!("the kernel {} was given no buffer", self.kernel) };
        M::launch(self, std::array::from_fn(|i| *inputs.get(i).unwrap_or(first)))
    }
}

/// Sizes are 32-bit on the device, where divisions by them are many; half of that range is left for sums of two.
pub fn int(size: usize) -> Result<i32> {
    const MOST: usize = 1 << 30;
    match i32::try_from(size) {
        Ok(int) if size <= MOST => Ok(int),
        _ => bail!("{size} numbers at once are too many for a GPU kernel: lower the batch"),
    }
}

/// `len` numbers of a buffer that lie one after the other.
#[derive(Debug)]
pub struct Operand<'a, M> {
    pub storage: &'a M,
    pub offset: usize,
    pub len: usize,
}

// Derived, they would ask for a buffer that can be copied.
impl<M> Clone for Operand<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for Operand<'_, M> {}

impl<'a, M: Machine> Operand<'a, M> {
    /// A contiguous tensor's numbers.
    pub fn new(storage: &'a M, layout: &Layout) -> Result<Self> {
        if storage.dtype() != DType::F32 {
            bail!("a GPU kernel was given {:?}", storage.dtype());
        }
        match layout.contiguous_offsets() {
            Some((start, end)) => Ok(Self { storage, offset: start, len: end - start }),
            None => bail!("a GPU kernel was given a tensor that is not contiguous"),
        }
    }

    /// A buffer that a kernel or a product wrote.
    pub fn whole(storage: &'a M, len: usize) -> Self {
        Self { storage, offset: 0, len }
    }

    /// A matrix of so many rows and columns.
    pub fn matrix(self, rows: usize, columns: usize) -> Matrix<'a, M> {
        Matrix { storage: self.storage, layout: Layout::contiguous_with_offset((rows, columns), self.offset) }
    }
}

/// Numbers of a buffer as a matrix.
pub struct Matrix<'a, M> {
    storage: &'a M,
    layout: Layout,
}

impl<M: Machine> Matrix<'_, M> {
    pub fn transposed(self) -> Result<Self> {
        Ok(Self { layout: self.layout.transpose(0, 1)?, ..self })
    }

    /// Matrix product.
    pub fn times(&self, other: &Matrix<'_, M>) -> Result<M> {
        let (m, k) = self.layout.shape().dims2()?;
        let (inner, n) = other.layout.shape().dims2()?;
        if inner != k {
            bail!("matrices of {m}×{k} and {inner}×{n} have no product");
        }
        self.storage.product(other.storage, (m, n, k), [&self.layout, &other.layout])
    }
}

/// How a matrix lies in memory for who stores by columns and asks for its transpose: whether that must be turned, and how far apart its
/// columns begin.
pub fn by_columns(matrix: &Layout) -> Result<(bool, i32)> {
    let (rows, columns) = matrix.shape().dims2()?;
    match *matrix.stride() {
        [line, 1] if line == columns => Ok((false, int(line)?)),
        [1, line] if line == rows => Ok((true, int(line)?)),
        _ => bail!("a matrix that is neither contiguous nor a transpose of one"),
    }
}

/// A tensor of a buffer.
pub fn tensor<M: Machine>(storage: M, shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    super::node::wrap(storage.into_storage(), shape.into(), like)
}
