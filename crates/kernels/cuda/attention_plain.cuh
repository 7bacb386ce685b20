// Attention for heads of any width up to 256, without tensor cores: a warp for each query, or for each
// key in the gradients of keys and values. See attention.cuh.
//
// The others pass by in groups of 32. For the scores a lane has one of them; for what is summed over
// them a lane has the channels lane, lane + 32, …, and hears of each share in turn. All sums are f32.
#pragma once

#include "device.cuh"

namespace attention {

constexpr int WIDEST = 256;
// Channels of a lane.
constexpr int PIECES = WIDEST / WARP;

// A warp's row as floats in its part of shared memory.
DEVICE void keep_row(float* own, const bf16* row, int width) {
    for (int channel = threadIdx.x % WARP; channel < width; channel += WARP) {
        own[channel] = to_float(row[channel]);
    }
}

// `wide`: rows begin at multiples of 16 bytes and have whole eights.
DEVICE float dot(const float* own, const bf16* row, int width, bool wide) {
    float sum = 0.0f;
    if (wide) {
        for (int channel = 0; channel < width; channel += 8) {
            Bf16x8 values = load8(row + channel);
#pragma unroll
            for (int i = 0; i < 8; ++i) sum = fmaf(own[channel + i], get(values, i), sum);
        }
    } else {
        for (int channel = 0; channel < width; ++channel) {
            sum = fmaf(own[channel], to_float(row[channel]), sum);
        }
    }
    return sum;
}

// sums += share · row, a lane its channels.
DEVICE void add_row(float (&sums)[PIECES], float share, const bf16* row, int width) {
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int piece = 0; piece < PIECES; ++piece) {
        int channel = lane + piece * WARP;
        if (channel < width) sums[piece] = fmaf(share, to_float(row[channel]), sums[piece]);
    }
}

DEVICE void write_row(bf16* row, const float (&sums)[PIECES], float factor, int width) {
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int piece = 0; piece < PIECES; ++piece) {
        int channel = lane + piece * WARP;
        if (channel < width) row[channel] = to_bf16(sums[piece] * factor);
    }
}

}  // namespace attention

// `rows` is B · heads · T: a pair's rows one after the other. Warps beyond end at once.
KERNEL_BOUNDS(attention_forward_plain, 128, 4,
              (const bf16* qkv, bf16* y, float* log_sums, uint64_t rows, int length, int heads,
               int width, int window, int wide)) {
    using namespace attention;
    __shared__ float owns[WARPS][WIDEST];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint64_t item = uint64_t(blockIdx.x) * WARPS + warp;
    if (item >= rows) return;
    int index = int(item / length), query = int(item % length);
    Pair pair = pair_at(index, length, heads, width);
    int stride = 3 * pair.channels;
    const bf16* queries = qkv + pair.packed;
    const bf16* keys = queries + pair.channels;
    const bf16* values = keys + pair.channels;
    keep_row(owns[warp], queries + query * stride, width);
    __syncwarp();

    float scale = 1.0f / sqrtf(float(width));
    float sums[PIECES] = {}, top = LOWEST, total = 0.0f;
    for (int first = max(0, query - window + 1); first <= query; first += WARP) {
        int key = first + lane, count = min(WARP, query - first + 1);
        float score = -INFINITY;
        if (lane < count) score = dot(owns[warp], keys + key * stride, width, wide) * scale;
        float higher = fmaxf(top, warp_max(score));
        float share = fast_exp(score - higher), shrink = fast_exp(top - higher);
        top = higher;
        total = fmaf(total, shrink, warp_sum(share));
#pragma unroll
        for (int piece = 0; piece < PIECES; ++piece) sums[piece] *= shrink;
        for (int i = 0; i < count; ++i) {
            add_row(sums, __shfl_sync(WHOLE_WARP, share, i), values + (first + i) * stride, width);
        }
    }
    write_row(y + pair.plain + query * pair.channels, sums, 1.0f / total, width);
    if (lane == 0) log_sums[item] = top + fast_log(total);
}

