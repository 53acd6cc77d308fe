//! The surface that views' filtered maps come to: the grid, its blocks, and slab by slab what the views say of them.

use serde_json::json;

use crate::error::{Error, Result, counted};
use crate::export::job::Job;
use crate::host::interrupt;
use crate::mesh::grid::{self, BlockKey, Grid};
use crate::mesh::plan::{Plan, slabs};
use crate::mesh::spool::Spool;
use crate::mesh::surface::Quads;
use crate::mesh::triangles::Triangles;
use crate::mesh::volume::Volume;

/// Voxels are so many times as large as a pixel is on the surface: the error of depths that others confirm is less than
/// that, and a mesh of the pixels' own size has twice the triangles without more of shape in them.
const VOXEL_FOOTPRINTS: f64 = 1.5;

/// A surface before small pieces are dropped.
pub struct Surface {
    /// Where its voxels lay.
    pub grid: Grid,
    /// A manifold mesh, seen from the grid's origin.
    pub mesh: Triangles,
    /// Blocks that surfaces touch.
    pub blocks: usize,
    /// Slabs that they were worked on in.
    pub slabs: usize,
    /// Tiles that it was made in, where it was.
    pub tiles: Option<usize>,
}

/// That there is no surface, and what would help.
pub fn nothing(job: &Job, why: &str) -> Error {
    Error::Nothing(format!("{}: no surface: {why}", job.results.folder().display()))
}

/// The grid for filtered maps: with voxels of this side, or by their pixels.
///
/// # Errors
/// [`Error::Nothing`] where no pixel is left.
pub fn grid(job: &Job, voxel: Option<f64>, spool: &mut Spool) -> Result<Grid> {
    let Some(footprint) = spool.footprint() else {
        return Err(nothing(
            job,
            "no pixel of any depth map is confirmed by other views; try the run again with a smaller \
             --min-confidence or --min-views",
        ));
    };
    let grid = Grid { origin: spool.middle(), side: voxel.unwrap_or(VOXEL_FOOTPRINTS * footprint) };
    spool.forget_samples();
    Ok(grid)
}

/// Says how large voxels are, where nobody has told them.
pub fn note_side(job: &Job, side: f64) {
    job.note(format!(
        "voxels of {side:.4e}, {VOXEL_FOOTPRINTS} times a pixel's side on the surface (median); --voxel sets them"
    ));
}

/// Says how many pixels lie too far away for the grid, if any do.
pub fn note_beyond(job: &Job, beyond: u64) {
    if beyond > 0 {
        job.note(format!(
            "{} left out: more than 524288 voxels away from the middle of the scene (a larger --voxel reaches farther)",
            counted(beyond as usize, "pixel")
        ));
    }
}

/// The blocks that views' surfaces lie in or near, all of them sorted, and those of them whose surface is wanted.
#[derive(Clone, Copy)]
pub struct Blocks<'a> {
    /// Also those beside the wanted ones.
    pub all: &'a [BlockKey],
    /// The wanted ones.
    pub own: &'a [BlockKey],
}

/// What was gathered.
pub struct Gathered {
    /// The surface of the wanted blocks.
    pub quads: Quads,
    /// In so many slabs.
    pub slabs: usize,
    /// With at most so many blocks at once.
    pub at_once: usize,
}

/// Gathers what these views say of the blocks, and finds the surface there.
///
/// # Errors
/// Maps that cannot be read back; a surface that does not fit into memory; [`Error::Interrupted`].
pub fn gather(
    job: &Job,
    plan: &Plan,
    (grid, blocks): (Grid, Blocks),
    (spool, views): (&mut Spool, &[usize]),
) -> Result<Gathered> {
    let slabs = slabs(blocks.all, blocks.own, plan.blocks_at_once(blocks.all.len()));
    let at_once = slabs.iter().map(|slab| slab.blocks.len()).max().unwrap_or(0);
    let steps = slabs.len() * views.len();
    let mut stage = job.progress.stage("gather", steps, steps as u64);
    let mut quads = Quads::default();
    for slab in &slabs {
        let mut volume = Volume::new(grid, slab.blocks.clone())?;
        for &view in views {
            interrupt::check()?;
            if !spool.views[view].is_empty {
                let maps = spool.read(view)?;
                volume.hear(&spool.views[view], &maps);
            }
            let name = &job.results.views[view].name;
            stage.step(name, 1, json!({ "view": name }));
        }
        quads.add(grid, &volume, &blocks.own[slab.own.clone()]);
        plan.expect_room(quads.len(), grid.side)?;
    }
    Ok(Gathered { quads, slabs: slabs.len(), at_once })
}

/// The surface of a whole run's maps.
///
/// # Errors
/// As [`grid()`] and [`gather`]; [`Error::Nothing`] where the grid holds no surface.
pub fn whole(job: &Job, plan: &Plan, voxel: Option<f64>, mut lap: impl FnMut(&'static str)) -> Result<Surface> {
    let mut spool = Spool::of_run(job, job.out())?;
    lap("filter");
    let grid = grid(job, voxel, &mut spool)?;
    if voxel.is_none() {
        note_side(job, grid.side);
    }
    let views: Vec<usize> = (0..spool.views.len()).collect();
    let (all, beyond) = grid::touched(&grid, &mut spool, &views, |_| true)?;
    note_beyond(job, beyond);
    lap("plan");
    let blocks = Blocks { all: &all, own: &all };
    let Gathered { quads, slabs, .. } = gather(job, plan, (grid, blocks), (&mut spool, &views))?;
    if slabs > 1 {
        job.note(format!("{slabs} slabs, one after the other, so that the grid fits into memory"));
    }
    lap("gather");
    let mesh = triangles(job, quads)?;
    lap("surface");
    Ok(Surface { grid, mesh, blocks: all.len(), slabs, tiles: None })
}

/// A manifold mesh of quads.
///
/// # Errors
/// [`Error::Nothing`] where there are none.
pub fn triangles(job: &Job, quads: Quads) -> Result<Triangles> {
    if quads.is_empty() {
        return Err(nothing(job, "the grid is too coarse, or too fine, for what the maps show; try another --voxel"));
    }
    let mut mesh = quads.into_triangles();
    mesh.make_manifold();
    Ok(mesh)
}
