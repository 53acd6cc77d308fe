//! Whether a run with these options would fit into memory.

use serde_json::json;

use super::finding::{Finding, Grade};
use crate::host::memory as machine;
use crate::host::memory::readable;
use crate::net::BsMvsNet;
use crate::run::memory::RunSize;
use crate::run::plan::Plan;
use crate::run::{InferOptions, memory as need};
use crate::scene::Scene;

/// From this share of what is available on, another program may make the run fail.
const TIGHT: f64 = 0.85;

/// Plans the memory as a run does before it starts.
pub fn check(scene: &Scene, plan: &Plan, network: &BsMvsNet, options: &InferOptions, findings: &mut Vec<Finding>) {
    let available = options.memory.unwrap_or_else(machine::available);
    let cache =
        plan.views.iter().map(|view| need::features_of_one_view(&plan.frames, view, options.levels)).max().unwrap_or(0);
    let host = |width, height, planes| network.memory_plan(width, height, planes, rayon::current_num_threads()).peak(0);
    let run = RunSize { network: &host, levels: options.levels, depth_left: true, fused: !options.depth_only, cache };
    let need = need::need(&scene.views, &plan.frames, &plan.views, None, &run);
    let otherwise = "smaller copies of the photos, fewer views or a machine with more memory would help";
    let alternatives = need::alternatives(scene, plan, run);
    let numbers = json!({ "needed": need.peak(), "available": available, "stages": need.stages });
    let finding = match machine::refuse_if_too_large(&need, available, &alternatives, otherwise) {
        Err(error) => Finding::new(Grade::Problem, "memory", "too-large", error.to_string(), "", ""),
        Ok(()) => {
            let text =
                format!("a run would need {} of {} that are available", readable(need.peak()), readable(available));
            match need.peak() as f64 > TIGHT * available as f64 {
                true => Finding::new(Grade::Note, "memory", "tight", text, "", "close other programs first"),
                false => Finding::ok("memory", "memory", text),
            }
        }
    };
    findings.push(finding.with(numbers));
}
