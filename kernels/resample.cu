// Linear upsampling over all spatial axes, read at output index / factor and clamped to the last sample; with the sum
// and the ReLU that follow.
//
// x [D', H', W', C] -> y [D, H, W, C], y = relu?(upsample(x) + skip). One thread makes 16 bytes of neighbouring
// channels of one pixel; blocks lie along rows (grid.x = rows x parts of a row). Backward in gather form: each coarse
// sample adds up the fine ones that read it, in their order; a thread a pack of channels for factor 2 (27 readers), a
// warp a value for factor 8 (3375), whose lanes share the readers of a plane. No atomics, fixed orders: deterministic.
// Weights and the order of products are the processor's (ops/resample.rs). Bound by memory: forward y and skip move
// once, x an eighth of that and less, its 8 taps come from L1; backward dy once (its 27 / 8 readings a value mostly
// from L1 and L2), dx.
#include "packs.cuh"

struct Extent {
    int d, h, w;
};

// Where output index o reads: two samples and the weight of the second. Past the last sample both are that one. Factors
// are powers of two, so that no division is needed.
struct Tap {
    int low, high;
    float weight;
};
__device__ __forceinline__ Tap tap(int o, int factor, int samples) {
    int shift = 31 - __clz(factor), low = min(o >> shift, samples - 1);
    float step = __int_as_float((127 - shift) << 23);
    return {low, min(low + 1, samples - 1), fminf(float(o - (low << shift)) * step, 1.0f)};
}

// A volume that keeps its depth is as good as a batch of images.
__device__ __forceinline__ int depth_factor(const Extent& x, const Extent& y, int factor) {
    return x.d == y.d ? 1 : factor;
}

template <int L, typename T>
__device__ __forceinline__ void upsample_body(const T* __restrict__ x, const T* __restrict__ skip, T* __restrict__ y,
                                              Extent from, Extent to, int c, int factor, int parts, int relu) {
    int row = blockIdx.x / parts, item = (blockIdx.x % parts) * blockDim.x + threadIdx.x, lanes = c / L;
    if (item >= to.w * lanes) return;
    int column = item / lanes, channel = (item - column * lanes) * L;
    Tap z = tap(row / to.h, depth_factor(from, to, factor), from.d), r = tap(row % to.h, factor, from.h),
        s = tap(column, factor, from.w);
    float weights[4] = {(1.0f - z.weight) * (1.0f - r.weight), (1.0f - z.weight) * r.weight,
                        z.weight * (1.0f - r.weight), z.weight * r.weight};
    Index rows[4] = {Index(z.low) * from.h + r.low, Index(z.low) * from.h + r.high, Index(z.high) * from.h + r.low,
                     Index(z.high) * from.h + r.high};
    Pack<L> left[4], right[4];
    int low = s.low * c + channel, high = s.high * c + channel;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const T* of_row = x + rows[k] * (from.w * c);
        left[k] = load_pack<L>(of_row + low);
        right[k] = load_pack<L>(of_row + high);
    }
    Index at = (Index(row) * to.w + column) * c + channel;
    Pack<L> v;
    if (skip) v = load_pack<L>(skip + at);
#pragma unroll
    for (int i = 0; i < L; i++) {
        float a = left[0].v[i] * weights[0], b = right[0].v[i] * weights[0];
#pragma unroll
        for (int k = 1; k < 4; k++) {
            a = fmaf(left[k].v[i], weights[k], a);
            b = fmaf(right[k].v[i], weights[k], b);
        }
        float sum = fmaf(b, s.weight, a * (1.0f - s.weight));
        if (skip) sum += v.v[i];
        v.v[i] = relu ? fmaxf(sum, 0.0f) : sum;
    }
    store_pack<L>(y + at, v);
}
// skip may be null.
extern "C" __global__ void __launch_bounds__(256)
    upsample_forward_f32(const float* x, const float* skip, float* y, Extent from, Extent to, int c, int factor,
                         int parts, int relu) {
    WITH_PACK(float, c, upsample_body, x, skip, y, from, to, c, factor, parts, relu);
}
KERNEL(upsample_forward_f32)
extern "C" __global__ void __launch_bounds__(256)
    upsample_forward_f16(const __half* x, const __half* skip, __half* y, Extent from, Extent to, int c, int factor,
                         int parts, int relu) {
    WITH_PACK(__half, c, upsample_body, x, skip, y, from, to, c, factor, parts, relu);
}
KERNEL(upsample_forward_f16)

