// Kernels with one mistake each, and correct ones beside them: what the detector must find, and what it must leave
// alone.
#include "common.cuh"

extern "C" __global__ void reverse_f32(const float* x, float* y) {
    SHARED(float, tile, 64);
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
BLOCK_KERNEL(reverse_f32)

extern "C" __global__ void mistake_no_barrier(const float* x, float* y) {
    SHARED(float, tile, 64);
    tile[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
BLOCK_KERNEL(mistake_no_barrier)

// The second half of the loop overwrites what slower threads still read.
extern "C" __global__ void mistake_reuse(const float* x, float* y) {
    SHARED(float, tile, 64);
    float sum = 0;
    for (int i = 0; i < 2; i++) {
        tile[threadIdx.x] = x[threadIdx.x] + i;
        __syncthreads();
        sum += tile[63 - threadIdx.x];
    }
    y[threadIdx.x] = sum;
}
BLOCK_KERNEL(mistake_reuse)

extern "C" __global__ void warp_exchange_f32(const float* x, float* y) {
    SHARED(float, tile, 64);
    tile[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = tile[threadIdx.x ^ 31];
}
BLOCK_KERNEL(warp_exchange_f32)

extern "C" __global__ void mistake_shared_sum(const float* x, float* y) { y[0] += x[threadIdx.x + 64 * blockIdx.x]; }
KERNEL(mistake_shared_sum)

extern "C" __global__ void atomic_sum_f32(const float* x, float* y) { atomicAdd(y, x[threadIdx.x + 64 * blockIdx.x]); }
KERNEL(atomic_sum_f32)

extern "C" __global__ void mistake_reads_past(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x + 1]; }
KERNEL(mistake_reads_past)

extern "C" __global__ void mistake_writes_past(const float* x, float* y) { y[threadIdx.x + 1] = x[threadIdx.x]; }
KERNEL(mistake_writes_past)

extern "C" __global__ void mistake_shared_past(const float* x, float* y) {
    SHARED(float, tile, 64);
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x + 1];
}
BLOCK_KERNEL(mistake_shared_past)

extern "C" __global__ void mistake_unwritten(const float* x, float* y) {
    SHARED(float, tile, 64);
    if (threadIdx.x < 63) tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[threadIdx.x];
}
BLOCK_KERNEL(mistake_unwritten)
