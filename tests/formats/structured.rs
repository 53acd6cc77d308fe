//! Formats in JSON and XML.

use std::fs;

use engine::scene::formats::table::Layout;
use glam::{DMat3, DVec3};
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::{centred, put, rows, square, words};
use crate::format_trees::*;
use crate::scene_files::{TestScene, TestView};
use crate::truth::*;

/// What shortest decimal forms, an inverse and products of a few matrices of this size lose.
const EXACT: f64 = 1e-9;

#[test]
fn transforms_json() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("transforms.json");
    let mut written = frames(&truth);
    put(&file, written.to_string());
    let scene = open(folder.path(), Layout::Transforms);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert_eq!(scene.root, folder.path());
    // The file itself, under any name, and its folder as root.
    let other = folder.path().join("poses.json");
    fs::rename(&file, &other).unwrap();
    let scene = open(&other, Layout::Transforms);
    assert!(difference(&scene, &truth) < EXACT);
    assert_eq!(scene.root, folder.path());

    // All of them with nerfstudio's turn of the world, a scale, and points in that world.
    let turn = DMat3::from_cols(DVec3::new(1.0, 0.0, 0.0), DVec3::new(0.0, 0.0, -1.0), DVec3::new(0.0, 1.0, 0.0));
    let shift = DVec3::new(0.5, -2.0, 3.0);
    let r = rows(turn);
    let row = |i: usize| [r[i][0], r[i][1], r[i][2], shift[i]];
    written["applied_transform"] = json!([row(0), row(1), row(2)]);
    written["applied_scale"] = json!(0.25);
    written["ply_file_path"] = json!("sparse_pc.ply");
    for (frame, view) in written["frames"].as_array_mut().unwrap().iter_mut().zip(&truth.views) {
        let mut matrix = opengl(view, turn, shift);
        for row in matrix.as_array_mut().unwrap().iter_mut().take(3) {
            row[3] = json!(row[3].as_f64().unwrap() * 0.25);
        }
        frame["transform_matrix"] = matrix;
        frame["mask_path"] = json!("masks/a.png");
        frame["depth_file_path"] = json!("depth/a.png");
    }
    let mut ply = format!(
        "ply\nformat ascii 1.0\nelement vertex {}\nproperty double x\nproperty double y\n\
         property double z\nend_header\n",
        truth.points.len()
    );
    for (position, _) in &truth.points {
        let p = (turn * *position + shift) * 0.25;
        ply += &format!("{} {} {}\n", p.x, p.y, p.z);
    }
    put(&folder.path().join("sparse_pc.ply"), ply);
    put(&other, written.to_string());
    let scene = open(&other, Layout::Transforms);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert_eq!(scene.points.len(), truth.points.len());
    assert!(scene.points[7].position.distance(truth.points[7].0) < EXACT);
    for part in ["4 masks named", "4 depth maps named", "applied_transform and applied_scale are undone", "no tracks"] {
        assert!(has_note(&scene, part), "{part}: {:?}", scene.notes);
    }
}

#[test]
fn transforms_json_with_angles_and_lenses() {
    let truth = centred();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    // Angles alone, photos without an extension: instant-ngp's own examples.
    let frame = |v: &TestView| {
        json!({ "file_path": format!("./images/{:08}", v.id), "camera_angle_x": 2.0 * (32.0 / v.k.x_axis.x).atan(),
                "transform_matrix": opengl(v, DMat3::IDENTITY, DVec3::ZERO) })
    };
    let mut written = json!({ "frames": truth.views.iter().map(frame).collect::<Vec<_>>() });
    let file = folder.path().join("transforms.json");
    put(&file, written.to_string());
    let scene = open(folder.path(), Layout::Transforms);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    let [k1, k2, k3, k4, p1, p2] = [-0.1, 0.05, 0.02, -0.01, 0.003, -0.002];
    for (key, value) in [("k1", k1), ("k2", k2), ("k3", k3), ("k4", k4), ("p1", p1), ("p2", p2)] {
        written[key] = json!(value);
    }
    put(&file, written.to_string());
    let brown = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 + k1 * r2 + k2 * r2.powi(2) + k3 * r2.powi(3) + k4 * r2.powi(4);
        (x * d + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x), y * d + 2.0 * p2 * x * y + p1 * (r2 + 2.0 * y * y))
    };
    assert!(lens_difference(&open(&file, Layout::Transforms), brown) < 1e-14);
    for (key, value) in [("camera_model", json!("OPENCV_FISHEYE")), ("is_fisheye", json!(true))] {
        let mut fisheye = written.clone();
        fisheye[key] = value;
        put(&file, fisheye.to_string());
        let of_angle = |x: f64, y: f64| {
            let r = x.hypot(y).max(1e-300);
            let a = r.atan();
            let d = a * (1.0 + k1 * a.powi(2) + k2 * a.powi(4) + k3 * a.powi(6) + k4 * a.powi(8)) / r;
            (x * d, y * d)
        };
        assert!(lens_difference(&open(&file, Layout::Transforms), of_angle) < 1e-14);
    }
}

