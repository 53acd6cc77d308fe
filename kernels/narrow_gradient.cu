// Narrow stages in training, f32: squared differences of every source at each pixel's hypotheses, their weighted sum,
// both with their gradients, and the losses of the logits and of the guess (src/cpu/ops/narrow.rs defines them).
//
// features [V, H, W, C], the reference first, guess [H, W] -> f [S, K, H, W, C]; with weights w [S, K, H, W] of a gate
// -> cost [K, H, W, C]. Backward: one thread a pixel adds up what flows into the reference and finds the largest
// |gradient|; a second launch scatters into the sources as sweep_gradient.cu does. Loss: logits [K, H, W], guess and
// truth [H, W] -> gradients of the logits and the guess, means in f64: numbers of pixels by one block, a thread a
// pixel, sums of blocks in order. Deterministic: sums are of integers or in a fixed order. Floors: bound by memory, f
// moves once for each launch: 8 S K H W C bytes forward and twice that back; the scatter by 4 S K C additions a pixel
// in the L2 cache.
#include "fixed_point.cuh"
#include "narrow.cuh"

template <int C>
__device__ __forceinline__ void forward_body(const float* features, const float* rows, const float* guess,
                                             const float* spacing, float* y, const NarrowShape& g) {
    const Index pixels = Index(g.height) * g.width;
    for (Index i = thread_of_grid(); i < pixels; i += threads_of_grid()) {
        float own[C];
        load_pixel<C>(features + i * C, own);
        const Searched at = searched(guess, spacing, g, i);
        for (int s = 0; s < g.count; s++) {
            const float* row = rows + s * SOURCE;
            for (int k = 0; k < g.hypotheses; k++) {
                float f[C];
                const Taps t = taps_at<C>(row, locate_inverse(row, at.x, at.y, at.rho(k)), width_of(row));
                differences<C>(features + (s + 1) * pixels * C, t, own, f);
                float* to = y + ((s * g.hypotheses + k) * pixels + i) * C;
#pragma unroll
                for (int c = 0; c < C; c += 4)
                    store4(to + c, make_float4(f[c] * f[c], f[c + 1] * f[c + 1], f[c + 2] * f[c + 2],
                                               f[c + 3] * f[c + 3]));
            }
        }
    }
}

// Calls visit(source, taps, gradient in the difference) for every source and hypothesis of pixel i.
template <int C, typename Visit>
__device__ __forceinline__ void walk_back(const float* features, const float* rows, const float* guess,
                                          const float* spacing, const float* gradient, const NarrowShape& g, Index i,
                                          const Visit& visit) {
    const Index pixels = Index(g.height) * g.width;
    float own[C];
    load_pixel<C>(features + i * C, own);
    const Searched at = searched(guess, spacing, g, i);
    for (int s = 0; s < g.count; s++) {
        const float* row = rows + s * SOURCE;
        for (int k = 0; k < g.hypotheses; k++) {
            float delta[C], d[C];
            const Taps t = taps_at<C>(row, locate_inverse(row, at.x, at.y, at.rho(k)), width_of(row));
            differences<C>(features + (s + 1) * pixels * C, t, own, delta);
            load_pixel<C>(gradient + ((s * g.hypotheses + k) * pixels + i) * C, d);
#pragma unroll
            for (int c = 0; c < C; c++) d[c] *= delta[c] + delta[c];
            visit(s, t, d);
        }
    }
}

// Into the reference, [H, W, C]. Whole warps meet at the end: no thread leaves early.
template <int C>
__device__ __forceinline__ void backward_body(const float* features, const float* rows, const float* guess,
                                              const float* spacing, const float* gradient, float* reference,
                                              unsigned* largest, const NarrowShape& g) {
    const Index pixels = Index(g.height) * g.width;
    unsigned most = 0;
    for (Index i = thread_of_grid(); i < pixels; i += threads_of_grid()) {
        float into[C];
#pragma unroll
        for (int c = 0; c < C; c++) into[c] = 0.0f;
        walk_back<C>(features, rows, guess, spacing, gradient, g, i, [&](int, const Taps&, const float (&d)[C]) {
            most = larger(most, d);
#pragma unroll
            for (int c = 0; c < C; c++) into[c] -= d[c];
        });
#pragma unroll
        for (int c = 0; c < C; c += 4)
            store4(reference + i * C + c, make_float4(into[c], into[c + 1], into[c + 2], into[c + 3]));
    }
    note_largest(most, largest);
}

template <int C>
__device__ __forceinline__ void scatter_body(const float* features, const float* rows, const float* guess,
                                             const float* spacing, const float* gradient, const unsigned* largest,
                                             int log_terms, Fixed* sums, const NarrowShape& g) {
    const Index pixels = Index(g.height) * g.width;
    const float scale = power_of_two(fixed_exponent(*largest, log_terms));
    for (Index i = thread_of_grid(); i < pixels; i += threads_of_grid()) {
        walk_back<C>(features, rows, guess, spacing, gradient, g, i, [&](int s, const Taps& t, const float (&d)[C]) {
            scatter(sums + s * pixels * C, t, d, scale);
        });
    }
}

