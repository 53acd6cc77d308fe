//! `engine train` in several processes that `mpirun` starts on this machine: the bits of one process, stops, kills, and
//! what is refused. Only in builds with the feature `mpi` (`make mpi`); Open MPI and MPICH both pass, ENGINE_MPIRUN
//! names the launcher.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "../support/program.rs"]
mod program;

use program::{Ran, engine, text};

/// Three samples a step, in five small steps.
const SMALL: [&str; 22] = [
    "--size",
    "64x64",
    "--planes",
    "34,40",
    "--views",
    "2-3",
    "--steps",
    "5",
    "--batch",
    "3",
    "--validation-views",
    "3",
    "--validate-every",
    "2",
    "--checkpoint-every",
    "2",
    "--log-every",
    "1",
    "--seed",
    "7",
    "--threads",
    "1",
];

/// `mpirun`, as root and with more processes than cores, by Open MPI 4 and 5. MPICH asks for nothing.
fn mpirun() -> Command {
    let mut command = Command::new(std::env::var_os("ENGINE_MPIRUN").unwrap_or_else(|| "mpirun".into()));
    for (name, value) in [
        ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
        ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("OMPI_MCA_hwloc_base_binding_policy", "none"),
        ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
        ("PRTE_MCA_hwloc_default_binding_policy", "none"),
    ] {
        command.env(name, value);
    }
    command
}

/// The launcher's words for `ranks` processes with these arguments.
fn ranks(ranks: usize, arguments: &[&str]) -> Vec<String> {
    let head = ["-n".to_owned(), ranks.to_string(), env!("CARGO_BIN_EXE_engine").to_owned()];
    head.into_iter().chain(arguments.iter().map(|&a| a.to_owned())).collect()
}

fn arguments<'a>(run: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["train", text(run)], &SMALL[..], more].concat()
}

/// Trains with `count` processes until the end.
fn train(count: usize, run: &Path, more: &[&str]) -> Ran {
    Ran::from(mpirun().args(ranks(count, &arguments(run, more))).output().unwrap())
}

/// The one line that says why a job ended; the launcher has lines of its own.
#[track_caller]
fn error_of(ran: &Ran, code: i32) -> &str {
    assert_eq!(ran.code, Some(code), "{}\n{}", ran.stdout, ran.stderr);
    let errors: Vec<&str> = ran.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", ran.stderr);
    errors[0]
}

/// What must not depend on the number of processes, nor on stops: files, and the log without the clock and notes.
fn results(run: &Path) -> (Vec<Vec<u8>>, Vec<Value>) {
    let files = [
        "weights.safetensors",
        "best.safetensors",
        "state.safetensors",
        "train.json",
        "synth.json",
        "panels/synth_0.png",
    ];
    let bytes = files.iter().map(|name| std::fs::read(run.join(name)).unwrap()).collect();
    let mut log = engine::train::journal::read(run).unwrap();
    log.retain(|line| line["event"] != "note");
    (bytes, log)
}

/// What one process gives that no launcher has started.
fn alone() -> &'static (Vec<Vec<u8>>, Vec<Value>) {
    static ALONE: LazyLock<(Vec<Vec<u8>>, Vec<Value>)> = LazyLock::new(|| {
        let place = tempfile::tempdir().unwrap();
        let run = place.path().join("run");
        engine(arguments(&run, &[])).done();
        results(&run)
    });
    &ALONE
}

#[track_caller]
fn assert_as_alone(run: &Path, what: &str) {
    let found = results(run);
    assert!(found.0 == alone().0, "{what}: other bytes");
    assert_eq!(found.1, alone().1, "{what}");
}

/// Process ids of a job's ranks, by the run's folder among their words. Empty where it has ended.
fn pids(run: &Path) -> Vec<(usize, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        let Some(pid) = path.file_name().unwrap().to_str().and_then(|name| name.parse().ok()) else { continue };
        let read = |name: &str| std::fs::read(path.join(name)).unwrap_or_default();
        let (words, variables) = (read("cmdline"), read("environ"));
        let mut words = words.split(|&b| b == 0);
        // The launcher has the same words after its own.
        let is_engine = words.next() == Some(env!("CARGO_BIN_EXE_engine").as_bytes());
        if !is_engine || !words.any(|word| word == text(run).as_bytes()) {
            continue;
        }
        let variables = variables.split(|&b| b == 0).map(String::from_utf8_lossy);
        let rank = variables.filter_map(|variable| {
            let (name, value) = variable.split_once('=')?;
            ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].contains(&name).then(|| value.parse().ok())?
        });
        found.extend(rank.take(1).map(|rank| (rank, pid)));
    }
    found.sort_unstable();
    found
}

/// A job at work, after a line of standard output that holds `what`.
fn started(count: usize, run: &Path, what: &str) -> (Child, Vec<(usize, u32)>) {
    let words = ranks(count, &arguments(run, &["--json"]));
    let mut child = mpirun().args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(what)), "the job ended before it said {what}");
    // Whoever writes goes on until it has ended.
    std::thread::spawn(move || lines.for_each(drop));
    (child, pids(run))
}

fn send(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
}

