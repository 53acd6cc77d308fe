//! DTU's training set and scenes on disk, written from an analytic plane, and every way in which they can be broken.

use std::fs;
use std::path::{Path, PathBuf};

use engine::files::map::Map;
use engine::files::pfm;
use engine::train::dtu::{Dtu, DtuOptions, Split, TEST_SCANS, TRAIN_SCANS, VALIDATION_SCANS};
use engine::train::sample::Dataset;
use engine::train::scenes::{Scenes, ScenesOptions};
use tempfile::TempDir;

use super::plane_scene::{self, RANGE, SIZE};
use super::scene_files::TestView;
use super::{assert_one_geometry, assert_same, covered, error_of, off_the_plane, text};

/// Largest distance from the plane that depth as f32 allows: half of one part in 2^23 of 5.6, along a ray that is at
/// most 1.2 times as long as its depth. Twice as much for its way through 1 / depth.
const DEPTH_ROUNDING: f64 = 1e-6;

/// The photos agree to this on average: a byte's rounding is 0.004, bilinear reading of a texture of three pixels the
/// rest. A pixel's shift costs about twice as much.
const AGREEMENT: f64 = 0.03;

/// The plane's depth at every `step`-th pixel.
fn truth(view: &TestView, step: usize) -> Map {
    let (width, height) = ((SIZE.0 as usize).div_ceil(step), (SIZE.1 as usize).div_ceil(step));
    let depth = |i: usize| plane_scene::depth(view, (i % width * step) as f64, (i / width * step) as f64) as f32;
    Map { width, height, data: (0..width * height).map(depth).collect() }
}

/// The plane scene with depth maps.
fn write_scene(root: &Path, depths: &str, step: usize) {
    plane_scene::write(root);
    fs::create_dir_all(root.join(depths)).unwrap();
    for view in &plane_scene::scene().views {
        pfm::write(&root.join(depths).join(format!("{:08}.pfm", view.id)), &truth(view, step)).unwrap();
    }
}

/// Scans 2 and 8 in DTU's layout, both of the plane, in two lights.
fn write_dtu() -> TempDir {
    let root = TempDir::new().unwrap();
    let plain = root.path().join("plain");
    plane_scene::write(&plain);
    let cameras = root.path().join("Cameras/train");
    fs::create_dir_all(&cameras).unwrap();
    fs::copy(plain.join("pair.txt"), root.path().join("Cameras/pair.txt")).unwrap();
    let mut scene = plane_scene::scene();
    for view in &mut scene.views {
        let depth = truth(view, 4);
        for scan in [2, 8] {
            let photos = root.path().join(format!("Rectified/scan{scan}_train"));
            let maps = root.path().join(format!("Depths/scan{scan}_train"));
            fs::create_dir_all(&photos).unwrap();
            fs::create_dir_all(&maps).unwrap();
            let photo = image::open(plain.join("images").join(&view.file)).unwrap();
            photo.save(photos.join(format!("rect_{:03}_0_r5000.png", view.id + 1))).unwrap();
            let mut inverted = photo.clone();
            inverted.invert();
            inverted.save(photos.join(format!("rect_{:03}_1_r5000.png", view.id + 1))).unwrap();
            pfm::write(&maps.join(format!("depth_map_{:04}.pfm", view.id)), &depth).unwrap();
            // The first row is masked out, in a grey that is just too dark.
            let mask = image::GrayImage::from_fn(24, 16, |_, y| image::Luma([if y == 0 { 127 } else { 128 }]));
            mask.save(maps.join(format!("depth_visual_{:04}.png", view.id))).unwrap();
        }
        // The files hold the cameras of the maps.
        for column in [&mut view.k.x_axis, &mut view.k.y_axis, &mut view.k.z_axis] {
            (column.x, column.y) = (column.x / 4.0, column.y / 4.0);
        }
        fs::write(cameras.join(format!("{:08}_cam.txt", view.id)), view.cam_txt("2.6 0.0148")).unwrap();
    }
    fs::remove_dir_all(plain).unwrap();
    root
}

