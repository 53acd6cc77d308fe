//! The training loop: steps, validation, checkpoints, and how a run ends and goes on.
//!
//! A run lives in a folder. `state.safetensors` is everything that the next step depends on, `weights.safetensors` and
//! `best.safetensors` are for use, `train.json` says with what options. Step k looks at the samples k B to (k + 1) B - 1 of
//! the data with choices drawn from (seed, k), so a run that was stopped and goes on computes the same as one that was not.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::journal::{Journal, LOG, StepReport};
use super::optimizer::{AdamOptions, NamedGradients, average, norm};
use super::panels::panel;
use super::prefetch::{Prefetch, PrefetchOptions};
use super::sample::{Dataset, TrainingSample};
use super::schedule::{RateOptions, rate};
use super::state::State;
use super::step::{Lesson, lesson};
use super::validation::{ValidationSet, interval};
use crate::camera::{Hypotheses, Sampling};
use crate::error::{Error, Result};
use crate::formats::input;
use crate::formats::output::write_whole;
use crate::interrupt;
use crate::net::Config;
use crate::net::parameters::Parameters;
use crate::net::training::follow;
use crate::net::weights::Checkpoint;
use crate::ops::depth_backward::DepthLoss;
use crate::output::write_json;
use crate::progress::Progress;
use crate::synth::random::Random;
use crate::tensor::Cpu;

/// Names of a run's files.
pub const STATE: &str = "state.safetensors";
/// The weights after the last checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";
/// The weights with the best validation.
pub const BEST: &str = "best.safetensors";
/// The options.
pub const OPTIONS: &str = "train.json";

/// The commit that the program was built from, where whoever built it said so (`ENGINE_COMMIT=$(git rev-parse HEAD) cargo
/// build`). Asking git in a build script would compile everything again after each commit.
const COMMIT: &str = match option_env!("ENGINE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Momentum of the norms' running statistics (PyTorch's).
const MOMENTUM: f64 = 0.1;

/// Which spacing of hypotheses a step uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SamplingChoice {
    /// Evenly in depth.
    Linear,
    /// Evenly in 1 / depth.
    Inverse,
    /// One of both by chance.
    Mixed,
}

/// Everything that a run computes from, beside the data.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// The network.
    pub config: Config,
    /// First weights; random ones otherwise.
    pub init: Option<PathBuf>,
    /// Of first weights, data and choices.
    pub seed: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Steps of an epoch.
    pub epoch: u64,
    /// Samples of a step, whose gradients are averaged.
    pub batch: u64,
    /// Numbers of hypotheses, one of which is taken by chance.
    pub planes: Vec<usize>,
    /// Least and most views of a sample, the reference counted.
    pub views: (usize, usize),
    /// Spacing of the hypotheses.
    pub sampling: SamplingChoice,
    /// The loss.
    pub loss: DepthLoss,
    /// Learning rate and its schedule; `epoch` and `total` are taken from above.
    pub rate: RateOptions,
    /// The largest norm of a step's gradient; longer ones are scaled down.
    pub clip: Option<f64>,
    /// The optimizer.
    pub adam: AdamOptions,
    /// Decay of the moving average of the weights; none is kept without it.
    pub average: Option<f64>,
    /// Steps between validations; 0: only at the end.
    pub validate_every: u64,
    /// Validation views that are shown as pictures.
    pub shown: usize,
    /// Steps between checkpoints; there is always one at the end.
    pub checkpoint_every: u64,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Loader threads and their queue.
    pub prefetch: PrefetchOptions,
    /// Begin anew even where the folder holds a run.
    pub fresh: bool,
}

/// What a run learns from and is judged by.
pub struct TrainData {
    /// Samples for training.
    pub train: Arc<dyn Dataset>,
    /// Sets for validation; the score is the mean of their mean errors in intervals.
    pub validation: Vec<ValidationSet>,
    /// What is worth knowing about the data.
    pub notes: Vec<String>,
}

