// The part of CUDA C++ that the kernels use, for a C++ compiler: the same .cu files run on the processor.
//
// The threads of a block are fibers of one OS thread that switch only at __syncthreads() and at warp collectives;
// blocks are spread over OS threads. Shared memory and device memory lie in ranges that the emulator knows, so that
// the checked build (see checks.cpp) can tell races, accesses out of bounds and reads of memory that nobody wrote.
// What the emulator cannot show: time, occupancy, coalescing, bank conflicts, the memory model between blocks, and the
// rounding of contracted multiply-adds and fast intrinsics.
#pragma once
#define ENGINE_EMULATED 1
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
#define __restrict__ __restrict

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct float3 {
    float x, y, z;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct uchar3 {
    unsigned char x, y, z;
};
struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }
static inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) {
    return {x, y, z, w};
}

namespace emulator {
extern thread_local uint3 thread_index, block_index;
extern thread_local dim3 block_size, grid_size;
// Barriers; each returns once all that it waits for have arrived.
void sync_block();
void sync_warp(unsigned mask);
// What all threads of the block passed: their number, whether all, whether any are nonzero.
int block_vote(int predicate, int what);
// 32 words in which the lanes of a warp exchange values, another set on each call.
uint64_t* warp_words();
unsigned lane();
// The block's array for this place in the source: the same for all threads of a block, aligned to 16 bytes.
void* shared_array(const void* place, size_t bytes);
void* dynamic_shared();
// An access of the checked build, from an atomic; nothing in the fast build.
void note_atomic(const void* address, size_t bytes);
typedef void (*Body)(void**);
int launch(const char* name, Body body, void** parameters, const unsigned* grid, const unsigned* block, size_t shared,
           bool cooperative);
[[noreturn]] void fail(const char* why);

template <class T>
static inline T exchange(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 8);
    uint64_t raw = 0;
    memcpy(&raw, &value, sizeof(T));
    uint64_t* words = warp_words();
    words[lane()] = raw;
    sync_warp(mask);
    T result;
    memcpy(&result, &words[from & 31], sizeof(T));
    return result;
}

template <auto Kernel>
struct Call;
template <class... A, void (*Kernel)(A...)>
struct Call<Kernel> {
    template <size_t... I>
    static void with(void** p, std::index_sequence<I...>) {
        Kernel(*static_cast<std::remove_reference_t<A>*>(p[I])...);
    }
    static void body(void** p) { with(p, std::index_sequence_for<A...>{}); }
    static constexpr size_t count = sizeof...(A);
    static size_t size(size_t i) {
        constexpr size_t sizes[] = {sizeof(A)..., 0};
        return sizes[i];
    }
};
}  // namespace emulator

// A kernel's entry points. KERNEL: threads that do not talk to each other; BLOCK_KERNEL: with barriers or warp
// collectives. parameter_size lets the caller check what it passes, which a driver would not.
#define ENGINE_ENTRY(name, cooperative)                                                                            \
    extern "C" int launch_##name(const unsigned* grid, const unsigned* block, size_t shared, void** parameters) {  \
        return emulator::launch(#name, &emulator::Call<name>::body, parameters, grid, block, shared, cooperative); \
    }                                                                                                              \
    extern "C" size_t parameter_count_##name() { return emulator::Call<name>::count; }                             \
    extern "C" size_t parameter_size_##name(size_t i) { return emulator::Call<name>::size(i); }
#define KERNEL(name) ENGINE_ENTRY(name, false)
#define BLOCK_KERNEL(name) ENGINE_ENTRY(name, true)

// Shared memory: `SHARED(float, tile, 256)` is an array of 256 floats of the block; DYNAMIC_SHARED's size comes with
// the launch.
#define SHARED(T, name, count)          \
    static const char name##_place = 0; \
    T* const name = static_cast<T*>(emulator::shared_array(&name##_place, sizeof(T) * (count)))
#define DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(emulator::dynamic_shared())

#define threadIdx (emulator::thread_index)
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_size)
#define gridDim (emulator::grid_size)

static inline void __syncthreads() { emulator::sync_block(); }
static inline int __syncthreads_count(int p) { return emulator::block_vote(p, 0); }
static inline int __syncthreads_and(int p) { return emulator::block_vote(p, 1); }
static inline int __syncthreads_or(int p) { return emulator::block_vote(p, 2); }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { emulator::sync_warp(mask); }
template <class T>
static inline T __shfl_sync(unsigned mask, T v, int from, int width = 32) {
    unsigned l = emulator::lane();
    return emulator::exchange(mask, v, (l & ~(width - 1)) | (from & (width - 1)));
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
    unsigned l = emulator::lane(), from = l ^ bits;
    if ((from & ~(width - 1)) > (l & ~(width - 1))) from = l;
    return emulator::exchange(mask, v, from);
}
template <class T>
static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
    unsigned l = emulator::lane();
    return emulator::exchange(mask, v, (l & (width - 1)) + by < unsigned(width) ? l + by : l);
}
template <class T>
static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
    unsigned l = emulator::lane();
    return emulator::exchange(mask, v, (l & (width - 1)) >= by ? l - by : l);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate) {
    uint64_t* words = emulator::warp_words();
    words[emulator::lane()] = predicate != 0;
    emulator::sync_warp(mask);
    unsigned bits = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) bits |= unsigned(words[i] & 1) << i;
    return bits;
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, p) == mask; }

