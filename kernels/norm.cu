// Batch normalisation with the statistics of the batch: y = relu?(gamma (x - mean) / sqrt(var + 1e-5) + beta), var
// biased, f32.
//
// x [positions, C]. Forward: sums of d and d^2 (d = x - the channel's first value, so that a large mean does not
// cancel) over chunks, a finish per channel, y. Backward: sums of g and g d (g = dy where the ReLU let x through, by
// the same expression as forward), a finish, dx. Sums: a block a chunk; finish: a block a channel; y and dx: a thread
// keeps 4 channels and walks down 8 positions, so their parameters are loaded once. All orders are fixed
// (channel_sums.cuh): deterministic. As the processor's ops/norm.rs up to the order of the sums. Bound by memory: 12
// bytes an element forward (x twice, y once), 20 backward (x and dy twice, dx once); nothing less is possible for a
// batch beyond the 50 MB of L2, since every y depends on every x; up to there the second reading of x comes from L2
// and 8 and 12 bytes are left.
#include "channel_sums.cuh"

constexpr double EPSILON = 1e-5;

// What a channel goes through: y = scale (x - center) + shift. In memory [3, C].
template <int L>
struct Affine {
    Pack<L> center, scale, shift;
    __device__ __forceinline__ Affine(const float* affine, int c, int channel)
        : center(load_pack<L>(affine + channel)),
          scale(load_pack<L>(affine + c + channel)),
          shift(load_pack<L>(affine + 2 * c + channel)) {}
};

// ---- statistics

template <int L>
__device__ __forceinline__ void statistics_sums(const float* x, double* partial, Index positions, Index chunk,
                                                int chunks, int c) {
    sum_chunk<L, 2>(positions, chunk, chunks, c, partial, [=](Pack<L>* terms, Index at, int channel) {
        Pack<L> v = load_pack<L>(x + at), first = load_pack<L>(x + channel);
#pragma unroll
        for (int i = 0; i < L; i++) {
            float d = v.v[i] - first.v[i];
            terms[0].v[i] = d;
            terms[1].v[i] = d * d;
        }
    });
}
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    batch_norm_forward_sums_f32(const float* x, double* partial, Index positions, Index chunk, int chunks, int c) {
    WITH_SUM_PACK(c, statistics_sums, x, partial, positions, chunk, chunks, c);
}
BLOCK_KERNEL(batch_norm_forward_sums_f32)

// mean [C], variance [C] and the affine map [3, C], from the sums; a block for each channel.
extern "C" __global__ void __launch_bounds__(128)
    batch_norm_forward_finish_f32(const double* partial, const float* x, const float* gamma, const float* beta,
                                  double* mean, double* variance, float* affine, int chunks, int c, double positions) {
    int channel = blockIdx.x;
    double sum = sum_of_chunks<2>(partial, 0, chunks, 0, c, channel),
           squares = sum_of_chunks<2>(partial, 0, chunks, 1, c, channel);
    if (threadIdx.x == 0) {
        double m = double(x[channel]) + sum / positions;
        double v = fmax((squares - sum * sum / positions) / positions, 0.0);
        double scale = double(gamma[channel]) / sqrt(v + EPSILON);
        float center = float(m);
        mean[channel] = m;
        variance[channel] = v;
        affine[channel] = center;
        affine[c + channel] = float(scale);
        // What the rounding of the mean took away comes back here.
        affine[2 * c + channel] = float(double(beta[channel]) + (double(center) - m) * scale);
    }
}
BLOCK_KERNEL(batch_norm_forward_finish_f32)

// ---- over all positions

// Positions that a thread walks down.
constexpr int WALK = 8;

// Calls f(first element, step, how many) for each thread's column of positions; channels beyond a block's threads come
// slice after slice.
template <int L, typename F>
__device__ __forceinline__ void each_column(Index positions, int c, F f) {
    int lanes = c / L;
    for (int slice = 0; slice < lanes; slice += SUM_THREADS) {
        int width = min(lanes - slice, SUM_THREADS), rows = SUM_THREADS / width;
        int lane = threadIdx.x % width, row = threadIdx.x / width;
        if (row >= rows) continue;
        int fullest = min(lanes, SUM_THREADS);
        Index per_block = Index(SUM_THREADS / fullest) * WALK;
        Index first = blockIdx.x * per_block, end = min(first + per_block, positions);
        Index left = end - first - row;
        if (left > 0)
            f((first + row) * c + (slice + lane) * L, rows * c, int((left + rows - 1) / rows), (slice + lane) * L);
    }
}

template <int L>
__device__ __forceinline__ void forward_body(const float* __restrict__ x, const float* __restrict__ affine,
                                             float* __restrict__ y, Index positions, int c, float low) {
    each_column<L>(positions, c, [=](Index at, int step, int count, int channel) {
        Affine<L> a(affine, c, channel);
#pragma unroll 4
        for (int k = 0; k < count; k++) {
            Pack<L> v = load_pack<L>(x + at + k * Index(step));
#pragma unroll
            for (int i = 0; i < L; i++) v.v[i] = fmaxf(fmaf(v.v[i] - a.center.v[i], a.scale.v[i], a.shift.v[i]), low);
            store_pack<L>(y + at + k * Index(step), v);
        }
    });
}
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    batch_norm_forward_f32(const float* x, const float* affine, float* y, Index positions, int c, float low) {
    WITH_SUM_PACK(c, forward_body, x, affine, y, positions, c, low);
}
KERNEL(batch_norm_forward_f32)

