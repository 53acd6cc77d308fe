//! Whole runs: `infer`, `train` and `bench` on the stand-in, against the processor's results.

use std::path::Path;

use engine::files::pfm;

use crate::program::{files, json};
use crate::stand::{Seen, Stand, VIEWS, all, infer, results, smallest};

const DEVICE: [&str; 4] = ["--device", "cuda", "--precision", "f32"];
const HOST: [&str; 2] = ["--device", "cpu"];

/// Depths differ by roundings alone: 2e-3 of an interval of inverse depth (tests/cuda_network.rs has the reason). Of
/// maps that photos refine, which jumps where two candidates are as good, 99.9 % must be as close.
fn compare(host: &Path, device: &Path, refined: bool) {
    let manifest = json(&host.join("manifest.json"));
    for name in VIEWS {
        let view = manifest["views"].as_array().unwrap().iter().find(|view| view["name"] == *name).unwrap();
        let range = &view["depth"]["range"];
        let [near, far] = ["near", "far"].map(|end| range[end].as_f64().unwrap());
        let interval = (1.0 / near - 1.0 / far) / 7.0;
        let maps = [host, device].map(|out| pfm::read(&out.join(format!("levels/0/depth/{name}.pfm"))).unwrap());
        assert_eq!((maps[0].width, maps[0].height), (maps[1].width, maps[1].height));
        let moved = |(a, b): (&f32, &f32)| (1.0 / f64::from(*a) - 1.0 / f64::from(*b)).abs() / interval;
        let moved: Vec<f64> = maps[0].data.iter().zip(&maps[1].data).map(moved).collect();
        let apart = moved.iter().filter(|&&m| m > 2e-3 || m.is_nan()).count();
        let allowed = if refined { moved.len() / 1000 } else { 0 };
        assert!(apart <= allowed, "{name}: {apart} of {} pixels are more than 2e-3 apart", moved.len());
    }
}

fn device_run(stand: &Stand, out: &str, more: &[&str]) -> Seen {
    let out = stand.path(out);
    let words = infer(&out, &[&DEVICE[..], more].concat());
    let (ran, seen) = stand.run(&words);
    ran.done();
    seen.clean();
    assert_eq!(json(&out.join("manifest.json"))["network"]["precision"], "f32");
    seen
}

/// Work runs as late as it may, and then at random times: the bits do not depend on it.
#[test]
fn a_scene_gives_the_processors_maps_whenever_work_runs() {
    let Some(stand) = Stand::new() else { return };
    let host = stand.path("host");
    stand.run(&infer(&host, &HOST)).0.done();
    let seen = device_run(&stand, "late", &[]);
    compare(&host, &stand.path("late"), false);
    // One recording for each size of work, each replayed.
    assert!(seen.count("calls cuGraphLaunch") >= 1, "{:?}", seen.numbers);
    let orders: &[&str] = if all() { &["early", "1", "2"] } else { &[] };
    for order in orders {
        let stand = Stand::new().unwrap().with("ENGINE_STANDIN_ORDER", order);
        let other = stand.path("out");
        device_run(&stand, "out", &[]);
        assert!(results(&other) == results(&host.with_file_name("late")), "order {order}");
    }
}

/// Both types of its tensors, and a layer that it refuses.
#[test]
fn convolutions_by_cudnn() {
    let Some(stand) = Stand::new() else { return };
    let words = ["--convolutions", "cudnn"];
    let missing = stand.path("missing");
    let (ran, _) = stand.run(&infer(&missing, &[&DEVICE[..], &words].concat()));
    let message = ran.failed(8).to_owned();
    assert!(message.contains("libcudnn.so.9 was not found"), "{message}");
    if !all() {
        return;
    }
    let stand = stand.with_cudnn();
    let host = stand.path("host");
    stand.run(&infer(&host, &HOST)).0.done();
    let seen = device_run(&stand, "cudnn", &words);
    compare(&host, &stand.path("cudnn"), false);
    let convolutions = |seen: &Seen| seen.count("calls cudnnConvolutionBiasActivationForward");
    assert!(convolutions(&seen) > 0);
    // The bias has the type of the tensors, and what follows f16 has no use for.
    let half = stand.path("half");
    let (ran, of_half) = stand.run(&infer(&half, &["--device", "cuda", "--convolutions", "cudnn"]));
    ran.done();
    of_half.clean();
    assert_eq!(convolutions(&of_half), convolutions(&seen));
    let refusing = stand.with("ENGINE_STANDIN_CUDNN_REFUSES", "32");
    let seen = device_run(&refusing, "refused", &words);
    compare(&host, &refusing.path("refused"), false);
    assert!(convolutions(&seen) > 0 && convolutions(&seen) < convolutions(&of_half));
}

