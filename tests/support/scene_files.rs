//! A small scene with known cameras and points, written in every layout that the engine reads.

#![allow(dead_code)] // each test file uses its own part

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use glam::{DMat3, DQuat, DVec3};

/// One photo with its camera.
#[derive(Clone, Debug)]
pub struct TestView {
    pub id: u32,
    /// Number of its COLMAP camera.
    pub camera: u32,
    /// Path under `images/`.
    pub file: String,
    /// Pixel centres are integers.
    pub k: DMat3,
    pub r: DMat3,
    pub t: DVec3,
}

#[derive(Clone, Debug)]
pub struct TestScene {
    pub size: (u32, u32),
    pub views: Vec<TestView>,
    /// Positions and the ids of the views that see them.
    pub points: Vec<(DVec3, Vec<u32>)>,
    /// `cameras.txt` and `cameras.bin` get this model and these parameters for every camera instead of PINHOLE.
    pub model: Option<(i32, &'static str, Vec<f64>)>,
}

impl TestScene {
    /// Four views with gaps in their ids, in general positions some 4 in front of points around the origin.
    pub fn new() -> Self {
        let size = (64, 48);
        let views = [3u32, 7, 8, 20].map(|id| {
            let a = f64::from(id) * 0.02 - 0.2;
            let r =
                DMat3::from_rotation_y(a) * DMat3::from_rotation_x(0.3 * a - 0.02) * DMat3::from_rotation_z(0.1 * a);
            let k = DMat3::from_cols(
                DVec3::new(71.25 + a, 0.0, 0.0),
                DVec3::new(0.0, 70.5 - a, 0.0),
                DVec3::new(31.125, 23.0625 + a, 1.0),
            );
            TestView { id, camera: id, file: format!("{id:08}.png"), k, r, t: DVec3::new(-a, 0.2 * a, 4.0 + a) }
        });
        let ids: Vec<u32> = views.iter().map(|v| v.id).collect();
        let points = (0..200)
            .map(|i| {
                // Irrational steps fill the cube evenly.
                let along = |step: f64| (f64::from(i) * step).fract() - 0.5;
                let seen = if i % 4 == 0 { ids[..2].to_vec() } else { ids.clone() };
                (DVec3::new(along(0.754877666), along(0.569840296), along(0.362316)), seen)
            })
            .collect();
        Self { size, views: views.to_vec(), points, model: None }
    }

