//! Losses of the depth regression with their gradient in the logits, in one pass over each pixel's planes.
//!
//! With p the softmax over the planes and v their values (depth, or 1 / depth for inverse sampling):
//!
//! - L1 (eq. 7): |depth - truth| in units of the hypothesis interval, with `depth = sum p v` (or its inverse). The
//!   interval is the mean one, (far - near) / (D - 1) in scene units, for inverse sampling as well, so that the loss
//!   is a distance in the scene at every depth and the two samplings can be compared.
//! - Cross-entropy: `- sum q log p`, with q the true bin: the two planes around the truth, weighted linearly in v
//!   (that is, in units of the plane's index). A truth beyond the planes counts as the nearest of them.
//!
//! - Nothing: at pixels whose truth is < 0, where no surface lies within the range, the cross-entropy against all
//!   planes alike, so that the network learns to be unsure there; its weight is a third of the cross-entropy's.
//!
//! The first two are means over the pixels whose truth is finite and > 0, the third is a mean over these and its own.
//! Beside the gradient nothing of D planes is stored: the
//! exponentials wait in its place.

use rayon::prelude::*;

use crate::cpu::device::{Cpu, Shared};
use crate::cpu::ops::depth::Expectation;
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch, exp};
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::net::tensor::{Shape, Tensor};
use crate::scene::camera::Sampling;

/// Pixels at once: a cache line of every plane.
const BLOCK: usize = 16;
/// Blocks of a task.
const BLOCKS: usize = 8;

/// Weight of the loss where nothing is, in weights of the cross-entropy.
const NOTHING_SHARE: f64 = 1.0 / 3.0;

/// How much of each loss makes up the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DepthLoss {
    /// Weight of the L1 distance in intervals; the paper's loss is 1 of it alone.
    pub l1: f32,
    /// Weight of the cross-entropy.
    pub cross_entropy: f32,
}

/// What [`DepthLoss::apply`] finds.
pub struct DepthLossGradient {
    /// The weighted sum of the two losses; 0 where no pixel is valid.
    pub loss: f64,
    /// Mean |depth - truth| in mean intervals.
    pub l1: f64,
    /// Mean cross-entropy, in nats.
    pub cross_entropy: f64,
    /// Pixels with a truth, over which means are taken.
    pub valid: usize,
    /// Expected depth in scene units, for metrics.
    pub depth: Map,
    /// Of the loss in the logits, [D, H, W, 1]; 0 at pixels without a truth.
    pub gradient: Tensor,
}

