//! The warp, the cost volume in every aggregation, and its fusion with the layers that read it.

use engine::cpu::device::Cpu;
use engine::cpu::ops::conv::Conv;
use engine::cpu::ops::pixel_statistics::pixel_statistics;
use engine::cpu::ops::sweep::{self, Search, Sweep, VoxelGate, cost_volume};
use engine::cpu::ops::sweep_fused::fused;
use engine::cpu::ops::warp::warp;
use engine::cpu::simd::Level;
use engine::net::layers::Activation;
use engine::net::tensor::{Buffer, Tensor};
use engine::scene::camera::PlaneSweep;

use crate::convolutions::{D2_1, D3_3S2};
use crate::reference::{Convolution, Random, Volume};
use crate::reference_sweep::{self, Gate, Homography};
use crate::{Report, in_pool, random, tensor, volume};

pub const IDENTITY: [[f32; 3]; 3] = [[1., 0., 0.], [0., 1., 0.], [0., 0., 1.]];

fn plane_sweep(h: Homography) -> PlaneSweep {
    PlaneSweep { a: h.a, b: h.b }
}

type Size = (usize, usize);

#[test]
fn warping() {
    // At depth 1 and with A the identity, b is a shift in pixels.
    let shift = |x: f32, y: f32| Homography { a: IDENTITY, b: [x, y, 0.0] };
    let oblique = |b: [f32; 3]| Homography { a: [[1.02, 0.13, -0.7], [-0.11, 0.97, 1.3], [1.1e-3, -2.3e-3, 0.98]], b };
    let zoom = |s: f32| Homography { a: [[s, 0., 0.25], [0., s, -0.25], [0., 0., 1.]], b: [0.3, 0.1, 0.0] };
    #[rustfmt::skip]
    let cases: &[(&str, Homography, &[f32], Size, Size)] = &[
        // name, homography, depths, reference [H, W], source [H, W]
        ("identity", shift(0., 0.), &[1.], (7, 13), (7, 13)),
        ("inside", shift(2.3, 3.7), &[1.], (7, 13), (17, 31)),
        ("whole pixels", shift(3., -2.), &[1.], (7, 13), (7, 13)),
        ("left border", shift(-0.5, 0.2), &[1.], (5, 7), (7, 13)),
        ("just outside the left border", shift(-1., 0.2), &[1.], (5, 7), (7, 13)),
        ("right border", shift(6.5, 0.2), &[1.], (5, 7), (7, 13)),
        ("right border by little", shift(0.001, 0.), &[1.], (7, 13), (7, 13)),
        ("top border", shift(0.2, -0.75), &[1.], (5, 7), (7, 13)),
        ("bottom border", shift(0.2, 2.25), &[1.], (5, 7), (7, 13)),
        ("corner", shift(-0.5, -0.5), &[1.], (3, 3), (7, 13)),
        ("opposite corner", shift(12.5, 6.5), &[1.], (2, 2), (7, 13)),
        ("far outside by a hair in one corner", shift(-6.75, -4.75), &[1.], (5, 7), (7, 13)),
        ("oblique", oblique([3.1, -2.7, 0.4]), &[2., 2.7, 4.1, 6.5], (13, 17), (13, 17)),
        ("larger source", oblique([3.1, 2.7, -0.4]), &[2., 6.5], (7, 13), (67, 131)),
        ("smaller source", oblique([3.1, -2.7, 0.4]), &[2., 6.5], (31, 33), (5, 3)),
        ("source of one pixel", oblique([0.0, -2.6, 0.0]), &[2., 6.5], (7, 5), (1, 1)),
        ("source of one row", oblique([3.1, -5.0, 0.4]), &[2.], (13, 17), (1, 31)),
        ("source of one column", oblique([-9.0, 2.7, 0.4]), &[2.], (13, 17), (31, 1)),
        ("reference of one pixel", oblique([3.1, 2.7, 0.4]), &[2., 6.5], (1, 1), (7, 13)),
        ("runs below 80", oblique([3.1, -2.7, 0.4]), &[2.], (2, 79), (13, 83)),
        ("runs of 80", oblique([3.1, -2.7, 0.4]), &[2.], (2, 80), (13, 83)),
        ("runs above 80", oblique([3.1, -2.7, 0.4]), &[2.], (3, 81), (13, 83)),
        ("three runs", oblique([3.1, -2.7, 0.4]), &[2.], (3, 163), (13, 183)),
        ("magnified", zoom(0.125), &[1., 2.], (17, 31), (5, 7)),
        ("reduced", zoom(7.5), &[1., 2.], (3, 5), (17, 31)),
        ("near planes behind", oblique([3.1, -2.7, -3.0]), &[1., 2., 3.1, 3.9, 6.5], (13, 17), (13, 17)),
    ];
    let mut report = Report::default();
    for &(name, homography, depths, (h, w), (hs, ws)) in cases {
        let mut rng = Random::new(name);
        let features = random(&mut rng, [1, hs, ws, 32]);
        let map = volume(&features);
        let mut truth = Volume { shape: [depths.len(), h, w, 32], data: Vec::new() };
        for &d in depths {
            for (y, x) in (0..h * w).map(|i| (i / w, i % w)) {
                let at = homography.position(x, y, d);
                truth.data.extend((0..32).map(|c| reference_sweep::bilinear(&map, at, c)));
            }
        }
        assert!(truth.data.iter().any(|v| v.v != 0.0), "{name} misses the source");
        report.check(&format!("warp {name}"), &[&features], &[truth], &|cpu| {
            vec![warp(cpu, &features, &plane_sweep(homography), depths, (h, w)).unwrap()]
        });
    }
    report.finish(cases.len());
}

