//! Batch normalisation with the statistics of the batch, as training needs it, with the ReLU that mostly follows.
//!
//! `y = relu?(gamma (x - mean) / sqrt(var + 1e-5) + beta)` over all positions of a channel; var is the biased
//! variance. Inference never runs this: there the norm is folded into the convolution ([`crate::cpu::weights`]).
//!
//! Statistics in one pass over x: sums of `x - s` and `(x - s)^2` with s the channel's first value, which takes away
//! the mean that would cancel; f32 within a block of positions, f64 across blocks. Blocks are fixed, so results do not
//! depend on the number of threads. Every pass is bound by memory: two forward, two backward.

use std::cell::OnceCell;
use std::rc::Rc;

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::simd::{Channelwise, Isa, Kernel, Vector, dispatch, each_channel};
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::Tensor;

/// The reference's epsilon.
pub const EPSILON: f64 = 1e-5;

/// Positions of a block.
const BLOCK: usize = 1024;

/// What a forward pass computed of each channel.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// Mean.
    pub mean: Vec<f64>,
    /// Biased variance.
    pub variance: Vec<f64>,
    /// Positions that they were taken over.
    pub positions: usize,
}

impl BatchStatistics {
    /// The variance that PyTorch keeps in its running statistics (divided by n - 1); the biased one for n = 1.
    pub fn unbiased_variance(&self) -> Vec<f64> {
        let n = self.positions as f64;
        let factor = if self.positions > 1 { n / (n - 1.0) } else { 1.0 };
        self.variance.iter().map(|v| v * factor).collect()
    }

    /// y = scale (x - center) + shift, a channel at a time: subtracting first keeps the digits that a large mean would
    /// cost.
    fn affine(&self, gamma: &[f32], beta: &[f32]) -> Affine {
        let center: Vec<f32> = self.mean.iter().map(|&m| m as f32).collect();
        let scale: Vec<f64> =
            gamma.iter().zip(&self.variance).map(|(&g, v)| f64::from(g) / (v + EPSILON).sqrt()).collect();
        let rest = self.mean.iter().zip(&center).map(|(m, &c)| f64::from(c) - m);
        let shift = rest.zip(&scale).zip(beta).map(|((r, s), &b)| (f64::from(b) + r * s) as f32).collect();
        Affine { scale: scale.iter().map(|&s| s as f32).collect(), center, shift }
    }
}

struct Affine {
    center: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// What a pass does with each value x and, in the backward ones, the gradient dy at it.
mod pass {
    /// Sums of `d` and `d^2`, d = x - center.
    pub const STATISTICS: u8 = 0;
    /// y = relu?(scale d + shift).
    pub const FORWARD: u8 = 1;
    /// Sums of `g` and `g d`, with g = dy, or 0 where the ReLU let nothing through; or dx from them.
    pub const BACKWARD: u8 = 2;
    /// As BACKWARD without a ReLU.
    pub const BACKWARD_LINEAR: u8 = 3;
}

/// G vectors of neighbouring channels of one position.
#[inline(always)]
unsafe fn load<V: Vector, const G: usize>(from: *const f32) -> [V; G] {
    // SAFETY: the caller vouches for the instruction set and G * LANES values.
    unsafe {
        let mut v = [V::splat(0.0); G];
        for (g, v) in v.iter_mut().enumerate() {
            *v = V::load(from.add(g * V::LANES));
        }
        v
    }
}

/// What a channel's values go through, a vector of channels at a time.
#[derive(Clone, Copy)]
struct Channels<V, const G: usize> {
    center: [V; G],
    scale: [V; G],
    shift: [V; G],
}

impl<V: Vector, const G: usize> Channels<V, G> {
    #[inline(always)]
    unsafe fn load(affine: &Affine, at: usize) -> Self {
        // SAFETY: the caller vouches for the instruction set and G * LANES channels from `at` on.
        unsafe {
            Self {
                center: load(affine.center.as_ptr().add(at)),
                scale: load(affine.scale.as_ptr().add(at)),
                shift: load(affine.shift.as_ptr().add(at)),
            }
        }
    }

