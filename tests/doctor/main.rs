//! `engine doctor` on scenes that were broken on purpose, one mistake each, in both layouts: the mistake is named, and
//! nothing is said about the scene before it was broken.

use std::path::{Path, PathBuf};

use engine::scene::camera::Camera;
use glam::{DMat3, DVec2, DVec3};
use serde_json::Value;
use tempfile::TempDir;

#[path = "../support/doctor_scenes.rs"]
mod doctor_scenes;
mod poses;
#[path = "../support/program.rs"]
mod program;

use doctor_scenes::{Broken, SIZE, VIEWS, plain, whole};
use program::{engine, text};

/// What the doctor said.
struct Said {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Said {
    fn of(scene: &Path, more: &[&str]) -> Self {
        let first = ["doctor", text(scene), "--json", "--threads", "2"];
        let ran = engine(first.iter().chain(more));
        let findings = ran.events().into_iter().filter(|e| e["event"] == "finding").collect();
        assert!(matches!(ran.code, Some(0 | 3)), "{}", ran.stderr);
        Self { code: ran.code, findings }
    }

    /// The finding of a check by its name, with its grade.
    #[track_caller]
    fn has(&self, grade: &str, check: &str, name: &str) -> &Value {
        let found = self.findings.iter().find(|f| f["check"] == check && f["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {check}: {name} in\n{}", self.text()));
        assert_eq!(found["grade"], grade, "{found}");
        assert!(grade == "ok" || !found["found"].as_str().unwrap().is_empty());
        if grade == "problem" {
            assert_eq!(self.code, Some(3));
        }
        found
    }

    fn text(&self) -> String {
        let line = |f: &Value| format!("{} {} {}: {}\n", f["grade"], f["check"], f["name"], f["found"]);
        self.findings.iter().map(line).collect()
    }

