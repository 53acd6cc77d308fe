// Gradients of a convolution in its weights and its bias: dw[o, i, k] = sum over positions p of dy[p, o] x[s p + k -
// pad, i], db[o] = sum of dy[p, o].
//
// x [D, H, W, CI], dy and its ReLU's output [D', H', W', CO], dw [CO, CI, KD, KH, KW], all f32. Output rows are
// divided into parts, whose sums go to [parts, CO CI KD KH KW]; conv_backward_sum adds the parts in order in f64.
// Parts depend on shapes alone: the same bits on every run. A block of 128 threads has one part, one kernel row (kd,
// kh), 4 a input and 4 b output channels; a thread a 4 x 4 tile of them for all KW taps, at every (128 / a b)-th
// position; those sums are added in order at the end. Grid: kernel rows, channel tiles, parts, all in x, rows fastest.
//
// Floor: FLOPs at 67 TFLOP/s. A position costs a thread KW + 1 accesses of 16 bytes, most of them broadcasts, for 16
// KW multiply-adds; x and dy are read once for each kernel row, from L2 but for the first time, since the blocks that
// read the same part run together.
#include "common.cuh"

constexpr int THREADS = 128;

struct WeightsShape {
    int d, h, w, ci;
    int out_d, out_h, out_w, co;
    int kernel[3], stride[3];
    int parts;
    int chunk_rows, chunk_columns;  // output positions in shared memory
    int tiles_in, tiles_out;        // a and b: groups of 4 channels of a block
};

// Four channels from `c` on of a pixel of `channels`, zero past them.
__device__ __forceinline__ float4 four_channels(const float* pixel, int c, int channels) {
    if (channels % 4 == 0) return load4(pixel + c);
    float4 v;
    v.x = c < channels ? pixel[c] : 0.0f;
    v.y = c + 1 < channels ? pixel[c + 1] : 0.0f;
    v.z = c + 2 < channels ? pixel[c + 2] : 0.0f;
    v.w = c + 3 < channels ? pixel[c + 3] : 0.0f;
    return v;
}

__device__ __forceinline__ float4 let_through(float4 v, float4 m) {
    return make_float4(m.x > 0 ? v.x : 0, m.y > 0 ? v.y : 0, m.z > 0 ? v.z : 0, m.w > 0 ? v.w : 0);
}

