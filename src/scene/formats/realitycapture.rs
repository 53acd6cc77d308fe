//! RealityCapture's (RealityScan's) cameras: `.xmp` files, one a photo, and the table "Internal/External camera
//! parameters" as `.csv`.
//!
//! Lengths are in units of the photo's longer side, focal lengths in its 36th parts; principal points begin at the
//! photo's middle. In XMP, Rotation leads from the world to the camera, row by row, and Position is the camera's
//! centre. In the table, heading, pitch and roll in degrees make the rotation `Rz(-heading) Rx(pitch) Ry(roll)` from
//! the camera (x right, y up, z backward) to the world (x east, y north, z up); its px and py are 36th parts, too.
//! Coefficients are k1 to k4 of r^2 to r^8 and t1, t2, taken in OpenCV's order.

use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};

use crate::error::counted;
use crate::files::input;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Length, Origin, Shot, lens, of_opengl, with_centre};
use crate::scene::formats::listing::{Candidate, Listing, folder_of};
use crate::scene::formats::text::{number, numbers};
use crate::scene::formats::xml;
use crate::scene::lens::Distortion;
use crate::{Error, Result};

const OWN: &str = "www.capturingreality.com/ns/xcr";
const COLUMNS: [&str; 16] =
    ["#name", "x", "y", "alt", "heading", "pitch", "roll", "f", "px", "py", "k1", "k2", "k3", "k4", "t1", "t2"];
/// Focal lengths are those of a film as wide as this.
const FILM: f64 = 36.0;

/// The table, or the folder with XMP files (the scene's or images/ in it), if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    let is_table = |file: &Candidate| file.ends(".csv") && file.start().starts_with("#name,x,y,alt,heading,pitch,roll");
    let is_own = |file: &Candidate| file.ends(".xmp") && file.says(OWN);
    listing.first(is_table).or_else(|| listing.first(is_own).map(|_| listing.folder.clone())).or_else(|| {
        let images = listing.folder.join("images");
        let below = if listing.one || !images.is_dir() { None } else { Listing::new(&images).ok() };
        below.and_then(|below| below.first(is_own)).map(|_| images)
    })
}

/// Reads either.
///
/// # Errors
/// Files that cannot be read or hold something else; the message names the line.
pub fn read(path: &Path) -> Result<Calibration> {
    let mut notes = vec!["t1 and t2 are taken as OpenCV's p1 and p2".to_owned()];
    let (shots, folder) = match path.is_dir() {
        true => (sidecars(path, &mut notes)?, path.to_owned()),
        false => (table(path)?, folder_of(path)),
    };
    Ok(Calibration::new(path.to_owned(), folder, shots, Vec::new(), notes))
}

/// A camera's optics in the form that both have.
fn optics(
    place: &str,
    focal: f64,
    aspect: f64,
    principal: [f64; 2],
    k: [f64; 6],
) -> Result<(Intrinsics, Option<Distortion>)> {
    let intrinsics = Intrinsics {
        focal: [focal / FILM, focal / FILM * aspect].map(Length::Sides),
        skew: 0.0,
        principal: principal.map(Length::Sides),
        origin: Origin::Middle,
    };
    let [k1, k2, k3, k4, t1, t2] = k;
    let distortion = Distortion::Brown { equidistant: false, k: [k1, k2, k3, k4], p: [t1, t2, 0.0, 0.0], s: [0.0; 2] };
    Ok((intrinsics, lens(place, distortion, &k)?))
}

