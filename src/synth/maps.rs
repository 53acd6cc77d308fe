//! Exact maps of a view by ray casting: depth, and what tells hard pixels from easy ones.

use glam::DVec3;
use rayon::prelude::*;

use super::scene::SyntheticScene;
use super::sight::Sight;
use super::world::Surface;
use crate::files::map::Map;
use crate::scene::photo::Photo;

/// What makes a pixel hard to match, each at the same pixels as the depth map.
#[derive(Clone, Debug)]
pub struct Extras {
    /// Contrast of the photo around the pixel, see [`texture_strength`].
    pub texture: Map,
    /// Angle between the surface's normal and the direction to the camera, in degrees: 0 is seen head on. 0 where
    /// there is no depth.
    pub slant: Map,
    /// Number of other views that see the surface point there: within their photo and range, nothing in between.
    pub visible: Map,
}

impl SyntheticScene {
    /// Exact depth at the pixels (`step` x, `step` y), ceil(width / step) x ceil(height / step): `step` 4 gives what a
    /// perfect network would. 0 where no surface lies in the view's range.
    pub fn depth(&self, view: usize, step: usize) -> Map {
        self.map_of(view, step, |surface, _| surface.depth as f32)
    }

    /// The extras of a view at every `step`-th pixel; `photo` is the view's.
    pub fn extras(&self, view: usize, photo: &Photo, step: usize) -> Extras {
        Extras {
            texture: texture_strength(photo, step),
            slant: self.slant(view, step),
            visible: self.visible(view, step),
        }
    }

    /// See [`Extras::slant`].
    pub fn slant(&self, view: usize, step: usize) -> Map {
        self.map_of(view, step, |surface, direction| {
            (-direction.normalize().dot(surface.normal)).clamp(0.0, 1.0).acos().to_degrees() as f32
        })
    }

    /// See [`Extras::visible`].
    pub fn visible(&self, view: usize, step: usize) -> Map {
        self.map_of(view, step, |surface, _| {
            (0..self.cameras.len()).filter(|&v| v != view && self.sees(v, surface.position)).count() as f32
        })
    }

    /// World normals at every `step`-th pixel, towards the camera; zero where there is no depth.
    pub fn normals(&self, view: usize, step: usize) -> Vec<[f32; 3]> {
        self.values(view, step, |surface, _| surface.normal.as_vec3().to_array())
    }

    fn map_of(&self, view: usize, step: usize, value: impl Fn(&Surface, DVec3) -> f32 + Sync) -> Map {
        let data = self.values(view, step, value);
        Map { width: self.size.0.div_ceil(step), height: self.size.1.div_ceil(step), data }
    }

    /// A value of the first surface at every `step`-th pixel, row by row; the default where its depth is not in range.
    /// A surface before `near` hides what is behind it.
    fn values<T: Copy + Default + Send>(
        &self,
        view: usize,
        step: usize,
        value: impl Fn(&Surface, DVec3) -> T + Sync,
    ) -> Vec<T> {
        let (width, height) = (self.size.0.div_ceil(step), self.size.1.div_ceil(step));
        let (sight, range) = (Sight::new(&self.world, &self.cameras[view], self.size), self.ranges[view]);
        let mut out = vec![T::default(); width * height];
        out.par_chunks_mut(width.max(1)).enumerate().for_each(|(y, row)| {
            for (x, out) in row.iter_mut().enumerate() {
                let (u, v) = ((x * step) as f64, (y * step) as f64);
                let first = sight.first(u, v, 0.0, f64::INFINITY);
                if let Some(surface) = first.filter(|s| (range.near..=range.far).contains(&s.depth)) {
                    *out = value(&surface, sight.rays().through(u, v).direction);
                }
            }
        });
        out
    }
}

/// Standard deviation of the photo's grey values 0..1 in the window of 9 x 9 pixels around every `step`-th pixel (cut
/// at the borders).
pub fn texture_strength(photo: &Photo, step: usize) -> Map {
    const REACH: usize = 4;
    let grey = |x: usize, y: usize| {
        let at = 3 * (y * photo.width + x);
        let [r, g, b] = [0, 1, 2].map(|k| f64::from(photo.rgb[at + k]));
        0.299 * r + 0.587 * g + 0.114 * b
    };
    let (width, height) = (photo.width.div_ceil(step), photo.height.div_ceil(step));
    let mut map = Map::filled(width, height, 0.0);
    map.data.par_chunks_mut(width.max(1)).enumerate().for_each(|(j, row)| {
        let y = j * step;
        for (i, out) in row.iter_mut().enumerate() {
            let x = i * step;
            let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
            for b in y.saturating_sub(REACH)..(y + REACH + 1).min(photo.height) {
                for a in x.saturating_sub(REACH)..(x + REACH + 1).min(photo.width) {
                    let value = grey(a, b);
                    count += 1.0;
                    sum += value;
                    squares += value * value;
                }
            }
            let mean = sum / count;
            *out = (squares / count - mean * mean).max(0.0).sqrt() as f32;
        }
    });
    map
}
