//! The folder `stereo` of COLMAP's dense workspace: depth and normal maps, consistency graphs, and the lists of photos.
//!
//! `NAME.photometric.bin` has every pixel with a depth, `NAME.geometric.bin` those that are confirmed as the run's
//! fusion asks ([`confirmed`]), and the graph tells which views confirm each of them. A map is a text
//! `width&height&channels&` and then f32 values, channel after channel, each row by row; a graph begins likewise and
//! has i32 values: column, row, how many views, their places in the list of images. Normals are in the camera's axes.
//!
//! [`confirmed`]: crate::export::confirmed

use std::io::Write;

use glam::Vec3;

use crate::error::Result;
use crate::export::confirmed::thresholds;
use crate::export::job::{Job, Out, put};
use crate::export::model::Model;
use crate::export::results::ViewMaps;
use crate::files::map::Map;
use crate::maps::consistency::{DepthView, agreement_above};

/// Writes it into a folder, without `fusion.cfg` and `patch-match.cfg`: see [`write_lists`].
///
/// # Errors
/// Maps that cannot be read, files that cannot be written.
pub fn write_view(job: &Job, model: &Model, folder: &str, view: usize) -> Result<()> {
    let results = job.results;
    let (own, name) = (&results.views[view], &model.images[view].name);
    let ViewMaps { mut depth, confidence } = results.maps(view)?;
    let mut normals = results.normals(view, &depth)?;
    let r = own.camera.r.as_mat3();
    normals.iter_mut().for_each(|normal| *normal = (r * Vec3::from(*normal)).to_array());
    let place = |folder_of: &str, kind: &str| format!("{folder}/{folder_of}/{name}.{kind}.bin");
    write_maps(job, (&place("depth_maps", "photometric"), &place("normal_maps", "photometric")), &depth, &normals)?;

    let fusion = results.fusion()?;
    let thresholds = thresholds(job, &fusion.method);
    let required = thresholds.required(own.checked_against.len());
    // Which source agrees where; one source's maps at a time.
    let mut agreeing: Vec<(u32, Vec<u8>)> = Vec::with_capacity(own.checked_against.len());
    for &other in &own.checked_against {
        let maps = results.maps(other)?;
        let camera = results.views[other].camera;
        let source = DepthView { camera, depth: &maps.depth, confidence: &maps.confidence };
        let reference = DepthView { camera: own.camera, depth: &depth, confidence: &confidence };
        let agreement = agreement_above(&reference, &[&source], &thresholds, fusion.min_confidence);
        agreeing.push((other as u32, agreement.count));
    }
    let confirming = |pixel: usize| agreeing.iter().filter(move |(_, count)| count[pixel] > 0).map(|(other, _)| *other);
    let least = fusion.min_confidence as f32;
    let is_kept = |pixel: usize| {
        confidence.data[pixel] > least && required.is_some_and(|required| confirming(pixel).count() >= required)
    };
    for (pixel, normal) in normals.iter_mut().enumerate() {
        if depth.data[pixel] > 0.0 && !is_kept(pixel) {
            (depth.data[pixel], *normal) = (0.0, [0.0; 3]);
        }
    }
    write_maps(job, (&place("depth_maps", "geometric"), &place("normal_maps", "geometric")), &depth, &normals)?;
    job.write(&place("consistency_graphs", "geometric"), |out| {
        put(write!(out, "{}&{}&1&", depth.width, depth.height))?;
        for pixel in (0..depth.data.len()).filter(|&pixel| depth.data[pixel] > 0.0) {
            let views: Vec<u32> = confirming(pixel).collect();
            let head = [pixel % depth.width, pixel / depth.width, views.len()].map(|v| v as u32);
            head.iter().chain(&views).try_for_each(|v| put(out.write_all(&v.to_le_bytes())))?;
        }
        Ok(())
    })
}

/// A depth and a normal map of one view.
fn write_maps(job: &Job, (depth_file, normal_file): (&str, &str), depth: &Map, normals: &[[f32; 3]]) -> Result<()> {
    let head = |out: Out, channels: usize| put(write!(out, "{}&{}&{channels}&", depth.width, depth.height));
    job.write(depth_file, |out| {
        head(out, 1)?;
        depth.data.iter().try_for_each(|v| put(out.write_all(&v.to_le_bytes())))
    })?;
    job.write(normal_file, |out| {
        head(out, 3)?;
        (0..3).try_for_each(|axis| normals.iter().try_for_each(|n| put(out.write_all(&n[axis].to_le_bytes()))))
    })
}

/// `fusion.cfg`, the photos that are fused, and `patch-match.cfg`, each photo with its source views.
///
/// # Errors
/// Files that cannot be written.
pub fn write_lists(job: &Job, model: &Model, folder: &str) -> Result<()> {
    let name = |view: usize| model.images[view].name.as_str();
    job.write(&format!("{folder}/fusion.cfg"), |out| {
        model.images.iter().try_for_each(|image| put(writeln!(out, "{}", image.name)))
    })?;
    job.write(&format!("{folder}/patch-match.cfg"), |out| {
        for (at, view) in job.results.views.iter().enumerate() {
            let sources: Vec<&str> = view.checked_against.iter().map(|&other| name(other)).collect();
            put(writeln!(out, "{}\n{}", name(at), sources.join(", ")))?;
        }
        Ok(())
    })
}
