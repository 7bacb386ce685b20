// Normalisation of rows: layer norm, and norm by the root mean square.
//
// Rows of up to 1,024 channels belong to a warp, rows of up to 8,192 to a block; either keeps its
// row in registers, as bf16, so that every value is read once and written once, 16 bytes at a time.
// What is wider, odd or unaligned takes a plain path, which reads a row anew for each of its sums.
//
// Moves, per value: forward 4 bytes, 8 with a residual; backward 6, 8 with `dsum`. Gain and bias
// come from the first-level cache: 4 bytes each, twice in backward. Computes about 8 operations
// forward and 20 backward. All are bound by memory.
#pragma once

#include "device.cuh"

namespace norms {

enum Kind { LAYER, RMS };

constexpr int FORWARD_THREADS = 256;
// Backward keeps sums over rows in registers, which leaves room for few warps: small blocks fill
// it.
constexpr int BACKWARD_THREADS = 128;
// Threads of a row that is too wide for a warp.
constexpr int WIDE = 256;
constexpr int PLAIN_THREADS = 256;

template <int GROUP>
DEVICE float group_sum(float value) {
    if constexpr (GROUP == WARP) {
        return warp_sum(value);
    } else {
        return block_sum<GROUP>(value);
    }
}

DEVICE void load_floats(float (&to)[8], const float* from) {
    float4 low = *reinterpret_cast<const float4*>(from);
    float4 high = *reinterpret_cast<const float4*>(from + 4);
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

DEVICE void store_floats(float* to, const float* from) {
    *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
    *reinterpret_cast<float4*>(to + 4) = make_float4(from[4], from[5], from[6], from[7]);
}

// The vectors of a row that are this thread's, zeros beyond its end.
template <int GROUP, int VECTORS>
DEVICE void load_row(Bf16x8 (&to)[VECTORS], const bf16* row, uint32_t channels) {
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
        uint32_t at = 8 * (threadIdx.x % GROUP + GROUP * j);
        to[j] = at < channels ? load8(row + at) : Bf16x8{{0, 0, 0, 0}};
    }
}

// One row for each group of threads. `stats` are mean and reciprocal deviation, or the reciprocal
// root mean square. Without a residual its pointers are null; a gain of an RMS norm may be null.
template <int KIND, int GROUP, int VECTORS>
DEVICE void forward(uint32_t rows, uint32_t channels, const bf16* __restrict__ x,
                    const bf16* __restrict__ residual, bf16* __restrict__ sum,
                    const float* __restrict__ gain, const float* __restrict__ bias, float epsilon,
                    bf16* __restrict__ y, float* __restrict__ stats) {
    uint32_t row = blockIdx.x * (FORWARD_THREADS / GROUP) + threadIdx.x / GROUP;
    if (row >= rows) return;
    uint64_t start = uint64_t(row) * channels;
    Bf16x8 values[VECTORS];
    load_row<GROUP>(values, x + start, channels);
    if (residual != nullptr) {
        Bf16x8 others[VECTORS];
        load_row<GROUP>(others, residual + start, channels);
#pragma unroll
        for (int j = 0; j < VECTORS; ++j) {
            uint32_t at = 8 * (threadIdx.x % GROUP + GROUP * j);
            float sums[8];
#pragma unroll
            for (int k = 0; k < 8; ++k) sums[k] = get(values[j], k) + get(others[j], k);
            // Rounded first: backward finds the numbers that were normalised.
            values[j] = pack8(sums);
            if (at < channels) store8(sum + start + at, values[j]);
        }
    }
    float mean = 0.0f;
    if constexpr (KIND == LAYER) {
#pragma unroll
        for (int j = 0; j < VECTORS; ++j) {
#pragma unroll
            for (int k = 0; k < 8; ++k) mean += get(values[j], k);
        }
        mean = group_sum<GROUP>(mean) / float(channels);
    }
    float square = 0.0f;
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
        if (8 * (threadIdx.x % GROUP + GROUP * j) >= channels) continue;
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            float value = get(values[j], k) - mean;
            square += value * value;
        }
    }
    float scale = 1.0f / sqrtf(group_sum<GROUP>(square) / float(channels) + epsilon);
    if (threadIdx.x % GROUP == 0) {
        if constexpr (KIND == LAYER) {
            stats[2 * uint64_t(row)] = mean;
            stats[2 * uint64_t(row) + 1] = scale;
        } else {
            stats[row] = scale;
        }
    }
