// Components at their places become one image, and the way back. Rules and formulae are those of src/layers/compose.rs.

#define UNION 0
#define SUM 1
#define MAX 2

struct Places {
    int rule, entities, patch_height, patch_width, stored_height, stored_width, height, width, channels;
    float nothing;
};

static __device__ __forceinline__ Places places(Sizes sizes) {
    const int* of = sizes.of;
    const Places p = {of[0], of[1], of[2], of[3], of[4], of[5], of[6], of[7], of[8], sizes.number[0]};
    return p;
}

// log(e^a + e^b + e^(a+b)), the largest exponent taken out.
static __device__ __forceinline__ float either(float a, float b) {
    const float high = a > b ? a : b, low = a > b ? b : a;
    const float low_positive = low <= 0.0f ? 0.0f : low;
    return high + low_positive + logf(1.0f + expf(-fabsf(low)) + expf(low - high - low_positive));
}

// Components a (B K, P, Q, C), corners b (B K, 2) as (y, x) -> logits (B, H, W, C).
KERNEL(compose) {
    THREAD_OR_RETURN(i);
    const Places p = places(sizes);
    int rest = i;
    const int channel = rest % p.channels;
    rest /= p.channels;
    const int x = rest % p.width;
    rest /= p.width;
    const int y = rest % p.height;
    const int image = rest / p.height;
    float all = 0.0f;
    for (int k = 0; k < p.entities; ++k) {
        const int m = image * p.entities + k;
        const int row = y - (int)b[2 * m], column = x - (int)b[2 * m + 1];
        const bool visible = row >= 0 && row < p.patch_height && column >= 0 && column < p.patch_width;
        const long long at = (((long long)m * p.stored_height + row) * p.stored_width + column) * p.channels + channel;
        const float one = visible ? a[at] : p.nothing;
        if (k == 0) {
            all = one;
        } else if (p.rule == UNION) {
            all = either(all, one);
        } else if (p.rule == SUM) {
            all = all + one - p.nothing;
        } else {
            all = one > all ? one : all;
        }
    }
    out[i] = all;
}

// The components' gradient, from components a, corners b, logits c and the logits' gradient d.
KERNEL(compose_gradient) {
    THREAD_OR_RETURN(i);
    const Places p = places(sizes);
    int rest = i;
    const int channel = rest % p.channels;
    rest /= p.channels;
    const int column = rest % p.stored_width;
    rest /= p.stored_width;
    const int row = rest % p.stored_height;
    const int m = rest / p.stored_height;
    const int y = row + (int)b[2 * m], x = column + (int)b[2 * m + 1];
    const bool used = row < p.patch_height && column < p.patch_width;
    if (!used || y < 0 || y >= p.height || x < 0 || x >= p.width) {
        out[i] = 0.0f;
        return;
    }
    const long long at = (((long long)(m / p.entities) * p.height + y) * p.width + x) * p.channels + channel;
    const float one = a[i], all = c[at], gradient = d[at];
    if (p.rule == UNION) {
        // g sigmoid(one) / sigmoid(all), written so that no exponent but the last can be positive.
        const float shift = all < 0.0f ? -all : 0.0f, scale = expf(-shift);
        out[i] = gradient * (scale + expf(-all - shift)) / (scale + expf(-one - shift));
    } else if (p.rule == SUM) {
        out[i] = gradient;
    } else {
        out[i] = one == all ? gradient : 0.0f;
    }
}
