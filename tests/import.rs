//! Scenes as they are read: the same scene in every layout, what is assumed where a layout leaves something open, and
//! which source views and depths follow.

use std::fs;
use std::path::Path;

use engine::scene::camera::{Camera, DepthRange};
use engine::scene::photo::Photo;
use engine::scene::{DepthNumbers, Layout, OpenOptions, Scene, Sweep};
use glam::{DMat3, DVec3};
use tempfile::TempDir;

#[path = "support/scene_files.rs"]
mod scene_files;
use scene_files::{TestScene, TestView};

fn open(root: &Path) -> Scene {
    Scene::open(root, &OpenOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn largest(differences: impl IntoIterator<Item = f64>) -> f64 {
    differences.into_iter().fold(0.0, |max, d| max.max(d.abs()))
}

fn camera_difference(camera: &Camera, truth: &TestView) -> f64 {
    largest(
        (camera.k - truth.k)
            .to_cols_array()
            .into_iter()
            .chain((camera.r - truth.r).to_cols_array())
            .chain((camera.t - truth.t).to_array()),
    )
}

fn has_note(scene: &Scene, part: &str) -> bool {
    scene.notes.iter().any(|note| note.contains(part))
}

#[test]
fn every_layout_gives_the_same_cameras_and_points() {
    let truth = TestScene::new();
    type Write = fn(&TestScene, &Path);
    let write: [(&str, Write); 8] = [
        ("MVSNet", |s, root| s.write_mvsnet(root, "2 6")),
        ("sparse/, text", |s, root| s.write_colmap_text(root, "sparse")),
        ("sparse/0, text", |s, root| s.write_colmap_text(root, "sparse/0")),
        ("sparse/, binary", |s, root| s.write_colmap_binary(root, "sparse")),
        ("sparse/0, binary", |s, root| s.write_colmap_binary(root, "sparse/0")),
        ("rig, binary", |s, root| {
            s.write_colmap_binary(root, "sparse/0");
            s.write_rig(&root.join("sparse/0"), true);
        }),
        ("rig, text", |s, root| {
            s.write_colmap_text(root, "sparse/0");
            s.write_rig(&root.join("sparse/0"), false);
        }),
        ("dense/sparse", |s, root| {
            s.write_colmap_binary(root, "dense/sparse");
            fs::rename(root.join("images"), root.join("dense/images")).unwrap();
        }),
    ];
    for (name, write) in write {
        let folder = TempDir::new().unwrap();
        write(&truth, folder.path());
        let scene = open(folder.path());
        assert_eq!(scene.layout, if name == "MVSNet" { Layout::MvsNet } else { Layout::Colmap }, "{name}");
        assert_eq!(scene.views.len(), 4, "{name}");
        for (view, truth) in scene.views.iter().zip(&truth.views) {
            assert_eq!((view.id, view.size), (truth.id, (64, 48)), "{name}");
            assert_eq!(view.name, format!("{:08}", truth.id), "{name}");
            assert!(view.lens.is_none(), "{name}");
            let difference = camera_difference(&view.camera, truth);
            assert!(difference < 1e-9, "{name}: view {} differs by {difference}", view.id);
        }
        if name != "MVSNet" {
            assert_eq!(scene.points.len(), truth.points.len(), "{name}");
            assert_eq!((scene.points[0].views.clone(), scene.points[1].views.clone()), (vec![0, 1], vec![0, 1, 2, 3]));
            let difference =
                largest(scene.points.iter().zip(&truth.points).flat_map(|(p, t)| (p.position - t.0).to_array()));
            assert!(difference < 1e-12, "{name}: points differ by {difference}");
            assert_eq!(scene.points[5].error, 0.25);
        }
    }
}

/// The example scene's three forms were written by another program (`tools/make_example_scene.py`).
#[test]
fn the_example_scene_is_the_same_in_mvsnet_and_colmap_form() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let example = root.join("examples/scene");
    let mut mvsnet = open(&example);
    assert_eq!((mvsnet.layout, mvsnet.views.len()), (Layout::MvsNet, 7));
    for form in ["text", "binary"] {
        let folder = TempDir::new().unwrap();
        for (from, to) in [
            (example.join("images"), "images".to_owned()),
            (root.join("tests/data/example_colmap").join(form), "sparse/0".to_owned()),
        ] {
            let to = folder.path().join(to);
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        let mut colmap = open(folder.path());
        assert_eq!((colmap.layout, colmap.views.len()), (Layout::Colmap, 7), "{form}");
        colmap.views.sort_by(|a, b| a.name.cmp(&b.name));
        for (a, b) in mvsnet.views.iter_mut().zip(&colmap.views) {
            assert_eq!((&a.name, a.size), (&b.name, b.size), "{form}");
            let [k, r] = [a.camera.k - b.camera.k, a.camera.r - b.camera.r].map(|m| largest(m.to_cols_array()));
            let t = largest((a.camera.t - b.camera.t).to_array());
            assert!(k < 1e-9 && r < 1e-9 && t < 1e-9, "{form}: {} differs by {k} {r} {t}", a.name);
            // Photos are loaded alike.
            assert_eq!(Photo::load(a, Some(128)).unwrap().photo, Photo::load(b, Some(128)).unwrap().photo);
        }
    }
}

/// Version 4 keeps poses with the frames; those of the images may be stale, as after an edit of the rig.
#[test]
fn poses_come_from_the_frames_where_there_are_frames() {
    for binary in [true, false] {
        let truth = TestScene::new();
        let folder = TempDir::new().unwrap();
        let mut stale = truth.clone();
        stale.views.iter_mut().for_each(|v| v.t += DVec3::ONE);
        match binary {
            true => stale.write_colmap_binary(folder.path(), "sparse/0"),
            false => stale.write_colmap_text(folder.path(), "sparse/0"),
        }
        truth.write_rig(&folder.path().join("sparse/0"), binary);
        for (view, truth) in open(folder.path()).views.iter().zip(&truth.views) {
            assert!(camera_difference(&view.camera, truth) < 1e-9, "binary {binary}, view {}", view.id);
        }
    }
}

#[test]
fn depth_numbers_are_read_in_every_variant() {
    let range = |near, far| Some(DepthRange { near, far });
    let sweep = |near, interval| Some(Sweep { near, interval });
    let auto = DepthNumbers::Auto;
    let cases = [
        ("", auto, None, None, None, "no depth numbers"),
        ("0 0", auto, None, None, None, "no depth numbers"),
        ("425 2.5", auto, None, sweep(425.0, 2.5), None, "assumed to be near and interval"),
        ("425 935", auto, range(425.0, 935.0), None, None, "assumed to be near and far"),
        ("2 2", auto, None, sweep(2.0, 2.0), None, "assumed to be near and interval"),
        ("0.5 2", DepthNumbers::Interval, None, sweep(0.5, 2.0), None, "read as near and interval as asked for"),
        ("0.5 2", DepthNumbers::Max, range(0.5, 2.0), None, None, "read as near and far as asked for"),
        ("425 2.5 192", auto, range(425.0, 902.5), None, Some(192), "three depth numbers"),
        ("425 2.5 192 935", auto, range(425.0, 935.0), None, Some(192), "four depth numbers"),
        ("0.5 0.01 918.157 9.68", auto, range(0.5, 9.68), None, Some(918), "four depth numbers"),
        ("\n\n 425\n\n935", auto, range(425.0, 935.0), None, None, "assumed to be near and far"),
    ];
    for (line, depth_numbers, range, sweep, planes, note) in cases {
        let folder = TempDir::new().unwrap();
        TestScene::new().write_mvsnet(folder.path(), line);
        let options = OpenOptions { depth_numbers, ..Default::default() };
        let scene = Scene::open(folder.path(), &options).unwrap_or_else(|e| panic!("{e}"));
        let view = &scene.views[2];
        assert_eq!((view.range, view.sweep, view.planes), (range, sweep, planes), "`{line}`");
        assert!(has_note(&scene, note) && has_note(&scene, "4 of 4 cam.txt"), "`{line}`: {:?}", scene.notes);
    }
    // The interval of DTU with 192 planes: 425 + 191 * 2.5.
    let folder = TempDir::new().unwrap();
    TestScene::new().write_mvsnet(folder.path(), "425 2.5");
    let view = open(folder.path()).views.remove(0);
    assert_eq!(view.depth_range(192), Some(DepthRange { near: 425.0, far: 902.5 }));
}

#[test]
fn cam_txt_is_read_by_words_and_rounded_rotations_become_exact() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    truth.write_mvsnet(folder.path(), "2 6");
    let v = &truth.views[0];
    let mut text = String::from("Extrinsic\r\n\r\n");
    for (row, t) in v.r.transpose().to_cols_array_2d().into_iter().zip(v.t.to_array()) {
        text += &format!("{:.5}\n{:.5}   {:.5}\t{t}\n\n", row[0], row[1], row[2]);
    }
    text +=
        &format!("0 0 0 1 intrinsic {} 0 {} 0 {} {} 0 0 1 2 6", v.k.x_axis.x, v.k.z_axis.x, v.k.y_axis.y, v.k.z_axis.y);
    fs::write(folder.path().join("cams/00000003_cam.txt"), text).unwrap();
    let camera = open(folder.path()).views[0].camera;
    // Five printed digits are off by up to 5e-6 each.
    assert!(camera_difference(&camera, v) < 1e-5);
    let unit = (camera.r * camera.r.transpose() - DMat3::IDENTITY).to_cols_array();
    assert!(largest(unit) < 1e-14, "{unit:?}");
}

#[test]
fn photos_are_matched_to_cameras_by_number_or_by_order() {
    let write = |rename: &[(&str, &str)]| {
        let folder = TempDir::new().unwrap();
        TestScene::new().write_mvsnet(folder.path(), "2 6");
        for (from, to) in rename {
            fs::rename(folder.path().join("images").join(from), folder.path().join("images").join(to)).unwrap();
        }
        folder
    };
    let names = |folder: &TempDir| -> Vec<(u32, String)> {
        open(folder.path()).views.into_iter().map(|v| (v.id, v.name)).collect()
    };
    let with = |names: [&str; 4]| [3, 7, 8, 20].into_iter().zip(names.map(String::from)).collect::<Vec<_>>();

    let padding = write(&[("00000003.png", "3.png"), ("00000020.png", "020.PNG")]);
    assert_eq!(names(&padding), with(["3", "00000007", "00000008", "020"]));

    let order = write(&[
        ("00000003.png", "b.png"),
        ("00000007.png", "a.png"),
        ("00000008.png", "d.png"),
        ("00000020.png", "c.png"),
    ]);
    assert_eq!(names(&order), with(["a", "b", "c", "d"]));
    assert!(has_note(
        &open(order.path()),
        "paired in sorted order (a.png with 00000003_cam.txt, and so on to d.png with 00000020_cam.txt)"
    ));

    let gaps = write(&[("00000020.png", "21.png")]);
    fs::write(gaps.path().join("images/._00000003.png"), "left by a Mac").unwrap();
    let scene = open(gaps.path());
    assert_eq!(scene.views.len(), 3);
    assert!(has_note(&scene, "1 photo without a camera left out (first: 21.png)"), "{:?}", scene.notes);
    assert!(has_note(&scene, "1 camera without a photo left out (first: view 20)"));
    assert!(has_note(&scene, "pair.txt: source views without a photo were ignored: 3"));
}

#[test]
fn pair_txt_ranks_the_sources_and_its_absence_is_made_up_for() {
    let folder = TempDir::new().unwrap();
    TestScene::new().write_mvsnet(folder.path(), "2 6");
    fs::rename(folder.path().join("cams"), folder.path().join("cams_1")).unwrap();
    let mut scene = open(folder.path());
    let sources = |scene: &Scene, view: usize| scene.views[view].sources.iter().map(|s| s.view).collect::<Vec<_>>();
    assert_eq!(sources(&scene, 1), [0, 2, 3]);
    assert_eq!(scene.views[1].sources[0].score, 97.0);
    let notes = scene.notes.clone();
    scene.select_sources();
    assert_eq!((sources(&scene, 1), &scene.notes), (vec![0, 2, 3], &notes), "nothing is missing, nothing changes");

    let list = folder.path().join("pair.txt");
    fs::write(&list, format!("\u{feff}{}", fs::read_to_string(&list).unwrap())).unwrap();
    assert_eq!(sources(&open(folder.path()), 1), [0, 2, 3], "a byte order mark is no word");

    fs::remove_file(folder.path().join("pair.txt")).unwrap();
    let mut scene = open(folder.path());
    assert!(has_note(&scene, "there is no pair.txt") && scene.views.iter().all(|v| v.sources.is_empty()));
    scene.select_sources();
    assert!(has_note(&scene, "source views of 4 of 4 views were selected by the cameras' geometry"));
    // From view 3 the others stand at some 6, 7 and 24 degrees: 5 is best.
    assert_eq!(sources(&scene, 0), [1, 2, 3]);
}

#[test]
fn a_view_that_looks_elsewhere_gets_no_source() {
    let mut truth = TestScene::new();
    let away = truth.views.last_mut().unwrap();
    away.r = DMat3::from_rotation_y(std::f64::consts::PI) * away.r;
    truth.points.iter_mut().for_each(|p| p.1.retain(|&id| id != 20));
    for colmap in [true, false] {
        let folder = TempDir::new().unwrap();
        match colmap {
            true => truth.write_colmap_binary(folder.path(), "sparse/0"),
            false => truth.write_mvsnet(folder.path(), "2 6"),
        }
        let _ = fs::remove_file(folder.path().join("pair.txt"));
        let mut scene = open(folder.path());
        scene.select_sources();
        assert!(scene.views[3].sources.is_empty());
        assert!(scene.views[..3].iter().all(|v| v.sources.len() == 2), "colmap {colmap}");
        let why = if colmap { "shares a sparse point with it" } else { "looks at the same place" };
        assert!(has_note(&scene, &format!("view 00000020: no source view, no other view {why}")), "{:?}", scene.notes);
    }
}

#[test]
fn views_from_one_place_are_no_sources_of_each_other() {
    let mut truth = TestScene::new();
    // Views 0 and 3 stand at the same place and look different ways.
    let centre = -(truth.views[0].r.transpose() * truth.views[0].t);
    truth.views[3].t = -(truth.views[3].r * centre);
    let folder = TempDir::new().unwrap();
    truth.write_mvsnet(folder.path(), "2 6");
    let mut scene = open(folder.path());
    let of = |scene: &Scene, v: usize| scene.views[v].sources.iter().map(|s| s.view).collect::<Vec<_>>();
    assert!(of(&scene, 0).contains(&3) && of(&scene, 3).contains(&0));
    scene.select_sources();
    assert!(!of(&scene, 0).contains(&3) && !of(&scene, 3).contains(&0) && of(&scene, 1).contains(&3));
    assert!(!scene.is_without_baseline());
    assert!(
        has_note(
            &scene,
            "2 source views at the very place of the view itself left out, since there is no depth without a baseline \
             (first: of view 00000003)"
        ),
        "{:?}",
        scene.notes
    );
}

/// Against the formula of the protocol page, section E.1, in plain loops with `atan2` for the angle.
#[test]
fn sources_are_scored_by_shared_points_and_angle() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    truth.write_colmap_binary(folder.path(), "sparse");
    let mut scene = open(folder.path());
    scene.select_sources();
    for (i, view) in scene.views.iter().enumerate() {
        assert_eq!(view.sources.len(), 3);
        assert!(view.sources.is_sorted_by(|a, b| a.score >= b.score));
        for source in &view.sources {
            let centre = |v: usize| -(truth.views[v].r.transpose() * truth.views[v].t);
            let ids = [truth.views[i].id, truth.views[source.view].id];
            let mut score = 0.0;
            for (p, seen) in truth.points.iter().filter(|p| ids.iter().all(|id| p.1.contains(id))) {
                assert!(seen.len() >= 2);
                let (a, b) = (centre(i) - *p, centre(source.view) - *p);
                let angle = a.cross(b).length().atan2(a.dot(b)).to_degrees();
                let sigma: f64 = if angle <= 5.0 { 1.0 } else { 10.0 };
                score += (-(angle - 5.0) * (angle - 5.0) / (2.0 * sigma * sigma)).exp();
            }
            // acos loses half of the digits near 0; the angles here are degrees.
            assert!((score - source.score).abs() < 1e-9 * score, "{i} {}: {score} {}", source.view, source.score);
        }
    }
}

