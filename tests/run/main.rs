//! The whole job through the binary, on a small scene with an analytic truth: here what one run does; in [`resume`]
//! runs that go on from earlier ones, in [`finished`] runs with nothing left to do, in [`together`] several at once, in
//! [`leftovers`] what becomes of earlier results, in [`manifest`] what is left to be read, in [`fuse`] clouds from
//! finished maps, in [`grid`] by other methods and scored, in [`far`] scenes far from the origin, in [`faces`]
//! panoramas, in [`alpha`] transparent photos, in [`masks`] masks in files of their own, in [`region`] regions of
//! interest, in [`streaming`] maps that do not fit into memory, in [`unusable`] maps with values that are none, in
//! [`workspace`] maps of COLMAP.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine::files::pfm;
use serde_json::Value;
use tempfile::TempDir;

mod alpha;
mod faces;
mod far;
mod finished;
mod fuse;
mod grid;
mod layouts;
mod leftovers;
mod manifest;
mod masks;
mod region;
mod resume;
mod streaming;
mod together;
mod unusable;
mod workspace;

#[path = "../support/plane_scene.rs"]
mod plane_scene;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/room.rs"]
mod room;
#[path = "../support/scene_files.rs"]
mod scene_files;
#[path = "../support/svg.rs"]
mod svg;

use plane_scene::{NAMES, PLANES, RANGE};
use program::{Ran, command, engine, files, json, text};

/// A folder with the scene in `scene/`.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        plane_scene::write(&root.path().join("scene"));
        Self { root }
    }

    fn scene(&self) -> PathBuf {
        self.root.path().join("scene")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// `engine infer scene -o OUT ...`
    fn infer(&self, out: &str, more: &[&str]) -> Ran {
        engine(self.arguments(out, more))
    }

    fn arguments(&self, out: &str, more: &[&str]) -> Vec<String> {
        let mut arguments = vec!["infer".to_owned(), text(&self.scene()).to_owned(), "-o".to_owned()];
        arguments.push(text(&self.path(out)).to_owned());
        arguments.extend(more.iter().map(|&m| m.to_owned()));
        arguments
    }
}

/// `(view, level)` of the maps that a run with `--json` made itself.
fn computed(ran: &Ran) -> Vec<(String, u64)> {
    let steps = ran.events().into_iter().filter(|e| e["event"] == "step" && e["stage"] == "depth");
    steps
        .filter(|e| e["reused"] == false)
        .map(|e| (e["view"].as_str().unwrap().to_owned(), e["level"].as_u64().unwrap()))
        .collect()
}

/// Everything but the manifest and the records beside the maps, which tell times, and the lock, which tells processes.
fn results(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = files(out);
    found.retain(|path, _| path.extension().is_none_or(|e| e != "json" && e != "lock"));
    found
}

/// Header lines and vertices (position, normal, colour, confidence, views) of a cloud.
fn cloud(path: &Path) -> (Vec<String>, Vec<[f32; 3]>) {
    let bytes = fs::read(path).unwrap();
    let end = b"end_header\n";
    let at = bytes.windows(end.len()).position(|w| w == end).unwrap() + end.len();
    let header = String::from_utf8(bytes[..at].to_vec()).unwrap();
    let positions =
        bytes[at..].chunks_exact(32).map(|v| [0, 4, 8].map(|o| f32::from_le_bytes(v[o..o + 4].try_into().unwrap())));
    (header.lines().map(str::to_owned).collect(), positions.collect())
}

