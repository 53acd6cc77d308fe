//! Formats in plain text and in binary.

use std::fs;

use engine::scene::camera::DepthRange;
use engine::scene::formats::table::Layout;
use glam::DVec3;
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::*;
use crate::scene_files::TestScene;
use crate::truth::*;

/// As in `structured.rs`.
const EXACT: f64 = 1e-9;

#[test]
fn bundler_out() {
    let truth = centred();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("bundle.out");
    let order = [Some(0), None, Some(1), Some(2), Some(3)];
    put(&file, bundler(&truth, &order, [0.0; 2]));
    let list = "images/00000003.png\nimages/lost.png 0 700\nimages/00000007.png 0 71\n\
                images/00000008.png\nimages/00000020.png\n";
    put(&folder.path().join("list.txt"), list);
    let scene = open(folder.path(), Layout::Bundler);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert_points(&scene, &truth, EXACT);
    assert!(has_note(&scene, "1 camera without a focal length"), "{:?}", scene.notes);
    put(&file, bundler(&truth, &order, [-0.1, 0.05]));
    let radial = |x: f64, y: f64| {
        let r2 = x * x + y * y;
        let d = 1.0 - 0.1 * r2 + 0.05 * r2 * r2;
        (x * d, y * d)
    };
    assert!(lens_difference(&open(&file, Layout::Bundler), radial) < 1e-14);
    // Without a list as many photos as cameras, the one that was not registered among them.
    fs::remove_file(folder.path().join("list.txt")).unwrap();
    fs::copy(folder.path().join("images/00000003.png"), folder.path().join("images/00000005.png")).unwrap();
    put(&file, bundler(&truth, &order, [0.0; 2]));
    let scene = open(&file, Layout::Bundler);
    assert!(difference(&scene, &truth) < EXACT);
    assert!(has_note(&scene, "in the order of the photos"), "{:?}", scene.notes);
}

#[test]
fn visualsfm_nvm() {
    let truth = centred();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("all.nvm");
    put(&file, nvm(&truth, 0.0));
    let scene = open(folder.path(), Layout::Nvm);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert_points(&scene, &truth, EXACT);
    assert!(has_note(&scene, "2 models, of 2, 4 cameras: the largest is used"), "{:?}", scene.notes);
    for k in [0.2, -0.2] {
        put(&file, nvm(&truth, k));
        // From the ray to the photo by halving: m (1 + k m^2) = r.
        let solved = |x: f64, y: f64| {
            let r = x.hypot(y);
            let (mut low, mut high) = (0.0, 2.0 * r);
            for _ in 0..100 {
                let m = 0.5 * (low + high);
                if m * (1.0 + k * m * m) < r { low = m } else { high = m }
            }
            let d = if r == 0.0 { 1.0 } else { low / r };
            (x * d, y * d)
        };
        assert!(lens_difference(&open(&file, Layout::Nvm), solved) < 1e-13);
    }
}

#[test]
fn openmvs_scene() {
    let truth = TestScene::new();
    for version in [1, 3, 5, 7] {
        let folder = TempDir::new().unwrap();
        truth.write_photos(folder.path());
        put(&folder.path().join("scene.mvs"), openmvs(&truth, version));
        let scene = open(folder.path(), Layout::OpenMvs);
        assert!(difference(&scene, &truth) < EXACT, "{version}: {}", difference(&scene, &truth));
        // Points are stored as f32, of at most 1.
        assert_points(&scene, &truth, 1e-6);
        assert!(has_note(&scene, "1 image without a pose"), "{:?}", scene.notes);
    }
}

#[test]
fn strecha_camera() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    for v in &truth.views {
        put(&folder.path().join(format!("{}.camera", v.file)), camera_file(v, truth.size));
    }
    let scene = open(folder.path(), Layout::Strecha);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
}

#[test]
fn middlebury_par() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    put(&folder.path().join("scene_par.txt"), par(&truth));
    let scene = open(folder.path(), Layout::Middlebury);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
}

#[test]
fn llff_poses_bounds() {
    let truth = centred();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    put(&folder.path().join("poses_bounds.npy"), poses_bounds(&truth));
    let scene = open(folder.path(), Layout::Llff);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert_eq!(scene.views[2].range, Some(DepthRange { near: 2.0, far: 6.5 }));
}

#[test]
fn neus_cameras() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    fs::rename(folder.path().join("images"), folder.path().join("image")).unwrap();
    let file = folder.path().join("cameras.npz");
    // Floats have 24 bits: entries of up to 300 to 2e-5, and K of the quotient of two such.
    for (doubles, tolerance) in [(true, EXACT), (false, 2e-4)] {
        put(&file, cameras_npz(&truth, doubles));
        let scene = open(folder.path(), Layout::NeuS);
        assert!(difference(&scene, &truth) < tolerance, "{doubles}: {}", difference(&scene, &truth));
        let range = scene.views[0].range.unwrap();
        let distance = centre(&truth.views[0]).distance(DVec3::new(0.1, 0.2, 0.3));
        assert!((range.near - (distance - 1.5)).abs() < 1e-5 && (range.far - (distance + 1.5)).abs() < 1e-5);
    }
}

#[test]
fn seven_scenes() {
    let mut truth = uniform();
    for v in &mut truth.views {
        v.file = format!("../frame-{:06}.color.png", v.id);
    }
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    for v in &truth.views {
        put(&folder.path().join(format!("frame-{:06}.pose.txt", v.id)), pose_file(v).replace(' ', "\t "));
    }
    put(&folder.path().join("frame-000099.pose.txt"), "-1.#INF ".repeat(16));
    let k: Vec<String> = rows(truth.views[0].k).iter().map(|row| words(row, " ")).collect();
    put(&folder.path().join("camera-intrinsics.txt"), k.join("\n"));
    for v in &mut truth.views {
        v.file = v.file.trim_start_matches("../").into();
    }
    let scene = open(folder.path(), Layout::SevenScenes);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert!(has_note(&scene, "(lost by the tracker) left out: 1"), "{:?}", scene.notes);
    // Without the file there is the K of 7-Scenes' page, which is for other photos.
    fs::remove_file(folder.path().join("camera-intrinsics.txt")).unwrap();
    let error = engine::scene::Scene::open(folder.path(), &Default::default()).unwrap_err().to_string();
    assert!(error.contains("64 x 48 pixels") && error.contains("640 x 480"), "{error}");
}

#[test]
fn open3d_trajectories() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(folder.path());
    let file = folder.path().join("trajectory.json");
    put(&file, trajectory(&truth).to_string());
    let scene = open(folder.path(), Layout::Open3d);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));

    fs::remove_file(file).unwrap();
    let truth = uniform();
    let mut log = String::new();
    for (i, v) in truth.views.iter().enumerate() {
        log += &format!("{i} {i} {}\n{}\n", i + 1, pose_file(v));
    }
    put(&folder.path().join("trajectory.log"), log);
    let k = json!({ "width": 64, "height": 48, "intrinsic_matrix": truth.views[0].k.to_cols_array() });
    put(&folder.path().join("intrinsic.json"), k.to_string());
    let scene = open(folder.path(), Layout::Open3d);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
}

#[test]
fn kapture_tables() {
    let truth = TestScene::new();
    let folder = TempDir::new().unwrap();
    truth.write_photos(&folder.path().join("sensors/records_data"));
    write_kapture(&truth, folder.path());
    let scene = open(folder.path(), Layout::Kapture);
    assert!(difference(&scene, &truth) < EXACT, "{}", difference(&scene, &truth));
    assert!(has_note(&scene, "sensors that are no cameras not read: 1"), "{:?}", scene.notes);
}
