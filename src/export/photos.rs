//! Photos over which the maps can be laid: undistorted, and of the maps' own pixels.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::export::job::{Job, put};
use crate::export::options::PhotoFormat;
use crate::export::results::Results;
use crate::files::names;
use crate::manifest::Manifest;
use crate::net::config::Resolution;
use crate::run::plan::Frame;
use crate::scene::photo::Photo;
use crate::scene::pose_form::PoseForm;
use crate::scene::{DepthNumbers, Layout, OpenOptions, Scene, View};

/// By how much intrinsics may differ from the run's, as a share of the focal length: what text loses.
const MOST_DIFFERENCE: f64 = 1e-6;

/// The scene's photos, in the order of the run's views.
pub struct Photos {
    scene: Scene,
    /// For each view of the run, that of the scene.
    places: Vec<usize>,
}

/// How the run read its scene.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AsRead {
    depth_numbers: DepthNumbers,
    layout: Option<Layout>,
    /// These as [`names::in_json`] writes them.
    masks: Option<String>,
    sparse: Option<String>,
    images: Option<String>,
    poses: Option<PoseForm>,
}

impl Photos {
    /// Opens the scene again that the run was of.
    ///
    /// # Errors
    /// A scene that is no longer there or lacks a view of the run.
    pub fn open(job: &Job) -> Result<Self> {
        Self::of(job.results, job.options.scene.as_deref())
    }

    /// The same for a run, whose scene may lie elsewhere now.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(results: &Results, elsewhere: Option<&Path>) -> Result<Self> {
        let manifest = &results.manifest;
        let path: PathBuf = elsewhere.map_or_else(|| manifest.scene.path.clone(), Path::to_owned);
        if !path.exists() {
            return Err(Error::input(
                path.display().to_string(),
                "no folder with the scene that the run was of",
                "its photos: --scene SCENE says where the scene lies now",
            ));
        }
        let scene = Scene::open(&path, &as_read(manifest))?;
        let by_name: HashMap<&str, usize> = scene.views.iter().enumerate().map(|(i, v)| (v.name.as_str(), i)).collect();
        let place = |name: &String| {
            by_name.get(name.as_str()).copied().ok_or_else(|| {
                Error::input(path.display().to_string(), format!("no view {name}"), "the scene that the run was of")
            })
        };
        let places: Vec<usize> = results.views.iter().map(|view| place(&view.name)).collect::<Result<_>>()?;
        for (of_run, &at) in results.views.iter().zip(&places) {
            let (found, expected) = (k_of_map(&scene.views[at], manifest.max_side(), of_run.size), of_run.camera.k);
            let differs = |a: f64, b: f64| (a - b).abs() > MOST_DIFFERENCE * expected.x_axis.x.abs();
            let (now, then) = (found.to_cols_array(), expected.to_cols_array());
            // A photo that is undistorted to another camera would not lie under its map.
            if now.into_iter().zip(then).any(|(a, b)| differs(a, b)) {
                let numbers = |k: glam::DMat3| [k.x_axis.x, k.y_axis.y, k.z_axis.x, k.z_axis.y];
                return Err(Error::input(
                    format!("{}: view {}", path.display(), of_run.name),
                    format!("fx fy cx cy {:?} at its map's pixels, not {:?}", numbers(found), numbers(expected)),
                    "the scene with the cameras that the run had: run `engine infer` again if they are better now",
                ));
            }
        }
        Ok(Self { scene, places })
    }

    /// The photo of a view at the pixels of its map, and what is worth knowing about how it was made.
    ///
    /// # Errors
    /// A photo that cannot be read.
    pub fn load(&self, results: &Results, view: usize) -> Result<(Photo, Vec<String>)> {
        let loaded = Photo::load(&self.scene.views[self.places[view]], results.manifest.max_side())?;
        Ok((reduced(loaded.photo, results.views[view].size), loaded.notes))
    }

    /// The photo of a view, at the pixels of its map.
    ///
    /// # Errors
    /// A photo that cannot be read.
    pub fn of_map(&self, job: &Job, view: usize) -> Result<Photo> {
        let (photo, notes) = self.load(job.results, view)?;
        notes.into_iter().for_each(|note| job.note(note));
        Ok(photo)
    }

    /// Bytes that one photo takes while it is read: as decoded (up to 16 bits a channel), as f32, and filtered.
    pub fn bytes(&self) -> u64 {
        let pixels = |size: (usize, usize)| size.0 as u64 * size.1 as u64;
        let largest = self.scene.views.iter().map(|view| pixels(view.size).max(pixels(view.stored_size()))).max();
        largest.unwrap_or(0) * (6 + 12 + 12)
    }

    /// Writes the photo of a view under this name in images/ of a folder, and its mask, where it has one, in masks/
    /// there, as COLMAP looks for it: NAME.jpg.png, 0 where the photo does not show the scene.
    ///
    /// # Errors
    /// A photo that cannot be read or written.
    pub fn write(&self, job: &Job, view: usize, (folder, name): (&str, &str)) -> Result<()> {
        let of_scene = &self.scene.views[self.places[view]];
        let mut loaded = Photo::load(of_scene, job.results.manifest.max_side())?;
        let mask = loaded.take_mask(of_scene)?;
        loaded.notes.into_iter().for_each(|note| job.note(note));
        let (width, height) = job.results.views[view].size;
        if let Some(mask) = &mask {
            let mask = match halvings(mask.size(), (width, height)) {
                Some(halvings) => mask.decimated(halvings),
                None => mask.resized(width, height),
            };
            let grey: Vec<u8> =
                (0..width * height).map(|i| if mask.is_outside(i % width, i / width) { 0 } else { 255 }).collect();
            job.write(&format!("{folder}/masks/{name}.png"), |out| {
                put(PngEncoder::new(out)
                    .write_image(&grey, width as u32, height as u32, ExtendedColorType::L8)
                    .map_err(io))
            })?;
        }
        let colours = reduced(loaded.photo, (width, height)).colours();
        let (bytes, size, kind) = (colours.as_flattened(), (width as u32, height as u32), ExtendedColorType::Rgb8);
        job.write(&format!("{folder}/images/{name}"), |out| {
            let encoded = match job.options.photos {
                PhotoFormat::Jpeg(quality) => {
                    JpegEncoder::new_with_quality(out, quality).write_image(bytes, size.0, size.1, kind)
                }
                PhotoFormat::Png => PngEncoder::new(out).write_image(bytes, size.0, size.1, kind),
            };
            put(encoded.map_err(io))
        })
    }
}

