//! The cost volume, aggregated over the source views (eq. 3-5).
//!
//! For every voxel (d, y, x) and source view: `f = warped - reference` (squared unless signed), a weight `w >= 0`
//! from a gate, and `cost = sum over sources of (1 + w) f / number of sources`; or, without gates, the variance over
//! all views. Everything about one run of pixels happens in the L1 cache: no warped volume exists.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::warp::{CHANNELS, RUN, Taps, expect_features, gather, locate, locate_inverse};
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::error::{Error, Result};
use crate::net::config;
use crate::net::stage::Spacing;
use crate::net::tensor::{Buffer, Shape, Tensor};
use crate::scene::camera::PlaneSweep;

/// The voxel gate (eq. 5): w = relu(weight . relu(reduce f + bias) + bias).
pub struct VoxelGate {
    /// [C, 8], input channel first.
    pub reduce: Buffer,
    /// `[8]`.
    pub reduce_bias: Buffer,
    /// `[8]`.
    pub weight: Buffer,
    /// One value.
    pub weight_bias: f32,
}

impl VoxelGate {
    /// From tensors in PyTorch's order: [8, C], `[8]`, `[8]`.
    pub fn new(reduce: &[f32], reduce_bias: &[f32], weight: &[f32], weight_bias: f32) -> Self {
        let (reduce_bias, weight) = (Buffer::from_slice(reduce_bias), Buffer::from_slice(weight));
        let channels = reduce.len() / reduce_bias.len().max(1);
        Self { reduce: transposed(reduce, reduce_bias.len(), channels), reduce_bias, weight, weight_bias }
    }
}

/// How the sources are weighted: by a gate, or by weights per pixel, [1, H, W, 1] for each source, made from
/// [`crate::cpu::ops::pixel_statistics`].
pub type Aggregation<'a> = config::Aggregation<&'a VoxelGate, &'a [Tensor]>;

/// A matrix [rows, columns] with its axes swapped.
pub(super) fn transposed(x: &[f32], rows: usize, columns: usize) -> Buffer {
    let mut y = Buffer::zeros(rows * columns);
    for r in 0..rows {
        for c in 0..columns {
            y[c * rows + r] = x[r * columns + c];
        }
    }
    y
}

/// The hypotheses.
#[derive(Clone, Copy)]
pub enum Search<'a> {
    /// The same depths at all pixels.
    Planes(&'a [f32]),
    /// A few around a guess of 1 / depth, [1, H, W, 1]: guess + offset spacing(guess), but not beyond infinity.
    Around {
        /// 1 / scene units.
        guess: &'a Tensor,
        /// In units of the spacing.
        offsets: &'a [f32],
        /// Their unit.
        spacing: Spacing,
        /// The row of the sources' reference that the map's first row is.
        top: usize,
    },
}

impl Search<'_> {
    /// Number of hypotheses of a pixel.
    pub fn len(&self) -> usize {
        match self {
            Self::Planes(depths) => depths.len(),
            Self::Around { offsets, .. } => offsets.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a cost volume is made of.
pub struct Sweep<'a> {
    /// [1, H, W, C], C being 32, 16 or 8.
    pub reference: &'a Tensor,
    /// Each source's features [1, Hs, Ws, C] and where the reference's pixels lie in it.
    pub sources: &'a [(&'a Tensor, PlaneSweep)],
    /// The hypotheses.
    pub search: Search<'a>,
    /// How sources are weighted.
    pub aggregation: Aggregation<'a>,
    /// Whether differences are squared.
    pub squared: bool,
}

impl Sweep<'_> {
    /// The cost volume's shape.
    pub fn shape(&self) -> Shape {
        Shape { d: self.search.len(), ..self.reference.shape }
    }

    /// # Errors
    /// [`Error::Shape`] naming what does not fit.
    pub(super) fn check(&self) -> Result<()> {
        let shape_error = |problem: String| Err(Error::Shape { op: "plane sweep", problem });
        if self.sources.is_empty() || self.search.is_empty() {
            return shape_error(format!(
                "{} sources, {} depths; at least one of each",
                self.sources.len(),
                self.search.len()
            ));
        }
        let channels = self.reference.shape.c;
        if ![8, 16, CHANNELS].contains(&channels) {
            return shape_error(format!("features {}; expected C = 8, 16 or {CHANNELS}", self.reference.shape));
        }
        for map in std::iter::once(self.reference).chain(self.sources.iter().map(|s| s.0)) {
            expect_features("plane sweep", map, channels)?;
        }
        if let Aggregation::Voxel(gate) = self.aggregation
            && gate.reduce.len() != 8 * channels
        {
            return shape_error(format!("a gate of {} values for C = {channels}", gate.reduce.len()));
        }
        if let Search::Around { guess, .. } = self.search {
            guess.expect_shape("plane sweep", "guess", self.reference.shape.with_channels(1))?;
        }
        if let Aggregation::Pixel(weights) = self.aggregation {
            if weights.len() != self.sources.len() {
                return shape_error(format!("{} pixel weights for {} sources", weights.len(), self.sources.len()));
            }
            for w in weights {
                w.expect_shape("plane sweep", "pixel weight", self.reference.shape.with_channels(1))?;
            }
        }
        Ok(())
    }
}

