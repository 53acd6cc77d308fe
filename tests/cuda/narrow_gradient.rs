//! Narrow stages in training: the cost volume out of differences, a gate made of layers and a weighted sum, with all
//! its gradients; the losses.

use engine::cpu::device::Cpu;
use engine::cpu::ops::conv_backward::ConvGeometry;
use engine::cpu::ops::narrow::{Around, NarrowLoss};
use engine::cpu::ops::sweep::{Aggregation, Search, Sweep, VoxelGate};
use engine::cpu::ops::sweep_backward::cost_volume_backward;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::conv_gradient::conv_trained;
use engine::cuda::ops::narrow::Views;
use engine::cuda::ops::narrow_gradient::{differences, first, narrow_loss, weighted};
use engine::cuda::storage::Element;
use engine::files::map::Map;
use engine::net::layers::Activation;
use engine::net::stage::Spacing;
use engine::net::tensor::{Buffer, Shape, Tensor};
use engine::scene::camera::PlaneSweep;

use crate::narrow::Scene;
use crate::reference::{Random, U, roundings};
use crate::run::run;

/// Channels; hypotheses, rows, columns; sources.
const CASES: [(usize, [usize; 3], usize); 4] =
    [(8, [1, 1, 1], 1), (8, [4, 5, 13], 3), (16, [8, 3, 7], 2), (16, [3, 17, 19], 1)];

/// The cost as training makes it.
fn cost(graph: &mut Graph, scene: &Scene, views: &Views, guess: Value, gate: [Value; 4]) -> Value {
    let [reduce, reduce_bias, weight, weight_bias] = gate;
    let layer = |channels| ConvGeometry { channels, kernel: [1; 3], stride: [1; 3] };
    let f = differences(graph, "test", views, guess, scene.size[0]).unwrap();
    let (from, relu) = (layer((scene.channels, 8)), Activation::Relu);
    let hidden = conv_trained(graph, "test", f, reduce, Some(reduce_bias), from, relu).unwrap();
    let weights = conv_trained(graph, "test", hidden, weight, Some(weight_bias), layer((8, 1)), relu).unwrap();
    weighted(graph, "test", f, weights, scene.sources.len()).unwrap()
}

/// As tests/cuda/sweep.rs compares two computations of one gradient in f32: sums of so many terms in other orders,
/// each within 8 sqrt(n) U of the sum of its terms' sizes, at most some 10 times the largest element.
fn expect_near(what: &str, found: &[f32], expected: &[f32], terms: usize) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let allowed = 2.0 * 10.0 * roundings(terms) * U * largest;
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(f) - f64::from(e)).abs();
        assert!(off <= allowed, "{what}, element {i}: {f}, expected {e}, off by {off:e} of {allowed:e}");
    }
}

#[test]
pub fn costs_and_their_gradients_are_the_processors() {
    let cpu = Cpu::new();
    for (channels, size @ [k, h, w], sources) in CASES {
        let name = format!("narrow cost, {channels} channels, {size:?}, {sources} sources");
        let scene = Scene::new(&name, channels, size, sources, 0, Element::F32);
        let shape = Shape { d: k, h, w, c: channels };
        let dy = Random::new("gradient").values(shape.len());
        let Some(found) = run(|graph| {
            let (mut inputs, views) = scene.views(graph, Element::F32, true);
            let guess = graph.input("guess", Shape::plane(h, w, 1), Element::F32);
            inputs.push((guess, scene.guess.clone()));
            let gate = scene.gate(graph, &mut inputs);
            let gate = [gate.reduce, gate.reduce_bias, gate.weight, gate.weight_bias];
            let wanted: Vec<Value> = std::iter::once(views.sources).chain(gate).collect();
            wanted.iter().for_each(|&v| graph.want_gradient(v));
            let y = cost(graph, &scene, &views, guess, gate);
            let gradient = graph.input("gradient", shape, Element::F32);
            inputs.push((gradient, dy.clone()));
            let gradients = graph.backward(y, gradient).unwrap();
            (inputs, std::iter::once(y).chain(wanted.iter().map(|v| gradients[v])).collect())
        }) else {
            return;
        };
        for (i, (truth, &found)) in scene.plain().data.iter().zip(&found[0]).enumerate() {
            assert!(truth.allows(found), "{name}: cost {i} is {found}, expected {truth:?}");
        }

        let tensor = |h, w, c, v: &[f32]| Tensor::from_slice(Shape::plane(h, w, c), v).unwrap();
        let reference = tensor(h, w, channels, &scene.reference);
        let maps: Vec<_> = scene.sources.iter().map(|([h, w], v, _)| tensor(*h, *w, channels, v)).collect();
        let homographies = scene.sources.iter().map(|s| PlaneSweep { a: s.2.a, b: s.2.b });
        let all: Vec<_> = maps.iter().zip(homographies).collect();
        let guess = tensor(h, w, 1, &scene.guess);
        let offsets: Vec<f32> = (0..k).map(|i| i as f32 - 0.5 * (k as f32 - 1.0)).collect();
        let [least, share] = scene.spacing;
        let spacing = Spacing { least, share };
        let gate =
            VoxelGate::new(&scene.gate.reduce, &scene.gate.reduce_bias, &scene.gate.weight, scene.gate.weight_bias);
        let search = Search::Around { guess: &guess, offsets: &offsets, spacing, top: 0 };
        let aggregation = Aggregation::Voxel(&gate);
        let sweep = Sweep { reference: &reference, sources: &all, search, aggregation, squared: true };
        let dy = Tensor::from_slice(shape, &dy).unwrap();
        let truth = cost_volume_backward(&cpu, &sweep, &dy).unwrap();
        let mut features = truth.reference.data.to_vec();
        for map in &truth.sources {
            features.extend(map.data.iter().copied());
            features.resize(features.len().next_multiple_of(h * w * channels), 0.0);
        }
        let own = truth.gate.unwrap();
        let mut reduce = Buffer::zeros(8 * channels);
        own.reduce.iter().enumerate().for_each(|(i, &v)| reduce[i % 8 * channels + i / 8] = v);
        let expected =
            [features, reduce.to_vec(), own.reduce_bias.to_vec(), own.weight.to_vec(), vec![own.weight_bias]];
        for (i, (found, expected)) in found[1..].iter().zip(&expected).enumerate() {
            assert!(h * w == 1 || expected.iter().any(|&g| g != 0.0), "{name}: {i} tests nothing");
            // The gate's are sums over all voxels and sources.
            let terms = if i == 0 { k * sources + channels } else { k * sources * h * w + channels };
            expect_near(&format!("{name}: input {i}"), found, expected, terms);
        }
    }
}

