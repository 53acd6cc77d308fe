// Sums over positions for each channel, x [groups, positions, C] -> partial sums [groups, chunks, SUMS, C] in f64,
// which a second kernel adds up.
//
// A block takes one chunk of one group's positions: its threads lie along the channels (a pack of 4 each) and rows of
// positions; each adds FOLD terms in f32 and then f64, and the rows are added pairwise in shared memory. Every order
// is fixed, so sums are the same bits always. Bound by memory: 3.35 TB/s times a latency of about 600 ns asks for 15
// KB on the way in each multiprocessor of an H100. A block has 16 KB (4 loads of 16 bytes a thread, 32 KB where there
// are two inputs), and at least three fit (80 registers).
#pragma once
#include "packs.cuh"

constexpr int SUM_THREADS = 256;
// Terms that are added in f32 before they go into an f64 sum: roundings stay below 4 units of 2^-24 of the terms' sum.
constexpr int FOLD = 4;

// The bytes of dynamic shared memory are SUM_THREADS * SUMS * L * 8, at most 64 KB / 4 for L = 4, SUMS = 2.
// `term(pack of terms [SUMS], index of the first element, channel)` computes what is added.
template <int L, int SUMS, typename Term>
__device__ __forceinline__ void sum_chunk(Index positions, Index chunk_positions, int chunks, int c, double* partial,
                                          Term term) {
    DYNAMIC_SHARED(double, sums);  // [SUMS * L][SUM_THREADS]
    int group = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    int lanes = c / L;
    Index first = chunk * chunk_positions, end = min(first + chunk_positions, positions);
    // More channels than threads: slice after slice.
    for (int slice = 0; slice < lanes; slice += SUM_THREADS) {
        int width = min(lanes - slice, SUM_THREADS), rows = SUM_THREADS / width;
        int lane = threadIdx.x % width, row = threadIdx.x / width;
        int channel = (slice + lane) * L;
        double total[SUMS * L] = {};
        if (row < rows) {
            Index position = first + row;
            for (; position + (FOLD - 1) * Index(rows) < end; position += FOLD * Index(rows)) {
                Pack<L> terms[FOLD][SUMS];
#pragma unroll
                for (int i = 0; i < FOLD; i++)
                    term(terms[i], (group * positions + position + i * Index(rows)) * c + channel, channel);
#pragma unroll
                for (int s = 0; s < SUMS; s++)
#pragma unroll
                    for (int l = 0; l < L; l++) {
                        float four = 0;
#pragma unroll
                        for (int i = 0; i < FOLD; i++) four += terms[i][s].v[l];
                        total[s * L + l] += double(four);
                    }
            }
            for (; position < end; position += rows) {
                Pack<L> terms[SUMS];
                term(terms, (group * positions + position) * c + channel, channel);
#pragma unroll
                for (int s = 0; s < SUMS; s++)
#pragma unroll
                    for (int l = 0; l < L; l++) total[s * L + l] += double(terms[s].v[l]);
            }
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < SUMS * L; i++) sums[i * SUM_THREADS + threadIdx.x] = total[i];
        __syncthreads();
        int span = 1;
        while (span < rows) span *= 2;
        for (span /= 2; span; span /= 2) {
            if (row < span && row + span < rows)
#pragma unroll
                for (int i = 0; i < SUMS * L; i++)
                    sums[i * SUM_THREADS + threadIdx.x] += sums[i * SUM_THREADS + threadIdx.x + span * width];
            __syncthreads();
        }
        if (row == 0)
#pragma unroll
            for (int s = 0; s < SUMS; s++)
#pragma unroll
                for (int l = 0; l < L; l++)
                    partial[((Index(group) * chunks + chunk) * SUMS + s) * c + channel + l] =
                        sums[(s * L + l) * SUM_THREADS + threadIdx.x];
    }
}

// The sum over all chunks of one group, one of the SUMS and one channel, in every thread of a block of whole warps.
template <int SUMS>
__device__ __forceinline__ double sum_of_chunks(const double* partial, int group, int chunks, int which, int c,
                                                int channel) {
    SHARED(double, of_warps, 32);
    double sum = 0;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x)
        sum += partial[((Index(group) * chunks + chunk) * SUMS + which) * c + channel];
    return block_sum(sum, of_warps);
}

// Packs of 4 where the channels allow, single channels else. 8 of f16 would double the shared memory and the registers
// for nothing.
#define WITH_SUM_PACK(channels, body, ...) \
    do {                                   \
        if ((channels) % 4 == 0)           \
            body<4>(__VA_ARGS__);          \
        else                               \
            body<1>(__VA_ARGS__);          \
    } while (0)
