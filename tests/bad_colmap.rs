//! COLMAP models that are broken in one place each, and the one line that says so.

use std::fs;
use std::path::Path;

#[path = "support/scene_files.rs"]
mod scene_files;
#[path = "support/spoilt_scenes.rs"]
mod spoilt_scenes;
use scene_files::{Bytes, TestScene};
use spoilt_scenes::*;

fn with_rig(root: &Path) {
    binary(root);
    TestScene::new().write_rig(&root.join("sparse/0"), true);
}

#[test]
fn broken_colmap_binaries() {
    check(
        binary,
        "SCENE/sparse/0/",
        &[
            (
                "images.bin missing",
                |root| fs::remove_file(root.join("sparse/0/images.bin")).unwrap(),
                "images.bin: cannot open the COLMAP file: No such file or directory (os error 2)",
            ),
            (
                "cameras.bin missing",
                |root| fs::remove_file(root.join("sparse/0/cameras.bin")).unwrap(),
                "cameras.bin: cannot open the COLMAP file: No such file or directory (os error 2)",
            ),
            (
                "empty",
                |root| fs::write(root.join("sparse/0/cameras.bin"), "").unwrap(),
                "cameras.bin: the file is empty; expected a complete COLMAP binary file",
            ),
            (
                "cameras truncated",
                |root| truncate(root, "sparse/0/cameras.bin", 230),
                "cameras.bin: the file breaks off after 230 bytes, within camera 4 of 4; expected a complete COLMAP \
                 binary file",
            ),
            (
                "images truncated in a pose",
                |root| truncate(root, "sparse/0/images.bin", 300),
                "images.bin: the file breaks off after 300 bytes, within image 3 of 4; expected a complete COLMAP \
                 binary file",
            ),
            (
                "images truncated in a name",
                |root| truncate(root, "sparse/0/images.bin", 475),
                "images.bin: the file breaks off after 475 bytes, within image 4 of 4; expected a complete COLMAP \
                 binary file",
            ),
            (
                "points truncated",
                |root| truncate(root, "sparse/0/points3D.bin", 12000),
                "points3D.bin: byte 11984: a count of 4 observations, with 16 bytes left in the file; expected a \
                 complete COLMAP binary file",
            ),
            (
                "a count that lies",
                |root| patch(root, "sparse/0/images.bin", 0, &[0xff; 8]),
                "images.bin: byte 8: a count of 18446744073709551615 images, with 532 bytes left in the file; expected \
                 a complete COLMAP binary file",
            ),
            (
                "a count of points that lies",
                |root| patch(root, "sparse/0/points3D.bin", 0, &[0, 0, 0, 0, 1, 0, 0, 0]),
                "points3D.bin: byte 8: a count of 4294967296 points, with 15800 bytes left in the file; expected a \
                 complete COLMAP binary file",
            ),
            (
                "keypoints that lie",
                |root| patch(root, "sparse/0/images.bin", 85, &[0xff; 8]),
                "images.bin: byte 93: a count of 18446744073709551615 keypoints, with 447 bytes left in the file; \
                 expected a complete COLMAP binary file",
            ),
            (
                "a track that lies",
                |root| patch(root, "sparse/0/points3D.bin", 51, &[0, 0, 0, 0xff, 0, 0, 0, 0]),
                "points3D.bin: byte 59: a count of 4278190080 observations, with 15749 bytes left in the file; \
                 expected a complete COLMAP binary file",
            ),
            (
                "bytes after the end",
                |root| {
                    let path = root.join("sparse/0/cameras.bin");
                    let mut bytes = fs::read(&path).unwrap();
                    bytes.extend([0; 5]);
                    fs::write(path, bytes).unwrap();
                },
                "cameras.bin: byte 232: 5 bytes after the last of 4 cameras; expected the end of the file",
            ),
            (
                "unknown model number",
                |root| patch(root, "sparse/0/cameras.bin", 12, &[99, 0, 0, 0]),
                "cameras.bin: byte 16: camera 3 of unknown model 99; expected a camera model from 0 to 17",
            ),
            (
                "no name ends",
                |root| {
                    let mut images = Bytes::counted(1);
                    images.u32(3).f64s(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).u32(3).bytes(&[b'a'; 9000]);
                    fs::write(root.join("sparse/0/images.bin"), images.0).unwrap();
                },
                "images.bin: byte 72: a name of more than 4096 bytes; expected an image's file name",
            ),
            (
                "quaternion 0",
                |root| patch(root, "sparse/0/images.bin", 12, &[0; 32]),
                "images.bin: image 3: rotation 0 0 0 0; expected a quaternion w x y z of length 1",
            ),
            (
                "quaternion NaN",
                |root| patch(root, "sparse/0/images.bin", 12, &[0xff; 32]),
                "images.bin: image 3: rotation NaN NaN NaN NaN; expected a quaternion w x y z of length 1",
            ),
            (
                "translation infinite",
                |root| patch(root, "sparse/0/images.bin", 52, &f64::INFINITY.to_le_bytes()),
                "images.bin: image 3: translation 0.14 inf 3.86; expected finite numbers",
            ),
            (
                "focal length NaN",
                |root| patch(root, "sparse/0/cameras.bin", 32, &f64::NAN.to_le_bytes()),
                "cameras.bin: camera 3: parameter 1 of 4 is NaN; expected finite numbers",
            ),
            (
                "focal length 0",
                |root| patch(root, "sparse/0/cameras.bin", 32, &[0; 8]),
                "cameras.bin: camera 3: focal lengths 0 and 70.64; expected fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy \
                 > 0",
            ),
            (
                "unknown camera",
                |root| patch(root, "sparse/0/images.bin", 68, &[77, 0, 0, 0]),
                "images.bin: image 3 of camera 77; expected one of the 4 cameras in sparse/0/cameras.bin",
            ),
            (
                "an image twice",
                |root| {
                    let bytes = fs::read(root.join("sparse/0/images.bin")).unwrap();
                    let entry = (bytes.len() - 8) / 4;
                    let twice = [&2u64.to_le_bytes(), &bytes[8..8 + entry], &bytes[8..8 + entry]].concat();
                    fs::write(root.join("sparse/0/images.bin"), twice).unwrap();
                },
                "images.bin: image 3 for the second time; expected every number once",
            ),
        ],
    );
    check(
        NOTHING,
        "",
        &[(
            "a camera that claims to be huge",
            |root| {
                with_camera(2, "SIMPLE_RADIAL", &[70.0, 32.0, 24.0, 0.1]).write_colmap_binary(root, "sparse/0");
                patch(root, "sparse/0/cameras.bin", 16, &[0xff; 8]);
            },
            "SCENE/images/00000003.png: 64 x 48 pixels; expected 18446744073709551615 x 48, the size that its \
                 camera is for; use the photos that the cameras were made from",
        )],
    );
    check(
        with_rig,
        "SCENE/sparse/0/",
        &[
            (
                "frames truncated",
                |root| truncate(root, "sparse/0/frames.bin", 100),
                "frames.bin: the file breaks off after 100 bytes, within frame 1 of 1; expected a complete COLMAP \
                 binary file",
            ),
            (
                "a frame without rotation",
                |root| patch(root, "sparse/0/frames.bin", 16, &[0; 32]),
                "frames.bin: frame of image 3: rotation 0 0 0 0; expected a quaternion w x y z of length 1",
            ),
            (
                "a camera at infinity in its rig",
                |root| patch(root, "sparse/0/rigs.bin", 65, &[0xff; 24]),
                "rigs.bin: rig 5, camera 7: translation NaN NaN NaN; expected finite numbers",
            ),
            (
                "a rig of countless sensors",
                |root| patch(root, "sparse/0/rigs.bin", 12, &[0xff; 4]),
                "rigs.bin: the file breaks off after 219 bytes, within rig 1 of 1; expected a complete COLMAP binary \
                 file",
            ),
        ],
    );
}

