//! Whether a folder holds everything that a run would make, from the same of everything: then nothing is left to do.
//!
//! A run that comes to its end with results leaves a seal, OUT/.engine.finished.json: a hash of all that the results
//! depend on, and the hashes of the cloud and the manifest. The hashes of the views' files stand in their records
//! ([`crate::manifest::made`]), those of the level maps in theirs ([`crate::run::resume`]). The next run takes the seal
//! away before it changes anything. So a seal that fits what a run is asked for, above files that are as the seal and
//! the records say, stands for the whole run.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Fields, Value, json};

use crate::error::Result;
use crate::files::{folder, hash, input};
use crate::manifest::made::Made;
use crate::manifest::{MANIFEST, Manifest};
use crate::run::depth::{LevelJob, LevelJobs};
use crate::run::options::parameters;
use crate::run::plan::{ViewPlan, Work};
use crate::run::products::{CLOUD, SEAL, maps_of_other_runs};
use crate::run::resume::MadeBy;

/// The seal's content.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    /// Of everything that the results depend on.
    asked_sha256: String,
    /// Of the files that belong to no view, by name.
    files: BTreeMap<String, String>,
}

/// A hash of all that the results of a run depend on, and of all that it says of them.
pub fn asked(work: Work, jobs: &LevelJobs, job: &Fields<String, Value>, notes: &[String]) -> String {
    let Work { plan, options, .. } = work;
    let of_view = |(view, levels): (&ViewPlan, &Vec<LevelJob>)| {
        let levels: Vec<&MadeBy> = levels.iter().map(LevelJob::made_by).collect();
        let mut of_view = json!({ "name": work.name(view), "levels": levels, "check": view.check });
        if let Some(mask) = &work.scene.views[view.view].mask {
            // One that cannot be read stops the run where it is used.
            of_view["mask_sha256"] = json!(work.hashes.of_file(mask).unwrap_or_default());
        }
        hash::of_bytes(of_view.to_string().as_bytes())
    };
    let views: Vec<String> = plan.views.par_iter().zip(&jobs.of_views).map(of_view).collect();
    let all = json!({
        "job": job,
        "parameters": parameters(options),
        "notes": notes,
        "views": views,
    });
    hash::of_bytes(all.to_string().as_bytes())
}

/// The manifest of the run that has made everything that is asked for, if there was one and all of it is still there.
pub fn recognised(work: Work, jobs: &LevelJobs, job: &Fields<String, Value>, asked: &str) -> Option<Manifest> {
    let Work { plan, out, hashes, .. } = work;
    if !jobs.all_finished() {
        return None;
    }
    let seal: Seal = serde_json::from_slice(&input::read(&out.join(SEAL), "read the seal").ok()?).ok()?;
    if seal.asked_sha256 != asked || !seal.files.iter().all(|(name, sha256)| hashes.is(&out.join(name), sha256)) {
        return None;
    }
    let is_there = |view: &ViewPlan| {
        Made::read(out, work.name(view)).is_some_and(|made| made.job == *job && made.is_as_it_was_made(out, hashes))
    };
    if !plan.views.par_iter().all(is_there) {
        return None;
    }
    let manifest = Manifest::read(out).ok()??;
    // Maps that others have put there since are worth a run that says so.
    maps_of_other_runs(work, job).iter().all(|note| manifest.notes.contains(note)).then_some(manifest)
}

/// Leaves the seal, as the last of all files.
///
/// # Errors
/// Files that cannot be read back or written.
pub fn seal(out: &Path, asked: String, cloud_sha256: Option<String>) -> Result<()> {
    let mut files = BTreeMap::from([(MANIFEST.to_owned(), hash::of_file(&out.join(MANIFEST))?)]);
    files.extend(cloud_sha256.map(|sha256| (CLOUD.to_owned(), sha256)));
    folder::write_json(&out.join(SEAL), "write what is finished", &Seal { asked_sha256: asked, files })
}
