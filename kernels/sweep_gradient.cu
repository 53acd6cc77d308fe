// Gradients of the cost volume and of the pixel gate's statistics (src/cpu/ops/sweep_backward.rs says how they flow),
// f32; shapes as in sweep.cu.
//
// Nothing of the forward pass is kept: a group of 8 lanes takes a pixel and warps again. Two launches: the first adds
// up, over planes and sources in registers, what flows into the reference and the gate, and finds the largest
// |gradient| M of a difference; the second scatters into the sources. Deterministic though it scatters: sums are
// 64-bit integers, whose addition is associative. The unit is the power of two with which N M, N the number of voxels,
// still fits 2^62: each of a pixel's contributions is off by at most 2^-62 N M, for a million voxels 2^-42 M, where a
// sum in f32 is off by 2^-24 of itself at every addition. Where M is infinite or no number, every gradient of a source
// is NaN. The maximum is one of integers, too. The gate's: sums of a thread in f32, of a block and of the blocks, in
// order, in f64. Floor: the volume's gradient read 2 S times (126 MB at 48 x 128 x 160: 0.04 ms each), and 128 S
// additions of 8 bytes a voxel in the L2 cache, 3.8e8 at S = 3, which is what should bound it.
#include "fixed_point.cuh"

enum Weighting { VOXEL, WEIGHTED, VARIANCE };

// What is warped, and the gradient in the cost volume or in the statistics.
struct Sweep {
    const float* features;
    const float* table;
    const float* depths;
    int count, planes, height, width, squared;
    __device__ __forceinline__ Index pixels() const { return Index(height) * width; }
    __device__ __forceinline__ const float* map(int source) const {
        return features + (source + 1) * pixels() * CHANNELS;
    }
    __device__ __forceinline__ Taps taps(int source, const Pixel& pixel, int plane) const {
        return find_taps(table + source * SOURCE, pixel.x, pixel.y, depths[plane], width);
    }
};

// The voxel gate's parameters, or weights per pixel (or none) in `pixel`.
struct Gate {
    const float *reduce, *reduce_bias, *weight, *weight_bias, *pixel;
};

// Calls visit(plane, taps, warped - reference) for planes first .. end of one source; each lane finds another plane's
// taps.
template <typename Visit>
__device__ __forceinline__ void walk(const Sweep& sweep, const Pixel& pixel, const float (&reference)[4], int source,
                                     int first, int end, const Visit& visit) {
    const float* map = sweep.map(source);
    for (int d0 = first; d0 < end; d0 += 8) {
        Taps own = sweep.taps(source, pixel, min(d0 + pixel.lane, sweep.planes - 1));
        for (int i = 0; i < min(8, end - d0); i++) {
            Taps t = passed_on<8>(own, i);
            float delta[4];
            gather(map, t, pixel.lane, delta);
#pragma unroll
            for (int c = 0; c < 4; c++) delta[c] -= reference[c];
            visit(d0 + i, t, delta);
        }
    }
}

// What the gate's parameters get of a thread: of reduce its 4 columns, of the other two its own row, of the bias all
// (equal in a group).
struct GateSums {
    float reduce[HIDDEN][4], weight, reduce_bias, weight_bias;
};
constexpr int GATE_SUMS = 8 * 35;

// The gradient in f of one voxel and source from that in the cost, which is added to the gate's sums.
__device__ __forceinline__ void through_gate(const Product& reduce, float weight, float gate_bias, const float (&f)[4],
                                             const float (&g)[4], float share, int lane, GateSums& sums,
                                             float (&d)[4]) {
    float hidden = fmaxf(reduce.apply(f, lane), 0.0f);
    float one = 1.0f + fmaxf(group_sum<8>(hidden * weight) + gate_bias, 0.0f);
    float dot = 0.0f;
#pragma unroll
    for (int c = 0; c < 4; c++) dot = fmaf(f[c], g[c], dot);
    dot = group_sum<8>(dot) * share;
    // A gate whose 1 + w rounds to 1 counts as closed, as in the CPU's code.
    float open = one > 1.0f ? dot : 0.0f, before = hidden > 0.0f ? open * weight : 0.0f;
    sums.weight = fmaf(open, hidden, sums.weight);
    sums.reduce_bias += before;
    sums.weight_bias += open;
#pragma unroll
    for (int c = 0; c < 4; c++) d[c] = g[c] * (one * share);
#pragma unroll
    for (int o = 0; o < HIDDEN; o++) {
        float h = __shfl_sync(ALL_LANES, before, o, 8);
#pragma unroll
        for (int c = 0; c < 4; c++) {
            sums.reduce[o][c] = fmaf(h, f[c], sums.reduce[o][c]);
            d[c] = fmaf(reduce.weights[o][c], h, d[c]);
        }
    }
}