/// 1 / depth of hypothesis `plane` for n pixels from (x, y) on; what lies behind them is some number.
pub(super) fn inverse_depths(
    (guess, offset, spacing): (&Tensor, f32, Spacing),
    (x, y, n): (usize, usize, usize),
    rho: &mut [f32; RUN],
) {
    let own = &guess.data[y * guess.shape.w + x..][..n];
    for (rho, &guess) in rho.iter_mut().zip(own) {
        *rho = offset.mul_add(spacing.at(guess), guess).max(0.0);
    }
}

/// Taps of pixels (x .. x + n, y) at a hypothesis in one source.
#[inline(always)]
pub(super) unsafe fn place<V: Vector>(
    sweep: &Sweep,
    source: usize,
    plane: usize,
    at: (usize, usize, usize),
    (taps, rho): (&mut Taps, &mut [f32; RUN]),
) {
    let (features, homography) = &sweep.sources[source];
    let size = (features.shape.w, features.shape.h);
    // SAFETY: the caller vouches for the instruction set.
    unsafe {
        match sweep.search {
            Search::Planes(depths) => locate::<V>(taps, homography, depths[plane], at, size),
            Search::Around { guess, offsets, spacing, top } => {
                inverse_depths((guess, offsets[plane], spacing), at, rho);
                locate_inverse::<V>(taps, homography, rho, (at.0, at.1 + top, at.2), size);
            }
        }
    }
}

/// Per-thread memory for one run of pixels.
pub(super) struct Scratch {
    pub(super) taps: Taps,
    /// 1 / depth of the run's pixels, where each has its own.
    rho: [f32; RUN],
    /// f, [RUN, C]; in variance mode the sum over views.
    pub(super) difference: Buffer,
    /// 1 + w of each pixel of the run.
    pub(super) weight: [f32; RUN],
}

impl Scratch {
    pub(super) fn new() -> Self {
        let difference = Buffer::zeros(RUN * CHANNELS);
        Self { taps: Taps::new(), rho: [1.0; RUN], difference, weight: [0.0; RUN] }
    }
}

/// Costs of pixels (x .. x + n, y) at plane d, n <= RUN, into `cost` [n, C].
pub(super) struct CostRun<'a> {
    pub(super) sweep: &'a Sweep<'a>,
    pub(super) plane: usize,
    pub(super) at: (usize, usize),
    pub(super) scratch: &'a mut Scratch,
    pub(super) cost: &'a mut [f32],
}

impl Kernel for CostRun<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as promised by whoever runs it; 8 channels fill no wider vector.
        unsafe {
            match self.sweep.reference.shape.c {
                CHANNELS => self.costs::<I, I::Wide, CHANNELS>(),
                16 => self.costs::<I, I::Wide, 16>(),
                _ => self.costs::<I, I::Eight, 8>(),
            }
        }
    }
}