/// How the run has read its scene; depth ranges are not asked for.
pub fn as_read(manifest: &Manifest) -> OpenOptions {
    let parameters = serde_json::Value::Object(manifest.parameters.clone());
    // What a manifest does not say is read in the usual way.
    let AsRead { depth_numbers, layout, masks, sparse, images, poses } =
        serde_json::from_value(parameters).unwrap_or_default();
    OpenOptions {
        depth_numbers,
        layout,
        poses,
        masks: masks.as_deref().map(names::from_json),
        sparse: sparse.as_deref().map(names::from_json),
        images: images.as_deref().map(names::from_json),
        range_given: true,
        ..OpenOptions::default()
    }
}

/// What an encoder says.
fn io(error: ImageError) -> std::io::Error {
    match error {
        ImageError::IoError(error) => error,
        other => std::io::Error::other(other.to_string()),
    }
}

/// The intrinsics of a view's map of this size, as the run has them: see [`reduced`].
fn k_of_map(view: &View, max_side: Option<usize>, size: (usize, usize)) -> glam::DMat3 {
    let Frame { width, height, camera, .. } = Frame::new(view, max_side, Resolution::Full);
    let camera = match halvings((width, height), size) {
        Some(halvings) => camera.decimated(0.5f64.powi(halvings as i32)),
        None => camera.resized(size.0 as f64 / width as f64, size.1 as f64 / height as f64),
    };
    camera.k
}

/// How often a photo's sides are halved, rounded up, to a map's; `None` where that does not lead there.
fn halvings((width, height): (usize, usize), map: (usize, usize)) -> Option<u32> {
    (0..8).find(|n| (width.div_ceil(1 << n), height.div_ceil(1 << n)) == map)
}

/// The photo at the pixels of its map: every second, fourth ... of a smoothed one where the map is so much smaller
/// (rounded up), as the run has it, else areas to areas.
fn reduced(mut photo: Photo, (width, height): (usize, usize)) -> Photo {
    match halvings((photo.width, photo.height), (width, height)) {
        Some(halvings) => {
            for _ in 0..halvings {
                photo = photo.pyramid_level();
            }
            photo
        }
        None => photo.area_averaged(width.min(photo.width), height.min(photo.height)),
    }
}
