//! A training step's gradients on a device.
//!
//! Forward and backward are one graph for each size of sample, whose programs share the parameters' memory. The
//! weights move on the host (`train::optimizer`): a step's gradients are four megabytes, and everything that makes
//! runs repeatable and resumable stays in one place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::driver::{Driver, Stream};
use super::graph::{Graph, Value};
use super::layers::DeviceLayers;
use super::ops::head::Depths;
use super::ops::{image, loss, narrow as narrow_ops, narrow_gradient, sweep};
use super::program::{Owned, Program};
use super::storage::Element;
use super::trained::{LogitsOf, Trained, TrainedViews};
use crate::cpu::ops::depth::Expectation;
use crate::cpu::ops::depth_backward::DepthLoss;
use crate::cpu::ops::narrow::NarrowLoss;
use crate::cpu::ops::norm::BatchStatistics;
use crate::cpu::ops::pointwise::expect_multiples_of_4;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::net::config::Resolution;
use crate::net::parameters::Parameters;
use crate::net::stage::{self, Stage};
use crate::net::tensor::Shape;
use crate::net::{model, narrow};
use crate::scene::camera::{Camera, Hypotheses, PlaneSweep, Sampling};
use crate::scene::photo::Photo;

/// Programs that are kept: samples of a run come in a few sizes.
const PROGRAMS: usize = 8;

/// What a program is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    width: usize,
    height: usize,
    views: usize,
    planes: usize,
    inverse: bool,
    /// Bits of the two weights of the loss, and of the guess's.
    loss: [u32; 3],
}

/// A narrow stage's ends.
struct StageValues {
    stage: &'static Stage,
    rows: Value,
    spacing: Value,
    truth: Value,
    losses: Value,
}

struct StepProgram {
    program: Program,
    photos: Value,
    sources: Value,
    depths: Value,
    offsets: Value,
    middle: Value,
    interval: Value,
    truth: Value,
    losses: Value,
    valid: Value,
    stages: Vec<StageValues>,
    norms: Vec<(String, Value, Value, usize)>,
    /// When it was last used.
    used: u64,
}

/// What a sample teaches.
pub struct Taught {
    /// The weighted loss, L1 in intervals, cross-entropy in nats.
    pub losses: [f64; 3],
    /// Pixels with a truth.
    pub valid: usize,
    /// Of each narrow stage, coarse to fine: its weighted loss, which the first of `losses` contains, L1 in units of
    /// its spacing, the share of pixels that its hypotheses reach.
    pub narrow: Vec<[f64; 3]>,
    /// Of every trained tensor, by name.
    pub gradients: BTreeMap<String, Vec<f32>>,
    /// What the norms found.
    pub statistics: Vec<(String, BatchStatistics)>,
}

/// A sample as the device needs it.
pub struct Example<'a> {
    /// The reference's photo first; of one size.
    pub photos: &'a [Photo],
    /// Of the photos, at their size.
    pub cameras: &'a [Camera],
    /// True depth at a quarter of the photos' resolution, 0 where unknown.
    pub truth: &'a Map,
    /// As `truth` for each narrow stage of the network, at its resolution, coarse to fine.
    pub fine: &'a [Map],
    /// The depths to try.
    pub hypotheses: &'a Hypotheses,
    /// The loss.
    pub loss: DepthLoss,
    /// Weight of the loss of narrow stages' guesses.
    pub guess: f32,
}

/// Parameters on a device, and the programs that make their gradients.
pub struct Teacher {
    driver: Arc<dyn Driver>,
    /// Where each trained tensor begins in the flat memory of all, and its length.
    places: Vec<(String, u64, usize)>,
    values: Owned,
    gradients: Owned,
    total: usize,
    programs: HashMap<Key, StepProgram>,
    uses: u64,
}

impl Teacher {
    /// Room for a configuration's parameters.
    ///
    /// # Errors
    /// The device's.
    pub fn new(driver: Arc<dyn Driver>, parameters: &Parameters) -> Result<Self> {
        let mut places = Vec::new();
        let mut total = 0;
        for parameter in parameters.list.iter().filter(|p| !p.is_statistic()) {
            let len = parameter.values.data.len();
            places.push((parameter.name.clone(), 4 * total as u64, len));
            // Addresses of vector accesses are multiples of 256 bytes.
            total += len.next_multiple_of(64);
        }
        let room = |what: &str| Owned::new(&driver, 4 * total as u64, || what.to_owned());
        let (values, gradients) = (room("the parameters")?, room("the parameters' gradients")?);
        driver.fill(values.pointer(), 0, 4 * total as u64, Stream::FIRST)?;
        driver.fill(gradients.pointer(), 0, 4 * total as u64, Stream::FIRST)?;
        Ok(Self { driver, places, values, gradients, total, programs: HashMap::new(), uses: 0 })
    }

