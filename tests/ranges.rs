//! Depth ranges from sparse points: how far they go beyond the points that a view itself tracks, and that they do so on
//! evidence alone.
//!
//! The scene: views side by side at a height of 1.6 over flat ground, looking level at a wall 20 away. A photo's lower
//! border shows ground 3.2 away.

use std::path::PathBuf;

use engine::run::options::InferOptions;
use engine::run::plan::plan;
use engine::scene::camera::{Camera, DepthRange};
use engine::scene::{Layout, Scene, ScenePoint, View};
use glam::{DMat3, DVec3};

const SIZE: (usize, usize) = (600, 400);
const WALL: f64 = 20.0;
const GROUND: f64 = 1.6;
/// The depth of the ground at the photo's lower border, 200 pixels below the middle with a focal length of 400.
const NEAREST: f64 = 3.2;
const VIEWS: usize = 5;
/// The view in question.
const MIDDLE: usize = 2;

fn view(x: f64) -> View {
    let k = DMat3::from_cols(DVec3::new(400.0, 0.0, 0.0), DVec3::new(0.0, 400.0, 0.0), DVec3::new(299.5, 199.5, 1.0));
    View {
        id: 0,
        name: format!("at {x}"),
        image: PathBuf::new(),
        size: SIZE,
        camera: Camera { k, r: DMat3::IDENTITY, t: DVec3::new(-x, 0.0, 0.0) },
        lens: None,
        mask: None,
        in_memory: None,
        known: None,
        range: None,
        sweep: None,
        planes: None,
        sources: Vec::new(),
    }
}

/// A number in 0..1 for each index, evenly spread; `along` tells directions apart.
fn spread(i: usize, along: usize) -> f64 {
    (i as f64 * [0.754_877_666, 0.569_840_296, 0.430_597_5][along]).fract()
}

/// Points of the wall that all views track, some on the ground from 12 on, and `more`.
fn scene(more: impl IntoIterator<Item = ScenePoint>) -> Scene {
    let all: Vec<usize> = (0..VIEWS).collect();
    let wall = (0..400).map(|i| DVec3::new(8.0 * spread(i, 0) - 4.0, 8.0 * spread(i, 1) - 7.0, WALL));
    let ground = (0..100).map(|i| DVec3::new(6.0 * spread(i, 0) - 3.0, GROUND, 12.0 + 8.0 * spread(i, 1)));
    let points = wall.chain(ground).map(|position| ScenePoint { position, error: 0.3, views: all.clone() });
    Scene {
        root: PathBuf::new(),
        layout: Layout::Colmap,
        views: (0..VIEWS).map(|i| view(i as f64 - MIDDLE as f64)).collect(),
        points: points.chain(more).collect(),
        region: None,
        region_of_files: None,
        poses: None,
        georeference: None,
        notes: Vec::new(),
    }
}

fn ground(count: usize, depths: [f64; 2], views: &[usize]) -> Vec<ScenePoint> {
    let at = |i: usize| {
        let z = depths[0] + (depths[1] - depths[0]) * spread(i, 1);
        DVec3::new(z * (0.2 * spread(i, 0) - 0.1), GROUND, z)
    };
    (0..count).map(|i| ScenePoint { position: at(i), error: 0.3, views: views.to_vec() }).collect()
}

/// The middle view's range before and after, with all others as sources.
fn ranges(scene: &Scene) -> (DepthRange, DepthRange) {
    let own = scene.tracks().point_depth_range(MIDDLE, 0.1).unwrap();
    (own, scene.tracks().widened_range(MIDDLE, &[0, 1, 3, 4], own))
}

#[test]
fn nothing_is_widened_where_all_points_are_the_views_own() {
    let (own, widened) = ranges(&scene([]));
    assert_eq!(own, widened);
    assert!((own.near - 0.9 * 12.0).abs() < 1.0 && (own.far - 22.0).abs() < 0.1, "{own:?}");
}

