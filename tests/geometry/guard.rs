//! What is asked of a pixel beside agreement, on scenes where it is known who is right: views at one place, floaters
//! before a wall, walls that face every camera, specks, and one photo of other colours.

use engine::fusion::funnel::{Funnel, explain};
use engine::fusion::fuse::fuse;
use engine::fusion::settings::{FusionOptions, Guard, Reprojection};
use engine::fusion::view::{Fused, FusionView};
use engine::maps::segments::{least_pixels, segments, without_small};

use super::*;

/// The distance of the cameras from the world's origin.
const DISTANCE: f64 = 600.0;

/// A view of surfaces, with all others as sources.
fn view(at: usize, count: usize, camera: Camera, surfaces: &[Surface], (width, height): (usize, usize)) -> FusionView {
    let Rendered { camera, depth, colour, .. } = render(surfaces, camera, width, height);
    FusionView {
        name: format!("view{at}"),
        camera,
        confidence: Map::filled(width, height, 0.9),
        depth,
        colour,
        range: DepthRange { near: 100.0, far: 2000.0 },
        sources: (0..count).filter(|&other| other != at).collect(),
        levels: Vec::new(),
    }
}

fn views_of(cameras: &[Camera], surfaces: &[Surface]) -> Vec<FusionView> {
    let of = |(at, camera): (usize, &Camera)| view(at, cameras.len(), *camera, surfaces, (WIDTH, HEIGHT));
    cameras.iter().enumerate().map(of).collect()
}

fn fused(views: &[FusionView], min_views: usize, guard: Guard) -> Fused {
    let thresholds = Thresholds { min_views, ..Thresholds::default() };
    let constants = Reprojection { thresholds, guard, ..Reprojection::default() };
    fuse(views, &FusionOptions::reprojection(0.5, constants)).unwrap()
}

/// Cameras at these angles on an arc of one height.
fn cameras_at(degrees: &[f64]) -> Vec<Camera> {
    let one = |degrees: &f64| {
        let turn = DMat3::from_rotation_y(degrees.to_radians());
        let straight = arc(1, 0.0, DISTANCE, WIDTH, HEIGHT)[0];
        Camera { r: straight.r * turn, ..straight }
    };
    degrees.iter().map(one).collect()
}

#[test]
fn views_at_one_place_do_not_confirm_each_other() {
    // The third view, well apart, has no depth. The plane goes through the point that the cameras turn about, so the
    // angle at its points is theirs, times distance over depth: 0.6 to 1.7 of it.
    for (degrees, apart) in [(0.0, false), (0.1, false), (0.3, false), (0.55, false), (1.8, true), (5.0, true)] {
        let mut views = views_of(&cameras_at(&[0.0, degrees, 20.0]), &slanted_plane());
        views[2].depth.data.fill(0.0);
        let all = fused(&views, 1, Guard { min_angle_deg: 0.0, ..Guard::default() });
        let some = fused(&views, 1, Guard::default());
        let total = Funnel::sum(&some.funnels);
        assert!(all.points.len() > WIDTH * HEIGHT / 2 && total.kept > all.points.len());
        if apart {
            assert_eq!((some.points.len(), total.one_place), (all.points.len(), 0), "{degrees}");
        } else {
            assert_eq!((some.points.len(), total.one_place), (0, total.kept), "{degrees}");
            let why = explain(&some.funnels, &FusionOptions::default()).unwrap();
            assert!(why.starts_with("100 % of the confirmed pixels are confirmed from one place only: "), "{why}");
        }
    }
}

