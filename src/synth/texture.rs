//! Textures: images in levels of halved size, sampled over the footprint of a pixel, so that nothing flickers between
//! views that see a surface at different sizes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use glam::{DVec2, Vec3};
use rayon::prelude::*;

use crate::files::image;
use crate::files::photo_format::READ;
use crate::host::random::Random;
use crate::scene::photo::Photo;
use crate::{Error, Result};

/// Values 0..1 by stored byte: of light, coded as photos are (IEC 61966-2-1).
static LIGHT: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|i| light(i as f32 / 255.0)));
/// Values 0..1 by stored byte, as they are.
static PLAIN: LazyLock<[f32; 256]> = LazyLock::new(|| std::array::from_fn(|i| i as f32 / 255.0));

/// The amount of light that a photo's value 0..1 stands for (IEC 61966-2-1).
pub fn light(value: f32) -> f32 {
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// The photo's value for an amount of light, the inverse of [`light`].
pub fn photo_value(light: f32) -> f32 {
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

/// How bytes stand for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As in photos.
    Light,
    /// Linearly.
    Plain,
}

/// An image that goes on for ever.
#[derive(Debug)]
pub struct Texture {
    levels: Vec<Level>,
    coding: Coding,
    /// Whether it goes on mirrored (photos) or by repetition (patterns that fit to themselves).
    mirrored: bool,
    /// Height / width on a surface.
    aspect: f64,
    mean: Vec3,
}

/// Sides are powers of two.
#[derive(Debug)]
struct Level {
    width: usize,
    height: usize,
    texels: Vec<[u8; 4]>,
}

/// Longest streak of samples for a footprint that is long and thin; longer ones blur instead.
const MOST_TAPS: f64 = 8.0;

impl Texture {
    /// From bytes whose sides are powers of two.
    fn new(width: usize, height: usize, texels: Vec<[u8; 4]>, coding: Coding, mirrored: bool, aspect: f64) -> Self {
        let decode: &[f32; 256] = if coding == Coding::Light { &LIGHT } else { &PLAIN };
        let mut levels = vec![Level { width, height, texels }];
        while let Some(Level { width, height, texels }) = levels.last().filter(|l| l.width * l.height > 1) {
            let (w, h) = ((width / 2).max(1), (height / 2).max(1));
            let halved = (0..w * h).map(|i| {
                let (x, y) = (i % w * (width / w), i / w * (height / h));
                let others = [0, width / w - 1].map(|dx| [0, height / h - 1].map(|dy| (y + dy) * width + x + dx));
                let mut out = [0; 4];
                for (k, out) in out.iter_mut().enumerate().take(3) {
                    let sum: f32 = others.iter().flatten().map(|&i| decode[usize::from(texels[i][k])]).sum();
                    let mean = 0.25 * sum;
                    let value = if coding == Coding::Light { photo_value(mean) } else { mean };
                    *out = (value * 255.0).round() as u8;
                }
                out
            });
            let halved = halved.collect();
            levels.push(Level { width: w, height: h, texels: halved });
        }
        let last = levels.last().map_or([0; 4], |l| l.texels[0]);
        let mean = Vec3::from_array([0, 1, 2].map(|k| decode[usize::from(last[k])]));
        Self { levels, coding, mirrored, aspect, mean }
    }

    /// A photo, reduced to the powers of two below its sides and `most`.
    pub fn from_photo(photo: &Photo, most: usize) -> Self {
        let side = |length: usize| {
            let most = most.min(length).max(1);
            1usize << most.ilog2()
        };
        let (width, height) = (side(photo.width), side(photo.height));
        let small = photo.area_averaged(width, height);
        let byte = |v: f32| (v * 255.0).round() as u8;
        let texels = small.rgb.as_chunks::<3>().0.iter().map(|p| [byte(p[0]), byte(p[1]), byte(p[2]), 255]);
        let aspect = photo.height as f64 / photo.width as f64;
        Self::new(width, height, texels.collect(), Coding::Light, true, aspect)
    }

    /// A square pattern that repeats, from two values 0..1 a texel.
    pub fn from_pattern(side: usize, values: &[[f32; 2]]) -> Self {
        let byte = |v: f32| (v * 255.0).round() as u8;
        let texels = values.iter().map(|v| [byte(v[0]), byte(v[1]), 0, 255]).collect();
        Self::new(side, side, texels, Coding::Plain, false, 1.0)
    }

    /// The mean of all texels.
    pub fn mean(&self) -> Vec3 {
        self.mean
    }

    /// How its values are meant.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// The mean over a pixel's footprint: the parallelogram of `dx` and `dy` around `at`, in units of the texture's
    /// width.
    pub fn sample(&self, at: DVec2, dx: DVec2, dy: DVec2) -> Vec3 {
        let Level { width, height, .. } = self.levels[0];
        let scale = DVec2::new(width as f64, height as f64 / self.aspect);
        let (at, dx, dy) = (at * scale, dx * scale, dy * scale);
        let (a, b) = (dx.length_squared(), dy.length_squared());
        let (major, long, short) = if a >= b { (dx, a.sqrt(), b.sqrt()) } else { (dy, b.sqrt(), a.sqrt()) };
        let taps = (long / short.max(1.0)).ceil().clamp(1.0, MOST_TAPS);
        let level = short.max(long / taps).max(1.0).log2().min((self.levels.len() - 1) as f64);
        let (low, mix) = (level as usize, (level - level.floor()) as f32);
        let mut sum = Vec3::ZERO;
        for tap in 0..taps as usize {
            let p = at + major * ((tap as f64 + 0.5) / taps - 0.5);
            let fine = self.bilinear(low, p);
            sum += if mix > 0.0 { fine.lerp(self.bilinear(low + 1, p), mix) } else { fine };
        }
        sum / taps as f32
    }

    /// Interpolation in one level at a place in texels of level 0, whose texels' middles lie at 0.5.
    #[inline]
    fn bilinear(&self, level: usize, at: DVec2) -> Vec3 {
        let decode: &[f32; 256] = if self.coding == Coding::Light { &LIGHT } else { &PLAIN };
        let Level { width, height, texels } = &self.levels[level.min(self.levels.len() - 1)];
        let x = at.x * (*width as f64 / self.levels[0].width as f64) - 0.5;
        let y = at.y * (*height as f64 / self.levels[0].height as f64) - 0.5;
        let (fx, fy) = ((x - x.floor()) as f32, (y - y.floor()) as f32);
        let (x, y) = (x.floor() as i64, y.floor() as i64);
        let xs = [x, x + 1].map(|i| self.wrapped(i, *width));
        let ys = [y, y + 1].map(|i| self.wrapped(i, *height) * *width);
        let texel = |x: usize, y: usize| {
            let t = texels[y + x];
            Vec3::new(decode[usize::from(t[0])], decode[usize::from(t[1])], decode[usize::from(t[2])])
        };
        let top = texel(xs[0], ys[0]).lerp(texel(xs[1], ys[0]), fx);
        let bottom = texel(xs[0], ys[1]).lerp(texel(xs[1], ys[1]), fx);
        top.lerp(bottom, fy)
    }

    #[inline]
    fn wrapped(&self, i: i64, length: usize) -> usize {
        // Lengths are powers of two, so the mask is the remainder, for negative numbers, too.
        if self.mirrored {
            let i = (i & (2 * length as i64 - 1)) as usize;
            if i < length { i } else { 2 * length - 1 - i }
        } else {
            (i & (length as i64 - 1)) as usize
        }
    }
}

/// The textures that a generator has.
#[derive(Clone, Debug, Default)]
pub struct Library {
    /// From photos.
    pub photos: Vec<Arc<Texture>>,
    /// Computed ones.
    pub patterns: Vec<Arc<Texture>>,
    /// What is worth knowing about how they were read.
    pub notes: Vec<String>,
}

/// Longer side of a texture from a photo, where memory allows.
const LONGEST_SIDE: usize = 1024;
/// Texels of all photos together: with 4 bytes each and their levels 0.7 GB.
const MOST_TEXELS: usize = 1 << 27;
/// Photos smaller than this would be blurs on a surface.
const SHORTEST_SIDE: usize = 256;

/// Reads the photos of a folder; of more than memory allows, evenly picked ones.
///
/// # Errors
/// A folder that cannot be read or holds no photo, and a photo that cannot be decoded.
pub fn read_photos(folder: &Path, library: &mut Library) -> Result<()> {
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list the textures", folder))? {
        let path = entry.map_err(Error::io("list the textures", folder))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() && image::has_photo_extension(&path) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::input(
            folder.display().to_string(),
            "no photos",
            format!("{READ} files to take textures from"),
        ));
    }
    let mut side = LONGEST_SIDE;
    while side > SHORTEST_SIDE && files.len() * side * side > MOST_TEXELS {
        side /= 2;
    }
    let most = (MOST_TEXELS / (side * side)).max(1);
    if files.len() > most {
        library.notes.push(format!("{most} of the {} photos in {} are used", files.len(), folder.display()));
        files = (0..most).map(|i| files[i * files.len() / most].clone()).collect();
    }
    let read = |file: &PathBuf| -> Result<Arc<Texture>> {
        let image::Pixels { size, rgb, .. } = image::read(file)?;
        Ok(Arc::new(Texture::from_photo(&Photo { width: size.0, height: size.1, rgb }, side)))
    };
    let read: Vec<Result<Arc<Texture>>> = files.par_iter().map(read).collect();
    // One by one, so that of several bad photos always the first is named.
    library.photos = read.into_iter().collect::<Result<_>>()?;
    Ok(())
}

