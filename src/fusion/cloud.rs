//! The points so far, and which pixels of a later view they explain.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use glam::DVec3;
use rayon::prelude::*;

use super::block::{AROUND_OTHERS, Bounds, POINTS_OF_A_BLOCK};
use super::view::ViewFacts;
use crate::Result;
use crate::files::map::Map;
use crate::files::ply::Point;
use crate::files::scratch::Scratch;

/// Where points go.
enum Place<'a> {
    /// All stay in memory.
    Here(Vec<Point>),
    /// They go on, and where they lie stays on disk.
    On { positions: Option<Scratch>, count: usize, pass: &'a mut dyn FnMut(Vec<Point>) -> Result<()> },
}

/// Points that follow each other, of one view.
struct Block {
    bounds: Bounds,
    points: Range<usize>,
}

/// A cloud that grows view by view.
pub struct Cloud<'a> {
    place: Place<'a>,
    blocks: Vec<Block>,
    /// Around the points of each view that has any, and its blocks.
    views: Vec<(Bounds, Range<usize>)>,
    /// The first block of the view whose points are coming.
    first: usize,
}

/// Bytes of a position on disk.
const POSITION: usize = size_of::<[f64; 3]>();

impl Cloud<'static> {
    /// In memory.
    pub fn here() -> Self {
        Self::at(Place::Here(Vec::new()))
    }
}

impl<'a> Cloud<'a> {
    /// Bytes in memory for each block of points.
    pub const BLOCK_BYTES: u64 = 2 * size_of::<Block>() as u64;

    /// Points go to `pass`; what is needed to know which pixels they explain goes to the scratch file, where there is
    /// one.
    pub fn on(positions: Option<Scratch>, pass: &'a mut dyn FnMut(Vec<Point>) -> Result<()>) -> Self {
        Self::at(Place::On { positions, count: 0, pass })
    }

    fn at(place: Place<'a>) -> Self {
        Self { place, blocks: Vec::new(), views: Vec::new(), first: 0 }
    }

    /// Adds points of the view whose turn it is.
    ///
    /// # Errors
    /// A full disk; those of whom points go to.
    pub fn append(&mut self, points: Vec<Point>) -> Result<()> {
        let mut at = match &self.place {
            Place::Here(all) => all.len(),
            Place::On { count, .. } => *count,
        };
        // A block that is not full goes on, unless it is another view's.
        let mut rest = &points[..];
        while !rest.is_empty() {
            if self.blocks.len() == self.first || self.blocks.last().is_none_or(|b| b.points.len() == POINTS_OF_A_BLOCK)
            {
                self.blocks.push(Block { bounds: Bounds::default(), points: at..at });
            }
            let Some(block) = self.blocks.last_mut() else { break };
            let (some, left) = rest.split_at(rest.len().min(POINTS_OF_A_BLOCK - block.points.len()));
            block.bounds = block.bounds.with(Bounds::around(some.iter().map(|point| point.position.into())));
            at += some.len();
            block.points.end = at;
            rest = left;
        }
        match &mut self.place {
            Place::Here(all) if all.is_empty() => *all = points,
            Place::Here(all) => all.extend(points),
            Place::On { positions, count, pass } => {
                if let Some(scratch) = positions {
                    let positions: Vec<[f64; 3]> = points.iter().map(|point| point.position).collect();
                    scratch.append(bytemuck::cast_slice(&positions))?;
                }
                *count = at;
                pass(points)?;
            }
        }
        Ok(())
    }

    /// The next points are another view's.
    pub fn end_view(&mut self) {
        let blocks = self.first..self.blocks.len();
        if !blocks.is_empty() {
            let bounds = self.blocks[blocks.clone()].iter().fold(Bounds::default(), |all, b| all.with(b.bounds));
            self.views.push((bounds, blocks));
        }
        self.first = self.blocks.len();
    }

    /// The points that stayed in memory.
    pub fn into_points(self) -> Vec<Point> {
        match self.place {
            Place::Here(points) => points,
            Place::On { .. } => Vec::new(),
        }
    }

    /// Which kept pixels of a view the points of the views before it explain: those on which one falls, at a depth that
    /// differs from the `kept` one (0 where the pixel was not kept) by less than the share `max_depth_error_rel`.
    ///
    /// # Errors
    /// Points that cannot be read back.
    pub fn explained(&self, view: &ViewFacts, kept: &[f32], max_depth_error_rel: f64) -> Result<Vec<AtomicBool>> {
        let marks: Vec<AtomicBool> = kept.iter().map(|_| AtomicBool::new(false)).collect();
        let matrix = view.camera.k * view.camera.r;
        let shift = view.camera.k * view.camera.t;
        let (width, height) = view.size;
        let blocks = self.views.iter().filter(|(around, _)| around.may_be_seen(&view.camera, view.size, AROUND_OTHERS));
        let blocks = blocks.flat_map(|(_, blocks)| &self.blocks[blocks.clone()]);
        let seen: Vec<&Block> = blocks.filter(|b| b.bounds.may_be_seen(&view.camera, view.size, 0.0)).collect();
        let positions = self.positions();
        // Marks of several points on one pixel are the same mark, so their order does not matter.
        seen.par_iter().try_for_each(|block| {
            positions.each(block, |point| {
                let q = matrix * point + shift;
                if q.z <= 1e-6 {
                    return;
                }
                let (x, y) = ((q.x / q.z + 0.5).floor(), (q.y / q.z + 0.5).floor());
                if x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64 {
                    let at = y as usize * width + x as usize;
                    let own = f64::from(kept[at]);
                    // Without a kept depth there, `own` is 0 and nothing is smaller.
                    if (q.z - own).abs() < max_depth_error_rel * own {
                        marks[at].store(true, Ordering::Relaxed);
                    }
                }
            })
        })?;
        Ok(marks)
    }

    fn positions(&self) -> Positions<'_> {
        match &self.place {
            Place::Here(points) => Positions::Here(points),
            Place::On { positions, .. } => Positions::Aside(positions.as_ref()),
        }
    }
}

/// Where the points so far lie.
enum Positions<'a> {
    Here(&'a [Point]),
    Aside(Option<&'a Scratch>),
}

impl Positions<'_> {
    /// Gives those of a block to `take`.
    fn each(&self, block: &Block, mut take: impl FnMut(DVec3)) -> Result<()> {
        match self {
            Self::Here(points) => points[block.points.clone()].iter().for_each(|point| take(point.position.into())),
            Self::Aside(None) => {}
            Self::Aside(Some(scratch)) => {
                let mut positions = vec![[0f64; 3]; block.points.len()];
                scratch.read((block.points.start * POSITION) as u64, bytemuck::cast_slice_mut(&mut positions))?;
                positions.into_iter().for_each(|position| take(position.into()));
            }
        }
        Ok(())
    }
}

/// Whether a mark is set.
pub(crate) fn is_marked(marks: &[AtomicBool], pixel: usize) -> bool {
    marks.get(pixel).is_some_and(|mark| mark.load(Ordering::Relaxed))
}

/// Pixels of a view whose points are made together: whole rows.
pub(crate) fn bands(map: &Map, pixels: usize) -> impl Iterator<Item = Range<usize>> + use<> {
    let (rows, height) = ((pixels / map.width.max(1)).clamp(1, map.height.max(1)), map.height);
    (0..height).step_by(rows).map(move |first| first..(first + rows).min(height))
}
