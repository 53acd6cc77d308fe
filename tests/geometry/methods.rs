//! The methods of fusion beside reprojection: points on the surfaces, planted outliers gone, the same whatever the
//! number of threads, and equal to plain loops that follow each method's definition one pixel after the other.

use std::collections::VecDeque;

use engine::fusion::funnel::Funnel;
use engine::fusion::fuse::fuse;
use engine::fusion::settings::{Disparity, Dynamic, FusionOptions, Graph, Guard, Method, Pyramid, Reprojection};
use engine::fusion::view::{Fused, FusionView};
use engine::maps::merge::{LevelMaps, MergeOptions, merge_level};

use super::fusion::{fusion_views, rough_views};
use super::*;

/// Views of the ball before the plane with the maps of three levels, the finer ones unsure in stripes.
pub fn views_with_levels() -> Vec<FusionView> {
    let surfaces = ball_before_plane();
    let mut views = fusion_views(&surfaces, 7, 40.0, 6);
    for view in &mut views {
        view.levels = (0..3)
            .map(|level| {
                let camera = view.camera.decimated(0.5f64.powi(level));
                let (width, height) = (WIDTH.div_ceil(1 << level), HEIGHT.div_ceil(1 << level));
                let depth = render(&surfaces, camera, width, height).depth;
                LevelMaps { camera, confidence: Map::filled(width, height, 0.95), depth }
            })
            .collect();
        let finest = &mut view.levels[0];
        for at in (0..WIDTH * HEIGHT).filter(|at| at % WIDTH % 12 == 5) {
            finest.depth.data[at] *= 1.2;
            finest.confidence.data[at] = 0.2;
        }
    }
    views
}

fn with(method: Method) -> FusionOptions {
    FusionOptions { method, ..FusionOptions::default() }
}

/// How far each point lies from the nearest surface, sorted.
fn distances(fused: &Fused) -> Vec<f64> {
    let surfaces = ball_before_plane();
    let of = |point: &engine::files::ply::Point| {
        let at = DVec3::from(point.position);
        surfaces.iter().map(|s| s.distance(at)).fold(f64::INFINITY, f64::min)
    };
    let mut all: Vec<f64> = fused.points.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all
}

#[test]
fn every_method_puts_points_on_the_surfaces_and_leaves_planted_outliers_out() {
    for method in Method::all() {
        let mut views = views_with_levels();
        // A block of one map a tenth too near: some 60 before the surfaces.
        for (y, x) in (20..50).flat_map(|y| (30..60).map(move |x| (y, x))) {
            views[3].depth.data[y * WIDTH + x] *= 0.9;
            views[3].levels[0].depth.data[y * WIDTH + x] *= 0.9;
        }
        let fused = fuse(&views, &with(method)).unwrap();
        // A walk gathers the up to 13 pixels of its own view that are at most 2 away.
        let least = if let Method::Graph(_) = method { WIDTH * HEIGHT / 13 } else { WIDTH * HEIGHT };
        assert!(fused.points.len() > least, "{}: {}", method.name(), fused.points.len());
        let all = distances(&fused);
        let (median, worst) = (all[all.len() / 2], all[all.len() - 1]);
        // Most of a point's depths, among them its own, are exact; what else may agree bounds the rest: 1 % (0.77 %
        // for dynamic) of 800; a quarter of a pixel of disparity at a baseline of 70 and a focal length of 115, 0.25 x
        // 750^2 / (70 x 115) = 17, in a mean with an exact one among four; a walk's pixels lie within 2 px (14) and 1
        // % (8) of their seed, and every coordinate of their median is one of theirs or between two.
        let (median_bound, worst_bound) = match method {
            Method::Reprojection(_) | Method::Pyramid(_) | Method::Dynamic(_) => (0.02, 6.0),
            Method::Disparity(_) => (0.02, 13.0),
            Method::Graph(_) => (0.5, 16.0),
        };
        assert!(median < median_bound, "{}: median {median}", method.name());
        assert!(worst < worst_bound, "{}: worst {worst}", method.name());
        for (funnel, view) in fused.funnels.iter().zip(&views) {
            let gone = funnel.duplicates + funnel.dropped_by_guard();
            assert_eq!(funnel.kept, gone + funnel.fused, "{} {}", method.name(), view.name);
            assert!(funnel.confident >= funnel.kept && funnel.in_range >= funnel.confident);
            assert!(funnel.agreed.is_sorted_by(|a, b| a >= b));
        }
        assert_eq!(Funnel::sum(&fused.funnels).fused, fused.points.len());
        for point in &fused.points {
            assert!((glam::Vec3::from(point.normal).length() - 1.0).abs() < 1e-5);
            assert!(point.views >= 2 && point.confidence > 0.8);
        }
    }
}

