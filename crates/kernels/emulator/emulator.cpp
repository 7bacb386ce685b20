// See emulator.hpp. This file is compiled together with the kernels, as one unit.
#include "emulator.hpp"

#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>

namespace emulator {
namespace {

constexpr size_t STACK = 256 << 10;
constexpr size_t MOST_SHARED = 227 << 10;

Kernel* kernels = nullptr;

struct Copy {
    void* to;
    const void* from;
    bool valid;
};

enum class State { Ready, AtBarrier, InWarpOperation, Done };

struct Thread {
    Place place;
    State state;
    bool started;
    ucontext_t entry;
    jmp_buf resume;
    // Where it waits.
    const char* file;
    int line;
    const char* operation;
    void* handed_in;
    // Asynchronous copies: not yet committed, and groups under way, oldest first.
    std::vector<Copy> copies;
    std::vector<std::vector<Copy>> groups;
};

// One launch at a time for each thread of the host.
struct Launch {
    const Kernel* kernel;
    void** arguments;
    std::vector<Thread> threads;
    unsigned char* stacks = nullptr;
    size_t n_stacks = 0;
    unsigned char* shared = nullptr;
    size_t shared_bytes = 0;
    Thread* running = nullptr;
    jmp_buf scheduler, failed;
    char error[512];
    uint64_t random;

