// Arithmetic that rounds after every operation, so that a device gives the processor's bits: left alone, nvcc
// contracts a * b + c into one operation with one rounding, which Rust never does. Division and square roots are
// correctly rounded on both.
#pragma once
#include "common.cuh"

#if defined(__CUDACC__)
__device__ __forceinline__ float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ __forceinline__ float times(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double plus(double a, double b) { return __dadd_rn(a, b); }
__device__ __forceinline__ double times(double a, double b) { return __dmul_rn(a, b); }
__device__ __forceinline__ float root(float a) { return __fsqrt_rn(a); }
__device__ __forceinline__ double root(double a) { return __dsqrt_rn(a); }
__device__ __forceinline__ float quotient(float a, float b) { return __fdiv_rn(a, b); }
__device__ __forceinline__ double quotient(double a, double b) { return __ddiv_rn(a, b); }
#else
// The emulator is compiled with -ffp-contract=off.
static inline float plus(float a, float b) { return a + b; }
static inline float times(float a, float b) { return a * b; }
static inline double plus(double a, double b) { return a + b; }
static inline double times(double a, double b) { return a * b; }
static inline float root(float a) { return sqrtf(a); }
static inline double root(double a) { return sqrt(a); }
static inline float quotient(float a, float b) { return a / b; }
static inline double quotient(double a, double b) { return a / b; }
#endif

// A number whose operators are those, for formulas.
template <typename T>
struct Rounded {
    T v;
    __device__ __forceinline__ Rounded(T value = 0) : v(value) {}
    friend __device__ __forceinline__ Rounded operator+(Rounded a, Rounded b) { return plus(a.v, b.v); }
    friend __device__ __forceinline__ Rounded operator-(Rounded a, Rounded b) { return plus(a.v, -b.v); }
    friend __device__ __forceinline__ Rounded operator*(Rounded a, Rounded b) { return times(a.v, b.v); }
    friend __device__ __forceinline__ Rounded operator/(Rounded a, Rounded b) { return quotient(a.v, b.v); }
    __device__ __forceinline__ Rounded operator-() const { return -v; }
};
typedef Rounded<float> F32;
typedef Rounded<double> F64;
