//! Files of maps and clouds: round trips, the bytes themselves, and every way in which a PFM can be broken.

#[allow(dead_code)]
#[path = "support/synthetic.rs"]
mod synthetic;

use std::path::PathBuf;

use engine::draw::preview;
use engine::files::map::Map;
use engine::files::pfm;
use engine::files::ply::{self, Point};
use engine::files::ply_storage::Storage;
use engine::scene::camera::DepthRange;
use engine::scene::photo::Photo;

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn pfm_bytes(header: &str, values: &[f32], big_endian: bool) -> Vec<u8> {
    let bytes = values.iter().flat_map(|v| if big_endian { v.to_be_bytes() } else { v.to_le_bytes() });
    header.bytes().chain(bytes).collect()
}

#[test]
fn pfm_reads_both_byte_orders_from_the_bottom_up() {
    let folder = tempfile::tempdir().unwrap();
    // Stored bottom-up: the last three values are the top row.
    let stored = [4.0, 5.0, f32::NAN, 1.0, -2.5, f32::INFINITY];
    for (header, big) in [("Pf\n3 2\n-1.0\n", false), ("Pf\n3 2\n1\n", true), ("Pf 3\t2\r\n-0.5 ", false)] {
        let map = pfm::read(&file(&folder, "a.pfm", &pfm_bytes(header, &stored, big))).unwrap();
        assert_eq!((map.width, map.height), (3, 2), "{header:?}");
        assert_eq!(map.data[..2], [1.0, -2.5]);
        assert_eq!(map.data[2], f32::INFINITY);
        assert_eq!(map.data[3..5], [4.0, 5.0]);
        assert!(map.data[5].is_nan());
    }
    let stored = [4.0, 5.0, 6.0, 1.0, 2.0, 3.0];
    for (scale, big) in [("-1", false), ("7.5", true)] {
        let bytes = pfm_bytes(&format!("PF\n1 2\n{scale}\n"), &stored, big);
        let (width, height, pixels) = pfm::read_rgb(&file(&folder, "n.pfm", &bytes)).unwrap();
        assert_eq!((width, height), (1, 2));
        assert_eq!(pixels, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    }
}

#[test]
fn pfm_is_written_little_endian_from_the_bottom_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("depth.pfm");
    let map = Map { width: 2, height: 2, data: vec![1.0, 2.0, 3.0, 4.0] };
    // Over an older file, which it replaces.
    std::fs::write(&path, "old").unwrap();
    pfm::write(&path, &map).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), pfm_bytes("Pf\n2 2\n-1.0\n", &[3.0, 4.0, 1.0, 2.0], false));
    assert_eq!(pfm::read(&path).unwrap(), map);

    let normals = [[0.0, 0.6, -0.8], [1.0, 0.0, 0.0], [0.1, 0.2, 0.3]];
    pfm::write_rgb(&path, 1, 3, &normals).unwrap();
    assert_eq!(pfm::read_rgb(&path).unwrap(), (1, 3, normals.to_vec()));
    // Nothing but the file itself is left in the folder.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn broken_pfm_files_give_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let huge = "Pf\n4294967295 4294967295\n-1\n";
    let cases: &[(&str, &[u8], &str)] = &[
        ("empty", b"", "first two bytes: an empty file; expected 'Pf' or 'PF' (a PFM map)"),
        ("png", b"\x89PNG\r\n", "first two bytes: '\\x89P'; expected 'Pf' or 'PF' (a PFM map)"),
        ("no-size", b"Pf\n", "width: a header that breaks off; expected a number of pixels"),
        ("glued", b"Pf3 2\n-1\n", "width: a header that breaks off; expected a number of pixels"),
        ("no-height", b"Pf\n3 ", "height: a header that breaks off; expected a number of pixels"),
        ("cut-height", b"Pf\n3 2", "height: a header that breaks off; expected a number of pixels"),
        ("minus", b"Pf\n-3 2\n-1\n", "width: '-3'; expected a number of pixels, at least 1"),
        ("zero", b"Pf\n3 0\n-1\n", "height: '0'; expected a number of pixels, at least 1"),
        (
            "scale",
            b"Pf\n1 1\n0\n0000",
            "scale: '0'; expected a number whose sign is the byte order (negative: little endian)",
        ),
        (
            "nan-scale",
            b"Pf\n1 1\nnan\n0000",
            "scale: 'nan'; expected a number whose sign is the byte order (negative: little endian)",
        ),
        (
            "truncated",
            b"Pf\n2 1\n-1\n0000000",
            "17 bytes (truncated, or its header lies); expected 18 for 2 x 1 pixels of 1 x 4 bytes",
        ),
        (
            "longer",
            b"Pf\n2 1\n-1\n000000000",
            "19 bytes (more than its header states); expected 18 for 2 x 1 pixels of 1 x 4 bytes",
        ),
        (
            "huge",
            huge.as_bytes(),
            "28 bytes (truncated, or its header lies); expected more than any file has for 4294967295 x 4294967295 \
             pixels of 1 x 4 bytes",
        ),
        ("colour", b"PF\n1 1\n-1\n000000000000", "three channels ('PF'); expected one channel ('Pf')"),
    ];
    for (name, bytes, expected) in cases {
        let path = file(&folder, name, bytes);
        let message = pfm::read(&path).unwrap_err().to_string();
        assert_eq!(message, format!("{}: {expected}", path.display()), "{name}");
    }
    let grey = file(&folder, "grey", b"Pf\n1 1\n-1\n0000");
    let message = pfm::read_rgb(&grey).unwrap_err().to_string();
    assert_eq!(message, format!("{}: one channel ('Pf'); expected three channels ('PF')", grey.display()));

    // A header that would need a terabyte is refused by the file's size, before anything is allocated.
    let lying = file(&folder, "lying", b"Pf\n1000000 300000\n-1\n0000");
    assert!(pfm::read(&lying).unwrap_err().to_string().contains("truncated, or its header lies"));

    let missing = folder.path().join("missing.pfm");
    let message = pfm::read(&missing).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}: cannot open the map: ", missing.display())), "{message}");
}

