// Convolutions on tensor cores: y = relu?(b + r + sum over taps and channels of w x), f16 stored, f32 sums.
//
// x [D, H, W, CI], y [D', H', W', CO], "same" zero padding; weights packed in B fragments by src/cuda/ops/conv.rs. A
// block of 4 warps makes 16 columns by 4 M rows by N channels and walks along depth over `planes` outputs (grid:
// channel groups, columns, rows, runs of planes, all in x). While the halo of one input plane (C channels of it) is
// multiplied, the next comes in by cp.async; each A fragment serves all taps along depth at once, a set of sums for
// every output plane that is still open. 1x1x1: A comes straight from memory, 32 positions a warp. Fixed order:
// deterministic.
//
// Columns are sorted by parity for stride 2 and pixels are an odd number of 16 bytes apart, so that ldmatrix meets no
// bank twice. A lane's sums are neighbouring channels (the packing permutes them): it stores 4 to 16 bytes, a pixel's
// channels lie in one transaction. Floors (3.35 TB/s | 990 TFLOP/s) at 1600 x 1200, 4 photos, 192 planes; x is read
// from DRAM once, halos (factors 1.2 to 1.7) come from L2:
//   3->8 0.050 ms | 0.003; 8->8 0.073 | 0.009; 8->16 5x5 s2 0.055 | 0.012; 16->16 0.037 | 0.009; 16->32 5x5 s2 0.028 |
//   0.012; 32->32 0.018 | 0.009
//   cost volume 32->16+16 s2 0.495 | 0.161; spatial4 16->32 s2 0.034 | 0.010; decode4 32->16 0.010 | 0.010; decode2
//   16->8 0.041 | 0.020
//   8->1 0.124 | 0.010; cost_skip 1x1x1 32->8 0.550 | 0.012
//   narrow stages (s2 over rows and columns only): down2 16->16 0.046 | 0.013, 8->16 0.055 | 0.013
// All are bound by memory but the deep layers, whose volumes lie in L2 and whose blocks are too few to fill the
// device; shared memory's own bound (128 bytes a cycle; A 512 bytes for every SETS N / 8 products) is 0.3 ms for the
// cost volume and at most 0.05 for the others.
#include "conv_epilogue.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int SPAN = 16;  // Columns of a block: the rows of one A fragment.

struct TileShape {
    int d, h, w, ci;
    int out_d, out_h, out_w, co;
    int planes;  // output planes of a block
    int first;   // the first output plane of the launch; out_d is the one after the last
    int split;   // channels that go to `y`; the others go to `second`
    int relu;
};

// ---- kernels with a halo

// KD x KH x KW taps, stride S over rows and columns and DEPTH_STRIDE along depth, C input channels at a time, N output
// channels.
template <int KD, int KH, int KW, int S, int DEPTH_STRIDE, int C, int N>
struct Tile {
    // Output planes that one input plane adds to.
    static constexpr int SETS = DEPTH_STRIDE == 1 ? KD : 2;
    static constexpr int M = S == 2 || SETS * N > 64 ? 2 : 4;
    static constexpr int ROWS = WARPS * M;
    static constexpr int HALO_ROWS = (ROWS - 1) * S + KH, HALO_COLUMNS = (SPAN - 1) * S + KW;
    static constexpr int HALF = (HALO_COLUMNS + S - 1) / S, ROW = HALF * S;
    static constexpr int PITCH = C == 8 ? 16 : 2 * C + 16;  // bytes of a pixel
    static constexpr int STAGE = HALO_ROWS * ROW * PITCH;   // bytes of a plane's halo
    static constexpr int TAPS = KH * KW;
    // Products with K = 16: a tap's 16 channels, or two taps of 8.
    static constexpr int STEPS = C == 8 ? (TAPS + 1) / 2 : TAPS * (C / 16);
    static constexpr int WEIGHTS = STEPS * N * 8;  // words of one kernel plane and C channels

    // Bytes from an output's first tap to this one.
    static __device__ constexpr int tap(int t) { return (t / KW * ROW + t % KW % S * HALF + t % KW / S) * PITCH; }

