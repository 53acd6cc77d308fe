//! Scenes that are broken in one place each, and the one line that says so: folders, the MVSNet layout, photos; and
//! damage all over every file. COLMAP models: `bad_colmap.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

#[path = "support/scene_files.rs"]
mod scene_files;
#[path = "support/spoilt_scenes.rs"]
mod spoilt_scenes;
use scene_files::TestScene;
use spoilt_scenes::*;

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
                    fs::rename(root.join(format!("images/{id:08}.png")), root.join(format!("images/{id}.png")))
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
                    fs::rename(root.join(format!("images/{id:08}.png")), root.join(format!("images/{name}.png")))
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
        #[cfg(unix)]
        (
            "a pair list that is a device",
            mvsnet,
            |root| {
                fs::remove_file(root.join("pair.txt")).unwrap();
                std::os::unix::fs::symlink("/dev/null", root.join("pair.txt")).unwrap();
            },
            "SCENE/pair.txt: a pipe, socket or device; expected a regular file",
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
            "a JPEG that claims more than its bits can tell",
            mvsnet,
            |root| {
                let path = as_jpeg(root);
                let bytes = fs::read(&path).unwrap();
                let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
                patch(root, "images/00000007.jpg", frame + 5, &[0x04, 0x00, 0x04, 0x00]);
            },
            "SCENE/images/00000007.jpg: 1030 bytes that claim to be 1024 x 1024 pixels; expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
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

/// Whatever the bytes are, the answer is a scene or an error: no panic, no endless loop, no memory that a length asks
/// for.
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
