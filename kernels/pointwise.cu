// Element by element: sums, the ReLU's gradient, attention gates, a vector added everywhere, concatenation, and their
// gradients.
//
// Shapes: n elements, or [D, H, W, C] with a gate [D, 1, 1, C] or a vector [1, 1, 1, C]. One thread takes 16 bytes of
// neighbouring channels of f32 or f16 (fewer where C is no multiple of that); grids are one-dimensional and loop
// beyond 2^20 blocks (src/cuda/ops/pointwise.rs). Each output element is written by one thread, sums over positions in
// a fixed order (channel_sums.cuh): deterministic. Bound by memory: every input and output element moves once, and
// nothing else does.
#include "channel_sums.cuh"

// ---- elements by themselves

// As many elements as 16 bytes hold, fewer at the end.
template <typename T>
__device__ __forceinline__ Pack<WIDEST<T>> load_run(const T* p, Index left) {
    constexpr int L = WIDEST<T>;
    if (left >= L) return load_pack<L>(p);
    Pack<L> r = {};
    for (int i = 0; i < L; i++)
        if (i < left) r.v[i] = load(p + i);
    return r;
}

template <typename T>
__device__ __forceinline__ void store_run(T* p, const Pack<WIDEST<T>>& r, Index left) {
    constexpr int L = WIDEST<T>;
    if (left >= L) return store_pack<L>(p, r);
    for (int i = 0; i < L; i++)
        if (i < left) store(p + i, r.v[i]);
}

// y[i] = f(a[i], b[i])
template <typename T, typename F>
__device__ __forceinline__ void zip_body(const T* a, const T* b, T* y, Index n, F f) {
    constexpr int L = WIDEST<T>;
    for (Index at = thread_of_grid() * L; at < n; at += threads_of_grid() * L) {
        Pack<L> u = load_run(a + at, n - at), v = load_run(b + at, n - at);
#pragma unroll
        for (int i = 0; i < L; i++) u.v[i] = f(u.v[i], v.v[i]);
        store_run(y + at, u, n - at);
    }
}

struct Sum {
    __device__ float operator()(float a, float b) const { return a + b; }
};
struct SumRelu {
    __device__ float operator()(float a, float b) const { return fmaxf(a + b, 0.0f); }
};
// Also at the kink nothing goes through.
struct ThroughRelu {
    __device__ float operator()(float y, float dy) const { return y > 0.0f ? dy : 0.0f; }
};
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
struct Gate {
    __device__ float operator()(float x, float gate) const { return x * sigmoid(gate); }
};

// sigmoid(x) and its derivative, which 1 - sigmoid(x) would lose the digits of where x is large.
__device__ __forceinline__ void sigmoid_and_slope(float x, float& value, float& slope) {
    float e = expf(-fabsf(x)), of_magnitude = 1.0f / (1.0f + e);
    value = x >= 0.0f ? of_magnitude : e * of_magnitude;
    slope = e * of_magnitude * of_magnitude;
}

#define ZIP_KERNEL(name, T, F)                                                                      \
    extern "C" __global__ void __launch_bounds__(256) name(const T* a, const T* b, T* y, Index n) { \
        zip_body(a, b, y, n, F());                                                                  \
    }                                                                                               \
    KERNEL(name)

// y = a + b: the sum of two gradients of one value, a shortcut.
ZIP_KERNEL(add_f32, float, Sum)
ZIP_KERNEL(add_f16, __half, Sum)
// y = relu(a + b)
ZIP_KERNEL(add_relu_forward_f32, float, SumRelu)
ZIP_KERNEL(add_relu_forward_f16, __half, SumRelu)
// dx = dy where y > 0
ZIP_KERNEL(relu_backward_f32, float, ThroughRelu)
// y = x sigmoid(gate)
ZIP_KERNEL(gate_refine_forward_f32, float, Gate)
ZIP_KERNEL(gate_refine_forward_f16, __half, Gate)

// dx = dy sigmoid(gate), dgate = dy x sigmoid'(gate)
extern "C" __global__ void __launch_bounds__(256)
    gate_refine_backward_f32(const float* x, const float* gate, const float* dy, float* dx, float* dgate, Index n) {
    for (Index at = thread_of_grid() * 4; at < n; at += threads_of_grid() * 4) {
        Pack<4> a = load_run(x + at, n - at), g = load_run(gate + at, n - at), d = load_run(dy + at, n - at);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float value, slope;
            sigmoid_and_slope(g.v[i], value, slope);
            g.v[i] = d.v[i] * a.v[i] * slope;
            d.v[i] *= value;
        }
        store_run(dx + at, d, n - at);
        store_run(dgate + at, g, n - at);
    }
}
KERNEL(gate_refine_backward_f32)

// ---- one vector for all positions, or one for each plane

// y = x (1 + sigmoid(gate)) with x [planes, positions, C], gate [planes, C]. The gradient in x is the same of dy.
template <int L, typename T>
__device__ __forceinline__ void gate_planes_body(const T* x, const T* gate, T* y, Index n, Index plane, int c) {
    for (Index at = thread_of_grid() * L; at < n; at += threads_of_grid() * L) {
        int channel;
        divided(at, c, channel);
        Pack<L> v = load_pack<L>(x + at), g = load_pack<L>(gate + at / plane * c + channel);
#pragma unroll
        for (int i = 0; i < L; i++) v.v[i] *= 1.0f + sigmoid(g.v[i]);
        store_pack<L>(y + at, v);
    }
}
extern "C" __global__ void __launch_bounds__(256)
    gate_planes_forward_f32(const float* x, const float* gate, float* y, Index n, Index plane, int c) {
    WITH_PACK(float, c, gate_planes_body, x, gate, y, n, plane, c);
}
KERNEL(gate_planes_forward_f32)
extern "C" __global__ void __launch_bounds__(256)
    gate_planes_forward_f16(const __half* x, const __half* gate, __half* y, Index n, Index plane, int c) {
    WITH_PACK(__half, c, gate_planes_body, x, gate, y, n, plane, c);
}
KERNEL(gate_planes_forward_f16)

