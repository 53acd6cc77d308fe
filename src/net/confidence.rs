//! Confidence as a calibrated probability (SPEC "Confidence"): how likely it is that a depth is right, whatever the
//! number of planes, their spacing, the pyramid's level and the map's resolution.
//!
//! *Right* is a depth whose error moves the point by less than one pixel of the photo in a middling source view: |1 /
//! depth - 1 / truth| < [`Scale::pixel`]. On level l of the pyramid it is a pixel of the photo that is not reduced,
//! 2^-l of the level's own, so that the confidences of levels can be compared.
//!
//! Each stage has a logistic regression of what it knows. The coarse stage knows the probability of the four hypotheses
//! around the expected one, and how far hypotheses lie apart. A narrow stage knows the confidence of the stage before
//! it, and how its own hypotheses are spread and shifted. When all maps are there and hear each other
//! ([`crate::maps::joint`]), a last regression reads what was heard. `engine calibrate` fits them on rendered scenes;
//! they lie in the checkpoint's metadata as JSON.

use serde::{Deserialize, Serialize};

use super::config::Resolution;
use super::stage;
use crate::error::{Error, Result};
use crate::maps::joint::Heard;
use crate::scene::camera::{Hypotheses, PlaneSweep, Sampling};

/// The metadata's key.
pub const KEY: &str = "confidence";
/// Levels of the pyramid with a fit of their own; coarser ones take the last.
pub const LEVELS: usize = 4;
/// What the coarse stage's regression reads.
pub const COARSE: usize = 8;
/// What a narrow stage's reads.
pub const NARROW: usize = 13;
/// What the regression reads that follows when views have heard each other.
pub const JOINT: usize = 15;
/// Numbers before the coefficients of what [`Judge::for_device`] makes.
pub const DEVICE_HEAD: usize = 4;
/// Log-odds beyond this say no more: f32 has no probabilities closer to 1.
const MOST_ODDS: f32 = 9.0;

/// The fits of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    /// [levels, [`COARSE`]].
    pub quarter: Vec<Vec<f32>>,
    /// [levels, [`NARROW`]].
    #[serde(default)]
    pub half: Vec<Vec<f32>>,
    /// As of half.
    #[serde(default)]
    pub full: Vec<Vec<f32>>,
    /// [[`JOINT`]], of maps of the photo's own size; empty where it was not fitted.
    #[serde(default)]
    pub joint: Vec<f32>,
    /// What each resolution's confidence was worth where it was measured, on the finest level.
    #[serde(default)]
    pub measured: Vec<Measured>,
}

/// What confidence was worth on scenes that it was not fitted on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Of the maps; `joint`: at full size, when views have heard each other.
    pub resolution: String,
    /// Pixels.
    pub pixels: u64,
    /// Share of them that is right.
    pub right: f64,
    /// Expected calibration error: mean over the pixels of |mean confidence - share of right pixels| of their bin.
    pub calibration_error: f64,
    /// At which confidence how much is left.
    pub points: Vec<OperatingPoint>,
}

/// The confidence above which at most so many pixels are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    /// Share of wrong pixels among those above.
    pub wrong: f64,
    /// The confidence.
    pub confidence: f64,
    /// Share of the right pixels that lie above.
    pub completeness: f64,
}

/// What distances in a view's maps are measured in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Change of 1 / depth that moves a point by one pixel of the photo in a middling source view.
    pub pixel: f32,
    /// ln of such pixels from one coarse hypothesis to the next, in the middle of the range.
    pub interval: f32,
    /// ln of the number of source views.
    pub sources: f32,
}

/// A checkpoint's fits at a view.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    fits: &'a Confidence,
    /// Of the maps in the end.
    finest: Resolution,
    level: usize,
    scale: Scale,
}

