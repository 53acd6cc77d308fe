//! What a page reads of a run: its cloud and its photos, with what there is to say of them.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::export::photos::Photos;
use crate::export::results::Results;
use crate::files::ply_cloud::CloudFile;
use crate::host::memory::expect_room;
use crate::host::progress::Progress;
use crate::report::data::CloudData;
use crate::report::facts::grouped;
use crate::report::quantise::{PointSource, QuantisedCloud, need, quantise};

/// What there is to say of a page: told at once, and kept in it.
pub struct Notes<'a> {
    /// Where they are told.
    pub progress: &'a Progress,
    /// All of it.
    pub said: Vec<String>,
}

impl<'a> Notes<'a> {
    /// Nothing yet.
    pub fn new(progress: &'a Progress) -> Self {
        Self { progress, said: Vec::new() }
    }

    /// Told, once, and kept.
    pub fn say(&mut self, text: String) {
        if !self.said.contains(&text) {
            self.progress.note(&text);
            self.said.push(text);
        }
    }

    /// Of every page: kept, but not told.
    pub fn keep(&mut self, text: String) {
        self.said.push(text);
    }
}

/// The cloud of a run, where it has one: at most so many of its points, each of which takes some bytes beside its place
/// here.
///
/// # Errors
/// A cloud that cannot be read; [`crate::Error::Memory`].
pub fn cloud(results: &Results, most: usize, bytes_a_point: u64, notes: &mut Notes) -> Result<Option<QuantisedCloud>> {
    let path = results.cloud();
    if !path.exists() {
        notes.say("the run has no cloud (--depth-only), so that the report has none".into());
        return Ok(None);
    }
    part_of(&CloudFile::open(&path)?, &path, most, bytes_a_point, notes).map(Some)
}

/// At most so many points of a source; `path` is for messages.
///
/// # Errors
/// As [`cloud`].
pub fn part_of(
    source: &impl PointSource,
    path: &Path,
    most: usize,
    bytes_a_point: u64,
    notes: &mut Notes,
) -> Result<QuantisedCloud> {
    let points = source.count().min(most as u64);
    expect_room(path, need(points).saturating_add(points.saturating_mul(bytes_a_point)))?;
    let cloud = quantise(source, most)?;
    if points < source.count() {
        notes.say(format!(
            "{} of the cloud's {} points are shown, taken evenly in its order (--max-points)",
            grouped(points),
            grouped(source.count())
        ));
    }
    Ok(cloud)
}

/// How near the points are to where a file has them.
pub fn grid_note(cloud: &CloudData, file: &str) -> String {
    format!(
        "points lie on a grid of {} scene units: at most half of that from where {file} has them; normals have two \
         bytes, confidence one",
        cloud.quantum
    )
}

/// Where the scene of a run lies.
pub fn scene_of(results: &Results, elsewhere: Option<&Path>) -> PathBuf {
    elsewhere.map_or_else(|| results.manifest.scene.path.clone(), Path::to_owned)
}

/// The photos of a run, where its scene is still there or was named.
///
/// # Errors
/// A scene that cannot be read, or is another one.
pub fn photos(results: &Results, elsewhere: Option<&Path>, notes: &mut Notes) -> Result<Option<Photos>> {
    let scene = scene_of(results, elsewhere);
    if elsewhere.is_none() && !scene.exists() {
        notes.say(format!(
            "no photos: {} is no longer there; --scene SCENE says where the scene lies now",
            scene.display()
        ));
        return Ok(None);
    }
    Photos::of(results, elsewhere).map(Some)
}
