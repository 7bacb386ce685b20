// Cross-entropy of rows of logits, in nats, and its gradient.
//
// A block has one row. Its threads read groups of eight logits, thread by thread next to each other,
// and keep a maximum and the sum of exponentials below it, which is scaled down whenever the maximum
// rises; so one pass gives ln Σ exp. A maximum overlooks NaN, the sum carries it. All orders are
// fixed.
#pragma once

#include "device.cuh"
#include "groups.cuh"

namespace loss {

constexpr int THREADS = 512;
constexpr float LOG2E = 1.4426950408889634f;
// Maximum of no logits: below all that matter, and finite even when multiplied by LOG2E, so that
// rows which begin with -inf do not become NaN.
constexpr float LOWEST = -1e38f;

DEVICE float minus_infinity() { return word_as_float(0xff800000u); }
DEVICE float not_a_number() { return word_as_float(0x7fc00000u); }

// Largest of some logits, and the sum of e^(logit - top).
struct Peak {
    float top, sum;
};

DEVICE float below(float logit, float top) { return fast_exp2(fmaf(logit, LOG2E, -top * LOG2E)); }

DEVICE void include(Peak& peak, const float (&logits)[8]) {
    float top = peak.top;
#pragma unroll
    for (int k = 0; k < 8; ++k) top = fmaxf(top, logits[k]);
    if (top > peak.top) {
        peak.sum *= fast_exp2((peak.top - top) * LOG2E);
        peak.top = top;
    }
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += below(logits[k], top);
    peak.sum += sum;
}

// That of the block's logits together; every thread gets it.
DEVICE Peak of_block(Peak mine) {
    float top = block_max<THREADS>(mine.top);
    return {top, block_sum<THREADS>(mine.sum * fast_exp2((mine.top - top) * LOG2E))};
}

// Calls body(first, n, values) for those groups of the row that are this thread's, values `first` to
// `first + n`; AT_ONCE of them are read before the first is used.
template <int AT_ONCE, class T, class Body>
DEVICE void each_group(const T* row, uint32_t count, bool wide, Body body) {
    uint32_t first = 8 * threadIdx.x;
    constexpr uint32_t STEP = 8 * THREADS;
    if (wide) {
        for (; first + (AT_ONCE - 1) * STEP + 8 <= count; first += AT_ONCE * STEP) {
            float values[AT_ONCE][8];
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) groups::read8(row + first + i * STEP, values[i]);
#pragma unroll
            for (int i = 0; i < AT_ONCE; ++i) body(first + i * STEP, 8u, values[i]);
        }
    }
    for (; first < count; first += STEP) {
        float values[8];
        uint32_t n = min(count - first, 8u);
        groups::read(row + first, n, wide, values);
        body(first, n, values);
    }
}

// What is beyond the row's end adds nothing to a sum of exponentials.
DEVICE void end_at(uint32_t n, float (&logits)[8]) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
        if (k >= int(n)) logits[k] = minus_infinity();
    }
}

template <class T>
DEVICE void forward(const T* logits, const uint32_t* targets, float* losses, float* log_sums,
                    uint32_t vocab, uint32_t row_stride, int wide) {
    const T* row = logits + size_t(blockIdx.x) * row_stride;
    Peak peak = {LOWEST, 0.0f};
    each_group<4>(row, vocab, wide, [&](uint32_t, uint32_t n, float(&values)[8]) {
        end_at(n, values);
        include(peak, values);
    });
    peak = of_block(peak);
    if (threadIdx.x == 0) {
        uint32_t target = targets[blockIdx.x];
        float log_sum = peak.top + logf(peak.sum);
        log_sums[blockIdx.x] = log_sum;
        losses[blockIdx.x] =
            target < vocab ? log_sum - groups::value_of(row[target]) : not_a_number();
    }
}

