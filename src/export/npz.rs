//! `npz/NAME.npz`: NumPy's archive, one a view: `depth` and `confidence` (f32, [height, width]), `normal` (f32,
//! [height, width, 3], in the world's axes), `K` (f64, [3, 3], pixel centres are integers), `cam_from_world` (f64,
//! [3, 4]: `x_cam = R X + t`).
//!
//! The archive is a ZIP file whose members are stored as they are (PKWARE APPNOTE 4.3), each in NumPy's format 1.0. The
//! crate zip makes the archive; the head of an array is eight lines here, which the crates npyz (0.9) and ndarray-npy
//! (0.10) would each want types or arrays of their own for.

use std::io::{self, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::Result;
use crate::export::confirmed::{ExportedMaps, maps};
use crate::export::job::{Job, put};

/// Writes them.
///
/// # Errors
/// Those of the maps and of writing.
pub fn write(job: &Job) -> Result<()> {
    job.each_view("npz", |view| {
        let of_run = &job.results.views[view];
        let ExportedMaps { depth, confidence, normals } = maps(job, view)?;
        let (size, camera) = ([depth.height, depth.width], of_run.camera);
        let row = |i: usize| [camera.r.row(i).to_array().as_slice(), &[camera.t[i]]].concat();
        let members = [
            ("depth", floats(&size, &depth.data)),
            ("confidence", floats(&size, &confidence.data)),
            ("normal", floats(&[size[0], size[1], 3], normals.as_flattened())),
            ("K", doubles(&[3, 3], &[0, 1, 2].map(|i| camera.k.row(i).to_array()).concat())),
            ("cam_from_world", doubles(&[3, 4], &[0, 1, 2].map(row).concat())),
        ];
        job.write(&format!("npz/{}.npz", of_run.name), |out| put(archive(out, &members)))
    })
}

fn floats(shape: &[usize], values: &[f32]) -> Vec<u8> {
    array("<f4", shape, values.iter().flat_map(|v| v.to_le_bytes()))
}

fn doubles(shape: &[usize], values: &[f64]) -> Vec<u8> {
    array("<f8", shape, values.iter().flat_map(|v| v.to_le_bytes()))
}

/// An array in NumPy's format 1.0: a head that ends at a multiple of 64 bytes, then the values.
fn array(kind: &str, shape: &[usize], values: impl Iterator<Item = u8>) -> Vec<u8> {
    const BEFORE: usize = 10;
    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
    let mut head = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", shape.join(", "));
    while !(BEFORE + head.len() + 1).is_multiple_of(64) {
        head.push(' ');
    }
    head.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((head.len() as u16).to_le_bytes());
    bytes.extend(head.bytes());
    bytes.extend(values);
    bytes
}

/// A ZIP file of stored members.
fn archive(out: impl Write + Seek, members: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let mut archive = ZipWriter::new(out);
    // The first day that the format knows: the same run gives the same bytes.
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let options = options.last_modified_time(DateTime::default());
    for (name, data) in members {
        archive.start_file(format!("{name}.npy"), options)?;
        archive.write_all(data)?;
    }
    archive.finish()?;
    Ok(())
}
