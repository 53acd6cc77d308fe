// The cost volume (eq. 3-5): cost = sum over sources of (1 + w) f / S, f = (warped - reference)^2 or signed, or the
// variance over all views.
//
// Features [V, map_rows, map_stride, 32] (view 0 the reference; smaller maps in the upper left corner), sources [S,
// 16], depths [D] -> cost [D, H, W, 32] and, for inference, its projection [D, H, W, 8]. A group of lanes takes a
// pixel through a run of planes, two at a time (grid: pixels, runs), so the reference's features stay in registers,
// every voxel is written once, and neighbouring planes find their taps in the L1 cache. Borders: zero outside a source
// and behind it. Sums in f32, sources in order; in f16 the two 32 -> 8 products take f and the cost rounded to f16, so
// |f| > 65504 is infinite. Deterministic: no thread reads what another writes. Floor: the volume's bytes; in f16 192 x
// 300 x 400 x 32 is 1.47 GB, 0.44 ms at 3.35 TB/s, with the projection 0.55 ms. What bounds it is the issue of
// instructions: with 4 sources 193 a lane, source and voxel by the count of sm_90's, 128 of them in the inner loop
// loads, conversions and multiply-adds of channels: 2.4 ms at 132 SMs of 1.75 GHz. The gate costs 20 of them: a
// group's lanes hold just the fragment of A that its matrix product needs, where 8 x 8 multiply-adds a lane and their
// exchange would be 90 more, 1.1 ms.
#include "sweep.cuh"
#include "tensor_core.cuh"

enum Weighting { VOXEL, WEIGHTED, VARIANCE };

__device__ __forceinline__ unsigned half_pair(float a, float b) {
    __half2 pair = __floats2half2_rn(a, b);
    unsigned word;
    memcpy(&word, &pair, 4);
    return word;
}

// Both planes' products at once: Product in f32, one matrix product of 16 rows in f16.
template <typename T>
struct Products;

template <>
struct Products<float> {
    Product product;
    __device__ __forceinline__ void load(const float* w, const float* b, int lane) { product.load(w, b, lane); }
    __device__ __forceinline__ void apply(const float (&f)[2][4], int lane, float (&out)[2][1]) const {
#pragma unroll
        for (int p = 0; p < 2; p++) out[p][0] = product.apply(f[p], lane);
    }
};

// The four lanes of a group are those that hold a row of A; rows l/4 and l/4 + 8 are the pixel at the two planes. The
// order of the channels in k is free: step t has of each lane's 8 channels 4 t .. 4 t + 4, so nothing has to move.
// Lane l of the group gets outputs 2 l and 2 l + 1.
template <>
struct Products<__half> {
    FragmentB b[2];
    float bias[2];
    __device__ __forceinline__ void load(const float* w, const float* bias_, int lane) {
        const float* row = w + (threadIdx.x % 32 / 4) * CHANNELS + lane * 8;
#pragma unroll
        for (int t = 0; t < 2; t++) {
            float4 f = load4(row + 4 * t);
            b[t].r[0] = half_pair(f.x, f.y);
            b[t].r[1] = half_pair(f.z, f.w);
        }
        bias[0] = bias_[2 * lane];
        bias[1] = bias_[2 * lane + 1];
    }
    __device__ __forceinline__ void apply(const float (&f)[2][8], int, float (&out)[2][2]) const {
        Accumulator sum = {{bias[0], bias[1], bias[0], bias[1]}};
#pragma unroll
        for (int t = 0; t < 2; t++) {
            FragmentA a;
#pragma unroll
            for (int i = 0; i < 4; i++) a.r[i] = half_pair(f[i & 1][4 * t + (i & 2)], f[i & 1][4 * t + (i & 2) + 1]);
            multiply_add(sum, a, b[t]);
        }
        out[0][0] = sum.v[0], out[0][1] = sum.v[1], out[1][0] = sum.v[2], out[1][1] = sum.v[3];
    }
};

// Past the L1 and, as far as it goes, the L2 cache, which the feature maps need.
__device__ __forceinline__ void store_own(float* p, const float (&v)[4]) {
    __stcs(reinterpret_cast<float4*>(p), make_float4(v[0], v[1], v[2], v[3]));
}
__device__ __forceinline__ void store_own(__half* p, const float (&v)[8]) {
    uint4 words =
        make_uint4(half_pair(v[0], v[1]), half_pair(v[2], v[3]), half_pair(v[4], v[5]), half_pair(v[6], v[7]));
    __stcs(reinterpret_cast<uint4*>(p), words);
}
__device__ __forceinline__ void store_out(float* p, const float (&v)[1]) { __stcs(p, v[0]); }
__device__ __forceinline__ void store_out(__half* p, const float (&v)[2]) {
    __stcs(reinterpret_cast<unsigned*>(p), half_pair(v[0], v[1]));
}

