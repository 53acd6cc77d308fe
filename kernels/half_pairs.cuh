// Arithmetic on pairs of f16, two numbers to an instruction, each operation with one rounding to f16.
#pragma once
#include "common.cuh"

__device__ __forceinline__ __half2 pair_of_word(unsigned word) {
    __half2 pair;
    memcpy(&pair, &word, 4);
    return pair;
}
__device__ __forceinline__ unsigned word_of_pair(__half2 pair) {
    unsigned word;
    memcpy(&word, &pair, 4);
    return word;
}
__device__ __forceinline__ unsigned half_pair(float a, float b) { return word_of_pair(__floats2half2_rn(a, b)); }

// The pair of max(v, 0).
__device__ __forceinline__ unsigned rectified_pair(float a, float b) {
#if __CUDA_ARCH__ >= 800
    unsigned word;
    asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(b), "f"(a));
    return word;
#else
    return half_pair(rectified(a), rectified(b));
#endif
}

// 16 bytes of neighbouring channels.
struct Pairs4 {
    __half2 v[4];
};
__device__ __forceinline__ Pairs4 load_pairs(const void* p) {
    uint4 raw = *static_cast<const uint4*>(p);
    return {{pair_of_word(raw.x), pair_of_word(raw.y), pair_of_word(raw.z), pair_of_word(raw.w)}};
}
