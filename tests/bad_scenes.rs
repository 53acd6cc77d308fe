//! Scenes that are broken in one place each, and the one line that says so.

use std::fs;
use std::path::{Path, PathBuf};

use engine::photo::Photo;
use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

#[path = "support/scene_files.rs"]
mod scene_files;
use scene_files::{Bytes, TestScene};

fn mvsnet(root: &Path) {
    TestScene::new().write_mvsnet(root, "2 6");
}

fn binary(root: &Path) {
    TestScene::new().write_colmap_binary(root, "sparse/0");
}

fn text(root: &Path) {
    TestScene::new().write_colmap_text(root, "sparse/0");
}

fn with_camera(model: i32, name: &'static str, parameters: &[f64]) -> TestScene {
    TestScene { model: Some((model, name, parameters.to_vec())), ..TestScene::new() }
}

/// Replaces the first `from` in a text file.
fn edit(root: &Path, file: &str, from: &str, to: &str) {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no `{from}`:\n{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// Replaces line `line` (from 1) of a text file.
fn edit_line(root: &Path, file: &str, line: usize, to: &str) {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines[line - 1] = to;
    fs::write(path, lines.join("\n")).unwrap();
}

fn truncate(root: &Path, file: &str, length: usize) {
    let path = root.join(file);
    let bytes = fs::read(&path).unwrap();
    assert!(length < bytes.len(), "{file} has only {} bytes", bytes.len());
    fs::write(path, &bytes[..length]).unwrap();
}

/// Overwrites bytes of a binary file.
fn patch(root: &Path, file: &str, at: usize, bytes: &[u8]) {
    let path = root.join(file);
    let mut all = fs::read(&path).unwrap();
    all[at..at + bytes.len()].copy_from_slice(bytes);
    fs::write(path, all).unwrap();
}

/// Opens the scene and loads every photo, as a run would.
fn use_scene(root: &Path) -> engine::Result<()> {
    let mut scene = Scene::open(root, &OpenOptions::default())?;
    scene.select_sources();
    for (i, view) in scene.views.iter().enumerate() {
        scene.point_depth_range(i, 0.1);
        Photo::load(view, Some(32))?;
    }
    Ok(())
}

/// A layout, what breaks it, and the line.
type Case = (&'static str, fn(&Path), fn(&Path), &'static str);

fn check(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, write, spoil, expected) in cases {
        let folder = TempDir::new().unwrap();
        write(folder.path());
        spoil(folder.path());
        let message = match use_scene(folder.path()) {
            Ok(()) => "no error".to_owned(),
            Err(error) => error.to_string().replace(&folder.path().display().to_string(), "SCENE"),
        };
        assert!(!message.contains('\n'), "{name}: more than one line: {message}");
        if message != *expected {
            wrong.push(format!("{name}\n  says     {message}\n  expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

const NOTHING: fn(&Path) = |_| {};

#[test]
fn folders_that_are_no_scene() {
    check(&[
        (
            "missing folder",
            NOTHING,
            |root| fs::remove_dir(root).unwrap(),
            "SCENE: cannot open the scene's folder: No such file or directory (os error 2)",
        ),
        (
            "empty folder",
            NOTHING,
            NOTHING,
            "SCENE: an empty folder; expected images/ with cams/ or cams_1/ (MVSNet layout), or images/ with a COLMAP model in sparse/, sparse/0/ or dense/sparse/",
        ),
        (
            "photos only",
            |root| TestScene::new().write_photos(root),
            |root| fs::write(root.join("notes.txt"), "").unwrap(),
            "SCENE: no scene, only images, notes.txt; expected images/ with cams/ or cams_1/ (MVSNet layout), or images/ with a COLMAP model in sparse/, sparse/0/ or dense/sparse/",
        ),
        (
            "a file",
            NOTHING,
            |root| {
                fs::remove_dir(root).unwrap();
                fs::write(root, "x").unwrap();
            },
            "SCENE: cannot open the scene's folder: Not a directory (os error 20)",
        ),
        (
            "model without photos",
            binary,
            |root| fs::remove_dir_all(root.join("images")).unwrap(),
            "SCENE/images: no such folder; expected the folder with the photos of the COLMAP model",
        ),
        (
            "cameras without photos",
            mvsnet,
            |root| fs::remove_dir_all(root.join("images")).unwrap(),
            "SCENE/images: cannot list the photos: No such file or directory (os error 2)",
        ),
        (
            "empty images/",
            mvsnet,
            |root| {
                fs::remove_dir_all(root.join("images")).unwrap();
                fs::create_dir(root.join("images")).unwrap();
            },
            "SCENE/images: no photos; expected JPEG, PNG, TIFF or WebP files",
        ),
        (
            "empty cams/",
            mvsnet,
            |root| {
                fs::remove_dir_all(root.join("cams")).unwrap();
                fs::create_dir(root.join("cams")).unwrap();
            },
            "SCENE/cams: no camera files; expected one NUMBER_cam.txt for each photo, for example 00000000_cam.txt",
        ),
        (
            "one view",
            mvsnet,
            |root| {
                for id in [7, 8, 20] {
                    fs::remove_file(root.join(format!("cams/{id:08}_cam.txt"))).unwrap();
                }
            },
            "SCENE: only one view with both a photo and a camera; expected at least two views of the same place",
        ),
        (
            "one photo",
            binary,
            |root| {
                for id in [7, 8, 20] {
                    fs::remove_file(root.join(format!("images/{id:08}.png"))).unwrap();
                }
            },
            "SCENE/images: 3 of the 4 registered images have no photo here (first: 00000007.png); expected at least two photos under the names that the model has for them",
        ),
        (
            "no photo of the model",
            text,
            |root| {
                for id in [3, 7, 8, 20] {
                    fs::rename(
                        root.join(format!("images/{id:08}.png")),
                        root.join(format!("images/{id}.png")),
                    )
                    .unwrap();
                }
            },
            "SCENE/images: 4 of the 4 registered images have no photo here (first: 00000003.png); expected at least two photos under the names that the model has for them",
        ),
        (
            "names that are no numbers, too few",
            mvsnet,
            |root| {
                for (id, name) in [(3, "a"), (7, "b"), (8, "c")] {
                    fs::rename(
                        root.join(format!("images/{id:08}.png")),
                        root.join(format!("images/{name}.png")),
                    )
                    .unwrap();
                }
                fs::remove_file(root.join("images/00000020.png")).unwrap();
            },
            "SCENE/images: 3 photos whose names are not numbers, beside 4 cameras; expected names with the cameras' numbers (00000003.jpg for 00000003_cam.txt), or as many photos as cameras",
        ),
        (
            "two cameras for a view",
            mvsnet,
            |root| {
                fs::copy(root.join("cams/00000007_cam.txt"), root.join("cams/7_cam.txt")).unwrap();
            },
            "SCENE/cams/7_cam.txt: a second camera for view 7 beside 00000007_cam.txt; expected one file a view",
        ),
    ]);
}

const CAM: &str = "cams/00000007_cam.txt";

#[test]
fn broken_cam_txt() {
    check(&[
        (
            "empty",
            mvsnet,
            |root| fs::write(root.join(CAM), "").unwrap(),
            "SCENE/cams/00000007_cam.txt: the file ends before `extrinsic`; expected the word `extrinsic` and 16 numbers after it, row by row",
        ),
        (
            "no extrinsic",
            mvsnet,
            |root| edit(root, CAM, "extrinsic", "extr"),
            "SCENE/cams/00000007_cam.txt: line 1: `extr`; expected the word `extrinsic` and 16 numbers after it, row by row",
        ),
        (
            "no intrinsic",
            mvsnet,
            |root| edit(root, CAM, "intrinsic", " "),
            "SCENE/cams/00000007_cam.txt: line 8: `71.19`; expected the word `intrinsic` and 9 numbers after it, row by row",
        ),
        (
            "breaks off",
            mvsnet,
            |root| {
                let text = fs::read_to_string(root.join(CAM)).unwrap();
                fs::write(root.join(CAM), &text[..text.find("0.0 0.0").unwrap()]).unwrap();
            },
            "SCENE/cams/00000007_cam.txt: the file ends after 12 numbers of the extrinsic matrix; expected the word `extrinsic` and 16 numbers after it, row by row",
        ),
        (
            "a word for a number",
            mvsnet,
            |root| edit_line(root, CAM, 2, "1 0 x 0"),
            "SCENE/cams/00000007_cam.txt: line 2: `x`; expected a finite number (number 3 of 16 of the extrinsic matrix)",
        ),
        (
            "NaN",
            mvsnet,
            |root| edit_line(root, CAM, 2, "1 0 nan 0"),
            "SCENE/cams/00000007_cam.txt: line 2: `nan`; expected a finite number (number 3 of 16 of the extrinsic matrix)",
        ),
        (
            "infinite translation",
            mvsnet,
            |root| edit_line(root, CAM, 2, "1 0 0 inf"),
            "SCENE/cams/00000007_cam.txt: line 2: `inf`; expected a finite number (number 4 of 16 of the extrinsic matrix)",
        ),
        (
            "not a rotation",
            mvsnet,
            |root| edit_line(root, CAM, 2, "2 0 0 0"),
            "SCENE/cams/00000007_cam.txt: the extrinsic matrix at line 1: not a rotation: R times its transpose differs from the identity by 3.000; expected a rotation (orthonormal, determinant 1), world to camera",
        ),
        (
            "singular",
            mvsnet,
            |root| {
                edit_line(root, CAM, 2, "0 0 0 0");
                edit_line(root, CAM, 3, "0 0 0 0");
                edit_line(root, CAM, 4, "0 0 0 0");
            },
            "SCENE/cams/00000007_cam.txt: the extrinsic matrix at line 1: not a rotation: R times its transpose differs from the identity by 1.000; expected a rotation (orthonormal, determinant 1), world to camera",
        ),
        (
            "mirrored",
            mvsnet,
            |root| {
                edit_line(root, CAM, 2, "1 0 0 0");
                edit_line(root, CAM, 3, "0 1 0 0");
                edit_line(root, CAM, 4, "0 0 -1 0");
            },
            "SCENE/cams/00000007_cam.txt: the extrinsic matrix at line 1: a mirroring (determinant -1); expected a rotation (orthonormal, determinant 1), world to camera",
        ),
        (
            "last row",
            mvsnet,
            |root| edit(root, CAM, "0.0 0.0 0.0 1.0", "0 0 0 2"),
            "SCENE/cams/00000007_cam.txt: the extrinsic matrix at line 1: last row 0 0 0 2; expected 0 0 0 1: the matrix must be a rotation and a translation, world to camera",
        ),
        (
            "focal length 0",
            mvsnet,
            |root| edit_line(root, CAM, 8, "0 0 31"),
            "SCENE/cams/00000007_cam.txt: the intrinsic matrix at line 7: focal lengths 0 and 70.56; expected fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy > 0",
        ),
        (
            "negative focal length",
            mvsnet,
            |root| edit_line(root, CAM, 9, "0 -70 31"),
            "SCENE/cams/00000007_cam.txt: the intrinsic matrix at line 7: focal lengths 71.19 and -70; expected fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy > 0",
        ),
        (
            "third row of K",
            mvsnet,
            |root| edit_line(root, CAM, 10, "0 0 0"),
            "SCENE/cams/00000007_cam.txt: the intrinsic matrix at line 7: third row 0 0 0; expected fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy > 0",
        ),
        (
            "below the diagonal",
            mvsnet,
            |root| edit_line(root, CAM, 9, "3 70 31"),
            "SCENE/cams/00000007_cam.txt: the intrinsic matrix at line 7: 3 in the second row's first column; expected fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy > 0",
        ),
        (
            "one depth number",
            mvsnet,
            |root| edit_line(root, CAM, 12, "425"),
            "SCENE/cams/00000007_cam.txt: line 12, depth numbers: `425`; expected near and far, near and interval, near interval planes, near interval planes far, or nothing",
        ),
        (
            "five depth numbers",
            mvsnet,
            |root| edit_line(root, CAM, 12, "425 2.5 192 935 1"),
            "SCENE/cams/00000007_cam.txt: line 12, depth numbers: `425 2.5 192 935 1`; expected at most four numbers: near, interval, number of planes, far",
        ),
        (
            "near 0",
            mvsnet,
            |root| edit_line(root, CAM, 12, "0 5"),
            "SCENE/cams/00000007_cam.txt: line 12, depth numbers: `0 5`; expected 0 < near < far",
        ),
        (
            "negative interval",
            mvsnet,
            |root| edit_line(root, CAM, 12, "425 -2.5"),
            "SCENE/cams/00000007_cam.txt: line 12, depth numbers: `425 -2.5`; expected near > 0 and interval > 0",
        ),
        (
            "far < near",
            mvsnet,
            |root| edit_line(root, CAM, 12, "425 2.5 192 400"),
            "SCENE/cams/00000007_cam.txt: line 12, depth numbers: `425 2.5 192 400`; expected 0 < near < far",
        ),
        (
            "one plane",
            mvsnet,
            |root| edit_line(root, CAM, 12, "425 2.5 1"),
            "SCENE/cams/00000007_cam.txt: line 12, depth numbers: `425 2.5 1`; expected a number of planes of 2 or more as third number",
        ),
        (
            "no interval",
            mvsnet,
            |root| edit_line(root, CAM, 12, "425 0 192"),
            "SCENE/cams/00000007_cam.txt: line 12, depth numbers: `425 0 192`; expected near, interval and number of planes, the interval > 0",
        ),
        (
            "depth NaN",
            mvsnet,
            |root| edit_line(root, CAM, 12, "425 NaN"),
            "SCENE/cams/00000007_cam.txt: line 12: `NaN`; expected a finite number (a depth number)",
        ),
        (
            "not text",
            mvsnet,
            |root| fs::write(root.join(CAM), b"extrinsic \xff\xfe").unwrap(),
            "SCENE/cams/00000007_cam.txt: byte 10 is not text (UTF-8); expected a text file",
        ),
    ]);
}

#[test]
fn broken_pair_txt() {
    const PAIRS: &str = "pair.txt";
    check(&[
        (
            "empty",
            mvsnet,
            |root| fs::write(root.join(PAIRS), "").unwrap(),
            "SCENE/pair.txt: the file is empty; expected the number of views, then two lines for each view",
        ),
        (
            "no count",
            mvsnet,
            |root| edit_line(root, PAIRS, 1, "four"),
            "SCENE/pair.txt: line 1: `four`; expected the number of views",
        ),
        (
            "count too large",
            mvsnet,
            |root| edit_line(root, PAIRS, 1, "18446744073709551615"),
            "SCENE/pair.txt: the file ends after 4 of 18446744073709551615 views; expected two lines for each view",
        ),
        (
            "count too small",
            mvsnet,
            |root| edit_line(root, PAIRS, 1, "3"),
            "SCENE/pair.txt: line 8: `20` after the last view; expected as many views as the first line says",
        ),
        (
            "unknown view",
            mvsnet,
            |root| edit_line(root, PAIRS, 4, "9"),
            "SCENE/pair.txt: line 4: view 9, which has no camera file; expected views of this scene; correct the number, or remove pair.txt to have source views selected",
        ),
        (
            "unknown source view",
            mvsnet,
            |root| edit_line(root, PAIRS, 3, "2 7 93 9 91"),
            "SCENE/pair.txt: line 3: source view 9, which has no camera file; expected views of this scene; correct the number, or remove pair.txt to have source views selected",
        ),
        (
            "number of sources too large",
            mvsnet,
            |root| edit_line(root, PAIRS, 3, "9223372036854775808 7 93"),
            "SCENE/pair.txt: line 3: `9223372036854775808` and 2 numbers after it; expected the number of source views, then a view and a score for each",
        ),
        (
            "score missing",
            mvsnet,
            |root| edit_line(root, PAIRS, 3, "2 7 93 8"),
            "SCENE/pair.txt: line 3: `2` and 3 numbers after it; expected the number of source views, then a view and a score for each",
        ),
        (
            "score is no number",
            mvsnet,
            |root| edit_line(root, PAIRS, 3, "2 7 93 8 best"),
            "SCENE/pair.txt: line 3: `8 best`; expected the number of source views, then a view and a score for each",
        ),
        (
            "view is no number",
            mvsnet,
            |root| edit_line(root, PAIRS, 2, "-1"),
            "SCENE/pair.txt: line 2: `-1`; expected one number, that of a view",
        ),
        (
            "breaks off",
            mvsnet,
            |root| truncate(root, PAIRS, 4),
            "SCENE/pair.txt: the file ends after 0 of 4 views; expected two lines for each view",
        ),
        (
            "a folder",
            mvsnet,
            |root| {
                fs::remove_file(root.join(PAIRS)).unwrap();
                fs::create_dir(root.join(PAIRS)).unwrap();
            },
            "SCENE/pair.txt: cannot read the pair list: Is a directory (os error 21)",
        ),
    ]);
}

const PHOTO: &str = "images/00000007.png";

/// The photo of view 7 as a JPEG of the same pixels.
fn as_jpeg(root: &Path) -> PathBuf {
    let jpeg = root.join("images/00000007.jpg");
    image::open(root.join(PHOTO)).unwrap().save(&jpeg).unwrap();
    fs::remove_file(root.join(PHOTO)).unwrap();
    jpeg
}

#[test]
fn broken_photos() {
    check(&[
        (
            "empty",
            mvsnet,
            |root| fs::write(root.join(PHOTO), "").unwrap(),
            "SCENE/images/00000007.png: the file is empty; expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
        ),
        (
            "text",
            mvsnet,
            |root| fs::write(root.join(PHOTO), "not a photo at all").unwrap(),
            "SCENE/images/00000007.png: it cannot be decoded (The image format could not be determined); expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
        ),
        (
            "truncated PNG",
            mvsnet,
            |root| truncate(root, PHOTO, 200),
            "SCENE/images/00000007.png: it cannot be decoded (unexpected end of file); expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
        ),
        (
            "truncated JPEG",
            mvsnet,
            |root| {
                as_jpeg(root);
                truncate(root, "images/00000007.jpg", 900);
            },
            "SCENE/images/00000007.jpg: the JPEG data breaks off after 900 bytes, before its end marker; expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
        ),
        (
            "JPEG header only",
            mvsnet,
            |root| {
                as_jpeg(root);
                truncate(root, "images/00000007.jpg", 100);
            },
            "SCENE/images/00000007.jpg: it cannot be decoded (Format error decoding Jpeg: I/O errors Not enough bytes, expected 64 but found 56); expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
        ),
        (
            "a JPEG that claims to be huge",
            mvsnet,
            |root| {
                let path = as_jpeg(root);
                let bytes = fs::read(&path).unwrap();
                let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
                patch(root, "images/00000007.jpg", frame + 5, &[0xff, 0xfe, 0xff, 0xfe]);
            },
            "SCENE/images/00000007.jpg: 1030 bytes that claim to be 65534 x 65534 pixels; expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
        ),
        (
            "a PNG of floats",
            mvsnet,
            |root| {
                let floats = image::Rgb32FImage::from_pixel(64, 48, image::Rgb([0.5, 0.5, 0.5]));
                floats.save_with_format(root.join(PHOTO), image::ImageFormat::Tiff).unwrap();
            },
            "SCENE/images/00000007.png: pixels of type Rgb32F; expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
        ),
        (
            "another size",
            binary,
            |root| {
                image::RgbImage::new(32, 24).save(root.join(PHOTO)).unwrap();
            },
            "SCENE/images/00000007.png: 32 x 24 pixels; expected 64 x 48, the size that its camera is for; use the photos that the cameras were made from",
        ),
    ]);
}

#[test]
fn a_photo_that_changes_after_the_scene_was_opened_is_refused() {
    let folder = TempDir::new().unwrap();
    mvsnet(folder.path());
    let scene = Scene::open(folder.path(), &OpenOptions::default()).unwrap();
    image::RgbImage::new(32, 24).save(folder.path().join(PHOTO)).unwrap();
    let message = Photo::load(&scene.views[1], None).unwrap_err().to_string();
    assert_eq!(
        message.replace(&folder.path().display().to_string(), "SCENE"),
        "SCENE/images/00000007.png: 32 x 24 pixels; expected 64 x 48, the size that its camera is for; use the photos that the cameras were made from"
    );
}

#[test]
fn broken_colmap_binaries() {
    check(&[
        (
            "images.bin missing",
            binary,
            |root| fs::remove_file(root.join("sparse/0/images.bin")).unwrap(),
            "SCENE/sparse/0/images.bin: cannot open the COLMAP file: No such file or directory (os error 2)",
        ),
        (
            "cameras.bin missing",
            binary,
            |root| fs::remove_file(root.join("sparse/0/cameras.bin")).unwrap(),
            "SCENE/sparse/0/cameras.bin: cannot open the COLMAP file: No such file or directory (os error 2)",
        ),
        (
            "empty",
            binary,
            |root| fs::write(root.join("sparse/0/cameras.bin"), "").unwrap(),
            "SCENE/sparse/0/cameras.bin: the file is empty; expected a complete COLMAP binary file",
        ),
        (
            "cameras truncated",
            binary,
            |root| truncate(root, "sparse/0/cameras.bin", 230),
            "SCENE/sparse/0/cameras.bin: the file breaks off after 230 bytes, within camera 4 of 4; expected a complete COLMAP binary file",
        ),
        (
            "images truncated in a pose",
            binary,
            |root| truncate(root, "sparse/0/images.bin", 300),
            "SCENE/sparse/0/images.bin: the file breaks off after 300 bytes, within image 3 of 4; expected a complete COLMAP binary file",
        ),
        (
            "images truncated in a name",
            binary,
            |root| truncate(root, "sparse/0/images.bin", 475),
            "SCENE/sparse/0/images.bin: the file breaks off after 475 bytes, within image 4 of 4; expected a complete COLMAP binary file",
        ),
        (
            "points truncated",
            binary,
            |root| truncate(root, "sparse/0/points3D.bin", 12000),
            "SCENE/sparse/0/points3D.bin: byte 11984: a count of 4 observations, with 16 bytes left in the file; expected a complete COLMAP binary file",
        ),
        (
            "a count that lies",
            binary,
            |root| patch(root, "sparse/0/images.bin", 0, &[0xff; 8]),
            "SCENE/sparse/0/images.bin: byte 8: a count of 18446744073709551615 images, with 532 bytes left in the file; expected a complete COLMAP binary file",
        ),
        (
            "a count of points that lies",
            binary,
            |root| patch(root, "sparse/0/points3D.bin", 0, &[0, 0, 0, 0, 1, 0, 0, 0]),
            "SCENE/sparse/0/points3D.bin: byte 8: a count of 4294967296 points, with 15800 bytes left in the file; expected a complete COLMAP binary file",
        ),
        (
            "keypoints that lie",
            binary,
            |root| patch(root, "sparse/0/images.bin", 85, &[0xff; 8]),
            "SCENE/sparse/0/images.bin: byte 93: a count of 18446744073709551615 keypoints, with 447 bytes left in the file; expected a complete COLMAP binary file",
        ),
        (
            "a track that lies",
            binary,
            |root| patch(root, "sparse/0/points3D.bin", 51, &[0, 0, 0, 0xff, 0, 0, 0, 0]),
            "SCENE/sparse/0/points3D.bin: byte 59: a count of 4278190080 observations, with 15749 bytes left in the file; expected a complete COLMAP binary file",
        ),
        (
            "bytes after the end",
            binary,
            |root| {
                let path = root.join("sparse/0/cameras.bin");
                let mut bytes = fs::read(&path).unwrap();
                bytes.extend([0; 5]);
                fs::write(path, bytes).unwrap();
            },
            "SCENE/sparse/0/cameras.bin: byte 232: 5 bytes after the last of 4 cameras; expected the end of the file",
        ),
        (
            "unknown model number",
            binary,
            |root| patch(root, "sparse/0/cameras.bin", 12, &[99, 0, 0, 0]),
            "SCENE/sparse/0/cameras.bin: byte 16: camera 3 of unknown model 99; expected a camera model from 0 to 17",
        ),
        (
            "a model that is not supported",
            |root| {
                with_camera(7, "FOV", &[70.0, 70.0, 32.0, 24.0, 0.9]).write_colmap_binary(root, "sparse/0");
            },
            NOTHING,
            "SCENE/sparse/0/cameras.bin: camera 3: camera model FOV; expected SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, FULL_OPENCV, OPENCV_FISHEYE or SIMPLE_RADIAL_FISHEYE; `colmap image_undistorter` turns the others into PINHOLE",
        ),
        (
            "no name ends",
            binary,
            |root| {
                let mut images = Bytes::counted(1);
                images.u32(3).f64s(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).u32(3).bytes(&[b'a'; 9000]);
                fs::write(root.join("sparse/0/images.bin"), images.0).unwrap();
            },
            "SCENE/sparse/0/images.bin: byte 72: a name of more than 4096 bytes; expected an image's file name",
        ),
        (
            "quaternion 0",
            binary,
            |root| patch(root, "sparse/0/images.bin", 12, &[0; 32]),
            "SCENE/sparse/0/images.bin: image 3: rotation 0 0 0 0; expected a quaternion w x y z of length 1",
        ),
        (
            "quaternion NaN",
            binary,
            |root| patch(root, "sparse/0/images.bin", 12, &[0xff; 32]),
            "SCENE/sparse/0/images.bin: image 3: rotation NaN NaN NaN NaN; expected a quaternion w x y z of length 1",
        ),
        (
            "translation infinite",
            binary,
            |root| patch(root, "sparse/0/images.bin", 52, &f64::INFINITY.to_le_bytes()),
            "SCENE/sparse/0/images.bin: image 3: translation 0.14 inf 3.86; expected finite numbers",
        ),
        (
            "focal length NaN",
            binary,
            |root| patch(root, "sparse/0/cameras.bin", 32, &f64::NAN.to_le_bytes()),
            "SCENE/sparse/0/cameras.bin: camera 3: parameter 1 of 4 is NaN; expected finite numbers",
        ),
        (
            "focal length 0",
            binary,
            |root| patch(root, "sparse/0/cameras.bin", 32, &[0; 8]),
            "SCENE/sparse/0/cameras.bin: camera 3: focal lengths 0 and 70.64; expected fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy > 0",
        ),
        (
            "unknown camera",
            binary,
            |root| patch(root, "sparse/0/images.bin", 68, &[77, 0, 0, 0]),
            "SCENE/sparse/0/images.bin: image 3 of camera 77; expected one of the 4 cameras in sparse/0/cameras.bin",
        ),
        (
            "an image twice",
            binary,
            |root| {
                let bytes = fs::read(root.join("sparse/0/images.bin")).unwrap();
                let entry = (bytes.len() - 8) / 4;
                let twice = [&2u64.to_le_bytes(), &bytes[8..8 + entry], &bytes[8..8 + entry]].concat();
                fs::write(root.join("sparse/0/images.bin"), twice).unwrap();
            },
            "SCENE/sparse/0/images.bin: image 3 for the second time; expected every number once",
        ),
        (
            "frames truncated",
            |root| {
                binary(root);
                TestScene::new().write_rig(&root.join("sparse/0"), true);
            },
            |root| truncate(root, "sparse/0/frames.bin", 100),
            "SCENE/sparse/0/frames.bin: the file breaks off after 100 bytes, within frame 1 of 1; expected a complete COLMAP binary file",
        ),
        (
            "a frame without rotation",
            |root| {
                binary(root);
                TestScene::new().write_rig(&root.join("sparse/0"), true);
            },
            |root| patch(root, "sparse/0/frames.bin", 16, &[0; 32]),
            "SCENE/sparse/0/frames.bin: frame of image 3: rotation 0 0 0 0; expected a quaternion w x y z of length 1",
        ),
        (
            "a camera at infinity in its rig",
            |root| {
                binary(root);
                TestScene::new().write_rig(&root.join("sparse/0"), true);
            },
            |root| patch(root, "sparse/0/rigs.bin", 65, &[0xff; 24]),
            "SCENE/sparse/0/rigs.bin: rig 5, camera 7: translation NaN NaN NaN; expected finite numbers",
        ),
        (
            "a rig of countless sensors",
            |root| {
                binary(root);
                TestScene::new().write_rig(&root.join("sparse/0"), true);
            },
            |root| patch(root, "sparse/0/rigs.bin", 12, &[0xff; 4]),
            "SCENE/sparse/0/rigs.bin: the file breaks off after 219 bytes, within rig 1 of 1; expected a complete COLMAP binary file",
        ),
    ]);
}

#[test]
fn broken_colmap_text() {
    check(&[
        (
            "unknown model",
            text,
            |root| edit(root, "sparse/0/cameras.txt", "PINHOLE", "WIDE"),
            "SCENE/sparse/0/cameras.txt: line 2: camera 3 of unknown model WIDE; expected number, model, width, height and parameters of a camera",
        ),
        (
            "a model that is not supported",
            |root| {
                with_camera(9, "RADIAL_FISHEYE", &[70.0, 32.0, 24.0, 0.1, 0.0])
                    .write_colmap_text(root, "sparse/0");
            },
            NOTHING,
            "SCENE/sparse/0/cameras.txt: camera 3: camera model RADIAL_FISHEYE; expected SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV, FULL_OPENCV, OPENCV_FISHEYE or SIMPLE_RADIAL_FISHEYE; `colmap image_undistorter` turns the others into PINHOLE",
        ),
        (
            "parameters missing",
            text,
            |root| edit_line(root, "sparse/0/cameras.txt", 2, "3 PINHOLE 64 48 71 71 32"),
            "SCENE/sparse/0/cameras.txt: line 2: a line that ends before the camera parameter; expected number, model, width, height and parameters of a camera",
        ),
        (
            "too many parameters",
            text,
            |root| edit_line(root, "sparse/0/cameras.txt", 2, "3 PINHOLE 64 48 71 71 32 24 0"),
            "SCENE/sparse/0/cameras.txt: line 2: `0` after the last value; expected number, model, width, height and parameters of a camera",
        ),
        (
            "a word for a number",
            text,
            |root| edit_line(root, "sparse/0/cameras.txt", 2, "3 PINHOLE 64 high 71 71 32 24"),
            "SCENE/sparse/0/cameras.txt: line 2: `high` as height; expected number, model, width, height and parameters of a camera",
        ),
        (
            "no name",
            text,
            |root| edit_line(root, "sparse/0/images.txt", 2, "3 1 0 0 0 0 0 4 3"),
            "SCENE/sparse/0/images.txt: line 2: a line that ends before the name; expected number, qw qx qy qz, tx ty tz, camera and name of an image",
        ),
        (
            "no pose",
            text,
            |root| edit_line(root, "sparse/0/images.txt", 2, "3 1 0 0"),
            "SCENE/sparse/0/images.txt: line 2: a line that ends before the qz; expected number, qw qx qy qz, tx ty tz, camera and name of an image",
        ),
        (
            "quaternion 0",
            text,
            |root| edit_line(root, "sparse/0/images.txt", 2, "3 0 0 0 0 0 0 4 3 00000003.png"),
            "SCENE/sparse/0/images.txt: image 3: rotation 0 0 0 0; expected a quaternion w x y z of length 1",
        ),
        (
            "keypoints for an image",
            text,
            |root| edit_line(root, "sparse/0/images.txt", 4, "1.5 2.5 -1"),
            "SCENE/sparse/0/images.txt: line 4: `1.5` as image number; expected number, qw qx qy qz, tx ty tz, camera and name of an image",
        ),
        (
            "half an observation",
            text,
            |root| edit_line(root, "sparse/0/points3D.txt", 4, "1 0 0 0 1 2 3 0.5 3 1 7"),
            "SCENE/sparse/0/points3D.txt: line 4: a line that ends before the keypoint index; expected number, x y z, r g b, error and (image, keypoint) pairs of a point",
        ),
        (
            "a colour over 255",
            text,
            |root| edit_line(root, "sparse/0/points3D.txt", 4, "1 0 0 0 1 2 300 0.5 3 1"),
            "SCENE/sparse/0/points3D.txt: line 4: `300` as blue; expected number, x y z, r g b, error and (image, keypoint) pairs of a point",
        ),
        (
            "no images",
            text,
            |root| fs::write(root.join("sparse/0/images.txt"), "# none\n").unwrap(),
            "SCENE: no view with both a photo and a camera; expected at least two views of the same place",
        ),
    ]);
}

/// Whatever the bytes are, the answer is a scene or an error: no panic, no endless loop, no memory that a length asks for.
#[test]
fn damaged_bytes_never_panic() {
    type Files = (fn(&Path), &'static [&'static str]);
    let layouts: [Files; 3] = [
        (mvsnet, &["cams/00000007_cam.txt", "pair.txt", "images/00000007.png"]),
        (
            |root| {
                binary(root);
                TestScene::new().write_rig(&root.join("sparse/0"), true);
            },
            &[
                "sparse/0/cameras.bin",
                "sparse/0/images.bin",
                "sparse/0/points3D.bin",
                "sparse/0/rigs.bin",
                "sparse/0/frames.bin",
            ],
        ),
        (
            |root| {
                text(root);
                TestScene::new().write_rig(&root.join("sparse/0"), false);
            },
            &[
                "sparse/0/cameras.txt",
                "sparse/0/images.txt",
                "sparse/0/points3D.txt",
                "sparse/0/rigs.txt",
                "sparse/0/frames.txt",
            ],
        ),
    ];
    let (mut opened, mut refused) = (0, 0);
    for (write, files) in layouts {
        let folder = TempDir::new().unwrap();
        write(folder.path());
        for file in files {
            let path = folder.path().join(file);
            let whole = fs::read(&path).unwrap();
            let mut use_with = |bytes: &[u8]| {
                fs::write(&path, bytes).unwrap();
                match use_scene(folder.path()) {
                    Ok(()) => opened += 1,
                    Err(error) => {
                        refused += 1;
                        assert!(!error.to_string().contains('\n'), "{error}");
                    }
                }
            };
            for i in 0..40 {
                use_with(&whole[..whole.len() * i / 40]);
            }
            for i in 0..60usize {
                let mut bytes = whole.clone();
                // The first bytes, where the lengths are, and others all over the file.
                let at = if i < 30 { i } else { i * 7919 % bytes.len() };
                bytes[at] = [0xff, 0x00, 0x80, b'9', b' '][i % 5];
                use_with(&bytes);
            }
            fs::write(&path, whole).unwrap();
        }
    }
    // Both happen, so that neither side of the test is empty.
    assert!(opened > 100 && refused > 500, "{opened} opened, {refused} refused");
}
