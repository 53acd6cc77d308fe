//! What a run makes of the results that earlier runs have left in its folder.
//!
//! A folder never vouches for what it does not hold. So the manifest and the cloud are taken away before anything
//! changes, and whatever an earlier run has made of a view goes when this run makes the view's maps: also what this
//! run does not make, such as normals or deeper levels. Maps of views that take no part in this run may be the work of
//! hours; they stay and are told. Files that no run has made, or that somebody has changed since, stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde_json::{Map as Fields, Value, json};

use crate::error::{Result, counted};
use crate::files::folder::remove;
use crate::files::input;
use crate::files::known_hashes::KnownHashes;
use crate::files::names::in_json;
use crate::files::subfolders::{Spread, remove_empty_folders_of};
use crate::manifest::MANIFEST;
use crate::manifest::made::{Counts, Made, difference, map_names};
use crate::net::backend::DepthNetwork;
use crate::run::plan::Work;
use crate::run::resume::LevelFiles;

/// The cloud's file name.
pub const CLOUD: &str = "fused.ply";
/// The page's file name (`engine report`).
pub const REPORT: &str = "report.html";
/// How the page says that it is this program's, near its beginning.
pub const REPORT_MADE_BY: &str = "<meta name=\"generator\" content=\"engine report\">";
/// The file that says what the finished run was asked for ([`crate::run::finished`]).
pub const SEAL: &str = ".engine.finished.json";
/// The folder of what shards tell ([`crate::shards`]).
pub const SHARDS: &str = "shards";
/// The ending of the files there with the hashes that a shard has learned.
pub const HASHES_OF_SHARDS: &str = "hashes";
/// How the comment begins that marks a cloud as this program's.
pub const CLOUD_MADE_BY: &str = "made by engine";

/// The hashes that earlier runs in a folder have learned, all shards among them.
pub fn known_hashes(out: &Path, verify: bool) -> KnownHashes {
    let files = std::fs::read_dir(out.join(SHARDS)).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_shards = files.filter(|file| file.extension().is_some_and(|ending| ending == HASHES_OF_SHARDS));
    KnownHashes::of_folder(out, verify).and_of(of_shards)
}

/// Takes away what vouches for the results of an earlier run, its cloud, and a report of it, before they change.
///
/// # Errors
/// The system's reason where one stays.
pub fn withdraw(out: &Path) -> Result<()> {
    remove(&out.join(SEAL), "remove what says that a run is finished")?;
    remove(&out.join(MANIFEST), "remove the earlier manifest")?;
    let cloud = out.join(CLOUD);
    if begins_with(&cloud, &format!("comment {CLOUD_MADE_BY}")) {
        remove(&cloud, "remove the earlier point cloud")?;
    }
    let report = out.join(REPORT);
    if is_report(&report) { remove(&report, "remove the earlier report") } else { Ok(()) }
}

/// Whether this program has made the page.
pub fn is_report(page: &Path) -> bool {
    begins_with(page, REPORT_MADE_BY)
}

/// Whether the words by which this program's files are known stand near the beginning of a file.
fn begins_with(file: &Path, words: &str) -> bool {
    const HEADER: u64 = 4096;
    let mut start = Vec::new();
    let read = input::open(file, "open the file").map(|(file, _)| file.take(HEADER).read_to_end(&mut start));
    read.is_ok() && start.windows(words.len()).any(|window| window == words.as_bytes())
}

/// Removes what the planned views have of levels that this run does not make.
///
/// # Errors
/// The system's reason where a file stays.
pub fn remove_other_levels(work: Work) -> Result<()> {
    let levels = std::fs::read_dir(work.out.join("levels")).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<usize>().ok();
    for level in levels.filter_map(number).filter(|&level| level >= work.options.levels) {
        for view in &work.plan.views {
            let files = LevelFiles::new(work.out, level, (work.name(view), work.spread()));
            if files.exist() {
                files.remove()?;
            }
        }
    }
    Ok(())
}