    /// x - center, and what reaches the norm of the gradient dy at x.
    #[inline(always)]
    unsafe fn centered<const PASS: u8>(&self, g: usize, x: V, dy: *const f32) -> (V, V) {
        // SAFETY: the caller vouches for the instruction set and, in the passes that read dy, LANES values of it.
        unsafe {
            let d = x.sub(self.center[g]);
            let gradient = match PASS {
                pass::STATISTICS => d,
                // The same expression as forward's, so that the same positions are cut off.
                pass::BACKWARD => {
                    let zero = V::splat(0.0);
                    self.output(g, d).select_gt(zero, V::load(dy), zero)
                }
                _ => V::load(dy),
            };
            (d, gradient)
        }
    }

    #[inline(always)]
    unsafe fn output(&self, g: usize, d: V) -> V {
        // SAFETY: as above.
        unsafe { d.mul_add(self.scale[g], self.shift[g]) }
    }
}

/// The two sums of a block of positions, `[first; C]` then `[second; C]`. `dy` is x itself where the pass has none.
struct Sums<'a, const PASS: u8> {
    x: &'a [f32],
    dy: &'a [f32],
    affine: &'a Affine,
    sums: &'a mut [f32],
}

impl<const PASS: u8> Channelwise for Sums<'_, PASS> {
    #[inline(always)]
    unsafe fn channels<V: Vector, const G: usize, const U: usize>(&mut self, at: usize) {
        let c = self.sums.len() / 2;
        let positions = self.x.len() / c;
        // SAFETY: the caller vouches for G * LANES channels from `at` on; `run` compared the lengths.
        unsafe {
            let channels = Channels::<V, G>::load(self.affine, at);
            let mut sums = [[[V::splat(0.0); 2]; G]; U];
            let whole = positions / U * U;
            for position in (0..whole).step_by(U) {
                for u in 0..U {
                    self.add(&channels, (position + u) * c + at, &mut sums[u]);
                }
            }
            for position in whole..positions {
                self.add(&channels, position * c + at, &mut sums[0]);
            }
            for g in 0..G {
                for which in 0..2 {
                    let mut total = sums[0][g][which];
                    for apart in &sums[1..] {
                        total = total.add(apart[g][which]);
                    }
                    total.store(self.sums.as_mut_ptr().add(which * c + at + g * V::LANES));
                }
            }
        }
    }
}

impl<const PASS: u8> Sums<'_, PASS> {
    /// The values from index `from` on.
    #[inline(always)]
    unsafe fn add<V: Vector, const G: usize>(&self, channels: &Channels<V, G>, from: usize, sums: &mut [[V; 2]; G]) {
        for (g, sums) in sums.iter_mut().enumerate() {
            let at = from + g * V::LANES;
            // SAFETY: the caller vouches for G * LANES values.
            unsafe {
                let x = V::load(self.x.as_ptr().add(at));
                let (d, gradient) = channels.centered::<PASS>(g, x, self.dy.as_ptr().add(at));
                sums[0] = sums[0].add(gradient);
                sums[1] = gradient.mul_add(d, sums[1]);
            }
        }
    }
}

impl<const PASS: u8> Kernel for Sums<'_, PASS> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        let c = self.sums.len() / 2;
        assert!(self.dy.len() == self.x.len() && self.affine.center.len() == c && self.affine.scale.len() == c);
        assert!(self.affine.shift.len() == c && self.x.len().is_multiple_of(c));
        // SAFETY: all values have C channels.
        unsafe { each_channel::<I, _>(&mut self, c) }
    }
}

/// What a block of positions becomes: y, or dx = scale g + slope d + level. `dy` is x itself where the pass has none.
struct Apply<'a, const PASS: u8> {
    x: &'a [f32],
    dy: &'a [f32],
    affine: &'a Affine,
    slope: &'a [f32],
    level: &'a [f32],
    /// What y is at least.
    low: f32,
    to: &'a mut [f32],
}

