// Attention's gradients on tensor cores. See attention.cuh.
//
// With P = exp(S - log_sums) and D = rowsum(dy · y): dV = Pᵀ·dY, dS = P · (dY·Vᵀ - D), dQ = dS·K / √w,
// dK = dSᵀ·Q / √w. Gradients of queries are sums over keys and the other two sums over queries, so no
// single partition of the work owns all three. Counted for 12 heads of 64 channels, 32 sequences of
// 1,024 (a product: 25.8 GFLOP; half the square is masked), with 350 TFLOP/s and 4 TB/s:
//
// - one kernel, dQ by floating-point atomics: 5 products, 370 µs, but results depend on the schedule;
// - one kernel that writes a dQ for each tile of 128 keys, f32, and one that adds them up: 5 products
//   and 2 · 450 MB, 370 + 225 µs, and scratch that grows with T²;
// - two kernels, each with its own P: 3 + 4 products, 515 µs, no scratch but two floats a row.
//
// The third is deterministic, the simplest, and faster than the second; all terms grow as T², so that
// it stays so. It is what is done here. (Counted, not measured.)
#pragma once

#include "device.cuh"

namespace attention {

// log_sums · log2(e), and D, of one query.
typedef float2 Statistics;

// D of a block's queries, and both statistics to shared memory and to `padded` rows a pair in memory;
// zeros for queries from `length` on, whose dy and queries are zeros too: they give nothing.
template <int WIDTH, int QUERIES>
DEVICE void form_statistics(Statistics* own, Statistics* all, const bf16* y, const bf16* dy,
                            const float* log_sums, int stride, int first, int length) {
    constexpr int EIGHTS = WIDTH / 8, ROWS_AT_ONCE = THREADS / EIGHTS;
    int eight = threadIdx.x % EIGHTS;
#pragma unroll 4
    for (int row = threadIdx.x / EIGHTS; row < QUERIES; row += ROWS_AT_ONCE) {
        float dot = 0.0f, log_sum = 0.0f;
        if (first + row < length) {
            int at = (first + row) * stride + 8 * eight;
            Bf16x8 results = load8(y + at), gradients = load8(dy + at);
#pragma unroll
            for (int i = 0; i < 8; ++i) dot = fmaf(get(results, i), get(gradients, i), dot);
            log_sum = log_sums[first + row];
        }
#pragma unroll
        for (int lanes = EIGHTS / 2; lanes > 0; lanes /= 2) {
            dot += __shfl_xor_sync(WHOLE_WARP, dot, lanes);
        }
        if (eight == 0) {
            Statistics both = make_float2(log_sum * LOG2_E, dot);
            own[row] = both;
            all[first + row] = both;
        }
    }
}

// Gradients of queries, and the statistics for the other kernel.
//
// A block owns 64·M queries and meets tiles of 64 keys and values, as forward. Shared memory: queries,
// dy, two stages of keys and values, statistics. Moves 12 bytes a channel and position (q, k, v, y,
// dy in, dq out) and 12 a position and head; computes 6·T·seen·width operations a pair.
template <int WIDTH, int M, int CHUNK, bool KEPT>
DEVICE void backward_queries(const bf16* qkv, const bf16* y, const float* log_sums, const bf16* dy,
                             bf16* dqkv, Statistics* statistics, int length, int padded, int heads,
                             int window) {
    constexpr int QUERIES = OWNED<M>, TILE = PASSING * WIDTH, N = CHUNK / 8;
    DYNAMIC_SHARED(bf16, memory);
    bf16* queries = memory;
    bf16* gradients = memory + QUERIES * WIDTH;
    bf16* stages = memory + 2 * QUERIES * WIDTH;
    Statistics* own_statistics = reinterpret_cast<Statistics*>(stages + 4 * TILE);

    int tiles = (length + QUERIES - 1) / QUERIES;
    int index = blockIdx.x / tiles, tile = tiles - 1 - int(blockIdx.x % tiles);
    Pair pair = pair_at(index, length, heads, WIDTH);
    int stride = 3 * pair.channels;
    const bf16* from = qkv + pair.packed;
    int first = tile * QUERIES, lane = threadIdx.x % WARP;
    int own = threadIdx.x / WARP * 16 * M, query = first + own, last_query = query + 16 * M - 1;
    int begin = max(0, first - window + 1) / PASSING * PASSING, end = min(first + QUERIES, length);

    auto stage_of = [&](int key) { return stages + key / PASSING % 2 * (2 * TILE); };
    auto fetch_tile = [&](int key) {
        bf16* stage = stage_of(key);
        fetch<WIDTH, PASSING>(stage, from, pair.channels, stride, key, length);
        fetch<WIDTH, PASSING>(stage + TILE, from, 2 * pair.channels, stride, key, length);
        copy_async_commit();
    };

    fetch<WIDTH, QUERIES>(queries, from, 0, stride, first, length);
    fetch<WIDTH, QUERIES>(gradients, dy + pair.plain, 0, pair.channels, first, length);
    fetch_tile(begin);
    form_statistics<WIDTH, QUERIES>(own_statistics, statistics + size_t(index) * padded,
                                    y + pair.plain, dy + pair.plain,
                                    log_sums + size_t(index) * length, pair.channels, first, length);
    copy_async_wait<0>();
    __syncthreads();
    Rows<WIDTH, M, KEPT> query_rows, gradient_rows;
    take(query_rows, queries, own);
    take(gradient_rows, gradients, own);
    Statistics row_statistics[M][2];
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            row_statistics[m][half] = own_statistics[own + 16 * m + 8 * half + lane / 4];
        }
    }

    float to_powers = LOG2_E / sqrtf(float(WIDTH));
    float sums[M][WIDTH / 8][4];
    clear(sums);
    for (int tile_key = begin; tile_key < end; tile_key += PASSING) {
        bool more = tile_key + PASSING < end;
        if (more) fetch_tile(tile_key + PASSING);
        const bf16* keys = stage_of(tile_key);
#pragma unroll 1
        for (int chunk = 0; chunk < PASSING; chunk += CHUNK) {
            int key = tile_key + chunk, last_key = key + CHUNK - 1;
            if (!any_seen(query, last_query, key, last_key, window)) continue;
            float shares[M][N][4], slopes[M][N][4];
            clear(shares);
            clear(slopes);
            multiply_by_rows<WIDTH, M, N, KEPT>(shares, query_rows, keys, chunk);
            multiply_by_rows<WIDTH, M, N, KEPT>(slopes, gradient_rows, keys + TILE, chunk);
            bool whole = all_seen(query, last_query, key, last_key, window);
            int distance = query + lane / 4 - (key + lane % 4 * 2);
#pragma unroll
            for (int m = 0; m < M; ++m) {
#pragma unroll
                for (int n = 0; n < N; ++n) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        Statistics of_row = row_statistics[m][i / 2];
                        float share = fast_exp2(fmaf(shares[m][n][i], to_powers, -of_row.x));
                        int further = 16 * m + i / 2 * 8 - (8 * n + i % 2);
                        if (!whole && !seen(distance + further, window)) share = 0.0f;
                        slopes[m][n][i] = share * (slopes[m][n][i] - of_row.y);
                    }
                }
            }
            multiply_by_columns<WIDTH, M, N>(sums, slopes, keys, chunk);
        }
        if (more) {
            copy_async_wait<0>();
            __syncthreads();
        }
    }

    float factors[M][2];
