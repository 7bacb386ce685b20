// Steps of AdamW and Lion: any number of tensors of any sizes in a launch.
//
// All state is f32; a gradient is f32 or bf16; a shadow is the parameter rounded to bf16, for the
// products of the next step.
//
// All are bound by memory. Bytes per value, for f32 gradients and with a shadow: AdamW 16 read and 14
// written, Lion 12 and 10; AdamW that is cautious in its update 28 and 14, in two launches.
#pragma once

#include "device.cuh"
#include "step_tables.cuh"

namespace optimizer {

using namespace step_tables;

// The numbers of a step on one tensor.
struct AdamW {
    float rate, keep, beta1, beta2, correct1, correct2, epsilon;
    uint32_t caution;
};
constexpr uint32_t CAUTIOUS_UPDATE = 1;
constexpr uint32_t CAUTIOUS_DECAY = 2;

struct Lion {
    float rate, keep, beta1, beta2;
    float unused[4];
};

// Whether both are positive or both negative.
DEVICE bool agree(float a, float b) { return (a > 0.0f && b > 0.0f) || (a < 0.0f && b < 0.0f); }

// 1, -1, or the number itself where it is zero or not a number.
DEVICE float sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; }

// Takes a gradient, already scaled, into the moments.
DEVICE void remember(const AdamW& step, float g, float& m, float& v) {
    m = step.beta1 * m + (1.0f - step.beta1) * g;
    v = step.beta2 * v + (1.0f - step.beta2) * g * g;
}

}  // namespace optimizer

// Takes the gradients of cautious tensors into their moments, and counts in `kept`, one number a
// tensor and zero before, where the first moment has the gradient's sign.
KERNEL_BOUNDS(adamw_remember, 256, 5,
              (const step_tables::Tensor* tensors, const uint32_t* first_blocks, uint32_t n_tensors,
               const optimizer::AdamW* steps, const float* scale_at, uint32_t* kept)) {
    using namespace optimizer;
    const Work work = work_of_block(tensors, first_blocks, n_tensors);
    const Tensor tensor = tensors[work.tensor];
    const AdamW step = steps[work.tensor];
    if (!(step.caution & CAUTIOUS_UPDATE)) return;
    const float scale = *scale_at;
    int agreeing = 0;
    each_four(work, tensor.flags, [&](auto fours, uint64_t i, int n) {
        float g[4], m[4], v[4];
        load_gradient(fours, g, tensor, i, n);
        load4(fours, m, tensor.first + i, n);
        load4(fours, v, tensor.second + i, n);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            remember(step, g[k] * scale, m[k], v[k]);
            // What lies beyond the end is zero, and agrees with nothing.
            agreeing += agree(m[k], g[k] * scale);
        }
        store4(fours, tensor.first + i, m, n);
        store4(fours, tensor.second + i, v, n);
    });
    // A block's count is exact as a float, and the order of integers does not matter.
    const float total = block_sum<THREADS>(float(agreeing));
    if (threadIdx.x == 0) atomicAdd(&kept[work.tensor], uint32_t(total));
}

// One step of AdamW. Tensors that are cautious in their update come after `adamw_remember`, with
// moments that already know the gradient.
KERNEL_BOUNDS(adamw_step, 256, 5,
              (const step_tables::Tensor* tensors, const uint32_t* first_blocks, uint32_t n_tensors,
               const optimizer::AdamW* steps, const float* scale_at, const uint32_t* kept,
               float* shares)) {
    using namespace optimizer;
    const Work work = work_of_block(tensors, first_blocks, n_tensors);
    const Tensor tensor = tensors[work.tensor];
    const AdamW step = steps[work.tensor];
    const float scale = *scale_at;
    const bool cautious = step.caution & CAUTIOUS_UPDATE;
    // Factors on the change, with agreement and without.
    float agreed = 1.0f, disagreed = 1.0f;
    if (cautious) {
        agreed = float(tensor.count) / (float(kept[work.tensor]) + 1.0f);
        disagreed = 0.0f;
    }
    const float disagreed_keep = step.caution & CAUTIOUS_DECAY ? 1.0f : step.keep;
    float gradients = 0.0f, updates = 0.0f, values = 0.0f;
    each_four(work, tensor.flags, [&](auto fours, uint64_t i, int n) {
        float p[4], g[4], m[4], v[4];
        load4(fours, p, tensor.parameter + i, n);
        load_gradient(fours, g, tensor, i, n);
        load4(fours, m, tensor.first + i, n);
        load4(fours, v, tensor.second + i, n);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            // Without epsilon, zeros beyond the end would not stay zeros.
            if (k >= n) continue;
            const float scaled = g[k] * scale;
            if (!cautious) remember(step, scaled, m[k], v[k]);
            const float plain =
                step.rate * (m[k] * step.correct1) / (sqrtf(v[k] * step.correct2) + step.epsilon);
            const float change = plain * (agree(m[k], scaled) ? agreed : disagreed);
            const float keep = agree(change, p[k]) ? step.keep : disagreed_keep;
            const float after = p[k] * keep - change;
            gradients += g[k] * g[k];
            updates += (after - p[k]) * (after - p[k]);
            values += p[k] * p[k];
            p[k] = after;
        }
        store4(fours, tensor.parameter + i, p, n);
        if (!cautious) {
            store4(fours, tensor.first + i, m, n);
            store4(fours, tensor.second + i, v, n);
        }
        if (tensor.shadow != nullptr) store4(fours, tensor.shadow + i, p, n);
    });
    if (shares != nullptr) store_sums(shares, gradients, updates, values);
}

