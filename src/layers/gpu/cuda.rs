//! The machine that is an NVIDIA GPU. The kernels are compiled by NVRTC for the process, and loaded by each device that runs one.

use super::SOURCE;
use super::machine::{BLOCK, Launch, MANY, Machine, Operand, Shares, Sizes, by_columns, int};
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_ex, sys as cublas};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaView, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{CudaStorage, Error, Layout, Result, Storage, Tensor, bail};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Buffers that every kernel is given.
const BUFFERS: usize = 5;

/// Whether products round their factors to bf16. (TF32 is a switch of candle's.)
static BF16: AtomicBool = AtomicBool::new(false);

/// From here on, products round their factors to bf16, or no longer.
pub fn set_bf16(on: bool) {
    BF16.store(on, Ordering::Relaxed);
}

pub fn bf16() -> bool {
    BF16.load(Ordering::Relaxed)
}

// SAFETY: plain numbers, `repr(C)`, laid out as `struct Sizes` in kernel.h.
unsafe impl DeviceRepr for Sizes {}

/// `struct Many` of kernel.h.
#[derive(Clone, Copy)]
#[repr(C)]
struct Table {
    shares: Shares,
    addresses: [[u64; MANY]; 4],
}

// SAFETY: plain numbers and addresses, `repr(C)`, laid out as `struct Many` in kernel.h.
unsafe impl DeviceRepr for Table {}

/// Compiles and loads the kernels, so that what is missing is known before anything is computed.
pub fn prepare(device: &CudaDevice) -> Result<()> {
    function(device, "column_sums").map(|_| ())
}

/// The kernels, compiled for all generations of GPUs, or for those from Ampere on, which copy while they compute; it takes no GPU.
fn compiled(ampere: bool) -> &'static std::result::Result<String, String> {
    static PTX: [OnceLock<std::result::Result<String, String>>; 2] = [const { OnceLock::new() }; 2];
    let options = CompileOptions { arch: ampere.then_some("compute_80"), ..CompileOptions::default() };
    PTX[usize::from(ampere)].get_or_init(|| match compile_ptx_with_opts(SOURCE, options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(CompileError::CompileError { log, .. }) => Err(log.to_string_lossy().into_owned()),
        Err(other) => Err(other.to_string()),
    })
}

/// A kernel by its name.
fn function(device: &CudaDevice, kernel: &str) -> Result<CudaFunction> {
    // Each device compiles for itself, and once.
    let (major, _) = device.cuda_stream().context().compute_capability().w()?;
    match compiled(major >= 8) {
        Ok(ptx) => Ok(device.get_or_load_custom_func(kernel, "mevae", ptx)?.into_cuda_function()),
        Err(reason) => bail!("NVRTC does not compile the GPU kernels: {reason}"),
    }
}

fn config(launch: &Launch) -> LaunchConfig {
    let blocks = u32::try_from(launch.sizes.n).unwrap_or(0).div_ceil(BLOCK as u32);
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (BLOCK as u32, 1, 1), shared_mem_bytes: 0 }
}

fn view<'a>(operand: &Operand<'a, CudaStorage>) -> Result<CudaView<'a, f32>> {
    let slice = operand.storage.as_cuda_slice::<f32>()?;
    match slice.try_slice(operand.offset..operand.offset + operand.len) {
        Some(view) => Ok(view),
        None => bail!("a kernel was given {} numbers of a buffer of {}", operand.offset + operand.len, slice.len()),
    }
}

