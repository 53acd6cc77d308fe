//! Depthwise convolution, upsampling, element-by-element operations and means.
//!
//! Small cases answer element by element to central differences of the plain f64 loops in `reference`, large ones of
//! linear operations to their adjoint.

use engine::cpu::ops::depthwise::Depthwise;
use engine::cpu::ops::pointwise::{
    add_vector_backward, concat, concat_backward, gate_backward, gate_planes_backward, relu_backward, sigmoid,
    sigmoid_backward,
};
use engine::cpu::ops::reduce::{plane_mean, plane_mean_backward, volume_mean, volume_mean_backward};
use engine::cpu::ops::resample::{upsample, upsample_backward};

use super::*;
use crate::reference::{self, Value, Volume};

fn shape([d, h, w, c]: [usize; 4]) -> Shape {
    Shape { d, h, w, c }
}

fn volume(shape: Shape, values: &[f32]) -> Volume {
    Volume::exact([shape.d, shape.h, shape.w, shape.c], values)
}

/// What `run` gives, having seen that recycled buffers full of NaN and the number of threads do not change a bit of it.
fn steady(what: &str, cpu: &Cpu, run: impl Fn() -> Vec<Tensor> + Sync) -> Vec<Tensor> {
    let bits = |tensors: &[Tensor]| -> Vec<Vec<u32>> {
        tensors.iter().map(|t| t.data.iter().map(|v| v.to_bits()).collect()).collect()
    };
    let first = run();
    let again = on_any_number_of_threads(what, || {
        for tensor in &first {
            let mut poison = tensor.clone();
            poison.data.fill(f32::NAN);
            cpu.recycle(poison);
        }
        bits(&run())
    });
    assert!(bits(&first) == again, "{what}: recycled buffers change the result");
    first
}

/// Central differences of sum(forward(x) dy) in each element of x.
///
/// The step is what f32 makes of it, so it is exact; the third derivative of a sigmoid, at most 1/8, leaves an error of
/// h^2 / 48, 3e-7 for the step of 2^-8; linear operations have none.
fn differences(x: &[f32], dy: &[f32], forward: impl Fn(&[f32]) -> Volume) -> Vec<f64> {
    let loss = |x: &[f32]| -> f64 {
        let y = forward(x);
        assert_eq!(y.data.len(), dy.len());
        y.data.iter().zip(dy).map(|(y, &dy)| y.v * f64::from(dy)).sum()
    };
    let mut moved = x.to_vec();
    let slope = |i: usize| {
        let (up, down) = (x[i] + 1.0 / 256.0, x[i] - 1.0 / 256.0);
        moved[i] = up;
        let above = loss(&moved);
        moved[i] = down;
        let below = loss(&moved);
        moved[i] = x[i];
        (above - below) / (f64::from(up) - f64::from(down))
    };
    (0..x.len()).map(slope).collect()
}

/// Within 1e-5 of the largest gradient: twenty times what a sum of a few hundred f32 products loses on average, and the
/// differences' own error is below it, too.
fn compare(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, e| m.max(e.abs()));
    assert!(largest > 1e-3, "{what}: gradients of at most {largest:e} test nothing");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(found) - expected).abs();
        assert!(apart <= 1e-5 * largest, "{what}: element {i} is {found:e}, expected {expected:e}");
    }
}

/// x + dx / 2: where x is random, <A x, dy> may nearly cancel and say nothing; this moves it away from zero.
fn moved(x: &[f32], dx: &[f32]) -> Vec<f32> {
    x.iter().zip(dx).map(|(x, d)| x + 0.5 * d).collect()
}

fn magnitudes(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| x.abs()).collect()
}

