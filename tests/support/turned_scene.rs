//! The example scene with photos turned by quarters, reduced and cropped, and cameras to match: written with its own
//! arithmetic, which shares none with the engine.

#![allow(dead_code)] // each test file uses its own part

use std::fs;
use std::path::{Path, PathBuf};

use image::{RgbImage, imageops};

/// Views of the example scene.
pub const VIEWS: usize = 7;

/// What is done to a view's photo: every pixel is the mean over `shrink` x `shrink` stored ones, then the right columns
/// and lower rows are cut so that `size` is left (0: all), then it is turned clockwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    pub shrink: u32,
    pub size: (u32, u32),
    pub turns: u8,
}

impl Change {
    pub fn turned(turns: u8) -> Self {
        Self { shrink: 2, turns, ..Self::default() }
    }

    pub fn shrunk(shrink: u32) -> Self {
        Self { shrink, ..Self::default() }
    }

    /// Where the example's map has what pixel (x, y) of a map of `width` x `height` shows, to some pixels of the photo.
    pub fn before(self, (x, y): (usize, usize), (width, height): (usize, usize)) -> (usize, usize) {
        let (x, y) = match self.turns {
            0 => (x, y),
            1 => (y, width - 1 - x),
            2 => (width - 1 - x, height - 1 - y),
            _ => (height - 1 - y, x),
        };
        (x * self.shrink as usize, y * self.shrink as usize)
    }
}

/// K (fx, fy, cx, cy), rows of R, t, and the last line.
struct Cam {
    k: [f64; 4],
    r: [[f64; 3]; 3],
    t: [f64; 3],
    depths: String,
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene")
}

pub fn name(view: usize) -> String {
    format!("{view:08}")
}

fn read_cam(view: usize) -> Cam {
    let text = fs::read_to_string(example().join(format!("cams/{}_cam.txt", name(view)))).unwrap();
    let depths = text.lines().last().unwrap().to_owned();
    let n: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // Three rows of R and t, one of (0, 0, 0, 1), then K.
    let row = |i: usize| [n[4 * i], n[4 * i + 1], n[4 * i + 2]];
    Cam { k: [n[16], n[20], n[18], n[21]], r: [row(0), row(1), row(2)], t: [n[3], n[7], n[11]], depths }
}

fn reduced(photo: &RgbImage, shrink: u32) -> RgbImage {
    RgbImage::from_fn(photo.width() / shrink, photo.height() / shrink, |x, y| {
        let mut sum = [0u32; 3];
        for i in 0..shrink * shrink {
            let pixel = photo.get_pixel(x * shrink + i % shrink, y * shrink + i / shrink);
            sum.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += u32::from(value));
        }
        image::Rgb(sum.map(|s| ((s + shrink * shrink / 2) / (shrink * shrink)) as u8))
    })
}

/// The photo and the camera of a changed view.
fn changed(view: usize, change: Change) -> (RgbImage, Cam) {
    let stored = image::open(example().join(format!("images/{}.jpg", name(view)))).unwrap().to_rgb8();
    let mut photo = reduced(&stored, change.shrink);
    let mut cam = read_cam(view);
    let s = f64::from(change.shrink);
    // Areas map to areas: the corner of the first pixel stays, at -0.5.
    cam.k = [cam.k[0] / s, cam.k[1] / s, (cam.k[2] + 0.5) / s - 0.5, (cam.k[3] + 0.5) / s - 0.5];
    if change.size != (0, 0) {
        photo = imageops::crop_imm(&photo, 0, 0, change.size.0, change.size.1).to_image();
    }
    for _ in 0..change.turns {
        // Pixel (x, y) comes to (height - 1 - y, x): right becomes down, down becomes left.
        let last = f64::from(photo.height() - 1);
        photo = imageops::rotate90(&photo);
        let ([fx, fy, cx, cy], r, t) = (cam.k, cam.r, cam.t);
        cam.k = [fy, fx, last - cy, cx];
        cam.r = [r[1].map(|v| -v), r[0], r[2]];
        cam.t = [-t[1], t[0], t[2]];
    }
    (photo, cam)
}

/// Writes the scene with view i changed by `changes[i]`.
pub fn write(root: &Path, changes: &[Change; VIEWS]) {
    for folder in ["images", "cams"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy(example().join("pair.txt"), root.join("pair.txt")).unwrap();
    for (view, &change) in changes.iter().enumerate() {
        let (photo, Cam { k: [fx, fy, cx, cy], r, t, depths }) = changed(view, change);
        photo.save(root.join(format!("images/{}.png", name(view)))).unwrap();
        let row = |i: usize| format!("{} {} {} {}", r[i][0], r[i][1], r[i][2], t[i]);
        let text = format!(
            "extrinsic\n{}\n{}\n{}\n0 0 0 1\n\nintrinsic\n{fx} 0 {cx}\n0 {fy} {cy}\n0 0 1\n\n{depths}\n",
            row(0),
            row(1),
            row(2)
        );
        fs::write(root.join(format!("cams/{}_cam.txt", name(view))), text).unwrap();
    }
}

/// True depth of every fourth pixel of a view's unchanged photo.
pub fn truth(view: usize) -> engine::files::map::Map {
    engine::files::pfm::read(&example().join(format!("truth/{}.pfm", name(view)))).unwrap()
}