#[test]
fn metashape_xml() {
    let mut truth = TestScene::new();
    for (i, view) in truth.views.iter_mut().enumerate() {
        view.k.y_axis.x = 0.25 * i as f64;
    }
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("cameras.xml");
    put(&file, metashape(&truth, ""));
    let scene = open(folder.path(), Layout::Metashape);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    for part in ["disabled cameras left out: 1", "(not aligned) left out: 1", "transform is applied (scale 2.5)"] {
        assert!(has_note(&scene, part), "{part}: {:?}", scene.notes);
    }
    let [k1, k2, k3, k4, p1, p2] = [-0.1, 0.05, 0.02, -0.01, 0.003, -0.002];
    let lens = format!("<k1>{k1}</k1><k2>{k2}</k2><k3>{k3}</k3><k4>{k4}</k4><p1>{p1}</p1><p2>{p2}</p2>");
    put(&file, metashape(&truth, &lens));
    let manual = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 + k1 * r2 + k2 * r2.powi(2) + k3 * r2.powi(3) + k4 * r2.powi(4);
        (x * d + (p1 * (r2 + 2.0 * x * x) + 2.0 * p2 * x * y), y * d + (p2 * (r2 + 2.0 * y * y) + 2.0 * p1 * x * y))
    };
    assert!(lens_difference(&open(&file, Layout::Metashape), manual) < 1e-14);
    // The same of a fisheye sensor, on the angle; and a rolling shutter is told.
    let fisheye = metashape(&truth, &lens)
        .replace("type=\"frame\" class=\"adjusted\"", "type=\"equidistant_fisheye\" class=\"adjusted\"")
        .replace("<sensors>", "<sensors><!-- one -->")
        .replace(
            "type=\"frame\"><resolution",
            "type=\"frame\"><property name=\"rolling_shutter\" value=\"true\"/><resolution",
        );
    put(&file, fisheye);
    let scene = open(&file, Layout::Metashape);
    let of_angle = |x: f64, y: f64| {
        let r = x.hypot(y).max(1e-300);
        manual(x * r.atan() / r, y * r.atan() / r)
    };
    assert!(lens_difference(&scene, of_angle) < 1e-14);
    assert!(has_note(&scene, "4 sensors with rolling shutter"), "{:?}", scene.notes);
}

#[test]
fn openmvg_sfm_data() {
    let truth = square();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("sfm_data.json");
    put(&file, openmvg(&truth, "pinhole", json!({})).to_string());
    let scene = open(folder.path(), Layout::OpenMvg);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert_points(&scene, &truth, EXACT);
    let [k1, k2, k3, t1, t2] = [-0.1, 0.05, 0.02, 0.003, -0.002];
    put(&file, openmvg(&truth, "pinhole_brown_t2", json!({ "disto_t2": [k1, k2, k3, t1, t2] })).to_string());
    let brown = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 + k1 * r2 + k2 * r2.powi(2) + k3 * r2.powi(3);
        (x * d + t2 * (r2 + 2.0 * x * x) + 2.0 * t1 * x * y, y * d + t1 * (r2 + 2.0 * y * y) + 2.0 * t2 * x * y)
    };
    assert!(lens_difference(&open(&file, Layout::OpenMvg), brown) < 1e-14);
    put(&file, openmvg(&truth, "pinhole_radial_k3", json!({ "disto_k3": [k1, k2, k3] })).to_string());
    let radial = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 + k1 * r2 + k2 * r2.powi(2) + k3 * r2.powi(3);
        (x * d, y * d)
    };
    assert!(lens_difference(&open(&file, Layout::OpenMvg), radial) < 1e-14);
}

#[test]
fn opensfm_reconstruction() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("reconstruction.json");
    put(&file, opensfm(&truth, json!({})).to_string());
    let scene = open(folder.path(), Layout::OpenSfm);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert!(has_note(&scene, "2 reconstructions, of 0, 4 shots") && has_note(&scene, "no tracks"));
    put(&folder.path().join("tracks.csv"), opensfm_tracks(&truth));
    assert_points(&open(folder.path(), Layout::OpenSfm), &truth, EXACT);
    let [k1, k2, k3, p1, p2] = [-0.1, 0.05, 0.02, 0.003, -0.002];
    put(&file, opensfm(&truth, json!({ "k1": k1, "k2": k2, "k3": k3, "p1": p1, "p2": p2 })).to_string());
    let brown = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 + k1 * r2 + k2 * r2.powi(2) + k3 * r2.powi(3);
        (x * d + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x), y * d + 2.0 * p2 * x * y + p1 * (r2 + 2.0 * y * y))
    };
    assert!(lens_difference(&open(&file, Layout::OpenSfm), brown) < 1e-14);
    put(&file, opensfm(&truth, json!({ "projection_type": "fisheye", "k1": k1, "k2": k2 })).to_string());
    let of_angle = |x: f64, y: f64| {
        let r = x.hypot(y).max(1e-300);
        let a = r.atan();
        let d = a / r * (1.0 + k1 * a * a + k2 * a.powi(4));
        (x * d, y * d)
    };
    assert!(lens_difference(&open(&file, Layout::OpenSfm), of_angle) < 1e-14);
}

