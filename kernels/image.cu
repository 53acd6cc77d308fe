// The photo as the network sees it: (rgb - mean) / deviation, per channel.
//
// Shapes: photo [V, H, W, 3] f32 in 0..1, y of the same shape in f32 or f16. One thread one value.
// The same two roundings as src/ops/pointwise.rs (a true division).
// Deterministic. Floor: the photo is read and its normalised copy written once.
#include "common.cuh"

template <typename T>
__device__ __forceinline__ void normalize(const float* photo, T* y, Index n) {
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) {
        int c = int(i % 3);
        float mean = c == 0 ? 0.485f : (c == 1 ? 0.456f : 0.406f);
        float deviation = c == 0 ? 0.229f : (c == 1 ? 0.224f : 0.225f);
        store(y + i, (photo[i] - mean) / deviation);
    }
}
extern "C" __global__ void __launch_bounds__(256) normalize_forward_f32(const float* photo, float* y, Index n) { normalize(photo, y, n); }
KERNEL(normalize_forward_f32)
extern "C" __global__ void __launch_bounds__(256) normalize_forward_f16(const float* photo, __half* y, Index n) { normalize(photo, y, n); }
KERNEL(normalize_forward_f16)
