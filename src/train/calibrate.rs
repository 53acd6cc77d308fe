//! Fits of the confidence (`net/confidence.rs`): the network looks at rendered scenes with exact depth, and a logistic
//! regression of each stage learns from what the stage knows how likely a depth is right.
//!
//! Stage by stage, since a stage reads the confidence of the one before it. Numbers of planes, spacings, views and
//! photos' sizes vary, so that one fit serves them all. What confidence is then worth is measured on other scenes.

use std::sync::Arc;

use glam::DVec3;

use super::augment::{AugmentOptions, Augmented};
use super::frame::{NOTHING, is_depth};
use super::logistic::{self, Rows};
use super::sample::{Dataset, TrainingSample};
use super::synthetic::{Synthetic, SyntheticOptions};
use crate::cpu::network::BsMvsNet;
use crate::cpu::ops::ncc;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::host::interrupt;
use crate::host::random::Random;
use crate::maps::consistency::DepthView;
use crate::maps::joint;
use crate::net::backend::DepthNetwork;
use crate::net::confidence::{self, COARSE, Confidence, JOINT, LEVELS, Measured, NARROW, OperatingPoint, Scale};
use crate::net::config::Resolution;
use crate::net::stage;
use crate::net::tensor::Tensor;
use crate::scene::camera::{DepthRange, Hypotheses, PlaneSweep, Sampling};
use crate::synth::GeneratorOptions;

/// What the fits are made from.
#[derive(Clone, Debug)]
pub struct CalibrateOptions {
    /// Scenes to fit on.
    pub scenes: u64,
    /// Other scenes to measure on.
    pub measured: u64,
    /// What scenes are made of; its seed, size and views are not used.
    pub generator: GeneratorOptions,
    /// Of scenes and choices.
    pub seed: u64,
}

/// Photos' sizes that take turns.
const SIZES: [(usize, usize); 3] = [(320, 256), (448, 336), (640, 480)];
/// Views of a sample, from two on.
const MOST_VIEWS: usize = 7;
/// Numbers of planes, evenly in the logarithm.
const PLANES: (f64, f64) = (48.0, 768.0);
/// Hypotheses times pixels of a quarter map at most: so many planes of a large photo take long and teach nothing new.
const MOST_VOLUME: f64 = 4e6;
/// The largest photos, with the most planes that they get.
pub const LARGEST_LOOK: ((usize, usize), usize) =
    (SIZES[2], (MOST_VOLUME / (SIZES[2].0 * SIZES[2].1 / 16) as f64) as usize);
/// Pixels taken of a map.
const PIXELS: usize = 3000;
/// Bins of the expected calibration error, of one width.
const BINS: usize = 20;
/// Shares of wrong pixels that operating points are told for.
const WRONG: [f64; 3] = [0.01, 0.05, 0.1];

/// What is known of chosen pixels, and their errors.
struct Looked {
    known: Rows,
    /// |1 / depth - 1 / truth| in photo pixels of a middling source view; infinite where there is no surface.
    errors: Vec<f64>,
    /// Confidence as the network tells it.
    confidence: Vec<f64>,
}

/// Scenes of three sizes.
struct Scenes {
    datasets: Vec<Augmented>,
    seed: u64,
}

impl Scenes {
    fn new(options: &CalibrateOptions, seed: u64) -> Result<Self> {
        let of_size = |size| {
            let generator = GeneratorOptions { seed, views: MOST_VIEWS, size, ..options.generator.clone() };
            let made = Synthetic::new(SyntheticOptions { generator, fine: true, ..Default::default() })?;
            Augmented::new(Arc::new(made), AugmentOptions::default(), seed)
        };
        Ok(Self { datasets: SIZES.into_iter().map(of_size).collect::<Result<_>>()?, seed })
    }

    /// A sample with the depths to try.
    fn sample(&self, index: u64) -> Result<(TrainingSample, Hypotheses)> {
        let mut random = Random::new(&[self.seed, index, 0x0063_616c]);
        let dataset = &self.datasets[index as usize % SIZES.len()];
        let sample = dataset.sample(index, random.between(2, MOST_VIEWS))?;
        let photo = &sample.photos[0];
        let most = MOST_VOLUME / (photo.width * photo.height / 16) as f64;
        let planes = random.log_range(PLANES.0, PLANES.1.min(most)).round() as usize;
        let sampling = if random.chance(0.7) { Sampling::Inverse } else { Sampling::Linear };
        let hypotheses = Hypotheses::new(sample.range, planes, sampling);
        Ok((sample, hypotheses))
    }
}

