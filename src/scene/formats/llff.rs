//! LLFF's `poses_bounds.npy`: 17 numbers for each photo.
//!
//! The first 15 are three rows of five: a camera-to-world rotation with the axes down, right, backward, the camera's
//! centre, and height, width and focal length; the last two are the nearest and the farthest depth (README of LLFF).
//! The principal point is the photo's middle. Photos have no names there.

use std::path::{Path, PathBuf};

use glam::DVec3;

use crate::files::npy;
use crate::scene::camera::DepthRange;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Length, Shot, of_opengl};
use crate::scene::formats::json::{self, Number};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::{Error, Result};

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.named(&["poses_bounds.npy"], |file| file.ends(".npy"))
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the row.
pub fn read(file: &Path) -> Result<Calibration> {
    let array = npy::read(file)?;
    let &[_, 17] = &array.shape[..] else {
        let found = format!("an array of shape {:?}", array.shape);
        return Err(Error::input(file.display().to_string(), found, "rows of 17 numbers"));
    };
    let mut shots = Vec::new();
    let mut without_range = 0;
    for (i, row) in array.data.chunks_exact(17).enumerate() {
        let place = format!("{}: row {i}", file.display());
        // Right, up and backward of right = column 1, down = column 0.
        let axes = |r: usize| [row[5 * r + 1], -row[5 * r], row[5 * r + 2]];
        let centre = DVec3::new(row[3], row[8], row[13]);
        let (r, t) = of_opengl(&place, [axes(0), axes(1), axes(2)], centre)?;
        let (height, width, focal) = (row[4], row[9], row[14]);
        let (near, far) = (row[15], row[16]);
        let range = (near > 0.0 && far > near && far.is_finite()).then_some(DepthRange { near, far });
        without_range += usize::from(range.is_none());
        shots.push(Shot {
            photo: None,
            size: json::size(&place, Some(Number(width)), Some(Number(height)))?,
            intrinsics: Intrinsics::centred(Length::Pixels(focal)),
            distortion: None,
            r,
            t,
            range,
            place,
        });
    }
    let mut notes = vec!["the principal points are taken to be the photos' middles, as LLFF does".to_owned()];
    if without_range > 0 {
        notes.push(format!("{without_range} pairs of bounds are no range of depths and were passed over"));
    }
    let folder = folder_of(file);
    let mut calibration = Calibration::new(file.to_owned(), folder.clone(), shots, Vec::new(), notes);
    calibration.folders = vec![folder.join("images"), folder];
    Ok(calibration.without_names())
}