fn dtu(lights: u64) -> DtuOptions {
    DtuOptions { lights, worse_sources: 0.0, ..DtuOptions::default() }
}

#[test]
fn dtu_lists_are_those_of_the_protocol() {
    let mut all: Vec<u32> = [&TRAIN_SCANS[..], &VALIDATION_SCANS, &TEST_SCANS].concat();
    assert_eq!((TRAIN_SCANS.len() * 49 * 7, all.len()), (27097, 119));
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), all[0], all[118]), (119, 1, 128));
    assert!(Split::Validation.scans() == VALIDATION_SCANS && Split::Test.scans() == TEST_SCANS);
    // Sums of the numbers on the protocol page.
    let sums = [Split::Train, Split::Validation, Split::Test].map(|s| s.scans().iter().sum::<u32>());
    assert_eq!(sums, [5924, 906, 903]);
}

#[test]
fn dtu_samples_are_one_geometry() {
    let root = write_dtu();
    let dataset = Dtu::open(root.path(), dtu(2)).unwrap();
    assert_eq!((dataset.len(), dataset.scans()), (Some(2 * 5 * 2), &[2, 8][..]));
    assert_eq!(
        dataset.describe(),
        "DTU training, 2 of 79 scans, 5 views, 2 lights: 20 samples; 192 planes 1.06 camera file's intervals apart, \
         depths 2.60 to 5.60"
    );
    assert_eq!(dataset.notes(), ["77 of the 79 training scans are missing (first: scan6)"]);
    // Lights change first, then views, then scans.
    let names: Vec<String> = [0, 1, 2, 10, 19, 20].map(|i| dataset.sample(i, 3).unwrap().name).into();
    let expected = ["scan2/rect_001_0", "scan2/rect_001_1", "scan2/rect_003_0", "scan8/rect_001_0", "scan8/rect_010_1"];
    assert!(names.iter().zip(expected).all(|(name, start)| *name == format!("{start}_r5000")), "{names:?}");
    assert_eq!(names[5], names[0]);
    for index in [0, 3, 5] {
        let sample = dataset.sample(index, 3).unwrap();
        assert_eq!(sample.photos.len(), 3);
        assert_one_geometry(&sample, AGREEMENT);
        assert!(off_the_plane(&sample, false) < DEPTH_ROUNDING);
        // The mask's row has no truth; the rest of the plane lies in the range.
        assert!(sample.depth.data[..24].iter().all(|&d| d == 0.0));
        assert_eq!(covered(&sample), 24 * 15);
        // Near, and 191 planes 1.06 intervals apart.
        assert_eq!((sample.range.near, sample.range.far), (2.6, 2.6 + 0.0148 * 1.06 * 191.0));
        assert_same(&sample, &dataset.sample(index, 3).unwrap());
    }
    // The pair list's order: view 0 has sources 2, 3, 5, 9.
    let scene = plane_scene::scene();
    let sample = dataset.sample(0, 9).unwrap();
    for (camera, view) in sample.cameras.iter().zip(&scene.views) {
        assert_eq!((camera.r, camera.t), (view.r, view.t));
        assert!((camera.k - view.k).to_cols_array().iter().all(|d| d.abs() < 1e-12));
    }

    // Depth outside of the range is no truth.
    let narrow = DtuOptions { planes: 101, ..dtu(1) };
    let sample = Dtu::open(root.path(), narrow).unwrap().sample(0, 2).unwrap();
    let far = sample.range.far as f32;
    let inside = truth(&scene.views[0], 4).data[24..].iter().filter(|&&d| d <= far).count();
    assert!(covered(&sample) == inside && inside > 20 && inside < 24 * 15, "{inside}");
}

