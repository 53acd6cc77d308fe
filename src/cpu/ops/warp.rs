//! Plane-sweep warp: a source view's features on the reference view's frustum.
//!
//! A reference pixel p at depth d lies in the source at `q = d A p + b` ([`PlaneSweep`]); its feature there is read
//! bilinearly, zero outside the image, and zero altogether where `q_z <= 1e-6` (SPEC "Geometry").
//!
//! The work is split in two: positions and weights for a run of pixels (here, a vector of pixels at a time), then the
//! gathering of whole channel vectors (here for a plain warp; in [`crate::cpu::ops::sweep`] fused with what follows).

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::error::{Error, Result};
use crate::net::tensor::{Shape, Tensor};
use crate::scene::camera::PlaneSweep;

/// Channels of a feature map at a quarter of the photo's sides; those of the narrow stages have 16 and 8.
pub const CHANNELS: usize = 32;

/// The most pixels of a row that are handled at once: their taps, differences and costs stay in the L1 cache.
pub(crate) const RUN: usize = 80;

/// Four bilinear taps for a run of pixels: pixel indices into the source and weights (zero where outside).
pub(crate) struct Taps {
    pub index: [[i32; RUN]; 4],
    pub weight: [[f32; RUN]; 4],
}

impl Taps {
    pub fn new() -> Self {
        Self { index: [[0; RUN]; 4], weight: [[0.0; RUN]; 4] }
    }
}

static LANE: [f32; 16] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// Fills `taps` for reference pixels (x .. x + n, y) at depth `d`, n <= RUN, and a source of `width` x `height`.
///
/// # Safety
/// The processor must have V's instruction set.
#[inline(always)]
pub(crate) unsafe fn locate<V: Vector>(
    taps: &mut Taps,
    sweep: &PlaneSweep,
    d: f32,
    (x, y, n): (usize, usize, usize),
    size: (usize, usize),
) {
    // SAFETY: as promised by the caller.
    unsafe {
        locate_at::<V>(taps, sweep, (x, y, n), size, |_, ray, b| ray.mul_add(V::splat(d), b));
    }
}

/// As [`locate`], for pixels that each have their own 1 / depth in `rho`: `q = A p + rho b`, which is the other one
/// divided by the depth.
///
/// # Safety
/// As [`locate`]; `rho` holds RUN values.
#[inline(always)]
pub(crate) unsafe fn locate_inverse<V: Vector>(
    taps: &mut Taps,
    sweep: &PlaneSweep,
    rho: &[f32; RUN],
    (x, y, n): (usize, usize, usize),
    size: (usize, usize),
) {
    // SAFETY: i + LANES <= RUN, what `rho` holds; else as promised by the caller.
    unsafe {
        locate_at::<V>(taps, sweep, (x, y, n), size, |i, ray, b| V::load(rho.as_ptr().add(i)).mul_add(b, ray));
    }
}

/// Taps where `place` says that pixels i .. i + LANES lie, homogeneous, given a row each of A p and of b.
#[inline(always)]
unsafe fn locate_at<V: Vector>(
    taps: &mut Taps,
    PlaneSweep { a, b }: &PlaneSweep,
    (x, y, n): (usize, usize, usize),
    (width, height): (usize, usize),
    place: impl Fn(usize, V, V) -> V,
) {
    debug_assert!(n <= RUN && RUN.is_multiple_of(V::LANES));
    // SAFETY: i + LANES <= RUN, as RUN is a multiple of LANES; LANE has at least LANES elements.
    unsafe {
        let s = |v: f32| V::splat(v);
        let y = y as f32;
        let (zero, one) = (s(0.0), s(1.0));
        // A tap is inside where -0.5 < index < size - 0.5 (indices are whole numbers).
        let (inside, last_x, last_y) = (s(-0.5), s(width as f32 - 0.5), s(height as f32 - 0.5));
        let (max_x, max_y) = (s(width as f32 - 1.0), s(height as f32 - 1.0));
        for i in (0..n).step_by(V::LANES) {
            let px = V::load(LANE.as_ptr()).add(s((x + i) as f32));
            let q = |r: usize| place(i, px.mul_add(s(a[r][0]), s(a[r][1] * y + a[r][2])), s(b[r]));
            let z = q(2);
            let front = s(1e-6);
            let safe = z.select_gt(front, z, one);
            let outside = s(-10.0);
            // Clamped so that indices fit an i32; beyond one pixel outside every weight is zero anyway.
            let u = z.select_gt(front, q(0).div(safe), outside).max(s(-2.0)).min(s(width as f32 + 1.0));
            let v = z.select_gt(front, q(1).div(safe), outside).max(s(-2.0)).min(s(height as f32 + 1.0));
            let (u0, v0) = (u.floor(), v.floor());
            let (u1, v1) = (u0.add(one), v0.add(one));
            let (fu, fv) = (u.sub(u0), v.sub(v0));
            let keep = |w: V, at: V, last: V| at.select_gt(inside, last.select_gt(at, w, zero), zero);
            let (wu0, wu1) = (keep(one.sub(fu), u0, last_x), keep(fu, u1, last_x));
            let (wv0, wv1) = (keep(one.sub(fv), v0, last_y), keep(fv, v1, last_y));
            let clamp = |at: V, max: V| at.max(zero).min(max);
            // Exact in f32 below 2^24 source pixels.
            let (row0, row1) = (clamp(v0, max_y).mul(s(width as f32)), clamp(v1, max_y).mul(s(width as f32)));
            let (c0, c1) = (clamp(u0, max_x), clamp(u1, max_x));
            let all = [(row0, c0, wv0, wu0), (row0, c1, wv0, wu1), (row1, c0, wv1, wu0), (row1, c1, wv1, wu1)];
            for (t, (row, column, wv, wu)) in all.into_iter().enumerate() {
                row.add(column).store_i32(taps.index[t].as_mut_ptr().add(i));
                wv.mul(wu).store(taps.weight[t].as_mut_ptr().add(i));
            }
        }
    }
}

