// Rows of a table by token, and the sums of gradients by token.
//
// The gradient of a row is the sum over all positions of its token, up to a few per cent of them for
// one token. Positions are sorted by token, which is stable, so that the order of each sum is that
// of the positions; then the sorted order is cut into pieces of equal length, and each is summed by
// a block of its own. Tokens that lie in several pieces are put together in a second step.
#pragma once

#include "device.cuh"
#include "groups.cuh"

namespace embedding {

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;

DEVICE float not_a_number() { return word_as_float(0x7fc00000u); }

template <class T>
DEVICE void forward(const T* table, const uint32_t* tokens, bf16* y, uint32_t rows,
                    uint32_t channels, uint32_t count, int wide) {
    uint32_t position = blockIdx.x * WARPS + threadIdx.x / WARP;
    if (position >= count) return;
    uint32_t token = tokens[position];
    const T* from = table + size_t(min(token, rows - 1)) * channels;
    bf16* to = y + size_t(position) * channels;
    for (uint32_t first = 8 * (threadIdx.x % WARP); first < channels; first += 8 * WARP) {
        float values[8];
        uint32_t n = min(channels - first, 8u);
        groups::read(from + first, n, wide, values);
        if (token >= rows) {
#pragma unroll
            for (int k = 0; k < 8; ++k) values[k] = not_a_number();
        }
        groups::write(to + first, n, wide, values);
    }
}

// Sorting goes by digits of eight bits, the lowest first: how often does each digit occur in each
// tile of items, where do the tile's items of this digit therefore go, and move them there.
constexpr int DIGITS = 256;
// Items of a warp: a few times as many as it has lanes.
constexpr int STRIPS = 4;
constexpr uint32_t TILE = WARPS * STRIPS * WARP;
// In a position: its token was none of the table's.
constexpr uint32_t UNKNOWN = 0x80000000u;

DEVICE uint32_t digit_of(uint32_t key, uint32_t shift) { return key >> shift & (DIGITS - 1); }

// What a lane adds to the sum of the lanes before it.
DEVICE uint32_t sum_up_to(uint32_t value) {
    int lane = threadIdx.x % WARP;
#pragma unroll
    for (int by = 1; by < WARP; by *= 2) {
        uint32_t before = __shfl_up_sync(WHOLE_WARP, value, by);
        if (lane >= by) value += before;
    }
    return value;
}

// Lanes with the same digit, among those that take part.
DEVICE uint32_t peers_of(uint32_t digit, bool takes_part) {
    uint32_t peers = __ballot_sync(WHOLE_WARP, takes_part);
#pragma unroll
    for (int bit = 0; bit < 8; ++bit) {
        bool is_set = digit >> bit & 1;
        uint32_t others = __ballot_sync(WHOLE_WARP, is_set);
        peers &= is_set ? others : ~others;
    }
    return peers;
}

// Longest piece of the sorted order.
constexpr int MOST_PIECE = 256;
// Neighbour of the first and of the last item.
constexpr uint32_t NOBODY = 0xffffffffu;
constexpr int PIECE_THREADS = 128;

}  // namespace embedding

// y[n] = table[tokens[n]], NaN where there is no such row. Moves 4 (bf16) or 6 bytes a channel.
KERNEL(embedding_forward_bf16, (const bf16* table, const uint32_t* tokens, bf16* y, uint32_t rows,
                                uint32_t channels, uint32_t count, int wide)) {
    embedding::forward(table, tokens, y, rows, channels, count, wide);
}
KERNEL(embedding_forward_f32, (const float* table, const uint32_t* tokens, bf16* y, uint32_t rows,
                               uint32_t channels, uint32_t count, int wide)) {
    embedding::forward(table, tokens, y, rows, channels, count, wide);
}

// How often each digit occurs in each tile: counts[digit][tile]. 4 bytes an item.
KERNEL(embedding_count, (const uint32_t* keys, uint32_t* counts, uint32_t count, uint32_t rows,
                         uint32_t shift)) {
    using namespace embedding;
    __shared__ uint32_t in_tile[DIGITS];
    in_tile[threadIdx.x] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < TILE; i += THREADS) {
        uint32_t at = blockIdx.x * TILE + i;
        // Sums of integers do not depend on their order.
        if (at < count) atomicAdd(&in_tile[digit_of(min(keys[at], rows - 1), shift)], 1u);
    }
    __syncthreads();
    counts[threadIdx.x * gridDim.x + blockIdx.x] = in_tile[threadIdx.x];
}

