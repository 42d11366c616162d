// The loss and its terms: src/layers/objective.rs.

// From log-likelihoods a (B), KLs of entities b (B, K) and of candidates c (B, N), each block's part of four sums:
// log-likelihood, entities' KL, candidates' KL, charge.
BLOCK_KERNEL(objective_sums) {
    const int images = sizes.of[0], entities = sizes.of[1], candidates = sizes.of[2], threads = sizes.n;
    const int i = blockIdx.x * 256 + threadIdx.x;
    float likelihood = 0.0f, kl = 0.0f, all = 0.0f, charge = 0.0f;
    for (int j = i; j < images; j += threads) likelihood += a[j];
    for (int j = i; j < entities; j += threads) {
        kl += b[j];
        charge += 1.0f - expf(-0.5f * b[j]);
    }
    for (int j = i; j < candidates; j += threads) all += c[j];
    const float sums[4] = {block_sum(likelihood), block_sum(kl), block_sum(all), block_sum(charge)};
    if (threadIdx.x < 4) out[4 * blockIdx.x + threadIdx.x] = sums[threadIdx.x];
}

// 64 parts a of the four sums -> total, reconstruction, KL, idle KL, charge. One block.
BLOCK_KERNEL(objective) {
    __shared__ float sums[256];
    sums[threadIdx.x] = a[threadIdx.x];
    __syncthreads();
    for (int half = 128; half >= 4; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    const float images = (float)sizes.of[0];
    const float beta = sizes.number[0], idle_beta = sizes.number[1], location_charge = sizes.number[2];
    const float reconstruction = -sums[0] / images, kl = sums[1] / images;
    // What does not count may be anything.
    const float idle = idle_beta == 0.0f ? 0.0f : (sums[2] - sums[1]) / images * idle_beta;
    const float charge = sums[3] / images * location_charge;
    if (threadIdx.x == 0) {
        out[0] = reconstruction + kl * beta + idle + charge;
        out[1] = reconstruction, out[2] = kl, out[3] = idle, out[4] = charge;
    }
}

// Gradient of the entities' KLs b, from the gradients d of the five terms.
KERNEL(objective_gradient) {
    THREAD_OR_RETURN(i);
    const float images = (float)sizes.of[0];
    const float beta = sizes.number[0], idle_beta = sizes.number[1], location_charge = sizes.number[2];
    const float idle = d[0] + d[3], charge = d[0] + d[4];
    const float slope = location_charge * 0.5f * expf(-0.5f * b[i]);
    out[i] = (d[0] * beta + d[2] - idle * idle_beta + charge * slope) / images;
}

// The same number for each log-likelihood (`of[1]` = 0), or each candidate's KL (1).
KERNEL(objective_gradient_of_all) {
    THREAD_OR_RETURN(i);
    const float images = (float)sizes.of[0];
    out[i] = (sizes.of[1] ? (d[0] + d[3]) * sizes.number[1] : -(d[0] + d[1])) / images;
}
