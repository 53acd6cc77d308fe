//! The DTU protocol and the comparison of clouds against plain loops in f64 that follow the original's description
//! (protocol page, section D) and share no code with the engine; and every corner case that the page lists.

use engine::evaluation::cloud::{CloudSettings, compare};
use engine::evaluation::dtu::{DtuSettings, MeanNumbers, ObservabilityMask, Reference, Scan, ScanNumbers, evaluate};
use engine::evaluation::nearest::Tree;
use engine::evaluation::thinning::{one_a_voxel, rank, thin};
use engine::host::random::Random;

fn point(random: &mut Random, low: f64, high: f64) -> [f64; 3] {
    [0; 3].map(|_| f64::from(random.range(low, high) as f32))
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f64>().sqrt()
}

/// A box of 100 mm whose voxels of 1 mm are all seen, and no ground.
fn open_reference(points: &[[f64; 3]]) -> Reference {
    let mask = ObservabilityMask {
        min: [0.0; 3],
        max: [100.0; 3],
        resolution: 1.0,
        size: [101; 3],
        seen: vec![1; 101 * 101 * 101],
    };
    Reference { points: points.to_vec(), mask, plane: [0.0, 0.0, 0.0, 1.0] }
}

fn numbers(prediction: &[[f64; 3]], reference: Reference) -> ScanNumbers {
    evaluate(prediction.to_vec(), reference, DtuSettings::default()).numbers
}

#[test]
fn at_20_mm_a_distance_is_dropped() {
    let far = numbers(&[[30.0, 30.0, 30.0]], open_reference(&[[50.0, 30.0, 30.0]]));
    assert_eq!((far.accuracy.count, far.completeness.count), (0, 0));
    let near = numbers(&[[30.0, 30.0, 30.0]], open_reference(&[[49.999, 30.0, 30.0]]));
    assert_eq!((near.accuracy.count, near.completeness.count), (1, 1));
    assert_eq!(near.accuracy.mean, 49.999 - 30.0);
}

#[test]
fn of_two_points_exactly_a_radius_apart_one_stays() {
    // Three f32 whose squares add up to the square of 0.2 in f64: what each leaves is filled up by the next, smaller
    // one.
    let x = f64::from(0.2f32.next_down());
    let y = f64::from((0.2f64 * 0.2 - x * x).sqrt() as f32);
    let rest = 0.2f64 * 0.2 - x * x - y * y;
    let exact = [x, y, f64::from(rest.max(0.0).sqrt() as f32)];
    let sum: f64 = exact.iter().map(|v| (*v) * (*v)).sum();
    // One unit in the last place of 0.04 is 7e-18.
    assert!((sum - 0.2 * 0.2).abs() < 1e-17, "{sum:e}");
    let stays = if sum <= 0.2 * 0.2 { 1 } else { 2 };
    for seed in 0..8 {
        assert_eq!(thin(&[[0.0; 3], exact], 0.2, seed).len(), stays);
        // The same with numbers that f32 holds exactly, across the borders of cells.
        for offset in [0.0, 0.125, -64.0, 1000.0] {
            let row = [[offset, 0.0, 0.0], [offset + 0.25, 0.0, 0.0]];
            assert_eq!(thin(&row, 0.25, seed).len(), 1, "{offset}");
            assert_eq!(thin(&row, 0.25f64.next_down(), seed).len(), 2, "{offset}");
        }
    }
}

#[test]
fn ties_between_voxels_round_away_from_zero() {
    let mut reference = open_reference(&[[1.5, 5.0, 5.0]]);
    // Only the third voxel along x: (1.5 - 0) / 1 + 1 = 2.5 rounds to 3; to even it would be 2.
    for (i, seen) in reference.mask.seen.iter_mut().enumerate() {
        *seen = u8::from(i % 101 == 2);
    }
    assert_eq!(numbers(&[[1.5, 5.0, 5.0]], reference.clone()).in_mask, 1);
    assert_eq!(numbers(&[[1.4999, 5.0, 5.0]], reference.clone()).in_mask, 0);
    assert_eq!(numbers(&[[2.5, 5.0, 5.0]], reference.clone()).in_mask, 0);
    // The last voxel's far side: 100.4 is in it, 100.5 is beyond.
    reference.mask.seen.fill(1);
    assert_eq!(numbers(&[[100.4, 5.0, 5.0]], reference.clone()).in_mask, 1);
    assert_eq!(numbers(&[[100.5, 5.0, 5.0]], reference).in_mask, 0);
}

