//! OpenSfM's `reconstruction.json`, with the tracks of `tracks.csv` where that lies beside it.
//!
//! A shot's rotation is an axis times an angle; rotation and translation lead from the world to the camera. Lengths are
//! in units of the photo's longer side and principal points begin at its middle (OpenSfM's documentation, "Coordinate
//! Systems" and "Camera models"). A file may hold several reconstructions, each in a world of its own.
//!
//! `reference_lla`, in the reconstruction or in a file of that name beside it, is the place that the world is east,
//! north and up of. Of photos without GPS it is 0, 0, 0, and the world is any.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glam::{DMat3, DQuat, DVec3};
use serde::Deserialize;

use crate::files::input;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Length, Origin, Point, Shot, finite, lens};
use crate::scene::formats::json::{self, Number, Pairs};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::georeference::Georeference;
use crate::scene::lens::Distortion;
use crate::{Error, Result};

const EXPECTED: &str = "OpenSfM's reconstruction.json: a list of reconstructions with cameras, shots and points";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    let says = |file: &super::listing::Candidate| file.ends(".json") && file.says("\"projection_type\"");
    listing.named(&["reconstruction.json"], says)
}

#[derive(Deserialize)]
struct Reconstruction {
    cameras: Pairs<Camera>,
    shots: Pairs<ShotEntry>,
    #[serde(default)]
    points: Pairs<PointEntry>,
    reference_lla: Option<Place>,
}

/// In degrees and metres.
#[derive(Clone, Copy, Deserialize)]
struct Place {
    latitude: f64,
    longitude: f64,
    #[serde(default)]
    altitude: f64,
}

#[derive(Deserialize)]
struct Camera {
    projection_type: String,
    width: Number,
    height: Number,
    focal: Option<f64>,
    focal_x: Option<f64>,
    focal_y: Option<f64>,
    c_x: Option<f64>,
    c_y: Option<f64>,
    k1: Option<f64>,
    k2: Option<f64>,
    k3: Option<f64>,
    k4: Option<f64>,
    p1: Option<f64>,
    p2: Option<f64>,
}

#[derive(Deserialize)]
struct ShotEntry {
    rotation: [f64; 3],
    translation: [f64; 3],
    camera: String,
}

#[derive(Deserialize)]
struct PointEntry {
    coordinates: [f64; 3],
}

/// Reads it: of several reconstructions the one with the most shots.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line or the shot.
pub fn read(file: &Path) -> Result<Calibration> {
    let all: Vec<Reconstruction> = json::read(file, EXPECTED)?;
    let mut notes = Vec::new();
    if all.len() > 1 {
        let counts: Vec<String> = all.iter().map(|r| r.shots.0.len().to_string()).collect();
        notes.push(format!("{} reconstructions, of {} shots: the largest is used", all.len(), counts.join(", ")));
    }
    let larger = |best: Reconstruction, next: Reconstruction| {
        if next.shots.0.len() > best.shots.0.len() { next } else { best }
    };
    let Some(reconstruction) = all.into_iter().reduce(larger) else {
        return Err(Error::input(file.display().to_string(), "an empty list", EXPECTED));
    };
    let mut cameras = HashMap::new();
    for (name, camera) in &reconstruction.cameras.0 {
        let place = format!("{}: camera {name}", file.display());
        cameras.insert(
            name.as_str(),
            (optics(&place, camera)?, json::size(&place, Some(camera.width), Some(camera.height))?),
        );
    }
    let mut shots = Vec::new();
    let mut places = HashMap::new();
    for (name, entry) in reconstruction.shots.0 {
        let place = format!("{}: shot {name}", file.display());
        let Some(&((intrinsics, distortion), size)) = cameras.get(entry.camera.as_str()) else {
            return Err(Error::input(place, format!("camera {}", entry.camera), "one of the cameras of the file"));
        };
        let axis = finite(&place, "rotation", DVec3::from_array(entry.rotation))?;
        let t = finite(&place, "translation", DVec3::from_array(entry.translation))?;
        places.insert(name.clone(), shots.len() as u32);
        let r = DMat3::from_quat(DQuat::from_scaled_axis(axis).normalize());
        shots.push(Shot { photo: Some(name), size, intrinsics, distortion, r, t, range: None, place });
    }
    let folder = folder_of(file);
    let mut tracks = tracks(&folder.join("tracks.csv"), &places, &mut notes)?;
    let point = |(id, entry): (String, PointEntry)| Point {
        position: DVec3::from_array(entry.coordinates),
        error: 0.0,
        shots: tracks.remove(&id).unwrap_or_default(),
    };
    let points = reconstruction.points.0.into_iter().map(point).collect();
    let georeference = georeference(file, &folder.join("reference_lla.json"), reconstruction.reference_lla)?;
    Ok(Calibration { georeference, ..Calibration::new(file.to_owned(), folder, shots, points, notes) })
}

