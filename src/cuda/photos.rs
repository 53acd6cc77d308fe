//! Photos on a device: from page-locked memory to features, and to grey where depths are refined.
//!
//! A photo travels as bytes where it has 8 bits a channel, and once: the device makes the levels of its pyramid,
//! extends them and normalises them, as the processor does to the bit. A stream of its own copies the next photo while
//! the features of the one before are made. On the device it arrives in memory that all photos share, and goes from
//! there into a program's input, so that the next one can follow at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::depth_graph::{FeatureMap, Graphs};
use super::driver::{Driver, Event, Stream};
use super::graph::{Graph, Value};
use super::ops::image;
use super::placement::place;
use super::pool::{PAGE, Pool};
use super::program::{Owned, Program};
use super::rooms::{Room, Size};
use super::staging::{Staged, Staging};
use super::storage::{Element, Pointer};
use crate::error::{Error, Result};
use crate::host::memory::readable;
use crate::net::backend::{OfPhoto, PhotoSize, PhotoWanted};
use crate::net::config::Resolution;
use crate::net::model::{self, Features};
use crate::net::tensor::Shape;
use crate::scene::photo::Photo;

/// What a photo's program is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PhotoKey {
    size: PhotoSize,
    /// Bytes, or f32 in 0..1.
    element: Element,
    finest: Resolution,
    grey: bool,
}

impl PhotoKey {
    /// Of photos that take the most memory of those of this size.
    fn largest(size: PhotoSize, finest: Resolution, grey: bool) -> Self {
        Self { size, element: Element::F32, finest, grey }
    }

    fn shape(&self) -> Shape {
        Shape::plane(self.size.height, self.size.width, 3)
    }

    fn bytes(&self) -> u64 {
        self.shape().len() as u64 * self.element.bytes()
    }
}

/// A photo in page-locked memory, and each of those that the host has enlarged.
pub struct Prepared(Vec<Part>);

struct Part {
    key: PhotoKey,
    /// The level that the key's first one is.
    first: i32,
    staged: Staged,
}

impl Prepared {
    /// Enlarges the photo where that is wanted, and lays it into page-locked memory.
    ///
    /// # Errors
    /// The system's, where it cannot lock more memory.
    pub(super) fn new(staging: &Arc<Staging>, photo: Photo, wanted: &PhotoWanted) -> Result<Self> {
        let mut parts = Vec::new();
        for &level in wanted.levels.range(..0) {
            let enlarged = photo.enlarged(level.unsigned_abs());
            parts.push(Part::new(staging, &enlarged, (level, 1), wanted)?);
        }
        let levels = wanted.levels.range(0..).fold(0, |levels, level| levels | 1u32 << level);
        if levels != 0 {
            parts.push(Part::new(staging, &photo, (0, levels), wanted)?);
        }
        Ok(Self(parts))
    }
}

impl Part {
    fn new(
        staging: &Arc<Staging>,
        photo: &Photo,
        (first, levels): (i32, u32),
        PhotoWanted { finest, grey, .. }: &PhotoWanted,
    ) -> Result<Self> {
        let bytes = photo.as_bytes();
        let element = if bytes.is_some() { Element::U8 } else { Element::F32 };
        let values = bytes.as_deref().unwrap_or(bytemuck::cast_slice(&photo.rgb));
        let mut staged = staging.take(values.len())?;
        staged.bytes_mut().copy_from_slice(values);
        let size = PhotoSize { width: photo.width, height: photo.height, levels };
        Ok(Self { key: PhotoKey { size, element, finest: *finest, grey: *grey }, first, staged })
    }
}

/// A level's ends of a photo's graph.
struct LevelValues {
    level: i32,
    maps: Features<Value>,
    grey: Option<Value>,
}

/// A photo's graph, its input, and what comes out.
fn graph(graphs: &Graphs, key: &PhotoKey) -> Result<(Graph, Value, Vec<LevelValues>)> {
    let mut graph = Graph::new();
    let photo = graph.input("photo", key.shape(), key.element);
    let (mut shown, mut values) = (photo, Vec::new());
    for level in 0..=key.size.levels.checked_ilog2().unwrap_or(0) {
        if level > 0 {
            shown = image::pyramid_level(&mut graph, "photo", shown)?;
        }
        if key.size.levels >> level & 1 == 0 {
            continue;
        }
        let extended = image::extended_to_multiple_of_4(&mut graph, "photo", shown)?;
        let image = image::normalise(&mut graph, "features", extended, graphs.options.element)?;
        let maps = model::features(&mut graphs.layers(&mut graph), key.finest, image)?;
        let grey = key.grey.then(|| image::grey(&mut graph, "photo", extended)).transpose()?;
        let made = std::iter::once(maps.quarter).chain(maps.half).chain(maps.full).chain(grey);
        made.for_each(|map| graph.keep(map));
        values.push(LevelValues { level: level as i32, maps, grey });
    }
    Ok((graph, photo, values))
}

struct PhotoProgram {
    program: Program,
    photo: Value,
    levels: Vec<LevelValues>,
}

/// The memory that photos take beside their features.
#[derive(Clone, Copy, Debug)]
pub(super) struct PhotosSize {
    room: Size,
    /// Of the largest photo as it arrives.
    arrival: u64,
}

impl PhotosSize {
    /// Of photos of these sizes, with so many programs kept.
    ///
    /// # Errors
    /// Where no graph can be made of them.
    pub fn new(
        graphs: &Graphs,
        photos: &BTreeSet<PhotoSize>,
        (finest, grey): (Resolution, bool),
        most: usize,
    ) -> Result<Self> {
        let keys = || photos.iter().map(|&size| PhotoKey::largest(size, finest, grey));
        let placed = |key: PhotoKey| place(&graph(graphs, &key)?.0);
        let room = Size::of(&keys().map(placed).collect::<Result<Vec<_>>>()?, most);
        Ok(Self { room, arrival: keys().map(|key| key.bytes()).max().unwrap_or(0) })
    }

