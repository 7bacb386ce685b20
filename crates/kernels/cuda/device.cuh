// What kernels are written against.
//
// The same sources are compiled twice: by nvcc for devices, and by a C++ compiler against
// `emulator/emulator.hpp`, which runs every thread of a block as a coroutine and gives barriers,
// shuffles, asynchronous copies and tensor-core products the device's meaning. What a kernel uses of
// the device goes through this file, so that both worlds know it.
#pragma once

#ifdef FORERUNNER_EMULATOR
#include "../emulator/emulator.hpp"
#else

#include <cuda_bf16.h>
#include <stdint.h>

#define DEVICE __device__ __forceinline__

// Declares and exports a kernel: KERNEL(name, (int count, float* to)) { … }
#define KERNEL(name, arguments) extern "C" __global__ void name arguments
#define KERNEL_BOUNDS(name, threads, min_blocks, arguments) \
    extern "C" __global__ void __launch_bounds__(threads, min_blocks) name arguments

// A block's own memory, as many bytes as the launch asks for.
#define DYNAMIC_SHARED(T, name)                               \
    extern __shared__ __align__(16) unsigned char name##_raw[]; \
    T* name = reinterpret_cast<T*>(name##_raw)

typedef __nv_bfloat16 bf16;

DEVICE float to_float(bf16 value) { return __bfloat162float(value); }
DEVICE bf16 to_bf16(float value) { return __float2bfloat16_rn(value); }

// Two values in a word, the first in the low half.
DEVICE uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t*>(&pair);
}

DEVICE float fast_exp(float x) { return __expf(x); }
DEVICE float fast_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE float fast_log(float x) { return __logf(x); }
DEVICE float fast_tanh(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// a / b to some 2 units in the last place; 0 where b is beyond 2^126.
DEVICE float fast_divide(float a, float b) { return __fdividef(a, b); }

// A device answers a misaligned access by itself.
DEVICE void require_aligned(const void*, int) {}

DEVICE uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes from device to shared memory in the background, zeros where not `valid`.
DEVICE void copy_async16(void* shared, const void* global, bool valid) {
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(bytes)
                 : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most N of this thread's committed groups are under way.
template <int N>
DEVICE void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Loads 8x8 matrices of bf16 from shared memory; lane i hands in the address of row i % 8 of matrix
// i / 8, 16-byte aligned.
DEVICE void load_matrix_x4(uint32_t (&r)[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
DEVICE void load_matrix_x4_transposed(uint32_t (&r)[4], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}
DEVICE void load_matrix_x2(uint32_t (&r)[2], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}
DEVICE void load_matrix_x2_transposed(uint32_t (&r)[2], const bf16* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
}

// d += a · b on a tensor core: a is 16x16 by rows, b 16x8 by columns, fragments as PTX lays
// m16n8k16 out.
DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// ---------------------------------------------------------------------------- for both worlds

constexpr uint32_t WHOLE_WARP = 0xffffffffu;
constexpr int WARP = 32;

DEVICE float word_as_float(uint32_t word) {
    union {
        uint32_t word;
        float value;
    } both;
    both.word = word;
    return both.value;
}
DEVICE float low_bf16(uint32_t pair) { return word_as_float(pair << 16); }
DEVICE float high_bf16(uint32_t pair) { return word_as_float(pair & 0xffff0000u); }

// Eight values, read or written as one.
struct alignas(16) Bf16x8 {
    uint32_t words[4];
};
DEVICE Bf16x8 load8(const bf16* from) {
    require_aligned(from, 16);
    return *reinterpret_cast<const Bf16x8*>(from);
}
DEVICE void store8(bf16* to, Bf16x8 values) {
    require_aligned(to, 16);
    *reinterpret_cast<Bf16x8*>(to) = values;
}
DEVICE float get(const Bf16x8& values, int i) {
    return i % 2 == 0 ? low_bf16(values.words[i / 2]) : high_bf16(values.words[i / 2]);
}
// Eight floats, rounded.
DEVICE Bf16x8 pack8(const float (&values)[8]) {
    Bf16x8 packed;
#pragma unroll
    for (int i = 0; i < 4; ++i) packed.words[i] = pack_bf16(values[2 * i], values[2 * i + 1]);
    return packed;
}

DEVICE float warp_sum(float value) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        value += __shfl_xor_sync(WHOLE_WARP, value, lanes);
    }
    return value;
}
DEVICE float warp_max(float value) {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        value = fmaxf(value, __shfl_xor_sync(WHOLE_WARP, value, lanes));
    }
    return value;
}

// Sums over a block of THREADS; every thread gets the result. The order is fixed.
template <int THREADS>
DEVICE float block_sum(float value) {
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    __shared__ float shares[THREADS / WARP];
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) shares[threadIdx.x / WARP] = value;
    __syncthreads();
    float total = 0.0f;
#pragma unroll
    for (int warp = 0; warp < THREADS / WARP; ++warp) total += shares[warp];
    // Nobody may write the next shares while these are read.
    __syncthreads();
    return total;
}
template <int THREADS>
DEVICE float block_max(float value) {
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    __shared__ float shares[THREADS / WARP];
    value = warp_max(value);
    if (threadIdx.x % WARP == 0) shares[threadIdx.x / WARP] = value;
    __syncthreads();
    float top = shares[0];
#pragma unroll
    for (int warp = 1; warp < THREADS / WARP; ++warp) top = fmaxf(top, shares[warp]);
    __syncthreads();
    return top;
}
