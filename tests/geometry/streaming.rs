//! Views that stay on disk make the cloud that they make in memory, bit for bit, however little of them is held.

use engine::fusion::fuse::fuse;
use engine::fusion::settings::{Dynamic, FusionOptions, Guard, Method, Reprojection};
use engine::fusion::spilled::{Budget, Spilling};
use engine::fusion::view::{Fused, FusionView};

use super::fusion::{fusion_views, rough_views};
use super::*;

/// From next to nothing to everything. With windows of 0 bytes each point is heard alone.
const BUDGETS: [Budget; 4] = [
    Budget { depths: 0, windows: 0, pixels: 1 },
    Budget { depths: 100_000, windows: 20_000, pixels: 1000 },
    Budget { depths: 200_000, windows: 300_000, pixels: 1500 },
    Budget { depths: u64::MAX, windows: u64::MAX, pixels: usize::MAX },
];

fn streamed(views: &[FusionView], options: &FusionOptions, (budget, at_once): (Budget, usize)) -> Fused {
    let folder = tempfile::tempdir().unwrap();
    let mut spilling = Spilling::new(folder.path(), options).unwrap();
    for some in views.chunks(at_once) {
        spilling.add(some.to_vec()).unwrap();
    }
    let pixels: usize = views.iter().map(|view| view.depth.data.len()).sum();
    assert_eq!(spilling.bytes(), 11 * pixels as u64);
    let mut points = Vec::new();
    let mut keep = |some: Vec<_>| {
        points.extend(some);
        Ok(())
    };
    let funnels = spilling.finish(budget).unwrap().fuse(&mut keep).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "scratch files have no names");
    Fused { points, funnels }
}

#[track_caller]
fn assert_same(views: &[FusionView], options: &FusionOptions, least_points: usize) {
    let held = fuse(views, options).unwrap();
    assert!(held.points.len() > least_points, "{} points", held.points.len());
    for (budget, at_once) in BUDGETS.into_iter().zip([1, 2, 3, 100]) {
        let found = streamed(views, options, (budget, at_once));
        assert!(found.points == held.points, "{budget:?}: {} and {}", found.points.len(), held.points.len());
        assert_eq!(found.funnels, held.funnels, "{budget:?}");
    }
}

/// Views of a ball before a plane: of several sizes, turned by a quarter, with noise, holes, specks and values that are
/// none.
pub fn spoilt_views() -> Vec<FusionView> {
    let surfaces = ball_before_plane();
    let mut views = fusion_views(&surfaces, 9, 60.0, 4);
    let mut random = Random::from_state(7);
    for (at, view) in views.iter_mut().enumerate() {
        let (mut camera, mut width, mut height) = (view.camera, WIDTH, HEIGHT);
        if at % 4 == 1 {
            // A quarter turn about the viewing axis, with the sides changed.
            let turn = DMat3::from_cols(DVec3::Y, -DVec3::X, DVec3::Z);
            let [fx, fy, cx, cy] = [camera.k.x_axis.x, camera.k.y_axis.y, camera.k.z_axis.x, camera.k.z_axis.y];
            let last = (height - 1) as f64;
            camera.k = DMat3::from_cols(DVec3::X * fy, DVec3::Y * fx, DVec3::new(last - cy, cx, 1.0));
            (camera.r, camera.t) = (turn * camera.r, turn * camera.t);
            (width, height) = (height, width);
        } else if at % 3 == 2 {
            (camera, width, height) = (camera.decimated(0.5), WIDTH.div_ceil(2), HEIGHT.div_ceil(2));
        }
        // The first views agree on a ball that is not there; the others see through it.
        let ghost = Surface::Sphere { centre: DVec3::new(-70.0, 30.0, -160.0), radius: 30.0 };
        let shown = [&surfaces[..], if at < 4 { std::slice::from_ref(&ghost) } else { &[] }].concat();
        let seen = render(&shown, camera, width, height);
        (view.camera, view.depth, view.colour) = (seen.camera, seen.depth, seen.colour);
        view.confidence = Map::filled(width, height, 0.0);
        for (depth, confidence) in view.depth.data.iter_mut().zip(&mut view.confidence.data) {
            *depth *= 1.0 + 0.004 * (random.unit() - 0.5) as f32;
            *confidence = random.unit().powf(0.1) as f32;
            match random.below(200) {
                0 => *depth = 0.0,
                1 => *confidence = f32::NAN,
                2 => *depth = 3e38,
                3 | 4 => *depth *= 0.7,
                _ => {}
            }
        }
    }
    views
}

