//! Blocks of the reference network against goldens that PyTorch made (tests/data/goldens).

use engine::cpu::device::Cpu;
use engine::cpu::ops::conv::Conv;
use engine::cpu::ops::depth::Expectation;
use engine::cpu::ops::head::{Decoder, regress};
use engine::cpu::ops::pixel_statistics::pixel_statistics;
use engine::cpu::ops::pointwise::{concat, gate, gate_planes};
use engine::cpu::ops::reduce::plane_mean;
use engine::cpu::ops::resample::upsample;
use engine::cpu::ops::sweep::{self, Search, Sweep, cost_volume};
use engine::cpu::ops::warp::warp;
use engine::cpu::simd::Level;
use engine::cpu::weights;
use engine::net::layers;
use engine::net::outline::Layer;
use engine::net::parameters::{Parameter, Parameters};
use engine::net::tensor::{Shape, Tensor};
use engine::scene::camera::{PlaneSweep, Sampling};

use crate::goldens::{self, Golden, generate, worst};
use crate::reference::{U, Value, Volume};
use crate::reference_sweep::Gate;
use crate::regression::{EXP_ERROR, hypotheses, passed_through};
use crate::sweeps::voxel_gate;
use crate::{shape, tensor, volume};

/// The blocks' tolerance is that of the network (tests/network.rs): both sides round in f32.
const ATOL: f64 = 1e-4;
const RTOL: f64 = 1e-3;

fn golden_tensor(golden: &Golden, name: &str) -> Tensor {
    let (size, _) = golden.get(name);
    let mut full = [1; 4];
    full[4 - size.len()..].copy_from_slice(size);
    tensor(full, &golden.floats(name))
}

#[test]
fn resampling_matches_the_reference_network() {
    let golden = Golden::read("blocks.safetensors");
    for (name, factor) in [("upsample2_2d", 2), ("upsample2_3d", 2), ("upsample2_one", 2), ("upsample8_3d", 8)] {
        let x = golden_tensor(&golden, &format!("{name}/input"));
        let expected = golden_tensor(&golden, &format!("{name}/output"));
        for level in Level::available() {
            let y = upsample(&Cpu::with_level(level), &x, factor, expected.shape).unwrap();
            // Three interpolations on each side, each with three roundings of values below 4.
            let error = worst(&y.data, golden.values(&format!("{name}/output")), 18.0 * U * 4.0, 0.0);
            assert!(error <= 1.0, "{name} on {}: {error:.2} of the tolerance", level.name());
        }
    }
    for name in ["warp", "warp_behind"] {
        let x = golden_tensor(&golden, &format!("{name}/input"));
        let (h, w) = (x.shape.h, x.shape.w);
        let camera = |i: usize| {
            let (k, e) = (golden.values(&format!("{name}/k")), golden.values(&format!("{name}/e")));
            goldens::camera(&k[9 * i..][..9], &e[16 * i..][..16])
        };
        let cameras = PlaneSweep::new(&camera(0), &camera(1));
        let depths = golden.floats(&format!("{name}/depths"));
        // 12 channels of 32.
        let mut padded = Tensor::zeros(x.shape.with_channels(32));
        for (to, from) in padded.data.chunks_exact_mut(32).zip(x.data.chunks_exact(12)) {
            to[..12].copy_from_slice(from);
        }
        for level in Level::available() {
            let y = warp(&Cpu::with_level(level), &padded, &cameras, &depths, (h, w)).unwrap();
            let found: Vec<f32> = y.data.chunks_exact(32).flat_map(|c| &c[..12]).copied().collect();
            assert!(y.data.chunks_exact(32).all(|c| c[12..].iter().all(|&v| v == 0.0)));
            let error = worst(&found, golden.values(&format!("{name}/output")), ATOL, RTOL);
            assert!(error <= 1.0, "{name} on {}: {error:.2} of the tolerance", level.name());
        }
    }
}

