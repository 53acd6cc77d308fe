//! An op forward and backward at once.

use engine::cuda::graph::{Graph, Value};
use engine::cuda::storage::Element;
use engine::net::tensor::{Shape, Tensor};

use crate::run::run;

/// An input: its shape and values.
pub type Input = (Shape, Vec<f32>);

/// What an op makes of f32 inputs, and, from the gradient `dy` in its output, those in all inputs, in their order; on
/// the checked device, twice.
pub fn with_gradients(
    inputs: &[Input],
    dy: &[f32],
    op: impl Fn(&mut Graph, &[Value]) -> Value,
) -> Option<(Vec<f32>, Vec<Vec<f32>>)> {
    let mut found = run(|graph| {
        let values: Vec<Value> = inputs
            .iter()
            .enumerate()
            .map(|(i, (shape, _))| graph.input(format!("input {i}"), *shape, Element::F32))
            .collect();
        values.iter().for_each(|&v| graph.want_gradient(v));
        let y = op(graph, &values);
        let shape = graph.shape(y);
        let gradient = graph.input("output gradient", shape, Element::F32);
        let gradients = graph.backward(y, gradient).unwrap();
        let kept = std::iter::once(y).chain(values.iter().map(|v| gradients[v])).collect();
        let given = values.iter().copied().zip(inputs.iter().map(|(_, values)| values.clone()));
        (given.chain([(gradient, dy.to_vec())]).collect(), kept)
    })?;
    let gradients = found.split_off(1);
    Some((found.remove(0), gradients))
}

/// What an op makes of inputs that are stored as `element`.
pub fn forward(element: Element, inputs: &[Input], op: impl Fn(&mut Graph, &[Value]) -> Value) -> Option<Vec<f32>> {
    let mut found = run(|graph| {
        let values: Vec<Value> = inputs
            .iter()
            .enumerate()
            .map(|(i, (shape, _))| graph.input(format!("input {i}"), *shape, element))
            .collect();
        let y = op(graph, &values);
        (values.iter().copied().zip(inputs.iter().map(|(_, values)| values.clone())).collect(), vec![y])
    })?;
    found.pop()
}

/// As the CPU backend takes it.
pub fn tensor((shape, values): &Input) -> Tensor {
    Tensor::from_slice(*shape, values).unwrap()
}

/// The largest difference of two lists of one length.
pub fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let each = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    // NaN must not pass as small.
    each.fold(0.0, |most, d| if d > most || d.is_nan() { d } else { most })
}

/// What storing a result v in this element may cost: half a unit in the last place.
pub fn storage(element: Element, v: f64) -> f64 {
    match element {
        // 11 bits; below 2^-14 steps of 2^-24.
        Element::F16 => v.abs() / 2048.0 + 1.0 / f64::from(1 << 25),
        _ => 0.0,
    }
}
