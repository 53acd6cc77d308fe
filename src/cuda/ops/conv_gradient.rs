//! Convolutions whose weights are values that change, with their gradients (`kernels/conv_direct.cu`,
//! `kernels/conv_gradient.cu`); f32.
//!
//! The gradient in x has no kernel of its own: input positions with one remainder modulo the stride are read by the
//! same taps at consecutive outputs, so each of up to eight remainders is a direct convolution over dy with stride 1.
//! The ReLU's mask is applied where dy is read.

use bytemuck::{Pod, Zeroable};

use super::conv::{AxisTaps, DirectShape, expect_input, expect_supported, flops};
use crate::cpu::ops::conv_backward::ConvGeometry;
use crate::cuda::graph::{Arg, Graph, Value, blocks, index, int, read, read_or_null, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::Shape;

const OP: &str = "convolution gradient";

/// Blocks that the weights' gradient is spread over: a few for each multiprocessor of an H100.
const BLOCKS: usize = 1024;

/// Output positions that are worth a part of their own.
const PART: usize = 256;

/// Threads of a block of the weights' gradient.
const THREADS: usize = 128;

/// y = relu?(w * x + bias), w [CO, CI, KD, KH, KW] and CO biases being values; all f32. Notes the gradients in x, w
/// and the bias.
///
/// # Errors
/// [`Error::Shape`] where x, the weights or the bias do not fit the geometry.
pub fn conv_trained(
    graph: &mut Graph,
    label: &str,
    x: Value,
    weight: Value,
    bias: Option<Value>,
    geometry: ConvGeometry,
    activation: Activation,
) -> Result<Value> {
    let relu = activation.is_relu();
    expect_supported(&geometry, Element::F32)?;
    let y_shape = expect_input(graph, label, x, &geometry, Element::F32)?;
    let biases = bias.map_or(y_shape.c, |bias| graph.shape(bias).len());
    let stored = [Some(weight), bias].into_iter().flatten().all(|v| graph.element(v) == Element::F32);
    if graph.shape(weight).len() != geometry.weights() || biases != y_shape.c || !stored {
        let problem =
            format!("weights {} and {biases} biases at {label} for {geometry:?}, all f32", graph.shape(weight));
        return Err(Error::Shape { op: "convolution", problem });
    }
    let x_shape = graph.shape(x);
    let y = graph.temporary(format!("{label} output"), y_shape, Element::F32);
    let args = vec![read(x), read(weight), read_or_null(bias), Arg::Null, write(y), Arg::Null];
    let shape = DirectShape::forward(&geometry, x_shape, activation);
    shape.launch(graph, label, "conv_forward_direct", Element::F32, args);
    graph.flops(flops(&geometry, y_shape));

    let inputs: Vec<Value> = [x, weight].into_iter().chain(bias).collect();
    let own = label.to_owned();
    graph.record(label, &inputs, y, move |graph, dy, wanted| {
        let mask = relu.then_some(y);
        let dx = wanted[0].then(|| data(graph, &own, &geometry, x_shape, (dy, mask), weight));
        let dw = wanted[1].then(|| weights(graph, &own, &geometry, x, (dy, mask)));
        let mut parts = vec![dx, dw];
        if wanted.len() > 2 {
            parts.push(wanted[2].then(|| biases_gradient(graph, &own, y_shape, (dy, mask))));
        }
        Ok(parts)
    });
    Ok(y)
}

/// The gradient in x of this shape.
fn data(
    graph: &mut Graph,
    label: &str,
    geometry: &ConvGeometry,
    x: Shape,
    (dy, mask): (Value, Option<Value>),
    weight: Value,
) -> Value {
    let y = geometry.output_shape(x);
    let dx = graph.temporary(format!("{label} input gradient"), x, Element::F32);
    let [sd, sh, sw] = geometry.stride;
    for remainder in (0..sd * sh * sw).map(|r| [r / (sh * sw), r / sw % sh, r % sw]) {
        let mut axis = [0, 1, 2].map(|a| gradient_taps(geometry, a, remainder[a], x, y));
        if axis.iter().any(|a| a.taps == 0) {
            // No tap reads these positions: zeros, written by the same kernel.
            axis[0].taps = 0;
        }
        let forward = DirectShape::forward(geometry, x, Activation::Linear);
        let shape = DirectShape {
            axis,
            ci: forward.co,
            co: forward.ci,
            weight_in: forward.weight_out,
            weight_out: forward.weight_in,
            split: forward.ci,
            ..forward
        };
        let args = vec![read(dy), read_or_null(mask), read(weight), write(dx)];
        let before = graph.steps().len();
        shape.launch(graph, label, "conv_backward_data", Element::F32, args);
        if graph.steps().len() > before {
            let positions: u64 = axis.iter().map(|a| a.output as u64).product();
            let taps: u64 = axis.iter().map(|a| a.taps as u64).product();
            graph.flops(2 * positions * taps * (x.c * y.c) as u64);
        }
    }
    dx
}

/// Input s j + r is read by output j + (r + pad - k) / s through tap k; outputs in increasing order.
fn gradient_taps(geometry: &ConvGeometry, a: usize, remainder: usize, x: Shape, y: Shape) -> AxisTaps {
    let (kernel, stride) = (geometry.kernel[a] as i32, geometry.stride[a] as i32);
    let (from, to) = ([y.d, y.h, y.w][a] as i32, [x.d, x.h, x.w][a] as i32);
    let at = |k: i32| remainder as i32 + kernel / 2 - k;
    let taps: Vec<i32> = (0..kernel).rev().filter(|&k| at(k) % stride == 0).collect();
    let first_tap = taps.first().copied().unwrap_or(0);
    AxisTaps {
        input: from,
        output: (to - remainder as i32 + stride - 1) / stride,
        whole: to,
        taps: taps.len() as i32,
        first_tap,
        tap_step: -stride,
        offset: at(first_tap) / stride,
        stride: 1,
        spread: stride,
        first: remainder as i32,
    }
}

/// `WeightsShape` of `kernels/conv_gradient.cu`.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct WeightsShape {
    input: [i32; 4],
    output: [i32; 4],
    kernel: [i32; 3],
    stride: [i32; 3],
    parts: i32,
    chunk_rows: i32,
    chunk_columns: i32,
    tiles_in: i32,
    tiles_out: i32,
}

