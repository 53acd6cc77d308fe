//! Depthwise 3x3x3 convolutions, and the convolution to one channel (`kernels/depthwise.cu`).
//!
//! x [D, H, W, C], y [ceil(D/s), ceil(H/s), ceil(W/s), C], weights [C, 1, 3, 3, 3] in f32 as a value, constant or not;
//! no bias. Forward in f32 and f16, gradients in f32.

use bytemuck::{Pod, Zeroable};

use super::conv_gradient::{conv_trained, sum_parts};
use crate::cpu::ops::conv_backward::ConvGeometry;
use crate::cuda::graph::{Arg, Graph, Value, blocks, int, read, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::Shape;

const OP: &str = "depthwise convolution";

/// Runs of output rows that the weights' gradient is summed up in: with the three planes of taps, blocks for every
/// multiprocessor of an H100.
const PARTS: usize = 256;

/// Output positions that are worth a part of their own.
const PART: usize = 256;

/// Channels whose weights fit the 48 KiB of shared memory that every device has.
const MOST_CHANNELS: usize = 448;

/// `DepthwiseShape` of the kernel file.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct DepthwiseShape {
    input: [i32; 4],
    output: [i32; 3],
    stride: i32,
}

/// y = w * x channel by channel. Notes the gradients in x and the weights, for x in f32.
///
/// # Errors
/// [`Error::Shape`] where x or the weights do not fit, or the stride is not 1 or 2.
pub fn depthwise(graph: &mut Graph, label: &str, x: Value, weight: Value, stride: usize) -> Result<Value> {
    let (from, element) = (graph.shape(x), graph.element(x));
    let weights = graph.shape(weight).len();
    let fits = from.c.is_multiple_of(4) && from.c <= MOST_CHANNELS && !from.is_empty();
    let stored = matches!(element, Element::F32 | Element::F16) && graph.element(weight) == Element::F32;
    if !fits || !stored || weights != 27 * from.c || !matches!(stride, 1 | 2) {
        let problem = format!(
            "input {from} of {}, {weights} weights of {} and stride {stride} at {label}, expected f32 or f16, \
             C a multiple of 4 up to \
             {MOST_CHANNELS}, 27 C weights of f32 and stride 1 or 2",
            element.suffix(),
            graph.element(weight).suffix()
        );
        return Err(Error::Shape { op: OP, problem });
    }
    let half = |n: usize| n.div_ceil(stride);
    let to = Shape { d: half(from.d), h: half(from.h), w: half(from.w), c: from.c };
    let shape = DepthwiseShape {
        input: [from.d, from.h, from.w, from.c].map(|n| n as i32),
        output: [to.d, to.h, to.w].map(|n| n as i32),
        stride: stride as i32,
    };
    let shared = (4 * weights) as u32;
    let y = graph.temporary(format!("{label} output"), to, element);
    // 16 bytes an access where the channels allow it.
    let (width, variant) = match element {
        Element::F16 if from.c.is_multiple_of(8) => (8, "_c8"),
        _ => (4, ""),
    };
    let threads = to.d * to.h * to.w.div_ceil(4) * (to.c / width);
    let kernel = format!("depthwise_forward_s{stride}{variant}_{}", element.suffix());
    let args = vec![read(x), read(weight), write(y), Arg::plain(shape)];
    graph.launch(OP, label, kernel, blocks(threads, 128), [128, 1, 1], shared, args);
    graph.flops(2 * 27 * to.len() as u64);
    if element != Element::F32 {
        return Ok(y);
    }

    let label = label.to_owned();
    graph.record(&label.clone(), &[x, weight], y, move |graph, dy, wanted| {
        let dx = wanted[0].then(|| {
            let dx = graph.temporary(format!("{label} input gradient"), from, Element::F32);
            let args = vec![read(dy), read(weight), write(dx), Arg::plain(shape)];
            let (kernel, grid) = ("depthwise_backward_data_f32", blocks(from.len() / 4, 128));
            graph.launch(OP, &label, kernel, grid, [128, 1, 1], shared, args);
            graph.flops(2 * 27 * to.len() as u64);
            dx
        });
        let dw = wanted[1].then(|| {
            let parts = to.positions().div_ceil(PART).min(PARTS).min(to.d * to.h);
            let partial = Shape::plane(1, parts, weights);
            let partial = graph.temporary(format!("{label} weight gradient's parts"), partial, Element::F32);
            let args = vec![read(x), read(dy), write(partial), Arg::plain(shape), int(parts)];
            let (kernel, grid) = ("depthwise_backward_weights_f32", [3 * parts as u32, 1, 1]);
            graph.launch(OP, &label, kernel, grid, [128, 1, 1], 0, args);
            graph.flops(2 * 27 * to.len() as u64);
            let dw = Shape::plane(1, 1, weights);
            let dw = graph.temporary(format!("{label} weight gradient"), dw, Element::F32);
            sum_parts(graph, &label, partial, dw, parts);
            dw
        });
        Ok(vec![dx, dw])
    });
    Ok(y)
}

/// The 3x3x3 convolution of C channels to one, with a bias: the logits. f32, with gradients in all three; a dense
/// convolution serves.
///
/// # Errors
/// [`Error::Shape`] where x, the weights (27 C) or the bias (1) do not fit.
pub fn to_one_channel(graph: &mut Graph, label: &str, x: Value, weight: Value, bias: Value) -> Result<Value> {
    let channels = (graph.shape(x).c, 1);
    let geometry = ConvGeometry { channels, kernel: [3; 3], stride: [1; 3] };
    conv_trained(graph, label, x, weight, Some(bias), geometry, Activation::Linear)
}
