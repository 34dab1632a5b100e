// The optimizer, over one slice of parameters.
#include "prelude.cuh"

// Sum of the squares of each block's share of the values.
KERNEL(square_sums, (const float *values, u64 count, double *sums)) {
    __shared__ double room[WARP];
    double sum = 0.0;
    for (size_t at = global_thread(); at < count; at += all_threads()) {
        sum += static_cast<double>(values[at]) * values[at];
    }
    sum = over_block(sum, Sum(), room);
    if (threadIdx.x == 0) {
        sums[blockIdx.x] = sum;
    }
}
REGISTER(square_sums)

// Moves parameters by their gradients times `clip`; `rate` has the first moment's bias correction in it, `root` is one
// over the root of the second's, `keep` what decay leaves. `copy`, when there is one, receives the parameters in the
// type of activations.
template <class T>
__device__ void adamw(float *params, const float *grads, float *first, float *second, void *copy_,
                      u64 count, float clip, float beta1, float beta2, float epsilon, float keep,
                      float rate, float root) {
    T *copy = static_cast<T *>(copy_);
    for (size_t at = global_thread(); at < count; at += all_threads()) {
        const float g = grads[at] * clip;
        const float m = first[at] * beta1 + g * (1.0f - beta1);
        const float v = second[at] * beta2 + g * g * (1.0f - beta2);
        const float p = params[at] * keep - rate * m / (sqrtf(v) * root + epsilon);
        first[at] = m;
        second[at] = v;
        params[at] = p;
        if (copy != nullptr) {
            put(&copy[at], p);
        }
    }
}
KERNELS(adamw,
        (float *params, const float *grads, float *first, float *second, void *copy, u64 count,
         float clip, float beta1, float beta2, float epsilon, float keep, float rate, float root),
        (params, grads, first, second, copy, count, clip, beta1, beta2, epsilon, keep, rate, root))
