//! The training loop: steps, validation, checkpoints, and how a run ends and goes on.
//!
//! A run lives in a folder. `state.safetensors` is everything that the next step depends on, `weights.safetensors` and
//! `best.safetensors` are for use, `train.json` says with what options. Step k looks at the samples k B to (k + 1) B -
//! 1 of the data with choices drawn from (seed, k), so a run that was stopped and goes on computes the same as one
//! that was not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::events::EVENT_FILE;
use super::journal::{Journal, LOG, PANELS, StepReport};
use super::optimizer::{AdamOptions, average, norm};
use super::prefetch::{Prefetch, PrefetchOptions};
use super::sample::{Dataset, TrainingSample};
use super::schedule::{RateOptions, rate};
use super::state::State;
use super::step::{SampleGradients, Watch, sample_gradients};
use super::teachers::{Lesson, Teachers};
use super::validation::ValidationSet;
use crate::cpu::device::Cpu;
use crate::cpu::network::BsMvsNet;
use crate::cpu::ops::depth_backward::DepthLoss;
use crate::cpu::train::follow;
use crate::cuda::driver::Driver;
use crate::error::{Error, Result};
use crate::files::atomic::{write_through, write_whole};
use crate::files::folder::{Claim, FolderKind, Found, OutputFolder, is_temporary, write_json};
use crate::files::names::in_json;
use crate::host::interrupt;
use crate::host::progress::{Progress, one_line};
use crate::host::random::Random;
use crate::net::config::Config;
use crate::net::parameters::Parameters;
use crate::net::weights::Checkpoint;
use crate::scene::camera::{Hypotheses, Sampling};

/// Names of a run's files.
pub const STATE: &str = "state.safetensors";
/// The weights after the last checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";
/// The weights with the best validation.
pub const BEST: &str = "best.safetensors";
/// The options.
pub const OPTIONS: &str = "train.json";

/// The commit that the program was built from, where whoever built it said so (`ENGINE_COMMIT=$(git rev-parse HEAD)
/// cargo build`). Asking git in a build script would compile everything again after each commit.
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
    /// Learning rate and its schedule.
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
    /// The GPUs that make the gradients, with their indices; the processor does without one. The weights move on the
    /// host in either case.
    pub devices: Vec<(usize, Arc<dyn Driver>)>,
}

