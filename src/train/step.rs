//! One step's gradients: a sample through the network, its loss, and back.

use std::collections::BTreeMap;

use super::frame::every;
use super::optimizer::NamedGradients;
use super::sample::TrainingSample;
use crate::cpu::device::Cpu;
use crate::cpu::ops::depth_backward::DepthLoss;
use crate::cpu::ops::narrow::NarrowLoss;
use crate::cpu::ops::norm::BatchStatistics;
use crate::cpu::tape::{OpTime, Tape};
use crate::cpu::train::{LogitsOf, TapeEstimate, TrainingPass};
use crate::cuda::training::{Example, Teacher};
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::net::parameters::Parameters;
use crate::net::stage::{self, Stage};
use crate::scene::camera::Hypotheses;

/// What a sample teaches: loss and gradients.
pub struct SampleGradients {
    /// The weighted loss.
    pub loss: f64,
    /// Mean |depth - truth| in hypothesis intervals.
    pub l1: f64,
    /// Mean cross-entropy, in nats.
    pub cross_entropy: f64,
    /// Pixels with a truth.
    pub valid: usize,
    /// Of the narrow stages that had a truth to learn from, coarse to fine.
    pub narrow: Vec<NarrowReport>,
    /// Of every trained tensor; zeros where nothing flowed.
    pub gradients: NamedGradients,
    /// What the norms found.
    pub statistics: Vec<(String, BatchStatistics)>,
    /// Where the time went.
    pub times: BTreeMap<&'static str, OpTime>,
}

/// How a narrow stage did on a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NarrowReport {
    /// Mean |found - truth| in units of its spacing, over the pixels in reach.
    pub l1: f64,
    /// Share of the pixels with a truth that its hypotheses reach.
    pub reach: f64,
}

/// Weight of the guess's loss beside those of what a narrow stage finds, which are the coarse one's.
const GUESS: f32 = 0.5;

/// What is looked at on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    Nothing,
    /// Every value, whether it is finite.
    EveryValue,
}

/// A batch norm over one position would take its input away: at the coarsest level of the regularizer, a thirty-second
/// of the volume, there must be two.
///
/// # Errors
/// [`Error::Input`] where there are fewer; `what` is trained on.
pub fn expect_statistics(what: &str, (width, height): (usize, usize), planes: usize) -> Result<()> {
    let positions = [width / 4, height / 4, planes].map(|n| n.div_ceil(32)).iter().product::<usize>();
    if positions > 1 && planes > 8 {
        return Ok(());
    }
    Err(Error::input(
        format!("training on {what}"),
        format!(
            "photos of {width} x {height} with {planes} planes, of which the network's coarsest level sees one voxel"
        ),
        "at least 33 planes (--planes), or 9 planes and a side of more than 128 pixels (--size): batch norm needs two",
    ))
}

/// Loss and gradients of a sample. Under watch, the first value that is not finite ends the
/// step with its name.
///
/// # Errors
/// [`Error::Input`] where the sample is too small for the norms' statistics; [`Error::Shape`] where its parts do not
/// fit together; [`Error::NotFinite`].
pub fn sample_gradients(
    cpu: &Cpu,
    parameters: &Parameters,
    sample: &TrainingSample,
    hypotheses: &Hypotheses,
    loss: DepthLoss,
    watch: Watch,
) -> Result<SampleGradients> {
    let size = sample.photos.first().map_or((0, 0), |p| (p.width, p.height));
    expect_statistics(&sample.name, size, hypotheses.depths.len())?;
    let tape = if watch == Watch::EveryValue { Tape::watching(cpu) } else { Tape::new(cpu) };
    let mut pass = TrainingPass::new(&tape, parameters);
    let estimates = pass.estimates(&sample.photos, &sample.cameras, hypotheses)?;
    let statistics = pass.statistics();
    let mut ways = Vec::new();
    let mut narrow = Vec::new();
    let (mut total, mut coarse) = (0.0, None);
    for TapeEstimate { logits, of } in estimates {
        match of {
            LogitsOf::Planes(expectation) => {
                let found = loss.apply(cpu, &expectation, logits.tensor(), &sample.depth)?;
                total += found.loss;
                ways.push((logits, found.gradient));
                coarse = Some((found.l1, found.cross_entropy, found.valid));
            }
            LogitsOf::Around(around, guess) => {
                let Some(fine) = &sample.fine else { continue };
                let truth = every(fine, fine.width / guess.shape().w.max(1));
                let loss = NarrowLoss { l1: loss.l1, cross_entropy: loss.cross_entropy, guess: GUESS };
                let found = loss.apply(cpu, &around, logits.tensor(), guess.tensor(), &truth)?;
                total += found.loss;
                ways.extend([(logits, found.logits), (guess, found.guess)]);
                narrow.push(NarrowReport { l1: found.l1, reach: found.reach });
            }
        }
    }
    let Some((l1, cross_entropy, valid)) = coarse else {
        return Err(Error::Bug { place: "training", problem: "an estimate without a coarse stage".into() });
    };
    if watch == Watch::EveryValue && !total.is_finite() {
        return Err(Error::NotFinite(format!("the loss is {total}")));
    }
    let vars = pass.parameters().clone();
    drop(pass);
    let gradients = tape.backward(ways)?;
    let own = |(name, var): (&&str, &crate::cpu::tape::Var)| {
        let values = gradients.of(var).map_or_else(|| vec![0.0; var.shape().len()], |g| g.data.to_vec());
        ((*name).to_owned(), values)
    };
    Ok(SampleGradients {
        loss: total,
        l1,
        cross_entropy,
        valid,
        narrow,
        gradients: vars.iter().map(own).collect(),
        statistics,
        times: gradients.times.clone(),
    })
}

/// The same on a device.
///
/// # Errors
/// As [`sample_gradients`], and the device's.
pub fn device_gradients(
    teacher: &mut Teacher,
    parameters: &Parameters,
    sample: &TrainingSample,
    hypotheses: &Hypotheses,
    loss: DepthLoss,
) -> Result<SampleGradients> {
    let size = sample.photos.first().map_or((0, 0), |p| (p.width, p.height));
    expect_statistics(&sample.name, size, hypotheses.depths.len())?;
    let (width, height) = size;
    let truth = |stage: &Stage| match &sample.fine {
        Some(fine) => every(fine, (fine.width * stage.step / width.max(1)).max(1)),
        None => Map::filled(width / stage.step, height / stage.step, 0.0),
    };
    let fine: Vec<Map> = stage::stages(parameters.config.resolution).map(truth).collect();
    let (photos, cameras, truth) = (&sample.photos, &sample.cameras, &sample.depth);
    let example = Example { photos, cameras, truth, fine: &fine, hypotheses, loss, guess: GUESS };
    let found = teacher.teach(parameters, &example)?;
    let [loss, l1, cross_entropy] = found.losses;
    let report = |&[_, l1, reach]: &[f64; 3]| NarrowReport { l1, reach };
    Ok(SampleGradients {
        loss,
        l1,
        cross_entropy,
        valid: found.valid,
        narrow: if sample.fine.is_some() { found.narrow.iter().map(report).collect() } else { Vec::new() },
        gradients: found.gradients,
        statistics: found.statistics,
        times: BTreeMap::new(),
    })
}
