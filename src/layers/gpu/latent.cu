// Posteriors (mean, then log-variance of each dimension): their KL, the cells of largest KL, what is kept of them, samples.

// A log-variance beyond the limit counts as the limit; NaN passes through.
static __device__ __forceinline__ float within(float x, float limit) {
    return x > limit ? limit : x < -limit ? -limit : x;
}

// Posteriors a (M, 2 D) -> KL (M).
KERNEL(kl) {
    THREAD_OR_RETURN(i);
    const int dimensions = sizes.of[0];
    const float* mean = a + (long long)i * 2 * dimensions;
    float sum = 0.0f;
    for (int d = 0; d < dimensions; ++d) {
        const float m = mean[d], l = within(mean[dimensions + d], sizes.number[0]);
        sum += expf(l) - 1.0f - l + m * m;
    }
    out[i] = 0.5f * sum;
}

// From posteriors a and the KL's gradient b (M).
KERNEL(kl_gradient) {
    THREAD_OR_RETURN(i);
    const int dimensions = sizes.of[0], at = i % (2 * dimensions);
    const float gradient = b[i / (2 * dimensions)], x = a[i];
    if (at < dimensions) {
        out[i] = gradient * x;
    } else {
        out[i] = fabsf(x) <= sizes.number[0] ? gradient * 0.5f * (expf(x) - 1.0f) : 0.0f;
    }
}

// Posteriors a (M, 2 D), noise b (M, D) -> mean + deviation * noise (M, D).
KERNEL(sample) {
    THREAD_OR_RETURN(i);
    const int dimensions = sizes.of[0];
    const long long mean = (long long)(i / dimensions) * 2 * dimensions + i % dimensions;
    out[i] = a[mean] + expf(0.5f * within(a[mean + dimensions], sizes.number[0])) * b[i];
}

// From posteriors a, noise b and the sample's gradient c (M, D).
KERNEL(sample_gradient) {
    THREAD_OR_RETURN(i);
    const int dimensions = sizes.of[0], at = i % (2 * dimensions), first = i / (2 * dimensions) * dimensions;
    if (at < dimensions) {
        out[i] = c[first + at];
    } else {
        const int same = first + at - dimensions;
        const float x = a[i];
        out[i] = fabsf(x) <= sizes.number[0] ? c[same] * 0.5f * expf(0.5f * x) * b[same] : 0.0f;
    }
}

#define LOWEST -3.4e38f

// Scores a (B, N) -> the K best cells of each image (B, K), best first, none within `radius` of a better one; where that leaves too
// few, the best of the suppressed ones. Ties go to the lower cell; NaN counts as the lowest score. See `top_k` in select.rs. A block
// does one image: its threads share the cells, and then agree on one.
BLOCK_KERNEL(best_cells) {
    const int k = sizes.of[0], columns = sizes.of[2], candidates = sizes.of[1] * columns, radius = sizes.of[3];
    const float* scores = a + (long long)blockIdx.x * candidates;
    float* cells = out + (long long)blockIdx.x * k;
    __shared__ float score_of[256];
    __shared__ int cell_of[256];
    __shared__ int kept[256];
    // Once no cell is left that is far from all others, none will be.
    int least = radius;
    for (int count = 0; count < k;) {
        float score = LOWEST;
        int cell = -1;
        for (int n = threadIdx.x; n < candidates; n += 256) {
            const float own = scores[n] >= LOWEST ? scores[n] : LOWEST;
            if (cell >= 0 && !(own > score)) continue;
            bool free = true;
            for (int j = 0; j < count && free; ++j) {
                free = abs(n / columns - kept[j] / columns) > least || abs(n % columns - kept[j] % columns) > least;
            }
            if (free) score = own, cell = n;
        }
        score_of[threadIdx.x] = score;
        cell_of[threadIdx.x] = cell;
        __syncthreads();
        for (int half = 128; half > 0; half /= 2) {
            if (threadIdx.x < half) {
                const float other = score_of[threadIdx.x + half];
                const int there = cell_of[threadIdx.x + half], here = cell_of[threadIdx.x];
                const bool tie = other == score_of[threadIdx.x] && there < here;
                if (there >= 0 && (here < 0 || other > score_of[threadIdx.x] || tie)) {
                    score_of[threadIdx.x] = other;
                    cell_of[threadIdx.x] = there;
                }
            }
            __syncthreads();
        }
        const int best = cell_of[0];
        if (best < 0 && least == 0) break;
        if (best < 0) {
            least = 0;
        } else {
            if (threadIdx.x == 0) {
                kept[count] = best;
                cells[count] = (float)best;
            }
            ++count;
        }
        __syncthreads();
    }
}

// Rows a (B, N, P), or (1, N, P) for all images, at cells b (B, K) -> (B, K, P).
KERNEL(gather) {
    THREAD_OR_RETURN(i);
    const int numbers = sizes.of[0], k = sizes.of[1], cells = sizes.of[2], shared = sizes.of[3];
    const int row = i / numbers;
    const long long image = shared ? 0 : row / k;
    out[i] = a[(image * cells + (int)b[row]) * numbers + i % numbers];
}

// From cells b (B, K) and the kept ones' gradient c (B, K, P): (B, N, P), 0 where nothing was kept.
KERNEL(gather_gradient) {
    THREAD_OR_RETURN(i);
    const int numbers = sizes.of[0], k = sizes.of[1], cells = sizes.of[2];
    const int cell = i / numbers % cells, first = i / numbers / cells * k;
    float sum = 0.0f;
    for (int j = first; j < first + k; ++j) {
        if ((int)b[j] == cell) sum += c[(long long)j * numbers + i % numbers];
    }
    out[i] = sum;
}
