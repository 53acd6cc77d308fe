//! Where known depths say that each pixel's depth lies.

use engine::files::map::Map;
use engine::files::pfm;
use engine::scene::camera::{DepthRange, Expected, Hypotheses, Sampling};
use engine::scene::{OpenOptions, Scene, View};
use glam::DVec2;
use tempfile::TempDir;

use crate::scene_files::TestScene;
use crate::truth::has_note;

const PLANES: usize = 400;

fn hypotheses() -> Hypotheses {
    Hypotheses::new(DepthRange { near: 1.0, far: 9.0 }, PLANES, Sampling::Linear)
}

/// The scene with a map for its first view, and what the map says at a quarter of the photo's sides.
fn expected(scene: &TestScene, map: &Map, has_manifest: bool) -> (Scene, Option<Expected>, (usize, usize)) {
    expected_within(None, scene, map, has_manifest)
}

fn expected_within(
    prior_tolerance: Option<f64>,
    scene: &TestScene,
    map: &Map,
    has_manifest: bool,
) -> (Scene, Option<Expected>, (usize, usize)) {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    scene.write_colmap_text(&root.join("scene"), "sparse/0");
    std::fs::create_dir_all(root.join("maps/depth")).unwrap();
    let name = scene.views[0].file.rsplit_once('.').unwrap().0;
    pfm::write(&root.join(format!("maps/depth/{name}.pfm")), map).unwrap();
    if has_manifest {
        std::fs::write(root.join("maps/manifest.json"), "{}").unwrap();
    }
    let options = OpenOptions { prior: Some(root.join("maps")), prior_tolerance, ..OpenOptions::default() };
    let opened = Scene::open(&root.join("scene"), &options).unwrap();
    let (view, size) = quarter(&opened);
    let said = view.expected((&view.camera.decimated(0.25), size), &hypotheses()).unwrap();
    (opened.clone(), said, size)
}

fn quarter(scene: &Scene) -> (&View, (usize, usize)) {
    let view = &scene.views[0];
    (view, (view.size.0.div_ceil(4), view.size.1.div_ceil(4)))
}

/// A depth that changes smoothly with the place in the stored photo, in shares of its sides.
fn depth(place: DVec2) -> f64 {
    3.0 + place.x + 0.5 * place.y
}

fn sampled(width: usize, height: usize) -> Map {
    let side = DVec2::new(width as f64, height as f64);
    let at = |i: usize| depth((DVec2::new((i % width) as f64, (i / width) as f64) + 0.5) / side) as f32;
    Map { width, height, data: (0..width * height).map(at).collect() }
}

/// Pixels `i` expects exactly the hypotheses around [0.95 least, 1.05 most], with one beyond at either end, where the
/// depths around the pixel lie between these; `slack` is how much they may, `grid` how much they do within half a pixel
/// of the map.
fn holds(expected: &Expected, i: usize, z: f64, (slack, grid): (f64, f64)) {
    let depths = hypotheses().depths;
    let [first, last] = expected.planes[i].map(|plane| depths[usize::from(plane)]);
    let step = depths[1] - depths[0];
    assert!(first <= 0.95 * (z + grid) && first >= 0.95 * (z - slack) - 2.0 * step, "pixel {i}: from {first} for {z}");
    assert!(last >= 1.05 * (z - grid) && last <= 1.05 * (z + slack) + 2.0 * step, "pixel {i}: to {last} for {z}");
}

#[test]
fn maps_of_any_size_say_where_each_pixel_lies() {
    let scene = TestScene::new();
    let (w, h) = (scene.size.0 as usize, scene.size.1 as usize);
    for (map_w, map_h) in [(w, h), (2 * w, 2 * h), (w / 2, h / 2), (w.div_ceil(4), h.div_ceil(4))] {
        let (opened, said, (width, height)) = expected(&scene, &sampled(map_w, map_h), false);
        let said = said.unwrap();
        assert_eq!((said.width, said.height()), (width, height));
        // What lies within half a pixel of the quarter and one of the map, and half a pixel for the map's own grid.
        let slack = 1.5 * (2.0 / w as f64 + 1.5 / map_w as f64 + 2.0 / h as f64 + 1.5 / map_h as f64);
        for i in 0..width * height {
            let pixel = 4.0 * DVec2::new((i % width) as f64, (i / width) as f64);
            let grid = 0.5 / map_w as f64 + 0.25 / map_h as f64;
            holds(&said, i, depth((pixel + 0.5) / DVec2::new(w as f64, h as f64)), (slack, grid));
        }
        assert!(!has_note(&opened, "another ratio"), "{:?}", opened.notes);
    }
}

