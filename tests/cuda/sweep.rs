//! The cost volume, its projection and the pixel gate's statistics, and their gradients.

use engine::cpu::device::Cpu;
use engine::cpu::ops::pixel_statistics_backward::pixel_statistics_backward;
use engine::cpu::ops::sweep::{Aggregation, Search, Sweep, VoxelGate};
use engine::cpu::ops::sweep_backward::cost_volume_backward;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::sweep::{self as cuda_sweep, Skip, Views, Weighting, cost_volume, pixel_statistics, source_row};
use engine::cuda::storage::Element;
use engine::net::tensor::{Buffer, Shape, Tensor};
use engine::scene::camera::PlaneSweep;

use crate::reference::{self, Random, Sum, U, Volume};
use crate::reference_sweep::{self, Gate, Homography};
use crate::run::{rounded, run};

const C: usize = 32;
/// Half a unit in the last place of 1 in f16, and half the smallest number above zero.
const U16: f64 = 1.0 / 2048.0;
const SMALLEST16: f64 = 1.0 / (1u64 << 25) as f64;

type Inputs = Vec<(Value, Vec<f32>)>;

/// Features of a reference and of sources, each source smaller than the one before.
struct Scene {
    size: [usize; 3],
    reference: Vec<f32>,
    sources: Vec<([usize; 2], Vec<f32>, Homography)>,
    depths: Vec<f32>,
    gate: Gate,
    /// [H, W] for each source.
    weights: Vec<Vec<f32>>,
}

impl Scene {
    /// Values as `element` stores them.
    fn new(name: &str, size: [usize; 3], sources: usize, element: Element) -> Self {
        let mut rng = Random::new(name);
        let [d, h, w] = size;
        let features = |rng: &mut Random, [h, w]: [usize; 2]| rounded(element, &rng.values(h * w * C));
        let reference = features(&mut rng, [h, w]);
        let sources = (0..sources)
            .map(|s| {
                let size = [h.saturating_sub(2 * s).max(1), w.saturating_sub(s).max(1)];
                let r = &mut rng;
                let mut near = |x: f64, by: f64| r.within(x - by, x + by);
                let a = [
                    [near(1.0, 0.05), near(0.0, 0.05), near(0.0, 0.3)],
                    [near(0.0, 0.05), near(1.0, 0.05), near(0.0, 0.3)],
                    [near(0.0, 1e-4), near(0.0, 1e-4), near(1.0, 0.02)],
                ];
                let b = [near(0.0, 3.0), near(0.0, 3.0), near(0.0, 0.3)];
                (size, features(r, size), Homography { a, b })
            })
            .collect::<Vec<_>>();
        let depths = (0..d).map(|i| 2.0 + 4.5 * i as f32 / d as f32).collect();
        // The projection of f16 is a product of f16 numbers.
        let scaled = |v: Vec<f32>, s: f32| rounded(element, &v.into_iter().map(|x| x * s).collect::<Vec<_>>());
        let gate = Gate {
            reduce: scaled(rng.values(8 * C), 0.3),
            reduce_bias: rng.values(8),
            weight: rng.values(8),
            // Most gates open, some not.
            weight_bias: 0.3 + rng.value() * 0.1,
        };
        let mut weight = || rounded(element, &[rng.within(-0.5, 2.0).max(0.0)])[0];
        let weights = sources.iter().map(|_| (0..h * w).map(|_| weight()).collect()).collect();
        Self { size, reference, sources, depths, gate, weights }
    }

    fn views(&self, graph: &mut Graph, element: Element, squared: bool, inputs: &mut Inputs) -> Views {
        let [d, h, w] = self.size;
        let count = self.sources.len();
        let features = graph.input("features", Shape { d: count + 1, h, w, c: C }, element);
        let sources = graph.input("sources", Shape { d: count, h: 1, w: 1, c: 16 }, Element::F32);
        let depths = graph.input("depths", Shape::plane(1, 1, d), Element::F32);
        let mut all = self.reference.clone();
        let mut rows = Vec::new();
        for ([hs, ws], map, homography) in &self.sources {
            // What lies outside the smaller map must not be read.
            let mut padded = vec![f32::NAN; h * w * C];
            for (y, row) in map.chunks_exact(ws * C).enumerate() {
                padded[y * w * C..][..row.len()].copy_from_slice(row);
            }
            all.extend(padded);
            rows.extend(source_row(&PlaneSweep { a: homography.a, b: homography.b }, *hs, *ws));
        }
        inputs.extend([(features, all), (sources, rows), (depths, self.depths.clone())]);
        Views { features, sources, depths, squared, reference: None }
    }

