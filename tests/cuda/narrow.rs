//! What only narrow stages have: convex upsampling with its gradient, the cost volume over each pixel's hypotheses,
//! depth and confidence from their logits, the coarse stage's confidence.

use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::head::logits_skip;
use engine::cuda::ops::narrow::{Views, cost, inverse, judge_coarse, regress, upsample_convex};
use engine::cuda::ops::sweep::{VoxelGate, source_row};
use engine::cuda::storage::Element;
use engine::net::confidence::{COARSE, Confidence, Judge, Known, NARROW, Scale};
use engine::net::config::Resolution;
use engine::net::tensor::Shape;
use engine::scene::camera::PlaneSweep;

use crate::head;
use crate::reference::{Convolution, Random, U, Value as Bounded, Volume, roundings, upsample};
use crate::reference_sweep::{self, Gate, Homography, Placed};
use crate::run::{rounded, run};

/// Half a unit in the last place of 1 in f16, and half the smallest number above zero.
const U16: f64 = 1.0 / 2048.0;
const SMALLEST16: f64 = 1.0 / (1u64 << 25) as f64;

/// Rows and columns of coarse maps: one pixel, one row, more than a block's threads.
const SIZES: [[usize; 2]; 5] = [[1, 1], [1, 7], [5, 1], [3, 4], [9, 11]];

/// 1 / depth of a scene.
fn inverse_depths(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| random.within(0.1, 0.9)).collect()
}

/// The nine values around a coarse pixel with the softmax of the weights of part `part`, in f64.
fn convex(map: &[f32], weights: &[f32], [h, w]: [usize; 2], [y, x, part]: [usize; 3]) -> [(f64, f64); 9] {
    let own = &weights[(y * w + x) * 36 + part * 9..][..9];
    let top = own.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = own.iter().map(|&v| (f64::from(v) - f64::from(top)).exp()).collect();
    let total: f64 = e.iter().sum();
    std::array::from_fn(|t| {
        let row = (y + t / 3).saturating_sub(1).min(h - 1);
        let column = (x + t % 3).saturating_sub(1).min(w - 1);
        (e[t] / total, f64::from(map[row * w + column]))
    })
}

#[test]
pub fn convex_upsampling_matches_f64() {
    for size @ [h, w] in SIZES {
        for element in [Element::F32, Element::F16] {
            let name = format!("convex upsampling {size:?} {element:?}");
            let mut random = Random::new(&name);
            let map = inverse_depths(&mut random, h * w);
            let weights: Vec<f32> = random.values(h * w * 36).into_iter().map(|v| 6.0 * v).collect();
            let weights = rounded(element, &weights);
            let Some(found) = run(|graph| {
                let x = graph.input("map", Shape::plane(h, w, 1), Element::F32);
                let z = graph.input("weights", Shape::plane(h, w, 36), element);
                let y = upsample_convex(graph, "test", x, z).unwrap();
                (vec![(x, map.clone()), (z, weights.clone())], vec![y])
            }) else {
                return;
            };
            assert_eq!(found[0].len(), 4 * h * w, "{name}");
            for (i, &found) in found[0].iter().enumerate() {
                let (row, column) = (i / (2 * w), i % (2 * w));
                let truth = convex(&map, &weights, size, [row / 2, column / 2, row % 2 * 2 + column % 2]);
                let mean: f64 = truth.iter().map(|(p, v)| p * v).sum();
                // An exponential is good to 2 units in the last place (four roundings) beside the rounding of its
                // argument, at most 12; then two sums of nine and a quotient.
                let bound = (4.0 + 12.0 + 2.0 * roundings(9) + 2.0) * U * mean;
                assert!((f64::from(found) - mean).abs() <= bound, "{name}: pixel {i} is {found}, expected {mean}");
            }
        }
    }
}

