//! Linear upsampling over all spatial axes, read at output index / factor and clamped to the last sample
//! (`kernels/resample.cu`).
//!
//! As [`crate::cpu::ops::resample`]: where a volume keeps its depth, planes are upsampled each by itself.

use super::pointwise::relu_backward;
use super::{expect_element, expect_f32, expect_shape, expect_some, pack};
use crate::cuda::graph::{Arg, Graph, Value, blocks, index, int, read, read_or_null, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::layers::Activation;
use crate::net::tensor::Shape;

const OP: &str = "upsample";

/// Readers of one coarse sample from which on a warp adds them up instead of a thread.
const READERS_FOR_A_WARP: usize = 256;

fn extent(shape: Shape) -> Arg {
    Arg::plain([shape.d, shape.h, shape.w].map(|n| n as i32))
}

/// Blocks along the rows of `shape`, `items` threads each: grid, block and parts of a row.
fn rows(shape: Shape, items: usize) -> ([u32; 3], [u32; 3], usize) {
    let parts = items.div_ceil(256);
    let threads = items.div_ceil(parts).next_multiple_of(32);
    ([(shape.d * shape.h * parts) as u32, 1, 1], [threads as u32, 1, 1], parts)
}

/// upsample(x) by `factor` over `size`'s extent, with x's channels.
///
/// # Errors
/// [`Error::Shape`] where x or the size is empty, x is neither f32 nor f16, or the factor is no power of two.
pub fn upsample(graph: &mut Graph, label: &str, x: Value, factor: usize, size: Shape) -> Result<Value> {
    let y = forward(graph, label, x, factor, size, None, false)?;
    let name = label.to_owned();
    graph.record(label, &[x], y, move |graph, dy, _| {
        Ok(vec![Some(backward(graph, &name, dy, factor, graph.shape(x))?)])
    });
    Ok(y)
}

/// relu?(upsample(x) by 2 + skip), over the skip's extent.
///
/// # Errors
/// [`Error::Shape`] where the channels or elements differ or one is empty.
pub fn upsample_add(graph: &mut Graph, label: &str, x: Value, skip: Value, activation: Activation) -> Result<Value> {
    let relu = activation.is_relu();
    let size = graph.shape(skip);
    expect_shape(graph, OP, "skip", skip, size.with_channels(graph.shape(x).c))?;
    let y = forward(graph, label, x, 2, size, Some(skip), relu)?;
    let name = label.to_owned();
    graph.record(label, &[x, skip], y, move |graph, dy, wanted| {
        let dy = if relu { relu_backward(graph, &name, y, dy)? } else { dy };
        let dx = if wanted[0] { Some(backward(graph, &name, dy, 2, graph.shape(x))?) } else { None };
        Ok(vec![dx, Some(dy)])
    });
    Ok(y)
}

fn forward(
    graph: &mut Graph,
    label: &str,
    x: Value,
    factor: usize,
    size: Shape,
    skip: Option<Value>,
    relu: bool,
) -> Result<Value> {
    let from = graph.shape(x);
    let shape = size.with_channels(from.c);
    expect_some(graph, OP, x)?;
    if shape.is_empty() || !factor.is_power_of_two() {
        return Err(Error::Shape { op: OP, problem: format!("{from} to {shape} by {factor}") });
    }
    let element = match skip {
        Some(skip) => expect_element(graph, OP, &[x, skip])?,
        None => expect_element(graph, OP, &[x])?,
    };
    let y = graph.temporary(format!("{label} upsampled"), shape, element);
    let (grid, block, parts) = rows(shape, shape.w * shape.c / pack(element, shape.c));
    let args = vec![
        read(x),
        read_or_null(skip),
        write(y),
        extent(from),
        extent(shape),
        int(shape.c),
        int(factor),
        int(parts),
        int(usize::from(relu)),
    ];
    graph.launch(OP, label, format!("upsample_forward_{}", element.suffix()), grid, block, 0, args);
    graph.flops(18 * shape.len() as u64);
    Ok(y)
}

/// The gradient in x, of shape `x`, from that in upsample(x).
fn backward(graph: &mut Graph, label: &str, dy: Value, factor: usize, x: Shape) -> Result<Value> {
    expect_f32(graph, OP, &[dy])?;
    let size = graph.shape(dy);
    let dx = graph.temporary(format!("{label} upsample gradient"), x, Element::F32);
    let mut args = vec![read(dy), write(dx), extent(x), extent(size), int(x.c), int(factor)];
    let of_depth = if x.d == size.d { 1 } else { 2 * factor - 1 };
    if of_depth * (2 * factor - 1).pow(2) >= READERS_FOR_A_WARP {
        args.push(index(x.len()));
        let grid = blocks(x.len() * 32, 256);
        graph.launch(OP, label, "upsample_backward_wide_f32", grid, [256, 1, 1], 0, args);
    } else {
        let (grid, block, parts) = rows(x, x.w * x.c / pack(Element::F32, x.c));
        args.push(int(parts));
        graph.launch(OP, label, "upsample_backward_f32", grid, block, 0, args);
    }
    graph.flops(2 * 8 * size.len() as u64);
    Ok(dx)
}