/// What opening DTU says, or else its first sample, after `spoil` was done to the folder.
#[track_caller]
fn spoilt_dtu(spoil: impl FnOnce(&Path)) -> String {
    let root = write_dtu();
    spoil(root.path());
    let result = Dtu::open(root.path(), dtu(1)).and_then(|d| d.sample(0, 3));
    error_of(result).replace(&text(root.path()), "ROOT")
}

fn remove(path: PathBuf) {
    fs::remove_file(path).unwrap();
}

#[test]
fn broken_dtu_folders_get_one_line() {
    let missing = "No such file or directory (os error 2)";
    let map = "Depths/scan2_train/depth_map_0000.pfm";
    let mask = "Depths/scan2_train/depth_visual_0000.png";
    let camera = "Cameras/train/00000003_cam.txt";
    let photo = "Rectified/scan2_train/rect_003_0_r5000.png";
    assert_eq!(spoilt_dtu(|r| remove(r.join(map))), format!("ROOT/{map}: cannot open the map: {missing}"));
    assert_eq!(
        spoilt_dtu(|r| pfm::write(&r.join(map), &Map::filled(20, 16, 1.0)).unwrap()),
        format!("ROOT/{map}: 20 x 16 pixels; expected 24 x 16, a quarter of the photo's 96 x 64")
    );
    assert_eq!(spoilt_dtu(|r| remove(r.join(mask))), format!("ROOT/{mask}: cannot read the photo: {missing}"));
    assert_eq!(
        spoilt_dtu(|r| image::GrayImage::new(96, 64).save(r.join(mask)).unwrap()),
        format!("ROOT/{mask}: 96 x 64 pixels; expected 24 x 16, a quarter of the photo's 96 x 64")
    );
    assert_eq!(
        spoilt_dtu(|r| remove(r.join("Cameras/pair.txt"))),
        format!("ROOT/Cameras/pair.txt: cannot read the pair list: {missing}")
    );
    assert_eq!(
        spoilt_dtu(|r| fs::write(r.join("Cameras/pair.txt"), "1\n0\n0\n").unwrap()),
        "ROOT/Cameras/pair.txt: no view with source views; expected source views for each view"
    );
    let cut = |r: &Path, end: &str| {
        let text = fs::read_to_string(r.join(camera)).unwrap();
        fs::write(r.join(camera), &text[..text.find(end).unwrap()]).unwrap();
    };
    assert_eq!(
        spoilt_dtu(|r| cut(r, "intrinsic")),
        format!(
            "ROOT/{camera}: the file ends before `intrinsic`; expected the word `intrinsic` and 9 numbers after it, \
             row by row"
        )
    );
    assert_eq!(
        spoilt_dtu(|r| cut(r, "2.6")),
        format!(
            "ROOT/{camera}: no depth numbers; expected near and interval after the intrinsics, for example `425 2.5`"
        )
    );
    assert_eq!(spoilt_dtu(|r| remove(r.join(photo))), format!("ROOT/{photo}: cannot read the photo: {missing}"));
    assert_eq!(
        spoilt_dtu(|r| image::RgbImage::new(95, 64).save(r.join(photo)).unwrap()),
        format!("ROOT/{photo}: 95 x 64 pixels; expected 96 x 64, the size of the scan's other photos")
    );
    let first = "Rectified/scan2_train/rect_001_0_r5000.png";
    assert_eq!(
        spoilt_dtu(|r| image::RgbImage::new(95, 64).save(r.join(first)).unwrap()),
        format!("ROOT/{first}: 95 x 64 pixels; expected 92 x 64, sides of multiples of 4")
    );
    assert_eq!(
        spoilt_dtu(|r| fs::remove_dir_all(r.join("Rectified")).unwrap()),
        "ROOT: none of the 79 training scans; expected Rectified/scanN_train and Depths/scanN_train (MVSNet's training \
         set, mvs_training/dtu)"
    );
    assert_eq!(
        spoilt_dtu(|r| fs::remove_dir_all(r.join("Cameras")).unwrap()),
        format!("ROOT/Cameras/train: cannot list the cameras: {missing}")
    );
    let root = write_dtu();
    let eight = Dtu::open(root.path(), dtu(8));
    assert_eq!(error_of(eight), "lights: 8; expected 1 to 7");
    // Half of a scan is none, and is said to be.
    fs::remove_dir_all(root.path().join("Depths/scan2_train")).unwrap();
    let dataset = Dtu::open(root.path(), dtu(1)).unwrap();
    assert_eq!(
        dataset.notes(),
        ["78 of the 79 training scans are missing (first: scan2, which has photos but no depth maps)"]
    );
}

