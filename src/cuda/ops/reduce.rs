//! Sums and means over positions for each channel (`kernels/reduce.cu`, `kernels/channel_sums.cuh`).
//!
//! Two launches: blocks sum chunks of positions, then a block a channel adds up the chunks. How positions are cut into
//! chunks depends on the shape alone, so sums are the same bits on every device.

use super::{expect_element, expect_f32, expect_some, pack};
use crate::cuda::graph::{Arg, Graph, Value, blocks, index, int, read, write};
use crate::cuda::storage::Element;
use crate::error::Result;
use crate::net::tensor::Shape;

/// Threads of a block that sums a chunk.
const SUM_THREADS: usize = 256;
/// Threads of a block that adds up chunks.
const FINISH_THREADS: u32 = 128;
/// Blocks that keep the largest device busy: 8 for each of 132 multiprocessors.
const MOST_BLOCKS: usize = 8 * 132;
/// Positions for each of a block's rows of threads, at least: below that its last additions take longer than the
/// reading.
const LEAST_WALK: usize = 8;

/// How positions are cut up for sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunks {
    /// Runs of positions with sums of their own: planes, or one.
    groups: usize,
    /// Of one group.
    positions: usize,
    channels: usize,
    /// Of one group.
    pub chunks: usize,
    /// Positions of a chunk; the last may have fewer.
    chunk: usize,
}

impl Chunks {
    /// Of `groups` times `positions` times `channels` values, none of them zero.
    pub fn new(groups: usize, positions: usize, channels: usize) -> Self {
        let lanes = (channels / Self::pack(channels)).min(SUM_THREADS);
        let least = SUM_THREADS / lanes * LEAST_WALK;
        let most = (MOST_BLOCKS / groups).max(1);
        let chunk = positions.div_ceil((positions / least).clamp(1, most));
        Self { groups, positions, channels, chunks: positions.div_ceil(chunk), chunk }
    }

    /// Channels of one thread (WITH_SUM_PACK).
    fn pack(channels: usize) -> usize {
        if channels.is_multiple_of(4) { 4 } else { 1 }
    }

    /// Memory for `sums` partial sums a channel: [groups * chunks, sums, 1, C].
    pub fn partial(&self, graph: &mut Graph, label: &str, sums: usize) -> Value {
        let shape = Shape { d: self.groups * self.chunks, h: sums, w: 1, c: self.channels };
        graph.temporary(format!("{label} sums of chunks"), shape, Element::F64)
    }

    /// The last parameters of a kernel that sums chunks: positions, chunk, chunks, channels.
    pub fn args(&self) -> Vec<Arg> {
        vec![index(self.positions), index(self.chunk), int(self.chunks), int(self.channels)]
    }

    /// A kernel that sums chunks.
    pub fn launch(&self, graph: &mut Graph, op: &'static str, label: &str, kernel: &str, sums: usize, args: Vec<Arg>) {
        let shared = SUM_THREADS * sums * Self::pack(self.channels) * 8;
        let grid = [(self.groups * self.chunks) as u32, 1, 1];
        graph.launch(op, label, kernel, grid, [SUM_THREADS as u32, 1, 1], shared as u32, args);
        graph.flops((self.groups * self.positions * self.channels * sums) as u64);
    }

    /// A kernel that adds up chunks: a block for each channel of each group.
    pub fn launch_finish(&self, graph: &mut Graph, op: &'static str, label: &str, kernel: &str, args: Vec<Arg>) {
        let grid = [(self.groups * self.channels) as u32, 1, 1];
        graph.launch(op, label, kernel, grid, [FINISH_THREADS, 1, 1], 0, args);
    }
}

/// The sums of x over all positions of each of `groups` equal runs of positions, divided by `divisor`; the result has
/// shape `to`.
///
/// # Errors
/// [`crate::Error::Shape`] where x is empty or neither f32 nor f16.
pub(crate) fn channel_sums_over_positions(
    graph: &mut Graph,
    op: &'static str,
    label: &str,
    x: Value,
    (groups, to): (usize, Shape),
    divisor: f64,
) -> Result<Value> {
    expect_some(graph, op, x)?;
    let element = expect_element(graph, op, &[x])?;
    let shape = graph.shape(x);
    let chunks = Chunks::new(groups, shape.positions() / groups, shape.c);
    let partial = chunks.partial(graph, label, 1);
    let args = [vec![read(x), write(partial)], chunks.args()].concat();
    chunks.launch(graph, op, label, &format!("channel_sums_{}", element.suffix()), 1, args);
    let y = graph.temporary(format!("{label} {op}"), to, element);
    let args = vec![read(partial), write(y), int(chunks.chunks), int(shape.c), Arg::plain(divisor)];
    chunks.launch_finish(graph, op, label, &format!("channel_sums_finish_{}", element.suffix()), args);
    Ok(y)
}

/// The mean over rows and columns: [D, H, W, C] -> [D, 1, 1, C].
///
/// # Errors
/// [`crate::Error::Shape`] where x is empty or neither f32 nor f16.
pub fn plane_mean(graph: &mut Graph, label: &str, x: Value) -> Result<Value> {
    let shape = graph.shape(x);
    mean(graph, "plane_mean", label, x, shape.d, Shape { h: 1, w: 1, ..shape })
}

/// The mean over all positions: [D, H, W, C] -> [1, 1, 1, C].
///
/// # Errors
/// [`crate::Error::Shape`] where x is empty or neither f32 nor f16.
pub fn volume_mean(graph: &mut Graph, label: &str, x: Value) -> Result<Value> {
    let c = graph.shape(x).c;
    mean(graph, "volume_mean", label, x, 1, Shape { d: 1, h: 1, w: 1, c })
}

fn mean(graph: &mut Graph, op: &'static str, label: &str, x: Value, groups: usize, to: Shape) -> Result<Value> {
    expect_some(graph, op, x)?;
    let shape = graph.shape(x);
    let divisor = (shape.positions() / groups) as f64;
    let y = channel_sums_over_positions(graph, op, label, x, (groups, to), divisor)?;
    let name = label.to_owned();
    graph.record(label, &[x], y, move |graph, dy, _| {
        expect_f32(graph, op, &[dy])?;
        let dx = graph.temporary(format!("{name} gradient"), shape, Element::F32);
        let args = vec![
            read(dy),
            write(dx),
            index(shape.len()),
            index(shape.len() / groups),
            int(shape.c),
            Arg::plain(divisor),
        ];
        let grid = blocks(shape.len().div_ceil(pack(Element::F32, shape.c)), 256);
        graph.launch(op, &name, "mean_backward_f32", grid, [256, 1, 1], 0, args);
        Ok(vec![Some(dx)])
    });
    Ok(y)
}
