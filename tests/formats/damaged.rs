//! Files that are wrong in one place: one line that names it.

use std::fs;
use std::path::Path;

use engine::scene::formats::table::{FOREIGN, Layout};
use engine::scene::{OpenOptions, Scene};
use glam::DMat3;
use serde_json::json;
use tempfile::TempDir;

use crate::format_files::*;
use crate::format_opf::write_opf;
use crate::format_trees::*;
use crate::scene_files::TestScene;

/// The scene in a format, with photos; returns the file that holds the cameras.
pub fn written(layout: Layout, root: &Path) -> std::path::PathBuf {
    let whole = TestScene::new();
    let photos = if layout == Layout::Kapture { root.join("sensors/records_data") } else { root.to_owned() };
    whole.write_photos(&photos);
    let (name, bytes): (&str, Vec<u8>) = match layout {
        Layout::Transforms => ("transforms.json", frames(&whole).to_string().into()),
        Layout::Metashape => ("cameras.xml", metashape(&whole, "<k1>0.1</k1>").into()),
        Layout::Bundler => {
            let list: String = whole.views.iter().map(|v| format!("images/{}\n", v.file)).collect();
            put(&root.join("list.txt"), list);
            ("bundle.out", bundler(&centred(), &[Some(0), Some(1), Some(2), Some(3)], [0.0; 2]).into())
        }
        Layout::Nvm => ("all.nvm", nvm(&centred(), 0.1).into()),
        Layout::OpenMvg => ("sfm_data.json", openmvg(&square(), "pinhole", json!({})).to_string().into()),
        Layout::OpenSfm => {
            put(&root.join("tracks.csv"), opensfm_tracks(&whole));
            ("reconstruction.json", opensfm(&whole, json!({})).to_string().into())
        }
        Layout::AliceVision => ("cameras.sfm", alicevision(&whole, [1, 2, 5], json!({})).to_string().into()),
        Layout::RealityCapture => {
            write_xmp(&whole, root, &[0.0; 6]);
            let name = "images/00000007.xmp";
            return root.join(name);
        }
        Layout::OpenMvs => ("scene.mvs", openmvs(&whole, 5)),
        Layout::Strecha => {
            for v in &whole.views {
                put(&root.join(format!("{}.camera", v.file)), camera_file(v, whole.size));
            }
            return root.join("00000007.png.camera");
        }
        Layout::Middlebury => ("scene_par.txt", par(&whole).into()),
        Layout::Llff => ("poses_bounds.npy", poses_bounds(&centred())),
        Layout::NeuS => ("cameras.npz", cameras_npz(&whole, true)),
        Layout::SevenScenes => {
            for v in &whole.views {
                let name = format!("frame-{:06}", v.id);
                fs::copy(root.join("images").join(&v.file), root.join(format!("{name}.color.png"))).unwrap();
                put(&root.join(format!("{name}.pose.txt")), pose_file(v));
            }
            let k = rows(whole.views[0].k).concat();
            put(&root.join("camera-intrinsics.txt"), words(&k, " "));
            return root.join("frame-000007.pose.txt");
        }
        Layout::Open3d => ("trajectory.json", trajectory(&whole).to_string().into()),
        Layout::Kapture => {
            write_kapture(&whole, root);
            return root.join("sensors/trajectories.txt");
        }
        Layout::Opf => {
            write_opf(&square(), root, json!({}));
            return root.join("calibrated-cameras.json");
        }
        Layout::MvsNet | Layout::Colmap | Layout::Memory => unreachable!("no foreign format"),
    };
    put(&root.join(name), bytes);
    root.join(name)
}

fn refusal(root: &Path, what: &str) -> String {
    match Scene::open(root, &OpenOptions::default()) {
        Ok(scene) => panic!("{what}: read all the same: {:?}", scene.notes),
        Err(error) => {
            let text = error.to_string();
            assert_eq!(text.lines().count(), 1, "{what}: {text}");
            text
        }
    }
}

/// Photos that are not there: two are missing without harm, three are told; another folder holds them.
#[test]
fn missing_photos_are_told_and_found_elsewhere() {
    let unnamed = [Layout::Llff, Layout::NeuS, Layout::Open3d];
    for &layout in FOREIGN {
        let folder = TempDir::new().unwrap();
        written(layout, folder.path());
        let photos = match layout {
            Layout::Kapture => folder.path().join("sensors/records_data/images"),
            _ => folder.path().join("images"),
        };
        let elsewhere = TempDir::new().unwrap();
        let below = elsewhere.path().join("deep");
        fs::create_dir(&below).unwrap();
        let mut moved = Vec::new();
        for place in [photos, folder.path().to_owned()] {
            for entry in fs::read_dir(&place).unwrap().flatten() {
                if entry.path().extension().is_some_and(|e| e == "png") {
                    let flat = if unnamed.contains(&layout) { elsewhere.path() } else { &below };
                    fs::rename(entry.path(), flat.join(entry.file_name())).unwrap();
                    moved.push(entry.file_name());
                }
            }
        }
        assert!(moved.len() >= 4, "{layout:?}");
        let text = refusal(folder.path(), &format!("{layout:?}"));
        assert!(text.contains("--images DIR"), "{layout:?}: {text}");
        let options = OpenOptions { images: Some(elsewhere.path().into()), ..OpenOptions::default() };
        let scene = Scene::open(folder.path(), &options).unwrap_or_else(|e| panic!("{layout:?}: {e}"));
        assert_eq!(scene.views.len(), 4, "{layout:?}");
    }
}