#[test]
fn every_method_gives_the_same_cloud_whatever_the_number_of_threads() {
    for method in Method::all() {
        // Levels that fit each other need maps of one kind; the other methods take views of different sizes.
        let views = match method {
            Method::Pyramid(_) => views_with_levels(),
            _ => rough_views(31),
        };
        let method = match method {
            // Normals of such rough maps point anywhere.
            Method::Graph(graph) => Method::Graph(Graph { max_normal_deg: 60.0, min_pixels: 3, ..graph }),
            other => other,
        };
        let options = FusionOptions { min_confidence: 0.3, method };
        let [one, three, eight] = [1, 3, 8].map(|n| in_threads(n, || fuse(&views, &options).unwrap()));
        assert!(one.points.len() > 500, "{}: {}", method.name(), one.points.len());
        for other in [three, eight] {
            assert!(one.points == other.points, "{}", method.name());
            assert_eq!(one.funnels, other.funnels, "{}", method.name());
        }
    }
}

/// What a method may use of a pixel.
fn usable(view: &FusionView, at: usize, min_confidence: f32) -> Option<f64> {
    let depth = f64::from(view.depth.data[at]);
    let inside = depth >= view.range.near && depth <= view.range.far;
    (inside && view.confidence.data[at] > min_confidence).then_some(depth)
}

fn assert_same(fused: &Fused, plain: &[([f64; 3], usize)], what: &str) {
    assert_eq!(fused.points.len(), plain.len(), "{what}");
    for (found, (position, views)) in fused.points.iter().zip(plain) {
        let found_position = found.position;
        // f32 depths below 1024: 3e-5.
        assert!((0..3).all(|i| (found_position[i] - position[i]).abs() < 1e-4), "{what}");
        assert_eq!(usize::from(found.views), *views, "{what}");
    }
}

#[test]
fn dynamic_fusion_equals_plain_loops() {
    let views = rough_views(41);
    let thresholds = engine::maps::consistency::DynamicThresholds::default();
    let mut plain = Vec::new();
    let mut kept_with = [0; 11];
    for view in &views {
        let sources: Vec<_> = view.sources.iter().map(|&s| (&views[s].camera, &views[s].depth)).collect();
        let within: Vec<(Vec<usize>, Vec<f64>)> = (2..=10)
            .map(|i| {
                let i = f64::from(i);
                plain_loops::agreement((&view.camera, &view.depth), &sources, i / 4.0, i / 1300.0)
            })
            .collect();
        for at in 0..view.depth.data.len() {
            let enough = (2..=10).find(|&i| i <= sources.len() && within[i - 2].0[at] >= i);
            let (Some(i), Some(_)) = (enough, usable(view, at, 0.4)) else { continue };
            kept_with[i] += 1;
            let depth = f64::from(within[8].1[at] as f32);
            let (x, y) = ((at % view.depth.width) as f64, (at / view.depth.width) as f64);
            plain.push((plain_loops::world(&view.camera, x, y, depth), within[8].0[at] + 1));
        }
    }
    assert!(kept_with[2] > 100 && kept_with[3] > 100 && kept_with[4] > 20, "{kept_with:?}");
    let options =
        FusionOptions { min_confidence: 0.4, method: Method::Dynamic(Dynamic { thresholds, keep_duplicates: true }) };
    assert_same(&fuse(&views, &options).unwrap(), &plain, "dynamic");
    // Without duplicates it is a part of that cloud.
    let fewer = FusionOptions { method: Method::Dynamic(Dynamic::default()), ..options };
    let fewer = fuse(&views, &fewer).unwrap();
    assert!(fewer.points.len() < plain.len() && fewer.points.len() > plain.len() / 8);
}

