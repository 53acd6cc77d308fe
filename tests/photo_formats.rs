//! HEIC, AVIF and JPEG XL (features `heif` and `jxl`): files that foreign encoders wrote against what foreign decoders
//! see in them (`tools/make_photo_goldens.py`), as scenes, and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use engine::files::image::{self, Header, Pixels};
use engine::scene::{OpenOptions, Scene};
use tempfile::TempDir;

#[path = "support/scene_files.rs"]
mod scene_files;

fn goldens() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/photos");
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending != "png"));
    files.sort();
    assert_eq!(files.len(), 25);
    files
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

/// How far a decoder may be from another one, of 255.
fn tolerance(name: &str) -> f32 {
    match name {
        // Sums of cosines in floats, by two decoders: rounded either way.
        "jxl_lossy" | "jxl_jpeg_turned" => 1.0,
        // From 10 and 12 bits to 16 by way of floats: half of the last bit either way.
        "jxl_rgb10" | "jxl_rgb12" => 255.0 / 65535.0,
        // libheif and libavif make colours of YCbCr by arithmetic of their own.
        "avif_turned" => 1.0,
        // Coded without loss, or decoded by the same library.
        _ => 0.0,
    }
}

#[test]
fn pixels_are_those_that_foreign_decoders_see() {
    for file in goldens() {
        let (name, tolerance) = (name(&file), tolerance(&name(&file)));
        let found = image::read(&file).unwrap_or_else(|e| panic!("{e}"));
        let expected = image::read(&file.with_extension("png")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found.size, expected.size, "{name}");
        let largest = |a: &[f32], b: &[f32]| {
            assert_eq!(a.len(), b.len(), "{name}");
            a.iter().zip(b).map(|(a, b)| 255.0 * (a - b).abs()).fold(0.0, f32::max)
        };
        let colours = largest(&found.rgb, &expected.rgb);
        let alpha = match (&found.alpha, &expected.alpha) {
            (Some(found), Some(expected)) => largest(found, expected),
            (None, None) => 0.0,
            (found, expected) => panic!("{name}: {} {}", found.is_some(), expected.is_some()),
        };
        println!("{name}: {colours} {alpha}");
        assert!(colours <= tolerance + 1e-4 && alpha <= 0.0, "{name}: off by {colours} and {alpha} of 255");
        // The pictures are none that anything passes for: they use all values.
        let (low, high) = found.rgb.iter().fold((1f32, 0f32), |(low, high), &v| (low.min(v), high.max(v)));
        assert!(low < 0.03 && high > 0.97, "{name}: {low} to {high}");
    }
}

#[test]
fn headers_tell_what_the_pixels_are() {
    for file in goldens() {
        let Header { size, rotated, has_alpha } = image::header(&file).unwrap();
        let (name, Pixels { size: decoded, alpha, .. }) = (name(&file), image::read(&file).unwrap());
        assert_eq!((size, has_alpha), (decoded, alpha.is_some()), "{name}");
        // Three are turned by what the image itself says, which decoders obey; their EXIF says so once more.
        let upright = image::header(&file.with_extension("png")).unwrap().size;
        assert_eq!(size, upright, "{name}");
        assert_eq!(size.0 < size.1, name.ends_with("turned"), "{name}");
        assert!(!rotated, "{name}");
        assert_eq!(has_alpha, name.contains('a') && (name.contains("rgba") || name.ends_with("greya")), "{name}");
    }
}

/// A scene's photos under another ending, with the bytes of a file.
#[test]
fn scenes_take_such_photos_by_their_names() {
    for ending in ["jxl", "heic", "heif", "hif", "avif", "HEIC"] {
        let folder = TempDir::new().unwrap();
        let mut scene = scene_files::TestScene::new();
        let kind = if ending == "jxl" || ending == "avif" { ending } else { "heic" };
        let file = goldens().into_iter().find(|file| name(file) == format!("{kind}_rgb")).unwrap();
        scene.size = (41, 23);
        scene.write_mvsnet(folder.path(), "2 6");
        for view in &scene.views {
            let photo = folder.path().join("images").join(&view.file);
            fs::remove_file(&photo).unwrap();
            fs::copy(&file, photo.with_extension(ending)).unwrap();
        }
        let opened = Scene::open(folder.path(), &OpenOptions::default()).unwrap_or_else(|e| panic!("{ending}: {e}"));
        assert_eq!(opened.views.len(), scene.views.len());
        assert!(opened.views.iter().all(|view| view.size == (41, 23)), "{ending}");
        // Beside photos that were made of them they are where these come from.
        scene.write_photos(folder.path());
        let opened = Scene::open(folder.path(), &OpenOptions::default()).unwrap_or_else(|e| panic!("{ending}: {e}"));
        assert!(opened.views.iter().all(|view| view.image.extension().unwrap() == "png"), "{ending}");
    }
}

/// A file that is cut off anywhere is refused in one line that names it.
#[test]
fn photos_that_break_off_are_told() {
    let folder = TempDir::new().unwrap();
    for file in goldens() {
        let bytes = fs::read(&file).unwrap();
        let cut = folder.path().join(file.file_name().unwrap());
        // From where the format is recognised on. What comes after the image (here at most EXIF) is nobody's loss.
        let ends = (40..bytes.len()).step_by(bytes.len() / 16);
        let mut refused = 0;
        for end in ends.clone() {
            fs::write(&cut, &bytes[..end]).unwrap();
            let _ = image::header(&cut);
            if let Err(error) = image::read(&cut) {
                let text = error.to_string();
                assert!(text.starts_with(&format!("{}: ", cut.display())) && text.lines().count() == 1, "{text}");
                assert!(text.contains("; expected a complete JPEG, PNG, "), "{text}");
                refused += 1;
            }
        }
        println!("{}: {refused} of {}", name(&file), ends.clone().count());
        assert!(refused + 1 >= ends.count(), "{}: {refused}", name(&file));
    }
}

/// Whatever bytes are wrong: no panic, and an error is one line that names the file.
#[test]
fn damaged_photos_end_in_one_line() {
    let rounds: u64 = std::env::var("ENGINE_TEST_ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    let folder = TempDir::new().unwrap();
    for file in goldens() {
        let whole = fs::read(&file).unwrap();
        let damaged = folder.path().join(file.file_name().unwrap());
        for round in 0..rounds {
            let mut bytes = whole.clone();
            // Splitmix, by the round: a failure can be had again.
            let mut state = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ bytes.len() as u64;
            let mut random = |below: usize| {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                ((mixed ^ (mixed >> 27)) % below as u64) as usize
            };
            for _ in 0..1 + random(4) {
                // Half of them in the header.
                let (reach, value) = (if random(2) == 0 { 64 } else { bytes.len() }, random(256) as u8);
                let at = random(reach.min(bytes.len()));
                bytes[at] = value;
            }
            fs::write(&damaged, bytes).unwrap();
            for error in [image::header(&damaged).err(), image::read(&damaged).err()].into_iter().flatten() {
                let text = error.to_string();
                assert!(text.contains(&damaged.display().to_string()) && text.lines().count() == 1, "{text}");
            }
        }
    }
}
