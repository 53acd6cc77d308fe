// Linear upsampling read at output index / factor, clamped to the last sample, fused with the addition of a skip connection and ReLU; its gradient.
//
// y[o] = x[floor(o / f)] (1 - w) + x[floor(o / f) + 1] w on every axis, + skip, relu. Shapes: x [d, h, w, C], y, skip [D, H, W, C], C a multiple of 4 (or 1).
// Forward: one thread four channels of one output. Backward: one thread four channels of one input, which gathers the outputs that read it.
// A depth of `factor_d` 1 leaves planes as they are (a batch of images). Same weights as src/ops/resample.rs.
// Deterministic. Floor: skip and y move once; x is a quarter or an eighth of that and comes from the cache.
#include "common.cuh"

struct Extents {
    int d, h, w;     // of x
    int D, H, W, C;  // of y
    int factor_d, factor;
};

struct Tap {
    int low, high;
    float weight;  // of the high sample
};

__device__ __forceinline__ Tap tap(int o, int factor, int samples) {
    int low = min(o / factor, samples - 1);
    return {low, min(low + 1, samples - 1), fminf(float(o) / float(factor) - float(low), 1.0f)};
}

__device__ __forceinline__ float4 mix(float4 a, float4 b, float w) {
    float v = 1.0f - w;
    return make_float4(a.x * v + b.x * w, a.y * v + b.y * w, a.z * v + b.z * w, a.w * v + b.w * w);
}

// Channels are taken four by four, or one by one where there is only one.
template <typename T>
__device__ __forceinline__ float4 load_channels(const T* p, int C) {
    return C % 4 == 0 ? load4(p) : make_float4(load(p), 0, 0, 0);
}
template <typename T>
__device__ __forceinline__ void store_channels(T* p, float4 v, int C) {
    if (C % 4 == 0)
        store4(p, v);
    else
        store(p, v.x);
}

template <typename T>
__device__ __forceinline__ void upsample(const T* x, const T* skip, T* y, const Extents& e, int relu) {
    int quads = e.C % 4 == 0 ? e.C / 4 : 1;
    Index n = Index(e.D) * e.H * e.W * quads;
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        int c = int(i % quads) * 4;
        Index p = i / quads;
        int X = int(p % e.W), Y = int(p / e.W % e.H), Z = int(p / e.W / e.H);
        Tap tx = tap(X, e.factor, e.w), ty = tap(Y, e.factor, e.h), tz = tap(Z, e.factor_d, e.d);
        auto at = [&](int z, int r, int q) { return load_channels(x + ((Index(z) * e.h + r) * e.w + q) * e.C + c, e.C); };
        auto row = [&](int z, int r) { return mix(at(z, r, tx.low), at(z, r, tx.high), tx.weight); };
        auto plane = [&](int z) { return mix(row(z, ty.low), row(z, ty.high), ty.weight); };
        float4 v = tz.low == tz.high || tz.weight == 0.0f ? plane(tz.low) : mix(plane(tz.low), plane(tz.high), tz.weight);
        if (skip) {
            float4 s = load_channels(skip + p * e.C + c, e.C);
            v = make_float4(v.x + s.x, v.y + s.y, v.z + s.z, v.w + s.w);
        }
        if (relu) v = make_float4(fmaxf(v.x, 0), fmaxf(v.y, 0), fmaxf(v.z, 0), fmaxf(v.w, 0));
        store_channels(y + p * e.C + c, v, e.C);
    }
}
extern "C" __global__ void __launch_bounds__(256)
    upsample_forward_f32(const float* x, const float* skip, float* y, Extents extents, int relu) {
    upsample(x, skip, y, extents, relu);
}
KERNEL(upsample_forward_f32)
extern "C" __global__ void __launch_bounds__(256)
    upsample_forward_f16(const __half* x, const __half* skip, __half* y, Extents extents, int relu) {
    upsample(x, skip, y, extents, relu);
}
KERNEL(upsample_forward_f16)

// Outputs first .. end that read sample i.
__device__ __forceinline__ int first_reader(int i, int factor) { return i == 0 ? 0 : (i - 1) * factor + 1; }
__device__ __forceinline__ int end_reader(int i, int factor, int samples, int size) {
    return i + 1 == samples ? size : min(size, (i + 1) * factor);
}
__device__ __forceinline__ float reading(int o, int i, int factor, int samples) {
    Tap t = tap(o, factor, samples);
    return (t.low == i ? 1.0f - t.weight : 0.0f) + (t.high == i ? t.weight : 0.0f);
}

extern "C" __global__ void __launch_bounds__(256) upsample_backward_f32(const float* dy, float* dx, Extents e) {
    int quads = e.C % 4 == 0 ? e.C / 4 : 1;
    Index n = Index(e.d) * e.h * e.w * quads;
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        int c = int(i % quads) * 4;
        Index p = i / quads;
        int q = int(p % e.w), r = int(p / e.w % e.h), z = int(p / e.w / e.h);
        float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 1
        for (int Z = first_reader(z, e.factor_d); Z < end_reader(z, e.factor_d, e.d, e.D); Z++) {
            float wz = reading(Z, z, e.factor_d, e.d);
#pragma unroll 1
            for (int Y = first_reader(r, e.factor); Y < end_reader(r, e.factor, e.h, e.H); Y++) {
                float wy = wz * reading(Y, r, e.factor, e.h);
#pragma unroll 1
                for (int X = first_reader(q, e.factor); X < end_reader(q, e.factor, e.w, e.W); X++) {
                    float w = wy * reading(X, q, e.factor, e.w);
                    float4 g = load_channels(dy + ((Index(Z) * e.H + Y) * e.W + X) * e.C + c, e.C);
                    sum = make_float4(sum.x + w * g.x, sum.y + w * g.y, sum.z + w * g.z, sum.w + w * g.w);
                }
            }
        }
        store_channels(dx + p * e.C + c, sum, e.C);
    }
}
KERNEL(upsample_backward_f32)
