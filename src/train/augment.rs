//! Variety: the same scene looks different each time it is seen. Photos, cameras and truth stay one geometry.
//!
//! In this order: reduced, mirrored, cut to a crop, the range moved, colours changed. All of it is a function of the
//! sample, the options, a seed and an index.

use std::sync::Arc;

use glam::DMat3;

use super::colour::{self, Strength};
use super::frame::{Window, cut, is_depth, keep_within, mirrored, reduced};
use super::sample::{Dataset, TrainingSample, expect_share};
use crate::host::random::Random;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;
use crate::{Error, Result};

/// What is changed, and how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AugmentOptions {
    /// Width and height that are cut out at a random place, multiples of 4; `None`, and a side that the photo does not
    /// have: the whole of it.
    pub crop: Option<(usize, usize)>,
    /// Probability that photos with at least [`LARGE`] times the crop's sides are reduced by a random factor first.
    pub reduced: f64,
    /// Probability that left and right are exchanged.
    pub mirrored: f64,
    /// How much the colours of all photos change alike: 0 not at all, 1 up to 1 stop of gain, an exponent of 0.7 to
    /// 1.4, and half of each channel mixed from the others.
    pub colour: f64,
    /// Probability that all photos become negatives.
    pub inverted: f64,
    /// How much the photos come to differ: 0 not at all, 1 up to a quarter of a stop, 5 % of tint, 2 % of the full
    /// scale as offset, noise of up to 1.5 % and blur of up to 0.8 pixels.
    pub exposure: f64,
    /// How far near and far move at most, as the logarithm of a factor; one sample in four gets a range that is wider
    /// by up to four times that at either end.
    pub range: f64,
    /// Deviation of the poses' error at the photo's middle, in pixels, of half of the samples.
    pub pose: f64,
    /// Probability that the photos are compressed as JPEG files are.
    pub jpeg: f64,
}

impl Default for AugmentOptions {
    /// Everything but the crop: half of the large photos reduced, half of all mirrored, colours and exposure at half
    /// strength, one of 20 inverted, near and far by up to 20 %, poses off by 0.3 pixels, a third compressed.
    fn default() -> Self {
        Self {
            crop: None,
            reduced: 0.5,
            mirrored: 0.5,
            colour: 0.5,
            inverted: 0.05,
            exposure: 0.5,
            range: 0.2,
            pose: 0.3,
            jpeg: 0.3,
        }
    }
}

/// Photos whose sides are this many times the crop's may be reduced.
pub const LARGE: f64 = 1.25;
/// The largest share of the truth that a moved range may cut off.
pub const LARGEST_LOSS: f64 = 0.02;
/// The truth may lie on one plane; a range has some depth nevertheless.
const LEAST_RATIO: f64 = 1.05;

impl AugmentOptions {
    /// Nothing at all.
    pub fn none() -> Self {
        Self {
            crop: None,
            reduced: 0.0,
            mirrored: 0.0,
            colour: 0.0,
            inverted: 0.0,
            exposure: 0.0,
            range: 0.0,
            pose: 0.0,
            jpeg: 0.0,
        }
    }

    /// # Errors
    /// A value out of its range.
    pub fn check(&self) -> Result<()> {
        if let Some((width, height)) = self.crop
            && [width, height].iter().any(|side| *side < 32 || side % 4 != 0)
        {
            // The regularizer halves a quarter of it three times.
            let found = format!("{width} x {height} pixels");
            return Err(Error::input("crop", found, "sides of at least 32 that are multiples of 4"));
        }
        for (name, value) in [
            ("reduced", self.reduced),
            ("mirrored", self.mirrored),
            ("colour", self.colour),
            ("inverted", self.inverted),
            ("exposure", self.exposure),
            ("range change", self.range),
            ("pose error", self.pose),
            ("jpeg", self.jpeg),
        ] {
            expect_share(name, value)?;
        }
        Ok(())
    }
}

