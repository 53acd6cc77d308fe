//! What a training run tells of itself: `log.jsonl` for programs, TensorBoard's files for curves and pictures, and a
//! live line for whoever watches.
//!
//! `log.jsonl` has one JSON object a line, each with `event` and `step`:
//!
//! | event | what |
//! | --- | --- |
//! | `train` | means over the `steps` steps since the line before: loss, l1, cross_entropy, rate, grad_norm; epoch |
//! | `validation` | `name` of the set and its `metrics` ([`MetricsSummary`]) |
//! | `note` | a sentence: what was assumed, chosen or skipped |
//! | `interval` | sums of the steps since the last `train` line, for a checkpoint that falls between two lines |
//!
//! **The clock stands apart.** Whatever differs from run to run of the same training (time, speed, waiting) is in the
//! field `clock`, and nothing else is: without it, two runs on the same machine give the same lines ([`read`]).
//!
//! **Going on.** A run that goes on from a checkpoint of step s first takes away the lines of later steps, which it
//! will write again, and a last line that a killed run has left half-written. With the `interval` line of its
//! checkpoint it also takes up the means where they were, so that its log is that of a run that was never stopped.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Map as Fields, Value, json};

use super::events::EventWriter;
use super::split_metrics::significant;
use super::step::NarrowReport;
use crate::error::{Error, Result};
use crate::evaluation::depth_metrics::MetricsSummary;
use crate::files::atomic::write_whole;
use crate::files::input;
use crate::host::interrupt;
use crate::host::progress::{Live, Progress};

/// The log's name in the run's folder.
pub const LOG: &str = "log.jsonl";
/// The folder of the pictures in the run's folder.
pub const PANELS: &str = "panels";

const ACTION: &str = "write the training log";

/// What one step of training was like.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// The step's number; the first is 1.
    pub step: u64,
    /// How often the data was gone through before.
    pub epoch: u64,
    /// The weighted loss.
    pub loss: f64,
    /// Mean |depth - truth| in hypothesis intervals.
    pub l1: f64,
    /// Mean cross-entropy in nats.
    pub cross_entropy: f64,
    /// Learning rate.
    pub rate: f64,
    /// Norm of the gradient of all weights, before any clipping.
    pub grad_norm: f64,
    /// Samples that the step has looked at.
    pub samples: u64,
    /// Of the narrow stages of the last of them.
    pub narrow: Vec<NarrowReport>,
    /// Seconds that the step took, waiting included.
    pub seconds: f64,
    /// Seconds of them that were spent waiting for samples.
    pub wait_seconds: f64,
    /// How full the queue of prepared samples was when the step began, 0..1.
    pub fill: f64,
}

/// Sums over the steps since the last line.
#[derive(Clone, Copy, Debug, Default)]
struct Interval {
    steps: u64,
    epoch: u64,
    loss: f64,
    l1: f64,
    cross_entropy: f64,
    rate: f64,
    grad_norm: f64,
    samples: u64,
    /// Of the stages at half and at full resolution: steps that taught them, and sums of L1 and reach over those.
    narrow: [(u64, f64, f64); 2],
    seconds: f64,
    wait_seconds: f64,
    fill: f64,
}

/// Where a training loop reports to.
pub struct Journal {
    folder: PathBuf,
    path: PathBuf,
    log: File,
    events: EventWriter,
    live: Live,
    log_every: u64,
    total_steps: u64,
    /// The last step that was reported.
    step: u64,
    interval: Interval,
    began: Instant,
    /// Seconds that earlier runs have trained.
    seconds_before: f64,
}

