//! Depthwise convolutions and the convolution to one channel.

use engine::cpu::device::Cpu;
use engine::cpu::ops::depthwise::{Depthwise, ToOneChannelOp};
use engine::cpu::tape::Tape;
use engine::cuda::graph::Graph;
use engine::cuda::ops::depthwise::{depthwise, to_one_channel};
use engine::cuda::storage::Element;
use engine::net::tensor::{Shape, Tensor};

use crate::reference::{self, Random, Volume, roundings};
use crate::run::{rounded, run};

/// Half a unit in the last place of 1 in f16, and half the smallest number above zero.
const U16: f64 = 1.0 / 2048.0;
const TINY16: f64 = 1.0 / (1u64 << 25) as f64;

const SIZES: [[usize; 4]; 8] = [
    [1, 1, 1, 8],
    [3, 5, 7, 16],
    [2, 1, 13, 4],
    [1, 7, 2, 32],
    [5, 2, 3, 12],
    [2, 3, 4, 96],
    [2, 2, 5, 128],
    [4, 6, 9, 8],
];

fn shape([d, h, w, c]: [usize; 4]) -> Shape {
    Shape { d, h, w, c }
}

fn output(x: Shape, stride: usize) -> Shape {
    Shape { d: x.d.div_ceil(stride), h: x.h.div_ceil(stride), w: x.w.div_ceil(stride), c: x.c }
}

#[test]
pub fn forward_is_the_reference() {
    for size in SIZES {
        for stride in [1, 2] {
            for element in [Element::F32, Element::F16] {
                let what = format!("{size:?} stride {stride} {element:?}");
                let mut random = Random::new(&what);
                let values = rounded(element, &random.values(shape(size).len()));
                let weights = random.values(27 * size[3]);
                let Some(found) = run(|graph| {
                    let x = graph.input("x", shape(size), element);
                    let w = graph.constant("w", Shape::plane(1, 1, weights.len()), Element::F32, &weights);
                    let y = depthwise(graph, "test", x, w, stride).unwrap();
                    (vec![(x, values.clone())], vec![y])
                }) else {
                    return;
                };
                let truth = reference::depthwise(&Volume::exact(size, &values), stride, &weights);
                assert_eq!(truth.data.len(), found[0].len());
                for (i, (truth, &found)) in truth.data.iter().zip(&found[0]).enumerate() {
                    // f16 adds one rounding of what is stored; x was drawn from its numbers.
                    let bound = match element {
                        Element::F16 => truth.e + U16 * (truth.v.abs() + truth.e) + TINY16,
                        _ => truth.e,
                    };
                    let off = (f64::from(found) - truth.v).abs();
                    assert!(off <= bound, "{what} element {i}: {found}, expected {} within {bound}", truth.v);
                }
            }
        }
    }
}

/// Two computations of a sum of n terms of at most 1 each, n / 3 of that on average: twice the bound of one with n
/// such terms.
fn compare(what: &str, found: &[f32], expected: &[f32], terms: usize) {
    let bound = 2.0 * roundings(terms + 2) * reference::U * terms as f64;
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(*f) - f64::from(*e)).abs();
        assert!(off <= bound, "{what} {i}: {f}, expected {e} within {bound}");
    }
}

#[test]
fn gradients_are_the_processors() {
    let cpu = Cpu::new();
    // The CPU takes multiples of 8 channels.
    for size in SIZES.into_iter().filter(|s| s[3] % 8 == 0).chain([[3, 20, 40, 8]]) {
        for stride in [1, 2] {
            let (x_shape, y_shape) = (shape(size), output(shape(size), stride));
            let what = format!("{size:?} stride {stride}");
            let mut random = Random::new(&what);
            let (values, weights) = (random.values(x_shape.len()), random.values(27 * size[3]));
            let given = random.values(y_shape.len());
            let Some(found) = run(|graph| {
                let x = graph.input("x", x_shape, Element::F32);
                let w = graph.input("w", Shape::plane(1, 1, weights.len()), Element::F32);
                let dy = graph.input("dy", y_shape, Element::F32);
                [x, w].iter().for_each(|&v| graph.want_gradient(v));
                let y = depthwise(graph, "test", x, w, stride).unwrap();
                let gradients = graph.backward(y, dy).unwrap();
                let inputs = vec![(x, values.clone()), (w, weights.clone()), (dy, given.clone())];
                (inputs, vec![gradients[&x], gradients[&w]])
            }) else {
                return;
            };
            let op = Depthwise::new(size[3], stride, &weights);
            let tensor = |shape, values: &[f32]| Tensor::from_slice(shape, values).unwrap();
            let dy = tensor(y_shape, &given);
            let dx = op.backward_input(&cpu, x_shape, &dy).unwrap();
            let dw = op.backward_weights(&cpu, &tensor(x_shape, &values), &dy).unwrap();
            compare(&format!("{what} dx"), &found[0], &dx.data, 27);
            compare(&format!("{what} dw"), &found[1], &dw, y_shape.positions());
        }
    }
}

