//! The depth losses against central differences of plain f64 loops, with the bounds of the cost volume's.

use engine::cpu::device::Cpu;
use engine::cpu::ops::depth::Expectation;
use engine::cpu::ops::depth_backward::DepthLoss;
use engine::files::map::Map;
use engine::net::tensor::{Shape, Tensor};
use engine::scene::camera::{DepthRange, Hypotheses, Sampling};

use crate::volume::{MARGIN, expect_gradient, tensor, wide};
use crate::{Random, devices, on_any_number_of_threads};

/// Both losses in f64: [L1, cross-entropy], and the smallest |depth - truth|.
fn plain_losses(logits: &[f64], depths: &[f64], inverse: bool, truth: &[f32]) -> ([f64; 2], f64) {
    let (d, n) = (depths.len(), truth.len());
    let value = |z: f64| if inverse { 1.0 / z } else { z };
    let interval = (depths[d - 1] - depths[0]) / (d - 1) as f64;
    let (mut sums, mut valid, mut margin) = ([0.0; 2], 0, f64::INFINITY);
    for i in (0..n).filter(|&i| truth[i] > 0.0 && truth[i] < f32::INFINITY) {
        let top = (0..d).map(|p| logits[p * n + i]).fold(f64::NEG_INFINITY, f64::max);
        let e: Vec<f64> = (0..d).map(|p| (logits[p * n + i] - top).exp()).collect();
        let total: f64 = e.iter().sum();
        let mean = (0..d).map(|p| e[p] / total * value(depths[p])).sum::<f64>();
        let t = f64::from(truth[i]);
        let off = (value(mean) - t).abs();
        margin = margin.min(off / interval);
        sums[0] += off / interval;
        // The index of the truth, linear in the value that is evenly spaced.
        let first = value(depths[0]);
        let index = (value(t) - first) / (value(depths[d - 1]) - first) * (d - 1) as f64;
        let index = index.clamp(0.0, (d - 1) as f64);
        let low = (index as usize).min(d - 2);
        let part = index - low as f64;
        let log = |p: usize| logits[p * n + i] - top - total.ln();
        sums[1] -= (1.0 - part) * log(low) + part * log(low + 1);
        valid += 1;
    }
    (sums.map(|s| s / f64::from(valid)), margin)
}

#[test]
fn depth_losses() {
    for [d, h, w] in [[2, 1, 1], [5, 3, 7], [3, 4, 4], [17, 3, 43], [96, 2, 9]] {
        for (sampling, inverse) in [(Sampling::Linear, false), (Sampling::Inverse, true)] {
            let hypotheses = Hypotheses::new(DepthRange { near: 2.0, far: 9.0 }, d, sampling);
            let expectation = Expectation::new(&hypotheses);
            let shape = Shape { d, h, w, c: 1 };
            let mut rng = Random::new(d as u64);
            let logits: Vec<f64> = wide(rng.values(shape.len())).iter().map(|v| v * 4.0).collect();
            let logits = wide(logits.iter().map(|&v| v as f32).collect());
            let mut truth = Map { width: w, height: h, data: vec![0.0; h * w] };
            for (i, t) in truth.data.iter_mut().enumerate() {
                // Before, within and beyond the planes; on one; and none in three ways.
                *t = match i % 11 {
                    3 => 0.0,
                    5 => f32::NAN,
                    7 => f32::INFINITY,
                    9 => hypotheses.depths[d / 2] as f32,
                    _ => 5.5 + 4.5 * rng.value(),
                };
            }
            let (truths, margin) = plain_losses(&logits, &hypotheses.depths, inverse, &truth.data);
            assert!(margin > MARGIN, "a truth lies on the expected depth");
            for (l1, cross_entropy) in [(1.0, 0.0), (0.0, 1.0), (0.3, 1.7)] {
                for cpu in devices(shape.len()) {
                    let name = format!("{shape}, {sampling:?}, {l1} L1 + {cross_entropy} on {}", cpu.level().name());
                    let (values, valid, found) = on_any_number_of_threads(&name, || {
                        let loss = DepthLoss { l1, cross_entropy };
                        let x = loss.apply(&cpu, &expectation, &tensor(shape, &logits), &truth).unwrap();
                        ([x.loss, x.l1, x.cross_entropy], x.valid, x.gradient.data.to_vec())
                    });
                    let sum = |t: [f64; 2]| f64::from(l1) * t[0] + f64::from(cross_entropy) * t[1];
                    for (found, truth) in values.iter().zip([sum(truths), truths[0], truths[1]]) {
                        // An f32 depth in a range of 7: 1e-6 of it or so.
                        assert!((found - truth).abs() <= 1e-5 * truth.abs(), "{name}: {found} against {truth}");
                    }
                    let usable = truth.data.iter().filter(|&&t| t > 0.0 && t.is_finite()).count();
                    assert_eq!(valid, usable, "{name}");
                    for (i, &g) in found.iter().enumerate() {
                        let t = truth.data[i % (h * w)];
                        assert!(g == 0.0 || t > 0.0 && t.is_finite(), "{name}: gradient without truth");
                    }
                    // Means over pixels: scaled up, so that tiny gradients are not compared with nothing.
                    let scale = valid as f64;
                    let found: Vec<f32> = found.iter().map(|g| g * scale as f32).collect();
                    expect_gradient(&name, &logits, &found, 40, &|x| {
                        scale * sum(plain_losses(x, &hypotheses.depths, inverse, &truth.data).0)
                    });
                }
            }
        }
    }
}