#[test]
fn depthwise_by_differences() {
    for (size, stride) in [
        ([1, 1, 1, 8], 1),
        ([1, 1, 1, 8], 2),
        ([1, 2, 3, 16], 2),
        ([2, 1, 2, 8], 1),
        ([3, 4, 5, 8], 1),
        ([3, 5, 4, 8], 2),
        ([4, 3, 7, 8], 2),
        ([5, 6, 2, 8], 2),
    ] {
        let mut random = Random::new(size.iter().product::<usize>() as u64 + stride as u64);
        let x = random.tensor(shape(size));
        let weights = random.values(27 * size[3]);
        let op = Depthwise::new(size[3], stride, &weights);
        let dy = random.tensor(op.output_shape(x.shape));
        let in_x = differences(&x.data, &dy.data, |x| reference::depthwise(&volume(shape(size), x), stride, &weights));
        let exact = volume(x.shape, &x.data);
        let in_weights = differences(&weights, &dy.data, |w| reference::depthwise(&exact, stride, w));
        for cpu in devices(x.data.len()) {
            let what = format!("depthwise {size:?} / {stride} on {}", cpu.level().name());
            let dx = steady(&what, &cpu, || vec![op.backward_input(&cpu, x.shape, &dy).unwrap()]);
            compare(&format!("input of {what}"), &dx[0].data, &in_x);
            let dw = on_any_number_of_threads(&what, || op.backward_weights(&cpu, &x, &dy).unwrap());
            compare(&format!("weights of {what}"), &dw, &in_weights);
        }
    }
}

/// More rows than the weights' gradient has parts; all channel widths of the network.
#[test]
fn depthwise_by_adjoint() {
    for (size, stride) in [([9, 17, 13, 24], 1), ([17, 15, 21, 16], 2), ([6, 31, 40, 8], 1), ([12, 16, 20, 64], 2)] {
        let mut random = Random::new(size.iter().product::<usize>() as u64);
        let x = random.tensor(shape(size));
        let weights = random.values(27 * size[3]);
        let op = Depthwise::new(size[3], stride, &weights);
        let dy = random.tensor(op.output_shape(x.shape));
        for cpu in devices(x.data.len()) {
            let what = format!("depthwise {size:?} / {stride} on {}", cpu.level().name());
            let forward = |weights: &[f32], x: &[f32]| {
                let x = Tensor::from_slice(shape(size), x).unwrap();
                Depthwise::new(size[3], stride, weights).forward(&cpu, &x).unwrap()
            };
            let dx = steady(&what, &cpu, || vec![op.backward_input(&cpu, x.shape, &dy).unwrap()]).remove(0);
            let near = moved(&x.data, &dx.data);
            // Roundings are proportional to the sum of the magnitudes of all products, not of what they come to.
            let size_of_all = dot(&forward(&magnitudes(&weights), &magnitudes(&near)).data, &magnitudes(&dy.data)).0;
            let (left, right) = (dot(&forward(&weights, &near).data, &dy.data), dot(&near, &dx.data));
            expect_adjoint(&format!("input of {what}"), (left.0, size_of_all), right, 27);

            let dw = on_any_number_of_threads(&what, || op.backward_weights(&cpu, &x, &dy).unwrap());
            let near = moved(&weights, &dw);
            let size_of_all = dot(&forward(&magnitudes(&near), &magnitudes(&x.data)).data, &magnitudes(&dy.data)).0;
            let (left, right) = (dot(&forward(&near, &x.data).data, &dy.data), dot(&near, &dw));
            expect_adjoint(&format!("weights of {what}"), (left.0, size_of_all), right, 27 + size[2]);
        }
    }
}

