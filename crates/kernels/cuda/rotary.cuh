// Queries and keys of fixed length, rotary position codes, and both in one pass.
//
// qkv is bf16 [rows, 3, heads, width]; values are copied, or left alone where a kernel is told that
// rows have only `2 · heads` slots, because it works in place: every value is read and written by
// one thread. A head belongs to a few neighbouring threads (a power of two of them), each of which
// has 8 channels of its first half and the 8 that they are paired with in its second: pairs are
// turned without talking, and a sum over a head is a few shuffles. Heads whose width is no multiple
// of 16, and unaligned memory, take a plain path: a warp for each head.
//
// Moves, per value of qkv: 4 bytes forward; backward 4, and 2 more for queries and keys where they
// were normalised; in place two thirds of the values. The table of angles comes from the caches.
// Computes up to 10 operations per value. All are bound by memory.
#pragma once

#include "device.cuh"

namespace rotary {

constexpr int THREADS = 256;
// Added to the mean square.
constexpr float EPSILON = 1e-6f;

// Sum over `lanes` neighbouring threads, a power of two.
DEVICE float lanes_sum(float value, uint32_t lanes) {
    for (uint32_t apart = lanes / 2; apart > 0; apart /= 2) {
        value += __shfl_xor_sync(WHOLE_WARP, value, int(apart));
    }
    return value;
}

// Eight values of the first half of a head, and the eight that they are paired with.
struct Pairs {
    float first[8], second[8];
};

DEVICE Pairs unpack(const Bf16x8& first, const Bf16x8& second) {
    Pairs pairs;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        pairs.first[k] = get(first, k);
        pairs.second[k] = get(second, k);
    }
    return pairs;
}

// Turns pairs by the angles of which `cosines` and, `half` further, sines are given; by the
// opposite ones where `sign` is -1.
DEVICE void turn(Pairs& pairs, const float* cosines, uint32_t half, float sign) {
#pragma unroll
    for (int k = 0; k < 8; k += 4) {
        float4 cosine = *reinterpret_cast<const float4*>(cosines + k);
        float4 sine = *reinterpret_cast<const float4*>(cosines + half + k);
        float cos[4] = {cosine.x, cosine.y, cosine.z, cosine.w};
        float sin[4] = {sign * sine.x, sign * sine.y, sign * sine.z, sign * sine.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float x = pairs.first[k + i], y = pairs.second[k + i];
            pairs.first[k + i] = x * cos[i] - y * sin[i];
            pairs.second[k + i] = x * sin[i] + y * cos[i];
        }
    }
}

// `items` heads, of queries, keys and values, of 2 · `half` channels; `lanes` threads for each.
// NORM: to length, queries times `scale`; reciprocal root mean squares go to `scales`, f32
// [rows, 2 · heads]. TURN: by the angles of their position, `sign` times.
template <bool NORM, bool TURN>
DEVICE void forward(uint32_t items, uint32_t slots, uint32_t heads, uint32_t half, uint32_t lanes,
                    uint32_t length, const float* __restrict__ table, float sign, float scale,
                    const bf16* x, bf16* y,
                    float* __restrict__ scales) {
    uint32_t lane = threadIdx.x % lanes;
    uint32_t item = blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    bool mine = item < items && 8 * lane < half;
    uint32_t row = item / slots, head = item % slots;
    uint64_t at = (uint64_t(row) * 3 * heads + head) * 2 * half + 8 * lane;
    Bf16x8 first = {{0, 0, 0, 0}}, second = {{0, 0, 0, 0}};
    if (mine) {
        first = load8(x + at);
        second = load8(x + at + half);
    }
    bool changes = head < 2 * heads;
    Pairs pairs = unpack(first, second);
    if constexpr (NORM) {
        float square = 0.0f;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            square += pairs.first[k] * pairs.first[k] + pairs.second[k] * pairs.second[k];
        }
        square = lanes_sum(square, lanes);
        float by = 1.0f / sqrtf(square / float(2 * half) + EPSILON);
        if (mine && changes && lane == 0) scales[uint64_t(row) * 2 * heads + head] = by;
        if (head < heads) by *= scale;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            pairs.first[k] *= by;
            pairs.second[k] *= by;
        }
    }
    if (!mine) return;
    if (changes) {
        if constexpr (TURN) {
            turn(pairs, table + uint64_t(row % length) * 2 * half + 8 * lane, half, sign);
        }
        first = pack8(pairs.first);
        second = pack8(pairs.second);
    }
    store8(y + at, first);
    store8(y + at + half, second);
}