static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
template <class T>
static inline T __ldg(const T* p) {
    return *p;
}
template <class T>
static inline void __stcs(T* p, T v) {
    *p = v;
}
template <class T>
static inline T __ldcs(const T* p) {
    return *p;
}
static inline float __fdividef(float a, float b) { return a / b; }
static inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }
static inline float __saturatef(float a) { return a < 0 ? 0 : (a > 1 ? 1 : a); }
static inline float __int_as_float(int i) {
    float f;
    memcpy(&f, &i, 4);
    return f;
}
static inline int __float_as_int(float f) {
    int i;
    memcpy(&i, &f, 4);
    return i;
}
static inline float __uint_as_float(unsigned i) { return __int_as_float(int(i)); }
static inline unsigned __float_as_uint(float f) { return unsigned(__float_as_int(f)); }
// The C library declares functions of these names itself.
#define __expf expf
#define __logf logf
using std::max;
using std::min;

// Atomics: blocks run on several OS threads, so these are real ones.
template <class T, class F>
static inline T emulated_update(T* p, F next) {
    emulator::note_atomic(p, sizeof(T));
    using Word = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    Word* word = reinterpret_cast<Word*>(p);
    Word old = __atomic_load_n(word, __ATOMIC_RELAXED);
    for (;;) {
        T before, after;
        memcpy(&before, &old, sizeof old);
        after = next(before);
        Word wanted;
        memcpy(&wanted, &after, sizeof wanted);
        if (__atomic_compare_exchange_n(word, &old, wanted, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return before;
    }
}
template <class T>
static inline T atomicAdd(T* p, T v) {
    return emulated_update(p, [v](T old) { return T(old + v); });
}
template <class T>
static inline T atomicMax(T* p, T v) {
    return emulated_update(p, [v](T old) { return old > v ? old : v; });
}
template <class T>
static inline T atomicMin(T* p, T v) {
    return emulated_update(p, [v](T old) { return old < v ? old : v; });
}
template <class T>
static inline T atomicOr(T* p, T v) {
    return emulated_update(p, [v](T old) { return T(old | v); });
}
template <class T>
static inline T atomicExch(T* p, T v) {
    return emulated_update(p, [v](T) { return v; });
}
template <class T>
static inline T atomicCAS(T* p, T compare, T v) {
    return emulated_update(p, [compare, v](T old) { return old == compare ? v : old; });
}

// Half precision: two bytes with CUDA's bits, one rounding an operation.
struct __half {
    _Float16 v;
    __half() = default;
    __half(float f) : v(static_cast<_Float16>(f)) {}
    operator float() const { return static_cast<float>(v); }
};
struct alignas(4) __half2 {
    __half x, y;
};
static inline float __half2float(__half h) { return static_cast<float>(h.v); }
static inline __half __float2half(float f) { return __half(f); }
static inline __half __float2half_rn(float f) { return __half(f); }
static inline float2 __half22float2(__half2 h) { return {float(h.x), float(h.y)}; }
static inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
static inline __half2 __low2half2(__half2 h) { return {h.x, h.x}; }
static inline __half2 __high2half2(__half2 h) { return {h.y, h.y}; }
static inline __half2 __hneg2(__half2 h) {
    h.x.v = -h.x.v, h.y.v = -h.y.v;
    return h;
}
static inline __half2 __hmul2(__half2 a, __half2 b) { return {float(a.x) * float(b.x), float(a.y) * float(b.y)}; }
// Products are exact in double. Where a sum is not, its last bits are far below what decides the rounding to f16.
static inline __half fused_half(__half a, __half b, __half c) {
    __half r;
    r.v = static_cast<_Float16>(double(float(a)) * double(float(b)) + double(float(c)));
    return r;
}
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    return {fused_half(a.x, b.x, c.x), fused_half(a.y, b.y, c.y)};
}
static inline __half2 __float22half2_rn(float2 f) { return {__half(f.x), __half(f.y)}; }
