//! The maps of a run, whoever wrote them last: whether all of their pixels can be used.

use serde_json::json;

use super::files;
use super::finding::{Finding, Grade, percent};
use crate::error::Result;
use crate::files::pfm;
use crate::files::subfolders::find;
use crate::host::interrupt;
use crate::manifest::Manifest;
use crate::maps::valid::{Invalid, invalid};

/// Looks at every depth map that lies beside its confidence map.
///
/// # Errors
/// An interrupt.
pub fn check(run: &Manifest, findings: &mut Vec<Finding>) -> Result<()> {
    let (mut found, mut pixels, mut views) = (Invalid::default(), 0, Vec::new());
    for view in &run.views {
        interrupt::check()?;
        let file = |kind: &str| find(&run.folder.join(kind), &view.name, "pfm");
        let [depth, confidence] = ["depth", "confidence"].map(file);
        if !depth.exists() || !confidence.exists() {
            continue;
        }
        let (depth, confidence) = match (pfm::read(&depth), pfm::read(&confidence)) {
            (Ok(depth), Ok(confidence)) => (depth, confidence),
            (Err(error), _) | (_, Err(error)) => {
                findings.push(files::refused("run", "run-map-unreadable", &error));
                continue;
            }
        };
        let of_view = invalid(&depth, &confidence);
        pixels += depth.data.len();
        found = found.and(of_view);
        if !of_view.is_none() {
            views.push(view.name.clone());
        }
    }
    if !found.is_none() {
        let share = percent((found.confidence + found.depth) as f64 / pixels.max(1) as f64);
        findings.push(
            Finding::new(
                Grade::Warning,
                "run",
                "run-map-values",
                format!("{} ({share} of all)", found.notes(&run.folder.display().to_string()).join("; ")),
                "confidences from 0 to 1, and depths that lead somewhere",
                "if another program wrote these maps, scale its confidences to 0..1",
            )
            .of_views(views)
            .with(json!({ "confidence": found.confidence, "depth": found.depth })),
        );
    }
    Ok(())
}
