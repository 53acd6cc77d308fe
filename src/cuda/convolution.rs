//! A convolution as a library takes it: geometry and where its tensors lie.

use super::storage::{Element, Pointer};
use crate::net::tensor::Shape;

/// Geometry and arithmetic of one call. "Same" padding: half the kernel at every side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// x: [D, H, W, C]; a 2D convolution takes planes as a batch and has a kernel of 1 along D.
    pub input: Shape,
    /// y: [D', H', W', C'].
    pub output: Shape,
    /// Kernel along D, H, W; the weights are [C', kd, kh, kw, C].
    pub kernel: [usize; 3],
    /// Stride along D, H, W.
    pub stride: [usize; 3],
    /// Of x, w and y; sums are f32.
    pub element: Element,
    /// Whether f32 products may be rounded to TF32.
    pub tf32: bool,
    /// ReLU after the bias (and the residual).
    pub relu: bool,
    /// Bytes of workspace that the plan holds ready.
    pub workspace: u64,
}

/// Device addresses; 0 where a tensor is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pointers {
    /// The input.
    pub x: Pointer,
    /// The weights.
    pub w: Pointer,
    /// [C'], stored as x is.
    pub bias: Pointer,
    /// Added before the ReLU; shape of y.
    pub residual: Pointer,
    /// The output.
    pub y: Pointer,
    /// `workspace` bytes.
    pub workspace: Pointer,
}
