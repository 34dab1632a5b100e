// Runs kernels on the processor. See twin.h.
#include "twin.h"

#include <csetjmp>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <ucontext.h>
#include <vector>

namespace twin {

thread_local Lane *here = nullptr;
thread_local Point block_index, block_size, grid_size;
thread_local unsigned char *shared = nullptr;

namespace {

struct Entry {
    std::string signature;
    Call call;
};

std::map<std::string, Entry> &entries() {
    static std::map<std::string, Entry> all;
    return all;
}

enum class State { Ready, AtWarp, AtBlock, Done };

// Room for a kernel's locals; the deepest call is a few dozen words.
const size_t STACK = 64 * 1024;

struct Thread : Lane {
    State state = State::Ready;
    bool begun = false;
    jmp_buf place;
    ucontext_t beginning;
    std::unique_ptr<char[]> stack{new char[STACK]};
};

struct Machine {
    std::vector<std::unique_ptr<Thread>> threads;
    std::vector<uint64_t> slots;
    std::vector<uint64_t> shared;
    jmp_buf scheduler;
    Call call = nullptr;
    void **arguments = nullptr;
    std::string fault;
};

thread_local Machine machine;

Thread *current() { return static_cast<Thread *>(here); }

void leave(State state) {
    Thread *mine = current();
    mine->state = state;
    if (_setjmp(mine->place) == 0) {
        _longjmp(machine.scheduler, 1);
    }
}

void begin() {
    machine.call(machine.arguments);
    current()->state = State::Done;
    _longjmp(machine.scheduler, 1);
}

// Gives a thread its turn.
__attribute__((noinline)) void turn(Thread *thread) {
    here = thread;
    if (_setjmp(machine.scheduler) == 0) {
        if (thread->begun) {
            _longjmp(thread->place, 1);
        }
        thread->begun = true;
        setcontext(&thread->beginning);
    }
}

void prepare(unsigned count) {
    while (machine.threads.size() < count) {
        machine.threads.emplace_back(new Thread);
    }
    machine.slots.assign(count, 0);
    for (unsigned at = 0; at < count; ++at) {
        Thread &thread = *machine.threads[at];
        thread.thread = Point{at, 0, 0};
        thread.slots = &machine.slots[at / 32 * 32];
        thread.state = State::Ready;
        thread.begun = false;
        getcontext(&thread.beginning);
        thread.beginning.uc_stack.ss_sp = thread.stack.get();
        thread.beginning.uc_stack.ss_size = STACK;
        thread.beginning.uc_link = nullptr;
        makecontext(&thread.beginning, begin, 0);
    }
}

unsigned in_state(unsigned first, unsigned end, State state) {
    unsigned count = 0;
    for (unsigned at = first; at < end; ++at) {
        count += machine.threads[at]->state == state;
    }
    return count;
}

void release(unsigned first, unsigned end) {
    for (unsigned at = first; at < end; ++at) {
        machine.threads[at]->state = State::Ready;
    }
}

// Runs one block; false when its threads wait for what will not come.
bool run_block(unsigned count, bool backwards) {
    prepare(count);
    // what nobody wrote is not a number
    std::memset(machine.shared.data(), 0xff, machine.shared.size() * sizeof(uint64_t));
    for (;;) {
        bool moved = false;
        for (unsigned turned = 0; turned < count; ++turned) {
            Thread *thread = machine.threads[backwards ? count - 1 - turned : turned].get();
            if (thread->state == State::Ready) {
                turn(thread);
                moved = true;
            }
        }
        if (in_state(0, count, State::Done) == count) {
            return true;
        }
        for (unsigned first = 0; first < count; first += 32) {
            if (in_state(first, first + 32, State::AtWarp) == 32) {
                release(first, first + 32);
                moved = true;
            }
        }
        if (in_state(0, count, State::AtBlock) == count) {
            release(0, count);
            moved = true;
        }
        if (!moved) {
            char text[160];
            std::snprintf(text, sizeof(text),
                          "block (%u, %u, %u): of %u threads %u are at an end, %u at a barrier of the "
                          "block, %u at one of their warp",
                          block_index.x, block_index.y, block_index.z, count,
                          in_state(0, count, State::Done), in_state(0, count, State::AtBlock),
                          in_state(0, count, State::AtWarp));
            machine.fault = text;
            return false;
        }
    }
}

}  // namespace

void wait_for_block() { leave(State::AtBlock); }
void wait_for_warp() { leave(State::AtWarp); }

bool enrol(const char *name, const char *signature, Call call) {
    entries()[name] = Entry{signature, call};
    return true;
}

}  // namespace twin

#include "all.cu"

// Null when all went well, else what did not.
extern "C" const char *starling_twin_launch(const char *name, const unsigned *grid, unsigned block,
                                            size_t shared, const char *signature,
                                            void **arguments, int backwards) {
    using namespace twin;
    const auto found = entries().find(name);
    if (found == entries().end()) {
        machine.fault = "no such kernel";
        return machine.fault.c_str();
    }
    if (found->second.signature != signature) {
        machine.fault = "takes (" + found->second.signature + "), was given (" + signature + ")";
        return machine.fault.c_str();
    }
    if (block == 0 || block % 32 != 0 || block > 1024) {
        machine.fault = "a block has a multiple of 32 threads, at most 1024";
        return machine.fault.c_str();
    }
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535) {
        machine.fault = "a grid has 1 to 65535 blocks in its second and third direction";
        return machine.fault.c_str();
    }
    machine.call = found->second.call;
    machine.arguments = arguments;
    // 16 bytes more, for the alignment
    machine.shared.assign(shared / sizeof(uint64_t) + 3, 0);
    const uintptr_t start = reinterpret_cast<uintptr_t>(machine.shared.data());
    twin::shared = reinterpret_cast<unsigned char *>((start + 15) / 16 * 16);
    block_size = Point{block, 1, 1};
    grid_size = Point{grid[0], grid[1], grid[2]};
    const size_t blocks = static_cast<size_t>(grid[0]) * grid[1] * grid[2];
    for (size_t turned = 0; turned < blocks; ++turned) {
        const size_t at = backwards ? blocks - 1 - turned : turned;
        block_index = Point{static_cast<unsigned>(at % grid[0]),
                            static_cast<unsigned>(at / grid[0] % grid[1]),
                            static_cast<unsigned>(at / grid[0] / grid[1])};
        if (!run_block(block, backwards != 0)) {
            return machine.fault.c_str();
        }
    }
    return nullptr;
}
