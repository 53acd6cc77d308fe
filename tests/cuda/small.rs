//! Gates, sums, means, upsampling and batch norm, forward and backward: against the processor's ops, which answer to f64 references themselves
//! (tests/ops, tests/gradients).
//!
//! Tolerance in f32: 1e-5 of the largest value and of each, a few roundings more than the processor's own bound since the order differs. In f16 the
//! inputs are rounded before both sides see them, and the output adds half a unit of its last place, 2^-11.

use engine::Result;
use engine::cuda::graph::{Element, Graph, Value};
use engine::cuda::ops::{image, norm, pointwise, reduce, resample};
use engine::ops;
use engine::ops::norm as cpu_norm;
use engine::photo::Photo;
use engine::tape::Tape;
use engine::tensor::{Cpu, Shape, Tensor};

use crate::reference::Random;
use crate::run::{rounded, run};

const SHAPES: [[usize; 4]; 5] = [[1, 1, 1, 4], [3, 5, 7, 8], [2, 9, 31, 16], [5, 1, 33, 64], [1, 17, 3, 128]];

fn shape([d, h, w, c]: [usize; 4]) -> Shape {
    Shape { d, h, w, c }
}

fn tensor(shape: Shape, values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn close(what: &str, found: &[f32], expected: &[f32], element: Element) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let unit = if element == Element::F16 { 1.0 / 2048.0 } else { 0.0 };
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let bound = 1e-5 * largest.max(1e-3) + (1e-5 + unit) * b.abs();
        assert!((a - b).abs() <= bound, "{what}: element {i} is {a}, expected {b}");
    }
}

/// An op on inputs of these shapes on the device, in f32 (with gradients from a random one) and in f16, against the same on the tape.
fn check(
    what: &str,
    shapes: &[Shape],
    device: impl Fn(&mut Graph, &[Value]) -> Result<Value>,
    host: impl Fn(&Tape, &[&engine::tape::Var]) -> Result<Tensor>,
    host_gradients: impl Fn(&Cpu, &[Tensor], Tensor) -> Vec<Tensor>,
) {
    let mut random = Random::new(what);
    let values: Vec<Vec<f32>> = shapes.iter().map(|s| random.values(s.len())).collect();
    for element in [Element::F32, Element::F16] {
        let values: Vec<Vec<f32>> = values.iter().map(|v| rounded(element, v)).collect();
        let cpu = Cpu::new();
        let inputs: Vec<Tensor> = shapes.iter().zip(&values).map(|(s, v)| tensor(*s, v)).collect();
        let tape = Tape::new(&cpu);
        let vars: Vec<_> = inputs.iter().map(|t| tape.constant(t.clone())).collect();
        let expected = host(&tape, &vars.iter().collect::<Vec<_>>()).unwrap();
        let training = element == Element::F32;
        let gradient = random.values(expected.shape.len());
        let found = run(|graph| {
            let values_of: Vec<Value> =
                shapes.iter().enumerate().map(|(i, s)| graph.input(format!("{i}"), *s, element)).collect();
            let mut given: Vec<(Value, Vec<f32>)> = values_of.iter().copied().zip(values.clone()).collect();
            if training {
                values_of.iter().for_each(|&v| graph.want_gradient(v));
            }
            let y = device(graph, &values_of).unwrap();
            assert_eq!(graph.shape(y), expected.shape, "{what}");
            let mut kept = vec![y];
            if training {
                let dy = graph.input("gradient", expected.shape, Element::F32);
                given.push((dy, gradient.clone()));
                let gradients = graph.backward(y, dy).unwrap();
                kept.extend(values_of.iter().map(|v| gradients[v]));
            }
            (given, kept)
        });
        let Some(found) = found else { return };
        close(&format!("{what} {element:?}"), &found[0], &expected.data, element);
        if training {
            let gradients = host_gradients(&cpu, &inputs, tensor(expected.shape, &gradient));
            for (i, (found, expected)) in found[1..].iter().zip(&gradients).enumerate() {
                close(&format!("{what}: gradient {i}"), found, &expected.data, element);
            }
        }
    }
}

/// Gradients by the op's own backward on the tape.
fn by_tape<O: engine::tape::Op>(make: impl Fn() -> O) -> impl Fn(&Cpu, &[Tensor], Tensor) -> Vec<Tensor> {
    move |cpu, inputs, gradient| {
        let tape = Tape::new(cpu);
        let vars: Vec<_> = inputs.iter().map(|t| tape.parameter(t)).collect();
        let y = tape.apply(Boxed(make()), "test", &vars.iter().collect::<Vec<_>>()).unwrap();
        let gradients = tape.backward(y, gradient).unwrap();
        vars.iter().map(|v| gradients.of(v).unwrap().clone()).collect()
    }
}

