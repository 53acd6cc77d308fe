//! `openmvs/`: OpenMVS's scene and depth maps: `scene.mvs`, `depthNNNN.dmap` and `images/`.
//!
//! `scene.mvs` is version 3 of its interface archive: one platform with a camera a view, a pose each, the images, and
//! at most 50 000 points of the cloud with the images that see them, as its sparse points. A map (type `DR`) holds
//! depth, normals in the camera's axes and confidence as f32, and the camera: K (pixel centres are integers), R, and
//! the camera's place. Lists begin with their length, u64 in the archive. Layouts: OpenMVS's wiki ("Interface", "DMAP
//! format").

use std::io::{self, Write};

use glam::{DMat3, DVec3, Vec3};

use crate::error::Result;
use crate::export::confirmed::{ExportedMaps, maps};
use crate::export::job::{Job, put};
use crate::export::model::{Image, Model};
use crate::export::photos::Photos;
use crate::export::tracks::Tracks;

/// Its folder.
const FOLDER: &str = "openmvs";
/// Of the archive.
const VERSION: u32 = 3;
/// Points of the cloud that serve as sparse ones, at most.
const SPARSE_POINTS: usize = 50_000;
/// Depth, normals and confidence.
const CONTENT: u8 = 1 | 2 | 4;

/// Writes it.
///
/// # Errors
/// Photos, maps or a cloud that cannot be read; files that cannot be written.
pub fn write(job: &Job) -> Result<()> {
    let photos = Photos::open(job)?;
    let model = Model::new(job);
    let tracks = if job.cloud.is_some() { Some(Tracks::find(job)?.thinned(SPARSE_POINTS)) } else { None };
    write_scene(job, &model, tracks.as_ref())?;
    job.each_view(FOLDER, |view| {
        photos.write(job, view, (FOLDER, &model.images[view].name))?;
        write_map(job, &model, view)
    })
}

fn write_map(job: &Job, model: &Model, view: usize) -> Result<()> {
    let ExportedMaps { depth, confidence, mut normals } = maps(job, view)?;
    let image = &model.images[view];
    let r = image.camera.r.as_mat3();
    normals.iter_mut().for_each(|normal| *normal = (r * Vec3::from(*normal)).to_array());
    let depths = depth.data.iter().copied().filter(|&d| d > 0.0);
    let (near, far) = depths.fold((f32::INFINITY, 0.0f32), |(near, far), d| (near.min(d), far.max(d)));
    let near = if near.is_finite() { near } else { 0.0 };
    let name = format!("images/{}", image.name);
    job.write(&format!("{FOLDER}/depth{view:04}.dmap"), |out| {
        let (width, height) = (depth.width as u32, depth.height as u32);
        put(out.write_all(&[b'D', b'R', CONTENT, 0]))?;
        // The photo's size and the map's, which are one.
        put(out.write_all(&[width, height, width, height].map(u32::to_le_bytes).concat()))?;
        put(out.write_all(&[near, far].map(f32::to_le_bytes).concat()))?;
        put(out.write_all(&(name.len() as u16).to_le_bytes()))?;
        put(out.write_all(name.as_bytes()))?;
        let others = &job.results.views[view].checked_against;
        put(out.write_all(&(others.len() as u32 + 1).to_le_bytes()))?;
        for id in [view].iter().chain(others) {
            put(out.write_all(&(*id as u32).to_le_bytes()))?;
        }
        put(write_matrix(out, &image.camera.k))?;
        put(write_matrix(out, &image.camera.r))?;
        put(write_vector(out, image.camera.centre()))?;
        let values = depth.data.iter().chain(normals.as_flattened()).chain(&confidence.data);
        put(values.map(|v| v.to_le_bytes()).try_for_each(|bytes| out.write_all(&bytes)))
    })
}

fn write_scene(job: &Job, model: &Model, tracks: Option<&Tracks>) -> Result<()> {
    job.write(&format!("{FOLDER}/scene.mvs"), |out| {
        put(out.write_all(b"MVSI"))?;
        put(out.write_all(&[VERSION, 0].map(u32::to_le_bytes).concat()))?;
        put(write_platform(out, &model.images))?;
        put(write_length(out, model.images.len()))?;
        for (at, image) in model.images.iter().enumerate() {
            put(write_text(out, &format!("images/{}", image.name)))?;
            // Platform, camera, pose, and the image's number.
            put(out.write_all(&[0, at, at, at].map(|id| (id as u32).to_le_bytes()).concat()))?;
        }
        let count = tracks.map_or(0, Tracks::seen_points);
        put(write_length(out, count))?;
        model.points(job, tracks, |_, point, track| {
            let place = model.place(point).as_vec3().to_array();
            put(out.write_all(&place.map(f32::to_le_bytes).concat()))?;
            put(write_length(out, track.len()))?;
            // No weight is known: 0.
            track.iter().try_for_each(|(view, _)| put(out.write_all(&[view.to_le_bytes(), [0; 4]].concat())))
        })?;
        put(write_length(out, count))?;
        model.points(job, tracks, |_, point, _| put(out.write_all(&point.normal.map(f32::to_le_bytes).concat())))?;
        put(write_length(out, count))?;
        // Blue first.
        model.points(job, tracks, |_, point, _| {
            let [red, green, blue] = point.colour;
            put(out.write_all(&[blue, green, red]))
        })?;
        // No lines, nor normals and colours of lines; and no transform.
        put((0..3).try_for_each(|_| write_length(out, 0)))?;
        put((0..16).try_for_each(|i| out.write_all(&f64::from(u8::from(i % 5 == 0)).to_le_bytes())))
    })
}

/// One platform at the origin with a camera a view, and the views' poses.
fn write_platform(out: &mut impl Write, images: &[Image]) -> io::Result<()> {
    write_length(out, 1)?;
    write_text(out, "engine")?;
    write_length(out, images.len())?;
    for image in images {
        write_text(out, &image.name)?;
        let (width, height) = image.size;
        out.write_all(&[width as u32, height as u32].map(u32::to_le_bytes).concat())?;
        write_matrix(out, &image.camera.k)?;
        // Of the camera on the platform.
        write_matrix(out, &DMat3::IDENTITY)?;
        write_vector(out, DVec3::ZERO)?;
    }
    write_length(out, images.len())?;
    for image in images {
        write_matrix(out, &image.camera.r)?;
        write_vector(out, image.camera.centre())?;
    }
    Ok(())
}

fn write_length(out: &mut impl Write, length: usize) -> io::Result<()> {
    out.write_all(&(length as u64).to_le_bytes())
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    write_length(out, text.len())?;
    out.write_all(text.as_bytes())
}

/// Row by row.
fn write_matrix(out: &mut impl Write, m: &DMat3) -> io::Result<()> {
    (0..3).try_for_each(|i| write_vector(out, m.row(i)))
}

fn write_vector(out: &mut impl Write, v: DVec3) -> io::Result<()> {
    out.write_all(&v.to_array().map(f64::to_le_bytes).concat())
}
