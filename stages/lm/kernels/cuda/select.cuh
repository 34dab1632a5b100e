// Rows of logits: sums over their softmax, and their greatest without sorting them: by the digits of keys that order as
// the numbers do, eight bits at a time.
//
// All threads of a block work on one row. Histograms are of integers, whose sums do not depend on their order; masses
// are turned into fixed-point integers for that.
#pragma once
#include "prelude.cuh"

// Sums of e^(z - top) and of (z - top) * e^(z - top) over a row, where `top` is its greatest logit: the log-probability
// of a token is z - top - log(mass), the entropy log(mass) - moment / mass.
struct SoftmaxSums {
    double mass;
    double moment;
};

__device__ inline SoftmaxSums softmax_sums(const float *row, int count, float top, double *room) {
    double mass = 0.0;
    double moment = 0.0;
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        const float below = row[at] - top;
        const double e = expf(below);
        mass += e;
        // nothing times minus infinity is nothing
        moment += e > 0.0 ? e * below : 0.0;
    }
    SoftmaxSums sums;
    sums.mass = over_block(mass, Sum(), room);
    sums.moment = over_block(moment, Sum(), room);
    return sums;
}

const int BINS = 256;

// Orders as the numbers do, for all but NaN.
__device__ inline u32 key_of(float value) {
    FloatBits wide;
    wide.value = value;
    return (wide.bits & 0x80000000u) != 0 ? ~wide.bits : wide.bits | 0x80000000u;
}

// A mass in [0, 1], so that sums over a vocabulary stay exact.
__device__ inline u64 fixed(float mass) {
    return static_cast<u64>(static_cast<double>(mass) * 1099511627776.0 + 0.5);
}

// A place in the order "greatest first, then lower index": the keys above `key`, and the first `ties` that equal it.
struct Cut {
    u32 key;
    u32 ties;
};

struct SelectRoom {
    u64 bins[BINS];
    u64 left;
    u32 digit;
};

// The key at which the running sum of `weight` over the elements, greatest first, passes `target`, which must be less
// than the sum of all; `above` becomes the sum over greater keys.
template <class Key, class Weight>
__device__ u32 select_key(Key key, Weight weight, int count, u64 target, SelectRoom *room,
                          u64 *above) {
    u32 prefix = 0;
    u32 mask = 0;
    u64 left = target;
    for (int shift = 24; shift >= 0; shift -= 8) {
        for (int bin = threadIdx.x; bin < BINS; bin += blockDim.x) {
            room->bins[bin] = 0;
        }
        __syncthreads();
        for (int at = threadIdx.x; at < count; at += blockDim.x) {
            const u32 one = key(at);
            if ((one & mask) == prefix) {
                const u64 share = weight(at);
                if (share > 0) {
                    atomicAdd(&room->bins[(one >> shift) & 255u], share);
                }
            }
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            u32 digit = 255;
            while (digit > 0 && room->bins[digit] <= left) {
                left -= room->bins[digit];
                --digit;
            }
            room->digit = digit;
            room->left = left;
        }
        __syncthreads();
        left = room->left;
        prefix |= room->digit << shift;
        mask |= 255u << shift;
        __syncthreads();
    }
    *above = target - left;
    return prefix;
}

struct One {
    __device__ u64 operator()(int) const { return 1; }
};

// The cut behind the `wanted` greatest, 1 <= wanted <= count.
template <class Key>
__device__ Cut select_count(Key key, int count, int wanted, SelectRoom *room) {
    u64 above;
    Cut cut;
    cut.key = select_key(key, One(), count, static_cast<u64>(wanted) - 1, room, &above);
    cut.ties = static_cast<u32>(wanted - above);
    return cut;
}

struct CollectRoom {
    u32 greater[WARP];
    u32 equal[WARP];
};

// Calls `take(slot, at)` for every element inside the cut, with slots that rise with the index.
template <class Key, class Take>
__device__ void collect(Key key, int count, Cut cut, CollectRoom *room, Take take) {
    const int warp = threadIdx.x / WARP;
    const int warps = blockDim.x / WARP;
    const u32 before = (1u << (threadIdx.x % WARP)) - 1u;
    u32 greater_before = 0;
    u32 equal_before = 0;
    for (int base = 0; base < count; base += blockDim.x) {
        const int at = base + threadIdx.x;
        const u32 one = at < count ? key(at) : 0;
        const bool greater = at < count && one > cut.key;
        const bool equal = at < count && one == cut.key;
        const u32 greater_lanes = __ballot_sync(ALL_LANES, greater);
        const u32 equal_lanes = __ballot_sync(ALL_LANES, equal);
        if (threadIdx.x % WARP == 0) {
            room->greater[warp] = __popc(greater_lanes);
            room->equal[warp] = __popc(equal_lanes);
        }
        __syncthreads();
        u32 greater_here = greater_before + __popc(greater_lanes & before);
        u32 equal_here = equal_before + __popc(equal_lanes & before);
        for (int other = 0; other < warps; ++other) {
            if (other < warp) {
                greater_here += room->greater[other];
                equal_here += room->equal[other];
            }
            greater_before += room->greater[other];
            equal_before += room->equal[other];
        }
        if (greater || (equal && equal_here < cut.ties)) {
            take(static_cast<int>(greater_here + (equal_here < cut.ties ? equal_here : cut.ties)),
                 at);
        }
        __syncthreads();
    }
}

// Sorts `size` (a power of 2) shared words, greatest first.
__device__ inline void sort_falling(u64 *words, int size) {
    for (int span = 2; span <= size; span *= 2) {
        for (int distance = span / 2; distance > 0; distance /= 2) {
            __syncthreads();
            for (int at = threadIdx.x; at < size; at += blockDim.x) {
                const int other = at ^ distance;
                if (other > at) {
                    const bool falling = (at & span) == 0;
                    const u64 a = words[at];
                    const u64 b = words[other];
                    if ((a < b) == falling) {
                        words[at] = b;
                        words[other] = a;
                    }
                }
            }
        }
    }
    __syncthreads();
}
