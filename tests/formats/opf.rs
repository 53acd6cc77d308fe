//! Pix4D's OPF: the scene's cameras and points, its lenses, and what is wrong in one of its files.

use std::fs;

use engine::scene::formats::table::{Layout, read_cameras};
use engine::scene::lens::Distortion;
use engine::scene::{OpenOptions, Scene};
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::square;
use crate::format_opf::write_opf;
use crate::truth::{assert_points, difference, has_note, lens_difference, open};

#[test]
fn projects_of_opf_give_cameras_and_tracks() {
    let folder = TempDir::new().unwrap();
    let truth = square();
    truth.write_photos(folder.path());
    write_opf(&truth, folder.path(), json!({}));
    let scene = open(&folder.path().join("project.opf"), Layout::Opf);
    // Angles in degrees and back.
    assert!(difference(&scene, &truth) < 1e-9, "{}", difference(&scene, &truth));
    // Points are f32.
    assert_points(&scene, &truth, 1e-6);
    assert!(has_note(&scene, "those of EPSG:32616 less 500 -20.5 0") && has_note(&scene, "4 sensors with a rolling"));

    let lens = json!({ "radial_distortion": [-0.1, 0.05, 0.01], "tangential_distortion": [0.002, -0.003] });
    write_opf(&truth, folder.path(), lens);
    let scene = open(folder.path(), Layout::Opf);
    let formula = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let radial = 1.0 - 0.1 * r2 + 0.05 * r2 * r2 + 0.01 * r2 * r2 * r2;
        let u = radial * x + 2.0 * 0.002 * x * y - 0.003 * (r2 + 2.0 * x * x);
        (u, radial * y - 2.0 * 0.003 * x * y + 0.002 * (r2 + 2.0 * y * y))
    };
    assert!(lens_difference(&scene, formula) < 1e-14);
    assert!(difference(&scene, &truth) < 1e-9);
}

#[test]
fn fisheyes_of_opf_have_pix4ds_formula_and_panoramas_go_around() {
    let folder = TempDir::new().unwrap();
    let truth = square();
    truth.write_photos(folder.path());
    let polynomial = [0.0, 1.0, 0.02, -0.1];
    write_opf(
        &truth,
        folder.path(),
        json!({ "type": "fisheye", "affine": [100.0, 0.5, 0.0, 101.0],
                                             "polynomial": polynomial }),
    );
    let scene = open(folder.path(), Layout::Opf);
    let k = scene.views[0].lens.as_ref().unwrap().stored_k;
    assert_eq!((k.x_axis.x, k.y_axis.x, k.y_axis.y), (100.0, 0.5, 101.0));
    let formula = |x: f64, y: f64| {
        let r = x.hypot(y);
        let q = 2.0 / std::f64::consts::PI * r.atan();
        let bent = q + 0.02 * q * q - 0.1 * q * q * q;
        if r == 0.0 { (0.0, 0.0) } else { (x / r * bent, y / r * bent) }
    };
    assert!(lens_difference(&scene, formula) < 1e-14);
    write_opf(&truth, folder.path(), json!({ "type": "spherical" }));
    let (_, calibration) = read_cameras(folder.path(), None).unwrap();
    assert_eq!(calibration.shots[0].distortion, Some(Distortion::Equirectangular));
}

