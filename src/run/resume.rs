//! What made a map, kept beside it: a run that finds a map made by exactly what it would use itself takes the map as it
//! is.
//!
//! The record has a type and a number of its own, so that it depends on no name in the rest of the program: one that
//! this version does not read, or that differs in any field, is that of another map.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::known_hashes::KnownHashes;
use crate::files::map::Map;
use crate::files::subfolders::{Spread, remove_empty_folders_of};
use crate::files::{folder, input, pfm};
use crate::manifest::{Rows, rows};
use crate::net::backend::DepthNetwork;
use crate::net::config::Resolution;
use crate::run::plan::{Frame, ViewPlan};
use crate::scene::View;
use crate::scene::camera::{DepthRange, Sampling};
use crate::scene::known::KnownIdentity;
use crate::scene::lens::{Distortion, Face};
use crate::scene::look::Look;

/// To be raised when a field of [`MadeBy`] comes to mean something else.
const SCHEMA: u32 = 4;

/// Everything that one view's maps at one level depend on: what the options came to, and the photos.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeBy {
    schema: u32,
    engine: String,
    weights_sha256: String,
    precision: String,
    calibrated: bool,
    refined: bool,
    resolution: Resolution,
    level: usize,
    range: DepthRange,
    planes: usize,
    sampling: Sampling,
    reference: PhotoIdentity,
    sources: Vec<PhotoIdentity>,
    /// How the sources' photos were shown; left out where all were shown as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    looks: Vec<Look>,
    /// The map of known depths; left out where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<KnownIdentity>,
}

/// A photo's part: its content (not its place or date, so that a moved scene needs no new maps), its lens and its
/// camera at the size that the network sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhotoIdentity {
    image_sha256: String,
    /// The distortion, and K of the photo as it is stored and undistorted.
    lens: Option<(Distortion, Rows, Rows)>,
    /// Which face of it, where it is cut into some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    face: Option<Face>,
    size: (usize, usize),
    k: Rows,
    r: Rows,
    t: [f64; 3],
}

impl PhotoIdentity {
    /// Of a view's photo as the network sees it.
    ///
    /// # Errors
    /// A photo that cannot be read.
    pub fn new(view: &View, frame: &Frame, hashes: &KnownHashes) -> Result<Self> {
        let lens = view.lens.as_ref();
        let image_sha256 = match &view.in_memory {
            Some(photo) => photo.sha256().to_owned(),
            None => hashes.of_file(&view.image)?,
        };
        Ok(Self {
            image_sha256,
            lens: lens.map(|lens| (lens.distortion, rows(lens.stored_k), rows(lens.pinhole_k))),
            face: lens.and_then(|lens| lens.face),
            size: (frame.width, frame.height),
            k: rows(frame.camera.k),
            r: rows(frame.camera.r),
            t: frame.camera.t.to_array(),
        })
    }

    /// Refuses a photo that was decoded from other bytes than those that this identity is of.
    ///
    /// # Errors
    /// The photo was replaced in between.
    pub fn expect(&self, photo: &Path, decoded_sha256: &str) -> Result<()> {
        if self.image_sha256 == decoded_sha256 {
            return Ok(());
        }
        Err(Error::input(
            photo.display().to_string(),
            "another photo than when the run began: it was replaced while the run was at work",
            "photos that stay; run the same command again",
        ))
    }
}

impl MadeBy {
    /// Of one level of a view. `photos` has the view's own and its sources', `known` is of its known depths.
    pub fn new<N: DepthNetwork>(
        level: usize,
        view: &ViewPlan,
        photos: &BTreeMap<usize, PhotoIdentity>,
        known: Option<KnownIdentity>,
        (network, resolution, refined): (&N, Resolution, bool),
    ) -> Self {
        Self {
            schema: SCHEMA,
            engine: env!("CARGO_PKG_VERSION").into(),
            weights_sha256: network.weights_hash().into(),
            precision: network.precision().into(),
            calibrated: network.calibrated(),
            refined,
            resolution,
            level,
            range: view.range,
            planes: view.planes,
            sampling: view.sampling,
            reference: photos[&view.view].clone(),
            sources: view.sources.iter().map(|source| photos[source].clone()).collect(),
            looks: if view.looks.iter().all(|look| *look == Look::AS_IT_IS) { Vec::new() } else { view.looks.clone() },
            known,
        }
    }
}

