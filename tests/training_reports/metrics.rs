use engine::evaluation::depth_metrics::DepthMetrics;
use engine::files::map::Map;

use super::{Numbers, close, row};

/// Sums of some thousand f64 in another order: a relative 1e-15 a term, rounded up generously.
const SUMS: f64 = 1e-11;

/// Depth, confidence and truth of a view with everything that maps can hold. Confidences are multiples of 0.05, so
/// that pixels of one bin of confidence all have the same.
fn view(seed: u64) -> [Map; 3] {
    let mut numbers = Numbers::new(seed);
    let (width, height) = (53, 41);
    let mut maps = [0; 3].map(|_| Map::filled(width, height, 0.0));
    for i in 0..width * height {
        let truth = 400.0 + 600.0 * numbers.unit();
        let error = 10.0 * (numbers.unit() - 0.5) * numbers.unit().powi(3);
        let confidence = (20.0 * numbers.unit()).round() / 20.0;
        let odd = numbers.unit();
        maps[0].data[i] = match odd {
            o if o < 0.02 => f32::NAN,
            o if o < 0.04 => 0.0,
            o if o < 0.05 => truth as f32,
            _ => (truth + error) as f32,
        };
        maps[1].data[i] = match odd {
            o if (0.10..0.12).contains(&o) => f32::NAN,
            o if (0.12..0.14).contains(&o) => 1.5,
            o if (0.14..0.16).contains(&o) => -0.5,
            _ => confidence as f32,
        };
        maps[2].data[i] = match odd {
            o if (0.20..0.25).contains(&o) => f32::NAN,
            o if (0.25..0.30).contains(&o) => 0.0,
            o if (0.30..0.32).contains(&o) => f32::INFINITY,
            o if (0.32..0.34).contains(&o) => -5.0,
            _ => truth as f32,
        };
    }
    maps
}

/// Error in units, error in intervals, relative error (of pixels with a depth) and confidence, of pixels with a truth.
type Plain = (Option<[f64; 3]>, f64);

fn plain(views: &[([Map; 3], f64)]) -> Vec<Plain> {
    let mut pixels = Vec::new();
    for ([depth, confidence, truth], interval) in views {
        for y in 0..truth.height {
            for x in 0..truth.width {
                let (d, c, t) = (depth.at(x, y) as f64, confidence.at(x, y) as f64, truth.at(x, y) as f64);
                if t.is_finite() && t > 0.0 {
                    let error = (d - t).abs();
                    let errors = (d.is_finite() && d > 0.0).then_some([error, error / interval, error / t]);
                    pixels.push((errors, if c.is_nan() { 0.0 } else { c.clamp(0.0, 1.0) }));
                }
            }
        }
    }
    pixels
}

fn views() -> Vec<([Map; 3], f64)> {
    [(1, 2.5), (2, 1.25), (3, 0.7)].map(|(seed, interval)| (view(seed), interval)).to_vec()
}

fn measured(views: &[([Map; 3], f64)]) -> DepthMetrics {
    let mut metrics = DepthMetrics::new();
    for ([depth, confidence, truth], interval) in views {
        metrics.add(depth, confidence, truth, *interval).unwrap();
    }
    metrics
}

#[test]
fn distances_and_shares_are_those_of_plain_loops() {
    let views = views();
    let pixels = plain(&views);
    let summary = measured(&views).summary();
    let errors: Vec<[f64; 3]> = pixels.iter().filter_map(|p| p.0).collect();
    let all = pixels.len() as f64;
    assert!(errors.len() < pixels.len() && pixels.len() < 3 * 53 * 41, "the maps have holes of both kinds");
    assert_eq!(summary.pixels, pixels.len() as u64);
    assert_eq!(summary.pixels_without_depth, (pixels.len() - errors.len()) as u64);

    let mean = |which: usize| errors.iter().map(|e| e[which]).sum::<f64>() / errors.len() as f64;
    close(summary.mean_error_units, mean(0), SUMS, "mean in units");
    close(summary.mean_error_intervals, mean(1), SUMS, "mean in intervals");
    let share = |which: usize, limit: f64| errors.iter().filter(|e| e[which] < limit).count() as f64 / all;
    for (found, which, limit) in [
        (summary.within_1_unit, 0, 1.0),
        (summary.within_2_units, 0, 2.0),
        (summary.within_4_units, 0, 4.0),
        (summary.within_8_units, 0, 8.0),
        (summary.within_1_interval, 1, 1.0),
        (summary.within_3_intervals, 1, 3.0),
        (summary.within_0_2_percent, 2, 0.002),
        (summary.within_0_5_percent, 2, 0.005),
        (summary.within_1_percent, 2, 0.01),
    ] {
        assert_eq!(found, Some(share(which, limit)), "under {limit} of {which}");
    }
    let mut relative: Vec<f64> = errors.iter().map(|e| e[2]).collect();
    relative.sort_by(f64::total_cmp);
    // A bin of the histogram is 1 % wide and its middle is told.
    close(summary.median_error_rel, relative[(relative.len() - 1) / 2], 0.0051, "median");
}

