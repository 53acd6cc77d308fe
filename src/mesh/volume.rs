//! The signed distance to the surface, in front of it positive, as a weighted mean of what the views say.
//!
//! A view says of a voxel: how far it lies in front of the plane of the surface that its pixel sees, or behind. Beyond
//! a band around the surface it says that the voxel is free, which takes away surfaces that other views have wrongly
//! put there; of what lies farther behind it says nothing. Weights are the confidence, times the cosine at which the
//! surface is seen, times the square of voxel over pixel where a pixel is larger than a voxel.
//!
//! Each voxel hears the views in their order, whatever the threads and whichever blocks are in memory with its own: its
//! mean is the same bits.

use glam::{DVec2, DVec3, IVec3};
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::host::allocator::may_fail;
use crate::mesh::grid::{BlockKey, Grid, SIDE, VOXELS};
use crate::mesh::spool::{Filtered, SpooledView};
use crate::scene::camera::Camera;

/// What a view that sees through a voxel counts, against one that sees a surface near it.
const FREE_WEIGHT: f32 = 0.4;
/// Voxels behind a surface count in full up to so many voxels' depth, then less and less: the other side of something
/// thin has views of its own.
const FULL_BEHIND_VOXELS: f64 = 0.75;
/// Surfaces that are seen at a smaller cosine than this count as if at this one.
const LEAST_FACING: f32 = 0.12;
/// Pixels along a side of the tiles whose farthest depth is known.
const TILE: usize = 16;
/// Values of a block in memory: a sum and a weight for each voxel.
const VALUES: usize = 2 * VOXELS;
/// Bytes of a block, its number included.
pub const BYTES_A_BLOCK: u64 = (4 * VALUES + 8) as u64;

/// How far behind the farthest surface of a view it may still say something.
pub fn behind(grid: &Grid, camera: &Camera, far: f64) -> f64 {
    let focal = 0.5 * (camera.k.x_axis.x + camera.k.y_axis.y);
    grid.band(far / focal) / f64::from(LEAST_FACING)
}

/// Some blocks of the grid, with what they have heard.
pub struct Volume {
    grid: Grid,
    /// Sorted.
    keys: Vec<BlockKey>,
    values: Vec<f32>,
}

impl Volume {
    /// Blocks that have heard nothing yet.
    ///
    /// # Errors
    /// [`Error::Memory`] where they do not fit after all.
    pub fn new(grid: Grid, keys: Vec<BlockKey>) -> Result<Self> {
        let (mut values, count) = (Vec::new(), keys.len() * VALUES);
        may_fail(|| values.try_reserve_exact(count)).map_err(|e| {
            Error::Memory(format!(
                "{} blocks of voxels do not fit: {e}; expected a larger --voxel, or a smaller --memory, by which they \
                 are cut into slabs",
                keys.len()
            ))
        })?;
        values.resize(count, 0.0);
        Ok(Self { grid, keys, values })
    }

    /// Its blocks, sorted.
    pub fn keys(&self) -> &[BlockKey] {
        &self.keys
    }

    /// Where a block lies among them.
    pub fn find(&self, key: BlockKey) -> Option<usize> {
        self.keys.binary_search(&key).ok()
    }

    /// The distance at a voxel of a block, in scene units; `None` where no view has said anything.
    #[inline]
    pub fn distance(&self, block: usize, voxel: usize) -> Option<f32> {
        let [sum, weight] = [0, VOXELS].map(|part| self.values[block * VALUES + part + voxel]);
        (weight > 0.0).then(|| sum / weight)
    }

    /// Hears a view.
    pub fn hear(&mut self, view: &SpooledView, maps: &Filtered) {
        let ear = Ear::new(self.grid, view, maps);
        let keys = &self.keys;
        self.values.par_chunks_mut(VALUES).enumerate().for_each(|(at, values)| {
            if ear.may_reach(keys[at]) {
                ear.hear(keys[at], values);
            }
        });
    }
}

/// One view and what its voxels need of it.
struct Ear<'a> {
    grid: Grid,
    camera: Camera,
    focal: f64,
    maps: &'a Filtered,
    /// Of each tile of pixels, the least inverse depth that is one; infinite where there is none.
    farthest: Map,
}

impl<'a> Ear<'a> {
    fn new(grid: Grid, view: &SpooledView, maps: &'a Filtered) -> Self {
        let camera = grid.local(&view.camera);
        let Map { width, height, ref data } = maps.inverse;
        let mut farthest = Map::filled(width.div_ceil(TILE), height.div_ceil(TILE), f32::INFINITY);
        for (i, &inverse) in data.iter().enumerate().filter(|(_, inverse)| **inverse > 0.0) {
            let tile = &mut farthest.data[i / width / TILE * width.div_ceil(TILE) + i % width / TILE];
            *tile = tile.min(inverse);
        }
        let focal = 0.5 * (camera.k.x_axis.x + camera.k.y_axis.y);
        Self { grid, camera, focal, maps, farthest }
    }