// A block's sums in f64, in a fixed order; partial [blocks, 8, 35].
__device__ __forceinline__ void add_up_gate(const GateSums& sums, int lane, double* partial) {
    SHARED(double, parts, SWEEP_THREADS / 32 * GATE_SUMS);
    int warp = threadIdx.x / 32;
#pragma unroll
    for (int j = 0; j < 35; j++) {
        double v = j < 32    ? sums.reduce[j / 4 % HIDDEN][j % 4]
                   : j == 32 ? sums.weight
                   : j == 33 ? sums.reduce_bias
                             : sums.weight_bias;
        v += __shfl_xor_sync(ALL_LANES, v, 8);
        v += __shfl_xor_sync(ALL_LANES, v, 16);
        if (threadIdx.x % 32 < 8) parts[warp * GATE_SUMS + lane * 35 + j] = v;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < GATE_SUMS; i += SWEEP_THREADS) {
        double v = 0.0;
        for (int w = 0; w < SWEEP_THREADS / 32; w++) v += parts[w * GATE_SUMS + i];
        partial[Index(blockIdx.x) * GATE_SUMS + i] = v;
    }
}

// Where gradients go: those of the first launch, or of the second.
struct Targets {
    float *reference, *pixel;
    unsigned* largest;
    double* partial;
    Fixed* sources;
    float scale;
};

// Planes first .. end; the first launch takes all of them.
template <Weighting WEIGHTING, bool SCATTER>
__device__ __forceinline__ void weighted_body(const Sweep& sweep, const Gate& gate, const float* gradient, int first,
                                              int end, const Targets& to) {
    Pixel pixel = pixel_of_group<float>(sweep.height, sweep.width);
    Index pixels = sweep.pixels();
    int lane = pixel.lane;
    float reference[4], into_reference[4] = {};
    load_own(sweep.features + pixel.index * CHANNELS + lane * 4, reference);
    Product reduce = {};
    float weight = 0.0f, gate_bias = 0.0f;
    if constexpr (WEIGHTING == VOXEL) {
        reduce.load(gate.reduce, gate.reduce_bias, lane);
        weight = gate.weight[lane];
        gate_bias = gate.weight_bias[0];
    }
    GateSums sums = {};
    unsigned largest = 0;
    float share = 1.0f / float(sweep.count);
    for (int s = 0; s < sweep.count; s++) {
        float factor = share, into_weight = 0.0f;
        if (WEIGHTING == WEIGHTED && gate.pixel) factor *= 1.0f + gate.pixel[s * pixels + pixel.index];
        walk(sweep, pixel, reference, s, first, end, [&](int plane, const Taps& t, const float (&delta)[4]) {
            float g[4] = {}, f[4], d[4];
            if (pixel.there) load_own(gradient + (plane * pixels + pixel.index) * CHANNELS + lane * 4, g);
#pragma unroll
            for (int c = 0; c < 4; c++) f[c] = sweep.squared ? delta[c] * delta[c] : delta[c];
            if constexpr (WEIGHTING == VOXEL) {
                through_gate(reduce, weight, gate_bias, f, g, share, lane, sums, d);
            } else {
#pragma unroll
                for (int c = 0; c < 4; c++) {
                    into_weight = fmaf(f[c], g[c], into_weight);
                    d[c] = g[c] * factor;
                }
            }
#pragma unroll
            for (int c = 0; c < 4; c++) {
                if (sweep.squared) d[c] *= delta[c] + delta[c];
                into_reference[c] -= d[c];
            }
            if constexpr (SCATTER) {
                if (pixel.there) scatter(to.sources + s * pixels * CHANNELS + lane * 4, t, d, to.scale);
            } else {
                largest = larger(largest, d);
            }
        });
        if (WEIGHTING == WEIGHTED && !SCATTER && to.pixel) {
            into_weight = group_sum<8>(into_weight) * share;
            if (pixel.there && lane == 0) to.pixel[s * pixels + pixel.index] = into_weight;
        }
    }
    if constexpr (!SCATTER) {
        if (pixel.there) {
            float4 v = make_float4(into_reference[0], into_reference[1], into_reference[2], into_reference[3]);
            store4(to.reference + pixel.index * CHANNELS + lane * 4, v);
        }
        note_largest(largest, to.largest);
        if constexpr (WEIGHTING == VOXEL) add_up_gate(sums, lane, to.partial);
    }
}