/// All usable depths of a view as a map, 0 elsewhere.
fn usable_map(view: &FusionView, min_confidence: f32) -> Map {
    let mut map = view.depth.clone();
    for at in 0..map.data.len() {
        map.data[at] = usable(view, at, min_confidence).unwrap_or(0.0) as f32;
    }
    map
}

/// The definition of [`Disparity`], one pixel after the other.
fn plain_disparity(views: &[FusionView], min_confidence: f32, constants: &Disparity) -> Vec<([f64; 3], usize)> {
    let maps: Vec<Map> = views.iter().map(|v| usable_map(v, min_confidence)).collect();
    let normals: Vec<_> = views.iter().map(|v| normals::from_depth(&v.camera, &v.depth)).collect();
    let mut used: Vec<Vec<bool>> = maps.iter().map(|m| vec![false; m.data.len()]).collect();
    let centre = |view: &FusionView| view.camera.centre();
    let mut points = Vec::new();
    for (v, view) in views.iter().enumerate() {
        for at in 0..maps[v].data.len() {
            if used[v][at] || maps[v].data[at] == 0.0 {
                continue;
            }
            let (x, y) = ((at % maps[v].width) as f64, (at / maps[v].width) as f64);
            let own = plain_loops::world(&view.camera, x, y, f64::from(maps[v].data[at]));
            let (mut sum, mut marks) = (own, Vec::new());
            for &s in &view.sources {
                let [u, w, z] = plain_loops::pixel(&views[s].camera, own);
                if z <= 1e-6 {
                    continue;
                }
                let Some(depth) = plain_loops::sample(&maps[s], u, w) else { continue };
                let scale = view.camera.k.x_axis.x * (centre(view) - centre(&views[s])).length();
                let nearest = w.round() as usize * maps[s].width + u.round() as usize;
                let cosine: f64 = (0..3).map(|i| f64::from(normals[s][nearest][i] * normals[v][at][i])).sum();
                let angle = cosine.clamp(-1.0, 1.0).acos().to_degrees();
                let same_direction = constants.max_normal_deg >= 180.0 || angle < constants.max_normal_deg;
                if (scale / z - scale / depth).abs() < constants.max_disparity_px && same_direction {
                    let other = plain_loops::world(&views[s].camera, u, w, depth);
                    sum = [0, 1, 2].map(|i| sum[i] + other[i]);
                    marks.push((s, nearest));
                }
            }
            if marks.len() >= constants.min_views {
                let count = marks.len() + 1;
                points.push((sum.map(|c| c / count as f64), count));
                marks.into_iter().for_each(|(s, pixel)| used[s][pixel] = true);
            }
        }
    }
    points
}

#[test]
fn disparity_fusion_equals_plain_loops() {
    let rough = Disparity { min_views: 2, ..Disparity::default() };
    let with_normals = Disparity { max_normal_deg: 12.0, ..Disparity::default() };
    let exact = fusion_views(&ball_before_plane(), 7, 40.0, 6);
    for (views, constants) in [(rough_views(43), rough), (exact, with_normals)] {
        let plain = plain_disparity(&views, 0.4, &constants);
        assert!(plain.len() > 1000, "{}", plain.len());
        let options = FusionOptions { min_confidence: 0.4, method: Method::Disparity(constants) };
        let fused = fuse(&views, &options).unwrap();
        assert_same(&fused, &plain, "disparity");
        // A pixel that is used makes no point: without marks there would be several times as many.
        assert!(fused.funnels.iter().skip(1).map(|f| f.duplicates).sum::<usize>() > plain.len() / 4);
    }
    // Normals matter: turned away in one view, it agrees with none.
    let views = fusion_views(&ball_before_plane(), 7, 40.0, 6);
    let of = |max_normal_deg: f64| {
        let method = Method::Disparity(Disparity { max_normal_deg, ..Disparity::default() });
        fuse(&views, &with(method)).unwrap().points.len()
    };
    assert!(of(0.5) < of(180.0), "{} {}", of(0.5), of(180.0));
}