    /// Whether any voxel of a block can lie in the photo and not far behind what it shows.
    fn may_reach(&self, key: BlockKey) -> bool {
        let side = self.grid.side;
        let half = 0.5 * f64::from(SIDE - 1) * side;
        let middle = (key.block() * SIDE).as_dvec3() * side + half;
        let radius = 3f64.sqrt() * half;
        let q = self.camera.project(middle);
        if q.z + radius <= 0.0 {
            return false;
        }
        let nearest = q.z - radius;
        if nearest < radius {
            return true;
        }
        // A ball's image reaches no farther than this around its middle's: rays leave the axis by at most its radius
        // at the nearest depth; skew and unequal sides of pixels are small against the factor.
        let at = DVec2::new(q.x / q.z, q.y / q.z);
        let tangent = (at - DVec2::new(self.camera.k.z_axis.x, self.camera.k.z_axis.y)).length() / self.focal;
        let reach = 1.1 * self.focal * radius / nearest * (1.0 + tangent) + 2.0;
        let size = DVec2::new(self.maps.inverse.width as f64, self.maps.inverse.height as f64);
        if (at + reach).min_element() < 0.0 || (at - reach).cmpgt(size).any() {
            return false;
        }
        let low = (at - reach).max(DVec2::ZERO).as_usizevec2() / TILE;
        let high = (at + reach).min(size - 1.0).max(DVec2::ZERO).as_usizevec2() / TILE;
        let tiles = (low.y..=high.y).flat_map(|y| (low.x..=high.x).map(move |x| (x, y)));
        let farthest = tiles.map(|(x, y)| self.farthest.at(x, y)).fold(f32::INFINITY, f32::min);
        if farthest == f32::INFINITY {
            return false;
        }
        let farthest = 1.0 / f64::from(farthest);
        nearest <= farthest + self.grid.band(farthest / self.focal) / f64::from(LEAST_FACING)
    }

    fn hear(&self, key: BlockKey, values: &mut [f32]) {
        let Camera { k, r, t } = self.camera;
        let (matrix, shift) = (k * r, k * t);
        let step = matrix.x_axis * self.grid.side;
        let first = key.block() * SIDE;
        let (sums, weights) = values.split_at_mut(VOXELS);
        for row in 0..SIDE * SIDE {
            let at = (first + IVec3::new(0, row % SIDE, row / SIDE)).as_dvec3() * self.grid.side;
            let start = matrix * at + shift;
            for x in 0..SIDE {
                let q = start + step * f64::from(x);
                if let Some((distance, weight)) = self.says(q) {
                    let voxel = (row * SIDE + x) as usize;
                    sums[voxel] += weight * distance;
                    weights[voxel] += weight;
                }
            }
        }
    }

    /// What the view says of a voxel at this homogeneous pixel: its distance, and how much that counts.
    #[inline(always)]
    fn says(&self, q: DVec3) -> Option<(f32, f32)> {
        let Map { width, height, ref data } = self.maps.inverse;
        if q.z <= 1e-6 {
            return None;
        }
        let scale = 1.0 / q.z;
        let (u, v) = (q.x * scale, q.y * scale);
        let (last_x, last_y) = ((width - 1) as f64, (height - 1) as f64);
        if !(u >= 0.0 && v >= 0.0 && u <= last_x && v <= last_y) {
            return None;
        }
        let (nearest_x, nearest_y) = ((u + 0.5) as usize, (v + 0.5) as usize);
        let pixel = nearest_y * width + nearest_x;
        let own = data[pixel];
        if own == 0.0 {
            return None;
        }
        let depth = 1.0 / f64::from(own);
        let footprint = depth / self.focal;
        let band = self.grid.band(footprint);
        let facing = self.maps.facing[pixel].max(LEAST_FACING);
        // Inverse depth is affine on planes. Across an edge of depth it is the nearest pixel's.
        let (x, y) = (u as usize, v as usize);
        let (right, below) = (usize::from(x + 1 < width), if y + 1 < height { width } else { 0 });
        let at = y * width + x;
        let [a, b, c, d] = [at, at + right, at + below, at + below + right].map(|i| data[i]);
        let (low, high) = (a.min(b).min(c.min(d)), a.max(b).max(c.max(d)));
        let is_surface = low > 0.0 && f64::from(high - low) <= 2.0 * band * f64::from(low) * f64::from(high);
        let depth = if is_surface {
            let (fx, fy) = (u - x as f64, v - y as f64);
            let [a, b, c, d] = [a, b, c, d].map(f64::from);
            let (top, bottom) = (a + (b - a) * fx, c + (d - c) * fx);
            1.0 / (top + (bottom - top) * fy)
        } else {
            depth
        };
        let distance = (depth - q.z) * f64::from(facing);
        if distance <= -band {
            return None;
        }
        let share = (self.grid.side / footprint).min(1.0);
        let mut weight = self.maps.confidence[pixel] * facing.min(1.0) * (share * share) as f32;
        let full = FULL_BEHIND_VOXELS * self.grid.side;
        if distance > band {
            weight *= FREE_WEIGHT;
        } else if distance < -full {
            weight *= ((band + distance) / (band - full)) as f32;
        }
        Some((distance.min(band) as f32, weight))
    }
}
