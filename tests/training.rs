//! `engine train` as a user runs it: stopping and going on, the same bits, learning, weights that others load, and
//! what goes wrong.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;

#[path = "support/program.rs"]
mod program;

use program::{Ran, command, engine, json, text};

/// A folder for runs.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A run of a few small steps on rendered scenes.
const SMALL: [&str; 20] = [
    "--size",
    "64x64",
    "--planes",
    "34,40",
    "--views",
    "2-3",
    "--steps",
    "9",
    "--validation-views",
    "2",
    "--validate-every",
    "4",
    "--checkpoint-every",
    "3",
    "--log-every",
    "2",
    "--reuse",
    "3",
    "--seed",
    "7",
];

fn train(run: &Path, more: &[&str]) -> Ran {
    engine([&["train", text(run)], &SMALL[..], more].concat())
}

/// A finished run of these options, made once for all tests: copied into a place of its own, for whoever writes to it.
fn straight(place: &Place, name: &str) -> PathBuf {
    static MADE: LazyLock<PathBuf> = LazyLock::new(|| {
        let run = Path::new(env!("CARGO_TARGET_TMPDIR")).join("straight_training");
        if run.exists() {
            std::fs::remove_dir_all(&run).unwrap();
        }
        let ran = train(&run, &[]).done();
        assert!(ran.stdout.contains("9 steps done"), "{}", ran.stdout);
        run
    });
    let copy = place.path(name);
    for (file, bytes) in program::files(&MADE) {
        let file = copy.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
    copy
}

/// What a run leaves that must not depend on how often it was stopped: weights, state and log, the log without the
/// clock.
fn results(run: &Path) -> (Vec<Vec<u8>>, Vec<Value>) {
    let files = ["weights.safetensors", "best.safetensors", "state.safetensors"];
    let bytes = files.iter().map(|name| std::fs::read(run.join(name)).unwrap()).collect();
    let log = engine::train::journal::read(run).unwrap();
    // Sums in the middle of an interval are there for a run that goes on; a straight run has them, too.
    (bytes, log)
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let place = Place::new();
    train(&place.path("one"), &["--threads", "1", "--loaders", "1"]).done();
    train(&place.path("three"), &["--threads", "3", "--loaders", "2", "--queue", "3"]).done();
    let (one, three) = (results(&place.path("one")), results(&place.path("three")));
    assert!(one == three, "{:#?}\n{:#?}", one.1, three.1);
    let mut other = SMALL.to_vec();
    other[19] = "8";
    engine([&["train", text(&place.path("other"))], &other[..]].concat()).done();
    assert!(one.0 != results(&place.path("other")).0, "another seed is another run");
}

/// Waits for a line of standard output that holds `what`.
fn wait_for(lines: &mut impl Iterator<Item = String>, what: &str) {
    assert!(lines.any(|line| line.contains(what)), "the run ended before it said {what}");
}

#[cfg(unix)]
#[test]
fn a_run_that_was_stopped_or_killed_ends_as_one_that_was_not() {
    let place = Place::new();
    let straight = results(&straight(&place, "straight"));
    for signal in ["INT", "KILL"] {
        let run = place.path(signal);
        let arguments = [&["train", text(&run)], &SMALL[..], &["--json"]].concat();
        let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // After the validation at step 4 there is a checkpoint of step 3, and some steps are lost.
        wait_for(&mut lines, r#""event":"validation""#);
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let ended = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        if signal == "INT" {
            assert_eq!(ended.status.code(), Some(130), "{stderr}");
            let last = stderr.lines().last().unwrap();
            assert_eq!(last, "error: stopped by the user; run the same command again to go on with what is left");
        } else {
            assert_eq!(ended.status.code(), None, "{stderr}");
        }
        let resumed = train(&run, &[]).done();
        assert!(resumed.stderr.contains("going on after step "), "{}", resumed.stderr);
        let resumed = results(&run);
        assert!(straight.0 == resumed.0, "{signal}: other weights or state");
        let lines = |log: &[Value]| -> Vec<Value> {
            log.iter().filter(|line| line["event"] != "interval" && line["event"] != "note").cloned().collect()
        };
        assert_eq!(lines(&straight.1), lines(&resumed.1), "{signal}");
    }
}

#[test]
fn a_finished_run_says_so_and_other_options_need_another_folder() {
    let place = Place::new();
    let run = straight(&place, "run");
    let before = results(&run);
    train(&run, &[]).done();
    assert!(before.0 == results(&run).0, "nothing was left to do");
    let refused = train(&run, &["--rate", "0.5"]);
    let message = refused.failed(3);
    assert!(message.contains("the run began with rate = 0.001, and now it is 0.5"), "{message}");
    assert!(message.contains("--fresh"), "{message}");
    // A launcher's process that knows no MPI is no part of a job.
    #[cfg(not(feature = "mpi"))]
    {
        let mut command = command([&["train", text(&run)], &SMALL[..]].concat());
        let ran = Ran::from(command.env("OMPI_COMM_WORLD_SIZE", "2").output().unwrap()).done();
        let note =
            "note: started as one of 2 processes, but this build knows no MPI and works by itself; build it with";
        assert!(ran.stderr.contains(note), "{}", ran.stderr);
    }
    let options = json(&run.join("train.json"));
    assert_eq!(options["options"]["planes"], serde_json::json!([34, 40]));

    let foreign = place.path("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let refused = train(&foreign, &[]);
    assert!(refused.failed(3).contains("holds no training run"), "{}", refused.stderr);
    assert_eq!(std::fs::read_dir(&foreign).unwrap().count(), 1, "nothing was written");

    std::fs::write(run.join("state.safetensors"), "rubbish").unwrap();
    let refused = train(&run, &[]);
    assert!(refused.failed(3).contains("expected the state of a training run"), "{}", refused.stderr);
    train(&run, &["--fresh"]).done();
    assert!(before.0 == results(&run).0, "begun anew, the same");
}

/// One view of one scene, again and again: the network must learn it by heart.
#[test]
fn the_loss_of_one_sample_falls_and_its_weights_are_of_use() {
    let place = Place::new();
    let made = place.path("made");
    let views = ["--views", "3", "--size", "136x136", "--rig", "cluster", "--low-texture", "0", "--planes", "40"];
    engine([&["synth", text(&made)], &views[..]].concat()).done();
    // The sources stay as they are, but only one view has a truth.
    for name in ["00000001", "00000002"] {
        std::fs::remove_file(made.join(format!("scene_00000/depths/{name}.pfm"))).unwrap();
    }
    let run = place.path("run");
    let data = format!("scenes:{}", text(&made));
    let options = [
        "--data",
        &data,
        "--size",
        "136x136",
        "--planes",
        "40",
        "--views",
        "3",
        "--resolution",
        "quarter",
        "--steps",
        "120",
        "--no-augment",
        "--rate",
        "0.003",
        "--schedule",
        "constant",
        "--sampling",
        "linear",
        "--log-every",
        "10",
        "--ema",
        "0.9",
    ];
    engine([&["train", text(&run)], &options[..]].concat()).done();
    let log = engine::train::journal::read(&run).unwrap();
    let l1: Vec<f64> = log.iter().filter(|l| l["event"] == "train").map(|l| l["l1"].as_f64().unwrap()).collect();
    assert_eq!(l1.len(), 12);
    let (first, last) = (l1[0], l1[11]);
    assert!(last < 0.4 * first && last < 1.5, "mean |error| went from {first} to {last} intervals");

    let weights = run.join("weights.safetensors");
    let scene = made.join("scene_00000");
    let out = place.path("out");
    let infer = ["infer", text(&scene), "-o", text(&out), "--weights", text(&weights), "--views", "3", "--levels", "1"];
    let ran = engine([&infer[..], &["--planes", "40", "--depth-only", "--quiet"]].concat()).done();
    assert_eq!(ran.stderr, "");
    let depth = engine::files::pfm::read(&out.join("depth/00000000.pfm")).unwrap();
    let truth = engine::files::pfm::read(&scene.join("depths/00000000.pfm")).unwrap();
    let opened = engine::scene::Scene::open(&scene, &Default::default()).unwrap();
    let range = opened.views[0].range.unwrap();
    let interval = (range.far - range.near) / 39.0;
    let pairs = depth.data.iter().zip(&truth.data).filter(|(_, truth)| **truth > 0.0);
    let errors: Vec<f64> = pairs.map(|(a, b)| f64::from((a - b).abs()) / interval).collect();
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    // The running statistics of the norms follow those of the batch, which is always the same one, only so far.
    assert!(mean < 2.0, "mean error of {mean} intervals with weights that know the scene by heart");
}

#[test]
fn a_value_that_is_not_finite_is_named_and_good_weights_stay() {
    let place = Place::new();
    let (good, run) = (straight(&place, "good"), place.path("run"));
    let weights = good.join("weights.safetensors");
    // One step at this rate, a checkpoint after it would be worth nothing; the first one is that of step 3.
    let options = ["--init", text(&weights), "--rate", "1e20", "--clip", "0", "--warmup", "0", "--ema", "0"];
    let ran = train(&run, &options);
    let message = ran.failed(7);
    assert!(message.starts_with("not finite: step 2 on synth "), "{message}");
    assert!(message.contains(" holds ") && message.contains(" at "), "{message}");
    assert!(message.contains("no checkpoint was written yet: begin anew (--fresh) with a lower --rate"), "{message}");
    assert!(!run.join("weights.safetensors").exists());
    assert_eq!(engine::train::state::State::read(&run.join("state.safetensors")).unwrap().step, 0);

    // After a checkpoint that one stays, and the message says how to go on from it.
    let run = place.path("later");
    let mut options = options.to_vec();
    options.extend(["--checkpoint-every", "1"]);
    let mut arguments = SMALL.to_vec();
    let at = arguments.iter().position(|&a| a == "--checkpoint-every").unwrap();
    arguments.drain(at..at + 2);
    let ran = engine([&["train", text(&run)], &arguments[..], &options[..]].concat());
    let message = ran.failed(7);
    let kept = run.join("weights.safetensors");
    assert!(message.contains(&format!("{} holds the last checkpoint", text(&kept))), "{message}");
    assert!(message.contains("in another folder with --init"), "{message}");
    let bytes = std::fs::read(kept).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, view) in file.iter().filter(|(_, v)| v.dtype() == safetensors::Dtype::F32) {
        let finite = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap()).is_finite();
        assert!(view.data().chunks_exact(4).all(finite), "{name}");
    }
}

/// A run of several samples a step on a mix of datasets, without a moving average, stopped in the middle.
#[cfg(unix)]
#[test]
fn a_mix_in_batches_goes_on_as_if_nothing_had_happened() {
    let place = Place::new();
    let made = place.path("made");
    engine(["synth", text(&made), "--scenes", "2", "--views", "3", "--size", "96x80", "--rig", "cluster"]).done();
    let data = format!("scenes:{}@2", text(&made));
    let held_out = format!("scenes:{}", text(&made));
    let fixed = "--data synth --size 64x64 --planes 34 --views 2-3 --steps 6 --batch 2 --ema 0 --validation-views 2 \
                 --validate-every 0 --checkpoint-every 2 --reuse 2";
    let mut options = vec!["--data", &data, "--validation", &held_out];
    options.extend(fixed.split_whitespace());
    let run = |name: &str| engine([&["train", text(&place.path(name))], &options[..]].concat());
    run("straight").done();
    let stopped = place.path("stopped");
    let arguments = [&["train", text(&stopped)], &options[..], &["--json", "--log-every", "1"]].concat();
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    wait_for(&mut lines, r#""step":3,"#);
    Command::new("kill").args(["-KILL", &child.id().to_string()]).status().unwrap();
    child.wait().unwrap();
    run("stopped").done();
    let weights = |name: &str| std::fs::read(place.path(name).join("weights.safetensors")).unwrap();
    assert!(weights("straight") == weights("stopped"));
    let log = engine::train::journal::read(&place.path("straight")).unwrap();
    let validated: Vec<&str> =
        log.iter().filter(|l| l["event"] == "validation").map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(validated, ["synth", "scenes"]);
    let samples = log.iter().rfind(|l| l["event"] == "train").unwrap()["samples"].as_u64();
    assert_eq!(samples, Some(12));
}

/// Beginning anew from the weights of the very folder that is begun anew.
#[test]
fn nothing_of_an_earlier_run_is_removed_before_the_new_one_can_begin() {
    let place = Place::new();
    let run = straight(&place, "run");
    let before = results(&run).0;
    let ran = train(&run, &["--fresh", "--init", text(&place.path("nowhere.safetensors"))]);
    assert!(ran.failed(4).contains("nowhere.safetensors"));
    assert!(before == results(&run).0, "all is as it was");
    let weights = run.join("weights.safetensors");
    let events = |run: &Path| {
        let names = std::fs::read_dir(run).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.starts_with("events.out.tfevents.")).count()
    };
    train(&run, &["--fresh", "--init", text(&weights)]).done();
    assert!(before != results(&run).0, "it went on learning");
    assert_eq!(events(&run), 1, "the curves of the run before are gone");

    // A run that never came to a checkpoint is no obstacle to other options.
    let other = place.path("other");
    let mut few = SMALL.to_vec();
    few.extend(["--init", "nowhere.safetensors"]);
    engine([&["train", text(&other)], &few[..]].concat()).failed(4);
    train(&other, &[]).done();
}

/// Hours of work are not removed without a word, whatever else of the run is gone.
#[test]
fn weights_that_this_run_has_not_made_are_never_removed_without_fresh() {
    let place = Place::new();
    let run = straight(&place, "run");
    // But for the lock, which says who was there last.
    let all = || {
        let mut files = program::files(&run);
        files.remove(Path::new(".engine.lock"));
        files
    };
    let refuse = |expected: &str, more: &[&str]| {
        let before = all();
        let refused = train(&run, more);
        let message = refused.failed(3).to_owned();
        assert!(message.contains(expected) && message.contains("--fresh"), "{message}");
        assert!(before == all(), "something was changed");
    };
    // To save space, or by mistake.
    std::fs::remove_file(run.join("state.safetensors")).unwrap();
    let names = "it holds best.safetensors, events.out.tfevents.";
    refuse(names, &[]);
    refuse(names, &["--rate", "0.5"]);
    refuse("log.jsonl, panels, weights.safetensors of a run that cannot go on", &[]);
    // Weights alone, as somebody has put them there.
    let mine = place.path("mine");
    std::fs::create_dir(&mine).unwrap();
    for name in ["weights.safetensors", "best.safetensors"] {
        std::fs::copy(run.join(name), mine.join(name)).unwrap();
    }
    let before = program::files(&mine);
    let refused = train(&mine, &[]);
    let message = refused.failed(3);
    assert!(message.contains("it holds best.safetensors, weights.safetensors of a run that cannot go on"), "{message}");
    assert!(before == program::files(&mine));
    // A damaged state is no reason to begin anew either.
    train(&run, &["--fresh"]).done();
    let state = run.join("state.safetensors");
    let mut bytes = std::fs::read(&state).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&state, bytes).unwrap();
    refuse("it is damaged: its content is not what its hash says", &[]);
}

