//! Camera trajectories of Open3D: `.json` (class PinholeCameraTrajectory) and `.log` (also Redwood's and Tanks and
//! Temples').
//!
//! In JSON, extrinsics (world to camera) and K stand column by column, with x right, y down, z forward and integer
//! pixel centres. A `.log` has, for each photo, a line of three numbers and four rows from the camera to the world; K
//! is that of an `intrinsic.json` beside it (class PinholeCameraIntrinsic), else the one that Open3D takes where it
//! knows none. Neither has names of photos.

use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};
use serde::Deserialize;

use crate::files::input;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Shot, finite};
use crate::scene::formats::json::{self, Number};
use crate::scene::formats::listing::{Candidate, Listing, folder_of};
use crate::scene::formats::poses;
use crate::scene::formats::text::Words;
use crate::scene::pose_form::PoseForm;
use crate::{Error, Result};

const EXPECTED: &str = "a PinholeCameraTrajectory of Open3D with parameters, each with extrinsic and intrinsic";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    // Logs of other kinds begin with words.
    let is_log = |file: &Candidate| {
        let mut words = file.start().split_whitespace();
        file.ends(".log") && words.by_ref().take(3).filter(|w| w.parse::<i64>().is_ok()).count() == 3
    };
    let is_json = |file: &Candidate| file.ends(".json") && file.says("PinholeCameraTrajectory");
    listing.first(is_json).or_else(|| listing.first(is_log))
}

#[derive(Deserialize)]
struct Trajectory {
    parameters: Vec<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    extrinsic: [f64; 16],
    intrinsic: Intrinsic,
}

#[derive(Deserialize)]
struct Intrinsic {
    width: Number,
    height: Number,
    intrinsic_matrix: [f64; 9],
}

impl Intrinsic {
    fn read(&self, place: &str) -> Result<(Intrinsics, Option<(usize, usize)>)> {
        let [fx, lower, a, skew, fy, b, cx, cy, one] = self.intrinsic_matrix;
        if [lower, a, b, one] != [0.0, 0.0, 0.0, 1.0] {
            let found = format!("an intrinsic_matrix with {lower} {a} {b} {one} where 0 0 0 1 should be");
            return Err(Error::input(place, found, "K column by column: fx 0 0, s fy 0, cx cy 1"));
        }
        let k = [[fx, skew, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]];
        Ok((Intrinsics::of_k(k), json::size(place, Some(self.width), Some(self.height))?))
    }
}

/// Reads either.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line.
pub fn read(file: &Path) -> Result<Calibration> {
    let mut notes = Vec::new();
    let (shots, poses) = match file.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("log") => {
            (log(file, &mut notes)?, Some(PoseForm::CameraToWorld))
        }
        _ => (trajectory(file)?, None),
    };
    let folder = folder_of(file);
    let mut calibration = Calibration::new(file.to_owned(), folder.clone(), shots, Vec::new(), notes);
    calibration.poses = poses;
    // The usual names of the folder with colours, before the file's own folder.
    calibration.folders = ["images", "image", "color", "rgb", "."].map(|name| folder.join(name)).to_vec();
    Ok(calibration.without_names())
}

fn trajectory(file: &Path) -> Result<Vec<Shot>> {
    let content: Trajectory = json::read(file, EXPECTED)?;
    let mut shots = Vec::new();
    for (i, parameters) in content.parameters.iter().enumerate() {
        let place = format!("{}: camera {i}", file.display());
        let [a, b, c, _, d, e, f, _, g, h, k, _, x, y, z, _] = parameters.extrinsic;
        let r = checked_rotation(&place, DMat3::from_cols_array(&[a, b, c, d, e, f, g, h, k]))?;
        let t = finite(&place, "translation", DVec3::new(x, y, z))?;
        let (intrinsics, size) = parameters.intrinsic.read(&place)?;
        shots.push(Shot { photo: None, size, intrinsics, distortion: None, r, t, range: None, place });
    }
    Ok(shots)
}

fn log(file: &Path, notes: &mut Vec<String>) -> Result<Vec<Shot>> {
    let (intrinsics, size) = beside(&folder_of(file), notes)?;
    let text = input::read_text(file, "read the cameras")?;
    let mut words = Words::new(file, &text);
    let mut shots = Vec::new();
    while let Some(first) = words.try_next() {
        if first.parse::<i64>().is_err() {
            return Err(Error::input(words.place(), format!("`{first}`"), "three whole numbers before each pose"));
        }
        let place = words.place();
        words.next("three whole numbers before each pose")?;
        words.next("three whole numbers before each pose")?;
        let rows: [f64; 16] = words.numbers("four rows of four numbers, camera to world")?;
        let (r, t) = poses::of_camera_to_world(&place, &rows)?;
        shots.push(Shot { photo: None, size, intrinsics, distortion: None, r, t, range: None, place });
    }
    Ok(shots)
}

/// The intrinsics of all photos.
fn beside(folder: &Path, notes: &mut Vec<String>) -> Result<(Intrinsics, Option<(usize, usize)>)> {
    let names = ["intrinsic.json", "camera_intrinsic.json", "camera_primesense.json"].map(|name| folder.join(name));
    if let Some(file) = names.into_iter().find(|file| file.is_file()) {
        let content: Intrinsic = json::read(&file, "a PinholeCameraIntrinsic of Open3D")?;
        notes.push(format!("K of all photos is that of {}", file.display()));
        return content.read(&file.display().to_string());
    }
    notes.push(
        "there is no intrinsic.json: focal length 525 and principal point (319.5, 239.5) of photos of 640 x 480, which \
         Open3D takes where it knows none"
            .into(),
    );
    let k = [[525.0, 0.0, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]];
    Ok((Intrinsics::of_k(k), Some((640, 480))))
}
