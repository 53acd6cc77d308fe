//! A map of depths that are known before, pixel by pixel: where among the hypotheses each pixel's depth is expected.
//!
//! The map of an earlier run lies over the undistorted photo, any other over the photo as it is stored; it may have
//! another size than the photo. What is known is not taken for true: other depths only need better photos
//! ([`crate::scene::camera::ELSEWHERE`]), so that a wrong value, or the edge of a thing that a sensor saw a pixel
//! aside, costs nothing where photos are sure.

use std::path::PathBuf;

use glam::{DVec2, DVec3};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::files::known_hashes::KnownHashes;
use crate::files::map::Map;
use crate::files::{depth_file, pfm};
use crate::scene::camera::{Camera, Expected, Hypotheses};
use crate::scene::lens::Lens;
use crate::{Error, Result};

/// Values whose confidence, where there is a map of it, is not above this are not trusted.
const LEAST_CONFIDENCE: f32 = 0.5;
/// How far a depth may lie from what is known, as a share of it, where nobody says: sensors are right to a few percent.
pub const TOLERANCE: f64 = 0.05;
/// Pixels of the map around a pixel's own that count as its own: maps are not laid over photos more exactly.
const MARGIN: f64 = 1.0;

/// Where a view's map lies, and how it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownDepths {
    /// The map.
    pub file: PathBuf,
    /// A map of its confidence, of the same size.
    pub confidence: Option<PathBuf>,
    /// By what the numbers of a PNG are divided.
    pub scale: Option<f64>,
    /// By what depths are divided to be in the scene's units.
    pub world: f64,
    /// How far a depth may lie from it, as a share.
    pub tolerance: f64,
    /// Whether it lies over the undistorted photo.
    pub undistorted: bool,
    /// Width and height of the map.
    pub size: (usize, usize),
}

/// The photo that a map lies over.
#[derive(Clone, Copy, Debug)]
pub struct UnderMap<'a> {
    /// The pinhole camera of the undistorted photo.
    pub camera: &'a Camera,
    /// From its pixels to those under the map, where that is the distorted photo.
    pub lens: Option<&'a Lens>,
    /// Width and height of the photo under the map.
    pub size: (usize, usize),
}

/// What maps that were made with such a map depend on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownIdentity {
    map_sha256: String,
    confidence_sha256: Option<String>,
    scale: Option<f64>,
    world: f64,
    /// Runs that do not say took what was the only one.
    #[serde(default = "usual_tolerance")]
    tolerance: f64,
    undistorted: bool,
}

fn usual_tolerance() -> f64 {
    TOLERANCE
}

impl KnownDepths {
    /// The map, in the scene's units, with 0 where it is not trusted: where there is no depth (> 0, finite), or where
    /// its confidence is not above 0.5.
    ///
    /// # Errors
    /// Files that cannot be read, and a confidence of another size.
    pub fn read(&self) -> Result<Map> {
        let mut map = depth_file::read(&self.file, self.scale)?;
        let confidence = self.confidence.as_ref().map(|path| Ok((path, pfm::read(path)?))).transpose()?;
        if let Some((path, confidence)) = &confidence
            && (confidence.width, confidence.height) != (map.width, map.height)
        {
            let found = format!("a map of {} x {}", confidence.width, confidence.height);
            let expected = format!("{} x {} as {} has", map.width, map.height, self.file.display());
            return Err(Error::input(path.display().to_string(), found, expected));
        }
        let is_trusted = |i: usize| confidence.as_ref().is_none_or(|(_, map)| map.data[i] > LEAST_CONFIDENCE);
        for (i, z) in map.data.iter_mut().enumerate() {
            let is_depth = *z > 0.0 && z.is_finite() && is_trusted(i);
            *z = if is_depth { (f64::from(*z) / self.world) as f32 } else { 0.0 };
        }
        Ok(map)
    }