#[test]
fn depths_of_own_points_give_the_range() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    truth.write_colmap_text(folder.path(), "sparse/0");
    let scene = open(folder.path());
    for (i, view) in truth.views.iter().enumerate() {
        let own = truth.points.iter().filter(|p| p.1.contains(&view.id));
        let mut depths: Vec<f64> = own.map(|p| (view.r * p.0 + view.t).z).collect();
        depths.sort_by(f64::total_cmp);
        // Of 200 points the elements 2 and 198, of 150 the elements 1 and 148.
        let (near, far) = if depths.len() == 200 { (depths[2], depths[198]) } else { (depths[1], depths[148]) };
        let range = scene.tracks().point_depth_range(i, 0.1).unwrap();
        assert!((range.near - 0.9 * near).abs() < 1e-12 && (range.far - 1.1 * far).abs() < 1e-12);
    }
    assert_eq!(scene.tracks().point_depth_range(4, 0.1), None, "no such view");
}

#[test]
fn the_largest_of_several_models_is_taken() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    let mut small = truth.clone();
    small.views.truncate(2);
    small.points.clear();
    small.write_colmap_binary(folder.path(), "sparse/0");
    truth.write_colmap_text(folder.path(), "sparse/10");
    small.write_colmap_text(folder.path(), "sparse/2");
    let scene = open(folder.path());
    assert_eq!(scene.views.len(), 4);
    let expected =
        "several models: sparse/0 has 2 images, sparse/2 has 2 images, sparse/10 has 4 images; the largest is used";
    assert!(has_note(&scene, expected), "{:?}", scene.notes);
}