    /// Loss and gradients of a sample with these parameters.
    ///
    /// # Errors
    /// [`Error::Shape`] where the sample's parts do not fit together; the device's.
    pub fn teach(&mut self, parameters: &Parameters, example: &Example) -> Result<Taught> {
        let key = self.key(parameters, example)?;
        let mut flat = vec![0f32; self.total];
        for (name, at, len) in &self.places {
            let found = parameters.get(name).filter(|p| p.values.data.len() == *len);
            let Some(parameter) = found else {
                return Err(Error::Bug { place: "device training", problem: format!("`{name}` has changed its size") });
            };
            flat[*at as usize / 4..][..*len].copy_from_slice(&parameter.values.data);
        }
        self.driver.upload(self.values.pointer(), bytemuck::cast_slice(&flat), Stream::FIRST)?;
        self.uses += 1;
        if !self.programs.contains_key(&key) {
            let oldest = self.programs.iter().min_by_key(|(_, p)| p.used).map(|(k, _)| *k);
            if let Some(oldest) = oldest.filter(|_| self.programs.len() >= PROGRAMS) {
                self.programs.remove(&oldest);
            }
            let made = self.program(&key, parameters)?;
            self.programs.insert(key, made);
        }
        let Some(made) = self.programs.get_mut(&key) else {
            return Err(Error::Bug { place: "device training", problem: "a program is gone".into() });
        };
        made.used = self.uses;
        put(made, example)?;
        made.program.run()?;
        let three = |value: Value| -> Result<[f64; 3]> {
            let mut bytes = vec![0; 24];
            made.program.download(value, &mut bytes)?;
            Ok([0, 1, 2].map(|i| f64::from_le_bytes(std::array::from_fn(|b| bytes[8 * i + b]))))
        };
        let mut losses = three(made.losses)?;
        let narrow = made.stages.iter().map(|s| three(s.losses)).collect::<Result<Vec<_>>>()?;
        losses[0] += narrow.iter().map(|l| l[0]).sum::<f64>();
        let valid = made.program.download_f32(made.valid)?[0] as usize;
        let mut statistics = Vec::new();
        for (norm, mean, variance, positions) in &made.norms {
            let wide = |value: &Value| -> Result<Vec<f64>> {
                Ok(made.program.download_f32(*value)?.into_iter().map(f64::from).collect())
            };
            let found = BatchStatistics { mean: wide(mean)?, variance: wide(variance)?, positions: *positions };
            statistics.push((norm.clone(), found));
        }
        self.driver.download(self.gradients.pointer(), bytemuck::cast_slice_mut(&mut flat), Stream::FIRST)?;
        let own = |(name, at, len): &(String, u64, usize)| (name.clone(), flat[*at as usize / 4..][..*len].to_vec());
        let gradients = self.places.iter().map(own).collect();
        Ok(Taught { losses, valid, narrow, gradients, statistics })
    }

