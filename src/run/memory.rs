//! What a run will hold in memory, computed before it starts, and whether there is as much. How much there is tells
//! [`crate::host::memory_limits`].

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::files::image::{bytes_while_decoded, may_have_alpha};
use crate::fusion::settings::{Method, Reprojection};
use crate::host::memory::{Alternative, MemoryNeed, Part, StageMemory, readable, refuse_if_too_large};
use crate::host::memory_limits::room;
use crate::net::backend::{DepthNetwork, DeviceWork, JobSize, KEPT_BY_THE_ALLOCATOR, PhotoSize, Pipeline};
use crate::net::config::Resolution;
use crate::run::fusion_memory::{PROGRAM_BYTES, Stream, StreamedViews, Streaming, fusion_stage};
use crate::run::jobs::{LevelJobs, Levels, shown_bytes};
use crate::run::options::InferOptions;
use crate::run::plan::{Frame, Plan, Shown, ViewPlan, Work, places};
use crate::scene::{Scene, View};

/// What a run's memory depends on.
#[derive(Clone, Copy)]
pub struct RunSize<'a> {
    /// All views of the scene, for their photos as stored.
    pub stored: &'a [View],
    /// What all photos look like to the network.
    pub frames: &'a [Frame],
    /// The views that get a depth map.
    pub views: &'a [ViewPlan],
    /// Bytes of host memory that the network takes for photos of a width and height and a number of planes.
    pub network: &'a dyn Fn(usize, usize, usize) -> u64,
    /// Planes of all views, where they are not the planned ones.
    pub planes: Option<usize>,
    /// Levels of the pyramid.
    pub levels: usize,
    /// Whether depth maps are still to be made (an earlier run may have made them all).
    pub depth_left: bool,
    /// Whether levels are merged and maps written.
    pub finishes: bool,
    /// Whether points are made.
    pub fused: bool,
    /// How views can be fused one by one, where they can.
    pub stream: Option<Stream>,
    /// Bytes that there are; views are fused one by one where all of them take more.
    pub room: u64,
    /// Bytes of features that are kept at once.
    pub cache: u64,
    /// Photos that are decoded at once for the network.
    pub decoders: usize,
    /// Bytes of decoded photos that are kept, since faces are cut of them.
    pub kept: u64,
}

impl<'a> RunSize<'a> {
    /// Of a run that has everything before it and keeps the least of features.
    pub fn new(
        scene: &'a Scene,
        plan: &'a Plan,
        options: &InferOptions,
        network: &'a dyn Fn(usize, usize, usize) -> u64,
    ) -> Self {
        let Plan { views, frames, .. } = plan;
        let (levels, fused) = (options.levels, !options.depth_only);
        let stored = &scene.views;
        let stream = options.settings.fusion.method.takes_views_one_by_one();
        let stream = stream.then_some(Stream { thinned: options.thin.is_some() });
        let (depth_left, finishes, room) = (true, true, u64::MAX);
        let (planes, cache, decoders, kept) = (None, 0, 1, 0);
        Self {
            stored,
            frames,
            views,
            network,
            planes,
            levels,
            depth_left,
            finishes,
            fused,
            stream,
            room,
            cache,
            decoders,
            kept,
        }
        .with_least_cache()
    }

    /// With room for the features of any one view and its sources, but no more.
    pub fn with_least_cache(self) -> Self {
        let levels = levels_of(self.views, self.levels);
        let bytes = |view: &ViewPlan| view.shown().map(|(photo, _)| shown_bytes(self.frames, photo, &levels)).sum();
        Self { cache: self.views.iter().map(bytes).max().unwrap_or(0), ..self }
    }