/// The definition of [`Graph`]: one seed after the other, in the order that the method states.
fn plain_graph(views: &[FusionView], min_confidence: f32, constants: &Graph) -> Vec<([f64; 3], usize)> {
    let maps: Vec<Map> = views.iter().map(|v| usable_map(v, min_confidence)).collect();
    let normals: Vec<_> = views.iter().map(|v| normals::from_depth(&v.camera, &v.depth)).collect();
    let mut taken: Vec<Vec<bool>> = maps.iter().map(|m| vec![false; m.data.len()]).collect();
    let world = |v: usize, at: usize| {
        let (x, y) = ((at % maps[v].width) as f64, (at / maps[v].width) as f64);
        plain_loops::world(&views[v].camera, x, y, f64::from(maps[v].data[at]))
    };
    let mut points = Vec::new();
    for v in 0..views.len() {
        let mut of_view = Vec::new();
        let mut seeds: Vec<usize> = (0..maps[v].data.len()).collect();
        seeds.sort_by_key(|at| {
            let (x, y) = (at % maps[v].width, at / maps[v].width);
            (y % 8, x % 8, y, x)
        });
        for seed in seeds {
            if taken[v][seed] || maps[v].data[seed] == 0.0 {
                continue;
            }
            let (first, first_normal) = (world(v, seed), normals[v][seed]);
            let mut queue = VecDeque::from([(v, seed, 0)]);
            let mut gathered: Vec<(usize, usize)> = Vec::new();
            while let Some((w, at, steps)) = queue.pop_front() {
                if taken[w][at] || maps[w].data[at] == 0.0 {
                    continue;
                }
                if steps > 0 {
                    let [x, y, z] = plain_loops::pixel(&views[w].camera, first);
                    let depth = f64::from(maps[w].data[at]);
                    let shift = (x - (at % maps[w].width) as f64).hypot(y - (at / maps[w].width) as f64);
                    let cosine: f64 = (0..3).map(|i| f64::from(normals[w][at][i]) * f64::from(first_normal[i])).sum();
                    if (z - depth).abs() / depth > constants.max_depth_error_rel
                        // Two whole pixels are two, whatever rounding says.
                        || shift > constants.max_reprojection_px + 1e-9
                        || cosine < constants.max_normal_deg.to_radians().cos()
                    {
                        continue;
                    }
                }
                taken[w][at] = true;
                gathered.push((w, at));
                if gathered.len() >= constants.max_pixels {
                    break;
                }
                if steps + 1 >= constants.max_traversal_depth {
                    continue;
                }
                for &next in views[w].sources.iter().filter(|&&next| next >= v) {
                    let [x, y, z] = plain_loops::pixel(&views[next].camera, world(w, at));
                    let (x, y) = (x.round(), y.round());
                    let (width, height) = (maps[next].width, maps[next].height);
                    if z > 0.0 && x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64 {
                        queue.push_back((next, y as usize * width + x as usize, steps + 1));
                    }
                }
            }
            if gathered.len() >= constants.min_pixels {
                let median = |axis: usize| {
                    let mut values: Vec<f64> = gathered.iter().map(|&(w, at)| world(w, at)[axis]).collect();
                    values.sort_by(f64::total_cmp);
                    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
                };
                let seen: std::collections::BTreeSet<usize> = gathered.iter().map(|g| g.0).collect();
                of_view.push((seed, ([0, 1, 2].map(median), seen.len())));
            }
        }
        of_view.sort_by_key(|(seed, _)| *seed);
        points.extend(of_view.into_iter().map(|(_, point)| point));
    }
    points
}

