//! A building site seen from above: sloping ground and two blocks, with photos and depth maps that are exact.

use std::fs;
use std::path::PathBuf;

use engine::files::map::Map;
use engine::files::pfm;
use engine::fusion::settings::FusionOptions;
use engine::scene::camera::Camera;
use glam::{DMat3, DVec3};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Ran, engine, json, text};
use crate::reader::{self, Tiff};
use crate::scene_files::{TestScene, TestView};
use crate::solids::{self, Solid};

/// Width and height of the photos and their maps.
pub const SIZE: (usize, usize) = (128, 96);
/// Pixels.
const FOCAL: f64 = 150.0;
/// How high the cameras fly.
const FLIGHT: f64 = 10.0;
/// What a pixel covers on the ground, about.
pub const PIXEL: f64 = FLIGHT / FOCAL;

/// Ground that falls to the east, and two blocks, one of them turned.
pub fn solids() -> [Solid; 3] {
    let slope = DMat3::from_rotation_y(0.05);
    let turn = DMat3::from_rotation_z(0.4);
    [
        Solid::Block { middle: DVec3::new(0.0, 0.0, -1.0), half: DVec3::new(40.0, 40.0, 1.0), turn: slope },
        Solid::Block { middle: DVec3::new(-1.5, 0.5, 0.0), half: DVec3::new(1.0, 0.7, 2.0), turn: DMat3::IDENTITY },
        Solid::Block { middle: DVec3::new(1.6, -0.6, 0.0), half: DVec3::new(0.6, 1.1, 1.2), turn },
    ]
}

/// The height of what is seen from straight above.
pub fn height(x: f64, y: f64) -> f64 {
    let from_above = |solid: &Solid| solid.hit(DVec3::new(x, y, 50.0), -DVec3::Z);
    50.0 - solids().iter().filter_map(from_above).fold(f64::INFINITY, f64::min)
}

/// The colour of a place, 0..1: waves on the ground, red where something stands on it.
pub fn colour(at: DVec3) -> DVec3 {
    let wave = |a: f64, b: f64| 0.3 + 0.2 * (a * at.x + b * at.y).sin();
    let ground = DVec3::new(wave(1.3, 0.4), wave(0.5, -1.7), wave(-0.9, 1.1));
    let is_raised = at.z > 0.8;
    if is_raised { DVec3::new(0.95, ground.y, ground.z) } else { ground }
}

/// A finished run of it, whose scene may be turned and far away.
pub struct Site {
    root: TempDir,
}

/// From the site's coordinates to the scene's.
#[derive(Clone, Copy)]
pub struct Moved {
    pub turn: DMat3,
    pub shift: DVec3,
}

pub const STILL: Moved = Moved { turn: DMat3::IDENTITY, shift: DVec3::ZERO };

