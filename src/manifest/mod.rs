//! `manifest.json`: everything about a run that someone who only has its results may want to know.
//!
//! One set of types is written by the commands that make results and read by those that look at them later: for the
//! same file. What a file lacks is read as the type's default, and what it has beyond is passed over, so that manifests
//! of other versions are as good as their content. The types say what was done; how is told in the rooms above.

pub mod made;

use std::path::{Path, PathBuf};

use glam::DMat3;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value};

use crate::error::{Error, Result};
use crate::files::ply_storage::Storage;
use crate::files::{folder, input, names};
use crate::fusion::funnel::Funnel;
use crate::host::memory::{self, MemoryNeed};
use crate::scene::camera::{DepthRange, Hypotheses, MAX_PLANES, Sampling};
use crate::scene::georeference::Georeference;
use crate::scene::{Layout, Scene};

/// The file's name in the folder of the results.
pub const MANIFEST: &str = "manifest.json";

/// The schema that is written; 0 stands for files from before schemas had numbers. It grows when a field's meaning
/// changes, not when a field is added.
const SCHEMA: u32 = 1;

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Always `engine`.
    pub program: String,
    /// The number of the file's schema.
    pub schema: u32,
    /// The program's version.
    pub version: String,
    /// `infer` or `fuse`.
    pub command: String,
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
    pub parameters: Fields<String, Value>,
    /// Per view: what was done and what came out.
    pub views: Vec<ViewSummary>,
    /// Pixels that were left after each filter, all views together; `null` where nothing was fused.
    pub funnel: Option<Funnel>,
    /// Points in the cloud.
    pub points: usize,
    /// How the cloud's coordinates are stored; not there where no cloud was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cloud: Option<Storage>,
    /// Time by stage, and in all.
    pub seconds: Fields<String, Value>,
    /// Files and folders that were written, relative to the manifest.
    pub outputs: Vec<String>,
    /// The folder that the file lies in.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Manifest {
    /// What is known when a command begins on a scene, with results in `folder`.
    pub fn new(command: &str, scene: &Scene, folder: &Path) -> Self {
        Self {
            program: "engine".into(),
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").into(),
            command: command.into(),
            scene: SceneSummary::new(scene),
            folder: folder.to_owned(),
            ..Self::default()
        }
    }

    /// Reads `manifest.json` in `folder`; `None` where there is no such file.
    ///
    /// # Errors
    /// A file that cannot be read or is not the manifest of a run of this program.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let file = folder.join(MANIFEST);
        if !file.exists() {
            return Ok(None);
        }
        let bytes = input::read(&file, "read the manifest")?;
        let bad = |problem: String| {
            let expected = "the manifest of a run of this program; remove it, or name another folder";
            Error::input(file.display().to_string(), format!("not a manifest ({problem})"), expected)
        };
        if takes_too_much(&bytes) {
            return Err(bad(format!("{} bytes of many more and smaller things than a run writes", bytes.len())));
        }
        let mut manifest: Self = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        if manifest.command.is_empty() {
            return Err(bad("no command".into()));
        }
        for view in &manifest.views {
            let Some(DepthSummary { range: DepthRange { near, far }, planes, .. }) = view.depth else { continue };
            if !(near > 0.0 && far > near && far.is_finite() && (1..=MAX_PLANES).contains(&planes)) {
                return Err(Error::input(
                    format!("{}: view {}", file.display(), view.name),
                    format!("{planes} planes from {near} to {far}"),
                    format!("1 to {MAX_PLANES} planes with 0 < near < far"),
                ));
            }
        }
        folder.clone_into(&mut manifest.folder);
        Ok(Some(manifest))
    }

    /// Writes it into its folder.
    ///
    /// # Errors
    /// The system's reason where it cannot be written.
    pub fn write(&self) -> Result<()> {
        folder::write_json(&self.folder.join(MANIFEST), "write the manifest", self)
    }

    /// The view of a name.
    pub fn view(&self, name: &str) -> Option<&ViewSummary> {
        self.views.iter().find(|view| view.name == name)
    }

    /// An option that is a number.
    pub fn number(&self, option: &str) -> Option<f64> {
        self.parameters.get(option)?.as_f64()
    }

    /// The longest side that the run reduced photos to.
    pub fn max_side(&self) -> Option<usize> {
        self.number("max_side").filter(|&side| side >= 1.0).map(|side| side as usize)
    }
}