/// Exact zeros far outside and behind, whatever the numbers, and no index that leaves the source.
#[test]
fn nothing_is_read_outside_the_source() {
    let mut rng = Random::new("outside");
    let features = random(&mut rng, [1, 7, 13, 32]);
    let scale = |s: f32| [[s, 0., 0.], [0., s, 0.], [0., 0., 1.]];
    for (name, a, b, depth) in [
        ("far left", IDENTITY, [-1e3, 0., 0.], 1.0),
        ("far right", IDENTITY, [1e3, 0., 0.], 1.0),
        ("beyond an i32", IDENTITY, [-1e30, 1e30, 0.], 1.0),
        ("infinitely far", scale(f32::MAX), [f32::MAX, f32::MAX, 0.], 100.0),
        ("behind", IDENTITY, [0., 0., -2.], 1.0),
        ("in the camera's plane", IDENTITY, [0., 0., -1.], 1.0),
        ("just not in front", IDENTITY, [0., 0., 0.], 1e-6),
        ("NaN", [[f32::NAN; 3]; 3], [f32::NAN; 3], 1.0),
        ("NaN in front", [[f32::NAN; 3], [f32::NAN; 3], [0., 0., 1.]], [0.; 3], 1.0),
        ("infinite depth", IDENTITY, [0., 0., 0.], f32::INFINITY),
    ] {
        for level in Level::available() {
            let y = warp(&Cpu::with_level(level), &features, &PlaneSweep { a, b }, &[depth], (5, 19)).unwrap();
            assert!(y.data.iter().all(|&v| v == 0.0), "{name} on {}", level.name());
        }
    }
}

/// A sweep with its features, to be looked at by the engine and by the plain loops.
struct Scene {
    reference: Tensor,
    sources: Vec<(Tensor, Homography)>,
    depths: Vec<f32>,
    gate: Gate,
    /// A weight a pixel for each source.
    weights: Vec<Tensor>,
}

const AGGREGATIONS: [&str; 4] = ["voxel", "pixel", "mean", "variance"];

impl Scene {
    fn new(name: &str, [d, h, w]: [usize; 3], sources: usize) -> Self {
        let mut rng = Random::new(name);
        let reference = random(&mut rng, [1, h, w, 32]);
        let maps = (0..sources).map(|s| {
            let size = [1, h + 3 * s, (w + 1).saturating_sub(2 * s).max(1), 32];
            let r = &mut rng;
            let mut near = |x: f64, by: f64| r.within(x - by, x + by);
            let a = [
                [near(1.0, 0.05), near(0.0, 0.05), near(0.0, 0.3)],
                [near(0.0, 0.05), near(1.0, 0.05), near(0.0, 0.3)],
                [near(0.0, 1e-4), near(0.0, 1e-4), near(1.0, 0.02)],
            ];
            let b = [near(0.0, 4.0), near(0.0, 4.0), near(0.0, 0.3)];
            (random(r, size), Homography { a, b })
        });
        let sources: Vec<_> = maps.collect();
        let depths = (0..d).map(|i| 2.0 + 4.5 * i as f32 / d as f32).collect();
        let scaled = |v: Vec<f32>, s: f32| v.into_iter().map(|x| x * s).collect::<Vec<_>>();
        let gate = Gate {
            reduce: scaled(rng.values(8 * 32), 0.3),
            reduce_bias: rng.values(8),
            weight: rng.values(8),
            weight_bias: rng.value() * 0.1,
        };
        let weights = sources
            .iter()
            .map(|_| tensor([1, h, w, 1], &(0..h * w).map(|_| rng.within(-0.5, 2.0).max(0.0)).collect::<Vec<_>>()));
        let weights = weights.collect();
        Self { reference, sources, depths, gate, weights }
    }

