// What the kernels of narrow stages share: hypotheses of each pixel's own, and whole pixels of few channels.
#pragma once
#include "sweep.cuh"

// Distance between hypotheses around 1 / depth `rho`: max(spacing[0], spacing[1] rho^2).
__device__ __forceinline__ float spacing_at(const float* spacing, float rho) {
    return fmaxf(spacing[0], spacing[1] * rho * rho);
}

// C channels of a pixel from 16-byte addresses.
template <int C>
__device__ __forceinline__ void load_pixel(const float* p, float (&v)[C]) {
#pragma unroll
    for (int c = 0; c < C; c += 4) {
        float4 f = load4(p + c);
        v[c] = f.x, v[c + 1] = f.y, v[c + 2] = f.z, v[c + 3] = f.w;
    }
}
template <int C>
__device__ __forceinline__ void load_pixel(const __half* p, float (&v)[C]) {
#pragma unroll
    for (int c = 0; c < C; c += 8) {
        Float8 f = load8(p + c);
#pragma unroll
        for (int i = 0; i < 8; i++) v[c + i] = f.v[i];
    }
}

// Extents; `top`: the row of the sources' reference that row 0 is; `map_pixels`: from one source's map to the next.
struct NarrowShape {
    int count, hypotheses, height, width, top, map_pixels;
};

// Pixels of a row of a source's map, from its row of numbers.
__device__ __forceinline__ int width_of(const float* source) { return int(source[13]); }

// A pixel of the reference and what is searched there: hypothesis k is around + (k - middle) step, not beyond infinity.
struct Searched {
    float x, y, around, step, middle;
    __device__ __forceinline__ float rho(int k) const { return fmaxf(fmaf(float(k) - middle, step, around), 0.0f); }
};
__device__ __forceinline__ Searched searched(const float* guess, const float* spacing, const NarrowShape& g, Index i) {
    const float around = guess[i];
    return {float(int(i % g.width)), float(int(i / g.width) + g.top), around, spacing_at(spacing, around),
            0.5f * float(g.hypotheses - 1)};
}

// Differences of a source's feature at the taps from the reference's.
template <int C, typename T>
__device__ __forceinline__ void differences(const T* map, const Taps& t, const float (&reference)[C], float (&f)[C]) {
    float tap[C];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        load_pixel<C>(map + t.at[i], tap);
#pragma unroll
        for (int c = 0; c < C; c++) f[c] = i == 0 ? tap[c] * t.weight[i] : fmaf(tap[c], t.weight[i], f[c]);
    }
#pragma unroll
    for (int c = 0; c < C; c++) f[c] -= reference[c];
}