#[test]
fn scenes_on_disk_are_one_geometry_with_maps_of_either_size() {
    let root = TempDir::new().unwrap();
    let (quarter, full) = (root.path().join("a"), root.path().join("b"));
    write_scene(&quarter, "depths", 4);
    write_scene(&full, "depths", 1);
    fs::create_dir(root.path().join("no scene")).unwrap();
    let options = ScenesOptions { worse_sources: 0.0, ..ScenesOptions::default() };
    let dataset = Scenes::open(root.path(), options).unwrap();
    assert_eq!(dataset.describe(), format!("2 scenes in {}: 10 samples", root.path().display()));
    assert_eq!(dataset.len(), Some(10));
    for index in [0, 2, 4] {
        let sample = dataset.sample(index, 3).unwrap();
        assert_one_geometry(&sample, AGREEMENT);
        assert!(off_the_plane(&sample, false) < DEPTH_ROUNDING);
        assert_eq!((covered(&sample), sample.photos.len()), (24 * 16, 3));
        assert_eq!((sample.range.near, sample.range.far), RANGE);
        // Every fourth pixel of the whole map is the quarter's map to the bit.
        let mut same = dataset.sample(index + 5, 3).unwrap();
        assert_eq!(sample.name, format!("a/{}", plane_scene::NAMES[index as usize]));
        same.name.clone_from(&sample.name);
        assert_same(&sample, &same);
    }

    // 70 x 47 pixels, cut to 68 x 44. The reduced photo is smoother, but a texture of three pixels is one of two now.
    for scene in [&quarter, &full] {
        let options = ScenesOptions { max_side: Some(70), ..options };
        let sample = Scenes::open(scene, options).unwrap().sample(2, 3).unwrap();
        assert_eq!((sample.photos[0].width, sample.photos[0].height), (68, 44));
        assert_one_geometry(&sample, 1.2 * AGREEMENT);
        // 1 / depth is interpolated, which is exact on a plane.
        assert!(off_the_plane(&sample, false) < 2.0 * DEPTH_ROUNDING);
        // A quarter's map ends three pixels before the photo does.
        assert!(covered(&sample) >= 16 * 11);
    }
}

#[test]
fn scenes_as_blended_mvs_lays_them_out_are_read() {
    let root = TempDir::new().unwrap();
    write_scene(root.path(), "rendered_depth_maps", 1);
    fs::rename(root.path().join("images"), root.path().join("blended_images")).unwrap();
    fs::rename(root.path().join("pair.txt"), root.path().join("cams/pair.txt")).unwrap();
    let photo = root.path().join("blended_images/00000000.png");
    fs::copy(&photo, root.path().join("blended_images/00000000_masked.png")).unwrap();
    remove(root.path().join("rendered_depth_maps/00000009.pfm"));
    let dataset = Scenes::open(root.path(), ScenesOptions::default()).unwrap();
    assert_eq!(dataset.len(), Some(4));
    let place = text(root.path());
    let expected = [
        format!("{place}: 1 photo without a camera left out (first: 00000000_masked.png)"),
        format!(
            "{place}: four depth numbers, of which near, far and the number of planes are used (5 of 5 cam.txt files)"
        ),
        format!("{place}: 1 view without a depth map are source views only (first: 00000009)"),
    ];
    assert_eq!(dataset.notes(), expected);
    let sample = dataset.sample(1, 3).unwrap();
    assert_one_geometry(&sample, AGREEMENT);
    assert!(off_the_plane(&sample, false) < DEPTH_ROUNDING);
}

