//! What fusion holds in memory: all maps at once, or, where there is less room, what is held of them at a time (how
//! that is done: [`crate::fusion::spilled`]).

use crate::files::ply::Point;
use crate::fusion::block::Candidate;
use crate::fusion::settings::Method;
use crate::fusion::spilled::{Budget, CLEANING_BYTES, OWN_BYTES, POINT_BYTES, cloud_bytes};
use crate::fusion::thin::Voxels;
use crate::host::memory::{Part, StageMemory};

/// The program, the weights in several layouts and the threads' stacks; measured, rounded up.
pub const PROGRAM_BYTES: u64 = 48 << 20;

/// Bytes of each view of the scene without pixels: camera, names and sources, as read, as planned, and as fusion has
/// them. Planning a million views took 2 kB of each (docs/CLUSTER.md); fusion has three more copies of some of it.
pub const VIEW_BYTES: u64 = 3 << 10;
/// Bytes a pixel of depth, confidence and colour.
const MAPS_BYTES: u64 = 11;
/// Bytes of depths a pixel.
const DEPTH_BYTES: u64 = 4;
/// Bytes a pixel of the view whose turn it is that a tile takes beside: the depths near it, and which pixels are in
/// doubt.
const TILED_BYTES: u64 = 4 + 1;
/// Windows of a thread: less would take a window for a few points each, more would not be faster.
const WINDOWS: (u64, u64) = (256 << 10, 64 << 20);
/// Pixels whose points are made at once, likewise.
const PIXELS: (u64, u64) = (1 << 14, 1 << 20);

/// What fusing maps of so many pixels in all holds, and a photo that is decoded beside it.
pub fn fusion_stage(maps_pixels: u64, photo: u64, method: &Method) -> StageMemory {
    let points = maps_pixels * method.points_a_pixel();
    let parts = vec![
        Part::new("depth, confidence and colours of all views", maps_pixels * 11),
        Part::new("the method's own of all views", maps_pixels * method.bytes_a_pixel()),
        Part::new("points, if every pixel became one", points * size_of::<Point>() as u64),
        Part::new("a photo being decoded", photo),
        Part::new("program and weights", PROGRAM_BYTES),
    ];
    StageMemory::new("fusion", parts)
}

/// How views are fused one by one.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Whether the cloud is thinned.
    pub thinned: bool,
}

/// What views come to that are fused one after the other.
#[derive(Clone, Debug)]
pub struct StreamedViews {
    /// Pixels of each view's maps.
    pub pixels: Vec<u64>,
    /// For each view those that confirm it.
    pub sources: Vec<Vec<usize>>,
    /// Bytes that a photo takes while it is decoded for a view.
    pub photo: u64,
    /// Whether all maps are in memory before they are put aside.
    pub held: bool,
    /// Whether the cloud is thinned, which happens in memory.
    pub thinned: bool,
    /// Whether only the points of a tile are made.
    pub tiled: bool,
}

/// How much is held at a time.
#[derive(Clone, Debug)]
pub struct Streaming {
    /// For maps.
    pub budget: Budget,
    /// Views that are put aside at once.
    pub views_at_once: usize,
    /// Bytes of voxels, where the cloud is thinned.
    pub voxels: u64,
    /// What that comes to.
    pub stages: Vec<StageMemory>,
}

