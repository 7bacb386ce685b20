// Eight neighbouring values of a row as floats, whatever they are stored as; fewer at a row's end.
#pragma once

#include "device.cuh"

namespace groups {

DEVICE float value_of(bf16 value) { return to_float(value); }
DEVICE float value_of(float value) { return value; }
DEVICE void put(bf16* to, float value) { *to = to_bf16(value); }
DEVICE void put(float* to, float value) { *to = value; }

DEVICE void read8(const bf16* from, float (&values)[8]) {
    Bf16x8 packed = load8(from);
#pragma unroll
    for (int k = 0; k < 8; ++k) values[k] = get(packed, k);
}
DEVICE void read8(const float* from, float (&values)[8]) {
    float4 low = *reinterpret_cast<const float4*>(from);
    float4 high = *reinterpret_cast<const float4*>(from + 4);
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
}
DEVICE void write8(bf16* to, const float (&values)[8]) { store8(to, pack8(values)); }
DEVICE void write8(float* to, const float (&values)[8]) {
    float4* halves = reinterpret_cast<float4*>(to);
    halves[0] = make_float4(values[0], values[1], values[2], values[3]);
    halves[1] = make_float4(values[4], values[5], values[6], values[7]);
}

// The first n of eight values, the others zero; at once where `wide`, that is where `from` is a
// multiple of 16 bytes.
template <class T>
DEVICE void read(const T* from, uint32_t n, bool wide, float (&values)[8]) {
    if (wide && n == 8) {
        read8(from, values);
    } else {
#pragma unroll
        for (int k = 0; k < 8; ++k) values[k] = k < int(n) ? value_of(from[k]) : 0.0f;
    }
}
template <class T>
DEVICE void write(T* to, uint32_t n, bool wide, const float (&values)[8]) {
    if (wide && n == 8) {
        write8(to, values);
    } else {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            if (k < int(n)) put(to + k, values[k]);
        }
    }
}

}  // namespace groups
