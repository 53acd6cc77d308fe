//! Which shard a process is to do: told, or taken from the variables that schedulers set for the tasks of an array.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// One of a plan's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// A shard as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardOption {
    /// This one.
    Given(Shard),
    /// The one that belongs to the scheduler's task.
    Auto,
}

impl FromStr for ShardOption {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected = || "expected I/N with I from 1 to N (3/8), or auto".to_owned();
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (number, of) = text.split_once('/').ok_or_else(expected)?;
        let shard =
            Shard { number: number.parse().ok().ok_or_else(expected)?, of: of.parse().ok().ok_or_else(expected)? };
        if (1..=shard.of).contains(&shard.number) { Ok(Self::Given(shard)) } else { Err(expected()) }
    }
}

/// How a scheduler numbers the tasks of an array.
struct Scheduler {
    name: &'static str,
    /// The task's number.
    index: &'static str,
    /// The number of the first task: a variable, where numbers may begin anywhere, else always this.
    first: (Option<&'static str>, usize),
    /// The step from task to task, where it may be another than 1.
    step: Option<&'static str>,
    /// How many tasks there are, where it says so.
    count: Option<&'static str>,
    /// How an array of N tasks is asked for.
    asked: &'static str,
}

const SCHEDULERS: [Scheduler; 6] = [
    Scheduler {
        name: "Slurm",
        index: "SLURM_ARRAY_TASK_ID",
        first: (Some("SLURM_ARRAY_TASK_MIN"), 0),
        step: Some("SLURM_ARRAY_TASK_STEP"),
        count: Some("SLURM_ARRAY_TASK_COUNT"),
        asked: "--array=1-N",
    },
    Scheduler {
        name: "Kubernetes",
        index: "JOB_COMPLETION_INDEX",
        first: (None, 0),
        step: None,
        count: Some("JOB_COMPLETIONS"),
        asked: "completions: N and completionMode: Indexed",
    },
    Scheduler { name: "PBS", index: "PBS_ARRAY_INDEX", first: (None, 1), step: None, count: None, asked: "-J 1-N" },
    Scheduler {
        name: "AWS Batch",
        index: "AWS_BATCH_JOB_ARRAY_INDEX",
        first: (None, 0),
        step: None,
        count: Some("AWS_BATCH_JOB_ARRAY_SIZE"),
        asked: "an array size of N",
    },
    Scheduler {
        name: "Grid Engine",
        index: "SGE_TASK_ID",
        first: (Some("SGE_TASK_FIRST"), 1),
        step: Some("SGE_TASK_STEPSIZE"),
        count: None,
        asked: "-t 1-N",
    },
    Scheduler { name: "LSF", index: "LSB_JOBINDEX", first: (None, 1), step: None, count: None, asked: "-J name[1-N]" },
];

impl ShardOption {
    /// The shard of a plan with so many; where no plan says, as many as the scheduler has tasks. `variable` looks a
    /// variable of the environment up.
    ///
    /// # Errors
    /// Another number of shards than the plan's; variables that are not there, or no numbers.
    pub fn resolve(self, planned: Option<usize>, variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
        let (shard, place, advice) = match self {
            Self::Given(shard) => (shard, format!("--shard {shard}"), String::new()),
            Self::Auto => Self::of_task(planned, variable)?,
        };
        match planned {
            Some(planned) if planned != shard.of => Err(Error::input(
                place,
                format!("{} shards, where the plan has {planned}", shard.of),
                format!("--shard I/{planned}{advice}, or a new plan (engine plan SCENE -o OUT --shards {})", shard.of),
            )),
            _ => Ok(shard),
        }
    }

