//! What made a view's finished maps: OUT/levels/NAME.json (or in a subfolder there), a record beside them that a
//! stopped run leaves, too.
//!
//! A run writes it before the view's files, with their names, and again after them, with their hashes. So it is known
//! of every file whether a run has made it, with what options, and whether it was finished; and whoever reads maps can
//! tell whether one and the same job has made them all ([`mixture`]).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value, json};

use crate::error::{Result, counted};
use crate::files::known_hashes::KnownHashes;
use crate::files::subfolders::{Spread, find, listed};
use crate::files::{folder, hash, input};
use crate::manifest::{MANIFEST, takes_too_much};
use crate::maps::valid::Invalid;

/// The record's content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Made {
    /// Everything that was the same for all views and that their maps depend on: scene, weights, options.
    pub job: Fields<String, Value>,
    /// SHA-256 of what the files were drawn from beside the job: photo, camera, range and the levels that were merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawn_from: Option<String>,
    /// What was counted then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// SHA-256 by file relative to the results' folder, of the bytes that were written; `null` of one that was not
    /// finished.
    pub files: BTreeMap<String, Option<String>>,
}

/// What was counted while a view's levels were merged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// By level, finest first: pixels that the next coarser one replaced.
    pub replaced: Vec<usize>,
    /// Pixels of all levels that could not be used.
    pub invalid: Invalid,
    /// Whether a part of the photo does not show the scene.
    pub is_masked: bool,
    /// Whether nothing of it does.
    pub is_empty: bool,
}

impl Made {
    /// The record of the view of this name, if there is one that can be read.
    pub fn read(out: &Path, name: &str) -> Option<Self> {
        let bytes = input::read(&find(&out.join("levels"), name, "json"), "read what made the maps").ok()?;
        if takes_too_much(&bytes) { None } else { serde_json::from_slice(&bytes).ok() }
    }

    /// Writes the record of the view of this name.
    ///
    /// # Errors
    /// The system's reason where it cannot be written.
    pub fn write(&self, out: &Path, (name, spread): (&str, Spread)) -> Result<()> {
        folder::write_json(&spread.place(&out.join("levels"), name, "json"), "write what made the maps", self)
    }

    /// Whether all files were finished.
    pub fn is_whole(&self) -> bool {
        self.files.values().all(Option::is_some)
    }

    /// Whether all files were finished and are as they were then.
    pub fn is_as_it_was_made(&self, out: &Path, hashes: &KnownHashes) -> bool {
        self.files.iter().all(|(file, hash)| hash.as_ref().is_some_and(|hash| hashes.is(&out.join(file), hash)))
    }

    /// Files that are there but are no longer what was written.
    pub fn changed(&self, out: &Path) -> Vec<&str> {
        let is_other = |hash: &String, file: &str| hash::of_file(&out.join(file)).is_ok_and(|found| found != *hash);
        let changed = self.files.iter().filter(|(file, hash)| hash.as_ref().is_some_and(|hash| is_other(hash, file)));
        changed.map(|(file, _)| file.as_str()).collect()
    }
}

/// What tells a view's maps apart from any others: the hashes that the run has written down of these kinds, where it
/// has of all, else the files' sizes and times.
pub fn stamp(out: &Path, name: &str, files: &[(&str, &Path)]) -> Value {
    let made = Made::read(out, name).filter(Made::is_whole).map(|made| made.files).unwrap_or_default();
    let of_kind = |kind: &str| made.iter().find(|(file, _)| file.split('/').next() == Some(kind));
    let recorded: Option<Vec<&String>> = files.iter().map(|(kind, _)| of_kind(kind)?.1.as_ref()).collect();
    let seen = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        let time = found.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some((found.len(), time.as_nanos() as u64))
    };
    match recorded {
        Some(hashes) => json!(hashes),
        None => files.iter().map(|(_, path)| json!(seen(path))).collect(),
    }
}

/// Names of the finished maps in a folder, sorted.
pub fn map_names(out: &Path) -> Vec<String> {
    let entries = listed(&out.join("depth")).into_iter().flatten().flatten();
    let paths = entries.filter(|path| path.extension().is_some_and(|e| e == "pfm"));
    let mut names: Vec<String> = paths.filter_map(|p| p.file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    names
}

/// Whether a run has begun in a folder that has not come to its end.
pub fn is_unfinished(out: &Path) -> bool {
    out.join(folder::RESULTS_MARK).is_file() && !out.join(MANIFEST).exists()
}

/// The longest side that photos were reduced to, as far as the records of all these views agree.
pub fn max_side<'a>(out: &Path, names: impl Iterator<Item = &'a str>) -> Option<usize> {
    let mut sides = names.map(|name| Made::read(out, name)?.job.get("max_side")?.as_u64());
    let first = sides.next()??;
    sides.all(|side| side == Some(first)).then(|| usize::try_from(first).ok())?
}

/// How one job differs from another, for people: `planes 24, not 16`.
pub fn difference(job: &Fields<String, Value>, other: &Fields<String, Value>) -> String {
    const SHOWN: usize = 3;
    let keys = job.keys().chain(other.keys().filter(|key| !job.contains_key(*key)));
    let said = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let differing = keys.filter(|key| job.get(*key) != other.get(*key));
    let mut parts: Vec<String> = differing
        .map(|key| format!("{} {}, not {}", key.replace('_', "-"), said(job.get(key)), said(other.get(key))))
        .collect();
    let more = parts.len().saturating_sub(SHOWN);
    parts.truncate(SHOWN);
    if more > 0 {
        parts.push(format!("and {more} more"));
    }
    parts.join("; ")
}

/// What keeps maps in a folder from being the results of one job, one sentence each; nothing where no record is there,
/// since the maps are somebody else's then.
pub fn mixture<'a>(out: &Path, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut jobs: Vec<(Fields<String, Value>, usize, &str)> = Vec::new();
    let (mut unfinished, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        let Some(made) = Made::read(out, name) else {
            unknown.push(name);
            continue;
        };
        if !made.is_whole() {
            unfinished.push(name);
        }
        match jobs.iter_mut().find(|(job, ..)| *job == made.job) {
            Some((_, count, _)) => *count += 1,
            None => jobs.push((made.job, 1, name)),
        }
    }
    let mut said = Vec::new();
    jobs.sort_by_key(|&(_, count, _)| std::cmp::Reverse(count));
    let Some(((job, ..), others)) = jobs.split_first() else { return said };
    if !others.is_empty() {
        let count = others.iter().map(|(_, count, _)| count).sum();
        let (other, _, first) = &others[0];
        said.push(format!(
            "maps of several runs are mixed: {} made otherwise than the others (first: {first}, with {})",
            counted(count, "map"),
            difference(other, job)
        ));
    }
    if let Some(first) = unfinished.first() {
        let count = counted(unfinished.len(), "view");
        said.push(format!("a run was stopped while it wrote the maps of {count} (first: {first})"));
    }
    if let Some(first) = unknown.first() {
        let count = counted(unknown.len(), "map");
        said.push(format!("{count} beside the others without a record of what made them (first: {first})"));
    }
    said
}