/// Channels that the CPU does not take: a linear op's gradients are its transpose, sum of dy y = sum of dx x = sum of
/// dw w.
#[test]
fn gradients_of_odd_channels_are_adjoint() {
    for (size, stride) in [([3, 4, 5, 12], 1), ([3, 4, 5, 20], 2)] {
        let (x_shape, y_shape) = (shape(size), output(shape(size), stride));
        let mut random = Random::new(&format!("adjoint {size:?} {stride}"));
        let (values, weights) = (random.values(x_shape.len()), random.values(27 * size[3]));
        let given = random.values(y_shape.len());
        let Some(found) = run(|graph| {
            let x = graph.input("x", x_shape, Element::F32);
            let w = graph.input("w", Shape::plane(1, 1, weights.len()), Element::F32);
            let dy = graph.input("dy", y_shape, Element::F32);
            [x, w].iter().for_each(|&v| graph.want_gradient(v));
            let y = depthwise(graph, "test", x, w, stride).unwrap();
            let gradients = graph.backward(y, dy).unwrap();
            let inputs = vec![(x, values.clone()), (w, weights.clone()), (dy, given.clone())];
            (inputs, vec![y, gradients[&x], gradients[&w]])
        }) else {
            return;
        };
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
        let products = dot(&given, &found[0]);
        // Each of the products is off by at most the bound of a sum of 27 terms (dw: of the positions), and there are
        // that many of them.
        let terms = 27 * y_shape.len();
        let bound = roundings(terms) * reference::U * terms as f64;
        for (name, sum) in [("dx", dot(&values, &found[1])), ("dw", dot(&weights, &found[2]))] {
            assert!((sum - products).abs() <= bound, "{size:?} {name}: {sum}, expected {products}");
        }
    }
}

#[test]
fn one_channel_is_the_processors() {
    let cpu = Cpu::new();
    for size in [[3, 5, 7, 8], [1, 1, 2, 8], [4, 17, 3, 16]] {
        let (x_shape, y_shape) = (shape(size), Shape { c: 1, ..shape(size) });
        let mut random = Random::new(&format!("one channel {size:?}"));
        let (values, weights) = (random.values(x_shape.len()), random.values(27 * size[3]));
        let (bias, given) = (random.values(1), random.values(y_shape.len()));
        let Some(found) = run(|graph| {
            let x = graph.input("x", x_shape, Element::F32);
            let w = graph.input("w", Shape::plane(1, 1, weights.len()), Element::F32);
            let b = graph.input("b", Shape::plane(1, 1, 1), Element::F32);
            let dy = graph.input("dy", y_shape, Element::F32);
            [x, w, b].iter().for_each(|&v| graph.want_gradient(v));
            let y = to_one_channel(graph, "test", x, w, b).unwrap();
            let gradients = graph.backward(y, dy).unwrap();
            let inputs = vec![(x, values.clone()), (w, weights.clone()), (b, bias.clone()), (dy, given.clone())];
            (inputs, vec![y, gradients[&x], gradients[&w], gradients[&b]])
        }) else {
            return;
        };
        let tensor = |shape, values: &[f32]| Tensor::from_slice(shape, values).unwrap();
        let x = tensor(x_shape, &values);
        let w = tensor(Shape::plane(1, 1, weights.len()), &weights);
        let b = tensor(Shape::plane(1, 1, 1), &bias);
        let tape = Tape::new(&cpu);
        let (px, pw, pb) = (tape.parameter(&x), tape.parameter(&w), tape.parameter(&b));
        let y = tape.apply(ToOneChannelOp, "test", &[&px, &pw, &pb]).unwrap();
        compare("y", &found[0], &y.tensor().data, 27 * size[3] + 1);
        let gradients = tape.backward([(y, tensor(y_shape, &given))]).unwrap();
        let of = |p| gradients.of(p).unwrap().data.to_vec();
        compare("dx", &found[1], &of(&px), 27);
        compare("dw", &found[2], &of(&pw), y_shape.positions());
        compare("db", &found[3], &of(&pb), y_shape.positions());
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let mut graph = Graph::new();
    let x = graph.input("x", shape([2, 2, 2, 8]), Element::F32);
    let w = graph.constant("w", Shape::plane(1, 1, 27 * 4), Element::F32, &[0.0; 27 * 4]);
    let error = depthwise(&mut graph, "context4", x, w, 2).unwrap_err().to_string();
    assert!(error.contains("108 weights of f32 and stride 2 at context4"), "{error}");
    let w = graph.constant("w", Shape::plane(1, 1, 27 * 8), Element::F32, &[0.0; 27 * 8]);
    let error = depthwise(&mut graph, "context4", x, w, 3).unwrap_err().to_string();
    assert!(error.contains("stride 1 or 2"), "{error}");
}
