//! The network on a device, for a run: photos in, depth and confidence out.
//!
//! A program is made for each size of work and replayed for each view of it. Feature maps stay on the device and are
//! copied into a program's inputs before it runs; the levels of one view run in streams of their own. Memory is
//! planned before the first photo is decoded and taken at once: for each stream an arena as large as its largest
//! program needs, and blocks for the programs that are kept (`rooms.rs`). What is left is room for feature maps
//! (`pool.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

pub use super::depth_graph::{Convolutions, FeatureMap, Options};
use super::depth_graph::{DepthKey, DepthValues, FeatureValues, Graphs, finest, numbers_of_a_quarter_pixel};
use super::driver::{Driver, Event, HostMemory, Stream};
use super::folded::Slabs;
use super::graph::Value;
use super::placement::{Placement, place};
use super::pool::{PAGE, Pool};
use super::program::{Owned, Program};
use super::refine::{self, Grey};
use super::rooms::{KEPT, Room, Size};
use super::storage::{Element, Pointer};
use crate::cpu::ops::pointwise::expect_multiples_of_4;
use crate::error::{Error, Result};
use crate::files::map::Map;
use crate::host::memory::readable;
use crate::net::backend::{DepthJob, DepthNetwork, DevicePlan, DeviceWork, Estimate, JobSize, MemoryPlan};
use crate::net::confidence::{Confidence, Judge, Scale};
use crate::net::config::{Config, Resolution};
use crate::net::model::Features;
use crate::net::tensor::Tensor;
use crate::net::weights::Checkpoint;
use crate::scene::camera::{PlaneSweep, Sampling};
use crate::scene::photo::Photo;

/// How large volumes are cut up, from what costs nothing to what saves most: a slab's shared plane of 32 is made twice,
/// and so are the rows of a band's borders, up to 48 of a map at half of the photo's sides.
pub const CUTS: [Slabs; 6] = [
    Slabs { planes: 32, rows: usize::MAX },
    Slabs { planes: 32, rows: 1024 },
    Slabs { planes: 32, rows: 512 },
    Slabs { planes: 16, rows: 256 },
    Slabs { planes: 8, rows: 128 },
    Slabs { planes: 4, rows: 64 },
];

/// Of the device's free memory, what a run plans with: the driver and libraries take some as they go.
const USABLE: f64 = 0.92;

struct FeatureProgram {
    program: Program,
    values: FeatureValues,
    pinned: Box<dyn HostMemory>,
}

struct DepthProgram {
    program: Program,
    values: DepthValues,
}

/// The features' programs run in the first stream, those of depth maps in one for each slot.
struct State {
    features: Room<((usize, usize), Resolution), FeatureProgram>,
    depth: BTreeMap<usize, Room<DepthKey, DepthProgram>>,
    streams: Vec<Stream>,
    /// The last feature map is there.
    features_done: Option<Box<dyn Event>>,
    /// What refinement works in, and its bytes.
    refinement: Option<(Owned, u64)>,
}

/// The network with its weights and the device that it runs on.
pub struct DeviceNetwork {
    graphs: Graphs,
    slabs: Mutex<Slabs>,
    state: Mutex<State>,
    maps: Arc<Pool>,
}

/// A depth map that is being made.
pub struct Running {
    key: DepthKey,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn gone() -> Error {
    Error::Bug { place: "device network", problem: "a program is gone".into() }
}

impl DeviceNetwork {
    /// With a checkpoint's tensors.
    ///
    /// # Errors
    /// Where the checkpoint is not one of this network.
    pub fn new(driver: Arc<dyn Driver>, checkpoint: &Checkpoint, options: Options) -> Result<Self> {
        // Norms are folded when graphs are made; a run should fail before it begins.
        checkpoint.parameters.expect_foldable(&checkpoint.name)?;
        let maps = Pool::new(driver.clone());
        let graphs = Graphs { driver, checkpoint: checkpoint.clone(), options };
        let state = State {
            features: Room::empty(),
            depth: BTreeMap::new(),
            streams: Vec::new(),
            features_done: None,
            refinement: None,
        };
        Ok(Self { graphs, slabs: Mutex::new(CUTS[0]), state: Mutex::new(state), maps })
    }

    /// The device.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.graphs.driver
    }

    /// Chooses how large volumes are cut up, for programs that are made from now on.
    pub fn set_slabs(&self, slabs: Slabs) {
        *locked(&self.slabs) = slabs;
    }

    /// The resolution of maps where this one is asked for.
    fn finest(&self, wanted: Resolution) -> Resolution {
        wanted.min(self.graphs.checkpoint.config().resolution)
    }