impl Site {
    pub fn new(moved: Moved) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (out, scene) = (root.path().join("out"), root.path().join("scene"));
        for kind in ["depth", "confidence"] {
            fs::create_dir_all(out.join(kind)).unwrap();
        }
        let cameras = cameras();
        let views = cameras.iter().enumerate().map(|(id, camera)| {
            // x = R X + t with X = turn^T (Y - shift).
            let r = camera.r * moved.turn.transpose();
            let file = format!("{id:08}.png");
            TestView { id: id as u32, camera: 1, file, k: camera.k, r, t: camera.t - r * moved.shift }
        });
        let size = (SIZE.0 as u32, SIZE.1 as u32);
        let files = TestScene { size, views: views.collect(), points: Vec::new(), model: None };
        files.write_mvsnet(&scene, "5 0.1 64 12");
        let rows = |m: DMat3| [0, 1, 2].map(|i| m.row(i).to_array());
        let mut summaries = Vec::new();
        for (at, (camera, view)) in cameras.iter().zip(&files.views).enumerate() {
            let name = format!("{at:08}");
            let depth = solids::depth(&solids(), camera, SIZE);
            photo(camera, &depth).save(scene.join("images").join(&view.file)).unwrap();
            let confidence = depth.data.iter().map(|&d| if d > 0.0 { 0.95 } else { 0.0 }).collect();
            pfm::write(&out.join(format!("depth/{name}.pfm")), &depth).unwrap();
            pfm::write(&out.join(format!("confidence/{name}.pfm")), &Map { data: confidence, ..depth }).unwrap();
            let mut others: Vec<usize> = (0..cameras.len()).filter(|&other| other != at).collect();
            let far = |other: usize| cameras[other].centre().distance(camera.centre());
            others.sort_by(|&a, &b| far(a).total_cmp(&far(b)).then(a.cmp(&b)));
            let others: Vec<String> = others.into_iter().take(6).map(|other| format!("{other:08}")).collect();
            summaries.push(json!({
                "name": name, "id": at, "image": scene.join("images").join(&view.file), "map_size": SIZE,
                "photo_size": SIZE, "map_k": rows(view.k), "rotation": rows(view.r),
                "translation": view.t.to_array(), "checked_against": others,
            }));
        }
        let manifest = json!({
            "program": "engine", "command": "infer", "scene": { "path": scene }, "views": summaries,
            "parameters": serde_json::to_value(FusionOptions::default()).unwrap(),
        });
        fs::write(out.join("manifest.json"), manifest.to_string()).unwrap();
        Self { root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Takes the confidence where the still site shows such a place.
    pub fn take_out(&self, is_out: impl Fn(f64, f64) -> bool) {
        for (at, camera) in cameras().iter().enumerate() {
            let file = |kind: &str| self.path(&format!("out/{kind}/{at:08}.pfm"));
            let (depth, mut confidence) = (pfm::read(&file("depth")).unwrap(), pfm::read(&file("confidence")).unwrap());
            for (i, confidence) in confidence.data.iter_mut().enumerate() {
                let place = camera.unproject((i % SIZE.0) as f64, (i / SIZE.0) as f64, depth.data[i].into());
                if is_out(place.x, place.y) {
                    *confidence = 0.0;
                }
            }
            pfm::write(&file("confidence"), &confidence).unwrap();
        }
    }

    /// Runs the program.
    pub fn map(&self, more: &[&str]) -> Ran {
        engine(["map", text(&self.path("out"))].iter().chain(more))
    }

    /// Maps it, and gives what was written and said.
    pub fn mapped(&self, more: &[&str]) -> Mapped {
        let said = self.map(more).done().stderr;
        let folder = self.path("out/map");
        let ortho = folder.join("ortho.tif").exists().then(|| reader::read(&folder.join("ortho.tif")));
        Mapped { model: reader::read(&folder.join("dsm.tif")), ortho, report: json(&folder.join("map.json")), said }
    }
}

/// What a run has written.
pub struct Mapped {
    pub model: Tiff,
    pub ortho: Option<Tiff>,
    pub report: Value,
    /// On standard error.
    pub said: String,
}

/// Four strips of five, heading there and back, a little unsteady.
fn cameras() -> Vec<Camera> {
    let k = DMat3::from_cols(DVec3::new(FOCAL, 0.0, 0.0), DVec3::new(0.0, FOCAL, 0.0), DVec3::new(63.25, 47.5, 1.0));
    let camera = |i: usize| {
        let (strip, along) = (i / 5, i % 5);
        let sway = |a: usize| 0.02 * ((i * a % 7) as f64 - 3.0);
        let centre = DVec3::new(along as f64 * 1.4 - 2.8, strip as f64 * 1.4 - 2.1, FLIGHT + 0.1 * sway(3));
        // x right, y down in the photo, z forward: down. Strips are flown by turns.
        let heading = if strip % 2 == 0 { 0.1 } else { 3.2 };
        let down = DMat3::from_cols(DVec3::X, -DVec3::Y, -DVec3::Z);
        let r = DMat3::from_rotation_x(sway(2))
            * DMat3::from_rotation_y(sway(5))
            * DMat3::from_rotation_z(heading)
            * down.transpose();
        Camera { k, r, t: -(r * centre) }
    };
    (0..20).map(camera).collect()
}

/// Four samples a pixel.
fn photo(camera: &Camera, depth: &Map) -> image::RgbImage {
    let near = solids();
    let (centre, ray_of) = (camera.centre(), camera.r.transpose() * camera.k.inverse());
    image::RgbImage::from_fn(depth.width as u32, depth.height as u32, |x, y| {
        let mut sum = DVec3::ZERO;
        for (dx, dy) in [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)] {
            let ray = ray_of * DVec3::new(f64::from(x) + dx, f64::from(y) + dy, 1.0);
            let first = near.iter().filter_map(|solid| solid.hit(centre, ray)).fold(f64::INFINITY, f64::min);
            sum += colour(centre + first * ray);
        }
        image::Rgb((sum / 4.0).to_array().map(|c| (c * 255.0).round() as u8))
    })
}
