//! What a run will hold in memory, computed before it starts.

use crate::fusion::settings::{Method, Reprojection};
use crate::host::memory::{Alternative, MemoryNeed, Part, StageMemory};
use crate::net::KEPT_BY_THE_ALLOCATOR;
use crate::scene::{Scene, View};

use crate::run::depth::feature_bytes;
use crate::run::plan::{Frame, Plan, ViewPlan};
use crate::run::write::photos_at_once;

/// The program, the weights in several layouts and the threads' stacks; measured, rounded up.
const PROGRAM_BYTES: u64 = 48 << 20;

/// A run's size apart from the scene's photos.
#[derive(Clone, Copy)]
pub struct RunSize<'a> {
    /// Bytes of host memory that the network takes for photos of a width and height and a number of planes.
    pub network: &'a dyn Fn(usize, usize, usize) -> u64,
    /// Levels of the pyramid.
    pub levels: usize,
    /// Whether depth maps are still to be made (an earlier run may have made them all).
    pub depth_left: bool,
    /// Whether points are made.
    pub fused: bool,
    /// Bytes of features that are kept at once.
    pub cache: u64,
}

/// Needs of a run on `views`, whose photos and all others look like `frames` (`stored` as on disk), with other
/// numbers of planes than planned where `planes` says so.
pub fn need(stored: &[View], frames: &[Frame], views: &[ViewPlan], planes: Option<usize>, run: &RunSize) -> MemoryNeed {
    let threads = rayon::current_num_threads();
    let maps_pixels: u64 = views.iter().map(|v| level_pixels(&frames[v.view], 0)).sum();
    let mut stages = Vec::new();
    if run.depth_left {
        let network = views
            .iter()
            .map(|v| {
                let frame = &frames[v.view];
                (run.network)(frame.width, frame.height, planes.unwrap_or(v.planes))
            })
            .max()
            .unwrap_or(0);
        let used = views.iter().flat_map(|v| v.sources.iter().copied().chain([v.view]));
        let photos = used.map(|v| photo_bytes(&stored[v], &frames[v], run.levels)).max().unwrap_or(0);
        stages.push(StageMemory {
            stage: "depth",
            parts: vec![
                Part::new("network, at the largest view", network),
                Part::new("feature maps that are kept for the next views", run.cache),
                Part::new("photos being decoded and used", photos),
                Part::new("program and weights", PROGRAM_BYTES),
            ],
        });
    }
    let all_levels: u64 =
        views.iter().flat_map(|v| (0..run.levels).map(|level| level_pixels(&frames[v.view], level))).sum();
    let one_photo = views.iter().map(|v| photo_bytes(&stored[v.view], &frames[v.view], 1)).max().unwrap_or(0);
    stages.push(StageMemory {
        stage: "merging levels, maps",
        parts: vec![
            Part::new("depth and confidence of all views and levels", all_levels * 8),
            Part::new("agreement of the views", level_pixels_max(frames, views) * 8 * threads as u64),
            Part::new("colours of the photos", maps_pixels * 3),
            Part::new("photos that are decoded at once", one_photo * photos_at_once() as u64),
            Part::new("what the allocator keeps of photos before", one_photo.min(KEPT_BY_THE_ALLOCATOR)),
            Part::new("program and weights", PROGRAM_BYTES),
        ],
    });
    if run.fused {
        stages.push(fusion(maps_pixels, 0, &Method::Reprojection(Reprojection::default())));
    }
    MemoryNeed { stages }
}

/// What fusing maps of so many pixels in all holds, and a photo that is decoded beside it.
pub fn fusion(maps_pixels: u64, photo: u64, method: &Method) -> StageMemory {
    StageMemory {
        stage: "fusion",
        parts: vec![
            Part::new("depth, confidence and colours of all views", maps_pixels * 11),
            Part::new("the method's own of all views", maps_pixels * method.bytes_a_pixel()),
            Part::new("points, if every pixel became one", maps_pixels * method.points_a_pixel() * 32),
            Part::new("a photo being decoded", photo),
            Part::new("program and weights", PROGRAM_BYTES),
        ],
    }
}