    /// What is held at each stage.
    pub fn need(&self) -> MemoryNeed {
        let RunSize { stored, frames, views, levels, .. } = *self;
        let mut stages = Vec::new();
        if self.depth_left {
            let of_view = |v: &ViewPlan| {
                let Frame { width, height, .. } = frames[v.view];
                (self.network)(width, height, self.planes.unwrap_or(v.planes))
            };
            let shown = levels_of(views, levels);
            let photos = shown.iter().map(|(photo, levels)| {
                let (view, frame) = (&stored[photo.photo], &frames[photo.photo]);
                let deepest = levels.last().map_or(0, |&level| level.max(0) as usize);
                // Enlarged, before and after padding, of a photo in use and of one on its way.
                let enlarged = levels.range(..0).map(|&level| frame.shown(photo.quarter_turns, level).0);
                let enlarged: u64 = enlarged.map(|frame| (frame.width * frame.height) as u64 * 12 * 4).sum();
                photo_bytes(view, frame, deepest + 1) + enlarged
            });
            let photos = photos.max().unwrap_or(0);
            // Features of photos that are larger than the views; they take the most on the finest level.
            let of_photo = |(photo, levels): (&Shown, &BTreeSet<i32>)| {
                let (frame, level) = frames[photo.photo].shown(photo.quarter_turns, *levels.first()?);
                Some((self.network)(frame.width.div_ceil(1 << level), frame.height.div_ceil(1 << level), 1))
            };
            let network = views.iter().map(of_view).chain(shown.iter().filter_map(of_photo)).max().unwrap_or(0);
            let mut parts = vec![
                Part::new("network, at the largest view", network),
                Part::new("feature maps that are kept for the next views", self.cache),
                Part::new("photos being decoded and used", photos * self.decoders as u64),
                Part::new("program and weights", PROGRAM_BYTES),
            ];
            parts.extend(self.kept_part());
            stages.push(StageMemory::new("depth", parts));
        }
        if !self.finishes {
            return MemoryNeed { stages };
        }
        if !self.merges_in_blocks() {
            stages.push(self.merging_at_once());
        }
        if self.fused {
            match self.streaming() {
                None => stages.push(self.fusion_at_once()),
                Some(streaming) => stages.extend(streaming.stages),
            }
        }
        MemoryNeed { stages }
    }

    /// What merging the levels of all views at once, and writing their maps, takes.
    fn merging_at_once(&self) -> StageMemory {
        let RunSize { stored, frames, views, levels, .. } = *self;
        let threads = rayon::current_num_threads();
        let maps_pixels: u64 = views.iter().map(|v| level_pixels(&frames[v.view], 0)).sum();
        let all_levels: u64 =
            views.iter().flat_map(|v| (0..levels).map(|level| level_pixels(&frames[v.view], level))).sum();
        let has_alpha =
            |view: &View| view.in_memory.as_ref().map_or_else(|| may_have_alpha(&view.image), |p| p.has_mask());
        let may_be_masked = |v: &&ViewPlan| {
            let view = &stored[v.view];
            view.mask.is_some() || view.face().is_some() || has_alpha(view)
        };
        let masks_pixels: u64 = views.iter().filter(may_be_masked).map(|v| level_pixels(&frames[v.view], 0)).sum();
        let one_photo = views.iter().map(|v| photo_bytes(&stored[v.view], &frames[v.view], 1)).max().unwrap_or(0);
        let largest = views.iter().map(|v| level_pixels(&frames[v.view], 0)).max().unwrap_or(0);
        let mut parts = vec![
            Part::new("depth and confidence of all views and levels", all_levels * 8),
            Part::new("agreement of the views", (largest * 8 * threads as u64).max(maps_pixels * 8)),
            Part::new("colours of the photos", maps_pixels * 3),
            Part::new("masks", masks_pixels),
            Part::new("photos that are decoded at once", one_photo * photos_at_once() as u64),
            Part::new("what the allocator keeps of photos before", one_photo.min(KEPT_BY_THE_ALLOCATOR)),
            Part::new("program and weights", PROGRAM_BYTES),
        ];
        parts.extend(self.kept_part());
        StageMemory::new("merging levels, maps", parts)
    }

    fn kept_part(&self) -> Option<Part> {
        (self.kept > 0).then(|| Part::new("decoded photos that are kept for their other faces", self.kept))
    }

    /// The same with decoded photos kept in half of what is left over, if faces are cut of any.
    fn with_kept_photos(self) -> Self {
        let used: BTreeSet<usize> = self.views.iter().flat_map(ViewPlan::shown).map(|(shown, _)| shown.photo).collect();
        let of_faces = used.into_iter().map(|view| &self.stored[view]).filter(|view| view.face().is_some());
        // Up to four channels of 16 bits.
        let bytes = |view: &View| 8 * view.stored_size().0 as u64 * view.stored_size().1 as u64;
        let all: u64 = of_faces.map(|view| (&view.image, bytes(view))).collect::<BTreeMap<_, _>>().into_values().sum();
        let left = self.room.saturating_sub(self.need().peak());
        // Where views are merged in blocks there is nothing left over.
        let kept = if self.merges_in_blocks() { 0 } else { all.min(left / 2) };
        Self { kept, ..self }
    }

    /// Whether views are merged in blocks that fit into memory ([`crate::run::merging::Merging::blocks`]), since all at
    /// once do not, and nobody needs all of them then.
    pub fn merges_in_blocks(&self) -> bool {
        let is_needed = self.fused && (self.stream.is_none() || self.fusion_at_once().total() <= self.room);
        !is_needed && self.merging_at_once().total() > self.room
    }

    /// What fusing all views at once takes.
    pub fn fusion_at_once(&self) -> StageMemory {
        let pixels = self.views.iter().map(|v| level_pixels(&self.frames[v.view], 0)).sum();
        fusion_stage(pixels, 0, &Method::Reprojection(Reprojection::default()))
    }

