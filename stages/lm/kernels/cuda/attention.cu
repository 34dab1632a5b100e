// Causal attention with grouped keys over packed segments, some of which go on from an earlier one; forward with a
// log-sum-exp a query and head, and the backward pass that computes scores again from it.
//
// A segment's tokens follow each other, and the segment that it goes on from lies before it, so "sees" is always
// "key token <= query token". A block has four warps, each with EACH rows of its own (queries, or keys in the last
// kernel); the other side passes by in tiles of 32, one a lane, through shared memory. C is the width of a head in
// warps: a head of up to 32 * C coordinates.
#include "prelude.cuh"

const int WARPS = 4;
const int EACH = 4;
const int ROWS = WARPS * EACH;
const int TILE = WARP;

// Four numbers of one coordinate or one lane, read at once.
struct __align__(16) Four {
    float of[EACH];
};

// What passes by: 32 rows of each of two matrices, padded so that lanes reading a column do not collide.
template <int C> struct Passing {
    float a[TILE][C * WARP + 1];
    float b[TILE][C * WARP + 1];
};

// The rows of a warp, turned so that all four of a coordinate lie together.
template <int C> struct Turned {
    Four at[WARPS][C * WARP];
};

struct Shares {
    Four of[WARPS][TILE];
};

// Reads `count` rows of two matrices (the rest become 0), all threads of the block together.
template <class T, int C>
__device__ inline void read_tile(Passing<C> &tile, const T *a, size_t a_stride, const T *b,
                                 size_t b_stride, int count, int dim) {
    for (int at = threadIdx.x; at < TILE * C * WARP; at += blockDim.x) {
        const int row = at / (C * WARP);
        const int column = at % (C * WARP);
        const bool inside = row < count && column < dim;
        tile.a[row][column] = inside ? widen(a[row * a_stride + column]) : 0.0f;
        tile.b[row][column] = inside ? widen(b[row * b_stride + column]) : 0.0f;
    }
}

// Reads the rows of this block, turned; rows from `count` on become 0.
template <class T, int C>
__device__ inline void read_rows(Turned<C> &rows, const T *from, size_t stride, int count, int dim) {
    for (int at = threadIdx.x; at < ROWS * C * WARP; at += blockDim.x) {
        const int row = at / (C * WARP);
        const int column = at % (C * WARP);
        const bool inside = row < count && column < dim;
        rows.at[row / EACH][column].of[row % EACH] =
            inside ? widen(from[row * stride + column]) : 0.0f;
    }
}

// Products of a warp's rows with this lane's row of what passes by.
template <int C>
__device__ inline void products(const Turned<C> &rows, const float (&passing)[C * WARP + 1],
                                int dim, float (&sums)[EACH]) {
    const int warp = threadIdx.x / WARP;
    for (int i = 0; i < EACH; ++i) {
        sums[i] = 0.0f;
    }
    for (int column = 0; column < dim; ++column) {
        const float value = passing[column];
        const Four row = rows.at[warp][column];
        for (int i = 0; i < EACH; ++i) {
            sums[i] += row.of[i] * value;
        }
    }
}

// Adds what passes by, weighted, to this lane's coordinates of the warp's rows.
template <int C>
__device__ inline void gather_weighted(const Four (&shares)[TILE],
                                       const float (&passing)[TILE][C * WARP + 1],
                                       float (&sums)[EACH][C]) {
    const int lane = threadIdx.x % WARP;
    for (int row = 0; row < TILE; ++row) {
        const Four share = shares[row];
        for (int c = 0; c < C; ++c) {
            const float value = passing[row][lane + c * WARP];
            for (int i = 0; i < EACH; ++i) {
                sums[i][c] += share.of[i] * value;
            }
        }
    }
}

