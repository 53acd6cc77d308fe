//! Depthwise 3x3x3 convolution: each channel with its own 27 weights, zero padding, no bias.
//!
//! x [D, H, W, C], y [ceil(D/s), ceil(H/s), ceil(W/s), C]; C a multiple of 8. One multiply-add a value loaded: bound by
//! the load ports, so taps are simply walked for 8 channels at a time.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::simd::{Isa, Kernel, Vector, dispatch};
use crate::tensor::{Buffer, Cpu, Shape, Tensor};

/// A depthwise convolution's parameters.
pub struct Depthwise {
    /// Channels.
    pub channels: usize,
    /// Stride over depth, rows and columns alike.
    pub stride: usize,
    /// [27, C].
    weights: Buffer,
}

impl Depthwise {
    /// From weights in PyTorch's order [C, 1, 3, 3, 3].
    ///
    /// # Panics
    /// Where the length does not fit or C is no multiple of 8.
    pub fn new(channels: usize, stride: usize, weights: &[f32]) -> Self {
        assert!(weights.len() == 27 * channels && channels.is_multiple_of(8), "depthwise weights");
        let mut packed = Buffer::zeros(weights.len());
        for c in 0..channels {
            for t in 0..27 {
                packed[t * channels + c] = weights[c * 27 + t];
            }
        }
        Self { channels, stride, weights: packed }
    }

    /// Multiply-adds times two for an input of this shape.
    pub fn flops(&self, x: Shape) -> u64 {
        2 * 27 * self.output_shape(x).len() as u64
    }

    /// The output's shape for an input's.
    pub fn output_shape(&self, x: Shape) -> Shape {
        let s = self.stride;
        Shape { d: x.d.div_ceil(s), h: x.h.div_ceil(s), w: x.w.div_ceil(s), c: x.c }
    }

    /// y = w * x.
    ///
    /// # Errors
    /// [`Error::Shape`] where x has other channels or is empty.
    pub fn forward(&self, cpu: &Cpu, x: &Tensor) -> Result<Tensor> {
        x.expect_channels("depthwise convolution", self.channels)?;
        if x.shape.is_empty() {
            return Err(Error::Shape {
                op: "depthwise convolution",
                problem: format!("empty input {}", x.shape),
            });
        }
        let shape = self.output_shape(x.shape);
        let mut y = cpu.tensor(shape);
        y.data.par_chunks_mut(shape.w * shape.c).enumerate().for_each(|(row, y)| {
            let row = Row { op: self, x, z: row / shape.h, r: row % shape.h, y };
            // SAFETY: the device's level is available; the kernel checks its own bounds.
            unsafe { dispatch(cpu.level, row) }
        });
        Ok(y)
    }
}

/// One row of the output.
struct Row<'a> {
    op: &'a Depthwise,
    x: &'a Tensor,
    z: usize,
    r: usize,
    y: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { op, x, z, r, y } = self;
        let (shape, c, s) = (x.shape, op.channels, op.stride);
        let range = |at: usize, size: usize| (usize::from(at == 0), 3.min(size + 1 - at));
        let (z0, z1) = range(z * s, shape.d);
        let (r0, r1) = range(r * s, shape.h);
        for o in 0..y.len() / c {
            let (x0, x1) = range(o * s, shape.w);
            for channel in (0..c).step_by(8) {
                // SAFETY: tap i reads index at * s + i - 1, which `range` keeps within the tensor; C is a multiple of 8.
                unsafe {
                    let mut sum = I::Eight::splat(0.0);
                    for i in z0..z1 {
                        for j in r0..r1 {
                            let row = ((z * s + i - 1) * shape.h + r * s + j - 1) * shape.w + o * s;
                            for k in x0..x1 {
                                let v = I::Eight::load(x.data.as_ptr().add((row + k - 1) * c + channel));
                                let w = I::Eight::load(
                                    op.weights.as_ptr().add(((i * 3 + j) * 3 + k) * c + channel),
                                );
                                sum = v.mul_add(w, sum);
                            }
                        }
                    }
                    sum.store(y.as_mut_ptr().add(o * c + channel));
                }
            }
        }
    }
}