fn table(file: &Path) -> Result<Vec<Shot>> {
    let text = input::read_text(file, "read the cameras")?;
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> = lines.next().map(|(_, line)| line.trim().split(',').collect()).unwrap_or_default();
    if header != COLUMNS {
        let place = format!("{}: line 1", file.display());
        return Err(Error::input(place, format!("columns {}", header.join(",")), COLUMNS.join(",")));
    }
    let mut shots = Vec::new();
    for (i, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split(',').collect();
        let place = format!("{}: line {}", file.display(), i + 1);
        if words.len() != COLUMNS.len() {
            return Err(Error::input(place, format!("{} values", words.len()), "16 values, parted by commas"));
        }
        let mut n = [0.0; 15];
        for ((value, word), name) in n.iter_mut().zip(&words[1..]).zip(&COLUMNS[1..]) {
            *value = number(&place, word, name)?;
        }
        let [x, y, alt, heading, pitch, roll, focal, px, py, k1, k2, k3, k4, t1, t2] = n;
        let to_world = DMat3::from_rotation_z(-heading.to_radians())
            * DMat3::from_rotation_x(pitch.to_radians())
            * DMat3::from_rotation_y(roll.to_radians());
        let (r, t) = of_opengl(&place, to_world.transpose().to_cols_array_2d(), DVec3::new(x, y, alt))?;
        let (intrinsics, distortion) = optics(&place, focal, 1.0, [px / FILM, py / FILM], [k1, k2, k3, k4, t1, t2])?;
        let photo = Some(words[0].trim().trim_matches('"').to_owned());
        shots.push(Shot { photo, size: None, intrinsics, distortion, r, t, range: None, place });
    }
    Ok(shots)
}

fn sidecars(folder: &Path, notes: &mut Vec<String>) -> Result<Vec<Shot>> {
    let (mut shots, mut without_pose) = (Vec::new(), 0);
    for file in input::files_in(folder, "list the cameras")? {
        if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xmp")) {
            match sidecar(&file)? {
                Some(shot) => shots.push(shot),
                None => without_pose += 1,
            }
        }
    }
    if without_pose > 0 {
        notes.push(format!("{} without a pose left out", counted(without_pose, "XMP file")));
    }
    Ok(shots)
}

/// `None` where the file has no pose.
fn sidecar(file: &Path) -> Result<Option<Shot>> {
    let expected = "an XMP file of RealityCapture";
    let text = input::read_text(file, "read the camera")?;
    let document = xml::parse(file, &text, expected)?;
    let source = xml::Source::new(file, &text);
    let Some(node) = document.descendants().find(|node| node.tag_name().name() == "Description") else {
        return Err(Error::input(file.display().to_string(), "no rdf:Description", expected));
    };
    let place = source.place(node);
    // What one version writes as an element another writes as an attribute.
    let value = |name: &str| {
        let attribute = node.attributes().find(|a| a.name() == name).map(|a| a.value());
        attribute.or_else(|| xml::child(node, name)?.text())
    };
    let (Some(rotation), Some(position)) = (value("Rotation"), value("Position")) else { return Ok(None) };
    let rows: [f64; 9] = numbers(&place, rotation, "Rotation")?;
    let r = checked_rotation(&place, DMat3::from_cols_array(&rows).transpose())?;
    let (r, t) = with_centre(&place, r, DVec3::from_array(numbers(&place, position, "Position")?))?;
    let one = |name: &str, otherwise: f64| match value(name) {
        Some(text) => number(&place, text, name),
        None => Ok(otherwise),
    };
    let focal = one("FocalLength35mm", 0.0)?;
    if focal <= 0.0 {
        return Err(Error::input(place, "no focal length", "FocalLength35mm > 0"));
    }
    if one("Skew", 0.0)? != 0.0 {
        return Err(Error::input(place, "a skew", "Skew 0: its unit is not known"));
    }
    let k = match value("DistortionCoeficients") {
        Some(text) => numbers(&place, text, "DistortionCoeficients")?,
        None => [0.0; 6],
    };
    let model = value("DistortionModel").unwrap_or("perspective");
    if !(model == "perspective" || model.starts_with("brown")) && k.iter().any(|&k| k != 0.0) {
        let found = format!("DistortionModel {model}");
        return Err(Error::input(place, found, "perspective, brown3, brown4, brown3t2 or brown4t2"));
    }
    let principal = [one("PrincipalPointU", 0.0)?, one("PrincipalPointV", 0.0)?];
    let (intrinsics, distortion) = optics(&place, focal, one("AspectRatio", 1.0)?, principal, k)?;
    let photo = Some(file.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    Ok(Some(Shot { photo, size: None, intrinsics, distortion, r, t, range: None, place }))
}