#pragma unroll
    for (int j = 0; j < VECTORS; ++j) {
        uint32_t at = 8 * (threadIdx.x % GROUP + GROUP * j);
        if (at >= channels) continue;
        float results[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) results[k] = (get(values[j], k) - mean) * scale;
        if (KIND == LAYER || gain != nullptr) {
            float gains[8];
            load_floats(gains, gain + at);
#pragma unroll
            for (int k = 0; k < 8; ++k) results[k] *= gains[k];
        }
        if constexpr (KIND == LAYER) {
            float biases[8];
            load_floats(biases, bias + at);
#pragma unroll
            for (int k = 0; k < 8; ++k) results[k] += biases[k];
        }
        store8(y + start + at, pack8(results));
    }
}

// Rows one after the other for each group of threads; sums over the rows of a block go to a row of
// `partials`: for dgain, then for dbias, `channels` each.
template <int KIND, bool GAIN, int GROUP, int VECTORS>
DEVICE void backward(uint32_t rows, uint32_t channels, const bf16* __restrict__ x,
                     const float* __restrict__ gain, const float* __restrict__ stats,
                     const bf16* __restrict__ dy, const bf16* __restrict__ dsum,
                     bf16* __restrict__ dx, float* __restrict__ partials) {
    constexpr int GROUPS = GROUP == WARP ? BACKWARD_THREADS / GROUP : 1;
    constexpr int SUMS = GAIN ? 8 * VECTORS : 1;
    constexpr int BIAS_SUMS = KIND == LAYER ? SUMS : 1;
    float dgain[SUMS], dbias[BIAS_SUMS];
#pragma unroll
    for (int i = 0; i < SUMS; ++i) dgain[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < BIAS_SUMS; ++i) dbias[i] = 0.0f;
    const float share = 1.0f / float(channels);
    for (uint32_t row = blockIdx.x * GROUPS + threadIdx.x / GROUP; row < rows;
         row += gridDim.x * GROUPS) {
        uint64_t start = uint64_t(row) * channels;
        Bf16x8 values[VECTORS], slopes[VECTORS], others[VECTORS];
        load_row<GROUP>(values, x + start, channels);
        load_row<GROUP>(slopes, dy + start, channels);
        if (dsum != nullptr) load_row<GROUP>(others, dsum + start, channels);
        float mean = 0.0f, scale;
        if constexpr (KIND == LAYER) {
            mean = stats[2 * uint64_t(row)];
            scale = stats[2 * uint64_t(row) + 1];
        } else {
            scale = stats[row];
        }
        float shift = 0.0f, tilt = 0.0f;
#pragma unroll
        for (int j = 0; j < VECTORS; ++j) {
            uint32_t at = 8 * (threadIdx.x % GROUP + GROUP * j);
            if (at >= channels) continue;
            float gains[8];
            if constexpr (GAIN) load_floats(gains, gain + at);
#pragma unroll
            for (int k = 0; k < 8; ++k) {
                float slope = get(slopes[j], k), centred = get(values[j], k) - mean;
                if constexpr (GAIN) {
                    dgain[8 * j + k] += slope * centred * scale;
                    if constexpr (KIND == LAYER) dbias[8 * j + k] += slope;
                    slope *= gains[k];
                }
                if constexpr (KIND == LAYER) shift += slope;
                tilt += slope * centred;
            }
        }
        if constexpr (KIND == LAYER) shift = group_sum<GROUP>(shift) * share;
        tilt = group_sum<GROUP>(tilt) * scale * scale * share;
#pragma unroll
        for (int j = 0; j < VECTORS; ++j) {
            uint32_t at = 8 * (threadIdx.x % GROUP + GROUP * j);
            if (at >= channels) continue;
            float gains[8], results[8];
            if constexpr (GAIN) load_floats(gains, gain + at);
#pragma unroll
            for (int k = 0; k < 8; ++k) {
                float slope = get(slopes[j], k);
                if constexpr (GAIN) slope *= gains[k];
                results[k] = (slope - shift - (get(values[j], k) - mean) * tilt) * scale;
            }
            if (dsum != nullptr) {
#pragma unroll
                for (int k = 0; k < 8; ++k) results[k] += get(others[j], k);
            }
            store8(dx + start + at, pack8(results));
        }
    }
    if constexpr (GAIN) {
        constexpr int KINDS = KIND == LAYER ? 2 : 1;
        float* to = partials + uint64_t(blockIdx.x) * KINDS * channels;
        if constexpr (GROUPS > 1) {
            // Warp after warp adds its sums, in this order always.
            __shared__ float shares[KINDS * GROUP * 8 * VECTORS];
            float* bias_shares = shares + (KINDS - 1) * GROUP * 8 * VECTORS;
            for (int turn = 0; turn < GROUPS; ++turn) {
                if (int(threadIdx.x / GROUP) == turn) {
#pragma unroll
                    for (int j = 0; j < VECTORS; ++j) {
                        uint32_t at = 8 * (threadIdx.x % GROUP + GROUP * j);
#pragma unroll
                        for (int k = 0; k < 8; ++k) {
                            float before = turn == 0 ? 0.0f : shares[at + k];
                            shares[at + k] = before + dgain[8 * j + k];
                            if constexpr (KIND == LAYER) {
                                before = turn == 0 ? 0.0f : bias_shares[at + k];
                                bias_shares[at + k] = before + dbias[8 * j + k];
                            }
                        }
                    }
                }
                __syncthreads();
            }
            for (uint32_t at = threadIdx.x; at < channels; at += GROUPS * GROUP) {
                to[at] = shares[at];
                if constexpr (KIND == LAYER) to[channels + at] = bias_shares[at];
            }
        } else {
#pragma unroll
            for (int j = 0; j < VECTORS; ++j) {
                uint32_t at = 8 * (threadIdx.x % GROUP + GROUP * j);
                if (at >= channels) continue;
                store_floats(to + at, dgain + 8 * j);
                if constexpr (KIND == LAYER) store_floats(to + channels + at, dbias + 8 * j);
            }
        }
    }
}

