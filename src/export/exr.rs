//! `exr/NAME.exr`: OpenEXR 2, one a view, with the channels `Z` (depth), `confidence` and `normal.X`, `normal.Y`,
//! `normal.Z` (in the world's axes), all 32-bit floats, not compressed. The attributes `K` (m33d) and `camFromWorld`
//! (m44d) hold the camera, row by row.
//!
//! Layout: the format's own description ("OpenEXR File Layout").
//!
//! The crate exr (1.74), which reads such files here, would write them, too, but keeps attributes in an order that is
//! another one in every run, so that the same maps would not give the same bytes.

use std::io::Write;

use glam::{DMat4, DVec3};

use crate::error::Result;
use crate::export::confirmed::{ExportedMaps, maps};
use crate::export::job::{Job, put};
use crate::scene::camera::Camera;

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
        job.write(&format!("exr/{}.exr", of_run.name), |out| {
            let header = header((width, height), &of_run.camera);
            put(out.write_all(&header))?;
            // Not compressed, a row is a block. Quick deflation takes less than 1 % off maps, and most of the time.
            let length = width * CHANNELS.len() * 4;
            for y in 0..height {
                let at = header.len() + 8 * height + y * (8 + length);
                put(out.write_all(&(at as u64).to_le_bytes()))?;
            }
            for y in 0..height {
                put(out.write_all(&(y as u32).to_le_bytes()))?;
                put(out.write_all(&(length as u32).to_le_bytes()))?;
                put(out.write_all(&row(&maps, y)))?;
            }
            Ok(())
        })
    })
}

/// A row as the format orders it: channel after channel.
fn row(maps: &ExportedMaps, y: usize) -> Vec<u8> {
    let width = maps.depth.width;
    let row = y * width..(y + 1) * width;
    let mut bytes = Vec::with_capacity(width * CHANNELS.len() * 4);
    for map in [&maps.depth, &maps.confidence] {
        bytes.extend(map.data[row.clone()].iter().flat_map(|v| v.to_le_bytes()));
    }
    for axis in 0..3 {
        bytes.extend(maps.normals[row.clone()].iter().flat_map(|n| n[axis].to_le_bytes()));
    }
    bytes
}

fn header((width, height): (usize, usize), camera: &Camera) -> Vec<u8> {
    const FLOAT: i32 = 2;
    const NOT_COMPRESSED: u8 = 0;
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
        ("compression", "compression", vec![NOT_COMPRESSED]),
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
