// Photos on the device: normalised for the network, the next level of a pyramid of them, extended to whole blocks of
// pixels, in grey.
//
// normalise: [V, H, W, 3] of bytes (0..255 for 0..1) or f32 -> (x - mean) / deviation, f32 or f16; one thread takes
// four pixels. pyramid: [V, H, W, 3] of bytes or f32 -> f32 [V, ceil(H / 2), ceil(W / 2), 3]: blurred by [1 4 6 4 1] /
// 16 both ways, mirrored without repeating the edge, the even pixels kept; one thread makes four rows of one column of
// one channel and sums each of the eleven rows that they share once. extend: [V, H, W, 3] -> [V, H', W', 3] of the same
// element, the last column and row repeated right and below; one thread makes one value. grey: [V, H, W, 3] of bytes or
// f32 -> [V, H, W, 1] of f32 less 0.5 (Rec. 601); one thread makes four pixels. Roundings are the processor's
// (photo.rs, ops/pointwise.rs, ops/ncc.rs): the same bits. Every output is written by one thread. Bound by memory: each
// input and output value moves once from beyond L1; 14 readings an output of the pyramid come from L1, in 80 % of that
// time.
#include "packs.cuh"
#include "rounded.cuh"

// 0..1.
__device__ __forceinline__ float sample(const float* p) { return *p; }
// x / divisor without a division's branches: the product with the inverse, and what it left over. For all bytes and
// the network's constants that is the nearest f32, as the tests see to.
__device__ __forceinline__ float over(float x, float divisor, float inverse) {
    float q = times(x, inverse);
    return fmaf(fmaf(-divisor, q, x), inverse, q);
}
__device__ __forceinline__ float of_byte(unsigned byte) { return over(float(byte), 255.0f, 1.0f / 255.0f); }
__device__ __forceinline__ float sample(const unsigned char* p) { return of_byte(*p); }

__device__ __forceinline__ float4 four_samples(const float* p) { return load4(p); }
__device__ __forceinline__ float4 four_samples(const unsigned char* p) {
    unsigned bytes = *reinterpret_cast<const unsigned*>(p);
    return make_float4(of_byte(bytes & 255), of_byte(bytes >> 8 & 255), of_byte(bytes >> 16 & 255),
                       of_byte(bytes >> 24));
}

struct Colours {
    float mean[3], deviation[3], inverse[3];
};

// (v - mean) / deviation of a byte's value, or of any value.
__device__ __forceinline__ float normal_value(const unsigned char*, float v, const Colours& colours, int c) {
    return over(v - colours.mean[c], colours.deviation[c], colours.inverse[c]);
}
__device__ __forceinline__ float normal_value(const float*, float v, const Colours& colours, int c) {
    return quotient(v - colours.mean[c], colours.deviation[c]);
}

template <typename S, typename T>
__device__ __forceinline__ void normalise_body(const S* photos, T* y, Index n, const Colours& colours) {
    for (Index at = thread_of_grid() * 12; at < n; at += threads_of_grid() * 12) {
        if (n - at >= 12) {
#pragma unroll
            for (int part = 0; part < 12; part += 4) {
                float4 s = four_samples(photos + at + part);
                float v[4] = {s.x, s.y, s.z, s.w};
#pragma unroll
                for (int i = 0; i < 4; i++) v[i] = normal_value(photos, v[i], colours, (part + i) % 3);
                store4(y + at + part, make_float4(v[0], v[1], v[2], v[3]));
            }
        } else {
#pragma unroll
            for (int i = 0; i < 12; i++)
                if (i < n - at) store(y + at + i, normal_value(photos, sample(photos + at + i), colours, i % 3));
        }
    }
}

#define NORMALISE_KERNEL(name, S, T)                                                                          \
    extern "C" __global__ void __launch_bounds__(256) name(const S* photos, T* y, Index n, Colours colours) { \
        normalise_body(photos, y, n, colours);                                                                \
    }                                                                                                         \
    KERNEL(name)
NORMALISE_KERNEL(normalise_forward_u8_f32, unsigned char, float)
NORMALISE_KERNEL(normalise_forward_u8_f16, unsigned char, __half)
NORMALISE_KERNEL(normalise_forward_f32_f32, float, float)
NORMALISE_KERNEL(normalise_forward_f32_f16, float, __half)

// Index i, at most one period outside, mirrored into 0..length without repeating the edge.
__device__ __forceinline__ int mirrored(int i, int length) {
    if (length == 1) return 0;
    int period = 2 * (length - 1);
    i %= period;
    if (i < 0) i += period;
    return min(i, period - i);
}

__device__ __forceinline__ float binomial(int k) {
    return k == 2 ? 6.0f / 16.0f : (k == 1 || k == 3 ? 4.0f / 16.0f : 1.0f / 16.0f);
}

