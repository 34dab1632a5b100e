// What every kernel file begins with: number types, sums over a warp and a block, and the macros under which the same
// source compiles for the device (nvcc) and for the processor (STARLING_TWIN, see ../twin/twin.h).
//
// Sums have a fixed order: a thread adds its own terms, lanes are added as a butterfly, warps in their order. Nothing
// adds floating-point numbers atomically, so equal inputs give equal bytes.
#pragma once

#ifdef STARLING_TWIN
#include "twin.h"
#else
#include <cstddef>
#include <cstdint>
#define REGISTER(NAME)
extern __shared__ __align__(16) unsigned char shared_bytes[];
// The dynamic shared memory, as this type.
#define SHARED(TYPE, NAME) TYPE *NAME = reinterpret_cast<TYPE *>(shared_bytes)
#endif

// A kernel under the names NAME_f32 and NAME_bf16, which differ in the type of activations and weights. PARAMS are
// plain types (untyped pointers where the type differs), ARGS the same as arguments of NAME<T>.
#define KERNEL_OF(SUFFIX, TYPE, NAME, PARAMS, ARGS)                   \
    extern "C" __global__ void NAME##_##SUFFIX PARAMS { NAME<TYPE> ARGS; } \
    REGISTER(NAME##_##SUFFIX)
#define KERNELS(NAME, PARAMS, ARGS)                                   \
    KERNEL_OF(f32, float, NAME, PARAMS, ARGS)                         \
    KERNEL_OF(bf16, Bf16, NAME, PARAMS, ARGS)
// A kernel whose types are fixed.
#define KERNEL(NAME, PARAMS) extern "C" __global__ void NAME PARAMS

typedef unsigned long long u64;
typedef unsigned int u32;

// The upper half of a float.
struct Bf16 {
    unsigned short bits;
};

union FloatBits {
    float value;
    u32 bits;
};

__device__ inline float widen(float value) { return value; }

__device__ inline float widen(Bf16 value) {
    FloatBits wide;
    wide.bits = static_cast<u32>(value.bits) << 16;
    return wide.value;
}

__device__ inline void put(float *place, float value) { *place = value; }

// Rounds to the nearest, ties to even; a NaN stays one.
__device__ inline void put(Bf16 *place, float value) {
    FloatBits wide;
    wide.value = value;
    const u32 bits = wide.bits;
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const u32 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    place->bits = static_cast<unsigned short>(nan ? (bits >> 16) | 0x40u : rounded >> 16);
}

const int WARP = 32;
const u32 ALL_LANES = 0xffffffffu;

struct Sum {
    template <class V> __device__ V operator()(V a, V b) const { return a + b; }
};
struct Greatest {
    template <class V> __device__ V operator()(V a, V b) const { return a > b ? a : b; }
};
struct Least {
    template <class V> __device__ V operator()(V a, V b) const { return a < b ? a : b; }
};

// The same value in every lane.
template <class V, class Op> __device__ inline V over_warp(V value, Op op) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value = op(value, __shfl_xor_sync(ALL_LANES, value, distance));
    }
    return value;
}

// The same value in every thread of the block. `room` is shared, one place a warp; free for use again on return.
template <class V, class Op> __device__ inline V over_block(V value, Op op, V *room) {
    value = over_warp(value, op);
    if (threadIdx.x % WARP == 0) {
        room[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    V result = room[0];
    for (int warp = 1; warp < static_cast<int>(blockDim.x) / WARP; ++warp) {
        result = op(result, room[warp]);
    }
    __syncthreads();
    return result;
}

__device__ inline size_t global_thread() {
    return static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ inline size_t all_threads() { return static_cast<size_t>(gridDim.x) * blockDim.x; }

// First step of a sum over rows, which add_slabs ends: block (x, y) sums, for its columns, the rows of slab y. `term`
// gives what a row adds, from its number and its place in a matrix of this width.
template <class F>
__device__ inline void sum_slab(int rows, int width, int slab, float *sums, F term) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) {
        return;
    }
    const int first = blockIdx.y * slab;
    const int end = first + slab < rows ? first + slab : rows;
    float sum = 0.0f;
    for (int row = first; row < end; ++row) {
        sum += term(row, static_cast<size_t>(row) * width + column);
    }
    sums[static_cast<size_t>(blockIdx.y) * width + column] = sum;
}
