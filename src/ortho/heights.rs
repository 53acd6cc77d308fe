//! The digital surface model: the height of what is seen from above in every cell.
//!
//! The confirmed pixels of each view are the corners of a sheet of triangles, which ends where depth jumps. A sheet
//! gives a cell the height of its highest triangle at the cell's middle, so that a view has one say in each cell,
//! however fine it is. The best few are kept. Of these the highest level counts that enough of them share
//! ([`Samples::surface`]): what one view alone puts above the others is wrong more often than not, and what is below
//! is what views see from the side under eaves and crowns.

use std::ops::Range;

use glam::DVec3;
use rayon::prelude::*;

use crate::mesh::spool::Filtered;
use crate::ortho::frame::Grid;
use crate::ortho::tiles::Block;
use crate::scene::camera::Camera;

/// Views that are kept of a cell.
const KEPT: usize = 12;
/// A level counts if its views have this share of the weight of all.
const LEAST_SHARE: f32 = 0.35;
/// A sheet ends where depth changes by more than so many pixels' sides from one pixel to the next: a slope of 76
/// degrees, seen straight from above.
const MOST_STEP_PX: f64 = 4.0;
/// Rows of cells that one thread works on.
const ROWS: usize = 32;

/// Bytes that a cell takes while it hears views.
pub const BYTES_A_CELL: u64 = (size_of::<Samples>() + 12) as u64;
/// Bytes of a pixel of the view that is heard, beside its maps.
pub const BYTES_A_PIXEL: u64 = size_of::<Corner>() as u64;

/// What views say of one cell.
#[derive(Clone, Copy)]
pub struct Samples {
    heights: [f32; KEPT],
    weights: [f32; KEPT],
    count: u32,
}

impl Default for Samples {
    fn default() -> Self {
        Self { heights: [0.0; KEPT], weights: [0.0; KEPT], count: 0 }
    }
}

impl Samples {
    /// Keeps what a view says if it is among the best; of equal ones those that came first.
    fn hear(&mut self, height: f32, weight: f32) {
        let count = self.count as usize;
        let at = match count {
            KEPT => {
                let least =
                    (1..KEPT).fold(0, |least, i| if self.weights[i] <= self.weights[least] { i } else { least });
                if self.weights[least] >= weight {
                    return;
                }
                least
            }
            _ => {
                self.count += 1;
                count
            }
        };
        (self.heights[at], self.weights[at]) = (height, weight);
    }

    /// The mean of the highest level that has enough weight, where a level is no thicker than `thickness`; NaN where
    /// nothing was heard.
    pub fn surface(&self, thickness: f32) -> f32 {
        let mut all: [(f32, f32); KEPT] = std::array::from_fn(|i| (self.heights[i], self.weights[i]));
        let all = &mut all[..self.count as usize];
        all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1)));
        let total: f32 = all.iter().map(|(_, weight)| weight).sum();
        for from in 0..all.len() {
            let level = all[from..].iter().take_while(|(height, _)| *height >= all[from].0 - thickness);
            let (sum, weight) = level.fold((0.0, 0.0), |(sum, all), (height, weight)| {
                (sum + f64::from(*height) * f64::from(*weight), all + f64::from(*weight))
            });
            if weight >= f64::from(LEAST_SHARE * total) && weight > 0.0 {
                return (sum / weight) as f32;
            }
        }
        f32::NAN
    }
}

/// A pixel of a sheet. Places count from the map's corner, so that they are the same for any blocks.
#[derive(Clone, Copy)]
struct Corner {
    /// Column and row, in cells; NaN where the pixel has no confirmed depth.
    at: [f64; 2],
    height: f32,
    weight: f32,
}

/// One view's sheet over a block.
struct Sheet<'a> {
    corners: Vec<Corner>,
    /// Of each row of pixels, the rows of cells that it reaches over.
    rows: Vec<Range<f64>>,
    maps: &'a Filtered,
    most_step: f32,
}

