//! The main job: a scene's photos to depth maps and a point cloud ([`infer`]), and existing depth maps to a point
//! cloud ([`fuse`]).
//!
//! A run plans everything before it decodes a photo ([`plan`], [`need`]), makes the maps of every level of every view
//! in an order that reuses features ([`schedule`], [`depth`]) and keeps beside each what made it ([`sidecar`]), so
//! that a stopped run goes on; then it merges the levels, writes the maps and fuses them ([`finish`]).

pub mod depth;
pub mod device;
pub mod fuse;
pub mod fuse_grid;
pub mod memory;
pub mod plan;
pub mod resume;
pub mod schedule;
pub mod write;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map as Fields, Value, json};

use crate::error::Result;
use crate::files::folder::{self, OutputFolder};
use crate::files::map::Map;
use crate::files::pfm;
use crate::fusion::settings::{FusionOptions, Settings};
use crate::host::progress::Progress;
use crate::host::{interrupt, memory as host_memory, trace};
use crate::manifest::{DepthSummary, LevelSummary, MachineSummary, Manifest, NetworkSummary, SceneSummary};
use crate::maps::merge::MergeOptions;
use crate::net::backend::{DepthNetwork, JobSize};
use crate::scene::camera::{DepthRange, Sampling};
use crate::scene::{OpenOptions, Scene};

pub use self::fuse::{FuseOptions, MapsOptions};

use self::device::Geometry;
use self::memory::RunSize;
use self::plan::{Plan, ViewPlan};

/// Everything that [`infer`] can be told.
#[derive(Clone, Debug)]
pub struct InferOptions {
    /// Where results go; `None`: [`folder::default_folder`].
    pub out: Option<PathBuf>,
    /// Write into a folder that holds other things.
    pub force: bool,
    /// Also write normals.
    pub normals: bool,
    /// Make no point cloud.
    pub depth_only: bool,
    /// How the scene is read.
    pub open: OpenOptions,
    /// Longest side of the photos, in pixels.
    pub max_side: Option<usize>,
    /// Names of the views to work on; empty: all.
    pub only: Vec<String>,
    /// Views that the network looks at, the reference included.
    pub views: usize,
    /// Hypotheses; `None`: the scene's number, else 192.
    pub planes: Option<usize>,
    /// Depths to search; `None`: the scene's, else from its sparse points.
    pub range: Option<DepthRange>,
    /// How far ranges from sparse points are widened.
    pub widen_range: f64,
    /// Spacing of the hypotheses; `None`: by far / near.
    pub sampling: Option<Sampling>,
    /// Levels of the image pyramid.
    pub levels: usize,
    /// Source views that maps are checked against.
    pub check_sources: usize,
    /// How levels are merged.
    pub merge: MergeOptions,
    /// Which pixels become points.
    pub fusion: FusionOptions,
    /// Bytes to plan with; `None`: what is available.
    pub memory: Option<u64>,
    /// Where levels are merged and maps are fused.
    pub geometry: Geometry,
}