#[test]
pub fn convex_gradients_match_f64() {
    for size @ [h, w] in SIZES {
        let name = format!("convex gradient {size:?}");
        let mut random = Random::new(&name);
        let map = inverse_depths(&mut random, h * w);
        let weights: Vec<f32> = random.values(h * w * 36).into_iter().map(|v| 6.0 * v).collect();
        let dy = random.values(4 * h * w);
        let Some(found) = run(|graph| {
            let x = graph.input("map", Shape::plane(h, w, 1), Element::F32);
            let z = graph.input("weights", Shape::plane(h, w, 36), Element::F32);
            graph.want_gradient(x);
            graph.want_gradient(z);
            let y = upsample_convex(graph, "test", x, z).unwrap();
            let g = graph.input("gradient", Shape::plane(2 * h, 2 * w, 1), Element::F32);
            let gradients = graph.backward(y, g).unwrap();
            assert!(!gradients.contains_key(&x), "none flows into the map");
            (vec![(x, map.clone()), (z, weights.clone()), (g, dy.clone())], vec![gradients[&z]])
        }) else {
            return;
        };
        for (i, &found) in found[0].iter().enumerate() {
            let (pixel, part, t) = (i / 36, i / 9 % 4, i % 9);
            let (y, x) = (pixel / w, pixel % w);
            let truth = convex(&map, &weights, size, [y, x, part]);
            let mean: f64 = truth.iter().map(|(p, v)| p * v).sum();
            let g = f64::from(dy[(2 * y + part / 2) * 2 * w + 2 * x + part % 2]);
            let (p, v) = truth[t];
            let expected = g * p * (v - mean);
            // The difference of value and mean loses what both were off by; else as above.
            let bound = g.abs() * p * (40.0 + 2.0 * roundings(9)) * U * (v + mean) + 1e-30;
            assert!((f64::from(found) - expected).abs() <= bound, "{name}: {i} is {found}, expected {expected}");
        }
    }
}

#[test]
fn inverse_depths_are_quotients() {
    let depths = Random::new("inverse").values(301).into_iter().map(|v| v + 1.5).collect::<Vec<_>>();
    let Some(found) = run(|graph| {
        let x = graph.input("depth", Shape::plane(7, 43, 1), Element::F32);
        let y = inverse(graph, "test", x).unwrap();
        (vec![(x, depths.clone())], vec![y])
    }) else {
        return;
    };
    for (found, depth) in found[0].iter().zip(&depths) {
        let truth = 1.0 / f64::from(*depth);
        assert!((f64::from(*found) - truth).abs() <= U * truth, "{found}, expected {truth}");
    }
}

/// A narrow stage's inputs: features of a reference, of sources that are smaller than the maps in memory, a guess.
pub struct Scene {
    pub channels: usize,
    /// Hypotheses, rows, columns.
    pub size: [usize; 3],
    pub top: usize,
    pub spacing: [f32; 2],
    pub reference: Vec<f32>,
    pub sources: Vec<([usize; 2], Vec<f32>, Homography)>,
    pub guess: Vec<f32>,
    pub gate: Gate,
}

impl Scene {
    pub fn new(name: &str, channels: usize, size: [usize; 3], sources: usize, top: usize, element: Element) -> Self {
        let mut rng = Random::new(name);
        let [_, h, w] = size;
        let features = |rng: &mut Random, n: usize| rounded(element, &rng.values(n * channels));
        let reference = features(&mut rng, h * w);
        let sources = (0..sources)
            .map(|s| {
                let size = [(h + top).saturating_sub(2 * s).max(1), w.saturating_sub(s).max(1)];
                let r = &mut rng;
                let mut near = |x: f64, by: f64| r.within(x - by, x + by);
                let a = [
                    [near(1.0, 0.05), near(0.0, 0.05), near(0.0, 0.3)],
                    [near(0.0, 0.05), near(1.0, 0.05), near(0.0, 0.3)],
                    [near(0.0, 1e-4), near(0.0, 1e-4), near(1.0, 0.02)],
                ];
                let b = [near(0.0, 3.0), near(0.0, 3.0), near(0.0, 0.3)];
                (size, features(r, size[0] * size[1]), Homography { a, b })
            })
            .collect();
        let scaled = |v: Vec<f32>, s: f32| v.into_iter().map(|x| x * s).collect::<Vec<_>>();
        let gate = Gate {
            reduce: scaled(rng.values(8 * channels), 0.3),
            reduce_bias: rng.values(8),
            weight: rng.values(8),
            weight_bias: 0.3 + rng.value() * 0.1,
        };
        let mut guess = inverse_depths(&mut rng, h * w);
        // Some hypotheses would lie beyond infinity.
        guess.iter_mut().step_by(5).for_each(|rho| *rho *= 0.1);
        let spacing = if size[0].is_multiple_of(2) { [0.04, 0.0] } else { [0.01, 0.2] };
        Self { channels, size, top, spacing, reference, sources, guess, gate }
    }

