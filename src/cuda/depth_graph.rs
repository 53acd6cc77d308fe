//! The graph of a view's depth from the features of reference and sources.
//!
//! What a graph is made for is its key; what differs from view to view (features, cameras, depths, spacings, the
//! confidence's coefficients) are its inputs.

use std::sync::Arc;

use super::driver::{Driver, Stream};
use super::folded::{Folded, FoldedViews, NarrowViews, Slabs};
use super::graph::{Graph, Value};
use super::layers::DeviceLayers;
use super::narrow;
use super::ops::head::{Depths, ExpectedDepths};
use super::ops::{narrow as ops, sweep};
use super::pool::{Part, Pool};
use super::program::Program;
use super::staging::Feed;
use super::storage::{Element, Pointer};
use crate::cpu::ops::depth::Expectation;
use crate::error::{Error, Result};
use crate::net::backend::DepthJob;
use crate::net::confidence::{COARSE, DEVICE_HEAD, Judge, NARROW};
use crate::net::config::Resolution;
use crate::net::model::{self, CHANNELS, Features};
use crate::net::stage::{self, Stage};
use crate::net::tensor::Shape;
use crate::net::weights::Checkpoint;
use crate::scene::camera::PlaneSweep;

/// What does the convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Convolutions {
    /// The engine's kernels.
    Own,
    /// cuDNN, for all layers but those that read the cost volume.
    Cudnn,
}

/// How the network runs on a device.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How activations are stored: F16, or F32 for the processor's accuracy.
    pub element: Element,
    /// Device memory to plan with, in bytes; `None`: what is free.
    pub vram: Option<u64>,
    /// What convolves.
    pub convolutions: Convolutions,
}

/// A feature map in device memory, [1, H, W, C].
pub struct FeatureMap {
    memory: Part,
    shape: Shape,
}

impl FeatureMap {
    /// Room for one.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub(super) fn new(pool: &Arc<Pool>, shape: Shape, element: Element) -> Result<Self> {
        let bytes = shape.len() as u64 * element.bytes();
        Ok(Self { memory: pool.part(bytes, || format!("a feature map {shape}"))?, shape })
    }

    /// Its extent.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its address.
    pub fn pointer(&self) -> Pointer {
        self.memory.pointer()
    }
}

/// Numbers of a pixel's features at a quarter and, as far as they go up, at its 4 and 16 finer pixels.
pub(super) fn numbers_of_a_quarter_pixel(finest: Resolution) -> usize {
    let finer = stage::stages(finest).map(|stage| stage.channels * (Resolution::Quarter.step() / stage.step).pow(2));
    CHANNELS + finer.sum::<usize>()
}

/// The resolution that features go up to.
pub(super) fn finest<V>(features: &Features<V>) -> Resolution {
    match (&features.half, &features.full) {
        (_, Some(_)) => Resolution::Full,
        (Some(_), None) => Resolution::Half,
        (None, None) => Resolution::Quarter,
    }
}

/// What a depth program is made for: reference and source maps at a quarter, planes and views, sampling, how far up the
/// maps go, and the slot, since two programs of one size may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DepthKey {
    pub reference: (usize, usize),
    pub stack: (usize, usize),
    pub planes: usize,
    pub views: usize,
    pub inverse: bool,
    pub finest: Resolution,
    pub slot: usize,
}

impl DepthKey {
    /// Width and height of the maps that it makes.
    pub fn map_size(&self) -> (usize, usize) {
        let finer = Resolution::Quarter.step() / self.finest.step();
        (finer * self.reference.0, finer * self.reference.1)
    }
}

/// A depth graph's ends.
pub(super) struct DepthValues {
    coarse: FoldedViews,
    judge: Value,
    stages: Vec<(&'static Stage, NarrowViews)>,
    pub depth: Value,
    pub confidence: Value,
}

/// What graphs are made of.
pub(super) struct Graphs {
    pub driver: Arc<dyn Driver>,
    pub checkpoint: Checkpoint,
    pub options: Options,
}

impl Graphs {
    pub fn layers<'g>(&'g self, graph: &'g mut Graph) -> DeviceLayers<'g, Folded<'g>> {
        let Checkpoint { name, parameters, .. } = &self.checkpoint;
        let library = (self.options.convolutions == Convolutions::Cudnn).then(|| self.driver.clone());
        DeviceLayers { graph, mode: Folded { parameters, file: name, element: self.options.element, library } }
    }