/// The golden gates are given difference volumes. With a reference of zeros and signed differences a source's features
/// are its differences; the planes of the volume lie side by side in the source, and the sweep's planes are chosen so
/// that each sees its own.
#[test]
fn gates_match_the_reference_network() {
    let golden = Golden::read("blocks.safetensors");
    let side_by_side = |name: &str| {
        let f = golden_tensor(&golden, name);
        let Shape { d, h, w, .. } = f.shape;
        let planes = volume(&f);
        let source = Volume::from_fn([1, h, d * w, 32], |[_, y, x, c]| planes.at([x / w, y, x % w, c]));
        let values: Vec<f32> = source.data.iter().map(|v| v.v as f32).collect();
        // u = x - w + b / depth with b / depth = w, 2 w, 3 w
        let a = [[1., 0., -(w as f32)], [0., 1., 0.], [0., 0., 1.]];
        let homography = PlaneSweep { a, b: [(6 * w) as f32, 0., 0.] };
        (tensor(source.shape, &values), homography, Tensor::zeros(shape([1, h, w, 32])), f)
    };
    let depths = [6.0, 3.0, 2.0];
    let weights = |name: &str, size: &[usize]| generate(name, size, 1);
    let gate = voxel_gate(&Gate {
        reduce: weights("voxel_gate.reduce.weight", &[8, 32, 1, 1, 1]),
        reduce_bias: weights("voxel_gate.reduce.bias", &[8]),
        weight: weights("voxel_gate.weight.weight", &[1, 8, 1, 1, 1]),
        weight_bias: weights("voxel_gate.weight.bias", &[1])[0],
    });
    for level in Level::available() {
        let cpu = Cpu::with_level(level);
        let (source, homography, reference, f) = side_by_side("voxel_gate/input");
        let sources = [(&source, homography)];
        let aggregation = sweep::Aggregation::Voxel(&gate);
        let voxel = Sweep {
            reference: &reference,
            sources: &sources,
            search: Search::Planes(&depths),
            aggregation,
            squared: false,
        };
        let cost = cost_volume(&cpu, &voxel).unwrap();
        let gates = golden.values("voxel_gate/output");
        let expected: Vec<f64> =
            f.data.iter().enumerate().map(|(i, &f)| (1.0 + gates[i / 32]) * f64::from(f)).collect();
        assert!(gates.iter().any(|&g| g > 0.1));
        let error = worst(&cost.data, &expected, ATOL, RTOL);
        assert!(error <= 1.0, "voxel gate on {}: {error:.2} of the tolerance", level.name());

        let (source, homography, reference, _) = side_by_side("pixel_gate/input");
        let sources = [(&source, homography)];
        let aggregation = sweep::Aggregation::Mean;
        let pixel = Sweep {
            reference: &reference,
            sources: &sources,
            search: Search::Planes(&depths),
            aggregation,
            squared: false,
        };
        let mut x = pixel_statistics(&cpu, &pixel, 0).unwrap();
        for (layer, channels) in [("conv1", (2, 8)), ("conv2", (8, 8)), ("weight", (8, 1))] {
            let layer = layers::Conv::d2(format!("pixel_gate.{layer}"), channels, 3).relu();
            x = biased(&layer).apply(&cpu, x).unwrap();
        }
        let expected = golden.values("pixel_gate/output");
        assert!(expected.iter().any(|&g| g > 0.1));
        let error = worst(&x.data, expected, ATOL, RTOL);
        assert!(error <= 1.0, "pixel gate on {}: {error:.2} of the tolerance", level.name());
    }
}

/// A layer's generated tensors.
fn generated_tensors(layer: &Layer) -> Parameters {
    let make = |(name, shape): (String, Vec<usize>)| {
        let values = generate(&name, &shape, 1);
        Parameter::new(name, shape, &values).unwrap()
    };
    let list = layer.tensors().into_iter().map(make).collect();
    Parameters { config: goldens::config("voxel_squared_skip"), list }
}

fn biased(layer: &layers::Conv) -> Conv {
    weights::conv(&generated_tensors(&Layer::Conv(layer.clone())), layer).unwrap()
}

fn normed(layer: &layers::Conv) -> Conv {
    weights::conv_bn(&generated_tensors(&Layer::ConvBn(layer.clone())), layer, "generated").unwrap()
}

