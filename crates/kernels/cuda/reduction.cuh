// Sums of columns and of everything, in two stages and a fixed order.
//
// All are bound by memory: 2 bytes per bf16 or 4 per f32 read, one addition (and a product) each;
// partial sums are some thousandths of that.
#pragma once

#include "device.cuh"

namespace reduction {

constexpr int THREADS = 256;
// Threads of the second stages: few values, so latency is what counts.
constexpr int FINAL_THREADS = 1024;

DEVICE uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

}  // namespace reduction

// to[c] (+)= the sum of column c of partials, f32 [parts, columns], rows in a fixed order. The
// first `n_first` columns go to `first`, the others to `second`. A block has 32 columns; its warps
// take turns with the parts.
KERNEL_BOUNDS(sum_partials, reduction::FINAL_THREADS, 1,
              (uint32_t parts, uint32_t columns, const float* partials, uint32_t n_first,
               float* first, float* second, uint32_t accumulate)) {
    __shared__ float shares[reduction::FINAL_THREADS / WARP][WARP];
    uint32_t warps = blockDim.x / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint32_t column = blockIdx.x * WARP + lane;
    float sum = 0.0f;
    if (column < columns) {
#pragma unroll 8
        for (uint32_t part = warp; part < parts; part += warps) {
            sum += partials[uint64_t(part) * columns + column];
        }
    }
    shares[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && column < columns) {
#pragma unroll 8
        for (uint32_t i = 1; i < warps; ++i) sum += shares[i][lane];
        float* to = column < n_first ? first + column : second + (column - n_first);
        *to = accumulate != 0 ? *to + sum : sum;
    }
}

