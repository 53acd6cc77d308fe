//! Validation: the network as it is used (folded norms, the fast path) on fixed views that training never sees.

use rayon::prelude::*;

use super::frame::every;
use super::panels::panel;
use super::sample::{Dataset, TrainingSample};
use super::split_metrics::{SplitMetrics, SplitSummary};
use super::team::Team;
use crate::cpu::network::BsMvsNet;
use crate::error::{Error, Result};
use crate::evaluation::depth_metrics::{DepthMetrics, MetricsSummary};
use crate::files::map::Map;
use crate::host::interrupt;
use crate::scene::camera::{Hypotheses, PlaneSweep, Sampling};
use crate::synth::maps::Extras;
use crate::synth::{Generator, GeneratorOptions};

/// The seed of the validation scenes: fixed, so that numbers can be compared from one run to the next, and no training
/// run's (those begin at 0 and are chosen by people).
pub const VALIDATION_SEED: u64 = 0x7661_6c69_6461_7465;

/// The seed of the scenes that finished weights are measured on: others than those by which a run chooses its best
/// weights.
pub const EVALUATION_SEED: u64 = 0x0065_7661_6c75_6174;

/// A view with its truth.
pub struct ValidationView {
    /// Photos, cameras and truth.
    pub sample: TrainingSample,
    /// What makes its pixels hard, where that is known: of rendered scenes.
    pub extras: Option<Extras>,
}

/// Views that are measured together.
pub struct ValidationSet {
    /// The set's name in the log: `synth`, `dtu`.
    pub name: String,
    /// The views.
    pub views: Vec<ValidationView>,
    /// Depths that are tried.
    pub planes: usize,
    /// How they are spaced.
    pub sampling: Sampling,
}

/// What was found on a set.
pub struct Measured {
    /// Of all pixels.
    pub metrics: MetricsSummary,
    /// By texture, slant and visibility, where all views have extras.
    pub split: Option<SplitSummary>,
    /// Depth and confidence of the first views, for pictures.
    pub shown: Vec<(Map, Map)>,
}

impl ValidationSet {
    /// The first `count` scenes of these options, the first view of each; as many views as the scenes have.
    ///
    /// # Errors
    /// As [`Generator::new`].
    pub fn rendered(options: GeneratorOptions, count: usize, planes: usize, sampling: Sampling) -> Result<Self> {
        let generator = Generator::new(options)?;
        let view = |index: usize| -> Result<ValidationView> {
            interrupt::check()?;
            let scene = generator.scene(index as u64);
            let mut order = vec![0];
            order.extend(scene.sources(0).iter().map(|s| s.view));
            let photos: Vec<_> = order.iter().map(|&view| scene.photo(view)).collect();
            let extras = scene.extras(0, &photos[0], 4);
            let sample = TrainingSample {
                name: format!("validation {index}"),
                photos,
                cameras: order.iter().map(|&view| scene.cameras[view]).collect(),
                depth: scene.depth(0, 4),
                fine: None,
                range: scene.ranges[0],
            };
            Ok(ValidationView { sample, extras: Some(extras) })
        };
        let views = (0..count).into_par_iter().map(view).collect::<Result<_>>()?;
        Ok(Self { name: "synth".into(), views, planes, sampling })
    }

    /// `count` samples of a dataset, spread evenly over it, each with at most `views` views.
    ///
    /// # Errors
    /// A sample that cannot be read.
    pub fn of_dataset(
        name: &str,
        dataset: &dyn Dataset,
        count: usize,
        views: usize,
        planes: usize,
        sampling: Sampling,
    ) -> Result<Self> {
        let all = dataset.len().unwrap_or(count as u64).max(1);
        let count = (count as u64).min(all);
        let sample = |i: u64| {
            let sample = dataset.sample(i * all / count, views)?;
            Ok(ValidationView { sample, extras: None })
        };
        let views = (0..count).map(sample).collect::<Result<_>>()?;
        Ok(Self { name: name.into(), views, planes, sampling })
    }

    /// The hypotheses for one of its views.
    pub fn hypotheses(&self, view: &ValidationView) -> Hypotheses {
        Hypotheses::new(view.sample.range, self.planes, self.sampling)
    }

    /// Photo, truth, depth, error and confidence of view `i` side by side, as PNG, and the picture's size.
    ///
    /// # Errors
    /// Maps that do not fit the view.
    pub fn picture(&self, i: usize, (depth, confidence): &(Map, Map)) -> Result<(Vec<u8>, (usize, usize))> {
        let view = &self.views[i];
        let TrainingSample { photos, depth: truth, range, .. } = &view.sample;
        panel(&photos[0], truth, depth, confidence, *range, interval(&self.hypotheses(view)))
    }

    /// Runs the network on every view, with at most `views` views each; keeps the maps of the first `shown`. Training
    /// is not stopped in the middle of it.
    ///
    /// # Errors
    /// Views whose photos, cameras and truth do not fit together.
    pub fn measure(&self, network: &BsMvsNet, views: usize, shown: usize) -> Result<Measured> {
        self.measure_while(network, views, shown, &|| Ok(()))
    }