    // Starts the copy of C channels from c0 on of a plane.
    static __device__ __forceinline__ void copy(unsigned char* stage, const __half* x, const TileShape& g, int plane,
                                                int y0, int x0, int c0) {
        if (C == 8 && g.ci % 8 != 0) {
            copy_filling(stage, x, g, plane, y0, x0, c0);
        } else {
            // A warp copies every fourth row, its lanes neighbouring 16 bytes: what is to be found out for each copy is
            // whether it lies inside. Lanes stay at columns of one parity.
            constexpr int PIECES = C / 8, ITEMS = HALO_COLUMNS * PIECES, STEP = 32 / PIECES;
            int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
            // What follows from them is computed anew for each plane: over all of them, it would cost registers.
            asm volatile("" : "+r"(lane), "+r"(warp), "+r"(x0), "+r"(y0));
            const int q = lane % PIECES, c = lane / PIECES;
            const int column = x0 * S - KW / 2 + c;
            int row = y0 * S - KH / 2 + warp;
            const Index pixel = (Index(plane) * g.h + row) * g.w + column;
            const char* from = reinterpret_cast<const char*>(x) + (pixel * g.ci + c0 + q * 8) * Index(sizeof(__half));
            const Index rows = Index(WARPS) * g.w * g.ci * Index(sizeof(__half));
            const int step = STEP * g.ci * int(sizeof(__half));
            unsigned char* to = stage + (warp * ROW + c % S * HALF + c / S) * PITCH + q * 16;
#pragma unroll 1
            for (int r = warp; r < HALO_ROWS; r += WARPS) {
                const bool inside = unsigned(row) < unsigned(g.h);
#pragma unroll
                for (int p = 0; p < (ITEMS + 31) / 32; p++) {
                    if (lane + 32 * p < ITEMS)
                        copy_async16(to + p * (STEP / S) * PITCH, from + p * step,
                                     inside && unsigned(column + p * STEP) < unsigned(g.w));
                }
                row += WARPS;
                from += rows;
                to += WARPS * ROW * PITCH;
            }
        }
        copy_async_commit();
    }

    // The same for pixels that are no whole 16 bytes: up to 8 channels, then zeros. Several pixels are on their way at
    // a time.
    static __device__ __forceinline__ void copy_filling(unsigned char* stage, const __half* x, const TileShape& g,
                                                        int plane, int y0, int x0, int c0) {
        constexpr int BATCH = 3;
#pragma unroll 1
        for (int first = threadIdx.x; first < HALO_ROWS * HALO_COLUMNS; first += BATCH * THREADS) {
            Float8 v[BATCH];
#pragma unroll
            for (int j = 0; j < BATCH; j++) {
                const int i = first + j * THREADS, row = y0 * S - KH / 2 + i / HALO_COLUMNS,
                          column = x0 * S - KW / 2 + i % HALO_COLUMNS;
                const bool inside = row >= 0 && row < g.h && column >= 0 && column < g.w;
                const __half* from = x + (inside ? ((Index(plane) * g.h + row) * g.w + column) * g.ci + c0 : 0);
#pragma unroll
                for (int k = 0; k < 8; k++) v[j].v[k] = inside && c0 + k < g.ci ? load(from + k) : 0.0f;
            }
#pragma unroll
            for (int j = 0; j < BATCH; j++) {
                const int i = first + j * THREADS, r = i / HALO_COLUMNS, c = i % HALO_COLUMNS;
                if (r < HALO_ROWS)
                    store8(reinterpret_cast<__half*>(stage + (r * ROW + c % S * HALF + c / S) * PITCH), v[j]);
            }
        }
    }

    // Adds one step's products: the kernel plane of set j lies at j * `distance` words.
    template <int COUNT>
    static __device__ __forceinline__ void multiply(const unsigned char* pixel, const unsigned* weights, Index distance,
                                                    int lane, Accumulator (&sums)[SETS][M][N / 8]) {
        FragmentA a[M];
#pragma unroll
        for (int m = 0; m < M; m++)
            a[m] = load_fragment_a(reinterpret_cast<const __half*>(pixel + m * S * ROW * PITCH));
#pragma unroll
        for (int j = 0; j < COUNT; j++) {
            FragmentB b[N / 8];
            load_fragments_b<N>(b, weights + j * distance, lane);
#pragma unroll
            for (int m = 0; m < M; m++)
#pragma unroll
                for (int n = 0; n < N / 8; n++) multiply_add(sums[j][m][n], a[m], b[n]);
        }
    }

