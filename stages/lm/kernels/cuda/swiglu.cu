// The gate of the feed-forward part: silu(g) * u with silu(g) = g * sigmoid(g).
#include "prelude.cuh"

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Rows of `inner` gates, then as many ups.
template <class T> __device__ void swiglu(const void *gate_up_, void *out_, u64 rows, int inner) {
    const T *gate_up = static_cast<const T *>(gate_up_);
    T *out = static_cast<T *>(out_);
    for (size_t at = global_thread(); at < rows * inner; at += all_threads()) {
        const size_t gate = at / inner * 2 * inner + at % inner;
        const float g = widen(gate_up[gate]);
        put(&out[at], g * sigmoid(g) * widen(gate_up[gate + inner]));
    }
}
KERNELS(swiglu, (const void *gate_up, void *out, u64 rows, int inner), (gate_up, out, rows, inner))

// Replaces gates and ups by their gradients, and the gradient `dout` by the output, which the next product needs.
template <class T> __device__ void swiglu_backward(void *gate_up_, void *dout_, u64 rows, int inner) {
    T *gate_up = static_cast<T *>(gate_up_);
    T *dout = static_cast<T *>(dout_);
    for (size_t at = global_thread(); at < rows * inner; at += all_threads()) {
        const size_t gate = at / inner * 2 * inner + at % inner;
        const float g = widen(gate_up[gate]);
        const float u = widen(gate_up[gate + inner]);
        const float d = widen(dout[at]);
        const float s = sigmoid(g);
        const float silu = g * s;
        put(&gate_up[gate], d * u * (s + silu * (1.0f - s)));
        put(&gate_up[gate + inner], d * silu);
        put(&dout[at], silu * u);
    }
}
KERNELS(swiglu_backward, (void *gate_up, void *dout, u64 rows, int inner),
        (gate_up, dout, rows, inner))
