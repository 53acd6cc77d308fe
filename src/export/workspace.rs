//! `workspace/`: photos and cameras over which the maps can be laid, and COLMAP's dense workspace around them.
//!
//! - `images/NAME.jpg`: undistorted, of the maps' own size and pixels;
//! - `sparse/`: COLMAP's model of them, with some points of the cloud, since COLMAP's fusion takes from their tracks
//!   which photos overlap; `transforms.json`: the same for NeRF programs;
//!   `cams/NAME_cam.txt`: the same in MVSNet's form;
//! - `stereo/`: maps in COLMAP's form ([`crate::export::stereo`]), for its fusion and meshing;
//! - `fused.ply` and `fused.ply.vis`, where the run has a cloud: as COLMAP's fusion writes them.

use std::io::Write;

use glam::{DMat4, DVec3, DVec4};
use serde_json::{Value, json};

use crate::error::Result;
use crate::export::job::{Job, put};
use crate::export::model::{Image, Model};
use crate::export::photos::Photos;
use crate::export::stereo;
use crate::export::tracks::Tracks;

/// Its folder.
const FOLDER: &str = "workspace";
/// Points of the cloud in `sparse/`, at most: sparse models of a few hundred photos have as many.
const SPARSE_POINTS: usize = 50_000;

/// Writes it.
///
/// # Errors
/// Photos, maps or a cloud that cannot be read; files that cannot be written.
pub fn write(job: &Job) -> Result<()> {
    let photos = Photos::open(job)?;
    let model = Model::new(job);
    let tracks = if job.cloud.is_some() { Some(Tracks::find(job)?) } else { None };
    let some = tracks.as_ref().map(|tracks| tracks.thinned(SPARSE_POINTS));
    model.write(job, &format!("{FOLDER}/sparse"), some.as_ref())?;
    write_transforms(job, &model)?;
    let stereo = format!("{FOLDER}/stereo");
    stereo::write_lists(job, &model, &stereo)?;
    job.each_view(FOLDER, |view| {
        photos.write(job, view, (FOLDER, &model.images[view].name))?;
        write_cam(job, &model, view)?;
        stereo::write_view(job, &model, &stereo, view)
    })?;
    match tracks {
        Some(tracks) => write_cloud(job, &model, &tracks),
        None => {
            job.note(
                "workspace/sparse has no points, since the run has no cloud: COLMAP's fusion takes from them which \
                      photos overlap",
            );
            Ok(())
        }
    }
}

/// The four rows of [R t; 0 1].
fn pose(image: &Image) -> [[f64; 4]; 4] {
    let (r, t) = (image.camera.r, image.camera.t);
    let row = |i: usize| [r.row(i).x, r.row(i).y, r.row(i).z, t[i]];
    [row(0), row(1), row(2), [0.0, 0.0, 0.0, 1.0]]
}

/// `transforms.json` of instant-ngp and nerfstudio: camera to world, the camera's y up and z back, as OpenGL has it;
/// principal points as COLMAP's.
fn write_transforms(job: &Job, model: &Model) -> Result<()> {
    let frame = |image: &Image| {
        let (k, world_from_cam) = (image.camera.k, DMat4::from_cols_array_2d(&pose(image)).transpose().inverse());
        let flip = DMat4::from_diagonal(DVec4::new(1.0, -1.0, -1.0, 1.0));
        let rows = (world_from_cam * flip).transpose().to_cols_array_2d();
        json!({
            "file_path": format!("images/{}", image.name),
            "w": image.size.0, "h": image.size.1,
            "fl_x": k.x_axis.x, "fl_y": k.y_axis.y, "cx": k.z_axis.x + 0.5, "cy": k.z_axis.y + 0.5,
            "transform_matrix": rows,
        })
    };
    let frames: Vec<Value> = model.images.iter().map(frame).collect();
    let mut all = json!({ "camera_model": "PINHOLE", "frames": frames });
    if job.cloud.is_some() {
        all["ply_file_path"] = json!("fused.ply");
    }
    if model.origin != DVec3::ZERO {
        all["offset"] = json!(model.origin.to_array());
    }
    job.write(&format!("{FOLDER}/transforms.json"), |out| put(writeln!(out, "{all:#}")))
}

/// A camera in MVSNet's form: pixel centres are integers; nearest depth, interval, planes, farthest depth.
fn write_cam(job: &Job, model: &Model, view: usize) -> Result<()> {
    let image = &model.images[view];
    let summary = job.results.manifest.views.get(view).and_then(|view| view.depth.as_ref());
    let (near, far, planes) = match summary {
        Some(depth) => (depth.range.near, depth.range.far, depth.planes),
        None => {
            // Of maps that others have made: the depths that there are.
            let depth = job.results.maps(view)?.depth;
            let depths = depth.data.iter().filter(|&&d| d > 0.0).map(|&d| f64::from(d));
            let (near, far) = depths.fold((f64::INFINITY, 0.0f64), |(near, far), d| (near.min(d), far.max(d)));
            if near < far { (near, far, 192) } else { (1.0, 2.0, 192) }
        }
    };
    let interval = (far - near) / (planes.max(2) - 1) as f64;
    let rows = |rows: &[&[f64]]| {
        let row = |row: &&[f64]| row.iter().map(f64::to_string).collect::<Vec<_>>().join(" ") + "\n";
        rows.iter().map(row).collect::<String>()
    };
    let pose = pose(image);
    let pose: Vec<&[f64]> = pose.iter().map(<[f64; 4]>::as_slice).collect();
    let k = [0, 1, 2].map(|i| image.camera.k.row(i).to_array());
    let k: Vec<&[f64]> = k.iter().map(<[f64; 3]>::as_slice).collect();
    let text = format!("extrinsic\n{}\nintrinsic\n{}\n{near} {interval} {planes} {far}\n", rows(&pose), rows(&k));
    let name = &job.results.views[view].name;
    job.write(&format!("{FOLDER}/cams/{name}_cam.txt"), |out| put(out.write_all(text.as_bytes())))
}

/// The cloud as COLMAP's fusion writes it, and beside it which images see each point.
fn write_cloud(job: &Job, model: &Model, tracks: &Tracks) -> Result<()> {
    let cloud = job.cloud()?;
    job.write(&format!("{FOLDER}/fused.ply"), |out| {
        put(write!(out, "ply\nformat binary_little_endian 1.0\nelement vertex {}\n", cloud.count))?;
        for name in ["x", "y", "z", "nx", "ny", "nz"] {
            put(writeln!(out, "property float {name}"))?;
        }
        put(write!(out, "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"))?;
        cloud.each(|point| {
            let place = model.place(point).as_vec3().to_array();
            let floats = place.iter().chain(&point.normal);
            put(floats.map(|v| v.to_le_bytes()).try_for_each(|bytes| out.write_all(&bytes)))?;
            put(out.write_all(&point.colour))
        })
    })?;
    job.write(&format!("{FOLDER}/fused.ply.vis"), |out| {
        put(out.write_all(&cloud.count.to_le_bytes()))?;
        for index in 0..cloud.count as usize {
            let track = tracks.of_point(index);
            put(out.write_all(&(track.len() as u32).to_le_bytes()))?;
            track.iter().try_for_each(|(view, _)| put(out.write_all(&view.to_le_bytes())))?;
        }
        Ok(())
    })
}
