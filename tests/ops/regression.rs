//! The exponential, softmax, expected depth and confidence, and the two decoders before them.

use engine::cpu::device::Cpu;
use engine::cpu::ops::depth::Expectation;
use engine::cpu::ops::head::{Decoder, LogitsConv, regress};
use engine::cpu::simd::{self, Isa, Kernel, Level, Vector};
use engine::net::tensor::Tensor;
use engine::scene::camera::{DepthRange, ELSEWHERE, Expected, Hypotheses, Sampling};

use crate::convolutions::D3_3;
use crate::reference::{self, Convolution, Random, Value, Volume};
use crate::{Report, in_pool, random, shape, volume};

struct ExpKernel<'a>(&'a [f32], &'a mut [f32]);

impl Kernel for ExpKernel<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<I: Isa>(self) {
        let n = I::Wide::LANES;
        for (x, y) in self.0.chunks_exact(n).zip(self.1.chunks_exact_mut(n)) {
            // SAFETY: dispatch runs this with I's instructions enabled; both chunks hold LANES values.
            unsafe { simd::exp(I::Wide::load(x.as_ptr())).store(y.as_mut_ptr()) }
        }
    }
}

fn exp(level: Level, x: &[f32]) -> Vec<f32> {
    let mut padded = x.to_vec();
    padded.resize(x.len().next_multiple_of(16), 0.0);
    let mut y = vec![0.0; padded.len()];
    // SAFETY: callers take the level from Level::available.
    unsafe { simd::dispatch(level, ExpKernel(&padded, &mut y)) }
    y.truncate(x.len());
    y
}

/// What simd::exp promises, relative.
pub const EXP_ERROR: f64 = 2e-7;

#[test]
fn exponentials() {
    let mut x: Vec<f32> = (0..=1_750_000).map(|i| -87.0 + i as f32 * 1e-4).collect();
    x.extend((0..1000).flat_map(|i| [1e-6 * i as f32, -1e-6 * i as f32]));
    x.extend([f32::MIN_POSITIVE, -f32::MIN_POSITIVE, 0.0, -0.0, 88.0, -87.0]);
    for level in Level::available() {
        let mut worst = (0.0, 0.0);
        for (&x, y) in x.iter().zip(exp(level, &x)) {
            let x = x.clamp(-87.0, 88.0);
            let truth = f64::from(x).exp();
            let error = (f64::from(y) - truth).abs() / truth;
            if error.is_nan() || error > worst.0 {
                worst = (error, x);
            }
        }
        println!("exp on {}: {:e} at {}", level.name(), worst.0, worst.1);
        assert!(worst.0 <= EXP_ERROR, "exp({}) on {}: off by {:e}", worst.1, level.name(), worst.0);
        let ends = exp(level, &[-1e9, f32::NEG_INFINITY, 1e9, f32::INFINITY, 0.0]);
        let expected = exp(level, &[-87.0, -87.0, 88.0, 88.0, 0.0]);
        assert_eq!(ends, expected, "clamped on {}", level.name());
        assert_eq!(ends[4], 1.0, "e^0 on {}", level.name());
    }
}

pub fn hypotheses(d: usize, sampling: Sampling) -> Hypotheses {
    Hypotheses::new(DepthRange { near: 425.0, far: 935.0 }, d, sampling)
}

/// regress against plain loops from `truth`, the exact logits with the bound on their errors.
fn regression(report: &mut Report, name: &str, decoder: &Decoder, truth: &Volume, sampling: Sampling) {
    regression_of(report, name, decoder, truth, &hypotheses(truth.shape[0], sampling));
}

fn regression_of(report: &mut Report, name: &str, decoder: &Decoder, truth: &Volume, hypotheses: &Hypotheses) {
    report.cases += 1;
    let ([_, h, w, _], sampling) = (truth.shape, hypotheses.sampling);
    let expectation = Expectation::new(hypotheses);
    let pixels = reference::regress(truth, &hypotheses.depths, sampling == Sampling::Inverse, EXP_ERROR);
    for level in Level::available() {
        let case = format!("{name} {sampling:?}");
        let cpu = Cpu::with_level(level);
        let found = regress(&cpu, decoder, &expectation, true).unwrap();
        report.compare(&format!("{case} logits"), level, &found.logits.unwrap(), truth);
        assert_eq!((found.depth.width, found.depth.height), (w, h));
        let unkept = regress(&cpu, decoder, &expectation, false).unwrap();
        assert!(unkept.logits.is_none());
        if unkept.depth != found.depth || unkept.confidence != found.confidence {
            report.fail(&case, level, "other maps when logits are not kept".into());
        }
        for (i, truth) in pixels.iter().enumerate() {
            let (depth, confidence) = (found.depth.data[i], found.confidence.data[i]);
            let (y, x) = (i / w, i % w);
            if !truth.depth.allows(depth) {
                let Value { v, e } = truth.depth;
                report.fail(&case, level, format!("depth[y {y}, x {x}] = {depth}, expected {v} within {e:e}"));
                break;
            }
            if !truth.confidence.iter().any(|c| c.allows(confidence)) || !(0.0..=1.0).contains(&confidence) {
                let expected = &truth.confidence;
                let what = format!("confidence[y {y}, x {x}] = {confidence}, expected {expected:?} within 0..1");
                report.fail(&case, level, what);
                break;
            }
        }
    }
}

