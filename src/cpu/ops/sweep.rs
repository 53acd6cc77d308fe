//! The cost volume, aggregated over the source views (eq. 3-5), and its fusion with the layers that read it.
//!
//! For every voxel (d, y, x) and source view: `f = warped - reference` (squared unless signed), a weight `w >= 0`
//! from a gate, and `cost = sum over sources of (1 + w) f / number of sources`; or, without gates, the variance over
//! all views. Everything about one run of pixels happens in the L1 cache: no warped volume exists.
//!
//! [`fused`] goes further. The regularizer reads the cost volume three times: two 3x3x3 convolutions of stride 2 and
//! a projection to 8 channels. A task takes a tile of the image and walks the depth planes with a ring of three cost
//! planes of that tile, so the cost volume, the largest of all (32 D H W values), is never stored either. The price is
//! the halo: about 8 % more voxels.

use rayon::prelude::*;

use crate::cpu::device::{Cpu, Shared};
use crate::cpu::ops::conv::{Conv, Strip, Tap};
use crate::cpu::ops::warp::{CHANNELS, RUN, Taps, expect_features, gather, locate};
use crate::cpu::simd::{Isa, Kernel, Level, Vector, dispatch};
use crate::error::{Error, Result};
use crate::host::trace::span_of;
use crate::net::config;
use crate::net::tensor::{Buffer, Shape, Tensor};
use crate::scene::camera::PlaneSweep;

/// Output rows (of the strided convolution) of a tile.
const TILE_ROWS: usize = 8;
/// Output columns of a tile: three register tiles; 2 * 36 + 1 cost pixels fit a run.
const TILE_COLUMNS: usize = 36;
const TILE_STRIDE: usize = (2 * TILE_COLUMNS + 1) * CHANNELS;
const RING_PLANE: usize = (2 * TILE_ROWS + 1) * TILE_STRIDE;

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
/// [`pixel_statistics`].
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
struct Scratch {
    taps: Taps,
    /// f, [RUN, 32]; in variance mode the sum over views.
    difference: Buffer,
    /// 1 + w of each pixel of the run.
    weight: [f32; RUN],
}

impl Scratch {
    fn new() -> Self {
        Self { taps: Taps::new(), difference: Buffer::zeros(RUN * CHANNELS), weight: [0.0; RUN] }
    }
}

/// Costs of pixels (x .. x + n, y) at plane d, n <= RUN, into `cost` [n, 32].
struct CostRun<'a> {
    sweep: &'a Sweep<'a>,
    plane: usize,
    at: (usize, usize),
    scratch: &'a mut Scratch,
    cost: &'a mut [f32],
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
unsafe fn source_difference<V: Vector>(
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

/// For the pixel gate: maximum and mean over the planes of the channel-mean |f| of one source, [1, H, W, 2].
///
/// # Errors
/// [`Error::Shape`] where features or depths do not fit together.
pub fn pixel_statistics(cpu: &Cpu, sweep: &Sweep, source: usize) -> Result<Tensor> {
    sweep.check()?;
    let shape = sweep.reference.shape;
    let mut y = cpu.tensor(shape.with_channels(2));
    y.data.par_chunks_mut(shape.w * 2).enumerate().for_each_init(Scratch::new, |scratch, (row, y)| {
        for (run, out) in y.chunks_mut(RUN * 2).enumerate() {
            let kernel = StatisticsRun { sweep, source, at: (run * RUN, row), scratch, out };
            // SAFETY: the level is available; runs lie within the reference and are at most RUN long.
            unsafe { dispatch(cpu.level, kernel) }
        }
    });
    Ok(y)
}

struct StatisticsRun<'a> {
    sweep: &'a Sweep<'a>,
    source: usize,
    at: (usize, usize),
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl Kernel for StatisticsRun<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let Self { sweep, source, at: (x, y), scratch, out } = self;
        let n = out.len() / 2;
        for plane in 0..sweep.depths.len() {
            // SAFETY: as in CostRun.
            unsafe {
                source_difference::<I::Wide>(sweep, source, plane, (x, y, n), scratch);
                for (p, out) in out.chunks_exact_mut(2).enumerate() {
                    let mut sum = I::Wide::splat(0.0);
                    for c in (0..CHANNELS).step_by(I::Wide::LANES) {
                        let f = I::Wide::load(scratch.difference.as_ptr().add(p * CHANNELS + c));
                        sum = sum.add(f.max(I::Wide::splat(0.0).sub(f)));
                    }
                    let mean = sum.sum() / CHANNELS as f32;
                    out[0] = if plane == 0 { mean } else { out[0].max(mean) };
                    out[1] = if plane == 0 { mean } else { out[1] + mean };
                }
            }
        }
        for out in out.chunks_exact_mut(2) {
            out[1] /= sweep.depths.len() as f32;
        }
    }
}