    /// What the device takes for it.
    pub fn bytes(&self) -> u64 {
        self.room.bytes() + self.arrival.next_multiple_of(PAGE)
    }
}

/// Where photos arrive on the device.
struct Arrivals {
    memory: Owned,
    bytes: u64,
    /// The photo before has left it.
    free: Option<Box<dyn Event>>,
}

/// The programs of photos. They run in the first stream.
pub(super) struct Photos {
    room: Room<PhotoKey, PhotoProgram>,
    arrivals: Option<Arrivals>,
    /// Copies to there.
    copier: Option<Stream>,
    /// All features that were asked for are there.
    pub done: Option<Box<dyn Event>>,
}

impl Photos {
    /// None yet.
    pub fn new() -> Self {
        Self { room: Room::empty(), arrivals: None, copier: None, done: None }
    }

    /// Takes the memory for all photos that will come.
    ///
    /// # Errors
    /// As [`Room::reserve`].
    pub fn reserve(&mut self, driver: &Arc<dyn Driver>, size: &PhotosSize) -> Result<()> {
        self.room.reserve(driver, size.room)?;
        if size.arrival > 0 {
            self.arrive(driver, size.arrival)?;
        }
        Ok(())
    }

    /// The memory where a photo of so many bytes arrives.
    fn arrive(&mut self, driver: &Arc<dyn Driver>, bytes: u64) -> Result<&mut Arrivals> {
        let arrivals = match self.arrivals.take() {
            Some(large) if large.bytes >= bytes => large,
            // What is there goes first: there may be no room for both.
            small => {
                drop(small);
                let what = || format!("photos on their way ({})", readable(bytes));
                let memory = Owned::new(driver, bytes, what)?;
                Arrivals { memory, bytes, free: None }
            }
        };
        Ok(self.arrivals.insert(arrivals))
    }

    /// Queues the copy of a photo to where it arrives; where that is, and when it is there.
    fn copied(&mut self, driver: &Arc<dyn Driver>, part: &mut Part) -> Result<(Pointer, Arc<dyn Event>)> {
        let bytes = part.key.bytes();
        let stream = self.copier.map_or_else(|| driver.stream(), Ok)?;
        self.copier = Some(stream);
        let Arrivals { memory, free, .. } = self.arrive(driver, bytes)?;
        if let Some(free) = free {
            driver.wait(stream, &**free)?;
        }
        part.staged.upload(memory.pointer(), 0..bytes as usize, stream)?;
        let there: Arc<dyn Event> = Arc::from(driver.event(stream)?);
        part.staged.in_use_until(there.clone());
        Ok((memory.pointer(), there))
    }

    /// Queues what makes a photo's features, which lie in the pool from then on.
    ///
    /// # Errors
    /// The device's.
    pub fn queue(
        &mut self,
        graphs: &Graphs,
        pool: &Arc<Pool>,
        prepared: Prepared,
    ) -> Result<BTreeMap<i32, OfPhoto<Features<FeatureMap>, FeatureMap>>> {
        let mut made = BTreeMap::new();
        for part in prepared.0 {
            self.queue_part(graphs, pool, part, &mut made)?;
        }
        self.done = Some(graphs.driver.event(Stream::FIRST)?);
        Ok(made)
    }

    fn queue_part(
        &mut self,
        graphs: &Graphs,
        pool: &Arc<Pool>,
        mut part: Part,
        made: &mut BTreeMap<i32, OfPhoto<Features<FeatureMap>, FeatureMap>>,
    ) -> Result<()> {
        let driver = &graphs.driver;
        let (at, there) = self.copied(driver, &mut part)?;
        let Part { key, first, staged } = part;
        // From here on its memory may be used again once the copy is done.
        drop(staged);
        if self.room.get(&key).is_none() {
            let (graph, photo, levels) = graph(graphs, &key)?;
            let placement = place(&graph)?;
            // A program that makes room must have come to its end.
            driver.synchronize(Stream::FIRST)?;
            let (arena, block) = self.room.block(driver, &placement)?;
            let lasting = (block.memory.clone(), block.offset);
            let program = Program::within(driver, Stream::FIRST, graph, placement, arena, lasting)?;
            self.room.insert(key, &block, PhotoProgram { program, photo, levels });
        }
        let Some(PhotoProgram { program, photo, levels }) = self.room.get(&key) else {
            return Err(Error::Bug { place: "device network", problem: "a photo's program is gone".into() });
        };
        driver.wait(Stream::FIRST, &*there)?;
        driver.copy(program.pointer(*photo), at, key.bytes(), Stream::FIRST)?;
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.free = Some(driver.event(Stream::FIRST)?);
        }
        program.run()?;
        let kept = |value: &Value| -> Result<FeatureMap> {
            let info = program.graph().info(*value);
            let map = FeatureMap::new(pool, info.shape, info.element)?;
            driver.copy(map.pointer(), program.pointer(*value), info.bytes(), Stream::FIRST)?;
            Ok(map)
        };
        for LevelValues { level, maps, grey } in levels {
            let features = Features {
                quarter: kept(&maps.quarter)?,
                half: maps.half.as_ref().map(kept).transpose()?,
                full: maps.full.as_ref().map(kept).transpose()?,
            };
            made.insert(first + *level, OfPhoto { features, grey: grey.as_ref().map(kept).transpose()? });
        }
        Ok(())
    }

    /// Lets all of it go, but for the stream.
    pub fn clear(&mut self) {
        self.room = Room::empty();
        self.arrivals = None;
        self.done = None;
    }
}
