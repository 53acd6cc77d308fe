//! A synthetic scene that can be broken before it is written, in the MVSNet and in the COLMAP layout.

#![allow(dead_code)] // each test file uses its own part

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use engine::scene::camera::Camera;
use engine::synth::rig::Rig;
use engine::synth::{Generator, GeneratorOptions};
use glam::{DQuat, DVec2, DVec3};

/// Width and height of the photos.
pub const SIZE: (usize, usize) = (480, 384);
/// Views of the scene.
pub const VIEWS: usize = 6;

/// A scene as it will be written.
#[derive(Clone)]
pub struct Broken {
    /// Photo files in memory, PNG.
    pub photos: Vec<Vec<u8>>,
    /// Their cameras.
    pub cameras: Vec<Camera>,
    /// What stands last in each cam.txt.
    pub depth_line: String,
    /// The source views of each view, best first; none: no pair.txt.
    pub pairs: Option<Vec<Vec<usize>>>,
    /// Points with the views that see them and where.
    pub points: Vec<(DVec3, Vec<(usize, DVec2)>)>,
    /// Width and height in cameras.txt.
    pub size: (usize, usize),
}

fn made(low_texture: f64) -> Broken {
    let options =
        GeneratorOptions { seed: 5, views: VIEWS, size: SIZE, rig: Rig::Arc, low_texture, ..Default::default() };
    // One with much to match: 93 % of 458 triples of matches fit the true cameras.
    let scene = Generator::new(options).unwrap().scene(1);
    let photos = (0..VIEWS).map(|view| {
        let photo = scene.photo(view);
        let bytes: Vec<u8> = photo.rgb.iter().map(|v| (v * 255.0).round() as u8).collect();
        let image = image::RgbImage::from_raw(SIZE.0 as u32, SIZE.1 as u32, bytes).unwrap();
        let mut png = std::io::Cursor::new(Vec::new());
        image.write_to(&mut png, image::ImageFormat::Png).unwrap();
        png.into_inner()
    });
    let photos: Vec<Vec<u8>> = photos.collect();
    let mut points = Vec::new();
    for view in 0..VIEWS {
        let depth = scene.depth(view, 1);
        for y in (8..SIZE.1).step_by(32) {
            for x in (8..SIZE.0).step_by(32) {
                let z = f64::from(depth.at(x, y));
                if z > 0.0 {
                    let point = scene.cameras[view].unproject(x as f64, y as f64, z);
                    let seen = (0..VIEWS).filter(|&v| v == view || scene.sees(v, point));
                    let seen: Vec<_> = seen.map(|v| (v, scene.cameras[v].pixel(point).unwrap().0)).collect();
                    points.push((point, seen));
                }
            }
        }
    }
    let range = scene.ranges[0];
    let pairs = scene.all_sources().iter().map(|s| s.iter().map(|s| s.view).collect()).collect();
    Broken {
        photos,
        cameras: scene.cameras.clone(),
        depth_line: format!("{} {} 192 {}", range.near, (range.far - range.near) / 191.0, range.far),
        pairs: Some(pairs),
        points,
        size: SIZE,
    }
}

/// The scene with nothing broken yet.
pub fn whole() -> Broken {
    static SCENE: OnceLock<Broken> = OnceLock::new();
    SCENE.get_or_init(|| made(0.0)).clone()
}

/// The same surfaces with little texture or nearly none.
pub fn plain() -> Broken {
    made(1.0)
}

fn words(numbers: &[f64]) -> String {
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
}

impl Broken {
    /// The photos alone.
    pub fn write_photos(&self, root: &Path) {
        fs::create_dir_all(root.join("images")).unwrap();
        for (view, photo) in self.photos.iter().enumerate() {
            fs::write(root.join(format!("images/{view:08}.png")), photo).unwrap();
        }
    }

    /// With images/, cams/ and pair.txt.
    pub fn write_mvsnet(&self, root: &Path) {
        self.write_photos(root);
        fs::create_dir_all(root.join("cams")).unwrap();
        for (view, Camera { k, r, t }) in self.cameras.iter().enumerate() {
            let mut text = "extrinsic\n".to_owned();
            for i in 0..3 {
                writeln!(text, "{} {}", words(&r.row(i).to_array()), t[i]).unwrap();
            }
            text += "0 0 0 1\n\nintrinsic\n";
            for i in 0..3 {
                writeln!(text, "{}", words(&k.row(i).to_array())).unwrap();
            }
            writeln!(text, "\n{}", self.depth_line).unwrap();
            fs::write(root.join(format!("cams/{view:08}_cam.txt")), text).unwrap();
        }
        if let Some(pairs) = &self.pairs {
            let mut text = format!("{}\n", pairs.len());
            for (view, sources) in pairs.iter().enumerate() {
                let list: String = sources.iter().enumerate().map(|(i, s)| format!(" {s} {}", 100 - i)).collect();
                writeln!(text, "{view}\n{}{list}", sources.len()).unwrap();
            }
            fs::write(root.join("pair.txt"), text).unwrap();
        }
    }

    /// With images/ and a text model in sparse/0, in COLMAP's convention of pixel centres.
    pub fn write_colmap(&self, root: &Path) {
        self.write_photos(root);
        let folder = root.join("sparse/0");
        fs::create_dir_all(&folder).unwrap();
        let (mut cameras, mut images, mut points) = (String::new(), String::new(), String::new());
        let mut keypoints = vec![Vec::new(); self.cameras.len()];
        for (id, (point, seen)) in self.points.iter().enumerate() {
            let mut track = String::new();
            for &(view, pixel) in seen {
                write!(track, " {} {}", view + 1, keypoints[view].len()).unwrap();
                keypoints[view].push(format!("{} {} {}", pixel.x + 0.5, pixel.y + 0.5, id + 1));
            }
            writeln!(points, "{} {} 9 9 9 0.5{track}", id + 1, words(&point.to_array())).unwrap();
        }
        for (view, Camera { k, r, t }) in self.cameras.iter().enumerate() {
            let parameters = [k.x_axis.x, k.y_axis.y, k.z_axis.x + 0.5, k.z_axis.y + 0.5];
            let (width, height) = self.size;
            writeln!(cameras, "{} PINHOLE {width} {height} {}", view + 1, words(&parameters)).unwrap();
            let q = DQuat::from_mat3(r);
            let pose = [q.w, q.x, q.y, q.z, t.x, t.y, t.z];
            writeln!(images, "{0} {1} {0} {view:08}.png\n{2}", view + 1, words(&pose), keypoints[view].join(" "))
                .unwrap();
        }
        fs::write(folder.join("cameras.txt"), cameras).unwrap();
        fs::write(folder.join("images.txt"), images).unwrap();
        fs::write(folder.join("points3D.txt"), points).unwrap();
    }
}