// The variance is a mean of squares over all views; what flows into the views' mean adds up to zero, and the reference
// gets minus what the sources get. Planes outside, since the mean comes first; each lane finds another source's taps.
template <bool SCATTER>
__device__ __forceinline__ void variance_body(const Sweep& sweep, const float* gradient, int first, int end,
                                              const Targets& to) {
    Pixel pixel = pixel_of_group<float>(sweep.height, sweep.width);
    Index pixels = sweep.pixels();
    int lane = pixel.lane;
    float reference[4], into_reference[4] = {};
    load_own(sweep.features + pixel.index * CHANNELS + lane * 4, reference);
    unsigned largest = 0;
    float share = 1.0f / float(sweep.count + 1);
    for (int plane = first; plane < end; plane++) {
        float mean[4] = {reference[0], reference[1], reference[2], reference[3]}, g[4] = {};
        if (pixel.there) load_own(gradient + (plane * pixels + pixel.index) * CHANNELS + lane * 4, g);
        for (int pass = 0; pass < 2; pass++) {
            for (int s0 = 0; s0 < sweep.count; s0 += 8) {
                Taps own = sweep.taps(min(s0 + lane, sweep.count - 1), pixel, plane);
                for (int s = s0; s < min(s0 + 8, sweep.count); s++) {
                    Taps t = passed_on<8>(own, s - s0);
                    float v[4], d[4];
                    gather(sweep.map(s), t, lane, v);
                    if (pass == 0) {
#pragma unroll
                        for (int c = 0; c < 4; c++) mean[c] += v[c];
                        continue;
                    }
#pragma unroll
                    for (int c = 0; c < 4; c++) {
                        float delta = v[c] - mean[c] * share;
                        d[c] = g[c] * share * (delta + delta);
                        into_reference[c] -= d[c];
                    }
                    if constexpr (SCATTER) {
                        if (pixel.there) scatter(to.sources + s * pixels * CHANNELS + lane * 4, t, d, to.scale);
                    } else {
                        largest = larger(largest, d);
                    }
                }
            }
        }
    }
    if constexpr (!SCATTER) {
        if (pixel.there) {
            float4 v = make_float4(into_reference[0], into_reference[1], into_reference[2], into_reference[3]);
            store4(to.reference + pixel.index * CHANNELS + lane * 4, v);
        }
        note_largest(largest, to.largest);
    }
}

#define SWEEP_PARAMETERS                                                                                            \
    const float *features, const float *sources, const float *depths, int count, int planes, int height, int width, \
        int squared
#define GATE_PARAMETERS const float *reduce, const float *reduce_bias, const float *weight, const float *weight_bias
// The sources' table in shared memory, and the sweep.
#define SWEEP_HERE                       \
    DYNAMIC_SHARED(float, table);        \
    load_sources(sources, table, count); \
    const Sweep sweep = {features, table, depths, count, planes, height, width, squared}