// Softmax that takes its scores tile by tile.
template <int C> struct Online {
    float top[EACH];
    float mass[EACH];
    float sums[EACH][C];

    __device__ void clear() {
        for (int i = 0; i < EACH; ++i) {
            top[i] = -INFINITY;
            mass[i] = 0.0f;
            for (int c = 0; c < C; ++c) {
                sums[i][c] = 0.0f;
            }
        }
    }

    // Takes a score a lane (minus infinity where it is not seen) and the values that passed by with it.
    __device__ void take(const float (&scores)[EACH], Four (&shares)[TILE],
                         const float (&values)[TILE][C * WARP + 1]) {
        const int lane = threadIdx.x % WARP;
        Four share;
        for (int i = 0; i < EACH; ++i) {
            const float greatest = over_warp(scores[i], Greatest());
            const float next = greatest > top[i] ? greatest : top[i];
            // before the first seen key there is nothing to scale
            const float shrink = top[i] > -INFINITY ? expf(top[i] - next) : 0.0f;
            share.of[i] = scores[i] > -INFINITY ? expf(scores[i] - next) : 0.0f;
            mass[i] = mass[i] * shrink + over_warp(share.of[i], Sum());
            top[i] = next;
            for (int c = 0; c < C; ++c) {
                sums[i][c] *= shrink;
            }
        }
        shares[lane] = share;
        __syncwarp();
        gather_weighted<C>(shares, values, sums);
        __syncwarp();
    }
};

// Queries of one block, as the host lists them.
struct QueryTile {
    int first;       // token of the first
    int count;       // at most ROWS
    int start;       // first token of their segment
    int before;      // first token of the segment before it
    int before_count;
};

// What passes by a block of queries: the keys and values of one head of each row.
template <class T> struct Keys {
    const T *k;
    size_t k_stride;
    const T *v;
    size_t v_stride;
    int dim;

    __device__ Keys(const void *k_, const void *v_, size_t stride, int key_head, int key_heads,
                    int width)
        : k(static_cast<const T *>(k_) + key_head * width),
          k_stride(static_cast<size_t>(key_heads) * width),
          v(static_cast<const T *>(v_) + key_head * width), v_stride(stride), dim(width) {}

    // Lets the keys pass that any of the queries sees, tile by tile: those of the segment before theirs, then their
    // own up to the last query. Calls `each` with a tile's first key and how many it holds.
    template <int C, class F>
    __device__ void pass(const QueryTile &queries, Passing<C> &tile, F each) const {
        for (int span = 0; span < 2; ++span) {
            const int from = span == 0 ? queries.before : queries.start;
            const int end = span == 0 ? queries.before + queries.before_count
                                      : queries.first + queries.count;
            for (int key = from; key < end; key += TILE) {
                const int count = end - key < TILE ? end - key : TILE;
                read_tile<T, C>(tile, k + key * k_stride, k_stride, v + key * v_stride, v_stride,
                                count, dim);
                __syncthreads();
                each(key, count);
                __syncthreads();
            }
        }
    }
};

template <class T, int C>
__device__ void attention_forward(const void *q_, const void *k_, const void *v_, int v_stride,
                                  const QueryTile *tiles, void *out_, float *lse, int heads,
                                  int key_heads, int dim, float scale) {
    struct Room {
        Passing<C> tile;
        Turned<C> q;
        Shares shares;
    };
    SHARED(Room, room);
    const QueryTile queries = tiles[blockIdx.x];
    const int head = blockIdx.y;
    const int warp = threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    const size_t width = static_cast<size_t>(heads) * dim;
    const T *q = static_cast<const T *>(q_) + queries.first * width + head * dim;
    read_rows<T, C>(room->q, q, width, queries.count, dim);
    Online<C> online;
    online.clear();
    const Keys<T> keys(k_, v_, v_stride, head * key_heads / heads, key_heads, dim);
    keys.template pass<C>(queries, room->tile, [&](int key, int count) {
        float scores[EACH];
        products<C>(room->q, room->tile.a[lane], dim, scores);
        for (int i = 0; i < EACH; ++i) {
            // rows past the end are given the last row's keys, and are not written
            const int row = warp * EACH + i;
            const int query = queries.first + (row < queries.count ? row : queries.count - 1);
            const bool seen = lane < count && key + lane <= query;
            scores[i] = seen ? scores[i] * scale : -INFINITY;
        }
        online.take(scores, room->shares.of[warp], room->tile.b);
    });
    for (int i = 0; i < EACH; ++i) {
        const int row = warp * EACH + i;
        if (row >= queries.count) {
            break;
        }
        const size_t token = queries.first + row;
        T *out = static_cast<T *>(out_) + token * width + head * dim;
        for (int c = 0; c < C; ++c) {
            if (lane + c * WARP < dim) {
                put(&out[lane + c * WARP], online.sums[i][c] / online.mass[i]);
            }
        }
        if (lane == 0) {
            lse[token * heads + head] = online.top[i] + logf(online.mass[i]);
        }
    }
}

