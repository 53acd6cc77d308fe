//! Depth and confidence from the regularizer's last tensors (`kernels/head.cu`), for inference.
//!
//! The decoder's last stage and the softmax are two launches with the logits between them, [D, H, W] in f32: a
//! sixteenth of the cost volume's bytes, which is gone by then. One launch that walks all planes would save writing
//! and reading them, a third of the traffic, and leave too few blocks. The trilinear decoder's logits are interpolated
//! where they are needed.

use crate::cuda::graph::{Arg, Graph, Value, blocks, index, int, read, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

const OP: &str = "depth head";
/// Channels of the decoder at full resolution.
const CHANNELS: usize = 8;
const THREADS: u32 = 128;
/// A block's pixels, down and across.
const TILE: (usize, usize) = (16, 32);
/// Planes that a block walks. Two more are made than are used.
const RUN: usize = 16;

/// The values whose expectation is taken, relative to their middle: [`crate::cpu::ops::depth::Expectation`] on a
/// device.
#[derive(Clone, Copy, Debug)]
pub struct Depths {
    /// Depths, or 1 / depth, minus the middle: `[D]` f32.
    pub offsets: Value,
    /// The middle, `[1]` f64.
    pub middle: Value,
    /// Whether values are 1 / depth.
    pub inverse: bool,
    /// Where depths are expected, if that may be known.
    pub expected: Option<ExpectedDepths>,
}

/// [`crate::scene::camera::Expected`] on a device.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedDepths {
    /// `[1]` f32: 0 where nothing is known, and [`Self::planes`] is not looked at.
    pub known: Value,
    /// Each pixel's first and last hypothesis, [1, H, W, 2] f32.
    pub planes: Value,
}

impl ExpectedDepths {
    /// Inputs for maps of `height` rows of `width` pixels.
    pub fn input(graph: &mut Graph, (width, height): (usize, usize)) -> Self {
        let known = graph.input("depths known", Shape::plane(1, 1, 1), Element::F32);
        Self { known, planes: graph.input("expected depths", Shape::plane(height, width, 2), Element::F32) }
    }
}

/// What the network says of one reference view.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Depth in scene units, [1, H, W, 1] f32.
    pub depth: Value,
    /// Probability of the four hypotheses around the expected index, [1, H, W, 1] f32.
    pub confidence: Value,
    /// Logits [D, H, W, 1] f32, where asked for.
    pub logits: Option<Value>,
}

impl Depths {
    /// What kernels take of where depths of a map of this size are expected.
    fn expected(&self, graph: &Graph, size: Shape) -> Result<[Arg; 2]> {
        let Some(ExpectedDepths { known, planes }) = self.expected else { return Ok([Arg::Null, Arg::Null]) };
        let (found, own) = (graph.shape(planes), Shape::plane(size.h, size.w, 2));
        if found != own || graph.shape(known).len() != 1 {
            return Err(Error::Shape { op: OP, problem: format!("expected depths {found}, expected {own}") });
        }
        Ok([read(known), read(planes)])
    }

    /// Fails unless there is a value for each of `planes`.
    pub(super) fn check(&self, graph: &Graph, op: &'static str, planes: usize) -> Result<()> {
        let (offsets, middle) = (graph.info(self.offsets), graph.info(self.middle));
        let fits = offsets.element == Element::F32 && middle.element == Element::F64;
        if fits && planes > 0 && offsets.shape.len() == planes && middle.shape.len() == 1 {
            return Ok(());
        }
        let problem = format!(
            "{} hypotheses {} and middle {} {} for a volume of {planes} planes; expected {planes} of f32 and one f64",
            offsets.shape.len(),
            offsets.element.suffix(),
            middle.shape,
            middle.element.suffix()
        );
        Err(Error::Shape { op, problem })
    }
}

/// [1, H, W, 1] f32.
fn map(graph: &mut Graph, label: &str, what: &str, size: Shape) -> Value {
    graph.temporary(format!("{label} {what}"), Shape::plane(size.h, size.w, 1), Element::F32)
}

