//! Gradients of the cost volume and of the pixel gate's statistics ([`crate::cpu::ops::sweep`]).
//!
//! Nothing of the forward pass is kept: a run of pixels is warped again, plane by plane, and its gradient flows back
//! while it lies in the L1 cache. Cameras and depths are constants.
//!
//! What flows into a source's features scatters through the bilinear taps. Each task owns a band of the reference's
//! rows through all planes, with source maps of its own to add to; the bands' maps are added up in order afterwards.
//! Their number depends on the image alone, so the sums do not depend on the threads. Bands of rows rather than groups
//! of planes: neighbouring planes of one run of pixels scatter into the same few source pixels, which stay in the
//! cache, and the reference's gradient (and that of the weights per pixel) belongs to one band alone, without partial
//! sums. Rather than sorting the taps by source row: 16 partial maps take half the memory of one source's warped
//! volume at 32 planes, and adding them up a few hundredths of the time, where a sort would pass over all taps twice.

use rayon::prelude::*;

use crate::cpu::device::Cpu;
use crate::cpu::ops::sweep::{Aggregation, Sweep, VoxelGate, difference, place, transposed, voxel_weights};
use crate::cpu::ops::warp::{CHANNELS, RUN, Taps, gather};
use crate::cpu::simd::{Isa, Kernel, Vector, dispatch};
use crate::error::Result;
use crate::net::tensor::{Buffer, Shape, Tensor};

/// Bands of rows at most: what bounds both the memory of partial maps and the threads that can work at once.
const BANDS: usize = 16;
/// Pixels at once, a multiple of 16: differences, gate, gradients and the reference's share fit the L1 cache.
pub(super) const PIXELS: usize = 48;
const _: () = assert!(PIXELS <= RUN && PIXELS.is_multiple_of(16));
/// Hidden channels of the voxel gate.
const HIDDEN: usize = 8;

/// Gradients of everything that a cost volume is made of.
pub struct SweepGradient {
    /// In the reference's features, [1, H, W, C].
    pub reference: Tensor,
    /// In each source's features, [1, Hs, Ws, C].
    pub sources: Vec<Tensor>,
    /// In the voxel gate's parameters, where there is one, with their layout.
    pub gate: Option<VoxelGate>,
    /// In the weights per pixel of each source, [1, H, W, 1], where there are any.
    pub weights: Vec<Tensor>,
}

/// Gradients of [`crate::cpu::ops::sweep::cost_volume`], given that of the loss in the cost volume, [D, H, W, C].
/// A guess that is searched around is a constant.
///
/// Every ReLU's derivative at 0 is 0, and a gate whose `1 + w` rounds to 1 counts as closed.
///
/// # Errors
/// [`crate::Error::Shape`] where features, weights, depths or the gradient do not fit together.
pub fn cost_volume_backward(cpu: &Cpu, sweep: &Sweep, gradient: &Tensor) -> Result<SweepGradient> {
    sweep.check()?;
    gradient.expect_shape("plane sweep backward", "gradient", sweep.shape())?;
    let transposed = match &sweep.aggregation {
        Aggregation::Voxel(gate) => transposed(&gate.reduce, sweep.reference.shape.c, HIDDEN),
        _ => Buffer::default(),
    };
    let all: Vec<usize> = (0..sweep.sources.len()).collect();
    let (reference, bands) = in_bands(cpu, sweep, &all, |at, n, scratch, band, reference| {
        let kernel = CostRun { sweep, gradient, transposed: &transposed, at, n, scratch, band, reference };
        // SAFETY: the level is available; runs lie within the reference and are at most PIXELS long.
        unsafe { dispatch(cpu.level, kernel) }
    });
    let gate = matches!(sweep.aggregation, Aggregation::Voxel(_)).then(|| {
        let mut sums = GateSums::default();
        bands.iter().for_each(|band| sums.add(&band.gate));
        sums.gradient(sweep.reference.shape.c)
    });
    let weights = match sweep.aggregation {
        Aggregation::Pixel(weights) => (0..weights.len()).map(|s| pixel_weights(cpu, sweep, &bands, s)).collect(),
        _ => Vec::new(),
    };
    Ok(SweepGradient { reference, sources: add_up(cpu, bands), gate, weights })
}

/// A band's own sums.
pub(super) struct Band {
    /// Gradients in the sources' features, as far as this band's pixels see them.
    pub(super) sources: Vec<Tensor>,
    gate: GateSums,
    /// Gradients in the weights per pixel, [sources, pixels of the band].
    pub(super) weights: Vec<f32>,
}

