//! `tiff32/depth/NAME.tif`, `tiff32/confidence/NAME.tif` (one channel), `tiff32/normal/NAME.tif` (three, x y z in the
//! world's axes): TIFF files of 32-bit floats, not compressed. 0 is no depth.

use std::io::{Seek, Write};

use tiff::TiffError;
use tiff::encoder::TiffEncoder;
use tiff::encoder::colortype::{Gray32Float, RGB32Float};

use crate::error::Result;
use crate::export::confirmed::{ExportedMaps, maps};
use crate::export::job::{Job, put};

/// Writes them.
///
/// # Errors
/// Those of the maps and of writing.
pub fn write(job: &Job) -> Result<()> {
    job.each_view("tiff32", |view| {
        let name = &job.results.views[view].name;
        let ExportedMaps { depth, confidence, normals } = maps(job, view)?;
        let size = (depth.width as u32, depth.height as u32);
        for (kind, map) in [("depth", &depth), ("confidence", &confidence)] {
            job.write(&format!("tiff32/{kind}/{name}.tif"), |out| encode(out, size, 1, &map.data))?;
        }
        job.write(&format!("tiff32/normal/{name}.tif"), |out| encode(out, size, 3, normals.as_flattened()))
    })
}

fn encode(out: &mut (impl Write + Seek), (width, height): (u32, u32), channels: usize, values: &[f32]) -> Result<()> {
    let encoded = TiffEncoder::new(out).and_then(|mut encoder| match channels {
        1 => encoder.write_image::<Gray32Float>(width, height, values),
        _ => encoder.write_image::<RGB32Float>(width, height, values),
    });
    put(encoded.map_err(|e| match e {
        TiffError::IoError(e) => e,
        other => std::io::Error::other(other.to_string()),
    }))
}