#[test]
fn ground_that_only_neighbours_track_is_searched() {
    // 30 points lie some 0.2 apart: three within a tenth of their depth come later. (20, a twentieth of all, might be
    // strays.)
    for (count, most) in [(30, 4.8), (100, 3.8), (1000, 3.4)] {
        // In the photo, from its border on.
        let (own, widened) = ranges(&scene(ground(count, [3.3, 10.0], &[0, 1, 3, 4])));
        assert!(own.near > 10.0 && widened.near < most && widened.near >= 3.3, "{count}: {own:?} {widened:?}");
        assert_eq!(own.far, widened.far);
        // Beyond the border too: what continues there, a tenth of the side further down, is 2.67 away.
        let (_, widened) = ranges(&scene(ground(count, [2.5, 4.5], &[0, 1, 3, 4])));
        assert!((NEAREST / 1.2 - 1e-9..most).contains(&widened.near), "{count}: {widened:?}");
        // Only beyond the border, between which and the first point the photo shows ground.
        let (_, widened) = ranges(&scene(ground(count, [2.7, 3.1], &[0, 1, 3, 4])));
        assert!((2.7..NEAREST).contains(&widened.near), "{count}: {widened:?}");
        // Far below the border: the photo shows none of it.
        let (own, widened) = ranges(&scene(ground(count, [1.0, 2.5], &[0, 1, 3, 4])));
        assert_eq!(own, widened, "{count}");
    }
}

#[test]
fn what_lies_beside_the_views_own_points_is_searched_and_what_they_hide_is_not() {
    let behind = |x: f64, count: usize, views: &[usize]| -> Vec<ScenePoint> {
        let at = |i: usize| DVec3::new(x + 4.0 * spread(i, 0), 4.0 * spread(i, 1) - 6.0, 60.0 + 4.0 * spread(i, 2));
        (0..count).map(|i| ScenePoint { position: at(i), error: 0.3, views: views.to_vec() }).collect()
    };
    // The wall fills a fifth of the angle to the right of the axis; at 60, it ends 12 from it.
    let (own, widened) = ranges(&scene(behind(20.0, 100, &[0, 1, 3])));
    assert!(own.far < 23.0 && widened.far > 60.0 && widened.far < 64.0, "{own:?} {widened:?}");
    let (own, widened) = ranges(&scene(behind(0.0, 100, &[0, 1, 3])));
    assert_eq!(own, widened);
    // Beside the photo.
    let (own, widened) = ranges(&scene(behind(46.0, 100, &[3, 4, 4])));
    assert_eq!(own, widened);
    // Before the wall's points, which would then be hidden.
    let before = behind(0.0, 100, &[0, 1, 3]).into_iter().map(|p| ScenePoint { position: p.position / 9.0, ..p });
    let (own, widened) = ranges(&scene(before));
    assert_eq!(own, widened);
}

#[test]
fn nothing_is_widened_without_evidence() {
    let others = [0, 1, 3, 4];
    // Too few, tracked by two, by views that are no sources, or not where the views that track them look.
    // The last: in the middle view's photo beside its points and too many for strays, but not in the others'.
    let astray = |p: ScenePoint| ScenePoint { position: DVec3::new(0.25, 0.0, 0.5) + 0.01 * p.position, ..p };
    let cases: [(&str, Vec<ScenePoint>); 4] = [
        ("few", ground(2, [3.3, 3.4], &others)),
        ("two views", ground(100, [3.3, 10.0], &others[..2])),
        ("astray", ground(40, [3.3, 3.35], &others).into_iter().map(astray).collect()),
        (
            "one in a thousand",
            ground(4000, [12.0, 20.0], &others).into_iter().chain(ground(5, [3.3, 3.4], &others)).collect(),
        ),
    ];
    for (case, points) in cases {
        let (own, widened) = ranges(&scene(points));
        assert_eq!(own, widened, "{case}");
    }
    let scene = scene(ground(100, [3.3, 10.0], &[0, 1, 4]));
    let own = scene.tracks().point_depth_range(MIDDLE, 0.1).unwrap();
    assert_eq!(scene.tracks().widened_range(MIDDLE, &[3], own), own);
    assert_eq!(scene.tracks().widened_range(99, &[3], own), own);
}

#[test]
fn a_note_says_what_was_widened() {
    let options = InferOptions::default();
    let notes = |mut scene: Scene| plan(&mut scene, &options).unwrap().notes;
    let widened = |notes: &[String]| notes.iter().filter(|n| n.starts_with("depth ranges widened")).cloned().collect();
    let said: Vec<String> = widened(&notes(scene(ground(100, [3.3, 10.0], &[0, 1, 3, 4]))));
    assert_eq!(said.len(), 1);
    let start = "depth ranges widened to sparse points that neighbouring views track in a view's photo: nearer in \
                 1 view (most in view at 0: 11.";
    assert!(said[0].starts_with(start), "{said:?}");
    let said: Vec<String> = widened(&notes(scene([])));
    assert!(said.is_empty(), "{said:?}");
}