#[test]
fn alicevision_sfm() {
    for version in [[1, 0, 0], [1, 2, 0], [1, 2, 2], [1, 2, 5]] {
        let truth = if version == [1, 0, 0] { square() } else { TestScene::new() };
        let folder = TempDir::new().unwrap();
        truth.write_photos(folder.path());
        put(&folder.path().join("cameras.sfm"), alicevision(&truth, version, json!({})).to_string());
        let scene = open(folder.path(), Layout::AliceVision);
        assert!(difference(&scene, &truth) < EXACT, "{version:?}: {}", difference(&scene, &truth));
        assert_points(&scene, &truth, EXACT);
        assert!(has_note(&scene, "(not registered) left out: 1"), "{:?}", scene.notes);
    }
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("sfm.json");
    let [k1, k2, k3] = [-0.1, 0.05, 0.02];
    let radial = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 + k1 * r2 + k2 * r2.powi(2) + k3 * r2.powi(3);
        (x * d, y * d)
    };
    let params = [k1, k2, k3].map(|k| k.to_string());
    for lens in [
        json!({ "type": "radial3", "distortionParams": params }),
        json!({ "type": "pinhole", "distortionType": "radialk3", "distortionParams": params }),
    ] {
        put(&file, alicevision(&truth, [1, 2, 5], lens).to_string());
        assert!(lens_difference(&open(folder.path(), Layout::AliceVision), radial) < 1e-14);
    }
    let w = 0.9f64;
    put(&file, alicevision(&truth, [1, 2, 5], json!({ "type": "fisheye1", "distortionParams": ["0.9"] })).to_string());
    let fov = |x: f64, y: f64| {
        let r = x.hypot(y);
        let d = if r == 0.0 { 2.0 * (w / 2.0).tan() / w } else { (2.0 * r * (w / 2.0).tan()).atan() / w / r };
        (x * d, y * d)
    };
    assert!(lens_difference(&open(&file, Layout::AliceVision), fov) < 1e-14);
}

#[test]
fn realitycapture_xmp_and_csv() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    write_xmp(&truth, folder.path(), &[0.0; 6]);
    let scene = open(folder.path(), Layout::RealityCapture);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    let k @ [k1, k2, k3, k4, t1, t2] = [-0.1, 0.05, 0.02, -0.01, 0.003, -0.002];
    write_xmp(&truth, folder.path(), &k);
    let brown = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 + k1 * r2 + k2 * r2.powi(2) + k3 * r2.powi(3) + k4 * r2.powi(4);
        (x * d + 2.0 * t1 * x * y + t2 * (r2 + 2.0 * x * x), y * d + 2.0 * t2 * x * y + t1 * (r2 + 2.0 * y * y))
    };
    assert!(lens_difference(&open(folder.path(), Layout::RealityCapture), brown) < 1e-14);

    let truth = square();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let mut text = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2\n".to_owned();
    for v in &truth.views {
        let c = -(v.r.transpose() * v.t);
        // The camera's right, up and backward in the world; the angles of Rz(-heading) Rx(pitch) Ry(roll).
        let m = rows(v.r.transpose() * DMat3::from_diagonal(DVec3::new(1.0, -1.0, -1.0)));
        let heading = m[0][1].atan2(m[1][1]).to_degrees();
        let (pitch, roll) = (m[2][1].asin().to_degrees(), (-m[2][0]).atan2(m[2][2]).to_degrees());
        let (f, px) = (v.k.x_axis.x * 36.0 / 64.0, (v.k.z_axis.x - 31.5) * 36.0 / 64.0);
        let py = (v.k.z_axis.y - 23.5) * 36.0 / 64.0;
        let numbers = words(&[c.x, c.y, c.z, heading, pitch, roll, f, px, py], ",");
        text += &format!("{},{numbers},0,0,0,0,0,0\n", v.file);
    }
    put(&folder.path().join("registration.csv"), text);
    let scene = open(folder.path(), Layout::RealityCapture);
    // The angles go through degrees and an arcsine near its end.
    assert!(difference(&scene, &truth) < 1e-9, "{}", difference(&scene, &truth));
}