// The sum over a head of output times its gradient, [tokens, heads]; a warp a head.
template <class T>
__device__ void attention_along(const void *out_, const void *dout_, float *along, int count,
                                int dim) {
    const int head = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (head >= count) {
        return;
    }
    const T *out = static_cast<const T *>(out_) + static_cast<size_t>(head) * dim;
    const T *dout = static_cast<const T *>(dout_) + static_cast<size_t>(head) * dim;
    float sum = 0.0f;
    for (int at = threadIdx.x % WARP; at < dim; at += WARP) {
        sum += widen(out[at]) * widen(dout[at]);
    }
    sum = over_warp(sum, Sum());
    if (threadIdx.x % WARP == 0) {
        along[head] = sum;
    }
}
KERNELS(attention_along, (const void *out, const void *dout, float *along, int count, int dim),
        (out, dout, along, count, dim))

// The gradient on the queries: with ds = p * (dp - along) * scale, dq = sum of ds * k.
template <class T, int C>
__device__ void attention_queries(const void *q_, const void *k_, const void *v_, int v_stride,
                                  const void *dout_, const float *lse, const float *along,
                                  const QueryTile *tiles, void *dq_, int heads, int key_heads,
                                  int dim, float scale) {
    struct Room {
        Passing<C> tile;
        Turned<C> q;
        Turned<C> dout;
        Shares shares;
    };
    SHARED(Room, room);
    const QueryTile queries = tiles[blockIdx.x];
    const int head = blockIdx.y;
    const int warp = threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    const size_t width = static_cast<size_t>(heads) * dim;
    const size_t place = queries.first * width + head * dim;
    read_rows<T, C>(room->q, static_cast<const T *>(q_) + place, width, queries.count, dim);
    read_rows<T, C>(room->dout, static_cast<const T *>(dout_) + place, width, queries.count, dim);
    float sums[EACH][C];
    float row_lse[EACH];
    float row_along[EACH];
    for (int i = 0; i < EACH; ++i) {
        const int row = warp * EACH + i;
        const size_t token = queries.first + (row < queries.count ? row : queries.count - 1);
        row_lse[i] = lse[token * heads + head];
        row_along[i] = along[token * heads + head];
        for (int c = 0; c < C; ++c) {
            sums[i][c] = 0.0f;
        }
    }
    const Keys<T> keys(k_, v_, v_stride, head * key_heads / heads, key_heads, dim);
    keys.template pass<C>(queries, room->tile, [&](int key, int count) {
        float scores[EACH];
        float slopes[EACH];
        products<C>(room->q, room->tile.a[lane], dim, scores);
        products<C>(room->dout, room->tile.b[lane], dim, slopes);
        Four share;
        for (int i = 0; i < EACH; ++i) {
            const int row = warp * EACH + i;
            const bool seen =
                row < queries.count && lane < count && key + lane <= queries.first + row;
            const float p = seen ? expf(scores[i] * scale - row_lse[i]) : 0.0f;
            share.of[i] = p * (slopes[i] - row_along[i]) * scale;
        }
        room->shares.of[warp][lane] = share;
        __syncwarp();
        gather_weighted<C>(room->shares.of[warp], room->tile.a, sums);
    });
    for (int i = 0; i < EACH; ++i) {
        const int row = warp * EACH + i;
        if (row >= queries.count) {
            break;
        }
        T *dq = static_cast<T *>(dq_) + place + row * width;
        for (int c = 0; c < C; ++c) {
            if (lane + c * WARP < dim) {
                put(&dq[lane + c * WARP], sums[i][c]);
            }
        }
    }
}

// Keys of one block: their tokens, and which of the ranges hold the queries that may see them.
struct KeyTile {
    int first;
    int count;
    int ranges;
    int ranges_end;
};

struct QueryRange {
    int first;
    int end;
};

