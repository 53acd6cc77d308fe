//! Validation: the network as it is used (folded norms, the fast path) on fixed views that training never sees.

use rayon::prelude::*;

use super::frame::every;
use super::panels::panel;
use super::sample::{Dataset, TrainingSample};
use super::split_metrics::{SplitMetrics, SplitSummary};
use crate::cpu::network::BsMvsNet;
use crate::error::Result;
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
        let mut all = DepthMetrics::new();
        let mut split = self.views.iter().all(|v| v.extras.is_some()).then(SplitMetrics::default);
        let mut kept = Vec::new();
        for (i, view) in self.views.iter().enumerate() {
            go_on()?;
            let hypotheses = self.hypotheses(view);
            let (depth, confidence) = estimate(network, &view.sample, views, &hypotheses)?;
            let interval = interval(&hypotheses);
            all.add(&depth, &confidence, &view.sample.depth, interval)?;
            if let (Some(split), Some(extras)) = (&mut split, &view.extras) {
                split.add(&depth, &confidence, &view.sample.depth, extras, interval)?;
            }
            if i < shown {
                kept.push((depth, confidence));
            }
        }
        Ok(Measured { metrics: all.summary(), split: split.map(|s| s.summary()), shown: kept })
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