// The gradient that reaches the norm, where a ReLU follows.
__device__ __forceinline__ float reaching(float d, float scale, float shift, float dy, int relu) {
    return !relu || fmaf(d, scale, shift) > 0.0f ? dy : 0.0f;
}

template <int L>
__device__ __forceinline__ void gradient_sums(const float* x, const float* dy, const float* affine, double* partial,
                                              Index positions, Index chunk, int chunks, int c, int relu) {
    sum_chunk<L, 2>(positions, chunk, chunks, c, partial, [=](Pack<L>* terms, Index at, int channel) {
        Affine<L> a(affine, c, channel);
        Pack<L> v = load_pack<L>(x + at), gradient = load_pack<L>(dy + at);
#pragma unroll
        for (int i = 0; i < L; i++) {
            float d = v.v[i] - a.center.v[i];
            float g = reaching(d, a.scale.v[i], a.shift.v[i], gradient.v[i], relu);
            terms[0].v[i] = g;
            terms[1].v[i] = g * d;
        }
    });
}
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    batch_norm_backward_sums_f32(const float* x, const float* dy, const float* affine, double* partial, Index positions,
                                 Index chunk, int chunks, int c, int relu) {
    WITH_SUM_PACK(c, gradient_sums, x, dy, affine, partial, positions, chunk, chunks, c, relu);
}
BLOCK_KERNEL(batch_norm_backward_sums_f32)

// dgamma, dbeta [C], and slope and level [2, C] of dx = scale g + slope d + level
// = scale (g - mean(g) - xhat mean(g xhat)) with xhat = d / sqrt(var + epsilon); a block for each channel.
extern "C" __global__ void __launch_bounds__(128)
    batch_norm_backward_finish_f32(const double* partial, const double* variance, const float* affine, float* dgamma,
                                   float* dbeta, float* coefficients, int chunks, int c, double positions) {
    int channel = blockIdx.x;
    double g = sum_of_chunks<2>(partial, 0, chunks, 0, c, channel),
           gd = sum_of_chunks<2>(partial, 0, chunks, 1, c, channel);
    if (threadIdx.x == 0) {
        double inverse = 1.0 / sqrt(variance[channel] + EPSILON);
        double of_gamma = gd * inverse, scale = affine[c + channel];
        dgamma[channel] = float(of_gamma);
        dbeta[channel] = float(g);
        coefficients[channel] = float(-scale * of_gamma / positions * inverse);
        coefficients[c + channel] = float(-scale * g / positions);
    }
}
BLOCK_KERNEL(batch_norm_backward_finish_f32)

template <int L>
__device__ __forceinline__ void backward_body(const float* __restrict__ x, const float* __restrict__ dy,
                                              const float* __restrict__ affine, const float* __restrict__ coefficients,
                                              float* __restrict__ dx, Index positions, int c, int relu) {
    each_column<L>(positions, c, [=](Index at, int step, int count, int channel) {
        Affine<L> a(affine, c, channel);
        Pack<L> slope = load_pack<L>(coefficients + channel), level = load_pack<L>(coefficients + c + channel);
#pragma unroll 4
        for (int k = 0; k < count; k++) {
            Pack<L> v = load_pack<L>(x + at + k * Index(step)), gradient = load_pack<L>(dy + at + k * Index(step));
#pragma unroll
            for (int i = 0; i < L; i++) {
                float d = v.v[i] - a.center.v[i];
                float g = reaching(d, a.scale.v[i], a.shift.v[i], gradient.v[i], relu);
                v.v[i] = fmaf(g, a.scale.v[i], fmaf(d, slope.v[i], level.v[i]));
            }
            store_pack<L>(dx + at + k * Index(step), v);
        }
    });
}
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    batch_norm_backward_f32(const float* x, const float* dy, const float* affine, const float* coefficients, float* dx,
                            Index positions, int c, int relu) {
    WITH_SUM_PACK(c, backward_body, x, dy, affine, coefficients, dx, positions, c, relu);
}
KERNEL(batch_norm_backward_f32)

// ---- running statistics

// running = (1 - momentum) running + momentum new, the variance times `unbiased` = n / (n - 1).
extern "C" __global__ void __launch_bounds__(128)
    batch_norm_follow_f32(const double* mean, const double* variance, float* running_mean, float* running_variance,
                          int c, double unbiased, double momentum) {
    int channel = int(thread_of_grid());
    if (channel >= c) return;
    running_mean[channel] = float(double(running_mean[channel]) * (1.0 - momentum) + mean[channel] * momentum);
    running_variance[channel] =
        float(double(running_variance[channel]) * (1.0 - momentum) + variance[channel] * unbiased * momentum);
}
KERNEL(batch_norm_follow_f32)