#[test]
fn blocks_match_the_reference_network() {
    let golden = Golden::read("blocks.safetensors");
    let volume = |name: String, channels, side| layers::Conv::d3(name, channels, side);
    for level in Level::available() {
        let cpu = &Cpu::with_level(level);
        let input = |name: &str| golden_tensor(&golden, name);
        let check = |name: &str, y: Tensor| {
            let error = worst(&y.data, golden.values(&format!("{name}/output")), ATOL, RTOL);
            assert!(error <= 1.0, "{name} on {}: {error:.2} of the tolerance", level.name());
        };
        for name in ["separable", "separable_thin"] {
            let layer = |what: &str| format!("{name}.{what}");
            let x = input(&format!("{name}/input"));
            let x = upsample(cpu, &x, 1, layers::Kernel::d3(3, 2).evened(x.shape)).unwrap();
            let depthwise = |what: &str, channels, stride| {
                let layer = layers::Depthwise { name: layer(what), channels, stride };
                weights::depthwise(&generated_tensors(&Layer::Depthwise(layer.clone())), &layer).unwrap()
            };
            let y = depthwise("depthwise1", 16, 2).forward(cpu, &x).unwrap();
            let y = normed(&volume(layer("pointwise1"), (16, 32), 1).relu()).apply(cpu, y).unwrap();
            let y = depthwise("depthwise2", 32, 1).forward(cpu, &y).unwrap();
            let shortcut = normed(&volume(layer("shortcut"), (16, 32), 1).strided()).apply(cpu, x).unwrap();
            let last = normed(&volume(layer("pointwise2"), (32, 32), 1).relu());
            check(name, last.forward(cpu, &y, Some(&shortcut)).unwrap());
        }
        let x = input("refinement/input");
        let mut x = normed(&volume("refinement.conv".into(), (96, 64), 3).relu()).apply(cpu, x).unwrap();
        let attention = normed(&volume("refinement.attention".into(), (64, 64), 1)).forward(cpu, &x, None).unwrap();
        gate(&mut x, &attention).unwrap();
        check("refinement", x);
        let both = concat(cpu, &input("fusion/spatial"), &input("fusion/context")).unwrap();
        let mut x = normed(&volume("fusion.merge".into(), (128, 64), 1).relu()).apply(cpu, both).unwrap();
        let y = normed(&volume("fusion.attention1".into(), (64, 64), 1)).apply(cpu, plane_mean(&x)).unwrap();
        let last = biased(&volume("fusion.attention2".into(), (64, 64), 1));
        gate_planes(&mut x, &last.apply(cpu, y).unwrap()).unwrap();
        check("fusion", x);
    }
}

/// Confidence of golden probabilities, whose logarithms are logits.
#[test]
fn confidence_matches_the_reference_network() {
    let golden = Golden::read("blocks.safetensors");
    for name in ["confidence_1_1", "confidence_2_3", "confidence_3_3", "confidence_21_3", "confidence_21_30"] {
        let p = golden_tensor(&golden, &format!("{name}/probability"));
        // The last axis of a probability volume is the width.
        let p = Tensor { shape: Shape { d: p.shape.h, h: p.shape.w, w: p.shape.c, c: 1 }, data: p.data };
        let logits = volume(&p).map(|p| Value::exact(f64::from(p.v.max(1e-35).ln() as f32)));
        let (half, skip, conv) = passed_through(&logits);
        let d = p.shape.d;
        for level in Level::available() {
            let expectation = Expectation::new(&hypotheses(d, Sampling::Linear));
            let decoder = Decoder::Skip(&half, &skip, &conv);
            let found = regress(&Cpu::with_level(level), &decoder, &expectation, false).unwrap().confidence;
            let pixels = p.shape.h * p.shape.w;
            for (i, &expected) in golden.values(&format!("{name}/output")).iter().enumerate() {
                let index: f64 = (0..d).map(|k| k as f64 * f64::from(p.data[k * pixels + i])).sum();
                // At a whole index rounding decides which four are added up.
                let window = |at: f64| -> f64 {
                    let at = at.max(0.0) as usize;
                    let all = at.saturating_sub(1)..(at + 3).min(d);
                    all.map(|k| f64::from(p.data[k * pixels + i])).sum()
                };
                let near = [index - 1e-4, index + 1e-4].map(window);
                assert!(near.iter().any(|n| (n - expected).abs() < 1e-5), "{name}: pixel {i} of the golden");
                // Logarithms down to -81 are rounded to 81 U, and so are their exponentials, relative.
                let allowed = if near[0] == near[1] { vec![expected] } else { near.to_vec() };
                let c = f64::from(found.data[i]);
                assert!(
                    allowed.iter().any(|a| (c - a).abs() <= 170.0 * U + EXP_ERROR),
                    "{name} on {}: pixel {i} = {c}, expected {expected}",
                    level.name()
                );
            }
        }
    }
}