/// The voxel gate's gradients, in f64: they are sums over all voxels.
struct GateSums {
    /// [8, C]: transposed, so that channels are lanes; the first 8 C of these.
    reduce: [f64; HIDDEN * CHANNELS],
    reduce_bias: [f64; HIDDEN],
    weight: [f64; HIDDEN],
    weight_bias: f64,
}

impl Default for GateSums {
    fn default() -> Self {
        let (reduce, eight) = ([0.0; HIDDEN * CHANNELS], [0.0; HIDDEN]);
        Self { reduce, reduce_bias: eight, weight: eight, weight_bias: 0.0 }
    }
}

impl GateSums {
    fn add(&mut self, other: &Self) {
        let add = |sums: &mut [f64], more: &[f64]| sums.iter_mut().zip(more).for_each(|(s, m)| *s += m);
        add(&mut self.reduce, &other.reduce);
        add(&mut self.reduce_bias, &other.reduce_bias);
        add(&mut self.weight, &other.weight);
        self.weight_bias += other.weight_bias;
    }

    fn gradient(&self, channels: usize) -> VoxelGate {
        let narrow = |sums: &[f64]| Buffer::from_slice(&sums.iter().map(|&s| s as f32).collect::<Vec<_>>());
        VoxelGate {
            reduce: transposed(&narrow(&self.reduce[..HIDDEN * channels]), HIDDEN, channels),
            reduce_bias: narrow(&self.reduce_bias),
            weight: narrow(&self.weight),
            weight_bias: self.weight_bias as f32,
        }
    }
}

/// Per-thread memory for one run of pixels.
pub(super) struct Scratch {
    pub(super) taps: Taps,
    /// 1 / depth of the run's pixels, where each has its own.
    rho: [f32; RUN],
    /// warped - reference (in variance mode: - mean), [RUN, C].
    pub(super) delta: Buffer,
    /// Its square, or in variance mode the mean over the views.
    pub(super) other: Buffer,
    /// What the gradient in a pixel's cost is multiplied by.
    pub(super) factor: [f32; RUN],
    /// The gate's hidden values, [RUN, 8], then the gradient in what they were before their ReLU.
    pub(super) hidden: Buffer,
}

impl Scratch {
    fn new() -> Self {
        let (delta, other) = (Buffer::zeros(RUN * CHANNELS), Buffer::zeros(RUN * CHANNELS));
        let (rho, factor) = ([1.0; RUN], [0.0; RUN]);
        Self { taps: Taps::new(), rho, delta, other, factor, hidden: Buffer::zeros(RUN * HIDDEN) }
    }
}

/// Rows of a band for an image of `height` rows.
fn band_rows(height: usize) -> usize {
    height.div_ceil(BANDS)
}

/// Calls `run(at, pixels, scratch, band, reference)` for all runs of pixels, with the zeroed part of the reference's
/// gradient that belongs to them; returns that gradient and the bands, which got maps for the sources named.
pub(super) fn in_bands(
    cpu: &Cpu,
    sweep: &Sweep,
    sources: &[usize],
    run: impl Fn((usize, usize), usize, &mut Scratch, &mut Band, &mut [f32]) + Sync,
) -> (Tensor, Vec<Band>) {
    let Shape { h, w, c, .. } = sweep.reference.shape;
    let rows = band_rows(h);
    let mut reference = cpu.tensor(sweep.reference.shape);
    let bands = reference.data.par_chunks_mut(rows * w * c).enumerate();
    let bands = bands.map_init(Scratch::new, |scratch, (index, reference)| {
        reference.fill(0.0);
        let map = |&s: &usize| {
            let mut map = cpu.tensor(sweep.sources[s].0.shape);
            map.data.fill(0.0);
            map
        };
        let weights = match sweep.aggregation {
            Aggregation::Pixel(weights) => vec![0.0; weights.len() * reference.len() / c],
            _ => Vec::new(),
        };
        let mut band = Band { sources: sources.iter().map(map).collect(), gate: GateSums::default(), weights };
        for (row, reference) in reference.chunks_exact_mut(w * c).enumerate() {
            for (i, reference) in reference.chunks_mut(PIXELS * c).enumerate() {
                let at = (i * PIXELS, index * rows + row);
                run(at, reference.len() / c, scratch, &mut band, reference);
            }
        }
        band
    });
    let bands = bands.collect();
    (reference, bands)
}