fn float_suffix(graph: &Graph, op: &'static str, what: &str, value: Value) -> Result<&'static str> {
    let element = graph.element(value);
    if matches!(element, Element::F32 | Element::F16) {
        return Ok(element.suffix());
    }
    Err(Error::Shape { op, problem: format!("{what} of {}, expected f32 or f16", element.suffix()) })
}

/// The logits [D, H, W, 1] f32 of the skip decoder: a 3x3x3 convolution of x = relu(upsample(half, 2) + skip). `half`
/// is [D/2, H/2, W/2, 8] (rounded up), or [D, H/2, W/2, 8] of a narrow stage, which keeps its hypotheses; `skip` is [D,
/// H, W, 8], both f32 or both f16; `weight` is [1, 8, 3, 3, 3] and `bias` `[1]`, f32.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn logits_skip(
    graph: &mut Graph,
    label: &str,
    half: Value,
    skip: Value,
    weight: Value,
    bias: Value,
) -> Result<Value> {
    let (shape, found) = (graph.shape(skip), graph.shape(half));
    let suffix = float_suffix(graph, OP, "skip connection", skip)?;
    let halved = found == shape.halved() || found == Shape { d: shape.d, ..shape.halved() };
    let fits = shape.c == CHANNELS && !shape.is_empty() && halved;
    if !fits || graph.element(half) != graph.element(skip) {
        let problem = format!(
            "half-resolution input {found} {} and skip connection {shape} {suffix}; expected {CHANNELS} channels and \
             half the extent (rounded up; planes may stay), both f32 or both f16",
            graph.element(half).suffix()
        );
        return Err(Error::Shape { op: OP, problem });
    }
    for (what, value, len) in [("logits.weight", weight, 27 * CHANNELS), ("logits.bias", bias, 1)] {
        if graph.shape(value).len() != len || graph.element(value) != Element::F32 {
            let (found, element) = (graph.shape(value), graph.element(value).suffix());
            let problem = format!("{what} {found} {element}, expected {len} values of f32");
            return Err(Error::Shape { op: OP, problem });
        }
    }
    let logits = graph.temporary(format!("{label} logits"), shape.with_channels(1), Element::F32);
    let mut args = vec![read(half), read(skip), read(weight), read(bias)];
    args.extend([int(shape.d), int(found.d), int(shape.h), int(shape.w), int(RUN), write(logits)]);
    let tiles = shape.h.div_ceil(TILE.0) * shape.w.div_ceil(TILE.1);
    let grid = [tiles as u32, shape.d.div_ceil(RUN) as u32, 1];
    graph.launch(OP, label, format!("head_forward_logits_{suffix}"), grid, [THREADS, 1, 1], 0, args);
    // The convolution, and about as much per channel of x as the 8 taps of its interpolation.
    graph.flops((shape.positions() * CHANNELS * (2 * 27 + 16)) as u64);
    Ok(logits)
}

/// Skip decoder: [`logits_skip`], softmax and expectation (eq. 6).
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
#[allow(clippy::too_many_arguments, reason = "a layer's tensors and what its result is taken over")]
pub fn regress_skip(
    graph: &mut Graph,
    label: &str,
    half: Value,
    skip: Value,
    weight: Value,
    bias: Value,
    depths: &Depths,
    keep_logits: bool,
) -> Result<Maps> {
    depths.check(graph, OP, graph.shape(skip).d)?;
    let logits = logits_skip(graph, label, half, skip, weight, bias)?;
    let maps = expectation(graph, label, logits, depths)?;
    if keep_logits {
        graph.keep(logits);
    }
    Ok(Maps { logits: keep_logits.then_some(logits), ..maps })
}

/// Softmax over the planes of `logits` [D, H, W, 1] f32, and expectation.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn expectation(graph: &mut Graph, label: &str, logits: Value, depths: &Depths) -> Result<Maps> {
    let shape = graph.shape(logits);
    if shape.c != 1 || shape.is_empty() || graph.element(logits) != Element::F32 {
        let problem = format!("logits {shape} {}, expected one channel of f32", graph.element(logits).suffix());
        return Err(Error::Shape { op: OP, problem });
    }
    depths.check(graph, OP, shape.d)?;
    let depth = map(graph, label, "depth", shape);
    let confidence = map(graph, label, "confidence", shape);
    let pixels = shape.h * shape.w;
    let mut args = vec![read(logits), read(depths.offsets), read(depths.middle)];
    args.extend(depths.expected(graph, shape)?);
    args.extend([int(usize::from(depths.inverse)), int(shape.d), index(pixels), write(depth), write(confidence)]);
    let grid = blocks(pixels, THREADS);
    graph.launch(OP, label, "head_forward_regress_f32", grid, [THREADS, 1, 1], 0, args);
    Ok(Maps { depth, confidence, logits: None })
}

/// Trilinear decoder: `eighth`, logits [D/8, H/8, W/8, 1] (halved and rounded up three times; f32 or f16), read at
/// index / 8 over `size`'s D, H, W, softmax and expectation.
///
/// # Errors
/// [`Error::Shape`] naming what does not fit.
pub fn regress_trilinear(
    graph: &mut Graph,
    label: &str,
    eighth: Value,
    size: Shape,
    depths: &Depths,
    keep_logits: bool,
) -> Result<Maps> {
    let suffix = float_suffix(graph, OP, "logits", eighth)?;
    let expected = size.halved().halved().halved().with_channels(1);
    if size.with_channels(1).is_empty() || graph.shape(eighth) != expected {
        let problem = format!("logits at an eighth {}, expected {expected} for {size}", graph.shape(eighth));
        return Err(Error::Shape { op: OP, problem });
    }
    depths.check(graph, OP, size.d)?;
    let depth = map(graph, label, "depth", size);
    let confidence = map(graph, label, "confidence", size);
    let logits = keep_logits.then(|| graph.temporary(format!("{label} logits"), size.with_channels(1), Element::F32));
    let mut args = vec![read(eighth), read(depths.offsets), read(depths.middle)];
    args.extend(depths.expected(graph, size)?);
    args.extend([int(usize::from(depths.inverse)), int(size.d), int(size.h), int(size.w)]);
    args.extend([write(depth), write(confidence), logits.map_or(Arg::Null, write)]);
    let grid = blocks(size.h * size.w, THREADS);
    graph.launch(OP, label, format!("head_forward_trilinear_{suffix}"), grid, [THREADS, 1, 1], 0, args);
    graph.flops((size.positions() * 16) as u64);
    if let Some(logits) = logits {
        graph.keep(logits);
    }
    Ok(Maps { depth, confidence, logits })
}