    /// The key of a job of this size. Whether planes are spaced in depth or its inverse changes no buffer.
    fn key(size: &JobSize, finest: Resolution) -> DepthKey {
        let map = |width: usize, height: usize| (width.div_ceil(4), height.div_ceil(4));
        let JobSize { width, height, reference, planes, views, slot } = *size;
        let (reference, stack) = (map(reference.0, reference.1), map(width, height));
        DepthKey { reference, stack, planes, views, inverse: false, finest, slot }
    }

    /// Bytes that feature maps have on the device.
    pub fn feature_bytes(&self) -> u64 {
        self.maps.taken()
    }

    /// The rooms of depth maps of these keys, `most` programs in each.
    fn depth_rooms(&self, keys: &BTreeSet<DepthKey>, slabs: Slabs, most: usize) -> Result<BTreeMap<usize, Size>> {
        let mut of_slots: BTreeMap<usize, Vec<Placement>> = BTreeMap::new();
        for key in keys {
            of_slots.entry(key.slot).or_default().push(place(&self.graphs.depth(key, slabs)?.0)?);
        }
        Ok(of_slots.iter().map(|(&slot, placements)| (slot, Size::of(placements, most))).collect())
    }

    /// The room of the features of photos of these sizes.
    fn feature_room(&self, photos: &BTreeSet<(usize, usize)>, finest: Resolution, most: usize) -> Result<Size> {
        let placed = |size: &(usize, usize)| place(&self.graphs.features(*size, finest)?.0);
        Ok(Size::of(&photos.iter().map(placed).collect::<Result<Vec<_>>>()?, most))
    }
}

impl State {
    fn stream(&mut self, driver: &Arc<dyn Driver>, slot: usize) -> Result<Stream> {
        while self.streams.len() <= slot {
            let stream = driver.stream()?;
            self.streams.push(stream);
        }
        Ok(self.streams[slot])
    }

    /// At least so many bytes for refinement.
    fn refinement(&mut self, driver: &Arc<dyn Driver>, bytes: u64) -> Result<Pointer> {
        if let Some((memory, _)) = self.refinement.as_ref().filter(|(_, there)| *there >= bytes) {
            return Ok(memory.pointer());
        }
        // What is there goes first: there may be no room for both.
        self.refinement = None;
        let memory = Owned::new(driver, bytes, || format!("the refinement of depth maps ({})", readable(bytes)))?;
        Ok(self.refinement.insert((memory, bytes)).0.pointer())
    }
}

impl DepthNetwork for DeviceNetwork {
    type Features = Features<FeatureMap>;
    type Pending<'a> = Running;
    type Grey = FeatureMap;

    fn config(&self) -> Config {
        self.graphs.checkpoint.config()
    }

    fn weights_name(&self) -> &str {
        &self.graphs.checkpoint.name
    }

    fn weights_hash(&self) -> &str {
        &self.graphs.checkpoint.hash
    }

    fn confidence(&self) -> Option<&Confidence> {
        self.graphs.checkpoint.confidence.as_ref()
    }

    fn device(&self) -> String {
        self.driver().name()
    }