// The gradients on keys and values: dk = sum of ds * q and dv = sum of p * dout, over all query heads of the key head.
template <class T, int C>
__device__ void attention_keys(const void *q_, const void *k_, const void *v_, int v_stride,
                               const void *dout_, const float *lse, const float *along,
                               const KeyTile *tiles, const QueryRange *ranges, void *dk_,
                               void *dv_, int heads, int key_heads, int dim, float scale) {
    struct Room {
        Passing<C> tile;
        Turned<C> k;
        Turned<C> v;
        Shares p;
        Shares ds;
    };
    SHARED(Room, room);
    const KeyTile keys = tiles[blockIdx.x];
    const int key_head = blockIdx.y;
    const int group = heads / key_heads;
    const int warp = threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    const size_t width = static_cast<size_t>(heads) * dim;
    const size_t key_width = static_cast<size_t>(key_heads) * dim;
    const size_t k_place = keys.first * key_width + key_head * dim;
    const size_t v_place = static_cast<size_t>(keys.first) * v_stride + key_head * dim;
    read_rows<T, C>(room->k, static_cast<const T *>(k_) + k_place, key_width, keys.count, dim);
    read_rows<T, C>(room->v, static_cast<const T *>(v_) + v_place, v_stride, keys.count, dim);
    float dk[EACH][C];
    float dv[EACH][C];
    for (int i = 0; i < EACH; ++i) {
        for (int c = 0; c < C; ++c) {
            dk[i][c] = 0.0f;
            dv[i][c] = 0.0f;
        }
    }
    for (int head = key_head * group; head < (key_head + 1) * group; ++head) {
        const T *q = static_cast<const T *>(q_) + head * dim;
        const T *dout = static_cast<const T *>(dout_) + head * dim;
        for (int range = keys.ranges; range < keys.ranges_end; ++range) {
            const int end = ranges[range].end;
            for (int query = ranges[range].first; query < end; query += TILE) {
                const int count = end - query < TILE ? end - query : TILE;
                read_tile<T, C>(room->tile, q + query * width, width, dout + query * width, width,
                                count, dim);
                __syncthreads();
                float scores[EACH];
                float slopes[EACH];
                products<C>(room->k, room->tile.a[lane], dim, scores);
                products<C>(room->v, room->tile.b[lane], dim, slopes);
                float query_lse = 0.0f;
                float query_along = 0.0f;
                if (lane < count) {
                    const size_t at = static_cast<size_t>(query + lane) * heads + head;
                    query_lse = lse[at];
                    query_along = along[at];
                }
                Four p;
                Four ds;
                for (int i = 0; i < EACH; ++i) {
                    const int row = warp * EACH + i;
                    const bool seen = row < keys.count && lane < count &&
                                      keys.first + row <= query + lane;
                    p.of[i] = seen ? expf(scores[i] * scale - query_lse) : 0.0f;
                    ds.of[i] = p.of[i] * (slopes[i] - query_along) * scale;
                }
                room->p.of[warp][lane] = p;
                room->ds.of[warp][lane] = ds;
                __syncwarp();
                gather_weighted<C>(room->ds.of[warp], room->tile.a, dk);
                gather_weighted<C>(room->p.of[warp], room->tile.b, dv);
                __syncthreads();
            }
        }
    }
    for (int i = 0; i < EACH; ++i) {
        const int row = warp * EACH + i;
        if (row >= keys.count) {
            break;
        }
        T *to_k = static_cast<T *>(dk_) + k_place + row * key_width;
        T *to_v = static_cast<T *>(dv_) + v_place + static_cast<size_t>(row) * v_stride;
        for (int c = 0; c < C; ++c) {
            if (lane + c * WARP < dim) {
                put(&to_k[lane + c * WARP], dk[i][c]);
                put(&to_v[lane + c * WARP], dv[i][c]);
            }
        }
    }
}

// Positions in a block of the cache of keys and values.
const int CACHE_BLOCK = 64;
// Positions that one block of threads attends to; a constant, so that sums do not depend on what else is computed.
const int SPLIT = 512;