    /// Photos of a smooth pattern.
    pub fn write_photos(&self, root: &Path) {
        let picture = image::RgbImage::from_fn(self.size.0, self.size.1, |x, y| {
            image::Rgb([(x * 3) as u8, (y * 4) as u8, ((x + y) * 2) as u8])
        });
        for view in &self.views {
            let path = root.join("images").join(&view.file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            picture.save(path).unwrap();
        }
    }

    pub fn write_mvsnet(&self, root: &Path, depth_line: &str) {
        self.write_photos(root);
        fs::create_dir_all(root.join("cams")).unwrap();
        let mut pairs = format!("{}\n", self.views.len());
        for view in &self.views {
            fs::write(root.join(format!("cams/{:08}_cam.txt", view.id)), view.cam_txt(depth_line)).unwrap();
            let others: Vec<u32> = self.views.iter().map(|v| v.id).filter(|&id| id != view.id).collect();
            let list: String = others.iter().map(|id| format!(" {id} {}", 100 - id)).collect();
            writeln!(pairs, "{}\n{}{list}", view.id, others.len()).unwrap();
        }
        fs::write(root.join("pair.txt"), pairs).unwrap();
    }

    /// Camera model and parameters in COLMAP's convention (corner pixel's centre at 0.5).
    fn colmap_camera(&self, view: &TestView) -> (i32, &'static str, Vec<f64>) {
        self.model.clone().unwrap_or_else(|| {
            let k = view.k;
            (1, "PINHOLE", vec![k.x_axis.x, k.y_axis.y, k.z_axis.x + 0.5, k.z_axis.y + 0.5])
        })
    }

    pub fn write_colmap_text(&self, root: &Path, model: &str) {
        self.write_photos(root);
        let folder = root.join(model);
        fs::create_dir_all(&folder).unwrap();
        let mut cameras = "# Camera list\n".to_owned();
        let mut images = "# Image list\n".to_owned();
        for view in &self.views {
            let (_, name, parameters) = self.colmap_camera(view);
            writeln!(cameras, "{} {name} {} {} {}", view.camera, self.size.0, self.size.1, words(&parameters)).unwrap();
            // The line of keypoints may be empty.
            let keypoints = if view.id == 7 { "" } else { "1.5 2.5 -1 3.5 4.5 0" };
            let pose = words(&pose(view.r, view.t));
            writeln!(images, "{} {pose} {} {}\n{keypoints}", view.id, view.camera, view.file).unwrap();
        }
        let mut points = "# 3D point list\n\n".to_owned();
        for (i, (p, seen)) in self.points.iter().enumerate() {
            let track: String = seen.iter().map(|id| format!(" {id} {i}")).collect();
            writeln!(points, "{} {} {} {} 10 20 30 0.25{track}", i + 1, p.x, p.y, p.z).unwrap();
        }
        fs::write(folder.join("cameras.txt"), cameras).unwrap();
        fs::write(folder.join("images.txt"), images).unwrap();
        fs::write(folder.join("points3D.txt"), points).unwrap();
    }

    pub fn write_colmap_binary(&self, root: &Path, model: &str) {
        self.write_photos(root);
        let folder = root.join(model);
        fs::create_dir_all(&folder).unwrap();
        let mut cameras = Bytes::counted(self.views.len());
        let mut images = Bytes::counted(self.views.len());
        for view in &self.views {
            let (model, _, parameters) = self.colmap_camera(view);
            cameras.u32(view.camera).i32(model).u64(self.size.0.into()).u64(self.size.1.into()).f64s(&parameters);
            images.u32(view.id).f64s(&pose(view.r, view.t)).u32(view.camera).name(&view.file);
            images.u64(2).f64s(&[1.5, 2.5]).u64(u64::MAX).f64s(&[3.5, 4.5]).u64(0);
        }
        let mut points = Bytes::counted(self.points.len());
        for (i, (p, seen)) in self.points.iter().enumerate() {
            points.u64(i as u64 + 1).f64s(&p.to_array()).bytes(&[10, 20, 30]).f64s(&[0.25]).u64(seen.len() as u64);
            for id in seen {
                points.u32(*id).u32(i as u32);
            }
        }
        fs::write(folder.join("cameras.bin"), cameras.0).unwrap();
        fs::write(folder.join("images.bin"), images.0).unwrap();
        fs::write(folder.join("points3D.bin"), points.0).unwrap();
    }

    /// `rigs` and `frames` beside an existing model: one rig of all cameras, one frame with all views. The first view's
    /// camera is the rig's reference.
    pub fn write_rig(&self, folder: &Path, binary: bool) {
        let first = &self.views[0];
        // x_sensor = R x_rig + t with x_rig = Rf x + tf.
        let in_rig = |view: &TestView| {
            let r = view.r * first.r.transpose();
            pose(r, view.t - r * first.t)
        };
        let others = &self.views[1..];
        if binary {
            let mut rigs = Bytes::counted(1);
            rigs.u32(5).u32(self.views.len() as u32).i32(0).u32(first.camera);
            for v in others {
                rigs.i32(0).u32(v.camera).bytes(&[1]).f64s(&in_rig(v));
            }
            let mut frames = Bytes::counted(1);
            frames.u32(1).u32(5).f64s(&pose(first.r, first.t)).u32(self.views.len() as u32);
            for v in &self.views {
                frames.i32(0).u32(v.camera).u64(v.id.into());
            }
            fs::write(folder.join("rigs.bin"), rigs.0).unwrap();
            fs::write(folder.join("frames.bin"), frames.0).unwrap();
        } else {
            let sensors: String =
                others.iter().map(|v| format!(" CAMERA {} 1 {}", v.camera, words(&in_rig(v)))).collect();
            let data: String = self.views.iter().map(|v| format!(" CAMERA {} {}", v.camera, v.id)).collect();
            let rigs = format!("# Rigs\n5 {} CAMERA {}{sensors}\n", self.views.len(), first.camera);
            let frames = format!("# Frames\n1 5 {} {}{data}\n", words(&pose(first.r, first.t)), self.views.len());
            fs::write(folder.join("rigs.txt"), rigs).unwrap();
            fs::write(folder.join("frames.txt"), frames).unwrap();
        }
    }
}

impl TestView {
    pub fn cam_txt(&self, depth_line: &str) -> String {
        let (r, t, k) = (self.r.transpose(), self.t, self.k.transpose());
        let row = |r: DVec3| words(&r.to_array());
        format!(
            "extrinsic\n{} {}\n{} {}\n{} {}\n0.0 0.0 0.0 1.0\n\nintrinsic\n{}\n{}\n{}\n\n{depth_line}\n",
            row(r.x_axis),
            t.x,
            row(r.y_axis),
            t.y,
            row(r.z_axis),
            t.z,
            row(k.x_axis),
            row(k.y_axis),
            row(k.z_axis),
        )
    }
}

fn pose(r: DMat3, t: DVec3) -> [f64; 7] {
    let q = DQuat::from_mat3(&r);
    [q.w, q.x, q.y, q.z, t.x, t.y, t.z]
}

/// Numbers as text that reads back to the same f64.
fn words(numbers: &[f64]) -> String {
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(" ")
}

/// A little-endian file.
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn counted(count: usize) -> Self {
        Self((count as u64).to_le_bytes().to_vec())
    }
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }
    pub fn f64s(&mut self, values: &[f64]) -> &mut Self {
        for value in values {
            self.bytes(&value.to_le_bytes());
        }
        self
    }
    pub fn name(&mut self, name: &str) -> &mut Self {
        self.bytes(name.as_bytes()).bytes(&[0])
    }
}
