// Narrow stages for inference: the convex upsampling of a map of 1 / depth, the cost volume over a few hypotheses of
// each pixel's own, what follows from its logits, and the regressions that make confidence of it.
//
// upsample: map [H, W] f32, weights [H, W, 36] -> [2 H, 2 W] f32; a thread a fine pixel. cost: reference [H, W, C],
// sources [S, map_pixels, C] (each map row after row of its own width), guess [H, W] f32 -> [K, H, W, C]; a
// thread a pixel with all its hypotheses, whose C = 8 or 16 channels stay in registers. regress: logits [K, H, W] f32
// -> depth and confidence [H, W]; a thread a pixel. Roundings need not be the processor's. Sums in f32, sources in
// order; each output by one thread: deterministic. Floors (3.35 TB/s) at 1600 x 1200, 4 photos, f16: cost of 8
// hypotheses at half of the sides 123 MB written, 63 read, 0.056 ms; of 4 at all of them 123 and 131, 0.076 ms; regress
// there 61 MB, 0.018 ms. The costs are bound by the issue of instructions: 250 and 128 multiply-adds and 64 and 32
// conversions a source and voxel, counted in this text, 0.12 ms each for 132 SMs of 1.75 GHz.
#include "narrow.cuh"
#include "packs.cuh"

// ---- the guess

constexpr int NEIGHBOURS = 9;

// Fine pixel (2 y + i, 2 x + j) of a coarse pixel (y, x) is a mean of the 3 x 3 coarse pixels around, at the border the
// nearest ones, weighted by the softmax of nine weights, those from 9 (2 i + j) on.
struct Convex {
    float share[NEIGHBOURS], value[NEIGHBOURS], mean;
};
template <typename T>
__device__ __forceinline__ Convex convex_mean(const float* map, const T* own, int height, int width, int y, int x) {
    Convex c;
    float top = -INFINITY, total = 0.0f, sum = 0.0f;
#pragma unroll
    for (int t = 0; t < NEIGHBOURS; t++) {
        c.share[t] = load(own + t);
        top = fmaxf(top, c.share[t]);
    }
#pragma unroll
    for (int t = 0; t < NEIGHBOURS; t++) {
        int row = min(max(y + t / 3 - 1, 0), height - 1), column = min(max(x + t % 3 - 1, 0), width - 1);
        c.value[t] = map[Index(row) * width + column];
        c.share[t] = expf(c.share[t] - top);
        total += c.share[t];
        sum = fmaf(c.share[t], c.value[t], sum);
    }
    c.mean = sum / total;
#pragma unroll
    for (int t = 0; t < NEIGHBOURS; t++) c.share[t] /= total;
    return c;
}

// Where fine pixel i of maps of this width belongs: its coarse pixel, and its first weight.
struct Fine {
    int y, x;
    Index weights;
};
__device__ __forceinline__ Fine fine_pixel(Index i, int width) {
    int column, row = int(divided(i, 2 * width, column)), y = row / 2, x = column / 2;
    return {y, x, (Index(y) * width + x) * (4 * NEIGHBOURS) + row % 2 * (2 * NEIGHBOURS) + column % 2 * NEIGHBOURS};
}

template <typename T>
__device__ __forceinline__ void convex_body(const float* map, const T* weights, float* y, int height, int width) {
    Index n = 4 * Index(height) * width;
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        Fine p = fine_pixel(i, width);
        y[i] = convex_mean(map, weights + p.weights, height, width, p.y, p.x).mean;
    }
}
extern "C" __global__ void __launch_bounds__(256)
    convex_forward_f32(const float* map, const float* weights, float* y, int height, int width) {
    convex_body(map, weights, y, height, width);
}
KERNEL(convex_forward_f32)
extern "C" __global__ void __launch_bounds__(256)
    convex_forward_f16(const float* map, const __half* weights, float* y, int height, int width) {
    convex_body(map, weights, y, height, width);
}
KERNEL(convex_forward_f16)

