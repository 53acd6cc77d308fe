//! The scene in the tree in other formats through the whole program, and many cameras.

use std::fs;
use std::path::Path;
use std::process::Command;

use engine::files::{pfm, ply_points};
use engine::scene::formats::table::{Layout, read_cameras};
use engine::scene::{OpenOptions, Scene};
use glam::{DMat3, DVec3};
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::*;
use crate::format_trees::*;
use crate::scene_files::{TestScene, TestView};
use crate::truth::cameras;

fn tree(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The COLMAP form of the scene in the tree, with its photos, and its cameras and points as the writers take them.
fn example(root: &Path) -> (Scene, TestScene) {
    for (from, to) in [("examples/scene/images", "images"), ("tests/data/example_colmap/binary", "sparse/0")] {
        fs::create_dir_all(root.join(to)).unwrap();
        for entry in fs::read_dir(tree(from)).unwrap().flatten() {
            fs::copy(entry.path(), root.join(to).join(entry.file_name())).unwrap();
        }
    }
    let scene = Scene::open(root, &OpenOptions::default()).unwrap();
    let view = |v: &engine::scene::View| TestView {
        id: v.id,
        camera: v.id,
        file: format!("{}.jpg", v.name),
        k: v.camera.k,
        r: v.camera.r,
        t: v.camera.t,
    };
    let views: Vec<TestView> = scene.views.iter().map(view).collect();
    let points = scene.points.iter().map(|p| (p.position, p.views.iter().map(|&v| views[v].id).collect())).collect();
    let written = TestScene { size: (512, 384), views, points, model: None };
    (scene, written)
}

fn infer(scene: &Path, out: &Path) {
    let ran = Command::new(env!("CARGO_BIN_EXE_engine"))
        .arg("infer")
        .arg(scene)
        .args(["--max-side", "96", "--planes", "16", "--views", "3", "--levels", "1", "--resolution", "quarter", "-o"])
        .arg(out)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// One run in COLMAP's form and one in each of two others, with points and tracks: the same maps and the same cloud,
/// but for what rounding in the last digit of a camera makes of an f32.
#[test]
fn the_same_scene_gives_the_same_cloud() {
    let folder = TempDir::new().unwrap();
    let colmap = folder.path().join("colmap");
    let (_, written) = example(&colmap);
    let texts = [("cameras.sfm", sfm(&written)), ("scene.json", reconstruction(&written))];
    infer(&colmap, &folder.path().join("expected"));
    let cloud = |out: &Path| ply_points::read(&out.join("fused.ply")).unwrap().points;
    let expected = cloud(&folder.path().join("expected"));
    assert!(expected.len() > 100, "{} points", expected.len());
    for (name, text) in texts {
        let root = folder.path().join(name.replace('.', "_"));
        fs::create_dir_all(root.join("images")).unwrap();
        for view in &written.views {
            fs::copy(colmap.join("images").join(&view.file), root.join("images").join(&view.file)).unwrap();
        }
        put(&root.join(name), text);
        put(&root.join("tracks.csv"), opensfm_tracks(&written));
        let out = folder.path().join(format!("{name}.out"));
        infer(&root.join(name), &out);
        for view in &written.views {
            let map = |out: &Path| pfm::read(&out.join("depth").join(view.file.replace(".jpg", ".pfm"))).unwrap();
            let (a, b) = (map(&out), map(&folder.path().join("expected")));
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs();
            let alike = a.data.iter().zip(&b.data).filter(|(a, b)| close((a, b))).count();
            assert!(alike as f64 > 0.999 * a.data.len() as f64, "{name}, {}: {alike} of {}", view.file, a.data.len());
        }
        let found = cloud(&out);
        let difference = found.len().abs_diff(expected.len()) as f64;
        assert!(difference <= 0.005 * expected.len() as f64, "{name}: {} against {}", found.len(), expected.len());
    }
}

/// The writer is for photos of 64 x 48; these are larger, which lengths in parts of the photo depend on.
fn sfm(scene: &TestScene) -> String {
    let mut written = alicevision(scene, [1, 2, 0], json!({}));
    for list in ["views", "intrinsics"] {
        for entry in written[list].as_array_mut().unwrap() {
            entry["width"] = json!("512");
            entry["height"] = json!("384");
        }
    }
    written.to_string()
}

fn reconstruction(scene: &TestScene) -> String {
    let mut written = opensfm(scene, json!({}));
    for view in &scene.views {
        let camera = &mut written[1]["cameras"][view.id.to_string()];
        camera["width"] = json!(512);
        camera["height"] = json!(384);
        camera["focal_x"] = json!(view.k.x_axis.x / 512.0);
        camera["focal_y"] = json!(view.k.y_axis.y / 512.0);
        camera["c_x"] = json!((view.k.z_axis.x - 255.5) / 512.0);
        camera["c_y"] = json!((view.k.z_axis.y - 191.5) / 512.0);
    }
    written.to_string()
}

/// A row of cameras.
fn many(count: usize) -> TestScene {
    let mut scene = TestScene::new();
    scene.views = (0..count)
        .map(|i| TestView {
            id: i as u32,
            camera: i as u32,
            file: format!("{i:08}.png"),
            r: DMat3::from_rotation_y(1e-4 * i as f64),
            t: DVec3::new(i as f64, 0.0, 0.0),
            k: DMat3::from_cols(DVec3::X * 70.0, DVec3::Y * 70.0, DVec3::new(31.5, 23.5, 1.0)),
        })
        .collect();
    scene.points = (0..count).map(|i| (DVec3::new(i as f64, 0.0, 4.0), vec![i as u32])).collect();
    scene
}

/// What this thread has had of the processor: other tests and programs run beside it.
fn seconds_of_thread() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0);
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Ten times as many cameras may take some thirty times the time, not a hundred times: no step is quadratic.
#[cfg(unix)]
#[test]
fn time_grows_with_the_number_of_cameras() {
    let folder = TempDir::new().unwrap();
    let write = |layout: Layout, scene: &TestScene| -> std::path::PathBuf {
        let order: Vec<Option<usize>> = (0..scene.views.len()).map(Some).collect();
        let (name, bytes): (&str, Vec<u8>) = match layout {
            Layout::Transforms => ("transforms.json", frames(scene).to_string().into()),
            Layout::Metashape => ("cameras.xml", metashape(scene, "").into()),
            Layout::OpenMvg => ("sfm_data.json", openmvg_quickly(scene)),
            Layout::AliceVision => ("cameras.sfm", alicevision(scene, [1, 2, 5], json!({})).to_string().into()),
            Layout::Middlebury => ("a_par.txt", par(scene).into()),
            Layout::Bundler => {
                let mut cameras = scene.clone();
                cameras.points.clear();
                ("bundle.out", bundler(&cameras, &order, [0.0; 2]).into())
            }
            Layout::Kapture => {
                write_kapture(scene, folder.path());
                return folder.path().join("sensors/sensors.txt");
            }
            _ => unreachable!("not in the list below"),
        };
        put(&folder.path().join(name), bytes);
        folder.path().join(name)
    };
    for layout in [
        Layout::Transforms,
        Layout::Metashape,
        Layout::OpenMvg,
        Layout::AliceVision,
        Layout::Middlebury,
        Layout::Bundler,
        Layout::Kapture,
    ] {
        let mut times = Vec::new();
        for count in [1000, 10_000] {
            let file = write(layout, &many(count));
            let read = || {
                let began = seconds_of_thread();
                let (_, calibration) = read_cameras(&file, Some(layout)).unwrap();
                assert!(calibration.shots.len() >= count, "{layout:?}: {}", calibration.shots.len());
                seconds_of_thread() - began
            };
            times.push(read());
        }
        // A tenth of a second is always allowed.
        assert!(times[1] < 30.0 * times[0] + 0.1, "{layout:?}: {times:?}");
        println!("{layout:?}: {times:?}");
    }
    assert_eq!(cameras(&folder.path().join("a_par.txt"), Layout::Middlebury).shots.len(), 10_000);
}

/// As the writer does, whose search for a point's views is quadratic; ids are places here.
fn openmvg_quickly(scene: &TestScene) -> Vec<u8> {
    let mut cameras = scene.clone();
    let points = std::mem::take(&mut cameras.points);
    let mut written = openmvg(&cameras, "pinhole", json!({}));
    let point = |(i, (x, seen)): (usize, &(DVec3, Vec<u32>))| {
        json!({ "key": i, "value": { "X": x.to_array(),
                "observations": [{ "key": seen[0], "value": { "id_feat": 1, "x": [1.0, 2.0] } }] } })
    };
    written["structure"] = points.iter().enumerate().map(point).collect();
    written.to_string().into()
}
