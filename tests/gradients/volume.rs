//! The cost volume and the pixel gate's statistics against central differences of plain f64 loops.
//!
//! The engine's gradient is f32, with positions in the source computed in f32: 1e-6 of a pixel or so, times sums of at
//! most some hundred terms. It must agree within 1e-4 of the tensor's largest gradient. Inputs whose kinks (ReLU, |x|,
//! the largest plane) come closer than MARGIN, far beyond both the step and f32 rounding, are drawn again.

use engine::cpu::device::Cpu;
use engine::cpu::ops::pixel_statistics_backward::pixel_statistics_backward;
use engine::cpu::ops::sweep::{Aggregation, Search, Sweep, VoxelGate};
use engine::cpu::ops::sweep_backward::cost_volume_backward;
use engine::net::tensor::{Buffer, Shape, Tensor};
use engine::scene::camera::PlaneSweep;

use crate::{Random, devices, on_any_number_of_threads};

const C: usize = 32;
const STEP: f64 = 1e-6;
pub const MARGIN: f64 = 4e-6;

/// Tensors of a sweep, in f64, in a fixed order, so that any of them can be moved by a step.
#[derive(Clone)]
struct Inputs {
    reference: Vec<f64>,
    sources: Vec<Vec<f64>>,
    /// Weights per pixel of each source.
    weights: Vec<Vec<f64>>,
    /// [32, 8], [8], [8], [1].
    gate: [Vec<f64>; 4],
}

impl Inputs {
    fn all(&mut self) -> Vec<(String, &mut Vec<f64>)> {
        let mut all = vec![("reference".to_owned(), &mut self.reference)];
        all.extend(self.sources.iter_mut().enumerate().map(|(s, x)| (format!("source {s}"), x)));
        all.extend(self.weights.iter_mut().enumerate().map(|(s, x)| (format!("weights {s}"), x)));
        let names = ["reduce", "reduce bias", "weight", "weight bias"];
        all.extend(names.iter().zip(&mut self.gate).map(|(n, x)| ((*n).to_owned(), x)));
        all
    }
}

struct Scene {
    size: [usize; 3],
    maps: Vec<(usize, usize)>,
    homographies: Vec<PlaneSweep>,
    depths: Vec<f32>,
    inputs: Inputs,
}

pub fn wide(x: Vec<f32>) -> Vec<f64> {
    x.into_iter().map(f64::from).collect()
}

impl Scene {
    /// Sources partly beside the reference, the second also behind its own camera on the first planes.
    fn new(size @ [d, h, w]: [usize; 3], sources: usize, seed: u64) -> Self {
        let mut rng = Random::new(seed);
        let maps: Vec<_> = (0..sources).map(|s| (h + 2 * s, (w + 1).saturating_sub(3 * s).max(2))).collect();
        let homographies = (0..sources).map(|s| {
            let mut near = |x: f32, by: f32| x + by * rng.value();
            let a = [
                [near(1.0, 0.05), near(0.0, 0.05), near(0.0, 0.3)],
                [near(0.0, 0.05), near(1.0, 0.05), near(0.0, 0.3)],
                [near(0.0, 1e-4), near(0.0, 1e-4), near(1.0, 0.02)],
            ];
            PlaneSweep { a, b: [near(0.0, 4.0), near(0.0, 4.0), if s == 1 { -2.6 } else { 0.1 }] }
        });
        let homographies = homographies.collect();
        let mut values = |n: usize, scale: f32| wide(rng.values(n).iter().map(|v| v * scale).collect());
        let inputs = Inputs {
            reference: values(h * w * C, 1.0),
            sources: maps.iter().map(|m| values(m.0 * m.1 * C, 1.0)).collect(),
            weights: maps.iter().map(|_| values(h * w, 1.0).iter().map(|v| v.abs()).collect()).collect(),
            // Open at most voxels, closed at others.
            gate: [
                values(C * 8, 0.3),
                values(8, 1.0),
                values(8, 1.0).iter().map(|v| v + 0.3).collect(),
                values(1, 0.3),
            ],
        };
        let depths = (0..d).map(|i| 2.0 + 4.5 * i as f32 / d as f32).collect();
        // Only what f32 holds.
        let mut scene = Self { size, maps, homographies, depths, inputs };
        for (_, x) in scene.inputs.all() {
            x.iter_mut().for_each(|x| *x = f64::from(*x as f32));
        }
        scene
    }