/// The sample as it looks this time. The same arguments give the same bytes.
pub fn augmented(sample: TrainingSample, options: &AugmentOptions, seed: u64, index: u64) -> TrainingSample {
    let mut random = Random::new(&[seed, index, 0x0061_7567]);
    // Streams of their own: an option that is switched off changes nothing about the others.
    let [mut size, mut flip, mut place, mut depths, mut look, mut poses] =
        std::array::from_fn(|_| Random::new(&[random.bits()]));
    let mut sample = sample;
    if let Some(size) = reduced_size(&sample, options, &mut size) {
        sample = reduced(&sample, size);
    }
    if flip.chance(options.mirrored) {
        sample = mirrored(&sample);
    }
    if let Some(crop) = options.crop {
        sample = cut(&sample, &windows(&sample, crop, &mut place));
    }
    if options.range > 0.0 {
        sample.range = moved(&sample, options.range, &mut depths);
        keep_within(&mut sample.depth, sample.range);
        sample.fine.iter_mut().for_each(|fine| keep_within(fine, sample.range));
    }
    let AugmentOptions { colour, inverted, exposure, jpeg, .. } = *options;
    colour::change(&mut sample.photos, &Strength { colour, inverted, exposure }, &mut look);
    if jpeg > 0.0 && look.chance(jpeg) {
        sample.photos.iter_mut().for_each(|photo| colour::compress(photo, look.between(60, 95) as u8));
    }
    if options.pose > 0.0 && poses.chance(0.5) {
        // The reference stays: its truth is exact.
        sample.cameras[1..].iter_mut().for_each(|camera| shake(camera, options.pose, &mut poses));
    }
    sample
}

/// Turns a camera about its centre so that what it sees moves by a normal deviation of so many pixels.
fn shake(camera: &mut Camera, pixels: f64, random: &mut Random) {
    let angle = pixels / camera.k.x_axis.x.abs().max(1.0);
    let turn = |random: &mut Random| angle * random.normal();
    let (x, y, z) = (turn(random), turn(random), turn(random));
    let rotation = DMat3::from_euler(glam::EulerRot::XYZ, x, y, z);
    // The centre -R^T t stays where it is.
    camera.t = rotation * camera.t;
    camera.r = rotation * camera.r;
}

/// The size to reduce photos to, if they are to be: from the crop's to their own, evenly in the logarithm.
fn reduced_size(sample: &TrainingSample, options: &AugmentOptions, random: &mut Random) -> Option<(usize, usize)> {
    let (width, height) = (sample.photos[0].width as f64, sample.photos[0].height as f64);
    let crop = options.crop?;
    let least = (crop.0 as f64 / width).max(crop.1 as f64 / height);
    let wanted = random.chance(options.reduced);
    let factor = random.log_range(least.clamp(1e-3, 1.0), 1.0);
    // Rounded up: a factor at its least still leaves the crop.
    (wanted && least * LARGE <= 1.0).then(|| ((width * factor).ceil() as usize, (height * factor).ceil() as usize))
}

