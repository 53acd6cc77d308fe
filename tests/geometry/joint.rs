//! Maps that hear each other: means over views, and what is heard of a pixel.

use engine::maps::joint::{Heard, TOLERANCE_PX, hear};

use super::*;

/// Depth maps of views with a confidence of their own everywhere.
fn heard(views: &[(Camera, Map)], confidence: f32) -> (Map, Vec<Heard>) {
    let confidences: Vec<Map> = views.iter().map(|(_, d)| Map::filled(d.width, d.height, confidence)).collect();
    let views: Vec<DepthView> = views
        .iter()
        .zip(&confidences)
        .map(|((camera, depth), confidence)| DepthView { camera: *camera, depth, confidence })
        .collect();
    let sources: Vec<&DepthView> = views[1..].iter().collect();
    hear(&views[0], &sources, |_, heard| *heard).unwrap()
}

fn maps(views: &[Rendered]) -> Vec<(Camera, Map)> {
    views.iter().map(|view| (view.camera, view.depth.clone())).collect()
}

/// Away from the borders, where some source does not see the point.
fn inner(at: usize) -> bool {
    (16..WIDTH - 16).contains(&(at % WIDTH)) && (12..HEIGHT - 12).contains(&(at / WIDTH))
}

#[test]
fn true_maps_stay_and_all_sources_agree() {
    let views = rendered(&slanted_plane(), &arc(5, 30.0, 300.0, WIDTH, HEIGHT));
    let (mean, heard) = heard(&maps(&views), 0.9);
    for at in (0..mean.data.len()).filter(|at| inner(*at)) {
        // What is left of a pixel's interpolated depth on a slanted plane after three rounds: the second difference of
        // depth, some 1e-5 of it, and roundings of f32.
        let (found, truth) = (mean.data[at], views[0].depth.data[at]);
        assert!((found / truth - 1.0).abs() < 2e-5, "{found} for {truth}");
        let Heard { seen, agreeing, sure, through, before, apart_px } = heard[at];
        assert_eq!((seen, agreeing, through, before), (4.0, 4.0, 0.0, 0.0), "pixel {at}");
        assert!((sure - 3.6).abs() < 1e-5 && apart_px < 0.02, "pixel {at}: {sure}, {apart_px}");
    }
}

#[test]
fn the_mean_of_five_maps_with_errors_of_their_own_is_better_than_one() {
    let views = rendered(&slanted_plane(), &arc(5, 30.0, 300.0, WIDTH, HEIGHT));
    let mut noisy = maps(&views);
    let mut random = Random::new(&[11]);
    // Even errors of up to 0.1 %, some 0.15 pixels between neighbouring views.
    let mut error = || 1e-3 * (random.between(0, 2000) as f32 / 1000.0 - 1.0);
    noisy.iter_mut().for_each(|(_, map)| map.data.iter_mut().for_each(|depth| *depth *= 1.0 + error()));
    let (mean, _) = heard(&noisy, 0.9);
    let rms = |map: &Map| {
        let square = |at: usize| f64::from(map.data[at] / views[0].depth.data[at] - 1.0).powi(2);
        let chosen: Vec<f64> = (0..map.data.len()).filter(|at| inner(*at)).map(square).collect();
        (chosen.iter().sum::<f64>() / chosen.len() as f64).sqrt()
    };
    let (before, after) = (rms(&noisy[0].1), rms(&mean));
    // Independent errors would leave 1 / sqrt 5 = 0.45 of it, and bilinear sampling averages four of them in each
    // source: less.
    assert!(after < 0.45 * before, "{before} to {after}");
}

#[test]
fn what_is_seen_through_or_hidden_is_told_apart_and_moves_nothing() {
    let cameras = arc(3, 20.0, 300.0, WIDTH, HEIGHT);
    let views = rendered(&slanted_plane(), &cameras);
    // 10 % nearer: both sources see through to the plane. 10 % farther: they see it before.
    for (factor, through, before) in [(0.9, 1.0, 0.0), (1.1, 0.0, 1.0)] {
        let mut moved = maps(&views);
        moved[0].1.data.iter_mut().for_each(|depth| *depth *= factor);
        let (mean, heard) = heard(&moved, 0.5);
        let mut seen = 0;
        for at in (0..mean.data.len()).filter(|at| inner(*at) && heard[*at].seen > 0.0) {
            let h = heard[at];
            assert_eq!((h.agreeing, h.sure, h.apart_px), (0.0, 0.0, 0.0));
            assert!((h.through - 0.5 * through * h.seen).abs() < 1e-6, "pixel {at}: {h:?}");
            assert!((h.before - 0.5 * before * h.seen).abs() < 1e-6, "pixel {at}: {h:?}");
            assert_eq!(mean.data[at], moved[0].1.data[at]);
            seen += 1;
        }
        assert!(seen > 1000, "{seen}");
    }
}

#[test]
fn surfaces_do_not_mix_across_an_edge() {
    let cameras = arc(5, 25.0, 400.0, WIDTH, HEIGHT);
    let surfaces = ball_before_plane();
    let views = rendered(&surfaces, &cameras);
    let (mean, _) = heard(&maps(&views), 0.9);
    for (at, (found, truth)) in mean.data.iter().zip(&views[0].depth.data).enumerate() {
        // Within the tolerance two surfaces are one: 1.5 pixels are some 3 % of the depth at this angle. Ball and plane
        // lie 10 % and more apart at the ball's edge, so no mixture of both can come nearer to the other than that.
        assert!((found / truth - 1.0).abs() < 0.03, "pixel {at}: {found} for {truth}, within {TOLERANCE_PX} px");
    }
}

#[test]
fn what_is_no_depth_stays_and_is_not_judged() {
    let views = rendered(&slanted_plane(), &arc(3, 20.0, 300.0, WIDTH, HEIGHT));
    let mut maps = maps(&views);
    let bad = [0.0, -1.0, f32::NAN, f32::INFINITY];
    for (i, value) in bad.into_iter().enumerate() {
        maps[0].1.data[3000 + i] = value;
        maps[1].1.data[3100 + i] = value;
    }
    let (mean, heard) = heard(&maps, 0.9);
    for (i, value) in bad.into_iter().enumerate() {
        assert_eq!(mean.data[3000 + i].to_bits(), value.to_bits());
        assert_eq!(heard[3000 + i], Heard::default());
    }
    assert!(mean.data.iter().filter(|d| !(d.is_finite() && **d > 0.0)).count() == bad.len());

    let confidence = Map::filled(1, 1, 1.0);
    let view = DepthView { camera: views[0].camera, depth: &views[0].depth, confidence: &confidence };
    assert!(hear(&view, &[], |c, _| c).unwrap_err().to_string().contains("differ in size"));
}
