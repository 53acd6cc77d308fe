//! OpenMVG's `sfm_data.json`.
//!
//! `x_cam = rotation (X - center)`; pixel centres are integers; the models pinhole_radial_k1, pinhole_radial_k3 and
//! pinhole_brown_t2 have OpenCV's formulas with three radial coefficients, fisheye those of OpenCV's fisheye. Views,
//! intrinsics and poses are tied by numbers; a view without a pose was not registered.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};
use serde::Deserialize;

use crate::error::counted;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Origin, Point, Shot, lens, with_centre};
use crate::scene::formats::json::{self, Number};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::lens::Distortion;
use crate::{Error, Result};

const EXPECTED: &str = "OpenMVG's sfm_data.json with views, intrinsics, extrinsics and structure";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.named(&["sfm_data.json"], |file| file.ends(".json") && file.says("\"sfm_data_version\""))
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    root_path: String,
    views: Vec<Entry<Wrapped<View>>>,
    intrinsics: Vec<Entry<Wrapped<Intrinsic>>>,
    extrinsics: Vec<Entry<Pose>>,
    #[serde(default)]
    structure: Vec<Entry<Landmark>>,
}

#[derive(Deserialize)]
struct Entry<T> {
    key: u32,
    value: T,
}

#[derive(Deserialize)]
struct Wrapped<T> {
    polymorphic_id: Option<u32>,
    polymorphic_name: Option<String>,
    ptr_wrapper: Pointer<T>,
}

#[derive(Deserialize)]
struct Pointer<T> {
    data: T,
}

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    local_path: String,
    filename: String,
    width: Number,
    height: Number,
    id_view: u32,
    id_intrinsic: u32,
    id_pose: u32,
}

#[derive(Deserialize)]
struct Intrinsic {
    width: Option<Number>,
    height: Option<Number>,
    focal_length: Option<f64>,
    principal_point: Option<[f64; 2]>,
    disto_k1: Option<[f64; 1]>,
    disto_k3: Option<[f64; 3]>,
    disto_t2: Option<[f64; 5]>,
    fisheye: Option<[f64; 4]>,
}

#[derive(Deserialize)]
struct Pose {
    rotation: [[f64; 3]; 3],
    center: [f64; 3],
}

