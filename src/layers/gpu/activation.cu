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

// Sums of the columns of a matrix a, `splits` partial ones for each: a block adds up 32 columns, in 8 lanes of rows.
BLOCK_KERNEL(column_sums) {
    const int rows = sizes.of[0], columns = sizes.of[1], splits = sizes.of[2], tiles = (columns + 31) / 32;
    const int in_tile = threadIdx.x % 32, lane = threadIdx.x / 32;
    const int column = blockIdx.x % tiles * 32 + in_tile, split = blockIdx.x / tiles;
    __shared__ float lanes[8][32];
    float sum = 0.0f;
    if (column < columns) {
        for (int row = 8 * split + lane; row < rows; row += 8 * splits) sum += a[(long long)row * columns + column];
    }
    lanes[lane][in_tile] = sum;
    __syncthreads();
    if (lane == 0 && column < columns) {
        for (int other = 1; other < 8; ++other) sum += lanes[other][in_tile];
        out[split * columns + column] = sum;
    }
}