/// The skip decoder made to pass logits through unchanged: relu(channel 0) - relu(channel 1).
pub fn passed_through(logits: &Volume) -> (Tensor, Tensor, LogitsConv) {
    let [d, h, w, _] = logits.shape;
    let mut skip = Tensor::zeros(shape([d, h, w, 8]));
    for (i, l) in logits.data.iter().enumerate() {
        skip.data[8 * i] = l.v as f32;
        skip.data[8 * i + 1] = -l.v as f32;
    }
    let mut weights = vec![0.0; 8 * 27];
    weights[13] = 1.0;
    weights[27 + 13] = -1.0;
    (Tensor::zeros(skip.shape.halved()), skip, LogitsConv::new(&weights, 0.0))
}

#[test]
fn regression_of_given_logits() {
    type Logits = fn(&mut Random, usize, usize) -> f32;
    let kinds: [(&str, Logits); 7] = [
        ("all zero", |_, _, _| 0.0),
        ("all equal", |_, _, _| -37.25),
        ("mild", |rng, _, _| rng.within(-2.0, 2.0)),
        ("steep", |rng, _, _| rng.within(-80.0, 80.0)),
        ("one peak", |_, pixel, plane| if (pixel * 7 + 3) % 21 == plane { 80.0 } else { -80.0 }),
        ("two peaks", |_, pixel, plane| if plane == 0 || plane == pixel % 21 { 80.0 } else { 0.0 }),
        ("beyond e^88", |rng, _, _| rng.within(-1e4, 1e4)),
    ];
    let mut report = Report::default();
    for (name, logit) in kinds {
        for d in [1, 2, 3, 4, 21] {
            for (h, w) in [(1, 1), (5, 7), (2, 33)] {
                let mut rng = Random::new(&format!("{name} {d}"));
                let logits = Volume::from_fn([d, h, w, 1], |[d, y, x, _]| {
                    Value::exact(f64::from(logit(&mut rng, y * w + x, d)))
                });
                let (half, skip, conv) = passed_through(&logits);
                for sampling in [Sampling::Linear, Sampling::Inverse] {
                    let case = format!("regress {name} [{d}, {h}, {w}]");
                    regression(&mut report, &case, &Decoder::Skip(&half, &skip, &conv), &logits, sampling);
                }
            }
        }
    }
    report.finish(7 * 5 * 3 * 2);
}

#[test]
fn regression_through_the_decoders() {
    let mut report = Report::default();
    for [d, h, w] in [[1, 1, 1], [2, 1, 3], [3, 5, 7], [21, 13, 17], [5, 8, 15], [4, 9, 16], [3, 7, 17], [9, 31, 33]] {
        let mut rng = Random::new(&format!("decoder [{d}, {h}, {w}]"));
        let weights = rng.values(8 * 27);
        let bias = [rng.value()];
        let skip = random(&mut rng, [d, h, w, 8]);
        let half = random(&mut rng, [d.div_ceil(2), h.div_ceil(2), w.div_ceil(2), 8]);
        let x = reference::upsample(&volume(&half), 2, [d, h, w]).zip(&volume(&skip), |a, b| (a + b).relu());
        let (kernel, stride) = D3_3;
        let conv = Convolution { channels: (8, 1), kernel, stride, weights: &weights, bias: &bias, relu: false };
        let truth = conv.apply(&x, None);
        let conv = LogitsConv::new(&weights, bias[0]);
        let coarse = random(&mut rng, [d.div_ceil(8), h.div_ceil(8), w.div_ceil(8), 1]);
        let coarse_truth = reference::upsample(&volume(&coarse), 8, [d, h, w]);
        for sampling in [Sampling::Linear, Sampling::Inverse] {
            for threads in [1, 3, 16] {
                let name = |decoder| format!("{decoder} [{d}, {h}, {w}], {threads} threads");
                let report = &mut report;
                in_pool(threads, || {
                    regression(report, &name("skip"), &Decoder::Skip(&half, &skip, &conv), &truth, sampling);
                    let decoder = Decoder::Trilinear(&coarse, shape([d, h, w, 1]));
                    regression(report, &name("trilinear"), &decoder, &coarse_truth, sampling);
                });
            }
        }
    }
    report.finish(96);
}

