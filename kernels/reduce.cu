// Means over positions for each channel, and the gradients that spread them out again.
//
// x [groups, positions, C] -> [groups, C]: a group is a plane, or the whole volume. Two kernels: sums of chunks, f64
// (channel_sums.cuh: a block a chunk), then a block adds up the chunks of one channel of one group. The gradient: one
// thread writes 16 bytes of neighbouring channels. Orders are fixed: deterministic. Sums are within 4 units of 2^-24
// of the sum of magnitudes, the processor's (all f64) within 1. Bound by memory: x is read once, or dx written once.
#include "channel_sums.cuh"

template <int L, typename T>
__device__ __forceinline__ void mean_sums(const T* x, double* partial, Index positions, Index chunk, int chunks,
                                          int c) {
    sum_chunk<L, 1>(positions, chunk, chunks, c, partial,
                    [=](Pack<L>* terms, Index at, int) { terms[0] = load_pack<L>(x + at); });
}
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    channel_sums_f32(const float* x, double* partial, Index positions, Index chunk, int chunks, int c) {
    WITH_SUM_PACK(c, mean_sums, x, partial, positions, chunk, chunks, c);
}
BLOCK_KERNEL(channel_sums_f32)
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    channel_sums_f16(const __half* x, double* partial, Index positions, Index chunk, int chunks, int c) {
    WITH_SUM_PACK(c, mean_sums, x, partial, positions, chunk, chunks, c);
}
BLOCK_KERNEL(channel_sums_f16)

// y [groups, C] = the chunks' sum / divisor.
template <typename T>
__device__ __forceinline__ void finish_body(const double* partial, T* y, int chunks, int c, double divisor) {
    double sum = sum_of_chunks<1>(partial, blockIdx.x / c, chunks, 0, c, blockIdx.x % c);
    if (threadIdx.x == 0) store(y + blockIdx.x, float(sum / divisor));
}
extern "C" __global__ void __launch_bounds__(128)
    channel_sums_finish_f32(const double* partial, float* y, int chunks, int c, double divisor) {
    finish_body(partial, y, chunks, c, divisor);
}
BLOCK_KERNEL(channel_sums_finish_f32)
extern "C" __global__ void __launch_bounds__(128)
    channel_sums_finish_f16(const double* partial, __half* y, int chunks, int c, double divisor) {
    finish_body(partial, y, chunks, c, divisor);
}
BLOCK_KERNEL(channel_sums_finish_f16)

// dx [groups, positions, C] = dy [groups, C] / divisor everywhere; `group` elements of dx belong to one of dy's
// vectors.
template <int L>
__device__ __forceinline__ void spread_body(const float* dy, float* dx, Index n, Index group, int c, double divisor) {
    for (Index at = thread_of_grid() * L; at < n; at += threads_of_grid() * L) {
        int channel;
        divided(at, c, channel);
        Pack<L> v = load_pack<L>(dy + at / group * c + channel);
#pragma unroll
        for (int i = 0; i < L; i++) v.v[i] = float(double(v.v[i]) / divisor);
        store_pack<L>(dx + at, v);
    }
}
extern "C" __global__ void __launch_bounds__(256)
    mean_backward_f32(const float* dy, float* dx, Index n, Index group, int c, double divisor) {
    WITH_PACK(float, c, spread_body, dy, dx, n, group, c, divisor);
}
KERNEL(mean_backward_f32)