#[test]
fn broken_colmap_text() {
    check(
        text,
        "SCENE/sparse/0/",
        &[
            (
                "unknown model",
                |root| edit(root, "sparse/0/cameras.txt", "PINHOLE", "WIDE"),
                "cameras.txt: line 2: camera 3 of unknown model WIDE; expected number, model, width, height and \
                 parameters of a camera",
            ),
            (
                "parameters missing",
                |root| edit_line(root, "sparse/0/cameras.txt", 2, "3 PINHOLE 64 48 71 71 32"),
                "cameras.txt: line 2: a line that ends before the camera parameter; expected number, model, width, \
                 height and parameters of a camera",
            ),
            (
                "too many parameters",
                |root| edit_line(root, "sparse/0/cameras.txt", 2, "3 PINHOLE 64 48 71 71 32 24 0"),
                "cameras.txt: line 2: `0` after the last value; expected number, model, width, height and parameters \
                 of a camera",
            ),
            (
                "a word for a number",
                |root| edit_line(root, "sparse/0/cameras.txt", 2, "3 PINHOLE 64 high 71 71 32 24"),
                "cameras.txt: line 2: `high` as height; expected number, model, width, height and parameters of a \
                 camera",
            ),
            (
                "no name",
                |root| edit_line(root, "sparse/0/images.txt", 2, "3 1 0 0 0 0 0 4 3"),
                "images.txt: line 2: a line that ends before the name; expected number, qw qx qy qz, tx ty tz, camera \
                 and name of an image",
            ),
            (
                "no pose",
                |root| edit_line(root, "sparse/0/images.txt", 2, "3 1 0 0"),
                "images.txt: line 2: a line that ends before the qz; expected number, qw qx qy qz, tx ty tz, camera \
                 and name of an image",
            ),
            (
                "quaternion 0",
                |root| edit_line(root, "sparse/0/images.txt", 2, "3 0 0 0 0 0 0 4 3 00000003.png"),
                "images.txt: image 3: rotation 0 0 0 0; expected a quaternion w x y z of length 1",
            ),
            (
                "keypoints for an image",
                |root| edit_line(root, "sparse/0/images.txt", 4, "1.5 2.5 -1"),
                "images.txt: line 4: `1.5` as image number; expected number, qw qx qy qz, tx ty tz, camera and name of \
                 an image",
            ),
            (
                "half an observation",
                |root| edit_line(root, "sparse/0/points3D.txt", 4, "1 0 0 0 1 2 3 0.5 3 1 7"),
                "points3D.txt: line 4: a line that ends before the keypoint index; expected number, x y z, r g b, \
                 error and (image, keypoint) pairs of a point",
            ),
            (
                "a colour that is no number",
                |root| edit_line(root, "sparse/0/points3D.txt", 4, "1 0 0 0 1 2 pink 0.5 3 1"),
                "points3D.txt: line 4: `pink` as blue; expected number, x y z, r g b, error and (image, keypoint) \
                 pairs of a point",
            ),
        ],
    );
    check(
        NOTHING,
        "",
        &[(
            "no images",
            |root| {
                text(root);
                fs::write(root.join("sparse/0/images.txt"), "# none\n").unwrap();
            },
            "SCENE: no view with both a photo and a camera; expected at least two views of the same place",
        )],
    );
}
