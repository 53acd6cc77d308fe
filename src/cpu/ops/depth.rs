//! From logits to depth and confidence: softmax over the planes, expectation (eq. 6), and the probability of the four
//! hypotheses around the expected index.
//!
//! One pass over D: the maximum comes with the logits from whoever made them ([`crate::cpu::ops::head`]), so sums of
//! `e`, `i e` and `v e` suffice; confidence then looks at four of the logits again. The expectation is taken of depth
//! (or of 1 / depth) relative to the middle of the range, in which f32 resolves 1e-5 of an interval.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::simd::{Isa, Kernel, Vector, exp};
use crate::error::{Error, Result};
use crate::net::tensor::{Shape, Tensor};
use crate::scene::camera::{Expected, Hypotheses, Sampling};

/// The values whose expectation is taken, relative to their middle.
pub struct Expectation {
    pub(super) sampling: Sampling,
    pub(super) middle: f64,
    pub(super) offsets: Vec<f32>,
    /// Whether the variance of the values is wanted instead of the probability of four of them.
    pub(super) variance: bool,
    /// Where each pixel's value is expected among them.
    pub(super) expected: Option<Expected>,
}

impl Expectation {
    /// Over depth, or over 1 / depth for inverse sampling.
    pub fn new(hypotheses: &Hypotheses) -> Self {
        let value = |d: f64| match hypotheses.sampling {
            Sampling::Linear => d,
            Sampling::Inverse => 1.0 / d,
        };
        let values: Vec<f64> = hypotheses.depths.iter().map(|&d| value(d)).collect();
        let middle = values.iter().sum::<f64>() / values.len().max(1) as f64;
        let offsets = values.iter().map(|v| (v - middle) as f32).collect();
        Self { sampling: hypotheses.sampling, middle, offsets, variance: false, expected: hypotheses.expected.clone() }
    }

    /// Over any values, as they are; the second map is their variance.
    pub fn with_variance(values: &[f32]) -> Self {
        Self { sampling: Sampling::Linear, middle: 0.0, offsets: values.to_vec(), variance: true, expected: None }
    }

    /// Number of planes.
    pub fn planes(&self) -> usize {
        self.offsets.len()
    }

    /// The values minus their middle.
    pub fn offsets(&self) -> &[f32] {
        &self.offsets
    }

    /// The middle of the values: of depths, or of 1 / depth.
    pub fn middle(&self) -> f64 {
        self.middle
    }

    /// Scene units, for an expectation relative to the middle.
    #[inline(always)]
    pub(super) fn depth(&self, offset: f32) -> f32 {
        let value = self.middle + f64::from(offset);
        match self.sampling {
            Sampling::Linear => value as f32,
            Sampling::Inverse => (1.0 / value) as f32,
        }
    }
}

/// 1 / depth [1, H, W, 1] that logits [D, H, W, 1] expect: 1 over the depth of a map, in f64 sums.
///
/// # Errors
/// [`Error::Shape`] where D is not the number of hypotheses.
pub fn inverse_depths(cpu: &Cpu, expectation: &Expectation, logits: &Tensor) -> Result<Tensor> {
    logits.expect_channels("expectation", 1)?;
    let Shape { d, h, w, .. } = logits.shape;
    if d != expectation.planes() || d == 0 {
        let problem = format!("logits {} for {} hypotheses", logits.shape, expectation.planes());
        return Err(Error::Shape { op: "expectation", problem });
    }
    let mut y = cpu.tensor(Shape::plane(h, w, 1));
    y.data.par_chunks_mut(w).enumerate().for_each(|(row, y)| {
        let line = |plane: usize| &logits.data[(plane * h + row) * w..][..w];
        let mut top = vec![f32::NEG_INFINITY; w];
        for plane in 0..d {
            top.iter_mut().zip(line(plane)).for_each(|(top, &v)| *top = top.max(v));
        }
        let mut sums = vec![(0.0f64, 0.0f64); w];
        for (plane, &offset) in expectation.offsets.iter().enumerate() {
            for ((sums, &v), &top) in sums.iter_mut().zip(line(plane)).zip(&top) {
                let e = f64::from((v - top).exp());
                sums.0 += e;
                sums.1 += e * f64::from(offset);
            }
        }
        for (y, (total, offset)) in y.iter_mut().zip(sums) {
            let value = expectation.middle + offset / total;
            *y = match expectation.sampling {
                Sampling::Linear => (1.0 / value) as f32,
                Sampling::Inverse => value as f32,
            };
        }
    });
    Ok(y)
}

