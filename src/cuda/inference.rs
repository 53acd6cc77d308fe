//! The network on a device, for a run: photos in, depth and confidence out.
//!
//! A program is made for each size of work and replayed for each view of it. Feature maps stay on the device and are
//! copied into a program's inputs before it runs; the levels of one view run in streams of their own. Memory is
//! planned before the first photo is decoded: the programs of all sizes that the run will meet, and what is left is
//! room for feature maps.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use super::driver::{Driver, Event, HostMemory, Stream};
use super::folded::{Folded, FoldedViews, Slabs};
use super::graph::{Graph, Value};
use super::layers::DeviceLayers;
use super::ops::head::Depths;
use super::ops::{image, sweep};
use super::placement::place;
use super::program::{Owned, Program};
use super::storage::{Element, Pointer};
use crate::cpu::ops::depth::Expectation;
use crate::cpu::ops::pointwise::expect_multiples_of_4;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::host::memory::readable;
use crate::net::backend::{DepthJob, DepthNetwork, DevicePlan, DeviceWork, Estimate, JobSize, MemoryPlan};
use crate::net::confidence::{Confidence, Judge, Scale};
use crate::net::config::{Config, Resolution};
use crate::net::model;
use crate::net::tensor::Shape;
use crate::net::weights::Checkpoint;
use crate::scene::camera::{Hypotheses, Sampling};
use crate::scene::photo::Photo;

/// Planes of a slab of the cost volume, from what costs nothing to what saves most: a shared plane of 32 is made twice.
pub const SLABS: [usize; 4] = [32, 16, 8, 4];

/// Of the device's free memory, what a run plans with: the driver and libraries take some as they go.
const USABLE: f64 = 0.92;

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

/// A feature map in device memory: [1, H/4, W/4, 32].
pub struct FeatureMap {
    memory: Owned,
    shape: Shape,
}

impl FeatureMap {
    /// Its extent.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its address.
    pub fn pointer(&self) -> Pointer {
        self.memory.pointer()
    }
}

struct FeatureProgram {
    program: Program,
    photo: Value,
    features: Value,
    pinned: Box<dyn HostMemory>,
}

struct DepthProgram {
    program: Program,
    values: DepthValues,
}

/// What a depth program is made for: volume and source maps, planes and views, sampling, and the slot, since two
/// programs of one size may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct DepthKey {
    reference: (usize, usize),
    stack: (usize, usize),
    planes: usize,
    views: usize,
    inverse: bool,
    slot: usize,
}

#[derive(Default)]
struct State {
    features: HashMap<(usize, usize), FeatureProgram>,
    depth: HashMap<DepthKey, DepthProgram>,
    streams: Vec<Stream>,
    /// The last feature map is there.
    features_done: Option<Box<dyn Event>>,
}

/// The network with its weights and the device that it runs on.
pub struct DeviceNetwork {
    driver: Arc<dyn Driver>,
    checkpoint: Checkpoint,
    options: Options,
    slabs: Mutex<Slabs>,
    state: Mutex<State>,
}