// The gradient in the weights: g p (v - mean), nine for each fine pixel; none flows into the map.
extern "C" __global__ void __launch_bounds__(256)
    convex_backward_f32(const float* map, const float* weights, const float* dy, float* dw, int height, int width) {
    Index n = 4 * Index(height) * width;
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        Fine p = fine_pixel(i, width);
        Convex c = convex_mean(map, weights + p.weights, height, width, p.y, p.x);
#pragma unroll
        for (int t = 0; t < NEIGHBOURS; t++) dw[p.weights + t] = dy[i] * c.share[t] * (c.value[t] - c.mean);
    }
}
KERNEL(convex_backward_f32)

extern "C" __global__ void __launch_bounds__(256) inverse_forward_f32(const float* depth, float* y, Index n) {
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) y[i] = 1.0f / depth[i];
}
KERNEL(inverse_forward_f32)

// ---- the cost

// The voxel gate's 1 + w; reduce [8, C] and its bias, weight [8] and its bias. All threads of a warp read the same
// addresses.
struct Gate {
    const float *reduce, *reduce_bias, *weight, *weight_bias;
};
template <int C>
__device__ __forceinline__ float opened(const Gate& gate, const float (&f)[C]) {
    float w = 0.0f;
    // Unrolled, the weights would be kept over the sources' loop, in more registers than there are.
#pragma unroll 1
    for (int o = 0; o < HIDDEN; o++) {
        float hidden = gate.reduce_bias[o];
#pragma unroll
        for (int c = 0; c < C; c += 4) {
            float4 r = load4(gate.reduce + o * C + c);
            hidden = fmaf(f[c], r.x, hidden);
            hidden = fmaf(f[c + 1], r.y, hidden);
            hidden = fmaf(f[c + 2], r.z, hidden);
            hidden = fmaf(f[c + 3], r.w, hidden);
        }
        w = fmaf(fmaxf(hidden, 0.0f), gate.weight[o], w);
    }
    return 1.0f + fmaxf(w + gate.weight_bias[0], 0.0f);
}

template <int C, typename T>
__device__ __forceinline__ void cost_body(const T* reference, const T* sources, const float* rows, const float* guess,
                                          const float* spacing, const Gate& gate, T* cost, const NarrowShape& g) {
    const Index pixels = Index(g.height) * g.width;
    const float share = 1.0f / float(g.count);
    for (Index i = thread_of_grid(); i < pixels; i += threads_of_grid()) {
        float own[C];
        load_pixel<C>(reference + i * C, own);
        const Searched at = searched(guess, spacing, g, i);
        for (int k = 0; k < g.hypotheses; k++) {
            const float rho = at.rho(k);
            float sum[C];
#pragma unroll
            for (int c = 0; c < C; c++) sum[c] = 0.0f;
            for (int s = 0; s < g.count; s++) {
                const float* row = rows + s * SOURCE;
                const Taps t = taps_at<C>(row, locate_inverse(row, at.x, at.y, rho), width_of(row));
                float f[C];
                differences<C>(sources + s * Index(g.map_pixels) * C, t, own, f);
#pragma unroll
                for (int c = 0; c < C; c++) f[c] *= f[c];
                const float factor = opened<C>(gate, f) * share;
#pragma unroll
                for (int c = 0; c < C; c++) sum[c] = fmaf(f[c], factor, sum[c]);
            }
            T* to = cost + (k * pixels + i) * C;
#pragma unroll
            for (int c = 0; c < C; c += 4) store4(to + c, make_float4(sum[c], sum[c + 1], sum[c + 2], sum[c + 3]));
        }
    }
}

// BLOCKS on a multiprocessor: as many as the registers allow without spills.
#define NARROW_COST(name, C, T, BLOCKS)                                                                              \
    extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                        \
        name(const T* reference, const T* sources, const float* rows, const float* guess, const float* spacing,      \
             const float* reduce, const float* reduce_bias, const float* weight, const float* weight_bias, T* cost,  \
             NarrowShape shape) {                                                                                    \
        cost_body<C>(reference, sources, rows, guess, spacing, Gate{reduce, reduce_bias, weight, weight_bias}, cost, \
                     shape);                                                                                         \
    }                                                                                                                \
    KERNEL(name)

NARROW_COST(narrow_cost_forward_c8_f32, 8, float, 3)
NARROW_COST(narrow_cost_forward_c16_f32, 16, float, 2)
NARROW_COST(narrow_cost_forward_c8_f16, 8, __half, 3)
NARROW_COST(narrow_cost_forward_c16_f16, 16, __half, 2)

