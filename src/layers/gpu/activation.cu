// Bias and activation of rows of channels, their gradient, and the sums over rows that a bias's gradient is.

// out = f(a + b): values a, bias b.
KERNEL(bias_activation) {
    THREAD_OR_RETURN(i);
    const int channels = sizes.of[0], activation = sizes.of[1];
    out[i] = activate(activation, a[i] + b[i % channels]);
}

// out = a f': gradient a with respect to the output b, which the derivative is written in.
KERNEL(activation_gradient) {
    THREAD_OR_RETURN(i);
    const float y = b[i];
    switch (sizes.of[0]) {
        case RELU: out[i] = y > 0.0f ? a[i] : 0.0f; break;
        case SIGMOID: out[i] = a[i] * y * (1.0f - y); break;
        case TANH: out[i] = a[i] * (1.0f - y * y); break;
        default: out[i] = a[i];
    }
}

// Groups of `length` numbers, each folded to `width`: number r of a group becomes the sum of its numbers r, r + width, r + 2 width, …
KERNEL(fold) {
    THREAD_OR_RETURN(i);
    const int length = sizes.of[0], width = sizes.of[1];
    const float* group = a + (long long)(i / width) * length;
    float sum = 0.0f;
    for (int r = i % width; r < length; r += width) sum += group[r];
    out[i] = sum;
}
