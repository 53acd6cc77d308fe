//! The test scene in the foreign formats of plain text and binary, written as these are defined.

#![allow(dead_code)] // each test file uses its own part

use std::fs;
use std::io::Write as _;
use std::path::Path;

use glam::{DMat3, DQuat, DVec3};

use crate::scene_files::{TestScene, TestView};

/// Matrices as rows, for writers.
pub fn rows(m: DMat3) -> [[f64; 3]; 3] {
    m.transpose().to_cols_array_2d()
}

/// Numbers as text that reads back to the same f64, with something between.
pub fn words(numbers: &[f64], between: &str) -> String {
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(between)
}

/// The same scene with square pixels and the principal point in the middle of the photos.
pub fn centred() -> TestScene {
    let mut scene = TestScene::new();
    for (i, view) in scene.views.iter_mut().enumerate() {
        let f = 70.0 + i as f64;
        view.k = DMat3::from_cols(DVec3::X * f, DVec3::Y * f, DVec3::new(31.5, 23.5, 1.0));
    }
    scene
}

/// The same scene with one K for all photos.
pub fn uniform() -> TestScene {
    let mut scene = TestScene::new();
    let k = scene.views[0].k;
    scene.views.iter_mut().for_each(|view| view.k = k);
    scene
}

/// The same scene with square pixels.
pub fn square() -> TestScene {
    let mut scene = TestScene::new();
    scene.views.iter_mut().for_each(|view| view.k.y_axis.y = view.k.x_axis.x);
    scene
}

pub fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

pub fn centre(view: &TestView) -> DVec3 {
    -(view.r.transpose() * view.t)
}

/// Cameras and points; `None` among the views is a camera that was not registered.
pub fn bundler(scene: &TestScene, order: &[Option<usize>], k: [f64; 2]) -> String {
    let mut text = format!("# Bundle file v0.3\n{} {}\n", order.len(), scene.points.len());
    for place in order {
        let Some(view) = place.map(|i| &scene.views[i]) else {
            text += "0 0 0\n0 0 0\n0 0 0\n0 0 0\n0 0 0\n";
            continue;
        };
        // y up and z backward: the second and third row change their signs.
        let flip = DMat3::from_diagonal(DVec3::new(1.0, -1.0, -1.0));
        let (r, t) = (rows(flip * view.r), flip * view.t);
        text += &format!("{} {} {}\n", view.k.x_axis.x, k[0], k[1]);
        for row in r {
            text += &format!("{}\n", words(&row, " "));
        }
        text += &format!("{}\n", words(&t.to_array(), " "));
    }
    for (position, seen) in &scene.points {
        let of = |id: &u32| order.iter().position(|place| place.is_some_and(|i| scene.views[i].id == *id)).unwrap();
        let views: String = seen.iter().map(|id| format!(" {} 3 0.5 -0.5", of(id))).collect();
        text += &format!("{}\n10 20 30\n{}{views}\n", words(&position.to_array(), " "), seen.len());
    }
    text
}

pub fn nvm_model(scene: &TestScene, views: std::ops::Range<usize>, k: f64, points: bool) -> String {
    let mut text = format!("{}\n", views.len());
    for view in &scene.views[views] {
        let q = DQuat::from_mat3(&view.r);
        let numbers = [view.k.x_axis.x, q.w, q.x, q.y, q.z];
        let c = centre(view).to_array();
        text += &format!("images/{}\t{} {} {k} 0\n", view.file, words(&numbers, " "), words(&c, " "));
    }
    text += &format!("\n{}\n", if points { scene.points.len() } else { 0 });
    for (position, seen) in scene.points.iter().filter(|_| points) {
        let of = |id: &u32| scene.views.iter().position(|view| view.id == *id).unwrap();
        let views: String = seen.iter().map(|id| format!(" {} 3 0.5 -0.5", of(id))).collect();
        text += &format!("{} 10 20 30 {}{views}\n", words(&position.to_array(), " "), seen.len());
    }
    text
}

pub fn nvm(scene: &TestScene, k: f64) -> String {
    let (small, whole) = (nvm_model(scene, 0..2, k, false), nvm_model(scene, 0..4, k, true));
    format!("NVM_V3\n\n{small}\n{whole}\n0\n\n# points of PLY files\n0\n")
}