// Gradients of heads that were normalised, from the heads, their scales and the gradients of the
// results.
template <bool TURN>
DEVICE void backward(uint32_t items, uint32_t slots, uint32_t heads, uint32_t half, uint32_t lanes,
                     uint32_t length, const float* __restrict__ table, float scale, const bf16* x,
                     const float* __restrict__ scales, const bf16* dy,
                     bf16* dx) {
    uint32_t lane = threadIdx.x % lanes;
    uint32_t item = blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    bool mine = item < items && 8 * lane < half;
    uint32_t row = item / slots, head = item % slots;
    uint64_t at = (uint64_t(row) * 3 * heads + head) * 2 * half + 8 * lane;
    bool changes = mine && head < 2 * heads;
    Bf16x8 first = {{0, 0, 0, 0}}, second = first, first_x = first, second_x = first;
    if (mine) {
        first = load8(dy + at);
        second = load8(dy + at + half);
    }
    float by = 0.0f;
    if (changes) {
        first_x = load8(x + at);
        second_x = load8(x + at + half);
        by = scales[uint64_t(row) * 2 * heads + head];
    }
    Pairs slopes = unpack(first, second), pairs = unpack(first_x, second_x);
    if constexpr (TURN) {
        if (changes) {
            turn(slopes, table + uint64_t(row % length) * 2 * half + 8 * lane, half, -1.0f);
        }
    }
    float tilt = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        tilt += slopes.first[k] * pairs.first[k] + slopes.second[k] * pairs.second[k];
    }
    tilt = lanes_sum(tilt, lanes) * by * by / float(2 * half);
    if (!mine) return;
    if (changes) {
        if (head < heads) by *= scale;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            slopes.first[k] = (slopes.first[k] - pairs.first[k] * tilt) * by;
            slopes.second[k] = (slopes.second[k] - pairs.second[k] * tilt) * by;
        }
        first = pack8(slopes.first);
        second = pack8(slopes.second);
    }
    store8(dx + at, first);
    store8(dx + at + half, second);
}

// As above, for heads of any width (an even one where pairs are turned): a lane has every 32nd
// channel, and the channel that it is paired with.
template <bool NORM, bool TURN>
DEVICE void plain_forward(uint32_t items, uint32_t slots, uint32_t heads, uint32_t width,
                          uint32_t length, const float* table, float sign, float scale,
                          const bf16* x, bf16* y, float* scales) {
    uint32_t lane = threadIdx.x % WARP;
    uint32_t item = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    if (item >= items) return;
    uint32_t row = item / slots, head = item % slots;
    uint64_t start = (uint64_t(row) * 3 * heads + head) * width;
    const bf16* from = x + start;
    bf16* to = y + start;
    if (head >= 2 * heads) {
        for (uint32_t c = lane; c < width; c += WARP) to[c] = from[c];
        return;
    }
    float by = 1.0f;
    if constexpr (NORM) {
        float square = 0.0f;
        for (uint32_t c = lane; c < width; c += WARP) {
            square += to_float(from[c]) * to_float(from[c]);
        }
        by = 1.0f / sqrtf(warp_sum(square) / float(width) + EPSILON);
        if (lane == 0) scales[uint64_t(row) * 2 * heads + head] = by;
        if (head < heads) by *= scale;
    }
    if constexpr (TURN) {
        uint32_t half = width / 2;
        const float* angles = table + uint64_t(row % length) * width;
        for (uint32_t c = lane; c < half; c += WARP) {
            float first = to_float(from[c]), second = to_float(from[c + half]);
            float cos = angles[c], sin = sign * angles[c + half];
            to[c] = to_bf16((first * cos - second * sin) * by);
            to[c + half] = to_bf16((first * sin + second * cos) * by);
        }
    } else {
        for (uint32_t c = lane; c < width; c += WARP) to[c] = to_bf16(to_float(from[c]) * by);
    }
}