    fn weighting(&self, graph: &mut Graph, aggregation: &str, element: Element, inputs: &mut Inputs) -> Weighting {
        let [_, h, w] = self.size;
        match aggregation {
            "voxel" => {
                let mut input = |name, values: &[f32]| {
                    let value = graph.input(name, Shape::plane(1, 1, values.len()), Element::F32);
                    inputs.push((value, values.to_vec()));
                    value
                };
                Weighting::Voxel(cuda_sweep::VoxelGate {
                    reduce: input("reduce.weight", &self.gate.reduce),
                    reduce_bias: input("reduce.bias", &self.gate.reduce_bias),
                    weight: input("weight.weight", &self.gate.weight),
                    weight_bias: input("weight.bias", &[self.gate.weight_bias]),
                })
            }
            "pixel" => {
                let value = graph.input("weights", Shape { d: self.sources.len(), h, w, c: 1 }, element);
                inputs.push((value, self.weights.concat()));
                Weighting::Pixel(value)
            }
            "mean" => Weighting::Mean,
            _ => Weighting::Variance,
        }
    }

    /// Calls `f` with the plain sweep in f64 over `sources`.
    fn plain<T>(
        &self,
        aggregation: &str,
        squared: bool,
        sources: std::ops::Range<usize>,
        coarse: f64,
        f: impl FnOnce(&reference_sweep::Sweep) -> T,
    ) -> T {
        let [_, h, w] = self.size;
        let map = |([h, w], map, homography): &([usize; 2], Vec<f32>, Homography)| {
            (Volume::exact([1, *h, *w, C], map), *homography)
        };
        let maps: Vec<_> = self.sources[sources.clone()].iter().map(map).collect();
        let weights: Vec<_> = self.weights[sources].iter().map(|v| Volume::exact([1, h, w, 1], v)).collect();
        let aggregation = match aggregation {
            "voxel" => reference_sweep::Aggregation::Voxel(&self.gate),
            "pixel" => reference_sweep::Aggregation::Pixel(&weights),
            "mean" => reference_sweep::Aggregation::Mean,
            _ => reference_sweep::Aggregation::Variance,
        };
        let reference = Volume::exact([1, h, w, C], &self.reference);
        let (reference, depths) = (&reference, &self.depths);
        f(&reference_sweep::Sweep { reference, sources: &maps, depths, aggregation, squared, coarse })
    }

    /// Calls `f` with the CPU backend's sweep.
    fn cpu<T>(&self, aggregation: &str, squared: bool, f: impl FnOnce(&Sweep) -> T) -> T {
        let [_, h, w] = self.size;
        let tensor = |h, w, c, v: &[f32]| Tensor::from_slice(Shape { d: 1, h, w, c }, v).unwrap();
        let reference = tensor(h, w, C, &self.reference);
        let maps: Vec<_> = self.sources.iter().map(|([h, w], v, _)| tensor(*h, *w, C, v)).collect();
        let homographies = self.sources.iter().map(|s| PlaneSweep { a: s.2.a, b: s.2.b });
        let sources: Vec<_> = maps.iter().zip(homographies).collect();
        let weights: Vec<_> = self.weights.iter().map(|v| tensor(h, w, 1, v)).collect();
        let mut reduce = Buffer::zeros(C * 8);
        self.gate.reduce.iter().enumerate().for_each(|(i, &v)| reduce[i % C * 8 + i / C] = v);
        let gate = VoxelGate {
            reduce,
            reduce_bias: Buffer::from_slice(&self.gate.reduce_bias),
            weight: Buffer::from_slice(&self.gate.weight),
            weight_bias: self.gate.weight_bias,
        };
        let aggregation = match aggregation {
            "voxel" => Aggregation::Voxel(&gate),
            "pixel" => Aggregation::Pixel(&weights),
            "mean" => Aggregation::Mean,
            _ => Aggregation::Variance,
        };
        let search = Search::Planes(&self.depths);
        f(&Sweep { reference: &reference, sources: &sources, search, aggregation, squared })
    }