#[test]
fn views_of_one_place_count_once_together_and_all_places_do_where_there_are_fewer() {
    // A walk with a camera: three places, 0.1 degrees between the photos of one.
    let degrees = [0.0, 0.1, 0.2, 10.0, 10.1, 10.2, 20.0, 20.1, 20.2];
    let mut views = views_of(&cameras_at(&degrees), &slanted_plane());
    // Two other places are all that there are, of the three that are asked for.
    let three = fused(&views, 3, Guard::default());
    assert!(three.points.len() > WIDTH * HEIGHT);
    assert!(three.points.iter().any(|point| point.views == 3) && three.points.iter().all(|point| point.views <= 3));
    // Where one of them has no depths, two views of the same place are still one: less than the two places there are.
    views[6..].iter_mut().for_each(|view| view.depth.data.fill(f32::NAN));
    let total = Funnel::sum(&fused(&views, 2, Guard::default()).funnels);
    assert!(total.kept > WIDTH * HEIGHT && total.one_place == total.kept, "{total:?}");
    // Where one place is enough, only what the other place does not look at lacks it.
    let total = Funnel::sum(&fused(&views, 1, Guard::default()).funnels);
    assert!(total.fused > WIDTH * HEIGHT / 2 && total.one_place < total.kept / 10, "{total:?}");
    // More than ten times the angle between the places: nothing is apart.
    let wide = Guard { min_angle_deg: 45.0, ..Guard::default() };
    assert!(fused(&views, 1, wide).points.is_empty());
}

/// Whether view `at` of `count` is one of four that are spread evenly among them.
fn is_one_of_four(at: usize, count: usize) -> bool {
    4 * at / count < 4 * (at + 1) / count
}

/// Four views of some surfaces, and between them views of others with a confidence of their own.
fn disagreeing(four: &[Surface], others: &[Surface], more: usize, confidence: f32) -> Vec<FusionView> {
    let cameras = arc(4 + more, 40.0, DISTANCE, WIDTH, HEIGHT);
    let of = |(at, camera): (usize, &Camera)| {
        let is_of_four = is_one_of_four(at, cameras.len());
        let surfaces = if is_of_four { four } else { others };
        let mut view = view(at, cameras.len(), *camera, surfaces, (WIDTH, HEIGHT));
        if !is_of_four {
            view.confidence.data.fill(confidence);
        }
        view
    };
    cameras.iter().enumerate().map(of).collect()
}

/// Points within a distance of the world's axis that lie on a surface.
fn points_on(fused: &Fused, surface: &Surface, within: f64) -> usize {
    let is_on = |point: &&engine::files::ply::Point| {
        let position = DVec3::from(point.position);
        position.truncate().length() < within && surface.distance(position) < 1.0
    };
    fused.points.iter().filter(is_on).count()
}

#[test]
fn what_enough_others_see_through_goes() {
    // A ball before the wall that only four views know.
    let ball = Surface::Sphere { centre: DVec3::new(0.0, 0.0, -150.0), radius: 30.0 };
    let wall = Surface::Plane { point: DVec3::new(0.0, 0.0, 100.0), normal: DVec3::new(0.1, 0.1, -1.0) };
    let off = Guard { see_through_factor: 0.0, ..Guard::default() };
    for through in 0..=5 {
        for confidence in [0.1, 0.5, 0.8] {
            let views = disagreeing(&[wall, ball], &[wall], through, confidence);
            let (with, without) = (fused(&views, 2, Guard::default()), fused(&views, 2, off));
            let [left, all] = [&with, &without].map(|fused| points_on(fused, &ball, 60.0));
            assert!(all > 100, "{all}");
            // Four confirm with 0.9 each.
            if through as f64 * f64::from(confidence) > 0.5 * 4.0 * 0.9 {
                assert_eq!(left, 0, "{through} with {confidence}");
            } else {
                // Towards its rim fewer than four see the ball.
                assert!(10 * left > 6 * all, "{through} with {confidence}: {left} of {all}");
            }
            // The wall is hidden by the ball from four views: that does not speak against it.
            let [left, all] = [&with, &without].map(|fused| points_on(fused, &wall, 200.0));
            assert!(left >= all, "{left} of {all} on the wall");
            assert_eq!(Funnel::sum(&without.funnels).seen_through, 0);
        }
    }
}