#[test]
fn the_whole_job_gives_the_planes_depth_and_a_cloud_on_it() {
    let place = Place::new();
    let ran = place.infer("out", &[]).done();
    let out = place.path("out");
    for name in NAMES {
        for file in [format!("depth/{name}.pfm"), format!("confidence/{name}.pfm"), format!("preview/{name}.png")] {
            assert!(out.join(&file).is_file(), "{file}");
        }
    }
    assert!(!out.join("normal").exists());

    // One interval of the 16 planes is 0.2, or 5 % of the depth. The network was not trained on such tiny photos with
    // so few planes; it still places most pixels within a third of an interval.
    let scene = plane_scene::scene();
    for view in &scene.views {
        let depth = pfm::read(&out.join(format!("depth/{:08}.pfm", view.id))).unwrap();
        assert_eq!((depth.width, depth.height), (96, 64));
        let mut errors: Vec<f64> = (0..64 * 96)
            .map(|i| {
                let (x, y) = (i % 96, i / 96);
                let truth = plane_scene::depth(view, x as f64, y as f64);
                (f64::from(depth.at(x, y)) - truth).abs()
            })
            .collect();
        errors.sort_by(f64::total_cmp);
        let interval = (RANGE.1 - RANGE.0) / (PLANES - 1) as f64;
        assert!(errors[errors.len() / 2] < interval / 3.0, "view {}: median {}", view.id, errors[errors.len() / 2]);
    }

    let (header, points) = cloud(&out.join("fused.ply"));
    assert_eq!(&header[..2], ["ply", "format binary_little_endian 1.0"]);
    assert!(header.contains(&format!("element vertex {}", points.len())), "{header:?}");
    let properties: Vec<&str> = header.iter().filter_map(|l| l.strip_prefix("property ")).collect();
    let expected = "float x,float y,float z,float nx,float ny,float nz,uchar red,uchar green,uchar blue,\
                    float confidence,uchar views";
    assert_eq!(properties.join(","), expected);
    let mut distances: Vec<f64> = points.iter().map(|p| plane_scene::distance(p.map(f64::from))).collect();
    distances.sort_by(f64::total_cmp);
    // Points agree in three views within 1 % of depth 4.
    assert!(distances[distances.len() / 2] < 0.04, "median {}", distances[distances.len() / 2]);

    let manifest = json(&out.join("manifest.json"));
    assert_eq!(manifest["program"], "engine");
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest["network"]["weights"], "built-in");
    assert_eq!(manifest["network"]["weights_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(manifest["points"], points.len());
    assert_eq!(manifest["funnel"]["pixels"], 5 * 96 * 64);
    assert_eq!(manifest["funnel"]["fused"], points.len());
    assert_eq!(manifest["parameters"]["min_confidence"], 0.8);
    let view = &manifest["views"][1];
    assert_eq!(view["name"], "00000002");
    assert_eq!(view["depth"]["planes"], PLANES);
    assert_eq!(view["depth"]["range_from"], "scene");
    assert_eq!(view["depth"]["sampling"], "linear");
    assert_eq!(view["depth"]["range"]["far"], RANGE.1);
    assert_eq!(view["depth"]["sources"].as_array().unwrap().len(), 4);
    assert_eq!(view["depth"]["levels"].as_array().unwrap().len(), 3);
    assert_eq!(view["map_k"][0][2], 47.25);
    assert!(
        manifest["notes"].as_array().unwrap().iter().any(|n| n.as_str().unwrap().contains("evenly spaced in depth"))
    );
    for output in manifest["outputs"].as_array().unwrap() {
        assert!(out.join(output.as_str().unwrap()).is_file(), "{output}");
    }

    // The summary on standard output, progress on standard error as lines: it is no terminal.
    assert!(ran.stdout.starts_with(&format!("{} points from 5 depth maps in ", points.len())), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("30720 pixels") && ran.stdout.contains("confirmed by 3 source views"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("confidence/ depth/ fused.ply manifest.json preview/"), "{}", ran.stdout);
    assert!(ran.stderr.contains("depth 1/15: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("note: planes evenly spaced in depth: far / near is below 3\n"), "{}", ran.stderr);
}

#[test]
fn without_out_results_lie_beside_the_scene() {
    let place = Place::new();
    engine(["infer", text(&place.scene()), "--levels", "1", "--quiet"]).done();
    assert!(place.path("scene_engine/fused.ply").is_file());
    // From within the scene, too: never among the photos.
    let ran =
        Ran::from(command(["infer", ".", "--levels", "1", "--quiet"]).current_dir(place.scene()).output().unwrap());
    ran.done();
    let inside: Vec<_> = fs::read_dir(place.scene()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(inside.len(), 3, "{inside:?}");
}

#[test]
fn neither_threads_nor_the_order_of_work_change_a_byte() {
    let place = Place::new();
    place.infer("one", &["--threads", "1", "--quiet"]).done();
    place.infer("three", &["--threads", "3", "--quiet"]).done();
    assert!(results(&place.path("one")) == results(&place.path("three")));
    // View by view, in another order, into the same folder.
    for name in NAMES.iter().rev() {
        place.infer("pieces", &["--view", name, "--depth-only", "--quiet"]).done();
    }
    let part = place.infer("pieces", &["--view", NAMES[0], "--depth-only"]).done();
    let note = "note: depth/ holds 4 more maps, left there by earlier runs; they take no part in this one";
    assert!(part.stderr.lines().any(|line| line == note), "{}", part.stderr);
    assert_eq!(computed(&place.infer("pieces", &["--json"]).done()), []);
    assert!(results(&place.path("one")) == results(&place.path("pieces")));
}

#[test]
fn one_view_alone_is_told_at_once_that_it_makes_no_cloud() {
    let place = Place::new();
    let ran = place.infer("out", &["--view", "00000002"]);
    ran.failed(6);
    let note = "note: no view has a source view among these that could confirm its depths, so there will be no point \
                cloud: add source views with --view, or give --depth-only";
    assert!(ran.stderr.lines().any(|l| l == note), "{}", ran.stderr);
    let ran = place.infer("out", &["--view", "00000002", "--depth-only"]).done();
    assert!(!ran.stderr.contains("no point cloud"), "{}", ran.stderr);
}

#[test]
fn memory_that_no_option_can_help_is_said_so() {
    let place = Place::new();
    let ran = place.infer("out", &["--memory", "0.001"]);
    let message = ran.failed(5);
    assert!(
        message.contains("1 MB are available; no option makes it fit: reading photos of this size takes "),
        "{message}"
    );
}

#[test]
fn a_subset_of_views_is_worked_on_and_said_so() {
    let place = Place::new();
    let ran = place.infer("out", &["--view", "00000002", "--view", "00000003", "--normals"]).done();
    let names = |folder: &str| -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(place.path("out").join(folder))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    for folder in ["depth", "confidence", "normal"] {
        assert_eq!(names(folder), ["00000002.pfm", "00000003.pfm"]);
    }
    let note = "note: 2 of 5 views get a depth map; levels and points are checked against these only";
    assert!(ran.stderr.lines().any(|l| l == note), "{}", ran.stderr);
    assert!(ran.stdout.contains(" by 3 source views, or by all where a view has fewer"), "{}", ran.stdout);
    let manifest = json(&place.path("out/manifest.json"));
    assert_eq!(manifest["views"][0]["checked_against"], serde_json::json!(["00000003"]));
    // The network still saw all the others.
    assert_eq!(manifest["views"][0]["depth"]["sources"].as_array().unwrap().len(), 4);
    // Normals point towards the camera and have length 1 wherever there is depth.
    let (width, height, normals) = pfm::read_rgb(&place.path("out/normal/00000003.pfm")).unwrap();
    assert_eq!((width, height), (96, 64));
    for n in normals {
        let length = n.iter().map(|c| c * c).sum::<f32>().sqrt();
        // f32 rounding of three components.
        assert!((length - 1.0).abs() < 1e-5 && n[2] < 0.0, "{n:?}");
    }

    let unknown = place.infer("other", &["--view", "00000001"]);
    assert_eq!(
        unknown.failed(3),
        "--view 00000001: no view of the scene has this name; expected one of its 5: 00000000, \
         00000002, 00000003, 00000005, ..."
    );
    assert!(!place.path("other").exists());
}

#[test]
fn depth_only_makes_maps_and_no_cloud() {
    let place = Place::new();
    let ran = place.infer("out", &["--depth-only"]).done();
    assert!(place.path("out/depth/00000000.pfm").is_file() && !place.path("out/fused.ply").exists());
    assert!(ran.stdout.starts_with("5 depth maps in "), "{}", ran.stdout);
    assert_eq!(json(&place.path("out/manifest.json"))["funnel"], Value::Null);
    // The cloud then needs no network, and is the one that the whole run makes.
    assert_eq!(computed(&place.infer("out", &["--json"]).done()), []);
    place.infer("whole", &["--quiet"]).done();
    assert!(fs::read(place.path("out/fused.ply")).unwrap() == fs::read(place.path("whole/fused.ply")).unwrap());
}

#[test]
fn json_tells_everything_and_quiet_nothing() {
    let place = Place::new();
    let ran = place.infer("out", &["--json"]).done();
    assert_eq!(ran.stderr, "");
    let events = ran.events();
    let kinds: Vec<&str> = events.iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(kinds.first(), Some(&"start"));
    assert_eq!(kinds.last(), Some(&"summary"));
    assert!(kinds.contains(&"note"));
    let stages: Vec<&str> =
        events.iter().filter(|e| e["event"] == "stage").map(|e| e["stage"].as_str().unwrap()).collect();
    assert_eq!(stages, ["depth", "merging", "agreement", "maps", "fusion"]);
    for stage in stages {
        let steps: Vec<&Value> = events.iter().filter(|e| e["event"] == "step" && e["stage"] == stage).collect();
        let announced = events.iter().find(|e| e["event"] == "stage" && e["stage"] == stage).unwrap()["steps"].as_u64();
        assert_eq!(announced, Some(steps.len() as u64), "{stage}");
        assert_eq!(steps.last().unwrap()["done"].as_u64(), announced, "{stage}");
    }
    let summary = events.last().unwrap();
    assert_eq!(summary["outputs"]["depth"], 5);
    assert_eq!(summary["points"], json(&place.path("out/manifest.json"))["points"]);

    let quiet = place.infer("quiet", &["--quiet"]).done();
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));

    let failed = place.infer("out", &["--json", "--view", "x"]);
    failed.failed(3);
    let error = failed.events().pop().unwrap();
    assert_eq!((&error["event"], &error["exit_code"]), (&Value::from("error"), &Value::from(3)));
}

#[test]
fn an_empty_cloud_is_an_error_with_the_reason_and_the_maps_stay() {
    let place = Place::new();
    place.infer("out", &["--quiet"]).done();
    assert!(place.path("out/fused.ply").exists());
    let ran = place.infer("out", &["--min-confidence", "1"]);
    let message = ran.failed(6).to_owned();
    assert!(message.starts_with("the cloud is empty: ") && message.contains("--min-confidence"), "{message}");
    assert!(ran.stdout.starts_with("0 points from 5 depth maps"), "{}", ran.stdout);
    // The cloud of the run before would now be a lie.
    assert!(!place.path("out/fused.ply").exists());
    assert!(place.path("out/depth/00000000.pfm").is_file());
    assert_eq!(json(&place.path("out/manifest.json"))["points"], 0);
}

#[test]
fn photos_of_different_sizes_and_of_one_pixel_are_worked_on() {
    let place = Place::new();
    // One photo cropped to odd sides (the camera stays: pixel 0 is the same), one to a single pixel.
    for (name, width, height) in [("00000002", 75, 53), ("00000009", 1, 1)] {
        let path = place.scene().join(format!("images/{name}.png"));
        let photo = image::open(&path).unwrap();
        photo.crop_imm(0, 0, width, height).save(&path).unwrap();
    }
    place.infer("out", &["--quiet"]).done();
    for (name, size) in [("00000002", (75, 53)), ("00000009", (1, 1)), ("00000000", (96, 64))] {
        let depth = pfm::read(&place.path(&format!("out/depth/{name}.pfm"))).unwrap();
        assert_eq!((depth.width, depth.height), size);
    }
    // Most of the odd-sized view is still right.
    let view = &plane_scene::scene().views[1];
    let depth = pfm::read(&place.path("out/depth/00000002.pfm")).unwrap();
    let right = (0..75 * 53).filter(|i| {
        let (x, y) = (i % 75, i / 75);
        let truth = plane_scene::depth(view, x as f64, y as f64);
        (f64::from(depth.at(x, y)) - truth).abs() < 0.1
    });
    let right = right.count();
    assert!(right > 75 * 53 / 2, "{right} of {}", 75 * 53);
    engine(["fuse", text(&place.path("out")), "--scene", text(&place.scene())]).done();
}

#[test]
fn the_numbers_in_the_files_are_used_unless_an_option_says_otherwise() {
    let place = Place::new();
    let depth_of = |out: &str| json(&place.path(out).join("manifest.json"))["views"][0]["depth"].clone();
    let cam = |line: &str| {
        for view in &plane_scene::scene().views {
            let path = place.scene().join(format!("cams/{:08}_cam.txt", view.id));
            fs::write(path, view.cam_txt(line)).unwrap();
        }
    };
    place.infer("four", &["--depth-only", "--quiet", "--levels", "1"]).done();
    assert_eq!(depth_of("four")["planes"], PLANES);

    // Near and interval: the number of planes decides where the range ends.
    cam("2.5 0.25");
    place.infer("two", &["--depth-only", "--quiet", "--levels", "1", "--planes", "9"]).done();
    assert_eq!((&depth_of("two")["range"]["far"], &depth_of("two")["planes"]), (&Value::from(4.5), &Value::from(9)));
    place.infer("max", &["--depth-only", "--quiet", "--levels", "1", "--planes", "9", "--range", "1,9"]).done();
    assert_eq!(depth_of("max")["range"]["far"], 9.0);
    assert_eq!(depth_of("max")["sampling"], "inverse");
    assert_eq!(depth_of("max")["range_from"], "option");

    // A file whose number of planes cannot be meant.
    cam("2.5 0.00003 100000 6");
    let ran = place.infer("absurd", &["--depth-only"]);
    assert_eq!(
        ran.failed(3),
        "view 00000000: 100000 planes; expected 1 to 65536; --planes D replaces the file's number"
    );
    place.infer("absurd", &["--depth-only", "--quiet", "--levels", "1", "--planes", "16"]).done();
}

#[test]
fn one_photo_is_not_enough() {
    let place = Place::new();
    for name in &NAMES[1..] {
        fs::remove_file(place.scene().join(format!("images/{name}.png"))).unwrap();
        fs::remove_file(place.scene().join(format!("cams/{name}_cam.txt"))).unwrap();
    }
    fs::write(place.scene().join("pair.txt"), "1\n0\n0\n").unwrap();
    let ran = place.infer("out", &[]);
    assert_eq!(
        ran.failed(3),
        format!(
            "{}: only one view with both a photo and a camera; expected at least two views of the same place",
            place.scene().display()
        )
    );
}
