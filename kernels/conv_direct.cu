// Convolutions with f32 products: y = relu?(b + r + sum over taps and channels of w x), and the same sum as the
// gradient in x.
//
// x [D, H, W, CI] and y [D', H', W', CO] in f32 or f16, w in PyTorch's order [CO, CI, KD, KH, KW] f32, read as it is;
// "same" zero padding. 64 G threads make 16 x 16 outputs of one plane times 8 G channels (grid: channel groups,
// columns, rows, planes; all in x), a thread 4 pixels of one column times 8 channels. For 4 input channels at a time
// the halo of x and the weights lie in shared memory. Sums have one order: deterministic.
//
// Any kernel, stride and channel count. Axes are described by AxisTaps, which also serves the gradient in x: the input
// positions with one remainder modulo the stride are read by the same taps, at consecutive outputs, so each remainder
// is such a convolution over dy. Floor: FLOPs at 67 TFLOP/s. A tap of 4 channels costs a warp 4 x-accesses of 4 cycles
// each and 8 broadcasts for 128 multiply-adds of a quarter cycle, so shared memory (24 cycles) stays behind arithmetic
// (32); x comes from DRAM once, neighbouring halos from L2.
#include "common.cuh"

constexpr int SIDE = 16;   // Outputs of a block along rows and columns.
constexpr int PIXELS = 4;  // Rows of a thread: its own and every fourth.
constexpr int CHUNK = 4;   // Input channels in shared memory.

// Output j of an axis lies at position j * spread + first, and reads input j * stride + offset + i through tap
// first_tap + i * tap_step.
struct AxisTaps {
    int input, output;  // positions that exist: of x, and of this launch's j
    int whole;          // positions of y
    int taps, first_tap, tap_step;
    int offset, stride, spread, first;
};
struct DirectShape {
    AxisTaps axis[3];
    int ci, co;
    int weight_in, weight_out;  // distance of two input or output channels in w
    int kernel_h, kernel_w;
    int split;  // channels that go to `y`; the others go to `second`
    int relu;
};

template <typename T>
__device__ __forceinline__ float4 load_channels(const T* p, int left, bool whole) {
    if (whole) return load4(p);
    float v[CHUNK];
#pragma unroll
    for (int c = 0; c < CHUNK; c++) v[c] = c < left ? load(p + c) : 0.0f;
    return make_float4(v[0], v[1], v[2], v[3]);
}

// Where position `at` of a row or its gate `mask` (y > 0 lets through) is read from.
template <bool MASKED, typename T>
__device__ __forceinline__ float4 load_input(const T* x, const T* mask, Index at, int left, bool whole) {
    float4 v = load_channels(x + at, left, whole);
    if (MASKED && mask) {
        float4 m = load_channels(mask + at, left, whole);
        v = make_float4(m.x > 0 ? v.x : 0, m.y > 0 ? v.y : 0, m.z > 0 ? v.z : 0, m.w > 0 ? v.w : 0);
    }
    return v;
}

