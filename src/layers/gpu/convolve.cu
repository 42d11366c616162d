// A convolution with stride 1 whose output is as large as its input, as a product of windows and kernel in which no window is ever
// written: a block copies what it needs of them to shared memory, a piece at a time, while it works on the piece before.

// Copies four numbers, or zeros, to shared memory. They are there for the block after `wait_for_copies` and a barrier.
static __device__ __forceinline__ void copy_or_zero(float4* to, const float* from, int offset, bool inside) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from + offset), "r"(inside ? 16 : 0) : "memory");
#else
    const float4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
    *to = inside ? *(const float4*)(from + offset) : zero;
#endif
}

static __device__ __forceinline__ void wait_for_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

// A thread's COUNT numbers, an even number of them, of a row of 8 COUNT for 8 threads: fours, then a two. What the threads read at once
// lies side by side.
template <int COUNT>
static __device__ __forceinline__ void read_share(float* to, const float* row, int thread) {
#pragma unroll
    for (int four = 0; four < COUNT / 4; ++four) {
        const float4 x = ((const float4*)row)[8 * four + thread];
        to[4 * four] = x.x;
        to[4 * four + 1] = x.y;
        to[4 * four + 2] = x.z;
        to[4 * four + 3] = x.w;
    }
    if (COUNT % 4 == 2) {
        const float2 x = ((const float2*)(row + COUNT / 4 * 32))[thread];
        to[COUNT - 2] = x.x;
        to[COUNT - 1] = x.y;
    }
}

// The other way, as far as the row has `columns`, a multiple of 4.
template <int COUNT>
static __device__ __forceinline__ void write_share(float* row, const float* from, int thread, int columns) {
#pragma unroll
    for (int four = 0; four < COUNT / 4; ++four) {
        const float4 x = {from[4 * four], from[4 * four + 1], from[4 * four + 2], from[4 * four + 3]};
        if (32 * four + 4 * thread < columns) ((float4*)row)[8 * four + thread] = x;
    }
    if (COUNT % 4 == 2) {
        const float2 x = {from[COUNT - 2], from[COUNT - 1]};
        if (COUNT / 4 * 32 + 2 * thread < columns) ((float2*)(row + COUNT / 4 * 32))[thread] = x;
    }
}

