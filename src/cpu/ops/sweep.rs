//! The cost volume, aggregated over the source views (eq. 3-5).
//!
//! For every voxel (d, y, x) and source view: `f = warped - reference` (squared unless signed), a weight `w >= 0`
//! from a gate, and `cost = sum over sources of (1 + w) f / number of sources`; or, without gates, the variance over
//! all views. Everything about one run of pixels happens in the L1 cache: no warped volume exists.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::warp::{CHANNELS, RUN, Taps, expect_features, gather, locate};
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::error::{Error, Result};
use crate::net::config;
use crate::net::tensor::{Buffer, Shape, Tensor};
use crate::scene::camera::PlaneSweep;

/// The voxel gate (eq. 5): w = relu(weight . relu(reduce f + bias) + bias).
pub struct VoxelGate {
    /// `[32, 8]`, input channel first.
    pub reduce: Buffer,
    /// `[8]`.
    pub reduce_bias: Buffer,
    /// `[8]`.
    pub weight: Buffer,
    /// One value.
    pub weight_bias: f32,
}

impl VoxelGate {
    /// From tensors in PyTorch's order: [8, 32], `[8]`, `[8]`.
    pub fn new(reduce: &[f32], reduce_bias: &[f32], weight: &[f32], weight_bias: f32) -> Self {
        let (reduce_bias, weight) = (Buffer::from_slice(reduce_bias), Buffer::from_slice(weight));
        Self { reduce: transposed(reduce, reduce_bias.len(), CHANNELS), reduce_bias, weight, weight_bias }
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

/// What a cost volume is made of.
pub struct Sweep<'a> {
    /// [1, H, W, 32].
    pub reference: &'a Tensor,
    /// Each source's features [1, Hs, Ws, 32] and where the reference's pixels lie in it.
    pub sources: &'a [(&'a Tensor, PlaneSweep)],
    /// The hypotheses.
    pub depths: &'a [f32],
    /// How sources are weighted.
    pub aggregation: Aggregation<'a>,
    /// Whether differences are squared.
    pub squared: bool,
}