#[test]
fn clouds_of_views_on_disk_are_those_of_views_in_memory() {
    let views = spoilt_views();
    let reprojection = |constants| FusionOptions::reprojection(0.6, constants);
    let default = Reprojection::default();
    let specks = |min_segment_px| Guard { min_segment_px, ..Guard::default() };
    assert_same(&views, &reprojection(default), 3000);
    assert_same(&views, &reprojection(Reprojection { guard: specks(3000.0), ..default }), 1000);
    assert_same(&views, &reprojection(Reprojection { guard: Guard::OFF, ..default }), 3000);
    assert_same(&views, &reprojection(Reprojection { keep_duplicates: true, ..default }), 10_000);
    assert_same(&views, &FusionOptions { min_confidence: 0.5, method: Method::Dynamic(Dynamic::default()) }, 1000);
    // What the guard asks has an effect here, so that equal clouds say something.
    let funnels = fuse(&views, &reprojection(default)).unwrap().funnels;
    let dropped: usize = funnels.iter().map(|funnel| funnel.dropped_by_guard()).sum();
    assert!(dropped > 50 && funnels.iter().any(|funnel| funnel.specks > 0), "{dropped}");
    assert!(funnels.iter().map(|funnel| funnel.duplicates).sum::<usize>() > 1000);
}

#[test]
fn clouds_of_rough_views_with_any_sources_are_those_of_views_in_memory() {
    for seed in [11, 23, 31] {
        assert_same(&rough_views(seed), &FusionOptions { min_confidence: 0.3, ..FusionOptions::default() }, 500);
    }
}

#[test]
fn clouds_of_views_far_away_are_those_of_views_in_memory() {
    for offset in [DVec3::new(448_262.3, 5_411_932.1, 320.7), DVec3::new(-1e7, 6e6, 0.4)] {
        let mut views = spoilt_views();
        views.iter_mut().for_each(|view| view.camera.t -= view.camera.r * offset);
        assert_same(&views, &FusionOptions { min_confidence: 0.6, ..FusionOptions::default() }, 3000);
    }
}

#[test]
fn what_is_made_does_not_depend_on_the_number_of_threads() {
    let views = spoilt_views();
    let options = FusionOptions { min_confidence: 0.6, ..FusionOptions::default() };
    let [one, three] = [1, 3].map(|n| in_threads(n, || streamed(&views, &options, (BUDGETS[1], 2))));
    assert!(one.points == three.points && one.funnels == three.funnels);
}

#[test]
fn views_and_methods_that_cannot_be_put_aside_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let graph = FusionOptions { method: Method::all()[4], ..FusionOptions::default() };
    let message = Spilling::new(folder.path(), &graph).err().unwrap().to_string();
    assert_eq!(message, "fusion::spilled: the method graph needs all maps in memory");
    let mut views = spoilt_views();
    views[2].colour.pop();
    let options = FusionOptions::default();
    let message = Spilling::new(folder.path(), &options).unwrap().add(views.clone()).unwrap_err().to_string();
    assert!(message.starts_with("fusion::fuse: view view2: a depth map of 48 x 36, "), "{message}");
    views[2].colour.push([0; 3]);
    views[3].sources = vec![3];
    let mut spilling = Spilling::new(folder.path(), &options).unwrap();
    spilling.add(views).unwrap();
    let message = spilling.finish(BUDGETS[0]).err().unwrap().to_string();
    assert_eq!(message, "fusion::fuse: view view3: source 3 is not another of the 9 views");
}
