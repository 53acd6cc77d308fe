//! VisualSFM's `.nvm`: one or more models, each of cameras and points.
//!
//! A camera is its photo's name, a focal length, a quaternion w x y z (world to camera), the camera's centre and a
//! radial distortion that leads from the photo to the ray: with m the position from the photo's middle,
//! `(1 + k |m|^2 / f^2) m = f (X / Z, Y / Z)` (VisualSFM's manual and its library pba).

use std::path::{Path, PathBuf};

use glam::{DMat3, DQuat, DVec3};

use crate::files::input;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Length, Origin, Point, Shot, lens, with_centre};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::scene::formats::text::{Words, number};
use crate::scene::lens::Distortion;
use crate::{Error, Result};

const HEAD: &str = "NVM_V3";

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.first(|file| file.ends(".nvm"))
}

/// One model.
struct Model {
    shots: Vec<Shot>,
    points: Vec<Point>,
}

/// Reads it: of several models the one with the most cameras.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the line.
pub fn read(file: &Path) -> Result<Calibration> {
    let text = input::read_text(file, "read the cameras")?;
    let mut words = Words::new(file, &text);
    let head = words.next_line().unwrap_or_default();
    let mut head = head.split_whitespace();
    if head.next().is_none_or(|word| word != HEAD) {
        return Err(Error::input(words.place(), "another beginning", "NVM_V3"));
    }
    let fixed = fixed_intrinsics(&words.place(), &head.collect::<Vec<_>>())?;
    let mut notes = Vec::new();
    let mut models: Vec<Model> = Vec::new();
    while let Some(model) = model(file, &mut words, fixed)? {
        models.push(model);
    }
    if models.len() > 1 {
        let counts: Vec<String> = models.iter().map(|m| m.shots.len().to_string()).collect();
        notes.push(format!("{} models, of {} cameras: the largest is used", models.len(), counts.join(", ")));
    }
    let best = models.into_iter().reduce(|best, next| if next.shots.len() > best.shots.len() { next } else { best });
    let Some(Model { shots, points }) = best else {
        return Err(Error::input(file.display().to_string(), "no model with cameras", "at least one"));
    };
    if fixed.is_none() {
        notes.push("the principal points are taken to be the photos' middles, as VisualSFM does".into());
    }
    let folder = folder_of(file);
    Ok(Calibration::new(file.to_owned(), folder, shots, points, notes))
}

/// The calibration of all photos, where the first line has one: `FixedK fx cx fy cy`, and perhaps r.
fn fixed_intrinsics(place: &str, words: &[&str]) -> Result<Option<Intrinsics>> {
    match words {
        [] => Ok(None),
        ["FixedK", fx, cx, fy, cy, ..] => {
            let value = |word: &str| number(place, word, "a length of the fixed calibration in pixels");
            let focal = [value(fx)?, value(fy)?];
            Ok(Some(Intrinsics::pixels(focal, [value(cx)?, value(cy)?], Origin::Corner)))
        }
        [word, ..] => Err(Error::input(place, format!("`{word}`"), "`NVM_V3` alone, or `NVM_V3 FixedK fx cx fy cy`")),
    }
}

/// The next model; `None` where the list of models ends.
fn model(file: &Path, words: &mut Words, fixed: Option<Intrinsics>) -> Result<Option<Model>> {
    // After the last model there is a 0, and then what belongs to PLY files; files may also end at once.
    let Some(first) = words.next_line() else { return Ok(None) };
    let count: usize = first
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| Error::input(words.place(), format!("`{first}`"), "the number of a model's cameras"))?;
    if count == 0 {
        return Ok(None);
    }
    let mut shots = Vec::new();
    for i in 0..count {
        let Some(line) = words.next_line() else {
            return Err(Error::input(words.place(), "the file ends", format!("camera {i} of {count}")));
        };
        shots.push(shot(&words.place(), line, fixed)?);
    }
    let Some(line) = words.next_line() else { return Ok(Some(Model { shots, points: Vec::new() })) };
    let count: usize =
        line.parse().map_err(|_| Error::input(words.place(), format!("`{line}`"), "the number of a model's points"))?;
    let mut points = Vec::new();
    for _ in 0..count {
        let position: [f64; 3] = words.numbers("a point's position")?;
        let _: [f64; 3] = words.numbers("a point's colour")?;
        let views = words.count("the number of a point's measurements")?;
        let mut seen = Vec::new();
        for _ in 0..views {
            let camera = words.count("a camera's number")?;
            let _: [f64; 3] = words.numbers("a keypoint's number and position")?;
            if camera >= shots.len() {
                let expected = format!("a number below {}", shots.len());
                return Err(Error::input(words.place(), format!("camera {camera}"), expected));
            }
            seen.push(camera as u32);
        }
        points.push(Point { position: DVec3::from_array(position), error: 0.0, shots: seen });
    }
    let left = words.rest_of_line();
    if let Some(word) = left.first() {
        let place = format!("{}: after {count} points", file.display());
        return Err(Error::input(place, format!("`{word}`"), "the end of the line"));
    }
    Ok(Some(Model { shots, points }))
}

/// A camera's line. The name may have spaces; ten numbers follow it.
fn shot(place: &str, line: &str, fixed: Option<Intrinsics>) -> Result<Shot> {
    let expected = "a photo's name, f, a quaternion w x y z, the camera's centre, a radial distortion and 0";
    // A tab parts the name from the numbers in files of VisualSFM, so that names may have spaces.
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(at) = words.len().checked_sub(10).filter(|&at| at > 0) else {
        return Err(Error::input(place, format!("{} words", words.len()), expected));
    };
    let end = words[at].as_ptr() as usize - line.as_ptr() as usize;
    let name = line[..end].trim().trim_matches('"').to_owned();
    let mut n = [0.0; 10];
    for (value, word) in n.iter_mut().zip(&words[at..]) {
        *value = number(place, word, expected)?;
    }
    let [f, w, x, y, z, cx, cy, cz, k, _] = n;
    let q = DQuat::from_xyzw(x, y, z, w);
    if q.length() < 1e-6 {
        return Err(Error::input(place, format!("rotation {w} {x} {y} {z}"), "a quaternion w x y z of length 1"));
    }
    let (r, t) = with_centre(place, DMat3::from_quat(q.normalize()), DVec3::new(cx, cy, cz))?;
    Ok(Shot {
        photo: Some(name),
        size: None,
        intrinsics: fixed.unwrap_or_else(|| Intrinsics::centred(Length::Pixels(f))),
        distortion: lens(place, Distortion::Measured { k }, &[k])?,
        r,
        t,
        range: None,
        place: place.to_owned(),
    })
}
