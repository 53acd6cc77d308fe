//! What only narrow stages have (`kernels/narrow.cu`): the convex upsampling of a map of 1 / depth, the cost volume
//! over each pixel's own hypotheses, depth and confidence from their logits, and the regression of the coarse stage's
//! confidence, which narrow stages begin from.
//!
//! Maps of 1 / depth and of confidence are f32, [1, H, W, 1], whatever features are stored as. What depends on the view
//! (cameras, spacing, coefficients) are inputs of a program, so that one program serves all views of a size.

use bytemuck::{Pod, Zeroable};

use super::head::Maps;
use super::sweep::{SOURCE, VoxelGate};
use super::{expect_f32, expect_shape, expect_some};
use crate::cpu::ops::warp::MAX_FEATURE_PIXELS;
use crate::cuda::graph::{Arg, Graph, Value, blocks, index, int, read, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::confidence::{COARSE, DEVICE_HEAD, NARROW};
use crate::net::stage::CONVEX;
use crate::net::tensor::Shape;

const THREADS: u32 = 256;
/// Hidden channels of the gate.
const HIDDEN: usize = 8;

/// What a narrow stage's cost volume is made of.
#[derive(Clone, Copy, Debug)]
pub struct Views {
    /// The reference's features, [1, H, W, C], C being 16 or 8; of a stack of all views the first.
    pub reference: Value,
    /// The sources', [V, rows, columns, C]; a smaller one lies at the beginning of its place, row after row of its own
    /// width.
    pub sources: Value,
    /// Which of them is the first source: those before it are none.
    pub first: usize,
    /// Where the reference's pixels lie in each source, [S, 1, 1, 16] f32, rows as
    /// [`source_row`](super::sweep::source_row) makes them.
    pub rows: Value,
    /// The two numbers of [`Spacing`](crate::net::stage::Spacing), f32.
    pub spacing: Value,
    /// The whole map's row that the reference's first one is.
    pub top: usize,
}

/// `NarrowShape` of `kernels/narrow.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct NarrowShape {
    count: i32,
    hypotheses: i32,
    height: i32,
    width: i32,
    top: i32,
    map_pixels: i32,
}

/// [1, H, W, 1] f32.
fn map(graph: &mut Graph, label: &str, what: &str, height: usize, width: usize) -> Value {
    graph.temporary(format!("{label} {what}"), Shape::plane(height, width, 1), Element::F32)
}

/// An [`Error::Shape`] unless the value is so many f32.
pub(super) fn expect_numbers(graph: &Graph, op: &'static str, what: &str, value: Value, len: usize) -> Result<()> {
    let (shape, element) = (graph.shape(value), graph.element(value));
    if shape.len() == len && element == Element::F32 {
        return Ok(());
    }
    let problem = format!("{what} {shape} {}, expected {len} values of f32", element.suffix());
    Err(Error::Shape { op, problem })
}

/// An [`Error::Shape`] unless the value is one plane of f32.
pub(super) fn expect_map(graph: &Graph, op: &'static str, what: &str, value: Value) -> Result<Shape> {
    let (shape, element) = (graph.shape(value), graph.element(value));
    if shape.d == 1 && shape.c == 1 && !shape.is_empty() && element == Element::F32 {
        return Ok(shape);
    }
    let problem = format!("{what} {shape} {}, expected one plane and channel of f32", element.suffix());
    Err(Error::Shape { op, problem })
}

/// 1 / depth of a map.
///
/// # Errors
/// [`Error::Shape`] where it is no map.
pub fn inverse(graph: &mut Graph, label: &str, depth: Value) -> Result<Value> {
    const OP: &str = "inverse depth";
    let Shape { h, w, .. } = expect_map(graph, OP, "depth", depth)?;
    let y = map(graph, label, "inverse depth", h, w);
    let args = vec![read(depth), write(y), index(h * w)];
    graph.launch(OP, label, "inverse_forward_f32", blocks(h * w, THREADS), [THREADS, 1, 1], 0, args);
    graph.flops((h * w) as u64);
    Ok(y)
}

