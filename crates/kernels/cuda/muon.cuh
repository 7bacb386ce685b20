// Steps of Muon, but for the products that make its updates orthogonal.
//
// Tables and sums are those of step_tables.cuh; a "tensor" here is one matrix that is made orthogonal
// by itself. Updates of all matrices of one shape lie behind each other in one buffer of bf16.
//
// All are bound by memory. Bytes per value, for f32 gradients and with a shadow: `muon_momentum` 8
// read and 6 written, `muon_normalize` 2 and 2, `muon_update` 6 and 6.
#pragma once

#include "device.cuh"
#include "step_tables.cuh"

namespace muon {

using namespace step_tables;

// The numbers of a step on one matrix.
struct Muon {
    float rate, keep, decay;
    // Factors of momentum and gradient in the update.
    float old_share, new_share;
    float unused[3];
};

// Sixteen values of a thread: one wide access of eight, and another THREADS of such further on.
constexpr int AT_ONCE = 8;

}  // namespace muon

// Takes gradients into the momentum, writes the updates to `x`, and each block's sum of their squares
// to `norms`.
KERNEL_BOUNDS(muon_momentum, 256, 5,
              (const step_tables::Tensor* matrices, const uint32_t* first_blocks, uint32_t n_matrices,
               const muon::Muon* steps, const float* scale_at, bf16* x, float* norms,
               float* shares)) {
    using namespace muon;
    const Work work = work_of_block(matrices, first_blocks, n_matrices);
    const Tensor matrix = matrices[work.tensor];
    const Muon step = steps[work.tensor];
    const float scale = *scale_at;
    bf16* const to = x + matrix.offset;
    float squares = 0.0f, gradients = 0.0f;
    each_four(work, matrix.flags, [&](auto fours, uint64_t i, int n) {
        float g[4], m[4], update[4];
        load_gradient(fours, g, matrix, i, n);
        load4(fours, m, matrix.first + i, n);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const float scaled = g[k] * scale;
            m[k] = step.decay * m[k] + (1.0f - step.decay) * scaled;
            update[k] = step.old_share * m[k] + step.new_share * scaled;
            squares += update[k] * update[k];
            gradients += g[k] * g[k];
        }
        store4(fours, matrix.first + i, m, n);
        store4(fours, to + i, update, n);
    });
    squares = block_sum<THREADS>(squares);
    if (threadIdx.x == 0) norms[blockIdx.x] = squares;
    // The other two come with the update.
    if (shares != nullptr) {
        gradients = block_sum<THREADS>(gradients);
        if (threadIdx.x == 0) shares[3 * uint64_t(blockIdx.x)] = gradients;
    }
}

// Divides every matrix of `x` by its norm. Each block adds its matrix' squares up by itself, all of
// them in the same order.
KERNEL_BOUNDS(muon_normalize, 256, 6,
              (const step_tables::Tensor* matrices, const uint32_t* first_blocks, uint32_t n_matrices,
               const float* norms, bf16* x)) {
    using namespace muon;
    const Work work = work_of_block(matrices, first_blocks, n_matrices);
    const Tensor matrix = matrices[work.tensor];
    const uint32_t end = first_blocks[work.tensor + 1];
    float squares = 0.0f;
    for (uint32_t block = first_blocks[work.tensor] + threadIdx.x; block < end; block += THREADS) {
        squares += norms[block];
    }
    const float factor = 1.0f / (sqrtf(block_sum<THREADS>(squares)) + 1e-7f);
    bf16* const values = x + matrix.offset + work.start;
    if ((matrix.flags & WIDE) && work.count == CHUNK) {
        constexpr int N = CHUNK / (THREADS * AT_ONCE);
        Bf16x8 eight[N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
            eight[j] = load8(values + AT_ONCE * (threadIdx.x + j * THREADS));
        }
#pragma unroll
        for (int j = 0; j < N; ++j) {
            float scaled[8];
#pragma unroll
            for (int k = 0; k < 8; ++k) scaled[k] = get(eight[j], k) * factor;
            store8(values + AT_ONCE * (threadIdx.x + j * THREADS), pack8(scaled));
        }
    } else {
        for (int at = threadIdx.x; at < work.count; at += THREADS) {
            values[at] = to_bf16(to_float(values[at]) * factor);
        }
    }
}

// Takes the updates, orthogonal by now, from the parameters.
KERNEL_BOUNDS(muon_update, 256, 5,
              (const step_tables::Tensor* matrices, const uint32_t* first_blocks, uint32_t n_matrices,
               const muon::Muon* steps, const bf16* x, float* shares)) {
    using namespace muon;
    const Work work = work_of_block(matrices, first_blocks, n_matrices);
    const Tensor matrix = matrices[work.tensor];
    const Muon step = steps[work.tensor];
    const bf16* const from = x + matrix.offset;
    float updates = 0.0f, values = 0.0f;
    each_four(work, matrix.flags, [&](auto fours, uint64_t i, int n) {
        float p[4], update[4];
        load4(fours, p, matrix.parameter + i, n);
        load4(fours, update, from + i, n);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const float after = p[k] * step.keep - step.rate * update[k];
            updates += (after - p[k]) * (after - p[k]);
            values += p[k] * p[k];
            p[k] = after;
        }
        store4(fours, matrix.parameter + i, p, n);
        if (matrix.shadow != nullptr) store4(fours, matrix.shadow + i, p, n);
    });
    if (shares != nullptr) {
        updates = block_sum<THREADS>(updates);
        values = block_sum<THREADS>(values);
        if (threadIdx.x == 0) {
            shares[3 * uint64_t(blockIdx.x) + 1] = updates;
            shares[3 * uint64_t(blockIdx.x) + 2] = values;
        }
    }
}
