//! `cloud.xyz`: text, a line a point, with the shortest decimal numbers that are read back as the same binary ones.
//!
//! The first line names the columns after `//`, which CloudCompare takes for names; NumPy skips it with
//! `loadtxt(..., comments='//')`.

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
    job.write("cloud.xyz", |out| {
        put(writeln!(out, "//X Y Z R G B Nx Ny Nz confidence views"))?;
        cloud.each(|point| {
            let [x, y, z] = point.position;
            let written = match double {
                true => write!(out, "{x} {y} {z}"),
                // The digits of a float, not those of the double that it is in memory.
                false => write!(out, "{} {} {}", x as f32, y as f32, z as f32),
            };
            put(written)?;
            let ([r, g, b], [nx, ny, nz]) = (point.colour, point.normal);
            put(writeln!(out, " {r} {g} {b} {nx} {ny} {nz} {} {}", point.confidence, point.views))
        })
    })
}
