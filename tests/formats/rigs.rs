//! Cameras that are fixed to each other: poses are put together from the rig's and the place of each in it.

use engine::scene::formats::table::Layout;
use glam::{DMat3, DVec3};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::format_files::*;
use crate::format_trees::*;
use crate::scene_files::{TestScene, TestView};
use crate::truth::{difference, has_note, open};

fn transform((r, t): (DMat3, DVec3)) -> Value {
    let text = |value: f64| Value::String(value.to_string());
    let centre = -(r.transpose() * t);
    json!({ "rotation": r.to_cols_array().map(text), "center": centre.to_array().map(text) })
}

/// The first two views are of a rig whose pose is that of neither.
#[test]
fn rigs_of_alicevision() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    truth.write_photos(folder.path());
    let rig = (DMat3::from_rotation_y(0.7) * DMat3::from_rotation_x(-0.2), DVec3::new(0.3, -2.0, 1.5));
    // From the rig to the camera.
    let place = |view: &TestView| {
        let r = view.r * rig.0.transpose();
        (r, view.t - r * rig.1)
    };
    let mut file = alicevision(&truth, [1, 2, 5], json!({}));
    let ids: Vec<Value> = [0, 1].map(|i| file["views"][i]["viewId"].clone()).to_vec();
    for (i, view) in file["views"].as_array_mut().unwrap().iter_mut().take(2).enumerate() {
        let said = json!({ "rigId": "41", "subPoseId": i.to_string(), "poseId": "500", "isPoseIndependant": "false" });
        view.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
    }
    let poses = file["poses"].as_array_mut().unwrap();
    poses.retain(|pose| !ids.contains(&pose["poseId"]));
    poses.push(json!({ "poseId": "500", "pose": { "transform": transform(rig), "locked": "0" } }));
    let places: Vec<Value> =
        truth.views[..2].iter().map(|view| json!({ "status": "estimated", "pose": transform(place(view)) })).collect();
    file["rigs"] = json!([{ "rigId": "41", "subPoses": places }]);
    std::fs::write(folder.path().join("cameras.sfm"), file.to_string()).unwrap();
    let scene = open(folder.path(), Layout::AliceVision);
    assert!(difference(&scene, &truth) < 1e-9, "{}", difference(&scene, &truth));
    assert!(has_note(&scene, "put together from their rig's and their place in it: 2"));

    // Without its place in the rig a view cannot be used; with a pose of its own it needs none.
    file["rigs"][0]["subPoses"][1]["status"] = json!("uninitialized");
    std::fs::write(folder.path().join("cameras.sfm"), file.to_string()).unwrap();
    let scene = open(folder.path(), Layout::AliceVision);
    assert!(scene.views.len() == 3 && has_note(&scene, "without a place in their rig left out: 1"));
    file["views"][1]["isPoseIndependant"] = json!("true");
    std::fs::write(folder.path().join("cameras.sfm"), file.to_string()).unwrap();
    assert_eq!(open(folder.path(), Layout::AliceVision).views.len(), 4);
}

/// The second view is of the rig's further sensor: it has no transform, but its sensor a place beside the first one's.
#[test]
fn rigs_of_metashape() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    truth.write_photos(folder.path());
    let [first, second] = [&truth.views[0], &truth.views[1]];
    // In the chunk's units, of which the world has 2.5.
    let turn = first.r * second.r.transpose();
    let beside = first.r * (centre(second) - centre(first)) / 2.5;
    let text = metashape(&truth, "");
    let start = text.find("<camera id=\"1\"").unwrap();
    let end = start + text[start..].find("</camera>").unwrap();
    let slave = "<camera id=\"1\" sensor_id=\"1\" master_id=\"0\" label=\"00000007\">";
    let of_sensor = format!(
        "<sensor id=\"1\" label=\"a\" type=\"frame\" master_id=\"0\"><rotation locked=\"false\">{}</rotation>\
         <location>{}</location>",
        words(&rows(turn).concat(), " "),
        words(&beside.to_array(), " ")
    );
    let with_rig = format!("{}{slave}{}", &text[..start], &text[end..]);
    let whole = with_rig.replace("<sensor id=\"1\" label=\"a\" type=\"frame\">", &of_sensor);
    assert!(whole.contains(&of_sensor));
    std::fs::write(folder.path().join("cameras.xml"), &whole).unwrap();
    let scene = open(folder.path(), Layout::Metashape);
    assert!(difference(&scene, &truth) < 1e-9, "{}", difference(&scene, &truth));
    assert!(has_note(&scene, "placed by rotation and location of their sensor beside the first: 1"));

    std::fs::write(folder.path().join("cameras.xml"), with_rig).unwrap();
    let error = engine::scene::Scene::open(folder.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("(00000007): a camera with master_id") && error.lines().count() == 1, "{error}");
}