    /// Bilinear weights and pixels of a voxel in a source, none outside or behind.
    fn taps(&self, s: usize, [d, y, x]: [usize; 3]) -> Vec<(usize, f64)> {
        let (PlaneSweep { a, b }, (h, w)) = (&self.homographies[s], self.maps[s]);
        let p = [x as f64, y as f64, 1.0];
        let q = [0, 1, 2].map(|r| {
            let row: f64 = (0..3).map(|i| f64::from(a[r][i]) * p[i]).sum();
            f64::from(self.depths[d]) * row + f64::from(b[r])
        });
        if q[2] <= 1e-6 {
            return Vec::new();
        }
        let (u, v) = (q[0] / q[2], q[1] / q[2]);
        let mut taps = Vec::new();
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (px, py) = (u.floor() + f64::from(i), v.floor() + f64::from(j));
            if px >= 0.0 && py >= 0.0 && px < w as f64 && py < h as f64 {
                let weight = (1.0 - (u - px).abs()) * (1.0 - (v - py).abs());
                taps.push((py as usize * w + px as usize, weight));
            }
        }
        taps
    }

    fn warped(&self, inputs: &Inputs, s: usize, at: [usize; 3]) -> [f64; C] {
        let mut out = [0.0; C];
        for (pixel, weight) in self.taps(s, at) {
            let feature = &inputs.sources[s][pixel * C..][..C];
            out.iter_mut().zip(feature).for_each(|(o, f)| *o += weight * f);
        }
        out
    }

    /// Calls `f` for every voxel.
    fn voxels(&self, mut f: impl FnMut(usize, [usize; 3])) {
        let [d, h, w] = self.size;
        (0..d * h * w).for_each(|i| f(i, [i / (h * w), i / w % h, i % w]));
    }

    /// <cost volume, y>, and the smallest distance of a gate's ReLU from its kink.
    fn cost(&self, inputs: &Inputs, aggregation: &str, squared: bool, gradient: &[f64]) -> (f64, f64) {
        let [_, _, w] = self.size;
        let sources = self.maps.len();
        let (mut total, mut margin) = (0.0, f64::INFINITY);
        self.voxels(|voxel, at| {
            let pixel = at[1] * w + at[2];
            let g = &gradient[voxel * C..][..C];
            let r = &inputs.reference[pixel * C..][..C];
            if aggregation == "variance" {
                let mut views: Vec<[f64; C]> = (0..sources).map(|s| self.warped(inputs, s, at)).collect();
                views.push(std::array::from_fn(|c| r[c]));
                for c in 0..C {
                    let mean = views.iter().map(|v| v[c]).sum::<f64>() / views.len() as f64;
                    let squares = views.iter().map(|v| (v[c] - mean).powi(2)).sum::<f64>();
                    total += g[c] * squares / views.len() as f64;
                }
                return;
            }
            for s in 0..sources {
                let mut f = self.warped(inputs, s, at);
                for c in 0..C {
                    f[c] -= r[c];
                    if squared {
                        f[c] *= f[c];
                    }
                }
                let weight = match aggregation {
                    "voxel" => {
                        let [reduce, reduce_bias, weight, bias] = &inputs.gate;
                        let mut last = bias[0];
                        for o in 0..8 {
                            let sum: f64 = (0..C).map(|c| f[c] * reduce[c * 8 + o]).sum::<f64>() + reduce_bias[o];
                            margin = margin.min(sum.abs());
                            last += weight[o] * sum.max(0.0);
                        }
                        margin = margin.min(last.abs());
                        last.max(0.0)
                    }
                    "pixel" => inputs.weights[s][pixel],
                    _ => 0.0,
                };
                let product: f64 = (0..C).map(|c| g[c] * f[c]).sum();
                total += (1.0 + weight) * product / sources as f64;
            }
        });
        (total, margin)
    }

    /// <statistics of a source, y>, and the smallest distance from a kink.
    fn statistics(&self, inputs: &Inputs, s: usize, squared: bool, gradient: &[f64]) -> (f64, f64) {
        let [d, h, w] = self.size;
        let (mut total, mut margin) = (0.0, f64::INFINITY);
        for pixel in 0..h * w {
            let mut means = Vec::new();
            for plane in 0..d {
                let warped = self.warped(inputs, s, [plane, pixel / w, pixel % w]);
                let mut sum = 0.0;
                for (w, r) in warped.iter().zip(&inputs.reference[pixel * C..]) {
                    let f = w - r;
                    if !squared {
                        margin = margin.min(f.abs());
                    }
                    sum += if squared { f * f } else { f.abs() };
                }
                means.push(sum / C as f64);
            }
            let max = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // Planes that miss the source are equal to the bit, and move together: no kink.
            for m in means.iter().filter(|&&m| m != max) {
                margin = margin.min(max - m);
            }
            total += gradient[pixel * 2] * max + gradient[pixel * 2 + 1] * means.iter().sum::<f64>() / d as f64;
        }
        (total, margin)
    }

    /// Calls `f` with the engine's sweep.
    fn sweep<T>(&self, aggregation: &str, squared: bool, f: impl FnOnce(&Sweep) -> T) -> T {
        let [_, h, w] = self.size;
        let reference = tensor(Shape::plane(h, w, C), &self.inputs.reference);
        let sources = self.inputs.sources.iter().zip(&self.maps);
        let maps: Vec<Tensor> = sources.map(|(x, m)| tensor(Shape::plane(m.0, m.1, C), x)).collect();
        let weights = self.inputs.weights.iter().map(|x| tensor(Shape::plane(h, w, 1), x));
        let weights: Vec<Tensor> = weights.collect();
        let [reduce, reduce_bias, weight, bias] = &self.inputs.gate;
        let buffer = |x: &[f64]| Buffer::from_slice(&x.iter().map(|&v| v as f32).collect::<Vec<_>>());
        let gate = VoxelGate {
            reduce: buffer(reduce),
            reduce_bias: buffer(reduce_bias),
            weight: buffer(weight),
            weight_bias: bias[0] as f32,
        };
        let sources: Vec<_> = maps.iter().zip(self.homographies.iter().copied()).collect();
        let aggregation = match aggregation {
            "voxel" => Aggregation::Voxel(&gate),
            "pixel" => Aggregation::Pixel(&weights),
            "mean" => Aggregation::Mean,
            _ => Aggregation::Variance,
        };
        let (reference, sources, depths) = (&reference, &sources[..], &self.depths[..]);
        f(&Sweep { reference, sources, search: Search::Planes(depths), aggregation, squared })
    }
}

