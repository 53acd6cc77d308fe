// Finished depth maps to one cloud: confirmed pixels, points in the order of views, rows and columns, and what points
// explain of later views.
//
// Maps are [H, W] f32, colours [H, W, 3] bytes; geometry in f64 with the processor's order of operations and roundings
// (fusion.rs, normals.rs): the same bits. One thread takes one pixel; blocks of PIXELS pixels. A point's place follows
// from a prefix sum over pixels, counts are sums of integers by block that the host or `fusion_forward_places` adds up
// in order, and the marks of explained pixels are only ever set: deterministic. Floors: confirm as consistency.cu;
// emit 48 bytes a point and 17 a pixel; explain about 90 f64 instructions (6 ps on an H100) and a sector of 32 bytes
// (10 ps) for each point and later view that sees it.
#include "geometry.cuh"

constexpr int PIXELS = 256;

struct Range {
    // What is inside: near and far with the rounding of an f32.
    double least, most;
    double near, far;
    // 2 % of the range, in depth and in inverse depth.
    double span, inverse_span;
};

// confirmed [H, W]: the mean depth of the kept pixels, 0 elsewhere; count of agreeing sources; by block [blocks, 5 +
// sources]: pixels in range, at its near end, at its far end, confident, kept, and confident with at least 1, 2, ...
// agreeing sources.
extern "C" __global__ void __launch_bounds__(PIXELS)
    fusion_forward_confirm_f32(const float* depth, const float* confidence, const Pair* pairs, float* confirmed,
                               unsigned char* count, unsigned* funnel, int width, int height, int sources, int required,
                               Range range, Limits limits) {
    Index at = thread_of_grid();
    bool in_range = false, near_end = false, far_end = false, confident = false, kept = false;
    int agreed = 0;
    if (at < Index(width) * height) {
        int x;
        int y = int(divided(at, width, x));
        float own = depth[at], sure = confidence[at];
        float mean = agreement(pairs, sources, x, y, own, sure, limits, agreed);
        F64 d = double(own), one = 1.0;
        in_range = is_depth(own) && !(d.v < range.least || d.v > range.most);
        if (in_range) {
            F64 near = range.near, far = range.far;
            near_end = (d - near).v < range.span && (one / near - one / d).v < range.inverse_span;
            far_end = !near_end && (far - d).v < range.span && (one / d - one / far).v < range.inverse_span;
            confident = sure > limits.min_confidence;
            kept = confident && agreed >= required;
        }
        confirmed[at] = kept ? mean : 0.0f;
        count[at] = static_cast<unsigned char>(agreed);
    }
    unsigned* of_block = funnel + Index(blockIdx.x) * (5 + sources);
    bool flags[5] = {in_range, near_end, far_end, confident, kept};
    for (int i = 0; i < 5 + sources; i++) {
        int number = __syncthreads_count(i < 5 ? flags[i] : confident && agreed >= min(i - 4, 255));
        if (threadIdx.x == 0) of_block[i] = unsigned(number);
    }
}
BLOCK_KERNEL(fusion_forward_confirm_f32)

// Bit `at` of a mask of pixels.
__device__ __forceinline__ bool marked(const unsigned* mask, Index at) { return mask[at >> 5] >> (at & 31) & 1; }
__device__ __forceinline__ bool emitted(const float* confirmed, const unsigned* explained, Index at, Index pixels) {
    return at < pixels && confirmed[at] > 0.0f && !marked(explained, at);
}

// How many points each block emits.
extern "C" __global__ void __launch_bounds__(PIXELS)
    fusion_forward_count_f32(const float* confirmed, const unsigned* explained, unsigned* counts, Index pixels) {
    int number = __syncthreads_count(emitted(confirmed, explained, thread_of_grid(), pixels));
    if (threadIdx.x == 0) counts[blockIdx.x] = unsigned(number);
}
BLOCK_KERNEL(fusion_forward_count_f32)

// The sum over the lanes before this one.
__device__ __forceinline__ unsigned sum_before(unsigned v) {
    unsigned lane = threadIdx.x & 31, sum = v;
#pragma unroll
    for (int by = 1; by < 32; by <<= 1) {
        unsigned other = __shfl_up_sync(ALL_LANES, sum, by);
        if (lane >= unsigned(by)) sum += other;
    }
    return sum - v;
}

// places [blocks + 1]: how many points come before each block's, and of all blocks. One block of 1024 threads.
extern "C" __global__ void __launch_bounds__(1024)
    fusion_forward_places_u32(const unsigned* counts, unsigned* places, int blocks) {
    SHARED(unsigned, of_warps, 32);
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    unsigned before = 0;
    for (int first = 0; first < blocks; first += 1024) {
        int at = first + int(threadIdx.x);
        unsigned own = at < blocks ? counts[at] : 0;
        unsigned in_warp = sum_before(own);
        __syncthreads();
        if (lane == 31) of_warps[warp] = in_warp + own;
        __syncthreads();
        unsigned total = of_warps[lane];
        unsigned before_warp = __shfl_sync(ALL_LANES, sum_before(total), warp);
        if (at < blocks) places[at] = before + before_warp + in_warp;
        unsigned all = total;
#pragma unroll
        for (int bits = 16; bits; bits >>= 1) all += __shfl_xor_sync(ALL_LANES, all, bits);
        before += all;
    }
    if (threadIdx.x == 0) places[blocks] = before;
}
BLOCK_KERNEL(fusion_forward_places_u32)

// The exact position of a pixel's point: the shift is the camera's centre.
__device__ __forceinline__ Vector position(const Transform& world_from_pixel, int x, int y, float depth) {
    Vector ray = world_from_pixel * Vector{double(x), double(y), 1.0};
    return shift(world_from_pixel) + ray * F64(double(depth));
}