/// The most pixels a feature map may have: tap indices are computed in f32.
pub const MAX_FEATURE_PIXELS: usize = 1 << 24;

/// Fails with the op's name unless `map` is one plane of 1 to [`MAX_FEATURE_PIXELS`] pixels with so many channels: what
/// [`locate`] and [`gather`] count on.
pub(crate) fn expect_features(op: &'static str, map: &Tensor, channels: usize) -> Result<()> {
    map.expect_channels(op, channels)?;
    if map.shape.is_empty() || map.shape.d != 1 || map.shape.positions() > MAX_FEATURE_PIXELS {
        let problem = format!("features {}; expected 1 plane of 1 to {MAX_FEATURE_PIXELS} pixels", map.shape);
        return Err(Error::Shape { op, problem });
    }
    Ok(())
}

/// One vector of the bilinear feature of pixel `p`, channels `c ..`.
///
/// # Safety
/// `features` must hold C values at each index of `taps`; p < RUN; c + LANES <= C.
#[inline(always)]
pub(crate) unsafe fn gather<V: Vector, const C: usize>(features: *const f32, taps: &Taps, p: usize, c: usize) -> V {
    // SAFETY: as promised by the caller.
    unsafe {
        let at = |t: usize| V::load(features.add(*taps.index[t].get_unchecked(p) as usize * C + c));
        let weight = |t: usize| V::splat(*taps.weight[t].get_unchecked(p));
        let sum = at(0).mul(weight(0));
        let sum = at(1).mul_add(weight(1), sum);
        let sum = at(2).mul_add(weight(2), sum);
        at(3).mul_add(weight(3), sum)
    }
}

/// The warped volume itself: features [1, Hs, Ws, 32] -> [D, height, width, 32], one plane a depth.
///
/// # Errors
/// [`Error::Shape`] where the features are no feature map or the volume would be empty.
pub fn warp(
    cpu: &Cpu,
    features: &Tensor,
    sweep: &PlaneSweep,
    depths: &[f32],
    (height, width): (usize, usize),
) -> Result<Tensor> {
    expect_features("warp", features, CHANNELS)?;
    let shape = Shape { d: depths.len(), h: height, w: width, c: CHANNELS };
    if shape.is_empty() {
        return Err(Error::Shape { op: "warp", problem: format!("empty volume {shape}") });
    }
    let mut y = cpu.tensor(shape);
    y.data.par_chunks_mut(width * CHANNELS).enumerate().for_each_init(Taps::new, |taps, (row, y)| {
        for (run, y) in y.chunks_mut(RUN * CHANNELS).enumerate() {
            let at = (run * RUN, row % height);
            let kernel = WarpRun { features, sweep, depth: depths[row / height], at, taps, y };
            // SAFETY: the level is available; runs are at most RUN pixels long.
            unsafe { dispatch(cpu.level, kernel) }
        }
    });
    Ok(y)
}

struct WarpRun<'a> {
    features: &'a Tensor,
    sweep: &'a PlaneSweep,
    depth: f32,
    at: (usize, usize),
    taps: &'a mut Taps,
    y: &'a mut [f32],
}

impl Kernel for WarpRun<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = self.y.len() / CHANNELS;
        let size = (self.features.shape.w, self.features.shape.h);
        // SAFETY: locate's indices lie within the source, whose pixels have CHANNELS values.
        unsafe {
            locate::<I::Wide>(self.taps, self.sweep, self.depth, (self.at.0, self.at.1, n), size);
            for p in 0..n {
                for c in (0..CHANNELS).step_by(I::Wide::LANES) {
                    let v = gather::<I::Wide, CHANNELS>(self.features.data.as_ptr(), self.taps, p, c);
                    v.store(self.y.as_mut_ptr().add(p * CHANNELS + c));
                }
            }
        }
    }
}
