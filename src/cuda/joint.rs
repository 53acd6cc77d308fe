//! Depth maps that hear each other on a device (`kernels/joint.cu`): [`crate::maps::joint`] to the bit.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::buffer::{Buffer, Parameters};
use super::consistency::{DeviceView, Pair, upload};
use super::driver::{Driver, Stream};
use super::storage::Pointer;
use crate::error::Result;
use crate::files::map::Map;
use crate::maps::consistency::is_depth;
use crate::maps::joint::{Heard, check};
use crate::maps::merge::LevelMaps;

/// Numbers of a [`Heard`].
const NUMBERS: usize = 6;

/// A source as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Speaker {
    pair: Pair,
    confidence: Pointer,
}

/// Views one after the other, of which those stay on the device that later ones still listen to.
pub struct Listeners<'a> {
    driver: &'a Arc<dyn Driver>,
    maps: &'a [LevelMaps],
    sources: &'a [Vec<usize>],
    /// The last view that needs each one's maps.
    last_use: Vec<usize>,
    /// Depth and confidence.
    held: BTreeMap<usize, [Buffer; 2]>,
}

impl<'a> Listeners<'a> {
    /// All views' maps, and the places of each one's sources.
    pub fn new(driver: &'a Arc<dyn Driver>, maps: &'a [LevelMaps], sources: &'a [Vec<usize>]) -> Self {
        let mut last_use: Vec<usize> = (0..maps.len()).collect();
        for (view, of_view) in sources.iter().enumerate() {
            for &source in of_view {
                last_use[source] = last_use[source].max(view);
            }
        }
        Self { driver, maps, sources, last_use, held: BTreeMap::new() }
    }

    /// A view's maps on the device.
    fn device_view(&mut self, view: usize) -> Result<DeviceView> {
        let LevelMaps { camera, depth, confidence } = &self.maps[view];
        if let std::collections::btree_map::Entry::Vacant(place) = self.held.entry(view) {
            let upload = |map: &Map, what| upload(self.driver, Stream::FIRST, map, what);
            place.insert([upload(depth, "a depth map")?, upload(confidence, "a confidence map")?]);
        }
        let [on_device, its_confidence] = [0, 1].map(|i| self.held[&view][i].pointer());
        let (width, height) = (depth.width, depth.height);
        Ok(DeviceView { camera: *camera, width, height, depth: on_device, confidence: its_confidence })
    }

    /// [`crate::maps::joint::hear`] of a view; ask in the order of views.
    ///
    /// # Errors
    /// As there; [`crate::Error::Memory`]; the device's.
    pub fn hear<J: Copy + Default + Send>(
        &mut self,
        view: usize,
        judge: impl Fn(f32, &Heard) -> J + Sync,
    ) -> Result<(Map, Vec<J>)> {
        let (maps, sources, stream) = (self.maps, &self.sources[view], Stream::FIRST);
        for &view in sources.iter().chain([&view]) {
            check(&maps[view].view())?;
        }
        let own = &maps[view];
        let pixels = own.depth.data.len();
        let reference = self.device_view(view)?;
        let speaker = |source: &usize| -> Result<Speaker> {
            let source = self.device_view(*source)?;
            Ok(Speaker { pair: Pair::new(&reference.camera, &source), confidence: source.confidence })
        };
        let speakers = sources.iter().map(speaker).collect::<Result<Vec<_>>>()?;
        let speakers = Buffer::holding(self.driver, stream, bytemuck::cast_slice(&speakers), "the sources of a view")?;
        let mean = Buffer::new(self.driver, size_of::<f32>() * pixels, "a mean depth map")?;
        let heard = Buffer::new(self.driver, NUMBERS * size_of::<f32>() * pixels, "what a view hears")?;
        Parameters::new()
            .with(reference.depth)
            .with(reference.confidence)
            .with(speakers.pointer())
            .with(mean.pointer())
            .with(heard.pointer())
            .with(reference.width as i32)
            .with(reference.height as i32)
            .with(sources.len() as i32)
            .launch(self.driver, stream, "joint_forward_hear_f32", pixels, 128)?;
        let depth = Map { data: mean.download(stream, pixels)?, ..own.depth };
        let heard: Vec<f32> = heard.download(stream, NUMBERS * pixels)?;
        let judged = |i: usize| {
            if !is_depth(own.depth.data[i]) {
                return J::default();
            }
            let [seen, agreeing, sure, through, before, apart_px] =
                std::array::from_fn(|number| heard[number * pixels + i]);
            judge(own.confidence.data[i], &Heard { seen, agreeing, sure, through, before, apart_px })
        };
        self.held.retain(|&held, _| self.last_use[held] > view);
        Ok((depth, (0..pixels).into_par_iter().map(judged).collect()))
    }
}