    /// By how much the cost may be off because the gate of f16 rounds its hidden values and last weights: each weight
    /// by 2 U16 sum |weight| |hidden|.
    fn gate_rounding(&self, squared: bool) -> Vec<f64> {
        let count = self.sources.len();
        let mut off = vec![0.0; self.size.iter().product::<usize>() * C];
        for s in 0..count {
            let f = self.plain("mean", squared, s..s + 1, U16, |sweep| sweep.cost());
            for (off, f) in off.chunks_exact_mut(C).zip(f.data.chunks_exact(C)) {
                let row =
                    |row: &[f32]| row.iter().zip(f).map(|(&r, f)| f64::from(r).abs() * (f.v.abs() + f.e)).sum::<f64>();
                let rows = self.gate.reduce.chunks_exact(C).zip(&self.gate.reduce_bias).zip(&self.gate.weight);
                let hidden = |r, bias: f32| row(r) + f64::from(bias).abs();
                let w: f64 = rows.map(|((r, &b), &w)| 2.0 * U16 * f64::from(w).abs() * hidden(r, b)).sum();
                off.iter_mut().zip(f).for_each(|(off, f)| *off += w * (1.0 + U16) * (f.v.abs() + f.e) / count as f64);
            }
        }
        off
    }
}

/// Planes, rows, columns; sources; weighting; whether squared. More than a run of 16 planes, than a block's pixels,
/// than a group's lanes of sources.
#[rustfmt::skip]
const CASES: [([usize; 3], usize, &str, bool); 9] = [
    ([1, 1, 1], 1, "voxel", true),
    ([3, 5, 13], 2, "voxel", true),
    ([17, 3, 5], 2, "voxel", false),
    ([2, 2, 31], 3, "pixel", true),
    ([2, 5, 17], 1, "pixel", false),
    ([3, 2, 3], 9, "mean", true),
    ([2, 5, 7], 2, "mean", false),
    ([19, 2, 3], 2, "variance", true),
    ([1, 3, 11], 9, "variance", true),
];

fn forward(element: Element) {
    for (size, sources, aggregation, squared) in CASES {
        let name = format!("{aggregation}, squared {squared}, {size:?}, {sources} sources, {element:?}");
        let scene = Scene::new(&name, size, sources, element);
        let mut rng = Random::new("projection");
        let skip_weights = rounded(element, &rng.values(8 * C));
        let skip_bias = rng.values(8);
        let Some(found) = run(|graph| {
            let mut inputs = Vec::new();
            let views = scene.views(graph, element, squared, &mut inputs);
            let weighting = scene.weighting(graph, aggregation, element, &mut inputs);
            let weights = graph.input("cost_skip.weight", Shape::plane(1, 8, C), Element::F32);
            let bias = graph.input("cost_skip.bias", Shape::plane(1, 1, 8), Element::F32);
            inputs.extend([(weights, skip_weights.clone()), (bias, skip_bias.clone())]);
            let skip = Skip { weights, bias };
            let (cost, skip) = cost_volume(graph, "test", &views, &weighting, Some(&skip)).unwrap();
            (inputs, vec![cost, skip.unwrap()])
        }) else {
            return;
        };
        let half = element == Element::F16;
        let coarse = if half { U16 } else { 0.0 };
        let truth = scene.plain(aggregation, squared, 0..sources, coarse, |s| s.cost());
        let gate =
            if half && aggregation == "voxel" { scene.gate_rounding(squared) } else { vec![0.0; truth.data.len()] };
        // What storing a result in f16 adds.
        let stored = |v: f64| if half { U16 * v.abs() + SMALLEST16 } else { 0.0 };
        for (i, (truth, gate)) in truth.data.iter().zip(gate).enumerate() {
            let off = (f64::from(found[0][i]) - truth.v).abs();
            let allowed = truth.e + gate + stored(truth.v) * (1.0 + U16);
            assert!(off <= allowed, "{name}: cost {i} is {} for {} +- {allowed:e}", found[0][i], truth.v);
        }
        assert!(truth.data.iter().any(|v| v.v != 0.0), "{name}: nothing is tested");
        // The projection is one of the cost as it is stored.
        for (i, &y) in found[1].iter().enumerate() {
            let (voxel, o) = (i / 8, i % 8);
            let mut sum = Sum::default();
            for c in 0..C {
                let x = reference::Value::exact(f64::from(found[0][voxel * C + c]));
                sum.product(x, f64::from(skip_weights[o * C + c]));
            }
            sum.add(reference::Value::exact(f64::from(skip_bias[o])));
            let truth = sum.value();
            let off = (f64::from(y) - truth.v).abs();
            assert!(off <= truth.e + stored(truth.v) * (1.0 + U16), "{name}: projection {i}: {y} for {truth:?}");
        }
    }
}

