// What `device.cuh` uses of CUDA's header for bf16, for a compiler at run time that has no such
// header. One instruction each, on every device from compute capability 8.0 on.
#pragma once

struct __align__(2) __nv_bfloat16 {
    unsigned short bits;
};
struct __align__(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

__device__ __forceinline__ float __bfloat162float(__nv_bfloat16 value) {
    float wide;
    asm("mov.b32 %0, {0, %1};" : "=f"(wide) : "h"(value.bits));
    return wide;
}

// To the nearest, even where two are as near.
__device__ __forceinline__ __nv_bfloat16 __float2bfloat16_rn(float value) {
    __nv_bfloat16 rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(value));
    return rounded;
}

__device__ __forceinline__ __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
    __nv_bfloat162 pair;
    pair.x = __float2bfloat16_rn(low);
    pair.y = __float2bfloat16_rn(high);
    return pair;
}
