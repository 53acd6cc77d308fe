//! The narrow stages' own ops: convex upsampling and its gradient, and the losses, against their definitions in f64;
//! gradients by central differences of these.

use engine::cpu::device::Cpu;
use engine::cpu::ops::convex::{upsample_convex, upsample_convex_backward};
use engine::cpu::ops::narrow::{Around, NarrowLoss, refined};
use engine::files::map::Map;
use engine::net::stage::{CONVEX, Spacing};
use engine::net::tensor::{Shape, Tensor};

use super::Random;

/// Step of the differences: the functions are smooth on the scale of 1, and f64 leaves 1e-10 of it.
const STEP: f64 = 1e-5;

fn tensor(shape: Shape, values: &[f32]) -> Tensor {
    Tensor::from_slice(shape, values).unwrap()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|v| (v - top).exp()).collect();
    let total: f64 = e.iter().sum();
    e.iter().map(|e| e / total).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Fine pixel (y, x) by the definition.
fn fine(map: &[f64], weights: &[f64], (h, w): (usize, usize), (y, x): (usize, usize)) -> f64 {
    let (row, column, part) = (y / 2, x / 2, 2 * (y % 2) + x % 2);
    let p = softmax(&weights[(row * w + column) * CONVEX + 9 * part..][..9]);
    let at = |t: usize| {
        let r = (row + t / 3).saturating_sub(1).min(h - 1);
        let c = (column + t % 3).saturating_sub(1).min(w - 1);
        map[r * w + c]
    };
    (0..9).map(|t| p[t] * at(t)).sum()
}

/// Means of nine values near 1 with weights that sum to 1: some twenty roundings.
#[test]
fn convex_upsampling() {
    let cpu = Cpu::new();
    for (h, w) in [(1, 1), (1, 5), (4, 3), (7, 9)] {
        let mut rng = Random::new((h * 10 + w) as u64);
        let map: Vec<f32> = rng.values(h * w).iter().map(|v| 1.0 + 0.3 * v).collect();
        let weights: Vec<f32> = rng.values(h * w * CONVEX).iter().map(|v| 3.0 * v).collect();
        let given = rng.values(4 * h * w);
        let x = tensor(Shape::plane(h, w, 1), &map);
        let k = tensor(Shape::plane(h, w, CONVEX), &weights);
        let y = upsample_convex(&cpu, &x, &k).unwrap();
        let (map, mut weights) = (wide(&map), wide(&weights));
        for (i, &found) in y.data.iter().enumerate() {
            let expected = fine(&map, &weights, (h, w), (i / (2 * w), i % (2 * w)));
            assert!((f64::from(found) - expected).abs() <= 2e-6, "{h} x {w}, {i}: {found} for {expected}");
        }
        let dy = tensor(Shape::plane(2 * h, 2 * w, 1), &given);
        let dw = upsample_convex_backward(&cpu, &x, &k, &dy).unwrap();
        let sum = |weights: &[f64]| -> f64 {
            let pixels = (0..4 * h * w).map(|i| (i, fine(&map, weights, (h, w), (i / (2 * w), i % (2 * w)))));
            pixels.map(|(i, v)| f64::from(given[i]) * v).sum()
        };
        for i in (0..weights.len()).step_by(7) {
            let own = weights[i];
            weights[i] = own + STEP;
            let above = sum(&weights);
            weights[i] = own - STEP;
            let below = sum(&weights);
            weights[i] = own;
            let expected = (above - below) / (2.0 * STEP);
            let found = f64::from(dw.data[i]);
            assert!((found - expected).abs() <= 2e-6, "{h} x {w}, weight {i}: {found} for {expected}");
        }
    }
}

/// The loss by the definition in `cpu::ops::narrow`.
fn loss(weights: NarrowLoss, around: &Around, logits: &[f64], guess: &[f64], truth: &[f32]) -> f64 {
    let (n, k) = (guess.len(), around.offsets.len());
    let (first, last) = (f64::from(around.offsets[0]), f64::from(around.offsets[k - 1]));
    let (mut sums, mut counts) = ([0.0; 3], [0.0f64; 2]);
    for i in 0..n {
        if !(truth[i] > 0.0 && truth[i].is_finite()) {
            continue;
        }
        // The spacing of the guess as it is: it is not differentiated.
        let step = f64::from(around.spacing.least);
        let t = (1.0 / f64::from(truth[i]) - guess[i]) / step;
        sums[2] += t.abs().ln_1p();
        counts[1] += 1.0;
        if !(first..=last).contains(&t) {
            continue;
        }
        counts[0] += 1.0;
        let p = softmax(&(0..k).map(|j| logits[j * n + i]).collect::<Vec<_>>());
        let mean: f64 = p.iter().zip(&around.offsets).map(|(p, &o)| p * f64::from(o)).sum();
        sums[0] += (mean - t).abs();
        let low = ((t - first) as usize).min(k - 2);
        let part = t - first - low as f64;
        sums[1] -= (1.0 - part) * p[low].ln() + part * p[low + 1].ln();
    }
    let [l1, entropy] = [sums[0], sums[1]].map(|s| s / counts[0].max(1.0));
    f64::from(weights.l1) * l1
        + f64::from(weights.cross_entropy) * entropy
        + f64::from(weights.guess) * sums[2] / counts[1].max(1.0)
}

