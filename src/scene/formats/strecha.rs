//! The `.camera` files of Strecha's multi-view benchmark, one a photo: `0000.png.camera` beside or above `0000.png`.
//!
//! Nine numbers of K, three of a radial distortion that is always 0, nine of a rotation from the camera to the world,
//! the camera's centre, and the photo's width and height: `P = K [R^T | -R^T c]`. Pixel centres are taken as integers.

use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};

use crate::files::input;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Shot, with_centre};
use crate::scene::formats::json::{self, Number};
use crate::scene::formats::listing::Listing;
use crate::scene::formats::text::Words;
use crate::{Error, Result};

/// The folder, if there are such files.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.first(|file| file.ends(".camera")).map(|_| listing.folder.clone())
}

/// Reads all of them in a folder.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line.
pub fn read(folder: &Path) -> Result<Calibration> {
    let mut files = input::files_in(folder, "list the cameras")?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "camera"));
    let mut shots = Vec::new();
    for file in &files {
        let text = input::read_text(file, "read the camera")?;
        let mut words = Words::new(file, &text);
        let k: [f64; 9] = words.numbers("K, row by row")?;
        let radial: [f64; 3] = words.numbers("radial distortion")?;
        let place = words.place();
        if radial != [0.0; 3] {
            let found = format!("a radial distortion {} {} {}", radial[0], radial[1], radial[2]);
            return Err(Error::input(place, found, "0 0 0, as in all files of the benchmark"));
        }
        if [k[3], k[6], k[7], k[8]] != [0.0, 0.0, 0.0, 1.0] {
            let found = format!("K with {} {} {} {} where 0 0 0 1 should be", k[3], k[6], k[7], k[8]);
            return Err(Error::input(place, found, "fx s cx, 0 fy cy, 0 0 1"));
        }
        // Columns of the transpose are the rows of the file: world to camera.
        let r = checked_rotation(&place, DMat3::from_cols_array(&words.numbers::<9>("rotation, camera to world")?))?;
        let (r, t) = with_centre(&place, r, DVec3::from_array(words.numbers("the camera's centre")?))?;
        let [width, height] = words.numbers("the photo's width and height")?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        shots.push(Shot {
            photo: Some(name),
            size: json::size(&place, Some(Number(width)), Some(Number(height)))?,
            intrinsics: Intrinsics::of_k([[k[0], k[1], k[2]], [0.0, k[4], k[5]], [0.0, 0.0, 1.0]]),
            distortion: None,
            r,
            t,
            range: None,
            place: file.display().to_string(),
        });
    }
    let notes = vec!["pixel centres are taken as integers: the format does not say".into()];
    Ok(Calibration::new(folder.to_owned(), folder.to_owned(), shots, Vec::new(), notes))
}
