use std::io::Write;
use std::path::Path;

use engine::evaluation::depth_metrics::DepthMetrics;
use engine::host::progress::{Progress, Style};
use engine::train::journal::{self, Journal, StepReport};
use serde_json::Value;

use super::{Numbers, row};

/// What step `step` was like: the same in every run but for its time.
pub fn report(step: u64, seconds: f64) -> StepReport {
    let mut numbers = Numbers::new(step);
    StepReport {
        step,
        epoch: step / 8,
        loss: numbers.unit(),
        l1: 3.0 * numbers.unit(),
        cross_entropy: numbers.unit(),
        rate: 1e-3 / step as f64,
        grad_norm: 10.0 * numbers.unit(),
        samples: 2,
        narrow: Vec::new(),
        seconds,
        wait_seconds: 0.25 * seconds,
        fill: 0.5,
    }
}

pub fn open(folder: &Path, resume: Option<u64>) -> Journal {
    Journal::open(folder, resume, 30, 4, Progress::new(Style::Quiet)).unwrap()
}

/// Trains steps `from..=to`, with a checkpoint after every tenth and a validation before it.
fn train(journal: &mut Journal, from: u64, to: u64, seconds: f64) {
    for step in from..=to {
        journal.step(&report(step, seconds)).unwrap();
        if step.is_multiple_of(10) {
            let mut metrics = DepthMetrics::new();
            metrics.add(&row(&[step as f32]), &row(&[0.5]), &row(&[9.0]), 1.0).unwrap();
            journal.validation(step, "synth", &metrics.summary()).unwrap();
            journal.checkpoint().unwrap();
        }
    }
}

fn text(folder: &Path) -> String {
    std::fs::read_to_string(folder.join(journal::LOG)).unwrap()
}

fn append(folder: &Path, text: &str) {
    let mut file = std::fs::File::options().append(true).open(folder.join(journal::LOG)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_line_has_the_means_of_its_steps_and_the_clock_apart() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(root.path(), None);
    train(&mut journal, 1, 30, 0.5);
    drop(journal);
    let lines: Vec<Value> = text(root.path()).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|l| l["event"] == "train").collect();
    let steps: Vec<_> = lines.iter().map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 8, 12, 16, 20, 24, 28, 30]);
    for (line, from) in lines.iter().zip((1..).step_by(4)) {
        let reports: Vec<_> = (from..=line["step"].as_u64().unwrap()).map(|s| report(s, 0.5)).collect();
        let mean = |value: fn(&StepReport) -> f64| reports.iter().map(value).sum::<f64>() / reports.len() as f64;
        assert_eq!(line["steps"], reports.len());
        assert_eq!(line["epoch"], reports.last().unwrap().epoch);
        assert_eq!(line["loss"], mean(|r| r.loss));
        assert_eq!(line["l1"], mean(|r| r.l1));
        assert_eq!(line["cross_entropy"], mean(|r| r.cross_entropy));
        assert_eq!(line["rate"], mean(|r| r.rate));
        assert_eq!(line["grad_norm"], mean(|r| r.grad_norm));
        assert_eq!(line["samples"], 2 * reports.len());
        let clock = &line["clock"];
        assert_eq!((&clock["samples_per_second"], &clock["wait_fraction"]), (&4.0.into(), &0.25.into()));
        assert_eq!(clock["fill"], 0.5);
        assert!(clock["seconds"].as_f64().unwrap() >= 0.0);
    }
}

