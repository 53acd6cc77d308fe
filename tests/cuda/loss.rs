//! The losses of the depth regression, their gradient and the depth, against the CPU backend.

use engine::cpu::device::Cpu;
use engine::cpu::ops::depth::Expectation;
use engine::cpu::ops::depth_backward::DepthLoss;
use engine::cuda::graph::Graph;
use engine::cuda::ops::loss::depth_loss;
use engine::cuda::storage::Element;
use engine::files::map::Map;
use engine::net::tensor::{Shape, Tensor};

use crate::head::{depths, hypotheses};
use crate::reference::{Random, U, roundings};
use crate::run::run;

#[test]
pub fn losses_and_gradients() {
    for (size, inverse, l1, cross_entropy, truths) in [
        ([2, 1, 1], false, 1.0, 0.0, true),
        ([7, 3, 5], true, 1.0, 1.0, true),
        ([19, 7, 19], false, 0.0, 1.0, true),
        ([33, 5, 31], true, 0.7, 0.3, true),
        ([3, 4, 4], false, 1.0, 1.0, false),
    ] {
        let name = format!("{size:?}, inverse {inverse}, {l1}, {cross_entropy}, truths {truths}");
        let [d, h, w] = size;
        let shape = Shape { d, h, w, c: 1 };
        let mut rng = Random::new(&name);
        let logits: Vec<f32> = rng.values(shape.len()).into_iter().map(|v| v * 5.0).collect();
        let hypotheses = hypotheses(d, inverse);
        // Nearer and farther than any hypothesis, exactly at some, and none in each way.
        let truth: Vec<f32> = (0..h * w)
            .map(|i| match i % 9 {
                _ if !truths => 0.0,
                1 => 0.0,
                2 => f32::NAN,
                3 => f32::INFINITY,
                4 => -500.0,
                5 => 300.0,
                6 => 1100.0,
                7 => hypotheses.depths[i % d] as f32,
                _ => rng.within(425.0, 935.0),
            })
            .collect();
        let expectation = Expectation::new(&hypotheses);
        let interval = (935.0f64 - 425.0) / (d - 1) as f64;
        let Some(found) = run(|graph| {
            let x = graph.input("logits", shape, Element::F32);
            let y = graph.input("truth", Shape::plane(h, w, 1), Element::F32);
            let depths = depths(graph, &hypotheses);
            let bytes = interval.to_le_bytes().to_vec();
            let interval = graph.constant_bytes("interval", Shape::plane(1, 1, 1), Element::F64, bytes);
            let parts = depth_loss(graph, "test", x, y, &depths, interval, l1, cross_entropy).unwrap();
            let kept = vec![parts.losses, parts.valid, parts.depth, parts.gradient];
            (vec![(x, logits.clone()), (y, truth.clone())], kept)
        }) else {
            return;
        };
        let mut map = Map::filled(w, h, 0.0);
        map.data.copy_from_slice(&truth);
        let logits = Tensor::from_slice(shape, &logits).unwrap();
        let loss = DepthLoss { l1, cross_entropy };
        let expected = loss.apply(&Cpu::new(), &expectation, &logits, &map).unwrap();
        // Two computations in f32: exponentials of differences up to 10, and sums of them over the planes, in other
        // orders; relative to a sum of D terms.
        let rounding = 2.0 * (roundings(d) + 10.0 + 4.0 + 5.0 * d.div_ceil(8) as f64) * U;
        assert_eq!(found[1][0] as usize, expected.valid, "{name}");
        let valid = truth.iter().filter(|t| **t > 0.0 && t.is_finite()).count();
        assert_eq!(expected.valid, valid, "{name}");
        // Half the range is the largest offset from the middle that is weighted with a probability; in 1 / depth it is
        // stretched at the far end.
        let range = (935.0 - 425.0) * if inverse { 935.0 / 425.0 } else { 1.0 };
        let off = |a: f32, b: f64| (f64::from(a) - b).abs();
        for (i, (&f, &e)) in found[2].iter().zip(&expected.depth.data).enumerate() {
            let allowed = rounding * range + 2.0 * U * f64::from(e);
            assert!(off(f, f64::from(e)) <= allowed, "{name}: depth {i}: {f} for {e}");
        }
        // Losses come back rounded to f32.
        let distance = rounding * range / interval + 2.0 * U * expected.l1;
        assert!(off(found[0][1], expected.l1) <= distance, "{name}: L1 {} for {}", found[0][1], expected.l1);
        let entropy = rounding + 2.0 * U * expected.cross_entropy;
        let ce = (found[0][2], expected.cross_entropy);
        assert!(off(ce.0, ce.1) <= entropy, "{name}: cross-entropy {} for {}", ce.0, ce.1);
        let allowed = f64::from(l1) * distance + f64::from(cross_entropy) * entropy + U * expected.loss;
        assert!(off(found[0][0], expected.loss) <= allowed, "{name}: loss {} for {}", found[0][0], expected.loss);
        // p (a (value - mean) + b) - b q: each factor within the rounding, the largest about as large as the largest
        // gradient of a pixel, which the largest of all bounds to within the number of planes that share a
        // probability.
        let largest = expected.gradient.data.iter().fold(0.0f32, |m, g| m.max(g.abs()));
        assert_eq!(largest > 0.0, truths, "{name}: nothing is tested");
        for (i, (&f, &e)) in found[3].iter().zip(expected.gradient.data.iter()).enumerate() {
            let allowed = 4.0 * rounding * f64::from(largest);
            assert!(off(f, f64::from(e)) <= allowed, "{name}: gradient {i}: {f} for {e}, {allowed:e}");
        }
    }
}

/// What does not fit together is named.
#[test]
fn other_shapes_are_refused() {
    let mut graph = Graph::new();
    let logits = graph.input("logits", Shape { d: 3, h: 4, w: 5, c: 1 }, Element::F32);
    let one = graph.input("one", Shape { d: 1, h: 4, w: 5, c: 1 }, Element::F32);
    let interval = graph.input("interval", Shape::plane(1, 1, 1), Element::F64);
    let (three, two) = (depths(&mut graph, &hypotheses(3, true)), depths(&mut graph, &hypotheses(2, true)));
    let mut refused = |logits, truth, depths, interval| {
        depth_loss(&mut graph, "test", logits, truth, depths, interval, 1.0, 0.0).unwrap_err().to_string()
    };
    let text = refused(one, one, &three, interval);
    assert!(text.contains("logits [D 1, H 4, W 5, C 1] f32") && text.contains("at least 2 planes"), "{text}");
    let text = refused(logits, logits, &three, interval);
    assert!(text.contains("truth [D 3, H 4, W 5, C 1] f32"), "{text}");
    let text = refused(logits, one, &three, one);
    assert!(text.contains("interval [D 1, H 4, W 5, C 1] f32"), "{text}");
    let text = refused(logits, one, &two, interval);
    assert!(text.contains("2 hypotheses"), "{text}");
}