#[test]
fn a_point_on_the_ground_plane_is_excluded() {
    let mut reference = open_reference(&[[5.0, 5.0, 3.0], [5.0, 5.0, 3.0f64.next_up()]]);
    reference.plane = [0.0, 0.0, 2.0, -6.0];
    let found = numbers(&[[5.0, 5.0, 4.0]], reference);
    assert_eq!((found.above_plane, found.completeness.count), (1, 1));
}

#[test]
fn the_search_overshoots_the_box_by_the_rest_of_its_last_cell() {
    // floor(100 / 60) + 1 = 2 cells: up to 120 mm.
    let inside = 120.0f64.next_down();
    let reference = open_reference(&[[110.0, 5.0, 5.0], [inside, 5.0, 5.0], [120.0, 5.0, 5.0]]);
    let found = numbers(&[[111.0, 5.0, 5.0]], reference);
    assert_eq!((found.above_plane, found.completeness.count), (3, 2));
    assert_eq!(found.completeness.mean, (1.0 + inside - 111.0) / 2.0);
}

#[test]
fn below_the_box_a_point_in_the_mask_is_not_searched() {
    let reference = open_reference(&[[0.0, 5.0, 5.0]]);
    let found = numbers(&[[-0.4, 5.0, 5.0]], reference.clone());
    assert_eq!((found.in_mask, found.accuracy.count), (1, 0));
    // As a neighbour of the reference's point it counts all the same.
    assert_eq!(found.completeness.count, 1);
    assert_eq!(numbers(&[[0.0, 5.0, 5.0]], reference).accuracy.count, 1);
}

#[test]
fn an_empty_set_is_not_a_number_and_says_why() {
    let found = numbers(&[[-50.0, 5.0, 5.0]], open_reference(&[[5.0, 5.0, 5.0]]));
    assert!(found.accuracy.mean.is_nan() && found.accuracy.median.is_nan() && found.overall.is_nan());
    assert_eq!(
        found.why_empty(),
        [
            "no point of the prediction is in the observability mask",
            "no point of the reference above the ground plane lies within 20 mm of the other cloud",
        ]
    );
    let none = numbers(&[], open_reference(&[[5.0, 5.0, 5.0]]));
    assert_eq!(none.why_empty()[0], "the prediction has no points");
    let json = serde_json::to_value(none).unwrap();
    assert!(json["accuracy"]["mean"].is_null() && json["overall"].is_null());
    let good = numbers(&[[5.0, 5.0, 5.0]], open_reference(&[[5.0, 5.0, 6.0]]));
    assert!(good.why_empty().is_empty());
    assert!(MeanNumbers::of(&[good, none]).overall.is_nan());
}

#[test]
fn scans_count_alike_whatever_their_points() {
    let few = numbers(&[[5.0, 5.0, 5.0]], open_reference(&[[5.0, 5.0, 9.0]]));
    let row: Vec<[f64; 3]> = (0..50).map(|i| [f64::from(i), 5.0, 5.0]).collect();
    let many = numbers(&row, open_reference(&row.iter().map(|p| [p[0], 5.0, 5.5]).collect::<Vec<_>>()));
    let mean = MeanNumbers::of(&[few, many]);
    assert_eq!((mean.accuracy, mean.completeness, mean.overall), (2.25, 2.25, 2.25));
    assert_eq!((mean.accuracy_median, mean.completeness_median), (2.25, 2.25));
}

/// Survivors by the walk that the protocol describes.
fn walk(points: &[[f64; 3]], radius: f64, seed: u64) -> Vec<[f64; 3]> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&i| rank(i as u32, seed));
    let mut is_kept = vec![true; points.len()];
    for at in order {
        if is_kept[at] {
            for (other, kept) in is_kept.iter_mut().enumerate() {
                let squares = (0..3).map(|k| (points[at][k] - points[other][k]).powi(2));
                *kept &= squares.sum::<f64>() > radius * radius;
            }
            is_kept[at] = true;
        }
    }
    (0..points.len()).filter(|&i| is_kept[i]).map(|i| points[i]).collect()
}

