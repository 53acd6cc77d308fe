// What the plane sweep's kernels share: where a reference pixel lies in a source view, and the bilinear feature there.
//
// A pixel belongs to a group of neighbouring lanes of one warp, each of which holds 16 bytes of its 32 channels: 8
// lanes of 4 in f32, 4 lanes of 8 in f16. Taps are computed once a group: each lane finds others (of another source,
// another plane) and passes them on by shuffles.
#pragma once
#include "common.cuh"

constexpr int CHANNELS = 32;
// Hidden channels of the voxel gate, and channels of the cost's projection.
constexpr int HIDDEN = 8;
// Numbers of a source's row: A (9), b (3), height, width, 2 unused.
constexpr int SOURCE = 16;
constexpr int SWEEP_THREADS = 256;

template <typename T>
struct Group;
template <>
struct Group<float> {
    static constexpr int LANES = 8, OWN = 4, OUT = 1;
};
template <>
struct Group<__half> {
    static constexpr int LANES = 4, OWN = 8, OUT = 2;
};

__device__ __forceinline__ void load_own(const float* p, float (&v)[4]) {
    float4 f = load4(p);
    v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
}
__device__ __forceinline__ void load_own(const __half* p, float (&v)[8]) {
    Float8 f = load8(p);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = f.v[i];
}

// The sum over a group's lanes, in every one of them.
template <int LANES>
__device__ __forceinline__ float group_sum(float v) {
#pragma unroll
    for (int bits = LANES / 2; bits; bits >>= 1) v += __shfl_xor_sync(ALL_LANES, v, bits);
    return v;
}

// Pixel of the source, which may be any number: clamped where every weight is zero anyway.
struct Position {
    float u, v;
};

// Where q lies; outside where q_z <= 1e-6 or where anything is no number.
__device__ __forceinline__ Position projected(const float* source, const float (&q)[3]) {
    bool front = q[2] > 1e-6f;
    float z = front ? q[2] : 1.0f;
    float u = front ? q[0] / z : -10.0f, v = front ? q[1] / z : -10.0f;
    return {fminf(fmaxf(u, -2.0f), source[13] + 1.0f), fminf(fmaxf(v, -2.0f), source[12] + 1.0f)};
}

// Row r of A p. The order of operations is the CPU's (src/cpu/ops/warp.rs), but for a_r1 y + a_r2, which is rounded
// once here and twice there.
__device__ __forceinline__ float ray(const float* source, int r, float x, float y) {
    return fmaf(x, source[3 * r], fmaf(source[3 * r + 1], y, source[3 * r + 2]));
}

// q = d A p + b.
__device__ __forceinline__ Position locate(const float* source, float x, float y, float d) {
    float q[3];
#pragma unroll
    for (int r = 0; r < 3; r++) q[r] = fmaf(ray(source, r, x, y), d, source[9 + r]);
    return projected(source, q);
}

// The same divided by d, for 1 / d: q = A p + rho b.
__device__ __forceinline__ Position locate_inverse(const float* source, float x, float y, float rho) {
    float q[3];
#pragma unroll
    for (int r = 0; r < 3; r++) q[r] = fmaf(rho, source[9 + r], ray(source, r, x, y));
    return projected(source, q);
}

// Four bilinear taps: offsets of channel 0 in the view's map (at most 2^24 pixels, so they fit), and weights, zero
// outside.
struct Taps {
    int at[4];
    float weight[4];
};

// At a position in a source whose pixels have C channels; `stride`: pixels of a row of the map, which may be wider
// than the source.
template <int C>
__device__ __forceinline__ Taps taps_at(const float* source, Position p, int stride) {
    int height = int(source[12]), width = int(source[13]);
    float u0 = floorf(p.u), v0 = floorf(p.v), fu = p.u - u0, fv = p.v - v0;
    int x0 = int(u0), y0 = int(v0);
    float wu[2] = {x0 >= 0 && x0 < width ? 1.0f - fu : 0.0f, x0 >= -1 && x0 < width - 1 ? fu : 0.0f};
    float wv[2] = {y0 >= 0 && y0 < height ? 1.0f - fv : 0.0f, y0 >= -1 && y0 < height - 1 ? fv : 0.0f};
    int x[2] = {min(max(x0, 0), width - 1), min(max(x0 + 1, 0), width - 1)};
    int y[2] = {min(max(y0, 0), height - 1), min(max(y0 + 1, 0), height - 1)};
    Taps t;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        t.at[i] = (y[i >> 1] * stride + x[i & 1]) * C;
        t.weight[i] = wv[i >> 1] * wu[i & 1];
    }
    return t;
}

// Of a reference pixel at depth d.
__device__ __forceinline__ Taps find_taps(const float* source, float px, float py, float d, int stride) {
    return taps_at<CHANNELS>(source, locate(source, px, py, d), stride);
}