#define SEARCH const float *features, const float *rows, const float *guess, const float *spacing
#define NARROW_DIFFERENCES(C)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        narrow_differences_forward_c##C##_f32(SEARCH, float* y, NarrowShape shape) {                                 \
        forward_body<C>(features, rows, guess, spacing, y, shape);                                                   \
    }                                                                                                                \
    KERNEL(narrow_differences_forward_c##C##_f32)                                                                    \
    extern "C" __global__ void __launch_bounds__(256) narrow_differences_backward_c##C##_f32(                        \
        SEARCH, const float* gradient, float* reference, unsigned* largest, NarrowShape shape) {                     \
        backward_body<C>(features, rows, guess, spacing, gradient, reference, largest, shape);                       \
    }                                                                                                                \
    BLOCK_KERNEL(narrow_differences_backward_c##C##_f32)                                                             \
    extern "C" __global__ void __launch_bounds__(256) narrow_differences_backward_sources_c##C##_f32(                \
        SEARCH, const float* gradient, const unsigned* largest, int log_terms, Fixed* sums, NarrowShape shape) {     \
        scatter_body<C>(features, rows, guess, spacing, gradient, largest, log_terms, sums, shape);                  \
    }                                                                                                                \
    KERNEL(narrow_differences_backward_sources_c##C##_f32)

NARROW_DIFFERENCES(8)
NARROW_DIFFERENCES(16)

// ---- the weighted sum over the sources, four channels a thread

// f [S, N, C], w [S, N] -> cost [N, C], N being voxels.
extern "C" __global__ void __launch_bounds__(256)
    narrow_weighted_forward_f32(const float* f, const float* w, float* cost, int count, int channels, Index voxels) {
    const int quarter = channels / 4;
    const float share = 1.0f / float(count);
    for (Index i = thread_of_grid(); i < voxels * quarter; i += threads_of_grid()) {
        float4 sum = make_float4(0, 0, 0, 0);
        for (int s = 0; s < count; s++) {
            float factor = (1.0f + w[s * voxels + i / quarter]) * share;
            float4 v = load4(f + s * voxels * channels + i * 4);
            sum.x = fmaf(v.x, factor, sum.x);
            sum.y = fmaf(v.y, factor, sum.y);
            sum.z = fmaf(v.z, factor, sum.z);
            sum.w = fmaf(v.w, factor, sum.w);
        }
        store4(cost + i * 4, sum);
    }
}
KERNEL(narrow_weighted_forward_f32)

// df [S, N, C] and dw [S, N] from dcost [N, C]; one thread a source and voxel.
extern "C" __global__ void __launch_bounds__(256)
    narrow_weighted_backward_f32(const float* f, const float* w, const float* gradient, float* df, float* dw, int count,
                                 int channels, Index voxels) {
    const float share = 1.0f / float(count);
    for (Index i = thread_of_grid(); i < voxels * count; i += threads_of_grid()) {
        const Index voxel = i % voxels;
        const float factor = (1.0f + w[i]) * share;
        float dot = 0.0f;
        for (int c = 0; c < channels; c += 4) {
            float4 g = load4(gradient + voxel * channels + c), v = load4(f + i * channels + c);
            dot = fmaf(g.x, v.x, dot);
            dot = fmaf(g.y, v.y, dot);
            dot = fmaf(g.z, v.z, dot);
            dot = fmaf(g.w, v.w, dot);
            store4(df + i * channels + c, make_float4(g.x * factor, g.y * factor, g.z * factor, g.w * factor));
        }
        dw[i] = dot * share;
    }
}
KERNEL(narrow_weighted_backward_f32)

// ---- the losses

constexpr int LOSS_THREADS = 128;
constexpr int COUNT_THREADS = 1024;
constexpr int MOST_HYPOTHESES = 16;

// Where the truth of a pixel lies among its hypotheses, in units of their distance; not `there` without a truth.
struct Place {
    double t, step;
    bool there;
};
__device__ __forceinline__ Place place_of(const float* guess, const float* truth, const float* spacing, Index i) {
    const float step = spacing_at(spacing, guess[i]), depth = truth[i];
    if (!(depth > 0.0f && depth <= 3.402823466e38f && step > 0.0f)) return {0.0, 1.0, false};
    return {(1.0 / double(depth) - double(guess[i])) / double(step), double(step), true};
}

// counts [2]: pixels with a truth, and of those the ones whose hypotheses reach it. One block.
extern "C" __global__ void __launch_bounds__(COUNT_THREADS)
    narrow_loss_forward_count_f32(const float* guess, const float* truth, const float* spacing, int hypotheses,
                                  Index pixels, double* counts) {
    SHARED(double, partial, 32);
    const double farthest = 0.5 * double(hypotheses - 1);
    double valid = 0.0, reached = 0.0;
    for (Index i = threadIdx.x; i < pixels; i += COUNT_THREADS) {
        Place at = place_of(guess, truth, spacing, i);
        valid += at.there ? 1.0 : 0.0;
        reached += at.there && fabs(at.t) <= farthest ? 1.0 : 0.0;
    }
    valid = block_sum(valid, partial);
    reached = block_sum(reached, partial);
    if (threadIdx.x == 0) {
        counts[0] = valid;
        counts[1] = reached;
    }
}
BLOCK_KERNEL(narrow_loss_forward_count_f32)

// sums [blocks, 3]: |found - t|, cross-entropy, log(1 + |t|).
extern "C" __global__ void __launch_bounds__(LOSS_THREADS)
    narrow_loss_forward_f32(const float* logits, const float* guess, const float* truth, const float* spacing,
                            const double* counts, float l1, float cross_entropy, float of_guess, int hypotheses,
                            Index pixels, float* logits_gradient, float* guess_gradient, double* sums) {
    SHARED(double, partial, 32);
    const Index i = thread_of_grid();
    const double farthest = 0.5 * double(hypotheses - 1);
    double distance = 0.0, entropy = 0.0, missed = 0.0;
    if (i < pixels) {
        const Place at = place_of(guess, truth, spacing, i);
        const bool reached = at.there && fabs(at.t) <= farthest;
        double slope = 0.0;
        if (at.there) {
            const double away = fabs(at.t);
            missed = log(1.0 + away);
            slope = at.t == 0.0 ? 0.0 : (at.t > 0.0 ? -1.0 : 1.0) / (1.0 + away) / at.step;
            slope *= double(of_guess) / counts[0];
        }
        guess_gradient[i] = float(slope);
        float p[MOST_HYPOTHESES], top = -INFINITY, total = 0.0f, mean = 0.0f;
        for (int k = 0; k < hypotheses; k++) top = fmaxf(top, logits[k * pixels + i]);
#pragma unroll
        for (int k = 0; k < MOST_HYPOTHESES; k++) {
            p[k] = k < hypotheses ? expf(logits[k * pixels + i] - top) : 0.0f;
            total += p[k];
        }
#pragma unroll
        for (int k = 0; k < MOST_HYPOTHESES; k++) {
            p[k] /= total;
            mean = fmaf(p[k], float(k) - float(farthest), mean);
        }
        const double off = double(mean) - at.t, sign = off > 0.0 ? 1.0 : off < 0.0 ? -1.0 : 0.0,
                     from_first = at.t + farthest;
        const int low = reached ? max(min(int(floor(from_first)), hypotheses - 2), 0) : 0;
        const double part = fmin(fmax(from_first - double(low), 0.0), 1.0), share = reached ? 1.0 / counts[1] : 0.0;
        if (reached) distance = fabs(off);
#pragma unroll
        for (int k = 0; k < MOST_HYPOTHESES; k++) {
            if (k >= hypotheses) continue;
            const double own = double(p[k]), q = k == low ? 1.0 - part : k == low + 1 ? part : 0.0;
            if (reached && q > 0.0) entropy -= q * log(fmax(own, 1e-30));
            const double g = double(l1) * sign * own * (double(k) - farthest - double(mean)) +
                             double(cross_entropy) * (own - q);
            logits_gradient[k * pixels + i] = float(g * share);
        }
    }
    distance = block_sum(distance, partial);
    entropy = block_sum(entropy, partial);
    missed = block_sum(missed, partial);
    if (threadIdx.x == 0) {
        sums[Index(blockIdx.x) * 3] = distance;
        sums[Index(blockIdx.x) * 3 + 1] = entropy;
        sums[Index(blockIdx.x) * 3 + 2] = missed;
    }
}
BLOCK_KERNEL(narrow_loss_forward_f32)

// losses [3]: the weighted sum, the mean L1 distance in units of the hypotheses' distance, the share that is in reach.
// One block.
extern "C" __global__ void __launch_bounds__(COUNT_THREADS)
    narrow_loss_forward_sum_f32(const double* sums, int blocks, const double* counts, float l1, float cross_entropy,
                                float of_guess, double* losses) {
    SHARED(double, partial, 32);
    double distance = 0.0, entropy = 0.0, missed = 0.0;
    for (int i = threadIdx.x; i < blocks; i += COUNT_THREADS) {
        distance += sums[Index(i) * 3];
        entropy += sums[Index(i) * 3 + 1];
        missed += sums[Index(i) * 3 + 2];
    }
    distance = block_sum(distance, partial);
    entropy = block_sum(entropy, partial);
    missed = block_sum(missed, partial);
    if (threadIdx.x == 0) {
        const double valid = 1.0 / fmax(counts[0], 1.0), reached = 1.0 / fmax(counts[1], 1.0);
        losses[0] = double(l1) * distance * reached + double(cross_entropy) * entropy * reached +
                    double(of_guess) * missed * valid;
        losses[1] = distance * reached;
        losses[2] = counts[1] * valid;
    }
}
BLOCK_KERNEL(narrow_loss_forward_sum_f32)
