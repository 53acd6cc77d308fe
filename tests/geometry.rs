//! From depth maps to the cloud, on scenes whose every depth, normal and visibility is known exactly, and against
//! plain loops in f64.

#[path = "support/plain_loops.rs"]
mod plain_loops;
#[allow(dead_code)]
#[path = "support/synthetic.rs"]
mod synthetic;

use engine::camera::{Camera, DepthRange, PlaneSweep};
use engine::consistency::{Agreement, DepthView, Thresholds, agreement, agreement_above};
use engine::fusion::{self, Funnel, Fused, FusionOptions, FusionView};
use engine::map::Map;
use engine::normals;
use engine::pyramid::{LevelMaps, MergeOptions, merge_level};
use glam::{DMat3, DVec3};
use plain_loops::Random;
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
    let mut depths =
        [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)].map(|(x, y)| f64::from(view.depth.at(x, y)));
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
    depths_around(view, point).is_some_and(|(depths, z)| depths[3] < 0.97 * z)
        && hidden(view, surfaces, point, 0.001)
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
    let mut random = Random(3);
    for camera in arc(5, 100.0, 600.0, WIDTH, HEIGHT) {
        for _ in 0..100 {
            let (u, v) = (100.0 * random.uniform(), 80.0 * random.uniform());
            let d = 300.0 + 500.0 * random.uniform();
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
    let mut random = Random(seed);
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
                *value *= 1.0 + 0.01 * (random.uniform() as f32 - 0.5);
                if random.uniform() < holes {
                    *value = [0.0, -500.0, f32::NAN, f32::INFINITY][(random.uniform() * 4.0) as usize];
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
        let sources: Vec<_> =
            pairs.iter().enumerate().filter(|(i, _)| *i != reference).map(|(_, p)| *p).collect();
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
    let view =
        |i: usize| DepthView { camera: views[i].camera, depth: &views[i].depth, confidence: &confidence };
    let (reference, sources) = (view(1), [view(0), view(2)]);
    let sources: Vec<_> = sources.iter().collect();
    let all = agreement(&reference, &sources, &Thresholds::default());
    let some = agreement_above(&reference, &sources, &Thresholds::default(), 0.8);
    // A confidence of exactly 0.8 is not above 0.8.
    assert!(
        some.count[..=WIDTH].iter().all(|&n| n == 0) && some.depth.data[..=WIDTH].iter().all(|&d| d == 0.0)
    );
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

const ANY_RANGE: DepthRange = DepthRange { near: 100.0, far: 2000.0 };

fn fusion_views(surfaces: &[Surface], count: usize, degrees: f64, most_sources: usize) -> Vec<FusionView> {
    let views = rendered(surfaces, &arc(count, degrees, 600.0, WIDTH, HEIGHT));
    let view = |(i, (view, sources)): (usize, (Rendered, Vec<usize>))| FusionView {
        name: format!("view{i}"),
        camera: view.camera,
        confidence: Map::filled(WIDTH, HEIGHT, 0.95),
        depth: view.depth,
        colour: view.colour,
        range: ANY_RANGE,
        sources,
    };
    views.into_iter().zip(neighbours(count, most_sources)).enumerate().map(view).collect()
}

#[test]
fn fused_points_lie_on_the_surfaces_with_their_colours_and_normals() {
    let surfaces = ball_before_plane();
    let views = fusion_views(&surfaces, 7, 40.0, 4);
    let fused = fusion::fuse(&views, &FusionOptions::default()).unwrap();
    assert!(fused.points.len() > WIDTH * HEIGHT);
    let mut distances: Vec<f64> = Vec::new();
    for point in &fused.points {
        let position = glam::Vec3::from(point.position).as_dvec3();
        let [on_plane, on_ball] = surfaces.map(|s| s.distance(position));
        let (nearest, distance) = if on_ball < on_plane { (1, on_ball) } else { (0, on_plane) };
        // A mean with depths that may be 1 % off, the own one among four at least exact: below 0.75 % of 800.
        assert!(distance < 6.0, "{position} lies {distance} off");
        distances.push(distance);
        assert!((4..=5).contains(&point.views) && point.confidence == 0.95);
        // Away from the ball's rim, where a small step along the ray does not slip far over the surface.
        let normal = glam::Vec3::from(point.normal).as_dvec3();
        let exact = surfaces[nearest].normal(position, DVec3::new(0.0, 0.0, -600.0));
        if distance < 0.05 && exact.z < -0.9 {
            let expected = synthetic::texture(position, nearest);
            // The texture changes by at most 7.5 of 255 a unit of length; the slip is below 0.1; rounding adds 0.5.
            for (found, expected) in point.colour.iter().zip(expected) {
                assert!((f64::from(*found) - 255.0 * expected).abs() < 2.0);
            }
            // Within 26 degrees of the arc's axis, so well within 60 of the view's: the bound of the test of normals.
            let bound = if nearest == 0 { 1e-3 } else { 0.06 };
            assert!((normal - exact).length() < bound, "{normal} instead of {exact}");
        }
    }
    distances.sort_by(f64::total_cmp);
    // Bilinear depth on a slanted plane is off by second differences only: 1e-5 of 600.
    let median = distances[distances.len() / 2];
    assert!(median < 0.02, "median distance {median}");
}

#[test]
fn every_well_seen_part_of_the_surface_is_emitted_about_once() {
    let surfaces = ball_before_plane();
    let views = fusion_views(&surfaces, 7, 40.0, 4);
    let truth = rendered(&surfaces, &arc(7, 40.0, 600.0, WIDTH, HEIGHT));
    // How many points fall on each pixel of the middle view, at its depth.
    let per_pixel = |fused: &Fused| {
        let mut hits = vec![0usize; WIDTH * HEIGHT];
        for point in &fused.points {
            let [u, v, z] = plain_loops::pixel(&views[3].camera, point.position.map(f64::from));
            let (x, y) = (u.round(), v.round());
            if (0.0..96.0).contains(&x) && (0.0..72.0).contains(&y) {
                let at = y as usize * WIDTH + x as usize;
                hits[at] += usize::from((z - f64::from(views[3].depth.data[at])).abs() < 0.01 * z);
            }
        }
        hits
    };
    let once = fusion::fuse(&views, &FusionOptions::default()).unwrap();
    let many = fusion::fuse(&views, &FusionOptions { keep_duplicates: true, ..Default::default() }).unwrap();
    let (hits_once, hits_many) = (per_pixel(&once), per_pixel(&many));
    let (mut seen, mut sum_once, mut sum_many) = (0, 0, 0);
    for (at, pixel) in truth[3].seen.iter().enumerate() {
        let Some((point, ..)) = *pixel else { continue };
        if (0..7).filter(|&i| i != 3).filter(|&i| plainly_seen(&truth[i], &surfaces, point)).count() == 6 {
            seen += 1;
            sum_once += hits_once[at];
            sum_many += hits_many[at];
            // Complete: the view's own pixel, or the point of an earlier view that explained it.
            assert!(hits_once[at] >= 1, "nothing on pixel {at}");
        }
    }
    assert!(seen > 1500, "{seen}");
    let (once_each, many_each) = (sum_once as f64 / seen as f64, sum_many as f64 / seen as f64);
    // Grids of different views do not match pixel by pixel: a pixel that no point happens to fall on is emitted,
    // though its neighbours are explained. Each further view adds fewer of those.
    assert!(once_each < 2.0, "{once_each} points a pixel");
    assert!(many_each > 5.0, "{many_each} points a pixel with duplicates");

    let total = Funnel::sum(&once.funnels);
    assert_eq!(total.fused, once.points.len());
    assert_eq!(total.kept, many.points.len());
    assert_eq!(Funnel::sum(&many.funnels).duplicates, 0);
    for funnel in &once.funnels {
        assert_eq!(funnel.kept, funnel.duplicates + funnel.fused);
        assert_eq!(funnel.pixels, WIDTH * HEIGHT);
        assert!(funnel.agreed.len() == 4 && funnel.agreed.is_sorted_by(|a, b| a >= b));
        assert_eq!(funnel.agreed[2], funnel.kept);
    }
    assert_eq!(once.funnels[0].duplicates, 0);
}

/// Fusion by plain loops: the position of every emitted point and the number of views on it.
fn plain_fusion(views: &[FusionView], min_confidence: f32, min_views: usize) -> Vec<([f64; 3], usize)> {
    let mut kept: Vec<Vec<Option<(f32, usize)>>> = Vec::new();
    for view in views {
        let sources: Vec<_> = view.sources.iter().map(|&s| (&views[s].camera, &views[s].depth)).collect();
        let (counts, means) = plain_loops::agreement((&view.camera, &view.depth), &sources, 1.0, 0.01);
        let needed = min_views.min(sources.len());
        let keep = |at: usize| {
            let d = f64::from(view.depth.data[at]);
            let fine =
                d >= view.range.near && d <= view.range.far && view.confidence.data[at] > min_confidence;
            (fine && needed > 0 && counts[at] >= needed).then_some((means[at] as f32, counts[at]))
        };
        kept.push((0..counts.len()).map(keep).collect());
    }
    let mut points = Vec::new();
    for (i, view) in views.iter().enumerate() {
        for at in 0..kept[i].len() {
            let Some((depth, count)) = kept[i][at] else { continue };
            let width = view.depth.width;
            let point =
                plain_loops::world(&view.camera, (at % width) as f64, (at / width) as f64, f64::from(depth));
            points.push((point, count + 1));
            for (later, kept) in views.iter().zip(&mut kept).skip(i + 1) {
                let [u, v, z] = plain_loops::pixel(&later.camera, point);
                let (x, y) = (u.round(), v.round());
                if z > 0.0
                    && x >= 0.0
                    && y >= 0.0
                    && x < later.depth.width as f64
                    && y < later.depth.height as f64
                {
                    let pixel = &mut kept[y as usize * later.depth.width + x as usize];
                    if pixel.is_some_and(|(d, _)| (z - f64::from(d)).abs() / f64::from(d) < 0.01) {
                        *pixel = None;
                    }
                }
            }
        }
    }
    points
}

/// Rough maps with random confidences, in views of different sizes and numbers of sources.
fn rough_views(seed: u64) -> Vec<FusionView> {
    let (cameras, maps) = rough_maps(seed, 0.03);
    let mut random = Random(seed + 1);
    let sources = [vec![1, 2, 3, 4], vec![0, 2], vec![0, 1, 3, 4], vec![], vec![3, 2, 1]];
    let view = |((i, depth), sources): ((usize, Map), Vec<usize>)| {
        let mut confidence = Map::filled(depth.width, depth.height, 0.0);
        confidence.data.iter_mut().for_each(|c| *c = random.uniform().sqrt() as f32);
        FusionView {
            name: format!("rough{i}"),
            camera: cameras[i],
            colour: vec![[i as u8; 3]; depth.data.len()],
            confidence,
            depth,
            range: DepthRange { near: 480.0, far: 900.0 },
            sources,
        }
    };
    maps.into_iter().enumerate().zip(sources).map(view).collect()
}

#[test]
fn fusion_equals_plain_loops() {
    let views = rough_views(11);
    let options = FusionOptions { min_confidence: 0.4, ..FusionOptions::default() };
    let fused = fusion::fuse(&views, &options).unwrap();
    let plain = plain_fusion(&views, 0.4, 3);
    assert!(plain.len() > 1000, "{}", plain.len());
    assert_eq!(fused.points.len(), plain.len());
    for (found, (position, count)) in fused.points.iter().zip(plain) {
        let found_position = found.position.map(f64::from);
        // f32 coordinates below 1024: 3e-5 each.
        assert!((0..3).all(|i| (found_position[i] - position[i]).abs() < 1e-4));
        assert_eq!(usize::from(found.views), count);
    }
    // A view without sources keeps nothing; one with two needs both.
    assert_eq!((fused.funnels[3].kept, fused.funnels[3].agreed.len()), (0, 0));
    assert!(fused.funnels[3].confident > 0);
    assert_eq!(fused.funnels[1].kept, fused.funnels[1].agreed[1]);
    for (funnel, view) in fused.funnels.iter().zip(&views) {
        let inside = |d: &&f32| **d >= 480.0 && **d <= 900.0;
        assert_eq!(funnel.in_range, view.depth.data.iter().filter(inside).count());
    }
}

fn in_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let views = rough_views(23);
    let options = FusionOptions { min_confidence: 0.3, ..FusionOptions::default() };
    let [one, three] = [1, 3].map(|n| in_threads(n, || fusion::fuse(&views, &options).unwrap()));
    assert!(one.points.len() > 1000);
    assert_eq!(one.points, three.points);
    assert_eq!(one.funnels, three.funnels);
}

#[test]
fn views_that_do_not_fit_are_named() {
    let mut views = fusion_views(&slanted_plane(), 3, 20.0, 2);
    views[1].colour.pop();
    let message = fusion::fuse(&views, &FusionOptions::default()).unwrap_err().to_string();
    let expected = "fusion::fuse: view view1: a depth map of 96 x 72, a confidence map of 96 x 72 and 6911 colours; \
        expected one size";
    assert_eq!(message, expected);
    views[1].colour.push([0; 3]);
    views[2].sources = vec![0, 7];
    let message = fusion::fuse(&views, &FusionOptions::default()).unwrap_err().to_string();
    assert_eq!(message, "fusion::fuse: view view2: source 7 is not another of the 3 views");
}

#[test]
fn the_reason_for_a_thin_cloud_is_told() {
    let options = FusionOptions::default();
    let fine = Funnel {
        pixels: 1000,
        in_range: 1000,
        confident: 800,
        agreed: vec![780, 760, 700, 600],
        kept: 700,
        duplicates: 300,
        fused: 400,
        ..Funnel::default()
    };
    assert_eq!(fusion::explain(std::slice::from_ref(&fine), &options), None);
    let thin = |f: Funnel| fusion::explain(&[f], &options).unwrap();
    let none_kept = || Funnel { kept: 0, duplicates: 0, fused: 0, agreed: vec![0; 4], ..fine.clone() };
    let cases = [
        (Funnel { pixels: 0, in_range: 0, ..none_kept() }, "there were no depth maps"),
        (Funnel { agreed: vec![], ..none_kept() }, "no view has a source view"),
        (
            Funnel { in_range: 100, confident: 90, ..none_kept() },
            "only 10 % of the pixels have a depth between near",
        ),
        (Funnel { near_end: 400, ..none_kept() }, "40 % of the depths lie at the near end"),
        (Funnel { far_end: 600, ..none_kept() }, "60 % of the depths lie at the far end"),
        (
            Funnel { confident: 50, agreed: vec![45, 40, 40, 30], kept: 40, ..fine.clone() },
            "only 5 % of the pixels",
        ),
        (Funnel { confident: 0, ..none_kept() }, "only 0 % of the pixels have a confidence above 0.8"),
        (
            Funnel { agreed: vec![24, 1, 0, 0], ..none_kept() },
            "only 3 % of the confident pixels agree with even one",
        ),
        (
            Funnel { agreed: vec![600, 300, 40, 0], kept: 40, ..none_kept() },
            "75 % of the confident pixels agree",
        ),
    ];
    for (funnel, start) in cases {
        let text = thin(funnel);
        assert!(text.starts_with(start), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
    assert!(fusion::explain(&[], &options).is_some());
}

#[test]
fn depths_at_the_ends_of_the_range_are_counted() {
    let mut views = fusion_views(&slanted_plane(), 2, 10.0, 1);
    for (value, end) in
        [(100.0, "near"), (101.0, "near"), (130.0, ""), (1900.0, ""), (1990.0, "far"), (2000.0, "far")]
    {
        views[0].depth.data.fill(value);
        let funnel = fusion::fuse(&views, &FusionOptions::default()).unwrap().funnels[0].clone();
        assert_eq!(funnel.in_range, WIDTH * HEIGHT);
        assert_eq!(funnel.near_end > 0, end == "near", "{value}");
        assert_eq!(funnel.far_end > 0, end == "far", "{value}");
    }
}

/// Four views that coincide: every pixel meets itself in every source, so depths alone decide who agrees. All numbers
/// of the camera are powers of two or zero, so that pixels come back exactly and the borders stay inside.
fn coinciding(width: usize, height: usize, depth: &[f32], confidence: &[f32]) -> Vec<LevelMaps> {
    let maps = LevelMaps {
        camera: Camera {
            k: DMat3::from_diagonal(DVec3::new(8.0, 8.0, 1.0)),
            r: DMat3::IDENTITY,
            t: DVec3::ZERO,
        },
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
    let mut random = Random(5);
    let cameras = arc(5, 30.0, 600.0, WIDTH, HEIGHT);
    let sizes = [(95, 71), (48, 36)];
    let mut rough = |scale: usize| -> Vec<LevelMaps> {
        let (width, height) = sizes[scale - 1];
        let mut level = |camera: &Camera| {
            let camera = camera.decimated(1.0 / scale as f64);
            let mut depth = render(&ball_before_plane(), camera, width, height).depth;
            let mut confidence = Map::filled(width, height, 0.0);
            for (depth, confidence) in depth.data.iter_mut().zip(&mut confidence.data) {
                *depth *= 1.0 + 0.008 * (random.uniform() as f32 - 0.5);
                *confidence = random.uniform().powf(0.1) as f32;
                *depth = if random.uniform() < 0.02 { f32::NAN } else { *depth };
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
    let refused = |coarse: &[LevelMaps], fine: &[LevelMaps], sources: &[Vec<usize>]| {
        merge_level(coarse, &mut fine.to_vec(), sources, &MergeOptions::default()).unwrap_err().to_string()
    };
    let (coarse, fine) = (coinciding(3, 2, &[1.0; 6], &[1.0; 6]), coinciding(6, 4, &[1.0; 24], &[1.0; 24]));
    assert_eq!(
        refused(&coarse[..3], &fine, &all_others()),
        "pyramid::merge_level: 3 coarse views, 4 fine views and 4 lists of sources"
    );
    assert_eq!(
        refused(&fine, &fine, &all_others()),
        "pyramid::merge_level: view 0: a coarse map of (6, 4) is not half a fine one of (6, 4), rounded up"
    );
    let mut wrong = coarse.clone();
    wrong[2].confidence.data.pop();
    assert_eq!(
        refused(&wrong, &fine, &all_others()),
        "pyramid::merge_level: view 2: coarse depth (3, 2, 6) and confidence (3, 2, 5)"
    );
    assert_eq!(
        refused(&coarse, &fine, &[vec![1], vec![1], vec![], vec![]]),
        "pyramid::merge_level: view 1: source 1 is not another of the 4 views"
    );
}