    /// 1 / depth of hypothesis `k` of pixel `i`.
    fn rho(&self, k: usize, i: usize) -> Bounded {
        let exact = |v: f32| Bounded::exact(f64::from(v));
        let guess = exact(self.guess[i]);
        let step = exact(self.spacing[0]).max(exact(self.spacing[1]) * guess * guess);
        let offset = k as f64 - 0.5 * (self.size[0] as f64 - 1.0);
        (Bounded::exact(offset) * step + guess).relu()
    }

    /// Rows and columns of the maps in memory.
    fn map(&self) -> [usize; 2] {
        let most = |axis: usize| self.sources.iter().map(|s| s.0[axis]).max().unwrap();
        [most(0) + 1, most(1) + 2]
    }

    /// The op's inputs; with `stacked` the reference is the first of the sources' maps.
    pub fn views(&self, graph: &mut Graph, element: Element, stacked: bool) -> (Vec<(Value, Vec<f32>)>, Views) {
        let [_, h, w] = self.size;
        let (c, count) = (self.channels, self.sources.len());
        let [rows, columns] = if stacked { [h, w] } else { self.map() };
        let mut all = if stacked { self.reference.clone() } else { Vec::new() };
        let mut cameras = Vec::new();
        for ([hs, ws], map, Homography { a, b }) in &self.sources {
            // What lies behind a smaller map must not be read.
            let mut padded = map.clone();
            padded.resize(rows * columns * c, f32::NAN);
            all.extend(padded);
            cameras.extend(source_row(&PlaneSweep { a: *a, b: *b }, *hs, *ws));
        }
        let first = usize::from(stacked);
        let shape = Shape { d: count + first, h: rows, w: columns, c };
        let sources = graph.input("sources", shape, element);
        let mut inputs = vec![(sources, all)];
        let reference = if stacked {
            sources
        } else {
            let reference = graph.input("reference", Shape::plane(h, w, c), element);
            inputs.push((reference, self.reference.clone()));
            reference
        };
        let cameras_shape = Shape { d: count, ..Shape::plane(1, 1, 16) };
        let views = Views {
            reference,
            sources,
            first,
            rows: graph.input("cameras", cameras_shape, Element::F32),
            spacing: graph.input("spacing", Shape::plane(1, 1, 2), Element::F32),
            top: self.top,
        };
        inputs.extend([(views.rows, cameras), (views.spacing, self.spacing.to_vec())]);
        (inputs, views)
    }

    pub fn gate(&self, graph: &mut Graph, inputs: &mut Vec<(Value, Vec<f32>)>) -> VoxelGate {
        let mut input = |name: &str, values: &[f32]| {
            let value = graph.input(name, Shape::plane(1, 1, values.len()), Element::F32);
            inputs.push((value, values.to_vec()));
            value
        };
        VoxelGate {
            reduce: input("reduce.weight", &self.gate.reduce),
            reduce_bias: input("reduce.bias", &self.gate.reduce_bias),
            weight: input("weight.weight", &self.gate.weight),
            weight_bias: input("weight.bias", &[self.gate.weight_bias]),
        }
    }

    /// The plain sweep in f64.
    pub fn plain(&self) -> Volume {
        let [k, h, w] = self.size;
        let c = self.channels;
        let map = |([h, w], map, homography): &([usize; 2], Vec<f32>, Homography)| {
            (Volume::exact([1, *h, *w, c], map), *homography)
        };
        let maps: Vec<_> = self.sources.iter().map(map).collect();
        let reference = Volume::exact([1, h, w, c], &self.reference);
        let at = |k: usize, y: usize, x: usize| Placed { row: y + self.top, rho: self.rho(k, y * w + x) };
        reference_sweep::around(&reference, &maps, k, &self.gate, &at)
    }
}

