// Runs of neighbouring channels that one thread moves at once: 16 bytes where the channel count allows, else 4
// channels, else one.
#pragma once
#include "common.cuh"

template <int L>
struct Pack {
    float v[L];
};

template <int L, typename T>
__device__ __forceinline__ Pack<L> load_pack(const T* p) {
    Pack<L> r;
    if constexpr (L == 8) {
        Float8 f = load8(p);
#pragma unroll
        for (int i = 0; i < 8; i++) r.v[i] = f.v[i];
    } else if constexpr (L == 4) {
        float4 f = load4(p);
        r.v[0] = f.x, r.v[1] = f.y, r.v[2] = f.z, r.v[3] = f.w;
    } else {
        static_assert(L == 1, "packs of 1, 4 and 8");
        r.v[0] = load(p);
    }
    return r;
}

template <int L, typename T>
__device__ __forceinline__ void store_pack(T* p, const Pack<L>& r) {
    if constexpr (L == 8) {
        Float8 f;
#pragma unroll
        for (int i = 0; i < 8; i++) f.v[i] = r.v[i];
        store8(p, f);
    } else if constexpr (L == 4) {
        store4(p, make_float4(r.v[0], r.v[1], r.v[2], r.v[3]));
    } else {
        static_assert(L == 1, "packs of 1, 4 and 8");
        store(p, r.v[0]);
    }
}

// How many elements of T are 16 bytes.
template <typename T>
constexpr int WIDEST = 16 / sizeof(T);

// Runs a body `template <int L, typename T>` with the widest pack that divides the channels; src/cuda/ops/mod.rs
// `pack` counts threads by the same rule.
#define WITH_PACK(T, channels, body, ...) \
    do {                                  \
        if ((channels) % WIDEST<T> == 0)  \
            body<WIDEST<T>>(__VA_ARGS__); \
        else if ((channels) % 4 == 0)     \
            body<4>(__VA_ARGS__);         \
        else                              \
            body<1>(__VA_ARGS__);         \
    } while (0)

// a / b and the rest for offsets of a volume: 64-bit division takes a hundred instructions, and most volumes do not
// need it.
__device__ __forceinline__ Index divided(Index a, int b, int& rest) {
    if (a <= 0xffffffffll) {
        unsigned quotient = unsigned(a) / unsigned(b);
        rest = int(unsigned(a) - quotient * unsigned(b));
        return quotient;
    }
    Index quotient = a / b;
    rest = int(a - quotient * b);
    return quotient;
}
