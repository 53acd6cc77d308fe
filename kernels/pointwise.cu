// Element by element: sums, ReLU and its gradient, attention gates, concatenation.
//
// y = a + b; relu(a + b); x sigmoid(a); x + x sigmoid(a_d); x + v; [a, b] over channels. Shapes: n elements, or [positions, C], C a multiple of 4.
// One thread takes four neighbouring elements (16 bytes of f32, 8 of f16); grids of 256 threads, cut off at 2^20 blocks, loop.
// Same operations in the same order as src/ops/pointwise.rs; expf differs from the processor's in the last bits.
// Deterministic: one thread writes each element, sums go through reduce.cuh. Floor: every element of inputs and output moves once.
#include "common.cuh"
#include "reduce.cuh"

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// f on runs of four elements, and on what is left over one by one.
template <typename T, typename F>
__device__ __forceinline__ void binary(const T* a, const T* b, T* y, Index n, F f) {
    Index quads = n / 4;
    for (Index i = thread_of_grid(); i < quads; i += threads_of_grid()) {
        float4 u = load4(a + 4 * i), v = load4(b + 4 * i);
        store4(y + 4 * i, make_float4(f(u.x, v.x), f(u.y, v.y), f(u.z, v.z), f(u.w, v.w)));
    }
    Index i = 4 * quads + thread_of_grid();
    if (i < n) store(y + i, f(load(a + i), load(b + i)));
}

#define BINARY(name, T, expression)                                                                          \
    extern "C" __global__ void __launch_bounds__(256) name(const T* a, const T* b, T* y, Index n) {          \
        binary(a, b, y, n, [](float u, float v) { return expression; });                                     \
    }                                                                                                        \
    KERNEL(name)

// a + b: residuals, and two gradients of one value.
BINARY(add_f32, float, u + v)
BINARY(add_f16, __half, u + v)
BINARY(add_relu_forward_f32, float, fmaxf(u + v, 0.0f))
BINARY(add_relu_forward_f16, __half, fmaxf(u + v, 0.0f))
// From the output and the gradient in it.
BINARY(relu_backward_f32, float, u > 0.0f ? v : 0.0f)
// x and its attention.
BINARY(gate_refine_forward_f32, float, u * sigmoid(v))
BINARY(gate_refine_forward_f16, __half, u * sigmoid(v))

// Gradients of x sigmoid(a) in x and a.
extern "C" __global__ void __launch_bounds__(256)
    gate_refine_backward_f32(const float* x, const float* a, const float* dy, float* dx, float* da, Index n) {
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        float s = sigmoid(a[i]), g = dy[i];
        dx[i] = g * s;
        da[i] = g * x[i] * s * (1.0f - s);
    }
}
KERNEL(gate_refine_backward_f32)

// One vector of C a plane of `plane` elements (plane = H W C).
template <typename T, typename F>
__device__ __forceinline__ void by_plane(const T* x, const T* v, T* y, Index plane, int C, Index n, F f) {
    for (Index i = thread_of_grid(); i < n / 4; i += threads_of_grid()) {
        Index at = 4 * i;
        const T* vector = v + at / plane * C + at % C;
        float4 u = load4(x + at), w = load4(vector);
        store4(y + at, make_float4(f(u.x, w.x), f(u.y, w.y), f(u.z, w.z), f(u.w, w.w)));
    }
}

#define BY_PLANE(name, T, expression)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256) name(const T* x, const T* v, T* y, Index plane, int C, Index n) {    \
        by_plane(x, v, y, plane, C, n, [](float u, float w) { return expression; });                                      \
    }                                                                                                                      \
    KERNEL(name)

BY_PLANE(gate_planes_forward_f32, float, u + u * sigmoid(w))
BY_PLANE(gate_planes_forward_f16, __half, u + u * sigmoid(w))
// The vector of the whole volume: plane = n.
BY_PLANE(add_vector_forward_f32, float, u + w)
BY_PLANE(add_vector_forward_f16, __half, u + w)
// dy and the attention: the gradient in x.
BY_PLANE(gate_planes_backward_f32, float, u + u * sigmoid(w))

// Partial sums of x dy over positions of each plane, [D, parts, 1, C]: src/cuda/ops/reduce.rs says which blocks.
extern "C" __global__ void __launch_bounds__(256)
    gate_planes_backward_partial_f32(const float* x, const float* dy, double* partial, Index positions, int C) {
    SHARED(double, sums, 256);
    Index plane = Index(blockIdx.y) * positions * C;
    channel_partials<1>(positions, C, partial, sums, [&](Index i, float* values) { values[0] = x[plane + i] * dy[plane + i]; });
}
BLOCK_KERNEL(gate_planes_backward_partial_f32)

// da = sigmoid'(a) sum(x dy), [D, C].
extern "C" __global__ void __launch_bounds__(256)
    gate_planes_backward_finish_f32(const double* partial, const float* a, float* da, int parts, int C, int planes) {
    Index i = thread_of_grid();
    if (i >= Index(planes) * C) return;
    float s = sigmoid(a[i]);
    da[i] = float(sum_of_partials<1>(partial, int(i / C), parts, 0, int(i % C), C) * double(s * (1.0f - s)));
}
KERNEL(gate_planes_backward_finish_f32)

// [a, b] over channels: A of a's, B of b's.
template <typename T>
__device__ __forceinline__ void concat(const T* a, const T* b, T* y, Index positions, int A, int B) {
    int C = A + B, quads = C / 4;
    for (Index i = thread_of_grid(); i < positions * quads; i += threads_of_grid()) {
        Index p = i / quads;
        int c = int(i % quads) * 4;
        float4 v = c < A ? load4(a + p * A + c) : load4(b + p * B + (c - A));
        store4(y + p * C + c, v);
    }
}
extern "C" __global__ void __launch_bounds__(256)
    concat_forward_f32(const float* a, const float* b, float* y, Index positions, int A, int B) {
    concat(a, b, y, positions, A, B);
}
KERNEL(concat_forward_f32)
extern "C" __global__ void __launch_bounds__(256)
    concat_forward_f16(const __half* a, const __half* b, __half* y, Index positions, int A, int B) {
    concat(a, b, y, positions, A, B);
}
KERNEL(concat_forward_f16)

extern "C" __global__ void __launch_bounds__(256)
    concat_backward_f32(const float* dy, float* da, float* db, Index positions, int A, int B) {
    int C = A + B, quads = C / 4;
    for (Index i = thread_of_grid(); i < positions * quads; i += threads_of_grid()) {
        Index p = i / quads;
        int c = int(i % quads) * 4;
        float4 v = load4(dy + p * C + c);
        if (c < A)
            store4(da + p * A + c, v);
        else
            store4(db + p * B + (c - A), v);
    }
}
KERNEL(concat_backward_f32)