// The second launch's planes, from `run` of them a row of blocks, and its scale.
#define RUN_HERE                                                  \
    int first = blockIdx.y * run, end = min(first + run, planes); \
    float scale = power_of_two(fixed_exponent(*largest, log_terms))

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_voxel_f32(SWEEP_PARAMETERS, GATE_PARAMETERS, const float* gradient, float* reference,
                             unsigned* largest, double* partial) {
    SWEEP_HERE;
    Gate gate = {reduce, reduce_bias, weight, weight_bias, nullptr};
    weighted_body<VOXEL, false>(sweep, gate, gradient, 0, planes,
                                {reference, nullptr, largest, partial, nullptr, 0.0f});
}
BLOCK_KERNEL(sweep_backward_voxel_f32)

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_voxel_sources_f32(SWEEP_PARAMETERS, GATE_PARAMETERS, const float* gradient, const unsigned* largest,
                                     int log_terms, int run, Fixed* sums) {
    SWEEP_HERE;
    RUN_HERE;
    Gate gate = {reduce, reduce_bias, weight, weight_bias, nullptr};
    weighted_body<VOXEL, true>(sweep, gate, gradient, first, end, {nullptr, nullptr, nullptr, nullptr, sums, scale});
}
BLOCK_KERNEL(sweep_backward_voxel_sources_f32)

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_weighted_f32(SWEEP_PARAMETERS, const float* weights, const float* gradient, float* reference,
                                unsigned* largest, float* pixel) {
    SWEEP_HERE;
    Gate gate = {nullptr, nullptr, nullptr, nullptr, weights};
    weighted_body<WEIGHTED, false>(sweep, gate, gradient, 0, planes,
                                   {reference, pixel, largest, nullptr, nullptr, 0.0f});
}
BLOCK_KERNEL(sweep_backward_weighted_f32)

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_weighted_sources_f32(SWEEP_PARAMETERS, const float* weights, const float* gradient,
                                        const unsigned* largest, int log_terms, int run, Fixed* sums) {
    SWEEP_HERE;
    RUN_HERE;
    Gate gate = {nullptr, nullptr, nullptr, nullptr, weights};
    weighted_body<WEIGHTED, true>(sweep, gate, gradient, first, end, {nullptr, nullptr, nullptr, nullptr, sums, scale});
}
BLOCK_KERNEL(sweep_backward_weighted_sources_f32)

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_variance_f32(SWEEP_PARAMETERS, const float* gradient, float* reference, unsigned* largest) {
    SWEEP_HERE;
    variance_body<false>(sweep, gradient, 0, planes, {reference, nullptr, largest, nullptr, nullptr, 0.0f});
}
BLOCK_KERNEL(sweep_backward_variance_f32)

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_variance_sources_f32(SWEEP_PARAMETERS, const float* gradient, const unsigned* largest, int log_terms,
                                        int run, Fixed* sums) {
    SWEEP_HERE;
    RUN_HERE;
    variance_body<true>(sweep, gradient, first, end, {nullptr, nullptr, nullptr, nullptr, sums, scale});
}
BLOCK_KERNEL(sweep_backward_variance_sources_f32)

// partial [blocks, 8, 35] -> the gate's four gradients, the blocks in order. One thread a parameter (and seven for
// copies of the last bias).
extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_gate_f32(const double* partial, int blocks, float* reduce, float* reduce_bias, float* weight,
                            float* weight_bias) {
    int i = int(thread_of_grid()), lane = i / 35, j = i % 35;
    if (i >= GATE_SUMS || (j == 34 && lane > 0)) return;
    double v = 0.0;
    for (int b = 0; b < blocks; b++) v += partial[Index(b) * GATE_SUMS + i];
    float* y = j < 32    ? reduce + j / 4 * CHANNELS + lane * 4 + j % 4
               : j == 32 ? weight + lane
               : j == 33 ? reduce_bias + lane
                         : weight_bias;
    *y = float(v);
}
KERNEL(sweep_backward_gate_f32)

