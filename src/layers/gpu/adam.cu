// Adam, with what a step needs to know in a buffer of its own, `Step` in adam.rs: rate, correction and the clipping norm come from the host, the
// rest is put there by `measure`.

#define RATE 0
#define CORRECTION 1
#define CLIP 2
#define SCALE 3
#define SQUARES 4
#define NORM 5
#define TERMS 6

// The parameter that a block works on.
static __device__ __forceinline__ int parameter_of_block(const Many& many) {
    int which = 0;
    while (blockIdx.x >= many.first_block[which + 1]) ++which;
    return which;
}

// Each block's sum of the squares of its numbers of a gradient.
MANY_KERNEL(squares) {
    const int which = parameter_of_block(many), length = many.length[which];
    const int first = (blockIdx.x - many.first_block[which]) * CHUNK;
    float sum = 0.0f;
    for (int i = first + threadIdx.x; i < first + CHUNK && i < length; i += 256) {
        const float g = many.gradient[which][i];
        sum += g * g;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// From sums of squares a, so many, which are added to those so far, and the loss's terms b: the gradient's norm, and its
// factor; a negative one where loss or norm are not finite, which is no step. The terms are put beside it. One block.
BLOCK_KERNEL(measure) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < sizes.of[0]; i += 256) sum += a[i];
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    out[SQUARES] += sum;
    const float norm = sqrtf(out[SQUARES]), clip = out[CLIP];
    const bool finite = norm <= 3.4e38f && fabsf(b[0]) <= 3.4e38f;
    out[SCALE] = !finite ? -1.0f : clip > 0.0f && norm > clip ? clip / norm : 1.0f;
    out[NORM] = norm;
    for (int term = 0; term < 5; ++term) out[TERMS + term] = b[term];
}

// One step of all parameters, with the step's numbers a.
MANY_KERNEL(adam) {
    const int which = parameter_of_block(many), length = many.length[which];
    const int first = (blockIdx.x - many.first_block[which]) * CHUNK;
    const float rate = a[RATE], correction = a[CORRECTION], scale = a[SCALE];
    const float decay1 = sizes.number[0], rest1 = sizes.number[1], decay2 = sizes.number[2], rest2 = sizes.number[3];
    const float epsilon = sizes.number[4];
    float* parameter = many.parameter[which];
    float* mean = many.mean[which];
    float* square = many.square[which];
    const float* gradient = many.gradient[which];
    if (scale < 0.0f) return;
    for (int i = first + threadIdx.x; i < first + CHUNK && i < length; i += 256) {
        const float g = scale * gradient[i];
        mean[i] = decay1 * mean[i] + rest1 * g;
        square[i] = decay2 * square[i] + rest2 * g * g;
        parameter[i] -= rate * mean[i] / (sqrtf(correction * square[i]) + epsilon);
    }
}