#[test]
fn thinning_is_the_sequential_walk() {
    let mut random = Random::from_state(7);
    let cases: [(&str, Vec<[f64; 3]>); 6] = [
        ("sparse", (0..1500).map(|_| point(&mut random, -5.0, 5.0)).collect()),
        ("crowded", (0..2500).map(|_| point(&mut random, 0.0, 0.7)).collect()),
        ("all at one place", vec![[1.0, 2.0, 3.0]; 2000]),
        (
            "on a lattice of the radius",
            (0..1728).map(|i| [i % 12, i / 12 % 12, i / 144].map(|v| f64::from(v) * 0.25)).collect(),
        ),
        ("none", Vec::new()),
        (
            "with some beyond the grid",
            (0..600).map(|i| point(&mut random, 0.0, 1.0).map(|v| if i % 3 == 0 { v + 3e7 } else { v })).collect(),
        ),
    ];
    for (name, points) in cases {
        for (radius, seed) in [(0.2, 0), (0.25, 1), (0.25, u64::MAX)] {
            assert!(thin(&points, radius, seed) == walk(&points, radius, seed), "{name}, {radius}, {seed}");
        }
    }
}

#[test]
fn ranks_are_a_shuffle() {
    let mut ranks: Vec<u64> = (0..10_000).map(|i| rank(i, 3)).collect();
    let rising = ranks.windows(2).filter(|pair| pair[0] < pair[1]).count();
    // Half of 9999 pairs rise, deviation sqrt(n / 12) = 29; six of those.
    assert!((4826..=5173).contains(&rising), "{rising}");
    ranks.sort_unstable();
    ranks.dedup();
    assert_eq!(ranks.len(), 10_000);
    assert_ne!(rank(0, 3), rank(0, 4));
}

#[test]
fn the_nearest_point_is_the_nearest() {
    let mut random = Random::from_state(11);
    let mut points: Vec<[f64; 3]> = (0..3000).map(|_| point(&mut random, -10.0, 10.0)).collect();
    // A crowd at one place, a line, and one far away.
    points.extend((0..500).map(|_| [1.0, 1.0, 1.0]));
    points.extend((0..500).map(|i| [f64::from(i) * 0.01, 0.0, 0.0]));
    points.push([1e6, 0.0, 0.0]);
    let from: Vec<[f64; 3]> =
        (0..700).map(|_| point(&mut random, -14.0, 14.0)).chain([[1.0; 3], [9e5, 1.0, 2.0]]).collect();
    let tree = Tree::new(points.clone());
    for limit in [f64::INFINITY, 2.0, 0.1] {
        let found = tree.distances(&from, limit);
        for (from, found) in from.iter().zip(found) {
            let nearest = points.iter().map(|&p| distance(*from, p)).fold(f64::INFINITY, f64::min);
            let expected = if nearest < limit { nearest } else { f64::INFINITY };
            // The sum of squares may be rounded differently by the iterator's order: none here, both go x, y, z.
            assert_eq!(found, expected, "{from:?}, {limit}");
        }
    }
    assert_eq!(Tree::new(Vec::new()).distance([0.0; 3], f64::INFINITY), None);
}

/// The original's search: from-points cell by cell, candidates from the cell grown by 60 mm, 60 where there are none.
fn cellwise(from: &[[f64; 3]], to: &[[f64; 3]], mask: &ObservabilityMask) -> Vec<f64> {
    let mut found = vec![60.0; from.len()];
    let cells = [0, 1, 2].map(|a| ((mask.max[a] - mask.min[a]) / 60.0).floor() as i32);
    let within = |p: [f64; 3], low: [f64; 3], high: [f64; 3]| (0..3).all(|a| p[a] >= low[a] && p[a] < high[a]);
    for x in 0..=cells[0] {
        for y in 0..=cells[1] {
            for z in 0..=cells[2] {
                let cell = [x, y, z].map(f64::from);
                let low = [0, 1, 2].map(|a| mask.min[a] + cell[a] * 60.0);
                let candidates: Vec<[f64; 3]> =
                    to.iter().filter(|p| within(**p, low.map(|v| v - 60.0), low.map(|v| v + 120.0))).copied().collect();
                for (from, found) in from.iter().zip(&mut found) {
                    if within(*from, low, low.map(|v| v + 60.0)) && !candidates.is_empty() {
                        *found = candidates.iter().map(|&p| distance(*from, p)).fold(f64::INFINITY, f64::min);
                    }
                }
            }
        }
    }
    found
}

