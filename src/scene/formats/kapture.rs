//! kapture: tables of comma-separated values in `sensors/`.
//!
//! `sensors.txt` has the cameras with COLMAP's models and parameters after width and height, `records_camera.txt` the
//! photos by time and camera (below `sensors/records_data`), `trajectories.txt` the poses (quaternion w x y z and
//! translation, world to sensor) by time and sensor; `rigs.txt` those of sensors in a rig, rig to sensor.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glam::{DMat3, DQuat, DVec3};

use crate::error::counted;
use crate::files::input;
use crate::scene::colmap::camera_models::{Optics, optics};
use crate::scene::formats::calibration::{Calibration, Intrinsics, Origin, Shot};
use crate::scene::formats::json::{self, Number};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::formats::text::number;
use crate::{Error, Result};

/// The file of sensors, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    let file = listing.folder.join("sensors").join("sensors.txt");
    let named = listing.first(|file| file.name == "sensors.txt" && file.says("kapture format"));
    named.or_else(|| (!listing.one && file.is_file()).then_some(file))
}

/// The rows of a table: file and line, and the words between commas.
struct Table {
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    fn read(file: &Path, least: usize) -> Result<Self> {
        let text = input::read_text(file, "read the table")?;
        let mut rows = Vec::new();
        for (i, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            let place = format!("{}: line {}", file.display(), i + 1);
            let words: Vec<String> = line.split(',').map(|word| word.trim().to_owned()).collect();
            if words.len() < least {
                let found = format!("{} values", words.len());
                return Err(Error::input(place, found, format!("at least {least} values, parted by commas")));
            }
            rows.push((place, words));
        }
        Ok(Self { rows })
    }
}

/// A pose, from words: w x y z and a translation. `None` where it is not known.
fn pose(place: &str, words: &[String]) -> Result<Option<(DMat3, DVec3)>> {
    let mut n = [0.0; 7];
    if words.iter().take(7).any(String::is_empty) {
        return Ok(None);
    }
    for (value, word) in n.iter_mut().zip(words) {
        *value = number(place, word, "a pose: quaternion w x y z, translation")?;
    }
    let [w, x, y, z, tx, ty, tz] = n;
    let q = DQuat::from_xyzw(x, y, z, w);
    if q.length() < 1e-6 {
        return Err(Error::input(place, format!("rotation {w} {x} {y} {z}"), "a quaternion w x y z of length 1"));
    }
    Ok(Some((DMat3::from_quat(q.normalize()), DVec3::new(tx, ty, tz))))
}

/// A camera's place in a rig: the rig's name and the pose, rig to sensor.
type InRig = (String, (DMat3, DVec3));

/// Reads it; `file` is `sensors.txt`.
///
/// # Errors
/// Tables that cannot be read or hold something else; the message names the line.
pub fn read(file: &Path) -> Result<Calibration> {
    let folder = folder_of(file);
    let mut cameras: HashMap<String, (Optics, Option<(usize, usize)>)> = HashMap::new();
    let mut others = 0;
    for (place, words) in Table::read(file, 3)?.rows {
        if words[2] != "camera" {
            others += 1;
            continue;
        }
        let Some([model, width, height, parameters @ ..]) = words.get(3..) else {
            return Err(Error::input(place, "a camera without a model", "model, width, height and parameters"));
        };
        let what = "a parameter of a camera";
        let parameters: Vec<f64> = parameters.iter().map(|word| number(&place, word, what)).collect::<Result<_>>()?;
        let side = |word: &String| number(&place, word, "a number of pixels").map(|value| Some(Number(value)));
        let size = json::size(&place, side(width)?, side(height)?)?;
        let camera = (optics(&place, model, &parameters)?, size);
        if cameras.insert(words[0].clone(), camera).is_some() {
            return Err(Error::input(place, format!("sensor {} for the second time", words[0]), "every sensor once"));
        }
    }
    let mut rigs: HashMap<String, InRig> = HashMap::new();
    let of_rigs = folder.join("rigs.txt");
    if of_rigs.is_file() {
        for (place, words) in Table::read(&of_rigs, 9)?.rows {
            if let Some(pose) = pose(&place, &words[2..])? {
                rigs.insert(words[1].clone(), (words[0].clone(), pose));
            }
        }
    }
    let trajectories = folder.join("trajectories.txt");
    let mut poses: HashMap<(String, String), (DMat3, DVec3)> = HashMap::new();
    for (place, words) in Table::read(&trajectories, 9)?.rows {
        if let Some(pose) = pose(&place, &words[2..])? {
            poses.insert((words[0].clone(), words[1].clone()), pose);
        }
    }
    let mut shots = Vec::new();
    let mut without_pose = 0;
    for (place, words) in Table::read(&folder.join("records_camera.txt"), 3)?.rows {
        let Some(&((focal, principal, distortion), size)) = cameras.get(&words[1]) else {
            return Err(Error::input(place, format!("camera {}", words[1]), "one of the cameras of sensors.txt"));
        };
        let own = poses.get(&(words[0].clone(), words[1].clone())).copied();
        let of_rig = || {
            let (rig, (rs, ts)) = rigs.get(&words[1])?;
            let (r, t) = poses.get(&(words[0].clone(), rig.clone()))?;
            Some((*rs * *r, *rs * *t + *ts))
        };
        let Some((r, t)) = own.or_else(of_rig) else {
            without_pose += 1;
            continue;
        };
        shots.push(Shot {
            photo: Some(words[2].clone()),
            size,
            intrinsics: Intrinsics::pixels(focal, principal, Origin::Corner),
            distortion,
            r,
            t,
            range: None,
            place,
        });
    }
    if shots.is_empty() && without_pose > 0 {
        let found = format!("no pose of any of {}", counted(without_pose, "photo"));
        let expected = "poses at the photos' times, of their cameras or rigs";
        return Err(Error::input(trajectories.display().to_string(), found, expected));
    }
    let mut notes = Vec::new();
    if without_pose > 0 {
        notes.push(format!("{} without a pose left out", counted(without_pose, "photo")));
    }
    if others > 0 {
        notes.push(format!("sensors that are no cameras not read: {others}"));
    }
    let photos = folder.join("records_data");
    let mut calibration = Calibration::new(file.to_owned(), folder, shots, Vec::new(), notes);
    calibration.folders.insert(0, photos);
    Ok(calibration)
}