    /// What the maps of a run depend on.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn identity(&self, hashes: &KnownHashes) -> Result<KnownIdentity> {
        let Self { file, confidence, scale, world, tolerance, undistorted, .. } = self;
        Ok(KnownIdentity {
            map_sha256: hashes.of_file(file)?,
            confidence_sha256: confidence.as_ref().map(|file| hashes.of_file(file)).transpose()?,
            scale: *scale,
            world: *world,
            tolerance: *tolerance,
            undistorted: *undistorted,
        })
    }

    /// Whether the map shows as much as a photo of this size: its sides have the same ratio, but for rounding.
    pub fn fits(&self, (width, height): (usize, usize)) -> bool {
        let expected = height as f64 * self.size.0 as f64 / width as f64;
        (self.size.1 as f64 - expected).abs() <= 1.5
    }

    /// Where the depths of pixels are expected that `camera`, that of the photo at another size, has taken: within the
    /// tolerance of the values that the map has there, if at least half of these are trusted. `None` where the map does
    /// not fit the photo or says nothing.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn expected(
        &self,
        photo: &UnderMap,
        (camera, size): (&Camera, (usize, usize)),
        hypotheses: &Hypotheses,
    ) -> Result<Option<Expected>> {
        let (depths, (width, height)) = (&hypotheses.depths, size);
        let Some(last) = depths.len().checked_sub(1).and_then(|last| u16::try_from(last).ok()) else { return Ok(None) };
        if !self.fits(photo.size) {
            return Ok(None);
        }
        let map = self.read()?;
        let to_photo = photo.camera.k * camera.k.inverse();
        let zoom = DVec2::new(map.width as f64 / photo.size.0 as f64, map.height as f64 / photo.size.1 as f64);
        let reach = 0.5 * zoom * DVec2::new(to_photo.x_axis.x, to_photo.y_axis.y) + MARGIN;
        let of_pixel = |i: usize| {
            let all = [0, last];
            let pixel = (to_photo * DVec3::new((i % width) as f64, (i / width) as f64, 1.0)).truncate();
            let pixel = match photo.lens {
                Some(lens) => lens.stored_pixel(pixel),
                None => Some(pixel),
            };
            let near_far = pixel.and_then(|pixel| extent(&map, (pixel + 0.5) * zoom - 0.5, reach));
            let Some((near, far)) = near_far else { return all };
            let (near, far) = (f64::from(near) * (1.0 - self.tolerance), f64::from(far) * (1.0 + self.tolerance));
            if depths[usize::from(last)] < near || depths[0] > far {
                return all;
            }
            // With the hypothesis before and after: depth may lie between two.
            let first = depths.partition_point(|&z| z < near).saturating_sub(1);
            let beyond = depths.partition_point(|&z| z <= far).min(usize::from(last));
            [first as u16, beyond as u16]
        };
        let planes: Vec<[u16; 2]> = (0..width * height).into_par_iter().map(of_pixel).collect();
        let says_something = planes.iter().any(|&of_pixel| of_pixel != [0, last]);
        Ok(says_something.then_some(Expected { width, planes }))
    }
}

/// The least and the largest trusted value within `reach` of a place in a map; `None` where most are not trusted.
fn extent(map: &Map, at: DVec2, reach: DVec2) -> Option<(f32, f32)> {
    let span = |at: f64, reach: f64, length: usize| {
        let clamped = |value: f64| value.clamp(0.0, length as f64) as usize;
        clamped((at - reach).ceil())..clamped((at + reach).floor() + 1.0)
    };
    let (mut all, mut trusted, mut least, mut largest) = (0usize, 0usize, f32::INFINITY, 0f32);
    for y in span(at.y, reach.y, map.height) {
        for &z in &map.data[y * map.width..][span(at.x, reach.x, map.width)] {
            all += 1;
            if z > 0.0 {
                (trusted, least, largest) = (trusted + 1, least.min(z), largest.max(z));
            }
        }
    }
    (trusted > 0 && 2 * trusted >= all).then_some((least, largest))
}
