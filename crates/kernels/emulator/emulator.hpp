// A device of one multiprocessor, in the process that asks for it.
//
// Every thread of a block is a coroutine with a stack of its own; a scheduler runs them, one at a
// time and in an order drawn from a seed, until each waits at a barrier, in an operation of its
// warp, or is done. So a missing barrier shows as a wrong result under some seed, and what a device
// would answer with silence is an error here: a barrier that some threads never reach or reach at
// another line, a warp operation without the whole warp, a misaligned wide access to shared memory,
// an asynchronous copy read before it was waited for (it arrives at the wait).
//
// Not emulated: speed, bank conflicts, the ordering of global memory between blocks (they run one
// after the other, in a drawn order), and fast mathematics (they are exact here).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define DEVICE static inline __attribute__((always_inline))
#define __shared__ static thread_local
#define __restrict__

using std::size_t;

struct uint3 {
    unsigned x, y, z;
};
typedef uint3 dim3;
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    return {x, y, z, w};
}

struct bf16 {
    uint16_t bits;
};
static inline float to_float(bf16 value) {
    uint32_t word = uint32_t(value.bits) << 16;
    float result;
    std::memcpy(&result, &word, 4);
    return result;
}
static inline bf16 to_bf16(float value) {
    uint32_t word;
    std::memcpy(&word, &value, 4);
    if (value != value) return {uint16_t((word >> 16) | 0x40)};
    word += 0x7fff + ((word >> 16) & 1);
    return {uint16_t(word >> 16)};
}
static inline uint32_t pack_bf16(float low, float high) {
    return uint32_t(to_bf16(low).bits) | uint32_t(to_bf16(high).bits) << 16;
}

static inline float fast_exp(float x) { return std::exp(x); }
static inline float fast_exp2(float x) { return std::exp2(x); }
static inline float fast_log(float x) { return std::log(x); }
static inline float fast_tanh(float x) { return std::tanh(x); }
static inline float fast_divide(float a, float b) { return a / b; }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
using std::fabs;

template <class T>
static inline T __ldg(const T* from) {
    return *from;
}
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
static inline long long min(long long a, long long b) { return a < b ? a : b; }
static inline float __int_as_float(int word) {
    float value;
    std::memcpy(&value, &word, 4);
    return value;
}
static inline float __uint_as_float(unsigned word) { return __int_as_float(int(word)); }
static inline unsigned __float_as_uint(float value) {
    unsigned word;
    std::memcpy(&word, &value, 4);
    return word;
}
static inline int __popc(unsigned word) { return __builtin_popcount(word); }
static inline int __ffs(int word) { return __builtin_ffs(word); }
static inline int __clz(int word) { return word == 0 ? 32 : __builtin_clz(unsigned(word)); }

namespace emulator {

// What the running thread is.
struct Place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
Place& here();

// Ends the launch with an error; does not return.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

void block_barrier(const char* file, int line);

// Waits for the whole warp at the same operation; the last lane to come calls `complete` with what
// every lane handed in.
void warp_operation(const char* name, void* mine, void (*complete)(void* const (&lanes)[32]));

void* dynamic_shared();

void copy_later(void* to, const void* from, bool valid);
void commit_copies();
void await_copies(int under_way);

struct Kernel {
    Kernel(const char* name, void (*call)(void** arguments), size_t n_arguments);
    const char* name;
    void (*call)(void** arguments);
    size_t n_arguments;
    Kernel* next;
};

template <size_t...>
struct Indices {};
template <size_t N, size_t... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <size_t... I>
struct MakeIndices<0, I...> {
    typedef Indices<I...> Type;
};
template <class... A, size_t... I>
static inline void call_with(void (*kernel)(A...), void** arguments, Indices<I...>) {
    kernel(*static_cast<A*>(arguments[I])...);
}
template <class... A>
static inline void call_kernel(void (*kernel)(A...), void** arguments) {
    call_with(kernel, arguments, typename MakeIndices<sizeof...(A)>::Type());
}
template <class... A>
constexpr size_t count_arguments(void (*)(A...)) {
    return sizeof...(A);
}

}  // namespace emulator

static inline void require_aligned(const void* pointer, int bytes) {
    if (reinterpret_cast<uintptr_t>(pointer) % uintptr_t(bytes) != 0) {
        emulator::fail("a misaligned access of %d bytes", bytes);
    }
}

#define threadIdx (emulator::here().thread)
#define blockIdx (emulator::here().block)
#define blockDim (emulator::here().block_size)
#define gridDim (emulator::here().grid_size)
#define __syncthreads() emulator::block_barrier(__FILE__, __LINE__)

// Declared, registered, then defined by what follows the macro.
#define KERNEL(kernel_name, arguments)                                        \
    static void kernel_name arguments;                                        \
    static emulator::Kernel kernel_name##_registered(                         \
        #kernel_name,                                                         \
        [](void** values) { emulator::call_kernel(kernel_name, values); },    \
        emulator::count_arguments(kernel_name));                              \
    static void kernel_name arguments
#define KERNEL_BOUNDS(kernel_name, threads, min_blocks, arguments) KERNEL(kernel_name, arguments)

#define DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(emulator::dynamic_shared())