/// A text in the file gives way to another; what the message must have in it.
#[test]
fn wrong_values_are_told_with_their_place() {
    let cases: &[(Layout, &str, &str, &[&str])] = &[
        (Layout::Transforms, "\"frames\"", "\"pictures\"", &["missing field `frames`", "line 1"]),
        (Layout::Transforms, "\"fl_x\":", "\"fl_x\":\"a\",\"f\":", &["line 1 column", "a number"]),
        (Layout::Transforms, "\"fl_x\":", "\"fl_x\":-", &["frame 0", "focal lengths -"]),
        (Layout::Transforms, "[0.0,0.0,0.0,1.0]", "[0.0,0.0,1.0,1.0]", &["frame 0", "last row 0 0 1 1"]),
        (Layout::Transforms, "[0.0,0.0,0.0,1.0]", "[0.0,0.0,NaN,1.0]", &["line 1 column"]),
        (Layout::Transforms, "00000007.png", "00000003.png", &["frame 1", "for the second time"]),
        (Layout::Transforms, "\"w\":64", "\"w\":64.5", &["frame 0", "a size of 64.5 x 48"]),
        (Layout::Transforms, "\"w\":64", "\"camera_model\":\"LATLONG\",\"w\":64", &["camera_model LATLONG", "OPENCV"]),
        (Layout::Transforms, "\"w\":64", "\"k6\":0.5,\"w\":64", &["k5 0 and k6 0.5", "FULL_OPENCV"]),
        (Layout::Transforms, "\"w\":64", "\"s2\":0.1,\"k4\":0.5,\"w\":64", &["s1 to s4", "beside k4", "FULL_OPENCV"]),
        (
            Layout::Transforms,
            "\"w\":64",
            "\"tau_x\":0.1,\"is_fisheye\":true,\"w\":64",
            &["tau_y beside a fisheye", "FULL_OPENCV"],
        ),
        (Layout::Transforms, "\"w\":64", "\"tauY\":-1.6,\"w\":64", &["a tilt of -1.6", "below pi / 2"]),
        (Layout::Transforms, "\"w\":64", "\"s4\":\"b\",\"w\":64", &["line 1 column", "a number"]),
        (Layout::Transforms, "\"w\":64", "\"s4\":\"nan\",\"w\":64", &["frame 0", "coefficient of distortion NaN"]),
        (Layout::Metashape, "<k1>0.1</k1>", "<k1>nan</k1>", &["line 7", "`nan`", "finite number (k1)"]),
        (Layout::Metashape, "<k1>0.1</k1>", "<k1></k1>", &["line 7", "0 numbers"]),
        (Layout::Metashape, "sensor_id=\"1\"", "sensor_id=\"9\"", &["(00000007)", "sensor_id `9`"]),
        (
            Layout::Metashape,
            "adjusted\"><resolution width=\"64\"",
            "adjusted\"><resolution width=\"wide\"",
            &["width `wide`"],
        ),
        (Layout::Metashape, "<scale>2.5", "<scale>0", &["scale 0", "> 0"]),
        (Layout::Metashape, "label=\"00000007\"", "label=\"00000003\"", &["00000003 for the second time"]),
        (
            Layout::Metashape,
            "type=\"frame\" class=\"adjusted\"",
            "type=\"cylindrical\" class=\"adjusted\"",
            &["cylindrical"],
        ),
        (Layout::Metashape, "</chunk>", "</chink>", &["no well-formed XML"]),
        (Layout::Bundler, "4 200", "5 200", &["list.txt", "4 names for 5 cameras"]),
        (Layout::Bundler, "4 200", "4 201", &["the file ends", "a point's position"]),
        (Layout::Bundler, "4 200", "4 199", &["after the last point"]),
        (Layout::Bundler, "70 0 0", "70 inf 0", &["line 3", "`inf`"]),
        (Layout::Bundler, "2 0 3 0.5", "2 7 3 0.5", &["camera 7", "below 4"]),
        (Layout::Nvm, "NVM_V3", "NVM_V2", &["line 1", "NVM_V3"]),
        (Layout::Nvm, "NVM_V3", "NVM_V3 Tilted", &["`Tilted`", "FixedK"]),
        (Layout::Nvm, " 0.1 0\n", " 0.1\n", &["words", "a quaternion w x y z"]),
        (Layout::OpenMvg, "\"extrinsics\"", "\"poses\"", &["missing field `extrinsics`"]),
        (Layout::OpenMvg, "\"polymorphic_name\":\"pinhole\"", "\"polymorphic_name\":\"toric\"", &["type toric"]),
        (Layout::OpenMvg, "\"width\":64", "\"width\":65", &["view 0", "65 x 48", "64 x 48"]),
        (Layout::OpenSfm, "\"camera\":\"7\"", "\"camera\":\"6\"", &["shot 00000007.png", "camera 6"]),
        (Layout::OpenSfm, "\"projection_type\":\"brown\"", "\"projection_type\":\"dual\"", &["projection_type dual"]),
        (Layout::OpenSfm, "\"00000007.png\":", "\"00000003.png\":", &["`00000003.png` for the second time", "line 1"]),
        (Layout::AliceVision, "\"type\":\"pinhole\"", "\"type\":\"3deanamorphic4\"", &["3deanamorphic4", "fisheye1"]),
        (
            Layout::AliceVision,
            "\"sensorWidth\":\"36\"",
            "\"sensorWidth\":\"0\"",
            &["no focal length", "sensorWidth > 0"],
        ),
        (Layout::AliceVision, "\"sensorWidth\":\"36\"", "\"sensorWidth\":\"x\"", &["line 1 column", "a number"]),
        (Layout::RealityCapture, "Skew=\"0\"", "Skew=\"0.1\"", &["00000007.xmp", "a skew"]),
        (Layout::RealityCapture, "FocalLength35mm=\"", "FocalLength35mm=\"-", &["no focal length"]),
        (Layout::Strecha, "0 0 0\n", "0 0.1 0\n", &["00000007.png.camera", "radial distortion 0 0.1 0"]),
        (Layout::Strecha, "64 48", "64 -48", &["a size of 64 x -48"]),
        (Layout::Middlebury, "4\n", "3\n", &["after 3 photos"]),
        (Layout::Middlebury, "4\n", "x\n", &["`x`", "the number of photos"]),
        (Layout::Middlebury, "00000007.png", "00000003.png", &["for the second time"]),
        (Layout::SevenScenes, "0 0 0 1", "0 0 1 1", &["frame-000007.pose.txt", "last row 0 0 1 1"]),
        (Layout::Open3d, "\"width\":64", "\"width\":0", &["camera 0", "a size of 0 x 48"]),
        (Layout::Open3d, "\"extrinsic\"", "\"extrinsics\"", &["missing field `extrinsic`"]),
        (Layout::Kapture, "2, rig, ", "2, rig, 0, 0, 0, 0, ", &["rotation 0 0 0 0"]),
        (Layout::Kapture, "2, rig, ", "2, rig, a", &["trajectories.txt: line", "finite number"]),
    ];
    for (layout, from, to, parts) in cases {
        let folder = TempDir::new().unwrap();
        let file = written(*layout, folder.path());
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{layout:?}: no `{from}` in {text}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let said = refusal(folder.path(), &format!("{layout:?}, {to}"));
        for part in *parts {
            assert!(said.contains(part), "{layout:?}, `{to}`: {said}\nlacks `{part}`");
        }
    }
}