/// Does everything: reads the scene, makes depth maps, merges the levels, fuses, and writes.
///
/// # Errors
/// Inputs that cannot be used, a run that would not fit in memory, files that cannot be written,
/// [`crate::Error::Interrupted`], and [`crate::Error::Nothing`] where no point survived (all maps are written then).
pub fn infer<N: DepthNetwork>(
    scene_path: &Path,
    network: &N,
    options: &InferOptions,
    progress: &Progress,
) -> Result<()> {
    let mut clock = Clock::new();
    let mut scene = Scene::open(scene_path, &options.open)?;
    let plan = plan::plan(&mut scene, options)?;
    let out_path = match &options.out {
        Some(out) => out.clone(),
        None => folder::default_folder(scene_path)?,
    };
    let out = OutputFolder::new(&out_path, scene_path, options.force)?;
    progress.event(
        "start",
        json!({ "command": "infer", "version": env!("CARGO_PKG_VERSION"), "scene": scene_path, "out": out_path,
                "views": plan.views.len(), "levels": options.levels }),
    );
    let mut notes = scene.notes.clone();
    notes.extend(plan.notes.iter().cloned());
    notes.extend(subset_note(&scene, &plan.views));
    if !options.depth_only {
        notes.extend(unconfirmed_note(&plan.views));
    }
    notes.iter().for_each(|note| progress.note(note));

    let mut jobs = depth::find_finished(&scene, &plan, options.levels, network, &out_path)?;
    let (need, cache) = fit_into_memory(&scene, &plan, network, options, &jobs, progress)?;
    out.claim()?;
    clock.lap("preparation");

    let mut stage = depth::run(&scene, &plan, network, options.max_side, cache, &mut jobs, progress)?;
    for note in std::mem::take(&mut stage.notes) {
        progress.note(&note);
        notes.push(note);
    }
    clock.lap("depth");

    let merged = write::merge_levels(&scene, &plan, &jobs, &options.merge, &options.geometry, progress)?;
    clock.lap("merging levels");
    if let Some(note) = write::maps_of_other_runs(&scene, &plan, &out_path) {
        progress.note(&note);
        notes.push(note);
    }
    let (outputs, colours) = write::write_maps(&scene, &plan, &merged, options, &out_path, progress)?;
    clock.lap("maps");

    let views = write::fusion_views(&scene, &plan, merged.maps, colours);
    let mut summaries = write::view_summaries(&scene, &plan.frames, &views, &plan.views);
    for ((summary, view), (of_view, replaced)) in
        summaries.iter_mut().zip(&plan.views).zip(jobs.0.iter().zip(&merged.replaced))
    {
        summary.depth = Some(depth_summary(&scene, &plan, view, of_view, replaced));
        if let Some(depth) = &mut summary.depth {
            depth.photo_seconds = stage.photo_seconds.get(&view.view).copied();
        }
    }
    let manifest = Manifest {
        program: "engine",
        version: env!("CARGO_PKG_VERSION"),
        command: "infer",
        ended_unix_s: 0,
        scene: SceneSummary::new(&scene),
        notes,
        network: Some(NetworkSummary {
            weights: network.weights_name().to_owned(),
            weights_sha256: network.weights_hash().to_owned(),
            config: network.config().to_string(),
            precision: network.precision(),
        }),
        machine: MachineSummary { device: network.device(), ..MachineSummary::now(Some(need)) },
        parameters: parameters(options),
        views: summaries,
        funnel: None,
        points: 0,
        seconds: Value::Null,
        outputs,
    };
    let fusion = (!options.depth_only).then_some(&options.fusion);
    write::fuse_and_report(&views, fusion, &options.geometry, manifest, clock, &out_path, progress)
}

/// Says which part of the scene is worked on, where it is not all of it.
fn subset_note(scene: &Scene, views: &[ViewPlan]) -> Option<String> {
    let chosen = views.len();
    (chosen < scene.views.len()).then(|| {
        format!(
            "{chosen} of {} views get a depth map; levels and points are checked against these only",
            scene.views.len()
        )
    })
}

/// Says before the work that no point can come of it.
fn unconfirmed_note(views: &[ViewPlan]) -> Option<String> {
    let confirmed = views.iter().any(|view| views.iter().any(|other| view.check.contains(&other.view)));
    (!confirmed).then(|| {
        "no view has a source view among these that could confirm its depths, so there will be no point cloud: add \
         source views with --view, or give --depth-only"
            .to_owned()
    })
}

/// The run's memory, and how much of it features may take.
fn fit_into_memory<N: DepthNetwork>(
    scene: &Scene,
    plan: &Plan,
    network: &N,
    options: &InferOptions,
    jobs: &depth::LevelJobs,
    progress: &Progress,
) -> Result<(host_memory::MemoryNeed, u64)> {
    let available = options.memory.unwrap_or_else(host_memory::available);
    let (least, most) = jobs.cache_bounds(plan);
    let host = |width, height, planes| network.memory_plan(width, height, planes, rayon::current_num_threads()).peak(0);
    if !jobs.all_finished()
        && let Some(device) = network.device_plan(&job_sizes(plan, options.levels))?
    {
        progress.note(&device.text);
        return fit_beside_a_device(scene, plan, &host, options, jobs, device.room);
    }
    let depth_left = !jobs.all_finished();
    let run = RunSize { network: &host, levels: options.levels, depth_left, fused: !options.depth_only, cache: least };
    let need_with = |cache: u64| memory::need(&scene.views, &plan.frames, &plan.views, None, &RunSize { cache, ..run });
    let smallest = need_with(least);
    let tiny = memory::smallest(scene, plan, run);
    let otherwise = if tiny <= available {
        "no single option makes it fit; try a smaller --max-side together with fewer --planes".to_owned()
    } else {
        format!(
            "no option makes it fit: reading photos of this size takes {} in any case; smaller copies of them, fewer \
             views (--view) or a machine with more memory would help",
            host_memory::readable(tiny)
        )
    };
    host_memory::refuse_if_too_large(&smallest, available, &memory::alternatives(scene, plan, run), &otherwise)?;
    // Half of what is left over: other programs want some, too.
    let cache = (least + (available - smallest.peak()) / 2).min(most).max(least);
    Ok((need_with(cache), cache))
}

