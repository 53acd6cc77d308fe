// Softmax over the planes of one pixel in one pass: maximum, and sums of e, i e and v e relative to it.
#pragma once
#include "common.cuh"

constexpr int SOFTMAX_BATCH = 8;

struct Softmax {
    float top, total, index, offset;
};

// `logit(plane)` for planes 0 .. planes, eight at a time, so that as many loads are under way and sums are brought to
// a new maximum at most once in eight planes.
template <typename Logit>
__device__ __forceinline__ Softmax softmax(const Logit& logit, const float* offsets, int planes) {
    Softmax s = {-INFINITY, 0.0f, 0.0f, 0.0f};
    for (int p0 = 0; p0 < planes; p0 += SOFTMAX_BATCH) {
        float l[SOFTMAX_BATCH], top = s.top;
#pragma unroll
        for (int i = 0; i < SOFTMAX_BATCH; i++) l[i] = p0 + i < planes ? logit(p0 + i) : -INFINITY;
#pragma unroll
        for (int i = 0; i < SOFTMAX_BATCH; i++) top = fmaxf(top, l[i]);
        float shrink = top == s.top ? 1.0f : expf(s.top - top);
        s.top = top;
        s.total *= shrink;
        s.index *= shrink;
        s.offset *= shrink;
#pragma unroll
        for (int i = 0; i < SOFTMAX_BATCH; i++) {
            if (p0 + i >= planes) break;
            float e = expf(l[i] - top);
            s.total += e;
            s.index = fmaf(e, float(p0 + i), s.index);
            s.offset = fmaf(e, offsets[p0 + i], s.offset);
        }
    }
    return s;
}