/// A map of the stored photo is looked up through the lens, one of an earlier run is not.
#[test]
fn maps_lie_over_the_stored_photo_or_over_that_of_an_earlier_run() {
    let mut scene = TestScene::new();
    let (w, h) = (scene.size.0 as usize, scene.size.1 as usize);
    let f = scene.views[0].k.x_axis.x;
    let (cx, cy) = (0.5 * w as f64, 0.5 * h as f64);
    scene.model = Some((2, "SIMPLE_RADIAL", vec![f, cx, cy, -0.9]));
    for has_manifest in [false, true] {
        let (opened, said, (width, height)) = expected(&scene, &sampled(w, h), has_manifest);
        let (said, view) = (said.unwrap(), quarter(&opened).0);
        let lens = view.lens.as_ref().unwrap();
        let (mut moved, slack) = (0f64, 1.5 * (3.5 / w as f64 + 3.5 / h as f64));
        for i in 0..width * height {
            let pixel = 4.0 * DVec2::new((i % width) as f64, (i / width) as f64);
            let Some(stored) = lens.stored_pixel(pixel) else { continue };
            moved = moved.max(stored.distance(pixel));
            let place = if has_manifest { pixel } else { stored };
            holds(&said, i, depth((place + 0.5) / DVec2::new(w as f64, h as f64)), (slack, 0.75 / h as f64));
        }
        assert!(moved > 4.0, "the lens moves nothing by more than {moved} pixels");
    }
}

/// At an edge both sides are possible; where most is unknown, all depths are.
#[test]
fn edges_and_holes_narrow_less() {
    let scene = TestScene::new();
    let (w, h) = (scene.size.0 as usize, scene.size.1 as usize);
    let mut map = Map::filled(w, h, 3.0);
    for (i, z) in map.data.iter_mut().enumerate() {
        let (x, y) = (i % w, i / w);
        *z = if x >= w / 2 { 6.0 } else { *z };
        *z = if y < h / 4 { [0.0, f32::NAN, -1.0, f32::INFINITY][x % 4] } else { *z };
    }
    let said = expected(&scene, &map, false).1.unwrap();
    let depths = hypotheses().depths;
    for (i, planes) in said.planes.iter().enumerate() {
        let (x, y) = (4 * (i % said.width), 4 * (i / said.width));
        let [first, last] = planes.map(|plane| depths[usize::from(plane)]);
        if y + 4 < h / 4 {
            assert_eq!(*planes, [0, PLANES as u16 - 1], "pixel {x}, {y}");
        } else if y > h / 4 + 4 {
            let (near, far) = (if x > w / 2 + 4 { 6.0 } else { 3.0 }, if x + 4 < w / 2 { 3.0 } else { 6.0 });
            let close = |z: f64, to: f64| (z - to).abs() < 0.05;
            let whole = close(first, 0.95 * near) && close(last, 1.05 * far);
            assert!(whole || x.abs_diff(w / 2) <= 4, "pixel {x}, {y}: {first} to {last}");
        }
    }
    // As far off as one says.
    for tolerance in [0.01, 0.3] {
        let said = expected_within(Some(tolerance), &scene, &Map::filled(w, h, 4.0), false).1.unwrap();
        let step = depths[1] - depths[0];
        for [first, last] in said.planes.iter().map(|planes| planes.map(|plane| depths[usize::from(plane)])) {
            let (near, far) = (4.0 * (1.0 - tolerance), 4.0 * (1.0 + tolerance));
            assert!(first <= near && first > near - 2.0 * step, "{tolerance}: from {first}, not {near}");
            assert!(last >= far && last < far + 2.0 * step, "{tolerance}: to {last}, not {far}");
        }
    }
    // Of another shape than the photo: the range alone.
    let (opened, said, _) = expected(&scene, &sampled(w, h / 2), false);
    assert!(said.is_none() && has_note(&opened, "sides of another ratio"), "{:?}", opened.notes);
}