// One row for each block, of any width.
template <int KIND>
DEVICE void plain_forward(uint32_t rows, uint32_t channels, const bf16* x, const bf16* residual,
                          bf16* sum, const float* gain, const float* bias, float epsilon, bf16* y,
                          float* stats) {
    uint64_t row = blockIdx.x, start = row * channels;
    if (row >= rows) return;
    const bf16* from = x + start;
    if (residual != nullptr) {
        // Every thread reads again only what it wrote itself.
        for (uint32_t c = threadIdx.x; c < channels; c += PLAIN_THREADS) {
            sum[start + c] = to_bf16(to_float(from[c]) + to_float(residual[start + c]));
        }
        from = sum + start;
    }
    float mean = 0.0f, square = 0.0f;
    if constexpr (KIND == LAYER) {
        for (uint32_t c = threadIdx.x; c < channels; c += PLAIN_THREADS) mean += to_float(from[c]);
        mean = block_sum<PLAIN_THREADS>(mean) / float(channels);
    }
    for (uint32_t c = threadIdx.x; c < channels; c += PLAIN_THREADS) {
        float value = to_float(from[c]) - mean;
        square += value * value;
    }
    float scale = 1.0f / sqrtf(block_sum<PLAIN_THREADS>(square) / float(channels) + epsilon);
    if (threadIdx.x == 0) {
        if constexpr (KIND == LAYER) {
            stats[2 * row] = mean;
            stats[2 * row + 1] = scale;
        } else {
            stats[row] = scale;
        }
    }
    for (uint32_t c = threadIdx.x; c < channels; c += PLAIN_THREADS) {
        float result = (to_float(from[c]) - mean) * scale;
        if (gain != nullptr) result *= gain[c];
        if (bias != nullptr) result += bias[c];
        y[start + c] = to_bf16(result);
    }
}

