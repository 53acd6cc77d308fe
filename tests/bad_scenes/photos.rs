//! Photos that cannot be read, or are not the ones that the cameras are for.

use std::fs;
use std::path::{Path, PathBuf};

use engine::scene::photo::Photo;
use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

use super::spoilt_scenes::*;

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
    check(
        mvsnet,
        "SCENE/images/",
        &[
            (
                "empty",
                |root| fs::write(root.join(PHOTO), "").unwrap(),
                "00000007.png: the file is empty; expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits \
                 a channel",
            ),
            (
                "text",
                |root| fs::write(root.join(PHOTO), "not a photo at all").unwrap(),
                "00000007.png: it cannot be decoded (The image format could not be determined); expected a complete \
                 JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
            ),
            (
                "truncated PNG",
                |root| truncate(root, PHOTO, 200),
                "00000007.png: it cannot be decoded (unexpected end of file); expected a complete JPEG, PNG, TIFF or \
                 WebP photo with 8 or 16 bits a channel",
            ),
            (
                "truncated JPEG",
                |root| {
                    as_jpeg(root);
                    truncate(root, "images/00000007.jpg", 900);
                },
                "00000007.jpg: the JPEG data breaks off after 900 bytes, before its end marker; expected a complete \
                 JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
            ),
            (
                "JPEG header only",
                |root| {
                    as_jpeg(root);
                    truncate(root, "images/00000007.jpg", 100);
                },
                "00000007.jpg: it cannot be decoded (Format error decoding Jpeg: I/O errors Not enough bytes, expected \
                 64 but found 56); expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 bits a channel",
            ),
            (
                "a JPEG that claims to be huge",
                |root| {
                    let path = as_jpeg(root);
                    let bytes = fs::read(&path).unwrap();
                    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
                    patch(root, "images/00000007.jpg", frame + 5, &[0xff, 0xfe, 0xff, 0xfe]);
                },
                "00000007.jpg: 1030 bytes that claim to be 65534 x 65534 pixels; expected a complete JPEG, PNG, TIFF \
                 or WebP photo with 8 or 16 bits a channel",
            ),
            (
                "a JPEG that claims more than its bits can tell",
                |root| {
                    let path = as_jpeg(root);
                    let bytes = fs::read(&path).unwrap();
                    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
                    patch(root, "images/00000007.jpg", frame + 5, &[0x04, 0x00, 0x04, 0x00]);
                },
                "00000007.jpg: 1030 bytes that claim to be 1024 x 1024 pixels; expected a complete JPEG, PNG, TIFF or \
                 WebP photo with 8 or 16 bits a channel",
            ),
            (
                "a PNG of floats",
                |root| {
                    let floats = image::Rgb32FImage::from_pixel(64, 48, image::Rgb([0.5, 0.5, 0.5]));
                    floats.save_with_format(root.join(PHOTO), image::ImageFormat::Tiff).unwrap();
                },
                "00000007.png: pixels of type Rgb32F; expected a complete JPEG, PNG, TIFF or WebP photo with 8 or 16 \
                 bits a channel",
            ),
        ],
    );
    check(
        binary,
        "",
        &[(
            "another size",
            |root| {
                image::RgbImage::new(32, 24).save(root.join(PHOTO)).unwrap();
            },
            "SCENE/images/00000007.png: 32 x 24 pixels; expected 64 x 48, the size that its camera is for; use the \
             photos that the cameras were made from",
        )],
    );
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
        "SCENE/images/00000007.png: 32 x 24 pixels; expected 64 x 48, the size that its camera is for; use the photos \
         that the cameras were made from"
    );
}