/// An op by value, so that the tape may own it.
struct Boxed<O>(O);

impl<O: engine::tape::Op> engine::tape::Op for Boxed<O> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn saves(&self) -> engine::tape::Saves {
        self.0.saves()
    }
    fn forward(&mut self, cpu: &Cpu, inputs: &[&Tensor]) -> Result<Tensor> {
        self.0.forward(cpu, inputs)
    }
    fn backward(
        &self,
        cpu: &Cpu,
        saved: &engine::tape::Saved,
        gradient: Tensor,
        wanted: &[bool],
    ) -> Result<Vec<Option<Tensor>>> {
        self.0.backward(cpu, saved, gradient, wanted)
    }
}

fn check_op<O: engine::tape::Op>(
    what: &str,
    shapes: &[Shape],
    device: impl Fn(&mut Graph, &[Value]) -> Result<Value>,
    make: impl Fn() -> O + Copy,
) {
    let host = |tape: &Tape, vars: &[&engine::tape::Var]| {
        let tensors: Vec<&Tensor> = vars.iter().map(|v| v.tensor()).collect();
        make().forward(tape.cpu(), &tensors)
    };
    check(what, shapes, device, host, by_tape(make));
}

#[test]
fn sums_and_gates() {
    for size in SHAPES {
        let s = shape(size);
        check_op(
            &format!("add and relu {s}"),
            &[s, s],
            |g, v| pointwise::add_relu(g, "test", v[0], v[1]),
            || ops::pointwise::AddReluOp,
        );
        check_op(
            &format!("sigmoid gate {s}"),
            &[s, s],
            |g, v| pointwise::gate_refine(g, "test", v[0], v[1]),
            || ops::pointwise::GateOp::Refine,
        );
        check_op(
            &format!("plane gate {s}"),
            &[s, Shape { h: 1, w: 1, ..s }],
            |g, v| pointwise::gate_planes(g, "test", v[0], v[1]),
            || ops::pointwise::GateOp::Planes,
        );
        check_op(
            &format!("add vector {s}"),
            &[s, Shape { d: 1, h: 1, w: 1, c: s.c }],
            |g, v| pointwise::add_vector(g, "test", v[0], v[1]),
            || ops::pointwise::AddVectorOp,
        );
        check_op(
            &format!("concat {s}"),
            &[s, s.with_channels(12)],
            |g, v| pointwise::concat(g, "test", v[0], v[1]),
            || ops::pointwise::ConcatOp,
        );
    }
}

#[test]
fn means() {
    for size in SHAPES {
        let s = shape(size);
        check_op(
            &format!("plane mean {s}"),
            &[s],
            |g, v| reduce::plane_mean(g, "test", v[0]),
            || ops::reduce::MeanOp::Planes,
        );
        check_op(
            &format!("volume mean {s}"),
            &[s],
            |g, v| reduce::volume_mean(g, "test", v[0]),
            || ops::reduce::MeanOp::Volume,
        );
    }
}

#[test]
fn upsampling() {
    for (small, size, factor) in [
        ([1, 1, 1, 4], [1, 1, 1], 2),
        ([2, 3, 4, 8], [4, 6, 8], 2),
        ([2, 3, 4, 8], [3, 5, 7], 2),
        ([3, 3, 4, 8], [3, 5, 8], 2),
        ([1, 2, 5, 64], [2, 4, 9], 2),
        ([2, 2, 3, 1], [9, 13, 20], 8),
    ] {
        let (small, [d, h, w]) = (shape(small), size);
        let size = Shape { d, h, w, c: small.c };
        check_op(
            &format!("upsample {small} to {size}"),
            &[small],
            |g, v| resample::upsample(g, "test", v[0], factor, size),
            || ops::resample::UpsampleOp { factor, size, skip: false, relu: false },
        );
        for relu in [false, true] {
            if factor != 2 {
                continue;
            }
            check_op(
                &format!("upsample {small} to {size}, skip, relu {relu}"),
                &[small, size],
                |g, v| resample::upsample_add(g, "test", v[0], v[1], relu),
                || ops::resample::UpsampleOp { factor, size, skip: true, relu },
            );
        }
    }
}