impl Library {
    /// A photo's texture, where there are photos.
    pub fn photo(&self, random: &mut Random) -> Option<Arc<Texture>> {
        self.photos.get(random.below(self.photos.len())).cloned()
    }

    /// A computed texture.
    pub fn pattern(&self, random: &mut Random) -> Arc<Texture> {
        self.patterns[random.below(self.patterns.len())].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footprint_of_many_texels_gives_their_mean_and_a_small_one_the_texel() {
        // A checkerboard of single texels, black and white.
        let values: Vec<[f32; 2]> = (0..64 * 64).map(|i| [((i % 64 + i / 64) % 2) as f32, 0.25]).collect();
        let texture = Texture::from_pattern(64, &values);
        let texel = 1.0 / 64.0;
        let at = |x: f64, y: f64, size: f64| {
            texture.sample(DVec2::new(x, y) * texel, DVec2::X * size * texel, DVec2::Y * size * texel)
        };
        // Exactly a texel's middle; a repetition further (also to the left) is the same.
        for shift in [0.0, 64.0, -128.0] {
            assert_eq!(at(3.5 + shift, 2.5, 0.1).x, 1.0);
            assert_eq!(at(3.5, 3.5 - shift, 0.1).x, 0.0);
        }
        // Two texels and more: grey (bytes: 128 / 255 is the nearest to one half).
        for size in [2.0, 3.3, 17.0, 500.0] {
            assert!((at(3.7, 9.1, size).x - 0.5).abs() < 0.004, "{size}");
        }
        assert!((at(1.0, 1.0, 5.0).y - 0.25).abs() < 0.004);
        // A long, thin footprint across stripes averages along its length only.
        let stripes: Vec<[f32; 2]> = (0..64 * 64).map(|i| [(i / 64 % 2) as f32, 0.0]).collect();
        let stripes = Texture::from_pattern(64, &stripes);
        let along = stripes.sample(DVec2::new(3.5, 3.5) * texel, DVec2::X * 8.0 * texel, DVec2::Y * 0.5 * texel);
        let across = stripes.sample(DVec2::new(3.5, 3.5) * texel, DVec2::X * 0.5 * texel, DVec2::Y * 8.0 * texel);
        assert_eq!(along.x, 1.0);
        assert!((across.x - 0.5).abs() < 0.01, "{}", across.x);
    }

    #[test]
    fn photos_go_on_mirrored_and_light_is_averaged_not_bytes() {
        let photo = Photo { width: 2, height: 1, rgb: vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0] };
        let texture = Texture::from_photo(&photo, 1024);
        let at = |x: f64| texture.sample(DVec2::new(x, 0.25), DVec2::X * 1e-3, DVec2::Y * 1e-3).x;
        // Texels: black at 0.25, white at 0.75, then mirrored: white at 1.25, black at 1.75, black at 2.25.
        assert_eq!([at(0.25), at(0.75), at(1.25), at(1.75), at(2.25), at(-0.25)], [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        // One half of white's light is the byte 188; 2e-3 is half a step of the bytes there.
        assert!((texture.mean().x - 0.5).abs() < 4e-3, "{}", texture.mean().x);
        for v in [0.0, 0.01, 0.2, 0.7, 1.0] {
            assert!((photo_value(light(v)) - v).abs() < 1e-5);
        }
    }
}