    /// How views are fused one by one, where that is asked of less room than all of them take.
    pub fn streaming(&self) -> Option<Streaming> {
        let stream = self.stream.filter(|_| self.fused)?;
        let at_once = self.fusion_at_once().total();
        if at_once <= self.room {
            return None;
        }
        let views = StreamedViews {
            pixels: self.views.iter().map(|v| level_pixels(&self.frames[v.view], 0)).collect(),
            sources: self.views.iter().map(|v| places(self.views, &v.check)).collect(),
            photo: 0,
            held: !self.merges_in_blocks(),
            thinned: stream.thinned,
            tiled: false,
        };
        Some(Streaming::plan(&views, self.room)).filter(|streaming| streaming.peak() < at_once)
    }

    /// The options that could make it smaller, with what it would need then.
    pub fn alternatives(self) -> Vec<Alternative<'a>> {
        // With another option, the maps of an earlier run would be of no use.
        let run = RunSize { depth_left: true, ..self };
        let side = run.frames.iter().map(|f| f.width.max(f.height)).max().unwrap_or(0);
        let planes = run.views.iter().map(|v| v.planes).max().unwrap_or(0);
        let with_planes = move |planes| RunSize { planes: Some(planes), ..run }.with_least_cache().need().peak();
        vec![
            Alternative {
                option: "--max-side",
                values: below(side, 32),
                need: Box::new(move |side| run.peak_at(side, None)),
            },
            Alternative { option: "--planes", values: below(planes, 8), need: Box::new(with_planes) },
        ]
    }

    /// Its need with photos of another size.
    fn peak_at(self, max_side: usize, planes: Option<usize>) -> u64 {
        let resolution = self.frames.first().map_or(Resolution::Full, |frame| frame.resolution);
        let frames: Vec<Frame> = self.stored.iter().map(|v| Frame::new(v, Some(max_side), resolution)).collect();
        // Photos of different sizes may come to the same one.
        let views: Vec<ViewPlan> = self.views.iter().map(|v| v.clone().with_looks(&frames)).collect();
        RunSize { frames: &frames, views: &views, planes, ..self }.with_least_cache().need().peak()
    }
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// To the end.
    Whole,
    /// To the maps of all levels.
    Maps,
    /// All of it, but for points, which are there.
    Joined,
}

/// What [`fit_run`] has found.
pub struct FittedRun {
    /// The run's memory.
    pub need: MemoryNeed,
    /// How many bytes of it, or of the device's where features live there, features may take.
    pub cache: u64,
    /// How many bytes decoded photos may take of which faces are cut.
    pub kept: u64,
    /// How views are fused one by one, where there is no room for all of them.
    pub streaming: Option<Streaming>,
    /// What is to be said about that: bytes that all views would take, and those that there are.
    pub put_aside: Option<(u64, u64)>,
    /// Whether levels are merged in blocks.
    pub in_blocks: bool,
}

/// The run's memory, and what may be held in it.
///
/// # Errors
/// [`Error::Memory`] where the run would not fit; the device's.
pub fn fit_run<N: DepthNetwork>(work: Work, network: &N, jobs: &LevelJobs, extent: Extent) -> Result<FittedRun> {
    let Work { scene, plan, options, progress, .. } = work;
    let there = room(options.memory);
    let (least, most) = jobs.cache_bounds(plan);
    let finest = options.resolution;
    let host = |width, height, planes| {
        network.memory_plan((width, height), planes, rayon::current_num_threads(), finest).peak(0)
    };
    let depth_left = !jobs.all_finished();
    let finishes = extent != Extent::Maps;
    let decoders = pipeline_of(network).decoders * network.each().len();
    let run =
        RunSize { depth_left, finishes, room: there.bytes, decoders, ..RunSize::new(scene, plan, options, &host) };
    let run = RunSize { fused: run.fused && extent != Extent::Joined, ..run };
    let streaming = run.streaming();
    let put_aside = streaming.as_ref().map(|_| (run.fusion_at_once().total(), there.bytes));
    let in_blocks = run.merges_in_blocks();
    let fitted = |of_host: u64, cache: u64| {
        let run = RunSize { cache: of_host, ..run }.with_kept_photos();
        FittedRun { need: run.need(), cache, kept: run.kept, streaming: streaming.clone(), put_aside, in_blocks }
    };
    let need = |cache: u64| RunSize { cache, ..run }.need();
    // Views that are fused one by one take what there is, but not before the features are gone.
    let beside = |cache: u64| RunSize { cache, fused: run.fused && streaming.is_none(), ..run }.need().peak();
    let device = if depth_left { network.device_plan(&device_work(plan, options))? } else { None };
    if let Some(device) = device {
        progress.note(&device.text);
        if least > device.room {
            return Err(Error::Memory(format!(
                "the features of one view and its sources take {}, and the device has room for {}; try a smaller \
                 --max-side, fewer --views or more --vram",
                readable(least),
                readable(device.room)
            )));
        }
        let otherwise = "smaller photos, fewer views (--view) or a machine with more memory would help";
        // What is kept is on the device.
        refuse_if_too_large(&need(0), &there, &run.alternatives(), otherwise)?;
        return Ok(fitted(0, device.room.min(most)));
    }
    // With the smallest values that are proposed: the photos must be decoded at their stored size all the same.
    let tiny = RunSize { depth_left: true, ..run }.peak_at(64, Some(16));
    let otherwise = if tiny <= there.bytes {
        "no single option makes it fit; try a smaller --max-side together with fewer --planes".to_owned()
    } else {
        format!(
            "no option makes it fit: reading photos of this size takes {} in any case; smaller copies of them, fewer \
             views (--view) or a machine with more memory would help",
            readable(tiny)
        )
    };
    refuse_if_too_large(&need(least), &there, &run.alternatives(), &otherwise)?;
    // Half of what is left over: other programs want some, too.
    let cache = (least + (there.bytes - beside(least)) / 2).min(most).max(least);
    Ok(fitted(cache, cache))
}

