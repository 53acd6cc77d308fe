//! The scene that every format is written from, and how what is read is held against it.

use std::path::Path;

use engine::scene::formats::calibration::Calibration;
use engine::scene::formats::table::{Layout, read_cameras};
use engine::scene::{OpenOptions, Scene};
use glam::DVec2;

use crate::scene_files::TestScene;

pub fn open(path: &Path, layout: Layout) -> Scene {
    let scene = Scene::open(path, &OpenOptions::default()).unwrap_or_else(|e| panic!("{layout:?}: {e}"));
    assert_eq!(scene.layout, layout);
    let (_, what) = layout.names();
    assert!(scene.notes.iter().any(|note| note.starts_with(&format!("read as {what}: "))), "{:?}", scene.notes);
    scene
}

pub fn cameras(path: &Path, layout: Layout) -> Calibration {
    let (found, calibration) = read_cameras(path, None).unwrap_or_else(|e| panic!("{layout:?}: {e}"));
    assert_eq!(found, layout);
    calibration
}

pub fn has_note(scene: &Scene, part: &str) -> bool {
    scene.notes.iter().any(|note| note.contains(part))
}

fn largest(differences: impl IntoIterator<Item = f64>) -> f64 {
    differences.into_iter().fold(0.0, |max, d| if d.is_nan() { f64::INFINITY } else { max.max(d.abs()) })
}

/// The largest difference of the stored photos' cameras: K in pixels, R and t.
pub fn difference(scene: &Scene, truth: &TestScene) -> f64 {
    assert_eq!(scene.views.len(), truth.views.len());
    let of_view = |truth: &crate::scene_files::TestView| {
        let stem = Path::new(&truth.file).file_stem().unwrap().to_str().unwrap();
        let named = |view: &&engine::scene::View| view.name == stem || view.name.starts_with(&format!("{stem}."));
        let view =
            scene.views.iter().find(named).unwrap_or_else(|| panic!("no view {stem}: {:?}", scene.views[0].name));
        let k = view.lens.as_ref().map_or(view.camera.k, |lens| lens.stored_k);
        let r = (view.camera.r - truth.r).to_cols_array();
        largest((k - truth.k).to_cols_array().into_iter().chain(r).chain((view.camera.t - truth.t).to_array()))
    };
    largest(truth.views.iter().map(of_view))
}

/// Asserts that the sparse points are the scene's, seen by the same views.
pub fn assert_points(scene: &Scene, truth: &TestScene, tolerance: f64) {
    assert_eq!(scene.points.len(), truth.points.len());
    for (point, (position, seen)) in scene.points.iter().zip(&truth.points) {
        assert!(point.position.distance(*position) < tolerance, "{point:?} is not {position}");
        let stems: Vec<String> = point.views.iter().map(|&v| scene.views[v].name.clone()).collect();
        let expected: Vec<String> = seen.iter().map(|id| format!("{id:08}")).collect();
        assert_eq!(stems, expected);
    }
}

/// The largest difference, over rays of all views, between the lens that was read and a formula of the test's own:
/// the photo's normalised coordinates of a ray.
pub fn lens_difference(scene: &Scene, formula: impl Fn(f64, f64) -> (f64, f64)) -> f64 {
    let mut differences = Vec::new();
    for view in &scene.views {
        let lens = view.lens.as_ref().expect("a lens");
        for i in -4..=4 {
            for j in -4..=4 {
                let (x, y) = (0.1 * f64::from(i), 0.08 * f64::from(j));
                let read = lens.distortion.distort(DVec2::new(x, y));
                let (u, v) = formula(x, y);
                differences.extend([read.x - u, read.y - v]);
            }
        }
    }
    largest(differences)
}
