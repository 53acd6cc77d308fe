//! Logits, depth and confidence of both decoders.

use engine::cpu::ops::depth::Expectation;
use engine::cuda::graph::Graph;
use engine::cuda::ops::head::{Depths, ExpectedDepths, regress_skip, regress_trilinear};
use engine::cuda::storage::Element;
use engine::net::tensor::Shape;
use engine::scene::camera::{DepthRange, ELSEWHERE, Expected, Hypotheses, Sampling};

use crate::reference::{self, Convolution, Random, U, Value, Volume, upsample};
use crate::run::{rounded, run};

/// Half a unit in the last place of 1 in f16, and half the smallest number above zero.
const U16: f64 = 1.0 / 2048.0;
const SMALLEST16: f64 = 1.0 / (1u64 << 25) as f64;

/// x as the convolution reads it: in f16 rounded to it.
pub fn stored(x: Value, element: Element) -> Value {
    let rounding = if element == Element::F16 { U16 * (x.v.abs() + x.e) + SMALLEST16 } else { 0.0 };
    Value { v: x.v, e: x.e + rounding }
}

/// The device's side of an expectation, as constants.
pub fn depths(graph: &mut Graph, hypotheses: &Hypotheses) -> Depths {
    let expectation = Expectation::new(hypotheses);
    let shape = Shape::plane(1, 1, expectation.planes());
    let offsets = graph.constant("offsets", shape, Element::F32, expectation.offsets());
    let middle = expectation.middle().to_le_bytes().to_vec();
    let middle = graph.constant_bytes("middle", Shape::plane(1, 1, 1), Element::F64, middle);
    let inverse = hypotheses.sampling == Sampling::Inverse;
    let expected = hypotheses.expected.as_ref().map(|expected| {
        let ends: Vec<f32> = expected.planes.as_flattened().iter().map(|&plane| plane.into()).collect();
        let shape = Shape::plane(expected.height(), expected.width, 2);
        ExpectedDepths {
            known: graph.constant("known", Shape::plane(1, 1, 1), Element::F32, &[1.0]),
            planes: graph.constant("expected", shape, Element::F32, &ends),
        }
    });
    Depths { offsets, middle, inverse, expected }
}

pub fn hypotheses(planes: usize, inverse: bool) -> Hypotheses {
    let sampling = if inverse { Sampling::Inverse } else { Sampling::Linear };
    Hypotheses::new(DepthRange { near: 425.0, far: 935.0 }, planes, sampling)
}

/// With a few hypotheses around a random one expected at each pixel.
fn expecting(hypotheses: Hypotheses, (width, height): (usize, usize), rng: &mut Random) -> Hypotheses {
    let last = hypotheses.depths.len() as u16 - 1;
    let mut of_pixel = || {
        let first = (rng.within(0.0, f64::from(last) + 1.0) as u16).min(last);
        [first, (first + rng.within(0.0, 5.0) as u16).min(last)]
    };
    let planes = (0..width * height).map(|_| of_pixel()).collect();
    Hypotheses { expected: Some(Expected { width, planes }), ..hypotheses }
}

/// Logits with what is known added.
fn weighed(logits: &Volume, hypotheses: &Hypotheses) -> Volume {
    let Some(expected) = &hypotheses.expected else { return logits.clone() };
    Volume::from_fn(logits.shape, |[d, y, x, c]| {
        let ([first, last], Value { v, e }) = (expected.planes[y * expected.width + x], logits.at([d, y, x, c]));
        let away = if (first..=last).contains(&(d as u16)) { 0.0 } else { f64::from(ELSEWHERE) };
        Value { v: v + away, e: e + U * (v.abs() + away.abs()) }
    })
}

/// Depth and confidence against the plain softmax of these logits.
fn expect_estimate(name: &str, found: &[Vec<f32>], logits: &Volume, hypotheses: &Hypotheses) {
    // An exponential is good to 2 units in the last place on every device; sums are brought to a new maximum at most
    // once in 8 planes, which is one more of them and a product.
    let exp_error = (4.0 + 5.0 * logits.shape[0].div_ceil(8) as f64) * U;
    let inverse = hypotheses.sampling == Sampling::Inverse;
    let truth = reference::regress(&weighed(logits, hypotheses), &hypotheses.depths, inverse, exp_error);
    assert_eq!(truth.len(), found[0].len(), "{name}");
    for (i, truth) in truth.iter().enumerate() {
        let (depth, confidence) = (found[0][i], found[1][i]);
        assert!(truth.depth.allows(depth), "{name}: depth {i} is {depth} for {:?}", truth.depth);
        let fits = truth.confidence.iter().any(|c| c.allows(confidence)) && confidence <= 1.0;
        assert!(fits, "{name}: confidence {i} is {confidence} for {:?}", truth.confidence);
    }
}

