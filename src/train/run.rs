//! The training loop: steps, validation, checkpoints, and how a run ends and goes on.
//!
//! A run lives in a folder. `state.safetensors` is everything that the next step depends on, `weights.safetensors` and
//! `best.safetensors` are for use, `train.json` says with what options. Step k looks at the samples k B to (k + 1) B -
//! 1 of the data with choices drawn from (seed, k), so a run that was stopped and goes on computes the same as one
//! that was not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::exchange::{Exchange, Sum, broadcast};
use super::folder::{BEST, STATE, WEIGHTS, begin, finish};
use super::journal::{Journal, LOG, StepReport};
use super::optimizer::{average, norm};
use super::options::{SamplingChoice, TrainOptions};
use super::prefetch::Prefetch;
use super::sample::{Dataset, TrainingSample};
use super::schedule::rate;
use super::state::State;
use super::step::{SampleGradients, Watch, sample_gradients};
use super::teachers::{Lesson, Teachers};
use super::team::Team;
use super::validation::ValidationSet;
use crate::cpu::device::Cpu;
use crate::cpu::network::BsMvsNet;
use crate::cpu::train::follow;
use crate::cuda::driver::Driver;
use crate::error::{Error, Result, counted};
use crate::files::atomic::{write_through, write_whole};
use crate::files::folder::{OutputFolder, write_json};
use crate::files::names::in_json;
use crate::host::interrupt;
use crate::host::progress::Progress;
use crate::host::random::Random;
use crate::net::parameters::Parameters;
use crate::scene::camera::{Hypotheses, Sampling};

