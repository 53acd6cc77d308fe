//! `cloud.pcd`: the Point Cloud Library's format, version 0.7, binary.
//!
//! Coordinates are floats where these are fine enough, else doubles (`SIZE 8`), which Open3D and NumPy readers take and
//! which the library's own point types do not hold.
//!
//! The crate pcd-rs (0.13) writes the same, but panics where a write fails, as on a full disk: its writer does when it
//! is dropped without having been finished.

use std::io::Write;

use crate::error::Result;
use crate::export::job::{Job, put};

/// Writes it.
///
/// # Errors
/// Those of the cloud and of writing.
pub fn write(job: &Job) -> Result<()> {
    let cloud = job.cloud()?;
    let double = cloud.needs_doubles();
    if double {
        job.note("cloud.pcd has coordinates of type double, which the point types of PCL itself do not hold");
    }
    let (size, count) = (if double { 8 } else { 4 }, cloud.count);
    job.write("cloud.pcd", |out| {
        put(write!(
            out,
            "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\n\
             FIELDS x y z rgb normal_x normal_y normal_z confidence views\n\
             SIZE {size} {size} {size} 4 4 4 4 4 1\nTYPE F F F U F F F F U\nCOUNT 1 1 1 1 1 1 1 1 1\n\
             WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA binary\n"
        ))?;
        let mut bytes = Vec::with_capacity(48);
        cloud.each(|point| {
            bytes.clear();
            for value in point.position {
                match double {
                    true => bytes.extend(value.to_le_bytes()),
                    false => bytes.extend((value as f32).to_le_bytes()),
                }
            }
            // One number 0x00RRGGBB.
            let [r, g, b] = point.colour;
            bytes.extend([b, g, r, 0]);
            bytes.extend(point.normal.iter().flat_map(|value| value.to_le_bytes()));
            bytes.extend(point.confidence.to_le_bytes());
            bytes.push(point.views);
            put(out.write_all(&bytes))
        })
    })
}
