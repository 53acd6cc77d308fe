//! `cameras.npz` (or `cameras_sphere.npz`) of IDR and NeuS, with photos in `image/`.
//!
//! `world_mat_N` is the projection `K [R t]` of photo N, `scale_mat_N` leads from the unit sphere around the object to
//! the world (README of IDR, "Preprocessing"). Pixel centres are taken as integers. The object's sphere gives the
//! depths to search.

use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};

use crate::error::counted;
use crate::files::npy::{self, Array};
use crate::files::{image, input};
use crate::scene::camera::DepthRange;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Shot, finite};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::{Error, Result};

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.named(&["cameras.npz", "cameras_sphere.npz"], |file| file.ends(".npz"))
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the matrix.
pub fn read(file: &Path) -> Result<Calibration> {
    let arrays = npy::read_archive(file)?;
    let mut numbers: Vec<usize> =
        arrays.keys().filter_map(|name| name.strip_prefix("world_mat_")?.parse().ok()).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        let found = "no array world_mat_0";
        return Err(Error::input(file.display().to_string(), found, "world_mat_N of four rows of four for each photo"));
    }
    let mut shots = Vec::new();
    let mut without_sphere = 0;
    for &number in &numbers {
        let place = format!("{}: world_mat_{number}", file.display());
        let (m, last) = matrix(&place, &arrays[&format!("world_mat_{number}")])?;
        let (k, r, t) = decomposed(&place, m, last)?;
        let centre = -(r.transpose() * t);
        let range = match arrays.get(&format!("scale_mat_{number}")) {
            Some(scale) => sphere(&format!("{}: scale_mat_{number}", file.display()), scale, centre)?,
            None => None,
        };
        without_sphere += usize::from(range.is_none());
        let intrinsics = Intrinsics::of_k(k);
        shots.push(Shot { photo: None, size: None, intrinsics, distortion: None, r, t, range, place });
    }
    let mut notes = vec![
        "pixel centres are taken as integers: the format does not say".to_owned(),
        "the depths to search are those of the object's sphere (scale_mat); --range replaces them".to_owned(),
    ];
    if without_sphere > 0 {
        notes.push(format!("{without_sphere} cameras have no sphere before them"));
    }
    let folder = folder_of(file);
    let mut calibration = Calibration::new(file.to_owned(), folder.clone(), shots, Vec::new(), notes);
    calibration.folders = ["image", "images", "rgb", "."].map(|name| folder.join(name)).to_vec();
    name_masks(&mut calibration);
    Ok(calibration.without_names())
}

/// The images in `mask` beside the file, in the order of their names, as photos are: where there are as many.
fn name_masks(calibration: &mut Calibration) {
    let folder = folder_of(&calibration.file).join("mask");
    let files = if folder.is_dir() { input::files_in(&folder, "list the masks").unwrap_or_default() } else { return };
    let mut masks: Vec<PathBuf> = files.into_iter().filter(|file| image::has_photo_extension(file)).collect();
    if masks.len() != calibration.shots.len() {
        let (masks, cameras) = (counted(masks.len(), "mask"), counted(calibration.shots.len(), "camera"));
        calibration.notes.push(format!("{masks} in {} for {cameras}: not used", folder.display()));
        return;
    }
    masks.sort_by(|a, b| alphanumeric_sort::compare_path(a, b));
    let name = |mask: &PathBuf| format!("mask/{}", mask.file_name().unwrap_or_default().to_string_lossy());
    calibration.masks = masks.iter().map(name).enumerate().collect();
}

/// The left three columns and the last one of the upper three rows.
fn matrix(place: &str, array: &Array) -> Result<(DMat3, DVec3)> {
    if !matches!(array.shape[..], [3 | 4, 4]) {
        let found = format!("an array of shape {:?}", array.shape);
        return Err(Error::input(place, found, "four rows of four numbers"));
    }
    let at = |row: usize, column: usize| array.data[4 * row + column];
    let column = |column: usize| DVec3::new(at(0, column), at(1, column), at(2, column));
    let columns = [0, 1, 2].map(&column);
    for c in columns {
        finite(place, "a column", c)?;
    }
    Ok((DMat3::from_cols(columns[0], columns[1], columns[2]), finite(place, "the last column", column(3))?))
}

/// K, R and t of a projection `s K [R t]`: the rows of `K R` are made orthogonal from the last one on.
fn decomposed(place: &str, m: DMat3, last: DVec3) -> Result<([[f64; 3]; 3], DMat3, DVec3)> {
    // A projection is the same with another sign; of both the one whose rotation is none with a mirror.
    let sign = if m.determinant() < 0.0 { -1.0 } else { 1.0 };
    let (m, last) = (m * sign, last * sign);
    let [a, b, c] = [m.row(0), m.row(1), m.row(2)];
    let scale = c.length();
    let r3 = c / scale;
    let k23 = b.dot(r3);
    let across = b - k23 * r3;
    let k22 = across.length();
    let r2 = across / k22;
    let (k13, k12) = (a.dot(r3), a.dot(r2));
    let along = a - k13 * r3 - k12 * r2;
    let k11 = along.length();
    let r1 = along / k11;
    let r = DMat3::from_cols(r1, r2, r3).transpose();
    if !(scale > 0.0 && k22 > 1e-9 * scale && k11 > 1e-9 * scale && r.is_finite()) {
        return Err(Error::input(place, "a projection without a camera", "K [R t] with K invertible"));
    }
    let k = [[k11 / scale, k12 / scale, k13 / scale], [0.0, k22 / scale, k23 / scale], [0.0, 0.0, 1.0]];
    let matrix = DMat3::from_cols_array_2d(&k).transpose();
    Ok((k, r, matrix.inverse() * (last / scale)))
}

/// The depths of the sphere that `scale` makes of the unit sphere; `None` where the camera lies within.
fn sphere(place: &str, scale: &Array, centre: DVec3) -> Result<Option<DepthRange>> {
    let (m, middle) = matrix(place, scale)?;
    let radius = m.x_axis.length();
    let distance = middle.distance(centre);
    Ok((radius > 0.0 && distance > radius).then_some(DepthRange { near: distance - radius, far: distance + radius }))
}