// ---- depth and confidence

// What a regression begins with (src/net/confidence.rs): change of 1 / depth that is a pixel, ln of the coarse
// interval in pixels, ln of the number of sources, and whether there is a regression; its coefficients follow.
constexpr int PIXEL = 0, INTERVAL = 1, SOURCES = 2, FITTED = 3, COEFFICIENTS = 4;
constexpr int COARSE_TERMS = 8, NARROW_TERMS = 13;

template <int N>
__device__ __forceinline__ float probability(const float* coefficients, const float (&terms)[N]) {
    float odds = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) odds = fmaf(terms[i], coefficients[i], odds);
    return 1.0f / (1.0f + expf(-odds));
}
// ln(p / (1 - p)), at most 9 either way.
__device__ __forceinline__ float log_odds(float p) {
    return fminf(fmaxf(logf(fmaxf(p / (1.0f - p), 1e-6f)), -9.0f), 9.0f);
}
__device__ __forceinline__ float log_of(float pixels) { return fminf(logf(fmaxf(pixels, 0.02f)), 7.0f); }

// Of the coarse stage: from the probability of four hypotheses.
extern "C" __global__ void __launch_bounds__(256)
    judge_forward_f32(const float* before, const float* judge, float* y, Index n) {
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        float p = before[i];
        if (judge[FITTED] > 0.0f) {
            float z = log_odds(p), l = judge[INTERVAL], s = judge[SOURCES];
            float terms[COARSE_TERMS] = {1.0f, z, z * z, l, l * l, z * l, s, z * s};
            p = probability(judge + COEFFICIENTS, terms);
        }
        y[i] = p;
    }
}
KERNEL(judge_forward_f32)

// How much the guess bends along one axis, past neighbours that lie `step` away.
__device__ __forceinline__ float bend(const float* guess, Index step) {
    return fabsf(guess[-step] - 2.0f * guess[0] + guess[step]);
}

extern "C" __global__ void __launch_bounds__(256)
    narrow_regress_forward_f32(const float* logits, const float* guess, const float* before, const float* spacing,
                               const float* judge, int hypotheses, int height, int width, float* depth,
                               float* confidence) {
    const Index pixels = Index(height) * width;
    const float middle = 0.5f * float(hypotheses - 1);
    for (Index i = thread_of_grid(); i < pixels; i += threads_of_grid()) {
        float top = -INFINITY, total = 0.0f, offset = 0.0f, square = 0.0f;
        for (int k = 0; k < hypotheses; k++) top = fmaxf(top, logits[k * pixels + i]);
        for (int k = 0; k < hypotheses; k++) {
            float e = expf(logits[k * pixels + i] - top);
            total += e;
            offset = fmaf(e, float(k) - middle, offset);
        }
        const float found = offset / total;
        for (int k = 0; k < hypotheses; k++) {
            float away = float(k) - middle - found;
            square = fmaf(expf(logits[k * pixels + i] - top) * away, away, square);
        }
        const float step = spacing_at(spacing, guess[i]);
        // The smallest normal number: a depth must be finite.
        depth[i] = 1.0f / fmaxf(fmaf(found, step, guess[i]), 1.17549435e-38f);
        float p = before[i];
        if (judge[FITTED] > 0.0f) {
            const int x = int(i % width), y = int(i / width);
            float bent = x > 0 && x + 1 < width ? bend(guess + i, 1) : 0.0f;
            bent = fmaxf(bent, y > 0 && y + 1 < height ? bend(guess + i, width) : 0.0f);
            float z = log_odds(p), s = log_of(sqrtf(square / total) * step / judge[PIXEL]),
                  b = log_of(bent / judge[PIXEL]), shift = found / fmaxf(middle, 0.5f), h = shift * shift;
            float terms[NARROW_TERMS] = {1.0f, z, z * z, s, s * s, z * s, h, h * h, b, b * b, b * s, judge[INTERVAL],
                                         judge[SOURCES]};
            p = probability(judge + COEFFICIENTS, terms);
        }
        confidence[i] = p;
    }
}
KERNEL(narrow_regress_forward_f32)