impl CalibrateOptions {
    /// Times that [`calibrate`] looks at a scene, for weights up to this resolution.
    pub fn looks(&self, finest: Resolution) -> u64 {
        let joint = if finest == Resolution::Full { self.heard(self.scenes) + self.heard(self.measured) } else { 0 };
        resolutions(finest).len() as u64 * (self.scenes + self.measured) + joint
    }

    /// Scenes of so many in which all views get a map, which takes as many times as long.
    fn heard(&self, scenes: u64) -> u64 {
        scenes.div_ceil(2)
    }
}

fn resolutions(finest: Resolution) -> Vec<Resolution> {
    [Resolution::Quarter, Resolution::Half, Resolution::Full].into_iter().filter(|own| *own <= finest).collect()
}

/// Fits a network's confidence and measures it; `tell` hears of each look at a scene.
///
/// # Errors
/// Where textures cannot be read, or all depths are right or wrong; [`Error::Interrupted`].
pub fn calibrate(mut network: BsMvsNet, options: &CalibrateOptions, tell: &mut dyn FnMut(&str)) -> Result<Confidence> {
    let finest = network.config().resolution;
    let resolutions = resolutions(finest);
    // Stages see their volumes whole, so that what they show covers the map.
    network = network.with_band_bytes(usize::MAX);
    let mut fits = Confidence::default();
    let scenes = Scenes::new(options, options.seed)?;
    for &resolution in &resolutions {
        // A stage that is not fitted yet shows what it knows, if it has any coefficients at all.
        let reads = if resolution == Resolution::Quarter { COARSE } else { NARROW };
        fits.set(resolution, vec![vec![0.0; reads]]);
        network = network.with_confidence((resolution != Resolution::Quarter).then(|| fits.clone()));
        let looked = look(&network, &scenes, options.scenes, resolution, tell)?;
        let of_level = |level: usize| {
            let right: Vec<bool> = looked.errors.iter().map(|e| *e < 0.5f64.powi(level as i32)).collect();
            logistic::fit(&looked.known, &right)
        };
        fits.set(resolution, (0..LEVELS).map(of_level).collect::<Result<_>>()?);
    }
    network = network.with_confidence(Some(fits.clone()));
    let scenes = Scenes::new(options, !options.seed)?;
    for &resolution in &resolutions {
        let looked = look(&network, &scenes, options.measured, resolution, tell)?;
        fits.measured.push(measured(resolution, &looked));
    }
    if finest == Resolution::Full {
        let scenes = Scenes::new(options, options.seed)?;
        let heard = hear(&network, &scenes, options.heard(options.scenes), tell)?;
        let right: Vec<bool> = heard.errors.iter().map(|e| *e < 1.0).collect();
        fits.joint = logistic::fit(&heard.known, &right)?;
        network = network.with_confidence(Some(fits.clone()));
        let scenes = Scenes::new(options, !options.seed)?;
        let heard = hear(&network, &scenes, options.heard(options.measured), tell)?;
        fits.measured.push(Measured { resolution: "joint".into(), ..measured(finest, &heard) });
    }
    Ok(fits)
}

/// What maps of this resolution are worth.
fn measured(resolution: Resolution, looked: &Looked) -> Measured {
    let mut pixels: Vec<(f64, bool)> =
        looked.confidence.iter().zip(&looked.errors).map(|(&c, &e)| (c, e < 1.0)).collect();
    let right = pixels.iter().filter(|p| p.1).count() as f64;
    let mut bins = [(0.0f64, 0.0f64); BINS];
    for &(c, right) in &pixels {
        let bin = &mut bins[((c * BINS as f64) as usize).min(BINS - 1)];
        *bin = (bin.0 + c, bin.1 + f64::from(u8::from(right)));
    }
    let total = pixels.len().max(1) as f64;
    pixels.sort_by(|a, b| b.0.total_cmp(&a.0));
    let point = |wrong: f64| {
        // The largest set of most confident pixels among which no more are wrong.
        let (mut among, mut best) = (0.0, None);
        for (i, &(confidence, is_right)) in pixels.iter().enumerate() {
            among += f64::from(u8::from(is_right));
            if 1.0 - among / (i + 1) as f64 <= wrong {
                best = Some(OperatingPoint { wrong, confidence, completeness: among / right });
            }
        }
        best
    };
    Measured {
        resolution: format!("{resolution:?}").to_lowercase(),
        pixels: pixels.len() as u64,
        right: right / total,
        calibration_error: bins.iter().map(|(c, r)| (c - r).abs()).sum::<f64>() / total,
        points: WRONG.into_iter().filter_map(point).collect(),
    }
}