/// A depth map that is being made.
pub struct Running {
    key: DepthKey,
    level: usize,
    scale: Option<Scale>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl DeviceNetwork {
    /// With a checkpoint's tensors.
    ///
    /// # Errors
    /// Where the checkpoint is not one of this network.
    pub fn new(driver: Arc<dyn Driver>, checkpoint: &Checkpoint, options: Options) -> Result<Self> {
        // Norms are folded when graphs are made; a run should fail before it begins.
        checkpoint.parameters.expect_foldable(&checkpoint.name)?;
        Ok(Self {
            driver,
            checkpoint: checkpoint.clone(),
            options,
            slabs: Mutex::new(Slabs { planes: SLABS[0] }),
            state: Mutex::default(),
        })
    }

    /// The device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// Chooses the slabs of the cost volume, for programs that are made from now on.
    pub fn set_slabs(&self, slabs: Slabs) {
        *locked(&self.slabs) = slabs;
    }

    fn feature_graph(&self, (width, height): (usize, usize)) -> Result<(Graph, Value, Value)> {
        let mut graph = Graph::new();
        let photo = graph.input("photo", Shape::plane(height, width, 3), Element::F32);
        let image = image::normalise(&mut graph, "features", photo, self.options.element)?;
        let features = model::features(&mut self.layers(&mut graph), Resolution::Quarter, image)?.quarter;
        graph.keep(features);
        Ok((graph, photo, features))
    }

    fn depth_graph(&self, key: &DepthKey, slabs: Slabs) -> Result<(Graph, DepthValues)> {
        let mut graph = Graph::new();
        let element = self.options.element;
        let (width, height) = key.stack;
        let map = Shape { d: key.views, ..Shape::plane(height, width, 32) };
        let sources = key.views - 1;
        let views = FoldedViews {
            sweep: sweep::Views {
                features: graph.input("features", map, element),
                sources: graph.input("sources", Shape { d: sources, ..Shape::plane(1, 1, 16) }, Element::F32),
                depths: graph.input("depths", Shape::plane(1, 1, key.planes), Element::F32),
                squared: false,
                reference: Some((key.reference.1, key.reference.0)),
            },
            depths: Depths {
                offsets: graph.input("depth offsets", Shape::plane(1, 1, key.planes), Element::F32),
                middle: graph.input("middle depth", Shape::plane(1, 1, 1), Element::F64),
                inverse: key.inverse,
            },
            slabs,
            keep_logits: false,
        };
        let maps = model::depth(&mut self.layers(&mut graph), self.checkpoint.config(), &views)?;
        graph.keep(maps.depth);
        graph.keep(maps.confidence);
        Ok((graph, DepthValues { views, depth: maps.depth, confidence: maps.confidence }))
    }

    fn layers<'g>(&'g self, graph: &'g mut Graph) -> DeviceLayers<'g, Folded<'g>> {
        let Checkpoint { name, parameters, .. } = &self.checkpoint;
        let library = (self.options.convolutions == Convolutions::Cudnn).then(|| self.driver.clone());
        DeviceLayers { graph, mode: Folded { parameters, file: name, element: self.options.element, library } }
    }

    fn feature_map(&self, shape: Shape) -> Result<FeatureMap> {
        let bytes = shape.len() as u64 * self.options.element.bytes();
        let memory = Owned::new(&self.driver, bytes, || format!("a feature map {shape}"))?;
        Ok(FeatureMap { memory, shape })
    }

    /// The key of a job of this size. Whether planes are spaced in depth or its inverse changes no buffer.
    fn key(size: &JobSize) -> DepthKey {
        let map = |width: usize, height: usize| (width.div_ceil(4), height.div_ceil(4));
        let JobSize { width, height, reference, planes, views, slot } = *size;
        let (reference, stack) = (map(reference.0, reference.1), map(width, height));
        DepthKey { reference, stack, planes, views, inverse: false, slot }
    }

    fn program_bytes(&self, keys: &[DepthKey], slabs: Slabs) -> Result<u64> {
        let mut total = 0;
        for key in keys {
            let placement = place(&self.depth_graph(key, slabs)?.0)?;
            total += placement.arena + placement.lasting;
        }
        Ok(total)
    }
}

struct DepthValues {
    views: FoldedViews,
    depth: Value,
    confidence: Value,
}

impl State {
    fn stream(&mut self, driver: &Arc<dyn Driver>, slot: usize) -> Result<Stream> {
        while self.streams.len() <= slot {
            let stream = driver.stream()?;
            self.streams.push(stream);
        }
        Ok(self.streams[slot])
    }
}

impl DepthNetwork for DeviceNetwork {
    type Features = FeatureMap;
    type Pending<'a> = Running;

    /// For maps at a quarter: narrow stages are the processor's.
    fn config(&self) -> Config {
        Config { resolution: Resolution::Quarter, ..self.checkpoint.config() }
    }

    fn weights_name(&self) -> &str {
        &self.checkpoint.name
    }

    fn weights_hash(&self) -> &str {
        &self.checkpoint.hash
    }

    fn confidence(&self) -> Option<&Confidence> {
        self.checkpoint.confidence.as_ref()
    }

    fn device(&self) -> String {
        self.driver.name()
    }

