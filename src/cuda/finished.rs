//! Finished maps on their way back from a device.
//!
//! A view's maps leave its program for memory of their own, so that the next view can begin; on the way depths are
//! refined. A stream of its own copies them to page-locked memory, and whoever wants them waits for that copy alone.

use std::sync::Arc;

use super::depth_graph::FeatureMap;
use super::driver::{Driver, Event, Stream};
use super::placement::ALIGNMENT;
use super::program::Owned;
use super::refine::{self, Grey};
use super::staging::{Staged, Staging};
use super::storage::{Element, Pointer};
use crate::error::Result;
use crate::files::map::Map;
use crate::host::memory::readable;
use crate::net::backend::{Estimate, Refinement};
use crate::scene::camera::PlaneSweep;

/// Bytes that finished maps of this size take on the device, with what their refinement against so many sources works
/// in.
pub(super) fn room(size: (usize, usize), sources: Option<usize>) -> u64 {
    2 * map_bytes(size).next_multiple_of(ALIGNMENT) + sources.map_or(0, |sources| refine::room(size, sources))
}

fn map_bytes((width, height): (usize, usize)) -> u64 {
    (width * height) as u64 * Element::F32.bytes()
}

/// The maps of a slot, one view's after another's.
pub(super) struct Finished {
    memory: Owned,
    bytes: u64,
    /// Copies from it.
    stream: Stream,
    /// The maps before have left it.
    free: Option<Arc<dyn Event>>,
}

/// Maps that are being made, and then copied.
pub struct Running {
    size: (usize, usize),
    maps: Staged,
    /// Inputs of the view, which must stay until they are copied.
    fed: Staged,
}

impl Running {
    /// Waits for them.
    ///
    /// # Errors
    /// What went wrong in the work before.
    pub(super) fn finish(mut self) -> Result<Estimate> {
        self.maps.settle()?;
        // They were copied long before.
        self.fed.is_free();
        let (width, height) = self.size;
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(self.maps.bytes());
        let (depth, confidence) = values.split_at(width * height);
        let map = |data: &[f32]| Map { width, height, data: data.to_vec() };
        Ok(Estimate { depth: map(depth), confidence: map(confidence), logits: None })
    }
}

/// A view's refinement as the device has it.
pub(super) struct OnDevice {
    reference: Grey,
    sources: Vec<(Grey, PlaneSweep)>,
    step: f32,
}

impl OnDevice {
    /// Of maps in device memory.
    pub fn new(Refinement { reference, sources, step }: &Refinement<FeatureMap>) -> Self {
        let grey = |map: &FeatureMap| Grey { shape: map.shape(), at: map.pointer() };
        let sources = sources.iter().map(|&(map, sweep)| (grey(map), sweep)).collect();
        Self { reference: grey(reference), sources, step: *step }
    }
}

impl Finished {
    /// With so much room.
    ///
    /// # Errors
    /// [`crate::Error::Memory`] where the device has not so much.
    pub fn new(driver: &Arc<dyn Driver>, bytes: u64, stream: Stream) -> Result<Self> {
        let memory = Owned::new(driver, bytes, || format!("finished maps ({})", readable(bytes)))?;
        Ok(Self { memory, bytes, stream, free: None })
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where depth, confidence and what refinement works in lie.
    fn places(&self, size: (usize, usize)) -> [Pointer; 3] {
        let map = map_bytes(size).next_multiple_of(ALIGNMENT);
        [0, 1, 2].map(|i| self.memory.pointer() + i * map)
    }

    /// The refinement of maps of this size whose depths lie at `before`; `None` where there is nothing to do.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] where photos are no planes, or the map has another size than the reference.
    pub fn refinement<'r>(
        &self,
        wanted: Option<&'r OnDevice>,
        size: (usize, usize),
        before: Pointer,
    ) -> Result<Option<refine::Refinement<'r>>> {
        let Some(OnDevice { reference, sources, step }) = wanted else { return Ok(None) };
        let [after, _, to_work_in] = self.places(size);
        let depths = [before, after];
        let made = refine::Refinement { reference: *reference, sources, step: *step, size, depths, to_work_in };
        Ok(made.is_possible()?.then_some(made))
    }

    /// Queues the way of a view's maps out of its program, behind that in `stream`, and to page-locked memory. The view
    /// has read all that it reads when what comes back has passed.
    ///
    /// # Errors
    /// The device's.
    pub fn queue(
        &mut self,
        (driver, staging): (&Arc<dyn Driver>, &Arc<Staging>),
        stream: Stream,
        (size, [depth, confidence]): ((usize, usize), [Pointer; 2]),
        refinement: Option<&refine::Refinement>,
        mut fed: Staged,
    ) -> Result<(Running, Arc<dyn Event>)> {
        let bytes = map_bytes(size);
        let [own_depth, own_confidence, _] = self.places(size);
        if let Some(free) = &self.free {
            driver.wait(stream, &**free)?;
        }
        match refinement {
            Some(refinement) => refinement.queue(driver, stream)?,
            None => driver.copy(own_depth, depth, bytes, stream)?,
        }
        driver.copy(own_confidence, confidence, bytes, stream)?;
        let made: Arc<dyn Event> = Arc::from(driver.event(stream)?);
        fed.in_use_until(made.clone());
        driver.wait(self.stream, &*made)?;
        let mut maps = staging.take(2 * bytes as usize)?;
        let half = bytes as usize;
        maps.download(own_depth, 0..half, self.stream)?;
        maps.download(own_confidence, half..2 * half, self.stream)?;
        let there: Arc<dyn Event> = Arc::from(driver.event(self.stream)?);
        maps.in_use_until(there.clone());
        self.free = Some(there);
        Ok((Running { size, maps, fed }, made))
    }
}