impl Journal {
    /// Opens the log of a run in its folder (made where it is missing): a new one, or, with `resume_step`, one that
    /// goes on after that step. A `train` line is written after every step that is a multiple of `log_every` (0 counts
    /// as 1), and after the last.
    ///
    /// # Errors
    /// [`Error::Input`]: there is a log already and `resume_step` is not given; a line of it is not a JSON object.
    /// [`Error::Io`]: the folder or a file in it cannot be made, read or written.
    pub fn open(
        folder: &Path,
        resume_step: Option<u64>,
        total_steps: u64,
        log_every: u64,
        progress: Progress,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create the run's folder", folder))?;
        let path = folder.join(LOG);
        let (mut interval, mut seconds_before) = (Interval::default(), 0.0);
        if let Some(step) = resume_step {
            let kept = cut(&path, step)?;
            if let Some(last) = kept.iter().rev().find(|line| line["clock"]["seconds"].is_number()) {
                seconds_before = last["clock"]["seconds"].as_f64().unwrap_or(0.0);
            }
            // Notes and validations of this step may stand between.
            let same_step = kept.iter().rev().take_while(|line| line["step"] == step);
            let mut telling = same_step.filter(|line| line["event"] == "interval" || line["event"] == "train");
            if let Some(line) = telling.next().filter(|line| line["event"] == "interval") {
                interval = Interval::from_json(line);
            }
        }
        let mut options = File::options();
        let log = if resume_step.is_some() {
            options.append(true).create(true).open(&path)
        } else {
            options.append(true).create_new(true).open(&path)
        };
        let log = log.map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::input(
                path.display().to_string(),
                "the log of an earlier run",
                "an empty or new folder, or to go on with that run",
            ),
            _ => Error::io(ACTION, &path)(e),
        })?;
        let step = resume_step.unwrap_or(0);
        let mut events = EventWriter::create(folder)?;
        if resume_step.is_some() {
            events.restart(step + 1)?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            path,
            log,
            events,
            live: progress.live("train", total_steps, step),
            log_every: log_every.max(1),
            total_steps,
            step,
            interval,
            began: Instant::now(),
            seconds_before,
        })
    }

    /// A step was done.
    ///
    /// # Errors
    /// [`Error::Io`]: a file cannot be written.
    pub fn step(&mut self, report: &StepReport) -> Result<()> {
        self.step = report.step;
        self.interval.add(report);
        let interval = self.interval;
        self.live.update(report.step, || interval.text());
        if report.step.is_multiple_of(self.log_every) || report.step >= self.total_steps {
            self.interval = Interval::default();
            let line = interval.train_line(report.step, self.seconds());
            self.write(&line)?;
            for (tag, value) in interval.scalars() {
                self.events.scalar(report.step, tag, value)?;
            }
            self.events.flush()?;
            self.live.report(&interval.text(), "train", line);
        }
        Ok(())
    }

    /// A set of samples was measured with the weights after `step`.
    ///
    /// # Errors
    /// [`Error::Io`]: a file cannot be written.
    pub fn validation(&mut self, step: u64, name: &str, metrics: &MetricsSummary) -> Result<()> {
        let line = json!({
            "event": "validation",
            "step": step,
            "name": name,
            "metrics": metrics,
            "clock": { "seconds": self.seconds() },
        });
        self.write(&line)?;
        for (metric, value) in metrics.scalars() {
            self.events.scalar(step, &format!("{name}/{metric}"), value)?;
        }
        self.events.flush()?;
        let text = format!("validation {name}, step {step}: {}", metrics.line());
        self.live.announce(&text, "validation", line);
        Ok(())
    }

    /// A picture of a validation view was made with the weights after `step`, a PNG of `size` (width, height).
    /// TensorBoard gets every one; in the folder `panels` the last lies, for those who have no TensorBoard.
    ///
    /// # Errors
    /// [`Error::Io`]: a file cannot be written.
    pub fn panel(&mut self, step: u64, name: &str, png: &[u8], size: (usize, usize)) -> Result<()> {
        self.events.image(step, &format!("panels/{name}"), png, size.0, size.1)?;
        self.events.flush()?;
        let tame = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let folder = self.folder.join(PANELS);
        std::fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        let file = folder.join(format!("{}.png", name.chars().map(tame).collect::<String>()));
        let _guard = interrupt::writing();
        write_whole(&file, "write the picture of a validation view", |out| out.write_all(png))
    }

    /// Something was assumed, chosen or skipped.
    ///
    /// # Errors
    /// [`Error::Io`]: a file cannot be written.
    pub fn note(&self, text: &str) -> Result<()> {
        let line = json!({ "event": "note", "step": self.step, "text": text });
        self.write(&line)?;
        self.live.announce(&format!("note: {text}"), "note", line);
        Ok(())
    }

    /// To be called before a checkpoint of the last reported step is written: keeps what a run that goes on from it
    /// needs to write the same lines.
    ///
    /// # Errors
    /// [`Error::Io`]: a file cannot be written.
    pub fn checkpoint(&mut self) -> Result<()> {
        if self.interval.steps > 0 {
            self.write(&self.interval.to_json(self.step, self.seconds()))?;
        }
        self.events.flush()?;
        self.log.sync_data().map_err(Error::io(ACTION, &self.path))
    }

    /// Seconds of training so far, those of earlier runs included.
    fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    /// In one piece and at once, so that a killed run leaves at most one half-written line, its last.
    fn write(&self, line: &Value) -> Result<()> {
        let _guard = interrupt::writing();
        (&self.log).write_all(format!("{line}\n").as_bytes()).map_err(Error::io(ACTION, &self.path))
    }
}

