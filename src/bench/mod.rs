//! How fast the engine is and how much memory it takes, measured beside what the machine can do at most and beside the
//! reference's PyTorch.
//!
//! [`work`] makes the inputs, [`host`] and [`device`] measure one view on the processor and on a GPU, [`counts`] says
//! how much arithmetic and traffic its stages are, [`roofs`] what a large product and a large copy reach in the same
//! run, [`peers`] runs the same inputs through PyTorch, and [`report`] prints. [`scene`] measures the whole job on a
//! scene.

pub mod counts;
pub mod device;
pub mod host;
pub mod peers;
pub mod report;
pub mod roofs;
pub mod scene;
pub mod work;

use serde::Serialize;

/// Fewer repetitions than this are noted in every report.
pub const ENOUGH: usize = 20;

/// How often a measurement is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Repetitions {
    /// Runs that are not counted: they touch fresh memory, load kernels and fill caches.
    pub warm_up: usize,
    /// Runs that are counted, at least one.
    pub counted: usize,
}

/// Times of the same work, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Times {
    /// The middle one; the mean of the two in the middle where their number is even.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// All of them in the order in which they were taken.
    pub all: Vec<f64>,
}

impl Times {
    /// Of at least one measurement; zeros where there is none.
    pub fn new(all: Vec<f64>) -> Self {
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
        let n = sorted.len();
        let median = 0.5 * (at(n.saturating_sub(1) / 2) + at(n / 2));
        Self { median, min: at(0), max: at(n.saturating_sub(1)), all }
    }

    /// Of work that consists of these parts, repetition by repetition.
    pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Times>) -> Self {
        let mut all: Vec<f64> = Vec::new();
        for part in parts {
            all.resize(all.len().max(part.all.len()), 0.0);
            all.iter_mut().zip(&part.all).for_each(|(sum, seconds)| *sum += seconds);
        }
        Self::new(all)
    }
}

/// The parts of the network that reports tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Photos to feature maps, all views.
    Features,
    /// Warp and aggregation to the cost volume.
    Sweep,
    /// The 3D BiSeNet.
    Regularizer,
    /// The last upsampling, logits, softmax, depth and confidence.
    Regression,
}

impl Group {
    /// In the order of the work.
    pub const ALL: [Self; 4] = [Self::Features, Self::Sweep, Self::Regularizer, Self::Regression];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Features => "features of all views",
            Self::Sweep => "warp + aggregation",
            Self::Regularizer => "regularizer",
            Self::Regression => "logits, softmax, depth",
        }
    }
}

/// One stage of a view.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// The layers' names in the reference.
    pub name: String,
    /// What it belongs to.
    pub group: Group,
    /// How long it took.
    pub seconds: Times,
    /// Floating-point operations, a multiply-add being two.
    pub flops: Option<u64>,
    /// Bytes that must be read and written, each tensor once: see [`counts`].
    pub bytes: Option<u64>,
}

/// What the machine reaches at most, in the same run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Roofs {
    /// Of a large matrix product in the precision of the measurement, in FLOP/s; `None` where there is no library for
    /// it.
    pub gemm_flops_per_s: Option<f64>,
    /// Of a large copy, in bytes/s, what is read and what is written counted both.
    pub copy_bytes_per_s: f64,
}

/// Bytes of memory that a measurement took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryTaken {
    /// The most that the process held in the host's memory meanwhile, the program itself included; `None` where the
    /// system does not tell.
    pub host_peak: Option<u64>,
    /// What the plan said before: of the host for the processor's measurement, of the device for a device's.
    pub planned: u64,
    /// By how much a device's free memory shrank: what was planned, and what its libraries took.
    pub device: Option<u64>,
}

/// One view on one device.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// `cpu` or the GPU's name.
    pub device: String,
    /// How activations were stored: `f32` or `f16`.
    pub precision: &'static str,
    /// Threads that worked on the processor.
    pub threads: usize,
    /// Its instruction set.
    pub simd: &'static str,
    /// Photos to depth and confidence: on a device from photos in its memory to maps in its memory.
    pub seconds: Times,
    /// On a device the same with photos uploaded and maps downloaded.
    pub seconds_with_transfers: Option<Times>,
    /// In the order of the work. On a device they were timed in runs of their own, in which every step is launched by
    /// itself.
    pub stages: Vec<Stage>,
    /// What the machine reaches at most.
    pub roofs: Roofs,
    /// Memory.
    pub memory: MemoryTaken,
    /// The depth map, [H/4, W/4].
    #[serde(skip)]
    pub depth: Vec<f32>,
    /// Its confidence, [H/4, W/4].
    #[serde(skip)]
    pub confidence: Vec<f32>,
}

impl Measurement {
    /// All stages of a group as one; `None` where it has none.
    pub fn group(&self, group: Group) -> Option<Stage> {
        let stages: Vec<&Stage> = self.stages.iter().filter(|s| s.group == group).collect();
        let sum = |of: fn(&Stage) -> Option<u64>| stages.iter().map(|s| of(s)).sum::<Option<u64>>();
        (!stages.is_empty()).then(|| Stage {
            name: group.name().into(),
            group,
            seconds: Times::sum(stages.iter().map(|s| &s.seconds)),
            flops: sum(|s| s.flops),
            bytes: sum(|s| s.bytes),
        })
    }

    /// Floating-point operations of the whole view, where all stages are counted.
    pub fn flops(&self) -> Option<u64> {
        self.stages.iter().map(|s| s.flops).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let times = Times::new(vec![3.0, 1.0, 2.0]);
        assert_eq!((times.min, times.median, times.max), (1.0, 2.0, 3.0));
        assert_eq!(Times::new(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Times::new(vec![7.0]).median, 7.0);
    }

    #[test]
    fn parts_are_added_repetition_by_repetition() {
        // The sum of the medians would be 2 + 2.
        let sum = Times::sum([&Times::new(vec![1.0, 2.0, 3.0]), &Times::new(vec![2.0, 9.0, 1.0])]);
        assert_eq!(sum.all, [3.0, 11.0, 4.0]);
        assert_eq!(sum.median, 4.0);
    }
}