/// Trains in the folder `out`, or goes on there. `described` are the options as they were typed, which a run that goes on must
/// share.
///
/// # Errors
/// Data or weights that cannot be read, a folder that holds another run, a value that is not finite
/// ([`Error::NotFinite`]; the state before it is kept), a stop by the user ([`Error::Interrupted`], after a checkpoint).
pub fn train(
    out: &Path,
    options: &TrainOptions,
    data: TrainData,
    described: &Value,
    progress: &Progress,
) -> Result<()> {
    let TrainData { train, validation, notes } = data;
    let state = begin(out, options, described)?;
    // A run that was killed before its first checkpoint has a log, too.
    let resumed = out.join(LOG).exists().then_some(state.step);
    let journal = Journal::open(out, resumed, options.steps, options.log_every, *progress)?;
    if let Some(step) = resumed.filter(|&step| step > 0) {
        progress.note(&format!("going on after step {step} of {}", options.steps));
    } else {
        journal.note(&format!("training data: {}", train.describe()))?;
        for note in &notes {
            journal.note(note)?;
        }
    }
    let cpu = Cpu::new();
    let mut run = Run { out, options, described, state, journal, validation, cpu, pool: (0, true) };
    let (seed, views, batch) = (options.seed, options.views, options.batch);
    let start = run.state.step * batch;
    let views_of = move |index: u64| choices(seed, index / batch).between(views.0, views.1);
    let mut prefetch = Prefetch::new(train, options.prefetch, start, views_of)?;
    while run.state.step < options.steps {
        if let Err(stopped) = interrupt::check() {
            run.checkpoint()?;
            return Err(stopped);
        }
        run.step(&mut prefetch)?;
        let (step, last) = (run.state.step, run.state.step == options.steps);
        let due = |every: u64| every > 0 && step.is_multiple_of(every);
        if last || due(options.validate_every) {
            run.validate()?;
        }
        if last || due(options.checkpoint_every) {
            run.checkpoint()?;
        }
    }
    drop(prefetch);
    run.finish(progress)
}

/// The choices of a step, drawn in this order: views, planes, sampling.
fn choices(seed: u64, step: u64) -> Random {
    const CHOICES: u64 = 0x6368_6f69_6365;
    Random::new(&[seed, step, CHOICES])
}

/// The state to go on from, or a new one.
fn begin(out: &Path, options: &TrainOptions, described: &Value) -> Result<State> {
    let (state_file, options_file) = (out.join(STATE), out.join(OPTIONS));
    if !options.fresh && options_file.exists() {
        let text = input::read(&options_file, "read the options of the run")?;
        let found: Value = serde_json::from_slice(&text).map_err(|e| {
            Error::input(
                options_file.display().to_string(),
                e.to_string(),
                "JSON; give --fresh to begin anew",
            )
        })?;
        expect_same(&options_file, &found["options"], described)?;
        if state_file.exists() {
            return State::read(&state_file);
        }
    } else {
        std::fs::create_dir_all(out).map_err(Error::io("create the run's folder", out))?;
        let foreign = std::fs::read_dir(out).map_err(Error::io("use this as the run's folder", out))?;
        if !options.fresh && foreign.count() > 0 {
            return Err(Error::input(
                format!("run folder {}", out.display()),
                "it is not empty and holds no training run",
                "an empty or new folder, or --fresh to write into this one",
            ));
        }
        for old in [STATE, WEIGHTS, BEST, LOG] {
            let file = out.join(old);
            if file.exists() {
                std::fs::remove_file(&file).map_err(Error::io("remove the file of an earlier run", &file))?;
            }
        }
        let program =
            json!({ "program": "engine", "version": env!("CARGO_PKG_VERSION"), "options": described });
        write_json(&options_file, "write the options of the run", &program)?;
    }
    let parameters = match &options.init {
        Some(file) => {
            let found = Parameters::from_checkpoint(&Checkpoint::read(file)?)?;
            if found.config != options.config {
                return Err(Error::input(
                    format!("--init {}", file.display()),
                    format!("weights of the configuration {}", found.config),
                    format!("those of {}", options.config),
                ));
            }
            found
        }
        None => Parameters::random(options.config, options.seed)?,
    };
    Ok(State::new(parameters, options.average.is_some()))
}