    fn names(&self, grades: &[&str]) -> Vec<&str> {
        let graded = self.findings.iter().filter(|f| grades.contains(&f["grade"].as_str().unwrap()));
        graded.map(|f| f["name"].as_str().unwrap()).collect()
    }
}

fn mvsnet(broken: &Broken, more: &[&str]) -> Said {
    let folder = TempDir::new().unwrap();
    let scene = folder.path().join("scene");
    broken.write_mvsnet(&scene);
    Said::of(&scene, more)
}

fn colmap(broken: &Broken, more: &[&str]) -> Said {
    let folder = TempDir::new().unwrap();
    let scene = folder.path().join("scene");
    broken.write_colmap(&scene);
    Said::of(&scene, more)
}

fn broken(spoil: impl Fn(&mut Broken)) -> Broken {
    let mut scene = whole();
    spoil(&mut scene);
    scene
}

fn each_camera(change: impl Fn(&Camera) -> Camera) -> Broken {
    broken(|scene| scene.cameras = scene.cameras.iter().map(&change).collect())
}

/// Fx and fy times `focal`, about the same principal point.
fn with_focal(camera: &Camera, focal: f64) -> Camera {
    let mut k = camera.k;
    k.x_axis *= focal;
    k.y_axis *= focal;
    Camera { k, ..*camera }
}

const FLIP: DMat3 = DMat3::from_cols(DVec3::X, DVec3::NEG_Y, DVec3::NEG_Z);

#[test]
fn a_whole_scene_has_no_warning() {
    for said in [mvsnet(&whole(), &[]), colmap(&whole(), &[])] {
        assert_eq!(said.code, Some(0));
        assert!(said.names(&["warning", "problem"]).is_empty(), "{}", said.text());
        let photos = said.has("ok", "photos", "photos");
        assert!(photos["numbers"]["share"].as_f64().unwrap() > 0.6, "{photos}");
        for (check, name) in
            [("intrinsics", "intrinsics"), ("pairs", "pairs"), ("range", "range"), ("memory", "memory")]
        {
            said.has("ok", check, name);
        }
    }
    // Every pair and every view has its numbers.
    let said = mvsnet(&whole(), &["--no-photos"]);
    let pairs = said.has("ok", "pairs", "pairs")["numbers"]["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 4 * VIEWS);
    let pair = &pairs[0];
    let of = |name: &Value| name.as_str().unwrap().parse::<usize>().unwrap();
    let cameras = whole().cameras;
    let baseline = cameras[of(&pair["view"])].centre().distance(cameras[of(&pair["source"])].centre());
    assert!((pair["baseline"].as_f64().unwrap() / baseline - 1.0).abs() < 1e-9, "{pair}");
    let views = said.has("ok", "resolution", "resolution")["numbers"]["views"].as_array().unwrap();
    assert_eq!(views.len(), VIEWS);
    // 192 planes over 450 to 950 mm.
    assert!((views[0]["intervals"][1].as_f64().unwrap() - 500.0 / 191.0).abs() < 1e-9, "{}", views[0]);
    let said = colmap(&whole(), &["--no-photos"]);
    let points = said.has("ok", "sparse points", "reprojection");
    // Exact projections, written with all digits.
    assert!(points["numbers"]["worst_px"].as_f64().unwrap() < 1e-6, "{points}");
    assert!(said.findings.iter().all(|f| f["check"] != "photos"));
}

#[test]
fn findings_do_not_depend_on_the_threads() {
    let folder = TempDir::new().unwrap();
    let scene = folder.path().join("scene");
    broken(|scene| scene.cameras.swap(0, 2)).write_colmap(&scene);
    let said = |threads: &str| {
        let ran = engine(["doctor", text(&scene), "--json", "--threads", threads]);
        // Memory depends on the threads, and on what else runs.
        ran.events().into_iter().filter(|e| e["check"] != "memory").collect::<Vec<_>>()
    };
    assert_eq!(said("1"), said("3"));
}

#[test]
fn wrong_scales_of_k_are_named_with_the_scale() {
    let half = each_camera(|c| c.decimated(0.5));
    let scale = |finding: &Value| finding["numbers"]["scale"].as_f64().unwrap();
    let found = mvsnet(&half, &[]);
    let intrinsics = found.has("problem", "intrinsics", "scaled-intrinsics");
    assert!((scale(intrinsics) - 0.5).abs() < 0.03, "{intrinsics}");
    let found = colmap(&half, &[]);
    found.has("problem", "intrinsics", "scaled-intrinsics");
    let points = found.has("problem", "sparse points", "scaled-intrinsics");
    assert!(points["found"].as_str().unwrap().contains("K belongs to photos 0.500 times as large"), "{points}");

    // An unusual scale is measured.
    let odd = each_camera(|c| c.decimated(1.37));
    mvsnet(&odd, &[]).has("problem", "intrinsics", "scaled-intrinsics");
    let found = colmap(&odd, &[]);
    let points = found.has("problem", "sparse points", "scaled-intrinsics");
    assert!(points["found"].as_str().unwrap().contains("1.370 times as large"), "{points}");

    // The focal length alone: no principal point gives it away.
    let long = each_camera(|c| with_focal(c, 2.0));
    mvsnet(&long, &[]).has("problem", "photos", "scaled-focal-length");
    let found = colmap(&long, &[]);
    let points = found.has("problem", "sparse points", "scaled-focal-length");
    assert!(points["found"].as_str().unwrap().contains("2.000 times"), "{points}");

    // Sizes in cameras.txt that are scaled too keep the scene from being read, and are named all the same.
    let reduced = broken(|scene| {
        scene.cameras.iter_mut().for_each(|c| *c = c.decimated(2.0));
        scene.size = (2 * SIZE.0, 2 * SIZE.1);
    });
    let found = colmap(&reduced, &[]);
    found.has("problem", "files", "unreadable");
    let sizes = found.has("problem", "sizes", "scaled-intrinsics");
    assert!(sizes["found"].as_str().unwrap().contains("2.000 times as large"), "{sizes}");
}

#[test]
fn wrong_conventions_of_poses_are_named() {
    let invert = |c: &Camera| Camera { r: c.r.transpose(), t: c.centre(), ..*c };
    let flip = |c: &Camera| Camera { r: FLIP * c.r, t: FLIP * c.t, ..*c };
    let nerf = |c: &Camera| Camera { r: c.r.transpose() * FLIP, t: c.centre(), ..*c };
    type Case<'a> = (&'a str, &'a dyn Fn(&Camera) -> Camera);
    let cases: [Case; 3] = [("inverted-poses", &invert), ("flipped-axes", &flip), ("inverted-flipped-poses", &nerf)];
    for (name, change) in cases {
        let scene = each_camera(change);
        mvsnet(&scene, &[]).has("problem", "photos", name);
        let found = colmap(&scene, &[]);
        let points = found.has("problem", "sparse points", name);
        assert!(points["numbers"]["undone_px"].as_f64().unwrap() < 1e-6, "{points}");
        found.has("problem", "photos", name);
    }
    // A mirroring is no rotation; the scene is refused, and the doctor says what it is.
    let mirrored = each_camera(|c| Camera { r: DMat3::from_diagonal(DVec3::new(-1.0, 1.0, 1.0)) * c.r, ..*c });
    mvsnet(&mirrored, &[]).has("problem", "files", "mirrored-camera");
}

#[test]
fn photos_under_other_ids_are_found() {
    let named = |finding: &Value, views: [usize; 2]| {
        let mut found: Vec<&str> = finding["views"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, views.map(|v| format!("{v:08}")), "{finding}");
    };
    let photos = broken(|scene| scene.photos.swap(1, 4));
    let said = mvsnet(&photos, &[]);
    named(said.has("problem", "photos", "swapped-views"), [1, 4]);
    // COLMAP: the points fit their poses, only the photos tell.
    let said = colmap(&photos, &[]);
    said.has("ok", "sparse points", "reprojection");
    named(said.has("problem", "photos", "swapped-views"), [1, 4]);
    // COLMAP: poses exchanged, points and photos as they were.
    let poses = broken(|scene| scene.cameras.swap(2, 3));
    let said = colmap(&poses, &[]);
    let points = said.has("problem", "sparse points", "swapped-views");
    named(points, [2, 3]);
    assert!(points["found"].as_str().unwrap().contains("00000003 has the pose of 00000002"), "{points}");
    named(said.has("problem", "photos", "swapped-views"), [2, 3]);
    // Every photo has the camera of the one before.
    let shifted = broken(|scene| scene.cameras.rotate_right(1));
    let said = mvsnet(&shifted, &[]);
    assert_eq!(said.has("problem", "photos", "shifted-ids")["numbers"]["offset"], 1);
    // A pose that belongs to nothing.
    let lost = broken(|scene| scene.cameras[2].r = DMat3::from_rotation_y(0.3) * scene.cameras[2].r);
    let said = mvsnet(&lost, &[]);
    assert_eq!(said.has("problem", "photos", "photo-without-its-camera")["views"][0], "00000002");
    let said = colmap(&lost, &[]);
    assert_eq!(said.has("problem", "sparse points", "reprojection")["views"][0], "00000002");
}

#[test]
fn k_that_does_not_suit_the_photo_is_told() {
    let turned = each_camera(|c| {
        let mut k = c.k;
        (k.x_axis.x, k.y_axis.y) = (c.k.y_axis.y, c.k.x_axis.x);
        (k.z_axis.x, k.z_axis.y) = (c.k.z_axis.y, c.k.z_axis.x);
        Camera { k, ..*c }
    });
    mvsnet(&turned, &[]).has("problem", "intrinsics", "swapped-sides");
    let sides = broken(|scene| scene.size = (SIZE.1, SIZE.0));
    let said = colmap(&sides, &[]);
    said.has("problem", "files", "unreadable");
    said.has("problem", "sizes", "swapped-sides");

    let shift = |x: f64| {
        each_camera(move |c| {
            let mut k = c.k;
            k.z_axis.x += x;
            Camera { k, ..*c }
        })
    };
    mvsnet(&shift(0.2 * SIZE.0 as f64), &["--no-photos"]).has("warning", "intrinsics", "off-centre");
    let said = colmap(&shift(10.0), &[]);
    let points = said.has("problem", "sparse points", "shifted-principal-point");
    assert!(points["advice"].as_str().unwrap().contains("subtract 10.00 from cx"), "{points}");
    let millimetres = each_camera(|c| with_focal(c, 0.05));
    mvsnet(&millimetres, &["--no-photos"]).has("warning", "intrinsics", "focal-length");
    let stretched = each_camera(|c| {
        let mut k = c.k;
        k.x_axis.x *= 1.1;
        Camera { k, ..*c }
    });
    mvsnet(&stretched, &["--no-photos"]).has("warning", "intrinsics", "not-square");
    // Keypoints in the other convention of pixel centres.
    let half = broken(|scene| {
        scene.points.iter_mut().flat_map(|p| &mut p.1).for_each(|(_, pixel)| *pixel += DVec2::splat(0.5));
    });
    let said = colmap(&half, &[]);
    let points = said.has("warning", "sparse points", "half-pixel");
    assert!((points["numbers"]["x_px"].as_f64().unwrap() + 0.5).abs() < 1e-6, "{points}");
}

#[test]
fn copies_and_missing_baselines_are_told() {
    let copied = broken(|scene| scene.cameras[3] = scene.cameras[2]);
    for said in [mvsnet(&copied, &[]), colmap(&copied, &[])] {
        let found = said.has("problem", "poses", "duplicate-camera");
        assert!(found["found"].as_str().unwrap().contains("00000002 and 00000003"), "{found}");
    }
    let turned = broken(|scene| {
        let r = DMat3::from_rotation_y(0.1) * scene.cameras[2].r;
        scene.cameras[3] = Camera { r, t: -(r * scene.cameras[2].centre()), k: scene.cameras[3].k };
    });
    mvsnet(&turned, &["--no-photos"]).has("warning", "poses", "turned-on-the-spot");
    let here = each_camera(|c| Camera { t: -(c.r * DVec3::new(0.0, 0.0, 650.0)), ..*c });
    for said in [mvsnet(&here, &["--no-photos"]), colmap(&here, &["--no-photos"])] {
        said.has("problem", "poses", "no-baseline");
        said.has("problem", "plan", "no-plan");
    }
    let twice = broken(|scene| scene.photos[5] = scene.photos[0].clone());
    mvsnet(&twice, &[]).has("problem", "photos", "identical-photos");
}

#[test]
fn sources_that_cannot_serve_are_told() {
    let whole = whole();
    let distance = |a: usize, b: usize| whole.cameras[a].centre().distance(whole.cameras[b].centre());
    let centre = whole.cameras[0].centre();
    // Positions pulled apart, still looking at the middle.
    let spread = |camera: &Camera, factor: f64| {
        let eye = centre + factor * (camera.centre() - centre);
        let forward = -eye.normalize();
        let right = forward.cross(DVec3::Z).normalize();
        let r = DMat3::from_cols(right, forward.cross(right), forward).transpose();
        Camera { r, t: -(r * eye), k: camera.k }
    };
    // The farthest first, and only two of them are taken.
    let far = broken(|scene| {
        scene.cameras.iter_mut().for_each(|c| *c = spread(c, 2.0));
        let list = |view: usize| {
            let mut others: Vec<usize> = (0..VIEWS).filter(|&o| o != view).collect();
            others.sort_by(|&a, &b| distance(view, b).total_cmp(&distance(view, a)));
            others
        };
        scene.pairs = Some((0..VIEWS).map(list).collect());
    });
    mvsnet(&far, &["--views", "3", "--no-photos"]).has("warning", "pairs", "far-sources");
    // A view that looks the other way sees nothing of what the others do.
    let away = broken(|scene| {
        let camera = scene.cameras[5];
        let r = DMat3::from_rotation_y(std::f64::consts::PI) * camera.r;
        scene.cameras[5] = Camera { r, t: -(r * camera.centre()), k: camera.k };
    });
    let said = mvsnet(&away, &["--no-photos", "--views", "6"]);
    said.has("warning", "pairs", "blind-source");
    assert_eq!(said.has("problem", "pairs", "no-overlap")["views"][0], "00000005");
    // All cameras within half a millimetre of each other, 650 mm away.
    let near = each_camera(|c| Camera { t: -(c.r * (centre + 0.001 * (c.centre() - centre))), ..*c });
    mvsnet(&near, &["--no-photos"]).has("warning", "pairs", "small-angle");
    let wide = each_camera(|c| spread(c, 5.0));
    mvsnet(&wide, &["--no-photos"]).has("warning", "pairs", "large-angle");
}

#[test]
fn ranges_that_miss_or_waste_are_told() {
    // The unit is wrong: centimetres for cameras in millimetres.
    let units = broken(|scene| scene.depth_line = "45 0.26 192 95".into());
    let found = mvsnet(&units, &[]);
    let range = found.has("problem", "range", "range-misses-points");
    assert!(range["advice"].as_str().unwrap().contains("--range "), "{range}");
    // Half of the scene is cut off, in COLMAP's layout with an option.
    let known = colmap(&whole(), &["--no-photos", "--range", "45,95"]);
    known.has("problem", "range", "range-misses-points");
    let wide = broken(|scene| scene.depth_line = "10 50 192 9560".into());
    mvsnet(&wide, &[]).has("warning", "range", "range-too-wide");
    // Near and interval that look like near and far: the other reading fits, and is named.
    let two = broken(|scene| scene.depth_line = "1 5".into());
    let found = mvsnet(&two, &[]);
    found.has("note", "cam.txt", "depth-numbers");
    let range = found.has("problem", "range", "range-misses-points");
    assert!(range["advice"].as_str().unwrap().contains("--depth-numbers interval"), "{range}");
    // No range at all.
    let none = broken(|scene| scene.depth_line = String::new());
    mvsnet(&none, &["--no-photos"]).has("problem", "plan", "no-plan");
    mvsnet(&whole(), &["--planes", "8"]).has("warning", "resolution", "too-few-planes");
    mvsnet(&whole(), &["--planes", "8000", "--no-photos"]).has("note", "resolution", "planes-too-close");
    let found = mvsnet(&whole(), &["--memory", "0.15", "--no-photos"]);
    let memory = found.has("problem", "memory", "too-large");
    assert!(memory["found"].as_str().unwrap().contains("--max-side"), "{memory}");
}

#[test]
fn plain_photos_say_nothing_and_that_is_said() {
    let plain = broken(|scene| {
        for (i, photo) in scene.photos.iter_mut().enumerate() {
            let grey = image::RgbImage::from_pixel(SIZE.0 as u32, SIZE.1 as u32, image::Rgb([120 + i as u8; 3]));
            let mut png = std::io::Cursor::new(Vec::new());
            grey.write_to(&mut png, image::ImageFormat::Png).unwrap();
            *photo = png.into_inner();
        }
        // Also with poses that are wrong: what cannot be seen is not claimed.
        scene.cameras.iter_mut().for_each(|c| *c = Camera { r: c.r.transpose(), t: c.centre(), k: c.k });
    });
    let said = mvsnet(&plain, &[]);
    said.has("note", "photos", "too-little-texture");
    assert!(!said.names(&["problem"]).contains(&"inverted-poses"));
}

/// A run of the main job on a scene, small enough for a test; what the doctor says afterwards.
fn after_run(scene: &Path, more: &[&str], doctor: &[&str]) -> Said {
    let first = ["infer", text(scene), "--levels", "1", "--views", "4", "--resolution", "half", "--quiet"];
    let ran = engine(first.iter().chain(more));
    assert!(matches!(ran.code, Some(0 | 6)), "{}", ran.stderr);
    // Without --run the default folder is found.
    Said::of(scene, doctor)
}

/// A scene of this name in the folder.
fn written(folder: &TempDir, name: &str, broken: &Broken) -> PathBuf {
    let scene = folder.path().join(name);
    broken.write_mvsnet(&scene);
    scene
}

const PLANES: [&str; 2] = ["--planes", "64"];

#[test]
fn after_a_run_the_funnel_is_told() {
    let folder = TempDir::new().unwrap();
    let said = after_run(&written(&folder, "good", &whole()), &PLANES, &PLANES);
    assert_eq!(said.names(&["ok"]).iter().filter(|&&n| n == "funnel").count(), VIEWS);
    assert!(said.names(&["warning", "problem"]).is_empty(), "{}", said.text());
    let said = after_run(&written(&folder, "maps", &whole()), &["--planes", "16", "--depth-only"], &["--no-photos"]);
    said.has("note", "run", "not-fused");
}

#[test]
fn options_that_cost_pixels_are_named() {
    let folder = TempDir::new().unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["--planes", "64", "--range", "700,950"], "run-range"),
        (&["--planes", "4"], "run-too-few-planes"),
        // Maps that have heard each other agree to a ten-thousandth.
        (&["--planes", "64", "--max-depth-error-rel", "0.0005", "--unrefined"], "run-strict-tolerance"),
        (&["--planes", "64", "--min-views", "5", "--max-reprojection-px", "0.1", "--unrefined"], "run-too-few-agree"),
        (&["--planes", "64", "--view", "00000000", "--view", "00000001"], "run-no-source"),
    ];
    for (options, name) in cases {
        let broken = broken(|scene| {
            if name == "run-no-source" {
                scene.pairs = Some((0..VIEWS).map(|v| vec![(v + 2) % VIEWS]).collect());
            }
        });
        let doctor = &["--no-photos"].as_slice()[usize::from(name == "run-range")..];
        let said = after_run(&written(&folder, name, &broken), options, doctor);
        assert!(said.names(&["warning", "problem"]).contains(&name), "{name}\n{}", said.text());
    }
}