#[derive(Deserialize)]
struct Landmark {
    #[serde(rename = "X")]
    position: [f64; 3],
    observations: Vec<Entry<serde::de::IgnoredAny>>,
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line or the view.
pub fn read(file: &Path) -> Result<Calibration> {
    let content: File = json::read(file, EXPECTED)?;
    let mut notes = Vec::new();
    let poses: HashMap<u32, &Pose> = content.extrinsics.iter().map(|entry| (entry.key, &entry.value)).collect();
    // Only the first object of a type has the type's name; its highest bit says that it does.
    const FIRST: u32 = 1 << 31;
    let number = |id: u32| id & !FIRST;
    let names: HashMap<u32, &str> = content
        .intrinsics
        .iter()
        .filter_map(|entry| Some((number(entry.value.polymorphic_id?), entry.value.polymorphic_name.as_deref()?)))
        .collect();
    let name_of = |wrapped: &Wrapped<Intrinsic>| {
        let own = wrapped.polymorphic_name.as_deref();
        own.or_else(|| names.get(&number(wrapped.polymorphic_id?)).copied()).unwrap_or("pinhole").to_owned()
    };
    let intrinsics: HashMap<u32, (&Intrinsic, String)> = content
        .intrinsics
        .iter()
        .map(|entry| (entry.key, (&entry.value.ptr_wrapper.data, name_of(&entry.value))))
        .collect();
    let mut shots = Vec::new();
    let mut places = HashMap::new();
    let mut unregistered = 0;
    for entry in &content.views {
        let view = &entry.value.ptr_wrapper.data;
        let place = format!("{}: view {} ({})", file.display(), view.id_view, view.filename);
        let (Some(pose), Some((intrinsic, name))) = (poses.get(&view.id_pose), intrinsics.get(&view.id_intrinsic))
        else {
            unregistered += 1;
            continue;
        };
        let rows = DMat3::from_cols_array_2d(&pose.rotation).transpose();
        let r = checked_rotation(&place, rows)?;
        let (r, t) = with_centre(&place, r, DVec3::from_array(pose.center))?;
        let (k, distortion) = optics(&place, intrinsic, name)?;
        places.insert(entry.key, shots.len() as u32);
        let photo = match view.local_path.as_str() {
            "" => view.filename.clone(),
            folder => format!("{folder}/{}", view.filename),
        };
        let of_view = json::size(&place, Some(view.width), Some(view.height))?;
        let of_camera = json::size(&place, intrinsic.width, intrinsic.height)?;
        if let (Some(a), Some(b)) = (of_view, of_camera)
            && a != b
        {
            let found = format!("a view of {} x {} with intrinsics for {} x {}", a.0, a.1, b.0, b.1);
            return Err(Error::input(place, found, "the same size"));
        }
        shots.push(Shot { photo: Some(photo), size: of_view, intrinsics: k, distortion, r, t, range: None, place });
    }
    if unregistered > 0 {
        notes.push(format!("{} without a pose or intrinsics (not registered) left out", counted(unregistered, "view")));
    }
    let point = |entry: &Entry<Landmark>| Point {
        position: DVec3::from_array(entry.value.position),
        error: 0.0,
        shots: entry.value.observations.iter().filter_map(|seen| places.get(&seen.key).copied()).collect(),
    };
    let points = content.structure.iter().map(point).collect();
    let folder = folder_of(file);
    let mut calibration = Calibration::new(file.to_owned(), folder.clone(), shots, points, notes);
    if !content.root_path.is_empty() {
        calibration.folders.insert(0, folder.join(&content.root_path));
    }
    Ok(calibration)
}

fn optics(place: &str, intrinsic: &Intrinsic, name: &str) -> Result<(Intrinsics, Option<Distortion>)> {
    let refused = |found: String| {
        let expected = "pinhole, pinhole_radial_k1, pinhole_radial_k3, pinhole_brown_t2 or fisheye, with focal_length \
                        and principal_point, or spherical";
        Error::input(place, found, expected)
    };
    if name == "spherical" {
        return Ok((Intrinsics::of_panorama(Origin::FirstPixel), Some(Distortion::Equirectangular)));
    }
    let (Some(f), Some(principal)) = (intrinsic.focal_length, intrinsic.principal_point) else {
        return Err(refused(format!("intrinsics of type {name} without focal length and principal point")));
    };
    let radial = |k: [f64; 3], p: [f64; 2]| Distortion::FullOpenCv { k: [k[0], k[1], k[2], 0.0, 0.0, 0.0], p };
    let distortion = match (name, intrinsic) {
        ("pinhole", _) => None,
        ("pinhole_radial_k1", Intrinsic { disto_k1: Some([k1]), .. }) => {
            lens(place, Distortion::Radial { k: [*k1, 0.0] }, &[*k1])?
        }
        ("pinhole_radial_k3", Intrinsic { disto_k3: Some(k), .. }) => lens(place, radial(*k, [0.0; 2]), k)?,
        ("pinhole_brown_t2", Intrinsic { disto_t2: Some(all), .. }) => {
            let [k1, k2, k3, t1, t2] = *all;
            lens(place, radial([k1, k2, k3], [t1, t2]), all)?
        }
        ("fisheye", Intrinsic { fisheye: Some(k), .. }) => lens(place, Distortion::Fisheye { k: *k }, k)?,
        _ => return Err(refused(format!("intrinsics of type {name}"))),
    };
    Ok((Intrinsics::pixels([f; 2], principal, Origin::FirstPixel), distortion))
}
