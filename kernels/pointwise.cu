// Element by element: sums, the ReLU's gradient, attention gates, the copy into a concatenation.
//
// Shapes: n elements, or [positions, C]. One thread takes 4 elements of f32 or f16 of an aligned run (launched by src/cuda/ops/pointwise.rs).
// Each output element is written by one thread: deterministic. Bound by memory: every input and output element moves once.
#include "common.cuh"

template <typename T>
__device__ __forceinline__ void add_body(const T* a, const T* b, T* y, Index n) {
    for (Index i = thread_of_grid(); i < n; i += threads_of_grid()) store(y + i, load(a + i) + load(b + i));
}

// y = a + b: the sum of two gradients of one value.
extern "C" __global__ void __launch_bounds__(256) add_f32(const float* a, const float* b, float* y, Index n) { add_body(a, b, y, n); }
KERNEL(add_f32)
