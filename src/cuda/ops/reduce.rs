//! Means and sums over positions, in two steps of a fixed order (`kernels/reduce.cu`, `kernels/reduce.cuh`).

use crate::cuda::graph::{Arg, Element, Graph, Value, blocks, index, int, read, write};
use crate::error::{Error, Result};
use crate::tensor::Shape;

use super::pointwise::expect_quads;

const THREADS: u32 = 256;

/// Positions that are worth a block of their own.
const PART: usize = 512;

/// Blocks at most over all groups: several for each of a large GPU's 132 multiprocessors.
const MOST_PARTS: usize = 1024;

/// Sums are taken over the positions of each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Planes, or 1.
    pub groups: usize,
    /// Of each group.
    pub positions: usize,
    /// At most 256.
    pub channels: usize,
}

impl Groups {
    /// Parts that each group's positions are cut into: a function of the shape alone.
    pub fn parts(&self) -> usize {
        self.positions.div_ceil(PART).min(MOST_PARTS.div_ceil(self.groups)).max(1)
    }
}

/// Appends a kernel that makes K partial sums for each part, [groups, parts, K, C] f64, from these first arguments.
pub(super) fn partials(
    graph: &mut Graph,
    op: &'static str,
    label: &str,
    kernel: &str,
    groups: &Groups,
    k: usize,
    inputs: Vec<Arg>,
) -> Result<Value> {
    if groups.channels > THREADS as usize || groups.channels == 0 || groups.positions == 0 {
        return Err(Error::Shape { op, problem: format!("{groups:?}; 1 to 256 channels and a position") });
    }
    let parts = groups.parts();
    let shape = Shape { d: groups.groups, h: parts, w: k, c: groups.channels };
    let partial = graph.temporary(format!("{label} partial sums"), shape, Element::F64);
    let mut args = inputs;
    args.extend([write(partial), index(groups.positions), int(groups.channels)]);
    graph.launch(op, label, kernel, [parts as u32, groups.groups as u32, 1], [THREADS, 1, 1], 0, args);
    Ok(partial)
}

fn sums(
    graph: &mut Graph,
    op: &'static str,
    label: &str,
    x: Value,
    groups: &Groups,
    scale: f64,
    shape: Shape,
) -> Result<Value> {
    let element = graph.element(x);
    let kernel = format!("mean_forward_partial_{}", element.suffix());
    let partial = partials(graph, op, label, &kernel, groups, 1, vec![read(x)])?;
    let y = graph.temporary(format!("{label} {op}"), shape, element);
    let sizes = [groups.groups, groups.parts(), groups.channels].map(int);
    let args = [vec![read(partial), write(y)], sizes.to_vec(), vec![Arg::plain(scale)]].concat();
    let kernel = format!("mean_forward_finish_{}", element.suffix());
    graph.launch(op, label, kernel, blocks(shape.len(), THREADS), [THREADS, 1, 1], 0, args);
    Ok(y)
}

fn mean(graph: &mut Graph, op: &'static str, label: &str, x: Value, groups: Groups) -> Result<Value> {
    let shape = graph.shape(x);
    expect_quads(op, shape)?;
    let result = Shape { d: groups.groups, h: 1, w: 1, c: shape.c };
    let y = sums(graph, op, label, x, &groups, 1.0 / groups.positions as f64, result)?;
    let name = label.to_owned();
    graph.record(label, &[x], y, move |graph, gradient, _| {
        let dx = graph.temporary(format!("{name} gradient"), shape, Element::F32);
        let args = vec![read(gradient), write(dx), index(groups.positions), int(shape.c), index(shape.len())];
        let grid = blocks(shape.len() / 4, THREADS);
        graph.launch(op, &name, "mean_backward_f32", grid, [THREADS, 1, 1], 0, args);
        Ok(vec![Some(dx)])
    });
    Ok(y)
}

/// Mean over each plane: [D, H, W, C] -> [D, 1, 1, C].
///
/// # Errors
/// [`Error::Shape`] where x is empty or C is no multiple of 4.
pub fn plane_mean(graph: &mut Graph, label: &str, x: Value) -> Result<Value> {
    let Shape { d, h, w, c } = graph.shape(x);
    mean(graph, "plane mean", label, x, Groups { groups: d, positions: h * w, channels: c })
}

/// Mean over the volume: [D, H, W, C] -> [1, 1, 1, C].
///
/// # Errors
/// [`Error::Shape`] where x is empty or C is no multiple of 4.
pub fn volume_mean(graph: &mut Graph, label: &str, x: Value) -> Result<Value> {
    let shape = graph.shape(x);
    mean(
        graph,
        "volume mean",
        label,
        x,
        Groups { groups: 1, positions: shape.positions(), channels: shape.c },
    )
}

/// Sums over all positions, of the shape `result` (C elements): a bias's gradient. Not differentiable itself.
///
/// # Errors
/// [`Error::Shape`] with more than 256 channels.
pub fn channel_sum(graph: &mut Graph, label: &str, x: Value, result: Shape) -> Result<Value> {
    let shape = graph.shape(x);
    let groups = Groups { groups: 1, positions: shape.positions(), channels: shape.c };
    sums(graph, "channel sum", label, x, &groups, 1.0, result)
}
