//! From depth maps to the cloud, on scenes whose every depth, normal and visibility is known exactly, and against
//! plain loops in f64.

mod far;
mod fusion;
mod guard;
mod joint;
mod merge;
mod methods;
mod streaming;
mod thin;
mod tiles;

#[path = "../support/plain_loops.rs"]
mod plain_loops;
#[allow(dead_code)]
#[path = "../support/synthetic.rs"]
mod synthetic;

use engine::files::map::Map;
use engine::host::random::Random;
use engine::maps::consistency::{Agreement, DepthView, Thresholds, agreement, agreement_above};
use engine::maps::normals;
use engine::scene::camera::{Camera, DepthRange, PlaneSweep};
use glam::{DMat3, DVec3};
use synthetic::{Rendered, Surface, arc, ball_before_plane, neighbours, render, slanted_plane};

const WIDTH: usize = 96;
const HEIGHT: usize = 72;

fn rendered(surfaces: &[Surface], cameras: &[Camera]) -> Vec<Rendered> {
    cameras.iter().map(|camera| render(surfaces, *camera, WIDTH, HEIGHT)).collect()
}

fn compare(reference: (&Camera, &Map), sources: &[(&Camera, &Map)]) -> Agreement {
    let sure = |map: &Map| Map::filled(map.width, map.height, 1.0);
    let confidences: Vec<Map> = sources.iter().map(|(_, depth)| sure(depth)).collect();
    let views: Vec<DepthView> = sources
        .iter()
        .zip(&confidences)
        .map(|((camera, depth), confidence)| DepthView { camera: **camera, depth, confidence })
        .collect();
    let confidence = sure(reference.1);
    let reference = DepthView { camera: *reference.0, depth: reference.1, confidence: &confidence };
    agreement(&reference, &views.iter().collect::<Vec<_>>(), &Thresholds::default())
}

/// The four depths around the place where a point falls in a view, from the least to the greatest, and the point's.
fn depths_around(view: &Rendered, point: DVec3) -> Option<([f64; 4], f64)> {
    let [u, v, z] = plain_loops::pixel(&view.camera, point.to_array());
    if z <= 0.0 || u < 0.0 || v < 0.0 || u > (WIDTH - 1) as f64 || v > (HEIGHT - 1) as f64 {
        return None;
    }
    let (x, y) = ((u as usize).min(WIDTH - 2), (v as usize).min(HEIGHT - 2));
    let mut depths = [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)].map(|(x, y)| f64::from(view.depth.at(x, y)));
    depths.sort_by(f64::total_cmp);
    Some((depths, z))
}

/// Whether nothing hides the point and the four depths around it span less than 0.9 %: then their bilinear mixture is
/// within 0.9 % of the truth and the views must agree.
fn plainly_seen(view: &Rendered, surfaces: &[Surface], point: DVec3) -> bool {
    depths_around(view, point).is_some_and(|(depths, _)| depths[0] > 0.0 && depths[3] < 1.009 * depths[0])
        && !hidden(view, surfaces, point, 0.001)
}

/// Whether something hides the point, and all four depths around it are at least 3 % nearer.
fn plainly_hidden(view: &Rendered, surfaces: &[Surface], point: DVec3) -> bool {
    depths_around(view, point).is_some_and(|(depths, z)| depths[3] < 0.97 * z) && hidden(view, surfaces, point, 0.001)
}

/// Whether another surface stands before the point by more than this share of its distance.
fn hidden(view: &Rendered, surfaces: &[Surface], point: DVec3, share: f64) -> bool {
    let eye = view.camera.centre();
    let steps = 2000;
    // Walked, not solved: a ball is before the point if the way to it comes inside the ball.
    surfaces.iter().any(|surface| match surface {
        Surface::Plane { .. } => false,
        Surface::Sphere { centre, radius } => (0..steps)
            .map(|i| (1.0 - share) * i as f64 / steps as f64)
            .any(|s| (eye + (point - eye) * s - *centre).length() < *radius),
    })
}

#[test]
fn plane_sweep_sends_pixels_of_a_known_plane_to_the_right_source_pixels() {
    let cameras = arc(3, 30.0, 600.0, WIDTH, HEIGHT);
    let view = render(&slanted_plane(), cameras[0], WIDTH, HEIGHT);
    for source in &cameras[1..] {
        let sweep = PlaneSweep::new(&cameras[0], source);
        for (at, seen) in view.seen.iter().enumerate() {
            let Some((point, ..)) = seen else { continue };
            let (x, y, d) = ((at % WIDTH) as f32, (at / WIDTH) as f32, view.depth.data[at]);
            let q = [0, 1, 2].map(|i| {
                let [a, b, c] = sweep.a[i];
                d * (a * x + b * y + c) + sweep.b[i]
            });
            let [u, v, z] = plain_loops::pixel(source, point.to_array());
            // Terms of up to 1e5 in f32 (2^-24 of them each) over z of 600: below 1e-4 px; 1e-3 leaves a margin.
            assert!((f64::from(q[0] / q[2]) - u).abs() < 1e-3 && (f64::from(q[1] / q[2]) - v).abs() < 1e-3);
            assert!((f64::from(q[2]) - z).abs() < 1e-5 * z);
        }
    }
}

