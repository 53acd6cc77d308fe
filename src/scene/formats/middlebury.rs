//! The `NAME_par.txt` of Middlebury's multi-view data sets.
//!
//! The number of photos, then for each its name, K, R and t, row by row: the projection is `K [R t]`. The photo's
//! origin is its upper left corner (README of the data sets); pixel centres are taken as integers.

use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};

use crate::files::input;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Shot};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::formats::text::Words;
use crate::{Error, Result};

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.first(|file| file.ends("_par.txt"))
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line.
pub fn read(file: &Path) -> Result<Calibration> {
    let text = input::read_text(file, "read the cameras")?;
    let mut words = Words::new(file, &text);
    let count = words.count("the number of photos")?;
    let mut shots = Vec::new();
    for _ in 0..count {
        let name = words.next("a photo's name")?.to_owned();
        let place = format!("{} ({name})", words.place());
        let k: [f64; 9] = words.numbers("K, row by row")?;
        let r: [f64; 9] = words.numbers("R, row by row")?;
        let t: [f64; 3] = words.numbers("t")?;
        if [k[3], k[6], k[7], k[8]] != [0.0, 0.0, 0.0, 1.0] {
            let found = format!("K with {} {} {} {} where 0 0 0 1 should be", k[3], k[6], k[7], k[8]);
            return Err(Error::input(place, found, "fx s cx, 0 fy cy, 0 0 1"));
        }
        shots.push(Shot {
            photo: Some(name),
            size: None,
            intrinsics: Intrinsics::of_k([[k[0], k[1], k[2]], [0.0, k[4], k[5]], [0.0, 0.0, 1.0]]),
            distortion: None,
            r: checked_rotation(&place, DMat3::from_cols_array(&r).transpose())?,
            t: DVec3::from_array(t),
            range: None,
            place,
        });
    }
    if let Some(word) = words.try_next() {
        return Err(Error::input(words.place(), format!("`{word}` after {count} photos"), "the end of the file"));
    }
    let notes = vec!["pixel centres are taken as integers: the format does not say".into()];
    Ok(Calibration::new(file.to_owned(), folder_of(file), shots, Vec::new(), notes))
}