/// A gradient that is no number must not pass for one in the sums of integers.
#[test]
fn a_gradient_that_is_no_number_shows() {
    let scene = Scene::new("infinite", 8, [2, 3, 5], 1, 0, Element::F32);
    for bad in [f32::INFINITY, f32::NAN] {
        let shape = Shape { d: 2, h: 3, w: 5, c: 8 };
        let mut dy = Random::new("gradient").values(shape.len());
        dy[37] = bad;
        let Some(found) = run(|graph| {
            let (mut inputs, views) = scene.views(graph, Element::F32, true);
            let guess = graph.input("guess", Shape::plane(3, 5, 1), Element::F32);
            graph.want_gradient(views.sources);
            let f = differences(graph, "test", &views, guess, 2).unwrap();
            let gradient = graph.input("gradient", shape, Element::F32);
            inputs.extend([(guess, scene.guess.clone()), (gradient, dy.clone())]);
            let gradients = graph.backward(f, gradient).unwrap();
            (inputs, vec![gradients[&views.sources]])
        }) else {
            return;
        };
        assert!(found[0][3 * 5 * 8..].iter().all(|v| v.is_nan()), "{bad}");
    }
}

#[test]
fn the_first_of_a_stack_and_its_gradient_are_copies() {
    let (shape, one) = (Shape { d: 3, h: 2, w: 5, c: 8 }, Shape { d: 1, h: 2, w: 5, c: 8 });
    let x = Random::new("stack").values(shape.len());
    let dy = Random::new("gradient").values(one.len());
    let Some(found) = run(|graph| {
        let stack = graph.input("stack", shape, Element::F32);
        graph.want_gradient(stack);
        let y = first(graph, "test", stack).unwrap();
        let gradient = graph.input("gradient", one, Element::F32);
        let gradients = graph.backward(y, gradient).unwrap();
        (vec![(stack, x.clone()), (gradient, dy.clone())], vec![y, gradients[&stack]])
    }) else {
        return;
    };
    assert_eq!(found[0], x[..one.len()]);
    let expected: Vec<f32> = dy.iter().copied().chain(std::iter::repeat_n(0.0, 2 * one.len())).collect();
    assert_eq!(found[1], expected);
}

