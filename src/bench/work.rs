//! What is measured: one reference and its sources, made up so that every machine has the same, or read from a file
//! that a peer wrote.
//!
//! The file is a safetensors file: images [V, H, W, 3] f32 in 0..1, k [V, 3, 3] and e [V, 4, 4] (world to camera) f64
//! at the images' scale, D depths in f64.

use std::io::Write;
use std::path::Path;

use glam::{DMat3, DVec3};
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::files::atomic::write_whole;
use crate::files::input;
use crate::host::random::Random;
use crate::scene::camera::{Camera, DepthRange, Hypotheses, PlaneSweep, Sampling};
use crate::scene::photo::Photo;

/// How much work a view is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Of the photos, in pixels, a multiple of 4.
    pub width: usize,
    /// Of the photos, in pixels, a multiple of 4.
    pub height: usize,
    /// Hypotheses.
    pub planes: usize,
    /// Views, the reference included.
    pub views: usize,
}

impl Size {
    /// The paper's Table III (SPEC.md, last section).
    pub const TABLE_3: Self = Self { width: 1600, height: 1200, planes: 192, views: 4 };

    /// # Errors
    /// [`Error::Input`] where a side is no multiple of 4.
    pub fn check(self) -> Result<Self> {
        for (option, side) in [("--width", self.width), ("--height", self.height)] {
            if side == 0 || !side.is_multiple_of(4) {
                return Err(Error::input(
                    option,
                    side.to_string(),
                    "a multiple of 4: the feature maps have a quarter of the size",
                ));
            }
        }
        Ok(self)
    }
}

/// One view's photos and cameras.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// The reference's first; all of one size.
    pub photos: Vec<Photo>,
    /// Of the photos, at their size.
    pub cameras: Vec<Camera>,
    /// The depths to try.
    pub hypotheses: Hypotheses,
}

/// The plane that all cameras see: a point on it and its normal, in the world.
const POINT: DVec3 = DVec3::new(0.0, 0.0, 680.0);
const NORMAL: DVec3 = DVec3::new(0.3, -0.2, -1.0);
/// Directions of its texture.
const ACROSS: DVec3 = DVec3::new(1.0, 0.0, 0.3);
const DOWN: DVec3 = DVec3::new(0.0, 1.0, -0.2);

/// Waves of a colour channel.
const WAVES: usize = 8;

