// Tensor-core products and asynchronous copies as small functions, each with a plain path for the emulator.
//
// Fragments of mma.m16n8k16 (PTX ISA, "Matrix fragments for mma.m16n8k16"): lane l holds of A rows l/4 and l/4 + 8,
// columns 2 (l%4) + {0, 1} and + {8, 9}; of B rows (k) as A's columns, column l/4; of the accumulator rows l/4 and l/4
// + 8, columns 2 (l%4) + {0, 1}.
#pragma once
#include "common.cuh"

// Pairs of f16 in registers: A in the order (row, k), (row + 8, k), (row, k + 8), (row + 8, k + 8); B in the order k,
// k + 8.
struct FragmentA {
    unsigned r[4];
};
struct FragmentB {
    unsigned r[2];
};
struct Accumulator {
    float v[4];
};

#if !defined(ENGINE_EMULATED)

// d += a b, 16 x 16 by 16 x 8, f16 with f32 sums. Before sm_80 as two products with half the k.
__device__ __forceinline__ void multiply_add(Accumulator& d, const FragmentA& a, const FragmentB& b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d.v[0]), "+f"(d.v[1]), "+f"(d.v[2]), "+f"(d.v[3])
                 : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#else
#pragma unroll
    for (int half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
                     : "+f"(d.v[0]), "+f"(d.v[1]), "+f"(d.v[2]), "+f"(d.v[3])
                     : "r"(a.r[2 * half]), "r"(a.r[2 * half + 1]), "r"(b.r[half]));
#endif
}

// The same with half the k: a is rows l/4 and l/4 + 8, columns 2 (l%4) + {0, 1}; b these as rows, column l/4.
__device__ __forceinline__ void multiply_add8(Accumulator& d, const unsigned (&a)[2], unsigned b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3},{%4,%5},{%6},{%0,%1,%2,%3};"
                 : "+f"(d.v[0]), "+f"(d.v[1]), "+f"(d.v[2]), "+f"(d.v[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b));
}

// 16 bytes from global to shared memory, or zeros where `there` is false; both addresses are multiples of 16. Before
// sm_80 an ordinary copy.
__device__ __forceinline__ void copy_async16(void* shared, const void* global, bool there) {
#if __CUDA_ARCH__ >= 800
    unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
    *static_cast<uint4*>(shared) = there ? *static_cast<const uint4*>(global) : make_uint4(0, 0, 0, 0);
#endif
}
__device__ __forceinline__ void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Until at most `Pending` of this thread's committed groups are under way. A barrier must follow before other threads
// read.
template <int Pending>
__device__ __forceinline__ void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

// Four 8 x 8 tiles of f16 from shared memory as an A fragment; lane l gives the address of row l%16, column 8 (l/16).
__device__ __forceinline__ FragmentA load_fragment_a(const __half* row) {
    FragmentA a;
    unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(a.r[0]), "=r"(a.r[1]), "=r"(a.r[2]), "=r"(a.r[3])
                 : "r"(at)
                 : "memory");
    return a;
}

#else

static inline float half_of(unsigned word, int high) {
    unsigned short bits = static_cast<unsigned short>(high ? word >> 16 : word & 0xffff);
    __half h;
    memcpy(&h, &bits, 2);
    return __half2float(h);
}

static inline void multiply_add(Accumulator& d, const FragmentA& a, const FragmentB& b) {
    // All lanes show their registers, two at a time; what is read is not overwritten before the next round's barrier.
    unsigned lane = emulator::lane(), row = lane / 4, pair = lane % 4;
    unsigned own[3][2] = {{a.r[0], a.r[1]}, {a.r[2], a.r[3]}, {b.r[0], b.r[1]}};
    unsigned rows[4][4], columns[2][4][2];
    for (int round = 0; round < 3; round++) {
        uint64_t* words = emulator::warp_words();
        words[lane] = own[round][0] | uint64_t(own[round][1]) << 32;
        emulator::sync_warp(ALL_LANES);
        for (int t = 0; t < 4; t++) {
            uint64_t word = words[row * 4 + t];
            if (round < 2) rows[t][2 * round] = unsigned(word), rows[t][2 * round + 1] = unsigned(word >> 32);
            for (int j = 0; round == 2 && j < 2; j++) {
                word = words[(pair * 2 + j) * 4 + t];
                columns[j][t][0] = unsigned(word), columns[j][t][1] = unsigned(word >> 32);
            }
        }
    }
    for (int t = 0; t < 4; t++)
        for (int j = 0; j < 2; j++)
            for (int h = 0; h < 2; h++) {
                float low = half_of(columns[j][t][0], h), high = half_of(columns[j][t][1], h);
                d.v[j] += half_of(rows[t][0], h) * low + half_of(rows[t][2], h) * high;
                d.v[2 + j] += half_of(rows[t][1], h) * low + half_of(rows[t][3], h) * high;
            }
}

static inline void multiply_add8(Accumulator& d, const unsigned (&a)[2], unsigned b) {
    multiply_add(d, FragmentA{{a[0], a[1], 0, 0}}, FragmentB{{b, 0}});
}

static inline void copy_async16(void* shared, const void* global, bool there) {
    uint4 words = make_uint4(0, 0, 0, 0);
    if (there) words = *static_cast<const uint4*>(global);
    *static_cast<uint4*>(shared) = words;
}
static inline void copy_async_commit() {}
template <int Pending>
static inline void copy_async_wait() {}

static inline FragmentA load_fragment_a(const __half* row) {
    unsigned lane = emulator::lane();
    FragmentA a;
    for (int tile = 0; tile < 4; tile++) {
        // Row l/4 of the tile, whose address lane tile * 8 + l/4 gave.
        unsigned long long address = reinterpret_cast<unsigned long long>(row);
        unsigned long long from = __shfl_sync(ALL_LANES, address, tile * 8 + lane / 4);
        a.r[tile] = *(reinterpret_cast<const unsigned*>(from) + lane % 4);
    }
    return a;
}

#endif
