//! Panoramas and wide fisheyes: their faces are what pinhole cameras at the same place see, and views like any others.

use std::f64::consts::PI;
use std::fs;
use std::path::Path;

use engine::scene::formats::table::read_cameras;
use engine::scene::lens::{Distortion, Face};
use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene, View};
use glam::{DMat3, DVec2, DVec3};
use serde_json::json;
use tempfile::TempDir;

use crate::format_trees::*;
use crate::room::{self, Sight};
use crate::scene_files::TestScene;

/// A scene's photos and model in a folder.
fn write(root: &Path, scene: &TestScene, sight: Sight) {
    scene.write_colmap_text(root, "sparse/0");
    for view in &scene.views {
        let pixels = room::render((view.r, view.t), scene.size, |pixel| sight(pixel, scene.size), (1, 1));
        room::picture(scene.size, &pixels).save(root.join("images").join(&view.file)).unwrap();
    }
}

fn open(root: &Path, options: &OpenOptions) -> Scene {
    Scene::open(root, options).unwrap()
}

fn names(scene: &Scene) -> Vec<&str> {
    scene.views.iter().map(|view| view.name.as_str()).collect()
}

/// How the photo's pixels differ from those of the pinhole camera itself, where the face shows something: the most, the
/// 95th percentile, and the share of pixels where it does.
fn difference(view: &View) -> (f64, f64, f64) {
    let mut loaded = Photo::load(view, None).unwrap();
    let mask = loaded.take_mask(view).unwrap();
    let (k, size) = (view.camera.k, (view.size.0 as u32, view.size.1 as u32));
    let sight = |pixel: DVec2| Some(k.inverse() * pixel.extend(1.0));
    let expected = room::render((view.camera.r, view.camera.t), size, sight, (1, 1));
    let (mut differences, mut shown) = (Vec::new(), 0usize);
    for (i, (found, expected)) in loaded.photo.rgb.chunks_exact(3).zip(&expected).enumerate() {
        if mask.as_ref().is_some_and(|mask| mask.is_outside(i % view.size.0, i / view.size.0)) {
            continue;
        }
        shown += 1;
        for (found, expected) in found.iter().zip(expected) {
            differences.push((f64::from(*found) - expected).abs());
        }
    }
    differences.sort_by(f64::total_cmp);
    let most = differences[differences.len() - 1];
    (most, differences[differences.len() * 95 / 100], shown as f64 / expected.len() as f64)
}

/// Half a step of 8 bits, a quarter more by the interpolation's negative weights, and as much again for what the
/// interpolation does to waves of 40 pixels, ...
const TOLERANCE: f64 = 2.0 * 1.25 * 0.5 / 255.0;
/// ... and at the room's edges, where the waves have a kink: up to 1.8 for a length of 1, which is 0.1 for a pixel in
/// the farthest corner, once more on the other side, of which an eighth of a pixel is lost.
const AT_EDGES: f64 = TOLERANCE + 2.0 * 0.1 / 8.0;

#[test]
fn faces_of_panoramas_are_pinhole_images_from_the_same_place() {
    let folder = TempDir::new().unwrap();
    let truth = room::panoramas(2, 512);
    write(folder.path(), &truth, room::panorama);
    let scene = open(folder.path(), &OpenOptions::default());
    let expected = ["front", "right", "back", "left", "up", "down"];
    let all: Vec<String> = truth.views.iter().flat_map(|v| expected.map(|f| format!("{}@{f}", &v.file[..3]))).collect();
    assert_eq!(names(&scene), all);
    let focal = 512.0 / (2.0 * PI);
    for (i, view) in scene.views.iter().enumerate() {
        let of = &truth.views[i / 6];
        // COLMAP's image has the id, eight times as large to have room for faces.
        assert_eq!(view.id, of.id * 8 + 1 + (i % 6) as u32);
        let turn = Face::ALL[i % 6].turn();
        assert!((turn.determinant() - 1.0).abs() < 1e-15);
        let (centre, expected) = (view.camera.centre(), -(of.r.transpose() * of.t));
        assert!(centre.distance(expected) < 1e-15, "{}: {centre} is not {expected}", view.name);
        // What the photo's camera sees in this direction is ahead of the face's.
        let ahead = of.r.transpose() * turn.z_axis;
        assert!(view.camera.r.row(2).distance(ahead) < 1e-15);
        // A pixel in the middle is one of the photo's equator.
        assert!((view.camera.k.x_axis.x - focal).abs() < 1e-9 && (view.camera.k.y_axis.y - focal).abs() < 1e-9);
        // 100 degrees, rounded up to a multiple of four.
        assert_eq!(view.size, (196, 196));
        let (most, usual, shown) = difference(view);
        assert!(most < AT_EDGES && usual < TOLERANCE && shown == 1.0, "{}: {most} {usual} {shown}", view.name);
    }
    // The directions of all faces' axes: each is one of the photo's.
    let axes: DMat3 = Face::ALL.iter().map(|face| face.turn()).fold(DMat3::ZERO, |sum, turn| sum + turn);
    assert_eq!(axes.z_axis, DVec3::ZERO);
    assert!(scene.notes.iter().any(|n| n.starts_with("2 photos that one pinhole image cannot hold")));
}

