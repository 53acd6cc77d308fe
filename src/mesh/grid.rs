//! The grid of voxels: cubes of 8 x 8 x 8 voxels, of which only those near surfaces exist.

use glam::{DVec3, IVec3};
use rayon::prelude::*;

use crate::error::Result;
use crate::files::map::Map;
use crate::host::interrupt;
use crate::mesh::spool::{Filtered, Spool, SpooledView};
use crate::scene::camera::Camera;

/// Voxels along a block's side.
pub const SIDE: i32 = 8;
/// Voxels of a block.
pub const VOXELS: usize = 512;
/// Blocks along each axis have numbers from `-LIMIT` to `LIMIT - 1`: 17 bits each.
const LIMIT: i32 = 1 << 16;

/// Where voxels lie. Voxel (i, j, k) is the point `origin + side * (i, j, k)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// In the world.
    pub origin: DVec3,
    /// Distance of two voxels, in scene units.
    pub side: f64,
}

/// How far around a surface distances are kept, in voxels.
pub const BAND_VOXELS: f64 = 3.0;
/// The same in footprints of a pixel, where these are larger, ...
const BAND_FOOTPRINTS: f64 = 2.0;
/// ... up to so many voxels.
const WIDEST_BAND_VOXELS: f64 = 6.0;
/// How far around a surface blocks exist, in voxels: a cell of the surface and its neighbours have their corners there.
const REACH_VOXELS: f64 = 2.5;

impl Grid {
    /// A camera whose world has its origin at the grid's.
    pub fn local(&self, camera: &Camera) -> Camera {
        Camera { t: camera.t + camera.r * self.origin, ..*camera }
    }

    /// How far a pixel of this footprint is heard, in scene units.
    pub fn band(&self, footprint: f64) -> f64 {
        (BAND_FOOTPRINTS * footprint).clamp(BAND_VOXELS * self.side, WIDEST_BAND_VOXELS * self.side)
    }
}

/// A block's number: blocks are sorted by it, along x first, then y, then z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey(pub u64);

impl BlockKey {
    /// Of a block; `None` beyond the grid's ends.
    pub fn new(at: IVec3) -> Option<Self> {
        let inside = at.cmpge(IVec3::splat(-LIMIT)).all() && at.cmplt(IVec3::splat(LIMIT)).all();
        inside.then(|| {
            let [x, y, z] = (at + LIMIT).to_array().map(|v| v as u64);
            Self(z << 34 | y << 17 | x)
        })
    }

    /// Which block it is.
    pub fn block(self) -> IVec3 {
        let part = |shift: u32| (self.0 >> shift & 0x1_ffff) as i32 - LIMIT;
        IVec3::new(part(0), part(17), part(34))
    }

    /// The block one further along some axes.
    pub fn beside(self, step: IVec3) -> Option<Self> {
        Self::new(self.block() + step)
    }
}

/// The seven blocks whose first voxels the last cells of a block need.
pub const BESIDE: [IVec3; 7] = [
    IVec3::new(1, 0, 0),
    IVec3::new(0, 1, 0),
    IVec3::new(1, 1, 0),
    IVec3::new(0, 0, 1),
    IVec3::new(1, 0, 1),
    IVec3::new(0, 1, 1),
    IVec3::new(1, 1, 1),
];

/// The blocks that the surfaces of some views lie in or near, sorted, as far as they are wanted, and the number of
/// pixels that lie too far away for the grid.
///
/// # Errors
/// Maps that cannot be read back; [`crate::Error::Interrupted`].
pub fn touched(
    grid: &Grid,
    spool: &mut Spool,
    views: &[usize],
    is_wanted: impl Fn(BlockKey) -> bool,
) -> Result<(Vec<BlockKey>, u64)> {
    let (mut all, mut beyond): (Vec<BlockKey>, u64) = (Vec::new(), 0);
    for &view in views {
        interrupt::check()?;
        if spool.views[view].is_empty {
            continue;
        }
        let maps = spool.read(view)?;
        let (of_view, lost) = touched_by(grid, &spool.views[view], &maps);
        beyond += lost;
        all.extend(of_view.into_iter().filter(|&key| is_wanted(key)));
        all.par_sort_unstable();
        all.dedup();
    }
    Ok((all, beyond))
}

fn touched_by(grid: &Grid, view: &SpooledView, maps: &Filtered) -> (Vec<BlockKey>, u64) {
    const ROWS: usize = 16;
    let Map { width, ref data, .. } = maps.inverse;
    let camera = grid.local(&view.camera);
    let (world_from_pixel, centre) = (camera.r.transpose() * camera.k.inverse(), camera.centre());
    let focal = 0.5 * (camera.k.x_axis.x + camera.k.y_axis.y);
    let of_rows = |(chunk, values): (usize, &[f32])| {
        let (mut keys, mut beyond, mut last) = (Vec::new(), 0, (IVec3::MAX, IVec3::MAX));
        for (i, &inverse) in values.iter().enumerate().filter(|(_, inverse)| **inverse > 0.0) {
            let (x, y) = (i % width, chunk * ROWS + i / width);
            let depth = 1.0 / f64::from(inverse);
            let point = centre + world_from_pixel * DVec3::new(x as f64, y as f64, 1.0) * depth;
            // Pixels may be farther apart than voxels: the way to the next one is this one's, also at a slant, but no
            // more than a block. A grid so much finer than its maps would hold nothing but their interpolation.
            let reach = (depth / focal).min(grid.side * f64::from(SIDE)).max(REACH_VOXELS * grid.side);
            let block = |offset: f64| ((point + offset) / (grid.side * f64::from(SIDE))).floor();
            let (low, high) = (block(-reach), block(reach));
            if low.min_element() < f64::from(-LIMIT) || high.max_element() >= f64::from(LIMIT) {
                beyond += 1;
                continue;
            }
            let range = (low.as_ivec3(), high.as_ivec3());
            if range == last {
                continue;
            }
            last = range;
            for z in range.0.z..=range.1.z {
                for y in range.0.y..=range.1.y {
                    keys.extend((range.0.x..=range.1.x).filter_map(|x| BlockKey::new(IVec3::new(x, y, z))));
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        (keys, beyond)
    };
    let parts: Vec<_> = data.par_chunks(ROWS * width.max(1)).enumerate().map(of_rows).collect();
    let beyond = parts.iter().map(|(_, beyond)| beyond).sum();
    let mut keys: Vec<BlockKey> = parts.into_iter().flat_map(|(keys, _)| keys).collect();
    keys.par_sort_unstable();
    keys.dedup();
    (keys, beyond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_from_their_numbers_and_end_somewhere() {
        for at in [IVec3::ZERO, IVec3::new(-1, 5, -65536), IVec3::new(65535, -65536, 12)] {
            assert_eq!(BlockKey::new(at).unwrap().block(), at);
        }
        for at in [IVec3::new(65536, 0, 0), IVec3::new(0, -65537, 0), IVec3::MAX] {
            assert_eq!(BlockKey::new(at), None);
        }
        let (a, b) = (BlockKey::new(IVec3::new(9, 0, 0)).unwrap(), BlockKey::new(IVec3::new(-9, 1, 0)).unwrap());
        assert!(a < b && a.beside(IVec3::X).unwrap().block() == IVec3::new(10, 0, 0));
    }
}
