//! The surface of one tile: the views that it needs are filtered, put aside, and heard.

use glam::DVec3;

use crate::error::{Error, Result};
use crate::export::job::Job;
use crate::fusion::tile::{Depths, Frustum, Tile};
use crate::host::interrupt;
use crate::mesh::gather::{self, Blocks, Gathered, Surface};
use crate::mesh::grid::{self, BESIDE, BlockKey, SIDE};
use crate::mesh::plan::Plan;
use crate::mesh::spool::Spool;
use crate::mesh::surface::Quads;
use crate::mesh::tile_part::{Header, Part};
use crate::mesh::tile_plan::{TilePlan, is_own};
use crate::mesh::volume::behind;
use crate::run::tile_files::{Words, all_parts};
use crate::scene::camera::Camera;

/// All that tiles are made of.
pub struct Tiles<'a, 'b> {
    job: &'a Job<'b>,
    /// How space is cut.
    plan: &'a TilePlan,
    /// The room that there is.
    room: &'a Plan,
    /// Of all views, seen from the grid's origin.
    cameras: Vec<Camera>,
    /// The maps that were filtered so far: each view's once, whatever tiles need it.
    spool: Spool,
    is_filtered: Vec<bool>,
    /// Bytes of memory that the tiles so far were planned with, at most.
    planned: u64,
}

impl<'a, 'b> Tiles<'a, 'b> {
    /// Of a plan that is of this run.
    ///
    /// # Errors
    /// A folder that takes no file.
    pub fn new(job: &'a Job<'b>, plan: &'a TilePlan, room: &'a Plan) -> Result<Self> {
        let (results, grid) = (job.results, plan.grid());
        let cameras = results.views.iter().map(|view| grid.local(&view.camera)).collect();
        let spool = Spool::of_none(results, job.out())?;
        let is_filtered = vec![false; results.views.len()];
        Ok(Self { job, plan, room, cameras, spool, is_filtered, planned: room.filtering() })
    }

    /// Makes the part of a tile, which are numbered from 1, unless it is there; says whether it was there.
    ///
    /// # Errors
    /// Too little memory; maps that cannot be read; a full disk.
    pub fn make(&mut self, number: usize) -> Result<bool> {
        let file = self.plan.part(self.job.out(), number);
        let progress = self.job.progress;
        match Part::open(&file) {
            Ok(Some(part)) if part.header.plan == self.plan.id && part.header.tile == number => return Ok(true),
            Ok(None) => {}
            Ok(Some(_)) => progress.note(&format!("{}: of another plan; it is made again", file.display())),
            Err(error) => progress.note(&format!("{error}; it is made again")),
        }
        let (tile, grid) = (self.plan.tile(number), self.plan.grid());
        let views = self.views(&tile);
        for &view in &views {
            interrupt::check()?;
            if !std::mem::replace(&mut self.is_filtered[view], true) {
                self.spool.filter(self.job, view)?;
            }
        }
        let back = |key: BlockKey, step| BlockKey::new(key.block() - step);
        let is_beside = |key| BESIDE.iter().filter_map(|&step| back(key, step)).any(|key| is_own(&tile, key));
        let (all, _) = grid::touched(&grid, &mut self.spool, &views, |key| is_own(&tile, key) || is_beside(key))?;
        let own: Vec<BlockKey> = all.iter().copied().filter(|&key| is_own(&tile, key)).collect();
        let blocks = Blocks { all: &all, own: &own };
        let Gathered { quads, slabs, at_once } =
            gather::gather(self.job, self.room, (grid, blocks), (&mut self.spool, &views))?;
        self.planned = self.planned.max(self.room.gathering(at_once, quads.len()));
        let header = Header {
            plan: self.plan.id.clone(),
            tile: number,
            quads: quads.len(),
            vertices: quads.parts().1.len(),
            blocks: own.len(),
            slabs,
            views: views.len(),
        };
        header.write(&file, &quads)?;
        Ok(false)
    }

    /// Bytes of memory that the tiles so far were planned with, at most.
    pub fn planned(&self) -> u64 {
        self.planned
    }

    /// Views that see something of a tile's blocks or of those beside them, or look through them.
    fn views(&self, tile: &Tile) -> Vec<usize> {
        let side = self.plan.side;
        let [low, high] = self.plan.ends.map(|end| DVec3::from(end.map(f64::from)));
        // In numbers of blocks: with those beside, and as far around as a pixel's surface may reach into a block.
        let all = Tile { low, high: high + 1.0 };
        let around = Tile { low: tile.low - 1.0, high: tile.high + 2.0 }.clipped(&all.grown(1.0));
        let width = side * f64::from(SIDE);
        let around = Tile { low: around.low * width, high: around.high * width };
        let sees = |&view: &usize| {
            let (camera, far) = (&self.cameras[view], self.plan.far[view]);
            let far = far + behind(&self.plan.grid(), camera, far);
            self.plan.far[view] > 0.0
                && Frustum::new(camera, self.spool.views[view].size, Depths { near: 0.0, far }).may_meet(&around)
        };
        (0..self.cameras.len()).filter(sees).collect()
    }
}

/// The surfaces of all tiles as one.
///
/// # Errors
/// Parts that are missing, by their names, or are of another plan; a mesh that does not fit into memory.
pub fn joined(job: &Job, room: &Plan, plan: &TilePlan) -> Result<Surface> {
    let words = Words { hold: "surface", that: "that", command: "engine mesh" };
    let is_of = |part: &Part, tile| part.header.plan == plan.id && part.header.tile == tile;
    let parts = all_parts(plan.tiles.len(), &words, |tile| plan.part(job.out(), tile), Part::open, is_of)?;
    let sum = |of: fn(&Header) -> usize| parts.iter().map(|part| of(&part.header)).sum::<usize>();
    room.expect_room(sum(|header| header.quads), plan.side)?;
    let mut all = Quads::default();
    for part in &parts {
        interrupt::check()?;
        all.append(part.surface()?);
    }
    if !all.sort() {
        let place = TilePlan::file(job.out()).display().to_string();
        let found = "tiles that do not meet: they were not made of the same maps";
        return Err(Error::input(place, found, "tiles of the run as it is now (--tiles N), all made anew"));
    }
    gather::note_beyond(job, plan.beyond);
    let mesh = gather::triangles(job, all)?;
    let (blocks, slabs) = (sum(|header| header.blocks), sum(|header| header.slabs));
    Ok(Surface { grid: plan.grid(), mesh, blocks, slabs, tiles: Some(parts.len()) })
}
