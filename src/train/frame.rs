//! What is done to a sample's pixels so that photos, cameras and truth stay one geometry: cutting, mirroring, reducing.
//!
//! The truth lies on the pixels (4 i, 4 j) of the reference photo, without any half-pixel shift (SPEC "Geometry"). So
//! the reference photo is cut at multiples of 4, and mirrored about the column that takes this grid to itself; source
//! photos have no grid to keep.

use std::path::Path;

use glam::{DMat3, DVec3};

use super::sample::TrainingSample;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::scene::camera::{Camera, DepthRange};
use crate::scene::photo::Photo;

/// Pixels of a photo; they may lie outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first column.
    pub x: i64,
    /// Its first row.
    pub y: i64,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Neighbouring depths of a map that differ by more than this are two surfaces, and what is between them is none. A
/// plane seen at 60 degrees through a lens as wide as the photo changes by 1 % a pixel of a map with 160 columns.
const LARGEST_STEP: f64 = 0.03;

/// What a truth holds where it is known that no surface lies within the range: the sky, a backdrop. (0 is where
/// nothing is known.)
pub const NOTHING: f32 = -1.0;

impl Window {
    /// The largest one from (0, 0) whose sides are multiples of 4 within `size`.
    pub fn of_multiples_of_4(size: (usize, usize)) -> Self {
        Self { x: 0, y: 0, width: size.0 / 4 * 4, height: size.1 / 4 * 4 }
    }

    /// The photo's pixels in it; beyond the photo its edge is repeated, as it is where photos are padded for the
    /// network.
    pub fn of_photo(&self, photo: &Photo) -> Photo {
        let clamped = |at: i64, length: usize| at.clamp(0, length as i64 - 1) as usize;
        let mut rgb = Vec::with_capacity(3 * self.width * self.height);
        for y in 0..self.height as i64 {
            let row = &photo.rgb[3 * photo.width * clamped(self.y + y, photo.height)..][..3 * photo.width];
            // The columns inside are one piece.
            let inside = self.x.max(0)..(self.x + self.width as i64).min(photo.width as i64);
            if inside.is_empty() {
                let edge = 3 * clamped(self.x, photo.width);
                (0..self.width).for_each(|_| rgb.extend_from_slice(&row[edge..edge + 3]));
                continue;
            }
            (self.x..inside.start).for_each(|_| rgb.extend_from_slice(&row[..3]));
            rgb.extend_from_slice(&row[3 * inside.start as usize..3 * inside.end as usize]);
            let beyond = inside.end..self.x + self.width as i64;
            beyond.for_each(|_| rgb.extend_from_slice(&row[row.len() - 3..]));
        }
        Photo { width: self.width, height: self.height, rgb }
    }

    /// The camera of [`Window::of_photo`].
    pub fn of_camera(&self, camera: &Camera) -> Camera {
        let mut cut = *camera;
        cut.k.z_axis.x -= self.x as f64;
        cut.k.z_axis.y -= self.y as f64;
        cut
    }

    /// The truth in it, given at every `step`-th pixel, for a window inside the photo that begins and ends at multiples
    /// of that.
    pub fn of_truth(&self, truth: &Map, step: usize) -> Map {
        let (x, y) = (self.x.max(0) as usize / step, self.y.max(0) as usize / step);
        let (width, height) = (self.width / step, self.height / step);
        let data = (y..y + height).flat_map(|row| truth.data[row * truth.width + x..][..width].iter());
        Map { width, height, data: data.copied().collect() }
    }
}

/// The sample's pixels in one window for each view, all of one size. The reference view's begins at multiples of 4 and
/// lies inside its photo.
pub fn cut(sample: &TrainingSample, windows: &[Window]) -> TrainingSample {
    TrainingSample {
        name: sample.name.clone(),
        photos: sample.photos.iter().zip(windows).map(|(photo, window)| window.of_photo(photo)).collect(),
        cameras: sample.cameras.iter().zip(windows).map(|(camera, window)| window.of_camera(camera)).collect(),
        depth: windows[0].of_truth(&sample.depth, 4),
        fine: sample.fine.as_ref().map(|fine| windows[0].of_truth(fine, 1)),
        range: sample.range,
    }
}

