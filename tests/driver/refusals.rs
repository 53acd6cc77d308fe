//! What the program says and leaves when the driver refuses: one line, the exit code of its kind, and no half of a
//! result.

use crate::stand::{Stand, all, results, smallest};

const DEVICE: [&str; 2] = ["--device", "cuda"];

/// Everything that a run leaves in its folder is whole: maps with their records, or nothing.
fn nothing_half(stand: &Stand) {
    let out = stand.path("out");
    if out.exists() {
        let names = crate::program::files(&out);
        assert!(names.keys().all(|path| !path.to_string_lossy().contains(".part")), "{:?}", names.keys());
        assert!(!out.join("fused.ply").exists());
    }
}

/// Out of memory at each of the first allocations, and where page-locked memory is asked for.
#[test]
fn a_lack_of_memory_is_one_line_with_what_is_free() {
    let Some(_) = Stand::new() else { return };
    for (fault, says) in [
        ("fail cuMemAlloc_v2 1 2", "a plan of "),
        ("fail cuMemAlloc_v2 3 2", "photos on their way"),
        ("fail cuMemAlloc_v2 6 2", "finished maps"),
        // Tried a second time, smaller.
        ("fail cuMemAlloc_v2 7 2; fail cuMemAlloc_v2 8 2", "a feature map "),
        ("fail cuMemHostAlloc 1 2", "locking "),
    ] {
        let stand = Stand::new().unwrap().with("ENGINE_STANDIN_FAULTS", fault);
        let out = stand.path("out");
        let (ran, seen) = stand.run(&smallest(&out, &DEVICE));
        let code = ran.code.unwrap();
        let message = ran.failed(code).to_owned();
        assert!(message.starts_with("memory: ") && message.contains(says), "{fault}: {message}");
        assert!(message.contains("out of memory"), "{message}");
        seen.clean();
        nothing_half(&stand);
    }
}