// Sums of the columns of x, bf16 [rows, columns], over `chunk` rows for each block along y: a row
// of partials. A block has 256 columns, 8 for each lane; its warps take turns with the rows.
KERNEL_BOUNDS(column_partials, reduction::THREADS, 1,
              (uint32_t rows, uint32_t columns, uint32_t chunk, const bf16* __restrict__ x,
               float* partials)) {
    constexpr uint32_t WARPS = reduction::THREADS / WARP;
    __shared__ float shares[WARPS][8 * WARP];
    uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint32_t column = 8 * (blockIdx.x * WARP + lane);
    uint64_t first = uint64_t(blockIdx.y) * chunk, end = reduction::smaller(first + chunk, rows);
    float sums[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    if (column < columns) {
#pragma unroll 4
        for (uint64_t row = first + warp; row < end; row += WARPS) {
            Bf16x8 values = load8(x + row * columns + column);
#pragma unroll
            for (int k = 0; k < 8; ++k) sums[k] += get(values, k);
        }
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) shares[warp][8 * lane + k] = sums[k];
    __syncthreads();
    column = blockIdx.x * 8 * WARP + threadIdx.x;
    if (column < columns) {
        float sum = 0.0f;
#pragma unroll
        for (uint32_t i = 0; i < WARPS; ++i) sum += shares[i][threadIdx.x];
        partials[uint64_t(blockIdx.y) * columns + column] = sum;
    }
}

// The same for any number of columns: a thread for each.
KERNEL(column_partials_any, (uint32_t rows, uint32_t columns, uint32_t chunk, const bf16* x,
                             float* partials)) {
    uint32_t column = blockIdx.x * reduction::THREADS + threadIdx.x;
    if (column >= columns) return;
    uint64_t first = uint64_t(blockIdx.y) * chunk, end = reduction::smaller(first + chunk, rows);
    float sum = 0.0f;
    for (uint64_t row = first; row < end; ++row) sum += to_float(x[row * columns + column]);
    partials[uint64_t(blockIdx.y) * columns + column] = sum;
}

namespace reduction {

template <bool SQUARES>
DEVICE float term(float value) {
    return SQUARES ? value * value : value;
}

// The sum of `count` values, by a block. Every thread gets it.
template <bool SQUARES>
DEVICE float sum_floats(const float* from, uint32_t count) {
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    uint32_t wide = reinterpret_cast<uintptr_t>(from) % 16 == 0 ? count / 4 : 0;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < wide; i += THREADS) {
        float4 values = *reinterpret_cast<const float4*>(from + 4 * i);
        sums[0] += term<SQUARES>(values.x);
        sums[1] += term<SQUARES>(values.y);
        sums[2] += term<SQUARES>(values.z);
        sums[3] += term<SQUARES>(values.w);
    }
    for (uint32_t i = 4 * wide + threadIdx.x; i < count; i += THREADS) {
        sums[0] += term<SQUARES>(from[i]);
    }
    return block_sum<THREADS>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <bool SQUARES>
DEVICE float sum_halves(const bf16* from, uint32_t count) {
    float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    uint32_t wide = reinterpret_cast<uintptr_t>(from) % 16 == 0 ? count / 8 : 0;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < wide; i += THREADS) {
        Bf16x8 values = load8(from + 8 * i);
#pragma unroll
        for (int k = 0; k < 8; ++k) sums[k % 4] += term<SQUARES>(get(values, k));
    }
    for (uint32_t i = 8 * wide + threadIdx.x; i < count; i += THREADS) {
        sums[0] += term<SQUARES>(to_float(from[i]));
    }
    return block_sum<THREADS>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace reduction

// partials[block] = the sum of `chunk` values, f32 or bf16.
KERNEL(sum_chunks, (const void* x, uint32_t is_bf16, uint64_t count, uint32_t chunk,
                    float* partials)) {
    uint64_t first = uint64_t(blockIdx.x) * chunk;
    uint32_t mine = uint32_t(reduction::smaller(chunk, count - first));
    float sum = is_bf16 != 0
                    ? reduction::sum_halves<false>(static_cast<const bf16*>(x) + first, mine)
                    : reduction::sum_floats<false>(static_cast<const float*>(x) + first, mine);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// partials[block] = the sum of the squares of the block's chunk. `table` has two words of 64 bits
// for each block: the address, and twice the number of values, plus one where they are bf16.
KERNEL(square_chunks, (const uint64_t* table, float* partials)) {
    uint64_t address = table[2 * uint64_t(blockIdx.x)];
    uint64_t size = table[2 * uint64_t(blockIdx.x) + 1];
    uint32_t count = uint32_t(size / 2);
    float sum = size % 2 != 0
                    ? reduction::sum_halves<true>(reinterpret_cast<const bf16*>(address), count)
                    : reduction::sum_floats<true>(reinterpret_cast<const float*>(address), count);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// total = scale · the sum of `count` partial sums; one block.
KERNEL_BOUNDS(sum_final, reduction::FINAL_THREADS, 1,
              (const float* partials, uint32_t count, float scale, float* total)) {
    float sum = 0.0f;
#pragma unroll 4
    for (uint32_t i = threadIdx.x; i < count; i += reduction::FINAL_THREADS) sum += partials[i];
    sum = block_sum<reduction::FINAL_THREADS>(sum);
    if (threadIdx.x == 0) *total = scale * sum;
}

// x *= *factor. Where the factor is one, as when no gradient is clipped, nothing is moved.
KERNEL(scale_by_bf16, (bf16* x, const float* factor, uint64_t count)) {
    float by = *factor;
    if (by == 1.0f) return;
    uint64_t i = 8 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 8 <= count) {
        Bf16x8 values = load8(x + i);
        float results[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) results[k] = get(values, k) * by;
        store8(x + i, pack8(results));
    } else {
        for (; i < count; ++i) x[i] = to_bf16(to_float(x[i]) * by);
    }
}
KERNEL(scale_by_f32, (float* x, const float* factor, uint64_t count)) {
    float by = *factor;
    if (by == 1.0f) return;
    uint64_t i = 4 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= count) {
        float4 v = *reinterpret_cast<float4*>(x + i);
        *reinterpret_cast<float4*>(x + i) = make_float4(v.x * by, v.y * by, v.z * by, v.w * by);
    } else {
        for (; i < count; ++i) x[i] *= by;
    }
}
