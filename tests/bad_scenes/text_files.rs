//! The text files of the MVSNet layout: cameras and pair list.

use std::fs;

use super::spoilt_scenes::*;

const CAM: &str = "cams/00000007_cam.txt";

#[test]
fn broken_cam_txt() {
    check(
        mvsnet,
        "SCENE/cams/00000007_cam.txt: ",
        &[
            (
                "empty",
                |root| fs::write(root.join(CAM), "").unwrap(),
                "the file ends before `extrinsic`; expected the word `extrinsic` and 16 numbers after it, row by row",
            ),
            (
                "no extrinsic",
                |root| edit(root, CAM, "extrinsic", "extr"),
                "line 1: `extr`; expected the word `extrinsic` and 16 numbers after it, row by row",
            ),
            (
                "no intrinsic",
                |root| edit(root, CAM, "intrinsic", " "),
                "line 8: `71.19`; expected the word `intrinsic` and 9 numbers after it, row by row",
            ),
            (
                "breaks off",
                |root| {
                    let text = fs::read_to_string(root.join(CAM)).unwrap();
                    fs::write(root.join(CAM), &text[..text.find("0.0 0.0").unwrap()]).unwrap();
                },
                "the file ends after 12 numbers of the extrinsic matrix; expected the word `extrinsic` and 16 numbers \
                 after it, row by row",
            ),
            (
                "a word for a number",
                |root| edit_line(root, CAM, 2, "1 0 x 0"),
                "line 2: `x`; expected a finite number (number 3 of 16 of the extrinsic matrix)",
            ),
            (
                "NaN",
                |root| edit_line(root, CAM, 2, "1 0 nan 0"),
                "line 2: `nan`; expected a finite number (number 3 of 16 of the extrinsic matrix)",
            ),
            (
                "infinite translation",
                |root| edit_line(root, CAM, 2, "1 0 0 inf"),
                "line 2: `inf`; expected a finite number (number 4 of 16 of the extrinsic matrix)",
            ),
            (
                "not a rotation",
                |root| edit_line(root, CAM, 2, "2 0 0 0"),
                "the extrinsic matrix at line 1: not a rotation: R times its transpose differs from the identity by \
                 3.000; expected a rotation (orthonormal, determinant 1), world to camera",
            ),
            (
                "singular",
                |root| {
                    edit_line(root, CAM, 2, "0 0 0 0");
                    edit_line(root, CAM, 3, "0 0 0 0");
                    edit_line(root, CAM, 4, "0 0 0 0");
                },
                "the extrinsic matrix at line 1: not a rotation: R times its transpose differs from the identity by \
                 1.000; expected a rotation (orthonormal, determinant 1), world to camera",
            ),
            (
                "mirrored",
                |root| {
                    edit_line(root, CAM, 2, "1 0 0 0");
                    edit_line(root, CAM, 3, "0 1 0 0");
                    edit_line(root, CAM, 4, "0 0 -1 0");
                },
                "the extrinsic matrix at line 1: a mirroring (determinant -1); expected a rotation (orthonormal, \
                 determinant 1), world to camera",
            ),
            (
                "last row",
                |root| edit(root, CAM, "0.0 0.0 0.0 1.0", "0 0 0 2"),
                "the extrinsic matrix at line 1: last row 0 0 0 2; expected 0 0 0 1: the matrix must be a rotation and \
                 a translation, world to camera",
            ),
            (
                "focal length 0",
                |root| edit_line(root, CAM, 8, "0 0 31"),
                "the intrinsic matrix at line 7: focal lengths 0 and 70.56; expected fx s cx, 0 fy cy, 0 0 1 with fx > \
                 0 and fy > 0",
            ),
            (
                "negative focal length",
                |root| edit_line(root, CAM, 9, "0 -70 31"),
                "the intrinsic matrix at line 7: focal lengths 71.19 and -70; expected fx s cx, 0 fy cy, 0 0 1 with fx \
                 > 0 and fy > 0",
            ),
            (
                "third row of K",
                |root| edit_line(root, CAM, 10, "0 0 0"),
                "the intrinsic matrix at line 7: third row 0 0 0; expected fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy \
                 > 0",
            ),
            (
                "below the diagonal",
                |root| edit_line(root, CAM, 9, "3 70 31"),
                "the intrinsic matrix at line 7: 3 in the second row's first column; expected fx s cx, 0 fy cy, 0 0 1 \
                 with fx > 0 and fy > 0",
            ),
            (
                "one depth number",
                |root| edit_line(root, CAM, 12, "425"),
                "line 12, depth numbers: `425`; expected near and far, near and interval, near interval planes, near \
                 interval planes far, or nothing",
            ),
            (
                "five depth numbers",
                |root| edit_line(root, CAM, 12, "425 2.5 192 935 1"),
                "line 12, depth numbers: `425 2.5 192 935 1`; expected at most four numbers: near, interval, number of \
                 planes, far",
            ),
            (
                "near 0",
                |root| edit_line(root, CAM, 12, "0 5"),
                "line 12, depth numbers: `0 5`; expected 0 < near < far, or the option --range, which \
                 replaces them",
            ),
            (
                "negative interval",
                |root| edit_line(root, CAM, 12, "425 -2.5"),
                "line 12, depth numbers: `425 -2.5`; expected near > 0 and interval > 0, or the option \
                 --range, which replaces them",
            ),
            (
                "far < near",
                |root| edit_line(root, CAM, 12, "425 2.5 192 400"),
                "line 12, depth numbers: `425 2.5 192 400`; expected 0 < near < far, or the option --range, which \
                 replaces them",
            ),
            (
                "one plane",
                |root| edit_line(root, CAM, 12, "425 2.5 1"),
                "line 12, depth numbers: `425 2.5 1`; expected a number of planes of 2 or more as third number",
            ),
            (
                "no interval",
                |root| edit_line(root, CAM, 12, "425 0 192"),
                "line 12, depth numbers: `425 0 192`; expected near, interval and number of planes, the interval > 0",
            ),
            (
                "depth NaN",
                |root| edit_line(root, CAM, 12, "425 NaN"),
                "line 12: `NaN`; expected a finite number (a depth number)",
            ),
            (
                "not text",
                |root| fs::write(root.join(CAM), b"extrinsic \xff\xfe").unwrap(),
                "byte 10 is not text (UTF-8); expected a text file",
            ),
        ],
    );
}