// One step of Lion.
KERNEL_BOUNDS(lion_step, 256, 4,
              (const step_tables::Tensor* tensors, const uint32_t* first_blocks, uint32_t n_tensors,
               const optimizer::Lion* steps, const float* scale_at, float* shares)) {
    using namespace optimizer;
    const Work work = work_of_block(tensors, first_blocks, n_tensors);
    const Tensor tensor = tensors[work.tensor];
    const Lion step = steps[work.tensor];
    const float scale = *scale_at;
    float gradients = 0.0f, updates = 0.0f, values = 0.0f;
    each_four(work, tensor.flags, [&](auto fours, uint64_t i, int n) {
        float p[4], g[4], m[4];
        load4(fours, p, tensor.parameter + i, n);
        load_gradient(fours, g, tensor, i, n);
        load4(fours, m, tensor.first + i, n);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const float scaled = g[k] * scale;
            const float mean = step.beta1 * m[k] + (1.0f - step.beta1) * scaled;
            m[k] = step.beta2 * m[k] + (1.0f - step.beta2) * scaled;
            const float after = p[k] * step.keep - step.rate * sign(mean);
            gradients += g[k] * g[k];
            updates += (after - p[k]) * (after - p[k]);
            values += p[k] * p[k];
            p[k] = after;
        }
        store4(fours, tensor.parameter + i, p, n);
        store4(fours, tensor.first + i, m, n);
        if (tensor.shadow != nullptr) store4(fours, tensor.shadow + i, p, n);
    });
    if (shares != nullptr) store_sums(shares, gradients, updates, values);
}

// base^n.
DEVICE double optimizer_power(double base, uint32_t n) {
    double result = 1.0;
    for (; n != 0; n >>= 1) {
        if (n & 1) result *= base;
        base *= base;
    }
    return result;
}

// Numbers of a step whose rate and place in the training lie on the device. What comes in has the rates
// for a factor of one and, where a step's number is the share of a parameter that is kept, the share that
// is taken away. With `corrects` these are AdamW's, whose corrections depend on the step; in their places
// stands what single precision has lost of the decays.
KERNEL(optimizer_schedule, (const uint32_t* base, uint32_t* steps, uint32_t n_entries,
                            const float* rate_at, const float* step_at, uint32_t corrects)) {
    const uint32_t entry = blockIdx.x * blockDim.x + threadIdx.x;
    if (entry >= n_entries) return;
    const uint32_t* const from = base + 8 * entry;
    uint32_t* const to = steps + 8 * entry;
    const double rate = *rate_at;
    const auto number = [&](int idx) { return double(__uint_as_float(from[idx])); };
    to[0] = __float_as_uint(float(number(0) * rate));
    to[1] = __float_as_uint(float(1.0 - number(1) * rate));
    for (int idx = 2; idx < 8; ++idx) to[idx] = from[idx];
    if (corrects) {
        const uint32_t step = uint32_t(*step_at + 0.5f);
        for (int idx = 0; idx < 2; ++idx) {
            const double beta = number(2 + idx) + number(4 + idx);
            const double left = 1.0 - optimizer_power(beta, step);
            to[4 + idx] = __float_as_uint(float(1.0 / left));
        }
    }
}