// The taps that lane `from` of the group has found.
template <int LANES>
__device__ __forceinline__ Taps passed_on(const Taps& own, int from) {
    Taps t;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        t.at[i] = __shfl_sync(ALL_LANES, own.at[i], from, LANES);
        t.weight[i] = __shfl_sync(ALL_LANES, own.weight[i], from, LANES);
    }
    return t;
}

// The feature at the taps, this lane's channels. The map's address is the same for all threads and offsets are 32 bits
// wide (2^24 pixels of 128 bytes), so that an address takes few operations.
template <typename T, int OWN>
__device__ __forceinline__ void gather(const T* map, const Taps& t, int lane, float (&v)[OWN]) {
    float tap[4][OWN];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned offset = unsigned(t.at[i]) * unsigned(sizeof(T)) + unsigned(lane) * 16u;
        load_own(reinterpret_cast<const T*>(reinterpret_cast<const char*>(map) + offset), tap[i]);
    }
#pragma unroll
    for (int c = 0; c < OWN; c++) {
        v[c] = tap[0][c] * t.weight[0];
#pragma unroll
        for (int i = 1; i < 4; i++) v[c] = fmaf(tap[i][c], t.weight[i], v[c]);
    }
}

// A product of 32 channels with 8 rows [8, 32], the result's output l in lane l of the group.
struct Product {
    float weights[HIDDEN][4];
    float bias;

    __device__ __forceinline__ void load(const float* w, const float* b, int lane) {
#pragma unroll
        for (int o = 0; o < HIDDEN; o++) load_own(w + o * CHANNELS + lane * 4, weights[o]);
        bias = b[lane];
    }

    // Each lane's part of all 8 outputs, then three exchanges, after which it holds the sum of its own.
    __device__ __forceinline__ float apply(const float (&f)[4], int lane) const {
        float h[HIDDEN];
#pragma unroll
        for (int o = 0; o < HIDDEN; o++) {
            h[o] = weights[o][0] * f[0];
#pragma unroll
            for (int c = 1; c < 4; c++) h[o] = fmaf(weights[o][c], f[c], h[o]);
        }
#pragma unroll
        for (int bits = 4; bits; bits >>= 1) {
            bool upper = lane & bits;
#pragma unroll
            for (int i = 0; i < bits; i++) {
                float given = upper ? h[i] : h[i + bits], kept = upper ? h[i + bits] : h[i];
                h[i] = kept + __shfl_xor_sync(ALL_LANES, given, bits);
            }
        }
        return h[0] + bias;
    }
};

// A block's pixels, of at most 2^24: `there` is false past the last, where the last is computed again and not written.
struct Pixel {
    int lane;
    Index index;
    int row, column;
    bool there;
    float x, y;
};
template <typename T>
__device__ __forceinline__ Pixel pixel_of_group(int height, int width) {
    constexpr int LANES = Group<T>::LANES;
    Pixel p;
    p.lane = threadIdx.x % LANES;
    p.index = Index(blockIdx.x) * (SWEEP_THREADS / LANES) + threadIdx.x / LANES;
    Index pixels = Index(height) * width;
    p.there = p.index < pixels;
    if (!p.there) p.index = pixels - 1;
    p.row = int(unsigned(p.index) / unsigned(width));
    p.column = int(p.index) - p.row * width;
    p.x = float(p.column);
    p.y = float(p.row);
    return p;
}

// The sources' rows into shared memory.
__device__ __forceinline__ void load_sources(const float* sources, float* table, int count) {
#pragma unroll 1
    for (int i = threadIdx.x; i < count * SOURCE; i += SWEEP_THREADS) table[i] = sources[i];
    __syncthreads();
}

// A variance over all views, of a lane's channels: sums of values and of squares, first of the reference alone.
template <int OWN>
__device__ __forceinline__ void begin_variance(const float (&reference)[OWN], float (&mean)[OWN], float (&sum)[OWN]) {
#pragma unroll
    for (int c = 0; c < OWN; c++) {
        mean[c] = reference[c];
        sum[c] = reference[c] * reference[c];
    }
}
// A source's.
template <int OWN>
__device__ __forceinline__ void add_to_variance(const float (&f)[OWN], float (&mean)[OWN], float (&sum)[OWN]) {
#pragma unroll
    for (int c = 0; c < OWN; c++) {
        mean[c] += f[c];
        sum[c] = fmaf(f[c], f[c], sum[c]);
    }
}
// The mean of the squares less the square of the mean, in place of the squares' sum.
template <int OWN>
__device__ __forceinline__ void finish_variance(const float (&mean)[OWN], float (&sum)[OWN], float share) {
#pragma unroll
    for (int c = 0; c < OWN; c++) {
        float m = mean[c] * share;
        sum[c] = sum[c] * share - m * m;
    }
}
