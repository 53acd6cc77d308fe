// The regularizer's last stage and the depth regression (eq. 6), for inference: logits = conv3x3x3(relu(upsample(half,
// 2) + skip)), softmax over D.
//
// half [D/2, H/2, W/2, 8] (a narrow stage's: [D, H/2, W/2, 8]) and skip [D, H, W, 8] (f32 or f16) -> logits [D, H, W]
// f32 -> depth and confidence [H, W]; or from logits at an eighth. Logits: a block takes a tile of 32 x 16 pixels
// through a run of planes, with one plane of x in shared memory: what it gives to the planes before and after waits in
// registers, so x is read once and not three times. A thread has 4 rows of a column, so that a weight serves 4 pixels.
// Regression: one thread a pixel. Borders: x is zero outside the volume; upsampling reads at index / factor, clamped to
// the last sample. Sums in f32, taps in another order than the CPU's; the middle of the range is added in f64.
// Deterministic: every output by one thread. Floor at 192 x 300 x 400 in f16: 415 MB read, logits (a sixteenth of the
// cost volume) written and read: 600 MB, 0.18 ms at 3.35 TB/s. Walking all planes in one launch would save the logits'
// 0.055 ms and leave 247 tiles for 132 SMs and 2 barriers a plane; runs of 16 make 12 times as many. What bounds it is
// the issue of instructions (docs/KERNELS.md): in f32 the convolution's, in f16 those that make x.
#include "half_pairs.cuh"
#include "softmax.cuh"
#include "tensor_core.cuh"

constexpr int HEAD_CHANNELS = 8;
constexpr int HEAD_THREADS = 128;
constexpr int TILE_COLUMNS = 32, TILE_ROWS = 16, THREAD_ROWS = 4;
constexpr int X_COLUMNS = TILE_COLUMNS + 2, X_ROWS = TILE_ROWS + 2;
// Coarse columns that a tile's x read: columns first - 1 .. first + 32, halved, and one beyond.
constexpr int COARSE_COLUMNS = TILE_COLUMNS / 2 + 3;

// Where output o reads: two samples and the weight of the second.
struct LinearTap {
    int low, high;
    float weight;
};
__device__ __forceinline__ LinearTap linear_tap(int o, int factor, int samples) {
    int low = min(o / factor, samples - 1);
    return {low, min(low + 1, samples - 1), fminf(float(o) / float(factor) - float(low), 1.0f)};
}

__device__ __forceinline__ void blend8(Float8& y, const Float8& a, float weight) {
#pragma unroll
    for (int c = 0; c < 8; c++) y.v[c] = fmaf(a.v[c], weight, y.v[c]);
}

// A block's tile, and the volumes that its x is made of.
template <typename T>
struct HeadTile {
    const T *half, *skip;
    int planes, half_planes, height, width, column0, row0, half_height, half_width, coarse0;

    __device__ __forceinline__ HeadTile(const T* half_, const T* skip_, int planes_, int half_planes_, int height_,
                                        int width_) {
        half = half_, skip = skip_, planes = planes_, half_planes = half_planes_, height = height_, width = width_;
        int across = (width + TILE_COLUMNS - 1) / TILE_COLUMNS;
        column0 = blockIdx.x % across * TILE_COLUMNS, row0 = blockIdx.x / across * TILE_ROWS;
        half_height = (height + 1) / 2, half_width = (width + 1) / 2;
        coarse0 = max(column0 - 1, 0) / 2;
    }