    /// A view's features to depth and confidence.
    pub fn depth(&self, key: &DepthKey, slabs: Slabs) -> Result<(Graph, DepthValues)> {
        let mut graph = Graph::new();
        let element = self.options.element;
        let list = |n: usize| Shape::plane(1, 1, n);
        let (width, height) = key.stack;
        let map = Shape { d: key.views, ..Shape::plane(height, width, CHANNELS) };
        let rows = Shape { d: key.views - 1, ..list(16) };
        let coarse = FoldedViews {
            sweep: sweep::Views {
                features: graph.input("features", map, element),
                sources: graph.input("sources", rows, Element::F32),
                depths: graph.input("depths", list(key.planes), Element::F32),
                squared: false,
                reference: Some((key.reference.1, key.reference.0)),
            },
            depths: Depths {
                offsets: graph.input("depth offsets", list(key.planes), Element::F32),
                middle: graph.input("middle depth", list(1), Element::F64),
                inverse: key.inverse,
                expected: Some(ExpectedDepths::input(&mut graph, key.reference)),
            },
            slabs,
            keep_logits: false,
            narrow: None,
        };
        let judge = graph.input("coarse confidence", list(DEVICE_HEAD + COARSE), Element::F32);
        let mut found = model::depth(&mut self.layers(&mut graph), self.checkpoint.config(), &coarse)?;
        found.confidence = ops::judge_coarse(&mut graph, "confidence", found.confidence, judge)?;
        let mut stages = Vec::new();
        for stage in stage::stages(key.finest) {
            let finer = Resolution::Quarter.step() / stage.step;
            let (width, height) = (finer * key.stack.0, finer * key.stack.1);
            let own = Shape::plane(finer * key.reference.1, finer * key.reference.0, stage.channels);
            let sources = Shape { d: key.views - 1, ..Shape::plane(height, width, stage.channels) };
            let name = |what: &str| format!("{} {what}", stage.name);
            let sweep = ops::Views {
                reference: graph.input(name("reference"), own, element),
                sources: graph.input(name("sources"), sources, element),
                first: 0,
                rows: graph.input(name("cameras"), rows, Element::F32),
                spacing: graph.input(name("spacing"), list(2), Element::F32),
                top: 0,
            };
            let judge = graph.input(name("confidence"), list(DEVICE_HEAD + NARROW), Element::F32);
            let own = NarrowViews { sweep, judge, step: stage.step };
            let views = FoldedViews { narrow: Some(own), ..coarse };
            found = narrow::refine(&mut self.layers(&mut graph), stage, &views, &found)?;
            stages.push((stage, own));
        }
        graph.keep(found.depth);
        graph.keep(found.confidence);
        let (depth, confidence) = (found.depth, found.confidence);
        Ok((graph, DepthValues { coarse, judge, stages, depth, confidence }))
    }
}

/// Puts a feature map at the beginning of a stack's `place`-th: how narrow stages read it.
fn lay_packed(
    driver: &Arc<dyn Driver>,
    program: &Program,
    stream: Stream,
    (stack, place): (Value, usize),
    map: &FeatureMap,
) -> Result<()> {
    let info = program.graph().info(stack);
    let bytes = |shape: Shape| shape.len() as u64 * info.element.bytes();
    let to = program.pointer(stack) + place as u64 * bytes(Shape { d: 1, ..info.shape });
    driver.copy(to, map.pointer(), bytes(map.shape), stream)
}

/// Puts a feature map at the upper left corner of a stack's `place`-th, row by row where it is smaller: how the coarse
/// sweep reads it.
fn lay(
    driver: &Arc<dyn Driver>,
    program: &Program,
    stream: Stream,
    (stack, place): (Value, usize),
    map: &FeatureMap,
) -> Result<()> {
    let info = program.graph().info(stack);
    let bytes = |shape: Shape| shape.len() as u64 * info.element.bytes();
    let one = Shape { d: 1, ..info.shape };
    let to = program.pointer(stack) + place as u64 * bytes(one);
    if map.shape == one {
        return driver.copy(to, map.pointer(), bytes(one), stream);
    }
    let [from_row, to_row] = [map.shape, one].map(|shape| bytes(Shape { h: 1, ..shape }));
    let mut rows = 0..map.shape.h as u64;
    rows.try_for_each(|y| driver.copy(to + y * to_row, map.pointer() + y * from_row, from_row, stream))
}

