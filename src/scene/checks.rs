//! What a scene in any layout must satisfy: sizes of photos, at least two views, names, intrinsics, rotations.

use std::collections::BTreeMap;
use std::path::Path;

use glam::DMat3;
use rayon::prelude::*;

use crate::error::counted;
use crate::files::{hash, image};
use crate::{Error, Result};

/// The headers of photos in their order; notes once if EXIF asks to rotate some.
pub(crate) fn photo_headers<'a>(
    photos: impl Iterator<Item = &'a Path>,
    notes: &mut Vec<String>,
) -> Result<Vec<image::Header>> {
    let photos: Vec<&Path> = photos.collect();
    let headers: Vec<Result<image::Header>> = photos.par_iter().map(|photo| image::header(photo)).collect();
    // Collected one by one, so that of several bad photos always the first is named.
    let headers: Vec<image::Header> = headers.into_iter().collect::<Result<_>>()?;
    let rotated = headers.iter().filter(|h| h.rotated).count();
    if rotated > 0 {
        notes.push(format!(
            "EXIF asks to rotate {rotated} of {} photos: not done, since cameras are for the stored pixels",
            headers.len()
        ));
    }
    Ok(headers)
}

/// Multi-view stereo needs two views.
pub(crate) fn too_few_views(root: &Path, count: usize) -> Error {
    let found = match count {
        0 => "no view with both a photo and a camera".to_owned(),
        _ => "only one view with both a photo and a camera".to_owned(),
    };
    Error::input(root.display().to_string(), found, "at least two views of the same place")
}

/// Output names for (id, photo name relative to the photo folder): the file's stem; where that is not unique (upper
/// and lower case counting as the same, as on some file systems), with the folders before it, then the extension,
/// then the id after it. Longer names than a file system can hold with an ending are cut, with a note.
pub(crate) fn unique_names(photos: Vec<(u32, String)>, notes: &mut Vec<String>) -> Vec<String> {
    let candidates: Vec<[String; 4]> = photos
        .iter()
        .map(|(id, name)| {
            let parts: Vec<&str> = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | "." | "..")).collect();
            let file = Path::new(parts.last().copied().unwrap_or_default());
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let folders: String = parts.iter().rev().skip(1).rev().map(|part| format!("{part}_")).collect();
            let with_folders = format!("{folders}{stem}");
            let extension = file.extension().map(|e| format!("_{}", e.to_string_lossy())).unwrap_or_default();
            let with_extension = format!("{with_folders}{extension}");
            let with_id = format!("{with_extension}_{id}");
            [stem, with_folders, with_extension, with_id].map(shortened)
        })
        .collect();
    // Names that collide take their next candidate together, until none collides. The last candidates differ by id.
    let mut level = vec![0; candidates.len()];
    loop {
        let mut holders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (i, names) in candidates.iter().enumerate() {
            holders.entry(names[level[i]].to_lowercase()).or_default().push(i);
        }
        let mut again = false;
        for i in holders.into_values().filter(|same| same.len() > 1).flatten() {
            if level[i] < 3 {
                level[i] += 1;
                again = true;
            }
        }
        if !again {
            let chosen = candidates.into_iter().zip(level).map(|(mut names, level)| std::mem::take(&mut names[level]));
            let names: Vec<String> = chosen.collect();
            let cut: Vec<&String> = names.iter().filter(|name| name.len() == LONGEST_NAME).collect();
            if let Some(first) = cut.first() {
                notes.push(format!(
                    "{} of photos cut to {LONGEST_NAME} bytes for the names of the results (first: {first})",
                    counted(cut.len(), "long name")
                ));
            }
            return names;
        }
    }
}

/// Names of this many bytes leave room for endings and for what programs put before a temporary file's name.
const LONGEST_NAME: usize = 200;

/// The name, or its beginning and a hash that tells it from others that begin alike, of exactly [`LONGEST_NAME`] bytes.
fn shortened(name: String) -> String {
    if name.len() < LONGEST_NAME {
        return name;
    }
    let hash = &hash::of_bytes(name.as_bytes())[..16];
    let room = LONGEST_NAME - hash.len() - 1;
    let kept = (0..=room).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
    format!("{}{}{hash}", &name[..kept], "_".repeat(1 + room - kept))
}

/// K if it is one: finite, third row 0 0 1, no entry below the diagonal, positive focal lengths.
pub(crate) fn checked_intrinsics(place: &str, rows: [[f64; 3]; 3]) -> Result<DMat3> {
    let [[fx, _, _], [lower, fy, _], last] = rows;
    let found = if last != [0.0, 0.0, 1.0] {
        format!("third row {} {} {}", last[0], last[1], last[2])
    } else if lower != 0.0 {
        format!("{lower} in the second row's first column")
    } else if !(fx > 0.0 && fy > 0.0) || rows.iter().flatten().any(|v| !v.is_finite()) {
        format!("focal lengths {fx} and {fy}")
    } else {
        return Ok(DMat3::from_cols_array_2d(&rows).transpose());
    };
    Err(Error::input(place, found, "fx s cx, 0 fy cy, 0 0 1 with fx > 0 and fy > 0"))
}

/// `r` as an exact rotation, if it is one up to the rounding of its digits in a text file.
pub(crate) fn checked_rotation(place: &str, r: DMat3) -> Result<DMat3> {
    let deviation = |r: DMat3| {
        let d = (r * r.transpose() - DMat3::IDENTITY).to_cols_array();
        d.iter().fold(0f64, |max, v| max.max(v.abs()))
    };
    // Three printed digits are off by 5e-4 each; more than this is a mistake, not rounding.
    if !(deviation(r) <= 2e-3 && r.determinant() > 0.0) {
        let found = match deviation(r) <= 2e-3 {
            true => "a mirroring (determinant -1)".to_owned(),
            false => format!("not a rotation: R times its transpose differs from the identity by {:.3}", deviation(r)),
        };
        return Err(Error::input(place, found, "a rotation (orthonormal, determinant 1), world to camera"));
    }
    // Rounded digits: the nearest rotation (Newton's iteration for the polar decomposition, quadratic). The engine
    // inverts rotations by transposing. One that is exact to f64 stays as it is to the bit.
    let mut r = r;
    for _ in 0..4 {
        if deviation(r) <= 1e-14 {
            break;
        }
        r = (r + r.inverse().transpose()) * 0.5;
    }
    Ok(r)
}
