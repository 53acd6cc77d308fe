// The plane sweep's body in f16: taps, differences and squares in pairs of f16, products on tensor cores, sums over the
// sources in f32.
//
// Beside f32 arithmetic on features of f16, each difference is off by some units in the last place (2^-11) of the
// reference's and the taps' features: the weights of the taps are rounded to f16, and so is the sum after each tap. It
// begins at minus the reference, so that what remains of it, and its roundings, get smaller with each tap. The gate's
// hidden values and weights are f16, too.
#pragma once
#include "half_pairs.cuh"
#include "sweep.cuh"
#include "tensor_core.cuh"

enum Weighting { VOXEL, WEIGHTED, VARIANCE };

// Bytes of a pixel.
constexpr unsigned PIXEL_BYTES = CHANNELS * sizeof(__half);
// Of a source's row, unused by others: bytes to the next column and to the next row, 0 where the map has no second one.
constexpr int NEXT = 14;

// Four taps as they are passed from lane to lane: bytes to the upper left one in the view's map, the weights of the
// upper two, and of the lower two.
struct PairTaps {
    unsigned at, weights[2];
};

// How much of column (or row) x counts at position u.
__device__ __forceinline__ float tent(float u, float x) { return fmaxf(1.0f - fabsf(u - x), 0.0f); }

// 1 / z, off by a unit in the last place, or 0 beyond 2^126.
__device__ __forceinline__ float reciprocal(float z) {
#if defined(ENGINE_EMULATED)
    return 1.0f / z;
#else
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(z));
    return r;
#endif
}

// Where p = d A p + b lies, as `locate`, but with one division for both coordinates, so that they are off by 2^-22 of
// themselves; infinite or no number where `locate` says outside.
__device__ __forceinline__ Position locate_nearly(const float* source, float x, float y, float d) {
    float q[3];
#pragma unroll
    for (int r = 0; r < 3; r++) q[r] = fmaf(ray(source, r, x, y), d, source[9 + r]);
    float scale = q[2] > 1e-6f ? reciprocal(q[2]) : INFINITY;
    return {q[0] * scale, q[1] * scale};
}

// How much a column (or row) counts that is t away. Nothing, if t is no number.
__device__ __forceinline__ float tent(float t) { return fmaxf(1.0f - fabsf(t), 0.0f); }

// The upper left tap is moved into the map, so that all four lie in it; a tap that is not one of the position's
// neighbours has no weight. Numbers of pixels are exact: a map has at most 2^24.
__device__ __forceinline__ PairTaps find_pair_taps(const float* source, float px, float py, float depth, float stride) {
    Position p = locate_nearly(source, px, py, depth);
    float height = source[12], width = source[13];
    float x = fmaxf(fminf(floorf(p.u), width - 2.0f), 0.0f), y = fmaxf(fminf(floorf(p.v), height - 2.0f), 0.0f);
    float u = p.u - x, v = p.v - y;
    float left = tent(u), right = width > 1.0f ? tent(u - 1.0f) : 0.0f;
    float top = tent(v), bottom = height > 1.0f ? tent(v - 1.0f) : 0.0f;
    return {unsigned(fmaf(y, stride, x)) * PIXEL_BYTES,
            {half_pair(top * left, top * right), half_pair(bottom * left, bottom * right)}};
}

__device__ __forceinline__ PairTaps passed_on(const PairTaps& own, int from) {
    constexpr int LANES = Group<__half>::LANES;
    return {__shfl_sync(ALL_LANES, own.at, from, LANES),
            {__shfl_sync(ALL_LANES, own.weights[0], from, LANES), __shfl_sync(ALL_LANES, own.weights[1], from, LANES)}};
}

// start + the feature at the taps.
__device__ __forceinline__ void gather_pairs(const char* map, const PairTaps& t, uint2 next, const __half2 (&start)[4],
                                             __half2 (&f)[4]) {
    const char *upper = map + t.at, *lower = upper + next.y;
    Pairs4 taps[4] = {load_pairs(upper), load_pairs(upper + next.x), load_pairs(lower), load_pairs(lower + next.x)};
    __half2 above = pair_of_word(t.weights[0]), below = pair_of_word(t.weights[1]);
    __half2 weights[4] = {__low2half2(above), __high2half2(above), __low2half2(below), __high2half2(below)};
#pragma unroll
    for (int c = 0; c < 4; c++) {
        f[c] = start[c];
#pragma unroll
        for (int i = 0; i < 4; i++) f[c] = __hfma2(taps[i].v[c], weights[i], f[c]);
    }
}