#[test]
fn the_log_of_a_run_that_was_killed_is_that_of_one_that_was_not() {
    let root = tempfile::tempdir().unwrap();
    let (whole, killed) = (root.path().join("whole"), root.path().join("killed"));
    train(&mut open(&whole, None), 1, 30, 0.5);

    // Killed after step 17, in the middle of a line; the last checkpoint is that of step 10, between two lines.
    train(&mut open(&killed, None), 1, 17, 0.7);
    append(&killed, "{\"event\":\"train\",\"step\":1");
    let before = text(&killed);
    let mut journal = open(&killed, Some(10));
    let after = text(&killed);
    assert!(before.starts_with(&after) && after.contains("\"interval\",\"step\":10"));
    assert!(!after.contains("\"step\":12") && before.contains("\"step\":12"));
    // And killed once more before it has written anything.
    drop(journal);
    journal = open(&killed, Some(10));
    train(&mut journal, 11, 30, 0.9);
    let (whole_lines, killed_lines) = (journal::read(&whole).unwrap(), journal::read(&killed).unwrap());
    assert_eq!(killed_lines, whole_lines);
    assert_eq!(whole_lines.iter().filter(|l| l["event"] == "train").count(), 8);
    assert!(whole_lines.iter().all(|l| l["clock"].is_null()));
    // The clock goes on where the checkpoint's was.
    let seconds: Vec<f64> = text(&killed)
        .lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).unwrap()["clock"]["seconds"].as_f64())
        .collect();
    assert!(seconds.windows(2).all(|w| w[0] <= w[1]), "{seconds:?}");
}

#[test]
fn a_run_that_was_killed_before_its_first_checkpoint_begins_anew() {
    let root = tempfile::tempdir().unwrap();
    // Killed before there was a log, then with half a line in it, then with some lines.
    drop(open(root.path(), Some(0)));
    append(root.path(), "{\"ev");
    drop(open(root.path(), Some(0)));
    assert_eq!(text(root.path()), "");
    train(&mut open(root.path(), Some(0)), 1, 9, 0.1);
    drop(open(root.path(), Some(0)));
    assert_eq!(text(root.path()), "");
    let left = std::fs::read_dir(root.path()).unwrap().filter(|e| {
        let name = e.as_ref().unwrap().file_name();
        name != journal::LOG && !name.to_str().unwrap().starts_with("events.out.tfevents.")
    });
    assert_eq!(left.count(), 0, "no temporary file stays behind");
}

#[test]
fn an_old_log_is_not_written_over_and_a_spoilt_one_is_named() {
    let root = tempfile::tempdir().unwrap();
    train(&mut open(root.path(), None), 1, 9, 0.1);
    let before = text(root.path());
    let progress = Progress::new(Style::Quiet);
    let message =
        Journal::open(root.path(), None, 30, 4, progress.clone()).err().expect("an old log is refused").to_string();
    assert!(message.contains("log.jsonl: the log of an earlier run; expected an empty or new folder"), "{message}");
    assert_eq!(text(root.path()), before);

    append(root.path(), "spoilt\n{\"event\":\"note\",\"step\":9}\n");
    let message =
        Journal::open(root.path(), Some(9), 30, 4, progress).err().expect("a spoilt log is refused").to_string();
    assert!(message.contains("log.jsonl: line 3: ") && message.contains("expected a JSON object"), "{message}");
}

#[test]
fn notes_and_panels_lie_in_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(root.path(), None);
    journal.note("a note\nof two lines").unwrap();
    journal.panel(3, "scan2/view 1", b"first", (4, 3)).unwrap();
    journal.panel(4, "scan2/view 1", b"second", (4, 3)).unwrap();
    let panel = root.path().join(journal::PANELS).join("scan2_view_1.png");
    assert_eq!(std::fs::read(panel).unwrap(), b"second");
    let lines = journal::read(root.path()).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["text"], "a note\nof two lines");
}

#[test]
fn a_loss_that_is_not_a_number_is_null_and_stays_one() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = open(root.path(), None);
    let diverged = |step| StepReport { loss: f64::NAN, ..report(step, 0.1) };
    journal.step(&diverged(1)).unwrap();
    journal.checkpoint().unwrap();
    drop(journal);
    let mut journal = open(root.path(), Some(1));
    for step in 2..=4 {
        journal.step(&report(step, 0.1)).unwrap();
    }
    let lines = journal::read(root.path()).unwrap();
    assert!(lines[0]["loss"].is_null() && lines[0]["l1"].is_number() && lines[0]["steps"] == 4);
}
