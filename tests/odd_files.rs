//! What stands where a file should: pipes and devices.

#![cfg(unix)]

#[path = "support/program.rs"]
mod program;

use program::text;

/// A pipe that nobody writes to, and a device that never ends, wherever a file is expected: refused at once.
#[test]
fn pipes_and_devices_are_no_files() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    for name in ["pipe.ply", "pipe.obj", "pipe.safetensors"] {
        assert!(std::process::Command::new("mkfifo").arg(path(name)).status().unwrap().success());
    }
    std::os::unix::fs::symlink("/dev/zero", path("zero.obj")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("zero.safetensors")).unwrap();
    let out = path("out");
    let scene = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scene");
    let cases: Vec<(&str, Vec<&str>)> = vec![
        ("pipe.ply", vec!["synth", text(&out), "--mesh"]),
        ("pipe.obj", vec!["synth", text(&out), "--mesh"]),
        ("zero.obj", vec!["synth", text(&out), "--mesh"]),
        ("pipe.ply", vec!["eval", "cloud", scene]),
        ("pipe.safetensors", vec!["infer", scene, "-o", text(&out), "--weights"]),
        ("zero.safetensors", vec!["infer", scene, "-o", text(&out), "--weights"]),
        ("pipe.safetensors", vec!["train", text(&out), "--init"]),
    ];
    for (name, mut arguments) in cases {
        let file = path(name);
        arguments.push(text(&file));
        // The cloud to measure comes first.
        if arguments[0] == "eval" {
            arguments.swap(2, 3);
        }
        let mut child = program::command(&arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let began = std::time::Instant::now();
        while child.try_wait().unwrap().is_none() {
            if began.elapsed().as_secs() > 60 {
                child.kill().unwrap();
                panic!("{arguments:?} does not end");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(3), "{arguments:?}: {said}");
        let expected = format!("{}: a pipe, socket or device; expected a regular file", file.display());
        assert!(said.contains(&expected), "{arguments:?}: {said}");
    }
}