#[test]
fn scenes_that_cost_pixels_are_told_after_a_run() {
    let folder = TempDir::new().unwrap();
    // What no photo shows.
    let said = after_run(&written(&folder, "plain", &plain()), &PLANES, &["--no-photos"]);
    assert!(said.names(&["warning", "problem"]).contains(&"run-low-texture"), "{}", said.text());

    // One photo under a wrong pose: its own map is poor, and why is known from the photos.
    let lost = broken(|scene| scene.cameras[2].r = DMat3::from_rotation_y(0.3) * scene.cameras[2].r);
    let scene = written(&folder, "lost", &lost);
    let said = after_run(&scene, &PLANES, &[]);
    let found = said.findings.iter().find(|f| f["check"] == "run" && f["views"][0] == "00000002").unwrap();
    assert_eq!(found["name"], "run-poses", "{found}");

    // The cameras are corrected, but the results are still the old ones.
    whole().write_mvsnet(&scene);
    let found = Said::of(&scene, &["--no-photos"]);
    assert_eq!(found.has("warning", "run", "run-of-other-cameras")["views"][0], "00000002");
}

#[test]
fn bad_input_is_told_in_one_line() {
    let folder = TempDir::new().unwrap();
    let scene = folder.path().join("scene");
    whole().write_mvsnet(&scene);
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let ran = engine(["doctor", text(&scene), "--no-photos", "--run", text(&empty)]);
    assert_eq!(
        ran.failed(3),
        format!(
            "{}: no manifest.json; expected the folder of a run's results, such as `engine infer` writes",
            empty.display()
        )
    );
    let ran = engine(["doctor", text(&empty)]);
    let line = ran.failed(3);
    assert!(line.ends_with("1 problem; expected a scene without any; each is told above with what to do"), "{line}");
    assert!(ran.stdout.contains("problem  files: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("an empty folder; expected images/ with cams/"), "{}", ran.stdout);
    // A photo that breaks off halfway ends the check of the photos, with its name.
    let photo = scene.join("images/00000003.png");
    let bytes = std::fs::read(&photo).unwrap();
    std::fs::write(&photo, &bytes[..bytes.len() / 2]).unwrap();
    let ran = engine(["doctor", text(&scene)]);
    assert!(ran.failed(3).contains("00000003.png"), "{}", ran.stderr);
}