/// The sum over the bands of each source's map, in the bands' order.
pub(super) fn add_up(cpu: &Cpu, bands: Vec<Band>) -> Vec<Tensor> {
    let mut bands = bands.into_iter().map(|band| band.sources);
    let mut sums = bands.next().unwrap_or_default();
    let rest: Vec<Vec<Tensor>> = bands.collect();
    /// Values of one task: partial maps are read a part at a time, so that the sum stays in the cache.
    const PART: usize = 4096;
    for (s, sum) in sums.iter_mut().enumerate() {
        sum.data.par_chunks_mut(PART).enumerate().for_each(|(part, sum)| {
            for band in &rest {
                let map = &band[s].data[part * PART..][..sum.len()];
                sum.iter_mut().zip(map).for_each(|(s, m)| *s += m);
            }
        });
    }
    rest.into_iter().flatten().for_each(|map| cpu.recycle(map));
    sums
}

/// The gradient in one source's weights per pixel: the bands' parts, one below the other.
fn pixel_weights(cpu: &Cpu, sweep: &Sweep, bands: &[Band], source: usize) -> Tensor {
    let mut y = cpu.tensor(sweep.reference.shape.with_channels(1));
    let (pixels, sources) = (band_rows(y.shape.h) * y.shape.w, sweep.sources.len());
    for (y, band) in y.data.chunks_mut(pixels).zip(bands) {
        y.copy_from_slice(&band.weights[source * band.weights.len() / sources..][..y.len()]);
    }
    y
}

/// Pixels (x .. x + n, y) through all planes.
struct CostRun<'a> {
    sweep: &'a Sweep<'a>,
    gradient: &'a Tensor,
    /// The gate's `reduce` as [8, C].
    transposed: &'a [f32],
    at: (usize, usize),
    n: usize,
    scratch: &'a mut Scratch,
    band: &'a mut Band,
    /// The run's part of the gradient in the reference, [n, C].
    reference: &'a mut [f32],
}

impl Kernel for CostRun<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        // SAFETY: as promised by whoever runs it; 8 channels fill no wider vector.
        unsafe {
            match self.sweep.reference.shape.c {
                CHANNELS => self.gradients::<I, I::Wide, CHANNELS>(),
                16 => self.gradients::<I, I::Wide, 16>(),
                _ => self.gradients::<I, I::Eight, 8>(),
            }
        }
    }
}

impl CostRun<'_> {
    #[inline(always)]
    unsafe fn gradients<I: Isa, V: Vector, const C: usize>(self) {
        let Self { sweep, gradient, transposed, at: (x, y), n, scratch, band, reference } = self;
        let Shape { h, w, .. } = sweep.reference.shape;
        let views = sweep.sources.len();
        let features = sweep.reference.data[(y * w + x) * C..][..n * C].as_ptr();
        let variance = matches!(sweep.aggregation, Aggregation::Variance);
        // The variance is a mean of squares over all views; what flows into the mean of the views adds up to zero,
        // and the reference's part is minus the sum of the sources' parts, as with plain differences.
        let share = 1.0 / if variance { views + 1 } else { views } as f32;
        for plane in 0..sweep.search.len() {
            let g = &gradient.data[((plane * h + y) * w + x) * C..][..n * C];
            // SAFETY: pixels x .. x + n of row y lie within the reference, n <= PIXELS <= RUN, which is what the
            // scratch holds; locate's indices lie within each source and so within the band's map of it.
            unsafe {
                if variance {
                    mean_of_views::<V, C>(sweep, plane, (x, y, n), scratch);
                }
                for s in 0..views {
                    place::<V>(sweep, s, plane, (x, y, n), (&mut scratch.taps, &mut scratch.rho));
                    let from = if variance { scratch.other.as_ptr() } else { features };
                    let map = sweep.sources[s].0.data.as_ptr();
                    difference::<V, false, C>(map, from, &scratch.taps, n, &mut scratch.delta);
                    match &sweep.aggregation {
                        Aggregation::Voxel(gate) => {
                            through_gate::<I, V, C>(gate, sweep.squared, g, share, scratch, &mut band.gate);
                        }
                        Aggregation::Pixel(weights) => {
                            let own = &mut band.weights;
                            let pixels = own.len() / views;
                            let first = y % band_rows(h) * w + x;
                            let own = &mut own[s * pixels + first..][..n];
                            let weights = &weights[s].data[y * w + x..][..n];
                            through_weights::<V, C>(weights, sweep.squared, g, share, scratch, own);
                        }
                        Aggregation::Mean | Aggregation::Variance => scratch.factor[..n].fill(share),
                    }
                    let out = (&mut reference[..], &mut band.sources[s].data[..]);
                    match (sweep.squared || variance, transposed) {
                        (true, []) => spread::<V, true, false, C>(g, transposed, scratch, out),
                        (false, []) => spread::<V, false, false, C>(g, transposed, scratch, out),
                        (true, _) => spread::<V, true, true, C>(g, transposed, scratch, out),
                        (false, _) => spread::<V, false, true, C>(g, transposed, scratch, out),
                    }
                }
            }
        }
    }
}