#[test]
fn a_file_that_cannot_be_written_is_named_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/folder/depth.pfm");
    let map = Map::filled(2, 2, 1.0);
    let message = pfm::write(&path, &map).unwrap_err().to_string();
    let expected = format!("{}: cannot write the map: No such file or directory (os error 2)", path.display());
    assert_eq!(message, expected);
    // A folder in the file's place.
    let taken = folder.path().join("taken.ply");
    std::fs::create_dir_all(taken.join("inside")).unwrap();
    let message = ply::write(&taken, &[], Storage::default(), &[]).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{}: cannot write the point cloud: ", taken.display())), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // Maps that do not fit their own size.
    let wrong = Map { width: 3, height: 1, data: vec![0.0; 2] };
    let message = pfm::write(&folder.path().join("wrong.pfm"), &wrong).unwrap_err().to_string();
    assert!(message.starts_with("writing a map: 2 values for 3 x 1 x 1; this is a mistake in the engine"), "{message}");
}

#[test]
#[cfg(unix)]
fn written_files_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, plain) = (folder.path().join("ours.pfm"), file(&folder, "plain", b""));
    pfm::write(&ours, &Map::filled(1, 1, 0.0)).unwrap();
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn ply_has_the_promised_header_and_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.ply");
    let points = [
        Point {
            position: [1.0, -2.0, 3.5],
            normal: [0.0, 0.6, -0.8],
            colour: [255, 0, 17],
            confidence: 0.75,
            views: 4,
        },
        Point { position: [-0.5, 1e-3, 1e6], normal: [0.0; 3], colour: [1, 2, 3], confidence: 1.0, views: 255 },
    ];
    ply::write(&path, &points, Storage::default(), &["engine 0.1\nend_header".into(), "Münster".into()]).unwrap();
    let header = "ply\nformat binary_little_endian 1.0\ncomment engine 0.1 end_header\ncomment M?nster\n\
        element vertex 2\nproperty float x\nproperty float y\nproperty float z\nproperty float nx\nproperty float ny\n\
        property float nz\nproperty uchar red\nproperty uchar green\nproperty uchar blue\n\
        property float confidence\nproperty uchar views\nend_header\n";
    let mut expected = header.as_bytes().to_vec();
    for p in points {
        for value in p.position.map(|v| v as f32).into_iter().chain(p.normal) {
            expected.extend(value.to_le_bytes());
        }
        expected.extend(p.colour);
        expected.extend(p.confidence.to_le_bytes());
        expected.push(p.views);
    }
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    // An empty cloud is a valid file.
    ply::write(&path, &[], Storage::default(), &[]).unwrap();
    let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    assert!(text.contains("element vertex 0\n") && text.ends_with("end_header\n"));
}

/// The pixels of a written preview.
fn preview_of(photo: &Photo, depth: &Map, confidence: &Map, range: DepthRange) -> image::RgbImage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("view.png");
    preview::write(&path, photo, depth, confidence, range).unwrap();
    image::open(&path).unwrap().into_rgb8()
}

