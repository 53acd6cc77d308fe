//! `--device`: what happens where there is no GPU, no driver, or no CUDA in the program.

#[path = "support/program.rs"]
mod program;

use std::path::Path;

use program::{command, engine};

fn infer(device: &str, out: &Path) -> Vec<String> {
    let scene = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/scene");
    let words = ["infer", &scene.display().to_string(), "-o", &out.display().to_string(), "--device", device];
    let mut words: Vec<String> = words.map(str::to_owned).to_vec();
    words.extend(["--levels", "1", "--planes", "16", "--max-side", "64", "--depth-only"].map(str::to_owned));
    words
}

#[test]
fn a_gpu_that_is_not_there_is_one_line_and_exit_code_8() {
    let folder = tempfile::tempdir().unwrap();
    // A machine with a GPU has no ninth one.
    let ran = engine(infer("cuda:8", &folder.path().join("out")));
    let message = ran.failed(8).to_owned();
    let expected = if engine::cuda::BUILT_IN {
        ["no CUDA driver (libcuda.so.1) on this machine", "there is no GPU 8"]
    } else {
        ["this build has no CUDA; build it with `cargo build --release --features cuda`"; 2]
    };
    assert!(expected.iter().any(|e| message.contains(e)), "{message}");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn a_device_that_nobody_knows_is_a_usage_error() {
    let folder = tempfile::tempdir().unwrap();
    let ran = engine(infer("tpu", &folder.path().join("out")));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("expected auto, cpu, cuda, cuda:N, cuda:all or a list"), "{}", ran.stderr);
}

/// A driver that is there but finds no GPU, as in a container without one: `cuInit` says so. `auto` then works on the
/// processor and tells why.
#[test]
fn a_driver_without_a_gpu_is_told_and_auto_goes_on() {
    if !engine::cuda::BUILT_IN || !cfg!(target_os = "linux") {
        eprintln!("skipped: this build has no CUDA");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("stub.c");
    std::fs::write(
        &source,
        "int cuInit(unsigned f) { (void)f; return 100; }\n\
         int cuGetErrorString(int e, const char** s) { (void)e; *s = \"no CUDA-capable device is detected\"; return 0; \
         }\n\
         int cuGetErrorName(int e, const char** s) { (void)e; *s = \"CUDA_ERROR_NO_DEVICE\"; return 0; }\n",
    )
    .unwrap();
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let library = folder.path().join("libcuda.so.1");
    let built =
        std::process::Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no C compiler for the stub of a driver");
        return;
    }
    let ran = |device: &str| {
        let out = folder.path().join(format!("out_{device}"));
        let output = command(infer(device, &out)).env("LD_LIBRARY_PATH", folder.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr), out)
    };
    let (code, text, out) = ran("cuda");
    assert_eq!(code, Some(8), "{text}");
    assert!(text.contains("no CUDA-capable device is detected"), "{text}");
    assert!(!out.exists());
    let (code, text, out) = ran("auto");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("running on the processor"), "{text}");
    assert!(out.join("manifest.json").exists());
}
