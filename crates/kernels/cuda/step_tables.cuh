// What launches over any number of tensors of any sizes have in common.
//
// A table on the device describes the tensors, another one holds the numbers of this step. A block
// of THREADS finds its tensor in the first and works on CHUNK values of it. Where sums are asked
// for, each block writes its share of three: the squares of the gradient as it came, of the update,
// and of the values before it; `optimizer_sums` adds them up.
#pragma once

#include "device.cuh"

namespace step_tables {

constexpr int THREADS = 256;
constexpr int CHUNK = 4096;

// One tensor, or one of Muon's matrices; as `src/step_tables.rs` writes it.
struct Tensor {
    float* parameter;
    const void* gradient;
    float* first;   // first moment, or the momentum
    float* second;  // second moment, of AdamW alone
    bf16* shadow;   // or null
    uint64_t count;
    uint64_t flags;
    uint64_t offset;  // Muon: where the matrix starts among the updates
};
constexpr uint64_t BF16_GRADIENT = 1;
// All pointers and the offset allow wide accesses.
constexpr uint64_t WIDE = 2;

// What a block works on: `count` values of a tensor from `start` on.
struct Work {
    uint32_t tensor;
    uint64_t start;
    int count;
};

// `first_blocks[t]` is the first block of tensor t; one more entry ends the last. Contains a barrier.
DEVICE Work work_of_block(const Tensor* tensors, const uint32_t* first_blocks, uint32_t n_tensors) {
    __shared__ uint32_t found;
    for (uint32_t t = threadIdx.x; t < n_tensors; t += THREADS) {
        if (first_blocks[t] <= blockIdx.x && blockIdx.x < first_blocks[t + 1]) found = t;
    }
    __syncthreads();
    Work work;
    work.tensor = found;
    work.start = uint64_t(blockIdx.x - first_blocks[found]) * CHUNK;
    uint64_t left = tensors[found].count - work.start;
    work.count = left < CHUNK ? int(left) : CHUNK;
    return work;
}

// Whether a thread has four values that it may access as one. A type, so that the loads of whole
// fours stand next to each other in code without branches.
template <bool WHOLE>
struct Fours {
    static constexpr bool whole = WHOLE;
};

// Calls `body(fours, i, n)` for the n values from i on that are this thread's, four unless at the end.
template <class F>
DEVICE void each_four(const Work& work, uint64_t flags, F body) {
    for (int at = 4 * threadIdx.x; at < work.count; at += 4 * THREADS) {
        const int n = min(4, work.count - at);
        if ((flags & WIDE) && n == 4) {
            body(Fours<true>(), work.start + at, 4);
        } else {
            body(Fours<false>(), work.start + at, n);
        }
    }
}

// Four values, or the `n` that there are and zeros.
template <class Fours>
DEVICE void load4(Fours, float (&to)[4], const float* from, int n) {
    if (Fours::whole) {
        require_aligned(from, 16);
        float4 four = *reinterpret_cast<const float4*>(from);
        to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
    } else {
#pragma unroll
        for (int k = 0; k < 4; ++k) to[k] = k < n ? from[k] : 0.0f;
    }
}
template <class Fours>
DEVICE void load4(Fours, float (&to)[4], const bf16* from, int n) {
    if (Fours::whole) {
        require_aligned(from, 8);
        uint2 four = *reinterpret_cast<const uint2*>(from);
        to[0] = low_bf16(four.x), to[1] = high_bf16(four.x);
        to[2] = low_bf16(four.y), to[3] = high_bf16(four.y);
    } else {
#pragma unroll
        for (int k = 0; k < 4; ++k) to[k] = k < n ? to_float(from[k]) : 0.0f;
    }
}
template <class Fours>
DEVICE void store4(Fours, float* to, const float (&values)[4], int n) {
    if (Fours::whole) {
        require_aligned(to, 16);
        *reinterpret_cast<float4*>(to) = make_float4(values[0], values[1], values[2], values[3]);
    } else {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            if (k < n) to[k] = values[k];
        }
    }
}
template <class Fours>
DEVICE void store4(Fours, bf16* to, const float (&values)[4], int n) {
    if (Fours::whole) {
        require_aligned(to, 8);
        *reinterpret_cast<uint2*>(to) =
            make_uint2(pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3]));
    } else {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            if (k < n) to[k] = to_bf16(values[k]);
        }
    }
}
template <class Fours>
DEVICE void load_gradient(Fours fours, float (&to)[4], const Tensor& tensor, uint64_t i, int n) {
    if (tensor.flags & BF16_GRADIENT) {
        load4(fours, to, static_cast<const bf16*>(tensor.gradient) + i, n);
    } else {
        load4(fours, to, static_cast<const float*>(tensor.gradient) + i, n);
    }
}

// A block's shares of the three sums, kept next to each other. Contains barriers.
DEVICE void store_sums(float* shares, float gradient, float update, float values) {
    gradient = block_sum<THREADS>(gradient);
    update = block_sum<THREADS>(update);
    values = block_sum<THREADS>(values);
    if (threadIdx.x == 0) {
        float* mine = shares + 3 * uint64_t(blockIdx.x);
        mine[0] = gradient, mine[1] = update, mine[2] = values;
    }
}

}  // namespace step_tables

// Adds up what blocks have left in `shares`, for each tensor the blocks from `x` to before `y` of
// its range, in a fixed order, to three numbers in row `z` of `to`. One block a tensor.
KERNEL_BOUNDS(optimizer_sums, 256, 4, (const uint4* ranges, const float* shares, float* to)) {
    using namespace step_tables;
    const uint4 range = ranges[blockIdx.x];
    float sums[3] = {0.0f, 0.0f, 0.0f};
    for (uint32_t block = range.x + threadIdx.x; block < range.y; block += THREADS) {
#pragma unroll
        for (int k = 0; k < 3; ++k) sums[k] += shares[3 * uint64_t(block) + k];
    }
#pragma unroll
    for (int k = 0; k < 3; ++k) {
        const float sum = block_sum<THREADS>(sums[k]);
        if (threadIdx.x == 0) to[3 * uint64_t(range.z) + k] = sum;
    }
}