#[test]
fn the_example_in_the_tree_can_be_trained_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let options = ScenesOptions { worse_sources: 0.0, ..ScenesOptions::default() };
    let sample = Scenes::open(&root, options).unwrap().sample(3, 3).unwrap();
    assert_eq!((sample.name.as_str(), sample.photos[0].width), ("scene/00000003", 512));
    // JPEG, occlusions and smooth parts: the photos agree to some bytes, and less where they are off by a pixel.
    assert_one_geometry(&sample, 0.06);
}

#[test]
fn broken_scenes_get_one_line() {
    let spoilt = |spoil: &dyn Fn(&Path)| {
        let root = TempDir::new().unwrap();
        write_scene(root.path(), "depths", 4);
        spoil(root.path());
        let result = Scenes::open(root.path(), ScenesOptions::default()).and_then(|d| d.sample(0, 3));
        error_of(result).replace(&text(root.path()), "ROOT")
    };
    assert_eq!(
        spoilt(&|r| fs::remove_dir_all(r.join("depths")).unwrap()),
        "ROOT: no folder with true depth; expected NAME.pfm for each photo NAME in one of depths/, \
         rendered_depth_maps/, truth/"
    );
    let empty = |r: &Path| {
        fs::remove_dir_all(r.join("depths")).unwrap();
        fs::create_dir(r.join("depths")).unwrap();
    };
    assert_eq!(
        spoilt(&empty),
        "ROOT/depths/00000000.pfm: no such file, nor a depth map of any other view; expected the true depth of the \
         photo of that name"
    );
    let map = "depths/00000000.pfm";
    assert_eq!(
        spoilt(&|r| pfm::write(&r.join(map), &Map::filled(48, 32, 3.0)).unwrap()),
        format!("ROOT/{map}: 48 x 32 pixels; expected 96 x 64, as the photo, or 24 x 16, a quarter of it")
    );
    assert_eq!(
        spoilt(&|r| fs::write(r.join(map), "Pf\n24 16\n-1\n").unwrap()),
        format!(
            "ROOT/{map}: 12 bytes (truncated, or its header lies); expected 1548 for 24 x 16 pixels of 1 x 4 bytes"
        )
    );
    assert_eq!(
        spoilt(&|r| fs::remove_dir_all(r.join("cams")).unwrap()),
        "ROOT: no scene; expected images/, cams/ and depths/, or subfolders that hold them (engine synth writes such)"
    );
    let none = Scenes::open(Path::new("/nowhere"), ScenesOptions::default());
    assert_eq!(error_of(none), "/nowhere: cannot open the folder of scenes: No such file or directory (os error 2)");

    // Without a range in the camera files it is that of the truth; without truth there is none.
    let without_range = |r: &Path| {
        for id in plane_scene::NAMES {
            let path = r.join(format!("cams/{id}_cam.txt"));
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, &text[..text.rfind("2.6").unwrap()]).unwrap();
        }
    };
    let root = TempDir::new().unwrap();
    write_scene(root.path(), "depths", 4);
    without_range(root.path());
    let sample = Scenes::open(root.path(), ScenesOptions::default()).unwrap().sample(0, 3).unwrap();
    let (low, high) = sample.depth.data.iter().fold((f32::MAX, 0f32), |(a, b), &d| (a.min(d), b.max(d)));
    assert_eq!((sample.range.near, sample.range.far), (f64::from(low) * 0.9, f64::from(high) * 1.1));
    let none = |r: &Path| {
        without_range(r);
        pfm::write(&r.join(map), &Map::filled(24, 16, 0.0)).unwrap();
    };
    assert_eq!(
        spoilt(&none),
        format!("ROOT/{map}: no pixel with a depth, and no range in the camera file; expected depths above 0")
    );
}