impl<'a> Sheet<'a> {
    fn new(camera: &Camera, maps: &'a Filtered, grid: &Grid) -> Self {
        let (width, height) = (maps.inverse.width, maps.inverse.height);
        let focal = 0.5 * (camera.k.x_axis.x + camera.k.y_axis.y);
        let ray_of = camera.r.transpose() * camera.k.inverse();
        let centre = camera.centre();
        let mut corners = vec![Corner { at: [f64::NAN; 2], height: 0.0, weight: 0.0 }; width * height];
        corners.par_chunks_mut(width.max(1)).enumerate().for_each(|(y, row)| {
            for (x, corner) in row.iter_mut().enumerate() {
                let inverse = maps.inverse.data[y * width + x];
                if inverse > 0.0 {
                    let (ray, depth) = (ray_of * DVec3::new(x as f64, y as f64, 1.0), 1.0 / f64::from(inverse));
                    let place = centre + depth * ray;
                    let at = grid.cells(place.truncate());
                    let down = (-ray.z / ray.length()).max(0.0);
                    let fine = (grid.gsd * focal / depth).min(1.0);
                    let weight = f64::from(maps.confidence[y * width + x]) * down * down * fine * fine;
                    *corner = Corner { at: at.to_array(), height: place.z as f32, weight: weight as f32 };
                }
            }
        });
        let reach = |row: &[Corner]| {
            let there = row.iter().filter(|corner| !corner.at[0].is_nan());
            there.fold(f64::INFINITY..f64::NEG_INFINITY, |r, corner| r.start.min(corner.at[1])..r.end.max(corner.at[1]))
        };
        let rows = corners.par_chunks(width.max(1)).map(reach).collect();
        Self { corners, rows, maps, most_step: (MOST_STEP_PX / focal) as f32 }
    }

    /// Draws the part of the sheet over a window of cells, which begins at a column and row: the highest triangle of
    /// each, with its weight.
    fn draw(&self, (left, top): (usize, usize), width: usize, cells: &mut [(f32, f32)]) {
        let (pixels, inverse) = (self.maps.inverse.width, &self.maps.inverse.data);
        let rows = cells.len() / width;
        for y in 0..self.rows.len().saturating_sub(1) {
            let reach = self.rows[y].start.min(self.rows[y + 1].start)..self.rows[y].end.max(self.rows[y + 1].end);
            if reach.start > (top + rows) as f64 || reach.end < top as f64 {
                continue;
            }
            for x in 0..pixels - 1 {
                let at = y * pixels + x;
                let four = [at, at + 1, at + pixels + 1, at + pixels];
                let is_joined = |three: [usize; 3]| {
                    let values = three.map(|i| inverse[i]);
                    let (low, high) = values.iter().fold((f32::INFINITY, 0f32), |(l, h), v| (l.min(*v), h.max(*v)));
                    low > 0.0 && high - low <= self.most_step * high
                };
                // Along the diagonal whose ends differ less; where a corner is missing, what is left.
                let [a, b, c, d] = four;
                let step = |i: usize, j: usize| (inverse[i] - inverse[j]).abs();
                let there = four.map(|i| inverse[i] > 0.0);
                let along_ac = match there {
                    [true, _, true, _] => !(there[1] && there[3]) || step(a, c) <= step(b, d),
                    _ => false,
                };
                for three in if along_ac { [[a, b, c], [a, c, d]] } else { [[a, b, d], [b, c, d]] } {
                    if is_joined(three) {
                        draw(three.map(|i| self.corners[i]), (left, top), width, cells);
                    }
                }
            }
        }
    }
}