template <typename T, int G, bool MASKED>
__device__ __forceinline__ void direct_body(const T* x, const T* mask, const float* w, const float* bias,
                                            const T* residual, T* y, T* second, const DirectShape& g) {
    constexpr int THREADS = 64 * G, WIDTH = 8 * G, PITCH = WIDTH + 4;
    const AxisTaps &az = g.axis[0], &ay = g.axis[1], &ax = g.axis[2];
    // A row's columns lie sorted by their remainder modulo the stride: neighbouring outputs then read neighbouring 16
    // bytes.
    const int rows = (SIDE - 1) * ay.stride + ay.taps, columns = (SIDE - 1) * ax.stride + ax.taps;
    const int half = (columns + ax.stride - 1) / ax.stride, pitch = half * ax.stride;
    const int plane_taps = ay.taps * ax.taps;
    DYNAMIC_SHARED(float4, tile);
    float* const weights = reinterpret_cast<float*>(tile + rows * pitch);

    unsigned block = blockIdx.x;
    const int groups = (g.co + WIDTH - 1) / WIDTH;
    const int tiles_x = (ax.output + SIDE - 1) / SIDE, tiles_y = (ay.output + SIDE - 1) / SIDE;
    const int o0 = int(block % groups) * WIDTH;
    block /= groups;
    const int x0 = int(block % tiles_x) * SIDE;
    block /= tiles_x;
    const int y0 = int(block % tiles_y) * SIDE;
    const int z = int(block / tiles_y);

    const int thread = threadIdx.x, group = thread / 64, gx = thread % 16, gy = thread / 16 % 4;
    const bool whole_channels = g.ci % CHUNK == 0;
    float sum[PIXELS][8];
#pragma unroll
    for (int i = 0; i < PIXELS; i++)
#pragma unroll
        for (int n = 0; n < 8; n++) sum[i][n] = 0.0f;

    for (int a = 0; a < az.taps; a++) {
        const int plane = z * az.stride + az.offset + a;
        if (plane < 0 || plane >= az.input) continue;
        const int kd = az.first_tap + a * az.tap_step;
        for (int c0 = 0; c0 < g.ci; c0 += CHUNK) {
            const int left = g.ci - c0;
            __syncthreads();
            for (int i = thread; i < rows * columns; i += THREADS) {
                int r = i / columns, c = i % columns;
                int from_y = y0 * ay.stride + ay.offset + r, from_x = x0 * ax.stride + ax.offset + c;
                float4 v = make_float4(0, 0, 0, 0);
                if (from_y >= 0 && from_y < ay.input && from_x >= 0 && from_x < ax.input) {
                    Index at = ((Index(plane) * ay.input + from_y) * ax.input + from_x) * g.ci + c0;
                    v = load_input<MASKED>(x, mask, at, left, whole_channels);
                }
                tile[r * pitch + c % ax.stride * half + c / ax.stride] = v;
            }
            for (int i = thread; i < plane_taps * CHUNK * WIDTH; i += THREADS) {
                // Taps and channels first: they are neighbours in w.
                int t = i % plane_taps, c = i / plane_taps % CHUNK, n = i / (plane_taps * CHUNK);
                int kh = ay.first_tap + t / ax.taps * ay.tap_step, kw = ax.first_tap + t % ax.taps * ax.tap_step;
                float v = 0.0f;
                if (c < left && o0 + n < g.co) {
                    Index at = Index(o0 + n) * g.weight_out + Index(c0 + c) * g.weight_in +
                               (kd * g.kernel_h + kh) * g.kernel_w + kw;
                    v = w[at];
                }
                weights[(t * CHUNK + c) * PITCH + n] = v;
            }
            __syncthreads();
            for (int b = 0; b < ay.taps; b++) {
                for (int d = 0; d < ax.taps; d++) {
                    const float4* from =
                        tile + (gy * ay.stride + b) * pitch + d % ax.stride * half + d / ax.stride + gx;
                    const float* own = weights + (b * ax.taps + d) * CHUNK * PITCH + group * 8;
                    float v[PIXELS][CHUNK];
#pragma unroll
                    for (int i = 0; i < PIXELS; i++) {
                        float4 q = from[i * 4 * ay.stride * pitch];
                        v[i][0] = q.x, v[i][1] = q.y, v[i][2] = q.z, v[i][3] = q.w;
                    }
#pragma unroll
                    for (int c = 0; c < CHUNK; c++) {
                        if (c >= left) break;
                        Float8 k = load8(own + c * PITCH);
#pragma unroll
                        for (int i = 0; i < PIXELS; i++)
#pragma unroll
                            for (int n = 0; n < 8; n++) sum[i][n] += v[i][c] * k.v[n];
                    }
                }
            }
        }
    }

    const int o = o0 + group * 8;
    if (o >= g.co || x0 + gx >= ax.output) return;
    const bool to_second = o >= g.split;
    // Eight channels at a time where they go to one output and its positions are whole 16 bytes.
    const bool whole = g.co % 8 == 0 && g.split % 8 == 0;
#pragma unroll
    for (int i = 0; i < PIXELS; i++) {
        const int row = y0 + gy + 4 * i;
        if (row >= ay.output) continue;
        const Index at = (Index(z * az.spread + az.first) * ay.whole + row * ay.spread + ay.first) * ax.whole +
                         (x0 + gx) * ax.spread + ax.first;
        if (whole) {
            Float8 v;
#pragma unroll
            for (int n = 0; n < 8; n++) v.v[n] = sum[i][n] + (bias ? bias[o + n] : 0.0f);
            if (residual) {
                Float8 r = load8(residual + at * g.co + o);
#pragma unroll
                for (int n = 0; n < 8; n++) v.v[n] += r.v[n];
            }
#pragma unroll
            for (int n = 0; n < 8; n++) v.v[n] = g.relu ? rectified(v.v[n]) : v.v[n];
            store8(to_second ? second + at * (g.co - g.split) + o - g.split : y + at * g.split + o, v);
        } else {
#pragma unroll
            for (int n = 0; n < 8; n++) {
                if (o + n >= g.co) break;
                float v = sum[i][n] + (bias ? bias[o + n] : 0.0f);
                if (residual) v += load(residual + at * g.co + o + n);
                v = g.relu ? rectified(v) : v;
                store(o + n >= g.split ? second + at * (g.co - g.split) + o + n - g.split : y + at * g.split + o + n,
                      v);
            }
        }
    }
}

#define DIRECT_FORWARD(name, T, G)                                                                                   \
    extern "C" __global__ void __launch_bounds__(64 * G, 8 / G)                                                      \
        name(const T* x, const float* w, const float* bias, const T* residual, T* y, T* second, DirectShape shape) { \
        direct_body<T, G, false>(x, nullptr, w, bias, residual, y, second, shape);                                   \
    }                                                                                                                \
    BLOCK_KERNEL(name)

DIRECT_FORWARD(conv_forward_direct8_f32, float, 1)
DIRECT_FORWARD(conv_forward_direct16_f32, float, 2)
DIRECT_FORWARD(conv_forward_direct32_f32, float, 4)
DIRECT_FORWARD(conv_forward_direct8_f16, __half, 1)
DIRECT_FORWARD(conv_forward_direct16_f16, __half, 2)
DIRECT_FORWARD(conv_forward_direct32_f16, __half, 4)

// dx from dy, which goes through where `mask` (the ReLU's output; may be null) is positive.
#define DIRECT_DATA(name, G)                                                                     \
    extern "C" __global__ void __launch_bounds__(64 * G, 8 / G)                                  \
        name(const float* dy, const float* mask, const float* w, float* dx, DirectShape shape) { \
        direct_body<float, G, true>(dy, mask, w, nullptr, nullptr, dx, nullptr, shape);          \
    }                                                                                            \
    BLOCK_KERNEL(name)

DIRECT_DATA(conv_backward_data8_f32, 1)
DIRECT_DATA(conv_backward_data16_f32, 2)
DIRECT_DATA(conv_backward_data32_f32, 4)
