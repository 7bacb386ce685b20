// Causal softmax attention, exact and without a matrix of scores in memory.
//
// `qkv` is [B, T, 3C]: all queries, all keys, all values of a position; a head owns `width`
// neighbouring channels in each third. A *pair* is one head of one sequence. Position t sees the keys
// t - window + 1 ..= t; scores are divided by the root of the width.
//
// Heads of 64 and 128 channels run on tensor cores (attention_forward.cuh, attention_backward.cuh),
// all others up to 256 on plain arithmetic (attention_plain.cuh). Here is what the former share.
//
// A block has four warps; a warp owns 16·M rows of one operand (M = 2 wherever registers allow) and
// meets all rows of the other, which come through shared memory in tiles, the next one on its way
// while one is worked on. Why two times 16 rows: the right operand of a product m16n8k16 is 256 bytes
// of shared memory, two cycles of a multiprocessor, and the product itself takes it 2 cycles on sm_80
// and about 1.6 on sm_90 (an estimate: of Hopper's tensor cores mma.sync is said to get some 60 %). Used
// for two products the operand takes one cycle each, and tensor cores are the limit.
#pragma once

#include "device.cuh"

namespace attention {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
// Rows of a tile that is passing by.
constexpr int PASSING = 64;
// Less than any score, and finite, so that the difference of two is a number.
constexpr float LOWEST = -1e30f;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

// Rows that a block owns.
template <int M>
constexpr int OWNED = 16 * M * WARPS;

// One head of one sequence.
struct Pair {
    // First row of its queries in `qkv`; keys follow `channels` later, values twice as much.
    size_t packed;
    // First row of its channels in y and dy.
    size_t plain;
    // Values from row to row of y and dy; of qkv it is three times as many. A sequence has less than
    // 2^31 values.
    int channels;
};

DEVICE Pair pair_at(int index, int length, int heads, int width) {
    int sequence = index / heads, head = index % heads, channels = heads * width;
    size_t plain = size_t(sequence) * length * channels;
    return {3 * plain + head * width, plain + head * width, channels};
}

// Whether some of these queries see some of these keys; first and last ones.
DEVICE bool any_seen(int query, int last_query, int key, int last_key, int window) {
    return key <= last_query && query - last_key < window;
}
// Whether all of them see all.
DEVICE bool all_seen(int query, int last_query, int key, int last_key, int window) {
    return last_key <= query && last_query - key < window;
}
// Whether a query sees a key that is so far before it.
DEVICE bool seen(int distance, int window) { return unsigned(distance) < unsigned(window); }

// Something that the compiler knows, so that there is code for each case.
template <bool VALUE>
struct Known {
    static constexpr bool value = VALUE;
};

// Where eight values of a tile in shared memory are. Rows are not padded: their eights change places,
// so that eight rows' same eights lie in different banks. The place of eight ^ x is the place of the
// eight, ^ 8·x; and eight rows later it is 8·WIDTH further.
template <int WIDTH>
DEVICE int place(int row, int eight) {
    return row * WIDTH + 8 * (eight ^ (row & 7));
}

// Begins to copy ROWS rows of a matrix, `stride` apart, from row `first` on, WIDTH values of each from
// `column` on; rows from `length` on become zeros.
template <int WIDTH, int ROWS>
DEVICE void fetch(bf16* tile, const bf16* matrix, int column, int stride, int first, int length) {
    constexpr int EIGHTS = WIDTH / 8, ROWS_AT_ONCE = THREADS / EIGHTS;
    static_assert(ROWS % ROWS_AT_ONCE == 0 && ROWS_AT_ONCE % 8 == 0, "a tile is too small");
    int row = threadIdx.x / EIGHTS, eight = threadIdx.x % EIGHTS;
    bf16* to = tile + place<WIDTH>(row, eight);
#pragma unroll WIDTH / 32
    for (int i = 0; i < ROWS; i += ROWS_AT_ONCE) {
        bool valid = first + row + i < length;
        // Where nothing is read, the address is still one of the matrix.
        int from = valid ? (first + row + i) * stride + 8 * eight + column : 0;
        copy_async16(to + i * WIDTH, matrix + from, valid);
    }
}

// A warp's 16·M rows of a tile as left operand of products: kept in registers, or in shared memory.
template <int WIDTH, int M, bool KEPT>
struct Rows {
    const bf16* tile;
    int first;
    uint32_t words[KEPT ? WIDTH / 16 : 1][M][4];
};

template <int WIDTH, int M>
DEVICE void load_step(uint32_t (&a)[M][4], const bf16* tile, int first, int step) {
    int lane = threadIdx.x % WARP;
    int at = place<WIDTH>(lane % 16, lane / 16) ^ 16 * step;
#pragma unroll
    for (int m = 0; m < M; ++m) load_matrix_x4(a[m], tile + (first + 16 * m) * WIDTH + at);
}

template <int WIDTH, int M, bool KEPT>
DEVICE void take(Rows<WIDTH, M, KEPT>& rows, const bf16* tile, int first) {
    rows.tile = tile;
    rows.first = first;
    if constexpr (KEPT) {
#pragma unroll
        for (int step = 0; step < WIDTH / 16; ++step) {
            load_step<WIDTH, M>(rows.words[step], tile, first, step);
        }
    }
}

// sums += rows · tileᵀ, for 8·N rows of the tile from `first` on.
template <int WIDTH, int M, int N, bool KEPT>
DEVICE void multiply_by_rows(float (&sums)[M][N][4], const Rows<WIDTH, M, KEPT>& rows,
                             const bf16* tile, int first) {
    int lane = threadIdx.x % WARP;
    int own = place<WIDTH>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int step = 0; step < WIDTH / 16; ++step) {
        uint32_t a[M][4];
        if constexpr (KEPT) {
#pragma unroll
            for (int m = 0; m < M; ++m) {
#pragma unroll
                for (int i = 0; i < 4; ++i) a[m][i] = rows.words[step][m][i];
            }
        } else {
            load_step<WIDTH, M>(a, rows.tile, rows.first, step);
        }
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            load_matrix_x4(b, tile + (first + 8 * n) * WIDTH + (own ^ 16 * step));
            uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
            for (int m = 0; m < M; ++m) {
                mma_bf16(sums[m][n], a[m], left);
                mma_bf16(sums[m][n + 1], a[m], right);
            }
        }
    }
}