template <int KIND>
DEVICE void plain_backward(uint32_t rows, uint32_t channels, const bf16* x, const float* gain,
                           const float* stats, const bf16* dy, const bf16* dsum, bf16* dx) {
    uint64_t row = blockIdx.x, start = row * channels;
    if (row >= rows) return;
    float mean = KIND == LAYER ? stats[2 * row] : 0.0f;
    float scale = KIND == LAYER ? stats[2 * row + 1] : stats[row];
    float shift = 0.0f, tilt = 0.0f;
    for (uint32_t c = threadIdx.x; c < channels; c += PLAIN_THREADS) {
        float slope = to_float(dy[start + c]);
        if (gain != nullptr) slope *= gain[c];
        if (KIND == LAYER) shift += slope;
        tilt += slope * (to_float(x[start + c]) - mean);
    }
    if (KIND == LAYER) shift = block_sum<PLAIN_THREADS>(shift) / float(channels);
    tilt = block_sum<PLAIN_THREADS>(tilt) * scale * scale / float(channels);
    for (uint32_t c = threadIdx.x; c < channels; c += PLAIN_THREADS) {
        float slope = to_float(dy[start + c]);
        if (gain != nullptr) slope *= gain[c];
        float result = (slope - shift - (to_float(x[start + c]) - mean) * tilt) * scale;
        if (dsum != nullptr) result += to_float(dsum[start + c]);
        dx[start + c] = to_bf16(result);
    }
}

// Sums over `chunk` rows for each block along y; a thread for each channel.
template <int KIND>
DEVICE void plain_partials(uint32_t rows, uint32_t channels, uint32_t chunk, const bf16* x,
                           const float* stats, const bf16* dy, float* partials) {
    uint32_t c = blockIdx.x * PLAIN_THREADS + threadIdx.x;
    if (c >= channels) return;
    float dgain = 0.0f, dbias = 0.0f;
    uint64_t first = uint64_t(blockIdx.y) * chunk;
    for (uint64_t row = first; row < first + chunk && row < rows; ++row) {
        float mean = KIND == LAYER ? stats[2 * row] : 0.0f;
        float scale = KIND == LAYER ? stats[2 * row + 1] : stats[row];
        float slope = to_float(dy[row * channels + c]);
        dgain += slope * (to_float(x[row * channels + c]) - mean) * scale;
        dbias += slope;
    }
    constexpr int KINDS = KIND == LAYER ? 2 : 1;
    float* to = partials + uint64_t(blockIdx.y) * KINDS * channels;
    to[c] = dgain;
    if (KIND == LAYER) to[channels + c] = dbias;
}

}  // namespace norms

#define NORM_FORWARD_ARGUMENTS                                                                \
    (uint32_t rows, uint32_t channels, const bf16* x, const bf16* residual, bf16* sum,        \
     const float* gain, const float* bias, float epsilon, bf16* y, float* stats)
#define NORM_BACKWARD_ARGUMENTS                                                               \
    (uint32_t rows, uint32_t channels, const bf16* x, const float* gain, const float* stats,  \
     const bf16* dy, const bf16* dsum, bf16* dx, float* partials)
#define NORM_BACKWARD_ANY_ARGUMENTS                                                           \
    (uint32_t rows, uint32_t channels, const bf16* x, const float* gain, const float* stats,  \
     const bf16* dy, const bf16* dsum, bf16* dx)