    /// The shard of the scheduler's task, where its number is from, and how the array is to be asked for.
    fn of_task(planned: Option<usize>, variable: impl Fn(&str) -> Option<String>) -> Result<(Shard, String, String)> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(scheduler) = SCHEDULERS.iter().find(|scheduler| set(scheduler.index).is_some()) else {
            let names: Vec<&str> = SCHEDULERS.iter().map(|scheduler| scheduler.index).collect();
            return Err(Error::input(
                "--shard auto",
                "no task of a scheduler's array",
                format!("one of {} in the environment, or --shard I/N", names.join(", ")),
            ));
        };
        let number = |name: &str| -> Result<Option<usize>> {
            let Some(value) = set(name) else { return Ok(None) };
            let parsed = value.trim().parse();
            parsed.map(Some).map_err(|_| Error::input(name, value, "a whole number, as the scheduler sets it"))
        };
        let index = number(scheduler.index)?.unwrap_or_default();
        let first = scheduler.first.0.map(number).transpose()?.flatten().unwrap_or(scheduler.first.1);
        let step = scheduler.step.map(number).transpose()?.flatten().unwrap_or(1).max(1);
        let count = scheduler.count.map(number).transpose()?.flatten();
        let place = format!("{} {index}", scheduler.index);
        let Some(of) = count.or(planned) else {
            return Err(Error::input(
                place,
                "no plan in OUT, and no variable that says how many tasks there are",
                "a plan (engine plan SCENE -o OUT --shards N), or --shard I/N",
            ));
        };
        let advice = format!(" (an array of {}: {})", scheduler.name, scheduler.asked);
        let number = index.checked_sub(first).filter(|ahead| ahead % step == 0).map(|ahead| ahead / step + 1);
        match number.filter(|number| (1..=of).contains(number)) {
            Some(number) => Ok((Shard { number, of }, place, advice)),
            None => Err(Error::input(
                place,
                format!("no number from {first} to {}, in steps of {step}", first + step * of.saturating_sub(1)),
                format!("tasks that are numbered without a gap{advice}, or --shard I/{of} for a single one"),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(planned: Option<usize>, set: &[(&str, &str)]) -> std::result::Result<(usize, usize), String> {
        let variable = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let shard = ShardOption::Auto.resolve(planned, variable);
        shard.map(|shard| (shard.number, shard.of)).map_err(|error| error.to_string())
    }

    #[test]
    fn one_of_n_and_nothing_else() {
        assert_eq!("3/8".parse(), Ok(ShardOption::Given(Shard { number: 3, of: 8 })));
        assert_eq!("auto".parse(), Ok(ShardOption::Auto));
        for wrong in ["", "3", "0/8", "9/8", "3/0", "-1/2", "3/8/9", "a/b", "1.5/2", "AUTO", " 1/2"] {
            assert!(wrong.parse::<ShardOption>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn schedulers_count_from_where_they_like() {
        let slurm = |id, min, count| {
            [("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_MIN", min), ("SLURM_ARRAY_TASK_COUNT", count)]
        };
        assert_eq!(auto(None, &slurm("0", "0", "8")), Ok((1, 8)));
        assert_eq!(auto(Some(8), &slurm("8", "1", "8")), Ok((8, 8)));
        let stepped = [slurm("13", "5", "3").as_slice(), &[("SLURM_ARRAY_TASK_STEP", "4")]].concat();
        assert_eq!(auto(Some(3), &stepped), Ok((3, 3)));
        let kubernetes = [("JOB_COMPLETION_INDEX", "0")];
        assert_eq!(auto(Some(5), &kubernetes), Ok((1, 5)));
        assert_eq!(auto(None, &[kubernetes.as_slice(), &[("JOB_COMPLETIONS", "4")]].concat()), Ok((1, 4)));
        assert_eq!(auto(Some(5), &[("PBS_ARRAY_INDEX", "5")]), Ok((5, 5)));
        let batch = [("AWS_BATCH_JOB_ARRAY_INDEX", "2"), ("AWS_BATCH_JOB_ARRAY_SIZE", "3")];
        assert_eq!(auto(Some(3), &batch), Ok((3, 3)));
        assert_eq!(auto(Some(4), &[("SGE_TASK_ID", "4"), ("SGE_TASK_FIRST", "1")]), Ok((4, 4)));
        assert_eq!(auto(Some(4), &[("LSB_JOBINDEX", "1")]), Ok((1, 4)));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let refused = |planned, set: &[(&str, &str)], word: &str| {
            let message = auto(planned, set).unwrap_err();
            assert!(message.contains(word) && !message.contains('\n'), "{message}");
        };
        refused(Some(8), &[], "SLURM_ARRAY_TASK_ID");
        refused(None, &[("PBS_ARRAY_INDEX", "1")], "engine plan");
        refused(Some(8), &[("PBS_ARRAY_INDEX", "0")], "-J 1-N");
        refused(Some(8), &[("SLURM_ARRAY_TASK_ID", "x")], "whole number");
        // Two tasks of eight that are sent again by number.
        let again = [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_MIN", "3"), ("SLURM_ARRAY_TASK_COUNT", "2")];
        refused(Some(8), &again, "--shard I/2");
        let other = ShardOption::Given(Shard { number: 1, of: 2 }).resolve(Some(8), |_| None).unwrap_err().to_string();
        assert!(other.contains("2 shards, where the plan has 8") && other.contains("--shard I/8"), "{other}");
    }
}