impl Inputs {
    /// A slanted plane, textured finely enough that its depth is found, from a row of cameras at its two sides; depths
    /// 450 to 950 as in the paper.
    pub fn generated(size: Size) -> Self {
        let (w, h) = (size.width as f64, size.height as f64);
        let f = 1.2 * w;
        let k = DMat3::from_cols(DVec3::X * f, DVec3::Y * f, DVec3::new((w - 1.0) / 2.0, (h - 1.0) / 2.0, 1.0));
        let mut random = Random::from_state(7);
        // Wave vectors and phases; the shortest wave is about 6 pixels long.
        let mut waves = [[[0.0f64; 3]; WAVES]; 3];
        for wave in waves.iter_mut().flatten() {
            let frequency = std::f64::consts::TAU / (6.0 * POINT.z / f);
            *wave = [
                (2.0 * random.unit() - 1.0) * frequency,
                (2.0 * random.unit() - 1.0) * frequency,
                std::f64::consts::TAU * random.unit(),
            ];
        }
        let cameras: Vec<Camera> = (0..size.views)
            .map(|view| {
                let side = if view % 2 == 0 { 1.0 } else { -1.0 };
                let r = DMat3::from_rotation_y(side * 0.05 * view as f64);
                let centre = side * view as f64 * DVec3::new(-40.0, 8.0, 0.0);
                Camera { k, r, t: -(r * centre) }
            })
            .collect();
        let photo = |camera: &Camera| {
            let to_world = camera.r.transpose() * camera.k.inverse();
            let centre = camera.centre();
            let mut rgb = vec![0f32; size.width * size.height * 3];
            rgb.par_chunks_mut(size.width * 3).enumerate().for_each(|(y, row)| {
                for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                    let ray = to_world * DVec3::new(x as f64, y as f64, 1.0);
                    let hit = centre + ray * ((POINT - centre).dot(NORMAL) / ray.dot(NORMAL)) - POINT;
                    let (u, v) = (hit.dot(ACROSS), hit.dot(DOWN));
                    for (value, waves) in pixel.iter_mut().zip(&waves) {
                        let sum: f64 = waves.iter().map(|[a, b, phase]| (a * u + b * v + phase).sin()).sum();
                        *value = (0.5 + sum / (2.0 * WAVES as f64)) as f32;
                    }
                }
            });
            Photo { width: size.width, height: size.height, rgb }
        };
        Self {
            photos: cameras.iter().map(photo).collect(),
            cameras,
            hypotheses: Hypotheses::new(DepthRange { near: 450.0, far: 950.0 }, size.planes, Sampling::Linear),
        }
    }

    /// The true depth of [`Inputs::generated`] at a pixel of the reference's maps.
    pub fn true_depth(&self, x: usize, y: usize) -> f64 {
        let ray = self.cameras[0].k.inverse() * DVec3::new(4.0 * x as f64, 4.0 * y as f64, 1.0);
        POINT.dot(NORMAL) / ray.dot(NORMAL)
    }

    /// How much work they are.
    pub fn size(&self) -> Size {
        let (width, height) = self.photos.first().map_or((0, 0), |p| (p.width, p.height));
        Size { width, height, planes: self.hypotheses.depths.len(), views: self.photos.len() }
    }

    /// Homographies from the reference's feature map to the sources'.
    pub fn sweeps(&self) -> Vec<PlaneSweep> {
        let at = |camera: &Camera| camera.decimated(0.25);
        self.cameras[1..].iter().map(|camera| PlaneSweep::new(&at(&self.cameras[0]), &at(camera))).collect()
    }

    /// Mean distance of neighbouring hypotheses, in scene units.
    pub fn interval(&self) -> f64 {
        let depths = &self.hypotheses.depths;
        let span = depths.last().copied().unwrap_or(0.0) - depths.first().copied().unwrap_or(0.0);
        span.abs() / (depths.len().max(2) - 1) as f64
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or a tensor is missing, misshapen, of another type or not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = input::read(path, "read the inputs")?;
        let name = path.display();
        let file = SafeTensors::deserialize(&bytes).map_err(|e| {
            Error::input(name.to_string(), e.to_string(), "a safetensors file with images, k, e and depths")
        })?;
        let tensor = |tensor: &str, dtype: Dtype, shape: &[Option<usize>]| -> Result<TensorView> {
            let place = || format!("{name}: tensor `{tensor}`");
            let wanted = || {
                let sides: Vec<String> = shape.iter().map(|s| s.map_or("any".into(), |s| s.to_string())).collect();
                format!("{dtype:?} [{}]", sides.join(", "))
            };
            let view = file.tensor(tensor).map_err(|_| Error::input(place(), "it is missing", wanted()))?;
            let fits = view.dtype() == dtype
                && view.shape().len() == shape.len()
                && view
                    .shape()
                    .iter()
                    .zip(shape)
                    .all(|(&found, wanted)| found > 0 && wanted.is_none_or(|w| w == found));
            if fits {
                Ok(view)
            } else {
                Err(Error::input(place(), format!("{:?} {:?}", view.dtype(), view.shape()), wanted()))
            }
        };
        let finite = |tensor: &str, ok: bool| {
            let place = || format!("{name}: tensor `{tensor}`");
            if ok { Ok(()) } else { Err(Error::input(place(), "a value that is not finite", "finite numbers")) }
        };
        let images = tensor("images", Dtype::F32, &[None, None, None, Some(3)])?;
        let (views, height, width) = (images.shape()[0], images.shape()[1], images.shape()[2]);
        let size = Size { width, height, planes: 2, views }.check()?;
        if size.views < 2 {
            return Err(Error::input(
                format!("{name}: tensor `images`"),
                "one view",
                "a reference and at least one source",
            ));
        }
        let doubles = |what: &str, shape: &[Option<usize>]| -> Result<Vec<f64>> {
            let view = tensor(what, Dtype::F64, shape)?;
            let number = |b: &[u8]| f64::from_le_bytes(std::array::from_fn(|i| b[i]));
            let numbers: Vec<f64> = view.data().chunks_exact(8).map(number).collect();
            finite(what, numbers.iter().all(|n| n.is_finite()))?;
            Ok(numbers)
        };
        let k = doubles("k", &[Some(views), Some(3), Some(3)])?;
        let e = doubles("e", &[Some(views), Some(4), Some(4)])?;
        let depths = doubles("depths", &[None])?;
        let photos: Vec<Photo> = images
            .data()
            .chunks_exact(height * width * 12)
            .map(|view| {
                let rgb = view.chunks_exact(4).map(|b| f32::from_le_bytes(std::array::from_fn(|i| b[i]))).collect();
                Photo { width, height, rgb }
            })
            .collect();
        finite("images", photos.iter().all(|p| p.rgb.iter().all(|v| v.is_finite())))?;
        let camera = |(k, e): (&[f64], &[f64])| Camera {
            k: DMat3::from_cols_slice(k).transpose(),
            r: DMat3::from_cols_slice(&[0, 1, 2, 4, 5, 6, 8, 9, 10].map(|i| e[i])).transpose(),
            t: DVec3::new(e[3], e[7], e[11]),
        };
        let cameras = k.chunks_exact(9).zip(e.chunks_exact(16)).map(camera).collect();
        Ok(Self { photos, cameras, hypotheses: Hypotheses { depths, sampling: Sampling::Linear, expected: None } })
    }

    /// Writes a file that [`Inputs::read`] and the peers read.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Size { width, height, planes, views } = self.size();
        let images: Vec<f32> = self.photos.iter().flat_map(|p| p.rgb.iter().copied()).collect();
        let rows = |m: DMat3| [m.row(0), m.row(1), m.row(2)];
        let k: Vec<f64> = self.cameras.iter().flat_map(|c| rows(c.k).map(|row| row.to_array())).flatten().collect();
        let pose = |c: &Camera| {
            let [a, b, d] = rows(c.r);
            let t = c.t;
            [[a.x, a.y, a.z, t.x], [b.x, b.y, b.z, t.y], [d.x, d.y, d.z, t.z], [0.0, 0.0, 0.0, 1.0]]
        };
        let e: Vec<f64> = self.cameras.iter().flat_map(pose).flatten().collect();
        write_tensors(
            path,
            "write the inputs",
            &[
                ("images", Dtype::F32, &[views, height, width, 3], bytemuck::cast_slice(&images)),
                ("k", Dtype::F64, &[views, 3, 3], bytemuck::cast_slice(&k)),
                ("e", Dtype::F64, &[views, 4, 4], bytemuck::cast_slice(&e)),
                ("depths", Dtype::F64, &[planes], bytemuck::cast_slice(&self.hypotheses.depths)),
            ],
        )
    }
}

