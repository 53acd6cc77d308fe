//! Depth by the photos themselves: normalised cross-correlation (NCC) of small windows around a depth that is nearly
//! right already.
//!
//! A pixel has [`TAPS`] hypotheses, evenly spaced in 1 / depth around its own. A window of 5 x 5 pixels is compared
//! with what each source shows of it, every pixel of the window at its own depth plus the same step, so that windows
//! follow slanted surfaces and edges. A hypothesis is worth the mean of its two best sources (one may be covered). The
//! best hypothesis moves the depth, to a fraction by a parabola through its neighbours, but only where the photos
//! really say something: the window has texture, the correlation is high, and the best one is not the last one.
//! Elsewhere the network knows better, since it reads more than a window: ungated, NCC makes maps worse.
//!
//! Work is done in tiles that stay in the L2 cache: a tile's photo is warped once a hypothesis and source, and window
//! sums are taken in rows and then in columns. Warping bounds the speed: 4 loads a pixel, hypothesis and source.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::cpu::device::{Cpu, Shared};
use crate::cpu::ops::warp::{MAX_FEATURE_PIXELS, RUN, Taps, locate_inverse};
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::net::confidence::Scale;
use crate::net::config::Resolution;
use crate::net::tensor::{Shape, Tensor};
use crate::scene::camera::PlaneSweep;
use crate::scene::photo::Photo;

/// Hypotheses of a pixel.
pub const TAPS: usize = 7;
/// Photo pixels that a point moves by, in a middling source view, from one hypothesis to the next.
pub const STEP_PX: f32 = 0.2;
/// The window reaches so many pixels from its middle.
const REACH: usize = 2;
const SIDE: usize = 2 * REACH + 1;
/// Least r |r| of the best hypothesis, of a correlation of 0.6.
pub const LEAST_WORTH: f32 = 0.6 * 0.6;
/// Least variance of grey (0..1) in the window, of a deviation of 0.01.
pub const LEAST_VARIANCE: f32 = 0.01 * 0.01;
/// Rows and columns of a tile without the windows' reach.
const TILE: (usize, usize) = (32, 240);
/// Columns of a tile's buffers: the tile, the reach on either side, and what a vector reads beyond.
const STRIDE: usize = TILE.1 + 2 * RUN;
/// Worse than any correlation.
const NONE: f32 = -2.0;

/// A photo's grey values less 0.5, [1, H, W, 1] (Rec. 601): sums of squares lose fewer digits around zero.
pub fn grey(photo: &Photo) -> Tensor {
    let mut y = Tensor::zeros(Shape::plane(photo.height, photo.width, 1));
    y.data.par_chunks_mut(photo.width.max(1)).zip(photo.rgb.par_chunks(3 * photo.width.max(1))).for_each(|(y, rgb)| {
        for (y, p) in y.iter_mut().zip(rgb.chunks_exact(3)) {
            *y = 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2] - 0.5;
        }
    });
    y
}

/// What depths are held against.
pub struct Photos<'a> {
    /// [1, H, W, 1], of [`grey`].
    pub reference: &'a Tensor,
    /// Each source's and where the reference's pixels lie in it.
    pub sources: &'a [(&'a Tensor, PlaneSweep)],
    /// Distance of hypotheses in 1 / depth.
    pub step: f32,
}

/// Whether there is something to hold a map of this size against: photos in grey of these shapes.
///
/// # Errors
/// [`Error::Shape`] where photos are no planes, or the map has another size than the reference.
pub fn can_refine(reference: Shape, sources: &[Shape], step: f32, (width, height): (usize, usize)) -> Result<bool> {
    const OP: &str = "photometric refinement";
    let wrong = |problem: String| Err(Error::Shape { op: OP, problem });
    for photo in sources.iter().chain([&reference]) {
        let is_plane = *photo == Shape::plane(photo.h, photo.w, 1) && !photo.is_empty();
        if !is_plane || photo.positions() > MAX_FEATURE_PIXELS {
            return wrong(format!("a photo {photo}; expected 1 plane of 1 to {MAX_FEATURE_PIXELS} grey pixels"));
        }
    }
    let Shape { h, w, .. } = reference;
    if (width, height) != (w, h) {
        return wrong(format!("a map of {width} x {height} for a photo of {w} x {h}"));
    }
    Ok(!sources.is_empty() && step > 0.0 && step.is_finite())
}

