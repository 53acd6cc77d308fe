// Reprojection consistency of a view's depth map with its sources', and the repair of a pyramid's level by the next
// coarser one.
//
// Maps are [H, W], f32; the geometry is f64 with the processor's order of operations and roundings (consistency.rs,
// pyramid.rs): the same bits. One thread takes one pixel, sources one after the other in their order; only its own
// pixel is written, counts are sums of integers: deterministic. Floors: 6 bytes a pixel and source from memory (each
// source's map once, neighbours from L1 and L2) and about 150 f64 operations with four divisions (220 instructions);
// on an H100 (17e12 f64 instructions/s) arithmetic is the longer one, 13 ps a pixel and source.
#include "geometry.cuh"

// The pixels [H, W] of the reference view; count and mean as `agreement` says.
extern "C" __global__ void __launch_bounds__(128)
    consistency_forward_f32(const float* depth, const float* confidence, const Pair* pairs, unsigned char* count,
                            float* mean, int width, int height, int sources, Limits limits) {
    Index at = thread_of_grid();
    if (at >= Index(width) * height) return;
    int x, agreed;
    int y = int(divided(at, width, x));
    mean[at] = agreement(pairs, sources, x, y, depth[at], confidence[at], limits, agreed);
    count[at] = static_cast<unsigned char>(agreed);
}
KERNEL(consistency_forward_f32)

// reliable [H, W] of a coarse view: confident, and confirmed by `required` sources.
extern "C" __global__ void __launch_bounds__(128)
    merge_forward_reliable_f32(const float* depth, const float* confidence, const Pair* pairs, unsigned char* reliable,
                               int width, int height, int sources, int required, Limits limits) {
    Index at = thread_of_grid();
    if (at >= Index(width) * height) return;
    int x, agreed;
    int y = int(divided(at, width, x));
    float sure = confidence[at];
    float mean = agreement(pairs, sources, x, y, depth[at], sure, limits, agreed);
    reliable[at] = mean > 0.0f && sure > limits.min_confidence && agreed >= required;
}
KERNEL(merge_forward_reliable_f32)

// The one or two coarse samples around fine index / 2.
__device__ __forceinline__ void coarse_samples(int index, int coarse, int& low, int& high) {
    low = min(index / 2, coarse - 1);
    high = index % 2 == 0 ? low : min(low + 1, coarse - 1);
}

// Replaces the unsure pixels of a fine view under which every coarse sample with weight is reliable; how many, by
// block.
extern "C" __global__ void __launch_bounds__(256)
    merge_forward_replace_f32(const float* coarse_depth, const float* coarse_confidence, const unsigned char* reliable,
                              float* depth, float* confidence, unsigned* replaced, int width, int height,
                              int coarse_width, int coarse_height, float replaced_confidence) {
    Index at = thread_of_grid();
    bool done = false;
    if (at < Index(width) * height && !(confidence[at] >= replaced_confidence)) {
        int x, left, right, top, bottom;
        int y = int(divided(at, width, x));
        coarse_samples(x, coarse_width, left, right);
        coarse_samples(y, coarse_height, top, bottom);
        Index four[4] = {Index(top) * coarse_width + left, Index(top) * coarse_width + right,
                         Index(bottom) * coarse_width + left, Index(bottom) * coarse_width + right};
        done = reliable[four[0]] && reliable[four[1]] && reliable[four[2]] && reliable[four[3]];
        if (done) {
            F64 of_depth = 0.0, of_confidence = 0.0;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                of_depth = of_depth + F64(double(coarse_depth[four[i]]));
                of_confidence = of_confidence + F64(double(coarse_confidence[four[i]]));
            }
            depth[at] = float((of_depth / F64(4.0)).v);
            confidence[at] = float((of_confidence / F64(4.0)).v);
        }
    }
    int number = __syncthreads_count(done);
    if (threadIdx.x == 0) replaced[blockIdx.x] = unsigned(number);
}
BLOCK_KERNEL(merge_forward_replace_f32)

// sums [columns] of counts [rows, columns], a block for each column. f64 holds integers of this size exactly.
extern "C" __global__ void __launch_bounds__(256)
    count_forward_sums_u32(const unsigned* counts, unsigned* sums, int rows, int columns) {
    SHARED(double, of_warps, 32);
    double sum = 0;
    for (int row = threadIdx.x; row < rows; row += 256) sum += double(counts[Index(row) * columns + blockIdx.x]);
    sum = block_sum(sum, of_warps);
    if (threadIdx.x == 0) sums[blockIdx.x] = unsigned(sum);
}
BLOCK_KERNEL(count_forward_sums_u32)