fn mean_and_median(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (values.iter().sum::<f64>() / n as f64, (values[(n - 1) / 2] + values[n / 2]) / 2.0)
}

/// A wavy surface seen by a patchy mask, with points far outside the box on every side.
fn rough_scan(seed: u64) -> (Vec<[f64; 3]>, Reference) {
    let mut random = Random::from_state(seed);
    let surface = |random: &mut Random, noise: f64| {
        let [x, y] = [0; 2].map(|_| -130.0 + 260.0 * random.unit());
        let z = 20.0 * (x / 30.0).sin() + 10.0 * (y / 20.0).cos();
        let mut point = [x, y, z];
        for value in &mut point {
            *value += noise * (random.unit() - 0.5);
        }
        point
    };
    let mut prediction: Vec<[f64; 3]> = (0..2500).map(|_| surface(&mut random, 8.0)).collect();
    prediction.extend((0..600).map(|_| point(&mut random, -90.0, 90.0)));
    // A crowd for the thinning.
    prediction.extend((0..600).map(|_| point(&mut random, 10.0, 11.0)));
    let points: Vec<[f64; 3]> = (0..2500).map(|_| surface(&mut random, 0.0)).collect();
    let size = [46, 51, 31];
    let seen = (0..size.iter().product()).map(|_| u8::from(random.unit() < 0.7)).collect();
    let mask = ObservabilityMask { min: [-90.0, -100.5, -30.0], max: [90.0, 99.5, 30.0], resolution: 4.0, size, seen };
    (prediction, Reference { points, mask, plane: [0.1, -0.2, 1.0, 12.0] })
}

#[test]
fn a_scan_is_measured_as_by_plain_loops() {
    for seed in [1, 2] {
        let (prediction, reference) = rough_scan(seed);
        let settings = DtuSettings { thinning: true, seed };
        let found = evaluate(prediction.clone(), reference.clone(), settings).numbers;

        let thinned = walk(&prediction, 0.2, seed);
        let mask = &reference.mask;
        let is_seen = |p: &[f64; 3]| {
            let v = [0, 1, 2].map(|a| {
                let v = (p[a] - mask.min[a]) / mask.resolution + 1.0;
                // MATLAB's round.
                if v < 0.0 { (v - 0.5).ceil() } else { (v + 0.5).floor() }
            });
            let inside = (0..3).all(|a| v[a] >= 1.0 && v[a] <= mask.size[a] as f64);
            inside && {
                let [x, y, z] = v.map(|v| v as usize - 1);
                mask.seen[x + mask.size[0] * (y + mask.size[1] * z)] != 0
            }
        };
        let to_stl = cellwise(&thinned, &reference.points, mask);
        let to_data = cellwise(&reference.points, &thinned, mask);
        let accuracy: Vec<f64> =
            thinned.iter().zip(&to_stl).filter(|(p, d)| is_seen(p) && **d < 20.0).map(|(_, d)| *d).collect();
        let is_above = |p: &[f64; 3]| {
            let [x, y, z] = p.map(f64::from);
            0.1 * x - 0.2 * y + z + 12.0 > 0.0
        };
        let points = reference.points.iter().zip(&to_data);
        let completeness: Vec<f64> = points.filter(|(p, d)| is_above(p) && **d < 20.0).map(|(_, d)| *d).collect();
        assert_eq!((found.points, found.thinned), (3700, thinned.len()));
        assert!(thinned.len() < 3500 && found.accuracy.count > 500 && found.completeness.count > 500);
        assert_eq!(found.accuracy.count, accuracy.len());
        assert_eq!(found.completeness.count, completeness.len());
        for (ours, plain) in [(found.accuracy, accuracy), (found.completeness, completeness)] {
            let n = plain.len() as f64;
            let (mean, median) = mean_and_median(plain.clone());
            let variance = plain.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
            // Thousands of sums in another order: some 1e-16 each.
            let close = |a: f64, b: f64| (a - b).abs() < 1e-12 * b;
            assert!(close(ours.mean, mean) && close(ours.variance, variance), "{ours:?} {mean} {variance}");
            assert_eq!(ours.median, median);
        }
        assert_eq!(found.overall, (found.accuracy.mean + found.completeness.mean) / 2.0);
    }
}