/// A text in one of the files gives way to another; what the message must have in it.
#[test]
fn what_is_wrong_in_a_project_is_told_in_a_line() {
    const PROJECT: &str = "project.opf";
    const LIST: &str = "camera-list.json";
    const INPUT: &str = "input-cameras.json";
    const CALIBRATED: &str = "calibrated-cameras.json";
    const TRACKS: &str = "tracks.gltf";
    let cases: &[(&str, &str, &str, &str)] = &[
        (PROJECT, "\"items\"", "\"things\"", "missing field `items`"),
        (PROJECT, "opf-camera-list+json", "opf-list+json", "no resource of application/opf-camera-list+json"),
        (PROJECT, "opf-input-cameras+json", "opf-cameras+json", "no resource of application/opf-input-cameras+json"),
        (PROJECT, "opf-calibrated-cameras+json", "x", "no resource of application/opf-calibrated-cameras+json"),
        (PROJECT, "camera-list.json", "no-list.json", "no-list.json"),
        (PROJECT, "{", "[", "line 1 column"),
        (LIST, "\"cameras\"", "\"c\"", "missing field `cameras`"),
        (LIST, "\"uri\":\"file", "\"url\":\"file", "missing field `uri`"),
        (INPUT, "\"sensors\"", "\"s\"", "missing field `sensors`"),
        (INPUT, "[64,48]", "[64]", "line 1 column"),
        (INPUT, "[64,48]", "[64,48.5]", "sensor 3: a size of 64 x 48.5"),
        (CALIBRATED, "\"sensor_id\":7", "\"sensor_id\":99", "sensor_id 99"),
        (CALIBRATED, "\"id\":10000000007", "\"id\":10000000003", "for the second time"),
        (CALIBRATED, "\"type\":\"perspective\"", "\"type\":\"rolling\"", "internals of type rolling"),
        (CALIBRATED, "\"type\":\"perspective\"", "\"type\":\"fisheye\"", "a fisheye without affine"),
        (CALIBRATED, "\"focal_length_px\":", "\"f\":", "no focal_length_px"),
        (CALIBRATED, "\"focal_length_px\":", "\"focal_length_px\":-", "focal lengths -"),
        (CALIBRATED, "[0.0,0.0,0.0]", "[0.0,0.0]", "line 1 column"),
        (CALIBRATED, "\"position\":[", "\"position\":[1.0,", "line 1 column"),
        (CALIBRATED, "\"orientation_deg\":[", "\"orientation_deg\":[1e400,", "line 1 column"),
        (TRACKS, "\"type\":\"VEC3\"", "\"type\":\"VEC2\"", "accessor 0: VEC2 of componentType 5126"),
        (TRACKS, "\"componentType\":5126", "\"componentType\":5123", "accessor 0: VEC3 of componentType 5123"),
        (TRACKS, "\"count\":200", "\"count\":201", "accessor 0: 201 elements"),
        (TRACKS, "\"pointIndexRanges\":2", "\"pointIndexRanges\":9", "accessor 9: no such accessor"),
        (TRACKS, "\"bufferView\":0", "\"bufferView\":7", "bufferView 7"),
        (TRACKS, "\"cameraUids\":[", "\"cameraUids\":[],\"c\":[", "camera 0 of point 0"),
        (TRACKS, "positions.bin", "nothing.bin", "nothing.bin"),
    ];
    let truth = square();
    for (name, from, to, expected) in cases {
        let folder = TempDir::new().unwrap();
        truth.write_photos(folder.path());
        write_opf(&truth, folder.path(), json!({}));
        let file = folder.path().join(name);
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{name}: {from}: {text}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let what = format!("{name}: {from} => {to}");
        match Scene::open(&folder.path().join(PROJECT), &OpenOptions::default()) {
            Ok(scene) => panic!("{what}: read all the same: {:?}", scene.notes),
            Err(error) => {
                let text = error.to_string();
                assert!(text.lines().count() == 1 && text.contains(expected), "{what}: {text}");
            }
        }
    }
    // Points that point beyond the matches are known to be there in the specification's own example.
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    write_opf(&truth, folder.path(), json!({}));
    let mut ranges = fs::read(folder.path().join("ranges.bin")).unwrap();
    ranges[4..8].copy_from_slice(&70_000u32.to_le_bytes());
    fs::write(folder.path().join("ranges.bin"), ranges).unwrap();
    let scene = open(folder.path(), Layout::Opf);
    assert!(has_note(&scene, "1 points whose matches lie beyond") && scene.points.len() == 199);
}