#[track_caller]
fn assert_all_gone(run: &Path) {
    let began = Instant::now();
    while !pids(run).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "processes stay: {:?}", pids(run));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_two_and_three_processes_give_the_bytes_of_one_without_a_launcher() {
    let place = tempfile::tempdir().unwrap();
    for count in [1, 2, 3] {
        let run = place.path().join(count.to_string());
        let ran = train(count, &run, &[]).done();
        assert_eq!(ran.stdout.matches("5 steps done").count(), 1, "{}", ran.stdout);
        assert_as_alone(&run, &format!("{count} processes"));
        let told = ran.stderr.matches(&format!("note: {count} processes (")).count();
        assert_eq!(told, usize::from(count > 1), "{}", ran.stderr);
        // What is done is done, for all.
        train(count, &run, &[]).done();
        assert_as_alone(&run, "nothing was left to do");
    }
}

#[test]
fn a_killed_rank_ends_the_job_and_it_goes_on_with_another_number() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    let (child, pids) = started(2, &run, r#""event":"train","step":3"#);
    assert_eq!(pids.iter().map(|p| p.0).collect::<Vec<_>>(), [0, 1]);
    send("KILL", pids[1].1);
    let ended = child.wait_with_output().unwrap();
    assert!(!ended.status.success());
    assert_all_gone(&run);
    let state = engine::train::state::State::read(&run.join("state.safetensors")).unwrap();
    assert!((2..5).contains(&state.step), "of a checkpoint: {}", state.step);
    train(3, &run, &[]).done();
    assert_as_alone(&run, "after a kill");
}

#[test]
fn a_signal_at_one_rank_stops_all_at_one_step_with_the_state() {
    let place = tempfile::tempdir().unwrap();
    for (signal, rank) in [("TERM", 1), ("INT", 0)] {
        let run = place.path().join(signal);
        let (child, pids) = started(2, &run, r#""event":"train","step":1"#);
        send(signal, pids[rank].1);
        let ran = Ran::from(child.wait_with_output().unwrap());
        let message = error_of(&ran, 130);
        assert_eq!(message, "stopped by the user; run the same command again to go on with what is left");
        assert_all_gone(&run);
        let state = engine::train::state::State::read(&run.join("state.safetensors")).unwrap();
        assert!((1..5).contains(&state.step), "{}", state.step);
        let log = engine::train::journal::read(&run).unwrap();
        assert_eq!(log.last().unwrap()["step"], state.step, "it has stopped at the step of its state");
        engine(arguments(&run, &[])).done();
        assert_as_alone(&run, &format!("after {signal} at rank {rank}"));
    }
}

/// Each rank with words of its own.
fn mixed(each: [&[&str]; 2]) -> Ran {
    let words = [ranks(1, each[0]), vec![":".into()], ranks(1, each[1])].concat();
    Ran::from(mpirun().args(words).output().unwrap())
}

#[test]
fn what_cannot_be_trained_together_is_one_line() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    let refused = train(4, &run, &[]);
    assert!(
        error_of(&refused, 3).starts_with("--batch: 3 for 4 processes, which share the samples of a step; expected"),
        "{}",
        refused.stderr
    );
    let same = arguments(&run, &[]);
    let refused = mixed([&same, &arguments(&run, &["--rate", "0.5"])]);
    let message = error_of(&refused, 3);
    assert!(message.starts_with("rate: 0.5; expected 0.001, as rank 0 has it"), "{message}");
    assert!(message.contains("(rank 1 of 2, on "), "{message}");
    let other = place.path().join("other");
    let refused = mixed([&same, &arguments(&other, &[])]);
    assert!(error_of(&refused, 3).starts_with("folder: "), "{}", refused.stderr);
    assert!(!run.exists() && !other.exists(), "nothing was written");
}

/// A scene's folder that only the first rank's machine has: both are in a folder of their own, as machines are.
#[test]
fn data_that_one_rank_lacks_end_all() {
    let place = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| place.path().join(name));
    [&first, &second].iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    let views = ["--views", "3", "--size", "64x64", "--rig", "cluster"];
    engine([&["synth", text(&first.join("made"))], &views[..]].concat()).done();
    let program = PathBuf::from(env!("CARGO_BIN_EXE_engine"));
    let words = |folder: &Path| {
        let head = ["-n", "1", "-wdir", text(folder), text(&program), "train", "run", "--data", "scenes:made"];
        [&head[..], &SMALL[..]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let words = [words(&first), vec![":".into()], words(&second)].concat();
    let refused = Ran::from(mpirun().args(words).output().unwrap());
    let message = error_of(&refused, refused.code.unwrap_or(0));
    assert!(refused.code == Some(3) || refused.code == Some(4), "{}", refused.stderr);
    assert!(message.contains("made") && message.contains("(rank 1 of 2, on "), "{message}");
    assert!(!second.join("run").exists(), "the folder is the first's");
}

#[test]
fn a_value_that_is_not_finite_ends_all_and_is_told_once() {
    let place = tempfile::tempdir().unwrap();
    let run = place.path().join("run");
    let ran = train(2, &run, &["--rate", "1e20", "--clip", "0", "--warmup", "0", "--ema", "0"]);
    let message = error_of(&ran, 7);
    assert!(message.starts_with("not finite: step 2 on "), "{message}");
    assert!(message.contains("begin anew (--fresh) with a lower --rate or a --clip"), "{message}");
    assert_all_gone(&run);
}
