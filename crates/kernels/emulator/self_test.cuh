// Kernels that tests compare the emulator's matrix instructions with the PTX manual by: a warp hands
// in what memory says, lane by lane, and hands out what it got. No part of builds for devices.
#pragma once

#include "../cuda/device.cuh"

// d += a · b, of each lane four words of a, two of b and four floats of d.
KERNEL(self_test_multiply, (const uint32_t* a, const uint32_t* b, float* d)) {
    uint32_t own_a[4], own_b[2];
    float own_d[4];
    for (int i = 0; i < 4; ++i) own_a[i] = a[4 * threadIdx.x + i];
    for (int i = 0; i < 2; ++i) own_b[i] = b[2 * threadIdx.x + i];
    for (int i = 0; i < 4; ++i) own_d[i] = d[4 * threadIdx.x + i];
    mma_bf16(own_d, own_a, own_b);
    for (int i = 0; i < 4; ++i) d[4 * threadIdx.x + i] = own_d[i];
}

// Loads four and then two 8x8 matrices, plain and transposed, from rows of eight that lie in the order
// that `places` says; twelve words a lane.
KERNEL(self_test_load, (const bf16* rows, const uint32_t* places, uint32_t* words)) {
    DYNAMIC_SHARED(bf16, memory);
    for (int i = 0; i < 8; ++i) memory[8 * threadIdx.x + i] = rows[8 * threadIdx.x + i];
    __syncthreads();
    const bf16* row = memory + 8 * places[threadIdx.x];
    uint32_t four[4], two[2];
    words += 12 * threadIdx.x;
    load_matrix_x4(four, row);
    for (int i = 0; i < 4; ++i) words[i] = four[i];
    load_matrix_x4_transposed(four, row);
    for (int i = 0; i < 4; ++i) words[4 + i] = four[i];
    load_matrix_x2(two, row);
    for (int i = 0; i < 2; ++i) words[8 + i] = two[i];
    load_matrix_x2_transposed(two, row);
    for (int i = 0; i < 2; ++i) words[10 + i] = two[i];
}

// What 16 bytes of shared memory hold in the course of two copies, the second one of zeros: before,
// with both under way, when one has come, and when both have. 16 words a lane.
KERNEL(self_test_copy, (const uint32_t* from, uint32_t* seen)) {
    DYNAMIC_SHARED(uint32_t, memory);
    uint32_t* mine = memory + 8 * threadIdx.x;
    seen += 16 * threadIdx.x;
    for (int i = 0; i < 8; ++i) mine[i] = 7;
    copy_async16(mine, from + 4 * threadIdx.x, true);
    copy_async_commit();
    copy_async16(mine + 4, from, false);
    copy_async_commit();
    for (int i = 0; i < 2; ++i) seen[i] = mine[4 * i];
    copy_async_wait<1>();
    for (int i = 0; i < 8; ++i) seen[2 + i] = mine[i];
    copy_async_wait<0>();
    for (int i = 0; i < 4; ++i) seen[10 + i] = mine[4 + i];
    seen[14] = seen[15] = 0;
}
