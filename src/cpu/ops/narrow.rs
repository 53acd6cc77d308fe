//! From the logits of a narrow stage to 1 / depth, and the losses that teach it.
//!
//! With p the softmax over a pixel's hypotheses and o their places in units of the spacing s: `rho = guess + s sum p
//! o`. The losses, each a mean over the pixels that they count:
//!
//! - L1: |sum p o - t| with t = (1 / truth - guess) / s, the truth's place;
//! - cross-entropy: `- sum q log p`, with q the two hypotheses around t, weighted linearly;
//! - guess: log(1 + |t|), for the convex weights that made the guess. Its slope falls with the distance, so that a
//!   few edges do not outweigh everything, but never vanishes: the pixels that lie between two surfaces are the point.
//!
//! The first two count pixels whose truth lies between the hypotheses; what the guess has missed by more, the stage
//! cannot find.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::depth_backward::has_truth;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::net::confidence::{Judge, Known, NARROW};
use crate::net::stage::{Spacing, Stage};
use crate::net::tensor::{Shape, Tensor};

/// More hypotheses than any stage has.
const MOST: usize = 16;
/// Pixels of a task.
const CHUNK: usize = 4096;

/// What a stage searches: hypothesis k of a pixel is guess + `offsets[k]` s(guess).
#[derive(Clone, Debug, PartialEq)]
pub struct Around {
    /// In units of the spacing, ascending by 1.
    pub offsets: Vec<f32>,
    /// The spacing.
    pub spacing: Spacing,
}

/// What a stage knows of its pixels when it has looked at its hypotheses.
pub struct Evidence<'a> {
    /// Of the hypotheses, in units of the spacing.
    pub offsets: &'a [f32],
    /// The spacing.
    pub spacing: Spacing,
    /// 1 / depth [1, H, W, 1] that they lie around.
    pub guess: &'a Tensor,
    /// The expected offset, [H, W].
    pub found: &'a Map,
    /// The offsets' variance, [H, W].
    pub variance: &'a Map,
}

impl Evidence<'_> {
    /// Of pixel x of row y, with the confidence of the stage before.
    #[inline(always)]
    fn known(&self, (x, y): (usize, usize), before: f32) -> Known {
        let Shape { h, w, .. } = self.guess.shape;
        let at = y * w + x;
        let guess = &self.guess.data;
        let bend = |low: usize, high: usize| (guess[low] - 2.0 * guess[at] + guess[high]).abs();
        let across = if x > 0 && x + 1 < w { bend(at - 1, at + 1) } else { 0.0 };
        let down = if y > 0 && y + 1 < h { bend(at - w, at + w) } else { 0.0 };
        let farthest = self.offsets.last().copied().unwrap_or(1.0).max(0.5);
        Known {
            before,
            spread: self.variance.data[at].sqrt() * self.spacing.at(guess[at]),
            shift: self.found.data[at].abs() / farthest,
            bend: across.max(down),
        }
    }

    /// Turns the confidence of the stage before, [1, H, W, 1], into that of this one.
    pub fn judge(&self, judge: &Judge, stage: &Stage, confidence: &mut Tensor) {
        let Some(probability) = judge.narrow(stage.step) else { return };
        let w = self.guess.shape.w;
        confidence.data.par_chunks_mut(w).enumerate().for_each(|(y, row)| {
            row.iter_mut().enumerate().for_each(|(x, p)| *p = probability(&self.known((x, y), *p)));
        });
    }

    /// What the judge's regression reads, [1, H, W, [`NARROW`]].
    pub fn shown(&self, judge: &Judge, before: &Tensor) -> Tensor {
        let Shape { h, w, .. } = self.guess.shape;
        let mut y = Tensor::zeros(Shape::plane(h, w, NARROW));
        for (at, (read, &before)) in y.data.chunks_exact_mut(NARROW).zip(before.data.iter()).enumerate() {
            read.copy_from_slice(&judge.scale().narrow(&self.known((at % w, at / w), before)));
        }
        y
    }
}

/// How much of each loss makes up a stage's loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NarrowLoss {
    /// Weight of the L1 distance in units of the spacing.
    pub l1: f32,
    /// Weight of the cross-entropy.
    pub cross_entropy: f32,
    /// Weight of the guess's loss.
    pub guess: f32,
}

/// What [`NarrowLoss::apply`] finds.
pub struct NarrowGradient {
    /// The weighted sum of the losses; 0 where no pixel is counted.
    pub loss: f64,
    /// Mean |found - truth| in units of the spacing, over the pixels in reach.
    pub l1: f64,
    /// Share of the pixels with a truth that lie within reach.
    pub reach: f64,
    /// In the logits, [K, H, W, 1].
    pub logits: Tensor,
    /// In the guess, [1, H, W, 1].
    pub guess: Tensor,
}

fn check(around: &Around, logits: &Tensor, guess: &Tensor) -> Result<()> {
    logits.expect_channels("narrow stage", 1)?;
    guess.expect_shape("narrow stage", "guess", Shape { d: 1, ..logits.shape })?;
    let k = around.offsets.len();
    if logits.shape.d == k && (1..=MOST).contains(&k) {
        return Ok(());
    }
    let problem = format!("logits {} for {k} hypotheses; at most {MOST}", logits.shape);
    Err(Error::Shape { op: "narrow stage", problem })
}