#[test]
fn fisheyes_have_the_faces_that_they_see_cropped_to_their_circle() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), &room::fisheyes(2, 320), room::fisheye);
    let scene = open(folder.path(), &OpenOptions::default());
    assert_eq!(names(&scene)[..5], ["000@front", "000@right", "000@left", "000@up", "000@down"]);
    assert_eq!(scene.views.len(), 10);
    let focal = room::fisheye_focal((320, 320));
    for view in &scene.views {
        assert!((view.camera.k.x_axis.x / focal - 1.0).abs() < 1e-9);
        let (most, usual, shown) = difference(view);
        assert!(usual < TOLERANCE, "{}: {usual}", view.name);
        // Where the circle ends within the face, the interpolation reaches over its border: the photo is black there.
        let mut loaded = Photo::load(view, None).unwrap();
        let mask = loaded.take_mask(view).unwrap();
        if view.name.ends_with("front") {
            assert!(mask.is_none() && most < AT_EDGES && shown == 1.0, "{}: {most} {shown}", view.name);
        } else {
            assert!(view.size.0.min(view.size.1) * 3 < view.size.0.max(view.size.1) * 2, "{:?}", view.size);
            assert!(shown > 0.5, "{}: {shown}", view.name);
        }
    }
}

/// What a mask leaves of a photo decides about its faces, and cuts those that stay.
#[test]
fn masks_leave_faces_out_and_cut_the_others() {
    let folder = TempDir::new().unwrap();
    let truth = room::panoramas(2, 256);
    write(folder.path(), &truth, room::panorama);
    let masks = folder.path().join("masks");
    fs::create_dir_all(&masks).unwrap();
    // Of the first photo nothing below the horizon's lower quarter, where the tripod is; of the second only ahead.
    let below = |_: u32, y: u32| if y < 80 { 255 } else { 0 };
    let ahead = |x: u32, y: u32| if (120..136).contains(&x) && (60..68).contains(&y) { 255 } else { 0 };
    let grey = |value: &dyn Fn(u32, u32) -> u8| image::GrayImage::from_fn(256, 128, |x, y| image::Luma([value(x, y)]));
    grey(&below).save(masks.join("000.png")).unwrap();
    grey(&ahead).save(masks.join("001.png")).unwrap();
    let options = OpenOptions { masks: Some(masks), ..OpenOptions::default() };
    let scene = open(folder.path(), &options);
    assert_eq!(names(&scene), ["000@front", "000@right", "000@back", "000@left", "000@up", "001@front"]);
    // The faces that stay have the ids that they have without masks.
    assert_eq!(scene.views[5].id, 17);
    for view in &scene.views {
        let mask = Photo::load_mask(view, None).unwrap();
        let (lens, _) = view.face().unwrap();
        for i in 0..view.size.0 * view.size.1 {
            let (x, y) = (i % view.size.0, i / view.size.0);
            let stored = lens.stored_pixel(DVec2::new(x as f64, y as f64)).unwrap().round();
            let (u, v) = ((stored.x.max(0.0) as u32).min(255), (stored.y.max(0.0) as u32).min(127));
            let shown = if view.name.starts_with("000") { below(u, v) } else { ahead(u, v) } > 0;
            assert_eq!(mask.as_ref().is_none_or(|mask| !mask.is_outside(x, y)), shown, "{} {x} {y}", view.name);
        }
    }
}