impl CostRun<'_> {
    #[inline(always)]
    unsafe fn costs<I: Isa, V: Vector, const C: usize>(self) {
        let Self { sweep, plane, at: (x, y), scratch, cost } = self;
        let n = cost.len() / C;
        debug_assert!(n <= RUN && sweep.reference.shape.c == C);
        let shape = sweep.reference.shape;
        let pixel = y * shape.w + x;
        // SAFETY: pixels x .. x + n of row y lie within the reference; the taps' indices within each source;
        // scratch holds RUN pixels.
        unsafe {
            let reference = sweep.reference.data.as_ptr().add(pixel * C);
            if let Aggregation::Variance = sweep.aggregation {
                start_variance::<V>(reference, &mut scratch.difference, cost);
            }
            for (s, (features, _)) in sweep.sources.iter().enumerate() {
                if let Aggregation::Variance = sweep.aggregation {
                    place::<V>(sweep, s, plane, (x, y, n), (&mut scratch.taps, &mut scratch.rho));
                    let features = features.data.as_ptr();
                    add_variance::<V, C>(features, &scratch.taps, &mut scratch.difference, cost);
                    continue;
                }
                source_difference::<V, C>(sweep, s, plane, (x, y, n), scratch);
                match &sweep.aggregation {
                    Aggregation::Voxel(gate) => {
                        let none = std::ptr::null_mut();
                        voxel_weights::<I, false, C>(gate, &scratch.difference, n, &mut scratch.weight, none);
                    }
                    Aggregation::Pixel(weights) => {
                        for (w, v) in scratch.weight.iter_mut().zip(&weights[s].data[pixel..pixel + n]) {
                            *w = 1.0 + v;
                        }
                    }
                    Aggregation::Mean | Aggregation::Variance => scratch.weight[..n].fill(1.0),
                }
                // The division by the number of sources rides on the weights.
                let share = 1.0 / sweep.sources.len() as f32;
                accumulate::<V, C>(&scratch.difference, &scratch.weight, share, s == 0, cost);
            }
            if let Aggregation::Variance = sweep.aggregation {
                finish_variance::<V>(sweep.sources.len() + 1, &scratch.difference, cost);
            }
        }
    }
}

/// f of one source for pixels (x .. x + n, y) at a plane, into the scratch's difference.
#[inline(always)]
pub(super) unsafe fn source_difference<V: Vector, const C: usize>(
    sweep: &Sweep,
    source: usize,
    plane: usize,
    (x, y, n): (usize, usize, usize),
    scratch: &mut Scratch,
) {
    // SAFETY: pixels x .. x + n of row y lie within the reference; the taps' indices within the source.
    unsafe {
        let reference = sweep.reference.data.as_ptr().add((y * sweep.reference.shape.w + x) * C);
        place::<V>(sweep, source, plane, (x, y, n), (&mut scratch.taps, &mut scratch.rho));
        let (features, taps) = (sweep.sources[source].0.data.as_ptr(), &scratch.taps);
        let out = &mut scratch.difference;
        if sweep.squared {
            difference::<V, true, C>(features, reference, taps, n, out);
        } else {
            difference::<V, false, C>(features, reference, taps, n, out);
        }
    }
}

/// f = warped - reference, squared or signed, for n pixels.
///
/// # Safety
/// `reference` and `out` hold n <= RUN pixels; `taps` must lie within `features`; the processor must have V.
#[inline(always)]
pub(super) unsafe fn difference<V: Vector, const SQUARED: bool, const C: usize>(
    features: *const f32,
    reference: *const f32,
    taps: &Taps,
    n: usize,
    out: &mut [f32],
) {
    for p in 0..n {
        for c in (0..C).step_by(V::LANES) {
            // SAFETY: n <= RUN pixels of C values each.
            unsafe {
                let f = gather::<V, C>(features, taps, p, c).sub(V::load(reference.add(p * C + c)));
                let f = if SQUARED { f.mul(f) } else { f };
                f.store(out.as_mut_ptr().add(p * C + c));
            }
        }
    }
}

/// 1 + w of n pixels; with KEEP also the gate's 8 hidden values of each (after the ReLU) into `hidden`, [RUN, 8].
///
/// # Safety
/// `f` holds RUN pixels, `hidden` (with KEEP) takes as many; n <= RUN; the processor must have I.
#[inline(always)]
pub(super) unsafe fn voxel_weights<I: Isa, const KEEP: bool, const C: usize>(
    gate: &VoxelGate,
    f: &[f32],
    n: usize,
    out: &mut [f32; RUN],
    hidden: *mut f32,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        if I::REGISTERS >= 32 {
            voxel_weight_tiles::<I, 16, KEEP, C>(gate, f, n, out, hidden);
        } else {
            voxel_weight_tiles::<I, 8, KEEP, C>(gate, f, n, out, hidden);
        }
    }
}

