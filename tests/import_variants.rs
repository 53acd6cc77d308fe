//! Scenes as other programs write them, with what had to be assumed as a note.

use std::fs;
use std::path::Path;
use std::time::Instant;

use engine::scene::{OpenOptions, Scene};
use glam::DVec3;
use tempfile::TempDir;

#[path = "support/scene_files.rs"]
mod scene_files;
use scene_files::{Bytes, TestScene, TestView};

fn open(root: &Path) -> Scene {
    Scene::open(root, &OpenOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn as_text(scene: &TestScene) -> TempDir {
    let folder = TempDir::new().unwrap();
    scene.write_colmap_text(folder.path(), "sparse/0");
    folder
}

fn has_note(scene: &Scene, part: &str) -> bool {
    scene.notes.iter().any(|note| note.contains(part))
}

/// Replaces the text of a file of the model.
fn rewrite(root: &Path, file: &str, change: impl FnOnce(String) -> String) {
    let path = root.join("sparse/0").join(file);
    fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
}

fn ids(scene: &Scene) -> Vec<u32> {
    scene.views.iter().map(|v| v.id).collect()
}

#[test]
fn images_without_lines_of_keypoints_are_all_read() {
    let mut views = TestScene::new();
    // Names that make as many words as triples of keypoints have, and one that is a number.
    views.views[1].file = "a b c.png".into();
    views.views[2].file = "2024.png".into();
    let whole = open(as_text(&views).path());
    for (kept, comments) in [(&[][..], ""), (&[3u32, 8][..], ""), (&[][..], "# between\n"), (&[20][..], "\n")] {
        let folder = as_text(&views);
        rewrite(folder.path(), "images.txt", |text| {
            let lines: Vec<&str> = text.lines().collect();
            let mut left = format!("{}\n", lines[0]);
            for pair in lines[1..].chunks(2) {
                let id: u32 = pair[0].split(' ').next().unwrap().parse().unwrap();
                let keypoints = if kept.contains(&id) { format!("{}\n", pair[1]) } else { String::new() };
                left += &format!("{}\n{keypoints}{comments}", pair[0]);
            }
            left
        });
        let scene = open(folder.path());
        assert_eq!(ids(&scene), ids(&whole), "{kept:?} {comments:?}");
        assert_eq!(scene.points.len(), whole.points.len());
        for (view, of_whole) in scene.views.iter().zip(&whole.views) {
            assert!(view.name == of_whole.name && view.camera == of_whole.camera, "{}", view.name);
        }
        // A blank line is an empty line of keypoints.
        let told = has_note(&scene, "images.txt has no line of keypoints for ");
        assert_eq!(told, comments != "\n", "{:?}", scene.notes);
        // The doctor's reader, which looks at the keypoints, agrees.
        let observations = engine::scene::colmap::scene::observations(&scene, &OpenOptions::default()).unwrap();
        assert_eq!(observations.len(), 4);
    }
    assert!(!has_note(&whole, "keypoints"));
}

#[test]
fn keypoints_may_name_points_up_to_the_largest_number() {
    let folder = as_text(&TestScene::new());
    let large = u64::MAX - 1;
    rewrite(folder.path(), "points3D.txt", |text| text.replacen("\n1 ", &format!("\n{large} "), 1));
    rewrite(folder.path(), "images.txt", |text| {
        text.replacen("1.5 2.5 -1 3.5 4.5 0", &format!("1.5 2.5 {large} 3.5 4.5 {}", u64::MAX), 1)
    });
    let observations =
        engine::scene::colmap::scene::observations(&open(folder.path()), &OpenOptions::default()).unwrap();
    assert_eq!(observations[0].len(), 1, "the largest of all stands for no point");
    rewrite(folder.path(), "images.txt", |text| text.replacen(&large.to_string(), "1.5", 1));
    let error = engine::scene::colmap::scene::observations(&open(folder.path()), &OpenOptions::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("images.txt: line 3: `1.5` as point number"), "{error}");
}

#[test]
fn colours_are_not_used_and_may_be_any_numbers() {
    let whole = open(as_text(&TestScene::new()).path());
    for colour in ["183.0 0.5 12.25", "-1 300 1e3"] {
        let folder = as_text(&TestScene::new());
        rewrite(folder.path(), "points3D.txt", |text| text.replace(" 10 20 30 ", &format!(" {colour} ")));
        let scene = open(folder.path());
        assert_eq!(scene.points.len(), whole.points.len());
        assert!(scene.points.iter().zip(&whole.points).all(|(a, b)| a.position == b.position && a.views == b.views));
    }
}

#[test]
fn photos_whose_names_differ_in_case_only_are_taken_if_they_are_the_only_ones() {
    let rename = |changes: &[(&str, &str)]| {
        let mut views = TestScene::new();
        views.views[3].file = "sub/Last.png".into();
        let folder = as_text(&views);
        for (from, to) in changes {
            let [from, to] = [from, to].map(|name| folder.path().join("images").join(name));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(from, to).unwrap();
        }
        folder
    };
    let folder = rename(&[("00000003.png", "00000003.PNG"), ("sub/Last.png", "Sub/last.png")]);
    let scene = open(folder.path());
    assert_eq!(ids(&scene), [3, 7, 8, 20]);
    let note = "2 photos found under names that differ from the model's in upper and lower case only (first: \
                00000003.png is 00000003.PNG)";
    assert!(has_note(&scene, note), "{:?}", scene.notes);
    assert!(scene.views[3].image.ends_with("Sub/last.png") && scene.views[3].name == "Last");

    // Two that could be meant: neither is.
    let folder = rename(&[("00000003.png", "00000003.PNG")]);
    let images = folder.path().join("images");
    fs::copy(images.join("00000003.PNG"), images.join("00000003.Png")).unwrap();
    let scene = open(folder.path());
    assert_eq!(ids(&scene), [7, 8, 20]);
    assert!(has_note(
        &scene,
        "1 of 4 registered images have no photo in images and were left out (first: 00000003.png)"
    ));

    // The file of another image is not lent out, nor one file given to two images.
    let folder = rename(&[]);
    rewrite(folder.path(), "images.txt", |text| text.replace("00000008.png", "00000003.PNG"));
    assert_eq!(ids(&open(folder.path())), [3, 7, 20]);
    rewrite(folder.path(), "images.txt", |text| text.replace("00000003.png", "00000003.pNG"));
    fs::rename(folder.path().join("images/00000003.png"), folder.path().join("images/00000003.pnG")).unwrap();
    assert_eq!(ids(&open(folder.path())), [7, 20]);
}

#[test]
fn photos_without_numbers_for_names_are_paired_as_people_sort_them() {
    let write = |ids: std::ops::Range<u32>, name: &dyn Fn(u32) -> String| {
        let mut scene = TestScene::new();
        let view = scene.views[0].clone();
        scene.views = ids.map(|id| TestView { id, file: name(id), ..view.clone() }).collect();
        let folder = TempDir::new().unwrap();
        scene.write_mvsnet(folder.path(), "2 6");
        folder
    };
    let names = |folder: &TempDir| open(folder.path()).views.into_iter().map(|v| v.name).collect::<Vec<_>>();
    let expected = |name: &dyn Fn(u32) -> String| (0..12).map(|id| name(id).replace(".png", "")).collect::<Vec<_>>();
    for name in [
        &(|id: u32| format!("IMG_{}.png", id + 1)) as &dyn Fn(u32) -> String,
        &|id| format!("IMG_{id}.png"),
        &|id| format!("day2_{id}a.png"),
        // Sorted in any way these would be in another order: the number decides.
        &|id| format!("{}_{id}.png", ["b", "a"][id as usize % 2]),
    ] {
        let folder = write(0..12, name);
        assert_eq!(names(&folder), expected(name));
    }
    let scene = open(write(0..12, &|id| format!("IMG_{}.png", id + 1)).path());
    let note =
        "paired in sorted order (IMG_1.png with 00000000_cam.txt, and so on to IMG_12.png with 00000011_cam.txt)";
    assert!(has_note(&scene, note), "{:?}", scene.notes);
    let scene = open(write(3..8, &|id| format!("x{id:03}.png")).path());
    assert!(has_note(&scene, "paired by the last number in the photo's name (x003.png with 00000003_cam.txt"));
}

#[test]
fn a_camera_far_away_does_not_make_one_place_of_the_others() {
    let six = || {
        let mut scene = TestScene::new();
        let view = scene.views[0].clone();
        scene.views = (0..7).map(|id| TestView { id, camera: id, file: format!("{id}.png"), ..view.clone() }).collect();
        for view in &mut scene.views {
            view.t += DVec3::new(0.1 * f64::from(view.id), 0.0, 0.0);
        }
        let ids: Vec<u32> = (0..7).collect();
        scene.points.iter_mut().for_each(|point| point.1.clone_from(&ids));
        scene
    };
    let sources = |scene: &mut Scene| -> Vec<usize> {
        scene.select_sources();
        scene.views.iter().map(|v| v.sources.len()).collect()
    };
    for far in [1e2, 1e4, 1e7, 1e12, 1e100] {
        let mut views = six();
        views.views[6].t.z = far;
        let mut scene = open(as_text(&views).path());
        let found = sources(&mut scene);
        assert!(found[..6].iter().all(|&count| count >= 5), "{far}: {found:?} {:?}", scene.notes);
        assert!(!has_note(&scene, "at the very place"), "{far}: {:?}", scene.notes);
        let note = "1 camera stands far apart from all other cameras (first: of view 6)";
        assert!(has_note(&scene, note), "{far}: {:?}", scene.notes);
        // Where there are no points, the cameras alone tell.
        let mut views = six();
        views.views[6].t.z = far;
        views.points.clear();
        let mut scene = open(as_text(&views).path());
        let found = sources(&mut scene);
        assert!(found[..6].iter().all(|&count| count >= 5), "{far}: {found:?} {:?}", scene.notes);
    }
    // Cameras at one place are still at one place, and no others are.
    let mut views = six();
    let place = views.views[0].t;
    views.views[1].t = place;
    views.views[6].t.z = 1e7;
    let scene = open(as_text(&views).path());
    let centres: Vec<DVec3> = scene.views.iter().map(|v| v.camera.centre()).collect();
    let least = scene.least_baseline();
    assert!(centres[0].distance(centres[1]) <= least && !scene.is_without_baseline());
    assert!(least > 0.0 && least < 1e-5 * centres[0].distance(centres[2]), "{least}");
    // A scene without a stray has none.
    assert!(open(as_text(&six()).path()).strays().is_empty());
}

#[test]
fn points_without_tracks_are_seen_where_they_lie_in_the_photo() {
    let mut views = TestScene::new();
    views.points.iter_mut().for_each(|point| point.1.clear());
    // Behind all cameras, and beside all photos.
    views.points.push((DVec3::new(0.0, 0.0, -50.0), Vec::new()));
    views.points.push((DVec3::new(1000.0, 0.0, 0.0), Vec::new()));
    for folder in [as_text(&views), {
        let folder = TempDir::new().unwrap();
        views.write_colmap_binary(folder.path(), "sparse/0");
        folder
    }] {
        let mut scene = open(folder.path());
        assert_eq!(scene.points.len(), 200);
        assert!(scene.points.iter().all(|p| p.views == [0, 1, 2, 3]));
        assert!(has_note(&scene, "the model's 202 points have no tracks: each is taken as seen by every view"));
        scene.select_sources();
        assert!(scene.views.iter().all(|v| v.sources.len() == 3));
        let range = scene.tracks().point_depth_range(0, 0.0).unwrap();
        assert!(range.near > 3.0 && range.far < 5.0, "{range:?}");
    }
    // Where some have tracks, the others are just not seen.
    views.points[0].1 = vec![3, 7];
    assert_eq!(open(as_text(&views).path()).points.len(), 1);
}

#[test]
fn depth_numbers_that_make_no_range_need_not_where_a_range_is_given() {
    for (line, planes) in [("0 0.05 96 10", Some(96)), ("0 5", None), ("-3 0.1 48", Some(48)), ("0 0.1 0 0", None)] {
        let folder = TempDir::new().unwrap();
        TestScene::new().write_mvsnet(folder.path(), line);
        let error = Scene::open(folder.path(), &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains("_cam.txt: line 12, depth numbers: `"), "{error}");
        let options = OpenOptions { range_given: true, ..OpenOptions::default() };
        let scene = Scene::open(folder.path(), &options).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(scene.views.iter().all(|v| v.range.is_none() && v.sweep.is_none() && v.planes == planes), "{line}");
        assert!(has_note(&scene, "depth numbers that make no range and were passed over (4 of 4 cam.txt files)"));
    }
    // A file without a camera is none, whatever is given.
    let folder = TempDir::new().unwrap();
    TestScene::new().write_mvsnet(folder.path(), "0 x");
    let options = OpenOptions { range_given: true, ..OpenOptions::default() };
    assert!(Scene::open(folder.path(), &options).is_err());
}

/// Time that grows with the square of the numbers would take minutes here.
#[test]
fn a_hundred_thousand_of_everything_are_read_in_seconds() {
    const MANY: u32 = 100_000;
    let began = Instant::now();
    let folder = TempDir::new().unwrap();
    let scene = TestScene::new();
    scene.write_photos(folder.path());
    let model = folder.path().join("sparse/0");
    fs::create_dir_all(&model).unwrap();
    let many = MANY as usize;
    let (mut cameras, mut images, mut points) = (Bytes::counted(many), Bytes::counted(many), Bytes::counted(many));
    let (mut rigs, mut frames) = (Bytes::counted(1), Bytes::counted(many));
    rigs.u32(1).u32(MANY).i32(0).u32(0);
    let pose = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 4.0];
    for i in 0..MANY {
        cameras.u32(i).i32(1).u64(64).u64(48).f64s(&[70.0, 70.0, 32.0, 24.0]);
        // The first four have photos; the others differ from each other in all but case.
        let name = scene.views.get(i as usize).map_or(format!("photo{}.png", i / 2), |v| v.file.clone());
        let name = if i % 2 == 0 { name } else { name.replace("photo", "Photo") };
        images.u32(i).f64s(&pose).u32(i).name(&name).u64(1).f64s(&[1.0, 2.0]).u64(i.into());
        points.u64(i.into()).f64s(&[0.0; 3]).bytes(&[0; 3]).f64s(&[0.5]).u64(2);
        points.u32(i).u32(0).u32((i + 1) % MANY).u32(0);
        if i > 0 {
            rigs.i32(0).u32(i).bytes(&[1]).f64s(&[1.0, 0.0, 0.0, 0.0, f64::from(i), 0.0, 0.0]);
        }
        frames.u32(i).u32(1).f64s(&pose).u32(1).i32(0).u32(i).u64(i.into());
    }
    for (name, bytes) in
        [("cameras", cameras), ("images", images), ("points3D", points), ("rigs", rigs), ("frames", frames)]
    {
        fs::write(model.join(format!("{name}.bin")), bytes.0).unwrap();
    }
    let opened = open(folder.path());
    assert_eq!(ids(&opened), [0, 1, 2, 3]);
    assert_eq!(opened.views[3].camera.t, DVec3::new(3.0, 0.0, 4.0));
    engine::scene::colmap::scene::observations(&opened, &OpenOptions::default()).unwrap();

    // A list of sources as long.
    let pairs = folder.path().join("pair.txt");
    let list: String = (0..MANY).map(|i| format!(" {i} 1")).collect();
    fs::write(&pairs, format!("1\n0\n{MANY}{list}\n")).unwrap();
    let cameras = (0..MANY).map(|i| (i, "cam.txt".into())).collect();
    let index = (0..MANY).map(|i| (i, i as usize)).collect();
    let read = engine::scene::mvsnet::read_pairs(&pairs, &cameras, &index, &mut Vec::new()).unwrap();
    assert_eq!(read[0].len(), many - 1);
    // A second of work; on a busy machine some more.
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}

/// Names that lead out of images/ and out of the scene are the user's own: followed, and told once.
#[test]
fn photos_outside_of_the_scene_are_followed_and_told() {
    let root = TempDir::new().unwrap();
    let scene = root.path().join("scene");
    let mut views = TestScene::new();
    let absolute = root.path().join("far/x.png");
    // Outside twice under one stem, beside images/ but in the scene, and in images/ all the same.
    views.views[0].file = "../../x.png".into();
    views.views[1].file = absolute.to_str().unwrap().into();
    views.views[2].file = "../beside.png".into();
    views.views[3].file = "sub/../in.png".into();
    fs::create_dir_all(scene.join("images/sub")).unwrap();
    views.write_colmap_text(&scene, "sparse/0");
    let found = open(&scene);
    assert_eq!(ids(&found), [3, 7, 8, 20]);
    let names: Vec<&str> = found.views.iter().map(|v| v.name.as_str()).collect();
    assert!(names.iter().all(|name| !name.contains(['/', '\\']) && !name.starts_with('.')), "{names:?}");
    assert_eq!((names[2], names[3]), ("beside", "in"));
    let note = "2 photos lie outside of the scene's folder, where the model's names lead (first: ../../x.png)";
    assert_eq!(found.notes.iter().filter(|n| n.contains("outside")).collect::<Vec<_>>(), [note]);
    assert!(!has_note(&found, "has not registered"), "{:?}", found.notes);

    // Within the scene nothing is said.
    views.views[0].file = "a.png".into();
    let scene = root.path().join("inside");
    fs::create_dir_all(scene.join("images/sub")).unwrap();
    views.views[1].file = scene.join("images/b.png").to_str().unwrap().into();
    views.write_colmap_text(&scene, "sparse/0");
    assert!(!has_note(&open(&scene), "outside"), "{:?}", open(&scene).notes);
}
