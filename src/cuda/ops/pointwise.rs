//! Element by element: sums, gates, concatenation (`kernels/pointwise.cu`).

use super::reduce;
use crate::cuda::graph::{Element, Graph, Value, blocks, index, int, read, write};
use crate::error::{Error, Result};
use crate::tensor::Shape;

const THREADS: u32 = 256;

fn expect_same(graph: &Graph, op: &'static str, a: Value, b: Value) -> Result<Shape> {
    let shape = graph.shape(a);
    if graph.shape(b).len() != shape.len() || graph.element(a) != graph.element(b) {
        let problem = format!(
            "{shape} {} and {} {}",
            graph.element(a).suffix(),
            graph.shape(b),
            graph.element(b).suffix()
        );
        return Err(Error::Shape { op, problem });
    }
    Ok(shape)
}

/// Kernels that take four channels at once.
pub(super) fn expect_quads(op: &'static str, shape: Shape) -> Result<()> {
    if shape.c.is_multiple_of(4) && !shape.is_empty() {
        return Ok(());
    }
    Err(Error::Shape { op, problem: format!("{shape}; C must be a multiple of 4 and nothing empty") })
}

fn binary(
    graph: &mut Graph,
    op: &'static str,
    kernel: &str,
    label: &str,
    a: Value,
    b: Value,
) -> Result<Value> {
    let shape = expect_same(graph, op, a, b)?;
    let element = graph.element(a);
    let y = graph.temporary(format!("{label} {op}"), shape, element);
    let args = vec![read(a), read(b), write(y), index(shape.len())];
    let grid = blocks(shape.len().div_ceil(4), THREADS);
    graph.launch(op, label, format!("{kernel}_{}", element.suffix()), grid, [THREADS, 1, 1], 0, args);
    Ok(y)
}

/// a + b, of one shape: two gradients of one value, say. Its own gradient is the output's in both.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn add(graph: &mut Graph, label: &str, a: Value, b: Value) -> Result<Value> {
    let y = binary(graph, "add", "add", label, a, b)?;
    graph.record(label, &[a, b], y, |_, gradient, _| Ok(vec![Some(gradient), Some(gradient)]));
    Ok(y)
}

/// The gradient before a ReLU, from its output and the gradient in that; f32.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn through_relu(graph: &mut Graph, label: &str, y: Value, gradient: Value) -> Result<Value> {
    binary(graph, "relu gradient", "relu_backward", label, y, gradient)
}

/// relu(a + b), of one shape.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn add_relu(graph: &mut Graph, label: &str, a: Value, b: Value) -> Result<Value> {
    let y = binary(graph, "add and relu", "add_relu_forward", label, a, b)?;
    let name = label.to_owned();
    graph.record(label, &[a, b], y, move |graph, gradient, _| {
        let through = through_relu(graph, &name, y, gradient)?;
        Ok(vec![Some(through), Some(through)])
    });
    Ok(y)
}

/// x sigmoid(attention), of one shape.
///
/// # Errors
/// [`Error::Shape`] where the shapes differ.
pub fn gate_refine(graph: &mut Graph, label: &str, x: Value, attention: Value) -> Result<Value> {
    let y = binary(graph, "sigmoid gate", "gate_refine_forward", label, x, attention)?;
    let name = label.to_owned();
    graph.record(label, &[x, attention], y, move |graph, gradient, _| {
        let shape = graph.shape(x);
        let dx = graph.temporary(format!("{name} gradient"), shape, Element::F32);
        let da = graph.temporary(format!("{name} attention gradient"), shape, Element::F32);
        let args = vec![read(x), read(attention), read(gradient), write(dx), write(da), index(shape.len())];
        let grid = blocks(shape.len(), THREADS);
        graph.launch("sigmoid gate", &name, "gate_refine_backward_f32", grid, [THREADS, 1, 1], 0, args);
        Ok(vec![Some(dx), Some(da)])
    });
    Ok(y)
}