#define NORM_FORWARD(name, KIND, GROUP, VECTORS)                                              \
    KERNEL_BOUNDS(name, norms::FORWARD_THREADS, 1, NORM_FORWARD_ARGUMENTS) {                   \
        norms::forward<norms::KIND, GROUP, VECTORS>(rows, channels, x, residual, sum, gain,     \
                                                  bias, epsilon, y, stats);                   \
    }
#define NORM_BACKWARD(name, KIND, GAIN, GROUP, VECTORS)                                       \
    KERNEL_BOUNDS(name, (GROUP == WARP ? norms::BACKWARD_THREADS : GROUP), 1,                  \
                  NORM_BACKWARD_ARGUMENTS) {                                                  \
        norms::backward<norms::KIND, GAIN, GROUP, VECTORS>(rows, channels, x, gain, stats, dy,  \
                                                         dsum, dx, partials);                 \
    }
// A row of up to 8 · GROUP · VECTORS channels.
#define NORM_WIDTH(suffix, GROUP, VECTORS)                                                    \
    NORM_FORWARD(layer_norm_forward_##suffix, LAYER, GROUP, VECTORS)                          \
    NORM_FORWARD(rms_norm_forward_##suffix, RMS, GROUP, VECTORS)                              \
    NORM_BACKWARD(layer_norm_backward_##suffix, LAYER, true, GROUP, VECTORS)                  \
    NORM_BACKWARD(rms_norm_backward_##suffix, RMS, true, GROUP, VECTORS)                      \
    NORM_BACKWARD(rms_norm_backward_plain_##suffix, RMS, false, GROUP, VECTORS)

NORM_WIDTH(256, WARP, 1)
NORM_WIDTH(512, WARP, 2)
NORM_WIDTH(768, WARP, 3)
NORM_WIDTH(1024, WARP, 4)
NORM_WIDTH(2048, norms::WIDE, 1)
NORM_WIDTH(4096, norms::WIDE, 2)
NORM_WIDTH(8192, norms::WIDE, 4)

KERNEL(layer_norm_forward_any, NORM_FORWARD_ARGUMENTS) {
    norms::plain_forward<norms::LAYER>(rows, channels, x, residual, sum, gain, bias, epsilon, y,
                                   stats);
}
KERNEL(rms_norm_forward_any, NORM_FORWARD_ARGUMENTS) {
    norms::plain_forward<norms::RMS>(rows, channels, x, residual, sum, gain, bias, epsilon, y,
                                   stats);
}
KERNEL(layer_norm_backward_any, NORM_BACKWARD_ANY_ARGUMENTS) {
    norms::plain_backward<norms::LAYER>(rows, channels, x, gain, stats, dy, dsum, dx);
}
KERNEL(rms_norm_backward_any, NORM_BACKWARD_ANY_ARGUMENTS) {
    norms::plain_backward<norms::RMS>(rows, channels, x, gain, stats, dy, dsum, dx);
}
KERNEL(layer_norm_partials_any,
       (uint32_t rows, uint32_t channels, uint32_t chunk, const bf16* x, const float* stats,
        const bf16* dy, float* partials)) {
    norms::plain_partials<norms::LAYER>(rows, channels, chunk, x, stats, dy, partials);
}
KERNEL(rms_norm_partials_any,
       (uint32_t rows, uint32_t channels, uint32_t chunk, const bf16* x, const float* stats,
        const bf16* dy, float* partials)) {
    norms::plain_partials<norms::RMS>(rows, channels, chunk, x, stats, dy, partials);
}

#undef NORM_WIDTH
#undef NORM_BACKWARD
#undef NORM_FORWARD
#undef NORM_BACKWARD_ARGUMENTS
#undef NORM_BACKWARD_ANY_ARGUMENTS
#undef NORM_FORWARD_ARGUMENTS
