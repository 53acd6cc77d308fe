//! The cost volume fused with the layers that read it: no volume is stored.
//!
//! The regularizer reads the cost volume three times: two 3x3x3 convolutions of stride 2 and a projection to 8
//! channels. A task takes a tile of the image and walks the depth planes with a ring of three cost planes of that
//! tile, so the cost volume, the largest of all (32 D H W values), is never stored either. The price is the halo:
//! about 8 % more voxels.

use rayon::prelude::*;

use crate::cpu::device::{Cpu, Shared};
use crate::cpu::ops::conv::{Conv, Strip, Tap};
use crate::cpu::ops::sweep::{CostRun, Scratch, Sweep};
use crate::cpu::ops::warp::CHANNELS;
use crate::cpu::simd::{Level, dispatch};
use crate::error::Result;
use crate::host::trace::span_of;
use crate::net::tensor::{Buffer, Shape, Tensor};

/// Output rows (of the strided convolution) of a tile.
const TILE_ROWS: usize = 8;
/// Output columns of a tile: three register tiles; 2 * 36 + 1 cost pixels fit a run.
const TILE_COLUMNS: usize = 36;
const TILE_STRIDE: usize = (2 * TILE_COLUMNS + 1) * CHANNELS;
const RING_PLANE: usize = (2 * TILE_ROWS + 1) * TILE_STRIDE;

/// Bytes of a thread's memory: the ring of cost planes of a tile.
pub fn bytes_per_thread() -> u64 {
    (3 * RING_PLANE * size_of::<f32>()) as u64
}

/// The cost volume's strided 3x3x3 convolution 32 -> 16 + 16, [D/2, H/2, W/2, 16] twice, without the volume; beside it,
/// where asked for, its projection 32 -> 8 into a tensor [D, H, W, 8].
///
/// # Errors
/// [`crate::Error::Shape`] where features, weights, depths or the projection's tensor do not fit together.
pub fn fused(cpu: &Cpu, sweep: &Sweep, strided: &Conv, skip: Option<(&Conv, &mut Tensor)>) -> Result<[Tensor; 2]> {
    let _span = span_of("plane sweep", || sweep.shape().to_string());
    sweep.check()?;
    sweep.reference.expect_channels("plane sweep", CHANNELS)?;
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

    /// The tile's costs at one plane, with a border of one voxel, into the slot; zeros outside the image, but for the
    /// column after an odd number of them, which is the last one again.
    fn cost_plane(&self, plane: usize, scratch: &mut Scratch, slot: &mut [f32]) {
        let Tile { planes, rows, columns } = self.tile;
        let width = 2 * (columns.1 - columns.0) + 1;
        let origin = 2 * columns.0 as isize - 1;
        let low = usize::from(columns.0 == 0);
        let high = (self.shape.w as isize - origin).clamp(0, width as isize) as usize;
        for (i, row) in slot.chunks_exact_mut(TILE_STRIDE).take(2 * (rows.1 - rows.0) + 1).enumerate() {
            let Some(y) = (2 * rows.0 + i).checked_sub(1).filter(|&y| y < self.shape.h) else { continue };
            row[..low * CHANNELS].fill(0.0);
            let x = (origin + low as isize) as usize;
            let cost = &mut row[low * CHANNELS..high * CHANNELS];
            let run = CostRun { sweep: self.sweep, plane, at: (x, y), scratch: &mut *scratch, cost };
            // SAFETY: the level is available; at most 2 TILE_COLUMNS + 1 <= RUN pixels, all within the reference.
            unsafe { dispatch(self.level, run) }
            if high < width {
                row.copy_within((high - 1) * CHANNELS..high * CHANNELS, high * CHANNELS);
            }
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

    /// Output plane k of the strided convolution from the ring. After an odd number of planes or rows the last one is
    /// read again.
    fn convolve(&self, k: usize, ring: &[f32]) {
        let Tile { rows, columns, .. } = self.tile;
        for r in rows.0..rows.1 {
            let mut taps = [Tap::NONE; 9];
            let mut count = 0;
            for i in 0..3 {
                let Some(plane) = (2 * k + i).checked_sub(1) else { continue };
                let plane = plane.min(self.shape.d - 1);
                for j in 0..3 {
                    let Some(y) = (2 * r + j).checked_sub(1) else { continue };
                    // Slot row 0 is the image's row 2 rows.0 - 1.
                    let slot = y.min(self.shape.h - 1) + 1 - 2 * rows.0;
                    let row = &ring[plane % 3 * RING_PLANE + slot * TILE_STRIDE..][..TILE_STRIDE];
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
