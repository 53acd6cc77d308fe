//! A photo in memory as it would be stored in a file: before distortion is taken out and before it is reduced.

use rayon::prelude::*;

use crate::files::{hash, image};
use crate::{Error, Result};

/// The largest side of a photo, as of those that `engine info` is asked about: keeps products from overflowing.
const MOST_SIDE: usize = 65_536;

/// Means of many values, as in photos that were made smaller, may leave 0..1 by as much.
const ROUNDING: f32 = 1e-4;

/// The pixels of a photo, row by row, red green blue of each.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// 0..255, as of a photo with 8 bits a channel.
    Bytes(Vec<u8>),
    /// 0..1, as stored (no gamma is removed).
    Floats(Vec<f32>),
}

/// A photo that lies in memory instead of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPhoto {
    size: (usize, usize),
    samples: Samples,
    /// Which pixels show the scene, if not all do.
    shows_scene: Option<Vec<bool>>,
    sha256: String,
}

impl StoredPhoto {
    /// Of `width` x `height` pixels; `name` is for messages.
    ///
    /// # Errors
    /// No pixels or too many, a wrong number of values, floats outside of 0..1, a mask of another size.
    pub fn new(name: &str, size: (usize, usize), samples: Samples, shows_scene: Option<Vec<bool>>) -> Result<Self> {
        let (width, height) = size;
        let refuse = |found: String, expected: &str| Err(Error::input(name, found, expected));
        if width == 0 || height == 0 || width > MOST_SIDE || height > MOST_SIDE {
            return refuse(format!("{width} x {height} pixels"), "sides of 1 to 65536 pixels");
        }
        let values = match &samples {
            Samples::Bytes(bytes) => bytes.len(),
            Samples::Floats(floats) => floats.len(),
        };
        if values != width * height * 3 {
            return refuse(
                format!("{values} values for {width} x {height} pixels"),
                "red, green and blue of each pixel",
            );
        }
        if let Some(mask) = shows_scene.as_ref().filter(|mask| mask.len() != width * height) {
            return refuse(format!("a mask of {} pixels", mask.len()), "one of the photo's size");
        }
        if let Samples::Floats(floats) = &samples
            && let Some(&bad) = floats.par_iter().find_first(|v| !(-ROUNDING..=1.0 + ROUNDING).contains(*v))
        {
            return refuse(format!("the value {bad}"), "floats from 0 to 1, or bytes from 0 to 255");
        }
        let sha256 = identity(size, &samples, shows_scene.as_deref());
        Ok(Self { size, samples, shows_scene, sha256 })
    }

    /// Width and height.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// SHA-256 of everything that it holds.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Whether some pixels do not show the scene.
    pub fn has_mask(&self) -> bool {
        self.shows_scene.is_some()
    }

    /// As [`image::read`] gives them of a file with the same pixels.
    pub fn pixels(&self) -> image::Pixels {
        let rgb = match &self.samples {
            Samples::Bytes(bytes) => bytes.par_iter().map(|&byte| f32::from(byte) / 255.0).collect(),
            Samples::Floats(floats) => floats.clone(),
        };
        let alpha =
            self.shows_scene.as_ref().map(|mask| mask.iter().map(|&shows| f32::from(u8::from(shows))).collect());
        image::Pixels { size: self.size, rgb, alpha, sha256: self.sha256.clone(), left: None }
    }
}

/// A hash that tells photos apart, whatever they are made of.
fn identity((width, height): (usize, usize), samples: &Samples, mask: Option<&[bool]>) -> String {
    let of_samples = match samples {
        Samples::Bytes(bytes) => hash::of_bytes(bytes),
        Samples::Floats(floats) => hash::of_bytes(bytemuck::cast_slice(floats)),
    };
    let of_mask = mask.map(|mask| hash::of_bytes(&mask.iter().map(|&shows| u8::from(shows)).collect::<Vec<_>>()));
    let kind = if matches!(samples, Samples::Bytes(_)) { "u8" } else { "f32" };
    hash::of_bytes(format!("{width} {height} {kind} {of_samples} {}", of_mask.unwrap_or_default()).as_bytes())
}
