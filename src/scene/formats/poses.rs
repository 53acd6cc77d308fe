//! Poses as matrices of four rows.

use glam::{DMat3, DVec3};

use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::with_centre;
use crate::{Error, Result};

/// Refuses a fourth row that is not 0 0 0 1.
fn check_last(place: &str, rows: &[f64; 16]) -> Result<()> {
    if rows[12..15].iter().any(|v| v.abs() > 1e-6) || (rows[15] - 1.0).abs() > 1e-6 {
        let found = format!("a matrix with the last row {} {} {} {}", rows[12], rows[13], rows[14], rows[15]);
        return Err(Error::input(place, found, "0 0 0 1"));
    }
    Ok(())
}

/// World to camera, of a matrix from the camera (x right, y down, z forward) to the world, row by row.
///
/// # Errors
/// A matrix that is no rotation and translation.
pub fn of_camera_to_world(place: &str, rows: &[f64; 16]) -> Result<(DMat3, DVec3)> {
    check_last(place, rows)?;
    let [a, b, c, x, d, e, f, y, g, h, i, z, ..] = *rows;
    // Columns of this are rows of the file: the transpose, world to camera.
    let r = checked_rotation(place, DMat3::from_cols_array(&[a, b, c, d, e, f, g, h, i]))?;
    with_centre(place, r, DVec3::new(x, y, z))
}
