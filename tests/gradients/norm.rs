//! Batch norm with batch statistics against plain f64.

use engine::cpu::ops::norm;
use engine::net::layers::Activation;
use engine::net::tensor::Shape;

use super::*;

/// y in f64, [positions, C], and each channel's mean and biased variance.
fn plain(x: &[f64], c: usize, gamma: &[f64], beta: &[f64], relu: bool) -> (Vec<f64>, Vec<(f64, f64)>) {
    let n = (x.len() / c) as f64;
    let column = |i: usize| x.iter().skip(i).step_by(c);
    let statistics: Vec<(f64, f64)> = (0..c)
        .map(|i| {
            let mean = column(i).sum::<f64>() / n;
            (mean, column(i).map(|x| (x - mean).powi(2)).sum::<f64>() / n)
        })
        .collect();
    let y = x.iter().enumerate().map(|(k, x)| {
        let (i, (mean, variance)) = (k % c, statistics[k % c]);
        let y = (x - mean) / (variance + 1e-5).sqrt() * gamma[i] + beta[i];
        if relu { y.max(0.0) } else { y }
    });
    (y.collect(), statistics)
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

#[test]
fn forward_and_gradients_match_f64() {
    for (shape, relu) in [
        (Shape { d: 1, h: 1, w: 2, c: 8 }, false),
        (Shape { d: 2, h: 3, w: 5, c: 16 }, true),
        (Shape { d: 1, h: 7, w: 1, c: 3 }, true),
        (Shape { d: 1, h: 3, w: 5, c: 59 }, true), // every width of vectors, and channels beyond
        (Shape { d: 3, h: 41, w: 29, c: 8 }, true), // several blocks
        (Shape { d: 3, h: 41, w: 29, c: 8 }, false),
    ] {
        for cpu in devices(100_000) {
            let mut random = Random::new(shape.len() as u64);
            let c = shape.c;
            // Means far from zero, where a naive sum of squares would cancel.
            let mut x = random.tensor(shape);
            for (k, x) in x.data.iter_mut().enumerate() {
                *x = *x * (0.5 + (k % c) as f32 * 0.2) + 30.0 * ((k % c) as f32 - 2.0);
            }
            let gamma: Vec<f32> = random.values(c).iter().map(|v| 1.0 + 0.5 * v).collect();
            let beta = random.values(c);
            let dy = random.tensor(shape);
            let what = format!("batch norm on {shape}, relu {relu}, {}", cpu.level().name());
            let (y, statistics) = norm::forward(&cpu, &x, &gamma, &beta, Activation::relu_if(relu)).unwrap();
            let (wide, g, b) = (widen(&x.data), widen(&gamma), widen(&beta));
            let (expected, truth) = plain(&wide, c, &g, &b, relu);
            // x of up to 30 sigma c resolves to eps * 200 of a sigma; scale and shift round once each.
            let tolerance = 1e-4;
            for (k, (found, expected)) in y.data.iter().zip(&expected).enumerate() {
                assert!(
                    (f64::from(*found) - expected).abs() < tolerance,
                    "{what}: y[{k}] {found}, expected {expected}"
                );
            }
            for (i, (mean, variance)) in truth.iter().enumerate() {
                assert!((statistics.mean[i] - mean).abs() < 1e-5, "{what}: mean {i}");
                assert!((statistics.variance[i] - variance).abs() < 1e-5 * (1.0 + variance), "{what}: variance {i}");
            }
            let (dx, dgamma, dbeta) = on_any_number_of_threads(&what, || {
                let (dx, dgamma, dbeta) =
                    norm::backward(&cpu, &x, (&gamma, &beta), &statistics, Activation::relu_if(relu), &dy).unwrap();
                (dx.data.to_vec(), dgamma, dbeta)
            });
            // The loss is <y, dy>; central differences in f64, of a few elements of everything.
            let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| -> f64 {
                plain(x, c, gamma, beta, relu).0.iter().zip(dy.data.iter()).map(|(y, &d)| y * f64::from(d)).sum()
            };
            let h = 1e-6;
            let slope = |f: &dyn Fn(f64) -> f64| (f(h) - f(-h)) / (2.0 * h);
            let scale = dx.iter().fold(0.0f32, |m, v| m.max(v.abs())).max(1e-3);
            // Two positions leave x hat at +-1 and gradients that cancel to nearly zero.
            let relative = if shape.positions() == 2 { 2e-2 } else { 1e-3 };
            for k in (0..shape.len()).step_by(shape.len() / 16 + 1) {
                // At the kink of the ReLU differences mean nothing.
                if relu && expected[k].abs() < 1e-3 {
                    continue;
                }
                let numeric = slope(&|h| {
                    let mut x = wide.clone();
                    x[k] += h;
                    loss(&x, &g, &b)
                });
                let apart = (f64::from(dx[k]) - numeric).abs();
                assert!(apart <= relative * f64::from(scale), "{what}: dx[{k}] {} against {numeric}", dx[k]);
            }
            for i in 0..c {
                let numeric = slope(&|h| {
                    let mut g = g.clone();
                    g[i] += h;
                    loss(&wide, &g, &b)
                });
                let size = (shape.positions() as f64).sqrt();
                assert!((f64::from(dgamma[i]) - numeric).abs() < 1e-4 * size, "{what}: dgamma[{i}]");
                let numeric = slope(&|h| {
                    let mut b = b.clone();
                    b[i] += h;
                    loss(&wide, &g, &b)
                });
                assert!((f64::from(dbeta[i]) - numeric).abs() < 1e-4 * size, "{what}: dbeta[{i}]");
            }
        }
    }
}

#[test]
fn the_unbiased_variance_is_what_pytorch_keeps() {
    let cpu = Cpu::new();
    let x = Tensor::from_slice(Shape::plane(1, 4, 1), &[1.0, 2.0, 3.0, 6.0]).unwrap();
    let (_, statistics) = norm::forward(&cpu, &x, &[1.0], &[0.0], Activation::Linear).unwrap();
    assert_eq!((statistics.mean[0], statistics.variance[0]), (3.0, 3.5));
    assert!((statistics.unbiased_variance()[0] - 14.0 / 3.0).abs() < 1e-12);
}

#[test]
fn one_position_is_its_own_mean() {
    let cpu = Cpu::new();
    let x = Tensor::from_slice(Shape::plane(1, 1, 2), &[5.0, -7.0]).unwrap();
    let (y, _) = norm::forward(&cpu, &x, &[2.0, 2.0], &[0.5, -0.5], Activation::Linear).unwrap();
    assert_eq!(y.data.to_vec(), [0.5, -0.5]);
}