/// The cost volume's strided 3x3x3 convolution 32 -> 16 + 16, [D/2, H/2, W/2, 16] twice, without the volume; beside it,
/// where asked for, its projection 32 -> 8 into a tensor [D, H, W, 8].
///
/// # Errors
/// [`Error::Shape`] where features, weights, depths or the projection's tensor do not fit together.
pub fn fused(cpu: &Cpu, sweep: &Sweep, strided: &Conv, skip: Option<(&Conv, &mut Tensor)>) -> Result<[Tensor; 2]> {
    let _span = span_of("plane sweep", || sweep.shape().to_string());
    sweep.check()?;
    assert!(strided.kernel == [3; 3] && strided.stride == [2; 3] && (strided.input, strided.output) == (32, 32));
    let shape = sweep.shape();
    let (skip, projected) = match skip {
        None => (None, None),
        Some((conv, to)) => {
            assert!(conv.kernel == [1; 3] && (conv.input, conv.output) == (CHANNELS, 8) && !conv.relu);
            to.expect_shape("plane sweep", "projection", shape.with_channels(8))?;
            (Some(conv), Some(Shared(to.data.as_mut_ptr())))
        }
    };
    let half = shape.halved();
    let mut spatial = cpu.tensor(half.with_channels(16));
    let mut context = cpu.tensor(half.with_channels(16));
    let outputs = Outputs {
        spatial: Shared(spatial.data.as_mut_ptr()),
        context: Shared(context.data.as_mut_ptr()),
        skip: projected,
    };
    let tiles = tiles(half, rayon::current_num_threads());
    tiles.into_par_iter().for_each_init(
        || (Scratch::new(), Buffer::zeros(3 * RING_PLANE)),
        |(scratch, ring), tile| {
            let mut walk = Walk { level: cpu.level, sweep, strided, skip, shape, half, tile, outputs };
            walk.run(scratch, ring);
        },
    );
    Ok([spatial, context])
}

/// A box of the strided convolution's output: planes, rows, columns, each from and to.
#[derive(Clone, Copy)]
struct Tile {
    planes: (usize, usize),
    rows: (usize, usize),
    columns: (usize, usize),
}

/// Tiles of nearly equal size, cut along depth, too, where there are too few for the threads.
fn tiles(half: Shape, threads: usize) -> Vec<Tile> {
    let cut = |n: usize, parts: usize| (0..parts).map(move |i| (n * i / parts, n * (i + 1) / parts));
    let (down, across) = (half.h.div_ceil(TILE_ROWS), half.w.div_ceil(TILE_COLUMNS));
    // Each cut repeats one cost plane in about 16.
    let segments = (4 * threads).div_ceil(down * across).min(half.d.div_ceil(8)).max(1);
    let mut tiles = Vec::with_capacity(down * across * segments);
    for planes in cut(half.d, segments) {
        for rows in cut(half.h, down) {
            tiles.extend(cut(half.w, across).map(|columns| Tile { planes, rows, columns }));
        }
    }
    tiles
}

#[derive(Clone, Copy)]
struct Outputs {
    spatial: Shared,
    context: Shared,
    skip: Option<Shared>,
}

/// One task: a tile walked along the depth planes.
struct Walk<'a> {
    level: Level,
    sweep: &'a Sweep<'a>,
    strided: &'a Conv,
    skip: Option<&'a Conv>,
    shape: Shape,
    half: Shape,
    tile: Tile,
    outputs: Outputs,
}