impl Streaming {
    /// For this room, or with the least that there must be where that is more.
    pub fn plan(views: &StreamedViews, room: u64) -> Self {
        let StreamedViews { pixels, sources, .. } = views;
        let threads = rayon::current_num_threads() as u64;
        let (all, largest) = (pixels.iter().sum::<u64>(), pixels.iter().copied().max().unwrap_or(0));
        let of_turn = |(own, sources): (&u64, &Vec<usize>)| own + sources.iter().map(|&s| pixels[s]).sum::<u64>();
        let turn = pixels.iter().zip(sources).map(of_turn).max().unwrap_or(0) * DEPTH_BYTES;

        let own = largest * (OWN_BYTES + if views.tiled { TILED_BYTES } else { 0 });
        let point_bytes = POINT_BYTES + if views.tiled { 2 * size_of::<Candidate>() as u64 } else { 0 };
        // Of a tile two: points that are sure, and points that are not.
        let cloud = cloud_bytes(all) * if views.tiled { 2 } else { 1 };
        let least_made = PIXELS.0.min(largest);
        let known = pixels.len() as u64 * VIEW_BYTES;
        let least = PROGRAM_BYTES + known + turn + own + cloud + least_made * point_bytes + threads * WINDOWS.0;
        // The allocator rounds up and keeps gaps between its blocks.
        let spare = room.saturating_sub(least) / 8 * 7;
        let made = (least_made + spare / 4 / point_bytes).min(PIXELS.1).min(largest);
        let windows = (WINDOWS.0 + spare / 4 / threads).min(WINDOWS.1);
        let voxels = if views.thinned { spare / 4 + Voxels::BYTES } else { 0 };
        let taken = (made - least_made) * point_bytes + threads * (windows - WINDOWS.0) + voxels;
        let depths = (turn + spare.saturating_sub(taken)).min(all * DEPTH_BYTES);

        let of_view = largest * (MAPS_BYTES + CLEANING_BYTES) + views.photo;
        let held = if views.held { all * MAPS_BYTES } else { 0 };
        let views_at_once = (room.saturating_sub(PROGRAM_BYTES + known + held) / of_view.max(1)).clamp(1, threads);
        let aside = vec![
            Part::new("depth, confidence and colours of all views", held),
            Part::new("views that are put aside at once", views_at_once * of_view),
            Part::new("cameras, names and sources of all views", known),
            Part::new("program and weights", PROGRAM_BYTES),
        ];
        let fused = vec![
            Part::new("depths of a view and its sources, and those kept for the next views", depths),
            Part::new("the rest of a view's maps", own),
            Part::new("points that are made at once", made * point_bytes),
            Part::new("windows of other views' maps", threads * windows),
            Part::new("where the points are, if every pixel became one", cloud),
            Part::new("voxels", voxels),
            Part::new("cameras, names and sources of all views", known),
            Part::new("program and weights", PROGRAM_BYTES),
        ];
        let stages =
            vec![StageMemory::new("putting maps aside", aside), StageMemory::new("fusion, view by view", fused)];
        let budget = Budget { depths, windows, pixels: made as usize };
        Self { budget, views_at_once: views_at_once as usize, voxels, stages }
    }

    /// Bytes of the largest stage.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(StageMemory::total).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_planned_fits_where_it_can_and_is_the_least_elsewhere() {
        let views = |count: usize, held| StreamedViews {
            pixels: (0..count as u64).map(|i| 1_000_000 + i).collect(),
            sources: (0..count).map(|at| (0..count).filter(|s| *s != at).take(4).collect()).collect(),
            photo: 30_000_000,
            held,
            thinned: false,
            tiled: false,
        };
        let least = Streaming::plan(&views(100, false), 0);
        assert!(least.peak() < 300_000_000, "{}", least.peak());
        // Five maps of a million depths, 100 million pixels that may be points.
        assert!(least.budget.depths >= 20_000_000 && least.peak() > 60_000_000);
        for room in [least.peak(), 400_000_000, 1_000_000_000, 20_000_000_000] {
            let plan = Streaming::plan(&views(100, false), room);
            assert!(plan.peak() <= room, "{room}: {:?}", plan.stages);
            assert!(plan.budget.depths >= least.budget.depths && plan.budget.depths <= 400_100_000);
        }
        assert!(Streaming::plan(&views(100, false), 20_000_000_000).budget.depths == 400_019_800);
        let (once, more) = (views(100, false), views(1000, false));
        assert!(Streaming::plan(&more, 0).peak() < 2 * Streaming::plan(&once, 0).peak(), "little grows with the views");
        // Maps that are there already count until they are put aside.
        assert!(Streaming::plan(&views(100, true), 0).peak() > 1_100_000_000);
    }
}
