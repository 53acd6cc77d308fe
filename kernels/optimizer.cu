// Adam with gradient clipping, and the moving average of the weights, over all tensors of the network in one launch
// each.
//
// Tensors come as tables of addresses; `pieces` [blocks, 2] says which tensor and which CHUNK elements of it a block
// takes, `sizes` how many elements each has. Numbers that change from step to step are read from device memory
// (`Numbers`), so that a recording serves all steps. Norm: a block sums squares of its piece in f64, one block adds up
// the blocks; orders are fixed, so the norm is the same bits on every run (the processor sums in another order: within
// 1e-15). The step rounds after every operation as train/optimizer.rs does: the same bits for one scale. Bound by
// memory: 4 bytes an element for the norm, 28 for the step (g, w, m, v read, w, m, v written), 12 for the average.
#include "rounded.cuh"

// Elements of a block.
constexpr int CHUNK = 2048;

// What src/cuda/ops/optimizer.rs puts into device memory before a step.
struct Numbers {
    // What gradients are multiplied with before they are looked at: 1 / samples.
    double share;
    // The largest norm of all gradients; infinite where nothing is clipped.
    double clip;
    // The rate over the first moment's correction, one over the root of the second's, and what weight decay leaves:
    // f32 values.
    double step, root, keep;
    // Of the moving average, an f32 value.
    double decay;
    // 0: no weight moves.
    double moves;
};

struct Piece {
    int tensor;
    Index first, end;
};
__device__ __forceinline__ Piece piece_of_block(const unsigned* pieces, const unsigned* sizes) {
    int tensor = int(pieces[2 * blockIdx.x]);
    Index first = Index(pieces[2 * blockIdx.x + 1]) * CHUNK;
    return {tensor, first, min(first + CHUNK, Index(sizes[tensor]))};
}

extern "C" __global__ void __launch_bounds__(256)
    gradient_norm_sums_f32(const float* const* gradients, const unsigned* pieces, const unsigned* sizes,
                           double* partial) {
    SHARED(double, of_warps, 32);
    Piece piece = piece_of_block(pieces, sizes);
    const float* g = gradients[piece.tensor];
    double sum = 0;
    for (Index i = piece.first + threadIdx.x; i < piece.end; i += 256) sum += double(g[i]) * double(g[i]);
    sum = block_sum(sum, of_warps);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
BLOCK_KERNEL(gradient_norm_sums_f32)

// result = the norm of share times all gradients, and what a step multiplies them with.
extern "C" __global__ void __launch_bounds__(256)
    gradient_norm_finish_f32(const double* partial, int blocks, const Numbers* numbers, double* result) {
    SHARED(double, of_warps, 32);
    double sum = 0;
    for (int i = threadIdx.x; i < blocks; i += 256) sum += partial[i];
    sum = block_sum(sum, of_warps);
    if (threadIdx.x == 0) {
        double norm = sqrt(sum) * numbers->share;
        result[0] = norm;
        result[1] = numbers->share * (norm > numbers->clip ? numbers->clip / norm : 1.0);
    }
}
BLOCK_KERNEL(gradient_norm_finish_f32)

// w -= rate mean / (sqrt(mean square) + epsilon), both means corrected, with decoupled weight decay where `decayed`
// says so. Gradients that are not finite move nothing.
extern "C" __global__ void __launch_bounds__(256)
    adam_step_f32(const float* const* gradients, float* const* parameters, float* const* means, float* const* squares,
                  const unsigned* pieces, const unsigned* sizes, const unsigned* decayed, const double* norm_and_scale,
                  const Numbers* numbers, float beta1, float beta2, float epsilon) {
    double norm = norm_and_scale[0];
    if (numbers->moves == 0.0 || !(norm - norm == 0.0)) return;
    Piece piece = piece_of_block(pieces, sizes);
    const float* g = gradients[piece.tensor];
    float *w = parameters[piece.tensor], *m = means[piece.tensor], *v = squares[piece.tensor];
    F32 scale = float(norm_and_scale[1]), step = float(numbers->step), of_root = float(numbers->root);
    F32 keep = decayed[piece.tensor] ? float(numbers->keep) : 1.0f;
    F32 b1 = beta1, b2 = beta2, one = 1.0f, least = epsilon;
#pragma unroll 4
    for (Index i = piece.first + threadIdx.x; i < piece.end; i += 256) {
        F32 gradient = F32(g[i]) * scale;
        F32 mean = b1 * F32(m[i]) + (one - b1) * gradient;
        F32 square = b2 * F32(v[i]) + (one - b2) * gradient * gradient;
        m[i] = mean.v;
        v[i] = square.v;
        w[i] = (F32(w[i]) * keep - step * mean / (F32(root(square.v)) * of_root + least)).v;
    }
}
KERNEL(adam_step_f32)

// average = decay average + (1 - decay) values
extern "C" __global__ void __launch_bounds__(256)
    average_weights_f32(float* const* averages, const float* const* values, const unsigned* pieces,
                        const unsigned* sizes, const Numbers* numbers) {
    Piece piece = piece_of_block(pieces, sizes);
    float* average = averages[piece.tensor];
    const float* value = values[piece.tensor];
    F32 decay = float(numbers->decay), one = 1.0f;
#pragma unroll 4
    for (Index i = piece.first + threadIdx.x; i < piece.end; i += 256)
        average[i] = (decay * F32(average[i]) + (one - decay) * F32(value[i])).v;
}
KERNEL(average_weights_f32)