/// Depth and confidence of a run of pixels. Plane p's logits begin at `p * plane_stride`, n of them with n a multiple
/// of 16; `max` (n values) is their maximum over the planes; `depth` and `confidence` take the first of the n.
pub(crate) struct Regress<'a> {
    pub expectation: &'a Expectation,
    pub logits: &'a [f32],
    pub plane_stride: usize,
    pub max: &'a [f32],
    pub depth: &'a mut [f32],
    /// Or the variance.
    pub confidence: &'a mut [f32],
}

impl Kernel for Regress<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { expectation, logits, plane_stride, max, depth, confidence } = self;
        let (n, planes) = (max.len(), expectation.planes());
        assert!(n.is_multiple_of(16) && depth.len() <= n && confidence.len() == depth.len());
        assert!(planes > 0 && plane_stride >= n && logits.len() >= (planes - 1) * plane_stride + n);
        let (mut totals, mut indices, mut offsets, mut variances) =
            ([0.0f32; 16], [0.0f32; 16], [0.0f32; 16], [0.0; 16]);
        for start in (0..depth.len()).step_by(I::Wide::LANES) {
            // SAFETY: start + LANES <= n; all planes lie within the logits.
            unsafe {
                let top = I::Wide::load(max.as_ptr().add(start));
                let zero = I::Wide::splat(0.0);
                let (mut total, mut index, mut offset) = (zero, zero, zero);
                for (p, &value) in expectation.offsets.iter().enumerate() {
                    let e = exp(I::Wide::load(logits.as_ptr().add(p * plane_stride + start)).sub(top));
                    total = total.add(e);
                    index = e.mul_add(I::Wide::splat(p as f32), index);
                    offset = e.mul_add(I::Wide::splat(value), offset);
                }
                total.store(totals.as_mut_ptr());
                index.div(total).store(indices.as_mut_ptr());
                offset.div(total).store(offsets.as_mut_ptr());
                if expectation.variance {
                    // Of few hypotheses a second pass over them is cheap, and nothing cancels.
                    let mean = offset.div(total);
                    let mut square = zero;
                    for (p, &value) in expectation.offsets.iter().enumerate() {
                        let e = exp(I::Wide::load(logits.as_ptr().add(p * plane_stride + start)).sub(top));
                        let away = I::Wide::splat(value).sub(mean);
                        square = e.mul(away).mul_add(away, square);
                    }
                    square.div(total).store(variances.as_mut_ptr());
                }
            }
            for i in 0..I::Wide::LANES.min(depth.len() - start) {
                let pixel = start + i;
                depth[pixel] = expectation.depth(offsets[i]);
                if expectation.variance {
                    confidence[pixel] = variances[i];
                    continue;
                }
                let at = (indices[i].floor() as usize).min(planes - 1);
                let window = at.saturating_sub(1)..(at + 3).min(planes);
                let sum: f32 = window.map(|p| (logits[p * plane_stride + pixel] - max[pixel]).exp()).sum();
                // Rounding must not make a probability of more than 1.
                let probability = sum / totals[i];
                // No number stays none: `min` would make 1 of it.
                confidence[pixel] = if probability > 1.0 { 1.0 } else { probability };
            }
        }
    }
}