    // Plane z of x, by all threads, with a barrier after each of its two steps. `keep(i, y)` stores pixel i of the tile
    // with its ring.
    template <typename Keep>
    __device__ __forceinline__ void make(int z, float* coarse, const Keep& keep) const {
        // Blended over planes and rows, then along the columns with the skip connection. A narrow stage halves rows and
        // columns only.
        LinearTap of_plane = linear_tap(z, half_planes == planes ? 1 : 2, half_planes);
        for (int i = threadIdx.x; i < X_ROWS * COARSE_COLUMNS; i += HEAD_THREADS) {
            int r = i / COARSE_COLUMNS, k = i % COARSE_COLUMNS;
            int row = row0 + r - 1, at = min(coarse0 + k, half_width - 1);
            Float8 sum = {};
            if (row >= 0 && row < height) {
                LinearTap of_row = linear_tap(row, 2, half_height);
                for (int t = 0; t < 4; t++) {
                    float weight = (t & 2 ? of_plane.weight : 1.0f - of_plane.weight) *
                                   (t & 1 ? of_row.weight : 1.0f - of_row.weight);
                    if (weight == 0.0f) continue;
                    Index from = Index(t & 2 ? of_plane.high : of_plane.low) * half_height +
                                 (t & 1 ? of_row.high : of_row.low);
                    blend8(sum, load8(half + (from * half_width + at) * HEAD_CHANNELS), weight);
                }
            }
            store4(coarse + i * 4, make_float4(sum.v[0], sum.v[1], sum.v[2], sum.v[3]));
            store4(coarse + (X_ROWS * COARSE_COLUMNS + i) * 4, make_float4(sum.v[4], sum.v[5], sum.v[6], sum.v[7]));
        }
        __syncthreads();
        for (int i = threadIdx.x; i < X_ROWS * X_COLUMNS; i += HEAD_THREADS) {
            int r = i / X_COLUMNS, row = row0 + r - 1, at = column0 + i % X_COLUMNS - 1;
            Float8 y = {};
            if (row >= 0 && row < height && at >= 0 && at < width) {
                LinearTap t = linear_tap(at, 2, half_width);
                const float* low = coarse + (r * COARSE_COLUMNS + t.low - coarse0) * 4;
                const float* high = coarse + (r * COARSE_COLUMNS + t.high - coarse0) * 4;
                y = load8(skip + ((Index(z) * height + row) * width + at) * HEAD_CHANNELS);
#pragma unroll
                for (int part = 0; part < 2; part++) {
                    float4 a = load4(low + part * X_ROWS * COARSE_COLUMNS * 4),
                           b = load4(high + part * X_ROWS * COARSE_COLUMNS * 4);
                    float blended[4] = {
                        fmaf(b.x, t.weight, a.x * (1.0f - t.weight)), fmaf(b.y, t.weight, a.y * (1.0f - t.weight)),
                        fmaf(b.z, t.weight, a.z * (1.0f - t.weight)), fmaf(b.w, t.weight, a.w * (1.0f - t.weight))};
#pragma unroll
                    for (int c = 0; c < 4; c++) y.v[part * 4 + c] = fmaxf(y.v[part * 4 + c] + blended[c], 0.0f);
                }
            }
            keep(i, y);
        }
        // The next plane's first barrier lies between what follows and its writes to x.
        __syncthreads();
    }
};