impl Sweep<'_> {
    /// The cost volume's shape.
    pub fn shape(&self) -> Shape {
        Shape { d: self.depths.len(), ..self.reference.shape }
    }

    /// # Errors
    /// [`Error::Shape`] naming what does not fit.
    pub(super) fn check(&self) -> Result<()> {
        let shape_error = |problem: String| Err(Error::Shape { op: "plane sweep", problem });
        if self.sources.is_empty() || self.depths.is_empty() {
            return shape_error(format!(
                "{} sources, {} depths; at least one of each",
                self.sources.len(),
                self.depths.len()
            ));
        }
        for map in std::iter::once(self.reference).chain(self.sources.iter().map(|s| s.0)) {
            expect_features("plane sweep", map)?;
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

/// Per-thread memory for one run of pixels.
pub(super) struct Scratch {
    pub(super) taps: Taps,
    /// f, [RUN, 32]; in variance mode the sum over views.
    pub(super) difference: Buffer,
    /// 1 + w of each pixel of the run.
    pub(super) weight: [f32; RUN],
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { taps: Taps::new(), difference: Buffer::zeros(RUN * CHANNELS), weight: [0.0; RUN] }
    }
}

/// Costs of pixels (x .. x + n, y) at plane d, n <= RUN, into `cost` [n, 32].
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
        let Self { sweep, plane, at: (x, y), scratch, cost } = self;
        let n = cost.len() / CHANNELS;
        debug_assert!(n <= RUN);
        let shape = sweep.reference.shape;
        let pixel = y * shape.w + x;
        // SAFETY: pixels x .. x + n of row y lie within the reference; locate's indices within each source;
        // scratch holds RUN pixels.
        unsafe {
            let reference = sweep.reference.data.as_ptr().add(pixel * CHANNELS);
            if let Aggregation::Variance = sweep.aggregation {
                start_variance::<I::Wide>(reference, &mut scratch.difference, cost);
            }
            for (s, (features, homography)) in sweep.sources.iter().enumerate() {
                if let Aggregation::Variance = sweep.aggregation {
                    let size = (features.shape.w, features.shape.h);
                    locate::<I::Wide>(&mut scratch.taps, homography, sweep.depths[plane], (x, y, n), size);
                    let features = features.data.as_ptr();
                    add_variance::<I::Wide>(features, &scratch.taps, &mut scratch.difference, cost);
                    continue;
                }
                source_difference::<I::Wide>(sweep, s, plane, (x, y, n), scratch);
                match &sweep.aggregation {
                    Aggregation::Voxel(gate) => {
                        let none = std::ptr::null_mut();
                        voxel_weights::<I, false>(gate, &scratch.difference, n, &mut scratch.weight, none);
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
                accumulate::<I::Wide>(&scratch.difference, &scratch.weight, share, s == 0, cost);
            }
            if let Aggregation::Variance = sweep.aggregation {
                finish_variance::<I::Wide>(sweep.sources.len() + 1, &scratch.difference, cost);
            }
        }
    }
}

/// f of one source for pixels (x .. x + n, y) at a plane, into the scratch's difference.
#[inline(always)]
pub(super) unsafe fn source_difference<V: Vector>(
    sweep: &Sweep,
    source: usize,
    plane: usize,
    (x, y, n): (usize, usize, usize),
    scratch: &mut Scratch,
) {
    let (features, homography) = &sweep.sources[source];
    let size = (features.shape.w, features.shape.h);
    // SAFETY: pixels x .. x + n of row y lie within the reference; locate's indices within the source.
    unsafe {
        let reference = sweep.reference.data.as_ptr().add((y * sweep.reference.shape.w + x) * CHANNELS);
        locate::<V>(&mut scratch.taps, homography, sweep.depths[plane], (x, y, n), size);
        let (features, taps, out) = (features.data.as_ptr(), &scratch.taps, &mut scratch.difference);
        if sweep.squared {
            difference::<V, true>(features, reference, taps, n, out);
        } else {
            difference::<V, false>(features, reference, taps, n, out);
        }
    }
}

/// f = warped - reference, squared or signed, for n pixels.
///
/// # Safety
/// `reference` and `out` hold n <= RUN pixels; `taps` must lie within `features`; the processor must have V.
#[inline(always)]
pub(super) unsafe fn difference<V: Vector, const SQUARED: bool>(
    features: *const f32,
    reference: *const f32,
    taps: &Taps,
    n: usize,
    out: &mut [f32],
) {
    for p in 0..n {
        for c in (0..CHANNELS).step_by(V::LANES) {
            // SAFETY: n <= RUN pixels of CHANNELS values each.
            unsafe {
                let f = gather::<V>(features, taps, p, c).sub(V::load(reference.add(p * CHANNELS + c)));
                let f = if SQUARED { f.mul(f) } else { f };
                f.store(out.as_mut_ptr().add(p * CHANNELS + c));
            }
        }
    }
}

/// 1 + w of n pixels; with KEEP also the gate's 8 hidden values of each (after the ReLU) into `hidden`, [RUN, 8].
///
/// # Safety
/// `f` holds RUN pixels, `hidden` (with KEEP) takes as many; n <= RUN; the processor must have I.
#[inline(always)]
pub(super) unsafe fn voxel_weights<I: Isa, const KEEP: bool>(
    gate: &VoxelGate,
    f: &[f32],
    n: usize,
    out: &mut [f32; RUN],
    hidden: *mut f32,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        if I::REGISTERS >= 32 {
            voxel_weight_tiles::<I, 16, KEEP>(gate, f, n, out, hidden);
        } else {
            voxel_weight_tiles::<I, 8, KEEP>(gate, f, n, out, hidden);
        }
    }
}

