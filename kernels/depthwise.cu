// Depthwise 3x3x3 convolution with stride S and one plane, row and column of zeros around: y[o, c] = sum of w[c, k]
// x[S o + k - 1, c], and its gradients.
//
// x [D, H, W, C], y [ceil(D/S), ceil(H/S), ceil(W/S), C] in f32 or f16, w [C, 27] f32; C a multiple of 4 (f16: of 8
// for 16-byte accesses, else 4). Forward: a thread makes 4 neighbouring columns of 4 or 8 channels; x values that they
// share are read once, rows above and below come from L1. Data: a thread gathers 4 channels of one input position from
// the up to 27 outputs that read it. Weights: blockIdx.x is a plane of taps and a part of the output rows, a thread
// has 4 channels and every n-th position; sums in fixed order, then conv_backward_sum adds the parts: deterministic.
// Floor: bytes of x and y (2 x 27 FLOPs a value are nothing); the weights lie in shared memory.
#include "common.cuh"

constexpr int COLUMNS = 4;  // Outputs of a thread along a row.

struct DepthwiseShape {
    int d, h, w, c;
    int out_d, out_h, out_w, stride;
};

// The weights as [27, C] in shared memory: neighbouring threads read neighbouring channels.
__device__ __forceinline__ void stage_weights(float* staged, const float* w, int channels) {
    for (int i = threadIdx.x; i < 27 * channels; i += blockDim.x) staged[i % 27 * channels + i / 27] = w[i];
    __syncthreads();
}

template <int V>
struct Values {
    float v[V];
};
template <typename T>
__device__ __forceinline__ Values<4> load_values(const T* p, Values<4>*) {
    float4 q = load4(p);
    return {{q.x, q.y, q.z, q.w}};
}
template <typename T>
__device__ __forceinline__ Values<8> load_values(const T* p, Values<8>*) {
    Float8 q = load8(p);
    Values<8> r;
#pragma unroll
    for (int i = 0; i < 8; i++) r.v[i] = q.v[i];
    return r;
}
template <int V, typename T>
__device__ __forceinline__ Values<V> load_run(const T* p) {
    return load_values(p, static_cast<Values<V>*>(nullptr));
}
template <typename T>
__device__ __forceinline__ void store_run(T* p, const Values<4>& r) {
    store4(p, make_float4(r.v[0], r.v[1], r.v[2], r.v[3]));
}
template <typename T>
__device__ __forceinline__ void store_run(T* p, const Values<8>& r) {
    Float8 q;
#pragma unroll
    for (int i = 0; i < 8; i++) q.v[i] = r.v[i];
    store8(p, q);
}

template <typename T, int S, int V>
__device__ __forceinline__ void forward_body(const T* x, const float* w, T* y, const DepthwiseShape& g) {
    DYNAMIC_SHARED(float, weights);
    stage_weights(weights, w, g.c);
    constexpr int READ = (COLUMNS - 1) * S + 3;
    const int runs = g.c / V, strips = (g.out_w + COLUMNS - 1) / COLUMNS;
    const Index all = Index(g.out_d) * g.out_h * strips * runs;
    for (Index i = thread_of_grid(); i < all; i += threads_of_grid()) {
        const int c = int(i % runs) * V, o = int(i / runs % strips) * COLUMNS;
        const Index row = i / runs / strips;
        const int z = int(row / g.out_h), r = int(row % g.out_h);
        Values<V> sum[COLUMNS] = {};
#pragma unroll 1
        for (int k = 0; k < 9; k++) {
            const int plane = z * S + k / 3 - 1, line = r * S + k % 3 - 1;
            if (plane < 0 || plane >= g.d || line < 0 || line >= g.h) continue;
            const T* from = x + (Index(plane) * g.h + line) * g.w * g.c + c;
            Values<V> near[READ];
#pragma unroll
            for (int j = 0; j < READ; j++) {
                const int column = o * S + j - 1;
                near[j] = Values<V>{};
                if (column >= 0 && column < g.w) near[j] = load_run<V>(from + Index(column) * g.c);
            }
#pragma unroll
            for (int tap = 0; tap < 3; tap++) {
                const Values<V> own = load_run<V>(weights + (k * 3 + tap) * g.c + c);
#pragma unroll
                for (int j = 0; j < COLUMNS; j++)
#pragma unroll
                    for (int n = 0; n < V; n++) sum[j].v[n] += own.v[n] * near[j * S + tap].v[n];
            }
        }
#pragma unroll
        for (int j = 0; j < COLUMNS; j++)
            if (o + j < g.out_w) store_run(y + (row * g.out_w + o + j) * g.c + c, sum[j]);
    }
}

#define FORWARD(name, T, S, V)                                                                                       \
    extern "C" __global__ void __launch_bounds__(128) name(const T* x, const float* w, T* y, DepthwiseShape shape) { \
        forward_body<T, S, V>(x, w, y, shape);                                                                       \
    }                                                                                                                \
    BLOCK_KERNEL(name)