/// Bytes that one reference view with its sources takes for features on all levels.
pub fn features_of_one_view(frames: &[Frame], view: &ViewPlan, levels: usize) -> u64 {
    let photos = view.sources.iter().copied().chain([view.view]);
    photos.flat_map(|p| (0..levels).map(move |level| feature_bytes(&frames[p], level))).sum()
}

/// The options that could make a run smaller, with what it would need then.
pub fn alternatives<'a>(scene: &'a Scene, plan: &'a Plan, run: RunSize<'a>) -> Vec<Alternative<'a>> {
    // With another option, the maps of an earlier run would be of no use.
    let run = RunSize { depth_left: true, ..run };
    // With other sizes the cache shrinks to the least.
    let least = move |frames: &[Frame]| {
        plan.views.iter().map(|v| features_of_one_view(frames, v, run.levels)).max().unwrap_or(0)
    };
    let side = plan.frames.iter().map(|f| f.width.max(f.height)).max().unwrap_or(0);
    let planes = plan.views.iter().map(|v| v.planes).max().unwrap_or(0);
    let with_side = move |side: usize| {
        let frames: Vec<Frame> = scene.views.iter().map(|v| Frame::new(v, Some(side))).collect();
        let run = RunSize { cache: least(&frames), ..run };
        need(&scene.views, &frames, &plan.views, None, &run).peak()
    };
    let with_planes = move |planes: usize| {
        let run = RunSize { cache: least(&plan.frames), ..run };
        need(&scene.views, &plan.frames, &plan.views, Some(planes), &run).peak()
    };
    vec![
        Alternative { option: "--max-side", values: below(side, 32), need: Box::new(with_side) },
        Alternative { option: "--planes", values: below(planes, 8), need: Box::new(with_planes) },
    ]
}

/// What the run would need with the smallest `--max-side` and `--planes` that [`alternatives`] proposes: the photos
/// must be decoded at their stored size all the same.
pub fn smallest(scene: &Scene, plan: &Plan, run: RunSize) -> u64 {
    let frames: Vec<Frame> = scene.views.iter().map(|v| Frame::new(v, Some(64))).collect();
    let cache = plan.views.iter().map(|v| features_of_one_view(&frames, v, run.levels)).max().unwrap_or(0);
    let run = RunSize { cache, depth_left: true, ..run };
    need(&scene.views, &frames, &plan.views, Some(16), &run).peak()
}

/// The multiples of `step` under `value`, largest first, as long as a result would still be of use.
fn below(value: usize, step: usize) -> Vec<usize> {
    (2..value.div_ceil(step)).rev().map(|i| i * step).collect()
}

fn level_pixels(frame: &Frame, level: usize) -> u64 {
    let (width, height) = frame.map_size(level);
    width as u64 * height as u64
}

fn level_pixels_max(frames: &[Frame], views: &[ViewPlan]) -> u64 {
    views.iter().map(|v| level_pixels(&frames[v.view], 0)).max().unwrap_or(0)
}

/// One photo in use with its levels, and another one on its way: as decoded (up to 16 bits a channel), as f32, and
/// undistorted or filtered.
pub fn photo_bytes(view: &View, frame: &Frame, levels: usize) -> u64 {
    let stored = view.size.0 as u64 * view.size.1 as u64;
    let reduced = frame.width as u64 * frame.height as u64;
    let decoding = stored * (6 + 12 + 12);
    // Level 0 before and after padding; further levels add up to at most a third.
    let in_use = reduced * 12 * if levels > 1 { 3 } else { 2 };
    in_use + decoding.max(in_use + reduced * 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_values_are_tried_from_the_largest_down() {
        assert_eq!(below(100, 32), [96, 64]);
        assert_eq!(below(96, 32), [64]);
        assert_eq!(below(24, 8), [16]);
        assert!(below(8, 8).is_empty() && below(0, 8).is_empty());
    }
}