impl Scale {
    /// Of views whose sweeps are those between maps at a quarter of the photos' sides, the reference's being `width` x
    /// `height`; `None` where no source view sees the scene move.
    pub fn new(sweeps: &[PlaneSweep], size: (usize, usize), planes: &Hypotheses) -> Option<Self> {
        let (near, far) = (*planes.depths.first()?, *planes.depths.last()?);
        let quarter = Resolution::Quarter.step() as f64;
        let pixel = 1.0 / (quarter * stage::middling_motion(sweeps, size, 0.5 * (1.0 / near + 1.0 / far))?);
        let steps = (planes.depths.len().max(2) - 1) as f64;
        let interval = match planes.sampling {
            Sampling::Inverse => (1.0 / near - 1.0 / far).abs() / steps,
            Sampling::Linear => (far - near).abs() / steps * (2.0 / (near + far)).powi(2),
        };
        let interval = (interval / pixel).max(1e-6).ln().clamp(-5.0, 7.0);
        let scale = Self { pixel: pixel as f32, interval: interval as f32, sources: (sweeps.len() as f32).ln() };
        (scale.pixel > 0.0 && scale.pixel.is_finite()).then_some(scale)
    }

    /// What the coarse stage knows of a pixel: `mass` is the probability of the four hypotheses.
    #[inline(always)]
    pub fn coarse(&self, mass: f32) -> [f32; COARSE] {
        let (z, l, n) = (log_odds(mass), self.interval, self.sources);
        [1.0, z, z * z, l, l * l, z * l, n, z * n]
    }

    /// What a narrow stage knows of a pixel.
    #[inline(always)]
    pub fn narrow(&self, known: &Known) -> [f32; NARROW] {
        let z = log_odds(known.before);
        let (s, b) = (log_of(known.spread / self.pixel), log_of(known.bend / self.pixel));
        let (h, l, n) = (known.shift * known.shift, self.interval, self.sources);
        [1.0, z, z * z, s, s * s, z * s, h, h * h, b, b * b, b * s, l, n]
    }
}

/// What is known of a pixel with this confidence when its source views were heard.
#[inline(always)]
pub fn joint(confidence: f32, heard: &Heard) -> [f32; JOINT] {
    let Heard { seen, agreeing, sure, through, before, apart_px } = *heard;
    let z = log_odds(confidence);
    let share = agreeing / seen.max(1.0);
    let (a, n) = (agreeing.ln_1p(), seen.ln_1p());
    let p = if agreeing > 0.0 { log_of(apart_px) } else { 0.0 };
    [1.0, z, z * z, share, share * share, a, z * share, sure, z * sure, through, before, p, p * p, n, z * through]
}

/// What a narrow stage's regression begins from.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The confidence of the stage before.
    pub before: f32,
    /// Standard deviation of 1 / depth over the hypotheses.
    pub spread: f32,
    /// How far the expectation lies from the guess, as a share of the way to the last hypothesis: near 1 the truth may
    /// lie beyond.
    pub shift: f32,
    /// Largest second difference of the guess's 1 / depth along rows and columns: large at edges.
    pub bend: f32,
}

impl Confidence {
    /// From a checkpoint's metadata.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fits: Self = serde_json::from_str(text)
            .map_err(|e| format!("metadata {KEY}: {e}; expected the fits that `engine calibrate` writes"))?;
        for (name, levels, reads) in
            [("quarter", &fits.quarter, COARSE), ("half", &fits.half, NARROW), ("full", &fits.full, NARROW)]
        {
            let fits = levels.iter().all(|fit| fit.len() == reads && fit.iter().all(|v| v.is_finite()));
            if !fits || (name == "quarter" && levels.is_empty()) {
                return Err(format!(
                    "metadata {KEY}: `{name}` is no fit; expected {reads} finite numbers for each level, as `engine \
                     calibrate` writes them"
                ));
            }
        }
        if !(fits.joint.is_empty() || fits.joint.len() == JOINT && fits.joint.iter().all(|v| v.is_finite())) {
            return Err(format!(
                "metadata {KEY}: `joint` must hold {JOINT} finite numbers; make it again with `engine calibrate`"
            ));
        }
        Ok(fits)
    }

    /// The confidence of a pixel whose source views were heard; as it was where that was not fitted.
    #[inline]
    pub fn after_hearing(&self, confidence: f32, heard: &Heard) -> f32 {
        if self.joint.is_empty() { confidence } else { probability(&joint(confidence, heard), &self.joint) }
    }

    /// As the metadata hold it.
    ///
    /// # Errors
    /// [`Error::Bug`] where numbers cannot be written.
    pub fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::Bug { place: "confidence", problem: e.to_string() })
    }

    /// The fits of maps of this resolution, level by level.
    pub fn of(&self, resolution: Resolution) -> &[Vec<f32>] {
        match resolution {
            Resolution::Quarter => &self.quarter,
            Resolution::Half => &self.half,
            Resolution::Full => &self.full,
        }
    }

    /// Puts others in the place of [`Self::of`].
    pub fn set(&mut self, resolution: Resolution, fits: Vec<Vec<f32>>) {
        match resolution {
            Resolution::Quarter => self.quarter = fits,
            Resolution::Half => self.half = fits,
            Resolution::Full => self.full = fits,
        }
    }
}

