// What every kernel file includes: CUDA's headers or, for the tests that run the kernels on the processor, the
// emulator's.
//
// Volumes are [D, H, W, C], channels innermost; offsets are 64 bits wide, since a Table III cost volume has 737
// million elements. Storage is f32 or f16 (`load`, `store`), arithmetic f32. Kernels are `extern "C"`, named
// `<op>_<forward|backward>[_<what>]_<f32|f16>`, and take pointers, numbers and plain structs; each is followed by
// KERNEL(name), or by BLOCK_KERNEL(name) where threads meet at barriers.
#pragma once

#if defined(__CUDACC__)
#include <cstdint>
#include <cstring>
#include <cuda_fp16.h>
#define KERNEL(name)
#define BLOCK_KERNEL(name)
// Shared memory: `SHARED(float, tile, 256)` is an array of 256 floats of the block; DYNAMIC_SHARED's size comes with
// the launch.
#define SHARED(T, name, count) __shared__ __align__(16) T name[count]
#define DYNAMIC_SHARED(T, name)                                   \
    extern __shared__ __align__(16) unsigned char name##_bytes[]; \
    T* const name = reinterpret_cast<T*>(name##_bytes)
#else
#include "cuda_host.h"
#endif

typedef long long Index;

constexpr unsigned ALL_LANES = 0xffffffffu;

// ---- storage

__device__ __forceinline__ float load(const float* p) { return *p; }
__device__ __forceinline__ float load(const __half* p) { return __half2float(*p); }
__device__ __forceinline__ void store(float* p, float v) { *p = v; }
__device__ __forceinline__ void store(__half* p, float v) { *p = __float2half_rn(v); }

// Four neighbouring channels: 16 bytes of f32, 8 of f16. The address is a multiple of that.
__device__ __forceinline__ float4 load4(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ __forceinline__ float4 load4(const __half* p) {
    uint2 raw = *reinterpret_cast<const uint2*>(p);
    __half2 a, b;
    memcpy(&a, &raw.x, 4);
    memcpy(&b, &raw.y, 4);
    float2 low = __half22float2(a), high = __half22float2(b);
    return make_float4(low.x, low.y, high.x, high.y);
}
__device__ __forceinline__ void store4(float* p, float4 v) { *reinterpret_cast<float4*>(p) = v; }
__device__ __forceinline__ void store4(__half* p, float4 v) {
    __half2 a = __floats2half2_rn(v.x, v.y), b = __floats2half2_rn(v.z, v.w);
    uint2 raw;
    memcpy(&raw.x, &a, 4);
    memcpy(&raw.y, &b, 4);
    *reinterpret_cast<uint2*>(p) = raw;
}

// Eight neighbouring channels: two accesses of 16 bytes in f32, one in f16.
struct Float8 {
    float v[8];
};
__device__ __forceinline__ Float8 load8(const float* p) {
    float4 a = load4(p), b = load4(p + 4);
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ __forceinline__ Float8 load8(const __half* p) {
    uint4 raw = *reinterpret_cast<const uint4*>(p);
    unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
    Float8 r;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        __half2 pair;
        memcpy(&pair, &words[i], 4);
        float2 f = __half22float2(pair);
        r.v[2 * i] = f.x;
        r.v[2 * i + 1] = f.y;
    }
    return r;
}
__device__ __forceinline__ void store8(float* p, const Float8& f) {
    store4(p, make_float4(f.v[0], f.v[1], f.v[2], f.v[3]));
    store4(p + 4, make_float4(f.v[4], f.v[5], f.v[6], f.v[7]));
}
__device__ __forceinline__ void store8(__half* p, const Float8& f) {
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        __half2 pair = __floats2half2_rn(f.v[2 * i], f.v[2 * i + 1]);
        memcpy(&words[i], &pair, 4);
    }
    *reinterpret_cast<uint4*>(p) = make_uint4(words[0], words[1], words[2], words[3]);
}

// ---- arithmetic

// max(v, 0) that lets NaN through, so that whoever looks for it finds it.
__device__ __forceinline__ float rectified(float v) { return v < 0.0f ? 0.0f : v; }

// ---- threads

// This thread among all of a one-dimensional grid, and how many there are.
__device__ __forceinline__ Index thread_of_grid() { return Index(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ Index threads_of_grid() { return Index(gridDim.x) * blockDim.x; }

// Sums over the lanes of a warp, the same in every lane; always in the same order.
__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int bits = 16; bits; bits >>= 1) v += __shfl_xor_sync(ALL_LANES, v, bits);
    return v;
}
__device__ __forceinline__ double warp_sum(double v) {
#pragma unroll
    for (int bits = 16; bits; bits >>= 1) v += __shfl_xor_sync(ALL_LANES, v, bits);
    return v;
}

// The sum over a block of whole warps, in every thread. `partial` is shared memory for 32 values.
template <typename T>
__device__ __forceinline__ T block_sum(T v, T* partial) {
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    v = warp_sum(v);
    __syncthreads();
    if (lane == 0) partial[warp] = v;
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < warps; i++) sum += partial[i];
    return sum;
}
