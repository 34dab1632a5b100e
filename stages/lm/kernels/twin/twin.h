// What CUDA gives to a kernel, on the processor: the threads of a block are stacks of their own that take turns, and a
// turn ends at a barrier. Lanes exchange values through memory between two barriers of their warp.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local
#define __align__(BYTES) __attribute__((aligned(BYTES)))
#define __launch_bounds__(...)

namespace twin {

struct Point {
    unsigned x, y, z;
};

struct Lane {
    Point thread;
    uint64_t *slots;  // one a lane, of its warp
};

extern thread_local Lane *here;
extern thread_local Point block_index, block_size, grid_size;
extern thread_local unsigned char *shared;

// End this thread's turn until all threads of the block, or of the warp, have come here.
void wait_for_block();
void wait_for_warp();

template <class V> V exchange(V value, int lane) {
    static_assert(sizeof(V) <= sizeof(uint64_t), "a lane's value fits a slot");
    std::memcpy(&here->slots[here->thread.x % 32], &value, sizeof(V));
    wait_for_warp();
    V other;
    std::memcpy(&other, &here->slots[lane], sizeof(V));
    wait_for_warp();
    return other;
}

typedef void (*Call)(void **);
bool enrol(const char *name, const char *signature, Call call);

template <class V> constexpr char letter() {
    return std::is_pointer<V>::value        ? 'p'
           : std::is_same<V, int>::value    ? 'i'
           : std::is_same<V, float>::value  ? 'f'
           : std::is_same<V, unsigned long long>::value ? 'l'
                                            : '?';
}

// Takes a kernel's arguments from where a launch has put them.
template <class... A> struct Kernel {
    static constexpr char signature[] = {letter<A>()..., '\0'};

    template <void (*F)(A...), size_t... I>
    static void unpack(void **arguments, std::index_sequence<I...>) {
        F(*static_cast<A *>(arguments[I])...);
    }
    template <void (*F)(A...)> static void call(void **arguments) {
        unpack<F>(arguments, std::index_sequence_for<A...>());
    }
};

template <class F> struct KernelOf;
template <class... A> struct KernelOf<void (*)(A...)> {
    typedef Kernel<A...> type;
};

}  // namespace twin

#define threadIdx (twin::here->thread)
#define blockIdx twin::block_index
#define blockDim twin::block_size
#define gridDim twin::grid_size

#define SHARED(TYPE, NAME) TYPE *NAME = reinterpret_cast<TYPE *>(twin::shared)
#define REGISTER(NAME)                                                                      \
    static const bool enrolled_##NAME =                                                     \
        twin::enrol(#NAME, twin::KernelOf<decltype(&NAME)>::type::signature,                \
                    &twin::KernelOf<decltype(&NAME)>::type::call<&NAME>);

inline void __syncthreads() { twin::wait_for_block(); }
inline void __syncwarp() { twin::wait_for_warp(); }

template <class V> V __shfl_xor_sync(unsigned, V value, int distance) {
    return twin::exchange(value, static_cast<int>(threadIdx.x % 32) ^ distance);
}

template <class V> V __shfl_up_sync(unsigned, V value, int distance) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    return twin::exchange(value, lane >= distance ? lane - distance : lane);
}

inline unsigned __ballot_sync(unsigned, bool vote) {
    std::memcpy(&twin::here->slots[threadIdx.x % 32], &vote, sizeof(vote));
    twin::wait_for_warp();
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane) {
        bool one;
        std::memcpy(&one, &twin::here->slots[lane], sizeof(one));
        votes |= one ? 1u << lane : 0u;
    }
    twin::wait_for_warp();
    return votes;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

// Threads take turns, so nothing comes between.
inline unsigned long long atomicAdd(unsigned long long *place, unsigned long long value) {
    const unsigned long long old = *place;
    *place = old + value;
    return old;
}
