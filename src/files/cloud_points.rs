//! Positions of clouds in any format that is read: PLY, LAS, LAZ, E57, told by how the file begins.

use std::io::Read;
use std::path::Path;

use crate::error::counted;
use crate::files::{e57_points, input, las_points, ply_points};
use crate::host::memory::expect_room;
use crate::{Error, Result};

/// An even part of a cloud's points, and what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Positions, all finite.
    pub points: Vec<[f64; 3]>,
    /// What was added or left out.
    pub notes: Vec<String>,
}

/// Reads at most about `most` points, evenly in the cloud's order.
///
/// # Errors
/// A file that cannot be read, or is none of these formats; too little memory.
pub fn read_part(path: &Path, most: usize) -> Result<Part> {
    let (file, _) = input::open(path, "open the point cloud")?;
    let mut start = Vec::new();
    file.take(8).read_to_end(&mut start).map_err(Error::io("read the point cloud", path))?;
    let step = |count: u64| count.div_ceil(most.max(1) as u64);
    let read = match &start[..] {
        start if start.starts_with(las_points::MAGIC) => las_points::read_each(path, step)?,
        start if start.starts_with(e57_points::MAGIC) => e57_points::read_each(path, step)?,
        _ => return ply(path, step),
    };
    let (_, mut points) = read;
    let all = points.len();
    points.retain(|point| point.iter().all(|v| v.is_finite()));
    let mut notes = Vec::new();
    if points.len() < all {
        let left_out = counted(all - points.len(), "point");
        notes.push(format!("{}: {left_out} without finite coordinates left out", path.display()));
    }
    Ok(Part { points, notes })
}

fn ply(path: &Path, step: impl Fn(u64) -> u64) -> Result<Part> {
    // Three doubles a point.
    expect_room(path, ply_points::vertices(path)?.saturating_mul(24))?;
    let read = ply_points::read(path)?;
    let notes = read.notes(path);
    let step = usize::try_from(step(read.points.len() as u64)).unwrap_or(usize::MAX).max(1);
    Ok(Part { points: read.points.into_iter().step_by(step).collect(), notes })
}