/// The stand-in decodes as the processor does, so the bits must be the same; a file that the library leaves, and one
/// without memory, is decoded by the processor, with a note.
#[test]
fn photos_by_nvjpeg() {
    let Some(stand) = Stand::new() else { return };
    let words = ["--jpeg", "nvjpeg"];
    let out = stand.path("out");
    let run = |stand: &Stand, more: &[&str]| stand.run(&smallest(&out, more));
    let (ran, _) = run(&stand, &["--device", "cpu", "--jpeg", "nvjpeg"]);
    assert!(ran.failed(3).contains("--jpeg nvjpeg: no GPU"), "{}", ran.stderr);
    let (ran, _) = run(&stand, &["--device", "cuda", "--jpeg", "nvjpeg"]);
    assert!(ran.failed(8).contains("libnvjpeg.so.13 or libnvjpeg.so.12 was not found"), "{}", ran.stderr);
    let stand = stand.with_libraries(&["libnvjpeg.so.13"]);
    let own = stand.path("own");
    stand.run(&smallest(&own, &["--device", "cuda"])).0.done();
    let decoded = |seen: &Seen| seen.count("calls nvjpegDecode");
    let (ran, seen) = run(&stand, &[&["--device", "cuda"][..], &words].concat());
    ran.done();
    seen.clean();
    // Its own photo and two sources', and its own again for the preview.
    assert!(decoded(&seen) >= 3, "{:?}", seen.numbers);
    assert!(results(&out) == results(&own));
    assert!(!notes(&out).contains("nvJPEG"), "{}", notes(&out));
    for (status, why) in [("4", "does not take this kind"), ("5", "no memory for nvJPEG"), ("10", "for damaged")] {
        let refusing = Stand::new().unwrap().with_libraries(&["libnvjpeg.so.13"]);
        let refusing = refusing.with("ENGINE_STANDIN_NVJPEG_REFUSES", status);
        let left = refusing.path("left");
        let (ran, seen) = refusing.run(&smallest(&left, &[&["--device", "cuda"][..], &words].concat()));
        ran.done();
        seen.clean();
        assert!(results(&left) == results(&own) && notes(&left).contains(why), "{}", notes(&left));
    }
    let broken = Stand::new().unwrap().with_libraries(&["libnvjpeg.so.13"]);
    let broken = broken.with("ENGINE_STANDIN_NVJPEG_REFUSES", "6");
    let (ran, _) = broken.run(&smallest(&broken.path("out"), &[&["--device", "cuda"][..], &words].concat()));
    assert!(ran.failed(8).contains("nvJPEG, decoding a photo: status 6"), "{}", ran.stderr);
}

/// All notes of a run.
fn notes(out: &Path) -> String {
    json(&out.join("manifest.json"))["notes"].to_string()
}

#[test]
fn finer_maps_and_half_precision() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new() else { return };
    for (name, more) in
        [("full", &["--resolution", "full"][..]), ("half", &["--resolution", "half", "--unrefined"][..])]
    {
        let host = stand.path(&format!("{name}-host"));
        stand.run(&infer(&host, &[&HOST[..], more].concat())).0.done();
        device_run(&stand, name, more);
        compare(&host, &stand.path(name), name == "full");
    }
    // In f16 the maps are those of tests/cuda_network.rs; here it counts that the calls are sound.
    let out = stand.path("f16");
    let (ran, seen) = stand.run(&infer(&out, &["--device", "cuda", "--precision", "f16"]));
    ran.done();
    seen.clean();
}

