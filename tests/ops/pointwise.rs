//! Resampling, element-by-element operations, means.

use engine::cpu::ops::pointwise::{IMAGE_MEAN, IMAGE_STD, add_vector, concat, gate, gate_planes, normalize, sigmoid};
use engine::cpu::ops::reduce::{plane_mean, volume_mean};
use engine::cpu::ops::resample::{upsample, upsample_add};
use engine::scene::photo::Photo;

use crate::reference::{self, Random, U, Value, Volume};
use crate::{Report, random, shape, tensor, volume};

#[test]
fn upsampling() {
    let mut report = Report::default();
    for (name, factor, from, to) in [
        ("one sample", 2, [1, 1, 1, 8], [1, 1, 1]),
        ("one sample spread", 2, [1, 1, 1, 6], [2, 2, 2]),
        ("one sample spread far", 8, [1, 1, 1, 1], [8, 5, 7]),
        ("odd extent", 2, [3, 4, 7, 16], [5, 7, 13]),
        ("even extent", 2, [3, 4, 7, 32], [6, 8, 14]),
        ("image", 2, [1, 5, 9, 48], [1, 9, 17]),
        ("odd channels", 2, [2, 3, 5, 13], [3, 6, 9]),
        ("eighth", 8, [3, 2, 3, 6], [21, 13, 17]),
        ("eighth of one channel", 8, [2, 3, 5, 1], [16, 17, 33]),
        ("beyond the last sample", 2, [2, 2, 2, 8], [5, 7, 9]),
        ("less than all", 2, [4, 5, 6, 8], [1, 2, 3]),
    ] {
        let mut rng = Random::new(name);
        let [d, h, w] = to;
        let x = random(&mut rng, from);
        let skip = random(&mut rng, [d, h, w, from[3]]);
        let truth = reference::upsample(&volume(&x), factor, to);
        let sum = truth.zip(&volume(&skip), |a, b| a + b);
        report.check(&format!("upsample {name}"), &[&x], &[truth], &|cpu| {
            vec![upsample(cpu, &x, factor, shape([d, h, w, 99])).unwrap()]
        });
        report.check(&format!("upsample_add {name}"), &[&x, &skip], &[sum], &|cpu| {
            vec![upsample_add(cpu, &x, factor, skip.clone()).unwrap()]
        });
    }
    report.finish(22);
}

#[test]
fn gates_sums_and_concatenations() {
    let mut report = Report::default();
    // The largest is cut into several tasks.
    for size in [[1, 1, 1, 8], [2, 3, 5, 7], [3, 1, 13, 64], [1, 17, 31, 33], [5, 13, 17, 64]] {
        let mut rng = Random::new(&format!("{size:?}"));
        let [d, _, _, c] = size;
        let x = random(&mut rng, size);
        let mut wide = |size: [usize; 4]| {
            let values: Vec<f32> = (0..size.iter().product()).map(|_| rng.within(-12.0, 12.0)).collect();
            tensor(size, &values)
        };
        let (all, planes, vector) = (wide(size), wide([d, 1, 1, c]), wide([1, 1, 1, c]));
        let (vx, vp) = (volume(&x), volume(&planes));
        let gated = vx.zip(&volume(&all), |x, g| x * reference::sigmoid(g));
        report.check(&format!("gate {size:?}"), &[&x, &all], &[gated], &|_| {
            let mut y = x.clone();
            gate(&mut y, &all).unwrap();
            vec![y]
        });
        let truth = Volume::from_fn(size, |[d, h, w, c]| {
            let factor = Value::exact(1.0) + reference::sigmoid(vp.at([d, 0, 0, c]));
            vx.at([d, h, w, c]) * factor
        });
        report.check(&format!("gate_planes {size:?}"), &[&x, &planes], &[truth], &|_| {
            let mut y = x.clone();
            gate_planes(&mut y, &planes).unwrap();
            vec![y]
        });
        let truth = Volume::from_fn(size, |[d, h, w, c]| vx.at([d, h, w, c]) + Value::exact(f64::from(vector.data[c])));
        report.check(&format!("add_vector {size:?}"), &[&x, &vector], &[truth], &|_| {
            let mut y = x.clone();
            add_vector(&mut y, &vector).unwrap();
            vec![y]
        });
        let other = random(&mut rng, [d, size[1], size[2], c + 3]);
        let vo = volume(&other);
        let truth = Volume::from_fn([d, size[1], size[2], 2 * c + 3], |[d, h, w, k]| match k {
            k if k < c => vx.at([d, h, w, k]),
            k => vo.at([d, h, w, k - c]),
        });
        report
            .check(&format!("concat {size:?}"), &[&x, &other], &[truth], &|cpu| vec![concat(cpu, &x, &other).unwrap()]);
        let means = [reference::plane_mean(&vx), reference::volume_mean(&vx)];
        report.check(&format!("means {size:?}"), &[&x], &means, &|_| vec![plane_mean(&x), volume_mean(&x)]);
    }
    report.finish(25);
}

#[test]
fn sigmoid_saturates_without_nan() {
    for (x, expected) in [(0.0, 0.5), (1e3, 1.0), (-1e3, 0.0), (f32::INFINITY, 1.0), (f32::NEG_INFINITY, 0.0)] {
        assert_eq!(sigmoid(x), expected, "sigmoid({x})");
    }
}

/// The sum of a million values of one sign and a large mean: an f32 sum would lose three digits.
#[test]
fn means_do_not_lose_digits() {
    let values: Vec<f32> = (0..1 << 20).map(|i| 1000.0 + (i % 7) as f32).collect();
    let exact = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
    let x = tensor([1, 1 << 10, 1 << 10, 1], &values);
    for mean in [plane_mean(&x).data[0], volume_mean(&x).data[0]] {
        assert!((f64::from(mean) - exact).abs() <= 2.0 * U * exact, "{mean} for {exact}");
    }
}

#[test]
fn normalization() {
    let mut report = Report::default();
    // The last one is cut into several tasks.
    for (width, height) in [(1, 1), (4, 8), (13, 7), (257, 131)] {
        let mut rng = Random::new(&format!("{width} x {height}"));
        let rgb: Vec<f32> = (0..width * height * 3).map(|_| rng.within(0.0, 1.0)).collect();
        let photo = Photo { width, height, rgb };
        let truth = Volume::from_fn([1, height, width, 3], |[_, y, x, c]| {
            let value = |x: f32| Value::exact(f64::from(x));
            (value(photo.rgb[(y * width + x) * 3 + c]) - value(IMAGE_MEAN[c])) / value(IMAGE_STD[c])
        });
        report.check(&format!("normalize {width} x {height}"), &[], &[truth], &|cpu| vec![normalize(cpu, &photo)]);
    }
    report.finish(4);
}