/// A tensor of a file: name, type, shape and little-endian bytes.
pub type Named<'a> = (&'a str, Dtype, &'a [usize], &'a [u8]);

/// Writes a safetensors file.
///
/// # Errors
/// The system's.
pub fn write_tensors(path: &Path, action: &'static str, tensors: &[Named]) -> Result<()> {
    let bug = |e: safetensors::SafeTensorError| Error::Bug { place: "bench", problem: e.to_string() };
    let views = tensors
        .iter()
        .map(|&(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape.to_vec(), bytes).map_err(bug)?)))
        .collect::<Result<Vec<_>>>()?;
    let bytes = safetensors::serialize(views, None).map_err(bug)?;
    write_whole(path, action, |file| file.write_all(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size { width: 32, height: 24, planes: 8, views: 3 };

    #[test]
    fn inputs_are_the_same_every_time_and_come_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inputs.safetensors");
        let inputs = Inputs::generated(SMALL);
        assert_eq!(inputs, Inputs::generated(SMALL));
        assert_eq!(inputs.size(), SMALL);
        assert!(inputs.photos.iter().flat_map(|p| &p.rgb).all(|v| (0.0..=1.0).contains(v)));
        inputs.write(&path).unwrap();
        assert_eq!(Inputs::read(&path).unwrap(), inputs);
    }

    #[test]
    fn all_cameras_see_the_same_texture() {
        // A point of the plane has the same colour in every photo: within what half a pixel changes.
        let inputs = Inputs::generated(Size { width: 320, height: 240, ..SMALL });
        let (x, y) = (40, 30);
        let point = inputs.cameras[0].unproject(4.0 * x as f64, 4.0 * y as f64, inputs.true_depth(x, y));
        assert!((point - POINT).dot(NORMAL).abs() < 1e-6);
        let colour = |view: usize| {
            let (pixel, _) = inputs.cameras[view].pixel(point).unwrap();
            let at = (pixel.y.round() as usize * 320 + pixel.x.round() as usize) * 3;
            inputs.photos[view].rgb[at]
        };
        for view in 1..3 {
            assert!((colour(view) - colour(0)).abs() < 0.25, "{} {}", colour(view), colour(0));
        }
    }

    #[test]
    fn a_file_that_is_not_one_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inputs.safetensors");
        let depths = [1.0f64, 2.0];
        write_tensors(&path, "write", &[("depths", Dtype::F64, &[2], bytemuck::cast_slice(&depths))]).unwrap();
        let message = Inputs::read(&path).unwrap_err().to_string();
        assert!(message.ends_with("tensor `images`: it is missing; expected F32 [any, any, any, 3]"), "{message}");
        std::fs::write(&path, "no tensors").unwrap();
        assert!(Inputs::read(&path).unwrap_err().to_string().contains("expected a safetensors file"));
        let size = Size { width: 30, ..SMALL }.check();
        assert!(size.unwrap_err().to_string().starts_with("--width: 30; expected a multiple of 4"));
    }
}