#[test]
fn upsampling() {
    for (factor, from, to) in [
        (2, [1, 1, 1, 8], [1, 1, 1]),
        (2, [1, 1, 1, 6], [2, 2, 2]),
        (8, [1, 1, 1, 1], [8, 5, 7]),
        (2, [3, 2, 4, 8], [5, 4, 7]),
        (2, [1, 3, 5, 24], [1, 5, 9]),
        (2, [1, 3, 5, 13], [1, 6, 10]),
        (8, [2, 2, 3, 1], [16, 9, 17]),
        (8, [1, 2, 3, 8], [1, 16, 23]),
        (2, [2, 2, 2, 8], [5, 7, 9]),
        (2, [4, 5, 6, 8], [1, 2, 3]),
        (2, [3, 9, 13, 32], [6, 17, 25]),
        (8, [5, 4, 6, 1], [33, 31, 48]),
    ] {
        let mut random = Random::new(from.iter().chain(&to).product::<usize>() as u64);
        let [d, h, w] = to;
        let x = random.tensor(shape(from));
        let dy = random.tensor(shape([d, h, w, from[3]]));
        let small = x.data.len() * dy.data.len() < 1 << 20;
        let expected =
            small.then(|| differences(&x.data, &dy.data, |x| reference::upsample(&volume(shape(from), x), factor, to)));
        for cpu in devices(dy.data.len()) {
            let what = format!("upsample {from:?} by {factor} to {to:?} on {}", cpu.level().name());
            let dx = steady(&what, &cpu, || vec![upsample_backward(&cpu, &dy, factor, x.shape).unwrap()]);
            if let Some(expected) = &expected {
                compare(&what, &dx[0].data, expected);
            }
            let near = Tensor::from_slice(x.shape, &moved(&x.data, &dx[0].data)).unwrap();
            let y = upsample(&cpu, &near, factor, dy.shape).unwrap();
            // Up to (2 factor)^3 outputs read a sample, more of them past the last one.
            let terms = (2 * factor).pow(3).max(d * h * w);
            expect_adjoint(&what, dot(&y.data, &dy.data), dot(&near.data, &dx[0].data), terms);
        }
    }
}

#[test]
fn gates_and_vectors() {
    for size in [[1, 1, 1, 8], [2, 3, 4, 5], [3, 1, 7, 8], [1, 5, 6, 3]] {
        let [d, _, _, c] = size;
        let mut random = Random::new(size.iter().product::<usize>() as u64);
        let (x, dy) = (random.tensor(shape(size)), random.tensor(shape(size)));
        // To both ends of the sigmoid.
        let mut wide = |size: [usize; 4]| {
            let values: Vec<f32> = (0..size.iter().product()).map(|_| 6.0 * random.value()).collect();
            Tensor::from_slice(shape(size), &values).unwrap()
        };
        let (all, planes) = (wide(size), wide([d, 1, 1, c]));
        let exact = |t: &Tensor| volume(t.shape, &t.data);

        let gated = |x: &Volume, g: &Volume| x.zip(g, |x, g| x * reference::sigmoid(g));
        let by_planes = |x: &Volume, g: &Volume| {
            Volume::from_fn(size, |[d, h, w, c]| {
                x.at([d, h, w, c]) * (Value::exact(1.0) + reference::sigmoid(g.at([d, 0, 0, c])))
            })
        };
        let with_vector = |v: &[f32]| {
            Volume::from_fn(size, |[d, h, w, c]| exact(&x).at([d, h, w, c]) + Value::exact(f64::from(v[c])))
        };
        let in_x = differences(&x.data, &dy.data, |x| gated(&volume(shape(size), x), &exact(&all)));
        let in_gate = differences(&all.data, &dy.data, |g| gated(&exact(&x), &volume(shape(size), g)));
        let in_x_planes = differences(&x.data, &dy.data, |x| by_planes(&volume(shape(size), x), &exact(&planes)));
        let in_planes = differences(&planes.data, &dy.data, |g| by_planes(&exact(&x), &volume(planes.shape, g)));
        let in_vector = differences(&planes.data[..c], &dy.data, with_vector);

        for cpu in devices(x.data.len()) {
            let what = |op: &str| format!("{op} {size:?} on {}", cpu.level().name());
            let found = steady(&what("gate"), &cpu, || {
                let (dx, dgate) = gate_backward(&cpu, &x, &all, &dy).unwrap();
                vec![dx, dgate]
            });
            compare(&what("input of gate"), &found[0].data, &in_x);
            compare(&what("gate"), &found[1].data, &in_gate);
            let found = steady(&what("plane gate"), &cpu, || {
                let (dx, dgate) = gate_planes_backward(&cpu, &x, &planes, &dy).unwrap();
                vec![dx, dgate]
            });
            compare(&what("input of plane gate"), &found[0].data, &in_x_planes);
            compare(&what("plane gate"), &found[1].data, &in_planes);
            let found = steady(&what("vector"), &cpu, || vec![add_vector_backward(&cpu, &dy)]);
            compare(&what("vector"), &found[0].data, &in_vector);
        }
    }
}

