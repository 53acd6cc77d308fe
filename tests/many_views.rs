//! Scenes of thousands of views: planning a run takes time that grows with the tracks, not with views times points.

#![cfg(target_os = "linux")]

use std::path::PathBuf;

use engine::run::options::InferOptions;
use engine::run::plan::plan;
use engine::scene::camera::{Camera, DepthRange};
use engine::scene::{Layout, Scene, ScenePoint, SourceView, View};
use glam::{DMat3, DVec3};

/// Cameras side by side, a tenth apart, that look at a wall 10 away.
fn scene(views: usize, points: Vec<ScenePoint>) -> Scene {
    let k = DMat3::from_cols(DVec3::new(400.0, 0.0, 0.0), DVec3::new(0.0, 400.0, 0.0), DVec3::new(319.5, 239.5, 1.0));
    let view = |i: usize| View {
        id: i as u32,
        name: format!("{i:08}"),
        image: PathBuf::new(),
        size: (640, 480),
        camera: Camera { k, r: DMat3::IDENTITY, t: DVec3::new(-0.1 * i as f64, 0.0, 0.0) },
        lens: None,
        mask: None,
        in_memory: None,
        known: None,
        range: None,
        sweep: None,
        planes: None,
        sources: Vec::new(),
    };
    let views = (0..views).map(view).collect();
    Scene {
        root: PathBuf::new(),
        layout: Layout::Colmap,
        views,
        points,
        region: None,
        region_of_files: None,
        poses: None,
        georeference: None,
        notes: Vec::new(),
    }
}

/// A number in 0..1 for each index, evenly spread; `along` tells directions apart.
fn spread(i: usize, along: usize) -> f64 {
    (i as f64 * [0.754_877_666, 0.569_840_296][along]).fract()
}

/// Seconds of processor time of this process, on all of its threads: what else the machine does makes no difference.
fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into the time that it is given.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) }, 0);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// A plan of so many views, each of which tracks 400 of 40 times as many points, and the time that it takes.
fn planned(views: usize) -> f64 {
    const TRACK: usize = 10;
    let point = |i: usize| {
        let first = i % (views - TRACK + 1);
        let middle = 0.1 * (first as f64 + 4.5);
        let position = DVec3::new(middle + 4.0 * spread(i, 0) - 2.0, 3.0 * spread(i, 1) - 1.5, 10.0 + spread(i, 1));
        ScenePoint { position, error: 0.3, views: (first..first + TRACK).collect() }
    };
    let mut scene = scene(views, (0..40 * views).map(point).collect());
    let began = processor_seconds();
    let plan = plan(&mut scene, &InferOptions::default()).unwrap();
    let took = processor_seconds() - began;
    assert_eq!(plan.views.len(), views);
    assert!(scene.notes.iter().all(|note| !note.contains("only some of these")), "{:?}", scene.notes);
    for (i, view) in plan.views.iter().enumerate() {
        let sources = &scene.views[i].sources;
        // Neighbours make angles of half a degree, which score next to nothing.
        assert!(sources.iter().all(|s| s.view != i && s.view.abs_diff(i) < TRACK), "{i}: {sources:?}");
        assert!(sources.len() > TRACK / 2 && sources.windows(2).all(|w| w[0].score >= w[1].score), "{i}");
        assert!((8.0..10.0).contains(&view.range.near) && (11.0..13.0).contains(&view.range.far), "{i}");
    }
    took
}

/// Four times as many views and points take four times as long; a step that looks at all points for each view would
/// take sixteen times as long. Between the two there is room for caches.
#[test]
fn five_thousand_views_take_the_time_of_their_tracks() {
    let (some, many) = (planned(1250), planned(5000));
    assert!(many < 8.0 * some, "{some:.2} s for 1250 views of 50 000 points, {many:.2} s for 5000 of 200 000");
}

/// The same where there are no points and cameras are all that is known. Each view's sources are those that looking at
/// all pairs finds, which scenes of up to 4096 views do.
#[test]
fn ten_thousand_views_without_points_take_the_time_of_their_number() {
    let selected = |views: usize| {
        let mut scene = scene(views, Vec::new());
        // Ranges: the wall stands where neighbours some steps away make the best angles.
        let range = Some(DepthRange { near: 9.0, far: 11.0 });
        scene.views.iter_mut().for_each(|view| view.range = range);
        let began = processor_seconds();
        scene.select_sources();
        let took = processor_seconds() - began;
        let nearest = scene.notes.iter().any(|note| note.contains("among the 1024 nearest of each view"));
        let sources = |v: usize| scene.views[v].sources.iter().map(|s| (s.view - (v - 1000), s.score)).collect();
        let of_two: [Vec<(usize, f64)>; 2] = [1500, views - 1500].map(sources);
        (took, nearest, of_two)
    };
    let (_, nearest, of_few) = selected(4000);
    assert!(!nearest && of_few[0].len() == 10);
    let ((some, _, of_some), (many, nearest, of_many)) = (selected(5000), selected(20_000));
    assert!(nearest);
    // Distances of centres are rounded far from the origin.
    let are_equal = |a: &[(usize, f64)], b: &[(usize, f64)]| {
        let mut pairs = a.iter().zip(b);
        a.len() == b.len() && pairs.all(|(a, b)| (a.1 - b.1).abs() < 1e-9)
    };
    for of_view in of_some.iter().chain(&of_many) {
        assert!(are_equal(of_view, &of_few[0]), "{of_view:?} {of_few:?}");
    }
    assert!(many < 8.0 * some, "{some:.2} s for 5000 views, {many:.2} s for 20 000");
}

/// Where every view sees every point, the pairs are the square of the views for each point. Some of the points are
/// asked instead; a note says so, and the sources are about those of all points.
#[test]
fn views_that_all_see_the_same_points_are_scored_by_some_of_them() {
    const VIEWS: usize = 500;
    let sources = |points: usize| {
        let point = |i: usize| {
            let position = DVec3::new(24.0 + 4.0 * spread(i, 0), 3.0 * spread(i, 1) - 1.5, 10.0 + spread(i, 1));
            ScenePoint { position, error: 0.3, views: (0..VIEWS).collect() }
        };
        let mut scene = scene(VIEWS, (0..points).map(point).collect());
        // One view's sources are enough; the others have theirs.
        for i in (0..VIEWS).filter(|i| *i != 250) {
            scene.views[i].sources.push(SourceView { view: (i + 1) % VIEWS, score: 1.0 });
        }
        scene.select_sources();
        let said = scene.notes.iter().any(|note| note.contains("1 view scored by some of the points only"));
        (said, scene.views[250].sources.iter().map(|s| s.view).collect::<Vec<_>>())
    };
    let ((some, of_some), (all, of_all)) = (sources(800), sources(300));
    assert!(some && !all);
    let farthest = |sources: &[usize]| sources.iter().map(|v| v.abs_diff(250)).max().unwrap();
    assert!(of_some.len() == 10 && farthest(&of_some).abs_diff(farthest(&of_all)) <= 2, "{of_some:?} {of_all:?}");
}