/// The product of two matrices, their factors rounded to bf16, which candle does of numbers that are stored so alone. cuBLAS stores by
/// columns: what it is asked for is the transposed product, of the transposed factors.
fn product_in_bf16(
    (left, left_layout): (&CudaStorage, &Layout),
    (right, right_layout): (&CudaStorage, &Layout),
    (m, n, k): (usize, usize, usize),
) -> Result<CudaStorage> {
    let device = left.device();
    let stream = device.cuda_stream();
    let operation =
        |turned| if turned { cublas::cublasOperation_t::CUBLAS_OP_T } else { cublas::cublasOperation_t::CUBLAS_OP_N };
    let matrix = |storage, layout: &Layout| {
        view(&Operand { storage, offset: layout.start_offset(), len: layout.shape().elem_count() })
    };
    let (left, right) = (matrix(left, left_layout)?, matrix(right, right_layout)?);
    let ((left_turned, left_line), (right_turned, right_line)) = (by_columns(left_layout)?, by_columns(right_layout)?);
    // SAFETY: the product writes every number of it.
    let mut out = unsafe { device.alloc::<f32>(m * n)? };
    {
        let ((left, _left), (right, _right)) = (left.device_ptr(&stream), right.device_ptr(&stream));
        let (to, _to) = out.device_ptr_mut(&stream);
        let (one, zero) = (1f32, 0f32);
        let f32s = cublas::cudaDataType_t::CUDA_R_32F;
        // SAFETY: the handle is the device's and computes on its stream. The views hold m×k and k×n numbers and `out` m×n, the lines are
        // as long as these; one and zero are read before the call returns.
        unsafe {
            gemm_ex(
                *device.cublas_handle().handle(),
                operation(right_turned),
                operation(left_turned),
                int(n)?,
                int(m)?,
                int(k)?,
                (&raw const one).cast(),
                right as *const _,
                f32s,
                right_line,
                left as *const _,
                f32s,
                left_line,
                (&raw const zero).cast(),
                to as *mut _,
                f32s,
                int(n)?,
                cublas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_16BF,
                cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
            )
        }
        .w()?;
    }
    Ok(CudaStorage::wrap_cuda_slice(out, device.clone()))
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

    fn launch_in_place(launch: &Launch, mut changed: Vec<&mut Self>, inputs: &[Operand<'_, Self>]) -> Result<()> {
        let Some(first) = inputs.first() else { bail!("the kernel {} was given nothing to read", launch.kernel) };
        let device = first.storage.device();
        let (kernel, stream) = (function(device, launch.kernel)?, device.cuda_stream());
        let mut buffers = Vec::with_capacity(changed.len());
        for storage in &mut changed {
            let buffer = storage.as_cuda_slice_mut::<f32>()?;
            if buffer.len() < launch.outputs {
                bail!("{} was given a buffer of {} numbers for {}", launch.kernel, buffer.len(), launch.outputs);
            }
            buffers.push(buffer);
        }
        let rest: Vec<_> = (buffers.len()..BUFFERS)
            .map(|i| view(inputs.get(i - buffers.len()).unwrap_or(first)))
            .collect::<Result<_>>()?;
        let mut builder = stream.launch_builder(&kernel);
        for buffer in buffers {
            builder.arg(buffer);
        }
        for view in &rest {
            builder.arg(view);
        }
        builder.arg(&launch.sizes);
        // SAFETY: as above; the buffers that are changed are borrowed for it, and all are long enough.
        unsafe { builder.launch(config(launch)) }.w()?;
        Ok(())
    }

    fn launch_many(launch: &Launch, many: &[[&Tensor; 4]], with: Operand<'_, Self>) -> Result<Self> {
        let device = with.storage.device();
        let (kernel, stream) = (function(device, launch.kernel)?, device.cuda_stream());
        let lengths: Vec<usize> = many.iter().map(|[parameter, ..]| parameter.elem_count()).collect();
        let mut table = Table { shares: Shares::of(&lengths)?, addresses: [[0; MANY]; 4] };
        for (i, tensors) in many.iter().enumerate() {
            for (addresses, tensor) in table.addresses.iter_mut().zip(tensors) {
                let (storage, layout) = tensor.storage_and_layout();
                let operand = Operand::new(Self::of(&storage)?, layout)?;
                if operand.len != lengths[i] {
                    bail!("{} was given {} numbers for {}", launch.kernel, operand.len, lengths[i]);
                }
                addresses[i] = view(&operand)?.device_ptr(&stream).0;
            }
        }
        let with = view(&with)?;
        // SAFETY: a kernel of parameters writes each number of `out`, or nothing of it is read.
        let mut out = unsafe { device.alloc::<f32>(launch.outputs)? };
        let mut builder = stream.launch_builder(&kernel);
        builder.arg(&table).arg(&mut out).arg(&with).arg(&launch.sizes);
        // SAFETY: the arguments are those of every such kernel (`MANY_KERNEL` in kernel.h). The tensors live longer than this call, and their
        // memory is freed in the order of the stream; all are as long as the table says.
        unsafe { builder.launch(config(launch)) }.w()?;
        Ok(Self::wrap_cuda_slice(out, device.clone()))
    }

    fn write(&mut self, numbers: &[f32]) -> Result<()> {
        let device = self.device().clone();
        device.memcpy_htod(numbers, self.as_cuda_slice_mut::<f32>()?)
    }

    fn product(&self, other: &Self, (m, n, k): (usize, usize, usize), [left, right]: [&Layout; 2]) -> Result<Self> {
        match bf16() {
            true => product_in_bf16((self, left), (other, right), (m, n, k)),
            false => self.matmul(other, (1, m, n, k), left, right),
        }
    }

    fn rounds_products() -> bool {
        candle_core::cuda::gemm_reduced_precision_f32() || bf16()
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
        match std::panic::catch_unwind(|| super::compiled(true)) {
            Err(_) => crate::layers::gpu::twin::skipped("NVRTC is not installed"),
            Ok(Err(log)) => panic!("{log}"),
            Ok(Ok(ptx)) => {
                // Those of convolve.cu are made by a macro.
                let kernels = super::SOURCE.lines().filter_map(|line| line.strip_suffix(") {")?.split_once("KERNEL("));
                let names: Vec<_> = kernels.map(|(_, name)| name).collect();
                assert_eq!(names.len(), 25, "{names:?}");
                for name in names {
                    assert!(ptx.contains(&format!(".entry {name}(")), "{name}");
                }
            }
        }
    }
}