// Integers [n] -> the gradient in the sources' features, behind the reference's.
extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    sweep_backward_finish_f32(const Index* sums, const unsigned* largest, int log_terms, float* y, Index n) {
    // 1 / 2^x: infinite and no number where the largest was, so that nothing of it passes for a gradient.
    unsigned bits = *largest;
    double unit = power_of_two(-fixed_exponent(bits, log_terms));
    if (bits >= 0x7f800000u) unit = double(__uint_as_float(0x7fc00000u));
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) y[i] = float(double(sums[i]) * unit);
}
KERNEL(sweep_backward_finish_f32)

// The statistics' gradient [S, H, W, 2]: the maximum's goes to the first of the largest planes, which the first launch
// notes in `plane_of` [S, H, W]. d of a difference: k sign or 2 k delta, with k = (maximum's at its plane + mean's /
// D) / 32; |x|' is 0 at 0.
__device__ __forceinline__ void through_statistics(float k, int squared, const float (&delta)[4], float (&d)[4]) {
#pragma unroll
    for (int c = 0; c < 4; c++) {
        if (squared)
            d[c] = k * (delta[c] + delta[c]);
        else
            d[c] = delta[c] > 0.0f ? k : delta[c] < 0.0f ? -k : 0.0f;
    }
}

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    statistics_backward_f32(SWEEP_PARAMETERS, const float* gradient, float* reference, unsigned* largest,
                            int* plane_of) {
    SWEEP_HERE;
    Pixel pixel = pixel_of_group<float>(height, width);
    Index pixels = sweep.pixels();
    float own[4], into_reference[4] = {};
    load_own(features + pixel.index * CHANNELS + pixel.lane * 4, own);
    unsigned bits = 0;
    for (int s = 0; s < count; s++) {
        float top = -1.0f;
        int at = 0;
        walk(sweep, pixel, own, s, 0, planes, [&](int plane, const Taps&, const float (&delta)[4]) {
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < 4; c++) sum += squared ? delta[c] * delta[c] : fabsf(delta[c]);
            sum = group_sum<8>(sum);
            if (sum > top) top = sum, at = plane;
        });
        if (pixel.there && pixel.lane == 0) plane_of[s * pixels + pixel.index] = at;
        const float* g = gradient + (s * pixels + pixel.index) * 2;
        float of_max = pixel.there ? g[0] : 0.0f, of_mean = pixel.there ? g[1] / float(planes) : 0.0f;
        walk(sweep, pixel, own, s, 0, planes, [&](int plane, const Taps&, const float (&delta)[4]) {
            float d[4];
            through_statistics(((plane == at ? of_max : 0.0f) + of_mean) / float(CHANNELS), squared, delta, d);
#pragma unroll
            for (int c = 0; c < 4; c++) into_reference[c] -= d[c];
            bits = larger(bits, d);
        });
    }
    if (pixel.there) {
        float4 v = make_float4(into_reference[0], into_reference[1], into_reference[2], into_reference[3]);
        store4(reference + pixel.index * CHANNELS + pixel.lane * 4, v);
    }
    note_largest(bits, largest);
}
BLOCK_KERNEL(statistics_backward_f32)

extern "C" __global__ void __launch_bounds__(SWEEP_THREADS)
    statistics_backward_sources_f32(SWEEP_PARAMETERS, const float* gradient, const int* plane_of,
                                    const unsigned* largest, int log_terms, int run, Fixed* sums) {
    SWEEP_HERE;
    RUN_HERE;
    Pixel pixel = pixel_of_group<float>(height, width);
    Index pixels = sweep.pixels();
    float own[4];
    load_own(features + pixel.index * CHANNELS + pixel.lane * 4, own);
    for (int s = 0; s < count; s++) {
        Index index = s * pixels + pixel.index;
        int at = plane_of[index];
        float of_max = gradient[index * 2], of_mean = gradient[index * 2 + 1] / float(planes);
        walk(sweep, pixel, own, s, first, end, [&](int plane, const Taps& t, const float (&delta)[4]) {
            float d[4];
            through_statistics(((plane == at ? of_max : 0.0f) + of_mean) / float(CHANNELS), squared, delta, d);
            if (pixel.there) scatter(sums + s * pixels * CHANNELS + pixel.lane * 4, t, d, scale);
        });
    }
}
BLOCK_KERNEL(statistics_backward_sources_f32)