#[test]
pub fn costs_match_f64() {
    for (channels, size, sources, top) in [
        (8, [1, 1, 1], 1, 0),
        (8, [4, 5, 13], 3, 0),
        (16, [8, 3, 7], 2, 4),
        (16, [3, 17, 19], 1, 0),
        (8, [2, 4, 5], 9, 2),
    ] {
        for element in [Element::F32, Element::F16] {
            let name = format!("narrow cost, {channels} channels, {size:?}, {sources} sources, {element:?}");
            let scene = Scene::new(&name, channels, size, sources, top, element);
            let Some(found) = run(|graph| {
                let (mut inputs, views) = scene.views(graph, element, false);
                let [k, h, w] = size;
                let guess = graph.input("guess", Shape::plane(h, w, 1), Element::F32);
                inputs.push((guess, scene.guess.clone()));
                let gate = scene.gate(graph, &mut inputs);
                let y = cost(graph, "test", &views, guess, k, &gate).unwrap();
                (inputs, vec![y])
            }) else {
                return;
            };
            let truth = scene.plain();
            assert!(truth.data.iter().any(|v| v.v != 0.0), "{name}: nothing is tested");
            for (i, (truth, &found)) in truth.data.iter().zip(&found[0]).enumerate() {
                let stored = if element == Element::F16 { U16 * (truth.v.abs() + truth.e) + SMALLEST16 } else { 0.0 };
                let off = (f64::from(found) - truth.v).abs();
                assert!(off <= truth.e + stored, "{name}: cost {i} is {found}, expected {truth:?}");
            }
        }
    }
}

/// The decoder of a narrow stage halves rows and columns only.
#[test]
fn logits_keep_their_planes() {
    for (size, element) in
        [([4, 6, 10], Element::F32), ([8, 18, 34], Element::F16), ([1, 1, 1], Element::F32), ([3, 5, 7], Element::F16)]
    {
        let [d, h, w] = size;
        let name = format!("narrow logits {size:?} {element:?}");
        let shape = Shape { d, h, w, c: 8 };
        let half = Shape { d, ..shape.halved() };
        let mut rng = Random::new(&name);
        let (x, skip) = (rounded(element, &rng.values(half.len())), rounded(element, &rng.values(shape.len())));
        // In f16 products of f16 numbers, on tensor cores.
        let (weights, bias) = (rounded(element, &rng.values(27 * 8)), rng.values(1));
        let Some(found) = run(|graph| {
            let a = graph.input("half", half, element);
            let b = graph.input("skip", shape, element);
            let weight = graph.input("weight", Shape::plane(1, 8, 27), Element::F32);
            let constant = graph.input("bias", Shape::plane(1, 1, 1), Element::F32);
            let y = logits_skip(graph, "test", a, b, weight, constant).unwrap();
            let inputs = [(a, &x), (b, &skip), (weight, &weights), (constant, &bias)];
            (inputs.map(|(v, values)| (v, values.clone())).to_vec(), vec![y])
        }) else {
            return;
        };
        // Each plane by itself.
        let plane = half.h * half.w * 8;
        let up: Vec<Volume> =
            x.chunks_exact(plane).map(|p| upsample(&Volume::exact([1, half.h, half.w, 8], p), 2, [1, h, w])).collect();
        let up = Volume::from_fn([d, h, w, 8], |[z, y, x, c]| up[z].at([0, y, x, c]));
        let x = up.zip(&Volume::exact([d, h, w, 8], &skip), |a, b| head::stored((a + b).relu(), element));
        let (kernel, stride, weights, bias) = ([3; 3], [1; 3], &weights[..], &bias[..]);
        let truth = Convolution { channels: (8, 1), kernel, stride, weights, bias, relu: false }.apply(&x, None);
        for (i, (truth, &found)) in truth.data.iter().zip(&found[0]).enumerate() {
            assert!(truth.allows(found), "{name}: logit {i} is {found}, expected {truth:?}");
        }
    }
}

