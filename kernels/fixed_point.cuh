// Sums that do not depend on their order: scattered gradients as 64-bit integers, in the power-of-two unit with which
// all of them fit (sweep_gradient.cu says why).
#pragma once
#include "sweep.cuh"

typedef unsigned long long Fixed;

// The bits of the largest |v|: as integers NaN and infinity are the largest.
template <int N>
__device__ __forceinline__ unsigned larger(unsigned largest, const float (&v)[N]) {
#pragma unroll
    for (int c = 0; c < N; c++) largest = max(largest, __float_as_uint(fabsf(v[c])));
    return largest;
}
__device__ __forceinline__ void note_largest(unsigned largest, unsigned* y) {
#pragma unroll
    for (int bits = 16; bits; bits >>= 1) largest = max(largest, __shfl_xor_sync(ALL_LANES, largest, bits));
    if (threadIdx.x % 32 == 0 && largest) atomicMax(y, largest);
}

// The exponent x for which 2^log_terms values up to the largest, times 2^x, add up to less than 2^62; what f32 can
// hold of it.
__device__ __forceinline__ int fixed_exponent(unsigned largest, int log_terms) {
    return min(61 + 127 - int(largest >> 23) - log_terms, 126);
}
__device__ __forceinline__ float power_of_two(int x) { return __int_as_float((x + 127) << 23); }

// d times each tap's weight into the map, N channels of a pixel.
template <int N>
__device__ __forceinline__ void scatter(Fixed* map, const Taps& t, const float (&d)[N], float scale) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        if (t.weight[i] == 0.0f) continue;
#pragma unroll
        for (int c = 0; c < N; c++) atomicAdd(map + t.at[i] + c, Fixed(llrintf(d[c] * scale * t.weight[i])));
    }
}