fn expect_logits(name: &str, found: &[f32], truth: &Volume) {
    for (i, (&found, truth)) in found.iter().zip(&truth.data).enumerate() {
        assert!(truth.allows(found), "{name}: logit {i} is {found} for {truth:?}");
    }
}

#[test]
pub fn skip_decoder() {
    // Tiles are 16 x 32 pixels, runs 16 planes.
    for (size, inverse, element) in [
        ([1, 1, 1], false, Element::F32),
        ([2, 2, 2], true, Element::F16),
        ([5, 7, 13], true, Element::F32),
        ([17, 3, 5], false, Element::F16),
        ([33, 2, 3], false, Element::F32),
        ([2, 17, 33], true, Element::F16),
        ([3, 1, 65], false, Element::F32),
    ] {
        let name = format!("skip decoder {size:?}, inverse {inverse}, {element:?}");
        let [d, h, w] = size;
        let shape = Shape { d, h, w, c: 8 };
        let mut rng = Random::new(&name);
        let half = rounded(element, &rng.values(shape.halved().len()));
        let skip = rounded(element, &rng.values(shape.len()));
        // Products of f16 numbers, on tensor cores.
        let (weights, bias) = (rounded(element, &rng.values(27 * 8)), rng.values(1));
        let mut hypotheses = hypotheses(d, inverse);
        if h > 1 {
            hypotheses = expecting(hypotheses, (w, h), &mut rng);
        }
        let Some(found) = run(|graph| {
            let x = graph.input("half", shape.halved(), element);
            let y = graph.input("skip", shape, element);
            let weight = graph.input("weight", Shape::plane(1, 8, 27), Element::F32);
            let constant = graph.input("bias", Shape::plane(1, 1, 1), Element::F32);
            let depths = depths(graph, &hypotheses);
            let estimate = regress_skip(graph, "test", x, y, weight, constant, &depths, true).unwrap();
            let inputs = [(x, &half), (y, &skip), (weight, &weights), (constant, &bias)];
            let kept = vec![estimate.depth, estimate.confidence, estimate.logits.unwrap()];
            (inputs.map(|(v, values)| (v, values.clone())).to_vec(), kept)
        }) else {
            return;
        };
        let Shape { d: hd, h: hh, w: hw, .. } = shape.halved();
        let up = upsample(&Volume::exact([hd, hh, hw, 8], &half), 2, size);
        let x = up.zip(&Volume::exact([d, h, w, 8], &skip), |a, b| stored((a + b).relu(), element));
        let (kernel, stride, weights, bias) = ([3; 3], [1; 3], &weights[..], &bias[..]);
        let convolution = Convolution { channels: (8, 1), kernel, stride, weights, bias, relu: false };
        let truth = convolution.apply(&x, None);
        expect_logits(&name, &found[2], &truth);
        expect_estimate(&name, &found, &truth, &hypotheses);
        // The softmax alone, of the logits as they are.
        expect_estimate(&name, &found, &Volume::exact([d, h, w, 1], &found[2]), &hypotheses);
    }
}