/// [`voxel_weights`], T pixels at a time (T a multiple of 8): a C x 8 product with the 8 outputs as lanes, then 8 dot
/// products at once by a transposing sum.
#[inline(always)]
unsafe fn voxel_weight_tiles<I: Isa, const T: usize, const KEEP: bool, const C: usize>(
    gate: &VoxelGate,
    f: &[f32],
    n: usize,
    out: &mut [f32; RUN],
    hidden: *mut f32,
) {
    for start in (0..n).step_by(T) {
        // SAFETY: start + T <= RUN, a multiple of 16; the gate's buffers hold C * 8, 8 and 8 values.
        unsafe {
            let mut acc = [I::Eight::load(gate.reduce_bias.as_ptr()); T];
            let f = f.as_ptr().add(start * C);
            for c in 0..C {
                let w = I::Eight::load(gate.reduce.as_ptr().add(c * 8));
                for t in 0..T {
                    acc[t] = I::Eight::splat(*f.add(t * C + c)).mul_add(w, acc[t]);
                }
            }
            let weight = I::Eight::load(gate.weight.as_ptr());
            for group in 0..T / 8 {
                let mut products = [weight; 8];
                for (i, product) in products.iter_mut().enumerate() {
                    let h = acc[group * 8 + i].max(I::Eight::splat(0.0));
                    if KEEP {
                        h.store(hidden.add((start + group * 8 + i) * 8));
                    }
                    *product = h.mul(weight);
                }
                let w = I::sums(products).add(I::Eight::splat(gate.weight_bias)).max(I::Eight::splat(0.0));
                w.add(I::Eight::splat(1.0)).store(out.as_mut_ptr().add(start + group * 8));
            }
        }
    }
}

/// cost (+)= weight * share * f.
#[inline(always)]
unsafe fn accumulate<V: Vector, const C: usize>(
    f: &[f32],
    weight: &[f32; RUN],
    share: f32,
    first: bool,
    cost: &mut [f32],
) {
    for p in 0..cost.len() / C {
        // SAFETY: f and cost hold p's C values; p < RUN.
        unsafe {
            let w = V::splat(*weight.get_unchecked(p) * share);
            for c in (0..C).step_by(V::LANES) {
                let cost = cost.as_mut_ptr().add(p * C + c);
                let f = V::load(f.as_ptr().add(p * C + c));
                if first { f.mul(w) } else { f.mul_add(w, V::load(cost)) }.store(cost);
            }
        }
    }
}

/// sum = reference, cost = reference^2.
#[inline(always)]
unsafe fn start_variance<V: Vector>(reference: *const f32, sum: &mut [f32], cost: &mut [f32]) {
    for i in (0..cost.len()).step_by(V::LANES) {
        // SAFETY: all three hold cost.len() values, a multiple of LANES.
        unsafe {
            let r = V::load(reference.add(i));
            r.store(sum.as_mut_ptr().add(i));
            r.mul(r).store(cost.as_mut_ptr().add(i));
        }
    }
}

/// sum += warped, cost += warped^2.
#[inline(always)]
unsafe fn add_variance<V: Vector, const C: usize>(
    features: *const f32,
    taps: &Taps,
    sum: &mut [f32],
    cost: &mut [f32],
) {
    for p in 0..cost.len() / C {
        for c in (0..C).step_by(V::LANES) {
            // SAFETY: as in `difference`.
            unsafe {
                let v = gather::<V, C>(features, taps, p, c);
                let (sum, cost) = (sum.as_mut_ptr().add(p * C + c), cost.as_mut_ptr().add(p * C + c));
                V::load(sum).add(v).store(sum);
                v.mul_add(v, V::load(cost)).store(cost);
            }
        }
    }
}

/// cost = cost / n - (sum / n)^2.
#[inline(always)]
unsafe fn finish_variance<V: Vector>(n: usize, sum: &[f32], cost: &mut [f32]) {
    for i in (0..cost.len()).step_by(V::LANES) {
        // SAFETY: as in `start_variance`.
        unsafe {
            let share = V::splat(1.0 / n as f32);
            let mean = V::load(sum.as_ptr().add(i)).mul(share);
            let cost = cost.as_mut_ptr().add(i);
            V::load(cost).mul(share).sub(mean.mul(mean)).store(cost);
        }
    }
}

/// The cost volume itself [D, H, W, C]: for tests, training and anyone who wants to look at it.
///
/// # Errors
/// [`Error::Shape`] where features, weights or depths do not fit together.
pub fn cost_volume(cpu: &Cpu, sweep: &Sweep) -> Result<Tensor> {
    sweep.check()?;
    let shape = sweep.shape();
    let mut y = cpu.tensor(shape);
    y.data.par_chunks_mut(shape.w * shape.c).enumerate().for_each_init(Scratch::new, |scratch, (row, y)| {
        for (run, cost) in y.chunks_mut(RUN * shape.c).enumerate() {
            let (plane, at) = (row / shape.h, (run * RUN, row % shape.h));
            // SAFETY: the level is available; runs lie within the reference and are at most RUN long.
            unsafe { dispatch(cpu.level, CostRun { sweep, plane, at, scratch, cost }) }
        }
    });
    Ok(y)
}
