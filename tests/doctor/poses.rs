//! Poses of files that do not say what they are: the photos decide.

use std::path::Path;

use engine::run::opening;
use engine::scene::OpenOptions;
use engine::scene::camera::Camera;
use engine::scene::pose_form::PoseForm;
use serde_json::Value;
use tempfile::TempDir;

use crate::Said;
use crate::doctor_scenes::{Broken, SIZE, VIEWS, whole};

/// The matrix of a camera in a file of this form, row by row, worked out from the camera's axes and place in the world.
fn matrix(camera: &Camera, form: PoseForm) -> [[f64; 4]; 4] {
    let sign = match form {
        PoseForm::WorldToCamera | PoseForm::CameraToWorld => 1.0,
        PoseForm::WorldToCameraOpenGl | PoseForm::CameraToWorldOpenGl => -1.0,
    };
    let axes = [camera.r.row(0), sign * camera.r.row(1), sign * camera.r.row(2)];
    let centre = camera.centre();
    let mut rows = [[0.0, 0.0, 0.0, 1.0]; 4];
    for i in 0..3 {
        rows[i] = match form {
            PoseForm::WorldToCamera | PoseForm::WorldToCameraOpenGl => {
                [axes[i].x, axes[i].y, axes[i].z, -axes[i].dot(centre)]
            }
            _ => [axes[0][i], axes[1][i], axes[2][i], centre[i]],
        };
    }
    rows
}

fn write_transforms(broken: &Broken, root: &Path, form: PoseForm) {
    broken.write_photos(root);
    let frame = |(i, camera): (usize, &Camera)| {
        let k = camera.k;
        serde_json::json!({ "file_path": format!("images/{i:08}.png"), "fl_x": k.x_axis.x, "fl_y": k.y_axis.y,
                            "cx": k.z_axis.x + 0.5, "cy": k.z_axis.y + 0.5, "w": SIZE.0, "h": SIZE.1,
                            "transform_matrix": matrix(camera, form) })
    };
    let frames: Vec<Value> = broken.cameras.iter().enumerate().map(frame).collect();
    std::fs::write(root.join("transforms.json"), serde_json::json!({ "frames": frames }).to_string()).unwrap();
}

/// A .log with its intrinsics, for photos that all have the same.
fn write_log(broken: &Broken, root: &Path, form: PoseForm) {
    broken.write_photos(root);
    let k = broken.cameras[0].k.to_cols_array();
    let intrinsic = serde_json::json!({ "width": SIZE.0, "height": SIZE.1, "intrinsic_matrix": k });
    std::fs::write(root.join("intrinsic.json"), intrinsic.to_string()).unwrap();
    let row = |row: [f64; 4]| row.map(|v| v.to_string()).join(" ");
    let pose =
        |(i, camera): (usize, &Camera)| format!("{i} {i} {}\n{}\n", i + 1, matrix(camera, form).map(row).join("\n"));
    let text: String = broken.cameras.iter().enumerate().map(pose).collect();
    std::fs::write(root.join("trajectory.log"), text).unwrap();
}

fn expect_cameras(found: &engine::scene::Scene, broken: &Broken, what: &str) {
    for (view, camera) in found.views.iter().zip(&broken.cameras) {
        assert!(view.camera.r.abs_diff_eq(camera.r, 1e-9) && view.camera.t.abs_diff_eq(camera.t, 1e-9), "{what}");
    }
}

/// Where a file does not say what its poses are, the photos do, and a note by how much.
#[test]
fn photos_tell_what_poses_are() {
    let (broken, folder) = (whole(), TempDir::new().unwrap());
    let root = folder.path();
    type Write = fn(&Broken, &Path, PoseForm);
    let files = PoseForm::ALL.map(|form| (write_transforms as Write, PoseForm::CameraToWorldOpenGl, form));
    let log = (write_log as Write, PoseForm::CameraToWorld, PoseForm::WorldToCamera);
    for (i, (write, usual, form)) in files.into_iter().chain([log]).enumerate() {
        let scene = root.join(i.to_string());
        write(&broken, &scene, form);
        let (found, options) = opening::open(&scene, &OpenOptions::default()).unwrap();
        assert_eq!(options.poses, Some(form), "{form:?}: {:?}", found.notes);
        expect_cameras(&found, &broken, &format!("{form:?}"));
        let note = found.notes.iter().find(|note| note.contains("does not say what its poses are")).unwrap();
        let (taken, margin) = (format!("taken as {}", form.name()), "matches between photos fit");
        assert!(note.contains(&taken) && note.contains(margin), "{note}");
        assert_eq!(note.contains(", as is usual; "), form == usual, "{note}");
        // Told by hand, whatever the photos show.
        let told = OpenOptions { poses: Some(form), ..OpenOptions::default() };
        let (found, options) = opening::open(&scene, &told).unwrap();
        expect_cameras(&found, &broken, &format!("{form:?} by hand"));
        assert!(options == told && !found.notes.iter().any(|note| note.contains("what its poses are")));
    }
    // The doctor examines the scene as a run would read it.
    let said = Said::of(&root.join("0"), &[]);
    said.has("ok", "photos", "photos");
    // The file has no depths and no points.
    assert_eq!(said.names(&["problem"]), ["no-plan"], "{}", said.text());

    // Photos that show nothing leave it at what is usual, and say so.
    let plain = Broken { photos: vec![plain_photo(); VIEWS], ..broken.clone() };
    write_transforms(&plain, &root.join("plain"), PoseForm::CameraToWorld);
    let (found, options) = opening::open(&root.join("plain"), &OpenOptions::default()).unwrap();
    assert_eq!(options.poses, Some(PoseForm::CameraToWorldOpenGl));
    assert!(found.notes.iter().any(|note| note.contains("too few or too bare")), "{:?}", found.notes);

    // A format that says so itself is not to be told.
    broken.write_mvsnet(&root.join("mvsnet"));
    let told = OpenOptions { poses: Some(PoseForm::CameraToWorld), ..OpenOptions::default() };
    let refused = opening::open(&root.join("mvsnet"), &told).unwrap_err().to_string();
    assert!(refused.contains("--poses camera-to-world beside MVSNet"), "{refused}");
}

/// One colour.
fn plain_photo() -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(SIZE.0 as u32, SIZE.1 as u32, image::Rgb([90, 120, 60]));
    image.write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}