/// The commit that the program was built from, where whoever built it said so (`ENGINE_COMMIT=$(git rev-parse HEAD)
/// cargo build`). Asking git in a build script would compile everything again after each commit.
const COMMIT: &str = match option_env!("ENGINE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Momentum of the norms' running statistics (PyTorch's).
const MOMENTUM: f64 = 0.1;

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
/// Of several processes ([`Team::work`]) each makes the gradients of its share of every step's samples. Only the first
/// reads and writes the folder and tells what happens; what the others need of it, it sends.
///
/// # Errors
/// Data or weights that cannot be read, a folder that holds another run, a value that is not finite
/// ([`Error::NotFinite`]; the state before it is kept), a stop by the user ([`Error::Interrupted`], after a
/// checkpoint); processes that differ in their options or data.
pub fn train(
    out: &Path,
    options: &TrainOptions,
    described: &Value,
    prepare: impl FnOnce() -> Result<TrainData>,
    team: &Team,
    progress: &Progress,
) -> Result<()> {
    team.expect_same(&identity(out, options, described))?;
    expect_samples(options.batch, team)?;
    let Some((state, folder)) = begin_together(out, options, described, team, progress)? else { return Ok(()) };
    let TrainData { train, validation, mut notes, devices } = prepare()?;
    let of_set = |set: &ValidationSet| format!("{} of {}", set.name, counted(set.views.len(), "view"));
    let sets: Vec<String> = validation.iter().map(of_set).collect();
    team.expect_same(&json!({ "training data": train.describe(), "validation data": sets.join(", ") }))?;
    notes.extend(folder.as_ref().and_then(OutputFolder::note));
    // A run that was killed before its first checkpoint has a log, too.
    let resumed = out.join(LOG).exists().then_some(state.step);
    let open = || Journal::open(out, resumed, options.steps, options.log_every, progress.clone());
    let journal = team.is_first().then(open).transpose()?;
    if let Some(journal) = &journal {
        if let Some(step) = resumed.filter(|&step| step > 0) {
            progress.note(&format!("going on after step {step} of {}", options.steps));
        } else if resumed.is_none() {
            journal.note(&format!("training data: {}", train.describe()))?;
            for note in &notes {
                journal.note(note)?;
            }
        }
    }
    let cpu = Cpu::new();
    let teachers = Teachers::new(devices, &state.parameters)?;
    team.agree(Ok(()))?;
    let exchange = Exchange::new(team, options.batch, teachers.at_once(), &state.parameters)?;
    let told = introduce(team, &teachers, &exchange)?;
    let (pool, untaught) = ((0, true), false);
    let share = exchange.share();
    let mut run =
        Run { out, options, described, state, journal, validation, cpu, teachers, exchange, team, pool, untaught };
    told.iter().try_for_each(|text| run.note(text))?;
    let (seed, views, batch) = (options.seed, options.views, options.batch);
    let start = run.state.step * share.of(batch);
    let index_of = move |position: u64| share.index(position);
    let views_of = move |index: u64| choices(seed, index / batch).between(views.0, views.1);
    let mut prefetch = Prefetch::new(train, options.prefetch, start, index_of, views_of)?;
    while run.state.step < options.steps {
        if let Err(stopped) = team.agree(interrupt::check()) {
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
            return Err(run.with_advice(error));
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
    if team.is_first() {
        finish(out, &run.state, progress);
    }
    Ok(())
}

/// What all processes must have in common.
fn identity(out: &Path, options: &TrainOptions, described: &Value) -> Value {
    let mut all = json!({
        "program": format!("engine {} of commit {COMMIT}", env!("CARGO_PKG_VERSION")),
        "folder": in_json(out),
        "fresh": options.fresh,
        "checkpoint_every": options.checkpoint_every,
        "log_every": options.log_every,
        "shown": options.shown,
    });
    if let (Value::Object(all), Value::Object(described)) = (&mut all, described) {
        all.extend(described.clone());
    }
    all
}

/// Every process needs a sample of every step.
fn expect_samples(batch: u64, team: &Team) -> Result<()> {
    let ranks = team.collective().ranks() as u64;
    if ranks <= batch {
        return Ok(());
    }
    Err(Error::input(
        "--batch",
        format!("{batch} for {ranks} processes, which share the samples of a step"),
        format!("--batch {ranks} or more, or {batch} processes at most"),
    ))
}

/// The state to begin with in every process, and the folder in the first; nothing where all is done.
fn begin_together(
    out: &Path,
    options: &TrainOptions,
    described: &Value,
    team: &Team,
    progress: &Progress,
) -> Result<Option<(State, Option<OutputFolder>)>> {
    let (mut state, folder) = if team.is_first() {
        let (state, folder) = begin(out, options, described)?;
        (state, Some(folder))
    } else {
        // Its values come from the first.
        (State::new(Parameters::random(options.config, options.seed)?, None), None)
    };
    let done = team.is_first() && state.step >= options.steps && out.join(WEIGHTS).exists();
    team.agree(Ok(()))?;
    state.step = team.numbers(state.step)?[0];
    if team.numbers(done.into())?[0] == 1 {
        if team.is_first() {
            finish(out, &state, progress);
        }
        return Ok(None);
    }
    broadcast(team, &mut state.parameters)?;
    Ok(Some((state, folder)))
}

/// Who takes part, by what means, and what it costs: for the log of a run of several processes.
fn introduce(team: &Team, teachers: &Teachers, exchange: &Exchange) -> Result<Vec<String>> {
    if team.is_alone() {
        return Ok(Vec::new());
    }
    let collective = team.collective();
    let means = team.texts(&teachers.describe())?;
    let threads = team.numbers(rayon::current_num_threads() as u64)?;
    let hosts = team.texts(&collective.host())?;
    let each = hosts
        .iter()
        .zip(&means)
        .zip(threads)
        .map(|((host, means), threads)| format!("{means} with {} on {host}", counted(threads as usize, "thread")));
    let mut notes = vec![
        format!("{} processes ({}): {}", means.len(), collective.library(), each.collect::<Vec<_>>().join("; ")),
        format!("to exchange gradients, each holds {:.1} MB", exchange.bytes() as f64 / 1e6),
    ];
    if means.iter().any(|m| *m != means[0]) {
        notes.push(
            "they compute by different means, whose sums differ in the last bits: with the samples dealt out otherwise \
             (another number of processes, or another order) the weights would differ in these bits, too"
                .into(),
        );
    }
    Ok(notes)
}

/// The choices of a step, drawn in this order: views, planes, sampling.
fn choices(seed: u64, step: u64) -> Random {
    const CHOICES: u64 = 0x6368_6f69_6365;
    Random::new(&[seed, step, CHOICES])
}

/// A run at work, as one of its processes sees it.
struct Run<'a> {
    out: &'a Path,
    options: &'a TrainOptions,
    described: &'a Value,
    /// Everywhere the step and the weights; the average, the moments and the best are the first process's.
    state: State,
    /// The first process's.
    journal: Option<Journal>,
    validation: Vec<ValidationSet>,
    cpu: Cpu,
    teachers: Teachers,
    exchange: Exchange,
    team: &'a Team,
    /// Bytes of buffers that the largest step so far needs, and whether the pool was empty before the step in progress.
    pool: (usize, bool),
    /// Whether a step was met whose samples have no truth.
    untaught: bool,
}

/// What a step is for the clock.
struct Clock {
    began: Instant,
    waited: f64,
    fill: f64,
}

impl Run<'_> {
    /// One step: gradients of the batch, and the weights move.
    fn step(&mut self, prefetch: &mut Prefetch) -> Result<()> {
        let (ready, capacity) = prefetch.fill();
        let fill = ready as f64 / capacity.max(1) as f64;
        let mut clock = Clock { began: Instant::now(), waited: 0.0, fill };
        let mut random = choices(self.options.seed, self.state.step);
        let _views = random.between(self.options.views.0, self.options.views.1);
        let planes = self.options.planes[random.below(self.options.planes.len())];
        let sampling = match self.options.sampling {
            SamplingChoice::Linear => Sampling::Linear,
            SamplingChoice::Inverse => Sampling::Inverse,
            SamplingChoice::Mixed if random.chance(0.5) => Sampling::Inverse,
            SamplingChoice::Mixed => Sampling::Linear,
        };
        let mut left = self.options.batch;
        while left > 0 {
            let round = left.min(self.exchange.round());
            left -= round;
            let own = self.own_part(prefetch, round, planes, sampling, &mut clock);
            self.exchange.add(self.team, own, round)?;
        }
        let moved = match self.exchange.finish(self.team)? {
            Some(found) => self.apply(found, &clock),
            None => Ok(()),
        };
        self.team.agree(moved)?;
        broadcast(self.team, &mut self.state.parameters)?;
        self.state.step += 1;
        Ok(())
    }

    /// What this process's samples of a round teach, in their order.
    fn own_part(
        &mut self,
        prefetch: &mut Prefetch,
        round: u64,
        planes: usize,
        sampling: Sampling,
        clock: &mut Clock,
    ) -> Result<Vec<SampleGradients>> {
        let mut lessons = Vec::new();
        for _ in 0..self.exchange.share().of(round) {
            let (_, sample, wait) = prefetch.next()?;
            clock.waited += wait.as_secs_f64();
            let hypotheses = Hypotheses::new(sample.range, planes, sampling);
            lessons.push((sample, hypotheses));
        }
        let mut all = Vec::new();
        for lessons in lessons.chunks(self.teachers.at_once()) {
            // In the order of the samples, whichever device was faster.
            all.extend(self.learn_all(lessons)?);
        }
        Ok(all)
    }

    /// Moves the weights, and tells of it. Done by the first process.
    fn apply(&mut self, mut found: Sum, clock: &Clock) -> Result<()> {
        let TrainOptions { batch, clip, adam, .. } = *self.options;
        let step = self.state.step;
        // Samples without a truth teach nothing, and must not count as learned by heart.
        let share = 1.0 / found.taught.max(1) as f64;
        for statistics in &found.statistics {
            follow(&mut self.state.parameters, statistics, MOMENTUM);
        }
        let length = norm(&found.gradients) * share;
        let scale = share * clip.filter(|&most| length > most).map_or(1.0, |most| most / length);
        let rate_now = rate(self.options.rate, step);
        if found.taught > 0 {
            self.state.adam.step(adam, rate_now, scale, &mut self.state.parameters, &found.gradients)?;
        } else if !std::mem::replace(&mut self.untaught, true) {
            self.note(&format!(
                "no sample of step {} has a truth within its range, so it changes no weight; other steps like it are \
                 not told",
                step + 1
            ))?;
        }
        if let (Some(decay), Some(mean)) = (self.options.average, &mut self.state.average) {
            average(mean, &self.state.parameters, decay, step);
        }
        for value in [&mut found.loss, &mut found.l1, &mut found.cross_entropy] {
            *value *= share;
        }
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.step(&StepReport {
            step: step + 1,
            epoch: step / self.options.epoch.max(1),
            loss: found.loss,
            l1: found.l1,
            cross_entropy: found.cross_entropy,
            rate: rate_now,
            grad_norm: length,
            samples: batch,
            narrow: found.narrow,
            seconds: clock.began.elapsed().as_secs_f64(),
            wait_seconds: clock.waited,
            fill: clock.fill,
        })
    }

    /// Tells it, in the first process.
    fn note(&self, text: &str) -> Result<()> {
        self.journal.as_ref().map_or(Ok(()), |journal| journal.note(text))
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
        Err(Error::NotFinite(format!("step {} on {}: {reason}", self.state.step + 1, sample.name)))
    }

    /// What helps after a value that was not finite, which the process with the folder knows.
    fn with_advice(&self, error: Error) -> Error {
        let Error::NotFinite(found) = error else { return error };
        let weights = self.out.join(WEIGHTS);
        let kept = if weights.exists() {
            format!(
                "{} holds the last checkpoint: go on from it in another folder with --init, with",
                weights.display()
            )
        } else {
            "no checkpoint was written yet: begin anew (--fresh) with".to_owned()
        };
        Error::NotFinite(format!("{found}; {kept} a lower --rate or a --clip"))
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

    /// Measures the sets, keeps the best weights, makes pictures. Each process does its share of the views; what they
    /// have found comes together in the first.
    fn validate(&mut self) -> Result<()> {
        if self.validation.is_empty() {
            return Ok(());
        }
        let step = self.state.step;
        let mut weights = self.state.weights().clone();
        self.team.agree(Ok(()))?;
        broadcast(self.team, &mut weights)?;
        let network = BsMvsNet::from_parameters(&weights, "in training")?;
        let mut scores = Vec::new();
        for set in &self.validation {
            let (views, shown) = (self.options.views.1, self.options.shown);
            let found = set.measure_together(&network, views, shown, self.team)?;
            let (Some(found), Some(journal)) = (found, &mut self.journal) else { continue };
            journal.validation(step, &set.name, &found.metrics)?;
            scores.extend(found.metrics.mean_error_intervals);
            for (i, maps) in found.shown.iter().enumerate() {
                let (png, size) = set.picture(i, maps)?;
                journal.panel(step, &format!("{}_{i}", set.name), &png, size)?;
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
        let Some(journal) = &mut self.journal else { return Ok(()) };
        journal.checkpoint()?;
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