impl Walk<'_> {
    fn run(&mut self, scratch: &mut Scratch, ring: &mut [f32]) {
        let (from, to) = self.tile.planes;
        for k in from..to {
            // Planes 2k - 1, 2k and 2k + 1; the first is there already but at the start of a segment.
            let first = if k == from { (2 * k).saturating_sub(1) } else { 2 * k };
            for plane in first..(2 * k + 2).min(self.shape.d) {
                let slot = &mut ring[plane % 3 * RING_PLANE..][..RING_PLANE];
                self.cost_plane(plane, scratch, slot);
            }
            self.convolve(k, ring);
        }
    }

    /// The tile's costs at one plane, with a border of one voxel, into the slot; zeros outside the image.
    fn cost_plane(&self, plane: usize, scratch: &mut Scratch, slot: &mut [f32]) {
        let Tile { planes, rows, columns } = self.tile;
        let width = 2 * (columns.1 - columns.0) + 1;
        let origin = 2 * columns.0 as isize - 1;
        let low = usize::from(columns.0 == 0);
        let high = (self.shape.w as isize - origin).clamp(0, width as isize) as usize;
        for (i, row) in slot.chunks_exact_mut(TILE_STRIDE).take(2 * (rows.1 - rows.0) + 1).enumerate() {
            let Some(y) = (2 * rows.0 + i).checked_sub(1).filter(|&y| y < self.shape.h) else { continue };
            row[..low * CHANNELS].fill(0.0);
            row[high * CHANNELS..width * CHANNELS].fill(0.0);
            let x = (origin + low as isize) as usize;
            let cost = &mut row[low * CHANNELS..high * CHANNELS];
            let run = CostRun { sweep: self.sweep, plane, at: (x, y), scratch: &mut *scratch, cost };
            // SAFETY: the level is available; at most 2 TILE_COLUMNS + 1 <= RUN pixels, all within the reference.
            unsafe { dispatch(self.level, run) }
            let (Some(skip), Some(out)) = (self.skip, self.outputs.skip) else { continue };
            // The border belongs to the neighbours.
            if i == 0 || plane < 2 * planes.0 {
                continue;
            }
            let (row, count) = (&row[CHANNELS..], high - 1);
            let voxel = (plane * self.shape.h + y) * self.shape.w + 2 * columns.0;
            let taps = [Tap { x: row.as_ptr(), w: skip.row_weights(0, 0).as_ptr() }];
            // SAFETY: the tile's own voxels lie within the volume, and no other task writes them.
            let outs = [unsafe { out.0.add(voxel * 8) }];
            let strip =
                Strip { conv: skip, rows: &taps, count, outs: &outs, out_stride: 8, residual: std::ptr::null() };
            // SAFETY: `count` pixels of CHANNELS values lie in the row and `count` of 8 in the output.
            unsafe { dispatch(self.level, strip) }
        }
    }

    /// Output plane k of the strided convolution from the ring.
    fn convolve(&self, k: usize, ring: &[f32]) {
        let Tile { rows, columns, .. } = self.tile;
        for r in rows.0..rows.1 {
            let mut taps = [Tap::NONE; 9];
            let mut count = 0;
            for i in 0..3 {
                let Some(plane) = (2 * k + i).checked_sub(1).filter(|&p| p < self.shape.d) else { continue };
                for j in 0..3 {
                    if (2 * r + j).checked_sub(1).is_none_or(|y| y >= self.shape.h) {
                        continue;
                    }
                    let row = &ring[plane % 3 * RING_PLANE + (2 * (r - rows.0) + j) * TILE_STRIDE..][..TILE_STRIDE];
                    taps[count] = Tap { x: row.as_ptr(), w: self.strided.row_weights(i, j).as_ptr() };
                    count += 1;
                }
            }
            let voxel = (k * self.half.h + r) * self.half.w + columns.0;
            // SAFETY: the tile's own voxels lie within the outputs, and no other task writes them.
            let outs = unsafe {
                let (s, c) = (self.outputs.spatial.0.add(voxel * 16), self.outputs.context.0.add(voxel * 16));
                [s, s.add(8), c, c.add(8)]
            };
            let strip = Strip {
                conv: self.strided,
                rows: &taps[..count],
                count: columns.1 - columns.0,
                outs: &outs,
                out_stride: 16,
                residual: std::ptr::null(),
            };
            // SAFETY: 2 count + 1 pixels lie in each ring row; 16 + 16 channels go to two tensors of 16.
            unsafe { dispatch(self.level, strip) }
        }
    }
}