    fn key(&self, parameters: &Parameters, example: &Example) -> Result<Key> {
        let problem = |problem: String| Err(Error::Shape { op: "training step", problem });
        let Some(first) = example.photos.first() else { return problem("no photos".into()) };
        for photo in example.photos {
            expect_multiples_of_4(photo)?;
            if (photo.width, photo.height) != (first.width, first.height) {
                return problem(format!(
                    "photos of {} x {} and {} x {}",
                    first.width, first.height, photo.width, photo.height
                ));
            }
        }
        let (width, height) = (first.width / 4, first.height / 4);
        if (example.truth.width, example.truth.height) != (width, height) {
            return problem(format!(
                "truth {} x {} for {width} x {height} pixels",
                example.truth.width, example.truth.height
            ));
        }
        let stages: Vec<_> = stage::stages(parameters.config.resolution).collect();
        let fits = |(stage, map): (&&Stage, &Map)| {
            (map.width * stage.step, map.height * stage.step) == (first.width, first.height)
        };
        if stages.len() != example.fine.len() || !stages.iter().zip(example.fine).all(fits) {
            let found: Vec<String> = example.fine.iter().map(|m| format!("{} x {}", m.width, m.height)).collect();
            return problem(format!(
                "truths of {} for {} narrow stages of photos of {} x {}",
                if found.is_empty() { "none".into() } else { found.join(" and ") },
                stages.len(),
                first.width,
                first.height
            ));
        }
        if example.cameras.len() != example.photos.len() || example.photos.len() < 2 {
            return problem(format!(
                "{} photos with {} cameras; at least two",
                example.photos.len(),
                example.cameras.len()
            ));
        }
        Ok(Key {
            width: first.width,
            height: first.height,
            views: example.photos.len(),
            planes: example.hypotheses.depths.len(),
            inverse: example.hypotheses.sampling == Sampling::Inverse,
            loss: [example.loss.l1, example.loss.cross_entropy, example.guess].map(f32::to_bits),
        })
    }

    fn program(&self, key: &Key, parameters: &Parameters) -> Result<StepProgram> {
        let mut graph = Graph::new();
        let photo = Shape { d: key.views, ..Shape::plane(key.height, key.width, 3) };
        let list = |n: usize| Shape::plane(1, 1, n);
        let photos = graph.input("photos", photo, Element::F32);
        let sources = graph.input("sources", Shape { d: key.views - 1, ..list(16) }, Element::F32);
        let depths = graph.input("depths", list(key.planes), Element::F32);
        let expectation = Depths {
            offsets: graph.input("depth offsets", list(key.planes), Element::F32),
            middle: graph.input("middle depth", list(1), Element::F64),
            inverse: key.inverse,
            expected: None,
        };
        let interval = graph.input("interval", list(1), Element::F64);
        let truth = graph.input("true depth", Shape::plane(key.height / 4, key.width / 4, 1), Element::F32);
        let mut values = BTreeMap::new();
        for (name, at, len) in &self.places {
            let value = graph.external(name.clone(), list(*len), Element::F32, self.values.pointer() + at);
            graph.want_gradient(value);
            values.insert(name.clone(), value);
        }
        let image = image::normalise(&mut graph, "features", photos, Element::F32)?;
        let mut layers = DeviceLayers { graph: &mut graph, mode: Trained::new(&values) };
        let features = model::features(&mut layers, parameters.config.resolution, image)?;
        let sweep = sweep::Views { features: features.quarter, sources, depths, squared: false, reference: None };
        let coarse = TrainedViews { sweep, depths: expectation, narrow: None };
        let logits = model::depth(&mut layers, parameters.config, &coarse)?;
        let mut found = logits;
        let (mut stages, mut estimates) = (Vec::new(), Vec::new());
        for stage in stage::stages(parameters.config.resolution) {
            let Some(&stack) = features.of_stage(stage) else {
                let problem = format!("no features for the stage {}", stage.name);
                return Err(Error::Bug { place: "device training", problem });
            };
            let (graph, name) = (&mut *layers.graph, |what: &str| format!("{} {what}", stage.name));
            let (h, w) = (key.height / stage.step, key.width / stage.step);
            let rows = graph.input(name("cameras"), Shape { d: key.views - 1, ..list(16) }, Element::F32);
            let spacing = graph.input(name("spacing"), list(2), Element::F32);
            let truth = graph.input(name("true depth"), Shape::plane(h, w, 1), Element::F32);
            let own = narrow_ops::Views { reference: stack, sources: stack, first: 1, rows, spacing, top: 0 };
            let views = TrainedViews { narrow: Some(own), ..coarse };
            found = narrow::refine(&mut layers, stage, &views, &found)?;
            estimates.push(found);
            stages.push(StageValues { stage, rows, spacing, truth, losses: truth });
        }
        let statistics = layers.mode.norms;
        let [l1, cross_entropy, guess] = key.loss.map(f32::from_bits);
        let logits = logits.logits;
        let found = loss::depth_loss(&mut graph, "loss", logits, truth, &expectation, interval, l1, cross_entropy)?;
        let mut ways = vec![(logits, found.gradient)];
        for (own, estimate) in stages.iter_mut().zip(&estimates) {
            let LogitsOf::Around { guess: around, spacing } = estimate.of else { continue };
            let weights = NarrowLoss { l1, cross_entropy, guess };
            let ends = (around, own.truth);
            let of_stage =
                narrow_gradient::narrow_loss(&mut graph, own.stage.name, estimate.logits, ends, spacing, weights)?;
            graph.keep(of_stage.losses);
            own.losses = of_stage.losses;
            ways.extend([(estimate.logits, of_stage.logits), (around, of_stage.guess)]);
        }
        let gradients = graph.backward_of_all(ways)?;
        let flat = graph.external("gradients", list(self.total), Element::F32, self.gradients.pointer());
        for (name, at, len) in &self.places {
            // Where nothing flows into a tensor, the zeros that are there stay.
            if let Some(&gradient) = gradients.get(&values[name]) {
                graph.copy(name, (gradient, 0), (flat, *at), 4 * *len as u64);
            }
        }
        graph.keep(found.losses);
        graph.keep(found.valid);
        let mut norms = Vec::new();
        for norm in statistics {
            graph.keep(norm.mean);
            graph.keep(norm.variance);
            norms.push((norm.norm, norm.mean, norm.variance, norm.positions));
        }
        let (offsets, middle) = (expectation.offsets, expectation.middle);
        let (losses, valid) = (found.losses, found.valid);
        let program = Program::new(&self.driver, Stream::FIRST, graph)?;
        Ok(StepProgram {
            program,
            photos,
            sources,
            depths,
            offsets,
            middle,
            interval,
            truth,
            losses,
            valid,
            stages,
            norms,
            used: 0,
        })
    }
}

