// The cost volume (eq. 3-5): cost = sum over sources of (1 + w) f / S, f = (warped - reference)^2 or signed, or the
// variance over all views.
//
// Features [V, map_rows, map_stride, 32] (view 0 the reference; smaller maps in the upper left corner), sources [S,
// 16], depths [D] -> cost [D, H, W, 32] and, for inference, its projection [D, H, W, 8]. A group of lanes takes a
// pixel through a run of planes, two at a time (grid: pixels, runs), so the reference's features stay in registers,
// every voxel is written once, and neighbouring planes find their taps in the L1 cache. Borders: zero outside a source
// and behind it. Sums in f32, sources in order. Deterministic: no thread reads what another writes. f16 has a body of
// its own (sweep_pairs.cuh), whose sums of taps and squares are f16: |f| > 65504 is infinite, so are hidden values.
// Floor: the volume's bytes; in f16 192 x 300 x 400 x 32 is 1.47 GB, 0.44 ms at 3.35 TB/s, with the projection 0.55 ms.
// What bounds it is the issue of instructions: docs/KERNELS.md has the count.
#include "sweep_pairs.cuh"

// Past the L1 and, as far as it goes, the L2 cache, which the feature maps need.
__device__ __forceinline__ void store_own(float* p, const float (&v)[4]) {
    __stcs(reinterpret_cast<float4*>(p), make_float4(v[0], v[1], v[2], v[3]));
}

// reduce [8, 32] and its bias, weight [8] and its bias: the voxel gate, or weights [S, H, W, 1] in `pixel`, none for w
// = 0.
template <Weighting WEIGHTING>
__device__ __forceinline__ void cost_body(const float* features, const float* sources, const float* depths, int count,
                                          int planes, int height, int width, int map_rows, int map_stride, int run,
                                          int squared, const float* reduce, const float* reduce_bias,
                                          const float* weight, const float* weight_bias, const float* pixel_weights,
                                          const float* skip_weights, const float* skip_bias, float* cost, float* skip) {
    constexpr int LANES = Group<float>::LANES, OWN = Group<float>::OWN;
    DYNAMIC_SHARED(float, table);
    load_sources(sources, table, count);
    Pixel pixel = pixel_of_group<float>(height, width);
    int lane = pixel.lane;
    Index pixels = Index(height) * width;
    float reference[OWN];
    load_own(features + (Index(pixel.row) * map_stride + pixel.column) * CHANNELS + lane * OWN, reference);
    Product gate = {}, projection = {};
    float own_weight = 0.0f, gate_bias = 0.0f;
    if constexpr (WEIGHTING == VOXEL) {
        gate.load(reduce, reduce_bias, lane);
        own_weight = weight[lane];
        gate_bias = weight_bias[0];
    }
    if (skip) projection.load(skip_weights, skip_bias, lane);
    float share = 1.0f / float(WEIGHTING == VARIANCE ? count + 1 : count);
    int first = blockIdx.y * run, end = min(first + run, planes);
    for (int d = first; d < end; d += 2) {
        float sum[2][OWN] = {}, mean[2][OWN] = {};
        if constexpr (WEIGHTING == VARIANCE) {
#pragma unroll
            for (int p = 0; p < 2; p++) begin_variance(reference, mean[p], sum[p]);
        }
        float depth = depths[min(d + (lane & 1), planes - 1)];
        for (int s0 = 0; s0 < count; s0 += LANES / 2) {
            // This lane's: source s0 + lane / 2 at plane d + lane % 2.
            Taps own = find_taps(table + min(s0 + lane / 2, count - 1) * SOURCE, pixel.x, pixel.y, depth, map_stride);
            for (int i = 0; i < min(LANES / 2, count - s0); i++) {
                int s = s0 + i;
                const float* map = features + (s + 1) * (Index(map_rows) * map_stride) * CHANNELS;
                float f[2][OWN];
#pragma unroll
                for (int p = 0; p < 2; p++) gather(map, passed_on<LANES>(own, 2 * i + p), lane, f[p]);
                if constexpr (WEIGHTING == VARIANCE) {
#pragma unroll
                    for (int p = 0; p < 2; p++) add_to_variance(f[p], mean[p], sum[p]);
                } else {
#pragma unroll
                    for (int p = 0; p < 2; p++) {
#pragma unroll
                        for (int c = 0; c < OWN; c++) {
                            float delta = f[p][c] - reference[c];
                            f[p][c] = squared ? delta * delta : delta;
                        }
                    }
                    float factor[2] = {share, share};
                    if constexpr (WEIGHTING == VOXEL) {
#pragma unroll
                        for (int p = 0; p < 2; p++) {
                            float w = fmaxf(gate.apply(f[p], lane), 0.0f) * own_weight;
                            w = fmaxf(group_sum<LANES>(w) + gate_bias, 0.0f);
                            factor[p] = (1.0f + w) * share;
                        }
                    } else if (pixel_weights) {
                        factor[0] = factor[1] = (1.0f + load(pixel_weights + s * pixels + pixel.index)) * share;
                    }
#pragma unroll
                    for (int p = 0; p < 2; p++) {
#pragma unroll
                        for (int c = 0; c < OWN; c++) sum[p][c] = fmaf(f[p][c], factor[p], sum[p][c]);
                    }
                }
            }
        }
        if constexpr (WEIGHTING == VARIANCE) {
#pragma unroll
            for (int p = 0; p < 2; p++) finish_variance(mean[p], sum[p], share);
        }
        float out[2] = {};
#pragma unroll
        for (int p = 0; p < 2; p++) {
            if (skip) out[p] = projection.apply(sum[p], lane);
        }
#pragma unroll
        for (int p = 0; p < 2; p++) {
            if (!pixel.there || d + p >= end) continue;
            Index voxel = (d + p) * pixels + pixel.index;
            store_own(cost + voxel * CHANNELS + lane * OWN, sum[p]);
            if (skip) __stcs(skip + voxel * HIDDEN + lane, out[p]);
        }
    }
}

