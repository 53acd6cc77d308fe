//! Positions of E57 clouds (ASTM E2807): all scans, each moved by its pose.

use std::io::{BufReader, Read, Seek};
use std::path::Path;

use e57::{CartesianCoordinate, E57Reader};

use crate::files::input;
use crate::{Error, Result};

/// How the file begins.
pub const MAGIC: &[u8] = b"ASTM-E57";

/// How many points there are, and every so many-th that `step` asks for when it is told that number. Points that the
/// file calls invalid are not among them.
///
/// # Errors
/// A file that cannot be read, or holds something else.
pub fn read_each(path: &Path, step: impl Fn(u64) -> u64) -> Result<(u64, Vec<[f64; 3]>)> {
    let (file, size) = input::open(path, "open the point cloud")?;
    each(BufReader::with_capacity(1 << 20, file), size, step).map_err(|found| {
        let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
        Error::input(path.display().to_string(), format!("no E57 that can be read ({found})"), "a whole E57 file")
    })
}

fn each(
    file: impl Read + Seek,
    size: u64,
    step: impl Fn(u64) -> u64,
) -> std::result::Result<(u64, Vec<[f64; 3]>), String> {
    let said = |error: e57::Error| error.to_string();
    let mut reader = E57Reader::new(file).map_err(said)?;
    let scans = reader.pointclouds();
    let count = scans.iter().fold(0u64, |sum, scan| sum.saturating_add(scan.records));
    // A coordinate may be one bit.
    if count > size.saturating_mul(8) {
        return Err(format!("{count} points in {size} bytes"));
    }
    let step = step(count).max(1);
    let (mut points, mut i) = (Vec::new(), 0u64);
    for scan in &scans {
        for point in reader.pointcloud_simple(scan).map_err(said)? {
            let point = point.map_err(said)?;
            if let (true, CartesianCoordinate::Valid { x, y, z }) = (i.is_multiple_of(step), point.cartesian) {
                points.push([x, y, z]);
            }
            i += 1;
        }
    }
    Ok((count, points))
}