// The sums of dy x over each chunk of each plane.
template <int L>
__device__ __forceinline__ void gate_planes_sums(const float* x, const float* dy, double* partial, Index plane,
                                                 Index chunk, int chunks, int c) {
    sum_chunk<L, 1>(plane, chunk, chunks, c, partial, [=](Pack<L>* terms, Index at, int) {
        Pack<L> a = load_pack<L>(x + at), d = load_pack<L>(dy + at);
#pragma unroll
        for (int i = 0; i < L; i++) terms[0].v[i] = d.v[i] * a.v[i];
    });
}
extern "C" __global__ void __launch_bounds__(SUM_THREADS)
    gate_planes_backward_sums_f32(const float* x, const float* dy, double* partial, Index plane, Index chunk,
                                  int chunks, int c) {
    WITH_SUM_PACK(c, gate_planes_sums, x, dy, partial, plane, chunk, chunks, c);
}
BLOCK_KERNEL(gate_planes_backward_sums_f32)

// dgate [planes, C] = the sums times sigmoid'(gate); a block for each.
extern "C" __global__ void __launch_bounds__(128)
    gate_planes_backward_gate_f32(const double* partial, const float* gate, float* dgate, int chunks, int c) {
    int plane = blockIdx.x / c, channel = blockIdx.x % c;
    double sum = sum_of_chunks<1>(partial, plane, chunks, 0, c, channel);
    float value, slope;
    sigmoid_and_slope(gate[blockIdx.x], value, slope);
    if (threadIdx.x == 0) dgate[blockIdx.x] = float(sum * double(slope));
}
BLOCK_KERNEL(gate_planes_backward_gate_f32)

// y = x + vector
template <int L, typename T>
__device__ __forceinline__ void add_vector_body(const T* x, const T* vector, T* y, Index n, int c) {
    for (Index at = thread_of_grid() * L; at < n; at += threads_of_grid() * L) {
        int channel;
        divided(at, c, channel);
        Pack<L> a = load_pack<L>(x + at), b = load_pack<L>(vector + channel);
#pragma unroll
        for (int i = 0; i < L; i++) a.v[i] += b.v[i];
        store_pack<L>(y + at, a);
    }
}
extern "C" __global__ void __launch_bounds__(256)
    add_vector_forward_f32(const float* x, const float* vector, float* y, Index n, int c) {
    WITH_PACK(float, c, add_vector_body, x, vector, y, n, c);
}
KERNEL(add_vector_forward_f32)
extern "C" __global__ void __launch_bounds__(256)
    add_vector_forward_f16(const __half* x, const __half* vector, __half* y, Index n, int c) {
    WITH_PACK(__half, c, add_vector_body, x, vector, y, n, c);
}
KERNEL(add_vector_forward_f16)

// ---- concatenation

// Channels [0, ca) of y [positions, ca + cb] come from a, the others from b. The pack divides both.
template <int L, typename T>
__device__ __forceinline__ void concat_body(const T* a, const T* b, T* y, Index positions, int ca, int cb) {
    int c = ca + cb;
    Index n = positions * c;
    for (Index at = thread_of_grid() * L; at < n; at += threads_of_grid() * L) {
        int channel;
        Index position = divided(at, c, channel);
        const T* from = channel < ca ? a + position * ca + channel : b + position * cb + (channel - ca);
        store_pack<L>(y + at, load_pack<L>(from));
    }
}
extern "C" __global__ void __launch_bounds__(256)
    concat_forward_f32(const float* a, const float* b, float* y, Index positions, int ca, int cb) {
    WITH_PACK(float, ca | cb, concat_body, a, b, y, positions, ca, cb);
}
KERNEL(concat_forward_f32)
extern "C" __global__ void __launch_bounds__(256)
    concat_forward_f16(const __half* a, const __half* b, __half* y, Index positions, int ca, int cb) {
    WITH_PACK(__half, ca | cb, concat_body, a, b, y, positions, ca, cb);
}
KERNEL(concat_forward_f16)

// dx [positions, part] = channels [from, from + part) of dy [positions, C]: a part of a concatenation's gradient.
template <int L>
__device__ __forceinline__ void slice_body(const float* dy, float* dx, Index positions, int part, int from, int c) {
    Index n = positions * part;
    for (Index at = thread_of_grid() * L; at < n; at += threads_of_grid() * L) {
        int channel;
        Index position = divided(at, part, channel);
        store_pack<L>(dx + at, load_pack<L>(dy + position * c + from + channel));
    }
}
extern "C" __global__ void __launch_bounds__(256)
    concat_backward_f32(const float* dy, float* dx, Index positions, int part, int from, int c) {
    WITH_PACK(float, part | from | c, slice_body, dy, dx, positions, part, from, c);
}
KERNEL(concat_backward_f32)