#define COST_KERNELS(T, suffix, BODY)                                                                                  \
    extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) sweep_forward_voxel_##suffix(                          \
        const T* features, const float* sources, const float* depths, int count, int planes, int height, int width,    \
        int map_rows, int map_stride, int run, int squared, const float* reduce, const float* reduce_bias,             \
        const float* weight, const float* weight_bias, const float* skip_weights, const float* skip_bias, T* cost,     \
        T* skip) {                                                                                                     \
        BODY<VOXEL>(features, sources, depths, count, planes, height, width, map_rows, map_stride, run,        \
                            squared, reduce, reduce_bias, weight, weight_bias, nullptr, skip_weights, skip_bias, cost, \
                            skip);                                                                                     \
    }                                                                                                                  \
    BLOCK_KERNEL(sweep_forward_voxel_##suffix)                                                                         \
    extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) sweep_forward_weighted_##suffix(                       \
        const T* features, const float* sources, const float* depths, int count, int planes, int height, int width,    \
        int map_rows, int map_stride, int run, int squared, const T* weights, const float* skip_weights,               \
        const float* skip_bias, T* cost, T* skip) {                                                                    \
        BODY<WEIGHTED>(features, sources, depths, count, planes, height, width, map_rows, map_stride, run,     \
                               squared, nullptr, nullptr, nullptr, nullptr, weights, skip_weights, skip_bias, cost,    \
                               skip);                                                                                  \
    }                                                                                                                  \
    BLOCK_KERNEL(sweep_forward_weighted_##suffix)                                                                      \
    extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) sweep_forward_variance_##suffix(                       \
        const T* features, const float* sources, const float* depths, int count, int planes, int height, int width,    \
        int map_rows, int map_stride, int run, const float* skip_weights, const float* skip_bias, T* cost, T* skip) {  \
        BODY<VARIANCE>(features, sources, depths, count, planes, height, width, map_rows, map_stride, run, 0,  \
                               nullptr, nullptr, nullptr, nullptr, nullptr, skip_weights, skip_bias, cost, skip);      \
    }                                                                                                                  \
    BLOCK_KERNEL(sweep_forward_variance_##suffix)

COST_KERNELS(float, f32, cost_body)
COST_KERNELS(__half, f16, cost_body_pairs)

// For the pixel gate: maximum and mean over the planes of the channel-mean |f| of source blockIdx.y, [S, H, W, 2].
// Each lane locates another plane.
template <typename T>
__device__ __forceinline__ void statistics_body(const T* features, const float* sources, const float* depths,
                                                int planes, int height, int width, int map_rows, int map_stride,
                                                int squared, T* y) {
    constexpr int LANES = Group<T>::LANES, OWN = Group<T>::OWN;
    int s = blockIdx.y;
    SHARED(float, table, SOURCE);
    load_sources(sources + s * SOURCE, table, 1);
    Pixel pixel = pixel_of_group<T>(height, width);
    Index pixels = Index(height) * width;
    const T* map = features + (s + 1) * (Index(map_rows) * map_stride) * CHANNELS;
    float reference[OWN];
    load_own(features + (Index(pixel.row) * map_stride + pixel.column) * CHANNELS + pixel.lane * OWN,
             reference);
    float largest = 0.0f, total = 0.0f;
    for (int d0 = 0; d0 < planes; d0 += LANES) {
        Taps own = find_taps(table, pixel.x, pixel.y, depths[min(d0 + pixel.lane, planes - 1)], map_stride);
        for (int i = 0; i < min(LANES, planes - d0); i++) {
            float f[OWN], sum = 0.0f;
            gather(map, passed_on<LANES>(own, i), pixel.lane, f);
#pragma unroll
            for (int c = 0; c < OWN; c++) {
                float delta = f[c] - reference[c];
                sum += squared ? delta * delta : fabsf(delta);
            }
            float mean = group_sum<LANES>(sum) / float(CHANNELS);
            largest = fmaxf(largest, mean);
            total += mean;
        }
    }
    if (pixel.there && pixel.lane < 2)
        store(y + (s * pixels + pixel.index) * 2 + pixel.lane, pixel.lane ? total / float(planes) : largest);
}

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    statistics_forward_f32(const float* features, const float* sources, const float* depths, int planes, int height,
                           int width, int map_rows, int map_stride, int squared, float* y) {
    statistics_body(features, sources, depths, planes, height, width, map_rows, map_stride, squared, y);
}
BLOCK_KERNEL(statistics_forward_f32)
extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    statistics_forward_f16(const __half* features, const float* sources, const float* depths, int planes, int height,
                           int width, int map_rows, int map_stride, int squared, __half* y) {
    statistics_body(features, sources, depths, planes, height, width, map_rows, map_stride, squared, y);
}
BLOCK_KERNEL(statistics_forward_f16)
