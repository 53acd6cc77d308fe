//! What of the surface a view sees: the depth of the nearest part of it in every pixel.

use glam::DVec3;
use rayon::prelude::*;

use crate::error::Result;
use crate::files::map::Map;
use crate::mesh::raster::draw;
use crate::ortho::frame::Grid;
use crate::ortho::tiles::{Block, SIDE, Tiles};
use crate::scene::camera::Camera;

/// Rows of pixels that one thread draws.
const ROWS: usize = 64;

/// The lowest and the highest of each tile's heights, row by row; `None` where it has none.
pub type Reaches = Vec<Option<(f32, f32)>>;

/// Of a raster of heights.
///
/// # Errors
/// A file that cannot be read back.
pub fn reaches(heights: &Tiles<f32>) -> Result<Reaches> {
    let (across, down) = heights.count();
    let of_tile = |(column, row): (usize, usize)| {
        let Some(cells) = heights.tile((column, row))? else { return Ok(None) };
        let there = cells.iter().filter(|height| !height.is_nan());
        Ok(there.fold(None, |reach, &h| {
            let (low, high) = reach.unwrap_or((h, h));
            Some((h.min(low), h.max(high)))
        }))
    };
    (0..down).flat_map(|row| (0..across).map(move |column| (column, row))).map(of_tile).collect()
}

/// Whether a view may see something between two heights of a part of the map.
pub fn may_see(camera: &Camera, size: (usize, usize), grid: &Grid, part: &Block, (low, high): (f32, f32)) -> bool {
    let (mut least, mut most) = (DVec3::INFINITY, DVec3::NEG_INFINITY);
    for corner in 0..8 {
        let (x, y) = (part.left + (corner & 1) * part.width, part.top + (corner >> 1 & 1) * part.height);
        let height = if corner < 4 { low } else { high };
        let q = camera.project(grid.place(x as f64, y as f64).extend(f64::from(height)));
        // What reaches beside or behind the camera may lie anywhere.
        if q.z <= 1e-6 {
            return true;
        }
        let at = DVec3::new(q.x / q.z, q.y / q.z, q.z);
        (least, most) = (least.min(at), most.max(at));
    }
    most.x >= 0.0 && most.y >= 0.0 && least.x <= size.0 as f64 && least.y <= size.1 as f64
}

/// The inverse depth of the surface that is nearest in each pixel of a view; 0 where there is none. Cells beside each
/// other are joined however much their heights differ: between a roof and the ground is a wall.
///
/// # Errors
/// A file that cannot be read back.
pub fn nearest(
    (heights, reaches): (&Tiles<f32>, &Reaches),
    grid: &Grid,
    camera: &Camera,
    (width, height): (usize, usize),
) -> Result<Map> {
    let mut map = Map::filled(width, height, 0.0);
    let across = heights.count().0;
    const CORNERS: usize = SIDE + 1;
    for (at, reach) in reaches.iter().enumerate() {
        let Some(reach) = *reach else { continue };
        let (left, top) = (at % across * SIDE, at / across * SIDE);
        let part = Block { left, top, width: CORNERS, height: CORNERS };
        if !may_see(camera, (width, height), grid, &part, reach) {
            continue;
        }
        // With the first column and row of the tiles beside it.
        let cells = heights.window((left as isize, top as isize), (CORNERS, CORNERS))?;
        let place = |i: usize| {
            if cells[i].is_nan() {
                return [f32::NAN; 3];
            }
            let middle = grid.place((left + i % CORNERS) as f64 + 0.5, (top + i / CORNERS) as f64 + 0.5);
            let q = camera.project(middle.extend(f64::from(cells[i])));
            if q.z > 1e-6 { [(q.x / q.z) as f32, (q.y / q.z) as f32, (1.0 / q.z) as f32] } else { [f32::NAN; 3] }
        };
        let places: Vec<[f32; 3]> = (0..cells.len()).into_par_iter().map(place).collect();
        let reach = |row: &[[f32; 3]]| {
            let there = row.iter().filter(|place| !place[1].is_nan());
            there.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), p| (low.min(p[1]), high.max(p[1])))
        };
        let rows: Vec<(f32, f32)> = places.par_chunks(CORNERS).map(reach).collect();
        map.data.par_chunks_mut(ROWS * width.max(1)).enumerate().for_each(|(band, values)| {
            let (first, count) = (band * ROWS, values.len() / width.max(1));
            for y in 0..SIDE {
                let (low, high) = (rows[y].0.min(rows[y + 1].0), rows[y].1.max(rows[y + 1].1));
                if low > (first + count) as f32 || high < first as f32 {
                    continue;
                }
                for x in 0..SIDE {
                    let corner = y * CORNERS + x;
                    let [a, b, c, d] = [corner, corner + 1, corner + CORNERS + 1, corner + CORNERS].map(|i| places[i]);
                    for three in match [a, b, c, d].map(|place| place[2].is_nan()) {
                        [false, false, _, false] => [[a, b, d], [b, c, d]],
                        _ => [[a, b, c], [a, c, d]],
                    } {
                        draw(three, (width, first, count), values);
                    }
                }
            }
        });
    }
    Ok(map)
}