/// What all maps of this run depend on, beside their photos.
pub fn job_of<N: DepthNetwork>(work: Work, network: &N) -> Fields<String, Value> {
    let Work { scene, options, .. } = work;
    let merge = options.merge();
    let fields = json!({
        "scene": in_json(&dunce::canonicalize(&scene.root).unwrap_or_else(|_| scene.root.clone())),
        "version": env!("CARGO_PKG_VERSION"),
        "weights": network.weights_hash(),
        "precision": network.precision(),
        "calibrated": network.calibrated(),
        "refined": options.refines(),
        "resolution": options.resolution,
        "views": options.views,
        "planes": options.planes,
        "range": options.range,
        "widen_range": options.widen_range,
        "sampling": options.sampling,
        "levels": options.levels,
        "max_side": options.max_side,
        "open": options.open,
        "trusted_confidence": merge.trusted_confidence,
        "replaced_confidence": merge.replaced_confidence,
        "max_reprojection_px": merge.thresholds.max_reprojection_px,
        "max_depth_error_rel": merge.thresholds.max_depth_error_rel,
        "min_views": merge.thresholds.min_views,
        "check_sources": options.settings.check_sources,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

/// The files of one view while they are written.
pub struct ViewFiles<'a> {
    out: &'a Path,
    hashes: &'a KnownHashes,
    name: &'a str,
    spread: Spread,
    made: Made,
    /// What was left as it is, one sentence each.
    pub notes: Vec<String>,
}

impl<'a> ViewFiles<'a> {
    /// Before `files` (relative to the folder) of a view are written: removes what an earlier run has made of the view,
    /// and writes down what will be made. `drawn_from` is what they will be made of, beside the job, and what was
    /// counted meanwhile.
    ///
    /// # Errors
    /// The system's reason where a file stays or cannot be written.
    pub fn begin(
        (out, hashes): (&'a Path, &'a KnownHashes),
        (name, spread): (&'a str, Spread),
        job: &Fields<String, Value>,
        (drawn_from, counts): (String, &Counts),
        files: &[String],
    ) -> Result<Self> {
        let mut notes = Vec::new();
        let before = Made::read(out, name).unwrap_or_default().files;
        for (file, hash) in before.iter().filter(|(file, _)| !files.contains(file)) {
            let path = out.join(file);
            let is_plain = Path::new(file).components().all(|c| matches!(c, std::path::Component::Normal(_)));
            if !is_plain || !path.exists() {
                continue;
            }
            if hash.as_ref().is_none_or(|hash| hashes.is(&path, hash)) {
                remove(&path, "remove the file of an earlier run")?;
                remove_empty_folders_of(&path);
            } else {
                notes.push(format!("{file} was changed after an earlier run had made it: it is left as it is"));
            }
        }
        let files = files.iter().map(|file| (file.clone(), None)).collect();
        let made = Made { job: job.clone(), drawn_from: Some(drawn_from), counts: Some(counts.clone()), files };
        made.write(out, (name, spread))?;
        Ok(Self { out, hashes, name, spread, made, notes })
    }

    /// A file was written; `hash` is that of its bytes.
    pub fn wrote(&mut self, file: &str, hash: String) {
        self.hashes.wrote(&self.out.join(file), &hash);
        self.made.files.insert(file.to_owned(), Some(hash));
    }

    /// All files were written: writes down what they are.
    ///
    /// # Errors
    /// The system's reason where that cannot be written.
    pub fn finish(self) -> Result<Vec<String>> {
        self.made.write(self.out, (self.name, self.spread))?;
        Ok(self.notes)
    }
}

/// Says so where depth/ holds maps that this run does not make: other programs will take them for its results.
pub fn maps_of_other_runs(work: Work, job: &Fields<String, Value>) -> Vec<String> {
    let own: BTreeSet<&str> = work.plan.views.iter().map(|v| work.name(v)).collect();
    // Maps that the same job has made, maps that another has made by how it differs, and maps of nobody known.
    let (mut same, mut others, mut unknown) = (0, BTreeMap::<String, usize>::new(), 0);
    for name in map_names(work.out).iter().filter(|name| !own.contains(name.as_str())) {
        match Made::read(work.out, name) {
            Some(made) if made.job == *job => same += 1,
            Some(made) => *others.entry(difference(&made.job, job)).or_default() += 1,
            None => unknown += 1,
        }
    }
    let mut notes = Vec::new();
    if same > 0 {
        notes.push(format!("depth/ holds {same} more maps, left there by earlier runs; they take no part in this one"));
    }
    notes.extend(others.into_iter().map(|(difference, count)| {
        format!(
            "depth/ holds {} of an earlier run that was told otherwise ({difference}); they take no part in this one, \
             and should not be used together with its maps",
            counted(count, "more map")
        )
    }));
    if unknown > 0 {
        let count = counted(unknown, "more map");
        notes.push(format!("depth/ holds {count} without a record of what made them; they take no part in this run"));
    }
    notes
}