/// A regression's terms lie in f32 on both sides; a probability moves by at most a quarter of what its odds do, which
/// add up a dozen products of numbers below a hundred, with logarithms good to a few units in the last place.
const CONFIDENCE: f64 = 2e-4;

fn fits() -> Confidence {
    let mut random = Random::new("fits");
    let mut fit = |n: usize| vec![random.values(n).into_iter().map(|v| 0.4 * v).collect::<Vec<f32>>()];
    let (quarter, half, full) = (fit(COARSE), fit(NARROW), fit(NARROW));
    Confidence { quarter, half, full, ..Confidence::default() }
}

#[test]
pub fn narrow_estimates_match_f64() {
    let fits = fits();
    let scale = Scale { pixel: 0.01, interval: 0.7, sources: 1.1 };
    for (size, fitted, spacing) in [
        ([4, 1, 1], true, [0.03f32, 0.0f32]),
        ([8, 7, 11], true, [0.001, 0.2]),
        ([4, 17, 19], false, [0.03, 0.0]),
        ([1, 3, 2], true, [0.03, 0.0]),
    ] {
        let [k, h, w] = size;
        let name = format!("narrow estimate {size:?}, fitted {fitted}");
        let mut random = Random::new(&name);
        let logits: Vec<f32> = random.values(k * h * w).into_iter().map(|v| 9.0 * v).collect();
        let guess = inverse_depths(&mut random, h * w);
        let before: Vec<f32> = (0..h * w).map(|_| random.within(0.0, 1.0)).collect();
        let judge = fitted.then(|| Judge::new(&fits, (Resolution::Full, 0), scale));
        let Some(found) = run(|graph| {
            let map = Shape::plane(h, w, 1);
            let x = graph.input("logits", Shape { d: k, ..map }, Element::F32);
            let g = graph.input("guess", map, Element::F32);
            let b = graph.input("before", map, Element::F32);
            let s = graph.input("spacing", Shape::plane(1, 1, 2), Element::F32);
            let numbers = Judge::for_device::<NARROW>(judge.as_ref(), Resolution::Full);
            let j = graph.input("judge", Shape::plane(1, 1, numbers.len()), Element::F32);
            let made = regress(graph, "test", x, g, b, (s, j)).unwrap();
            let inputs = [(x, &logits), (g, &guess), (b, &before), (s, &spacing.to_vec()), (j, &numbers)];
            (inputs.map(|(v, values)| (v, values.clone())).to_vec(), vec![made.depth, made.confidence])
        }) else {
            return;
        };
        let middle = 0.5 * (k as f64 - 1.0);
        for i in 0..h * w {
            let l: Vec<f64> = (0..k).map(|k| f64::from(logits[k * h * w + i])).collect();
            let top = l.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let e: Vec<f64> = l.iter().map(|l| (l - top).exp()).collect();
            let total: f64 = e.iter().sum();
            let mean: f64 = e.iter().enumerate().map(|(k, e)| e / total * (k as f64 - middle)).sum();
            let variance: f64 = e.iter().enumerate().map(|(k, e)| e / total * (k as f64 - middle - mean).powi(2)).sum();
            let rho0 = f64::from(guess[i]);
            let step = f64::from(spacing[0]).max(f64::from(spacing[1]) * rho0 * rho0);
            let rho = mean * step + rho0;
            // Offsets of up to 3.5 whose weights are off by what exponentials of differences up to 18 and two sums of
            // eight are.
            let off = middle.max(1.0) * (4.0 + 18.0 + 2.0 * roundings(8) + 4.0) * U * step + 4.0 * U * rho0;
            let depth = 1.0 / rho;
            let bound = off * depth * depth + 2.0 * U * depth;
            let found_depth = f64::from(found[0][i]);
            assert!((found_depth - depth).abs() <= bound, "{name}: depth {i} is {found_depth}, expected {depth}");
            let confidence = found[1][i];
            let Some(judge) = &judge else {
                assert_eq!(confidence, before[i], "{name}: nothing was fitted");
                continue;
            };
            let bend = |a: usize, b: usize| (f64::from(guess[a]) - 2.0 * rho0 + f64::from(guess[b])).abs();
            let (y, x) = (i / w, i % w);
            let across = if x > 0 && x + 1 < w { bend(i - 1, i + 1) } else { 0.0 };
            let down = if y > 0 && y + 1 < h { bend(i - w, i + w) } else { 0.0 };
            let known = Known {
                before: before[i],
                spread: (variance.sqrt() * step) as f32,
                shift: (mean.abs() / middle.max(0.5)) as f32,
                bend: across.max(down) as f32,
            };
            let expected = judge.narrow(1).unwrap()(&known);
            let off = f64::from((confidence - expected).abs());
            assert!(off <= CONFIDENCE, "{name}: confidence {i} is {confidence}, expected {expected}");
        }
    }
}

