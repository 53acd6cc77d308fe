//! Memory that is limited from outside: whatever the limit, a run is done or ends with one line and the exit code for
//! memory, and the same command goes on later.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[path = "support/plane_scene.rs"]
mod plane_scene;
#[path = "support/program.rs"]
mod program;
#[path = "support/scene_files.rs"]
mod scene_files;

use program::{Ran, command, engine, files, text};

/// One of the system's limits.
type Resource = libc::__rlimit_resource_t;

/// The program under a limit in bytes.
fn limited(arguments: &[&str], resource: Resource, bytes: u64) -> Ran {
    let mut command = command(arguments);
    limit(&mut command, resource, bytes);
    Ran::from(command.output().unwrap())
}

fn limit(command: &mut Command, resource: Resource, bytes: u64) {
    let set = move || {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: setrlimit reads one rlimit through a pointer to one that lives until it returns.
        match unsafe { libc::setrlimit(resource, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: setrlimit may be called between fork and exec, and the closure does nothing else.
    unsafe { command.pre_exec(set) };
}

/// A run's results: all but records and manifests, which tell times, and the lock.
fn results(out: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let is_result = |path: &PathBuf| path.extension().is_none_or(|e| e != "json" && e != "lock");
    files(out).into_iter().filter(|(path, _)| is_result(path)).collect()
}

/// The run was done, or ended with one line that says what to do and the exit code for memory. Whether it was done.
#[track_caller]
fn done_or_refused(ran: &Ran, of: &str) -> bool {
    if ran.code == Some(0) {
        return true;
    }
    let message = ran.failed(5);
    assert!(message.starts_with("memory: "), "{of}: {message}");
    assert!(!ran.stderr.contains("panicked"), "{of}: {}", ran.stderr);
    false
}

const QUICK: [&str; 6] = ["--levels", "2", "--threads", "2", "--min-views", "1"];

#[test]
fn under_every_limit_a_run_is_done_or_ends_with_one_line_and_goes_on_later() {
    let root = tempfile::tempdir().unwrap();
    let (scene, fresh, out) = (root.path().join("scene"), root.path().join("fresh"), root.path().join("out"));
    plane_scene::write(&scene);
    let infer = |out| [&["infer", text(&scene), "-o", out][..], &QUICK].concat();
    engine(infer(text(&fresh))).done();
    for resource in [libc::RLIMIT_AS, libc::RLIMIT_DATA] {
        // Under less not even the loader starts the program.
        let starts = |bytes: &u64| limited(&["--version"], resource, *bytes).code == Some(0);
        let least = (0..).map(|step| (4 << 20) + step * (1 << 20)).find(starts).unwrap();
        let (mut bytes, mut refused, mut done) = (least, 0, 0);
        // Limits an eighth apart, until two in a row are enough.
        while done < 2 {
            let ran = limited(&infer(text(&out)), resource, bytes);
            match done_or_refused(&ran, &format!("limit {resource} of {bytes}")) {
                true => done += 1,
                false => (refused, done) = (refused + 1, 0),
            }
            bytes += bytes / 8;
            assert!(bytes < 8 << 30, "8 GB are enough for photos of 96 x 64");
        }
        assert!(refused > 0, "the least limit was enough");
        assert!(results(&out) == results(&fresh));
        fs::remove_dir_all(&out).unwrap();
    }
}

/// The limit comes while the network is at work, past the plan: what the system refuses then ends the run.
#[test]
fn memory_that_is_refused_in_the_middle_is_one_line_and_the_run_goes_on_later() {
    let root = tempfile::tempdir().unwrap();
    let (scene, fresh, out) = (root.path().join("scene"), root.path().join("fresh"), root.path().join("out"));
    plane_scene::write(&scene);
    // So many planes that the first map takes a noticeable time, and memory that is not there at its beginning.
    let infer = |out| {
        let options = ["--json", "--planes", "2000", "--min-confidence", "0.001"];
        [&["infer", text(&scene), "-o", out][..], &QUICK, &options].concat()
    };
    engine(infer(text(&fresh))).done();
    // One view's maps are there already.
    engine([&infer(text(&out))[..], &["--view", plane_scene::NAMES[0], "--depth-only"]].concat()).done();
    let mut child = command(infer(text(&out))).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(r#""event":"stage","stage":"depth""#)));
    // By then all threads are there, and photos are being looked at.
    std::thread::sleep(std::time::Duration::from_millis(50));
    // Nothing more from here on. (Address space would not do: the allocator has reserved some for every thread.)
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: prlimit reads one rlimit through a pointer to one that lives until it returns, and writes none.
    assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_DATA, &raw const limit, std::ptr::null_mut()) }, 0);
    let rest: Vec<String> = lines.collect();
    let ran = Ran::from(child.wait_with_output().unwrap());
    let message = ran.failed(5);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    for part in [
        "memory: the system refused ",
        " more beside the ",
        " that are held, under a limit on data (ulimit -d 1024); expected room for it: ask for less",
        "run the same command again; finished files stay",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!rest.iter().any(|line| line.contains(r#""event":"summary""#)));
    let (left, all) = (files(&out), files(&fresh));
    assert!(left.len() < all.len() && !left.contains_key(Path::new("manifest.json")));

    let resumed = engine(infer(text(&out))).done();
    assert!(resumed.stdout.contains(r#""reused":true"#), "the maps from before the end were made again");
    assert!(results(&out) == results(&fresh));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&files(&out)), names(&all), "nothing temporary is left");
}

#[test]
fn the_limit_that_leaves_the_least_is_named_before_work_begins() {
    let root = tempfile::tempdir().unwrap();
    let (scene, out) = (root.path().join("scene"), root.path().join("out"));
    plane_scene::write(&scene);
    let big = ["--resolution", "full", "--planes", "20000", "--threads", "1"];
    let infer = [&["infer", text(&scene), "-o", text(&out)][..], &big].concat();
    let ran = limited(&infer, libc::RLIMIT_AS, 400_000 * 1024);
    let message = ran.failed(5).to_owned();
    assert!(message.contains(", which the limit on address space (ulimit -v 400000) leaves; "), "{message}");
    assert!(message.contains("--planes ") && message.ends_with("(or a larger ulimit -v)"), "{message}");
    let ran = limited(&infer, libc::RLIMIT_DATA, 300_000 * 1024);
    let message = ran.failed(5).to_owned();
    assert!(message.contains(", which the limit on data (ulimit -d 300000) leaves; "), "{message}");
    // What is asked for holds where it is less, and does not lift a limit.
    let asked = |gigabytes| limited(&[&infer[..], &["--memory", gigabytes]].concat(), libc::RLIMIT_AS, 400_000 * 1024);
    assert!(asked("0.01").failed(5).contains(" and 10 MB are available; "), "{}", asked("0.01").stderr);
    assert!(asked("64").failed(5).contains("ulimit -v 400000"), "{}", asked("64").stderr);
    assert!(!out.exists(), "nothing was begun");
}

#[test]
fn threads_that_cannot_be_started_are_one_line() {
    // Each needs 2 MiB of stack: of a thousand there is no room in 512 MiB.
    let ran = limited(&["info", "--threads", "1000"], libc::RLIMIT_AS, 512 << 20);
    let message = ran.failed(5);
    assert!(
        message.contains("memory: 1000 threads need 2.36 GB, and ") && message.contains("fewer --threads would help"),
        "{message}"
    );
}

/// A cloud of points in a cube, as PLY text.
fn write_cloud(path: &Path, points: usize) {
    let mut text = format!(
        "ply\nformat ascii 1.0\nelement vertex {points}\nproperty float x\nproperty float y\nproperty float z\n\
         end_header\n"
    );
    (0..points).for_each(|i| text += &format!("{} {} {}\n", i % 10, i / 10 % 10, i / 100));
    fs::write(path, text).unwrap();
}

#[test]
fn a_stated_memory_bounds_every_command() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let (scene, out, maps, new) = (path("scene"), path("out"), path("maps"), path("new"));
    let (a, b, weights) = (path("a.ply"), path("b.ply"), path("weights.safetensors"));
    plane_scene::write(&scene);
    write_cloud(&a, 1000);
    write_cloud(&b, 500);
    fs::write(&weights, engine::net::weights::Checkpoint::built_in_file()).unwrap();
    let [scene, out, maps, new, a, b, weights] = [&scene, &out, &maps, &new, &a, &b, &weights].map(|path| text(path));
    engine([&["infer", scene, "-o", maps][..], &QUICK].concat()).done();
    let commands: [&[&str]; 9] = [
        &["infer", scene, "-o", out],
        &["fuse", maps, "--scene", scene, "-o", out],
        &["fuse", maps, "--scene", scene, "-o", out, "--reference", a, "--sweep", "min-views=1,2"],
        &["eval", "cloud", a, b],
        &["eval", "depth", maps, "--truth", maps],
        &["eval", "synth", "--scenes", "1", "--size", "64x48", "--planes", "48"],
        &["synth", new, "--size", "64x48"],
        &["train", new, "--steps", "1", "--size", "64x48", "--planes", "40", "--device", "cpu"],
        &["calibrate", weights, "-o", new, "--scenes", "1", "--measured", "1"],
    ];
    for command in commands {
        let ran = engine([command, &["--memory", "0.00001"]].concat());
        let message = ran.failed(5).to_owned();
        assert!(
            message.starts_with("memory: ") && message.contains(" and 10 kB are available"),
            "{command:?}: {message}"
        );
        assert!(!Path::new(out).exists() && !Path::new(new).exists(), "{command:?} has begun");
    }
    let bench = ["bench", "table3", "--device", "cpu", "--width", "64", "--height", "48", "--memory", "0.00001"];
    assert!(engine(bench).failed(5).contains(" and 10 kB are available; "));
    // These two say how much there is.
    let info = engine(["info", "--memory", "0.5"]).done();
    assert!(info.stdout.contains("memory:  500 MB available\n"), "{}", info.stdout);
    let doctor = engine(["doctor", scene, "--no-photos", "--memory", "0.00001"]);
    assert!(doctor.failed(3).contains("1 problem"), "{}", doctor.stdout);
    assert!(doctor.stdout.contains(" and 10 kB are available; "), "{}", doctor.stdout);
}
