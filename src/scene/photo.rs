//! A photo in memory and what is done to it before the network sees it: undistortion, reduction, pyramid levels.

use std::path::Path;

use glam::DVec2;
use rayon::prelude::*;

use crate::files::image;
use crate::files::map::Map;
use crate::scene::View;
use crate::scene::camera::Camera;
use crate::scene::kept_photos;
use crate::scene::lens::Lens;
use crate::scene::mask::Mask;
use crate::scene::mask_files;
use crate::{Error, Result};

/// 0..1 RGB values as stored in the file (no gamma is removed), [height, width, 3].
#[derive(Clone, Debug, PartialEq)]
pub struct Photo {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `height * width * 3` values, red green blue.
    pub rgb: Vec<f32>,
}

/// A view's photo, ready for the network, with the pinhole camera of exactly these pixels.
#[derive(Clone, Debug)]
pub struct LoadedPhoto {
    /// Undistorted and reduced.
    pub photo: Photo,
    /// The view's camera at the photo's size.
    pub camera: Camera,
    /// What is worth knowing about how it was made.
    pub notes: Vec<String>,
    /// SHA-256 of the file's bytes that it was decoded from.
    pub sha256: String,
    /// The stored photo's own alpha.
    alpha: Option<Vec<f32>>,
}

impl LoadedPhoto {
    /// Which of the photo's pixels do not belong to the scene, where the stored photo has transparent ones or the mask
    /// of its `view` says so; what lies outside of the stored photo does not belong to it either then. Masks of files
    /// are decoded here: who asks for no mask does not wait for one.
    ///
    /// # Errors
    /// A mask that cannot be read or decoded.
    pub fn take_mask(&mut self, view: &View) -> Result<Option<Mask>> {
        mask_of(view, self.alpha.take(), (self.photo.width, self.photo.height))
    }
}

impl Photo {
    /// Decodes a view's photo, undistorts it where the view has a lens, and reduces it by area averaging so that its
    /// longer side is at most `max_side` pixels (it is never enlarged).
    ///
    /// # Errors
    /// A photo that cannot be read or decoded, and one whose size is not that of the view's camera.
    pub fn load(view: &View, max_side: Option<usize>) -> Result<LoadedPhoto> {
        let image::Pixels { size, rgb, alpha, sha256, left } = stored_pixels(view)?;
        check_size(&view.image, view.stored_size(), size)?;
        let mut photo = Self { width: size.0, height: size.1, rgb };
        let left = left.map(|why| format!("view {}: its photo was decoded by the processor: {why}", view.name));
        let mut notes: Vec<String> = left.into_iter().collect();
        if let Some(lens) = &view.lens {
            let (undistorted, empty) = photo.undistorted(lens, view.size);
            // Faces are made as large as what they see, and masked for the rest.
            if empty > 0 && lens.face.is_none() {
                let share = 100.0 * empty as f64 / (size.0 * size.1) as f64;
                notes.push(format!(
                    "view {}: {empty} pixels ({share:.1} %) of the undistorted photo lie outside the stored one and \
                     are black",
                    view.name
                ));
            }
            photo = undistorted;
        }
        let mut camera = view.camera;
        let size = view.size;
        if let Some((width, height)) = reduced_size(size, max_side) {
            photo = photo.area_averaged(width, height);
            camera = camera.resized(width as f64 / size.0 as f64, height as f64 / size.1 as f64);
        }
        Ok(LoadedPhoto { photo, camera, notes, sha256, alpha })
    }

    /// The mask alone that [`LoadedPhoto::take_mask`] gives. The photo is decoded only where its pixels have an alpha.
    ///
    /// # Errors
    /// A photo or mask that cannot be read or decoded, and a photo whose size is not that of the view's camera.
    pub fn load_mask(view: &View, max_side: Option<usize>) -> Result<Option<Mask>> {
        let mut alpha = None;
        let has_alpha = match &view.in_memory {
            Some(photo) => photo.has_mask(),
            None => image::may_have_alpha(&view.image) && image::header(&view.image)?.has_alpha,
        };
        if has_alpha {
            let pixels = stored_pixels(view)?;
            check_size(&view.image, view.stored_size(), pixels.size)?;
            alpha = pixels.alpha;
        }
        mask_of(view, alpha, reduced_size(view.size, max_side).unwrap_or(view.size))
    }

    /// The colour of every pixel, row by row: 0..1 to 0..255, rounded.
    pub fn colours(&self) -> Vec<[u8; 3]> {
        let byte = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        self.rgb.chunks_exact(3).map(|p| [byte(p[0]), byte(p[1]), byte(p[2])]).collect()
    }

