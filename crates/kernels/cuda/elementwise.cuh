// Functions of each value alone.
#pragma once

#include "device.cuh"

// to += from, both bf16; `count` values.
KERNEL(add_bf16, (bf16* to, const bf16* from, uint64_t count)) {
    uint64_t i = 8 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 8 <= count) {
        Bf16x8 a = load8(to + i), b = load8(from + i);
        float sums[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) sums[k] = get(a, k) + get(b, k);
        store8(to + i, pack8(sums));
    } else {
        for (; i < count; ++i) to[i] = to_bf16(to_float(to[i]) + to_float(from[i]));
    }
}

// to = a + b, all bf16; `count` values. Moves 6 bytes for each.
KERNEL(sum_bf16, (bf16* to, const bf16* a, const bf16* b, uint64_t count)) {
    uint64_t i = 8 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 8 <= count) {
        Bf16x8 first = load8(a + i), second = load8(b + i);
        float sums[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) sums[k] = get(first, k) + get(second, k);
        store8(to + i, pack8(sums));
    } else {
        for (; i < count; ++i) to[i] = to_bf16(to_float(a[i]) + to_float(b[i]));
    }
}

// to += from, both f32; `count` values.
KERNEL(add_f32, (float* to, const float* from, uint64_t count)) {
    uint64_t i = 4 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= count) {
        float4 a = *reinterpret_cast<float4*>(to + i);
        float4 b = *reinterpret_cast<const float4*>(from + i);
        *reinterpret_cast<float4*>(to + i) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
    } else {
        for (; i < count; ++i) to[i] += from[i];
    }
}

// to = from, rounded to bf16; `count` values.
KERNEL(round_to_bf16, (bf16* to, const float* from, uint64_t count)) {
    uint64_t i = 8 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 8 <= count) {
        float4 low = *reinterpret_cast<const float4*>(from + i);
        float4 high = *reinterpret_cast<const float4*>(from + i + 4);
        float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        store8(to + i, pack8(values));
    } else {
        for (; i < count; ++i) to[i] = to_bf16(from[i]);
    }
}
