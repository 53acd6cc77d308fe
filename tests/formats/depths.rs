//! Depths that are known before: clouds in other formats, lists of ranges, maps of each format.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use engine::files::map::Map;
use engine::files::pfm;
use engine::scene::camera::DepthRange;
use engine::scene::{OpenOptions, Scene};
use glam::DVec3;
use tempfile::TempDir;

use crate::depth_files::{SCALE, e57, exr, las, laz, png};
use crate::format_files::{npy, put};
use crate::format_trees::frames;
use crate::scene_files::TestScene;
use crate::truth::has_note;

const NAMES: [&str; 4] = ["00000003", "00000007", "00000008", "00000020"];

/// The scene in the MVSNet layout; its files say 2 to 6.
fn place() -> TempDir {
    let folder = TempDir::new().unwrap();
    TestScene::new().write_mvsnet(&folder.path().join("scene"), "2 6");
    folder
}

fn open(folder: &Path, options: OpenOptions) -> Result<Scene, String> {
    let opened = Scene::open(&folder.join("scene"), &options).map_err(|e| e.to_string());
    if let Err(text) = &opened {
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    opened
}

fn from(folder: &Path, file: &str) -> Result<Scene, String> {
    open(folder, OpenOptions { range_from: Some(folder.join(file)), ..OpenOptions::default() })
}

fn prior(folder: &Path, maps: &str, prior_scale: Option<f64>) -> Result<Scene, String> {
    open(folder, OpenOptions { prior: Some(folder.join(maps)), prior_scale, ..OpenOptions::default() })
}

fn ranges(scene: &Scene) -> Vec<DepthRange> {
    scene.views.iter().map(|view| view.range.unwrap()).collect()
}

/// The scene's points, many enough for each view.
fn points() -> Vec<DVec3> {
    TestScene::new().points.into_iter().map(|(position, _)| position).collect()
}

/// One cloud in every format gives one set of ranges; what is cut or lies is told in a line.
#[test]
fn clouds_of_each_format_give_the_same_ranges() {
    let folder = place();
    let root = folder.path();
    let text: String = points().iter().map(|p| format!("{} {} {}\n", p.x, p.y, p.z)).collect();
    let head = "ply\nformat ascii 1.0\nelement vertex 200\nproperty double x\nproperty double y\nproperty double z\n";
    put(&root.join("a.ply"), format!("{head}end_header\n{text}"));
    let expected = ranges(&from(root, "a.ply").unwrap());
    for (name, minor, format, length) in [("old.las", 2, 0u8, 20u16), ("new.las", 4, 7, 36)] {
        put(&root.join(name), las(&points(), minor, format, length));
        put(&root.join(name.replace(".las", ".laz")), laz(&points(), minor, format, length));
    }
    e57(&root.join("a.e57"), &points());
    for file in ["old.las", "old.laz", "new.las", "new.laz", "a.e57"] {
        let scene = from(root, file).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(has_note(&scene, "depth ranges of 4 of 4 views from "), "{:?}", scene.notes);
        for (a, b) in ranges(&scene).iter().zip(&expected) {
            // Half a step of the whole numbers, and 1.1 times that.
            assert!((a.near - b.near).abs() < SCALE && (a.far - b.far).abs() < SCALE, "{file}: {a:?} {b:?}");
        }
        let whole = fs::read(root.join(file)).unwrap();
        for length in [3, 5, 100, 230, whole.len() / 2, whole.len() - 1] {
            put(&root.join("cut").join(file), &whole[..length]);
            let text = from(root, &format!("cut/{file}")).unwrap_err();
            assert!(text.contains(file) && text.contains("; expected "), "{file} {length}: {text}");
        }
    }
    let mut wrong = fs::read(root.join("old.las")).unwrap();
    wrong[25] = 9;
    put(&root.join("wrong.las"), &wrong);
    assert!(from(root, "wrong.las").unwrap_err().contains("version 1.9"));
    wrong[25] = 2;
    wrong[105] = 3;
    put(&root.join("wrong.las"), &wrong);
    assert!(from(root, "wrong.las").unwrap_err().contains("points of 3 bytes"));
    let mut wrong = fs::read(root.join("new.laz")).unwrap();
    // The number of points: the table of chunks does not fit it any more.
    wrong[247] = 99;
    put(&root.join("wrong.laz"), &wrong);
    assert!(from(root, "wrong.laz").unwrap_err().contains("a table of 4 chunks for 99 points"));
}

#[test]
fn ranges_are_read_from_a_list() {
    let folder = place();
    let root = folder.path();
    put(&root.join("a.txt"), "# near and far\n00000003 1.5 2.5\n00000008.png,3, 4e1\n\nanother photo 1 2\n");
    let scene = from(root, "a.txt").unwrap();
    let of_files = DepthRange { near: 2.0, far: 6.0 };
    let expected = [DepthRange { near: 1.5, far: 2.5 }, of_files, DepthRange { near: 3.0, far: 40.0 }, of_files];
    assert_eq!(ranges(&scene), expected);
    assert!(has_note(&scene, "depth ranges of 2 of 4 views from "), "{:?}", scene.notes);
    assert!(has_note(&scene, "does not name the others (first: 00000007); 1 name there of no view (first: another"));
    for (text, told) in [
        ("00000003 1.5\n", "line 1: `00000003 1.5`; expected NAME NEAR FAR"),
        ("\n00000003 2 1\n", "line 2: `00000003 2 1`"),
        ("00000003 0 1\n", "line 1"),
        ("00000003 1 inf\n", "line 1"),
        ("1 2\n", "line 1"),
        ("00000003 1 2\n00000003 1 2\n", "line 2: 00000003 for the second time, after line 1"),
        ("other 1 2\n", "1 range, none of them of a view"),
        ("", "0 ranges, none of them of a view"),
    ] {
        put(&root.join("a.txt"), text);
        let said = from(root, "a.txt").unwrap_err();
        assert!(said.contains("a.txt") && said.contains(told), "{said}");
    }
}

const SIDES: (usize, usize) = (64, 48);

/// Depths that grow evenly over the photo, the first 30 of 3072 being wrong, as a map.
fn known() -> Map {
    let count = SIDES.0 * SIDES.1;
    let depth = |i: usize| if i < 30 { 400.0 } else { 3.0 + i as f32 / count as f32 };
    Map { width: SIDES.0, height: SIDES.1, data: (0..count).map(depth).collect() }
}

/// What comes of it: the wrong ones are less than a hundredth.
fn narrowed() -> DepthRange {
    DepthRange { near: 0.9 * 3.02, far: 1.1 * 4.0 }
}

fn is_narrowed(range: DepthRange) -> bool {
    (range.near - narrowed().near).abs() < 0.02 && (range.far - narrowed().far).abs() < 0.02
}

fn archive(map: &Map) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file("depth.npy", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(&array(map, true)).unwrap();
    archive.finish().unwrap().into_inner()
}

fn array(map: &Map, doubles: bool) -> Vec<u8> {
    let values: Vec<f64> = map.data.iter().map(|&v| v.into()).collect();
    npy(&[map.height, map.width], &values, doubles)
}

fn write(root: &Path, name: impl Fn(&str) -> String, bytes: &[u8]) {
    NAMES.iter().for_each(|view| put(&root.join(name(view)), bytes));
}

#[test]
fn maps_of_each_format_narrow_the_ranges() {
    let (folder, map) = (place(), known());
    let root = folder.path();
    let as_pfm = root.join("a.pfm");
    pfm::write(&as_pfm, &map).unwrap();
    let files: [(&str, Vec<u8>); 7] = [
        ("pfm", fs::read(&as_pfm).unwrap()),
        ("exr", exr(&map, &["Z"])),
        ("exr", exr(&map, &["A", "Z", "confidence"])),
        ("npy", array(&map, true)),
        ("npy", array(&map, false)),
        ("npz", archive(&map)),
        ("png", png(&map, 5000.0, Some("5000"))),
    ];
    for (i, (extension, bytes)) in files.iter().enumerate() {
        // There, and in depth/.
        for below in ["", "depth/"] {
            let maps = format!("{i}{}", below.trim_end_matches('/'));
            write(root, |view| format!("{maps}/{below}{view}.{extension}"), bytes);
            let scene = prior(root, &maps, None).unwrap_or_else(|e| panic!("{extension}: {e}"));
            assert!(ranges(&scene).into_iter().all(is_narrowed), "{extension}: {:?}", ranges(&scene));
            assert!(has_note(&scene, "depth ranges of 4 of 4 views narrowed to known depths in "), "{:?}", scene.notes);
        }
        let last = root.join(format!("{i}/{}.{extension}", NAMES[3]));
        for length in [1, 30, bytes.len() / 2, bytes.len() - 5] {
            put(&last, &bytes[..length]);
            let text = prior(root, &i.to_string(), None).unwrap_err();
            let name = last.file_name().unwrap().to_str().unwrap();
            assert!(text.contains(name) && text.contains("; expected "), "{extension} {length}: {text}");
        }
    }

    // A scale: the option's, or that of the file beside them.
    write(root, |view| format!("scaled/{view}.png"), &png(&map, 1000.0, None));
    let text = prior(root, "scaled", None).unwrap_err();
    assert!(text.contains("without a text chunk `depth_scale`; expected --prior-scale N"), "{text}");
    assert!(ranges(&prior(root, "scaled", Some(1000.0)).unwrap()).into_iter().all(is_narrowed));
    put(&root.join("scaled/png16.json"), r#"{"depth": {"scale": 1000.0}}"#);
    assert!(ranges(&prior(root, "scaled", None).unwrap()).into_iter().all(is_narrowed));
    put(&root.join("scaled/png16.json"), r#"{"depth": 7}"#);
    assert!(prior(root, "scaled", None).unwrap_err().contains("png16.json: no number depth.scale"));

    let grey = image::GrayImage::new(64, 48);
    grey.save(root.join("scaled/00000003.png")).unwrap();
    assert!(prior(root, "scaled", Some(1.0)).unwrap_err().contains("a PNG of 8 bits, Grayscale"));
    write(root, |view| format!("odd/{view}.exr"), &exr(&map, &["A", "confidence"]));
    assert!(
        prior(root, "odd", None).unwrap_err().contains("the channels A, confidence; expected one that is called Z")
    );
    write(root, |view| format!("odd/{view}.npy"), &npy(&[48, 32, 2], &[0.0; 3072], true));
    NAMES.iter().for_each(|view| fs::remove_file(root.join(format!("odd/{view}.exr"))).unwrap());
    assert!(prior(root, "odd", None).unwrap_err().contains("an array of shape [48, 32, 2]"));
    let text = prior(root, "scene", None).unwrap_err();
    assert!(text.contains("no depth map of a view (first: 00000003)"), "{text}");
    assert!(prior(root, "nowhere", None).unwrap_err().contains("cannot read the folder of known depths"));
}

/// What is not trusted, too little or somewhere else narrows nothing.
#[test]
fn ranges_stay_where_known_depths_say_too_little() {
    let folder = place();
    let root = folder.path();
    let (count, whole) = (SIDES.0 * SIDES.1, known());
    let map = |data: Vec<f32>| Map { width: SIDES.0, height: SIDES.1, data };
    fs::create_dir_all(root.join("maps/depth")).unwrap();
    fs::create_dir_all(root.join("maps/confidence")).unwrap();
    let put_map = |kind: &str, view: usize, data: Vec<f32>| {
        pfm::write(&root.join(format!("maps/{kind}/{}.pfm", NAMES[view])), &map(data)).unwrap();
    };
    // Of the first, a third is wrong, and said to be.
    let is_wrong = |i: usize| i.is_multiple_of(3);
    put_map("depth", 0, (0..count).map(|i| if is_wrong(i) { 50.0 } else { whole.data[i] }).collect());
    put_map("confidence", 0, (0..count).map(|i| if is_wrong(i) { 0.4 } else { 0.9 }).collect());
    // Of the second, most is unknown.
    let unknown = [0.0, -1.0, f32::NAN, f32::INFINITY];
    put_map("depth", 1, (0..count).map(|i| if i % 5 < 3 { unknown[i % 4] } else { whole.data[i] }).collect());
    // The third is in other units.
    put_map("depth", 2, whole.data.iter().map(|z| 1000.0 * z).collect());
    let scene = prior(root, "maps", None).unwrap();
    let of_files = DepthRange { near: 2.0, far: 6.0 };
    let found = ranges(&scene);
    assert!(is_narrowed(found[0]), "{found:?}");
    assert_eq!(found[1..], [of_files; 3]);
    assert!(has_note(&scene, "depth ranges of 1 of 4 views narrowed"), "{:?}", scene.notes);
    assert!(has_note(&scene, "; 1 view without a map (first: 00000020)"), "{:?}", scene.notes);
    assert!(has_note(&scene, "known depths of 1 view cover less than half of the pixels (first: 00000007)"));
    assert!(has_note(&scene, "known depths of 1 view lie outside of the range that is given otherwise"));
    // A confidence of another size is of another map.
    pfm::write(&root.join("maps/confidence/00000003.pfm"), &Map::filled(32, 24, 1.0)).unwrap();
    let text = prior(root, "maps", None).unwrap_err();
    assert!(text.contains("00000003.pfm: a map of 32 x 24; expected 64 x 48"), "{text}");
}

/// Maps that `transforms.json` names: in millimetres unless it says otherwise, and not against what points say.
#[test]
fn maps_named_beside_cameras_narrow_the_ranges() {
    let folder = TempDir::new().unwrap();
    let (root, map) = (folder.path(), known());
    TestScene::new().write_photos(root);
    write(root, |view| format!("depth/{view}.png"), &png(&map, 1000.0, None));
    let written = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut file = frames(&TestScene::new());
        for (frame, view) in file["frames"].as_array_mut().unwrap().iter_mut().zip(NAMES) {
            frame["depth_file_path"] = format!("depth/{view}.png").into();
        }
        change(&mut file);
        put(&root.join("transforms.json"), file.to_string());
        Scene::open(root, &OpenOptions::default()).unwrap()
    };
    let scene = written(&|_| {});
    assert!(ranges(&scene).into_iter().all(is_narrowed), "{:?}", ranges(&scene));
    assert!(has_note(&scene, "depth ranges of 4 of 4 views narrowed to depth maps"), "{:?}", scene.notes);
    // What 1 means, and the scale of the file's world.
    let scene = written(&|file| file["integer_depth_scale"] = 2e-3.into());
    assert!(ranges(&scene).iter().all(|range| (range.near - 2.0 * narrowed().near).abs() < 0.04));
    let scene = written(&|file| {
        file["integer_depth_scale"] = 2e-3.into();
        file["applied_scale"] = 2.0.into();
    });
    assert!(ranges(&scene).into_iter().all(is_narrowed), "{:?}", ranges(&scene));
    // Points some 4 away say that the unit is another.
    let text: String = points().iter().map(|p| format!("{} {} {}\n", p.x, p.y, p.z)).collect();
    let head = "ply\nformat ascii 1.0\nelement vertex 200\nproperty double x\nproperty double y\nproperty double z\n";
    put(&root.join("a.ply"), format!("{head}end_header\n{text}"));
    let scene = written(&|file| {
        file["ply_file_path"] = "a.ply".into();
        file["integer_depth_scale"] = 1.0.into();
    });
    assert!(scene.views.iter().all(|view| view.range.is_none()));
    assert!(has_note(&scene, "4 depth maps named there not used (first: 00000003)"), "{:?}", scene.notes);
    fs::remove_file(root.join("depth/00000007.png")).unwrap();
    let scene = written(&|_| {});
    assert!(scene.views[1].range.is_none() && has_note(&scene, "1 depth map named there but not found"));
}