/// The mean over all views for n pixels, into the scratch's `other`.
#[inline(always)]
unsafe fn mean_of_views<V: Vector, const C: usize>(
    sweep: &Sweep,
    plane: usize,
    (x, y, n): (usize, usize, usize),
    scratch: &mut Scratch,
) {
    let reference = &sweep.reference.data[(y * sweep.reference.shape.w + x) * C..][..n * C];
    scratch.other[..n * C].copy_from_slice(reference);
    let last = sweep.sources.len() - 1;
    for (s, (map, _)) in sweep.sources.iter().enumerate() {
        let scale = if s == last { 1.0 / (last + 2) as f32 } else { 1.0 };
        // SAFETY: as in CostRun.
        unsafe {
            place::<V>(sweep, s, plane, (x, y, n), (&mut scratch.taps, &mut scratch.rho));
            for p in 0..n {
                for c in (0..C).step_by(V::LANES) {
                    let sum = scratch.other.as_mut_ptr().add(p * C + c);
                    let v = gather::<V, C>(map.data.as_ptr(), &scratch.taps, p, c);
                    V::load(sum).add(v).mul(V::splat(scale)).store(sum);
                }
            }
        }
    }
}

/// f of the run: its differences, or their squares, which are put into `other`.
#[inline(always)]
unsafe fn squares<'a, V: Vector, const C: usize>(
    delta: &'a [f32],
    squared: bool,
    n: usize,
    other: &'a mut [f32],
) -> &'a [f32] {
    if !squared {
        return delta;
    }
    for i in (0..n * C).step_by(V::LANES) {
        // SAFETY: both hold RUN >= n pixels.
        unsafe {
            let d = V::load(delta.as_ptr().add(i));
            d.mul(d).store(other.as_mut_ptr().add(i));
        }
    }
    other
}

/// The sum of products of two pixels' channels.
#[inline(always)]
unsafe fn channel_dot<V: Vector, const C: usize>(a: *const f32, b: *const f32) -> f32 {
    // SAFETY: the caller vouches for C values behind both.
    unsafe {
        let mut sum = V::load(a).mul(V::load(b));
        for c in (V::LANES..C).step_by(V::LANES) {
            sum = V::load(a.add(c)).mul_add(V::load(b.add(c)), sum);
        }
        sum.sum()
    }
}

/// Weights per pixel: adds to their gradient `own`, and leaves (1 + w) share in the scratch's factor.
#[inline(always)]
unsafe fn through_weights<V: Vector, const C: usize>(
    weights: &[f32],
    squared: bool,
    g: &[f32],
    share: f32,
    scratch: &mut Scratch,
    own: &mut [f32],
) {
    // SAFETY: g and the scratch hold the run's pixels of C values.
    unsafe {
        let f = squares::<V, C>(&scratch.delta, squared, weights.len(), &mut scratch.other).as_ptr();
        for (p, (w, own)) in weights.iter().zip(own).enumerate() {
            scratch.factor[p] = (1.0 + w) * share;
            *own += share * channel_dot::<V, C>(f.add(p * C), g.as_ptr().add(p * C));
        }
    }
}

