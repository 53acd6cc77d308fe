//! Files in and out, and the recognition of a scene's layout.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glam::DMat3;
use rayon::prelude::*;

use crate::scene::{Layout, OpenOptions, Scene};
use crate::{Error, Result};

pub mod colmap;
mod colmap_binary;
mod colmap_model;
mod colmap_text;
pub mod image;
pub mod input;
pub mod mat;
pub mod mvsnet;
pub mod output;
pub mod pfm;
pub mod ply;
pub mod ply_points;

impl Scene {
    /// Opens a scene in whichever layout the folder holds: MVSNet (`images/`, `cams/` or `cams_1/`, `pair.txt`
    /// optional; see [`mvsnet`]) or COLMAP (`images/` with `sparse/`, `sparse/N/` or `dense/sparse/`; see [`colmap`]).
    /// [`Scene::notes`] says what was assumed.
    ///
    /// The headers of all photos are read, so that a missing, damaged or wrongly sized one shows before any work.
    ///
    /// # Errors
    /// A folder that holds no such scene, or one with a file that does not hold what it should.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Scene> {
        let names = entry_names(path)?;
        let is_mvsnet = mvsnet::camera_folder(path).is_some();
        let is_colmap = colmap::is_scene(path);
        let layout = match (options.layout, is_mvsnet, is_colmap) {
            (Some(layout), _, _) => layout,
            (None, true, _) => Layout::MvsNet,
            (None, false, true) => Layout::Colmap,
            (None, false, false) => {
                let found = if names.is_empty() {
                    "an empty folder".into()
                } else {
                    format!("no scene, only {names}")
                };
                return Err(Error::input(
                    path.display().to_string(),
                    found,
                    "images/ with cams/ or cams_1/ (MVSNet layout), or images/ with a COLMAP model in sparse/, sparse/0/ or dense/sparse/",
                ));
            }
        };
        let mut scene = match layout {
            Layout::MvsNet => mvsnet::open(path, options)?,
            Layout::Colmap => colmap::open(path)?,
        };
        if options.layout.is_none() && is_mvsnet && is_colmap {
            scene.notes.insert(
                0,
                "there are cameras in the MVSNet layout and a COLMAP model: the MVSNet layout is used".into(),
            );
        }
        Ok(scene)
    }
}

/// The first few names in a folder, for a message.
fn entry_names(folder: &Path) -> Result<String> {
    const SHOWN: usize = 6;
    let entries = std::fs::read_dir(folder).map_err(Error::io("open the scene's folder", folder))?;
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    names.truncate(SHOWN);
    Ok(format!("{}{more}", names.join(", ")))
}

/// The files (not folders) of a folder, sorted by name; hidden ones (`._photo.jpg` on disks that a Mac wrote) are
/// skipped.
fn files_in(folder: &Path, action: &'static str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(action, folder))? {
        let path = entry.map_err(Error::io(action, folder))?.path();
        if is_hidden(&path) {
            continue;
        }
        match path.metadata() {
            Ok(data) if data.is_file() => files.push(path),
            // Names that can be listed but not looked at (a folder without the right to enter it).
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(Error::io(action, &path)(e));
            }
            _ => {}
        }
    }
    files.sort();
    Ok(files)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// A text file; one that is not UTF-8 is refused in the words of an input error.
fn read_text(file: &Path, action: &'static str) -> Result<String> {
    let bytes = input::read(file, action)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::input(file.display().to_string(), format!("byte {at} is not text (UTF-8)"), "a text file")
    })?;
    // Some editors put a byte order mark before the first word.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The headers of photos in their order; notes once if EXIF asks to rotate some.
fn photo_headers<'a>(
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
fn too_few_views(root: &Path, count: usize) -> Error {
    let found = match count {
        0 => "no view with both a photo and a camera".to_owned(),
        _ => "only one view with both a photo and a camera".to_owned(),
    };
    Error::input(root.display().to_string(), found, "at least two views of the same place")
}

/// Output names for (id, photo name relative to the photo folder): the file's stem; where that is not unique (upper
/// and lower case counting as the same, as on some file systems), with the folders before it, then the extension,
/// then the id after it.
fn unique_names(photos: Vec<(u32, String)>) -> Vec<String> {
    let candidates: Vec<[String; 4]> = photos
        .iter()
        .map(|(id, name)| {
            let parts: Vec<&str> =
                name.split(['/', '\\']).filter(|part| !matches!(*part, "" | "." | "..")).collect();
            let file = Path::new(parts.last().copied().unwrap_or_default());
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let folders: String = parts.iter().rev().skip(1).rev().map(|part| format!("{part}_")).collect();
            let with_folders = format!("{folders}{stem}");
            let extension = file.extension().map(|e| format!("_{}", e.to_string_lossy())).unwrap_or_default();
            let with_extension = format!("{with_folders}{extension}");
            let with_id = format!("{with_extension}_{id}");
            [stem, with_folders, with_extension, with_id]
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
            return candidates
                .into_iter()
                .zip(level)
                .map(|(mut names, level)| std::mem::take(&mut names[level]))
                .collect();
        }
    }
}

/// K if it is one: finite, third row 0 0 1, no entry below the diagonal, positive focal lengths.
fn checked_intrinsics(place: &str, rows: [[f64; 3]; 3]) -> Result<DMat3> {
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
fn checked_rotation(place: &str, r: DMat3) -> Result<DMat3> {
    let deviation = |r: DMat3| {
        let d = (r * r.transpose() - DMat3::IDENTITY).to_cols_array();
        d.iter().fold(0f64, |max, v| max.max(v.abs()))
    };
    // Three printed digits are off by 5e-4 each; more than this is a mistake, not rounding.
    if !(deviation(r) <= 2e-3 && r.determinant() > 0.0) {
        let found = match deviation(r) <= 2e-3 {
            true => "a mirroring (determinant -1)".to_owned(),
            false => format!(
                "not a rotation: R times its transpose differs from the identity by {:.3}",
                deviation(r)
            ),
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
