//! The formulas of lenses against COLMAP's and OpenCV's own programs (`tools/make_lens_goldens.py`); OpenCV's as
//! `transforms.json` names the coefficients.

use engine::scene::colmap::camera_models::optics;
use engine::scene::formats::table::Layout;
use engine::scene::lens::Distortion;
use glam::{DVec2, DVec3};
use serde::Deserialize;

use crate::format_files::put;
use crate::format_trees::frames;
use crate::scene_files::TestScene;
use crate::truth::cameras;

#[derive(Deserialize)]
struct Goldens {
    rays: Vec<[f64; 2]>,
    panorama: Panorama,
    models: Vec<Model>,
}

/// Directions all around, and where COLMAP's EQUIRECTANGULAR of 640 x 480 has them.
#[derive(Deserialize)]
struct Panorama {
    directions: Vec<[f64; 3]>,
    pixels: Vec<[f64; 2]>,
}

#[derive(Deserialize)]
struct Model {
    model: String,
    parameters: Vec<f64>,
    pixels: Vec<[f64; 2]>,
}

#[test]
fn lenses_are_those_of_colmap_and_opencv() {
    let text = include_str!("../data/lenses.json");
    let Goldens { rays, panorama, models } = serde_json::from_str(text).unwrap();
    assert_eq!(models.len(), 21);
    let (f, c, distortion) = optics("test", "EQUIRECTANGULAR", &[640.0, 480.0]).unwrap();
    for (direction, pixel) in panorama.directions.into_iter().zip(panorama.pixels) {
        let bent = distortion.unwrap().bend(DVec3::from_array(direction));
        let found = DVec2::new(f[0] * bent.x + c[0], f[1] * bent.y + c[1]);
        assert!(found.distance(DVec2::from_array(pixel)) < 1e-10, "{direction:?}: {found} is not {pixel:?}");
    }
    for Model { model, parameters, pixels } in models {
        let p = &parameters;
        let (f, c, distortion) = match model.as_str() {
            "cv2 fisheye" => ([1.0; 2], [0.0; 2], of_transforms_json("OPENCV_FISHEYE", &["k1", "k2", "k3", "k4"], p)),
            "cv2 5" => ([1.0; 2], [0.0; 2], of_transforms_json("OPENCV", &IN_OPENCVS_ORDER, p)),
            opencv if opencv.starts_with("cv2 ") => {
                ([1.0; 2], [0.0; 2], of_transforms_json("FULL_OPENCV", &IN_OPENCVS_ORDER, p))
            }
            colmap => optics("test", colmap, p).unwrap(),
        };
        let distortion = distortion.unwrap();
        for (ray, pixel) in rays.iter().zip(&pixels) {
            let bent = distortion.distort(DVec2::from_array(*ray));
            let difference = (f[0] * bent.x + c[0] - pixel[0]).abs().max((f[1] * bent.y + c[1] - pixel[1]).abs());
            // A few roundings of pixels of some hundreds; OpenCV leaves rays within 1e-8 of the axis as they are.
            assert!(difference < 1e-11 * f[0].max(10.0), "{model}: {ray:?} differs by {difference}");
        }
    }
}

/// As cv2.calibrateCamera returns them.
const IN_OPENCVS_ORDER: [&str; 14] =
    ["k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tau_x", "tau_y"];

/// The lens that is read from a file with these coefficients, those that are not there left out.
fn of_transforms_json(model: &str, names: &[&str], coefficients: &[f64]) -> Option<Distortion> {
    let folder = tempfile::tempdir().unwrap();
    let mut written = frames(&TestScene::new());
    written["camera_model"] = model.into();
    for (&name, &value) in names.iter().zip(coefficients) {
        written[name] = value.into();
    }
    put(&folder.path().join("transforms.json"), written.to_string());
    cameras(folder.path(), Layout::Transforms).shots[0].distortion
}

/// The directions from the photo to the ray are right inverses, to the last digits.
#[test]
fn lenses_that_are_solved_come_back() {
    for k in [-0.3, -0.05, 0.2, 3.0] {
        for i in 1..40 {
            let ray = DVec2::new(0.02 * f64::from(i), -0.015 * f64::from(i));
            let m = Distortion::Measured { k }.distort(ray);
            let back = m * (1.0 + k * m.length_squared());
            // Beyond the fold of a negative coefficient there is no such place.
            let fold = if k < 0.0 { 2.0 / 3.0 * (-1.0 / (3.0 * k)).sqrt() } else { f64::INFINITY };
            match ray.length() < fold {
                true => assert!(back.distance(ray) < 1e-14, "{k} {ray} {back}"),
                false => assert!(m.is_nan(), "{k} {ray} {m}"),
            }
            let d = Distortion::Division { k }.distort(ray);
            if 4.0 * k * ray.length_squared() < 1.0 {
                let back = d / (1.0 + k * d.length_squared());
                assert!(back.distance(ray) < 1e-14, "{k} {ray} {back}");
            }
        }
    }
}