/// `map` [1, H, W, 1] f32 at twice its resolution: each fine pixel is a mean of the 3 x 3 coarse ones around, weighted
/// by the softmax of its 9 of the `weights` [1, H, W, 36], f32 or f16. In f32 the gradient in the weights is noted.
///
/// # Errors
/// [`Error::Shape`] where they do not fit together.
pub fn upsample_convex(graph: &mut Graph, label: &str, coarse: Value, weights: Value) -> Result<Value> {
    const OP: &str = "convex upsampling";
    let shape = expect_map(graph, OP, "map", coarse)?;
    let Shape { h, w, .. } = shape;
    expect_shape(graph, OP, "weights", weights, shape.with_channels(CONVEX))?;
    let element = super::expect_element(graph, OP, &[weights])?;
    let y = map(graph, label, "guess", 2 * h, 2 * w);
    let args = vec![read(coarse), read(weights), write(y), int(h), int(w)];
    let kernel = format!("convex_forward_{}", element.suffix());
    let grid = blocks(4 * h * w, THREADS);
    graph.launch(OP, label, kernel, grid, [THREADS, 1, 1], 0, args);
    graph.flops((5 * CONVEX * h * w) as u64);
    if element == Element::F32 {
        let name = label.to_owned();
        graph.record(label, &[coarse, weights], y, move |graph, dy, wanted| {
            expect_f32(graph, OP, &[dy])?;
            if !wanted[1] {
                return Ok(vec![None, None]);
            }
            let dw = graph.temporary(format!("{name} weights gradient"), graph.shape(weights), Element::F32);
            let args = vec![read(coarse), read(weights), read(dy), write(dw), int(h), int(w)];
            graph.launch(OP, &name, "convex_backward_f32", grid, [THREADS, 1, 1], 0, args);
            graph.flops((8 * CONVEX * h * w) as u64);
            Ok(vec![None, Some(dw)])
        });
    }
    Ok(y)
}

/// What a cost volume's values have in common.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub shape: Shape,
    pub count: usize,
    pub map: (usize, usize),
    pub element: Element,
}

impl Views {
    pub(super) fn check(
        &self,
        graph: &Graph,
        op: &'static str,
        guess: Value,
        hypotheses: usize,
        gate: &VoxelGate,
    ) -> Result<Extent> {
        let (own, all) = (graph.shape(self.reference), graph.shape(self.sources));
        let element = super::expect_element(graph, op, &[self.reference, self.sources])?;
        let count = graph.shape(self.rows).len() / SOURCE;
        let fits = matches!(own.c, 8 | 16)
            && all.c == own.c
            && count > 0
            && self.first + count == all.d
            && !own.is_empty()
            && !all.is_empty()
            && all.h * all.w <= MAX_FEATURE_PIXELS
            && hypotheses > 0;
        if !fits {
            let problem = format!(
                "reference {own} and sources {all} from the {}th on, {count} cameras, {hypotheses} hypotheses; \
                 expected features of 16 or 8 channels and of 1 to {MAX_FEATURE_PIXELS} pixels, a camera for each \
                 source, and at least one hypothesis",
                self.first
            );
            return Err(Error::Shape { op, problem });
        }
        let shape = Shape { d: hypotheses, ..own };
        expect_shape(graph, op, "guess", guess, Shape { d: 1, ..shape.with_channels(1) })?;
        expect_f32(graph, op, &[guess])?;
        expect_numbers(graph, op, "cameras", self.rows, count * SOURCE)?;
        expect_numbers(graph, op, "spacing", self.spacing, 2)?;
        expect_numbers(graph, op, "the gate's reduce.weight", gate.reduce, HIDDEN * own.c)?;
        expect_numbers(graph, op, "the gate's reduce.bias", gate.reduce_bias, HIDDEN)?;
        expect_numbers(graph, op, "the gate's weight.weight", gate.weight, HIDDEN)?;
        expect_numbers(graph, op, "the gate's weight.bias", gate.weight_bias, 1)?;
        Ok(Extent { shape, count, map: (all.h, all.w), element })
    }

    /// The first parameters of the kernels: features, cameras, hypotheses, gate.
    pub(super) fn parameters(&self, guess: Value, gate: &VoxelGate, extent: &Extent) -> Vec<Arg> {
        let map_bytes = (extent.map.0 * extent.map.1 * extent.shape.c) as u64 * extent.element.bytes();
        let mut args = vec![
            read(self.reference),
            Arg::Read(self.sources, self.first as u64 * map_bytes),
            read(self.rows),
            read(guess),
            read(self.spacing),
        ];
        args.extend([gate.reduce, gate.reduce_bias, gate.weight, gate.weight_bias].map(read));
        args
    }

