// Heads of queries and keys: normalised (when there is a weight), then turned to their positions. The halves of a head
// are the coordinates that turn. A warp a head, four warps a block.
#include "prelude.cuh"

// Heads of the tokens' rows, `stride` apart, from column `offset` on, into [tokens, heads * dim].
template <class T>
__device__ void heads_forward(const void *rows_, int stride, int offset, const void *weight_,
                              float epsilon, const float *cosines, const float *sines,
                              const int *positions, void *out_, float *inverse, int tokens,
                              int heads, int dim) {
    const int lane = threadIdx.x % WARP;
    const int head = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (head >= tokens * heads) {
        return;
    }
    const int token = head / heads;
    const int half = dim / 2;
    const T *x = static_cast<const T *>(rows_) + static_cast<size_t>(token) * stride + offset +
                 head % heads * dim;
    const T *weight = static_cast<const T *>(weight_);
    T *out = static_cast<T *>(out_) + static_cast<size_t>(head) * dim;
    float scale = 1.0f;
    if (weight != nullptr) {
        float squares = 0.0f;
        for (int at = lane; at < dim; at += WARP) {
            const float value = widen(x[at]);
            squares += value * value;
        }
        scale = 1.0f / sqrtf(over_warp(squares, Sum()) / dim + epsilon);
        if (lane == 0) {
            inverse[head] = scale;
        }
    }
    // padding has position -1, and turns nowhere
    const int position = positions[token] < 0 ? 0 : positions[token];
    const size_t angle = static_cast<size_t>(position) * half;
    for (int pair = lane; pair < half; pair += WARP) {
        float a = widen(x[pair]) * scale;
        float b = widen(x[pair + half]) * scale;
        if (weight != nullptr) {
            a *= widen(weight[pair]);
            b *= widen(weight[pair + half]);
        }
        const float c = cosines[angle + pair];
        const float s = sines[angle + pair];
        put(&out[pair], a * c - b * s);
        put(&out[pair + half], b * c + a * s);
    }
}
KERNELS(heads_forward,
        (const void *rows, int stride, int offset, const void *weight, float epsilon,
         const float *cosines, const float *sines, const int *positions, void *out, float *inverse,
         int tokens, int heads, int dim),
        (rows, stride, offset, weight, epsilon, cosines, sines, positions, out, inverse, tokens,
         heads, dim))

// From the gradient on the turned heads, [tokens, heads * dim], to that on the rows. With a weight, `terms`
// [tokens * heads, dim] receives what each head adds to the weight's gradient.
template <class T>
__device__ void heads_backward(const void *rows_, int stride, int offset, const void *weight_,
                               const float *inverse, const float *cosines, const float *sines,
                               const int *positions, const void *dout_, void *drows_, float *terms,
                               int tokens, int heads, int dim) {
    const int lane = threadIdx.x % WARP;
    const int head = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (head >= tokens * heads) {
        return;
    }
    const int token = head / heads;
    const int half = dim / 2;
    const size_t start = static_cast<size_t>(token) * stride + offset + head % heads * dim;
    const T *x = static_cast<const T *>(rows_) + start;
    T *dx = static_cast<T *>(drows_) + start;
    const T *weight = static_cast<const T *>(weight_);
    const T *dout = static_cast<const T *>(dout_) + static_cast<size_t>(head) * dim;
    const size_t angle = static_cast<size_t>(positions[token]) * half;
    float along = 0.0f;
    if (weight != nullptr) {
        for (int pair = lane; pair < half; pair += WARP) {
            const float c = cosines[angle + pair];
            const float s = sines[angle + pair];
            const float a = widen(dout[pair]);
            const float b = widen(dout[pair + half]);
            along += (a * c + b * s) * widen(weight[pair]) * widen(x[pair]) +
                     (b * c - a * s) * widen(weight[pair + half]) * widen(x[pair + half]);
        }
        along = over_warp(along, Sum()) / dim;
    }
    for (int pair = lane; pair < half; pair += WARP) {
        const float c = cosines[angle + pair];
        const float s = sines[angle + pair];
        const float da = widen(dout[pair]) * c + widen(dout[pair + half]) * s;
        const float db = widen(dout[pair + half]) * c - widen(dout[pair]) * s;
        if (weight == nullptr) {
            put(&dx[pair], da);
            put(&dx[pair + half], db);
            continue;
        }
        const float scale = inverse[head];
        const float slope = scale * scale * along;
        const float xa = widen(x[pair]);
        const float xb = widen(x[pair + half]);
        put(&dx[pair], (da * widen(weight[pair]) - xa * slope) * scale);
        put(&dx[pair + half], (db * widen(weight[pair + half]) - xb * slope) * scale);
        terms[static_cast<size_t>(head) * dim + pair] = da * xa * scale;
        terms[static_cast<size_t>(head) * dim + pair + half] = db * xb * scale;
    }
}
KERNELS(heads_backward,
        (const void *rows, int stride, int offset, const void *weight, const float *inverse,
         const float *cosines, const float *sines, const int *positions, const void *dout,
         void *drows, float *terms, int tokens, int heads, int dim),
        (rows, stride, offset, weight, inverse, cosines, sines, positions, dout, drows, terms,
         tokens, heads, dim))