// Puts the keys and values of each row that has a position >= 0 into the cache. A cache block holds, layer by layer,
// the keys [key_heads, CACHE_BLOCK, dim] and then the values; `table` lists the addresses of each row's blocks.
template <class T>
__device__ void cache_write(const void *keys_, const void *rows_, int stride, int offset,
                            const int *positions, const u64 *table, int table_width, int layer,
                            int key_heads, int dim) {
    const int row = blockIdx.x;
    const int position = positions[row];
    if (position < 0) {
        return;
    }
    const size_t half = static_cast<size_t>(key_heads) * CACHE_BLOCK * dim;
    T *block = reinterpret_cast<T *>(
        table[static_cast<size_t>(row) * table_width + position / CACHE_BLOCK]);
    T *to_keys = block + 2 * half * layer;
    T *to_values = to_keys + half;
    const T *keys = static_cast<const T *>(keys_) + static_cast<size_t>(row) * key_heads * dim;
    const T *values = static_cast<const T *>(rows_) + static_cast<size_t>(row) * stride + offset;
    for (int at = threadIdx.x; at < key_heads * dim; at += blockDim.x) {
        const size_t slot =
            (static_cast<size_t>(at / dim) * CACHE_BLOCK + position % CACHE_BLOCK) * dim + at % dim;
        to_keys[slot] = keys[at];
        to_values[slot] = values[at];
    }
}
KERNELS(cache_write,
        (const void *keys, const void *rows, int stride, int offset, const int *positions,
         const u64 *table, int table_width, int layer, int key_heads, int dim),
        (keys, rows, stride, offset, positions, table, table_width, layer, key_heads, dim))

// Attention of each row to SPLIT positions of its past: block (row, key head and part of its query heads, split).
// Leaves sums of values [rows, heads, splits, dim] and their greatest score and mass [rows, heads, splits, 2].
template <class T, int C>
__device__ void cached_attention(const void *q_, const int *positions, const u64 *table,
                                 int table_width, float *sums, float *measures, int layer,
                                 int heads, int key_heads, int dim, float scale) {
    struct Room {
        Passing<C> tile;
        Turned<C> q;
        Shares shares;
    };
    SHARED(Room, room);
    const int group = heads / key_heads;
    const int parts = (group + ROWS - 1) / ROWS;
    const int row = blockIdx.x;
    const int key_head = blockIdx.y / parts;
    const int first_head = key_head * group + blockIdx.y % parts * ROWS;
    const int last_head = (key_head + 1) * group;
    const int count = last_head - first_head < ROWS ? last_head - first_head : ROWS;
    const int split = blockIdx.z;
    const int visible = positions[row] + 1;
    const int from = split * SPLIT;
    const int end = visible < from + SPLIT ? visible : from + SPLIT;
    if (from >= end) {
        return;
    }
    const int warp = threadIdx.x / WARP;
    const int lane = threadIdx.x % WARP;
    const T *q = static_cast<const T *>(q_) + (static_cast<size_t>(row) * heads + first_head) * dim;
    read_rows<T, C>(room->q, q, dim, count, dim);
    Online<C> online;
    online.clear();
    const size_t half = static_cast<size_t>(key_heads) * CACHE_BLOCK * dim;
    for (int key = from; key < end; key += TILE) {
        const int tile = end - key < TILE ? end - key : TILE;
        const T *block = reinterpret_cast<const T *>(
            table[static_cast<size_t>(row) * table_width + key / CACHE_BLOCK]);
        const T *keys = block + 2 * half * layer +
                        (static_cast<size_t>(key_head) * CACHE_BLOCK + key % CACHE_BLOCK) * dim;
        read_tile<T, C>(room->tile, keys, dim, keys + half, dim, tile, dim);
        __syncthreads();
        if (warp * EACH < count) {
            float scores[EACH];
            products<C>(room->q, room->tile.a[lane], dim, scores);
            for (int i = 0; i < EACH; ++i) {
                scores[i] = lane < tile ? scores[i] * scale : -INFINITY;
            }
            online.take(scores, room->shares.of[warp], room->tile.b);
        }
        __syncthreads();
    }
    for (int i = 0; i < EACH; ++i) {
        const int head = warp * EACH + i;
        if (head >= count) {
            break;
        }
        const size_t at =
            (static_cast<size_t>(row) * heads + first_head + head) * gridDim.z + split;
        for (int c = 0; c < C; ++c) {
            if (lane + c * WARP < dim) {
                sums[at * dim + lane + c * WARP] = online.sums[i][c];
            }
        }
        if (lane == 0) {
            measures[2 * at] = online.top[i];
            measures[2 * at + 1] = online.mass[i];
        }
    }
}

