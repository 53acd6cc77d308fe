//! Scenes far from the origin: a scene that is moved and turned as a whole gives the moved and turned cloud, by every
//! method.

use engine::files::ply::Point;
use engine::fusion::fuse::fuse;
use engine::fusion::settings::{FusionOptions, Graph, Method};
use engine::fusion::thin::thin;
use engine::fusion::view::FusionView;
use engine::maps::merge::LevelMaps;

use super::fusion::rough_views;
use super::methods::views_with_levels;
use super::*;

/// `X -> turn X + offset`.
#[derive(Clone, Copy, Debug)]
struct Motion {
    turn: DMat3,
    offset: DVec3,
}

impl Motion {
    fn point(self, p: [f64; 3]) -> DVec3 {
        self.turn * DVec3::from(p) + self.offset
    }

    fn camera(self, camera: Camera) -> Camera {
        let r = camera.r * self.turn.transpose();
        Camera { r, t: camera.t - r * self.offset, ..camera }
    }

    fn views(self, views: &[FusionView]) -> Vec<FusionView> {
        let moved = |view: &FusionView| FusionView {
            camera: self.camera(view.camera),
            levels: view.levels.iter().map(|l| LevelMaps { camera: self.camera(l.camera), ..l.clone() }).collect(),
            ..view.clone()
        };
        views.iter().map(moved).collect()
    }
}

/// The scene at this share of its size.
fn scaled(views: &[FusionView], scale: f64) -> Vec<FusionView> {
    let map = |map: &Map| Map { data: map.data.iter().map(|d| (f64::from(*d) * scale) as f32).collect(), ..*map };
    let camera = |camera: Camera| Camera { t: camera.t * scale, ..camera };
    let view = |view: &FusionView| FusionView {
        camera: camera(view.camera),
        depth: map(&view.depth),
        range: DepthRange { near: view.range.near * scale, far: view.range.far * scale },
        levels: view
            .levels
            .iter()
            .map(|l| LevelMaps { camera: camera(l.camera), depth: map(&l.depth), confidence: l.confidence.clone() })
            .collect(),
        ..view.clone()
    };
    views.iter().map(view).collect()
}

/// The offsets that are tried: along all axes and each alone, of both signs, as large as UTM and ECEF coordinates.
fn offsets() -> Vec<DVec3> {
    let mut offsets = vec![DVec3::ZERO, DVec3::new(448_262.0, 5_411_932.0, 320.0)];
    for size in [1e3, 1e6, 1e7] {
        offsets.extend([DVec3::splat(size), DVec3::new(0.0, -size, 0.0), DVec3::new(-size, 0.3 * size, size)]);
    }
    offsets
}

fn turns() -> [DMat3; 3] {
    let turned = DMat3::from_rotation_y(2.1) * DMat3::from_rotation_x(-0.7) * DMat3::from_rotation_z(0.4);
    [DMat3::IDENTITY, DMat3::from_rotation_x(0.5 * std::f64::consts::PI), turned]
}

/// Points next to each other in the order of the cloud are mostly next to each other in space.
fn spacing(points: &[Point]) -> f64 {
    let mut apart: Vec<f64> =
        points.windows(2).map(|p| DVec3::from(p[0].position).distance(DVec3::from(p[1].position))).collect();
    apart.sort_by(f64::total_cmp);
    apart[apart.len() / 2]
}

#[track_caller]
fn assert_moved(points: &[Point], moved: &[Point], motion: Motion, what: &str) {
    assert_eq!(points.len(), moved.len(), "{what} {motion:?}");
    let bound = 1e-3 * spacing(points);
    for (point, moved) in points.iter().zip(moved) {
        let off = motion.point(point.position).distance(DVec3::from(moved.position));
        assert!(off < bound, "{what} {motion:?}: {point:?} became {moved:?}, {off} off");
        let normal = motion.turn * glam::Vec3::from(point.normal).as_dvec3();
        // Three coordinates below 1 in f32.
        assert!((glam::Vec3::from(moved.normal).as_dvec3() - normal).length() < 1e-6, "{what} {motion:?}");
        assert_eq!((point.colour, point.confidence, point.views), (moved.colour, moved.confidence, moved.views));
    }
}

#[test]
fn a_moved_and_turned_scene_gives_the_moved_and_turned_cloud_by_every_method() {
    let smooth = scaled(&views_with_levels(), 0.01);
    let rough = scaled(&rough_views(31), 0.01);
    for method in Method::all() {
        // Depths that no two views share exactly, and those of surfaces with levels.
        let sets = match method {
            Method::Pyramid(_) => vec![&smooth],
            _ => vec![&smooth, &rough],
        };
        let method = match method {
            // Normals of such rough maps point anywhere.
            Method::Graph(graph) => Method::Graph(Graph { max_normal_deg: 60.0, min_pixels: 3, ..graph }),
            other => other,
        };
        let options = FusionOptions { min_confidence: 0.3, method };
        for views in sets {
            let points = fuse(views, &options).unwrap().points;
            assert!(points.len() > 500, "{}: {}", method.name(), points.len());
            for turn in turns() {
                let still = Motion { turn, offset: DVec3::ZERO };
                let turned = fuse(&still.views(views), &options).unwrap().points;
                match method {
                    // Before the smooth surfaces the cameras are each other's mirror images: points fall just between
                    // two pixels, and the last bit decides. What a walk takes then changes all those after it: other
                    // pixels make the points of the same surfaces.
                    Method::Graph(_) => assert_same_surfaces(&points, &turned, still),
                    _ => assert_moved(&points, &turned, still, method.name()),
                }
                for offset in offsets() {
                    let moved = fuse(&Motion { turn, offset }.views(views), &options).unwrap().points;
                    let motion = Motion { turn: DMat3::IDENTITY, offset };
                    assert_moved(&turned, &moved, motion, method.name());
                }
            }
        }
    }
}

/// As many points to 5 %, and beside 98 of 100 one within twice the spacing.
#[track_caller]
fn assert_same_surfaces(points: &[Point], moved: &[Point], motion: Motion) {
    let bound = 2.0 * spacing(points);
    let is_there = |point: &&Point| {
        let expected = motion.point(point.position);
        moved.iter().any(|moved| DVec3::from(moved.position).distance(expected) < bound)
    };
    let found = points.iter().filter(is_there).count();
    assert!(found * 100 >= 98 * points.len(), "{found} of {} {motion:?}", points.len());
    assert!(points.len().abs_diff(moved.len()) * 20 <= points.len(), "{} {}", points.len(), moved.len());
}

#[test]
fn a_thinned_cloud_moves_with_the_scene() {
    let views = scaled(&views_with_levels(), 0.01);
    let options = FusionOptions::default();
    let points = fuse(&views, &options).unwrap().points;
    let corner = |motion: Motion| motion.camera(views[0].camera).centre() - 0.5 * 0.2;
    let still = Motion { turn: DMat3::IDENTITY, offset: DVec3::ZERO };
    let thinned = thin(&points, 0.2, corner(still));
    assert!(thinned.len() * 2 < points.len() && thinned.len() > 100, "{}", thinned.len());
    for offset in offsets() {
        let motion = Motion { offset, ..still };
        let moved = fuse(&motion.views(&views), &options).unwrap().points;
        assert_moved(&thinned, &thin(&moved, 0.2, corner(motion)), motion, "thinned");
    }
}