/// Whether a file would take many times its size in memory: a view takes the same however little is said of it, and a
/// run writes some thousand bytes for each.
pub(crate) fn takes_too_much(bytes: &[u8]) -> bool {
    const SMALL: usize = 1 << 20;
    const MOST: usize = 16;
    let count = |wanted: u8| bytes.iter().filter(|&&byte| byte == wanted).count();
    // An element of a list of anything, beside views: a value of any kind.
    bytes.len() > SMALL
        && count(b'{') * size_of::<ViewSummary>() + count(b',') * size_of::<Value>() > MOST * bytes.len()
}

/// What was worked on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SceneSummary {
    /// The scene's folder.
    #[serde(with = "names")]
    pub path: PathBuf,
    /// How it is laid out.
    pub layout: Option<Layout>,
    /// Its photos.
    pub views: usize,
    /// Its sparse points.
    pub points: usize,
    /// Where its coordinates lie on earth, if its files say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub georeference: Option<Georeference>,
}

impl SceneSummary {
    /// Of a scene.
    pub fn new(scene: &Scene) -> Self {
        let path = dunce::canonicalize(&scene.root).unwrap_or_else(|_| scene.root.clone());
        let (views, points) = (scene.views.len(), scene.points.len());
        Self { path, layout: Some(scene.layout), views, points, georeference: scene.georeference }
    }
}

/// Which network was used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSummary {
    /// The checkpoint's path, or `built-in`.
    pub weights: String,
    /// SHA-256 of the checkpoint.
    pub weights_sha256: String,
    /// Aggregation, difference and decoder.
    pub config: String,
    /// How activations were stored: `f32` or `f16`.
    pub precision: String,
}

/// What it ran on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSummary {
    /// `cpu`, or the GPU's name.
    pub device: String,
    /// Threads that worked.
    pub threads: usize,
    /// The instruction set of the network's arithmetic.
    pub simd: String,
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
            simd: crate::cpu::network::simd_level().into(),
            memory_planned,
            memory_peak: memory::peak(),
        }
    }
}

/// One view's part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ViewSummary {
    /// The name of its maps.
    pub name: String,
    /// The scene's number for it.
    pub id: u32,
    /// Its photo.
    #[serde(with = "names")]
    pub image: PathBuf,
    /// Width and height of the photo after reduction.
    pub photo_size: (usize, usize),
    /// Width and height of its maps.
    pub map_size: (usize, usize),
    /// Intrinsics of the (undistorted, reduced) photo, row by row; pixel centres are integers.
    pub photo_k: Rows,
    /// Intrinsics of the maps.
    pub map_k: Rows,
    /// Rotation, world to camera, row by row.
    pub rotation: Option<Rows>,
    /// Translation, world to camera.
    pub translation: Option<[f64; 3]>,
    /// How the depth map was made, where this run made it.
    pub depth: Option<DepthSummary>,
    /// Views that the depth map was checked against.
    pub checked_against: Vec<String>,
    /// Pixels that were left after each filter, where fused.
    pub funnel: Option<Funnel>,
}

/// A matrix as the files hold it: row by row.
pub type Rows = [[f64; 3]; 3];

/// The rows of a matrix.
pub fn rows(m: DMat3) -> Rows {
    [0, 1, 2].map(|i| m.row(i).to_array())
}

/// How one view's depth map was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepthSummary {
    /// Source views that the network looked at.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Depths that were searched.
    pub range: DepthRange,
    /// Where the range is from.
    pub range_from: Option<RangeFrom>,
    /// Hypotheses.
    pub planes: usize,
    /// Their spacing.
    pub sampling: Sampling,
    /// Time that the view's own photo took in this run; `null` where it was not needed.
    pub photo_seconds: Option<PhotoSeconds>,
    /// The pyramid's levels, finest first.
    #[serde(default)]
    pub levels: Vec<LevelSummary>,
}

impl DepthSummary {
    /// The mean distance of two hypotheses in scene units; `None` for a single one.
    pub fn interval(&self) -> Option<f64> {
        let DepthRange { near, far } = self.range;
        (self.planes > 1 && far > near).then(|| (far - near) / (self.planes - 1) as f64)
    }

    /// The depths that were tried.
    pub fn hypotheses(&self) -> Hypotheses {
        Hypotheses::new(self.range, self.planes, self.sampling)
    }
}

/// Where a view's depth range is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RangeFrom {
    /// The option `--range`.
    Option,
    /// The scene's own files, or the cloud that `--range-from` names.
    Scene,
    /// Percentiles of the view's sparse points.
    Points,
    /// What the view sees of the region of interest.
    Region,
}

/// Time that one photo took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PhotoSeconds {
    /// Decoding, undistortion, reduction and pyramid (while the network worked on something else).
    pub decoding: f64,
    /// Feature maps of all levels.
    pub features: f64,
}

/// One pyramid level of one view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
