// What comes before every kernel file. All kernels have one signature, so that one place can launch them: they write `out`, read up
// to four other buffers (those they have no use for are given anything) and the sizes. Thread i of `n` writes number i, or as
// many numbers from there on as the kernel says. Sums are formed by single threads, always in the same order: results do not
// depend on how threads are scheduled.

struct Sizes {
    int n;
    int of[15];
    float number[8];
};

#define KERNEL(name) \
    extern "C" __global__ void __launch_bounds__(256) name( \
        float* out, const float* a, const float* b, const float* c, const float* d, Sizes sizes)

#define THREAD_OR_RETURN(i) \
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); \
    if (i >= sizes.n) return

// A kernel whose blocks of 256 threads work together; `n` is 256 for each block.
#ifndef IN_BLOCKS
#define IN_BLOCKS(name)
#endif
#define BLOCK_KERNEL(name) \
    IN_BLOCKS(name) \
    KERNEL(name)

// The sum of a number of each thread of a block, for all of them.
static __device__ __forceinline__ float block_sum(float x) {
    __shared__ float sums[256];
    sums[threadIdx.x] = x;
    __syncthreads();
    for (int half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    const float sum = sums[0];
    __syncthreads();
    return sum;
}

// Up to 64 parameters with what Adam has of each. A block does CHUNK numbers of one of them.
#define MANY 64
#define CHUNK 2048
struct Many {
    int count;
    int first_block[MANY + 1];
    int length[MANY];
    float* parameter[MANY];
    float* mean[MANY];
    float* square[MANY];
    const float* gradient[MANY];
};

#define MANY_KERNEL(name) \
    IN_BLOCKS(name) \
    extern "C" __global__ void __launch_bounds__(256) name( \
        const __grid_constant__ Many many, float* out, const float* a, Sizes sizes)

#define IDENTITY 0
#define RELU 1
#define SIGMOID 2
#define TANH 3

static __device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// NaN passes through.
static __device__ __forceinline__ float activate(int activation, float x) {
    switch (activation) {
        case RELU: return x < 0.0f ? 0.0f : x;
        case SIGMOID: return sigmoid(x);
        case TANH: return tanhf(x);
        default: return x;
    }
}
