//! How photos look: changes of colour that all views share, and the small differences that photos of one place have.

use image::codecs::jpeg::JpegEncoder;

use crate::host::random::Random;
use crate::scene::photo::Photo;

/// A change of values 0..1 of one photo, in this order: channels mixed, tone curve, gain and offset, blur, noise.
struct Change {
    /// New channel r is the sum over c of `mix[r][c]` times channel c; rows sum to 1.
    mix: [[f32; 3]; 3],
    /// Exponent of the tone curve.
    gamma: f64,
    /// Whether the curve's output is subtracted from 1.
    inverted: bool,
    /// Factor of the curve's input.
    gain: f64,
    /// Factor of each channel after the curve.
    tint: [f32; 3],
    /// Added to each channel after that.
    offset: f32,
    /// Deviation of the blur in pixels.
    blur: f64,
    /// Deviation of the noise.
    noise: f64,
}

/// How much photos change, as [`super::augment::AugmentOptions`] says it.
pub struct Strength {
    /// Of the change that all photos share.
    pub colour: f64,
    /// Probability that all become negatives.
    pub inverted: f64,
    /// Of the changes that each has for itself.
    pub exposure: f64,
}

/// Changes the photos of a sample.
pub fn change(photos: &mut [Photo], strength: &Strength, random: &mut Random) {
    let Strength { colour, inverted, exposure } = *strength;
    let mut shared = Random::new(&[random.bits()]);
    let inverted = shared.chance(inverted);
    if colour == 0.0 && exposure == 0.0 && !inverted {
        return;
    }
    let mix = mixing(0.5 * colour, &mut shared);
    // Photos are bright enough as they are: rather darker than burnt out.
    let stops = colour * shared.range(-1.0, 0.25);
    let gamma = (colour * shared.range(-0.35, 0.35)).exp();
    for photo in photos {
        let mut own = Random::new(&[random.bits()]);
        let one = Change {
            mix,
            gamma: gamma * (exposure * own.range(-0.08, 0.08)).exp(),
            inverted,
            gain: (stops + exposure * own.range(-0.25, 0.25)).exp2(),
            tint: [(); 3].map(|()| (1.0 + exposure * own.range(-0.05, 0.05)) as f32),
            offset: (exposure * own.range(-0.02, 0.02)) as f32,
            blur: if own.chance(0.3) { exposure * own.range(0.0, 0.8) } else { 0.0 },
            noise: exposure * own.log_range(0.001, 0.015),
        };
        one.apply(photo, &mut own);
    }
}

/// Takes a photo through JPEG of this quality (1 to 100).
pub fn compress(photo: &mut Photo, quality: u8) {
    let bytes: Vec<u8> = photo.rgb.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
    let mut file = Vec::new();
    let (width, height) = (photo.width as u32, photo.height as u32);
    let written =
        JpegEncoder::new_with_quality(&mut file, quality).encode(&bytes, width, height, image::ExtendedColorType::Rgb8);
    let read = || image::load_from_memory_with_format(&file, image::ImageFormat::Jpeg).ok();
    // Photos of any size that training cuts can be written and read back.
    if written.is_ok()
        && let Some(read) = read()
    {
        photo.rgb = read.into_rgb8().into_raw().into_iter().map(|v| f32::from(v) / 255.0).collect();
    }
}

/// Between no mixing and channels that are each made of all by chance: `most` is the share of the latter at most.
fn mixing(most: f64, random: &mut Random) -> [[f32; 3]; 3] {
    let share = random.range(0.0, most);
    let mut row = |r: usize| {
        let parts = [(); 3].map(|()| random.range(0.05, 1.0));
        let sum: f64 = parts.iter().sum();
        [0, 1, 2].map(|c| (share * parts[c] / sum + if r == c { 1.0 - share } else { 0.0 }) as f32)
    };
    [row(0), row(1), row(2)]
}

impl Change {
    fn apply(&self, photo: &mut Photo, random: &mut Random) {
        let curve = self.curve();
        for pixel in photo.rgb.chunks_exact_mut(3) {
            let old = [pixel[0], pixel[1], pixel[2]];
            for ((value, row), tint) in pixel.iter_mut().zip(&self.mix).zip(self.tint) {
                let mixed = row[0] * old[0] + row[1] * old[1] + row[2] * old[2];
                *value = read(&curve, mixed) * tint + self.offset;
            }
        }
        // Narrower than a fifth of a pixel nothing reaches the next one.
        if self.blur > 0.2 {
            blur(photo, self.blur);
        }
        let noise = self.noise as f32;
        for value in &mut photo.rgb {
            let grain = if noise > 0.0 { noise * random.normal() as f32 } else { 0.0 };
            *value = (*value + grain).clamp(0.0, 1.0);
        }
    }

    /// The tone curve at the values i / [`STEPS`]: a power costs more than all the rest, so it is read from a table.
    fn curve(&self) -> Vec<f32> {
        let value = |i: usize| {
            let value = (self.gain * i as f64 / STEPS as f64).min(1.0).powf(self.gamma);
            (if self.inverted { 1.0 - value } else { value }) as f32
        };
        (0..=STEPS).map(value).collect()
    }
}

/// Intervals of the tone curve's table; with four for each of a byte's values, reading in between errs by less than a
/// byte's rounding but for the darkest one.
const STEPS: usize = 1024;

fn read(curve: &[f32], value: f32) -> f32 {
    let at = value.clamp(0.0, 1.0) * STEPS as f32;
    let i = (at as usize).min(STEPS - 1);
    curve[i] + (at - i as f32) * (curve[i + 1] - curve[i])
}

/// Blurs by a Gaussian of this deviation (at most 0.8: two pixels to either side hold 99.8 % of it); the edge is
/// repeated.
fn blur(photo: &mut Photo, deviation: f64) {
    const REACH: i64 = 2;
    let weight = |k: i64| (-0.5 * (k as f64 / deviation).powi(2)).exp();
    let sum: f64 = (-REACH..=REACH).map(weight).sum();
    let taps: Vec<(i64, f32)> = (-REACH..=REACH).map(|k| (k, (weight(k) / sum) as f32)).collect();
    let (width, height) = (photo.width as i64, photo.height as i64);
    let mut across = vec![0f32; photo.rgb.len()];
    for (row, out) in photo.rgb.chunks_exact(3 * photo.width).zip(across.chunks_exact_mut(3 * photo.width)) {
        for x in 0..width {
            for &(k, weight) in &taps {
                let from = 3 * (x + k).clamp(0, width - 1) as usize;
                for c in 0..3 {
                    out[3 * x as usize + c] += weight * row[from + c];
                }
            }
        }
    }
    for (y, out) in (0..height).zip(photo.rgb.chunks_exact_mut(3 * photo.width)) {
        out.fill(0.0);
        for &(k, weight) in &taps {
            let from = (y + k).clamp(0, height - 1) as usize * 3 * photo.width;
            for (out, value) in out.iter_mut().zip(&across[from..]) {
                *out += weight * value;
            }
        }
    }
}