#[test]
fn seeing_through_begins_beyond_the_tolerance_times_the_factor() {
    let normal = DVec3::new(0.0, -0.1, -1.0);
    let far = Surface::Plane { point: DVec3::ZERO, normal };
    // Cameras are 0.9 to 1 of DISTANCE from the plane, so the gap is that much wider, as a share of the depth.
    for (gap, factor, is_clear) in [
        (0.003, 1.0, false),
        (0.008, 1.0, false),
        (0.013, 1.0, true),
        (0.05, 1.0, true),
        (0.013, 2.0, false),
        (0.025, 2.0, true),
        (0.05, 6.0, false),
        (0.07, 6.0, true),
    ] {
        let near = Surface::Plane { point: DVec3::new(0.0, 0.0, -gap * DISTANCE), normal };
        let views = disagreeing(&[near], &[far], 3, 0.9);
        let guard = Guard { see_through_factor: factor, ..Guard::default() };
        let result = fused(&views, 2, guard);
        let seen_through = Funnel::sum(&result.funnels).seen_through;
        assert_eq!(seen_through > 1000, is_clear, "{gap} {factor}: {seen_through}");
        assert_eq!(seen_through > 0, is_clear, "{gap} {factor}: {seen_through}");
        // The means of views that agree within the tolerance lie between the planes.
        if gap > 0.01 {
            assert_eq!(points_on(&result, &near, 100.0) == 0, is_clear, "{gap} {factor}");
            assert!(points_on(&result, &far, 100.0) > 1000, "{gap} {factor}");
        }
    }
}

/// The camera with a longer focal length.
fn zoomed(camera: Camera, times: f64) -> Camera {
    let mut k = camera.k;
    (k.x_axis.x, k.y_axis.y) = (k.x_axis.x * times, k.y_axis.y * times);
    Camera { k, ..camera }
}

/// Pixels that a point moves by in the middling one of a view's sources, where its depth changes by a share.
fn moved_px(views: &[FusionView], at: usize, point: DVec3, share: f64) -> f64 {
    let centre = views[at].camera.centre();
    let behind = centre + (point - centre) * (1.0 + share);
    let moved = |&source: &usize| {
        let Camera { k, r, t } = views[source].camera;
        let [from, to] = [point, behind].map(|x| k * (r * x + t)).map(|q| q.truncate() / q.z);
        (to - from).length()
    };
    let mut moved: Vec<f64> = views[at].sources.iter().map(moved).collect();
    moved.sort_by(f64::total_cmp);
    moved[moved.len() / 2]
}

#[test]
fn views_tell_depths_apart_to_a_pixel_of_their_sources() {
    // Two planes nearer to each other than the tolerance, each known to some views, which hear of the other from no
    // source. With longer focal lengths the gap is more pixels wide.
    let normal = DVec3::new(0.0, -0.1, -1.0);
    for (zoom, gap) in [(1.0, 0.008), (5.0, 0.004), (20.0, 0.002), (20.0, 0.008)] {
        let near = Surface::Plane { point: DVec3::new(0.0, 0.0, -gap * DISTANCE), normal };
        let far = Surface::Plane { point: DVec3::ZERO, normal };
        let cameras: Vec<Camera> =
            arc(7, 40.0, DISTANCE, WIDTH, HEIGHT).into_iter().map(|camera| zoomed(camera, zoom)).collect();
        let of = |(at, camera): (usize, &Camera)| {
            let knows_near = is_one_of_four(at, 7);
            let surface = if knows_near { near } else { far };
            let mut view = view(at, 7, *camera, &[surface], (WIDTH, HEIGHT));
            view.sources.retain(|&source| is_one_of_four(source, 7) == knows_near);
            view
        };
        let views: Vec<FusionView> = cameras.iter().enumerate().map(of).collect();
        let point = DVec3::new(0.0, 0.0, -gap * DISTANCE);
        let witnesses = (0..7).filter(|&at| !is_one_of_four(at, 7));
        let px: Vec<f64> = witnesses.map(|at| moved_px(&views, at, point, gap)).collect();
        let [least, most] = [px.iter().copied().fold(f64::INFINITY, f64::min), px.iter().copied().fold(0.0, f64::max)];
        // All three must tell. Away from the axis the gap is more or fewer pixels wide.
        for (limit, is_told) in [(least / 1.3, true), (1.3 * most, false), (0.0, false)] {
            let guard = Guard { max_depth_error_px: limit, ..Guard::default() };
            let thresholds = Thresholds { min_views: 2, ..Thresholds::default() };
            // Points of one plane explain pixels of the other, by the share of the depth.
            let constants = Reprojection { thresholds, guard, keep_duplicates: true };
            let result = fuse(&views, &FusionOptions::reprojection(0.5, constants)).unwrap();
            assert_eq!(points_on(&result, &near, 40.0 / zoom) == 0, is_told, "{zoom} {gap} {limit}");
        }
    }
}

