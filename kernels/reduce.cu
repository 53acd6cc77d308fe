// Means over the positions of a plane or of the volume, and their gradients.
//
// y[d, c] = mean over h, w of x[d, h, w, c], or y[c] over d, h, w (one group of all positions). Shapes: x [groups, positions, C], y [groups, C].
// One block a part of a group's positions, then one thread a mean (reduce.cuh); the gradient: one thread four elements.
// Sums in f64, so that the order does not show in f32.
// Deterministic. Floor: x is read once, or the gradient written once.
#include "reduce.cuh"

template <typename T>
__device__ __forceinline__ void mean_partial(const T* x, double* partial, Index positions, int C) {
    SHARED(double, sums, 256);
    Index group = Index(blockIdx.y) * positions * C;
    channel_partials<1>(positions, C, partial, sums, [&](Index i, float* values) { values[0] = load(x + group + i); });
}
extern "C" __global__ void __launch_bounds__(256)
    mean_forward_partial_f32(const float* x, double* partial, Index positions, int C) {
    mean_partial(x, partial, positions, C);
}
BLOCK_KERNEL(mean_forward_partial_f32)
extern "C" __global__ void __launch_bounds__(256)
    mean_forward_partial_f16(const __half* x, double* partial, Index positions, int C) {
    mean_partial(x, partial, positions, C);
}
BLOCK_KERNEL(mean_forward_partial_f16)

// Sums times `scale`: 1 / positions for means, 1 for plain sums.
template <typename T>
__device__ __forceinline__ void mean_finish(const double* partial, T* y, int groups, int parts, int C, double scale) {
    Index i = thread_of_grid();
    if (i < Index(groups) * C) store(y + i, float(sum_of_partials<1>(partial, int(i / C), parts, 0, int(i % C), C) * scale));
}
extern "C" __global__ void __launch_bounds__(256)
    mean_forward_finish_f32(const double* partial, float* y, int groups, int parts, int C, double scale) {
    mean_finish(partial, y, groups, parts, C, scale);
}
KERNEL(mean_forward_finish_f32)
extern "C" __global__ void __launch_bounds__(256)
    mean_forward_finish_f16(const double* partial, __half* y, int groups, int parts, int C, double scale) {
    mean_finish(partial, y, groups, parts, C, scale);
}
KERNEL(mean_forward_finish_f16)

// dx = dy[group] / positions.
extern "C" __global__ void __launch_bounds__(256)
    mean_backward_f32(const float* dy, float* dx, Index positions, int C, Index n) {
    float count = float(positions);
    for (Index i = thread_of_grid(); i < n / 4; i += threads_of_grid()) {
        Index at = 4 * i;
        float4 g = load4(dy + at / (positions * C) * C + at % C);
        store4(dx + at, make_float4(g.x / count, g.y / count, g.z / count, g.w / count));
    }
}
KERNEL(mean_backward_f32)