impl DepthLoss {
    /// Loss and gradient of `logits` [D, H, W, 1] against `truth` [H, W] in scene units; a pixel has a truth where
    /// that is finite and > 0.
    ///
    /// |x|' is 0 at 0.
    ///
    /// # Errors
    /// [`Error::Shape`] where logits, hypotheses and truth do not fit together, with fewer than two hypotheses, or
    /// where those are not in order.
    pub fn apply(
        self,
        cpu: &Cpu,
        expectation: &Expectation,
        logits: &Tensor,
        truth: &Map,
    ) -> Result<DepthLossGradient> {
        let Shape { d, h, w, .. } = logits.shape;
        let problem = |problem: String| Err(Error::Shape { op: "depth loss", problem });
        logits.expect_channels("depth loss", 1)?;
        if d != expectation.planes() || d < 2 || h * w == 0 {
            return problem(format!("logits {} for {} hypotheses; at least 2", logits.shape, expectation.planes()));
        }
        if (truth.width, truth.height) != (w, h) || truth.data.len() != h * w {
            return problem(format!("truth {} x {} for {w} x {h} pixels", truth.width, truth.height));
        }
        let values = &expectation.offsets;
        let ascending = values[0] < values[1];
        if !values.windows(2).all(|v| v[0] != v[1] && (v[0] < v[1]) == ascending) {
            return problem("hypotheses are not in order".to_owned());
        }
        let (first, last) = (expectation.depth(values[0]), expectation.depth(values[d - 1]));
        let interval = f64::from((last - first).abs()) / (d - 1) as f64;
        let valid = truth.data.iter().filter(|&&t| has_truth(t)).count();
        let share = 1.0 / valid.max(1) as f64;
        let empty = truth.data.iter().filter(|&&t| is_nothing(t)).count();
        let of_empty = NOTHING_SHARE * f64::from(self.cross_entropy) / (valid + empty).max(1) as f64;
        let mut gradient = cpu.tensor(logits.shape);
        let mut depth = Map::filled(w, h, 0.0);
        let out = Shared(gradient.data.as_mut_ptr());
        let tasks = depth.data.par_chunks_mut(BLOCK * BLOCKS).enumerate();
        let sums = tasks.map_init(
            || vec![0.0f32; 2 * d * BLOCK],
            |padded, (task, depth)| {
                // All of it, which may be shared, rather than the pointer in it, which may not.
                let out: Shared = out;
                let mut sums = [0.0f64; 3];
                for (block, depth) in depth.chunks_mut(BLOCK).enumerate() {
                    let pixel = (task * BLOCKS + block) * BLOCK;
                    let truth = &truth.data[pixel..pixel + depth.len()];
                    let n = depth.len();
                    let (copy, result) = padded.split_at_mut(d * BLOCK);
                    // SAFETY: pixels pixel .. pixel + n of every plane lie within both tensors, and no other task
                    // touches them in the gradient.
                    let (from, to, stride) = unsafe {
                        if n == BLOCK {
                            (logits.data.as_ptr().add(pixel), out.0.add(pixel), h * w)
                        } else {
                            for (plane, copy) in copy.chunks_exact_mut(BLOCK).enumerate() {
                                copy[..n].copy_from_slice(&logits.data[plane * h * w + pixel..][..n]);
                            }
                            (copy.as_ptr(), result.as_mut_ptr(), BLOCK)
                        }
                    };
                    let weights =
                        [f64::from(self.l1) * share / interval, f64::from(self.cross_entropy) * share, of_empty];
                    let kernel = Block { expectation, from, to, stride, weights, truth, depth };
                    // SAFETY: the level is available; BLOCK values of every plane lie behind both pointers.
                    let found = unsafe { dispatch(cpu.level, kernel) };
                    sums[0] += found[0] / interval;
                    sums[1] += found[1];
                    sums[2] += found[2];
                    if n < BLOCK {
                        for (plane, result) in result.chunks_exact(BLOCK).enumerate() {
                            for (i, &v) in result[..n].iter().enumerate() {
                                // SAFETY: as above.
                                unsafe { out.0.add(plane * h * w + pixel + i).write(v) }
                            }
                        }
                    }
                }
                sums
            },
        );
        // One sum a task, added up in order: the same on any number of threads.
        let sums: Vec<[f64; 3]> = sums.collect();
        let [l1, cross_entropy] = [0, 1].map(|i| sums.iter().map(|s| s[i]).sum::<f64>() * share);
        let nothing = sums.iter().map(|s| s[2]).sum::<f64>() * of_empty;
        let loss = f64::from(self.l1) * l1 + f64::from(self.cross_entropy) * cross_entropy + nothing;
        Ok(DepthLossGradient { loss, l1, cross_entropy, valid, depth, gradient })
    }
}

/// Whether it is known that no surface lies within the range.
fn is_nothing(depth: f32) -> bool {
    depth < 0.0
}

/// Whether a pixel has a truth.
pub(super) fn has_truth(depth: f32) -> bool {
    depth > 0.0 && depth.is_finite()
}

/// The two planes around a value relative to the middle, and how much of it the second has.
fn true_bin(values: &[f32], value: f64) -> (usize, f64) {
    let ascending = values[0] < values[1];
    let beyond = values.partition_point(|&v| (f64::from(v) <= value) == ascending || f64::from(v) == value);
    let low = beyond.clamp(1, values.len() - 1) - 1;
    let (a, b) = (f64::from(values[low]), f64::from(values[low + 1]));
    (low, ((value - a) / (b - a)).clamp(0.0, 1.0))
}

/// Up to BLOCK pixels; returns the sums of |depth - truth| and of the cross-entropy.
struct Block<'a> {
    expectation: &'a Expectation,
    /// BLOCK logits of every plane, `stride` apart.
    from: *const f32,
    to: *mut f32,
    stride: usize,
    /// What a pixel's |depth - truth|, its cross-entropy, and that of one where nothing is, are multiplied by in the
    /// loss.
    weights: [f64; 3],
    truth: &'a [f32],
    depth: &'a mut [f32],
}

