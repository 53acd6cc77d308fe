//! A training run's folder: whether a run may begin or go on in it, and from which state.

use std::path::Path;

use serde_json::{Value, json};

use super::events::EVENT_FILE;
use super::journal::{LOG, PANELS};
use super::options::TrainOptions;
use super::state::State;
use crate::error::{Error, Result};
use crate::files::folder::{Claim, FolderKind, Found, OutputFolder, is_temporary};
use crate::files::names::in_json;
use crate::host::progress::{Progress, one_line};
use crate::net::parameters::Parameters;
use crate::net::weights::Checkpoint;

/// Names of a run's files.
pub const STATE: &str = "state.safetensors";
/// The weights after the last checkpoint.
pub const WEIGHTS: &str = "weights.safetensors";
/// The weights with the best validation.
pub const BEST: &str = "best.safetensors";
/// The options.
pub const OPTIONS: &str = "train.json";

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
pub fn begin(out: &Path, options: &TrainOptions, described: &Value) -> Result<(State, OutputFolder)> {
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

/// What a run that is done says.
pub fn finish(out: &Path, state: &State, progress: &Progress) {
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