/// Pixels of a photo to one of its feature map, whose homographies sources come with.
const QUARTER: f32 = Resolution::Quarter.step() as f32;

/// The distance of hypotheses in a view of a scene, and the homography of photo pixels of each of its `sources`, which
/// come with those of a quarter of the photo's sides: steps are of a photo pixel in a middling source (`scale`).
pub fn of_view<G>(sources: impl Iterator<Item = (G, PlaneSweep)>, scale: &Scale) -> (Vec<(G, PlaneSweep)>, f32) {
    (sources.map(|(grey, sweep)| (grey, sweep.finer(QUARTER))).collect(), STEP_PX * scale.pixel)
}

/// [`refine`] as a view of a scene needs it ([`of_view`]).
///
/// # Errors
/// Those of [`refine`].
pub fn refine_view<'a>(
    cpu: &Cpu,
    reference: &Tensor,
    sources: impl Iterator<Item = (&'a Tensor, PlaneSweep)>,
    scale: &Scale,
    depth: &mut Map,
) -> Result<usize> {
    let (sources, step) = of_view(sources, scale);
    refine(cpu, &Photos { reference, sources: &sources, step }, depth)
}

/// Moves the depths [H, W] to where the photos agree best. Returns how many pixels were sure enough to be moved.
///
/// # Errors
/// Those of [`can_refine`].
pub fn refine(cpu: &Cpu, photos: &Photos, depth: &mut Map) -> Result<usize> {
    let sources: Vec<Shape> = photos.sources.iter().map(|source| source.0.shape).collect();
    if !can_refine(photos.reference.shape, &sources, photos.step, (depth.width, depth.height))? {
        return Ok(0);
    }
    let Shape { h, w, .. } = photos.reference.shape;
    let mut rho = cpu.tensor(photos.reference.shape);
    rho.data.par_iter_mut().zip(depth.data.par_iter()).for_each(|(rho, depth)| *rho = 1.0 / depth);
    let moved = AtomicUsize::new(0);
    let out = Shared(depth.data.as_mut_ptr());
    let (rows, columns) = (h.div_ceil(TILE.0), w.div_ceil(TILE.1));
    (0..rows * columns).into_par_iter().for_each_init(Tile::new, |tile, index| {
        let (top, left) = (index / columns * TILE.0, index % columns * TILE.1);
        let size = (TILE.0.min(h - top), TILE.1.min(w - left));
        let kernel = TileRun { photos, rho: &rho, at: (top, left), size, tile, out };
        // SAFETY: the level is available; tiles lie within the map and do not overlap.
        let of_tile = unsafe { dispatch(cpu.level, kernel) };
        moved.fetch_add(of_tile, Ordering::Relaxed);
    });
    cpu.recycle(rho);
    Ok(moved.into_inner())
}

/// A thread's buffers, [rows, STRIDE] each.
struct Tile {
    taps: Box<Taps>,
    /// The reference with its reach, and one source warped to it.
    own: Vec<f32>,
    warped: Vec<f32>,
    /// Of windows of the reference: mean and variance.
    mean: Vec<f32>,
    variance: Vec<f32>,
    /// Sums over the rows of a window, of a warped photo, its square, and its product with the reference.
    sums: [Vec<f32>; 3],
    /// The two best sources of a hypothesis so far.
    best: [Vec<f32>; 2],
    /// What each hypothesis is worth.
    worth: [Vec<f32>; TAPS],
}

impl Tile {
    fn new() -> Self {
        let inner = || vec![0.0; TILE.0 * STRIDE];
        let whole = || vec![0.0; (TILE.0 + 2 * REACH) * STRIDE];
        Self {
            taps: Box::new(Taps::new()),
            own: whole(),
            warped: whole(),
            mean: inner(),
            variance: inner(),
            sums: std::array::from_fn(|_| vec![0.0; STRIDE]),
            best: std::array::from_fn(|_| inner()),
            worth: std::array::from_fn(|_| inner()),
        }
    }
}

struct TileRun<'a> {
    photos: &'a Photos<'a>,
    /// 1 / depth, [1, H, W, 1].
    rho: &'a Tensor,
    /// First row and column.
    at: (usize, usize),
    /// Rows and columns.
    size: (usize, usize),
    tile: &'a mut Tile,
    out: Shared,
}