    // Adds a plane's products to the first COUNT sets.
    template <int COUNT>
    static __device__ __forceinline__ void accumulate(const unsigned char* stage, const unsigned* weights,
                                                      Index distance, Accumulator (&sums)[SETS][M][N / 8]) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, high = lane / 16;
        const unsigned char* own = stage + (warp * M * S * ROW + lane % 16) * PITCH;
        if constexpr (C == 8) {
            // The upper lanes' addresses are those of k = 8 to 15: the second tap. The last tap stands in where there
            // is none; its weights are zero.
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                const int second = 2 * step + 1 < TAPS ? 2 * step + 1 : TAPS - 1;
                multiply<COUNT>(own + (high ? tap(second) : tap(2 * step)), weights + step * N * 8, distance, lane,
                                sums);
            }
        } else {
            own += high * 16;
#pragma unroll 1
            for (int kh = 0; kh < KH; kh++) {
#pragma unroll(SETS * M * N >= 128 ? 1 : KW)
                for (int kw = 0; kw < KW; kw++)
#pragma unroll
                    for (int k = 0; k < C / 16; k++)
                        multiply<COUNT>(own + tap(kw) + k * 32, weights + (kw * (C / 16) + k) * N * 8, distance, lane,
                                        sums);
                own += ROW * PITCH;
                weights += KW * (C / 16) * N * 8;
            }
        }
    }

    static __device__ __forceinline__ void run(const __half* x, const unsigned* weights, const float* bias,
                                               const __half* residual, __half* y, __half* second, const TileShape& g) {
        DYNAMIC_SHARED(unsigned char, stages);
        const int groups = (g.co + N - 1) / N, chunks = (g.ci + C - 1) / C;
        const int tiles_x = (g.out_w + SPAN - 1) / SPAN, tiles_y = (g.out_h + ROWS - 1) / ROWS;
        unsigned block = blockIdx.x;
        const int group = int(block % groups);
        block /= groups;
        const int x0 = int(block % tiles_x) * SPAN;
        block /= tiles_x;
        const int y0 = int(block % tiles_y) * ROWS;
        const int begin = g.first + int(block / tiles_y) * g.planes, end = min(begin + g.planes, g.out_d);

        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const int channel = group * N + lane % 4 * (N / 4);
        const Channels<N / 4> own_bias = load_bias<N / 4>(bias, channel, g.co);
        Accumulator sums[SETS][M][N / 8];
#pragma unroll
        for (int j = 0; j < SETS; j++)
#pragma unroll
            for (int m = 0; m < M; m++) begin_sums<N>(sums[j][m], own_bias);

        // A warp below the volume's last row has only copies to do.
        const bool busy = y0 + warp * M < g.out_h;
        weights += Index(group) * KD * chunks * WEIGHTS;
        const Index kernel_plane = Index(chunks) * WEIGHTS;
        const int first = max(begin * DEPTH_STRIDE - KD / 2, 0), last = (end - 1) * DEPTH_STRIDE + KD / 2,
                  present = min(last, g.d - 1);
        int buffer = 0;
        copy(stages, x, g, first, y0, x0, 0);
        for (int plane = first; plane <= last; plane++) {
            if (plane <= present) {
                for (int chunk = 0; chunk < chunks; chunk++) {
                    copy_async_wait<0>();
                    // All copies are there, and nobody reads the other buffer any more.
                    __syncthreads();
                    const bool turn = chunk + 1 == chunks;
                    if (!turn || plane < present)
                        copy(stages + (buffer ^ 1) * STAGE, x, g, plane + turn, y0, x0, turn ? 0 : (chunk + 1) * C);
                    const unsigned char* stage = stages + buffer * STAGE;
                    const unsigned* chunk_weights = weights + Index(chunk) * WEIGHTS;
                    // Set j is the output whose tap along depth is KD - 1 - j S here, the oldest first; even planes of
                    // stride 2 have the middle tap alone.
                    buffer ^= 1;
                    if (!busy) continue;
                    if constexpr (DEPTH_STRIDE == 1) {
                        accumulate<SETS>(stage, chunk_weights + (KD - 1) * kernel_plane, -kernel_plane, sums);
                    } else if (plane % 2) {
                        accumulate<SETS>(stage, chunk_weights + 2 * kernel_plane, -2 * kernel_plane, sums);
                    } else {
                        accumulate<1>(stage, chunk_weights + kernel_plane, 0, sums);
                    }
                }
            }
            if (DEPTH_STRIDE == 2 && plane % 2 == 0) continue;
            // The oldest output has seen all its planes.
            const int o = DEPTH_STRIDE == 1 ? plane - KD / 2 : plane / 2;
            if (o >= begin) {
                const int row = y0 + warp * M, column = x0 + lane / 4;
                const Index first_pixel = (Index(o) * g.out_h + row) * g.out_w + column;
                // One address for all its pixels, or, where registers are scarce, one for each.
                constexpr bool ONE_ADDRESS = N < 32 && SETS * M * N <= 96;
                Own own = {};
                if (ONE_ADDRESS) own = own_channels(first_pixel, channel, g.co, g.split, y, second);
#pragma unroll
                for (int m = 0; m < M; m++) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        if (row + m >= g.out_h || column + 8 * half >= g.out_w) continue;
                        const int beside = m * g.out_w + 8 * half;
                        const Index pixel = first_pixel + beside;
                        if (!ONE_ADDRESS)
                            own = own_channels(pixel, channel, g.co, g.split, y, second);
                        finish<N / 4>(channels_of<N>(sums[0][m], half), own, ONE_ADDRESS ? beside : 0, pixel, channel,
                                      g.co, g.split, g.relu, residual, y, second);
                    }
                }
            }