pub fn little(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

pub fn text(value: &str) -> Vec<u8> {
    [&(value.len() as u64).to_le_bytes()[..], value.as_bytes()].concat()
}

/// Every photo has a camera and a pose of its own; the camera is turned and moved on its platform.
pub fn openmvs(scene: &TestScene, version: u32) -> Vec<u8> {
    openmvs_with(scene, version, &[], &[])
}

/// With names of masks, and for each image others with their scores; what is not given is empty.
pub fn openmvs_with(scene: &TestScene, version: u32, masks: &[&str], scores: &[&[(u32, f32)]]) -> Vec<u8> {
    let count = |n: usize| (n as u64).to_le_bytes();
    let in_platform = DMat3::from_rotation_y(0.4) * DMat3::from_rotation_x(0.2);
    let offset = DVec3::new(0.1, -0.2, 0.3);
    let mut bytes = [b"MVSI", &version.to_le_bytes()[..], &[0; 4]].concat();
    bytes.extend([&count(1)[..], &text("platform"), &count(scene.views.len())].concat());
    for view in &scene.views {
        bytes.extend(text("camera"));
        if version > 3 {
            bytes.extend(text("RGB"));
        }
        bytes.extend([scene.size.0.to_le_bytes(), scene.size.1.to_le_bytes()].concat());
        bytes.extend(little(&rows(view.k).concat()));
        bytes.extend(little(&rows(in_platform).concat()));
        bytes.extend(little(&offset.to_array()));
    }
    bytes.extend(count(scene.views.len()));
    for view in &scene.views {
        let r = in_platform.transpose() * view.r;
        let c = centre(view) - r.transpose() * offset;
        bytes.extend(little(&rows(r).concat()));
        bytes.extend(little(&c.to_array()));
    }
    bytes.extend(count(scene.views.len() + 1));
    for i in 0..=scene.views.len() {
        let pose = if i < scene.views.len() { i as u32 } else { u32::MAX };
        bytes.extend(text(&scene.views.get(i).map_or("lost.png".into(), |view| format!("images/{}", view.file))));
        if version > 4 {
            bytes.extend(text(masks.get(i).unwrap_or(&"")));
        }
        bytes.extend([0, i.min(scene.views.len() - 1) as u32, pose].map(u32::to_le_bytes).concat());
        if version > 2 {
            bytes.extend(5u32.to_le_bytes());
        }
        if version > 6 {
            let of_image = scores.get(i).copied().unwrap_or_default();
            bytes.extend([&[0; 12][..], &count(of_image.len())].concat());
            for (other, score) in of_image {
                bytes.extend([&other.to_le_bytes()[..], &[0; 16], &score.to_le_bytes()].concat());
            }
        }
    }
    bytes.extend(count(scene.points.len()));
    for (position, seen) in &scene.points {
        bytes.extend(position.to_array().iter().flat_map(|&v| (v as f32).to_le_bytes()));
        bytes.extend(count(seen.len()));
        for id in seen {
            let image = scene.views.iter().position(|view| view.id == *id).unwrap() as u32;
            bytes.extend([image.to_le_bytes(), 1f32.to_le_bytes()].concat());
        }
    }
    // Normals, colours, lines and what later versions have: empty.
    bytes.extend([0; 40]);
    bytes
}

/// A `.npy` of doubles, or of floats.
pub fn npy(shape: &[usize], data: &[f64], doubles: bool) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let kind = if doubles { "<f8" } else { "<f4" };
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    while !(10 + header.len() + 1).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes()].concat();
    match doubles {
        true => bytes.extend(little(data)),
        false => bytes.extend(data.iter().flat_map(|&v| (v as f32).to_le_bytes())),
    }
    bytes
}

pub fn poses_bounds(scene: &TestScene) -> Vec<u8> {
    let mut data = Vec::new();
    let (width, height) = (f64::from(scene.size.0), f64::from(scene.size.1));
    for v in &scene.views {
        // Down, right, backward as columns.
        let axes = DMat3::from_cols(v.r.row(1), v.r.row(0), -v.r.row(2));
        let (m, c) = (rows(axes), centre(v));
        for (i, last) in [height, width, v.k.x_axis.x].into_iter().enumerate() {
            data.extend([m[i][0], m[i][1], m[i][2], c[i], last]);
        }
        data.extend([2.0, 6.5]);
    }
    npy(&[scene.views.len(), 17], &data, true)
}

pub fn cameras_npz(scene: &TestScene, doubles: bool) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let method = if doubles { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let mut add = |name: String, rows: [[f64; 4]; 4]| {
        archive.start_file(name, options).unwrap();
        archive.write_all(&npy(&[4, 4], &rows.concat(), doubles)).unwrap();
    };
    for (i, v) in scene.views.iter().enumerate() {
        // Any multiple of a projection is the same one, also a negative.
        let scale = if i == 1 { -3.0 } else { 0.5 };
        let (m, t) = (rows(v.k * v.r * scale), v.k * v.t * scale);
        let row = |r: usize| [m[r][0], m[r][1], m[r][2], t[r]];
        add(format!("world_mat_{i}.npy"), [row(0), row(1), row(2), [0.0, 0.0, 0.0, 1.0]]);
        let s = 1.5;
        add(
            format!("scale_mat_{i}.npy"),
            [[s, 0.0, 0.0, 0.1], [0.0, s, 0.0, 0.2], [0.0, 0.0, s, 0.3], [0.0, 0.0, 0.0, 1.0]],
        );
    }
    archive.finish().unwrap().into_inner()
}