// Gradients of queries; also `dots`, rowsum(dy · y), one for each row.
KERNEL_BOUNDS(attention_backward_queries_plain, 128, 4,
              (const bf16* qkv, const bf16* y, const float* log_sums, const bf16* dy, bf16* dqkv,
               float* dots, uint64_t rows, int length, int heads, int width, int window, int wide)) {
    using namespace attention;
    __shared__ float owns[WARPS][2][WIDEST];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint64_t item = uint64_t(blockIdx.x) * WARPS + warp;
    if (item >= rows) return;
    int index = int(item / length), query = int(item % length);
    Pair pair = pair_at(index, length, heads, width);
    int stride = 3 * pair.channels;
    size_t at = pair.plain + query * pair.channels;
    const bf16* queries = qkv + pair.packed;
    const bf16* keys = queries + pair.channels;
    const bf16* values = keys + pair.channels;
    keep_row(owns[warp][0], queries + query * stride, width);
    keep_row(owns[warp][1], dy + at, width);
    float own_dot = 0.0f;
    for (int channel = lane; channel < width; channel += WARP) {
        own_dot = fmaf(to_float(dy[at + channel]), to_float(y[at + channel]), own_dot);
    }
    own_dot = warp_sum(own_dot);
    if (lane == 0) dots[item] = own_dot;
    __syncwarp();

    float scale = 1.0f / sqrtf(float(width)), log_sum = log_sums[item];
    float sums[PIECES] = {};
    for (int first = max(0, query - window + 1); first <= query; first += WARP) {
        int key = first + lane, count = min(WARP, query - first + 1);
        float slope = 0.0f;
        if (lane < count) {
            float score = dot(owns[warp][0], keys + key * stride, width, wide) * scale;
            float of_share = dot(owns[warp][1], values + key * stride, width, wide);
            slope = fast_exp(score - log_sum) * (of_share - own_dot);
        }
        for (int i = 0; i < count; ++i) {
            add_row(sums, __shfl_sync(WHOLE_WARP, slope, i), keys + (first + i) * stride, width);
        }
    }
    write_row(dqkv + pair.packed + query * stride, sums, scale, width);
}

// Gradients of keys and values, from `dots` of the kernel above.
KERNEL_BOUNDS(attention_backward_keys_plain, 128, 4,
              (const bf16* qkv, const float* log_sums, const bf16* dy, bf16* dqkv, const float* dots,
               uint64_t rows, int length, int heads, int width, int window, int wide)) {
    using namespace attention;
    __shared__ float owns[WARPS][2][WIDEST];
    int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint64_t item = uint64_t(blockIdx.x) * WARPS + warp;
    if (item >= rows) return;
    int index = int(item / length), key = int(item % length);
    Pair pair = pair_at(index, length, heads, width);
    int stride = 3 * pair.channels;
    size_t pair_rows = size_t(index) * length;
    const bf16* queries = qkv + pair.packed;
    const bf16* gradients = dy + pair.plain;
    keep_row(owns[warp][0], queries + pair.channels + key * stride, width);
    keep_row(owns[warp][1], queries + 2 * pair.channels + key * stride, width);
    __syncwarp();

    float scale = 1.0f / sqrtf(float(width));
    float key_sums[PIECES] = {}, value_sums[PIECES] = {};
    int end = window < length - key ? key + window : length;
    for (int first = key; first < end; first += WARP) {
        int query = first + lane, count = min(WARP, end - first);
        float share = 0.0f, slope = 0.0f;
        if (lane < count) {
            float score = dot(owns[warp][0], queries + query * stride, width, wide) * scale;
            float of_share = dot(owns[warp][1], gradients + query * pair.channels, width, wide);
            share = fast_exp(score - log_sums[pair_rows + query]);
            slope = share * (of_share - dots[pair_rows + query]);
        }
        for (int i = 0; i < count; ++i) {
            float of_query = __shfl_sync(WHOLE_WARP, slope, i);
            add_row(key_sums, of_query, queries + (first + i) * stride, width);
            of_query = __shfl_sync(WHOLE_WARP, share, i);
            add_row(value_sums, of_query, gradients + (first + i) * pair.channels, width);
        }
    }
    bf16* to = dqkv + pair.packed + pair.channels + key * stride;
    write_row(to, key_sums, scale, width);
    write_row(to + pair.channels, value_sums, 1.0f, width);
}