pub fn tensor(shape: Shape, values: &[f64]) -> Tensor {
    Tensor::from_slice(shape, &values.iter().map(|&v| v as f32).collect::<Vec<_>>()).unwrap()
}

/// The first scene whose kinks are far, and which sees part of every source.
fn scene_apart(size: [usize; 3], sources: usize, margin: impl Fn(&Scene) -> f64) -> Scene {
    for seed in 0..200 {
        let scene = Scene::new(size, sources, seed);
        let mut seen = vec![[0usize; 2]; sources];
        scene.voxels(|_, at| {
            (0..sources).for_each(|s| seen[s][usize::from(scene.taps(s, at).len() == 4)] += 1);
        });
        // Whole inside and (partly) outside both occur, unless there is only a voxel or so.
        let mixed = size.iter().product::<usize>() < 20 || seen.iter().all(|&[out, inside]| out > 0 && inside > 0);
        if mixed && margin(&scene) > MARGIN {
            return scene;
        }
    }
    panic!("no scene of {size:?} without close kinks");
}

/// Compares a gradient with central differences at up to `points` elements, those with the largest gradient and others,
/// and along one direction through all elements.
pub fn expect_gradient(what: &str, x: &[f64], found: &[f32], points: usize, f: &dyn Fn(&[f64]) -> f64) {
    assert_eq!(x.len(), found.len(), "{what}");
    let largest = found.iter().fold(0.0f64, |m, &g| m.max(f64::from(g.abs())));
    assert!(found.iter().all(|g| g.is_finite()), "{what} is not finite");
    let mut rng = Random::new(x.len() as u64);
    let top = (0..x.len()).max_by(|&a, &b| found[a].abs().total_cmp(&found[b].abs())).unwrap();
    let mut at: Vec<usize> = vec![top];
    if x.len() <= points {
        at.extend(0..x.len());
    } else {
        at.extend((1..points).map(|_| (f64::from(rng.value() + 1.0) / 2.0 * (x.len() - 1) as f64) as usize));
    }
    let difference = |direction: &dyn Fn(usize) -> f64| {
        let moved = |by: f64| f(&x.iter().enumerate().map(|(i, x)| x + by * direction(i)).collect::<Vec<_>>());
        (moved(STEP) - moved(-STEP)) / (2.0 * STEP)
    };
    let scale = largest.max(1e-3);
    for i in at {
        let truth = difference(&|j| f64::from(u8::from(i == j)));
        let off = (truth - f64::from(found[i])).abs();
        assert!(off <= 1e-4 * scale, "{what}, element {i} of {}: {} against {truth}", x.len(), found[i]);
    }
    // All elements at once, small enough for the kinks: no element of the tensor can be wrong unseen.
    let size = 1.0 / (x.len() as f64).sqrt();
    let way: Vec<f64> = (0..x.len()).map(|_| size * if rng.value() < 0.0 { -1.0 } else { 1.0 }).collect();
    let truth = difference(&|i| way[i]);
    let sum: f64 = found.iter().zip(&way).map(|(&g, w)| f64::from(g) * w).sum();
    assert!((truth - sum).abs() <= 1e-4 * scale, "{what}, along a direction: {sum} against {truth}");
}

