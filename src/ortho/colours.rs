//! The true orthophoto: every cell with a height has the colour that the view shows which sees it best.
//!
//! A view shows a cell if it lies in the photo and nothing of the surface lies before it ([`crate::ortho::sight`]), nor
//! what the view's own map has found nearer. The best view is the one that looks straightest down and whose pixels are
//! no larger than a cell; where something nearer lies at the pixels around, others go first, since colours run into
//! each other there. Where two views are as good and show nearly the same, a share of either makes the seam between
//! them soft; where they differ, as where something has moved, one of them is shown alone, so that nothing is blurred.

use rayon::prelude::*;

use crate::error::Result;
use crate::export::job::Job;
use crate::export::photos::Photos;
use crate::files::map::Map;
use crate::host::interrupt;
use crate::mesh::colour::bilinear;
use crate::mesh::spool::Spool;
use crate::ortho::frame::{Frame, Grid};
use crate::ortho::sight::{self, Reaches};
use crate::ortho::tiles::{Block, Tiles};
use crate::scene::camera::Camera;
use crate::scene::photo::Photo;

/// With which power of the cosine at which it looks down a view gets worse.
const STRAIGHTNESS: i32 = 4;
/// How much nearer something must be to hide a cell, in the larger of a cell's and a pixel's side.
const HIDDEN_CELLS: f64 = 3.0;
/// A view that shows something nearer beside a cell counts at this share.
const BESIDE_SHARE: f32 = 1e-3;
/// A second view is mixed in if it is at least so good as the best ...
const LEAST_SHARE: f32 = 0.8;
/// ... and no channel of its colour differs by more than this.
const MOST_DIFFERENCE: u8 = 24;

/// Bytes that a cell takes meanwhile: its height, the two best views, and what is written.
pub const BYTES_A_CELL: u64 = (4 + 2 * size_of::<Shown>() + 4) as u64;

/// What a view shows of a cell.
#[derive(Clone, Copy, Default)]
struct Shown {
    score: f32,
    colour: [u8; 3],
}

/// What colours are made of.
pub struct Surface<'a> {
    /// Heights of all cells.
    pub heights: &'a Tiles<f32>,
    /// Of each tile.
    pub reaches: &'a Reaches,
    /// Their cells.
    pub grid: &'a Grid,
    /// The map's coordinates.
    pub frame: &'a Frame,
    /// A usual height.
    pub middle: f64,
}

/// Colours of all cells that a view shows, block by block, into `raster`.
///
/// # Errors
/// Photos that cannot be read, a disk that is full, [`crate::Error::Interrupted`].
pub fn colour(
    job: &Job,
    photos: &Photos,
    surface: &Surface,
    (spool, blocks): (&mut Spool, &[Block]),
    raster: &mut Tiles<[u8; 4]>,
) -> Result<()> {
    let views = &job.results.views;
    let steps = blocks.len() * views.len();
    let mut stage = job.progress.stage("colour", steps, steps as u64);
    for block in blocks {
        let heights = surface.heights.window((block.left as isize, block.top as isize), (block.width, block.height))?;
        let there = heights.iter().filter(|height| !height.is_nan());
        let (low, high) = there.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), h| (low.min(*h), high.max(*h)));
        let mut shown = vec![[Shown::default(); 2]; heights.len()];
        for (at, view) in views.iter().enumerate() {
            interrupt::check()?;
            let camera = surface.frame.camera(&view.camera);
            if low <= high && sight::may_see(&camera, view.size, surface.grid, block, (low, high)) {
                let nearest = sight::nearest((surface.heights, surface.reaches), surface.grid, &camera, view.size)?;
                let found = spool.read(at)?.inverse;
                let (photo, scale) = of_cells(photos.of_map(job, at)?, &camera, surface);
                let look = Look { camera, nearest, found, photo, scale, grid: surface.grid };
                look.at_block(block, &heights, &mut shown);
            }
            stage.step(&view.name, 1, serde_json::json!({ "view": view.name }));
        }
        let colours: Vec<[u8; 4]> = shown.par_iter().map(mixed).collect();
        raster.put((block.left, block.top), (block.width, block.height), &colours)?;
    }
    Ok(())
}

/// The photo at about the cells' resolution, so that none of its pixels is passed over, and the share of its pixels'
/// number along a side that is left.
fn of_cells(mut photo: Photo, camera: &Camera, surface: &Surface) -> (Photo, f32) {
    let focal = 0.5 * (camera.k.x_axis.x + camera.k.y_axis.y);
    let mut pixel = (camera.centre().z - surface.middle).abs() / focal;
    let mut scale = 1.0;
    // A cell between one and two pixels wide is read between its neighbours' middles.
    while 2.0 * pixel <= surface.grid.gsd && photo.width.min(photo.height) > 1 {
        photo = photo.pyramid_level();
        (pixel, scale) = (2.0 * pixel, 0.5 * scale);
    }
    (photo, scale)
}

