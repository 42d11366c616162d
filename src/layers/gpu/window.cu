// A strided convolution as a matrix product: the windows of the large image laid out as rows of k k C numbers ("columns"), and back.
// Pixel Y of the large image is tap `Y + padding - y stride` of the window of pixel y of the small one.

struct Geometry {
    int height, width, channels, h, w, kernel, stride, padding;
};

static __device__ __forceinline__ Geometry geometry(const int* of) {
    const Geometry g = {of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7]};
    return g;
}

// Large images a (B, H, W, C) -> columns (B h w, k k C), zeros outside the image. A thread writes `at once` channels: 1, or 4 where
// rows begin at multiples of 16 bytes.
KERNEL(columns_of) {
    THREAD_OR_RETURN(i);
    const Geometry g = geometry(sizes.of);
    const int at_once = sizes.of[8], vectors = g.channels / at_once;
    int rest = i;
    const int channel = rest % vectors * at_once;
    rest /= vectors;
    const int kx = rest % g.kernel;
    rest /= g.kernel;
    const int ky = rest % g.kernel;
    rest /= g.kernel;
    const int x = rest % g.w * g.stride + kx - g.padding;
    rest /= g.w;
    const int y = rest % g.h * g.stride + ky - g.padding;
    const int image = rest / g.h;
    const bool inside = y >= 0 && y < g.height && x >= 0 && x < g.width;
    const long long from = (((long long)image * g.height + y) * g.width + x) * g.channels + channel;
    if (at_once == 4) {
        const float4 zero = {0.0f, 0.0f, 0.0f, 0.0f};
        ((float4*)out)[i] = inside ? *(const float4*)(a + from) : zero;
    } else {
        out[i] = inside ? a[from] : 0.0f;
    }
}

// Columns a (B h w, k k C) -> large images (B, H, W, C): every pixel gathers the taps that reach it, then bias b and activation where
// `biased` says so.
KERNEL(image_of) {
    THREAD_OR_RETURN(i);
    const Geometry g = geometry(sizes.of);
    const int biased = sizes.of[8], activation = sizes.of[9];
    int rest = i;
    const int channel = rest % g.channels;
    rest /= g.channels;
    const int x = rest % g.width + g.padding;
    rest /= g.width;
    const int y = rest % g.height + g.padding;
    const int image = rest / g.height;
    float sum = 0.0f;
    for (int ky = y % g.stride; ky < g.kernel && ky <= y; ky += g.stride) {
        const int row = (y - ky) / g.stride;
        if (row >= g.h) continue;
        for (int kx = x % g.stride; kx < g.kernel && kx <= x; kx += g.stride) {
            const int column = (x - kx) / g.stride;
            if (column >= g.w) continue;
            const long long window = ((long long)image * g.h + row) * g.w + column;
            sum += a[((window * g.kernel + ky) * g.kernel + kx) * g.channels + channel];
        }
    }
    out[i] = biased ? activate(activation, sum + b[channel]) : sum;
}

// A kernel a (taps, I, O) with its taps the other way round and its channels exchanged, (taps, O, I).
KERNEL(flipped) {
    THREAD_OR_RETURN(i);
    const int taps = sizes.of[0], inputs = sizes.of[1], outputs = sizes.of[2];
    const int input = i % inputs, output = i / inputs % outputs, tap = i / inputs / outputs;
    out[i] = a[((taps - 1 - tap) * inputs + input) * outputs + output];
}

// (I, taps, O), the taps the other way round, -> a kernel (taps, I, O).
KERNEL(unflipped) {
    THREAD_OR_RETURN(i);
    const int taps = sizes.of[0], inputs = sizes.of[1], outputs = sizes.of[2];
    const int output = i % outputs, input = i / outputs % inputs, tap = i / outputs / inputs;
    out[i] = a[(input * taps + taps - 1 - tap) * outputs + output];
}
