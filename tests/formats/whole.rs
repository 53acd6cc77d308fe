//! The scene in the tree in other formats through the whole program, and many cameras.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::files::{pfm, ply_points};
use engine::scene::formats::table::{Layout, read_cameras};
use engine::scene::{OpenOptions, Scene};
use glam::{DMat3, DVec3};
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::*;
use crate::format_opf::write_opf;
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

fn infer(scene: &Path, out: &Path, range: &[&str]) {
    let ran = Command::new(env!("CARGO_BIN_EXE_engine"))
        .arg("infer")
        .arg(scene)
        .args(["--max-side", "96", "--planes", "16", "--views", "3", "--levels", "1", "--resolution", "quarter"])
        .args(range)
        .arg("-o")
        .arg(out)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}: {}", scene.display(), String::from_utf8_lossy(&ran.stderr));
}

/// A format: whether it has one camera, with one focal length and no principal point; whether points with tracks; and
/// what writes it and gives the file or folder to open.
type Form = (&'static str, bool, bool, fn(&TestScene, &Path) -> PathBuf);

fn forms() -> [Form; 17] {
    fn file(root: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        put(&root.join(name), bytes);
        root.join(name)
    }
    let transforms = |s: &TestScene, root: &Path| file(root, "transforms.json", frames(s).to_string());
    let seven_scenes = |s: &TestScene, root: &Path| {
        for v in &s.views {
            put(&root.join(v.file.replace(".jpg", ".pose.txt")), pose_file(v));
            // What is in a photo counts, not how its name ends.
            fs::copy(root.join("images").join(&v.file), root.join(v.file.replace(".jpg", ".color.png"))).unwrap();
        }
        put(&root.join("camera-intrinsics.txt"), words(&rows(s.views[0].k).concat(), " "));
        root.to_owned()
    };
    [
        ("transforms", false, false, transforms),
        ("metashape", false, false, |s, root| file(root, "cameras.xml", metashape(s, ""))),
        ("bundler", true, true, |s, root| {
            put(&root.join("list.txt"), s.views.iter().map(|v| format!("{}\n", v.file)).collect::<String>());
            let order: Vec<Option<usize>> = (0..s.views.len()).map(Some).collect();
            file(root, "bundle.out", bundler(s, &order, [0.0; 2]))
        }),
        ("nvm", true, true, |s, root| {
            let model = nvm_model(s, 0..s.views.len(), 0.0, true);
            file(root, "scene.nvm", format!("NVM_V3\n\n{model}\n0\n"))
        }),
        ("openmvg", true, true, |s, root| file(root, "sfm_data.json", openmvg(s, "pinhole", json!({})).to_string())),
        ("opensfm", false, true, |s, root| {
            put(&root.join("tracks.csv"), opensfm_tracks(s));
            file(root, "reconstruction.json", opensfm(s, json!({})).to_string())
        }),
        ("alicevision", false, true, |s, root| {
            file(root, "cameras.sfm", alicevision(s, [1, 2, 0], json!({})).to_string())
        }),
        ("realitycapture", false, false, |s, root| {
            write_xmp(s, root, &[0.0; 6]);
            root.join("images")
        }),
        ("openmvs", false, true, |s, root| file(root, "scene.mvs", openmvs(s, 7))),
        ("strecha", false, false, |s, root| {
            s.views.iter().for_each(|v| put(&root.join(format!("{}.camera", v.file)), camera_file(v, s.size)));
            root.to_owned()
        }),
        ("middlebury", false, false, |s, root| {
            put(&root.join("scene_par.txt"), par(s));
            root.to_owned()
        }),
        ("llff", true, false, |s, root| {
            put(&root.join("poses_bounds.npy"), poses_bounds(s));
            root.to_owned()
        }),
        ("neus", false, false, |s, root| file(root, "cameras.npz", cameras_npz(s, true))),
        ("7scenes", true, false, seven_scenes),
        ("open3d", false, false, |s, root| file(root, "trajectory.json", trajectory(s).to_string())),
        ("kapture", false, false, |s, root| {
            write_kapture(s, root);
            root.to_owned()
        }),
        ("opf", true, true, |s, root| {
            write_opf(s, root, json!({}));
            root.join("project.opf")
        }),
    ]
}

/// One run in COLMAP's form and one in each other: the same maps and the same cloud, but for what rounding in the last
/// digit of a camera makes of an f32. Where a format has no points, neither has COLMAP's, and both are told the range.
#[test]
fn the_same_scene_gives_the_same_cloud() {
    let folder = TempDir::new().unwrap();
    let photos = folder.path().join("colmap");
    let (_, full) = example(&photos);
    let with_photos = |root: &Path| {
        for place in ["images", "sensors/records_data/images"] {
            fs::create_dir_all(root.join(place)).unwrap();
            for view in &full.views {
                fs::copy(photos.join("images").join(&view.file), root.join(place).join(&view.file)).unwrap();
            }
        }
    };
    let scene = |is_plain: bool, has_points: bool| {
        let middle = DMat3::from_cols(DVec3::X * 640.0, DVec3::Y * 640.0, DVec3::new(255.5, 191.5, 1.0));
        let view = |v: &TestView| TestView { k: if is_plain { middle } else { v.k }, file: v.file.clone(), ..*v };
        let points = if has_points { full.points.clone() } else { Vec::new() };
        TestScene { size: full.size, views: full.views.iter().map(view).collect(), points, model: None }
    };
    let range = |has_points: bool| if has_points { &[][..] } else { &["--range", "3.4,10.6"][..] };
    let out_of = |name: &str| folder.path().join(format!("{name}.out"));
    let expected_name = |is_plain: bool, has_points: bool| format!("expected-{is_plain}-{has_points}");
    for (is_plain, has_points) in [(false, false), (false, true), (true, false), (true, true)] {
        let name = expected_name(is_plain, has_points);
        let root = folder.path().join(&name);
        scene(is_plain, has_points).write_colmap_binary(&root, "sparse/0");
        with_photos(&root);
        infer(&root, &out_of(&name), range(has_points));
    }
    let cloud = |out: &Path| ply_points::read(&out.join("fused.ply")).unwrap().points;
    for (name, is_plain, has_points, write) in forms() {
        let root = folder.path().join(name);
        with_photos(&root);
        let opened = write(&scene(is_plain, has_points), &root);
        let (out, expected) = (out_of(name), out_of(&expected_name(is_plain, has_points)));
        infer(&opened, &out, range(has_points));
        for view in &full.views {
            let map = |out: &Path| {
                let names =
                    [".pfm", ".color.pfm"].map(|ending| out.join("depth").join(view.file.replace(".jpg", ending)));
                pfm::read(names.iter().find(|file| file.exists()).unwrap()).unwrap()
            };
            let (a, b) = (map(&out), map(&expected));
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-4 * b.abs();
            let alike = a.data.iter().zip(&b.data).filter(|(a, b)| close((a, b))).count();
            assert!(alike as f64 > 0.999 * a.data.len() as f64, "{name}, {}: {alike} of {}", view.file, a.data.len());
        }
        let (found, expected) = (cloud(&out).len(), cloud(&expected).len());
        assert!(expected > 100, "{expected} points");
        assert!(found.abs_diff(expected) as f64 <= 0.005 * expected as f64, "{name}: {found} against {expected}");
    }
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
