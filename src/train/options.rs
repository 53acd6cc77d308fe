//! Everything that a training run computes from, beside the data.

use std::path::PathBuf;

use super::optimizer::AdamOptions;
use super::prefetch::PrefetchOptions;
use super::schedule::RateOptions;
use crate::cpu::ops::depth_backward::DepthLoss;
use crate::net::config::Config;

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
