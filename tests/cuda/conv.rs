//! Dense convolutions, forward in f32 and f16, and their gradients.

use engine::cpu::device::Cpu;
use engine::cpu::ops::conv_backward::ConvGeometry;
use engine::cuda::graph::{Arg, Graph, Value, Work};
use engine::cuda::ops::conv::{Algorithm, ConvLayer, algorithm, conv, conv_split, layer};
use engine::cuda::ops::conv_gradient::conv_trained;
use engine::cuda::storage::Element;
use engine::net::layers::Activation;
use engine::net::tensor::{Shape, Tensor};

use crate::reference::{self, Convolution, Random, Volume, roundings};
use crate::run::{rounded, run};
use crate::test_device::{on_gpu, on_interpreter};

type Channels = (usize, usize);
type Size = [usize; 3];

/// Half a unit in the last place of 1 in f16, and half the smallest number above zero.
const U16: f64 = 1.0 / 2048.0;
const TINY16: f64 = 1.0 / (1u64 << 25) as f64;

pub fn plane(side: usize, stride: usize, channels: Channels) -> ConvGeometry {
    ConvGeometry { channels, kernel: [1, side, side], stride: [1, stride, stride] }
}

pub fn volume(side: usize, stride: usize, channels: Channels) -> ConvGeometry {
    ConvGeometry { channels, kernel: [side; 3], stride: [stride; 3] }
}

/// A volume whose planes keep their number: a narrow stage's.
pub fn kept(channels: Channels) -> ConvGeometry {
    ConvGeometry { channels, kernel: [3; 3], stride: [1, 2, 2] }
}

fn shape([d, h, w]: Size, c: usize) -> Shape {
    Shape { d, h, w, c }
}

#[derive(Clone, Copy, Default)]
pub struct Epilogue {
    residual: bool,
    relu: bool,
    /// Into two outputs from this channel on.
    split: Option<usize>,
}
pub const PLAIN: Epilogue = Epilogue { residual: false, relu: false, split: None };
const RELU: Epilogue = Epilogue { relu: true, ..PLAIN };
const SUM: Epilogue = Epilogue { residual: true, ..PLAIN };
const SUM_RELU: Epilogue = Epilogue { residual: true, ..RELU };