#[test]
fn a_surface_that_faces_every_camera_is_none() {
    // Each view sees a wall at its own right angle, all through the point that the cameras turn about: there they
    // agree, but no surface has all these normals. An odd size puts that point on a pixel.
    let (width, height) = (WIDTH + 1, HEIGHT + 1);
    let at_the_centre = |step: f64, guard: Guard| {
        let cameras = arc(4, 3.0 * step, DISTANCE, width, height);
        let facing = |(at, camera): (usize, &Camera)| {
            let wall = Surface::Plane { point: DVec3::ZERO, normal: camera.centre() };
            view(at, cameras.len(), *camera, &[wall], (width, height))
        };
        let views: Vec<FusionView> = cameras.iter().enumerate().map(facing).collect();
        let result = fused(&views, 3, guard);
        let centre = |p: &engine::files::ply::Point| DVec3::from(p.position).length() < 1.0;
        (result.points.iter().any(centre), Funnel::sum(&result.funnels).disputed)
    };
    let off = Guard { max_normal_deg: 180.0, ..Guard::default() };
    for step in [5.0, 15.0, 25.0, 28.0, 33.0, 36.0, 40.0] {
        assert_eq!(at_the_centre(step, off), (true, 0), "{step}");
        // Of three others, two are more than 60 degrees away for the views at either end; those in the middle have
        // two neighbours and one that is twice as far.
        let (found, disputed) = at_the_centre(step, Guard::default());
        assert!(found, "{step}: the middle views' own");
        assert_eq!(disputed > 0, 2.0 * step > 60.0, "{step}: {disputed}");
        let strict = Guard { max_normal_deg: 0.9 * step, ..Guard::default() };
        assert!(!at_the_centre(step, strict).0, "{step}: none is within the angle of most others");
    }
}

/// A wall at a steep slant with a patch of pixels moved along their rays.
fn with_patch(patch: &[(usize, usize)], moved: f64) -> Map {
    let slant = [Surface::Plane { point: DVec3::ZERO, normal: DVec3::new(1.8, 0.4, -1.0) }];
    let mut map = render(&slant, arc(1, 0.0, DISTANCE, WIDTH, HEIGHT)[0], WIDTH, HEIGHT).depth;
    patch.iter().for_each(|&(x, y)| map.data[y * WIDTH + x] *= 1.0 + moved as f32);
    map
}

