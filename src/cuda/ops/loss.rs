//! The depth regression's losses with their gradient in the logits (`kernels/loss.cu`), as
//! [`crate::cpu::ops::depth_backward`] defines them.

use super::head::Depths;
use crate::cuda::graph::{Graph, Value, blocks, float, index, int, read, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

const THREADS: u32 = 128;
/// Threads of the single blocks that count and add up.
const ONE_BLOCK: u32 = 1024;

/// What [`depth_loss`] finds.
#[derive(Clone, Copy, Debug)]
pub struct LossParts {
    /// `[3]` f64: the weighted loss, the mean |depth - truth| in intervals, the mean cross-entropy in nats; 0 where no
    /// pixel is valid.
    pub losses: Value,
    /// How many pixels have a truth, and how many have nothing within the range, `[2]` f64.
    pub valid: Value,
    /// Expected depth in scene units, [1, H, W, 1] f32.
    pub depth: Value,
    /// Of the loss in the logits, [D, H, W, 1] f32; 0 at pixels without a truth.
    pub gradient: Value,
}

/// Loss and gradient of `logits` [D, H, W, 1] against `truth` [1, H, W, 1] in scene units (none where it is 0 or not
/// finite; < 0 where nothing lies within the range): `l1` times the mean distance in units of `interval` (`[1]` f64,
/// the hypotheses' mean interval in scene units), `cross_entropy` times the mean cross-entropy. The hypotheses must be
/// in order, ascending or descending, which whoever uploads them sees to.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit, or with fewer than two hypotheses.
#[allow(clippy::too_many_arguments, reason = "what a loss is made of")]
pub fn depth_loss(
    graph: &mut Graph,
    label: &str,
    logits: Value,
    truth: Value,
    depths: &Depths,
    interval: Value,
    l1: f32,
    cross_entropy: f32,
) -> Result<LossParts> {
    const OP: &str = "depth loss";
    let shape = graph.shape(logits);
    let pixels = shape.h * shape.w;
    let is =
        |value: Value, len: usize, element: Element| graph.shape(value).len() == len && graph.element(value) == element;
    let fits = shape.c == 1 && shape.d >= 2 && pixels > 0 && is(logits, shape.len(), Element::F32);
    if !fits || !is(truth, pixels, Element::F32) || !is(interval, 1, Element::F64) {
        let named = |value: Value| format!("{} {}", graph.shape(value), graph.element(value).suffix());
        let problem = format!(
            "logits {}, truth {}, interval {}; expected f32 logits of one channel and at least 2 planes, an f32 truth \
             for each pixel, one f64",
            named(logits),
            named(truth),
            named(interval)
        );
        return Err(Error::Shape { op: OP, problem });
    }
    depths.check(graph, OP, shape.d)?;
    let row = |n| Shape::plane(1, 1, n);
    let valid = graph.temporary(format!("{label} valid pixels"), row(2), Element::F64);
    let losses = graph.temporary(format!("{label} losses"), row(3), Element::F64);
    let depth = graph.temporary(format!("{label} depth"), Shape::plane(shape.h, shape.w, 1), Element::F32);
    let gradient = graph.temporary(format!("{label} logits gradient"), shape, Element::F32);
    let grid = blocks(pixels, THREADS);
    if grid[0] as usize * (THREADS as usize) < pixels {
        let problem = format!("{pixels} pixels; at most {}", grid[0] as usize * THREADS as usize);
        return Err(Error::Shape { op: OP, problem });
    }
    let sums = graph.temporary(format!("{label} sums of blocks"), Shape::plane(1, grid[0] as usize, 3), Element::F64);
    let one = [1, 1, 1];
    let args = vec![read(truth), index(pixels), write(valid)];
    graph.launch(OP, label, "depth_loss_forward_count_f32", one, [ONE_BLOCK, 1, 1], 0, args);
    let mut args = vec![read(logits), read(truth), read(depths.offsets), read(depths.middle)];
    args.extend([read(interval), read(valid), int(usize::from(depths.inverse)), float(l1), float(cross_entropy)]);
    args.extend([int(shape.d), index(pixels), write(depth), write(gradient), write(sums)]);
    graph.launch(OP, label, "depth_loss_forward_f32", grid, [THREADS, 1, 1], 0, args);
    // Two exponentials, counted as one each, and some eight operations beside them.
    graph.flops((shape.len() * 10) as u64);
    let mut args = vec![read(sums), int(grid[0] as usize), read(interval), read(valid)];
    args.extend([float(l1), float(cross_entropy), write(losses)]);
    graph.launch(OP, label, "depth_loss_forward_sum_f32", one, [ONE_BLOCK, 1, 1], 0, args);
    Ok(LossParts { losses, valid, depth, gradient })
}