template <bool TURN>
DEVICE void plain_backward(uint32_t items, uint32_t slots, uint32_t heads, uint32_t width,
                           uint32_t length, const float* table, float scale, const bf16* x,
                           const float* scales, const bf16* dy, bf16* dx) {
    uint32_t lane = threadIdx.x % WARP;
    uint32_t item = blockIdx.x * (THREADS / WARP) + threadIdx.x / WARP;
    if (item >= items) return;
    uint32_t row = item / slots, head = item % slots;
    uint64_t start = (uint64_t(row) * 3 * heads + head) * width;
    if (head >= 2 * heads) {
        for (uint32_t c = lane; c < width; c += WARP) dx[start + c] = dy[start + c];
        return;
    }
    // Gradients of channel `c` and, where pairs are turned, of `c + apart`, turned back.
    uint32_t apart = TURN ? width / 2 : width;
    auto slopes = [&](uint32_t c, float& first, float& second) {
        first = to_float(dy[start + c]);
        second = 0.0f;
        if constexpr (TURN) {
            const float* angles = table + uint64_t(row % length) * width;
            float cos = angles[c], sin = -angles[c + apart];
            float before = first;
            second = to_float(dy[start + c + apart]);
            first = before * cos - second * sin;
            second = before * sin + second * cos;
        }
    };
    float tilt = 0.0f, first, second;
    for (uint32_t c = lane; c < apart; c += WARP) {
        slopes(c, first, second);
        tilt += first * to_float(x[start + c]);
        if constexpr (TURN) tilt += second * to_float(x[start + c + apart]);
    }
    float by = scales[uint64_t(row) * 2 * heads + head];
    tilt = warp_sum(tilt) * by * by / float(width);
    if (head < heads) by *= scale;
    for (uint32_t c = lane; c < apart; c += WARP) {
        slopes(c, first, second);
        dx[start + c] = to_bf16((first - to_float(x[start + c]) * tilt) * by);
        if constexpr (TURN) {
            dx[start + c + apart] = to_bf16((second - to_float(x[start + c + apart]) * tilt) * by);
        }
    }
}

}  // namespace rotary

// What kernels are told of the sizes.
#define HEADS_SIZES                                                                             \
    uint32_t items, uint32_t slots, uint32_t heads, uint32_t width, uint32_t lanes,             \
        uint32_t length, const float *table
#define HEADS_PLAIN_SIZES                                                                       \
    uint32_t items, uint32_t slots, uint32_t heads, uint32_t width, uint32_t, uint32_t length,  \
        const float *table

#define HEADS_FORWARD(name, NORM, TURN)                                                         \
    KERNEL_BOUNDS(name, rotary::THREADS, 1,                                                     \
                  (HEADS_SIZES, float sign, float scale, const bf16* x, bf16* y,                \
                   float* scales)) {                                                            \
        rotary::forward<NORM, TURN>(items, slots, heads, width / 2, lanes, length, table, sign, \
                                    scale, x, y, scales);                                       \
    }                                                                                           \
    KERNEL_BOUNDS(name##_any, rotary::THREADS, 1,                                               \
                  (HEADS_PLAIN_SIZES, float sign, float scale, const bf16* x, bf16* y,          \
                   float* scales)) {                                                            \
        rotary::plain_forward<NORM, TURN>(items, slots, heads, width, length, table, sign,      \
                                          scale, x, y, scales);                                 \
    }
#define HEADS_BACKWARD(name, TURN)                                                              \
    KERNEL_BOUNDS(name, rotary::THREADS, 1,                                                     \
                  (HEADS_SIZES, float scale, const bf16* x, const float* scales,                \
                   const bf16* dy, bf16* dx)) {                                                 \
        rotary::backward<TURN>(items, slots, heads, width / 2, lanes, length, table, scale, x,  \
                               scales, dy, dx);                                                 \
    }                                                                                           \
    KERNEL_BOUNDS(name##_any, rotary::THREADS, 1,                                               \
                  (HEADS_PLAIN_SIZES, float scale, const bf16* x, const float* scales,          \
                   const bf16* dy, bf16* dx)) {                                                 \
        rotary::plain_backward<TURN>(items, slots, heads, width, length, table, scale, x,       \
                                     scales, dy, dx);                                           \
    }

HEADS_FORWARD(rotary_turn, false, true)
HEADS_FORWARD(qk_norm_forward, true, false)
HEADS_FORWARD(qk_norm_rotary_forward, true, true)
HEADS_BACKWARD(qk_norm_backward, false)
HEADS_BACKWARD(qk_norm_rotary_backward, true)

#undef HEADS_FORWARD
#undef HEADS_BACKWARD
#undef HEADS_SIZES
#undef HEADS_PLAIN_SIZES