/// Points belong to the faces that show them, and no face has another of its photo as a source view.
#[test]
fn points_and_source_views_go_to_the_faces_that_see_them() {
    let folder = TempDir::new().unwrap();
    let truth = room::panoramas(4, 128);
    write(folder.path(), &truth, room::panorama);
    let mut scene = open(folder.path(), &OpenOptions::default());
    assert_eq!(scene.points.len(), truth.points.len());
    for (point, (position, _)) in scene.points.iter().zip(&truth.points) {
        assert!(point.position.distance(*position) < 1e-9);
        let seeing: Vec<usize> = (0..scene.views.len())
            .filter(|&i| {
                let view = &scene.views[i];
                view.camera.pixel(*position).is_some_and(|(pixel, _)| {
                    let last = DVec2::new(view.size.0 as f64, view.size.1 as f64) - 0.5;
                    pixel.cmpge(DVec2::splat(-0.5)).all() && pixel.cmplt(last).all()
                })
            })
            .collect();
        // All four photos see everything: each by one face at least, and by three at a corner of the cube.
        assert_eq!(point.views, seeing);
        assert!((4..=12).contains(&seeing.len()));
    }
    scene.select_sources();
    for (i, view) in scene.views.iter().enumerate() {
        assert!(view.sources.len() >= 3, "{}: {:?}", view.name, view.sources);
        assert!(view.sources.iter().all(|s| s.view / 6 != i / 6), "{}: {:?}", view.name, view.sources);
    }
    // What a list beside the cameras says of photos holds for their faces.
    fs::create_dir_all(folder.path().join("stereo")).unwrap();
    fs::write(folder.path().join("stereo/patch-match.cfg"), "000.png\n002.png, 001.png\n").unwrap();
    let listed = open(folder.path(), &OpenOptions::default());
    let first: Vec<&str> = listed.views[1].sources.iter().map(|s| listed.views[s.view].name.as_str()).collect();
    assert_eq!(first, ["002@right", "001@right"]);
    assert!(listed.views[6].sources.is_empty());
}

/// Every format that has panoramas gives COLMAP's K of them: pixels for a radian, and the middle.
#[test]
fn panoramas_of_other_formats_are_the_same_camera() {
    let mut truth = TestScene::new();
    truth.size = (64, 32);
    let (f, middle) = (64.0 / (2.0 * PI), DVec3::new(31.5, 15.5, 1.0));
    truth.views.iter_mut().for_each(|view| view.k = DMat3::from_cols(DVec3::X * f, DVec3::Y * f, middle));
    let spherical = json!({ "projection_type": "spherical" });
    let mut sfm = opensfm(&truth, spherical);
    sfm[1]["cameras"].as_object_mut().unwrap().values_mut().for_each(|camera| camera["height"] = json!(32));
    let mut mvg = openmvg(&truth, "spherical", json!({}));
    for part in ["views", "intrinsics"] {
        for entry in mvg[part].as_array_mut().unwrap() {
            entry["value"]["ptr_wrapper"]["data"]["height"] = json!(32);
        }
    }
    let mut nerf = frames(&truth);
    nerf["camera_model"] = json!("EQUIRECTANGULAR");
    let mut alice = alicevision(&truth, [1, 2, 5], json!({ "type": "equirectangular", "height": "32" }));
    alice["views"].as_array_mut().unwrap().iter_mut().for_each(|view| view["height"] = json!("32"));
    let agisoft = metashape(&truth, "").replace("height=\"48\"", "height=\"32\"").replace("\"frame\"", "\"spherical\"");
    let files = [
        ("reconstruction.json", sfm.to_string(), 0.0),
        // Its middle is half the width where the first pixel's centre is 0.
        ("sfm_data.json", mvg.to_string(), 0.5),
        ("transforms.json", nerf.to_string(), 0.0),
        // Read with the principal point that the file has.
        ("cameras.sfm", alice.to_string(), f64::NAN),
        ("cameras.xml", agisoft, 0.0),
    ];
    for (name, text, shift) in files {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(name), text).unwrap();
        let (layout, calibration) = read_cameras(folder.path(), None).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (shot, view) in calibration.shots.iter().zip(&truth.views) {
            assert_eq!(shot.distortion, Some(Distortion::Equirectangular), "{layout:?}");
            let k = shot.intrinsics.k("test", (64, 32)).unwrap();
            assert!((k.x_axis.x - f).abs() < 1e-9 && (k.y_axis.y - f).abs() < 1e-9, "{name}: {k}");
            if shift.is_finite() {
                assert!((k.z_axis - middle - DVec3::new(shift, shift, 0.0)).length() < 1e-9, "{name}: {k}");
            }
            assert!((shot.r - view.r).to_cols_array().iter().all(|d| d.abs() < 1e-9), "{name}");
            assert!(shot.t.distance(view.t) < 1e-9, "{name}");
        }
    }
}