#[test]
fn calibration_is_that_of_plain_loops() {
    let views = views();
    let pixels = plain(&views);
    let summary = measured(&views).summary();
    let mut expected_error = 0.0;
    assert_eq!(summary.calibration.len(), 10);
    for (i, bin) in summary.calibration.iter().enumerate() {
        let belongs = |c: f64| (c * 10.0).floor().min(9.0) as usize == i;
        let members: Vec<_> = pixels.iter().filter(|p| belongs(p.1)).collect();
        let count = members.len() as f64;
        let confidence = members.iter().map(|p| p.1).sum::<f64>() / count;
        let right = members.iter().filter(|p| p.0.is_some_and(|e| e[1] < 2.0)).count() as f64 / count;
        assert_eq!((bin.pixels, bin.right_share), (members.len() as u64, Some(right)));
        assert_eq!((bin.from_confidence, bin.to_confidence), (i as f64 / 10.0, (i + 1) as f64 / 10.0));
        close(bin.mean_confidence, confidence, SUMS, "mean confidence");
        expected_error += count * (confidence - right).abs() / pixels.len() as f64;
    }
    close(summary.calibration_error, expected_error, SUMS, "calibration error");

    let confident: Vec<_> = pixels.iter().filter(|p| p.1 > 0.8).collect();
    close(summary.confident_share, confident.len() as f64 / pixels.len() as f64, SUMS, "confident");
    let errors: Vec<f64> = confident.iter().filter_map(|p| p.0.map(|e| e[1])).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    close(summary.confident_mean_error_intervals, mean, SUMS, "mean error of the confident");
}

#[test]
fn risk_at_a_coverage_is_that_of_sorted_pixels() {
    let views = views();
    let summary = measured(&views).summary();
    // Pixels with one confidence count with their mean error, as if each order of them were as likely.
    let mut pixels: Vec<_> = plain(&views).iter().filter_map(|p| p.0.map(|e| (p.1, e[1]))).collect();
    pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mean_of = |c: f64| {
        let same: Vec<_> = pixels.iter().filter(|p| p.0 == c).collect();
        same.iter().map(|p| p.1).sum::<f64>() / same.len() as f64
    };
    let mut known = std::collections::HashMap::new();
    let errors: Vec<f64> = pixels.iter().map(|p| *known.entry(p.0.to_bits()).or_insert_with(|| mean_of(p.0))).collect();
    let n = errors.len() as f64;
    for point in &summary.risk_coverage {
        let kept = n * f64::from(point.coverage_percent) / 100.0;
        let whole = kept as usize;
        let part = kept - whole as f64;
        let sum = errors[..whole].iter().sum::<f64>() + part * errors.get(whole).copied().unwrap_or(0.0);
        close(point.mean_error_intervals, sum / kept, SUMS, "risk");
    }
    assert_eq!(summary.risk_coverage[9].mean_error_intervals, summary.mean_error_intervals);

    // The curve by the midpoint rule, 100 steps a pixel: errs by under 1e-6 of it.
    let (mut sum, mut area) = (0.0, 0.0);
    for (k, error) in errors.iter().enumerate() {
        for step in 0..100 {
            let part = (f64::from(step) + 0.5) / 100.0;
            area += (sum + part * error) / (k as f64 + part) / 100.0;
        }
        sum += error;
    }
    close(summary.area_under_risk_intervals, area / n, 1e-6, "area");
}

#[test]
fn the_curve_of_two_pixels_is_that_of_the_hand() {
    // Errors of 1 and 3 intervals of 2 units. Keeping the share s of both: risk 1 up to one half, then (1 + 3 (2s -
    // 1)) / 2s = 3 - 1/s, whose integral from 1/2 to 1 is 3/2 - ln 2.
    let mut metrics = DepthMetrics::new();
    metrics.add(&row(&[102.0, 94.0]), &row(&[0.9, 0.1]), &row(&[100.0, 100.0]), 2.0).unwrap();
    let summary = metrics.summary();
    let risk = |percent: usize| summary.risk_coverage[percent / 10 - 1].mean_error_intervals;
    for percent in [10, 20, 50] {
        close(risk(percent), 1.0, 1e-12, "risk of the better pixel");
    }
    close(risk(60), 3.0 - 1.0 / 0.6, 1e-12, "risk at 60 %");
    close(risk(100), 2.0, 1e-12, "risk of both");
    close(summary.area_under_risk_intervals, 2.0 - 2f64.ln(), 1e-12, "area");
    close(summary.confident_share, 0.5, 0.0, "confident");
    close(summary.confident_mean_error_intervals, 1.0, 1e-12, "their error");
    // The bin of 0.9 has a right pixel, that of 0.1 a wrong one; f32 has 0.1 and 0.9 to 1e-8.
    close(summary.calibration_error, 0.1, 1e-6, "calibration error");
}