/// Sizes that are cut into several tasks: sums must not depend on who takes which, nor lose digits.
#[test]
fn sums_over_many_positions() {
    let size = shape([3, 61, 83, 8]);
    let mut random = Random::new(7);
    let (x, dy) = (random.tensor(size), random.tensor(size));
    let gate = random.tensor(Shape { h: 1, w: 1, ..size });
    let mut vector = vec![0.0f64; 8];
    let mut planes = vec![0.0f64; 24];
    for (i, (&x, &dy)) in x.data.iter().zip(dy.data.iter()).enumerate() {
        let at = i / (61 * 83 * 8) * 8 + i % 8;
        let s = 1.0 / (1.0 + (-f64::from(gate.data[at])).exp());
        vector[i % 8] += f64::from(dy);
        planes[at] += f64::from(x) * f64::from(dy) * s * (1.0 - s);
    }
    for cpu in devices(x.data.len()) {
        let found = steady("large", &cpu, || {
            let (dx, dgate) = gate_backward(&cpu, &x, &x, &dy).unwrap();
            let (dx_planes, dplanes) = gate_planes_backward(&cpu, &x, &gate, &dy).unwrap();
            vec![dx, dgate, dx_planes, dplanes, add_vector_backward(&cpu, &dy)]
        });
        compare("many gates", &found[3].data, &planes);
        compare("a vector added often", &found[4].data, &vector);
    }
}

/// The slope where x is large: 1 - sigmoid(x) in f32 would be 0 from x = 17 on.
#[test]
fn gates_keep_a_slope_where_they_saturate() {
    let cpu = Cpu::new();
    for g in [-80.0f32, -30.0, -17.5, 0.0, 17.5, 30.0, 80.0] {
        let one = |v: f32| Tensor::from_slice(Shape::plane(1, 1, 1), &[v]).unwrap();
        let (dx, dgate) = gate_backward(&cpu, &one(1.0), &one(g), &one(1.0)).unwrap();
        let e = (-f64::from(g).abs()).exp();
        let slope = e / (1.0 + e).powi(2);
        // Some roundings, and those of the exponential, which are proportional to |g|.
        let tolerance = (8.0 + f64::from(g).abs()) * f64::from(f32::EPSILON);
        assert!((f64::from(dgate.data[0]) / slope - 1.0).abs() <= tolerance, "slope at {g}: {}", dgate.data[0]);
        assert!((f64::from(dx.data[0] / sigmoid(g)) - 1.0).abs() <= tolerance, "value at {g}: {}", dx.data[0]);
    }
    for g in [-f32::INFINITY, -1e3, 1e3, f32::INFINITY] {
        let one = |v: f32| Tensor::from_slice(Shape::plane(1, 1, 1), &[v]).unwrap();
        let (dx, dgate) = gate_backward(&cpu, &one(1.0), &one(g), &one(1.0)).unwrap();
        assert_eq!((dx.data[0], dgate.data[0]), (if g > 0.0 { 1.0 } else { 0.0 }, 0.0));
    }
}