// Counts become sums over the tiles before, in place; totals[digit] is that of all. A warp for each
// digit. 8 bytes a count, of which there is one for four items.
KERNEL(embedding_offsets, (uint32_t* counts, uint32_t* totals, uint32_t n_tiles)) {
    using namespace embedding;
    uint32_t digit = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint32_t* of_digit = counts + size_t(digit) * n_tiles;
    uint32_t before = 0;
    for (uint32_t first = 0; first < n_tiles; first += WARP) {
        uint32_t tile = first + lane;
        uint32_t count = tile < n_tiles ? of_digit[tile] : 0;
        uint32_t up_to = sum_up_to(count);
        if (tile < n_tiles) of_digit[tile] = before + up_to - count;
        before += __shfl_sync(WHOLE_WARP, up_to, WARP - 1);
    }
    if (lane == 0) totals[digit] = before;
}

// Moves items to where their digit's items go, in their old order. The first time there are no
// positions yet: an item's is its place. 16 bytes an item.
KERNEL(embedding_move, (const uint32_t* keys, const uint32_t* positions, uint32_t* to_keys,
                        uint32_t* to_positions, const uint32_t* offsets, const uint32_t* totals,
                        uint32_t count, uint32_t rows, uint32_t shift)) {
    using namespace embedding;
    __shared__ uint32_t of_warp[WARPS][DIGITS];
    __shared__ uint32_t of_warps[WARPS];
    uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    for (int i = 0; i < WARPS; ++i) of_warp[i][threadIdx.x] = 0;
    __syncthreads();

    // Each item's place among those of its warp with the same digit.
    uint32_t key[STRIPS], position[STRIPS], place[STRIPS];
    uint32_t first = blockIdx.x * TILE + warp * STRIPS * WARP + lane;
#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip) {
        uint32_t at = first + strip * WARP;
        bool is_item = at < count;
        uint32_t token = is_item ? keys[at] : 0;
        key[strip] = min(token, rows - 1);
        position[strip] = at | (token < rows ? 0 : UNKNOWN);
        if (is_item && positions != nullptr) position[strip] = positions[at];
        uint32_t digit = digit_of(key[strip], shift);
        uint32_t peers = peers_of(digit, is_item);
        uint32_t peers_before = __popc(peers & ((1u << lane) - 1));
        place[strip] = of_warp[warp][digit] + peers_before;
        __syncwarp();
        if (is_item && peers_before == 0) of_warp[warp][digit] += __popc(peers);
        __syncwarp();
    }

    // Where each warp's first item of each digit goes; a thread has a digit.
    uint32_t total = totals[threadIdx.x];
    uint32_t up_to = sum_up_to(total);
    if (lane == WARP - 1) of_warps[warp] = up_to;
    __syncthreads();
    uint32_t next = up_to - total + offsets[threadIdx.x * gridDim.x + blockIdx.x];
    for (uint32_t i = 0; i < warp; ++i) next += of_warps[i];
    for (int i = 0; i < WARPS; ++i) {
        uint32_t here = of_warp[i][threadIdx.x];
        of_warp[i][threadIdx.x] = next;
        next += here;
    }
    __syncthreads();

#pragma unroll
    for (int strip = 0; strip < STRIPS; ++strip) {
        if (first + strip * WARP >= count) continue;
        uint32_t to = of_warp[warp][digit_of(key[strip], shift)] + place[strip];
        to_keys[to] = key[strip];
        to_positions[to] = position[strip];
    }
}