/// The gradient in the weights, in their order.
fn weights(
    graph: &mut Graph,
    label: &str,
    geometry: &ConvGeometry,
    x: Value,
    (dy, mask): (Value, Option<Value>),
) -> Value {
    let from = graph.shape(x);
    let to = geometry.output_shape(from);
    let [kd, kh, kw] = geometry.kernel;
    let taps = if matches!(kw, 1 | 3 | 5) { kw } else { 1 };
    // Fours of channels of a block: up to eight, as many as leave no block part empty.
    let fours = |channels: usize| {
        let fours = channels.div_ceil(4);
        (1..=8).rev().find(|n| fours.is_multiple_of(*n)).unwrap_or(1)
    };
    let (tiles_in, tiles_out) = (fours(from.c), fours(to.c));
    let lines = kd * kh * (kw / taps);
    let channel_blocks = from.c.div_ceil(4 * tiles_in) * to.c.div_ceil(4 * tiles_out);
    let rows = to.d * to.h;
    let parts = (BLOCKS / (lines * channel_blocks)).min(to.positions().div_ceil(PART)).clamp(1, rows);
    // Output positions whose x and dy lie in shared memory at a time: two for each of the block's subsets of threads
    // at least, in equal runs of a row.
    let chunk = (2 * THREADS / (tiles_in * tiles_out)).max(32);
    let chunk_columns = to.w.div_ceil(to.w.div_ceil(chunk));
    let chunk_rows = chunk / chunk_columns;
    let input_columns = (chunk_columns - 1) * geometry.stride[2] + taps;
    let tile = 16 * chunk_rows * (chunk_columns * tiles_out + input_columns * tiles_in);
    // The sums of the block's threads, 16 of each, take their turn in the same place.
    let shared = tile.max(4 * 16 * THREADS) as u32;
    let sides = |s: Shape| [s.d, s.h, s.w, s.c].map(|n| n as i32);
    let shape = WeightsShape {
        input: sides(from),
        output: sides(to),
        kernel: geometry.kernel.map(|k| k as i32),
        stride: geometry.stride.map(|s| s as i32),
        parts: parts as i32,
        chunk_rows: chunk_rows as i32,
        chunk_columns: chunk_columns as i32,
        tiles_in: tiles_in as i32,
        tiles_out: tiles_out as i32,
    };
    let partial = Shape::plane(1, parts, geometry.weights());
    let partial = graph.temporary(format!("{label} weight gradient's parts"), partial, Element::F32);
    let args = vec![read(x), read(dy), read_or_null(mask), write(partial), Arg::plain(shape)];
    let grid = [(lines * channel_blocks * parts) as u32, 1, 1];
    let kernel = format!("conv_backward_weights{taps}_f32");
    graph.launch(OP, label, kernel, grid, [128, 1, 1], shared, args);
    graph.flops(flops(geometry, to));
    let dw = graph.temporary(format!("{label} weight gradient"), Shape::plane(1, 1, geometry.weights()), Element::F32);
    sum_parts(graph, label, partial, dw, parts);
    dw
}

/// The gradient in the biases.
fn biases_gradient(graph: &mut Graph, label: &str, y: Shape, (dy, mask): (Value, Option<Value>)) -> Value {
    let parts = y.positions().div_ceil(PART).min(BLOCKS);
    let partial = Shape::plane(1, parts, y.c);
    let partial = graph.temporary(format!("{label} bias gradient's parts"), partial, Element::F32);
    let args = vec![read(dy), read_or_null(mask), write(partial), index(y.positions()), int(y.c)];
    graph.launch(OP, label, "conv_backward_bias_f32", [parts as u32, 1, 1], [256, 1, 1], 0, args);
    let db = graph.temporary(format!("{label} bias gradient"), Shape::plane(1, 1, y.c), Element::F32);
    sum_parts(graph, label, partial, db, parts);
    db
}

/// Adds `parts` runs of values in their order.
pub(super) fn sum_parts(graph: &mut Graph, label: &str, partial: Value, sum: Value, parts: usize) {
    let n = graph.shape(sum).len();
    let args = vec![read(partial), write(sum), int(parts), index(n)];
    graph.launch(OP, label, "conv_backward_sum_f32", blocks(n, 256), [256, 1, 1], 0, args);
}
