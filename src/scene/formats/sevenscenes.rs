//! Frames of 7-Scenes, 12-Scenes and 3DMatch: `frame-000000.pose.txt` beside `frame-000000.color.png` (or .jpg).
//!
//! A pose is four rows of four numbers, camera to world, with x right, y down and z forward (7-Scenes' page). K is that
//! of `camera-intrinsics.txt` here or one folder above (3DMatch), else the one that 7-Scenes' page states for all.

use std::path::{Path, PathBuf};

use crate::files::input;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Shot};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::formats::poses;
use crate::scene::formats::text::Words;
use crate::scene::pose_form::PoseForm;
use crate::{Error, Result};

const ENDING: &str = ".pose.txt";

/// The folder, if there are such files.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.first(|file| file.ends(ENDING)).map(|_| listing.folder.clone())
}

/// Reads all of them in a folder.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line.
pub fn read(folder: &Path) -> Result<Calibration> {
    let mut notes = Vec::new();
    let (intrinsics, size) = intrinsics(folder, &mut notes)?;
    let (mut shots, mut lost) = (Vec::new(), 0);
    for file in input::files_in(folder, "list the poses")? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(ENDING) else { continue };
        let text = input::read_text(&file, "read the pose")?;
        if text.to_lowercase().contains("inf") || text.to_lowercase().contains("nan") {
            // Trackers write so where they have lost the camera.
            lost += 1;
            continue;
        }
        let mut words = Words::new(&file, &text);
        let rows: [f64; 16] = words.numbers("four rows of four numbers, camera to world")?;
        let (r, t) = poses::of_camera_to_world(&file.display().to_string(), &rows)?;
        shots.push(Shot {
            photo: Some(photo_of(folder, stem)),
            size,
            intrinsics,
            distortion: None,
            r,
            t,
            range: None,
            place: file.display().to_string(),
        });
    }
    if lost > 0 {
        notes.push(format!("frames whose pose is infinite or not a number (lost by the tracker) left out: {lost}"));
    }
    let poses = Some(PoseForm::CameraToWorld);
    Ok(Calibration { poses, ..Calibration::new(folder.to_owned(), folder.to_owned(), shots, Vec::new(), notes) })
}

/// The colour photo of a frame.
fn photo_of(folder: &Path, stem: &str) -> String {
    let names = ["color.png", "color.jpg", "rgb.png", "rgb.jpg"].map(|ending| format!("{stem}.{ending}"));
    let [first, ..] = &names;
    names.iter().find(|name| folder.join(name).is_file()).unwrap_or(first).clone()
}

fn intrinsics(folder: &Path, notes: &mut Vec<String>) -> Result<(Intrinsics, Option<(usize, usize)>)> {
    let named = [folder.to_owned(), folder_of(folder)].map(|at| at.join("camera-intrinsics.txt"));
    let Some(file) = named.into_iter().find(|file| file.is_file()) else {
        notes.push(
            "there is no camera-intrinsics.txt: focal length 585 and principal point (320, 240) of photos of 640 x \
             480, as 7-Scenes states"
                .into(),
        );
        let k = [[585.0, 0.0, 320.0], [0.0, 585.0, 240.0], [0.0, 0.0, 1.0]];
        return Ok((Intrinsics::of_k(k), Some((640, 480))));
    };
    let text = input::read_text(&file, "read the intrinsics")?;
    let mut words = Words::new(&file, &text);
    let k: [f64; 9] = words.numbers("K, row by row")?;
    if [k[3], k[6], k[7], k[8]] != [0.0, 0.0, 0.0, 1.0] {
        let found = format!("K with {} {} {} {} where 0 0 0 1 should be", k[3], k[6], k[7], k[8]);
        return Err(Error::input(words.place(), found, "fx s cx, 0 fy cy, 0 0 1"));
    }
    notes.push(format!("K of all photos is that of {}, pixel centres being taken as integers", file.display()));
    let intrinsics = Intrinsics::of_k([[k[0], k[1], k[2]], [0.0, k[4], k[5]], [0.0, 0.0, 1.0]]);
    Ok((intrinsics, None))
}
