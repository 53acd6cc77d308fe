//! Sums, gates and concatenation.

use engine::cpu::device::Cpu;
use engine::cpu::ops::pointwise as cpu_ops;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::pointwise;
use engine::cuda::storage::Element;
use engine::net::tensor::Shape;

use crate::backward::{Input, difference, forward, storage, tensor, with_gradients};
use crate::reference::{Random, Value as Bounded, sigmoid};
use crate::run::rounded;

const ELEMENTS: [Element; 2] = [Element::F32, Element::F16];

fn shape(d: usize, h: usize, w: usize, c: usize) -> Shape {
    Shape { d, h, w, c }
}

/// One voxel, odd sides, every kind of channel count, runs that do not end with the shape.
fn shapes() -> Vec<Shape> {
    vec![
        shape(1, 1, 1, 1),
        shape(1, 1, 5, 3),
        shape(3, 5, 7, 4),
        shape(2, 1, 13, 8),
        shape(1, 7, 3, 48),
        shape(4, 3, 2, 64),
        shape(1, 1, 257, 2),
    ]
}

fn input(random: &mut Random, element: Element, shape: Shape) -> Input {
    (shape, rounded(element, &random.values(shape.len())))
}

/// Compares an op of two inputs, the second of the shape that `second` makes of the first's, with what each output
/// element should be.
fn check_forward(
    name: &str,
    second: impl Fn(Shape) -> Shape,
    op: impl Fn(&mut Graph, Value, Value) -> Value,
    expected: impl Fn(&Input, &Input, usize) -> Bounded,
) {
    for element in ELEMENTS {
        for shape in shapes() {
            let mut random = Random::new(name);
            let a = input(&mut random, element, shape);
            let b = input(&mut random, element, second(shape));
            let Some(found) = forward(element, &[a.clone(), b.clone()], |g, v| op(g, v[0], v[1])) else {
                return;
            };
            for (i, &found) in found.iter().enumerate() {
                let Bounded { v, e } = expected(&a, &b, i);
                let bound = e + storage(element, v);
                assert!(
                    (f64::from(found) - v).abs() <= bound,
                    "{name} {shape} {element:?} [{i}]: {found}, expected {v} within {bound}"
                );
            }
        }
    }
}

fn at(input: &Input, i: usize) -> Bounded {
    Bounded::exact(f64::from(input.1[i]))
}

#[test]
fn sums_match_f64() {
    check_forward("add", |s| s, |g, a, b| pointwise::add(g, "test", a, b).unwrap(), |a, b, i| at(a, i) + at(b, i));
    check_forward(
        "add_relu",
        |s| s,
        |g, a, b| pointwise::add_relu(g, "test", a, b).unwrap(),
        |a, b, i| (at(a, i) + at(b, i)).relu(),
    );
    check_forward(
        "add_vector",
        |s| Shape { d: 1, h: 1, w: 1, c: s.c },
        |g, a, b| pointwise::add_vector(g, "test", a, b).unwrap(),
        |a, b, i| at(a, i) + at(b, i % b.0.c),
    );
}

#[test]
fn gates_match_f64() {
    check_forward(
        "gate_refine",
        |s| s,
        |g, a, b| pointwise::gate_refine(g, "test", a, b).unwrap(),
        |a, b, i| at(a, i) * sigmoid(at(b, i)),
    );
    check_forward(
        "gate_planes",
        |s| Shape { h: 1, w: 1, ..s },
        |g, a, b| pointwise::gate_planes(g, "test", a, b).unwrap(),
        |a, b, i| {
            let Shape { h, w, c, .. } = a.0;
            at(a, i) * (Bounded::exact(1.0) + sigmoid(at(b, i / (h * w * c) * c + i % c)))
        },
    );
}

#[test]
pub fn concat_copies_bits() {
    for element in ELEMENTS {
        for (shape, other) in [
            (shape(1, 1, 1, 1), 2),
            (shape(3, 5, 7, 4), 8),
            (shape(2, 3, 5, 8), 8),
            (shape(1, 2, 3, 6), 3),
            (shape(2, 3, 1, 64), 64),
        ] {
            let mut random = Random::new("concat");
            let a = input(&mut random, element, shape);
            let b = input(&mut random, element, shape.with_channels(other));
            let op = |g: &mut Graph, v: &[Value]| pointwise::concat(g, "test", v[0], v[1]).unwrap();
            let Some(found) = forward(element, &[a.clone(), b.clone()], op) else { return };
            let cpu = cpu_ops::concat(&Cpu::new(), &tensor(&a), &tensor(&b)).unwrap();
            assert_eq!(found, cpu.data.to_vec());
            if element == Element::F32 {
                let dy = random.values(cpu.shape.len());
                let (_, gradients) = with_gradients(&[a, b], &dy, op).unwrap();
                let (da, db) = cpu_ops::concat_backward(&Cpu::new(), &tensor(&(cpu.shape, dy)), shape.c).unwrap();
                assert_eq!(gradients, [da.data.to_vec(), db.data.to_vec()]);
            }
        }
    }
}