impl Kernel for Block<'_> {
    type Output = [f64; 3];
    #[inline(always)]
    unsafe fn run<I: Isa>(self) -> [f64; 3] {
        let Self { expectation, from, to, stride, weights, truth, depth } = self;
        let values = &expectation.offsets;
        let (mut tops, mut totals, mut means) = ([0.0f32; BLOCK], [0.0f32; BLOCK], [0.0f32; BLOCK]);
        for i in (0..BLOCK).step_by(I::Wide::LANES) {
            // SAFETY: the caller vouches for BLOCK values of every plane.
            unsafe {
                let mut top = I::Wide::load(from.add(i));
                for p in 1..values.len() {
                    top = top.max(I::Wide::load(from.add(p * stride + i)));
                }
                let (mut total, mut mean) = (I::Wide::splat(0.0), I::Wide::splat(0.0));
                for (p, &value) in values.iter().enumerate() {
                    let e = exp(I::Wide::load(from.add(p * stride + i)).sub(top));
                    e.store(to.add(p * stride + i));
                    total = total.add(e);
                    mean = e.mul_add(I::Wide::splat(value), mean);
                }
                top.store(tops.as_mut_ptr().add(i));
                total.store(totals.as_mut_ptr().add(i));
                mean.div(total).store(means.as_mut_ptr().add(i));
            }
        }
        // The gradient is p (a (value - mean) + b) - b q: p (.. a ..) of L1, (p - q) b of the cross-entropy.
        // Where nothing is, p c - c / D.
        let (mut a, mut b, mut even) = ([0.0f32; BLOCK], [0.0f32; BLOCK], [0.0f32; BLOCK]);
        let mut bins = [(0, 0.0f64); BLOCK];
        let mut sums = [0.0f64; 3];
        for (i, (&truth, depth)) in truth.iter().zip(depth).enumerate() {
            *depth = expectation.depth(means[i]);
            if is_nothing(truth) {
                b[i] = (weights[2] / f64::from(totals[i])) as f32;
                even[i] = (weights[2] / values.len() as f64) as f32;
                // SAFETY: every p is a plane.
                let logit = |p: usize| f64::from(unsafe { *from.add(p * stride + i) });
                let mean = (0..values.len()).map(logit).sum::<f64>() / values.len() as f64;
                sums[2] += f64::from(tops[i]) + f64::from(totals[i]).ln() - mean;
            }
            if !has_truth(truth) {
                continue;
            }
            let value = expectation.middle + f64::from(means[i]);
            let truth = f64::from(truth);
            // d depth / d value.
            let (expected, slope, truth_value) = match expectation.sampling {
                Sampling::Linear => (value, 1.0, truth),
                Sampling::Inverse => (1.0 / value, -1.0 / (value * value), 1.0 / truth),
            };
            let off = expected - truth;
            let sign = if off == 0.0 { 0.0 } else { off.signum() };
            let (total, (low, part)) = (f64::from(totals[i]), true_bin(values, truth_value - expectation.middle));
            a[i] = (weights[0] * sign * slope / total) as f32;
            b[i] = (weights[1] / total) as f32;
            bins[i] = (low, part);
            // SAFETY: low + 1 is a plane.
            let (l0, l1) = unsafe { (*from.add(low * stride + i), *from.add((low + 1) * stride + i)) };
            let logit = (1.0 - part) * f64::from(l0) + part * f64::from(l1);
            sums[0] += off.abs();
            sums[1] += f64::from(tops[i]) + total.ln() - logit;
        }
        for i in (0..BLOCK).step_by(I::Wide::LANES) {
            // SAFETY: as above.
            unsafe {
                let (a, b) = (I::Wide::load(a.as_ptr().add(i)), I::Wide::load(b.as_ptr().add(i)));
                let (mean, even) = (I::Wide::load(means.as_ptr().add(i)), I::Wide::load(even.as_ptr().add(i)));
                for (p, &value) in values.iter().enumerate() {
                    let at = to.add(p * stride + i);
                    I::Wide::splat(value).sub(mean).mul_add(a, b).mul(I::Wide::load(at)).sub(even).store(at);
                }
            }
        }
        for (i, &truth) in truth.iter().enumerate() {
            if has_truth(truth) {
                let (low, part) = bins[i];
                // SAFETY: as above.
                unsafe {
                    *to.add(low * stride + i) -= (weights[1] * (1.0 - part)) as f32;
                    *to.add((low + 1) * stride + i) -= (weights[1] * part) as f32;
                }
            }
        }
        sums
    }
}
