//! Bundler's `bundle.out` (v0.3) with its list of photos.
//!
//! `P = R X + t`, and the camera looks along -z: `p = -P / P.z`, `p' = f (1 + k1 |p|^2 + k2 |p|^4) p`, measured from
//! the photo's middle with y up (Bundler's manual, "Output format and scene representation").

use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};

use crate::error::counted;
use crate::files::input;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Length, Point, Shot, lens};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::formats::text::Words;
use crate::scene::lens::Distortion;
use crate::{Error, Result};

const HEAD: &str = "# Bundle file";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.first(|file| file.ends(".out") && file.start().starts_with(HEAD))
}

/// Reads it, and the list beside it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line.
pub fn read(file: &Path) -> Result<Calibration> {
    let text = input::read_text(file, "read the cameras")?;
    let mut words = Words::new(file, &text);
    let head = words.next_line().unwrap_or_default();
    if !head.starts_with(HEAD) {
        return Err(Error::input(words.place(), format!("`{head}`"), "`# Bundle file v0.3`"));
    }
    let (cameras, count) = (words.count("the number of cameras")?, words.count("the number of points")?);
    let mut notes = Vec::new();
    let folder = folder_of(file);
    let names = names(file, &folder, cameras, &mut notes)?;
    let mut shots = Vec::new();
    // By the camera's number; `None` for those that were not registered.
    let mut places = Vec::new();
    for i in 0..cameras {
        let [f, k1, k2] = words.numbers("a camera's f, k1 and k2")?;
        let place = format!("{}, camera {i}", words.place());
        let r: [f64; 9] = words.numbers("a camera's rotation")?;
        let t: [f64; 3] = words.numbers("a camera's translation")?;
        if f == 0.0 {
            places.push(None);
            continue;
        }
        let to_opencv = DMat3::from_diagonal(DVec3::new(1.0, -1.0, -1.0));
        let r = to_opencv * checked_rotation(&place, DMat3::from_cols_array(&r).transpose())?;
        places.push(Some(shots.len() as u32));
        shots.push(Shot {
            photo: names.as_ref().map(|names| names[i].clone()),
            size: None,
            intrinsics: Intrinsics::centred(Length::Pixels(f)),
            distortion: lens(&place, Distortion::Radial { k: [k1, k2] }, &[k1, k2])?,
            r,
            t: to_opencv * DVec3::from_array(t),
            range: None,
            place,
        });
    }
    let unregistered = cameras - shots.len();
    if unregistered > 0 {
        notes.push(format!("{} without a focal length (not registered) left out", counted(unregistered, "camera")));
    }
    notes.push("the principal points are taken to be the photos' middles, as Bundler does".into());
    let mut points = Vec::new();
    for _ in 0..count {
        let position: [f64; 3] = words.numbers("a point's position")?;
        let _: [f64; 3] = words.numbers("a point's colour")?;
        let views = words.count("the number of a point's views")?;
        let mut seen = Vec::new();
        for _ in 0..views {
            let camera = words.count("a camera's number")?;
            let _: [f64; 3] = words.numbers("a keypoint's number and position")?;
            let Some(place) = places.get(camera) else {
                let found = format!("camera {camera}");
                return Err(Error::input(words.place(), found, format!("a number below {cameras}")));
            };
            seen.extend(*place);
        }
        points.push(Point { position: DVec3::from_array(position), error: 0.0, shots: seen });
    }
    if let Some(word) = words.try_next() {
        return Err(Error::input(words.place(), format!("`{word}` after the last point"), "the end of the file"));
    }
    let mut folders = vec![folder.clone(), folder.join("images")];
    // Bundler itself writes bundle/bundle.out below the list and the photos.
    folders.extend(folder.ends_with("bundle").then(|| folder_of(&folder)));
    let registered = places.iter().enumerate().filter(|(_, place)| place.is_some()).map(|(camera, _)| camera).collect();
    let unnamed = names.is_none().then_some((cameras, registered));
    Ok(Calibration { file: file.to_owned(), shots, points, notes, folders, unnamed, ..Calibration::default() })
}

/// The photos' names by the camera's number, out of the list.
fn names(file: &Path, folder: &Path, cameras: usize, notes: &mut Vec<String>) -> Result<Option<Vec<String>>> {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let named = [format!("{stem}.list.txt"), "list.txt".into(), "bundle.list.txt".into(), "list_keys.txt".into()];
    let above = folder.ends_with("bundle").then(|| folder_of(folder).join("list.txt"));
    let Some(list) = named.iter().map(|name| folder.join(name)).chain(above).find(|path| path.is_file()) else {
        return Ok(None);
    };
    let text = input::read_text(&list, "read the list of photos")?;
    // A line is `name`, or `name 0 focal`.
    let names: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    if names.len() != cameras {
        return Err(Error::input(
            list.display().to_string(),
            format!("{} names for {cameras} cameras in {}", names.len(), file.display()),
            "one line for each camera",
        ));
    }
    notes.push(format!("the photos' names are those of {}", list.display()));
    Ok(Some(names))
}