/// The sample that the mirrored cameras would give in the mirrored world: left and right are exchanged, depth stays.
///
/// The reference photo is mirrored about the middle of columns 0 and `width - 4`, which both carry truth; its last
/// three columns would have been left of the photo, and repeat the edge; there is no truth at every pixel there.
pub fn mirrored(sample: &TrainingSample) -> TrainingSample {
    let axis = |view: usize| sample.photos[view].width as i64 - if view == 0 { 4 } else { 1 };
    let photo = |(view, photo): (usize, &Photo)| {
        let mut rgb = Vec::with_capacity(photo.rgb.len());
        for row in photo.rgb.chunks_exact(3 * photo.width) {
            for x in 0..photo.width as i64 {
                let from = 3 * (axis(view) - x).max(0) as usize;
                rgb.extend_from_slice(&row[from..from + 3]);
            }
        }
        Photo { rgb, ..*photo }
    };
    let mut depth = sample.depth.clone();
    depth.data.chunks_exact_mut(depth.width).for_each(<[f32]>::reverse);
    let mut fine = sample.fine.clone();
    if let Some(fine) = &mut fine {
        for row in fine.data.chunks_exact_mut(fine.width) {
            let own = (axis(0) + 1).max(0) as usize;
            row[..own].reverse();
            row[own..].fill(0.0);
        }
    }
    TrainingSample {
        name: sample.name.clone(),
        photos: sample.photos.iter().enumerate().map(photo).collect(),
        cameras: (0..).zip(&sample.cameras).map(|(v, camera)| mirrored_camera(camera, axis(v) as f64)).collect(),
        depth,
        fine,
        range: sample.range,
    }
}

/// The camera of the photo whose column `axis - x` is the old column x, in the world mirrored at the plane x = 0.
///
/// With S = diag(-1, 1, 1): x_cam = R X + t becomes S x_cam = (S R S) (S X) + S t. So the pose stays a proper one and
/// the focal length positive, which a mirrored K alone would not give.
pub fn mirrored_camera(camera: &Camera, axis: f64) -> Camera {
    let s = DMat3::from_diagonal(DVec3::new(-1.0, 1.0, 1.0));
    let flip = DMat3::from_cols(DVec3::new(-1.0, 0.0, 0.0), DVec3::Y, DVec3::new(axis, 0.0, 1.0));
    Camera { k: flip * camera.k * s, r: s * camera.r * s, t: s * camera.t }
}

/// The sample with photos reduced to `size` by area averaging and cut to multiples of 4.
pub fn reduced(sample: &TrainingSample, size: (usize, usize)) -> TrainingSample {
    let window = Window::of_multiples_of_4(size);
    let reduce = |photo: &Photo| window.of_photo(&photo.area_averaged(size.0, size.1));
    let camera = |(camera, photo): (&Camera, &Photo)| {
        camera.resized(size.0 as f64 / photo.width as f64, size.1 as f64 / photo.height as f64)
    };
    let full = (sample.photos[0].width, sample.photos[0].height);
    TrainingSample {
        name: sample.name.clone(),
        photos: sample.photos.iter().map(reduce).collect(),
        cameras: sample.cameras.iter().zip(&sample.photos).map(camera).collect(),
        depth: truth_of_reduced(&sample.depth, (4, 4), full, size),
        fine: sample.fine.as_ref().map(|fine| {
            let fine = truth_of_reduced(fine, (1, 1), full, size);
            window.of_truth(&fine, 1)
        }),
        range: sample.range,
    }
}

/// Truth for every `to`-th pixel of a photo reduced from `full` to `size` pixels (equal: not reduced), from truth for
/// every `from`-th pixel of the full photo, [size / to]; 0 where that lies between two surfaces.
///
/// 1 / depth is interpolated, which is exact on planes.
pub fn truth_of_reduced(truth: &Map, (from, to): (usize, usize), full: (usize, usize), size: (usize, usize)) -> Map {
    // The inverse of `Camera::resized`, at pixel `to` i.
    let place = |i: usize, full: usize, size: usize| ((to * i) as f64 + 0.5) * full as f64 / size as f64 - 0.5;
    let (width, height) = (size.0 / to, size.1 / to);
    let mut data = Vec::with_capacity(width * height);
    for j in 0..height {
        let y = place(j, full.1, size.1) / from as f64;
        for i in 0..width {
            data.push(between(truth, place(i, full.0, size.0) / from as f64, y));
        }
    }
    Map { width, height, data }
}

