//! Whether a run with these options would fit into memory.

use serde_json::json;

use super::finding::{Finding, Grade};
use crate::cpu::network::BsMvsNet;
use crate::host::memory::{readable, refuse_if_too_large};
use crate::host::memory_limits::room;
use crate::run::memory::RunSize;
use crate::run::options::InferOptions;
use crate::run::plan::Plan;
use crate::scene::Scene;

/// From this share of what is available on, another program may make the run fail.
const TIGHT: f64 = 0.85;

/// Plans the memory as a run does before it starts.
pub fn check(scene: &Scene, plan: &Plan, network: &BsMvsNet, options: &InferOptions, findings: &mut Vec<Finding>) {
    let there = room(options.memory);
    let finest = options.resolution;
    let host = |width, height, planes| {
        network.memory_plan((width, height), planes, rayon::current_num_threads(), finest).peak(0)
    };
    let run = RunSize { room: there.bytes, ..RunSize::new(scene, plan, options, &host) };
    let need = run.need();
    let otherwise = "smaller copies of the photos, fewer views or a machine with more memory would help";
    let numbers = json!({ "needed": need.peak(), "available": there.bytes, "stages": need.stages });
    let finding = match refuse_if_too_large(&need, &there, &run.alternatives(), otherwise) {
        Err(error) => Finding::new(Grade::Problem, "memory", "too-large", error.to_string(), "", ""),
        Ok(()) => {
            let text = format!(
                "a run would need {} of {} that are available{}",
                readable(need.peak()),
                readable(there.bytes),
                there.limit
            );
            match need.peak() as f64 > TIGHT * there.bytes as f64 {
                true => Finding::new(Grade::Note, "memory", "tight", text, "", "close other programs first"),
                false => Finding::ok("memory", "memory", text),
            }
        }
    };
    findings.push(finding.with(numbers));
}
