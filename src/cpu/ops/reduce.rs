//! Means over a plane and over the whole volume, in f64: the sums run over up to millions of values.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::Result;
use crate::net::tensor::{Shape, Tensor};

/// Positions that are added up in one go: a number of its own, so that sums do not depend on the threads.
const RUN: usize = 4096;

/// The mean over rows and columns: [D, H, W, C] -> [D, 1, 1, C] (Table I(b)'s mean, one vector a plane).
pub fn plane_mean(x: &Tensor) -> Tensor {
    let Shape { h, w, c, .. } = x.shape;
    let mut y = Tensor::zeros(Shape { h: 1, w: 1, ..x.shape });
    y.data.par_chunks_mut(c).zip(x.data.par_chunks(h * w * c)).for_each(|(y, plane)| {
        for (y, s) in y.iter_mut().zip(sums(plane, c)) {
            *y = (s / (h * w) as f64) as f32;
        }
    });
    y
}

/// The mean over all positions: [D, H, W, C] -> [1, 1, 1, C].
pub fn volume_mean(x: &Tensor) -> Tensor {
    let planes = plane_mean(x);
    let c = x.shape.c;
    let mut y = Tensor::zeros(Shape { d: 1, h: 1, w: 1, c });
    for (i, y) in y.data.iter_mut().enumerate() {
        let sum: f64 = planes.data.iter().skip(i).step_by(c).map(|&m| f64::from(m)).sum();
        *y = (sum / x.shape.d as f64) as f32;
    }
    y
}

/// The sum of each of `c` channels over all positions of `values`, bit-equal for any number of threads.
pub(crate) fn channel_sums(values: &[f32], c: usize) -> Vec<f64> {
    let runs: Vec<Vec<f64>> = values.par_chunks(RUN * c).map(|run| sums(run, c)).collect();
    (0..c).map(|channel| runs.iter().map(|run| run[channel]).sum()).collect()
}

fn sums(values: &[f32], c: usize) -> Vec<f64> {
    let mut sums = vec![0.0f64; c];
    for x in values.chunks_exact(c) {
        for (s, &x) in sums.iter_mut().zip(x) {
            *s += f64::from(x);
        }
    }
    sums
}

/// The gradient in the x of [`plane_mean`], of shape `x`, from the gradient `dy` [D, 1, 1, C] in the means.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where dy is not one vector a plane.
pub fn plane_mean_backward(cpu: &Cpu, dy: &Tensor, x: Shape) -> Result<Tensor> {
    dy.expect_shape("plane mean gradient", "output gradient", Shape { h: 1, w: 1, ..x })?;
    let mut dx = cpu.tensor(x);
    let shares = shares(dy, x.h * x.w);
    let rows = dx.data.par_chunks_mut((x.w * x.c).max(1)).enumerate();
    rows.for_each(|(row, dx)| spread(&shares[row / x.h * x.c..][..x.c], dx));
    Ok(dx)
}

/// The gradient in the x of [`volume_mean`], of shape `x`, from the gradient `dy` [1, 1, 1, C] in the mean.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) where dy is not one vector.
pub fn volume_mean_backward(cpu: &Cpu, dy: &Tensor, x: Shape) -> Result<Tensor> {
    dy.expect_shape("volume mean gradient", "output gradient", Shape { d: 1, h: 1, w: 1, c: x.c })?;
    let mut dx = cpu.tensor(x);
    let shares = shares(dy, x.positions());
    dx.data.par_chunks_mut((x.w * x.c).max(1)).for_each(|dx| spread(&shares, dx));
    Ok(dx)
}

/// What each of the `positions` that a mean was taken over gets.
fn shares(dy: &Tensor, positions: usize) -> Vec<f32> {
    dy.data.iter().map(|&dy| (f64::from(dy) / positions as f64) as f32).collect()
}

fn spread(shares: &[f32], dx: &mut [f32]) {
    dx.chunks_exact_mut(shares.len()).for_each(|dx| dx.copy_from_slice(shares));
}

/// A mean as an op: input x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeanOp {
    /// [`plane_mean`].
    Planes,
    /// [`volume_mean`].
    Volume,
}

impl Op for MeanOp {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn forward(&mut self, _: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        Ok(match self {
            Self::Planes => plane_mean(inputs[0]),
            Self::Volume => volume_mean(inputs[0]),
        })
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dx = match self {
            Self::Planes => plane_mean_backward(cpu, &dy, saved.shape(0)),
            Self::Volume => volume_mean_backward(cpu, &dy, saved.shape(0)),
        };
        Ok(vec![Some(dx?)])
    }
}
