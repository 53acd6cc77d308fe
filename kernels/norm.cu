// Batch norm over all positions of a channel, with the batch's statistics, and ReLU; its gradients.
//
// y = relu?(gamma (x - mean) / sqrt(var + 1e-5) + beta), var biased. Shapes: x, y [positions, C], gamma, beta, mean, variance [C], C <= 256, a multiple of 4.
// Statistics: blocks over parts of the positions, sums of x - s and (x - s)^2 with s the channel's first value (which takes the mean away that would
// cancel), f64 (reduce.cuh). Apply and the gradient in x: one thread four channels.
// The ReLU's mask is computed again from x, so that y need not be kept. Same formulas as src/ops/norm.rs.
// Deterministic. Floor: forward reads x twice and writes y; backward reads x and dy twice and writes dx.
#include "reduce.cuh"

constexpr double EPSILON = 1e-5;

extern "C" __global__ void __launch_bounds__(256)
    batch_norm_forward_statistics_f32(const float* x, double* partial, Index positions, int C) {
    SHARED(double, sums, 256);
    channel_partials<2>(positions, C, partial, sums, [&](Index i, float* values) {
        float v = x[i] - x[i % C];
        values[0] = v;
        values[1] = v * v;
    });
}
BLOCK_KERNEL(batch_norm_forward_statistics_f32)

extern "C" __global__ void __launch_bounds__(256) batch_norm_forward_finish_f32(const double* partial, const float* x, float* mean,
                                                                                 float* variance, Index positions, int parts, int C) {
    int c = int(thread_of_grid());
    if (c >= C) return;
    double n = double(positions), s = sum_of_partials<2>(partial, 0, parts, 0, c, C), squares = sum_of_partials<2>(partial, 0, parts, 1, c, C);
    double spread = (squares - s * s / n) / n;
    mean[c] = float(double(x[c]) + s / n);
    variance[c] = float(spread > 0 ? spread : 0);
}
KERNEL(batch_norm_forward_finish_f32)

// 1 / sqrt(var + eps), in f64 so that a small variance keeps its digits.
__device__ __forceinline__ float inverse_deviation(float variance) { return float(1.0 / sqrt(double(variance) + EPSILON)); }

__device__ __forceinline__ float4 load_inverse(const float* variance) {
    float4 v = load4(variance);
    return make_float4(inverse_deviation(v.x), inverse_deviation(v.y), inverse_deviation(v.z), inverse_deviation(v.w));
}

__device__ __forceinline__ float normed(float x, float mean, float scale, float beta) { return (x - mean) * scale + beta; }

extern "C" __global__ void __launch_bounds__(256)
    batch_norm_forward_f32(const float* x, const float* gamma, const float* beta, const float* mean, const float* variance, float* y, int relu,
                           int C, Index n) {
    float low = relu ? 0.0f : -INFINITY;
    for (Index i = thread_of_grid(); i < n / 4; i += threads_of_grid()) {
        int c = int(4 * i % C);
        float4 v = load4(x + 4 * i), g = load4(gamma + c), b = load4(beta + c), m = load4(mean + c), s = load_inverse(variance + c);
        store4(y + 4 * i, make_float4(fmaxf(normed(v.x, m.x, g.x * s.x, b.x), low), fmaxf(normed(v.y, m.y, g.y * s.y, b.y), low),
                                      fmaxf(normed(v.z, m.z, g.z * s.z, b.z), low), fmaxf(normed(v.w, m.w, g.w * s.w, b.w), low)));
    }
}
KERNEL(batch_norm_forward_f32)

// Sums of g and of g xhat, g being the gradient that comes through the ReLU.
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_backward_sums_f32(const float* x, const float* dy, const float* gamma, const float* beta, const float* mean, const float* variance,
                                 double* partial, int relu, Index positions, int C) {
    SHARED(double, sums, 256);
    int c = int(threadIdx.x) % C;
    float m = mean[c], s = inverse_deviation(variance[c]), scale = gamma[c] * s, b = beta[c];
    channel_partials<2>(positions, C, partial, sums, [&](Index i, float* values) {
        float v = x[i];
        float g = !relu || normed(v, m, scale, b) > 0.0f ? dy[i] : 0.0f;
        values[0] = g;
        values[1] = g * ((v - m) * s);
    });
}
BLOCK_KERNEL(batch_norm_backward_sums_f32)

// dbeta = sum(g), dgamma = sum(g xhat).
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_backward_finish_f32(const double* partial, float* dgamma, float* dbeta, int parts, int C) {
    int c = int(thread_of_grid());
    if (c >= C) return;
    dbeta[c] = float(sum_of_partials<2>(partial, 0, parts, 0, c, C));
    dgamma[c] = float(sum_of_partials<2>(partial, 0, parts, 1, c, C));
}
KERNEL(batch_norm_backward_finish_f32)

// dx = gamma / sigma (g - mean(g) - xhat mean(g xhat)).
extern "C" __global__ void __launch_bounds__(256)
    batch_norm_backward_f32(const float* x, const float* dy, const float* gamma, const float* beta, const float* mean, const float* variance,
                            const float* dgamma, const float* dbeta, float* dx, int relu, Index positions, int C, Index n) {
    float count = float(positions);
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        int c = int(i % C);
        float s = inverse_deviation(variance[c]), m = mean[c], scale = gamma[c] * s, v = x[i];
        float g = !relu || normed(v, m, scale, beta[c]) > 0.0f ? dy[i] : 0.0f;
        dx[i] = scale * (g - dbeta[c] / count - (v - m) * s * (dgamma[c] / count));
    }
}
KERNEL(batch_norm_backward_f32)
