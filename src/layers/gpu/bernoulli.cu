// The Bernoulli log-likelihood of pixels b under logits a: x l - softplus(l).

static __device__ __forceinline__ float softplus(float x) { return (x <= 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x))); }

// A block sums up an image of `length` numbers.
BLOCK_KERNEL(bernoulli) {
    const int length = sizes.of[0];
    const long long image = (long long)blockIdx.x * length;
    float sum = 0.0f;
    for (int r = threadIdx.x; r < length; r += 256) sum += b[image + r] * a[image + r] - softplus(a[image + r]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// The logits' gradient, for the gradient c of each image's sum.
KERNEL(bernoulli_gradient) {
    THREAD_OR_RETURN(i);
    out[i] = c[i / sizes.of[0]] * (b[i] - sigmoid(a[i]));
}
