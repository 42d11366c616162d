// The Bernoulli log-likelihood of pixels b under logits a: x l - softplus(l).

static __device__ __forceinline__ float softplus(float x) { return (x <= 0.0f ? 0.0f : x) + log1pf(expf(-fabsf(x))); }

// `parts` partial sums of each image of `length` numbers; fold makes one of them.
KERNEL(bernoulli) {
    THREAD_OR_RETURN(i);
    const int length = sizes.of[0], parts = sizes.of[1];
    const long long image = (long long)(i / parts) * length;
    float sum = 0.0f;
    for (int r = i % parts; r < length; r += parts) sum += b[image + r] * a[image + r] - softplus(a[image + r]);
    out[i] = sum;
}

// The logits' gradient, for the gradient c of each image's sum.
KERNEL(bernoulli_gradient) {
    THREAD_OR_RETURN(i);
    out[i] = c[i / sizes.of[0]] * (b[i] - sigmoid(a[i]));
}