FORWARD(depthwise_forward_s1_f32, float, 1, 4)
FORWARD(depthwise_forward_s2_f32, float, 2, 4)
FORWARD(depthwise_forward_s1_f16, __half, 1, 4)
FORWARD(depthwise_forward_s2_f16, __half, 2, 4)
FORWARD(depthwise_forward_s1_c8_f16, __half, 1, 8)
FORWARD(depthwise_forward_s2_c8_f16, __half, 2, 8)

// dx: output o reads o S + k - 1, so position p is read by (p + 1 - k) / S where that is whole.
extern "C" __global__ void __launch_bounds__(128)
    depthwise_backward_data_f32(const float* dy, const float* w, float* dx, DepthwiseShape g) {
    DYNAMIC_SHARED(float, taps);
    stage_weights(taps, w, g.c);
    const int runs = g.c / 4;
    const Index all = Index(g.d) * g.h * g.w * runs;
    for (Index i = thread_of_grid(); i < all; i += threads_of_grid()) {
        const int c = int(i % runs) * 4;
        const Index position = i / runs;
        const int column = int(position % g.w), line = int(position / g.w % g.h), plane = int(position / g.w / g.h);
        float4 sum = make_float4(0, 0, 0, 0);
        for (int a = 0; a < 3; a++) {
            const int z = plane + 1 - a;
            if (z < 0 || z % g.stride || z / g.stride >= g.out_d) continue;
            for (int b = 0; b < 3; b++) {
                const int r = line + 1 - b;
                if (r < 0 || r % g.stride || r / g.stride >= g.out_h) continue;
                const float* from = dy + (Index(z / g.stride) * g.out_h + r / g.stride) * g.out_w * g.c + c;
#pragma unroll
                for (int k = 0; k < 3; k++) {
                    const int o = column + 1 - k;
                    if (o < 0 || o % g.stride || o / g.stride >= g.out_w) continue;
                    const float4 v = load4(from + Index(o / g.stride) * g.c),
                                 own = load4(taps + (a * 9 + b * 3 + k) * g.c + c);
                    sum.x += own.x * v.x, sum.y += own.y * v.y, sum.z += own.z * v.z, sum.w += own.w * v.w;
                }
            }
        }
        store4(dx + position * g.c + c, sum);
    }
}
BLOCK_KERNEL(depthwise_backward_data_f32)

// partial[part, c, k]: the part's output rows, the taps of plane k / 9. The grid holds the three planes of each part,
// side by side: they share x in L2.
extern "C" __global__ void __launch_bounds__(128, 4)
    depthwise_backward_weights_f32(const float* x, const float* dy, float* partial, DepthwiseShape g, int parts) {
    SHARED(float, sums, 4 * 128);
    const int a = int(blockIdx.x % 3), part = int(blockIdx.x / 3), thread = threadIdx.x;
    const Index rows = Index(g.out_d) * g.out_h;
    const int begin = int(rows * part / parts), end = int(rows * (part + 1) / parts);
    // 128 threads for up to 128 fours of channels; more channels take turns.
    for (int first = 0; first < g.c; first += 512) {
        const int runs = min(g.c - first, 512) / 4, subsets = 128 / runs;
        const int c = first + thread % runs * 4, subset = thread / runs;
        float sum[9][4];
#pragma unroll
        for (int t = 0; t < 36; t++) sum[t / 4][t % 4] = 0.0f;
        for (int row = begin; row < end && subset < subsets; row++) {
            const int plane = row / g.out_h * g.stride + a - 1, top = row % g.out_h * g.stride - 1;
            if (plane < 0 || plane >= g.d) continue;
            for (int o = subset; o < g.out_w; o += subsets) {
                const float4 gradient = load4(dy + (Index(row) * g.out_w + o) * g.c + c);
#pragma unroll
                for (int t = 0; t < 9; t++) {
                    const int line = top + t / 3, column = o * g.stride - 1 + t % 3;
                    if (line < 0 || line >= g.h || column < 0 || column >= g.w) continue;
                    const float4 v = load4(x + ((Index(plane) * g.h + line) * g.w + column) * g.c + c);
                    sum[t][0] += v.x * gradient.x;
                    sum[t][1] += v.y * gradient.y;
                    sum[t][2] += v.z * gradient.z;
                    sum[t][3] += v.w * gradient.w;
                }
            }
        }
#pragma unroll
        for (int t = 0; t < 9; t++) {
            __syncthreads();
#pragma unroll
            for (int n = 0; n < 4; n++) sums[n * 128 + thread] = sum[t][n];
            __syncthreads();
            for (int i = thread; i < runs * 4; i += 128) {
                float total = 0.0f;
                for (int s = 0; s < subsets; s++) total += sums[i % 4 * 128 + s * runs + i / 4];
                partial[(Index(part) * g.c + first + i) * 27 + a * 9 + t] = total;
            }
        }
    }
}
BLOCK_KERNEL(depthwise_backward_weights_f32)