struct Problem {
    geometry: ConvGeometry,
    x: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Problem {
    fn new(geometry: ConvGeometry, size: Size, element: Element) -> Self {
        let (ci, co) = geometry.channels;
        let mut random = Random::new(&format!("{geometry:?} {size:?}"));
        let from = shape(size, ci);
        // What is stored in f16 is drawn from its numbers: their rounding is not the kernels' affair. Weights are f16
        // where tensor cores read them.
        let stored = match algorithm(&geometry, element) {
            Algorithm::Direct => Element::F32,
            _ => Element::F16,
        };
        let x = rounded(element, &random.values(from.len()));
        let weights = rounded(stored, &random.values(geometry.weights()));
        let bias = random.values(co);
        let residual = rounded(element, &random.values(geometry.output_shape(from).len()));
        Self { geometry, x, weights, bias, residual }
    }

    fn layer(&self, graph: &mut Graph, relu: bool, element: Element) -> ConvLayer {
        layer(graph, "test", self.geometry, &self.weights, &self.bias, Activation::relu_if(relu), element).unwrap()
    }
}

/// Compares one layer with the f64 reference.
pub fn check(geometry: ConvGeometry, size: Size, epilogue: Epilogue, element: Element) {
    let problem = Problem::new(geometry, size, element);
    let x_shape = shape(size, geometry.channels.0);
    let y_shape = geometry.output_shape(x_shape);
    let Some(found) = run(|graph| {
        let x = graph.input("x", x_shape, element);
        let layer = problem.layer(graph, epilogue.relu, element);
        let mut inputs = vec![(x, problem.x.clone())];
        let residual = epilogue.residual.then(|| {
            let r = graph.input("residual", y_shape, element);
            inputs.push((r, problem.residual.clone()));
            r
        });
        let outputs = match epilogue.split {
            Some(first) => {
                let (a, b) = conv_split(graph, "test", x, &layer, first).unwrap();
                vec![a, b]
            }
            None => vec![conv(graph, "test", x, &layer, residual).unwrap()],
        };
        (inputs, outputs)
    }) else {
        return;
    };
    let extent = |s: Shape| [s.d, s.h, s.w, s.c];
    let truth = Convolution {
        channels: geometry.channels,
        kernel: geometry.kernel,
        stride: geometry.stride,
        weights: &problem.weights,
        bias: &problem.bias,
        relu: epilogue.relu,
    };
    let residual = epilogue.residual.then(|| Volume::exact(extent(y_shape), &problem.residual));
    let truth = truth.apply(&Volume::exact(extent(x_shape), &problem.x), residual.as_ref());
    let parts = match epilogue.split {
        Some(first) => vec![truth.channels(0, first), truth.channels(first, y_shape.c)],
        None => vec![truth],
    };
    for (part, found) in parts.iter().zip(&found) {
        assert_eq!(part.data.len(), found.len());
        for (i, (truth, &found)) in part.data.iter().zip(found).enumerate() {
            let bound = match element {
                // Products of f16 numbers are exact in f32, so the bound of f32 sums holds, then comes one rounding of
                // what is stored.
                Element::F16 => truth.e + U16 * (truth.v.abs() + truth.e) + TINY16,
                _ => truth.e,
            };
            assert!(
                (f64::from(found) - truth.v).abs() <= bound,
                "{geometry:?} {size:?} {element:?} element {i}: {found}, expected {} within {bound}",
                truth.v
            );
        }
    }
}

#[test]
fn layers_in_f32() {
    #[rustfmt::skip]
    let cases = [
        (plane(3, 1, (3, 8)), [1, 17, 19], RELU),
        (plane(3, 1, (8, 8)), [2, 5, 37], SUM),
        (plane(5, 2, (8, 16)), [1, 13, 35], RELU),
        (plane(3, 2, (32, 48)), [1, 5, 7], RELU),
        (plane(1, 1, (64, 48)), [1, 3, 5], PLAIN),
        (plane(3, 1, (2, 8)), [1, 1, 1], RELU),
        (plane(3, 1, (8, 1)), [1, 18, 3], SUM_RELU),
        (plane(3, 1, (20, 12)), [1, 4, 9], SUM_RELU),
        (plane(3, 2, (6, 10)), [2, 5, 4], PLAIN),
        (volume(3, 2, (32, 32)), [3, 5, 7], Epilogue { split: Some(16), ..RELU }),
        (volume(3, 2, (4, 12)), [4, 2, 33], Epilogue { split: Some(7), ..PLAIN }),
        (volume(3, 1, (16, 8)), [4, 3, 21], RELU),
        (volume(3, 1, (8, 1)), [3, 5, 6], PLAIN),
        (volume(1, 1, (16, 1)), [3, 5, 7], PLAIN),
        (volume(1, 2, (16, 32)), [5, 3, 4], PLAIN),
        (volume(1, 2, (96, 128)), [1, 2, 3], SUM_RELU),
        (volume(3, 1, (40, 64)), [2, 1, 2], RELU),
        (kept((8, 16)), [4, 5, 7], RELU),
        (kept((16, 32)), [3, 4, 35], PLAIN),
    ];
    for (geometry, size, epilogue) in cases {
        check(geometry, size, epilogue, Element::F32);
    }
}

#[test]
fn planes_in_f16() {
    #[rustfmt::skip]
    let cases = [
        (plane(3, 1, (3, 8)), [1, 17, 19], RELU),
        (plane(3, 1, (2, 8)), [1, 1, 1], RELU),
        (plane(3, 1, (8, 8)), [2, 5, 37], SUM_RELU),
        (plane(3, 1, (8, 1)), [1, 18, 3], RELU),
        (plane(5, 2, (8, 16)), [1, 19, 35], RELU),
        (plane(3, 1, (16, 16)), [2, 3, 17], RELU),
        (plane(5, 2, (16, 32)), [1, 13, 5], RELU),
        (plane(3, 1, (32, 32)), [1, 4, 7], PLAIN),
        (plane(3, 2, (32, 48)), [1, 5, 7], RELU),
        (plane(3, 1, (48, 48)), [1, 2, 3], SUM_RELU),
        (plane(3, 2, (48, 64)), [1, 3, 5], RELU),
        (plane(3, 1, (64, 64)), [1, 2, 2], RELU),
        // Padded channels: a whole and half a chunk of 8, outputs of no whole group; and the direct kernel on f16.
        (plane(3, 1, (12, 12)), [1, 3, 18], SUM_RELU),
        (plane(5, 1, (8, 20)), [1, 5, 17], SUM_RELU),
        (plane(3, 2, (20, 12)), [1, 6, 5], RELU),
        (plane(5, 2, (3, 8)), [1, 7, 6], PLAIN),
        (plane(5, 2, (3, 40)), [1, 5, 6], RELU),
        (plane(3, 2, (8, 32)), [1, 7, 18], RELU),
        (plane(1, 1, (32, 36)), [1, 3, 19], PLAIN),
    ];
    for (geometry, size, epilogue) in cases {
        check(geometry, size, epilogue, Element::F16);
    }
}

#[test]
fn volumes_in_f16() {
    let split = |first| Epilogue { split: Some(first), ..RELU };
    #[rustfmt::skip]
    let cases = [
        (volume(3, 2, (32, 32)), [3, 5, 7], split(16)),
        (volume(3, 2, (16, 32)), [4, 3, 33], RELU),
        (volume(3, 2, (32, 64)), [1, 1, 1], RELU),
        (volume(3, 2, (16, 32)), [2, 17, 2], split(13)),
        (volume(3, 1, (64, 64)), [2, 1, 3], RELU),
        (volume(3, 1, (96, 64)), [1, 2, 2], RELU),
        (volume(3, 1, (32, 16)), [3, 2, 5], SUM_RELU),
        (volume(3, 1, (16, 8)), [5, 3, 19], RELU),
        (volume(3, 1, (16, 8)), [1, 17, 2], RELU),
        (volume(3, 1, (8, 1)), [4, 5, 6], PLAIN),
        (volume(3, 1, (64, 16)), [2, 2, 3], RELU),
        (volume(3, 1, (16, 16)), [4, 3, 18], RELU),
        (kept((8, 16)), [4, 5, 35], RELU),
        (kept((8, 16)), [1, 1, 1], PLAIN),
        (kept((16, 16)), [3, 17, 3], RELU),
        (kept((16, 32)), [8, 4, 5], RELU),
    ];
    for (geometry, size, epilogue) in cases {
        check(geometry, size, epilogue, Element::F16);
    }
}

/// Each tile with a residual and into two outputs, with channels that fill its groups and channels that do not.
#[test]
fn tiles_end_in_every_way() {
    if !on_gpu() && on_interpreter().is_none() {
        // The emulator would take a minute, and knows nothing of the code that nvcc writes for each of these ends.
        return;
    }
    #[rustfmt::skip]
    let tiles = [
        plane(3, 1, (8, 8)), plane(3, 1, (6, 5)), plane(3, 1, (16, 16)), plane(3, 1, (32, 32)), plane(3, 1, (36, 36)),
        plane(3, 2, (16, 16)), plane(3, 2, (16, 32)), plane(3, 2, (12, 22)),
        plane(5, 2, (8, 16)), plane(5, 2, (16, 32)),
        volume(3, 1, (8, 8)), volume(3, 1, (16, 8)), volume(3, 1, (32, 16)), volume(3, 1, (32, 32)),
        volume(3, 1, (20, 26)), volume(3, 2, (16, 32)), volume(3, 2, (14, 25)), volume(3, 1, (16, 16)),
        kept((8, 16)), kept((16, 16)), kept((16, 32)), kept((12, 22)), plane(3, 2, (8, 32)),
        plane(1, 1, (16, 16)), plane(1, 1, (32, 32)), plane(1, 1, (13, 11)),
    ];
    for geometry in tiles {
        let first = geometry.channels.1 / 2 - 1;
        for epilogue in [SUM_RELU, Epilogue { split: Some(first), ..PLAIN }, Epilogue { split: Some(4), ..RELU }] {
            check(geometry, [2, 5, 19], epilogue, Element::F16);
        }
    }
}

/// Blocks that walk through two planes of outputs each, as they do where there are many: the launch is made once more
/// with other runs, over the first one's output.
#[test]
fn runs_of_planes_meet() {
    const PLANES: std::ops::Range<usize> = 32..36;
    for (geometry, size) in [
        (volume(3, 1, (16, 8)), [5, 1, 2]),
        (volume(3, 2, (16, 32)), [9, 1, 1]),
        (plane(3, 1, (8, 8)), [5, 2, 3]),
        (plane(3, 2, (32, 32)), [3, 1, 2]),
        (kept((8, 16)), [5, 2, 3]),
    ] {
        let problem = Problem::new(geometry, size, Element::F16);
        let x_shape = shape(size, geometry.channels.0);
        let runs = |planes: Option<i32>| {
            run(|graph| {
                let x = graph.input("x", x_shape, Element::F16);
                let layer = problem.layer(graph, true, Element::F16);
                let y = conv(graph, "test", x, &layer, None).unwrap();
                if let Some(planes) = planes {
                    let mut step = graph.steps()[0].clone();
                    let Some(Arg::Plain(bytes)) = step.args.last_mut() else { panic!("the shape is last") };
                    assert_eq!(bytes[PLANES], 1i32.to_le_bytes(), "few blocks have one plane each");
                    bytes[PLANES].copy_from_slice(&planes.to_le_bytes());
                    let depth = graph.shape(y).d as u32;
                    let Work::Kernel { grid, shared, .. } = &mut step.work else { panic!("a kernel") };
                    grid[0] = grid[0] / depth * depth.div_ceil(planes as u32);
                    *shared *= 2;
                    graph.fill(y, 0xff);
                    graph.push(step.op, &step.label, step.work, step.args);
                }
                (vec![(x, problem.x.clone())], vec![y])
            })
        };
        let Some(alone) = runs(None) else { return };
        // Every sum is taken in the same order, whoever takes it.
        assert_eq!(runs(Some(2)).unwrap(), alone, "{geometry:?}");
        assert_eq!(runs(Some(32)).unwrap(), alone, "{geometry:?}");
    }
}

#[test]
fn one_tap_in_f16() {
    #[rustfmt::skip]
    let cases = [
        (volume(1, 1, (32, 8)), [2, 5, 27], PLAIN),
        (volume(1, 1, (64, 32)), [3, 2, 5], RELU),
        (volume(1, 1, (48, 32)), [1, 7, 11], PLAIN),
        (volume(1, 1, (64, 48)), [1, 3, 5], SUM_RELU),
        (volume(1, 1, (8, 8)), [1, 1, 1], PLAIN),
        (volume(1, 1, (16, 1)), [3, 5, 7], PLAIN),
        (volume(1, 1, (56, 12)), [1, 2, 65], SUM),
        (volume(1, 1, (64, 64)), [1, 3, 3], Epilogue { split: Some(32), ..RELU }),
        (volume(1, 2, (16, 32)), [5, 3, 4], PLAIN),
        (volume(1, 2, (96, 128)), [1, 2, 3], SUM_RELU),
        (plane(1, 2, (32, 16)), [2, 4, 5], RELU),
        (volume(1, 1, (12, 4)), [1, 3, 5], RELU),
    ];
    for (geometry, size, epilogue) in cases {
        check(geometry, size, epilogue, Element::F16);
    }
}

/// Every layer of the network has a tensor-core kernel.
#[test]
fn the_network_runs_on_tensor_cores() {
    #[rustfmt::skip]
    let layers = [
        plane(3, 1, (3, 8)), plane(3, 1, (8, 8)), plane(5, 2, (8, 16)), plane(3, 1, (16, 16)), plane(5, 2, (16, 32)),
        plane(3, 1, (32, 32)), plane(3, 2, (32, 48)), plane(3, 1, (48, 48)), plane(3, 2, (48, 64)),
        plane(3, 1, (64, 64)), plane(1, 1, (64, 48)), plane(1, 1, (48, 32)), plane(3, 1, (2, 8)), plane(3, 1, (8, 1)),
        volume(3, 2, (32, 32)), volume(3, 2, (16, 32)), volume(3, 2, (32, 64)), volume(3, 1, (96, 64)),
        volume(3, 1, (128, 64)), volume(3, 1, (64, 64)), volume(3, 1, (32, 16)), volume(3, 1, (16, 8)),
        volume(3, 1, (8, 1)),
        volume(3, 1, (64, 16)), volume(1, 1, (16, 1)), volume(1, 2, (96, 128)),
        // Of features up to full resolution, and of narrow stages.
        plane(1, 1, (32, 16)), plane(1, 1, (16, 8)), plane(3, 2, (16, 32)), plane(3, 2, (8, 32)), plane(1, 1, (32, 36)),
        kept((16, 16)), kept((16, 32)), kept((8, 16)), volume(3, 1, (16, 16)), volume(1, 1, (8, 8)),
    ];
    for geometry in layers {
        assert_ne!(algorithm(&geometry, Element::F16), Algorithm::Direct, "{geometry:?}");
        assert_eq!(algorithm(&geometry, Element::F32), Algorithm::Direct);
    }
}

/// Gradients against the CPU's, which adjoint identities and f64 differences hold to the truth.
fn check_gradients(geometry: ConvGeometry, size: Size, bias: bool, relu: bool) {
    let (ci, co) = geometry.channels;
    let x_shape = shape(size, ci);
    let y_shape = geometry.output_shape(x_shape);
    let problem = Problem::new(geometry, size, Element::F32);
    let dy = Random::new(&format!("dy {geometry:?} {size:?}")).values(y_shape.len());
    let Some(found) = run(|graph| {
        let x = graph.input("x", x_shape, Element::F32);
        let w = graph.input("w", Shape::plane(1, 1, geometry.weights()), Element::F32);
        let b = bias.then(|| graph.input("b", Shape::plane(1, 1, co), Element::F32));
        let given = graph.input("dy", y_shape, Element::F32);
        let wanted: Vec<Value> = [x, w].into_iter().chain(b).collect();
        wanted.iter().for_each(|&v| graph.want_gradient(v));
        let y = conv_trained(graph, "test", x, w, b, geometry, Activation::relu_if(relu)).unwrap();
        let gradients = graph.backward(y, given).unwrap();
        let values = [problem.x.clone(), problem.weights.clone(), problem.bias.clone()];
        let mut inputs: Vec<_> = wanted.iter().copied().zip(values).collect();
        inputs.push((given, dy.clone()));
        let outputs = std::iter::once(y).chain(wanted.iter().map(|v| gradients[v])).collect();
        (inputs, outputs)
    }) else {
        return;
    };
    let what = format!("{geometry:?} {size:?}");
    let extent = |s: Shape| [s.d, s.h, s.w, s.c];
    let zeros = vec![0.0; co];
    let truth = Convolution {
        channels: geometry.channels,
        kernel: geometry.kernel,
        stride: geometry.stride,
        weights: &problem.weights,
        bias: if bias { &problem.bias } else { &zeros },
        relu,
    };
    let truth = truth.apply(&Volume::exact(extent(x_shape), &problem.x), None);
    for (i, (truth, &found)) in truth.data.iter().zip(&found[0]).enumerate() {
        assert!(truth.allows(found), "{what} y {i}: {found}, expected {} within {}", truth.v, truth.e);
    }

    // The mask of the y that was found: of the two computations of a sum near zero each may fall on either side.
    let through: Vec<f32> = dy.iter().zip(&found[0]).map(|(&g, &y)| if relu && y <= 0.0 { 0.0 } else { g }).collect();
    let cpu = Cpu::new();
    let tensor = |shape, values: &[f32]| Tensor::from_slice(shape, values).unwrap();
    let (x, masked) = (tensor(x_shape, &problem.x), tensor(y_shape, &through));
    let dx = geometry.backward_input(&cpu, &problem.weights, x_shape, &masked).unwrap();
    let (dw, db) = geometry.backward_weights(&cpu, &x, &masked).unwrap();
    // Both round; no term is above 1, and a sum of n has n / 3 of the largest magnitude on average. Twice the bound of
    // a sum of n such terms.
    let compare = |name: &str, found: &[f32], expected: &[f32], terms: usize| {
        let bound = 2.0 * roundings(terms + 2) * reference::U * terms as f64;
        assert_eq!(found.len(), expected.len());
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            let off = (f64::from(*f) - f64::from(*e)).abs();
            assert!(off <= bound, "{what} {name} {i}: {f}, expected {e} within {bound}");
        }
    };
    let taps: usize = geometry.kernel.iter().product();
    compare("dx", &found[1], &dx.data, taps * co);
    compare("dw", &found[2], &dw, y_shape.positions());
    if bias {
        compare("db", &found[3], &db, y_shape.positions());
    }
}