namespace emulator {
template <class T>
struct Shuffle {
    T value, result;
    int argument;
    uint32_t ballot;
};
inline void require_whole(unsigned mask) {
    if (mask != 0xffffffffu) fail("a warp operation with mask %08x: only whole warps are run", mask);
}
template <class T>
inline T shuffle(const char* name, unsigned mask, T value, int argument,
                 void (*complete)(void* const (&lanes)[32])) {
    require_whole(mask);
    Shuffle<T> mine = {value, value, argument, 0};
    warp_operation(name, &mine, complete);
    return mine.result;
}
template <class T, class F>
inline void exchange(void* const (&lanes)[32], F source) {
    for (int lane = 0; lane < 32; ++lane) {
        auto* mine = static_cast<Shuffle<T>*>(lanes[lane]);
        int from = source(lane, mine->argument);
        if (from >= 0 && from < 32) mine->result = static_cast<Shuffle<T>*>(lanes[from])->value;
    }
}
}  // namespace emulator

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
    return emulator::shuffle<T>("shfl_xor", mask, value, lanes, [](void* const (&all)[32]) {
        emulator::exchange<T>(all, [](int lane, int argument) { return lane ^ argument; });
    });
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int from) {
    return emulator::shuffle<T>("shfl", mask, value, from, [](void* const (&all)[32]) {
        emulator::exchange<T>(all, [](int, int argument) { return argument & 31; });
    });
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, int by) {
    return emulator::shuffle<T>("shfl_up", mask, value, by, [](void* const (&all)[32]) {
        emulator::exchange<T>(all, [](int lane, int argument) { return lane - argument; });
    });
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, int by) {
    return emulator::shuffle<T>("shfl_down", mask, value, by, [](void* const (&all)[32]) {
        emulator::exchange<T>(all, [](int lane, int argument) { return lane + argument; });
    });
}
inline uint32_t __ballot_sync(unsigned mask, int predicate) {
    emulator::require_whole(mask);
    emulator::Shuffle<int> mine = {predicate, 0, 0, 0};
    emulator::warp_operation("ballot", &mine, [](void* const (&all)[32]) {
        uint32_t votes = 0;
        for (int lane = 0; lane < 32; ++lane) {
            votes |= uint32_t(static_cast<emulator::Shuffle<int>*>(all[lane])->value != 0) << lane;
        }
        for (auto* lane : all) static_cast<emulator::Shuffle<int>*>(lane)->ballot = votes;
    });
    return mine.ballot;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == ~0u; }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulator::require_whole(mask);
    emulator::warp_operation("syncwarp", nullptr, [](void* const (&)[32]) {});
}

template <class T>
inline T atomicAdd(T* to, T value) {
    static_assert(T(0.5) == T(0), "sums of floats depend on their order: use two stages");
    T old = *to;
    *to = T(old + value);
    return old;
}
template <class T>
inline T atomicMax(T* to, T value) {
    static_assert(T(0.5) == T(0), "integers only");
    T old = *to;
    if (value > old) *to = value;
    return old;
}
template <class T>
inline T atomicMin(T* to, T value) {
    static_assert(T(0.5) == T(0), "integers only");
    T old = *to;
    if (value < old) *to = value;
    return old;
}

inline void copy_async16(void* shared, const void* global, bool valid) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 != 0) emulator::fail("copy_async16 to a misaligned address");
    if (valid && reinterpret_cast<uintptr_t>(global) % 16 != 0) {
        emulator::fail("copy_async16 from a misaligned address");
    }
    emulator::copy_later(shared, global, valid);
}
inline void copy_async_commit() { emulator::commit_copies(); }
template <int N>
inline void copy_async_wait() {
    emulator::await_copies(N);
}

namespace emulator {
struct Loaded {
    const bf16* row;
    uint32_t* registers;
};
template <int N, bool TRANSPOSED>
inline void load_matrices(void* const (&lanes)[32]) {
    const bf16* rows[32];
    for (int lane = 0; lane < 8 * N; ++lane) {
        rows[lane] = static_cast<Loaded*>(lanes[lane])->row;
        if (reinterpret_cast<uintptr_t>(rows[lane]) % 16 != 0) fail("a matrix row is misaligned");
    }
    for (int lane = 0; lane < 32; ++lane) {
        auto* mine = static_cast<Loaded*>(lanes[lane]);
        for (int matrix = 0; matrix < N; ++matrix) {
            const bf16* const* of = rows + 8 * matrix;
            int major = lane / 4, minor = 2 * (lane % 4);
            bf16 low = TRANSPOSED ? of[minor][major] : of[major][minor];
            bf16 high = TRANSPOSED ? of[minor + 1][major] : of[major][minor + 1];
            mine->registers[matrix] = uint32_t(low.bits) | uint32_t(high.bits) << 16;
        }
    }
}
}  // namespace emulator

inline void load_matrix_x4(uint32_t (&r)[4], const bf16* row) {
    emulator::Loaded mine = {row, r};
    emulator::warp_operation("load_matrix_x4", &mine, emulator::load_matrices<4, false>);
}
inline void load_matrix_x4_transposed(uint32_t (&r)[4], const bf16* row) {
    emulator::Loaded mine = {row, r};
    emulator::warp_operation("load_matrix_x4_transposed", &mine, emulator::load_matrices<4, true>);
}
inline void load_matrix_x2(uint32_t (&r)[2], const bf16* row) {
    emulator::Loaded mine = {row, r};
    emulator::warp_operation("load_matrix_x2", &mine, emulator::load_matrices<2, false>);
}
inline void load_matrix_x2_transposed(uint32_t (&r)[2], const bf16* row) {
    emulator::Loaded mine = {row, r};
    emulator::warp_operation("load_matrix_x2_transposed", &mine, emulator::load_matrices<2, true>);
}

namespace emulator {
struct Product {
    float* d;
    const uint32_t *a, *b;
};
void multiply(void* const (&lanes)[32]);
}  // namespace emulator

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulator::Product mine = {d, a, b};
    emulator::warp_operation("mma_bf16", &mine, emulator::multiply);
}
