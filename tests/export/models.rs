//! COLMAP's files: models with and without points, the dense workspace, and the photos beside them.

use std::collections::BTreeMap;

use engine::scene::{OpenOptions, Scene};
use glam::DQuat;

use super::*;
use readers::Bytes;

/// An image of a model.
struct ModelImage {
    name: String,
    pose: [f64; 7],
    /// Place, and the point's number.
    seen: Vec<(f64, f64, u64)>,
}

/// A point of a model.
struct ModelPoint {
    position: DVec3,
    colour: [u8; 3],
    error: f64,
    /// Image, and the place among what it sees.
    track: Vec<(u32, u32)>,
}

struct TestModel {
    /// Width, height and fx, fy, cx, cy.
    cameras: BTreeMap<u32, (u64, u64, Vec<f64>)>,
    images: BTreeMap<u32, ModelImage>,
    points: BTreeMap<u64, ModelPoint>,
}

fn binary(folder: &Path) -> TestModel {
    let mut file = Bytes::of(&folder.join("cameras.bin"));
    let cameras = (0..file.u64())
        .map(|_| {
            let (id, model, width, height) = (file.u32(), file.u32(), file.u64(), file.u64());
            assert_eq!(model, 1, "PINHOLE");
            (id, (width, height, file.f64s(4)))
        })
        .collect();
    assert_eq!(file.left(), 0);
    let mut file = Bytes::of(&folder.join("images.bin"));
    let images = (0..file.u64())
        .map(|_| {
            let id = file.u32();
            let pose = file.f64s(7).try_into().unwrap();
            assert_eq!(file.u32(), id, "a camera each");
            let name = file.until(0);
            let seen = (0..file.u64()).map(|_| (file.f64(), file.f64(), file.u64())).collect();
            (id, ModelImage { name, pose, seen })
        })
        .collect();
    assert_eq!(file.left(), 0);
    let mut file = Bytes::of(&folder.join("points3D.bin"));
    let points = (0..file.u64())
        .map(|_| {
            let id = file.u64();
            let position = DVec3::new(file.f64(), file.f64(), file.f64());
            let (colour, error) = (file.take(), file.f64());
            let track = (0..file.u64()).map(|_| (file.u32(), file.u32())).collect();
            (id, ModelPoint { position, colour, error, track })
        })
        .collect();
    assert_eq!(file.left(), 0);
    TestModel { cameras, images, points }
}