/// Files of one view at one level: OUT/levels/LEVEL/{depth,confidence}/NAME.pfm and OUT/levels/LEVEL/NAME.json, or in
/// subfolders there.
#[derive(Clone, Debug)]
pub struct LevelFiles {
    depth: PathBuf,
    confidence: PathBuf,
    record: PathBuf,
}

/// The content of NAME.json. Written last, so that it vouches for both maps.
#[derive(Serialize, Deserialize)]
struct Record<M> {
    /// Everything that the maps depend on.
    made_by: M,
    /// Time that they took.
    seconds: f64,
    #[serde(flatten)]
    hashes: Hashes,
}

/// SHA-256 of the files of both maps, taken from the bytes that were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hashes {
    depth_sha256: String,
    confidence_sha256: String,
}

impl LevelFiles {
    /// The files' names.
    pub fn new(out: &Path, level: usize, (name, spread): (&str, Spread)) -> Self {
        let folder = out.join("levels").join(level.to_string());
        Self {
            depth: spread.place(&folder.join("depth"), name, "pfm"),
            confidence: spread.place(&folder.join("confidence"), name, "pfm"),
            record: spread.place(&folder, name, "json"),
        }
    }

    /// The seconds that it took to make the maps, if they are there, whole, and made by `made_by`; and their hashes.
    pub fn finished(&self, made_by: &MadeBy, hashes: &KnownHashes) -> Option<(f64, Hashes)> {
        let text = input::read(&self.record, "read what made the map").ok()?;
        let record: Record<MadeBy> = serde_json::from_slice(&text).ok()?;
        (record.made_by == *made_by
            && hashes.is(&self.depth, &record.hashes.depth_sha256)
            && hashes.is(&self.confidence, &record.hashes.confidence_sha256))
        .then_some((record.seconds, record.hashes))
    }

    /// Writes both maps, then what made them. Gives their hashes.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn write(
        &self,
        (depth, confidence): (&Map, &Map),
        made_by: &MadeBy,
        seconds: f64,
        hashes: &KnownHashes,
    ) -> Result<Hashes> {
        // The record of earlier maps must not vouch for the new ones, should the run end between these lines.
        folder::remove(&self.record, "replace what made the map")?;
        let depth_sha256 = folder::write_file(&self.depth, |path| pfm::write_hashed(path, depth))?;
        let confidence_sha256 = folder::write_file(&self.confidence, |path| pfm::write_hashed(path, confidence))?;
        let record = Record { made_by, seconds, hashes: Hashes { depth_sha256, confidence_sha256 } };
        folder::write_json(&self.record, "write what made the map", &record)?;
        hashes.wrote(&self.depth, &record.hashes.depth_sha256);
        hashes.wrote(&self.confidence, &record.hashes.confidence_sha256);
        Ok(record.hashes)
    }

    /// Reads depth and confidence back.
    ///
    /// # Errors
    /// Files that cannot be read, and ones that this run neither wrote nor found: something else has written them.
    pub fn read(&self, hashes: &Hashes) -> Result<(Map, Map)> {
        let read = |path: &Path, expected: &str| {
            let (map, found) = pfm::read_hashed(path)?;
            if found != expected {
                return Err(Error::input(
                    path.display().to_string(),
                    "another map than the one that this run has made or found: something else has written it",
                    "a folder that nothing else writes into; run the same command again",
                ));
            }
            Ok(map)
        };
        Ok((read(&self.depth, &hashes.depth_sha256)?, read(&self.confidence, &hashes.confidence_sha256)?))
    }

    /// Whether there is a record of what made the maps, which is written when they are whole.
    pub fn is_recorded(&self) -> bool {
        self.record.exists()
    }

    /// Whether any of it is there.
    pub fn exist(&self) -> bool {
        [&self.depth, &self.confidence, &self.record].into_iter().any(|file| file.exists())
    }

    /// Removes the maps and what made them, where they are there.
    ///
    /// # Errors
    /// The system's reason where one stays.
    pub fn remove(&self) -> Result<()> {
        for file in [&self.depth, &self.confidence, &self.record] {
            folder::remove(file, "remove the map of an earlier run")?;
        }
        [&self.depth, &self.confidence, &self.record].into_iter().for_each(|file| remove_empty_folders_of(file));
        Ok(())
    }
}
