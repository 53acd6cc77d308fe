//! Mistakes put into the calls that the program makes, one at a time, as if it made them in another way: each must be
//! found by the stand-in, or show in the maps.

use crate::stand::{Stand, all, infer, results};

struct Fault {
    what: &'static str,
    /// As ENGINE_STANDIN_FAULTS has it.
    calls: &'static str,
    /// A word of what is found; `None` where the maps differ.
    found: Option<&'static str>,
    /// Whether it is among those that every `cargo test` tries.
    quick: bool,
}

const fn fault(what: &'static str, calls: &'static str, found: Option<&'static str>, quick: bool) -> Fault {
    Fault { what, calls, found, quick }
}

const UNWRITTEN: Option<&str> = Some("nobody wrote");

const FAULTS: &[Fault] = &[
    fault("depth maps do not wait for features", "skip cuStreamWaitEvent *", UNWRITTEN, true),
    fault("the features' event is not recorded", "skip cuEventRecord *", UNWRITTEN, false),
    fault("page-locked memory is filled again too early", "skip cuStreamSynchronize *", None, true),
    fault("page-locked memory is changed before its copy", "scribble cuMemcpyHtoDAsync_v2 *", None, false),
    fault("a buffer is freed while a kernel uses it", "free-under cuLaunchKernel 3", Some("still uses"), true),
    fault("a feature map is freed before it is copied", "free-under cuMemcpyDtoDAsync_v2 2", Some("still uses"), false),
    fault("a buffer is freed twice", "twice cuMemFree_v2 1", Some("no allocation"), false),
    fault("a buffer is not freed", "skip cuMemFree_v2 2", Some("with 1 allocations"), false),
    fault("page-locked memory is not freed", "skip cuMemFreeHost 1", Some("page-locked memory"), false),
    fault("a recording is not let go", "skip cuGraphExecDestroy 1", Some("executable graphs"), false),
    fault("a stream is not let go", "skip cuStreamDestroy_v2 1", Some("with 1 streams"), false),
    fault("a module is not unloaded", "skip cuModuleUnload 1", Some("with 1 modules"), false),
    fault("a kernel is in another stream", "other-stream cuLaunchKernel 7", UNWRITTEN, true),
    fault("a map is not copied", "skip cuMemcpyDtoDAsync_v2 3", UNWRITTEN, false),
    fault("an input is not copied", "skip cuMemcpyHtoDAsync_v2 5", UNWRITTEN, false),
    fault("a kernel is left out", "skip cuLaunchKernel 4", UNWRITTEN, false),
    fault("too many threads", "threads cuLaunchKernel 5 2048", Some("threads"), false),
];

const DEVICE: [&str; 5] = ["--device", "cuda", "--precision", "f32", "--depth-only"];

#[test]
fn mistakes_in_calls_are_caught() {
    let Some(stand) = Stand::new() else { return };
    let sound = stand.path("out");
    let (ran, seen) = stand.run(&infer(&sound, &DEVICE));
    ran.done();
    seen.clean();
    let sound = results(&sound);
    let mut missed = Vec::new();
    for fault in FAULTS.iter().filter(|fault| fault.quick || all()) {
        let stand = Stand::new().unwrap().with("ENGINE_STANDIN_FAULTS", fault.calls);
        let out = stand.path("out");
        let (ran, seen) = stand.run(&infer(&out, &DEVICE));
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