/// Trains in the folder `out`, or goes on there. `described` are the options that the result depends on, which a run
/// that goes on must share; `prepare` opens the data, once it is clear that there is something to do.
///
/// # Errors
/// Data or weights that cannot be read, a folder that holds another run, a value that is not finite
/// ([`Error::NotFinite`]; the state before it is kept), a stop by the user ([`Error::Interrupted`], after a
/// checkpoint).
pub fn train(
    out: &Path,
    options: &TrainOptions,
    described: &Value,
    prepare: impl FnOnce() -> Result<TrainData>,
    progress: &Progress,
) -> Result<()> {
    let (state, folder) = begin(out, options, described)?;
    if state.step >= options.steps && out.join(WEIGHTS).exists() {
        finish(out, &state, progress);
        return Ok(());
    }
    let TrainData { train, validation, mut notes, devices } = prepare()?;
    notes.extend(folder.note());
    // A run that was killed before its first checkpoint has a log, too.
    let resumed = out.join(LOG).exists().then_some(state.step);
    let journal = Journal::open(out, resumed, options.steps, options.log_every, progress.clone())?;
    if let Some(step) = resumed.filter(|&step| step > 0) {
        progress.note(&format!("going on after step {step} of {}", options.steps));
    } else if resumed.is_none() {
        journal.note(&format!("training data: {}", train.describe()))?;
        for note in &notes {
            journal.note(note)?;
        }
    }
    let cpu = Cpu::new();
    let teachers = Teachers::new(devices, &state.parameters)?;
    let (pool, untaught) = ((0, true), false);
    let mut run = Run { out, options, described, state, journal, validation, cpu, teachers, pool, untaught };
    let (seed, views, batch) = (options.seed, options.views, options.batch);
    let start = run.state.step * batch;
    let views_of = move |index: u64| choices(seed, index / batch).between(views.0, views.1);
    let mut prefetch = Prefetch::new(train, options.prefetch, start, views_of)?;
    while run.state.step < options.steps {
        if let Err(stopped) = interrupt::check() {
            run.checkpoint()?;
            if options.fresh {
                progress.note("to go on, leave --fresh away: with it the same command begins anew");
            }
            return Err(stopped);
        }
        if let Err(error) = run.step(&mut prefetch) {
            // Nothing has moved in a step whose sample could not be made.
            if let Error::Sample { .. } = error {
                run.checkpoint()?;
            }
            return Err(error);
        }
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
    finish(out, &run.state, progress);
    Ok(())
}

/// The choices of a step, drawn in this order: views, planes, sampling.
fn choices(seed: u64, step: u64) -> Random {
    const CHOICES: u64 = 0x6368_6f69_6365;
    Random::new(&[seed, step, CHOICES])
}

/// Folders of runs.
const RUNS: FolderKind = FolderKind {
    mark: OPTIONS,
    called: "run folder",
    foreign: ("it is not empty and holds no training run", "an empty or new folder, or --fresh to write into this one"),
    list: "use this as the run's folder",
    create: "create the run's folder",
    write: "write the options of the run",
    own: |name| {
        [STATE, WEIGHTS, BEST, OPTIONS, LOG, PANELS].contains(&name)
            || name.starts_with(EVENT_FILE)
            || is_temporary(name)
    },
    own_left: "train.json and state.safetensors of that run beside them, another folder, or --fresh to remove them and \
               begin anew",
};

/// The state to go on from, or a new one, and the folder, which is this run's for as long as it is held. Nothing is
/// removed or written before the state is there.
fn begin(out: &Path, options: &TrainOptions, described: &Value) -> Result<(State, OutputFolder)> {
    let (state_file, options_file) = (out.join(STATE), out.join(OPTIONS));
    let program = json!({ "program": "engine", "version": env!("CARGO_PKG_VERSION"), "options": described });
    let claim = Claim { path: out, force: options.fresh, kind: &RUNS };
    let mut folder = OutputFolder::new(claim, program, |mark| {
        if options.fresh || !state_file.exists() {
            return Ok(Found::Old);
        }
        let found: Value = serde_json::from_slice(mark).map_err(|e| {
            Error::input(options_file.display().to_string(), e.to_string(), "JSON; give --fresh to begin anew")
        })?;
        expect_same(&options_file, &found["options"], described)?;
        Ok(Found::Same)
    })?;
    if folder.goes_on() {
        folder.remove_leftovers();
        return Ok((State::read(&state_file)?, folder));
    }
    let parameters = match &options.init {
        Some(file) => {
            let found = Checkpoint::read(file)?.parameters;
            let Some(found) = found.extended(options.config, options.seed)? else {
                return Err(Error::input(
                    format!("--init {}", file.display()),
                    format!("weights of the configuration {}", found.config),
                    format!("those of {}, or of the same for a coarser resolution", options.config),
                ));
            };
            found
        }
        None => Parameters::random(options.config, options.seed)?,
    };
    folder.claim()?;
    let state = State::new(parameters, options.average);
    // At once, so that weights without a state are never those of a run that was killed before its first checkpoint.
    state.write(&state_file)?;
    Ok((state, folder))
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
        format!("the run began with {key} = {}, and now it is {}", text(found.get(key)), text(wanted.get(key))),
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
    teachers: Teachers,
    /// Bytes of buffers that the largest step so far needs, and whether the pool was empty before the step in progress.
    pool: (usize, bool),
    /// Whether a step was met whose samples have no truth.
    untaught: bool,
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
        let mut total: Option<SampleGradients> = None;
        let mut taught = 0u64;
        let mut norms = Vec::new();
        let mut left = batch;
        while left > 0 {
            let mut lessons = Vec::new();
            for _ in 0..left.min(self.teachers.at_once() as u64) {
                let (_, sample, wait) = prefetch.next()?;
                waited += wait.as_secs_f64();
                let hypotheses = Hypotheses::new(sample.range, planes, sampling);
                lessons.push((sample, hypotheses));
            }
            left -= lessons.len() as u64;
            // Added up in the order of the samples, whichever device was faster.
            for mut found in self.learn_all(&lessons)? {
                taught += u64::from(found.valid > 0);
                norms.push(std::mem::take(&mut found.statistics));
                match &mut total {
                    None => total = Some(found),
                    Some(total) => total.add(found),
                }
            }
        }
        let Some(mut found) = total else { return Ok(()) };
        // Samples without a truth teach nothing, and must not count as learned by heart.
        let share = 1.0 / taught.max(1) as f64;
        for statistics in &norms {
            follow(&mut self.state.parameters, statistics, MOMENTUM);
        }
        let length = norm(&found.gradients) * share;
        let scale = share * clip.filter(|&most| length > most).map_or(1.0, |most| most / length);
        let rate_now = rate(self.options.rate, step);
        if taught > 0 {
            self.state.adam.step(adam, rate_now, scale, &mut self.state.parameters, &found.gradients)?;
        } else if !std::mem::replace(&mut self.untaught, true) {
            self.journal.note(&format!(
                "no sample of step {} has a truth within its range, so it changes no weight; other steps like it are \
                 not told",
                step + 1
            ))?;
        }
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
            narrow: found.narrow,
            seconds: began.elapsed().as_secs_f64(),
            wait_seconds: waited,
            fill: ready as f64 / capacity.max(1) as f64,
        })
    }

    /// The gradients of some samples, in their order.
    fn learn_all(&mut self, lessons: &[Lesson]) -> Result<Vec<SampleGradients>> {
        let found = self.teachers.teach(&self.cpu, &self.state.parameters, lessons, self.options.loss)?;
        for (found, (sample, hypotheses)) in found.iter().zip(lessons) {
            self.expect_finite(found, sample, hypotheses)?;
        }
        Ok(found)
    }

    /// Where a sample's gradients are not finite, the step is done again under watch, to say where that began. The last
    /// checkpoint stays: the weights that have just failed are not worth more.
    fn expect_finite(
        &mut self,
        found: &SampleGradients,
        sample: &TrainingSample,
        hypotheses: &Hypotheses,
    ) -> Result<()> {
        let (parameters, loss) = (&self.state.parameters, self.options.loss);
        let run = |watch| sample_gradients(&self.cpu, parameters, sample, hypotheses, loss, watch);
        if found.loss.is_finite() && norm(&found.gradients).is_finite() {
            self.bound_pool();
            return Ok(());
        }
        let reason = match run(Watch::EveryValue) {
            Err(Error::NotFinite(reason)) => reason,
            Err(other) => return Err(other),
            Ok(_) => format!("the loss or a gradient (loss {})", found.loss),
        };
        let weights = self.out.join(WEIGHTS);
        let kept = if weights.exists() {
            format!(
                "{} holds the last checkpoint: go on from it in another folder with --init, with",
                weights.display()
            )
        } else {
            "no checkpoint was written yet: begin anew (--fresh) with".to_owned()
        };
        Err(Error::NotFinite(format!(
            "step {} on {}: {reason}; {kept} a lower --rate or a --clip",
            self.state.step + 1,
            sample.name
        )))
    }

    /// Steps of different sizes leave buffers of different sizes behind. What a step needs is known where it began
    /// with an empty pool; the pool is emptied when it holds half as much again as the largest step needs.
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
        let network = BsMvsNet::from_parameters(self.state.weights(), "in training")?;
        let mut scores = Vec::new();
        for set in &self.validation {
            let found = set.measure(&network, self.options.views.1, self.options.shown)?;
            self.journal.validation(step, &set.name, &found.metrics)?;
            scores.extend(found.metrics.mean_error_intervals);
            for (i, maps) in found.shown.iter().enumerate() {
                let (png, size) = set.picture(i, maps)?;
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
        // The state last: a run that is killed between the two does the steps again and writes the same weights.
        self.write_weights(WEIGHTS)?;
        self.state.write(&self.out.join(STATE))
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
        write_whole(&self.out.join(name), "write the weights", |file| write_through(file, &bytes))
    }
}

/// What a run that is done says.
fn finish(out: &Path, state: &State, progress: &Progress) {
    let (weights, best_file) = (out.join(WEIGHTS), out.join(BEST));
    let best = state.best.map_or(String::new(), |(score, step)| {
        format!("; best: step {step}, mean error {score:.3} intervals ({})", best_file.display())
    });
    let fields = json!({
        "steps": state.step,
        "weights": in_json(&weights),
        "best_step": state.best.map(|b| b.1),
        "best_mean_error_intervals": state.best.map(|b| b.0),
    });
    let text = format!("{} steps done, weights in {}{best}", state.step, weights.display());
    progress.summary(&one_line(&text), fields);
}