// A difference of inverse depth along one axis: the mean of both sides where the surface is smooth, else the smaller
// one.
__device__ __forceinline__ F64 slope(bool has_before, F64 before, F64 own, bool has_after, F64 after) {
    const F64 smooth = 0.0025;
    F64 b = own - before, a = after - own;
    if (has_before && has_after) {
        if (fabs((b - a).v) < (smooth * own).v) return F64(0.5) * (a + b);
        return fabs(b.v) <= fabs(a.v) ? b : a;
    }
    return has_before ? b : (has_after ? a : F64(0.0));
}

// The unit normal of a depth map's surface in the world, towards the camera; zero where the pixel has no depth.
__device__ __forceinline__ void normal_at(const float* depth, int width, int height, int x, int y,
                                          const Transform& world_from_image, float* normal) {
    auto inverse = [=](bool inside, int dx, int dy, F64& value) {
        if (!inside) return false;
        float d = depth[Index(y + dy) * width + (x + dx)];
        if (!is_depth(d)) return false;
        value = F64(1.0) / F64(double(d));
        return true;
    };
    F64 own, left, right, above, below;
    normal[0] = normal[1] = normal[2] = 0.0f;
    if (!inverse(true, 0, 0, own)) return;
    bool has_left = inverse(x > 0, -1, 0, left), has_right = inverse(x + 1 < width, 1, 0, right);
    bool has_above = inverse(y > 0, 0, -1, above), has_below = inverse(y + 1 < height, 0, 1, below);
    F64 a = slope(has_left, left, own, has_right, right), b = slope(has_above, above, own, has_below, below);
    Vector away = world_from_image * Vector{a, b, own - a * F64(double(x)) - b * F64(double(y))};
    F64 length = root((away.x * away.x + away.y * away.y + away.z * away.z).v);
    F64 inverse_length = F64(1.0) / length;
    if (!(inverse_length.v > 0.0 && inverse_length.v < INFINITY)) away = {0.0, 0.0, 0.0}, inverse_length = 1.0;
    away = away * inverse_length;
    normal[0] = float(-away.x.v), normal[1] = float(-away.y.v), normal[2] = float(-away.z.v);
}

// points: 48 bytes each: normal, red green blue and the number of views by bytes, position as doubles, confidence, 0.
extern "C" __global__ void __launch_bounds__(PIXELS)
    fusion_forward_emit_f32(const float* depth, const float* confidence, const unsigned char* colour,
                            const float* confirmed, const unsigned char* count, const unsigned* explained,
                            const unsigned* places, double* points, int width, int height, Transform world_from_pixel,
                            Transform world_from_image) {
    SHARED(unsigned, of_warps, PIXELS / 32);
    Index at = thread_of_grid(), pixels = Index(width) * height;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    bool is_point = emitted(confirmed, explained, at, pixels);
    unsigned lanes = __ballot_sync(ALL_LANES, is_point);
    if (lane == 0) of_warps[warp] = unsigned(__popc(lanes));
    __syncthreads();
    if (!is_point) return;
    Index place = places[blockIdx.x];
    for (int w = 0; w < warp; w++) place += of_warps[w];
    place += __popc(lanes & ((1u << lane) - 1));
    int x;
    int y = int(divided(at, width, x));
    Vector p = position(world_from_pixel, x, y, confirmed[at]);
    float normal[3];
    normal_at(depth, width, height, x, y, world_from_image, normal);
    unsigned views = min(unsigned(count[at]) + 1u, 255u);
    unsigned bytes =
        unsigned(colour[3 * at]) | unsigned(colour[3 * at + 1]) << 8 | unsigned(colour[3 * at + 2]) << 16 | views << 24;
    double* point = points + 6 * place;
    store4(reinterpret_cast<float*>(point), make_float4(normal[0], normal[1], normal[2], __uint_as_float(bytes)));
    point[2] = p.x.v, point[3] = p.y.v, point[4] = p.z.v;
    *reinterpret_cast<float2*>(point + 5) = make_float2(confidence[at], 0.0f);
}
BLOCK_KERNEL(fusion_forward_emit_f32)

// A view that comes later: world points to its homogeneous pixels, its kept depths, and what is explained of them.
struct Later {
    Transform pixel_from_world;
    const float* confirmed;
    unsigned* explained;
    int width, height;
};

// Marks the kept pixels of all later views that this view's points explain: a point falls within the pixel, at its
// depth.
extern "C" __global__ void __launch_bounds__(PIXELS)
    fusion_forward_explain_f32(const float* confirmed, const unsigned* explained, const Later* views, int later,
                               int width, int height, Transform world_from_pixel, double max_depth_error) {
    Index at = thread_of_grid();
    if (!emitted(confirmed, explained, at, Index(width) * height)) return;
    int x;
    int y = int(divided(at, width, x));
    Vector p = position(world_from_pixel, x, y, confirmed[at]);
    for (int i = 0; i < later; i++) {
        const Later& view = views[i];
        Vector q = view.pixel_from_world * p + shift(view.pixel_from_world);
        if (q.z.v <= 1e-6) continue;
        double u = floor((q.x / q.z + F64(0.5)).v), v = floor((q.y / q.z + F64(0.5)).v);
        if (!(u >= 0.0 && v >= 0.0 && u < double(view.width) && v < double(view.height))) continue;
        Index pixel = Index(v) * view.width + Index(u);
        F64 own = double(view.confirmed[pixel]);
        // Without a kept depth there, own is 0 and nothing is smaller. Setting a bit twice is setting it once: no
        // order matters.
        if (fabs((q.z - own).v) < (F64(max_depth_error) * own).v)
            atomicOr(view.explained + (pixel >> 5), 1u << (pixel & 31));
    }
}
KERNEL(fusion_forward_explain_f32)