/// What is done at the same time on each of a network's devices: they share the threads.
pub fn pipeline_of<N: DepthNetwork>(network: &N) -> Pipeline {
    network.pipeline((rayon::current_num_threads() / network.each().len()).max(1))
}

/// The levels on which each photo is shown to the network, over all views.
fn levels_of(views: &[ViewPlan], levels: usize) -> Levels {
    let mut all = Levels::new();
    for (photo, look) in views.iter().flat_map(ViewPlan::shown) {
        all.entry(photo).or_default().extend((0..levels).map(|level| look.level(level)));
    }
    all
}

/// The sizes of all feature maps and of all depth maps that a run may have to make.
fn device_work(plan: &Plan, options: &InferOptions) -> DeviceWork {
    let levels = options.levels;
    let map_size = |photo: Shown, level: i32| {
        let (frame, level) = plan.frames[photo.photo].shown(photo.quarter_turns, level);
        let (width, height) = frame.quarter_size(level);
        (4 * width, 4 * height)
    };
    let job = |view: &ViewPlan, level: usize| {
        let mut sizes = view.shown().map(|(photo, look)| map_size(photo, look.level(level)));
        let reference = sizes.next().unwrap_or((0, 0));
        // Features of all the views that meet lie side by side: the largest counts.
        let (width, height) = sizes.fold(reference, |(w, h), (x, y)| (w.max(x), h.max(y)));
        JobSize { width, height, reference, planes: view.planes, views: view.sources.len() + 1, slot: level }
    };
    let of_photo = |(&Shown { photo, quarter_turns }, levels): (&Shown, &BTreeSet<i32>)| -> Vec<PhotoSize> {
        let size = |level: i32, levels: u32| {
            let Frame { width, height, .. } = plan.frames[photo].shown(quarter_turns, level).0;
            PhotoSize { width, height, levels }
        };
        // Those that are larger than the photo are photos of their own.
        let enlarged = levels.range(..0).map(|&level| size(level, 1));
        let own = levels.range(0..).fold(0, |own, level| own | 1u32 << level);
        enlarged.chain((own != 0).then(|| size(0, own))).collect()
    };
    DeviceWork {
        photos: levels_of(&plan.views, levels).iter().flat_map(of_photo).collect(),
        maps: plan.views.iter().flat_map(|view| (0..levels).map(move |level| job(view, level))).collect(),
        finest: options.resolution,
        refined: options.refines(),
    }
}

/// The multiples of `step` under `value`, largest first, as long as a result would still be of use.
fn below(value: usize, step: usize) -> Vec<usize> {
    (2..value.div_ceil(step)).rev().map(|i| i * step).collect()
}

fn level_pixels(frame: &Frame, level: usize) -> u64 {
    let (width, height) = frame.map_size(level);
    width as u64 * height as u64
}

/// Photos that are held at once while views are merged and written: decoding is the slow part and uses one thread each,
/// but memory is worth more than the last second.
pub fn photos_at_once() -> usize {
    rayon::current_num_threads().min(4)
}

/// One photo in use with its levels, and another one on its way: as decoded (up to 16 bits a channel, and what its
/// decoder holds beside that), as f32, and undistorted or filtered.
pub fn photo_bytes(view: &View, frame: &Frame, levels: usize) -> u64 {
    let stored = view.stored_size().0 as u64 * view.stored_size().1 as u64;
    let reduced = frame.width as u64 * frame.height as u64;
    let decoding = stored * (bytes_while_decoded(&view.image) + 12 + 12);
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
