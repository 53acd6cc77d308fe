//! OpenMVS's `scene.mvs` (its interchange form, which begins with `MVSI`; versions 0 to 7).
//!
//! Little-endian; lists and texts begin with a count of eight bytes. Platforms have cameras (size, K, and a pose in the
//! platform) and poses (world to platform); an image names a platform, a camera and a pose:
//! `R = R_camera R_pose`, `C = R_pose^T C_camera + C_pose`. Pixel centres are integers; K of a camera without a size is
//! in units of the photo's longer side (the comments of OpenMVS's Interface.h). From version 7 on images have view
//! scores: other images by their place in the list, and how well each goes with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glam::{DMat3, DVec3};

use crate::error::counted;
use crate::files::input;
use crate::scene::checks::checked_rotation;
use crate::scene::formats::calibration::{Calibration, Intrinsics, Length, Origin, Point, Shot, with_centre};
use crate::scene::formats::listing::{Listing, folder_of};
use crate::{Error, Result};

const MAGIC: &[u8] = b"MVSI";
const NEWEST: u32 = 7;
const NONE: u32 = u32::MAX;

/// The file, if there is one.
pub fn find(listing: &Listing) -> Option<PathBuf> {
    listing.named(&["scene.mvs"], |file| file.ends(".mvs")).or_else(|| listing.first(|file| file.ends(".mvs")))
}

/// What is left of the file.
struct Bytes<'a> {
    file: &'a Path,
    left: &'a [u8],
    whole: usize,
}

impl<'a> Bytes<'a> {
    fn refused(&self, found: String, expected: &str) -> Error {
        let at = self.whole - self.left.len();
        Error::input(format!("{}: byte {at}", self.file.display()), found, expected)
    }

    fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        match self.left.split_at_checked(count) {
            Some((taken, left)) => {
                self.left = left;
                Ok(taken)
            }
            None => Err(self.refused(format!("the file ends in {what}"), "a whole file")),
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// A count of things of at least `least` bytes each, which the rest of the file must hold.
    fn count(&mut self, least: usize, what: &str) -> Result<usize> {
        let count = self.array(what).map(u64::from_le_bytes)?;
        let most = self.left.len() / least;
        match usize::try_from(count) {
            Ok(count) if count <= most => Ok(count),
            _ => Err(self.refused(format!("{count} {what} in the {} bytes left", self.left.len()), "a whole file")),
        }
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.count(1, what)?;
        Ok(String::from_utf8_lossy(self.take(length, what)?).into_owned())
    }

    fn doubles<const N: usize>(&mut self, what: &str) -> Result<[f64; N]> {
        let mut values = [0.0; N];
        for value in &mut values {
            *value = f64::from_le_bytes(self.array(what)?);
        }
        Ok(values)
    }

    fn matrix(&mut self, what: &str) -> Result<DMat3> {
        self.doubles::<9>(what).map(|values| DMat3::from_cols_array(&values).transpose())
    }
}

struct Camera {
    size: Option<(usize, usize)>,
    k: DMat3,
    r: DMat3,
    c: DVec3,
}

struct Platform {
    cameras: Vec<Camera>,
    poses: Vec<(DMat3, DVec3)>,
}

/// Reads it.
///
/// # Errors
/// A file that cannot be read or holds something else; the message names the byte.
pub fn read(file: &Path) -> Result<Calibration> {
    let content = input::read(file, "read the cameras")?;
    let mut bytes = Bytes { file, left: &content, whole: content.len() };
    if !content.starts_with(MAGIC) {
        let found = if content.starts_with(b"MVS\0") { "a project of OpenMVS's own form" } else { "another beginning" };
        let expected = "`MVSI`; OpenMVS writes its own projects so with --archive-type -1";
        return Err(bytes.refused(found.into(), expected));
    }
    bytes.take(MAGIC.len(), "the head")?;
    let version = bytes.u32("the version")?;
    if version > NEWEST {
        return Err(bytes.refused(format!("version {version}"), "a version up to 7"));
    }
    bytes.u32("the head")?;
    let mut platforms = Vec::new();
    for _ in 0..bytes.count(24, "platforms")? {
        platforms.push(platform(&mut bytes, version)?);
    }
    let mut notes = Vec::new();
    let (mut shots, mut places, mut unregistered) = (Vec::new(), Vec::new(), 0);
    let (mut masks, mut scores) = (BTreeMap::new(), Vec::new());
    for i in 0..bytes.count(20, "images")? {
        let name = bytes.text("an image's name")?;
        let place = format!("{}: image {i} ({name})", file.display());
        let mask = if version > 4 { bytes.text("a mask's name")? } else { String::new() };
        let [platform, camera, pose] = [bytes.u32("an image")?, bytes.u32("an image")?, bytes.u32("an image")?];
        if version > 2 {
            bytes.u32("an image's number")?;
        }
        if version > 6 {
            bytes.take(12, "an image's depths")?;
            scores.push(view_scores(&mut bytes)?);
        }
        if pose == NONE {
            unregistered += 1;
            places.push(None);
            continue;
        }
        let of_platform = platforms.get(platform as usize);
        let found =
            of_platform.and_then(|p: &Platform| Some((p.cameras.get(camera as usize)?, p.poses.get(pose as usize)?)));
        let Some((camera, &(pose_r, pose_c))) = found else {
            let found = format!("platform {platform}, camera {camera}, pose {pose}");
            return Err(Error::input(place, found, "numbers of a platform, and of a camera and a pose in it"));
        };
        let r = checked_rotation(&place, camera.r)? * checked_rotation(&place, pose_r)?;
        let (r, t) = with_centre(&place, r, pose_r.transpose() * camera.c + pose_c)?;
        if !mask.is_empty() {
            masks.insert(shots.len(), mask);
        }
        places.push(Some(shots.len() as u32));
        shots.push(Shot {
            photo: Some(name),
            size: camera.size,
            intrinsics: intrinsics(camera),
            distortion: None,
            r,
            t,
            range: None,
            place,
        });
    }
    if unregistered > 0 {
        notes.push(format!("{} without a pose left out", counted(unregistered, "image")));
    }
    let sources = sources(file, &places, &scores)?;
    let mut points = Vec::new();
    for _ in 0..bytes.count(20, "points")? {
        let mut position = [0.0; 3];
        for value in &mut position {
            *value = f64::from(f32::from_le_bytes(bytes.array("a point")?));
        }
        let mut seen = Vec::new();
        for _ in 0..bytes.count(8, "views of a point")? {
            let image = bytes.u32("a view of a point")?;
            bytes.u32("a view of a point")?;
            match places.get(image as usize) {
                Some(place) => seen.extend(*place),
                None => return Err(bytes.refused(format!("image {image}"), "the number of an image")),
            }
        }
        points.push(Point { position: DVec3::from_array(position), error: 0.0, shots: seen });
    }
    Ok(Calibration { masks, sources, ..Calibration::new(file.to_owned(), folder_of(file), shots, points, notes) })
}

/// Other images and how well each goes with this one.
fn view_scores(bytes: &mut Bytes) -> Result<Vec<(u32, f64)>> {
    let mut scores = Vec::new();
    for _ in 0..bytes.count(24, "scores")? {
        let image = bytes.u32("a score")?;
        // Shared points, scale, angle and area, of which the score is made.
        bytes.take(16, "a score")?;
        let score = f32::from_le_bytes(bytes.array("a score")?);
        if !score.is_finite() {
            return Err(bytes.refused(format!("a score of {score}"), "a finite number"));
        }
        scores.push((image, f64::from(score)));
    }
    Ok(scores)
}

/// Scores of images as source views of shots, best first; images without a pose serve for nothing.
fn sources(
    file: &Path,
    places: &[Option<u32>],
    scores: &[Vec<(u32, f64)>],
) -> Result<BTreeMap<usize, Vec<(usize, f64)>>> {
    let mut sources = BTreeMap::new();
    for (i, (place, scores)) in places.iter().zip(scores).enumerate() {
        let mut of_shot = Vec::with_capacity(scores.len());
        for &(other, score) in scores {
            let Some(other) = places.get(other as usize) else {
                let place = format!("{}: image {i}", file.display());
                return Err(Error::input(place, format!("a score of image {other}"), "the number of an image"));
            };
            of_shot.extend(other.map(|other| (other as usize, score)));
        }
        of_shot.sort_by(|a, b| b.1.total_cmp(&a.1));
        if let Some(place) = place {
            sources.insert(*place as usize, of_shot);
        }
    }
    Ok(sources)
}

fn platform(bytes: &mut Bytes, version: u32) -> Result<Platform> {
    bytes.text("a platform's name")?;
    let mut platform = Platform { cameras: Vec::new(), poses: Vec::new() };
    for _ in 0..bytes.count(8 + 21 * 8, "cameras")? {
        bytes.text("a camera's name")?;
        if version > 3 {
            bytes.text("a band's name")?;
        }
        let size = match version {
            0 => None,
            _ => Some((bytes.u32("a camera's size")? as usize, bytes.u32("a camera's size")? as usize)),
        };
        let (k, r) = (bytes.matrix("a camera's K")?, bytes.matrix("a camera's rotation")?);
        let c = DVec3::from_array(bytes.doubles("a camera's centre")?);
        platform.cameras.push(Camera { size: size.filter(|&(w, h)| w > 0 && h > 0), k, r, c });
    }
    for _ in 0..bytes.count(12 * 8, "poses")? {
        let r = bytes.matrix("a pose's rotation")?;
        platform.poses.push((r, DVec3::from_array(bytes.doubles("a pose's centre")?)));
    }
    Ok(platform)
}

fn intrinsics(camera: &Camera) -> Intrinsics {
    let k = camera.k.transpose().to_cols_array_2d();
    match camera.size {
        Some(_) => Intrinsics::of_k(k),
        None => Intrinsics {
            focal: [k[0][0], k[1][1]].map(Length::Sides),
            skew: 0.0,
            principal: [k[0][2], k[1][2]].map(Length::Sides),
            origin: Origin::FirstPixel,
        },
    }
}
