// From logits to tokens: temperature, top-k, top-p, min-p and a repetition penalty, with random numbers that belong to
// (seed, request, sample, position), so that only the chosen tokens go back to the host.
//
// The order of tokens is "greatest logit first, then lower id"; a truncation is a cut in that order, and a draw is the
// place where the running mass passes a random share of the kept mass. Without top-k and top-p the running mass is in
// the order of ids. Masses are fixed-point integers, so their sums are exact whatever their order.
#include "select.cuh"

// SplitMix64's step, as the host has it.
__device__ inline u64 mix(u64 state) {
    u64 z = state + 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// Uniform in [0, 1): the number of one token of one sample of one request.
__device__ inline double uniform(u64 seed, u64 request, u64 sample, u64 position) {
    u64 state = mix(seed);
    state = mix(state ^ request);
    state = mix(state ^ sample);
    state = mix(state ^ position);
    return static_cast<double>(mix(state) >> 11) / 9007199254740992.0;
}

// One draw: which row of logits, and whose.
struct Draw {
    u64 request;
    u64 sample;
    u64 position;
    u32 *seen;  // a bit a token that the penalty falls on; none: no penalty
    int row;
    int padding;
};

struct Drawn {
    int token;  // -1 when the logits are no distribution
    float logprob;
    float entropy;
    int padding;
};

// Logits after the repetition penalty.
struct Judged {
    const float *row;
    const u32 *seen;
    float penalty;

    __device__ float logit(int at) const {
        const float z = row[at];
        if (seen == nullptr || (seen[at / 32] >> (at % 32) & 1u) == 0) {
            return z;
        }
        return z > 0.0f ? z / penalty : z * penalty;
    }
    __device__ u32 operator()(int at) const { return key_of(logit(at)); }
};

// Tempered masses relative to the likeliest token's; those below min-p of it are nothing.
struct Masses {
    Judged judged;
    float top;
    float warmth;
    float least;

    __device__ u64 of(float logit) const {
        const float mass = expf((logit - top) * warmth);
        return mass >= least ? fixed(mass) : 0;
    }
    __device__ u64 operator()(int at) const { return of(judged.logit(at)); }
};

struct Untruncated {
    Masses masses;
    __device__ u64 operator()(int at) const {
        return fixed(expf((masses.judged.logit(at) - masses.top) * masses.warmth));
    }
};

// The logit of a key.
__device__ inline float logit_of(u32 key) {
    FloatBits wide;
    wide.bits = (key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key;
    return wide.value;
}

// Sum of `weight` over the elements inside a cut.
template <class Key, class Weight>
__device__ u64 inside(Key key, Weight weight, int count, Cut cut, u64 tie, u64 *room) {
    u64 sum = 0;
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        if (key(at) > cut.key) {
            sum += weight(at);
        }
    }
    return over_block(sum, Sum(), room) + tie * cut.ties;
}

struct KeepOne {
    int wanted;
    int *found;
    __device__ void operator()(int slot, int at) const {
        if (slot == wanted) {
            *found = at;
        }
    }
};

// Keys under which only the elements that equal one key take part.
template <class Key> struct Equal {
    Key key;
    u32 wanted;
    __device__ u32 operator()(int at) const { return key(at) == wanted ? 1 : 0; }
};

struct DrawRoom {
    SelectRoom select;
    CollectRoom collect;
    u64 integers[WARP];
    double doubles[WARP];
    float floats[WARP];
    int found;
};

// The first element, by index, at which the running sum of `weight` passes `target`.
template <class Weight>
__device__ int by_index(Weight weight, int count, u64 target, DrawRoom *room) {
    // whole shares of the block's threads first, then inside the one that passes
    const int share = (count + blockDim.x - 1) / blockDim.x;
    const int first = threadIdx.x * share;
    const int end = first + share < count ? first + share : count;
    u64 mine = 0;
    for (int at = first; at < end; ++at) {
        mine += weight(at);
    }
    // running sum over the threads before this one: within the warp, then over the warps
    const int lane = threadIdx.x % WARP;
    u64 running = mine;
    for (int distance = 1; distance < WARP; distance *= 2) {
        const u64 other = __shfl_up_sync(ALL_LANES, running, distance);
        running += lane >= distance ? other : 0;
    }
    if (lane == WARP - 1) {
        room->integers[threadIdx.x / WARP] = running;
    }
    __syncthreads();
    u64 before = running - mine;
    for (int warp = 0; warp < static_cast<int>(threadIdx.x) / WARP; ++warp) {
        before += room->integers[warp];
    }
    if (before <= target && target < before + mine) {
        int at = first;
        for (u64 sum = before + weight(at); sum <= target; sum += weight(at)) {
            ++at;
        }
        room->found = at;
    }
    __syncthreads();
    return room->found;
}

__device__ inline u64 share_of(double share, u64 total) {
    const u64 target = static_cast<u64>(share * static_cast<double>(total));
    return target < total ? target : total - 1;
}

KERNEL(sample_rows,
       (const float *logits, int count, const Draw *draws, u64 seed, float temperature, int top_k,
        float top_p, float min_p, float penalty, Drawn *drawn)) {
    __shared__ DrawRoom room;
    const Draw draw = draws[blockIdx.x];
    const float *row = logits + static_cast<size_t>(draw.row) * count;

    // what is recorded is of the model's own distribution
    float greatest = -INFINITY;
    for (int at = threadIdx.x; at < count; at += blockDim.x) {
        greatest = row[at] > greatest ? row[at] : greatest;
    }
    greatest = over_block(greatest, Greatest(), room.floats);
    const SoftmaxSums softmax = softmax_sums(row, count, greatest, room.doubles);
    // a NaN logit makes the mass one; the greatest is infinite when any is, or when there is none
    const bool finite = softmax.mass >= 1.0 && softmax.mass <= 1e300 && greatest > -INFINITY &&
                        greatest < INFINITY;
    if (!finite) {
        if (threadIdx.x == 0) {
            Drawn none;
            none.token = -1;
            none.logprob = 0.0f;
            none.entropy = 0.0f;
            none.padding = 0;
            drawn[blockIdx.x] = none;
        }
        return;
    }

    Masses masses;
    masses.judged.row = row;
    masses.judged.seen = draw.seen;
    masses.judged.penalty = penalty;
    const Judged judged = masses.judged;
    float top = greatest;
    if (draw.seen != nullptr) {
        top = -INFINITY;
        for (int at = threadIdx.x; at < count; at += blockDim.x) {
            const float z = judged.logit(at);
            top = z > top ? z : top;
        }
        top = over_block(top, Greatest(), room.floats);
    }
    int token = count;
    if (temperature <= 0.0f) {
        for (int at = threadIdx.x; at < count; at += blockDim.x) {
            if (at < token && judged.logit(at) >= top) {
                token = at;
            }
        }
        token = static_cast<int>(
            over_block(static_cast<u64>(token), Least(), room.integers));
    } else {
        masses.top = top;
        masses.warmth = 1.0f / temperature;
        masses.least = min_p;
        const double number = uniform(seed, draw.request, draw.sample, draw.position);
        const bool counted = top_k > 0 && top_k < count;
        if (!counted && top_p >= 1.0f) {
            u64 total = 0;
            for (int at = threadIdx.x; at < count; at += blockDim.x) {
                total += masses(at);
            }
            total = over_block(total, Sum(), room.integers);
            token = by_index(masses, count, share_of(number, total), &room);
        } else {
            Untruncated whole;
            whole.masses = masses;
            Cut cut;
            cut.key = 0;
            cut.ties = 0;
            if (counted) {
                cut = select_count(judged, count, top_k, &room.select);
            }
            if (top_p < 1.0f) {
                const u64 tie =
                    counted ? fixed(expf((logit_of(cut.key) - top) * masses.warmth)) : 0;
                const u64 all = inside(judged, whole, count, cut, tie, room.integers);
                // the fewest whose mass is at least that share: where the running mass passes one less
                const double wanted = static_cast<double>(top_p) * static_cast<double>(all);
                u64 least = static_cast<u64>(wanted);
                least = static_cast<double>(least) < wanted ? least : least - (least > 0 ? 1 : 0);
                least = least < all ? least : all - 1;
                u64 above;
                cut.key = select_key(judged, whole, count, least, &room.select, &above);
                const u64 each = fixed(expf((logit_of(cut.key) - top) * masses.warmth));
                cut.ties = static_cast<u32>((least - above) / each + 1);
            }
            const u64 kept = inside(judged, masses, count, cut, masses.of(logit_of(cut.key)),
                                    room.integers);
            const u64 target = share_of(number, kept);
            u64 above;
            Equal<Judged> equal;
            equal.key = judged;
            equal.wanted = select_key(judged, masses, count, target, &room.select, &above);
            KeepOne keep;
            keep.wanted = static_cast<int>((target - above) / masses.of(logit_of(equal.wanted)));
            keep.found = &room.found;
            Cut all_equal;
            all_equal.key = 1;
            all_equal.ties = static_cast<u32>(count);
            collect(equal, count, all_equal, &room.collect, keep);
            token = room.found;
        }
    }
    if (threadIdx.x == 0) {
        const double log_mass = log(softmax.mass);
        const double entropy = log_mass - softmax.moment / softmax.mass;
        Drawn found;
        found.token = token;
        found.logprob = static_cast<float>(static_cast<double>(row[token] - greatest) - log_mass);
        found.entropy = static_cast<float>(entropy > 0.0 ? entropy : 0.0);
        found.padding = 0;
        drawn[blockIdx.x] = found;
        if (draw.seen != nullptr) {
            draw.seen[token / 32] |= 1u << (token % 32);
        }
    }
}
REGISTER(sample_rows)