    /// As [`Self::measure`], asking before every view whether to go on.
    ///
    /// # Errors
    /// As there; what `go_on` says.
    pub fn measure_while(
        &self,
        network: &BsMvsNet,
        views: usize,
        shown: usize,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<Measured> {
        let mut measuring = Measuring::new(self, shown);
        for view in &self.views {
            go_on()?;
            measuring.add(estimate(network, &view.sample, views, &self.hypotheses(view))?)?;
        }
        Ok(measuring.finish())
    }

    /// As [`Self::measure`], with every process at its share of the views; the first has the result. Each has the same
    /// set and network, and may fail in between.
    ///
    /// # Errors
    /// As [`Self::measure`], of any process.
    pub fn measure_together(
        &self,
        network: &BsMvsNet,
        views: usize,
        shown: usize,
        team: &Team,
    ) -> Result<Option<Measured>> {
        if team.is_alone() {
            return self.measure(network, views, shown).map(Some);
        }
        let (rank, ranks) = (team.collective().rank(), team.collective().ranks());
        // Depths, then confidences, in room for the largest view.
        let pixels = self.views.iter().map(|v| v.sample.depth.data.len()).max().unwrap_or(0);
        let mut measuring = Measuring::new(self, shown);
        let mut own = vec![0.0f32; 2 * pixels];
        let mut all = vec![0.0f32; if rank == 0 { ranks * own.len() } else { 0 }];
        for round in self.views.chunks(ranks) {
            if let Some(view) = round.get(rank) {
                let (depth, confidence) = estimate(network, &view.sample, views, &self.hypotheses(view))?;
                let truth = &view.sample.depth;
                if (depth.width, depth.height) != (truth.width, truth.height) {
                    let problem = format!("{} x {} for {} x {}", depth.width, depth.height, truth.width, truth.height);
                    return Err(Error::Shape { op: "validation", problem });
                }
                own[..depth.data.len()].copy_from_slice(&depth.data);
                own[pixels..][..confidence.data.len()].copy_from_slice(&confidence.data);
            }
            team.agree(Ok(()))?;
            team.collective().gather(bytemuck::cast_slice(&own), bytemuck::cast_slice_mut(&mut all))?;
            for (view, maps) in round.iter().zip(all.chunks_exact(2 * pixels.max(1))) {
                let Map { width, height, .. } = view.sample.depth;
                let map = |from: usize| Map { width, height, data: maps[from..][..width * height].to_vec() };
                measuring.add((map(0), map(pixels)))?;
            }
        }
        Ok((rank == 0).then(|| measuring.finish()))
    }
}

/// A set that is being measured, view by view.
struct Measuring<'a> {
    set: &'a ValidationSet,
    /// Views that were measured.
    done: usize,
    metrics: DepthMetrics,
    split: Option<SplitMetrics>,
    shown: usize,
    kept: Vec<(Map, Map)>,
}

impl<'a> Measuring<'a> {
    fn new(set: &'a ValidationSet, shown: usize) -> Self {
        let split = set.views.iter().all(|v| v.extras.is_some()).then(SplitMetrics::default);
        Self { set, done: 0, metrics: DepthMetrics::new(), split, shown, kept: Vec::new() }
    }

    /// Depth and confidence of the next view.
    fn add(&mut self, (depth, confidence): (Map, Map)) -> Result<()> {
        let view = &self.set.views[self.done];
        let interval = interval(&self.set.hypotheses(view));
        self.metrics.add(&depth, &confidence, &view.sample.depth, interval)?;
        if let (Some(split), Some(extras)) = (&mut self.split, &view.extras) {
            split.add(&depth, &confidence, &view.sample.depth, extras, interval)?;
        }
        if self.done < self.shown {
            self.kept.push((depth, confidence));
        }
        self.done += 1;
        Ok(())
    }

    fn finish(self) -> Measured {
        Measured { metrics: self.metrics.summary(), split: self.split.map(|s| s.summary()), shown: self.kept }
    }
}

/// Depth and confidence of a sample's reference view at every fourth pixel, from at most `views` of its views.
///
/// # Errors
/// [`crate::Error::Shape`] where its parts do not fit together.
pub fn estimate(
    network: &BsMvsNet,
    sample: &TrainingSample,
    views: usize,
    hypotheses: &Hypotheses,
) -> Result<(Map, Map)> {
    let count = sample.photos.len().min(views.max(2));
    let maps = sample.photos[..count].iter().map(|p| network.features(p)).collect::<Result<Vec<_>>>()?;
    let reference = sample.cameras[0].decimated(0.25);
    let sweeps = sample.cameras[1..count].iter().map(|c| PlaneSweep::new(&reference, &c.decimated(0.25)));
    let sources: Vec<_> = maps[1..].iter().zip(sweeps).collect();
    let found = network.depth(&maps[0], &sources, hypotheses)?;
    for map in maps {
        network.recycle(map);
    }
    // The truth lies at every fourth pixel.
    let step = found.depth.width / sample.depth.width.max(1);
    Ok((every(&found.depth, step.max(1)), every(&found.confidence, step.max(1))))
}

/// The mean distance between hypotheses, in scene units.
fn interval(hypotheses: &Hypotheses) -> f64 {
    let depths = &hypotheses.depths;
    match (depths.first(), depths.last()) {
        (Some(first), Some(last)) if depths.len() > 1 => (last - first).abs() / (depths.len() - 1) as f64,
        _ => 0.0,
    }
}