/// Steps on rendered scenes: on compiled kernels the losses are the processor's, and a run twice gives the same bits;
/// on the interpreter the calls are sound.
#[test]
fn training_runs_and_repeats() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new() else { return };
    let train = |stand: &Stand, name: &str, more: &[&str]| -> (Vec<f64>, Seen) {
        let out = stand.path(name);
        let base = ["train", out.to_str().unwrap(), "--views", "2", "--batch", "1", "--seed", "5", "--loaders", "1"];
        let always = ["--log-every", "1", "--resolution", "quarter", "--json"];
        let (ran, seen) = stand.run(&[&base[..], &always, more].concat());
        let ran = ran.done();
        let steps = ran.events().into_iter().filter(|event| event["event"] == "train");
        (steps.map(|event| event["loss"].as_f64().unwrap()).collect(), seen)
    };
    let weights = |stand: &Stand, name: &str| {
        let mut files = files(&stand.path(name));
        files.retain(|path, _| path.extension().is_some_and(|end| end == "safetensors"));
        assert!(!files.is_empty());
        files
    };
    // The least that training takes. Batch norms of two numbers are too much for a comparison: what is rounded there
    // comes out a thousand times larger.
    let least = ["--size", "32x32", "--planes", "33", "--steps", "1", "--device", "cuda"];
    train(&stand, "interpreted", &least).1.clean();
    let Some(stand) = stand.with_compiled_kernels() else { return };
    let larger = |device| ["--size", "64x64", "--planes", "65", "--steps", "3", "--device", device];
    let (host, _) = train(&stand, "host", &larger("cpu"));
    let (first, seen) = train(&stand, "first", &larger("cuda"));
    seen.clean();
    assert!(first.len() == 3 && first.len() == host.len(), "{first:?} {host:?}");
    for (step, (a, b)) in first.iter().zip(&host).enumerate() {
        // First, sums of some thousand f32 terms in another order. Adam's first step then moves every weight by the
        // rate, whichever sign a gradient that is all rounding has, so that later losses are further apart.
        let allowed = if step == 0 { 1e-5 } else { 1e-3 };
        assert!((a - b).abs() <= allowed * b.abs(), "{first:?} {host:?}");
    }
    assert_eq!(train(&stand, "again", &larger("cuda")).0, first);
    assert!(weights(&stand, "first") == weights(&stand, "again"));
}

/// All photos of the scene with the options that a user has by default, larger than can be interpreted.
#[test]
fn a_whole_scene_by_compiled_kernels() {
    if !all() {
        return;
    }
    let compiled = || Stand::new()?.with_compiled_kernels();
    let Some(stand) = compiled() else { return };
    let run = |stand: &Stand, name: &str, more: &[&str]| -> Seen {
        let out = stand.path(name);
        let base = ["infer", crate::stand::SCENE, "-o", out.to_str().unwrap(), "--quiet", "--max-side", "128"];
        let (ran, seen) = stand.run(&[&base[..], &["--planes", "16"], more].concat());
        ran.done();
        seen
    };
    run(&stand, "host", &HOST);
    let seen = run(&stand, "late", &DEVICE);
    seen.clean();
    assert!(seen.count("calls cuGraphLaunch") > 5, "{:?}", seen.numbers);
    compare(&stand.path("host"), &stand.path("late"), true);
    let other = compiled().unwrap().with("ENGINE_STANDIN_ORDER", "7");
    run(&other, "random", &DEVICE).clean();
    assert!(results(&stand.path("late")) == results(&other.path("random")));
}

#[test]
fn the_benchmark_runs() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new() else { return };
    // A device's copy is measured with an eighth of its memory, which is the host's here.
    let stand = stand.with("ENGINE_STANDIN_MEMORY", "134217728");
    let out = stand.path("bench.json");
    let mut words =
        vec!["bench", "table3", "--device", "cuda", "--precision", "f16", "--width", "64", "--height", "48"];
    words.extend(["--planes", "8", "--repetitions", "2", "--json", out.to_str().unwrap()]);
    let (ran, seen) = stand.run(&words);
    ran.done();
    seen.clean();
    let made = json(&out);
    assert!(made.to_string().contains("Stand-in GPU 0"), "{made}");
}

/// Killed in the middle, the same command goes on and gives what a run without a stop gives.
#[test]
fn a_run_that_was_killed_goes_on() {
    if !all() {
        return;
    }
    let Some(stand) = Stand::new() else { return };
    device_run(&stand, "whole", &[]);
    let out = stand.path("out");
    let words = infer(&out, &DEVICE);
    let mut child = stand.command(&words).spawn().unwrap();
    // Once the first map is there.
    let first = out.join(format!("levels/0/depth/{}.pfm", VIEWS[0]));
    while !first.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let _ = child.kill();
    child.wait().unwrap();
    device_run(&stand, "out", &[]);
    assert!(results(&out) == results(&stand.path("whole")));
}
