//! Pix4D's OPF (Open Photogrammetry Format, github.com/Pix4D/opf-spec): a project file that names the others.
//!
//! Read are the camera list (names of photos), the input cameras (sizes), the calibrated cameras (poses, internals) and
//! the tracks of the calibration (`opf_tracks.rs`). `orientation_deg` are angles of `Rx(omega) Ry(phi) Rz(kappa)` from
//! a camera with x right, y up, z backward to the world; principal points begin at the corner of the photo. Secondary
//! cameras of rigs have poses of their own. Perspective cameras have OpenCV's formulas with k1, k2, k3, p1, p2; of
//! fisheyes it is Pix4D's ("How are the internal and external camera parameters defined?"). All is in the processing
//! system of coordinates, whose shift from the system of the project the scene reference frame tells.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};
use serde::Deserialize;

use super::opf_tracks;
use crate::error::counted;
use crate::scene::formats::calibration::{
    Calibration, Intrinsics, Length, Origin, Point, Shot, finite, lens, with_centre,
};
use crate::scene::formats::json::{self, Id, Number};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::georeference::{Georeference, epsg_of_words};
use crate::scene::lens::Distortion;
use crate::{Error, Result};

const EXPECTED: &str =
    "an OPF project (application/opf-project+json) with items camera_list, input_cameras and calibration";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    let says = |file: &super::listing::Candidate| file.says("application/opf-project+json");
    listing.first(|file| file.ends(".opf") || file.name.eq_ignore_ascii_case("project.json") && says(file)).or_else(
        || {
            // Of a file that was named by itself any name will do.
            if listing.one { listing.first(says) } else { None }
        },
    )
}

#[derive(Deserialize)]
struct Project {
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    uri: String,
    format: String,
}

#[derive(Deserialize)]
struct CameraList {
    cameras: Vec<Photo>,
}

#[derive(Deserialize)]
struct Photo {
    id: Id,
    uri: String,
}

#[derive(Deserialize)]
struct InputCameras {
    sensors: Vec<InputSensor>,
}

#[derive(Deserialize)]
struct InputSensor {
    id: Id,
    image_size_px: [Number; 2],
    #[serde(default)]
    shutter_type: String,
}

#[derive(Deserialize)]
struct CalibratedCameras {
    sensors: Vec<Sensor>,
    cameras: Vec<Camera>,
}

#[derive(Deserialize)]
struct Sensor {
    id: Id,
    internals: Internals,
}

#[derive(Deserialize)]
struct Internals {
    #[serde(rename = "type")]
    kind: String,
    principal_point_px: [f64; 2],
    focal_length_px: Option<f64>,
    radial_distortion: Option<[f64; 3]>,
    tangential_distortion: Option<[f64; 2]>,
    affine: Option<[f64; 4]>,
    polynomial: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct Camera {
    id: Id,
    sensor_id: Id,
    position: [f64; 3],
    orientation_deg: [f64; 3],
}

#[derive(Deserialize)]
struct ReferenceFrame {
    crs: Option<System>,
    base_to_canonical: Option<ToCanonical>,
}

#[derive(Deserialize)]
struct System {
    definition: String,
}

#[derive(Deserialize)]
struct ToCanonical {
    shift: [f64; 3],
    #[serde(default = "no_scale")]
    scale: [f64; 3],
    #[serde(default)]
    swap_xy: bool,
}

fn no_scale() -> [f64; 3] {
    [1.0; 3]
}

/// The files of a project by what they are.
struct Files<'a> {
    file: &'a Path,
    folder: PathBuf,
    project: Project,
}

impl Files<'_> {
    /// The resources of a format, those of the calibration before others.
    fn of(&self, format: &str) -> Vec<PathBuf> {
        let wanted = |resource: &&Resource| resource.format == format;
        let (first, others): (Vec<&Item>, Vec<&Item>) =
            self.project.items.iter().partition(|item| item.kind == "calibration");
        let resources = first.into_iter().chain(others).flat_map(|item| &item.resources).filter(wanted);
        resources.map(|resource| self.folder.join(path_of(&resource.uri))).collect()
    }

    /// The one that there must be.
    fn the(&self, format: &str) -> Result<PathBuf> {
        let missing = || Error::input(self.file.display().to_string(), format!("no resource of {format}"), EXPECTED);
        self.of(format).into_iter().next().ok_or_else(missing)
    }
}

