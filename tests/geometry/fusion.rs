//! Fusion: points on the surfaces, each part of them about once, with the reason when there are few.

use engine::fusion::funnel::{Funnel, explain};
use engine::fusion::fuse::fuse;
use engine::fusion::settings::{FusionOptions, Guard, Reprojection};
use engine::fusion::view::{Fused, FusionView};

use super::*;

const ANY_RANGE: DepthRange = DepthRange { near: 100.0, far: 2000.0 };

pub fn fusion_views(surfaces: &[Surface], count: usize, degrees: f64, most_sources: usize) -> Vec<FusionView> {
    let views = rendered(surfaces, &arc(count, degrees, 600.0, WIDTH, HEIGHT));
    let view = |(i, (view, sources)): (usize, (Rendered, Vec<usize>))| FusionView {
        name: format!("view{i}"),
        camera: view.camera,
        confidence: Map::filled(WIDTH, HEIGHT, 0.95),
        depth: view.depth,
        colour: view.colour,
        range: ANY_RANGE,
        sources,
        levels: Vec::new(),
    };
    views.into_iter().zip(neighbours(count, most_sources)).enumerate().map(view).collect()
}

#[test]
fn fused_points_lie_on_the_surfaces_with_their_colours_and_normals() {
    let surfaces = ball_before_plane();
    let views = fusion_views(&surfaces, 7, 40.0, 4);
    // The colours of the pixels themselves, which are exact.
    let guard = Guard { mean_colour: false, ..Guard::default() };
    let options = FusionOptions::reprojection(0.8, Reprojection { guard, ..Reprojection::default() });
    let fused = fuse(&views, &options).unwrap();
    assert!(fused.points.len() > WIDTH * HEIGHT);
    let mut distances: Vec<f64> = Vec::new();
    for point in &fused.points {
        let position = DVec3::from(point.position);
        let [on_plane, on_ball] = surfaces.map(|s| s.distance(position));
        let (nearest, distance) = if on_ball < on_plane { (1, on_ball) } else { (0, on_plane) };
        // A mean with depths that may be 1 % off, the own one among four at least exact: below 0.75 % of 800.
        assert!(distance < 6.0, "{position} lies {distance} off");
        distances.push(distance);
        // Three of four sources at least, and perhaps those of the seven views that are no sources.
        assert!((4..=7).contains(&point.views) && point.confidence == 0.95);
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
            let [u, v, z] = plain_loops::pixel(&views[3].camera, point.position);
            let (x, y) = (u.round(), v.round());
            if (0.0..96.0).contains(&x) && (0.0..72.0).contains(&y) {
                let at = y as usize * WIDTH + x as usize;
                hits[at] += usize::from((z - f64::from(views[3].depth.data[at])).abs() < 0.01 * z);
            }
        }
        hits
    };
    let once = fuse(&views, &FusionOptions::default()).unwrap();
    let keeping = Reprojection { keep_duplicates: true, ..Reprojection::default() };
    let many = fuse(&views, &FusionOptions::reprojection(0.8, keeping)).unwrap();
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
    assert_eq!(total.kept, many.points.len() + Funnel::sum(&many.funnels).dropped_by_guard());
    assert_eq!(Funnel::sum(&many.funnels).duplicates, 0);
    for funnel in &once.funnels {
        assert_eq!(funnel.kept, funnel.duplicates + funnel.dropped_by_guard() + funnel.fused);
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
            let fine = d >= view.range.near && d <= view.range.far && view.confidence.data[at] > min_confidence;
            (fine && needed > 0 && counts[at] >= needed).then_some((means[at] as f32, counts[at]))
        };
        kept.push((0..counts.len()).map(keep).collect());
    }
    let mut points = Vec::new();
    for (i, view) in views.iter().enumerate() {
        for at in 0..kept[i].len() {
            let Some((depth, count)) = kept[i][at] else { continue };
            let width = view.depth.width;
            let point = plain_loops::world(&view.camera, (at % width) as f64, (at / width) as f64, f64::from(depth));
            points.push((point, count + 1));
            for (later, kept) in views.iter().zip(&mut kept).skip(i + 1) {
                let [u, v, z] = plain_loops::pixel(&later.camera, point);
                let (x, y) = (u.round(), v.round());
                if z > 0.0 && x >= 0.0 && y >= 0.0 && x < later.depth.width as f64 && y < later.depth.height as f64 {
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
pub fn rough_views(seed: u64) -> Vec<FusionView> {
    let (cameras, maps) = rough_maps(seed, 0.03);
    let mut random = Random::from_state(seed + 1);
    let sources = [vec![1, 2, 3, 4], vec![0, 2], vec![0, 1, 3, 4], vec![], vec![3, 2, 1]];
    let view = |((i, depth), sources): ((usize, Map), Vec<usize>)| {
        let mut confidence = Map::filled(depth.width, depth.height, 0.0);
        confidence.data.iter_mut().for_each(|c| *c = random.unit().sqrt() as f32);
        FusionView {
            name: format!("rough{i}"),
            camera: cameras[i],
            colour: vec![[i as u8; 3]; depth.data.len()],
            confidence,
            depth,
            range: DepthRange { near: 480.0, far: 900.0 },
            sources,
            levels: Vec::new(),
        }
    };
    maps.into_iter().enumerate().zip(sources).map(view).collect()
}

#[test]
fn fusion_equals_plain_loops() {
    let views = rough_views(11);
    let options = FusionOptions::reprojection(0.4, Reprojection { guard: Guard::OFF, ..Reprojection::default() });
    let fused = fuse(&views, &options).unwrap();
    let plain = plain_fusion(&views, 0.4, 3);
    assert!(plain.len() > 1000, "{}", plain.len());
    assert_eq!(fused.points.len(), plain.len());
    for (found, (position, count)) in fused.points.iter().zip(plain) {
        let found_position = found.position;
        // f32 depths below 1024: 3e-5.
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

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let views = rough_views(23);
    let options = FusionOptions { min_confidence: 0.3, ..FusionOptions::default() };
    let [one, three] = [1, 3].map(|n| in_threads(n, || fuse(&views, &options).unwrap()));
    assert!(one.points.len() > 1000);
    assert_eq!(one.points, three.points);
    assert_eq!(one.funnels, three.funnels);
}

#[test]
fn views_that_do_not_fit_are_named() {
    let mut views = fusion_views(&slanted_plane(), 3, 20.0, 2);
    views[1].colour.pop();
    let message = fuse(&views, &FusionOptions::default()).unwrap_err().to_string();
    let expected = "fusion::fuse: view view1: a depth map of 96 x 72, a confidence map of 96 x 72 and 6911 colours; \
        expected one size";
    assert_eq!(message, expected);
    views[1].colour.push([0; 3]);
    views[2].sources = vec![0, 7];
    let message = fuse(&views, &FusionOptions::default()).unwrap_err().to_string();
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
    assert_eq!(explain(std::slice::from_ref(&fine), &options), None);
    let thin = |f: Funnel| explain(&[f], &options).unwrap();
    let none_kept = || Funnel { kept: 0, duplicates: 0, fused: 0, agreed: vec![0; 4], ..fine.clone() };
    let cases = [
        (Funnel { pixels: 0, in_range: 0, ..none_kept() }, "there were no depth maps"),
        (Funnel { agreed: vec![], ..none_kept() }, "no view has a source view"),
        (Funnel { in_range: 100, confident: 90, ..none_kept() }, "only 10 % of the pixels have a depth between near"),
        (Funnel { near_end: 400, ..none_kept() }, "40 % of the depths lie at the near end"),
        (Funnel { far_end: 600, ..none_kept() }, "60 % of the depths lie at the far end"),
        (Funnel { confident: 50, agreed: vec![45, 40, 40, 30], kept: 40, ..fine.clone() }, "only 5 % of the pixels"),
        (Funnel { confident: 0, ..none_kept() }, "only 0 % of the pixels have a confidence above 0.8"),
        (Funnel { agreed: vec![24, 1, 0, 0], ..none_kept() }, "only 3 % of the confident pixels agree with even one"),
        (Funnel { agreed: vec![600, 300, 40, 0], kept: 40, ..none_kept() }, "75 % of the confident pixels agree"),
        // What the guard takes: most of many, or all of few.
        (
            Funnel { one_place: 650, duplicates: 0, fused: 50, ..fine.clone() },
            "93 % of the confirmed pixels are confirmed",
        ),
        (Funnel { seen_through: 650, duplicates: 0, fused: 50, ..fine.clone() }, "other views see through 93 %"),
        (
            Funnel { disputed: 650, duplicates: 0, fused: 50, ..fine.clone() },
            "93 % of the confirmed pixels have another",
        ),
        (Funnel { kept: 40, disputed: 40, ..none_kept() }, "100 % of the confirmed pixels have another normal"),
    ];
    for (funnel, start) in cases {
        let text = thin(funnel);
        assert!(text.starts_with(start), "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
    let half = Funnel { one_place: 350, duplicates: 300, fused: 50, ..fine.clone() };
    assert_eq!(explain(&[half], &options), None, "repeated pixels are in the cloud");
    assert!(explain(&[], &options).is_some());
    // Nobody has more sources to ask than these four.
    let funnel = Funnel { agreed: vec![600, 300, 40, 0], kept: 40, ..none_kept() };
    let thresholds = Thresholds { min_views: 99, ..Thresholds::default() };
    let asking = Reprojection { thresholds, ..Reprojection::default() };
    let text = explain(&[funnel], &FusionOptions::reprojection(0.8, asking)).unwrap();
    assert!(text.contains("try --min-views 3 or"), "{text}");
}

#[test]
fn depths_at_the_ends_of_the_range_are_counted() {
    let mut views = fusion_views(&slanted_plane(), 2, 10.0, 1);
    for (value, end) in [(100.0, "near"), (101.0, "near"), (130.0, ""), (1900.0, ""), (1990.0, "far"), (2000.0, "far")]
    {
        views[0].depth.data.fill(value);
        let funnel = fuse(&views, &FusionOptions::default()).unwrap().funnels[0].clone();
        assert_eq!(funnel.in_range, WIDTH * HEIGHT);
        assert_eq!(funnel.near_end > 0, end == "near", "{value}");
        assert_eq!(funnel.far_end > 0, end == "far", "{value}");
    }
}