// reduce [8, 32] and its bias, weight [8] and its bias: the voxel gate, or weights [S, H, W, 1] in `pixel`, none for w
// = 0.
template <typename T, Weighting WEIGHTING>
__device__ __forceinline__ void cost_body(const T* features, const float* sources, const float* depths, int count,
                                          int planes, int height, int width, int map_rows, int map_stride, int run,
                                          int squared, const float* reduce, const float* reduce_bias,
                                          const float* weight, const float* weight_bias, const T* pixel_weights,
                                          const float* skip_weights, const float* skip_bias, T* cost, T* skip) {
    constexpr int LANES = Group<T>::LANES, OWN = Group<T>::OWN, OUT = Group<T>::OUT;
    DYNAMIC_SHARED(float, table);
    load_sources(sources, table, count);
    Pixel pixel = pixel_of_group<T>(height, width);
    int lane = pixel.lane;
    Index pixels = Index(height) * width;
    float reference[OWN];
    load_own(features + (pixel.index / width * map_stride + pixel.index % width) * CHANNELS + lane * OWN, reference);
    Products<T> gate = {}, projection = {};
    float own_weight[OUT], gate_bias = 0.0f;
    if constexpr (WEIGHTING == VOXEL) {
        gate.load(reduce, reduce_bias, lane);
#pragma unroll
        for (int i = 0; i < OUT; i++) own_weight[i] = weight[lane * OUT + i];
        gate_bias = weight_bias[0];
    }
    if (skip) projection.load(skip_weights, skip_bias, lane);
    float share = 1.0f / float(WEIGHTING == VARIANCE ? count + 1 : count);
    int first = blockIdx.y * run, end = min(first + run, planes);
    for (int d = first; d < end; d += 2) {
        float sum[2][OWN], mean[2][OWN];
#pragma unroll
        for (int p = 0; p < 2; p++) {
#pragma unroll
            for (int c = 0; c < OWN; c++) {
                sum[p][c] = WEIGHTING == VARIANCE ? reference[c] * reference[c] : 0.0f;
                mean[p][c] = reference[c];
            }
        }
        float depth = depths[min(d + (lane & 1), planes - 1)];
        for (int s0 = 0; s0 < count; s0 += LANES / 2) {
            // This lane's: source s0 + lane / 2 at plane d + lane % 2.
            Taps own = find_taps(table + min(s0 + lane / 2, count - 1) * SOURCE, pixel.x, pixel.y, depth, map_stride);
            for (int i = 0; i < min(LANES / 2, count - s0); i++) {
                int s = s0 + i;
                const T* map = features + (s + 1) * (Index(map_rows) * map_stride) * CHANNELS;
                float f[2][OWN];
#pragma unroll
                for (int p = 0; p < 2; p++) gather(map, passed_on<LANES>(own, 2 * i + p), lane, f[p]);
                if constexpr (WEIGHTING == VARIANCE) {
#pragma unroll
                    for (int p = 0; p < 2; p++) {
#pragma unroll
                        for (int c = 0; c < OWN; c++) {
                            mean[p][c] += f[p][c];
                            sum[p][c] = fmaf(f[p][c], f[p][c], sum[p][c]);
                        }
                    }
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
                        float hidden[2][OUT];
                        gate.apply(f, lane, hidden);
#pragma unroll
                        for (int p = 0; p < 2; p++) {
                            float w = 0.0f;
#pragma unroll
                            for (int o = 0; o < OUT; o++) w = fmaf(fmaxf(hidden[p][o], 0.0f), own_weight[o], w);
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
            for (int p = 0; p < 2; p++) {
#pragma unroll
                for (int c = 0; c < OWN; c++) {
                    float m = mean[p][c] * share;
                    sum[p][c] = sum[p][c] * share - m * m;
                }
            }
        }
        float out[2][OUT];
        if (skip) projection.apply(sum, lane, out);
#pragma unroll
        for (int p = 0; p < 2; p++) {
            if (!pixel.there || d + p >= end) continue;
            Index voxel = (d + p) * pixels + pixel.index;
            store_own(cost + voxel * CHANNELS + lane * OWN, sum[p]);
            if (skip) store_out(skip + voxel * HIDDEN + lane * OUT, out[p]);
        }
    }
}

#define COST_KERNELS(T, suffix)                                                                                        \
    extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) sweep_forward_voxel_##suffix(                          \
        const T* features, const float* sources, const float* depths, int count, int planes, int height, int width,    \
        int map_rows, int map_stride, int run, int squared, const float* reduce, const float* reduce_bias,             \
        const float* weight, const float* weight_bias, const float* skip_weights, const float* skip_bias, T* cost,     \
        T* skip) {                                                                                                     \
        cost_body<T, VOXEL>(features, sources, depths, count, planes, height, width, map_rows, map_stride, run,        \
                            squared, reduce, reduce_bias, weight, weight_bias, nullptr, skip_weights, skip_bias, cost, \
                            skip);                                                                                     \
    }                                                                                                                  \
    BLOCK_KERNEL(sweep_forward_voxel_##suffix)                                                                         \
    extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) sweep_forward_weighted_##suffix(                       \
        const T* features, const float* sources, const float* depths, int count, int planes, int height, int width,    \
        int map_rows, int map_stride, int run, int squared, const T* weights, const float* skip_weights,               \
        const float* skip_bias, T* cost, T* skip) {                                                                    \
        cost_body<T, WEIGHTED>(features, sources, depths, count, planes, height, width, map_rows, map_stride, run,     \
                               squared, nullptr, nullptr, nullptr, nullptr, weights, skip_weights, skip_bias, cost,    \
                               skip);                                                                                  \
    }                                                                                                                  \
    BLOCK_KERNEL(sweep_forward_weighted_##suffix)                                                                      \
    extern "C" __global__ void __launch_bounds__(SWEEP_THREADS) sweep_forward_variance_##suffix(                       \
        const T* features, const float* sources, const float* depths, int count, int planes, int height, int width,    \
        int map_rows, int map_stride, int run, const float* skip_weights, const float* skip_bias, T* cost, T* skip) {  \
        cost_body<T, VARIANCE>(features, sources, depths, count, planes, height, width, map_rows, map_stride, run, 0,  \
                               nullptr, nullptr, nullptr, nullptr, nullptr, skip_weights, skip_bias, cost, skip);      \
    }                                                                                                                  \
    BLOCK_KERNEL(sweep_forward_variance_##suffix)

COST_KERNELS(float, f32)
COST_KERNELS(__half, f16)

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
    load_own(features + (pixel.index / width * map_stride + pixel.index % width) * CHANNELS + pixel.lane * OWN,
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
