//! Mistakes put into the calls that the program makes, one at a time, as if it made them in another way: each must be
//! found by the stand-in, or show in the maps.

use crate::stand::{Stand, all, results, smallest};

struct Fault {
    what: &'static str,
    /// As ENGINE_STANDIN_FAULTS has it.
    calls: &'static str,
    /// A word of what is found; `None` where the maps differ.
    found: Option<&'static str>,
}

const fn fault(what: &'static str, calls: &'static str, found: Option<&'static str>) -> Fault {
    Fault { what, calls, found }
}

const UNWRITTEN: Option<&str> = Some("nobody wrote");

const FAULTS: &[Fault] = &[
    fault("depth maps do not wait for features", "skip cuStreamWaitEvent *", UNWRITTEN),
    fault("the features' event is not recorded", "skip cuEventRecord *", UNWRITTEN),
    fault("page-locked memory is filled again too early", "skip cuStreamSynchronize *", None),
    fault("page-locked memory is changed before its copy", "scribble cuMemcpyHtoDAsync_v2 *", None),
    fault("a buffer is freed while a kernel uses it", "free-under cuLaunchKernel 3", Some("still uses")),
    fault("a feature map is freed before it is copied", "free-under cuMemcpyDtoDAsync_v2 2", Some("still uses")),
    fault("a buffer is freed twice", "twice cuMemFree_v2 1", Some("no allocation")),
    fault("a buffer is not freed", "skip cuMemFree_v2 2", Some("with 1 allocations")),
    fault("page-locked memory is not freed", "skip cuMemFreeHost 1", Some("page-locked memory")),
    fault("a recording is not let go", "skip cuGraphExecDestroy 1", Some("executable graphs")),
    fault("a stream is not let go", "skip cuStreamDestroy_v2 1", Some("with 1 streams")),
    fault("a module is not unloaded", "skip cuModuleUnload 1", Some("with 1 modules")),
    fault("a kernel is in another stream", "other-stream cuLaunchKernel 1", UNWRITTEN),
    fault("a map is not copied", "skip cuMemcpyDtoDAsync_v2 3", UNWRITTEN),
    fault("an input is not copied", "skip cuMemcpyHtoDAsync_v2 5", UNWRITTEN),
    fault("the first kernel is left out", "skip cuLaunchKernel 1", UNWRITTEN),
    // Its output lies where an earlier one's was.
    fault("a later kernel is left out", "skip cuLaunchKernel 4", None),
    fault("too many threads", "threads cuLaunchKernel 5 2048", Some("threads")),
];

const DEVICE: [&str; 2] = ["--device", "cuda"];

#[test]
fn mistakes_in_calls_are_caught() {
    let Some(stand) = Stand::new() else { return };
    let sound = stand.path("out");
    let (ran, seen) = stand.run(&smallest(&sound, &DEVICE));
    ran.done();
    seen.clean();
    let sound = results(&sound);
    let mut missed = Vec::new();
    // Every day a few, of different kinds.
    let share = FAULTS.iter().step_by(if all() { 1 } else { 5 });
    for fault in share {
        let stand = Stand::new().unwrap().with("ENGINE_STANDIN_FAULTS", fault.calls);
        let out = stand.path("out");
        let (ran, seen) = stand.run(&smallest(&out, &DEVICE));
        let caught = match fault.found {
            Some(word) => seen.found.iter().any(|found| found.contains(word)),
            None => ran.code == Some(0) && results(&out) != sound,
        };
        if !caught {
            missed.push(format!("{} ({}): exit code {:?}, {:?}", fault.what, fault.calls, ran.code, seen.found));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