/// Whether a value of a map is a depth.
pub fn is_depth(value: f32) -> bool {
    value > 0.0 && value.is_finite()
}

/// The depth at a position of a map; 0 where it has none, [`NOTHING`] where nothing is all around it.
fn between(map: &Map, x: f64, y: f64) -> f32 {
    // Positions come from quotients of whole numbers: closer than this to a pixel is rounding.
    const ROUNDING: f64 = 1e-6;
    let split = |at: f64| {
        let nearest = at.round();
        if (at - nearest).abs() < ROUNDING { (nearest, 0.0) } else { (at.floor(), at - at.floor()) }
    };
    let ((x0, fx), (y0, fy)) = (split(x), split(y));
    let corners = [
        (0.0, 0.0, (1.0 - fx) * (1.0 - fy)),
        (1.0, 0.0, fx * (1.0 - fy)),
        (0.0, 1.0, (1.0 - fx) * fy),
        (1.0, 1.0, fx * fy),
    ];
    let mut read = [(0.0f32, 0.0); 4];
    let mut count = 0;
    for (dx, dy, weight) in corners.into_iter().filter(|corner| corner.2 != 0.0) {
        let (x, y) = (x0 + dx, y0 + dy);
        if x < 0.0 || y < 0.0 || x >= map.width as f64 || y >= map.height as f64 {
            return 0.0;
        }
        read[count] = (map.at(x as usize, y as usize), weight);
        count += 1;
    }
    let read = &read[..count];
    if read.iter().all(|&(depth, _)| depth == NOTHING) {
        return NOTHING;
    }
    if !read.iter().all(|&(depth, _)| is_depth(depth)) {
        return 0.0;
    }
    if let [(depth, _)] = read {
        return *depth;
    }
    let depths = || read.iter().map(|&(depth, _)| f64::from(depth));
    let (lowest, highest) = (depths().fold(f64::INFINITY, f64::min), depths().fold(0.0, f64::max));
    let sum: f64 = read.iter().map(|&(depth, weight)| weight / f64::from(depth)).sum();
    if highest > (1.0 + LARGEST_STEP) * lowest { 0.0 } else { (1.0 / sum) as f32 }
}

/// [`keep_within`] for the depth map of a file: fails where it has depths and none of them lies in the range, because
/// then range and map have different units, or the range's numbers mean something else.
///
/// # Errors
/// [`Error::Input`] with both ranges.
pub fn keep_within_of(file: &Path, truth: &mut Map, range: DepthRange) -> Result<()> {
    let depths = truth.data.iter().copied().filter(|&d| is_depth(d));
    let (low, high) = depths.fold((f32::INFINITY, 0f32), |(low, high), d| (low.min(d), high.max(d)));
    keep_within(truth, range);
    if high == 0.0 || truth.data.iter().any(|&d| d > 0.0) {
        return Ok(());
    }
    Err(Error::input(
        file.display().to_string(),
        format!("depths from {low} to {high}"),
        format!(
            "some between {} and {}, the view's range: map and camera file must have one unit, and the camera file's \
             depth numbers must mean what they were read as",
            range.near, range.far
        ),
    ))
}

/// Every `step`-th pixel of a map from the first on.
pub fn every(map: &Map, step: usize) -> Map {
    let (width, height) = (map.width / step, map.height / step);
    let row = |y: usize| (0..width).map(move |x| map.at(step * x, step * y));
    Map { width, height, data: (0..height).flat_map(row).collect() }
}

/// Takes the truth from pixels whose depth is none or lies outside the range; [`NOTHING`] stays.
pub fn keep_within(truth: &mut Map, range: DepthRange) {
    for depth in &mut truth.data {
        let inside = is_depth(*depth) && (range.near..=range.far).contains(&f64::from(*depth));
        if !inside && *depth != NOTHING {
            *depth = 0.0;
        }
    }
}
