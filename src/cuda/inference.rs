//! The network on a device, for a run: photos in, depth and confidence out.
//!
//! A program is made for each size of work and replayed for each view of it. Feature maps stay on the device and are
//! copied into a program's inputs before it runs; the levels of one view run in streams of their own. Nothing here
//! waits for the device but [`DepthNetwork::finish`], for one map that it has made: photos come (`photos.rs`) and maps
//! go (`finished.rs`) through page-locked memory (`staging.rs`), while the work of the next view is queued already.
//!
//! Memory is planned before the first photo is decoded and taken at once: for each stream an arena as large as its
//! largest program needs, and blocks for the programs that are kept (`rooms.rs`); places where photos arrive and maps
//! leave. What is left is room for feature maps (`pool.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

pub use super::depth_graph::{Convolutions, FeatureMap, Options};
use super::depth_graph::{DepthKey, DepthValues, Graphs, finest, numbers_of_a_quarter_pixel};
use super::driver::{Driver, Stream};
pub use super::finished::Running;
use super::finished::{self, Finished, OnDevice};
use super::folded::Slabs;
pub use super::photos::Prepared;
use super::photos::{Photos, PhotosSize};
use super::placement::{Placement, place};
use super::pool::{PAGE, Pool};
use super::program::Program;
use super::rooms::{KEPT, Room, Size};
use super::staging::{Feed, Staging};
use super::storage::Element;
use crate::cpu::ops::pointwise::expect_multiples_of_4;
use crate::error::{Error, Result};
use crate::host::memory::readable;
use crate::net::backend::{
    DepthJob, DepthNetwork, DevicePlan, DeviceWork, Estimate, JobSize, MemoryPlan, OfPhoto, PhotoWanted, Pipeline,
    Refinement,
};
use crate::net::confidence::{Confidence, Judge, Scale};
use crate::net::config::{Config, Resolution};
use crate::net::model::Features;
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

struct DepthProgram {
    program: Program,
    values: DepthValues,
}

/// Programs of photos run in the first stream, those of depth maps in one for each slot.
struct State {
    photos: Photos,
    depth: BTreeMap<usize, Room<DepthKey, DepthProgram>>,
    finished: BTreeMap<usize, Finished>,
    streams: BTreeMap<usize, Stream>,
    /// Copies maps back.
    reader: Option<Stream>,
}

/// The network with its weights and the device that it runs on.
pub struct DeviceNetwork {
    graphs: Graphs,
    slabs: Mutex<Slabs>,
    state: Mutex<State>,
    maps: Arc<Pool>,
    staging: Arc<Staging>,
    /// Its index, where there are several.
    index: Option<usize>,
    others: Vec<DeviceNetwork>,
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
        let staging = Staging::new(driver.clone());
        let graphs = Graphs { driver, checkpoint: checkpoint.clone(), options };
        let state = State {
            photos: Photos::new(),
            depth: BTreeMap::new(),
            finished: BTreeMap::new(),
            streams: BTreeMap::new(),
            reader: None,
        };
        Ok(Self {
            graphs,
            slabs: Mutex::new(CUTS[0]),
            state: Mutex::new(state),
            maps,
            staging,
            index: None,
            others: Vec::new(),
        })
    }

    /// On all of these devices, with their indices: they share the views of a run.
    ///
    /// # Errors
    /// As [`DeviceNetwork::new`]; [`Error::Bug`] without a device.
    pub fn on_each(
        drivers: impl IntoIterator<Item = (usize, Arc<dyn Driver>)>,
        checkpoint: &Checkpoint,
        options: Options,
    ) -> Result<Self> {
        let of_driver = |(index, driver)| Ok(Self { index: Some(index), ..Self::new(driver, checkpoint, options)? });
        let mut all = drivers.into_iter().map(of_driver).collect::<Result<Vec<_>>>()?.into_iter();
        let first = all.next().ok_or_else(|| Error::Bug { place: "device network", problem: "no device".into() })?;
        let others: Vec<_> = all.collect();
        let index = first.index.filter(|_| !others.is_empty());
        Ok(Self { index, others, ..first })
    }

    /// The device, or the first of them.
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
}

