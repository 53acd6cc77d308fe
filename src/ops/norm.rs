//! Batch normalisation with the statistics of the batch, as training needs it, with the ReLU that mostly follows.
//!
//! `y = relu?(gamma (x - mean) / sqrt(var + 1e-5) + beta)` over all positions of a channel; var is the biased variance. Inference
//! never runs this: there the norm is folded into the convolution ([`crate::net::weights`]).
//!
//! Statistics in one pass over x: sums of `x - s` and `(x - s)^2` with s the channel's first value, which takes away the
//! mean that would cancel; f32 within a block of positions, f64 across blocks. Blocks are fixed, so results do not
//! depend on the number of threads. Every pass is bound by memory: two forward, two backward.

use std::cell::OnceCell;
use std::rc::Rc;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::tape::{Op, Saved, Saves};
use crate::tensor::{Buffer, Cpu, Tensor};

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

    /// y = scale (x - center) + shift, a channel at a time: subtracting first keeps the digits that a large mean would cost.
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

impl Affine {
    #[inline(always)]
    fn apply(&self, i: usize, x: f32) -> f32 {
        (x - self.center[i]) * self.scale[i] + self.shift[i]
    }
}

/// The sums over the positions of `f(x, dy)` for two functions of each channel, in f64 across blocks.
fn sums(
    x: &Tensor,
    dy: Option<&Tensor>,
    f: impl Fn(usize, f32, f32) -> (f32, f32) + Sync,
) -> Vec<(f64, f64)> {
    let c = x.shape.c;
    let blocks: Vec<Vec<(f32, f32)>> = x
        .data
        .par_chunks(BLOCK * c)
        .enumerate()
        .map(|(block, x)| {
            let mut sums = vec![(0.0, 0.0); c];
            let dy = dy.map(|dy| &dy.data[block * BLOCK * c..][..x.len()]);
            for (p, x) in x.chunks_exact(c).enumerate() {
                let dy = dy.map_or(x, |dy| &dy[p * c..][..c]);
                for i in 0..c {
                    let (a, b) = f(i, x[i], dy[i]);
                    sums[i].0 += a;
                    sums[i].1 += b;
                }
            }
            sums
        })
        .collect();
    let mut totals = vec![(0.0, 0.0); c];
    for block in blocks {
        for (total, sum) in totals.iter_mut().zip(block) {
            total.0 += f64::from(sum.0);
            total.1 += f64::from(sum.1);
        }
    }
    totals
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
    relu: bool,
) -> Result<(Tensor, BatchStatistics)> {
    check(x, [gamma, beta])?;
    let c = x.shape.c;
    let shift = Buffer::from_slice(&x.data[..c]);
    let n = x.shape.positions() as f64;
    let totals = sums(x, None, |i, x, _| {
        let d = x - shift[i];
        (d, d * d)
    });
    let mean = totals.iter().zip(shift.iter()).map(|((s, _), &v)| f64::from(v) + s / n).collect();
    let variance = totals.iter().map(|(s, s2)| ((s2 - s * s / n) / n).max(0.0)).collect();
    let statistics = BatchStatistics { mean, variance, positions: x.shape.positions() };
    let affine = statistics.affine(gamma, beta);
    let low = if relu { 0.0 } else { f32::NEG_INFINITY };
    let mut y = cpu.tensor(x.shape);
    y.data.par_chunks_mut(BLOCK * c).zip(x.data.par_chunks(BLOCK * c)).for_each(|(y, x)| {
        for (y, x) in y.chunks_exact_mut(c).zip(x.chunks_exact(c)) {
            for i in 0..c {
                y[i] = affine.apply(i, x[i]).max(low);
            }
        }
    });
    Ok((y, statistics))
}

/// Gradients in x, gamma and beta, from those in y; `relu` as in the forward pass (where y is 0 nothing goes through).
///
/// # Errors
/// [`Error::Shape`] where shapes do not fit together.
pub fn backward(
    cpu: &Cpu,
    x: &Tensor,
    (gamma, beta): (&[f32], &[f32]),
    statistics: &BatchStatistics,
    relu: bool,
    dy: &Tensor,
) -> Result<(Tensor, Vec<f32>, Vec<f32>)> {
    check(x, [gamma, beta])?;
    dy.expect_shape("batch norm", "output gradient", x.shape)?;
    let c = x.shape.c;
    let n = x.shape.positions() as f64;
    let affine = statistics.affine(gamma, beta);
    let inverse: Vec<f64> = statistics.variance.iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect();
    // The same expression as forward's, so that the same positions are cut off.
    let through = |i: usize, x: f32, g: f32| if relu && affine.apply(i, x) <= 0.0 { 0.0 } else { g };
    let totals = sums(x, Some(dy), |i, x, g| {
        let g = through(i, x, g);
        (g, g * (x - affine.center[i]))
    });
    let dgamma: Vec<f64> = totals.iter().zip(&inverse).map(|((_, gx), s)| gx * s).collect();
    // dx = scale (dy - mean(dy) - xhat mean(dy xhat)), with xhat = (x - mean) inverse.
    let level: Vec<f32> = totals.iter().map(|(g, _)| (g / n) as f32).collect();
    let slope: Vec<f32> = dgamma.iter().zip(&inverse).map(|(g, s)| (g / n * s) as f32).collect();
    let mut dx = cpu.tensor(x.shape);
    dx.data
        .par_chunks_mut(BLOCK * c)
        .zip(x.data.par_chunks(BLOCK * c).zip(dy.data.par_chunks(BLOCK * c)))
        .for_each(|(dx, (x, dy))| {
            for (dx, (x, dy)) in dx.chunks_exact_mut(c).zip(x.chunks_exact(c).zip(dy.chunks_exact(c))) {
                for i in 0..c {
                    let slope = (x[i] - affine.center[i]) * slope[i];
                    dx[i] = affine.scale[i] * (through(i, x[i], dy[i]) - level[i] - slope);
                }
            }
        });
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
        let (y, statistics) = forward(cpu, inputs[0], &inputs[1].data, &inputs[2].data, self.relu)?;
        // A cell that is full already belongs to an op that ran twice; the first batch stands.
        let _ = self.statistics.set(statistics);
        Ok(y)
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let statistics = self
            .statistics
            .get()
            .ok_or_else(|| Error::Shape { op: "batch norm", problem: "backward before forward".into() })?;
        let (x, gamma, beta) = (saved.input(0)?, saved.input(1)?, saved.input(2)?);
        let (dx, dgamma, dbeta) = backward(cpu, x, (&gamma.data, &beta.data), statistics, self.relu, &dy)?;
        cpu.recycle(dy);
        let vector = |shape, values: &[f32]| Tensor::from_slice(shape, values).map(Some);
        Ok(vec![Some(dx), vector(saved.shape(1), &dgamma)?, vector(saved.shape(2), &dbeta)?])
    }
}