/// The path in an address: without scheme, page, and what is written as `%20`.
fn path_of(uri: &str) -> String {
    let local = uri.strip_prefix("file://").unwrap_or(uri);
    let path = local.split(['#', '?']).next().unwrap_or_default();
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match code.filter(|_| *first == b'%') {
            Some(code) => {
                bytes.push(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let path = String::from_utf8_lossy(&bytes).into_owned();
    // file:///c:/photos leaves /c:/photos.
    let of_windows = path.starts_with('/') && path.as_bytes().get(2) == Some(&b':');
    if of_windows { path[1..].to_owned() } else { path }
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line, the camera or the sensor.
pub fn read(file: &Path) -> Result<Calibration> {
    let folder = folder_of(file);
    let files = Files { file, folder: folder.clone(), project: json::read(file, EXPECTED)? };
    let list: CameraList = json::read(&files.the("application/opf-camera-list+json")?, "OPF's list of cameras")?;
    let input_file = files.the("application/opf-input-cameras+json")?;
    let input: InputCameras = json::read(&input_file, "OPF's input cameras with sensors")?;
    let place = files.the("application/opf-calibrated-cameras+json")?;
    let calibrated: CalibratedCameras = json::read(&place, "OPF's calibrated cameras with sensors and cameras")?;
    let mut notes = Vec::new();
    let mut sizes = HashMap::new();
    for sensor in &input.sensors {
        let at = format!("{}: sensor {}", input_file.display(), sensor.id.0);
        let [width, height] = sensor.image_size_px;
        sizes.insert(&sensor.id, json::size(&at, Some(width), Some(height))?);
    }
    let mut optics_of = HashMap::new();
    for sensor in &calibrated.sensors {
        let at = format!("{}: sensor {}", place.display(), sensor.id.0);
        optics_of.insert(&sensor.id, optics(&at, &sensor.internals)?);
    }
    let photos: HashMap<&Id, &Photo> = list.cameras.iter().map(|photo| (&photo.id, photo)).collect();
    let (mut shots, mut places, mut nameless) = (Vec::new(), HashMap::new(), 0);
    for camera in &calibrated.cameras {
        let at = format!("{}: camera {}", place.display(), camera.id.0);
        let Some(photo) = photos.get(&camera.id) else {
            nameless += 1;
            continue;
        };
        let Some((intrinsics, distortion)) = optics_of.get(&camera.sensor_id).copied() else {
            let found = format!("sensor_id {}", camera.sensor_id.0);
            return Err(Error::input(at, found, "the id of a calibrated sensor"));
        };
        if places.insert(camera.id.0.clone(), shots.len() as u32).is_some() {
            return Err(Error::input(at, "this camera for the second time", "every camera once"));
        }
        let r = to_camera(&at, camera.orientation_deg)?;
        let (r, t) = with_centre(&at, r, DVec3::from_array(camera.position))?;
        shots.push(Shot {
            photo: Some(path_of(&photo.uri)),
            size: sizes.get(&camera.sensor_id).copied().flatten(),
            intrinsics,
            distortion,
            r,
            t,
            range: None,
            place: at,
        });
    }
    if nameless > 0 {
        notes.push(format!("{} that the camera list does not have left out", counted(nameless, "calibrated camera")));
    }
    let rolling = input.sensors.iter().filter(|sensor| sensor.shutter_type == "rolling").count();
    if rolling > 0 {
        notes.push(format!(
            "{} with a rolling shutter: a photo is taken as made at one moment, with the camera's pose",
            counted(rolling, "sensor")
        ));
    }
    let georeference = georeference(&files, &mut notes)?;
    let points = points(&files, &places, &mut notes)?;
    Ok(Calibration { georeference, ..Calibration::new(file.to_owned(), folder, shots, points, notes) })
}

/// World to camera (y down, z forward) of omega, phi and kappa.
fn to_camera(place: &str, degrees: [f64; 3]) -> Result<DMat3> {
    let [omega, phi, kappa] =
        finite(place, "orientation_deg", DVec3::from_array(degrees))?.to_array().map(f64::to_radians);
    let to_world = DMat3::from_rotation_x(omega) * DMat3::from_rotation_y(phi) * DMat3::from_rotation_z(kappa);
    Ok(DMat3::from_diagonal(DVec3::new(1.0, -1.0, -1.0)) * to_world.transpose())
}

fn optics(place: &str, internals: &Internals) -> Result<(Intrinsics, Option<Distortion>)> {
    let refused = |found: String, expected: &str| Err(Error::input(place, found, expected));
    let principal = internals.principal_point_px;
    match internals.kind.as_str() {
        "perspective" => {
            let Some(f) = internals.focal_length_px else {
                return refused("no focal_length_px".into(), "a focal length in pixels");
            };
            let [k1, k2, k3] = internals.radial_distortion.unwrap_or_default();
            let p = internals.tangential_distortion.unwrap_or_default();
            let bent = Distortion::FullOpenCv { k: [k1, k2, k3, 0.0, 0.0, 0.0], p };
            Ok((Intrinsics::pixels([f; 2], principal, Origin::Corner), lens(place, bent, &[k1, k2, k3, p[0], p[1]])?))
        }
        "fisheye" => {
            let (Some([c, d, e, f]), Some(polynomial)) = (internals.affine, &internals.polynomial) else {
                return refused("a fisheye without affine or polynomial".into(), "both");
            };
            if e != 0.0 {
                return refused(format!("affine {c} {d} {e} {f}"), "c d 0 f: undistort the photos first");
            }
            let at = |i: usize| polynomial.get(i).copied().unwrap_or_default();
            if polynomial.len() > 5 || at(0) != 0.0 || at(1) == 0.0 {
                let expected = "0, a first coefficient that is not 0, and up to three more: undistort the photos first";
                return refused(format!("the polynomial {polynomial:?}"), expected);
            }
            // The model's own first coefficient is 1.
            let of_first = [2, 3, 4].map(|i| at(i) / at(1));
            let mut intrinsics = Intrinsics::pixels([c * at(1), f * at(1)], principal, Origin::Corner);
            intrinsics.skew = d * at(1);
            Ok((intrinsics, lens(place, Distortion::AnglePolynomial { c: of_first }, polynomial)?))
        }
        "spherical" => {
            let mut intrinsics = Intrinsics::of_panorama(Origin::Corner);
            intrinsics.principal = principal.map(Length::Pixels);
            Ok((intrinsics, Some(Distortion::Equirectangular)))
        }
        other => refused(format!("internals of type {other}"), "perspective, fisheye or spherical"),
    }
}

/// Where the coordinates begin in the project's system, if that has an EPSG code; what else they are is noted.
fn georeference(files: &Files, notes: &mut Vec<String>) -> Result<Option<Georeference>> {
    let frame = files.of("application/opf-scene-reference-frame+json").into_iter().find(|frame| frame.is_file());
    let Some(frame) = frame else { return Ok(None) };
    let frame: ReferenceFrame = json::read(&frame, "OPF's scene reference frame")?;
    let (shift, is_plain) = match &frame.base_to_canonical {
        Some(to) => (to.shift, to.scale == no_scale() && !to.swap_xy),
        None => ([0.0; 3], true),
    };
    let epsg = frame.crs.and_then(|system| epsg_of_words(&system.definition));
    if let (Some(epsg), true) = (epsg, is_plain) {
        // 0 subtracted makes one zero of the two.
        return Ok(Some(Georeference::Projected { epsg, offset: shift.map(|value| 0.0 - value) }));
    }
    if shift != [0.0; 3] {
        notes.push(format!(
            "the world is OPF's processing system of coordinates: less {} {} {} it is the project's",
            shift[0], shift[1], shift[2]
        ));
    }
    Ok(None)
}

/// The tracks of the calibration, else the points of the first cloud that is there.
fn points(files: &Files, places: &HashMap<String, u32>, notes: &mut Vec<String>) -> Result<Vec<Point>> {
    let clouds = files.of("model/gltf+json");
    let Some(cloud) = clouds.iter().find(|cloud| cloud.is_file()) else {
        if let Some(first) = clouds.first() {
            notes.push(format!("points: there is no {}", first.display()));
        }
        return Ok(Vec::new());
    };
    opf_tracks::read(cloud, places, notes)
}