#[test]
fn batch_norm() {
    for size in SHAPES {
        for relu in [false, true] {
            let s = shape(size);
            let mut random = Random::new(&format!("batch norm {s} {relu}"));
            // A mean that is large beside the deviation is what cancels.
            let x: Vec<f32> = random.values(s.len()).iter().map(|v| 3.0 + v).collect();
            let (gamma, beta) = (random.values(s.c), random.values(s.c));
            let dy = random.values(s.len());
            let vector = Shape { d: 1, h: 1, w: 1, c: s.c };
            let found = run(|graph| {
                let inputs = [("x", s), ("gamma", vector), ("beta", vector), ("dy", s)]
                    .map(|(name, shape)| graph.input(name, shape, Element::F32));
                inputs[..3].iter().for_each(|&v| graph.want_gradient(v));
                let normed = norm::batch_norm(graph, "test", inputs[0], inputs[1], inputs[2], relu).unwrap();
                let gradients = graph.backward(normed.y, inputs[3]).unwrap();
                let mut kept = vec![normed.y, normed.mean, normed.variance];
                kept.extend(inputs[..3].iter().map(|v| gradients[v]));
                let given = inputs.iter().copied().zip([x.clone(), gamma.clone(), beta.clone(), dy.clone()]);
                (given.collect(), kept)
            });
            let Some(found) = found else { return };
            let cpu = Cpu::new();
            let x = tensor(s, &x);
            let (y, statistics) = cpu_norm::forward(&cpu, &x, &gamma, &beta, relu).unwrap();
            let (dx, dgamma, dbeta) =
                cpu_norm::backward(&cpu, &x, (&gamma, &beta), &statistics, relu, &tensor(s, &dy)).unwrap();
            let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
            let expected = [
                y.data.to_vec(),
                narrow(&statistics.mean),
                narrow(&statistics.variance),
                dx.data.to_vec(),
                dgamma,
                dbeta,
            ];
            // One position has no variance: its gradient is zero times 300.
            let names = ["y", "mean", "variance", "dx", "dgamma", "dbeta"];
            for ((found, expected), name) in found.iter().zip(&expected).zip(names) {
                let largest = expected.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
                for (a, b) in found.iter().zip(expected) {
                    // x - mean and 1 / sigma carry the roundings of a mean of 3: 2^-23 of 3 by sigma's 0.3.
                    let bound = 2e-5 * largest + 2e-5 * b.abs();
                    assert!((a - b).abs() <= bound, "batch norm {s} relu {relu}: {name} {a}, expected {b}");
                }
            }
        }
    }
}

#[test]
fn photos() {
    let s = Shape { d: 1, h: 8, w: 12, c: 3 };
    let mut random = Random::new("photos");
    let rgb: Vec<f32> = (0..s.len()).map(|_| random.within(0.0, 1.0)).collect();
    let expected = ops::pointwise::normalize(&Cpu::new(), &Photo { width: 12, height: 8, rgb: rgb.clone() });
    for element in [Element::F32, Element::F16] {
        let found = run(|graph| {
            let photo = graph.input("photo", s, Element::F32);
            let y = image::normalize(graph, "test", photo, element).unwrap();
            (vec![(photo, rgb.clone())], vec![y])
        });
        let Some(found) = found else { return };
        assert_eq!(found[0], rounded(element, &expected.data));
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let mut graph = Graph::new();
    let x = graph.input("x", shape([2, 3, 4, 8]), Element::F32);
    let other = graph.input("other", shape([2, 3, 4, 12]), Element::F32);
    let half = graph.input("half", shape([2, 3, 4, 8]), Element::F16);
    for (error, expected) in [
        (
            pointwise::add(&mut graph, "t", x, other).unwrap_err(),
            "add: [D 2, H 3, W 4, C 8] f32 and [D 2, H 3, W 4, C 12] f32",
        ),
        (pointwise::add(&mut graph, "t", x, half).unwrap_err(), "f16"),
        (pointwise::gate_planes(&mut graph, "t", x, other).unwrap_err(), "plane gate: "),
        (resample::upsample_add(&mut graph, "t", x, other, true).unwrap_err(), "upsample: "),
        (image::normalize(&mut graph, "t", x, Element::F32).unwrap_err(), "expected C = 3"),
        (norm::batch_norm(&mut graph, "t", x, other, other, true).map(|n| n.y).unwrap_err(), "batch norm: "),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
}