impl Interval {
    fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        self.epoch = report.epoch;
        self.loss += report.loss;
        self.l1 += report.l1;
        self.cross_entropy += report.cross_entropy;
        self.rate += report.rate;
        self.grad_norm += report.grad_norm;
        self.samples += report.samples;
        for (sums, of_stage) in self.narrow.iter_mut().zip(&report.narrow) {
            *sums = (sums.0 + 1, sums.1 + of_stage.l1, sums.2 + of_stage.reach);
        }
        self.seconds += report.seconds;
        self.wait_seconds += report.wait_seconds;
        self.fill += report.fill;
    }

    fn mean(&self, sum: f64) -> f64 {
        sum / self.steps.max(1) as f64
    }

    fn samples_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.samples as f64 / self.seconds } else { 0.0 }
    }

    fn wait_fraction(&self) -> f64 {
        if self.seconds > 0.0 { self.wait_seconds / self.seconds } else { 0.0 }
    }

    /// Mean L1 in units of the spacing, and mean reach, of the narrow stages that learned.
    fn of_stages(&self) -> Vec<[f64; 2]> {
        let taught = self.narrow.iter().filter(|s| s.0 > 0);
        taught.map(|&(steps, l1, reach)| [l1 / steps as f64, reach / steps as f64]).collect()
    }

    fn text(&self) -> String {
        let mean = |sum: f64| significant(self.mean(sum));
        let narrow = |[l1, reach]: [f64; 2]| format!(" + {} of {:.0} %", significant(l1), 100.0 * reach);
        let stages = self.of_stages().into_iter().map(narrow).collect::<String>();
        format!(
            "epoch {}, loss {}, L1 {}{stages}, rate {}, {} samples/s, prefetch {:.0} %",
            self.epoch,
            mean(self.loss),
            mean(self.l1),
            mean(self.rate),
            significant(self.samples_per_second()),
            100.0 * self.mean(self.fill),
        )
    }

    fn train_line(&self, step: u64, seconds: f64) -> Value {
        // What is not finite becomes null.
        json!({
            "event": "train",
            "step": step,
            "steps": self.steps,
            "epoch": self.epoch,
            "loss": self.mean(self.loss),
            "l1": self.mean(self.l1),
            "cross_entropy": self.mean(self.cross_entropy),
            "narrow": self.of_stages(),
            "rate": self.mean(self.rate),
            "grad_norm": self.mean(self.grad_norm),
            "samples": self.samples,
            "clock": {
                "samples_per_second": self.samples_per_second(),
                "wait_fraction": self.wait_fraction(),
                "fill": self.mean(self.fill),
                "seconds": seconds,
            },
        })
    }

    fn scalars(&self) -> [(&'static str, f64); 8] {
        [
            ("train/loss", self.mean(self.loss)),
            ("train/l1_intervals", self.mean(self.l1)),
            ("train/cross_entropy", self.mean(self.cross_entropy)),
            ("train/rate", self.mean(self.rate)),
            ("train/grad_norm", self.mean(self.grad_norm)),
            ("speed/samples_per_second", self.samples_per_second()),
            ("speed/wait_fraction", self.wait_fraction()),
            ("speed/prefetch_fill", self.mean(self.fill)),
        ]
    }

    fn to_json(self, step: u64, seconds: f64) -> Value {
        json!({
            "event": "interval",
            "step": step,
            "steps": self.steps,
            "epoch": self.epoch,
            "loss_sum": self.loss,
            "l1_sum": self.l1,
            "cross_entropy_sum": self.cross_entropy,
            "narrow_sums": self.narrow,
            "rate_sum": self.rate,
            "grad_norm_sum": self.grad_norm,
            "samples": self.samples,
            "clock": {
                "interval_seconds": self.seconds,
                "wait_seconds": self.wait_seconds,
                "fill_sum": self.fill,
                "seconds": seconds,
            },
        })
    }

    /// What was null was not finite.
    fn from_json(line: &Value) -> Self {
        let count = |name: &str| line[name].as_u64().unwrap_or(0);
        let sum = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
        let clock = |name: &str| line["clock"][name].as_f64().unwrap_or(0.0);
        Self {
            steps: count("steps"),
            epoch: count("epoch"),
            loss: sum("loss_sum"),
            l1: sum("l1_sum"),
            cross_entropy: sum("cross_entropy_sum"),
            narrow: serde_json::from_value(line["narrow_sums"].clone()).unwrap_or_default(),
            rate: sum("rate_sum"),
            grad_norm: sum("grad_norm_sum"),
            samples: count("samples"),
            seconds: clock("interval_seconds"),
            wait_seconds: clock("wait_seconds"),
            fill: clock("fill_sum"),
        }
    }
}