#[test]
fn graph_fusion_equals_plain_loops() {
    let exact = fusion_views(&ball_before_plane(), 7, 40.0, 4);
    let rough = Graph { max_normal_deg: 180.0, min_pixels: 3, ..Graph::default() };
    // Limits that end walks early: then the order in which pixels are met matters, too.
    let short = Graph { max_pixels: 6, max_traversal_depth: 3, ..Graph::default() };
    let wide = Graph { max_reprojection_px: 6.0, ..Graph::default() };
    let cases = [
        (exact.clone(), Graph::default(), 1000),
        (exact.clone(), short, 1000),
        (exact, wide, 100),
        (rough_views(47), rough, 500),
    ];
    for (views, constants, least) in cases {
        let plain = plain_graph(&views, 0.4, &constants);
        assert!(plain.len() > least, "{constants:?}: {}", plain.len());
        let options = FusionOptions { min_confidence: 0.4, method: Method::Graph(constants) };
        for threads in [1, 3] {
            let fused = in_threads(threads, || fuse(&views, &options).unwrap());
            assert_same(&fused, &plain, &format!("{constants:?}"));
        }
    }
}

#[test]
fn the_pyramid_is_merged_levels_fused_by_reprojection() {
    let views = views_with_levels();
    let sources: Vec<Vec<usize>> = views.iter().map(|v| v.sources.clone()).collect();
    let level = |k: usize| -> Vec<LevelMaps> { views.iter().map(|v| v.levels[k].clone()).collect() };
    let (coarsest, mut middle, mut finest) = (level(2), level(1), level(0));
    merge_level(&coarsest, &mut middle, &sources, &MergeOptions::default()).unwrap();
    let replaced = merge_level(&middle, &mut finest, &sources, &MergeOptions::default()).unwrap();
    assert!(replaced.iter().all(|&n| n > 100), "{replaced:?}");
    let mut by_hand = views.clone();
    for (view, maps) in by_hand.iter_mut().zip(finest) {
        (view.depth, view.confidence) = (maps.depth, maps.confidence);
    }
    let expected = fuse(&by_hand, &FusionOptions::default()).unwrap();
    let found = fuse(&views, &with(Method::Pyramid(Pyramid::default()))).unwrap();
    assert_eq!((found.points == expected.points, found.funnels), (true, expected.funnels));

    // Twice the resolution, half the pixel threshold: four times the points, on the same surfaces.
    let twice = |doublings: usize, max_reprojection_px: f64| {
        let thresholds = Thresholds { max_reprojection_px, ..Thresholds::default() };
        let reprojection = Reprojection { thresholds, keep_duplicates: true, guard: Guard::OFF };
        let method = Method::Pyramid(Pyramid { doublings, reprojection, ..Pyramid::default() });
        fuse(&views, &with(method)).unwrap()
    };
    let (once, doubled) = (twice(0, 1.0), twice(1, 1.0));
    let ratio = doubled.points.len() as f64 / once.points.len() as f64;
    assert!((3.5..4.5).contains(&ratio), "{ratio}");
    let all = distances(&doubled);
    // Between samples a plane's depth is not linear in the pixel: off by second differences, 1e-5 of 600 (as sampled
    // depth).
    assert!(all[all.len() / 2] < 0.03, "{}", all[all.len() / 2]);
    assert!(all[all.len() - 1] < 12.0, "{}", all[all.len() - 1]);

    let mut fewer = views.clone();
    fewer[2].levels.pop();
    let message = fuse(&fewer, &with(Method::Pyramid(Pyramid::default()))).unwrap_err().to_string();
    assert_eq!(message, "fusion::pyramid: view view2: maps of 2 levels; expected 3, the finest of (96, 72)");
}