/// Looks at the first `count` scenes.
fn look(
    network: &BsMvsNet,
    scenes: &Scenes,
    count: u64,
    resolution: Resolution,
    tell: &mut dyn FnMut(&str),
) -> Result<Looked> {
    let reads = if resolution == Resolution::Quarter { COARSE } else { NARROW };
    let mut looked = Looked { known: Rows::new(reads), errors: Vec::new(), confidence: Vec::new() };
    for index in 0..count {
        interrupt::check()?;
        let (sample, hypotheses) = scenes.sample(index)?;
        let mut random = Random::new(&[scenes.seed, index, 0x0070_6978]);
        look_at(network, &sample, &hypotheses, resolution, &mut random, &mut looked)?;
        tell(&format!("{} of {} planes", sample.name, hypotheses.depths.len()));
    }
    Ok(looked)
}

fn look_at(
    network: &BsMvsNet,
    sample: &TrainingSample,
    hypotheses: &Hypotheses,
    resolution: Resolution,
    random: &mut Random,
    looked: &mut Looked,
) -> Result<()> {
    let features = |photo| network.features_probed(photo, resolution, &mut |_, _| ());
    let maps = sample.photos.iter().map(features).collect::<Result<Vec<_>>>()?;
    let sweeps = sweeps_from(sample, 0);
    let sources: Vec<_> = maps[1..].iter().zip(sweeps.iter().copied()).collect();
    let size = (sample.photos[0].width / 4, sample.photos[0].height / 4);
    let Some(scale) = Scale::new(&sweeps, size, hypotheses) else { return Ok(()) };
    let stage = stage::stages(resolution).last().filter(|_| resolution != Resolution::Quarter);
    let wanted = stage.map(|stage| format!("{}.evidence", stage.name));
    let mut shown: Option<Vec<f32>> = None;
    let mut probe = |name: &str, tensor: &Tensor| {
        if Some(name) == wanted.as_deref() {
            shown = Some(tensor.data.to_vec());
        }
    };
    let mut found = network.depth_probed(&maps[0], &sources, (hypotheses, 0), true, &mut probe)?;
    maps.into_iter().for_each(|map| network.recycle(map));
    if resolution == Resolution::Full {
        let greys: Vec<Tensor> = sample.photos.iter().map(ncc::grey).collect();
        let sources = greys[1..].iter().zip(sweeps.iter().copied());
        ncc::refine_view(network.cpu(), &greys[0], sources, &scale, &mut found.depth)?;
    }
    let fine = sample.fine.as_ref().ok_or_else(|| missing("a truth at every pixel"))?;
    let Map { width, height, data: depth } = &found.depth;
    let step = resolution.step();
    for _ in 0..PIXELS.min(width * height) {
        let (x, y) = (random.below(*width), random.below(*height));
        let truth = fine.data.get(y * step * fine.width + x * step).copied().unwrap_or(0.0);
        let at = y * width + x;
        let error = match truth {
            NOTHING => f64::INFINITY,
            truth if is_depth(truth) => f64::from((1.0 / depth[at] - 1.0 / truth).abs() / scale.pixel),
            _ => continue,
        };
        let confidence = found.confidence.data[at];
        match &shown {
            Some(known) => looked.known.push(&known[at * NARROW..][..NARROW]),
            None if stage.is_none() => looked.known.push(&scale.coarse(confidence)),
            None => return Err(missing("what a stage knows")),
        }
        looked.errors.push(error);
        looked.confidence.push(f64::from(confidence));
    }
    Ok(())
}

/// The sweeps of all other views from one of them on.
fn sweeps_from(sample: &TrainingSample, view: usize) -> Vec<PlaneSweep> {
    let reference = sample.cameras[view].decimated(0.25);
    let others = sample.cameras.iter().enumerate().filter(|(other, _)| *other != view);
    others.map(|(_, camera)| PlaneSweep::new(&reference, &camera.decimated(0.25))).collect()
}

/// Lets the views of the first `count` scenes hear each other, as a run does.
fn hear(network: &BsMvsNet, scenes: &Scenes, count: u64, tell: &mut dyn FnMut(&str)) -> Result<Looked> {
    let mut looked = Looked { known: Rows::new(JOINT), errors: Vec::new(), confidence: Vec::new() };
    for index in 0..count {
        interrupt::check()?;
        let (sample, hypotheses) = scenes.sample(index)?;
        let mut random = Random::new(&[scenes.seed, index, 0x6865_6172]);
        hear_each_other(network, &sample, &hypotheses, &mut random, &mut looked)?;
        tell(&format!("{}, {} views", sample.name, sample.photos.len()));
    }
    Ok(looked)
}