/// The same where features live in a device's memory, which has room for `room` bytes of them.
fn fit_beside_a_device(
    scene: &Scene,
    plan: &Plan,
    host: &dyn Fn(usize, usize, usize) -> u64,
    options: &InferOptions,
    jobs: &depth::LevelJobs,
    room: u64,
) -> Result<(host_memory::MemoryNeed, u64)> {
    let available = options.memory.unwrap_or_else(host_memory::available);
    let (least, most) = jobs.cache_bounds(plan);
    if least > room {
        return Err(crate::Error::Memory(format!(
            "the features of one view and its sources take {}, and the device has room for {}; try a smaller --max-side, fewer --views or more --vram",
            host_memory::readable(least),
            host_memory::readable(room)
        )));
    }
    let run = RunSize { network: host, levels: options.levels, depth_left: true, fused: !options.depth_only, cache: 0 };
    let need = memory::need(&scene.views, &plan.frames, &plan.views, None, &run);
    let otherwise = "smaller photos, fewer views (--view) or a machine with more memory would help";
    host_memory::refuse_if_too_large(&need, available, &memory::alternatives(scene, plan, run), otherwise)?;
    Ok((need, room.min(most)))
}

/// The sizes of all depth maps that a run may have to make.
fn job_sizes(plan: &Plan, levels: usize) -> Vec<JobSize> {
    let size = |view: &ViewPlan, level: usize| {
        // Features of all the views that meet lie side by side: the largest counts.
        let all = view.sources.iter().chain([&view.view]).map(|&v| plan.frames[v].map_size(level));
        let (width, height) = all.fold((0, 0), |(w, h), (x, y)| (w.max(x), h.max(y)));
        JobSize { width: 4 * width, height: 4 * height, planes: view.planes, views: view.sources.len() + 1 }
    };
    plan.views.iter().flat_map(|view| (0..levels).map(move |level| size(view, level))).collect()
}

fn depth_summary(
    scene: &Scene,
    plan: &Plan,
    view: &ViewPlan,
    jobs: &[depth::LevelJob],
    replaced: &[usize],
) -> DepthSummary {
    let level = |job: &depth::LevelJob| LevelSummary {
        level: job.level,
        map_size: plan.frames[view.view].map_size(job.level),
        seconds: job.seconds,
        reused: job.reused,
        replaced: replaced.get(job.level).copied().unwrap_or(0),
    };
    DepthSummary {
        sources: view.sources.iter().map(|&s| scene.views[s].name.clone()).collect(),
        range: view.range,
        range_from: view.range_from,
        planes: view.planes,
        sampling: view.sampling,
        photo_seconds: None,
        levels: jobs.iter().map(level).collect(),
    }
}

/// Every option as it was given or defaulted; `null` where the scene decided for each view.
fn parameters(options: &InferOptions) -> Value {
    let mut all = json!({
        "views": options.views,
        "planes": options.planes,
        "range": options.range,
        "widen_range": options.widen_range,
        "sampling": options.sampling,
        "levels": options.levels,
        "max_side": options.max_side,
        "only": options.only,
        "depth_numbers": options.open.depth_numbers,
        "layout": options.open.layout,
        "trusted_confidence": options.merge.trusted_confidence,
        "replaced_confidence": options.merge.replaced_confidence,
        "depth_only": options.depth_only,
        "normals": options.normals,
    });
    if let Value::Object(fields) = &mut all {
        fields.extend(Settings { check_sources: options.check_sources, fusion: options.fusion }.fields());
    }
    all
}

/// Writes a depth or confidence map, making its folder.
fn write_map(path: &Path, map: &Map) -> Result<()> {
    folder::make_folder_of(path)?;
    let _guard = interrupt::writing();
    pfm::write(path, map)
}

/// Takes the time of stages that follow each other.
pub struct Clock {
    began: Instant,
    lap: Instant,
    laps: Fields<String, Value>,
}

impl Clock {
    fn new() -> Self {
        let now = Instant::now();
        Self { began: now, lap: now, laps: Fields::new() }
    }

    fn lap(&mut self, stage: &'static str) {
        trace::ended(stage, self.lap);
        self.laps.insert(stage.into(), json!(self.lap.elapsed().as_secs_f64()));
        self.lap = Instant::now();
    }

    fn total(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Seconds by stage, and in all.
    fn seconds(&self) -> Value {
        let mut seconds = self.laps.clone();
        seconds.insert("total".into(), json!(self.total()));
        Value::Object(seconds)
    }
}