/// Where each view is cut: the reference view where there is truth, the source views where they see the middle of that.
fn windows(sample: &TrainingSample, crop: (usize, usize), random: &mut Random) -> Vec<Window> {
    /// Places that are tried; most of DTU's depth maps are half empty.
    const TRIES: usize = 4;
    let photo = &sample.photos[0];
    let (width, height) = (crop.0.min(photo.width), crop.1.min(photo.height));
    let covered = |window: &Window| window.of_truth(&sample.depth, 4).data.iter().filter(|&&d| is_depth(d)).count();
    let whole = sample.depth.data.iter().filter(|&&d| is_depth(d)).count() as f64;
    let share = (width * height) as f64 / (photo.width * photo.height) as f64;
    let mut best: Option<(usize, Window)> = None;
    for _ in 0..TRIES {
        let mut origin = |length: usize, crop: usize| 4 * random.below((length - crop) / 4 + 1) as i64;
        let (x, y) = (origin(photo.width, width), origin(photo.height, height));
        let window = Window { x, y, width, height };
        let here = covered(&window);
        if best.is_none_or(|(most, _)| here > most) {
            best = Some((here, window));
        }
        // As much truth as the photo has on average is enough: the emptiest corners should be rare, not absent.
        if here as f64 >= 0.7 * share * whole {
            break;
        }
    }
    let reference = best.map_or(Window { x: 0, y: 0, width, height }, |(_, window)| window);
    let mut truth: Vec<f32> = reference.of_truth(&sample.depth, 4).data.into_iter().filter(|&d| is_depth(d)).collect();
    truth.sort_unstable_by(f32::total_cmp);
    let DepthRange { near, far } = sample.range;
    let depth = truth.get(truth.len() / 2).map_or(2.0 / (1.0 / near + 1.0 / far), |&d| f64::from(d));
    let middle = |from: i64, length: usize| from as f64 + 0.5 * length as f64 - 0.5;
    let (u, v) = (middle(reference.x, width), middle(reference.y, height));
    let target = sample.cameras[0].unproject(u, v, depth);
    let source = |(camera, photo): (&Camera, &Photo)| {
        let (u, v) = camera.pixel(target).map_or((u, v), |(pixel, _)| (pixel.x, pixel.y));
        let origin = |middle: f64, length: usize, crop: usize| {
            let last = length.saturating_sub(crop) as f64;
            (middle - 0.5 * crop as f64 + 0.5).round().clamp(0.0, last) as i64
        };
        Window { x: origin(u, photo.width, width), y: origin(v, photo.height, height), width, height }
    };
    let sources = sample.cameras.iter().zip(&sample.photos).skip(1).map(source);
    std::iter::once(reference).chain(sources).collect()
}

/// The range with near and far moved, but not over more than half of [`LARGEST_LOSS`] of the truth each.
fn moved(sample: &TrainingSample, most: f64, random: &mut Random) -> DepthRange {
    let DepthRange { mut near, mut far } = sample.range;
    let mut truth: Vec<f32> = sample.depth.data.iter().copied().filter(|&d| is_depth(d)).collect();
    let wide = random.chance(0.25);
    let [nearer, farther] = [-1.0, 1.0].map(|outward: f64| match wide {
        true => (outward * random.range(0.0, 4.0 * most)).exp(),
        false => random.range(-most, most).exp(),
    });
    if truth.is_empty() {
        return sample.range;
    }
    truth.sort_unstable_by(f32::total_cmp);
    // So many values at each end may be lost.
    let spare = (0.5 * LARGEST_LOSS * truth.len() as f64) as usize;
    near = (near * nearer).min(f64::from(truth[spare]));
    far = (far * farther).max(f64::from(truth[truth.len() - 1 - spare]));
    if far < LEAST_RATIO * near {
        (near, far) = (near / LEAST_RATIO.sqrt(), far * LEAST_RATIO.sqrt());
    }
    DepthRange { near, far }
}

/// A [`Dataset`] whose samples look different at every index, so that the second epoch of a finite one is no
/// repetition.
pub struct Augmented {
    inner: Arc<dyn Dataset>,
    options: AugmentOptions,
    seed: u64,
}

impl Augmented {
    /// # Errors
    /// Options out of their range.
    pub fn new(inner: Arc<dyn Dataset>, options: AugmentOptions, seed: u64) -> Result<Self> {
        options.check()?;
        Ok(Self { inner, options, seed })
    }
}

impl Dataset for Augmented {
    fn describe(&self) -> String {
        let AugmentOptions { crop, reduced, mirrored, colour, inverted, exposure, range, pose, jpeg } = self.options;
        if self.options == AugmentOptions::none() {
            return self.inner.describe();
        }
        let crop = crop.map_or_else(|| "whole photos".to_owned(), |(w, h)| format!("crops of {w} x {h}"));
        format!(
            "{}; {crop}, reduced {reduced}, mirrored {mirrored}, colour {colour}, inverted {inverted}, exposure \
             {exposure}, range {range}, pose {pose}, jpeg {jpeg}",
            self.inner.describe()
        )
    }

    fn len(&self) -> Option<u64> {
        self.inner.len()
    }

    fn sample(&self, index: u64, views: usize) -> Result<TrainingSample> {
        Ok(augmented(self.inner.sample(index, views)?, &self.options, self.seed, index))
    }
}