// Sums dy over the runs of equal tokens in one piece of the sorted order. A run that is all of its
// token's positions is added to dtable. Others go to partials[piece][slot], `stride` apart: slot 0
// for a run that has begun in an earlier piece, slot 1 for one that begins here and goes on.
//
// Moves 2 bytes a channel of dy, and 8 of each row of dtable that is met.
KERNEL_BOUNDS(embedding_sum_pieces, embedding::PIECE_THREADS, 8,
              (const uint32_t* keys, const uint32_t* positions, const bf16* dy, float* dtable,
               float* partials, uint32_t count, uint32_t piece, uint32_t channels, uint32_t stride,
               int wide)) {
    using namespace embedding;
    // The piece's, between its neighbours'.
    __shared__ uint32_t key[MOST_PIECE + 2];
    __shared__ uint32_t position[MOST_PIECE];
    uint32_t first = blockIdx.x * piece, n_items = min(piece, count - first);
    for (uint32_t i = threadIdx.x; i < n_items + 2; i += blockDim.x) {
        uint32_t after = first + i;
        key[i] = after == 0 || after > count ? NOBODY : keys[after - 1];
        if (i < n_items) position[i] = positions[after];
    }
    __syncthreads();
    uint32_t channel = 8 * (blockIdx.y * blockDim.x + threadIdx.x);
    if (channel >= channels) return;
    uint32_t n = min(channels - channel, 8u);
    bool has_begun = key[0] == key[1];
    float sum[8] = {};
    constexpr int AT_ONCE = 4;
    for (uint32_t item = 0; item < n_items; item += AT_ONCE) {
        float values[AT_ONCE][8];
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            // The last ones again, rather than none.
            uint32_t of = position[min(item + i, n_items - 1)] & ~UNKNOWN;
            groups::read(dy + size_t(of) * channels + channel, n, wide, values[i]);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; ++i) {
            uint32_t at = item + i;
            if (at >= n_items) break;
            bool is_unknown = position[at] & UNKNOWN;
#pragma unroll
            for (int k = 0; k < 8; ++k) {
                sum[k] += is_unknown ? not_a_number() : values[i][k];
            }
            bool goes_on = key[at + 2] == key[at + 1];
            if (goes_on && at + 1 < n_items) continue;
            if (has_begun || goes_on) {
                size_t slot = 2 * size_t(blockIdx.x) + (has_begun ? 0 : 1);
                groups::write8(partials + slot * stride + channel, sum);
            } else {
                float* to = dtable + size_t(key[at + 1]) * channels + channel;
                float old[8];
                groups::read(to, n, wide, old);
#pragma unroll
                for (int k = 0; k < 8; ++k) sum[k] += old[k];
                groups::write(to, n, wide, sum);
            }
            has_begun = false;
#pragma unroll
            for (int k = 0; k < 8; ++k) sum[k] = 0.0f;
        }
    }
}

// Adds the partial sums of the token that begins in a piece and goes on, if there is one, to dtable:
// each warp a range of the pieces, then the warps one after the other. 128 channels a block.
//
// Moves 8 bytes a channel and partial sum, of which there are at most two a piece.
KERNEL(embedding_join_pieces, (const uint32_t* keys, const float* partials, float* dtable,
                               uint32_t count, uint32_t piece, uint32_t channels,
                               uint32_t stride)) {
    using namespace embedding;
    __shared__ float4 of_warp[WARPS][WARP];
    uint32_t first = blockIdx.x * piece, end = first + piece;
    if (end >= count) return;
    uint32_t token = keys[end - 1];
    bool has_begun_before = first > 0 && keys[first - 1] == token;
    if (keys[end] != token || has_begun_before) return;
    // The token's last item is after `end`, and before `above`.
    uint32_t last = end, above = count;
    while (above - last > 1) {
        uint32_t middle = last + (above - last) / 2;
        if (keys[middle] == token) {
            last = middle;
        } else {
            above = middle;
        }
    }
    uint32_t n_partials = last / piece - blockIdx.x + 1;
    uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    uint32_t channel = blockIdx.y * 4 * WARP + 4 * lane;
    uint32_t share = (n_partials + WARPS - 1) / WARPS;
    uint32_t from = warp * share, to = min(from + share, n_partials);
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (channel < stride) {
#pragma unroll 4
        for (uint32_t i = from; i < to; ++i) {
            size_t slot = 2 * size_t(blockIdx.x + i) + (i == 0 ? 1 : 0);
            float4 more = *reinterpret_cast<const float4*>(partials + slot * stride + channel);
            sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
        }
    }
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp != 0) return;
    for (int i = 1; i < WARPS; ++i) {
        float4 more = of_warp[i][lane];
        sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    float values[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        if (channel + k < channels) dtable[size_t(token) * channels + channel + k] += values[k];
    }
}
