// Depth maps made better by each other: what the source views' maps say of each pixel's ray, and the mean of what
// agrees; f64 with the processor's order of operations and roundings (src/maps/joint.rs): the same bits.
//
// Maps are [H, W], f32. One thread takes one pixel, sources one after the other in their order, and writes its own
// pixel only: deterministic. Floors: 8 bytes a pixel and source from memory (each source's maps once, neighbours from
// L1 and L2) and, where a source agrees, 330 f64 operations with eleven divisions (some 500 instructions); on an H100
// (17e12 f64 instructions/s) arithmetic is the longer one, 30 ps a pixel and source.
#include "geometry.cuh"

// A source view: the pair of transforms with its depth, and its confidence.
struct Speaker {
    Pair pair;
    const float* confidence;
};

constexpr int ROUNDS = 3;
constexpr double TOLERANCE_PX = 1.5;

struct Place {
    F64 u, v, depth;
};

// Where the ray's point at 1 / depth `rho` lies in the source; false behind it.
__device__ __forceinline__ bool placed(Vector ray, Vector shift, F64 rho, Place& at) {
    Vector q = ray + shift * rho;
    if (!(q.z.v > (F64(1e-6) * rho).v)) return false;
    at = {q.x / q.z, q.y / q.z, q.z / rho};
    return true;
}

// 1 / depth at which the source's surface meets the ray, from the depth `found` at `from` on, and how far from there
// that is in the source's pixels.
__device__ __forceinline__ bool meets(const Pair& pair, Vector ray, Vector there, Place from, F64 found, F64& rho,
                                      F64& apart) {
    Place at = from;
    for (int round = 0; round < ROUNDS; round++) {
        if (round > 0 && !sampled(pair, at.u, at.v, found)) return false;
        F64 row = F64(pair.back.columns[0][2]) * at.u + F64(pair.back.columns[1][2]) * at.v +
                  F64(pair.back.columns[2][2]) * F64(1.0);
        F64 depth = found * row + F64(pair.back.shift[2]);
        if (depth.v <= 1e-6) return false;
        rho = F64(1.0) / depth;
        if (!placed(ray, there, rho, at)) return false;
        F64 du = at.u - from.u, dv = at.v - from.v;
        apart = root((du * du + dv * dv).v);
        // The first round comes near enough to leave out all that is far away.
        if (!(apart.v < (round == 0 ? 2.0 * TOLERANCE_PX : TOLERANCE_PX))) return false;
    }
    return true;
}

// To the nearest whole number, halves up; of v >= 0.
__device__ __forceinline__ int nearest(F64 v) {
    int whole = int(v.v);
    return v.v - double(whole) >= 0.5 ? whole + 1 : whole;
}

// NaN is no confidence at all.
__device__ __forceinline__ F64 weight_of(float confidence) { return fmax(double(confidence), 1e-3); }

// mean: the depths when all sources were heard. heard [6, H, W]: how many see the point, how many agree, the sums of
// the confidences of those that agree, that see through, that see another surface before; the root of the mean squared
// distance of those that agree.
extern "C" __global__ void __launch_bounds__(128)
    joint_forward_hear_f32(const float* depth, const float* confidence, const Speaker* sources, float* mean,
                           float* heard, int width, int height, int count) {
    Index at = thread_of_grid(), pixels = Index(width) * height;
    if (at >= pixels) return;
    int x;
    int y = int(divided(at, width, x));
    float result = depth[at], seen = 0.0f, agreeing = 0.0f, sure = 0.0f, through = 0.0f, before = 0.0f, off = 0.0f;
    if (is_depth(result)) {
        F64 own = F64(1.0) / F64(double(result)), weight = weight_of(confidence[at]), sum = 0.0, apart = 0.0;
        for (int s = 0; s < count; s++) {
            const Pair& pair = sources[s].pair;
            Vector there = shift(pair.there);
            Vector ray = pair.there * Vector{double(x), double(y), 1.0};
            Place place;
            F64 found, rho, distance;
            if (!placed(ray, there, own, place) || !sampled(pair, place.u, place.v, found)) continue;
            seen += 1.0f;
            float theirs = sources[s].confidence[Index(nearest(place.v)) * pair.width + nearest(place.u)];
            theirs = theirs > 0.0f ? fminf(theirs, 1.0f) : 0.0f;
            if (meets(pair, ray, there, place, found, rho, distance)) {
                F64 more = weight_of(theirs);
                sum = sum + more * (rho - own);
                weight = weight + more;
                apart = apart + distance * distance;
                agreeing += 1.0f;
                sure = plus(sure, theirs);
            } else if (found.v > place.depth.v) {
                through = plus(through, theirs);
            } else {
                before = plus(before, theirs);
            }
        }
        if (agreeing > 0.0f) {
            off = float(root((apart / F64(double(agreeing))).v));
            result = float((F64(1.0) / (own + sum / weight)).v);
        }
    }
    mean[at] = result;
    float said[6] = {seen, agreeing, sure, through, before, off};
#pragma unroll
    for (int i = 0; i < 6; i++) heard[i * pixels + at] = said[i];
}
KERNEL(joint_forward_hear_f32)