impl<const PASS: u8> Channelwise for Apply<'_, PASS> {
    #[inline(always)]
    unsafe fn channels<V: Vector, const G: usize, const U: usize>(&mut self, at: usize) {
        let c = self.slope.len();
        // SAFETY: the caller vouches for G * LANES channels from `at` on; `run` compared the lengths.
        unsafe {
            let channels = Channels::<V, G>::load(self.affine, at);
            let slope: [V; G] = load(self.slope.as_ptr().add(at));
            let level: [V; G] = load(self.level.as_ptr().add(at));
            let low = V::splat(self.low);
            for position in 0..self.x.len() / c {
                let from = position * c + at;
                let (x, dy) = (self.x.as_ptr().add(from), self.dy.as_ptr().add(from));
                for g in 0..G {
                    let i = g * V::LANES;
                    let x = V::load(x.add(i));
                    let value = if PASS == pass::FORWARD {
                        channels.output(g, x.sub(channels.center[g])).max(low)
                    } else {
                        let (d, gradient) = channels.centered::<PASS>(g, x, dy.add(i));
                        gradient.mul_add(channels.scale[g], d.mul_add(slope[g], level[g]))
                    };
                    value.store(self.to.as_mut_ptr().add(from + i));
                }
            }
        }
    }
}

impl<const PASS: u8> Kernel for Apply<'_, PASS> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) {
        let c = self.slope.len();
        let Affine { center, scale, shift } = self.affine;
        assert!([center, scale, shift].iter().all(|p| p.len() == c) && self.level.len() == c);
        assert!(self.dy.len() == self.x.len() && self.to.len() == self.x.len());
        assert!(self.x.len().is_multiple_of(c));
        // SAFETY: all values have C channels.
        unsafe { each_channel::<I, _>(&mut self, c) }
    }
}

/// Each channel's two sums over all positions, in f64 across blocks.
fn sums<const PASS: u8>(cpu: &Cpu, x: &Tensor, dy: &Tensor, affine: &Affine) -> Vec<(f64, f64)> {
    let c = x.shape.c;
    let mut blocks = vec![0.0f32; x.shape.positions().div_ceil(BLOCK) * 2 * c];
    let inputs = x.data.par_chunks(BLOCK * c).zip(dy.data.par_chunks(BLOCK * c));
    blocks.par_chunks_mut(2 * c).zip(inputs).for_each(|(sums, (x, dy))| {
        // SAFETY: the device's level is available; the kernel checks the lengths.
        unsafe { dispatch(cpu.level, Sums::<PASS> { x, dy, affine, sums }) }
    });
    let mut totals = vec![(0.0, 0.0); c];
    for block in blocks.chunks_exact(2 * c) {
        for (i, total) in totals.iter_mut().enumerate() {
            total.0 += f64::from(block[i]);
            total.1 += f64::from(block[c + i]);
        }
    }
    totals
}

/// A tensor of what the pass makes of x and dy.
fn apply<const PASS: u8>(
    cpu: &Cpu,
    (x, dy): (&Tensor, &Tensor),
    affine: &Affine,
    [slope, level]: [&[f32]; 2],
    low: f32,
) -> Tensor {
    let len = BLOCK * x.shape.c;
    let mut to = cpu.tensor(x.shape);
    let inputs = x.data.par_chunks(len).zip(dy.data.par_chunks(len));
    to.data.par_chunks_mut(len).zip(inputs).for_each(|(to, (x, dy))| {
        let kernel = Apply::<PASS> { x, dy, affine, slope, level, low, to };
        // SAFETY: the device's level is available; the kernel checks the lengths.
        unsafe { dispatch(cpu.level, kernel) }
    });
    to
}

fn check(x: &Tensor, parameters: [&[f32]; 2]) -> Result<()> {
    if !x.shape.is_empty() && parameters.iter().all(|p| p.len() == x.shape.c) {
        return Ok(());
    }
    let lengths = parameters.map(<[f32]>::len);
    let problem = format!("input {} with {} and {} parameters", x.shape, lengths[0], lengths[1]);
    Err(Error::Shape { op: "batch norm", problem })
}

