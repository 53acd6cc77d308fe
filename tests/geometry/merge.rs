//! Merging the levels of the depth pyramid.

use engine::Error;
use engine::maps::merge::{LevelMaps, MergeOptions, merge_level};

use super::*;

/// Four views that coincide: every pixel meets itself in every source, so depths alone decide who agrees. All numbers
/// of the camera are powers of two or zero, so that pixels come back exactly and the borders stay inside.
fn coinciding(width: usize, height: usize, depth: &[f32], confidence: &[f32]) -> Vec<LevelMaps> {
    let maps = LevelMaps {
        camera: Camera { k: DMat3::from_diagonal(DVec3::new(8.0, 8.0, 1.0)), r: DMat3::IDENTITY, t: DVec3::ZERO },
        depth: Map { width, height, data: depth.to_vec() },
        confidence: Map { width, height, data: confidence.to_vec() },
    };
    vec![maps; 4]
}

fn all_others() -> Vec<Vec<usize>> {
    neighbours(4, 3)
}

#[test]
fn merge_by_hand_with_every_border() {
    // Steps of 0.4 % keep neighbouring depths apart yet far from the 1 %.
    let coarse_depth = [1.0, 1.004, 1.008, 1.012, 1.016, 1.02];
    let coarse_confidence = [0.92, 0.94, 0.96, 0.98, 1.0, 0.91];
    let coarse = coinciding(3, 2, &coarse_depth, &coarse_confidence);

    // 6 x 4: columns 0, 0|1, 1, 1|2, 2 and the last again; rows 0, 0|1, 1 and the last again.
    let mut fine = coinciding(6, 4, &[9.0; 24], &[0.49; 24]);
    let replaced = merge_level(&coarse, &mut fine, &all_others(), &MergeOptions::default()).unwrap();
    assert_eq!(replaced, [24; 4]);
    #[rustfmt::skip]
    let depth = [
        1.0,   1.002, 1.004, 1.006, 1.008, 1.008,
        1.006, 1.008, 1.010, 1.012, 1.014, 1.014,
        1.012, 1.014, 1.016, 1.018, 1.020, 1.020,
        1.012, 1.014, 1.016, 1.018, 1.020, 1.020,
    ];
    #[rustfmt::skip]
    let confidence = [
        0.92, 0.93, 0.94, 0.95,   0.96,  0.96,
        0.95, 0.96, 0.97, 0.9525, 0.935, 0.935,
        0.98, 0.99, 1.0,  0.955,  0.91,  0.91,
        0.98, 0.99, 1.0,  0.955,  0.91,  0.91,
    ];
    for view in &fine {
        // f32 numbers near 1: 6e-8 each.
        assert!(view.depth.data.iter().zip(depth).all(|(a, b)| (a - b).abs() < 3e-7), "{:?}", view.depth);
        assert!(view.confidence.data.iter().zip(confidence).all(|(a, b)| (a - b).abs() < 3e-7));
    }

    // 5 x 3: the last column and row lie on coarse samples.
    let mut fine = coinciding(5, 3, &[9.0; 15], &[0.0; 15]);
    merge_level(&coarse, &mut fine, &all_others(), &MergeOptions::default()).unwrap();
    for (at, found) in fine[0].depth.data.iter().enumerate() {
        assert!((found - depth[at / 5 * 6 + at % 5]).abs() < 3e-7);
    }
}

#[test]
fn merge_is_blocked_by_unreliable_neighbours_and_by_confidence() {
    let depth = [1.0, 1.004, 1.008, 1.012, 1.016, 1.02];
    let mut confidence = [0.95; 6];
    // Not above 0.9: the lower middle sample is unreliable.
    confidence[4] = 0.9;
    let coarse = coinciding(3, 2, &depth, &confidence);
    let mut fine = coinciding(6, 4, &[9.0; 24], &[0.2; 24]);
    // One fine pixel is sure enough of itself, one has no confidence at all.
    fine[0].confidence.data[0] = 0.5;
    fine[0].confidence.data[4] = f32::NAN;
    let replaced = merge_level(&coarse, &mut fine, &all_others(), &MergeOptions::default()).unwrap();
    // Rows 1 to 3 use the lower samples, columns 1 to 3 the middle one.
    let blocked = |at: usize| at / 6 >= 1 && (1..=3).contains(&(at % 6));
    for at in 0..24 {
        let untouched = fine[0].depth.data[at] == 9.0;
        assert_eq!(untouched, blocked(at) || at == 0, "pixel {at}");
    }
    assert_eq!(replaced, [14, 15, 15, 15]);

    // Depths that the other views do not confirm: 2 of 3 sources 5 % off in one sample.
    let mut coarse = coinciding(3, 2, &depth, &[0.95; 6]);
    coarse[1].depth.data[4] *= 1.05;
    coarse[2].depth.data[4] *= 1.05;
    let mut fine = coinciding(6, 4, &[9.0; 24], &[0.2; 24]);
    merge_level(&coarse, &mut fine, &all_others(), &MergeOptions::default()).unwrap();
    for at in 0..24 {
        assert_eq!(fine[0].depth.data[at] == 9.0, blocked(at), "pixel {at}");
    }
    // With that one agreeing source alone in the list all of the sources agree; without any, nothing is confirmed.
    let mut fine = coinciding(6, 4, &[9.0; 24], &[0.2; 24]);
    let sources = vec![vec![3], vec![2], vec![], vec![0]];
    let replaced = merge_level(&coarse, &mut fine, &sources, &MergeOptions::default()).unwrap();
    assert_eq!(replaced, [24, 24, 0, 24]);
}