// In place too: logits and dlogits may be the same.
template <class T>
DEVICE void backward(const T* logits, const uint32_t* targets, const float* log_sums,
                     const float* scale, T* dlogits, uint32_t vocab, uint32_t row_stride,
                     int wide) {
    const T* row = logits + size_t(blockIdx.x) * row_stride;
    T* drow = dlogits + size_t(blockIdx.x) * row_stride;
    uint32_t target = targets[blockIdx.x];
    float log_sum = log_sums[blockIdx.x];
    float share = target < vocab ? *scale : not_a_number();
    // The target belongs to a group of this thread, which alone writes it: first with the others,
    // then again less one. So no other value is compared with the target.
    bool has_target = target < vocab && target / 8 % THREADS == threadIdx.x;
    float at_target = has_target ? groups::value_of(row[target]) : 0.0f;
    each_group<2>(row, vocab, wide, [&](uint32_t first, uint32_t n, float(&values)[8]) {
#pragma unroll
        for (int k = 0; k < 8; ++k) values[k] = below(values[k], log_sum) * share;
        groups::write(drow + first, n, wide, values);
    });
    if (has_target) groups::put(drow + target, (below(at_target, log_sum) - 1.0f) * share);
}

// cap · tanh(logit / cap), and its derivative.
struct Capped {
    float value, slope;
};
template <bool CAPPED>
DEVICE Capped cap_softly(float logit, float cap, float inverse_cap) {
    if (!CAPPED) return {logit, 1.0f};
    float tanh = fast_tanh(logit * inverse_cap);
    return {cap * tanh, fmaf(-tanh, tanh, 1.0f)};
}

// Loss of a row of logits, which is replaced by `share` times its gradient.
template <bool CAPPED, bool KEPT>
DEVICE void loss_and_gradient(bf16* logits, const uint32_t* targets, float* losses, uint32_t vocab,
                              uint32_t row_stride, float cap, float share) {
    DYNAMIC_SHARED(bf16, kept);
    bf16* row = logits + size_t(blockIdx.x) * row_stride;
    uint32_t target = targets[blockIdx.x];
    bool known = target < vocab;
    float inverse_cap = 1.0f / cap;
    // Every thread reads this before the barriers, after which the row is written.
    Capped at_target =
        cap_softly<CAPPED>(known ? to_float(row[target]) : not_a_number(), cap, inverse_cap);
    if (KEPT) {
        // Each thread keeps what it uses itself, so it waits for its own copies alone.
        for (uint32_t first = 8 * threadIdx.x; first < vocab; first += 8 * THREADS) {
            if (first + 8 <= vocab) {
                copy_async16(kept + first, row + first, true);
            } else {
                for (uint32_t i = first; i < vocab; ++i) kept[i] = row[i];
            }
        }
        copy_async_commit();
        copy_async_wait<0>();
    }
    const bf16* source = KEPT ? kept : row;
    constexpr int AT_ONCE = KEPT ? 1 : 4;
    Peak peak = {LOWEST, 0.0f};
    each_group<AT_ONCE>(source, vocab, true, [&](uint32_t, uint32_t n, float(&values)[8]) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            values[k] = cap_softly<CAPPED>(values[k], cap, inverse_cap).value;
        }
        end_at(n, values);
        include(peak, values);
    });
    peak = of_block(peak);
    if (threadIdx.x == 0) losses[blockIdx.x] = peak.top + logf(peak.sum) - at_target.value;
    float factor = known ? share / peak.sum : not_a_number();
    each_group<KEPT ? 1 : 2>(source, vocab, true, [&](uint32_t first, uint32_t n,
                                                      float(&values)[8]) {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            Capped logit = cap_softly<CAPPED>(values[k], cap, inverse_cap);
            values[k] = below(logit.value, peak.top) * factor * logit.slope;
        }
        groups::write(row + first, n, true, values);
    });
    // As in `backward`.
    if (known && target / 8 % THREADS == threadIdx.x) {
        float gradient = fmaf(below(at_target.value, peak.top), factor, -share);
        row[target] = to_bf16(gradient * at_target.slope);
    }
}

}  // namespace loss

