//! What the doctor says of the run and its scene.

use std::path::Path;

use serde::Deserialize;

use crate::cpu::network::BsMvsNet;
use crate::doctor::finding::Finding;
use crate::doctor::{DoctorOptions, examine};
use crate::error::Result;
use crate::export::photos::as_read;
use crate::manifest::Manifest;
use crate::run::options::InferOptions;
use crate::scene::camera::{DepthRange, Sampling};

/// The options of a run that the doctor looks at, as a manifest has them; others are the usual ones.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AsAsked {
    views: Option<usize>,
    planes: Option<usize>,
    range: Option<DepthRange>,
    widen_range: Option<f64>,
    sampling: Option<Sampling>,
    levels: Option<usize>,
    only: Vec<String>,
}

/// Asks the doctor about a finished run, with the options that it had. The worst comes first.
///
/// What is said of the memory of a run to come is left out: the run is over, and it would differ from machine to
/// machine.
///
/// # Errors
/// Maps or photos that cannot be read; an interrupt.
pub fn findings(manifest: &Manifest, scene: &Path, match_photos: bool) -> Result<Vec<Finding>> {
    let parameters = serde_json::Value::Object(manifest.parameters.clone());
    let asked: AsAsked = serde_json::from_value(parameters).unwrap_or_default();
    let usual = InferOptions::default();
    let mut open = as_read(manifest);
    open.range_given = asked.range.is_some();
    let infer = InferOptions {
        open,
        max_side: manifest.max_side(),
        only: asked.only,
        views: asked.views.unwrap_or(usual.views),
        planes: asked.planes,
        range: asked.range,
        widen_range: asked.widen_range.unwrap_or(usual.widen_range),
        sampling: asked.sampling,
        levels: asked.levels.unwrap_or(usual.levels).clamp(1, 8),
        ..usual
    };
    let options = DoctorOptions { infer, run: Some(manifest.folder.clone()), match_photos };
    let mut findings = examine(scene, &BsMvsNet::built_in()?, &options)?.findings;
    findings.retain(|finding| finding.check != "memory");
    // Those of one grade stay in the order of the checks.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.grade));
    Ok(findings)
}