#pragma unroll
    for (int m = 0; m < M; ++m) factors[m][0] = factors[m][1] = 1.0f / sqrtf(float(WIDTH));
    write_rows<WIDTH, M>(dqkv + pair.packed, stride, query, length, sums, factors, queries, own);
}

// Gradients of keys and values.
//
// A block owns 64·M keys with their values and meets tiles of 64 queries with dy and statistics, from
// the diagonal to the last that sees one of its keys. All is transposed, keys by queries, so that P
// and dS are in registers what the second products want as their left operands. Shared memory: keys,
// values, two stages of queries, dy and statistics. Moves 12 bytes a channel and position (q, k, v, dy
// in, dk, dv out) and 8 a position and head; computes 8·T·seen·width operations a pair.
template <int WIDTH, int M, int CHUNK, bool KEPT>
DEVICE void backward_keys(const bf16* qkv, const bf16* dy, bf16* dqkv, const Statistics* statistics,
                          int length, int padded, int heads, int window) {
    constexpr int KEYS = OWNED<M>, TILE = PASSING * WIDTH, N = CHUNK / 8;
    // Statistics of a tile, in bf16s.
    constexpr int FACTS = PASSING * sizeof(Statistics) / sizeof(bf16), STAGE = 2 * TILE + FACTS;
    DYNAMIC_SHARED(bf16, memory);
    bf16* keys = memory;
    bf16* values = memory + KEYS * WIDTH;
    bf16* stages = memory + 2 * KEYS * WIDTH;

    // The first keys are seen by most queries, and come first.
    int tiles = (length + KEYS - 1) / KEYS;
    int index = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    Pair pair = pair_at(index, length, heads, WIDTH);
    int stride = 3 * pair.channels;
    const bf16* from = qkv + pair.packed;
    int first = tile * KEYS, lane = threadIdx.x % WARP;
    int own = threadIdx.x / WARP * 16 * M, key = first + own, last_key = key + 16 * M - 1;
    int begin = first, end = min(length, first + KEYS - 1 + window);
    statistics += size_t(index) * padded;
    auto stage_of = [&](int query) { return stages + query / PASSING % 2 * STAGE; };
    auto fetch_tile = [&](int query) {
        bf16* stage = stage_of(query);
        fetch<WIDTH, PASSING>(stage, from, 0, stride, query, length);
        fetch<WIDTH, PASSING>(stage + TILE, dy + pair.plain, 0, pair.channels, query, length);
        constexpr int AT_ONCE = 16 / sizeof(Statistics);
        if (threadIdx.x < PASSING / AT_ONCE) {
            Statistics* to = reinterpret_cast<Statistics*>(stage + 2 * TILE);
            int at = threadIdx.x * AT_ONCE;
            copy_async16(to + at, statistics + (unsigned(query) + unsigned(at)), true);
        }
        copy_async_commit();
    };

    fetch<WIDTH, KEYS>(keys, from, pair.channels, stride, first, length);
    fetch<WIDTH, KEYS>(values, from, 2 * pair.channels, stride, first, length);
    fetch_tile(begin);
    copy_async_wait<0>();
    __syncthreads();
    Rows<WIDTH, M, KEPT> key_rows, value_rows;
    take(key_rows, keys, own);
    take(value_rows, values, own);

    float to_powers = LOG2_E / sqrtf(float(WIDTH));
    float key_sums[M][WIDTH / 8][4], value_sums[M][WIDTH / 8][4];
    clear(key_sums);
    clear(value_sums);
    for (int tile_query = begin; tile_query < end; tile_query += PASSING) {
        bool more = tile_query + PASSING < end;
        if (more) fetch_tile(tile_query + PASSING);
        const bf16* queries = stage_of(tile_query);
        const bf16* gradients = queries + TILE;
        const Statistics* facts = reinterpret_cast<const Statistics*>(gradients + TILE);
#pragma unroll 1
        for (int chunk = 0; chunk < PASSING; chunk += CHUNK) {
            int query = tile_query + chunk, last_query = query + CHUNK - 1;
            if (!any_seen(query, last_query, key, last_key, window)) continue;
            float shares[M][N][4];
            clear(shares);
            multiply_by_rows<WIDTH, M, N, KEPT>(shares, key_rows, queries, chunk);
            bool whole = all_seen(query, last_query, key, last_key, window);
            int distance = query + lane % 4 * 2 - (key + lane / 4);
            // Of two neighbouring queries.
            const float4* both = reinterpret_cast<const float4*>(facts + chunk + lane % 4 * 2);
#pragma unroll
            for (int n = 0; n < N; ++n) {
                float powers[2] = {both[4 * n].x, both[4 * n].z};
#pragma unroll
                for (int m = 0; m < M; ++m) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        float share = fast_exp2(fmaf(shares[m][n][i], to_powers, -powers[i % 2]));
                        int further = 8 * n + i % 2 - (16 * m + i / 2 * 8);
                        if (!whole && !seen(distance + further, window)) share = 0.0f;
                        shares[m][n][i] = share;
                    }
                }
            }
            multiply_by_columns<WIDTH, M, N>(value_sums, shares, gradients, chunk);
            float slopes[M][N][4];
            clear(slopes);
            multiply_by_rows<WIDTH, M, N, KEPT>(slopes, value_rows, gradients, chunk);
#pragma unroll
            for (int n = 0; n < N; ++n) {
                float dots[2] = {both[4 * n].y, both[4 * n].w};
#pragma unroll
                for (int m = 0; m < M; ++m) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) {
                        slopes[m][n][i] = shares[m][n][i] * (slopes[m][n][i] - dots[i % 2]);
                    }
                }
            }
            multiply_by_columns<WIDTH, M, N>(key_sums, slopes, queries, chunk);
        }
        if (more) {
            copy_async_wait<0>();
            __syncthreads();
        }
    }

    float scale[M][2], one[M][2];
