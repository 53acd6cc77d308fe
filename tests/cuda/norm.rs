//! Batch norm with batch statistics, its gradients, and the running statistics.

use engine::cpu::device::Cpu;
use engine::cpu::ops::norm as cpu_ops;
use engine::cuda::graph::{Graph, Value};
use engine::cuda::ops::norm;
use engine::cuda::storage::Element;
use engine::net::layers::Activation;
use engine::net::tensor::Shape;

use crate::backward::{Input, difference, tensor, with_gradients};
use crate::reference::Random;
use crate::run::run;

fn cases() -> Vec<(Shape, bool)> {
    vec![
        (Shape { d: 1, h: 1, w: 1, c: 4 }, false),
        (Shape { d: 1, h: 1, w: 2, c: 8 }, false),
        (Shape { d: 2, h: 3, w: 5, c: 16 }, true),
        (Shape { d: 1, h: 7, w: 1, c: 3 }, true),
        (Shape { d: 1, h: 3, w: 5, c: 48 }, true),
        (Shape { d: 1, h: 1, w: 3, c: 259 }, true), // more channels than threads
        // Several chunks, the last of them shorter.
        (Shape { d: 3, h: 41, w: 29, c: 8 }, true),
        (Shape { d: 3, h: 41, w: 29, c: 8 }, false),
    ]
}

/// x with means far from zero, where a naive sum of squares would cancel, gamma and beta.
fn inputs(shape: Shape) -> [Input; 3] {
    let mut random = Random::new("batch norm");
    let c = shape.c;
    let x = random.values(shape.len());
    let x = x.iter().enumerate().map(|(k, x)| {
        let channel = (k % c % 7) as f32;
        x * (0.5 + 0.2 * channel) + 30.0 * (channel - 2.0)
    });
    let x = x.collect();
    let gamma = random.values(c).iter().map(|v| 1.0 + 0.5 * v).collect();
    let beta = random.values(c);
    let vector = Shape { d: 1, h: 1, w: 1, c };
    [(shape, x), (vector, gamma), (vector, beta)]
}

#[test]
fn forward_and_statistics_match_f64() {
    for (shape, relu) in cases() {
        let [x, gamma, beta] = inputs(shape);
        let c = shape.c;
        let Some(found) = run(|graph| {
            let values = [&x, &gamma, &beta].map(|(shape, _)| graph.input("in", *shape, Element::F32));
            let normed =
                norm::batch_norm(graph, "test", values[0], values[1], values[2], Activation::relu_if(relu)).unwrap();
            let given = values.into_iter().zip([&x, &gamma, &beta].map(|(_, v)| v.clone())).collect();
            (given, vec![normed.y, normed.mean, normed.variance])
        }) else {
            return;
        };
        let n = shape.positions() as f64;
        for i in 0..c {
            let column = || x.1.iter().skip(i).step_by(c).map(|&x| f64::from(x));
            let mean = column().sum::<f64>() / n;
            let variance = column().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
            // f64 values that are compared as f32: half a unit of up to 120. Deviations of at most 3.4 from the first
            // value are rounded once, their squares once more and four of them at a time three times: 4 units of 12
            // each.
            assert!((f64::from(found[1][i]) - mean).abs() < 1e-5, "{shape}: mean {i}");
            assert!(
                (f64::from(found[2][i]) - variance).abs() < 4.0 * 12.0 / f64::from(1 << 24),
                "{shape}: variance {i}"
            );
            for (k, x) in column().enumerate() {
                let y = (x - mean) / (variance + 1e-5).sqrt() * f64::from(gamma.1[i]) + f64::from(beta.1[i]);
                let y = if relu { y.max(0.0) } else { y };
                // One position has a variance of 0: its deviation, exact in f64, is a rounding of a 120th of 2^-17 in
                // f32, times 1 / sqrt(1e-5). Others: x resolves to 2^-18 of a deviation, which the variance's own
                // error doubles.
                let error = (f64::from(found[0][k * c + i]) - y).abs();
                assert!(error < 1e-4, "{shape}: y[{k}, {i}] {error}");
            }
        }
    }
}