#[test]
fn missing_and_unregistered_photos_are_left_out_and_counted() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    truth.write_colmap_binary(folder.path(), "sparse/0");
    let images = folder.path().join("images");
    fs::copy(images.join("00000003.png"), images.join("other.png")).unwrap();
    fs::rename(images.join("00000008.png"), images.join("another.png")).unwrap();
    let scene = open(folder.path());
    assert_eq!(scene.views.iter().map(|v| v.id).collect::<Vec<_>>(), [3, 7, 20]);
    assert!(has_note(
        &scene,
        "1 of 4 registered images have no photo in images and were left out (first: 00000008.png)"
    ));
    assert!(has_note(&scene, "2 photos in images that the model has not registered left out"));
    // Tracks are in terms of the views that are left.
    assert_eq!(scene.points[1].views, [0, 1, 2]);
}

#[test]
fn names_stay_unique_across_folders() {
    let folder = TempDir::new().unwrap();
    let mut truth = TestScene::new();
    for (view, file) in truth.views.iter_mut().zip(["left/a 1.png", "right/A 1.png", "right/b.png", "b.tif"]) {
        view.file = file.into();
    }
    truth.write_colmap_text(folder.path(), "sparse/0");
    let names: Vec<String> = open(folder.path()).views.into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["left_a 1", "right_A 1", "right_b", "b"]);
    truth.views[2].file = "b.png".into();
    let folder = TempDir::new().unwrap();
    truth.write_colmap_binary(folder.path(), "sparse/0");
    let names: Vec<String> = open(folder.path()).views.into_iter().map(|v| v.name).collect();
    assert_eq!(names, ["left_a 1", "right_A 1", "b_png", "b_tif"]);
}