fn hear_each_other(
    network: &BsMvsNet,
    sample: &TrainingSample,
    hypotheses: &Hypotheses,
    random: &mut Random,
    looked: &mut Looked,
) -> Result<()> {
    let fits = network.confidence().ok_or_else(|| missing("a fit of single views"))?;
    let fine = sample.fine.as_ref().ok_or_else(|| missing("a truth at every pixel"))?;
    let features = |photo| network.features_probed(photo, Resolution::Full, &mut |_, _| ());
    let features = sample.photos.iter().map(features).collect::<Result<Vec<_>>>()?;
    let greys: Vec<Tensor> = sample.photos.iter().map(ncc::grey).collect();
    let size = (sample.photos[0].width / 4, sample.photos[0].height / 4);
    let mut maps = Vec::new();
    let mut pixel = None;
    for view in 0..sample.photos.len() {
        let range = range_of(sample, view);
        let hypotheses = Hypotheses::new(range, hypotheses.depths.len(), hypotheses.sampling);
        let sweeps = sweeps_from(sample, view);
        let others = || (0..sample.photos.len()).filter(|other| *other != view).zip(sweeps.iter().copied());
        let sources: Vec<_> = others().map(|(other, sweep)| (&features[other], sweep)).collect();
        let mut found = network.depth_probed(&features[view], &sources, (&hypotheses, 0), false, &mut |_, _| ())?;
        let Some(scale) = Scale::new(&sweeps, size, &hypotheses) else { return Ok(()) };
        let greys_of_others = others().map(|(other, sweep)| (&greys[other], sweep));
        ncc::refine_view(network.cpu(), &greys[view], greys_of_others, &scale, &mut found.depth)?;
        pixel = pixel.or(Some(scale.pixel));
        maps.push(found);
    }
    features.into_iter().for_each(|map| network.recycle(map));
    let view =
        |at: usize| DepthView { camera: sample.cameras[at], depth: &maps[at].depth, confidence: &maps[at].confidence };
    let others: Vec<DepthView> = (1..maps.len()).map(view).collect();
    let (width, height) = (fine.width, fine.height);
    let chosen: Vec<usize> = (0..PIXELS.min(width * height)).map(|_| random.below(width * height)).collect();
    let (depth, heard) = joint::hear(&view(0), &others.iter().collect::<Vec<_>>(), |_, heard| *heard)?;
    for at in chosen {
        let error = match fine.data[at] {
            NOTHING => f64::INFINITY,
            truth if is_depth(truth) => {
                f64::from((1.0 / depth.data[at] - 1.0 / truth).abs() / pixel.unwrap_or(f32::INFINITY))
            }
            _ => continue,
        };
        let before = maps[0].confidence.data[at];
        looked.known.push(&confidence::joint(before, &heard[at]));
        looked.errors.push(error);
        looked.confidence.push(f64::from(fits.after_hearing(before, &heard[at])));
    }
    Ok(())
}

/// The depths to search from another view of a sample: those of the true points that the first view sees.
fn range_of(sample: &TrainingSample, view: usize) -> DepthRange {
    let (Some(fine), true) = (&sample.fine, view > 0) else { return sample.range };
    let first = &sample.cameras[0];
    let (inverse, other) = (first.k.inverse(), &sample.cameras[view]);
    let mut depths: Vec<f64> = (0..fine.data.len())
        .step_by(17)
        .filter(|&at| is_depth(fine.data[at]))
        .map(|at| {
            let ray = inverse * DVec3::new((at % fine.width) as f64, (at / fine.width) as f64, 1.0);
            let world = first.r.transpose() * (ray * f64::from(fine.data[at]) - first.t);
            (other.r * world + other.t).z
        })
        .filter(|depth| *depth > 0.0)
        .collect();
    depths.sort_by(f64::total_cmp);
    match (depths.first(), depths.last()) {
        // A tenth wider, as a run's ranges from sparse points are.
        (Some(near), Some(far)) if far > near => DepthRange { near: near / 1.1, far: far * 1.1 },
        _ => sample.range,
    }
}

fn missing(what: &str) -> Error {
    Error::Bug { place: "calibrate", problem: format!("{what} is missing") }
}
