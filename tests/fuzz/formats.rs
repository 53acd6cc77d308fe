//! The readers of foreign camera formats, each with a small file that is right.

use std::path::Path;
use std::sync::OnceLock;

use engine::scene::formats::table::read_cameras;
use engine::scene::{OpenOptions, Scene};
use glam::{DMat3, DVec3};
use serde_json::json;

use crate::corpus::Target;
use crate::format_files::*;
use crate::format_opf::write_opf;
use crate::format_trees::*;
use crate::scene_files::TestScene;

const ZERO: DVec3 = DVec3::ZERO;
const ONE: DVec3 = DVec3::ONE;

/// Reads what is recognised in the folder; photos are not looked at.
fn read(folder: &Path) -> Result<(), String> {
    read_cameras(folder, None).map(|_| ()).map_err(|error| error.to_string())
}

/// With few points: small files are damaged more thoroughly.
fn small(mut scene: TestScene) -> TestScene {
    scene.points.truncate(6);
    scene
}

/// What a function has written into an empty folder.
fn files_of(write: impl Fn(&Path)) -> Vec<(String, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let (mut files, mut folders) = (Vec::new(), vec![folder.path().to_owned()]);
    while let Some(place) = folders.pop() {
        for entry in std::fs::read_dir(place).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

pub fn targets() -> Vec<Target> {
    let (any, middle, square) = (small(TestScene::new()), small(centred()), small(square()));
    let one = |name: &str, bytes: Vec<u8>| vec![(name.to_owned(), bytes)];
    let order = [Some(0), None, Some(1), Some(2), Some(3)];
    let brown = json!({ "disto_t2": [0.1, 0.0, 0.01, 0.001, 0.002] });
    let radial = json!({ "type": "radial3", "distortionParams": ["0.1", "0", "0.01"] });
    let list = b"a.png\nb.png 0 700\nc.png\nd.png\ne.png\n".to_vec();
    let mut bundle = one("bundle.out", bundler(&middle, &order, [0.1, 0.0]).into());
    bundle.push(("list.txt".into(), list));
    let mut sfm = one("reconstruction.json", opensfm(&any, json!({ "k1": 0.1 })).to_string().into());
    sfm.push(("tracks.csv".into(), opensfm_tracks(&any).into()));
    let cameras = any.views.iter().map(|v| (format!("{}.camera", v.file), camera_file(v, any.size).into())).collect();
    let mut frames_of_scenes: Vec<(String, Vec<u8>)> =
        any.views.iter().map(|v| (format!("frame-{:06}.pose.txt", v.id), pose_file(v).into())).collect();
    let k = words(&rows(any.views[0].k).concat(), " ");
    frames_of_scenes.push(("camera-intrinsics.txt".into(), k.into()));
    let target = |name: &'static str, files: Vec<(String, Vec<u8>)>| Target { name, files, read };
    vec![
        target("transforms", one("transforms.json", frames(&any).to_string().into())),
        target("metashape", one("cameras.xml", metashape_with_region(&any, ZERO, DMat3::IDENTITY, ONE).into())),
        target("bundler", bundle),
        target("nvm", one("a.nvm", nvm(&middle, 0.1).into())),
        target("openmvg", one("sfm_data.json", openmvg(&square, "pinhole_brown_t2", brown).to_string().into())),
        target("opensfm", sfm),
        target("alicevision", one("a.sfm", alicevision(&any, [1, 2, 5], radial).to_string().into())),
        target("realitycapture", files_of(|root| write_xmp(&any, root, &[0.1; 6]))),
        target("openmvs", one("scene.mvs", openmvs_with(&any, 7, &["a.png"], &[&[(1, 0.5), (4, 2.0)]]))),
        target("strecha", cameras),
        target("middlebury", one("a_par.txt", par(&any).into())),
        target("llff", one("poses_bounds.npy", poses_bounds(&middle))),
        target("neus", one("cameras.npz", cameras_npz(&any, true))),
        target("7scenes", frames_of_scenes),
        target("open3d", one("trajectory.json", trajectory(&any).to_string().into())),
        target("kapture", files_of(|root| write_kapture(&any, root))),
        target("opf", files_of(|root| write_opf(&square, root, json!({})))),
        Target { name: "listed sources", files: files_of(listed), read: read_scene },
        Target {
            name: "range list",
            files: one("a.txt", b"00000003 1.5 2.5\n00000008.png,3, 4\n".to_vec()),
            read: read_list,
        },
    ]
}

/// COLMAP's scene, small, with a list of each form beside it.
fn listed(root: &Path) {
    small(TestScene::new()).write_colmap_text(root, "sparse");
    put(&root.join("pair.txt"), "2\n3\n2 7 9.5 8 1\n20\n1 3 2.5\n");
    put(&root.join("stereo/patch-match.cfg"), "00000003.png\n00000020.png, 00000007.png\n00000007.png\n__auto__, 20\n");
}

fn read_scene(folder: &Path) -> Result<(), String> {
    Scene::open(folder, &OpenOptions::default()).map(|_| ()).map_err(|error| error.to_string())
}

/// A list of depth ranges, for a scene that is written once.
fn read_list(folder: &Path) -> Result<(), String> {
    static SCENE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let scene = SCENE.get_or_init(|| {
        let scene = tempfile::tempdir().unwrap();
        TestScene::new().write_mvsnet(scene.path(), "2 6");
        scene
    });
    let options = OpenOptions { range_from: Some(folder.join("a.txt")), ..OpenOptions::default() };
    Scene::open(scene.path(), &options).map(|_| ()).map_err(|error| error.to_string())
}