/// A run goes on only with the options that it began with.
fn expect_same(file: &Path, found: &Value, wanted: &Value) -> Result<()> {
    let (Value::Object(found), Value::Object(wanted)) = (found, wanted) else {
        return Err(Error::input(file.display().to_string(), "no options", "give --fresh to begin anew"));
    };
    let keys = found.keys().chain(wanted.keys());
    let Some(key) = keys.into_iter().find(|&k| found.get(k) != wanted.get(k)) else { return Ok(()) };
    let text = |v: Option<&Value>| v.map_or("nothing".into(), Value::to_string);
    Err(Error::input(
        file.display().to_string(),
        format!(
            "the run began with {key} = {}, and now it is {}",
            text(found.get(key)),
            text(wanted.get(key))
        ),
        "the same options to go on, another folder, or --fresh to begin anew",
    ))
}

/// A run at work.
struct Run<'a> {
    out: &'a Path,
    options: &'a TrainOptions,
    described: &'a Value,
    state: State,
    journal: Journal,
    validation: Vec<ValidationSet>,
    cpu: Cpu,
    /// Bytes of buffers that the largest step so far needs, and whether the pool was empty before the step in progress.
    pool: (usize, bool),
}

impl Run<'_> {
    /// One step: gradients of the batch, and the weights move.
    fn step(&mut self, prefetch: &mut Prefetch) -> Result<()> {
        let began = Instant::now();
        let TrainOptions { seed, batch, clip, adam, .. } = *self.options;
        let step = self.state.step;
        let mut waited = 0.0;
        let (ready, capacity) = prefetch.fill();
        let mut random = choices(seed, step);
        let _views = random.between(self.options.views.0, self.options.views.1);
        let planes = self.options.planes[random.below(self.options.planes.len())];
        let sampling = match self.options.sampling {
            SamplingChoice::Linear => Sampling::Linear,
            SamplingChoice::Inverse => Sampling::Inverse,
            SamplingChoice::Mixed if random.chance(0.5) => Sampling::Inverse,
            SamplingChoice::Mixed => Sampling::Linear,
        };
        let mut total: Option<Lesson> = None;
        for _ in 0..batch {
            let (_, sample, wait) = prefetch.next()?;
            waited += wait.as_secs_f64();
            let hypotheses = Hypotheses::new(sample.range, planes, sampling);
            let found = self.learn(&sample, &hypotheses, false)?;
            follow(&mut self.state.parameters, &found.statistics, MOMENTUM);
            match &mut total {
                None => total = Some(found),
                Some(total) => add(total, found),
            }
        }
        let Some(mut found) = total else { return Ok(()) };
        let share = 1.0 / batch as f64;
        let length = norm(&found.gradients) * share;
        let scale = share * clip.filter(|&most| length > most).map_or(1.0, |most| most / length);
        let rate_now = rate(
            RateOptions { epoch: self.options.epoch, total: self.options.steps, ..self.options.rate },
            step,
        );
        self.state.adam.step(adam, rate_now, scale, &mut self.state.parameters, &found.gradients)?;
        if let (Some(decay), Some(mean)) = (self.options.average, &mut self.state.average) {
            average(mean, &self.state.parameters, decay, step);
        }
        self.state.step += 1;
        for value in [&mut found.loss, &mut found.l1, &mut found.cross_entropy] {
            *value *= share;
        }
        self.journal.step(&StepReport {
            step: self.state.step,
            epoch: step / self.options.epoch.max(1),
            loss: found.loss,
            l1: found.l1,
            cross_entropy: found.cross_entropy,
            rate: rate_now,
            grad_norm: length,
            samples: batch,
            seconds: began.elapsed().as_secs_f64(),
            wait_seconds: waited,
            fill: ready as f64 / capacity.max(1) as f64,
        })
    }

    /// A sample's gradients. Where they are not finite, the step is done again under watch, to say where that began; the state
    /// before it is kept.
    fn learn(&mut self, sample: &TrainingSample, hypotheses: &Hypotheses, watch: bool) -> Result<Lesson> {
        let found = lesson(&self.cpu, &self.state.parameters, sample, hypotheses, self.options.loss, watch)?;
        self.bound_pool();
        if found.loss.is_finite() && norm(&found.gradients).is_finite() {
            return Ok(found);
        }
        let watched = lesson(&self.cpu, &self.state.parameters, sample, hypotheses, self.options.loss, true);
        self.checkpoint()?;
        let reason = match watched {
            Err(Error::NotFinite(reason)) => reason,
            Err(other) => return Err(other),
            Ok(_) => format!("the loss or a gradient (loss {})", found.loss),
        };
        Err(Error::NotFinite(format!(
            "step {} on {}: {reason}; the weights before it are kept in {}: go on from them with a lower --rate or with \
             --clip",
            self.state.step + 1,
            sample.name,
            self.out.join(WEIGHTS).display()
        )))
    }

    /// Steps of different sizes leave buffers of different sizes behind. What a step needs is known where it began with an
    /// empty pool; the pool is emptied when it holds half as much again as the largest step needs.
    fn bound_pool(&mut self) {
        let free = self.cpu.free_bytes();
        let (largest, was_empty) = &mut self.pool;
        if std::mem::take(was_empty) {
            *largest = free.max(*largest);
        }
        if free > *largest + *largest / 2 {
            self.cpu.trim();
            *was_empty = true;
        }
    }

    /// Measures the sets, keeps the best weights, makes pictures.
    fn validate(&mut self) -> Result<()> {
        if self.validation.is_empty() {
            return Ok(());
        }
        let step = self.state.step;
        let network = self.state.weights().network("in training")?;
        let mut scores = Vec::new();
        for set in &self.validation {
            let found = set.measure(&network, self.options.views.1, self.options.shown)?;
            self.journal.validation(step, &set.name, &found.metrics)?;
            scores.extend(found.metrics.mean_error_intervals);
            for (i, (view, (depth, confidence))) in set.views.iter().zip(&found.shown).enumerate() {
                let sample = &view.sample;
                let interval = interval(&set.hypotheses(view));
                let (png, size) =
                    panel(&sample.photos[0], &sample.depth, depth, confidence, sample.range, interval)?;
                self.journal.panel(step, &format!("{}_{i}", set.name), &png, size)?;
            }
            if let Some(split) = &found.split {
                write_json(&self.out.join(format!("{}.json", set.name)), "write the validation", split)?;
            }
        }
        if scores.is_empty() {
            return Ok(());
        }
        let score = scores.iter().sum::<f64>() / scores.len() as f64;
        if self.state.best.is_none_or(|(best, _)| score < best) {
            self.state.best = Some((score, step));
            self.write_weights(BEST)?;
        }
        Ok(())
    }

    /// The state and the weights after it, whole or not at all.
    fn checkpoint(&mut self) -> Result<()> {
        self.journal.checkpoint()?;
        self.state.write(&self.out.join(STATE))?;
        self.write_weights(WEIGHTS)
    }

    fn write_weights(&self, name: &str) -> Result<()> {
        let metadata = BTreeMap::from([
            ("step".to_owned(), self.state.step.to_string()),
            ("program".to_owned(), format!("engine {}", env!("CARGO_PKG_VERSION"))),
            ("commit".to_owned(), COMMIT.to_owned()),
            ("data".to_owned(), self.described["data"].to_string()),
            ("options".to_owned(), self.described.to_string()),
        ]);
        let bytes = self.state.weights().to_safetensors(self.state.step, &metadata)?;
        let _guard = interrupt::writing();
        write_whole(&self.out.join(name), "write the weights", |file| file.write_all(&bytes))
    }

    fn finish(self, progress: &Progress) -> Result<()> {
        let best = self.state.best.map_or(String::new(), |(score, step)| {
            format!(
                "; best: step {step}, mean error {score:.3} intervals ({})",
                self.out.join(BEST).display()
            )
        });
        let fields = json!({
            "steps": self.state.step,
            "weights": self.out.join(WEIGHTS),
            "best_step": self.state.best.map(|b| b.1),
            "best_mean_error_intervals": self.state.best.map(|b| b.0),
        });
        let text =
            format!("{} steps done, weights in {}{best}", self.state.step, self.out.join(WEIGHTS).display());
        progress.summary(&text, fields);
        Ok(())
    }
}

/// The sums of two lessons.
fn add(total: &mut Lesson, more: Lesson) {
    total.loss += more.loss;
    total.l1 += more.l1;
    total.cross_entropy += more.cross_entropy;
    total.valid += more.valid;
    let mut gradients: NamedGradients = more.gradients;
    for (name, sum) in &mut total.gradients {
        if let Some(more) = gradients.remove(name) {
            sum.iter_mut().zip(more).for_each(|(s, m)| *s += m);
        }
    }
}