#[test]
fn cameras_project_and_unproject_like_plain_loops() {
    let mut random = Random::from_state(3);
    for camera in arc(5, 100.0, 600.0, WIDTH, HEIGHT) {
        for _ in 0..100 {
            let (u, v) = (100.0 * random.unit(), 80.0 * random.unit());
            let d = 300.0 + 500.0 * random.unit();
            let point = camera.unproject(u, v, d);
            let plain = DVec3::from_array(plain_loops::world(&camera, u, v, d));
            // f64 with numbers below 1e3 through a handful of products.
            assert!((point - plain).length() < 1e-9);
            let (pixel, depth) = camera.pixel(point).unwrap();
            assert!((pixel.x - u).abs() < 1e-9 && (pixel.y - v).abs() < 1e-9 && (depth - d).abs() < 1e-9);
        }
    }
}

#[test]
fn exact_maps_agree_where_seen_and_disagree_where_hidden() {
    let surfaces = ball_before_plane();
    let views = rendered(&surfaces, &arc(5, 40.0, 600.0, WIDTH, HEIGHT));
    let (reference, sources) = (&views[2], [&views[0], &views[1], &views[3], &views[4]]);
    for source in sources {
        let result = compare((&reference.camera, &reference.depth), &[(&source.camera, &source.depth)]);
        let (mut seen, mut hidden_pixels, mut inside) = (0, 0, 0);
        for (at, pixel) in reference.seen.iter().enumerate() {
            let Some((point, ..)) = *pixel else { continue };
            let [u, v, _] = plain_loops::pixel(&source.camera, point.to_array());
            inside += usize::from((0.0..95.0).contains(&u) && (0.0..71.0).contains(&v));
            if plainly_seen(source, &surfaces, point) {
                seen += 1;
                assert_eq!(result.count[at], 1, "pixel {at} is seen");
            } else if plainly_hidden(source, &surfaces, point) {
                hidden_pixels += 1;
                assert_eq!(result.count[at], 0, "pixel {at} is hidden");
                assert_eq!(result.depth.data[at], reference.depth.data[at]);
            }
        }
        // Nearly all pixels that fall inside the source are of one kind or the other.
        assert!(seen > inside * 3 / 4, "{seen} of {inside} seen");
        assert!(hidden_pixels > 20, "{hidden_pixels} hidden");
    }
}

#[test]
fn a_map_shifted_by_two_percent_agrees_nowhere() {
    let views = rendered(&slanted_plane(), &arc(5, 40.0, 600.0, WIDTH, HEIGHT));
    let sources: Vec<_> = [0, 1, 3, 4].map(|i| (&views[i].camera, &views[i].depth)).to_vec();
    for factor in [0.98f32, 1.02] {
        let mut shifted = views[2].depth.clone();
        shifted.data.iter_mut().for_each(|d| *d *= factor);
        let result = compare((&views[2].camera, &shifted), &sources);
        assert!(result.count.iter().all(|&n| n == 0), "factor {factor}");
        assert_eq!(result.depth, shifted);
    }
    // Unshifted, every pixel that falls inside a source agrees with it.
    let result = compare((&views[2].camera, &views[2].depth), &sources);
    assert!(result.count.iter().all(|&n| n >= 1));
    assert!(result.count.iter().filter(|&&n| n == 4).count() > WIDTH * HEIGHT / 2);
}

/// Depth maps with noise around the one percent, holes of every kind, and other sizes.
fn rough_maps(seed: u64, holes: f64) -> (Vec<Camera>, Vec<Map>) {
    let mut random = Random::from_state(seed);
    let cameras: Vec<Camera> = arc(5, 40.0, 600.0, WIDTH, HEIGHT)
        .into_iter()
        .enumerate()
        .map(|(i, camera)| if i % 2 == 1 { camera.decimated(0.7) } else { camera })
        .collect();
    let maps = cameras
        .iter()
        .enumerate()
        .map(|(i, camera)| {
            let (width, height) = if i % 2 == 1 { (67, 50) } else { (WIDTH, HEIGHT) };
            let mut map = render(&ball_before_plane(), *camera, width, height).depth;
            for value in &mut map.data {
                *value *= 1.0 + 0.01 * (random.unit() as f32 - 0.5);
                if random.unit() < holes {
                    *value = [0.0, -500.0, f32::NAN, f32::INFINITY][(random.unit() * 4.0) as usize];
                }
            }
            map
        })
        .collect();
    (cameras, maps)
}