/// The variance over a narrow stage's hypotheses against sums in f64. An exponential is off by a few ulp, and the mean
/// by as much of the hypotheses' width, which enters squared: 1e-5 of the largest squared distance covers both.
#[test]
fn variance_of_given_logits() {
    for k in [1, 2, 4, 8] {
        let offsets: Vec<f32> = (0..k).map(|i| i as f32 - 0.5 * (k as f32 - 1.0)).collect();
        for (h, w) in [(1, 1), (5, 7), (2, 33)] {
            let mut rng = Random::new(&format!("variance {k} {w}"));
            let logits = Volume::from_fn([k, h, w, 1], |_| Value::exact(f64::from(rng.within(-9.0, 9.0))));
            let (half, skip, conv) = passed_through(&logits);
            // A narrow stage keeps its planes.
            let half = Tensor::zeros(shape([k, half.shape.h, half.shape.w, 8]));
            for level in Level::available() {
                let expectation = Expectation::with_variance(&offsets);
                let decoder = Decoder::Skip(&half, &skip, &conv);
                let found = regress(&Cpu::with_level(level), &decoder, &expectation, false).unwrap().confidence;
                for i in 0..h * w {
                    let e: Vec<f64> = (0..k).map(|p| logits.data[p * h * w + i].v.exp()).collect();
                    let total: f64 = e.iter().sum();
                    let sum = |f: &dyn Fn(f64) -> f64| -> f64 {
                        e.iter().zip(&offsets).map(|(e, &o)| e / total * f(f64::from(o))).sum()
                    };
                    let mean = sum(&|o| o);
                    let (expected, own) = (sum(&|o| (o - mean).powi(2)), f64::from(found.data[i]));
                    let allowed = 1e-5 * (k as f64).powi(2);
                    assert!((own - expected).abs() <= allowed, "{k} on {}: {own}, expected {expected}", level.name());
                }
            }
        }
    }
}

/// Where a pixel's depth is expected, other hypotheses lose [`ELSEWHERE`] of their logits, and nothing else changes.
#[test]
fn regression_with_expected_depths() {
    let mut report = Report::default();
    for d in [1, 2, 5, 21] {
        for (h, w) in [(1, 1), (5, 7), (19, 33)] {
            let mut rng = Random::new(&format!("expected {d} {h}"));
            let logits = Volume::from_fn([d, h, w, 1], |_| Value::exact(f64::from(rng.within(-9.0, 9.0))));
            let planes: Vec<[u16; 2]> = (0..h * w)
                .map(|_| {
                    let first = (rng.within(0.0, d as f64) as u16).min(d as u16 - 1);
                    [first, (first + rng.within(0.0, 4.0) as u16).min(d as u16 - 1)]
                })
                .collect();
            let weighed = Volume::from_fn([d, h, w, 1], |[d, y, x, _]| {
                let ([first, last], v) = (planes[y * w + x], logits.at([d, y, x, 0]).v as f32);
                let is_expected = (usize::from(first)..=usize::from(last)).contains(&d);
                Value::exact(f64::from(if is_expected { v } else { v + ELSEWHERE }))
            });
            let (half, skip, conv) = passed_through(&logits);
            for sampling in [Sampling::Linear, Sampling::Inverse] {
                let expected = Some(Expected { width: w, planes: planes.clone() });
                let hypotheses = Hypotheses { expected, ..hypotheses(d, sampling) };
                let decoder = Decoder::Skip(&half, &skip, &conv);
                regression_of(&mut report, &format!("expected {d}"), &decoder, &weighed, &hypotheses);
            }
        }
    }
    report.finish(4 * 3 * 2);
    let (half, skip, conv) = passed_through(&Volume::from_fn([2, 3, 4, 1], |_| Value::exact(0.0)));
    let expected = Some(Expected { width: 3, planes: vec![[0, 1]; 12] });
    let turned = Expectation::new(&Hypotheses { expected, ..hypotheses(2, Sampling::Linear) });
    let refused = regress(&Cpu::new(), &Decoder::Skip(&half, &skip, &conv), &turned, false).map(|_| ());
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("expected depths of 3 x 4"), "{text}");
}