#[test]
fn confidences_near_one_are_told_apart() {
    let mut metrics = DepthMetrics::new();
    let confidence = row(&[1.0 - 1e-6, 1.0, 1.0 - 1e-4, 1.0 - 1e-5]);
    metrics.add(&row(&[3.0, 1.0, 5.0, 4.0]), &confidence, &row(&[1.0; 4]), 1.0).unwrap();
    let risk: Vec<_> = metrics.summary().risk_coverage.iter().map(|p| p.mean_error_intervals).collect();
    assert_eq!(risk[1], Some(0.0));
    close(risk[4], 1.0, 1e-12, "the first two");
    close(risk[9], 9.0 / 4.0, 1e-12, "all");
}

#[test]
fn order_and_merging_change_no_bit() {
    let views = views();
    let whole = measured(&views);
    let mut backwards = DepthMetrics::new();
    for (maps, interval) in views.iter().rev() {
        let [depth, confidence, truth] = maps.clone().map(|m| {
            let mut rows: Vec<_> = m.data.chunks(m.width).collect();
            rows.reverse();
            Map { data: rows.concat(), ..m }
        });
        let mut one = DepthMetrics::new();
        one.add(&depth, &confidence, &truth, *interval).unwrap();
        one.merge(&backwards);
        backwards = one;
    }
    backwards.merge(&DepthMetrics::new());
    assert_eq!(backwards, whole);
    assert_eq!(backwards.summary(), whole.summary());
}

#[test]
fn what_nothing_was_counted_for_is_null() {
    let mut metrics = DepthMetrics::new();
    let empty = Map::filled(0, 0, 0.0);
    metrics.add(&empty, &empty, &empty, 1.0).unwrap();
    let no_truth = row(&[0.0, f32::NAN, f32::INFINITY, -1.0]);
    metrics.add(&row(&[1.0; 4]), &row(&[0.5; 4]), &no_truth, 1.0).unwrap();
    let summary = metrics.summary();
    let json = serde_json::to_value(&summary).unwrap();
    assert_eq!((&json["pixels"], &json["risk_coverage"][0]["coverage_percent"]), (&0.into(), &10.into()));
    for (name, value) in json.as_object().unwrap() {
        let expected_null = !["pixels", "pixels_without_depth", "calibration", "risk_coverage"].contains(&&**name);
        assert!(!expected_null || value.is_null(), "{name}: {value}");
    }
    assert!(json["calibration"][3]["mean_confidence"].is_null());
    assert!(json["risk_coverage"][9]["mean_error_intervals"].is_null());
    assert!(summary.scalars().is_empty());
    assert_eq!(summary.line(), "no pixel with a truth");

    // A truth, but never a depth: shares are known, distances are not.
    metrics.add(&row(&[f32::NAN]), &row(&[f32::NAN]), &row(&[2.0]), 1.0).unwrap();
    let summary = metrics.summary();
    assert_eq!((summary.within_8_units, summary.mean_error_units), (Some(0.0), None));
    assert_eq!((summary.median_error_rel, summary.area_under_risk_intervals), (None, None));
    assert!(summary.line().ends_with("1 of 1 pixels without a depth"), "{}", summary.line());
    assert!(!serde_json::to_string(&summary).unwrap().contains("NaN"));
}

#[test]
fn an_exact_and_an_absurd_depth_are_measured_too() {
    let mut metrics = DepthMetrics::new();
    metrics.add(&row(&[7.0, f32::MAX]), &row(&[1.0, 0.0]), &row(&[7.0, 7.0]), 1e-30).unwrap();
    let summary = metrics.summary();
    assert_eq!((summary.median_error_rel, summary.within_1_interval), (Some(0.0), Some(0.5)));
    assert!(summary.mean_error_intervals.unwrap().is_finite());
    assert_eq!(summary.calibration[0].right_share, Some(0.0));
}

#[test]
fn maps_that_do_not_fit_are_refused_and_change_nothing() {
    let mut metrics = DepthMetrics::new();
    let (two, three) = (row(&[1.0; 2]), row(&[1.0; 3]));
    let message = metrics.add(&two, &three, &two, 1.0).unwrap_err().to_string();
    assert_eq!(message, "metrics: depth of 2 x 1, confidence of 3 x 1, truth of 2 x 1; expected maps of one size");
    for interval in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let message = metrics.add(&two, &two, &two, interval).unwrap_err().to_string();
        assert!(message.contains("expected a finite number > 0"), "{message}");
    }
    assert_eq!(metrics, DepthMetrics::new());
}
