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

// to = a + b, all f32; `count` values. Moves 12 bytes for each.
KERNEL(sum_f32, (float* to, const float* a, const float* b, uint64_t count)) {
    uint64_t i = 4 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= count) {
        float4 x = *reinterpret_cast<const float4*>(a + i);
        float4 y = *reinterpret_cast<const float4*>(b + i);
        *reinterpret_cast<float4*>(to + i) = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
    } else {
        for (; i < count; ++i) to[i] = a[i] + b[i];
    }
}

// to += factor * from, f32 and f32; `count` values. Moves 12 bytes for each.
KERNEL(accumulate_f32, (float* to, const float* from, uint64_t count, float factor)) {
    uint64_t i = 4 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= count) {
        float4 a = *reinterpret_cast<float4*>(to + i);
        float4 b = *reinterpret_cast<const float4*>(from + i);
        *reinterpret_cast<float4*>(to + i) = make_float4(a.x + factor * b.x, a.y + factor * b.y,
                                                         a.z + factor * b.z, a.w + factor * b.w);
    } else {
        for (; i < count; ++i) to[i] += factor * from[i];
    }
}

// to += factor * from, f32 and bf16; `count` values. Moves 10 bytes for each.
KERNEL(accumulate_bf16, (float* to, const bf16* from, uint64_t count, float factor)) {
    uint64_t i = 4 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    for (uint64_t end = i + 4 < count ? i + 4 : count; i < end; ++i) {
        to[i] += factor * to_float(from[i]);
    }
}

// to = factor * from + offset, both f32; `count` values. Moves 8 bytes for each.
KERNEL(affine_f32, (float* to, const float* from, uint64_t count, float factor, float offset)) {
    uint64_t i = 4 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= count) {
        float4 x = *reinterpret_cast<const float4*>(from + i);
        *reinterpret_cast<float4*>(to + i) = make_float4(factor * x.x + offset, factor * x.y + offset,
                                                         factor * x.z + offset, factor * x.w + offset);
    } else {
        for (; i < count; ++i) to[i] = factor * from[i] + offset;
    }
}

// to = factor * from + offset, both bf16; `count` values. Moves 4 bytes for each.
KERNEL(affine_bf16, (bf16* to, const bf16* from, uint64_t count, float factor, float offset)) {
    uint64_t i = 8 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 8 <= count) {
        Bf16x8 x = load8(from + i);
        float values[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) values[k] = factor * get(x, k) + offset;
        store8(to + i, pack8(values));
    } else {
        for (; i < count; ++i) to[i] = to_bf16(factor * to_float(from[i]) + offset);
    }
}

// Sets `count` values.
KERNEL(fill_f32, (float* to, uint64_t count, float value)) {
    uint64_t i = 4 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 4 <= count) {
        *reinterpret_cast<float4*>(to + i) = make_float4(value, value, value, value);
    } else {
        for (; i < count; ++i) to[i] = value;
    }
}

// to = from, widened to f32; `count` values. Moves 6 bytes for each.
KERNEL(widen_bf16, (float* to, const bf16* from, uint64_t count)) {
    uint64_t i = 8 * (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x);
    if (i + 8 <= count) {
        Bf16x8 x = load8(from + i);
        *reinterpret_cast<float4*>(to + i) = make_float4(get(x, 0), get(x, 1), get(x, 2), get(x, 3));
        *reinterpret_cast<float4*>(to + i + 4) =
            make_float4(get(x, 4), get(x, 5), get(x, 6), get(x, 7));
    } else {
        for (; i < count; ++i) to[i] = to_float(from[i]);
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
