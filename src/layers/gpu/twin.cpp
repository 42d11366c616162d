// Runs one kernel on the CPU, thread after thread: `twin KERNEL BLOCKS CHANGED`. Standard input holds the sizes and five buffers, each with
// its length before it; the first CHANGED of them go to standard output afterwards. The kernels come before this file, and `before`
// them what CUDA's compiler would know by itself.
#ifdef TWIN_BEFORE

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)

struct Index {
    unsigned x;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
static Index blockIdx, threadIdx, blockDim;

#else

static void read_all(void* to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) abort();
}

int main(int, char** arguments) {
    typedef void (*Kernel)(float*, const float*, const float*, const float*, const float*, Sizes);
    Kernel kernel = (Kernel)dlsym(RTLD_DEFAULT, arguments[1]);
    if (!kernel) return 3;
    Sizes sizes;
    read_all(&sizes, sizeof sizes);
    std::vector<float> buffers[5];
    for (auto& buffer : buffers) {
        uint64_t length;
        read_all(&length, sizeof length);
        buffer.resize(length);
        read_all(buffer.data(), length * sizeof(float));
        buffer.shrink_to_fit();
    }
    blockDim.x = 256;
    const unsigned blocks = (unsigned)atoi(arguments[2]);
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) {
            kernel(buffers[0].data(), buffers[1].data(), buffers[2].data(), buffers[3].data(), buffers[4].data(), sizes);
        }
    }
    for (int i = 0; i < atoi(arguments[3]); ++i) fwrite(buffers[i].data(), sizeof(float), buffers[i].size(), stdout);
}

#endif