/// No truth at all, the expected depth, and inputs that do not fit.
#[test]
fn depth_losses_at_the_edge() {
    let hypotheses = Hypotheses::new(DepthRange { near: 2.0, far: 9.0 }, 4, Sampling::Linear);
    let (cpu, expectation) = (Cpu::new(), Expectation::new(&hypotheses));
    let loss = DepthLoss { l1: 1.0, cross_entropy: 1.0 };
    let mut logits = Tensor::zeros(Shape { d: 4, h: 3, w: 7, c: 1 });
    let nothing = loss.apply(&cpu, &expectation, &logits, &Map::filled(7, 3, 0.0)).unwrap();
    assert_eq!((nothing.loss, nothing.valid), (0.0, 0));
    assert!(nothing.gradient.data.iter().all(|&g| g == 0.0));
    assert!(nothing.depth.data.iter().all(|&d| (d - 5.5).abs() < 1e-5), "the mean of the planes");
    // Far beyond what exp can hold.
    for (i, l) in logits.data.iter_mut().enumerate() {
        *l = if i / 21 == 1 { 3e4 } else { -3e4 };
    }
    let sure = loss.apply(&cpu, &expectation, &logits, &Map::filled(7, 3, 9.0)).unwrap();
    let second = hypotheses.depths[1];
    assert!(sure.depth.data.iter().all(|&d| (f64::from(d) - second).abs() < 1e-5));
    assert!((sure.l1 - 2.0).abs() < 1e-5 && (sure.cross_entropy - 6e4).abs() < 1.0, "{}", sure.cross_entropy);
    assert!(sure.gradient.data.iter().all(|g| g.is_finite()));
    let refused = |logits: Shape, truth: Map, expectation: &Expectation| {
        loss.apply(&cpu, expectation, &Tensor::zeros(logits), &truth).err().unwrap().to_string()
    };
    let shape = logits.shape;
    let map = Map::filled(7, 3, 1.0);
    assert!(refused(Shape { d: 5, ..shape }, map.clone(), &expectation).contains("for 4 hypotheses"));
    assert!(refused(shape, Map::filled(6, 3, 1.0), &expectation).contains("truth 6 x 3 for 7 x 3 pixels"));
    let one = Hypotheses { depths: vec![1.0], sampling: Sampling::Linear, expected: None };
    assert!(refused(Shape { d: 1, ..shape }, map.clone(), &Expectation::new(&one)).contains("at least 2"));
    let mixed = Hypotheses { depths: vec![1.0, 3.0, 2.0, 4.0], sampling: Sampling::Linear, expected: None };
    assert!(refused(shape, map, &Expectation::new(&mixed)).contains("not in order"));
}