// TAPS columns of the kernel at once: all of a row, or one where the row has another length.
template <int TAPS>
__device__ __forceinline__ void weights_body(const float* x, const float* dy, const float* mask, float* partial,
                                             const WeightsShape& g) {
    DYNAMIC_SHARED(float4, shared);
    const int a = g.tiles_in, b = g.tiles_out, tiles = a * b, subsets = THREADS / tiles;
    const int columns = g.chunk_columns, input_columns = (columns - 1) * g.stride[2] + TAPS;
    float4* const own_dy = shared;
    float4* const own_x = shared + g.chunk_rows * columns * b;

    unsigned block = blockIdx.x;
    const int row_parts = g.kernel[2] / TAPS, lines = g.kernel[0] * g.kernel[1] * row_parts;
    const int line = int(block % lines);
    block /= lines;
    const int groups_in = (g.ci + 4 * a - 1) / (4 * a), groups_out = (g.co + 4 * b - 1) / (4 * b);
    const int i0 = int(block % groups_in) * 4 * a;
    block /= groups_in;
    const int o0 = int(block % groups_out) * 4 * b;
    const int part = int(block / groups_out);
    const int kw = line % row_parts * TAPS, kh = line / row_parts % g.kernel[1], kd = line / row_parts / g.kernel[1];

    const int thread = threadIdx.x, tile = thread % tiles, subset = thread / tiles;
    const int qa = tile / b, qb = tile % b;
    float sum[TAPS][4][4];
#pragma unroll
    for (int k = 0; k < TAPS; k++)
#pragma unroll
        for (int m = 0; m < 16; m++) sum[k][m / 4][m % 4] = 0.0f;

    const Index rows = Index(g.out_d) * g.out_h;
    const int begin = int(rows * part / g.parts), end = int(rows * (part + 1) / g.parts);
    for (int r0 = begin; r0 < end; r0 += g.chunk_rows) {
        for (int c0 = 0; c0 < g.out_w; c0 += columns) {
            __syncthreads();
            for (int i = thread; i < g.chunk_rows * columns * b; i += THREADS) {
                int q = i % b, c = i / b % columns, row = r0 + i / (b * columns);
                float4 v = make_float4(0, 0, 0, 0);
                if (row < end && c0 + c < g.out_w && o0 + 4 * q < g.co) {
                    Index at = (Index(row) * g.out_w + c0 + c) * g.co;
                    v = four_channels(dy + at, o0 + 4 * q, g.co);
                    if (mask) v = let_through(v, four_channels(mask + at, o0 + 4 * q, g.co));
                }
                own_dy[i] = v;
            }
            for (int i = thread; i < g.chunk_rows * input_columns * a; i += THREADS) {
                int q = i % a, c = i / a % input_columns, row = r0 + i / (a * input_columns);
                int plane = row / g.out_h * g.stride[0] + kd - g.kernel[0] / 2,
                    y = row % g.out_h * g.stride[1] + kh - g.kernel[1] / 2;
                int column = c0 * g.stride[2] + c + kw - g.kernel[2] / 2;
                float4 v = make_float4(0, 0, 0, 0);
                bool inside =
                    row < end && plane >= 0 && plane < g.d && y >= 0 && y < g.h && column >= 0 && column < g.w;
                if (inside && i0 + 4 * q < g.ci)
                    v = four_channels(x + ((Index(plane) * g.h + y) * g.w + column) * g.ci, i0 + 4 * q, g.ci);
                own_x[i] = v;
            }
            __syncthreads();
            if (subset >= subsets) continue;
            for (int r = 0, c = subset;; c += subsets) {
                while (c >= columns) c -= columns, r++;
                if (r >= g.chunk_rows) break;
                const float4 gradient = own_dy[(r * columns + c) * b + qb];
                const float4* near = own_x + (r * input_columns + c * g.stride[2]) * a + qa;
#pragma unroll
                for (int k = 0; k < TAPS; k++) {
                    const float4 q = near[k * a];
                    const float v[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
                    for (int m = 0; m < 4; m++) {
                        sum[k][m][0] += v[m] * gradient.x;
                        sum[k][m][1] += v[m] * gradient.y;
                        sum[k][m][2] += v[m] * gradient.z;
                        sum[k][m][3] += v[m] * gradient.w;
                    }
                }
            }
        }
    }

    // The subsets' sums, in their order; one tap at a time.
    float* const sums = reinterpret_cast<float*>(shared);
    const int taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
    float* const own = partial + Index(part) * g.co * g.ci * taps;
#pragma unroll
    for (int k = 0; k < TAPS; k++) {
        __syncthreads();
#pragma unroll
        for (int m = 0; m < 16; m++) sums[m * THREADS + thread] = sum[k][m / 4][m % 4];
        __syncthreads();
        for (int i = thread; i < tiles * 16; i += THREADS) {
            int t = i / 16, m = i % 16;
            float total = 0.0f;
            for (int s = 0; s < subsets; s++) total += sums[m * THREADS + s * tiles + t];
            int channel_in = i0 + t / b * 4 + m / 4, channel_out = o0 + t % b * 4 + m % 4;
            if (channel_in >= g.ci || channel_out >= g.co) continue;
            own[(Index(channel_out) * g.ci + channel_in) * taps + (kd * g.kernel[1] + kh) * g.kernel[2] + kw + k] =
                total;
        }
    }
}

// `mask`: the ReLU's output, or null. Blocks on a multiprocessor: as many as the sums leave registers for.
#define WEIGHTS(name, TAPS, BLOCKS)                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)                                      \
        name(const float* x, const float* dy, const float* mask, float* partial, WeightsShape shape) { \
        weights_body<TAPS>(x, dy, mask, partial, shape);                                               \
    }                                                                                                  \
    BLOCK_KERNEL(name)

WEIGHTS(conv_backward_weights1_f32, 1, 6)
WEIGHTS(conv_backward_weights3_f32, 3, 4)
WEIGHTS(conv_backward_weights5_f32, 5, 3)

// partial[part, o] = the sum of dy over the part's positions; 256 threads, one block a part, a thread one channel of
// every (256 / co)-th position.
extern "C" __global__ void __launch_bounds__(256)
    conv_backward_bias_f32(const float* dy, const float* mask, float* partial, Index positions, int co) {
    SHARED(float, sums, 256);
    const Index parts = gridDim.x, part = blockIdx.x;
    const Index begin = positions * part / parts, end = positions * (part + 1) / parts;
    for (int first = 0; first < co; first += 256) {
        const int channels = min(co - first, 256), subsets = 256 / channels;
        const int c = threadIdx.x % channels, subset = threadIdx.x / channels;
        float sum = 0.0f;
        if (subset < subsets) {
            for (Index p = begin + subset; p < end; p += subsets) {
                Index at = p * co + first + c;
                float v = dy[at];
                sum += !mask || mask[at] > 0 ? v : 0.0f;
            }
        }
        __syncthreads();
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (subset == 0) {
            float total = 0.0f;
            for (int s = 0; s < subsets; s++) total += sums[s * channels + c];
            partial[part * co + first + c] = total;
        }
    }
}
BLOCK_KERNEL(conv_backward_bias_f32)

// sum[i] = partial[0, i] + partial[1, i] + ..., of n values in each part.
extern "C" __global__ void __launch_bounds__(256)
    conv_backward_sum_f32(const float* partial, float* sum, int parts, Index n) {
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        double total = 0.0;
        for (int part = 0; part < parts; part++) total += partial[part * n + i];
        sum[i] = float(total);
    }
}
KERNEL(conv_backward_sum_f32)