#[test]
fn gradients_are_the_cpus() {
    for (shape, relu) in cases() {
        let [x, gamma, beta] = inputs(shape);
        let dy = Random::new("norm dy").values(shape.len());
        let op = |g: &mut Graph, v: &[Value]| {
            norm::batch_norm(g, "test", v[0], v[1], v[2], Activation::relu_if(relu)).unwrap().y
        };
        let Some((_, found)) = with_gradients(&[x.clone(), gamma.clone(), beta.clone()], &dy, op) else {
            return;
        };
        let cpu = Cpu::new();
        let (tx, tdy) = (tensor(&x), tensor(&(shape, dy)));
        let (_, statistics) = cpu_ops::forward(&cpu, &tx, &gamma.1, &beta.1, Activation::relu_if(relu)).unwrap();
        let (dx, dgamma, dbeta) =
            cpu_ops::backward(&cpu, &tx, (&gamma.1, &beta.1), &statistics, Activation::relu_if(relu), &tdy).unwrap();
        // Sums of n terms of about 1 in two orders of f32 (blocks of 1024 on the processor): within sqrt(1024) units
        // of n.
        let n = shape.positions() as f64;
        let of_sum = 32.0 * (n + 4.0) / f64::from(1 << 24);
        assert!(difference(&found[2], &dbeta) < of_sum, "{shape}: beta {}", difference(&found[2], &dbeta));
        let slack = |values: &[f32]| values.iter().fold(1.0f32, |a, v| a.max(v.abs()));
        let of_gamma = of_sum * f64::from(slack(&dgamma));
        assert!(difference(&found[1], &dgamma) < of_gamma, "{shape}: gamma {}", difference(&found[1], &dgamma));
        // dx is of the size of gamma / sigma, up to 5 (475 where a lonely position has no variance): a few units of
        // the largest.
        let of_dx = 64.0 * f64::from(slack(&dx.data)) / f64::from(1 << 24);
        assert!(difference(&found[0], &dx.data) < of_dx, "{shape}: x {}", difference(&found[0], &dx.data));
    }
}

#[test]
fn running_statistics_follow_as_on_the_cpu() {
    let shape = Shape { d: 2, h: 3, w: 5, c: 8 };
    let [x, gamma, beta] = inputs(shape);
    let vector = gamma.0;
    let mut random = Random::new("running");
    let (old_mean, old_variance) = (random.values(8), random.values(8));
    let Some(found) = run(|graph| {
        let values = [&x, &gamma, &beta].map(|(shape, _)| graph.input("in", *shape, Element::F32));
        let normed = norm::batch_norm(graph, "test", values[0], values[1], values[2], Activation::Relu).unwrap();
        // Inputs, so that both runs of the test begin with the same.
        let running = ["mean", "variance"].map(|name| graph.input(name, vector, Element::F32));
        let found = (normed.mean, normed.variance);
        norm::follow(graph, "test", found, shape.positions(), running.into(), 0.1).unwrap();
        let mut given: Vec<_> = values.into_iter().zip([&x, &gamma, &beta].map(|(_, v)| v.clone())).collect();
        given.extend(running.into_iter().zip([old_mean.clone(), old_variance.clone()]));
        (given, running.to_vec())
    }) else {
        return;
    };
    let (_, statistics) = cpu_ops::forward(&Cpu::new(), &tensor(&x), &gamma.1, &beta.1, Activation::Relu).unwrap();
    let news = [statistics.mean.clone(), statistics.unbiased_variance()];
    for ((found, old), new) in found.iter().zip([old_mean, old_variance]).zip(news) {
        for ((found, old), new) in found.iter().zip(old).zip(new) {
            let expected = f64::from(old) * 0.9 + new * 0.1;
            // One rounding to f32; the batch's statistics themselves are sums in another order.
            assert!((f64::from(*found) - expected).abs() < 1e-6 * expected.abs().max(1.0), "{found} {expected}");
        }
    }
}