// Rows that a thread makes.
constexpr int ROWS = 4;

template <typename S>
__device__ __forceinline__ void pyramid_body(const S* __restrict__ photos, float* __restrict__ y, int height, int width,
                                             int parts, int strips) {
    int new_width = (width + 1) / 2, new_height = (height + 1) / 2;
    int item = (blockIdx.x % parts) * blockDim.x + threadIdx.x, strip = blockIdx.x / parts % strips,
        view = blockIdx.x / parts / strips;
    if (item >= new_width * 3) return;
    int column = item / 3, channel = item - column * 3;
    const S* photo = photos + Index(view) * height * width * 3;
    int columns[5];
#pragma unroll
    for (int k = 0; k < 5; k++) columns[k] = mirrored(2 * column + k - 2, width) * 3 + channel;
    // Each old row's blur along it, for all rows that the new ones need.
    float narrow[2 * ROWS + 3];
#pragma unroll
    for (int r = 0; r < 2 * ROWS + 3; r++) {
        const S* row = photo + Index(mirrored(2 * ROWS * strip + r - 2, height)) * width * 3;
        float sum = 0;
#pragma unroll
        for (int k = 0; k < 5; k++) sum = plus(sum, times(binomial(k), sample(row + columns[k])));
        narrow[r] = sum;
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        int new_row = ROWS * strip + i;
        if (new_row >= new_height) break;
        float sum = 0;
#pragma unroll
        for (int k = 0; k < 5; k++) sum = plus(sum, times(binomial(k), narrow[2 * i + k]));
        y[(Index(view) * new_height + new_row) * new_width * 3 + item] = sum;
    }
}
extern "C" __global__ void __launch_bounds__(256)
    pyramid_forward_u8_f32(const unsigned char* photos, float* y, int height, int width, int parts, int strips) {
    pyramid_body(photos, y, height, width, parts, strips);
}
KERNEL(pyramid_forward_u8_f32)
extern "C" __global__ void __launch_bounds__(256)
    pyramid_forward_f32_f32(const float* photos, float* y, int height, int width, int parts, int strips) {
    pyramid_body(photos, y, height, width, parts, strips);
}
KERNEL(pyramid_forward_f32_f32)

template <typename S>
__device__ __forceinline__ void extend_body(const S* photos, S* y, int height, int width, int new_height, int new_width,
                                            Index n) {
    for (Index at = thread_of_grid(); at < n; at += threads_of_grid()) {
        Index pixel = at / 3, line = pixel / new_width, view = line / new_height;
        int channel = int(at - pixel * 3), column = min(int(pixel - line * new_width), width - 1),
            row = min(int(line - view * new_height), height - 1);
        y[at] = photos[((view * height + row) * width + column) * 3 + channel];
    }
}
extern "C" __global__ void __launch_bounds__(256)
    extend_forward_u8(const unsigned char* photos, unsigned char* y, int height, int width, int new_height,
                      int new_width, Index n) {
    extend_body(photos, y, height, width, new_height, new_width, n);
}
KERNEL(extend_forward_u8)
extern "C" __global__ void __launch_bounds__(256)
    extend_forward_f32(const float* photos, float* y, int height, int width, int new_height, int new_width, Index n) {
    extend_body(photos, y, height, width, new_height, new_width, n);
}
KERNEL(extend_forward_f32)

__device__ __forceinline__ float grey_of(float red, float green, float blue) {
    return plus(plus(plus(times(0.299f, red), times(0.587f, green)), times(0.114f, blue)), -0.5f);
}

template <typename S>
__device__ __forceinline__ void grey_body(const S* photos, float* y, Index n) {
    for (Index at = thread_of_grid() * 4; at < n; at += threads_of_grid() * 4) {
        const S* from = photos + at * 3;
        if (n - at >= 4) {
            float4 a = four_samples(from), b = four_samples(from + 4), c = four_samples(from + 8);
            store4(y + at, make_float4(grey_of(a.x, a.y, a.z), grey_of(a.w, b.x, b.y), grey_of(b.z, b.w, c.x),
                                       grey_of(c.y, c.z, c.w)));
        } else {
            for (int i = 0; i < n - at; i++)
                y[at + i] = grey_of(sample(from + 3 * i), sample(from + 3 * i + 1), sample(from + 3 * i + 2));
        }
    }
}
extern "C" __global__ void __launch_bounds__(256) grey_forward_u8_f32(const unsigned char* photos, float* y, Index n) {
    grey_body(photos, y, n);
}
KERNEL(grey_forward_u8_f32)
extern "C" __global__ void __launch_bounds__(256) grey_forward_f32_f32(const float* photos, float* y, Index n) {
    grey_body(photos, y, n);
}
KERNEL(grey_forward_f32_f32)