    /// Its values as bytes, where 1 / 255 of each is to the bit the value: those of photos with 8 bits a channel that
    /// were neither undistorted nor reduced.
    pub fn as_bytes(&self) -> Option<Vec<u8>> {
        let byte = |&value: &f32| {
            let byte = (value * 255.0).round() as u8;
            ((f32::from(byte) / 255.0).to_bits() == value.to_bits()).then_some(byte)
        };
        self.rgb.iter().map(byte).collect()
    }

    /// The next pyramid level, ceil(width / 2) x ceil(height / 2): blurred by [1 4 6 4 1] / 16 both ways, mirrored at
    /// the borders without repeating the edge, the even pixels kept (SPEC "Geometry"). Its camera is
    /// `camera.decimated(0.5)`.
    pub fn pyramid_level(&self) -> Self {
        const BINOMIAL: [f32; 5] = [1.0 / 16.0, 4.0 / 16.0, 6.0 / 16.0, 4.0 / 16.0, 1.0 / 16.0];
        let halves = |length: usize| -> Vec<Vec<(usize, f32)>> {
            let taps =
                |i: usize| (0..5).map(|k| (mirrored(2 * i as isize + k as isize - 2, length), BINOMIAL[k])).collect();
            (0..length.div_ceil(2)).map(taps).collect()
        };
        self.filtered(&halves(self.width), &halves(self.height))
    }