__device__ __forceinline__ void logits_body(const float* half, const float* skip, const float* weights,
                                            const float* bias, int planes, int half_planes, int height, int width,
                                            int run, float* logits) {
    // Channels 0 .. 4 and 4 .. 8 lie apart: neighbouring lanes read neighbouring 16 bytes.
    SHARED(float, x, 2 * X_ROWS * X_COLUMNS * 4);
    SHARED(float, coarse, 2 * X_ROWS * COARSE_COLUMNS * 4);
    SHARED(float, w, 27 * HEAD_CHANNELS);
    int thread = threadIdx.x;
    // [kw, half of the channels, kh, kd, 4], from PyTorch's [c, kd, kh, kw].
    for (int i = thread; i < 27 * HEAD_CHANNELS; i += HEAD_THREADS) {
        int c = i % 4, kd = i / 4 % 3, kh = i / 12 % 3, part = i / 36 % 2, kw = i / 72;
        w[i] = weights[(part * 4 + c) * 27 + (kd * 3 + kh) * 3 + kw];
    }
    const HeadTile<float> tile(half, skip, planes, half_planes, height, width);
    int first = blockIdx.y * run, end = min(first + run, planes);
    int column = thread % TILE_COLUMNS, rows = thread / TILE_COLUMNS * THREAD_ROWS;
    // What planes z - 1, z and z + 1 have got so far.
    float sums[3][THREAD_ROWS];
    float constant = bias[0];
#pragma unroll
    for (int r = 0; r < THREAD_ROWS; r++) sums[0][r] = sums[1][r] = sums[2][r] = constant;
    for (int z = first - 1; z <= end; z++) {
        if (z >= 0 && z < planes) {
            tile.make(z, coarse, [&](int i, const Float8& y) {
                store4(x + i * 4, make_float4(y.v[0], y.v[1], y.v[2], y.v[3]));
                store4(x + (X_ROWS * X_COLUMNS + i) * 4, make_float4(y.v[4], y.v[5], y.v[6], y.v[7]));
            });
            for (int k = 0; k < 6; k++) {
                int kw = k / 2, part = k % 2;
                const float* weight = w + k * 36;
#pragma unroll
                for (int r = 0; r < THREAD_ROWS + 2; r++) {
                    float4 v = load4(x + ((part * X_ROWS + rows + r) * X_COLUMNS + column + kw) * 4);
#pragma unroll
                    for (int kh = 0; kh < 3; kh++) {
                        int out = r - kh;
                        if (out < 0 || out >= THREAD_ROWS) continue;
#pragma unroll
                        for (int kd = 0; kd < 3; kd++) {
                            // Plane z is tap kd of plane z + 1 - kd.
                            float4 u = load4(weight + (kh * 3 + kd) * 4);
                            float& sum = sums[2 - kd][out];
                            sum = fmaf(v.x, u.x, sum);
                            sum = fmaf(v.y, u.y, sum);
                            sum = fmaf(v.z, u.z, sum);
                            sum = fmaf(v.w, u.w, sum);
                        }
                    }
                }
            }
        }
        if (z > first) {
#pragma unroll
            for (int r = 0; r < THREAD_ROWS; r++) {
                int row = tile.row0 + rows + r, at = tile.column0 + column;
                if (row < height && at < width) logits[(Index(z - 1) * height + row) * width + at] = sums[0][r];
            }
        }
#pragma unroll
        for (int r = 0; r < THREAD_ROWS; r++) {
            sums[0][r] = sums[1][r];
            sums[1][r] = sums[2][r];
            sums[2][r] = constant;
        }
    }
}

// In f16 on tensor cores: 16 pixels of a row by the taps along depth, K = two taps of a plane with 8 channels each: kw
// 0 and 1 of a row, or kw 2 of two rows, so that a fragment of x serves up to four output rows. A product's column j is
// what plane z + 1 - j gets of plane z, so that sums move on by a column when z does: column 2 is finished. x and the
// weights are rounded to f16.
constexpr int WARP_ROWS = TILE_ROWS / (HEAD_THREADS / 32), SPANS = TILE_COLUMNS / 16;

