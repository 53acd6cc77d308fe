//! Mistakes put into the calls that the program makes, one at a time, as if it made them in another way: each must be
//! found by the stand-in, or show in the maps.

use crate::stand::{Stand, all, results, smallest, three_views};

struct Fault {
    what: &'static str,
    /// As ENGINE_STANDIN_FAULTS has it.
    calls: &'static str,
    /// A word of what is found; `None` where the maps differ.
    found: Option<&'static str>,
    /// When work runs, of a run with three views; else late, with one.
    order: Option<&'static str>,
}

const fn fault(what: &'static str, calls: &'static str, found: Option<&'static str>) -> Fault {
    Fault { what, calls, found, order: None }
}

/// One that shows among several views, in this order of work.
const fn between(what: &'static str, order: &'static str, calls: &'static str, found: Option<&'static str>) -> Fault {
    Fault { what, calls, found, order: Some(order) }
}

const UNWRITTEN: Option<&str> = Some("nobody wrote");

const FAULTS: &[Fault] = &[
    fault("depth maps do not wait for features", "skip cuStreamWaitEvent *", UNWRITTEN),
    fault("the features' event is not recorded", "skip cuEventRecord *", UNWRITTEN),
    fault("a photo's features do not wait for its copy", "skip cuStreamWaitEvent 5", None),
    fault("the paths are fused before one of them is there", "skip cuStreamWaitEvent 8", None),
    fault("a depth map is copied back before it is made", "skip cuStreamWaitEvent 9", UNWRITTEN),
    fault("a depth map is taken before it is there", "skip cuEventSynchronize 3", None),
    fault("page-locked memory is filled again too early", "skip cuEventSynchronize 1", None),
    fault("page-locked memory is changed before its copy", "scribble cuMemcpyHtoDAsync_v2 1", None),
    fault("a buffer is freed while a kernel uses it", "free-under cuLaunchKernel 3", Some("still uses")),
    fault("a feature map is freed before it is copied", "free-under cuMemcpyDtoDAsync_v2 2", Some("still uses")),
    fault("a buffer is freed twice", "twice cuMemFree_v2 1", Some("no allocation")),
    fault("a buffer is not freed", "skip cuMemFree_v2 2", Some("with 1 allocations")),
    fault("page-locked memory is not freed", "skip cuMemFreeHost 1", Some("page-locked memory")),
    fault("a recording is not let go", "skip cuGraphExecDestroy 1", Some("executable graphs")),
    fault("a stream is not let go", "skip cuStreamDestroy_v2 1", Some("with 1 streams")),
    fault("a module is not unloaded", "skip cuModuleUnload 1", Some("with 1 modules")),
    fault("a kernel is in another stream", "other-stream cuLaunchKernel 1", UNWRITTEN),
    fault("a map is not copied", "skip cuMemcpyDtoDAsync_v2 7", UNWRITTEN),
    fault("an input is not copied", "skip cuMemcpyHtoDAsync_v2 5", UNWRITTEN),
    fault("the first kernel is left out", "skip cuLaunchKernel 1", UNWRITTEN),
    // Its output lies where an earlier one's was.
    fault("a later kernel is left out", "skip cuLaunchKernel 4", None),
    fault("too many threads", "threads cuLaunchKernel 5 2048", Some("threads")),
    between("a photo is copied over the one before", "uploads-first", "skip cuStreamWaitEvent 2", None),
    between("a view's maps take the place of those before", "reads-last", "skip cuStreamWaitEvent 13", None),
];

const DEVICE: [&str; 2] = ["--device", "cuda"];

#[test]
fn mistakes_in_calls_are_caught() {
    let Some(_) = Stand::new() else { return };
    let run = |fault: &str, order: Option<&str>| {
        let stand = Stand::new().unwrap().with("ENGINE_STANDIN_FAULTS", fault);
        let stand = stand.with("ENGINE_STANDIN_ORDER", order.unwrap_or("late"));
        let out = stand.path("out");
        let (ran, seen) = match order {
            None => stand.run(&smallest(&out, &[&DEVICE[..], &["--threads", "1"]].concat())),
            Some(_) => stand.run(&three_views(&out, &DEVICE)),
        };
        let maps = (ran.code == Some(0)).then(|| results(&out));
        (ran, seen, maps)
    };
    let sound = |order: Option<&str>| {
        let (ran, seen, maps) = run("", order);
        ran.done();
        seen.clean();
        maps
    };
    let of_one = sound(None);
    // Every day a few, of different kinds.
    let share: Vec<&Fault> = FAULTS.iter().step_by(if all() { 1 } else { 5 }).collect();
    let of_three = share.iter().find_map(|fault| fault.order).map(|_| sound(Some("late")));
    let mut missed = Vec::new();
    for fault in share {
        let (ran, seen, maps) = run(fault.calls, fault.order);
        let sound = if fault.order.is_some() { of_three.as_ref().and_then(Option::as_ref) } else { of_one.as_ref() };
        let caught = match fault.found {
            Some(word) => seen.found.iter().any(|found| found.contains(word)),
            None => maps.is_some() && maps.as_ref() != sound,
        };
        if !caught {
            missed.push(format!("{} ({}): exit code {:?}, {:?}", fault.what, fault.calls, ran.code, seen.found));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