#[test]
pub fn cost_volumes_in_f32() {
    forward(Element::F32);
}

#[test]
fn cost_volumes_in_f16() {
    forward(Element::F16);
}

#[test]
fn statistics_of_pixels() {
    for element in [Element::F32, Element::F16] {
        for (size, sources, _, squared) in CASES {
            let name = format!("statistics, squared {squared}, {size:?}, {element:?}");
            let scene = Scene::new(&name, size, sources, element);
            let Some(found) = run(|graph| {
                let mut inputs = Vec::new();
                let views = scene.views(graph, element, squared, &mut inputs);
                (inputs, vec![pixel_statistics(graph, "test", &views).unwrap()])
            }) else {
                return;
            };
            let [_, h, w] = size;
            for (s, found) in found[0].chunks_exact(h * w * 2).enumerate() {
                let truth = scene.plain("mean", squared, s..s + 1, 0.0, |sweep| sweep.statistics(0));
                for (i, (&found, truth)) in found.iter().zip(&truth.data).enumerate() {
                    let stored = if element == Element::F16 { U16 * truth.v + SMALLEST16 } else { 0.0 };
                    let off = (f64::from(found) - truth.v).abs();
                    assert!(off <= truth.e + stored * (1.0 + U16), "{name}: {s}, {i}: {found} for {truth:?}");
                }
            }
        }
    }
}

/// Exact zeros where no source is seen, whatever the numbers, and no index that leaves a map (the detector would tell).
#[test]
fn nothing_is_read_outside_the_sources() {
    let identity = [[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]];
    let scale = |s: f32| [[s, 0., 0.], [0., s, 0.], [0., 0., 1.]];
    for (name, a, b, depth) in [
        ("far left", identity, [-1e3, 0., 0.], 1.0),
        ("far right", identity, [1e3, 0., 0.], 1.0),
        ("beyond an i32", identity, [-1e30, 1e30, 0.], 1.0),
        ("infinitely far", scale(f32::MAX), [f32::MAX, f32::MAX, 0.], 100.0),
        ("behind", identity, [0., 0., -2.], 1.0),
        ("in the camera's plane", identity, [0., 0., -1.], 1.0),
        ("just not in front", identity, [0., 0., 0.], 1e-6),
        ("NaN", [[f32::NAN; 3]; 3], [f32::NAN; 3], 1.0),
        ("NaN in front", [[f32::NAN; 3], [f32::NAN; 3], [0., 0., 1.]], [0.; 3], 1.0),
        ("infinite depth", identity, [0., 0., 0.], f32::INFINITY),
    ] {
        for element in [Element::F32, Element::F16] {
            let mut scene = Scene::new("outside", [1, 5, 19], 1, element);
            scene.sources[0].2 = Homography { a, b };
            scene.depths = vec![depth];
            let Some(found) = run(|graph| {
                let mut inputs = Vec::new();
                let views = scene.views(graph, element, false, &mut inputs);
                let (cost, _) = cost_volume(graph, "test", &views, &Weighting::Mean, None).unwrap();
                (inputs, vec![cost])
            }) else {
                return;
            };
            // 0 - reference.
            assert!(found[0].iter().zip(&scene.reference).all(|(c, r)| *c == -r), "{name}, {element:?}");
        }
    }
}