#[test]
fn broken_pair_txt() {
    const PAIRS: &str = "pair.txt";
    check(
        mvsnet,
        "SCENE/pair.txt: ",
        &[
            (
                "empty",
                |root| fs::write(root.join(PAIRS), "").unwrap(),
                "the file is empty; expected the number of views, then two lines for each view",
            ),
            ("no count", |root| edit_line(root, PAIRS, 1, "four"), "line 1: `four`; expected the number of views"),
            (
                "count too large",
                |root| edit_line(root, PAIRS, 1, "18446744073709551615"),
                "the file ends after 4 of 18446744073709551615 views; expected two lines for each view",
            ),
            (
                "count too small",
                |root| edit_line(root, PAIRS, 1, "3"),
                "line 8: `20` after the last view; expected as many views as the first line says",
            ),
            (
                "unknown view",
                |root| edit_line(root, PAIRS, 4, "9"),
                "line 4: view 9, which has no camera; expected views of this scene; correct the number, or remove \
                 pair.txt to have source views selected",
            ),
            (
                "unknown source view",
                |root| edit_line(root, PAIRS, 3, "2 7 93 9 91"),
                "line 3: source view 9, which has no camera; expected views of this scene; correct the number, or \
                 remove pair.txt to have source views selected",
            ),
            (
                "number of sources too large",
                |root| edit_line(root, PAIRS, 3, "9223372036854775808 7 93"),
                "line 3: `9223372036854775808` and 2 numbers after it; expected the number of source views, then a \
                 view and a score for each",
            ),
            (
                "score missing",
                |root| edit_line(root, PAIRS, 3, "2 7 93 8"),
                "line 3: `2` and 3 numbers after it; expected the number of source views, then a view and a score for \
                 each",
            ),
            (
                "score is no number",
                |root| edit_line(root, PAIRS, 3, "2 7 93 8 best"),
                "line 3: `8 best`; expected the number of source views, then a view and a score for each",
            ),
            (
                "view is no number",
                |root| edit_line(root, PAIRS, 2, "-1"),
                "line 2: `-1`; expected one number, that of a view",
            ),
            (
                "breaks off",
                |root| truncate(root, PAIRS, 4),
                "the file ends after 0 of 4 views; expected two lines for each view",
            ),
            (
                "a folder",
                |root| {
                    fs::remove_file(root.join(PAIRS)).unwrap();
                    fs::create_dir(root.join(PAIRS)).unwrap();
                },
                "cannot read the pair list: Is a directory (os error 21)",
            ),
            #[cfg(unix)]
            (
                "a pair list that is a device",
                |root| {
                    fs::remove_file(root.join("pair.txt")).unwrap();
                    std::os::unix::fs::symlink("/dev/null", root.join("pair.txt")).unwrap();
                },
                "a pipe, socket or device; expected a regular file",
            ),
        ],
    );
}
