// What the convolutions on tensor cores have in common beside the products: sums that begin with the bias, fragments of
// weights, and how a lane's channels are finished and stored, RUN neighbouring ones of a pixel at a time.
#pragma once
#include "tensor_core.cuh"

template <int RUN>
struct Channels {
    float v[RUN];
};

template <int RUN>
__device__ __forceinline__ void add_channels(Channels<RUN>& sum, const __half* p) {
    if constexpr (RUN == 8) {
        Float8 r = load8(p);
#pragma unroll
        for (int i = 0; i < 8; i++) sum.v[i] += r.v[i];
    } else if constexpr (RUN == 4) {
        float4 r = load4(p);
        sum.v[0] += r.x, sum.v[1] += r.y, sum.v[2] += r.z, sum.v[3] += r.w;
    } else {
        float2 r = __half22float2(*reinterpret_cast<const __half2*>(p));
        sum.v[0] += r.x, sum.v[1] += r.y;
    }
}

template <int RUN>
__device__ __forceinline__ void store_channels(__half* p, const Channels<RUN>& sum) {
    if constexpr (RUN == 8) {
        Float8 r;
#pragma unroll
        for (int i = 0; i < 8; i++) r.v[i] = sum.v[i];
        store8(p, r);
    } else if constexpr (RUN == 4) {
        store4(p, make_float4(sum.v[0], sum.v[1], sum.v[2], sum.v[3]));
    } else {
        *reinterpret_cast<__half2*>(p) = __floats2half2_rn(sum.v[0], sum.v[1]);
    }
}

template <int RUN>
__device__ __forceinline__ void rectify(Channels<RUN>& sum, int relu) {
#pragma unroll
    for (int i = 0; i < RUN; i++) sum.v[i] = relu && sum.v[i] < 0.0f ? 0.0f : sum.v[i];
}

// Where a lane's channels of a pixel go.
struct Own {
    __half* to;
    int channels;  // of a pixel of that output
};
__device__ __forceinline__ Own own_channels(Index pixel, int c, int co, int split, __half* y, __half* second) {
    const bool upper = c >= split;
    const int channels = upper ? co - split : split;
    return {(upper ? second + (c - split) : y + c) + pixel * channels, channels};
}

// Writes the channels from `c` on of a pixel, `beside` pixels from the one that `own` is at; its sums hold the bias
// already. All RUN at once, unless they are no whole run of one output.
template <int RUN>
__device__ __forceinline__ void finish(Channels<RUN> sum, const Own& own, int beside, Index pixel, int c, int co,
                                       int split, int relu, const __half* residual, __half* y, __half* second) {
    if (c >= co) return;
    if (co % RUN == 0 && split % RUN == 0) {
        if (residual) add_channels<RUN>(sum, residual + pixel * co + c);
        rectify(sum, relu);
        store_channels<RUN>(own.to + beside * own.channels, sum);
        return;
    }
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        if (c + i >= co) break;
        float v = sum.v[i];
        if (residual) v += load(residual + pixel * co + c + i);
        v = relu ? rectified(v) : v;
        store(c + i >= split ? second + pixel * (co - split) + c + i - split : y + pixel * split + c + i, v);
    }
}

// The channels of row `lane / 4 + 8 half` of a fragment's 16.
template <int N>
__device__ __forceinline__ Channels<N / 4> channels_of(const Accumulator* sums, int half) {
    Channels<N / 4> v;
#pragma unroll
    for (int t = 0; t < N / 8; t++) {
        v.v[2 * t] = sums[t].v[2 * half];
        v.v[2 * t + 1] = sums[t].v[2 * half + 1];
    }
    return v;
}

template <int N>
__device__ __forceinline__ void begin_sums(Accumulator* sums, const Channels<N / 4>& bias) {
#pragma unroll
    for (int t = 0; t < N / 8; t++) {
        sums[t].v[0] = sums[t].v[2] = bias.v[2 * t];
        sums[t].v[1] = sums[t].v[3] = bias.v[2 * t + 1];
    }
}

template <int RUN>
__device__ __forceinline__ Channels<RUN> load_bias(const float* bias, int c, int co) {
    Channels<RUN> v;
#pragma unroll
    for (int i = 0; i < RUN; i++) v.v[i] = c + i < co ? bias[c + i] : 0.0f;
    return v;
}

// The B fragments of N columns for one product with K = 16.
template <int N>
__device__ __forceinline__ void load_fragments_b(FragmentB* b, const unsigned* weights, int lane) {
    if constexpr (N == 8) {
        uint2 v = __ldg(reinterpret_cast<const uint2*>(weights) + lane);
        b[0].r[0] = v.x, b[0].r[1] = v.y;
    } else {
#pragma unroll
        for (int pair = 0; pair < N / 16; pair++) {
            uint4 v = __ldg(reinterpret_cast<const uint4*>(weights) + pair * 32 + lane);
            b[2 * pair].r[0] = v.x, b[2 * pair].r[1] = v.y;
            b[2 * pair + 1].r[0] = v.z, b[2 * pair + 1].r[1] = v.w;
        }
    }
}