/// [`voxel_weights`], T pixels at a time (T a multiple of 8): a 32 x 8 product with the 8 outputs as lanes, then 8 dot
/// products at once by a transposing sum.
#[inline(always)]
unsafe fn voxel_weight_tiles<I: Isa, const T: usize, const KEEP: bool>(
    gate: &VoxelGate,
    f: &[f32],
    n: usize,
    out: &mut [f32; RUN],
    hidden: *mut f32,
) {
    for start in (0..n).step_by(T) {
        // SAFETY: start + T <= RUN, a multiple of 16; the gate's buffers hold 32 * 8, 8 and 8 values.
        unsafe {
            let mut acc = [I::Eight::load(gate.reduce_bias.as_ptr()); T];
            let f = f.as_ptr().add(start * CHANNELS);
            for c in 0..CHANNELS {
                let w = I::Eight::load(gate.reduce.as_ptr().add(c * 8));
                for t in 0..T {
                    acc[t] = I::Eight::splat(*f.add(t * CHANNELS + c)).mul_add(w, acc[t]);
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
unsafe fn accumulate<V: Vector>(f: &[f32], weight: &[f32; RUN], share: f32, first: bool, cost: &mut [f32]) {
    for p in 0..cost.len() / CHANNELS {
        // SAFETY: f and cost hold p's CHANNELS values; p < RUN.
        unsafe {
            let w = V::splat(*weight.get_unchecked(p) * share);
            for c in (0..CHANNELS).step_by(V::LANES) {
                let cost = cost.as_mut_ptr().add(p * CHANNELS + c);
                let f = V::load(f.as_ptr().add(p * CHANNELS + c));
                if first { f.mul(w) } else { f.mul_add(w, V::load(cost)) }.store(cost);
            }
        }
    }
}

/// sum = reference, cost = reference^2.
#[inline(always)]
unsafe fn start_variance<V: Vector>(reference: *const f32, sum: &mut [f32], cost: &mut [f32]) {
    for i in (0..cost.len()).step_by(V::LANES) {
        // SAFETY: all three hold cost.len() values, a multiple of CHANNELS.
        unsafe {
            let r = V::load(reference.add(i));
            r.store(sum.as_mut_ptr().add(i));
            r.mul(r).store(cost.as_mut_ptr().add(i));
        }
    }
}

/// sum += warped, cost += warped^2.
#[inline(always)]
unsafe fn add_variance<V: Vector>(features: *const f32, taps: &Taps, sum: &mut [f32], cost: &mut [f32]) {
    for p in 0..cost.len() / CHANNELS {
        for c in (0..CHANNELS).step_by(V::LANES) {
            // SAFETY: as in `difference`.
            unsafe {
                let v = gather::<V>(features, taps, p, c);
                let (sum, cost) = (sum.as_mut_ptr().add(p * CHANNELS + c), cost.as_mut_ptr().add(p * CHANNELS + c));
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

/// The cost volume itself [D, H, W, 32]: for tests, training and anyone who wants to look at it.
///
/// # Errors
/// [`Error::Shape`] where features, weights or depths do not fit together.
pub fn cost_volume(cpu: &Cpu, sweep: &Sweep) -> Result<Tensor> {
    sweep.check()?;
    let shape = sweep.shape();
    let mut y = cpu.tensor(shape);
    y.data.par_chunks_mut(shape.w * CHANNELS).enumerate().for_each_init(Scratch::new, |scratch, (row, y)| {
        for (run, cost) in y.chunks_mut(RUN * CHANNELS).enumerate() {
            let (plane, at) = (row / shape.h, (run * RUN, row % shape.h));
            // SAFETY: the level is available; runs lie within the reference and are at most RUN long.
            unsafe { dispatch(cpu.level, CostRun { sweep, plane, at, scratch, cost }) }
        }
    });
    Ok(y)
}
