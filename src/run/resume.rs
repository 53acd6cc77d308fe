//! What made a map, kept beside it: a run that finds a map made by exactly the parameters that it would use itself
//! takes the map as it is.

use std::io::Read;
use std::path::{Path, PathBuf};

use glam::DMat3;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::files::{folder, input, pfm};
use crate::run::plan::{Frame, ViewPlan};
use crate::scene::View;

/// Files of one view at one level: OUT/levels/LEVEL/{depth,confidence}/NAME.pfm and OUT/levels/LEVEL/NAME.json.
#[derive(Clone, Debug)]
pub struct LevelFiles {
    depth: PathBuf,
    confidence: PathBuf,
    sidecar: PathBuf,
}

/// The sidecar's content. Written last, so that it vouches for both maps.
#[derive(Serialize, Deserialize)]
struct Sidecar {
    /// Everything that the maps depend on.
    made_by: Value,
    /// Time that they took.
    seconds: f64,
    depth_sha256: String,
    confidence_sha256: String,
}

impl LevelFiles {
    /// The files' names.
    pub fn new(out: &Path, level: usize, name: &str) -> Self {
        let folder = out.join("levels").join(level.to_string());
        Self {
            depth: folder.join("depth").join(format!("{name}.pfm")),
            confidence: folder.join("confidence").join(format!("{name}.pfm")),
            sidecar: folder.join(format!("{name}.json")),
        }
    }

    /// The seconds that it took to make the maps, if they are there, whole, and made by `made_by`.
    pub fn finished(&self, made_by: &Value) -> Option<f64> {
        let sidecar: Sidecar = serde_json::from_slice(&input::read(&self.sidecar, "read the sidecar").ok()?).ok()?;
        let whole = |path: &Path, hash: &str| file_hash(path).is_ok_and(|h| h == hash);
        // The wanted parameters go through text once, as the stored ones did, so that equal numbers compare equal.
        let wanted: Value = serde_json::from_str(&made_by.to_string()).ok()?;
        (sidecar.made_by == wanted
            && whole(&self.depth, &sidecar.depth_sha256)
            && whole(&self.confidence, &sidecar.confidence_sha256))
        .then_some(sidecar.seconds)
    }

    /// Writes both maps, then what made them.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn write(&self, depth: &Map, confidence: &Map, made_by: Value, seconds: f64) -> Result<()> {
        // A sidecar of earlier maps must not vouch for the new ones, should the run end between these lines.
        match std::fs::remove_file(&self.sidecar) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("replace the sidecar", &self.sidecar)(e));
            }
            _ => {}
        }
        crate::run::write_map(&self.depth, depth)?;
        crate::run::write_map(&self.confidence, confidence)?;
        let (depth_sha256, confidence_sha256) = (file_hash(&self.depth)?, file_hash(&self.confidence)?);
        let sidecar = Sidecar { made_by, seconds, depth_sha256, confidence_sha256 };
        folder::write_json(&self.sidecar, "write the sidecar", &sidecar)
    }

    /// Reads depth and confidence back.
    ///
    /// # Errors
    /// Files that cannot be read or do not have the expected size.
    pub fn read(&self, size: (usize, usize)) -> Result<(Map, Map)> {
        let read = |path: &Path| {
            let map = pfm::read(path)?;
            if (map.width, map.height) != size {
                let found = format!("a map of {} x {}", map.width, map.height);
                return Err(Error::input(path.display().to_string(), found, format!("{} x {}", size.0, size.1)));
            }
            Ok(map)
        };
        Ok((read(&self.depth)?, read(&self.confidence)?))
    }
}

/// SHA-256 of a file's content in hexadecimal.
///
/// # Errors
/// A file that cannot be read.
pub fn file_hash(path: &Path) -> Result<String> {
    let (mut file, _) = input::open(path, "open the file")?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece).map_err(Error::io("read the file", path))? {
            0 => break,
            n => hasher.update(&piece[..n]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A photo's part of what makes a map: its content (not its place or date, so that a moved scene needs no new
/// maps), its lens and its camera at the size that the network sees.
pub fn photo_identity(view: &View, frame: &Frame, image_sha256: &str) -> Value {
    json!({
        "image_sha256": image_sha256,
        "lens": view.lens.as_ref().map(|lens| format!("{lens:?}")),
        "size": [frame.width, frame.height],
        "k": rows(frame.camera.k),
        "r": rows(frame.camera.r),
        "t": frame.camera.t.to_array(),
    })
}

/// Everything that one view's maps at one level depend on. `photos` has the identities of all views.
pub fn made_by(level: usize, plan: &ViewPlan, photos: &[Value], weights_sha256: &str, precision: &str) -> Value {
    let mut made_by = json!({
        "engine": env!("CARGO_PKG_VERSION"),
        "weights_sha256": weights_sha256,
        "level": level,
        "range": [plan.range.near, plan.range.far],
        "planes": plan.planes,
        "sampling": plan.sampling,
        "reference": photos[plan.view],
        "sources": plan.sources.iter().map(|&s| &photos[s]).collect::<Vec<_>>(),
    });
    // Full precision goes without saying: maps of earlier versions stay usable.
    if precision != "f32" {
        made_by["precision"] = precision.into();
    }
    made_by
}

/// A matrix as JSON, row by row.
pub fn rows(m: DMat3) -> [[f64; 3]; 3] {
    [0, 1, 2].map(|i| m.row(i).to_array())
}