/// Two computations of one gradient in f32: sums of up to D S + 32 terms in other orders, positions that differ by a
/// rounding. Each is within 8 sqrt(n) U of the sum of its terms' sizes, which for these inputs is at most some 10
/// times the largest element of the gradient.
fn expect_near(what: &str, found: &[f32], expected: &[f32], terms: usize) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
    let allowed = 2.0 * 10.0 * reference::roundings(terms) * U * largest;
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(f) - f64::from(e)).abs();
        assert!(off <= allowed, "{what}, element {i}: {f} for {e}, off by {off:e} of {allowed:e}");
    }
}

/// The gradient [V, H, W, 32] of the maps from that of maps of their own sizes.
fn padded(scene: &Scene, reference: &[f32], maps: &[&[f32]]) -> Vec<f32> {
    let [_, h, w] = scene.size;
    let mut all = reference.to_vec();
    for (([_, ws], ..), map) in scene.sources.iter().zip(maps) {
        let mut wide = vec![0.0; h * w * C];
        for (y, row) in map.chunks_exact(ws * C).enumerate() {
            wide[y * w * C..][..row.len()].copy_from_slice(row);
        }
        all.extend(wide);
    }
    all
}

#[test]
fn cost_volume_gradients() {
    let cpu = Cpu::new();
    for (size, sources, aggregation, squared) in CASES {
        let name = format!("{aggregation}, squared {squared}, {size:?}, {sources} sources");
        let scene = Scene::new(&name, size, sources, Element::F32);
        let [d, h, w] = size;
        let shape = Shape { d, h, w, c: C };
        // Small, as gradients are: the unit of the integers has to follow.
        let dy: Vec<f32> = Random::new("gradient").values(shape.len()).into_iter().map(|v| v * 1e-7).collect();
        let Some(found) = run(|graph| {
            let mut inputs = Vec::new();
            let views = scene.views(graph, Element::F32, squared, &mut inputs);
            let weighting = scene.weighting(graph, aggregation, Element::F32, &mut inputs);
            let mut wanted = vec![views.features];
            match weighting {
                Weighting::Voxel(cuda_sweep::VoxelGate { reduce, reduce_bias, weight, weight_bias }) => {
                    wanted.extend([reduce, reduce_bias, weight, weight_bias]);
                }
                Weighting::Pixel(weights) => wanted.push(weights),
                Weighting::Mean | Weighting::Variance => {}
            }
            wanted.iter().for_each(|&v| graph.want_gradient(v));
            let (cost, _) = cost_volume(graph, "test", &views, &weighting, None).unwrap();
            let gradient = graph.input("gradient", shape, Element::F32);
            inputs.push((gradient, dy.clone()));
            let gradients = graph.backward(cost, gradient).unwrap();
            (inputs, wanted.iter().map(|v| gradients[v]).collect())
        }) else {
            return;
        };
        let dy = Tensor::from_slice(shape, &dy).unwrap();
        let truth = scene.cpu(aggregation, squared, |sweep| cost_volume_backward(&cpu, sweep, &dy).unwrap());
        let maps: Vec<&[f32]> = truth.sources.iter().map(|t| &t.data[..]).collect();
        let mut expected = vec![padded(&scene, &truth.reference.data, &maps)];
        if let Some(gate) = &truth.gate {
            let mut reduce = vec![0.0; 8 * C];
            gate.reduce.iter().enumerate().for_each(|(i, &v)| reduce[i % 8 * C + i / 8] = v);
            let bias = vec![gate.weight_bias];
            expected.extend([reduce, gate.reduce_bias.to_vec(), gate.weight.to_vec(), bias]);
        }
        if aggregation == "pixel" {
            expected.push(truth.weights.iter().flat_map(|t| t.data.to_vec()).collect());
        }
        assert_eq!(found.len(), expected.len(), "{name}");
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(h * w == 1 || expected.iter().any(|&g| g != 0.0), "{name}: {i} tests nothing");
            expect_near(&format!("{name}: input {i}"), found, expected, d * sources + C);
        }
    }
}

