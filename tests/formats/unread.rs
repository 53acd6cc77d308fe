//! Photos in formats that are not read: one line with the format and the command that converts them.

use std::fs;
use std::path::Path;

use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

use crate::format_files::put;
use crate::format_trees::frames;
use crate::scene_files::TestScene;

const HEIC: &[u8] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
const CR2: &[u8] = b"II*\0\x10\0\0\0CR\x02\0 and more";
const FIRST: &str = "images/00000003";

fn refused(root: &Path) -> String {
    let text = Scene::open(root, &OpenOptions::default()).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

/// Writes a scene in a layout.
type Write = fn(&TestScene, &Path);

/// Every photo under another ending, with these bytes.
fn replace_all(root: &Path, extension: &str, bytes: &[u8]) {
    for view in TestScene::new().views {
        let photo = root.join("images").join(&view.file);
        fs::remove_file(&photo).unwrap();
        put(&photo.with_extension(extension), bytes);
    }
}

#[test]
fn photos_that_are_not_read_are_told_with_what_converts_them() {
    let scene = TestScene::new();
    let layouts: [(&str, Write); 4] = [
        ("MVSNet", |scene, root| scene.write_mvsnet(root, "2 6")),
        ("COLMAP", |scene, root| {
            scene.write_colmap_text(root, "sparse/0");
            let images = root.join("sparse/0/images.txt");
            fs::write(&images, fs::read_to_string(&images).unwrap().replace(".png", ".heic")).unwrap();
        }),
        ("photos alone", |scene, root| scene.write_photos(root)),
        ("transforms.json", |scene, root| {
            scene.write_photos(root);
            put(&root.join("transforms.json"), frames(scene).to_string().replace(".png", ".heic"));
        }),
    ];
    for (name, write) in layouts {
        let folder = TempDir::new().unwrap();
        let root = folder.path();
        write(&scene, root);
        replace_all(root, "heic", HEIC);
        let text = refused(root);
        let (from, to) = (root.join(format!("{FIRST}.heic")), root.join(format!("{FIRST}.png")));
        let (from, to) = (from.display(), to.display());
        let expected = format!(
            "{from}: a HEIC photo; expected a JPEG, PNG, TIFF or WebP photo: `heif-convert -q 100 {from} {to}` \
             (libheif) converts it; a build with the feature `heif` reads it"
        );
        assert_eq!(text, expected, "{name}");
    }
}

#[test]
fn the_bytes_tell_not_the_name() {
    let folder = TempDir::new().unwrap();
    let root = folder.path();
    TestScene::new().write_mvsnet(root, "2 6");
    // Beside the photos that were made of them such files are nobody's business.
    for extension in ["CR2", "heic", "raf"] {
        put(&root.join(format!("{FIRST}.{extension}")), CR2);
    }
    Scene::open(root, &OpenOptions::default()).unwrap();
    put(&root.join(format!("{FIRST}.png")), CR2);
    let text = refused(root);
    assert!(text.contains("00000003.png: a CR2 file (Canon raw); expected"), "{text}");
    assert!(text.contains("`dcraw_emu -w -T -t 0 "), "{text}");
    // A name alone is no format.
    fs::remove_file(root.join(format!("{FIRST}.png"))).unwrap();
    replace_all_but_first(root);
    let text = refused(root);
    assert!(text.contains("no photos; expected JPEG, PNG, TIFF or WebP files"), "{text}");
}

fn replace_all_but_first(root: &Path) {
    for name in ["CR2", "heic", "raf"] {
        put(&root.join(format!("{FIRST}.{name}")), b"nothing that is known");
    }
    for view in &TestScene::new().views[1..] {
        fs::remove_file(root.join("images").join(&view.file)).unwrap();
    }
}