// Losses and ln Σ exp of rows of logits. Moves 2 (bf16) or 4 bytes a logit, one exponential each.
KERNEL_BOUNDS(loss_forward_bf16, loss::THREADS, 2,
              (const bf16* logits, const uint32_t* targets, float* losses, float* log_sums,
               uint32_t vocab, uint32_t row_stride, int wide)) {
    loss::forward(logits, targets, losses, log_sums, vocab, row_stride, wide);
}
KERNEL_BOUNDS(loss_forward_f32, loss::THREADS, 2,
              (const float* logits, const uint32_t* targets, float* losses, float* log_sums,
               uint32_t vocab, uint32_t row_stride, int wide)) {
    loss::forward(logits, targets, losses, log_sums, vocab, row_stride, wide);
}

// Gradients of rows of logits. Moves 4 (bf16) or 8 bytes a logit, one exponential each.
KERNEL_BOUNDS(loss_backward_bf16, loss::THREADS, 2,
              (const bf16* logits, const uint32_t* targets, const float* log_sums,
               const float* scale, bf16* dlogits, uint32_t vocab, uint32_t row_stride, int wide)) {
    loss::backward(logits, targets, log_sums, scale, dlogits, vocab, row_stride, wide);
}
KERNEL_BOUNDS(loss_backward_f32, loss::THREADS, 2,
              (const float* logits, const uint32_t* targets, const float* log_sums,
               const float* scale, float* dlogits, uint32_t vocab, uint32_t row_stride, int wide)) {
    loss::backward(logits, targets, log_sums, scale, dlogits, vocab, row_stride, wide);
}

// Loss and gradient at once, in place: the head's. Rows are whole groups of eight apart.
//
// The row is read twice, for the sum and for the gradient. `kept` reads it once from device memory,
// 4 bytes a logit in all, and keeps it in shared memory: a row of 50,304 takes 98.25 KiB, so two
// blocks share a multiprocessor of Hopper, one of which loads while the other computes; Ampere and
// Ada have room for one. Reading again from L2 instead would be 6 bytes a logit through L2, whose
// bandwidth is not twice that of device memory, and 264 rows under way fill half of its 50 MB; this
// is what longer rows do (`again`), and when L2 is too small for them they pay for a second read.
//
// Two exponentials a logit: of 5,504 rows of 50,304 a multiprocessor of an H200 has 2.1 M logits, which
// take it 149 us at 16 a clock, where their bytes take 277 us. With the cap two tanh more, 299 us. The
// hardware's tanh is within 2^-11 of its value, below the rounding of a logit to bf16, 2^-9.
KERNEL_BOUNDS(loss_head_kept, loss::THREADS, 2,
              (bf16* logits, const uint32_t* targets, float* losses, uint32_t vocab,
               uint32_t row_stride, float cap, float share)) {
    loss::loss_and_gradient<false, true>(logits, targets, losses, vocab, row_stride, cap, share);
}
KERNEL_BOUNDS(loss_head_kept_capped, loss::THREADS, 2,
              (bf16* logits, const uint32_t* targets, float* losses, uint32_t vocab,
               uint32_t row_stride, float cap, float share)) {
    loss::loss_and_gradient<true, true>(logits, targets, losses, vocab, row_stride, cap, share);
}
KERNEL_BOUNDS(loss_head_again, loss::THREADS, 2,
              (bf16* logits, const uint32_t* targets, float* losses, uint32_t vocab,
               uint32_t row_stride, float cap, float share)) {
    loss::loss_and_gradient<false, false>(logits, targets, losses, vocab, row_stride, cap, share);
}
KERNEL_BOUNDS(loss_head_again_capped, loss::THREADS, 2,
              (bf16* logits, const uint32_t* targets, float* losses, uint32_t vocab,
               uint32_t row_stride, float cap, float share)) {
    loss::loss_and_gradient<true, false>(logits, targets, losses, vocab, row_stride, cap, share);
}