#[test]
fn what_was_replaced_is_passed_on() {
    let levels = [(10, 6), (5, 3), (3, 2)];
    let maps = |level: usize, depth: f32, confidence: f32| {
        let (width, height) = levels[level];
        coinciding(width, height, &vec![depth; width * height], &vec![confidence; width * height])
    };
    let (coarsest, mut middle, mut finest) = (maps(2, 1.5, 0.95), maps(1, 7.0, 0.3), maps(0, 8.0, 0.1));
    let merge = |coarse: &[LevelMaps], fine: &mut Vec<LevelMaps>| {
        merge_level(coarse, fine, &all_others(), &MergeOptions::default()).unwrap()
    };
    assert_eq!(merge(&middle, &mut finest), [0; 4]);
    assert_eq!(merge(&coarsest, &mut middle), [15; 4]);
    assert_eq!(merge(&middle, &mut finest), [60; 4]);
    assert!(finest[0].depth.data.iter().all(|&d| d == 1.5));
    assert!(finest[0].confidence.data.iter().all(|&c| c == 0.95));
}

/// Two levels of an exact scene; the fine one is wrong and unsure in a disc.
fn damaged_levels() -> (Vec<LevelMaps>, Vec<LevelMaps>, Vec<LevelMaps>) {
    let cameras = arc(5, 20.0, 600.0, WIDTH, HEIGHT);
    let exact = |scale: usize| -> Vec<LevelMaps> {
        let (width, height) = (WIDTH / scale, HEIGHT / scale);
        let level = |camera: &Camera| {
            let camera = camera.decimated(1.0 / scale as f64);
            let depth = render(&slanted_plane(), camera, width, height).depth;
            LevelMaps { camera, depth, confidence: Map::filled(width, height, 0.97) }
        };
        cameras.iter().map(level).collect()
    };
    let (coarse, truth) = (exact(2), exact(1));
    let mut damaged = truth.clone();
    for view in &mut damaged {
        for at in (0..WIDTH * HEIGHT).filter(|&at| in_disc(at)) {
            view.depth.data[at] *= 1.2;
            view.confidence.data[at] = 0.3;
        }
    }
    (coarse, damaged, truth)
}

fn in_disc(at: usize) -> bool {
    ((at % WIDTH) as f64 - 47.0).hypot((at / WIDTH) as f64 - 36.0) < 15.0
}

#[test]
fn a_coarse_level_repairs_exactly_the_wrong_pixels() {
    let (coarse, mut fine, truth) = damaged_levels();
    let damaged = fine.clone();
    let replaced = merge_level(&coarse, &mut fine, &neighbours(5, 4), &MergeOptions::default()).unwrap();
    let expected = (0..WIDTH * HEIGHT).filter(|&at| in_disc(at)).count();
    assert_eq!(replaced, vec![expected; 5]);
    for ((fine, damaged), truth) in fine.iter().zip(&damaged).zip(&truth) {
        for at in 0..WIDTH * HEIGHT {
            if in_disc(at) {
                // Interpolated over one coarse pixel of a plane: half a second difference, below 1e-4 of the depth.
                let error = (fine.depth.data[at] / truth.depth.data[at] - 1.0).abs();
                assert!(error < 1e-4, "{error}");
                assert!((fine.confidence.data[at] - 0.97).abs() < 1e-6);
            } else {
                assert_eq!(fine.depth.data[at], damaged.depth.data[at]);
                assert_eq!(fine.confidence.data[at], damaged.confidence.data[at]);
            }
        }
    }
}

