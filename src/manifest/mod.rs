//! `manifest.json`: everything about a run that someone who only has its results may want to know.

pub mod finished;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::fusion::funnel::Funnel;
use crate::host::memory::MemoryNeed;
use crate::run::depth::PhotoSeconds;
use crate::run::plan::RangeFrom;
use crate::scene::camera::{DepthRange, Sampling};
use crate::scene::{Layout, Scene};

/// The file's content.
#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    /// Always `engine`.
    pub program: &'static str,
    /// The program's version.
    pub version: &'static str,
    /// `infer` or `fuse`.
    pub command: &'static str,
    /// When the run ended, in seconds since 1970-01-01 UTC.
    pub ended_unix_s: u64,
    /// What was worked on.
    pub scene: SceneSummary,
    /// What was assumed, chosen or skipped, one sentence each.
    pub notes: Vec<String>,
    /// The network, where one was used.
    pub network: Option<NetworkSummary>,
    /// The machine's part.
    pub machine: MachineSummary,
    /// Every option with its value.
    pub parameters: Value,
    /// Per view: what was done and what came out.
    pub views: Vec<ViewSummary>,
    /// Pixels that were left after each filter, all views together; `null` where nothing was fused.
    pub funnel: Option<Funnel>,
    /// Points in the cloud.
    pub points: usize,
    /// Time by stage.
    pub seconds: Value,
    /// Files and folders that were written, relative to the manifest.
    pub outputs: Vec<String>,
}

/// What was worked on.
#[derive(Clone, Debug, Serialize)]
pub struct SceneSummary {
    /// The scene's folder.
    pub path: PathBuf,
    /// How it is laid out.
    pub layout: Layout,
    /// Its photos.
    pub views: usize,
    /// Its sparse points.
    pub points: usize,
}

impl SceneSummary {
    /// Of a scene.
    pub fn new(scene: &Scene) -> Self {
        let path = scene.root.canonicalize().unwrap_or_else(|_| scene.root.clone());
        Self { path, layout: scene.layout, views: scene.views.len(), points: scene.points.len() }
    }
}

/// Which network was used.
#[derive(Clone, Debug, Serialize)]
pub struct NetworkSummary {
    /// The checkpoint's path, or `built-in`.
    pub weights: String,
    /// SHA-256 of the checkpoint.
    pub weights_sha256: String,
    /// Aggregation, difference and decoder.
    pub config: String,
    /// How activations were stored: `f32` or `f16`.
    pub precision: &'static str,
}

/// What it ran on.
#[derive(Clone, Debug, Serialize)]
pub struct MachineSummary {
    /// `cpu`, or the GPU's name.
    pub device: String,
    /// Threads that worked.
    pub threads: usize,
    /// The instruction set of the network's arithmetic.
    pub simd: &'static str,
    /// Memory that the run was planned to need, in bytes by stage and purpose.
    pub memory_planned: Option<MemoryNeed>,
    /// The most memory that the process held, in bytes, where the system tells.
    pub memory_peak: Option<u64>,
}

impl MachineSummary {
    /// Of this process so far.
    pub fn now(memory_planned: Option<MemoryNeed>) -> Self {
        Self {
            device: "cpu".into(),
            threads: rayon::current_num_threads(),
            simd: crate::net::simd_level(),
            memory_planned,
            memory_peak: crate::host::memory::peak(),
        }
    }
}

/// One view's part.
#[derive(Clone, Debug, Serialize)]
pub struct ViewSummary {
    /// The name of its maps.
    pub name: String,
    /// The scene's number for it.
    pub id: u32,
    /// Its photo.
    pub image: PathBuf,
    /// Width and height of the photo after reduction.
    pub photo_size: (usize, usize),
    /// Width and height of its maps.
    pub map_size: (usize, usize),
    /// Intrinsics of the (undistorted, reduced) photo, row by row; pixel centres are integers.
    pub photo_k: [[f64; 3]; 3],
    /// Intrinsics of the maps.
    pub map_k: [[f64; 3]; 3],
    /// Rotation, world to camera, row by row.
    pub rotation: [[f64; 3]; 3],
    /// Translation, world to camera.
    pub translation: [f64; 3],
    /// How the depth map was made, where this run made it.
    pub depth: Option<DepthSummary>,
    /// Views that the depth map was checked against.
    pub checked_against: Vec<String>,
    /// Pixels that were left after each filter, where fused.
    pub funnel: Option<Funnel>,
}

/// How one view's depth map was made.
#[derive(Clone, Debug, Serialize)]
pub struct DepthSummary {
    /// Source views that the network looked at.
    pub sources: Vec<String>,
    /// Depths that were searched.
    pub range: DepthRange,
    /// Where the range is from.
    pub range_from: RangeFrom,
    /// Hypotheses.
    pub planes: usize,
    /// Their spacing.
    pub sampling: Sampling,
    /// Time that the view's own photo took in this run; `null` where it was not needed.
    pub photo_seconds: Option<PhotoSeconds>,
    /// The pyramid's levels, finest first.
    pub levels: Vec<LevelSummary>,
}

/// One pyramid level of one view.
#[derive(Clone, Debug, Serialize)]
pub struct LevelSummary {
    /// 0 is the full photo; each further level half the size.
    pub level: usize,
    /// Width and height of the level's maps.
    pub map_size: (usize, usize),
    /// Time for the cost volume, its regularization and the maps.
    pub seconds: Option<f64>,
    /// Whether the maps are from an earlier run.
    pub reused: bool,
    /// Pixels of this level that the next coarser one replaced.
    pub replaced: usize,
}
