// Runs one kernel on the CPU: `twin KERNEL BLOCKS CHANGED MANY`. Standard input holds the sizes and five buffers, each with its length
// before it; the first CHANGED of them go to standard output afterwards. A kernel over MANY parameters is told their shares first, reads four
// more buffers for each, and returns the first three of them too. The kernels come before this file, and before them what CUDA's compiler
// would know by itself.
#ifdef TWIN_BEFORE

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
// Blocks run one after the other, so that one place serves all.
#define __shared__ static
#define IN_BLOCKS(name) extern "C" const int name##_in_blocks = 1;

struct Index {
    unsigned x;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static Index blockIdx, threadIdx, blockDim;
static void wait_for_the_block();
#define __syncthreads wait_for_the_block

#else

static void read_all(void* to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) abort();
}

static std::vector<float> read_buffer() {
    uint64_t length;
    read_all(&length, sizeof length);
    std::vector<float> buffer(length);
    read_all(buffer.data(), length * sizeof(float));
    return buffer;
}

static void write_buffer(const std::vector<float>& buffer) { fwrite(buffer.data(), sizeof(float), buffer.size(), stdout); }

static void* kernel;
static Sizes sizes;
static Many many;
static std::vector<float> buffers[5];

static void one_thread() {
    if (many.count > 0) {
        ((void (*)(const Many, float*, const float*, Sizes))kernel)(many, buffers[0].data(), buffers[1].data(), sizes);
    } else {
        typedef void (*Kernel)(float*, const float*, const float*, const float*, const float*, Sizes);
        ((Kernel)kernel)(
            buffers[0].data(), buffers[1].data(), buffers[2].data(), buffers[3].data(), buffers[4].data(), sizes);
    }
}

// Threads that wait for each other have a stack each, and take turns.
struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    bool done;
};
static Fiber fibers[256];
static ucontext_t turns;

static void wait_for_the_block() { swapcontext(&fibers[threadIdx.x].context, &turns); }

static void one_fiber() {
    one_thread();
    fibers[threadIdx.x].done = true;
    swapcontext(&fibers[threadIdx.x].context, &turns);
}

static void one_block() {
    for (auto& fiber : fibers) {
        fiber.stack.resize(1 << 16);
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        makecontext(&fiber.context, one_fiber, 0);
    }
    for (bool any = true; any;) {
        any = false;
        for (threadIdx.x = 0; threadIdx.x < 256; ++threadIdx.x) {
            Fiber& fiber = fibers[threadIdx.x];
            if (fiber.done) continue;
            swapcontext(&turns, &fiber.context);
            any = true;
        }
    }
}

int main(int, char** arguments) {
    kernel = dlsym(RTLD_DEFAULT, arguments[1]);
    if (!kernel) return 3;
    char in_blocks[256];
    snprintf(in_blocks, sizeof in_blocks, "%s_in_blocks", arguments[1]);
    read_all(&sizes, sizeof sizes);
    for (auto& buffer : buffers) buffer = read_buffer();
    const int parameters = atoi(arguments[4]);
    std::vector<std::vector<float>> all;
    if (parameters > 0) {
        // Count, first blocks and lengths.
        read_all(&many, sizeof(int) * (2 + 2 * MANY));
        for (int i = 0; i < 4 * parameters; ++i) all.push_back(read_buffer());
        for (int i = 0; i < parameters; ++i) {
            many.parameter[i] = all[4 * i].data();
            many.mean[i] = all[4 * i + 1].data();
            many.square[i] = all[4 * i + 2].data();
            many.gradient[i] = all[4 * i + 3].data();
        }
    }
    blockDim.x = 256;
    const unsigned blocks = (unsigned)atoi(arguments[2]);
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        if (dlsym(RTLD_DEFAULT, in_blocks)) {
            one_block();
        } else {
            for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) one_thread();
        }
    }
    for (int i = 0; i < atoi(arguments[3]); ++i) write_buffer(buffers[i]);
    for (size_t i = 0; i < all.size(); ++i) {
        if (i % 4 < 3) write_buffer(all[i]);
    }
}

#endif
