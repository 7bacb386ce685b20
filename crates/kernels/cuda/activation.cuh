// Activations, of each value alone or of a pair.
//
// Move 4 bytes per value forward and 6 backward; swiglu 6 bytes per result forward and 10 backward.
// GELU and swiglu compute an exponential and a reciprocal per value (2 of the 16 special functions
// that a multiprocessor does per cycle: about half of the time that the memory takes). All are
// bound by memory.
#pragma once

#include "device.cuh"

namespace activation {

constexpr int THREADS = 256;
// Vectors of eight for each thread: two loads under way hide more of the memory's latency.
constexpr int VECTORS = 2;

// 1 / (1 + e⁻ˣ); small ones keep their digits.
DEVICE float sigmoid(float x) { return fast_divide(1.0f, 1.0f + fast_exp(-x)); }

enum Function { GELU, RELU_SQUARED, SOFTCAP };

// x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))) = x · sigmoid(2 √(2/π) (x + 0.044715 x³)): written with
// the sigmoid, since 1 + tanh loses the digits of small results.
constexpr float SLOPE = 2.0f * 0.7978846f, CUBIC = 0.044715f;

template <int F>
DEVICE float value(float x, float cap) {
    if constexpr (F == GELU) {
        return x * sigmoid(SLOPE * (x + CUBIC * x * x * x));
    } else if constexpr (F == RELU_SQUARED) {
        // So written, a NaN passes.
        return x < 0.0f ? 0.0f : x * x;
    } else {
        return cap * fast_tanh(fast_divide(x, cap));
    }
}

template <int F>
DEVICE float slope(float x, float cap) {
    if constexpr (F == GELU) {
        float open = sigmoid(SLOPE * (x + CUBIC * x * x * x));
        return open + x * open * (1.0f - open) * SLOPE * (1.0f + 3.0f * CUBIC * x * x);
    } else if constexpr (F == RELU_SQUARED) {
        return x < 0.0f ? 0.0f : 2.0f * x;
    } else {
        // 1 - tanh² = 4 e / (1 + e)², with e = e^(-2 |x / cap|), which keeps the digits of small
        // slopes.
        float e = fast_exp(-2.0f * fabsf(fast_divide(x, cap)));
        float root = fast_divide(1.0f, 1.0f + e);
        return 4.0f * e * root * root;
    }
}

// Without dy: to = value(x). With it: to = dy · slope(x).
template <int F, bool BACK>
DEVICE void each(const bf16* __restrict__ x, const bf16* __restrict__ dy, bf16* __restrict__ to,
                 uint64_t count, float cap) {
    uint64_t first = 8 * (uint64_t(blockIdx.x) * (VECTORS * THREADS) + threadIdx.x);
    Bf16x8 values[VECTORS], slopes[VECTORS];
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
        uint64_t i = first + 8 * THREADS * j;
        if (i + 8 > count) continue;
        values[j] = load8(x + i);
        if constexpr (BACK) slopes[j] = load8(dy + i);
    }
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
        uint64_t i = first + 8 * THREADS * j;
        if (i + 8 <= count) {
            float results[8];
#pragma unroll
            for (int k = 0; k < 8; ++k) {
                float at = get(values[j], k);
                if constexpr (BACK) {
                    results[k] = get(slopes[j], k) * slope<F>(at, cap);
                } else {
                    results[k] = value<F>(at, cap);
                }
            }
            store8(to + i, pack8(results));
        } else {
            for (; i < count; ++i) {
                float at = to_float(x[i]);
                if constexpr (BACK) {
                    to[i] = to_bf16(to_float(dy[i]) * slope<F>(at, cap));
                } else {
                    to[i] = to_bf16(value<F>(at, cap));
                }
            }
        }
    }
}

}  // namespace activation

#define ACTIVATION(name, F)                                                                   \
    KERNEL_BOUNDS(name##_forward, activation::THREADS, 1,                                     \
                  (const bf16* x, bf16* y, uint64_t count, float cap)) {                      \
        activation::each<activation::F, false>(x, nullptr, y, count, cap);                    \
    }                                                                                         \
    KERNEL_BOUNDS(name##_backward, activation::THREADS, 1,                                    \
                  (const bf16* x, const bf16* dy, bf16* dx, uint64_t count, float cap)) {     \
        activation::each<activation::F, true>(x, dy, dx, count, cap);                         \
    }

ACTIVATION(gelu, GELU)
ACTIVATION(relu_squared, RELU_SQUARED)
ACTIVATION(softcap, SOFTCAP)

#undef ACTIVATION

// y = silu(a) · b of the halves a and b of the rows of x; `vectors` = half / 8 for each row.
KERNEL_BOUNDS(swiglu_forward, activation::THREADS, 1,
              (const bf16* x, bf16* y, uint32_t items, uint32_t vectors)) {
    uint32_t item = blockIdx.x * activation::THREADS + threadIdx.x;
    if (item >= items) return;
    uint32_t row = item / vectors, at = 8 * (item % vectors), half = 8 * vectors;
    Bf16x8 gate = load8(x + uint64_t(row) * 2 * half + at);
    Bf16x8 value = load8(x + uint64_t(row) * 2 * half + half + at);
    float results[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        float a = get(gate, k);
        results[k] = a * activation::sigmoid(a) * get(value, k);
    }
    store8(y + uint64_t(row) * half + at, pack8(results));
}

KERNEL_BOUNDS(swiglu_backward, activation::THREADS, 1,
              (const bf16* x, const bf16* dy, bf16* dx, uint32_t items, uint32_t vectors)) {
    uint32_t item = blockIdx.x * activation::THREADS + threadIdx.x;
    if (item >= items) return;
    uint32_t row = item / vectors, at = 8 * (item % vectors), half = 8 * vectors;
    uint64_t start = uint64_t(row) * 2 * half + at;
    Bf16x8 gate = load8(x + start), value = load8(x + start + half);
    Bf16x8 slope = load8(dy + uint64_t(row) * half + at);
    float dgate[8], dvalue[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        float a = get(gate, k), open = activation::sigmoid(a), d = get(slope, k);
        dvalue[k] = d * a * open;
        dgate[k] = d * get(value, k) * open * (1.0f + a * (1.0f - open));
    }
    store8(dx + start, pack8(dgate));
    store8(dx + start + half, pack8(dvalue));
}

// The same for halves of any width: a thread for each result.
KERNEL(swiglu_forward_any, (const bf16* x, bf16* y, uint64_t count, uint64_t half)) {
    uint64_t i = uint64_t(blockIdx.x) * activation::THREADS + threadIdx.x;
    if (i >= count) return;
    uint64_t at = i / half * 2 * half + i % half;
    float a = to_float(x[at]);
    y[i] = to_bf16(a * activation::sigmoid(a) * to_float(x[at + half]));
}
KERNEL(swiglu_backward_any,
       (const bf16* x, const bf16* dy, bf16* dx, uint64_t count, uint64_t half)) {
    uint64_t i = uint64_t(blockIdx.x) * activation::THREADS + threadIdx.x;
    if (i >= count) return;
    uint64_t at = i / half * 2 * half + i % half;
    float a = to_float(x[at]), open = activation::sigmoid(a), d = to_float(dy[i]);
    dx[at] = to_bf16(d * to_float(x[at + half]) * open * (1.0f + a * (1.0f - open)));
    dx[at + half] = to_bf16(d * a * open);
}
