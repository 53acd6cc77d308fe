//! What a run says when it is over.

use std::collections::BTreeMap;

use serde_json::json;

use crate::error::counted;
use crate::files::names::in_json;
use crate::fusion::funnel::Funnel;
use crate::fusion::settings::{FusionOptions, Method, Pyramid};
use crate::host::memory;
use crate::host::progress::{Progress, duration, one_line};
use crate::manifest::Manifest;

/// Prints the closing summary of a run that took so many seconds. `advice` says what would give more points, and
/// whether that is a hint or is told elsewhere.
pub fn summary(
    manifest: &Manifest,
    options: Option<&FusionOptions>,
    (advice, is_hint): (Option<&str>, bool),
    seconds: f64,
    progress: &Progress,
) {
    let text = summary_text(manifest, options, advice.filter(|_| is_hint), seconds);
    progress.summary(
        &text,
        json!({
            "command": manifest.command, "out": in_json(&manifest.folder), "depth_maps": manifest.views.len(),
            "points": manifest.points, "funnel": manifest.funnel, "seconds": manifest.seconds,
            "memory_peak": manifest.machine.memory_peak, "advice": advice,
            "outputs": outputs_by_folder(&manifest.outputs),
        }),
    );
}

/// How many files lie in each folder; files beside the folders under their own names.
fn outputs_by_folder(outputs: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for output in outputs {
        *counts.entry(output.split_once('/').map_or(output.as_str(), |(folder, _)| folder)).or_default() += 1;
    }
    counts
}

fn summary_text(manifest: &Manifest, options: Option<&FusionOptions>, advice: Option<&str>, seconds: f64) -> String {
    let maps = manifest.views.len();
    let peak = manifest.machine.memory_peak.map_or(String::new(), |b| format!(", peak memory {}", memory::readable(b)));
    let mut lines = Vec::new();
    let made = match options {
        Some(_) => format!("{} from {}", counted(manifest.points, "point"), counted(maps, "depth map")),
        None => counted(maps, "depth map"),
    };
    lines.push(format!("{made} in {}{peak}", duration(seconds)));
    if let (Some(funnel), Some(options)) = (&manifest.funnel, options) {
        lines.push(funnel_text(funnel, options));
    }
    let written = outputs_by_folder(&manifest.outputs).into_keys();
    let written = written.map(|name| if name.contains('.') { name.to_owned() } else { format!("{name}/") });
    let out = one_line(&manifest.folder.display().to_string());
    lines.push(format!("written to {out}: {}", written.collect::<Vec<_>>().join(" ")));
    lines.extend(advice.map(|a| format!("hint: {a}")));
    lines.join("\n")
}

/// One sentence: where the pixels went.
fn funnel_text(funnel: &Funnel, options: &FusionOptions) -> String {
    let share = |n: usize| format!("{:.1} %", 100.0 * n as f64 / funnel.pixels.max(1) as f64);
    let least = options.method.asked();
    let fewer: Vec<String> = funnel
        .agreed
        .iter()
        .take(least.saturating_sub(1))
        .enumerate()
        .map(|(i, &n)| format!("by {}: {}", i + 1, share(n)))
        .collect();
    let fewer = if fewer.is_empty() { String::new() } else { format!(" ({})", fewer.join(", ")) };
    // More kept than agreed: some views have fewer sources, and all of theirs were enough.
    let or_all = match funnel.agreed.get(least.saturating_sub(1)) {
        Some(&agreed) if agreed == funnel.kept => "",
        _ => ", or by all where a view has fewer",
    };
    let (asked_for, or_all) = match options.method {
        Method::Reprojection(_) | Method::Pyramid(_) => (format!("{least} source views"), or_all),
        _ => (options.method.asked_for(), ""),
    };
    let keeps_duplicates = match options.method {
        Method::Reprojection(m) | Method::Pyramid(Pyramid { reprojection: m, .. }) => m.keep_duplicates,
        Method::Dynamic(m) => m.keep_duplicates,
        Method::Disparity(_) | Method::Graph(_) => false,
    };
    let repeated = if keeps_duplicates {
        String::new()
    } else {
        format!("{} repeat an earlier point, ", share(funnel.duplicates))
    };
    let objections: String = funnel.objections().iter().map(|(n, why)| format!("{} {why}, ", share(*n))).collect();
    let specks = match funnel.specks {
        0 => String::new(),
        n => format!(", {} are specks", share(n)),
    };
    let beyond = match funnel.beyond {
        0 => String::new(),
        n => format!(", {} outside of the region of interest", counted(n, "point")),
    };
    let thinned = match funnel.thinned {
        0 => String::new(),
        n => format!(", thinned to {}", counted(funnel.fused - funnel.beyond - n, "point")),
    };
    format!(
        "of {} pixels {} lie in range{specks}, {} have a confidence above {}, {} are confirmed by \
         {asked_for}{or_all}{fewer}; {repeated}{objections}{} became points{beyond}{thinned}",
        funnel.pixels,
        share(funnel.in_range),
        share(funnel.confident),
        options.min_confidence,
        share(funnel.kept),
        share(funnel.fused),
    )
}