/// f(x, v) with one vector of v for each group of planes.
fn by_plane(
    graph: &mut Graph,
    op: &'static str,
    kernel: &str,
    label: &str,
    (x, v): (Value, Value),
    groups: usize,
) -> Result<Value> {
    let shape = graph.shape(x);
    expect_quads(op, shape)?;
    if graph.shape(v).len() != groups * shape.c || graph.element(v) != graph.element(x) {
        let problem = format!("{shape} with vectors {}, expected {groups} of {}", graph.shape(v), shape.c);
        return Err(Error::Shape { op, problem });
    }
    let element = graph.element(x);
    let y = graph.temporary(format!("{label} {op}"), shape, element);
    let plane = shape.len() / groups;
    let args = vec![read(x), read(v), write(y), index(plane), int(shape.c), index(shape.len())];
    let grid = blocks(shape.len() / 4, THREADS);
    graph.launch(op, label, format!("{kernel}_{}", element.suffix()), grid, [THREADS, 1, 1], 0, args);
    Ok(y)
}

/// x + x sigmoid(attention) with one attention vector a plane: x [D, H, W, C], attention [D, 1, 1, C].
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit together.
pub fn gate_planes(graph: &mut Graph, label: &str, x: Value, attention: Value) -> Result<Value> {
    let shape = graph.shape(x);
    let y = by_plane(graph, "plane gate", "gate_planes_forward", label, (x, attention), shape.d)?;
    let name = label.to_owned();
    graph.record(label, &[x, attention], y, move |graph, gradient, wanted| {
        let op = "plane gate";
        let dx = by_plane(graph, op, "gate_planes_backward", &name, (gradient, attention), shape.d)?;
        if !wanted[1] {
            return Ok(vec![Some(dx), None]);
        }
        let groups = reduce::Groups { groups: shape.d, positions: shape.h * shape.w, channels: shape.c };
        let kernel = "gate_planes_backward_partial_f32";
        let partial = reduce::partials(graph, op, &name, kernel, &groups, 1, vec![read(x), read(gradient)])?;
        let da = graph.temporary(format!("{name} attention gradient"), graph.shape(attention), Element::F32);
        let args =
            vec![read(partial), read(attention), write(da), int(groups.parts()), int(shape.c), int(shape.d)];
        let grid = blocks(shape.d * shape.c, THREADS);
        graph.launch(op, &name, "gate_planes_backward_finish_f32", grid, [THREADS, 1, 1], 0, args);
        Ok(vec![Some(dx), Some(da)])
    });
    Ok(y)
}

/// x + v with one vector for the whole volume: x [D, H, W, C], v [1, 1, 1, C].
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit together.
pub fn add_vector(graph: &mut Graph, label: &str, x: Value, v: Value) -> Result<Value> {
    let y = by_plane(graph, "add vector", "add_vector_forward", label, (x, v), 1)?;
    let name = label.to_owned();
    graph.record(label, &[x, v], y, move |graph, gradient, wanted| {
        let dv = match wanted[1] {
            true => Some(reduce::channel_sum(graph, &name, gradient, graph.shape(v))?),
            false => None,
        };
        Ok(vec![Some(gradient), dv])
    });
    Ok(y)
}

/// [a, b] over channels.
///
/// # Errors
/// [`Error::Shape`] where the extents differ.
pub fn concat(graph: &mut Graph, label: &str, a: Value, b: Value) -> Result<Value> {
    let op = "concat";
    let (first, second) = (graph.shape(a), graph.shape(b));
    expect_quads(op, first)?;
    expect_quads(op, second)?;
    if first != second.with_channels(first.c) || graph.element(a) != graph.element(b) {
        return Err(Error::Shape { op, problem: format!("{first} and {second}") });
    }
    let element = graph.element(a);
    let shape = first.with_channels(first.c + second.c);
    let y = graph.temporary(format!("{label} both"), shape, element);
    let sizes = move || vec![index(shape.positions()), int(first.c), int(second.c)];
    let grid = blocks(shape.len() / 4, THREADS);
    let args = [vec![read(a), read(b), write(y)], sizes()].concat();
    graph.launch(op, label, format!("concat_forward_{}", element.suffix()), grid, [THREADS, 1, 1], 0, args);
    let name = label.to_owned();
    graph.record(label, &[a, b], y, move |graph, gradient, _| {
        let da = graph.temporary(format!("{name} gradient of the first"), first, Element::F32);
        let db = graph.temporary(format!("{name} gradient of the second"), second, Element::F32);
        let args = [vec![read(gradient), write(da), write(db)], sizes()].concat();
        graph.launch(op, &name, "concat_backward_f32", grid, [THREADS, 1, 1], 0, args);
        Ok(vec![Some(da), Some(db)])
    });
    Ok(y)
}