/// Losses of order one: places lose 1e-7 of 1 / depth over a spacing of 1e-2, so 1e-5, and so do gradients (in the
/// guess they are a hundred times as large, by the spacing).
#[test]
fn narrow_losses() {
    let cpu = Cpu::new();
    for (k, h, w) in [(4, 1, 1), (4, 5, 7), (8, 3, 9), (8, 11, 13)] {
        let mut rng = Random::new((k * 100 + h) as u64);
        let n = h * w;
        let offsets: Vec<f32> = (0..k).map(|j| j as f32 - 0.5 * (k as f32 - 1.0)).collect();
        let around = Around { offsets, spacing: Spacing { least: 0.01, share: 0.0 } };
        let guess: Vec<f32> = rng.values(n).iter().map(|v| 1.0 + 0.3 * v).collect();
        let logits: Vec<f32> = rng.values(k * n).iter().map(|v| 3.0 * v).collect();
        // Mostly within reach, some beyond, some without truth, some where nothing is.
        let place = |v: f32| v * 0.5 * (k as f32 + 1.0);
        let mut truth: Vec<f32> = rng.values(n).iter().zip(&guess).map(|(&v, g)| 1.0 / (g + 0.01 * place(v))).collect();
        for (i, t) in truth.iter_mut().enumerate().skip(1) {
            *t = if i % 5 == 0 {
                0.0
            } else if i % 7 == 0 {
                -1.0
            } else {
                *t
            };
        }
        let weights = NarrowLoss { l1: 0.7, cross_entropy: 0.3, guess: 0.5 };
        let shape = Shape { d: k, h, w, c: 1 };
        let (x, g) = (tensor(shape, &logits), tensor(Shape::plane(h, w, 1), &guess));
        let found = weights.apply(&cpu, &around, &x, &g, &Map { width: w, height: h, data: truth.clone() }).unwrap();
        let (logits, guess) = (wide(&logits), wide(&guess));
        let expected = loss(weights, &around, &logits, &guess, &truth);
        assert!((found.loss - expected).abs() <= 1e-4 * (1.0 + expected), "{k} {n}: {} for {expected}", found.loss);
        let differences = |values: &[f64], of: &dyn Fn(&[f64]) -> f64, step: f64| -> Vec<f64> {
            let mut values = values.to_vec();
            let mut found = Vec::new();
            for i in 0..values.len() {
                let own = values[i];
                values[i] = own + step;
                let above = of(&values);
                values[i] = own - step;
                let below = of(&values);
                values[i] = own;
                found.push((above - below) / (2.0 * step));
            }
            found
        };
        let of_logits = differences(&logits, &|x| loss(weights, &around, x, &guess, &truth), STEP);
        for (i, (&a, b)) in found.logits.data.iter().zip(&of_logits).enumerate() {
            assert!((f64::from(a) - b).abs() <= 1e-5, "{k} {n}, logit {i}: {a} for {b}");
        }
        // In the guess flows its own loss alone.
        let alone = NarrowLoss { l1: 0.0, cross_entropy: 0.0, ..weights };
        let of_guess = differences(&guess, &|g| loss(alone, &around, &logits, g, &truth), 1e-8);
        for (i, (&a, b)) in found.guess.data.iter().zip(&of_guess).enumerate() {
            assert!((f64::from(a) - b).abs() <= 1e-3 * (1.0 + b.abs()), "{k} {n}, guess {i}: {a} for {b}");
        }
        // What is found is the guess and the expected hypothesis.
        let rho = refined(&cpu, &around, &x, &g).unwrap();
        for (i, &rho) in rho.data.iter().enumerate() {
            let p = softmax(&(0..k).map(|j| logits[j * n + i]).collect::<Vec<_>>());
            let mean: f64 = p.iter().zip(&around.offsets).map(|(p, &o)| p * f64::from(o)).sum();
            let expected = guess[i] + 0.01 * mean;
            assert!((f64::from(rho) - expected).abs() <= 1e-6, "{k} {n}, pixel {i}: {rho} for {expected}");
        }
    }
}

/// Shapes that do not fit are refused by name.
#[test]
fn other_shapes_are_refused() {
    let cpu = Cpu::new();
    let zeros = |d, h, w, c| Tensor::zeros(Shape { d, h, w, c });
    let text = upsample_convex(&cpu, &zeros(1, 3, 4, 1), &zeros(1, 3, 4, 35)).err().unwrap().to_string();
    assert_eq!(text, "convex upsampling: weights [D 1, H 3, W 4, C 35], expected [D 1, H 3, W 4, C 36]");
    let around = Around { offsets: vec![-0.5, 0.5], spacing: Spacing { least: 1.0, share: 0.0 } };
    let text = refined(&cpu, &around, &zeros(3, 3, 4, 1), &zeros(1, 3, 4, 1)).err().unwrap().to_string();
    assert_eq!(text, "narrow stage: logits [D 3, H 3, W 4, C 1] for 2 hypotheses; at most 16");
}