#[test]
fn small_segments_go_and_slanted_planes_hold_together() {
    // Neighbours on this wall differ by more than the tolerance.
    let wall = with_patch(&[], 0.0);
    let steps = wall.data.windows(2).map(|d| (d[1] / d[0] - 1.0).abs());
    assert!(steps.fold(0.0, f32::max) > 0.02);
    assert_eq!(segments(&wall, 0.01).1, [(WIDTH * HEIGHT) as u32]);
    for (left, top) in [(0, 0), (40, 30), (WIDTH - 8, HEIGHT - 8), (0, 35)] {
        for side in 1..=6 {
            let patch: Vec<(usize, usize)> =
                (0..side * side).map(|i| (left + 2 + i % side, top + 2 + i / side)).collect();
            for moved in [-0.5, -0.2, 0.003, 0.2, 0.9] {
                let map = with_patch(&patch, moved);
                let found = without_small(&map, 0.01, 16.0);
                if moved.abs() < 0.01 || side * side >= 16 {
                    assert!(found.is_none(), "{side} x {side} at {left}, {top}, moved by {moved}");
                    continue;
                }
                let found = found.unwrap();
                for (at, (before, after)) in map.data.iter().zip(&found.data).enumerate() {
                    let is_patch = patch.contains(&(at % WIDTH, at / WIDTH));
                    assert_eq!(*after, if is_patch { 0.0 } else { *before }, "{side} x {side}, moved by {moved}");
                }
            }
        }
    }
    // What is no depth belongs to no segment; pixels that touch at a corner are one, across a gap two.
    let row = |depths: [f32; 9]| segments(&Map { width: 3, height: 3, data: depths.to_vec() }, 0.01);
    let none = u32::MAX;
    let (holes, sizes) = row([5.0, f32::NAN, 5.0, 0.0, 5.0, -1.0, f32::INFINITY, f32::NAN, 5.0]);
    assert_eq!((holes, sizes), (vec![0, none, 0, none, 0, none, none, none, 0], vec![4]));
    let (holes, sizes) = row([5.0, f32::NAN, 5.0, 5.0, 0.0, 5.0, 9.0, 9.0, 9.0]);
    assert_eq!((holes, sizes), (vec![0, none, 1, 0, none, 1, 2, 2, 2], vec![2, 2, 3]));
    assert_eq!(segments(&Map::filled(0, 0, 0.0), 0.01), (vec![], vec![]));
    // Half as many in a quarter of the pixels.
    assert_eq!((least_pixels(100.0, 1_000_000), least_pixels(100.0, 250_000)), (100.0, 50.0));
}

#[test]
fn specks_neither_make_points_nor_confirm_any() {
    // The same ball, 7 pixels across, in all views; a thousand pixels of a million are 83 of these maps.
    let ball = Surface::Sphere { centre: DVec3::new(0.0, 0.0, -100.0), radius: 15.0 };
    let wall = Surface::Plane { point: DVec3::new(0.0, 0.0, 100.0), normal: DVec3::new(0.1, 0.1, -1.0) };
    let views = views_of(&arc(5, 30.0, DISTANCE, WIDTH, HEIGHT), &[wall, ball]);
    let on_ball = |min_segment_px: f64| {
        let result = fused(&views, 3, Guard { min_segment_px, ..Guard::default() });
        (points_on(&result, &ball, 60.0), Funnel::sum(&result.funnels))
    };
    let (kept, before) = on_ball(0.0);
    assert!(kept > 5 && before.specks == 0, "{kept}");
    let (left, after) = on_ball(1000.0);
    assert_eq!((left, after.in_range), (0, before.in_range));
    // 38 pixels in each of five views, give or take its rim.
    assert!((150..230).contains(&after.specks) && after.confident == before.confident - after.specks, "{after:?}");
}

#[test]
fn colours_are_of_all_views_but_those_that_show_something_else() {
    let plane = slanted_plane();
    let cameras = arc(5, 20.0, DISTANCE, WIDTH, HEIGHT);
    let error = |fused: &Fused| {
        let off = |point: &engine::files::ply::Point| {
            let exact = synthetic::texture(DVec3::from(point.position), 0);
            let each = point.colour.iter().zip(exact).map(|(found, exact)| (f64::from(*found) - 255.0 * exact).abs());
            each.fold(0.0, f64::max)
        };
        fused.points.iter().map(off).fold(0.0, f64::max)
    };
    let own = Guard { mean_colour: false, ..Guard::default() };
    for wrong in 0..5 {
        let mut views = views_of(&cameras, &plane);
        views[wrong].colour.iter_mut().for_each(|colour| *colour = colour.map(|level| level.wrapping_add(128)));
        // Every colour of one view is far off, and the first view is the one that most points are from.
        assert!(wrong > 0 || error(&fused(&views, 3, own)) > 100.0);
        // Bilinear colours of a wave of 64 levels and 0.13 rad a unit of length, in pixels of up to 7 units: off by 64
        // (0.13 x 7)^2 / 8 along either axis, 13. The reference among four or five has none of that.
        let largest = error(&fused(&views, 3, Guard::default()));
        assert!(largest < 10.5, "view {wrong}: {largest}");
    }
}