impl DepthValues {
    /// A view's inputs into a program's memory: features are copied there, all else is fed.
    ///
    /// # Errors
    /// [`Error::Shape`] where features do not go up to the resolution of the program's maps; the device's.
    pub fn put(
        &self,
        driver: &Arc<dyn Driver>,
        program: &Program,
        job: &DepthJob<Features<FeatureMap>>,
        judge: Option<&Judge>,
        feed: &mut Feed,
    ) -> Result<()> {
        let DepthJob { reference, sources, hypotheses, .. } = job;
        let stream = program.stream();
        let maps = std::iter::once(*reference).chain(sources.iter().map(|s| s.0));
        for (place, maps) in maps.enumerate() {
            lay(driver, program, stream, (self.coarse.sweep.features, place), &maps.quarter)?;
        }
        let mut floats = |value: Value, values: &[f32]| program.feed(value, bytemuck::cast_slice(values), feed);
        let row = |(maps, sweep): &(&Features<FeatureMap>, PlaneSweep)| {
            sweep::source_row(sweep, maps.quarter.shape.h, maps.quarter.shape.w)
        };
        floats(self.coarse.sweep.sources, &sources.iter().flat_map(row).collect::<Vec<f32>>())?;
        let depths: Vec<f32> = hypotheses.depths.iter().map(|&d| d as f32).collect();
        floats(self.coarse.sweep.depths, &depths)?;
        let expectation = Expectation::new(hypotheses);
        floats(self.coarse.depths.offsets, expectation.offsets())?;
        if let Some(ExpectedDepths { known, planes }) = self.coarse.depths.expected {
            floats(known, &[if hypotheses.expected.is_some() { 1.0 } else { 0.0 }])?;
            if let Some(expected) = &hypotheses.expected {
                let ends: Vec<f32> = expected.planes.as_flattened().iter().map(|&plane| plane.into()).collect();
                floats(planes, &ends)?;
            }
        }
        floats(self.judge, &Judge::for_device::<COARSE>(judge, Resolution::Quarter))?;
        program.feed(self.coarse.depths.middle, &expectation.middle().to_le_bytes(), feed)?;
        let mut stages = self.stages.iter();
        stages.try_for_each(|(stage, own)| put_narrow(driver, program, (*stage, own), job, judge, feed))
    }
}

/// A stage's part of a photo's features.
fn of_stage<'m>(stage: &Stage, maps: &'m Features<FeatureMap>) -> Result<&'m FeatureMap> {
    let problem = || format!("features without a map for the stage {}", stage.name);
    maps.of_stage(stage).ok_or_else(|| Error::Shape { op: "narrow stage", problem: problem() })
}

/// As [`DepthValues::put`], of a narrow stage.
fn put_narrow(
    driver: &Arc<dyn Driver>,
    program: &Program,
    (stage, own): (&Stage, &NarrowViews),
    job: &DepthJob<Features<FeatureMap>>,
    judge: Option<&Judge>,
    feed: &mut Feed,
) -> Result<()> {
    let stream = program.stream();
    let reference = of_stage(stage, job.reference)?;
    lay_packed(driver, program, stream, (own.sweep.reference, 0), reference)?;
    let (mut rows, mut sweeps): (Vec<f32>, Vec<PlaneSweep>) = (Vec::new(), Vec::new());
    for (place, (maps, sweep)) in job.sources.iter().enumerate() {
        let map = of_stage(stage, maps)?;
        lay_packed(driver, program, stream, (own.sweep.sources, place), map)?;
        let sweep = sweep.finer((Resolution::Quarter.step() / stage.step) as f32);
        rows.extend(sweep::source_row(&sweep, map.shape.h, map.shape.w));
        sweeps.push(sweep);
    }
    let spacing = stage.spacing(&sweeps, (reference.shape.w, reference.shape.h), &job.hypotheses);
    let resolution = if stage.step == Resolution::Half.step() { Resolution::Half } else { Resolution::Full };
    let mut floats = |value: Value, values: &[f32]| program.feed(value, bytemuck::cast_slice(values), feed);
    floats(own.sweep.rows, &rows)?;
    floats(own.sweep.spacing, &[spacing.least, spacing.share])?;
    floats(own.judge, &Judge::for_device::<NARROW>(judge, resolution))
}
