//! `engine mesh` through the binary, on runs whose depth maps are exact: solids whose surface is a formula ([`solids`])
//! are seen from all around, and the mesh is compared with that surface in f64 ([`shapes`]). That it is the same for
//! any threads and memory, and what becomes of hopeless runs, stands in [`bounds`], and for any [`tiles`] there; files,
//! colours and what other programs say of them in [`files`], with small readers of the tests' own ([`readers`]).

use std::fs;
use std::path::{Path, PathBuf};

use engine::files::map::Map;
use engine::files::pfm;
use engine::fusion::settings::FusionOptions;
use engine::scene::camera::Camera;
use glam::{DMat3, DVec3};
use serde_json::{Value, json};
use tempfile::TempDir;

mod bounds;
mod files;
#[path = "../support/plane_scene.rs"]
mod plane_scene;
mod poisson;
#[path = "../support/program.rs"]
mod program;
mod readers;
#[path = "../support/scene_files.rs"]
mod scene_files;
mod score;
mod shapes;
mod solids;
mod tiles;

use program::{Ran, engine, json, text};
use readers::TestMesh;
use solids::Solid;

/// Width and height of the maps.
const SIZE: (usize, usize) = (128, 96);

/// A finished run of exact maps.
struct Run {
    root: TempDir,
    cameras: Vec<Camera>,
}

impl Run {
    /// Solids that these cameras see. Every view is checked against the ten nearest ones.
    fn new(solids: &[Solid], cameras: &[Camera]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        for kind in ["depth", "confidence"] {
            fs::create_dir_all(out.join(kind)).unwrap();
        }
        let name = |view: usize| format!("{view:08}");
        let mut views = Vec::new();
        for (at, camera) in cameras.iter().enumerate() {
            let mut others: Vec<usize> = (0..cameras.len()).filter(|&other| other != at).collect();
            others.sort_by(|&a, &b| {
                let far = |other: usize| cameras[other].centre().distance(camera.centre());
                far(a).total_cmp(&far(b)).then(a.cmp(&b))
            });
            let others: Vec<String> = others.into_iter().take(10).map(name).collect();
            let rows = |m: DMat3| [0, 1, 2].map(|i| m.row(i).to_array());
            views.push(json!({
                "name": name(at), "id": at, "map_size": SIZE, "photo_size": SIZE, "map_k": rows(camera.k),
                "rotation": rows(camera.r), "translation": camera.t.to_array(), "checked_against": others,
            }));
            let depth = solids::depth(solids, camera, SIZE);
            let confidence = depth.data.iter().map(|&d| if d > 0.0 { 0.95 } else { 0.0 }).collect();
            pfm::write(&out.join(format!("depth/{}.pfm", name(at))), &depth).unwrap();
            let confidence = Map { data: confidence, ..depth };
            pfm::write(&out.join(format!("confidence/{}.pfm", name(at))), &confidence).unwrap();
        }
        let manifest = json!({
            "program": "engine", "command": "infer", "scene": { "path": "nowhere" },
            "parameters": serde_json::to_value(FusionOptions::default()).unwrap(), "views": views,
        });
        fs::write(out.join("manifest.json"), manifest.to_string()).unwrap();
        Self { root, cameras: cameras.to_vec() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Without colours: there are no photos.
    fn mesh(&self, more: &[&str]) -> Ran {
        engine(["mesh", text(&self.path("out")), "--no-colours", "--quiet"].iter().chain(more))
    }

    /// Makes the mesh, and gives it with its report.
    fn meshed(&self, more: &[&str]) -> (TestMesh, Value) {
        self.mesh(more).done();
        (readers::ply(&self.path("out/mesh/mesh.ply")), json(&self.path("out/mesh/mesh.json")))
    }
}

/// A camera at `eye` that looks at `target`, with `focal` pixels.
fn looking(eye: DVec3, target: DVec3, focal: f64) -> Camera {
    let forward = (target - eye).normalize();
    let right = DVec3::new(0.01, 1.0, 0.02).cross(forward).normalize();
    let r = DMat3::from_cols(right, forward.cross(right), forward).transpose();
    let (x, y) = ((SIZE.0 as f64 - 1.0) / 2.0, (SIZE.1 as f64 - 1.0) / 2.0);
    let k = DMat3::from_cols(DVec3::new(focal, 0.0, 0.0), DVec3::new(0.0, focal, 0.0), DVec3::new(x, y, 1.0));
    Camera { k, r, t: -(r * eye) }
}

/// Cameras in rings around a place, and one above and one below.
fn around(target: DVec3, distance: f64, focal: f64) -> Vec<Camera> {
    let ring = |lift: f64, count: usize| {
        (0..count).map(move |i| {
            let turn = std::f64::consts::TAU * (i as f64 + 0.3 * lift) / count as f64;
            DVec3::new(lift.cos() * turn.cos(), lift.sin(), lift.cos() * turn.sin())
        })
    };
    let places = ring(0.0, 10).chain(ring(0.75, 7)).chain(ring(-0.75, 7)).chain(ring(1.35, 3)).chain(ring(-1.35, 3));
    places.map(|place| looking(target + distance * place, target, focal)).collect()
}