// sums += shares · tile, for 8·N rows of the tile from `first` on; shares are rounded to bf16.
template <int WIDTH, int M, int N>
DEVICE void multiply_by_columns(float (&sums)[M][WIDTH / 8][4], const float (&shares)[M][N][4],
                                const bf16* tile, int first) {
    int lane = threadIdx.x % WARP;
    int own = place<WIDTH>(lane % 16, lane / 16);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
        // What a lane has of two 16x8 results is what it hands in of a 16x16 operand.
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; ++m) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float(&half)[4] = shares[m][n + i / 2];
                a[m][i] = pack_bf16(half[i % 2 * 2], half[i % 2 * 2 + 1]);
            }
        }
#pragma unroll
        for (int eight = 0; eight < WIDTH / 8; eight += 2) {
            uint32_t b[4];
            load_matrix_x4_transposed(b, tile + (first + 8 * n) * WIDTH + (own ^ 8 * eight));
            uint32_t left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
#pragma unroll
            for (int m = 0; m < M; ++m) {
                mma_bf16(sums[m][eight], a[m], left);
                mma_bf16(sums[m][eight + 1], a[m], right);
            }
        }
    }
}

template <int M, int N>
DEVICE void clear(float (&sums)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int n = 0; n < N; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[m][n][i] = 0.0f;
        }
    }
}

// Writes a warp's 16·M rows, each times its factor, as bf16 to rows `first_row` and following of a
// matrix, those below `length`; `tile` from row `first` on is the warp's to use on the way, so that
// a warp writes whole rows, 16 bytes a lane.
template <int WIDTH, int M>
DEVICE void write_rows(bf16* matrix, int stride, int first_row, int length,
                       const float (&sums)[M][WIDTH / 8][4], const float (&factors)[M][2],
                       bf16* tile, int first) {
    constexpr int EIGHTS = WIDTH / 8;
    int lane = threadIdx.x % WARP;
    __syncwarp();
#pragma unroll
    for (int m = 0; m < M; ++m) {
#pragma unroll
        for (int eight = 0; eight < EIGHTS; ++eight) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                int at = place<WIDTH>(first + 16 * m + 8 * half + lane / 4, eight) + lane % 4 * 2;
                const float(&pair)[4] = sums[m][eight];
                *reinterpret_cast<uint32_t*>(tile + at) =
                    pack_bf16(pair[2 * half] * factors[m][half], pair[2 * half + 1] * factors[m][half]);
            }
        }
    }
    __syncwarp();
#pragma unroll
    for (int i = lane; i < 16 * M * EIGHTS; i += WARP) {
        int row = i / EIGHTS, eight = i % EIGHTS;
        if (first_row + row < length) {
            Bf16x8 values = load8(tile + place<WIDTH>(first + row, eight));
            store8(matrix + (first_row + row) * stride + 8 * eight, values);
        }
    }
}

}  // namespace attention

#include "attention_backward.cuh"
#include "attention_forward.cuh"
#include "attention_plain.cuh"