#[test]
fn coarse_confidence_is_the_processors() {
    let fits = fits();
    let scale = Scale { pixel: 0.01, interval: -0.4, sources: 0.7 };
    let judge = Judge::new(&fits, (Resolution::Full, 0), scale);
    let masses: Vec<f32> = (0..=300).map(|i| i as f32 / 300.0).collect();
    for judge in [Some(judge), None] {
        let Some(found) = run(|graph| {
            let x = graph.input("masses", Shape::plane(7, 43, 1), Element::F32);
            let numbers = Judge::for_device::<COARSE>(judge.as_ref(), Resolution::Quarter);
            let j = graph.input("judge", Shape::plane(1, 1, numbers.len()), Element::F32);
            let y = judge_coarse(graph, "test", x, j).unwrap();
            (vec![(x, masses.clone()), (j, numbers)], vec![y])
        }) else {
            return;
        };
        let mut expected = masses.clone();
        if let Some(judge) = &judge {
            judge.coarse(&mut expected);
            assert!(expected != masses);
        }
        for (found, expected) in found[0].iter().zip(&expected) {
            assert!(f64::from((found - expected).abs()) <= CONFIDENCE, "{found}, expected {expected}");
        }
    }
}

/// What does not fit together is named.
#[test]
fn other_shapes_are_refused() {
    let mut graph = Graph::new();
    let scene = Scene::new("refused", 8, [4, 3, 5], 2, 0, Element::F32);
    let (mut inputs, views) = scene.views(&mut graph, Element::F32, false);
    let gate = scene.gate(&mut graph, &mut inputs);
    let guess = graph.input("guess", Shape::plane(3, 5, 1), Element::F32);
    let wrong = graph.input("wrong", Shape::plane(3, 5, 2), Element::F32);
    let mut refused = |views: &Views, guess, gate: &VoxelGate| {
        cost(&mut graph, "test", views, guess, 4, gate).unwrap_err().to_string()
    };
    let text = refused(&Views { reference: wrong, ..views }, guess, &gate);
    assert!(text.contains("reference [D 1, H 3, W 5, C 2]") && text.contains("16 or 8 channels"), "{text}");
    let text = refused(&views, wrong, &gate);
    assert!(text.contains("guess [D 1, H 3, W 5, C 2], expected [D 1, H 3, W 5, C 1]"), "{text}");
    let text = refused(&views, guess, &VoxelGate { reduce: wrong, ..gate });
    assert!(text.contains("reduce.weight [D 1, H 3, W 5, C 2] f32, expected 64 values"), "{text}");
    let text = upsample_convex(&mut graph, "test", guess, wrong).unwrap_err().to_string();
    assert!(text.contains("weights [D 1, H 3, W 5, C 2], expected [D 1, H 3, W 5, C 36]"), "{text}");
    let logits = graph.input("logits", Shape { d: 4, h: 3, w: 5, c: 1 }, Element::F32);
    let text = regress(&mut graph, "test", logits, guess, guess, (views.spacing, guess)).unwrap_err().to_string();
    assert!(text.contains("coefficients [D 1, H 3, W 5, C 1] f32, expected 17 values"), "{text}");
    let text = judge_coarse(&mut graph, "test", guess, guess).unwrap_err().to_string();
    assert!(text.contains("expected 12 values"), "{text}");
}