// Joins the splits of each row's heads, in their order; a warp a head. Padding becomes 0.
template <class T>
__device__ void join_splits(const float *sums, const float *measures, const int *positions,
                            void *out_, int rows, int heads, int dim, int splits) {
    const int head = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (head >= rows * heads) {
        return;
    }
    const int visible = positions[head / heads] + 1;
    const int count = (visible + SPLIT - 1) / SPLIT;
    const size_t first = static_cast<size_t>(head) * splits;
    float top = -INFINITY;
    for (int split = 0; split < count; ++split) {
        const float one = measures[2 * (first + split)];
        top = one > top ? one : top;
    }
    float mass = 0.0f;
    for (int split = 0; split < count; ++split) {
        mass += measures[2 * (first + split) + 1] * expf(measures[2 * (first + split)] - top);
    }
    T *out = static_cast<T *>(out_) + static_cast<size_t>(head) * dim;
    for (int at = threadIdx.x % WARP; at < dim; at += WARP) {
        float sum = 0.0f;
        for (int split = 0; split < count; ++split) {
            sum += sums[(first + split) * dim + at] * expf(measures[2 * (first + split)] - top);
        }
        put(&out[at], count > 0 ? sum / mass : 0.0f);
    }
}
KERNELS(join_splits,
        (const float *sums, const float *measures, const int *positions, void *out, int rows,
         int heads, int dim, int splits),
        (sums, measures, positions, out, rows, heads, dim, splits))

// The kernels above that are compiled for a width: NAME_WIDTH_f32 and NAME_WIDTH_bf16.
#define OF_WIDTH(NAME, WIDTH, SUFFIX, TYPE, PARAMS, ARGS)                       \
    extern "C" __global__ void __launch_bounds__(128) NAME##_##WIDTH##_##SUFFIX \
        PARAMS { NAME<TYPE, WIDTH / WARP> ARGS; }                               \
    REGISTER(NAME##_##WIDTH##_##SUFFIX)
#define WIDTHS(NAME, PARAMS, ARGS)                  \
    OF_WIDTH(NAME, 64, f32, float, PARAMS, ARGS)    \
    OF_WIDTH(NAME, 128, f32, float, PARAMS, ARGS)   \
    OF_WIDTH(NAME, 256, f32, float, PARAMS, ARGS)   \
    OF_WIDTH(NAME, 64, bf16, Bf16, PARAMS, ARGS)    \
    OF_WIDTH(NAME, 128, bf16, Bf16, PARAMS, ARGS)   \
    OF_WIDTH(NAME, 256, bf16, Bf16, PARAMS, ARGS)

WIDTHS(attention_forward,
       (const void *q, const void *k, const void *v, int v_stride, const QueryTile *tiles,
        void *out, float *lse, int heads, int key_heads, int dim, float scale),
       (q, k, v, v_stride, tiles, out, lse, heads, key_heads, dim, scale))
WIDTHS(attention_queries,
       (const void *q, const void *k, const void *v, int v_stride, const void *dout,
        const float *lse, const float *along, const QueryTile *tiles, void *dq, int heads,
        int key_heads, int dim, float scale),
       (q, k, v, v_stride, dout, lse, along, tiles, dq, heads, key_heads, dim, scale))
WIDTHS(attention_keys,
       (const void *q, const void *k, const void *v, int v_stride, const void *dout,
        const float *lse, const float *along, const KeyTile *tiles, const QueryRange *ranges,
        void *dk, void *dv, int heads, int key_heads, int dim, float scale),
       (q, k, v, v_stride, dout, lse, along, tiles, ranges, dk, dv, heads, key_heads, dim, scale))
WIDTHS(cached_attention,
       (const void *q, const int *positions, const u64 *table, int table_width, float *sums,
        float *measures, int layer, int heads, int key_heads, int dim, float scale),
       (q, positions, table, table_width, sums, measures, layer, heads, key_heads, dim, scale))