/// Each entry point that a run calls, the first, the middle and the last time: a lack of memory is one line, or the run
/// does without; nothing is left half, and the same command goes on to what a run without a failure makes.
#[test]
fn a_lack_of_memory_at_any_call_loses_nothing() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new() else { return };
    let Some(stand) = stand.with_compiled_kernels() else { return };
    let sound = stand.path("out");
    let (ran, seen) = stand.run(&smallest(&sound, &DEVICE));
    ran.done();
    let sound = results(&sound);
    let calls = seen.numbers.iter().filter_map(|(name, &count)| Some((name.strip_prefix("calls ")?, count)));
    let (mut tried, mut problems) = (0, Vec::new());
    for (entry, count) in calls {
        for which in std::collections::BTreeSet::from([1, count.div_ceil(2), count]) {
            let fault = format!("fail {entry} {which} 2");
            let stand = Stand::new().unwrap().with_compiled_kernels().unwrap().with("ENGINE_STANDIN_FAULTS", &fault);
            let out = stand.path("out");
            let (ran, _) = stand.run(&smallest(&out, &DEVICE));
            tried += 1;
            if ran.code == Some(0) {
                if results(&out) != sound {
                    problems.push(format!("{fault}: other maps"));
                }
                continue;
            }
            let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
            let told = lines.len() == 1 && ran.stderr.ends_with(&format!("{}\n", lines[0]));
            let named = told && (lines[0].contains("out of memory") || lines[0].contains("OUT_OF_MEMORY"));
            if !named || ran.code.is_none_or(|code| code == 101) {
                problems.push(format!("{fault}: exit code {:?}, {}", ran.code, ran.stderr));
            }
            nothing_half(&stand);
            let stand = stand.with("ENGINE_STANDIN_FAULTS", "");
            stand.run(&smallest(&out, &DEVICE)).0.done();
            if results(&out) != sound {
                problems.push(format!("{fault}: other maps when it goes on"));
            }
        }
    }
    assert!(tried > 40, "{tried}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What goes wrong on the GPU is told by a later call, and is no lack of memory.
#[test]
fn an_illegal_access_names_the_view_the_kernel_and_the_tool() {
    let Some(_) = Stand::new() else { return };
    let message = |variables: &[(&str, &str)]| {
        let stand = variables.iter().fold(Stand::new().unwrap(), |stand, (name, value)| stand.with(name, value));
        let out = stand.path("out");
        let (ran, _) = stand.run(&smallest(&out, &DEVICE));
        let message = ran.failed(8).to_owned();
        nothing_half(&stand);
        message
    };
    let fault = ("ENGINE_STANDIN_FAULTS", "fail-later cuLaunchKernel 5 700");
    let said = message(&[fault]);
    // Noticed when the first map is begun: it may be of any photo that was queued before.
    let noticed = "device: view 00000000, level 0: ";
    assert!(said.starts_with(noticed) && said.contains("an illegal memory access was encountered"), "{said}");
    let of_photos = ["00000000", "00000001", "00000002"].map(|view| format!("features of view {view}")).join(" or ");
    assert!(said.contains(&format!(" launches for {of_photos}, the last first: ")), "{said}");
    assert!(said.contains("it was in one of ") && said.contains("ENGINE_CUDA_BLOCKING=1 names the launch"), "{said}");
    let of_last = message(&[("ENGINE_STANDIN_FAULTS", "fail-later cuLaunchKernel 45 700")]);
    // By then the photos' work was waited for.
    let of_map = " launches for view 00000000, level 0, the last first: ";
    assert!(of_last.starts_with(noticed) && of_last.contains(of_map), "{of_last}");
    assert!(said.contains("compute-sanitizer"), "{said}");
    let said = message(&[fault, ("ENGINE_CUDA_BLOCKING", "1")]);
    assert!(said.contains(", in `") && said.contains(" with grid ") && !said.contains("in one of "), "{said}");
    // An allocation that reports it is not taken for a lack of memory.
    let said = message(&[("ENGINE_STANDIN_FAULTS", "fail cuMemAlloc_v2 5 700")]);
    assert!(said.starts_with("device: ") && said.contains("an illegal memory access"), "{said}");
}

/// A recording that cannot be made is done without; the bits are the same.
#[test]
fn without_recordings_the_run_goes_on() {
    if !all() {
        return;
    }
    let compiled = || Stand::new().and_then(Stand::with_compiled_kernels);
    let Some(stand) = compiled() else { return };
    let out = stand.path("out");
    let (ran, _) = stand.run(&smallest(&out, &DEVICE));
    ran.done();
    let faults = [
        "fail cuStreamBeginCapture_v2 * 900",
        "fail cuStreamEndCapture * 901",
        "fail cuGraphInstantiateWithFlags * 2",
        // Of features alone.
        "fail cuStreamEndCapture 1 901",
    ];
    for fault in faults {
        let other = compiled().unwrap().with("ENGINE_STANDIN_FAULTS", fault);
        let (ran, seen) = other.run(&smallest(&other.path("out"), &DEVICE));
        ran.done();
        // Nothing leaks, either.
        seen.clean();
        assert!(results(&other.path("out")) == results(&out), "{fault}");
    }
}

/// An older driver has another name for the call that reads timers, which `bench` makes; a profiler hears every step.
#[test]
fn an_older_driver_and_a_profiler() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new().and_then(Stand::with_compiled_kernels) else { return };
    // A device's copy is measured with a part of its memory, which is the host's here.
    let stand = stand.without_the_newer_timer().with("ENGINE_STANDIN_MEMORY", "134217728");
    // The same file, so that one log has both.
    let profiler = stand.path("lib/libcuda.so.1");
    let stand = stand.with("NVTX_INJECTION64_PATH", profiler.to_str().unwrap());
    let (ran, seen) = stand.run(&smallest(&stand.path("out"), &DEVICE));
    ran.done();
    let ranges = seen.log.iter().filter(|line| line.starts_with("RANGE ") && *line != "RANGE END");
    let names: std::collections::BTreeSet<&String> = ranges.collect();
    for op in ["convolution", "sweep", "head"] {
        assert!(names.iter().any(|name| name.contains(op)), "no range of a {op}: {names:?}");
    }
    let count = |what: &str| seen.log.iter().filter(|line| line.starts_with(what)).count();
    assert_eq!(count("RANGE "), 2 * count("RANGE END"));
    let words = ["bench", "table3", "--device", "cuda", "--width", "64", "--height", "48", "--planes", "8"];
    let (ran, seen) = stand.run(&[&words[..], &["--repetitions", "1"]].concat());
    ran.done();
    assert!(seen.count("calls cuEventElapsedTime") > 0 && seen.count("calls cuEventElapsedTime_v2") == 0);
}
