// Attention's results on tensor cores. See attention.cuh.
#pragma once

#include "device.cuh"

namespace attention {

// A block owns 64·M queries of a pair and meets tiles of 64 keys and values, from the first that its
// queries see to the diagonal. The softmax is formed on the way: each row knows the largest score so
// far and its sum of exponentials relative to that, and shrinks both and its results when a larger
// one comes. Shared memory: queries, and two stages of keys and values.
//
// Moves, if neighbouring blocks find keys and values in L2: 8 bytes a channel and position (three
// bf16 in, one out), and 4 bytes a position and head. Computes 4·T·seen·width operations a pair, where
// `seen` is the mean number of keys that a query sees, and as many exponentials as scores.
template <int WIDTH, int M, bool KEPT>
DEVICE void forward(const bf16* qkv, bf16* y, float* log_sums, int length, int heads, int window) {
    constexpr int QUERIES = OWNED<M>, TILE = PASSING * WIDTH, N = PASSING / 8;
    DYNAMIC_SHARED(bf16, memory);
    bf16* queries = memory;
    bf16* stages = memory + QUERIES * WIDTH;

    // The last queries see most keys: they come first, so that the grid ends with short blocks.
    int tiles = (length + QUERIES - 1) / QUERIES;
    int index = blockIdx.x / tiles, tile = tiles - 1 - int(blockIdx.x % tiles);
    Pair pair = pair_at(index, length, heads, WIDTH);
    int stride = 3 * pair.channels;
    const bf16* from = qkv + pair.packed;
    int first = tile * QUERIES, lane = threadIdx.x % WARP;
    int own = threadIdx.x / WARP * 16 * M, query = first + own, last_query = query + 16 * M - 1;
    int begin = max(0, first - window + 1) / PASSING * PASSING, end = min(first + QUERIES, length);

    // Tiles take turns.
    auto stage_of = [&](int key) { return stages + key / PASSING % 2 * (2 * TILE); };
    auto fetch_tile = [&](int key) {
        bf16* stage = stage_of(key);
        fetch<WIDTH, PASSING>(stage, from, pair.channels, stride, key, length);
        fetch<WIDTH, PASSING>(stage + TILE, from, 2 * pair.channels, stride, key, length);
        copy_async_commit();
    };

    fetch<WIDTH, QUERIES>(queries, from, 0, stride, first, length);
    fetch_tile(begin);
    copy_async_wait<0>();
    __syncthreads();
    Rows<WIDTH, M, KEPT> rows;
    take(rows, queries, own);

    // Scores become powers of two, which are what a device computes exponentials with.
    float to_powers = LOG2_E / sqrtf(float(WIDTH));
    float sums[M][WIDTH / 8][4], tops[M][2], totals[M][2];
    clear(sums);
#pragma unroll
    for (int m = 0; m < M; ++m) {
        tops[m][0] = tops[m][1] = LOWEST;
        totals[m][0] = totals[m][1] = 0.0f;
    }

    // Meets one tile. There are two copies of this: where all queries of the warp see all keys of the
    // tile, which most do, masks would be an eighth of the instructions.
    auto meet = [&](int key, auto whole) {
        const bf16* keys = stage_of(key);
        float scores[M][N][4];
        clear(scores);
        multiply_by_rows<WIDTH, M, N, KEPT>(scores, rows, keys, 0);
        // Keys from `length` on are later than any query that counts.
        int last_key = key + PASSING - 1;
        if (!decltype(whole)::value && !all_seen(query, last_query, key, last_key, window)) {
            int distance = query + lane / 4 - (key + lane % 4 * 2);
#pragma unroll
            for (int m = 0; m < M; ++m) {
#pragma unroll
                for (int n = 0; n < N; ++n) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        int further = 16 * m + i / 2 * 8 - (8 * n + i % 2);
                        if (!seen(distance + further, window)) scores[m][n][i] = -INFINITY;
                    }
                }
            }
        }
#pragma unroll
        for (int m = 0; m < M; ++m) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float top = tops[m][half];
#pragma unroll
                for (int n = 0; n < N; ++n) {
                    top = fmaxf(top, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
                }
                // A row lies in four neighbouring lanes.
                top = fmaxf(top, __shfl_xor_sync(WHOLE_WARP, top, 1));
                top = fmaxf(top, __shfl_xor_sync(WHOLE_WARP, top, 2));
                float shrink = fast_exp2((tops[m][half] - top) * to_powers);
                float offset = top * to_powers, total = 0.0f;
                tops[m][half] = top;
#pragma unroll
                for (int n = 0; n < N; ++n) {
#pragma unroll
                    for (int i = 2 * half; i < 2 * half + 2; ++i) {
                        float share = fast_exp2(fmaf(scores[m][n][i], to_powers, -offset));
                        scores[m][n][i] = share;
                        total += share;
                    }
                }
                totals[m][half] = fmaf(totals[m][half], shrink, total);
#pragma unroll
                for (int n = 0; n < WIDTH / 8; ++n) {
                    sums[m][n][2 * half] *= shrink;
                    sums[m][n][2 * half + 1] *= shrink;
                }
            }
        }
        multiply_by_columns<WIDTH, M, N>(sums, scores, keys + TILE, 0);
    };

    for (int key = begin; key < end; key += PASSING) {
        bool more = key + PASSING < end;
        if (more) fetch_tile(key + PASSING);
        int last_key = key + PASSING - 1;
        if (any_seen(query, last_query, key, last_key, window)) {
            // Wider heads have no registers for two loops.
            if (WIDTH <= 64 && all_seen(query, last_query, key, last_key, window)) {
                meet(key, Known<true>());
            } else {
                meet(key, Known<false>());
            }
        }
        if (more) {
            // Now the next tile is there, and nobody reads the one that the next copy overwrites.
            copy_async_wait<0>();
            __syncthreads();
        }
    }

    float factors[M][2];
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float total = totals[m][half];
            total += __shfl_xor_sync(WHOLE_WARP, total, 1);
            total += __shfl_xor_sync(WHOLE_WARP, total, 2);
            factors[m][half] = 1.0f / total;
            int row = query + 16 * m + 8 * half + lane / 4;
            if (lane % 4 == 0 && row < length) {
                float top = tops[m][half] * to_powers * LN_2;
                log_sums[size_t(index) * length + row] = top + fast_log(total);
            }
        }
    }
    write_rows<WIDTH, M>(y + pair.plain, pair.channels, query, length, sums, factors, queries, own);
}

}  // namespace attention

KERNEL_BOUNDS(attention_forward_64, 128, 2,
              (const bf16* qkv, bf16* y, float* log_sums, int length, int heads, int window)) {
    attention::forward<64, 2, true>(qkv, y, log_sums, length, heads, window);
}

KERNEL_BOUNDS(attention_forward_128, 128, 2,
              (const bf16* qkv, bf16* y, float* log_sums, int length, int heads, int window)) {
    attention::forward<128, 2, false>(qkv, y, log_sums, length, heads, window);
}
