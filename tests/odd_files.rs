//! What stands where a file should: pipes, devices, and names that JSON cannot hold.

#![cfg(unix)]

use std::fs;
use std::path::Path;

#[path = "support/program.rs"]
mod program;

use program::{engine, text};

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

/// Names that JSON cannot hold are refused before the work, wherever they stand.
#[test]
#[cfg(target_os = "linux")]
fn names_that_are_not_utf_8_are_refused_before_the_work() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    let root = tempfile::tempdir().unwrap();
    let odd = root.path().join(OsStr::from_bytes(b"sc\xffene"));
    fs::create_dir(&odd).unwrap();
    let word = |word: &str| OsString::from(word);
    let cases: [Vec<OsString>; 6] = [
        vec![word("infer"), odd.clone().into()],
        vec![word("doctor"), odd.clone().into(), word("--json")],
        vec![word("train"), odd.clone().into(), word("--steps"), word("1")],
        vec![word("synth"), odd.clone().into()],
        vec![word("eval"), word("cloud"), odd.clone().into(), odd.clone().into()],
        vec![word("infer"), word("."), word("-o"), odd.clone().into()],
    ];
    for arguments in cases {
        let ran = engine(&arguments);
        let message = ran.failed(3).to_owned();
        assert!(message.contains(": a name that is not UTF-8; expected a name in UTF-8"), "{message}");
    }
    assert_eq!(fs::read_dir(&odd).unwrap().count(), 0, "nothing was begun");
    // A name that leads to such a folder.
    let inner = odd.join("copy");
    for (name, bytes) in program::files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scene"))) {
        let file = inner.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    let (link, out) = (root.path().join("link"), root.path().join("out"));
    std::os::unix::fs::symlink(&inner, &link).unwrap();
    let ran = engine(["infer", text(&link), "-o", text(&out)]);
    assert!(ran.failed(3).contains("a name that is not UTF-8"), "{}", ran.stderr);
    assert!(!out.exists());
}