// The outputs out of `size` that read sample i.
struct Readers {
    int first, end;
};
__device__ __forceinline__ Readers readers(int i, int factor, int samples, int size) {
    return {i == 0 ? 0 : (i - 1) * factor + 1, i + 1 == samples ? size : min(size, (i + 1) * factor)};
}
// The weight of sample i in output o.
__device__ __forceinline__ float weight_in(int o, int i, int factor, int samples) {
    Tap t = tap(o, factor, samples);
    return t.low == t.high ? 1.0f : (t.low == i ? 1.0f - t.weight : t.weight);
}

// dx of one pack of channels of one coarse sample. `from` is the extent of dx, `to` that of dy.
template <int L>
__device__ __forceinline__ void gather_body(const float* __restrict__ dy, float* __restrict__ dx, Extent from,
                                            Extent to, int c, int factor, int parts) {
    int row = blockIdx.x / parts, item = (blockIdx.x % parts) * blockDim.x + threadIdx.x, lanes = c / L;
    if (item >= from.w * lanes) return;
    int column = item / lanes, channel = (item - column * lanes) * L;
    int plane = row / from.h, line = row % from.h, of_depth = depth_factor(from, to, factor);
    Readers z = readers(plane, of_depth, from.d, to.d), r = readers(line, factor, from.h, to.h),
            s = readers(column, factor, from.w, to.w);
    Pack<L> sum = {};
    for (int oz = z.first; oz < z.end; oz++) {
        float wz = weight_in(oz, plane, of_depth, from.d);
        for (int orow = r.first; orow < r.end; orow++) {
            float wr = wz * weight_in(orow, line, factor, from.h);
            const float* in_row = dy + (Index(oz) * to.h + orow) * to.w * c + channel;
#pragma unroll 3
            for (int o = s.first; o < s.end; o++) {
                float w = wr * weight_in(o, column, factor, from.w);
                Pack<L> v = load_pack<L>(in_row + Index(o) * c);
#pragma unroll
                for (int i = 0; i < L; i++) sum.v[i] = fmaf(v.v[i], w, sum.v[i]);
            }
        }
    }
    store_pack<L>(dx + (Index(row) * from.w + column) * c + channel, sum);
}
extern "C" __global__ void __launch_bounds__(256)
    upsample_backward_f32(const float* dy, float* dx, Extent from, Extent to, int c, int factor, int parts) {
    WITH_PACK(float, c, gather_body, dy, dx, from, to, c, factor, parts);
}
KERNEL(upsample_backward_f32)

// The same by a warp for each value of dx: for large factors and few channels.
extern "C" __global__ void __launch_bounds__(256)
    upsample_backward_wide_f32(const float* __restrict__ dy, float* __restrict__ dx, Extent from, Extent to, int c,
                               int factor, Index n) {
    int lane = threadIdx.x & 31;
    // The loop runs as often in all lanes of a warp.
    for (Index at = thread_of_grid() >> 5; at < n; at += threads_of_grid() >> 5) {
        int channel, column, line;
        Index rest = divided(at, c, channel);
        rest = divided(rest, from.w, column);
        int plane = int(divided(rest, from.h, line)), of_depth = depth_factor(from, to, factor);
        Readers z = readers(plane, of_depth, from.d, to.d), r = readers(line, factor, from.h, to.h),
                s = readers(column, factor, from.w, to.w);
        int wide = s.end - s.first, area = (r.end - r.first) * wide;
        float sum = 0;
        for (int oz = z.first; oz < z.end; oz++) {
            float wz = weight_in(oz, plane, of_depth, from.d);
            for (int k = lane; k < area; k += 32) {
                int orow = r.first + k / wide, o = s.first + k % wide;
                float w = wz * weight_in(orow, line, factor, from.h) * weight_in(o, column, factor, from.w);
                sum = fmaf(dy[((Index(oz) * to.h + orow) * to.w + o) * c + channel], w, sum);
            }
        }
        sum = warp_sum(sum);
        if (lane == 0) dx[at] = sum;
    }
}
BLOCK_KERNEL(upsample_backward_wide_f32)
