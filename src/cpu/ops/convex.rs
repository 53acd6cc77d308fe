//! A map at twice its resolution, by convex combinations (RAFT's upsampling, for maps of 1 / depth).
//!
//! The four fine pixels (2 y + i, 2 x + j) of a coarse pixel (y, x) are each a mean of the 3 x 3 coarse pixels around
//! it (at the border the nearest ones), weighted by the softmax of nine numbers: number `9 (2 i + j) + 3 (v + 1) + u +
//! 1` belongs to coarse pixel (y + v, x + u). A mean of a few neighbours can follow an edge, interpolation cannot.
//!
//! The gradient flows into the weights alone: the map is what the stage before has found.

use rayon::prelude::*;

use crate::cpu::device::{Cpu, Shared};
use crate::cpu::tape::{Op, Saved, Saves};
use crate::error::{Error, Result};
use crate::net::stage::CONVEX;
use crate::net::tensor::{Shape, Tensor};

/// Coarse pixels around one.
const TAPS: usize = CONVEX / 4;

/// `map` [1, H, W, 1] and `weights` [1, H, W, 36] to [1, 2 H, 2 W, 1].
///
/// # Errors
/// [`Error::Shape`] where they do not fit together.
pub fn upsample_convex(cpu: &Cpu, map: &Tensor, weights: &Tensor) -> Result<Tensor> {
    check(map, weights)?;
    let Shape { h, w, .. } = map.shape;
    let mut y = cpu.tensor(Shape::plane(2 * h, 2 * w, 1));
    y.data.par_chunks_mut(4 * w).enumerate().for_each(|(row, y)| {
        let (upper, lower) = y.split_at_mut(2 * w);
        for x in 0..w {
            let around = around(map, row, x);
            let own = &weights.data[(row * w + x) * CONVEX..][..CONVEX];
            let mut fine = own.chunks_exact(TAPS).map(|weights| {
                let p = softmax(weights);
                p.iter().zip(&around).map(|(p, v)| p * v).sum::<f32>()
            });
            for out in [&mut upper[2 * x..2 * x + 2], &mut lower[2 * x..2 * x + 2]] {
                out.iter_mut().zip(&mut fine).for_each(|(out, v)| *out = v);
            }
        }
    });
    Ok(y)
}

/// The gradient in the weights, from that in the result, [1, 2 H, 2 W, 1].
///
/// # Errors
/// [`Error::Shape`] where the tensors do not fit together.
pub fn upsample_convex_backward(cpu: &Cpu, map: &Tensor, weights: &Tensor, dy: &Tensor) -> Result<Tensor> {
    check(map, weights)?;
    let Shape { h, w, .. } = map.shape;
    dy.expect_shape("convex upsampling", "gradient", Shape::plane(2 * h, 2 * w, 1))?;
    let mut dw = cpu.tensor(weights.shape);
    let out = Shared(dw.data.as_mut_ptr());
    (0..h).into_par_iter().for_each(|row| {
        // All of it, which may be shared, rather than the pointer in it, which may not.
        let out: Shared = out;
        // SAFETY: a row's weights belong to its task alone.
        let dw = unsafe { std::slice::from_raw_parts_mut(out.0.add(row * w * CONVEX), w * CONVEX) };
        for (x, dw) in dw.chunks_exact_mut(CONVEX).enumerate() {
            let around = around(map, row, x);
            let own = &weights.data[(row * w + x) * CONVEX..][..CONVEX];
            for (part, (weights, dw)) in own.chunks_exact(TAPS).zip(dw.chunks_exact_mut(TAPS)).enumerate() {
                let p = softmax(weights);
                let mean: f32 = p.iter().zip(&around).map(|(p, v)| p * v).sum();
                let g = dy.data[(2 * row + part / 2) * 2 * w + 2 * x + part % 2];
                for ((dw, p), v) in dw.iter_mut().zip(p).zip(&around) {
                    *dw = g * p * (v - mean);
                }
            }
        }
    });
    Ok(dw)
}

fn check(map: &Tensor, weights: &Tensor) -> Result<()> {
    map.expect_channels("convex upsampling", 1)?;
    weights.expect_shape("convex upsampling", "weights", map.shape.with_channels(CONVEX))?;
    if map.shape.d == 1 && !map.shape.is_empty() {
        return Ok(());
    }
    Err(Error::Shape { op: "convex upsampling", problem: format!("map {}; expected one plane", map.shape) })
}

/// The map's values around (row, x).
#[inline(always)]
fn around(map: &Tensor, row: usize, x: usize) -> [f32; TAPS] {
    let Shape { h, w, .. } = map.shape;
    let rows = [row.saturating_sub(1), row, (row + 1).min(h - 1)];
    let columns = [x.saturating_sub(1), x, (x + 1).min(w - 1)];
    std::array::from_fn(|t| map.data[rows[t / 3] * w + columns[t % 3]])
}

#[inline(always)]
fn softmax(logits: &[f32]) -> [f32; TAPS] {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: [f32; TAPS] = std::array::from_fn(|t| (logits[t] - top).exp());
    let total: f32 = e.iter().sum();
    e.map(|e| e / total)
}

/// [`upsample_convex`] on the tape: inputs the map, a constant, and the weights.
pub struct ConvexOp;

impl Op for ConvexOp {
    fn name(&self) -> &'static str {
        "convex upsampling"
    }

    fn saves(&self) -> Saves {
        Saves::inputs(&[0, 1])
    }

    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        upsample_convex(cpu, inputs[0], inputs[1])
    }

    fn backward(&self, cpu: &Cpu, saved: &Saved, dy: Tensor, _: &[bool]) -> Result<Vec<Option<Tensor>>> {
        let dw = upsample_convex_backward(cpu, saved.input(0)?, saved.input(1)?, &dy)?;
        cpu.recycle(dy);
        Ok(vec![None, Some(dw)])
    }
}
