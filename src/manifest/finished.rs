//! What later commands want to know of an earlier run: its `manifest.json`, read back.
//!
//! Only the parts that are used are read, and every one of them may be missing, so that manifests of other versions of
//! the program are as good as their content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files::input;
use crate::fusion::funnel::Funnel;
use crate::scene::camera::{DepthRange, Hypotheses, Sampling};

/// The file's name in the folder of the results.
const MANIFEST: &str = "manifest.json";

/// No run has more planes: a file that says so is damaged, and is not to be believed as to how much memory they take.
const MOST_PLANES: usize = 65_536;

/// What a run left in its manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct FinishedRun {
    /// `infer` or `fuse`.
    pub command: String,
    /// Per view: what was done and what came out.
    #[serde(default)]
    pub views: Vec<FinishedView>,
    /// Pixels that were left after each filter; `None` where nothing was fused.
    #[serde(default)]
    pub funnel: Option<Funnel>,
    /// Points in the cloud.
    #[serde(default)]
    pub points: usize,
    /// Every option with its value.
    #[serde(default)]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The folder that the manifest lies in.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// One view of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct FinishedView {
    /// The name of its maps.
    pub name: String,
    /// Rotation, world to camera, row by row.
    #[serde(default)]
    pub rotation: Option<[[f64; 3]; 3]>,
    /// Translation, world to camera.
    #[serde(default)]
    pub translation: Option<[f64; 3]>,
    /// How its depth map was made, where this run made it.
    #[serde(default)]
    pub depth: Option<FinishedDepth>,
    /// Pixels that were left after each filter, where fused.
    #[serde(default)]
    pub funnel: Option<Funnel>,
}

/// How a depth map was made.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct FinishedDepth {
    /// Depths that were searched.
    pub range: DepthRange,
    /// Hypotheses.
    pub planes: usize,
    /// Their spacing.
    pub sampling: Sampling,
}

impl FinishedDepth {
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

impl FinishedRun {
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
        let mut run: Self = serde_json::from_slice(&bytes).map_err(|e| {
            let expected = "the manifest of a run of this program; remove it, or name another folder";
            Error::input(file.display().to_string(), format!("not a manifest ({e})"), expected)
        })?;
        for view in &run.views {
            let Some(FinishedDepth { range, planes, .. }) = view.depth else { continue };
            let DepthRange { near, far } = range;
            if !(near > 0.0 && far > near && far.is_finite() && (1..=MOST_PLANES).contains(&planes)) {
                return Err(Error::input(
                    format!("{}: view {}", file.display(), view.name),
                    format!("{planes} planes from {near} to {far}"),
                    format!("1 to {MOST_PLANES} planes with 0 < near < far"),
                ));
            }
        }
        folder.clone_into(&mut run.folder);
        Ok(Some(run))
    }

    /// The view of a name.
    pub fn view(&self, name: &str) -> Option<&FinishedView> {
        self.views.iter().find(|view| view.name == name)
    }

    /// An option that is a number.
    pub fn number(&self, option: &str) -> Option<f64> {
        self.parameters.get(option)?.as_f64()
    }
}