impl Kernel for TileRun<'_> {
    type Output = usize;
    #[inline(always)]
    unsafe fn run<I: Isa>(mut self) -> usize {
        // SAFETY: as promised by whoever runs it.
        unsafe {
            self.reference();
            for tap in 0..TAPS {
                self.tile.best.iter_mut().for_each(|best| best.fill(NONE));
                for source in 0..self.photos.sources.len() {
                    self.warp::<I::Wide>(source, tap);
                    self.correlate::<I::Wide>();
                }
                self.mean_of_best(tap);
            }
            self.choose()
        }
    }
}

impl TileRun<'_> {
    /// The photo's row and column that belong to a place of the buffers with reach: the nearest ones at the border.
    fn row(&self, row: usize) -> usize {
        (self.at.0 + row).saturating_sub(REACH).min(self.rho.shape.h - 1)
    }

    /// Copies the reference with its reach; mean and variance of its windows.
    #[inline(always)]
    fn reference(&mut self) {
        let (rows, columns) = self.size;
        let w = self.rho.shape.w;
        for row in 0..rows + 2 * REACH {
            let from = self.row(row) * w;
            for x in 0..columns + 2 * REACH {
                let at = (self.at.1 + x).saturating_sub(REACH).min(w - 1);
                self.tile.own[row * STRIDE + x] = self.photos.reference.data[from + at];
            }
        }
        const SHARE: f32 = 1.0 / (SIDE * SIDE) as f32;
        for row in 0..rows {
            let own = &self.tile.own;
            let [sum, square, _] = &mut self.tile.sums;
            for x in 0..columns + 2 * REACH {
                let column = |k: usize| own[(row + k) * STRIDE + x];
                sum[x] = (0..SIDE).map(column).sum();
                square[x] = (0..SIDE).map(|k| column(k) * column(k)).sum();
            }
            for x in 0..columns {
                let mean = SHARE * sum[x..x + SIDE].iter().sum::<f32>();
                self.tile.mean[row * STRIDE + x] = mean;
                let variance = SHARE * square[x..x + SIDE].iter().sum::<f32>() - mean * mean;
                self.tile.variance[row * STRIDE + x] = variance.max(1e-12);
            }
        }
    }

    /// A source as seen from the reference with every pixel moved to hypothesis `tap`; NaN outside the source, so that
    /// no window with such a pixel counts.
    #[inline(always)]
    unsafe fn warp<V: Vector>(&mut self, source: usize, tap: usize) {
        let (photo, sweep) = &self.photos.sources[source];
        let size = (photo.shape.w, photo.shape.h);
        let w = self.rho.shape.w;
        let more = (tap as f32 - (TAPS / 2) as f32) * self.photos.step;
        let (first, last) = (self.at.1.saturating_sub(REACH), (self.at.1 + self.size.1 + REACH).min(w));
        let shift = first + REACH - self.at.1;
        let data = photo.data.as_ptr();
        let mut rho = [1.0; RUN];
        for row in 0..self.size.0 + 2 * REACH {
            let y = self.row(row);
            let warped = &mut self.tile.warped[row * STRIDE..][..STRIDE];
            for x in (first..last).step_by(RUN) {
                let n = RUN.min(last - x);
                let own = &self.rho.data[y * w + x..][..n];
                rho.iter_mut().zip(own).for_each(|(rho, own)| *rho = (own + more).max(0.0));
                let taps = &mut *self.tile.taps;
                // SAFETY: as promised by the caller; the indices lie within the source.
                unsafe {
                    locate_inverse::<V>(taps, sweep, &rho, (x, y, n), size);
                    let out = &mut warped[shift + x - first..][..n];
                    for (p, out) in out.iter_mut().enumerate() {
                        let weight = |t: usize| *taps.weight[t].get_unchecked(p);
                        let at = |t: usize| *data.add(*taps.index[t].get_unchecked(p) as usize) * weight(t);
                        let inside = weight(0) + weight(1) + weight(2) + weight(3);
                        let value = at(0) + at(1) + at(2) + at(3);
                        *out = if inside > 0.999 { value } else { f32::NAN };
                    }
                }
            }
            // Columns beyond the photo's borders repeat the last one, as the reference's do.
            let (left, right) = (warped[shift], warped[shift + last - first - 1]);
            warped[..shift].fill(left);
            warped[shift + last - first..self.size.1 + 2 * REACH].fill(right);
        }
    }

    /// Correlates the warped photo's windows with the reference's and keeps the two best sources. A correlation r is
    /// kept as r |r|, which needs no root and has its peaks in the same places.
    #[inline(always)]
    unsafe fn correlate<V: Vector>(&mut self) {
        let (rows, columns) = self.size;
        let Tile { own, warped, mean, variance, sums, best, .. } = &mut *self.tile;
        let [sum, square, product] = sums;
        let [first, second] = best;
        // SAFETY: rows and columns with what a vector reads beyond lie within the buffers: STRIDE has RUN >= LANES
        // columns more than the tile with its reach.
        unsafe {
            let share = V::splat(1.0 / (SIDE * SIDE) as f32);
            for row in 0..rows {
                for x in (0..columns + 2 * REACH).step_by(V::LANES) {
                    let [mut s, mut q, mut p] = [V::splat(0.0); 3];
                    for k in 0..SIDE {
                        let at = (row + k) * STRIDE + x;
                        let v = V::load(warped.as_ptr().add(at));
                        s = s.add(v);
                        q = v.mul_add(v, q);
                        p = v.mul_add(V::load(own.as_ptr().add(at)), p);
                    }
                    s.store(sum.as_mut_ptr().add(x));
                    q.store(square.as_mut_ptr().add(x));
                    p.store(product.as_mut_ptr().add(x));
                }
                for x in (0..columns).step_by(V::LANES) {
                    let window = |of: &[f32]| {
                        let mut total = V::load(of.as_ptr().add(x));
                        for k in 1..SIDE {
                            total = total.add(V::load(of.as_ptr().add(x + k)));
                        }
                        total.mul(share)
                    };
                    let (m, q, p) = (window(sum), window(square), window(product));
                    let at = row * STRIDE + x;
                    let own_mean = V::load(mean.as_ptr().add(at));
                    let covariance = p.sub(m.mul(own_mean));
                    let spread = q.sub(m.mul(m)).max(V::splat(1e-6)).mul(V::load(variance.as_ptr().add(at)));
                    let size = covariance.max(V::splat(0.0).sub(covariance));
                    let r = covariance.mul(size).div(spread);
                    let (one, two) = (V::load(first.as_ptr().add(at)), V::load(second.as_ptr().add(at)));
                    r.select_gt(one, one, r.select_gt(two, r, two)).store(second.as_mut_ptr().add(at));
                    r.select_gt(one, r, one).store(first.as_mut_ptr().add(at));
                }
            }
        }
    }

    /// What a hypothesis is worth: the mean of its two best sources, or the only one.
    fn mean_of_best(&mut self, tap: usize) {
        let [first, second] = &self.tile.best;
        let worth = &mut self.tile.worth[tap];
        for ((worth, &one), &two) in worth.iter_mut().zip(first).zip(second) {
            *worth = if two > NONE { 0.5 * (one + two) } else { one };
        }
    }

    /// Writes the depths of pixels that are sure; returns how many these are.
    unsafe fn choose(&mut self) -> usize {
        let (rows, columns) = self.size;
        let Shape { w, .. } = self.rho.shape;
        let mut moved = 0;
        for row in 0..rows {
            for x in 0..columns {
                let at = row * STRIDE + x;
                if self.tile.variance[at] < LEAST_VARIANCE {
                    continue;
                }
                let (mut best, mut most) = (0, NONE);
                for (tap, worth) in self.tile.worth.iter().enumerate() {
                    if worth[at] > most {
                        (best, most) = (tap, worth[at]);
                    }
                }
                if most < LEAST_WORTH || best == 0 || best + 1 == TAPS {
                    continue;
                }
                let [before, after] = [best - 1, best + 1].map(|tap| self.tile.worth[tap][at]);
                // A source that is lost from sight in between makes no parabola.
                let bend = before - 2.0 * most + after;
                let off = if bend < -1e-6 { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) } else { 0.0 };
                let pixel = (self.at.0 + row) * w + self.at.1 + x;
                let places = best as f32 - (TAPS / 2) as f32 + off;
                let rho = places.mul_add(self.photos.step, self.rho.data[pixel]);
                if rho > 0.0 && rho.is_finite() {
                    // SAFETY: the pixel lies within the map, and in no other tile.
                    unsafe { *self.out.0.add(pixel) = 1.0 / rho };
                    moved += 1;
                }
            }
        }
        moved
    }
}