#pragma unroll
            for (int m = 0; m < M; m++) {
#pragma unroll
                for (int j = 0; j + 1 < SETS; j++)
#pragma unroll
                    for (int n = 0; n < N / 8; n++) sums[j][m][n] = sums[j + 1][m][n];
                begin_sums<N>(sums[SETS - 1][m], own_bias);
            }
        }
    }
};

// BLOCKS on a multiprocessor: the most that the registers allow without spills on sm_90; one less before.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define RESIDENT(blocks) ((blocks) - 1)
#else
#define RESIDENT(blocks) (blocks)
#endif
#define TILE(name, KD, KH, KW, S, DEPTH_STRIDE, C, N, BLOCKS)                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT(BLOCKS))                                  \
        name(const __half* x, const unsigned* weights, const float* bias, const __half* residual, __half* y, \
             __half* second, TileShape shape) {                                                              \
        Tile<KD, KH, KW, S, DEPTH_STRIDE, C, N>::run(x, weights, bias, residual, y, second, shape);          \
    }                                                                                                        \
    BLOCK_KERNEL(name)

TILE(conv_forward_133s1_c8n8_f16, 1, 3, 3, 1, 1, 8, 8, 5)
TILE(conv_forward_133s1_c16n16_f16, 1, 3, 3, 1, 1, 16, 16, 4)
TILE(conv_forward_133s1_c32n32_f16, 1, 3, 3, 1, 1, 32, 32, 4)
TILE(conv_forward_133s2_c8n32_f16, 1, 3, 3, 2, 1, 8, 32, 4)
TILE(conv_forward_133s2_c16n16_f16, 1, 3, 3, 2, 1, 16, 16, 5)
TILE(conv_forward_133s2_c16n32_f16, 1, 3, 3, 2, 1, 16, 32, 4)
TILE(conv_forward_155s2_c8n16_f16, 1, 5, 5, 2, 1, 8, 16, 4)
TILE(conv_forward_155s2_c16n32_f16, 1, 5, 5, 2, 1, 16, 32, 4)
TILE(conv_forward_333s1_c8n8_f16, 3, 3, 3, 1, 1, 8, 8, 3)
TILE(conv_forward_333s1_c16n8_f16, 3, 3, 3, 1, 1, 16, 8, 4)
TILE(conv_forward_333s1_c16n16_f16, 3, 3, 3, 1, 1, 16, 16, 3)
TILE(conv_forward_333s1_c32n16_f16, 3, 3, 3, 1, 1, 32, 16, 3)
TILE(conv_forward_333s1_c32n32_f16, 3, 3, 3, 1, 1, 32, 32, 2)
TILE(conv_forward_333s2_c16n32_f16, 3, 3, 3, 2, 2, 16, 32, 4)
// Of narrow stages, which keep their hypotheses.
TILE(conv_forward_333p2_c8n16_f16, 3, 3, 3, 2, 1, 8, 16, 3)
TILE(conv_forward_333p2_c16n16_f16, 3, 3, 3, 2, 1, 16, 16, 3)
TILE(conv_forward_333p2_c16n32_f16, 3, 3, 3, 2, 1, 16, 32, 2)

// ---- one tap

struct PointwiseShape {
    int d, h, w, ci;
    int out_d, out_h, out_w, co;
    int stride[3];
    int split, relu;
};