#[test]
fn trilinear_decoder() {
    for (size, inverse, element, keep) in [
        ([1, 1, 1], false, Element::F32, true),
        ([8, 8, 8], true, Element::F16, true),
        ([9, 17, 23], false, Element::F32, true),
        ([41, 3, 5], true, Element::F16, true),
        ([16, 7, 33], true, Element::F32, false),
    ] {
        let name = format!("trilinear decoder {size:?}, inverse {inverse}, {element:?}");
        let [d, h, w] = size;
        let shape = Shape { d, h, w, c: 1 };
        let eighth = shape.halved().halved().halved();
        // Peaked, so that sums are brought to new maxima.
        let scaled: Vec<f32> = Random::new(&name).values(eighth.len()).into_iter().map(|v| v * 9.0).collect();
        let values = rounded(element, &scaled);
        let mut hypotheses = hypotheses(d, inverse);
        if d > 8 {
            hypotheses = expecting(hypotheses, (w, h), &mut Random::new(&format!("{name} expected")));
        }
        let Some(found) = run(|graph| {
            let x = graph.input("eighth", eighth, element);
            let depths = depths(graph, &hypotheses);
            let estimate = regress_trilinear(graph, "test", x, shape, &depths, keep).unwrap();
            assert_eq!(estimate.logits.is_some(), keep);
            let kept = [estimate.depth, estimate.confidence].into_iter().chain(estimate.logits).collect();
            (vec![(x, values.clone())], kept)
        }) else {
            return;
        };
        let truth = upsample(&Volume::exact([eighth.d, eighth.h, eighth.w, 1], &values), 8, size);
        if keep {
            expect_logits(&name, &found[2], &truth);
        }
        expect_estimate(&name, &found, &truth, &hypotheses);
    }
}

/// Logits so far apart that exponentials vanish, the maximum first, in the middle or last.
#[test]
fn extreme_logits() {
    let size = Shape { d: 19, h: 1, w: 3, c: 1 };
    let eighth = size.halved().halved().halved();
    let hypotheses = hypotheses(size.d, false);
    for values in [[-300.0, 0.0, 300.0], [300.0, 0.0, -300.0], [80.0, -80.0, 80.0], [-80.0, 300.0, -80.0]] {
        let Some(found) = run(|graph| {
            let x = graph.input("eighth", eighth, Element::F32);
            let depths = depths(graph, &hypotheses);
            let estimate = regress_trilinear(graph, "test", x, size, &depths, false).unwrap();
            (vec![(x, values.to_vec())], vec![estimate.depth, estimate.confidence])
        }) else {
            return;
        };
        let logits = upsample(&Volume::exact([3, 1, 1, 1], &values), 8, [size.d, 1, size.w]);
        expect_estimate(&format!("{values:?}"), &found, &logits, &hypotheses);
    }
}

/// What does not fit together is named.
#[test]
fn other_shapes_are_refused() {
    let mut graph = Graph::new();
    let shape = Shape { d: 4, h: 5, w: 6, c: 8 };
    let mut input = |name, shape, element| graph.input(name, shape, element);
    let skip = input("skip", shape, Element::F32);
    let half = input("half", shape.halved(), Element::F32);
    let half16 = input("half", shape.halved(), Element::F16);
    let weight = input("weight", Shape::plane(1, 8, 27), Element::F32);
    let bias = input("bias", Shape::plane(1, 1, 1), Element::F32);
    let (four, three) = (depths(&mut graph, &hypotheses(4, false)), depths(&mut graph, &hypotheses(3, false)));
    let mut refused = |half, skip, weight, depths: &Depths| {
        regress_skip(&mut graph, "test", half, skip, weight, bias, depths, false).unwrap_err().to_string()
    };
    let text = refused(skip, skip, weight, &four);
    assert!(text.contains("half-resolution input [D 4, H 5, W 6, C 8] f32"), "{text}");
    let text = refused(half16, skip, weight, &four);
    assert!(text.contains("[D 2, H 3, W 3, C 8] f16"), "{text}");
    let text = refused(half, skip, bias, &four);
    assert!(text.contains("logits.weight [D 1, H 1, W 1, C 1] f32, expected 216 values"), "{text}");
    let text = refused(half, skip, weight, &three);
    assert!(text.contains("3 hypotheses") && text.contains("4 planes"), "{text}");
    let text = regress_trilinear(&mut graph, "test", skip, shape, &four, false).unwrap_err().to_string();
    assert!(text.contains("expected [D 1, H 1, W 1, C 1]"), "{text}");
    let known = expecting(hypotheses(4, false), (5, 6), &mut Random::new("turned"));
    let known = depths(&mut graph, &known);
    let text = regress_skip(&mut graph, "test", half, skip, weight, bias, &known, false).unwrap_err().to_string();
    assert!(text.contains("expected depths [D 1, H 6, W 5, C 2], expected [D 1, H 5, W 6, C 2]"), "{text}");
}