    /// Extended right and below to multiples of 4 by repeating the edge; the camera stays as it is.
    pub fn padded_to_multiple_of_4(&self) -> Self {
        let (width, height) = (self.width.next_multiple_of(4), self.height.next_multiple_of(4));
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            let row = y.min(self.height - 1) * self.width * 3;
            let row = &self.rgb[row..row + self.width * 3];
            rgb.extend_from_slice(row);
            for _ in self.width..width {
                rgb.extend_from_slice(&row[row.len() - 3..]);
            }
        }
        Self { width, height, rgb }
    }

    /// Reduced to `width` x `height` (at most its own size): every new pixel is the mean over the area that it
    /// covers, exactly the mean of 2 x 2 pixels at one half. Its camera is `camera.resized`.
    pub fn area_averaged(&self, width: usize, height: usize) -> Self {
        self.filtered(&area_taps(self.width, width), &area_taps(self.height, height))
    }

    /// Turned by quarters, clockwise as it is looked at: pixel (x, y) comes to (height - 1 - y, x) at each. Its camera
    /// is `camera.turned`.
    pub fn turned(self, quarter_turns: u8) -> Self {
        let Self { width, height, .. } = self;
        let (turned_width, turned_height) = if quarter_turns % 2 == 1 { (height, width) } else { (width, height) };
        let from = |x: usize, y: usize| match quarter_turns % 4 {
            1 => (y, height - 1 - x),
            2 => (width - 1 - x, height - 1 - y),
            3 => (width - 1 - y, x),
            _ => (x, y),
        };
        if quarter_turns.is_multiple_of(4) {
            return self;
        }
        let mut rgb = vec![0f32; self.rgb.len()];
        rgb.par_chunks_mut(turned_width * 3).enumerate().for_each(|(y, row)| {
            for (x, out) in row.chunks_exact_mut(3).enumerate() {
                let (x, y) = from(x, y);
                out.copy_from_slice(&self.rgb[3 * (y * width + x)..][..3]);
            }
        });
        Self { width: turned_width, height: turned_height, rgb }
    }

    /// With `2^doublings - 1` new pixels between any two neighbours, by Catmull-Rom interpolation. Its camera is
    /// `camera.decimated(2^doublings)`.
    pub fn enlarged(&self, doublings: u32) -> Self {
        let step = 1usize << doublings;
        let (width, height) = ((self.width - 1) * step + 1, (self.height - 1) * step + 1);
        let mut rgb = vec![0f32; width * height * 3];
        rgb.par_chunks_mut(width * 3).enumerate().for_each(|(y, row)| {
            for (x, out) in row.chunks_exact_mut(3).enumerate() {
                out.copy_from_slice(&self.catmull_rom(DVec2::new(x as f64, y as f64) / step as f64));
            }
        });
        Self { width, height, rgb }
    }

    /// What the lens's pinhole camera would have taken on `width` x `height` pixels, by Catmull-Rom interpolation, and
    /// the number of pixels (left black) that lie outside the stored photo.
    pub fn undistorted(&self, lens: &Lens, (width, height): (usize, usize)) -> (Self, usize) {
        let mut rgb = vec![0.0; width * height * 3];
        let (around, poles) = (lens.goes_around(), lens.sees_all());
        let empty = rgb
            .par_chunks_mut(width * 3)
            .enumerate()
            .map(|(y, row)| {
                let mut empty = 0;
                for (x, out) in row.chunks_exact_mut(3).enumerate() {
                    match lens.stored_pixel(DVec2::new(x as f64, y as f64)) {
                        Some(stored) if around => out.copy_from_slice(&self.catmull_rom_around(stored, poles)),
                        Some(stored) => out.copy_from_slice(&self.catmull_rom(stored)),
                        None => empty += 1,
                    }
                }
                empty
            })
            .sum();
        (Self { width, height, rgb }, empty)
    }

    /// [`Self::catmull_rom`] in a photo that goes around: beyond the left and right border it goes on at the other,
    /// and beyond a pole, if it has them, half a turn further.
    fn catmull_rom_around(&self, at: DVec2, poles: bool) -> [f32; 3] {
        let (x0, y0) = (at.x.floor(), at.y.floor());
        let (wx, wy) = (catmull_rom_weights((at.x - x0) as f32), catmull_rom_weights((at.y - y0) as f32));
        let (width, height) = (self.width as isize, self.height as isize);
        let mut sum = [0f32; 3];
        for (i, wy) in wy.into_iter().enumerate() {
            let y = y0 as isize + i as isize - 1;
            let (y, half_turn) = match y {
                y if poles && y < 0 => (-1 - y, width / 2),
                y if poles && y >= height => (2 * height - 1 - y, width / 2),
                y => (y, 0),
            };
            for (j, wx) in wx.into_iter().enumerate() {
                let x = (x0 as isize + j as isize - 1 + half_turn).rem_euclid(width);
                let from = 3 * (y.clamp(0, height - 1) * width + x) as usize;
                for (sum, value) in sum.iter_mut().zip(&self.rgb[from..from + 3]) {
                    *sum += wy * wx * value;
                }
            }
        }
        sum.map(|s| s.clamp(0.0, 1.0))
    }

    /// Cubic interpolation at a pixel position inside the photo; the edge is repeated, the result kept in 0..1.
    fn catmull_rom(&self, at: DVec2) -> [f32; 3] {
        let (x0, y0) = (at.x.floor(), at.y.floor());
        let (wx, wy) = (catmull_rom_weights((at.x - x0) as f32), catmull_rom_weights((at.y - y0) as f32));
        let clamped = |i: isize, length: usize| i.clamp(0, length as isize - 1) as usize;
        let columns: [usize; 4] = std::array::from_fn(|i| 3 * clamped(x0 as isize + i as isize - 1, self.width));
        let mut sum = [0f32; 3];
        for (i, wy) in wy.into_iter().enumerate() {
            let row =
                &self.rgb[3 * self.width * clamped(y0 as isize + i as isize - 1, self.height)..][..3 * self.width];
            for (column, wx) in columns.into_iter().zip(wx) {
                for (sum, value) in sum.iter_mut().zip(&row[column..column + 3]) {
                    *sum += wy * wx * value;
                }
            }
        }
        sum.map(|s| s.clamp(0.0, 1.0))
    }

    /// Separable filter: new column x is the weighted sum of the old columns `columns[x]`, rows alike.
    fn filtered(&self, columns: &[Vec<(usize, f32)>], rows: &[Vec<(usize, f32)>]) -> Self {
        let (width, height) = (columns.len(), rows.len());
        let mut narrow = vec![0f32; width * self.height * 3];
        narrow.par_chunks_mut(width * 3).zip(self.rgb.par_chunks(self.width * 3)).for_each(|(out, row)| {
            for (out, taps) in out.chunks_exact_mut(3).zip(columns) {
                for &(x, weight) in taps {
                    for (out, value) in out.iter_mut().zip(&row[3 * x..3 * x + 3]) {
                        *out += weight * value;
                    }
                }
            }
        });
        let mut rgb = vec![0f32; width * height * 3];
        rgb.par_chunks_mut(width * 3).zip(rows).for_each(|(out, taps)| {
            for &(y, weight) in taps {
                for (out, value) in out.iter_mut().zip(&narrow[3 * width * y..3 * width * (y + 1)]) {
                    *out += weight * value;
                }
            }
        });
        Self { width, height, rgb }
    }
}

/// A view's photo as it is stored.
fn stored_pixels(view: &View) -> Result<image::Pixels> {
    match &view.in_memory {
        Some(photo) => Ok(photo.pixels()),
        None if view.face().is_some() => kept_photos::decoded(&view.image)?.pixels(),
        None => image::decode(&view.image)?.pixels(),
    }
}

/// One clear error where a photo is not as large as the camera that it belongs to.
pub(crate) fn check_size(photo: &Path, expected: (usize, usize), found: (usize, usize)) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::input(
        photo.display().to_string(),
        format!("{} x {} pixels", found.0, found.1),
        format!(
            "{} x {}, the size that its camera is for; use the photos that the cameras were made from",
            expected.0, expected.1
        ),
    ))
}

