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