__device__ __forceinline__ void logits_body(const __half* half, const __half* skip, const float* weights,
                                            const float* bias, int planes, int half_planes, int height, int width,
                                            int run, float* logits) {
    SHARED(__half, x, X_ROWS * X_COLUMNS * HEAD_CHANNELS);
    SHARED(float, coarse, 2 * X_ROWS * COARSE_COLUMNS * 4);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % 4, n = lane / 4;
    const HeadTile<__half> tile(half, skip, planes, half_planes, height, width);
    int first = blockIdx.y * run, end = min(first + run, planes);
    // What column n gets from channels 2 quad and 2 quad + 1 of a tap.
    auto of_tap = [&](int kh, int kw) {
        if (n >= 3 || kh < 0 || kh >= 3) return 0u;
        const float* own = weights + 2 * quad * 27 + n * 9 + kh * 3 + kw;
        return half_pair(own[0], own[27]);
    };
    FragmentB neighbours[3], rows[4];
#pragma unroll
    for (int kh = 0; kh < 3; kh++) neighbours[kh] = {{of_tap(kh, 0), of_tap(kh, 1)}};
#pragma unroll
    for (int kh = -1; kh < 3; kh++) rows[kh + 1] = {{of_tap(kh, 2), of_tap(kh + 1, 2)}};
    float constant = bias[0];
    Accumulator sums[WARP_ROWS][SPANS];
#pragma unroll
    for (int r = 0; r < WARP_ROWS; r++) {
#pragma unroll
        for (int s = 0; s < SPANS; s++) sums[r][s] = {{constant, constant, constant, constant}};
    }
    // The upper lanes' addresses are those of the second tap.
    const __half* own = x + (warp * WARP_ROWS * X_COLUMNS + lane % 16) * HEAD_CHANNELS;
    const int second = lane / 16;
    for (int z = first - 1; z <= end; z++) {
        if (z >= 0 && z < planes) {
            tile.make(z, coarse, [&](int i, const Float8& y) { store8(x + i * HEAD_CHANNELS, y); });
#pragma unroll
            for (int s = 0; s < SPANS; s++) {
#pragma unroll
                for (int i = 0; i < WARP_ROWS + 2; i++) {
                    FragmentA a = load_fragment_a(own + (i * X_COLUMNS + s * 16 + second) * HEAD_CHANNELS);
#pragma unroll
                    for (int kh = 0; kh < 3; kh++) {
                        const int r = i - kh;
                        if (r >= 0 && r < WARP_ROWS) multiply_add(sums[r][s], a, neighbours[kh]);
                    }
                }
#pragma unroll
                for (int i = 0; i < WARP_ROWS + 2; i += 2) {
                    FragmentA a = load_fragment_a(own + ((i + second) * X_COLUMNS + s * 16 + 2) * HEAD_CHANNELS);
#pragma unroll
                    for (int kh = -1; kh < 3; kh++) {
                        const int r = i - kh;
                        if (r >= 0 && r < WARP_ROWS) multiply_add(sums[r][s], a, rows[kh + 1]);
                    }
                }
            }
        }
#pragma unroll
        for (int r = 0; r < WARP_ROWS; r++) {
            int row = tile.row0 + warp * WARP_ROWS + r;
#pragma unroll
            for (int s = 0; s < SPANS; s++) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    float(&v)[4] = sums[r][s].v;
                    int at = tile.column0 + s * 16 + n + 8 * h;
                    if (z > first && quad == 1 && row < height && at < width)
                        logits[(Index(z - 1) * height + row) * width + at] = v[2 * h];
                    float before = __shfl_up_sync(ALL_LANES, v[2 * h + 1], 1);
                    v[2 * h + 1] = v[2 * h];
                    v[2 * h] = quad == 1 ? before : constant;
                }
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_forward_logits_f32(const float* half, const float* skip, const float* weights, const float* bias, int planes,
                            int half_planes, int height, int width, int run, float* logits) {
    logits_body(half, skip, weights, bias, planes, half_planes, height, width, run, logits);
}
BLOCK_KERNEL(head_forward_logits_f32)
extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_forward_logits_f16(const __half* half, const __half* skip, const float* weights, const float* bias, int planes,
                            int half_planes, int height, int width, int run, float* logits) {
    logits_body(half, skip, weights, bias, planes, half_planes, height, width, run, logits);
}
BLOCK_KERNEL(head_forward_logits_f16)

// Logits of one pixel as they lie.
struct Stored {
    const float* logits;
    Index stride;
    __device__ __forceinline__ float operator()(int plane) const { return logits[plane * stride]; }
};

// Logits of one pixel from those at an eighth [D/8, H/8, W/8].
template <typename T>
struct Interpolated {
    const T* eighth;
    int planes, stride, width;
    LinearTap row, column;
    __device__ __forceinline__ float operator()(int plane) const {
        LinearTap z = linear_tap(plane, 8, planes);
        float blended[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const T* at = eighth + (i ? column.high : column.low);
            auto value = [&](int p, int r) { return load(at + Index(p) * stride + r * width); };
            float low = fmaf(value(z.low, row.high), row.weight, value(z.low, row.low) * (1.0f - row.weight));
            float high = fmaf(value(z.high, row.high), row.weight, value(z.high, row.low) * (1.0f - row.weight));
            blended[i] = fmaf(high, z.weight, low * (1.0f - z.weight));
        }
        return fmaf(blended[1], column.weight, blended[0] * (1.0f - column.weight));
    }
};

// Log-odds of a depth outside of where it is expected (src/scene/camera.rs).
constexpr float ELSEWHERE = -4.59512f;

// Logits of one pixel whose depth is expected among some of the hypotheses.
template <typename Logit>
struct Weighed {
    const Logit& logit;
    int first;
    unsigned beyond;
    __device__ __forceinline__ float operator()(int plane) const {
        return logit(plane) + (unsigned(plane - first) > beyond ? ELSEWHERE : 0.0f);
    }
};

// Depth, and the probability of the four hypotheses around the expected index. `offsets` are values relative to the
// middle. Where `known` is not null and holds anything but 0, `expected` has each pixel's first and last hypothesis.
template <typename Logit>
__device__ __forceinline__ void regress(const Logit& of_photos, const float* offsets, double middle, const float* known,
                                        const float* expected, Index pixel, int inverse, int planes, float* depth,
                                        float* confidence) {
    Weighed<Logit> logit = {of_photos, 0, unsigned(planes)};
    if (known && *known != 0.0f) {
        logit.first = int(expected[2 * pixel]);
        logit.beyond = unsigned(int(expected[2 * pixel + 1]) - logit.first);
    }
    Softmax s = softmax(logit, offsets, planes);
    double value = middle + double(s.offset / s.total);
    *depth = float(inverse ? 1.0 / value : value);
    float index = floorf(s.index / s.total);
    int at = index > 0.0f ? min(int(index), planes - 1) : 0;
    float sum = 0.0f;
    for (int p = max(at - 1, 0); p < min(at + 3, planes); p++) sum += expf(logit(p) - s.top);
    // Rounding must not make a probability of more than 1. No number stays none: fminf would make 1 of it.
    float probability = sum / s.total;
    *confidence = probability > 1.0f ? 1.0f : probability;
}

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_forward_regress_f32(const float* logits, const float* offsets, const double* middle, const float* known,
                             const float* expected, int inverse, int planes, Index pixels, float* depth,
                             float* confidence) {
    Index i = thread_of_grid();
    if (i >= pixels) return;
    Stored stored = {logits + i, pixels};
    regress(stored, offsets, *middle, known, expected, i, inverse, planes, depth + i, confidence + i);
}
KERNEL(head_forward_regress_f32)

// `kept` [D, H, W] takes the logits, where it is not null.
template <typename T>
__device__ __forceinline__ void trilinear_body(const T* eighth, const float* offsets, const double* middle,
                                               const float* known, const float* expected, int inverse, int planes,
                                               int height, int width, float* depth, float* confidence, float* kept) {
    Index i = thread_of_grid(), pixels = Index(height) * width;
    if (i >= pixels) return;
    auto over = [](int n) { return ((n + 1) / 2 + 1) / 2; };
    int d8 = (over(planes) + 1) / 2, h8 = (over(height) + 1) / 2, w8 = (over(width) + 1) / 2;
    Interpolated<T> logit = {
        eighth, d8, h8 * w8, w8, linear_tap(int(i / width), 8, h8), linear_tap(int(i % width), 8, w8)};
    if (kept) {
        for (int p = 0; p < planes; p++) kept[p * pixels + i] = logit(p);
    }
    regress(logit, offsets, *middle, known, expected, i, inverse, planes, depth + i, confidence + i);
}

extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_forward_trilinear_f32(const float* eighth, const float* offsets, const double* middle, const float* known,
                               const float* expected, int inverse, int planes, int height, int width, float* depth,
                               float* confidence, float* kept) {
    trilinear_body(eighth, offsets, middle, known, expected, inverse, planes, height, width, depth, confidence, kept);
}
KERNEL(head_forward_trilinear_f32)
extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    head_forward_trilinear_f16(const __half* eighth, const float* offsets, const double* middle, const float* known,
                               const float* expected, int inverse, int planes, int height, int width, float* depth,
                               float* confidence, float* kept) {
    trilinear_body(eighth, offsets, middle, known, expected, inverse, planes, height, width, depth, confidence, kept);
}
KERNEL(head_forward_trilinear_f16)