/// The size that fits `max_side`, where that is smaller.
pub fn reduced_size(size: (usize, usize), max_side: Option<usize>) -> Option<(usize, usize)> {
    let longer = size.0.max(size.1);
    let side = max_side?.max(1);
    let reduced = |length: usize| ((length as f64 * side as f64 / longer as f64).round() as usize).max(1);
    (side < longer).then(|| (reduced(size.0), reduced(size.1)))
}

/// Which pixels of a view's photo, undistorted and reduced, show the scene: where neither the photo's own alpha nor the
/// view's mask says otherwise.
fn mask_of(view: &View, alpha: Option<Vec<f32>>, size: (usize, usize)) -> Result<Option<Mask>> {
    let stored = view.stored_size();
    let own = alpha.map(|data| Map { width: stored.0, height: stored.1, data });
    let file = view.mask.as_ref().map(|file| mask_files::read(file, stored)).transpose()?;
    let mut alpha = match (own, file) {
        // A face also shows what lies outside of its photo.
        (None, None) if view.face().is_some_and(|(lens, _)| !lens.sees_all()) => Map::filled(stored.0, stored.1, 1.0),
        (None, None) => return Ok(None),
        (Some(alpha), None) | (None, Some(alpha)) => alpha,
        (Some(mut alpha), Some(mask)) => {
            alpha.data.iter_mut().zip(&mask.data).for_each(|(alpha, mask)| *alpha *= mask);
            alpha
        }
    };
    if let Some(lens) = &view.lens {
        alpha = undistorted_alpha(&alpha, lens, view.size);
    }
    if size != view.size {
        alpha = area_averaged_alpha(&alpha, size.0, size.1);
    }
    Ok(Mask::of_alpha(&alpha))
}

/// The alpha nearest to where each pixel of the undistorted photo is from; 0 outside of the stored one.
fn undistorted_alpha(alpha: &Map, lens: &Lens, (width, height): (usize, usize)) -> Map {
    let at = |i: usize| {
        let stored = lens.stored_pixel(DVec2::new((i % width) as f64, (i / width) as f64));
        stored.map_or(0.0, |stored| alpha_at(alpha, stored))
    };
    Map { width, height, data: (0..width * height).into_par_iter().map(at).collect() }
}

/// The alpha nearest to a place in the stored photo.
pub(super) fn alpha_at(alpha: &Map, stored: DVec2) -> f32 {
    let nearest = |at: f64, length: usize| (at.max(0.0).round() as usize).min(length - 1);
    alpha.at(nearest(stored.x, alpha.width), nearest(stored.y, alpha.height))
}

/// Alpha reduced as [`Photo::area_averaged`] reduces colours.
fn area_averaged_alpha(alpha: &Map, width: usize, height: usize) -> Map {
    let (columns, rows) = (area_taps(alpha.width, width), area_taps(alpha.height, height));
    let mean = |i: usize| {
        let row = |y: usize| columns[i % width].iter().map(|&(x, share)| share * alpha.at(x, y)).sum::<f32>();
        rows[i / width].iter().map(|&(y, share)| share * row(y)).sum()
    };
    Map { width, height, data: (0..width * height).into_par_iter().map(mean).collect() }
}

/// For every new pixel the old ones that it covers, with the shares of its area.
fn area_taps(old: usize, new: usize) -> Vec<Vec<(usize, f32)>> {
    let step = old as f64 / new as f64;
    let taps = |i: usize| {
        let (start, end) = (i as f64 * step, (i + 1) as f64 * step);
        let covered = |x: usize| ((x as f64 + 1.0).min(end) - (x as f64).max(start)) / step;
        // A share under 1e-9 is rounding of `start` or `end`.
        (start as usize..old.min(end.ceil() as usize))
            .map(|x| (x, covered(x)))
            .filter(|&(_, share)| share > 1e-9)
            .map(|(x, share)| (x, share as f32))
            .collect()
    };
    (0..new).map(taps).collect()
}

/// Index `i` mirrored into 0..length without repeating the edge: -1 is 1, length is length - 2.
fn mirrored(i: isize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length as isize - 1);
    let i = i.rem_euclid(period);
    i.min(period - i) as usize
}

/// Weights of the pixels at -1, 0, 1 and 2 for a position `t` between 0 and 1.
fn catmull_rom_weights(t: f32) -> [f32; 4] {
    let (t2, t3) = (t * t, t * t * t);
    [0.5 * (-t3 + 2.0 * t2 - t), 0.5 * (3.0 * t3 - 5.0 * t2 + 2.0), 0.5 * (-3.0 * t3 + 4.0 * t2 + t), 0.5 * (t3 - t2)]
}