    uint64_t draw() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return random;
    }
};

thread_local Launch launch;

// Switches from a thread to the scheduler; returns when the scheduler comes back to it.
void pause_thread(State state) {
    Thread* mine = launch.running;
    mine->state = state;
    if (_setjmp(mine->resume) == 0) _longjmp(launch.scheduler, 1);
}

void run_thread() {
    launch.kernel->call(launch.arguments);
    launch.running->state = State::Done;
    _longjmp(launch.scheduler, 1);
}

void switch_to(Thread& thread) {
    launch.running = &thread;
    thread.state = State::Ready;
    if (_setjmp(launch.scheduler) == 0) {
        if (thread.started) {
            _longjmp(thread.resume, 1);
        } else {
            thread.started = true;
            setcontext(&thread.entry);
        }
    }
}

void run_block(uint3 block, dim3 block_size, dim3 grid_size) {
    size_t count = launch.threads.size();
    // What a kernel does not write, it may not read: a NaN in every type of float.
    std::memset(launch.shared, 0xff, launch.shared_bytes + 64);
    for (size_t i = 0; i < count; ++i) {
        Thread& thread = launch.threads[i];
        thread.place = {{unsigned(i) % block_size.x, unsigned(i) / block_size.x % block_size.y,
                         unsigned(i) / block_size.x / block_size.y},
                        block,
                        block_size,
                        grid_size};
        thread.state = State::Ready;
        thread.started = false;
        thread.copies.clear();
        thread.groups.clear();
        getcontext(&thread.entry);
        thread.entry.uc_stack.ss_sp = launch.stacks + i * STACK;
        thread.entry.uc_stack.ss_size = STACK;
        thread.entry.uc_link = nullptr;
        makecontext(&thread.entry, run_thread, 0);
    }
    size_t n_warps = count / 32;
    std::vector<size_t> order(count);
    for (size_t i = 0; i < count; ++i) order[i] = i;
    for (;;) {
        bool ran = false, all_done = true;
        // Sometimes warp by warp, far ahead of each other, sometimes thread by thread.
        bool shuffled = launch.draw() % 4 == 0;
        size_t first = launch.draw() % count;
        if (shuffled) {
            for (size_t i = count - 1; i > 0; --i) {
                size_t j = launch.draw() % (i + 1);
                size_t other = order[i];
                order[i] = order[j];
                order[j] = other;
            }
        }
        for (size_t i = 0; i < count; ++i) {
            Thread& thread = launch.threads[order[(first + i) % count]];
            if (thread.state == State::Ready) {
                switch_to(thread);
                ran = true;
            }
            all_done = all_done && thread.state == State::Done;
        }
        if (all_done) return;
        if (ran) continue;
        // Nobody can run: the whole block waits at a barrier, or somebody waits for ever.
        for (size_t warp = 0; warp < n_warps; ++warp) {
            for (size_t lane = 0; lane < 32; ++lane) {
                Thread& thread = launch.threads[32 * warp + lane];
                if (thread.state == State::InWarpOperation) {
                    fail("a warp waits at %s for lanes that never come", thread.operation);
                }
            }
        }
        const Thread* at = nullptr;
        for (Thread& thread : launch.threads) {
            if (thread.state != State::AtBarrier) continue;
            if (at != nullptr && (at->line != thread.line || at->file != thread.file)) {
                fail("threads of a block wait at different barriers: %s:%d and %s:%d", at->file,
                     at->line, thread.file, thread.line);
            }
            at = &thread;
        }
        for (Thread& thread : launch.threads) {
            if (thread.state == State::Done) {
                fail("a thread ended while others wait at the barrier %s:%d", at->file, at->line);
            }
            thread.state = State::Ready;
        }
    }
}

bool prepare_memory(size_t count, size_t shared_bytes) {
    if (launch.n_stacks < count) {
        if (launch.stacks != nullptr) munmap(launch.stacks, launch.n_stacks * STACK);
        void* stacks = mmap(nullptr, count * STACK, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        launch.stacks = stacks == MAP_FAILED ? nullptr : static_cast<unsigned char*>(stacks);
        launch.n_stacks = launch.stacks == nullptr ? 0 : count;
    }
    if (launch.shared == nullptr) {
        void* shared = mmap(nullptr, MOST_SHARED + 4096, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        launch.shared = shared == MAP_FAILED ? nullptr : static_cast<unsigned char*>(shared);
    }
    launch.shared_bytes = shared_bytes;
    return launch.stacks != nullptr && launch.shared != nullptr;
}

bool shared_guard_is_whole() {
    for (size_t i = 0; i < 64; ++i) {
        if (launch.shared[launch.shared_bytes + i] != 0xff) return false;
    }
    return true;
}

}  // namespace

Kernel::Kernel(const char* name, void (*call)(void** arguments), size_t n_arguments)
    : name(name), call(call), n_arguments(n_arguments), next(kernels) {
    kernels = this;
}

Place& here() { return launch.running->place; }

void fail(const char* format, ...) {
    va_list values;
    va_start(values, format);
    std::vsnprintf(launch.error, sizeof launch.error, format, values);
    va_end(values);
    _longjmp(launch.failed, 1);
}

void block_barrier(const char* file, int line) {
    launch.running->file = file;
    launch.running->line = line;
    pause_thread(State::AtBarrier);
}

void warp_operation(const char* name, void* mine, void (*complete)(void* const (&lanes)[32])) {
    Thread* thread = launch.running;
    thread->operation = name;
    thread->handed_in = mine;
    thread->state = State::InWarpOperation;
    size_t index = size_t(thread - launch.threads.data());
    Thread* warp = launch.threads.data() + index / 32 * 32;
    void* lanes[32];
    for (size_t lane = 0; lane < 32; ++lane) {
        if (warp[lane].state != State::InWarpOperation) {
            pause_thread(State::InWarpOperation);
            return;
        }
        if (std::strcmp(warp[lane].operation, name) != 0) {
            fail("lanes of a warp meet in different operations: %s and %s", name,
                 warp[lane].operation);
        }
        lanes[lane] = warp[lane].handed_in;
    }
    complete(lanes);
    for (size_t lane = 0; lane < 32; ++lane) warp[lane].state = State::Ready;
}

void* dynamic_shared() { return launch.shared; }

void copy_later(void* to, const void* from, bool valid) {
    launch.running->copies.push_back({to, from, valid});
}

void commit_copies() {
    Thread* mine = launch.running;
    mine->groups.push_back(std::move(mine->copies));
    mine->copies.clear();
}

void await_copies(int under_way) {
    std::vector<std::vector<Copy>>& groups = launch.running->groups;
    while (groups.size() > size_t(under_way)) {
        for (const Copy& copy : groups.front()) {
            if (copy.valid) {
                std::memcpy(copy.to, copy.from, 16);
            } else {
                std::memset(copy.to, 0, 16);
            }
        }
        groups.erase(groups.begin());
    }
}

void multiply(void* const (&lanes)[32]) {
    static const auto half = [](uint32_t word, int i) {
        return to_float(bf16{uint16_t(i == 0 ? word : word >> 16)});
    };
    float a[16][16], b[16][8];
    for (int lane = 0; lane < 32; ++lane) {
        const auto* mine = static_cast<const Product*>(lanes[lane]);
        int group = lane / 4, pair = 2 * (lane % 4);
        for (int i = 0; i < 2; ++i) {
            a[group][pair + i] = half(mine->a[0], i);
            a[group + 8][pair + i] = half(mine->a[1], i);
            a[group][pair + 8 + i] = half(mine->a[2], i);
            a[group + 8][pair + 8 + i] = half(mine->a[3], i);
            b[pair + i][group] = half(mine->b[0], i);
            b[pair + 8 + i][group] = half(mine->b[1], i);
        }
    }
    for (int lane = 0; lane < 32; ++lane) {
        float* d = static_cast<Product*>(lanes[lane])->d;
        for (int i = 0; i < 4; ++i) {
            int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            float sum = 0.0f;
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
            d[i] += sum;
        }
    }
}

}  // namespace emulator

// Runs a kernel to its end. Returns 0, or 1 with a message in `error`.
extern "C" int forerunner_emulate(const char* name, const uint32_t* grid, const uint32_t* block,
                                  uint32_t shared_bytes, void** arguments, size_t n_arguments,
                                  uint64_t seed, char* error, size_t error_bytes) {
    using namespace emulator;
    const Kernel* kernel = kernels;
    while (kernel != nullptr && std::strcmp(kernel->name, name) != 0) kernel = kernel->next;
    size_t count = size_t(block[0]) * block[1] * block[2];
    const char* refusal = nullptr;
    if (kernel == nullptr) {
        refusal = "no such kernel";
    } else if (n_arguments != kernel->n_arguments) {
        refusal = "the number of arguments is wrong";
    } else if (count == 0 || count > 1024 || count % 32 != 0) {
        refusal = "a block has whole warps, at most 1,024 threads";
    } else if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535) {
        refusal = "a grid has at least one block, at most 65,535 along y and z";
    } else if (shared_bytes > MOST_SHARED) {
        refusal = "more shared memory than a multiprocessor gives a block";
    } else if (!prepare_memory(count, shared_bytes)) {
        refusal = "no memory for the threads' stacks";
    }
    if (refusal != nullptr) {
        std::snprintf(error, error_bytes, "%s", refusal);
        return 1;
    }
    launch.kernel = kernel;
    launch.arguments = arguments;
    launch.threads.resize(count);
    launch.random = seed * 2 + 1;
    if (_setjmp(launch.failed) != 0) {
        std::snprintf(error, error_bytes, "%s", launch.error);
        return 1;
    }
    size_t n_blocks = size_t(grid[0]) * grid[1] * grid[2];
    size_t first = launch.draw() % n_blocks;
    for (size_t i = 0; i < n_blocks; ++i) {
        size_t at = (first + i) % n_blocks;
        uint3 where = {unsigned(at % grid[0]), unsigned(at / grid[0] % grid[1]),
                       unsigned(at / grid[0] / grid[1])};
        run_block(where, {block[0], block[1], block[2]}, {grid[0], grid[1], grid[2]});
        if (!shared_guard_is_whole()) {
            std::snprintf(error, error_bytes, "a block wrote beyond its shared memory");
            return 1;
        }
    }
    return 0;
}