/// The words of each line of a text file that is no comment.
fn lines(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The text files say the same as the binary ones.
fn expect_same_text(folder: &Path, model: &TestModel) {
    let number = |word: &String| word.parse::<f64>().unwrap();
    for words in lines(&folder.join("cameras.txt")) {
        let (width, height, parameters) = &model.cameras[&words[0].parse().unwrap()];
        assert_eq!(words[1..4], ["PINHOLE".to_owned(), width.to_string(), height.to_string()]);
        assert_eq!(words[4..].iter().map(number).collect::<Vec<_>>(), *parameters);
    }
    let images = lines(&folder.join("images.txt"));
    assert_eq!(images.len(), 2 * model.images.len());
    for pair in images.chunks(2) {
        let image = &model.images[&pair[0][0].parse().unwrap()];
        assert_eq!(pair[0][1..8].iter().map(number).collect::<Vec<_>>(), image.pose);
        assert_eq!(pair[0][9], image.name);
        let seen: Vec<f64> = image.seen.iter().flat_map(|&(x, y, point)| [x, y, point as f64]).collect();
        assert_eq!(pair[1].iter().map(number).collect::<Vec<_>>(), seen);
    }
    let points = lines(&folder.join("points3D.txt"));
    assert_eq!(points.len(), model.points.len());
    for words in points {
        let point = &model.points[&words[0].parse().unwrap()];
        let colour = point.colour.map(f64::from);
        let track = point.track.iter().flat_map(|&(image, place)| [f64::from(image), f64::from(place)]);
        let all = point.position.to_array().into_iter().chain(colour).chain([point.error]).chain(track);
        assert_eq!(words[1..].iter().map(number).collect::<Vec<_>>(), all.collect::<Vec<_>>());
    }
}

/// Cameras are those of the scene, less the origin that was taken.
fn expect_cameras(run: &Run, model: &TestModel, origin: DVec3, ending: &str) {
    assert_eq!(model.images.len(), NAMES.len());
    for (at, view) in run.views.iter().enumerate() {
        let id = at as u32 + 1;
        let (image, camera) = (&model.images[&id], &model.cameras[&id]);
        assert_eq!(image.name, format!("{}.{ending}", NAMES[at]));
        assert_eq!(*camera, (u64::from(SIZE.0), u64::from(SIZE.1), vec![110.0, 110.0, 47.75, 32.25]));
        let [w, x, y, z, ..] = image.pose;
        let r = DMat3::from_quat(DQuat::from_xyzw(x, y, z, w));
        assert!((r - view.r).to_cols_array().iter().all(|d| d.abs() < 1e-12));
        let t = DVec3::from_slice(&image.pose[4..]);
        // cam.txt holds t of 10^6 units with what text has of digits.
        assert!((t - (view.t + view.r * origin)).length() < 1e-8, "{t}");
    }
}

#[test]
fn the_cloud_becomes_points_with_tracks() {
    for offset in [DVec3::ZERO, FAR] {
        let run = Run::new(offset);
        run.export(&["--to", "points3D", "--photos", "png"]).done();
        let folder = run.path("out/export/points3D");
        let model = binary(&folder.join("sparse/0"));
        expect_same_text(&folder.join("sparse/0"), &model);
        // The mean of the cameras, in whole numbers.
        let centres: DVec3 = run.views.iter().map(|v| -(v.r.transpose() * v.t)).sum();
        let origin = if offset == DVec3::ZERO { DVec3::ZERO } else { (centres / 5.0).round() };
        expect_cameras(&run, &model, origin, "png");
        let cloud = run.cloud();
        let mut observations = 0;
        for (id, point) in &model.points {
            let expected = &cloud[*id as usize - 1];
            assert_eq!((point.colour, point.error), (expected.colour, -1.0));
            assert!((point.position + origin - expected.position).length() < 1e-8);
            assert!(point.track.len() >= 2, "the plane is seen by several");
            for &(image, place) in &point.track {
                let (view, seen) = (&run.views[image as usize - 1], model.images[&image].seen[place as usize]);
                let q = view.k * (view.r * (point.position + origin) + view.t);
                assert_eq!(seen.2, *id);
                assert!((seen.0 - q.x / q.z - 0.5).abs() < 1e-5 && (seen.1 - q.y / q.z - 0.5).abs() < 1e-5);
                // In the wrong piece of a map the point is not what is seen.
                let [left, right, top, bottom] = WRONG.1.map(|v| v as f64);
                let is_wrong = (left..right).contains(&seen.0) && (top..bottom).contains(&seen.1);
                assert!(image as usize - 1 != WRONG.0 || !is_wrong, "{seen:?}");
                observations += 1;
            }
        }
        assert_eq!(observations, model.images.values().map(|image| image.seen.len()).sum::<usize>());
        assert!(model.points.len() > cloud.len() * 99 / 100, "{} of {}", model.points.len(), cloud.len());
        // The stored photos have no lens and the maps' size: without loss they are the same.
        for name in NAMES {
            let [photo, stored] = [folder.join("images"), run.path("scene/images")]
                .map(|folder| image::open(folder.join(format!("{name}.png"))).unwrap().into_rgb8());
            assert!(photo == stored, "{name}");
        }
        // The program itself reads what it has written.
        let scene = Scene::open(&folder, &OpenOptions::default()).unwrap();
        assert_eq!((scene.views.len(), scene.points.len()), (NAMES.len(), model.points.len()));
        assert_eq!(scene.views[0].camera.k, run.views[0].k);
    }
}

/// A map of COLMAP's: width, height, channels, values channel after channel.
fn colmap_map(path: &Path) -> (usize, usize, usize, Vec<f32>) {
    let mut file = Bytes::of(path);
    let [width, height, channels] = [0; 3].map(|_| file.until(b'&').parse().unwrap());
    let values = file.f32s(width * height * channels);
    assert_eq!(file.left(), 0);
    (width, height, channels, values)
}

#[test]
fn the_workspace_is_colmaps() {
    let run = Run::new(DVec3::ZERO);
    run.export(&["--to", "workspace,npz", "--filtered-depth", "--photos", "jpeg:90"]).done();
    let (exports, folder) = (run.path("out/export"), run.path("out/export/workspace"));
    let model = binary(&folder.join("sparse"));
    expect_same_text(&folder.join("sparse"), &model);
    expect_cameras(&run, &model, DVec3::ZERO, "jpg");
    assert_eq!(model.points.len(), model.points.values().filter(|point| point.track.len() > 1).count());
    assert!(model.points.len() > run.cloud().len() * 99 / 100);
    let photos: Vec<String> = NAMES.iter().map(|name| format!("{name}.jpg")).collect();
    let listed = fs::read_to_string(folder.join("stereo/fusion.cfg")).unwrap();
    assert_eq!(listed.lines().collect::<Vec<_>>(), photos);
    let sources = fs::read_to_string(folder.join("stereo/patch-match.cfg")).unwrap();
    assert_eq!(sources.lines().count(), 2 * NAMES.len());
    let manifest = json(&run.path("out/manifest.json"));
    let transforms = json(&folder.join("transforms.json"));
    for at in 0..NAMES.len() {
        let (name, view) = (&photos[at], &run.views[at]);
        let of =
            |kind: &str, which: &str| colmap_map(&folder.join("stereo").join(kind).join(format!("{name}.{which}.bin")));
        let truth = depth(&plane_scene::scene().views[at], at);
        let (width, height, channels, all) = of("depth_maps", "photometric");
        assert_eq!((width, height, channels), (96, 64, 1));
        assert_eq!(all, truth.data);
        // Confirmed are the pixels that --filtered-depth keeps elsewhere.
        let members = readers::zip(&exports.join("npz").join(format!("{}.npz", NAMES[at])));
        let (_, confirmed, _, geometric) = of("depth_maps", "geometric");
        assert_eq!(confirmed, 64);
        let filtered = readers::npy(members["depth.npy"].clone()).1;
        assert_eq!(geometric.iter().map(|&d| f64::from(d)).collect::<Vec<_>>(), filtered);
        // Normals in the camera's axes.
        let (_, _, channels, normals) = of("normal_maps", "photometric");
        assert_eq!(channels, 3);
        let (own, pixel) = (view.r * normal(), 50 * 96 + 20);
        let found = DVec3::from([0, 1, 2].map(|axis| f64::from(normals[axis * 96 * 64 + pixel])));
        assert!((found - own).length() < 1e-4, "{found} {own}");

        let mut graph = Bytes::of(&folder.join("stereo/consistency_graphs").join(format!("{name}.geometric.bin")));
        assert_eq!([0; 3].map(|_| graph.until(b'&')), ["96", "64", "1"]);
        let mut pixels = 0;
        while graph.left() > 0 {
            let [x, y, count] = [0; 3].map(|_| graph.u32() as usize);
            assert!(geometric[y * 96 + x] > 0.0 && count >= 2);
            let others: Vec<u32> = (0..count).map(|_| graph.u32()).collect();
            assert!(others.iter().all(|&other| other as usize != at && (other as usize) < NAMES.len()));
            pixels += 1;
        }
        assert_eq!(pixels, geometric.iter().filter(|&&d| d > 0.0).count());

        let against = manifest["views"][at]["checked_against"].as_array().unwrap();
        let against: Vec<String> = against.iter().map(|n| format!("{}.jpg", n.as_str().unwrap())).collect();
        assert_eq!(sources.lines().nth(2 * at + 1).unwrap(), against.join(", "));
        let frame = &transforms["frames"][at];
        assert_eq!(frame["file_path"], format!("images/{name}"));
        let number = |row: usize, column: usize| frame["transform_matrix"][row][column].as_f64().unwrap();
        let centre = -(view.r.transpose() * view.t);
        for row in 0..3 {
            assert!((number(row, 3) - centre[row]).abs() < 1e-12);
            // Back is minus the way the camera looks, up minus the rows' way.
            assert!((number(row, 2) + view.r.row(2)[row]).abs() < 1e-12);
            assert!((number(row, 1) + view.r.row(1)[row]).abs() < 1e-12);
        }
        assert_eq!((&frame["cx"], &frame["fl_x"]), (&47.75.into(), &110.0.into()));
        let cam = lines(&folder.join(format!("cams/{}_cam.txt", NAMES[at])));
        let words: Vec<f64> = cam.concat().iter().filter_map(|word| word.parse().ok()).collect();
        assert_eq!(words[16..25], rows(view.k));
        assert!((DVec3::new(words[3], words[7], words[11]) - view.t).length() < 1e-12);
        // JPEG of quality 90 of a smooth picture.
        let [photo, stored] = [folder.join("images").join(name), run.path("scene/images").join(&view.file)]
            .map(|path| image::open(path).unwrap().into_rgb8());
        let apart = photo.iter().zip(stored.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
        assert!(apart / (96.0 * 64.0 * 3.0) < 6.0, "{apart}");
    }
    let cloud = run.cloud();
    let mut ply = Bytes::of(&folder.join("fused.ply"));
    while ply.until(b'\n') != "end_header" {}
    for point in &cloud {
        let floats = ply.f32s(6);
        assert_eq!(DVec3::new(floats[0].into(), floats[1].into(), floats[2].into()), point.position);
        assert_eq!((&floats[3..], ply.take()), (point.normal.as_slice(), point.colour));
    }
    assert_eq!(ply.left(), 0);
    let mut vis = Bytes::of(&folder.join("fused.ply.vis"));
    assert_eq!(vis.u64() as usize, cloud.len());
    let mut seen = 0;
    for _ in &cloud {
        let count = vis.u32();
        seen += count as usize;
        assert!((0..count).all(|_| (vis.u32() as usize) < NAMES.len()));
    }
    assert_eq!(vis.left(), 0);
    assert!(seen > 2 * cloud.len());
}

/// Masks of the run lie beside the photos, under COLMAP's names.
#[test]
fn masks_go_with_the_photos() {
    let run = Run::new(DVec3::ZERO);
    let masks = run.path("masks");
    fs::create_dir(&masks).unwrap();
    let mask = image::GrayImage::from_fn(SIZE.0, SIZE.1, |x, y| image::Luma([255 * u8::from(x + 2 * y > 70)]));
    mask.save(masks.join(format!("{}.png", NAMES[1]))).unwrap();
    let (maps, scene, out) = (run.path("maps"), run.path("scene"), run.path("out"));
    let words = ["fuse", text(&maps), "--scene", text(&scene), "-o", text(&out), "--min-views", "2", "--force"];
    engine(words.iter().chain(&["--masks", text(&masks)])).done();
    run.export(&["--to", "workspace", "--photos", "png"]).done();
    let found = files(&run.path("out/export/workspace/masks"));
    let name = PathBuf::from(format!("{}.png.png", NAMES[1]));
    assert_eq!(found.keys().collect::<Vec<_>>(), [&name]);
    assert_eq!(image::load_from_memory(&found[&name]).unwrap().into_luma8(), mask);
}
