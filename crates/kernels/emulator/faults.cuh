// Kernels with faults that the emulator has to find, and the same ones without. `tests/emulator.rs`
// runs them; they are not compiled for devices.
#pragma once

#include "../cuda/device.cuh"

// ---------------------------------------------------------------------------------- barriers

KERNEL(fault_missed_barrier, (uint32_t* to)) {
    if (threadIdx.x < 40) __syncthreads();
    to[threadIdx.x] = threadIdx.x;
}

KERNEL(fault_different_barriers, (uint32_t* to)) {
    if (threadIdx.x < 40) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    to[threadIdx.x] = threadIdx.x;
}

// Reverses what a block has; right only when `waits`.
KERNEL(fault_reverse, (uint32_t * values, uint32_t waits)) {
    DYNAMIC_SHARED(uint32_t, shared);
    shared[threadIdx.x] = values[threadIdx.x];
    if (waits != 0) __syncthreads();
    values[threadIdx.x] = shared[blockDim.x - 1 - threadIdx.x];
}

// Adds up what the opposite threads have, twice; right only when it `waits` before it writes anew.
KERNEL(fault_reuse, (uint32_t * values, uint32_t waits)) {
    DYNAMIC_SHARED(uint32_t, shared);
    uint32_t sum = 0;
    for (uint32_t round = 0; round < 2; ++round) {
        shared[threadIdx.x] = values[threadIdx.x] + round;
        __syncthreads();
        sum += shared[blockDim.x - 1 - threadIdx.x];
        if (waits != 0) __syncthreads();
    }
    values[threadIdx.x] = sum;
}

// Every lane takes what the lane below it wrote; lucky orders hide that it does not wait.
KERNEL(fault_neighbour, (uint32_t * values, uint32_t waits)) {
    DYNAMIC_SHARED(uint32_t, shared);
    shared[threadIdx.x] = values[threadIdx.x];
    if (waits != 0) __syncwarp();
    values[threadIdx.x] = threadIdx.x == 0 ? 0 : shared[threadIdx.x - 1];
}

// ---------------------------------------------------------------------------------- warps

KERNEL(fault_half_warp, (uint32_t* to)) {
    uint32_t value = threadIdx.x;
    if (threadIdx.x % 32 < 16) value = __shfl_xor_sync(WHOLE_WARP, value, 1);
    to[threadIdx.x] = value;
}

// Half of a warp is at a barrier while the others wait for it.
KERNEL(fault_half_warp_at_barrier, (uint32_t* to)) {
    uint32_t value = threadIdx.x;
    if (threadIdx.x % 32 < 16) {
        value = __shfl_xor_sync(WHOLE_WARP, value, 1);
    } else {
        __syncthreads();
    }
    to[threadIdx.x] = value;
}

KERNEL(fault_different_operations, (uint32_t* to)) {
    uint32_t value = threadIdx.x;
    if (threadIdx.x % 2 == 0) {
        value = __shfl_up_sync(WHOLE_WARP, value, 1);
    } else {
        value = __shfl_down_sync(WHOLE_WARP, value, 1);
    }
    to[threadIdx.x] = value;
}

KERNEL(fault_mask, (uint32_t* to)) {
    to[threadIdx.x] = __shfl_sync(0x0000ffffu, threadIdx.x, 0);
}

// No fault: what each operation gives, 64 results each, for two warps.
KERNEL(fault_free_exchanges, (uint32_t* to)) {
    uint32_t i = threadIdx.x, value = 100 + i;
    to[i] = __shfl_sync(WHOLE_WARP, value, 5);
    to[64 + i] = __shfl_xor_sync(WHOLE_WARP, value, 3);
    to[128 + i] = __shfl_up_sync(WHOLE_WARP, value, 2);
    to[192 + i] = __shfl_down_sync(WHOLE_WARP, value, 2);
    to[256 + i] = __ballot_sync(WHOLE_WARP, i % 3 == 0);
    to[320 + i] = uint32_t(warp_sum(float(value)));
    to[384 + i] = uint32_t(warp_max(float(value)));
    to[448 + i] = uint32_t(block_sum<64>(float(value)));
    to[512 + i] = uint32_t(block_max<64>(float(value)));
}

// ---------------------------------------------------------------------------------- memory

// One thread writes to place `at`.
KERNEL(fault_write, (uint32_t * to, int at)) {
    if (threadIdx.x == 0) to[at] = 7;
}

KERNEL(fault_read, (const uint32_t* from, int at, uint32_t* to)) {
    if (threadIdx.x == 0) *to = from[at];
}

KERNEL(fault_write_shared, (uint32_t at)) {
    DYNAMIC_SHARED(unsigned char, shared);
    if (threadIdx.x == 0) shared[at] = 7;
}

// Shared memory that nobody wrote.
KERNEL(fault_read_shared, (uint32_t* to)) {
    DYNAMIC_SHARED(uint32_t, shared);
    to[threadIdx.x] = shared[threadIdx.x];
    // What this block leaves behind, the next one must not find.
    shared[threadIdx.x] = 7;
}

KERNEL(fault_load8, (const bf16* from, uint32_t at, bf16* to)) {
    if (threadIdx.x == 0) store8(to, load8(from + at));
}

KERNEL(fault_load_matrix, (uint32_t shift, uint32_t* to)) {
    DYNAMIC_SHARED(bf16, shared);
    for (uint32_t i = threadIdx.x; i < 32 * 8 + 8; i += 32) shared[i] = to_bf16(float(i));
    __syncwarp();
    uint32_t registers[4];
    load_matrix_x4(registers, shared + 8 * threadIdx.x + shift);
    to[threadIdx.x] = registers[0];
}

// ---------------------------------------------------------------------------------- copies

// Copies 32 bytes for each thread in two groups; `most` groups may be under way when they are read.
// With 3, nothing is waited for.
KERNEL(fault_copy, (const uint32_t* from, uint32_t most, uint32_t valid, uint32_t* to)) {
    DYNAMIC_SHARED(uint32_t, shared);
    for (uint32_t group = 0; group < 2; ++group) {
        uint32_t at = 4 * (group * blockDim.x + threadIdx.x);
        copy_async16(shared + at, from + at, valid != 0);
        copy_async_commit();
    }
    if (most == 0) copy_async_wait<0>();
    if (most == 1) copy_async_wait<1>();
    if (most == 2) copy_async_wait<2>();
    for (uint32_t group = 0; group < 2; ++group) {
        uint32_t at = 4 * (group * blockDim.x + threadIdx.x);
        for (uint32_t i = 0; i < 4; ++i) to[at + i] = shared[at + i];
    }
}

// A copy that was never committed belongs to no group that one can wait for.
KERNEL(fault_uncommitted_copy, (const uint32_t* from, uint32_t* to)) {
    DYNAMIC_SHARED(uint32_t, shared);
    copy_async16(shared + 4 * threadIdx.x, from + 4 * threadIdx.x, true);
    copy_async_wait<0>();
    to[threadIdx.x] = shared[4 * threadIdx.x];
}

KERNEL(fault_misaligned_copy, (const uint32_t* from, uint32_t from_shift, uint32_t to_shift)) {
    DYNAMIC_SHARED(uint32_t, shared);
    if (threadIdx.x == 0) copy_async16(shared + to_shift, from + from_shift, true);
}

// ---------------------------------------------------------------------------------- order

// Who comes when: threads of blocks draw tickets.
KERNEL(fault_free_tickets, (uint32_t * next, uint32_t* to)) {
    to[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1u);
}
