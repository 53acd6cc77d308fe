//! How the learning rate goes from the first step to the last.

use serde::{Deserialize, Serialize};

/// A schedule over all steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Times 0.9 after each epoch (the paper's).
    Step,
    /// Half a cosine, from the initial rate down to a hundredth of it.
    Cosine,
    /// A constant rate.
    Constant,
}

/// What [`rate`] is computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateOptions {
    /// The rate at the start.
    pub rate: f64,
    /// How it goes on.
    pub schedule: Schedule,
    /// Steps over which it rises from nearly nothing.
    pub warmup: u64,
    /// Steps of an epoch.
    pub epoch: u64,
    /// Steps of the run.
    pub total: u64,
}

/// The rate of step `step`, from 0.
pub fn rate(options: RateOptions, step: u64) -> f64 {
    let RateOptions { rate, schedule, warmup, epoch, total } = options;
    let warm = if step < warmup { (step + 1) as f64 / (warmup + 1) as f64 } else { 1.0 };
    let factor = match schedule {
        Schedule::Step => 0.9f64.powi(i32::try_from(step / epoch.max(1)).unwrap_or(i32::MAX)),
        Schedule::Cosine => {
            let done = step as f64 / total.max(1) as f64;
            0.01 + 0.99 * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
        }
        Schedule::Constant => 1.0,
    };
    rate * warm * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(schedule: Schedule) -> RateOptions {
        RateOptions { rate: 1e-3, schedule, warmup: 0, epoch: 100, total: 1000 }
    }

    #[test]
    fn the_papers_rate_falls_by_a_tenth_after_each_epoch() {
        let at = |step| rate(options(Schedule::Step), step);
        assert_eq!((at(0), at(99)), (1e-3, 1e-3));
        assert!((at(100) - 0.9e-3).abs() < 1e-12 && (at(250) - 0.81e-3).abs() < 1e-12);
    }

    #[test]
    fn a_cosine_ends_at_a_hundredth_and_warming_up_starts_low() {
        let at = |step| rate(options(Schedule::Cosine), step);
        assert!((at(0) - 1e-3).abs() < 1e-12 && (at(500) - 0.505e-3).abs() < 1e-9);
        assert!((at(1000) - 1e-5).abs() < 1e-12 && (at(5000) - 1e-5).abs() < 1e-12);
        let warm = |step| rate(RateOptions { warmup: 9, ..options(Schedule::Constant) }, step);
        assert!((warm(0) - 1e-4).abs() < 1e-12 && (warm(8) - 9e-4).abs() < 1e-12 && warm(9) == 1e-3);
    }
}