#[test]
fn merge_equals_plain_loops_on_any_number_of_threads() {
    let mut random = Random::from_state(5);
    let cameras = arc(5, 30.0, 600.0, WIDTH, HEIGHT);
    let sizes = [(95, 71), (48, 36)];
    let mut rough = |scale: usize| -> Vec<LevelMaps> {
        let (width, height) = sizes[scale - 1];
        let mut level = |camera: &Camera| {
            let camera = camera.decimated(1.0 / scale as f64);
            let mut depth = render(&ball_before_plane(), camera, width, height).depth;
            let mut confidence = Map::filled(width, height, 0.0);
            for (depth, confidence) in depth.data.iter_mut().zip(&mut confidence.data) {
                *depth *= 1.0 + 0.008 * (random.unit() as f32 - 0.5);
                *confidence = random.unit().powf(0.1) as f32;
                *depth = if random.unit() < 0.02 { f32::NAN } else { *depth };
            }
            LevelMaps { camera, depth, confidence }
        };
        cameras.iter().map(&mut level).collect()
    };
    let (coarse, mut fine) = (rough(2), rough(1));
    for view in &mut fine {
        view.confidence.data.iter_mut().for_each(|c| *c = (*c * 7.0).fract());
    }
    let sources = [vec![1, 2, 3, 4], vec![0, 2], vec![0, 1, 3, 4], vec![], vec![3, 2, 1]];
    let mut merged = fine.clone();
    let replaced = merge_level(&coarse, &mut merged, &sources, &MergeOptions::default()).unwrap();
    assert!(replaced.iter().enumerate().all(|(i, &n)| (n > 100) == (i != 3)), "{replaced:?}");

    for view in 0..5 {
        let of = |i: usize| (&coarse[i].camera, &coarse[i].depth);
        let others: Vec<_> = sources[view].iter().map(|&s| of(s)).collect();
        let (counts, _) = plain_loops::agreement(of(view), &others, 1.0, 0.01);
        let needed = others.len().min(3);
        let reliable: Vec<bool> = counts
            .iter()
            .zip(&coarse[view].confidence.data)
            .map(|(&n, &c)| needed > 0 && n >= needed && c > 0.9)
            .collect();
        let LevelMaps { mut depth, mut confidence, .. } = fine[view].clone();
        let maps = (&coarse[view].depth, &coarse[view].confidence);
        let count = plain_loops::merge(maps, &reliable, (&mut depth, &mut confidence), 0.5);
        assert_eq!(count, replaced[view]);
        for (found, expected) in [(&merged[view].depth, &depth), (&merged[view].confidence, &confidence)] {
            for (a, b) in found.data.iter().zip(&expected.data) {
                // The same sum of four in another order, rounded to f32 once.
                assert!((a - b).abs() <= 1e-7 * b.abs() || (a.is_nan() && b.is_nan()), "{a} {b}");
            }
        }
    }
    let mut again = fine.clone();
    in_threads(3, || merge_level(&coarse, &mut again, &sources, &MergeOptions::default()).unwrap());
    let bits = |maps: &[LevelMaps]| -> Vec<u32> {
        maps.iter().flat_map(|m| m.depth.data.iter().chain(&m.confidence.data)).map(|v| v.to_bits()).collect()
    };
    assert_eq!(bits(&again), bits(&merged));
}

#[test]
fn levels_that_do_not_fit_are_refused() {
    let refused = |coarse: &[LevelMaps], fine: &[LevelMaps], sources: &[Vec<usize>]| match merge_level(
        coarse,
        &mut fine.to_vec(),
        sources,
        &MergeOptions::default(),
    )
    .unwrap_err()
    {
        Error::Bug { problem, .. } => problem,
        other => panic!("{other}"),
    };
    let (coarse, fine) = (coinciding(3, 2, &[1.0; 6], &[1.0; 6]), coinciding(6, 4, &[1.0; 24], &[1.0; 24]));
    assert_eq!(refused(&coarse[..3], &fine, &all_others()), "3 coarse views, 4 fine views and 4 lists of sources");
    assert_eq!(
        refused(&fine, &fine, &all_others()),
        "view 0: a coarse map of (6, 4) is not half a fine one of (6, 4), rounded up"
    );
    let mut wrong = coarse.clone();
    wrong[2].confidence.data.pop();
    assert_eq!(refused(&wrong, &fine, &all_others()), "view 2: coarse depth (3, 2, 6) and confidence (3, 2, 5)");
    assert_eq!(
        refused(&coarse, &fine, &[vec![1], vec![1], vec![], vec![]]),
        "view 1: source 1 is not another of the 4 views"
    );
}