impl DeviceNetwork {
    /// Plans one device's memory and takes it.
    fn plan_alone(&self, work: &DeviceWork) -> Result<DevicePlan> {
        let (driver, element) = (self.driver(), self.graphs.options.element);
        let (free, total) = driver.memory()?;
        let budget = self.graphs.options.vram.unwrap_or((free as f64 * USABLE) as u64);
        if budget > free {
            return Err(Error::Memory(format!(
                "--vram asks for {}, and {} of {} are free on {}",
                readable(budget),
                readable(free),
                readable(total),
                self.device_alone()
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
        let mut finished: BTreeMap<usize, u64> = BTreeMap::new();
        for size in &work.maps {
            let of_slot = finished.entry(size.slot).or_default();
            let map = Self::key(size, finest).map_size();
            *of_slot = (*of_slot).max(finished::room(map, work.refined.then_some(size.views - 1)));
        }
        let leaving: u64 = finished.values().map(|bytes| bytes.next_multiple_of(PAGE)).sum();
        let of_photos = |most: usize| PhotosSize::new(&self.graphs, &work.photos, (finest, work.refined), most);
        let of_depth = |rooms: &BTreeMap<usize, Size>| rooms.values().map(Size::bytes).sum::<u64>() + leaving;
        let (mut slabs, mut depth, mut photos) = (CUTS[0], BTreeMap::new(), of_photos(KEPT)?);
        for (cut, most) in tries {
            slabs = cut;
            depth = self.depth_rooms(&keys, cut, most)?;
            photos = of_photos(most)?;
            if of_depth(&depth) + photos.bytes() + wished <= budget {
                break;
            }
        }
        let (bytes, for_features) = (of_depth(&depth), photos.bytes());
        if bytes + for_features > budget {
            let coarser = if finest == Resolution::Quarter { "" } else { "a coarser --resolution, " };
            return Err(Error::Memory(format!(
                "the network needs {} on {}, and {} may be used; try {coarser}a smaller --max-side, fewer --planes or \
                 --levels, or more --vram",
                readable(bytes + for_features),
                self.device_alone(),
                readable(budget)
            )));
        }
        self.set_slabs(slabs);
        let left = (budget - bytes - for_features) / PAGE * PAGE;
        let mut state = locked(&self.state);
        state.photos.reserve(driver, &photos)?;
        for (slot, size) in depth {
            state.depth.entry(slot).or_insert_with(Room::empty).reserve(driver, size)?;
        }
        for (slot, bytes) in finished {
            state.leave(driver, slot, bytes)?;
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
        let refined = if work.refined { " and their refinement" } else { "" };
        let text = format!(
            "{}: {} of {} planned: depth maps {} (cost volume in slabs of {} planes{bands}), finished maps{refined} \
             {}, photos and feature layers {}, feature maps{} up to {}; {} arithmetic",
            self.device_alone(),
            readable(budget - left),
            readable(budget),
            readable(bytes - leaving),
            slabs.planes,
            readable(leaving),
            readable(for_features),
            if work.refined { " and photos in grey" } else { "" },
            readable(left),
            self.precision()
        );
        Ok(DevicePlan { room, text })
    }
}

impl State {
    fn stream(&mut self, driver: &Arc<dyn Driver>, slot: usize) -> Result<Stream> {
        if let Some(&stream) = self.streams.get(&slot) {
            return Ok(stream);
        }
        let stream = driver.stream()?;
        self.streams.insert(slot, stream);
        Ok(stream)
    }

    /// Where a slot's maps leave, with at least so many bytes.
    fn leave(&mut self, driver: &Arc<dyn Driver>, slot: usize, bytes: u64) -> Result<&mut Finished> {
        let stream = self.reader.map_or_else(|| driver.stream(), Ok)?;
        self.reader = Some(stream);
        let before = self.finished.remove(&slot);
        let finished = match before {
            Some(large) if large.bytes() >= bytes => large,
            // What is there goes first: there may be no room for both.
            small => {
                drop(small);
                Finished::new(driver, bytes, stream)?
            }
        };
        self.finished.insert(slot, finished);
        let missing = || Error::Bug { place: "cuda inference", problem: "a slot without maps".into() };
        self.finished.get_mut(&slot).ok_or_else(missing)
    }
}

impl DepthNetwork for DeviceNetwork {
    type Features = Features<FeatureMap>;
    type Prepared = Prepared;
    type Pending = Running;
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
        let all: Vec<String> = self.each().into_iter().map(Self::device_alone).collect();
        all.join(", ")
    }

    fn device_alone(&self) -> String {
        let name = self.driver().name();
        self.index.map_or(name.clone(), |index| format!("cuda:{index} ({name})"))
    }

    fn each(&self) -> Vec<&Self> {
        std::iter::once(self).chain(&self.others).collect()
    }

    fn precision(&self) -> &'static str {
        self.graphs.options.element.suffix()
    }

    fn memory_plan(&self, (width, height): (usize, usize), _: usize, threads: usize, wanted: Resolution) -> MemoryPlan {
        // Photos on their way to the device, and depth and confidence on their way back, of all levels, to be read and
        // to be written; weights in a few layouts.
        let pixels = (width * height) as u64;
        let devices = 1 + self.others.len();
        let Pipeline { decoders, views, writers } = self.pipeline((threads / devices).max(1));
        let maps = 2 * 4 * pixels / (self.finest(wanted).step() as u64).pow(2) * 4 / 3;
        let maps = maps * (devices * (views + 2 + 2 * writers)) as u64;
        let photos = 12 * pixels * (devices * (decoders + 1)) as u64;
        MemoryPlan { feature_layers: photos, feature_map: 0, regularizer: maps, scratch: 32 << 20 }
    }

    fn device_plan(&self, work: &DeviceWork) -> Result<Option<DevicePlan>> {
        let mut all = self.plan_alone(work)?;
        for other in &self.others {
            let DevicePlan { room, text } = other.plan_alone(work)?;
            all = DevicePlan { room: all.room.min(room), text: format!("{}; {text}", all.text) };
        }
        Ok(Some(all))
    }

    fn features(&self, photo: &Photo, finest: Resolution) -> Result<Features<FeatureMap>> {
        expect_multiples_of_4(photo)?;
        let wanted = PhotoWanted { levels: [0].into(), finest, grey: false };
        let made = self.of_photo(self.prepare(photo.clone(), &wanted)?)?;
        made.into_values().next().map(|of_level| of_level.features).ok_or_else(gone)
    }

    fn pipeline(&self, threads: usize) -> Pipeline {
        // A view takes a device about as long as a thread takes for a photo, or for writing the maps of a few.
        Pipeline { decoders: threads.clamp(1, 8), views: 2, writers: threads.div_ceil(2).clamp(1, 4) }
    }

    fn prepare(&self, photo: Photo, wanted: &PhotoWanted) -> Result<Prepared> {
        let wanted = PhotoWanted { finest: self.finest(wanted.finest), ..wanted.clone() };
        Prepared::new(&self.staging, photo, &wanted)
    }

    fn of_photo(&self, photo: Prepared) -> Result<BTreeMap<i32, OfPhoto<Features<FeatureMap>, FeatureMap>>> {
        locked(&self.state).photos.queue(&self.graphs, &self.maps, photo)
    }

    fn begin_refined(
        &self,
        slot: usize,
        job: DepthJob<Features<FeatureMap>>,
        refinement: Option<Refinement<FeatureMap>>,
    ) -> Result<Running> {
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
        if let Some(event) = &state.photos.done {
            driver.wait(stream, &**event)?;
        }
        let on_device = refinement.as_ref().map(OnDevice::new);
        let leaving = finished::room(key.map_size(), on_device.as_ref().map(|_| sources.len()));
        state.leave(driver, slot, leaving)?;
        let State { depth, finished, .. } = &mut *state;
        let room = depth.entry(slot).or_insert_with(Room::empty);
        if room.get(&key).is_none() {
            let (graph, values) = self.graphs.depth(&key, *locked(&self.slabs))?;
            let placement = place(&graph)?;
            // A program that makes room must have come to its end.
            driver.synchronize(stream)?;
            let (arena, block) = room.block(driver, &placement)?;
            let lasting = (block.memory.clone(), block.offset);
            let program = Program::within(driver, stream, graph, placement, arena, lasting)?;
            room.insert(key, &block, DepthProgram { program, values });
        }
        let (Some(DepthProgram { program, values }), Some(finished)) = (room.get(&key), finished.get_mut(&slot)) else {
            return Err(gone());
        };
        let mut feed = Feed::default();
        values.put(driver, program, &job, judge.as_ref(), &mut feed)?;
        let ends = [program.pointer(values.depth), program.pointer(values.confidence)];
        let refinement = finished.refinement(on_device.as_ref(), key.map_size(), ends[0])?;
        if let Some(refinement) = &refinement {
            feed.put(refinement.to_work_in, &refinement.seen());
        }
        let fed = feed.queue(&self.staging, stream)?;
        program.run()?;
        let way = (driver, &self.staging);
        let (running, read) = finished.queue(way, stream, (key.map_size(), ends), refinement.as_ref(), fed)?;
        self.maps.read_before(stream, read);
        Ok(running)
    }

    fn finish(&self, running: Running) -> Result<Estimate> {
        running.finish()
    }

    fn release(&self) {
        let mut state = locked(&self.state);
        state.photos.clear();
        state.depth.clear();
        state.finished.clear();
        self.maps.give_back();
        self.staging.clear();
    }

    fn about(&self, what: &str) {
        self.driver().about(what);
    }
}