// A product of 32 channels with 8 rows [8, 32] for 16 pixels. The four lanes of a group are those that hold a row of A;
// rows l/4 and l/4 + 8 are the pixel at the two planes. The order of the channels in k is free: step t has of each
// lane's 8 channels 4 t .. 4 t + 4, so nothing has to move. Lane l of the group gets outputs 2 l and 2 l + 1.
struct PairProduct {
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

    __device__ __forceinline__ Accumulator apply(const __half2 (&f)[2][4]) const {
        Accumulator sum = {{bias[0], bias[1], bias[0], bias[1]}};
#pragma unroll
        for (int t = 0; t < 2; t++) {
            FragmentA a;
#pragma unroll
            for (int i = 0; i < 4; i++) a.r[i] = word_of_pair(f[i & 1][2 * t + i / 2]);
            multiply_add(sum, a, b[t]);
        }
        return sum;
    }
};

// The gate's last layer: what lane l of a group holds of the hidden channels, 2 l and 2 l + 1 at both planes, is a
// fragment of A again; with the weights in every column of B each lane gets the sums of its own pixel.
struct PairGate {
    PairProduct reduce;
    unsigned weights;
    float bias;

    __device__ __forceinline__ void load(const float* reduce_, const float* reduce_bias, const float* weight,
                                         const float* weight_bias, int lane) {
        reduce.load(reduce_, reduce_bias, lane);
        weights = half_pair(weight[2 * lane], weight[2 * lane + 1]);
        bias = weight_bias[0];
    }

    // w of both planes.
    __device__ __forceinline__ void apply(const __half2 (&f)[2][4], float (&w)[2]) const {
        Accumulator hidden = reduce.apply(f);
        Accumulator sum = {};
        unsigned a[2] = {rectified_pair(hidden.v[0], hidden.v[1]), rectified_pair(hidden.v[2], hidden.v[3])};
        multiply_add8(sum, a, weights);
        w[0] = fmaxf(sum.v[0] + bias, 0.0f);
        w[1] = fmaxf(sum.v[2] + bias, 0.0f);
    }
};

__device__ __forceinline__ void add_times(float (&sum)[8], const __half2 (&f)[4], float factor) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        float2 v = __half22float2(f[c]);
        sum[2 * c] = fmaf(v.x, factor, sum[2 * c]);
        sum[2 * c + 1] = fmaf(v.y, factor, sum[2 * c + 1]);
    }
}

__device__ __forceinline__ void unpack(const __half2 (&pairs)[4], float (&values)[8]) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        float2 v = __half22float2(pairs[c]);
        values[2 * c] = v.x, values[2 * c + 1] = v.y;
    }
}