/// By the reconstruction's own place, else by that of the file beside it.
fn georeference(file: &Path, beside: &Path, own: Option<Place>) -> Result<Option<Georeference>> {
    let (place, of) = match own {
        Some(place) => (Some(place), file),
        None if beside.is_file() => (Some(json::read(beside, "latitude, longitude and altitude")?), beside),
        None => (None, file),
    };
    // What OpenSfM writes where it knows nothing.
    let known = place.filter(|place| (place.latitude, place.longitude) != (0.0, 0.0));
    let made = known.map(|Place { latitude, longitude, altitude }| {
        Georeference::local(&format!("{}: reference_lla", of.display()), [latitude, longitude, altitude])
    });
    made.transpose()
}

fn optics(place: &str, camera: &Camera) -> Result<(Intrinsics, Option<Distortion>)> {
    if matches!(camera.projection_type.as_str(), "spherical" | "equirectangular") {
        return Ok((Intrinsics::of_panorama(Origin::Middle), Some(Distortion::Equirectangular)));
    }
    let Some(fx) = camera.focal.or(camera.focal_x) else {
        return Err(Error::input(place, "no focal length", "focal, or focal_x and focal_y"));
    };
    let fy = camera.focal_y.unwrap_or(fx);
    let [cx, cy] = [camera.c_x, camera.c_y].map(Option::unwrap_or_default);
    let [k1, k2, k3, k4] = [camera.k1, camera.k2, camera.k3, camera.k4].map(Option::unwrap_or_default);
    let p = [camera.p1, camera.p2].map(Option::unwrap_or_default);
    let distortion = match camera.projection_type.as_str() {
        "perspective" | "radial" | "simple_radial" => Distortion::Radial { k: [k1, k2] },
        "brown" => Distortion::FullOpenCv { k: [k1, k2, k3, 0.0, 0.0, 0.0], p },
        "fisheye" => Distortion::Fisheye { k: [k1, k2, 0.0, 0.0] },
        "fisheye_opencv" => Distortion::Fisheye { k: [k1, k2, k3, k4] },
        other => {
            let expected = "perspective, simple_radial, radial, brown, fisheye, fisheye_opencv or spherical";
            return Err(Error::input(place, format!("projection_type {other}"), expected));
        }
    };
    let intrinsics = Intrinsics {
        focal: [fx, fy].map(Length::Sides),
        skew: 0.0,
        principal: [cx, cy].map(Length::Sides),
        origin: Origin::Middle,
    };
    Ok((intrinsics, lens(place, distortion, &[k1, k2, k3, k4, p[0], p[1]])?))
}

/// The shots of each track, by the track's number as text; none where there is no such file.
fn tracks(file: &Path, places: &HashMap<String, u32>, notes: &mut Vec<String>) -> Result<HashMap<String, Vec<u32>>> {
    let mut tracks: HashMap<String, Vec<u32>> = HashMap::new();
    if !file.is_file() {
        return Ok(tracks);
    }
    let text = input::read_text(file, "read the tracks")?;
    for (i, line) in text.lines().enumerate() {
        if line.starts_with("OPENSFM_TRACKS_VERSION") || line.trim().is_empty() {
            continue;
        }
        let mut columns = line.split('\t');
        let (Some(image), Some(track)) = (columns.next(), columns.next()) else {
            let place = format!("{}: line {}", file.display(), i + 1);
            return Err(Error::input(place, format!("`{line}`"), "image, track and further columns, parted by tabs"));
        };
        if let Some(&shot) = places.get(image) {
            tracks.entry(track.to_owned()).or_default().push(shot);
        }
    }
    notes.push(format!("who sees which point is taken from {}", file.display()));
    Ok(tracks)
}