#[test]
fn two_formats_are_told_and_one_can_be_asked_for() {
    let folder = TempDir::new().unwrap();
    let truth = square();
    truth.write_photos(folder.path());
    put(&folder.path().join("transforms.json"), frames(&truth).to_string());
    put(&folder.path().join("sfm_data.json"), openmvg(&truth, "pinhole", json!({})).to_string());
    let scene = Scene::open(folder.path(), &OpenOptions::default()).unwrap();
    assert_eq!(scene.layout, Layout::Transforms);
    assert!(scene.notes[0].contains("OpenMVG") && scene.notes[0].contains("--format openmvg"), "{:?}", scene.notes);
    let options = OpenOptions { layout: Some(Layout::OpenMvg), ..OpenOptions::default() };
    assert_eq!(Scene::open(folder.path(), &options).unwrap().layout, Layout::OpenMvg);
    let options = OpenOptions { layout: Some(Layout::Nvm), ..OpenOptions::default() };
    let text = Scene::open(folder.path(), &options).unwrap_err().to_string();
    assert!(text.contains("VisualSFM") && text.contains("another --format"), "{text}");
    // A mirrored pose is none.
    let mut mirrored = truth.clone();
    mirrored.views[2].r = DMat3::from_diagonal([1.0, 1.0, -1.0].into()) * mirrored.views[2].r;
    put(&folder.path().join("transforms.json"), frames(&mirrored).to_string());
    let text = refusal(folder.path(), "mirrored");
    assert!(text.contains("frame 2") && text.contains("a mirroring"), "{text}");
}

#[test]
fn photos_of_colmap_and_mvsnet_may_lie_elsewhere() {
    let write: [fn(&Path); 2] = [
        |root| TestScene::new().write_mvsnet(root, "2 6"),
        |root| TestScene::new().write_colmap_binary(root, "sparse/0"),
    ];
    for write in write {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("scene");
        write(&root);
        let elsewhere = folder.path().join("photos");
        fs::rename(root.join("images"), &elsewhere).unwrap();
        refusal(&root, "without photos");
        let options = OpenOptions { images: Some(elsewhere), ..OpenOptions::default() };
        let scene = Scene::open(&root, &options).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(scene.views.len(), 4);
    }
}