#[test]
fn gradients_of_planes() {
    #[rustfmt::skip]
    let cases = [
        (plane(3, 1, (3, 8)), [1, 9, 19], false, true),
        (plane(3, 1, (8, 8)), [2, 5, 37], true, false),
        (plane(5, 2, (8, 16)), [2, 9, 13], false, true),
        (plane(3, 2, (32, 48)), [1, 5, 7], false, true),
        (plane(1, 1, (64, 48)), [1, 3, 5], true, false),
        (plane(3, 1, (2, 8)), [1, 1, 1], true, true),
        (plane(3, 1, (8, 1)), [1, 18, 3], true, true),
        (plane(3, 1, (20, 12)), [1, 4, 9], true, true),
        (plane(3, 2, (6, 10)), [2, 5, 4], true, false),
        (plane(5, 1, (4, 4)), [1, 3, 70], false, false),
        (plane(3, 1, (4, 4)), [3, 30, 11], true, true),
        // A row of taps that no kernel takes as a whole.
        (ConvGeometry { channels: (4, 8), kernel: [1, 3, 7], stride: [1, 1, 2] }, [2, 3, 19], false, true),
    ];
    for (geometry, size, bias, relu) in cases {
        check_gradients(geometry, size, bias, relu);
    }
}

#[test]
fn gradients_of_volumes() {
    #[rustfmt::skip]
    let cases = [
        (volume(3, 2, (32, 16)), [3, 5, 7], false, true),
        (volume(3, 2, (16, 32)), [4, 2, 9], false, true),
        (volume(3, 2, (4, 8)), [1, 1, 1], true, false),
        (volume(3, 1, (16, 8)), [4, 3, 11], false, true),
        (volume(3, 1, (8, 1)), [3, 5, 6], true, false),
        (volume(3, 1, (32, 16)), [1, 2, 3], false, true),
        (volume(1, 1, (16, 1)), [3, 5, 7], true, false),
        (volume(1, 1, (32, 8)), [2, 3, 37], true, true),
        (volume(1, 2, (16, 32)), [5, 3, 4], false, false),
        (volume(1, 2, (96, 128)), [1, 2, 3], false, false),
        (kept((8, 16)), [4, 5, 7], false, true),
    ];
    for (geometry, size, bias, relu) in cases {
        check_gradients(geometry, size, bias, relu);
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let mut graph = Graph::new();
    let x = graph.input("x", shape([1, 4, 4], 8), Element::F32);
    let geometry = plane(3, 1, (16, 8));
    let error = layer(&mut graph, "stage", geometry, &[0.0; 3], &[0.0; 8], Activation::Relu, Element::F32).unwrap_err();
    assert!(error.to_string().contains("3 weights and 8 biases at stage"), "{error}");
    let weights = vec![0.0; geometry.weights()];
    let fits = layer(&mut graph, "stage", geometry, &weights, &[0.0; 8], Activation::Relu, Element::F32).unwrap();
    let error = conv(&mut graph, "stage", x, &fits, None).unwrap_err();
    assert!(error.to_string().contains("expected C = 16 of f32"), "{error}");
    let error = conv_split(&mut graph, "stage", x, &fits, 3).unwrap_err();
    assert!(error.to_string().contains("expected C = 16 of f32"), "{error}");
    let wide = graph.input("wide", shape([1, 4, 4], 16), Element::F32);
    let error = conv_split(&mut graph, "stage", wide, &fits, 8).unwrap_err();
    assert!(error.to_string().contains("a split at channel 8 of 8"), "{error}");
    let error = conv(&mut graph, "stage", wide, &fits, Some(x)).map(|_| ()).err();
    assert!(error.is_none(), "a residual of y's shape fits");
    let error = conv(&mut graph, "stage", wide, &fits, Some(wide)).unwrap_err();
    assert!(error.to_string().contains("residual [D 1, H 4, W 4, C 16]"), "{error}");
    let even = ConvGeometry { channels: (8, 8), kernel: [1, 2, 2], stride: [1; 3] };
    let error = layer(&mut graph, "even", even, &[0.0; 256], &[0.0; 8], Activation::Relu, Element::F32).unwrap_err();
    assert!(error.to_string().contains("expected odd kernels whose halo"), "{error}");
    let error = conv_trained(&mut graph, "stage", wide, x, None, geometry, Activation::Relu).unwrap_err();
    assert!(error.to_string().contains("weights [D 1, H 4, W 4, C 8]"), "{error}");
}