    fn inputs(&self) -> Vec<&Tensor> {
        std::iter::once(&self.reference).chain(self.sources.iter().map(|s| &s.0)).chain(&self.weights).collect()
    }

    /// Calls `f` with the engine's sweep.
    fn sweep<T>(&self, aggregation: &str, squared: bool, f: impl FnOnce(&Sweep) -> T) -> T {
        let sources: Vec<_> = self.sources.iter().map(|(map, h)| (map, plane_sweep(*h))).collect();
        let gate = voxel_gate(&self.gate);
        let aggregation = match aggregation {
            "voxel" => sweep::Aggregation::Voxel(&gate),
            "pixel" => sweep::Aggregation::Pixel(&self.weights),
            "mean" => sweep::Aggregation::Mean,
            _ => sweep::Aggregation::Variance,
        };
        let search = Search::Planes(&self.depths);
        f(&Sweep { reference: &self.reference, sources: &sources, search, aggregation, squared })
    }

    /// Calls `f` with the plain one.
    fn plain<T>(&self, aggregation: &str, squared: bool, f: impl FnOnce(&reference_sweep::Sweep) -> T) -> T {
        let sources: Vec<_> = self.sources.iter().map(|(map, h)| (volume(map), *h)).collect();
        let weights: Vec<_> = self.weights.iter().map(volume).collect();
        let aggregation = match aggregation {
            "voxel" => reference_sweep::Aggregation::Voxel(&self.gate),
            "pixel" => reference_sweep::Aggregation::Pixel(&weights),
            "mean" => reference_sweep::Aggregation::Mean,
            _ => reference_sweep::Aggregation::Variance,
        };
        let reference = volume(&self.reference);
        let (sources, depths) = (&sources[..], &self.depths[..]);
        f(&reference_sweep::Sweep { reference: &reference, sources, depths, aggregation, squared, coarse: 0.0 })
    }
}

pub fn voxel_gate(gate: &Gate) -> VoxelGate {
    let mut reduce = Buffer::zeros(32 * 8);
    for (i, &w) in gate.reduce.iter().enumerate() {
        reduce[i % 32 * 8 + i / 32] = w;
    }
    VoxelGate {
        reduce,
        reduce_bias: Buffer::from_slice(&gate.reduce_bias),
        weight: Buffer::from_slice(&gate.weight),
        weight_bias: gate.weight_bias,
    }
}

#[test]
fn cost_volumes() {
    let mut report = Report::default();
    for (size, sources) in [
        ([1, 1, 1], 1),
        ([3, 7, 13], 1),
        ([5, 3, 17], 3),
        ([2, 2, 31], 2),
        ([1, 1, 79], 2),
        ([2, 2, 80], 1),
        ([1, 2, 81], 4),
        ([2, 1, 163], 2),
    ] {
        for aggregation in AGGREGATIONS {
            for squared in [true, false] {
                let kind = if squared { "squared" } else { "signed" };
                let name = format!("cost {aggregation} {kind} {size:?}, {sources} sources");
                let scene = Scene::new(&name, size, sources);
                let truth = scene.plain(aggregation, squared, |s| s.cost());
                report.check(&name, &scene.inputs(), &[truth], &|cpu| {
                    vec![scene.sweep(aggregation, squared, |s| cost_volume(cpu, s).unwrap())]
                });
            }
        }
    }
    report.finish(64);
}

#[test]
fn statistics_for_the_pixel_gate() {
    let mut report = Report::default();
    for size in [[1, 1, 1], [3, 7, 13], [21, 2, 5], [2, 3, 31], [2, 2, 80], [2, 2, 163]] {
        for squared in [true, false] {
            let name = format!("statistics {size:?} squared {squared}");
            let scene = Scene::new(&name, size, 2);
            let truths: Vec<_> = scene.plain("mean", squared, |s| vec![s.statistics(0), s.statistics(1)]);
            report.check(&name, &scene.inputs(), &truths, &|cpu| {
                let of = |source| scene.sweep("mean", squared, |s| pixel_statistics(cpu, s, source).unwrap());
                vec![of(0), of(1)]
            });
        }
    }
    report.finish(12);
}