    fn precision(&self) -> &'static str {
        self.options.element.suffix()
    }

    fn memory_plan(&self, (width, height): (usize, usize), _: usize, _: usize, _: Resolution) -> MemoryPlan {
        // A photo on its way to the device, and two maps on their way back; weights in a few layouts.
        let pixels = (width * height) as u64;
        MemoryPlan { feature_layers: 12 * pixels, feature_map: 0, regularizer: pixels, scratch: 32 << 20 }
    }

    fn device_plan(&self, work: &DeviceWork) -> Result<Option<DevicePlan>> {
        let (free, total) = self.driver.memory()?;
        let budget = self.options.vram.unwrap_or((free as f64 * USABLE) as u64);
        if budget > free {
            return Err(Error::Memory(format!(
                "--vram asks for {}, and {} of {} are free on {}",
                readable(budget),
                readable(free),
                readable(total),
                self.driver.name()
            )));
        }
        let keys: BTreeSet<DepthKey> = work.maps.iter().map(Self::key).collect();
        let keys: Vec<DepthKey> = keys.into_iter().collect();
        let mut for_features = 0;
        for size in &work.photos {
            let placement = place(&self.feature_graph(*size)?.0)?;
            for_features += placement.arena + placement.lasting;
        }
        // Room for the features of one view and its sources on all levels, if slabs can be made small enough for that.
        let map_bytes = |s: &JobSize| (s.width / 4 * (s.height / 4) * 32) as u64 * self.options.element.bytes();
        let wished = work.maps.iter().map(|s| map_bytes(s) * s.views as u64).max().unwrap_or(0) * 3 / 2;
        let mut chosen = None;
        for planes in SLABS {
            let slabs = Slabs { planes };
            let bytes = self.program_bytes(&keys, slabs)?;
            chosen = Some((slabs, bytes));
            if bytes + for_features + wished <= budget {
                break;
            }
        }
        let (slabs, bytes) = chosen.unwrap_or((Slabs::WHOLE, 0));
        if bytes + for_features > budget {
            return Err(Error::Memory(format!(
                "the network needs {} on {}, and {} may be used; try a smaller --max-side, fewer --planes or \
                 --levels, or more --vram",
                readable(bytes + for_features),
                self.driver.name(),
                readable(budget)
            )));
        }
        self.set_slabs(slabs);
        let left = budget - bytes - for_features;
        // Counted as f32 on the host's side, whatever they are here.
        let room = left * 4 / self.options.element.bytes();
        let text = format!(
            "{}: {} of {} planned: depth maps {} (cost volume in slabs of {} planes), feature layers {}, \
             feature maps up to {}; {} arithmetic",
            self.driver.name(),
            readable(budget - left),
            readable(budget),
            readable(bytes),
            slabs.planes,
            readable(for_features),
            readable(left),
            self.precision()
        );
        Ok(Some(DevicePlan { room, text }))
    }

    fn features(&self, photo: &Photo, _: Resolution) -> Result<FeatureMap> {
        expect_multiples_of_4(photo)?;
        let photo_rgb = &photo.rgb;
        let size = (photo.width, photo.height);
        let mut state = locked(&self.state);
        // What an earlier photo left must have been read before the next one takes its place.
        self.driver.synchronize(Stream::FIRST)?;
        let made = match state.features.entry(size) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                let (graph, photo, features) = self.feature_graph(size)?;
                let program = Program::new(&self.driver, Stream::FIRST, graph)?;
                let pinned = self.driver.host_memory(size_of_val(&photo_rgb[..]))?;
                place.insert(FeatureProgram { program, photo, features, pinned })
            }
        };
        let map = self.feature_map(Shape::plane(photo.height / 4, photo.width / 4, 32))?;
        // Page-locked memory, so that the copy runs while the processor decodes the next photo.
        made.pinned.bytes_mut().copy_from_slice(bytemuck::cast_slice(photo_rgb));
        let to = made.program.pointer(made.photo);
        self.driver.upload_pinned(to, &*made.pinned, size_of_val(&photo_rgb[..]), Stream::FIRST)?;
        made.program.run()?;
        let bytes = map.shape.len() as u64 * self.options.element.bytes();
        self.driver.copy(map.pointer(), made.program.pointer(made.features), bytes, Stream::FIRST)?;
        state.features_done = Some(self.driver.event(Stream::FIRST)?);
        Ok(map)
    }

    fn begin<'a>(&'a self, slot: usize, job: DepthJob<'a, FeatureMap>) -> Result<Running> {
        let DepthJob { reference, sources, hypotheses, level } = job;
        if sources.is_empty() || hypotheses.depths.is_empty() {
            let problem =
                format!("{} sources, {} depths; at least one of each", sources.len(), hypotheses.depths.len());
            return Err(Error::Shape { op: "plane sweep", problem });
        }
        let size = |map: &FeatureMap| (map.shape.w, map.shape.h);
        let of_sources = sources.iter().map(|(map, _)| size(map));
        let stack = of_sources.fold(size(reference), |(w, h), (x, y)| (w.max(x), h.max(y)));
        let key = DepthKey {
            reference: size(reference),
            stack,
            planes: hypotheses.depths.len(),
            views: sources.len() + 1,
            inverse: hypotheses.sampling == Sampling::Inverse,
            slot,
        };
        let mut state = locked(&self.state);
        let stream = state.stream(&self.driver, slot)?;
        if let Some(event) = &state.features_done {
            self.driver.wait(stream, &**event)?;
        }
        let made = match state.depth.entry(key) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => {
                let (graph, values) = self.depth_graph(&key, *locked(&self.slabs))?;
                let program = Program::new(&self.driver, stream, graph)?;
                place.insert(DepthProgram { program, values })
            }
        };
        self.put(made, stream, reference, &sources, &hypotheses)?;
        made.program.run()?;
        let sweeps: Vec<_> = sources.iter().map(|s| s.1).collect();
        Ok(Running { key, level, scale: Scale::new(&sweeps, key.reference, &hypotheses) })
    }

    fn finish(&self, running: Running) -> Result<Estimate> {
        let state = locked(&self.state);
        let Some(made) = state.depth.get(&running.key) else {
            return Err(Error::Bug { place: "device network", problem: "a program is gone".into() });
        };
        let (width, height) = running.key.reference;
        let map = |value: Value| Ok::<_, Error>(Map { width, height, data: made.program.download_f32(value)? });
        let mut confidence = map(made.values.confidence)?;
        if let Some((fits, scale)) = self.checkpoint.confidence.as_ref().zip(running.scale) {
            Judge::new(fits, (Resolution::Quarter, running.level), scale).coarse(&mut confidence.data);
        }
        Ok(Estimate { depth: map(made.values.depth)?, confidence, logits: None })
    }
}