/// Bits of all gradients, in the order of [`Inputs::all`]: empty where there is none.
fn cost_gradients(cpu: &Cpu, sweep: &Sweep, y: &Tensor) -> Vec<Vec<f32>> {
    let g = cost_volume_backward(cpu, sweep, y).unwrap();
    let sources = g.sources.len();
    let mut all = vec![g.reference.data.to_vec()];
    all.extend(g.sources.iter().map(|x| x.data.to_vec()));
    all.extend((0..sources).map(|s| g.weights.get(s).map_or(Vec::new(), |x| x.data.to_vec())));
    all.extend(match &g.gate {
        Some(g) => [g.reduce.to_vec(), g.reduce_bias.to_vec(), g.weight.to_vec(), vec![g.weight_bias]],
        None => Default::default(),
    });
    all
}

#[test]
fn cost_volumes() {
    let cases = [([1, 1, 1], 1), ([3, 5, 7], 2), ([2, 3, 17], 3), ([2, 2, 49], 1), ([2, 19, 3], 2), ([3, 2, 97], 2)];
    for (size, sources) in cases {
        for aggregation in ["voxel", "pixel", "mean", "variance"] {
            for squared in [true, false] {
                let name = format!("{aggregation}, squared {squared}, {size:?}, {sources} sources");
                let y = wide(Random::new(7).values(size.iter().product::<usize>() * C));
                let mut scene = scene_apart(size, sources, |s| s.cost(&s.inputs, aggregation, squared, &y).1);
                let [d, h, w] = size;
                let gradient = tensor(Shape { d, h, w, c: C }, &y);
                let largest = scene.inputs.all().iter().map(|x| x.1.len()).max().unwrap();
                let plain = scene.inputs.clone();
                let tensors: Vec<_> = scene.inputs.all().into_iter().map(|(n, x)| (n, x.clone())).collect();
                for cpu in devices(largest) {
                    let found = scene.sweep(aggregation, squared, |sweep| {
                        on_any_number_of_threads(&name, || cost_gradients(&cpu, sweep, &gradient))
                    });
                    assert_eq!(found.len(), tensors.len());
                    for (t, ((tensor, x), found)) in tensors.iter().zip(&found).enumerate() {
                        let expected = match &tensor[..6] {
                            "weight" if tensor.starts_with("weights") => aggregation == "pixel",
                            "refere" | "source" => true,
                            _ => aggregation == "voxel",
                        };
                        assert_eq!(!found.is_empty(), expected, "{name}: gradient of {tensor}");
                        if found.is_empty() {
                            continue;
                        }
                        let what = format!("{name} on {}: {tensor}", cpu.level().name());
                        if h * w > 1 {
                            assert!(found.iter().any(|&g| g != 0.0), "{what}: nothing is tested");
                        }
                        expect_gradient(&what, x, found, 12, &|x| {
                            let mut inputs = plain.clone();
                            *inputs.all()[t].1 = x.to_vec();
                            scene.cost(&inputs, aggregation, squared, &y).0
                        });
                    }
                }
            }
        }
    }
}

