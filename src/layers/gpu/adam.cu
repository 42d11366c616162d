// One step of Adam: parameter, mean and square (the first three buffers) are changed; c is the gradient.
KERNEL(adam) {
    THREAD_OR_RETURN(i);
    float* mean = (float*)a;
    float* square = (float*)b;
    const float rate = sizes.number[0], correction = sizes.number[1], scale = sizes.number[2];
    const float decay1 = sizes.number[3], rest1 = sizes.number[4], decay2 = sizes.number[5], rest2 = sizes.number[6];
    const float epsilon = sizes.number[7];
    const float g = scale * c[i];
    mean[i] = decay1 * mean[i] + rest1 * g;
    square[i] = decay2 * square[i] + rest2 * g * g;
    out[i] -= rate * mean[i] / (sqrtf(correction * square[i]) + epsilon);
}