// As `cost_body` of sweep.cu.
template <Weighting WEIGHTING>
__device__ __forceinline__ void cost_body_pairs(const __half* features, const float* sources, const float* depths,
                                                int count, int planes, int height, int width, int map_rows,
                                                int map_stride, int run, int squared, const float* reduce,
                                                const float* reduce_bias, const float* weight, const float* weight_bias,
                                                const __half* pixel_weights, const float* skip_weights,
                                                const float* skip_bias, __half* cost, __half* skip) {
    constexpr int LANES = Group<__half>::LANES, OWN = Group<__half>::OWN;
    DYNAMIC_SHARED(float, table);
    load_sources(sources, table, count);
#pragma unroll 1
    for (int s = threadIdx.x; s < count; s += SWEEP_THREADS) {
        float* source = table + s * SOURCE;
        source[NEXT] = __uint_as_float(source[13] > 1.0f ? PIXEL_BYTES : 0u);
        source[NEXT + 1] = __uint_as_float(source[12] > 1.0f ? unsigned(map_stride) * PIXEL_BYTES : 0u);
    }
    __syncthreads();
    Pixel pixel = pixel_of_group<__half>(height, width);
    int lane = pixel.lane;
    Index pixels = Index(height) * width;
    const char* own_maps = reinterpret_cast<const char*>(features + lane * OWN);
    Index map_bytes = Index(map_rows) * map_stride * PIXEL_BYTES;
    Pairs4 reference =
        load_pairs(own_maps + (Index(pixel.row) * map_stride + pixel.column) * Index(PIXEL_BYTES));
    // What the taps are added to: differences are wanted, or the features themselves.
    __half2 start[4];
#pragma unroll
    for (int c = 0; c < 4; c++)
        start[c] = WEIGHTING == VARIANCE ? pair_of_word(0u) : __hneg2(reference.v[c]);
    PairGate gate = {};
    PairProduct projection = {};
    if constexpr (WEIGHTING == VOXEL) gate.load(reduce, reduce_bias, weight, weight_bias, lane);
    if (skip) projection.load(skip_weights, skip_bias, lane);
    float share = 1.0f / float(WEIGHTING == VARIANCE ? count + 1 : count), stride = float(map_stride);
    int first = blockIdx.y * run, end = min(first + run, planes);
    // Where this lane writes, a plane after the other.
    __half* own_cost = cost + (first * pixels + pixel.index) * CHANNELS + lane * OWN;
    __half* own_skip = skip + (first * pixels + pixel.index) * HIDDEN + lane * 2;
    for (int d = first; d < end; d += 2) {
        float sum[2][OWN] = {}, mean[2][OWN] = {};
        if constexpr (WEIGHTING == VARIANCE) {
            float own[OWN];
            unpack(reference.v, own);
#pragma unroll
            for (int p = 0; p < 2; p++) begin_variance(own, mean[p], sum[p]);
        }
        float depth = depths[min(d + (lane & 1), planes - 1)];
        const char* map = own_maps + map_bytes;
        for (int s0 = 0; s0 < count; s0 += LANES / 2) {
            // This lane's: source s0 + lane / 2 at plane d + lane % 2.
            PairTaps own =
                find_pair_taps(table + min(s0 + lane / 2, count - 1) * SOURCE, pixel.x, pixel.y, depth, stride);
            for (int i = 0; i < min(LANES / 2, count - s0); i++) {
                int s = s0 + i;
                uint2 next = *reinterpret_cast<const uint2*>(table + s * SOURCE + NEXT);
                __half2 f[2][4];
#pragma unroll
                for (int p = 0; p < 2; p++) gather_pairs(map, passed_on(own, 2 * i + p), next, start, f[p]);
                map += map_bytes;
                if constexpr (WEIGHTING == VARIANCE) {
#pragma unroll
                    for (int p = 0; p < 2; p++) {
                        float values[OWN];
                        unpack(f[p], values);
                        add_to_variance(values, mean[p], sum[p]);
                    }
                } else {
                    if (squared) {
#pragma unroll
                        for (int p = 0; p < 2; p++) {
#pragma unroll
                            for (int c = 0; c < 4; c++) f[p][c] = __hmul2(f[p][c], f[p][c]);
                        }
                    }
                    float factor[2] = {share, share};
                    if constexpr (WEIGHTING == VOXEL) {
                        float w[2];
                        gate.apply(f, w);
                        factor[0] = fmaf(w[0], share, share), factor[1] = fmaf(w[1], share, share);
                    } else if (pixel_weights) {
                        factor[0] = factor[1] = (1.0f + load(pixel_weights + s * pixels + pixel.index)) * share;
                    }
#pragma unroll
                    for (int p = 0; p < 2; p++) add_times(sum[p], f[p], factor[p]);
                }
            }
        }
        if constexpr (WEIGHTING == VARIANCE) {
#pragma unroll
            for (int p = 0; p < 2; p++) finish_variance(mean[p], sum[p], share);
        }
        __half2 stored[2][4];
#pragma unroll
        for (int p = 0; p < 2; p++) {
#pragma unroll
            for (int c = 0; c < 4; c++) stored[p][c] = __floats2half2_rn(sum[p][2 * c], sum[p][2 * c + 1]);
        }
        Accumulator out = {};
        if (skip) out = projection.apply(stored);
        // Past the L1 and, as far as it goes, the L2 cache, which the feature maps need.
#pragma unroll
        for (int p = 0; p < 2; p++) {
            if (pixel.there && d + p < end) {
                __stcs(reinterpret_cast<uint4*>(own_cost),
                       make_uint4(word_of_pair(stored[p][0]), word_of_pair(stored[p][1]), word_of_pair(stored[p][2]),
                                  word_of_pair(stored[p][3])));
                if (skip) __stcs(reinterpret_cast<unsigned*>(own_skip), half_pair(out.v[2 * p], out.v[2 * p + 1]));
            }
            own_cost += pixels * CHANNELS;
            own_skip += pixels * HIDDEN;
        }
    }
}