#[test]
fn activations() {
    for size in [[1, 1, 1, 1], [2, 3, 5, 7], [3, 1, 13, 8]] {
        let n = size.iter().product();
        let mut random = Random::new(n as u64);
        // Away from ReLU's kink, further than the differences' step.
        let values: Vec<f32> = random.values(n).iter().map(|v| v + 0.1f32.copysign(*v)).collect();
        let x = Tensor::from_slice(shape(size), &values).unwrap();
        let dy = random.tensor(x.shape);
        let of =
            |f: fn(f32) -> f32| Tensor::from_slice(x.shape, &x.data.iter().map(|&v| f(v)).collect::<Vec<_>>()).unwrap();
        let (rectified, squashed) = (of(|v| v.max(0.0)), of(sigmoid));
        let in_relu = differences(&x.data, &dy.data, |x| volume(shape(size), x).map(Value::relu));
        let in_sigmoid = differences(&x.data, &dy.data, |x| volume(shape(size), x).map(reference::sigmoid));
        for cpu in devices(n) {
            let found = steady("activations", &cpu, || {
                let relu = relu_backward(&cpu, &rectified, &dy).unwrap();
                vec![relu, sigmoid_backward(&cpu, &squashed, &dy).unwrap()]
            });
            if n > 1 || rectified.data[0] > 0.0 {
                compare(&format!("relu {size:?}"), &found[0].data, &in_relu);
            }
            compare(&format!("sigmoid {size:?}"), &found[1].data, &in_sigmoid);
        }
    }
    let tensor = |values: &[f32]| Tensor::from_slice(Shape::plane(1, 1, values.len()), values).unwrap();
    let (y, dy) = (tensor(&[0.0, -0.0, f32::MIN_POSITIVE, 2.0]), tensor(&[3.0, 4.0, 5.0, -6.0]));
    assert_eq!(relu_backward(&Cpu::new(), &y, &dy).unwrap().data[..], [0.0, 0.0, 5.0, -6.0]);
}

#[test]
fn concatenations_split() {
    for (size, channels) in [([1, 1, 1, 2], 1), ([2, 3, 5, 24], 8), ([2, 19, 31, 13], 6)] {
        let dy = Random::new(3).tensor(shape(size));
        for cpu in devices(dy.data.len()) {
            let parts = steady("concat", &cpu, || {
                let (da, db) = concat_backward(&cpu, &dy, channels).unwrap();
                vec![da, db]
            });
            assert_eq!((parts[0].shape.c, parts[1].shape.c), (channels, size[3] - channels));
            assert_eq!(concat(&cpu, &parts[0], &parts[1]).unwrap().data[..], dy.data[..], "{size:?}");
            for (i, &v) in parts[0].data.iter().enumerate() {
                assert_eq!(v, dy.data[i / channels * size[3] + i % channels], "{size:?} at {i}");
            }
        }
    }
}