#[test]
fn threads_change_nothing() {
    let (prediction, reference) = rough_scan(3);
    // Enough points for several tasks.
    let prediction: Vec<[f64; 3]> =
        (0..12).flat_map(|i| prediction.iter().map(move |p| p.map(|v| v * (1.0 + 0.001 * f64::from(i))))).collect();
    let run = |threads: usize| -> Scan {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(prediction.clone(), reference.clone(), DtuSettings::default()))
    };
    let one = run(1);
    for threads in [2, 5] {
        let other = run(threads);
        assert_eq!(other.numbers, one.numbers);
        assert!(other.data.points == one.data.points && other.data.distances == one.data.distances);
        assert!(other.reference.distances == one.reference.distances);
    }
    let seeded = evaluate(prediction.clone(), reference.clone(), DtuSettings { thinning: true, seed: 9 });
    assert_ne!(seeded.numbers, one.numbers, "another seed, another order");
    let all = evaluate(prediction.clone(), reference, DtuSettings { thinning: false, seed: 0 });
    assert_eq!(all.numbers.thinned, prediction.len());
}

#[test]
fn clouds_are_compared_as_by_plain_loops() {
    let mut random = Random::from_state(5);
    let a: Vec<[f64; 3]> = (0..1200).map(|_| point(&mut random, 0.0, 1.0)).collect();
    let b: Vec<[f64; 3]> = (0..900).map(|_| point(&mut random, 0.2, 1.3)).collect();
    let nearest = |from: &[[f64; 3]], to: &[[f64; 3]]| -> Vec<f64> {
        from.iter().map(|&p| to.iter().map(|&q| distance(p, q)).fold(f64::INFINITY, f64::min)).collect()
    };
    let (forth, back) = (nearest(&a, &b), nearest(&b, &a));
    for max_distance in [None, Some(0.1)] {
        let settings = CloudSettings { thresholds: vec![0.03, 0.2], max_distance, voxel: None };
        let found = compare(a.clone(), b.clone(), &settings).unwrap();
        for (ours, plain) in [(found.accuracy, &forth), (found.completeness, &back)] {
            let kept: Vec<f64> = plain.iter().copied().filter(|&d| d < max_distance.unwrap_or(9.0)).collect();
            assert_eq!(ours.count, kept.len());
            let (mean, median) = mean_and_median(kept);
            assert!((ours.mean - mean).abs() < 1e-13 && ours.median == median);
        }
        for score in &found.scores {
            let share = |d: &[f64]| d.iter().filter(|d| **d < score.threshold).count() as f64 / d.len() as f64;
            let (precision, recall) = (share(&forth), share(&back));
            assert!(precision > 0.0 && recall > 0.0);
            assert_eq!((score.precision, score.recall), (precision, recall));
            assert!((score.f_score - 2.0 / (1.0 / precision + 1.0 / recall)).abs() < 1e-15);
        }
    }
    // Without thresholds: shares of the reference's diagonal.
    let found = compare(a, vec![[0.0; 3], [3.0, 4.0, 12.0]], &CloudSettings::default()).unwrap();
    let thresholds: Vec<f64> = found.scores.iter().map(|s| s.threshold).collect();
    assert_eq!(thresholds, [0.001, 0.002, 0.005].map(|share| share * 13.0));
    let nothing = compare(Vec::new(), vec![[0.0; 3]], &CloudSettings::default()).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "the cloud to measure: no points with finite coordinates, so there is nothing to compare"
    );
}

#[test]
fn a_voxel_keeps_the_mean_of_its_points() {
    // Cells count from the median (1, 0, 0): [1, 1.5) and [2, 2.5) along x.
    let points = [[1.0, 0.0, 0.0], [1.25, 0.25, 0.0], [2.0, 0.0, 0.0], [0.75, 0.0, 0.0], [0.5, 0.0, 0.0]];
    let mut found = one_a_voxel(&points, 0.5).unwrap();
    found.sort_by(|a, b| a[0].total_cmp(&b[0]));
    assert_eq!(found, [[0.625, 0.0, 0.0], [1.125, 0.125, 0.0], [2.0, 0.0, 0.0]]);
    assert_eq!(
        one_a_voxel(&[[0.0; 3], [1e6, 0.0, 0.0]], 0.1).unwrap_err().to_string(),
        "--voxel: 0.1, of which a cloud here is more than two million wide; expected a larger edge, or a cloud without \
         points far outside"
    );
}