#[test]
fn gradients_of_sums_are_the_cpus() {
    let cpu = Cpu::new();
    for shape in shapes() {
        let mut random = Random::new("sum gradients");
        let (a, b) = (input(&mut random, Element::F32, shape), input(&mut random, Element::F32, shape));
        let dy = random.values(shape.len());
        let both = [a.clone(), b];
        let Some((_, same)) = with_gradients(&both, &dy, |g, v| pointwise::add(g, "test", v[0], v[1]).unwrap()) else {
            return;
        };
        assert_eq!(same, [dy.clone(), dy.clone()]);
        let (y, cut) = with_gradients(&both, &dy, |g, v| pointwise::add_relu(g, "test", v[0], v[1]).unwrap()).unwrap();
        let expected = cpu_ops::relu_backward(&cpu, &tensor(&(shape, y)), &tensor(&(shape, dy.clone()))).unwrap();
        assert_eq!(cut, [expected.data.to_vec(), expected.data.to_vec()]);

        let vector = input(&mut random, Element::F32, Shape { d: 1, h: 1, w: 1, c: shape.c });
        let op = |g: &mut Graph, v: &[Value]| pointwise::add_vector(g, "test", v[0], v[1]).unwrap();
        let (_, found) = with_gradients(&[a, vector], &dy, op).unwrap();
        assert_eq!(found[0], dy);
        let expected = cpu_ops::add_vector_backward(&cpu, &tensor(&(shape, dy)));
        // Four values of at most 1 are added in f32 before f64 takes over: 3 roundings of at most 4 units, then one of
        // the result.
        let tolerance = shape.positions() as f64 * 4.0 / f64::from(1 << 24);
        assert!(difference(&found[1], &expected.data) < tolerance);
    }
}

#[test]
fn gradients_of_gates_are_the_cpus() {
    let cpu = Cpu::new();
    for shape in shapes() {
        let mut random = Random::new("gate gradients");
        let x = input(&mut random, Element::F32, shape);
        // Gates from -12 to 12: both ends of the sigmoid.
        let mut wide =
            |shape: Shape| -> Input { (shape, random.values(shape.len()).iter().map(|v| 12.0 * v).collect()) };
        let (refine, planes) = (wide(shape), wide(Shape { h: 1, w: 1, ..shape }));
        let dy = random.values(shape.len());
        let of_cpu = tensor(&(shape, dy.clone()));
        // x, dy within 1; the exponential is off by 2 units in the last place, the quotient and two products by one
        // each.
        let tolerance = 8.0 / f64::from(1 << 24);
        let op = |g: &mut Graph, v: &[Value]| pointwise::gate_refine(g, "test", v[0], v[1]).unwrap();
        let Some((_, found)) = with_gradients(&[x.clone(), refine.clone()], &dy, op) else { return };
        let (dx, dgate) = cpu_ops::gate_backward(&cpu, &tensor(&x), &tensor(&refine), &of_cpu).unwrap();
        assert!(difference(&found[0], &dx.data) < tolerance && difference(&found[1], &dgate.data) < tolerance);

        let op = |g: &mut Graph, v: &[Value]| pointwise::gate_planes(g, "test", v[0], v[1]).unwrap();
        let (_, found) = with_gradients(&[x.clone(), planes.clone()], &dy, op).unwrap();
        let (dx, dgate) = cpu_ops::gate_planes_backward(&cpu, &tensor(&x), &tensor(&planes), &of_cpu).unwrap();
        assert!(difference(&found[0], &dx.data) < tolerance);
        // As for a vector's sum, times a slope of at most 1/4.
        let of_sum = (shape.h * shape.w + 8) as f64 / f64::from(1 << 24);
        assert!(difference(&found[1], &dgate.data) < of_sum);
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let mut graph = Graph::new();
    let mut value = |shape, element| graph.input("x", shape, element);
    let a = value(shape(2, 3, 5, 8), Element::F32);
    let other = value(shape(2, 3, 5, 4), Element::F32);
    let half = value(shape(2, 3, 5, 8), Element::F16);
    let message = |result: engine::Result<Value>| result.unwrap_err().to_string();
    assert_eq!(
        message(pointwise::add(&mut graph, "test", a, other)),
        "add: [D 2, H 3, W 5, C 8] and [D 2, H 3, W 5, C 4]; expected one shape"
    );
    assert_eq!(
        message(pointwise::add_relu(&mut graph, "test", a, half)),
        "add_relu: inputs of f32, f16; expected f32, or f16, for all"
    );
    assert_eq!(
        message(pointwise::gate_planes(&mut graph, "test", a, other)),
        "gate_planes: attention [D 2, H 3, W 5, C 4], expected [D 2, H 1, W 1, C 8]"
    );
}