/// The lines of a run's log without the field `clock`, and without those of `interval`, which depend on where it was
/// stopped: what the same training gives again.
///
/// # Errors
/// [`Error::Io`]: the log cannot be read. [`Error::Input`]: a line is not a JSON object; the last may be half-written.
pub fn read(folder: &Path) -> Result<Vec<Value>> {
    let mut lines = read_log(&folder.join(LOG))?;
    lines.retain(|line| line["event"] != "interval");
    for line in &mut lines {
        if let Value::Object(fields) = line {
            fields.shift_remove("clock");
        }
    }
    Ok(lines)
}

/// Whole lines; what follows the last line break was being written when the run was killed.
fn read_log(path: &Path) -> Result<Vec<Value>> {
    let bytes = input::read(path, "read the training log")?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let parse = |(i, line): (usize, &[u8])| {
        let wrong = |found: String| {
            Error::input(
                format!("{}: line {}", path.display(), i + 1),
                found,
                "a JSON object; take the line away to go on without it",
            )
        };
        let fields: Fields<String, Value> = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
        Ok(Value::Object(fields))
    };
    bytes[..whole].split_inclusive(|&b| b == b'\n').enumerate().map(parse).collect()
}

/// Takes the lines of steps after `step` away and returns the others.
fn cut(path: &Path, step: u64) -> Result<Vec<Value>> {
    let mut lines = match read_log(path) {
        // A run that was killed before its first line.
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    lines.retain(|line| line["step"].as_u64().is_none_or(|at| at <= step));
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let _guard = interrupt::writing();
    write_whole(path, ACTION, |out| out.write_all(text.as_bytes()))?;
    Ok(lines)
}