/// The voxel gate: adds to the gradient in its parameters, leaves (1 + w) share in the scratch's factor and the
/// gradient in the outputs of `reduce` in `hidden`.
#[inline(always)]
unsafe fn through_gate<I: Isa, V: Vector, const C: usize>(
    gate: &VoxelGate,
    squared: bool,
    g: &[f32],
    share: f32,
    scratch: &mut Scratch,
    sums: &mut GateSums,
) {
    let n = g.len() / C;
    let Scratch { delta, other, factor, hidden, .. } = scratch;
    let mut eights = [[0.0f32; HIDDEN]; 2];
    let mut reduce = [0.0f32; HIDDEN * CHANNELS];
    let mut bias = 0.0f32;
    // SAFETY: g holds n pixels, the scratch RUN; the gate's buffers C * 8, 8 and 8 values.
    unsafe {
        let f = squares::<V, C>(delta, squared, n, other);
        voxel_weights::<I, true, C>(gate, f, n, factor, hidden.as_mut_ptr());
        let f = f.as_ptr();
        let (zero, weight) = (I::Eight::splat(0.0), I::Eight::load(gate.weight.as_ptr()));
        let (mut weight_sum, mut hidden_sum) = (zero, zero);
        for (p, factor) in factor[..n].iter_mut().enumerate() {
            let d = share * channel_dot::<V, C>(f.add(p * C), g.as_ptr().add(p * C));
            let d = if *factor > 1.0 { d } else { 0.0 };
            *factor *= share;
            bias += d;
            let (d, at) = (I::Eight::splat(d), hidden.as_mut_ptr().add(p * HIDDEN));
            let h = I::Eight::load(at);
            weight_sum = d.mul_add(h, weight_sum);
            let d = h.select_gt(zero, d.mul(weight), zero);
            hidden_sum = hidden_sum.add(d);
            d.store(at);
        }
        weight_sum.store(eights[0].as_mut_ptr());
        hidden_sum.store(eights[1].as_mut_ptr());
        for c in (0..C).step_by(V::LANES) {
            let mut acc = [V::splat(0.0); HIDDEN];
            for p in 0..n {
                let f = V::load(f.add(p * C + c));
                for o in 0..HIDDEN {
                    acc[o] = V::splat(*hidden.get_unchecked(p * HIDDEN + o)).mul_add(f, acc[o]);
                }
            }
            for o in 0..HIDDEN {
                acc[o].store(reduce.as_mut_ptr().add(o * C + c));
            }
        }
    }
    let add = |sums: &mut [f64], more: &[f32]| sums.iter_mut().zip(more).for_each(|(s, &m)| *s += f64::from(m));
    add(&mut sums.reduce, &reduce[..HIDDEN * C]);
    add(&mut sums.weight, &eights[0]);
    add(&mut sums.reduce_bias, &eights[1]);
    sums.weight_bias += f64::from(bias);
}

/// From the gradient in the cost to that in f, in the difference, and from there to the reference and the source.
#[inline(always)]
unsafe fn spread<V: Vector, const SQUARED: bool, const GATE: bool, const C: usize>(
    g: &[f32],
    transposed: &[f32],
    scratch: &Scratch,
    (reference, source): (&mut [f32], &mut [f32]),
) {
    for p in 0..g.len() / C {
        for c in (0..C).step_by(V::LANES) {
            // SAFETY: g and reference hold p's channels, as does the scratch; `transposed` [8, C] with GATE; the
            // taps lie within the source.
            unsafe {
                let factor = *scratch.factor.get_unchecked(p);
                let mut d = V::load(g.as_ptr().add(p * C + c)).mul(V::splat(factor));
                if GATE {
                    for o in 0..HIDDEN {
                        let h = V::splat(*scratch.hidden.as_ptr().add(p * HIDDEN + o));
                        d = V::load(transposed.as_ptr().add(o * C + c)).mul_add(h, d);
                    }
                }
                if SQUARED {
                    let delta = V::load(scratch.delta.as_ptr().add(p * C + c));
                    d = d.mul(delta.add(delta));
                }
                scatter::<V, C>(source.as_mut_ptr(), &scratch.taps, p, c, d);
                let at = reference.as_mut_ptr().add(p * C + c);
                V::load(at).sub(d).store(at);
            }
        }
    }
}

/// The transpose of [`gather`]: adds a pixel's gradient to the source pixels that it was read from.
#[inline(always)]
pub(super) unsafe fn scatter<V: Vector, const C: usize>(source: *mut f32, taps: &Taps, p: usize, c: usize, d: V) {
    for t in 0..4 {
        // SAFETY: the caller vouches for the taps. One after the other: at a border two of them are the same pixel.
        unsafe {
            let at = source.add(*taps.index[t].get_unchecked(p) as usize * C + c);
            d.mul_add(V::splat(*taps.weight[t].get_unchecked(p)), V::load(at)).store(at);
        }
    }
}