impl DeviceNetwork {
    /// A view's inputs into a program's memory.
    fn put(
        &self,
        made: &DepthProgram,
        stream: Stream,
        reference: &FeatureMap,
        sources: &[(&FeatureMap, crate::scene::camera::PlaneSweep)],
        hypotheses: &Hypotheses,
    ) -> Result<()> {
        let program = &made.program;
        let bytes = |shape: Shape| shape.len() as u64 * self.options.element.bytes();
        let stack = program.graph().shape(made.values.views.sweep.features);
        let one = Shape { d: 1, ..stack };
        let maps = std::iter::once(reference).chain(sources.iter().map(|(map, _)| *map));
        for (i, map) in maps.enumerate() {
            let to = program.pointer(made.values.views.sweep.features) + i as u64 * bytes(one);
            if map.shape == one {
                self.driver.copy(to, map.pointer(), bytes(one), stream)?;
                continue;
            }
            // A smaller map lies in the upper left corner, row by row.
            for y in 0..map.shape.h as u64 {
                let from = map.pointer() + y * bytes(Shape { h: 1, ..map.shape });
                let row = to + y * bytes(Shape { h: 1, ..one });
                self.driver.copy(row, from, bytes(Shape { h: 1, ..map.shape }), stream)?;
            }
        }
        let rows: Vec<f32> =
            sources.iter().flat_map(|(map, sweep)| sweep::source_row(sweep, map.shape.h, map.shape.w)).collect();
        let depths: Vec<f32> = hypotheses.depths.iter().map(|&d| d as f32).collect();
        let expectation = Expectation::new(hypotheses);
        program.upload(made.values.views.sweep.sources, bytemuck::cast_slice(&rows))?;
        program.upload(made.values.views.sweep.depths, bytemuck::cast_slice(&depths))?;
        program.upload(made.values.views.depths.offsets, bytemuck::cast_slice(expectation.offsets()))?;
        program.upload(made.values.views.depths.middle, &expectation.middle().to_le_bytes())
    }
}