#[test]
fn agreement_equals_plain_loops() {
    let (cameras, maps) = rough_maps(7, 0.05);
    let pairs: Vec<_> = cameras.iter().zip(&maps).collect();
    for reference in 0..pairs.len() {
        let sources: Vec<_> = pairs.iter().enumerate().filter(|(i, _)| *i != reference).map(|(_, p)| *p).collect();
        let result = compare(pairs[reference], &sources);
        let (counts, means) = plain_loops::agreement(pairs[reference], &sources, 1.0, 0.01);
        let by_count = (0..=4).map(|n| counts.iter().filter(|&&c| c == n).count()).collect::<Vec<_>>();
        assert!(by_count.iter().all(|&n| n > 50), "every count must occur: {by_count:?}");
        for at in 0..counts.len() {
            assert_eq!(usize::from(result.count[at]), counts[at], "view {reference}, pixel {at}");
            // Stored as f32: half a unit in the last place is 6e-8 of the value.
            assert!((f64::from(result.depth.data[at]) - means[at]).abs() <= 1e-7 * means[at]);
        }
    }
}

#[test]
fn only_confident_pixels_are_examined_where_asked() {
    let views = rendered(&slanted_plane(), &arc(3, 20.0, 600.0, WIDTH, HEIGHT));
    let mut confidence = Map::filled(WIDTH, HEIGHT, 0.95);
    confidence.data[..WIDTH].fill(0.8);
    confidence.data[WIDTH] = f32::NAN;
    let view = |i: usize| DepthView { camera: views[i].camera, depth: &views[i].depth, confidence: &confidence };
    let (reference, sources) = (view(1), [view(0), view(2)]);
    let sources: Vec<_> = sources.iter().collect();
    let all = agreement(&reference, &sources, &Thresholds::default());
    let some = agreement_above(&reference, &sources, &Thresholds::default(), 0.8);
    // A confidence of exactly 0.8 is not above 0.8.
    assert!(some.count[..=WIDTH].iter().all(|&n| n == 0) && some.depth.data[..=WIDTH].iter().all(|&d| d == 0.0));
    assert_eq!(some.count[WIDTH + 1..], all.count[WIDTH + 1..]);
    assert_eq!(some.depth.data[WIDTH + 1..], all.depth.data[WIDTH + 1..]);
    assert!(all.count[..=WIDTH].iter().any(|&n| n > 0));
}

#[test]
fn normals_of_a_plane_are_exact_and_do_not_cross_depth_edges() {
    let surfaces = ball_before_plane();
    for camera in arc(3, 40.0, 600.0, WIDTH, HEIGHT) {
        let view = render(&surfaces, camera, WIDTH, HEIGHT);
        let found = normals::from_depth(&camera, &view.depth);
        let mut beside_an_edge = 0;
        for (at, seen) in view.seen.iter().enumerate() {
            let normal = glam::Vec3::from(found[at]).as_dvec3();
            let Some((point, surface, exact)) = *seen else {
                assert_eq!(found[at], [0.0; 3]);
                continue;
            };
            assert!((normal.length() - 1.0).abs() < 1e-6 && normal.dot(camera.centre() - point) > 0.0);
            let (x, y) = (at % WIDTH, at / WIDTH);
            let same = |x: usize, y: usize| {
                x < WIDTH && y < HEIGHT && view.seen[y * WIDTH + x].is_some_and(|(_, s, _)| s == surface)
            };
            let [left, right, above, below] =
                [same(x.wrapping_sub(1), y), same(x + 1, y), same(x, y.wrapping_sub(1)), same(x, y + 1)];
            if surface == 0 && (left || right) && (above || below) {
                beside_an_edge += usize::from(!(left && right && above && below));
                // Depth rounded to f32 (6e-8) through a difference over one pixel of 1 / 115 rad: about 1e-5.
                assert!((normal - exact).length() < 1e-3, "plane at {x}, {y}: {normal} instead of {exact}");
            }
            // The ball's radius is 18 pixels. Seen at an angle whose cosine is above 0.8, two-sided differences are off
            // by the third derivative: 0.9 / 18^2 of slope. Up to 0.5 they may be one-sided, off by half a pixel of
            // the second: 4 / 18 of slope, which turns a normal at slope 1.7 by a quarter of that.
            let cosine = exact.dot((camera.centre() - point).normalize());
            let bound = if cosine > 0.8 { 0.01 } else { 0.06 };
            if surface == 1 && cosine > 0.5 {
                assert!((normal - exact).length() < bound, "ball at {x}, {y}: {normal} instead of {exact}");
            }
        }
        assert!(beside_an_edge > 100);
    }
    // A single pixel with depth and no neighbours faces the camera.
    let mut alone = Map::filled(5, 5, f32::NAN);
    alone.data[12] = 2.0;
    let camera = arc(1, 0.0, 5.0, 5, 5)[0];
    let normal = glam::Vec3::from(normals::from_depth(&camera, &alone)[12]).as_dvec3();
    assert!(normal.dot(camera.centre().normalize()) > 0.99);
}

fn in_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
