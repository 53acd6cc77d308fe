//! `exr/NAME.exr`: OpenEXR 2, one a view, with the channels `Z` (depth), `confidence` and `normal.X`, `normal.Y`,
//! `normal.Z` (in the world's axes), all 32-bit floats; ZIP-compressed in blocks of 16 rows. The attributes `K` (m33d)
//! and `camFromWorld` (m44d) hold the camera, row by row.
//!
//! Layout: the format's own description ("OpenEXR File Layout"); a block's bytes are parted into those at even and at
//! odd places and each replaced by its difference from the one before, plus 128, before they are deflated.
//!
//! The crate exr (1.74), which reads such files here, would write them, too, but deflates with an effort of its own
//! (level 4 of miniz_oxide) that cannot be chosen.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use glam::{DMat4, DVec3};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::export::confirmed::{ExportedMaps, maps};
use crate::export::job::{Job, put};
use crate::scene::camera::Camera;

/// Rows of a block of this compression.
const BLOCK: usize = 16;
/// The order of channels is that of their names' bytes.
const CHANNELS: [&str; 5] = ["Z", "confidence", "normal.X", "normal.Y", "normal.Z"];

/// Writes them.
///
/// # Errors
/// Those of the maps and of writing.
pub fn write(job: &Job) -> Result<()> {
    job.each_view("exr", |view| {
        let of_run = &job.results.views[view];
        let maps = maps(job, view)?;
        let (width, height) = of_run.size;
        let blocks: Vec<Vec<u8>> = (0..height)
            .into_par_iter()
            .step_by(BLOCK)
            .map(|from| squeezed(&rows(&maps, from, (from + BLOCK).min(height))))
            .collect::<std::io::Result<_>>()
            .map_err(|e| Error::Bug { place: "deflating a map", problem: e.to_string() })?;
        job.write(&format!("exr/{}.exr", of_run.name), |out| {
            let header = header((width, height), &of_run.camera);
            put(out.write_all(&header))?;
            let mut at = header.len() + 8 * blocks.len();
            for block in &blocks {
                put(out.write_all(&(at as u64).to_le_bytes()))?;
                at += 8 + block.len();
            }
            for (number, block) in blocks.iter().enumerate() {
                put(out.write_all(&((number * BLOCK) as u32).to_le_bytes()))?;
                put(out.write_all(&(block.len() as u32).to_le_bytes()))?;
                put(out.write_all(block))?;
            }
            Ok(())
        })
    })
}

/// Rows as the format orders them: in a row channel after channel.
fn rows(maps: &ExportedMaps, from: usize, to: usize) -> Vec<u8> {
    let width = maps.depth.width;
    let mut bytes = Vec::with_capacity((to - from) * width * CHANNELS.len() * 4);
    for y in from..to {
        let row = y * width..(y + 1) * width;
        for map in [&maps.depth, &maps.confidence] {
            bytes.extend(map.data[row.clone()].iter().flat_map(|v| v.to_le_bytes()));
        }
        for axis in 0..3 {
            bytes.extend(maps.normals[row.clone()].iter().flat_map(|n| n[axis].to_le_bytes()));
        }
    }
    bytes
}

/// A block as it is stored: deflated, or as it is where that is no longer.
fn squeezed(raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut parted: Vec<u8> = raw.iter().step_by(2).chain(raw.iter().skip(1).step_by(2)).copied().collect();
    for i in (1..parted.len()).rev() {
        parted[i] = parted[i].wrapping_sub(parted[i - 1]).wrapping_add(128);
    }
    // Maps are nearly noise: more effort takes five times as long for 7 % (23 instead of 123 MB/s a core).
    let mut deflated = ZlibEncoder::new(Vec::new(), Compression::fast());
    deflated.write_all(&parted)?;
    let deflated = deflated.finish()?;
    Ok(if deflated.len() < raw.len() { deflated } else { raw.to_vec() })
}

fn header((width, height): (usize, usize), camera: &Camera) -> Vec<u8> {
    const FLOAT: i32 = 2;
    const ZIP: u8 = 3;
    let ints = |values: &[i32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let doubles = |values: &[f64]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut channels = Vec::new();
    for name in CHANNELS {
        channels.extend(name.bytes().chain([0]));
        channels.extend(ints(&[FLOAT]));
        // Not to be taken for light; nothing; a sample at every pixel.
        channels.extend([0; 4]);
        channels.extend(ints(&[1, 1]));
    }
    channels.push(0);
    let window = ints(&[0, 0, width as i32 - 1, height as i32 - 1]);
    let pose = DMat4::from_mat3(camera.r);
    let pose = DMat4::from_cols(pose.x_axis, pose.y_axis, pose.z_axis, DVec3::extend(camera.t, 1.0));
    // Matrices of columns transposed are rows.
    let (k, pose) = (camera.k.transpose().to_cols_array(), pose.transpose().to_cols_array());
    let attributes: [(&str, &str, Vec<u8>); 10] = [
        ("K", "m33d", doubles(&k)),
        ("camFromWorld", "m44d", doubles(&pose)),
        ("channels", "chlist", channels),
        ("compression", "compression", vec![ZIP]),
        ("dataWindow", "box2i", window.clone()),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", vec![0]),
        ("pixelAspectRatio", "float", floats(&[1.0])),
        ("screenWindowCenter", "v2f", floats(&[0.0, 0.0])),
        ("screenWindowWidth", "float", floats(&[1.0])),
    ];
    let mut bytes = vec![0x76, 0x2f, 0x31, 0x01, 2, 0, 0, 0];
    for (name, kind, value) in attributes {
        bytes.extend(name.bytes().chain([0]).chain(kind.bytes()).chain([0]));
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
    }
    bytes.push(0);
    bytes
}