#[test]
fn preview_shows_the_maps_own_values() {
    let (width, height) = (40, 30);
    let range = DepthRange { near: 1.0, far: 10.0 };
    let photo = Photo { width, height, rgb: [1.0, 0.0, 0.0].repeat(width * height) };
    // Left half near, right half far, a hole in the lower left quarter, one lonely outlier.
    let mut depth = Map::filled(width, height, 2.0);
    let mut confidence = Map::filled(width, height, 0.0);
    for y in 0..height {
        for x in 0..width {
            if x >= 20 {
                depth.data[y * width + x] = 4.0;
                confidence.data[y * width + x] = 1.0;
            } else if y >= 15 {
                depth.data[y * width + x] = f32::NAN;
            }
        }
    }
    depth.data[0] = 9.9;
    let picture = preview_of(&photo, &depth, &confidence, range);
    // 30 rows become 420, fourteen-fold; three panels of 560 columns and four margins of 24.
    assert_eq!(picture.width(), 3 * 560 + 4 * 24);
    let panel = |n: u32, x: u32, y: u32| picture.get_pixel(24 + n * 584 + x * 14 + 7, 54 + y * 14 + 7).0;
    let of = |g: colorous::Gradient, t: f64| {
        let c = g.eval_continuous(t);
        [c.r, c.g, c.b]
    };
    assert_eq!(panel(0, 5, 5), [255, 0, 0]);
    // The outlier does not stretch the scale: 2 and 4 are its ends, near bright.
    assert_eq!(panel(1, 5, 5), of(colorous::PLASMA, 1.0));
    assert_eq!(panel(1, 30, 5), of(colorous::PLASMA, 0.0));
    assert_eq!(panel(1, 5, 20), [176; 3]);
    assert_eq!(panel(2, 5, 5), of(colorous::VIRIDIS, 0.0));
    assert_eq!(panel(2, 30, 20), of(colorous::VIRIDIS, 1.0));
}

#[test]
fn preview_takes_any_size_and_value() {
    let any = DepthRange { near: f64::MIN_POSITIVE, far: f64::MAX };
    for (width, height) in [(1, 1), (1, 700), (3000, 2), (37, 51), (400, 300), (500, 350)] {
        let photo = Photo { width: 7, height: 5, rgb: vec![f32::NAN; 7 * 5 * 3] };
        for value in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-30, 1e30, 650.0] {
            let map = Map::filled(width, height, value);
            let picture = preview_of(&photo, &map, &map, any);
            assert!(picture.height() < 800 && picture.width() < 5000, "{width} x {height}");
        }
    }
    let photo = Photo { width: 1, height: 1, rgb: vec![0.0; 3] };
    let (map, other) = (Map::filled(4, 3, 1.0), Map::filled(3, 3, 1.0));
    let path = std::env::temp_dir().join("never-written.png");
    let message = preview::write(&path, &photo, &map, &other, any).unwrap_err().to_string();
    assert_eq!(message, "preview::write: a photo of 1 x 1, depth of 4 x 3 and confidence of 3 x 3");
    assert!(!path.exists());
}

/// Writes the preview of a ball before a plane where `ENGINE_PREVIEW` says, for looking at; and always checks that
/// its colour scale is drawn.
#[test]
fn preview_of_a_scene() {
    let view =
        synthetic::render(&synthetic::ball_before_plane(), synthetic::arc(3, 40.0, 600.0, 400, 300)[0], 400, 300);
    let rgb = view.colour.iter().flatten().map(|&v| f32::from(v) / 255.0).collect();
    let photo = Photo { width: 400, height: 300, rgb };
    let (mut depth, mut confidence) = (view.depth.clone(), Map::filled(400, 300, 0.0));
    for (at, value) in depth.data.iter_mut().enumerate() {
        let (x, y) = ((at % 400) as f32, (at / 400) as f32);
        confidence.data[at] = 0.5 + 0.5 * (0.02 * x).sin() * (0.03 * y).cos();
        if (x - 330.0).hypot(y - 60.0) < 30.0 {
            *value = 0.0;
        }
    }
    let picture = preview_of(&photo, &depth, &confidence, DepthRange { near: 400.0, far: 1000.0 });
    if let Some(path) = std::env::var_os("ENGINE_PREVIEW") {
        picture.save(path).unwrap();
    }
    // The confidence bar runs over the whole panel, from 0 to 1.
    let bar = 59 + 600 + 12 + 7;
    let (first, last) = (3 * 24 + 2 * 800, 3 * 24 + 3 * 800 - 1);
    let of = |t: f64| {
        let c = colorous::VIRIDIS.eval_continuous(t);
        [c.r, c.g, c.b]
    };
    assert_eq!(picture.get_pixel(first, bar).0, of(0.0));
    assert_eq!(picture.get_pixel(last, bar).0, of(1.0));
}
