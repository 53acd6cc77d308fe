//! COLMAP models, binary and text.

use std::fs;
use std::path::Path;

use crate::scene_files::{Bytes, TestScene};
use crate::spoilt_scenes::{edit, edit_line, patch, truncate};
use crate::table::{Case, Group, spoilt};

const INFER: &str = "infer scene -o out --levels 1 --resolution quarter --planes 8 --threads 1";
const CAMERAS: &str = "scene/sparse/0/cameras.bin";
const IMAGES: &str = "scene/sparse/0/images.bin";
const CAMERA_LINES: &str = "scene/sparse/0/cameras.txt";
const IMAGE_LINES: &str = "scene/sparse/0/images.txt";
const POINT_LINES: &str = "scene/sparse/0/points3D.txt";

pub fn groups() -> Vec<Group> {
    vec![models(), binaries(), lines()]
}

fn scene(root: &Path) -> TestScene {
    fs::create_dir_all(root.join("scene")).unwrap();
    TestScene::new()
}

fn binary(root: &Path) {
    scene(root).write_colmap_binary(&root.join("scene"), "sparse/0");
}

fn text(root: &Path) {
    scene(root).write_colmap_text(&root.join("scene"), "sparse/0");
}

fn models() -> Group {
    let photos = "put the photos there, under the names in the model";
    fn remove_photos(root: &Path, ids: &[u32]) {
        ids.iter().for_each(|id| fs::remove_file(root.join(format!("scene/images/{id:08}.png"))).unwrap());
    }
    let cases = vec![
        spoilt(photos, |root| fs::remove_dir_all(root.join("scene/images")).unwrap()),
        spoilt(photos, |root| remove_photos(root, &[7, 8, 20])),
        spoilt("copy the whole model", |root| fs::remove_file(root.join(IMAGES)).unwrap()),
        Case {
            write: Some(text),
            ..spoilt("export the whole model", |root| fs::write(root.join(IMAGE_LINES), "# none\n").unwrap())
        },
        spoilt("export the model again", |root| patch(root, IMAGES, 68, &[77, 0, 0, 0])),
        spoilt("export the model again", |root| {
            let bytes = fs::read(root.join(IMAGES)).unwrap();
            let entry = (bytes.len() - 8) / 4;
            let twice = [&2u64.to_le_bytes(), &bytes[8..8 + entry], &bytes[8..8 + entry]].concat();
            fs::write(root.join(IMAGES), twice).unwrap();
        }),
        spoilt("export the model again", |root| patch(root, IMAGES, 12, &[0; 32])),
        spoilt("export the model again", |root| patch(root, IMAGES, 52, &f64::INFINITY.to_le_bytes())),
        spoilt("export the model again", |root| patch(root, CAMERAS, 32, &f64::NAN.to_le_bytes())),
        spoilt("export the model again", |root| patch(root, CAMERAS, 32, &[0; 8])),
        Case {
            write: Some(|root| {
                binary(root);
                TestScene::new().write_rig(&root.join("scene/sparse/0"), true);
            }),
            ..spoilt("export the model again", |root| patch(root, "scene/sparse/0/rigs.bin", 65, &[0xff; 24]))
        },
    ];
    Group { title: "COLMAP models", advice: "", write: binary, run: INFER, cases }
}

fn binaries() -> Group {
    let cases = vec![
        spoilt("", |root| fs::write(root.join(CAMERAS), "").unwrap()),
        spoilt("", |root| truncate(root, CAMERAS, 230)),
        spoilt("", |root| truncate(root, CAMERAS, 4)),
        spoilt("", |root| patch(root, IMAGES, 0, &[0xff; 8])),
        spoilt("", |root| {
            let mut bytes = fs::read(root.join(CAMERAS)).unwrap();
            bytes.extend([0; 5]);
            fs::write(root.join(CAMERAS), bytes).unwrap();
        }),
        spoilt("", |root| patch(root, CAMERAS, 12, &[99, 0, 0, 0])),
        spoilt("", |root| {
            let mut images = Bytes::counted(1);
            images.u32(3).f64s(&[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).u32(3).bytes(&[b'a'; 9000]);
            fs::write(root.join(IMAGES), images.0).unwrap();
        }),
    ];
    Group {
        title: "COLMAP's binary files",
        advice: "copy the file again, or export the model again",
        write: binary,
        run: INFER,
        cases,
    }
}

fn lines() -> Group {
    let cases = vec![
        spoilt("", |root| edit(root, CAMERA_LINES, "PINHOLE", "WIDE")),
        spoilt("", |root| edit_line(root, CAMERA_LINES, 2, "3 PINHOLE 64 48 71 71 32")),
        spoilt("", |root| edit_line(root, CAMERA_LINES, 2, "3 PINHOLE 64 48 71 71 32 24 0")),
        spoilt("", |root| edit_line(root, CAMERA_LINES, 2, "3 PINHOLE 64 high 71 71 32 24")),
        spoilt("", |root| edit_line(root, IMAGE_LINES, 2, "3 1 0 0 0 0 0 4 3")),
        spoilt("", |root| edit_line(root, IMAGE_LINES, 4, "1.5 2.5 -1")),
        spoilt("", |root| edit_line(root, POINT_LINES, 4, "1 0 0 0 1 2 3 0.5 3 1 7")),
        spoilt("", |root| edit_line(root, POINT_LINES, 4, "1 0 0 0 1 2 pink 0.5 3 1")),
        spoilt("", |root| fs::write(root.join(POINT_LINES), b"1 0 0 0 \xff").unwrap()),
    ];
    Group {
        title: "COLMAP's text files",
        advice: "correct the line, or export the model again",
        write: text,
        run: INFER,
        cases,
    }
}