    fn precision(&self) -> &'static str {
        self.graphs.options.element.suffix()
    }

    fn memory_plan(&self, (width, height): (usize, usize), _: usize, _: usize, wanted: Resolution) -> MemoryPlan {
        // A photo on its way to the device, and two maps on their way back; weights in a few layouts.
        let pixels = (width * height) as u64;
        let maps = 2 * 4 * pixels / (self.finest(wanted).step() as u64).pow(2);
        MemoryPlan { feature_layers: 12 * pixels, feature_map: 0, regularizer: maps, scratch: 32 << 20 }
    }

    fn device_plan(&self, work: &DeviceWork) -> Result<Option<DevicePlan>> {
        let (driver, element) = (self.driver(), self.graphs.options.element);
        let (free, total) = driver.memory()?;
        let budget = self.graphs.options.vram.unwrap_or((free as f64 * USABLE) as u64);
        if budget > free {
            return Err(Error::Memory(format!(
                "--vram asks for {}, and {} of {} are free on {}",
                readable(budget),
                readable(free),
                readable(total),
                driver.name()
            )));
        }
        let budget = budget / PAGE * PAGE;
        let finest = self.finest(work.finest);
        let keys: BTreeSet<DepthKey> = work.maps.iter().map(|size| Self::key(size, finest)).collect();
        // Room for the features of one view and its sources on all levels, if volumes can be cut up enough for that.
        let numbers = numbers_of_a_quarter_pixel(finest) as u64;
        // A photo in grey has 16 pixels for one at a quarter, of f32 on the device, too.
        let grey = if work.refined { 16 } else { 0 };
        let of_pixel = numbers * element.bytes() + grey * Element::F32.bytes();
        let map_bytes = |s: &JobSize| (s.width / 4 * (s.height / 4)) as u64 * of_pixel;
        let wished = work.maps.iter().map(|s| map_bytes(s) * s.views as u64).max().unwrap_or(0) * 3 / 2;
        // Programs of many sizes are kept only if volumes need not be cut up for that.
        let tries = [(CUTS[0], KEPT)].into_iter().chain(CUTS.map(|slabs| (slabs, 1)));
        let (mut slabs, mut depth, mut features) = (CUTS[0], BTreeMap::new(), Size::default());
        let refinement = work.maps.iter().map(|s| refine::room(s.reference, s.views - 1)).max();
        let refinement = refinement.filter(|_| work.refined).unwrap_or(0);
        let in_pages = refinement.next_multiple_of(PAGE);
        let of_depth = |rooms: &BTreeMap<usize, Size>| rooms.values().map(Size::bytes).sum::<u64>() + in_pages;
        for (cut, most) in tries {
            slabs = cut;
            depth = self.depth_rooms(&keys, cut, most)?;
            features = self.feature_room(&work.photos, finest, most)?;
            if of_depth(&depth) + features.bytes() + wished <= budget {
                break;
            }
        }
        let (bytes, for_features) = (of_depth(&depth), features.bytes());
        if bytes + for_features > budget {
            let coarser = if finest == Resolution::Quarter { "" } else { "a coarser --resolution, " };
            return Err(Error::Memory(format!(
                "the network needs {} on {}, and {} may be used; try {coarser}a smaller --max-side, fewer --planes or \
                 --levels, or more --vram",
                readable(bytes + for_features),
                driver.name(),
                readable(budget)
            )));
        }
        self.set_slabs(slabs);
        let left = (budget - bytes - for_features) / PAGE * PAGE;
        let mut state = locked(&self.state);
        state.features.reserve(driver, features)?;
        for (slot, size) in depth {
            state.depth.entry(slot).or_insert_with(Room::empty).reserve(driver, size)?;
        }
        if refinement > 0 {
            state.refinement(driver, refinement)?;
        }
        self.maps.limit(left);
        // Counted as f32 on the host's side, whatever they are here. An eighth is for the gaps between maps of
        // different sizes.
        let room = left / 8 * 7 / of_pixel * (numbers + grey) * Element::F32.bytes();
        let bands = match slabs.rows {
            _ if finest == Resolution::Quarter => String::new(),
            usize::MAX => ", narrow stages whole".into(),
            rows => format!(", narrow stages in bands of {rows} rows"),
        };
        let refined = if work.refined { format!("their refinement {}, ", readable(in_pages)) } else { String::new() };
        let text = format!(
            "{}: {} of {} planned: depth maps {} (cost volume in slabs of {} planes{bands}), {refined}feature layers \
             {}, feature maps{} up to {}; {} arithmetic",
            driver.name(),
            readable(budget - left),
            readable(budget),
            readable(bytes - in_pages),
            slabs.planes,
            readable(for_features),
            if work.refined { " and photos in grey" } else { "" },
            readable(left),
            self.precision()
        );
        Ok(Some(DevicePlan { room, text }))
    }

    fn features(&self, photo: &Photo, wanted: Resolution) -> Result<Features<FeatureMap>> {
        expect_multiples_of_4(photo)?;
        let (driver, element) = (self.driver(), self.graphs.options.element);
        let photo_rgb = &photo.rgb;
        let (size, finest) = ((photo.width, photo.height), self.finest(wanted));
        let mut state = locked(&self.state);
        // What an earlier photo left must have been read before the next one takes its place.
        driver.synchronize(Stream::FIRST)?;
        let (room, key) = (&mut state.features, (size, finest));
        if room.get(&key).is_none() {
            let (graph, values) = self.graphs.features(size, finest)?;
            let placement = place(&graph)?;
            let (arena, block) = room.block(driver, &placement)?;
            let lasting = (block.memory.clone(), block.offset);
            let program = Program::within(driver, Stream::FIRST, graph, placement, arena, lasting)?;
            let pinned = driver.host_memory(size_of_val(&photo_rgb[..]))?;
            room.insert(key, &block, FeatureProgram { program, values, pinned });
        }
        let Some(made) = room.get(&key) else { return Err(gone()) };
        let FeatureProgram { program, values: FeatureValues { photo, maps }, pinned } = made;
        let own = |value: &Value| FeatureMap::new(&self.maps, program.graph().shape(*value), element);
        let kept = Features {
            quarter: own(&maps.quarter)?,
            half: maps.half.as_ref().map(own).transpose()?,
            full: maps.full.as_ref().map(own).transpose()?,
        };
        // Page-locked memory, so that the copy runs while the processor decodes the next photo.
        pinned.bytes_mut().copy_from_slice(bytemuck::cast_slice(photo_rgb));
        let to = program.pointer(*photo);
        driver.upload_pinned(to, &**pinned, size_of_val(&photo_rgb[..]), Stream::FIRST)?;
        program.run()?;
        let from = std::iter::once(maps.quarter).chain(maps.half).chain(maps.full);
        let to = std::iter::once(&kept.quarter).chain(&kept.half).chain(&kept.full);
        for (from, to) in from.zip(to) {
            let bytes = to.shape().len() as u64 * element.bytes();
            driver.copy(to.pointer(), program.pointer(from), bytes, Stream::FIRST)?;
        }
        state.features_done = Some(driver.event(Stream::FIRST)?);
        Ok(kept)
    }

    fn begin<'a>(&'a self, slot: usize, job: DepthJob<'a, Features<FeatureMap>>) -> Result<Running> {
        let DepthJob { reference, sources, hypotheses, level } = &job;
        if sources.is_empty() || hypotheses.depths.is_empty() {
            let problem =
                format!("{} sources, {} depths; at least one of each", sources.len(), hypotheses.depths.len());
            return Err(Error::Shape { op: "plane sweep", problem });
        }
        let driver = self.driver();
        let size = |maps: &Features<FeatureMap>| (maps.quarter.shape().w, maps.quarter.shape().h);
        let of_sources = sources.iter().map(|(maps, _)| size(maps));
        let stack = of_sources.fold(size(reference), |(w, h), (x, y)| (w.max(x), h.max(y)));
        let key = DepthKey {
            reference: size(reference),
            stack,
            planes: hypotheses.depths.len(),
            views: sources.len() + 1,
            inverse: hypotheses.sampling == Sampling::Inverse,
            finest: finest(reference),
            slot,
        };
        let sweeps: Vec<PlaneSweep> = sources.iter().map(|s| s.1).collect();
        let scale = Scale::new(&sweeps, key.reference, hypotheses);
        let fits = self.graphs.checkpoint.confidence.as_ref();
        let judge = fits.zip(scale).map(|(fits, scale)| Judge::new(fits, (key.finest, *level), scale));
        let mut state = locked(&self.state);
        let stream = state.stream(driver, slot)?;
        if let Some(event) = &state.features_done {
            driver.wait(stream, &**event)?;
        }
        let room = state.depth.entry(slot).or_insert_with(Room::empty);
        if room.get(&key).is_none() {
            let (graph, values) = self.graphs.depth(&key, *locked(&self.slabs))?;
            let placement = place(&graph)?;
            let (arena, block) = room.block(driver, &placement)?;
            let lasting = (block.memory.clone(), block.offset);
            let program = Program::within(driver, stream, graph, placement, arena, lasting)?;
            room.insert(key, &block, DepthProgram { program, values });
        }
        let Some(made) = room.get(&key) else { return Err(gone()) };
        made.values.put(driver, &made.program, &job, judge.as_ref())?;
        made.program.run()?;
        Ok(Running { key })
    }

    fn finish(&self, running: Running) -> Result<Estimate> {
        let state = locked(&self.state);
        let made = state.depth.get(&running.key.slot).and_then(|room| room.peek(&running.key)).ok_or_else(gone)?;
        let (width, height) = running.key.map_size();
        let map = |value: Value| Ok::<_, Error>(Map { width, height, data: made.program.download_f32(value)? });
        Ok(Estimate { depth: map(made.values.depth)?, confidence: map(made.values.confidence)?, logits: None })
    }

    fn grey(&self, photo: Tensor) -> Result<FeatureMap> {
        let map = FeatureMap::new(&self.maps, photo.shape, Element::F32)?;
        self.driver().upload(map.pointer(), bytemuck::cast_slice(&photo.data), Stream::FIRST)?;
        Ok(map)
    }

    fn refine(
        &self,
        reference: &FeatureMap,
        sources: &[(&FeatureMap, PlaneSweep)],
        step: f32,
        depth: &mut Map,
    ) -> Result<usize> {
        let (driver, mut state) = (self.driver(), locked(&self.state));
        let room = refine::room((depth.width, depth.height), sources.len());
        let to_work_in = state.refinement(driver, room)?;
        let grey = |map: &FeatureMap| Grey { shape: map.shape(), at: map.pointer() };
        let sources: Vec<(Grey, PlaneSweep)> = sources.iter().map(|&(map, sweep)| (grey(map), sweep)).collect();
        refine::refine(driver, grey(reference), &sources, step, depth, to_work_in)
    }

    fn release(&self) {
        let mut state = locked(&self.state);
        state.features = Room::empty();
        state.depth.clear();
        state.features_done = None;
        state.refinement = None;
        self.maps.give_back();
    }

    fn about(&self, what: &str) {
        self.driver().about(what);
    }
}
