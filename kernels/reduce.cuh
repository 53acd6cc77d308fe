// Sums over positions, channel by channel, in two steps whose order depends on the shapes alone: the same bits on every run.
//
// A block of 256 threads takes a range of positions of [positions, C], C <= 256: thread t adds up channel t % C of every (256 / C)-th position in f64,
// then thread c adds up its channel's threads. Neighbouring threads read neighbouring channels. The partial sums, [groups, parts, K, C] f64, are added
// by one thread each in a second kernel. Grid: (parts, groups).
#pragma once
#include "common.cuh"

// `f(i, values)` gives the K values that element i of the group's range (position * C + channel) adds to its channel. `shared`: 256 doubles.
template <int K, typename F>
__device__ __forceinline__ void channel_partials(Index positions, int C, double* partial, double* shared, F f) {
    int rows = 256 / C, row = int(threadIdx.x) / C, channel = int(threadIdx.x) % C;
    Index parts = gridDim.x, length = (positions + parts - 1) / parts;
    Index begin = Index(blockIdx.x) * length, end = begin + length < positions ? begin + length : positions;
    double sums[K];
#pragma unroll
    for (int k = 0; k < K; k++) sums[k] = 0;
    if (row < rows) {
        // Two positions at a time: more would cost registers that sm_80 does not have beside f64 sums.
#pragma unroll 2
        for (Index p = begin + row; p < end; p += rows) {
            float values[K];
            f(p * C + channel, values);
#pragma unroll
            for (int k = 0; k < K; k++) sums[k] += double(values[k]);
        }
    }
    double* out = partial + ((Index(blockIdx.y) * parts + blockIdx.x) * K) * C;
    for (int k = 0; k < K; k++) {
        __syncthreads();
        shared[threadIdx.x] = sums[k];
        __syncthreads();
        if (threadIdx.x < unsigned(C)) {
            double total = 0;
            for (int r = 0; r < rows; r++) total += shared[r * C + threadIdx.x];
            out[k * C + threadIdx.x] = total;
        }
    }
}

template <int K>
__device__ __forceinline__ double sum_of_partials(const double* partial, int group, int parts, int k, int channel, int C) {
    double total = 0;
    for (int part = 0; part < parts; part++) total += partial[((Index(group) * parts + part) * K + k) * C + channel];
    return total;
}