impl<'a> Judge<'a> {
    /// For maps of a resolution and of a level of the pyramid.
    pub fn new(fits: &'a Confidence, (finest, level): (Resolution, usize), scale: Scale) -> Self {
        Self { fits, finest, level, scale }
    }

    /// What distances are measured in.
    pub fn scale(&self) -> &Scale {
        &self.scale
    }

    /// The coefficients of a resolution, where it has been fitted. Only the last stage asks for the level's: those
    /// before it hand on what they know, which is the same on every level.
    fn fit(&self, resolution: Resolution) -> Option<&'a [f32]> {
        let levels = self.fits.of(resolution);
        let level = if resolution == self.finest { self.level } else { 0 };
        levels.get(level.min(levels.len().max(1) - 1)).map(Vec::as_slice)
    }

    /// What a kernel needs of the regression of this resolution, which reads `N` terms: the scale's pixel, interval and
    /// sources, 1 where it has been fitted, and the coefficients. All zeros where there is no judge or no fit.
    pub fn for_device<const N: usize>(judge: Option<&Self>, resolution: Resolution) -> Vec<f32> {
        let mut all = vec![0.0; DEVICE_HEAD + N];
        let fit = judge.and_then(|judge| Some((judge.scale, judge.fit(resolution)?)));
        if let Some((Scale { pixel, interval, sources }, fit)) = fit.filter(|(_, fit)| fit.len() == N) {
            all[..DEVICE_HEAD].copy_from_slice(&[pixel, interval, sources, 1.0]);
            all[DEVICE_HEAD..].copy_from_slice(fit);
        }
        all
    }

    /// Turns the coarse stage's four hypotheses' probabilities into confidence.
    pub fn coarse(&self, masses: &mut [f32]) {
        let Some(fit) = self.fit(Resolution::Quarter) else { return };
        masses.iter_mut().for_each(|mass| *mass = probability(&self.scale.coarse(*mass), fit));
    }

    /// The regression of a narrow stage with this distance between its pixels, where it has been fitted.
    pub fn narrow(&self, step: usize) -> Option<impl Fn(&Known) -> f32 + Sync + use<'a>> {
        let resolution = if step == Resolution::Full.step() { Resolution::Full } else { Resolution::Half };
        let (fit, scale) = (self.fit(resolution)?, self.scale);
        Some(move |known: &Known| probability(&scale.narrow(known), fit))
    }
}

/// 1 / (1 + exp(-w x)).
#[inline(always)]
fn probability<const N: usize>(x: &[f32; N], weights: &[f32]) -> f32 {
    let odds: f32 = x.iter().zip(weights).map(|(x, w)| x * w).sum();
    1.0 / (1.0 + (-odds).exp())
}

/// ln(p / (1 - p)), bounded.
#[inline(always)]
fn log_odds(p: f32) -> f32 {
    (p / (1.0 - p)).max(1e-6).ln().clamp(-MOST_ODDS, MOST_ODDS)
}

/// ln of a distance in pixels, bounded: a fiftieth of a pixel is as good as none.
#[inline(always)]
fn log_of(pixels: f32) -> f32 {
    pixels.max(0.02).ln().min(7.0)
}
