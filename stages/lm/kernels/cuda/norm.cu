// Root-mean-square normalisation of rows: y = x / sqrt(mean(x^2) + epsilon) * w.
#include "prelude.cuh"

// A block a row; keeps 1 / rms.
template <class T>
__device__ void rms_norm(const void *x_, const void *weight_, float epsilon, void *y_,
                         float *inverse, int width) {
    __shared__ float room[WARP];
    const size_t start = static_cast<size_t>(blockIdx.x) * width;
    const T *x = static_cast<const T *>(x_) + start;
    const T *weight = static_cast<const T *>(weight_);
    T *y = static_cast<T *>(y_) + start;
    float squares = 0.0f;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        const float value = widen(x[column]);
        squares += value * value;
    }
    squares = over_block(squares, Sum(), room);
    const float scale = 1.0f / sqrtf(squares / width + epsilon);
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        put(&y[column], widen(x[column]) * scale * widen(weight[column]));
    }
    if (threadIdx.x == 0) {
        inverse[blockIdx.x] = scale;
    }
}
KERNELS(rms_norm,
        (const void *x, const void *weight, float epsilon, void *y, float *inverse, int width),
        (x, weight, epsilon, y, inverse, width))

// The normalised rows again, from the kept 1 / rms.
template <class T>
__device__ void rms_norm_again(const void *x_, const void *weight_, const float *inverse, void *y_,
                               int width) {
    const size_t start = static_cast<size_t>(blockIdx.x) * width;
    const T *x = static_cast<const T *>(x_) + start;
    const T *weight = static_cast<const T *>(weight_);
    T *y = static_cast<T *>(y_) + start;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        put(&y[column], widen(x[column]) * inverse[blockIdx.x] * widen(weight[column]));
    }
}
KERNELS(rms_norm_again,
        (const void *x, const void *weight, const float *inverse, void *y, int width),
        (x, weight, inverse, y, width))

// Adds the gradient on x to `sum`. With g = dy * w and r = 1 / rms: dx = r * (g - x * r^2 * mean(g * x)).
template <class T>
__device__ void rms_norm_backward(const void *x_, const void *weight_, const float *inverse,
                                  const void *dy_, void *sum_, int width) {
    __shared__ float room[WARP];
    const size_t start = static_cast<size_t>(blockIdx.x) * width;
    const T *x = static_cast<const T *>(x_) + start;
    const T *weight = static_cast<const T *>(weight_);
    const T *dy = static_cast<const T *>(dy_) + start;
    T *sum = static_cast<T *>(sum_) + start;
    float along = 0.0f;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        along += widen(dy[column]) * widen(weight[column]) * widen(x[column]);
    }
    along = over_block(along, Sum(), room) / width;
    const float scale = inverse[blockIdx.x];
    const float slope = scale * scale * along;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        const float g = widen(dy[column]) * widen(weight[column]);
        put(&sum[column], widen(sum[column]) + (g - widen(x[column]) * slope) * scale);
    }
}
KERNELS(rms_norm_backward,
        (const void *x, const void *weight, const float *inverse, const void *dy, void *sum,
         int width),
        (x, weight, inverse, dy, sum, width))

// The gradient on w, dy * x * r, summed over the rows of slab y; add_slabs does the rest.
template <class T>
__device__ void norm_weight_slabs(const void *x_, const float *inverse, const void *dy_, int rows,
                                  int width, int slab, float *sums) {
    const T *x = static_cast<const T *>(x_);
    const T *dy = static_cast<const T *>(dy_);
    sum_slab(rows, width, slab, sums, [=](int row, size_t at) {
        return widen(dy[at]) * widen(x[at]) * inverse[row];
    });
}
KERNELS(norm_weight_slabs,
        (const void *x, const float *inverse, const void *dy, int rows, int width, int slab,
         float *sums),
        (x, inverse, dy, rows, width, slab, sums))