// A block of 256 threads does ROWS pixels by OUTPUTS channels, each thread 8 by OUTPUTS / 8 of them. Threads are 8 to a row. Where that
// takes fewer than 256, the others form SLICES that share out the products of a sum, every SLICESth four of them.
template <int ROWS, int OUTPUTS, int SLICES>
static __device__ __forceinline__ void convolve_tile(float* out, const float* a, const float* b, const float* c, const int* of) {
    const int rows = of[0], height = of[1], width = of[2], inputs = of[3], outputs = of[4];
    const int kernel = of[5], padding = of[6], biased = of[7], activation = of[8];
    constexpr int THREADS = 256, TALL = 8, WIDE = OUTPUTS / 8, MINE = TALL / SLICES;
    // Windows are cut into pieces of DEPTH numbers, an odd multiple of 16.
    constexpr int DEPTH = SLICES == 1 ? 16 : 48, FOURS = DEPTH / 4, LEFT = ROWS * FOURS, RIGHT = DEPTH * OUTPUTS / 4;
    static_assert(ROWS * SLICES == THREADS && FOURS % SLICES == 0, "threads do not fit");
    static_assert(2 * (LEFT + RIGHT) >= (SLICES - 1) * ROWS * OUTPUTS / 4, "slices do not fit");
    __shared__ float4 shared[2 * (LEFT + RIGHT)];

    const int tiles = (outputs + OUTPUTS - 1) / OUTPUTS;
    const int first_row = (int)blockIdx.x / tiles * ROWS, first_output = (int)blockIdx.x % tiles * OUTPUTS;
    const int thread = threadIdx.x, depth = kernel * kernel * inputs;

    // This thread copies one four in 16 numbers of COPIED windows. The fours of a row exchange places, in another way every other row:
    // threads that read the same four of eight rows find them in different banks.
    constexpr int COPIED = 4 * ROWS / THREADS;
    const int copied_row = thread / 4, copied_four = thread % 4, copied_to = copied_row * FOURS + (copied_four ^ (copied_row / 2 % 4));
    int y[COPIED], x[COPIED];
#pragma unroll
    for (int i = 0; i < COPIED; ++i) {
        const int row = first_row + copied_row + THREADS / 4 * i;
        x[i] = row % width - padding;
        // No tap brings what is not there into the image.
        y[i] = row < rows ? row / width % height - padding : -(1 << 30);
    }
    // Where the first window begins.
    const int begin = (first_row + copied_row - padding * (width + 1)) * inputs;
    int channel = 4 * copied_four, kx = 0, ky = 0;

    const auto copy = [&](int piece) {
        float4* left = shared + piece % 2 * (LEFT + RIGHT);
#pragma unroll
        for (int j = 0; j < DEPTH / 16; ++j) {
            while (channel >= inputs) {
                channel -= inputs;
                if (++kx == kernel) {
                    kx = 0;
                    ++ky;
                }
            }
            const int tap = begin + (ky * width + kx) * inputs + channel;
            // Nor is there anything after the last tap.
            const int line = ky < kernel ? ky : 1 << 29;
#pragma unroll
            for (int i = 0; i < COPIED; ++i) {
                const bool inside = (unsigned)(y[i] + line) < (unsigned)height & (unsigned)(x[i] + kx) < (unsigned)width;
                copy_or_zero(left + copied_to + THREADS / 4 * FOURS * i + 4 * j, a, tap + THREADS / 4 * i * inputs, inside);
            }
            channel += 16;
        }
#pragma unroll
        for (int j = 0; j < (RIGHT + THREADS - 1) / THREADS; ++j) {
            const int i = thread + THREADS * j;
            if (RIGHT % THREADS == 0 || i < RIGHT) {
                const int k = piece * DEPTH + i / (OUTPUTS / 4), output = first_output + 4 * (i % (OUTPUTS / 4));
                const bool inside = k < depth & output < outputs;
                copy_or_zero(left + LEFT + i, b, k * outputs + output, inside);
            }
        }
    };

    // Lanes that differ in the lowest bit read the same rows, those that differ in the next the same columns: shared memory answers
    // half a warp at once only then.
    const int slice = thread / ROWS, in_slice = thread % ROWS, lane = thread % 32;
    const int column = (lane & 1) | (lane >> 1 & 2) | (lane >> 2 & 4);
    const int my_row = in_slice / 32 * 4 + ((lane >> 1 & 1) | (lane >> 2 & 2));
    const int exchange = my_row / 2 % 4;

    float sums[TALL][WIDE] = {};
    const int pieces = (depth + DEPTH - 1) / DEPTH;
    copy(0);
    for (int piece = 0; piece < pieces; ++piece) {
        wait_for_copies();
        // What the next copies overwrite has been read by all.
        __syncthreads();
        if (piece + 1 < pieces) copy(piece + 1);
        const float4* left = shared + piece % 2 * (LEFT + RIGHT) + my_row * FOURS;
        const float4* right = shared + piece % 2 * (LEFT + RIGHT) + LEFT;
#pragma unroll
        for (int j = 0; j < FOURS / SLICES; ++j) {
            const int four = j * SLICES + slice;
            float weights[4][WIDE];
#pragma unroll
            for (int k = 0; k < 4; ++k) read_share<WIDE>(weights[k], (const float*)(right + (4 * four + k) * (OUTPUTS / 4)), column);
#pragma unroll
            for (int i = 0; i < TALL; ++i) {
                float pixels[4];
                read_share<4>(pixels, (const float*)(left + ROWS / TALL * FOURS * i), four ^ exchange);
#pragma unroll
                for (int k = 0; k < 4; ++k) {
#pragma unroll
                    for (int o = 0; o < WIDE; ++o) sums[i][o] += pixels[k] * weights[k][o];
                }
            }
        }
    }

    // Each slice adds up what all have of MINE of a thread's rows.
    float results[MINE][WIDE];
    if (SLICES == 1) {
#pragma unroll
        for (int i = 0; i < TALL; ++i) {
#pragma unroll
            for (int o = 0; o < WIDE; ++o) results[i % MINE][o] = sums[i][o];
        }
    } else {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TALL; ++i) {
            const int owner = i / MINE, row = my_row + ROWS / TALL * i;
            if (owner == slice) {
#pragma unroll
                for (int o = 0; o < WIDE; ++o) results[i % MINE][o] = sums[i][o];
            } else {
                const int place = slice - (slice > owner);
                write_share<WIDE>((float*)shared + (place * ROWS + row) * OUTPUTS, sums[i], column, OUTPUTS);
            }
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < MINE; ++i) {
            const int row = my_row + ROWS / TALL * (slice * MINE + i);
#pragma unroll
            for (int place = 0; place < SLICES - 1; ++place) {
                float others[WIDE];
                read_share<WIDE>(others, (const float*)shared + (place * ROWS + row) * OUTPUTS, column);
#pragma unroll
                for (int o = 0; o < WIDE; ++o) results[i][o] += others[o];
            }
        }
    }

    if (biased) {
#pragma unroll
        for (int o = 0; o < WIDE; ++o) {
            const int output = first_output + (o < WIDE / 4 * 4 ? o / 4 * 32 + 4 * column + o % 4 : WIDE / 4 * 32 + 2 * column + o % 4);
            const float bias = output < outputs ? c[output] : 0.0f;
#pragma unroll
            for (int i = 0; i < MINE; ++i) {
                results[i][o] += bias;
                if (activation == RELU) results[i][o] = activate(RELU, results[i][o]);
            }
        }
        // The long ones are there once: rows come by in a circle.
        if (activation == SIGMOID || activation == TANH) {
#pragma unroll 1
            for (int turn = 0; turn < MINE; ++turn) {
#pragma unroll
                for (int o = 0; o < WIDE; ++o) {
                    const float first = activate(activation, results[0][o]);
#pragma unroll
                    for (int i = 1; i < MINE; ++i) results[i - 1][o] = results[i][o];
                    results[MINE - 1][o] = first;
                }
            }
        }
    }