/// A view's look at the surface.
struct Look<'a> {
    camera: Camera,
    /// Inverse depth of the surface.
    nearest: Map,
    /// Inverse depth that its own map has, where others confirm it.
    found: Map,
    photo: Photo,
    scale: f32,
    grid: &'a Grid,
}

impl Look<'_> {
    /// Shows its colours to the cells of a block.
    fn at_block(&self, block: &Block, heights: &[f32], shown: &mut [[Shown; 2]]) {
        shown.par_chunks_mut(block.width).zip(heights.par_chunks(block.width)).enumerate().for_each(
            |(y, (shown, heights))| {
                for (x, (shown, &height)) in shown.iter_mut().zip(heights).enumerate() {
                    if !height.is_nan() {
                        let new = self.at(((block.left + x) as f64 + 0.5, (block.top + y) as f64 + 0.5), height);
                        new.into_iter().for_each(|new| insert(shown, new));
                    }
                }
            },
        );
    }

    fn at(&self, (column, row): (f64, f64), height: f32) -> Option<Shown> {
        let place = self.grid.place(column, row).extend(f64::from(height));
        let (at, depth) = self.camera.pixel(place)?;
        let (width, height) = (self.nearest.width, self.nearest.height);
        if !(at.x >= 0.0 && at.y >= 0.0 && at.x <= (width - 1) as f64 && at.y <= (height - 1) as f64) {
            return None;
        }
        let ray = place - self.camera.centre();
        let down = -ray.z / ray.length();
        if down < 0.1 {
            return None;
        }
        let focal = 0.5 * (self.camera.k.x_axis.x + self.camera.k.y_axis.y);
        let side = self.grid.gsd.max(depth / focal);
        // Level ground is nearer at the next pixel by the tangent of how far the view looks aside.
        let slack = side * (HIDDEN_CELLS + 1.5 * (1.0 - down * down).max(0.0).sqrt() / down);
        let before = (1.0 / (depth - slack).max(1e-9)) as f32;
        let (x, y) = ((at.x + 0.5) as usize, (at.y + 0.5) as usize);
        if self.nearest.at(x, y) > before || self.found.at(x, y) > before {
            return None;
        }
        let around = |at: usize, length: usize| at.saturating_sub(1)..=(at + 1).min(length - 1);
        let is_beside = around(y, height).any(|y| around(x, width).any(|x| self.nearest.at(x, y) > before));
        let fine = (self.grid.gsd * focal / depth).min(1.0);
        let score = (fine * fine * down.powi(STRAIGHTNESS)) as f32;
        let colour = bilinear(&self.photo, at.x as f32 * self.scale, at.y as f32 * self.scale);
        Some(Shown { score: if is_beside { BESIDE_SHARE * score } else { score }, colour })
    }
}

/// Keeps the two best; of equal ones the first that came.
fn insert(shown: &mut [Shown; 2], new: Shown) {
    if new.score > shown[0].score {
        *shown = [new, shown[0]];
    } else if new.score > shown[1].score {
        shown[1] = new;
    }
}

/// The best view's colour, with a share of the second's that grows from nothing to a half as it gets as good.
fn mixed([best, second]: &[Shown; 2]) -> [u8; 4] {
    let [r, g, b] = best.colour;
    if best.score <= 0.0 {
        return [0; 4];
    }
    let closeness = second.score / best.score;
    let is_alike = best.colour.iter().zip(&second.colour).all(|(a, b)| a.abs_diff(*b) <= MOST_DIFFERENCE);
    if closeness <= LEAST_SHARE || !is_alike {
        return [r, g, b, 255];
    }
    let share = 0.5 * (closeness - LEAST_SHARE) / (1.0 - LEAST_SHARE);
    let mix = |c: usize| f32::from(best.colour[c]) * (1.0 - share) + f32::from(second.colour[c]) * share;
    let [r, g, b] = [0, 1, 2].map(|c| mix(c).round() as u8);
    [r, g, b, 255]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seams_are_soft_only_where_views_show_the_same() {
        let mut shown = [Shown::default(); 2];
        assert_eq!(mixed(&shown), [0; 4]);
        for (score, red) in [(0.3, 90), (1.0, 100), (1.0, 110), (0.9, 200)] {
            insert(&mut shown, Shown { score, colour: [red, 5, 5] });
        }
        // As good: the mean.
        assert_eq!(mixed(&shown), [105, 5, 5, 255]);
        shown[1].score = 0.9;
        assert_eq!(mixed(&shown), [103, 5, 5, 255]);
        shown[1].score = 0.79;
        assert_eq!(mixed(&shown), [100, 5, 5, 255]);
        shown[1] = Shown { score: 1.0, colour: [130, 5, 5] };
        assert_eq!(mixed(&shown), [100, 5, 5, 255]);
    }
}