/// Draws a triangle into a window of cells.
fn draw([a, b, c]: [Corner; 3], (left, top): (usize, usize), width: usize, cells: &mut [(f32, f32)]) {
    let rows = cells.len() / width;
    // The whole numbers from the first middle of a cell that is not before `low` to the last that is not beyond `high`.
    let middles = |values: [f64; 3], from: usize, count: usize| {
        let low = values.into_iter().fold(f64::INFINITY, f64::min).max(from as f64);
        let high = values.into_iter().fold(f64::NEG_INFINITY, f64::max).min((from + count) as f64);
        // What is negative becomes 0, which is before the window's end then.
        (low - 0.5).ceil() as usize..((high - 0.5).floor() + 1.0) as usize
    };
    let side = |p: Corner, q: Corner, [x, y]: [f64; 2]| {
        (q.at[0] - p.at[0]) * (y - p.at[1]) - (q.at[1] - p.at[1]) * (x - p.at[0])
    };
    let area = side(a, b, c.at);
    if area == 0.0 || area.is_nan() {
        return;
    }
    for y in middles([a, b, c].map(|corner| corner.at[1]), top, rows) {
        for x in middles([a, b, c].map(|corner| corner.at[0]), left, width) {
            let at = [x as f64 + 0.5, y as f64 + 0.5];
            let shares = [side(b, c, at), side(c, a, at), side(a, b, at)].map(|s| s / area);
            if shares.iter().all(|share| *share >= 0.0) {
                let [p, q, r] = shares.map(|share| share as f32);
                let height = p * a.height + q * b.height + r * c.height;
                let cell = &mut cells[(y - top) * width + x - left];
                if cell.0.is_nan() || height > cell.0 {
                    *cell = (height, p * a.weight + q * b.weight + r * c.weight);
                }
            }
        }
    }
}

/// Lets the cells of a block hear what a view's maps say. The camera sees the map's coordinates.
pub fn hear(samples: &mut [Samples], (grid, block): (&Grid, &Block), camera: &Camera, maps: &Filtered) {
    let sheet = Sheet::new(camera, maps, grid);
    samples.par_chunks_mut(ROWS * block.width).enumerate().for_each(|(band, samples)| {
        let mut cells = vec![(f32::NAN, 0.0); samples.len()];
        sheet.draw((block.left, block.top + band * ROWS), block.width, &mut cells);
        for (samples, (height, weight)) in samples.iter_mut().zip(cells) {
            if !height.is_nan() && weight > 0.0 {
                samples.hear(height, weight);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(heard: &[(f32, f32)]) -> Samples {
        let mut samples = Samples::default();
        heard.iter().for_each(|&(height, weight)| samples.hear(height, weight));
        samples
    }

    #[test]
    fn the_highest_level_counts_that_enough_views_share() {
        assert!(of(&[]).surface(1.0).is_nan());
        assert_eq!(of(&[(5.0, 0.5)]).surface(1.0), 5.0);
        // A roof that three views see, the ground under its eaves that four see, and a stray above.
        let roof = [(10.0, 0.9), (10.5, 0.9), (10.1, 0.9), (2.0, 0.9), (2.0, 0.9), (2.0, 0.9), (2.0, 0.9), (40.0, 0.9)];
        assert!((of(&roof).surface(1.0) - 10.2).abs() < 1e-6);
        // Without one of the three it has less than its share.
        assert_eq!(of(&roof[2..]).surface(1.0), 2.0);
    }

    #[test]
    fn the_best_views_are_kept() {
        let mut heard: Vec<(f32, f32)> = (0..30).map(|i| (1.0, 0.5 + 0.01 * i as f32)).collect();
        heard.extend([(7.0, 0.2); 20]);
        assert_eq!(of(&heard).surface(0.1), 1.0);
        // Equal ones that come later change nothing.
        let mut full = vec![(1.0, 0.5); KEPT];
        full.extend([(9.0, 0.5); 40]);
        assert_eq!(of(&full).surface(0.1), 1.0);
    }

    #[test]
    fn a_triangle_covers_the_middles_of_its_cells() {
        let mut cells = vec![(f32::NAN, 0.0); 6 * 4];
        // z = x + 10 y over the lower left half of a square of 4 x 4, of which the first row lies above the window.
        let corner = |x: f64, y: f64| Corner { at: [x + 100.0, y], height: (x + 10.0 * y) as f32, weight: 0.5 };
        draw([corner(0.0, 0.0), corner(4.0, 4.0), corner(0.0, 4.0)], (100, 1), 6, &mut cells);
        for (i, (height, _)) in cells.iter().enumerate() {
            let (x, y) = ((i % 6) as f32 + 0.5, (i / 6 + 1) as f32 + 0.5);
            assert_eq!(!height.is_nan(), x <= y && y < 4.0, "{x} {y}");
            assert!(height.is_nan() || (height - x - 10.0 * y).abs() < 1e-5);
        }
    }
}