#pragma unroll
    for (int i = 0; i < MINE; ++i) {
        const int row = first_row + my_row + ROWS / TALL * (slice * MINE + i);
        if (row < rows) write_share<WIDE>(out + (long long)row * outputs + first_output, results[i], column, outputs - first_output);
    }
}

// out (rows, O) = f(windows of a (B, H, W, I) times b (k k I, O) + bias c), bias and f where `biased` says so. I and O are multiples of
// 4, buffers begin at multiples of 16 bytes. ⌈rows / ROWS⌉ ⌈O / OUTPUTS⌉ blocks, of which a multiprocessor has RESIDENT at a time.
#define CONVOLVE(name, ROWS, OUTPUTS, SLICES, RESIDENT) \
    IN_BLOCKS(name) \
    extern "C" __global__ void __launch_bounds__(256, RESIDENT) name( \
        float* out, const float* a, const float* b, const float* c, const float* d, Sizes sizes) { \
        convolve_tile<ROWS, OUTPUTS, SLICES>(out, a, b, c, sizes.of); \
    }

// For many rows.
CONVOLVE(convolve_256x32, 256, 32, 1, 2)
CONVOLVE(convolve_256x48, 256, 48, 1, 2)
// For so few that there would not be two blocks of the others for each multiprocessor.
CONVOLVE(convolve_64x32, 64, 32, 4, 2)
CONVOLVE(convolve_64x48, 64, 48, 4, 2)