    pub(super) fn shape(&self, extent: &Extent) -> Arg {
        let Extent { shape, count, map, .. } = *extent;
        let [count, hypotheses, height, width, top, map_pixels] =
            [count, shape.d, shape.h, shape.w, self.top, map.0 * map.1].map(|n| n as i32);
        Arg::plain(NarrowShape { count, hypotheses, height, width, top, map_pixels })
    }
}

/// The cost volume [K, H, W, C], stored as the features: squared differences at hypotheses around `guess` [1, H, W, 1],
/// weighted by the voxel gate (eq. 5).
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn cost(
    graph: &mut Graph,
    label: &str,
    views: &Views,
    guess: Value,
    hypotheses: usize,
    gate: &VoxelGate,
) -> Result<Value> {
    const OP: &str = "narrow sweep";
    let extent = views.check(graph, OP, guess, hypotheses, gate)?;
    let Extent { shape, count, element, .. } = extent;
    let cost = graph.temporary(format!("{label} cost"), shape, element);
    let mut args = views.parameters(guess, gate, &extent);
    args.extend([write(cost), views.shape(&extent)]);
    let kernel = format!("narrow_cost_forward_c{}_{}", shape.c, element.suffix());
    graph.launch(OP, label, kernel, blocks(shape.h * shape.w, THREADS), [THREADS, 1, 1], 0, args);
    // As of the coarse sweep: the taps, difference and square, the weighted sum, and the gate of a source.
    let of_voxel = count * (12 * shape.c + 2 * (shape.c + 1) * HIDDEN);
    graph.flops((shape.positions() * of_voxel) as u64);
    Ok(cost)
}

/// Confidence from the coarse stage's probability of four hypotheses; `judge` as
/// [`Judge::for_device`](crate::net::confidence::Judge::for_device) makes it.
///
/// # Errors
/// [`Error::Shape`] where something is no map or has another length.
pub fn judge_coarse(graph: &mut Graph, label: &str, probability: Value, judge: Value) -> Result<Value> {
    const OP: &str = "confidence";
    let Shape { h, w, .. } = expect_map(graph, OP, "probability", probability)?;
    expect_numbers(graph, OP, "coefficients", judge, DEVICE_HEAD + COARSE)?;
    let y = map(graph, label, "confidence", h, w);
    let args = vec![read(probability), read(judge), write(y), index(h * w)];
    graph.launch(OP, label, "judge_forward_f32", blocks(h * w, THREADS), [THREADS, 1, 1], 0, args);
    graph.flops((3 * COARSE * h * w) as u64);
    Ok(y)
}

/// What a narrow stage says, from its logits [K, H, W, 1] f32 around `guess`: depth 1 / (guess + s sum p o), and
/// confidence from the one `before` it (at this resolution), how the hypotheses are spread and how the guess bends;
/// `before` itself where `judge` says that nothing was fitted.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn regress(
    graph: &mut Graph,
    label: &str,
    logits: Value,
    guess: Value,
    before: Value,
    (spacing, judge): (Value, Value),
) -> Result<Maps> {
    const OP: &str = "narrow regression";
    expect_some(graph, OP, logits)?;
    let Shape { d, h, w, c } = graph.shape(logits);
    expect_f32(graph, OP, &[logits, guess, before])?;
    for (what, value) in [("guess", guess), ("confidence before", before)] {
        expect_shape(graph, OP, what, value, Shape::plane(h, w, 1))?;
    }
    if c != 1 {
        return Err(Error::Shape { op: OP, problem: format!("logits {}; expected one channel", graph.shape(logits)) });
    }
    expect_numbers(graph, OP, "spacing", spacing, 2)?;
    expect_numbers(graph, OP, "coefficients", judge, DEVICE_HEAD + NARROW)?;
    let depth = map(graph, label, "depth", h, w);
    let confidence = map(graph, label, "confidence", h, w);
    let mut args = [logits, guess, before, spacing, judge].map(read).to_vec();
    args.extend([int(d), int(h), int(w), write(depth), write(confidence)]);
    graph.launch(OP, label, "narrow_regress_forward_f32", blocks(h * w, THREADS), [THREADS, 1, 1], 0, args);
    graph.flops((h * w * (12 * d + 4 * NARROW)) as u64);
    Ok(Maps { depth, confidence, logits: None })
}
