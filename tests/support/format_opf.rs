//! A project of Pix4D's OPF in all its files.

#![allow(dead_code)] // each test file uses its own part

use std::path::Path;

use glam::{DMat3, DVec3};
use serde_json::{Value, json};

use crate::format_files::{centre, put};
use crate::scene_files::{TestScene, TestView};

/// Omega, phi and kappa in degrees: of `Rx Ry Rz`, which leads from a camera with y up to the world.
fn angles(view: &TestView) -> [f64; 3] {
    let r = view.r.transpose() * DMat3::from_diagonal(DVec3::new(1.0, -1.0, -1.0));
    let (omega, phi, kappa) = ((-r.z_axis.y).atan2(r.z_axis.z), r.z_axis.x.asin(), (-r.y_axis.x).atan2(r.x_axis.x));
    [omega, phi, kappa].map(f64::to_degrees)
}

/// Writes the project; `internals` are added to those of every sensor. Focal lengths must be the same both ways.
pub fn write_opf(scene: &TestScene, root: &Path, internals: Value) {
    let (width, height) = scene.size;
    let of = |v: &TestView| {
        let mut own = json!({ "type": "perspective", "principal_point_px": [v.k.z_axis.x + 0.5, v.k.z_axis.y + 0.5],
                              "focal_length_px": v.k.x_axis.x, "radial_distortion": [0.0, 0.0, 0.0],
                              "tangential_distortion": [0.0, 0.0] });
        own.as_object_mut().unwrap().extend(internals.as_object().unwrap().clone());
        own
    };
    let all = |f: &dyn Fn(&TestView) -> Value| scene.views.iter().map(f).collect::<Vec<_>>();
    let id = |v: &TestView| 10_000_000_000u64 + u64::from(v.id);
    let file = |name: &str, kind: &str, value: Value| {
        let mut whole = json!({ "format": format!("application/opf-{kind}+json"), "version": "1.0" });
        whole.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        put(&root.join(name), whole.to_string());
    };
    let uri = |v: &TestView| format!("file:///c:/my%20photos/images/{}#page=0", v.file);
    let mut list = all(&|v| json!({ "id": id(v), "uri": uri(v) }));
    list.push(json!({ "id": 5, "uri": "depth map.tiff" }));
    file("camera-list.json", "camera-list", json!({ "cameras": list }));
    let sensors = all(&|v| {
        json!({ "id": v.id, "name": "a", "image_size_px": [width, height], "pixel_size_um": 1.5, "internals": of(v),
                "shutter_type": "rolling", "bands": [] })
    });
    file("input-cameras.json", "input-cameras", json!({ "sensors": sensors, "captures": [] }));
    let sensors = all(&|v| json!({ "id": v.id, "internals": of(v) }));
    let cameras = all(
        &|v| json!({ "id": id(v), "sensor_id": v.id, "position": centre(v).to_array(), "orientation_deg": angles(v) }),
    );
    file("calibrated-cameras.json", "calibrated-cameras", json!({ "sensors": sensors, "cameras": cameras }));
    let crs = json!({ "crs": { "definition": "EPSG:32616" },
                      "base_to_canonical": { "scale": [1, 1, 1], "shift": [-500.0, 20.5, 0], "swap_xy": false } });
    file("frame.json", "scene-reference-frame", crs);
    let numbers = write_points(scene, root);
    put(&root.join("tracks.gltf"), numbers.to_string());
    let resource = |uri: &str, kind: &str| json!({ "uri": uri, "format": format!("application/opf-{kind}+json") });
    let item = |kind: &str, resources: Vec<Value>| json!({ "id": "1", "type": kind, "resources": resources });
    let calibration = vec![
        json!({ "uri": "tracks.gltf", "format": "model/gltf+json" }),
        resource("calibrated-cameras.json", "calibrated-cameras"),
    ];
    let items = vec![
        item("camera_list", vec![resource("camera-list.json", "camera-list")]),
        item("input_cameras", vec![resource("input-cameras.json", "input-cameras")]),
        item("scene_reference_frame", vec![resource("frame.json", "scene-reference-frame")]),
        item("calibration", calibration),
    ];
    file("project.opf", "project", json!({ "items": items }));
}

/// Points with their matches: y is up in glTF, and a node turns that back.
fn write_points(scene: &TestScene, root: &Path) -> Value {
    let ids: Vec<u32> = scene.views.iter().map(|v| v.id).collect();
    let (mut positions, mut cameras, mut ranges) = (Vec::new(), Vec::new(), Vec::new());
    for (position, seen) in &scene.points {
        positions.extend(position.to_array().iter().flat_map(|&v| (v as f32).to_le_bytes()));
        let first = cameras.len() as u32 / 4;
        ranges.extend([first, seen.len() as u32].iter().flat_map(|v| v.to_le_bytes()));
        let place = |id: &u32| ids.iter().position(|own| own == id).unwrap() as u32;
        cameras.extend(seen.iter().flat_map(|id| place(id).to_le_bytes()));
    }
    let (points, matches) = (scene.points.len(), cameras.len() / 4);
    let arrays = [("positions.bin", positions), ("match_cameras.bin", cameras), ("ranges.bin", ranges)];
    let buffer = |(name, bytes): &(&str, Vec<u8>)| json!({ "uri": name, "byteLength": bytes.len() });
    let (views, buffers): (Vec<Value>, Vec<Value>) = arrays
        .iter()
        .enumerate()
        .map(|(i, array)| (json!({ "buffer": i, "byteLength": array.1.len(), "byteOffset": 0 }), buffer(array)))
        .unzip();
    arrays.iter().for_each(|(name, bytes)| put(&root.join(name), bytes));
    let uids: Vec<u64> = ids.iter().map(|&id| 10_000_000_000 + u64::from(id)).collect();
    json!({ "asset": { "version": "2.0" }, "bufferViews": views, "buffers": buffers,
        "accessors": [
            { "bufferView": 0, "componentType": 5126, "count": points, "type": "VEC3" },
            { "bufferView": 1, "componentType": 5125, "count": matches, "type": "SCALAR" },
            { "bufferView": 2, "componentType": 5125, "count": points, "type": "VEC2" } ],
        "nodes": [{ "mesh": 0, "matrix": [1, 0, 0, 0, 0, 0, -1, 0, 0, 1, 0, 0, 0, 0, 0, 1] }],
        "meshes": [{ "primitives": [{ "attributes": { "POSITION": 0 }, "mode": 0, "extensions": {
            "OPF_mesh_primitive_matches": { "cameraIds": 1, "cameraUids": uids, "pointIndexRanges": 2 } } }] }] })
}