/// The normalised x and the batch's statistics.
///
/// # Errors
/// [`Error::Shape`] where x is empty or gamma or beta have another length than its channels.
pub fn forward(
    cpu: &Cpu,
    x: &Tensor,
    gamma: &[f32],
    beta: &[f32],
    activation: Activation,
) -> Result<(Tensor, BatchStatistics)> {
    check(x, [gamma, beta])?;
    let c = x.shape.c;
    let n = x.shape.positions() as f64;
    let ones = vec![1.0; c];
    let first = Affine { center: x.data[..c].to_vec(), scale: ones.clone(), shift: ones };
    let totals = sums::<{ pass::STATISTICS }>(cpu, x, x, &first);
    let mean = totals.iter().zip(&first.center).map(|((s, _), &v)| f64::from(v) + s / n).collect();
    let variance = totals.iter().map(|(s, s2)| ((s2 - s * s / n) / n).max(0.0)).collect();
    let statistics = BatchStatistics { mean, variance, positions: x.shape.positions() };
    let affine = statistics.affine(gamma, beta);
    let low = if activation.is_relu() { 0.0 } else { f32::NEG_INFINITY };
    let y = apply::<{ pass::FORWARD }>(cpu, (x, x), &affine, [&first.shift; 2], low);
    Ok((y, statistics))
}

/// Gradients in x, gamma and beta, from those in y; `activation` as in the forward pass (where y is 0 nothing goes
/// through).
///
/// # Errors
/// [`Error::Shape`] where shapes do not fit together.
pub fn backward(
    cpu: &Cpu,
    x: &Tensor,
    (gamma, beta): (&[f32], &[f32]),
    statistics: &BatchStatistics,
    activation: Activation,
    dy: &Tensor,
) -> Result<(Tensor, Vec<f32>, Vec<f32>)> {
    check(x, [gamma, beta])?;
    dy.expect_shape("batch norm", "output gradient", x.shape)?;
    let n = x.shape.positions() as f64;
    let affine = statistics.affine(gamma, beta);
    let totals = if activation.is_relu() {
        sums::<{ pass::BACKWARD }>(cpu, x, dy, &affine)
    } else {
        sums::<{ pass::BACKWARD_LINEAR }>(cpu, x, dy, &affine)
    };
    let inverse: Vec<f64> = statistics.variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    let dgamma: Vec<f64> = totals.iter().zip(&inverse).map(|((_, gx), s)| gx * s).collect();
    // dx = scale (g - mean(g) - xhat mean(g xhat)), with xhat = (x - mean) inverse.
    let scale = affine.scale.iter().map(|&s| f64::from(s));
    let slope: Vec<f32> =
        scale.clone().zip(dgamma.iter().zip(&inverse)).map(|(a, (g, s))| (-a * g / n * s) as f32).collect();
    let level: Vec<f32> = scale.zip(&totals).map(|(a, (g, _))| (-a * g / n) as f32).collect();
    let dx = if activation.is_relu() {
        apply::<{ pass::BACKWARD }>(cpu, (x, dy), &affine, [&slope, &level], 0.0)
    } else {
        apply::<{ pass::BACKWARD_LINEAR }>(cpu, (x, dy), &affine, [&slope, &level], 0.0)
    };
    let dbeta = totals.iter().map(|&(g, _)| g as f32).collect();
    Ok((dx, dgamma.iter().map(|&g| g as f32).collect(), dbeta))
}

/// Batch norm as an op: inputs x, gamma and beta.
pub struct BatchNormOp {
    /// Whether ReLU follows.
    pub relu: bool,
    /// Takes what the forward pass found of the batch: the running statistics of whoever looks want it, too.
    pub statistics: Rc<OnceCell<BatchStatistics>>,
}

impl Op for BatchNormOp {
    fn name(&self) -> &'static str {
        "batch norm"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(&[0, 1, 2])
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        let (y, statistics) =
            forward(cpu, inputs[0], &inputs[1].data, &inputs[2].data, Activation::relu_if(self.relu))?;
        // A cell that is full already belongs to an op that ran twice; the first batch stands.
        let _ = self.statistics.set(statistics);
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let statistics = self
            .statistics
            .get()
            .ok_or_else(|| Error::Bug { place: "batch norm", problem: "backward before forward".into() })?;
        let (x, gamma, beta) = (saved.input(0)?, saved.input(1)?, saved.input(2)?);
        let (dx, dgamma, dbeta) =
            backward(cpu, x, (&gamma.data, &beta.data), statistics, Activation::relu_if(self.relu), &dy)?;
        cpu.recycle(dy);
        let vector = |shape, values: &[f32]| Tensor::from_slice(shape, values).map(Some);
        Ok(vec![Some(dx), vector(saved.shape(1), &dgamma)?, vector(saved.shape(2), &dbeta)?])
    }
}