/// A sample into a program's inputs.
fn put(made: &StepProgram, example: &Example) -> Result<()> {
    let program = &made.program;
    let all: Vec<f32> = example.photos.iter().flat_map(|p| p.rgb.iter().copied()).collect();
    program.upload(made.photos, bytemuck::cast_slice(&all))?;
    // Where the reference's pixels lie in the sources, with so many photo pixels from one to the next.
    let sweeps = |step: usize| -> Vec<PlaneSweep> {
        let decimated = |camera: &Camera| camera.decimated(1.0 / step as f64);
        let reference = decimated(&example.cameras[0]);
        example.cameras[1..].iter().map(|camera| PlaneSweep::new(&reference, &decimated(camera))).collect()
    };
    let rows = |sweeps: &[PlaneSweep], map: &Map| -> Vec<f32> {
        sweeps.iter().flat_map(|sweep| sweep::source_row(sweep, map.height, map.width)).collect()
    };
    let coarse = rows(&sweeps(Resolution::Quarter.step()), example.truth);
    program.upload(made.sources, bytemuck::cast_slice(&coarse))?;
    for (own, truth) in made.stages.iter().zip(example.fine) {
        let sweeps = sweeps(own.stage.step);
        let spacing = own.stage.spacing(&sweeps, (truth.width, truth.height), example.hypotheses);
        program.upload(own.rows, bytemuck::cast_slice(&rows(&sweeps, truth)))?;
        program.upload(own.spacing, bytemuck::cast_slice(&[spacing.least, spacing.share]))?;
        program.upload(own.truth, bytemuck::cast_slice(&truth.data))?;
    }
    let depths: Vec<f32> = example.hypotheses.depths.iter().map(|&d| d as f32).collect();
    program.upload(made.depths, bytemuck::cast_slice(&depths))?;
    let expectation = Expectation::new(example.hypotheses);
    program.upload(made.offsets, bytemuck::cast_slice(expectation.offsets()))?;
    program.upload(made.middle, &expectation.middle().to_le_bytes())?;
    let interval = mean_interval(example.hypotheses);
    program.upload(made.interval, &interval.to_le_bytes())?;
    program.upload(made.truth, bytemuck::cast_slice(&example.truth.data))
}

/// (far - near) / (D - 1), in scene units: what the loss is measured in.
fn mean_interval(hypotheses: &Hypotheses) -> f64 {
    let (first, last) = (hypotheses.depths.first(), hypotheses.depths.last());
    let span = last.copied().unwrap_or(0.0) - first.copied().unwrap_or(0.0);
    span.abs() / (hypotheses.depths.len().max(2) - 1) as f64
}