#[test]
fn statistics_of_pixels() {
    for (size, sources) in [([1, 1, 1], 1), ([3, 5, 7], 2), ([6, 3, 17], 2), ([2, 2, 49], 1), ([3, 18, 2], 2)] {
        for squared in [true, false] {
            let y = wide(Random::new(9).values(size[1] * size[2] * 2));
            let last = sources - 1;
            let scene = scene_apart(size, sources, |s| s.statistics(&s.inputs, last, squared, &y).1);
            let gradient = tensor(Shape::plane(size[1], size[2], 2), &y);
            for cpu in devices(scene.inputs.sources[last].len()) {
                let name = format!("squared {squared}, {size:?} on {}", cpu.level().name());
                let found = scene.sweep("mean", squared, |sweep| {
                    on_any_number_of_threads(&name, || {
                        let (r, s) = pixel_statistics_backward(&cpu, sweep, last, &gradient).unwrap();
                        [r.data.to_vec(), s.data.to_vec()]
                    })
                });
                expect_gradient(&format!("{name}: reference"), &scene.inputs.reference, &found[0], 12, &|x| {
                    let inputs = Inputs { reference: x.to_vec(), ..scene.inputs.clone() };
                    scene.statistics(&inputs, last, squared, &y).0
                });
                expect_gradient(&format!("{name}: source"), &scene.inputs.sources[last], &found[1], 12, &|x| {
                    let mut inputs = scene.inputs.clone();
                    inputs.sources[last] = x.to_vec();
                    scene.statistics(&inputs, last, squared, &y).0
                });
            }
        }
    }
}

/// What does not fit together is named.
#[test]
fn gradients_of_other_shapes_are_refused() {
    let scene = Scene::new([2, 3, 5], 2, 1);
    let cpu = Cpu::new();
    scene.sweep("mean", true, |sweep| {
        let wrong = Tensor::zeros(Shape { d: 2, h: 3, w: 4, c: C });
        let text = cost_volume_backward(&cpu, sweep, &wrong).err().unwrap().to_string();
        assert!(text.contains("gradient [D 2, H 3, W 4, C 32], expected [D 2, H 3, W 5, C 32]"), "{text}");
        let text = pixel_statistics_backward(&cpu, sweep, 0, &wrong).err().unwrap().to_string();
        assert!(text.contains("expected [D 1, H 3, W 5, C 2]"), "{text}");
        let fitting = Tensor::zeros(Shape::plane(3, 5, 2));
        let text = pixel_statistics_backward(&cpu, sweep, 2, &fitting).err().unwrap().to_string();
        assert!(text.contains("source 2 of 2"), "{text}");
    });
}