// A lane reads 8, 4 or 2 neighbouring channels of a pixel; which k of the product they are is the packing's affair.
template <int N>
__device__ __forceinline__ void pointwise_body(const __half* x, const unsigned* weights, const float* bias,
                                               const __half* residual, __half* y, __half* second,
                                               const PointwiseShape& g) {
    constexpr int M = 2;
    const int groups = (g.co + N - 1) / N;
    const int group = int(blockIdx.x % unsigned(groups));
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, quad = lane % 4;
    const Index begin = (Index(blockIdx.x / unsigned(groups)) * WARPS + warp) * 16 * M;
    const Index pixels = Index(g.out_d) * g.out_h * g.out_w;
    const bool strided = g.stride[0] != 1 || g.stride[1] != 1 || g.stride[2] != 1;

    const __half* from[M][2];
    bool there[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        const Index p = begin + lane / 4 + 8 * i;
        there[i / 2][i % 2] = p < pixels;
        Index at = there[i / 2][i % 2] ? p : 0;
        if (strided) {
            Index row = at / g.out_w;
            Index source = Index(row / g.out_h * g.stride[0]) * g.h + row % g.out_h * g.stride[1];
            at = source * g.w + at % g.out_w * g.stride[2];
        }
        from[i / 2][i % 2] = x + at * g.ci;
    }

    const int channel = group * N + quad * (N / 4);
    const Channels<N / 4> own_bias = load_bias<N / 4>(bias, channel, g.co);
    Accumulator sums[M][N / 8];
#pragma unroll
    for (int m = 0; m < M; m++) begin_sums<N>(sums[m], own_bias);
    const unsigned* fragments = weights + Index(group) * (g.ci / 2) * N;
    int c = 0;
#pragma unroll 1
    for (; c + 32 <= g.ci; c += 32) {
        uint4 v[M][2];
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            v[i / 2][i % 2] = make_uint4(0, 0, 0, 0);
            if (there[i / 2][i % 2])
                v[i / 2][i % 2] = *reinterpret_cast<const uint4*>(from[i / 2][i % 2] + c + 8 * quad);
        }
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
            uint4 b = __ldg(reinterpret_cast<const uint4*>(fragments) + n * 32 + lane);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply_add(sums[m][n], FragmentA{{v[m][0].x, v[m][1].x, v[m][0].y, v[m][1].y}},
                             FragmentB{{b.x, b.y}});
                multiply_add(sums[m][n], FragmentA{{v[m][0].z, v[m][1].z, v[m][0].w, v[m][1].w}},
                             FragmentB{{b.z, b.w}});
            }
        }
        fragments += 16 * N;
    }
    if (c + 16 <= g.ci) {
        uint2 v[M][2];
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            v[i / 2][i % 2] = make_uint2(0, 0);
            if (there[i / 2][i % 2])
                v[i / 2][i % 2] = *reinterpret_cast<const uint2*>(from[i / 2][i % 2] + c + 4 * quad);
        }
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
            uint2 b = __ldg(reinterpret_cast<const uint2*>(fragments) + n * 32 + lane);
#pragma unroll
            for (int m = 0; m < M; m++)
                multiply_add(sums[m][n], FragmentA{{v[m][0].x, v[m][1].x, v[m][0].y, v[m][1].y}},
                             FragmentB{{b.x, b.y}});
        }
        c += 16;
        fragments += 8 * N;
    }
    if (c < g.ci) {
        unsigned v[M][2];
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            v[i / 2][i % 2] = 0;
            if (there[i / 2][i % 2])
                v[i / 2][i % 2] = *reinterpret_cast<const unsigned*>(from[i / 2][i % 2] + c + 2 * quad);
        }
#pragma unroll
        for (int n = 0; n < N / 8; n++) {
            unsigned b = __ldg(fragments + n * 32 + lane);
#pragma unroll
            for (int m = 0; m < M; m++)
                multiply_add(sums[m][n], FragmentA{{v[m][0], v[m][1], 0, 0}}, FragmentB{{b, 0}});
        }
    }
    const Index first_pixel = begin + lane / 4;
    const Own own = own_channels(first_pixel, channel, g.co, g.split, y, second);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        if (!there[i / 2][i % 2]) continue;
        finish<N / 4>(channels_of<N>(sums[i / 2], i % 2), own, 8 * i, first_pixel + 8 * i, channel, g.co, g.split,
                      g.relu, residual, y, second);
    }
}

#define POINTWISE(name, N)                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                    \
        name(const __half* x, const unsigned* weights, const float* bias, const __half* residual, __half* y, \
             __half* second, PointwiseShape shape) {                                                         \
        pointwise_body<N>(x, weights, bias, residual, y, second, shape);                                     \
    }                                                                                                        \
    BLOCK_KERNEL(name)

POINTWISE(conv_forward_111_n8_f16, 8)
POINTWISE(conv_forward_111_n16_f16, 16)
POINTWISE(conv_forward_111_n32_f16, 32)
