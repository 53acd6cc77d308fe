//! Element by element: sums, the ReLU's gradient, attention gates, concatenation (`kernels/pointwise.cu`).
//!
//! What they compute is in [`crate::cpu::ops::pointwise`]; forward in f32 and f16, gradients in f32. All are bound by
//! memory.

use super::reduce::{Chunks, channel_sums_over_positions};
use super::{expect_element, expect_f32, expect_shape, expect_some, pack};
use crate::cuda::graph::{Arg, Graph, Value, blocks, index, int, read, write};
use crate::cuda::storage::Element;
use crate::error::{Error, Result};
use crate::net::tensor::Shape;

/// Threads of a block, as the kernels' launch bounds say.
const THREADS: u32 = 256;

/// y = f(a, b) element by element, by the kernel of this name and the element's ending.
fn zip(graph: &mut Graph, op: &'static str, label: &str, kernel: &str, (a, b): (Value, Value)) -> Result<Value> {
    let (shape, other) = (graph.shape(a), graph.shape(b));
    // Gradients of one value may carry different names for the same number of elements.
    if other.len() != shape.len() {
        return Err(Error::Shape { op, problem: format!("{shape} and {other}; expected one shape") });
    }
    let element = expect_element(graph, op, &[a, b])?;
    let y = graph.temporary(format!("{label} {op}"), shape, element);
    let runs = shape.len().div_ceil((16 / element.bytes()) as usize);
    let args = vec![read(a), read(b), write(y), index(shape.len())];
    let kernel = format!("{kernel}_{}", element.suffix());
    graph.launch(op, label, kernel, blocks(runs, THREADS), [THREADS, 1, 1], 0, args);
    graph.flops(shape.len() as u64);
    Ok(y)
}

/// One launch over all packs of an output, with the kernel's name completed by the output's element.
fn launch_packs(
    graph: &mut Graph,
    op: &'static str,
    label: &str,
    kernel: &str,
    (output, channels): (Value, usize),
    args: Vec<Arg>,
) {
    let (element, len) = (graph.element(output), graph.shape(output).len());
    let grid = blocks(len.div_ceil(pack(element, channels)), THREADS);
    graph.launch(op, label, format!("{kernel}_{}", element.suffix()), grid, [THREADS, 1, 1], 0, args);
    graph.flops(len as u64);
}

/// a + b, of one shape: two gradients of one value, say.
///
/// # Errors
/// [`Error::Shape`] where the shapes or elements differ.
pub fn add(graph: &mut Graph, label: &str, a: Value, b: Value) -> Result<Value> {
    let y = zip(graph, "add", label, "add", (a, b))?;
    graph.record(label, &[a, b], y, |_, dy, _| Ok(vec![Some(dy), Some(dy)]));
    Ok(y)
}

/// relu(a + b), of one shape: the end of a block with a shortcut.
///
/// # Errors
/// [`Error::Shape`] where the shapes or elements differ.
pub fn add_relu(graph: &mut Graph, label: &str, a: Value, b: Value) -> Result<Value> {
    let y = zip(graph, "add_relu", label, "add_relu_forward", (a, b))?;
    let name = label.to_owned();
    graph.record(label, &[a, b], y, move |graph, dy, _| {
        let through = relu_backward(graph, &name, y, dy)?;
        Ok(vec![Some(through), Some(through)])
    });
    Ok(y)
}

/// The gradient in the x of y = relu(x), from y itself: dy where y > 0, else 0.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ or one is not f32.
pub fn relu_backward(graph: &mut Graph, label: &str, y: Value, dy: Value) -> Result<Value> {
    expect_f32(graph, "relu gradient", &[y, dy])?;
    zip(graph, "relu gradient", label, "relu_backward", (y, dy))
}

/// x sigmoid(attention), of one shape: attention refinement's product.
///
/// # Errors
/// [`Error::Shape`] where the shapes or elements differ.
pub fn gate_refine(graph: &mut Graph, label: &str, x: Value, attention: Value) -> Result<Value> {
    const OP: &str = "gate_refine";
    expect_shape(graph, OP, "attention", attention, graph.shape(x))?;
    let y = zip(graph, OP, label, "gate_refine_forward", (x, attention))?;
    let name = label.to_owned();
    graph.record(label, &[x, attention], y, move |graph, dy, _| {
        expect_f32(graph, OP, &[x, attention, dy])?;
        let shape = graph.shape(x);
        let [dx, dgate] =
            ["x", "attention"].map(|what| graph.temporary(format!("{name} gradient in {what}"), shape, Element::F32));
        let args = vec![read(x), read(attention), read(dy), write(dx), write(dgate), index(shape.len())];
        let grid = blocks(shape.len().div_ceil(4), THREADS);
        graph.launch(OP, &name, "gate_refine_backward_f32", grid, [THREADS, 1, 1], 0, args);
        graph.flops(8 * shape.len() as u64);
        Ok(vec![Some(dx), Some(dgate)])
    });
    Ok(y)
}