/// The probabilities of pixel `i`, in the first K of the array.
fn probabilities(logits: &Tensor, i: usize) -> [f32; MOST] {
    let pixels = logits.shape.h * logits.shape.w;
    let k = logits.shape.d;
    let mut p = [0.0; MOST];
    for (hypothesis, p) in p[..k].iter_mut().enumerate() {
        *p = logits.data[hypothesis * pixels + i];
    }
    let top = p[..k].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    p[..k].iter_mut().for_each(|p| *p = (*p - top).exp());
    let total: f32 = p[..k].iter().sum();
    p[..k].iter_mut().for_each(|p| *p /= total);
    p
}

fn expected(p: &[f32; MOST], offsets: &[f32]) -> f32 {
    offsets.iter().zip(p).map(|(o, p)| o * p).sum()
}

/// 1 / depth [1, H, W, 1] from logits [K, H, W, 1] around a guess [1, H, W, 1]; not beyond infinity.
///
/// # Errors
/// [`Error::Shape`] where they do not fit together.
pub fn refined(cpu: &Cpu, around: &Around, logits: &Tensor, guess: &Tensor) -> Result<Tensor> {
    check(around, logits, guess)?;
    let mut y = cpu.tensor(guess.shape);
    y.data.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, y)| {
        for (i, y) in y.iter_mut().enumerate() {
            let at = chunk * CHUNK + i;
            let guess = guess.data[at];
            let found = expected(&probabilities(logits, at), &around.offsets);
            *y = found.mul_add(around.spacing.at(guess), guess).max(0.0);
        }
    });
    Ok(y)
}

impl NarrowLoss {
    /// Loss and gradients of a stage against `truth` [H, W] in scene units; a pixel has a truth where that is finite
    /// and > 0. |x|' is 0 at 0.
    ///
    /// # Errors
    /// [`Error::Shape`] where logits, guess and truth do not fit together.
    pub fn apply(
        self,
        cpu: &Cpu,
        around: &Around,
        logits: &Tensor,
        guess: &Tensor,
        truth: &Map,
    ) -> Result<NarrowGradient> {
        check(around, logits, guess)?;
        let Shape { h, w, .. } = guess.shape;
        if (truth.width, truth.height) != (w, h) {
            let problem = format!("truth {} x {} for {w} x {h} pixels", truth.width, truth.height);
            return Err(Error::Shape { op: "narrow loss", problem });
        }
        let offsets = &around.offsets;
        let k = offsets.len();
        let place = |i: usize| {
            let step = around.spacing.at(guess.data[i]);
            let found = f64::from(truth.data[i]);
            (has_truth(truth.data[i]) && step > 0.0)
                .then(|| ((1.0 / found - f64::from(guess.data[i])) / f64::from(step), f64::from(step)))
        };
        let (first, last) = (f64::from(offsets[0]), f64::from(offsets[k - 1]));
        let in_reach = |t: f64| (first..=last).contains(&t);
        let places: Vec<Option<(f64, f64)>> = (0..h * w).into_par_iter().map(place).collect();
        let valid = places.iter().flatten().count();
        let reached = places.iter().flatten().filter(|(t, _)| in_reach(*t)).count();
        let [of_valid, of_reached] = [valid, reached].map(|n| 1.0 / n.max(1) as f64);
        let mut found = NarrowGradient {
            loss: 0.0,
            l1: 0.0,
            reach: reached as f64 * of_valid,
            logits: cpu.tensor(logits.shape),
            guess: cpu.tensor(guess.shape),
        };
        found.logits.data.fill(0.0);
        found.guess.data.fill(0.0);
        let mut cross_entropy = 0.0;
        let mut of_guess = 0.0;
        for (i, place) in places.iter().enumerate() {
            let Some((t, step)) = *place else { continue };
            of_guess += t.abs().ln_1p();
            let slope = if t == 0.0 { 0.0 } else { -t.signum() / (1.0 + t.abs()) / step };
            found.guess.data[i] = (f64::from(self.guess) * of_valid * slope) as f32;
            if !in_reach(t) {
                continue;
            }
            let p = probabilities(logits, i);
            let mean = f64::from(expected(&p, offsets));
            let off = mean - t;
            let sign = if off == 0.0 { 0.0 } else { off.signum() };
            found.l1 += off.abs();
            let low = ((t - first).floor() as usize).min(k.max(2) - 2);
            let part = (t - first - low as f64).clamp(0.0, 1.0);
            for (j, (&p, &o)) in p[..k].iter().zip(offsets).enumerate() {
                let q = match j {
                    _ if j == low => 1.0 - part,
                    _ if j == low + 1 => part,
                    _ => 0.0,
                };
                let p = f64::from(p);
                if q > 0.0 {
                    cross_entropy -= q * p.max(1e-30).ln();
                }
                let gradient =
                    f64::from(self.l1) * sign * p * (f64::from(o) - mean) + f64::from(self.cross_entropy) * (p - q);
                found.logits.data[j * h * w + i] = (gradient * of_reached) as f32;
            }
        }
        found.l1 *= of_reached;
        found.loss = f64::from(self.l1) * found.l1
            + f64::from(self.cross_entropy) * cross_entropy * of_reached
            + f64::from(self.guess) * of_guess * of_valid;
        Ok(found)
    }
}