pub fn pose_rows(v: &TestView) -> [[f64; 4]; 4] {
    let (r, c) = (rows(v.r.transpose()), centre(v));
    let row = |i: usize| [r[i][0], r[i][1], r[i][2], c[i]];
    [row(0), row(1), row(2), [0.0, 0.0, 0.0, 1.0]]
}

/// In `sensors/`; the last two photos are those of a rig with two cameras, at one time.
pub fn write_kapture(scene: &TestScene, root: &Path) {
    let mut sensors = "# kapture format: 1.1\n# sensor_id, name, sensor_type, [sensor_params]+\n".to_owned();
    let (mut records, mut poses) = ("# kapture format: 1.1\n".to_owned(), "# kapture format: 1.1\n".to_owned());
    let pose = |r: DMat3, t: DVec3| {
        let q = DQuat::from_mat3(&r);
        words(&[q.w, q.x, q.y, q.z, t.x, t.y, t.z], ", ")
    };
    for (i, v) in scene.views.iter().enumerate() {
        let k = [v.k.x_axis.x, v.k.y_axis.y, v.k.z_axis.x + 0.5, v.k.z_axis.y + 0.5];
        let (width, height) = scene.size;
        sensors += &format!("cam{i}, , camera, PINHOLE, {width}, {height}, {}\n", words(&k, ", "));
        let time = i.min(2);
        records += &format!("{time}, cam{i}, images/{}\n", v.file);
        if i < 2 {
            poses += &format!("{time}, cam{i}, {}\n", pose(v.r, v.t));
        }
    }
    sensors += "gps, gps, gnss, EPSG:4326\n";
    let (turn, shift) = (DMat3::from_rotation_z(0.7), DVec3::new(0.3, 0.1, -0.2));
    poses += &format!("2, rig, {}\n", pose(turn, shift));
    let mut rigs = "# kapture format: 1.1\n".to_owned();
    for (i, v) in scene.views.iter().enumerate().skip(2) {
        let r = v.r * turn.transpose();
        rigs += &format!("rig, cam{i}, {}\n", pose(r, v.t - r * shift));
    }
    for (name, text) in [("sensors", sensors), ("records_camera", records), ("trajectories", poses), ("rigs", rigs)] {
        put(&root.join("sensors").join(format!("{name}.txt")), text);
    }
}

/// A `.camera` file of Strecha's.
pub fn camera_file(v: &TestView, (width, height): (u32, u32)) -> String {
    let (k, r) = (rows(v.k), rows(v.r.transpose()));
    let all = [k[0], k[1], k[2], [0.0; 3], r[0], r[1], r[2], centre(v).to_array()];
    let lines: Vec<String> = all.iter().map(|row| words(row, " ")).collect();
    format!("{}\n{width} {height}\n", lines.join("\n"))
}

/// Middlebury's table.
pub fn par(scene: &TestScene) -> String {
    let mut text = format!("{}\n", scene.views.len());
    for v in &scene.views {
        let all = [rows(v.k).concat(), rows(v.r).concat(), v.t.to_array().to_vec()].concat();
        text += &format!("{} {}\n", v.file, words(&all, " "));
    }
    text
}

/// Four rows, camera to world.
pub fn pose_file(v: &TestView) -> String {
    let lines: Vec<String> = pose_rows(v).iter().map(|row| words(row, " ")).collect();
    lines.join("\n")
}

/// Open3D's trajectory.
pub fn trajectory(scene: &TestScene) -> serde_json::Value {
    let parameters = |v: &TestView| {
        let [x, y, z] = [v.r.x_axis, v.r.y_axis, v.r.z_axis];
        let columns = [x.x, x.y, x.z, 0.0, y.x, y.y, y.z, 0.0, z.x, z.y, z.z, 0.0, v.t.x, v.t.y, v.t.z, 1.0];
        serde_json::json!({ "class_name": "PinholeCameraParameters", "extrinsic": columns,
            "intrinsic": { "width": scene.size.0, "height": scene.size.1, "intrinsic_matrix": v.k.to_cols_array() } })
    };
    let all: Vec<serde_json::Value> = scene.views.iter().map(parameters).collect();
    serde_json::json!({ "class_name": "PinholeCameraTrajectory", "parameters": all })
}