/// A run that is killed before its first checkpoint has a state to go on from.
#[cfg(unix)]
#[test]
fn a_run_that_was_killed_at_its_first_step_goes_on() {
    let place = Place::new();
    let straight = straight(&place, "straight");
    let run = place.path("run");
    // A line after each step.
    let mut small = SMALL;
    small[15] = "1";
    let arguments = [&["train", text(&run)], &small[..], &["--json"]].concat();
    let mut child = command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    wait_for(&mut lines, r#""event":"train""#);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(run.join("state.safetensors").exists());
    engine([&["train", text(&run)], &small[..]].concat()).done();
    assert!(results(&straight).0 == results(&run).0);
}

/// Maps in other units than the camera files teach nothing: that must be said at once.
#[test]
fn a_truth_outside_the_range_is_an_error() {
    let place = Place::new();
    let made = place.path("made");
    engine(["synth", text(&made), "--views", "3", "--size", "64x64", "--rig", "cluster"]).done();
    let depths = made.join("scene_00000/depths");
    for entry in std::fs::read_dir(&depths).unwrap() {
        let file = entry.unwrap().path();
        let mut map = engine::files::pfm::read(&file).unwrap();
        map.data.iter_mut().for_each(|d| *d *= 1000.0);
        engine::files::pfm::write(&file, &map).unwrap();
    }
    let data = format!("scenes:{}", text(&made));
    let ran = train(&place.path("run"), &["--data", &data]);
    let message = ran.failed(3);
    assert!(message.starts_with("training sample 0: ") && message.contains("depths/0000000"), "{message}");
    assert!(message.contains("the view's range: map and camera file must have one unit"), "{message}");
}

#[test]
fn bad_options_and_data_get_one_line() {
    let place = Place::new();
    let run = place.path("run");
    for (options, expected) in [
        (vec!["--data", "dtu:"], "expected synth, dtu:DIR or scenes:DIR"),
        (vec!["--data", "synth@0"], "expected a number above 0"),
        (vec!["--size", "66x64"], "multiples of 4"),
        (vec!["--views", "5-3"], "the least and the most"),
        (vec!["--planes", "0"], "--planes"),
    ] {
        let ran = engine([&["train", text(&run)], &options[..]].concat());
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
    let ran = engine(["train", text(&run), "--l1", "0", "--cross-entropy", "0"]);
    assert!(ran.failed(3).contains("a loss to be trained on"));
    let small = ["--data", "synth", "--size", "64x64", "--planes", "16", "--steps", "1", "--validation-views", "1"];
    let ran = engine([&["train", text(&place.path("small"))], &small[..]].concat());
    let message = ran.failed(3);
    assert!(
        message.contains("photos of 64 x 64 with 16 planes") && message.contains("at least 33 planes"),
        "{message}"
    );
    let nowhere = format!("dtu:{}", text(&place.path("nowhere")));
    let ran = engine(["train", text(&run), "--data", &nowhere]);
    assert!(ran.code == Some(3) || ran.code == Some(4), "{}", ran.stderr);
    assert!(ran.stderr.contains("nowhere"), "{}", ran.stderr);
    let other = place.path("pixel");
    let mut few = SMALL.to_vec();
    few[7] = "1";
    engine([&["train", text(&other)], &few[..], &["--aggregation", "pixel"]].concat()).done();
    let ran = engine(["train", text(&run), "--steps", "5", "--epochs", "1"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let ran = train(&run, &["--init", text(&other.join("weights.safetensors"))]);
    let message = ran.failed(3);
    assert!(message.contains("weights of the configuration pixel / squared / skip"), "{message}");
    assert!(!run.join("state.safetensors").exists());
}

#[test]
fn weights_of_every_configuration_can_be_measured() {
    let place = Place::new();
    let mut weights = Vec::new();
    for options in [
        ["pixel", "signed", "trilinear"],
        ["mean", "squared", "skip"],
        ["variance", "squared", "trilinear"],
        ["voxel", "signed", "skip"],
    ] {
        let run = place.path(&options.join("_"));
        let [aggregation, difference, decoder] = options;
        let configuration = ["--aggregation", aggregation, "--difference", difference, "--decoder", decoder];
        let mut few = SMALL.to_vec();
        few[7] = "3";
        engine([&["train", text(&run)], &few[..], &configuration].concat()).done();
        let file = run.join("best.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        assert_eq!((&metadata["aggregation"], &metadata["decoder"]), (&aggregation.to_owned(), &decoder.to_owned()));
        assert_eq!(metadata["step"], "3");
        weights.push(file);
    }
    let numbers = place.path("numbers.json");
    let pictures = place.path("pictures");
    let mut arguments = vec!["eval", "synth", "--scenes", "3", "--size", "96x64", "--planes", "16", "--views", "3"];
    arguments.extend(["--out", text(&numbers), "--pictures", text(&pictures)]);
    weights.iter().for_each(|w| arguments.extend(["--weights", text(w)]));
    let ran = engine(&arguments).done();
    assert_eq!(ran.stdout.matches("seen by: 3 or more").count(), 4, "{}", ran.stdout);
    let found = json(&numbers);
    assert_eq!(found["weights"].as_array().unwrap().len(), 4);
    let rows = found["weights"][0]["rows"].as_array().unwrap();
    assert!(rows[0]["metrics"]["pixels"].as_u64().unwrap() > 500);
    assert!(std::fs::read_dir(&pictures).unwrap().count() >= 3);
}