#[test]
fn statistics_gradients() {
    let cpu = Cpu::new();
    for (size, sources, _, squared) in CASES {
        let name = format!("statistics, squared {squared}, {size:?}, {sources} sources");
        let scene = Scene::new(&name, size, sources, Element::F32);
        let [d, h, w] = size;
        let shape = Shape { d: sources, h, w, c: 2 };
        let dy = Random::new("gradient").values(shape.len());
        let Some(found) = run(|graph| {
            let mut inputs = Vec::new();
            let views = scene.views(graph, Element::F32, squared, &mut inputs);
            graph.want_gradient(views.features);
            let y = pixel_statistics(graph, "test", &views).unwrap();
            let gradient = graph.input("gradient", shape, Element::F32);
            inputs.push((gradient, dy.clone()));
            let gradients = graph.backward(y, gradient).unwrap();
            (inputs, vec![gradients[&views.features]])
        }) else {
            return;
        };
        let mut reference = vec![0.0f32; h * w * C];
        let mut maps = Vec::new();
        for (s, dy) in dy.chunks_exact(h * w * 2).enumerate() {
            let dy = Tensor::from_slice(Shape { d: 1, h, w, c: 2 }, dy).unwrap();
            let (r, map) = scene.cpu("mean", squared, |sweep| pixel_statistics_backward(&cpu, sweep, s, &dy).unwrap());
            reference.iter_mut().zip(r.data.iter()).for_each(|(sum, v)| *sum += v);
            maps.push(map.data.to_vec());
        }
        let maps: Vec<&[f32]> = maps.iter().map(|m| &m[..]).collect();
        expect_near(&name, &found[0], &padded(&scene, &reference, &maps), d * sources + C);
    }
}

/// A gradient that is no number must not pass for one in the sums of integers.
#[test]
fn a_gradient_that_is_no_number_shows() {
    let scene = Scene::new("infinite", [2, 3, 5], 1, Element::F32);
    let shape = Shape { d: 2, h: 3, w: 5, c: C };
    for bad in [f32::INFINITY, f32::NAN] {
        let mut dy = Random::new("gradient").values(shape.len());
        dy[37] = bad;
        let Some(found) = run(|graph| {
            let mut inputs = Vec::new();
            let views = scene.views(graph, Element::F32, true, &mut inputs);
            graph.want_gradient(views.features);
            let (cost, _) = cost_volume(graph, "test", &views, &Weighting::Mean, None).unwrap();
            let gradient = graph.input("gradient", shape, Element::F32);
            inputs.push((gradient, dy.clone()));
            let gradients = graph.backward(cost, gradient).unwrap();
            (inputs, vec![gradients[&views.features]])
        }) else {
            return;
        };
        assert!(found[0][3 * 5 * C..].iter().all(|v| v.is_nan()), "{bad}");
    }
}

/// What does not fit together is named.
#[test]
fn other_shapes_are_refused() {
    let mut graph = Graph::new();
    let scene = Scene::new("refused", [2, 3, 5], 2, Element::F32);
    let views = scene.views(&mut graph, Element::F32, true, &mut Vec::new());
    let wrong = graph.input("wrong", Shape::plane(3, 5, 1), Element::F32);
    let mut refused = |views: &Views, weighting: &Weighting, skip: Option<&Skip>| {
        cost_volume(&mut graph, "test", views, weighting, skip).unwrap_err().to_string()
    };
    let text = refused(&Views { features: wrong, ..views }, &Weighting::Mean, None);
    assert!(text.contains("features [D 1, H 3, W 5, C 1] f32") && text.contains("32 channels"), "{text}");
    let text = refused(&Views { sources: wrong, ..views }, &Weighting::Mean, None);
    assert!(text.contains("sources [D 1, H 3, W 5, C 1] f32, expected 32 values of f32"), "{text}");
    let text = refused(&views, &Weighting::Pixel(wrong), None);
    assert!(text.contains("pixel weights [D 1, H 3, W 5, C 1] f32, expected 30 values"), "{text}");
    let text = refused(&views, &Weighting::Mean, Some(&Skip { weights: wrong, bias: wrong }));
    assert!(text.contains("the projection's weights"), "{text}");
}
