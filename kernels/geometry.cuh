// Vectors, matrices and transforms of pixels in f64, with the processor's roundings (glam's order of operations), and
// the reprojection of a depth.
#pragma once
#include "packs.cuh"
#include "rounded.cuh"

struct Vector {
    F64 x, y, z;
};
__device__ __forceinline__ Vector operator+(Vector a, Vector b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
__device__ __forceinline__ Vector operator*(Vector a, F64 s) { return {a.x * s, a.y * s, a.z * s}; }

// A matrix by columns and a vector, as the host writes them: x -> matrix x + shift.
struct Transform {
    double columns[3][3];
    double shift[3];
};
__device__ __forceinline__ Vector column(const Transform& t, int i) {
    return {t.columns[i][0], t.columns[i][1], t.columns[i][2]};
}
__device__ __forceinline__ Vector shift(const Transform& t) { return {t.shift[0], t.shift[1], t.shift[2]}; }
__device__ __forceinline__ Vector operator*(const Transform& t, Vector v) {
    return column(t, 0) * v.x + column(t, 1) * v.y + column(t, 2) * v.z;
}

// A source view of a reference view. The transforms are of pixels with depth: q = depth matrix (u, v, 1) + shift.
struct Pair {
    Transform there, back;
    const float* depth;
    int width, height;
};

// When a source agrees.
struct Limits {
    double max_shift_squared, max_depth_error;
    float min_confidence;
    // 1: every pixel is looked at, whatever its confidence.
    int everything;
};

__device__ __forceinline__ bool is_depth(float v) { return v > 0.0f && v < INFINITY; }

// The source's bilinear depth at (u, v); false outside, or where a neighbour with weight has none.
__device__ __forceinline__ bool sampled(const Pair& pair, F64 u, F64 v, F64& depth) {
    if (!(u.v >= 0.0 && v.v >= 0.0 && u.v <= double(pair.width) - 1.0 && v.v <= double(pair.height) - 1.0))
        return false;
    int x = int(u.v), y = int(v.v);
    F64 fx = u - F64(double(x)), fy = v - F64(double(y));
    int right = fx.v > 0.0 ? 1 : 0, below = fy.v > 0.0 ? pair.width : 0;
    const float* at = pair.depth + (Index(y) * pair.width + x);
    float a = at[0], b = at[right], c = at[below], d = at[below + right];
    if (!(is_depth(a) && is_depth(b) && is_depth(c) && is_depth(d))) return false;
    F64 top = F64(double(a)) + (F64(double(b)) - F64(double(a))) * fx;
    F64 bottom = F64(double(c)) + (F64(double(d)) - F64(double(c))) * fx;
    depth = top + (bottom - top) * fy;
    return true;
}

// What the sources say about one pixel of the reference: how many agree (255 for more), and the mean of its own and
// their depths, 0 where it has none or is not looked at. Sources in their order.
__device__ __forceinline__ float agreement(const Pair* pairs, int sources, int x, int y, float own, float confidence,
                                           const Limits& limits, int& count) {
    count = 0;
    if (!((limits.everything || confidence > limits.min_confidence) && is_depth(own))) return 0.0f;
    F64 depth = double(own), sum = depth;
    for (int s = 0; s < sources; s++) {
        const Pair& pair = pairs[s];
        Vector ray = pair.there * Vector{0.0, double(y), 1.0} + column(pair.there, 0) * F64(double(x));
        Vector q = ray * depth + shift(pair.there);
        if (q.z.v <= 1e-6) continue;
        F64 u = q.x / q.z, v = q.y / q.z, of_source;
        if (!sampled(pair, u, v, of_source)) continue;
        Vector back = pair.back * Vector{u, v, 1.0} * of_source + shift(pair.back);
        if (!(back.z.v > 1e-6)) continue;
        F64 dx = back.x / back.z - F64(double(x)), dy = back.y / back.z - F64(double(y));
        if ((dx * dx + dy * dy).v < limits.max_shift_squared &&
            (F64(fabs((back.z - depth).v)) / depth).v < limits.max_depth_error) {
            sum = sum + back.z;
            count++;
        }
    }
    F64 mean = sum / F64(double(count + 1));
    count = min(count, 255);
    return float(mean.v);
}
