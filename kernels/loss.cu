// L1 distance in intervals (eq. 7) and cross-entropy of the depth regression, with their gradient in the logits (see
// src/cpu/ops/depth_backward.rs).
//
// logits [D, H, W] and truth [H, W] (valid where finite and > 0; < 0 where nothing is within the range), f32 -> depth
// [H, W], gradient [D, H, W], means over the valid pixels in f64. Three launches: the numbers of pixels that are valid
// and of those with nothing; one thread a pixel, which reads its planes twice and leaves each block's sums; those sums
// in order. A truth beyond the planes counts as the nearest. Sums over planes in f32, all of a pixel and beyond in f64.
// Deterministic: a fixed order. Floor: logits read twice (the second time from the L2 cache where they fit), the
// gradient written: 8 D H W bytes.
#include "softmax.cuh"

constexpr int LOSS_THREADS = 128;
constexpr int COUNT_THREADS = 1024;

// Weight of the loss where nothing is, in weights of the cross-entropy.
constexpr double NOTHING_SHARE = 1.0 / 3.0;

__device__ __forceinline__ bool has_truth(float t) { return t > 0.0f && t <= 3.402823466e38f; }

// valid [2]: how many pixels have a truth, and how many have nothing. One block.
extern "C" __global__ void __launch_bounds__(COUNT_THREADS)
    depth_loss_forward_count_f32(const float* truth, Index pixels, double* valid) {
    SHARED(double, partial, 32);
    double count = 0.0, empty = 0.0;
    for (Index i = threadIdx.x; i < pixels; i += COUNT_THREADS) {
        count += has_truth(truth[i]) ? 1.0 : 0.0;
        empty += truth[i] < 0.0f ? 1.0 : 0.0;
    }
    count = block_sum(count, partial);
    empty = block_sum(empty, partial);
    if (threadIdx.x == 0) {
        valid[0] = count;
        valid[1] = empty;
    }
}
BLOCK_KERNEL(depth_loss_forward_count_f32)

// The plane before a value (relative to the middle), and how much of the true bin the one behind has. Values ascend or
// descend.
struct Bin {
    int low;
    double part;
};
__device__ __forceinline__ Bin true_bin(const float* values, int planes, double value) {
    bool ascending = values[0] < values[1];
    int from = 0, to = planes;
    while (from < to) {
        int at = (from + to) / 2;
        double v = values[at];
        if ((v <= value) == ascending || v == value)
            from = at + 1;
        else
            to = at;
    }
    int low = min(max(from, 1), planes - 1) - 1;
    double a = values[low], b = values[low + 1];
    return {low, fmin(fmax((value - a) / (b - a), 0.0), 1.0)};
}

// sums [blocks, 3]: |depth - truth|, cross-entropy, and that against all planes alike where nothing is.
extern "C" __global__ void __launch_bounds__(LOSS_THREADS)
    depth_loss_forward_f32(const float* logits, const float* truth, const float* values, const double* middle,
                           const double* interval, const double* valid, int inverse, float l1, float cross_entropy,
                           int planes, Index pixels, float* depth, float* gradient, double* sums) {
    SHARED(double, partial, 32);
    Index i = thread_of_grid();
    double distance = 0.0, entropy = 0.0, nothing = 0.0;
    if (i < pixels) {
        const float* own = logits + i;
        Softmax s = softmax([&](int p) { return own[p * pixels]; }, values, planes);
        float mean = s.offset / s.total, t = truth[i];
        double value = *middle + double(mean), expected = inverse ? 1.0 / value : value;
        depth[i] = float(expected);
        // The gradient is p (a (value - mean) + b) - b q: p (.. a ..) of L1, (p - q) b of the cross-entropy; where
        // nothing is, q is the same for all planes.
        float a = 0.0f, b = 0.0f, even = 0.0f, taken[2] = {0.0f, 0.0f};
        Bin bin = {-2, 0.0};
        if (has_truth(t)) {
            double share = 1.0 / valid[0], total = s.total, slope = inverse ? -1.0 / (value * value) : 1.0;
            double off = expected - double(t), sign = off > 0.0 ? 1.0 : off < 0.0 ? -1.0 : 0.0;
            bin = true_bin(values, planes, (inverse ? 1.0 / double(t) : double(t)) - *middle);
            double weight = double(cross_entropy) * share;
            a = float(double(l1) * share / *interval * sign * slope / total);
            b = float(weight / total);
            taken[0] = float(weight * (1.0 - bin.part));
            taken[1] = float(weight * bin.part);
            distance = fabs(off);
            double logit =
                (1.0 - bin.part) * double(own[bin.low * pixels]) + bin.part * double(own[(bin.low + 1) * pixels]);
            entropy = double(s.top) + log(total) - logit;
        }
        if (t < 0.0f) {
            double weight = NOTHING_SHARE * double(cross_entropy) / (valid[0] + valid[1]), total = s.total, sum = 0.0;
            for (int p = 0; p < planes; p++) sum += double(own[p * pixels]);
            b = float(weight / total);
            even = float(weight / planes);
            nothing = double(s.top) + log(total) - sum / planes;
        }
        for (int p = 0; p < planes; p++) {
            float g = fmaf(values[p] - mean, a, b) * expf(own[p * pixels] - s.top) - even;
            if (p == bin.low) g -= taken[0];
            if (p == bin.low + 1) g -= taken[1];
            gradient[i + p * pixels] = g;
        }
    }
    distance = block_sum(distance, partial);
    entropy = block_sum(entropy, partial);
    nothing = block_sum(nothing, partial);
    if (threadIdx.x == 0) {
        sums[Index(blockIdx.x) * 3] = distance;
        sums[Index(blockIdx.x) * 3 + 1] = entropy;
        sums[Index(blockIdx.x) * 3 + 2] = nothing;
    }
}
BLOCK_KERNEL(depth_loss_forward_f32)

// losses [3]: the weighted sum, the mean L1 distance in intervals, the mean cross-entropy. One block.
extern "C" __global__ void __launch_bounds__(COUNT_THREADS)
    depth_loss_forward_sum_f32(const double* sums, int blocks, const double* interval, const double* valid, float l1,
                               float cross_entropy, double* losses) {
    SHARED(double, partial, 32);
    double distance = 0.0, entropy = 0.0, nothing = 0.0;
    for (int i = threadIdx.x; i < blocks; i += COUNT_THREADS) {
        distance += sums[Index(i) * 3];
        entropy += sums[Index(i) * 3 + 1];
        nothing += sums[Index(i) * 3 + 2];
    }
    distance = block_sum(distance, partial);
    entropy = block_sum(entropy, partial);
    nothing = block_sum(nothing, partial);
    if (threadIdx.x == 0) {
        double share = 1.0 / fmax(valid[0], 1.0);
        double of_nothing = NOTHING_SHARE * double(cross_entropy) / fmax(valid[0] + valid[1], 1.0);
        losses[1] = distance * share / *interval;
        losses[2] = entropy * share;
        losses[0] = double(l1) * (distance * share / *interval) + double(cross_entropy) * (entropy * share) +
                    of_nothing * nothing;
    }
}
BLOCK_KERNEL(depth_loss_forward_sum_f32)