#[test]
fn means() {
    for size in [[1, 1, 1, 8], [3, 2, 5, 7], [2, 7, 3, 16], [4, 33, 29, 8]] {
        let mut random = Random::new(size.iter().product::<usize>() as u64);
        let x = random.tensor(shape(size));
        let in_planes = random.tensor(Shape { h: 1, w: 1, ..x.shape });
        let in_all = random.tensor(Shape { d: 1, h: 1, w: 1, c: size[3] });
        let small = (x.data.len() < 1000).then(|| {
            let of = |x: &[f32]| volume(shape(size), x);
            [
                differences(&x.data, &in_planes.data, |x| reference::plane_mean(&of(x))),
                differences(&x.data, &in_all.data, |x| reference::volume_mean(&of(x))),
            ]
        });
        for cpu in devices(x.data.len()) {
            let found = steady("means", &cpu, || {
                let planes = plane_mean_backward(&cpu, &in_planes, x.shape).unwrap();
                vec![planes, volume_mean_backward(&cpu, &in_all, x.shape).unwrap()]
            });
            for (expected, found) in small.iter().flatten().zip(&found) {
                compare(&format!("mean {size:?}"), &found.data, expected);
            }
            // The means themselves are rounded but once, and so are their gradients.
            for (dy, dx, mean) in [
                (&in_planes, &found[0], plane_mean as fn(&Tensor) -> Tensor),
                (&in_all, &found[1], volume_mean as fn(&Tensor) -> Tensor),
            ] {
                let scaled: Vec<f32> = dx.data.iter().map(|d| d * (size[1] * size[2]) as f32).collect();
                let near = Tensor::from_slice(x.shape, &moved(&x.data, &scaled)).unwrap();
                let left = dot(&mean(&near).data, &dy.data);
                expect_adjoint(&format!("mean {size:?}"), left, dot(&near.data, &dx.data), 1);
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let cpu = &Cpu::new();
    let zeros = |d, h, w, c| Tensor::zeros(Shape { d, h, w, c });
    let depthwise = Depthwise::new(16, 2, &[0.0; 16 * 27]);
    let x = zeros(2, 3, 4, 16);
    let text = |e: Option<engine::Error>| e.expect("the shapes do not fit").to_string();
    #[rustfmt::skip]
    let cases = [
        (
            text(depthwise.backward_input(cpu, x.shape, &x).err()),
            "depthwise convolution gradient: output gradient [D 2, H 3, W 4, C 16], expected [D 1, H 2, W 2, C 16]",
        ),
        (
            text(depthwise.backward_weights(cpu, &zeros(2, 3, 4, 8), &x).err()),
            "depthwise convolution gradient: input [D 2, H 3, W 4, C 8], expected C = 16",
        ),
        (
            text(depthwise.backward_weights(cpu, &zeros(0, 3, 4, 16), &zeros(0, 2, 2, 16)).err()),
            "depthwise convolution gradient: empty input [D 0, H 3, W 4, C 16]",
        ),
        (
            text(upsample_backward(cpu, &x, 2, x.shape.with_channels(8)).err()),
            "upsample gradient: input [D 2, H 3, W 4, C 16], expected C = 8",
        ),
        (
            text(upsample_backward(cpu, &x, 2, Shape { w: 0, ..x.shape }).err()),
            "upsample gradient: [D 2, H 3, W 4, C 16] to [D 2, H 3, W 0, C 16]",
        ),
        (
            text(gate_backward(cpu, &x, &x, &zeros(1, 3, 4, 16)).err()),
            "sigmoid gate gradient: output gradient [D 1, H 3, W 4, C 16], expected [D 2, H 3, W 4, C 16]",
        ),
        (
            text(gate_planes_backward(cpu, &x, &x, &x).err()),
            "plane gate gradient: gate [D 2, H 3, W 4, C 16], expected [D 2, H 1, W 1, C 16]",
        ),
        (
            text(concat_backward(cpu, &x, 16).err()),
            "concat gradient: [D 2, H 3, W 4, C 16] after channel 16; both parts need one",
        ),
        (
            text(relu_backward(cpu, &x, &zeros(2, 3, 4, 8)).err()),
            "relu gradient: output gradient [D 2, H 3, W 4, C 8], expected [D 2, H 3, W 4, C 16]",
        ),
        (
            text(sigmoid_backward(cpu, &x, &zeros(2, 3, 4, 8)).err()),
            "sigmoid gradient: output gradient [D 2, H 3, W 4, C 8], expected [D 2, H 3, W 4, C 16]",
        ),
        (
            text(plane_mean_backward(cpu, &x, x.shape).err()),
            "plane mean gradient: output gradient [D 2, H 3, W 4, C 16], expected [D 2, H 1, W 1, C 16]",
        ),
        (
            text(volume_mean_backward(cpu, &x, x.shape).err()),
            "volume mean gradient: output gradient [D 2, H 3, W 4, C 16], expected [D 1, H 1, W 1, C 16]",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}
