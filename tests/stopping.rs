//! Ctrl-C while clouds are compared: the run ends soon, with the exit code for it and one line.

#![cfg(target_os = "linux")]

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::host::random::Random;

#[path = "support/program.rs"]
mod program;

use program::{Ran, command, text};

/// Points at random in a cube: the worst that a search can be asked for, since no two neighbours share their way.
fn write_cloud(path: &Path, points: usize, seed: u64) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let header = "ply\nformat binary_little_endian 1.0\nelement vertex COUNT\nproperty float x\nproperty float y\n\
                  property float z\nend_header\n";
    file.write_all(header.replace("COUNT", &points.to_string()).as_bytes()).unwrap();
    let mut random = Random::from_state(seed);
    for _ in 0..3 * points {
        file.write_all(&(random.unit() as f32).to_le_bytes()).unwrap();
    }
    file.flush().unwrap();
}

/// Waits until the program hears SIGINT, the second bit of the signals that it catches.
fn wait_until_it_listens(child: &Child) {
    let status = || std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = |status: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
        u64::from_str_radix(&line, 16).unwrap()
    };
    while caught(&status()) & 2 == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks the program to stop, and how long it took.
fn interrupted(child: Child) -> (Ran, Duration) {
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ran = Ran::from(child.wait_with_output().unwrap());
    (ran, asked.elapsed())
}

#[test]
fn comparing_clouds_stops_within_a_second_wherever_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a.ply"), root.path().join("b.ply"));
    // Some ten seconds of work for one thread.
    write_cloud(&a, 4_000_000, 1);
    write_cloud(&b, 4_000_000, 2);
    let compare = |more: &[&str]| {
        let base = ["eval", "cloud", text(&a), text(&b), "--threads", "1"];
        command(base.iter().chain(more)).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // While the files are read, the trees are made, voxels are sorted, distances are asked for.
    for (milliseconds, more) in [(50, &[][..]), (700, &[]), (1500, &[]), (3000, &[]), (600, &["--voxel", "0.01"])] {
        let child = compare(more);
        wait_until_it_listens(&child);
        std::thread::sleep(Duration::from_millis(milliseconds));
        let (ran, took) = interrupted(child);
        assert_eq!(ran.failed(130), "stopped by the user; run the same command again to go on with what is left");
        assert_eq!(ran.stdout, "");
        // The longest step that cannot be left is the sort of four million cells, a quarter of a second here; the rest
        // is for machines that are busy.
        assert!(took < Duration::from_secs(2), "{took:?} after {milliseconds} ms {more:?}");
    }
}