#pragma unroll
    for (int m = 0; m < M; ++m) {
        scale[m][0] = scale[m][1] = 1.0f / sqrtf(float(WIDTH));
        one[m][0] = one[m][1] = 1.0f;
    }
    bf16* to = dqkv + pair.packed + pair.channels;
    write_rows<WIDTH, M>(to, stride, key, length, key_sums, scale, keys, own);
    to += pair.channels;
    write_rows<WIDTH, M>(to, stride, key, length, value_sums, one, values, own);
}

}  // namespace attention

KERNEL_BOUNDS(attention_backward_queries_64, 128, 2,
              (const bf16* qkv, const bf16* y, const float* log_sums, const bf16* dy, bf16* dqkv,
               float2* statistics, int length, int padded, int heads, int window)) {
    attention::backward_queries<64, 2, 32, true>(qkv, y, log_sums, dy, dqkv, statistics, length,
                                                 padded, heads, window);
}

KERNEL_BOUNDS(attention_backward_queries_128, 128, 2,
              (const bf16* qkv, const bf16* y, const float* log_sums, const bf16* dy, bf16* dqkv,
               float2* statistics, int length, int padded, int heads, int window)) {
    attention::backward_queries<128, 1, 32, true>(qkv, y, log_sums, dy, dqkv, statistics, length,
                                                  padded, heads, window);
}

KERNEL_BOUNDS(attention_backward_keys_64, 128, 2,
              (const bf16* qkv, const bf16* dy, bf16* dqkv, const float2* statistics, int length,
               int padded, int heads, int window)) {
    attention::backward_keys<64, 2, 16, true>(qkv, dy, dqkv, statistics, length, padded, heads, window);
}

KERNEL_BOUNDS(attention_backward_keys_128, 128, 2,
              (const bf16* qkv, const bf16* dy, bf16* dqkv, const float2* statistics, int length,
               int padded, int heads, int window)) {
    attention::backward_keys<128, 1, 32, false>(qkv, dy, dqkv, statistics, length, padded, heads,
                                                window);
}