/// x + x sigmoid(attention), attention [D, 1, 1, C] for x [D, H, W, C]: feature fusion's product.
///
/// # Errors
/// [`Error::Shape`] where the attention is not one vector a plane, x is empty or the elements differ.
pub fn gate_planes(graph: &mut Graph, label: &str, x: Value, attention: Value) -> Result<Value> {
    const OP: &str = "gate_planes";
    let shape = graph.shape(x);
    expect_some(graph, OP, x)?;
    expect_shape(graph, OP, "attention", attention, Shape { h: 1, w: 1, ..shape })?;
    expect_element(graph, OP, &[x, attention])?;
    let y = gated_planes(graph, OP, label, x, attention);
    let name = label.to_owned();
    graph.record(label, &[x, attention], y, move |graph, dy, _| {
        expect_f32(graph, OP, &[x, attention, dy])?;
        let dx = gated_planes(graph, OP, &name, dy, attention);
        let chunks = Chunks::new(shape.d, shape.h * shape.w, shape.c);
        let partial = chunks.partial(graph, &name, 1);
        let args = [vec![read(x), read(dy), write(partial)], chunks.args()].concat();
        chunks.launch(graph, OP, &name, "gate_planes_backward_sums_f32", 1, args);
        let dgate =
            graph.temporary(format!("{name} gradient in attention"), Shape { h: 1, w: 1, ..shape }, Element::F32);
        let args = vec![read(partial), read(attention), write(dgate), int(chunks.chunks), int(shape.c)];
        chunks.launch_finish(graph, OP, &name, "gate_planes_backward_gate_f32", args);
        Ok(vec![Some(dx), Some(dgate)])
    });
    Ok(y)
}

/// The product itself, which is also how the gradient in x comes from that in y.
fn gated_planes(graph: &mut Graph, op: &'static str, label: &str, x: Value, attention: Value) -> Value {
    let shape = graph.shape(x);
    let y = graph.temporary(format!("{label} {op}"), shape, graph.element(x));
    let plane = shape.h * shape.w * shape.c;
    let args = vec![read(x), read(attention), write(y), index(shape.len()), index(plane), int(shape.c)];
    launch_packs(graph, op, label, "gate_planes_forward", (y, shape.c), args);
    y
}

/// x + vector at every position, vector [1, 1, 1, C].
///
/// # Errors
/// [`Error::Shape`] where the vector has other channels or more positions, x is empty or the elements differ.
pub fn add_vector(graph: &mut Graph, label: &str, x: Value, vector: Value) -> Result<Value> {
    const OP: &str = "add_vector";
    let shape = graph.shape(x);
    let of_vector = Shape { d: 1, h: 1, w: 1, c: shape.c };
    expect_some(graph, OP, x)?;
    expect_shape(graph, OP, "vector", vector, of_vector)?;
    let element = expect_element(graph, OP, &[x, vector])?;
    let y = graph.temporary(format!("{label} {OP}"), shape, element);
    let args = vec![read(x), read(vector), write(y), index(shape.len()), int(shape.c)];
    launch_packs(graph, OP, label, "add_vector_forward", (y, shape.c), args);
    let name = label.to_owned();
    graph.record(label, &[x, vector], y, move |graph, dy, wanted| {
        expect_f32(graph, OP, &[dy])?;
        let dvector = if wanted[1] {
            Some(channel_sums_over_positions(graph, OP, &name, dy, (1, of_vector), 1.0)?)
        } else {
            None
        };
        Ok(vec![Some(dy), dvector])
    });
    Ok(y)
}

/// a and b side by side along the channels.
///
/// # Errors
/// [`Error::Shape`] where their extents or elements differ, or one is empty.
pub fn concat(graph: &mut Graph, label: &str, a: Value, b: Value) -> Result<Value> {
    const OP: &str = "concat";
    let (of_a, of_b) = (graph.shape(a), graph.shape(b));
    expect_some(graph, OP, a)?;
    expect_some(graph, OP, b)?;
    expect_shape(graph, OP, "second input", b, of_a.with_channels(of_b.c))?;
    let element = expect_element(graph, OP, &[a, b])?;
    let shape = of_a.with_channels(of_a.c + of_b.c);
    let y = graph.temporary(format!("{label} {OP}"), shape, element);
    let args = vec![read(a), read(b), write(y), index(shape.positions()), int(of_a.c), int(of_b.c)];
    launch_packs(graph, OP, label, "concat_forward", (y, of_a.c | of_b.c), args);
    let name = label.to_owned();
    graph.record(label, &[a, b], y, move |graph, dy, wanted| {
        expect_f32(graph, OP, &[dy])?;
        let mut part = |of: Shape, from: usize| {
            let dx = graph.temporary(format!("{name} gradient from channel {from}"), of, Element::F32);
            let args = vec![read(dy), write(dx), index(of.positions()), int(of.c), int(from), int(shape.c)];
            launch_packs(graph, OP, &name, "concat_backward", (dx, of.c | from | shape.c), args);
            dx
        };
        Ok(vec![wanted[0].then(|| part(of_a, 0)), wanted[1].then(|| part(of_b, of_a.c))])
    });
    Ok(y)
}