/// The fused sweep, which reads the last of odd planes, rows and columns twice, against a plain convolution and
/// projection of the engine's own cost volume (which has a test of its own), in pools of 1, 3 and 16 threads: more
/// threads cut the planes into more segments.
#[test]
fn fused_sweeps() {
    let mut report = Report::default();
    let mut rng = Random::new("fused weights");
    // Tiles are 8 x 36 outputs, 16 x 72 voxels.
    for (size, sources, aggregation, squared, with_skip) in [
        ([1, 1, 1], 1, "mean", true, true),
        ([2, 2, 2], 2, "voxel", true, true),
        ([3, 5, 7], 3, "voxel", true, true),
        ([5, 15, 33], 1, "pixel", false, false),
        ([2, 16, 72], 1, "mean", true, true),
        ([3, 17, 71], 2, "voxel", false, true),
        ([2, 18, 73], 1, "variance", true, true),
        ([1, 33, 13], 1, "mean", false, true),
        ([1, 3, 145], 1, "mean", true, true),
        ([4, 31, 74], 1, "voxel", true, false),
        ([15, 3, 5], 1, "mean", true, true),
        ([17, 3, 5], 1, "voxel", true, true),
        ([33, 2, 3], 2, "mean", false, true),
        ([35, 19, 75], 1, "mean", true, true),
        ([130, 1, 2], 1, "voxel", true, true),
    ] {
        let name = format!("fused {aggregation} {size:?}");
        let scene = Scene::new(&name, size, sources);
        let scaled = |v: Vec<f32>| v.into_iter().map(|x| x * 0.1).collect::<Vec<f32>>();
        let (weights, bias) = (scaled(rng.values(32 * 32 * 27)), rng.values(32));
        let (skip_weights, skip_bias) = (scaled(rng.values(32 * 8)), rng.values(8));
        let strided = Conv::new((32, 32), [3; 3], [2; 3], &weights, &bias, Activation::Relu);
        let skip = Conv::new((32, 8), [1; 3], [1; 3], &skip_weights, &skip_bias, Activation::Linear);
        let first = |c: &Convolution, cost: &Volume| c.apply(cost, None);
        for level in Level::available() {
            let cpu = Cpu::with_level(level);
            let cost = volume(&scene.sweep(aggregation, squared, |s| cost_volume(&cpu, s).unwrap()));
            let (kernel, stride) = D3_3S2;
            let (weights, bias) = (&weights[..], &bias[..]);
            let both = Convolution { channels: (32, 32), kernel, stride, weights, bias, relu: true };
            let both = first(&both, &cost.evened());
            let (kernel, stride) = D2_1;
            let (weights, bias) = (&skip_weights[..], &skip_bias[..]);
            let projection = Convolution { channels: (32, 8), kernel, stride, weights, bias, relu: false };
            let truths = [both.channels(0, 16), both.channels(16, 32), first(&projection, &cost)];
            let mut before: Option<Vec<Tensor>> = None;
            for threads in [1, 3, 16] {
                let case = format!("{name}, {threads} threads");
                let run = || {
                    scene.sweep(aggregation, squared, |s| {
                        let mut projected = Tensor::zeros(s.shape().with_channels(8));
                        let to = with_skip.then_some((&skip, &mut projected));
                        let pair = in_pool(threads, || fused(&cpu, s, &strided, to).unwrap());
                        pair.into_iter().chain(with_skip.then_some(projected)).collect::<Vec<_>>()
                    })
                };
                let found = run();
                assert_eq!(found.len(), if with_skip { 3 } else { 2 });
                report.cases += 1;
                for (found, truth) in found.iter().zip(&truths) {
                    report.compare(&case, level, found, truth);
                }
                let bits = |all: &[Tensor]| -> Vec<u32> {
                    all.iter().flat_map(|x| x.data.iter().map(|v| v.to_bits())).collect()
                };
                if before.as_ref().is_some_and(|b| bits(b) != bits(&found)) {
                    report.fail(&case, level, "other bits than with 1 thread".into());
                }
                for x in &found {
                    let mut poison = x.clone();
                    poison.data.fill(f32::NAN);
                    cpu.recycle(poison);
                }
                if bits(&run()) != bits(&found) {
                    report.fail(&case, level, "other bits in recycled buffers".into());
                }
                before.get_or_insert(found);
            }
        }
    }
    report.finish(15 * 3);
}