#[test]
pub fn narrow_losses_and_gradients() {
    for (size, weights, truths) in [
        ([4, 1, 1], [1.0, 0.0, 0.0], true),
        ([8, 7, 19], [1.0, 1.0, 0.5], true),
        ([4, 13, 31], [0.7, 0.3, 0.2], true),
        ([1, 3, 5], [1.0, 1.0, 1.0], true),
        ([4, 4, 4], [1.0, 1.0, 1.0], false),
    ] {
        let name = format!("{size:?}, {weights:?}, truths {truths}");
        let [k, h, w] = size;
        let shape = Shape { d: k, h, w, c: 1 };
        let mut rng = Random::new(&name);
        let logits: Vec<f32> = rng.values(shape.len()).into_iter().map(|v| v * 5.0).collect();
        let guess: Vec<f32> = (0..h * w).map(|_| rng.within(0.2, 0.5)).collect();
        let spacing = Spacing { least: 0.01, share: 0.08 };
        // Within reach, beyond it, and none in each way.
        let truth: Vec<f32> = (0..h * w)
            .map(|i| {
                // The first one's hypotheses reach it.
                let most = if i == 0 { 0.3 } else { 0.5 };
                let near = 1.0 / (guess[i] + rng.within(-most, most) * k as f32 * spacing.at(guess[i]));
                match i % 9 {
                    _ if !truths => 0.0,
                    1 => 0.0,
                    2 => f32::NAN,
                    3 => f32::INFINITY,
                    4 => -1.0,
                    5 => 0.3,
                    _ => near,
                }
            })
            .collect();
        let [l1, cross_entropy, of_guess] = weights;
        let loss = NarrowLoss { l1, cross_entropy, guess: of_guess };
        let Some(found) = run(|graph| {
            let map = Shape::plane(h, w, 1);
            let x = graph.input("logits", shape, Element::F32);
            let g = graph.input("guess", map, Element::F32);
            let t = graph.input("truth", map, Element::F32);
            let s = graph.input("spacing", Shape::plane(1, 1, 2), Element::F32);
            let parts = narrow_loss(graph, "test", x, (g, t), s, loss).unwrap();
            let inputs = [(x, &logits), (g, &guess), (t, &truth), (s, &vec![spacing.least, spacing.share])];
            let kept = vec![parts.losses, parts.logits, parts.guess];
            (inputs.map(|(v, values)| (v, values.clone())).to_vec(), kept)
        }) else {
            return;
        };
        let mut map = Map::filled(w, h, 0.0);
        map.data.copy_from_slice(&truth);
        let offsets: Vec<f32> = (0..k).map(|i| i as f32 - 0.5 * (k as f32 - 1.0)).collect();
        let around = Around { offsets, spacing };
        let logits = Tensor::from_slice(shape, &logits).unwrap();
        let guess = Tensor::from_slice(Shape::plane(h, w, 1), &guess).unwrap();
        let expected = loss.apply(&Cpu::new(), &around, &logits, &guess, &map).unwrap();
        assert_eq!(expected.reach > 0.0, truths && k > 1, "{name}: {}", expected.reach);
        // Two computations in f32: exponentials of differences up to 10, sums over at most eight hypotheses, offsets up
        // to 3.5. Places are f64 on both sides, from a spacing whose last bit a fused product may move: up to 3.5 of
        // its units.
        let rounding = 4.0 * (roundings(8) + 10.0 + 4.0 + 4.0) * U;
        let off = |a: f32, b: f64| (f64::from(a) - b).abs();
        for (what, found, expected) in [
            ("loss", found[0][0], expected.loss),
            ("L1", found[0][1], expected.l1),
            ("reach", found[0][2], expected.reach),
        ] {
            let allowed = 4.0 * rounding * (1.0 + expected.abs());
            assert!(off(found, expected) <= allowed, "{name}: {what} is {found}, expected {expected}");
        }
        for (what, found, expected) in
            [("logits", &found[1], &expected.logits.data), ("guess", &found[2], &expected.guess.data)]
        {
            let largest = expected.iter().fold(0.0f32, |m, g| m.max(g.abs()));
            for (i, (&f, &e)) in found.iter().zip(expected.iter()).enumerate() {
                let allowed = 4.0 * rounding * f64::from(largest);
                assert!(off(f, f64::from(e)) <= allowed, "{name}: {what} gradient {i} is {f}, expected {e}");
            }
        }
    }
}

/// What does not fit together is named.
#[test]
fn other_shapes_are_refused() {
    let mut graph = Graph::new();
    let scene = Scene::new("refused", 8, [4, 3, 5], 2, 0, Element::F32);
    let (_, views) = scene.views(&mut graph, Element::F32, true);
    let guess = graph.input("guess", Shape::plane(3, 5, 1), Element::F32);
    let wrong = graph.input("wrong", Shape::plane(3, 5, 8), Element::F32);
    let text = differences(&mut graph, "test", &views, wrong, 4).unwrap_err().to_string();
    assert!(text.contains("guess [D 1, H 3, W 5, C 8], expected [D 1, H 3, W 5, C 1]"), "{text}");
    let apart = Views { reference: wrong, ..views };
    let text = differences(&mut graph, "test", &apart, guess, 4).unwrap_err().to_string();
    assert!(text.contains("a stack of at least two views"), "{text}");
    let f = differences(&mut graph, "test", &views, guess, 4).unwrap();
    let text = weighted(&mut graph, "test", f, guess, 2).unwrap_err().to_string();
    assert!(text.contains("weights [D 1, H 3, W 5, C 1], expected [D 8, H 3, W 5, C 1]"), "{text}");
    let loss = NarrowLoss { l1: 1.0, cross_entropy: 1.0, guess: 1.0 };
    let text = narrow_loss(&mut graph, "test", f, (guess, guess), views.spacing, loss).unwrap_err().to_string();
    assert!(text.contains("logits [D 8, H 3, W 5, C 8], expected [D 8, H 3, W 5, C 1]"), "{text}");
}
