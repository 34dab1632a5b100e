// Moving, adding and summing rows.
#include "prelude.cuh"

// out[r] = table[ids[r]], a block a row.
template <class T> __device__ void gather(const void *table_, const int *ids, void *out_, int width) {
    const T *from = static_cast<const T *>(table_) + static_cast<size_t>(ids[blockIdx.x]) * width;
    T *to = static_cast<T *>(out_) + static_cast<size_t>(blockIdx.x) * width;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        to[column] = from[column];
    }
}
KERNELS(gather, (const void *table, const int *ids, void *out, int width), (table, ids, out, width))

// Backward of gather, without two threads on one number: block b adds the rows order[starts[b]..starts[b + 1]] to row
// targets[b] of `table`, which no other block has.
template <class T, class G>
__device__ void scatter(const void *rows_, const int *order, const int *starts, const int *targets,
                        void *table_, int width) {
    const T *rows = static_cast<const T *>(rows_);
    G *to = static_cast<G *>(table_) + static_cast<size_t>(targets[blockIdx.x]) * width;
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        float sum = widen(to[column]);
        for (int at = starts[blockIdx.x]; at < starts[blockIdx.x + 1]; ++at) {
            sum += widen(rows[static_cast<size_t>(order[at]) * width + column]);
        }
        put(&to[column], sum);
    }
}
// Into rows of the same type.
template <class T>
__device__ void scatter_rows(const void *rows, const int *order, const int *starts,
                             const int *targets, void *table, int width) {
    scatter<T, T>(rows, order, starts, targets, table, width);
}
// Into gradients, which are always float.
template <class T>
__device__ void scatter_gradient(const void *rows, const int *order, const int *starts,
                                 const int *targets, void *table, int width) {
    scatter<T, float>(rows, order, starts, targets, table, width);
}
KERNELS(scatter_rows,
        (const void *rows, const int *order, const int *starts, const int *targets, void *table,
         int width),
        (rows, order, starts, targets, table, width))
KERNELS(scatter_gradient,
        (const void *rows, const int *order, const int *starts, const int *targets, void *table,
         int width),
        (rows, order, starts, targets, table, width))

// Adds `row` to the rows of a matrix, a block a row.
template <class T> __device__ void add_row(void *rows_, const void *row_, int width) {
    T *row = static_cast<T *>(rows_) + static_cast<size_t>(blockIdx.x) * width;
    const T *add = static_cast<const T *>(row_);
    for (int column = threadIdx.x; column < width; column += blockDim.x) {
        put(&row[column], widen(row[column]) + widen(add[column]));
    }
}
KERNELS(add_row, (void *rows, const void *row, int width), (rows, row, width))

// Floats, rounded to the type of activations.
template <class T> __device__ void convert(const float *from, void *to_, u64 count) {
    T *to = static_cast<T *>(to_);
    for (size_t at = global_thread(); at < count; at += all_threads()) {
        put(&to[at], from[at]);
    }
}
KERNELS(convert, (const float *from, void *to, u64 count), (from, to, count))

// The sums of columns, slab by slab.
template <class T>
__device__ void slab_sums(const void *rows_, int rows, int width, int slab, float *sums) {
    const T *values = static_cast<const T *>(rows_);
    sum_slab(rows, width, slab, sums, [=](int, size_t at) { return widen(values[at]); });
}
KERNELS(slab_sums, (const void *rows, int count, int width, int slab, float *sums),
        (rows, count, width, slab, sums))

// Second step: adds the slabs' sums to `out`, in their order.
KERNEL(add_slabs, (const float *sums, int slabs, int width, float *out)) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= width) {
        return;
    }
    float sum = 0.0f;
    for (int slab = 0; slab < slabs; ++slab) {
        sum += sums[static_cast<size_t>(slab) * width + column];
    }
    out[column] += sum;
}
REGISTER(add_slabs)