#[test]
fn a_folder_with_both_layouts_is_read_as_mvsnet_unless_asked_otherwise() {
    let folder = TempDir::new().unwrap();
    let truth = TestScene::new();
    truth.write_mvsnet(folder.path(), "2 6");
    truth.write_colmap_binary(folder.path(), "sparse/0");
    let scene = open(folder.path());
    assert_eq!(scene.layout, Layout::MvsNet);
    assert!(scene.notes[0].contains("the MVSNet layout is used"));
    let options = OpenOptions { layout: Some(Layout::Colmap), ..Default::default() };
    assert_eq!(Scene::open(folder.path(), &options).unwrap().layout, Layout::Colmap);
}

/// Photos of different sizes and photos of a single pixel are fine.
#[test]
fn sizes_may_differ_and_may_be_one_pixel() {
    let folder = TempDir::new().unwrap();
    TestScene::new().write_mvsnet(folder.path(), "2 6");
    image::GrayImage::from_pixel(1, 1, image::Luma([51])).save(folder.path().join("images/00000003.png")).unwrap();
    image::RgbImage::from_pixel(90, 50, image::Rgb([0, 51, 255]))
        .save(folder.path().join("images/00000007.png"))
        .unwrap();
    let scene = open(folder.path());
    assert_eq!(scene.views.iter().map(|v| v.size).collect::<Vec<_>>(), [(1, 1), (90, 50), (64, 48), (64, 48)]);
    assert!(has_note(&scene, "the principal point lies outside of the photo for 1 of 4 views (first: 00000003)"));
    let pixel = Photo::load(&scene.views[0], Some(800)).unwrap().photo;
    assert_eq!((pixel.width, pixel.height, pixel.rgb.clone()), (1, 1, vec![0.2; 3]));
    assert_eq!(pixel.pyramid_level(), pixel);
    assert_eq!(pixel.padded_to_multiple_of_4().rgb, vec![0.2; 48]);
}
