// Depths moved to where the photos agree best: normalised cross-correlation of 5 x 5 windows, in the processor's order
// of operations and with its roundings (src/cpu/ops/ncc.rs) but for where a pixel lies in a source (sweep.cuh).
//
// depth and refined [H, W] are f32, photos [H, W] in grey. A block takes a tile of 32 x 8 pixels, a thread one of them.
// For each hypothesis and source the block warps the tile and what windows reach beyond into shared memory (two
// buffers in turn, so that one barrier does), then each thread sums its window; the reference's window stays in
// registers. A thread writes its own pixel only, counts are sums of integers: deterministic. Floor: a pixel, hypothesis
// and source takes 75 fused multiply-adds, 25 loads from shared memory and 1.7 warped pixels of some 60 operations; on
// an H100 (2.9e13 instructions/s) 7 hypotheses of 4 sources take 0.2 ns a pixel, memory (each photo once) 0.01 ns.
#include "rounded.cuh"
#include "sweep.cuh"

constexpr int TILE_WIDTH = 32, TILE_HEIGHT = 8, REACH = 2, SIDE = 2 * REACH + 1;
constexpr int WIDE = TILE_WIDTH + 2 * REACH, HIGH = TILE_HEIGHT + 2 * REACH, REACHED = WIDE * HIGH;
constexpr int HYPOTHESES = 7;
constexpr float SHARE = 1.0f / (SIDE * SIDE);
// Worse than any correlation.
constexpr float NONE = -2.0f;

// A source view: its homography and size as sources have them everywhere, and its photo.
struct Seen {
    float row[SOURCE];
    const float* photo;
};

// The source's grey value where a reference pixel of this 1 / depth lies; NaN outside.
__device__ __forceinline__ float shown(const Seen& source, int x, int y, float rho) {
    Position p = locate_inverse(source.row, float(x), float(y), rho);
    Taps t = taps_at<1>(source.row, p, int(source.row[13]));
    float inside = plus(plus(plus(t.weight[0], t.weight[1]), t.weight[2]), t.weight[3]);
    float value = times(source.photo[t.at[0]], t.weight[0]);
#pragma unroll
    for (int i = 1; i < 4; i++) value = plus(value, times(source.photo[t.at[i]], t.weight[i]));
    return inside > 0.999f ? value : NAN;
}

// The sum over a window of sums over its columns.
__device__ __forceinline__ float total(const float (&columns)[SIDE]) {
    float sum = columns[0];
#pragma unroll
    for (int i = 1; i < SIDE; i++) sum = plus(sum, columns[i]);
    return sum;
}

// refined: depth, moved where that is sure; moved: how many pixels were, by block. `step`: of hypotheses, in 1 / depth.
// `least`: a window's variance, and the worth of its best hypothesis.
extern "C" __global__ void __launch_bounds__(256)
    refine_forward_f32(const float* reference, const Seen* sources, const float* depth, float* refined, unsigned* moved,
                       int width, int height, int count, float step, float least_variance, float least_worth) {
    SHARED(float, own, REACHED);
    SHARED(float, rho, REACHED);
    SHARED(float, warped, 2 * REACHED);
    int across = (width + TILE_WIDTH - 1) / TILE_WIDTH;
    int left = int(blockIdx.x) % across * TILE_WIDTH, top = int(blockIdx.x) / across * TILE_HEIGHT;
    // Beyond the photo's borders the nearest pixel stands.
    auto x_of = [&](int i) { return min(max(left + i % WIDE - REACH, 0), width - 1); };
    auto y_of = [&](int i) { return min(max(top + i / WIDE - REACH, 0), height - 1); };
    for (int i = int(threadIdx.x); i < REACHED; i += 256) {
        Index at = Index(y_of(i)) * width + x_of(i);
        own[i] = reference[at];
        rho[i] = quotient(1.0f, depth[at]);
    }
    __syncthreads();

    int corner = int(threadIdx.x >> 5) * WIDE + int(threadIdx.x & 31);
    float window[SIDE][SIDE], sums[SIDE], squares[SIDE];
#pragma unroll
    for (int i = 0; i < SIDE; i++) {
        sums[i] = squares[i] = 0.0f;
#pragma unroll
        for (int k = 0; k < SIDE; k++) {
            float v = window[k][i] = own[corner + k * WIDE + i];
            sums[i] = plus(sums[i], v);
            squares[i] = plus(squares[i], times(v, v));
        }
    }
    float mean = times(SHARE, total(sums));
    float variance = fmaxf(plus(times(SHARE, total(squares)), -times(mean, mean)), 1e-12f);

    int best = -HYPOTHESES, buffer = 0;
    float most = NONE, previous = NONE, before = NONE, after = NONE;
    for (int hypothesis = 0; hypothesis < HYPOTHESES; hypothesis++) {
        float more = float(hypothesis - HYPOTHESES / 2) * step;
        float first = NONE, second = NONE;
        for (int s = 0; s < count; s++, buffer = REACHED - buffer) {
            for (int i = int(threadIdx.x); i < REACHED; i += 256)
                warped[buffer + i] = shown(sources[s], x_of(i), y_of(i), fmaxf(plus(rho[i], more), 0.0f));
            __syncthreads();
            float products[SIDE];
#pragma unroll
            for (int i = 0; i < SIDE; i++) {
                sums[i] = squares[i] = products[i] = 0.0f;
#pragma unroll
                for (int k = 0; k < SIDE; k++) {
                    float v = warped[buffer + corner + k * WIDE + i];
                    sums[i] = plus(sums[i], v);
                    squares[i] = fmaf(v, v, squares[i]);
                    products[i] = fmaf(v, window[k][i], products[i]);
                }
            }
            float m = times(total(sums), SHARE), q = times(total(squares), SHARE), p = times(total(products), SHARE);
            float covariance = plus(p, -times(m, mean));
            float spread = times(fmaxf(plus(q, -times(m, m)), 1e-6f), variance);
            float r = quotient(times(covariance, fabsf(covariance)), spread);
            // NaN is greater than nothing: such a source does not count.
            if (r > first) {
                second = first;
                first = r;
            } else if (r > second) {
                second = r;
            }
        }
        float worth = second > NONE ? times(0.5f, plus(first, second)) : first;
        if (hypothesis == best + 1) after = worth;
        if (worth > most) {
            before = previous;
            most = worth;
            best = hypothesis;
        }
        previous = worth;
    }

    int x = left + int(threadIdx.x & 31), y = top + int(threadIdx.x >> 5);
    bool moves = false;
    if (x < width && y < height) {
        Index at = Index(y) * width + x;
        float kept = depth[at];
        if (!(variance < least_variance) && !(most < least_worth) && best > 0 && best + 1 < HYPOTHESES) {
            // A source that is lost from sight in between makes no parabola.
            float bend = plus(plus(before, -times(2.0f, most)), after), off = 0.0f;
            if (bend < -1e-6f)
                off = fminf(fmaxf(quotient(times(0.5f, plus(before, -after)), bend), -0.5f), 0.5f);
            float places = plus(float(best - HYPOTHESES / 2), off);
            float found = fmaf(places, step, rho[corner + REACH * WIDE + REACH]);
            moves = found > 0.0f && found < INFINITY;
            if (moves) kept = quotient(1.0f, found);
        }
        refined[at] = kept;
    }
    int number = __syncthreads_count(moves);
    if (threadIdx.x == 0) moved[blockIdx.x] = unsigned(number);
}
BLOCK_KERNEL(refine_forward_f32)
